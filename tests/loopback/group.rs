//! Several `lingualinked node` in a group, each a process that this test talks to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::scratch::Scratch;

/// Where phones of a test listen, unless it says otherwise.
pub const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// A running group. The first phone founds it, leads, and is the head; every phone says yes to every code.
pub struct Group {
    phones: Vec<Phone>,
}

/// One phone of it.
pub struct Phone {
    pub program: Program,
    /// Where other phones reach it.
    pub address: String,
    /// Where programs of the same user reach it.
    pub local: String,
    /// Lines of answers that nobody has asked for yet.
    kept: Vec<Value>,
}

/// What a group is started with.
pub struct Setup<'a> {
    pub model: &'a Path,
    pub n_phones: usize,
    /// Arguments of every phone.
    pub arguments: &'a [&'a str],
}

/// What came back for a question.
#[derive(Debug)]
pub struct Answer {
    /// Tokens as they were made.
    pub tokens: Vec<u32>,
    /// Their text, joined.
    pub text: String,
    /// The last line.
    pub end: Value,
}

impl<'a> Setup<'a> {
    pub fn new(model: &'a Path, n_phones: usize, arguments: &'a [&'a str]) -> Self {
        Self {
            model,
            n_phones,
            arguments,
        }
    }
}

impl Group {
    /// Starts the phones and waits until each says that the plan is in force.
    pub fn start(scratch: &Scratch, setup: &Setup<'_>) -> Self {
        let mut phones = vec![Phone::lead(scratch, setup)];
        let leader = phones[0].address.clone();
        let members = (1..setup.n_phones).map(|i| Phone::join(scratch, setup, i, &leader));
        phones.extend(members);

        for phone in &mut phones {
            phone.program.until_event("plan");
        }
        Self { phones }
    }

    /// Returns a phone, counted from 0.
    pub fn phone(&mut self, phone: usize) -> &mut Phone {
        &mut self.phones[phone]
    }

    /// Asks a phone and waits for the whole answer.
    #[track_caller]
    pub fn ask(&mut self, phone: usize, question: &Value) -> Answer {
        let phone = self.phone(phone);
        phone.ask(0, question);

        phone.answer(0)
    }

    /// Stops every phone; asserts that each ends well and has nothing to complain of.
    #[track_caller]
    pub fn stop(self) {
        let mut phones = self.phones;
        for phone in &mut phones {
            phone.program.tell(&json!({ "command": "stop" }));
        }
        for phone in phones {
            let ended = phone.program.end();
            assert_eq!(ended.status, 0, "{ended:#?}");
            ended.assert_quiet();
        }
    }

    /// Stops every phone but one, which has been killed.
    #[track_caller]
    pub fn end_without(mut self, killed: usize) {
        self.phones.remove(killed);

        self.stop();
    }

    /// Returns the program of a group's only phone.
    pub fn take_only(mut self) -> Program {
        assert_eq!(self.phones.len(), 1);

        self.phones.remove(0).program
    }
}

impl Phone {
    /// Starts the first phone of a group.
    pub fn lead(scratch: &Scratch, setup: &Setup<'_>) -> Self {
        Self::found(scratch, 0, &model_arguments(setup), setup.arguments)
    }

    /// Starts another, which joins the first and has the model file too.
    pub fn join(scratch: &Scratch, setup: &Setup<'_>, index: usize, leader: &str) -> Self {
        let model = model_arguments(setup);
        let arguments = [setup.arguments, &["--join", leader]].concat();

        Self::found(scratch, index, &model, &arguments)
    }

    /// Starts another that has only what is in its data folder.
    pub fn join_without_model(scratch: &Scratch, index: usize, leader: &str) -> Self {
        Self::found(scratch, index, &[], &["--join", leader])
    }

    /// Starts one that has nothing, and is alone.
    pub fn alone_without_model(scratch: &Scratch) -> Self {
        Self::found(scratch, 0, &[], &[])
    }

    /// Starts a phone again, with what is in its data folder.
    pub fn restart(scratch: &Scratch, setup: &Setup<'_>, index: usize) -> Self {
        Self::start(scratch, index, &model_arguments(setup), setup.arguments)
    }

    /// Starts a phone that is in no group yet, whatever was before.
    fn found(scratch: &Scratch, index: usize, model: &[String], arguments: &[&str]) -> Self {
        let _ = std::fs::remove_file(data_folder(scratch, index).join("group.state"));

        Self::start(scratch, index, model, arguments)
    }

    fn start(scratch: &Scratch, index: usize, model: &[String], arguments: &[&str]) -> Self {
        let model = model.iter().map(String::as_str).collect::<Vec<_>>();
        let (name, data) = (name(index), data_folder(scratch, index));
        let data = data.to_str().expect("temporary folders have plain names");
        let node = ["node", "--json", "--name", &name, "--data", data];
        let accept = ["--accept", "all", "--discover", "none"];
        let listen = if arguments.contains(&"--listen") {
            &[][..]
        } else {
            &["--listen", LOOPBACK]
        };
        let all = [&node[..], &accept, listen, &model, arguments].concat();
        let mut program = Program::start(scratch, &all);
        let listening = program.until_event("listening");

        Self {
            program,
            address: text(&listening, "address"),
            local: text(&listening, "local"),
            kept: Vec::new(),
        }
    }

    /// Asks, under a number.
    pub fn ask(&mut self, id: u64, question: &Value) {
        self.program
            .tell(&json!({ "command": "ask", "id": id, "ask": question }));
    }

    /// Waits for the whole answer to a number.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Answer {
        let mut answer = Answer {
            tokens: Vec::new(),
            text: String::new(),
            end: Value::Null,
        };
        loop {
            let line = self.line_of(id);
            match line["event"].as_str() {
                Some("token") => answer.push(&line),
                Some("done" | "error") => {
                    answer.end = line;
                    return answer;
                }
                _ => {}
            }
        }
    }

    /// Waits until an answer is being written; keeps its lines, and those of others.
    #[track_caller]
    pub fn wait_for_word(&mut self, id: u64) {
        loop {
            let line = self.program.until(|line| line["id"].is_u64());
            let is_it = line["event"] == "token" && line["id"] == id;
            self.kept.push(line);
            if is_it {
                return;
            }
        }
    }

    /// Waits for the next line of an answer; keeps those of others.
    #[track_caller]
    fn line_of(&mut self, id: u64) -> Value {
        if let Some(kept) = self.kept.iter().position(|line| line["id"] == id) {
            return self.kept.remove(kept);
        }
        loop {
            let line = self.program.until(|line| line["id"].is_u64());
            if line["id"] == id {
                return line;
            }
            self.kept.push(line);
        }
    }

    /// Ends it by closing its input, as its parent's death would.
    pub fn end(mut self) -> Ended {
        self.program.close_input();

        self.program.end()
    }
}

impl Answer {
    fn push(&mut self, line: &Value) {
        let token = line["token"]
            .as_u64()
            .and_then(|token| u32::try_from(token).ok());
        self.tokens.push(token.expect("a token is a number"));
        self.text
            .push_str(line["text"].as_str().expect("a token has text"));
    }

    /// Asserts that it ended as answers do.
    #[track_caller]
    pub fn assert_done(&self) -> &Value {
        assert_eq!(self.end["event"], "done", "{self:#?}");
        assert_eq!(self.end["text"], self.text.as_str(), "{self:#?}");

        &self.end
    }

    /// Returns the message with which it broke off.
    #[track_caller]
    pub fn message(&self) -> &str {
        assert_eq!(self.end["event"], "error", "{self:#?}");

        self.end["message"]
            .as_str()
            .expect("an error has a message")
    }

    /// Asserts that it broke off, with all of `words` in the message.
    #[track_caller]
    pub fn assert_failed(&self, words: &[&str]) {
        let message = self.message();
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
    }
}

/// Starts a guest of a phone, with a question whose answer is long.
pub fn guest(scratch: &Scratch, address: &str) -> Program {
    let chat = [
        "chat",
        "--json",
        "--to",
        address,
        "hello",
        "--max-tokens",
        "1500",
    ];

    Program::start(scratch, &chat)
}

/// Returns a question: go on from these tokens, the likeliest always, whatever comes.
pub fn go_on_from(prompt: &[u32], max_tokens: usize) -> Value {
    json!({
        "prompt": { "tokens": prompt },
        "max_tokens": max_tokens,
        "sampling": { "temperature": 0.0 },
        "stop": [],
        "ignore_end": true,
    })
}

/// Returns a phone's name.
pub fn name(index: usize) -> String {
    format!("phone {}", index + 1)
}

/// Returns where a phone keeps its shards.
pub fn data_folder(scratch: &Scratch, index: usize) -> PathBuf {
    scratch.path(&format!("phone-{}", index + 1))
}

/// Returns the arguments of a phone that runs the model whenever it leads.
fn model_arguments(setup: &Setup<'_>) -> [String; 6] {
    let model = setup.model.to_str().expect("models have plain names");
    let n_phones = setup.n_phones.to_string();

    ["--run", &n_phones, "--model", model, "--placement", "even"].map(String::from)
}

/// Returns a line's field that is text.
fn text(line: &Value, field: &str) -> String {
    line[field].as_str().expect("it is text").to_owned()
}

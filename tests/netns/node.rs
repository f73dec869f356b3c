//! One `lingualinked node` inside a phone: what it says and when, what it is told, how it is treated.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use netshim::Phone;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::looker::PROGRAM;

/// Lines that are shown of a phone that did not say what was waited for, and characters of each.
const LAST_LINES: usize = 25;
const LINE_CHARS: usize = 200;

/// Lines and logs that are shown of each phone when a test fails.
const SHOWN_LINES: usize = 40;

/// How long a phone may take to end when it is told to: what is being computed is finished first.
const END_MAX: Duration = Duration::from_secs(20);

/// A running phone; killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Said>,
    /// Everything it has said.
    said: Vec<Said>,
    /// How much of it was waited for.
    heard: usize,
    log: PathBuf,
    /// Its key, as text.
    pub peer: String,
}

/// A line, and when it came.
#[derive(Debug, Clone)]
pub struct Said {
    pub at: Instant,
    pub line: Value,
}

/// What came back for a question.
#[derive(Debug)]
pub struct Answer {
    pub tokens: Vec<u64>,
    /// The last line: `done` or `error`.
    pub end: Value,
}

impl Node {
    /// Starts a phone whose data folder and log are in `folder`; waits until it listens.
    pub fn start(phone: &Phone, folder: &std::path::Path, name: &str, options: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let errors = File::options().create(true).append(true).open(&log);
        let mut child = phone
            .command(PROGRAM)
            .args(["node", "--json", "--name", name, "--data"])
            .arg(folder.join(name))
            .args(options)
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.expect("the folder is ours"))
            .spawn()
            .expect("it starts");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("it was piped");
        thread::spawn(move || read(stdout, &sender));

        let mut node = Self {
            stdin: child.stdin.take(),
            child,
            lines,
            said: Vec::new(),
            heard: 0,
            log,
            peer: String::new(),
        };
        let listening = node.until_event("listening").line;
        let address = listening["address"].as_str().expect("an address");
        let peer = address.rsplit('/').next().expect("it ends in /p2p/PEER");
        peer.clone_into(&mut node.peer);
        node
    }

    /// Gives it an order.
    pub fn tell(&mut self, order: &Value) {
        let stdin = self.stdin.as_mut().expect("it has not been stopped");
        writeln!(stdin, "{order}").expect("it reads its input");
    }

    /// Waits for a line that comes after those that were waited for, and of which `wanted` holds.
    #[track_caller]
    pub fn until(&mut self, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Said {
        self.find(patience, wanted)
            .unwrap_or_else(|| panic!("it did not come within {patience:?}, after {}", self.last()))
    }

    /// Returns the last lines, for whoever looks for a fault.
    fn last(&self) -> String {
        let progress = ["loading", "preparing", "reading", "token"];
        let told = self.said.iter().rev().filter(|said| {
            let event = said.line["event"].as_str();
            event.is_none_or(|event| !progress.contains(&event))
        });
        let lines = told.take(LAST_LINES).map(|said| {
            let line = said.line.to_string();
            line.chars().take(LINE_CHARS).collect::<String>()
        });
        let mut lines = lines.collect::<Vec<_>>();
        lines.reverse();

        lines.join("\n")
    }

    /// The same; `None` if it does not come.
    pub fn find(&mut self, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Said> {
        let deadline = Instant::now() + patience;

        loop {
            while let Some(said) = self.said.get(self.heard) {
                self.heard += 1;
                if wanted(&said.line) {
                    return Some(said.clone());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.said.push(self.lines.recv_timeout(left).ok()?);
        }
    }

    /// Waits for an event as long as anything may take.
    #[track_caller]
    pub fn until_event(&mut self, event: &str) -> Said {
        self.until(crate::group::PATIENCE, |line| line["event"] == event)
    }

    /// Everything it has said so far.
    pub fn said(&mut self) -> &[Said] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    /// Who leads, as it said last: the phone and the number of its election.
    pub fn leader(&mut self) -> Option<(String, u64)> {
        let last = self
            .said()
            .iter()
            .rfind(|said| said.line["event"] == "leader")?;
        leader_of(&last.line)
    }

    /// Who is in its group, as it said last, sorted.
    pub fn members(&mut self) -> Vec<String> {
        let last = self
            .said()
            .iter()
            .rfind(|said| said.line["event"] == "members");
        let members = last.map_or(&Value::Null, |said| &said.line["members"]);
        let names = members.as_array().into_iter().flatten();
        let mut names: Vec<_> = names.map(|member| member["phone"].to_string()).collect();

        names.sort();
        names
    }

    /// Asks.
    pub fn ask(&mut self, id: u64, question: &Value) {
        self.tell(&json!({ "command": "ask", "id": id, "ask": question }));
    }

    /// Waits for a token of an answer.
    #[track_caller]
    pub fn until_token(&mut self, id: u64) -> Said {
        self.until(crate::group::PATIENCE, |line| {
            line["event"] == "token" && line["id"] == id
        })
    }

    /// Waits for the end of an answer, and returns the whole of it, what was waited for before included.
    #[track_caller]
    pub fn answer(&mut self, id: u64, patience: Duration) -> Answer {
        let is_end = |line: &Value| {
            line["id"] == id && (line["event"] == "done" || line["event"] == "error")
        };
        // It may have been passed over while something else was waited for.
        let ended = self.said().iter().find(|said| is_end(&said.line)).cloned();
        let ended = ended.unwrap_or_else(|| self.until(patience, is_end));
        let tokens = self
            .said
            .iter()
            .filter(|said| said.line["id"] == id && said.line["event"] == "token");

        Answer {
            tokens: tokens
                .filter_map(|said| said.line["token"].as_u64())
                .collect(),
            end: ended.line,
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(id), signal).expect("it is our child");
    }

    /// Kills it, as a system does that needs the memory.
    pub fn kill(mut self) -> Vec<Said> {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");

        self.said.extend(self.lines.iter());
        std::mem::take(&mut self.said)
    }

    /// Tells it to end, and returns all that it has said.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Said> {
        self.tell(&json!({ "command": "stop" }));
        let deadline = Instant::now() + END_MAX;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "told to stop, it runs on");
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");

        self.said.extend(self.lines.iter());
        std::mem::take(&mut self.said)
    }

    /// What it said and logged last, for people.
    fn last_words(&mut self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let log = log.lines().collect::<Vec<_>>();
        let now = Instant::now();
        let said = self.said();

        let mut words = format!("--- {} said\n", said.len());
        for said in &said[said.len().saturating_sub(SHOWN_LINES)..] {
            let ago = now.saturating_duration_since(said.at).as_millis();
            let _ = writeln!(words, "-{ago} ms {}", said.line); // a string takes all
        }
        words.push_str("--- and logged\n");
        words.push_str(&log[log.len().saturating_sub(SHOWN_LINES)..].join("\n"));
        words
    }
}

impl Answer {
    /// Asserts that it is whole.
    #[track_caller]
    pub fn assert_done(&self) {
        assert_eq!(self.end["event"], "done", "{self:?}");
    }

    /// Asserts that it broke off, and somebody said so.
    #[track_caller]
    pub fn assert_broken_off(&self) {
        assert_eq!(self.end["event"], "error", "{self:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        if thread::panicking() {
            let words = self.last_words();
            crate::note(&format!("{}: {words}", self.log.display()));
        }
    }
}

/// Returns the leader and its number in a `leader` line.
pub fn leader_of(line: &Value) -> Option<(String, u64)> {
    Some((line["peer"].as_str()?.to_owned(), line["term"].as_u64()?))
}

fn read(stdout: ChildStdout, sender: &Sender<Said>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let at = Instant::now();
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if sender.send(Said { at, line }).is_err() {
            return; // nobody looks
        }
    }
}

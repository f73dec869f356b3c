//! `lingualinked demo`: a group of phones on this machine, and a chat with it.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use node::model_file;
use proto::chat::{Message, Prompt};
use proto::plan::PlanError;
use rustyline::error::ReadlineError;

use crate::Outcome;
use crate::args::{AnswerArgs, GroupArgs};
use crate::group::{Group, Meeting};
use crate::interrupts::Interrupts;
use crate::lines::{self, Line};
use crate::terminal::{self, say};

/// Phone that is asked: the first one, which leads.
const ASKED: usize = 0;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    group: GroupArgs,
    /// Ask this and end; without it, chat
    #[arg(long)]
    prompt: Option<String>,
    #[command(flatten)]
    answer: AnswerArgs,
    /// Write events as JSON lines
    #[arg(long)]
    json: bool,
}

/// Starts a group, chats, ends it.
pub async fn run(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let json = args.json;

    lines::or_error_line(json, demo(args, interrupts).await)
}

async fn demo(args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    describe(&args)?;
    let mut group = Group::new(&args.group)?;
    let mut progress = Progress::new(args.json);
    let started = tokio::select! {
        biased;
        () = interrupts.next() => None,
        started = group.start(&args.group, Meeting::Discovered, |phone, line| progress.show(phone, line)) => {
            Some(started)
        }
    };
    let outcome = match started {
        None => Ok(Outcome::Interrupted),
        Some(Err(error)) => Err(error),
        Some(Ok(())) => chat(&mut group, args, interrupts).await,
    };
    group.stop().await;

    outcome
}

/// Chats with a group that runs.
async fn chat(group: &mut Group, args: Args, interrupts: Interrupts) -> Result<Outcome> {
    if group.was_told() && !args.json {
        say(
            "The phones did not hear each other (no multicast on this machine?) and were told of each other.",
        )?;
    }
    show_plan(group.plan(), args.json)?;
    let mut chat = Chat {
        group,
        interrupts,
        answer: args.answer,
        json: args.json,
        n_asked: 0,
    };

    match args.prompt {
        Some(prompt) => chat.ask_once(prompt).await,
        None => chat.converse().await,
    }
}

/// Opens the model before any phone is started: what is wrong with it is said once, and at once.
fn describe(args: &Args) -> Result<()> {
    let (n_phones, model) = (args.group.phones, &args.group.model);
    let cut = model_file::open_and_cut(&model.model, model.run.n_shards(n_phones))?;
    let n_shards = cut.shards().len() - 1; // the ends are no layers
    let n_phones = n_phones as usize;
    if n_shards < n_phones {
        bail!(PlanError::MorePhonesThanShards { n_phones, n_shards });
    }

    if !args.json {
        let megabytes = cut.len_bytes() as f64 / 1e6;
        say(&format!(
            "Cutting the model into {n_shards} shards and the ends, {megabytes:.0} MB."
        ))?;
        say(&format!("Starting {n_phones} phones on this machine."))?;
    }
    Ok(())
}

/// A chat with a group, on a terminal or for a program.
struct Chat<'a> {
    group: &'a mut Group,
    interrupts: Interrupts,
    answer: AnswerArgs,
    json: bool,
    n_asked: u64,
}

impl Chat<'_> {
    /// Asks one question, prints the answer.
    async fn ask_once(&mut self, prompt: String) -> Result<Outcome> {
        if !self.json {
            say(&format!("\n> {prompt}"))?;
        }
        let message = user(prompt);

        Ok(match self.ask(vec![message]).await? {
            Ended::Answered(_) => Outcome::Done,
            Ended::Refused => Outcome::Failed,
            Ended::Interrupted => Outcome::Interrupted,
        })
    }

    /// Reads questions and prints answers, until the end of the input.
    async fn converse(&mut self) -> Result<Outcome> {
        let mut history = Vec::new();
        let on_terminal = std::io::stdin().is_terminal();
        if !self.json && on_terminal {
            say("\nAsk something. Ctrl-C stops an answer, Ctrl-D ends.")?;
        }

        let mut editor = rustyline::DefaultEditor::new().context("cannot use the terminal")?;
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let line = editor.readline("> ");
                (editor, line)
            });
            let read = tokio::select! {
                biased;
                // A terminal is given back only when its line ends, and its Ctrl-C is then a character.
                () = self.interrupts.next(), if !on_terminal => return Ok(Outcome::Interrupted),
                loss = self.group.loss(), if !on_terminal => return Err(loss),
                read = read => read,
            };
            let (back, line) = read.context("reading the terminal failed")?;
            editor = back;
            let line = match line {
                Ok(line) => line,
                Err(ReadlineError::Eof) => return Ok(Outcome::Done),
                Err(ReadlineError::Interrupted) => return Ok(Outcome::Interrupted),
                Err(error) => return Err(error).context("cannot read the terminal"),
            };
            if line.trim().is_empty() {
                continue;
            }

            let _ = editor.add_history_entry(&line); // a line too many is not kept
            history.push(user(line));
            match self.ask(history.clone()).await? {
                Ended::Answered(text) => history.push(Message {
                    role: "assistant".into(),
                    content: text,
                }),
                Ended::Refused | Ended::Interrupted => {
                    history.pop();
                }
            }
        }
    }

    async fn ask(&mut self, messages: Vec<Message>) -> Result<Ended> {
        let id = self.n_asked;
        self.n_asked += 1;
        let ask = self.answer.ask(Prompt::Chat(messages));
        self.group.ask(ASKED, id, ask).await?;

        let mut interrupted = false;
        loop {
            let line = tokio::select! {
                biased;
                () = self.interrupts.next() => {
                    if interrupted {
                        return Ok(Ended::Interrupted); // the group does not stop: nobody waits for it
                    }
                    interrupted = true;
                    self.group.cancel(ASKED, id).await?;
                    continue;
                }
                line = self.group.answer_line(ASKED, id) => line?,
            };

            let line = line.without_id();
            self.show(&line)?;
            match line {
                Line::Done { .. } if interrupted => return Ok(Ended::Interrupted),
                Line::Done { text, .. } => return Ok(Ended::Answered(text)),
                Line::Error { .. } => return Ok(Ended::Refused),
                _ => {}
            }
        }
    }

    fn show(&self, line: &Line) -> Result<()> {
        if self.json {
            return Ok(lines::print(line)?);
        }

        match line {
            Line::Token { text, .. } => terminal::write(text)?,
            Line::Done { figures, .. } => {
                say("\n")?;
                say(&format!(
                    "[{} tokens read, {} written · first word after {:.0} ms, then {:.1} ms a token · {} B a token between phones]",
                    figures.prompt_tokens - figures.cached_tokens,
                    figures.completion_tokens,
                    figures.ttft_ms,
                    figures.tpot_ms,
                    figures.bytes_per_token,
                ))?;
            }
            Line::Error { message, .. } => terminal::complain(&format!("lingualinked: {message}")),
            _ => {}
        }
        Ok(())
    }
}

/// How an answer ended.
enum Ended {
    Answered(String),
    Refused,
    Interrupted,
}

fn user(content: String) -> Message {
    Message {
        role: "user".into(),
        content,
    }
}

fn show_plan(plan: &Line, json: bool) -> Result<()> {
    if json {
        return Ok(lines::print(plan)?);
    }

    if let Line::Plan { head, stages, .. } = plan {
        say("\nWho runs what:")?;
        for stage in stages {
            let [start, end] = stage.layers;
            let ends = if stage.phone == *head {
                ", and the ends: it alone sees words"
            } else {
                ""
            };
            let layers = format!("layers {start} to {}", end - 1);
            say(&format!("  {}: {layers}{ends}", stage.phone))?;
        }
    }
    Ok(())
}

/// Shows people how the phones become a group, and on a terminal how far they are.
struct Progress {
    for_people: bool,
    /// What a phone that asks shows.
    codes: BTreeMap<usize, String>,
    bars: Option<indicatif::MultiProgress>,
    phones: Vec<indicatif::ProgressBar>,
}

impl Progress {
    fn new(json: bool) -> Self {
        Self {
            for_people: !json,
            codes: BTreeMap::new(),
            bars: (!json && std::io::stderr().is_terminal()).then(indicatif::MultiProgress::new),
            phones: Vec::new(),
        }
    }

    fn show(&mut self, phone: usize, line: &Line) {
        if self.for_people {
            self.show_meeting(phone, line);
        }
        self.show_bar(phone, line);
    }

    /// Says what two people would have compared.
    fn show_meeting(&mut self, phone: usize, line: &Line) {
        match line {
            Line::Match { code, side, .. } if side == "asker" => {
                self.codes.insert(phone, code.clone());
            }
            Line::PairingEnded {
                phone: other, end, ..
            } if end == "done" => {
                if let Some(code) = self.codes.remove(&phone) {
                    let met = format!("phone {} and {other} show {code}: accepted", phone + 1);
                    let _ = say(&met); // the plan comes next, and says whether nobody reads it
                }
            }
            _ => {}
        }
    }

    fn show_bar(&mut self, phone: usize, line: &Line) {
        let Some(bars) = &self.bars else { return };
        while self.phones.len() <= phone {
            let style = indicatif::ProgressStyle::with_template("  {prefix} {bar:30} {msg}");
            let bar = indicatif::ProgressBar::new(100);
            bar.set_style(style.expect("a template of ours"));
            bar.set_prefix(format!("phone {}", self.phones.len() + 1));
            self.phones.push(bars.add(bar));
        }

        let bar = &self.phones[phone];
        match line {
            Line::Preparing {
                done_bytes,
                total_bytes,
                spare: false,
                ..
            } => {
                bar.set_message("gets its shards");
                bar.set_position(done_bytes * 100 / total_bytes.max(&1));
            }
            Line::Loading { fraction } => {
                bar.set_message("loads");
                bar.set_position((fraction * 100.0) as u64);
            }
            Line::Plan { .. } => {
                for bar in &self.phones {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}

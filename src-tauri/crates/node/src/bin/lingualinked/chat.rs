//! `lingualinked chat`: asks a phone of a running group, any of them.

use std::io::Write;

use anyhow::Result;
use libp2p::Multiaddr;
use node::guest::Guest;
use proto::chat::{Message, Prompt};

use crate::Outcome;
use crate::args::AnswerArgs;
use crate::interrupts::Interrupts;
use crate::lines::{self, AnswerLines, Line, Names};

/// Options of `chat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of any phone of the group, as it prints it
    #[arg(long, value_name = "ADDRESS")]
    to: Multiaddr,
    /// What to ask
    prompt: String,
    #[command(flatten)]
    answer: AnswerArgs,
    /// Write events as JSON lines
    #[arg(long)]
    json: bool,
}

/// Asks one question.
pub async fn run(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let json = args.json;

    lines::or_error_line(json, chat(args, interrupts).await)
}

async fn chat(args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    let mut guest = Guest::new(args.to)?;
    let ask = args.answer.ask(Prompt::Chat(vec![Message {
        role: "user".into(),
        content: args.prompt,
    }]));

    let mut lines = AnswerLines::default();
    let mut outcome = Ok(Outcome::Failed);
    let asked = guest.ask(ask, |answer| {
        let line = lines.line(answer, &Names::default());
        outcome = show(&line, args.json);
    });

    tokio::select! {
        biased;
        () = interrupts.next() => Ok(Outcome::Interrupted),
        result = asked => {
            result?;
            outcome
        }
    }
}

fn show(line: &Line, json: bool) -> Result<Outcome> {
    if json {
        lines::print(line)?;
    }

    match line {
        Line::Token { text, .. } if !json => {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        Line::Done { .. } => {
            if !json {
                writeln!(std::io::stdout())?;
            }
            return Ok(Outcome::Done);
        }
        Line::Error { message, .. } => {
            if !json {
                eprintln!("lingualinked: {message}");
            }
            return Ok(Outcome::Failed);
        }
        _ => {}
    }

    Ok(Outcome::Failed)
}

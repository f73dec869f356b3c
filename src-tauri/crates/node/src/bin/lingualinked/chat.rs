//! `lingualinked chat`: asks a running phone of a group, any of them.

use std::io::Write;

use anyhow::Result;
use proto::chat::{Message, Prompt};

use crate::Outcome;
use crate::args::AnswerArgs;
use crate::interrupts::Interrupts;
use crate::lines::{self, Line, Order};
use crate::local::Local;

/// Number of the only question.
const ID: u64 = 0;

/// Options of `chat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Local address of a phone of the group, as it prints it: `/unix/…`
    #[arg(long, value_name = "ADDRESS")]
    to: String,
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
    let mut phone = Local::connect(&args.to).await?;
    let ask = args.answer.ask(Prompt::Chat(vec![Message {
        role: "user".into(),
        content: args.prompt,
    }]));
    phone.order(&Order::Ask { id: ID, ask }).await?;

    loop {
        let line = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Outcome::Interrupted),
            line = phone.line() => line?,
        };
        if line.id() == Some(ID)
            && let Some(outcome) = show(line.without_id(), args.json)?
        {
            return Ok(outcome);
        }
    }
}

/// Shows a line; returns how the answer ended, if that was its last.
fn show(line: Line, json: bool) -> Result<Option<Outcome>> {
    if json {
        lines::print(&line)?;
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
            return Ok(Some(Outcome::Done));
        }
        Line::Error { message, .. } => {
            if !json {
                eprintln!("lingualinked: {message}");
            }
            return Ok(Some(Outcome::Failed));
        }
        _ => {}
    }

    Ok(None)
}

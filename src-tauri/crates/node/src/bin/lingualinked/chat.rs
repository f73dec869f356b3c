//! `lingualinked chat`: asks a running phone of a group, any of them.

use anyhow::Result;
use proto::chat::{Message, Prompt};

use crate::Outcome;
use crate::args::AnswerArgs;
use crate::interrupts::Interrupts;
use crate::lines::{self, Line, Order};
use crate::local::Local;
use crate::terminal;

/// Number of the only question.
const ID: u64 = 0;

/// Options of `chat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Local address of a phone of the group, as it prints it: `/unix/…` [default: the phone in the default folder]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
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
    let mut phone = Local::connect(args.to.as_deref()).await?;
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
            terminal::write(&text)?;
        }
        Line::Done { .. } => {
            if !json {
                terminal::say("")?;
            }
            return Ok(Some(Outcome::Done));
        }
        Line::Error { message, .. } => {
            if !json {
                terminal::complain(&format!("lingualinked: {message}"));
            }
            return Ok(Some(Outcome::Failed));
        }
        _ => {}
    }

    Ok(None)
}

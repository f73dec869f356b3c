//! `lingualinked status`, `invite` and `join`: what a person wants of a running phone's group.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};

use crate::Outcome;
use crate::interrupts::Interrupts;
use crate::lines::{self, Line, Order};
use crate::local::Local;
use crate::{qr, terminal, typed};

/// Options of `status` and `invite`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Local address of the phone, as it prints it: `/unix/…` [default: the phone in the default folder]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Options of `join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    #[command(flatten)]
    phone: Args,
    /// What a phone of the group has made: a link, `lingualinked://join?…`, or the code to be typed
    #[arg(value_name = "LINK|CODE", required = true, num_args = 1..)]
    invite: Vec<String>,
}

/// Shows who is in the phone's group, and who runs what.
pub async fn status(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let is_it = |line: &Line| matches!(line, Line::Status { .. });

    lines::or_error_line(
        args.json,
        tell(&args, &Order::Status, interrupts, is_it).await,
    )
}

/// Has the phone make a link that lets one phone into its group.
pub async fn invite(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let is_it = |line: &Line| matches!(line, Line::Invite { .. });

    lines::or_error_line(
        args.json,
        tell(&args, &Order::Invite, interrupts, is_it).await,
    )
}

/// Has the phone use such a link, or its code.
pub async fn join(args: JoinArgs, interrupts: Interrupts) -> Result<Outcome> {
    let is_it = |line: &Line| matches!(line, Line::PairingEnded { .. } | Line::NotReached { .. });
    let invite = args.invite.join(" "); // a code may be typed in groups
    let order = if typed::is_link(&invite) {
        Order::Present { link: invite }
    } else {
        Order::JoinCode { code: invite }
    };

    lines::or_error_line(
        args.phone.json,
        tell(&args.phone, &order, interrupts, is_it).await,
    )
}

/// Gives an order, and shows the line that is the answer.
async fn tell(
    args: &Args,
    order: &Order,
    mut interrupts: Interrupts,
    is_answer: impl Fn(&Line) -> bool,
) -> Result<Outcome> {
    let mut phone = Local::connect(args.to.as_deref()).await?;
    phone.order(order).await?;

    loop {
        let line = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Outcome::Interrupted),
            line = phone.line() => line?,
        };
        match line {
            Line::Error { id: None, message } => bail!("{message}"),
            line if is_answer(&line) => return show(&line, args.json),
            _ => {}
        }
    }
}

fn show(line: &Line, json: bool) -> Result<Outcome> {
    let let_in = match line {
        Line::PairingEnded { end, .. } => end == "done",
        Line::NotReached { .. } => false,
        _ => true,
    };
    if json {
        lines::print(line)?;
    } else {
        terminal::say(&line.for_people().unwrap_or_default())?;
    }
    if let (false, Line::Invite { link, .. }) = (json, line) {
        draw(link)?;
    }

    Ok(if let_in {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}

/// Draws a link for a camera: in colour on a terminal; elsewhere letters are taken to be dark on light, as on paper.
fn draw(link: &str) -> Result<()> {
    let mut out = std::io::stdout();
    if let Some(code) = qr::draw(link, out.is_terminal()) {
        writeln!(out, "{code}")?;
    }

    Ok(())
}

//! `lingualinked status`, `invite` and `join`: what a person wants of a running phone's group.

use std::io::Write;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::interrupts::Interrupts;
use crate::lines::{self, Line, Order};
use crate::local::Local;

/// Options of `status` and `invite`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Local address of the phone, as it prints it: `/unix/…`
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Options of `join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    #[command(flatten)]
    phone: Args,
    /// Link that a phone of the group has made: `lingualinked://join?…`
    link: String,
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

/// Has the phone use such a link.
pub async fn join(args: JoinArgs, interrupts: Interrupts) -> Result<Outcome> {
    let is_it = |line: &Line| matches!(line, Line::PairingEnded { .. });
    let order = Order::Present { link: args.link };

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
    let mut phone = Local::connect(&args.to).await?;
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
    let let_in = !matches!(line, Line::PairingEnded { end, .. } if end != "done");
    if json {
        lines::print(line)?;
    } else {
        writeln!(
            std::io::stdout(),
            "{}",
            line.for_people().unwrap_or_default()
        )?;
    }

    Ok(if let_in {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}

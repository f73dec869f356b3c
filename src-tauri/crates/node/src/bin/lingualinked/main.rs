//! `lingualinked`: a phone without a screen, and what is needed to try a group of them on one machine.
//!
//! | command | what it does |
//! | --- | --- |
//! | `demo` | starts a group of phones as processes of this machine and chats with it |
//! | `node` | one phone, until it is stopped |
//! | `nearby` | shows the phones that are found |
//! | `chat` | asks a running phone |
//! | `status`, `invite`, `join` | show and change the group of a running phone |
//! | `bench` | measures a group against plain llama.cpp |
//! | `plan` | tells who would run what, and what to expect of it |

// What a program shows is a choice among lines, and printed.
#![allow(clippy::wildcard_enum_match_arm, clippy::print_stdout)]

mod args;
mod askers;
mod bench;
mod chat;
mod demo;
mod face;
mod folder;
mod group;
mod interrupts;
mod lines;
mod local;
mod membership;
mod names;
mod nearby;
mod node_command;
mod people;
mod phones;
mod plain;
mod plan_command;
mod qr;
mod standings;
mod terminal;
mod typed;

use std::io::{self, Write};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use interrupts::Interrupts;

/// Exit status of what failed.
const FAILED: u8 = 1;

/// Exit status after Ctrl-C, as shells give it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// One language model, run together by nearby phones.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a group of phones on this machine and chat with it
    Demo(demo::Args),
    /// Run one phone until it is stopped
    Node(node_command::Args),
    /// Show the phones that are found nearby
    Nearby(nearby::Args),
    /// Ask a running phone of a group
    Chat(chat::Args),
    /// Show who is in a running phone's group, and who runs what
    Status(membership::Args),
    /// Make a link that lets one phone into a running phone's group
    Invite(membership::Args),
    /// Let a running phone join a group by such a link, or by its code
    Join(membership::JoinArgs),
    /// Measure a group on this machine against plain llama.cpp
    Bench(bench::Args),
    /// Tell who would run what, and what to expect of it
    Plan(plan_command::Args),
}

/// What is logged unless `RUST_LOG` says otherwise: what is odd. The libraries that find phones call it an error when
/// a network is not there.
const LOG: &str = "warn,libp2p_mdns=off,mdns_sd=off";

/// How a command ended.
enum Outcome {
    Done,
    /// It failed, and has said so itself.
    Failed,
    Interrupted,
}

fn main() -> ! {
    let cli = Cli::parse();
    start_log();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime at start-up");
    let outcome = runtime.block_on(async {
        let interrupts = Interrupts::listen()?;
        match cli.command {
            Command::Demo(args) => demo::run(args, interrupts).await,
            Command::Node(args) => node_command::run(args, interrupts).await,
            Command::Nearby(args) => nearby::run(args, interrupts).await,
            Command::Chat(args) => chat::run(args, interrupts).await,
            Command::Status(args) => membership::status(args, interrupts).await,
            Command::Invite(args) => membership::invite(args, interrupts).await,
            Command::Join(args) => membership::join(args, interrupts).await,
            Command::Bench(args) => bench::run(args, interrupts).await,
            Command::Plan(args) => plan_command::run(&args),
        }
    });
    // Whoever still reads a terminal or a pipe is not waited for.
    runtime.shutdown_background();
    let status = status_of(outcome);
    let _ = io::stdout().flush(); // nobody may read it

    // Nor is the engine, which may be in the middle of a step.
    engine::exit_process(status)
}

/// Returns the exit status, and says what a command has not said itself.
fn status_of(outcome: anyhow::Result<Outcome>) -> u8 {
    match outcome {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Failed) => FAILED,
        Ok(Outcome::Interrupted) => INTERRUPTED,
        // Nobody reads what is said any more.
        Err(error) if is_broken_pipe(&error) => FAILED,
        Err(error) => {
            terminal::complain(&format!("lingualinked: {}", lines::message(&error)));
            FAILED
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();

    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Logs go to standard error; `RUST_LOG` chooses what, else only what is odd.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));

    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

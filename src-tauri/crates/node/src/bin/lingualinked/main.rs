//! `lingualinked`: a phone without a screen, and what is needed to try a group of them on one machine.
//!
//! | command | what it does |
//! | --- | --- |
//! | `demo` | starts a group of phones as processes of this machine and chats with it |
//! | `node` | one phone, until it is stopped |
//! | `chat` | asks a phone of a running group |
//! | `bench` | measures a group against plain llama.cpp |
//! | `plan` | tells who would run what, and what to expect of it |

// What a program shows is a choice among lines, and printed.
#![allow(clippy::wildcard_enum_match_arm, clippy::print_stdout)]

mod args;
mod bench;
mod chat;
mod demo;
mod group;
mod interrupts;
mod lines;
mod node_command;
mod plain;
mod plan_command;

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
    /// Ask a phone of a running group
    Chat(chat::Args),
    /// Measure a group on this machine against plain llama.cpp
    Bench(bench::Args),
    /// Tell who would run what, and what to expect of it
    Plan(plan_command::Args),
}

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
            Command::Chat(args) => chat::run(args, interrupts).await,
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
            eprintln!("lingualinked: {}", lines::message(&error));
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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));

    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

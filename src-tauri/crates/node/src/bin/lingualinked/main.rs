//! `lingualinked`: a phone without a screen, and what is needed to try a group of them on one machine.
//!
//! | command | what it does |
//! | --- | --- |
//! | `demo` | starts a group of phones as processes of this machine and chats with it |
//! | `node` | one phone, until it is stopped |
//! | `nearby` | shows the phones that are found |
//! | `chat` | asks a phone of a running group |
//! | `bench` | measures a group against plain llama.cpp |

// What a program shows is a choice among lines, and printed.
#![allow(clippy::wildcard_enum_match_arm, clippy::print_stdout)]

mod args;
mod bench;
mod chat;
mod demo;
mod group;
mod lines;
mod nearby;
mod node_command;
mod plain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

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
    /// Ask a phone of a running group
    Chat(chat::Args),
    /// Measure a group on this machine against plain llama.cpp
    Bench(bench::Args),
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime at start-up");
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Node(args) => node_command::run(args).await,
            Command::Nearby(args) => nearby::run(args).await,
            Command::Chat(args) => chat::run(args).await,
            Command::Bench(args) => bench::run(args).await,
        }
    });
    // The engine may be in the middle of a step: it is not waited for.
    runtime.shutdown_background();

    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("lingualinked: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error; `RUST_LOG` chooses what, else only what is odd.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));

    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

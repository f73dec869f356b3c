//! The command line of `gguf-tools`: what a model file is, and what can be done with it.
//!
//! A command reads its arguments, calls the library, and says what came of it: a table for people,
//! or JSON for programs. Progress goes to standard error and only to a terminal. The exit status is
//! 0 if all went well, 1 if not, and 2 if the command itself was not understood.

mod cut;
mod inspect;
mod manifest;
mod output;
mod synth;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use gguf_tools::{Cut, Gguf, LayerRange};

/// Reads, describes, cuts, verifies and synthesises GGUF models.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Write JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a model file is.
    Inspect(inspect::Inspect),
    /// Cut a model into shards and write them with their manifest.
    Cut(cut::CutCommand),
    /// List the shards that a model would be cut into, with sizes and hashes, without writing them.
    Manifest(manifest::ManifestCommand),
    /// Check shards against their manifest.
    Verify(verify::Verify),
    /// Write a model of a real shape with random weights.
    Synth(synth::SynthCommand),
}

/// Where to cut.
#[derive(Debug, Args)]
struct Where {
    /// Number of layer shards; fewer if there are fewer layers.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    shards: u32,
    /// Cut before these layers instead, such as 4,8,12.
    #[arg(long, value_delimiter = ',', conflicts_with = "shards")]
    at: Vec<u32>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();

    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Inspect(command) => command.run(cli.json),
        Command::Cut(command) => command.run(cli.json),
        Command::Manifest(command) => command.run(cli.json),
        Command::Verify(command) => command.run(cli.json),
        Command::Synth(command) => command.run(cli.json),
    }
}

impl Where {
    /// Cuts the model in the file at `path`.
    fn cut(&self, path: &Path) -> anyhow::Result<Cut> {
        let model = open(path)?;
        let cut = if self.at.is_empty() {
            Cut::about(&model, self.shards)
        } else {
            Cut::new(&model, &self.ranges(&model)?)
        };

        cut.with_context(|| format!("{} cannot be cut", path.display()))
    }

    fn ranges(&self, model: &Gguf) -> anyhow::Result<Vec<LayerRange>> {
        let n_layers = model.describe()?.n_layers;
        let ends = self.at.iter().copied().chain([n_layers]);
        let starts = std::iter::once(0).chain(self.at.iter().copied());

        starts
            .zip(ends)
            .map(|(start, end)| LayerRange::new(start, end))
            .collect::<Result<_, _>>()
            .with_context(|| {
                format!(
                    "--at takes ascending layers from 1 to {}",
                    n_layers.saturating_sub(1)
                )
            })
    }
}

/// Opens the model at `path`; an error names it.
fn open(path: &Path) -> anyhow::Result<Gguf> {
    Gguf::open(path).with_context(|| format!("{} is not a usable model", path.display()))
}

/// Writes `bytes` to a file at `path`, with an error that names it.
fn write(path: &PathBuf, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

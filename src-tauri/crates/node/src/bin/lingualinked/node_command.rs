//! `lingualinked node`: one phone, until it is stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use libp2p::Multiaddr;
use node::device::Script;
use node::discovery::Sources;
use node::engine_thread::EngineConfig;
use node::event_loop::{Limits, ModelFile};
use node::identity;
use node::start::{self, Config};
use node::work::{Cutting, Wish};
use proto::device::Policy;
use proto::plan::STAGES_MAX;
use proto::planning::Work;

use crate::Outcome;
use crate::args::{AnswerArgs, PhoneArgs, RunArgs, one_to};
use crate::askers::{Askers, Input};
use crate::face::{Face, Model, Own};
use crate::interrupts::Interrupts;
use crate::{folder, lines, terminal};

/// Options of `node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of this phone [default: what it was called last]
    #[arg(long)]
    pub name: Option<String>,
    /// Folder for its key, its place in a group, its shards and its socket [default: the system's for data]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where to listen [default: on every interface]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Multiaddr>,
    /// How to find phones nearby, and be found by them
    #[arg(long, value_enum, default_value_t = Discover::All)]
    pub discover: Discover,
    /// Who says yes when both phones show a code
    #[arg(long, value_enum, default_value_t = Accept::Ask)]
    pub accept: Accept,
    /// Run the model, whenever this phone leads, once so many phones are here
    #[arg(
        long,
        value_name = "PHONES",
        value_parser = one_to(STAGES_MAX as u32),
        requires = "model"
    )]
    pub run: Option<u32>,
    /// Ask the phone at this address to be let into its group
    #[arg(long, value_name = "ADDRESS")]
    pub join: Option<Multiaddr>,
    /// Model as a GGUF file, to run or to cut shards from
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub phone: PhoneArgs,
    /// Play a script of memory, battery and heat instead of asking the system
    #[arg(long, value_name = "FILE", conflicts_with = "memory_limit")]
    pub device_script: Option<PathBuf>,
    #[command(flatten)]
    pub sizes: RunArgs,
    /// How what is typed on its terminal is answered
    #[command(flatten)]
    pub answer: AnswerArgs,
    /// Write events as JSON lines, and take commands so; the phone ends when standard input does
    #[arg(long)]
    pub json: bool,
}

/// Who says yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// A person, or a program that plays one
    Ask,
    /// Nobody is asked: for scripts and demos, where nobody else is near
    All,
    /// A person, to whom this phone asks; who asks this phone is refused
    None,
}

/// Ways to find phones nearby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Discover {
    /// Every way
    All,
    /// libp2p's mDNS
    Mdns,
    /// DNS-SD
    DnsSd,
    /// None: phones are told of each other
    None,
}

impl Discover {
    fn sources(self) -> Sources {
        Sources {
            mdns: matches!(self, Self::All | Self::Mdns),
            dns_sd: matches!(self, Self::All | Self::DnsSd),
        }
    }
}

/// Runs a phone.
pub async fn run(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let json = args.json;

    lines::or_error_line(json, phone(args, interrupts).await)
}

async fn phone(args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    let model = args.model.clone().map(|path| Model {
        path,
        run: args.sizes.clone(),
    });
    let work = match (&model, args.run) {
        (Some(model), Some(n_phones)) => tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Outcome::Interrupted),
            work = model.work(n_phones) => Some(work?),
        },
        _ => None,
    };
    let data = folder::data_folder(args.data.as_deref())?;
    folder::make(&data)?;
    let mut askers = Askers::start(&data, input(args.json)).await?;
    let name = folder::name(&data, args.name.as_deref())?;
    let own = Own { name, data, model };

    let (handle, events) = start::start(config(&args, &own)?).await?;
    let mut face = Face::new(&args, own, &handle, &mut askers);
    face.show_listening()?;
    if let Some(work) = work {
        handle.run(work, None).await;
    }
    let outcome = match args.join {
        Some(address) => face.join(&handle, address).await,
        None => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) => face.serve(&handle, events, askers, interrupts).await,
        Err(error) => Err(error),
    };
    handle.stop().await;

    outcome
}

impl Model {
    /// Returns what is to be run: reads and hashes the whole model.
    ///
    /// # Errors
    ///
    /// If the file is no model that can be cut, or cannot be shared by so many phones.
    pub async fn work(&self, n_phones: u32) -> Result<Work> {
        let (path, run) = (self.path.clone(), self.run.clone());
        let work = tokio::task::spawn_blocking(move || {
            let cutting = Cutting::of(&path, run.n_shards(n_phones), |_| {})?;
            let wish = Wish {
                n_phones,
                sizes: run.sizes(),
                rule: run.placement.rule(),
                flash_quota_bytes: run.spare,
            };
            Ok(cutting.work(&wish)?)
        });

        work.await.context("reading the model failed")?
    }
}

/// Returns a model as this phone has it. Nothing tells its name to others: its file was not read yet.
pub fn model_file(path: &Path) -> ModelFile {
    ModelFile {
        path: path.to_owned(),
        model: None,
        name: String::new(),
    }
}

fn input(json: bool) -> Input {
    match json {
        true => Input::Json,
        false if terminal::is_interactive() => Input::Terminal,
        false => Input::Lines,
    }
}

fn config(args: &Args, own: &Own) -> Result<Config> {
    Ok(Config {
        keypair: identity::load_or_create(&own.data)?,
        name: own.name.clone(),
        data_folder: own.data.clone(),
        models: args.model.iter().map(|path| model_file(path)).collect(),
        device: match &args.device_script {
            Some(script) => Some(Box::new(Script::load(script)?)),
            None => None,
        },
        limits: Limits {
            policy: Policy {
                memory_limit_bytes: args.phone.memory_limit,
                ..Policy::default()
            },
            shard_quota_bytes: None,
        },
        listen: args.listen.clone(),
        sources: args.discover.sources(),
        engine: EngineConfig {
            n_threads: args.phone.threads,
            memory_limit_bytes: args.phone.memory_limit,
            slowdown: args.phone.slowdown,
        },
    })
}

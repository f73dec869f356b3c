//! Options that several commands share.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use libp2p::Multiaddr;
use node::work::{self, CHUNK_TOKENS, CONTEXT_TOKENS, CONVERSATIONS, SPARE_BYTES};
use proto::chat::{Ask, COMPLETION_TOKENS_MAX, Prompt, Sampling, TEMPERATURE_MAX};
use proto::placement::Objective;
use proto::plan::{ActivationType, CHUNK_TOKENS_MAX, N_CTX_MAX, SEQUENCES_MAX, STAGES_MAX, Sizes};
use proto::planning::Rule;

/// How much slower a phone can be made: a token that takes 20 ms then takes 20 s.
const SLOWDOWN_MAX: f64 = 1000.0;

/// A group of phones as processes of this machine.
#[derive(Debug, Clone, Args)]
pub struct GroupArgs {
    /// Phones in the group
    #[arg(long, default_value_t = 3, value_parser = one_to(STAGES_MAX as u32))]
    pub phones: u32,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub phone: PhoneArgs,
    /// Where the phones keep their shards [default: a temporary folder]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where the phones listen: `/ip4/127.0.0.1/tcp/0` or `/ip4/127.0.0.1/udp/0/quic-v1`
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    pub listen: Multiaddr,
}

/// The model, and what it is run with.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Model as a GGUF file
    #[arg(long)]
    pub model: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What a model is run with.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Positions of the context of each conversation
    #[arg(long, default_value_t = CONTEXT_TOKENS, value_parser = one_to(N_CTX_MAX))]
    pub context: u32,
    /// Conversations whose caches are kept
    #[arg(long, default_value_t = CONVERSATIONS, value_parser = one_to(SEQUENCES_MAX))]
    pub conversations: u32,
    /// Tokens in a prefill chunk
    #[arg(long, default_value_t = CHUNK_TOKENS, value_parser = one_to(CHUNK_TOKENS_MAX))]
    pub chunk: u32,
    /// Halve the bytes between phones; the text may then differ from one phone's
    #[arg(long)]
    pub f16_activations: bool,
    /// Send step headers along with the activation instead of to every phone at once
    #[arg(long)]
    pub relay_headers: bool,
    /// Which phone runs what
    #[arg(long, value_enum, default_value_t = PlacementRule::Best)]
    pub placement: PlacementRule,
    /// Storage that each phone may fill with shards of its neighbours in the ring, to be at hand
    #[arg(long, value_name = "BYTES", default_value_t = SPARE_BYTES)]
    pub spare: u64,
    /// Layer shards to cut the model into [default: 16, or 1 for one phone]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: Option<u32>,
}

/// Which phone runs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementRule {
    /// What gives one answer soonest, by what was measured; it may be one phone
    Best,
    /// What gives many answers at once soonest
    Throughput,
    /// As many shards on every phone, nothing measured: to compare with
    Even,
}

impl PlacementRule {
    /// Returns it as plans are made by.
    pub fn rule(self) -> Rule {
        match self {
            Self::Best => Rule::Best(Objective::Latency),
            Self::Throughput => Rule::Best(Objective::Throughput),
            Self::Even => Rule::Even,
        }
    }

    /// Returns its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Throughput => "throughput",
            Self::Even => "even",
        }
    }
}

/// How one phone computes.
#[derive(Debug, Clone, Args)]
pub struct PhoneArgs {
    /// Threads that compute on each phone
    #[arg(long, default_value_t = 1, value_parser = one_to(64))]
    pub threads: u32,
    /// Make the phone this many times slower
    #[arg(long, default_value_t = 1.0, value_parser = slowdown)]
    pub slowdown: f64,
    /// Bytes that the phone may use for its part of the model
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<u64>,
}

/// How an answer is written.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Tokens after which the answer ends
    #[arg(long, default_value_t = 256, value_parser = one_to(COMPLETION_TOKENS_MAX))]
    pub max_tokens: u32,
    /// 0 takes the likeliest token always; 0.8 is lively
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub temperature: f32,
    /// Luck: the same seed gives the same text
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl RunArgs {
    /// Returns the shards to cut into, for so many phones.
    pub fn n_shards(&self, n_phones: u32) -> u32 {
        self.shards.unwrap_or(work::n_shards(n_phones))
    }

    /// Returns what goes into a plan.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            n_ctx: self.context,
            n_sequences: self.conversations,
            chunk_tokens: self.chunk,
            activation: if self.f16_activations {
                ActivationType::F16
            } else {
                ActivationType::F32
            },
            relay_headers: self.relay_headers,
        }
    }
}

impl AnswerArgs {
    /// Returns the question that these options and `prompt` make.
    pub fn ask(&self, prompt: Prompt) -> Ask {
        Ask {
            prompt,
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                seed: self.seed,
                ..Sampling::default()
            },
            stop: Vec::new(),
            ignore_end: false,
            written: Vec::new(),
        }
    }
}

/// Reads a number between 1 and `max`.
pub fn one_to(max: u32) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(max))
}

/// Reads how many times slower a phone is made.
pub fn slowdown(text: &str) -> Result<f64, String> {
    in_range(text, 1.0, SLOWDOWN_MAX)
}

fn temperature(text: &str) -> Result<f32, String> {
    in_range(text, 0.0, TEMPERATURE_MAX)
}

/// Reads a number between two others, which no NaN is.
fn in_range<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: FromStr<Err: Display> + PartialOrd + Display,
{
    let number = text.parse::<T>().map_err(|error| error.to_string())?;

    if (&min..=&max).contains(&&number) {
        Ok(number)
    } else {
        Err(format!("must be between {min} and {max}"))
    }
}

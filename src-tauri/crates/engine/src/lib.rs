//! Arithmetic: llama.cpp runs one shard, samples a token.
//!
//! An [`Engine`] loads shards and gives them the threads to compute with:
//!
//! - a [`LayerShard`] turns hidden states into hidden states, for several sequences, and keeps
//!   their KV cache;
//! - the [`Ends`] turn text into tokens, tokens into hidden states, hidden states into logits,
//!   tokens into text;
//! - a [`Sampler`] chooses a token; [`Detokenizer`] and [`StopStrings`] make text of tokens as they
//!   come;
//! - a [`Whole`] model is plain llama.cpp, to compare with.
//!
//! What goes through the ends and through all layer shards in order comes out as from the whole
//! model, bit for bit. How that is done on unpatched llama.cpp: `llama/tap.rs`.
//!
//! Nothing here knows of phones, plans or sockets, reads the clock, or waits for anything but
//! arithmetic and disk.

#![deny(unsafe_code)]

mod cache;
mod chat;
mod ends;
mod engine;
mod error;
mod layers;
#[allow(unsafe_code)] // the one module that may: each block gives its reason
mod llama;
mod sampler;
mod text;
mod whole;

pub use chat::{ChatError, ChatMessage, Role};
pub use ends::Ends;
pub use engine::{Engine, EngineOptions, LoadOptions};
pub use error::{LoadError, RunError};
pub use layers::{LayerShard, SequenceRun};
pub use llama::Token;
pub use sampler::{Sampler, SamplingOptions};
pub use text::{Detokenizer, StopStrings};
pub use whole::Whole;

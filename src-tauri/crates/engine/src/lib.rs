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
//! ```no_run
//! # use engine::*;
//! # use std::{ops::ControlFlow, path::Path, time::SystemTime};
//! # fn answer(folder: &Path, manifest: &gguf_tools::Manifest, question: ChatMessage)
//! # -> Result<String, Box<dyn std::error::Error>> {
//! let engine = Engine::new(EngineOptions { n_threads: 2 });
//! let options = LoadOptions::default();
//! let mut go_on = |_| ControlFlow::Continue(());
//! let mut ends = engine.load_ends(&folder.join("ends"), manifest, &options, &mut go_on)?;
//! let mut layers = Vec::new();
//! for entry in &manifest.layers {
//!     let path = folder.join(entry.kind.to_string());
//!     layers.push(engine.load_layers(&path, manifest, entry, &options, &mut go_on)?);
//! }
//!
//! let prompt = ends.render(&[question], true, SystemTime::now())?;
//! let mut history = ends.tokenize_prompt(&prompt);
//! let (mut sampler, mut detokenizer) = (Sampler::new(Default::default()), Detokenizer::new());
//! let (mut hidden, mut next, mut logits) = (Vec::new(), Vec::new(), Vec::new());
//! let (mut position, mut answer) = (0, String::new());
//! loop {
//!     let tokens = &history[position..];
//!     let run = SequenceRun {
//!         sequence: 0,
//!         position: position as u32,
//!         n_tokens: tokens.len() as u32,
//!         n_wanted: 1,
//!     };
//!     ends.embed(tokens, &mut hidden)?;
//!     let last = layers.len() - 1;
//!     for (i, shard) in layers.iter_mut().enumerate() {
//!         shard.run(&[run], &hidden, &mut next, i < last)?; // on this phone, or over the ring
//!         std::mem::swap(&mut hidden, &mut next);
//!     }
//!     ends.logits(&hidden, &mut logits)?;
//!
//!     position = history.len();
//!     let token = sampler.sample(&mut logits, &history, position as u32);
//!     if ends.is_end_of_turn(token) {
//!         return Ok(answer);
//!     }
//!     detokenizer.push(&ends, token, &mut answer);
//!     history.push(token);
//! }
//! # }
//! ```
//!
//! [`profile`] measures what all this takes on the machine at hand, from a sample of a model.
//!
//! Nothing here knows of phones, plans or sockets, or waits for anything but arithmetic and disk;
//! only `profile` reads the clock.

#![deny(unsafe_code)]

mod cache;
mod chat;
mod ends;
mod engine;
mod error;
mod layers;
#[allow(unsafe_code)] // the one module that may: each block gives its reason
mod llama;
mod processor;
mod profile;
mod repack;
mod sampler;
mod text;
mod whole;

pub use chat::{ChatError, ChatMessage, Role};
pub use ends::Ends;
pub use engine::{Engine, EngineOptions, LoadOptions};
pub use error::{LoadError, RunError};
pub use layers::{LayerShard, SequenceRun};
pub use llama::{Token, exit_process};
pub use processor::{ProcessorError, check_processor, fast_cores, n_fast_cores};
pub use profile::{AtContext, Measured, ProfileError, ProfileOptions, Reading, profile};
pub use repack::repacked_bytes;
pub use sampler::{Sampler, SamplingOptions};
pub use text::{Detokenizer, StopStrings};
pub use whole::Whole;

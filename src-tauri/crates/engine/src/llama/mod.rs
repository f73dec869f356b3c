//! llama.cpp behind a wall: the only module that may say `unsafe`.
//!
//! Four things live here, each owning what it frees:
//!
//! - [`ThreadPool`]: the threads that do the arithmetic, one pool for all contexts;
//! - [`Model`]: weights and vocabulary, read-only once loaded;
//! - [`Context`]: a model's KV cache and buffers, and the only thing that computes;
//! - [`tap`]: how a context's graph is entered late and left early;
//! - [`scratch`]: how what a graph needed in between is given back to the system.
//!
//! Nothing here knows of shards, of sampling or of chat. Nothing outside sees a pointer.
//!
//! # Threads
//!
//! llama.cpp has no thread affinity: a context may be used from any thread, but from one at a time,
//! and so may the thread pool. [`Context`]'s methods take `&mut self`, and a decode holds the
//! pool's lock, so everything is [`Send`] and no caller has to keep a rule. Callers use one thread
//! all the same: two would only wait for each other.

mod backend;
mod context;
mod cpu;
mod model;
mod scratch;
mod tap;
mod threads;

pub use backend::exit_process;
pub(crate) use backend::{first_error, init};
pub(crate) use context::{Context, ContextOptions, DecodeError, Input, Row};
pub(crate) use cpu::{CpuFeatures, n_performance_cores};
pub(crate) use model::{Loading, Model};
pub(crate) use tap::TapNames;
pub(crate) use threads::ThreadPool;

/// A token's number in the model's vocabulary.
pub type Token = llama_cpp_sys_2::llama_token;

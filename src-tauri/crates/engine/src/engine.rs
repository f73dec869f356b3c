//! Where models come from: files in, shards out.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use gguf_tools::LayerRange;

use crate::chat::ChatTemplate;
use crate::ends::{Ends, SCORED_ROWS_MAX};
use crate::error::LoadError;
use crate::layers::LayerShard;
use crate::llama::{self, Context, ContextOptions, Loading, Model, TapNames, ThreadPool};
use crate::whole::Whole;

/// How the engine computes.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that compute, the caller's among them.
    ///
    /// Leave a core to the rest of the phone: more threads than free cores make every token wait for the scheduler.
    pub n_threads: u32,
}

/// How a shard is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Positions per sequence; llama.cpp rounds up to a multiple of 256.
    pub n_ctx: u32,
    /// Sequences, each with a cache of `n_ctx` positions.
    pub n_sequences: u32,
    /// Tokens per step at most.
    pub n_batch: u32,
    /// Bytes that weights, cache and buffers may take; `None` asks nobody.
    pub memory_budget_bytes: Option<u64>,
    /// Whether weights may be kept a second time, in a layout that computes faster.
    ///
    /// llama.cpp does so with some quantisations (Q4_0 among them), and so nearly doubles what they take.
    pub repack: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            n_ctx: 2048,
            n_sequences: 1,
            n_batch: 128,
            memory_budget_bytes: None,
            repack: true,
        }
    }
}

/// llama.cpp, set up, with the threads that all shards share.
#[derive(Clone)]
pub struct Engine {
    pool: Arc<ThreadPool>,
}

impl Engine {
    /// Sets llama.cpp up, where that has not been done, and starts the threads.
    pub fn new(options: EngineOptions) -> Self {
        llama::init();

        Self { pool: Arc::new(ThreadPool::new(options.n_threads)) }
    }

    /// Loads a whole model into plain llama.cpp: what tests and benchmarks compare with.
    ///
    /// # Errors
    ///
    /// As [`Engine::load_layers`], but for those about shards.
    pub fn load_whole(
        &self,
        path: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Whole, LoadError> {
        let model = self.load_model(path, options, progress)?;
        let plain = ContextOptions {
            n_ctx: options.n_ctx,
            n_sequences: 1,
            n_batch: options.n_batch,
            n_wanted_max: 0,
            tap: TapNames::default(),
            pin_attention: false,
        };
        let context = self.new_context(path, &model, &plain)?;

        Ok(Whole { context, model, n_ctx: options.n_ctx, n_batch: options.n_batch, n_positions: 0 })
    }

    fn load_model(
        &self,
        path: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Arc<Model>, LoadError> {
        let (model, reason) = llama::first_error(|| Model::load(path, options.repack, progress));

        match model {
            Ok(model) => Ok(Arc::new(model)),
            Err(Loading::Cancelled) => Err(LoadError::Cancelled),
            Err(Loading::Refused) => Err(LoadError::Backend { path: path.to_owned(), reason }),
        }
    }

    fn new_context(
        &self,
        path: &Path,
        model: &Arc<Model>,
        options: &ContextOptions,
    ) -> Result<Context, LoadError> {
        let new = || Context::new(Arc::clone(model), Arc::clone(&self.pool), options);
        let (context, reason) = llama::first_error(new);

        context.ok_or_else(|| LoadError::Backend { path: path.to_owned(), reason })
    }
}

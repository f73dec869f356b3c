//! Where models come from: files in, shards out.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use gguf_tools::{Architecture, Entry, Gguf, Manifest, ShardEntry, ShardKind};

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
    /// Leave a core to the rest of the phone: more threads than free cores make every token wait
    /// for the scheduler.
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
    /// llama.cpp does so with some quantisations (Q4_0 among them), and so nearly doubles what they
    /// take.
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

/// What a context takes beside weights and cache: the buffers of its graph, for each 128 tokens of
/// a step.
///
/// Measured on SmolLM2-135M and Gemma 3 270M, `examples/overhead.rs`.
const CONTEXT_BYTES: u64 = 6 << 20;

impl LoadOptions {
    /// Returns what a shard takes in memory when it is loaded with these options.
    pub fn needed_bytes(&self, entry: &ShardEntry) -> u64 {
        let n_positions = u64::from(self.n_ctx.next_multiple_of(256)) * u64::from(self.n_sequences);
        let kv_bytes = entry.kv_bytes_per_token.saturating_mul(n_positions);
        let buffer_bytes = CONTEXT_BYTES * u64::from(self.n_batch.div_ceil(128));

        entry
            .bytes
            .saturating_add(kv_bytes)
            .saturating_add(buffer_bytes)
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

        Self {
            pool: Arc::new(ThreadPool::new(options.n_threads)),
        }
    }

    /// Loads a shard of layers.
    ///
    /// `progress` is called with the part that is done, from 0 to 1, and stops the load by
    /// [`ControlFlow::Break`].
    ///
    /// # Errors
    ///
    /// - [`LoadError::OutOfMemory`] if weights, cache and buffers exceed `memory_budget_bytes`
    /// - [`LoadError::Unreadable`] if the file is no GGUF, or cut short
    /// - [`LoadError::WrongLayers`] if it does not hold as many layers as the entry says
    /// - [`LoadError::WrongModel`] if it is of another model than the manifest
    /// - [`LoadError::Backend`] if llama.cpp refuses it, or has no memory
    /// - [`LoadError::Cancelled`]
    ///
    /// Hashes are not checked: the node does so when a shard arrives.
    ///
    /// # Panics
    ///
    /// If the entry is that of the ends.
    ///
    /// # Blocking
    ///
    /// Maps the file and reads it once: as long as the disk takes. May be called from another
    /// thread than the one that runs shards.
    pub fn load_layers(
        &self,
        path: &Path,
        manifest: &Manifest,
        entry: &ShardEntry,
        options: &LoadOptions,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<LayerShard, LoadError> {
        let ShardKind::Layers(layers) = entry.kind else {
            panic!("the ends are loaded by `load_ends`");
        };
        check_budget(entry, options)?;
        let found = check_file(path, manifest)?;
        if found != layers.len() {
            return Err(LoadError::WrongLayers {
                path: path.to_owned(),
                found,
                wanted: layers,
            });
        }

        let model = self.load_model(path, options, progress)?;
        let context = self.new_context(
            path,
            &model,
            &ContextOptions {
                n_ctx: options.n_ctx,
                n_sequences: options.n_sequences,
                n_batch: options.n_batch,
                n_wanted_max: 0,
                tap: layer_taps(manifest.architecture, layers.len()),
                pin_attention: true,
            },
        )?;
        let n_positions = vec![0; options.n_sequences as usize];

        Ok(LayerShard {
            context,
            model,
            n_ctx: options.n_ctx,
            n_batch: options.n_batch,
            n_positions,
        })
    }

    /// Loads the ends.
    ///
    /// Of the options, `n_batch`, `memory_budget_bytes` and `repack` count: the ends have no cache
    /// to speak of.
    ///
    /// # Errors
    ///
    /// As [`Engine::load_layers`].
    pub fn load_ends(
        &self,
        path: &Path,
        manifest: &Manifest,
        options: &LoadOptions,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Ends, LoadError> {
        let options = LoadOptions {
            n_ctx: options.n_batch,
            n_sequences: 1,
            ..options.clone()
        };
        check_budget(&manifest.ends, &options)?;
        check_file(path, manifest)?;

        let model = self.load_model(path, &options, progress)?;
        let embedder = self.new_context(
            path,
            &model,
            &ContextOptions {
                n_ctx: options.n_batch,
                n_sequences: 1,
                n_batch: options.n_batch,
                n_wanted_max: 1,
                tap: embedder_taps(manifest.architecture),
                pin_attention: true,
            },
        )?;
        let scorer = self.new_context(
            path,
            &model,
            &ContextOptions {
                n_ctx: SCORED_ROWS_MAX,
                n_sequences: 1,
                n_batch: SCORED_ROWS_MAX,
                n_wanted_max: 0,
                tap: scorer_taps(manifest.architecture),
                pin_attention: true,
            },
        )?;
        let template = chat_template(&model);

        Ok(Ends {
            embedder,
            scorer,
            model,
            template,
            n_batch: options.n_batch,
        })
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

        Ok(Whole {
            context,
            model,
            n_ctx: options.n_ctx,
            n_batch: options.n_batch,
            n_positions: 0,
        })
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
            Err(Loading::Refused) => Err(LoadError::Backend {
                path: path.to_owned(),
                reason,
            }),
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

        context.ok_or_else(|| LoadError::Backend {
            path: path.to_owned(),
            reason,
        })
    }
}

/// Checks that a shard fits into what the options allow.
fn check_budget(entry: &ShardEntry, options: &LoadOptions) -> Result<(), LoadError> {
    let needed_bytes = options.needed_bytes(entry);
    match options.memory_budget_bytes {
        Some(free_bytes) if needed_bytes > free_bytes => Err(LoadError::OutOfMemory {
            needed_bytes,
            free_bytes,
        }),
        _ => Ok(()),
    }
}

/// Reads a shard file's header; returns how many layers it has.
///
/// llama.cpp ends the process over some wrong files, so ours looks first.
fn check_file(path: &Path, manifest: &Manifest) -> Result<u32, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let differs = |key, found: &dyn ToString, wanted: &dyn ToString| {
        let (path, found, wanted) = (path.to_owned(), found.to_string(), wanted.to_string());
        LoadError::WrongModel {
            path,
            key,
            found,
            wanted,
        }
    };
    let gguf = Gguf::open(path).map_err(unreadable)?;

    let (found, wanted) = (
        gguf.text("general.architecture").map_err(unreadable)?,
        manifest.architecture.name(),
    );
    if found != wanted {
        return Err(differs("general.architecture", &found, &wanted));
    }
    let n_embd = gguf
        .number(&format!("{wanted}.embedding_length"))
        .map_err(unreadable)?;
    if n_embd != manifest.n_embd {
        return Err(differs("embedding_length", &n_embd, &manifest.n_embd));
    }

    gguf.number(&format!("{wanted}.block_count"))
        .map_err(unreadable)
}

/// Where a layer shard is entered and left.
fn layer_taps(architecture: Architecture, n_layers: u32) -> TapNames {
    let entry = match architecture.entry() {
        Entry::Embeddings => None,
        Entry::Overwrite { layers, .. } => Some(layers.to_owned()),
    };

    TapNames {
        entry,
        exit: Some(architecture.layer_output_name(n_layers - 1)),
    }
}

/// Where the embedder is left: at the first layer's input, which llama.cpp names differently by
/// architecture.
///
/// Any later node would do for the values, but the layer's own output has only the wanted rows, and
/// llama.cpp copies the logits of as many.
fn embedder_taps(architecture: Architecture) -> TapNames {
    let exit = match (architecture.entry(), architecture) {
        (Entry::Overwrite { layers, .. }, _) => layers,
        (Entry::Embeddings, Architecture::Gemma3) => "inp_scaled",
        (Entry::Embeddings, _) => "embd",
    };

    TapNames {
        entry: None,
        exit: Some(exit.to_owned()),
    }
}

/// Where hidden states enter the ends to become logits.
fn scorer_taps(architecture: Architecture) -> TapNames {
    let entry = match architecture.entry() {
        Entry::Embeddings => None,
        Entry::Overwrite { ends, .. } => Some(ends.to_owned()),
    };

    TapNames { entry, exit: None }
}

/// Returns the model's chat template, with the texts of the tokens that templates name.
fn chat_template(model: &Model) -> ChatTemplate {
    let name = |token: Option<_>| {
        token
            .map(|token| model.token_name(token))
            .unwrap_or_default()
    };

    ChatTemplate::new(model.chat_template(), name(model.bos()), name(model.eos()))
}

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
use crate::repack::repacked_bytes;
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

/// What a context takes beside weights and cache, for each 128 tokens of a step.
///
/// Measured: 3.9 MB for a one-layer shard of SmolLM2-135M, 5.4 MB for a two-layer shard of a
/// Llama-1B shape. While it computes a step of 128 tokens, the latter takes 17 MB more.
const CONTEXT_BYTES: u64 = 6 << 20;

/// What a step needs while it runs, for each value of its hidden state.
///
/// Measured: 17 MB for 128 rows of a Llama-1B shape (2,048 wide), which is 65 B; rounded up.
const SCRATCH_BYTES_PER_VALUE: u64 = 72;

impl LoadOptions {
    /// Returns what a shard takes in memory when it is loaded with these options.
    ///
    /// The ends keep no sequence: their cache has room for one step. `repacked_bytes` is what
    /// llama.cpp keeps a second time if it may ([`repacked_bytes`](crate::repacked_bytes) of the
    /// file).
    pub fn needed_bytes(&self, entry: &ShardEntry, repacked_bytes: u64) -> u64 {
        let (n_ctx, n_sequences) = match entry.kind {
            ShardKind::Layers(_) => (self.n_ctx, self.n_sequences),
            ShardKind::Ends => (self.n_batch, 1),
        };
        let n_ctx = u64::from(n_ctx).next_multiple_of(256);
        let n_positions = n_ctx * u64::from(n_sequences);
        let kv_bytes = entry.kv_bytes_per_token.saturating_mul(n_positions);
        let second_copy = if self.repack { repacked_bytes } else { 0 };

        entry
            .bytes
            .saturating_add(second_copy)
            .saturating_add(kv_bytes)
            .saturating_add(self.context_bytes())
    }

    /// Returns what a phone needs while it computes a step, and gives back after it, for a hidden
    /// state of this width.
    pub fn scratch_bytes(&self, n_embd: u32) -> u64 {
        SCRATCH_BYTES_PER_VALUE * u64::from(n_embd) * u64::from(self.n_batch)
    }

    /// Returns what a context takes beside weights and cache.
    pub fn context_bytes(&self) -> u64 {
        CONTEXT_BYTES * u64::from(self.n_batch.div_ceil(128))
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

    /// Computes with half of the threads from the next step on, or with all of them again. What is loaded stays.
    pub fn spare(&self, is_spared: bool) {
        self.pool.spare(is_spared);
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
    /// - [`LoadError::Backend`] if llama.cpp refuses it or the options, or has no memory
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
        let (gguf, found) = check_file(path, manifest)?;
        let needed_bytes = check_budget(entry, &gguf, options)?;
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
            needed_bytes,
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
        let (gguf, _) = check_file(path, manifest)?;
        let needed_bytes = check_budget(&manifest.ends, &gguf, options)?;

        let model = self.load_model(path, options, progress)?;
        self.ends_of(path, model, manifest.architecture, options, needed_bytes)
    }

    /// Makes the two contexts of the ends.
    pub(crate) fn ends_of(
        &self,
        path: &Path,
        model: Arc<Model>,
        architecture: Architecture,
        options: &LoadOptions,
        needed_bytes: u64,
    ) -> Result<Ends, LoadError> {
        let embedder = self.new_context(
            path,
            &model,
            &ContextOptions {
                n_ctx: options.n_batch,
                n_sequences: 1,
                n_batch: options.n_batch,
                n_wanted_max: 1,
                tap: embedder_taps(architecture),
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
                tap: scorer_taps(architecture),
                pin_attention: true,
            },
        )?;
        let template = chat_template(&model);

        Ok(Ends {
            needed_bytes,
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

    pub(crate) fn load_model(
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

    pub(crate) fn new_context(
        &self,
        path: &Path,
        model: &Arc<Model>,
        options: &ContextOptions,
    ) -> Result<Context, LoadError> {
        let new = || Context::new(Arc::clone(model), Arc::clone(&self.pool), options);
        let (context, reason) = llama::first_error(new);

        let path = path.to_owned();
        context.ok_or(LoadError::Backend { path, reason })
    }
}

/// Checks that a shard fits into what the options allow, and returns what it needs.
fn check_budget(entry: &ShardEntry, gguf: &Gguf, options: &LoadOptions) -> Result<u64, LoadError> {
    let needed_bytes = options.needed_bytes(entry, repacked_bytes(gguf));
    match options.memory_budget_bytes {
        Some(free_bytes) if needed_bytes > free_bytes => Err(LoadError::OutOfMemory {
            needed_bytes,
            free_bytes,
        }),
        _ => Ok(needed_bytes),
    }
}

/// Reads a shard file's header; returns it, and how many layers it has.
///
/// llama.cpp ends the process over some wrong files, so ours looks first.
fn check_file(path: &Path, manifest: &Manifest) -> Result<(Gguf, u32), LoadError> {
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

    let n_layers = gguf.number(&format!("{wanted}.block_count"));
    let n_layers = n_layers.map_err(unreadable)?;

    Ok((gguf, n_layers))
}

/// Where a layer shard is entered and left.
pub(crate) fn layer_taps(architecture: Architecture, n_layers: u32) -> TapNames {
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

#[cfg(test)]
mod tests {
    use gguf_tools::{LayerRange, ShardHash};

    use super::*;

    /// A phone that loads the ends and then layers must not be charged for a cache that the ends lack.
    #[test]
    fn only_layers_keep_sequences() {
        let layers = ShardKind::Layers(LayerRange::new(0, 1).expect("one layer"));
        let options = |n_ctx, n_sequences| LoadOptions {
            n_ctx,
            n_sequences,
            ..LoadOptions::default()
        };
        let grows = |kind| {
            let entry = entry(kind);
            options(4096, 4).needed_bytes(&entry, 0) - options(256, 1).needed_bytes(&entry, 0)
        };

        assert_eq!(grows(ShardKind::Ends), 0);
        assert_eq!(grows(layers), 128 * (4 * 4096 - 256));
    }

    fn entry(kind: ShardKind) -> ShardEntry {
        ShardEntry {
            kind,
            bytes: 1 << 20,
            hash: ShardHash([0; 32]),
            chunks: Vec::new(),
            kv_bytes_per_token: 128,
        }
    }
}

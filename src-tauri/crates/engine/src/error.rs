//! What can go wrong, by what a caller would do about it.

use std::path::PathBuf;

use gguf_tools::LayerRange;

use crate::llama::DecodeError;

/// Why a shard could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The shard and its KV cache do not fit.
    #[error("the shard needs {needed_bytes} B, {free_bytes} B are free")]
    OutOfMemory {
        /// Weights, KV cache and buffers together.
        needed_bytes: u64,
        /// What the phone can spare.
        free_bytes: u64,
    },
    /// The file is no GGUF, or is damaged.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Shard file.
        path: PathBuf,
        /// What is wrong with it.
        source: gguf_tools::ReadError,
    },
    /// The file does not hold as many layers as the plan says.
    #[error("{} holds {found} layers, the plan says {wanted}", path.display())]
    WrongLayers {
        /// Shard file.
        path: PathBuf,
        /// Layers in the file.
        found: u32,
        /// Layers in the plan.
        wanted: LayerRange,
    },
    /// The file is for another model than the manifest is.
    #[error("{} is for another model: {key} is {found} where the manifest says {wanted}", path.display())]
    WrongModel {
        /// Shard file.
        path: PathBuf,
        /// What differs.
        key: &'static str,
        /// Value in the file.
        found: String,
        /// Value in the manifest.
        wanted: String,
    },
    /// llama.cpp refused the file.
    #[error("llama.cpp could not load {}: {reason}", path.display())]
    Backend {
        /// Shard file.
        path: PathBuf,
        /// The first error that llama.cpp logged.
        reason: String,
    },
    /// The progress function said stop.
    #[error("loading was cancelled")]
    Cancelled,
}

/// Why a step could not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The step does not begin where the KV cache ends.
    #[error(
        "step starts at position {position} of sequence {sequence}, its cache ends at {cached}"
    )]
    Gap {
        /// Sequence of the step.
        sequence: u32,
        /// First position of the step.
        position: u32,
        /// Positions in the cache.
        cached: u32,
    },
    /// The sequence is full.
    #[error("{position} + {n_tokens} tokens of sequence {sequence} exceed the context of {n_ctx}")]
    CacheFull {
        /// Sequence of the step.
        sequence: u32,
        /// First position of the step.
        position: u32,
        /// Tokens in the step.
        n_tokens: u32,
        /// Positions that a sequence can hold.
        n_ctx: u32,
    },
    /// The shard has fewer sequences.
    #[error("there is no sequence {sequence}, only {n_sequences}")]
    UnknownSequence {
        /// Sequence that was asked for.
        sequence: u32,
        /// Sequences that there are, from 0.
        n_sequences: u32,
    },
    /// The input is not as long as the step says, or longer than a step may be.
    #[error("the step has {found} values where {wanted} are wanted")]
    WrongShape {
        /// Length of what was given.
        found: usize,
        /// Length or limit that was expected.
        wanted: usize,
    },
    /// Layers with a sliding window no longer hold what the positions before this one looked at.
    #[error(
        "sequence {sequence} cannot go back to position {position}: its window starts at {first}"
    )]
    WindowLost {
        /// Sequence that was to be truncated.
        sequence: u32,
        /// Where it was to end.
        position: u32,
        /// First position that the cache still holds.
        first: u32,
    },
    /// The bytes are no cache of this shard.
    #[error("the bytes are not a cache of this shard with room in {n_ctx} positions")]
    WrongCache {
        /// Positions that a sequence can hold.
        n_ctx: u32,
    },
    /// The token is not in the vocabulary.
    #[error("there is no token {token}, only {n_vocab}")]
    UnknownToken {
        /// Token that was asked for.
        token: i32,
        /// Tokens that there are, from 0.
        n_vocab: usize,
    },
    /// llama.cpp failed; the sequences are as they were before the step.
    #[error("llama.cpp failed with status {status}")]
    Backend {
        /// What `llama_decode` returned.
        status: i32,
    },
    /// The model's graph has no such entry or exit: the file is not a shard, or llama.cpp has
    /// changed.
    #[error("the model's graph is not that of a shard")]
    WrongGraph,
}

impl From<DecodeError> for RunError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Llama(status) => Self::Backend { status },
            DecodeError::Tap => Self::WrongGraph,
        }
    }
}

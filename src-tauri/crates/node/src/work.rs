//! A model file as what a leader is asked to run.
//!
//! A [`Cutting`] is what is slow: it reads and hashes the whole file, once for each way to cut it. [`Cutting::work`] is
//! what is quick, and different for every group.

use std::path::Path;
use std::sync::Arc;

use gguf_tools::{Manifest, Sample};
use proto::placement::Objective;
use proto::plan::{ActivationType, PlanError, Sizes};
use proto::planning::{Rule, Work};

use crate::measure;
use crate::model_file::{self, ModelFileError};

/// Shards that a model is cut into for a group: enough to share among unequal phones, few enough that
/// their overhead (45 µs each and step) stays below the noise.
const SHARDS: u32 = 16;

/// Positions of each conversation's context: some ten questions with their answers. A guess.
pub const CONTEXT_TOKENS: u32 = 2048;

/// Conversations whose caches are kept: as many as a small group has people. A guess.
pub const CONVERSATIONS: u32 = 4;

/// Tokens in a prefill chunk: 64 to 128 keep kernels efficient (`DESIGN`, 5).
pub const CHUNK_TOKENS: u32 = 128;

/// Tokens of the prompt that plans are made for: a question with some of what was said before.
pub const PROMPT_TOKENS: u32 = 256;

/// Storage for neighbours' shards if nothing is said: those of both neighbours of a model of 3 GB on three phones
/// would take 2 GB; a guess at what people do not miss.
pub const SPARE_BYTES: u64 = 1 << 30;

/// Returns the shards to cut a model into, for so many phones.
///
/// A phone alone needs no boundary to move, and every shard costs a little.
pub fn n_shards(n_phones: u32) -> u32 {
    if n_phones == 1 {
        1
    } else {
        SHARDS.max(n_phones)
    }
}

/// Returns what models are run with if nothing is said.
pub const fn sizes() -> Sizes {
    Sizes {
        n_ctx: CONTEXT_TOKENS,
        n_sequences: CONVERSATIONS,
        chunk_tokens: CHUNK_TOKENS,
        activation: ActivationType::F32,
        relay_headers: false,
    }
}

/// How a group is to run a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Phones that are waited for before the first plan is made.
    pub n_phones: u32,
    /// What the model is run with.
    pub sizes: Sizes,
    /// Which placement is wanted.
    pub rule: Rule,
    /// Storage that each phone may fill with its neighbours' shards.
    pub flash_quota_bytes: u64,
}

impl Wish {
    /// What is wished for if nothing is said.
    pub fn of(n_phones: u32) -> Self {
        Self {
            n_phones,
            sizes: sizes(),
            rule: Rule::Best(Objective::Latency),
            flash_quota_bytes: SPARE_BYTES,
        }
    }
}

/// A model's file, cut and hashed.
#[derive(Debug, Clone)]
pub struct Cutting {
    /// What the model is.
    pub manifest: Arc<Manifest>,
    /// What phones measure themselves with.
    pub sample: Arc<Sample>,
}

impl Cutting {
    /// Cuts a model into about `n_shards` shards and hashes them. Calls `progress` with the bytes newly hashed.
    ///
    /// # Errors
    ///
    /// Any [`ModelFileError`].
    ///
    /// # Blocking
    ///
    /// Reads the whole model: about a second per GB, and what the disk takes.
    pub fn of(
        path: &Path,
        n_shards: u32,
        progress: impl FnMut(u64),
    ) -> Result<Self, ModelFileError> {
        let gguf = model_file::open(path)?;
        let cut = model_file::cut(&gguf, path, n_shards)?;
        let sample = Sample::of(&gguf).map_err(|source| ModelFileError::Refused {
            path: path.into(),
            source,
        })?;

        Ok(Self {
            manifest: Arc::new(cut.manifest(progress)),
            sample: Arc::new(sample),
        })
    }

    /// Returns what is to be run.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if the model cannot be shared by so many phones, or not with these sizes.
    pub fn work(&self, wish: &Wish) -> Result<Work, PlanError> {
        let work = Work {
            manifest: Arc::clone(&self.manifest),
            sample: Arc::clone(&self.sample),
            sizes: wish.sizes,
            n_phones: wish.n_phones as usize,
            rule: wish.rule,
            prompt_tokens: PROMPT_TOKENS,
            costs: measure::costs(self.manifest.n_embd, &wish.sizes),
            flash_quota_bytes: wish.flash_quota_bytes,
        };
        work.validate()?;

        Ok(work)
    }
}

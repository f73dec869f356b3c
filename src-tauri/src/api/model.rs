//! Models, and what they take of this phone.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{PhoneId, Problem};

/// A model: the hash of its file. Opaque to the screen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
pub struct ModelId(pub String);

/// A model that can be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// What people call it.
    pub name: String,
    /// Who made it, e.g. `Hugging Face`.
    pub maker: String,
    /// e.g. `llama`.
    pub architecture: String,
    /// e.g. `Q4_0`.
    pub quantisation: String,
    /// e.g. `Apache-2.0`; empty if not known.
    pub licence: String,
    /// Weights.
    pub parameters: u64,
    /// Layers.
    pub n_layers: u32,
    /// Longest conversation it was made for.
    pub context_tokens: u32,
    /// Its file.
    pub file_bytes: u64,
    /// Memory to run it whole with the planned context.
    pub needed_bytes: u64,
    /// Two-letter codes.
    pub languages: Vec<String>,
    /// A person brought it.
    pub imported: bool,
    /// Whether it can be downloaded, once more if it is removed.
    pub offered: bool,
    /// Where it is.
    pub availability: ModelAvailability,
    /// Whether this phone can run it alone.
    pub fits_here: Fit,
    /// Null without a group.
    pub fits_group: Option<Fit>,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelAvailability {
    /// Nowhere near.
    NotHere,
    /// It is coming.
    Downloading {
        /// Bytes that are here.
        done_bytes: u64,
        /// How fast it comes.
        rate_bytes_s: f64,
    },
    /// It is copied, from where it cannot be used. Of no known length, if `file_bytes` is 0.
    Copying {
        /// Bytes that are here.
        done_bytes: u64,
        /// How fast it is copied.
        rate_bytes_s: f64,
    },
    /// A part of it is here.
    Paused {
        /// How much.
        done_bytes: u64,
    },
    /// It is read, to see that it is what it should be.
    Checking {
        /// Bytes that were read.
        done_bytes: u64,
    },
    /// It cannot be had.
    Failed {
        /// Why.
        problem: Problem,
    },
    /// On this phone.
    Here,
    /// Not on this phone, but on one of the group.
    InGroup {
        /// On which.
        phone: PhoneId,
    },
}

/// Whether a model can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fit {
    /// With room to spare.
    Fits,
    /// With little room to spare.
    Tight,
    /// It needs more memory than there is.
    TooBig {
        /// How much more.
        missing_bytes: u64,
    },
    /// We do not know how to run it.
    Unsupported {
        /// What it is.
        architecture: String,
    },
}

/// What became of bringing a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ImportResult {
    /// It is here.
    Imported {
        /// Its id.
        model: ModelId,
    },
    /// Nothing was chosen, or copying it was stopped.
    Cancelled,
}

/// What the app takes of this phone's storage.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Storage {
    /// Models and shards of this phone.
    pub models_bytes: u64,
    /// Neighbours' shards, kept so that a boundary moves without transfer.
    pub shards_bytes: u64,
    /// Conversations.
    pub conversations_bytes: u64,
    /// Storage that is free.
    pub free_bytes: u64,
    /// What the app may use for models and shards.
    pub quota_bytes: u64,
}

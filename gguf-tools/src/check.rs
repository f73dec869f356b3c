//! Is this file the shard that the manifest says it is?
//!
//! [`verify_file`](crate::verify_file) compares bytes with hashes. But the hashes come from the
//! phone that made the manifest, and a hostile one could list files over which llama.cpp ends the
//! process. [`Manifest::check_shard`] looks at what is in a shard before llama.cpp does.

use crate::manifest::{Manifest, ShardEntry};
use crate::model::Model;
use crate::reader::Gguf;
use crate::refusal::Refusal;
use crate::shard::ShardKind;

/// Why a file is not the shard that the manifest says it is.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file could not have been made by cutting a model.
    #[error("no cut makes such a shard: {0}")]
    Refused(#[from] Refusal),
    /// The file is for another model, or for other layers.
    #[error("{what} is {found} in the shard, the manifest says {wanted}")]
    Differs {
        /// What differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What the manifest says.
        wanted: String,
    },
}

impl Manifest {
    /// Checks that `shard` holds what `entry` of this manifest says.
    ///
    /// # Errors
    ///
    /// - [`ShardError::Refused`] if the file is not a model as cutting makes them
    /// - [`ShardError::Differs`] with the first number that differs
    ///
    /// # Blocking
    ///
    /// Milliseconds; for the ends of a model with 262,144 tokens a tenth of a second.
    pub fn check_shard(&self, entry: &ShardEntry, shard: &Gguf) -> Result<(), ShardError> {
        let model = Model::read(shard)?;
        let (n_layers, n_vocab) = match entry.kind {
            ShardKind::Ends => (1, self.n_vocab),
            ShardKind::Layers(range) => (range.len(), 1),
        };
        let kv_bytes = model.heads.kv_bytes_per_token() * u64::from(n_layers);

        same("the architecture", model.architecture, self.architecture)?;
        same("the number of layers", model.n_layers, n_layers)?;
        same("the width of the hidden state", model.n_embd, self.n_embd)?;
        same("the number of tokens", model.n_vocab, n_vocab)?;
        same(
            "the bytes of cache per token",
            kv_bytes,
            entry.kv_bytes_per_token,
        )
    }
}

fn same<T: PartialEq + ToString>(
    what: &'static str,
    found: T,
    wanted: T,
) -> Result<(), ShardError> {
    if found == wanted {
        return Ok(());
    }

    Err(ShardError::Differs {
        what,
        found: found.to_string(),
        wanted: wanted.to_string(),
    })
}

//! The model file of a phone that has one.

use std::path::{Path, PathBuf};

use gguf_tools::{Cut, Gguf, Manifest, ReadError, Refusal, ShardEntry};

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The model file cannot be read.
    #[error("cannot read the model {}: {source}", path.display())]
    Model {
        /// The model's file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The model cannot be cut.
    #[error("cannot cut the model {}: {source}", path.display())]
    Refused {
        /// The model's file.
        path: PathBuf,
        /// Why.
        source: Refusal,
    },
}

/// Opens a model.
///
/// # Errors
///
/// [`ModelFileError::Model`] if the file is no sound GGUF.
pub fn open(path: &Path) -> Result<Gguf, ModelFileError> {
    Gguf::open(path).map_err(|source| ModelFileError::Model {
        path: path.into(),
        source,
    })
}

/// Cuts a model into about `n_shards` shards.
///
/// # Errors
///
/// [`ModelFileError::Refused`] if the model, which is the one at `path`, is none that can be cut.
pub fn cut(gguf: &Gguf, path: &Path, n_shards: u32) -> Result<Cut, ModelFileError> {
    Cut::about(gguf, n_shards).map_err(|source| ModelFileError::Refused {
        path: path.into(),
        source,
    })
}

/// Opens a model and cuts it into about `n_shards` shards.
///
/// # Errors
///
/// Any [`ModelFileError`].
pub fn open_and_cut(path: &Path, n_shards: u32) -> Result<Cut, ModelFileError> {
    cut(&open(path)?, path, n_shards)
}

/// Returns whether a cut may be the manifest's model: its shards are as long. Whether they have the manifest's bytes
/// shows when they are read.
pub fn may_be(cut: &Cut, manifest: &Manifest) -> bool {
    let is_as_long = |entry: &ShardEntry| {
        let mut shards = cut.shards().iter();
        shards.any(|shard| shard.kind() == entry.kind && shard.len_bytes() == entry.bytes)
    };

    manifest.shards().all(is_as_long)
}

/// Opens a model and cuts it where a manifest says. Whether it has the manifest's bytes shows when they are read.
///
/// # Errors
///
/// Any [`ModelFileError`], for instance if it is another model that has not these layers.
pub fn cut_as(path: &Path, manifest: &Manifest) -> Result<Cut, ModelFileError> {
    let ranges = manifest.layers.iter().filter_map(ShardEntry::layers);

    Cut::new(&open(path)?, &ranges.collect::<Vec<_>>()).map_err(|source| ModelFileError::Refused {
        path: path.into(),
        source,
    })
}

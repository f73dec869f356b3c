//! The manifest: what a model is, shard by shard, so that anybody can check what arrives.
//!
//! It is made once by the phone that has the model, and travels to the others, any of which may be
//! hostile: [`Manifest::validate`] comes before everything else that is done with one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arch::Architecture;
use crate::cut::Cut;
use crate::hash::{ChunkHash, ModelHash, ShardHash};
use crate::layers::LayerRange;
use crate::model::{LAYERS_MAX, N_EMBD_MAX, N_VOCAB_MAX};
use crate::shard::{ShardKind, VirtualShard};

/// Bytes in a chunk, all but the last of a shard: the most that is received before it is checked.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Number of the manifest's own form.
pub const MANIFEST_VERSION: u32 = 1;

/// Largest shard accepted: 1 TiB, whose list of chunk hashes is 32 MiB.
const SHARD_BYTES_MAX: u64 = 1 << 40;

/// Smallest file that is a GGUF at all.
const SHARD_BYTES_MIN: u64 = 24;

/// Longest name accepted, in bytes; a guess, a line on a screen is shorter.
const NAME_BYTES_MAX: usize = 256;

/// Most dependencies accepted; a layer has fewer kinds of tensors.
const DEPENDENCIES_MAX: usize = 64;

/// Longest tensor name accepted, in bytes (`GGML_MAX_NAME` less its terminator).
const TENSOR_NAME_BYTES_MAX: usize = 63;

/// Most cache that a token may take in one layer: f16 keys and values as wide as the widest state.
const KV_BYTES_PER_TOKEN_AND_LAYER_MAX: u64 = 2 * 2 * N_EMBD_MAX as u64;

/// What a model is: its shards with sizes and hashes, and what they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The model's name for people.
    pub name: String,
    /// The architecture, which says how hidden states enter and leave a shard.
    pub architecture: Architecture,
    /// Layers of the whole model.
    pub n_layers: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Longest context that the model was trained on.
    pub n_ctx_train: u32,
    /// The ends.
    pub ends: ShardEntry,
    /// The layer shards, in order; together they hold every layer once.
    pub layers: Vec<ShardEntry>,
    /// What layers need beside the hidden state that enters them.
    pub dependencies: Vec<Dependency>,
}

/// One shard as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// What it holds.
    pub kind: ShardKind,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file.
    pub hash: ShardHash,
    /// Hash of each [`CHUNK_BYTES`] of the file, in order; the last may be shorter.
    pub chunks: Vec<ChunkHash>,
    /// Bytes that one token takes in its KV cache (f16).
    ///
    /// For the ends this is the cache of the identity layer, which may be cleared at any time.
    pub kv_bytes_per_token: u64,
}

/// What a layer needs beside the hidden state, by how it gets it.
///
/// These are the classes that the supported architectures use. A model that needs anything else,
/// such as token ids or another layer's output in the middle, is refused when it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// Every stage computes it from positions alone; nothing is sent.
    RecomputedLocally(Recomputed),
    /// A copy of a tensor outside of the layers lies in every layer shard.
    Replicated {
        /// Its name, in the model and in the shards.
        tensor: String,
        /// Bytes of each copy.
        bytes: u64,
    },
    /// These layers share state and must be on one phone.
    BoundTogether(LayerRange),
}

/// What can be recomputed from positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recomputed {
    /// Which tokens see which: causal, by session, sliding window.
    Masks,
    /// Biases by distance.
    Alibi,
    /// Rotation by position. Long-context factors are chosen by the size of the context, so every
    /// stage must use the same.
    Rope,
}

/// Why a manifest is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is of another version.
    #[error("manifest version {found} is not supported, {MANIFEST_VERSION} is")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A number or length is out of bounds.
    #[error("{what} is {found}, it must be from {min} to {max}")]
    OutOfBounds {
        /// What the number is.
        what: &'static str,
        /// The number.
        found: u64,
        /// The least accepted.
        min: u64,
        /// The most accepted.
        max: u64,
    },
    /// The ends are not the ends.
    #[error("the entry for the ends is for layers {found}")]
    EndsAreLayers {
        /// What the entry says.
        found: LayerRange,
    },
    /// The shards leave a gap, overlap or are out of order.
    #[error("a shard for {found} stands where one from layer {expected} was expected")]
    NotConsecutive {
        /// Layer at which the next shard should have started.
        expected: u32,
        /// What the entry says.
        found: ShardKind,
    },
    /// The shards do not end where the model ends.
    #[error("the shards end at layer {found}, the model has {n_layers} layers")]
    EndsEarly {
        /// Where they end.
        found: u32,
        /// Layers that the manifest claims.
        n_layers: u32,
    },
    /// The number of hashes does not fit the size.
    #[error("shard {kind} of {bytes} bytes should have {expected} chunk hashes, it has {found}")]
    ChunkCount {
        /// The shard.
        kind: ShardKind,
        /// Its size.
        bytes: u64,
        /// Chunks in that size.
        expected: u64,
        /// Hashes listed.
        found: u64,
    },
}

/// Why a file is not the shard that it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is of another size.
    #[error("{} has {found} bytes, the manifest says {expected}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// Its size according to the manifest.
        expected: u64,
    },
    /// Chunks are not what they should be.
    #[error("{} is damaged: {} of {n_chunks} chunks are wrong, the first is {}", path.display(), chunks.len(), chunks[0])]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Indices of the chunks, ascending; at least one.
        chunks: Vec<u32>,
        /// Chunks in the file.
        n_chunks: u32,
    },
    /// Every chunk is right and the whole is not: the manifest contradicts itself.
    #[error("{} does not have the hash that the manifest gives for the whole", path.display())]
    WholeHash {
        /// The file.
        path: PathBuf,
    },
}

impl Cut {
    /// Returns the size of all shards: what [`manifest`](Self::manifest) reads.
    pub fn len_bytes(&self) -> u64 {
        self.shards().iter().map(VirtualShard::len_bytes).sum()
    }

    /// Hashes every shard and returns the manifest. Calls `progress` with the bytes newly hashed.
    ///
    /// # Blocking
    ///
    /// Reads the whole model: about a second per GB, and what the disk takes.
    pub fn manifest(&self, mut progress: impl FnMut(u64)) -> Manifest {
        let mut entries = self
            .shards()
            .iter()
            .map(|shard| entry_of(shard, &mut progress));
        let ends = entries.next().expect("the first shard is the ends");

        Manifest {
            version: MANIFEST_VERSION,
            name: shorten(&self.model.name),
            architecture: self.model.architecture,
            n_layers: self.model.n_layers,
            n_embd: self.model.n_embd,
            n_vocab: self.model.n_vocab,
            n_ctx_train: self.model.n_ctx_train,
            ends,
            layers: entries.collect(),
            dependencies: self.dependencies().to_vec(),
        }
    }
}

fn entry_of(shard: &VirtualShard, progress: &mut dyn FnMut(u64)) -> ShardEntry {
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut whole = blake3::Hasher::new();
    let mut chunks = Vec::new();
    let mut at = 0;

    while at < shard.len_bytes() {
        let n = shard.read_at(at, &mut buffer);
        whole.update(&buffer[..n]);
        chunks.push(ChunkHash::of(&buffer[..n]));
        at += n as u64;
        progress(n as u64);
    }

    ShardEntry {
        kind: shard.kind(),
        bytes: shard.len_bytes(),
        hash: ShardHash(whole.finalize().into()),
        chunks,
        kv_bytes_per_token: shard.kv_bytes_per_token(),
    }
}

/// Cuts a name to the bytes that are accepted, between two characters.
fn shorten(name: &str) -> String {
    let fits = |end: &usize| name.is_char_boundary(*end);
    let end = (0..=name.len().min(NAME_BYTES_MAX)).rev().find(fits);

    name[..end.unwrap_or(0)].to_owned()
}

impl Manifest {
    /// Returns the hash of everything in the manifest.
    pub fn hash(&self) -> ModelHash {
        let bytes = postcard::to_allocvec(self).expect("plain data in memory can be encoded");

        ModelHash::of(&bytes)
    }

    /// Returns the entries of all shards: the ends, then the layers in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardEntry> {
        std::iter::once(&self.ends).chain(&self.layers)
    }

    /// Checks that the manifest is consistent and within bounds. Everything else relies on it.
    ///
    /// # Errors
    ///
    /// The first [`ManifestError`] that is found.
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.version != MANIFEST_VERSION {
            return Err(ManifestError::Version {
                found: self.version,
            });
        }
        let name_bytes = self.name.len() as u64;
        in_bounds(
            "the length of the name",
            name_bytes,
            0,
            NAME_BYTES_MAX as u64,
        )?;
        in_bounds("n_layers", self.n_layers.into(), 1, LAYERS_MAX.into())?;
        in_bounds("n_embd", self.n_embd.into(), 1, N_EMBD_MAX.into())?;
        in_bounds("n_vocab", self.n_vocab.into(), 1, N_VOCAB_MAX.into())?;
        in_bounds("n_ctx_train", self.n_ctx_train.into(), 1, u32::MAX.into())?;

        self.validate_shards()?;
        self.validate_dependencies()
    }

    fn validate_shards(&self) -> Result<(), ManifestError> {
        if let ShardKind::Layers(found) = self.ends.kind {
            return Err(ManifestError::EndsAreLayers { found });
        }
        self.ends.validate(1)?;

        let mut expected = 0;
        for entry in &self.layers {
            match entry.kind {
                ShardKind::Layers(range) if range.start() == expected => {
                    entry.validate(range.len())?;
                    expected = range.end();
                }
                found @ (ShardKind::Ends | ShardKind::Layers(_)) => {
                    return Err(ManifestError::NotConsecutive { expected, found });
                }
            }
        }

        if expected == self.n_layers {
            Ok(())
        } else {
            Err(ManifestError::EndsEarly {
                found: expected,
                n_layers: self.n_layers,
            })
        }
    }

    fn validate_dependencies(&self) -> Result<(), ManifestError> {
        let count = self.dependencies.len() as u64;
        in_bounds(
            "the number of dependencies",
            count,
            0,
            DEPENDENCIES_MAX as u64,
        )?;

        for dependency in &self.dependencies {
            match dependency {
                Dependency::RecomputedLocally(_) => {}
                Dependency::Replicated { tensor, bytes } => {
                    let len = tensor.len() as u64;
                    in_bounds(
                        "the length of a tensor's name",
                        len,
                        1,
                        TENSOR_NAME_BYTES_MAX as u64,
                    )?;
                    in_bounds("the bytes of a tensor", *bytes, 1, SHARD_BYTES_MAX)?;
                }
                Dependency::BoundTogether(range) => {
                    let end = u64::from(range.end());
                    in_bounds("the end of bound layers", end, 1, self.n_layers.into())?;
                }
            }
        }

        Ok(())
    }
}

impl ShardEntry {
    /// Returns the layers that the shard holds; `None` for the ends.
    pub fn layers(&self) -> Option<LayerRange> {
        match self.kind {
            ShardKind::Layers(layers) => Some(layers),
            ShardKind::Ends => None,
        }
    }

    /// Returns the bytes of chunk `index`, or `None` if there is no such chunk.
    pub fn chunk_bytes(&self, index: u32) -> Option<u64> {
        let start = u64::from(index) * CHUNK_BYTES;

        (start < self.bytes).then(|| CHUNK_BYTES.min(self.bytes - start))
    }

    fn validate(&self, n_layers: u32) -> Result<(), ManifestError> {
        in_bounds(
            "the size of a shard",
            self.bytes,
            SHARD_BYTES_MIN,
            SHARD_BYTES_MAX,
        )?;
        let kv_max = KV_BYTES_PER_TOKEN_AND_LAYER_MAX * u64::from(n_layers);
        in_bounds("kv_bytes_per_token", self.kv_bytes_per_token, 1, kv_max)?;

        let expected = self.bytes.div_ceil(CHUNK_BYTES);
        let found = self.chunks.len() as u64;
        if found != expected {
            return Err(ManifestError::ChunkCount {
                kind: self.kind,
                bytes: self.bytes,
                expected,
                found,
            });
        }

        Ok(())
    }
}

fn in_bounds(what: &'static str, found: u64, min: u64, max: u64) -> Result<(), ManifestError> {
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(ManifestError::OutOfBounds {
            what,
            found,
            min,
            max,
        })
    }
}

/// Checks that the file at `path` is the shard that `entry` describes. Calls `progress` with the
/// bytes newly checked.
///
/// # Errors
///
/// - [`VerifyError::Size`] before anything is read, if the size is another
/// - [`VerifyError::Corrupt`] with every wrong chunk, so that only those need be fetched again
/// - [`VerifyError::Io`] if the file cannot be read
///
/// # Blocking
///
/// About a second per GB, and what the disk takes.
pub fn verify_file(
    entry: &ShardEntry,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), VerifyError> {
    let io_error = |source| VerifyError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io_error)?;
    let found = file.metadata().map_err(io_error)?.len();
    if found != entry.bytes {
        return Err(VerifyError::Size {
            path: path.to_owned(),
            found,
            expected: entry.bytes,
        });
    }

    let mut whole = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(CHUNK_BYTES as usize);
    let mut wrong = Vec::new();
    for (index, expected) in (0..).zip(&entry.chunks) {
        buffer.clear();
        let mut chunk = file.by_ref().take(CHUNK_BYTES);
        chunk.read_to_end(&mut buffer).map_err(io_error)?;
        whole.update(&buffer);
        if ChunkHash::of(&buffer) != *expected {
            wrong.push(index);
        }
        progress(buffer.len() as u64);
    }

    if !wrong.is_empty() {
        return Err(VerifyError::Corrupt {
            path: path.to_owned(),
            chunks: wrong,
            n_chunks: entry.chunks.len() as u32, // a shard is below 2^40 bytes
        });
    }
    if whole.finalize() != blake3::Hash::from_bytes(entry.hash.0) {
        return Err(VerifyError::WholeHash {
            path: path.to_owned(),
        });
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consistent_manifest_is_accepted() {
        assert_eq!(manifest().validate(), Ok(()));
    }

    type Lie = fn(&mut Manifest);

    /// Every lie that a peer could tell, each in one place.
    #[test]
    fn every_lie_is_found() {
        let lies: [(&str, Lie); 20] = [
            ("version 2", |m| m.version = 2),
            ("length of the name is 257", |m| m.name = "x".repeat(257)),
            ("n_layers is 0", |m| m.n_layers = 0),
            ("n_layers is 513", |m| m.n_layers = 513),
            ("n_embd is 0", |m| m.n_embd = 0),
            ("n_embd is 4294967295", |m| m.n_embd = u32::MAX),
            ("n_vocab is 4294967295", |m| m.n_vocab = u32::MAX),
            ("n_ctx_train is 0", |m| m.n_ctx_train = 0),
            ("for layers 0..2", |m| m.ends.kind = layers(0, 2)),
            ("for ends stands where one from layer 2", |m| {
                m.layers[1].kind = ShardKind::Ends
            }),
            ("for 0..2 stands where one from layer 2", |m| {
                m.layers[1] = m.layers[0].clone()
            }),
            ("for 3..5 stands where one from layer 2", |m| {
                m.layers[1].kind = layers(3, 5)
            }),
            ("end at layer 2, the model has 5", |m| m.layers.truncate(1)),
            ("end at layer 5, the model has 4", |m| m.n_layers = 4),
            ("size of a shard is 0", |m| m.ends.bytes = 0),
            ("size of a shard is 18446744073709551615", |m| {
                m.ends.bytes = u64::MAX
            }),
            ("should have 3 chunk hashes, it has 2", |m| {
                m.ends.bytes = 2 * CHUNK_BYTES + 1
            }),
            ("should have 2 chunk hashes, it has 0", |m| {
                m.ends.chunks.clear()
            }),
            ("kv_bytes_per_token is 18446744073709551615", |m| {
                m.layers[0].kv_bytes_per_token = u64::MAX;
            }),
            ("end of bound layers is 6", |m| {
                let range = LayerRange::new(4, 6).unwrap();
                m.dependencies.push(Dependency::BoundTogether(range));
            }),
        ];

        for (said, lie) in lies {
            let mut manifest = manifest();
            lie(&mut manifest);
            let error = manifest.validate().expect_err(said).to_string();
            assert!(error.contains(said), "{error:?} should say {said:?}");
        }
    }

    #[test]
    fn dependencies_are_bounded() {
        let replicated = |tensor: String, bytes| Dependency::Replicated { tensor, bytes };
        let endless = vec![Dependency::RecomputedLocally(Recomputed::Masks); 65];
        let lies = [
            vec![replicated("x".repeat(64), 1)],
            vec![replicated(String::new(), 1)],
            vec![replicated("x".to_owned(), 0)],
            endless,
        ];

        for dependencies in lies {
            let manifest = Manifest {
                dependencies,
                ..manifest()
            };
            let outcome = manifest.validate();
            assert!(
                matches!(outcome, Err(ManifestError::OutOfBounds { .. })),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn it_survives_json_and_postcard_and_any_change_changes_its_hash() {
        let manifest = manifest();

        let json = serde_json::to_string(&manifest).unwrap();
        let bytes = postcard::to_allocvec(&manifest).unwrap();
        let mut other = manifest.clone();
        other.layers[1].chunks[0].0[31] ^= 1;

        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        assert_eq!(postcard::from_bytes::<Manifest>(&bytes).unwrap(), manifest);
        assert_ne!(other.hash(), manifest.hash());
    }

    #[test]
    fn chunks_are_whole_but_for_the_last() {
        let entry = entry(ShardKind::Ends, CHUNK_BYTES + 7);

        let bytes = (0..4)
            .map(|index| entry.chunk_bytes(index))
            .collect::<Vec<_>>();
        assert_eq!(bytes, [Some(CHUNK_BYTES), Some(7), None, None]);
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"é".repeat(200)).len(), 256);
        assert_eq!(shorten(&format!("x{}", "é".repeat(200))).len(), 255);
    }

    /// Five layers in two shards, all of two chunks.
    fn manifest() -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            name: "test".to_owned(),
            architecture: Architecture::Llama,
            n_layers: 5,
            n_embd: 64,
            n_vocab: 512,
            n_ctx_train: 2048,
            ends: entry(ShardKind::Ends, CHUNK_BYTES + 1),
            layers: vec![
                entry(layers(0, 2), CHUNK_BYTES + 1),
                entry(layers(2, 5), 2 * CHUNK_BYTES),
            ],
            dependencies: vec![Dependency::RecomputedLocally(Recomputed::Rope)],
        }
    }

    fn layers(start: u32, end: u32) -> ShardKind {
        ShardKind::Layers(LayerRange::new(start, end).unwrap())
    }

    fn entry(kind: ShardKind, bytes: u64) -> ShardEntry {
        let chunks = bytes.div_ceil(CHUNK_BYTES);

        ShardEntry {
            kind,
            bytes,
            hash: ShardHash::of(b"whole"),
            chunks: (0..chunks)
                .map(|index| ChunkHash::of(&index.to_le_bytes()))
                .collect(),
            kv_bytes_per_token: 128,
        }
    }
}

//! Why a model cannot be cut.

use crate::arch::Architecture;
use crate::layers::LayerRange;
use crate::reader::ReadError;
use crate::tensor_type::TensorType;

/// Why a model cannot be cut honestly: its shards would not say what it says.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file lacks a number, or holds another kind of value.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The architecture is not on the allow list.
    #[error("architecture `{found}` cannot be cut; supported are {}", supported())]
    Architecture {
        /// The architecture of the file.
        found: String,
    },
    /// The file is an adapter, a projector or a vocabulary.
    #[error("the file is of type `{found}`, only whole models (`model`) can be cut")]
    NotAModel {
        /// `general.type` of the file.
        found: String,
    },
    /// The model is spread over several files.
    #[error(
        "this is part of a model in {parts} files; merge them first (llama-gguf-split --merge)"
    )]
    SplitFile {
        /// Number of files.
        parts: u32,
    },
    /// The model says that it does something which a cut would lose.
    #[error("key `{key}` is {found}; of {architecture} only models without it can be cut")]
    Feature {
        /// The architecture.
        architecture: Architecture,
        /// The key that asks for it.
        key: String,
        /// Its value.
        found: String,
    },
    /// A list whose meaning is not known, and so not what each layer needs of it.
    #[error("key `{key}` is a list of unknown meaning; it cannot be divided among shards")]
    UnknownList {
        /// The key.
        key: String,
    },
    /// A list does not have one entry per layer.
    #[error("key `{key}` has {found} entries for {n_layers} layers")]
    ListLength {
        /// The key.
        key: String,
        /// Its length.
        found: u64,
        /// Layers of the model.
        n_layers: u32,
    },
    /// Layers differ in something that llama.cpp reads from the first layer only.
    #[error("key `{key}` differs between layers; only models with equal layers can be cut")]
    UnequalLayers {
        /// The key.
        key: String,
    },
    /// A number that no such model has.
    #[error("key `{key}` is {found}; {wanted}")]
    Number {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// llama.cpp takes a model with this many layers for another one.
    #[error(
        "{architecture} with {n_layers} layers (model or shard) cannot be cut: \
         llama.cpp computes attention otherwise for exactly that many"
    )]
    LayerCount {
        /// The architecture.
        architecture: Architecture,
        /// The layer count.
        n_layers: u32,
    },
    /// A tensor that this architecture does not have.
    #[error("tensor `{name}` is not part of any {architecture} model that can be cut")]
    UnknownTensor {
        /// The architecture.
        architecture: Architecture,
        /// The tensor.
        name: String,
    },
    /// A tensor that this architecture needs is missing.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor `{name}` has the shape {found:?}, the metadata says {wanted:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<u64>,
        /// The shape it should have.
        wanted: Vec<u64>,
    },
    /// A tensor is packed in a way that llama.cpp cannot compute with.
    #[error("tensor `{name}` is of type {found}; {wanted}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: TensorType,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// Two tokens are written the same.
    #[error("token {token:?} is in the vocabulary twice")]
    DuplicateToken {
        /// The token.
        token: String,
    },
    /// The ranges asked for leave a gap, overlap, or are out of order.
    #[error("layers {found} follow, where a range from layer {expected} was expected")]
    RangesNotConsecutive {
        /// Layer at which the next range should have started.
        expected: u32,
        /// The range found.
        found: LayerRange,
    },
    /// The ranges asked for do not end where the model ends.
    #[error("the ranges end at layer {found}, the model has {n_layers} layers")]
    RangesEnd {
        /// Where they end.
        found: u32,
        /// Layers of the model.
        n_layers: u32,
    },
}

fn supported() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

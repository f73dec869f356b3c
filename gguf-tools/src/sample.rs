//! A model without its weights: what a phone needs to measure itself before anything is moved.
//!
//! How long a layer takes does not depend on what its weights are, only on their shapes and types.
//! So a [`Sample`] is the header of a real shard of the model, some 20 kB, and whoever receives it
//! fills in weights of its own:
//!
//! ```text
//! phone with the model                       any other phone
//!   model ──► Sample ── header, n bytes ──►    Skeleton::write_file ──► file that llama.cpp runs
//! ```
//!
//! The file has the model's architecture, head counts, tensor shapes and tensor types, layer by
//! layer, because its header is the one that cutting would have made.
//!
//! **How many layers.** One layer of a small model stays in the processor's cache from step to step
//! and would seem quicker than it is among others. So a sample has as many consecutive layers as
//! make [`LAYERS_BYTES`], and of all such runs the one whose size is closest to the model's mean:
//! quantisers give some layers more bits than others.
//!
//! **The ends** are sampled by some of their vocabulary's rows: the LM head is a product row by row.
//!
//! A sample comes from another phone: nothing is written before its numbers were compared with
//! their caps, and what was written is held against the same allow list as a shard before anybody
//! loads it.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::arch::Architecture;
use crate::cut::{layers_builder, wordless_ends_builder};
use crate::hash::ModelHash;
use crate::layers::LayerRange;
use crate::model::{Model, layer_and_suffix};
use crate::reader::{Gguf, ReadError, Tensor};
use crate::refusal::Refusal;
use crate::shard::{ShardKind, VirtualShard};
use crate::writer::Builder;

/// Bytes of the layers in a sample, if the model has as many: more than the last cache of any phone
/// (8 to 32 MiB), so that weights come from memory as they will in a stage.
const LAYERS_BYTES: u64 = 48 << 20;

/// Layers in a sample, at most: more do not make it more exact, and the header grows with them.
const LAYERS_MAX: u32 = 32;

/// Bytes of the LM head in a sample, if the model's is as large; for the same reason.
const ENDS_BYTES: u64 = 32 << 20;

/// Bytes of a skeleton's header, at most: [`LAYERS_MAX`] layers with 15 tensors of 80 bytes each,
/// and as much again for the keys.
const HEADER_BYTES_MAX: usize = 96 << 10;

/// Bytes of a skeleton's weights, at most: one layer of a model of 70 billion weights at 8 bits is
/// 0.9 GB.
const DATA_BYTES_MAX: u64 = 1 << 30;

/// A model without its weights: some layers, and the ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Some consecutive layers.
    pub layers: Skeleton,
    /// How many these are.
    pub n_layers: u32,
    /// The ends, with part of their vocabulary.
    pub ends: Skeleton,
    /// Rows of the vocabulary in the sample.
    pub n_rows: u32,
    /// Rows of the model's own.
    pub n_vocab: u32,
}

/// A GGUF file without its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skeleton {
    header: Vec<u8>,
    /// Bytes that follow the header in the file.
    pub data_bytes: u64,
}

/// What a skeleton's file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The architecture, which says how hidden states enter and leave.
    pub architecture: Architecture,
    /// Its layers.
    pub n_layers: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Tokens of its vocabulary.
    pub n_vocab: u32,
    /// Bytes that one token takes in its KV cache (f16).
    pub kv_bytes_per_token: u64,
}

/// Why a sample could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// It is larger than any sample.
    #[error("{what} of the sample has {found} B, at most {max} B are possible")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// The header is none.
    #[error("the sample is no model: {0}")]
    Read(#[from] ReadError),
    /// The header is of a file that no cut makes.
    #[error("no cut makes such a sample: {0}")]
    Refused(#[from] Refusal),
    /// The file could not be written.
    #[error("cannot write the sample: {0}")]
    Io(#[from] io::Error),
}

impl Sample {
    /// Takes a sample of a model.
    ///
    /// # Errors
    ///
    /// Any [`Refusal`] but those about ranges, if the model cannot be cut.
    pub fn of(gguf: &Gguf) -> Result<Self, Refusal> {
        let model = Model::read(gguf)?;
        let layers = typical_run(&layer_bytes(gguf, model.n_layers));
        let n_rows = rows_of(gguf, &model);

        Ok(Self {
            layers: Skeleton::of(gguf, &layers_builder(gguf, &model, layers)),
            n_layers: layers.len(),
            ends: Skeleton::of(gguf, &wordless_ends_builder(gguf, &model, n_rows)),
            n_rows,
            n_vocab: model.n_vocab,
        })
    }

    /// Returns the hash of everything in the sample. Models of one shape and one quantisation have
    /// the same, whatever they were trained on: they take as long.
    pub fn hash(&self) -> ModelHash {
        let bytes = postcard::to_allocvec(self).expect("plain data in memory can be encoded");

        ModelHash::of(&bytes)
    }

    /// Returns the mean bytes of a sampled layer.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.data_bytes / u64::from(self.n_layers.max(1))
    }
}

impl Skeleton {
    fn of(gguf: &Gguf, builder: &Builder) -> Self {
        // The kind and the cache are of no interest: only the bytes are read.
        let shard = VirtualShard::new(ShardKind::Ends, 0, gguf.mapping().clone(), builder.header());
        let mut header = vec![0; shard.len_bytes() as usize];
        shard.read_at(0, &mut header);

        Self {
            header,
            data_bytes: builder.data_bytes(),
        }
    }

    /// Returns the size of the file that [`write_file`](Self::write_file) writes.
    pub fn file_bytes(&self) -> u64 {
        self.header.len() as u64 + self.data_bytes
    }

    /// Writes the file with weights of no meaning, and says what it is.
    ///
    /// What is left of a file after an error is the caller's to remove.
    ///
    /// # Errors
    ///
    /// - [`SampleError::TooLarge`] before anything is written
    /// - [`SampleError::Read`] if the header is not that of a file of this size
    /// - [`SampleError::Refused`] if no model that can be cut has such a shard
    /// - [`SampleError::Io`]
    ///
    /// # Blocking
    ///
    /// As long as memory takes for [`data_bytes`](Self::data_bytes); nothing waits for the disk.
    pub fn write_file(&self, path: &Path) -> Result<Written, SampleError> {
        check_size(
            "the header",
            self.header.len() as u64,
            HEADER_BYTES_MAX as u64,
        )?;
        check_size("the data", self.data_bytes, DATA_BYTES_MAX)?;

        let mut file = File::create(path)?;
        file.write_all(&self.header)?;
        file.set_len(self.file_bytes())?;
        // The reader makes sure that all tensors lie within the file.
        let gguf = Gguf::open(path)?;
        let model = Model::read(&gguf)?;
        fill(&gguf, file)?;

        Ok(Written {
            architecture: model.architecture,
            n_layers: model.n_layers,
            n_embd: model.n_embd,
            n_vocab: model.n_vocab,
            kv_bytes_per_token: model.heads.kv_bytes_per_token() * u64::from(model.n_layers),
        })
    }
}

fn check_size(what: &'static str, found: u64, max: u64) -> Result<(), SampleError> {
    if found <= max {
        Ok(())
    } else {
        Err(SampleError::TooLarge { what, found, max })
    }
}

/// Returns the bytes of each layer's tensors.
fn layer_bytes(gguf: &Gguf, n_layers: u32) -> Vec<u64> {
    let mut bytes = vec![0; n_layers as usize];
    for tensor in gguf.tensors() {
        let layer = layer_and_suffix(tensor.name).map(|(layer, _)| layer as usize);
        if let Some(bytes) = layer.and_then(|layer| bytes.get_mut(layer)) {
            *bytes += tensor.bytes.len() as u64;
        }
    }

    bytes
}

/// Returns the run of layers that is large enough for a sample and closest to the mean.
fn typical_run(layer_bytes: &[u64]) -> LayerRange {
    let n_layers = layer_bytes.len() as u64;
    let total = layer_bytes.iter().sum::<u64>();
    let wanted = (LAYERS_BYTES * n_layers).div_ceil(total.max(1));
    let n = wanted.clamp(1, n_layers.min(LAYERS_MAX.into())) as usize;
    let off = |run: &[u64]| (run.iter().sum::<u64>() * n_layers).abs_diff(total * n as u64);

    let start =
        (0..=layer_bytes.len() - n).min_by_key(|&start| off(&layer_bytes[start..start + n]));
    let start = start.expect("a model has a layer") as u32;

    LayerRange::new(start, start + n as u32).expect("there is at least one layer")
}

/// Returns how many rows of the vocabulary make a sample.
fn rows_of(gguf: &Gguf, model: &Model) -> u32 {
    let head = gguf
        .tensor("output.weight")
        .or_else(|| gguf.tensor("token_embd.weight"));
    let row_bytes = head.map_or(1, |head| head.bytes.len() as u64 / u64::from(model.n_vocab));
    let wanted = ENDS_BYTES.div_ceil(row_bytes.max(1));

    wanted.min(model.n_vocab.into()) as u32
}

/// Writes weights over the zeros of the file.
fn fill(gguf: &Gguf, file: File) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);

    for tensor in gguf.tensors() {
        writer.seek(SeekFrom::Start(tensor.range.start))?;
        let mut left = tensor.bytes.len();
        let mut block = [0; 4096];
        while left > 0 {
            let n = left.min(block.len());
            fill_block(&tensor, &mut noise, &mut block);
            writer.write_all(&block[..n])?;
            left -= n;
        }
    }

    writer.flush()
}

/// Fills a block with weights that are neither zero, nor infinite, nor so small that a processor
/// takes its time over them.
///
/// Quantised types keep their scales as 16-bit floats, at a place of their own each. So all their
/// bytes are between 4 and 19: whatever two of them make a scale, it is between 2⁻¹⁴ and 2⁻¹⁰.
fn fill_block(tensor: &Tensor<'_>, noise: &mut Noise, block: &mut [u8; 4096]) {
    let is_vector = tensor.dims().len() < 2;

    match tensor.tensor_type.name() {
        // Norms, biases and rotation factors.
        "F32" if is_vector => repeat(&1f32.to_le_bytes(), block),
        "F32" => repeat(&0.01f32.to_le_bytes(), block),
        "F16" => repeat(&half::f16::from_f32(0.01).to_le_bytes(), block),
        "BF16" => repeat(&half::bf16::from_f32(0.01).to_le_bytes(), block),
        // The scale is one byte, an exponent: 2⁻⁷ at 120.
        "MXFP4" => block.fill(120),
        _ => noise.fill(block),
    }
}

fn repeat(number: &[u8], block: &mut [u8; 4096]) {
    for bytes in block.chunks_exact_mut(number.len()) {
        bytes.copy_from_slice(number);
    }
}

/// Bytes that no kernel can take advantage of: xorshift64 (Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8; 4096]) {
        for bytes in block.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let between_4_and_19 = (self.0 & 0x0f0f_0f0f_0f0f_0f0f) + 0x0404_0404_0404_0404;
            bytes.copy_from_slice(&between_4_and_19.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::Cut;
    use crate::synth::{Shape, Synth};
    use crate::tensor_type::TensorType;

    /// What is measured is the model's own shard, but for the weights.
    #[test]
    fn a_sample_has_the_shapes_and_types_of_the_shard() {
        for preset in Shape::PRESETS
            .iter()
            .filter(|name| name.starts_with("tiny"))
        {
            let model = tiny(preset);
            let sample = Sample::of(&model).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("layers");
            let written = sample.layers.write_file(&path).unwrap();

            let cut = Cut::about(&model, 1).unwrap();
            let mut bytes = Vec::new();
            cut.shards()[1].write_to(&mut bytes).unwrap();
            let shard = Gguf::from_bytes(bytes).unwrap();

            // A tiny model is sampled whole.
            assert_eq!(
                outline(&Gguf::open(&path).unwrap()),
                outline(&shard),
                "{preset}"
            );
            assert_eq!(written.n_layers, sample.n_layers, "{preset}");
        }
    }

    #[test]
    fn the_ends_are_as_wide_as_the_models() {
        for preset in Shape::PRESETS
            .iter()
            .filter(|name| name.starts_with("tiny"))
        {
            let model = tiny(preset);
            let sample = Sample::of(&model).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ends");

            let written = sample.ends.write_file(&path).unwrap();

            let real = Model::read(&model).unwrap();
            assert_eq!(written.n_embd, real.n_embd, "{preset}");
            assert_eq!(written.n_vocab, sample.n_rows, "{preset}");
            assert_eq!(sample.n_vocab, real.n_vocab, "{preset}");
        }
    }

    #[test]
    fn a_run_is_as_large_as_the_caches_and_close_to_the_mean() {
        let mib = 1 << 20;
        let even = typical_run(&[4 * mib; 30]);
        let uneven = typical_run(&[60 * mib, 50 * mib, 40 * mib, 50 * mib, 60 * mib]);
        let small = typical_run(&[1000; 4]);

        assert_eq!((even.start(), even.len()), (0, 12));
        assert_eq!((uneven.start(), uneven.len()), (1, 1));
        assert_eq!(small.len(), 4);
    }

    #[test]
    fn a_sample_that_says_too_much_is_refused_before_anything_is_written() {
        let mut sample = Sample::of(&tiny("tiny-llama")).unwrap();
        sample.layers.data_bytes = DATA_BYTES_MAX + 1;
        sample.ends.header = vec![0; HEADER_BYTES_MAX + 1];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample");

        for skeleton in [&sample.layers, &sample.ends] {
            let error = skeleton.write_file(&path).unwrap_err();

            assert!(matches!(error, SampleError::TooLarge { .. }), "{error}");
            assert!(!path.exists());
        }
    }

    /// A header cut short anywhere, or with any byte changed, is an error or another model: never a
    /// panic, and never a file larger than was said.
    #[test]
    fn a_damaged_header_does_no_harm() {
        let sample = Sample::of(&tiny("tiny-qwen3")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample");

        for i in 0..sample.layers.header.len() {
            let mut shorter = sample.layers.clone();
            shorter.header.truncate(i);
            assert!(shorter.write_file(&path).is_err(), "{i}");

            let mut other = sample.layers.clone();
            other.header[i] ^= 0x55;
            let _ = other.write_file(&path);
            assert!(path.metadata().unwrap().len() <= other.file_bytes(), "{i}");
        }
    }

    type Outline = Vec<(String, Vec<u64>, TensorType)>;

    fn outline(gguf: &Gguf) -> (Vec<u8>, Outline) {
        let keys = gguf.key_values();
        let keys = keys.flat_map(|pair| gguf.raw_key_value(&pair).to_vec());
        let tensors = gguf.tensors().map(|tensor| {
            let name = tensor.name.to_owned();
            (name, tensor.dims().to_vec(), tensor.tensor_type)
        });

        (keys.collect(), tensors.collect())
    }

    fn tiny(preset: &str) -> Gguf {
        let shape = Shape::preset(preset).unwrap();

        Synth::new(shape, TensorType::Q4_0, 1).to_gguf().unwrap()
    }
}

//! Models of any real shape with random weights: as fast or slow as the real ones, and free.
//!
//! Speed does not depend on what the weights are, and neither does it matter for a comparison of
//! split with whole. So a [`Synth`] writes a file with every tensor and key that the real model
//! has, and draws the weights from a seeded generator, each tensor from a stream of its own:
//! the same seed gives the same file everywhere.
//!
//! The numbers are sane: norms are near 1, and matrices keep the size of what passes through them,
//! so hidden states stay finite over any number of layers and the logits differ from each other.
//! The rows of special tokens are small, so that greedy decoding does not end by chance.

mod shape;
mod tokenizer;
mod weights;

use std::io::{self, Write};
use std::path::Path;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

pub use shape::{Shape, Window};

use crate::arch::Architecture;
use crate::reader::{Gguf, ReadError};
use crate::shard::write_whole;
use crate::tensor_type::TensorType;
use crate::writer::{Builder, NewTensor, NewValue, Piece};
use weights::Fill;

/// Types that matrices can be made of.
const MATRIX_TYPES: [TensorType; 4] = [
    TensorType::Q4_0,
    TensorType::Q8_0,
    TensorType::F16,
    TensorType::F32,
];

/// Bytes of weights made at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Why a model could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// There is no preset of this name.
    #[error("no preset `{name}`; there are {}", Shape::PRESETS.join(", "))]
    Preset {
        /// The name asked for.
        name: String,
    },
    /// Weights of this type cannot be made.
    #[error("cannot make {found} weights, only Q4_0, Q8_0, F16 and F32")]
    TensorType {
        /// The type asked for.
        found: TensorType,
    },
    /// The shape contradicts itself or the type.
    #[error("{what} is {found}; {wanted}")]
    Shape {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// The file that should lend its tokenizer has none that is usable.
    #[error("the tokenizer cannot be taken over: {0}")]
    Tokenizer(#[from] ReadError),
    /// The file could not be written.
    #[error("cannot write the model: {0}")]
    Io(#[from] io::Error),
}

/// A model with random weights, to be written.
///
/// ```
/// use gguf_tools::{Shape, Synth, TensorType};
///
/// let synth = Synth::new(Shape::preset("tiny-llama")?, TensorType::Q4_0, 1);
/// let model = synth.to_gguf()?;
/// assert_eq!(model.text("general.architecture")?, "llama");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Synth {
    shape: Shape,
    matrices: TensorType,
    seed: u64,
    tokenizer: Option<Gguf>,
}

/// A tensor to be made.
#[derive(Clone)]
struct Plan {
    name: String,
    dims: Vec<u64>,
    tensor_type: TensorType,
    fill: Fill,
}

impl Synth {
    /// Describes a model of `shape`, whose matrices are of type `matrices` and whose weights follow
    /// from `seed`. Its tokenizer is synthetic.
    pub fn new(shape: Shape, matrices: TensorType, seed: u64) -> Self {
        Self {
            shape,
            matrices,
            seed,
            tokenizer: None,
        }
    }

    /// Takes the tokenizer, and so the size of the vocabulary, from `model`.
    ///
    /// # Errors
    ///
    /// [`SynthError::Tokenizer`] if `model` has no tokens.
    pub fn with_tokenizer_of(mut self, model: &Gguf) -> Result<Self, SynthError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = model
            .find_array(key)?
            .ok_or_else(|| ReadError::MissingKey {
                key: key.to_owned(),
            })?;
        let too_many = |_| SynthError::Shape {
            what: "the number of tokens",
            found: tokens.len,
            wanted: "at most 2^32 are possible",
        };
        self.shape.n_vocab = u32::try_from(tokens.len).map_err(too_many)?;
        self.tokenizer = Some(model.clone());

        Ok(self)
    }

    /// Returns the number of weights.
    pub fn n_parameters(&self) -> u64 {
        let elements = |plan: &Plan| plan.dims.iter().product::<u64>();

        self.plans().iter().map(elements).sum()
    }

    /// Returns the size of the file.
    ///
    /// # Errors
    ///
    /// As [`write_to`](Self::write_to).
    pub fn len_bytes(&self) -> Result<u64, SynthError> {
        let (pieces, _) = self.layout()?;

        Ok(pieces.iter().map(Piece::len).sum())
    }

    /// Writes the model to a file at `path`, which appears whole or not at all. Calls `progress`
    /// with the bytes newly written.
    ///
    /// # Errors
    ///
    /// As [`write_to`](Self::write_to).
    ///
    /// # Blocking
    ///
    /// Seconds per GB. Only about 1 MiB of weights is in memory at a time.
    pub fn write_file(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), SynthError> {
        self.layout()?; // an impossible shape is told before a file is made

        write_whole(path, |file| self.write_to(file, progress))
    }

    /// Returns the model in memory: for tiny ones.
    ///
    /// # Errors
    ///
    /// As [`write_to`](Self::write_to).
    pub fn to_gguf(&self) -> Result<Gguf, SynthError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes, &mut |_| {})?;

        Ok(Gguf::from_bytes(bytes).expect("what was just written can be read"))
    }

    /// Writes the model to `writer`. Calls `progress` with the bytes newly written.
    ///
    /// # Errors
    ///
    /// - [`SynthError::TensorType`] if the type of the matrices is none of Q4_0, Q8_0, F16 and F32
    /// - [`SynthError::Shape`] if rows are not made of whole blocks of that type, or a number of the
    ///   shape is impossible
    /// - [`SynthError::Io`] if `writer` fails
    pub fn write_to(
        &self,
        writer: &mut impl Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SynthError> {
        let (pieces, plans) = self.layout()?;
        let mut plans = plans.iter();
        let quiet = self.special_tokens()?;

        for piece in &pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    writer.write_all(bytes)?;
                    progress(piece.len());
                }
                Piece::Zeros(n) => {
                    io::copy(&mut io::Read::take(io::repeat(0), *n), writer)?;
                    progress(*n);
                }
                // the only source is the one yet to be made: one piece per tensor
                Piece::Source(_) => {
                    let plan = plans.next().expect("as many pieces as tensors");
                    self.write_tensor(plan, &quiet, writer, progress)?;
                }
            }
        }

        Ok(())
    }

    fn write_tensor(
        &self,
        plan: &Plan,
        quiet: &[bool],
        writer: &mut impl Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SynthError> {
        let seed = blake3::hash(format!("{}/{}", self.seed, plan.name).as_bytes());
        let mut rng = ChaCha12Rng::from_seed(seed.into());
        let row_bytes = plan.tensor_type.bytes_of(&plan.dims[..1]);
        let row_bytes = row_bytes.expect("rows were checked to be whole blocks") as usize;
        let rows_per_batch = (BATCH_BYTES / row_bytes).max(1);

        let rows = plan.dims[1..].iter().product::<u64>() as usize; // below the file's size
        let mut batch = Vec::new();
        for start in (0..rows).step_by(rows_per_batch) {
            let end = rows.min(start + rows_per_batch);
            batch.resize((end - start) * row_bytes, 0);
            for (row, bytes) in (start..end).zip(batch.chunks_exact_mut(row_bytes)) {
                let is_quiet = quiet.get(row).copied().unwrap_or(false);
                plan.fill
                    .fill_row(plan.tensor_type, is_quiet, &mut rng, bytes);
            }
            writer.write_all(&batch)?;
            progress(batch.len() as u64);
        }

        Ok(())
    }

    /// Lays out the file: its pieces, in which every tensor is a source yet to be made.
    fn layout(&self) -> Result<(Vec<Piece>, Vec<Plan>), SynthError> {
        self.check()?;
        let mut builder = Builder::default();
        self.put_keys(&mut builder)?;

        let plans = self.plans();
        let mut at = 0;
        for plan in &plans {
            let bytes = plan.tensor_type.bytes_of(&plan.dims);
            let bytes = bytes.ok_or(SynthError::Shape {
                what: "the length of a row",
                found: plan.dims[0],
                wanted: "quantised types need a multiple of 32",
            })?;
            builder.tensor(NewTensor {
                name: plan.name.clone(),
                dims: plan.dims.clone(),
                tensor_type: plan.tensor_type,
                data: Piece::Source(at..at + bytes),
            });
            at += bytes + 1; // a gap, so that neighbours are not taken for one piece
        }

        Ok((builder.build(), plans))
    }

    fn check(&self) -> Result<(), SynthError> {
        if !MATRIX_TYPES.contains(&self.matrices) {
            return Err(SynthError::TensorType {
                found: self.matrices,
            });
        }

        self.shape.check()
    }

    fn put_keys(&self, builder: &mut Builder) -> Result<(), SynthError> {
        builder.key(
            "general.architecture",
            &NewValue::Text(self.shape.architecture.name().to_owned()),
        );
        builder.key("general.type", &NewValue::Text("model".to_owned()));
        // llama.cpp looks for tokens of Phi 3's own tokenizer in every model named after it
        let name = self
            .shape
            .name
            .replace("phi-3", "phi 3")
            .replace("phi3", "phi 3");
        builder.key("general.name", &NewValue::Text(name));
        for (suffix, value) in self.shape.numbers() {
            builder.key(&format!("{}.{suffix}", self.shape.architecture), &value);
        }
        builder.key(
            "general.file_type",
            &NewValue::U32(weights::file_type(self.matrices)),
        );
        builder.key("general.quantization_version", &NewValue::U32(2));

        match &self.tokenizer {
            Some(model) => tokenizer::copy_keys(builder, model),
            None => tokenizer::put_keys(builder, self.shape.n_vocab)?,
        }

        Ok(())
    }

    /// Returns which tokens are special; their rows are made small.
    fn special_tokens(&self) -> Result<Vec<bool>, SynthError> {
        match &self.tokenizer {
            Some(model) => Ok(tokenizer::special_tokens_of(model)?),
            None => Ok(tokenizer::special_tokens(self.shape.n_vocab)),
        }
    }

    /// Returns the tensors of the model, in the order in which converters write them.
    fn plans(&self) -> Vec<Plan> {
        let shape = &self.shape;
        let n_embd = u64::from(shape.n_embd);
        let n_vocab = u64::from(shape.n_vocab);
        let embedding = Fill::Embedding {
            std: shape.embedding_std(),
        };
        let mut plans = vec![self.matrix("token_embd.weight", n_embd, n_vocab, embedding.clone())];

        if shape.architecture == Architecture::Bloom {
            plans.push(Plan {
                fill: Fill::SmallNorm,
                ..norm("token_embd_norm.weight", n_embd)
            });
            plans.push(bias("token_embd_norm.bias", n_embd));
        }
        for (name, table) in shape.rope_tables() {
            plans.push(Plan {
                name: name.to_owned(),
                dims: vec![table.len() as u64],
                tensor_type: TensorType::F32,
                fill: Fill::Table(table),
            });
        }
        for layer in 0..shape.n_layers {
            plans.extend(self.layer(layer));
        }
        plans.push(norm("output_norm.weight", n_embd));
        if shape.architecture == Architecture::Bloom {
            plans.push(bias("output_norm.bias", n_embd));
        }
        if !shape.tied_embeddings {
            let head = Fill::Embedding {
                std: shape.head_std(),
            };
            plans.push(self.matrix("output.weight", n_embd, n_vocab, head));
        }

        plans
    }

    fn layer(&self, layer: u32) -> Vec<Plan> {
        let shape = &self.shape;
        let [n_embd, n_ff] = [shape.n_embd, shape.n_ff].map(u64::from);
        let head = u64::from(shape.head_dim);
        let [query, key] = [shape.n_head, shape.n_head_kv].map(|n| u64::from(n) * head);

        let named = |suffix: &str| format!("blk.{layer}.{suffix}");
        let into =
            |suffix: &str, to: u64| self.matrix(&named(suffix), n_embd, to, Fill::keeping(n_embd));
        let attention_out = self.matrix(
            &named("attn_output.weight"),
            query,
            n_embd,
            Fill::attention_adding(query),
        );
        let feed_forward_out = self.matrix(
            &named("ffn_down.weight"),
            n_ff,
            n_embd,
            Fill::feed_forward_adding(n_ff),
        );
        let norm = |suffix: &str, len: u64| norm(&named(suffix), len);
        let bias = |suffix: &str, len: u64| bias(&named(suffix), len);

        let attention = || {
            vec![
                norm("attn_norm.weight", n_embd),
                into("attn_q.weight", query),
                into("attn_k.weight", key),
                into("attn_v.weight", key),
                attention_out.clone(),
            ]
        };
        let gated = || {
            vec![
                norm("ffn_norm.weight", n_embd),
                into("ffn_gate.weight", n_ff),
                into("ffn_up.weight", n_ff),
                feed_forward_out.clone(),
            ]
        };
        let head_norms = || {
            vec![
                norm("attn_q_norm.weight", head),
                norm("attn_k_norm.weight", head),
            ]
        };

        let parts = match shape.architecture {
            Architecture::Llama => vec![attention(), gated()],
            Architecture::Qwen2 => vec![
                attention(),
                vec![
                    bias("attn_q.bias", query),
                    bias("attn_k.bias", key),
                    bias("attn_v.bias", key),
                ],
                gated(),
            ],
            Architecture::Qwen3 => vec![attention(), head_norms(), gated()],
            Architecture::Gemma3 => vec![
                attention(),
                head_norms(),
                vec![Plan {
                    fill: Fill::SmallNorm,
                    ..norm("post_attention_norm.weight", n_embd)
                }],
                gated(),
                vec![norm("post_ffw_norm.weight", n_embd)],
            ],
            Architecture::Bloom => vec![vec![
                norm("attn_norm.weight", n_embd),
                bias("attn_norm.bias", n_embd),
                into("attn_qkv.weight", query + 2 * key),
                bias("attn_qkv.bias", query + 2 * key),
                attention_out.clone(),
                bias("attn_output.bias", n_embd),
                norm("ffn_norm.weight", n_embd),
                bias("ffn_norm.bias", n_embd),
                into("ffn_up.weight", n_ff),
                bias("ffn_up.bias", n_ff),
                feed_forward_out.clone(),
                bias("ffn_down.bias", n_embd),
            ]],
            Architecture::Phi3 => vec![vec![
                norm("attn_norm.weight", n_embd),
                into("attn_qkv.weight", query + 2 * key),
                attention_out.clone(),
                norm("ffn_norm.weight", n_embd),
                into("ffn_up.weight", 2 * n_ff),
                feed_forward_out.clone(),
            ]],
        };

        parts.into_iter().flatten().collect()
    }

    fn matrix(&self, name: &str, from: u64, to: u64, fill: Fill) -> Plan {
        Plan {
            name: name.to_owned(),
            dims: vec![from, to],
            tensor_type: self.matrices,
            fill,
        }
    }
}

fn norm(name: &str, len: u64) -> Plan {
    Plan {
        name: name.to_owned(),
        dims: vec![len],
        tensor_type: TensorType::F32,
        fill: Fill::Norm,
    }
}

fn bias(name: &str, len: u64) -> Plan {
    Plan {
        name: name.to_owned(),
        dims: vec![len],
        tensor_type: TensorType::F32,
        fill: Fill::Bias,
    }
}

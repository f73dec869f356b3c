//! Cutting a model into shards, each of which is a GGUF file of its own.
//!
//! ```text
//!             token_embd  blk.0 … blk.5   blk.6 … blk.11   output_norm  output  tokenizer
//!             └────┬───┘  └─────┬─────┘   └──────┬─────┘   └───────────┬───────────────┘
//!  ends  ◄─────────┴────────────┼────────────────┼─────────────────────┘  + identity layer
//!  shard 0..6  ◄────────────────┘                │                        + one row of token_embd
//!  shard 6..12 ◄─────────────────────────────────┘                        + one row of token_embd
//! ```
//!
//! - A **layer shard** is a whole small model of the same architecture: its layers renumbered from
//!   0, its lists cut to the range, and in place of a vocabulary one token that is never used, so
//!   that the LM head costs nothing. What llama.cpp would derive from layer 0 or from the layer
//!   count is written out.
//! - The **ends** are everything else, around one *identity layer*: all its weights are zero, so
//!   what goes in comes out. Its cache holds nothing that matters and may be cleared at any time.
//!
//! Nothing is computed, and nothing but headers is held in memory: a [`VirtualShard`] is a few kB
//! and ranges of the source. The same source gives the same bytes on every machine.

use std::collections::BTreeMap;

use crate::arch::{Architecture, Home};
use crate::layers::LayerRange;
use crate::manifest::Dependency;
use crate::manifest::Recomputed;
use crate::model::{Heads, Model, PER_LAYER_KEYS, check_layer_count, layer_and_suffix};
use crate::reader::{Gguf, KeyValue, Tensor};
use crate::refusal::Refusal;
use crate::shard::{ShardKind, VirtualShard};
use crate::tensor_type::TensorType;
use crate::value::Value;
use crate::writer::{Builder, NewTensor, NewValue, Piece};

/// Elements in a head, and rows in the feed-forward, of the identity layer.
///
/// One block of the quantised types; the smallest that every kernel of llama.cpp takes.
const IDENTITY_WIDTH: u32 = 32;

/// Keys outside of the architecture's own that a layer shard keeps. The rest (licence, links, tags,
/// tokenizer) goes to the ends.
const SHARD_KEYS: [&str; 6] = [
    "general.architecture",
    "general.type",
    "general.name",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
];

/// A model cut into shards that cover it.
///
/// ```no_run
/// use gguf_tools::{Cut, Gguf};
///
/// let model = Gguf::open("model.gguf".as_ref())?;
/// for shard in Cut::about(&model, 16)?.shards() {
///     shard.write_file(format!("model.{}.gguf", shard.kind()).as_ref())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cut {
    pub(crate) model: Model,
    shards: Vec<VirtualShard>,
    dependencies: Vec<Dependency>,
}

impl Cut {
    /// Cuts `gguf` at the given layers.
    ///
    /// # Errors
    ///
    /// - [`Refusal::RangesNotConsecutive`] and [`Refusal::RangesEnd`] if `layers` do not cover the
    ///   model in order
    /// - any other [`Refusal`] if the model cannot be cut
    pub fn new(gguf: &Gguf, layers: &[LayerRange]) -> Result<Self, Refusal> {
        Self::of(gguf, Model::read(gguf)?, layers)
    }

    /// Cuts `gguf` into the ends and `n_shards` layer shards, as even as whole layers allow, or
    /// fewer where there are fewer layers.
    ///
    /// # Errors
    ///
    /// Any [`Refusal`] but those about ranges, if the model cannot be cut.
    pub fn about(gguf: &Gguf, n_shards: u32) -> Result<Self, Refusal> {
        let model = Model::read(gguf)?;
        let whole = LayerRange::new(0, model.n_layers).expect("there is at least one layer");

        Self::of(gguf, model, &whole.split_even(n_shards))
    }

    fn of(gguf: &Gguf, model: Model, layers: &[LayerRange]) -> Result<Self, Refusal> {
        check_ranges(&model, layers)?;

        let ends = std::iter::once(cut_ends(gguf, &model));
        let layers = layers.iter().map(|range| cut_layers(gguf, &model, *range));

        Ok(Self {
            shards: ends.chain(layers).collect(),
            dependencies: dependencies(gguf, &model),
            model,
        })
    }

    /// Returns the shards: the ends first, then the layers in order.
    pub fn shards(&self) -> &[VirtualShard] {
        &self.shards
    }

    /// Returns what a shard needs beside the hidden state that enters it.
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }
}

fn check_ranges(model: &Model, layers: &[LayerRange]) -> Result<(), Refusal> {
    let mut expected = 0;
    for range in layers {
        if range.start() != expected {
            return Err(Refusal::RangesNotConsecutive {
                expected,
                found: *range,
            });
        }
        check_layer_count(model.architecture, range.len())?;
        expected = range.end();
    }

    if expected == model.n_layers {
        Ok(())
    } else {
        Err(Refusal::RangesEnd {
            found: expected,
            n_layers: model.n_layers,
        })
    }
}

/// Makes the shard with the layers `range`.
fn cut_layers(gguf: &Gguf, model: &Model, range: LayerRange) -> VirtualShard {
    VirtualShard::new(
        ShardKind::Layers(range),
        model.heads.kv_bytes_per_token() * u64::from(range.len()),
        gguf.mapping().clone(),
        layers_builder(gguf, model, range).build(),
    )
}

/// Puts together the file of the layers `range`.
pub(crate) fn layers_builder(gguf: &Gguf, model: &Model, range: LayerRange) -> Builder {
    let mut builder = Builder::new(gguf.alignment());
    let prefix = format!("{}.", model.architecture);
    let keeps = |key: &str| SHARD_KEYS.contains(&key) || key.starts_with(&prefix);

    let rewritten = layer_values(gguf, model, range);
    put_keys(&mut builder, gguf, rewritten, keeps);

    builder.tensor(zeros(
        "token_embd.weight",
        &[model.n_embd.into(), 1],
        TensorType::F32,
    ));
    for tensor in gguf.tensors() {
        if let Some(name) = name_in_shard(model.architecture, tensor.name, range) {
            builder.tensor(copied(&tensor, name));
        }
    }

    builder
}

/// Puts together the ends of a model whose vocabulary is nothing but `n_rows` rows of embedding
/// and LM head: what they cost to compute, without what they know.
pub(crate) fn wordless_ends_builder(gguf: &Gguf, model: &Model, n_rows: u32) -> Builder {
    let mut builder = Builder::new(gguf.alignment());
    let heads = identity_heads(model);
    let prefix = format!("{}.", model.architecture);
    let keeps = |key: &str| SHARD_KEYS.contains(&key) || key.starts_with(&prefix);
    let mut values = ends_values(model, heads);
    values.set("vocab_size", NewValue::U32(n_rows));
    values.set_for_all(
        "tokenizer.ggml.model",
        NewValue::Text("no_vocab".to_owned()),
    );
    put_keys(&mut builder, gguf, values, keeps);

    for tensor in gguf.tensors() {
        let homes = [Home::Ends, Home::Everywhere];
        if lives_in(model.architecture, tensor.name, &homes) {
            let mut dims = tensor.dims().to_vec();
            // Rows of the vocabulary are the last dimension of whatever has as many.
            if let Some(rows) = dims
                .last_mut()
                .filter(|rows| **rows == u64::from(model.n_vocab))
            {
                *rows = n_rows.into();
            }
            builder.tensor(zeros(tensor.name, &dims, tensor.tensor_type));
        }
    }
    for tensor in identity_layer(model, heads) {
        builder.tensor(tensor);
    }

    builder
}

/// Returns the metadata that a layer shard does not take over as it is. `None` leaves a key out.
fn layer_values(gguf: &Gguf, model: &Model, range: LayerRange) -> Values {
    let heads = model.heads;
    let mut values = Values::new(model.architecture);
    values.set("block_count", NewValue::U32(range.len()));
    values.set("vocab_size", NewValue::U32(1));
    values.set("attention.key_length", NewValue::U32(heads.key_length));
    values.set("attention.value_length", NewValue::U32(heads.value_length));
    values.set_for_all(
        "tokenizer.ggml.model",
        NewValue::Text("no_vocab".to_owned()),
    );

    for suffix in PER_LAYER_KEYS {
        let list = gguf.value(&format!("{}.{suffix}", model.architecture));
        if let Some(Value::Array(list)) = list {
            let part = list
                .slice(range.start().into(), range.end().into())
                .expect("lists of fixed width, one entry per layer, were checked");
            let value = NewValue::Raw(list.element, range.len().into(), part.to_vec());
            values.set(suffix, value);
        }
    }
    if let Some(sliding) = &model.sliding {
        let flags = range.iter().map(|layer| sliding[layer as usize]);
        let flags = flags.collect::<Vec<bool>>();
        if flags.contains(&true) {
            values.set("attention.sliding_window_pattern", NewValue::Bools(flags));
        } else {
            // llama.cpp ends the process over a window that no layer uses
            values.leave_out("attention.sliding_window");
            values.leave_out("attention.sliding_window_pattern");
        }
    }

    values
}

/// Returns what a tensor of the model is called in the shard of `range`, if it goes there.
fn name_in_shard(architecture: Architecture, name: &str, range: LayerRange) -> Option<String> {
    match layer_and_suffix(name) {
        Some((layer, suffix)) if range.contains(layer) => {
            Some(format!("blk.{}.{suffix}", layer - range.start()))
        }
        Some(_) => None,
        None => {
            let homes = [Home::Everywhere, Home::Layers];
            lives_in(architecture, name, &homes).then(|| name.to_owned())
        }
    }
}

/// Makes the ends.
fn cut_ends(gguf: &Gguf, model: &Model) -> VirtualShard {
    let mut builder = Builder::new(gguf.alignment());
    let heads = identity_heads(model);

    put_keys(&mut builder, gguf, ends_values(model, heads), |_| true);

    for tensor in gguf.tensors() {
        let homes = [Home::Ends, Home::Everywhere];
        if lives_in(model.architecture, tensor.name, &homes) {
            builder.tensor(copied(&tensor, tensor.name.to_owned()));
        }
    }
    for tensor in identity_layer(model, heads) {
        builder.tensor(tensor);
    }

    VirtualShard::new(
        ShardKind::Ends,
        heads.kv_bytes_per_token(),
        gguf.mapping().clone(),
        builder.build(),
    )
}

/// Returns the metadata that the ends do not take over as it is.
fn ends_values(model: &Model, heads: Heads) -> Values {
    let mut values = Values::new(model.architecture);
    values.set("block_count", NewValue::U32(1));
    values.set("feed_forward_length", NewValue::U32(IDENTITY_WIDTH));
    values.set("attention.head_count", NewValue::U32(heads.n_head));
    values.set("attention.head_count_kv", NewValue::U32(heads.n_head_kv));
    values.set("attention.key_length", NewValue::U32(heads.key_length));
    values.set("attention.value_length", NewValue::U32(heads.value_length));
    if model.architecture.rotates() {
        values.set("rope.dimension_count", NewValue::U32(heads.key_length));
    }
    values.leave_out("attention.sliding_window");
    values.leave_out("attention.sliding_window_pattern");

    values
}

/// Returns the smallest heads that the architecture allows in an identity layer.
fn identity_heads(model: &Model) -> Heads {
    let wide = model.architecture.queries_are_n_embd_wide();
    let divides = model.n_embd.is_multiple_of(IDENTITY_WIDTH);
    let (n_head, width) = match (wide, divides) {
        (false, _) => (1, IDENTITY_WIDTH),
        (true, true) => (model.n_embd / IDENTITY_WIDTH, IDENTITY_WIDTH),
        (true, false) => (model.heads.n_head, model.heads.key_length),
    };

    Heads {
        n_head,
        n_head_kv: 1,
        key_length: width,
        value_length: width,
    }
}

/// Returns a layer that adds nothing to what enters it: all zeros.
///
/// The norms are zero too, so that the projections see zeros whatever enters.
fn identity_layer(model: &Model, heads: Heads) -> Vec<NewTensor> {
    let n_embd = u64::from(model.n_embd);
    let n_ff = u64::from(IDENTITY_WIDTH);
    let query = u64::from(heads.n_head) * u64::from(heads.key_length);
    let key = u64::from(heads.n_head_kv) * u64::from(heads.key_length);

    let norm = |suffix: &str, len: u64| zeros(&format!("blk.0.{suffix}"), &[len], TensorType::F32);
    let matrix = |suffix: &str, from: u64, to: u64| {
        let blocks = TensorType::Q4_0.block_elements();
        let tensor_type = if from.is_multiple_of(blocks) {
            TensorType::Q4_0
        } else {
            TensorType::F32
        };
        zeros(&format!("blk.0.{suffix}"), &[from, to], tensor_type)
    };
    let split_attention = || {
        vec![
            norm("attn_norm.weight", n_embd),
            matrix("attn_q.weight", n_embd, query),
            matrix("attn_k.weight", n_embd, key),
            matrix("attn_v.weight", n_embd, key),
            matrix("attn_output.weight", query, n_embd),
            norm("ffn_norm.weight", n_embd),
        ]
    };
    let gated_feed_forward = || {
        [
            matrix("ffn_gate.weight", n_embd, n_ff),
            matrix("ffn_up.weight", n_embd, n_ff),
            matrix("ffn_down.weight", n_ff, n_embd),
        ]
    };
    let head_norms = || {
        [
            norm("attn_q_norm.weight", heads.key_length.into()),
            norm("attn_k_norm.weight", heads.key_length.into()),
        ]
    };

    let mut layer = split_attention();
    match model.architecture {
        Architecture::Llama | Architecture::Qwen2 => layer.extend(gated_feed_forward()),
        Architecture::Qwen3 => {
            layer.extend(head_norms());
            layer.extend(gated_feed_forward());
        }
        Architecture::Gemma3 => {
            layer.extend(head_norms());
            layer.extend(gated_feed_forward());
            layer.extend([
                norm("post_attention_norm.weight", n_embd),
                norm("post_ffw_norm.weight", n_embd),
            ]);
        }
        Architecture::Phi3 => layer.extend([
            matrix("ffn_up.weight", n_embd, 2 * n_ff),
            matrix("ffn_down.weight", n_ff, n_embd),
        ]),
        Architecture::Bloom => {
            layer = vec![
                norm("attn_norm.weight", n_embd),
                norm("attn_norm.bias", n_embd),
                matrix("attn_qkv.weight", n_embd, query + 2 * key),
                norm("attn_qkv.bias", query + 2 * key),
                matrix("attn_output.weight", query, n_embd),
                norm("attn_output.bias", n_embd),
                norm("ffn_norm.weight", n_embd),
                norm("ffn_norm.bias", n_embd),
                matrix("ffn_up.weight", n_embd, n_ff),
                norm("ffn_up.bias", n_ff),
                matrix("ffn_down.weight", n_ff, n_embd),
                norm("ffn_down.bias", n_embd),
            ];
        }
    }

    layer
}

fn zeros(name: &str, dims: &[u64], tensor_type: TensorType) -> NewTensor {
    let bytes = tensor_type.bytes_of(dims);

    NewTensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        tensor_type,
        data: Piece::Zeros(bytes.expect("small, and rows are whole blocks")),
    }
}

fn copied(tensor: &Tensor<'_>, name: String) -> NewTensor {
    NewTensor {
        name,
        dims: tensor.dims().to_vec(),
        tensor_type: tensor.tensor_type,
        data: Piece::Source(tensor.range.clone()),
    }
}

fn lives_in(architecture: Architecture, name: &str, homes: &[Home]) -> bool {
    let mut tensors = architecture.outer_tensors().iter();

    tensors.any(|outer| outer.name == name && homes.contains(&outer.home))
}

/// Metadata values that replace those of the model; `None` leaves a key out.
struct Values {
    architecture: Architecture,
    by_key: BTreeMap<String, Option<NewValue>>,
}

impl Values {
    fn new(architecture: Architecture) -> Self {
        Self {
            architecture,
            by_key: BTreeMap::new(),
        }
    }

    fn set(&mut self, suffix: &str, value: NewValue) {
        let key = format!("{}.{suffix}", self.architecture);
        self.by_key.insert(key, Some(value));
    }

    fn set_for_all(&mut self, key: &str, value: NewValue) {
        self.by_key.insert(key.to_owned(), Some(value));
    }

    fn leave_out(&mut self, suffix: &str) {
        let key = format!("{}.{suffix}", self.architecture);
        self.by_key.insert(key, None);
    }
}

/// Puts the model's keys that `keeps` wants, in order, with `values` in their place where there are
/// any; values for keys that the model does not have follow, by name.
fn put_keys(builder: &mut Builder, gguf: &Gguf, values: Values, keeps: impl Fn(&str) -> bool) {
    let mut left = values.by_key;

    for KeyValue { key, range, .. } in gguf.key_values() {
        match left.remove(key) {
            Some(Some(value)) => builder.key(key, &value),
            Some(None) => {}
            None if keeps(key) => builder.copy_key(range),
            None => {}
        }
    }
    for (key, value) in left {
        if let Some(value) = value {
            builder.key(&key, &value);
        }
    }
}

/// Returns what the layers of the model need beside the hidden state.
fn dependencies(gguf: &Gguf, model: &Model) -> Vec<Dependency> {
    let positions = if model.architecture.rotates() {
        Recomputed::Rope
    } else {
        Recomputed::Alibi
    };
    let recomputed = [Recomputed::Masks, positions].map(Dependency::RecomputedLocally);
    let replicated = model.architecture.outer_tensors().iter();
    let replicated = replicated
        .filter(|outer| outer.home != Home::Ends)
        .filter_map(|outer| gguf.tensor(outer.name))
        .map(|tensor| Dependency::Replicated {
            tensor: tensor.name.to_owned(),
            bytes: tensor.bytes.len() as u64,
        });

    recomputed.into_iter().chain(replicated).collect()
}

//! What a model is, in the numbers that matter for cutting it, checked.
//!
//! llama.cpp answers most contradictions in a file with an error, but some by ending the process.
//! A phone must survive a wrong file, so those are looked for here, in models and in shards alike.

use crate::arch::Architecture;
use crate::reader::{Gguf, ReadError, Tensor};
use crate::refusal::Refusal;
use crate::tensor_type::TensorType;
use crate::value::{Array, Value};

/// Most layers in a model: `LLAMA_MAX_LAYERS`, beyond which llama.cpp ends the process.
pub const LAYERS_MAX: u32 = 512;

/// Widest hidden state accepted; the widest open model has 16,384.
pub(crate) const N_EMBD_MAX: u32 = 1 << 17;

/// Largest vocabulary accepted; the largest open one has 262,208 tokens.
pub(crate) const N_VOCAB_MAX: u32 = 1 << 24;

/// Lists with one entry per layer that are understood.
pub(crate) const PER_LAYER_KEYS: [&str; 4] = [
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
    "attention.sliding_window_pattern",
];

/// Things that llama.cpp would do with a whole model and not, or otherwise, with its shards. Each
/// is harmless at 0 (or false, or absent).
const FEATURES: [&str; 10] = [
    "expert_count",
    "expert_used_count",
    "nextn_predict_layers",
    "n_deepstack_layers",
    "pooling_type",
    "dense_2_feat_out",
    "dense_3_feat_in",
    // The head size of the first layer would count for all, and that is another in each shard.
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count_swa",
];

/// Types that llama.cpp cannot multiply with: whole numbers, and those of intermediate results.
const NO_MATRIX_TYPES: [&str; 7] = ["I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"];

/// Bytes of one element of the KV cache, which is kept as f16.
const KV_ELEMENT_BYTES: u64 = 2;

/// The numbers of a model that can be cut.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) architecture: Architecture,
    pub(crate) name: String,
    pub(crate) n_layers: u32,
    pub(crate) n_embd: u32,
    pub(crate) n_vocab: u32,
    pub(crate) n_ctx_train: u32,
    pub(crate) heads: Heads,
    /// One flag per layer that has a sliding window, where the model knows windows at all.
    pub(crate) sliding: Option<Vec<bool>>,
}

/// The attention heads of every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) n_head: u32,
    pub(crate) n_head_kv: u32,
    pub(crate) key_length: u32,
    pub(crate) value_length: u32,
}

impl Heads {
    /// Reads them, from the numbers for layer 0.
    pub(crate) fn read(gguf: &Gguf, prefix: &str, n_embd: u32) -> Result<Self, ReadError> {
        let key = |suffix: &str| format!("{prefix}.{suffix}");
        let n_head = first_layers_number(gguf, &key("attention.head_count"))?.ok_or_else(|| {
            ReadError::MissingKey {
                key: key("attention.head_count"),
            }
        })?;
        let n_head_kv = first_layers_number(gguf, &key("attention.head_count_kv"))?;
        let width = n_embd.checked_div(n_head).unwrap_or(0);

        Ok(Self {
            n_head,
            n_head_kv: n_head_kv.unwrap_or(n_head),
            key_length: gguf
                .find_number(&key("attention.key_length"))?
                .unwrap_or(width),
            value_length: gguf
                .find_number(&key("attention.value_length"))?
                .unwrap_or(width),
        })
    }

    /// Returns the bytes that one token takes in one layer's cache.
    pub(crate) fn kv_bytes_per_token(&self) -> u64 {
        let width = u64::from(self.key_length) + u64::from(self.value_length);

        width
            .saturating_mul(self.n_head_kv.into())
            .saturating_mul(KV_ELEMENT_BYTES)
    }
}

/// Returns the number at `key`, or the first one where there is one per layer.
pub(crate) fn first_layers_number(gguf: &Gguf, key: &str) -> Result<Option<u32>, ReadError> {
    let Some(Value::Array(array)) = gguf.value(key) else {
        return gguf.find_number(key);
    };

    match array.iter().next() {
        Some(Value::Unsigned(number)) if number <= u32::MAX.into() => Ok(Some(number as u32)),
        first => Err(ReadError::WrongValue {
            key: key.to_owned(),
            wanted: "a whole number, or one per layer",
            found: format!("a list that starts with {first:?}"),
        }),
    }
}

impl Model {
    /// Reads the numbers and makes sure that the model can be cut.
    ///
    /// # Errors
    ///
    /// Every variant of [`Refusal`] but the two about ranges.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, Refusal> {
        check_kind(gguf)?;
        let architecture = gguf.text("general.architecture")?.parse::<Architecture>()?;
        let key = |suffix: &str| format!("{architecture}.{suffix}");

        let n_layers = in_bounds(gguf, &key("block_count"), LAYERS_MAX)?;
        let n_embd = in_bounds(gguf, &key("embedding_length"), N_EMBD_MAX)?;
        let n_ctx_train = gguf.number(&key("context_length"))?;
        check_features(gguf, architecture, n_embd)?;
        check_lists(gguf, architecture, n_layers)?;
        let heads = Heads::read(gguf, architecture.name(), n_embd)?;
        check_heads(heads, architecture)?;
        check_head_sizes(gguf, architecture, heads, n_embd)?;
        check_epsilon(gguf, architecture)?;
        check_layer_count(architecture, n_layers)?;
        check_tensors(gguf, architecture, n_layers)?;

        Ok(Self {
            architecture,
            name: gguf
                .find_text("general.name")?
                .unwrap_or("unnamed")
                .to_owned(),
            n_layers,
            n_embd,
            n_vocab: read_n_vocab(gguf, n_embd)?,
            n_ctx_train,
            heads,
            sliding: read_sliding(gguf, architecture, n_layers)?,
        })
    }
}

fn check_kind(gguf: &Gguf) -> Result<(), Refusal> {
    if let Some(found) = gguf.find_text("general.type")?
        && found != "model"
    {
        return Err(Refusal::NotAModel {
            found: found.to_owned(),
        });
    }

    match gguf.find_number("split.count")? {
        Some(parts) if parts > 1 => Err(Refusal::SplitFile { parts }),
        _ => Ok(()),
    }
}

fn check_features(gguf: &Gguf, architecture: Architecture, n_embd: u32) -> Result<(), Refusal> {
    let refuse = |key: String, value: Value<'_>| Refusal::Feature {
        architecture,
        key,
        found: value.to_string(),
    };

    for feature in FEATURES {
        let key = format!("{architecture}.{feature}");
        match gguf.value(&key) {
            None | Some(Value::Unsigned(0) | Value::Bool(false)) => {}
            Some(value) => return Err(refuse(key, value)),
        }
    }

    let key = format!("{architecture}.attention.causal");
    if let Some(value) = gguf.value(&key)
        && value != Value::Bool(true)
    {
        return Err(refuse(key, value));
    }
    let key = format!("{architecture}.embedding_length_out");
    if let Some(value) = gguf.value(&key)
        && value != Value::Unsigned(n_embd.into())
    {
        return Err(refuse(key, value));
    }

    Ok(())
}

/// Checks that every list among the model's numbers is one entry per layer, and understood.
fn check_lists(gguf: &Gguf, architecture: Architecture, n_layers: u32) -> Result<(), Refusal> {
    let prefix = format!("{architecture}.");

    for pair in gguf.key_values() {
        let (Some(suffix), Value::Array(list)) = (pair.key.strip_prefix(&prefix), pair.value)
        else {
            continue;
        };
        let key = pair.key.to_owned();
        if !PER_LAYER_KEYS.contains(&suffix) || list.element.fixed_bytes().is_none() {
            return Err(Refusal::UnknownList { key });
        }
        if list.len != u64::from(n_layers) {
            return Err(Refusal::ListLength {
                key,
                found: list.len,
                n_layers,
            });
        }

        let first = list.iter().next();
        let may_differ = suffix == "attention.sliding_window_pattern";
        if !may_differ && list.iter().any(|value| Some(value) != first) {
            return Err(Refusal::UnequalLayers { key });
        }
    }

    Ok(())
}

fn check_heads(heads: Heads, architecture: Architecture) -> Result<(), Refusal> {
    let refuse = |suffix: &str, found: u32, wanted| {
        Err(Refusal::Number {
            key: format!("{architecture}.{suffix}"),
            found: found.to_string(),
            wanted,
        })
    };
    let counts = [
        ("attention.head_count", heads.n_head),
        ("attention.head_count_kv", heads.n_head_kv),
        ("attention.key_length", heads.key_length),
        ("attention.value_length", heads.value_length),
    ];

    for (suffix, found) in counts {
        if found == 0 || found > N_EMBD_MAX {
            return refuse(suffix, found, "it must be from 1 to 131072");
        }
    }
    if !heads.n_head.is_multiple_of(heads.n_head_kv) {
        let wanted = "it must divide the head count";
        return refuse("attention.head_count_kv", heads.n_head_kv, wanted);
    }

    Ok(())
}

/// Checks the sizes of heads against each other, on which llama.cpp insists when it builds a graph.
fn check_head_sizes(
    gguf: &Gguf,
    architecture: Architecture,
    heads: Heads,
    n_embd: u32,
) -> Result<(), Refusal> {
    let refuse = |suffix: &str, found: u32, wanted| {
        Err(Refusal::Number {
            key: format!("{architecture}.{suffix}"),
            found: found.to_string(),
            wanted,
        })
    };

    if heads.value_length != heads.key_length {
        let wanted = "it must be the same as attention.key_length";
        return refuse("attention.value_length", heads.value_length, wanted);
    }
    let query = u64::from(heads.n_head) * u64::from(heads.key_length);
    if architecture.queries_are_n_embd_wide() && query != u64::from(n_embd) {
        let wanted = "times the head size it must be embedding_length";
        return refuse("attention.head_count", heads.n_head, wanted);
    }

    if architecture.rotates() {
        let key = "rope.dimension_count";
        let rotated = gguf.find_number(&format!("{architecture}.{key}"))?;
        let rotated = rotated.unwrap_or(heads.key_length);
        if architecture.rotates_whole_heads() && rotated != heads.key_length {
            return refuse(key, rotated, "it must be the same as attention.key_length");
        }
        if rotated == 0 || rotated > heads.key_length || !rotated.is_multiple_of(2) {
            return refuse(
                key,
                rotated,
                "it must be even and at most attention.key_length",
            );
        }
    }

    Ok(())
}

/// An epsilon of 0 would make the identity layer divide nothing by nothing.
fn check_epsilon(gguf: &Gguf, architecture: Architecture) -> Result<(), Refusal> {
    let key = format!("{architecture}.{}", architecture.epsilon_key());
    let epsilon = gguf.find_float(&key)?;
    let epsilon = epsilon.ok_or_else(|| ReadError::MissingKey { key: key.clone() })?;

    if epsilon > 0.0 && epsilon.is_finite() {
        Ok(())
    } else {
        Err(Refusal::Number {
            key,
            found: epsilon.to_string(),
            wanted: "it must be above 0",
        })
    }
}

/// Refuses a model or a shard that llama.cpp would take for another one by its layer count.
pub(crate) fn check_layer_count(architecture: Architecture, n_layers: u32) -> Result<(), Refusal> {
    if architecture.special_layer_count() == Some(n_layers) {
        return Err(Refusal::LayerCount {
            architecture,
            n_layers,
        });
    }

    Ok(())
}

/// Checks that there are all tensors that are needed and none that is not known.
fn check_tensors(gguf: &Gguf, architecture: Architecture, n_layers: u32) -> Result<(), Refusal> {
    for tensor in gguf.tensors() {
        let known = match layer_and_suffix(tensor.name) {
            Some((layer, suffix)) => layer < n_layers && architecture.layer_may_hold(suffix),
            None => architecture
                .outer_tensors()
                .iter()
                .any(|outer| outer.name == tensor.name),
        };
        if !known {
            return Err(Refusal::UnknownTensor {
                architecture,
                name: tensor.name.to_owned(),
            });
        }
        check_tensor_type(&tensor)?;
    }

    let missing = |name: String| Err(Refusal::MissingTensor { name });
    for outer in architecture.outer_tensors() {
        if outer.required && gguf.tensor(outer.name).is_none() {
            return missing(outer.name.to_owned());
        }
    }
    for layer in 0..n_layers {
        let holds = |suffix: &str| gguf.tensor(&format!("blk.{layer}.{suffix}")).is_some();
        if let Some(suffix) = architecture.missing_in_layer(holds) {
            return missing(format!("blk.{layer}.{suffix}"));
        }
    }

    Ok(())
}

/// Checks that llama.cpp can compute with the tensor: it adds and scales by floats only.
fn check_tensor_type(tensor: &Tensor<'_>) -> Result<(), Refusal> {
    let wanted = if tensor.dims().len() == 1 {
        (tensor.tensor_type != TensorType::F32).then_some("norms, biases and factors are F32")
    } else {
        let unusable = NO_MATRIX_TYPES.contains(&tensor.tensor_type.name());
        unusable.then_some("matrices are of another type")
    };

    match wanted {
        None => Ok(()),
        Some(wanted) => Err(Refusal::TensorType {
            name: tensor.name.to_owned(),
            found: tensor.tensor_type,
            wanted,
        }),
    }
}

/// Splits `blk.12.attn_q.weight` into 12 and `attn_q.weight`.
pub(crate) fn layer_and_suffix(name: &str) -> Option<(u32, &str)> {
    let (layer, suffix) = name.strip_prefix("blk.")?.split_once('.')?;
    let number = layer.parse::<u32>().ok()?;

    // `+1` and `01` are numbers too, but not names that llama.cpp would look for
    (number.to_string() == layer).then_some((number, suffix))
}

/// Returns the number of tokens, on which embedding and tokenizer must agree.
fn read_n_vocab(gguf: &Gguf, n_embd: u32) -> Result<u32, Refusal> {
    let name = "token_embd.weight";
    let tensor = gguf.tensor(name).ok_or_else(|| Refusal::MissingTensor {
        name: name.to_owned(),
    })?;
    let tokens = gguf.find_array("tokenizer.ggml.tokens")?;
    let n_vocab = tokens.map_or_else(
        || tensor.dims().get(1).copied().unwrap_or(1),
        |tokens| tokens.len,
    );

    let wanted = [u64::from(n_embd), n_vocab];
    if tensor.dims() != wanted {
        return Err(Refusal::TensorShape {
            name: name.to_owned(),
            found: tensor.dims().to_vec(),
            wanted: wanted.to_vec(),
        });
    }
    gguf.text("tokenizer.ggml.model")?;
    if let Some(tokens) = tokens {
        check_tokens(tokens)?;
    }

    match u32::try_from(n_vocab) {
        Ok(n_vocab) if n_vocab <= N_VOCAB_MAX => Ok(n_vocab),
        _ => Err(Refusal::Number {
            key: "tokenizer.ggml.tokens".to_owned(),
            found: format!("a list of {n_vocab}"),
            wanted: "at most 16777216 tokens are accepted",
        }),
    }
}

/// Checks that no token is there twice. Empty ones may be: llama.cpp gives each a name of its own.
fn check_tokens(tokens: Array<'_>) -> Result<(), Refusal> {
    let texts = tokens.iter().map(|token| match token {
        Value::String(text) => Ok(text),
        Value::Unsigned(_)
        | Value::Negative(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Array(_) => Err(Refusal::UnknownList {
            key: "tokenizer.ggml.tokens".to_owned(),
        }),
    });
    let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
    texts.sort_unstable();

    let twice = texts
        .windows(2)
        .find(|pair| pair[0] == pair[1] && !pair[0].is_empty());
    match twice {
        None => Ok(()),
        Some(pair) => Err(Refusal::DuplicateToken {
            token: String::from_utf8_lossy(pair[0]).into_owned(),
        }),
    }
}

/// Returns which layers slide, in the way llama.cpp works it out: a flag per layer, or a period
/// whose last layer sees everything.
fn read_sliding(
    gguf: &Gguf,
    architecture: Architecture,
    n_layers: u32,
) -> Result<Option<Vec<bool>>, Refusal> {
    let Some(usual) = architecture.sliding_window_period() else {
        return Ok(None);
    };
    let window = gguf.find_number(&format!("{architecture}.attention.sliding_window"))?;
    if window.unwrap_or(0) == 0 {
        return Ok(None);
    }

    let key = format!("{architecture}.attention.sliding_window_pattern");
    if let Some(Value::Array(flags)) = gguf.value(&key) {
        let slides = |flag| !matches!(flag, Value::Bool(false) | Value::Unsigned(0));

        return Ok(Some(flags.iter().map(slides).collect()));
    }

    let period = gguf.find_number(&key)?.unwrap_or(usual);
    let slides = |layer: u32| period == 0 || layer % period < period - 1;

    Ok(Some((0..n_layers).map(slides).collect()))
}

fn in_bounds(gguf: &Gguf, key: &str, max: u32) -> Result<u32, Refusal> {
    let found = gguf.number(key)?;
    if found == 0 || found > max {
        return Err(Refusal::Number {
            key: key.to_owned(),
            found: found.to_string(),
            wanted: if max == LAYERS_MAX {
                "it must be from 1 to 512"
            } else {
                "it must be from 1 to 131072"
            },
        });
    }

    Ok(found)
}

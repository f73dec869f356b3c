//! What a model is, for people, and how large its parts are.

use std::path::Path;

use gguf_tools::{Architecture, Description, Gguf, LayerRange, Value};
use node::measure;
use node::work::{self, PROMPT_TOKENS};
use proto::placement::Demand;
use proto::profile::{ModelSize, ShardSize};
use proto::text::clean;

use super::Trouble;
use crate::api::Fit;

/// Bytes of a name or a licence from a file's header, at most: a line on a screen.
const TEXT_BYTES_MAX: usize = 96;

/// Languages that a file may claim, at most: more than a screen shows.
const LANGUAGES_MAX: usize = 32;

/// Bytes of a model's file, at most: the largest open models in four bits have some 400 GB, and phones have less.
pub const FILE_BYTES_MAX: u64 = 1 << 40;

/// Part of everybody's memory, in percent, that must stay free for a model to fit with room to spare. A guess: what
/// another app takes when it is opened. On phones that keep a repacked copy of the weights it is less than that copy,
/// which placement counts as soon as it was measured.
const SPARE_PERCENT: u64 = 20;

/// Phones that a model is cut for at least: somebody may come while this phone runs it alone.
pub const PHONES_MIN: u32 = 2;

/// What a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What people call it.
    pub name: String,
    /// Who made it; empty if not known.
    pub maker: String,
    /// Its architecture, as in `general.architecture`.
    pub architecture: String,
    /// How most of its weights are packed.
    pub quantisation: String,
    /// Its licence; empty if not known.
    pub licence: String,
    /// Two-letter codes; empty if not known.
    pub languages: Vec<String>,
    /// Weights.
    pub parameters: u64,
    /// Longest context that it was trained on.
    pub context_tokens: u32,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// What it takes.
    pub shape: Shape,
}

/// How large a model's parts are: all that says whether it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Bytes of everything outside of layers, the vocabulary too.
    pub ends_bytes: u64,
    /// Bytes of each layer.
    pub layer_bytes: Vec<u64>,
    /// Bytes that a token takes in one layer's KV cache (f16).
    pub kv_bytes_per_token_and_layer: u64,
}

impl Card {
    /// Reads a model's header.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unfit`] if the file is no GGUF, or no language model that can be cut
    /// - [`Trouble::Unsupported`] if nobody has tried to cut its architecture
    ///
    /// # Blocking
    ///
    /// Reads the header, some MB, and checks the whole vocabulary.
    pub fn read(path: &Path) -> Result<Self, Trouble> {
        Self::of(&Gguf::open(path)?)
    }

    /// Reads the header of a file that is open.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn of(gguf: &Gguf) -> Result<Self, Trouble> {
        check_architecture(gguf.text("general.architecture")?)?;
        let description = gguf.describe()?;
        if let Some(refusal) = description.refusal {
            return Err(Trouble::Unfit { detail: refusal });
        }

        let text = |key| gguf.find_text(key).ok().flatten().unwrap_or_default();
        let name = match clean(text("general.name"), TEXT_BYTES_MAX) {
            name if name.is_empty() => "unnamed".into(),
            name => name,
        };
        Ok(Self {
            name,
            maker: clean(text("general.organization"), TEXT_BYTES_MAX),
            architecture: description.architecture.clone(),
            quantisation: quantisation(&description),
            licence: clean(text("general.license"), TEXT_BYTES_MAX),
            languages: languages(gguf),
            parameters: description.n_parameters,
            context_tokens: description.n_ctx_train,
            file_bytes: description.file_bytes,
            shape: Shape::of(&description),
        })
    }

    /// Returns what is known of a file that cannot be read.
    pub(super) fn unknown(name: &str, file_bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            maker: String::new(),
            architecture: String::new(),
            quantisation: String::new(),
            licence: String::new(),
            languages: Vec::new(),
            parameters: 0,
            context_tokens: 0,
            file_bytes,
            shape: Shape {
                n_embd: 1,
                ends_bytes: file_bytes,
                layer_bytes: vec![0],
                kv_bytes_per_token_and_layer: 0,
            },
        }
    }
}

fn check_architecture(name: &str) -> Result<(), Trouble> {
    match name.parse::<Architecture>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Trouble::Unsupported {
            architecture: clean(name, TEXT_BYTES_MAX),
        }),
    }
}

/// Returns the type that most bytes are packed in.
fn quantisation(description: &Description) -> String {
    let types = description.bytes_by_type.iter();
    let most = types.max_by_key(|(_, bytes)| **bytes);

    most.map_or_else(String::new, |(tensor_type, _)| {
        tensor_type.name().to_owned()
    })
}

fn languages(gguf: &Gguf) -> Vec<String> {
    let Ok(Some(list)) = gguf.find_array("general.languages") else {
        return Vec::new();
    };
    let codes = list.iter().filter_map(|value| {
        let Value::String(code) = value else {
            return None;
        };
        let is_code = code.len() == 2 && code.iter().all(u8::is_ascii_alphabetic);
        is_code.then(|| String::from_utf8_lossy(code).to_lowercase())
    });

    codes.take(LANGUAGES_MAX).collect()
}

impl Shape {
    fn of(description: &Description) -> Self {
        let layers_bytes = description.layer_bytes.iter().sum::<u64>();

        Self {
            n_embd: description.n_embd,
            ends_bytes: description.file_bytes.saturating_sub(layers_bytes),
            layer_bytes: description.layer_bytes.clone(),
            kv_bytes_per_token_and_layer: description.kv_bytes_per_token_and_layer,
        }
    }

    /// Returns what one phone needs to run the model whole, with the planned context; `u64::MAX` if that is beyond
    /// counting.
    pub fn needed_bytes(&self) -> u64 {
        self.demand(1).needed_bytes().unwrap_or(u64::MAX)
    }

    /// Returns whether the model fits phones with these memory budgets, of which the first holds the ends.
    ///
    /// It is tight if it fits, and would not if everybody had a fifth less.
    ///
    /// # Blocking
    ///
    /// It doubles with every phone: see [`Demand::missing_bytes`].
    pub fn fit(&self, budgets_bytes: &[u64]) -> Fit {
        let n_phones = u32::try_from(budgets_bytes.len()).unwrap_or(u32::MAX);
        let demand = self.demand(n_phones);
        let missing_bytes = |budgets_bytes: &[u64]| {
            let missing_bytes = demand.missing_bytes(budgets_bytes);
            missing_bytes.unwrap_or_else(|error| {
                tracing::warn!(%error, "Whether a model fits cannot be told");
                self.needed_bytes()
            })
        };

        let less = budgets_bytes
            .iter()
            .map(|bytes| bytes / 100 * (100 - SPARE_PERCENT))
            .collect::<Vec<_>>();
        match missing_bytes(budgets_bytes) {
            0 if missing_bytes(&less) == 0 => Fit::Fits,
            0 => Fit::Tight,
            missing_bytes => Fit::TooBig { missing_bytes },
        }
    }

    fn demand(&self, n_phones: u32) -> Demand {
        let sizes = work::sizes();
        let size = ModelSize {
            n_embd: self.n_embd,
            ends_bytes: self.ends_bytes,
            shards: self.shards(work::n_shards(n_phones.max(PHONES_MIN))),
        };

        size.demand(&sizes, PROMPT_TOKENS, measure::costs(self.n_embd, &sizes))
    }

    /// Returns the shards of so many, or of one layer each: as even as layers allow, as the model will be cut.
    fn shards(&self, n_shards: u32) -> Vec<ShardSize> {
        let n_layers = u32::try_from(self.layer_bytes.len()).unwrap_or(u32::MAX);
        let Ok(layers) = LayerRange::new(0, n_layers) else {
            return Vec::new();
        };
        let shard = |range: LayerRange| {
            let layers = range.start() as usize..range.end() as usize;
            ShardSize {
                bytes: self.layer_bytes[layers].iter().sum(),
                kv_bytes_per_token: u64::from(range.len()) * self.kv_bytes_per_token_and_layer,
            }
        };

        layers.split_even(n_shards).into_iter().map(shard).collect()
    }
}

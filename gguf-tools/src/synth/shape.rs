//! The shapes of real models, and of tiny ones for tests.

use crate::arch::Architecture;
use crate::synth::SynthError;
use crate::writer::NewValue;

/// How large the logits are: their standard deviation. A real model's are of this order.
const LOGIT_STD: f32 = 3.0;

/// The same where the LM head is the embedding: with more, the token that came in would always be
/// the most likely to come out.
const TIED_LOGIT_STD: f32 = 1.0;

/// The numbers that make a model as fast or slow as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The architecture.
    pub architecture: Architecture,
    /// Name for people.
    pub name: String,
    /// Number of layers.
    pub n_layers: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Width of the feed-forward.
    pub n_ff: u32,
    /// Heads of the queries.
    pub n_head: u32,
    /// Heads of keys and values.
    pub n_head_kv: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Longest context.
    pub n_ctx_train: u32,
    /// Base of the rotation by position; unused where there is none.
    pub rope_freq_base: f32,
    /// Context for which the rotation was made, where longer ones stretch it by a table of factors.
    pub rope_stretched_from: Option<u32>,
    /// Whether the embedding is also the LM head.
    pub tied_embeddings: bool,
    /// The sliding window, if some layers have one.
    pub window: Option<Window>,
}

/// A sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Tokens that a sliding layer sees.
    pub n_tokens: u32,
    /// One layer in so many sees everything. `None` leaves it to llama.cpp, as real files do.
    pub period: Option<u32>,
}

impl Shape {
    /// The names of all presets.
    pub const PRESETS: [&str; 14] = [
        "llama-3.2-1b",
        "llama-3.2-3b",
        "qwen2.5-0.5b",
        "qwen3-0.6b",
        "gemma-3-1b",
        "bloom-1b1",
        "bloom-3b",
        "phi-3-mini-128k",
        "tiny-llama",
        "tiny-qwen2",
        "tiny-qwen3",
        "tiny-gemma3",
        "tiny-bloom",
        "tiny-phi3",
    ];

    /// Returns the shape called `name`.
    ///
    /// Real shapes are those of the published configurations. Tiny ones have 5 to 8 layers of width
    /// 128 and differ from each other where architectures may: tied or not, heads wider than their
    /// share, a window with a period that cuts do not follow, stretched rotations.
    ///
    /// # Errors
    ///
    /// [`SynthError::Preset`] if there is none, with the names that there are.
    pub fn preset(name: &str) -> Result<Self, SynthError> {
        use Architecture::{Bloom, Gemma3, Llama, Phi3, Qwen2, Qwen3};

        // layers, width, feed-forward, heads, their keys and values, elements of a head
        let shape = |architecture, sizes: [u32; 6], n_vocab, n_ctx_train, tied_embeddings| Shape {
            architecture,
            name: name.to_owned(),
            n_layers: sizes[0],
            n_embd: sizes[1],
            n_ff: sizes[2],
            n_head: sizes[3],
            n_head_kv: sizes[4],
            head_dim: sizes[5],
            n_vocab,
            n_ctx_train,
            rope_freq_base: 10_000.0,
            rope_stretched_from: None,
            tied_embeddings,
            window: None,
        };
        let window = |n_tokens, period| Some(Window { n_tokens, period });

        Ok(match name {
            "llama-3.2-1b" => Shape {
                rope_freq_base: 500_000.0,
                rope_stretched_from: Some(8192),
                ..shape(Llama, [16, 2048, 8192, 32, 8, 64], 128_256, 131_072, true)
            },
            "llama-3.2-3b" => Shape {
                rope_freq_base: 500_000.0,
                rope_stretched_from: Some(8192),
                ..shape(Llama, [28, 3072, 8192, 24, 8, 128], 128_256, 131_072, true)
            },
            "qwen2.5-0.5b" => Shape {
                rope_freq_base: 1_000_000.0,
                ..shape(Qwen2, [24, 896, 4864, 14, 2, 64], 151_936, 32_768, true)
            },
            "qwen3-0.6b" => Shape {
                rope_freq_base: 1_000_000.0,
                ..shape(Qwen3, [28, 1024, 3072, 16, 8, 128], 151_936, 40_960, true)
            },
            "gemma-3-1b" => Shape {
                rope_freq_base: 1_000_000.0,
                window: window(512, None),
                ..shape(Gemma3, [26, 1152, 6912, 4, 1, 256], 262_144, 32_768, true)
            },
            "bloom-1b1" => shape(Bloom, [24, 1536, 6144, 16, 16, 96], 250_880, 2048, true),
            "bloom-3b" => shape(Bloom, [30, 2560, 10_240, 32, 32, 80], 250_880, 2048, true),
            "phi-3-mini-128k" => Shape {
                rope_stretched_from: Some(4096),
                ..shape(Phi3, [32, 3072, 8192, 32, 32, 96], 32_064, 131_072, false)
            },
            "tiny-llama" => Shape {
                rope_freq_base: 500_000.0,
                rope_stretched_from: Some(64),
                ..shape(Llama, [6, 128, 256, 4, 2, 32], 512, 2048, false)
            },
            "tiny-qwen2" => shape(Qwen2, [5, 128, 256, 4, 2, 32], 512, 2048, true),
            "tiny-qwen3" => shape(Qwen3, [5, 128, 256, 4, 2, 64], 512, 2048, false),
            "tiny-gemma3" => Shape {
                window: window(24, Some(3)),
                ..shape(Gemma3, [8, 128, 256, 4, 1, 64], 512, 2048, true)
            },
            "tiny-bloom" => shape(Bloom, [5, 128, 512, 4, 4, 32], 512, 2048, true),
            "tiny-phi3" => Shape {
                rope_stretched_from: Some(256),
                ..shape(Phi3, [5, 128, 256, 4, 2, 32], 512, 2048, false)
            },
            _ => {
                return Err(SynthError::Preset {
                    name: name.to_owned(),
                });
            }
        })
    }

    /// Returns the metadata of the architecture, without its prefix.
    pub(super) fn numbers(&self) -> Vec<(&'static str, NewValue)> {
        let mut numbers = vec![
            ("block_count", NewValue::U32(self.n_layers)),
            ("context_length", NewValue::U32(self.n_ctx_train)),
            ("embedding_length", NewValue::U32(self.n_embd)),
            ("feed_forward_length", NewValue::U32(self.n_ff)),
            ("attention.head_count", NewValue::U32(self.n_head)),
            ("attention.head_count_kv", NewValue::U32(self.n_head_kv)),
            (
                self.architecture.epsilon_key(),
                NewValue::F32(self.epsilon()),
            ),
        ];

        if self.architecture.rotates() {
            numbers.push(("rope.freq_base", NewValue::F32(self.rope_freq_base)));
            numbers.push(("rope.dimension_count", NewValue::U32(self.head_dim)));
        }
        if !self.architecture.queries_are_n_embd_wide() {
            numbers.push(("attention.key_length", NewValue::U32(self.head_dim)));
            numbers.push(("attention.value_length", NewValue::U32(self.head_dim)));
        }
        if let (Architecture::Phi3, Some(from)) = (self.architecture, self.rope_stretched_from) {
            numbers.push(("rope.scaling.original_context_length", NewValue::U32(from)));
            numbers.push(("rope.scaling.attn_factor", NewValue::F32(1.190_24)));
        }
        if let Some(window) = self.window {
            numbers.push(("attention.sliding_window", NewValue::U32(window.n_tokens)));
            if let Some(period) = window.period {
                numbers.push(("attention.sliding_window_pattern", NewValue::U32(period)));
            }
        }

        numbers
    }

    /// Returns the tables of factors that stretch rotations, one factor per pair of elements.
    pub(super) fn rope_tables(&self) -> Vec<(&'static str, Vec<f32>)> {
        let Some(from) = self.rope_stretched_from else {
            return Vec::new();
        };
        let n_pairs = self.head_dim / 2;

        match self.architecture {
            Architecture::Llama => {
                let table = (0..n_pairs).map(|pair| self.llama3_factor(pair, from as f32));
                vec![("rope_freqs.weight", table.collect())]
            }
            // The published tables were searched for; these only rise in the same way.
            Architecture::Phi3 => {
                let rising = |to: f32| {
                    let part = move |pair| pair as f32 / n_pairs as f32;
                    let table = (0..n_pairs).map(move |pair| 1.0 + (to - 1.0) * part(pair));
                    table.collect::<Vec<f32>>()
                };
                vec![
                    ("rope_factors_long.weight", rising(60.0)),
                    ("rope_factors_short.weight", rising(2.5)),
                ]
            }
            Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Gemma3
            | Architecture::Bloom => Vec::new(),
        }
    }

    /// Returns the factor of Llama 3.2 for a pair of elements: 1 for short waves, 32 for those
    /// longer than the context `from`, and in between what joins the two.
    fn llama3_factor(&self, pair: u32, from: f32) -> f32 {
        const STRETCH: f32 = 32.0;
        const LOW: f32 = 1.0;
        const HIGH: f32 = 4.0;

        let exponent = 2.0 * pair as f32 / self.head_dim as f32;
        let wave = 2.0 * std::f32::consts::PI * self.rope_freq_base.powf(exponent);
        let smooth = ((from / wave - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);

        1.0 / ((1.0 - smooth) / STRETCH + smooth)
    }

    fn epsilon(&self) -> f32 {
        match self.architecture {
            Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Gemma3 => 1e-6,
            Architecture::Llama | Architecture::Bloom | Architecture::Phi3 => 1e-5,
        }
    }

    /// Returns how large the embeddings are: as large as the LM head wants them, where they are it.
    pub(super) fn embedding_std(&self) -> f32 {
        let tied = TIED_LOGIT_STD / (self.n_embd as f32).sqrt();

        match (self.tied_embeddings, self.architecture) {
            // llama.cpp multiplies these by the square root of their width
            (true, Architecture::Gemma3) => tied / 4.0,
            (true, _) => tied,
            (false, _) => 1.0,
        }
    }

    /// Returns how large the weights of a separate LM head are: hidden states enter with a size of 1.
    pub(super) fn head_std(&self) -> f32 {
        LOGIT_STD / (self.n_embd as f32).sqrt()
    }

    /// Checks that the numbers fit each other.
    pub(super) fn check(&self) -> Result<(), SynthError> {
        let impossible = |what, found: u32, wanted| {
            Err(SynthError::Shape {
                what,
                found: found.into(),
                wanted,
            })
        };
        let sizes = [
            ("n_layers", self.n_layers, 512),
            ("n_embd", self.n_embd, 1 << 17),
            ("n_ff", self.n_ff, 1 << 20),
            ("n_head", self.n_head, 1 << 10),
            ("n_head_kv", self.n_head_kv, 1 << 10),
            ("head_dim", self.head_dim, 1 << 12),
            ("n_ctx_train", self.n_ctx_train, u32::MAX),
        ];

        for (what, found, max) in sizes {
            if found == 0 || found > max {
                return impossible(what, found, "no model has that many");
            }
        }
        if !self.n_head.is_multiple_of(self.n_head_kv) {
            return impossible("n_head_kv", self.n_head_kv, "it must divide n_head");
        }
        let wide = self.architecture.queries_are_n_embd_wide();
        if wide && self.n_head * self.head_dim != self.n_embd {
            return impossible(
                "head_dim",
                self.head_dim,
                "n_head × head_dim must be n_embd",
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return impossible("head_dim", self.head_dim, "it must be even");
        }

        Ok(())
    }
}

//! The allow list: which architectures can be cut, and what each is made of.
//!
//! llama.cpp knows some hundred architectures; a cut is honest only where somebody has read what
//! the architecture derives from its layer count, from layer 0, or from its input being tokens, and
//! has compared split with whole. For the six below that has been done. Their tensors and traps
//! are spelt out here; a model with any other tensor is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// An architecture that can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama and its kin: SmolLM, Mistral, TinyLlama.
    Llama,
    /// Qwen 2 and 2.5, dense.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Gemma 3, text only.
    Gemma3,
    /// BLOOM.
    Bloom,
    /// Phi 3 and 4, dense.
    Phi3,
}

/// How a hidden state enters a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// As input embeddings; they reach the first layer unchanged.
    Embeddings,
    /// As input embeddings of any value, and then written over the named tensor as soon as that
    /// has been computed, because the graph changes embeddings before the first layer sees them.
    Overwrite {
        /// The tensor to write over in a layer shard.
        layers: &'static str,
        /// The tensor to write over in the ends, when a hidden state becomes logits.
        ends: &'static str,
    },
}

/// Which shards a tensor outside of the layers belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Only the ends.
    Ends,
    /// The ends and, as a copy, every layer shard.
    Everywhere,
    /// A copy in every layer shard, but not the ends: the identity layer has another head size.
    Layers,
}

/// A tensor outside of the layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) name: &'static str,
    pub(crate) home: Home,
    pub(crate) required: bool,
}

const fn outer(name: &'static str, home: Home, required: bool) -> Outer {
    Outer {
        name,
        home,
        required,
    }
}

const TOKEN_EMBD: Outer = outer("token_embd.weight", Home::Ends, true);
const OUTPUT: Outer = outer("output.weight", Home::Ends, false);
const OUTPUT_NORM: Outer = outer("output_norm.weight", Home::Everywhere, true);
const OUTPUT_BIAS: Outer = outer("output.bias", Home::Ends, false);
const OUTPUT_NORM_BIAS: Outer = outer("output_norm.bias", Home::Everywhere, true);
const EMBD_NORM: Outer = outer("token_embd_norm.weight", Home::Everywhere, true);
const EMBD_NORM_BIAS: Outer = outer("token_embd_norm.bias", Home::Everywhere, true);
const ROPE_FREQS: Outer = outer("rope_freqs.weight", Home::Layers, false);
const ROPE_LONG: Outer = outer("rope_factors_long.weight", Home::Layers, false);
const ROPE_SHORT: Outer = outer("rope_factors_short.weight", Home::Layers, false);

/// Parts of a layer: required ones, then optional ones. Attention's projections stand apart
/// ([`Architecture::projections`]), because they come fused or in three.
struct Parts {
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const SPLIT_QKV: [&str; 3] = ["attn_q.weight", "attn_k.weight", "attn_v.weight"];
const FUSED_QKV: [&str; 1] = ["attn_qkv.weight"];
const QKV_BIASES: [&str; 4] = ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"];

impl Architecture {
    /// Every architecture that can be cut.
    pub const ALL: [Architecture; 6] = [
        Architecture::Llama,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Gemma3,
        Architecture::Bloom,
        Architecture::Phi3,
    ];

    /// Returns the name, as in the key `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gemma3 => "gemma3",
            Architecture::Bloom => "bloom",
            Architecture::Phi3 => "phi3",
        }
    }

    /// Returns how a hidden state enters a shard of this architecture.
    pub fn entry(self) -> Entry {
        match self {
            // BLOOM normalises whatever comes in as embeddings.
            Architecture::Bloom => Entry::Overwrite {
                layers: "inp_norm-0",
                ends: "l_out-0",
            },
            // Gemma 3 scales only rows that come in as tokens.
            Architecture::Llama
            | Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Gemma3
            | Architecture::Phi3 => Entry::Embeddings,
        }
    }

    /// Returns the name of the tensor that layer `layer` of a shard puts out, before any norm.
    ///
    /// Layers are counted within the shard.
    pub fn layer_output_name(self, layer: u32) -> String {
        format!("l_out-{layer}")
    }

    /// Returns the name of the tensor that enters layer 0 when tokens come in: in the ends, the
    /// same as the output of the identity layer, one layer earlier.
    pub fn embedding_name(self) -> &'static str {
        match self {
            Architecture::Gemma3 => "inp_scaled",
            Architecture::Bloom => "inp_norm-0",
            Architecture::Llama
            | Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Phi3 => "embd",
        }
    }

    /// Returns whether positions enter by rotating queries and keys (RoPE); else by ALiBi.
    pub(crate) fn rotates(self) -> bool {
        self != Architecture::Bloom
    }

    /// Returns whether llama.cpp insists that the whole of each head is rotated.
    pub(crate) fn rotates_whole_heads(self) -> bool {
        matches!(
            self,
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3
        )
    }

    /// Returns whether llama.cpp makes the queries as wide as the hidden state, whatever the heads.
    pub(crate) fn queries_are_n_embd_wide(self) -> bool {
        matches!(
            self,
            Architecture::Qwen2 | Architecture::Bloom | Architecture::Phi3
        )
    }

    /// Returns the key that holds the epsilon of the norms, without its prefix.
    pub(crate) fn epsilon_key(self) -> &'static str {
        match self {
            Architecture::Bloom => "attention.layer_norm_epsilon",
            Architecture::Llama
            | Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Gemma3
            | Architecture::Phi3 => "attention.layer_norm_rms_epsilon",
        }
    }

    /// Returns a layer count from which llama.cpp derives more than a label, if there is one.
    ///
    /// Gemma 3 with 62 layers is taken for the 27B model, whose attention is scaled otherwise: a
    /// shard of it would not be, and a shard of 62 layers of another would.
    pub(crate) fn special_layer_count(self) -> Option<u32> {
        (self == Architecture::Gemma3).then_some(62)
    }

    /// Returns the period of the sliding-window pattern where the file names only a window.
    pub(crate) fn sliding_window_period(self) -> Option<u32> {
        (self == Architecture::Gemma3).then_some(6)
    }

    /// Returns the tensors outside of the layers.
    pub(crate) fn outer_tensors(self) -> &'static [Outer] {
        match self {
            Architecture::Llama => &[
                TOKEN_EMBD,
                OUTPUT_NORM,
                OUTPUT,
                ROPE_FREQS,
                ROPE_LONG,
                ROPE_SHORT,
            ],
            Architecture::Qwen2 => &[TOKEN_EMBD, OUTPUT_NORM, OUTPUT, OUTPUT_BIAS],
            Architecture::Qwen3 | Architecture::Gemma3 => &[TOKEN_EMBD, OUTPUT_NORM, OUTPUT],
            Architecture::Bloom => &[
                TOKEN_EMBD,
                EMBD_NORM,
                EMBD_NORM_BIAS,
                OUTPUT_NORM,
                OUTPUT_NORM_BIAS,
                OUTPUT,
            ],
            Architecture::Phi3 => &[TOKEN_EMBD, OUTPUT_NORM, OUTPUT, ROPE_LONG, ROPE_SHORT],
        }
    }

    /// Returns whether a layer may hold a tensor with this name after `blk.N.`.
    pub(crate) fn layer_may_hold(self, suffix: &str) -> bool {
        let parts = self.parts();
        let lists = [
            parts.required,
            parts.optional,
            &SPLIT_QKV,
            &FUSED_QKV,
            &QKV_BIASES,
        ];

        lists.iter().any(|list| list.contains(&suffix))
    }

    /// Returns the first tensor that a layer lacks, given which it holds.
    pub(crate) fn missing_in_layer(self, holds: impl Fn(&str) -> bool) -> Option<&'static str> {
        let projections = if holds(FUSED_QKV[0]) {
            &FUSED_QKV[..]
        } else {
            &SPLIT_QKV[..]
        };
        let mut needed = self.parts().required.iter().chain(projections);

        needed.find(|suffix| !holds(suffix)).copied()
    }

    fn parts(self) -> Parts {
        match self {
            Architecture::Llama => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_output.weight",
                    "ffn_norm.weight",
                    "ffn_gate.weight",
                    "ffn_up.weight",
                    "ffn_down.weight",
                ],
                optional: &[
                    "attn_output.bias",
                    "ffn_gate.bias",
                    "ffn_up.bias",
                    "ffn_down.bias",
                ],
            },
            Architecture::Qwen2 => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_output.weight",
                    "ffn_norm.weight",
                    "ffn_gate.weight",
                    "ffn_up.weight",
                    "ffn_down.weight",
                ],
                optional: &[],
            },
            Architecture::Qwen3 => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_q_norm.weight",
                    "attn_k_norm.weight",
                    "attn_output.weight",
                    "ffn_norm.weight",
                    "ffn_gate.weight",
                    "ffn_up.weight",
                    "ffn_down.weight",
                ],
                optional: &[],
            },
            Architecture::Gemma3 => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_q_norm.weight",
                    "attn_k_norm.weight",
                    "attn_output.weight",
                    "post_attention_norm.weight",
                    "ffn_norm.weight",
                    "ffn_gate.weight",
                    "ffn_up.weight",
                    "ffn_down.weight",
                    "post_ffw_norm.weight",
                ],
                optional: &[],
            },
            Architecture::Bloom => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_norm.bias",
                    "attn_qkv.weight",
                    "attn_qkv.bias",
                    "attn_output.weight",
                    "attn_output.bias",
                    "ffn_norm.weight",
                    "ffn_norm.bias",
                    "ffn_up.weight",
                    "ffn_up.bias",
                    "ffn_down.weight",
                    "ffn_down.bias",
                ],
                optional: &[],
            },
            Architecture::Phi3 => Parts {
                required: &[
                    "attn_norm.weight",
                    "attn_output.weight",
                    "ffn_norm.weight",
                    "ffn_up.weight",
                    "ffn_down.weight",
                ],
                optional: &[],
            },
        }
    }
}

impl FromStr for Architecture {
    type Err = Refusal;

    /// Returns the architecture called `name` in `general.architecture`.
    fn from_str(name: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.into_iter().find(|arch| arch.name() == name);

        found.ok_or_else(|| Refusal::Architecture {
            found: name.to_owned(),
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_architecture_is_told_what_is_supported() {
        let refusal = "opt".parse::<Architecture>().unwrap_err().to_string();

        assert!(refusal.contains("opt"), "{refusal}");
        for arch in Architecture::ALL {
            assert!(refusal.contains(arch.name()), "{refusal}");
            assert_eq!(arch.name().parse::<Architecture>().unwrap(), arch);
        }
    }
}

//! Saying what a file is, for people and programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Heads, Model, layer_and_suffix};
use crate::reader::{Gguf, ReadError};
use crate::tensor_type::TensorType;

/// What a model file is. Made of any GGUF file that has the usual numbers, whether or not it can be
/// cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The model's name for people, if it has one.
    pub name: Option<String>,
    /// The architecture, as in the file.
    pub architecture: String,
    /// Why the model cannot be cut, if it cannot.
    pub refusal: Option<String>,
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of layers.
    pub n_layers: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u64,
    /// Longest context that the model was trained on.
    pub n_ctx_train: u32,
    /// Heads of the queries.
    pub n_head: u32,
    /// Heads of keys and values.
    pub n_head_kv: u32,
    /// Elements of a key; of a query as well.
    pub key_length: u32,
    /// Elements of a value.
    pub value_length: u32,
    /// Number of weights.
    pub n_parameters: u64,
    /// Bytes of each layer's tensors, in order.
    pub layer_bytes: Vec<u64>,
    /// Bytes of the tensors outside of the layers.
    pub outer_bytes: u64,
    /// Bytes of tensors by how they are packed.
    pub bytes_by_type: BTreeMap<TensorType, u64>,
    /// Bytes that one token takes in one layer's KV cache (f16). Layers with a sliding window need
    /// no more than this.
    pub kv_bytes_per_token_and_layer: u64,
    /// Whether the LM head is the embedding.
    pub tied_embeddings: bool,
    /// The tokenizer's kind, if there is one: `gpt2`, `llama`, …
    pub tokenizer: Option<String>,
    /// Whether the file holds a chat template.
    pub has_chat_template: bool,
}

impl Gguf {
    /// Says what the file is.
    ///
    /// # Errors
    ///
    /// [`ReadError::MissingKey`] or [`ReadError::WrongValue`] with the key, if one of the numbers
    /// that every language model has is not there.
    pub fn describe(&self) -> Result<Description, ReadError> {
        let architecture = self.text("general.architecture")?;
        let n_layers = self.number(&format!("{architecture}.block_count"))?;
        let n_embd = self.number(&format!("{architecture}.embedding_length"))?;
        let heads = Heads::read(self, architecture, n_embd)?;
        let (layer_bytes, outer_bytes) = self.bytes_by_layer();

        Ok(Description {
            name: self.find_text("general.name")?.map(str::to_owned),
            architecture: architecture.to_owned(),
            refusal: Model::read(self).err().map(|refusal| refusal.to_string()),
            file_bytes: self.file_bytes(),
            n_layers,
            n_embd,
            n_vocab: self.n_vocab()?,
            n_ctx_train: self.number(&format!("{architecture}.context_length"))?,
            n_head: heads.n_head,
            n_head_kv: heads.n_head_kv,
            key_length: heads.key_length,
            value_length: heads.value_length,
            n_parameters: self.tensors().map(|tensor| tensor.n_elements()).sum(),
            layer_bytes,
            outer_bytes,
            bytes_by_type: self.bytes_by_type(),
            kv_bytes_per_token_and_layer: heads.kv_bytes_per_token(),
            tied_embeddings: self.tensor("output.weight").is_none(),
            tokenizer: self.find_text("tokenizer.ggml.model")?.map(str::to_owned),
            has_chat_template: self.value("tokenizer.chat_template").is_some(),
        })
    }

    /// Returns the bytes of each layer that has tensors, and of what is outside of layers.
    fn bytes_by_layer(&self) -> (Vec<u64>, u64) {
        let mut layers = BTreeMap::<u32, u64>::new();
        let mut outer = 0;

        for tensor in self.tensors() {
            let bytes = tensor.bytes.len() as u64;
            match layer_and_suffix(tensor.name) {
                Some((layer, _)) => *layers.entry(layer).or_default() += bytes,
                None => outer += bytes,
            }
        }

        (layers.into_values().collect(), outer)
    }

    fn bytes_by_type(&self) -> BTreeMap<TensorType, u64> {
        let mut bytes = BTreeMap::new();
        for tensor in self.tensors() {
            *bytes.entry(tensor.tensor_type).or_default() += tensor.bytes.len() as u64;
        }

        bytes
    }

    fn n_vocab(&self) -> Result<u64, ReadError> {
        if let Some(tokens) = self.find_array("tokenizer.ggml.tokens")? {
            return Ok(tokens.len);
        }
        let embedding = self.tensor("token_embd.weight");

        Ok(embedding.map_or(0, |tensor| tensor.dims().get(1).copied().unwrap_or(0)))
    }
}

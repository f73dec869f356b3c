//! A whole model in one context, with none of our tricks: what shards are measured against.

use std::sync::Arc;

use crate::error::RunError;
use crate::llama::{Context, Input, Model, Row, Token};

/// A whole model in plain llama.cpp: tokens in, logits out, one sequence.
///
/// It has llama.cpp's own defaults for everything but threads, positions and batch: no eval
/// callback, no pinned attention.
pub struct Whole {
    pub(crate) context: Context,
    pub(crate) model: Arc<Model>,
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_positions: u32,
}

impl Whole {
    /// Appends tokens to the sequence and returns the logits of the last `n_wanted` of them.
    ///
    /// # Shapes
    ///
    /// - returns: `[n_wanted, n_vocab]`
    ///
    /// # Errors
    ///
    /// - [`RunError::CacheFull`] if the sequence would exceed `n_ctx`
    /// - [`RunError::WrongShape`] if there are no tokens, more than `n_batch`, or fewer than
    ///   `n_wanted`
    /// - [`RunError::Backend`] if llama.cpp fails
    pub fn run(&mut self, tokens: &[Token], n_wanted: u32) -> Result<&mut [f32], RunError> {
        let n_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        if n_tokens == 0 || n_tokens > self.n_batch || n_wanted > n_tokens {
            return Err(RunError::WrongShape {
                found: tokens.len(),
                wanted: self.n_batch as usize,
            });
        }
        if n_tokens > self.n_ctx - self.n_positions {
            return Err(RunError::CacheFull {
                sequence: 0,
                position: self.n_positions,
                n_tokens,
                n_ctx: self.n_ctx,
            });
        }

        let first = self.n_positions;
        let rows = (0..n_tokens).map(|i| Row {
            sequence: 0,
            position: first + i,
            wanted: i >= n_tokens - n_wanted,
        });
        self.context
            .decode(Input::Tokens(tokens), rows, &mut [])
            .map_err(RunError::from)?;
        self.n_positions += n_tokens;

        Ok(self.context.logits(n_wanted as usize))
    }

    /// Forgets the sequence.
    pub fn clear(&mut self) {
        self.context.forget_all();
        self.n_positions = 0;
    }

    /// Returns how many tokens the vocabulary has.
    pub fn n_vocab(&self) -> usize {
        self.model.n_vocab()
    }
}

//! The ends of a model: text in, text out, and what lies between tokens and hidden states.
//!
//! The ends are one file: token embeddings, output norm, LM head and tokenizer, around one layer
//! that lets everything pass. They are loaded once and used by two contexts, each of which keeps
//! its graph from step to step:
//!
//! - the **embedder** takes tokens and stops where the first layer would begin;
//! - the **scorer** takes hidden states, and llama.cpp does the rest.
//!
//! One context for both would build its graph anew twice per token.

use std::sync::Arc;

use crate::chat::{ChatError, ChatMessage, ChatTemplate};
use crate::error::RunError;
use crate::llama::{Context, Input, Model, Row, Token};

/// Rows that the scorer takes at once.
///
/// llama.cpp keeps the logits of all rows, 1 MB per row for a vocabulary of 262,144; more rows go
/// one lot after the other. A lot is as much as several sessions, or one verified draft, bring in
/// one step.
pub(crate) const SCORED_ROWS_MAX: u32 = 8;

/// A model's ends, loaded.
pub struct Ends {
    pub(crate) needed_bytes: u64,
    pub(crate) embedder: Context,
    pub(crate) scorer: Context,
    pub(crate) model: Arc<Model>,
    pub(crate) template: ChatTemplate,
    pub(crate) n_batch: u32,
}

impl Ends {
    /// Turns tokens into hidden states.
    ///
    /// # Shapes
    ///
    /// - `out`: is resized to `[n_tokens, n_embd]`
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownToken`] if a token is not in the vocabulary
    /// - [`RunError::Backend`] or [`RunError::WrongGraph`] if llama.cpp fails
    pub fn embed(&mut self, tokens: &[Token], out: &mut Vec<f32>) -> Result<(), RunError> {
        let (n_embd, n_vocab) = (self.model.n_embd(), self.model.n_vocab());
        let is_known = |token: Token| usize::try_from(token).is_ok_and(|token| token < n_vocab);
        if let Some(&token) = tokens.iter().find(|&&token| !is_known(token)) {
            return Err(RunError::UnknownToken { token, n_vocab });
        }
        out.resize(tokens.len() * n_embd, 0.0);

        let n_batch = self.n_batch as usize;
        for (tokens, out) in tokens.chunks(n_batch).zip(out.chunks_mut(n_batch * n_embd)) {
            // No row is wanted: the layer is never reached, and llama.cpp need not hold logits.
            self.embedder.forget_all();
            self.embedder
                .decode(Input::Tokens(tokens), rows(tokens.len(), false), out)?;
        }

        Ok(())
    }

    /// Turns hidden states, as they leave the last layer, into logits.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[n_rows, n_embd]`
    /// - `out`: is resized to `[n_rows, n_vocab]`
    ///
    /// # Errors
    ///
    /// - [`RunError::WrongShape`] if `hidden` is not whole rows
    /// - [`RunError::Backend`] or [`RunError::WrongGraph`] if llama.cpp fails
    pub fn logits(&mut self, hidden: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        let (n_embd, n_vocab) = (self.model.n_embd(), self.model.n_vocab());
        if !hidden.len().is_multiple_of(n_embd) {
            let wanted = hidden.len().next_multiple_of(n_embd);
            return Err(RunError::WrongShape {
                found: hidden.len(),
                wanted,
            });
        }
        out.resize(hidden.len() / n_embd * n_vocab, 0.0);

        let n_rows_max = SCORED_ROWS_MAX as usize;
        let lots = hidden
            .chunks(n_rows_max * n_embd)
            .zip(out.chunks_mut(n_rows_max * n_vocab));
        for (hidden, out) in lots {
            let n_rows = hidden.len() / n_embd;
            self.scorer.forget_all();
            self.scorer
                .decode(Input::Hidden(hidden), rows(n_rows, true), &mut [])?;
            out.copy_from_slice(self.scorer.logits(n_rows));
        }

        Ok(())
    }

    /// Splits text into tokens, and adds none.
    ///
    /// With `parse_special`, names of control tokens in the text become these tokens: right for a
    /// rendered chat, wrong for what a person typed. Returns nothing for a model without a
    /// tokenizer.
    pub fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token> {
        self.model.tokenize(text, parse_special).unwrap_or_default()
    }

    /// Splits a rendered chat into tokens, begun as the model wants it.
    ///
    /// Puts the beginning-of-sequence token first if the model asks for it, unless the template has
    /// done so.
    pub fn tokenize_prompt(&self, prompt: &str) -> Vec<Token> {
        let mut tokens = self.tokenize(prompt, true);
        if let Some(bos) = self.model.bos()
            && self.model.wants_bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }

        tokens
    }

    /// Appends the bytes that a token stands for.
    ///
    /// They are not always whole characters ([`Detokenizer`](crate::Detokenizer) makes text of
    /// them); none for control tokens.
    pub fn append_piece(&self, token: Token, out: &mut Vec<u8>) {
        self.model.append_piece(token, out);
    }

    /// Renders a chat as the text that the model was trained on, with the model's own template.
    ///
    /// With `add_generation_prompt` it ends where the answer is to begin. `now` is the time that
    /// templates may write into the prompt: keep it from turn to turn, or the cached prefix of the
    /// conversation is lost.
    ///
    /// # Errors
    ///
    /// [`ChatError`] if the template does not accept these messages.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: std::time::SystemTime,
    ) -> Result<String, ChatError> {
        self.template.render(messages, add_generation_prompt, now)
    }

    /// Returns texts that end the answer, beside end-of-turn tokens, because the template has no
    /// such token.
    pub fn stop_strings(&self) -> &'static [&'static str] {
        self.template.stop_strings()
    }

    /// Returns whether an answer ends with `token`.
    pub fn is_end_of_turn(&self, token: Token) -> bool {
        self.model.is_end_of_turn(token)
    }

    /// Returns whether `token` stands for no text.
    pub fn is_control(&self, token: Token) -> bool {
        self.model.is_control(token)
    }

    /// Returns the beginning-of-sequence token, if there is one.
    pub fn bos(&self) -> Option<Token> {
        self.model.bos()
    }

    /// Returns the end-of-sequence token, if there is one.
    pub fn eos(&self) -> Option<Token> {
        self.model.eos()
    }

    /// Returns what the ends take in memory: weights and what is kept of them a second time, and
    /// buffers.
    pub fn needed_bytes(&self) -> u64 {
        self.needed_bytes
    }

    /// Returns how many tokens the vocabulary has.
    pub fn n_vocab(&self) -> usize {
        self.model.n_vocab()
    }

    /// Returns the length of a row of hidden state.
    pub fn n_embd(&self) -> usize {
        self.model.n_embd()
    }
}

/// Rows 0, 1, 2, … of the only sequence.
fn rows(n: usize, wanted: bool) -> impl Iterator<Item = Row> {
    (0..n as u32).map(move |position| Row {
        sequence: 0,
        position,
        wanted,
    })
}

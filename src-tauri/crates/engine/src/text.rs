//! From tokens to text that can be shown as it comes: whole characters only, and nothing of a stop string.
//!
//! A token is bytes, and a character may take several tokens: [`Detokenizer`] holds back the beginning of a character until the
//! rest is there. A stop string may take several pieces of text: [`StopStrings`] holds back what may
//! become one.

use crate::ends::Ends;
use crate::llama::Token;

/// Makes text of tokens, as they come.
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    /// The beginning of a character, at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// Returns a detokenizer that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what is complete after `token` to `out`.
    ///
    /// Bytes that cannot become a character come out as U+FFFD, as in [`String::from_utf8_lossy`].
    pub fn push(&mut self, ends: &Ends, token: Token, out: &mut String) {
        ends.append_piece(token, &mut self.pending);
        self.take_complete(out);
    }

    /// Appends what is still held to `out`, at the end of the answer.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
    }

    fn take_complete(&mut self, out: &mut String) {
        let mut rest = self.pending.as_slice();
        let n_held = loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    break 0;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid));
                    let Some(n_invalid) = error.error_len() else {
                        break invalid.len();
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &invalid[n_invalid..];
                }
            }
        };

        self.pending.drain(..self.pending.len() - n_held);
    }
}

/// Watches text for strings that end an answer, across the borders of its pieces.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far, as far as a stop string may begin in it.
    held: String,
}

impl StopStrings {
    /// Returns a watch for these strings; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let stops = stops.into_iter().map(Into::into).filter(|stop| !stop.is_empty());

        Self { stops: stops.collect(), held: String::new() }
    }

    /// Takes a piece of text and appends to `out` what cannot belong to a stop string.
    ///
    /// Returns whether a stop string is complete: `out` then ends before it, and what follows it is dropped.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }

        let n_free = self.held.len() - self.n_held();
        out.push_str(&self.held[..n_free]);
        self.held.drain(..n_free);

        false
    }

    /// Appends what is still held to `out`, at the end of the answer.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Returns the length of the longest end of `held` with which a stop string begins.
    fn n_held(&self) -> usize {
        let begins = |stop: &String| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };

        // A stop string begins with a whole character, so it can only be found where a character begins.
        self.stops.iter().filter_map(begins).max().unwrap_or(0)
    }
}

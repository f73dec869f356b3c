//! From tokens to text that can be shown as it comes: whole characters only, and nothing of a stop
//! string.
//!
//! A token is bytes, and a character may take several tokens: [`Detokenizer`] holds back the
//! beginning of a character until the rest is there. A stop string may take several pieces of text:
//! [`StopStrings`] holds back what may become one.

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

    /// Appends what is complete after `bytes` to `out`.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
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
        let stops = stops
            .into_iter()
            .map(Into::into)
            .filter(|stop| !stop.is_empty());

        Self {
            stops: stops.collect(),
            held: String::new(),
        }
    }

    /// Takes a piece of text and appends to `out` what cannot belong to a stop string.
    ///
    /// Returns whether a stop string is complete: `out` then ends before it, and what follows it is
    /// dropped.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.held.push_str(piece);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
        {
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
            (1..=longest)
                .rev()
                .find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };

        // A stop string begins with a whole character, so it can only be found where a character
        // begins.
        self.stops.iter().filter_map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_appears_when_its_last_byte_does() {
        let mut detokenizer = Detokenizer::new();
        let mut seen = Vec::new();
        for byte in "a😀é".bytes() {
            let mut text = String::new();
            detokenizer.push_bytes(&[byte], &mut text);
            seen.push(text);
        }

        assert_eq!(seen, ["a", "", "", "", "😀", "", "é"]);
    }

    #[test]
    fn a_stop_string_ends_the_text_across_pieces() {
        let mut stops = StopStrings::new(["\nUser:", "<end>"]);
        let mut text = String::new();

        assert!(!stops.push("Hello", &mut text));
        assert!(!stops.push(" you\nUs", &mut text));
        assert_eq!(text, "Hello you");
        assert!(!stops.push("ually <e", &mut text));
        assert_eq!(text, "Hello you\nUsually ");
        assert!(stops.push("nd> and more", &mut text));
        assert_eq!(text, "Hello you\nUsually ");
    }

    #[test]
    fn what_only_looked_like_a_stop_string_comes_out_at_the_end() {
        let mut stops = StopStrings::new(["", "<end>"]);
        let mut text = String::new();

        assert!(!stops.push("a <e", &mut text));
        stops.finish(&mut text);

        assert_eq!(text, "a <e");
    }

    proptest! {
        /// Whatever the bytes and wherever they are split: text at every step, and in the end what
        /// the whole would be.
        #[test]
        fn pieces_are_text_and_add_up(pieces in prop::collection::vec(some_bytes(), 0..20)) {
            let mut detokenizer = Detokenizer::new();
            let mut text = String::new();
            for piece in &pieces {
                detokenizer.push_bytes(piece, &mut text);
                prop_assert!(detokenizer.pending.len() < 4);
            }
            detokenizer.finish(&mut text);

            let whole = pieces.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }

        /// Text is cut before the first stop string, wherever the pieces are split, and never
        /// earlier.
        #[test]
        fn stop_strings_are_found_wherever_pieces_end(
            text in "[abé]{0,30}",
            stops in prop::collection::vec("[abé]{1,4}", 0..3),
            lengths in prop::collection::vec(1..5usize, 30),
        ) {
            let mut watch = StopStrings::new(stops.clone());
            let mut out = String::new();
            let mut characters = text.chars();
            let mut stopped = false;
            for length in lengths {
                let piece = characters.by_ref().take(length).collect::<String>();
                stopped = stopped || watch.push(&piece, &mut out);
            }
            watch.finish(&mut out);

            let first = stops.iter().filter_map(|stop| text.find(stop)).min();
            if stops.is_empty() || first.is_none() {
                prop_assert_eq!(&out, &text);
            }
            prop_assert_eq!(stopped, first.is_some());
            prop_assert!(text.starts_with(&out));
            prop_assert!(stops.iter().all(|stop| !out.contains(stop)));
        }
    }

    /// Characters of all lengths, parts of them, and bytes that are none.
    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        let characters = "[a-zé€😀]{0,4}".prop_map(String::into_bytes);
        let parts = ("[é€😀]", 0..4usize).prop_map(|(text, n)| text.bytes().take(n).collect());

        prop_oneof![characters, parts, prop::collection::vec(any::<u8>(), 0..4)]
    }
}

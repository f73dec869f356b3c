//! A tokenizer that llama.cpp loads: bytes, a few common pairs, and words nobody ever wrote.
//!
//! Text goes in as bytes and pairs; out come also the made-up words, which fill the vocabulary to
//! its real size, so that the LM head costs what it really costs.

use std::collections::BTreeSet;

use crate::reader::{Gguf, ReadError};
use crate::synth::SynthError;
use crate::value::Value;
use crate::writer::{Builder, NewValue};

/// Special tokens: the first three of every synthetic vocabulary.
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Id of the token that begins and ends a text.
const END_OF_TEXT: u32 = 0;

/// Id of the token that ends a turn.
const END_OF_TURN: u32 = 2;

/// Type of a token that stands for text (`LLAMA_TOKEN_TYPE_NORMAL`).
const NORMAL: i32 = 1;

/// Type of a token that is never text (`LLAMA_TOKEN_TYPE_CONTROL`).
const CONTROL: i32 = 3;

/// Pairs that are merged, most common first. `Ġ` is how a space is written.
const MERGES: [(&str, &str); 24] = [
    ("Ġ", "t"),
    ("Ġ", "a"),
    ("h", "e"),
    ("i", "n"),
    ("r", "e"),
    ("o", "n"),
    ("Ġt", "he"),
    ("e", "r"),
    ("Ġ", "s"),
    ("a", "t"),
    ("Ġ", "w"),
    ("Ġ", "o"),
    ("e", "n"),
    ("Ġ", "c"),
    ("i", "t"),
    ("i", "s"),
    ("a", "n"),
    ("o", "r"),
    ("e", "s"),
    ("Ġ", "b"),
    ("e", "d"),
    ("Ġ", "f"),
    ("in", "g"),
    ("Ġ", "p"),
];

/// Syllables of the made-up words, which are numbers to the base 64 written in them.
const CONSONANTS: &[u8] = b"bdfgklmnprstvzhj";
const VOWELS: &[u8] = b"aeio";

/// ChatML: each message between `<|im_start|>` and `<|im_end|>`.
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Puts the keys of a synthetic tokenizer with `n_vocab` tokens.
///
/// # Errors
///
/// [`SynthError::Shape`] if the bytes, pairs and special tokens alone are more.
pub(super) fn put_keys(builder: &mut Builder, n_vocab: u32) -> Result<(), SynthError> {
    let tokens = tokens(n_vocab);
    if tokens.len() != n_vocab as usize {
        return Err(SynthError::Shape {
            what: "n_vocab",
            found: n_vocab.into(),
            wanted: "a synthetic tokenizer has at least 283 tokens",
        });
    }
    let types = special_tokens(n_vocab)
        .iter()
        .map(|&special| if special { CONTROL } else { NORMAL })
        .collect();
    let merges = MERGES.map(|(left, right)| format!("{left} {right}"));

    builder.key("tokenizer.ggml.model", &NewValue::Text("gpt2".to_owned()));
    builder.key("tokenizer.ggml.pre", &NewValue::Text("gpt-2".to_owned()));
    builder.key("tokenizer.ggml.tokens", &NewValue::Texts(tokens));
    builder.key("tokenizer.ggml.token_type", &NewValue::I32s(types));
    builder.key("tokenizer.ggml.merges", &NewValue::Texts(merges.to_vec()));
    builder.key("tokenizer.ggml.bos_token_id", &NewValue::U32(END_OF_TEXT));
    builder.key("tokenizer.ggml.eos_token_id", &NewValue::U32(END_OF_TURN));
    builder.key(
        "tokenizer.ggml.padding_token_id",
        &NewValue::U32(END_OF_TEXT),
    );
    builder.key("tokenizer.ggml.add_bos_token", &NewValue::Bool(false));
    builder.key("tokenizer.ggml.add_space_prefix", &NewValue::Bool(false));
    builder.key(
        "tokenizer.chat_template",
        &NewValue::Text(CHAT_TEMPLATE.to_owned()),
    );

    Ok(())
}

/// Returns which tokens of a synthetic vocabulary are special.
pub(super) fn special_tokens(n_vocab: u32) -> Vec<bool> {
    (0..n_vocab as usize).map(|id| id < SPECIAL.len()).collect()
}

/// Puts the keys of `model`'s tokenizer.
pub(super) fn copy_keys(builder: &mut Builder, model: &Gguf) {
    for pair in model.key_values() {
        if pair.key.starts_with("tokenizer.") {
            builder.raw_key(model.raw_key_value(&pair).to_vec());
        }
    }
}

/// Returns which tokens of `model` are special.
pub(super) fn special_tokens_of(model: &Gguf) -> Result<Vec<bool>, ReadError> {
    let types = model.find_array("tokenizer.ggml.token_type")?;
    let control = Value::Unsigned(CONTROL as u64);

    Ok(types.map_or_else(Vec::new, |types| {
        types
            .iter()
            .map(|token_type| token_type == control)
            .collect()
    }))
}

/// Returns `n_vocab` different tokens, or more if that is fewer than there must be.
fn tokens(n_vocab: u32) -> Vec<String> {
    let special = SPECIAL.map(str::to_owned);
    let bytes = (0..=u8::MAX).map(|byte| letter(byte).to_string());
    let pairs = MERGES.map(|(left, right)| format!("{left}{right}"));
    let mut tokens = special
        .into_iter()
        .chain(bytes)
        .chain(pairs)
        .collect::<Vec<_>>();

    // llama.cpp ends the process when two tokens are the same
    let taken = tokens.iter().cloned().collect::<BTreeSet<_>>();
    let words = (0..).map(word).filter(|word| !taken.contains(word));
    let missing = (n_vocab as usize).saturating_sub(tokens.len());
    tokens.extend(words.take(missing));

    tokens
}

/// Returns the letter by which GPT-2 writes a byte: itself if it can be seen, else one from 256 on.
fn letter(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if seen(byte) {
        return char::from(byte);
    }
    let unseen_before = (0..byte).filter(|&before| !seen(before)).count();

    char::from_u32(256 + unseen_before as u32).expect("256 to 323 are letters")
}

/// Returns a made-up word after a space: `Ġbaba`, `Ġbabe`, …; different numbers, different words.
fn word(number: u32) -> String {
    let mut syllables = Vec::new();
    let mut left = number;
    while left > 0 || syllables.len() < 2 {
        let consonant = CONSONANTS[(left / 4 % 16) as usize];
        let vowel = VOWELS[(left % 4) as usize];
        syllables.push([consonant, vowel]);
        left /= 64;
    }
    syllables.reverse();

    let letters = syllables.iter().flatten().map(|&letter| char::from(letter));
    std::iter::once('Ġ').chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_there_once() {
        for n_vocab in [283, 512, 5000, 300_000] {
            let tokens = tokens(n_vocab);

            assert_eq!(tokens.len(), n_vocab as usize);
            assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
        }
    }

    /// From GPT-2's own table.
    #[test]
    fn bytes_are_written_as_gpt2_writes_them() {
        let written = [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'A', 'A'),
            (0, 'Ā'),
            (0x7f, 'ġ'),
            (0xad, 'Ń'),
        ];

        for (byte, as_letter) in written {
            assert_eq!(letter(byte), as_letter, "byte {byte}");
        }
    }

    #[test]
    fn what_is_merged_is_a_token() {
        let tokens = tokens(512);

        for (left, right) in MERGES {
            for part in [left, right, &format!("{left}{right}")] {
                assert!(tokens.iter().any(|token| token == part), "{part}");
            }
        }
    }
}

//! How long a text may be, and how many there may be.

use std::fmt;

use super::HistoryError;
use crate::api::Sampling;

/// Messages of one conversation: five times what one prompt may have (`proto::chat::MESSAGES_MAX`), and what is shown whole.
pub const MESSAGES_MAX: u32 = 10_000;

/// Conversations in the list: it is sent to the screen whole. Older ones are found by searching.
pub const LISTED_MAX: u32 = 1_000;

/// Letters of a message in the list; the screen shows 160 of them after it has taken the marks out.
pub const PREVIEW_CHARS: u32 = 200;

/// Letters of a query that count, and of its words; the screen lets nobody type more letters.
pub(super) const QUERY_CHARS: usize = 200;
pub(super) const QUERY_WORDS: usize = 16;

/// Places that a search finds: more than anybody reads before they type another letter.
pub const HITS_MAX: usize = 50;

/// Models that are known. A guess at more than anybody has.
pub const MODELS_MAX: u32 = 1_000;

/// A text with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Text of a question.
    Question,
    /// Text of an answer.
    Answer,
    /// What the model is told before the first question.
    SystemPrompt,
    /// A conversation's title.
    Title,
    /// A phone's name.
    Name,
    /// What happened to the group, as it is kept.
    Notice,
    /// An id that somebody else gave, a path, an address, or a file's name.
    Model,
}

impl Limited {
    /// Returns how many bytes of UTF-8 it may have.
    pub const fn bytes_max(self) -> usize {
        match self {
            // A quarter of what a group takes in one prompt (`proto::chat::ASK_BYTES_MAX`).
            Self::Question => 128 << 10,
            // `proto::chat::COMPLETION_TOKENS_MAX` tokens of 32 bytes each, and few have more than 16.
            Self::Answer => 1 << 20,
            Self::SystemPrompt => 32 << 10,
            // The screen shows 80 letters.
            Self::Title => 1 << 10,
            // Four times what a group takes (`proto::group::bounded::NAME_BYTES_MAX`).
            Self::Name => 256,
            Self::Notice => 4 << 10,
            // Linux's PATH_MAX.
            Self::Model => 4 << 10,
        }
    }

    /// Checks a text.
    ///
    /// # Errors
    ///
    /// [`HistoryError::TooLong`] if it has more than [`bytes_max`](Self::bytes_max) bytes.
    pub(super) fn check(self, text: &str) -> Result<(), HistoryError> {
        self.check_bytes(text.len())
    }

    pub(super) fn check_bytes(self, bytes: usize) -> Result<(), HistoryError> {
        if bytes > self.bytes_max() {
            return Err(HistoryError::TooLong { what: self, bytes });
        }
        Ok(())
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Question => "question",
            Self::Answer => "answer",
            Self::SystemPrompt => "system prompt",
            Self::Title => "title",
            Self::Name => "name",
            Self::Notice => "notice",
            Self::Model => "model's id, path, address or name",
        })
    }
}

/// Checks that all numbers are numbers, and mean something. Whether a model can work with them is the group's to say.
///
/// # Errors
///
/// [`HistoryError::OutOfRange`] by the name of the first that is not.
pub(super) fn check_sampling(sampling: &Sampling) -> Result<(), HistoryError> {
    // JavaScript keeps whole numbers exactly up to here.
    const SEED_MAX: u64 = 1 << 53;

    let checks = [
        ("temperature", (0.0..=100.0).contains(&sampling.temperature)),
        ("top_p", (0.0..=1.0).contains(&sampling.top_p)),
        ("min_p", (0.0..=1.0).contains(&sampling.min_p)),
        (
            "repetition_penalty",
            (0.0..=100.0).contains(&sampling.repetition_penalty),
        ),
        ("seed", sampling.seed.is_none_or(|seed| seed <= SEED_MAX)),
        ("max_tokens", sampling.max_tokens > 0),
    ];
    match checks.into_iter().find(|(_, holds)| !holds) {
        Some((name, _)) => Err(HistoryError::OutOfRange(name)),
        None => Ok(()),
    }
}

//! What people ask and what they are told: the words between an asker and the head.

use serde::{Deserialize, Serialize};

use crate::PeerId;
use crate::pipeline::Token;
use crate::plan::N_CTX_MAX;
use crate::wire;

/// Bytes of UTF-8 in one question, all messages together.
///
/// A context of 131,072 tokens at about 4 bytes a token.
pub const ASK_BYTES_MAX: usize = 512 * 1024;

/// Tokens that a question may ask to be answered with.
pub const COMPLETION_TOKENS_MAX: u32 = 32_768;

/// The same, as what a list may hold.
const COMPLETION_TOKENS: usize = COMPLETION_TOKENS_MAX as usize;

/// Messages in one question: a context of 131,072 tokens, of which a message takes 64. A guess.
pub const MESSAGES_MAX: usize = 2048;

/// Bytes of any text in an answer: a token with all that was held back for stop strings, or why there is none. A phone
/// passes answers on in frames of its own, so they have to be shorter than what it may be sent.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Who may say a message.
pub const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Stop strings in one question; more is no chat.
pub const STOP_STRINGS_MAX: usize = 8;

/// Liveliest temperature. A guess: text falls apart long before.
pub const TEMPERATURE_MAX: f32 = 100.0;

/// Bytes in one stop string; the text that may be its beginning is held back.
pub const STOP_STRING_BYTES_MAX: usize = 256;

/// Tokens that a repetition penalty may look back on: the longest context. The sampler makes room for
/// as many.
pub const REPETITION_WINDOW_MAX: u32 = N_CTX_MAX;

/// One message of a conversation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it: one of [`ROLES`].
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What the model is to go on from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A conversation, put into the model's own template.
    Chat(#[serde(deserialize_with = "wire::at_most::<_, _, MESSAGES_MAX>")] Vec<Message>),
    /// Text as it is.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<Token>),
}

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 takes the likeliest token always.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens are in the draw; 0 means all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: f32,
    /// Only tokens at least this likely, relative to the likeliest.
    pub min_p: f32,
    /// Above 1, tokens of the last [`Self::repetition_window`] become less likely.
    pub repetition_penalty: f32,
    /// Tokens that the penalty looks back on.
    pub repetition_window: u32,
    /// Luck. The same seed gives the same text.
    pub seed: u64,
}

/// One question.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// What to go on from.
    pub prompt: Prompt,
    /// Tokens after which the answer ends.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Text before which the answer ends.
    #[serde(deserialize_with = "wire::at_most::<_, _, STOP_STRINGS_MAX>")]
    pub stop: Vec<String>,
    /// Goes on after the model has ended its turn, up to `max_tokens`: for measurements.
    #[serde(default)]
    pub ignore_end: bool,
    /// Tokens of the answer that the asker has already, because it broke off after them: it goes on where it was. They
    /// are read like a prompt, which is quicker than to write them again, and not told again.
    #[serde(default, deserialize_with = "wire::at_most::<_, _, COMPLETION_TOKENS>")]
    pub written: Vec<Token>,
}

/// How an answer goes on.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The question waits for others.
    Queued {
        /// Questions before it.
        ahead: u32,
    },
    /// The prompt is being read.
    Reading {
        /// Tokens read, or found in the cache.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// One token.
    Token {
        /// Its number.
        token: Token,
        /// Text that is certain since; may be empty in the middle of a character.
        #[serde(deserialize_with = "wire::text_at_most::<_, TEXT_BYTES_MAX>")]
        text: String,
    },
    /// The answer has ended. Nothing follows.
    Done {
        /// Why it ended.
        finish: Finish,
        /// What it cost.
        figures: Figures,
    },
    /// The question cannot be answered. Nothing follows.
    Refused(RefusalReason),
    /// The answer broke off. Nothing follows.
    Failed(FailureReason),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// The limit of tokens or the context is used up.
    Length,
    /// The asker wanted no more.
    Cancelled,
}

/// What an answer cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Tokens that were read: of the prompt, and of the answer that had been written before.
    pub prompt_tokens: u32,
    /// Of these, tokens that were in the cache already.
    pub cached_tokens: u32,
    /// Tokens of the answer that were written now.
    pub completion_tokens: u32,
    /// Time from question to first token.
    pub ttft_ms: f64,
    /// Mean time from one token to the next; 0 for fewer than two tokens.
    pub tpot_ms: f64,
    /// Bytes that the whole ring sends for one token of the answer, before encryption.
    pub bytes_per_token: u64,
}

/// Why a question was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefusalReason {
    /// The prompt does not fit the context.
    #[error(
        "the prompt has {prompt_tokens} tokens, the context holds {n_ctx}: shorten it, or start the group with a larger context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// There is nothing to go on from.
    #[error("the prompt is empty")]
    PromptEmpty,
    /// A number in the question makes no sense.
    #[error("{0}")]
    Invalid(#[serde(deserialize_with = "wire::text_at_most::<_, TEXT_BYTES_MAX>")] String),
    /// Too many questions wait already.
    #[error("{waiting} questions are waiting already: try again in a while")]
    Busy {
        /// Questions that wait.
        waiting: u32,
    },
    /// No model is running.
    #[error("the group runs no model yet")]
    NoModel,
}

/// Why an answer broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FailureReason {
    /// A phone that runs a part of the model is gone.
    #[error("phone {0} left the group, and its layers with it")]
    PhoneLost(PeerId),
    /// A phone's engine refused a step.
    #[error("phone {phone} cannot go on: {reason}")]
    StageFailed {
        /// That phone.
        phone: PeerId,
        /// What its engine said.
        #[serde(deserialize_with = "wire::text_at_most::<_, TEXT_BYTES_MAX>")]
        reason: String,
    },
    /// A person stopped the model.
    #[error("the model was stopped")]
    Stopped,
    /// The phone that reads the words is gone.
    #[error("the phone that leads the conversation is gone")]
    HeadLost,
    /// The phones load other parts of the model.
    #[error("the phones share the model anew: ask again in a moment")]
    Replanned,
}

impl Default for Sampling {
    /// Greedy: the same text always.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl Ask {
    /// Checks a question that came from anywhere.
    ///
    /// # Errors
    ///
    /// - [`RefusalReason::PromptEmpty`] if there is no text or token
    /// - [`RefusalReason::Invalid`] if a number is not finite or out of its range, a role is none of
    ///   [`ROLES`], or there is too much of text, messages or stop strings
    pub fn validate(&self) -> Result<(), RefusalReason> {
        let bytes = match &self.prompt {
            Prompt::Chat(messages) => messages.iter().map(|m| m.content.len()).sum(),
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(tokens) => tokens.len() * size_of::<Token>(),
        };
        if bytes == 0 {
            return Err(RefusalReason::PromptEmpty);
        }

        let sampling = &self.sampling;
        let messages = match &self.prompt {
            Prompt::Chat(messages) => messages.as_slice(),
            Prompt::Text(_) | Prompt::Tokens(_) => &[],
        };
        let n_messages = messages.len();
        let checks = [
            (
                n_messages <= MESSAGES_MAX,
                format!(
                    "the prompt has {n_messages} messages, at most {MESSAGES_MAX} are possible"
                ),
            ),
            (
                // The role itself is not said back: it may be longer than an answer's frame.
                messages.iter().all(|m| ROLES.contains(&m.role.as_str())),
                format!("a message's role must be one of {}", ROLES.join(", ")),
            ),
            (
                bytes <= ASK_BYTES_MAX,
                format!("the prompt has {bytes} bytes, at most {ASK_BYTES_MAX} are possible"),
            ),
            (
                (1..=COMPLETION_TOKENS_MAX).contains(&self.max_tokens),
                format!("max_tokens must be between 1 and {COMPLETION_TOKENS_MAX}"),
            ),
            (
                self.written.len() < self.max_tokens as usize,
                "what was written before must have fewer tokens than max_tokens".into(),
            ),
            (
                self.stop.len() <= STOP_STRINGS_MAX
                    && self
                        .stop
                        .iter()
                        .all(|s| (1..=STOP_STRING_BYTES_MAX).contains(&s.len())),
                format!(
                    "at most {STOP_STRINGS_MAX} stop strings, of 1 to {STOP_STRING_BYTES_MAX} bytes each"
                ),
            ),
            (
                sampling.repetition_window <= REPETITION_WINDOW_MAX,
                format!("repetition_window must be at most {REPETITION_WINDOW_MAX}"),
            ),
            (
                (0.0..=TEMPERATURE_MAX).contains(&sampling.temperature),
                format!("temperature must be between 0 and {TEMPERATURE_MAX}"),
            ),
            (
                (0.0..=1.0).contains(&sampling.top_p) && (0.0..=1.0).contains(&sampling.min_p),
                "top_p and min_p must be between 0 and 1".into(),
            ),
            (
                (0.1..=10.0).contains(&sampling.repetition_penalty),
                "repetition_penalty must be between 0.1 and 10".into(),
            ),
        ];

        match checks.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, why)) => Err(RefusalReason::Invalid(why)),
        }
    }
}

/// Chat text stays out of logs: only sizes are shown.
impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask")
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

/// Chat text stays out of logs: only the kind is shown.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queued { .. } => "Queued",
            Self::Reading { .. } => "Reading",
            Self::Token { .. } => "Token",
            Self::Done { .. } => "Done",
            Self::Refused(_) => "Refused",
            Self::Failed(_) => "Failed",
        })
    }
}

impl Answer {
    /// Returns whether nothing follows.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Done { .. } | Self::Refused(_) | Self::Failed(_) => true,
            Self::Queued { .. } | Self::Reading { .. } | Self::Token { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Chat, StreamKind};

    #[test]
    fn a_plain_question_is_valid() {
        assert_eq!(ask().validate(), Ok(()));
    }

    #[test]
    fn nothing_to_go_on_from_is_refused() {
        for prompt in [
            Prompt::Text(String::new()),
            Prompt::Tokens(Vec::new()),
            Prompt::Chat(Vec::new()),
            Prompt::Chat(vec![message(0); 3]),
        ] {
            let ask = Ask { prompt, ..ask() };
            assert_eq!(ask.validate(), Err(RefusalReason::PromptEmpty));
        }
    }

    /// Each row is the last value that is right, and the first that is wrong.
    #[test]
    fn numbers_are_checked_at_their_bounds() {
        type Set<T> = fn(&mut Ask, T);
        let floats: [(Set<f32>, f32, f32); 8] = [
            (|a, x| a.sampling.temperature = x, 100.0, 100.1),
            (|a, x| a.sampling.temperature = x, 0.0, -0.1),
            (|a, x| a.sampling.temperature = x, 0.7, f32::NAN),
            (|a, x| a.sampling.top_p = x, 1.0, 1.1),
            (|a, x| a.sampling.min_p = x, 1.0, f32::INFINITY),
            (|a, x| a.sampling.min_p = x, 0.0, f32::NEG_INFINITY),
            (|a, x| a.sampling.repetition_penalty = x, 10.0, 10.1),
            (|a, x| a.sampling.repetition_penalty = x, 0.1, 0.0),
        ];
        let lengths: [(Set<usize>, usize, usize); 8] = [
            (|a, n| a.max_tokens = n as u32, 1, 0),
            (|a, n| a.written = vec![7; n], 99, 100),
            (|a, n| a.max_tokens = n as u32, 32_768, 32_769),
            (
                |a, n| a.sampling.repetition_window = n as u32,
                131_072,
                131_073,
            ),
            (
                |a, n| a.prompt = Prompt::Text("x".repeat(n)),
                ASK_BYTES_MAX,
                ASK_BYTES_MAX + 1,
            ),
            (
                |a, n| a.prompt = Prompt::Chat(vec![message(1); n]),
                MESSAGES_MAX,
                MESSAGES_MAX + 1,
            ),
            (
                |a, n| a.stop = vec!["x".into(); n],
                STOP_STRINGS_MAX,
                STOP_STRINGS_MAX + 1,
            ),
            (
                |a, n| a.stop = vec!["x".repeat(n)],
                STOP_STRING_BYTES_MAX,
                0,
            ),
        ];

        for (row, (set, right, wrong)) in floats.into_iter().enumerate() {
            assert_eq!(with(set, right).validate(), Ok(()), "float {row}: {right}");
            assert!(with(set, wrong).validate().is_err(), "float {row}: {wrong}");
        }
        for (row, (set, right, wrong)) in lengths.into_iter().enumerate() {
            assert_eq!(with(set, right).validate(), Ok(()), "length {row}: {right}");
            assert!(
                with(set, wrong).validate().is_err(),
                "length {row}: {wrong}"
            );
        }
    }

    /// A refusal that said the role back would be longer than its frame, and writing it would panic.
    #[test]
    fn an_unknown_role_is_refused_in_few_words() {
        for role in ["", "User", "tool", &"\u{7f}".repeat(ASK_BYTES_MAX)] {
            let message = Message {
                role: role.into(),
                ..message(1)
            };
            let ask = Ask {
                prompt: Prompt::Chat(vec![message]),
                ..ask()
            };

            let Err(RefusalReason::Invalid(reason)) = ask.validate() else {
                panic!("role of {} B was taken", role.len());
            };
            assert!(reason.len() < 100, "{} B", reason.len());
        }
    }

    /// A frame of a valid question must never be too long: writing it would panic.
    #[test]
    fn the_longest_valid_questions_fit_a_frame() {
        let stop = vec!["x".repeat(STOP_STRING_BYTES_MAX); STOP_STRINGS_MAX];
        let per_message = ASK_BYTES_MAX / MESSAGES_MAX;

        for prompt in [
            Prompt::Text("x".repeat(ASK_BYTES_MAX)),
            Prompt::Tokens(vec![u32::MAX; ASK_BYTES_MAX / size_of::<Token>()]),
            Prompt::Chat(vec![message(per_message); MESSAGES_MAX]),
        ] {
            let stop = stop.clone();
            let ask = Ask {
                prompt,
                stop,
                ..ask()
            };
            assert_eq!(ask.validate(), Ok(()));

            let ask = std::sync::Arc::new(ask);
            let number = u64::MAX;
            wire::encode_frame(&Chat::Ask { number, ask }, StreamKind::Chat);
        }
    }

    /// What people say stays out of logs.
    #[test]
    fn questions_and_answers_are_not_shown_in_logs() {
        let secret = "secret";
        let ask = Ask {
            prompt: Prompt::Text(secret.into()),
            stop: vec![secret.into()],
            ..ask()
        };
        let answer = Answer::Token {
            token: 1,
            text: secret.into(),
        };

        assert!(!format!("{ask:?} {answer:?}").contains(secret));
    }

    fn with<T>(set: fn(&mut Ask, T), value: T) -> Ask {
        let mut ask = ask();
        set(&mut ask, value);

        ask
    }

    fn ask() -> Ask {
        Ask {
            prompt: Prompt::Text("hello".into()),
            max_tokens: 100,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: false,
            written: Vec::new(),
        }
    }

    fn message(bytes: usize) -> Message {
        Message {
            role: "user".into(),
            content: "x".repeat(bytes),
        }
    }
}

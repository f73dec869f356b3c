//! Conversations, questions and answers.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Notice, Problem};

/// A conversation. Opaque to the screen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
pub struct ConversationId(pub String);

/// A message, within its conversation or without. Opaque to the screen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
pub struct MessageId(pub String);

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct ConversationSummary {
    /// Its id.
    pub id: ConversationId,
    /// As a person named it, or as its first question begins; empty before either.
    pub title: String,
    /// How its last message begins.
    pub preview: String,
    /// When something was last said in it, or it was made.
    pub changed_unix_ms: u64,
    /// Messages in it.
    pub n_messages: u32,
    /// Whether an answer is being written in it.
    pub answering: bool,
}

/// A conversation, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// See [`ConversationSummary::title`].
    pub title: String,
    /// What the model is told before the first question; empty for nothing.
    pub system_prompt: String,
    /// How its answers are written.
    pub sampling: Sampling,
    /// Oldest first.
    pub messages: Vec<Message>,
}

/// Something that was said, or that happened meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// When it was begun.
    pub at_unix_ms: u64,
    /// What it is.
    pub body: MessageBody,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MessageBody {
    /// A person asked.
    Question {
        /// What they asked.
        text: String,
        /// Their phone's name.
        asker: String,
    },
    /// The model answered.
    Answer {
        /// What there is of it.
        text: String,
        /// How it ended, if it did.
        outcome: AnswerOutcome,
        /// What it cost; null before its end.
        figures: Option<Figures>,
    },
    /// Something that happened to the group meanwhile.
    Notice {
        /// What happened.
        what: Notice,
    },
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerOutcome {
    /// It has not.
    UnderWay,
    /// The model had said all.
    Complete,
    /// The limit of tokens, or the context, is used up.
    CutOff,
    /// A person stopped it.
    Stopped,
    /// The app ended, or was put away, while it was written.
    AppEnded,
    /// It broke off.
    Failed {
        /// Why.
        problem: Problem,
    },
}

/// What an answer cost, all parts of it: one that a lost phone cut off goes on where it was. Time between two parts, in
/// which nothing was written, is not in these figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Figures {
    /// The model that wrote it.
    pub model_name: String,
    /// Time to the first word.
    pub ttft_s: f64,
    /// Tokens a second after the first; 0 for fewer than two.
    pub tokens_per_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, found in the cache when it was read last.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Tokens that the conversation may have.
    pub context_tokens: u32,
    /// Names of the phones that computed, in ring order; then of those that only computed parts that broke off.
    pub phones: Vec<String>,
    /// What the whole ring sent for one token, of the last part.
    pub bytes_per_token: u64,
}

/// What a person asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Question {
    /// In which conversation.
    pub conversation: ConversationId,
    /// What.
    pub what: QuestionWhat,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum QuestionWhat {
    /// Something new.
    New {
        /// The question.
        text: String,
    },
    /// Replaces a question, and drops what followed.
    Edit {
        /// The question that is replaced.
        message: MessageId,
        /// The question.
        text: String,
    },
    /// Answers the last question again.
    Again,
}

/// How an answer goes on. `begun` is the first: messages from `dropped_from` on are gone, and those in `added` (the
/// question, unless it is asked again, and the empty answer) are new. `end` is the last, and always comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerEvent {
    /// The question was taken.
    Begun {
        /// The first message that is gone, if any.
        dropped_from: Option<MessageId>,
        /// Messages that are new.
        added: Vec<Message>,
    },
    /// The question waits for others.
    Queued {
        /// How many are before it.
        ahead: u32,
    },
    /// The prompt is being read.
    Reading {
        /// Tokens read.
        done: u32,
        /// Tokens to read.
        total: u32,
    },
    /// Text that is certain since the last one; sent every 30 to 50 ms, not for each token.
    Text {
        /// That text.
        text: String,
    },
    /// Something happened to the group meanwhile.
    Notice {
        /// The message that it makes.
        message: Message,
    },
    /// The answer has ended. Nothing follows.
    End {
        /// The answer, whole.
        message: Message,
    },
}

/// How an answer is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Sampling {
    /// 0 takes the likeliest token always.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens are in the draw; 0 means all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: f64,
    /// Only tokens at least this likely, relative to the likeliest.
    pub min_p: f64,
    /// Above 1, tokens that were there lately become less likely.
    pub repetition_penalty: f64,
    /// Null draws a new one for each answer.
    pub seed: Option<u64>,
    /// Tokens after which the answer is cut off.
    pub max_tokens: u32,
}

impl Default for Sampling {
    /// How answers are written in a conversation of which nobody said anything else: lively, and to the point. As others
    /// have it.
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.05,
            seed: None,
            max_tokens: 1024,
        }
    }
}

/// Where something that was searched for stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct SearchHit {
    /// In which conversation.
    pub conversation: ConversationId,
    /// That conversation's title.
    pub title: String,
    /// In which message.
    pub message: MessageId,
    /// Text before the hit.
    pub before: String,
    /// The hit, as it is written there.
    pub found: String,
    /// Text after the hit.
    pub after: String,
}

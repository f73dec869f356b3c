//! What runs, and what would.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{MessageId, ModelId, Notice, PhoneId, Problem, Tiredness};

/// A model in a group, or on this phone alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Run {
    /// The model.
    pub model: ModelId,
    /// Its name.
    pub model_name: String,
    /// Its layers.
    pub n_layers: u32,
    /// How far it is.
    pub phase: RunPhase,
    /// In ring order, beginning with the head. Empty until there is a plan.
    pub stages: Vec<Stage>,
    /// The phone that sees words. Null until there is a plan.
    pub head: Option<PhoneId>,
    /// What is expected.
    pub forecast: Option<Speed>,
    /// Of the last answers.
    pub measured: Option<Speed>,
    /// Questions under way, in order of arrival.
    pub queue: Vec<QueuedQuestion>,
}

/// How far a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunPhase {
    /// Phones get their shards and load them.
    Preparing {
        /// Each of them, in ring order.
        phones: Vec<PhonePreparation>,
    },
    /// It can be asked.
    Ready,
    /// A change of plan while answers wait.
    Reconfiguring {
        /// Why.
        reason: Notice,
    },
    /// It cannot be run.
    Failed {
        /// Why.
        problem: Problem,
    },
}

/// What one phone computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Stage {
    /// The phone.
    pub phone: PhoneId,
    /// Half-open: first, and one past the last. Equal if it only holds the ends.
    pub layers: [u32; 2],
    /// What this stage adds to a token; null if not measured.
    pub ms_per_token: Option<f64>,
}

/// How fast a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Speed {
    /// Time to the first word, of the planned prompt.
    pub ttft_s: f64,
    /// Tokens a second of one conversation.
    pub tokens_per_s: f64,
}

/// How far a phone is with its part of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct PhonePreparation {
    /// The phone.
    pub phone: PhoneId,
    /// What it does.
    pub step: PreparationStep,
    /// Bytes of that which are done.
    pub done_bytes: u64,
    /// Bytes of that.
    pub total_bytes: u64,
    /// How fast.
    pub rate_bytes_s: f64,
    /// Null while not known.
    pub left_s: Option<f64>,
    /// From where.
    pub source: ShardSource,
}

/// What a phone does for its part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PreparationStep {
    /// Nothing yet.
    Waiting,
    /// It gets shards.
    Fetching,
    /// It sees whether they are whole.
    Checking,
    /// It loads them.
    Loading,
    /// It is done.
    Ready,
}

/// From where a phone gets its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ShardSource {
    /// It has them.
    OwnStorage,
    /// From another phone.
    Phone {
        /// From which, or one of which.
        phone: PhoneId,
    },
    /// From afar.
    Internet,
}

/// A question under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct QueuedQuestion {
    /// The answer's message id on the phone that asked.
    pub answer: MessageId,
    /// That phone.
    pub asker: PhoneId,
    /// How far it is.
    pub stage: QuestionStage,
}

/// How far a question is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum QuestionStage {
    /// It waits for others.
    Waiting {
        /// How many are before it.
        ahead: u32,
    },
    /// Its prompt is being read.
    Reading {
        /// Tokens read.
        done: u32,
        /// Tokens to read.
        total: u32,
    },
    /// Its answer is being written.
    Writing {
        /// Tokens of it.
        tokens: u32,
    },
}

/// Tokens that went round the ring since the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Beat {
    /// How many.
    pub tokens: u32,
    /// How long one took.
    pub lap_ms: f64,
    /// For whom.
    pub asker: PhoneId,
}

/// What to expect of a model before anybody commits to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Forecasts {
    /// With all phones.
    pub group: Outlook,
    /// With this one.
    pub alone: Outlook,
    /// Without each of the other phones, if it is in the plan.
    pub without: Vec<OutlookWithout>,
    /// Why each phone got what it got.
    pub verdicts: Vec<Verdict>,
}

/// What to expect of a model on some phones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outlook {
    /// It runs.
    Runs {
        /// How fast.
        speed: Speed,
        /// Who does what.
        stages: Vec<Stage>,
        /// The phone that takes longest.
        slowest: PhoneId,
        /// What has to be sent to phones first.
        fetch_bytes: u64,
    },
    /// It does not.
    DoesNotFit {
        /// Memory that is missing.
        missing_bytes: u64,
        /// What would help.
        helps: Vec<Help>,
    },
    /// A phone was not measured yet, or not reached.
    Unknown {
        /// Which.
        phone: PhoneId,
    },
}

/// What to expect without a phone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct OutlookWithout {
    /// Without which.
    pub phone: PhoneId,
    /// What to expect.
    pub outlook: Outlook,
}

/// What would make a model fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Help {
    /// More free memory on a phone.
    FreeMemory {
        /// On which.
        phone: PhoneId,
        /// How much.
        bytes: u64,
    },
    /// One more phone.
    AnotherPhone {
        /// With how much memory.
        bytes: u64,
    },
    /// A phone that was left out, or rests.
    BringBack {
        /// Which.
        phone: PhoneId,
    },
    /// Shorter conversations.
    ShorterContext {
        /// Of how many tokens.
        tokens: u32,
    },
    /// A smaller model.
    SmallerModel {
        /// Of how many bytes.
        bytes: u64,
    },
}

/// Why a phone got what it got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Verdict {
    /// The phone.
    pub phone: PhoneId,
    /// Why.
    pub reason: VerdictReason,
}

/// Why a phone computes, or does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VerdictReason {
    /// It computes.
    Runs {
        /// What it adds to a token.
        ms_per_token: f64,
    },
    /// With it, a token would take longer.
    WouldAdd {
        /// How much longer.
        ms_per_token: f64,
    },
    /// With it, nothing would be better.
    NotNeeded,
    /// It has too little memory.
    NoMemory {
        /// How much too little.
        missing_bytes: u64,
    },
    /// It cannot be reached.
    Unreachable,
    /// A person left it out.
    Excluded,
    /// It had better rest.
    Tired {
        /// Why.
        why: Tiredness,
    },
}

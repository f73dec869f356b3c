//! The group that this phone is in.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Heat, Notice};

/// A phone's public key, as text. Opaque to the screen.
#[derive(
    Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS,
)]
pub struct PhoneId(pub String);

/// A group of phones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Group {
    /// In the order in which they joined. This phone is one of them.
    pub members: Vec<Member>,
    /// Null while a leader is sought.
    pub leader: Option<PhoneId>,
    /// What happened, newest last; at most 50.
    pub happened: Vec<Happening>,
    /// This phone will leave when the answer that is being written is done.
    pub leaving: bool,
}

/// A phone of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Member {
    /// Its id.
    pub id: PhoneId,
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub presence: Presence,
    /// Left out of computing, because a person said so.
    pub excluded: bool,
    /// Why it had better rest, if so.
    pub tired: Option<Tiredness>,
    /// Memory that is free; 0 if not known.
    pub free_memory_bytes: u64,
    /// Memory that there is; 0 if not known.
    pub total_memory_bytes: u64,
    /// Layers of the model in force that it computes a second, decoding; null if not measured.
    pub layers_per_s: Option<f64>,
    /// 0 to 1; null where there is no battery.
    pub battery: Option<f64>,
    /// Whether it is being charged.
    pub charging: bool,
    /// How hot it is.
    pub heat: Heat,
    /// Round trip from this phone; null to itself, or if not measured.
    pub rtt_ms: Option<f64>,
    /// Its share of the work: layers times tokens, since it joined.
    pub layers_computed: u64,
}

/// Whether a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It does.
    Here,
    /// It is late.
    Suspect,
    /// It was given up on.
    Lost,
}

/// Why a phone had better rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Tiredness {
    /// Its battery is low.
    LowBattery,
    /// It is hot.
    Hot,
    /// It computes only while it is charged, and is not.
    NotCharging,
    /// What it sends and receives costs money.
    Metered,
    /// It could not load or compute its part.
    Failed,
}

/// Something that happened to a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Happening {
    /// When.
    pub at_unix_ms: u64,
    /// What.
    pub what: Notice,
}

/// When to leave a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LeaveWhen {
    /// When the answer that is being written is done.
    AfterAnswer,
    /// At once.
    Now,
}

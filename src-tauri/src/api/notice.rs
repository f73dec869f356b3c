//! What a person should be told once.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{PairingEnd, Problem};

/// Something that a person should be told, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// A phone came.
    PhoneJoined {
        /// Its name.
        name: String,
        /// Phones in the group since.
        phones: u32,
    },
    /// A phone left.
    PhoneLeft {
        /// Its name.
        name: String,
        /// Phones in the group since.
        phones: u32,
    },
    /// A phone does not answer any more.
    PhoneLost {
        /// Its name.
        name: String,
        /// Phones of the group that do.
        phones: u32,
    },
    /// A phone was taken out of the group.
    Removed {
        /// Its name.
        name: String,
    },
    /// This phone was removed from its group.
    YouWereRemoved,
    /// Another phone leads.
    LeaderChanged {
        /// Its name.
        name: String,
    },
    /// The work is shared out otherwise, because of a phone.
    Rebalanced {
        /// Its name.
        name: String,
        /// What is with it.
        reason: RebalanceReason,
    },
    /// The answer goes on after a change.
    Continuing {
        /// Phones that compute.
        phones: u32,
    },
    /// The answer goes on, on this phone.
    ContinuingAlone,
    /// Too few phones for this model.
    TooSmall {
        /// Memory that is missing.
        missing_bytes: u64,
    },
    /// A model can be asked.
    ModelReady {
        /// Its name.
        model: String,
        /// Phones that compute.
        phones: u32,
    },
    /// Two phones did not come into one group.
    PairingEnded {
        /// The other one's name.
        name: String,
        /// Why not.
        end: PairingEnd,
    },
    /// A model does not start, and what runs goes on.
    StartFailed {
        /// Its name.
        model: String,
        /// Why.
        problem: Problem,
    },
    /// Conversations and settings were damaged: they were set aside, and a new file was begun.
    HistorySetAside {
        /// Where the damaged file is.
        path: String,
    },
    /// A model is here.
    DownloadDone {
        /// Its name.
        model: String,
    },
    /// A file was written.
    FileSaved {
        /// Where.
        path: String,
    },
}

/// What is with the phone because of which the work is shared out otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RebalanceReason {
    /// It is slower than it was.
    Slow,
    /// It is hot.
    Hot,
    /// Its battery is low.
    LowBattery,
    /// It is short of memory.
    LowMemory,
    /// It is new.
    Newcomer,
    /// A person left it out.
    LeftOut,
}

//! Why something could not be done.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{PermissionKind, VersionMatch};

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Problem {
    /// In no network.
    NoWifi,
    /// In one that keeps its phones apart.
    Isolated,
    /// A person said no to the system's question.
    NoPermission {
        /// About what.
        permission: PermissionKind,
    },
    /// Only the leader's phone does that.
    NotLeader,
    /// The text is neither a link nor a code of ours.
    NotALink,
    /// A typed code has a mistake in it.
    Mistyped,
    /// The two phones do not understand each other.
    OtherVersion {
        /// Which should be updated.
        version: VersionMatch,
    },
    /// The invite is too old.
    InviteExpired,
    /// The other phone is not where it should be.
    Unreachable,
    /// There is too little memory.
    MemoryShort {
        /// How much too little.
        missing_bytes: u64,
    },
    /// There is too little storage.
    StorageShort {
        /// How much too little.
        missing_bytes: u64,
    },
    /// We do not know how to run such a model.
    Unsupported {
        /// What it is.
        architecture: String,
    },
    /// A file's hash is not what it should be.
    Damaged,
    /// It would cost money, which settings forbid.
    Metered,
    /// No model runs.
    NoModel,
    /// Phones that are needed are gone.
    PhonesGone {
        /// How many.
        phones: u32,
    },
    /// The conversation is longer than the model can remember.
    ContextFull,
    /// Something else has to be done first, or by others.
    Busy,
    /// Something else.
    Other {
        /// What, for people who ask for help.
        detail: String,
    },
}

impl Problem {
    /// Returns a problem that has no kind of its own.
    pub fn other(detail: impl ToString) -> Self {
        Self::Other {
            detail: detail.to_string(),
        }
    }
}

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
    /// A person said no to the system's question, or was not asked yet.
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
    /// A server does not give a model as it should.
    Server {
        /// Which.
        host: String,
        /// What is wrong with it.
        fault: ServerFault,
    },
    /// A file that a person brought is no longer where it was.
    FileGone {
        /// Its name.
        name: String,
    },
    /// A file that a person brought is another one by now.
    FileChanged {
        /// Its name.
        name: String,
    },
    /// It would cost money, which settings forbid.
    Metered,
    /// No model runs.
    NoModel,
    /// Phones that are needed are gone.
    PhonesGone {
        /// How many.
        phones: u32,
    },
    /// A phone cannot load its part of the model.
    CannotLoad,
    /// The phones that are here cannot be made to run the model.
    NoPlan,
    /// Another model runs by now than the one that began the answer.
    OtherModel,
    /// A file is none of a model, or none that can be used.
    Unfit {
        /// Why, in technical words.
        detail: String,
    },
    /// A file is no plain one, or longer than models are.
    NotAFile,
    /// This phone's part in the network has broken down, and is begun anew by itself.
    StartsAgain,
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

/// What is wrong with a server from which a model should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ServerFault {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// It breaks off again and again.
    BreaksOff,
    /// It breaks off again and again, and then only begins anew: it knows nothing of ranges.
    StartsOver,
    /// It has the file not, or not for us.
    Refuses {
        /// HTTP's word for it.
        status: u16,
    },
    /// It does not work, or has too much to do.
    Fails {
        /// HTTP's word for it.
        status: u16,
    },
    /// Its file has another length than the model.
    WrongLength,
    /// Its file has another hash than the model.
    WrongHash,
    /// It offers no secure connection, or leads to where there is none.
    Insecure,
}

impl Problem {
    /// Returns a problem that has no kind of its own.
    pub fn other(detail: impl ToString) -> Self {
        Self::Other {
            detail: detail.to_string(),
        }
    }
}

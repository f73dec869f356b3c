//! Why a model cannot be had.

use std::io;

use gguf_tools::ReadError;
use url::Url;

use crate::api::{Problem, ServerFault};
use crate::history::HistoryError;

/// Why a model cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No model of this name is known.
    #[error("no such model is known")]
    Unknown,
    /// It is not on this phone, or not whole.
    #[error("this model is not on this phone yet")]
    NotHere,
    /// Something is done with it already.
    #[error("something is being done with this model already")]
    Busy,
    /// The network costs money, and settings forbid that.
    #[error("this network is metered")]
    Metered,
    /// There is too little room, on the phone or in what the app may use of it.
    #[error("{missing_bytes} B of storage are missing")]
    StorageShort {
        /// How much too little.
        missing_bytes: u64,
    },
    /// An address that is not safe to fetch from.
    #[error("{host} offers no secure connection (https)")]
    Insecure {
        /// Whose it is.
        host: String,
    },
    /// A server that sends us to such an address, or in circles.
    #[error("the server {host} sends us to where nothing can be trusted")]
    Astray {
        /// Whose it is.
        host: String,
    },
    /// Nobody answers there, or not in time.
    #[error("the server {host} cannot be reached: {detail}")]
    Unreachable {
        /// Where.
        host: String,
        /// What happened.
        detail: String,
    },
    /// It sends less than it should.
    #[error("the connection to the server {host} breaks")]
    BreaksOff {
        /// Where.
        host: String,
    },
    /// It sends less than it should, and began anew where it was asked for the rest.
    #[error("the connection to the server {host} breaks, and it cannot send the rest alone")]
    StartsOver {
        /// Where.
        host: String,
    },
    /// The server has it not, or not for us.
    #[error("the server {host} refuses (HTTP {status})")]
    Refused {
        /// Where.
        host: String,
        /// Its answer.
        status: u16,
    },
    /// What is offered has another length.
    #[error("the file of {host} has {found} B, the model has {expected} B")]
    WrongLength {
        /// Whose it is.
        host: String,
        /// Its length, as far as it is known.
        found: u64,
        /// The model's.
        expected: u64,
    },
    /// The hash of what is offered is not what it should be.
    #[error("the hash of the file of {host} is not the model's")]
    WrongHash {
        /// Whose it is.
        host: String,
    },
    /// The hash of a file that a person brought is not what it should be.
    #[error("the file's hash is not the model's")]
    Damaged,
    /// We do not know how to cut such a model.
    #[error("architecture `{architecture}` is not supported")]
    Unsupported {
        /// What it is.
        architecture: String,
    },
    /// The file is none that can be used.
    #[error("{detail}")]
    Unfit {
        /// Why, in a sentence that says what would do.
        detail: String,
    },
    /// The file is no plain one, or longer than models are.
    #[error("this is no plain file, or too long for a model")]
    NotAFile,
    /// A file that was brought is no longer where it was.
    #[error("the file {name} is gone: it was moved or deleted")]
    Vanished {
        /// Its name.
        name: String,
    },
    /// A file that was brought is another one by now.
    #[error("the file {name} has been changed: import it again")]
    Changed {
        /// Its name.
        name: String,
    },
    /// The system could not read or write.
    #[error("the storage fails: {detail}")]
    Disk {
        /// What it said.
        detail: String,
    },
}

impl Trouble {
    /// Says what the system said; `missing_bytes` is what is lacking if it is room.
    pub(super) fn disk(error: &io::Error, missing_bytes: u64) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

        if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            Self::StorageShort {
                missing_bytes: missing_bytes.max(1),
            }
        } else {
            Self::Disk {
                detail: error.to_string(),
            }
        }
    }

    pub(super) fn unreachable(url: &Url, detail: impl ToString) -> Self {
        Self::Unreachable {
            host: host(url),
            detail: detail.to_string(),
        }
    }
}

/// Returns whether a server that answers with this may answer otherwise in a moment.
pub(super) fn is_passing(status: u16) -> bool {
    // 408 Request Timeout, 425 Too Early, 429 Too Many Requests
    matches!(status, 500..=599 | 408 | 425 | 429)
}

/// Returns whose address this is, for people.
pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or("without a name").to_owned()
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::disk(&error, 1)
    }
}

impl From<HistoryError> for Trouble {
    fn from(error: HistoryError) -> Self {
        if let Problem::StorageShort { missing_bytes } = error.problem() {
            return Self::StorageShort { missing_bytes };
        }

        Self::Disk {
            detail: error.to_string(),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Unfit {
            detail: error.to_string(),
        }
    }
}

impl Trouble {
    /// Returns the server that is to blame, if one is, and for what.
    fn fault(&self) -> Option<(&String, ServerFault)> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "others are of no server")]
        match self {
            Self::Insecure { host } | Self::Astray { host } => Some((host, ServerFault::Insecure)),
            Self::Unreachable { host, .. } => Some((host, ServerFault::Unreachable)),
            Self::BreaksOff { host } => Some((host, ServerFault::BreaksOff)),
            Self::StartsOver { host } => Some((host, ServerFault::StartsOver)),
            Self::Refused { host, status } if is_passing(*status) => {
                Some((host, ServerFault::Fails { status: *status }))
            }
            Self::Refused { host, status } => {
                Some((host, ServerFault::Refuses { status: *status }))
            }
            Self::WrongLength { host, .. } => Some((host, ServerFault::WrongLength)),
            Self::WrongHash { host } => Some((host, ServerFault::WrongHash)),
            _ => None,
        }
    }
}

impl From<&Trouble> for Problem {
    fn from(trouble: &Trouble) -> Self {
        if let Some((host, fault)) = trouble.fault() {
            let host = host.clone();
            return Self::Server { host, fault };
        }

        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the sentence tells all others"
        )]
        match trouble {
            Trouble::NotHere => Self::NoModel,
            Trouble::Busy => Self::Busy,
            Trouble::Metered => Self::Metered,
            Trouble::StorageShort { missing_bytes } => Self::StorageShort {
                missing_bytes: *missing_bytes,
            },
            Trouble::Damaged => Self::Damaged,
            Trouble::Unsupported { architecture } => Self::Unsupported {
                architecture: architecture.clone(),
            },
            Trouble::Unfit { detail } => Self::Unfit {
                detail: detail.clone(),
            },
            Trouble::NotAFile => Self::NotAFile,
            Trouble::Vanished { name } => Self::FileGone { name: name.clone() },
            Trouble::Changed { name } => Self::FileChanged { name: name.clone() },
            other => Self::other(other),
        }
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        Self::from(&trouble)
    }
}

//! Why the history could not do what was asked.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use rusqlite_migration::MigrationDefinitionError;

use super::limits::Limited;
use crate::api::Problem;

/// Why the history could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A later version of the app made the database. Nothing was changed in it.
    #[error("the history was written by a later version of this app: update the app")]
    Newer,
    /// Another process has the database open.
    #[error("{path} is in use: is the app open twice?")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no such conversation, or not any more.
    #[error("this conversation was deleted")]
    NoSuchConversation,
    /// There is no such message in that conversation, or not any more.
    #[error("this message was deleted")]
    NoSuchMessage,
    /// The answer has ended, or was deleted while it was written.
    #[error("this answer is not being written")]
    NotUnderWay,
    /// Only questions can be edited.
    #[error("only a question can be edited")]
    NotAQuestion,
    /// The conversation has no question that could be answered again.
    #[error("there is no question to answer")]
    NothingToAnswer,
    /// An answer is being written in that conversation.
    #[error("an answer is being written: stop it first")]
    Answering,
    /// A text that must say something says nothing.
    #[error("the {0} is empty")]
    Empty(Limited),
    /// A text is longer than is kept.
    #[error("the {what} has {bytes} bytes, at most {} are possible: shorten it", what.bytes_max())]
    TooLong {
        /// Which.
        what: Limited,
        /// How long it is.
        bytes: usize,
    },
    /// The conversation has as many messages as one may have.
    #[error("this conversation has {messages_max} messages: begin a new one")]
    Full {
        /// How many that are.
        messages_max: u32,
    },
    /// A number of the sampling is none, or out of its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// The path of a model is not text.
    #[error("{0} has a name that is not Unicode: rename it")]
    NotUnicode(PathBuf),
    /// The storage is full.
    #[error("the storage of this phone is full")]
    StorageFull,
    /// The database is damaged. The next start sets it aside.
    #[error("the history is damaged: restart the app")]
    Damaged,
    /// SQLite refused.
    #[error("the history could not be used: {0}")]
    Database(rusqlite::Error),
    /// The history's thread has ended, by a bug.
    #[error("the history has stopped: restart the app")]
    Gone,
}

impl HistoryError {
    /// Returns what a screen is told.
    pub fn problem(&self) -> Problem {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the sentence tells all others"
        )]
        match self {
            Self::Answering => Problem::Busy,
            Self::Damaged => Problem::Damaged,
            Self::StorageFull => Problem::StorageShort {
                missing_bytes: ROOM_BYTES,
            },
            other => Problem::other(other),
        }
    }
}

/// What to make room for when SQLite says that the storage is full. A guess: an hour of answers.
const ROOM_BYTES: u64 = 16 << 20;

impl From<rusqlite::Error> for HistoryError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            Some(ErrorCode::DiskFull) => Self::StorageFull,
            _ => Self::Database(error),
        }
    }
}

impl From<rusqlite_migration::Error> for HistoryError {
    fn from(error: rusqlite_migration::Error) -> Self {
        use rusqlite_migration::Error::{MigrationDefinition, RusqliteError};

        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "no migration of ours has hooks or checks"
        )]
        match error {
            MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => Self::Newer,
            RusqliteError { err, .. } => err.into(),
            _ => Self::Damaged,
        }
    }
}

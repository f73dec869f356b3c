//! What a phone has kept of its conversations.

use std::error::Error;
use std::fs;
use std::path::Path;

use app::api::AnswerOutcome;
use rusqlite::{Connection, Row};

use crate::database::open_checked;

/// A message, every column of it. What is written of an answer that is under way is its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    seq: i64,
    id: String,
    conversation: i64,
    at_unix_ms: i64,
    kind: String,
    /// What was said.
    pub text: String,
    asker: Option<String>,
    outcome: Option<String>,
    figures: Option<String>,
    notice: Option<String>,
}

impl Message {
    /// Whether it is a question with these words.
    pub fn asks(&self, question: &str) -> bool {
        self.kind == "question" && self.text == question
    }

    /// Whether it is an answer that has not ended.
    pub fn is_under_way(&self) -> bool {
        self.kind == "answer" && self.outcome.is_none()
    }

    /// Returns it as it is once the app has been opened again.
    pub fn reopened(&self) -> Result<Self, serde_json::Error> {
        let mut message = self.clone();
        if self.is_under_way() {
            message.outcome = Some(serde_json::to_string(&AnswerOutcome::AppEnded)?);
        }
        Ok(message)
    }
}

/// Checks the database of an app that has ended, and returns its messages, oldest first.
///
/// A copy is read, so that the app finds the files as it left them.
pub fn messages(history: &Path) -> Result<Vec<Message>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("history.db");
    fs::copy(history, &copy)?;
    let log = history.with_extension("db-wal");
    if log.exists() {
        fs::copy(log, copy.with_extension("db-wal"))?;
    }
    let connection = open_checked(&copy);

    let mut messages = connection.prepare("SELECT * FROM message ORDER BY seq")?;
    let mut messages = messages
        .query_map((), message)?
        .collect::<Result<Vec<_>, _>>()?;
    for message in &mut messages {
        join_pieces(&connection, message)?;
    }
    Ok(messages)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: row.get("seq")?,
        id: row.get("id")?,
        conversation: row.get("conversation")?,
        at_unix_ms: row.get("at_unix_ms")?,
        kind: row.get("kind")?,
        text: row.get("text")?,
        asker: row.get("asker")?,
        outcome: row.get("outcome")?,
        figures: row.get("figures")?,
        notice: row.get("notice")?,
    })
}

fn join_pieces(connection: &Connection, message: &mut Message) -> Result<(), Box<dyn Error>> {
    let mut pieces = connection
        .prepare("SELECT from_byte, text FROM piece WHERE message = ?1 ORDER BY from_byte")?;
    let mut pieces = pieces.query([message.seq])?;
    while let Some(piece) = pieces.next()? {
        if usize::try_from(piece.get::<_, i64>(0)?)? != message.text.len() {
            return Err(format!("there is a hole in {message:?}").into());
        }
        message.text.push_str(&piece.get::<_, String>(1)?);
    }
    Ok(())
}

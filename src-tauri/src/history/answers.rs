//! Questions and their answers, as they are written.
//!
//! ```text
//!           begin            append ×n             end
//!  (none) ────────► under way ────────► under way ─────► complete, cut off, stopped, failed, or the app ended
//!                       │                                                                         ▲
//!                       └── killed; opened again ─────────────────────────────────────────────────┘
//! ```
//!
//! Words come every 30 to 50 ms. Were they added to the message's own text, each time would write the whole answer anew;
//! so each is a row of its own, a *piece*, which writes one page of 4 KiB to the log, however long the answer
//! is: 4.5 kB handed to the file system, in 6 µs (`examples/history.rs`). An hour of answers a day, at 20 pieces a second, is 120 GB a
//! year; the least of phones' flash is made for some ten thousand GB (a guess). When the answer ends, its pieces become its text, in
//! one transaction.
//!
//! A piece's commit does not wait for the flash ([`Durability::Cached`]): the file system has it, so it outlives the app, however
//! that dies. Only if the phone itself dies are the last seconds of an answer lost that the file system had not written
//! (5 to 30 s, by its settings). To wait would cost a write barrier for each of them, 20 times a second, on flash.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::HistoryError;
use super::archive::{Archive, Durability};
use super::conversations::{MESSAGE_COLUMNS, fresh_id, message, place_of, seq_of, to_sql};
use super::limits::{Limited, MESSAGES_MAX};
use super::search;
use super::title;
use crate::api::{
    AnswerOutcome, ConversationId, Figures, Message, MessageBody, MessageId, Notice, Problem,
    Question, QuestionWhat,
};

/// What a question changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// Messages from this one on are gone.
    pub dropped_from: Option<MessageId>,
    /// What is new: the question, unless it is asked again, and the empty answer.
    pub added: Vec<Message>,
    /// The answer, to which words are appended.
    pub answer: MessageId,
}

impl Archive {
    /// Takes a question, and begins its answer: in one transaction with what it drops, from the files as well.
    ///
    /// A conversation without a title gets one from its question; so does one whose title its first question made, if that is edited.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NoSuchConversation`], [`HistoryError::NoSuchMessage`] if there is none
    /// - [`HistoryError::Answering`] if an answer is being written in it
    /// - [`HistoryError::NotAQuestion`] if something else is to be edited
    /// - [`HistoryError::NothingToAnswer`] if it shall be answered again and has no question
    /// - [`HistoryError::Empty`] for a question of nothing but space
    /// - [`HistoryError::TooLong`] for one of more than 128 KiB
    /// - [`HistoryError::Full`] if it has [`MESSAGES_MAX`] messages
    pub fn begin(
        &mut self,
        question: &Question,
        asker: &str,
        now_unix_ms: u64,
    ) -> Result<Begun, HistoryError> {
        Limited::Name.check(asker)?;
        let text = asked(&question.what)?;

        let transaction = self.begin_synced()?;
        let conversation = seq_of(&transaction, &question.conversation)?;
        refuse_if_answering(&transaction, conversation)?;
        let dropped_from = drop_for(&transaction, conversation, &question.what)?;
        refuse_if_full(&transaction, conversation)?;

        let mut added = Vec::new();
        if let Some(text) = text {
            title::give(&transaction, conversation, text)?;
            added.push(new_message(
                now_unix_ms,
                MessageBody::Question {
                    text: text.to_owned(),
                    asker: asker.to_owned(),
                },
            ));
        }
        let answer = new_message(
            now_unix_ms,
            MessageBody::Answer {
                text: String::new(),
                outcome: AnswerOutcome::UnderWay,
                figures: None,
            },
        );
        let id = answer.id.clone();
        added.push(answer);
        for message in &added {
            insert(&transaction, conversation, message)?;
        }
        touch(&transaction, conversation, now_unix_ms)?;
        transaction.commit()?;

        if dropped_from.is_some() {
            self.erase_deleted();
        }
        Ok(Begun {
            dropped_from,
            added,
            answer: id,
        })
    }

    /// Appends words to an answer. They outlive the app from here on.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NotUnderWay`] if the answer has ended, or was deleted with its conversation
    /// - [`HistoryError::TooLong`] if it gets longer than 1 MiB; end it then
    pub fn append(&mut self, answer: &MessageId, text: &str) -> Result<(), HistoryError> {
        self.await_commits(Durability::Cached)?;
        let (seq, from_byte) = under_way(&self.connection, answer)?;
        if text.is_empty() {
            return Ok(());
        }
        Limited::Answer.check_bytes((from_byte as usize).saturating_add(text.len()))?;
        self.connection
            .prepare_cached("INSERT INTO piece (message, from_byte, text) VALUES (?1, ?2, ?3)")?
            .execute(params![seq, from_byte, text])?;
        Ok(())
    }

    /// Adds something that happened to the group, after all that was said.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NoSuchConversation`] if there is none
    /// - [`HistoryError::TooLong`] if it has more than 4 KiB as JSON
    /// - [`HistoryError::Full`] if the conversation has [`MESSAGES_MAX`] messages
    pub fn note(
        &mut self,
        conversation: &ConversationId,
        what: Notice,
        now_unix_ms: u64,
    ) -> Result<Message, HistoryError> {
        let message = new_message(now_unix_ms, MessageBody::Notice { what });
        let transaction = self.begin_synced()?;
        let conversation = seq_of(&transaction, conversation)?;
        refuse_if_full(&transaction, conversation)?;
        insert(&transaction, conversation, &message)?;
        transaction.commit()?;
        Ok(message)
    }

    /// Ends an answer, and returns it whole.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotUnderWay`] if it has ended, or was deleted with its conversation.
    ///
    /// # Panics
    ///
    /// If the outcome is [`AnswerOutcome::UnderWay`], which is none.
    pub fn end(
        &mut self,
        answer: &MessageId,
        outcome: AnswerOutcome,
        figures: Option<&Figures>,
        now_unix_ms: u64,
    ) -> Result<Message, HistoryError> {
        let transaction = self.begin_synced()?;
        let (seq, _) = under_way(&transaction, answer)?;
        finish(&transaction, seq, outcome, figures)?;
        transaction.execute(
            "UPDATE conversation SET changed_unix_ms = ?2 WHERE seq = (SELECT conversation FROM message WHERE seq = ?1)",
            params![seq, to_sql(now_unix_ms)],
        )?;
        let ended = transaction
            .query_one(
                &format!("SELECT {MESSAGE_COLUMNS} FROM message WHERE seq = ?1"),
                [seq],
                message,
            )?
            .expect("only notices are left out");
        transaction.commit()?;
        Ok(ended)
    }

    /// Ends all answers that were left under way, of one conversation or of all, and returns how many they were: the app
    /// had ended, or there was no room for their end.
    ///
    /// That is not [stopped](AnswerOutcome::Stopped), which only a person does; nor failed: the screen offers to answer
    /// again without an alarm.
    ///
    /// # Errors
    ///
    /// [`HistoryError::StorageFull`], [`HistoryError::Database`] if SQLite says so.
    pub fn end_left(&mut self, of: Option<&ConversationId>) -> Result<usize, HistoryError> {
        let transaction = self.begin_synced()?;
        let left: Vec<i64> = transaction
            .prepare(
                "SELECT seq FROM message WHERE kind = 'answer' AND outcome IS NULL
                 AND (?1 IS NULL OR conversation = (SELECT seq FROM conversation WHERE id = ?1))",
            )?
            .query_map([of.map(|of| &of.0)], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for seq in &left {
            finish(&transaction, *seq, AnswerOutcome::AppEnded, None)?;
        }
        transaction.commit()?;
        Ok(left.len())
    }
}

/// Returns what is asked, if it is anything new.
fn asked(what: &QuestionWhat) -> Result<Option<&str>, HistoryError> {
    match what {
        QuestionWhat::New { text } | QuestionWhat::Edit { text, .. } => {
            Limited::Question.check(text)?;
            if text.trim().is_empty() {
                return Err(HistoryError::Empty(Limited::Question));
            }
            Ok(Some(text))
        }
        QuestionWhat::Again => Ok(None),
    }
}

/// Deletes what a question replaces, and returns the first message of it.
fn drop_for(
    connection: &Connection,
    conversation: i64,
    what: &QuestionWhat,
) -> Result<Option<MessageId>, HistoryError> {
    let from = match what {
        QuestionWhat::New { .. } => return Ok(None),
        QuestionWhat::Edit { message, .. } => match place_of(connection, conversation, message)? {
            (seq, true) => seq,
            (_, false) => return Err(HistoryError::NotAQuestion),
        },
        QuestionWhat::Again => last_question(connection, conversation)? + 1,
    };
    title::forget(connection, conversation, from)?;
    let first = connection
        .query_one(
            "SELECT id FROM message WHERE conversation = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1",
            [conversation, from],
            |row| row.get(0).map(MessageId),
        )
        .optional()?;
    connection.execute(
        "DELETE FROM message WHERE conversation = ?1 AND seq >= ?2",
        [conversation, from],
    )?;
    Ok(first)
}

fn last_question(connection: &Connection, conversation: i64) -> Result<i64, HistoryError> {
    connection
        .query_one(
            "SELECT seq FROM message WHERE conversation = ?1 AND kind = 'question' ORDER BY seq DESC LIMIT 1",
            [conversation],
            |row| row.get(0),
        )
        .optional()?
        .ok_or(HistoryError::NothingToAnswer)
}

fn refuse_if_answering(connection: &Connection, conversation: i64) -> Result<(), HistoryError> {
    let answering: bool = connection.query_one(
        "SELECT EXISTS (SELECT 1 FROM message WHERE conversation = ?1 AND kind = 'answer' AND outcome IS NULL)",
        [conversation],
        |row| row.get(0),
    )?;
    if answering {
        return Err(HistoryError::Answering);
    }
    Ok(())
}

fn refuse_if_full(connection: &Connection, conversation: i64) -> Result<(), HistoryError> {
    let n_messages: u32 = connection.query_one(
        "SELECT count(*) FROM message WHERE conversation = ?1",
        [conversation],
        |row| row.get(0),
    )?;
    if n_messages >= MESSAGES_MAX {
        return Err(HistoryError::Full {
            messages_max: MESSAGES_MAX,
        });
    }
    Ok(())
}

fn new_message(at_unix_ms: u64, body: MessageBody) -> Message {
    Message {
        id: MessageId(fresh_id()),
        at_unix_ms,
        body,
    }
}

/// Inserts a question, an empty answer, or a notice.
fn insert(
    connection: &Connection,
    conversation: i64,
    message: &Message,
) -> Result<(), HistoryError> {
    let (kind, text, asker, notice) = match &message.body {
        MessageBody::Question { text, asker } => ("question", text.as_str(), Some(asker), None),
        MessageBody::Answer { .. } => ("answer", "", None, None),
        MessageBody::Notice { what } => ("notice", "", None, Some(as_json(what))),
    };
    Limited::Notice.check(notice.as_deref().unwrap_or_default())?;
    connection
        .prepare_cached(
            "INSERT INTO message (id, conversation, at_unix_ms, kind, text, asker, notice) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            message.id.0,
            conversation,
            to_sql(message.at_unix_ms),
            kind,
            text,
            asker,
            notice,
        ])?;
    search::keep_folded(connection, connection.last_insert_rowid(), text)
}

/// Returns the place of an answer that is being written, and its length.
fn under_way(connection: &Connection, answer: &MessageId) -> Result<(i64, u32), HistoryError> {
    connection
        .prepare_cached(
            "SELECT seq, coalesce((
                SELECT from_byte + octet_length(piece.text) FROM piece WHERE piece.message = message.seq
                ORDER BY from_byte DESC LIMIT 1
            ), 0)
            FROM message WHERE id = ?1 AND kind = 'answer' AND outcome IS NULL",
        )?
        .query_one([&answer.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or(HistoryError::NotUnderWay)
}

/// Makes an answer's pieces its text.
fn finish(
    connection: &Connection,
    seq: i64,
    outcome: AnswerOutcome,
    figures: Option<&Figures>,
) -> Result<(), HistoryError> {
    assert_ne!(
        outcome,
        AnswerOutcome::UnderWay,
        "an answer that ends is not under way"
    );
    let text: Option<String> = connection.query_one(
        "SELECT group_concat(text, '' ORDER BY from_byte) FROM piece WHERE message = ?1",
        [seq],
        |row| row.get(0),
    )?;
    let text = text.unwrap_or_default();
    connection.execute(
        "UPDATE message SET text = ?2, outcome = ?3, figures = ?4 WHERE seq = ?1",
        params![
            seq,
            text,
            as_json(&bounded(outcome)),
            figures.and_then(figures_json)
        ],
    )?;
    connection.execute("DELETE FROM piece WHERE message = ?1", [seq])?;
    search::keep_folded(connection, seq, &text)
}

/// An answer ends, however long the reason why it failed is.
fn bounded(outcome: AnswerOutcome) -> AnswerOutcome {
    // The screen shows 300 letters.
    const DETAIL_CHARS: usize = 1000;

    if let AnswerOutcome::Failed {
        problem: Problem::Other { detail },
    } = outcome
    {
        let detail = detail.chars().take(DETAIL_CHARS).collect();
        let problem = Problem::Other { detail };
        return AnswerOutcome::Failed { problem };
    }
    outcome
}

/// An answer ends without figures if they are longer than any group's, whose phones' names are bounded.
fn figures_json(figures: &Figures) -> Option<String> {
    const BYTES_MAX: usize = 64 << 10;

    let json = as_json(figures);
    if json.len() > BYTES_MAX {
        tracing::warn!(bytes = json.len(), "Figures are too long to be kept");
        return None;
    }
    Some(json)
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what a screen is sent can be written as JSON")
}

fn touch(connection: &Connection, conversation: i64, now_unix_ms: u64) -> Result<(), HistoryError> {
    connection.execute(
        "UPDATE conversation SET changed_unix_ms = ?2 WHERE seq = ?1",
        params![conversation, to_sql(now_unix_ms)],
    )?;
    Ok(())
}

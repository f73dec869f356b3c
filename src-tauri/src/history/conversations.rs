//! Conversations: made, listed, read, changed and deleted.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::HistoryError;
use super::archive::Archive;
use super::limits::{LISTED_MAX, Limited, PREVIEW_CHARS, check_sampling};
use crate::api::{
    AnswerOutcome, Conversation, ConversationId, ConversationSummary, Message, MessageBody,
    MessageId, Sampling,
};

impl Archive {
    /// Makes a conversation without title and messages.
    ///
    /// # Errors
    ///
    /// [`HistoryError::OutOfRange`] by the name of a number that is.
    pub fn create(
        &mut self,
        sampling: &Sampling,
        now_unix_ms: u64,
    ) -> Result<ConversationId, HistoryError> {
        check_sampling(sampling)?;
        let id = ConversationId(fresh_id());
        let transaction = self.begin_synced()?;
        transaction.execute(
            &format!(
                "INSERT INTO conversation ({SAMPLING_COLUMNS}, id, title, system_prompt, changed_unix_ms)
                VALUES ({SAMPLING_PLACES}, ?8, '', '', ?9)"
            ),
            with_sampling(sampling, [id.0.clone().into(), to_sql(now_unix_ms).into()]),
        )?;
        transaction.commit()?;
        Ok(id)
    }

    /// Returns the [`LISTED_MAX`] conversations that changed last, newest first.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn conversations(&self) -> Result<Vec<ConversationSummary>, HistoryError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, title, changed_unix_ms,
                (SELECT count(*) FROM message WHERE conversation = c.seq),
                EXISTS (SELECT 1 FROM message WHERE conversation = c.seq AND kind = 'answer' AND outcome IS NULL),
                (SELECT substr(text, 1, ?1) FROM message WHERE conversation = c.seq AND text <> '' ORDER BY seq DESC LIMIT 1)
            FROM conversation c ORDER BY changed_unix_ms DESC, seq DESC LIMIT ?2",
        )?;
        let summaries = select.query_map([PREVIEW_CHARS, LISTED_MAX], |row| {
            Ok(ConversationSummary {
                id: ConversationId(row.get(0)?),
                title: row.get(1)?,
                changed_unix_ms: from_sql(row.get(2)?),
                n_messages: row.get(3)?,
                answering: row.get(4)?,
                preview: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            })
        })?;
        Ok(summaries.collect::<Result<_, _>>()?)
    }

    /// Returns a conversation, and with it what there is of an answer that is being written.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NoSuchConversation`] if there is none.
    pub fn load(&self, id: &ConversationId) -> Result<Conversation, HistoryError> {
        let seq = seq_of(&self.connection, id)?;
        let mut conversation = self.connection.query_one(
            &format!(
                "SELECT {SAMPLING_COLUMNS}, id, title, system_prompt FROM conversation WHERE seq = ?1"
            ),
            [seq],
            without_messages,
        )?;

        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {MESSAGE_COLUMNS} FROM message WHERE conversation = ?1 ORDER BY seq"
        ))?;
        let messages = select.query_map([seq], message)?;
        conversation.messages = messages
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        Ok(conversation)
    }

    /// Gives a conversation a title. An empty one lets the next question make one.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NoSuchConversation`] if there is none
    /// - [`HistoryError::TooLong`] for more than 1 KiB
    pub fn rename(&mut self, id: &ConversationId, title: &str) -> Result<(), HistoryError> {
        Limited::Title.check(title)?;
        let transaction = self.begin_synced()?;
        let n_changed = transaction.execute(
            "UPDATE conversation SET title = ?2 WHERE id = ?1",
            params![id.0, title.trim()],
        )?;
        transaction.commit()?;
        if n_changed == 0 {
            return Err(HistoryError::NoSuchConversation);
        }
        Ok(())
    }

    /// Says how a conversation's next answers are written.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NoSuchConversation`] if there is none
    /// - [`HistoryError::TooLong`] for a system prompt of more than 32 KiB
    /// - [`HistoryError::OutOfRange`] by the name of a number that is
    pub fn configure(
        &mut self,
        id: &ConversationId,
        system_prompt: &str,
        sampling: &Sampling,
    ) -> Result<(), HistoryError> {
        Limited::SystemPrompt.check(system_prompt)?;
        check_sampling(sampling)?;
        let transaction = self.begin_synced()?;
        let n_changed = transaction.execute(
            &format!(
                "UPDATE conversation SET ({SAMPLING_COLUMNS}) = ({SAMPLING_PLACES}), system_prompt = ?8 WHERE id = ?9"
            ),
            with_sampling(
                sampling,
                [system_prompt.to_owned().into(), id.0.clone().into()],
            ),
        )?;
        transaction.commit()?;
        if n_changed == 0 {
            return Err(HistoryError::NoSuchConversation);
        }
        Ok(())
    }

    /// Deletes a conversation, from the files as well. An answer that is being written in it is deleted with it: what is appended
    /// to it later is [not under way](HistoryError::NotUnderWay).
    ///
    /// # Errors
    ///
    /// [`HistoryError::NoSuchConversation`] if there is none.
    pub fn delete(&mut self, id: &ConversationId) -> Result<(), HistoryError> {
        let transaction = self.begin_synced()?;
        let n_deleted = transaction.execute("DELETE FROM conversation WHERE id = ?1", [&id.0])?;
        transaction.commit()?;
        if n_deleted == 0 {
            return Err(HistoryError::NoSuchConversation);
        }
        self.erase_deleted();
        Ok(())
    }

    /// Deletes one message, from the files as well.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NoSuchConversation`], [`HistoryError::NoSuchMessage`] if there is none
    /// - [`HistoryError::Answering`] if it is an answer that is being written
    pub fn delete_message(
        &mut self,
        conversation: &ConversationId,
        message: &MessageId,
    ) -> Result<(), HistoryError> {
        let transaction = self.begin_synced()?;
        let seq = seq_of(&transaction, conversation)?;
        let n_deleted = transaction.execute(
            "DELETE FROM message WHERE id = ?1 AND conversation = ?2 AND NOT (kind = 'answer' AND outcome IS NULL)",
            params![message.0, seq],
        )?;
        if n_deleted == 0 {
            place_of(&transaction, seq, message)?;
            return Err(HistoryError::Answering);
        }
        transaction.commit()?;
        self.erase_deleted();
        Ok(())
    }
}

/// How answers are written: what [`with_sampling`] writes, and [`without_messages`] reads, in that order.
const SAMPLING_COLUMNS: &str =
    "temperature, top_k, top_p, min_p, repetition_penalty, seed, max_tokens";

/// Where a statement takes them.
const SAMPLING_PLACES: &str = "?1, ?2, ?3, ?4, ?5, ?6, ?7";

/// Returns the parameters of a statement that writes [`SAMPLING_COLUMNS`], and then others.
fn with_sampling(
    sampling: &Sampling,
    others: impl IntoIterator<Item = Value>,
) -> impl rusqlite::Params {
    let columns: [Value; 7] = [
        sampling.temperature.into(),
        sampling.top_k.into(),
        sampling.top_p.into(),
        sampling.min_p.into(),
        sampling.repetition_penalty.into(),
        sampling.seed.map(to_sql).into(),
        sampling.max_tokens.into(),
    ];

    params_from_iter(columns.into_iter().chain(others))
}

/// What [`message`] reads, in its order.
pub(super) const MESSAGE_COLUMNS: &str = "id, at_unix_ms, kind, asker, outcome, figures, notice,
    CASE WHEN kind = 'answer' AND outcome IS NULL
        THEN (SELECT group_concat(piece.text, '' ORDER BY from_byte) FROM piece WHERE piece.message = message.seq)
        ELSE text
    END";

/// Reads a message.
///
/// What is JSON was written by this app, but perhaps by an earlier version that knew other words. A conversation is not lost over
/// that: figures are left out then, a whole notice too, and an answer counts as stopped.
pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<Option<Message>> {
    let kind: String = row.get(2)?;
    let text: Option<String> = row.get(7)?;
    let text = text.unwrap_or_default();
    let body = match kind.as_str() {
        "question" => MessageBody::Question {
            text,
            asker: row.get(3)?,
        },
        "answer" => MessageBody::Answer {
            text,
            outcome: match row.get::<_, Option<String>>(4)? {
                None => AnswerOutcome::UnderWay,
                Some(outcome) => read(&outcome).unwrap_or(AnswerOutcome::Stopped),
            },
            figures: row
                .get::<_, Option<String>>(5)?
                .and_then(|figures| read(&figures)),
        },
        _ => match read(&row.get::<_, String>(6)?) {
            Some(what) => MessageBody::Notice { what },
            None => return Ok(None),
        },
    };
    Ok(Some(Message {
        id: MessageId(row.get(0)?),
        at_unix_ms: from_sql(row.get(1)?),
        body,
    }))
}

fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json)
        .inspect_err(|error| {
            // The error's own words may quote a phone's name.
            tracing::warn!(
                line = error.line(),
                column = error.column(),
                "A part of a message cannot be read"
            );
        })
        .ok()
}

fn without_messages(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: ConversationId(row.get("id")?),
        title: row.get("title")?,
        system_prompt: row.get("system_prompt")?,
        sampling: Sampling {
            temperature: row.get(0)?,
            top_k: row.get(1)?,
            top_p: row.get(2)?,
            min_p: row.get(3)?,
            repetition_penalty: row.get(4)?,
            seed: row.get::<_, Option<i64>>(5)?.map(from_sql),
            max_tokens: row.get(6)?,
        },
        messages: Vec::new(),
    })
}

pub(super) fn seq_of(connection: &Connection, id: &ConversationId) -> Result<i64, HistoryError> {
    connection
        .prepare_cached("SELECT seq FROM conversation WHERE id = ?1")?
        .query_one([&id.0], |row| row.get(0))
        .optional()?
        .ok_or(HistoryError::NoSuchConversation)
}

/// Returns where a message stands, and whether it is a question.
pub(super) fn place_of(
    connection: &Connection,
    conversation: i64,
    id: &MessageId,
) -> Result<(i64, bool), HistoryError> {
    connection
        .prepare_cached(
            "SELECT seq, kind = 'question' FROM message WHERE id = ?1 AND conversation = ?2",
        )?
        .query_one(params![id.0, conversation], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?
        .ok_or(HistoryError::NoSuchMessage)
}

pub(super) fn fresh_id() -> String {
    Uuid::now_v7().to_string()
}

/// SQLite's whole numbers have a sign. Times reach it in 292 million years, seeds are checked.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

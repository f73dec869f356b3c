//! The history as a list in memory, and operations on both: what the database is compared with.
//!
//! The list knows no ids. Conversations are counted in the order in which they were made, messages from the start of theirs.

#![allow(dead_code)] // each test uses its part

pub mod database;

use app::api::{
    AnswerOutcome, ConversationId, Message, MessageBody, MessageId, Notice, Question, QuestionWhat,
    Sampling,
};
use app::history::{Archive, HistoryError};

/// What may be done. Indices that point at nothing make it nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Make a conversation.
    Create,
    /// Give it this title.
    Rename(usize, String),
    /// Give it this system prompt and temperature.
    Configure(usize, String, u8),
    /// Delete it.
    Delete(usize),
    /// Delete one message.
    DeleteMessage(usize, usize),
    /// Ask something new.
    Ask(usize, String),
    /// Ask something else in place of a message.
    Edit(usize, usize, String),
    /// Have the last question answered again.
    Again(usize),
    /// Write on.
    Append(usize, String),
    /// End the answer that is being written.
    End(usize, Ending),
    /// Something happens to the group.
    Note(usize),
    /// The app is closed, or killed, and opened again.
    Reopen,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    /// By itself.
    Complete,
    /// At the limit.
    CutOff,
}

/// Why an operation is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// An answer is being written.
    Answering,
    /// It is an answer or a notice.
    NotAQuestion,
    /// There is none.
    NothingToAnswer,
}

/// A conversation as a screen sees it, but for ids and times.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Talk {
    /// Its title.
    pub title: String,
    /// Its system prompt.
    pub system_prompt: String,
    /// Of its sampling.
    pub temperature: f64,
    /// Its messages.
    pub messages: Vec<Body>,
    changed: u64,
}

/// A message as a screen sees it, but for its id and time.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A question.
    Question(String),
    /// An answer.
    Answer(String, AnswerOutcome),
    /// Something that happened.
    Notice,
}

/// The list.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// `None` is deleted.
    talks: Vec<Option<Talk>>,
    now: u64,
}

impl Reference {
    /// Does what the history shall do.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), Refusal> {
        self.now += 1;
        let now = self.now;
        match operation {
            Operation::Create => self.talks.push(Some(Talk {
                temperature: SAMPLING.temperature,
                changed: now,
                ..Talk::default()
            })),
            Operation::Reopen => self.end_left(),
            Operation::Delete(at) => {
                if let Some(talk) = self.talks.get_mut(*at) {
                    *talk = None;
                }
            }
            Operation::Rename(at, ..)
            | Operation::Configure(at, ..)
            | Operation::DeleteMessage(at, ..)
            | Operation::Ask(at, ..)
            | Operation::Edit(at, ..)
            | Operation::Again(at)
            | Operation::Append(at, ..)
            | Operation::End(at, ..)
            | Operation::Note(at) => {
                if let Some(talk) = self.talks.get_mut(*at).and_then(Option::as_mut) {
                    return talk.apply(operation, now);
                }
            }
        }
        Ok(())
    }

    /// Returns how many conversations were ever made.
    pub fn n_made(&self) -> usize {
        self.talks.len()
    }

    /// Returns the time: one for each operation.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Returns whether an answer is being written.
    pub fn is_answering(&self) -> bool {
        self.talks.iter().flatten().any(Talk::is_answering)
    }

    /// Returns what the list of conversations shows, newest first.
    pub fn shown(&self) -> Vec<Talk> {
        let mut talks: Vec<Talk> = self.talks.iter().flatten().cloned().collect();
        talks.reverse();
        talks.sort_by_key(|talk| std::cmp::Reverse(talk.changed));
        talks
    }

    /// The app is opened again.
    pub fn end_left(&mut self) {
        for talk in self.talks.iter_mut().flatten() {
            if let Some((_, outcome)) = talk.under_way() {
                *outcome = AnswerOutcome::AppEnded;
            }
        }
    }
}

impl Talk {
    fn apply(&mut self, operation: &Operation, now: u64) -> Result<(), Refusal> {
        match operation {
            Operation::Rename(_, title) => self.title.clone_from(title),
            Operation::Configure(_, system_prompt, temperature) => {
                self.system_prompt.clone_from(system_prompt);
                self.temperature = f64::from(*temperature);
            }
            Operation::DeleteMessage(_, message) => return self.delete_message(*message),
            Operation::Ask(_, text) => {
                self.refuse_if_answering()?;
                self.ask(text, now);
            }
            Operation::Edit(_, message, text) => {
                let Some(edited) = self.messages.get(*message).cloned() else {
                    return Ok(());
                };
                self.refuse_if_answering()?;
                if !matches!(edited, Body::Question(_)) {
                    return Err(Refusal::NotAQuestion);
                }
                self.drop_from(*message);
                self.ask(text, now);
            }
            Operation::Again(_) => {
                self.refuse_if_answering()?;
                let is_question = |body: &Body| matches!(body, Body::Question(_));
                let last = self.messages.iter().rposition(is_question);
                self.drop_from(last.ok_or(Refusal::NothingToAnswer)? + 1);
                self.begin(now);
            }
            Operation::Append(_, more) => {
                if let Some((text, _)) = self.under_way() {
                    text.push_str(more);
                }
            }
            Operation::End(_, ending) => {
                if let Some((_, outcome)) = self.under_way() {
                    *outcome = ending.outcome();
                    self.changed = now;
                }
            }
            Operation::Note(_) => self.messages.push(Body::Notice),
            Operation::Create | Operation::Delete(_) | Operation::Reopen => {}
        }
        Ok(())
    }

    fn delete_message(&mut self, message: usize) -> Result<(), Refusal> {
        if let Some(Body::Answer(_, AnswerOutcome::UnderWay)) = self.messages.get(message) {
            return Err(Refusal::Answering);
        }
        if message < self.messages.len() {
            self.messages.remove(message);
        }
        Ok(())
    }

    fn refuse_if_answering(&self) -> Result<(), Refusal> {
        match self.is_answering() {
            true => Err(Refusal::Answering),
            false => Ok(()),
        }
    }

    fn is_answering(&self) -> bool {
        let under_way = |body: &Body| matches!(body, Body::Answer(_, AnswerOutcome::UnderWay));
        self.messages.iter().any(under_way)
    }

    /// Questions of these tests are short: each is a title as it stands.
    fn ask(&mut self, text: &str, now: u64) {
        if self.title.is_empty() {
            self.title = text.into();
        }
        self.messages.push(Body::Question(text.into()));
        self.begin(now);
    }

    fn begin(&mut self, now: u64) {
        let empty = Body::Answer(String::new(), AnswerOutcome::UnderWay);
        self.messages.push(empty);
        self.changed = now;
    }

    fn drop_from(&mut self, message: usize) {
        let is_question = |body: &Body| matches!(body, Body::Question(_));
        if let Some(first) = self.messages.iter().position(is_question)
            && first >= message
            && self.messages[first] == Body::Question(self.title.clone())
        {
            self.title.clear();
        }
        self.messages.truncate(message);
    }

    fn under_way(&mut self) -> Option<(&mut String, &mut AnswerOutcome)> {
        self.messages.iter_mut().find_map(|body| match body {
            Body::Answer(text, outcome) if *outcome == AnswerOutcome::UnderWay => {
                Some((text, outcome))
            }
            Body::Question(_) | Body::Answer(..) | Body::Notice => None,
        })
    }
}

impl Ending {
    fn outcome(self) -> AnswerOutcome {
        match self {
            Self::Complete => AnswerOutcome::Complete,
            Self::CutOff => AnswerOutcome::CutOff,
        }
    }
}

/// Does an operation on the real history, and remembers which conversation is which: of those that it made.
#[derive(Debug)]
pub struct Subject {
    made: Vec<ConversationId>,
    now: u64,
}

impl Subject {
    /// Begins at this time.
    pub fn new(now: u64) -> Self {
        let made = Vec::new();
        Self { made, now }
    }

    /// Does an operation. [`Operation::Reopen`] is the test's.
    pub fn apply(
        &mut self,
        archive: &mut Archive,
        operation: &Operation,
    ) -> Result<(), HistoryError> {
        self.now += 1;
        let now = self.now;
        match operation {
            Operation::Create => self.made.push(archive.create(&SAMPLING, now)?),
            Operation::Reopen => {}
            Operation::Rename(at, ..)
            | Operation::Configure(at, ..)
            | Operation::Delete(at)
            | Operation::DeleteMessage(at, ..)
            | Operation::Ask(at, ..)
            | Operation::Edit(at, ..)
            | Operation::Again(at)
            | Operation::Append(at, ..)
            | Operation::End(at, ..)
            | Operation::Note(at) => {
                if let Some(talk) = self.made.get(*at) {
                    return ignore_deleted(apply(archive, talk, operation, now));
                }
            }
        }
        Ok(())
    }
}

fn apply(
    archive: &mut Archive,
    talk: &ConversationId,
    operation: &Operation,
    now: u64,
) -> Result<(), HistoryError> {
    let ask = |archive: &mut Archive, what| {
        let conversation = talk.clone();
        let question = Question { conversation, what };
        let begun = archive.begin(&question, "Ann", now)?;
        let messages = archive.load(talk)?.messages;
        assert!(
            messages.ends_with(&begun.added),
            "what is new is what was added"
        );
        Ok(())
    };
    match operation {
        Operation::Rename(_, title) => archive.rename(talk, title),
        Operation::Configure(_, system_prompt, temperature) => {
            let temperature = f64::from(*temperature);
            archive.configure(
                talk,
                system_prompt,
                &Sampling {
                    temperature,
                    ..SAMPLING
                },
            )
        }
        Operation::Delete(_) => archive.delete(talk),
        Operation::DeleteMessage(_, message) => {
            let id = message_id(archive, talk, *message)?;
            archive.delete_message(talk, &id)
        }
        Operation::Ask(_, text) => ask(archive, QuestionWhat::New { text: text.clone() }),
        Operation::Edit(_, message, text) => {
            let message = message_id(archive, talk, *message)?;
            let text = text.clone();
            ask(archive, QuestionWhat::Edit { message, text })
        }
        Operation::Again(_) => ask(archive, QuestionWhat::Again),
        Operation::Append(_, text) => archive.append(&under_way(archive, talk)?, text),
        Operation::End(_, ending) => {
            let answer = under_way(archive, talk)?;
            archive.end(&answer, ending.outcome(), None, now).map(drop)
        }
        Operation::Note(_) => archive.note(talk, Notice::ContinuingAlone, now).map(drop),
        Operation::Create | Operation::Reopen => Ok(()),
    }
}

fn message_id(
    archive: &Archive,
    talk: &ConversationId,
    index: usize,
) -> Result<MessageId, HistoryError> {
    let messages = archive.load(talk)?.messages;
    let message = messages.into_iter().nth(index);
    message
        .map(|message| message.id)
        .ok_or(HistoryError::NoSuchMessage)
}

fn under_way(archive: &Archive, talk: &ConversationId) -> Result<MessageId, HistoryError> {
    let messages = archive.load(talk)?.messages;
    let answer = messages.into_iter().find(|message| {
        matches!(&message.body, MessageBody::Answer { outcome, .. } if *outcome == AnswerOutcome::UnderWay)
    });
    answer
        .map(|message| message.id)
        .ok_or(HistoryError::NotUnderWay)
}

/// What points at nothing is nothing.
fn ignore_deleted(result: Result<(), HistoryError>) -> Result<(), HistoryError> {
    match result {
        Err(
            HistoryError::NoSuchConversation
            | HistoryError::NoSuchMessage
            | HistoryError::NotUnderWay,
        ) => Ok(()),
        other => other,
    }
}

/// Returns what the history shows, as [`Reference::shown`].
pub fn shown(archive: &Archive) -> Vec<Talk> {
    let summaries = archive.conversations().expect("listed");
    let talks = summaries.iter().map(|summary| {
        let conversation = archive.load(&summary.id).expect("what is listed is there");
        assert_eq!(conversation.title, summary.title);
        assert_eq!(conversation.messages.len(), summary.n_messages as usize);
        Talk {
            title: conversation.title,
            system_prompt: conversation.system_prompt,
            temperature: conversation.sampling.temperature,
            messages: conversation.messages.into_iter().map(body).collect(),
            changed: summary.changed_unix_ms,
        }
    });
    talks.collect()
}

fn body(message: Message) -> Body {
    match message.body {
        MessageBody::Question { text, .. } => Body::Question(text),
        MessageBody::Answer { text, outcome, .. } => Body::Answer(text, outcome),
        MessageBody::Notice { .. } => Body::Notice,
    }
}

const SAMPLING: Sampling = Sampling {
    temperature: 0.5,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.05,
    repetition_penalty: 1.05,
    seed: None,
    max_tokens: 1024,
};

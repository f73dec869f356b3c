//! The JSON that programs read and write: one object a line.
//!
//! On standard output come [`Line`]s, on standard input of `node --json` go [`Order`]s. The README's
//! "For programs" is the reference.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use node::event_loop::Event;
use proto::PeerId;
use proto::chat::{Answer, Ask, FailureReason, Figures, Finish};
use proto::phone::Notice;
use proto::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// A phone can be reached.
    Listening {
        /// Whole address, with the peer id.
        address: String,
    },
    /// A phone takes part.
    Joined {
        /// Its name.
        phone: String,
    },
    /// Shards are being checked or written.
    Preparing {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Shards are being loaded.
    Loading {
        /// Between 0 and 1.
        fraction: f32,
    },
    /// A plan is in force.
    Plan {
        /// Its number.
        epoch: u64,
        /// Phone that reads and writes the words.
        head: String,
        /// Who runs which layers, in ring order.
        stages: Vec<StageLine>,
    },
    /// A question waits for others.
    Queued {
        /// The question's number, where there can be several.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Questions before it.
        ahead: u32,
    },
    /// A prompt is being read.
    Reading {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Tokens read.
        done: u32,
        /// Tokens in all.
        total: u32,
    },
    /// A token of an answer.
    Token {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// The token's number.
        token: u32,
        /// Text since the last one.
        text: String,
    },
    /// An answer has ended.
    Done {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// All of its text.
        text: String,
        /// Why it ended.
        finish: Finish,
        /// What it cost.
        #[serde(flatten)]
        figures: Figures,
    },
    /// Something failed. With an `id`, only that answer.
    Error {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        id: Option<u64>,
        /// What, for people.
        message: String,
    },
}

/// One stage of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageLine {
    /// The phone's name.
    pub phone: String,
    /// First layer, and the one after the last.
    pub layers: [u32; 2],
}

/// What a program wants of a phone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Answer this.
    Ask {
        /// Number that the answer's lines carry.
        id: u64,
        /// The question.
        ask: Ask,
    },
    /// No more of that answer.
    Cancel {
        /// Its number.
        id: u64,
    },
    /// End.
    Stop,
}

/// Names of phones, as far as this phone has heard them.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<PeerId, String>);

impl Line {
    /// Returns the number of the question that a line belongs to.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Queued { id, .. }
            | Self::Reading { id, .. }
            | Self::Token { id, .. }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => *id,
            Self::Listening { .. }
            | Self::Joined { .. }
            | Self::Preparing { .. }
            | Self::Loading { .. }
            | Self::Plan { .. } => None,
        }
    }

    /// Returns the line without that number.
    pub fn without_id(mut self) -> Self {
        match &mut self {
            Self::Queued { id, .. }
            | Self::Reading { id, .. }
            | Self::Token { id, .. }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => *id = None,
            Self::Listening { .. }
            | Self::Joined { .. }
            | Self::Preparing { .. }
            | Self::Loading { .. }
            | Self::Plan { .. } => {}
        }
        self
    }
}

impl Names {
    /// Starts with this phone's own.
    pub fn of_phone(me: PeerId, name: String) -> Self {
        Self(BTreeMap::from([(me, name)]))
    }

    /// Notes the names in an event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Notice(Notice::Joined { phone, name }) => {
                self.0.insert(*phone, name.clone());
            }
            Event::Notice(Notice::InForce { names, .. }) => {
                self.0.extend(names.iter().map(|(p, n)| (*p, n.clone())));
            }
            Event::Notice(Notice::Broken { .. } | Notice::NoLeader)
            | Event::Preparing { .. }
            | Event::Loading { .. } => {}
        }
    }

    /// Returns a phone's name, or the start of its id.
    pub fn of(&self, phone: PeerId) -> String {
        self.0
            .get(&phone)
            .cloned()
            .unwrap_or_else(|| phone.to_string())
    }

    /// Says why an answer broke off.
    pub fn failure(&self, reason: &FailureReason) -> String {
        // A guest has heard no names, and a key tells a person nothing.
        let name = |phone| self.0.get(phone).map_or("a phone", String::as_str);

        match reason {
            FailureReason::PhoneLost(phone) => {
                format!("{} left the group, and its layers with it", name(phone))
            }
            FailureReason::StageFailed { phone, reason } => {
                format!("{} cannot go on: {reason}", name(phone))
            }
            FailureReason::HeadLost => reason.to_string(),
        }
    }

    /// Returns the line that an event makes.
    pub fn line(&self, event: Event) -> Line {
        match event {
            Event::Notice(Notice::Joined { name, .. }) => Line::Joined { phone: name },
            Event::Notice(Notice::InForce { plan, .. }) => self.plan(&plan),
            Event::Notice(Notice::Broken { phone, reason }) => Line::Error {
                id: None,
                message: format!("{}: {reason}", self.of(phone)),
            },
            Event::Notice(Notice::NoLeader) => Line::Error {
                id: None,
                message: "the phone that leads the group cannot be reached, or has left it".into(),
            },
            Event::Preparing {
                done_bytes,
                total_bytes,
            } => Line::Preparing {
                done_bytes,
                total_bytes,
            },
            Event::Loading { fraction } => Line::Loading { fraction },
        }
    }

    fn plan(&self, plan: &Plan) -> Line {
        let stages = plan.stages.iter().map(|stage| StageLine {
            phone: self.of(stage.phone),
            layers: [stage.layers.start(), stage.layers.end()],
        });

        Line::Plan {
            epoch: plan.epoch.0,
            head: self.of(plan.head),
            stages: stages.collect(),
        }
    }
}

/// Makes lines of one answer's words, and keeps its text.
#[derive(Debug, Default)]
pub struct AnswerLines {
    id: Option<u64>,
    text: String,
}

impl AnswerLines {
    /// Starts an answer whose lines carry `id`.
    pub fn new(id: Option<u64>) -> Self {
        Self {
            id,
            text: String::new(),
        }
    }

    /// Returns the line that the next word makes.
    pub fn line(&mut self, answer: Answer, names: &Names) -> Line {
        let id = self.id;

        match answer {
            Answer::Queued { ahead } => Line::Queued { id, ahead },
            Answer::Reading { done, total } => Line::Reading { id, done, total },
            Answer::Token { token, text } => {
                self.text.push_str(&text);
                Line::Token { id, token, text }
            }
            Answer::Done { finish, figures } => Line::Done {
                id,
                text: std::mem::take(&mut self.text),
                finish,
                figures,
            },
            Answer::Refused(reason) => Line::Error {
                id,
                message: reason.to_string(),
            },
            Answer::Failed(reason) => Line::Error {
                id,
                message: names.failure(&reason),
            },
        }
    }
}

/// Says what a command failed with as a line, where a program reads lines.
///
/// # Errors
///
/// The same where people read, for `main` to say.
pub fn or_error_line(json: bool, result: Result<Outcome>) -> Result<Outcome> {
    match result {
        Err(error) if json => {
            print(&Line::Error {
                id: None,
                message: message(&error),
            })?;
            Ok(Outcome::Failed)
        }
        other => other,
    }
}

/// Returns what went wrong and why, each thing said once: some of our errors have their cause's words in
/// their own.
pub fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |message, cause| {
            let cause = cause.to_string();
            if message.ends_with(&cause) {
                message
            } else {
                format!("{message}: {cause}")
            }
        })
}

/// Writes a line to standard output at once.
///
/// # Errors
///
/// If nobody reads it any more.
pub fn print(line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line).expect("our lines are plain data");
    text.push(b'\n');

    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

//! The JSON that programs read and write: one object a line.
//!
//! On standard output come [`Line`]s, on standard input of `node --json` go [`Order`]s. Both also go over a phone's
//! socket ([`crate::askers`]). The README's "For programs" is the reference.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use node::event_loop::Event;
use node::identity;
use proto::PeerId;
use proto::chat::{Answer, Ask, FailureReason, Figures, Finish};
use proto::group::message::Refusal;
use proto::group::{Code, LeaveReason, Older, OutEvent, PairingEnd, Roster, Side};
use proto::plan::Plan;
use proto::ring::Notice;
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
        /// Where programs of the same user can ask it.
        local: String,
    },
    /// Two phones show a code: if it is the same on both, their people may say yes.
    Match {
        /// The other phone's name.
        phone: String,
        /// The other phone.
        peer: String,
        /// Six digits.
        code: String,
        /// `asker` if this phone asked, `asked` if the other did.
        side: String,
    },
    /// Asking, being asked, or using an invite came to an end.
    PairingEnded {
        /// The other phone's name.
        phone: String,
        /// The other phone.
        peer: String,
        /// `done`, or why not.
        end: String,
    },
    /// Who is in the group.
    Members {
        /// Each of them, this phone too.
        members: Vec<MemberLine>,
    },
    /// Another phone leads.
    Leader {
        /// Its name; nobody, while a leader is sought.
        phone: Option<String>,
        /// That phone.
        peer: Option<String>,
        /// Number of the election that it won. What a phone shows here only rises.
        term: Option<u64>,
    },
    /// This phone is in no group any more.
    Left {
        /// `left`, `removed` or `switched`.
        reason: String,
    },
    /// An invite for one phone.
    Invite {
        /// The link.
        link: String,
        /// When it expires, in seconds since 1970.
        expires_unix_s: u64,
    },
    /// A phone was dialled and not reached; it may be dialled again.
    Unreachable {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
        /// Why, for people.
        reason: String,
    },
    /// How things stand: the answer to [`Order::Status`].
    Status {
        /// This phone's name.
        phone: String,
        /// Where other phones reach it.
        address: String,
        /// Who is in its group; nobody, if it is in none.
        members: Vec<MemberLine>,
        /// The last `plan` line, while that plan is in force.
        plan: Option<Box<Line>>,
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

/// One phone of the group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// Whether it led when this was written.
    pub leader: bool,
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
    /// Ask the phone at an address to be let into its group.
    Meet {
        /// Its address, which ends in `/p2p/PEER`.
        address: String,
    },
    /// Ask a phone that is known to be let into its group.
    Tap {
        /// That phone.
        peer: String,
    },
    /// The code is the same on both phones.
    Confirm {
        /// The other phone.
        peer: String,
    },
    /// No to a phone that asks, or no more of asking it.
    Refuse {
        /// The other phone.
        peer: String,
    },
    /// Make a link that lets one phone in.
    Invite,
    /// Use such a link.
    Present {
        /// The link.
        link: String,
    },
    /// Leave the group, after the answer that is being written.
    Leave,
    /// Take a phone out of the group that this one leads.
    Remove {
        /// That phone.
        peer: String,
    },
    /// Run this phone's model when it leads and so many phones are here.
    Run {
        /// Phones, this one among them.
        phones: u32,
    },
    /// Say how things stand.
    Status,
    /// End.
    Stop,
}

/// Names of phones, as far as this phone has heard them.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<PeerId, String>);

impl Names {
    /// Starts with this phone's own.
    pub fn of_phone(me: PeerId, name: String) -> Self {
        Self(BTreeMap::from([(me, name)]))
    }

    /// Notes the names in an event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Group(OutEvent::Match { peer, name, .. }) => {
                self.0.insert(*peer, name.to_string());
            }
            Event::Group(OutEvent::Members(roster)) => {
                let members = roster.members.iter();
                self.0
                    .extend(members.map(|member| (member.peer, member.name.to_string())));
            }
            _ => {}
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
        // A key tells a person nothing.
        let name = |phone| self.0.get(phone).map_or("a phone", String::as_str);

        match reason {
            FailureReason::PhoneLost(phone) => {
                format!("{} left the group, and its layers with it", name(phone))
            }
            FailureReason::StageFailed { phone, reason } => {
                format!("{} cannot go on: {reason}", name(phone))
            }
            FailureReason::HeadLost | FailureReason::Replanned => reason.to_string(),
        }
    }

    /// Returns the line that an event makes, if it makes one.
    pub fn line_of(&self, event: &Event) -> Option<Line> {
        Some(match event {
            Event::Notice(Notice::InForce { plan }) => self.plan(plan),
            Event::Notice(Notice::Broken { phone, reason, .. }) => Line::Error {
                id: None,
                message: format!("{}: {reason}", self.of(*phone)),
            },
            Event::Group(event) => return self.group_line(event),
            Event::Addresses(_) => return None,
            Event::Unreachable { phone, reason } => Line::Unreachable {
                phone: self.of(*phone),
                peer: peer_text(*phone),
                reason: reason.clone(),
            },
            Event::CannotSave(error) => Line::Error {
                id: None,
                message: error.to_string(),
            },
            Event::Preparing {
                done_bytes,
                total_bytes,
            } => Line::Preparing {
                done_bytes: *done_bytes,
                total_bytes: *total_bytes,
            },
            Event::Loading { fraction } => Line::Loading {
                fraction: *fraction,
            },
        })
    }

    fn group_line(&self, event: &OutEvent) -> Option<Line> {
        Some(match event {
            OutEvent::Match {
                peer, code, side, ..
            } => self.match_line(*peer, *code, *side),
            OutEvent::PairingEnded { peer, end } => Line::PairingEnded {
                phone: self.of(*peer),
                peer: peer_text(*peer),
                end: end_word(*end).into(),
            },
            OutEvent::Members(roster) => Line::Members {
                members: members(roster),
            },
            OutEvent::Leader(term) => Line::Leader {
                phone: term.map(|term| self.of(term.leader)),
                peer: term.map(|term| peer_text(term.leader)),
                term: term.map(|term| term.number),
            },
            OutEvent::Left { reason, .. } => Line::Left {
                reason: match reason {
                    LeaveReason::Left => "left",
                    LeaveReason::Removed => "removed",
                    LeaveReason::Switched => "switched",
                }
                .into(),
            },
            OutEvent::OtherVersion { peer, older, .. } => {
                let older = match older {
                    Older::Ours => "this phone".into(),
                    Older::Theirs => self.of(*peer),
                };
                let message = format!("{} speaks another version: update {older}", self.of(*peer));
                Line::Error { id: None, message }
            }
            OutEvent::Refused(error) => Line::Error {
                id: None,
                message: error.to_string(),
            },
            _ => return None,
        })
    }

    fn match_line(&self, peer: PeerId, code: Code, side: Side) -> Line {
        let side = match side {
            Side::Asker => "asker",
            Side::Asked => "asked",
        };

        Line::Match {
            phone: self.of(peer),
            peer: peer_text(peer),
            code: code.to_string(),
            side: side.into(),
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

/// Returns the members as lines have them.
fn members(roster: &Roster) -> Vec<MemberLine> {
    let leader = roster.version.term.leader;
    let members = roster.members.iter().map(|member| MemberLine {
        phone: member.name.to_string(),
        peer: peer_text(member.peer),
        leader: member.peer == leader,
    });

    members.collect()
}

/// Returns the word for how two phones' way to each other ended.
fn end_word(end: PairingEnd) -> &'static str {
    match end {
        PairingEnd::Done => "done",
        PairingEnd::Expired | PairingEnd::Refused(Refusal::Expired) => "expired",
        PairingEnd::Cancelled | PairingEnd::Refused(Refusal::Cancelled) => "cancelled",
        PairingEnd::WrongHost => "wrong_host",
        PairingEnd::Refused(Refusal::Declined) => "declined",
        PairingEnd::Refused(Refusal::Busy) => "busy",
        PairingEnd::Refused(Refusal::BadCode) => "bad_code",
        PairingEnd::Refused(Refusal::InviteUnknown) => "invite_unknown",
        PairingEnd::Refused(Refusal::InviteExpired) => "invite_expired",
        PairingEnd::Refused(Refusal::InviteUsed) => "invite_used",
        PairingEnd::Refused(Refusal::Full) => "full",
        PairingEnd::Refused(Refusal::Blocked) => "blocked",
        PairingEnd::Refused(Refusal::OtherVersion) => "other_version",
    }
}

/// Returns a phone as lines name it: as libp2p does, at the end of its address.
pub fn peer_text(phone: PeerId) -> String {
    identity::libp2p_peer(phone).map_or_else(|| phone.to_string(), |peer| peer.to_string())
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
    let mut out = std::io::stdout().lock();
    out.write_all(&line.to_json())?;
    out.flush()
}

impl Order {
    /// Returns the order as a line of JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json_line(self)
    }
}

impl Line {
    /// Returns the line as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json_line(self)
    }

    /// Returns what a person is told; nothing about progress, nor about an answer's words.
    pub fn for_people(&self) -> Option<String> {
        Some(match self {
            Self::Listening { address, local } => format!("listening on {address}\nand on {local}"),
            Self::Match { phone, code, .. } => {
                format!("{phone} shows {code}? Say yes if it does, or no")
            }
            Self::PairingEnded { phone, end, .. } if end == "done" => {
                format!("in one group with {phone}")
            }
            Self::PairingEnded { phone, end, .. } => {
                format!("not in one group with {phone}: {end}")
            }
            Self::Members { members } => format!("in the group: {}", list(members)),
            Self::Leader {
                phone: Some(phone), ..
            } => format!("{phone} leads"),
            Self::Leader { phone: None, .. } => "a leader is sought".into(),
            Self::Left { reason } => format!("in no group any more: {reason}"),
            Self::Invite { link, .. } => format!("this link lets one phone in:\n{link}"),
            Self::Unreachable { phone, reason, .. } => {
                format!("{phone} cannot be reached: {reason}")
            }
            Self::Plan { stages, .. } => {
                let stages = stages.iter().map(|s| format!("{} {:?}", s.phone, s.layers));
                format!(
                    "the model runs on {}",
                    stages.collect::<Vec<_>>().join(", ")
                )
            }
            Self::Status {
                phone,
                address,
                members,
                plan,
            } => {
                let group = if members.is_empty() {
                    "in no group".into()
                } else {
                    format!("in the group: {}", list(members))
                };
                let plan = plan.as_ref().and_then(|plan| plan.for_people());
                let plan = plan.unwrap_or_else(|| "no model is run".into());
                format!("{phone}, {address}\n{group}\n{plan}")
            }
            Self::Error { message, .. } => format!("lingualinked: {message}"),
            _ => return None,
        })
    }

    /// Returns the number of the question that a line belongs to.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Queued { id, .. }
            | Self::Reading { id, .. }
            | Self::Token { id, .. }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => *id,
            _ => None,
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
            _ => {}
        }
        self
    }
}

fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("lines and orders are plain data");
    text.push(b'\n');

    text
}

fn list(members: &[MemberLine]) -> String {
    let names = members.iter().map(|member| {
        let leads = if member.leader { " (leads)" } else { "" };
        format!("{}{leads}", member.phone)
    });

    names.collect::<Vec<_>>().join(", ")
}

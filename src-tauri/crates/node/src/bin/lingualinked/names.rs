//! Making lines of what happens: phones are called by their names there, as far as this phone has heard them.

use std::collections::BTreeMap;

use node::discovery::announcement::group_to_text;
use node::event_loop::Event;
use node::identity;
use proto::PeerId;
use proto::chat::{Answer, FailureReason};
use proto::group::message::{Presence, Refusal, WaitReason};
use proto::group::{
    Code, CommandError, GroupId, LeaveReason, NEARBY_MAX, Older, OutEvent, PairingEnd, Roster,
    Side, Sighting,
};
use proto::placement;
use proto::plan::Plan;
use proto::planning::{Outlook, Review};
use proto::ring::Notice;
use proto::transfer::Purpose;

use crate::lines::{ForecastLine, Line, MemberLine, NearbyLine, PhoneLine, ReasonLine, StageLine};

/// Names that are remembered: those of phones nearby, and of those that were before. Of more, the oldest ids are
/// told without a name.
const NAMES_MAX: usize = 16 * NEARBY_MAX;

/// What phones are called, and whether members answer.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<PeerId, String>,
    /// Members that do not answer as they should.
    absent: BTreeMap<PeerId, Presence>,
}

impl Names {
    /// Starts with this phone's own.
    pub fn of_phone(me: PeerId, name: String) -> Self {
        Self {
            names: BTreeMap::from([(me, name)]),
            absent: BTreeMap::new(),
        }
    }

    /// Notes what an event says of phones.
    pub fn hear(&mut self, event: &Event) {
        let Event::Group(event) = event else {
            return;
        };

        match event {
            OutEvent::Nearby(sighting) => self.name(sighting.peer, &sighting.name),
            OutEvent::Match { peer, name, .. } | OutEvent::Admitting { peer, name, .. } => {
                self.name(*peer, name);
            }
            OutEvent::Members(roster) => {
                for member in &roster.members {
                    self.name(member.peer, &member.name);
                }
                self.absent.retain(|peer, _| roster.contains(*peer));
            }
            OutEvent::Present {
                peer,
                presence: Presence::Here,
            } => drop(self.absent.remove(peer)),
            OutEvent::Present { peer, presence } => drop(self.absent.insert(*peer, *presence)),
            OutEvent::Left { .. } => self.absent.clear(),
            _ => {}
        }
    }

    /// Notes a phone's name.
    pub fn name(&mut self, phone: PeerId, name: &impl ToString) {
        if self.names.len() < NAMES_MAX || self.names.contains_key(&phone) {
            self.names.insert(phone, name.to_string());
        }
    }

    /// Returns a phone's name, or the start of its id.
    pub fn of(&self, phone: PeerId) -> String {
        self.names
            .get(&phone)
            .cloned()
            .unwrap_or_else(|| phone.to_string())
    }

    /// Returns a phone as lists have it.
    pub fn phone(&self, phone: PeerId) -> PhoneLine {
        PhoneLine {
            phone: self.of(phone),
            peer: peer_text(phone),
        }
    }

    /// Says why an answer broke off.
    pub fn failure(&self, reason: &FailureReason) -> String {
        // A key tells a person nothing.
        let name = |phone| self.names.get(phone).map_or("a phone", String::as_str);

        match reason {
            FailureReason::PhoneLost(phone) => {
                format!("{} left the group, and its layers with it", name(phone))
            }
            FailureReason::StageFailed { phone, reason } => {
                format!("{} cannot go on: {reason}", name(phone))
            }
            FailureReason::HeadLost | FailureReason::Replanned | FailureReason::Stopped => {
                reason.to_string()
            }
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
            Event::Notice(Notice::Stopped) => Line::Stopped,
            Event::Group(event) => return self.group_line(event),
            Event::Addresses(_) => return None, // whose, the face knows
            // Told when somebody asks how things stand.
            Event::Standing(_) | Event::Beat(_) => return None,
            // Apps name models by a hash; this program says of none that it has it.
            Event::RunWanted { .. } | Event::ForecastWanted { .. } => return None,
            Event::NotReached {
                address, reason, ..
            } => Line::NotReached {
                address: address.to_string(),
                reason: reason.clone(),
            },
            Event::Blocked(phones) => Line::Blocked {
                phones: phones.iter().map(|phone| self.phone(*phone)).collect(),
            },
            Event::Unreachable { phone, reason, .. } => Line::Unreachable {
                phone: self.of(*phone),
                peer: peer_text(*phone),
                reason: reason.clone(),
            },
            Event::CannotSave(error) => Line::Error {
                id: None,
                message: error.to_string(),
            },
            Event::Fetching(progress) => Line::Preparing {
                done_bytes: progress.held_bytes,
                total_bytes: progress.total_bytes,
                rate_bytes_per_s: progress.rate_bytes_per_s,
                left_s: progress.left.map(|left| left.as_secs_f64()),
                n_sources: progress.n_sources,
                spare: progress.purpose == Purpose::Overlap,
            },
            Event::Planned(outlook) => self.planned(outlook.as_deref()?),
            Event::Reviewed(review) => measured(review),
            Event::CannotPlan { reason, .. } => Line::Error {
                id: None,
                message: reason.clone(),
            },
            Event::DiskFailed(failure) => Line::Error {
                id: None,
                message: failure.to_string(),
            },
            Event::Loading { fraction } => Line::Loading {
                fraction: *fraction,
            },
        })
    }

    /// Says what is expected of a plan, of this phone alone, and why each phone got what it got.
    fn planned(&self, outlook: &Outlook) -> Line {
        let Outlook { problem, placement } = outlook;
        let alone = placement::alone(problem, problem.head).ok();
        let verdicts = problem.phones.iter().zip(&placement.verdicts);

        Line::Planned {
            forecast: ForecastLine::of(&placement.forecast),
            alone: alone.map(|alone| ForecastLine::of(&alone.forecast)),
            optimality: format!("{:?}", placement.optimality),
            reasons: verdicts
                .map(|(phone, verdict)| ReasonLine {
                    phone: self.of(phone.id),
                    peer: peer_text(phone.id),
                    reason: verdict.to_string(),
                })
                .collect(),
        }
    }

    fn group_line(&self, event: &OutEvent) -> Option<Line> {
        Some(match event {
            OutEvent::Nearby(sighting) => Line::Nearby(nearby(sighting)),
            OutEvent::Faded(peer) => Line::Faded {
                phone: self.of(*peer),
                peer: peer_text(*peer),
            },
            OutEvent::Match {
                peer, code, side, ..
            } => self.match_line(*peer, *code, *side),
            OutEvent::PairingEnded { peer, end } => Line::PairingEnded {
                phone: self.of(*peer),
                peer: peer_text(*peer),
                end: end_word(*end).into(),
            },
            OutEvent::Waiting { host, reason } => Line::Waiting {
                phone: self.of(*host),
                peer: peer_text(*host),
                reason: wait_word(*reason).into(),
            },
            OutEvent::Admitting { peer, reason, .. } => Line::Admitting {
                phone: self.of(*peer),
                peer: peer_text(*peer),
                reason: wait_word(*reason).into(),
            },
            OutEvent::Joined(group) => Line::Joined {
                group: group_text(*group),
            },
            OutEvent::Present { peer, presence } => Line::Present {
                phone: self.of(*peer),
                peer: peer_text(*peer),
                presence: presence_word(*presence).into(),
            },
            OutEvent::Leaving(peer) => Line::Leaving {
                phone: self.of(*peer),
                peer: peer_text(*peer),
            },
            OutEvent::Members(roster) => Line::Members {
                members: self.members(roster),
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
            OutEvent::OtherVersion {
                peer,
                theirs,
                older,
            } => Line::OtherVersion {
                phone: self.of(*peer),
                peer: peer_text(*peer),
                version: *theirs,
                older: match older {
                    Older::Ours => "this",
                    Older::Theirs => "other",
                }
                .into(),
            },
            OutEvent::Refused(error) => Line::Error {
                id: None,
                message: self.refused(*error),
            },
            // These are for the shell: an invite's line needs addresses and the time of day.
            OutEvent::HangUp(_)
            | OutEvent::Save(_)
            | OutEvent::Send { .. }
            | OutEvent::Dial { .. }
            | OutEvent::Invited { .. } => return None,
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

    /// Says why an order could not be carried out, and what can be done.
    fn refused(&self, error: CommandError) -> String {
        match error {
            CommandError::NotLeader => {
                "only the phone that leads can do that: ask whoever has it".into()
            }
            CommandError::NoGroup => "this phone is in no group yet".into(),
            CommandError::NoMember(peer) => format!("{} is no member of the group", self.of(peer)),
            CommandError::MemberAlready(peer) => {
                format!("{} is a member of the group already", self.of(peer))
            }
            CommandError::Asking(peer) => format!(
                "{} is being asked already: answer its code first, or say no",
                self.of(peer)
            ),
            CommandError::NotAsked(peer) => {
                format!("{} shows no code that could be answered", self.of(peer))
            }
            CommandError::Blocked(peer) => {
                format!("{} is blocked: unblock it first", self.of(peer))
            }
            CommandError::Self_ | CommandError::BlockedTooMany(_) => error.to_string(),
        }
    }

    /// Returns the members as lines have them.
    fn members(&self, roster: &Roster) -> Vec<MemberLine> {
        let leader = roster.version.term.leader;
        let members = roster.members.iter().map(|member| MemberLine {
            phone: member.name.to_string(),
            peer: peer_text(member.peer),
            leader: member.peer == leader,
            presence: presence_word(self.presence(member.peer)).into(),
        });

        members.collect()
    }

    fn presence(&self, member: PeerId) -> Presence {
        self.absent.get(&member).copied().unwrap_or(Presence::Here)
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

/// Returns an answer beside its forecast as a line.
fn measured(review: &Review) -> Line {
    Line::Measured {
        prompt_tokens: review.prompt_tokens,
        completion_tokens: review.completion_tokens,
        ttft_ms: review.measured.ttft_s * 1e3,
        tpot_ms: review.measured.tpot_s * 1e3,
        forecast: ForecastLine::of(&review.forecast),
        corrected: review.corrected.as_ref().map(ForecastLine::of),
        ttft_error: review.miss.ttft,
        tpot_error: review.miss.tpot,
    }
}

/// Returns what a phone nearby says of itself.
pub fn nearby(sighting: &Sighting) -> NearbyLine {
    NearbyLine {
        phone: sighting.name.to_string(),
        peer: peer_text(sighting.peer),
        group: sighting.group.map(group_text),
        version: sighting.version,
    }
}

fn group_text(group: GroupId) -> String {
    group_to_text(Some(group))
}

/// Returns the word for whether a member answers.
pub fn presence_word(presence: Presence) -> &'static str {
    match presence {
        Presence::Here => "here",
        Presence::Suspect => "suspect",
        Presence::Lost => "lost",
    }
}

fn wait_word(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::AnswerBeingWritten => "answer_being_written",
        WaitReason::NoLeader => "no_leader",
        WaitReason::Asked => "asked",
    }
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

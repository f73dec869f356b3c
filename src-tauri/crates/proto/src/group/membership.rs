//! Being in a group: heartbeats one way, acks the other, and what follows when they stop.
//!
//! ```text
//!             Heartbeat {roster number, writing, who is here}
//!   leader ─────────────────────────────────────────────────► member
//!          ◄─────────────────────────────────────────────────
//!             Ack {roster number, digest, rank}          an old number: Roster
//!
//!   member, as the leader sees it:  Here ──1.6 s──► Suspect ──3.5 s──► Lost ──► Here
//! ```
//!
//! A lost member keeps its seat: it is dialled, greeted, and back as soon as it answers. Only
//! people take a seat away, by leaving or removing.
//!
//! This file holds a place in a group and its verbs. What they do is told in four parts:
//!
//! | part | told in |
//! | --- | --- |
//! | heartbeats, and who is here | `membership/lease.rs` |
//! | a leader that is gone, or two of them (decided in `election.rs`) | `membership/succession.rs` |
//! | the roster: written, taken over, merged | `membership/seats.rs` |
//! | leaving | `membership/leaving.rs` |

mod lease;
mod leaving;
mod seats;
mod succession;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Phone;
use super::bounded::Name;
use super::election::{
    Election, HEARTBEAT, LOST_AFTER, LOST_AFTER_DISCONNECT, Rank, SUSPECT_AFTER,
};
use super::event::{CommandError, LeaveReason, OutEvent, When};
use super::limits::MEMBER;
use super::message::{Body, Message, Presence, Refusal, Stance, WaitReason};
use super::roster::{GroupId, Roster, Stamp, Term, Version};
use super::saved::SavedPlace;
use crate::PeerId;

/// How often a member that is not heard is dialled at first; doubled up to [`DIAL_MAX`].
const DIAL_FIRST: Duration = Duration::from_secs(1);

/// How often a member that went home is dialled: one packet, cheap enough for a battery.
const DIAL_MAX: Duration = Duration::from_secs(8);

/// A gap between two wakings that only a suspended phone has: in a group one wakes every second.
const SLEPT: Duration = Duration::from_millis(2500);

/// How long a member must be told that it is none before it believes it without a date: the roster
/// that has it may still be on its way to whoever says so.
const ESTRANGED_AFTER: Duration = Duration::from_secs(5);

/// How long a leader that leaves waits for its successor: twice the time a vote takes.
const HANDOVER_WAIT: Duration = Duration::from_secs(2);

/// How long a newcomer may take to say its first word as a member before its seat is given back.
const ENTERING_WAIT: Duration = Duration::from_secs(60);

/// How often one member's name or addresses may change the roster.
const ABOUT_PAUSE: Duration = Duration::from_secs(3);

/// How often a member offers its old roster to a new leader that does not account for it; more
/// would not help, the group is full.
const MERGE_TRIES: u32 = 10;

/// What a member's message asks of this phone's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The leader would not admit a phone that we vouched for.
    AdmitRefused { peer: PeerId, why: Refusal },
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is in the roster.
    Member,
    /// Not yet.
    Wait(WaitReason),
    /// Not at all.
    Refused(Refusal),
}

/// This phone's place in its group.
#[derive(Debug)]
pub(super) struct Membership {
    roster: Roster,
    digest: u64,
    election: Election,
    contacts: BTreeMap<PeerId, Contact>,
    /// The freshest roster among those of phones that would follow us.
    fresher: Option<Roster>,
    /// A roster that the leader's may not account for.
    unmerged: Option<Unmerged>,
    /// What the leader's last heartbeat said.
    leader_writing: bool,
    /// Newcomers that members asked this phone, which leads, to let in while an answer was written: who asked, and when last.
    asked: BTreeMap<PeerId, (PeerId, Name, Instant)>,
    leaving: Option<Leaving>,
    /// Since when members say that we are none.
    estranged_since: Option<Instant>,
    /// Set when there is no place any more; the group takes it down.
    departed: Option<LeaveReason>,
    /// What was told last by [`OutEvent::Leader`].
    told_leader: Option<Term>,
    pulse_at: Instant,
    last_run: Instant,
}

/// Another member.
#[derive(Debug)]
struct Contact {
    connected: bool,
    /// When the connection was closed, or when we began to miss one.
    cut_at: Instant,
    /// When it last said anything, or was connected.
    heard_at: Instant,
    /// When it last acknowledged our term, if we lead.
    acked_at: Instant,
    /// It acknowledged our term at all.
    obeys: bool,
    /// Which roster it acknowledged last.
    acked: Option<Version>,
    presence: Presence,
    rank: Rank,
    dial_at: Instant,
    dial_wait: Duration,
    /// When its bucket is full again (`limits.rs`).
    full_at: Instant,
    /// When it may change its entry again.
    about_at: Instant,
    /// It said that it leaves, to somebody who could not take it out.
    left: bool,
    /// It was let in by us and has not spoken yet.
    enters_until: Option<Instant>,
}

#[derive(Debug)]
struct Unmerged {
    roster: Roster,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// When nobody writes any more.
    AfterAnswer,
    /// Led the group and waits for a successor.
    Handing { until: Instant },
}

impl Membership {
    /// Starts a group of one.
    pub(super) fn found(group: GroupId, phone: &mut Phone, now: Instant) -> Self {
        let (name, addresses) = (phone.name.clone(), phone.addresses.clone());
        let roster = Roster::found(group, phone.id, name, addresses);
        let election = Election::leading(phone.id, roster.version.term);

        let mut founded = Self::new(roster, election, phone, now);
        founded.announce(phone, now);
        founded
    }

    /// Takes the place that a host's welcome offers.
    pub(super) fn enter(roster: Roster, phone: &mut Phone, now: Instant) -> Self {
        let election = Election::following(phone.id, roster.version.term, now);

        let mut entered = Self::new(roster, election, phone, now);
        entered.announce(phone, now);
        entered
    }

    /// Takes up the place that this phone had before it was restarted.
    pub(super) fn resume(saved: SavedPlace, phone: &mut Phone, now: Instant) -> Self {
        let mut election = Election::following(phone.id, saved.accepted, now);
        election.believe(saved.roster.version.term, now); // introduced, perhaps, and never obeyed

        let mut resumed = Self::new(saved.roster, election, phone, now);
        resumed.tell(phone, now);
        resumed
    }

    fn new(roster: Roster, election: Election, phone: &mut Phone, now: Instant) -> Self {
        let mut membership = Self {
            digest: roster.digest(),
            roster,
            election,
            contacts: BTreeMap::new(),
            fresher: None,
            unmerged: None,
            leader_writing: false,
            asked: BTreeMap::new(),
            leaving: None,
            estranged_since: None,
            departed: None,
            told_leader: None,
            pulse_at: now,
            last_run: now,
        };
        membership.sync_contacts(now);
        phone.out.push_back(OutEvent::Joined(membership.group()));
        membership
    }

    // What others may know.

    pub(super) fn group(&self) -> GroupId {
        self.roster.group
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The term of the leader that is obeyed, if one is.
    pub(super) fn leader(&self) -> Option<Term> {
        self.election.leader().map(|_| self.election.accepted())
    }

    pub(super) fn accepted(&self) -> Term {
        self.election.accepted()
    }

    pub(super) fn presence(&self, peer: PeerId) -> Option<Presence> {
        self.contacts.get(&peer).map(|contact| contact.presence)
    }

    /// Returns whether a member is known to hold the roster in force. Only the leader knows that of others.
    pub(super) fn is_up_to_date(&self, peer: PeerId) -> bool {
        let acked = self.contacts.get(&peer).and_then(|contact| contact.acked);

        acked == Some(self.roster.version)
    }

    pub(super) fn contacts_len(&self) -> usize {
        self.contacts.len()
    }

    pub(super) fn departed(&self) -> Option<LeaveReason> {
        self.departed
    }

    pub(super) fn saved(&self) -> SavedPlace {
        SavedPlace {
            accepted: self.election.accepted(),
            roster: self.roster.clone(),
        }
    }

    // A member says something.

    pub(super) fn handle(
        &mut self,
        from: PeerId,
        body: Body,
        phone: &mut Phone,
        now: Instant,
    ) -> Option<Notice> {
        self.wake_if_slept(phone, now);
        let contact = self.contacts.get_mut(&from)?;
        if !MEMBER.allows(&mut contact.full_at, now) {
            return None;
        }
        contact.enters_until = None;
        contact.heard_at = now;

        let mut notice = None;
        match body {
            Body::Heartbeat {
                term,
                number: _,
                writing,
                seen,
            } => {
                self.heartbeat(from, term, writing, &seen, phone, now);
            }
            Body::Ack {
                term,
                version,
                digest,
                rank,
            } => {
                self.acked(from, (term, version, digest), rank, phone, now);
            }
            Body::Roster(roster) => self.roster_came(from, roster, phone, now),
            Body::Hello { term, stance } => self.greeted(from, term, stance, phone, now),
            Body::Ahead { term } => self.told_of_one_ahead(term, phone, now),
            Body::Stand {
                term,
                accepted,
                version,
                rank,
            } => {
                self.asked_to_follow(from, (term, accepted, version), rank, phone, now);
            }
            Body::Grant { term, newer } => self.granted(from, term, newer, phone, now),
            Body::Decline {
                term,
                why,
                accepted,
            } => {
                self.election.believe(accepted, now);
                self.election.declined(term, why, &mut phone.rng, now);
            }
            Body::Yield { term, to } => self.yielded(from, term, to, phone, now),
            Body::Merge(roster) => self.merge(from, &roster, phone, now),
            Body::Introduce(roster) => {
                if self.election.leader().is_none() && self.is_ours(from, &roster) {
                    self.introduced(roster, phone, now);
                }
            }
            Body::Admit { peer, name } => self.asked_to_admit(from, peer, name, phone, now),
            Body::AdmitRefused { peer, why } if from == self.accepted().leader => {
                notice = Some(Notice::AdmitRefused { peer, why });
            }
            Body::AdmitRefused { .. } => {}
            Body::About { name, addresses } => self.about(from, name, addresses, phone, now),
            Body::Leaving => phone.out.push_back(OutEvent::Leaving(from)),
            Body::Leave => self.left(from, phone, now),
        }
        self.settle(phone, now);
        notice
    }

    /// A member says that this phone is none. See [`ESTRANGED_AFTER`].
    pub(super) fn not_member(
        &mut self,
        from: PeerId,
        gone_at: Option<Stamp>,
        phone: &mut Phone,
        now: Instant,
    ) {
        let Some(mine) = self.roster.member(phone.id).map(|me| me.since) else {
            return;
        };
        if !self.roster.contains(from) {
            return;
        }

        let removed = gone_at.is_some_and(|at| at > mine);
        let alone = match self.election.leader() {
            None => true,
            Some(leader) => leader == phone.id && self.followers() == 0,
        };
        if removed {
            self.departed = Some(LeaveReason::Removed);
        } else if alone {
            let since = *self.estranged_since.get_or_insert(now);
            if now >= since + ESTRANGED_AFTER {
                self.departed = Some(LeaveReason::Removed);
            }
        }
    }

    /// `from` says that it is no member: it left when nobody heard it, or forgot everything.
    pub(super) fn no_member(&mut self, from: PeerId, phone: &mut Phone, now: Instant) {
        if self.election.is_leading() && self.roster.contains(from) {
            self.take_out(from, phone, now);
        }
    }

    pub(super) fn connected(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        self.wake_if_slept(phone, now);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.connected = true;
        contact.heard_at = now;
        contact.dial_wait = DIAL_FIRST;
        self.election.connected(peer, true, now);
        self.greet(peer, phone);
        self.settle(phone, now);
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        self.wake_if_slept(phone, now);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        if contact.connected {
            contact.connected = false;
            contact.cut_at = now;
            contact.dial_at = now + DIAL_FIRST / 2;
        }
        self.election.connected(peer, false, now);
        self.settle(phone, now);
    }

    /// Discovery sees `peer`: no need to wait until it is dialled next.
    pub(super) fn sighted(&mut self, peer: PeerId, now: Instant) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.dial_at = contact.dial_at.min(now + DIAL_FIRST);
            contact.dial_wait = DIAL_FIRST;
        }
    }

    /// Something about this phone has changed: its name, its addresses, or whether it writes.
    pub(super) fn phone_changed(&mut self, phone: &mut Phone, now: Instant) {
        self.tell_about(phone, now);
        self.let_in_who_waited(phone, now);
        self.settle(phone, now);
    }

    // A person wants something.

    /// Lets `peer` in, or asks the leader to.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        name: Name,
        phone: &mut Phone,
        now: Instant,
    ) -> Entry {
        if self.roster.contains(peer) {
            return Entry::Member;
        }
        match self.election.leader() {
            Some(leader) if leader == phone.id => {
                if phone.writing {
                    return Entry::Wait(WaitReason::AnswerBeingWritten);
                }
                self.let_in(peer, name, phone, now)
            }
            Some(leader) => {
                self.say(leader, Body::Admit { peer, name }, phone);
                let reason = if self.leader_writing {
                    WaitReason::AnswerBeingWritten
                } else {
                    WaitReason::Asked
                };
                Entry::Wait(reason)
            }
            None => Entry::Wait(WaitReason::NoLeader),
        }
    }

    pub(super) fn leave(&mut self, when: When, phone: &mut Phone, now: Instant) {
        if when == When::AfterAnswer && self.is_writing(phone) {
            self.leaving = Some(Leaving::AfterAnswer);
            if let Some(leader) = self.election.leader() {
                self.say(leader, Body::Leaving, phone);
            }
        } else {
            self.leave_now(phone, now);
        }
        self.settle(phone, now);
    }

    /// Leaves for another group: no time for a handover.
    pub(super) fn leave_abruptly(&mut self, phone: &mut Phone) {
        self.say_to_connected(&Body::Leave, phone);
        self.departed = Some(LeaveReason::Switched);
    }

    /// # Errors
    ///
    /// - [`CommandError::NotLeader`], [`CommandError::NoMember`]
    pub(super) fn remove(
        &mut self,
        peer: PeerId,
        phone: &mut Phone,
        now: Instant,
    ) -> Result<(), CommandError> {
        self.check_lead_over(peer)?;
        self.take_out(peer, phone, now);
        self.settle(phone, now);
        Ok(())
    }

    /// # Errors
    ///
    /// - [`CommandError::NotLeader`], [`CommandError::NoMember`]
    pub(super) fn hand_over(
        &mut self,
        to: PeerId,
        phone: &mut Phone,
        now: Instant,
    ) -> Result<(), CommandError> {
        self.check_lead_over(to)?;
        self.step_down_for(to, phone, now);
        self.settle(phone, now);
        Ok(())
    }

    fn check_lead_over(&self, peer: PeerId) -> Result<(), CommandError> {
        if !self.election.is_leading() {
            Err(CommandError::NotLeader)
        } else if !self.contacts.contains_key(&peer) {
            Err(CommandError::NoMember(peer))
        } else {
            Ok(())
        }
    }

    // Time.

    pub(super) fn handle_timeout(&mut self, phone: &mut Phone, now: Instant) {
        self.wake_if_slept(phone, now);
        if self.election.deadline().is_some_and(|at| at <= now) {
            self.next_election_step(phone, now);
        }
        if self.pulse_at <= now {
            self.pulse(phone, now);
        }
        self.settle(phone, now);
    }

    pub(super) fn deadline(&self) -> Instant {
        let election = self.election.deadline().unwrap_or(self.pulse_at);
        let leaving = match self.leaving {
            Some(Leaving::Handing { until }) => until,
            Some(Leaving::AfterAnswer) | None => self.pulse_at,
        };

        self.pulse_at.min(election).min(leaving)
    }

    /// The lease is over, or our turn to stand has come, or nobody else answers our call.
    fn next_election_step(&mut self, phone: &mut Phone, now: Instant) {
        if let Some(term) = self.election.standing() {
            self.lead(term, phone, now);
        } else if self.election.lease_end().is_some() {
            self.lose_leader(phone, now);
        } else {
            self.stand(phone, now);
        }
    }

    /// What is due every half second for a leader, every second for the rest.
    fn pulse(&mut self, phone: &mut Phone, now: Instant) {
        self.dial_missing(phone, now);
        if self.election.is_leading() {
            self.pulse_at = now + HEARTBEAT;
            self.judge_presences(phone, now);
            self.hang_up_on_silent(phone, now);
            self.give_seats_back(phone, now);
            self.say_to_connected(&self.heartbeat_body(phone), phone);
        } else {
            self.pulse_at = now + 2 * HEARTBEAT;
            if self.election.leader().is_none() {
                let hello = self.hello(phone);
                self.say_to_connected(&hello, phone);
            }
            self.offer_unmerged(phone);
            self.tell_about(phone, now);
        }
    }

    /// A phone that slept forgives: what it did not hear meanwhile was its own doing.
    fn wake_if_slept(&mut self, phone: &mut Phone, now: Instant) {
        let slept = now >= self.last_run + SLEPT;
        self.last_run = now;
        if !slept {
            return;
        }

        tracing::info!(me = ?phone.id, "Awake again");
        self.election.wake(now);
        for contact in self.contacts.values_mut() {
            contact.heard_at = now;
            contact.acked_at = now;
            contact.cut_at = now;
            contact.obeys = false;
            contact.dial_at = now;
        }
    }

    // Speaking.

    fn hello(&self, phone: &Phone) -> Body {
        let stance = match self.election.leader() {
            Some(leader) if leader == phone.id => Stance::Leads {
                followers: self.followers(),
                rank: phone.rank,
            },
            Some(_) => Stance::Obeys,
            None => Stance::Seeks,
        };

        Body::Hello {
            term: self.accepted(),
            stance,
        }
    }

    fn greet(&self, peer: PeerId, phone: &mut Phone) {
        let hello = self.hello(phone);
        self.say(peer, hello, phone);
    }

    fn say(&self, to: PeerId, body: Body, phone: &mut Phone) {
        let group = self.group();
        phone.send(to, Message::Group { group, body });
    }

    fn say_to_connected(&self, body: &Body, phone: &mut Phone) {
        for (&peer, _) in self
            .contacts
            .iter()
            .filter(|(_, contact)| contact.connected)
        {
            self.say(peer, body.clone(), phone);
        }
    }

    fn dial_missing(&mut self, phone: &mut Phone, now: Instant) {
        for member in &self.roster.members {
            let Some(contact) = self.contacts.get_mut(&member.peer) else {
                continue;
            };
            if contact.connected || now < contact.dial_at {
                continue;
            }
            contact.dial_at = now + contact.dial_wait;
            contact.dial_wait = DIAL_MAX.min(contact.dial_wait * 2);
            phone.dial(member.peer, member.addresses.clone());
        }
    }
}

impl Contact {
    fn new(now: Instant) -> Self {
        Self {
            connected: false,
            cut_at: now,
            heard_at: now,
            acked_at: now,
            obeys: false,
            acked: None,
            presence: Presence::Here,
            rank: Rank::default(),
            dial_at: now,
            dial_wait: DIAL_FIRST,
            full_at: now,
            about_at: now,
            left: false,
            enters_until: None,
        }
    }

    fn judged(&self, now: Instant) -> Presence {
        let silence = now - self.acked_at;
        let cut = !self.connected;
        if silence >= LOST_AFTER || (cut && now - self.cut_at >= LOST_AFTER_DISCONNECT) {
            Presence::Lost
        } else if silence >= SUSPECT_AFTER || cut {
            Presence::Suspect
        } else {
            Presence::Here
        }
    }

    /// Hangs up if it should have spoken for so long: a new connection may find it, at another address perhaps.
    fn hang_up_if_silent(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        if self.connected && now - self.heard_at >= LOST_AFTER {
            self.heard_at = now;
            phone.out.push_back(OutEvent::HangUp(peer));
        }
    }

    fn set_presence(&mut self, peer: PeerId, presence: Presence, phone: &mut Phone) {
        if self.presence != presence {
            self.presence = presence;
            phone.out.push_back(OutEvent::Present { peer, presence });
        }
    }
}

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
//! Where the voting is decided is `election.rs`; this file does what it says, keeps the roster, and
//! tells the members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Phone;
use super::bounded::{Addresses, Bounded, Name};
use super::election::{
    Compared, Election, HEARTBEAT, LOST_AFTER, LOST_AFTER_DISCONNECT, Meeting, Merit, Rank,
    SUSPECT_AFTER,
};
use super::event::{CommandError, LeaveReason, OutEvent, When};
use super::limits::MEMBER;
use super::message::{Body, Door, Message, Presence, Refusal, Seen, Stance, WaitReason};
use super::roster::{GroupId, Member, Roster, Stamp, Term, Version};
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

/// Members whose own wishes are not the shell's to grant: what the rest of the group must do.
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
    /// When it last acknowledged our term, if we lead.
    acked_at: Instant,
    /// It acknowledged our term at all.
    obeys: bool,
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
        election.believe(saved.roster.version.term); // introduced, perhaps, and never obeyed

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
                self.election.compare(accepted);
                self.election.declined(term, why, &mut phone.rng, now);
            }
            Body::Yield { term, to } => self.yielded(from, term, to, phone, now),
            Body::Merge(roster) => self.merge(from, &roster, phone, now),
            Body::Introduce(roster) => {
                if self.election.leader().is_none() && self.is_plausible(from, &roster) {
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

    /// A phone that holds itself for a member of ours is told that we are none; here it is we who
    /// are told. See [`ESTRANGED_AFTER`].
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
            contact.acked_at = now;
            contact.cut_at = now;
            contact.obeys = false;
            contact.dial_at = now;
        }
    }

    // Heartbeats.

    fn heartbeat_body(&self, phone: &Phone) -> Body {
        let others = self.contacts.iter().map(|(&peer, contact)| Seen {
            peer,
            rank: contact.rank,
            presence: contact.presence,
        });
        let me = Seen {
            peer: phone.id,
            rank: phone.rank,
            presence: Presence::Here,
        };

        Body::Heartbeat {
            term: self.accepted(),
            number: self.roster.version.number,
            writing: phone.writing,
            seen: std::iter::once(me).chain(others).collect(),
        }
    }

    fn heartbeat(
        &mut self,
        from: PeerId,
        term: Term,
        writing: bool,
        seen: &Bounded<Seen, { super::roster::MEMBERS_MAX }>,
        phone: &mut Phone,
        now: Instant,
    ) {
        if term.leader != from {
            tracing::warn!(?from, leader = ?term.leader, "A member spoke for another leader");
            return;
        }
        let compared = self.election.compare(term);
        match compared {
            Compared::Absurd => return,
            Compared::Same => self.election.heard_leader(now),
            Compared::Old | Compared::Higher if self.election.is_leading() => {
                return self.meet(term, merit(from, seen), phone, now);
            }
            Compared::Old => return self.greet(from, phone),
            Compared::Higher => self.obey(term, phone, now),
        }

        self.estranged_since = None;
        self.leader_writing = writing;
        self.take_over_presences(from, seen, phone);
        self.ack(phone);
    }

    fn ack(&mut self, phone: &mut Phone) {
        let term = self.accepted();
        let ack = Body::Ack {
            term,
            version: self.roster.version,
            digest: self.digest,
            rank: phone.rank,
        };
        self.say(term.leader, ack, phone);
    }

    fn acked(
        &mut self,
        from: PeerId,
        (term, version, digest): (Term, Version, u64),
        rank: Rank,
        phone: &mut Phone,
        now: Instant,
    ) {
        if !self.election.is_leading() || term != self.accepted() {
            return;
        }
        self.estranged_since = None;
        let contact = self
            .contacts
            .get_mut(&from)
            .expect("the sender is a member");
        contact.acked_at = now;
        contact.obeys = true;
        contact.rank = rank;
        self.judge_presences(phone, now);

        let held = self.roster.version;
        if version.term != held.term || version.number < held.number {
            self.say(from, Body::Roster(self.roster.clone()), phone);
        } else if digest != self.digest && self.election.rescue(now) {
            // It holds a later roster of this very term: we wrote it, and forgot when we were
            // restarted with an old state. A new term makes that plain, and brings it back.
            tracing::warn!(me = ?phone.id, ?term, "Led this term before");
            self.lead(self.election.next_term(), phone, now);
        }
    }

    /// The leader judges who answers.
    fn judge_presences(&mut self, phone: &mut Phone, now: Instant) {
        for (&peer, contact) in &mut self.contacts {
            let presence = contact.judged(now);
            if presence == Presence::Lost {
                contact.obeys = false;
            }
            contact.set_presence(peer, presence, phone);
        }
    }

    /// The others believe the leader, except about itself.
    fn take_over_presences(&mut self, leader: PeerId, seen: &[Seen], phone: &mut Phone) {
        for seen in seen {
            let Some(contact) = self.contacts.get_mut(&seen.peer) else {
                continue;
            };
            contact.rank = seen.rank;
            let presence = if seen.peer == leader {
                Presence::Here
            } else {
                seen.presence
            };
            contact.set_presence(seen.peer, presence, phone);
        }
    }

    /// A newcomer that never spoke was never here.
    fn give_seats_back(&mut self, phone: &mut Phone, now: Instant) {
        let never_came = self
            .contacts
            .iter()
            .find(|(_, contact)| contact.enters_until.is_some_and(|until| until <= now))
            .map(|(&peer, _)| peer);
        if let Some(peer) = never_came {
            self.take_out(peer, phone, now);
        }
    }

    // Elections.

    fn obey(&mut self, term: Term, phone: &mut Phone, now: Instant) {
        self.election.obey(term, now);
        self.fresher = None;
        self.keep_to_merge();
        phone.save(Some(self.saved()));
    }

    /// Another leader was heard of: one of the two goes on.
    fn meet(&mut self, term: Term, theirs: Merit, phone: &mut Phone, now: Instant) {
        let mine = Merit {
            followers: self.followers(),
            rank: phone.rank,
            peer: phone.id,
        };
        match self.election.meet(term, mine, theirs, now) {
            Meeting::Claim => self.lead(self.election.next_term(), phone, now),
            Meeting::Obey => {
                self.obey(term, phone, now);
                self.ack(phone);
            }
            Meeting::Hold => self.greet(term.leader, phone),
        }
    }

    fn greeted(
        &mut self,
        from: PeerId,
        term: Term,
        stance: Stance,
        phone: &mut Phone,
        now: Instant,
    ) {
        let compared = self.election.compare(term);
        if compared == Compared::Absurd {
            return;
        }
        let own_leader = compared == Compared::Same && from == term.leader;
        if own_leader && stance == Stance::Seeks {
            return self.seek(phone, now); // restarted, or stepped down when we did not hear it
        }
        if !self.election.is_leading() {
            let behind = compared == Compared::Old && stance != Stance::Obeys;
            if behind && self.election.leader().is_some() {
                self.greet(from, phone);
                self.say(from, Body::Introduce(self.roster.clone()), phone);
            }
            return;
        }

        let other = term != self.accepted() && term.number >= self.accepted().number;
        match stance {
            Stance::Leads { followers, rank } if term.leader == from => {
                let theirs = Merit {
                    followers,
                    rank,
                    peer: from,
                };
                self.meet(term, theirs, phone, now);
            }
            Stance::Leads { .. } => {}
            // It cannot hear its leader, and must not go back to us: we come to it.
            Stance::Seeks if other => self.rescue(phone, now),
            // Its leader is none of ours.
            Stance::Obeys if other && !self.roster.contains(term.leader) => self.claim(phone, now),
            Stance::Seeks => self.say(from, self.heartbeat_body(phone), phone),
            Stance::Obeys => {}
        }
    }

    /// Leads a number above all heard of, unless that was done a moment ago.
    fn claim(&mut self, phone: &mut Phone, now: Instant) {
        if self.election.claim(now) {
            self.lead(self.election.next_term(), phone, now);
        }
    }

    /// The same for a member that seeks a leader.
    fn rescue(&mut self, phone: &mut Phone, now: Instant) {
        if self.election.rescue(now) {
            self.lead(self.election.next_term(), phone, now);
        }
    }

    fn lose_leader(&mut self, phone: &mut Phone, now: Instant) {
        let leader = self.accepted().leader;
        let restarted = leader == phone.id;
        if let Some(contact) = self.contacts.get_mut(&leader) {
            contact.set_presence(leader, Presence::Lost, phone);
        }
        let place = if restarted {
            0
        } else {
            self.place_in_line(phone)
        };
        self.election.seek(place, &mut phone.rng, now);
    }

    /// The leader has said itself that it leads no more: no lease to wait for.
    fn seek(&mut self, phone: &mut Phone, now: Instant) {
        if self.election.leader().is_some() {
            let place = self.place_in_line(phone);
            self.election.step_down(now, now);
            self.election.seek(place, &mut phone.rng, now);
        }
    }

    /// How many members that may still be here are better leaders.
    fn place_in_line(&self, phone: &Phone) -> u32 {
        let better = self.contacts.iter().filter(|(peer, contact)| {
            contact.presence != Presence::Lost && (contact.rank, **peer) > (phone.rank, phone.id)
        });

        u32::try_from(better.count()).expect("a roster is short")
    }

    fn stand(&mut self, phone: &mut Phone, now: Instant) {
        let lost = self.accepted().leader;
        let electorate: BTreeSet<_> = self
            .contacts
            .iter()
            .filter(|(peer, contact)| contact.connected && **peer != lost)
            .map(|(&peer, _)| peer)
            .collect();

        let accepted = self.accepted();
        let term = self.election.stand(electorate, now);
        let stand = Body::Stand {
            term,
            accepted,
            version: self.roster.version,
            rank: phone.rank,
        };
        self.say_to_connected(&stand, phone);
    }

    fn asked_to_follow(
        &mut self,
        from: PeerId,
        (term, accepted, version): (Term, Term, Version),
        rank: Rank,
        phone: &mut Phone,
        now: Instant,
    ) {
        if term.leader != from {
            return;
        }
        let mine = self.accepted();
        if self.election.is_leading() && accepted != mine && accepted.number >= mine.number {
            self.rescue(phone, now); // it lost a leader above ours: we come to it
        }

        let answer = match self.election.judge(term, rank, phone.rank, now) {
            Ok(()) => Body::Grant {
                term,
                newer: (self.roster.version > version).then(|| self.roster.clone()),
            },
            Err(why) => Body::Decline {
                term,
                why,
                accepted: self.accepted(),
            },
        };
        self.say(from, answer, phone);
        if self.election.is_leading() {
            self.say(from, self.heartbeat_body(phone), phone);
        }
    }

    fn granted(
        &mut self,
        from: PeerId,
        term: Term,
        newer: Option<Roster>,
        phone: &mut Phone,
        now: Instant,
    ) {
        if self.election.standing() != Some(term) {
            return;
        }
        let sound = |newer: &Roster| {
            self.is_plausible(from, newer) && newer.version.term.number < term.number
        };
        if let Some(newer) = newer.filter(sound) {
            let held = self
                .fresher
                .as_ref()
                .map_or(self.roster.version, |held| held.version);
            if newer.version > held {
                self.fresher = Some(newer);
            }
        }
        if self.election.granted(from, term) {
            self.lead(term, phone, now);
        }
    }

    /// Leads `term`, with the freshest roster known.
    fn lead(&mut self, term: Term, phone: &mut Phone, now: Instant) {
        if let Some(fresher) = self.fresher.take() {
            let mine = self.roster.member(phone.id).map(|me| me.since);
            if fresher.gone_at(phone.id) > mine {
                self.departed = Some(LeaveReason::Removed);
                return;
            }
            let older = std::mem::replace(&mut self.roster, fresher);
            self.roster.merge(&older, phone.id);
        }

        self.election.lead(term);
        self.unmerged = None;
        for contact in self.contacts.values_mut() {
            contact.acked_at = now;
            contact.cut_at = now;
            contact.obeys = false;
        }
        let left: Vec<_> = self
            .contacts
            .iter()
            .filter(|(_, c)| c.left)
            .map(|(&p, _)| p)
            .collect();
        self.publish(phone, now, |roster, stamp| {
            left.iter().for_each(|&peer| roster.remove(peer, stamp));
        });
        self.pulse_at = now;
        tracing::info!(me = ?phone.id, number = term.number, "Leading");
    }

    fn yielded(&mut self, from: PeerId, term: Term, to: PeerId, phone: &mut Phone, now: Instant) {
        if term.leader != from || term != self.accepted() || self.election.is_leading() {
            return;
        }
        // A moment for the others to hear it too; they would not follow while their leader lives.
        let wait = if to == phone.id {
            Duration::from_millis(100)
        } else {
            super::election::PROMISE
        };
        self.election.step_down(now, now + wait);
    }

    fn step_down_for(&mut self, to: PeerId, phone: &mut Phone, now: Instant) {
        let term = self.accepted();
        self.say_to_connected(&Body::Yield { term, to }, phone);
        self.election.step_down(now, now + HANDOVER_WAIT);
    }

    fn followers(&self) -> u8 {
        let mut count = 0;
        for contact in self.contacts.values() {
            count += u8::from(contact.obeys && contact.presence == Presence::Here);
        }
        count
    }

    // The roster.

    fn roster_came(&mut self, from: PeerId, roster: Roster, phone: &mut Phone, now: Instant) {
        let term = roster.version.term;
        if term.leader != from || !self.is_plausible(from, &roster) {
            return;
        }
        match self.election.compare(term) {
            Compared::Higher if !self.election.is_leading() => self.obey(term, phone, now),
            Compared::Same if !self.election.is_leading() => self.election.heard_leader(now),
            Compared::Old | Compared::Absurd | Compared::Same | Compared::Higher => return,
        }
        // In its own term the leader's word counts, whatever was held before it.
        let held = self.roster.version;
        let news = held.term != term || held.number < roster.version.number;
        if !news || !roster.contains(phone.id) {
            return;
        }

        self.take_roster(roster, phone, now);
        self.offer_unmerged(phone);
        self.tell_about(phone, now);
        self.ack(phone);
    }

    /// What every roster from another phone must fulfil before anything is done with it; that it is
    /// whole was checked when it was decoded.
    fn is_plausible(&self, from: PeerId, roster: &Roster) -> bool {
        let number = roster.version.number;
        let term = roster.version.term.number;
        let held = self.roster.version.number;

        roster.group == self.group()
            && roster.contains(from)
            && Election::is_plausible(number, held)
            && Election::is_plausible(term, self.accepted().number)
    }

    fn take_roster(&mut self, roster: Roster, phone: &mut Phone, now: Instant) {
        self.roster = roster;
        self.digest = self.roster.digest();
        self.sync_contacts(now);
        phone.save(Some(self.saved()));
        phone
            .out
            .push_back(OutEvent::Members(Box::new(self.roster.clone())));
    }

    /// The leader writes the next roster and sends it to everyone.
    fn publish(
        &mut self,
        phone: &mut Phone,
        now: Instant,
        change: impl FnOnce(&mut Roster, Stamp),
    ) {
        let stamp = self.roster.advance(self.election.accepted());
        change(&mut self.roster, stamp);
        self.digest = self.roster.digest();
        self.sync_contacts(now);
        self.announce(phone, now);
    }

    /// Saves, tells the shell, and, as the leader, the members.
    fn announce(&mut self, phone: &mut Phone, now: Instant) {
        phone.save(Some(self.saved()));
        self.tell(phone, now);
        if self.election.is_leading() {
            self.say_to_connected(&Body::Roster(self.roster.clone()), phone);
        }
    }

    fn tell(&mut self, phone: &mut Phone, now: Instant) {
        phone
            .out
            .push_back(OutEvent::Members(Box::new(self.roster.clone())));
        self.settle(phone, now);
    }

    /// Gives every other member a contact, and only them.
    fn sync_contacts(&mut self, now: Instant) {
        let roster = &self.roster;
        let me = self.election.me();
        self.contacts.retain(|peer, _| roster.contains(*peer));
        for member in &roster.members {
            if member.peer != me {
                self.contacts
                    .entry(member.peer)
                    .or_insert_with(|| Contact::new(now));
            }
        }
    }

    fn merge(&mut self, from: PeerId, roster: &Roster, phone: &mut Phone, now: Instant) {
        let older = roster.version.stamp() <= self.roster.version.stamp();
        if !self.election.is_leading() || !older || !self.is_plausible(from, roster) {
            return;
        }
        if !self.roster.accounts_for(roster) {
            let before = self.roster.clone();
            self.publish(phone, now, |mine, _| {
                mine.merge(roster, mine.version.term.leader);
            });
            self.dismiss_missing(&before, phone);
        }
    }

    /// A member, or a host, shows the roster in force to this phone that was away: it may name
    /// members, and a leader, whom this phone does not know yet.
    pub(super) fn introduced(&mut self, roster: Roster, phone: &mut Phone, now: Instant) {
        let known = roster.version <= self.roster.version;
        // Whatever we lead later must be above it.
        let believed = self.election.believe(roster.version.term);
        let standing = self.election.standing().is_some();
        if !known && believed && !standing && roster.contains(phone.id) {
            self.keep_to_merge();
            self.take_roster(roster, phone, now);
        }
    }

    /// Keeps the roster held, with what was kept before, for a leader whose own may lack it.
    fn keep_to_merge(&mut self) {
        let mut roster = self.roster.clone();
        if let Some(kept) = self.unmerged.take()
            && kept.roster.version.stamp() <= roster.version.stamp()
        {
            roster.merge(&kept.roster, roster.version.term.leader);
        }
        self.unmerged = Some(Unmerged { roster, tries: 0 });
    }

    /// Offers the roster held before to a new leader, until its own accounts for it.
    fn offer_unmerged(&mut self, phone: &mut Phone) {
        let Some(unmerged) = &mut self.unmerged else {
            return;
        };
        unmerged.tries += 1;
        let current = self.roster.version.term == self.election.accepted();
        let accounted = current && self.roster.accounts_for(&unmerged.roster);
        if accounted || unmerged.tries > MERGE_TRIES {
            self.unmerged = None;
        } else {
            let offer = Body::Merge(unmerged.roster.clone());
            self.say(self.accepted().leader, offer, phone);
        }
    }

    /// Tells those who were members and are none.
    fn dismiss_missing(&self, before: &Roster, phone: &mut Phone) {
        for member in before
            .members
            .iter()
            .filter(|m| !self.roster.contains(m.peer))
        {
            self.dismiss(member.peer, phone);
        }
    }

    fn dismiss(&self, peer: PeerId, phone: &mut Phone) {
        phone.door(
            peer,
            Door::NotMember {
                group: self.group(),
                gone_at: self.roster.gone_at(peer),
            },
        );
    }

    fn asked_to_admit(
        &mut self,
        from: PeerId,
        peer: PeerId,
        name: Name,
        phone: &mut Phone,
        now: Instant,
    ) {
        if !self.election.is_leading() || phone.writing || peer == phone.id {
            return;
        }
        let entry = if self.roster.contains(peer) {
            Entry::Member
        } else {
            self.let_in(peer, name, phone, now)
        };
        if let Entry::Refused(why) = entry {
            self.say(from, Body::AdmitRefused { peer, why }, phone);
        }
    }

    fn let_in(&mut self, peer: PeerId, name: Name, phone: &mut Phone, now: Instant) -> Entry {
        if phone.blocked.contains(&peer) {
            return Entry::Refused(Refusal::Blocked);
        }
        if self.roster.is_full() {
            return Entry::Refused(Refusal::Full);
        }

        self.publish(phone, now, |roster, since| {
            let addresses = Addresses::default();
            roster.add(Member {
                peer,
                name,
                addresses,
                since,
            });
        });
        let contact = self
            .contacts
            .get_mut(&peer)
            .expect("just written into the roster");
        contact.enters_until = Some(now + ENTERING_WAIT);
        tracing::info!(me = ?phone.id, ?peer, "Let in");
        Entry::Member
    }

    fn take_out(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        self.publish(phone, now, |roster, at| roster.remove(peer, at));
        self.dismiss(peer, phone);
        tracing::info!(me = ?phone.id, ?peer, "Taken out");
    }

    fn about(
        &mut self,
        from: PeerId,
        name: Name,
        addresses: Addresses,
        phone: &mut Phone,
        now: Instant,
    ) {
        let contact = self
            .contacts
            .get_mut(&from)
            .expect("the sender is a member");
        let Some(entry) = self.roster.member(from) else {
            return;
        };
        let news = entry.name != name || entry.addresses != addresses;
        if !self.election.is_leading() || !news || now < contact.about_at {
            return;
        }
        contact.about_at = now + ABOUT_PAUSE;
        let since = entry.since;
        self.publish(phone, now, |roster, _| {
            roster.add(Member {
                peer: from,
                name,
                addresses,
                since,
            });
        });
    }

    /// Corrects this phone's own entry.
    fn tell_about(&mut self, phone: &mut Phone, now: Instant) {
        let Some(entry) = self.roster.member(phone.id) else {
            return;
        };
        if entry.name == phone.name && entry.addresses == phone.addresses {
            return;
        }
        let (name, addresses) = (phone.name.clone(), phone.addresses.clone());
        if self.election.is_leading() {
            let (peer, since) = (phone.id, entry.since);
            self.publish(phone, now, |roster, _| {
                roster.add(Member {
                    peer,
                    name,
                    addresses,
                    since,
                });
            });
        } else if let Some(leader) = self.election.leader() {
            self.say(leader, Body::About { name, addresses }, phone);
        }
    }

    // Leaving.

    fn left(&mut self, from: PeerId, phone: &mut Phone, now: Instant) {
        if self.election.is_leading() {
            return self.take_out(from, phone, now);
        }
        if let Some(contact) = self.contacts.get_mut(&from) {
            contact.left = true;
            contact.set_presence(from, Presence::Lost, phone);
        }
        if from == self.accepted().leader {
            self.seek(phone, now);
        }
    }

    fn is_writing(&self, phone: &Phone) -> bool {
        let leading = self.election.is_leading();

        phone.writing || (!leading && self.leader_writing)
    }

    fn leave_now(&mut self, phone: &mut Phone, now: Instant) {
        let heirs = self.contacts.iter().filter(|(_, contact)| contact.obeys);
        let heir = heirs.max_by_key(|(peer, contact)| (contact.rank, **peer));
        match heir.map(|(&peer, _)| peer) {
            Some(heir) if self.election.is_leading() => {
                self.step_down_for(heir, phone, now);
                let until = now + HANDOVER_WAIT;
                self.leaving = Some(Leaving::Handing { until });
            }
            Some(_) | None => self.depart(phone),
        }
    }

    fn depart(&mut self, phone: &mut Phone) {
        match self.election.leader() {
            Some(leader) if leader != phone.id => self.say(leader, Body::Leave, phone),
            Some(_) | None => self.say_to_connected(&Body::Leave, phone),
        }
        self.departed = Some(LeaveReason::Left);
    }

    /// What may follow from anything: leaving at last, and telling whom we obey.
    fn settle(&mut self, phone: &mut Phone, now: Instant) {
        if self.departed.is_none() {
            match self.leaving {
                Some(Leaving::AfterAnswer) if !self.is_writing(phone) => {
                    self.leaving = None;
                    self.leave_now(phone, now);
                }
                Some(Leaving::Handing { until }) => {
                    let heir_leads = self.election.leader().is_some_and(|l| l != phone.id);
                    if heir_leads || until <= now {
                        self.depart(phone);
                    }
                }
                Some(Leaving::AfterAnswer) | None => {}
            }
        }
        if self.told_leader != self.leader() {
            self.told_leader = self.leader();
            phone.out.push_back(OutEvent::Leader(self.told_leader));
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
            acked_at: now,
            obeys: false,
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

    fn set_presence(&mut self, peer: PeerId, presence: Presence, phone: &mut Phone) {
        if self.presence != presence {
            self.presence = presence;
            phone.out.push_back(OutEvent::Present { peer, presence });
        }
    }
}

/// What a leader's heartbeat says of its merit.
fn merit(leader: PeerId, seen: &[Seen]) -> Merit {
    let here = seen
        .iter()
        .filter(|s| s.peer != leader && s.presence == Presence::Here);
    let own = seen.iter().find(|s| s.peer == leader);

    Merit {
        followers: u8::try_from(here.count()).expect("a list of members is short"),
        rank: own.map(|own| own.rank).unwrap_or_default(),
        peer: leader,
    }
}

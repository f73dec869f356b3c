//! What phones say and do when their leader is gone, or when two leaders meet.
//!
//! What to do is decided in `election.rs`; here it is said to the members, and the roster comes along.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{HANDOVER_WAIT, Membership};
use crate::PeerId;
use crate::group::Phone;
use crate::group::election::{Compared, Meeting, Merit, PROMISE, Rank};
use crate::group::event::LeaveReason;
use crate::group::message::{Body, Presence, Stance};
use crate::group::roster::{Roster, Term, Version};

impl Membership {
    pub(super) fn obey(&mut self, term: Term, phone: &mut Phone, now: Instant) {
        self.election.obey(term, now);
        self.fresher = None;
        self.keep_to_merge();
        phone.save(Some(self.saved()));
    }

    /// Another leader was heard of: one of the two goes on.
    pub(super) fn meet(&mut self, term: Term, theirs: Merit, phone: &mut Phone, now: Instant) {
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

    pub(super) fn greeted(
        &mut self,
        from: PeerId,
        term: Term,
        stance: Stance,
        phone: &mut Phone,
        now: Instant,
    ) {
        let compared = self.election.compare(term, now);
        if compared == Compared::Absurd {
            return;
        }
        let own_leader = compared == Compared::Same && from == term.leader;
        if own_leader && stance == Stance::Seeks {
            return self.seek(phone, now); // restarted, or stepped down when we did not hear it
        }
        let other = term != self.accepted() && term.number >= self.accepted().number;
        if !self.election.is_leading() {
            return self.show_the_way(from, term, stance, other, phone);
        }

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

    /// A follower helps a member that is behind, or has lost its leader, to find the one in force.
    fn show_the_way(
        &self,
        from: PeerId,
        term: Term,
        stance: Stance,
        other: bool,
        phone: &mut Phone,
    ) {
        let Some(leader) = self.election.leader() else {
            return;
        };
        if other && stance == Stance::Seeks {
            self.say(leader, Body::Ahead { term }, phone);
        } else if term.number < self.accepted().number && stance != Stance::Obeys {
            self.greet(from, phone);
            self.say(from, Body::Introduce(self.roster.clone()), phone);
        }
    }

    /// A member that the leader may not reach has obeyed `term`: leads above it.
    pub(super) fn told_of_one_ahead(&mut self, term: Term, phone: &mut Phone, now: Instant) {
        let believed = self.election.believe(term, now);
        let mine = self.accepted();
        if self.election.is_leading() && believed && term != mine && term.number >= mine.number {
            self.rescue(phone, now);
        }
    }

    /// Leads a number above all heard of, unless that was done a moment ago.
    fn claim(&mut self, phone: &mut Phone, now: Instant) {
        if self.election.claim(now) {
            self.lead(self.election.next_term(), phone, now);
        }
    }

    /// The same for a member that seeks a leader.
    pub(super) fn rescue(&mut self, phone: &mut Phone, now: Instant) {
        if self.election.rescue(now) {
            self.lead(self.election.next_term(), phone, now);
        }
    }

    pub(super) fn lose_leader(&mut self, phone: &mut Phone, now: Instant) {
        let leader = self.accepted().leader;
        let restarted = leader == phone.id;
        if let Some(contact) = self.contacts.get_mut(&leader) {
            contact.set_presence(leader, Presence::Lost, phone);
            contact.hang_up_if_silent(leader, phone, now);
        }
        let place = if restarted {
            0
        } else {
            self.place_in_line(phone)
        };
        self.election.seek(place, &mut phone.rng, now);
    }

    /// The leader has said itself that it leads no more: no lease to wait for.
    pub(super) fn seek(&mut self, phone: &mut Phone, now: Instant) {
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

    pub(super) fn stand(&mut self, phone: &mut Phone, now: Instant) {
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

    pub(super) fn asked_to_follow(
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

    pub(super) fn granted(
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
        let sound =
            |newer: &Roster| self.is_ours(from, newer) && newer.version.term.number < term.number;
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
    pub(super) fn lead(&mut self, term: Term, phone: &mut Phone, now: Instant) {
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
            contact.heard_at = now;
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
        // The last leader may not have heard where this phone is, and whoever comes back looks for it there.
        self.tell_about(phone, now);
        self.pulse_at = now;
        tracing::info!(me = ?phone.id, number = term.number, "Leading");
    }

    pub(super) fn yielded(
        &mut self,
        from: PeerId,
        term: Term,
        to: PeerId,
        phone: &mut Phone,
        now: Instant,
    ) {
        if term.leader != from || term != self.accepted() || self.election.is_leading() {
            return;
        }
        // A moment for the others to hear it too; they would not follow while their leader lives.
        let wait = if to == phone.id {
            Duration::from_millis(100)
        } else {
            PROMISE
        };
        self.election.step_down(now, now + wait);
    }

    pub(super) fn step_down_for(&mut self, to: PeerId, phone: &mut Phone, now: Instant) {
        let term = self.accepted();
        self.say_to_connected(&Body::Yield { term, to }, phone);
        self.election.step_down(now, now + HANDOVER_WAIT);
    }

    pub(super) fn followers(&self) -> u8 {
        let mut count = 0;
        for contact in self.contacts.values() {
            count += u8::from(contact.obeys && contact.presence == Presence::Here);
        }
        count
    }
}

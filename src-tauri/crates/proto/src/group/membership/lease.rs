//! Heartbeats and acks: who is here, as the leader sees it, and as the members believe it.

use std::time::Instant;

use super::Membership;
use crate::PeerId;
use crate::group::Phone;
use crate::group::bounded::Bounded;
use crate::group::election::{Compared, Merit, Rank};
use crate::group::message::{Body, Presence, Seen};
use crate::group::roster::{MEMBERS_MAX, Term, Version};

impl Membership {
    pub(super) fn heartbeat_body(&self, phone: &Phone) -> Body {
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

    pub(super) fn heartbeat(
        &mut self,
        from: PeerId,
        term: Term,
        writing: bool,
        seen: &Bounded<Seen, MEMBERS_MAX>,
        phone: &mut Phone,
        now: Instant,
    ) {
        if term.leader != from {
            tracing::warn!(?from, leader = ?term.leader, "A member spoke for another leader");
            return;
        }
        let compared = self.election.compare(term, now);
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

    pub(super) fn ack(&mut self, phone: &mut Phone) {
        let term = self.accepted();
        let ack = Body::Ack {
            term,
            version: self.roster.version,
            digest: self.digest,
            rank: phone.rank,
        };
        self.say(term.leader, ack, phone);
    }

    pub(super) fn acked(
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
        contact.acked = Some(version);
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
    pub(super) fn judge_presences(&mut self, phone: &mut Phone, now: Instant) {
        for (&peer, contact) in &mut self.contacts {
            let presence = contact.judged(now);
            if presence == Presence::Lost {
                contact.obeys = false;
            }
            contact.set_presence(peer, presence, phone);
        }
    }

    /// Everybody has to answer the leader.
    pub(super) fn hang_up_on_silent(&mut self, phone: &mut Phone, now: Instant) {
        for (&peer, contact) in &mut self.contacts {
            contact.hang_up_if_silent(peer, phone, now);
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
    pub(super) fn give_seats_back(&mut self, phone: &mut Phone, now: Instant) {
        let never_came = self
            .contacts
            .iter()
            .find(|(_, contact)| contact.enters_until.is_some_and(|until| until <= now))
            .map(|(&peer, _)| peer);
        if let Some(peer) = never_came {
            self.take_out(peer, phone, now);
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

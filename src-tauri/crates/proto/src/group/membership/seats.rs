//! Keeping the roster: the leader writes it, the members take it over, and what a member knew before
//! is merged into a new leader's.

use std::time::{Duration, Instant};

use super::{ABOUT_PAUSE, Contact, ENTERING_WAIT, Entry, MERGE_TRIES, Membership, Unmerged};
use crate::PeerId;
use crate::group::Phone;
use crate::group::admission::RESEND;
use crate::group::bounded::{Addresses, Name};
use crate::group::election::Compared;
use crate::group::event::OutEvent;
use crate::group::message::{Body, Door, Refusal};
use crate::group::roster::{MEMBERS_MAX, Member, Roster, Stamp};

/// How long after a host has asked for somebody it still wants that: it asks again each [`RESEND`].
const STILL_WANTED: Duration = RESEND.saturating_mul(3);

impl Membership {
    pub(super) fn roster_came(
        &mut self,
        from: PeerId,
        roster: Roster,
        phone: &mut Phone,
        now: Instant,
    ) {
        let term = roster.version.term;
        if term.leader != from || !self.is_ours(from, &roster) {
            return;
        }
        match self.election.compare(term, now) {
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
    pub(super) fn is_ours(&self, from: PeerId, roster: &Roster) -> bool {
        roster.group == self.group() && roster.contains(from)
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
    pub(super) fn publish(
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
    pub(super) fn announce(&mut self, phone: &mut Phone, now: Instant) {
        phone.save(Some(self.saved()));
        self.tell(phone, now);
        if self.election.is_leading() {
            self.say_to_connected(&Body::Roster(self.roster.clone()), phone);
        }
    }

    pub(super) fn tell(&mut self, phone: &mut Phone, now: Instant) {
        phone
            .out
            .push_back(OutEvent::Members(Box::new(self.roster.clone())));
        self.settle(phone, now);
    }

    /// Gives every other member a contact, and only them.
    pub(super) fn sync_contacts(&mut self, now: Instant) {
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

    pub(super) fn merge(&mut self, from: PeerId, roster: &Roster, phone: &mut Phone, now: Instant) {
        let older = roster.version.stamp() <= self.roster.version.stamp();
        if !self.election.is_leading() || !older || !self.is_ours(from, roster) {
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
    pub(in crate::group) fn introduced(&mut self, roster: Roster, phone: &mut Phone, now: Instant) {
        let known = roster.version <= self.roster.version;
        // Whatever we lead later must be above it.
        let believed = self.election.believe(roster.version.term, now);
        let standing = self.election.standing().is_some();
        if !known && believed && !standing && roster.contains(phone.id) {
            self.keep_to_merge();
            self.take_roster(roster, phone, now);
        }
    }

    /// Keeps the roster held, with what was kept before, for a leader whose own may lack it.
    pub(super) fn keep_to_merge(&mut self) {
        let mut roster = self.roster.clone();
        if let Some(kept) = self.unmerged.take()
            && kept.roster.version.stamp() <= roster.version.stamp()
        {
            roster.merge(&kept.roster, roster.version.term.leader);
        }
        self.unmerged = Some(Unmerged { roster, tries: 0 });
    }

    /// Offers the roster held before to a new leader, until its own accounts for it.
    pub(super) fn offer_unmerged(&mut self, phone: &mut Phone) {
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

    pub(super) fn asked_to_admit(
        &mut self,
        from: PeerId,
        peer: PeerId,
        name: Name,
        phone: &mut Phone,
        now: Instant,
    ) {
        if !self.election.is_leading() || peer == phone.id {
            return;
        }
        if phone.writing {
            if self.asked.len() < MEMBERS_MAX || self.asked.contains_key(&peer) {
                self.asked.insert(peer, (from, name, now));
            }
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

    /// Lets in those who waited for an answer to end, and whom their hosts still want in. It may be followed at once by
    /// another answer, before a host asks again.
    pub(super) fn let_in_who_waited(&mut self, phone: &mut Phone, now: Instant) {
        if phone.writing {
            return;
        }
        for (peer, (from, name, asked_at)) in std::mem::take(&mut self.asked) {
            if now < asked_at + STILL_WANTED && self.roster.contains(from) {
                self.asked_to_admit(from, peer, name, phone, now);
            }
        }
    }

    pub(super) fn let_in(
        &mut self,
        peer: PeerId,
        name: Name,
        phone: &mut Phone,
        now: Instant,
    ) -> Entry {
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

    pub(super) fn take_out(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        self.publish(phone, now, |roster, at| roster.remove(peer, at));
        self.dismiss(peer, phone);
        tracing::info!(me = ?phone.id, ?peer, "Taken out");
    }

    pub(super) fn about(
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
    pub(super) fn tell_about(&mut self, phone: &mut Phone, now: Instant) {
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
}

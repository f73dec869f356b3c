//! Leaving: after the answer, after a handover, or at once.

use std::time::Instant;

use super::{HANDOVER_WAIT, Leaving, Membership};
use crate::PeerId;
use crate::group::Phone;
use crate::group::event::{LeaveReason, OutEvent};
use crate::group::message::{Body, Presence};

impl Membership {
    pub(super) fn left(&mut self, from: PeerId, phone: &mut Phone, now: Instant) {
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

    pub(in crate::group) fn is_writing(&self, phone: &Phone) -> bool {
        let leading = self.election.is_leading();

        phone.writing || (!leading && self.leader_writing)
    }

    pub(super) fn leave_now(&mut self, phone: &mut Phone, now: Instant) {
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
    pub(super) fn settle(&mut self, phone: &mut Phone, now: Instant) {
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
}

//! One phone: its group, what the group computes, and the ways between them.
//!
//! The shell knows only this type. What happens goes in as an [`InEvent`], what is to be done comes
//! out as an [`OutEvent`]; everything that a phone decides lies between.
//!
//! ```text
//!           who leads, who is here            plan
//!  group ─────────────────────────► planning ──────► ring: reconfig · pipeline · relay
//!    ▲                                                 │
//!    └────────────── an answer is being written ◄──────┘
//! ```
//!
//! A phone in no group leads itself, and runs a model alone if it is asked to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::Manifest;
use rand_chacha::ChaCha12Rng;

use crate::group::message::Presence;
use crate::group::{self, Group, Member, Name, Roster, Saved};
use crate::plan::{Plan, PlanError, STAGES_MAX, Sizes};
use crate::reconfig::{Cause, Status};
use crate::ring::{self, Notice, Ring};
use crate::{Epoch, PeerId};

/// How long the leader waits after a plan broke before it makes another.
///
/// Until a phone whose connection was cut is given up on or back
/// ([`group::LOST_AFTER_DISCONNECT`]), with a heartbeat's room.
const REPLAN_AFTER: Duration = Duration::from_millis(2000);

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent<H> {
    /// Something about the group.
    Group(group::InEvent),
    /// Something about what it computes. What comes from a phone that is no member is dropped.
    Ring(ring::InEvent<H>),
    /// A person wants this phone's model to be run.
    Run(Work),
}

/// What to do, in this order.
#[derive(Debug, Clone)]
pub enum OutEvent<H> {
    /// Something about the group.
    Group(group::OutEvent),
    /// Something about what it computes.
    Ring(ring::OutEvent<H>),
}

/// A model that is to be run.
#[derive(Debug, Clone)]
pub struct Work {
    /// The model.
    pub manifest: Arc<Manifest>,
    /// What it is run with.
    pub sizes: Sizes,
    /// Phones that are waited for, this one among them, before the first plan is made. Later plans
    /// are made with those that are there.
    pub n_phones: usize,
}

impl Work {
    /// Checks that the model can be shared by as many phones as are waited for.
    ///
    /// # Errors
    ///
    /// As [`Plan::even`].
    pub fn validate(&self) -> Result<(), PlanError> {
        let n_phones = self.n_phones.min(STAGES_MAX + 1);
        let phones = (0..n_phones).map(|i| PeerId([i as u8; 32]));
        let phones = phones.collect::<Vec<_>>();

        Plan::even(Epoch(1), &self.manifest, &phones, self.sizes).map(|_| ())
    }
}

/// One phone.
#[derive(Debug)]
pub struct Phone<H> {
    me: PeerId,
    group: Group,
    ring: Ring<H>,
    work: Option<Work>,
    /// When the leader makes another plan in place of one that broke.
    replan_at: Option<Instant>,
    /// Whether the group was told that an answer is being written here.
    writing: bool,
    /// Whom the ring was told to obey.
    leader: Option<PeerId>,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Phone<H> {
    /// Starts the phone `me`, as it was when `saved` was written.
    pub fn new(me: PeerId, name: Name, saved: Saved, rng: ChaCha12Rng, now: Instant) -> Self {
        let mut phone = Self {
            me,
            group: Group::new(me, name, saved, rng, now),
            ring: Ring::new(me),
            work: None,
            replan_at: None,
            writing: false,
            leader: Some(me),
            events: VecDeque::new(),
        };
        phone.settle(now);

        phone
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H>, now: Instant) {
        match event {
            InEvent::Group(event) => self.group_event(event, now),
            InEvent::Ring(event) => self.ring_event(event, now),
            InEvent::Run(work) => self.work = Some(work),
        }

        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.group.poll_timeout().is_some_and(|due| due <= now) {
            self.group.handle_timeout(now);
        }

        self.settle(now);
    }

    /// Returns when to wake the phone, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits_to_plan = self.work.is_some() && self.leads() && self.has_lost_its_plan();
        let replan_at = self.replan_at.filter(|_| waits_to_plan);

        [self.group.poll_timeout(), replan_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    /// Returns the group that this phone is in.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Returns the newest plan that is in force, where this phone has a part in it.
    pub fn plan_in_force(&self) -> Option<&Arc<Plan>> {
        self.ring.reconfig().in_force()
    }

    /// Lets the group take note of something that may also cost the ring a phone.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "one kind of event is of interest"
    )]
    fn group_event(&mut self, event: group::InEvent, now: Instant) {
        let lost = match event {
            group::InEvent::Disconnected(phone) => Some(phone),
            _ => None,
        };
        self.group.handle(event, now);

        if let Some(phone) = lost {
            self.ring.handle(ring::InEvent::PhoneLost(phone), now);
        }
    }

    /// Lets the ring take note of what members say, and of what happens on this phone.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all others happen on this phone"
    )]
    fn ring_event(&mut self, event: ring::InEvent<H>, now: Instant) {
        let from = match &event {
            ring::InEvent::Control { from, .. }
            | ring::InEvent::Chat { from, .. }
            | ring::InEvent::Activation { from, .. } => *from,
            _ => self.me,
        };

        if from == self.me || self.group.is_member(from) {
            self.ring.handle(event, now);
        } else {
            tracing::warn!(%from, "Message from a phone that is no member, dropped");
        }
    }

    /// Lets everything that follows from the last event happen.
    fn settle(&mut self, now: Instant) {
        loop {
            self.exchange(now);
            self.tell_leader(now);
            self.plan_if_due(now);
            self.tell_writing(now);

            if !self.ring.wants_anything() && !self.group.wants_anything() {
                return;
            }
        }
    }

    /// Passes what group and ring want to each other or to the shell, until neither wants anything.
    fn exchange(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.group.poll() {
                self.route_group(event, now);
            } else if let Some(event) = self.ring.poll() {
                self.route_ring(event, now);
            } else {
                return;
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the ring has no interest in the others"
    )]
    fn route_group(&mut self, event: group::OutEvent, now: Instant) {
        match &event {
            group::OutEvent::Present {
                peer,
                presence: Presence::Lost,
            } => self.ring.handle(ring::InEvent::PhoneLost(*peer), now),
            group::OutEvent::Present {
                peer,
                presence: Presence::Here,
            } => self.ring.handle(ring::InEvent::Announce(*peer), now),
            group::OutEvent::Members(roster) => self.members_changed(roster, now),
            group::OutEvent::Left { .. } => self.ring.handle(ring::InEvent::Alone, now),
            _ => {}
        }

        self.events.push_back(OutEvent::Group(event));
    }

    fn route_ring(&mut self, event: ring::OutEvent<H>, now: Instant) {
        if let ring::OutEvent::Notice(notice) = &event {
            match notice {
                Notice::InForce { .. } => {
                    for phone in self.phones_here() {
                        self.ring.handle(ring::InEvent::Announce(phone), now);
                    }
                }
                Notice::Broken { .. } => self.replan_at = Some(now + REPLAN_AFTER),
            }
        }

        self.events.push_back(OutEvent::Ring(event));
    }

    /// A phone that is no member any more has no part in anything.
    fn members_changed(&mut self, roster: &Roster, now: Instant) {
        let gone = self.ring.plan().map(|plan| {
            let gone = plan.phones().filter(|&phone| !roster.contains(phone));
            gone.filter(|&phone| phone != self.me).collect::<Vec<_>>()
        });

        for phone in gone.unwrap_or_default() {
            self.ring.handle(ring::InEvent::PhoneLost(phone), now);
        }
    }

    /// Tells the ring when another phone leads.
    fn tell_leader(&mut self, now: Instant) {
        let leader = match self.group.roster() {
            None => Some(self.me),
            Some(_) => self.group.leader().map(|term| term.leader),
        };

        if std::mem::replace(&mut self.leader, leader) != leader {
            self.ring.handle(ring::InEvent::Leader(leader), now);
        }
    }

    /// Tells the group when this phone begins and ends to write an answer.
    fn tell_writing(&mut self, now: Instant) {
        let writing = self.ring.is_writing();

        if std::mem::replace(&mut self.writing, writing) != writing {
            self.group.handle(group::InEvent::Writing(writing), now);
        }
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }

    fn has_lost_its_plan(&self) -> bool {
        self.ring.reconfig().status() == Status::Failed(Cause::Lost)
    }

    /// Returns the phones that can compute, this one first: it has the model.
    fn phones_here(&self) -> Vec<PeerId> {
        let members = self
            .group
            .roster()
            .into_iter()
            .flat_map(|r| r.members.iter());
        // One that has not said yet where it is could not be reached by its neighbours in the ring.
        let here = |member: &&Member| {
            member.peer != self.me
                && !member.addresses.is_empty()
                && self.group.presence(member.peer) == Some(Presence::Here)
        };
        let others = members.filter(here).map(|member| member.peer);

        std::iter::once(self.me)
            .chain(others.collect::<BTreeSet<_>>())
            .collect()
    }

    /// Makes a plan, if this phone leads, has a model to run, and there is none.
    fn plan_if_due(&mut self, now: Instant) {
        let Some(work) = self.work.as_ref().filter(|_| self.leads()) else {
            return;
        };
        let mut phones = self.phones_here();
        phones.truncate(work.manifest.layers.len().min(STAGES_MAX));
        let due = match self.ring.reconfig().status() {
            Status::None => phones.len() >= work.n_phones,
            Status::Preparing | Status::InForce => false,
            // Those who could not will not be able to: others may.
            Status::Failed(Cause::CannotLoad) => !self.ring.reconfig().was_for(&phones),
            Status::Failed(Cause::Lost) => self.replan_at.is_none_or(|at| at <= now),
        };
        // Neighbours in the ring dial each other: each has to know first where the others are.
        if !due || !phones.iter().all(|&phone| self.group.is_up_to_date(phone)) {
            return;
        }

        self.replan_at = None;
        let epoch = self.ring.reconfig().next_epoch();
        match Plan::even(epoch, &work.manifest, &phones, work.sizes) {
            Ok(plan) => {
                let propose = ring::InEvent::Propose {
                    plan: Arc::new(plan),
                    manifest: Arc::clone(&work.manifest),
                };
                self.ring.handle(propose, now);
            }
            Err(error) => tracing::error!(%error, "No plan can be made"),
        }
    }
}

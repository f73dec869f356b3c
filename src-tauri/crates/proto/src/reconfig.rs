//! Bringing a plan into force.
//!
//! One machine serves every change of plan: what differs is only why there is a new one.
//!
//! ```text
//!  leader      propose ──► Prepare to all ──► Ready from all ──► Commit to all ──► in force
//!                               │                 │ NotReady · phone lost
//!  every phone                  ▼                 ▼
//!                             Load ──► Ready    failed
//! ```
//!
//! A phone follows only its leader, and only to a higher epoch than any it has prepared for. What it has
//! not been told to commit never runs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use gguf_tools::Manifest;

use crate::plan::{Plan, STAGES_MAX};
use crate::wire::{Addresses, Control};
use crate::{Epoch, PeerId};

/// What to do.
#[derive(Debug, Clone)]
pub enum OutEvent {
    /// Send a message to another phone.
    Send {
        /// Phone that gets it.
        to: PeerId,
        /// The message.
        message: Control,
    },
    /// Get the shards that a plan gives this phone, and load them: answered by [`Reconfig::loaded`] or
    /// [`Reconfig::load_failed`].
    Load {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
        /// Where the plan's phones can be reached.
        addresses: Vec<(PeerId, Addresses)>,
    },
    /// The plan is in force.
    InForce {
        /// The plan.
        plan: Arc<Plan>,
    },
    /// The plan cannot be brought into force.
    Failed {
        /// The plan's epoch.
        epoch: Epoch,
        /// Phone that cannot do its part.
        phone: PeerId,
        /// Why, for people.
        reason: String,
    },
}

/// One phone's way from plan to plan.
#[derive(Debug)]
pub struct Reconfig {
    me: PeerId,
    leader: PeerId,
    prepared: Option<Prepared>,
    events: VecDeque<OutEvent>,
}

/// The newest plan that this phone knows of.
#[derive(Debug)]
struct Prepared {
    plan: Arc<Plan>,
    /// On the leader: phones that have not said that they are ready.
    waiting_for: BTreeSet<PeerId>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Loaded,
    InForce,
    Failed,
}

impl Reconfig {
    /// Starts without a plan.
    pub fn new(me: PeerId, leader: PeerId) -> Self {
        Self {
            me,
            leader,
            prepared: None,
            events: VecDeque::new(),
        }
    }

    /// Returns the epoch that a new plan needs at least.
    pub fn next_epoch(&self) -> Epoch {
        Epoch(self.prepared.as_ref().map_or(1, |p| p.plan.epoch.0 + 1))
    }

    /// Proposes a plan to every phone in it. Only the leader does.
    ///
    /// `addresses` say where each of them can be reached.
    pub fn propose(
        &mut self,
        plan: Arc<Plan>,
        manifest: Arc<Manifest>,
        addresses: Vec<(PeerId, Addresses)>,
    ) {
        let phones = plan.phones().collect::<BTreeSet<_>>();
        for &to in phones.iter().filter(|&&phone| phone != self.me) {
            let message = Control::Prepare {
                plan: Arc::clone(&plan),
                manifest: Arc::clone(&manifest),
                addresses: addresses.clone(),
            };
            self.events.push_back(OutEvent::Send { to, message });
        }

        let takes_part = phones.contains(&self.me);
        self.prepared = Some(Prepared {
            plan: Arc::clone(&plan),
            waiting_for: phones,
            state: State::Loading,
        });
        if takes_part {
            self.events.push_back(OutEvent::Load {
                plan,
                manifest,
                addresses,
            });
        }
    }

    /// Takes note of a message about plans; others are none of its business.
    pub fn handle(&mut self, from: PeerId, message: Control) {
        match message {
            Control::Prepare {
                plan,
                manifest,
                addresses,
            } => self.prepare(from, plan, manifest, addresses),
            Control::Ready { epoch } => self.ready(from, epoch),
            Control::NotReady { epoch, reason } => self.not_ready(from, epoch, reason),
            Control::Commit { epoch } => self.commit(from, epoch),
            Control::Join { .. } | Control::Step(_) | Control::StageFailed { .. } => {}
        }
    }

    /// This phone has loaded its part of a plan.
    pub fn loaded(&mut self, epoch: Epoch) {
        let Some(prepared) = self.current(epoch) else {
            return;
        };
        prepared.state = State::Loaded;

        if self.me == self.leader {
            self.ready(self.me, epoch);
        } else {
            self.send_leader(Control::Ready { epoch });
        }
    }

    /// This phone cannot load its part of a plan.
    pub fn load_failed(&mut self, epoch: Epoch, reason: String) {
        if self.current(epoch).is_none() {
            return;
        }

        if self.me == self.leader {
            self.fail(self.me, reason);
        } else {
            self.send_leader(Control::NotReady {
                epoch,
                reason: reason.clone(),
            });
            self.fail(self.me, reason);
        }
    }

    /// A phone is gone; a plan that waits for it fails.
    pub fn phone_lost(&mut self, phone: PeerId) {
        if let Some(prepared) = &self.prepared
            && matches!(prepared.state, State::Loading | State::Loaded)
            && prepared.plan.needs(phone)
        {
            self.fail(phone, "it left the group".into());
        }
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.events.pop_front()
    }

    fn prepare(
        &mut self,
        from: PeerId,
        plan: Arc<Plan>,
        manifest: Arc<Manifest>,
        addresses: Vec<(PeerId, Addresses)>,
    ) {
        let epoch = plan.epoch;
        if from != self.leader || epoch < self.next_epoch() {
            tracing::warn!(%from, %epoch, "Plan from a phone that does not lead, or an old one, dropped");
            return;
        }
        let valid = manifest.validate().map_err(|error| error.to_string());
        let valid = valid.and_then(|()| plan.validate(&manifest).map_err(|e| e.to_string()));
        if let Err(reason) = valid {
            tracing::warn!(%from, %epoch, reason, "Plan refused");
            self.send_leader(Control::NotReady { epoch, reason });
            return;
        }

        self.prepared = Some(Prepared {
            plan: Arc::clone(&plan),
            waiting_for: BTreeSet::new(),
            state: State::Loading,
        });
        let addresses = addresses.into_iter().filter(|(p, _)| plan.needs(*p));
        let addresses = addresses.take(STAGES_MAX + 1).map(|(p, a)| (p, a.capped()));
        self.events.push_back(OutEvent::Load {
            addresses: addresses.collect(),
            plan,
            manifest,
        });
    }

    fn ready(&mut self, from: PeerId, epoch: Epoch) {
        if self.me != self.leader {
            return;
        }
        let Some(prepared) = self.current(epoch) else {
            return;
        };
        prepared.waiting_for.remove(&from);
        if !prepared.waiting_for.is_empty() || prepared.state == State::InForce {
            return;
        }

        prepared.state = State::InForce;
        let plan = Arc::clone(&prepared.plan);
        for to in plan.phones().filter(|&phone| phone != self.me) {
            let message = Control::Commit { epoch };
            self.events.push_back(OutEvent::Send { to, message });
        }
        self.events.push_back(OutEvent::InForce { plan });
    }

    fn not_ready(&mut self, from: PeerId, epoch: Epoch, reason: String) {
        let takes_part = self.current(epoch).is_some_and(|p| p.plan.needs(from));

        if self.me == self.leader && takes_part {
            self.fail(from, reason);
        }
    }

    fn commit(&mut self, from: PeerId, epoch: Epoch) {
        if from != self.leader {
            tracing::warn!(%from, "Commit from a phone that does not lead, dropped");
            return;
        }
        let Some(prepared) = self.current(epoch).filter(|p| p.state == State::Loaded) else {
            tracing::warn!(%epoch, "Commit of a plan that is not loaded, dropped");
            return;
        };

        prepared.state = State::InForce;
        let plan = Arc::clone(&prepared.plan);
        self.events.push_back(OutEvent::InForce { plan });
    }

    fn fail(&mut self, phone: PeerId, reason: String) {
        let prepared = self.prepared.as_mut().expect("only a plan can fail");
        if prepared.state == State::Failed {
            return;
        }

        prepared.state = State::Failed;
        let epoch = prepared.plan.epoch;
        tracing::warn!(%epoch, %phone, reason, "Plan failed");
        self.events.push_back(OutEvent::Failed {
            epoch,
            phone,
            reason,
        });
    }

    fn current(&mut self, epoch: Epoch) -> Option<&mut Prepared> {
        let prepared = self.prepared.as_mut();

        prepared.filter(|p| p.plan.epoch == epoch && p.state != State::Failed)
    }

    fn send_leader(&mut self, message: Control) {
        let to = self.leader;
        self.events.push_back(OutEvent::Send { to, message });
    }
}

//! One phone: all its machines, and the ways between them.
//!
//! The shell knows only this type. What happens goes in as an [`InEvent`], what is to be done comes
//! out as an [`OutEvent`]; everything that a phone decides lies between.
//!
//! ```text
//!            Joined            plan in force
//!  gather ───────────► reconfig ─────────────► pipeline ◄──── questions ──── relay
//!                                                  └──────── answers ───────►
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use gguf_tools::Manifest;

use crate::chat::{Answer, Ask, RefusalReason};
use crate::pipeline::{self, Pick, Pipeline, Sample, Token};
use crate::plan::{Plan, PlanError, Sizes};
use crate::reconfig::{self, Reconfig};
use crate::relay::{self, ClientId, Relay};
use crate::wire::{self, Addresses, Chat, Control, Step};
use crate::{Epoch, PeerId, RequestId, StepId};

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent<H> {
    /// A control message came.
    Control {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Control,
    },
    /// A chat message came.
    Chat {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Chat,
    },
    /// An activation came.
    Activation {
        /// Phone that sent it.
        from: PeerId,
        /// Its epoch.
        epoch: Epoch,
        /// Its step.
        step: StepId,
        /// The hidden state.
        hidden: H,
    },
    /// The last connection to a phone is gone.
    PhoneLost(PeerId),
    /// A screen of this phone asks.
    Ask {
        /// That screen; it has one question open at a time.
        client: ClientId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// A screen of this phone wants no more of its answer.
    Cancel {
        /// That screen.
        client: ClientId,
    },
    /// This phone's part of a plan is loaded.
    Loaded {
        /// The plan's epoch.
        epoch: Epoch,
    },
    /// This phone's part of a plan cannot be loaded.
    LoadFailed {
        /// The plan's epoch.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// See [`pipeline::InEvent::Opened`].
    Opened {
        /// Name of the question.
        request: RequestId,
        /// The prompt.
        prompt: Vec<Token>,
    },
    /// See [`pipeline::InEvent::Refused`].
    Refused {
        /// Name of the question.
        request: RequestId,
        /// Why.
        reason: RefusalReason,
    },
    /// See [`pipeline::InEvent::Embedded`].
    Embedded {
        /// Step that was embedded.
        step: StepId,
        /// `[n_tokens, n_embd]`.
        hidden: H,
    },
    /// See [`pipeline::InEvent::Computed`].
    Computed {
        /// Step that was run.
        step: StepId,
        /// `[n_tokens, n_embd]`, or the wanted rows.
        hidden: H,
    },
    /// See [`pipeline::InEvent::Sampled`].
    Sampled {
        /// Step that was sampled.
        step: StepId,
        /// One for each pick.
        samples: Vec<Sample>,
    },
    /// This phone's engine cannot run a step.
    EngineFailed {
        /// What it said.
        reason: String,
    },
}

/// What to do.
#[derive(Debug, Clone)]
pub enum OutEvent<H> {
    /// Send a control message.
    SendControl {
        /// Phone that gets it.
        to: PeerId,
        /// The message.
        message: Control,
    },
    /// Send a chat message.
    SendChat {
        /// Phone that gets it.
        to: PeerId,
        /// The message.
        message: Chat,
    },
    /// Send an activation.
    SendActivation {
        /// Phone that comes next in the ring.
        to: PeerId,
        /// Epoch of the plan.
        epoch: Epoch,
        /// Step that it belongs to.
        step: StepId,
        /// The hidden state.
        hidden: H,
    },
    /// Tell a screen how its answer goes on.
    Tell {
        /// That screen.
        client: ClientId,
        /// What there is to tell.
        answer: Answer,
    },
    /// Get the shards of this phone's part and load them, in place of any before: answered by `Loaded` or
    /// `LoadFailed`.
    Load {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
        /// Where the plan's phones can be reached.
        addresses: Vec<(PeerId, Addresses)>,
    },
    /// See [`pipeline::OutEvent::Open`].
    Open {
        /// Name of the question.
        request: RequestId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// See [`pipeline::OutEvent::Close`].
    Close {
        /// Name of the question.
        request: RequestId,
    },
    /// See [`pipeline::OutEvent::Embed`].
    Embed {
        /// Step that the tokens belong to.
        step: StepId,
        /// Tokens of all runs, in order.
        tokens: Vec<Token>,
    },
    /// See [`pipeline::OutEvent::Compute`].
    Compute {
        /// The header.
        step: Arc<Step>,
        /// `[n_tokens, n_embd]`.
        hidden: H,
        /// Whether only the wanted rows go on.
        last: bool,
    },
    /// See [`pipeline::OutEvent::Sample`].
    Sample {
        /// Step that the rows belong to.
        step: StepId,
        /// `[picks.len(), n_embd]`.
        hidden: H,
        /// What to sample.
        picks: Vec<Pick>,
    },
    /// A person would notice this.
    Notice(Notice),
}

/// What a person would notice.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A phone asked for a part in the work.
    Joined {
        /// That phone.
        phone: PeerId,
        /// Its name.
        name: String,
    },
    /// A plan is in force: questions can be asked.
    InForce {
        /// The plan.
        plan: Arc<Plan>,
        /// Names of the phones that joined here, for people.
        names: BTreeMap<PeerId, String>,
    },
    /// There is no plan, or not any more.
    Broken {
        /// Phone that is the cause.
        phone: PeerId,
        /// Why, for people.
        reason: String,
    },
    /// The phone that leads is gone, or was never there, before it gave this phone a part in a plan.
    NoLeader,
}

/// Who this phone is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This phone.
    pub me: PeerId,
    /// Its name, for people.
    pub name: String,
    /// Where it can be reached.
    pub addresses: Addresses,
    /// Phone that leads; may be this one.
    pub leader: PeerId,
}

/// What the leader waits for, and what it then starts.
#[derive(Debug, Clone)]
pub struct Gather {
    /// Phones that take part, this one among them.
    pub n_phones: usize,
    /// The model.
    pub manifest: Arc<Manifest>,
    /// What it is run with.
    pub sizes: Sizes,
}

/// A phone that takes part.
#[derive(Debug)]
struct Joined {
    phone: PeerId,
    name: String,
    addresses: Addresses,
}

/// One phone.
#[derive(Debug)]
pub struct Phone<H> {
    identity: Identity,
    gather: Option<Gather>,
    /// Phones that joined, in that order.
    joined: Vec<Joined>,
    reconfig: Reconfig,
    relay: Relay,
    pipeline: Option<Pipeline<H>>,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Phone<H> {
    /// Starts a phone that follows `identity.leader`.
    pub fn member(identity: Identity) -> Self {
        let mut phone = Self::new(identity);
        phone.events.push_back(OutEvent::SendControl {
            to: phone.identity.leader,
            message: Control::Join {
                version: wire::VERSION,
                name: phone.identity.name.clone(),
                addresses: phone.identity.addresses.clone().capped(),
            },
        });

        phone
    }

    /// Starts a phone that leads, and brings a plan into force once enough phones have joined.
    ///
    /// # Errors
    ///
    /// As [`Plan::even`], if the model cannot be shared by so many phones.
    pub fn leader(identity: Identity, gather: Gather) -> Result<Self, PlanError> {
        let n_phones = gather.n_phones.min(crate::plan::STAGES_MAX + 1);
        let placeholders = (0..n_phones).map(|i| PeerId([i as u8; 32]));
        Plan::even(
            Epoch(0),
            &gather.manifest,
            &placeholders.collect::<Vec<_>>(),
            gather.sizes,
        )?;

        let mut phone = Self::new(identity);
        phone.gather = Some(gather);
        phone.joined.push(Joined {
            phone: phone.identity.me,
            name: phone.identity.name.clone(),
            addresses: phone.identity.addresses.clone().capped(),
        });
        phone.start_when_complete();
        phone.exchange(None);

        Ok(phone)
    }

    fn new(identity: Identity) -> Self {
        Self {
            reconfig: Reconfig::new(identity.me, identity.leader),
            relay: Relay::new(identity.me),
            identity,
            gather: None,
            joined: Vec::new(),
            pipeline: None,
            events: VecDeque::new(),
        }
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H>, now: Instant) {
        match event {
            InEvent::Control { from, message } => self.control(from, message, now),
            InEvent::Chat { from, message } => self.relay.handle(from, message),
            InEvent::Ask { client, ask } => self.relay.ask(client, ask),
            InEvent::Cancel { client } => self.relay.cancel(client),
            InEvent::PhoneLost(phone) => self.phone_lost(phone, now),
            InEvent::Loaded { epoch } => self.reconfig.loaded(epoch),
            InEvent::LoadFailed { epoch, reason } => self.reconfig.load_failed(epoch, reason),
            InEvent::Activation {
                from,
                epoch,
                step,
                hidden,
            } => {
                let event = pipeline::InEvent::Activation {
                    from,
                    epoch,
                    step,
                    hidden,
                };
                self.pipe(event, now);
            }
            InEvent::Opened { request, prompt } => {
                self.pipe(pipeline::InEvent::Opened { request, prompt }, now);
            }
            InEvent::Refused { request, reason } => {
                self.pipe(pipeline::InEvent::Refused { request, reason }, now);
            }
            InEvent::Embedded { step, hidden } => {
                self.pipe(pipeline::InEvent::Embedded { step, hidden }, now);
            }
            InEvent::Computed { step, hidden } => {
                self.pipe(pipeline::InEvent::Computed { step, hidden }, now);
            }
            InEvent::Sampled { step, samples } => {
                self.pipe(pipeline::InEvent::Sampled { step, samples }, now);
            }
            InEvent::EngineFailed { reason } => {
                self.pipe(pipeline::InEvent::EngineFailed { reason }, now);
            }
        }

        self.exchange(Some(now));
    }

    /// Does what is due. No machine of this phone waits for a time yet.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Returns when to wake the phone, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    /// Returns whether this phone waits for nothing: no question is open, no step in flight.
    pub fn is_idle(&self) -> bool {
        self.relay.is_idle() && self.pipeline.as_ref().is_none_or(Pipeline::is_idle)
    }

    fn control(&mut self, from: PeerId, message: Control, now: Instant) {
        match message {
            Control::Join {
                version,
                name,
                addresses,
            } => self.join(from, version, &name, addresses),
            Control::Step(step) => self.pipe(pipeline::InEvent::Step { from, step }, now),
            Control::StageFailed { epoch, reason } => {
                let event = pipeline::InEvent::StageFailed {
                    from,
                    epoch,
                    reason,
                };
                self.pipe(event, now);
            }
            Control::NeighbourLost { epoch, neighbour } => {
                let event = pipeline::InEvent::NeighbourLost {
                    from,
                    epoch,
                    neighbour,
                };
                self.pipe(event, now);
            }
            Control::Prepare { .. }
            | Control::Ready { .. }
            | Control::NotReady { .. }
            | Control::Commit { .. } => self.reconfig.handle(from, message),
        }
    }

    fn join(&mut self, from: PeerId, version: u32, name: &str, addresses: Addresses) {
        if version != wire::VERSION {
            tracing::warn!(%from, version, "Phone of another version, not taken");
            return;
        }
        let Some(gather) = &self.gather else {
            tracing::warn!(%from, "Phone asks to join one that does not lead, dropped");
            return;
        };
        let known = self.joined.iter().any(|joined| joined.phone == from);
        if known || self.joined.len() >= gather.n_phones {
            return;
        }

        let name = wire::clean_name(name);
        self.joined.push(Joined {
            phone: from,
            name: name.clone(),
            addresses: addresses.capped(),
        });
        self.events
            .push_back(OutEvent::Notice(Notice::Joined { phone: from, name }));
        self.start_when_complete();
    }

    fn start_when_complete(&mut self) {
        let Some(gather) = &self.gather else { return };
        if self.joined.len() < gather.n_phones {
            return;
        }

        let phones = self.joined.iter().map(|joined| joined.phone);
        let plan = Plan::even(
            self.reconfig.next_epoch(),
            &gather.manifest,
            &phones.collect::<Vec<_>>(),
            gather.sizes,
        );
        let plan = plan.expect("tried with as many phones at the start");
        let manifest = Arc::clone(&gather.manifest);
        let addresses = self.joined.iter();
        let addresses = addresses.map(|joined| (joined.phone, joined.addresses.clone()));
        self.reconfig
            .propose(Arc::new(plan), manifest, addresses.collect());
    }

    fn phone_lost(&mut self, phone: PeerId, now: Instant) {
        let planned = self.pipeline.as_ref().map(|p| Arc::clone(p.plan()));
        if planned.is_none_or(|plan| !plan.needs(phone)) {
            self.joined.retain(|joined| joined.phone != phone);
        }
        if phone == self.identity.leader && self.pipeline.is_none() {
            self.events.push_back(OutEvent::Notice(Notice::NoLeader));
        }

        self.pipe(pipeline::InEvent::PhoneLost(phone), now);
        self.reconfig.phone_lost(phone);
        self.relay.phone_lost(phone);
    }

    fn pipe(&mut self, event: pipeline::InEvent<H>, now: Instant) {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.handle(event, now);
        }
    }

    /// Passes what the machines want to each other or to the shell, until none wants anything.
    fn exchange(&mut self, now: Option<Instant>) {
        loop {
            if let Some(event) = self.reconfig.poll() {
                self.route_reconfig(event);
            } else if let Some(event) = self.pipeline.as_mut().and_then(Pipeline::poll) {
                self.route_pipeline(event);
            } else if let Some(event) = self.relay.poll() {
                self.route_relay(event, now);
            } else {
                return;
            }
        }
    }

    fn route_reconfig(&mut self, event: reconfig::OutEvent) {
        let event = match event {
            reconfig::OutEvent::Send { to, message } => OutEvent::SendControl { to, message },
            reconfig::OutEvent::Load {
                plan,
                manifest,
                addresses,
            } => {
                // Its part begins now: the first steps may come before the word that all are ready.
                self.pipeline = Some(Pipeline::new(Arc::clone(&plan), self.identity.me));
                OutEvent::Load {
                    plan,
                    manifest,
                    addresses,
                }
            }
            reconfig::OutEvent::InForce { plan } => {
                self.relay.plan_in_force(Arc::clone(&plan));
                tracing::info!(epoch = %plan.epoch, stages = plan.stages.len(), "Plan in force");
                let names = self.joined.iter().map(|j| (j.phone, j.name.clone()));
                let names = names.collect();
                OutEvent::Notice(Notice::InForce { plan, names })
            }
            reconfig::OutEvent::Failed { phone, reason, .. } => {
                OutEvent::Notice(Notice::Broken { phone, reason })
            }
        };

        self.events.push_back(event);
    }

    fn route_pipeline(&mut self, event: pipeline::OutEvent<H>) {
        use pipeline::OutEvent as Wish;

        let event = match event {
            Wish::Answer { request, answer } => return self.relay.answer(request, answer),
            Wish::Open { request, ask } => OutEvent::Open { request, ask },
            Wish::Close { request } => OutEvent::Close { request },
            Wish::Embed { step, tokens } => OutEvent::Embed { step, tokens },
            Wish::Compute { step, hidden, last } => OutEvent::Compute { step, hidden, last },
            Wish::Sample {
                step,
                hidden,
                picks,
            } => OutEvent::Sample {
                step,
                hidden,
                picks,
            },
            Wish::SendStep { to, step } => OutEvent::SendControl {
                to,
                message: Control::Step(step),
            },
            Wish::SendActivation {
                to,
                epoch,
                step,
                hidden,
            } => OutEvent::SendActivation {
                to,
                epoch,
                step,
                hidden,
            },
            Wish::SendFailure { to, epoch, reason } => OutEvent::SendControl {
                to,
                message: Control::StageFailed { epoch, reason },
            },
            Wish::SendNeighbourLost {
                to,
                epoch,
                neighbour,
            } => OutEvent::SendControl {
                to,
                message: Control::NeighbourLost { epoch, neighbour },
            },
        };

        self.events.push_back(event);
    }

    fn route_relay(&mut self, event: relay::OutEvent, now: Option<Instant>) {
        match event {
            relay::OutEvent::Ask { request, ask } => {
                let now = now.expect("questions come as events, with their time");
                self.pipe(pipeline::InEvent::Ask { request, ask }, now);
            }
            relay::OutEvent::Cancel { request } => {
                let now = now.expect("a question was asked before it is cancelled");
                self.pipe(pipeline::InEvent::Cancel { request }, now);
            }
            relay::OutEvent::Send { to, message } => {
                self.events.push_back(OutEvent::SendChat { to, message });
            }
            relay::OutEvent::Tell { client, answer } => {
                self.events.push_back(OutEvent::Tell { client, answer });
            }
        }
    }
}

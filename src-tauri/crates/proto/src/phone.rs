//! One phone: all its machines, and the ways between them.
//!
//! The shell knows only this type. What happens goes in as an [`InEvent`], what is to be done comes
//! out as an [`OutEvent`]; everything that a phone decides lies between.
//!
//! ```text
//!          who leads, who is here              plan in force
//!  group ────────────────────────► reconfig ─────────────────► pipeline ◄──── questions ──── relay
//!                                                                  └──────── answers ───────►
//! ```
//!
//! A phone in no group leads itself, and runs a model alone if it is asked to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::Manifest;
use rand_chacha::ChaCha12Rng;

use crate::chat::{Answer, Ask, RefusalReason};
use crate::group::message::Presence;
use crate::group::{self, Group, Name, Roster, Saved};
use crate::pipeline::{self, Pick, Pipeline, Sample, Token};
use crate::plan::{Plan, PlanError, STAGES_MAX, Sizes};
use crate::reconfig::{self, Cause, Reconfig, Status};
use crate::relay::{self, ClientId, Relay};
use crate::wire::{Chat, Control, Step};
use crate::{Epoch, PeerId, RequestId, StepId};

/// How long the leader waits after a plan broke before it makes another.
///
/// Until a phone whose connection was cut is given up on or back
/// ([`group::LOST_AFTER_DISCONNECT`]), with a heartbeat's room.
const REPLAN_AFTER: Duration = Duration::from_millis(2000);

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent<H> {
    /// Something about the group: see [`group::InEvent`].
    Group(group::InEvent),
    /// A person wants this phone's model to be run.
    Run(Work),
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
    /// Something about the group: see [`group::OutEvent`].
    Group(group::OutEvent),
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
    /// A plan is in force: questions can be asked.
    InForce {
        /// The plan.
        plan: Arc<Plan>,
    },
    /// There is no plan, or not any more.
    Broken {
        /// Phone that is the cause.
        phone: PeerId,
        /// Why, for people.
        reason: String,
    },
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
    work: Option<Work>,
    /// When the leader makes another plan in place of one that broke.
    replan_at: Option<Instant>,
    /// Whether the group was told that an answer is being written here.
    writing: bool,
    reconfig: Reconfig,
    relay: Relay,
    pipeline: Option<Pipeline<H>>,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Phone<H> {
    /// Starts the phone `me`, as it was when `saved` was written.
    pub fn new(me: PeerId, name: Name, saved: Saved, rng: ChaCha12Rng, now: Instant) -> Self {
        let mut phone = Self {
            me,
            group: Group::new(me, name, saved, rng, now),
            work: None,
            replan_at: None,
            writing: false,
            reconfig: Reconfig::new(me),
            relay: Relay::new(me),
            pipeline: None,
            events: VecDeque::new(),
        };
        phone.settle(now);

        phone
    }

    /// Returns the group that this phone is in.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H>, now: Instant) {
        match event {
            InEvent::Group(event) => self.group_event(event, now),
            InEvent::Run(work) => self.work = Some(work),
            InEvent::Control { from, message } => self.control(from, message, now),
            InEvent::Chat { from, message } => {
                if self.group.is_member(from) {
                    self.relay.handle(from, message);
                }
            }
            InEvent::Ask { client, ask } => self.relay.ask(client, ask),
            InEvent::Cancel { client } => self.relay.cancel(client),
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
        let replan_at = self.replan_at.filter(|_| self.leads() && self.work.is_some());

        [self.group.poll_timeout(), replan_at].into_iter().flatten().min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    /// Returns whether this phone waits for nothing: no question is open, no step in flight.
    pub fn is_idle(&self) -> bool {
        self.relay.is_idle() && self.pipeline.as_ref().is_none_or(Pipeline::is_idle)
    }

    /// Lets the group take note of something that may also cost the ring a phone.
    fn group_event(&mut self, event: group::InEvent, now: Instant) {
        let lost = match event {
            group::InEvent::Disconnected(phone) => Some(phone),
            _ => None,
        };
        self.group.handle(event, now);

        if let Some(phone) = lost {
            self.phone_lost(phone, now); // what was on its way is gone with the connection
        }
    }

    fn control(&mut self, from: PeerId, message: Control, now: Instant) {
        if !self.group.is_member(from) {
            tracing::warn!(%from, "Control message from a phone that is no member, dropped");
            return;
        }

        match message {
            Control::Step(step) => self.pipe(pipeline::InEvent::Step { from, step }, now),
            Control::StageFailed { epoch, reason } => {
                let event = pipeline::InEvent::StageFailed {
                    from,
                    epoch,
                    reason,
                };
                self.pipe(event, now);
            }
            Control::InForce { plan } => self.announced(from, plan),
            Control::Prepare { .. }
            | Control::Ready { .. }
            | Control::NotReady { .. }
            | Control::Commit { .. } => self.reconfig.handle(from, message),
        }
    }

    /// The leader tells a phone without a part who answers questions.
    fn announced(&mut self, from: PeerId, plan: Arc<Plan>) {
        let sound = plan.stages.len() <= STAGES_MAX && !plan.needs(self.me);
        if self.leader() != Some(from) || !sound {
            return tracing::warn!(%from, "Announcement that is not the leader's, dropped");
        }

        self.relay.plan_in_force(Arc::clone(&plan));
        self.events
            .push_back(OutEvent::Notice(Notice::InForce { plan }));
    }

    /// Returns whom this phone obeys: itself in no group, nobody while a leader is sought.
    fn leader(&self) -> Option<PeerId> {
        match self.group.roster() {
            None => Some(self.me),
            Some(_) => self.group.leader().map(|term| term.leader),
        }
    }

    fn leads(&self) -> bool {
        self.leader() == Some(self.me)
    }

    /// Returns the phones that can compute, this one first: it has the model.
    fn phones_here(&self) -> Vec<PeerId> {
        let members = self.group.roster().into_iter().flat_map(|r| r.members.iter());
        let here = |&phone: &PeerId| {
            phone != self.me && self.group.presence(phone) == Some(Presence::Here)
        };
        let others = members.map(|member| member.peer).filter(here);

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
        let due = match self.reconfig.status() {
            Status::None => phones.len() >= work.n_phones,
            Status::Preparing | Status::InForce => false,
            // Those who could not will not be able to: others may.
            Status::Failed(Cause::CannotLoad) => !self.reconfig.was_for(&phones),
            Status::Failed(Cause::Lost) => self.replan_at.is_none_or(|at| at <= now),
        };
        if !due {
            return;
        }

        self.replan_at = None;
        let epoch = self.reconfig.next_epoch();
        match Plan::even(epoch, &work.manifest, &phones, work.sizes) {
            Ok(plan) => {
                let manifest = Arc::clone(&work.manifest);
                self.reconfig.propose(Arc::new(plan), manifest);
            }
            Err(error) => tracing::error!(%error, "No plan can be made"),
        }
    }

    fn phone_lost(&mut self, phone: PeerId, now: Instant) {
        self.pipe(pipeline::InEvent::PhoneLost(phone), now);
        self.reconfig.phone_lost(phone);
        self.relay.phone_lost(phone);
    }

    fn pipe(&mut self, event: pipeline::InEvent<H>, now: Instant) {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.handle(event, now);
        }
    }

    /// Lets everything that follows from the last event happen.
    fn settle(&mut self, now: Instant) {
        loop {
            self.exchange(now);
            self.reconfig.follow(self.leader());
            self.plan_if_due(now);
            self.tell_writing(now);

            if !self.wants_anything() {
                return;
            }
        }
    }

    /// Passes what the machines want to each other or to the shell, until none wants anything.
    fn exchange(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.group.poll() {
                self.route_group(event, now);
            } else if let Some(event) = self.reconfig.poll() {
                self.route_reconfig(event, now);
            } else if let Some(event) = self.pipeline.as_mut().and_then(Pipeline::poll) {
                self.route_pipeline(event);
            } else if let Some(event) = self.relay.poll() {
                self.route_relay(event, now);
            } else {
                return;
            }
        }
    }

    fn wants_anything(&self) -> bool {
        self.reconfig.wants_anything() || self.group.wants_anything()
    }

    /// Tells the group when this phone, as the head, begins and ends to write.
    fn tell_writing(&mut self, now: Instant) {
        let writing = self.pipeline.as_ref().is_some_and(|p| !p.is_idle());

        if std::mem::replace(&mut self.writing, writing) != writing {
            self.group.handle(group::InEvent::Writing(writing), now);
        }
    }

    fn route_group(&mut self, event: group::OutEvent, now: Instant) {
        match &event {
            group::OutEvent::Present {
                peer,
                presence: Presence::Lost,
            } => self.phone_lost(*peer, now),
            group::OutEvent::Present {
                peer,
                presence: Presence::Here,
            } => self.announce_to(*peer),
            group::OutEvent::Members(roster) => self.members_changed(roster, now),
            group::OutEvent::Left { .. } => self.alone_again(now),
            _ => {}
        }

        self.events.push_back(OutEvent::Group(event));
    }

    /// Tells a member that came who answers questions.
    fn announce_to(&mut self, phone: PeerId) {
        if let Some(plan) = self.reconfig.in_force()
            && self.leads()
            && !plan.needs(phone)
        {
            let message = Control::InForce {
                plan: Arc::clone(plan),
            };
            self.events
                .push_back(OutEvent::SendControl { to: phone, message });
        }
    }

    /// A phone that is no member any more has no part in anything.
    fn members_changed(&mut self, roster: &Roster, now: Instant) {
        let gone = self.pipeline.as_ref().map(|pipeline| {
            let phones = pipeline.plan().phones();
            let gone = phones.filter(|&phone| phone != self.me && !roster.contains(phone));
            gone.collect::<Vec<_>>()
        });

        for phone in gone.unwrap_or_default() {
            self.phone_lost(phone, now);
        }
    }

    /// This phone has left its group: what it ran with others it runs no more.
    fn alone_again(&mut self, now: Instant) {
        let others = self.pipeline.as_ref().map(|pipeline| {
            let phones = pipeline.plan().phones();
            phones.filter(|&phone| phone != self.me).collect::<Vec<_>>()
        });

        for phone in others.unwrap_or_default() {
            self.phone_lost(phone, now);
        }
        self.relay.no_plan();
    }

    fn route_reconfig(&mut self, event: reconfig::OutEvent, now: Instant) {
        let event = match event {
            reconfig::OutEvent::Send { to, message } => OutEvent::SendControl { to, message },
            reconfig::OutEvent::Load { plan, manifest } => {
                // Its part begins now: the first steps may come before the word that all are ready.
                self.pipeline = Some(Pipeline::new(Arc::clone(&plan), self.me));
                OutEvent::Load { plan, manifest }
            }
            reconfig::OutEvent::InForce { plan } => {
                self.relay.plan_in_force(Arc::clone(&plan));
                tracing::info!(epoch = %plan.epoch, stages = plan.stages.len(), "Plan in force");
                for phone in self.phones_here() {
                    self.announce_to(phone);
                }
                OutEvent::Notice(Notice::InForce { plan })
            }
            reconfig::OutEvent::Failed { phone, reason, .. } => {
                self.replan_at = Some(now + REPLAN_AFTER);
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
        };

        self.events.push_back(event);
    }

    fn route_relay(&mut self, event: relay::OutEvent, now: Instant) {
        match event {
            relay::OutEvent::Ask { request, ask } => {
                self.pipe(pipeline::InEvent::Ask { request, ask }, now);
            }
            relay::OutEvent::Cancel { request } => {
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

//! What a group computes together, as one phone sees it: plans, the ring, questions and answers.
//!
//! ```text
//!              plan in force
//!  reconfig ─────────────────► pipeline ◄──── questions ──── relay
//!                                  └───────── answers ───────►
//! ```
//!
//! Who leads and who is there is decided elsewhere (`phone.rs`) and told to this machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use gguf_tools::Manifest;

use crate::chat::{Answer, Ask, Figures, RefusalReason};
use crate::pipeline::{self, Pick, Pipeline, Sample, Token};
use crate::plan::{Plan, STAGES_MAX};
use crate::questions::Questions;
use crate::reconfig::{self, Cause, Reconfig};
use crate::relay::{self, ClientId, Relay};
use crate::wire::{Chat, Control, Step};
use crate::{Epoch, PeerId, RequestId, StepId};

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent<H> {
    /// Another phone is to be obeyed; nobody, while a leader is sought.
    Leader(Option<PeerId>),
    /// This phone leads, and proposes a plan.
    Propose {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
    },
    /// A member without a part in the plan has come: it is told who answers questions.
    Announce(PeerId),
    /// A phone is gone, or the connection to it: what was on its way is lost.
    PhoneLost(PeerId),
    /// This phone is in no group any more.
    Alone,
    /// There is no plan, and none can be made: nobody need wait for one.
    NoPlan,
    /// A phone takes part no more, and without it there is no plan.
    Forbidden(PeerId),
    /// A person wants no more of what is run.
    Stop,
    /// This phone computes nothing for a while, and nobody may wait for it.
    LetGo,
    /// The leader runs nothing: this member, which was not there when it was stopped, is told so.
    AnnounceStop(PeerId),
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
        /// Whether it may be different the next time.
        cause: Cause,
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
    },
    /// Give back what was loaded.
    Unload,
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
    /// See [`pipeline::OutEvent::Answered`].
    Answered(Figures),
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
        /// The plan's epoch.
        epoch: Epoch,
        /// Phone that is the cause.
        phone: PeerId,
        /// Whether it may be different the next time.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
    /// A person wants no more of what was run: nothing is in force.
    Stopped,
}

/// One phone's part in what the group computes.
#[derive(Debug)]
pub struct Ring<H> {
    me: PeerId,
    /// Whom this phone obeys.
    leader: Option<PeerId>,
    reconfig: Reconfig,
    relay: Relay,
    pipeline: Option<Pipeline<H>>,
    /// What is asked of this phone, as the head.
    questions: Questions,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Ring<H> {
    /// Starts without a plan, obeying itself.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            leader: Some(me),
            reconfig: Reconfig::new(me),
            relay: Relay::new(me),
            pipeline: None,
            questions: Questions::default(),
            events: VecDeque::new(),
        }
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H>, now: Instant) {
        match event {
            InEvent::Leader(leader) => {
                self.leader = leader;
                self.reconfig.follow(leader);
                if let Some(to) = leader.filter(|&leader| leader != self.me) {
                    let message = self.reconfig.follows();
                    self.events.push_back(OutEvent::SendControl { to, message });
                }
            }
            InEvent::Propose { plan, manifest } => self.reconfig.propose(plan, manifest),
            InEvent::Announce(phone) => self.announce_to(phone),
            InEvent::PhoneLost(phone) => self.phone_lost(phone, now),
            InEvent::Alone => self.alone_again(now),
            InEvent::NoPlan => self.relay.no_plan(),
            InEvent::Forbidden(phone) => self.forbid(phone, now),
            InEvent::Stop => self.stop(now),
            InEvent::LetGo => {
                self.reconfig.give_up(); // another plan may follow
                self.give_up_pipeline(now);
                self.relay.plan_failed(now);
                self.events.push_back(OutEvent::Unload);
            }
            InEvent::AnnounceStop(phone) => self.announce_stop_to(phone),
            InEvent::Control { from, message } => self.control(from, message, now),
            InEvent::Chat { from, message } => self.relay.handle(from, message, now),
            InEvent::Ask { client, ask } => self.relay.ask(client, ask, now),
            InEvent::Cancel { client } => self.relay.cancel(client),
            InEvent::Loaded { epoch } => self.reconfig.loaded(epoch),
            InEvent::LoadFailed {
                epoch,
                cause,
                reason,
            } => self.reconfig.load_failed(epoch, cause, reason),
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
            InEvent::EngineFailed { reason } => self.engine_failed(reason, now),
        }

        self.exchange(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.relay.handle_timeout(now);
        self.exchange(now);
    }

    /// Returns when that is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.relay.poll_timeout()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns the newest plan, and how far it has come.
    pub fn reconfig(&self) -> &Reconfig {
        &self.reconfig
    }

    /// Returns the newest plan that this phone has a part in, in force or not.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.pipeline.as_ref().map(Pipeline::plan)
    }

    /// Returns what is asked of this phone, as the head.
    pub fn questions(&mut self) -> &mut Questions {
        &mut self.questions
    }

    /// Returns the screen of this phone that asked a question.
    pub fn client_of(&self, number: u64) -> Option<ClientId> {
        self.relay.client_of(number)
    }

    /// Returns whether an answer goes through this phone.
    pub fn is_writing(&self) -> bool {
        self.pipeline
            .as_ref()
            .is_some_and(|pipeline| !pipeline.is_idle())
    }

    /// Returns whether this phone waits for nothing: no question is open, no step in flight.
    pub fn is_idle(&self) -> bool {
        self.relay.is_idle() && self.pipeline.as_ref().is_none_or(Pipeline::is_idle)
    }

    fn control(&mut self, from: PeerId, message: Control, now: Instant) {
        match message {
            Control::Step(step) => self.pipe(pipeline::InEvent::Step { from, step }, now),
            Control::NeighbourLost { epoch, neighbour } => {
                let event = pipeline::InEvent::NeighbourLost {
                    from,
                    epoch,
                    neighbour,
                };
                self.pipe(event, now);
                self.reconfig.neighbour_lost(from, epoch, neighbour);
            }
            Control::StageFailed { epoch, reason } => {
                self.reconfig.stage_failed(from, epoch, &reason);
                let event = pipeline::InEvent::StageFailed {
                    from,
                    epoch,
                    reason,
                };
                self.pipe(event, now);
            }
            Control::InForce { plan } => self.announced(from, plan, now),
            Control::Follows { epoch, newest } => self.followed(from, epoch, newest, now),
            Control::Stop if self.leader == Some(from) => self.stop(now),
            Control::Stop => {
                tracing::debug!(%from, "Stop from a phone that does not lead, dropped")
            }
            // The phone's business.
            Control::Survey(_)
            | Control::Offer { .. }
            | Control::StopWanted
            | Control::RunWanted(_)
            | Control::ForecastWanted(_)
            | Control::ForecastTold { .. }
            | Control::Standing(_) => {}
            Control::Prepare { .. }
            | Control::Ready { .. }
            | Control::NotReady { .. }
            | Control::Commit { .. } => self.reconfig.handle(from, message),
        }
    }

    /// A member begins to obey this phone: it may have missed what is in force, or have given it up.
    fn followed(&mut self, from: PeerId, epoch: Option<Epoch>, newest: Epoch, now: Instant) {
        if self.reconfig.is_left_by(from, epoch, newest) {
            tracing::info!(%from, "Back from another leader, without its part");
            self.phone_lost(from, now);
        }
        self.announce_to(from);
        self.announce_stop_to(from);
    }

    /// The leader tells a phone without a part who answers questions.
    fn announced(&mut self, from: PeerId, plan: Arc<Plan>, now: Instant) {
        let sound = (1..=STAGES_MAX).contains(&plan.stages.len()) && !plan.needs(self.me);
        if self.leader != Some(from) || !sound {
            return tracing::debug!(%from, "Announcement that is not the leader's, dropped");
        }

        self.reconfig.give_up();
        if self.pipeline.is_some() {
            // This phone had a part in the last one.
            self.give_up_pipeline(now);
            self.events.push_back(OutEvent::Unload);
        }
        self.relay.plan_in_force(Arc::clone(&plan), now);
        self.events
            .push_back(OutEvent::Notice(Notice::InForce { plan }));
    }

    /// The plan is over: answers break off, and memory is given back here. Others keep what they have loaded for the
    /// next.
    fn forbid(&mut self, phone: PeerId, now: Instant) {
        self.reconfig.forbid(phone);
        self.give_up_pipeline(now);
        self.events.push_back(OutEvent::Unload);
    }

    /// What was run is run no more: answers end, and memory is given back.
    fn stop(&mut self, now: Instant) {
        let was_any = self.reconfig.stop() || self.relay.has_plan();
        if let Some(mut pipeline) = self.pipeline.take() {
            pipeline.stop();
            self.drain(&mut pipeline, now);
        }
        self.relay.stopped();

        if was_any {
            self.events.push_back(OutEvent::Unload);
            self.events.push_back(OutEvent::Notice(Notice::Stopped));
        }
    }

    /// Tells a member that came that nothing is run, which it may not have heard.
    fn announce_stop_to(&mut self, phone: PeerId) {
        if self.leader == Some(self.me) && self.reconfig.is_stopped() {
            let message = Control::Stop;
            self.events
                .push_back(OutEvent::SendControl { to: phone, message });
        }
    }

    /// Tells a member that came who answers questions.
    fn announce_to(&mut self, phone: PeerId) {
        if let Some(plan) = self.reconfig.in_force()
            && self.leader == Some(self.me)
            && !plan.needs(phone)
        {
            let message = Control::InForce {
                plan: Arc::clone(plan),
            };
            self.events
                .push_back(OutEvent::SendControl { to: phone, message });
        }
    }

    /// This phone's engine cannot go on: the answers end, and whoever leads plans without it.
    fn engine_failed(&mut self, reason: String, now: Instant) {
        if let Some(epoch) = self.plan().map(|plan| plan.epoch) {
            self.reconfig.stage_failed(self.me, epoch, &reason);
        }

        self.pipe(pipeline::InEvent::EngineFailed { reason }, now);
    }

    fn phone_lost(&mut self, phone: PeerId, now: Instant) {
        self.pipe(pipeline::InEvent::PhoneLost(phone), now);
        self.reconfig.phone_lost(phone);
        self.relay.phone_lost(phone);
    }

    /// This phone has left its group: what it ran with others it runs no more; what it ran alone it does.
    fn alone_again(&mut self, now: Instant) {
        let others = self.pipeline.as_ref().map(|pipeline| {
            let phones = pipeline.plan().phones();
            phones.filter(|&phone| phone != self.me).collect::<Vec<_>>()
        });

        let others = others.unwrap_or_default();
        let is_own = self.pipeline.is_some() && others.is_empty();
        for phone in others {
            self.phone_lost(phone, now);
        }
        if !is_own {
            self.relay.no_plan();
            self.events.push_back(OutEvent::Unload);
        }
    }

    fn pipe(&mut self, event: pipeline::InEvent<H>, now: Instant) {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.handle(event, now);
        }
    }

    /// Passes what the machines want to each other or to the shell, until none wants anything.
    fn exchange(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.reconfig.poll() {
                self.route_reconfig(event, now);
            } else if let Some(event) = self.pipeline.as_mut().and_then(Pipeline::poll) {
                self.route_pipeline(event, now);
            } else if let Some(event) = self.relay.poll() {
                self.route_relay(event, now);
            } else {
                return;
            }
        }
    }

    fn route_reconfig(&mut self, event: reconfig::OutEvent, now: Instant) {
        let event = match event {
            reconfig::OutEvent::Send { to, message } => OutEvent::SendControl { to, message },
            reconfig::OutEvent::Load { plan, manifest } => {
                // Its part begins now: the first steps may come before the word that all are ready.
                self.give_up_pipeline(now);
                self.pipeline = Some(Pipeline::new(Arc::clone(&plan), self.me));
                OutEvent::Load { plan, manifest }
            }
            reconfig::OutEvent::InForce { plan } => {
                self.relay.plan_in_force(Arc::clone(&plan), now);
                tracing::info!(epoch = %plan.epoch, stages = plan.stages.len(), "Plan in force");
                OutEvent::Notice(Notice::InForce { plan })
            }
            reconfig::OutEvent::Failed {
                epoch,
                phone,
                cause,
                reason,
            } => {
                if let Some(pipeline) = &mut self.pipeline {
                    pipeline.plan_failed(phone);
                }
                self.relay.plan_failed(now);
                OutEvent::Notice(Notice::Broken {
                    epoch,
                    phone,
                    cause,
                    reason,
                })
            }
        };

        self.events.push_back(event);
    }

    /// Breaks off what the last plan was writing: loading the next forgets it. Nothing is asked until that is in
    /// force: the engine would read a question before it has loaded, and then forget it.
    fn give_up_pipeline(&mut self, now: Instant) {
        if let Some(mut pipeline) = self.pipeline.take() {
            pipeline.give_up();
            self.drain(&mut pipeline, now);
        }

        self.relay.plan_replaced(now);
    }

    /// Passes on the last words of a pipeline.
    fn drain(&mut self, pipeline: &mut Pipeline<H>, now: Instant) {
        while let Some(event) = pipeline.poll() {
            self.route_pipeline(event, now);
        }
    }

    fn route_pipeline(&mut self, event: pipeline::OutEvent<H>, now: Instant) {
        use pipeline::OutEvent as Wish;

        let event = match event {
            Wish::Answer { request, answer } => {
                self.questions.answered(request, &answer, now);
                return self.relay.answer(request, answer);
            }
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
            Wish::SendFailure { to, epoch, reason } => return self.say_failed(to, epoch, reason),
            Wish::Answered(figures) => OutEvent::Answered(figures),
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

    /// Tells the head that this phone cannot go on; and the leader, should that be another.
    fn say_failed(&mut self, head: PeerId, epoch: Epoch, reason: String) {
        let leader = self
            .leader
            .filter(|&leader| leader != head && leader != self.me);

        for to in leader.into_iter().chain([head]) {
            let reason = reason.clone();
            let message = Control::StageFailed { epoch, reason };
            self.events.push_back(OutEvent::SendControl { to, message });
        }
    }

    fn route_relay(&mut self, event: relay::OutEvent, now: Instant) {
        match event {
            relay::OutEvent::Ask { request, ask } => {
                if self.pipeline.is_some() {
                    self.questions.asked(request);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{FailureReason, Prompt, Sampling};
    use crate::testing::{self, ANNA, BELA, CARL};

    /// Whoever asks while the next plan is loaded waits for it: the engine would read the question with what the
    /// last plan had loaded, and write nonsense. And what was being written then never goes on, so it is broken off.
    #[test]
    fn between_two_plans_nothing_is_asked_and_nothing_left_open() {
        let mut ring = Ring::<()>::new(ANNA);
        let now = Instant::now();
        ring.handle(propose(1), now);
        ring.handle(InEvent::Loaded { epoch: Epoch(1) }, now);
        assert_eq!(told(&mut ring), (vec![], 0));

        ring.handle(ask(1), now);
        ring.handle(propose(2), now);
        ring.handle(ask(2), now);
        let failed = Answer::Failed(FailureReason::Replanned);
        let queued = Answer::Queued { ahead: 0 };
        let expected = vec![(ClientId(1), failed), (ClientId(2), queued)];
        assert_eq!(told(&mut ring), (expected, 1));

        ring.handle(InEvent::Loaded { epoch: Epoch(2) }, now);
        assert_eq!(told(&mut ring), (vec![], 1));
        ring.handle(ask(3), now);
        assert_eq!(told(&mut ring), (vec![], 1));
    }

    /// A phone whose engine fails in the middle of a plan must not stay in it: the plan is broken by it, here or there.
    #[test]
    fn a_plan_does_not_outlive_an_engine() {
        let now = Instant::now();
        let reason = || "its engine has crashed".to_owned();
        let (here, there) = (
            InEvent::EngineFailed { reason: reason() },
            InEvent::Control {
                from: BELA,
                message: Control::StageFailed {
                    epoch: Epoch(1),
                    reason: reason(),
                },
            },
        );

        for (failed, event) in [(ANNA, here), (BELA, there)] {
            let mut ring = leading_with_bela(now);

            ring.handle(event, now);

            let broken = std::iter::from_fn(|| ring.poll()).find_map(|event| match event {
                OutEvent::Notice(Notice::Broken { phone, cause, .. }) => Some((phone, cause)),
                _ => None,
            });
            assert_eq!(broken, Some((failed, Cause::CannotLoad)));
            assert!(ring.reconfig().in_force().is_none());
        }
    }

    /// A member that obeyed a phone which was cut off for a moment gives up the plan that the others follow. Its leader
    /// would have it compute, and wait for ever.
    #[test]
    fn who_comes_back_from_another_leader_without_its_part_is_planned_for_anew() {
        let now = Instant::now();
        let follows = |epoch: Option<u64>, newest| InEvent::<()>::Control {
            from: BELA,
            message: Control::Follows {
                epoch: epoch.map(Epoch),
                newest: Epoch(newest),
            },
        };

        let mut leader = leading_with_bela(now);
        leader.handle(follows(Some(1), 1), now);
        assert!(leader.reconfig().in_force().is_some(), "it plays its part");

        for epoch in [None, Some(7)] {
            let mut leader = leading_with_bela(now);
            leader.handle(ask(1), now);
            told(&mut leader);

            leader.handle(follows(epoch, 7), now);

            assert_eq!(
                leader.reconfig().status(),
                reconfig::Status::Failed(Cause::Lost)
            );
            assert_eq!(leader.reconfig().next_epoch(), Epoch(8));
            let failed = Answer::Failed(FailureReason::PhoneLost(BELA));
            assert_eq!(told(&mut leader).0, [(ClientId(1), failed)]);
        }
    }

    /// A member without a part may have been told meanwhile that nobody answers, or another phone.
    #[test]
    fn who_comes_back_from_another_leader_is_told_who_answers() {
        let now = Instant::now();
        let mut leader = leading_with_bela(now);
        while leader.poll().is_some() {}

        let message = Control::Follows {
            epoch: None,
            newest: Epoch(0),
        };
        leader.handle(
            InEvent::Control {
                from: CARL,
                message,
            },
            now,
        );

        let told = leader.poll();
        assert!(
            matches!(
                told,
                Some(OutEvent::SendControl {
                    to: CARL,
                    message: Control::InForce { .. }
                })
            ),
            "{told:?}"
        );
    }

    #[test]
    fn who_begins_to_obey_says_what_it_follows() {
        let now = Instant::now();
        let mut ring = Ring::<()>::new(ANNA);

        ring.handle(InEvent::Leader(Some(BELA)), now);

        let said = ring.poll();
        let is_said = matches!(
            said,
            Some(OutEvent::SendControl {
                to: BELA,
                message: Control::Follows {
                    epoch: None,
                    newest: Epoch(0)
                }
            })
        );
        assert!(is_said, "{said:?}");
    }

    /// Returns a leader, ANNA, with a plan in force in which BELA has a part.
    fn leading_with_bela(now: Instant) -> Ring<()> {
        let mut ring = Ring::new(ANNA);
        let plan = Arc::new(testing::plan(&[ANNA, BELA]));
        let manifest = Arc::new(testing::manifest(&[2, 2]));
        ring.handle(InEvent::Propose { plan, manifest }, now);
        ring.handle(InEvent::Loaded { epoch: Epoch(1) }, now);
        let ready = InEvent::Control {
            from: BELA,
            message: Control::Ready { epoch: Epoch(1) },
        };
        ring.handle(ready, now);
        assert!(ring.reconfig().in_force().is_some());

        ring
    }

    fn propose(epoch: u64) -> InEvent<()> {
        let mut plan = testing::plan(&[ANNA]);
        plan.epoch = Epoch(epoch);

        InEvent::Propose {
            plan: Arc::new(plan),
            manifest: Arc::new(testing::manifest(&[2])),
        }
    }

    fn ask(client: u64) -> InEvent<()> {
        InEvent::Ask {
            client: ClientId(client),
            ask: Arc::new(Ask {
                prompt: Prompt::Tokens(vec![1]),
                max_tokens: 1,
                sampling: Sampling::default(),
                stop: Vec::new(),
                ignore_end: false,
                written: Vec::new(),
            }),
        }
    }

    /// Returns what askers were told, and how many questions the engine was given.
    fn told(ring: &mut Ring<()>) -> (Vec<(ClientId, Answer)>, usize) {
        let (mut told, mut opened) = (Vec::new(), 0);
        while let Some(event) = ring.poll() {
            if let OutEvent::Tell { client, answer } = event {
                told.push((client, answer));
            } else if let OutEvent::Open { .. } = event {
                opened += 1;
            }
        }

        (told, opened)
    }
}

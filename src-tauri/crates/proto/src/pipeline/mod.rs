//! Every token's way round the ring.
//!
//! A [`Pipeline`] is one phone's part in a [`Plan`]: a [`Stage`] if it runs layers, a [`Head`] if it
//! holds the ends, or both, and then the hop between them never leaves the machine.
//!
//! ```text
//!           Step header, to every stage at once
//!        ┌────────────┬─────────────┐
//!        │            ▼             ▼
//!      Head ──────► Stage ──────► Stage ──┐      Activation, from each to the next
//!        ▲                                │
//!        └────────────────────────────────┘
//! ```
//!
//! The machine never looks into a hidden state: it is `H`, the shell's buffer in an app and the list
//! of layers that touched it in the simulated world.

mod head;
mod stage;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::chat::{Answer, Ask, FailureReason, RefusalReason};
use crate::plan::Plan;
use crate::wire::Step;
use crate::{Epoch, PeerId, RequestId, SequenceId, StepId};

use head::Head;
use stage::Stage;

/// A token's number in the model's vocabulary.
pub type Token = u32;

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent<H> {
    /// Somebody asks something. Only the head can answer.
    Ask {
        /// Name of the question.
        request: RequestId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// The asker wants no more of the answer.
    Cancel {
        /// Name of the question.
        request: RequestId,
    },
    /// The ends have turned a question into tokens.
    Opened {
        /// Name of the question.
        request: RequestId,
        /// The prompt, from the first token of the conversation on.
        prompt: Vec<Token>,
    },
    /// The ends cannot turn a question into tokens.
    Refused {
        /// Name of the question.
        request: RequestId,
        /// Why.
        reason: RefusalReason,
    },
    /// The ends have embedded a step's tokens.
    Embedded {
        /// Step that they belong to.
        step: StepId,
        /// `[n_tokens, n_embd]`.
        hidden: H,
    },
    /// The ends have made one token for each of a step's picks, in their order.
    Sampled {
        /// Step that they belong to.
        step: StepId,
        /// One for each pick.
        samples: Vec<Sample>,
    },
    /// This phone's layers have run a step.
    Computed {
        /// Step that was run.
        step: StepId,
        /// `[n_tokens, n_embd]`, or only the wanted rows on the last stage.
        hidden: H,
    },
    /// A step header came from a phone.
    Step {
        /// Phone that sent it.
        from: PeerId,
        /// The header.
        step: Arc<Step>,
    },
    /// An activation came from a phone.
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
    /// This phone's engine cannot run a step.
    EngineFailed {
        /// What it said.
        reason: String,
    },
    /// A stage told the head that it cannot go on.
    StageFailed {
        /// Phone that runs the stage.
        from: PeerId,
        /// Its epoch.
        epoch: Epoch,
        /// What its engine said.
        reason: String,
    },
    /// A phone of the ring is gone.
    PhoneLost(PeerId),
}

/// What to do.
#[derive(Debug, Clone)]
pub enum OutEvent<H> {
    /// Turn a question into tokens and keep its sampler: answered by `Opened` or `Refused`.
    Open {
        /// Name of the question.
        request: RequestId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// Forget a question's sampler.
    Close {
        /// Name of the question.
        request: RequestId,
    },
    /// Embed tokens: answered by `Embedded`.
    Embed {
        /// Step that they belong to.
        step: StepId,
        /// Tokens of all runs, in order.
        tokens: Vec<Token>,
    },
    /// Run this phone's layers: answered by `Computed`. At most one is asked for at a time.
    Compute {
        /// The header.
        step: Arc<Step>,
        /// `[n_tokens, n_embd]`.
        hidden: H,
        /// Whether this is the last stage, which puts out only the wanted rows.
        last: bool,
    },
    /// Turn hidden states into one token for each pick: answered by `Sampled`.
    Sample {
        /// Step that they belong to.
        step: StepId,
        /// `[picks.len(), n_embd]`.
        hidden: H,
        /// What to sample, a row each.
        picks: Vec<Pick>,
    },
    /// Send a step header to a phone.
    SendStep {
        /// Phone that runs a stage.
        to: PeerId,
        /// The header.
        step: Arc<Step>,
    },
    /// Send an activation to the next phone of the ring.
    SendActivation {
        /// Phone that comes next.
        to: PeerId,
        /// Epoch of the plan.
        epoch: Epoch,
        /// Step that it belongs to.
        step: StepId,
        /// `[n_tokens, n_embd]`, or only the wanted rows after the last stage.
        hidden: H,
    },
    /// Tell the head that this phone cannot go on.
    SendFailure {
        /// The head.
        to: PeerId,
        /// Epoch of the plan.
        epoch: Epoch,
        /// What the engine said.
        reason: String,
    },
    /// Tell an asker how its answer goes on.
    Answer {
        /// Name of the question.
        request: RequestId,
        /// What there is to tell.
        answer: Answer,
    },
}

/// One token to be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Whose answer it goes on.
    pub request: RequestId,
    /// Sequence of that conversation.
    pub sequence: SequenceId,
    /// Position that the token will have, counted from 0 at the start of the conversation.
    pub position: u32,
    /// Whether no token may follow: held-back text is then given out.
    pub last: bool,
}

/// One token that was sampled.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The token.
    pub token: Token,
    /// Text that is certain since this token; may be empty in the middle of a character.
    pub text: String,
    /// Whether the answer ends here: an end-of-turn token or a stop string.
    pub end: bool,
}

/// One phone's part in a plan.
#[derive(Debug)]
pub struct Pipeline<H> {
    plan: Arc<Plan>,
    me: PeerId,
    head: Option<Head<H>>,
    stage: Option<Stage<H>>,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Pipeline<H> {
    /// Takes up `me`'s part in `plan`, with empty caches.
    pub fn new(plan: Arc<Plan>, me: PeerId) -> Self {
        Self {
            head: (plan.head == me).then(|| Head::new(Arc::clone(&plan))),
            stage: Stage::new(&plan, me),
            plan,
            me,
            events: VecDeque::new(),
        }
    }

    /// Returns the plan that is followed.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H>, now: Instant) {
        match event {
            InEvent::Step { from, step } => self.step_from(from, step),
            InEvent::Activation {
                from,
                epoch,
                step,
                hidden,
            } => self.activation_from(from, epoch, step, hidden),
            InEvent::Computed { step, hidden } => {
                if let Some(stage) = &mut self.stage {
                    stage.computed(step, hidden);
                }
            }
            InEvent::Ask { request, ask } => self.at_head(|head| head.ask(request, ask, now)),
            InEvent::Cancel { request } => self.at_head(|head| head.cancel(request, now)),
            InEvent::Opened { request, prompt } => {
                self.at_head(|head| head.opened(request, prompt));
            }
            InEvent::Refused { request, reason } => {
                self.at_head(|head| head.refused(request, reason));
            }
            InEvent::Embedded { step, hidden } => self.at_head(|head| head.embedded(step, hidden)),
            InEvent::Sampled { step, samples } => {
                self.at_head(|head| head.sampled(step, samples, now));
            }
            InEvent::EngineFailed { reason } => self.failed(self.me, reason),
            InEvent::StageFailed {
                from,
                epoch,
                reason,
            } => {
                if epoch == self.plan.epoch && self.plan.stage_of(from).is_some() {
                    self.failed(from, reason);
                }
            }
            InEvent::PhoneLost(phone) => {
                if self.plan.needs(phone) {
                    self.at_head(|head| head.fail(&FailureReason::PhoneLost(phone)));
                }
            }
        }

        self.exchange();
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    /// Returns whether no question is open here and no step is in flight.
    pub fn is_idle(&self) -> bool {
        self.head.as_ref().is_none_or(Head::is_idle)
            && self.stage.as_ref().is_none_or(Stage::is_idle)
    }

    fn at_head(&mut self, act: impl FnOnce(&mut Head<H>)) {
        if let Some(head) = &mut self.head {
            act(head);
        }
    }

    /// Ends every answer, here or at the head, because `phone` cannot go on.
    fn failed(&mut self, phone: PeerId, reason: String) {
        tracing::warn!(%phone, reason, "Stage failed");

        match &mut self.head {
            Some(head) => head.fail(&FailureReason::StageFailed { phone, reason }),
            None => self.events.push_back(OutEvent::SendFailure {
                to: self.plan.head,
                epoch: self.plan.epoch,
                reason,
            }),
        }
    }

    /// Takes a header from the phone that may send one: the head, or whoever relays it.
    fn step_from(&mut self, from: PeerId, step: Arc<Step>) {
        let Some(stage) = &mut self.stage else {
            tracing::warn!(%from, "Step header for a phone without a stage, dropped");
            return;
        };
        let sender = if self.plan.relay_headers {
            stage.upstream()
        } else {
            self.plan.head
        };
        if from != sender {
            tracing::warn!(%from, "Step header from the wrong phone, dropped");
            return;
        }
        if step.epoch != self.plan.epoch {
            tracing::debug!(%from, epoch = %step.epoch, "Step header of another epoch, dropped");
            return;
        }

        stage.step(step);
    }

    /// Takes an activation from the phone before this one in the ring.
    fn activation_from(&mut self, from: PeerId, epoch: Epoch, step: StepId, hidden: H) {
        if epoch != self.plan.epoch {
            tracing::debug!(%from, %epoch, "Activation of another epoch, dropped");
            return;
        }

        // A phone that is head and stage is fed by one neighbour and closed by another: a phone has one
        // stage, so the one before ours is the last one only where we have none.
        let tail = self.plan.stages.last().map(|stage| stage.phone);
        match (&mut self.head, &mut self.stage) {
            (_, Some(stage)) if stage.upstream() == from && from != self.me => {
                stage.activation(step, hidden);
            }
            (Some(head), _) if tail == Some(from) => head.returned(step, hidden),
            _ => tracing::warn!(%from, "Activation from a phone that is not upstream, dropped"),
        }
    }

    /// Passes what head and stage want to each other or to the shell, until neither wants anything.
    fn exchange(&mut self) {
        loop {
            if let Some(event) = self.stage.as_mut().and_then(Stage::poll) {
                self.route_stage(event);
            } else if let Some(event) = self.head.as_mut().and_then(Head::poll) {
                self.route_head(event);
            } else {
                return;
            }
        }
    }

    /// Sends on what this phone's stage wants; the last stage's activation may be for our own head.
    fn route_stage(&mut self, event: OutEvent<H>) {
        match (event, &mut self.head) {
            (
                OutEvent::SendActivation {
                    to, step, hidden, ..
                },
                Some(head),
            ) if to == self.me => head.returned(step, hidden),
            (event, _) => self.events.push_back(event),
        }
    }

    /// Sends on what this phone's head wants; some of it may be for our own stage.
    fn route_head(&mut self, event: OutEvent<H>) {
        match (event, &mut self.stage) {
            (OutEvent::SendStep { to, step }, Some(stage)) if to == self.me => stage.step(step),
            (
                OutEvent::SendActivation {
                    to, step, hidden, ..
                },
                Some(stage),
            ) if to == self.me => stage.activation(step, hidden),
            (event, _) => self.events.push_back(event),
        }
    }
}

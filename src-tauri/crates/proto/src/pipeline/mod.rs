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

use crate::chat::{Answer, Ask, FailureReason, Figures, RefusalReason};
use crate::plan::Plan;
use crate::wire::Step;
use crate::{Epoch, PeerId, RequestId, SequenceId, StepId, text};

use head::Head;
use stage::Stage;

/// Bytes of what an engine says about a failure or a refusal: some lines on a screen.
const REASON_BYTES_MAX: usize = 512;

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
    /// A stage told the head that it cannot reach the phone before or after it.
    NeighbourLost {
        /// Phone that runs the stage.
        from: PeerId,
        /// Its epoch.
        epoch: Epoch,
        /// Phone that it cannot reach.
        neighbour: PeerId,
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
    /// Tell the head that this phone cannot reach the one before or after it.
    SendNeighbourLost {
        /// The head.
        to: PeerId,
        /// Epoch of the plan.
        epoch: Epoch,
        /// Phone that cannot be reached.
        neighbour: PeerId,
    },
    /// Tell an asker how its answer goes on.
    Answer {
        /// Name of the question.
        request: RequestId,
        /// What there is to tell.
        answer: Answer,
    },
    /// An answer was written to its end, and had the ring to itself: what it took is what a forecast says.
    Answered(Figures),
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
            InEvent::EngineFailed { reason } => self.failed(self.me, &reason),
            InEvent::StageFailed {
                from,
                epoch,
                reason,
            } => {
                let is_ours = epoch == self.plan.epoch && self.plan.stage_of(from).is_some();
                if is_ours && self.head.is_some() {
                    self.failed(from, &reason);
                } else {
                    tracing::debug!(%from, "Failure that is none of ours, dropped");
                }
            }
            InEvent::NeighbourLost {
                from,
                epoch,
                neighbour,
            } => {
                let is_ours = epoch == self.plan.epoch && self.plan.stage_of(from).is_some();
                if is_ours && self.plan.needs(neighbour) {
                    self.at_head(|head| head.fail(&FailureReason::PhoneLost(neighbour)));
                } else {
                    tracing::debug!(%from, "Loss that is none of ours, dropped");
                }
            }
            InEvent::PhoneLost(phone) => self.phone_lost(phone, now),
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

    /// Breaks off every answer: another plan takes this one's place.
    pub fn give_up(&mut self) {
        self.at_head(|head| head.fail(&FailureReason::Replanned));
        self.exchange();
    }

    /// The plan is broken, because of `phone`. The head breaks off every answer, as no step will be whole any more; at others,
    /// it may be only they who have lost somebody, and the head may go on.
    pub fn plan_failed(&mut self, phone: PeerId) {
        if let Some(head) = &mut self.head {
            head.fail(&FailureReason::PhoneLost(phone));
            if let Some(stage) = &mut self.stage {
                stage.plan_failed();
            }
        }
        self.exchange();
    }

    /// Breaks off every answer: a person wants no more of them.
    pub fn stop(&mut self) {
        self.at_head(|head| head.fail(&FailureReason::Stopped));
        self.exchange();
    }

    fn at_head(&mut self, act: impl FnOnce(&mut Head<H>)) {
        if let Some(head) = &mut self.head {
            act(head);
        }
    }

    fn phone_lost(&mut self, phone: PeerId, now: Instant) {
        let is_neighbour = self.plan.are_neighbours(self.me, phone);

        match &mut self.head {
            Some(head) if self.plan.needs(phone) => head.fail(&FailureReason::PhoneLost(phone)),
            Some(head) => head.asker_lost(phone, now),
            // The head may still reach both of us, and would wait for ever.
            None if is_neighbour && phone != self.plan.head => {
                self.events.push_back(OutEvent::SendNeighbourLost {
                    to: self.plan.head,
                    epoch: self.plan.epoch,
                    neighbour: phone,
                });
            }
            None => {}
        }
    }

    /// Ends every answer, here or at the head, because `phone` cannot go on.
    fn failed(&mut self, phone: PeerId, reason: &str) {
        let reason = text::clean(reason, REASON_BYTES_MAX);
        tracing::info!(%phone, reason, "Stage failed");

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

        if let Err(error) = stage.step(step) {
            self.failed(self.me, &format!("step refused: {error}"));
        }
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
            (OutEvent::SendStep { to, step }, Some(stage)) if to == self.me => {
                stage.step(step).expect("our head follows the plan");
            }
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

/// Steps in flight at the most, of both kinds together: what a stage makes room for.
fn steps_in_flight_max(plan: &Plan) -> usize {
    prefill_steps_max(plan) + decode_steps_max(plan)
}

/// Prefill chunks in flight at the most: one for each stage keeps all busy, one more hides the hops.
fn prefill_steps_max(plan: &Plan) -> usize {
    plan.stages.len() + 1
}

/// Decode steps in flight at the most: one for each stage keeps all busy.
fn decode_steps_max(plan: &Plan) -> usize {
    plan.stages.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Prompt, Sampling};
    use crate::testing::{self, ANNA, BELA, CARL};
    use crate::wire::{self, CacheOp, StreamKind};

    /// A phone outside of the ring.
    const DORA: PeerId = PeerId([0xdd; 32]);

    #[test]
    fn headers_go_to_every_stage_at_once_or_are_relayed() {
        for (relay_headers, told) in [(false, vec![BELA, CARL]), (true, vec![])] {
            let mut plan = testing::plan(&[ANNA, BELA, CARL]);
            plan.relay_headers = relay_headers;
            let mut head = Ring::new(plan);

            head.ask(DORA, 0, 3);

            let steps = head.events.iter().filter_map(|event| match event {
                OutEvent::SendStep { to, .. } => Some(*to),
                _ => None,
            });
            assert_eq!(
                steps.collect::<Vec<_>>(),
                told,
                "the head's own stage needs no message"
            );
        }
    }

    #[test]
    fn chunks_follow_each_other_as_far_as_credits_go() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA, CARL]));

        head.ask(DORA, 0, 40);

        let sent = head.embeds();
        assert_eq!(
            sent,
            [4, 4, 4, 4],
            "three stages and one more, of four tokens each"
        );
    }

    #[test]
    fn a_long_prompt_does_not_hold_up_an_answer() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA]));
        head.ask(DORA, 0, 2);
        head.come_round(StepId(0));
        head.ask(CARL, 0, 40);

        head.handle(InEvent::Sampled {
            step: StepId(0),
            samples: vec![sample()],
        });

        assert_eq!(head.embeds(), [2, 4, 4, 4, 1]);
    }

    #[test]
    fn what_a_phone_asked_that_left_is_not_answered() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA]));
        head.ask(DORA, 0, 40);

        head.handle(InEvent::PhoneLost(DORA));
        (0..3).for_each(|step| head.come_round(StepId(step)));

        assert!(head.pipeline.is_idle());
        assert_eq!(head.embeds().len(), 3, "nothing was sent after");

        // It may have been away for a moment only, and must not take what it has for the whole answer.
        let told = head.answers().last().copied();
        assert_eq!(told, Some(&Answer::Failed(FailureReason::HeadLost)));
    }

    #[test]
    fn every_answer_ends_when_a_phone_of_the_ring_is_lost() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA]));
        head.ask(DORA, 0, 40);
        head.ask(CARL, 0, 3);
        head.events.clear();

        head.handle(InEvent::PhoneLost(BELA));
        head.ask(DORA, 1, 3);

        let lost = Answer::Failed(FailureReason::PhoneLost(BELA));
        assert_eq!(head.answers(), [&lost, &lost, &lost]);
    }

    #[test]
    fn a_stage_that_loses_its_neighbour_tells_the_head() {
        let dora_is_last = [ANNA, BELA, CARL, DORA];
        for (lost, tells) in [(CARL, true), (DORA, false), (ANNA, false)] {
            let plan = Arc::new(testing::plan(&dora_is_last));
            let mut member = Pipeline::<()>::new(plan, BELA);

            member.handle(InEvent::PhoneLost(lost), Instant::now());

            let told = matches!(
                member.poll(),
                Some(OutEvent::SendNeighbourLost { to: ANNA, neighbour, .. }) if neighbour == lost
            );
            assert_eq!(told, tells, "lost {lost}");
        }
    }

    /// A sequence may begin anew many times before a step takes the news along; once is enough.
    #[test]
    fn caches_are_truncated_once_however_often_they_begin_anew() {
        let mut plan = testing::plan(&[ANNA, BELA]);
        plan.n_sequences = 4;
        let mut head = Ring::new(plan);
        head.ask(DORA, 0, 30);
        head.cancel(DORA, 0);
        (0..3).for_each(|step| head.come_round(StepId(step)));
        head.ask_tokens(CARL, 0, vec![2; 40]); // takes all credits there are for prompts
        head.events.clear();

        for (number, shared) in (1..).zip((1..12).rev()) {
            head.ask_tokens(DORA, number, [vec![1; shared], vec![7]].concat());
            head.cancel(DORA, number);
        }
        head.come_round(StepId(3));

        let ops = head.events.iter().find_map(|event| match event {
            OutEvent::SendStep { step, .. } => Some(step.cache_ops.as_slice()),
            _ => None,
        });
        let sequence = SequenceId(0);
        let n_positions = 1;
        assert_eq!(
            ops,
            Some(
                &[CacheOp::Truncate {
                    sequence,
                    n_positions
                }][..]
            )
        );
    }

    #[test]
    fn a_question_that_is_open_already_is_refused() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA]));
        head.ask(DORA, 0, 3);
        head.events.clear();

        head.handle(InEvent::Ask {
            request: request(DORA, 0),
            ask: ask(),
        });

        assert!(matches!(head.answers()[..], [Answer::Refused(_)]));
    }

    #[test]
    fn whom_a_neighbour_cannot_reach_is_lost_to_the_ring() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA, CARL]));
        head.ask(DORA, 0, 3);
        head.events.clear();

        for (from, epoch, neighbour) in [(DORA, 1, CARL), (BELA, 2, CARL), (BELA, 1, DORA)] {
            let epoch = Epoch(epoch);
            head.handle(InEvent::NeighbourLost {
                from,
                epoch,
                neighbour,
            });
        }
        assert!(head.answers().is_empty());

        head.handle(InEvent::NeighbourLost {
            from: BELA,
            epoch: Epoch(1),
            neighbour: CARL,
        });
        let lost = Answer::Failed(FailureReason::PhoneLost(CARL));
        assert_eq!(head.answers(), [&lost]);
    }

    #[test]
    fn a_refusal_is_kept_short() {
        let mut head = Ring::new(testing::plan(&[ANNA, BELA]));
        let request = request(DORA, 0);
        head.handle(InEvent::Ask {
            request,
            ask: ask(),
        });

        let reason = RefusalReason::Invalid("of no use ".repeat(1 << 20));
        head.handle(InEvent::Refused { request, reason });

        let [answer] = head.answers()[..] else {
            panic!("one question was asked");
        };
        let frame = wire::encode_frame(answer, StreamKind::Chat);
        assert!(frame.len() < 2 * REASON_BYTES_MAX);
    }

    #[test]
    fn only_the_head_hears_of_failures_and_keeps_them_short() {
        let failed = |epoch| InEvent::StageFailed {
            from: BELA,
            epoch: Epoch(epoch),
            reason: "\u{1b}[2J".repeat(1 << 20),
        };
        let mut head = Ring::new(testing::plan(&[ANNA, BELA, CARL]));
        let mut member = Pipeline::<()>::new(Arc::clone(head.pipeline.plan()), CARL);
        head.ask(DORA, 0, 3);
        head.events.clear();

        member.handle(failed(1), Instant::now());
        head.handle(failed(2));
        assert!(member.poll().is_none() && head.answers().is_empty());

        head.handle(failed(1));
        let [answer] = head.answers()[..] else {
            panic!("one answer was open");
        };
        let frame = wire::encode_frame(answer, StreamKind::Chat);
        assert!(frame.len() < 2 * REASON_BYTES_MAX);
    }

    #[test]
    fn a_header_that_cannot_be_followed_ends_the_ring() {
        let plan = Arc::new(testing::plan(&[ANNA, BELA]));
        let mut member = Pipeline::<()>::new(plan, BELA);
        let step = Arc::new(Step {
            epoch: Epoch(1),
            id: StepId(0),
            cache_ops: Vec::new(),
            runs: Vec::new(),
        });

        member.handle(InEvent::Step { from: ANNA, step }, Instant::now());

        assert!(matches!(
            member.poll(),
            Some(OutEvent::SendFailure { to: ANNA, .. })
        ));
    }

    /// A head, its first stage, and all that it wanted done.
    struct Ring {
        pipeline: Pipeline<()>,
        events: Vec<OutEvent<()>>,
    }

    impl Ring {
        fn new(plan: Plan) -> Self {
            let me = plan.head;

            Self {
                pipeline: Pipeline::new(Arc::new(plan), me),
                events: Vec::new(),
            }
        }

        fn handle(&mut self, event: InEvent<()>) {
            self.pipeline.handle(event, Instant::now());
            self.events
                .extend(std::iter::from_fn(|| self.pipeline.poll()));
        }

        fn ask(&mut self, asker: PeerId, number: u64, n_tokens: usize) {
            self.ask_tokens(asker, number, vec![1; n_tokens]);
        }

        fn ask_tokens(&mut self, asker: PeerId, number: u64, prompt: Vec<Token>) {
            let request = request(asker, number);

            self.handle(InEvent::Ask {
                request,
                ask: ask(),
            });
            self.handle(InEvent::Opened { request, prompt });
        }

        fn cancel(&mut self, asker: PeerId, number: u64) {
            let request = request(asker, number);

            self.handle(InEvent::Cancel { request });
        }

        /// The whole ring runs a step; the head has yet to sample it.
        fn come_round(&mut self, step: StepId) {
            let (epoch, hidden) = (Epoch(1), ());
            let tail = self.pipeline.plan().stages.last().map(|stage| stage.phone);

            self.handle(InEvent::Embedded { step, hidden });
            self.handle(InEvent::Computed { step, hidden });
            self.handle(InEvent::Activation {
                from: tail.expect("there are stages"),
                epoch,
                step,
                hidden,
            });
        }

        /// Returns how many tokens each step had.
        fn embeds(&self) -> Vec<usize> {
            let embeds = self.events.iter().filter_map(|event| match event {
                OutEvent::Embed { tokens, .. } => Some(tokens.len()),
                _ => None,
            });

            embeds.collect()
        }

        fn answers(&self) -> Vec<&Answer> {
            let answers = self.events.iter().filter_map(|event| match event {
                OutEvent::Answer { answer, .. } => Some(answer),
                _ => None,
            });

            answers.collect()
        }
    }

    fn request(asker: PeerId, number: u64) -> RequestId {
        RequestId { asker, number }
    }

    fn ask() -> Arc<Ask> {
        Arc::new(Ask {
            prompt: Prompt::Text("hello".into()),
            max_tokens: 10,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: false,
            written: Vec::new(),
        })
    }

    fn sample() -> Sample {
        Sample {
            token: 5,
            text: "five".into(),
            end: false,
        }
    }
}

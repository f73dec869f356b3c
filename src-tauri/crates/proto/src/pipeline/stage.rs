//! One phone's layers: runs each step once its header and its activation are there.
//!
//! ```text
//!   header ─────┐
//!               ├─► Compute ─► Computed ─► SendActivation     steps in order, one at a time
//!   activation ─┘
//! ```
//!
//! The two come by different ways and in either order; steps run in the order of their numbers, so that
//! every stage's cache goes through the same history.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::plan::Plan;
use crate::wire::{Step, StepError};
use crate::{PeerId, StepId};

use super::{OutEvent, steps_in_flight_max};

/// What runs, and what waits for its other half.
#[derive(Debug)]
pub(super) struct Stage<H> {
    plan: Arc<Plan>,
    /// Phone whose activations go in here.
    upstream: PeerId,
    /// Phone that gets ours: the next stage's, or the head.
    downstream: PeerId,
    last: bool,
    /// The step that runs next.
    next: StepId,
    running: Option<Arc<Step>>,
    steps: BTreeMap<StepId, Arc<Step>>,
    activations: BTreeMap<StepId, H>,
    /// Whether the plan is broken: nothing more is taken.
    is_broken: bool,
    events: VecDeque<OutEvent<H>>,
}

impl<H> Stage<H> {
    /// Takes up the stage that `plan` gives to `me`, if it gives one.
    pub(super) fn new(plan: &Arc<Plan>, me: PeerId) -> Option<Self> {
        let (position, _) = plan.stage_of(me)?;
        let before = position.checked_sub(1).and_then(|i| plan.stages.get(i));
        let after = plan.stages.get(position + 1);

        Some(Self {
            plan: Arc::clone(plan),
            upstream: before.map_or(plan.head, |stage| stage.phone),
            downstream: after.map_or(plan.head, |stage| stage.phone),
            last: after.is_none(),
            next: StepId(0),
            running: None,
            steps: BTreeMap::new(),
            activations: BTreeMap::new(),
            is_broken: false,
            events: VecDeque::new(),
        })
    }

    pub(super) fn upstream(&self) -> PeerId {
        self.upstream
    }

    /// Takes the header of a step that is awaited; any other is dropped.
    ///
    /// # Errors
    ///
    /// As [`Step::validate`]. The ring cannot go on then: no later step runs before this one.
    pub(super) fn step(&mut self, step: Arc<Step>) -> Result<(), StepError> {
        if self.accepts(step.id).is_break() {
            return Ok(());
        }
        step.validate(&self.plan)?;

        self.steps.entry(step.id).or_insert(step);
        self.run_next();

        Ok(())
    }

    pub(super) fn activation(&mut self, step: StepId, hidden: H) {
        if self.accepts(step).is_break() {
            return;
        }

        self.activations.entry(step).or_insert(hidden);
        self.run_next();
    }

    pub(super) fn computed(&mut self, id: StepId, hidden: H) {
        let Some(step) = self.running.take_if(|step| step.id == id) else {
            tracing::warn!(step = %id, "Result of a step that does not run, dropped");
            return;
        };

        if self.plan.relay_headers && !self.last {
            self.events.push_back(OutEvent::SendStep {
                to: self.downstream,
                step: Arc::clone(&step),
            });
        }
        self.events.push_back(OutEvent::SendActivation {
            to: self.downstream,
            epoch: step.epoch,
            step: step.id,
            hidden,
        });
        self.run_next();
    }

    /// The plan is broken: of what waits for its other half, that will not come.
    pub(super) fn plan_failed(&mut self) {
        self.is_broken = true;
        self.steps.clear();
        self.activations.clear();
    }

    pub(super) fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.steps.is_empty() && self.activations.is_empty()
    }

    /// Returns whether a step lies in the window that the head's credits allow. Nothing else is kept,
    /// so what waits here is bounded whatever others send.
    fn accepts(&self, step: StepId) -> ControlFlow<()> {
        if self.is_broken {
            return ControlFlow::Break(());
        }
        let window = steps_in_flight_max(&self.plan) as u64;
        let window = self.next.0..self.next.0.saturating_add(window);
        if window.contains(&step.0) {
            return ControlFlow::Continue(());
        }

        tracing::debug!(%step, next = %self.next, "Step outside the window, dropped");
        ControlFlow::Break(())
    }

    fn run_next(&mut self) {
        if self.running.is_some() || !self.activations.contains_key(&self.next) {
            return;
        }
        let Some(step) = self.steps.remove(&self.next) else {
            return;
        };
        let hidden = self.activations.remove(&self.next).expect("just seen");

        self.next.0 += 1;
        self.running = Some(Arc::clone(&step));
        self.events.push_back(OutEvent::Compute {
            step,
            hidden,
            last: self.last,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, ANNA, BELA, CARL};
    use crate::wire::Run;
    use crate::{Epoch, SequenceId};

    #[test]
    fn a_step_runs_once_both_halves_are_there_in_either_order() {
        let mut stage = stage();

        stage.step(header(0)).unwrap();
        assert_eq!(computes(&mut stage), []);
        stage.activation(StepId(0), "first");
        assert_eq!(computes(&mut stage), [(StepId(0), "first")]);
        stage.computed(StepId(0), "done");

        stage.activation(StepId(1), "second");
        assert_eq!(computes(&mut stage), []);
        stage.step(header(1)).unwrap();
        assert_eq!(computes(&mut stage), [(StepId(1), "second")]);
    }

    #[test]
    fn steps_run_one_at_a_time_in_the_order_of_their_numbers() {
        let mut stage = stage();
        for id in [2, 0, 1] {
            stage.step(header(id)).unwrap();
            stage.activation(StepId(id), "rows");
        }

        let order = (0..3).map(|_| {
            let [(step, hidden)] = computes(&mut stage)[..] else {
                panic!("not one at a time");
            };
            stage.computed(step, hidden);
            step.0
        });

        assert_eq!(order.collect::<Vec<_>>(), [0, 1, 2]);
        assert!(stage.is_idle());
    }

    #[test]
    fn a_broken_plan_leaves_nothing_to_wait_for() {
        let mut stage = stage();
        stage.step(header(0)).unwrap();
        assert!(!stage.is_idle());

        stage.plan_failed();
        stage.step(header(1)).unwrap();
        stage.activation(StepId(0), "late");

        assert!(stage.is_idle());
        assert_eq!(computes(&mut stage), []);
    }

    #[test]
    fn what_came_before_is_not_replaced_and_does_not_run_again() {
        let mut stage = stage();
        stage.activation(StepId(0), "first");
        stage.activation(StepId(0), "a lie");
        stage.step(header(0)).unwrap();
        assert_eq!(computes(&mut stage), [(StepId(0), "first")]);
        stage.computed(StepId(0), "done");

        stage.step(header(0)).unwrap();
        stage.activation(StepId(0), "again");

        assert_eq!(computes(&mut stage), []);
        assert!(stage.is_idle());
    }

    #[test]
    fn what_waits_is_bounded_whatever_is_sent() {
        let mut stage = stage();

        for id in (1..10_000).chain(u64::MAX - 100..=u64::MAX) {
            stage.step(header(id)).unwrap();
            stage.activation(StepId(id), "rows");
        }

        // Three stages: three decode steps and four chunks, of which the first is awaited.
        assert_eq!((stage.steps.len(), stage.activations.len()), (6, 6));
    }

    #[test]
    fn a_header_that_leaves_the_plan_is_refused() {
        let mut step = Step::clone(&header(0));
        step.runs[0].position = u32::MAX;

        assert!(stage().step(Arc::new(step)).is_err());
    }

    #[test]
    fn a_relayed_header_goes_on_with_its_activation() {
        for relay_headers in [false, true] {
            let mut plan = testing::plan(&[ANNA, BELA, CARL]);
            plan.relay_headers = relay_headers;
            let mut stage = Stage::new(&Arc::new(plan), BELA).expect("it has a stage");
            stage.step(header(0)).unwrap();
            stage.activation(StepId(0), "rows");
            stage.computed(StepId(0), "done");

            let sends_header = std::iter::from_fn(|| stage.poll())
                .any(|event| matches!(event, OutEvent::SendStep { to: CARL, .. }));

            assert_eq!(sends_header, relay_headers);
        }
    }

    /// Returns the middle one of three stages.
    fn stage() -> Stage<&'static str> {
        let plan = testing::plan(&[ANNA, BELA, CARL]);

        Stage::new(&Arc::new(plan), BELA).expect("it has a stage")
    }

    fn header(id: u64) -> Arc<Step> {
        Arc::new(Step {
            epoch: Epoch(1),
            id: StepId(id),
            cache_ops: Vec::new(),
            runs: vec![Run {
                sequence: SequenceId(0),
                position: 0,
                n_tokens: 1,
                n_wanted: 1,
            }],
        })
    }

    fn computes(stage: &mut Stage<&'static str>) -> Vec<(StepId, &'static str)> {
        std::iter::from_fn(|| stage.poll())
            .filter_map(|event| {
                let OutEvent::Compute { step, hidden, .. } = event else {
                    return None;
                };
                Some((step.id, hidden))
            })
            .collect()
    }
}

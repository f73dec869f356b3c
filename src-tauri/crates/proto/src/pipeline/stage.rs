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
use crate::wire::Step;
use crate::{PeerId, StepId};

use super::OutEvent;
use super::head::STEPS_IN_FLIGHT_MAX;

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
            events: VecDeque::new(),
        })
    }

    pub(super) fn upstream(&self) -> PeerId {
        self.upstream
    }

    pub(super) fn step(&mut self, step: Arc<Step>) {
        if self.accepts(step.id).is_break() {
            return;
        }
        if let Err(error) = step.validate(&self.plan) {
            tracing::warn!(step = %step.id, %error, "Step header refused");
            return;
        }

        self.steps.entry(step.id).or_insert(step);
        self.run_next();
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

    pub(super) fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.steps.is_empty() && self.activations.is_empty()
    }

    /// Returns whether a step lies in the window that the head's credits allow. Nothing else is kept,
    /// so what waits here is bounded whatever others send.
    fn accepts(&self, step: StepId) -> ControlFlow<()> {
        let window = self.next.0..self.next.0.saturating_add(STEPS_IN_FLIGHT_MAX as u64);
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

//! Members and screens learn how this phone is, and what it runs.

use std::collections::BTreeMap;
use std::time::Instant;

use gguf_tools::Manifest;

use super::{Load, OutEvent, PeerId, Phone, Policy, ring, sparing, standing, transfer};
use crate::device::Snapshot;
use crate::placement::{Forecast, Reason};
use crate::plan::Plan;
use crate::reconfig::Status;
use crate::relay::ClientId;
use crate::standing::{
    Preparation, PreparationStep, Run, RunPhase, RunStage, SHOW_INTERVAL, Speed, Standing,
};
use crate::wire::{Control, Step};
use crate::{Epoch, group::Name};

/// When what this phone runs is told next.
#[derive(Debug)]
pub(super) struct Told {
    is_run_changed: bool,
    may_tell_run_at: Instant,
    /// How this phone is, whatever its person allows.
    pub(super) device: Option<Snapshot>,
    /// The step that the engine computes.
    computing: Option<Computing>,
}

/// A step that the engine computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Computing {
    n_layers: u32,
    n_tokens: u32,
    /// Whether its tokens are those of answers.
    is_decode: bool,
    since: Instant,
}

impl Told {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_run_changed: false,
            may_tell_run_at: now,
            device: None,
            computing: None,
        }
    }

    /// What this phone runs has changed.
    pub(super) fn run_changed(&mut self) {
        self.is_run_changed = true;
    }

    /// Returns when that is told.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.is_run_changed.then_some(self.may_tell_run_at)
    }
}

impl<H, C> Phone<H, C> {
    /// Changes how this phone is.
    pub(super) fn change_mine(&mut self, now: Instant, change: impl FnOnce(&mut Standing)) {
        let mut mine = self.standings.mine().clone();
        change(&mut mine);

        self.standings
            .handle(standing::InEvent::Mine(Box::new(mine)), now);
    }

    /// Tells what has changed of what this phone runs, when it is time.
    pub(super) fn tell_standing(&mut self, now: Instant) {
        for beat in self.ring.questions().take_beats() {
            self.standings.handle(standing::InEvent::Beat(beat), now);
        }
        if self.ring.questions().take_changed() {
            self.told.run_changed();
        }
        if self.told.poll_timeout().is_none_or(|due| due > now) {
            return;
        }

        self.told.is_run_changed = false;
        self.told.may_tell_run_at = now + SHOW_INTERVAL;
        let run = self.run_told().map(Box::new);
        self.change_mine(now, |mine| mine.run = run);
    }

    /// Carries out what the standings want.
    pub(super) fn route_standing(&mut self, event: standing::OutEvent) {
        match event {
            standing::OutEvent::Send { to, message } => {
                self.send_control(to, Control::Standing(message));
            }
            standing::OutEvent::Show(mut board) => {
                board.asked_here = self.asked_here(board.run.as_ref());
                self.events.push_back(OutEvent::Show(board));
            }
            standing::OutEvent::Beat(beat) => self.events.push_back(OutEvent::Beat(beat)),
        }
    }

    /// Returns the screens of this phone that asked what is under way.
    fn asked_here(&self, run: Option<&Run>) -> BTreeMap<u64, ClientId> {
        let questions = run.into_iter().flat_map(|run| run.questions.iter());
        let mine = questions.filter(|question| question.asker == self.me);
        let asked = mine.map(|question| question.number);

        asked
            .filter_map(|number| Some((number, self.ring.client_of(number)?)))
            .collect()
    }

    /// Tells the standings who belongs, who leads, and who is connected.
    pub(super) fn tell_members(&mut self, now: Instant) {
        let members = self.members();
        let connected = members.iter().copied();
        let connected = connected.filter(|member| self.connected.contains(member));

        let event = standing::InEvent::Members {
            connected: connected.collect(),
            members: members.into_iter().collect(),
            leader: self.leader,
        };
        self.standings.handle(event, now);
    }

    /// A member says how it is, or others are.
    pub(super) fn hear_standing(&mut self, from: PeerId, message: standing::Message, now: Instant) {
        let before = self.standings.policies();
        self.standings
            .handle(standing::InEvent::Heard { from, message }, now);

        // What a person allows has changed: another plan may be better, or the last one not possible. What is heard for
        // the first time was known to the survey.
        let after = self.standings.policies();
        let changed = |(phone, policy)| after.get(phone).is_some_and(|now| now != policy);
        if before.iter().any(changed)
            && let Some(planning) = &mut self.planning
        {
            planning.reconsider();
        }
    }

    /// A person allows this phone something else.
    pub(super) fn set_policy(&mut self, policy: Policy, now: Instant) {
        if std::mem::replace(&mut self.policy, policy) == policy {
            return;
        }

        if let Some(device) = self.told.device {
            self.cared_for(device, now);
        }
        if let Some(planning) = &mut self.planning {
            planning.reconsider();
        }
    }

    /// This phone gets ready for its part of a plan.
    pub(super) fn preparing(&mut self, plan: &Plan, manifest: &Manifest, now: Instant) {
        let shards = plan.shards_of(self.me, manifest);
        let total_bytes = shards.map(|shard| shard.bytes).sum();
        self.load = sparing::load_of(plan, self.me, manifest);

        self.set_preparation(
            Some(Preparation {
                step: PreparationStep::Waiting,
                done_bytes: 0,
                total_bytes,
                rate_bytes_per_s: 0,
                left_s: None,
                source: None,
            }),
            now,
        );
        self.told.run_changed();
    }

    /// Its shards come in, or are checked.
    pub(super) fn fetching(&mut self, progress: &transfer::Progress, now: Instant) {
        let known = self.standings.mine().preparation;
        let is_early = known.is_some_and(|p| p.step < PreparationStep::Loading);
        if progress.purpose != transfer::Purpose::Own || !is_early {
            return;
        }

        let step = match progress.source {
            Some(_) => PreparationStep::Fetching,
            None => PreparationStep::Checking,
        };
        let left_s = progress
            .left
            .map(|left| left.as_secs().min(u32::MAX.into()) as u32);
        self.set_preparation(
            Some(Preparation {
                step,
                done_bytes: progress.held_bytes,
                total_bytes: progress.total_bytes,
                rate_bytes_per_s: progress.rate_bytes_per_s,
                left_s,
                source: progress.source,
            }),
            now,
        );
    }

    /// Its engine loads them.
    pub(super) fn loading(&mut self, fraction: f32, now: Instant) {
        let fraction = fraction.clamp(0.0, 1.0);

        self.prepared(now, |total_bytes| {
            let done_bytes = (total_bytes as f64 * f64::from(fraction)) as u64;
            (PreparationStep::Loading, done_bytes)
        });
    }

    /// This phone has no part in a plan any more.
    pub(super) fn prepared_nothing(&mut self, now: Instant) {
        self.told.computing = None;
        self.load = Load::default();
        self.change_mine(now, |mine| {
            mine.preparation = None;
            mine.layers_per_s = None;
        });
    }

    fn prepared(&mut self, now: Instant, how: impl FnOnce(u64) -> (PreparationStep, u64)) {
        let Some(known) = self.standings.mine().preparation else {
            return;
        };
        let (step, done_bytes) = how(known.total_bytes);

        self.set_preparation(
            Some(Preparation {
                step,
                done_bytes,
                rate_bytes_per_s: 0,
                left_s: None,
                ..known
            }),
            now,
        );
    }

    fn set_preparation(&mut self, preparation: Option<Preparation>, now: Instant) {
        self.change_mine(now, |mine| mine.preparation = preparation);
    }

    /// Takes note of what the engine has done.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "two kinds of event tell of the engine's work"
    )]
    pub(super) fn note_work(&mut self, event: &ring::InEvent<H>, now: Instant) {
        match event {
            ring::InEvent::Loaded { .. } => {
                self.prepared(now, |total_bytes| (PreparationStep::Ready, total_bytes));
            }
            ring::InEvent::Computed { .. } => {
                if let Some(computing) = self.told.computing.take() {
                    let took = now.saturating_duration_since(computing.since);
                    let event = standing::InEvent::Computed {
                        n_layers: computing.n_layers,
                        n_tokens: computing.n_tokens,
                        decoded_in: computing.is_decode.then_some(took),
                    };
                    self.standings.handle(event, now);
                }
            }
            _ => {}
        }
    }

    /// The engine begins a step.
    pub(super) fn computing(&mut self, step: &Step, now: Instant) {
        let plan = self.ring.plan();
        let stage = plan.and_then(|plan| plan.stage_of(self.me));
        let n_tokens = u32::try_from(step.n_tokens()).unwrap_or(u32::MAX);

        self.told.computing = stage.map(|(_, stage)| Computing {
            n_layers: stage.layers.len(),
            n_tokens,
            is_decode: step.runs.iter().all(|run| run.n_tokens == 1),
            since: now,
        });
    }

    /// Returns what this phone runs, as it tells. What it would run if it led is nobody's business.
    fn run_told(&mut self) -> Option<Run> {
        if !self.leads() && !self.waits_for_lead() {
            return None;
        }

        let questions = self.ring.questions();
        let (open, measured) = (questions.open().collect(), questions.measured());
        let n_questions = u32::try_from(questions.len()).unwrap_or(u32::MAX);
        let work = self.planning.as_ref()?.work();
        let plan = self.ring.reconfig().newest();
        let plan = plan.filter(|plan| plan.model == work.manifest.hash());

        Some(Run {
            model: self.started.model,
            name: Name::tidy(&work.manifest.name),
            n_layers: work.manifest.n_layers,
            started_by: self.started.by.unwrap_or(self.me),
            phase: self.phase(),
            epoch: plan.map_or(Epoch(0), |plan| plan.epoch),
            stages: plan.map_or_else(Default::default, |plan| {
                let stages = plan.stages.iter();
                let stages = stages.map(|stage| RunStage {
                    phone: stage.phone,
                    layers: (stage.layers.start(), stage.layers.end()),
                    ms_per_token: self.ms_per_token(stage.phone),
                });
                stages.collect()
            }),
            head: plan.map(|plan| plan.head),
            forecast: self
                .started
                .outlook
                .as_ref()
                .map(|outlook| Speed::of(&outlook.placement.forecast)),
            measured,
            questions: open,
            n_questions,
        })
    }

    fn phase(&self) -> RunPhase {
        let again = self.started.has_run;

        match (self.ring.reconfig().status(), self.started.trouble) {
            (Status::InForce, _) => RunPhase::Ready,
            (Status::Preparing, _) => RunPhase::Preparing { again },
            (Status::Failed(_) | Status::None, Some(trouble)) => RunPhase::Failed(trouble),
            (Status::Failed(_) | Status::None, None) => RunPhase::Measuring,
        }
    }

    /// Returns what a phone's part adds to a token, as the last plan was made.
    fn ms_per_token(&self, phone: PeerId) -> Option<f32> {
        let outlook = self.started.outlook.as_ref()?;
        let mut verdicts = outlook.placement.verdicts.iter();
        let verdict = verdicts.find(|verdict| verdict.phone == phone)?;

        if let Reason::Runs { ms_per_token, .. } = verdict.reason {
            Some(ms_per_token as f32)
        } else {
            None
        }
    }
}

impl Speed {
    /// Returns a forecast as it is told.
    pub fn of(forecast: &Forecast) -> Self {
        Self {
            ttft_s: forecast.ttft_s as f32,
            tpot_s: forecast.tpot_s as f32,
        }
    }
}

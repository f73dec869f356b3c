//! The leader's way to a plan: who is here, what they can do, and which placement follows from that.
//!
//! ```text
//!  phones here ──► Survey: profiles, links ──► problem ──► placement ──► Plan
//!                     (not for an even split)
//! ```
//!
//! A [`Planning`] says when everything is known that a plan needs, and makes it. When a plan is wanted, and what
//! becomes of it, is [`crate::phone`]'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use gguf_tools::{Manifest, Sample};

use crate::balance::Balance;
use crate::chat::Figures;
use crate::device::{Relief, Snapshot};
use crate::group::Roster;
use crate::placement::{
    self, Availability, Forecast, Measured, Miss, Objective, Placement, Problem, SolveError,
    StagePlacement,
};
use crate::plan::{Plan, PlanError, STAGES_MAX, Sizes, Spare};
use crate::profile::survey::{self, Survey};
use crate::profile::{Candidate, Costs, Group, Knowledge, Message, problem};
use crate::{Epoch, PeerId};

/// Links that are measured at once: phones on one Wi-Fi share the air.
const PROBES_AT_ONCE: usize = 1;

/// Tokens of an answer at least for it to be held against the forecast: of fewer, the first one's neighbours weigh too
/// much.
const REVIEWED_TOKENS_MIN: u32 = 8;

/// A model that is to be run.
#[derive(Debug, Clone)]
pub struct Work {
    /// The model.
    pub manifest: Arc<Manifest>,
    /// What phones measure themselves with.
    pub sample: Arc<Sample>,
    /// What it is run with.
    pub sizes: Sizes,
    /// Phones that are waited for, this one among them, before the first plan is made. Later plans
    /// are made with those that are there.
    pub n_phones: usize,
    /// Which placement is wanted.
    pub rule: Rule,
    /// Tokens of the prompt to plan for.
    pub prompt_tokens: u32,
    /// What llama.cpp takes beside weights and caches.
    pub costs: Costs,
    /// Flash of each phone that may be filled with its neighbours' shards.
    pub flash_quota_bytes: u64,
}

/// Which placement is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The best for what was measured. It may be one phone.
    Best(Objective),
    /// As many shards on every phone, whatever they can do: to compare with, and to be quick where all are alike.
    Even,
}

/// What was known when a plan was made, and what is expected of it.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// What was known.
    pub problem: Problem,
    /// The placement.
    pub placement: Placement,
}

/// An answer beside what was expected of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Review {
    /// Tokens of its prompt that were not in the caches already.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// What it took.
    pub measured: Measured,
    /// What was expected of such a prompt when the plan was made.
    pub forecast: Forecast,
    /// How far that was out.
    pub miss: Miss,
    /// What was expected just before, corrected by the work until then; `None` if a figure has gone missing since.
    pub corrected: Option<Forecast>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The best placement could not be found, or there is none.
    #[error(transparent)]
    Solve(#[from] SolveError),
    /// An even split is not possible.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// This phone, which has the model, cannot do its part.
    #[error("{0}")]
    Unfit(String),
}

/// The leader's knowledge of the phones that could take part.
#[derive(Debug)]
pub struct Planning {
    me: PeerId,
    work: Work,
    survey: Survey,
    phones: BTreeSet<PeerId>,
    /// Phones that a person left out.
    excluded: BTreeSet<PeerId>,
    /// How phones are, as they told everybody; what they told the survey may be older.
    devices: BTreeMap<PeerId, Snapshot>,
    /// Phones that could not do their part of a plan, and why; until they leave.
    unfit: BTreeMap<PeerId, String>,
    /// Phones that have a part in the last plan that was possible.
    working: BTreeSet<PeerId>,
    /// What the last plan was made for, whether it was possible or not.
    planned_for: Option<Strength>,
    /// Whether another plan may follow from the same.
    is_stale: bool,
    /// What was expected of the last plan that was made of measurements.
    outlook: Option<Outlook>,
    balance: Balance,
}

/// Who may take part, as far as another plan follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Strength {
    phones: BTreeSet<PeerId>,
    /// Bytes of layer shards that phones ask to have no more of.
    at_most: BTreeMap<PeerId, u64>,
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

impl Work {
    fn survey_config(&self) -> survey::Config {
        survey::Config {
            sample: Arc::clone(&self.sample),
            model: self.manifest.hash(),
            chunk_numbers: self.sizes.chunk_tokens * self.manifest.n_embd,
            activation: self.sizes.activation,
            probes_at_once: PROBES_AT_ONCE,
        }
    }
}

impl Planning {
    /// Begins with nobody here.
    pub fn new(me: PeerId, work: Work) -> Self {
        Self::with(me, Survey::new(work.survey_config()), work)
    }

    /// The same, for one that never makes a plan, and may stand beside one that does.
    pub fn of_forecast(me: PeerId, work: Work) -> Self {
        Self::with(me, Survey::beside_another(work.survey_config()), work)
    }

    fn with(me: PeerId, survey: Survey, work: Work) -> Self {
        Self {
            me,
            survey,
            work,
            phones: BTreeSet::new(),
            excluded: BTreeSet::new(),
            devices: BTreeMap::new(),
            working: BTreeSet::new(),
            unfit: BTreeMap::new(),
            planned_for: None,
            is_stale: false,
            outlook: None,
            balance: Balance::default(),
        }
    }

    /// Returns what is to be run.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Returns the phone that would be the head.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Returns what is known of the phones.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Learns what another survey has found out about phones that will be here next.
    pub fn learn(&mut self, other: &Survey, phones: &BTreeSet<PeerId>, now: Instant) {
        if let Rule::Best(_) = self.work.rule {
            self.survey.learn(other, phones, now);
        }
    }

    /// Somebody has changed what their phone may do, or it is known at last what it can, or the plan is lost: another may be
    /// due.
    pub fn reconsider(&mut self) {
        self.is_stale = true;
    }

    /// Takes note of who is here; nobody, while this phone does not lead.
    pub fn set_phones(&mut self, phones: BTreeSet<PeerId>, now: Instant) {
        if phones == self.phones {
            return;
        }
        for &gone in self.phones.difference(&phones) {
            self.unfit.remove(&gone);
        }
        if let Rule::Best(_) = self.work.rule {
            for &gone in self.phones.difference(&phones) {
                self.survey.handle(survey::InEvent::Left(gone), now);
            }
            for &new in phones.difference(&self.phones) {
                self.survey.handle(survey::InEvent::Joined(new), now);
            }
        }

        self.phones = phones;
    }

    /// Returns whether a phone was here when that was looked at last.
    pub fn has(&self, phone: PeerId) -> bool {
        self.phones.contains(&phone)
    }

    /// Leaves these phones out, and lets all others take part.
    pub fn set_excluded(&mut self, phones: BTreeSet<PeerId>) {
        self.excluded = phones;
    }

    /// Takes note of how phones are: some may have to be spared.
    pub fn set_devices(&mut self, devices: BTreeMap<PeerId, Snapshot>) {
        self.devices = devices;
    }

    /// Takes note of what a phone said about itself, or about a link.
    pub fn hear(&mut self, from: PeerId, message: Message, now: Instant) {
        let was_silent = self.survey.is_silent(from);
        self.survey
            .handle(survey::InEvent::Message { from, message }, now);

        if was_silent && !self.survey.is_silent(from) {
            self.reconsider();
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.survey.handle_timeout(now);
    }

    /// Returns when that is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.survey.poll_timeout()
    }

    /// Returns whether [`Self::poll`] may have something.
    pub fn wants_anything(&self) -> bool {
        self.survey.wants_anything()
    }

    /// Returns the next message to a phone, which may be this one.
    pub fn poll(&mut self) -> Option<(PeerId, Message)> {
        loop {
            match self.survey.poll()? {
                survey::OutEvent::Send { to, message } => return Some((to, message)),
                survey::OutEvent::Done => {} // see `is_ready`
            }
        }
    }

    /// A phone cannot do its part: it gets none until it leaves and comes back.
    pub fn unfit(&mut self, phone: PeerId, reason: String) {
        self.unfit.insert(phone, reason);
    }

    /// Returns whether everything about the phones is known that a plan needs. Others are given up on when they are
    /// silent; this phone, which would hold the ends, is not.
    pub fn is_known(&self) -> bool {
        match self.work.rule {
            Rule::Even => true,
            Rule::Best(_) => self.survey.is_done() && !self.survey.is_silent(self.me),
        }
    }

    /// Returns whether another plan may be possible or better than the last one: the phones are others, and everything
    /// about them is known.
    pub fn is_due(&self) -> bool {
        self.is_known() && (self.is_stale || self.planned_for.as_ref() != Some(&self.strength()))
    }

    /// Returns the phones for whose sake another plan is due, and how they are: they have a part in the last one, and ask
    /// for relief that they were not given yet, or were left out by a person.
    pub fn pressing(&self) -> impl Iterator<Item = Option<&Snapshot>> {
        let planned_for = self.planned_for.as_ref();
        let is_too_much = move |phone: &&PeerId| {
            self.excluded.contains(phone)
                || match self.relief_of(phone) {
                    Relief::Rest(_) => true,
                    Relief::AtMost { shards_bytes, .. } => {
                        let granted = planned_for.and_then(|p| p.at_most.get(*phone));
                        granted != Some(&shards_bytes)
                    }
                    Relief::None => false,
                }
        };
        let pressing = self.working.iter().filter(is_too_much);

        let pressing = pressing.filter(|_| self.is_due());
        pressing.map(|phone| self.devices.get(phone))
    }

    /// Returns a phone that has a part in the last plan, and takes part no more, whatever becomes of the plan.
    pub fn forbidden(&self) -> Option<PeerId> {
        let mut working = self.working.iter().copied();

        working.find(|phone| {
            self.excluded.contains(phone) || matches!(self.relief_of(phone), Relief::Rest(_))
        })
    }

    /// Makes a plan. `roster` has the phones' names.
    ///
    /// # Errors
    ///
    /// Any [`PlanningError`]; another try is due when the phones are others.
    pub fn plan(
        &mut self,
        epoch: Epoch,
        roster: Option<&Roster>,
        now: Instant,
    ) -> Result<(Plan, Option<Outlook>), PlanningError> {
        let made = self.make(epoch, roster, now);
        if let Ok((plan, _)) = &made {
            self.working = plan.stages.iter().map(|stage| stage.phone).collect();
        }
        self.planned_for = Some(self.strength());
        self.is_stale = false;

        made
    }

    fn make(
        &mut self,
        epoch: Epoch,
        roster: Option<&Roster>,
        now: Instant,
    ) -> Result<(Plan, Option<Outlook>), PlanningError> {
        if let Some(reason) = self.unfit.get(&self.me) {
            return Err(PlanningError::Unfit(reason.clone()));
        }

        match self.work.rule {
            Rule::Even => Ok((self.even(epoch)?, None)),
            Rule::Best(objective) => {
                if let Some(reason) = self.survey.failure_of(self.me) {
                    let reason = format!("this phone could not be measured: {reason}");
                    return Err(PlanningError::Unfit(reason));
                }
                let problem = self.problem_for(objective, roster, now);
                let placement = placement::solve(&problem)?;
                let plan = self.plan_of(epoch, &problem, &placement)?;
                let outlook = Outlook { problem, placement };
                self.outlook = Some(outlook.clone());
                Ok((plan, Some(outlook)))
            }
        }
    }

    /// The last plan was proposed, as it is not the one in force.
    pub fn proposed(&mut self, now: Instant) {
        self.balance.proposed(now);
    }

    /// It is in force.
    pub fn in_force(&mut self, now: Instant) {
        self.balance.in_force(now);
    }

    /// Holds an answer that had the ring to itself against what was expected of it, and learns from the difference what
    /// hops take; what computing takes, phones say themselves. `None` if nothing was expected, or the answer is too short.
    pub fn answered(&mut self, figures: &Figures, now: Instant) -> Option<Review> {
        self.balance.wrote(figures.completion_tokens);
        let outlook = self.outlook.as_ref()?;
        if figures.completion_tokens < REVIEWED_TOKENS_MIN {
            return None;
        }
        let prompt_tokens = figures.prompt_tokens.saturating_sub(figures.cached_tokens);
        let measured = Measured {
            ttft_s: figures.ttft_ms / 1e3,
            tpot_s: figures.tpot_ms / 1e3,
        };
        let (stages, objective) = (&outlook.placement.stages, outlook.problem.objective);

        let forecast = forecast_of(outlook.problem.clone(), stages, prompt_tokens)?;
        let known = self.problem_for(objective, None, now);
        let corrected = forecast_of(known, stages, prompt_tokens);
        let stages = stages.clone();
        if let Some(corrected) = corrected {
            self.learn_hops(&stages, &corrected, measured.tpot_s, now);
            self.weigh(&stages, objective, now);
        }

        Some(Review {
            prompt_tokens,
            completion_tokens: figures.completion_tokens,
            miss: forecast.miss(measured),
            measured,
            forecast,
            corrected,
        })
    }

    /// Holds the plan in force against the best one, by what is known now: another may be due.
    fn weigh(&mut self, stages: &[StagePlacement], objective: Objective, now: Instant) {
        if !self.balance.wants_comparison(now) {
            return;
        }
        let problem = self.problem_for(objective, None, now);
        let mut as_it_is = problem.clone();
        let works = |phone: &&mut placement::Phone| self.working.contains(&phone.id);
        for phone in as_it_is.phones.iter_mut().filter(works) {
            phone.availability = Availability::Ready; // a tired one keeps what it has
        }
        let in_force = placement::evaluate(&as_it_is, stages).ok();
        let best = placement::solve_without_reasons(&problem).ok();
        let (Some(in_force), Some(best)) = (in_force, best) else {
            return;
        };

        let token_s = |forecast: &Forecast| match objective {
            Objective::Latency => forecast.tpot_s,
            Objective::Throughput => forecast.busiest_s,
        };
        let (in_force_s, best_s) = (token_s(&in_force), token_s(&best.forecast));
        if self.balance.compare(in_force_s, best_s, now) {
            tracing::info!(in_force_s, best_s, "Another plan is worth the change");
            self.reconsider();
        }
    }

    /// What a lap takes beside computing are hops: corrects the ways of the ring by it, once it is known from the work
    /// itself what each phone computes.
    fn learn_hops(
        &mut self,
        stages: &[StagePlacement],
        expected: &Forecast,
        tpot_s: f64,
        now: Instant,
    ) {
        let surveyed = self.survey.phones(now);
        let all_tell = stages.iter().all(|stage| {
            let known = surveyed.get(&stage.phone).map(|phone| &phone.knowledge);
            matches!(known, Some(Knowledge::Measured(profile)) if profile.pace.decode.is_some())
        });
        let hops_s = tpot_s - expected.compute_s;
        if !all_tell || expected.hops_s <= 0.0 || hops_s <= 0.0 {
            return;
        }

        let around = stages.iter().map(|stage| stage.phone).chain([self.me]);
        let from = std::iter::once(self.me).chain(stages.iter().map(|stage| stage.phone));
        let ways = from.zip(around).filter(|(from, to)| from != to);
        let hops = survey::InEvent::Hops {
            ways: ways.collect(),
            ratio: hops_s / expected.hops_s,
        };
        self.survey.handle(hops, now);
    }

    /// Returns who may take part. One that is tired may keep what it has, and gets nothing new.
    fn strength(&self) -> Strength {
        let may_work = |phone: &PeerId| {
            self.is_fit(*phone)
                && match self.relief_of(phone) {
                    Relief::None => !self.is_tired(phone) || self.working.contains(phone),
                    Relief::AtMost { shards_bytes, .. } => shards_bytes > 0,
                    Relief::Rest(_) => false,
                }
        };
        let at_most = |&phone: &PeerId| match self.relief_of(&phone) {
            Relief::AtMost { shards_bytes, .. } => Some((phone, shards_bytes)),
            Relief::None | Relief::Rest(_) => None,
        };

        Strength {
            phones: self.phones.iter().copied().filter(may_work).collect(),
            at_most: self.phones.iter().filter_map(at_most).collect(),
        }
    }

    /// Returns whether there is another phone that could compute in place of one that rests. One that is alone does what
    /// its person asks of it.
    fn may_rest(&self) -> bool {
        self.phones.len() > 1
    }

    fn relief_of(&self, phone: &PeerId) -> Relief {
        let device = self.devices.get(phone).filter(|_| self.may_rest());

        device.map(|device| device.relief).unwrap_or_default()
    }

    fn is_tired(&self, phone: &PeerId) -> bool {
        let device = self.devices.get(phone).filter(|_| self.may_rest());

        device.is_some_and(|device| device.tiredness().is_some())
    }

    fn is_fit(&self, phone: PeerId) -> bool {
        !self.unfit.contains_key(&phone) && !self.excluded.contains(&phone)
    }

    fn even(&self, epoch: Epoch) -> Result<Plan, PlanError> {
        let phones = self.phones.iter().copied();
        let mut others = phones
            .filter(|phone| self.is_fit(*phone) && !self.is_tired(phone))
            .collect::<BTreeSet<_>>();
        others.remove(&self.me);
        let mut phones = vec![self.me];
        phones.extend(others);
        phones.truncate(self.work.manifest.layers.len().min(STAGES_MAX));

        Plan::even(epoch, &self.work.manifest, &phones, self.work.sizes)
    }

    /// Returns what placement is asked; `None` for an even split, for which nobody is measured.
    pub fn problem(&self, roster: Option<&Roster>, now: Instant) -> Option<Problem> {
        match self.work.rule {
            Rule::Even => None,
            Rule::Best(objective) => Some(self.problem_for(objective, roster, now)),
        }
    }

    fn problem_for(&self, objective: Objective, roster: Option<&Roster>, now: Instant) -> Problem {
        let (surveyed, links) = (self.survey.phones(now), self.survey.links(now));
        let names = self.phones.iter().map(|&phone| {
            let member = roster.and_then(|roster| roster.member(phone));
            let name = member.map_or("this phone".into(), |member| member.name.to_string());
            (phone, name)
        });
        let names = names.collect::<BTreeMap<_, _>>();

        let candidate = |(&id, name): (&PeerId, &'_ String)| {
            let known = surveyed.get(&id);
            let profile = known.and_then(|known| match &known.knowledge {
                Knowledge::Measured(profile) => Some(profile.as_ref()),
                Knowledge::Asked | Knowledge::Failed { .. } | Knowledge::Silent => None,
            });
            (
                id,
                name.clone(),
                profile,
                self.devices
                    .get(&id)
                    .or(known.and_then(|k| k.snapshot.as_ref())),
            )
        };
        let known = names.iter().map(candidate).collect::<Vec<_>>();
        let candidates = known.iter().map(|(id, name, profile, snapshot)| Candidate {
            id: *id,
            name,
            is_excluded: self.excluded.contains(id),
            is_unfit: self.unfit.contains_key(id),
            may_rest: self.may_rest(),
            profile: *profile,
            snapshot: *snapshot,
            flash_quota_bytes: self.work.flash_quota_bytes,
        });

        problem(&Group {
            manifest: &self.work.manifest,
            sample_layer_bytes: self.work.sample.layer_bytes(),
            head: self.me,
            phones: candidates.collect(),
            links: &links,
            sizes: self.work.sizes,
            prompt_tokens: self.work.prompt_tokens,
            costs: self.work.costs,
            objective,
        })
    }

    fn plan_of(
        &self,
        epoch: Epoch,
        problem: &Problem,
        placement: &Placement,
    ) -> Result<Plan, PlanError> {
        let index = |shard: usize| u32::try_from(shard).expect("a problem has few shards");
        let runs = placement.stages.iter().map(|stage| {
            let shards = index(stage.shards.start)..index(stage.shards.end);
            (stage.phone, shards)
        });
        let (manifest, sizes) = (&self.work.manifest, self.work.sizes);
        let mut plan = Plan::of_runs(epoch, manifest, placement.head, runs, sizes)?;

        let spares = placement::overlap(problem, &placement.stages).into_iter();
        plan.spares = spares
            .map(|spare| Spare {
                phone: spare.phone,
                shard: index(spare.shard),
            })
            .collect();
        plan.validate(manifest)?;

        Ok(plan)
    }
}

/// Returns what to expect of stages for a prompt of so many tokens; `None` if a figure is missing.
fn forecast_of(
    mut problem: Problem,
    stages: &[StagePlacement],
    prompt_tokens: u32,
) -> Option<Forecast> {
    problem.workload.prompt_tokens = prompt_tokens.max(1);
    problem.validate().ok()?;

    placement::evaluate(&problem, stages).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Thermal;
    use crate::placement::Reason;
    use crate::profile::testing::{SNAPSHOT, figure, profile, sample};
    use crate::profile::{Found, ProbeId};
    use crate::testing::{ANNA, BELA, CARL, SIZES, manifest};

    /// Who could not do its part gets none until it has left and come back.
    #[test]
    fn an_unfit_phone_is_planned_around_until_it_leaves() {
        let now = Instant::now();
        let mut planning = planning(Rule::Even);
        let all = BTreeSet::from([ANNA, BELA, CARL]);
        planning.set_phones(all.clone(), now);
        let phones = |planning: &mut Planning| {
            let (plan, _) = planning.plan(Epoch(1), None, now).expect("it is possible");
            plan.phones().collect::<BTreeSet<_>>()
        };
        assert_eq!(phones(&mut planning), all);
        assert!(!planning.is_due());

        planning.unfit(BELA, "its engine has crashed".into());
        assert!(planning.is_due());
        assert_eq!(phones(&mut planning), BTreeSet::from([ANNA, CARL]));

        planning.set_phones(BTreeSet::from([ANNA, CARL]), now);
        planning.set_phones(all.clone(), now);
        assert!(planning.is_due());
        assert_eq!(phones(&mut planning), all);
    }

    /// What a phone says of itself between two plans counts for the next.
    #[test]
    fn a_phone_that_became_hot_gets_nothing_in_the_next_plan() {
        let now = Instant::now();
        let mut planning = planning(Rule::Best(Objective::Latency));
        survey(&mut planning, &[ANNA, BELA], now);
        planning.plan(Epoch(1), None, now).expect("it is possible");

        let hot = Snapshot {
            thermal: Thermal::Serious,
            ..SNAPSHOT
        };
        planning.set_devices([(BELA, hot)].into());
        let (_, outlook) = planning.plan(Epoch(2), None, now).expect("it is possible");

        let outlook = outlook.expect("phones were measured");
        let of = |phone| {
            let place = outlook.problem.phones.iter().position(|p| p.id == phone);
            &outlook.placement.verdicts[place.expect("it is known")].reason
        };
        assert_eq!(*of(BELA), Reason::Tired(placement::Tiredness::Hot));
    }

    /// What a phone was given need not be given again, whatever else another plan is due for.
    #[test]
    fn relief_presses_until_it_was_given_and_an_order_until_it_was_followed() {
        let now = Instant::now();
        let mut planning = planning(Rule::Best(Objective::Latency));
        survey(&mut planning, &[ANNA, BELA], now);
        let device = |shards_bytes| Snapshot {
            relief: Relief::AtMost {
                shards_bytes,
                is_hot: true,
            },
            budget_bytes: 11 << 20,
            ..SNAPSHOT
        };
        let small = Snapshot {
            relief: Relief::None,
            ..device(0)
        };
        planning.set_devices([(ANNA, small), (BELA, small)].into());
        let (plan, _) = planning.plan(Epoch(1), None, now).expect("it is possible");
        assert!(plan.stage_of(BELA).is_some(), "{plan:?}");
        assert_eq!(planning.pressing().count(), 0);

        planning.set_devices([(ANNA, SNAPSHOT), (BELA, device(1 << 20))].into());
        assert_eq!(planning.pressing().count(), 1);
        planning.plan(Epoch(2), None, now).expect("it is possible");
        planning.working.insert(BELA); // as the head could not take all
        planning.reconsider();
        assert!(planning.is_due());
        assert_eq!(planning.pressing().count(), 0);

        planning.set_excluded([BELA].into());
        assert_eq!(planning.pressing().count(), 1);
    }

    /// An answer is held against the forecast; what was out of it in the hops is learnt.
    #[test]
    fn an_answer_is_held_against_its_forecast() {
        let now = Instant::now();
        let mut planning = planning(Rule::Best(Objective::Latency));
        survey(&mut planning, &[ANNA, BELA], now);
        assert_eq!(
            planning.answered(&FIGURES, now),
            None,
            "nothing was forecast"
        );
        planning.plan(Epoch(1), None, now).expect("it is possible");

        let review = planning.answered(&FIGURES, now).expect("it was forecast");

        let miss = FIGURES.tpot_ms / 1e3 / review.forecast.tpot_s - 1.0;
        assert!((review.miss.tpot - miss).abs() < 1e-9);
        assert_eq!(review.prompt_tokens, 20);
        assert_eq!(
            review.corrected,
            Some(review.forecast),
            "the work has told nothing yet"
        );
        let short = Figures {
            completion_tokens: 2,
            ..FIGURES
        };
        assert_eq!(planning.answered(&short, now), None);
    }

    const FIGURES: Figures = Figures {
        prompt_tokens: 30,
        cached_tokens: 10,
        completion_tokens: 20,
        ttft_ms: 100.0,
        tpot_ms: 20.0,
        bytes_per_token: 0,
    };

    fn planning(rule: Rule) -> Planning {
        let work = Work {
            manifest: Arc::new(manifest(&[2; 4])),
            sample: Arc::new(sample()),
            sizes: SIZES,
            n_phones: 1,
            rule,
            prompt_tokens: 16,
            costs: Costs {
                context_bytes: 1 << 20,
                scratch_bytes: 1 << 20,
            },
            flash_quota_bytes: 0,
        };

        Planning::new(ANNA, work)
    }

    /// Has phones come, measure themselves and their links.
    fn survey(planning: &mut Planning, phones: &[PeerId], now: Instant) {
        planning.set_phones(phones.iter().copied().collect(), now);

        while let Some((to, order)) = planning.poll() {
            let message = match order {
                Message::Measure { .. } => Message::Measured {
                    profile: Box::new(profile(0.001)),
                    snapshot: SNAPSHOT,
                },
                Message::Probe { probe, .. } => found(probe),
                other => panic!("no order: {other:?}"),
            };
            planning.hear(to, message, now);
        }
        assert!(planning.is_due());
    }

    fn found(probe: ProbeId) -> Message {
        let found = Found::Way {
            rtt_s: figure(0.01),
            goodput_bytes_per_s: Some(figure(1e7)),
        };

        Message::Probed { probe, found }
    }
}

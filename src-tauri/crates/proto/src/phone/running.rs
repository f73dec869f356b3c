//! A model is started and stopped, here or by way of another member.
//!
//! ```text
//!   started on a phone that has the model:    it leads ──────────────────────────► it plans
//!                                             it does not ── Offer ──► leader ── hands over ──► it plans
//!   started on one that has not:              RunWanted ──► a member that has it, as above
//!   stopped on the leader, or where started:  StopWanted ──► leader ── Stop ──► everybody
//! ```
//!
//! The head is who has the model, and the head leads. What is run when another model is started is stopped first, on all
//! phones: its memory is needed for the next.

use std::time::{Duration, Instant};

use super::cooldown::Cooldown;
use super::{
    BTreeSet, Cause, HeldModel, ModelId, OutEvent, Outlook, PeerId, Phone, Planning, Run, Trouble,
    Work, group, placement, ring,
};
use crate::placement::SolveError;
use crate::planning::PlanningError;
use crate::standing::RunPhase;
use crate::wire::Control;

/// How long a phone waits to be let lead: twice the time that an election takes at the most.
const LEAD_WAIT: Duration = Duration::from_secs(10);

/// Why a person cannot have what they want of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only the leader's phone does that, or the one on which the model was started.
    #[error("only the phone that leads can do that, or the one on which the model was started")]
    NotLeader,
    /// That phone is no member.
    #[error("that phone is no member of the group")]
    NoMember,
    /// No other member that is here has the model.
    #[error("no other phone of the group that is here has this model")]
    NobodyHasIt,
}

/// What is known of what this phone would run, beside its planning.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// Which model it is.
    pub(super) model: Option<ModelId>,
    /// Phone on which a person started it.
    pub(super) by: Option<PeerId>,
    /// A model that a member wants run here, and who: until it is started.
    wanted: Option<(ModelId, PeerId)>,
    /// When it is given up to be let lead.
    give_up_at: Option<Instant>,
    /// What is expected of the last plan.
    pub(super) outlook: Option<Outlook>,
    /// Whether there has been a plan in force.
    pub(super) has_run: bool,
    /// Why it does not run.
    pub(super) trouble: Option<Trouble>,
    /// What a member ran that is lost.
    orphan: Option<Run>,
}

impl Started {
    /// Returns when it is given up to be let lead.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// A plan was made.
    pub(super) fn planned(&mut self, outlook: Option<&Outlook>) {
        self.outlook = outlook.cloned();
        self.trouble = None;
    }
}

impl<H, C> Phone<H, C> {
    /// Checks that a person on this phone may stop what is run.
    ///
    /// # Errors
    ///
    /// [`Refused::NotLeader`]
    pub fn check_stop(&self) -> Result<(), Refused> {
        let run = self.standings.run();
        let is_mine = run.is_none_or(|run| run.started_by == self.me);

        if self.leads() || is_mine || self.waits_for_lead() {
            Ok(())
        } else {
            Err(Refused::NotLeader)
        }
    }

    /// Checks that a person on this phone may leave that one out of computing.
    ///
    /// # Errors
    ///
    /// - [`Refused::NotLeader`] if it is another's, and this phone does not lead
    /// - [`Refused::NoMember`]
    pub fn check_exclude(&self, phone: PeerId) -> Result<(), Refused> {
        if phone == self.me {
            Ok(())
        } else if !self.leads() {
            Err(Refused::NotLeader)
        } else if !self.group.is_member(phone) {
            Err(Refused::NoMember)
        } else {
            Ok(())
        }
    }

    /// Returns the member that would run a model, which this phone has not.
    ///
    /// # Errors
    ///
    /// [`Refused::NobodyHasIt`]
    pub fn check_run_elsewhere(&self, model: ModelId) -> Result<PeerId, Refused> {
        self.holder_here(model).ok_or(Refused::NobodyHasIt)
    }

    /// Another member that is here and has a model.
    pub(super) fn holder_here(&self, model: ModelId) -> Option<PeerId> {
        let here = self.phones_here();

        self.standings
            .holders_of(model)
            .find(|phone| *phone != self.me && here.contains(phone))
    }

    /// A person wants a model run that this phone has.
    pub(super) fn run(&mut self, work: Work, model: Option<ModelId>, now: Instant) {
        let hash = work.manifest.hash();
        let newest = self.ring.reconfig().newest();
        let is_other = newest.is_some_and(|plan| plan.model != hash);
        if self.leads() && is_other {
            self.stop_all(now);
        }

        let wanted = self.started.wanted.take();
        let wanted = wanted.filter(|(wanted, _)| Some(*wanted) == model);
        self.started = Started {
            model,
            by: Some(wanted.map_or(self.me, |(_, by)| by)),
            ..Started::default()
        };
        self.cooldown = Cooldown::default();
        self.ring.questions().forget_speed();
        self.planning = Some(self.planning_of(work, now));
        if !self.leads() {
            self.started.give_up_at = Some(now + LEAD_WAIT);
            self.offer(true);
        }
        self.told.run_changed();
    }

    /// Begins to plan with what is known of the phones already.
    fn planning_of(&self, work: Work, now: Instant) -> Planning {
        let mut planning = Planning::new(self.me, work);
        let forecasts = [&self.forecasting, &self.forecasted];
        for forecast in forecasts.into_iter().flatten() {
            planning.learn(forecast.survey(), &self.phones_here(), now);
        }

        planning
    }

    /// A person wants a model run that another member has.
    pub(super) fn run_elsewhere(&mut self, model: ModelId) {
        if let Some(holder) = self.holder_here(model) {
            self.send_control(holder, Control::RunWanted(model));
        }
    }

    /// A member wants a model run that this phone has, as that member's person says.
    pub(super) fn run_wanted_by(&mut self, by: PeerId, model: ModelId) {
        let mine = self.standings.mine();
        if !mine.models.iter().any(|held| held.model == model) {
            return tracing::warn!(%by, ?model, "Model wanted that this phone has not");
        }

        self.started.wanted = Some((model, by));
        self.events.push_back(OutEvent::RunWanted { model, by });
    }

    /// Tells the leader, if that is another phone, that this one has a model to run.
    pub(super) fn offer(&mut self, is_fresh: bool) {
        if let Some(to) = self.leader.filter(|&leader| leader != self.me)
            && self.planning.is_some()
        {
            self.send_control(to, Control::Offer { is_fresh });
        }
    }

    /// The connection to the leader is new, or its term: what it was told of a model that this phone has to run may have been
    /// lost, and so may its answer.
    pub(super) fn offer_again(&mut self, leader: PeerId) {
        if self.leader == Some(leader) {
            self.offer(self.waits_for_lead());
        }
    }

    /// A member has a model to run. The head is who has the model, and the head leads. What a person has just started
    /// takes the place of what this phone runs.
    pub(super) fn offered(&mut self, from: PeerId, is_fresh: bool, now: Instant) {
        if !self.leads() || (self.planning.is_some() && !is_fresh) {
            return;
        }
        if is_fresh {
            self.stop_all(now);
        }

        let hand_over = group::Command::HandOver(from);
        self.group.handle(group::InEvent::Command(hand_over), now);
    }

    /// This phone begins to lead. What another has run that is lost, it goes on with, if it has the model.
    pub(super) fn lead(&mut self, before: Option<PeerId>) {
        self.started.give_up_at = None;
        let told = before.and_then(|before| self.standings.of(before));
        if let Some(told) = told {
            self.left_out = told.left_out.iter().copied().collect();
        }

        let orphan = self.started.orphan.take();
        if self.planning.is_none()
            && let Some(run) = orphan
            && let Some(model) = run.model
        {
            let mine = self.standings.mine();
            if mine.models.iter().any(|held| held.model == model) {
                self.started.wanted = Some((model, run.started_by));
                let by = run.started_by;
                self.events.push_back(OutEvent::RunWanted { model, by });
            }
        }
    }

    /// A member is lost. What it ran may be gone on with, by whoever leads next.
    pub(super) fn note_orphan(&mut self, phone: PeerId) {
        let run = self.standings.of(phone).and_then(|s| s.run.as_deref());
        let runs = run.filter(|run| !matches!(run.phase, RunPhase::Failed(_)));

        if let Some(run) = runs {
            self.started.orphan = Some(run.clone());
        }
        self.standings.lost(phone);
    }

    /// The leader has not let this phone lead.
    pub(super) fn give_up_waiting_for_lead(&mut self, now: Instant) {
        if self.started.give_up_at.take_if(|at| *at <= now).is_some() {
            self.planning = None;
            let reason =
                "the phone that leads the group does not let this one lead, which has the model";
            self.cannot_plan(Trouble::NotHandedOver, reason.into());
        }
    }

    /// A person on this phone wants no more of what is run.
    pub(super) fn stop_wanted_here(&mut self, now: Instant) {
        self.planning = None;
        self.started = Started::default();
        match self.leader.filter(|&leader| leader != self.me) {
            None => self.stop_all(now),
            Some(leader) => self.send_control(leader, Control::StopWanted),
        }
        self.told.run_changed();
    }

    /// The leader runs nothing any more. What this phone would run if it led is over, too, unless it is just for that
    /// that the leader makes room.
    pub(super) fn stopped_by(&mut self, from: PeerId, now: Instant) {
        if self.leader == Some(from) && !self.waits_for_lead() {
            self.planning = None;
            self.started = Started {
                wanted: self.started.wanted,
                ..Started::default()
            };
            self.told.run_changed();
        }

        let message = Control::Stop;
        self.ring
            .handle(ring::InEvent::Control { from, message }, now);
    }

    /// Returns whether a person has just started something here, and another phone leads.
    pub(super) fn waits_for_lead(&self) -> bool {
        self.started.give_up_at.is_some()
    }

    /// The person who started what is run wants no more of it.
    pub(super) fn stop_wanted_by(&mut self, from: PeerId, now: Instant) {
        let is_theirs = self.started.by == Some(from);

        if self.leads() && is_theirs {
            self.stop_all(now);
        } else {
            tracing::warn!(%from, "Stop of what another has started, not done");
        }
    }

    /// Stops what is run, in the whole group.
    fn stop_all(&mut self, now: Instant) {
        self.planning = None;
        self.started = Started {
            wanted: self.started.wanted,
            ..Started::default()
        };
        for member in self.members() {
            self.send_control(member, Control::Stop);
        }

        self.ring.handle(ring::InEvent::Stop, now);
        self.told.run_changed();
    }

    /// The app is about to be suspended: nobody may wait for this phone. What it runs alone stays. What it runs with others
    /// as their leader it plans anew when it is back, should it still lead.
    pub(super) fn let_go(&mut self, now: Instant) {
        let plan = self.ring.plan();
        let is_shared = plan.is_some_and(|plan| plan.phones().any(|phone| phone != self.me));
        if !is_shared {
            return;
        }

        self.ring.handle(ring::InEvent::LetGo, now);
        self.cooldown.broken(self.phones_left(), true, now);
        self.told.run_changed();
        if let Some(planning) = &mut self.planning {
            planning.reconsider();
        }
    }

    /// A person leaves a phone out of computing, or lets it take part again.
    pub(super) fn exclude(&mut self, phone: PeerId, is_excluded: bool, now: Instant) {
        if phone == self.me {
            return self.change_mine(now, |mine| mine.is_excluded = is_excluded);
        }

        if is_excluded {
            self.left_out.insert(phone);
        } else {
            self.left_out.remove(&phone);
        }
        let left_out = self.left_out.iter().copied().collect();
        self.change_mine(now, |mine| mine.left_out = left_out);
    }

    /// This phone has these models. What it has a part of goes on; without its model nothing new is planned.
    pub(super) fn set_models(&mut self, models: Vec<HeldModel>, now: Instant) {
        let is_gone = |model: ModelId| !models.iter().any(|held| held.model == model);
        if self.started.model.is_some_and(is_gone) {
            self.planning = None;
        }

        self.change_mine(now, |mine| mine.models = models.into_iter().collect());
    }

    /// A plan has failed.
    pub(super) fn broken(&mut self, phone: PeerId, cause: Cause, now: Instant) {
        self.started.trouble = Some(match cause {
            Cause::Lost => Trouble::PhoneLost { phone },
            Cause::CannotLoad => Trouble::CannotLoad { phone },
        });

        self.prepared_nothing(now);
        self.told.run_changed();
    }

    /// This phone, which leads, can make no plan.
    pub(super) fn cannot_plan(&mut self, trouble: Trouble, reason: String) {
        self.started.trouble = Some(trouble);
        self.told.run_changed();
        self.events
            .push_back(OutEvent::CannotPlan { reason, trouble });
    }

    /// Returns the phones that people left out of computing.
    pub(super) fn excluded(&self) -> BTreeSet<PeerId> {
        let mut excluded = self.standings.excluded_by_themselves();
        excluded.extend(&self.left_out);

        excluded
    }

    /// Returns the other members.
    pub(super) fn members(&self) -> Vec<PeerId> {
        let members = self.group.roster().into_iter();
        let members = members.flat_map(|roster| roster.members.iter());
        let members = members.map(|member| member.peer);

        members.filter(|&member| member != self.me).collect()
    }

    pub(super) fn send_control(&mut self, to: PeerId, message: Control) {
        let send = ring::OutEvent::SendControl { to, message };
        self.events.push_back(OutEvent::Ring(send));
    }
}

impl Trouble {
    /// Returns what stands in the way of a plan.
    pub(super) fn of(error: &PlanningError) -> Self {
        match error {
            PlanningError::Solve(SolveError::DoesNotFit(placement::Shortage {
                missing_bytes,
                ..
            })) => Self::TooSmall {
                missing_bytes: *missing_bytes,
            },
            PlanningError::Solve(SolveError::CutOff) => Self::CutOff,
            PlanningError::Solve(SolveError::Invalid(_))
            | PlanningError::Plan(_)
            | PlanningError::Unfit(_) => Self::Other,
        }
    }
}

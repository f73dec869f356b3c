//! One phone: its group, what the group computes, and the ways between them.
//!
//! The shell knows only this type. What happens goes in as an [`InEvent`], what is to be done comes
//! out as an [`OutEvent`]; everything that a phone decides lies between.
//!
//! ```text
//!           who leads, who is here            plan
//!  group ─────────────────────────► planning ──────► ring: reconfig · pipeline · relay
//!    ▲                                                 │    load │        ▲ loaded
//!    └────────────── an answer is being written ◄──────┘         ▼        │
//!                                                         supply ──► shards ──► engine
//! ```
//!
//! A phone in no group leads itself, and runs a model alone if it is asked to.
//!
//! | what it does beside | told in |
//! | --- | --- |
//! | a model is started and stopped, here or by way of another member | `phone/running.rs` |
//! | members and screens learn how this phone is and what it runs | `phone/telling.rs` |
//! | one that is hot, empty or short of memory is spared, or works less | `phone/sparing.rs` |
//! | what to expect of a model is found out, and nothing is moved | `phone/forecasting.rs` |
//! | plans that break one after another are made ever more seldom | `phone/cooldown.rs` |

mod cooldown;
mod forecasting;
mod running;
mod sparing;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;

use crate::device::{Caretaker, Load, Policy, Snapshot};
use crate::forecast::{ForecastId, Forecasting, News, Reply};
use crate::group::message::Presence;
use crate::group::{self, Group, Member, Name, Roster, Saved};
use crate::placement;
use crate::plan::Plan;
use crate::planning::{Outlook, Planning, Review, Work};
use crate::profile::respondent::{self, Respondent};
use crate::profile::{self, BurstFrame, PROBE_EPOCH};
use crate::reconfig::{Cause, Status};
use crate::ring::{self, Notice, Ring};
use crate::standing::{self, Beat, Board, HeldModel, Run, Standings, Trouble};
use crate::supply::{self, Supply};
use crate::transfer;
use crate::wire::Control;
use crate::{ModelId, PeerId};

pub use running::Refused;
use telling::Told;

/// How long after the last sign of computing shards still give way: a stage is idle between two tokens, and who has read
/// an answer asks again. A guess: longer than a token takes that anybody would wait for.
const QUIET_AFTER: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug)]
pub enum InEvent<H, C> {
    /// Something about the group.
    Group(group::InEvent),
    /// Something about what it computes. What comes from a phone that is no member is dropped.
    Ring(ring::InEvent<H>),
    /// Something about shards on the move. What comes from a phone that is no member is dropped.
    Shards(transfer::InEvent<C>),
    /// This phone is so, as its system says.
    Device(Snapshot),
    /// This phone was measured, or its links were.
    Measured(respondent::InEvent),
    /// The engine has computed something, and took so long.
    Computed(respondent::Work),
    /// A person wants a model to be run that this phone has, in place of what is run. A phone that does not lead is let
    /// lead for that.
    Run {
        /// The model.
        work: Box<Work>,
        /// By which others know it.
        model: Option<ModelId>,
    },
    /// A person wants a model to be run that another member has. Only if [`Phone::check_run_elsewhere`] says so.
    RunElsewhere(ModelId),
    /// A person wants no more of what is run. Only if [`Phone::check_stop`] says so.
    Stop,
    /// A person leaves a phone out of computing, or lets it take part again. Only if [`Phone::check_exclude`] says so.
    Exclude {
        /// That phone.
        phone: PeerId,
        /// Whether it is left out.
        is_excluded: bool,
    },
    /// This phone has these models, and no others.
    Models(Vec<HeldModel>),
    /// A person allows this phone this.
    Policy(Policy),
    /// A person wants to know what to expect of a model that this phone has. Answered by [`OutEvent::Forecast`].
    Forecast {
        /// Name of the question.
        id: ForecastId,
        /// The model.
        work: Box<Work>,
        /// Whether a person of this phone does, and not of another, as [`OutEvent::ForecastWanted`] said.
        is_own: bool,
    },
    /// The same of a model that another member has, which finds it out. Only if [`Phone::check_run_elsewhere`] says so.
    ForecastElsewhere {
        /// Name of the question.
        id: ForecastId,
        /// The model.
        model: ModelId,
    },
    /// Nobody waits for that forecast any more.
    ForecastUnwanted(ForecastId),
    /// What a member wanted to know, as [`OutEvent::ForecastWanted`] said.
    ForecastTold {
        /// That member.
        to: PeerId,
        /// The model.
        model: ModelId,
        /// What to expect of it.
        reply: Reply,
    },
    /// So much of what is being loaded is loaded, between 0 and 1.
    Loading(f32),
    /// A small message went to a phone and back.
    RoundTrip {
        /// To whom.
        phone: PeerId,
        /// How long it took.
        time: Duration,
    },
    /// The app is about to be suspended, and its connections are closed: what is run with others is let go.
    Suspended,
}

/// What to do, in this order.
#[derive(Debug)]
pub enum OutEvent<H, C> {
    /// Something about the group.
    Group(group::OutEvent),
    /// Something about what it computes. Shards that are to be loaded are here.
    Ring(ring::OutEvent<H>),
    /// Something about shards; but for [`supply::OutEvent::Load`], [`supply::OutEvent::Failed`] and
    /// [`supply::OutEvent::Carried`].
    Supply(supply::OutEvent<C>),
    /// Measure this phone, or send activations of no meaning.
    Measure(respondent::OutEvent),
    /// The leader has made a plan; `None` where nothing was measured for it.
    Planned(Option<Box<Outlook>>),
    /// The leader has held an answer against its forecast.
    Reviewed(Box<Review>),
    /// The leader cannot make a plan with the phones that are here.
    CannotPlan {
        /// Why, for people.
        reason: String,
        /// Why, as far as it is one of the usual reasons.
        trouble: Trouble,
    },
    /// How every member is, and what is run, in place of what was told before. At most every
    /// [`SHOW_INTERVAL`](standing::SHOW_INTERVAL).
    Show(Box<Board>),
    /// Tokens went round the ring.
    Beat(Beat),
    /// How a forecast is going.
    Forecast {
        /// Name of the question.
        id: ForecastId,
        /// What there is to tell.
        news: News,
    },
    /// Compute with half of the threads from now on, or with all of them again.
    Spare(bool),
    /// A member wants to know what to expect of a model that this phone has: find out, and make [`InEvent::ForecastTold`] of
    /// it.
    ForecastWanted {
        /// Which.
        model: ModelId,
        /// That member.
        by: PeerId,
    },
    /// This phone has a model that is to be run: make [`InEvent::Run`] of it.
    RunWanted {
        /// Which.
        model: ModelId,
        /// Phone on which a person wants it.
        by: PeerId,
    },
}

/// One phone.
#[derive(Debug)]
pub struct Phone<H, C> {
    me: PeerId,
    group: Group,
    ring: Ring<H>,
    supply: Supply<C>,
    connected: BTreeSet<PeerId>,
    /// What this phone would run, and what it knows of the others for that.
    planning: Option<Planning>,
    respondent: Respondent,
    /// Before the leader makes another plan in place of one that broke.
    cooldown: cooldown::Cooldown,
    /// Whether the group was told that an answer is being written here.
    writing: bool,
    /// Whether shards were told to give way to an answer, and until when if nothing more is computed.
    gives_way: bool,
    quiet_at: Option<Instant>,
    /// Whom the ring was told to obey.
    leader: Option<PeerId>,
    /// What is known of what this phone would run, beside its planning.
    started: running::Started,
    standings: Standings,
    told: Told,
    policy: Policy,
    /// How this phone fares, and with what it computes.
    caretaker: Caretaker,
    load: Load,
    /// Whether it was told to compute with half of its threads.
    is_spared: bool,
    /// Whether an answer may still be written before the next plan is made.
    hurry: sparing::Hurry,
    /// Phones that a person left out of computing, on this phone when it leads.
    left_out: BTreeSet<PeerId>,
    forecasting: Option<Forecasting>,
    /// The last forecast, for what it found out.
    forecasted: Option<Forecasting>,
    /// Forecasts that one member finds out for another.
    asked: forecasting::Asked,
    /// What this phone is to be measured with, once nothing is being written.
    measure_later: Option<respondent::OutEvent>,
    events: VecDeque<OutEvent<H, C>>,
}

impl<H, C> Phone<H, C> {
    /// Starts the phone `me`, as it was when `saved` was written.
    pub fn new(me: PeerId, name: Name, saved: Saved, rng: ChaCha12Rng, now: Instant) -> Self {
        let mut phone = Self {
            me,
            group: Group::new(me, name, saved, rng, now),
            ring: Ring::new(me),
            supply: Supply::new(me),
            connected: BTreeSet::new(),
            planning: None,
            respondent: Respondent::new(),
            cooldown: cooldown::Cooldown::default(),
            writing: false,
            gives_way: false,
            quiet_at: None,
            leader: None,
            started: running::Started::default(),
            standings: Standings::new(me, now),
            told: Told::new(now),
            policy: Policy::default(),
            caretaker: Caretaker::default(),
            load: Load::default(),
            is_spared: false,
            hurry: sparing::Hurry::default(),
            left_out: BTreeSet::new(),
            forecasting: None,
            forecasted: None,
            asked: forecasting::Asked::default(),
            measure_later: None,
            events: VecDeque::new(),
        };
        phone.settle(now);

        phone
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent<H, C>, now: Instant) {
        match event {
            InEvent::Group(event) => self.group_event(event, now),
            InEvent::Ring(event) => self.ring_event(event, now),
            InEvent::Shards(event) => self.supply.handle(event, now),
            InEvent::Device(snapshot) => drop(self.cared_for(snapshot, now)),
            InEvent::Measured(event) => self.measured(event, now),
            InEvent::Computed(work) => {
                let event = respondent::InEvent::Computed(work);
                self.respondent.handle(event, now);
                if !self.respondent.wants_anything() {
                    return; // as after nearly every step: nothing follows from it
                }
            }
            InEvent::Run { work, model } => self.run(*work, model, now),
            InEvent::RunElsewhere(model) => self.run_elsewhere(model),
            InEvent::Stop => self.stop_wanted_here(now),
            InEvent::Exclude { phone, is_excluded } => self.exclude(phone, is_excluded, now),
            InEvent::Models(models) => self.set_models(models, now),
            InEvent::Policy(policy) => self.set_policy(policy, now),
            InEvent::Forecast { id, work, is_own } => self.forecast(id, *work, is_own, now),
            InEvent::ForecastElsewhere { id, model } => self.forecast_elsewhere(id, model, now),
            InEvent::ForecastUnwanted(id) => self.forecast_unwanted(id),
            InEvent::ForecastTold { to, model, reply } => self.forecast_told(to, model, reply),
            InEvent::Loading(fraction) => self.loading(fraction, now),
            InEvent::RoundTrip { phone, time } => {
                let event = standing::InEvent::RoundTrip { phone, time };
                self.standings.handle(event, now);
            }
            InEvent::Suspended => self.let_go(now),
        }

        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.group.poll_timeout().is_some_and(|due| due <= now) {
            self.group.handle_timeout(now);
        }
        if self.supply.poll_timeout().is_some_and(|due| due <= now) {
            self.supply.handle_timeout(now);
        }
        if self.respondent.poll_timeout().is_some_and(|due| due <= now) {
            self.respondent.handle_timeout(now);
        }
        if self.ring.poll_timeout().is_some_and(|due| due <= now) {
            self.ring.handle_timeout(now);
        }
        if let Some(planning) = &mut self.planning
            && planning.poll_timeout().is_some_and(|due| due <= now)
        {
            planning.handle_timeout(now);
        }
        if let Some(forecasting) = &mut self.forecasting
            && forecasting.poll_timeout().is_some_and(|due| due <= now)
        {
            forecasting.handle_timeout(now);
        }
        if self.standings.poll_timeout().is_some_and(|due| due <= now) {
            self.standings.handle_timeout(now);
        }
        self.give_up_waiting_for_lead(now);

        self.settle(now);
    }

    /// Returns when to wake the phone, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits_to_plan = self.planning.is_some() && self.leads() && self.has_lost_its_plan();
        let quiet_at = self.quiet_at.filter(|_| self.gives_way);
        let replan_at = self.cooldown.poll_timeout().filter(|_| waits_to_plan);

        let parts = [
            self.group.poll_timeout(),
            self.respondent.poll_timeout(),
            self.planning.as_ref().and_then(Planning::poll_timeout),
            self.supply.poll_timeout(),
            self.ring.poll_timeout(),
            self.forecasting
                .as_ref()
                .and_then(Forecasting::poll_timeout),
            self.standings.poll_timeout(),
            self.told.poll_timeout(),
            self.started.give_up_at(),
            self.asked.give_up_at(),
            self.hurry.poll_timeout(),
            replan_at,
            quiet_at,
        ];

        parts.into_iter().flatten().min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<H, C>> {
        self.events.pop_front()
    }

    /// Returns this phone's id.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Returns the group that this phone is in.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Returns the newest plan that is in force, where this phone has a part in it.
    pub fn plan_in_force(&self) -> Option<&Arc<Plan>> {
        self.ring.reconfig().in_force()
    }

    /// Lets the group take note of something that may also cost the ring a phone.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "one kind of event is of interest"
    )]
    fn group_event(&mut self, event: group::InEvent, now: Instant) {
        let (found, lost) = match event {
            group::InEvent::Connected(phone) => {
                self.connected.insert(phone);
                (Some(phone), None)
            }
            group::InEvent::Disconnected(phone) => {
                self.connected.remove(&phone);
                let lost = respondent::InEvent::PhoneLost(phone);
                self.respondent.handle(lost, now);
                (None, Some(phone))
            }
            _ => (None, None),
        };
        self.group.handle(event, now);
        self.tell_peers(now);

        if let Some(phone) = found {
            self.offer_again(phone);
        }
        if let Some(phone) = lost {
            self.ring.handle(ring::InEvent::PhoneLost(phone), now);
        }
    }

    /// Lets the ring take note of what members say, and of what happens on this phone.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all others happen on this phone"
    )]
    fn ring_event(&mut self, event: ring::InEvent<H>, now: Instant) {
        let from = match &event {
            ring::InEvent::Control { from, .. }
            | ring::InEvent::Chat { from, .. }
            | ring::InEvent::Activation { from, .. } => *from,
            _ => self.me,
        };

        if from != self.me && !self.group.is_member(from) {
            return tracing::warn!(%from, "Message from a phone that is no member, dropped");
        }
        match event {
            ring::InEvent::Control {
                from,
                message: Control::Survey(message),
            } => self.hear(from, message, now),
            ring::InEvent::Control {
                from,
                message: Control::Offer { is_fresh },
            } => self.offered(from, is_fresh, now),
            ring::InEvent::Control {
                from,
                message: Control::Stop,
            } => self.stopped_by(from, now),
            ring::InEvent::Control {
                from,
                message: Control::StopWanted,
            } => self.stop_wanted_by(from, now),
            ring::InEvent::Control {
                from,
                message: Control::RunWanted(model),
            } => self.run_wanted_by(from, model),
            ring::InEvent::Control {
                from,
                message: Control::ForecastWanted(model),
            } => self.forecast_wanted_by(from, model, now),
            ring::InEvent::Control {
                from,
                message: Control::ForecastTold { model, reply },
            } => self.hear_forecast(from, model, reply),
            ring::InEvent::Control {
                from,
                message: Control::Standing(message),
            } => self.hear_standing(from, message, now),
            ring::InEvent::Activation {
                from,
                epoch: PROBE_EPOCH,
                step,
                ..
            } => {
                if let Some(frame) = BurstFrame::read(PROBE_EPOCH, step) {
                    let burst = respondent::InEvent::Burst { from, frame };
                    self.respondent.handle(burst, now);
                }
            }
            event => {
                self.note_work(&event, now);
                self.ring.handle(event, now);
            }
        }
    }

    /// Lets both sides of measuring hear a word about it: each takes what concerns it.
    fn hear(&mut self, from: PeerId, message: profile::Message, now: Instant) {
        if self.is_for_forecast(from, &message)
            && let Some(forecasting) = &mut self.forecasting
        {
            forecasting.hear(from, message.clone(), now);
        }
        if self.is_for_planning(from, &message)
            && let Some(planning) = &mut self.planning
        {
            planning.hear(from, message.clone(), now);
        }

        let event = respondent::InEvent::Message { from, message };
        self.respondent.handle(event, now);
    }

    /// Lets everything that follows from the last event happen.
    fn settle(&mut self, now: Instant) {
        loop {
            self.exchange(now);
            self.tell_leader(now);
            self.plan_if_due(now);
            self.tell_writing(now);
            self.tell_way(now);
            self.measure_if_idle();
            self.go_on_forecasting(now);
            self.tell_standing(now);

            if !self.wants_anything() {
                return;
            }
        }
    }

    fn wants_anything(&self) -> bool {
        let (planning, forecasting) = (self.planning.as_ref(), self.forecasting.as_ref());

        self.ring.wants_anything()
            || self.group.wants_anything()
            || self.supply.wants_anything()
            || self.standings.wants_anything()
            || planning.is_some_and(Planning::wants_anything)
            || forecasting.is_some_and(Forecasting::wants_anything)
    }

    /// Passes what group and ring want to each other or to the shell, until neither wants anything.
    fn exchange(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.group.poll() {
                self.route_group(event, now);
            } else if let Some(event) = self.ring.poll() {
                self.route_ring(event, now);
            } else if let Some(event) = self.supply.poll() {
                self.route_supply(event, now);
            } else if let Some((to, message)) = self.planning.as_mut().and_then(Planning::poll) {
                self.say(to, message, now);
            } else if let Some((to, message)) =
                self.forecasting.as_mut().and_then(Forecasting::poll)
            {
                self.say(to, message, now);
            } else if let Some(event) = self.standings.poll() {
                self.route_standing(event);
            } else if let Some(event) = self.respondent.poll() {
                self.route_respondent(event, now);
            } else {
                return;
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the ring has no interest in the others"
    )]
    fn route_group(&mut self, event: group::OutEvent, now: Instant) {
        match &event {
            group::OutEvent::Present {
                peer,
                presence: Presence::Lost,
            } => {
                self.note_orphan(*peer);
                self.ring.handle(ring::InEvent::PhoneLost(*peer), now);
            }
            group::OutEvent::Present {
                peer,
                presence: Presence::Here,
            } => {
                self.ring.handle(ring::InEvent::Announce(*peer), now);
                self.ring.handle(ring::InEvent::AnnounceStop(*peer), now);
            }
            group::OutEvent::Members(roster) => {
                self.members_changed(roster, now);
                self.tell_peers(now);
            }
            group::OutEvent::Left { .. } => {
                self.ring.handle(ring::InEvent::Alone, now);
                self.tell_peers(now);
            }
            group::OutEvent::Leader(Some(term)) => self.offer_again(term.leader),
            _ => {}
        }

        self.events.push_back(OutEvent::Group(event));
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the shell carries out the others"
    )]
    fn route_ring(&mut self, event: ring::OutEvent<H>, now: Instant) {
        match event {
            ring::OutEvent::Load { plan, manifest } => {
                self.preparing(&plan, &manifest, now);
                return self.supply.prepare(plan, manifest, now);
            }
            ring::OutEvent::Answered(figures) => {
                self.cooldown.answered();
                let planning = self
                    .planning
                    .as_mut()
                    .filter(|_| self.leader == Some(self.me));
                let review = planning.and_then(|planning| planning.answered(&figures, now));
                let review = review.map(|review| OutEvent::Reviewed(Box::new(review)));
                return self.events.extend(review);
            }
            ring::OutEvent::Unload => {
                self.prepared_nothing(now);
                self.supply.stop(now);
            }
            ring::OutEvent::Compute { ref step, .. } => self.computing(step, now),
            ring::OutEvent::Notice(Notice::InForce { .. }) => {
                self.started.has_run = true;
                self.cooldown.in_force(now);
                self.told.run_changed();
                if let Some(planning) = &mut self.planning {
                    planning.in_force(now);
                }
                for phone in self.phones_here() {
                    self.ring.handle(ring::InEvent::Announce(phone), now);
                }
            }
            ring::OutEvent::Notice(Notice::Broken {
                epoch,
                phone,
                cause,
                ref reason,
            }) => {
                let is_other = cause == Cause::CannotLoad;
                self.cooldown.broken(self.phones_left(), is_other, now);
                self.supply.give_up(epoch, now);
                self.broken(phone, cause, now);
                match (&mut self.planning, cause) {
                    (Some(planning), Cause::CannotLoad) => planning.unfit(phone, reason.clone()),
                    (Some(planning), Cause::Lost) => planning.reconsider(),
                    (None, _) => {}
                }
            }
            _ => {}
        }

        self.events.push_back(OutEvent::Ring(event));
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the shell carries out the others"
    )]
    fn route_supply(&mut self, event: supply::OutEvent<C>, now: Instant) {
        match event {
            supply::OutEvent::Load { plan, manifest } => {
                self.loading(0.0, now);
                let load = ring::OutEvent::Load { plan, manifest };
                self.events.push_back(OutEvent::Ring(load));
            }
            supply::OutEvent::Failed {
                epoch,
                cause,
                reason,
            } => {
                let failed = ring::InEvent::LoadFailed {
                    epoch,
                    cause,
                    reason,
                };
                self.ring.handle(failed, now);
            }
            supply::OutEvent::Carried {
                from,
                n_bytes,
                time,
            } => {
                let event = respondent::InEvent::Received {
                    from,
                    n_bytes,
                    time,
                };
                self.respondent.handle(event, now);
            }
            event => {
                if let supply::OutEvent::Progress(progress) = &event {
                    self.fetching(progress, now);
                }
                self.events.push_back(OutEvent::Supply(event));
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the shell carries out the others"
    )]
    fn route_respondent(&mut self, event: respondent::OutEvent, now: Instant) {
        match event {
            respondent::OutEvent::Send { to, message } => self.say(to, message, now),
            event @ respondent::OutEvent::Measure(_) => self.measure_later = Some(event),
            event => self.events.push_back(OutEvent::Measure(event)),
        }
    }

    /// Says something about measuring, also to this phone itself.
    fn say(&mut self, to: PeerId, message: profile::Message, now: Instant) {
        if to == self.me {
            return self.hear(to, message, now);
        }

        let message = Control::Survey(message);
        let send = ring::OutEvent::SendControl { to, message };
        self.events.push_back(OutEvent::Ring(send));
    }

    /// Tells the supply whom it may ask, and whom it may serve.
    fn tell_peers(&mut self, now: Instant) {
        let peers = self.connected.iter().copied();
        let peers = peers.filter(|&peer| self.group.is_member(peer));

        self.supply.set_peers(peers.collect(), now);
        self.tell_members(now);
    }

    /// A phone that is no member any more has no part in anything.
    fn members_changed(&mut self, roster: &Roster, now: Instant) {
        let gone = self.ring.plan().map(|plan| {
            let gone = plan.phones().filter(|&phone| !roster.contains(phone));
            gone.filter(|&phone| phone != self.me).collect::<Vec<_>>()
        });

        for phone in gone.unwrap_or_default() {
            self.ring.handle(ring::InEvent::PhoneLost(phone), now);
        }
    }

    /// Tells the ring when another phone leads.
    fn tell_leader(&mut self, now: Instant) {
        let leader = match self.group.roster() {
            None => Some(self.me),
            Some(_) => self.group.leader().map(|term| term.leader),
        };

        let old = std::mem::replace(&mut self.leader, leader);
        if old == leader {
            return;
        }
        self.told.run_changed();
        self.tell_members(now);
        self.ring.handle(ring::InEvent::Leader(leader), now);
        if let Some(leader) = leader {
            self.respondent
                .handle(respondent::InEvent::Leader(leader), now);
            if leader == self.me {
                self.lead(old);
            } else {
                self.offer(self.waits_for_lead());
            }
        }
    }

    /// Tells the group when this phone begins and ends to write an answer.
    fn tell_writing(&mut self, now: Instant) {
        let writing = self.ring.is_writing();

        if std::mem::replace(&mut self.writing, writing) != writing {
            self.group.handle(group::InEvent::Writing(writing), now);
        }
    }

    /// Tells the shards when the group begins to compute, and when it has been quiet for a while.
    fn tell_way(&mut self, now: Instant) {
        if self.ring.is_writing() || self.group.is_writing() {
            self.quiet_at = Some(now + QUIET_AFTER);
        }
        let gives_way = self.quiet_at.is_some_and(|at| at > now);

        if std::mem::replace(&mut self.gives_way, gives_way) != gives_way {
            let event = transfer::InEvent::GiveWay(gives_way);
            self.supply.handle(event, now);
        }
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }

    fn has_lost_its_plan(&self) -> bool {
        matches!(self.ring.reconfig().status(), Status::Failed(_))
    }

    /// Returns the phones that can compute. One that a plan in force was made with, and that has not been heard for a
    /// moment, still counts: else a hiccup would cost it what is known of it.
    fn phones_here(&self) -> BTreeSet<PeerId> {
        let is_known = |phone: PeerId| {
            self.ring.reconfig().status() == Status::InForce
                && self.planning.as_ref().is_some_and(|p| p.has(phone))
        };
        let is_here = |phone: PeerId| match self.group.presence(phone) {
            Some(Presence::Here) => true,
            Some(Presence::Suspect) => is_known(phone),
            Some(Presence::Lost) | None => false,
        };
        let members = self
            .group
            .roster()
            .into_iter()
            .flat_map(|r| r.members.iter());
        // One that has not said yet where it is could not be reached by its neighbours in the ring.
        let here = |member: &&Member| {
            member.peer != self.me && !member.addresses.is_empty() && is_here(member.peer)
        };
        let others = members.filter(here).map(|member| member.peer);

        std::iter::once(self.me).chain(others).collect()
    }

    /// Returns those of them that nobody left out.
    fn phones_left(&self) -> BTreeSet<PeerId> {
        let (here, excluded) = (self.phones_here(), self.excluded());

        here.difference(&excluded).copied().collect()
    }

    /// Makes a plan, if this phone leads, has a model to run, and another plan may be possible or better than the last.
    fn plan_if_due(&mut self, now: Instant) {
        if self.planning.is_none() {
            self.hurry = sparing::Hurry::None;
            return; // as on nearly every phone, after every event
        }
        let phones = if self.leads() {
            self.phones_here()
        } else {
            BTreeSet::new()
        };
        let (excluded, devices) = (self.excluded(), self.standings.devices().collect());
        self.cooldown.set_phones(phones.difference(&excluded));
        let planning = self.planning.as_mut().expect("just looked at");
        planning.set_phones(phones.clone(), now);
        planning.set_excluded(excluded);
        planning.set_devices(devices);
        let status = self.ring.reconfig().status();
        let pressed = Some(&*planning).filter(|_| status == Status::InForce);
        self.hurry.set(pressed.and_then(sparing::patience), now);
        let may_plan = match status {
            Status::None => phones.len() >= planning.work().n_phones,
            Status::Preparing => false,
            Status::InForce => !self.ring.is_writing() || self.hurry.is_great(),
            Status::Failed(_) => !self.cooldown.is_on(now),
        };
        // Neighbours in the ring dial each other: each has to know first where the others are.
        let all_know = phones.iter().all(|&phone| self.group.is_up_to_date(phone));
        if phones.is_empty() || !may_plan || !all_know || !planning.is_due() {
            return;
        }

        let epoch = self.ring.reconfig().next_epoch();
        match planning.plan(epoch, self.group.roster(), now) {
            Ok((plan, outlook)) => self.propose(plan, outlook, now),
            Err(error) if status == Status::InForce && planning.forbidden().is_none() => {
                tracing::warn!(%error, "No better plan can be made");
            }
            Err(error) => {
                let forbidden = planning.forbidden();
                if let Some(phone) = forbidden.filter(|_| status == Status::InForce) {
                    self.ring.handle(ring::InEvent::Forbidden(phone), now);
                    self.exchange(now); // what broke it is told first
                }
                self.ring.handle(ring::InEvent::NoPlan, now);
                self.cannot_plan(Trouble::of(&error), error.to_string());
            }
        }
    }

    /// Proposes a plan, unless it is the one that is in force.
    fn propose(&mut self, plan: Plan, outlook: Option<Outlook>, now: Instant) {
        let planning = self.planning.as_ref().expect("it has made the plan");
        let manifest = Arc::clone(&planning.work().manifest);
        self.started.planned(outlook.as_ref());
        self.told.run_changed();
        self.events
            .push_back(OutEvent::Planned(outlook.map(Box::new)));
        let in_force = self.ring.reconfig().in_force();
        if in_force.is_some_and(|old| old.does_the_same_as(&plan)) {
            return;
        }
        if let Some(planning) = &mut self.planning {
            planning.proposed(now);
        }

        let propose = ring::InEvent::Propose {
            plan: Arc::new(plan),
            manifest,
        };
        self.ring.handle(propose, now);
    }
}

//! Bringing a plan into force.
//!
//! One machine serves every change of plan: what differs is only why there is a new one.
//!
//! ```text
//!  leader      propose ──► Prepare to all ──► Ready from all ──► Commit to all ──► in force
//!                               │                 │ NotReady · phone lost
//!  every phone                  ▼                 ▼
//!                             Load ──► Ready    failed
//! ```
//!
//! A phone follows only its leader, and only to a higher epoch than any it has prepared for. Nothing is
//! asked under a plan before the head has been told to commit it; by then every stage is loaded, so a
//! stage may run a step that overtook its own Commit.
//!
//! For a moment a member may obey a phone that was cut off and leads itself there, and give up for it what the others
//! still prepare, or take to be in force. So whoever begins to obey a leader says what it follows ([`Reconfig::follows`]),
//! and a leader that hears of a part which is played no more takes its phone for lost ([`Reconfig::is_left_by`]).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use gguf_tools::Manifest;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::wire::Control;
use crate::{Epoch, PeerId, text};

/// Bytes of what a phone says about why it is not ready: some lines on a screen.
const REASON_BYTES_MAX: usize = 512;

/// How far ahead of ours a member's epoch is believed to be: plans made on the other side of a cut, one a
/// second for a month.
const EPOCHS_APART_MAX: u64 = 1 << 22;

/// The highest epoch that another phone's plan may have: far from where numbers end, so that whoever leads after a liar can
/// count on, and from [`PROBE_EPOCH`](crate::profile::PROBE_EPOCH).
const EPOCH_MAX: Epoch = Epoch(1 << 62);

/// What to do.
#[derive(Debug, Clone)]
pub enum OutEvent {
    /// Send a message to another phone.
    Send {
        /// Phone that gets it.
        to: PeerId,
        /// The message.
        message: Control,
    },
    /// Get the shards that a plan gives this phone, and load them: answered by [`Reconfig::loaded`] or
    /// [`Reconfig::load_failed`].
    Load {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
    },
    /// The plan is in force.
    InForce {
        /// The plan.
        plan: Arc<Plan>,
    },
    /// The plan cannot be brought into force.
    Failed {
        /// The plan's epoch.
        epoch: Epoch,
        /// Phone that cannot do its part.
        phone: PeerId,
        /// Whether others might.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
}

/// How far the newest plan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    None,
    /// Phones are getting ready.
    Preparing,
    /// It is followed.
    InForce,
    /// It is not, or not any more.
    Failed(Cause),
}

/// Why a plan failed, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A phone is gone, or another leads: it may be different the next time.
    Lost,
    /// A phone cannot do its part.
    CannotLoad,
}

/// One phone's way from plan to plan.
#[derive(Debug)]
pub struct Reconfig {
    me: PeerId,
    /// Whom this phone obeys, or did last, while a leader is sought.
    leader: Option<PeerId>,
    /// Newest epoch that other phones were seen to know.
    known: Epoch,
    prepared: Option<Prepared>,
    /// Whether what was run was stopped under this leader.
    is_stopped: bool,
    events: VecDeque<OutEvent>,
}

/// The newest plan that this phone knows of.
#[derive(Debug)]
struct Prepared {
    plan: Arc<Plan>,
    /// On the leader: phones that have not said that they are ready.
    waiting_for: BTreeSet<PeerId>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Loaded,
    InForce,
    Failed(Cause),
    /// A person wants it no more.
    Stopped,
}

impl State {
    fn is_over(self) -> bool {
        matches!(self, Self::Failed(_) | Self::Stopped)
    }
}

impl Reconfig {
    /// Starts without a plan, obeying itself.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            leader: Some(me),
            known: Epoch(0),
            prepared: None,
            is_stopped: false,
            events: VecDeque::new(),
        }
    }

    /// Obeys another leader. A plan that the old one was still preparing fails; one in force stays.
    pub fn follow(&mut self, leader: Option<PeerId>) {
        if leader != self.leader {
            self.is_stopped = false; // what was stopped made room for what the next one runs, perhaps
        }
        let Some(new) = leader.filter(|_| leader != self.leader) else {
            return;
        };

        let old = self.leader.replace(new);
        if self.status() == Status::Preparing {
            self.fail(old.unwrap_or(new), Cause::Lost, "another phone leads");
        }
    }

    /// Returns what this phone says to a leader that it begins to obey: which plan it has a part in, and the newest that it
    /// knows of.
    pub fn follows(&self) -> Control {
        Control::Follows {
            epoch: self.live().map(|prepared| prepared.plan.epoch),
            newest: self.newest_epoch(),
        }
    }

    /// Takes note of what a member follows that begins to obey this phone. Returns whether it has a part in the newest plan,
    /// and has given it up.
    pub fn is_left_by(&mut self, from: PeerId, epoch: Option<Epoch>, newest: Epoch) -> bool {
        if !self.leads() {
            return false;
        }
        self.learn(newest);

        self.live().is_some_and(|prepared| {
            // Else the order to prepare for it is still on its way.
            let has_heard_of_it = prepared.state == State::InForce || newest >= prepared.plan.epoch;
            prepared.plan.needs(from) && epoch != Some(prepared.plan.epoch) && has_heard_of_it
        })
    }

    /// Returns how far the newest plan has come.
    pub fn status(&self) -> Status {
        match self.prepared.as_ref().map(|prepared| prepared.state) {
            None | Some(State::Stopped) => Status::None,
            Some(State::Loading | State::Loaded) => Status::Preparing,
            Some(State::InForce) => Status::InForce,
            Some(State::Failed(cause)) => Status::Failed(cause),
        }
    }

    /// Returns the plan in force.
    pub fn in_force(&self) -> Option<&Arc<Plan>> {
        let prepared = self.prepared.as_ref();

        prepared
            .filter(|prepared| prepared.state == State::InForce)
            .map(|prepared| &prepared.plan)
    }

    /// Returns whether what was run was stopped under this leader, and nothing has been run since.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Returns the newest plan, whatever has become of it.
    pub fn newest(&self) -> Option<&Arc<Plan>> {
        self.prepared.as_ref().map(|prepared| &prepared.plan)
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns the epoch of the next plan that this phone proposes.
    ///
    /// # Panics
    ///
    /// If no epoch is left. None beyond [`EPOCH_MAX`] is taken from others, and this phone counts on by one.
    pub fn next_epoch(&self) -> Epoch {
        let next = self.newest_epoch().max(self.known).0.checked_add(1);

        Epoch(next.expect("fewer than 2^62 plans of its own"))
    }

    /// Proposes a plan to every phone in it. Only the leader does.
    pub fn propose(&mut self, plan: Arc<Plan>, manifest: Arc<Manifest>) {
        let phones = plan.phones().collect::<BTreeSet<_>>();
        for &to in phones.iter().filter(|&&phone| phone != self.me) {
            let message = Control::Prepare {
                plan: Arc::clone(&plan),
                manifest: Arc::clone(&manifest),
            };
            self.events.push_back(OutEvent::Send { to, message });
        }

        let takes_part = phones.contains(&self.me);
        self.is_stopped = false;
        self.prepared = Some(Prepared {
            plan: Arc::clone(&plan),
            waiting_for: phones,
            state: State::Loading,
        });
        if takes_part {
            self.events.push_back(OutEvent::Load { plan, manifest });
        }
    }

    /// This phone does no more for the newest plan: the group follows another one without it, or it lets go.
    pub fn give_up(&mut self) {
        self.is_stopped = false;
        if let Some(prepared) = &mut self.prepared {
            prepared.waiting_for.clear();
            prepared.state = State::Failed(Cause::Lost);
        }
    }

    /// What was run is wanted no more. Returns whether there was anything.
    pub fn stop(&mut self) -> bool {
        let Some(prepared) = &mut self.prepared else {
            return false;
        };

        self.is_stopped = true;
        prepared.waiting_for.clear();
        std::mem::replace(&mut prepared.state, State::Stopped) != State::Stopped
    }

    /// Takes note of a message about plans; others are none of its business.
    pub fn handle(&mut self, from: PeerId, message: Control) {
        match message {
            Control::Prepare { plan, manifest } => self.prepare(from, plan, manifest),
            Control::Ready { epoch } => self.ready(from, epoch),
            Control::NotReady {
                epoch,
                newest,
                cause,
                reason,
            } => self.not_ready(from, epoch, newest, cause, &reason),
            Control::Commit { epoch } => self.commit(from, epoch),
            Control::InForce { .. }
            | Control::Follows { .. }
            | Control::Survey(_)
            | Control::Offer { .. }
            | Control::Stop
            | Control::StopWanted
            | Control::RunWanted(_)
            | Control::ForecastWanted(_)
            | Control::ForecastTold { .. }
            | Control::Standing(_)
            | Control::Step(_)
            | Control::StageFailed { .. }
            | Control::NeighbourLost { .. } => {}
        }
    }

    /// This phone has loaded its part of a plan.
    pub fn loaded(&mut self, epoch: Epoch) {
        let prepared = self.current(epoch);
        let Some(prepared) = prepared.filter(|p| p.state == State::Loading) else {
            return;
        };
        prepared.state = State::Loaded;

        if self.leads() {
            self.ready(self.me, epoch);
        } else {
            self.send_leader(Control::Ready { epoch });
        }
    }

    /// This phone cannot load its part of a plan.
    pub fn load_failed(&mut self, epoch: Epoch, cause: Cause, reason: String) {
        if self.current(epoch).is_none() {
            return;
        }

        self.say_not_ready(epoch, cause, reason.clone());
        self.fail(self.me, cause, &reason);
    }

    /// A phone is gone, or cannot be reached from here; a plan that needs it fails, in force or not. But one in force only
    /// where this phone leads, or has to do with the other: else the ring may go on, and whether it does the leader says.
    ///
    /// The leader may reach it all the same, and would wait for this phone.
    pub fn phone_lost(&mut self, phone: PeerId) {
        let is_near = |plan: &Plan| {
            let by_head = plan.head == self.me || plan.head == phone;
            by_head || plan.are_neighbours(self.me, phone)
        };
        let needs_it = |prepared: &&Prepared| {
            let may_go_on = prepared.state == State::InForce && !self.leads();
            prepared.plan.needs(phone) && (!may_go_on || is_near(&prepared.plan))
        };
        let Some(epoch) = self
            .prepared
            .as_ref()
            .filter(needs_it)
            .map(|p| p.plan.epoch)
        else {
            return;
        };

        if self.status() == Status::Preparing {
            self.say_not_ready(epoch, Cause::Lost, "it cannot reach another phone".into());
        }
        let reason = "it left the group, and its layers with it";
        self.fail(phone, Cause::Lost, reason);
    }

    /// A stage cannot reach a phone beside it, which the leader may still reach: the ring is broken all the same, and
    /// the next plan has them connect anew.
    pub fn neighbour_lost(&mut self, from: PeerId, epoch: Epoch, neighbour: PeerId) {
        let breaks = self.current(epoch).is_some_and(|prepared| {
            prepared.plan.stage_of(from).is_some() && prepared.plan.needs(neighbour)
        });

        if self.leads() && breaks {
            let reason = "the phone before or after it in the ring cannot reach it";
            self.fail(neighbour, Cause::Lost, reason);
        }
    }

    /// A phone takes part no more: a plan that needs it fails.
    pub fn forbid(&mut self, phone: PeerId) {
        if self.prepared.as_ref().is_some_and(|p| p.plan.needs(phone)) {
            self.fail(phone, Cause::Lost, "it takes part no more");
        }
    }

    /// A phone's engine cannot go on in the middle of a plan: the next has to do without it.
    pub fn stage_failed(&mut self, from: PeerId, epoch: Epoch, reason: &str) {
        let has_part = self.current(epoch).is_some_and(|p| p.plan.needs(from));

        if self.leads() && has_part {
            self.fail(from, Cause::CannotLoad, reason);
        }
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.events.pop_front()
    }

    fn prepare(&mut self, from: PeerId, plan: Arc<Plan>, manifest: Arc<Manifest>) {
        let (epoch, newest) = (plan.epoch, self.newest_epoch());
        if self.leader != Some(from) {
            // One that led a moment ago, or will in a moment, would wait for this phone for ever.
            tracing::debug!(%from, %epoch, "Plan from a phone that does not lead, refused");
            let message = Control::NotReady {
                epoch,
                newest,
                cause: Cause::Lost,
                reason: "it obeys another phone".into(),
            };
            return self.events.push_back(OutEvent::Send { to: from, message });
        }
        if epoch <= newest {
            // A leader that was apart from us counts on from what we know.
            let reason = "it follows a newer plan".into();
            return self.send_leader(Control::NotReady {
                epoch,
                newest,
                cause: Cause::Lost,
                reason,
            });
        }
        let valid = (epoch <= EPOCH_MAX)
            .then_some(())
            .ok_or("no plan has that number".to_owned());
        let valid = valid.and_then(|()| manifest.validate().map_err(|error| error.to_string()));
        let valid = valid.and_then(|()| plan.validate(&manifest).map_err(|e| e.to_string()));
        if let Err(reason) = valid {
            tracing::warn!(%from, %epoch, reason, "Plan refused");
            self.send_leader(Control::NotReady {
                epoch,
                newest,
                cause: Cause::CannotLoad,
                reason,
            });
            return;
        }

        self.is_stopped = false;
        self.prepared = Some(Prepared {
            plan: Arc::clone(&plan),
            waiting_for: BTreeSet::new(),
            state: State::Loading,
        });
        self.events.push_back(OutEvent::Load { plan, manifest });
    }

    fn ready(&mut self, from: PeerId, epoch: Epoch) {
        if !self.leads() {
            return;
        }
        let Some(prepared) = self.current(epoch) else {
            return;
        };
        prepared.waiting_for.remove(&from);
        if !prepared.waiting_for.is_empty() || prepared.state == State::InForce {
            return;
        }

        prepared.state = State::InForce;
        let plan = Arc::clone(&prepared.plan);
        for to in plan.phones().filter(|&phone| phone != self.me) {
            let message = Control::Commit { epoch };
            self.events.push_back(OutEvent::Send { to, message });
        }
        self.events.push_back(OutEvent::InForce { plan });
    }

    fn not_ready(&mut self, from: PeerId, epoch: Epoch, newest: Epoch, cause: Cause, reason: &str) {
        if !self.leads() {
            return;
        }
        self.learn(newest);

        let counts = self.live().is_some_and(|prepared| {
            let is_meant = prepared.plan.epoch == epoch;
            // It follows a newer one, and does not go back.
            let is_passed = prepared.plan.epoch < newest;
            prepared.plan.needs(from)
                && match cause {
                    // What a phone could load it cannot take back.
                    Cause::CannotLoad => is_meant && prepared.waiting_for.contains(&from),
                    // Whom it reaches, and whom it obeys, may change.
                    Cause::Lost => is_meant || is_passed,
                }
        });
        if counts {
            self.fail(from, cause, reason);
        }
    }

    /// Takes note of an epoch that a member knows: the next plan's is higher. One that lies can use up epochs, but not so
    /// many that none is left.
    fn learn(&mut self, newest: Epoch) {
        let believed = self.newest_epoch().0.saturating_add(EPOCHS_APART_MAX);

        self.known = self.known.max(Epoch(newest.0.min(believed))).min(EPOCH_MAX);
    }

    fn commit(&mut self, from: PeerId, epoch: Epoch) {
        if self.leader != Some(from) {
            tracing::debug!(%from, "Commit from a phone that does not lead, dropped");
            return;
        }
        let Some(prepared) = self.current(epoch).filter(|p| p.state == State::Loaded) else {
            tracing::debug!(%epoch, "Commit of a plan that is not loaded, dropped");
            return;
        };

        prepared.state = State::InForce;
        let plan = Arc::clone(&prepared.plan);
        self.events.push_back(OutEvent::InForce { plan });
    }

    fn fail(&mut self, phone: PeerId, cause: Cause, reason: &str) {
        let reason = text::clean(reason, REASON_BYTES_MAX);
        let prepared = self.prepared.as_mut().expect("only a plan can fail");
        if prepared.state.is_over() {
            return;
        }

        prepared.state = State::Failed(cause);
        let epoch = prepared.plan.epoch;
        tracing::info!(%epoch, %phone, ?cause, reason, "Plan failed");
        self.events.push_back(OutEvent::Failed {
            epoch,
            phone,
            cause,
            reason,
        });
    }

    /// Returns the newest plan, unless that is over.
    fn live(&self) -> Option<&Prepared> {
        self.prepared.as_ref().filter(|p| !p.state.is_over())
    }

    /// Returns the epoch of the newest plan; epochs count from 1.
    fn newest_epoch(&self) -> Epoch {
        let prepared = self.prepared.as_ref();

        prepared.map_or(Epoch(0), |prepared| prepared.plan.epoch)
    }

    fn current(&mut self, epoch: Epoch) -> Option<&mut Prepared> {
        let prepared = self.prepared.as_mut();

        prepared.filter(|p| p.plan.epoch == epoch && !p.state.is_over())
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }

    /// Tells the leader, if that is another phone, that this one cannot do its part.
    fn say_not_ready(&mut self, epoch: Epoch, cause: Cause, reason: String) {
        if !self.leads() {
            self.send_leader(Control::NotReady {
                epoch,
                newest: epoch,
                cause,
                reason,
            });
        }
    }

    fn send_leader(&mut self, message: Control) {
        if let Some(to) = self.leader {
            self.events.push_back(OutEvent::Send { to, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, ANNA, BELA, CARL};

    const DORA: PeerId = PeerId([0xdd; 32]);

    #[test]
    fn a_plan_is_in_force_once_every_phone_is_ready() {
        let mut leader = proposing(&[ANNA, BELA, CARL]);

        leader.loaded(Epoch(1));
        leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
        assert_eq!(said(&mut leader), []);
        leader.handle(CARL, Control::Ready { epoch: Epoch(1) });

        let commit = || Said::Sent(Control::Commit { epoch: Epoch(1) });
        assert_eq!(said(&mut leader), [commit(), commit(), Said::InForce]);
    }

    #[test]
    fn a_member_loads_says_so_and_waits_for_the_word() {
        let mut member = following(ANNA);

        member.handle(ANNA, prepare(1));
        member.loaded(Epoch(1));
        let before = said(&mut member);
        member.handle(ANNA, Control::Commit { epoch: Epoch(1) });

        assert_eq!(
            before,
            [Said::Load, Said::Sent(Control::Ready { epoch: Epoch(1) })]
        );
        assert_eq!(said(&mut member), [Said::InForce]);
    }

    #[test]
    fn only_the_leader_is_followed_and_only_forward() {
        let mut member = following(ANNA);
        member.handle(ANNA, prepare(5));
        member.loaded(Epoch(5));
        said(&mut member);

        for (from, message) in [
            (CARL, Control::Commit { epoch: Epoch(5) }),
            (ANNA, Control::Commit { epoch: Epoch(4) }),
            (
                CARL,
                Control::NotReady {
                    epoch: Epoch(5),
                    newest: Epoch(5),
                    cause: Cause::Lost,
                    reason: String::new(),
                },
            ),
        ] {
            member.handle(from, message);
        }

        assert_eq!(said(&mut member), []);
    }

    /// Two that lead meet in a moment, and one of them goes on: it may not wait for who obeyed the other.
    #[test]
    fn who_proposes_to_a_phone_that_obeys_another_is_told() {
        let mut leader = proposing(&[ANNA, BELA]);
        let mut member = following(CARL);

        member.handle(ANNA, prepare(1));
        let Some(OutEvent::Send { to, message }) = member.poll() else {
            panic!("it says nothing");
        };
        leader.handle(BELA, message);

        assert_eq!((to, member.status()), (ANNA, Status::None));
        assert_eq!(leader.status(), Status::Failed(Cause::Lost));
    }

    /// A leader may name the last epoch there is; the next plan is then refused, and nothing overflows.
    #[test]
    fn nothing_follows_the_last_epoch() {
        let mut member = following(ANNA);
        let not_ready = |epoch| {
            Said::Sent(Control::NotReady {
                epoch: Epoch(epoch),
                newest: EPOCH_MAX,
                cause: Cause::Lost,
                reason: "it follows a newer plan".into(),
            })
        };

        let last = EPOCH_MAX.0;
        member.handle(ANNA, prepare(last));
        member.handle(ANNA, prepare(last));
        member.handle(ANNA, prepare(1));

        assert_eq!(
            said(&mut member),
            [Said::Load, not_ready(last), not_ready(1)]
        );
        assert_eq!(member.next_epoch(), Epoch(last + 1));

        member.handle(ANNA, prepare(last + 1));
        let refused = said(&mut member);
        assert!(
            matches!(
                refused[..],
                [Said::Sent(Control::NotReady {
                    cause: Cause::CannotLoad,
                    ..
                })]
            ),
            "{refused:?}"
        );
    }

    /// A leader that was apart from a member learns what it has to exceed.
    #[test]
    fn a_leader_counts_on_from_what_members_know() {
        let mut leader = proposing(&[ANNA, BELA]);

        leader.handle(
            BELA,
            Control::NotReady {
                epoch: Epoch(1),
                newest: Epoch(7),
                cause: Cause::Lost,
                reason: String::new(),
            },
        );

        assert_eq!(leader.status(), Status::Failed(Cause::Lost));
        assert_eq!(leader.next_epoch(), Epoch(8));
    }

    #[test]
    fn what_an_old_leader_was_preparing_fails_and_what_is_in_force_stays() {
        for in_force in [false, true] {
            let mut member = following(ANNA);
            member.handle(ANNA, prepare(1));
            member.loaded(Epoch(1));
            if in_force {
                member.handle(ANNA, Control::Commit { epoch: Epoch(1) });
            }

            member.follow(None);
            member.follow(Some(CARL));

            let expected = if in_force {
                Status::InForce
            } else {
                Status::Failed(Cause::Lost)
            };
            assert_eq!(member.status(), expected);
        }
    }

    /// Two sides of a cut meet, and a member obeys the leader of the other one for a moment. The one that it comes back to
    /// never missed it, and would wait for it for ever: to get ready, or to run its next step.
    #[test]
    fn a_leader_that_a_member_comes_back_to_learns_that_it_has_given_its_part_up() {
        for in_force in [false, true] {
            let mut leader = proposing(&[ANNA, BELA]);
            let mut member = following(ANNA);
            member.handle(ANNA, prepare(1));
            if in_force {
                member.loaded(Epoch(1));
                leader.loaded(Epoch(1));
                leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
                member.handle(ANNA, Control::Commit { epoch: Epoch(1) });
                assert_eq!(leader.status(), Status::InForce);
            }

            assert!(!left_by_bela(&mut leader, &member.follows()));
            member.follow(Some(CARL));
            member.give_up();
            member.follow(Some(ANNA));

            let is_left = left_by_bela(&mut leader, &member.follows());
            assert!(is_left, "in_force={in_force}");
        }
    }

    /// Who has not heard of a plan yet has not given it up; but where that is in force, it has forgotten it.
    #[test]
    fn a_plan_that_is_on_its_way_is_not_given_up() {
        let nothing = following(ANNA).follows();
        let mut leader = proposing(&[ANNA, BELA]);

        assert!(!left_by_bela(&mut leader, &nothing));
        leader.loaded(Epoch(1));
        leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
        assert!(left_by_bela(&mut leader, &nothing));
    }

    #[test]
    fn a_leader_counts_on_from_what_those_follow_who_come_back() {
        let mut leader = proposing(&[ANNA, BELA]);
        let follows = Control::Follows {
            epoch: Some(Epoch(5)),
            newest: Epoch(5),
        };

        assert!(left_by_bela(&mut leader, &follows));

        assert_eq!(leader.next_epoch(), Epoch(6));
    }

    /// A member that loses one with whom it has nothing to do tells nobody that the plan is broken: the ring goes on.
    #[test]
    fn a_stage_keeps_its_part_as_long_as_it_has_its_neighbours() {
        for (lost, status) in [
            (DORA, Status::InForce),
            (CARL, Status::Failed(Cause::Lost)),
            (ANNA, Status::Failed(Cause::Lost)),
        ] {
            let mut member = following(ANNA);
            let plan = testing::plan(&[ANNA, BELA, CARL, DORA]);
            member.handle(ANNA, prepare_plan(plan));
            member.loaded(Epoch(1));
            member.handle(ANNA, Control::Commit { epoch: Epoch(1) });

            member.phone_lost(lost);

            assert_eq!(member.status(), status, "{lost}");
        }
    }

    /// It breaks off every answer: nothing of that plan goes on.
    #[test]
    fn a_head_that_does_not_lead_loses_its_plan_with_any_phone_of_it() {
        let mut head = following(ANNA);
        let mut plan = testing::plan(&[ANNA, CARL, DORA]);
        plan.head = BELA;
        head.handle(ANNA, prepare_plan(plan));
        head.loaded(Epoch(1));
        head.handle(ANNA, Control::Commit { epoch: Epoch(1) });
        assert_eq!(head.status(), Status::InForce);

        head.phone_lost(CARL);

        assert_eq!(head.status(), Status::Failed(Cause::Lost));
    }

    /// Another leads because of what is to be run instead, and whoever comes back may be just the one that runs it.
    #[test]
    fn a_stop_is_told_on_by_the_leader_under_which_it_happened() {
        for next in [None, Some(CARL)] {
            let mut member = following(ANNA);
            member.handle(ANNA, prepare(1));

            assert!(member.stop());
            assert!(member.is_stopped());
            member.follow(next);

            assert!(!member.is_stopped());
            assert_eq!(member.status(), Status::None);
        }
    }

    #[test]
    fn a_plan_that_does_not_fit_its_model_is_refused() {
        let mut member = following(ANNA);
        let mut plan = testing::plan(&[ANNA, BELA]);
        plan.n_ctx = 0;

        member.handle(ANNA, prepare_plan(plan));

        assert!(matches!(
            said(&mut member)[..],
            [Said::Sent(Control::NotReady {
                epoch: Epoch(1),
                ..
            })]
        ));
    }

    #[test]
    fn who_is_ready_or_has_no_part_cannot_break_the_plan() {
        let mut leader = proposing(&[ANNA, BELA]);
        let not_ready = || Control::NotReady {
            epoch: Epoch(1),
            newest: Epoch(1),
            cause: Cause::CannotLoad,
            reason: "a lie".into(),
        };

        leader.handle(CARL, not_ready());
        leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
        leader.handle(BELA, not_ready());

        assert_eq!(said(&mut leader), []);
    }

    /// A member that cannot reach its neighbour says so, whether it has loaded or not: the leader, which reaches both,
    /// would wait for ever.
    #[test]
    fn a_neighbour_out_of_reach_breaks_the_plan() {
        for loaded in [false, true] {
            let mut member = following(ANNA);
            member.handle(ANNA, prepare_plan(testing::plan(&[ANNA, BELA, CARL])));
            if loaded {
                member.loaded(Epoch(1));
            }
            said(&mut member);
            let mut leader = proposing(&[ANNA, BELA, CARL]);
            if loaded {
                leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
            }

            member.phone_lost(CARL);
            let Some(OutEvent::Send { message, .. }) = member.poll() else {
                panic!("it says nothing");
            };
            leader.handle(BELA, message);

            assert_eq!(leader.status(), Status::Failed(Cause::Lost), "{loaded}");
        }
    }

    #[test]
    fn a_link_that_breaks_later_breaks_the_plan_that_is_in_force() {
        let mut leader = proposing(&[ANNA, BELA]);
        leader.loaded(Epoch(1));
        leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
        said(&mut leader);

        leader.neighbour_lost(CARL, Epoch(1), ANNA); // it has no part
        leader.neighbour_lost(BELA, Epoch(2), ANNA); // of no such plan
        assert_eq!(leader.status(), Status::InForce);
        leader.neighbour_lost(BELA, Epoch(1), ANNA);

        assert_eq!(leader.status(), Status::Failed(Cause::Lost));
    }

    #[test]
    fn a_loss_breaks_the_plan_once_in_force_or_not() {
        for in_force in [false, true] {
            let mut leader = proposing(&[ANNA, BELA]);
            if in_force {
                leader.loaded(Epoch(1));
                leader.handle(BELA, Control::Ready { epoch: Epoch(1) });
                said(&mut leader);
            }

            leader.phone_lost(CARL);
            leader.phone_lost(BELA);
            leader.phone_lost(BELA);

            assert_eq!(
                said(&mut leader),
                [Said::Failed(BELA)],
                "in_force={in_force}"
            );
        }
    }

    /// An [`OutEvent`], as far as it matters here.
    #[derive(Debug, PartialEq)]
    enum Said {
        Sent(Control),
        Load,
        InForce,
        Failed(PeerId),
    }

    fn said(reconfig: &mut Reconfig) -> Vec<Said> {
        std::iter::from_fn(|| reconfig.poll())
            .map(|event| match event {
                OutEvent::Send { message, .. } => Said::Sent(message),
                OutEvent::Load { .. } => Said::Load,
                OutEvent::InForce { .. } => Said::InForce,
                OutEvent::Failed { phone, .. } => Said::Failed(phone),
            })
            .collect()
    }

    /// Returns the first phone's machine; it leads, and has told the others of a plan.
    fn proposing(phones: &[PeerId]) -> Reconfig {
        let mut leader = Reconfig::new(phones[0]);
        let manifest = testing::manifest(&vec![2; phones.len()]);
        leader.propose(Arc::new(testing::plan(phones)), Arc::new(manifest));
        said(&mut leader);

        leader
    }

    /// Returns whether the leader takes BELA, which says this, for one that has given its part up.
    fn left_by_bela(leader: &mut Reconfig, said: &Control) -> bool {
        let Control::Follows { epoch, newest } = *said else {
            panic!("{said:?}");
        };

        leader.is_left_by(BELA, epoch, newest)
    }

    /// Returns BELA's machine, which obeys `leader`.
    fn following(leader: PeerId) -> Reconfig {
        let mut member = Reconfig::new(BELA);
        member.follow(Some(leader));

        member
    }

    fn prepare(epoch: u64) -> Control {
        let mut plan = testing::plan(&[ANNA, BELA]);
        plan.epoch = Epoch(epoch);

        prepare_plan(plan)
    }

    fn prepare_plan(plan: Plan) -> Control {
        let manifest = testing::manifest(&vec![2; plan.stages.len()]);

        Control::Prepare {
            plan: Arc::new(plan),
            manifest: Arc::new(manifest),
        }
    }
}

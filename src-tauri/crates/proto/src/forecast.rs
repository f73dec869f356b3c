//! What to expect of a model before anybody commits to it.
//!
//! ```text
//!  asked ──► waiting ──► measuring ──► Known ──► Forecasts
//!               │ an answer is being written   (solved by the shell, beside the loop: it may take a second)
//!               └─ too late: Busy
//! ```
//!
//! A [`Forecasting`] is a [`Planning`] that never makes a plan: it has the phones measured for a model, as the leader's
//! planning would, and says what was found. It can stand on any phone that has the model, which would then be the head.
//! It begins only when nothing is being written, asks phones only what is not known from another time, and touches no
//! plan: phones that write meanwhile let it wait ([`crate::phone`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::{LayerRange, Manifest};
use serde::{Deserialize, Serialize};

use crate::device::Snapshot;
use crate::group::{MEMBERS_MAX, Name, Roster};
use crate::placement::{
    self, Availability, Forecast, Help, Objective, Placement, Problem, Reason, Shortage,
    SolveError, Tiredness, Verdict,
};
use crate::plan::STAGES_MAX;
use crate::planning::{Planning, Rule, Work};
use crate::profile::Message;
use crate::profile::survey::Survey;
use crate::{PeerId, wire};

/// How long a forecast may take: a phone to measure itself (10 s at most), and the links of four phones (3 s). One
/// more is for an answer that is being written to its end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long another member has that was asked for one: the same, and time to read the model's file to its end, which it
/// does the first time (about a second per GB), and to solve.
pub(crate) const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// Seconds per token that a member forecasts, at least: speed is one divided by that.
const SECONDS_PER_TOKEN_MIN: f64 = 1e-6;

/// Seconds of anything that a member forecasts, at most: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// Name of a question for a forecast, counted by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForecastId(pub u64);

/// What there is to tell of a forecast.
#[derive(Debug)]
pub enum News {
    /// Phones are measured; of these it is not known yet what they can do, or what the ways to them are. Comes again
    /// when they are others.
    Measuring {
        /// Those phones.
        unknown: BTreeSet<PeerId>,
    },
    /// Everything is known that can be: [`Known::forecasts`] tells what follows. Nothing comes after this.
    Known(Box<Known>),
    /// The member that has the model says what to expect. Nothing comes after this.
    Told(Box<Forecasts>),
    /// There will be no forecast. Nothing comes after this.
    Failed(ForecastError),
}

/// Why there is no forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ForecastError {
    /// The group seeks a leader: who is in it may change at any moment.
    #[error("the group has no leader at this moment: try again in some seconds")]
    NoLeader,
    /// An answer is being written, and measuring would hold it up.
    #[error("an answer is being written: try again when it is done")]
    Busy,
    /// Phones took too long.
    #[error("measuring the phones took too long: try again")]
    TimedOut,
    /// Somebody asked for another forecast on this phone.
    #[error("another forecast was asked for")]
    Superseded,
    /// The member that was asked finds out about something else.
    #[error(
        "the phone that has the model is finding out about another one: try again in some seconds"
    )]
    Occupied,
    /// No other member that is here has the model, or can read it.
    #[error("no other phone of the group that is here has this model")]
    NobodyHasIt,
}

/// What a member says of a model that another asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// What to expect.
    Done(Box<Forecasts>),
    /// There is no forecast.
    Failed(ForecastError),
}

/// What was found out about the phones, for one model.
#[derive(Debug, Clone)]
pub struct Known {
    /// This phone, which would be the head.
    pub me: PeerId,
    /// The model.
    pub manifest: Arc<Manifest>,
    /// Phones, links and the work to plan for.
    pub problem: Problem,
}

/// What to expect of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecasts {
    /// Of the group as it is.
    pub group: Outlook,
    /// Of the phone that has the model alone.
    pub alone: Outlook,
    /// Without each of the other phones that would run layers.
    #[serde(deserialize_with = "wire::at_most::<_, _, MEMBERS_MAX>")]
    pub without: Vec<(PeerId, Outlook)>,
    /// Why each phone gets what it gets. Empty if nothing fits.
    #[serde(deserialize_with = "wire::at_most::<_, _, MEMBERS_MAX>")]
    pub verdicts: Vec<Verdict>,
}

/// What to expect of some phones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outlook {
    /// They run it.
    Runs {
        /// How quickly.
        forecast: Forecast,
        /// Who runs which layers, in ring order.
        #[serde(deserialize_with = "wire::at_most::<_, _, STAGES_MAX>")]
        stages: Vec<StageOutlook>,
        /// Phone that each token waits for longest.
        slowest: PeerId,
        /// Bytes that phones have to get, if none of them has any of the model's shards yet.
        fetch_bytes: u64,
    },
    /// They have too little memory.
    DoesNotFit(Shortage),
    /// Those that have memory for it cannot reach each other.
    CutOff,
    /// It does not fit the others, and of this phone it is not known what it can do.
    Unknown {
        /// That phone.
        phone: PeerId,
    },
}

/// A phone's part of an outlook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageOutlook {
    /// The phone.
    pub phone: PeerId,
    /// Its layers, half-open; equal if it only holds the ends.
    pub layers: (u32, u32),
    /// What it needs for each token, the ends counted where they are.
    pub ms_per_token: f64,
}

/// A forecast in the making.
#[derive(Debug)]
pub struct Forecasting {
    id: ForecastId,
    /// Whether a person here asked.
    is_own: bool,
    planning: Planning,
    /// Whether phones are measured: not while an answer is being written.
    is_measuring: bool,
    /// What was told last.
    unknown: Option<BTreeSet<PeerId>>,
    give_up_at: Instant,
}

impl Forecasting {
    /// Begins to find out about a model.
    pub fn new(id: ForecastId, me: PeerId, mut work: Work, is_own: bool, now: Instant) -> Self {
        if work.rule == Rule::Even {
            work.rule = Rule::Best(Objective::Latency);
        }

        Self {
            id,
            is_own,
            planning: Planning::of_forecast(me, work),
            is_measuring: false,
            unknown: None,
            give_up_at: now + TIMEOUT,
        }
    }

    /// Returns which forecast it is.
    pub fn id(&self) -> ForecastId {
        self.id
    }

    /// Returns whether a person of this phone asked for it, not of another.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Returns what was found out so far, for the next one to begin with.
    pub fn survey(&self) -> &Survey {
        self.planning.survey()
    }

    /// Learns what another survey has found out about phones, as far as it is of use here. To be said before these are
    /// measured.
    pub fn learn(&mut self, other: &Survey, phones: &BTreeSet<PeerId>, now: Instant) {
        self.planning.learn(other, phones, now);
    }

    /// Returns whether phones are measured.
    pub fn is_measuring(&self) -> bool {
        self.is_measuring
    }

    /// Begins to measure, or goes on with who is here now. To be said whenever nothing is being written.
    pub fn measure(&mut self, phones: &BTreeSet<PeerId>, now: Instant) {
        self.is_measuring = true;
        self.planning.set_phones(phones.clone(), now);
    }

    /// Leaves these phones out.
    pub fn set_excluded(&mut self, phones: &BTreeSet<PeerId>) {
        self.planning.set_excluded(phones.clone());
    }

    /// Takes note of how phones are.
    pub fn set_devices(&mut self, devices: BTreeMap<PeerId, Snapshot>) {
        self.planning.set_devices(devices);
    }

    /// Takes note of what a phone said about itself, or about a link.
    pub fn hear(&mut self, from: PeerId, message: Message, now: Instant) {
        self.planning.hear(from, message, now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.planning.handle_timeout(now);
    }

    /// Returns when that is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let measured = self.planning.poll_timeout();

        measured.into_iter().chain([self.give_up_at]).min()
    }

    /// Returns whether [`Self::poll`] may have something.
    pub fn wants_anything(&self) -> bool {
        self.planning.wants_anything()
    }

    /// Returns the next message to a phone, which may be this one.
    pub fn poll(&mut self) -> Option<(PeerId, Message)> {
        self.planning.poll()
    }

    /// Returns what there is to tell, if anything. `roster` has the phones' names.
    pub fn news(&mut self, roster: Option<&Roster>, now: Instant) -> Option<News> {
        if self.is_measuring && self.planning.is_known() {
            let known = Known {
                me: self.planning.me(),
                manifest: Arc::clone(&self.planning.work().manifest),
                problem: self.planning.problem(roster, now)?,
            };
            return Some(News::Known(Box::new(known)));
        }
        if self.give_up_at <= now {
            return Some(News::Failed(match self.is_measuring {
                true => ForecastError::TimedOut,
                false => ForecastError::Busy,
            }));
        }

        let unknown = self.planning.survey().unknown_phones();
        let is_news = self.is_measuring && self.unknown.as_ref() != Some(&unknown);
        is_news.then(|| {
            self.unknown = Some(unknown.clone());
            News::Measuring { unknown }
        })
    }
}

impl News {
    /// Returns whether nothing comes after this.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Measuring { .. } => false,
            Self::Known(_) | Self::Told(_) | Self::Failed(_) => true,
        }
    }
}

impl Forecasts {
    /// Returns the same with no number that makes no sense: another phone has said them.
    pub fn bounded(mut self) -> Self {
        let outlooks = self.without.iter_mut().map(|(_, outlook)| outlook);
        for outlook in outlooks.chain([&mut self.group, &mut self.alone]) {
            outlook.bound();
        }
        for verdict in &mut self.verdicts {
            verdict.name = Name::tidy(&verdict.name).to_string();
            if let Reason::Runs { ms_per_token, .. }
            | Reason::WouldAdd { ms_per_token }
            | Reason::WouldHoldUp { ms_per_token } = &mut verdict.reason
            {
                *ms_per_token = possible(*ms_per_token, SECONDS_MAX * 1e3);
            }
        }

        self
    }
}

impl Outlook {
    fn bound(&mut self) {
        if let Self::DoesNotFit(shortage) = self {
            for help in &mut shortage.helps {
                if let Help::FreeMemory { name, .. } | Help::BringBack { name, .. } = help {
                    *name = Name::tidy(name).to_string();
                }
            }
        }
        let Self::Runs {
            forecast, stages, ..
        } = self
        else {
            return;
        };

        let Forecast {
            ttft_s,
            tpot_s,
            compute_s,
            hops_s,
            busiest_s,
        } = forecast;
        for seconds in [ttft_s, &mut *tpot_s, compute_s, hops_s, busiest_s] {
            *seconds = possible(*seconds, SECONDS_MAX);
        }
        *tpot_s = tpot_s.max(SECONDS_PER_TOKEN_MIN);
        for stage in stages {
            stage.layers.1 = stage.layers.1.max(stage.layers.0);
            stage.ms_per_token = possible(stage.ms_per_token, SECONDS_MAX * 1e3);
        }
    }
}

impl Known {
    /// Returns what to expect: of the group, of this phone alone, and without each of the others.
    ///
    /// # Blocking
    ///
    /// As [`placement::solve`], once more for each phone: some tenths of a second for 8 phones.
    pub fn forecasts(&self) -> Forecasts {
        let solved = placement::solve(&self.problem);
        let verdicts = solved.as_ref().map(|placement| placement.verdicts.clone());
        let in_plan = solved.iter().flat_map(|placement| &placement.stages);
        let others = in_plan.map(|stage| stage.phone);
        let others = others.filter(|&phone| phone != self.me);
        let without = others.map(|phone| (phone, self.without(phone)));

        Forecasts {
            without: without.collect(),
            alone: self.outlook(placement::alone(&self.problem, self.me), |phone| {
                phone == self.me
            }),
            verdicts: verdicts.unwrap_or_default(),
            group: self.outlook(solved, |_| true),
        }
    }

    fn without(&self, phone: PeerId) -> Outlook {
        let mut problem = self.problem.clone();
        for candidate in problem.phones.iter_mut().filter(|c| c.id == phone) {
            candidate.availability = Availability::Excluded;
        }

        let solved = placement::solve_without_reasons(&problem);
        self.outlook(solved, |other| other != phone)
    }

    fn outlook(
        &self,
        solved: Result<Placement, SolveError>,
        may_help: impl Fn(PeerId) -> bool,
    ) -> Outlook {
        match (solved, self.unmeasured(may_help)) {
            (Ok(placement), _) => self.runs(&placement),
            (Err(_), Some(phone)) => Outlook::Unknown { phone },
            (Err(SolveError::DoesNotFit(shortage)), None) => Outlook::DoesNotFit(shortage),
            (Err(SolveError::CutOff), None) => Outlook::CutOff,
            (Err(SolveError::Invalid(error)), None) => {
                tracing::warn!(%error, "No forecast can be made of what was measured");
                Outlook::Unknown { phone: self.me }
            }
        }
    }

    /// Returns a phone of which it is not known what it can do.
    fn unmeasured(&self, may_help: impl Fn(PeerId) -> bool) -> Option<PeerId> {
        let is_unmeasured = |phone: &&placement::Phone| {
            phone.availability == Availability::Tired(Tiredness::Unmeasured) && may_help(phone.id)
        };

        self.problem
            .phones
            .iter()
            .find(is_unmeasured)
            .map(|phone| phone.id)
    }

    fn runs(&self, placement: &Placement) -> Outlook {
        let stages = placement.stages.iter();
        let stages = stages.map(|stage| self.stage(stage)).collect::<Vec<_>>();
        let slowest = stages
            .iter()
            .max_by(|a, b| a.ms_per_token.total_cmp(&b.ms_per_token))
            .map_or(placement.head, |stage| stage.phone);
        let others = placement
            .stages
            .iter()
            .filter(|stage| stage.phone != self.me);
        let fetched = others.flat_map(|stage| &self.manifest.layers[stage.shards.clone()]);

        Outlook::Runs {
            forecast: placement.forecast,
            fetch_bytes: fetched.map(|shard| shard.bytes).sum(),
            slowest,
            stages,
        }
    }

    fn stage(&self, stage: &placement::StagePlacement) -> StageOutlook {
        let phone = self.problem.phones.iter().find(|p| p.id == stage.phone);
        let seconds = phone.map_or(0.0, |phone| {
            let layers = phone.decode_s[stage.shards.clone()].iter().sum::<f64>();
            let is_head = phone.id == self.problem.head;
            layers + if is_head { phone.ends_decode_s } else { 0.0 }
        });

        StageOutlook {
            phone: stage.phone,
            layers: layers(&self.manifest, stage.shards.clone()),
            ms_per_token: seconds * 1e3,
        }
    }
}

/// Returns a time as it may be, in whatever unit.
fn possible(time: f64, max: f64) -> f64 {
    if time.is_nan() {
        max
    } else {
        time.clamp(0.0, max)
    }
}

/// Returns the layers of some consecutive shards, half-open.
fn layers(manifest: &Manifest, shards: std::ops::Range<usize>) -> (u32, u32) {
    let ranges = manifest.layers[shards].iter();
    let mut ranges = ranges.filter_map(gguf_tools::ShardEntry::layers);
    let first = ranges.next();
    let last = ranges.next_back().or(first);

    let start = first.map_or(0, |layers: LayerRange| layers.start());
    (start, last.map_or(start, |layers| layers.end()))
}

//! Why each phone got what it got, or nothing, in words that a person understands.
//!
//! "Ben's phone would add 12 ms a token" is a fact, not a guess: the DP knows the best plan of
//! every set of phones, so what the best plan *with* Ben's phone would cost is read off its table.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cost::{Leg, Seconds};
use super::dp::{self, BySet};
use super::memory;
use super::network::Network;
use super::problem::{Availability, Link, Objective, Problem, Tiredness};
use crate::PeerId;

/// Share of the objective below which a difference is rounding: two plans are as good as each
/// other.
const ROUNDING: f64 = 1e-9;

/// What a phone got, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The phone.
    pub phone: PeerId,
    /// What its person calls it.
    pub name: String,
    /// Why it got what it got.
    pub reason: Reason,
}

/// Why a phone got what it got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// It runs shards.
    Runs {
        /// Which, half-open.
        shards: Range<usize>,
        /// Shards of the model.
        n_shards: usize,
        /// What it needs for each token.
        ms_per_token: f64,
    },
    /// With it, a token would take longer.
    WouldAdd {
        /// How much longer.
        ms_per_token: f64,
    },
    /// With it, the group would give fewer tokens a second: it would be busier than the busiest.
    WouldHoldUp {
        /// How much longer each token would wait.
        ms_per_token: f64,
    },
    /// With it, nothing would be better, or worse.
    NotNeeded,
    /// It has no room for the smallest piece of the model.
    NoMemory {
        /// How much it lacks.
        missing_bytes: u64,
    },
    /// It has room for some piece, but no plan has a use for that one.
    FitsNowhere,
    /// The head cannot talk to it.
    Unreachable,
    /// A person left it out.
    Excluded,
    /// It had better rest.
    Tired(Tiredness),
    /// The group has quicker phones than can be searched over.
    NotConsidered,
}

/// Returns a verdict on every phone, in the order of [`Problem::phones`].
pub(super) fn explain(problem: &Problem, network: &Network, legs: &[Leg]) -> Vec<Verdict> {
    let seconds = Seconds::of_decode(problem);
    let alternatives = Alternatives::new(problem.objective, network);
    let reason = |phone: usize| match legs.iter().find(|leg| leg.phone == phone) {
        Some(leg) => Reason::Runs {
            shards: leg.shards.clone(),
            n_shards: problem.shards.len(),
            ms_per_token: seconds.run_s(phone, &leg.shards) * 1e3,
        },
        None => reason_for_nothing(problem, network, &alternatives, phone),
    };

    problem
        .phones
        .iter()
        .enumerate()
        .map(|(i, phone)| Verdict {
            phone: phone.id,
            name: phone.name.clone(),
            reason: reason(i),
        })
        .collect()
}

fn reason_for_nothing(
    problem: &Problem,
    network: &Network,
    alternatives: &Alternatives,
    phone: usize,
) -> Reason {
    let missing_bytes = || {
        let pieces = network.cuts().windows(2).map(|pair| pair[0]..pair[1]);
        pieces
            .map(|shards| memory::shortfall_bytes(problem, phone, shards))
            .min()
            .unwrap_or(0)
    };

    match problem.phones[phone].availability {
        Availability::Excluded => return Reason::Excluded,
        Availability::Tired(tiredness) => return Reason::Tired(tiredness),
        Availability::Ready => {}
    }
    if let Some(slot) = network
        .phones()
        .iter()
        .position(|&candidate| candidate == phone)
    {
        return alternatives.with(slot);
    }
    if problem.link(problem.head_index(), phone) == Link::Unreachable
        && phone != problem.head_index()
    {
        return Reason::Unreachable;
    }
    match missing_bytes() {
        0 => Reason::NotConsidered,
        missing_bytes => Reason::NoMemory { missing_bytes },
    }
}

/// The best plans of every set of phones.
enum Alternatives {
    /// There are too many sets to look at.
    Unknown,
    Latency(BySet),
    Throughput {
        /// What the best plan's busiest phone needs.
        limit_s: f64,
        /// By the phone that begins the ring: least busy, and shortest lap within the limit.
        by_first: Vec<(BySet, BySet)>,
    },
}

impl Alternatives {
    fn new(objective: Objective, network: &Network) -> Self {
        match objective {
            _ if !dp::is_affordable(network, objective) => Self::Unknown,
            Objective::Latency => Self::Latency(dp::shortest_lap(network)),
            Objective::Throughput => {
                let firsts = 0..network.n_slots();
                let least_busy = firsts.map(|first| dp::least_busy(network, first));
                let least_busy = least_busy.collect::<Vec<_>>();
                let limit_s = least(least_busy.iter().map(BySet::best_value));
                let by_first = least_busy.into_iter().enumerate().map(|(first, by_set)| {
                    (by_set, dp::shortest_lap_within(network, first, limit_s))
                });

                Self::Throughput {
                    limit_s,
                    by_first: by_first.collect(),
                }
            }
        }
    }

    /// Says what the best plan that uses `slot` would cost more than the best of all.
    fn with(&self, slot: usize) -> Reason {
        match self {
            Self::Unknown => Reason::NotNeeded,
            Self::Latency(by_set) => longer_lap(by_set.best_value(), by_set.best_value_with(slot)),
            Self::Throughput { limit_s, by_first } => {
                let busiest_s = least(by_first.iter().map(|(busy, _)| busy.best_value_with(slot)));
                if busiest_s.is_infinite() {
                    Reason::FitsNowhere
                } else if busiest_s > limit_s * (1.0 + ROUNDING) {
                    Reason::WouldHoldUp {
                        ms_per_token: (busiest_s - limit_s) * 1e3,
                    }
                } else {
                    longer_lap(
                        least(by_first.iter().map(|(_, laps)| laps.best_value())),
                        least(by_first.iter().map(|(_, laps)| laps.best_value_with(slot))),
                    )
                }
            }
        }
    }
}

fn longer_lap(best_s: f64, with_s: f64) -> Reason {
    if with_s.is_infinite() {
        Reason::FitsNowhere
    } else if with_s > best_s * (1.0 + ROUNDING) {
        Reason::WouldAdd {
            ms_per_token: (with_s - best_s) * 1e3,
        }
    } else {
        Reason::NotNeeded
    }
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s phone {}", self.name, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs {
                shards,
                n_shards,
                ms_per_token,
            } if shards.len() == *n_shards => {
                write!(f, "runs the whole model: {} a token", Ms(*ms_per_token))
            }
            Self::Runs {
                shards,
                n_shards,
                ms_per_token,
            } => {
                let (n, ms) = (shards.len(), Ms(*ms_per_token));
                write!(f, "runs {n} of {n_shards} parts: {ms} a token")
            }
            Self::WouldAdd { ms_per_token } => write!(f, "would add {} a token", Ms(*ms_per_token)),
            Self::WouldHoldUp { ms_per_token } => {
                write!(f, "would hold up each token by {}", Ms(*ms_per_token))
            }
            Self::NotNeeded => write!(f, "is not needed: with it nothing would be quicker"),
            Self::NoMemory { missing_bytes } => {
                write!(
                    f,
                    "lacks {} of memory for the smallest part",
                    Bytes(*missing_bytes)
                )
            }
            Self::FitsNowhere => write!(f, "has no room for any part that it could be given"),
            Self::Unreachable => write!(f, "cannot be reached"),
            Self::Excluded => write!(f, "was left out by a person"),
            Self::Tired(Tiredness::LowBattery) => write!(f, "is low on battery"),
            Self::Tired(Tiredness::Hot) => write!(f, "is too hot"),
            Self::Tired(Tiredness::NotCharging) => write!(f, "works only while it is charged"),
            Self::Tired(Tiredness::Metered) => write!(f, "is on a network that costs money"),
            Self::Tired(Tiredness::Unmeasured) => write!(f, "could not be measured"),
            Self::Tired(Tiredness::Failed) => write!(f, "could not do its part"),
            Self::NotConsidered => write!(f, "was not considered: others are quicker"),
        }
    }
}

/// Milliseconds, with a decimal where one is worth reading.
struct Ms(f64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 9.95 { 1 } else { 0 };

        write!(f, "{:.decimals$} ms", self.0)
    }
}

/// Bytes as people count them, rounded up: 2.1 GB, 340 MB. Who frees that much has freed enough.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.0.div_ceil(1_000_000);
        let tenths = self.0.div_ceil(100_000_000);

        if megabytes < 1000 {
            write!(f, "{megabytes} MB")
        } else {
            write!(f, "{}.{} GB", tenths / 10, tenths % 10)
        }
    }
}

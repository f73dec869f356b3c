//! "Does not fit": how much is missing, and what would help.
//!
//! What is missing is the least that would have to be added, over all plans, for some plan to fit:
//! the cheapest path in a network whose runs cost the bytes that they lack. It can be more than the
//! model's bytes less everybody's memory, because shards do not divide. Each piece of advice was
//! tried before it is given.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::dp;
use super::explain::Bytes;
use super::memory;
use super::network::Network;
use super::problem::{Availability, Phone, Problem};
use super::room;
use crate::{PeerId, wire};

/// Tokens below which a shorter context is no help: a guess, a question and a short answer.
const CONTEXT_TOKENS_MIN: u32 = 256;

/// Pieces of advice that another phone may give: of each phone two, and some more.
const HELPS_MAX: usize = 32;

/// What is missing for a model to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// What the model takes altogether, with its caches and contexts, before any repacking.
    pub needed_bytes: u64,
    /// The least that is missing.
    pub missing_bytes: u64,
    /// What would help, each on its own.
    #[serde(deserialize_with = "wire::at_most::<_, _, HELPS_MAX>")]
    pub helps: Vec<Help>,
}

/// Something that would make a model fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Help {
    /// A phone frees memory.
    FreeMemory {
        /// The phone.
        phone: PeerId,
        /// What its person calls it.
        name: String,
        /// How much.
        bytes: u64,
    },
    /// Somebody joins.
    AnotherPhone {
        /// What their phone must have free.
        bytes: u64,
    },
    /// A phone that is excluded or tired takes part.
    BringBack {
        /// The phone.
        phone: PeerId,
        /// What its person calls it.
        name: String,
    },
    /// Conversations are planned to be shorter.
    ShorterContext {
        /// How long they may be.
        tokens: u32,
    },
    /// Weights are loaded without their repacked copy, and run slower.
    WithoutRepacking,
    /// A smaller model is chosen.
    SmallerModel {
        /// How much smaller it must be, at least.
        bytes: u64,
    },
}

/// Whether some plan fits.
pub(super) fn fits(problem: &Problem) -> bool {
    let head = problem.head_index();

    memory::shortfall_bytes(problem, head, 0..0) == 0
        && dp::solve_latency(&Network::new(problem)).is_some()
}

/// Returns what is missing; `None` if nothing is, and it is the links that leave no plan.
pub(super) fn shortage(problem: &Problem) -> Option<Shortage> {
    let needed_bytes = needed_bytes(problem);
    let missing_bytes = if problem.phones.iter().any(Phone::is_ready) {
        least_missing_bytes(problem, |_| true)?
    } else {
        needed_bytes
    };

    (missing_bytes > 0).then(|| Shortage {
        needed_bytes,
        missing_bytes,
        helps: helps(problem, missing_bytes),
    })
}

fn needed_bytes(problem: &Problem) -> u64 {
    let mut problem = problem.clone();
    problem
        .phones
        .iter_mut()
        .for_each(|phone| phone.repacks = false);
    let head = problem.head_index();

    memory::needed_bytes(&problem, head, 0..problem.shards.len())
        + memory::ends_bytes(&problem, head)
}

/// Returns the least that must be added for some plan to fit, if only phones that `may_grow` get
/// any.
pub(super) fn least_missing_bytes(
    problem: &Problem,
    may_grow: impl Fn(usize) -> bool,
) -> Option<u64> {
    let head = problem.head_index();
    let ends_missing_bytes = memory::shortfall_bytes(problem, head, 0..0);
    if ends_missing_bytes > 0 && !may_grow(head) {
        return None;
    }

    let network = Network::of_missing_bytes(problem, may_grow);
    let (_, route) = dp::shortest_lap(&network).best()?;
    let missing = network.legs(&route).into_iter().map(|leg| {
        let missing_bytes = memory::shortfall_bytes(problem, leg.phone, leg.shards);
        if leg.phone == head {
            missing_bytes - ends_missing_bytes
        } else {
            missing_bytes
        }
    });

    Some(ends_missing_bytes + missing.sum::<u64>())
}

fn helps(problem: &Problem, missing_bytes: u64) -> Vec<Help> {
    let mut free = (0..problem.phones.len())
        .filter(|&phone| problem.phones[phone].is_ready() || phone == problem.head_index())
        .filter_map(|phone| {
            let bytes = least_missing_bytes(problem, |other| other == phone)?;
            let phone = &problem.phones[phone];
            Some((bytes, phone.name.clone(), phone.id))
        })
        .collect::<Vec<_>>();
    free.sort();

    free.into_iter()
        .map(|(bytes, name, phone)| Help::FreeMemory { phone, name, bytes })
        .chain(another_phone(problem))
        .chain(bring_back(problem))
        .chain(shorter_context(problem))
        .chain(without_repacking(problem))
        .chain([Help::SmallerModel {
            bytes: missing_bytes,
        }])
        .collect()
}

fn another_phone(problem: &Problem) -> Option<Help> {
    let id = (0..=u8::MAX)
        .map(|byte| PeerId([byte; 32]))
        .find(|id| problem.index_of(*id).is_none())?;
    let mut larger = problem.clone();
    // With no memory at all, so that what it lacks is what it needs.
    larger.phones.push(room::phone(id, 0, problem.shards.len()));
    for phone in &problem.phones {
        larger.links.insert((phone.id, id), room::LINK);
        larger.links.insert((id, phone.id), room::LINK);
    }

    let bytes = least_missing_bytes(&larger, |phone| phone == problem.phones.len())?;
    Some(Help::AnotherPhone { bytes })
}

fn bring_back(problem: &Problem) -> Vec<Help> {
    let absent = (0..problem.phones.len()).filter(|&phone| !problem.phones[phone].is_ready());

    absent
        .filter(|&phone| {
            let mut larger = problem.clone();
            larger.phones[phone].availability = Availability::Ready;
            larger.validate().is_ok() && fits(&larger)
        })
        .map(|phone| Help::BringBack {
            phone: problem.phones[phone].id,
            name: problem.phones[phone].name.clone(),
        })
        .collect()
}

/// Bisects the longest context that fits.
fn shorter_context(problem: &Problem) -> Option<Help> {
    let mut smaller = problem.clone();
    let mut fits_with = |tokens| {
        smaller.workload.context_tokens = tokens;
        fits(&smaller)
    };
    if problem.workload.context_tokens <= CONTEXT_TOKENS_MIN || !fits_with(CONTEXT_TOKENS_MIN) {
        return None;
    }

    let (mut tokens, mut too_many) = (CONTEXT_TOKENS_MIN, problem.workload.context_tokens);
    while too_many - tokens > 1 {
        let middle = tokens + (too_many - tokens) / 2;
        if fits_with(middle) {
            tokens = middle
        } else {
            too_many = middle
        }
    }

    Some(Help::ShorterContext { tokens })
}

fn without_repacking(problem: &Problem) -> Option<Help> {
    let mut smaller = problem.clone();
    smaller
        .phones
        .iter_mut()
        .for_each(|phone| phone.repacks = false);

    fits(&smaller).then_some(Help::WithoutRepacking)
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            needed_bytes,
            missing_bytes,
            helps,
        } = self;
        let (missing, needed) = (Bytes(*missing_bytes), Bytes(*needed_bytes));
        write!(
            f,
            "{missing} of memory missing: the model needs {needed}. What would help: "
        )?;

        for (i, help) in helps.iter().enumerate() {
            let comma = if i > 0 { "; " } else { "" };
            write!(f, "{comma}{help}")?;
        }

        Ok(())
    }
}

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreeMemory { name, bytes, .. } => {
                write!(f, "{} more free on {name}'s phone", Bytes(*bytes))
            }
            Self::AnotherPhone { bytes } => {
                write!(f, "another phone with {} free", Bytes(*bytes))
            }
            Self::BringBack { name, .. } => write!(f, "{name}'s phone taking part"),
            Self::ShorterContext { tokens } => write!(f, "conversations of up to {tokens} tokens"),
            Self::WithoutRepacking => {
                write!(f, "loading without the repacked copy, which is slower")
            }
            Self::SmallerModel { bytes } => {
                write!(f, "a model that is {} smaller", Bytes(*bytes))
            }
        }
    }
}

//! The last word on a plan: every constraint, checked in whole numbers.
//!
//! A solver works in floats and within tolerances. What it says is rounded and then judged here,
//! by counting, before anybody acts on it. Baselines are judged by the same page.

use std::collections::BTreeSet;

use super::cost::Leg;
use super::memory;
use super::problem::{Link, Problem};
use crate::PeerId;

/// Which constraint a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
pub enum Violation {
    /// A shard is run by nobody, twice, or out of order.
    #[error("shard {expected} should come next, not shard {found}")]
    NotInOrder {
        /// The shard that should come next, or the number of shards at the end.
        expected: usize,
        /// The shard that does.
        found: usize,
    },
    /// A phone has two runs, or an empty one.
    #[error("{name}'s phone has an empty run, or more than one")]
    NotOneRun {
        /// Its name.
        name: String,
    },
    /// A phone is not in the group.
    #[error("phone {phone} is not in the group")]
    UnknownPhone {
        /// Which.
        phone: PeerId,
    },
    /// A phone that may not run layers has some.
    #[error("{name}'s phone may not take part")]
    NotReady {
        /// Its name.
        name: String,
    },
    /// Shards that must stay together are on two phones.
    #[error("shards {start}..{end} must stay together")]
    Torn {
        /// First of them.
        start: usize,
        /// Shard after the last of them.
        end: usize,
    },
    /// A run does not fit into a phone's memory.
    #[error("{name}'s phone lacks {missing_bytes} B")]
    NoMemory {
        /// Its name.
        name: String,
        /// By how much the run exceeds the budget.
        missing_bytes: u64,
    },
    /// Two phones that must talk cannot.
    #[error("{from}'s phone cannot reach {to}'s")]
    Unreachable {
        /// Sender.
        from: String,
        /// Receiver.
        to: String,
    },
}

/// Checks that `legs` run every shard once and in order, that no phone is used twice, may not take
/// part or runs out of memory, that bound shards stay together, and that everybody who must talk
/// can.
///
/// # Errors
///
/// The first constraint that is broken.
pub(super) fn check(problem: &Problem, legs: &[Leg]) -> Result<(), Violation> {
    check_order(problem, legs)?;
    check_bound(problem, legs)?;
    check_phones(problem, legs)?;

    check_reach(problem, legs)
}

fn check_order(problem: &Problem, legs: &[Leg]) -> Result<(), Violation> {
    let mut expected = 0;
    for leg in legs {
        if leg.shards.start != expected {
            let found = leg.shards.start;
            return Err(Violation::NotInOrder { expected, found });
        }
        expected = leg.shards.end;
    }

    if expected == problem.shards.len() {
        Ok(())
    } else {
        let found = problem.shards.len();
        Err(Violation::NotInOrder { expected, found })
    }
}

fn check_bound(problem: &Problem, legs: &[Leg]) -> Result<(), Violation> {
    let tears = |cut: usize| {
        problem
            .bound
            .iter()
            .find(|run| run.start < cut && cut < run.end)
    };

    match legs.iter().find_map(|leg| tears(leg.shards.end)) {
        None => Ok(()),
        Some(run) => Err(Violation::Torn {
            start: run.start,
            end: run.end,
        }),
    }
}

fn check_phones(problem: &Problem, legs: &[Leg]) -> Result<(), Violation> {
    let mut used = BTreeSet::new();

    for leg in legs {
        let phone = &problem.phones[leg.phone];
        let name = phone.name.clone();
        if !used.insert(leg.phone) || leg.shards.is_empty() {
            return Err(Violation::NotOneRun { name });
        }
        if !phone.is_ready() {
            return Err(Violation::NotReady { name });
        }
        let missing_bytes = memory::shortfall_bytes(problem, leg.phone, leg.shards.clone());
        if missing_bytes > 0 {
            return Err(Violation::NoMemory {
                name,
                missing_bytes,
            });
        }
    }

    check_head_memory(problem)
}

/// The ends take room on the head even if it runs no layer.
fn check_head_memory(problem: &Problem) -> Result<(), Violation> {
    let head = problem.head_index();

    match memory::shortfall_bytes(problem, head, 0..0) {
        0 => Ok(()),
        missing_bytes => {
            let name = problem.phones[head].name.clone();
            Err(Violation::NoMemory {
                name,
                missing_bytes,
            })
        }
    }
}

/// Each stage reaches the next, the last one the head, and the head every stage: step headers go
/// there directly.
fn check_reach(problem: &Problem, legs: &[Leg]) -> Result<(), Violation> {
    let head = problem.head_index();
    let nexts = legs.iter().skip(1).map(|leg| leg.phone).chain([head]);
    let hops = legs.iter().map(|leg| leg.phone).zip(nexts);
    let headers = legs.iter().map(|leg| (head, leg.phone));
    let cut_off =
        |&(from, to): &(usize, usize)| from != to && problem.link(from, to) == Link::Unreachable;

    match hops.chain(headers).find(cut_off) {
        None => Ok(()),
        Some((from, to)) => Err(Violation::Unreachable {
            from: problem.phones[from].name.clone(),
            to: problem.phones[to].name.clone(),
        }),
    }
}

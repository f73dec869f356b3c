//! Which of its neighbours' shards a phone should also keep on flash.
//!
//! The paper's secondary optimisation gives neighbouring devices common modules, as many bytes as
//! memory allows, so that the load balancer may move a boundary without moving weights. Flash is
//! not memory, so here the question is which shard is worth its bytes most:
//!
//! ```text
//!         … │ k−2 │ k−1 ║ k │ k+1 │ …
//!    upstream's run ────┘ └──── own run ────┘
//!       1/4    1/2      ▲
//!                    boundary: moves by one shard with 1/2, by two with 1/4, …
//! ```
//!
//! A shard is worth the seconds that fetching it would take when the boundary moves or the
//! neighbour is lost, times how likely the boundary is to move that far. Those beyond what memory
//! could hold beside the own run are worth nothing.

use std::collections::VecDeque;
use std::ops::Range;

use serde::Serialize;

use super::StagePlacement;
use super::memory;
use super::network::cuts;
use super::problem::{Link, Problem};
use crate::PeerId;

/// How much less likely a boundary is to move by one piece more: a guess; balancing moves one or
/// two.
const FURTHER: f64 = 0.5;

/// A neighbour's shard to keep on flash.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spare {
    /// Who keeps it.
    pub phone: PeerId,
    /// Who runs it.
    pub owner: PeerId,
    /// Which shard.
    pub shard: usize,
    /// What it takes of the flash quota.
    pub bytes: u64,
    /// What fetching it from its owner would take.
    pub fetch_s: f64,
}

/// Returns what each phone of a plan should keep beside its own shards, for each phone the most
/// valuable first, within its flash quota.
///
/// # Panics
///
/// If a stage is of a phone that is not in `problem`.
pub fn overlap(problem: &Problem, stages: &[StagePlacement]) -> Vec<Spare> {
    (0..stages.len())
        .flat_map(|i| spares_of(problem, stages, i))
        .collect()
}

/// A run of shards that always move together, one step beyond a boundary.
struct Piece {
    owner: PeerId,
    shards: Range<usize>,
    bytes: u64,
    /// Likelihood times seconds, for each byte.
    worth: f64,
    fetch_s_per_byte: f64,
}

fn spares_of(problem: &Problem, stages: &[StagePlacement], i: usize) -> Vec<Spare> {
    let own = &stages[i];
    let before = i.checked_sub(1).map(|before| &stages[before]);
    let up = before.map_or(Vec::new(), |owner| pieces(problem, own, owner, Side::Up));
    let down = stages
        .get(i + 1)
        .map_or(Vec::new(), |owner| pieces(problem, own, owner, Side::Down));
    let mut sides = [up, down].map(VecDeque::from);
    let mut left_bytes = problem.phones[index(problem, own.phone)].flash_quota_bytes;
    let mut spares = Vec::new();

    while let Some(side) = more_valuable(&mut sides) {
        let piece = side.pop_front().expect("a side with a value has a piece");
        if piece.bytes <= left_bytes {
            left_bytes -= piece.bytes;
            spares.extend(piece.spares(problem, own.phone));
        } else {
            side.clear(); // what lies beyond is of no use without this one
        }
    }

    spares
}

/// The side whose next piece is worth more, of those that have one.
fn more_valuable(sides: &mut [VecDeque<Piece>; 2]) -> Option<&mut VecDeque<Piece>> {
    sides
        .iter_mut()
        .filter(|side| !side.is_empty())
        .max_by(|a, b| a[0].worth.total_cmp(&b[0].worth))
}

impl Piece {
    fn spares(self, problem: &Problem, phone: PeerId) -> impl Iterator<Item = Spare> {
        self.shards.map(move |shard| {
            let bytes = problem.shards[shard].weights_bytes;
            let fetch_s = self.fetch_s_per_byte * bytes as f64;
            Spare {
                phone,
                owner: self.owner,
                shard,
                bytes,
                fetch_s,
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Towards the first layer.
    Up,
    /// Towards the last.
    Down,
}

/// The owner's pieces from the boundary on, as far as they would fit into memory beside the own
/// run.
fn pieces(
    problem: &Problem,
    own: &StagePlacement,
    owner: &StagePlacement,
    side: Side,
) -> Vec<Piece> {
    let phone = index(problem, own.phone);
    let fetch_s_per_byte = match problem.link(index(problem, owner.phone), phone) {
        Link::Measured {
            goodput_bytes_per_s,
            ..
        } => 1.0 / goodput_bytes_per_s,
        Link::Unreachable => return Vec::new(),
    };
    let within = |cut: &usize| owner.shards.start <= *cut && *cut <= owner.shards.end;
    let cuts = cuts(problem).into_iter().filter(within).collect::<Vec<_>>();
    let mut runs = cuts
        .windows(2)
        .map(|pair| pair[0]..pair[1])
        .collect::<Vec<_>>();
    if side == Side::Up {
        runs.reverse();
    }

    let fits = |run: &Range<usize>| {
        let start = own.shards.start.min(run.start);
        let end = own.shards.end.max(run.end);
        memory::shortfall_bytes(problem, phone, start..end) == 0
    };
    let likelihood = std::iter::successors(Some(FURTHER), |likelihood| Some(likelihood * FURTHER));

    runs.into_iter()
        .take_while(fits)
        .zip(likelihood)
        .map(|(shards, likelihood)| Piece {
            owner: owner.phone,
            bytes: problem.shards[shards.clone()]
                .iter()
                .map(|shard| shard.weights_bytes)
                .sum(),
            shards,
            worth: likelihood * fetch_s_per_byte,
            fetch_s_per_byte,
        })
        .collect()
}

fn index(problem: &Problem, phone: PeerId) -> usize {
    problem
        .index_of(phone)
        .expect("a stage's phone is in the group")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::tests::{example, solve_stages};

    #[test]
    fn what_lies_next_to_the_boundary_comes_first() {
        let mut problem = example();
        let stages = solve_stages(&problem);
        let boundary = stages[0].shards.end;
        for phone in &mut problem.phones {
            phone.memory_budget_bytes *= 2; // room for what a neighbour gives up
        }

        let spares = overlap(&problem, &stages);

        let first_of = |phone| spares.iter().find(|spare| spare.phone == phone);
        assert_eq!(
            first_of(stages[0].phone).map(|spare| spare.shard),
            Some(boundary)
        );
        assert_eq!(
            first_of(stages[1].phone).map(|spare| spare.shard),
            Some(boundary - 1)
        );
    }

    #[test]
    fn the_quota_is_kept() {
        let mut problem = example();
        let stages = solve_stages(&problem);
        let shard_bytes = problem.shards[0].weights_bytes;
        for phone in &mut problem.phones {
            phone.memory_budget_bytes *= 2;
            phone.flash_quota_bytes = 2 * shard_bytes + 1;
        }

        let spares = overlap(&problem, &stages);

        for stage in &stages {
            let own = spares.iter().filter(|spare| spare.phone == stage.phone);
            assert_eq!(own.count(), 2);
        }
    }

    #[test]
    fn what_memory_could_not_hold_is_not_kept() {
        let problem = example(); // budgets are tight
        let stages = solve_stages(&problem);

        let spares = overlap(&problem, &stages);

        for stage in &stages {
            let phone = index(&problem, stage.phone);
            for spare in spares.iter().filter(|spare| spare.phone == stage.phone) {
                let start = stage.shards.start.min(spare.shard);
                let end = stage.shards.end.max(spare.shard + 1);
                assert_eq!(memory::shortfall_bytes(&problem, phone, start..end), 0);
            }
        }
    }
}

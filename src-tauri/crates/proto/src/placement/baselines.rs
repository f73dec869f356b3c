//! Other ways to place a model, to be compared with.
//!
//! Three rules of thumb, and the paper's own objective.
//!
//! **The paper** (LinguaLinked, arXiv 2312.00388; what its public code solves with Gurobi as the
//! initial module arrangement). With `x[i][j] = 1` where device i runs module j:
//!
//! ```text
//! minimise   Σᵢⱼ T[i][j] · x[i][j]   +   Σ_{i≠k} ( L[i][k]  +  (x M xᵀ)[i][k] / B[i][k] )
//!            compute                               latency       bytes between modules / bandwidth
//! such that  Σᵢ x[i][j] = 1 for every module;  each device's modules are consecutive;
//!            Σⱼ size[j] · x[i][j] ≤ available memory[i];  x[0][0] = 1
//! ```
//!
//! The products of two `x` make it quadratic. The latency `L` is summed over *all* pairs of
//! devices, whoever talks to whom: a constant that steers nothing. The size of a module is that of
//! its file, without KV cache; device 0, which holds the prompt, has the first module; and the way
//! of the result back to it is free. Here modules are shards, `M` is one activation from each shard
//! to the next, `T` our measured decode seconds (theirs: FLOPs over measured FLOP/s, which cannot
//! tell phones apart that are bound by memory), and the optimum is found by enumeration, cutting
//! off what cannot beat the best found. With contiguous modules the quadratic term is the sum of
//! `c/B` over the hops taken, so the price of a plan is that of a path in [`Network::of_paper`].

use std::ops::Range;

use serde::Serialize;

use super::check::{Violation, check};
use super::cost::Leg;
use super::forecast::Forecast;
use super::memory;
use super::network::{Network, Next, Run, cuts};
use super::problem::Problem;
use super::{StagePlacement, stages};

/// A way to place a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Baseline {
    /// As many shards on each phone.
    Even,
    /// In proportion to memory.
    MemoryProportional,
    /// In proportion to speed.
    SpeedProportional,
    /// The paper's primary optimisation, to the letter: memory is that of the files.
    Paper,
    /// The paper's objective, told what a plan really takes of memory: what it is worth as an
    /// objective.
    PaperWithMemory,
}

/// What a baseline proposes, and what would come of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proposal {
    /// Who runs what.
    pub stages: Vec<StagePlacement>,
    /// What is expected of it, if it could run.
    pub forecast: Forecast,
    /// The first constraint that it breaks, if it does.
    pub violation: Option<Violation>,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Baseline; 5] = [
        Baseline::Even,
        Baseline::MemoryProportional,
        Baseline::SpeedProportional,
        Baseline::Paper,
        Baseline::PaperWithMemory,
    ];

    /// Places the model this way, on the phones that are ready, the head first and then as listed.
    ///
    /// Returns `None` where the rule knows no plan: nobody is ready, or the paper's constraints
    /// cannot be met.
    ///
    /// # Panics
    ///
    /// If `problem` is not valid: [`Problem::validate`] first.
    pub fn place(self, problem: &Problem) -> Option<Proposal> {
        let legs = match self {
            Baseline::Even => proportional(problem, |_| 1.0)?,
            Baseline::MemoryProportional => proportional(problem, |phone| {
                let budget_bytes = problem.phones[phone].memory_budget_bytes;
                budget_bytes.saturating_sub(memory::ends_bytes(problem, phone)) as f64
            })?,
            Baseline::SpeedProportional => proportional(problem, |phone| {
                1.0 / problem.phones[phone].decode_s.iter().sum::<f64>()
            })?,
            Baseline::Paper => paper(problem, |phone, shards| files_fit(problem, phone, shards))?,
            Baseline::PaperWithMemory => paper(problem, |phone, shards| {
                memory::shortfall_bytes(problem, phone, shards.clone()) == 0
            })?,
        };

        Some(Proposal {
            stages: stages(problem, &legs),
            forecast: Forecast::of(problem, &legs),
            violation: check(problem, &legs).err(),
        })
    }
}

/// Cuts the model into runs whose lengths are in proportion to `weight`, as evenly as whole pieces
/// allow.
fn proportional(problem: &Problem, weight: impl Fn(usize) -> f64) -> Option<Vec<Leg>> {
    let head = problem.head_index();
    let mut phones = (0..problem.phones.len())
        .filter(|&phone| problem.phones[phone].is_ready())
        .collect::<Vec<_>>();
    phones.sort_by_key(|&phone| phone != head);

    let cuts = cuts(problem);
    let weights = phones
        .iter()
        .map(|&phone| weight(phone))
        .collect::<Vec<_>>();
    let shares = apportion(cuts.len() - 1, &weights)?;
    let ends = shares.iter().scan(0, |end, share| {
        *end += share;
        Some(*end)
    });
    let legs = phones
        .iter()
        .zip(&shares)
        .zip(ends)
        .filter(|((_, share), _)| **share > 0);

    Some(
        legs.map(|((&phone, share), end)| Leg {
            phone,
            shards: cuts[end - share]..cuts[end],
        })
        .collect(),
    )
}

/// Shares `n` out in proportion to `weights`: whole parts first, the rest to the largest
/// remainders.
///
/// Returns `None` if nobody has any weight.
fn apportion(n: usize, weights: &[f64]) -> Option<Vec<usize>> {
    let total = weights.iter().sum::<f64>();
    if total <= 0.0 {
        return None;
    }

    let exact = weights
        .iter()
        .map(|weight| n as f64 * weight / total)
        .collect::<Vec<_>>();
    let mut shares = exact
        .iter()
        .map(|share| share.floor() as usize)
        .collect::<Vec<_>>();
    let mut by_remainder = (0..weights.len()).collect::<Vec<_>>();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));

    let left = n.saturating_sub(shares.iter().sum());
    by_remainder.iter().take(left).for_each(|&i| shares[i] += 1);

    Some(shares)
}

fn paper(problem: &Problem, fits: impl Fn(usize, &Range<usize>) -> bool) -> Option<Vec<Leg>> {
    let network = Network::of_paper(problem, fits);
    let route = Enumeration::of(&network).best?;

    Some(network.legs(&route))
}

/// Whether the files of `shards` are no larger than the phone's memory.
fn files_fit(problem: &Problem, phone: usize, shards: &Range<usize>) -> bool {
    let files = problem.shards[shards.clone()]
        .iter()
        .map(|shard| shard.weights_bytes);

    files.sum::<u64>() <= problem.phones[phone].memory_budget_bytes
}

/// Every plan, one after another.
struct Enumeration<'a> {
    network: &'a Network,
    /// The least that the pieces from a cut on can cost, each on its quickest phone.
    rest_s: Vec<f64>,
    route: Vec<Run>,
    best: Option<Vec<Run>>,
    best_s: f64,
}

impl<'a> Enumeration<'a> {
    fn of(network: &'a Network) -> Self {
        let mut enumeration = Self {
            network,
            rest_s: least_rest(network),
            route: Vec::new(),
            best: None,
            best_s: f64::INFINITY,
        };
        for slot in 0..network.n_slots() {
            enumeration.visit(slot, 0, network.ends_s + network.enter_s(slot));
        }

        enumeration
    }

    /// Tries every run of `slot` from `start` on, and every plan that goes on from there.
    fn visit(&mut self, slot: usize, start: usize, so_far_s: f64) {
        if so_far_s + self.rest_s[start] >= self.best_s {
            return;
        }

        for end in start + 1..=self.network.n_pieces() {
            let run = Run { slot, start, end };
            if self.network.run_s(run).is_finite() {
                self.route.push(run);
                self.go_on(run, so_far_s + self.network.run_s(run));
                self.route.pop();
            }
        }
    }

    fn go_on(&mut self, run: Run, so_far_s: f64) {
        let network = self.network;

        for next in network.nexts(run) {
            let cost_s = so_far_s + network.hop_s(run.slot, next);
            match next {
                Next::Head if cost_s < self.best_s => {
                    self.best_s = cost_s;
                    self.best = Some(self.route.clone());
                }
                Next::Head => {}
                Next::Slot(to) if self.route.iter().any(|run| run.slot == to) => {}
                Next::Slot(to) => self.visit(to, run.end, cost_s),
            }
        }
    }
}

fn least_rest(network: &Network) -> Vec<f64> {
    let n = network.n_pieces();
    let piece_s = |start| {
        let of = |slot| {
            network.run_s(Run {
                slot,
                start,
                end: start + 1,
            })
        };
        (0..network.n_slots()).map(of).fold(f64::INFINITY, f64::min)
    };
    let mut rest_s = vec![0.0; n + 1];
    for start in (0..n).rev() {
        rest_s[start] = rest_s[start + 1] + piece_s(start);
    }

    rest_s
        .iter()
        .map(|seconds| seconds * (1.0 - 1e-12))
        .collect() // below every sum of the same seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::dp;
    use crate::placement::tests::example;

    #[test]
    fn shares_are_whole_and_complete() {
        assert_eq!(apportion(16, &[1.0, 1.0, 1.0]), Some(vec![6, 5, 5]));
        assert_eq!(apportion(16, &[3.0, 0.0, 1.0]), Some(vec![12, 0, 4]));
        assert_eq!(apportion(2, &[1.0, 1.0, 1.0]), Some(vec![1, 1, 0]));
        assert_eq!(apportion(16, &[0.0, 0.0]), None);
    }

    #[test]
    fn the_paper_puts_the_first_shard_on_the_head() {
        let mut problem = example();
        problem.phones[0].decode_s.fill(1.0); // slow as it is

        let proposal = Baseline::Paper.place(&problem).expect("it fits");

        assert_eq!(proposal.stages[0].phone, problem.head);
    }

    #[test]
    fn enumeration_finds_what_the_dp_finds() {
        let problem = example();
        let network =
            Network::of_paper(&problem, |phone, shards| files_fit(&problem, phone, shards));

        let enumerated = Enumeration::of(&network).best_s;

        let (dp_s, _) = dp::shortest_lap(&network).best().expect("it fits");
        assert!((enumerated - dp_s).abs() <= 1e-12 * dp_s);
    }
}

//! Which phone runs which run of consecutive shards, in which order.
//!
//! [`solve`] is a pure function of a [`Problem`]: what was measured goes in, a [`Placement`] with
//! its forecast and its reasons comes out, the same one every time. No clock, no luck, no waiting.
//!
//! ```text
//!            cut 0          cut 1          cut 2          cut 3
//!              │   shard 0    │   shard 1    │   shard 2    │
//!
//!        ┌───► ●══════════════●══════════════●══════════════● ────┐   Ann, who is the head
//!   Ann  │      ╲              ╲    ╱         ╲    ╱               │  Ann
//!   ends ┤       ╲     hops     ╲  ╱           ╲  ╱                ├─ ends
//!        │        ╲              ╲╱             ╲╱                 │
//!        └───► ●══════════════●══════════════●══════════════● ────┘   Ben
//!     R/2 + c/B                                              R/2 + c/B
//! ```
//!
//! A plan is a path from the head through a network of (cut, phone) and back to the head. It runs
//! along a phone's line for a **run** of shards, which costs the phone's measured seconds and must
//! fit its memory; it changes lines at a cut by a **hop**, which costs what that pair of phones
//! costs; it takes each line at most once. Because a run is one long arc, a plan is short, memory
//! is a question of which arcs exist, and what is left is linear. Which path is best is a
//! mixed-integer linear programme (`milp`).
//!
//! 1. `problem`: is every figure there, and possible?
//! 2. `network`: which runs fit, and what do they cost (`cost`, `memory`)?
//! 3. `narrow`: which runs can no best plan contain?
//! 4. `milp`: of the rest, the best path; for many answers at once, `throughput` asks it several
//!    times. Where the solver comes to no end, `dp` answers.
//! 5. `check`: the answer, rounded, against every constraint in whole numbers.
//! 6. `explain`, `forecast`: why, and what to expect; or `shortage`: what is missing.
//!
//! **The answer may be one phone.** A hop is never free, so a model that fits one phone is usually
//! quickest there, and a phone that only slows the rest gets nothing and is told why.
//!
//! Beside it in this room: `baselines` to compare with, [`overlap`], which of its neighbours' shards
//! a phone should keep on flash, and [`Demand`], whether a model fits before anybody was measured.

use std::ops::Range;

use serde::Serialize;

use crate::PeerId;

mod baselines;
mod check;
mod cost;
mod dp;
mod explain;
mod forecast;
mod memory;
mod milp;
mod narrow;
mod network;
mod overlap;
mod problem;
mod room;
mod shortage;
mod throughput;

pub use baselines::{Baseline, Proposal};
pub use check::Violation;
pub use explain::{Reason, Verdict};
pub use forecast::{Forecast, Measured, Miss, alone, what_if};
pub use milp::GaveUp;
pub use overlap::{Spare, overlap};
pub(crate) use problem::SECONDS_MAX;
pub use problem::{
    Availability, Ends, Link, Objective, PHONES_MAX, Phone, Problem, ProblemError, SHARDS_MAX,
    Shard, Tiredness, Workload,
};
pub use room::Demand;
pub use shortage::{Help, Shortage};

use check::check;
use cost::Leg;
use milp::Answer;
use network::{Network, Run};

/// Who runs what, what to expect of it, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placement {
    /// The stages, in ring order: every shard once, no phone twice.
    pub stages: Vec<StagePlacement>,
    /// The phone that holds the ends, where the ring opens and closes.
    pub head: PeerId,
    /// What it is the best for.
    pub objective: Objective,
    /// What is expected of it.
    pub forecast: Forecast,
    /// How firmly it is the best.
    pub optimality: Optimality,
    /// Why each phone got what it got, in the order of [`Problem::phones`].
    pub verdicts: Vec<Verdict>,
}

/// One phone's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StagePlacement {
    /// The phone.
    pub phone: PeerId,
    /// Its shards, half-open.
    pub shards: Range<usize>,
}

/// How firmly a placement is the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Optimality {
    /// The solver proved that none is better.
    Proven,
    /// The solver came to no end; the DP found the best, which needs no proof.
    FellBackToDp(GaveUp),
    /// The solver came to no end, and the problem is too large for the DP: a better placement could
    /// beat this one by so much, relative to its objective.
    Gap(f64),
}

/// Why there is no placement.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SolveError {
    /// A figure is missing or impossible.
    #[error(transparent)]
    Invalid(#[from] ProblemError),
    /// The phones that may take part have too little memory.
    #[error("{0}")]
    DoesNotFit(Shortage),
    /// There is memory enough, but on phones that cannot talk to each other.
    #[error("the phones that have memory for the model cannot reach each other")]
    CutOff,
}

/// Returns the best placement for the problem's objective.
///
/// # Errors
///
/// - [`SolveError::Invalid`] if a figure is missing or impossible; the error names it
/// - [`SolveError::DoesNotFit`] if no placement fits, with what is missing and what would help
/// - [`SolveError::CutOff`] if one would fit but for links that do not exist
///
/// # Blocking
///
/// As long as the arithmetic takes: milliseconds for 6 phones × 16 shards, some tenths of a second
/// for 8 × 32 (`cargo bench -p tests --bench placement`).
pub fn solve(problem: &Problem) -> Result<Placement, SolveError> {
    let solution = Solution::of(problem)?;
    let verdicts = explain::explain(problem, &solution.network, &solution.legs);

    Ok(solution.placement(problem, verdicts))
}

/// Returns what [`solve`] returns, without the reasons: all that a balancer asks again and again.
///
/// # Errors
///
/// As [`solve`].
pub fn solve_without_reasons(problem: &Problem) -> Result<Placement, SolveError> {
    let solution = Solution::of(problem)?;

    Ok(solution.placement(problem, Vec::new()))
}

/// Returns the best placement by the DP alone: the oracle for tests and comparisons.
///
/// `None` if nothing fits.
///
/// # Panics
///
/// If `problem` is not valid: [`Problem::validate`] first.
pub fn oracle(problem: &Problem) -> Option<(Vec<StagePlacement>, Forecast)> {
    if !has_room_for_ends(problem) {
        return None;
    }

    let network = Network::new(problem);
    let legs = network.legs(&dp::solve(&network, problem.objective)?);

    Some((stages(problem, &legs), Forecast::of(problem, &legs)))
}

/// Returns what to expect of `stages`, the plan in force for instance, with the problem's figures.
///
/// # Errors
///
/// The first constraint that they break.
///
/// # Panics
///
/// If `problem` is not valid: [`Problem::validate`] first.
pub fn evaluate(problem: &Problem, stages: &[StagePlacement]) -> Result<Forecast, Violation> {
    let leg = |stage: &StagePlacement| {
        let unknown = Violation::UnknownPhone { phone: stage.phone };
        let phone = problem.index_of(stage.phone).ok_or(unknown)?;
        Ok(Leg {
            phone,
            shards: stage.shards.clone(),
        })
    };
    let legs = stages.iter().map(leg).collect::<Result<Vec<_>, _>>()?;
    check(problem, &legs)?;

    Ok(Forecast::of(problem, &legs))
}

/// The best plan, in numbers.
struct Solution {
    network: Network,
    legs: Vec<Leg>,
    optimality: Optimality,
}

impl Solution {
    fn of(problem: &Problem) -> Result<Self, SolveError> {
        problem.validate()?;

        let network = Network::new(problem);
        let (route, optimality) = best_route(problem, &network).ok_or_else(|| no_plan(problem))?;
        let legs = network.legs(&route);
        check(problem, &legs).expect("every run in the network fits, and the route was checked");

        Ok(Self {
            network,
            legs,
            optimality,
        })
    }

    fn placement(self, problem: &Problem, verdicts: Vec<Verdict>) -> Placement {
        Placement {
            stages: stages(problem, &self.legs),
            head: problem.head,
            objective: problem.objective,
            forecast: Forecast::of(problem, &self.legs),
            optimality: self.optimality,
            verdicts,
        }
    }
}

impl Placement {
    /// Returns whether one phone does it all, the ends included.
    pub fn is_one_phone(&self) -> bool {
        matches!(self.stages.as_slice(), [stage] if stage.phone == self.head)
    }

    /// Returns what the objective counts, in seconds: the lap, or the busiest phone's part of it.
    pub fn objective_s(&self) -> f64 {
        match self.objective {
            Objective::Latency => self.forecast.tpot_s,
            Objective::Throughput => self.forecast.busiest_s,
        }
    }
}

/// Asks the solver, and the DP where the solver does not come to an end or says what cannot be.
fn best_route(problem: &Problem, network: &Network) -> Option<(Vec<Run>, Optimality)> {
    if !has_room_for_ends(problem) {
        return None;
    }

    let answer = match problem.objective {
        Objective::Latency => milp::solve_latency(network),
        Objective::Throughput => throughput::solve(network),
    };
    let is_large = !dp::is_affordable(network, problem.objective);
    let breaks = |route: &[Run]| check(problem, &network.legs(route)).is_err();

    match answer {
        Answer::Proven(route) if !breaks(&route) => Some((route, Optimality::Proven)),
        Answer::Gap(route, gap) if is_large && !breaks(&route) => {
            Some((route, Optimality::Gap(gap)))
        }
        Answer::Infeasible if is_large => None,
        // Nothing, if the solver was right: people are not told that a model does not fit on its
        // word..
        Answer::Infeasible => dp_route(problem, network, GaveUp::BadAnswer),
        Answer::Proven(_) => fall_back(problem, network, GaveUp::BadAnswer),
        Answer::Gap(..) => fall_back(problem, network, GaveUp::NodeLimit),
        Answer::GaveUp(why) => fall_back(problem, network, why),
    }
}

fn fall_back(problem: &Problem, network: &Network, why: GaveUp) -> Option<(Vec<Run>, Optimality)> {
    let (phones, pieces) = (network.n_slots(), network.n_pieces());
    tracing::info!(phones, pieces, ?problem.objective, %why, "Solver gave up, placing by DP");

    dp_route(problem, network, why)
}

fn dp_route(problem: &Problem, network: &Network, why: GaveUp) -> Option<(Vec<Run>, Optimality)> {
    let route = dp::solve(network, problem.objective)?;

    Some((route, Optimality::FellBackToDp(why)))
}

fn has_room_for_ends(problem: &Problem) -> bool {
    memory::shortfall_bytes(problem, problem.head_index(), 0..0) == 0
}

fn no_plan(problem: &Problem) -> SolveError {
    shortage::shortage(problem).map_or(SolveError::CutOff, SolveError::DoesNotFit)
}

fn stages(problem: &Problem, legs: &[Leg]) -> Vec<StagePlacement> {
    let stage = |leg: &Leg| StagePlacement {
        phone: problem.phones[leg.phone].id,
        shards: leg.shards.clone(),
    };

    legs.iter().map(stage).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn a_model_that_fits_the_quickest_phone_stays_there() {
        let mut problem = example();
        problem.phones[ANN].memory_budget_bytes = 8 * GB;

        let placement = solve(&problem).expect("it fits");

        assert!(placement.is_one_phone());
        assert_eq!(placement.optimality, Optimality::Proven);
        assert_eq!(
            sentence(&placement, ANN),
            "Ann's phone runs the whole model: 64 ms a token"
        );
        // A shard takes Ben's phone 1 ms longer, and there and back are two hops of 5.4 ms.
        assert_eq!(
            sentence(&placement, BEN),
            "Ben's phone would add 12 ms a token"
        );
    }

    #[test]
    fn a_model_that_fits_nobody_is_split() {
        let placement = solve(&example()).expect("it fits together");

        assert!(!placement.is_one_phone());
        // Ann's phone is the quicker one and has room for nine beside the ends.
        assert_eq!(
            sentence(&placement, ANN),
            "Ann's phone runs 9 of 16 parts: 36 ms a token"
        );
        assert_eq!(
            sentence(&placement, BEN),
            "Ben's phone runs 7 of 16 parts: 35 ms a token"
        );
    }

    #[test]
    fn who_gets_nothing_is_told_why() {
        let mut problem = example();
        problem.phones[ANN].memory_budget_bytes = 8 * GB;
        let said = |problem: &Problem| sentence(&solve(problem).expect("Ann is enough"), BEN);

        problem.phones[BEN].availability = Availability::Tired(Tiredness::Hot);
        assert_eq!(said(&problem), "Ben's phone is too hot");
        problem.phones[BEN].availability = Availability::Tired(Tiredness::LowBattery);
        assert_eq!(said(&problem), "Ben's phone is low on battery");
        problem.phones[BEN].availability = Availability::Excluded;
        assert_eq!(said(&problem), "Ben's phone was left out by a person");
        problem.phones[BEN].availability = Availability::Ready;
        problem.phones[BEN].memory_budget_bytes = 100_000_000;
        assert_eq!(
            said(&problem),
            "Ben's phone lacks 150 MB of memory for the smallest part"
        );
        problem.links.insert((id(ANN), id(BEN)), Link::Unreachable);
        assert_eq!(said(&problem), "Ben's phone cannot be reached");
    }

    #[test]
    fn what_does_not_fit_is_said_in_bytes_with_what_would_help() {
        let mut problem = example();
        problem.phones[BEN].memory_budget_bytes -= 2 * GB;
        problem.phones[CEM].availability = Availability::Excluded;

        let Err(SolveError::DoesNotFit(shortage)) = solve(&problem) else {
            panic!("there is no room");
        };

        assert_eq!(shortage.missing_bytes, 1_400_000_000);
        assert_eq!(
            shortage.to_string(),
            "1.4 GB of memory missing: the model needs 4.2 GB. What would help: \
             1.5 GB more free on Ann's phone; 1.5 GB more free on Ben's phone; \
             another phone with 1.5 GB free; Cem's phone taking part; a model that is 1.4 GB smaller"
        );
    }

    #[test]
    fn every_advice_helps() {
        let mut problem = example();
        problem.phones[CEM].availability = Availability::Excluded;
        problem.workload.context_tokens = 8192;
        for shard in &mut problem.shards {
            shard.kv_bytes_per_token = 20_000;
        }

        let Err(SolveError::DoesNotFit(shortage)) = solve(&problem) else {
            panic!("there is no room");
        };

        assert!(shortage.helps.len() >= 6, "{shortage}");
        for help in &shortage.helps {
            assert!(solve(&heeded(&problem, help)).is_ok(), "{help}");
        }
    }

    #[test]
    fn the_planned_context_takes_memory() {
        let mut problem = example();
        problem.phones[ANN].memory_budget_bytes = 42 * GB / 10;
        assert!(solve(&problem).expect("it fits").is_one_phone());

        for shard in &mut problem.shards {
            shard.kv_bytes_per_token = 10_000;
        }
        assert!(!solve(&problem).expect("it fits together").is_one_phone());
    }

    #[test]
    fn bound_shards_stay_together() {
        let mut problem = example();
        problem.bound = vec![6..8, 7..10];

        let placement = solve(&problem).expect("it fits");

        assert!(
            placement
                .stages
                .iter()
                .all(|stage| !(7..10).contains(&stage.shards.end))
        );
    }

    #[test]
    fn many_answers_at_once_spread_the_work() {
        let mut problem = example();
        problem.phones[ANN].memory_budget_bytes = 8 * GB;
        problem.objective = Objective::Throughput;

        let placement = solve(&problem).expect("it fits");

        assert!(placement.stages.len() == 3, "{placement:?}");
        let one = alone(&problem, problem.head).expect("it fits");
        assert!(placement.forecast.busiest_s < one.forecast.busiest_s / 2.0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let says = |change: &dyn Fn(&mut Problem)| {
            let mut problem = example();
            change(&mut problem);
            solve(&problem)
                .expect_err("something is missing")
                .to_string()
        };

        assert_eq!(
            says(&|problem| problem.links.retain(|pair, _| *pair != (id(BEN), id(CEM)))),
            "the link from Ben's phone to Cem's is missing"
        );
        assert_eq!(
            says(&|problem| problem.phones[CEM].prefill_s.truncate(3)),
            "Cem's prefill time of shard 3 is missing"
        );
        assert_eq!(
            says(&|problem| problem.phones[BEN].decode_s[5] = f64::NAN),
            "Ben's decode time of shard 5 is NaN, which cannot be"
        );
        assert_eq!(
            says(&|problem| problem.workload.chunk_tokens = 0),
            "the prefill chunk is 0, which cannot be"
        );
        assert_eq!(
            says(&|problem| problem.head = PeerId([9; 32])),
            "the head, phone 09090909, is not in the group"
        );
        assert_eq!(
            says(&|problem| problem.bound.push(15..17)),
            "shards 15..17 cannot be bound together: there are 16"
        );
    }

    #[test]
    fn chunks_follow_each_other() {
        let mut problem = example();
        problem.links.values_mut().for_each(|link| {
            *link = Link::Measured {
                rtt_s: 1e-9,
                goodput_bytes_per_s: 1e18,
            }
        });
        for phone in &mut problem.phones {
            phone.prefill_s.fill(0.1);
            (phone.ends_prefill_s, phone.ends_decode_s) = (1e-9, 1e-9);
        }
        let halves = [
            Leg {
                phone: ANN,
                shards: 0..8,
            },
            Leg {
                phone: BEN,
                shards: 8..16,
            },
        ];

        let forecast = Forecast::of(&problem, &halves);

        let (chunks, stages, chunk_s) = (4.0, 2.0, 0.8);
        assert!((forecast.ttft_s - (chunks + stages - 1.0) * chunk_s).abs() < 1e-6);
    }

    proptest! {
        /// The oracle itself, against every plan there is: all orders of all sets of phones, all
        /// cuts.
        #[test]
        fn the_oracle_finds_the_best_of_all_plans(
            times in prop::collection::vec(0.001..0.02, 3 * 5),
            budgets in prop::collection::vec(0..8u64, 3),
            rtts in prop::collection::vec(0.001..0.1, 6),
            bound in 0..8usize,
        ) {
            let problem = small(&times, &budgets, &rtts, bound);
            let decode = cost::Seconds::of_decode(&problem);
            let plans = every_plan(&problem);
            let least = |cost: &dyn Fn(&Vec<Leg>) -> f64| {
                plans.iter().map(cost).fold(f64::INFINITY, f64::min)
            };

            for objective in [Objective::Latency, Objective::Throughput] {
                let found = oracle(&Problem { objective, ..problem.clone() });
                prop_assert_eq!(found.is_none(), plans.is_empty());
                let Some((_, found)) = found else { continue };
                let busiest_s = match objective {
                    Objective::Latency => f64::INFINITY,
                    Objective::Throughput => least(&|legs| decode.busiest_s(legs)) * (1.0 + 1e-9),
                };
                let lap_s = least(&|legs| {
                    let in_time = decode.busiest_s(legs) <= busiest_s;
                    if in_time { decode.lap_s(legs) } else { f64::INFINITY }
                });

                prop_assert!(found.busiest_s <= busiest_s);
                prop_assert!((found.tpot_s - lap_s).abs() <= 1e-9 * lap_s);
            }
        }
    }

    /// Every plan that breaks no constraint.
    fn every_plan(problem: &Problem) -> Vec<Vec<Leg>> {
        let mut plans = Vec::new();
        extend(problem, &mut Vec::new(), &mut plans);

        plans
    }

    fn extend(problem: &Problem, legs: &mut Vec<Leg>, plans: &mut Vec<Vec<Leg>>) {
        let start = legs.last().map_or(0, |leg| leg.shards.end);
        if check(problem, legs).is_ok() {
            plans.push(legs.clone());
        }

        for phone in 0..problem.phones.len() {
            for end in start + 1..=problem.shards.len() {
                if legs.iter().all(|leg| leg.phone != phone) {
                    legs.push(Leg {
                        phone,
                        shards: start..end,
                    });
                    extend(problem, legs, plans);
                    legs.pop();
                }
            }
        }
    }

    /// Three phones and five shards; budgets count shards, `bound` is the first of two that stay
    /// together.
    fn small(times: &[f64], budgets: &[u64], rtts: &[f64], bound: usize) -> Problem {
        let mut problem = example();
        problem.shards.truncate(5);
        if bound + 2 <= problem.shards.len() {
            problem.bound.push(bound..bound + 2);
        }
        for (i, phone) in problem.phones.iter_mut().enumerate() {
            phone.decode_s = times[i * 5..(i + 1) * 5].to_vec();
            phone.prefill_s.truncate(5);
            phone.memory_budget_bytes = budgets[i] * 250_000_000;
        }
        for (link, rtt_s) in problem.links.values_mut().zip(rtts) {
            *link = match rtt_s {
                0.09.. => Link::Unreachable,
                _ => Link::Measured {
                    rtt_s: *rtt_s,
                    goodput_bytes_per_s: 2e6,
                },
            };
        }

        problem
    }

    /// Three phones of different speed and a model of 4 GB in 16 shards that none of them holds
    /// alone.
    pub(super) fn example() -> Problem {
        let phones = vec![
            phone("Ann", ANN, 0.004, 2_500_000_000),
            phone("Ben", BEN, 0.005, 2_300_000_000),
            phone("Cem", CEM, 0.008, 3_000_000_000),
        ];
        let pairs = [
            (ANN, BEN),
            (ANN, CEM),
            (BEN, ANN),
            (BEN, CEM),
            (CEM, ANN),
            (CEM, BEN),
        ];
        let link = Link::Measured {
            rtt_s: 0.010,
            goodput_bytes_per_s: 20e6,
        };

        Problem {
            head: id(ANN),
            phones,
            shards: vec![
                Shard {
                    weights_bytes: 200_000_000,
                    repack_bytes: 0,
                    kv_bytes_per_token: 0,
                    context_bytes: 50_000_000,
                };
                16
            ],
            ends: Ends {
                weights_bytes: 200_000_000,
                repack_bytes: 0,
                context_bytes: 0,
            },
            bound: Vec::new(),
            links: pairs.map(|(from, to)| ((id(from), id(to)), link)).into(),
            workload: Workload {
                context_tokens: 2048,
                sessions: 1,
                prompt_tokens: 512,
                chunk_tokens: 128,
                activation_bytes_per_token: 8192,
            },
            objective: Objective::Latency,
        }
    }

    /// The example's stages.
    pub(super) fn solve_stages(problem: &Problem) -> Vec<StagePlacement> {
        solve(problem).expect("the example fits").stages
    }

    const ANN: usize = 0;
    const BEN: usize = 1;
    const CEM: usize = 2;

    fn id(phone: usize) -> PeerId {
        PeerId([phone as u8 + 1; 32])
    }

    fn phone(name: &str, index: usize, decode_s: f64, memory_budget_bytes: u64) -> Phone {
        Phone {
            id: id(index),
            name: name.into(),
            availability: Availability::Ready,
            memory_budget_bytes,
            flash_quota_bytes: 8 * GB,
            repacks: false,
            decode_s: vec![decode_s; 16],
            prefill_s: vec![decode_s * 20.0; 16],
            ends_decode_s: 0.004,
            ends_prefill_s: 0.001,
        }
    }

    fn sentence(placement: &Placement, phone: usize) -> String {
        placement.verdicts[phone].to_string()
    }

    /// The problem as it is once `help` has been given.
    fn heeded(problem: &Problem, help: &Help) -> Problem {
        let mut problem = problem.clone();
        match help {
            Help::FreeMemory { name, bytes, .. } => {
                let phone = problem.phones.iter_mut().find(|phone| phone.name == *name);
                phone.expect("it is named").memory_budget_bytes += bytes;
            }
            Help::AnotherPhone { bytes } => {
                problem.phones[CEM].availability = Availability::Ready;
                problem.phones[CEM].memory_budget_bytes = *bytes;
            }
            Help::BringBack { .. } => problem.phones[CEM].availability = Availability::Ready,
            Help::ShorterContext { tokens } => problem.workload.context_tokens = *tokens,
            Help::WithoutRepacking => problem.phones.iter_mut().for_each(|p| p.repacks = false),
            Help::SmallerModel { bytes } => {
                // Shards do not divide.
                let each = bytes.div_ceil(problem.shards.len() as u64) + 20_000_000;
                problem
                    .shards
                    .iter_mut()
                    .for_each(|shard| shard.weights_bytes -= each);
            }
        }

        problem
    }
}

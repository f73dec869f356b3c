//! Placement: what the solver says is what the DP says, and what it says can be done.

use std::collections::BTreeSet;
use std::ops::Range;

use proto::placement::{
    Link, Objective, Optimality, Placement, Problem, SolveError, oracle, solve,
};
use sim::random_group::{self, LLAMA_8B, WIFI};

/// Problems of each kind, more than half of which have a plan: five seconds, and fewer where the
/// code is not optimised.
const PROBLEMS: u64 = if cfg!(debug_assertions) { 500 } else { 4000 };

/// How far costs may differ, relative: two sums of the same floats in another order.
const TOLERANCE: f64 = 1e-9;

/// Where the solver says that nothing is better, the DP finds nothing better; where one finds no
/// plan, neither does the other.
#[test]
fn the_shortest_lap_is_what_the_dp_finds() {
    agrees_with_oracle(Objective::Latency);
}

/// The same where many answers are written at once: first the busiest phone, then the lap.
#[test]
fn the_least_busy_plan_is_what_the_dp_finds() {
    agrees_with_oracle(Objective::Throughput);
}

/// The same problem has the same answer.
#[test]
fn a_placement_is_its_problem() {
    for seed in 0..20 {
        let problem = random_group::problem(seed, 6, 24, Objective::Throughput);

        assert_eq!(solve(&problem), solve(&problem), "seed={seed}");
    }
}

/// A group of more phones than can be searched over still gets a placement that can be done, and
/// each of its members a reason.
#[test]
fn a_large_group_is_placed() {
    for seed in 0..10 {
        let problem = random_group::group(seed, 14, &LLAMA_8B, &WIFI, Objective::Latency);

        let placement = solve(&problem).expect("14 phones have room");

        assert_feasible(&problem, &placement, seed);
        assert_eq!(placement.verdicts.len(), 14, "seed={seed}");
    }
}

fn agrees_with_oracle(objective: Objective) {
    let (mut placed, mut split, mut proven) = (0, 0, 0);

    for seed in 0..PROBLEMS {
        let problem = random_group::problem(seed, 6, 24, objective);
        match (solve(&problem), oracle(&problem)) {
            (Ok(placement), Some((_, best))) => {
                assert_feasible(&problem, &placement, seed);
                assert_eq!(
                    placement.verdicts.len(),
                    problem.phones.len(),
                    "seed={seed}"
                );
                if placement.optimality == Optimality::Proven {
                    let best_s = match objective {
                        Objective::Latency => best.tpot_s,
                        Objective::Throughput => best.busiest_s,
                    };
                    assert_same(placement.objective_s(), best_s, seed);
                    assert_same(placement.forecast.tpot_s, best.tpot_s, seed);
                    proven += 1;
                }
                placed += 1;
                split += u64::from(placement.stages.len() > 1);
            }
            (Err(SolveError::DoesNotFit(_) | SolveError::CutOff), None) => {}
            (solved, oracle) => panic!("seed={seed}: {solved:?}, the DP says {oracle:?}"),
        }
    }

    // The problems are neither all too easy nor all impossible, and the solver solves them.
    assert!(
        PROBLEMS / 2 < placed && placed < PROBLEMS,
        "{placed} placed"
    );
    assert!(split > PROBLEMS / 5, "{split} split");
    assert!(proven * 100 > placed * 99, "{proven} proven of {placed}");
}

/// Checks a placement without the code under test: every constraint, in whole numbers.
fn assert_feasible(problem: &Problem, placement: &Placement, seed: u64) {
    let mut next = 0;
    let mut used = BTreeSet::new();

    for stage in &placement.stages {
        let phone = problem.phones.iter().find(|phone| phone.id == stage.phone);
        let phone = phone.expect("a stage's phone is in the group");
        let ends_bytes = if phone.id == problem.head {
            ends_bytes(problem, phone.repacks)
        } else {
            0
        };
        let bytes = run_bytes(problem, phone.repacks, &stage.shards) + ends_bytes;

        assert_eq!(stage.shards.start, next, "seed={seed}");
        assert!(!stage.shards.is_empty(), "seed={seed}");
        assert!(used.insert(stage.phone), "seed={seed}");
        assert!(phone.is_ready(), "seed={seed}");
        assert!(
            bytes <= u128::from(phone.memory_budget_bytes),
            "seed={seed}"
        );
        next = stage.shards.end;
        assert!(
            !problem
                .bound
                .iter()
                .any(|run| run.start < next && next < run.end),
            "seed={seed}"
        );
    }

    assert_eq!(next, problem.shards.len(), "seed={seed}");
    assert!(unreachable_hop(problem, placement).is_none(), "seed={seed}");
}

fn run_bytes(problem: &Problem, repacks: bool, shards: &Range<usize>) -> u128 {
    let workload = problem.workload;
    let tokens = u128::from(workload.context_tokens) * u128::from(workload.sessions);
    let shards = problem.shards[shards.clone()].iter();

    shards
        .map(|shard| {
            u128::from(shard.weights_bytes)
                + u128::from(shard.context_bytes)
                + u128::from(shard.kv_bytes_per_token) * tokens
                + u128::from(if repacks { shard.repack_bytes } else { 0 })
        })
        .sum()
}

fn ends_bytes(problem: &Problem, repacks: bool) -> u128 {
    let ends = problem.ends;

    u128::from(ends.weights_bytes)
        + u128::from(ends.context_bytes)
        + u128::from(if repacks { ends.repack_bytes } else { 0 })
}

/// A hop of the ring that no link carries, if there is one.
fn unreachable_hop(
    problem: &Problem,
    placement: &Placement,
) -> Option<(proto::PeerId, proto::PeerId)> {
    let phones = placement.stages.iter().map(|stage| stage.phone);
    let from = std::iter::once(problem.head).chain(phones.clone());
    let to = phones.chain([problem.head]);

    from.zip(to)
        .find(|pair| pair.0 != pair.1 && problem.links.get(pair) == Some(&Link::Unreachable))
}

fn assert_same(found_s: f64, best_s: f64, seed: u64) {
    let out = (found_s - best_s).abs() / best_s;

    assert!(
        out <= TOLERANCE,
        "seed={seed}: {found_s} s, the DP says {best_s} s"
    );
}

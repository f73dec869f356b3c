//! Groups survive: the promises of `proto::group`, in the simulated world.
//!
//! `LINGUALINKED_SEEDS=10000` runs that many seeds, `LINGUALINKED_SEED=77 SIM_TRACE=1` one of them
//! with everything that happens.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use sim::group::chaos::{self, Outcome};

/// Seeds that once failed. Each is a bug that was found.
const REGRESSIONS: &[u64] = &[
    77, 115, 144, 145, 222, 431, 522, 847, 1214, 1461, 2023, 4511, 4763, 5668, 9761,
];

/// Seeds run by an ordinary `cargo nextest run`.
const SEEDS: u64 = 2_000;

/// Whatever goes wrong, phones that can talk again have one leader within five seconds, nobody
/// obeyed two in one term, and nobody is in who did not agree.
#[test]
fn groups_come_through_trouble() {
    if let Some(seed) = number("LINGUALINKED_SEED") {
        println!("{:?}", chaos::run(seed));
        return;
    }
    let seeds = number("LINGUALINKED_SEEDS").unwrap_or(SEEDS);
    let begin = Instant::now();

    let outcomes = run_all(seeds);

    let mut settled: Vec<_> = outcomes.iter().map(|o| o.settled_after).collect();
    settled.sort();
    let events: u64 = outcomes.iter().map(|o| o.events).sum();
    let simulated: Duration = outcomes.iter().map(|o| o.simulated).sum();
    println!(
        "{seeds} seeds, {events} events, {} simulated hours in {:.1?}; settled after {:.1?} (median), {:.1?} (99 %), {:.1?} (worst)",
        simulated.as_secs() / 3600,
        begin.elapsed(),
        settled[settled.len() / 2],
        settled[settled.len() * 99 / 100],
        settled[settled.len() - 1],
    );
}

#[test]
fn seeds_that_once_failed_do_not() {
    for &seed in REGRESSIONS {
        chaos::run(seed);
    }
}

/// Runs seeds `0..seeds` on all cores. All of them run, so that a failure names every seed.
fn run_all(seeds: u64) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = |first: u64| {
        let mine = (first..seeds).step_by(threads);
        let runs = mine.map(|seed| catch_unwind(|| chaos::run(seed)).map_err(|_| seed));
        runs.collect::<Vec<_>>()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads as u64)
            .map(|i| scope.spawn(move || share(i)))
            .collect();
        let joined = runs
            .into_iter()
            .map(|run| run.join().expect("panics were caught"));
        joined.flatten().collect()
    });

    let failed: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed: {failed:?}",
        failed.len()
    );
    results.into_iter().flatten().collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

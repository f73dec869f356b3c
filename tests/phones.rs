//! Whole phones come through trouble: the promises of `proto::phone`, in the simulated world.
//!
//! `LINGUALINKED_SEEDS=10000` runs that many seeds, `LINGUALINKED_SEED=77 SIM_TRACE=1` one of them with everything that
//! happens.

#![allow(clippy::print_stdout)] // figures for who runs it

use sim::phones::{Outcome, Scenario, World};
use sim::seeds;

/// Seeds that once found a bug.
const FOUND: [u64; 0] = [];

/// Whatever happens to phones for a while, every question ends, every token is right, and when it is over all of them run
/// one plan and are answered.
#[test]
fn phones_come_through_trouble() {
    if let Some(seed) = std::env::var("LINGUALINKED_SEED").ok() {
        let scenario = Scenario::roll(seed.parse().expect("a seed is a number"));
        println!("{scenario:#?}");
        return println!("{:#?}", World::new(scenario).run());
    }
    let mut seen = Seen::default();

    seeds::run("phones", 500, &FOUND, |seed| {
        seen.add(&World::new(Scenario::roll(seed)).run());
    });

    println!("phones: {seen:#?}");
}

/// The same seed tells the same story, to the microsecond.
#[test]
fn a_run_is_its_seed() {
    let run = |seed| World::new(Scenario::roll(seed)).run();

    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// What many worlds showed together.
#[derive(Debug, Default)]
struct Seen {
    n_cut: u64,
}

impl Seen {
    fn add(&mut self, outcome: &Outcome) {
        self.n_cut += outcome.n_cut;
    }
}

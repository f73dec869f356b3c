//! Which seeds are run, and which of them failed.

use std::ops::Range;

/// Names how many seeds to run, for every test that runs many.
pub const SEEDS_VARIABLE: &str = "LINGUALINKED_SEEDS";

/// Runs `world` for as many seeds as [`SEEDS_VARIABLE`] says, else for `default`, and for those that
/// once found a bug. Says what was run.
///
/// # Panics
///
/// As `world` does, after saying with which seed.
pub fn run(name: &str, default: u64, found: &[u64], mut world: impl FnMut(u64)) {
    let seeds = range(default);

    for seed in found.iter().copied().chain(seeds.clone()) {
        let _guard = Guard { name, seed };
        world(seed);
    }

    eprintln!(
        "{name}: seeds {seeds:?} and {} kept ones ({SEEDS_VARIABLE} sets how many)",
        found.len()
    );
}

fn range(default: u64) -> Range<u64> {
    let asked = std::env::var(SEEDS_VARIABLE).ok();
    let asked = asked.map(|n| n.parse().expect("LINGUALINKED_SEEDS is a number"));

    0..asked.unwrap_or(default)
}

/// Tells the seed if the world breaks.
struct Guard<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: failed with seed {}", self.name, self.seed);
        }
    }
}

//! The best plan by dynamic programming: exact, without a solver.
//!
//! A state is (set of phones that have run, cut reached, phone about to run); a step is that
//! phone's run and its hop to the next. There are `2^n · cuts · n` states and each is left once for
//! every (end of run, next phone), so a group of phones is small work and a data centre is not.
//!
//! It is the oracle that the MILP is tested against, what answers when the MILP does not come to
//! an end, and, because it knows the best plan of *every* set of phones, the source of the reasons
//! that people are given.

use super::network::{Network, Next, Run};
use super::problem::Objective;

/// Steps that are worth waiting for.
///
/// A step takes 2 ns, measured: half a second. 8 phones × 32 shards need an eighth of it at most.
const STEPS_MAX: usize = 1 << 28;

/// The best plans, one for each set of phones.
#[derive(Debug)]
pub(super) struct BySet {
    n_slots: usize,
    n_pieces: usize,
    /// By state: where its best way came from.
    came_from: Vec<Option<Run>>,
    /// By set: the best value and the run that completes it.
    complete: Vec<Option<(f64, Run)>>,
}

/// Whether the DP would come to an end soon.
pub(super) fn is_affordable(network: &Network, objective: Objective) -> bool {
    let (n, cuts) = (network.n_slots(), network.n_pieces() + 1);
    let sets = 1 << n;
    let sweep = sets * n * n * cuts * cuts / 8; // half the phones, half the nexts, half the runs
    let steps = match objective {
        Objective::Latency => sweep,
        Objective::Throughput => sweep * 2 * n, // twice for each phone that may begin
    };

    steps <= STEPS_MAX
}

/// Returns the best route for `objective`, if there is any.
pub(super) fn solve(network: &Network, objective: Objective) -> Option<Vec<Run>> {
    match objective {
        Objective::Latency => solve_latency(network),
        Objective::Throughput => solve_throughput(network),
    }
}

/// Returns the plans with the shortest lap.
pub(super) fn shortest_lap(network: &Network) -> BySet {
    BySet::sweep(
        network,
        |first| network.ends_s + network.enter_s(first),
        |lap_s, run, next| lap_s + network.run_s(run) + network.hop_s(run.slot, next),
    )
}

/// Returns the plans whose busiest phone has the least to do, of those that begin with `first`.
pub(super) fn least_busy(network: &Network, first: usize) -> BySet {
    BySet::sweep(
        network,
        |slot| {
            if slot == first {
                network.opening_s(first)
            } else {
                f64::INFINITY
            }
        },
        |busiest_s, run, next| busiest_s.max(network.busy_s(run, next, first)),
    )
}

/// Returns the plans with the shortest lap, of those that begin with `first` and in which no phone
/// is busy for longer than `limit_s`.
pub(super) fn shortest_lap_within(network: &Network, first: usize, limit_s: f64) -> BySet {
    let enter_s = network.ends_s + network.enter_s(first);

    BySet::sweep(
        network,
        |slot| {
            let may_open = slot == first && network.opening_s(first) <= limit_s;
            if may_open { enter_s } else { f64::INFINITY }
        },
        |lap_s, run, next| {
            let in_time = network.busy_s(run, next, first) <= limit_s;
            let step_s = network.run_s(run) + network.hop_s(run.slot, next);
            if in_time {
                lap_s + step_s
            } else {
                f64::INFINITY
            }
        },
    )
}

/// Returns the route with the shortest lap, if there is any.
pub(super) fn solve_latency(network: &Network) -> Option<Vec<Run>> {
    shortest_lap(network).best().map(|(_, route)| route)
}

/// Returns, of the routes whose busiest phone has the least to do, the one with the shortest lap.
fn solve_throughput(network: &Network) -> Option<Vec<Run>> {
    let slots = 0..network.n_slots();
    let limit_s = slots
        .clone()
        .filter_map(|first| least_busy(network, first).best())
        .map(|(busiest_s, _)| busiest_s)
        .min_by(f64::total_cmp)?;

    slots
        .filter_map(|first| shortest_lap_within(network, first, limit_s).best())
        .min_by(|(a_s, _), (b_s, _)| a_s.total_cmp(b_s))
        .map(|(_, route)| route)
}

impl BySet {
    /// Returns the best value of all, and its route.
    pub fn best(&self) -> Option<(f64, Vec<Run>)> {
        let (value, set, last) = self.best_of(|_| true)?;

        Some((value, self.route(set, last)))
    }

    /// Returns the best value of all; infinite if there is no plan.
    pub fn best_value(&self) -> f64 {
        self.best_of(|_| true)
            .map_or(f64::INFINITY, |(value, ..)| value)
    }

    /// Returns the best value of the plans in which `slot` runs something; infinite if there is
    /// none.
    pub fn best_value_with(&self, slot: usize) -> f64 {
        self.best_of(|set| set & (1 << slot) != 0)
            .map_or(f64::INFINITY, |(value, ..)| value)
    }

    fn best_of(&self, wanted: impl Fn(usize) -> bool) -> Option<(f64, usize, Run)> {
        let sets = (0..self.complete.len()).filter(|&set| wanted(set));
        let complete =
            sets.filter_map(|set| self.complete[set].map(|(value, run)| (value, set, run)));

        complete.min_by(|(a, ..), (b, ..)| a.total_cmp(b))
    }

    /// Walks back from the last run of `set`.
    fn route(&self, set: usize, last: Run) -> Vec<Run> {
        let mut left = set;
        let mut route = std::iter::successors(Some(last), |run| {
            left &= !(1 << run.slot);
            self.came_from[self.state(left, run.start, run.slot)]
        })
        .collect::<Vec<_>>();
        route.reverse();

        route
    }

    /// Visits every state, sets in rising order: a step only ever adds a phone.
    fn sweep(
        network: &Network,
        start: impl Fn(usize) -> f64,
        step: impl Fn(f64, Run, Next) -> f64,
    ) -> Self {
        let (n_slots, n_pieces) = (network.n_slots(), network.n_pieces());
        let n_sets = 1 << n_slots;
        let mut table = Self {
            n_slots,
            n_pieces,
            came_from: vec![None; n_sets * n_pieces * n_slots],
            complete: vec![None; n_sets],
        };
        let mut values = vec![f64::INFINITY; table.came_from.len()];
        for slot in 0..n_slots {
            let state = table.state(0, 0, slot);
            values[state] = start(slot);
        }

        for set in 0..n_sets {
            for cut in 0..n_pieces {
                for slot in (0..n_slots).filter(|slot| set & (1 << slot) == 0) {
                    let value = values[table.state(set, cut, slot)];
                    if value.is_finite() {
                        table.leave(network, &mut values, (set, cut, slot, value), &step);
                    }
                }
            }
        }

        table
    }

    /// Tries every run and every hop out of one state.
    fn leave(
        &mut self,
        network: &Network,
        values: &mut [f64],
        (set, start, slot, value): (usize, usize, usize, f64),
        step: impl Fn(f64, Run, Next) -> f64,
    ) {
        let after = set | 1 << slot;

        for end in start + 1..=self.n_pieces {
            let run = Run { slot, start, end };
            if network.run_s(run).is_infinite() {
                continue; // not `break`: with bound prices a longer run need not be dearer
            }
            for next in network.nexts(run) {
                let value = step(value, run, next);
                match next {
                    Next::Head => self.finish(after, value, run),
                    Next::Slot(to) if after & (1 << to) != 0 => {}
                    Next::Slot(to) => {
                        let state = self.state(after, end, to);
                        if value < values[state] {
                            values[state] = value;
                            self.came_from[state] = Some(run);
                        }
                    }
                }
            }
        }
    }

    fn finish(&mut self, set: usize, value: f64, last: Run) {
        let best = self.complete[set].map_or(f64::INFINITY, |(best, _)| best);

        if value < best {
            self.complete[set] = Some((value, last));
        }
    }

    fn state(&self, set: usize, cut: usize, slot: usize) -> usize {
        (set * self.n_pieces + cut) * self.n_slots + slot
    }
}

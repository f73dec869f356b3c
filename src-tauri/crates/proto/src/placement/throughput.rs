//! The plan for many answers at once: the busiest phone decides how many tokens a full ring gives.
//!
//! As a variable in the programme, "what the busiest phone needs" relaxes badly: a tenth of a run
//! is a tenth as busy. So it is a limit, searched for over the values that it can take:
//!
//! ```text
//!   no plan, proven      cannot tell       a plan is known
//!  ├────────────────────┼───────────────┼────────────────────►  limit on the busiest phone
//!        bounds           ◄── solver ───        bounds
//! ```
//!
//! Bounds alone ([`narrow::any`]) bisect to a few limits about which they cannot tell. Through
//! those the solver descends from the known plan, to a better one each time or to the proof that
//! there is none: what no plan keeps within, no plan keeps within anything lower, so the one slow
//! thing, a proof, is done once. Last, of the plans that keep within the lowest limit, the solver
//! finds the one with the shortest lap.

use super::milp::{self, Answer, GaveUp};
use super::narrow::{self, Found};
use super::network::{Network, Run};

/// Returns, of the routes whose busiest phone has the least to do, the one with the shortest lap.
pub(super) fn solve(network: &Network) -> Answer {
    let mut search = LimitSearch::new(network);
    search.bisect_by_bounds();

    search.descend_by_solver()
}

/// The search for the lowest limit that some plan keeps within.
struct LimitSearch<'a> {
    network: &'a Network,
    /// Limits that may be kept within and are lower than what `reached` needs, rising.
    open_s: Vec<f64>,
    /// The least busy plan met, and what its busiest phone needs.
    reached: Option<(f64, Vec<Run>)>,
}

impl<'a> LimitSearch<'a> {
    fn new(network: &'a Network) -> Self {
        Self {
            network,
            open_s: limits(network),
            reached: None,
        }
    }

    /// Bisects by what [`narrow::any`] can tell without the solver. Where it cannot tell, it looks
    /// higher, so that few limits stay open and a plan is known for the one above them.
    fn bisect_by_bounds(&mut self) {
        let (mut low, mut high) = (0, self.open_s.len());
        let mut proven_s = f64::NEG_INFINITY;

        while low < high {
            let middle = low + (high - low) / 2;
            let limit_s = self.open_s[middle];
            match narrow::any(self.network, limit_s) {
                Found::Plan(route) => {
                    self.reach(route);
                    high = middle.min(self.open_s.len());
                }
                Found::NoPlan => {
                    proven_s = limit_s;
                    low = middle + 1;
                }
                Found::Unknown(_) => low = middle + 1,
            }
        }

        self.open_s.retain(|&open_s| open_s > proven_s);
    }

    /// Asks the solver for a plan below the best, until there is none: a single proof, since what
    /// no plan keeps within, no plan keeps within anything lower.
    fn descend_by_solver(mut self) -> Answer {
        while let Some(&limit_s) = self.open_s.last() {
            match milp::any_within(self.network, limit_s) {
                Answer::Proven(route) | Answer::Gap(route, _) => self.reach(route),
                Answer::Infeasible => break,
                Answer::GaveUp(why) => return self.best_so_far(why),
            }
        }

        match self.reached {
            Some((limit_s, route)) => milp::shortest_lap_within(self.network, limit_s, Some(route)),
            None => Answer::Infeasible,
        }
    }

    fn reach(&mut self, route: Vec<Run>) {
        let busiest_s = self.network.busiest_s(&route);
        self.open_s.retain(|&open_s| open_s < busiest_s);
        self.reached = Some((busiest_s, route));
    }

    /// What is known when the solver comes to no end: some plan may keep within the lowest open
    /// limit.
    fn best_so_far(self, why: GaveUp) -> Answer {
        match self.reached {
            Some((busiest_s, route)) => Answer::Gap(route, busiest_s / self.open_s[0] - 1.0),
            None => Answer::GaveUp(why),
        }
    }
}

/// Every value that the busiest phone's seconds can take, rising.
fn limits(network: &Network) -> Vec<f64> {
    let firsts = 0..network.n_slots();
    let openings = firsts.clone().map(|first| network.opening_s(first));
    let of_pair = |run: Run, next| {
        let is_head = network.head() == Some(run.slot);
        let firsts = if is_head { firsts.clone() } else { 0..1 }; // others are no busier for it
        firsts.map(move |first| network.busy_s(run, next, first))
    };
    let busy = network
        .runs()
        .flat_map(|run| network.nexts(run).flat_map(move |next| of_pair(run, next)));
    let mut limits_s = busy
        .chain(openings)
        .filter(|limit_s| limit_s.is_finite())
        .collect::<Vec<_>>();
    limits_s.sort_by(f64::total_cmp);
    limits_s.dedup();

    limits_s
}

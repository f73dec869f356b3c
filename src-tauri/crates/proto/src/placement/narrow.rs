//! What the solver need not look at: runs that no best plan can contain.
//!
//! Drop the one rule that makes placement hard, that a phone runs at most once, and the cheapest
//! plan is a shortest path, found in one sweep over (cut, phone). It may use a quick phone twice;
//! so phones get a **price** for each run, the price of those used twice rises, that of unused ones
//! falls, and all prices are refunded once at the end. Whatever the prices, the path never costs
//! more than the best plan (Lagrangian relaxation): a **lower bound**. The same sweep, when each
//! state remembers whom its way has used and uses nobody twice, gives a real plan: an **upper
//! bound**.
//!
//! ```text
//!   lower bound ≤ best plan ≤ upper bound
//!   cheapest path through a run  >  upper bound   ⇒   the run is in no best plan
//! ```
//!
//! Thousands of runs shrink to some dozens this way: at 8 phones × 32 shards the solver took 50 ms
//! without it and takes 2 with it (medians over random groups).
//!
//! Where any plan will do (one step of a bisection) time costs nothing and prices are all there is:
//! a plan's path then costs no more than the refund, so a bound above zero proves that there is
//! none, and the first real plan ends the search without asking the solver.

use super::network::{Network, Next, Run};

/// Sweeps in which prices settle, at most.
///
/// Measured on 150 random groups of 6 phones with 16 and 24 shards: 120 and 400 sweeps spare the
/// solver next to nothing more.
const SWEEPS_MAX: usize = 40;

/// Sweeps without a better bound after which price steps are halved: the usual rule for
/// subgradients.
const PATIENCE: usize = 4;

/// How far above the bound the best plan is taken to be while none is known: a guess that only sets
/// the length of the first steps.
const HOPED_GAP: f64 = 0.3;

/// Bounds are sums of a few dozen floats in another order than a plan's own cost: what is within
/// this share of each other counts as equal, so that rounding never drops the best plan.
const ROUNDING: f64 = 1e-9;

/// Whether any plan keeps within a limit.
#[derive(Debug)]
pub(super) enum Found {
    /// This one does.
    Plan(Vec<Run>),
    /// None does.
    NoPlan,
    /// Bounds cannot tell. A plan would be made of these runs.
    Unknown(Vec<Run>),
}

/// What is left to search for the plan with the shortest lap.
#[derive(Debug)]
pub(super) struct Left {
    /// The runs that the best plans are made of, in the network's order.
    pub runs: Vec<Run>,
    /// The best plan met on the way.
    pub known: Option<Vec<Run>>,
    /// No plan has a shorter lap.
    pub bound_s: f64,
}

/// Looks for any plan in which no phone is busy for longer than `limit_s`.
pub(super) fn any(network: &Network, limit_s: f64) -> Found {
    let arcs = arcs_within(network, limit_s, Goal::Any);
    if !can_cover(network, &arcs) {
        return Found::NoPlan;
    }

    let mut search = Search::new(network, &arcs, limit_s, Goal::Any);
    search.settle_prices();

    match search.known {
        Some((_, route)) => Found::Plan(route),
        None if search.proves_none() => Found::NoPlan,
        None => Found::Unknown(search.runs_left()),
    }
}

/// Leaves out the runs that no plan with the shortest lap, of those in which no phone is busy for
/// longer than `limit_s`, contains. `known` is such a plan, if one is known; `None` means there is
/// no plan.
pub(super) fn shortest(network: &Network, limit_s: f64, known: Option<Vec<Run>>) -> Option<Left> {
    let arcs = arcs_within(network, limit_s, Goal::Shortest);
    if !can_cover(network, &arcs) {
        return None;
    }

    let mut search = Search::new(network, &arcs, limit_s, Goal::Shortest);
    search.known = known.map(|route| (network.lap_s(&route), route));
    search.settle_prices();

    (!search.proves_none()).then(|| Left {
        runs: search.runs_left(),
        bound_s: search.bound_s,
        known: search.known.map(|(_, route)| route),
    })
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Any plan: stop at the first.
    Any,
    /// The plan with the shortest lap.
    Shortest,
}

/// A run and where it sends to.
#[derive(Debug, Clone, Copy)]
struct Arc {
    run: Run,
    next: Next,
    cost_s: f64,
}

/// Every run and hop that the limit leaves time for, by rising start.
fn arcs_within(network: &Network, limit_s: f64, goal: Goal) -> Vec<Arc> {
    let arc = |run: Run, next| Arc {
        run,
        next,
        cost_s: match goal {
            Goal::Any => 0.0,
            Goal::Shortest => network.run_s(run) + network.hop_s(run.slot, next),
        },
    };
    let mut arcs = network
        .runs()
        .filter(|run| run.start > 0 || network.opening_s(run.slot) <= limit_s)
        .flat_map(|run| network.nexts(run).map(move |next| arc(run, next)))
        .filter(|arc| network.least_busy_s(arc.run, arc.next) <= limit_s)
        .collect::<Vec<_>>();
    arcs.sort_by_key(|arc| arc.run.start);

    arcs
}

/// Whether the longest runs of all phones together are as long as the model.
fn can_cover(network: &Network, arcs: &[Arc]) -> bool {
    let mut longest = vec![0; network.n_slots()];
    for Arc { run, .. } in arcs {
        longest[run.slot] = longest[run.slot].max(run.end - run.start);
    }

    longest.into_iter().sum::<usize>() >= network.n_pieces()
}

/// Prices on their way to the best bound.
struct Search<'a> {
    network: &'a Network,
    arcs: &'a [Arc],
    limit_s: f64,
    goal: Goal,
    /// What it costs to begin the ring with each phone.
    begin_s: Vec<f64>,
    /// No plan costs more than this, prices refunded.
    dearest_s: f64,
    /// Prices that gave the best bound so far.
    prices_s: Vec<f64>,
    bound_s: f64,
    /// The best plan met, and its lap.
    known: Option<(f64, Vec<Run>)>,
}

/// The cheapest ways from the head to each (cut, phone about to run).
struct Ways {
    n_slots: usize,
    cost_s: Vec<f64>,
    came_from: Vec<Option<Run>>,
    /// Set of phones used on the way, as bits.
    used: Vec<u32>,
    end: Option<(f64, Run)>,
}

/// Whether a way may use a phone twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twice {
    Allowed,
    Forbidden,
}

impl<'a> Search<'a> {
    fn new(network: &'a Network, arcs: &'a [Arc], limit_s: f64, goal: Goal) -> Self {
        let first_price_s = match goal {
            Goal::Any => 1.0, // all alike: only their proportions matter
            Goal::Shortest => 0.0,
        };

        Self {
            network,
            arcs,
            limit_s,
            goal,
            begin_s: begin(network, goal),
            dearest_s: dearest(network, arcs, goal),
            prices_s: vec![first_price_s; network.n_slots()],
            bound_s: f64::NEG_INFINITY,
            known: None,
        }
    }

    /// Raises the bound by moving prices along the subgradient: how often each phone is used, less
    /// one.
    fn settle_prices(&mut self) {
        let mut prices_s = self.prices_s.clone();
        let (mut pace, mut stale) = (1.0, 0);

        for _ in 0..SWEEPS_MAX {
            self.look_for_plan(&prices_s);
            let Some((path_s, path)) = self.ways(&prices_s, Twice::Allowed).route() else {
                self.bound_s = f64::INFINITY; // the last cut cannot be reached
                return;
            };
            let bound_s = path_s - prices_s.iter().sum::<f64>();
            if bound_s > self.bound_s {
                (self.bound_s, self.prices_s, stale) = (bound_s, prices_s.clone(), 0);
            } else {
                stale += 1;
            }
            if self.is_settled() {
                return;
            }
            if stale == PATIENCE {
                (pace, stale) = (pace / 2.0, 0);
                prices_s.clone_from(&self.prices_s); // and sweep there again
                continue;
            }
            self.step(&mut prices_s, &path, bound_s, pace);
        }
    }

    fn is_settled(&self) -> bool {
        let is_met = |&(lap_s, _): &(f64, Vec<Run>)| match self.goal {
            Goal::Any => true,
            Goal::Shortest => lap_s <= self.bound_s * (1.0 + ROUNDING),
        };

        self.known.as_ref().is_some_and(is_met) || self.proves_none()
    }

    /// Whether the bound exceeds what any plan could cost.
    fn proves_none(&self) -> bool {
        let refund_s = self.prices_s.iter().sum::<f64>();

        self.bound_s > self.dearest_s + ROUNDING * (self.dearest_s + refund_s)
    }

    /// Polyak's step: as long as would close the gap to the target if the bound were straight.
    fn step(&self, prices_s: &mut [f64], path: &[Run], bound_s: f64, pace: f64) {
        let mut slopes = vec![-1.0; prices_s.len()];
        path.iter().for_each(|run| slopes[run.slot] += 1.0);
        for (slope, price_s) in slopes.iter_mut().zip(&*prices_s) {
            if *price_s == 0.0 && *slope < 0.0 {
                *slope = 0.0; // a price is never negative
            }
        }
        let steepness = slopes.iter().map(|slope| slope * slope).sum::<f64>();
        if steepness == 0.0 {
            return;
        }

        let target_s = self.target();
        let length = pace * (target_s - bound_s) / steepness;
        for (price_s, slope) in prices_s.iter_mut().zip(slopes) {
            *price_s = (*price_s + length * slope).max(0.0);
        }
    }

    /// What the bound is hoped to reach.
    fn target(&self) -> f64 {
        match (self.goal, &self.known) {
            (Goal::Shortest, Some((lap_s, _))) => *lap_s,
            (Goal::Shortest, None) => self.bound_s * (1.0 + HOPED_GAP),
            (Goal::Any, _) => self.prices_s.iter().sum::<f64>() * HOPED_GAP,
        }
    }

    /// Keeps the plan that a sweep without reuse finds, if it is the best so far.
    fn look_for_plan(&mut self, prices_s: &[f64]) {
        let Some((_, route)) = self.ways(prices_s, Twice::Forbidden).route() else {
            return;
        };
        let lap_s = self.network.lap_s(&route);

        if lap_s < self.known_s() && self.network.busiest_s(&route) <= self.limit_s {
            self.known = Some((lap_s, route));
        }
    }

    /// Lap of the best plan known; infinite if there is none.
    fn known_s(&self) -> f64 {
        self.known
            .as_ref()
            .map_or(f64::INFINITY, |&(lap_s, _)| lap_s)
    }

    /// Runs through which a path may cost no more than the best plan known.
    fn runs_left(&self) -> Vec<Run> {
        let refund_s = self.prices_s.iter().sum::<f64>();
        let cutoff_s = self.known_s() * (1.0 + ROUNDING) + refund_s * (1.0 + ROUNDING);
        let there = self.ways(&self.prices_s, Twice::Allowed);
        let onward_s = self.onward(&self.prices_s);

        let mut runs = self
            .arcs
            .iter()
            .filter(|arc| {
                let through_s = there.cost_s[there.state(arc.run.start, arc.run.slot)]
                    + arc.cost_s
                    + self.prices_s[arc.run.slot];
                through_s + self.rest(&onward_s, arc) <= cutoff_s
            })
            .map(|arc| arc.run)
            .collect::<Vec<_>>();
        runs.sort();
        runs.dedup();

        runs
    }

    /// Sweeps forward, arcs by rising start.
    fn ways(&self, prices_s: &[f64], twice: Twice) -> Ways {
        let mut ways = Ways::new(self.network.n_pieces(), &self.begin_s);

        for arc in self.arcs {
            ways.extend(arc, prices_s[arc.run.slot], twice);
        }

        ways
    }

    /// Sweeps backward: the cheapest way from each (cut, phone about to run) to the end.
    fn onward(&self, prices_s: &[f64]) -> Vec<f64> {
        let n_slots = self.network.n_slots();
        let mut onward_s = vec![f64::INFINITY; self.network.n_pieces() * n_slots];

        for arc in self.arcs.iter().rev() {
            let cost_s = arc.cost_s + prices_s[arc.run.slot] + self.rest(&onward_s, arc);
            let state = arc.run.start * n_slots + arc.run.slot;
            onward_s[state] = onward_s[state].min(cost_s);
        }

        onward_s
    }

    fn rest(&self, onward_s: &[f64], arc: &Arc) -> f64 {
        match arc.next {
            Next::Head => 0.0,
            Next::Slot(to) => onward_s[arc.run.end * self.network.n_slots() + to],
        }
    }
}

impl Ways {
    fn new(n_pieces: usize, begin_s: &[f64]) -> Self {
        let n_slots = begin_s.len();
        let n_states = n_pieces * n_slots;
        let mut cost_s = vec![f64::INFINITY; n_states];
        cost_s[..n_slots].copy_from_slice(begin_s);

        Self {
            n_slots,
            cost_s,
            came_from: vec![None; n_states],
            used: vec![0; n_states],
            end: None,
        }
    }

    fn extend(&mut self, arc: &Arc, price_s: f64, twice: Twice) {
        let from = self.state(arc.run.start, arc.run.slot);
        let cost_s = self.cost_s[from] + arc.cost_s + price_s;
        let used = self.used[from] | 1 << arc.run.slot;

        match arc.next {
            Next::Head => {
                if cost_s < self.end.map_or(f64::INFINITY, |(best_s, _)| best_s) {
                    self.end = Some((cost_s, arc.run));
                }
            }
            Next::Slot(to) => {
                let state = self.state(arc.run.end, to);
                let is_free = twice == Twice::Allowed || used & (1 << to) == 0;
                if is_free && cost_s < self.cost_s[state] {
                    self.cost_s[state] = cost_s;
                    self.came_from[state] = Some(arc.run);
                    self.used[state] = used;
                }
            }
        }
    }

    /// Returns the cheapest way to the end, and what it cost.
    fn route(&self) -> Option<(f64, Vec<Run>)> {
        let (cost_s, last) = self.end?;
        let back = |run: &Run| self.came_from[self.state(run.start, run.slot)];
        let mut route = std::iter::successors(Some(last), back).collect::<Vec<_>>();
        route.reverse();

        Some((cost_s, route))
    }

    fn state(&self, cut: usize, slot: usize) -> usize {
        cut * self.n_slots + slot
    }
}

/// What it costs to begin the ring with each phone; infinite where it cannot be.
fn begin(network: &Network, goal: Goal) -> Vec<f64> {
    let enter_s = (0..network.n_slots()).map(|slot| network.ends_s + network.enter_s(slot));

    match goal {
        Goal::Any => enter_s
            .map(|begin_s| if begin_s.is_finite() { 0.0 } else { begin_s })
            .collect(),
        Goal::Shortest => enter_s.collect(),
    }
}

/// More than any plan costs: every phone's dearest run and hop, and the dearest way in.
fn dearest(network: &Network, arcs: &[Arc], goal: Goal) -> f64 {
    let mut dearest_s = vec![0.0_f64; network.n_slots()];
    for arc in arcs {
        dearest_s[arc.run.slot] = dearest_s[arc.run.slot].max(arc.cost_s);
    }
    let begin_s = begin(network, goal)
        .into_iter()
        .filter(|begin_s| begin_s.is_finite());

    begin_s.fold(0.0, f64::max) + dearest_s.iter().sum::<f64>()
}

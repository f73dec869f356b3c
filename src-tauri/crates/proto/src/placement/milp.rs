//! The best plan as a mixed-integer linear programme, solved by microlp.
//!
//! ```text
//!              runs of phone 0              runs of phone 0
//!        ┌──────────────────────► out(2,0) ┐ hop   ┌ ─ ─ ─ ─ ► …
//!  begin ┤                                 ╳───────┤
//!        └──────────────────────► out(2,1) ┘       └► in(2,1) ──────────────► end
//!              runs of phone 1                            runs of phone 1
//!
//!   cut 0 ─────────────────────────── cut 2 ─────────────────────────── cut n
//! ```
//!
//! A plan is a path. *Runs* are its long arcs, one binary for each (phone, first cut, last cut)
//! that fits the phone's memory; *hops* join a run's end to the next run's begin and cost what that
//! pair of phones costs. Flow is conserved at every (cut, phone), one unit enters, and each phone
//! has at most one run: that is all. Nothing is multiplied, so nothing needs linearising, and
//! because the rest is the incidence matrix of a network, the relaxation is nearly always whole
//! already. A hop needs no binary: between two whole runs its flow is whole.
//!
//! A limit on how long a phone may be busy leaves out the runs that exceed it. What a run's *next*
//! hop adds is known only to the pair, so a pair that is too slow is forbidden by a row of zeros
//! and ones, which keeps the relaxation tight.

use std::collections::{BTreeMap, BTreeSet};

use microlp::{
    ComparisonOp, LinearExpr, OptimizationDirection, SolutionStatus, SolveOptions, SolveOutcome,
    Variable,
};

use super::narrow::{self, Found};
use super::network::{Network, Next, Run};

/// Work that one solve may spend on branch and bound before the DP takes over: nodes times the
/// square of the number of variables, which is about how a node's time grows.
///
/// Measured: a node of 2,600 variables takes 0.2 to 0.4 s and gets three, one of 300 takes a
/// millisecond and gets 200. Of 150 random groups of 8 phones and 32 shards one or two need more.
const NODE_WORK_MAX: u64 = 20_000_000;

/// Costs are given to the solver in microseconds.
///
/// A lap is 10^4 to 10^6 of them, so the solver's absolute tolerance of 1e-7 is below 1e-11 of it.
const UNITS_PER_S: f64 = 1e6;

/// Relative slack below which branch and bound takes two plans for equally good.
///
/// A thousandth of the 1e-9 that the oracle allows.
const PRUNE_EPSILON: f64 = 1e-12;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// No plan is better.
    Proven(Vec<Run>),
    /// A plan, and by how much a better one could beat it, relative to it.
    Gap(Vec<Run>, f64),
    /// There is no plan.
    Infeasible,
    /// The solver came to no end.
    GaveUp(GaveUp),
}

/// Why the solver came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub enum GaveUp {
    /// It visited as many nodes as it may.
    #[error("node limit reached")]
    NodeLimit,
    /// It failed numerically.
    #[error("numerical failure")]
    Numerical,
    /// It answered something that is not a plan.
    #[error("answer broke a constraint")]
    BadAnswer,
}

/// Returns the route with the shortest lap.
pub(super) fn solve_latency(network: &Network) -> Answer {
    shortest_lap_within(network, f64::INFINITY, None)
}

/// Returns the route with the shortest lap in which no phone is busy for longer than `limit_s`;
/// `known` is one that keeps within it.
pub(super) fn shortest_lap_within(
    network: &Network,
    limit_s: f64,
    known: Option<Vec<Run>>,
) -> Answer {
    let Some(left) = narrow::shortest(network, limit_s, known) else {
        return Answer::Infeasible;
    };

    match (Model::new(network, limit_s, &left.runs).solve(), left.known) {
        (Answer::GaveUp(_), Some(route)) => {
            let gap = network.lap_s(&route) / left.bound_s - 1.0;
            Answer::Gap(route, gap)
        }
        (answer, _) => answer,
    }
}

/// Returns some route in which no phone is busy for longer than `limit_s`.
pub(super) fn any_within(network: &Network, limit_s: f64) -> Answer {
    match narrow::any(network, limit_s) {
        Found::Plan(route) => Answer::Gap(route, f64::INFINITY),
        Found::NoPlan => Answer::Infeasible,
        Found::Unknown(runs) => Model::new(network, limit_s, &runs).solve(),
    }
}

/// One programme: the network within a limit.
struct Model<'a> {
    network: &'a Network,
    limit_s: f64,
    problem: microlp::Problem,
    runs: BTreeMap<Run, Variable>,
    /// By (slot left, cut, slot entered).
    hops: BTreeMap<(usize, usize, usize), Variable>,
}

impl<'a> Model<'a> {
    fn new(network: &'a Network, limit_s: f64, runs: &[Run]) -> Self {
        let mut model = Self {
            network,
            limit_s,
            problem: microlp::Problem::new(OptimizationDirection::Minimize),
            runs: BTreeMap::new(),
            hops: BTreeMap::new(),
        };
        model.add_runs(runs);
        model.add_hops();
        model.begin_once();
        model.use_phones_once();
        model.conserve_flow();
        if limit_s.is_finite() {
            model.forbid_slow_pairs();
            model.forbid_slow_openings();
        }

        model
    }

    /// A binary for each run that is possible within the limit, priced with the way in and the way
    /// back where it begins or ends the ring.
    fn add_runs(&mut self, runs: &[Run]) {
        for &run in runs {
            let enter_s = if run.start == 0 {
                self.network.enter_s(run.slot)
            } else {
                0.0
            };
            let leave_s = if self.closes(run) {
                self.network.hop_s(run.slot, Next::Head)
            } else {
                0.0
            };
            let price_s = enter_s + self.network.run_s(run) + leave_s;

            if price_s.is_finite() {
                let variable = self.problem.add_binary_var(price_s * UNITS_PER_S);
                self.runs.insert(run, variable);
            }
        }
    }

    /// A flow for each (cut, pair of phones) between a run that ends and one that begins there.
    fn add_hops(&mut self) {
        let ends = self
            .runs
            .keys()
            .map(|run| (run.slot, run.end))
            .collect::<BTreeSet<_>>();
        let starts = self
            .runs
            .keys()
            .map(|run| (run.start, run.slot))
            .collect::<BTreeSet<_>>();

        for &(from, cut) in &ends {
            for &(_, to) in starts.range((cut, 0)..(cut + 1, 0)) {
                let hop_s = self.network.hop_s(from, Next::Slot(to));
                if from != to && hop_s.is_finite() {
                    let variable = self.problem.add_var(hop_s * UNITS_PER_S, (0.0, 1.0));
                    self.hops.insert((from, cut, to), variable);
                }
            }
        }
    }

    fn begin_once(&mut self) {
        let starts = self.runs.iter().filter(|(run, _)| run.start == 0);
        let sum = sum(starts.map(|(_, &variable)| variable));

        self.problem.add_constraint(sum, ComparisonOp::Eq, 1.0);
    }

    fn use_phones_once(&mut self) {
        for slot in 0..self.network.n_slots() {
            let own = self.runs.iter().filter(|(run, _)| run.slot == slot);
            let sum = sum(own.map(|(_, &variable)| variable));
            self.problem.add_constraint(sum, ComparisonOp::Le, 1.0);
        }
    }

    /// What ends at (cut, phone) hops on; what hops to (cut, phone) begins there.
    fn conserve_flow(&mut self) {
        let mut out = BTreeMap::<(usize, usize), LinearExpr>::new();
        let mut into = BTreeMap::<(usize, usize), LinearExpr>::new();

        for (run, &variable) in &self.runs {
            if !self.closes(*run) {
                out.entry((run.end, run.slot))
                    .or_insert_with(LinearExpr::empty)
                    .add(variable, 1.0);
            }
            if run.start > 0 {
                into.entry((run.start, run.slot))
                    .or_insert_with(LinearExpr::empty)
                    .add(variable, -1.0);
            }
        }
        for (&(from, cut, to), &variable) in &self.hops {
            out.entry((cut, from))
                .or_insert_with(LinearExpr::empty)
                .add(variable, -1.0);
            into.entry((cut, to))
                .or_insert_with(LinearExpr::empty)
                .add(variable, 1.0);
        }

        for row in out.into_values().chain(into.into_values()) {
            self.problem.add_constraint(row, ComparisonOp::Eq, 0.0);
        }
    }

    /// A hop that its sender's run leaves no time for is not taken: its flow comes from the others.
    fn forbid_slow_pairs(&mut self) {
        for (&(from, cut, to), &hop) in &self.hops {
            let next = Next::Slot(to);
            let (slow, quick) =
                self.runs_ending_at(from, cut)
                    .partition::<Vec<_>, _>(|&(run, _)| {
                        self.network.least_busy_s(run, next) > self.limit_s
                    });

            if !slow.is_empty() {
                let mut row = sum([hop]);
                quick
                    .into_iter()
                    .for_each(|(_, variable)| row.add(variable, -1.0));
                self.problem.add_constraint(row, ComparisonOp::Le, 0.0);
            }
        }
    }

    /// On the head, the first hop of the ring adds to what its own run and hop need: the three
    /// together are forbidden where only together they are too slow.
    fn forbid_slow_openings(&mut self) {
        let Some(head) = self.network.head() else {
            return;
        };
        let hops = self.hops.range((head, 0, 0)..(head + 1, 0, 0));
        let leaves = hops.map(|(&(_, cut, to), &hop)| (cut, Next::Slot(to), Some(hop)));
        let closes = [(self.network.n_pieces(), Next::Head, None)];
        let mut rows = Vec::new();

        for (cut, next, hop) in leaves.chain(closes) {
            for first in (0..self.network.n_slots()).filter(|&first| first != head) {
                let slow = self.runs_ending_at(head, cut).filter(|&(run, _)| {
                    run.start > 0
                        && self.network.least_busy_s(run, next) <= self.limit_s
                        && self.network.busy_s(run, next, first) > self.limit_s
                });
                let slow = slow.map(|(_, variable)| variable).collect::<Vec<_>>();
                if !slow.is_empty() {
                    let opens = self.runs_beginning_with(first);
                    let bound = if hop.is_some() { 2.0 } else { 1.0 };
                    rows.push((sum(slow.into_iter().chain(opens).chain(hop)), bound));
                }
            }
        }

        for (row, bound) in rows {
            self.problem.add_constraint(row, ComparisonOp::Le, bound);
        }
    }

    /// Solves the programme, rounds the runs, and reads the path.
    fn solve(self) -> Answer {
        let mut options = SolveOptions::default();
        options.node_limit = Some(self.nodes_max());
        options.tolerances.prune_epsilon = PRUNE_EPSILON;

        let solution = match self.problem.solve_with(options) {
            Ok(SolveOutcome::Solution(solution)) => solution,
            Ok(SolveOutcome::Interrupted(_)) => return Answer::GaveUp(GaveUp::NodeLimit),
            Err(microlp::Error::Infeasible) => return Answer::Infeasible,
            Err(error) => {
                tracing::debug!(%error, "Solver failed");
                return Answer::GaveUp(GaveUp::Numerical);
            }
        };
        let chosen = self
            .runs
            .iter()
            .filter(|(_, variable)| solution.var_value(**variable) > 0.5);
        let mut route = chosen.map(|(&run, _)| run).collect::<Vec<_>>();
        route.sort_by_key(|run| run.start);

        if !self.is_plan(&route) {
            Answer::GaveUp(GaveUp::BadAnswer)
        } else if solution.status() == SolutionStatus::Optimal {
            Answer::Proven(route)
        } else {
            Answer::Gap(route, solution.gap().unwrap_or(f64::INFINITY))
        }
    }

    fn nodes_max(&self) -> u64 {
        let variables = (self.runs.len() + self.hops.len()) as u64;

        (NODE_WORK_MAX / variables.pow(2).max(1)).max(1)
    }

    /// Whether the runs chosen follow each other from the first cut to the last, within the limit.
    fn is_plan(&self, route: &[Run]) -> bool {
        let starts = route
            .iter()
            .map(|run| run.start)
            .chain([self.network.n_pieces()]);
        let ends = std::iter::once(0).chain(route.iter().map(|run| run.end));

        starts.eq(ends) && self.network.busiest_s(route) <= self.limit_s
    }

    fn runs_ending_at(
        &self,
        slot: usize,
        end: usize,
    ) -> impl Iterator<Item = (Run, Variable)> + '_ {
        let runs = (0..end).map(move |start| Run { slot, start, end });

        runs.filter_map(|run| self.runs.get(&run).map(|&variable| (run, variable)))
    }

    fn runs_beginning_with(&self, slot: usize) -> impl Iterator<Item = Variable> + '_ {
        let from = Run {
            slot,
            start: 0,
            end: 0,
        };
        let to = Run {
            slot,
            start: 1,
            end: 0,
        };

        self.runs.range(from..to).map(|(_, &variable)| variable)
    }

    fn closes(&self, run: Run) -> bool {
        run.end == self.network.n_pieces()
    }
}

fn sum(variables: impl IntoIterator<Item = Variable>) -> LinearExpr {
    let mut sum = LinearExpr::empty();
    variables
        .into_iter()
        .for_each(|variable| sum.add(variable, 1.0));

    sum
}

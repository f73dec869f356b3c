//! The network that placement searches: phones that may take part, cuts, and the price of each arc.
//!
//! MILP, DP and enumeration all search this one table, so that none of them has its own idea of
//! what is allowed or what it costs. Phones are renumbered to those that may run something
//! (*slots*), shards to the cuts between them that may be made. Time in a network is in seconds.

use std::cmp::Reverse;
use std::ops::Range;

use super::cost::{Leg, Seconds};
use super::memory;
use super::problem::{Link, Problem};

/// Phones that are searched over, at most.
///
/// The DP visits 2^n sets of phones: at 10 phones and 64 shards a tenth of a second for the
/// shortest lap. Of a larger group the quickest and the roomiest stay.
const SLOTS_MAX: usize = 10;

/// Slots that go to the quickest phones of a larger group, the head first; the rest go by memory.
const QUICK_SLOTS: usize = 5;

/// One run in the network: phone by slot, half-open cuts by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub slot: usize,
    pub start: usize,
    pub end: usize,
}

/// Where an activation goes after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    /// To the phone in this slot.
    Slot(usize),
    /// Back to the head.
    Head,
}

/// Everything that may be part of a plan, and its price.
#[derive(Debug, Clone)]
pub(super) struct Network {
    /// Shard index of each cut: 0, the number of shards, and what lies between and may be cut.
    cuts: Vec<usize>,
    /// Place in [`Problem::phones`] of each slot.
    phones: Vec<usize>,
    /// Slot of the head, if it may run layers.
    head: Option<usize>,
    /// What the head needs for the ends.
    pub ends_s: f64,
    /// Seconds of each run, by slot, start and end; infinite where it may not be.
    run_s: Vec<Vec<Vec<f64>>>,
    hops: Hops,
    sends: Hops,
}

/// What it takes from anywhere to anywhere, by slot.
#[derive(Debug, Clone)]
struct Hops {
    /// From the head to a slot.
    enter_s: Vec<f64>,
    between_s: Vec<Vec<f64>>,
    /// From a slot back to the head.
    leave_s: Vec<f64>,
}

impl Network {
    /// Returns the network of the phones that could run at least one piece of the model.
    pub fn new(problem: &Problem) -> Self {
        let seconds = Seconds::of_decode(problem);
        let fits = |phone, shards: &Range<usize>| {
            memory::shortfall_bytes(problem, phone, shards.clone()) == 0
        };

        Self::build(problem, &seconds, fits, |phone, shards| {
            seconds.run_s(phone, shards)
        })
    }

    /// Returns a network in which a run's price is the memory it lacks, in bytes, and all else is
    /// free: its cheapest plan says what is missing.
    ///
    /// Runs that lack something are left out unless the phone `may_grow`. What the head lacks for
    /// the ends alone is not counted: no plan can avoid it.
    pub fn of_missing_bytes(problem: &Problem, may_grow: impl Fn(usize) -> bool) -> Self {
        let seconds = Seconds::of_decode(problem);
        let missing_bytes = |phone, shards: &Range<usize>| {
            memory::shortfall_bytes(problem, phone, shards.clone())
                - memory::shortfall_bytes(problem, phone, 0..0)
        };
        let mut network = Self::build(
            problem,
            &seconds,
            |phone, shards| may_grow(phone) || missing_bytes(phone, shards) == 0,
            |phone, shards| missing_bytes(phone, shards) as f64,
        );
        network.ends_s = 0.0;
        network.hops.make_free();
        network.sends.make_free();

        network
    }

    /// Returns the network of the paper's primary optimisation: see [`super::baselines`].
    ///
    /// A hop costs `c/B` and no latency; the head must run the first shard, and neither the ends
    /// nor the way back cost anything. A run may be where it `fits(phone, shards)`.
    pub fn of_paper(problem: &Problem, fits: impl Fn(usize, &Range<usize>) -> bool) -> Self {
        let seconds = Seconds::of_decode(problem);
        let mut network = Self::build(problem, &seconds, fits, |phone, shards| {
            seconds.run_s(phone, shards)
        });
        network.ends_s = 0.0;
        network.hops = network.sends.clone();
        network.hops.enter_s.fill(f64::INFINITY);
        if let Some(head) = network.head {
            network.hops.enter_s[head] = 0.0;
        }
        network.hops.leave_s.fill(0.0);

        network
    }

    /// Returns the number of pieces between cuts.
    pub fn n_pieces(&self) -> usize {
        self.cuts.len() - 1
    }

    /// Returns the number of phones searched over.
    pub fn n_slots(&self) -> usize {
        self.phones.len()
    }

    /// Returns the shard index of each cut.
    pub fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// Returns the slots' places in [`Problem::phones`].
    pub fn phones(&self) -> &[usize] {
        &self.phones
    }

    /// Returns the slot of the head, if it may run layers.
    pub fn head(&self) -> Option<usize> {
        self.head
    }

    /// Returns every run that may be, by slot, start, end.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let last = self.n_pieces();
        let all = (0..self.n_slots()).flat_map(move |slot| {
            (0..last)
                .flat_map(move |start| (start + 1..=last).map(move |end| Run { slot, start, end }))
        });

        all.filter(|&run| self.run_s(run).is_finite())
    }

    /// Returns the compute of a run; infinite if it may not be.
    pub fn run_s(&self, run: Run) -> f64 {
        self.run_s[run.slot][run.start][run.end]
    }

    /// Returns the way from the head to a slot.
    pub fn enter_s(&self, slot: usize) -> f64 {
        self.hops.enter_s[slot]
    }

    /// Returns the way from a slot to the next; infinite if there is none.
    pub fn hop_s(&self, from: usize, next: Next) -> f64 {
        self.hops.from(from, next)
    }

    /// Returns for how long opening the ring with `first` keeps the head busy.
    pub fn opening_s(&self, first: usize) -> f64 {
        self.ends_s + self.sends.enter_s[first]
    }

    /// Returns for how long a run and its hop to `next` keep the phone busy, in a ring that `first`
    /// begins: the head has the ends and the first hop to do as well.
    pub fn busy_s(&self, run: Run, next: Next, first: usize) -> f64 {
        let own_s = self.run_s(run) + self.sends.from(run.slot, next);

        if self.head == Some(run.slot) {
            own_s + self.opening_s(first)
        } else {
            own_s
        }
    }

    /// Returns the least that a run and its hop keep the phone busy, whoever begins the ring.
    pub fn least_busy_s(&self, run: Run, next: Next) -> f64 {
        let may_begin = |first: &usize| (run.start == 0) == (*first == run.slot);
        let firsts = (0..self.n_slots()).filter(may_begin);
        let busy = firsts.map(|first| self.busy_s(run, next, first));

        busy.fold(f64::INFINITY, f64::min)
    }

    /// Returns where a run that ends at cut `end` may send to, other than to itself.
    pub fn nexts(&self, run: Run) -> impl Iterator<Item = Next> + '_ {
        let closes = run.end == self.n_pieces();
        let slots = (0..self.n_slots())
            .filter(move |&slot| !closes && slot != run.slot)
            .map(Next::Slot);
        let head = closes.then_some(Next::Head);

        slots
            .chain(head)
            .filter(move |&next| self.hop_s(run.slot, next).is_finite())
    }

    /// Returns the sum of a route's lap.
    pub fn lap_s(&self, route: &[Run]) -> f64 {
        let Some(first) = route.first() else {
            return f64::INFINITY;
        };

        nexts_of(route).fold(
            self.ends_s + self.enter_s(first.slot),
            |lap_s, (run, next)| lap_s + self.run_s(run) + self.hop_s(run.slot, next),
        )
    }

    /// Returns what the busiest phone of a route needs for each token.
    pub fn busiest_s(&self, route: &[Run]) -> f64 {
        let Some(first) = route.first() else {
            return f64::INFINITY;
        };

        nexts_of(route)
            .map(|(run, next)| self.busy_s(run, next, first.slot))
            .fold(self.opening_s(first.slot), f64::max)
    }

    /// Returns a route in the problem's own numbers.
    pub fn legs(&self, route: &[Run]) -> Vec<Leg> {
        let leg = |run: &Run| Leg {
            phone: self.phones[run.slot],
            shards: self.cuts[run.start]..self.cuts[run.end],
        };

        route.iter().map(leg).collect()
    }

    fn build(
        problem: &Problem,
        seconds: &Seconds,
        fits: impl Fn(usize, &Range<usize>) -> bool,
        price: impl Fn(usize, &Range<usize>) -> f64,
    ) -> Self {
        let cuts = cuts(problem);
        let last = cuts.len() - 1;
        let run_s = |phone: usize, start: usize, end: usize| {
            let shards = cuts[start]..cuts[end.max(start)];
            if start < end && fits(phone, &shards) {
                price(phone, &shards)
            } else {
                f64::INFINITY
            }
        };
        let table = |phone: usize| -> Vec<Vec<f64>> {
            let row = |start| (0..=last).map(|end| run_s(phone, start, end)).collect();
            (0..last).map(row).collect()
        };

        let mut candidates = candidates(problem, seconds)
            .into_iter()
            .map(|phone| (phone, table(phone)))
            .filter(|(_, table)| table.iter().flatten().any(|seconds| seconds.is_finite()))
            .collect::<Vec<_>>();
        if let Some(slower) = candidates.get_mut(QUICK_SLOTS..) {
            slower.sort_by_key(|&(phone, _)| Reverse(problem.phones[phone].memory_budget_bytes));
        }
        candidates.truncate(SLOTS_MAX);
        let (phones, tables) = candidates.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let head = problem.head_index();

        Self {
            head: phones.iter().position(|&phone| phone == head),
            ends_s: seconds.ends_s(),
            run_s: tables,
            hops: Hops::new(head, &phones, |from, to| seconds.hop_s(from, to)),
            sends: Hops::new(head, &phones, |from, to| seconds.send_s(from, to)),
            cuts,
            phones,
        }
    }
}

impl Hops {
    fn new(head: usize, phones: &[usize], cost: impl Fn(usize, usize) -> f64) -> Self {
        let between = |&from: &usize| phones.iter().map(|&to| cost(from, to)).collect();

        Self {
            enter_s: phones.iter().map(|&to| cost(head, to)).collect(),
            between_s: phones.iter().map(between).collect(),
            leave_s: phones.iter().map(|&from| cost(from, head)).collect(),
        }
    }

    fn from(&self, from: usize, next: Next) -> f64 {
        match next {
            Next::Slot(to) => self.between_s[from][to],
            Next::Head => self.leave_s[from],
        }
    }

    /// Makes every way that exists cost nothing.
    fn make_free(&mut self) {
        let rows = self
            .between_s
            .iter_mut()
            .chain([&mut self.enter_s, &mut self.leave_s]);

        rows.flatten()
            .filter(|seconds| seconds.is_finite())
            .for_each(|seconds| *seconds = 0.0);
    }
}

/// Each run of a route with where it sends to.
pub(super) fn nexts_of(route: &[Run]) -> impl Iterator<Item = (Run, Next)> + '_ {
    let nexts = route
        .iter()
        .skip(1)
        .map(|run| Next::Slot(run.slot))
        .chain([Next::Head]);

    route.iter().copied().zip(nexts)
}

/// The shard indices at which the model may be cut: not within a bound run.
pub(super) fn cuts(problem: &Problem) -> Vec<usize> {
    let within = |cut: usize| {
        problem
            .bound
            .iter()
            .any(|run| run.start < cut && cut < run.end)
    };

    (0..=problem.shards.len())
        .filter(|&cut| !within(cut))
        .collect()
}

/// The phones that may run layers and that the head can reach, the head first, then the quickest.
fn candidates(problem: &Problem, seconds: &Seconds) -> Vec<usize> {
    let head = problem.head_index();
    let all = 0..problem.shards.len();
    let mut ready = (0..problem.phones.len())
        .filter(|&phone| problem.phones[phone].is_ready())
        .filter(|&phone| phone == head || problem.link(head, phone) != Link::Unreachable)
        .collect::<Vec<_>>();

    ready.sort_by(|&a, &b| {
        let order = seconds.run_s(a, &all).total_cmp(&seconds.run_s(b, &all));
        (a != head).cmp(&(b != head)).then(order).then(a.cmp(&b))
    });

    ready
}

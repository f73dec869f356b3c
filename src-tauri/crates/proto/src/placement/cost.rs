//! What a plan costs in seconds: the lap of one token, and the busiest phone of a full ring.
//!
//! ```text
//!        hop               hop               hop = R/2 + c/B back to the head
//! head ───────► stage 1 ───────► … stage S ───────► head
//! ends            run              run              ends
//!
//! lap  = ends + Σ run + Σ hop
//! busy = run + send               send = c/B: the phone's own part of a hop
//!        + ends + first send      on the head, which also opens the ring
//! ```
//!
//! A run is the sum of its shards' measured seconds. The time in flight, `R/2`, delays a token but
//! keeps nobody busy, so it counts in the lap alone. A hop from a phone to itself is free.

use std::ops::Range;

use super::problem::{Link, Phone, Problem};

/// What one phone runs, by its place in [`Problem::phones`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leg {
    /// The phone's place.
    pub phone: usize,
    /// Its shards, half-open.
    pub shards: Range<usize>,
}

/// Seconds of everything that a plan may be made of, for one batch of tokens.
#[derive(Debug, Clone)]
pub(super) struct Seconds {
    head: usize,
    ends_s: f64,
    /// Seconds of shards `0..j`, by phone; empty for a phone without figures.
    prefix_s: Vec<Vec<f64>>,
    /// Way there, by (from, to); infinite where phones cannot talk.
    hop_s: Vec<Vec<f64>>,
    /// Part of the hop that keeps the sender busy.
    send_s: Vec<Vec<f64>>,
}

impl Seconds {
    /// Returns the seconds of one decode step: one token of one session.
    pub fn of_decode(problem: &Problem) -> Self {
        let times = |phone: &Phone| phone.decode_s.clone();
        let ends_s = problem.phones[problem.head_index()].ends_decode_s;

        Self::new(problem, 1, ends_s, times)
    }

    /// Returns the seconds of a prefill chunk of `n_tokens`, at most a whole chunk.
    ///
    /// Between the two points that are measured, one token and a whole chunk, time is taken to grow
    /// evenly: exact at both, and a shard reads its weights once however few tokens there are.
    pub fn of_chunk(problem: &Problem, n_tokens: u32) -> Self {
        let whole = problem.workload.chunk_tokens;
        let share = f64::from(n_tokens) / f64::from(whole);
        let beyond_first = if whole > 1 {
            f64::from(n_tokens.saturating_sub(1)) / f64::from(whole - 1)
        } else {
            1.0
        };
        let times = |phone: &Phone| {
            let pairs = phone.decode_s.iter().zip(&phone.prefill_s);
            pairs
                .map(|(&one, &chunk)| one.min(chunk) + (chunk - one).max(0.0) * beyond_first)
                .collect()
        };
        let ends_s = problem.phones[problem.head_index()].ends_prefill_s * share;

        Self::new(problem, n_tokens, ends_s, times)
    }

    /// Returns what the head needs for the ends.
    pub fn ends_s(&self) -> f64 {
        self.ends_s
    }

    /// Returns the compute of `shards` on `phone`.
    pub fn run_s(&self, phone: usize, shards: &Range<usize>) -> f64 {
        self.prefix_s[phone][shards.end] - self.prefix_s[phone][shards.start]
    }

    /// Returns the way of an activation; infinite if the phones cannot talk.
    pub fn hop_s(&self, from: usize, to: usize) -> f64 {
        self.hop_s[from][to]
    }

    /// Returns how long sending an activation keeps `from` busy.
    pub fn send_s(&self, from: usize, to: usize) -> f64 {
        self.send_s[from][to]
    }

    /// Returns the compute of one lap: all runs and the ends.
    pub fn compute_s(&self, legs: &[Leg]) -> f64 {
        let runs = legs.iter().map(|leg| self.run_s(leg.phone, &leg.shards));

        self.ends_s + runs.sum::<f64>()
    }

    /// Returns the hops of one lap, the way back to the head among them.
    pub fn hops_s(&self, legs: &[Leg]) -> f64 {
        let senders = std::iter::once(self.head).chain(legs.iter().map(|leg| leg.phone));
        let receivers = legs.iter().map(|leg| leg.phone).chain([self.head]);

        senders
            .zip(receivers)
            .map(|(from, to)| self.hop_s(from, to))
            .sum()
    }

    /// Returns the seconds from a token at the head to the next.
    pub fn lap_s(&self, legs: &[Leg]) -> f64 {
        self.compute_s(legs) + self.hops_s(legs)
    }

    /// Returns what the busiest phone needs for each token: a full ring gives one token in that
    /// time.
    pub fn busiest_s(&self, legs: &[Leg]) -> f64 {
        let first = legs.first().map_or(self.head, |leg| leg.phone);
        let opening_s = self.ends_s + self.send_s(self.head, first);
        let nexts = legs.iter().skip(1).map(|leg| leg.phone).chain([self.head]);

        legs.iter()
            .zip(nexts)
            .map(|(leg, next)| {
                let own_s = self.run_s(leg.phone, &leg.shards) + self.send_s(leg.phone, next);
                if leg.phone == self.head {
                    own_s + opening_s
                } else {
                    own_s
                }
            })
            .fold(opening_s, f64::max)
    }

    fn new(
        problem: &Problem,
        n_tokens: u32,
        ends_s: f64,
        times: impl Fn(&Phone) -> Vec<f64>,
    ) -> Self {
        let bytes = problem.workload.activation_bytes_per_token as f64 * f64::from(n_tokens);

        Self {
            head: problem.head_index(),
            ends_s,
            prefix_s: problem
                .phones
                .iter()
                .map(|phone| prefix_sums(&times(phone)))
                .collect(),
            hop_s: by_pair(problem, |rtt_s, goodput| rtt_s / 2.0 + bytes / goodput),
            send_s: by_pair(problem, |_, goodput| bytes / goodput),
        }
    }
}

fn prefix_sums(times: &[f64]) -> Vec<f64> {
    let sums = times.iter().scan(0.0, |sum, seconds| {
        *sum += seconds;
        Some(*sum)
    });

    std::iter::once(0.0).chain(sums).collect()
}

/// Applies `cost(rtt_s, goodput_bytes_per_s)` to every ordered pair of phones.
fn by_pair(problem: &Problem, cost: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    let n = problem.phones.len();
    let of = |from, to| match problem.link(from, to) {
        _ if from == to => 0.0,
        Link::Unreachable => f64::INFINITY,
        Link::Measured {
            rtt_s,
            goodput_bytes_per_s,
        } => cost(rtt_s, goodput_bytes_per_s),
    };

    (0..n)
        .map(|from| (0..n).map(|to| of(from, to)).collect())
        .collect()
}

//! Whether another plan is worth what it takes to bring into force.
//!
//! After each answer the plan in force is held against the best one, both by what the work itself has told until then.
//! Another plan is worth it when
//!
//! - the one in force has settled
//! - several answers in a row agree that the gain is more than a margin: what a link does in one minute, or one phone in
//!   another app, moves nothing
//! - it pays: as many tokens as have been written under this plan may come under the next, and what these gain by the
//!   least of the gains must be more than the change costs, which is what the last one took

use std::time::{Duration, Instant};

/// By how much the best plan must be better, as a part of what the one in force takes. The paper's balancer has no such
/// margin; forecasts corrected by the work were out by up to a tenth (README, "How fast").
const MARGIN: f64 = 0.1;

/// How many comparisons in a row must say so. A guess: with [`COMPARE_EVERY`] and a chat's pauses it is about a minute.
const IN_A_ROW: u32 = 4;

/// How long a plan is left alone after it came into force, and how far apart comparisons are at the least. Guesses: the
/// work is told of every 10 s.
const SETTLES_FOR: Duration = Duration::from_secs(60);
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// Watches the plan in force.
#[derive(Debug, Default)]
pub struct Balance {
    proposed_at: Option<Instant>,
    in_force_since: Option<Instant>,
    /// What the last change took.
    cost: Duration,
    /// Tokens that were written since.
    n_tokens: u64,
    /// How often in a row another plan was better by the margin, and by how much at the least, in seconds a token.
    n_better: u32,
    gain_s: f64,
    compared_at: Option<Instant>,
}

impl Balance {
    /// A plan was proposed.
    pub fn proposed(&mut self, now: Instant) {
        self.proposed_at = Some(now);
        self.in_force_since = None;
    }

    /// It is in force.
    pub fn in_force(&mut self, now: Instant) {
        if let Some(proposed_at) = self.proposed_at.take() {
            *self = Self {
                in_force_since: Some(now),
                cost: now.saturating_duration_since(proposed_at),
                ..Self::default()
            };
        }
    }

    /// So many tokens of an answer were written.
    pub fn wrote(&mut self, n_tokens: u32) {
        self.n_tokens = self.n_tokens.saturating_add(n_tokens.into());
    }

    /// Returns whether the plan in force should be compared with the best one now.
    pub fn wants_comparison(&self, now: Instant) -> bool {
        let is_settled = self
            .in_force_since
            .is_some_and(|at| now >= at + SETTLES_FOR);
        let waits = self.compared_at.is_some_and(|at| now < at + COMPARE_EVERY);

        is_settled && !waits
    }

    /// Takes note of what a token takes by the plan in force and would by the best one, in seconds. Returns whether that
    /// is worth a change; if so, counting begins anew.
    pub fn compare(&mut self, in_force_s: f64, best_s: f64, now: Instant) -> bool {
        let gain_s = in_force_s - best_s;
        self.compared_at = Some(now);
        if gain_s <= in_force_s * MARGIN {
            self.n_better = 0;
            return false;
        }

        self.gain_s = match self.n_better {
            0 => gain_s,
            _ => self.gain_s.min(gain_s),
        };
        self.n_better += 1;
        let pays = self.n_tokens as f64 * self.gain_s > self.cost.as_secs_f64();
        let is_worth_it = self.n_better >= IN_A_ROW && pays;
        if is_worth_it {
            self.n_better = 0;
        }
        is_worth_it
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::profile::Figure;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_phone_is_relieved_once_it_is_certain_and_pays() {
        let (mut balance, mut now) = in_force(3 * SECOND);
        let mut n_compared = 0;

        loop {
            now += 10 * SECOND;
            balance.wrote(20);
            n_compared += u32::from(balance.wants_comparison(now));
            if balance.wants_comparison(now) && balance.compare(0.1, 0.06, now) {
                break;
            }
        }

        assert_eq!(n_compared, IN_A_ROW);
        assert!(balance.n_tokens as f64 * 0.04 > 3.0);
    }

    #[test]
    fn what_costs_more_than_it_gains_is_not_done() {
        let (mut balance, mut now) = in_force(600 * SECOND);

        for _ in 0..20 {
            now += 10 * SECOND;
            balance.wrote(20);
            assert!(!balance.compare(0.1, 0.06, now));
        }
    }

    #[test]
    fn a_plan_that_has_just_come_is_left_alone() {
        let (balance, now) = in_force(SECOND);

        assert!(!balance.wants_comparison(now + 59 * SECOND));
        assert!(balance.wants_comparison(now + 60 * SECOND));
    }

    /// Hops of 10 ms that take from half to twice as long, over ways of which neither is better than the other. They
    /// come smoothed, as profiles smooth them.
    #[test]
    fn noise_alone_moves_nothing() {
        for seed in 0..200 {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let (mut balance, mut now) = in_force(SECOND);
            let mut ways = [Figure::new(0.01, 0.0).unwrap(); 2];

            for _ in 0..1000 {
                now += 10 * SECOND;
                balance.wrote(100);
                ways = ways.map(|way| way.after(0.01 * 2_f64.powf(rng.random_range(-1.0..1.0))));
                let [lap_s, other_s] = ways.map(|way| 0.06 + way.value());
                let best_s = lap_s.min(other_s);
                assert!(!balance.compare(lap_s, best_s, now), "seed {seed}");
            }
        }
    }

    fn in_force(cost: Duration) -> (Balance, Instant) {
        let (mut balance, now) = (Balance::default(), Instant::now());
        balance.proposed(now);
        balance.in_force(now + cost);

        (balance, now + cost)
    }
}

//! Giving way: how fast chunks go out while somebody waits for an answer.
//!
//! What has been handed to the network cannot be called back, and whatever follows on the same link waits behind it.
//! So, as long as the group computes, chunks go out in small pieces, so slowly that the link is idle between them:
//!
//! ```text
//!            give_way(true): Held                    every PIECE_BYTES ÷ rate
//!  open ─────────────────────────────► giving way ─────────────────────────────► Allow a piece
//!    ▲                                     │
//!    └─────────────────────────────────────┘ give_way(false): Open
//! ```
//!
//! The rate is a share of what the link was seen to carry when nothing held chunks back.

use std::time::{Duration, Instant};

/// Bytes that go out at a time: as many as the multiplexer puts into one frame, 0.9 ms at 150 Mb/s.
pub const PIECE_BYTES: u32 = 16 << 10;

/// Part of what the link carries that chunks may take while somebody waits. A guess; what it does to a chat is measured
/// by `make bench-network PART=chat`.
const SHARE: f64 = 1.0 / 8.0;

/// The rate while it is not known what the link carries: a half of a poor link (1 MiB/s). A guess.
const UNKNOWN_BYTES_PER_S: f64 = 512.0 * 1024.0;

/// The rate is never less: a chunk then takes 4 s, and two of them less than a holder may take.
const LEAST_BYTES_PER_S: f64 = 256.0 * 1024.0;

/// The rate is never more: on a link that carries more, processors that encrypt, hash and write are what is shared.
const MOST_BYTES_PER_S: f64 = 2.0 * 1024.0 * 1024.0;

/// Weight of the newest chunk in what the link carries, as in a holder's speed.
const SPEED_WEIGHT: f64 = 0.3;

/// How chunks go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// As fast as the network takes them. It is so at the start.
    Open,
    /// Only what is allowed from here on; what was allowed before counts no more.
    Held,
    /// So many more bytes, whoever they are for.
    Allow(u32),
}

/// Where chunks go out.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    gives_way: bool,
    /// When the next piece may go.
    next_at: Option<Instant>,
    /// Bytes a second that the link carries, as far as was seen.
    carries: Option<f64>,
    /// When a chunk went out last, with another behind it.
    busy_since: Option<Instant>,
}

impl Outlet {
    /// Gives way from now on, or no more; returns what is to be said if that is news.
    pub(super) fn give_way(&mut self, gives_way: bool) -> Option<Throttle> {
        if std::mem::replace(&mut self.gives_way, gives_way) == gives_way {
            return None;
        }
        self.busy_since = None;

        Some(if gives_way {
            Throttle::Held
        } else {
            Throttle::Open
        })
    }

    /// A chunk has gone out, of `n_bytes` if that is known; `more` tells whether another is on its way.
    pub(super) fn sent(&mut self, n_bytes: Option<u64>, more: bool, now: Instant) {
        let since = std::mem::replace(&mut self.busy_since, more.then_some(now));
        let (Some(since), Some(n_bytes), false) = (since, n_bytes, self.gives_way) else {
            return;
        };

        let took = now.saturating_duration_since(since).as_secs_f64();
        let rate = n_bytes as f64 / took.max(1e-6);
        let known = self.carries.unwrap_or(rate);
        self.carries = Some(known + SPEED_WEIGHT * (rate - known));
    }

    /// Returns what may go, if its time has come.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Throttle> {
        if !self.gives_way || self.next_at.is_some_and(|at| at > now) {
            return None;
        }

        // What was missed is not made up for: it would go out at once.
        self.next_at = Some(now + self.interval());
        Some(Throttle::Allow(PIECE_BYTES))
    }

    /// Returns when [`Self::let_go`] has something again.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.gives_way)
    }

    fn interval(&self) -> Duration {
        let share = self
            .carries
            .map_or(UNKNOWN_BYTES_PER_S, |rate| rate * SHARE);
        let rate = share.clamp(LEAST_BYTES_PER_S, MOST_BYTES_PER_S);

        Duration::from_secs_f64(f64::from(PIECE_BYTES) / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 1 << 20;

    #[test]
    fn who_does_not_give_way_allows_nothing() {
        let mut outlet = Outlet::default();

        assert_eq!(outlet.let_go(Instant::now()), None);
        assert_eq!(outlet.give_way(false), None);
    }

    /// Of a link that was seen to carry so much, an eighth is taken, within limits.
    #[test]
    fn the_rate_is_a_share_of_what_the_link_carries() {
        let mib = 1024.0 * 1024.0;
        for (carries, expected) in [
            (None, 0.5),
            (Some(8.0), 1.0),
            (Some(80.0), 2.0),
            (Some(0.1), 0.25),
        ] {
            let mut now = Instant::now();
            let mut outlet = Outlet::default();
            if let Some(carries) = carries {
                for _ in 0..40 {
                    outlet.sent(Some(CHUNK), true, now);
                    now += Duration::from_secs_f64(CHUNK as f64 / mib / carries);
                }
            }
            assert_eq!(outlet.give_way(true), Some(Throttle::Held));

            let (mut allowed, end) = (0, now + Duration::from_secs(10));
            while now < end {
                if let Some(Throttle::Allow(bytes)) = outlet.let_go(now) {
                    allowed += bytes;
                }
                now = outlet.next_at().expect("it gives way");
            }

            let rate = f64::from(allowed) / 10.0 / mib;
            assert!(
                (rate / expected - 1.0).abs() < 0.05,
                "{rate} MiB/s of {carries:?}"
            );
        }
    }

    #[test]
    fn a_late_wake_up_makes_no_burst() {
        let now = Instant::now();
        let mut outlet = Outlet::default();
        outlet.give_way(true);
        outlet.let_go(now);

        let late = now + Duration::from_secs(60);
        let burst = std::iter::from_fn(|| outlet.let_go(late)).count();

        assert_eq!(burst, 1);
    }

    /// What went out slowly because it had to says nothing about the link.
    #[test]
    fn giving_way_does_not_count_as_a_slow_link() {
        let mut now = Instant::now();
        let mut outlet = Outlet::default();
        outlet.give_way(true);
        for _ in 0..10 {
            outlet.sent(Some(CHUNK), true, now);
            now += Duration::from_secs(10);
        }

        assert_eq!(outlet.carries, None);
    }
}

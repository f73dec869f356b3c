//! How fast chunks come, and when to say so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often progress is told: often enough for a bar that moves.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Times of telling over which the rate is measured: 5 s, some chunks even on a poor link.
const SAMPLES_MAX: usize = 10;

/// How fast chunks come.
#[derive(Debug, Default)]
pub(super) struct Meter {
    received_bytes: u64,
    /// When progress was told, and the bytes received until then.
    samples: VecDeque<(Instant, u64)>,
    due: Option<Instant>,
}

impl Meter {
    /// Bytes have come.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.received_bytes = self.received_bytes.saturating_add(bytes);
        self.touch(now);
    }

    /// Something is worth telling.
    pub(super) fn touch(&mut self, now: Instant) {
        let last = self.samples.back().map(|(at, _)| *at);
        let next = last.map_or(now, |last| (last + PROGRESS_EVERY).max(now));
        if last.is_none() {
            self.samples.push_back((now, self.received_bytes));
        }

        self.due.get_or_insert(next);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Progress has been told; it is told again if something is on its way.
    pub(super) fn told(&mut self, again: bool, now: Instant) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, self.received_bytes));
        self.due = again.then(|| now + PROGRESS_EVERY);
    }

    pub(super) fn rate_bytes_per_s(&self, now: Instant) -> u64 {
        let Some((since, bytes)) = self.samples.front() else {
            return 0;
        };
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        if seconds == 0.0 {
            return 0;
        }

        ((self.received_bytes - bytes) as f64 / seconds) as u64
    }
}

//! How fast a phone may speak: a token bucket, kept as the instant when it is full again.

use std::time::{Duration, Instant};

/// One thing `every` so often, and up to `burst` at once after a silence.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time from one to the next.
    pub every: Duration,
    /// Most at once.
    pub burst: u32,
}

/// A bucket of one [`Pace`].
#[derive(Debug)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token, in advance if there is none, and returns how long until it would have been there.
    pub fn take(&mut self, pace: Pace, now: Instant) -> Duration {
        let start = self.full_at.max(now);
        self.full_at = start + pace.every;

        (start - now).saturating_sub(pace.every * (pace.burst - 1))
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self, pace: Pace, now: Instant) -> bool {
        let before = self.full_at;
        let within = self.take(pace, now).is_zero();
        if !within {
            self.full_at = before;
        }

        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        every: Duration::from_millis(500),
        burst: 8,
    };

    #[test]
    fn a_burst_is_free_and_then_one_comes_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);

        let at_once = (0..100).filter(|_| bucket.try_take(PACE, start)).count();
        let later = start + Duration::from_secs(1);
        let after = (0..100).filter(|_| bucket.try_take(PACE, later)).count();

        assert_eq!((at_once, after), (8, 2));
    }

    #[test]
    fn who_waits_as_told_is_never_too_fast() {
        let mut now = Instant::now();
        let start = now;
        let mut bucket = Bucket::new(now);

        for _ in 0..28 {
            now += bucket.take(PACE, now);
        }

        assert_eq!(now - start, 20 * PACE.every);
    }
}

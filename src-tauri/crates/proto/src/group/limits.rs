//! How often a phone may speak before we stop listening.
//!
//! A [`Pace`] is a token bucket kept as one instant: when the bucket would be full again. A phone
//! that is not in the table has a full bucket, so an entry that is full again can be dropped
//! without forgetting anything, and the table stays small by arithmetic, not by luck.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::PeerId;

/// One stranger: joining takes six messages, and while it waits it speaks once a second.
pub(super) const STRANGER: Pace = Pace {
    every: Duration::from_millis(500),
    burst: 8,
};

/// All strangers together: 20 a second is more than a room of people tapping, and costs less than
/// a thousandth of a phone's time (50 µs each at worst, an honest guess).
pub(super) const STRANGERS: Pace = Pace {
    every: Duration::from_millis(50),
    burst: 40,
};

/// One member: two heartbeats or acks a second, a dozen messages at an election, and the 40
/// heartbeats that queue up while a phone is suspended for 20 s.
pub(super) const MEMBER: Pace = Pace {
    every: Duration::from_millis(25),
    burst: 96,
};

/// Knocks that are answered and then not opened, of all phones together.
///
/// Whoever knocks knows the code one message before we do, and could drop every knock whose code is
/// not the one it waits for, unseen by people. So four may be open, and one more a minute: in the
/// two minutes for which a code stands on another screen that makes six throws of a million.
/// Honest phones open what they began, and get their token back.
pub(super) const UNOPENED: Pace = Pace {
    every: Duration::from_secs(60),
    burst: 4,
};

/// Strangers remembered at once.
///
/// The common pace lets at most 40 messages in at once and then 20 a second, and an entry that
/// spoke n times is dropped after n · 500 ms: 40 + 20 · 0.5 = 50 entries in the worst case.
pub const STRANGERS_MAX: usize = 64;

/// One message `every` so often, and up to `burst` at once after a silence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) every: Duration,
    pub(super) burst: u32,
}

impl Pace {
    /// Takes one token from the bucket that is full again at `full_at`, if there is one.
    pub(super) fn allows(self, full_at: &mut Instant, now: Instant) -> bool {
        let start = (*full_at).max(now);
        let within = start - now <= self.every * (self.burst - 1);
        if within {
            *full_at = start + self.every;
        }
        within
    }
}

impl Pace {
    /// Gives a token back.
    pub(super) fn give_back(self, full_at: &mut Instant) {
        *full_at -= self.every;
    }
}

/// Who spoke lately that is not a member.
#[derive(Debug)]
pub(super) struct Strangers {
    all_full_at: Instant,
    full_at: BTreeMap<PeerId, Instant>,
}

impl Strangers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all_full_at: now,
            full_at: BTreeMap::new(),
        }
    }

    /// Returns whether a message from `peer` may be looked at. One that we are `expecting` (it
    /// asks, or was asked, and a person knows) does not queue behind all the other strangers.
    pub(super) fn allow(&mut self, peer: PeerId, expecting: bool, now: Instant) -> bool {
        if !expecting && !STRANGERS.allows(&mut self.all_full_at, now) {
            return false;
        }
        if self.full_at.len() >= STRANGERS_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() >= STRANGERS_MAX && !self.full_at.contains_key(&peer) {
            return false;
        }

        STRANGER.allows(self.full_at.entry(peer).or_insert(now), now)
    }

    pub(super) fn len(&self) -> usize {
        self.full_at.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut full_at = start;

        let at_once = (0..100)
            .filter(|_| STRANGER.allows(&mut full_at, start))
            .count();
        let later = start + Duration::from_secs(1);
        let after = (0..100)
            .filter(|_| STRANGER.allows(&mut full_at, later))
            .count();

        assert_eq!((at_once, after), (8, 2));
    }

    #[test]
    fn a_thousand_keys_fill_no_table() {
        let start = Instant::now();
        let mut strangers = Strangers::new(start);

        for i in 0..10_000u32 {
            let now = start + Duration::from_millis(u64::from(i));
            let mut peer = [0; 32];
            peer[..4].copy_from_slice(&i.to_le_bytes());
            strangers.allow(PeerId(peer), false, now);

            assert!(strangers.len() <= STRANGERS_MAX);
        }
    }
}

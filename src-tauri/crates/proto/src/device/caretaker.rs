//! Follows how this phone is, and changes its mind about it without haste.
//!
//! ```text
//!           worse                            better, and rested
//!  Ok ──► Slow ──► Shed ──► Leave        Leave ──► whatever it is then
//!                   └─ still hot a minute after it was relieved: more
//! ```

use std::time::{Duration, Instant};

use super::{Advice, Load, Relief, Snapshot};

/// How long a phone rests that was too hot or short of memory, since it last was: at first, and at the most. A phone
/// cools within minutes, and does not stay cool if it is given the same again at once; so it rests twice as long each
/// time. Guesses.
const REST_MIN: Duration = Duration::from_secs(120);
const REST_MAX: Duration = Duration::from_secs(1800);

/// How long what was asked for has time to help before more is asked for: heat follows load within tens of seconds.
const RELIEVED_FOR: Duration = Duration::from_secs(60);

/// How long the system has to warn of too little memory before the phone gives anything up for it: a phone says every
/// 10 s how it is, and a warning that is over by then was somebody else's passing need.
const WARNED_FOR: Duration = Duration::from_secs(8);

/// What a phone had better do, as long as it had.
#[derive(Debug, Default)]
pub struct Caretaker {
    advice: Advice,
    relief: Relief,
    /// When the last relief was asked for.
    relieved_at: Option<Instant>,
    /// Until when it rests; `None` where nothing but the cause counts.
    rests_until: Option<Instant>,
    /// How long it rests the next time.
    rest: Duration,
    /// Since when the system warns of too little memory; `None` if it does not.
    warned_since: Option<Instant>,
}

impl Caretaker {
    /// Takes note of how the phone is, and of what it computes with.
    pub fn handle(&mut self, snapshot: &Snapshot, load: Load, now: Instant) {
        let snapshot = &self.as_it_lasts(*snapshot, now);
        let advice = snapshot.advice(load);
        let is_better = advice.rank() < self.advice.rank();
        let is_rested = self.rests_until.is_none_or(|until| until <= now);
        if is_better && !(snapshot.is_over(self.advice, self.relief) && is_rested) {
            return;
        }

        self.advice = advice;
        let (had_relief, is_hot) = (self.relief != Relief::None, snapshot.is_hot());
        match advice {
            Advice::Ok | Advice::Slow => {
                self.relief = Relief::None;
                return;
            }
            Advice::Shed(n_shards) => {
                if is_better {
                    self.relief = Relief::None;
                }
                self.shed(n_shards, load, is_hot, now);
            }
            Advice::Leave => match snapshot.reason_to_rest() {
                Some(reason) => {
                    self.relief = Relief::Rest(reason);
                    if !is_hot {
                        self.rests_until = None; // its cause is what counts
                        return;
                    }
                }
                None => {
                    self.relief = Relief::AtMost {
                        shards_bytes: 0,
                        is_hot,
                    };
                }
            },
        }

        self.rest(had_relief, now);
    }

    /// Returns what the phone asks of whoever plans.
    pub fn relief(&self) -> Relief {
        self.relief
    }

    /// Returns whether the phone had better compute with half of its threads.
    pub fn is_slow(&self) -> bool {
        self.advice != Advice::Ok
    }

    /// Returns the phone without a warning that may pass.
    fn as_it_lasts(&mut self, snapshot: Snapshot, now: Instant) -> Snapshot {
        let since = self.warned_since.unwrap_or(now);
        self.warned_since = snapshot.low_memory.then_some(since);

        Snapshot {
            low_memory: snapshot.low_memory && now >= since + WARNED_FOR,
            ..snapshot
        }
    }

    /// Asks for so many shards less than it has now: not while what was asked for is still to come, or to help.
    fn shed(&mut self, n_shards: u32, load: Load, is_hot: bool, now: Instant) {
        let is_granted = match self.relief {
            Relief::AtMost { shards_bytes, .. } => load.shards_bytes <= shards_bytes,
            Relief::None | Relief::Rest(_) => true,
        };
        let waits = self.relieved_at.is_some_and(|at| now < at + RELIEVED_FOR);
        if self.relief != Relief::None && (!is_granted || waits) {
            return;
        }

        let kept = load.n_shards.saturating_sub(n_shards);
        let n_shards = u64::from(load.n_shards.max(1));
        let kept_bytes = u128::from(load.shards_bytes) * u128::from(kept);
        let shards_bytes = kept_bytes.div_ceil(n_shards.into());
        let shards_bytes = u64::try_from(shards_bytes).expect("no more than it has");
        self.relief = Relief::AtMost {
            shards_bytes,
            is_hot,
        };
        self.relieved_at = Some(now);
    }

    /// Counts its rest from now on: longer than the last time, if that is not long ago.
    fn rest(&mut self, is_resting: bool, now: Instant) {
        let is_again = self.rests_until.is_some_and(|at| now < at + REST_MAX);
        self.rest = match (is_resting && self.rests_until.is_some(), is_again) {
            (true, _) => self.rest,
            (false, true) => (self.rest * 2).min(REST_MAX),
            (false, false) => REST_MIN,
        };

        self.rests_until = Some(now + self.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GB, LOAD, WELL, charged, hot};
    use super::*;
    use crate::device::Thermal;
    use crate::placement::Tiredness;

    const SECOND: Duration = Duration::from_secs(1);
    const COOL: Snapshot = WELL;

    #[test]
    fn a_hot_phone_gives_half_away_and_then_half_of_the_rest() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());
        let serious = hot(Thermal::Serious);
        let half = Load {
            n_shards: 3,
            shards_bytes: LOAD.shards_bytes / 2,
            ..LOAD
        };

        caretaker.handle(&serious, LOAD, now);
        assert_eq!(caretaker.relief(), at_most(LOAD.shards_bytes / 2, true));
        assert!(caretaker.is_slow());

        caretaker.handle(&serious, LOAD, now + 100 * SECOND);
        assert_eq!(
            caretaker.relief(),
            at_most(LOAD.shards_bytes / 2, true),
            "it was not given that yet"
        );
        caretaker.handle(&serious, half, now + 101 * SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes / 3, true));
        caretaker.handle(&serious, half, now + 102 * SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes / 3, true));
    }

    #[test]
    fn who_was_hot_rests_though_it_is_cool_and_longer_the_next_time() {
        let (mut caretaker, mut now) = (Caretaker::default(), Instant::now());

        for rest in [REST_MIN, 2 * REST_MIN, 4 * REST_MIN] {
            caretaker.handle(&hot(Thermal::Critical), LOAD, now);
            assert_eq!(caretaker.relief(), Relief::Rest(Tiredness::Hot));
            now += rest;

            caretaker.handle(&COOL, Load::default(), now - SECOND);
            assert_eq!(caretaker.relief(), Relief::Rest(Tiredness::Hot), "{rest:?}");
            caretaker.handle(&COOL, Load::default(), now);
            assert_eq!(caretaker.relief(), Relief::None, "{rest:?}");
            now += SECOND;
        }
    }

    #[test]
    fn who_shed_stays_without_while_it_is_warm() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());
        caretaker.handle(&hot(Thermal::Serious), LOAD, now);
        let asked = caretaker.relief();

        caretaker.handle(&hot(Thermal::Fair), LOAD, now + REST_MAX);
        assert_eq!(caretaker.relief(), asked);
        caretaker.handle(&COOL, LOAD, now + REST_MAX);
        assert_eq!(caretaker.relief(), Relief::None);
        assert!(!caretaker.is_slow());
    }

    #[test]
    fn an_empty_battery_counts_as_full_once_it_is_charged_a_little() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());
        let plugged = Snapshot {
            battery: Some(super::super::Battery {
                percent: 5,
                charging: true,
            }),
            ..WELL
        };
        let rests = Relief::Rest(Tiredness::LowBattery);

        caretaker.handle(&charged(9), LOAD, now);
        assert_eq!(caretaker.relief(), rests);
        caretaker.handle(&charged(11), LOAD, now);
        assert_eq!(caretaker.relief(), rests, "just above the limit");
        caretaker.handle(&charged(13), LOAD, now);
        assert_eq!(caretaker.relief(), Relief::None);

        caretaker.handle(&charged(9), LOAD, now);
        caretaker.handle(&plugged, LOAD, now);
        assert_eq!(caretaker.relief(), Relief::None, "at once");
    }

    #[test]
    fn who_runs_out_of_memory_gives_away_what_is_too_much() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());
        let short = |budget_bytes| Snapshot {
            budget_bytes,
            ..WELL
        };

        caretaker.handle(&short(1_900_000_000), LOAD, now);
        assert_eq!(
            caretaker.relief(),
            at_most(LOAD.shards_bytes / 6 * 5, false)
        );
        caretaker.handle(&short(GB / 10), LOAD, now);
        assert_eq!(caretaker.relief(), at_most(0, false));
        caretaker.handle(&WELL, Load::default(), now + REST_MIN);
        assert_eq!(caretaker.relief(), Relief::None);
    }

    /// A warning that passes is nobody's; one that lasts costs half, and half of the rest.
    #[test]
    fn who_is_warned_again_and_again_gives_half_away() {
        let (mut caretaker, start) = (Caretaker::default(), Instant::now());
        let warned = Snapshot {
            low_memory: true,
            ..WELL
        };
        let half = Load {
            n_shards: 3,
            shards_bytes: LOAD.shards_bytes / 2,
            ..LOAD
        };

        for (at, snapshot) in [(0, warned), (5, WELL), (9, warned), (16, warned)] {
            caretaker.handle(&snapshot, LOAD, start + at * SECOND);
            assert_eq!(caretaker.relief(), Relief::None, "at {at} s");
        }
        caretaker.handle(&warned, LOAD, start + 17 * SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes, false));
        caretaker.handle(&warned, half, start + 70 * SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes, false));
        caretaker.handle(&warned, half, start + 80 * SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes / 3, false));

        let rested = start + 80 * SECOND + REST_MIN;
        caretaker.handle(&WELL, half, rested - SECOND);
        assert_eq!(caretaker.relief(), at_most(half.shards_bytes / 3, false));
        caretaker.handle(&WELL, half, rested);
        assert_eq!(caretaker.relief(), Relief::None);
    }

    /// An empty battery needs no rest once it is plugged in; heat that comes on top does.
    #[test]
    fn who_was_empty_and_got_too_hot_rests_all_the_same() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());

        caretaker.handle(&charged(5), LOAD, now);
        caretaker.handle(&hot(Thermal::Critical), LOAD, now);
        caretaker.handle(&COOL, Load::default(), now + SECOND);
        assert_eq!(caretaker.relief(), Relief::Rest(Tiredness::Hot));
        caretaker.handle(&COOL, Load::default(), now + REST_MIN);
        assert_eq!(caretaker.relief(), Relief::None);
    }

    /// A phone that is always warm would never get back what it gave away for want of memory.
    #[test]
    fn memory_comes_back_to_a_warm_phone_too() {
        let (mut caretaker, now) = (Caretaker::default(), Instant::now());
        let warm = hot(Thermal::Fair);
        let short = Snapshot {
            budget_bytes: 1_900_000_000,
            ..warm
        };
        let granted = Load {
            n_shards: 5,
            shards_bytes: LOAD.shards_bytes / 6 * 5,
            used_bytes: LOAD.used_bytes,
        };

        caretaker.handle(&short, LOAD, now);
        let asked = caretaker.relief();
        assert!(matches!(asked, Relief::AtMost { is_hot: false, .. }));
        caretaker.handle(&short, granted, now + SECOND);
        assert_eq!(caretaker.relief(), asked, "that has just been given");
        caretaker.handle(&warm, granted, now + 2 * REST_MIN);
        assert_eq!(caretaker.relief(), Relief::None);
        assert!(caretaker.is_slow());
    }

    fn at_most(shards_bytes: u64, is_hot: bool) -> Relief {
        Relief::AtMost {
            shards_bytes,
            is_hot,
        }
    }
}

//! How long the leader waits before it makes another plan in place of one that broke.
//!
//! The first time only until it is known who is left. But where the same phones break one plan after another, as two of
//! them do that cannot reach each other, each plan would move shards, load them and break again: so the pauses double,
//! until something is different.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::PeerId;

/// The first pause: until a phone whose connection was cut is given up on or back
/// ([`crate::group::LOST_AFTER_DISCONNECT`]), with a heartbeat's room.
const PAUSE_MIN: Duration = Duration::from_millis(2000);

/// The longest: who mends their Wi-Fi does not wait longer than that for the next try. A guess.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A plan that was in force for so long is not broken by what it was made of. A guess.
const PROVEN_AFTER: Duration = Duration::from_secs(60);

/// Pauses between plans that break.
#[derive(Debug, Default)]
pub(super) struct Cooldown {
    until: Option<Instant>,
    /// When the last plan broke, and who was left.
    broke_at: Option<Instant>,
    left: BTreeSet<PeerId>,
    /// Plans that broke one after another, for nothing.
    n_in_vain: u32,
    in_force_at: Option<Instant>,
}

impl Cooldown {
    /// A plan is in force.
    pub(super) fn in_force(&mut self, now: Instant) {
        self.in_force_at = Some(now);
    }

    /// An answer that had the ring to itself was written to its end: the plan was good.
    pub(super) fn answered(&mut self) {
        self.n_in_vain = 0;
    }

    /// A plan broke, and `left` are here and take part. `is_other` tells that the next is another one in any case.
    pub(super) fn broken(&mut self, left: BTreeSet<PeerId>, is_other: bool, now: Instant) {
        let in_force_at = self.in_force_at.take();
        let is_proven = in_force_at.is_some_and(|at| at + PROVEN_AFTER <= now);
        if is_proven || is_other || left != self.left {
            self.n_in_vain = 0;
        }

        self.until = Some(now + pause(self.n_in_vain));
        self.n_in_vain += 1;
        self.broke_at = Some(now);
        self.left = left;
    }

    /// These phones, in order, are here now, and take part: with others it may be different.
    pub(super) fn set_phones<'a>(&mut self, phones: impl Iterator<Item = &'a PeerId> + Clone) {
        if phones.clone().eq(&self.left) {
            return; // as after nearly every event
        }

        self.left = phones.copied().collect();
        self.n_in_vain = 0;
        self.until = self
            .until
            .and(self.broke_at)
            .map(|broke_at| broke_at + PAUSE_MIN);
    }

    /// Returns whether the next plan has to wait still.
    pub(super) fn is_on(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now);

        self.until.is_some()
    }

    /// Returns until when.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

/// Returns the pause after so many plans in vain.
fn pause(n_in_vain: u32) -> Duration {
    let factor = 1_u32.checked_shl(n_in_vain).unwrap_or(u32::MAX);

    PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ANNA, BELA, CARL};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_while_the_same_phones_break_every_plan() {
        let (mut cooldown, mut now) = (Cooldown::default(), Instant::now());

        let mut pauses = Vec::new();
        for _ in 0..8 {
            cooldown.in_force(now);
            cooldown.broken(all(), false, now);
            let until = cooldown.poll_timeout().expect("it has just broken");
            pauses.push((until - now).as_secs());
            assert!(cooldown.is_on(now));
            now = until;
            assert!(!cooldown.is_on(now));
        }

        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn whatever_is_different_ends_a_long_pause() {
        let now = Instant::now();
        type Change = fn(&mut Cooldown, Instant);
        let changes: [(&str, Change); 4] = [
            ("an answer was written", |cooldown, _| cooldown.answered()),
            ("it held", |cooldown, now| {
                cooldown.in_force(now - PROVEN_AFTER);
            }),
            ("one is gone", |cooldown, _| {
                cooldown.set_phones([ANNA, BELA].iter());
            }),
            ("nothing", |_, _| {}),
        ];

        for (name, change) in changes {
            let mut cooldown = Cooldown::default();
            for _ in 0..4 {
                cooldown.broken(all(), false, now);
            }
            let later = now + 100 * SECOND;
            change(&mut cooldown, later);

            cooldown.broken(all(), false, later);

            let pause = cooldown.poll_timeout().map(|until| until - later);
            let expected = if name == "nothing" { 32 } else { 2 };
            assert_eq!(pause, Some(expected * SECOND), "{name}");
        }
    }

    #[test]
    fn who_comes_back_is_not_waited_for() {
        let (mut cooldown, now) = (Cooldown::default(), Instant::now());
        for _ in 0..4 {
            cooldown.broken(all(), false, now);
        }
        assert!(cooldown.is_on(now + 10 * SECOND));

        cooldown.set_phones(all().iter());
        assert!(cooldown.is_on(now + 10 * SECOND), "they are the same");
        cooldown.set_phones([ANNA].iter());

        assert!(
            cooldown.is_on(now + SECOND),
            "who is left, is not known yet"
        );
        assert!(!cooldown.is_on(now + 10 * SECOND));
    }

    #[test]
    fn a_plan_without_who_cannot_load_is_another() {
        let (mut cooldown, now) = (Cooldown::default(), Instant::now());

        for _ in 0..3 {
            cooldown.broken(all(), true, now);
        }

        assert_eq!(cooldown.poll_timeout(), Some(now + PAUSE_MIN));
    }

    fn all() -> BTreeSet<PeerId> {
        BTreeSet::from([ANNA, BELA, CARL])
    }
}

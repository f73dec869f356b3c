//! The way of one phone's frames to one other: when each arrives, if it does.
//!
//! ```text
//!  frame ──► Transmitter ──► loss ──► delay + Jitter ──► arrival
//!            (rate, queue)   (luck)   (never overtakes)
//! ```
//!
//! Luck comes from a seed and the two ends, so traffic elsewhere does not change what is lost here:
//! the n-th frame of a path meets the same luck in every run.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::link::Link;

/// How long a queue a transmitter keeps before it drops, in time: a home router's, roughly.
const QUEUE_MAX: Duration = Duration::from_millis(100);

/// How many full frames fit in any queue, however slow the link. Cheap access points have this many
/// buffers.
const QUEUE_FRAMES_MIN: f64 = 256.0;

/// A full Ethernet frame: 1,500 bytes and the header.
const FRAME_BYTES_MAX: f64 = 1514.0;

/// What puts frames on the air one after the other, each for as long as its bits take.
#[derive(Debug, Default)]
pub struct Transmitter {
    /// When the last frame taken has been sent. `None` before the first.
    free_at: Option<Instant>,
}

impl Transmitter {
    /// Takes a frame and returns when its last bit has left, or `None` if the queue is full.
    pub fn send(
        &mut self,
        frame_bytes: usize,
        rate_mbps: Option<f64>,
        now: Instant,
    ) -> Option<Instant> {
        let Some(rate_mbps) = rate_mbps else {
            return Some(now);
        };
        let bits_s = rate_mbps * 1e6;
        let queue_max = Duration::from_secs_f64(QUEUE_FRAMES_MIN * FRAME_BYTES_MAX * 8.0 / bits_s);
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));

        if start - now > queue_max.max(QUEUE_MAX) {
            return None;
        }

        let left_at = start + Duration::from_secs_f64(frame_bytes as f64 * 8.0 / bits_s);
        self.free_at = Some(left_at);
        Some(left_at)
    }
}

/// One direction between two phones: its luck, and the figures if it has its own.
#[derive(Debug)]
pub struct Path {
    /// Set apart from the profile, with a transmitter of its own.
    pub own: Option<(Link, Transmitter)>,
    loss_luck: ChaCha12Rng,
    jitter: Jitter,
    /// When the last frame arrives: none that may not overtake comes before it.
    last_arrival: Option<Instant>,
}

impl Path {
    /// Makes the path that `seed` gives to phones `from` and `to`.
    pub fn new(seed: u64, from: usize, to: usize) -> Self {
        Self {
            own: None,
            loss_luck: luck(seed, from, to, 0),
            jitter: Jitter {
                luck: luck(seed, from, to, 1),
                leg: None,
            },
            last_arrival: None,
        }
    }

    /// Sets the path apart from the profile. Frames already queued keep their time.
    pub fn set(&mut self, link: Link) {
        let transmitter = self.own.take().map(|(_, transmitter)| transmitter);
        self.own = Some((link, transmitter.unwrap_or_default()));
    }

    /// Draws whether the next frame is lost.
    pub fn loses(&mut self, link: &Link) -> bool {
        // Drawn even when nothing can be lost, so that the n-th frame's luck never moves.
        self.loss_luck.random::<f64>() < link.loss
    }

    /// Returns when a frame that has left at `left_at` arrives.
    pub fn arrival(&mut self, link: &Link, left_at: Instant) -> Instant {
        let arrival = left_at + self.jitter.delay(link, left_at);
        if link.reorder {
            return arrival;
        }

        // Jitter alone never lets a frame overtake; a delay that a command just shortened would.
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        arrival
    }
}

/// A stream of its own for each direction and use.
fn luck(seed: u64, from: usize, to: usize, purpose: u64) -> ChaCha12Rng {
    let mut luck = ChaCha12Rng::seed_from_u64(seed);
    luck.set_stream((from as u64) << 32 | (to as u64) << 8 | purpose);
    luck
}

/// A delay that wanders: straight legs between random turning points, each twice the jitter long.
///
/// From one turning point to the next the delay changes by at most two jitters, in a time of two
/// jitters. So it never falls faster than time passes and no frame overtakes the one before, without
/// holding any back: the mean stays the link's delay at every packet rate. (With an independent draw
/// per frame and the early ones held, a busy link would settle at the longest delay.)
#[derive(Debug)]
struct Jitter {
    luck: ChaCha12Rng,
    leg: Option<Leg>,
}

/// From one turning point to the next, in shares of the jitter, `-1.0..=1.0`.
#[derive(Debug, Clone, Copy)]
struct Leg {
    start: Instant,
    from: f64,
    to: f64,
}

impl Jitter {
    fn delay(&mut self, link: &Link, at: Instant) -> Duration {
        let share = match (link.jitter_ms > 0.0, link.reorder) {
            (false, _) => 0.0,
            (true, true) => self.turning_point(),
            (true, false) => self.wander(ms(2.0 * link.jitter_ms), at),
        };

        // Rounding may leave a hair below zero where delay and jitter are equal.
        ms((link.delay_ms + share * link.jitter_ms).max(0.0))
    }

    fn wander(&mut self, leg_length: Duration, at: Instant) -> f64 {
        let leg = match self.leg {
            Some(leg) if at < leg.start + leg_length => leg,
            Some(leg) if at < leg.start + 2 * leg_length => Leg {
                start: leg.start + leg_length,
                from: leg.to,
                to: self.turning_point(),
            },
            _ => Leg {
                start: at,
                from: self.turning_point(),
                to: self.turning_point(),
            },
        };
        self.leg = Some(leg);

        let done = at.saturating_duration_since(leg.start).as_secs_f64() / leg_length.as_secs_f64();
        leg.from + (leg.to - leg.from) * done
    }

    fn turning_point(&mut self) -> f64 {
        self.luck.random_range(-1.0..=1.0)
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

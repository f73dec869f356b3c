//! What one phone can do with one model, and what a link between two phones carries.

use std::time::Duration;

use gguf_tools::ModelHash;
use serde::{Deserialize, Serialize};

use super::figure::Figure;
use crate::plan::N_CTX_MAX;

/// Threads that a phone may say it computes with; phones have 8 cores, desktops up to 64.
const THREADS_MAX: u32 = 512;

/// Seconds that anything in a profile may take: a layer that needs a minute for a token is none
/// that a person would wait for, or the phone lies.
const SECONDS_MAX: f64 = 60.0;

/// How many times slower or quicker than measured the work may be said to go. What is beyond is no
/// pace: a phone that slow must be measured again.
const PACE_MAX: f64 = 100.0;

/// What a phone can do with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Sample that was measured ([`Sample::hash`](gguf_tools::Sample::hash)).
    pub sample: ModelHash,
    /// Threads worth using; the other figures were measured with as many.
    pub n_threads: u32,
    /// Seconds of a decode step through one layer of the sample, by positions in the cache.
    pub decode_s: Curve,
    /// Seconds of prefill through one layer of the sample for each token, by positions before it.
    pub prefill_s: Curve,
    /// Seconds to embed a token.
    pub embed_s: Figure,
    /// Seconds from a hidden state to all logits.
    pub logits_s: Figure,
    /// Seconds to choose a token.
    pub sample_s: Figure,
    /// Bytes a second that it reads from memory.
    pub memory_bytes_per_s: Figure,
    /// Part of a layer's bytes that is kept a second time, in a layout that computes faster.
    pub layers_repacked: Share,
    /// The same of the ends.
    pub ends_repacked: Share,
    /// How the work itself went, as multiples of what the figures above say; 1 until there was some.
    pub pace: Pace,
}

/// How many times as long as measured the work takes: what heat, other programs and measuring
/// errors make of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Of decode steps; `None` until there was one.
    pub decode: Option<Figure>,
    /// Of prefill chunks; `None` until there was one.
    pub prefill: Option<Figure>,
    /// Of the ends, from hidden states to tokens; `None` until there was one.
    pub ends: Option<Figure>,
}

/// A figure that grows with the positions in the cache: two points and the line through them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Positions of both points, ascending.
    pub n_positions: [u32; 2],
    /// Their figures.
    pub figures: [Figure; 2],
}

/// A part of something: 0 to 1.
#[derive(Debug, Default, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Share(f32);

/// What the way from one phone to another was measured to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Seconds there and back of a small message.
    pub rtt_s: Figure,
    /// Bytes a second that arrive, of activations.
    pub goodput_bytes_per_s: Figure,
}

/// Why a profile is not believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// A number is beyond what can be.
    #[error("{figure} is {value}, at most {max} is believed")]
    Absurd {
        /// Which one.
        figure: &'static str,
        /// What it is.
        value: f64,
        /// The most that is believed.
        max: f64,
    },
    /// The points of a curve do not ascend.
    #[error("the points of {figure} are at {n_positions:?}, they must ascend")]
    NotAscending {
        /// Which curve.
        figure: &'static str,
        /// Its points.
        n_positions: [u32; 2],
    },
    /// The profile is of another model.
    #[error("the profile is of sample {found}, wanted is {wanted}")]
    OtherSample {
        /// Sample that was measured.
        found: ModelHash,
        /// Sample that was to be measured.
        wanted: ModelHash,
    },
}

impl Profile {
    /// Checks that another phone's profile is of this sample, and says nothing that cannot be.
    ///
    /// # Errors
    ///
    /// The first [`ProfileError`] that applies.
    pub fn validate(&self, sample: ModelHash) -> Result<(), ProfileError> {
        if self.sample != sample {
            return Err(ProfileError::OtherSample {
                found: self.sample,
                wanted: sample,
            });
        }
        at_most(
            "the number of threads",
            self.n_threads.into(),
            THREADS_MAX.into(),
        )?;
        self.decode_s.validate("the decode time")?;
        self.prefill_s.validate("the prefill time")?;

        for (figure, seconds) in [
            ("the embedding time", self.embed_s),
            ("the logits time", self.logits_s),
            ("the sampling time", self.sample_s),
        ] {
            at_most(figure, seconds.value(), SECONDS_MAX)?;
        }

        Ok(())
    }

    /// Returns the seconds of a decode step through one sampled layer, as the work went of late.
    pub fn decode_s_at(&self, n_positions: u32) -> f64 {
        self.decode_s.at(n_positions) * self.pace.decode.map_or(1.0, |pace| pace.value())
    }

    /// Returns the seconds of prefill through one sampled layer for each token, as the work went of
    /// late.
    pub fn prefill_s_at(&self, n_positions: u32) -> f64 {
        self.prefill_s.at(n_positions) * self.pace.prefill.map_or(1.0, |pace| pace.value())
    }

    /// Returns it as it is after `time` without a new measurement.
    #[must_use]
    pub fn aged(mut self, time: Duration) -> Self {
        let Pace {
            decode,
            prefill,
            ends,
        } = &mut self.pace;
        let pace = [decode, prefill, ends];
        let figures = [
            &mut self.embed_s,
            &mut self.logits_s,
            &mut self.sample_s,
            &mut self.memory_bytes_per_s,
        ];
        let curves = self.decode_s.figures.iter_mut();
        let curves = curves.chain(&mut self.prefill_s.figures);

        for figure in curves.chain(figures).chain(pace.into_iter().flatten()) {
            *figure = figure.aged(time);
        }

        self
    }

    /// Returns the seconds of the ends for one token, as the work went of late: embedding, logits, sampling.
    pub fn ends_decode_s(&self) -> f64 {
        let pace = self.pace.ends.map_or(1.0, |pace| pace.value());

        self.embed_s.value() + self.token_s() * pace
    }

    /// Returns the seconds from a hidden state to a token, as they were measured.
    pub(super) fn token_s(&self) -> f64 {
        self.logits_s.value() + self.sample_s.value()
    }
}

impl Pace {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        decode: None,
        prefill: None,
        ends: None,
    };

    /// Returns another phone's pace as far as it is believed: between a hundredth and a hundred
    /// times of what it had measured itself.
    #[must_use]
    pub fn bounded(self) -> Self {
        let bound = |pace: Option<Figure>| {
            pace.filter(|pace| (1.0 / PACE_MAX..=PACE_MAX).contains(&pace.value()))
        };

        Self {
            decode: bound(self.decode),
            prefill: bound(self.prefill),
            ends: bound(self.ends),
        }
    }
}

impl Way {
    /// Returns it as it is after `time` without a new measurement.
    #[must_use]
    pub fn aged(self, time: Duration) -> Self {
        Self {
            rtt_s: self.rtt_s.aged(time),
            goodput_bytes_per_s: self.goodput_bytes_per_s.aged(time),
        }
    }
}

impl Curve {
    /// Returns the value at `n_positions`: on the line through both points, and never below the
    /// smaller of the two, as a longer cache costs no less than a shorter one.
    pub fn at(&self, n_positions: u32) -> f64 {
        let [x0, x1] = self.n_positions.map(f64::from);
        let [y0, y1] = self.figures.map(|figure| figure.value());
        let slope = ((y1 - y0) / (x1 - x0)).max(0.0);

        (y0 + slope * (f64::from(n_positions) - x0)).max(y0.min(y1))
    }

    fn validate(&self, figure: &'static str) -> Result<(), ProfileError> {
        let [few, many] = self.n_positions;
        if few >= many {
            let n_positions = self.n_positions;
            return Err(ProfileError::NotAscending {
                figure,
                n_positions,
            });
        }
        at_most(figure, many.into(), N_CTX_MAX.into())?;

        self.figures
            .iter()
            .try_for_each(|seconds| at_most(figure, seconds.value(), SECONDS_MAX))
    }
}

impl Share {
    /// Makes a share of a number, which is brought between 0 and 1.
    pub fn new(share: f64) -> Self {
        let share = if share.is_nan() { 1.0 } else { share };

        Self(share.clamp(0.0, 1.0) as f32)
    }

    /// Returns the part of `bytes`, rounded up.
    pub fn of(self, bytes: u64) -> u64 {
        (bytes as f64 * f64::from(self.0)).ceil() as u64
    }
}

impl TryFrom<f32> for Share {
    type Error = &'static str;

    fn try_from(share: f32) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err("a share is between 0 and 1")
        }
    }
}

impl From<Share> for f32 {
    fn from(share: Share) -> Self {
        share.0
    }
}

fn at_most(figure: &'static str, value: f64, max: f64) -> Result<(), ProfileError> {
    if value <= max {
        Ok(())
    } else {
        Err(ProfileError::Absurd { figure, value, max })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{figure, profile};
    use super::*;

    #[test]
    fn time_grows_with_the_context_and_never_falls_below_what_was_measured() {
        let curve = Curve {
            n_positions: [64, 1088],
            figures: [figure(0.001), figure(0.002)],
        };

        assert!((curve.at(576) - 0.0015).abs() < 1e-9);
        assert!((curve.at(2112) - 0.003).abs() < 1e-9);
        assert_eq!(curve.at(0), 0.001);

        // Noise: the longer one seemed quicker.
        let falling = Curve {
            n_positions: [64, 1088],
            figures: [figure(0.002), figure(0.001)],
        };
        assert_eq!(falling.at(100_000), 0.002);
    }

    #[test]
    fn the_work_corrects_what_was_measured() {
        let mut profile = profile(0.001);
        assert_eq!(profile.decode_s_at(64), 0.001);

        profile.pace.decode = Some(figure(2.0));

        assert_eq!(profile.decode_s_at(64), 0.002);
    }

    #[test]
    fn absurd_profiles_are_not_believed() {
        let sample = profile(0.001).sample;
        assert_eq!(profile(0.001).validate(sample), Ok(()));

        let spoilt: [fn(&mut Profile); 5] = [
            |profile| profile.n_threads = 100_000,
            |profile| profile.decode_s.n_positions = [64, 64],
            |profile| profile.prefill_s.n_positions = [0, u32::MAX],
            |profile| profile.logits_s = figure(61.0),
            |profile| profile.sample = ModelHash::of(b"another"),
        ];
        for spoil in spoilt {
            let mut profile = profile(0.001);
            spoil(&mut profile);
            assert!(profile.validate(sample).is_err(), "{profile:?}");
        }
    }
}

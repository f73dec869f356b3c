//! One measured number, with what it is worth: how far readings were from it, and how old it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest value of a figure: a million GB/s, or 30 million years. What is beyond is a lie or a
/// unit mixed up.
const VALUE_MAX: f64 = 1e15;

/// Smallest value of a figure: less than a picosecond is no measurement.
const VALUE_MIN: f64 = 1e-12;

/// Weight of a new sample in the value, and in the spread: those of TCP's round-trip estimator
/// (RFC 6298, section 2), which also smooths a time that comes with each piece of work.
const VALUE_GAIN: f64 = 1.0 / 8.0;
const SPREAD_GAIN: f64 = 1.0 / 4.0;

/// How many times larger or smaller than the value a sample may count as: one step during which the
/// phone did something else must not undo many. A guess.
const SAMPLE_FACTOR_MAX: f64 = 4.0;

/// A measured number: always finite and positive.
///
/// What comes from another phone is checked while it is decoded: there is no figure that is not a
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub struct Figure {
    value: f64,
    spread: f64,
    age_s: u32,
}

/// A figure as it is written down.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename = "Figure")]
struct Said {
    value: f64,
    spread: f64,
    age_s: u32,
}

/// Why a number is no figure.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FigureError {
    /// The value is not a number, or no measurement can give it.
    #[error("{0} cannot have been measured")]
    Value(f64),
    /// The spread is negative or not a number.
    #[error("{0} cannot be a spread")]
    Spread(f64),
}

impl Figure {
    /// Makes a figure of a measurement that has just ended.
    ///
    /// A spread larger than the value says only that nothing is known; it counts as the value.
    ///
    /// # Errors
    ///
    /// - [`FigureError::Value`] if the value is not between 10⁻¹² and 10¹⁵
    /// - [`FigureError::Spread`] if the spread is negative, infinite or not a number
    pub fn new(value: f64, spread: f64) -> Result<Self, FigureError> {
        Self::try_from(Said {
            value,
            spread,
            age_s: 0,
        })
    }

    /// Returns the value, in the unit that the figure's place says.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns how far a reading is from the value, typically.
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// Returns how long ago it was measured, as its owner said.
    pub fn age(&self) -> Duration {
        Duration::from_secs(self.age_s.into())
    }

    /// Returns the figure as it is after `time` without a new measurement.
    #[must_use]
    pub fn aged(self, time: Duration) -> Self {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);

        Self {
            age_s: self.age_s.saturating_add(seconds),
            ..self
        }
    }

    /// Returns the figure after one more sample, taken just now.
    ///
    /// A sample that is not a positive number changes nothing.
    #[must_use]
    pub fn after(self, sample: f64) -> Self {
        if !(sample.is_finite() && sample > 0.0) {
            return self;
        }
        let (least, most) = (
            self.value / SAMPLE_FACTOR_MAX,
            self.value * SAMPLE_FACTOR_MAX,
        );
        let off = sample.clamp(least, most) - self.value;
        let value = (self.value + VALUE_GAIN * off).clamp(VALUE_MIN, VALUE_MAX);
        let spread = self.spread + SPREAD_GAIN * (off.abs() - self.spread);

        Self {
            value,
            spread: spread.min(value),
            age_s: 0,
        }
    }
}

impl TryFrom<Said> for Figure {
    type Error = FigureError;

    fn try_from(said: Said) -> Result<Self, FigureError> {
        if !(VALUE_MIN..=VALUE_MAX).contains(&said.value) {
            return Err(FigureError::Value(said.value));
        }
        if !(said.spread.is_finite() && said.spread >= 0.0) {
            return Err(FigureError::Spread(said.spread));
        }

        Ok(Self {
            value: said.value,
            spread: said.spread.min(said.value),
            age_s: said.age_s,
        })
    }
}

impl From<Figure> for Said {
    fn from(figure: Figure) -> Self {
        Self {
            value: figure.value,
            spread: figure.spread,
            age_s: figure.age_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_have_been_measured_is_no_figure() {
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, -0.0, 1e16, 1e-13] {
            assert!(Figure::new(value, 0.0).is_err(), "{value}");
            let said = Said {
                value,
                spread: 0.0,
                age_s: 0,
            };
            let bytes = postcard::to_stdvec(&said).unwrap();
            assert!(postcard::from_bytes::<Figure>(&bytes).is_err(), "{value}");
        }
        for spread in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(Figure::new(1.0, spread).is_err(), "{spread}");
        }
    }

    #[test]
    fn samples_move_a_figure_to_where_they_are() {
        let mut figure = Figure::new(10.0, 0.0).unwrap();

        for _ in 0..40 {
            figure = figure.after(20.0);
        }

        assert!((figure.value() - 20.0).abs() < 0.1, "{figure:?}");
        assert!(figure.spread() < 1.0, "{figure:?}");
    }

    #[test]
    fn one_sample_cannot_undo_many() {
        let figure = Figure::new(10.0, 1.0).unwrap();

        assert!(figure.after(1e9).value() < 14.0);
        assert!(figure.after(1e-9).value() > 9.0);
        for nonsense in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            assert_eq!(figure.after(nonsense), figure);
        }
    }

    #[test]
    fn a_figure_ages_and_a_sample_renews_it() {
        let old = Figure::new(1.0, 0.1)
            .unwrap()
            .aged(Duration::from_secs(u64::MAX));

        assert_eq!(old.age(), Duration::from_secs(u32::MAX.into()));
        assert_eq!(old.after(1.0).age(), Duration::ZERO);
    }
}

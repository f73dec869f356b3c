//! How far something is, told often enough to be seen moving and seldom enough to cost nothing.

use std::time::{Duration, Instant};

use crate::api::ModelAvailability;

/// Between two tellings: four a second.
const BETWEEN: Duration = Duration::from_millis(250);

/// What a rate is smoothed over: a guess at how long people look at a figure.
const SMOOTHED_OVER_S: f64 = 3.0;

/// Whoever is told where a model is.
pub type Tell = Box<dyn Fn(ModelAvailability) + Send + Sync>;

/// How far something is.
pub struct Progress {
    tell: Tell,
    told_at: Option<Instant>,
    told_bytes: u64,
    rate_bytes_s: Option<f64>,
}

impl Progress {
    /// Begins to tell.
    pub fn new(tell: Tell) -> Self {
        Self {
            tell,
            told_at: None,
            told_bytes: 0,
            rate_bytes_s: None,
        }
    }

    /// Says that what comes next is no continuation: bytes that were not transferred, or time spent waiting.
    pub fn begin(&mut self, done_bytes: u64) {
        self.told_at = None;
        self.told_bytes = done_bytes;
        self.rate_bytes_s = None;
    }

    /// Tells how much has been read of what is being checked.
    pub fn checking(&mut self, done_bytes: u64) {
        if self.is_time(Instant::now()).is_some() {
            (self.tell)(ModelAvailability::Checking { done_bytes });
        }
    }

    /// Tells how much has come.
    pub fn downloading(&mut self, done_bytes: u64) {
        if let Some(rate_bytes_s) = self.rate(done_bytes) {
            (self.tell)(ModelAvailability::Downloading {
                done_bytes,
                rate_bytes_s,
            });
        }
    }

    /// Tells how much has been copied.
    pub fn copying(&mut self, done_bytes: u64) {
        if let Some(rate_bytes_s) = self.rate(done_bytes) {
            (self.tell)(ModelAvailability::Copying {
                done_bytes,
                rate_bytes_s,
            });
        }
    }

    /// Returns how fast bytes come, if it is time to tell.
    fn rate(&mut self, done_bytes: u64) -> Option<f64> {
        let seconds = self.is_time(Instant::now())?;
        if seconds > 0.0 {
            let rate_bytes_s = done_bytes.saturating_sub(self.told_bytes) as f64 / seconds;
            self.smooth(rate_bytes_s, seconds);
        }
        self.told_bytes = done_bytes;

        Some(self.rate_bytes_s.unwrap_or(0.0))
    }

    /// Returns the seconds since something was told last, if it is time to tell again; 0 the first time.
    fn is_time(&mut self, now: Instant) -> Option<f64> {
        let since = self.told_at.map(|at| now.duration_since(at));
        if since.is_some_and(|since| since < BETWEEN) {
            return None;
        }
        self.told_at = Some(now);

        Some(since.unwrap_or_default().as_secs_f64())
    }

    fn smooth(&mut self, rate_bytes_s: f64, seconds: f64) {
        let weight = 1.0 - (-seconds / SMOOTHED_OVER_S).exp();

        self.rate_bytes_s = Some(match self.rate_bytes_s {
            None => rate_bytes_s,
            Some(known) => known + (rate_bytes_s - known) * weight,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_more_than_four_times_a_second() {
        let mut progress = Progress::new(Box::new(|_| {}));
        let began = Instant::now();

        let told_ms = (0..600).filter(|&ms| {
            let now = began + Duration::from_millis(ms);
            progress.is_time(now).is_some()
        });

        assert_eq!(told_ms.collect::<Vec<_>>(), [0, 250, 500]);
    }

    #[test]
    fn a_rate_follows_slowly_and_arrives() {
        let mut progress = Progress::new(Box::new(|_| {}));

        progress.smooth(100.0, 1.0);
        progress.smooth(200.0, 1.0);
        assert!((100.0..150.0).contains(&progress.rate_bytes_s.unwrap()));
        for _ in 0..30 {
            progress.smooth(200.0, 1.0);
        }
        assert!((199.0..200.1).contains(&progress.rate_bytes_s.unwrap()));
    }
}

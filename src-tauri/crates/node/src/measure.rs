//! What this phone can do, measured by the engine and told in the words of [`proto`].

use std::path::{Path, PathBuf};

use engine::{AtContext, LoadOptions, Measured, ProfileOptions, Reading, profile};
use gguf_tools::{ModelHash, Sample};
use proto::plan::Sizes;
use proto::profile::respondent;
use proto::profile::{Costs, Curve, Figure, FigureError, Pace, Profile, Share};

use crate::device::{Shared, Source};
use crate::engine_thread::EngineConfig;
use crate::figures::{FRESH, Figures};

/// Why this phone could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The engine could not run the sample.
    #[error(transparent)]
    Engine(#[from] engine::ProfileError),
    /// The clock gave a time that cannot be.
    #[error("a time that was measured cannot be: {0}")]
    Figure(#[from] FigureError),
}

/// Measures this phone, unless that is known from another time, and sees how it is.
#[derive(Debug)]
pub struct Gauge {
    device: Shared,
    figures: Figures,
    /// Where samples are written.
    folder: PathBuf,
}

impl Gauge {
    /// Keeps figures, and while it measures samples, in a phone's data folder.
    pub fn new(device: Shared, data_folder: &Path) -> Self {
        Self {
            device,
            figures: Figures::new(data_folder),
            folder: data_folder.into(),
        }
    }

    /// Returns what this phone can do, or why that cannot be told.
    ///
    /// # Blocking
    ///
    /// As [`measure`].
    pub fn measure(&mut self, sample: &Sample, config: &EngineConfig) -> respondent::InEvent {
        match self.profile(sample, config) {
            Ok(profile) => respondent::InEvent::Measured {
                profile: Box::new(profile),
                snapshot: self.device.snapshot(),
            },
            Err(error) => {
                tracing::warn!(%error, "This phone cannot be measured");
                respondent::InEvent::NotMeasured {
                    reason: error.to_string(),
                }
            }
        }
    }

    fn profile(&self, sample: &Sample, config: &EngineConfig) -> Result<Profile, MeasureError> {
        // What a phone that plays a slower one measures is not this device's.
        let is_real = config.slowdown <= 1.0;
        let known = self.figures.load(sample.hash());
        if let Some(known) =
            known.filter(|known| is_real && known.decode_s.figures[0].age() < FRESH)
        {
            return Ok(known);
        }

        let profile = measure(sample, &self.folder, config)?;
        if is_real && let Err(error) = self.figures.save(&profile) {
            tracing::warn!(%error, "What was measured cannot be kept");
        }
        Ok(profile)
    }
}

/// Measures this phone with a sample of a model, which is written to `folder` for that time.
///
/// `config.n_threads` is the most that is tried, and no more than there are cores.
///
/// # Errors
///
/// Any [`MeasureError`].
///
/// # Blocking
///
/// Some two seconds, on threads of its own. Nothing else should compute meanwhile.
pub fn measure(
    sample: &Sample,
    folder: &Path,
    config: &EngineConfig,
) -> Result<Profile, MeasureError> {
    let options = ProfileOptions {
        n_threads_max: config.n_threads.min(n_cores()),
        slowdown: config.slowdown,
        ..ProfileOptions::default()
    };
    let measured = profile(sample, folder, &options)?;
    tracing::info!(
        took = ?measured.took,
        n_threads = measured.n_threads,
        "Measured what this phone can do"
    );

    Ok(profile_of(&measured, sample.hash())?)
}

/// Returns how many cores are worth computing with, of those that the system lets this process use.
pub fn n_cores() -> u32 {
    u32::try_from(engine::n_fast_cores()).unwrap_or(u32::MAX)
}

/// Returns what llama.cpp takes beside weights and caches when it runs a model of this width so.
pub fn costs(n_embd: u32, sizes: &Sizes) -> Costs {
    let options = LoadOptions {
        n_batch: sizes.chunk_tokens,
        ..LoadOptions::default()
    };

    Costs {
        context_bytes: options.context_bytes(),
        scratch_bytes: options.scratch_bytes(n_embd),
    }
}

fn profile_of(measured: &Measured, sample: ModelHash) -> Result<Profile, FigureError> {
    Ok(Profile {
        sample,
        n_threads: measured.n_threads,
        decode_s: curve(&measured.decode)?,
        prefill_s: curve(&measured.prefill)?,
        embed_s: figure(measured.embed_s)?,
        logits_s: figure(measured.logits_s)?,
        sample_s: figure(measured.sample_s)?,
        memory_bytes_per_s: figure(measured.memory_bytes_per_s)?,
        layers_repacked: Share::new(measured.layers_repacked),
        ends_repacked: Share::new(measured.ends_repacked),
        pace: Pace::UNKNOWN,
    })
}

fn curve(points: &[AtContext; 2]) -> Result<Curve, FigureError> {
    let [few, many] = *points;

    Ok(Curve {
        n_positions: [few.n_positions, many.n_positions],
        figures: [figure(few.seconds)?, figure(many.seconds)?],
    })
}

fn figure(reading: Reading) -> Result<Figure, FigureError> {
    Figure::new(reading.value, reading.spread)
}

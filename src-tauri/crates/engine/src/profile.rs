//! Measures what a model's layers and ends take on this machine, from a [`Sample`] of the model.
//!
//! A phone must know what it can do before anything is moved to it, so it cannot wait for a shard.
//! A sample is the header of some of the model's own layers, filled with weights of no meaning:
//! llama.cpp runs the same graph with the same kernels over as many bytes. How far that is from the
//! real layers: `cargo run --release -p engine --example profile -- MODEL.gguf`.
//!
//! ```text
//! write and load the sample ─► threads: 1, 2, … while one more helps
//!                                  └─► decode at two contexts ─► prefill at two contexts
//!                                          └─► ends ─► sampler ─► memory
//! ```
//!
//! - **Decode** runs all layers of the sample, so that weights come from memory, not from the
//!   processor's caches. **Prefill** computes far more than it reads; it runs the first layer alone,
//!   in another context over the same weights.
//! - **Two contexts**, because attention grows with what it looks at. A long cache is not computed
//!   but stretched from a short one: what is in it does not matter either.
//! - **Threads** by the knee of the curve: one more counts only if it makes a step
//!   [`WORTH_A_THREAD`] quicker. A phone has other work and a battery.
//!
//! Each figure takes as many readings as its share of the time allows, at least one. Its value is
//! the median, its spread the median distance from that: another program that runs for a while
//! moves neither by much.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::{Gguf, Sample, SampleError, Written};

use crate::cache;
use crate::ends::Ends;
use crate::engine::{Engine, EngineOptions, LoadOptions, layer_taps};
use crate::error::{LoadError, RunError};
use crate::layers::{LayerShard, SequenceRun};
use crate::llama::{ContextOptions, Model, ThreadPool};
use crate::repack::repacked_bytes;
use crate::sampler::{Sampler, SamplingOptions};

/// How much quicker a step must be for one more thread to be worth its battery: a tenth, a guess
/// between what a person can notice and the noise of a reading.
const WORTH_A_THREAD: f64 = 0.9;

/// How many times slower than the best so far the first step with one more thread may be, before it
/// is not tried again. The first of all steps reads weights that are nowhere near yet, at half the
/// speed of later ones.
const HOPELESS: f64 = 3.0;

/// Readings of a figure, at most: the spread of a median of so many is a third of a reading's.
const READINGS_MAX: usize = 12;

/// Shares of the time, in percent. What is left is for writing and loading the sample.
const THREADS_SHARE: u32 = 6; // for each number of threads
const DECODE_SHARE: u32 = 10;
const PREFILL_SHARE: u32 = 14; // at each context
const ENDS_SHARE: u32 = 6;
const MEMORY_SHARE: u32 = 4;

/// Tokens of the first prefill, which says how many of a chunk there is time for.
const PREFILL_FIRST_TOKENS: u32 = 16;

/// Bytes read to measure memory: more than the last cache of any phone (8 to 32 MiB).
const MEMORY_BYTES: usize = 64 << 20;

/// How to measure.
#[derive(Debug, Clone)]
pub struct ProfileOptions {
    /// Threads to try, at most: the cores that the phone may use.
    pub n_threads_max: u32,
    /// About how long it may take. A phone on which single steps take longer is measured with
    /// fewer readings, but never with none.
    pub time: Duration,
    /// Positions in the cache, few and many.
    pub contexts: [u32; 2],
    /// Tokens in a prefill chunk.
    pub chunk_tokens: u32,
    /// See [`LoadOptions::repack`].
    pub repack: bool,
    /// How many times slower than itself the phone is to appear; 1 is its own speed. Nothing is
    /// slowed down: times are multiplied.
    pub slowdown: f64,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            n_threads_max: 1,
            time: Duration::from_millis(2500),
            contexts: [64, 1024],
            chunk_tokens: 128,
            repack: true,
            slowdown: 1.0,
        }
    }
}

/// What some readings say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Their median.
    pub value: f64,
    /// The median of their distances from it; 0 for a single one.
    pub spread: f64,
    /// How many they are.
    pub n: u32,
}

/// A reading at so many positions in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtContext {
    /// Positions in the cache.
    pub n_positions: u32,
    /// Seconds.
    pub seconds: Reading,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Threads worth using, with which everything else was measured.
    pub n_threads: u32,
    /// Seconds of a decode step through a layer, by number of threads, as far as was tried.
    pub by_threads: Vec<(u32, Reading)>,
    /// Seconds of a decode step through a layer, at two contexts, ascending.
    pub decode: [AtContext; 2],
    /// Seconds of prefill through a layer for each token, at two contexts, ascending.
    pub prefill: [AtContext; 2],
    /// Seconds to embed a token.
    pub embed_s: Reading,
    /// Seconds from a hidden state to all logits.
    pub logits_s: Reading,
    /// Seconds to choose a token of the logits, with the usual sampler.
    pub sample_s: Reading,
    /// Bytes a second that the threads together read from memory.
    pub memory_bytes_per_s: Reading,
    /// Part of a layer's bytes that is kept a second time, 0 to 1.
    pub layers_repacked: f64,
    /// The same of the ends.
    pub ends_repacked: f64,
    /// How long measuring took, writing and loading included.
    pub took: Duration,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The sample is none, or could not be written.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The sample could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The sample could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Measures this machine with a sample of a model, which is written to `folder` for that time.
///
/// # Errors
///
/// Any [`ProfileError`].
///
/// # Panics
///
/// If a number of the options is 0, or the second context is not longer than the first and a chunk.
///
/// # Blocking
///
/// About [`ProfileOptions::time`]. Nothing else should compute meanwhile.
pub fn profile(
    sample: &Sample,
    folder: &Path,
    options: &ProfileOptions,
) -> Result<Measured, ProfileError> {
    let [few, many] = options.contexts;
    assert!(few > 0 && options.chunk_tokens > 0 && options.n_threads_max > 0);
    assert!(many > few + options.chunk_tokens, "contexts too close");
    let started = Instant::now();

    let mut layers = Layers::load(sample, folder, options)?;
    let (n_threads, by_threads) = layers.threads(options)?;
    let decode = [
        at_knee(&by_threads, n_threads, few),
        layers.decode(many, options)?,
    ];
    let prefill = layers.prefill(options)?;
    let layers_repacked = layers.repacked;
    drop(layers);
    let ends = EndsFigures::measure(sample, folder, n_threads, options)?;
    let memory = memory(n_threads, options.time * MEMORY_SHARE / 100);

    let slower = |reading: Reading| reading.times(options.slowdown);
    let slower_at = |at: AtContext| AtContext {
        seconds: slower(at.seconds),
        ..at
    };
    Ok(Measured {
        n_threads,
        by_threads: by_threads
            .into_iter()
            .map(|(n, r)| (n, slower(r)))
            .collect(),
        decode: decode.map(slower_at),
        prefill: prefill.map(slower_at),
        embed_s: slower(ends.embed_s),
        logits_s: slower(ends.logits_s),
        sample_s: slower(ends.sample_s),
        memory_bytes_per_s: memory,
        layers_repacked,
        ends_repacked: ends.repacked,
        took: started.elapsed(),
    })
}

/// The sample's layers, in two contexts over the same weights.
struct Layers {
    /// All of them.
    all: LayerShard,
    /// The first alone.
    first: LayerShard,
    n_layers: u32,
    repacked: f64,
    /// An exported cache with one position.
    seed: Vec<u8>,
    hidden: Vec<f32>,
    out: Vec<f32>,
}

impl Layers {
    fn load(
        sample: &Sample,
        folder: &Path,
        options: &ProfileOptions,
    ) -> Result<Self, ProfileError> {
        let file = TemporaryFile(folder.join("sample-layers.gguf"));
        let written = sample.layers.write_file(&file.0)?;
        let engine = Engine::new(EngineOptions { n_threads: 1 });
        let load = load_options(options);
        let model = engine.load_model(&file.0, &load, &mut go_on)?;
        let shard = |n_layers| layer_shard(&engine, &file.0, &model, written, &load, n_layers);

        let mut layers = Self {
            all: shard(written.n_layers)?,
            first: shard(1)?,
            n_layers: written.n_layers,
            repacked: repacked_share(&file.0),
            seed: Vec::new(),
            hidden: vec![0.0; written.n_embd as usize * options.chunk_tokens as usize],
            out: Vec::new(),
        };
        // Values about as large as they are between layers; each row another.
        for (i, value) in layers.hidden.iter_mut().enumerate() {
            *value = (i as f32).sin();
        }
        layers.step()?;
        layers.all.export_sequence(0, &mut layers.seed)?;

        Ok(layers)
    }

    /// Finds the number of threads from which on more are not worth it.
    fn threads(
        &mut self,
        options: &ProfileOptions,
    ) -> Result<(u32, Vec<(u32, Reading)>), ProfileError> {
        let mut curve = Vec::<(u32, Reading)>::new();
        let mut best = None;

        for n_threads in candidates(options.n_threads_max) {
            self.use_threads(n_threads);
            self.set_context(options.contexts[0])?;
            // Threads that wait for a core which others use can be dozens of times slower.
            let first_s = self.timed_step()? / f64::from(self.n_layers);
            if best.is_some_and(|(_, least)| first_s > least * HOPELESS) {
                break;
            }
            let reading = self.decode_reading(options.time * THREADS_SHARE / 100)?;
            curve.push((n_threads, reading));
            match best {
                Some((_, least)) if reading.value > least * WORTH_A_THREAD => break,
                _ => best = Some((n_threads, reading.value)),
            }
        }

        let (n_threads, _) = best.expect("one thread is always tried");
        self.use_threads(n_threads);
        Ok((n_threads, curve))
    }

    fn decode(
        &mut self,
        n_positions: u32,
        options: &ProfileOptions,
    ) -> Result<AtContext, ProfileError> {
        self.set_context(n_positions)?;
        let seconds = self.decode_reading(options.time * DECODE_SHARE / 100)?;

        Ok(AtContext {
            n_positions,
            seconds,
        })
    }

    /// Measures a chunk with nothing before it, and one that ends at the longer context.
    fn prefill(&mut self, options: &ProfileOptions) -> Result<[AtContext; 2], ProfileError> {
        let slice = options.time * PREFILL_SHARE / 100;
        let n_first = PREFILL_FIRST_TOKENS.min(options.chunk_tokens);
        self.chunk(0, n_first)?; // the first of all also makes room for what is computed
        let first_s = self.timed_chunk(0, n_first)?;

        // As many tokens of a chunk as there is time for.
        let affordable = slice.as_secs_f64() / first_s * f64::from(n_first);
        let n_tokens = (affordable as u32).clamp(n_first, options.chunk_tokens);
        let at = |this: &mut Self, n_positions| -> Result<AtContext, ProfileError> {
            let reading = readings(slice, || this.timed_chunk(n_positions, n_tokens))?;
            let seconds = reading.times(1.0 / f64::from(n_tokens));
            Ok(AtContext {
                n_positions,
                seconds,
            })
        };

        Ok([
            at(self, 0)?,
            at(self, options.contexts[1] - options.chunk_tokens)?,
        ])
    }

    /// Makes the cache hold `n_positions`.
    fn set_context(&mut self, n_positions: u32) -> Result<(), RunError> {
        set_context(&mut self.all, &self.seed, n_positions)
    }

    /// Measures decode steps through one layer.
    fn decode_reading(&mut self, slice: Duration) -> Result<Reading, RunError> {
        self.step()?; // weights that were written last are not those that are needed first
        let reading = readings(slice, || self.timed_step())?;

        Ok(reading.times(1.0 / f64::from(self.n_layers)))
    }

    fn timed_step(&mut self) -> Result<f64, RunError> {
        let started = Instant::now();
        self.step()?;

        Ok(started.elapsed().as_secs_f64())
    }

    /// Decodes one token after those in the cache.
    fn step(&mut self) -> Result<(), RunError> {
        let run = run_of(self.all.n_positions(0), 1);
        let hidden = &self.hidden[..self.all.n_embd()];

        self.all.run(&[run], hidden, &mut self.out, true)
    }

    /// Prefills the first layer with `n_positions` before the chunk, and returns the seconds.
    fn timed_chunk(&mut self, n_positions: u32, n_tokens: u32) -> Result<f64, RunError> {
        set_context(&mut self.first, &self.seed, n_positions)?;
        let started = Instant::now();
        self.chunk(n_positions, n_tokens)?;
        let seconds = started.elapsed().as_secs_f64();
        self.first.clear(0)?;

        Ok(seconds)
    }

    fn chunk(&mut self, n_positions: u32, n_tokens: u32) -> Result<(), RunError> {
        let n_values = n_tokens as usize * self.first.n_embd();
        let (run, hidden) = (run_of(n_positions, n_tokens), &self.hidden[..n_values]);
        self.first.run(&[run], hidden, &mut self.out, true)?;
        if n_positions == 0 {
            self.first.clear(0)?;
        }

        Ok(())
    }

    fn use_threads(&mut self, n_threads: u32) {
        let pool = Arc::new(ThreadPool::new(n_threads));
        self.all.context.use_pool(&pool);
        self.first.context.use_pool(&pool);
    }
}

/// What the ends take.
struct EndsFigures {
    embed_s: Reading,
    logits_s: Reading,
    sample_s: Reading,
    repacked: f64,
}

impl EndsFigures {
    fn measure(
        sample: &Sample,
        folder: &Path,
        n_threads: u32,
        options: &ProfileOptions,
    ) -> Result<Self, ProfileError> {
        let slice = options.time * ENDS_SHARE / 100;
        let file = TemporaryFile(folder.join("sample-ends.gguf"));
        let written = sample.ends.write_file(&file.0)?;
        let engine = Engine::new(EngineOptions { n_threads });
        let load = load_options(options);
        let model = engine.load_model(&file.0, &load, &mut go_on)?;
        let mut ends = engine.ends_of(&file.0, model, written.architecture, &load, 0)?;
        let share = f64::from(sample.n_rows) / f64::from(sample.n_vocab.max(1));

        Ok(Self {
            embed_s: embed(&mut ends, slice)?,
            logits_s: logits(&mut ends, slice)?.times(1.0 / share),
            sample_s: sample_token(sample.n_vocab as usize, slice),
            repacked: repacked_share(&file.0),
        })
    }
}

fn embed(ends: &mut Ends, slice: Duration) -> Result<Reading, RunError> {
    let mut hidden = Vec::new();
    ends.embed(&[0], &mut hidden)?;

    readings(slice, || {
        let started = Instant::now();
        ends.embed(&[1], &mut hidden)?;
        Ok(started.elapsed().as_secs_f64())
    })
}

fn logits(ends: &mut Ends, slice: Duration) -> Result<Reading, RunError> {
    let hidden = (0..ends.n_embd()).map(|i| (i as f32).sin());
    let (hidden, mut logits) = (hidden.collect::<Vec<_>>(), Vec::new());
    ends.logits(&hidden, &mut logits)?;

    readings(slice, || {
        let started = Instant::now();
        ends.logits(&hidden, &mut logits)?;
        Ok(started.elapsed().as_secs_f64())
    })
}

fn sample_token(n_vocab: usize, slice: Duration) -> Reading {
    let usual = SamplingOptions {
        temperature: 0.8,
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(usual);
    let logits = (0..n_vocab).map(|i| (i as f32 * 0.7).sin() * 10.0);
    let logits = logits.collect::<Vec<_>>();

    let reading = readings(slice, || {
        let mut logits = logits.clone();
        let started = Instant::now();
        black_box(sampler.sample(&mut logits, &[], 0));
        Ok::<_, std::convert::Infallible>(started.elapsed().as_secs_f64())
    });
    let Ok(reading) = reading;

    reading
}

/// Reads memory with `n_threads` at once.
fn memory(n_threads: u32, slice: Duration) -> Reading {
    let words = vec![1u64; MEMORY_BYTES / size_of::<u64>()];
    let part = words.len().div_ceil(n_threads as usize);
    let sum = |words: &[u64]| words.iter().fold(0, |sum, word| sum ^ word);

    let seconds = readings(slice, || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for words in words.chunks(part) {
                scope.spawn(move || black_box(sum(black_box(words))));
            }
        });
        Ok::<_, std::convert::Infallible>(started.elapsed().as_secs_f64())
    });
    let Ok(seconds) = seconds;

    let bytes_per_s = MEMORY_BYTES as f64 / seconds.value;
    Reading {
        value: bytes_per_s,
        spread: bytes_per_s * seconds.spread / seconds.value,
        n: seconds.n,
    }
}

/// Takes readings for `slice`, or until there are enough; at least one.
fn readings<E>(slice: Duration, mut read: impl FnMut() -> Result<f64, E>) -> Result<Reading, E> {
    let started = Instant::now();
    let mut values = vec![read()?];
    while started.elapsed() < slice && values.len() < READINGS_MAX {
        values.push(read()?);
    }

    Ok(Reading::of(values))
}

impl Reading {
    /// # Panics
    ///
    /// If there is no value.
    fn of(values: Vec<f64>) -> Self {
        let n = values.len() as u32; // at most READINGS_MAX
        let value = median(values.clone());
        let spread = median(values.into_iter().map(|v| (v - value).abs()).collect());

        Self { value, spread, n }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            spread: self.spread * factor,
            n: self.n,
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);

    f64::midpoint(low, high)
}

/// Returns the numbers of threads to try, ascending: all up to 4, then every other one.
fn candidates(n_threads_max: u32) -> impl Iterator<Item = u32> {
    (1..=n_threads_max).filter(move |&n| n <= 4 || n.is_multiple_of(2) || n == n_threads_max)
}

fn at_knee(curve: &[(u32, Reading)], n_threads: u32, n_positions: u32) -> AtContext {
    let (_, seconds) = curve
        .iter()
        .find(|(n, _)| *n == n_threads)
        .expect("the knee lies on the curve");

    AtContext {
        n_positions,
        seconds: *seconds,
    }
}

fn load_options(options: &ProfileOptions) -> LoadOptions {
    LoadOptions {
        // Room for the longer context and for the steps that are measured after it.
        n_ctx: options.contexts[1] + READINGS_MAX as u32 + 3,
        n_sequences: 1,
        n_batch: options.chunk_tokens,
        memory_budget_bytes: None,
        repack: options.repack,
    }
}

fn layer_shard(
    engine: &Engine,
    path: &Path,
    model: &Arc<Model>,
    written: Written,
    options: &LoadOptions,
    n_layers: u32,
) -> Result<LayerShard, LoadError> {
    let context = engine.new_context(
        path,
        model,
        &ContextOptions {
            n_ctx: options.n_ctx,
            n_sequences: 1,
            n_batch: options.n_batch,
            n_wanted_max: 0,
            tap: layer_taps(written.architecture, n_layers),
            pin_attention: true,
        },
    )?;

    Ok(LayerShard {
        needed_bytes: 0,
        context,
        model: Arc::clone(model),
        n_ctx: options.n_ctx,
        n_batch: options.n_batch,
        n_positions: vec![0],
    })
}

fn set_context(shard: &mut LayerShard, seed: &[u8], n_positions: u32) -> Result<(), RunError> {
    if n_positions == 0 {
        return shard.clear(0);
    }
    let n_ctx = shard.n_ctx;
    let cache = cache::stretch(seed, n_positions).ok_or(RunError::WrongCache { n_ctx })?;

    shard.import_sequence(0, &cache)
}

fn run_of(position: u32, n_tokens: u32) -> SequenceRun {
    SequenceRun {
        sequence: 0,
        position,
        n_tokens,
        n_wanted: n_tokens,
    }
}

/// Returns the part of a file's bytes that llama.cpp keeps a second time.
fn repacked_share(path: &Path) -> f64 {
    Gguf::open(path).map_or(0.0, |gguf| {
        repacked_bytes(&gguf) as f64 / gguf.file_bytes() as f64
    })
}

/// A file that goes when it is not needed any more.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "Sample stays behind");
        }
    }
}

fn go_on(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

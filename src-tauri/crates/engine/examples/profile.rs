//! How well a sample tells what the real layers take, and how long measuring it takes.
//!
//! ```text
//! cargo run --release -p engine --example profile -- MODEL.gguf [rounds]
//! ```
//!
//! Each round measures the sample and then the model itself, cut into 16 shards (`SHARDS=n` for
//! others) with a real prompt in their caches, so that a machine that slows down slows both. Printed are medians and the least
//! over the rounds, which other programs disturb less, and what the sample is off by.
//! `THREADS=n` tries up to n threads.

#![allow(clippy::print_stdout)] // what it is for

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use engine::{
    Ends, Engine, EngineOptions, LayerShard, LoadOptions, Measured, ProfileOptions, SequenceRun,
    profile,
};
use gguf_tools::{Cut, Gguf, Manifest, Sample};

const STEPS: usize = 16;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: profile MODEL.gguf [rounds]";
    let model = PathBuf::from(arguments.next().context(usage)?);
    let rounds = match arguments.next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 3,
    };
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
    let n_threads_max = number("THREADS").unwrap_or(1);
    let n_shards = number("SHARDS").unwrap_or(16);

    let gguf = Gguf::open(&model)?;
    let sample = Sample::of(&gguf)?;
    let message_bytes = sample.layers.file_bytes() + sample.ends.file_bytes()
        - sample.layers.data_bytes
        - sample.ends.data_bytes;
    println!(
        "sample: {} layers, {} of {} rows; {} kB to send, {} MB to write",
        sample.n_layers,
        sample.n_rows,
        sample.n_vocab,
        message_bytes / 1000,
        (sample.layers.data_bytes + sample.ends.data_bytes) / 1_000_000,
    );

    let folder = tempfile::tempdir()?;
    let options = ProfileOptions {
        n_threads_max,
        ..ProfileOptions::default()
    };
    let (mut sampled, mut measured) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let by_sample = profile(&sample, folder.path(), &options)?;
        if round == 0 {
            print_first(&by_sample);
        }
        let real = Real::load(&gguf, folder.path(), n_shards, by_sample.n_threads)?;
        let real = real.measure(&options)?;
        sampled.push(figures_of(&by_sample));
        measured.push(real);
    }

    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nload averages: {}", load.trim());
    println!(
        "{:32}{:>10}{:>10}{:>8}{:>10}{:>10}{:>8}",
        "ms", "median", "real", "off", "least", "real", "off"
    );
    for (i, name) in NAMES.iter().enumerate() {
        let sampled = sampled.iter().map(|figures| figures[i]).collect::<Vec<_>>();
        let measured = measured
            .iter()
            .map(|figures| figures[i])
            .collect::<Vec<_>>();
        let medians = [median(sampled.clone()), median(measured.clone())];
        let least = [sampled, measured].map(|all| all.into_iter().fold(f64::INFINITY, f64::min));

        print!("{name:32}");
        for [sample, real] in [medians, least] {
            let off = (sample / real - 1.0) * 100.0;
            print!("{:>10.3}{:>10.3}{off:>+7.1}%", sample * 1e3, real * 1e3);
        }
        println!();
    }

    Ok(())
}

const NAMES: [&str; 5] = [
    "decode a layer, short context",
    "decode a layer, long context",
    "prefill a layer, chunk, empty",
    "prefill a layer, chunk, long",
    "logits",
];

type Figures = [f64; 5];

fn figures_of(measured: &Measured) -> Figures {
    let chunk = f64::from(ProfileOptions::default().chunk_tokens);

    [
        measured.decode[0].seconds.value,
        measured.decode[1].seconds.value,
        measured.prefill[0].seconds.value * chunk,
        measured.prefill[1].seconds.value * chunk,
        measured.logits_s.value,
    ]
}

fn print_first(measured: &Measured) {
    for (n, reading) in &measured.by_threads {
        let (value, spread) = (reading.value * 1e3, reading.spread * 1e3);
        println!("{n} threads: {value:.3} ms a layer, ± {spread:.3}");
    }
    println!(
        "worth using: {}; memory {:.1} GB/s; repacked {:.0} % and {:.0} %; embedding {:.3} ms, sampler {:.3} ms; took {:.2} s",
        measured.n_threads,
        measured.memory_bytes_per_s.value / 1e9,
        measured.layers_repacked * 100.0,
        measured.ends_repacked * 100.0,
        measured.embed_s.value * 1e3,
        measured.sample_s.value * 1e3,
        measured.took.as_secs_f64(),
    );
}

/// The model itself.
struct Real {
    layers: Vec<LayerShard>,
    ends: Ends,
    n_layers: f64,
    hidden: Vec<f32>,
    next: Vec<f32>,
}

impl Real {
    fn load(gguf: &Gguf, folder: &Path, n_shards: u32, n_threads: u32) -> Result<Self> {
        let cut = Cut::about(gguf, n_shards)?;
        let manifest: Manifest = cut.manifest(|_| ());
        for shard in cut.shards() {
            let path = folder.join(shard.kind().to_string());
            if !path.exists() {
                shard.write_file(&path)?;
            }
        }

        let engine = Engine::new(EngineOptions { n_threads });
        let options = LoadOptions::default();
        let ends = engine.load_ends(&folder.join("ends"), &manifest, &options, &mut go_on)?;
        let mut layers = Vec::new();
        for entry in &manifest.layers {
            let path = folder.join(entry.kind.to_string());
            layers.push(engine.load_layers(&path, &manifest, entry, &options, &mut go_on)?);
        }

        Ok(Self {
            layers,
            ends,
            n_layers: manifest.n_layers.into(),
            hidden: Vec::new(),
            next: Vec::new(),
        })
    }

    fn measure(mut self, options: &ProfileOptions) -> Result<Figures> {
        let chunk = options.chunk_tokens;
        self.step(chunk)?; // makes room
        self.clear()?;
        let prefill_empty = self.step(chunk)?;
        self.clear()?;

        self.step(options.contexts[0])?;
        let decode_few = self.decode()?;
        self.clear()?;
        let mut prefill_long = 0.0;
        for _ in 0..options.contexts[1] / chunk {
            prefill_long = self.step(chunk)?;
        }
        let decode_many = self.decode()?;

        let hidden = self.hidden[..self.ends.n_embd()].to_vec();
        let mut logits = Vec::new();
        self.ends.logits(&hidden, &mut logits)?;
        let mut times = Vec::new();
        for _ in 0..STEPS {
            let started = Instant::now();
            self.ends.logits(&hidden, &mut logits)?;
            times.push(started.elapsed().as_secs_f64());
        }

        let n = self.n_layers;
        let (few, many) = (decode_few / n, decode_many / n);
        Ok([
            few,
            many,
            prefill_empty / n,
            prefill_long / n,
            median(times),
        ])
    }

    fn decode(&mut self) -> Result<f64> {
        self.step(1)?;
        let mut times = Vec::new();
        for _ in 0..STEPS {
            times.push(self.step(1)?);
        }

        Ok(median(times))
    }

    /// Runs tokens through all layers and returns the seconds of these.
    fn step(&mut self, n_tokens: u32) -> Result<f64> {
        let position = self.layers[0].n_positions(0);
        let tokens = (0..n_tokens as i32).map(|i| (position as i32 + i) % 200 + 20);
        self.ends
            .embed(&tokens.collect::<Vec<_>>(), &mut self.hidden)?;
        let run = SequenceRun {
            sequence: 0,
            position,
            n_tokens,
            n_wanted: n_tokens,
        };

        let started = Instant::now();
        for shard in &mut self.layers {
            shard.run(&[run], &self.hidden, &mut self.next, true)?;
            std::mem::swap(&mut self.hidden, &mut self.next);
        }

        Ok(started.elapsed().as_secs_f64())
    }

    fn clear(&mut self) -> Result<()> {
        for shard in &mut self.layers {
            shard.clear(0)?;
        }

        Ok(())
    }
}

fn go_on(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);

    values[values.len() / 2]
}

//! What cutting costs: the time of a decode step through n shards in one process, beside the whole
//! model.
//!
//! ```text
//! cargo run --release -p engine --example overhead -- MODEL.gguf [n_shards…]
//! ```
//!
//! Each line is one way to run the model. All take turns, some steps each, so that a machine that
//! slows down slows all of them down; times are medians, of the clock and of this thread's CPU
//! time, which other programs disturb less. The greedy token of the whole model goes into every
//! one. Memory is what the process grew by when the way was loaded and had run its first steps.

#![allow(clippy::print_stdout)] // what it is for

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine::{Ends, Engine, EngineOptions, LayerShard, LoadOptions, SequenceRun, Token, Whole};
use gguf_tools::{Cut, Gguf, Manifest};

/// Tokens before the first measured step, more than one page of KV cells (256) so that attention
/// takes part.
const PROMPT_TOKENS: usize = 300;
/// Turns of each way.
const TURNS: usize = 12;
/// Steps in a turn; the first two are not measured, because others have had the caches meanwhile.
const STEPS: usize = 12;
const UNMEASURED: usize = 2;
/// Tokens per prefill step.
const CHUNK: usize = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let model = PathBuf::from(
        arguments
            .next()
            .context("usage: overhead MODEL.gguf [n_shards…]")?,
    );
    let mut shard_counts = Vec::new();
    for argument in arguments {
        shard_counts.push(argument.to_string_lossy().parse::<u32>()?);
    }
    if shard_counts.is_empty() {
        shard_counts = vec![1, 2, 3, 16, 30];
    }

    let n_threads = std::env::var("THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let engine = Engine::new(EngineOptions { n_threads });
    let folder = tempfile::tempdir()?;
    let before = resident_bytes()?;
    let mut whole = engine.load_whole(&model, &options(), &mut go_on)?;
    let mut ways = Vec::new();
    prefill_whole(&mut whole)?;
    println!("whole: {:.1} MB", megabytes(resident_bytes()? - before));
    for n_shards in shard_counts {
        let before = resident_bytes()?;
        // Files of its own: whoever shared the LM head's pages would find them in the CPU's cache.
        let folder = folder.path().join(n_shards.to_string());
        std::fs::create_dir(&folder)?;
        let mut way = Split::load(&engine, &model, &folder, n_shards)?;
        way.prefill()?;
        let grown = resident_bytes()? - before;
        println!("{n_shards} shards: {:.1} MB", megabytes(grown));
        ways.push(way);
    }

    let mut whole_times = Vec::new();
    let mut times = vec![Vec::new(); ways.len()];
    let mut token = 1;
    for _ in 0..TURNS {
        let mut chosen = vec![token];
        for step in 0..STEPS {
            let (next, time) = timed(|| Ok(greedy(whole.run(&[chosen[step]], 1)?)))?;
            whole_times.extend((step >= UNMEASURED).then_some(time));
            chosen.push(next);
        }
        for (way, times) in ways.iter_mut().zip(&mut times) {
            for step in 0..STEPS {
                let (next, time) = timed(|| way.step(&[chosen[step]]))?;
                anyhow::ensure!(
                    next == chosen[step + 1],
                    "{} shards chose another token",
                    way.layers.len()
                );
                times.extend((step >= UNMEASURED).then_some(time));
            }
        }
        token = chosen[STEPS];
    }

    let base = medians(whole_times);
    println!(
        "{:>10}  {:>9}  {:>6}  {:>9}  {:>6}",
        "", "ms/step", "ratio", "CPU ms", "ratio"
    );
    print_line("whole", base, base);
    for (way, times) in ways.iter().zip(times) {
        print_line(
            &format!("{} shards", way.layers.len()),
            medians(times),
            base,
        );
    }
    for way in &ways {
        let parts = way
            .parts
            .iter()
            .map(|part| format!("{:.3}", milliseconds(*part / (TURNS * STEPS) as u32)));
        println!(
            "{:>3} shards: embed, layers, logits ms: {}",
            way.layers.len(),
            parts.collect::<Vec<_>>().join(" ")
        );
    }

    Ok(())
}

fn options() -> LoadOptions {
    LoadOptions {
        n_ctx: 512,
        n_sequences: 1,
        n_batch: 128,
        ..LoadOptions::default()
    }
}

fn go_on(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

struct Split {
    ends: Ends,
    layers: Vec<LayerShard>,
    hidden: Vec<f32>,
    next: Vec<f32>,
    logits: Vec<f32>,
    parts: [Duration; 3],
}

impl Split {
    fn load(engine: &Engine, model: &Path, folder: &Path, n_shards: u32) -> Result<Self> {
        let cut = Cut::about(&Gguf::open(model)?, n_shards)?;
        for shard in cut.shards() {
            shard.write_file(&folder.join(shard.kind().to_string()))?;
        }
        let manifest: Manifest = cut.manifest(|_| ());
        let ends = engine.load_ends(&folder.join("ends"), &manifest, &options(), &mut go_on)?;
        let mut layers = Vec::new();
        for entry in &manifest.layers {
            let path = folder.join(entry.kind.to_string());
            layers.push(engine.load_layers(&path, &manifest, entry, &options(), &mut go_on)?);
        }

        Ok(Self {
            ends,
            layers,
            hidden: vec![],
            next: vec![],
            logits: vec![],
            parts: [Duration::ZERO; 3],
        })
    }

    fn prefill(&mut self) -> Result<()> {
        for chunk in prompt().chunks(CHUNK) {
            self.step(chunk)?;
        }
        self.parts = [Duration::ZERO; 3];

        Ok(())
    }

    fn step(&mut self, tokens: &[Token]) -> Result<Token> {
        let position = self.layers[0].n_positions(0);
        let run = SequenceRun {
            sequence: 0,
            position,
            n_tokens: tokens.len() as u32,
            n_wanted: 1,
        };
        let start = Instant::now();
        self.ends.embed(tokens, &mut self.hidden)?;
        let embedded = Instant::now();
        let last = self.layers.len() - 1;
        for (i, shard) in self.layers.iter_mut().enumerate() {
            shard.run(&[run], &self.hidden, &mut self.next, i < last)?;
            std::mem::swap(&mut self.hidden, &mut self.next);
        }
        let ran = Instant::now();
        self.ends.logits(&self.hidden, &mut self.logits)?;
        self.parts[0] += embedded - start;
        self.parts[1] += ran - embedded;
        self.parts[2] += ran.elapsed();

        Ok(greedy(&self.logits))
    }
}

fn prefill_whole(whole: &mut Whole) -> Result<()> {
    for chunk in prompt().chunks(CHUNK) {
        whole.run(chunk, 1)?;
    }

    Ok(())
}

fn prompt() -> Vec<Token> {
    (0..PROMPT_TOKENS as Token).map(|i| i % 200 + 20).collect()
}

fn greedy(logits: &[f32]) -> Token {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));

    best.map_or(0, |(token, _)| token as Token)
}

/// Runs `act` and returns its time by the clock and on the CPU.
fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, [Duration; 2])> {
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let value = act()?;

    Ok((value, [start.elapsed(), cpu_time() - cpu_start]))
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);

    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn print_line(name: &str, [time, cpu]: [Duration; 2], [base, cpu_base]: [Duration; 2]) {
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let (time_ratio, cpu_ratio) = (ratio(time, base), ratio(cpu, cpu_base));
    let (time, cpu) = (milliseconds(time), milliseconds(cpu));
    println!("{name:>10}  {time:9.3}  {time_ratio:6.3}  {cpu:9.3}  {cpu_ratio:6.3}");
}

fn medians(times: Vec<[Duration; 2]>) -> [Duration; 2] {
    [0, 1].map(|i| median(times.iter().map(|time| time[i]).collect()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();

    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}

/// Anonymous memory of this process: mapped weights, which the system can drop, do not count.
fn resident_bytes() -> Result<i64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("RssAnon")?;
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<i64>()?;

    Ok(kilobytes * 1024)
}

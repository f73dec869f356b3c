//! `lingualinked bench`: a group on this machine against plain llama.cpp, in turns, in one run.
//!
//! Both read the same prompts and write greedily, with the same threads. Each round measures the group
//! and then plain llama.cpp, so that a machine that slows down slows both; what counts is the ratio of
//! the medians.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use proto::chat::{Ask, Figures, Prompt, Sampling};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::Outcome;
use crate::args::{GroupArgs, PlacementRule};
use crate::group::{Group, Meeting};
use crate::interrupts::Interrupts;
use crate::lines::Line;
use crate::plain::{Plain, Run};

/// Phone that is asked.
const ASKED: usize = 0;

/// Prompts whose time to the first token is measured, in tokens.
const PROMPTS: [usize; 2] = [128, 512];

/// Prompt before the tokens whose time is measured: short, so that the cache stays small.
const SHORT_PROMPT: usize = 16;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    group: GroupArgs,
    /// Rounds; each measures the group and plain llama.cpp
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Tokens written in each round
    #[arg(long, default_value_t = 64)]
    tokens: u32,
    /// Write the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Measures.
pub async fn run(mut args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    // What is measured is the ring, whoever would be quicker alone.
    args.group.model.run.placement = PlacementRule::Even;
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    ensure!(args.tokens > 1, "--tokens must be at least 2");
    let group = &args.group;
    let mut bench = Bench {
        plain: Plain::load(
            &group.model.model,
            group.phone.threads,
            group.model.run.context,
        )?,
        group: Group::new(group)?,
        rng: ChaCha12Rng::seed_from_u64(0),
        n_asked: 0,
        system: System::new()?,
    };

    let measured = tokio::select! {
        biased;
        () = interrupts.next() => None,
        measured = bench.start_and_measure(&args) => Some(measured),
    };
    bench.group.stop().await;

    let Some(measured) = measured else {
        return Ok(Outcome::Interrupted);
    };
    let table = measured?.table(&args);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        table.print();
    }
    Ok(Outcome::Done)
}

struct Bench {
    plain: Plain,
    group: Group,
    rng: ChaCha12Rng,
    n_asked: u64,
    system: System,
}

/// What all rounds gave.
#[derive(Debug, Default)]
struct Measured {
    /// For each of [`PROMPTS`]: the group's and plain llama.cpp's.
    ttft: [(Vec<Duration>, Vec<Duration>); 2],
    group_gaps: Vec<Duration>,
    plain_gaps: Vec<Duration>,
    group_cpu: Duration,
    plain_cpu: Duration,
    bytes_per_token: u64,
    n_tokens: u64,
    same_text: bool,
    rss_bytes: Vec<u64>,
}

impl Bench {
    async fn start_and_measure(&mut self, args: &Args) -> Result<Measured> {
        self.group
            .start(&args.group, Meeting::Told, |_, _| {})
            .await?;

        self.measure(args.rounds, args.tokens).await
    }

    async fn measure(&mut self, rounds: u32, n_tokens: u32) -> Result<Measured> {
        let mut measured = Measured {
            same_text: true,
            ..Measured::default()
        };
        let warm_up = self.prompt(SHORT_PROMPT);
        self.ask(&warm_up, 4).await?;
        self.plain.run(&warm_up, 4)?;

        for _ in 0..rounds {
            for (i, n_prompt) in PROMPTS.into_iter().enumerate() {
                let prompt = self.prompt(n_prompt);
                measured.ttft[i].0.push(self.ask(&prompt, 1).await?.0.ttft);
                measured.ttft[i].1.push(self.plain.run(&prompt, 1)?.ttft);
            }
            self.decode_round(n_tokens, &mut measured).await?;
        }
        measured.rss_bytes = self.rss_bytes();

        Ok(measured)
    }

    async fn decode_round(&mut self, n_tokens: u32, measured: &mut Measured) -> Result<()> {
        let prompt = self.prompt(SHORT_PROMPT);
        let phones = self.group.process_ids();

        let cpu = self.cpu(&phones);
        let (group, figures) = self.ask(&prompt, n_tokens).await?;
        measured.group_cpu += self.cpu(&phones) - cpu;

        let me = [std::process::id()];
        let cpu = self.cpu(&me);
        let plain = self.plain.run(&prompt, n_tokens as usize)?;
        measured.plain_cpu += self.cpu(&me) - cpu;

        measured.same_text &= group.tokens == plain.tokens;
        measured.group_gaps.extend(group.gaps);
        measured.plain_gaps.extend(plain.gaps);
        measured.bytes_per_token = figures.bytes_per_token;
        measured.n_tokens += u64::from(n_tokens);
        Ok(())
    }

    /// Makes a prompt that no cache has seen.
    fn prompt(&mut self, n_tokens: usize) -> Vec<u32> {
        let n_vocab = self.plain.n_vocab();

        (0..n_tokens)
            .map(|_| self.rng.random_range(0..n_vocab))
            .collect()
    }

    async fn ask(&mut self, prompt: &[u32], n_tokens: u32) -> Result<(Run, Figures)> {
        let id = self.n_asked;
        self.n_asked += 1;
        let ask = Ask {
            prompt: Prompt::Tokens(prompt.to_vec()),
            max_tokens: n_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: true,
            written: Vec::new(),
        };

        let started = Instant::now();
        self.group.ask(ASKED, id, ask).await?;
        let mut run = Run {
            ttft: Duration::ZERO,
            gaps: Vec::new(),
            tokens: Vec::new(),
        };
        let mut last = started;
        loop {
            match self.group.answer_line(ASKED, id).await? {
                Line::Token { token, .. } => {
                    let now = Instant::now();
                    if run.tokens.is_empty() {
                        run.ttft = now - started;
                    } else {
                        run.gaps.push(now - last);
                    }
                    run.tokens.push(token);
                    last = now;
                }
                Line::Done { figures, .. } => return Ok((run, figures)),
                Line::Error { message, .. } => bail!("{message}"),
                _ => {}
            }
        }
    }

    /// Returns the processor time that processes have used so far, to a hundredth of a second.
    fn cpu(&mut self, processes: &[u32]) -> Duration {
        let pids = processes
            .iter()
            .map(|&id| Pid::from_u32(id))
            .collect::<Vec<_>>();
        let what = ProcessRefreshKind::nothing().with_cpu();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::Some(&pids), false, what);

        let times = pids.iter().filter_map(|&pid| self.system.process(pid));
        Duration::from_millis(times.map(|process| process.accumulated_cpu_time()).sum())
    }

    fn rss_bytes(&mut self) -> Vec<u64> {
        let pids = self.group.process_ids();
        let pids = pids.into_iter().map(Pid::from_u32).collect::<Vec<_>>();
        let what = ProcessRefreshKind::nothing().with_memory();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::Some(&pids), false, what);

        let processes = pids.iter().filter_map(|&pid| self.system.process(pid));
        processes.map(sysinfo::Process::memory).collect()
    }
}

/// The figures, as they are printed.
#[derive(Debug, Serialize)]
struct Table {
    model: String,
    phones: u32,
    threads: u32,
    rounds: u32,
    rows: Vec<Row>,
    bytes_per_token: u64,
    same_text: bool,
    phone_rss_mb: Vec<f64>,
}

/// One figure: the group's, plain llama.cpp's, and how many times as much the group takes.
#[derive(Debug, Serialize)]
struct Row {
    figure: String,
    group: f64,
    plain: f64,
    ratio: f64,
}

impl Measured {
    fn table(&self, args: &Args) -> Table {
        let mut rows = Vec::new();
        for (n_prompt, (group, plain)) in PROMPTS.iter().zip(&self.ttft) {
            let name = format!("TTFT, prompt of {n_prompt}, median ms");
            rows.push(Row::new(name, quantile(group, 0.5), quantile(plain, 0.5)));
        }
        for (name, q) in [("TPOT p50 ms", 0.5), ("TPOT p95 ms", 0.95)] {
            let (group, plain) = (&self.group_gaps, &self.plain_gaps);
            rows.push(Row::new(
                name.into(),
                quantile(group, q),
                quantile(plain, q),
            ));
        }
        let per_token = |cpu: Duration| cpu.as_secs_f64() * 1e3 / self.n_tokens as f64;
        rows.push(Row::new(
            "CPU ms a token".into(),
            per_token(self.group_cpu),
            per_token(self.plain_cpu),
        ));

        Table {
            model: args.group.model.model.display().to_string(),
            phones: args.group.phones,
            threads: args.group.phone.threads,
            rounds: args.rounds,
            rows,
            bytes_per_token: self.bytes_per_token,
            same_text: self.same_text,
            phone_rss_mb: self.rss_bytes.iter().map(|&b| b as f64 / 1e6).collect(),
        }
    }
}

impl Table {
    fn print(&self) {
        println!(
            "{}: {} phones of {} threads against plain llama.cpp, {} rounds\n",
            self.model, self.phones, self.threads, self.rounds
        );
        println!("{:32}{:>10}{:>10}{:>8}", "", "group", "plain", "ratio");
        for row in &self.rows {
            println!(
                "{:32}{:>10.2}{:>10.2}{:>8.3}",
                row.figure, row.group, row.plain, row.ratio
            );
        }
        println!("\nbytes a token between phones: {}", self.bytes_per_token);
        println!("same tokens as plain llama.cpp: {}", self.same_text);
        let rss = self.phone_rss_mb.iter().map(|mb| format!("{mb:.0}"));
        println!(
            "memory of the phones, MB: {}",
            rss.collect::<Vec<_>>().join(", ")
        );
    }
}

impl Row {
    fn new(figure: String, group: f64, plain: f64) -> Self {
        Self {
            figure,
            group,
            plain,
            ratio: group / plain,
        }
    }
}

/// Returns a quantile in milliseconds; 0 of nothing.
fn quantile(durations: &[Duration], q: f64) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;

    sorted.get(rank).map_or(0.0, |d| d.as_secs_f64() * 1e3)
}

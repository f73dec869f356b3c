//! How quick placement is, what it is worth, and what it is worth when the figures are wrong.
//!
//! ```text
//! cargo bench -p tests --bench placement              all of it: a few minutes on one core
//! cargo bench -p tests --bench placement -- times     or `table`, or `metric`
//! ```
//!
//! It prints and does not judge. Every group is drawn by seed (`sim::random_group`), so the plans
//! and their predicted figures are the same on every machine; only times differ.

#![allow(clippy::print_stdout)] // printing is what it is for

use std::collections::BTreeMap;
use std::time::Instant;

use proto::PeerId;
use proto::placement::{
    Baseline, Forecast, Objective, Optimality, Placement, Problem, StagePlacement, evaluate,
    oracle, solve, solve_without_reasons,
};
use sim::random_group::{
    Air, BLOOM_1B7, CABLE, LLAMA_1B, LLAMA_8B, POOR_WIFI, Shape, WIFI, group, perturbed,
};

const OBJECTIVES: [Objective; 2] = [Objective::Latency, Objective::Throughput];
const SHAPES: [Shape; 3] = [LLAMA_1B, LLAMA_8B, BLOOM_1B7];
const AIRS: [Air; 3] = [CABLE, WIFI, POOR_WIFI];

/// Sizes that are timed, with the limits of each objective: phones, shards, milliseconds.
const SIZES: [(usize, usize, [f64; 2]); 3] = [
    (6, 16, [30.0, 300.0]),
    (6, 24, [f64::INFINITY, f64::INFINITY]),
    (8, 32, [500.0, 3000.0]),
];

/// Groups timed at each size, a third on each kind of link.
const TIMED_GROUPS: u64 = 150;

/// Groups in the table, of 2 to 6 phones.
const TABLE_GROUPS: u64 = 300;

/// Groups whose figures are perturbed, of 4 phones, and draws for each.
const METRIC_GROUPS: u64 = 20;
const METRIC_DRAWS: u64 = 200;

/// A Linux tick at 100 Hz.
const TICK_MS: f64 = 10.0;

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let runs = |part: &str| wanted.as_deref().is_none_or(|wanted| wanted == part);

    if runs("times") {
        print_times();
    }
    if runs("table") {
        OBJECTIVES.into_iter().for_each(print_table);
    }
    if runs("metric") {
        print_metric_check();
    }
}

/// Solve times against their limits.
fn print_times() {
    println!("Solve times in ms of one core over {TIMED_GROUPS} random groups: median / p95 / max");
    println!("objective    size    solver and limit              with reasons          DP alone");

    for (i, objective) in OBJECTIVES.into_iter().enumerate() {
        for (n_phones, n_shards, limits_ms) in SIZES {
            let timed = TimedGroups::run(n_phones, n_shards, objective);
            println!(
                "{:<12} {n_phones} × {n_shards}  {} ≤ {:<5} {} {}   fell back {}, over limit {}",
                format!("{objective:?}"),
                spread(&timed.solver_ms),
                limits_ms[i],
                spread(&timed.reasons_ms),
                spread(&timed.dp_ms),
                timed.fell_back,
                timed
                    .solver_ms
                    .iter()
                    .filter(|&&ms| ms > limits_ms[i])
                    .count(),
            );
        }
    }
}

#[derive(Default)]
struct TimedGroups {
    solver_ms: Vec<f64>,
    reasons_ms: Vec<f64>,
    dp_ms: Vec<f64>,
    fell_back: usize,
}

impl TimedGroups {
    fn run(n_phones: usize, n_shards: usize, objective: Objective) -> Self {
        let shape = Shape {
            n_shards,
            ..LLAMA_1B
        };
        let mut timed = Self::default();

        for seed in 0..TIMED_GROUPS {
            let air = &AIRS[seed as usize % AIRS.len()];
            let problem = group(seed, n_phones, &shape, air, objective);

            let (placement, ms) = time(|| solve_without_reasons(&problem));
            timed.solver_ms.push(ms);
            timed.reasons_ms.push(time(|| solve(&problem)).1);
            timed.dp_ms.push(time(|| oracle(&problem)).1);
            let optimality = placement.map(|placement| placement.optimality);
            timed.fell_back += usize::from(matches!(optimality, Ok(Optimality::FellBackToDp(_))));
        }

        timed
    }
}

/// What each way to place costs, relative to the exact best, by shape and link.
fn print_table(objective: Objective) {
    let what = match objective {
        Objective::Latency => "Predicted TPOT relative to the exact best (1.00: as quick)",
        Objective::Throughput => "Predicted throughput relative to the exact best (1.00: as many)",
    };
    println!("\n{what}");
    println!(
        "median and worst over {TABLE_GROUPS} groups; in brackets: % of groups that can run it"
    );
    let ways = [
        "ours",
        "even",
        "memory",
        "speed",
        "paper",
        "paper, true memory",
    ];
    let ways = ways.map(|way| format!("{way:>20}")).concat();
    println!("{:<22}{ways}{:>8}", "model, link", "groups");

    let mut all = BTreeMap::new();
    for shape in &SHAPES {
        for air in &AIRS {
            let row = Row::of(shape, air, objective);
            println!(
                "{:<22}{}",
                format!("{}, {}", shape.name, air.name),
                row.text(objective)
            );
            row.add_to(&mut all);
        }
    }

    println!("{:<22}{}", "all", Row::sum(all).text(objective));
}

/// Ratios to the best by way: ours is 0, then the baselines.
#[derive(Default)]
struct Row {
    ratios: BTreeMap<usize, Vec<f64>>,
    groups: usize,
}

impl Row {
    fn of(shape: &Shape, air: &Air, objective: Objective) -> Self {
        let mut row = Self::default();

        for seed in 0..TABLE_GROUPS {
            let n_phones = 2 + seed as usize % 5;
            let problem = group(seed, n_phones, shape, air, objective);
            let Some((_, best)) = oracle(&problem) else {
                continue; // nothing fits
            };
            row.groups += 1;

            let ours = solve_without_reasons(&problem)
                .expect("the oracle found a plan")
                .forecast;
            row.note(0, &ours, &best, objective);
            for (i, baseline) in Baseline::ALL.into_iter().enumerate() {
                let proposal = baseline.place(&problem);
                if let Some(proposal) = proposal.filter(|proposal| proposal.violation.is_none()) {
                    row.note(i + 1, &proposal.forecast, &best, objective);
                }
            }
        }

        row
    }

    fn note(&mut self, way: usize, found: &Forecast, best: &Forecast, objective: Objective) {
        let ratio = match objective {
            Objective::Latency => found.tpot_s / best.tpot_s,
            Objective::Throughput => best.busiest_s / found.busiest_s,
        };
        self.ratios.entry(way).or_default().push(ratio);
    }

    fn add_to(self, all: &mut BTreeMap<usize, (Vec<f64>, usize)>) {
        for way in 0..=Baseline::ALL.len() {
            let (ratios, groups) = all.entry(way).or_default();
            ratios.extend(self.ratios.get(&way).into_iter().flatten());
            *groups += self.groups;
        }
    }

    fn sum(all: BTreeMap<usize, (Vec<f64>, usize)>) -> Self {
        let groups = all[&0].1;
        let ratios = all.into_iter().map(|(way, (ratios, _))| (way, ratios));

        Self {
            ratios: ratios.collect(),
            groups,
        }
    }

    fn text(&self, objective: Objective) -> String {
        let ways = (0..=Baseline::ALL.len()).map(|way| {
            let mut ratios = self.ratios.get(&way).cloned().unwrap_or_default();
            ratios.sort_by(f64::total_cmp);
            let can_run = 100 * ratios.len() / self.groups.max(1);
            let worst = match objective {
                Objective::Latency => quantile(&ratios, 1.0),
                Objective::Throughput => quantile(&ratios, 0.0),
            };
            format!(
                "{:>22}",
                format!("{:.2} {worst:.2} ({can_run})", quantile(&ratios, 0.5))
            )
        });

        format!("{}{:>8}", ways.collect::<String>(), self.groups)
    }
}

/// What plans made from wrong figures cost with the right ones, and how much they differ.
fn print_metric_check() {
    println!(
        "\nFigures off by up to ± spread: {METRIC_GROUPS} groups of 4, {METRIC_DRAWS} draws each"
    );
    println!(
        "{:<12} spread   regret %: median / p95 / max     plans changed %   shards moved %",
        ""
    );

    for objective in OBJECTIVES {
        for spread in [0.1, 0.2] {
            let check = MetricCheck::run(objective, spread);
            println!(
                "{:<12} ± {:>2} %   {}            {:>15.1} {:>16.1}   {} groups that fit",
                format!("{objective:?}"),
                spread * 100.0,
                self::spread(&check.regrets_percent),
                100.0 * check.changed as f64 / check.draws as f64,
                100.0 * check.moved_share / check.draws as f64,
                check.draws as u64 / METRIC_DRAWS,
            );
        }
    }
}

#[derive(Default)]
struct MetricCheck {
    regrets_percent: Vec<f64>,
    draws: usize,
    changed: usize,
    /// Sum over draws of the share of shards that are on another phone.
    moved_share: f64,
}

impl MetricCheck {
    fn run(objective: Objective, spread: f64) -> Self {
        let mut check = Self::default();

        for seed in 0..METRIC_GROUPS {
            let (shape, air) = (&SHAPES[seed as usize % 3], &AIRS[seed as usize / 3 % 3]);
            let truth = group(seed, 4, shape, air, objective);
            let Ok(best) = solve_without_reasons(&truth) else {
                continue; // nothing fits
            };
            for draw in 0..METRIC_DRAWS {
                check.note(&truth, &best, &perturbed(draw, &truth, spread));
            }
        }

        check
    }

    fn note(&mut self, truth: &Problem, best: &Placement, measured: &Problem) {
        let found = solve_without_reasons(measured).expect("memory is as it was");
        let forecast = evaluate(truth, &found.stages).expect("memory is as it was");
        let cost_s = match truth.objective {
            Objective::Latency => forecast.tpot_s,
            Objective::Throughput => forecast.busiest_s,
        };

        self.draws += 1;
        self.regrets_percent
            .push(100.0 * (cost_s / best.objective_s() - 1.0));
        self.changed += usize::from(found.stages != best.stages);
        self.moved_share += moved_share(&best.stages, &found.stages, truth.shards.len());
    }
}

fn moved_share(before: &[StagePlacement], after: &[StagePlacement], n_shards: usize) -> f64 {
    let owner = |stages: &[StagePlacement], shard: usize| -> Option<PeerId> {
        let stage = stages.iter().find(|stage| stage.shards.contains(&shard));
        stage.map(|stage| stage.phone)
    };
    let moved = (0..n_shards).filter(|&shard| owner(before, shard) != owner(after, shard));

    moved.count() as f64 / n_shards as f64
}

/// Runs `work` and returns the milliseconds that it kept a core busy.
///
/// The kernel's count moves by ticks of up to [`TICK_MS`]: what is shorter is timed by the wall.
fn time<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (start_wall, start_cpu_ns) = (Instant::now(), cpu_ns());
    let result = work();
    let cpu_ns = cpu_ns().zip(start_cpu_ns).map(|(end, start)| end - start);
    let wall_ms = start_wall.elapsed().as_secs_f64() * 1e3;

    match cpu_ns {
        Some(ns) if wall_ms > 2.0 * TICK_MS => (result, ns as f64 / 1e6),
        _ => (result, wall_ms),
    }
}

/// Nanoseconds that this thread has run: Linux keeps count, and others who use the machine do not
/// disturb it. `None` elsewhere, where the clock on the wall must do.
fn cpu_ns() -> Option<u64> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;

    schedstat.split_whitespace().next()?.parse().ok()
}

fn spread(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let [median, p95, max] = [0.5, 0.95, 1.0].map(|share| quantile(&values, share));

    format!("{median:>7.1} {p95:>7.1} {max:>7.1}")
}

/// The value below which `share` of the sorted values lie; NaN if there are none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);

    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

//! A group and its plans, as data for programs and as tables for people.
//!
//! A [`Report`] is made of what was measured and of the problem that it makes; nothing is asked or
//! measured for it. Its JSON is what programs read, its [`Display`](fmt::Display) what people do.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gguf_tools::Manifest;
use proto::PeerId;
use proto::device::{Snapshot, Thermal};
use proto::placement::{
    Baseline, Forecast, Objective, Placement, Problem, SolveError, StagePlacement, alone, solve,
};
use proto::profile::{LinkKnowledge, Profile};
use serde::Serialize;

/// What is known of a phone.
#[derive(Debug, Clone)]
pub struct PhoneFacts {
    /// What it can do, if that was measured.
    pub profile: Option<Profile>,
    /// How it is, if it said so.
    pub snapshot: Option<Snapshot>,
}

/// A group, its links, its best plan, and others to compare it with.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Its layers.
    pub n_layers: u32,
    /// What counts as good.
    pub objective: Objective,
    /// Tokens of the prompt that forecasts assume.
    pub prompt_tokens: u32,
    /// Tokens that a conversation may have.
    pub context_tokens: u32,
    /// Conversations at once.
    pub sessions: u32,
    /// The phones.
    pub phones: Vec<PhoneRow>,
    /// The ways between them.
    pub links: Vec<LinkRow>,
    /// The best plan, first; then each phone alone; then the rules of thumb.
    pub plans: Vec<PlanRow>,
    /// Why there is no plan.
    pub error: Option<String>,
}

/// A phone and its figures.
#[derive(Debug, Clone, Serialize)]
pub struct PhoneRow {
    /// Its name.
    pub name: String,
    /// Whether it holds the ends.
    pub head: bool,
    /// Memory that it may use.
    pub budget_bytes: Option<u64>,
    /// Threads that it computes with.
    pub threads: Option<u32>,
    /// Milliseconds of a decode step through a layer, at the planned prompt.
    pub decode_ms: Option<f64>,
    /// How far readings of it were from it.
    pub decode_spread_ms: Option<f64>,
    /// Milliseconds of prefill through a layer for each token.
    pub prefill_ms: Option<f64>,
    /// Milliseconds of the ends for a token.
    pub ends_ms: Option<f64>,
    /// Gigabytes a second that it reads from memory.
    pub memory_gb_per_s: Option<f64>,
    /// Seconds since its figures were measured.
    pub age_s: Option<u64>,
    /// Battery, in percent.
    pub battery_percent: Option<u8>,
    /// Whether it is being charged.
    pub charging: Option<bool>,
    /// How hot it is.
    pub thermal: Option<Thermal>,
    /// Why it got what it got in the best plan.
    pub verdict: Option<String>,
}

/// A way from one phone to another.
#[derive(Debug, Clone, Serialize)]
pub struct LinkRow {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Milliseconds there and back; `None` if the phones cannot talk.
    pub rtt_ms: Option<f64>,
    /// How far readings of it were from it.
    pub rtt_spread_ms: Option<f64>,
    /// Megabytes a second.
    pub goodput_mb_per_s: Option<f64>,
    /// Seconds since it was measured.
    pub age_s: Option<u64>,
}

/// A plan and what is expected of it.
#[derive(Debug, Clone, Serialize)]
pub struct PlanRow {
    /// How it came about.
    pub name: String,
    /// Who runs which layers, in ring order.
    pub stages: Vec<StageRow>,
    /// What is expected of it, if it could run.
    pub forecast: Option<Forecast>,
    /// Tokens a second of one conversation.
    pub tokens_per_s: Option<f64>,
    /// Tokens a second of all conversations together.
    pub tokens_per_s_of_all: Option<f64>,
    /// Why it cannot run.
    pub problem: Option<String>,
}

/// A stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageRow {
    /// Who.
    pub phone: String,
    /// Its layers, from the first to the one after the last.
    pub layers: [u32; 2],
}

impl Report {
    /// Makes a report of a group.
    ///
    /// `facts` are those of the problem's phones, `links` those that the problem was made of.
    pub fn new(
        manifest: &Manifest,
        problem: &Problem,
        facts: &BTreeMap<PeerId, PhoneFacts>,
        links: &BTreeMap<(PeerId, PeerId), LinkKnowledge>,
    ) -> Self {
        let solved = solve(problem);
        let names = Names::of(problem);
        let placed = solved.as_ref().ok();
        let verdict = |id| {
            let verdicts = placed.map_or(&[][..], |placement| &placement.verdicts);
            let verdict = verdicts.iter().find(|verdict| verdict.phone == id);
            verdict.map(|verdict| verdict.reason.to_string())
        };

        let phones = problem.phones.iter().map(|phone| {
            let facts = facts.get(&phone.id);
            PhoneRow {
                verdict: verdict(phone.id),
                ..phone_row(problem, &phone.name, phone.id, facts)
            }
        });
        let phones = phones.collect();
        let links = links.iter().map(|(pair, link)| names.link(*pair, link));

        Self {
            model: manifest.name.clone(),
            n_layers: manifest.n_layers,
            objective: problem.objective,
            prompt_tokens: problem.workload.prompt_tokens,
            context_tokens: problem.workload.context_tokens,
            sessions: problem.workload.sessions,
            phones,
            links: links.collect(),
            plans: plans(manifest, problem, &names, &solved),
            error: solved.err().map(|error| error.to_string()),
        }
    }
}

/// Returns the best plan, each phone alone, and the rules of thumb.
fn plans(
    manifest: &Manifest,
    problem: &Problem,
    names: &Names,
    solved: &Result<Placement, SolveError>,
) -> Vec<PlanRow> {
    // Of figures that are not there nothing can be forecast.
    if problem.validate().is_err() {
        return Vec::new();
    }
    let row = |name: String, stages: &[StagePlacement], forecast: Forecast| PlanRow {
        name,
        stages: stages.iter().map(|s| names.stage(manifest, s)).collect(),
        tokens_per_s: Some(forecast.tokens_per_s()),
        tokens_per_s_of_all: Some(forecast.tokens_per_s_of(problem.workload.sessions)),
        forecast: Some(forecast),
        problem: None,
    };
    let none = |name: String, why: String| PlanRow {
        name,
        stages: Vec::new(),
        forecast: None,
        tokens_per_s: None,
        tokens_per_s_of_all: None,
        problem: Some(why),
    };

    let best = match solved {
        Ok(placement) => row("best".into(), &placement.stages, placement.forecast),
        Err(error) => none("best".into(), error.to_string()),
    };
    let lonely = problem.phones.iter().map(|phone| {
        let name = format!("{} alone", phone.name);
        match alone(problem, phone.id) {
            Ok(placement) => row(name, &placement.stages, placement.forecast),
            Err(error) => none(name, error.to_string()),
        }
    });
    let baselines = Baseline::ALL.into_iter().map(|baseline| {
        let name = baseline_name(baseline).to_owned();
        match baseline.place(problem) {
            Some(proposal) => PlanRow {
                problem: proposal.violation.map(|violation| violation.to_string()),
                ..row(name, &proposal.stages, proposal.forecast)
            },
            None => none(name, "the rule knows no plan".into()),
        }
    });

    std::iter::once(best)
        .chain(lonely)
        .chain(baselines)
        .collect()
}

fn baseline_name(baseline: Baseline) -> &'static str {
    match baseline {
        Baseline::Even => "evenly",
        Baseline::MemoryProportional => "by memory",
        Baseline::SpeedProportional => "by speed",
        Baseline::Paper => "LinguaLinked's",
        Baseline::PaperWithMemory => "LinguaLinked's, with memory",
    }
}

fn phone_row(problem: &Problem, name: &str, id: PeerId, facts: Option<&PhoneFacts>) -> PhoneRow {
    let profile = facts.and_then(|facts| facts.profile.as_ref());
    let snapshot = facts.and_then(|facts| facts.snapshot.as_ref());
    let battery = snapshot.and_then(|snapshot| snapshot.battery);
    let prompt_tokens = problem.workload.prompt_tokens;

    PhoneRow {
        name: name.to_owned(),
        head: id == problem.head,
        budget_bytes: snapshot.map(|snapshot| snapshot.budget_bytes),
        threads: profile.map(|profile| profile.n_threads),
        decode_ms: profile.map(|profile| profile.decode_s_at(prompt_tokens) * 1e3),
        decode_spread_ms: profile.map(|profile| profile.decode_s.figures[0].spread() * 1e3),
        prefill_ms: profile.map(|profile| profile.prefill_s_at(prompt_tokens / 2) * 1e3),
        ends_ms: profile.map(|profile| profile.ends_decode_s() * 1e3),
        memory_gb_per_s: profile.map(|profile| profile.memory_bytes_per_s.value() / 1e9),
        age_s: profile.map(|profile| profile.decode_s.figures[0].age().as_secs()),
        battery_percent: battery.map(|battery| battery.percent.min(100)),
        charging: battery.map(|battery| battery.charging),
        thermal: snapshot.map(|snapshot| snapshot.thermal),
        verdict: None,
    }
}

/// What people call the phones.
struct Names(BTreeMap<PeerId, String>);

impl Names {
    fn of(problem: &Problem) -> Self {
        let phones = problem.phones.iter();

        Self(phones.map(|phone| (phone.id, phone.name.clone())).collect())
    }

    fn name(&self, phone: PeerId) -> String {
        let name = self.0.get(&phone).cloned();

        name.unwrap_or_else(|| phone.to_string())
    }

    fn stage(&self, manifest: &Manifest, stage: &StagePlacement) -> StageRow {
        let entries = manifest.layers.get(stage.shards.clone()).unwrap_or(&[]);
        let layers = |entry: Option<&gguf_tools::ShardEntry>| entry.and_then(|e| e.layers());
        let start = layers(entries.first()).map_or(0, |layers| layers.start());
        let end = layers(entries.last()).map_or(0, |layers| layers.end());

        StageRow {
            phone: self.name(stage.phone),
            layers: [start, end],
        }
    }

    fn link(&self, (from, to): (PeerId, PeerId), link: &LinkKnowledge) -> LinkRow {
        let way = match link {
            LinkKnowledge::Way(way) => Some(way),
            LinkKnowledge::Unreachable => None,
        };

        LinkRow {
            from: self.name(from),
            to: self.name(to),
            rtt_ms: way.map(|way| way.rtt_s.value() * 1e3),
            rtt_spread_ms: way.map(|way| way.rtt_s.spread() * 1e3),
            goodput_mb_per_s: way.map(|way| way.goodput_bytes_per_s.value() / 1e6),
            age_s: way.map(|way| way.rtt_s.age().as_secs()),
        }
    }
}

/// Four tables: phones, links, plans, and why.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objective = match self.objective {
            Objective::Latency => "one answer as fast as can be",
            Objective::Throughput => "many answers at once",
        };
        writeln!(
            f,
            "{}, {} layers, for {objective}: prompts of {} tokens, {} conversations of {}\n",
            self.model, self.n_layers, self.prompt_tokens, self.sessions, self.context_tokens
        )?;

        self.write_phones(f)?;
        self.write_links(f)?;
        self.write_plans(f)?;
        self.write_reasons(f)
    }
}

impl Report {
    fn write_phones(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "phone",
            "memory",
            "threads",
            "layer ms",
            "±",
            "prefill ms",
            "ends ms",
            "reads",
            "battery",
            "heat",
            "age",
        ]);
        for phone in &self.phones {
            table.row([
                format!("{}{}", phone.name, if phone.head { " *" } else { "" }),
                or_dash(phone.budget_bytes, |bytes| bytes_of(bytes as f64)),
                or_dash(phone.threads, |n| n.to_string()),
                or_dash(phone.decode_ms, milliseconds),
                or_dash(phone.decode_spread_ms, milliseconds),
                or_dash(phone.prefill_ms, milliseconds),
                or_dash(phone.ends_ms, milliseconds),
                or_dash(phone.memory_gb_per_s, |gb| format!("{gb:.1} GB/s")),
                or_dash(phone.battery_percent, |percent| {
                    let plugged = if phone.charging == Some(true) {
                        "+"
                    } else {
                        ""
                    };
                    format!("{percent} %{plugged}")
                }),
                or_dash(phone.thermal, |heat| heat_of(heat).into()),
                or_dash(phone.age_s, age_of),
            ]);
        }
        write!(f, "{table}")?;
        writeln!(
            f,
            "* holds the ends; layer: a token through one layer; prefill: the same, in a chunk\n"
        )
    }

    fn write_links(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.links.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["from", "to", "round trip", "±", "goodput", "age"]);
        for link in &self.links {
            let unreachable = || "cannot be reached".to_owned();
            table.row([
                link.from.clone(),
                link.to.clone(),
                link.rtt_ms
                    .map_or_else(unreachable, |ms| format!("{} ms", milliseconds(ms))),
                or_dash(link.rtt_spread_ms, milliseconds),
                or_dash(link.goodput_mb_per_s, |mb| format!("{mb:.1} MB/s")),
                or_dash(link.age_s, age_of),
            ]);
        }

        writeln!(f, "{table}")
    }

    fn write_plans(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plans.is_empty() {
            return Ok(());
        }
        let mut table = Table::new([
            "plan",
            "first word",
            "a token",
            "tokens/s",
            "of all",
            "layers",
        ]);
        for plan in &self.plans {
            let stages = plan.stages.iter().map(|stage| {
                let [start, end] = stage.layers;
                format!("{} {start}–{}", stage.phone, end.saturating_sub(1))
            });
            let stages = stages.collect::<Vec<_>>().join(" → ");
            let problem = plan.problem.as_ref().map(|why| format!("[{why}]"));
            let notes = [stages, problem.unwrap_or_default()];
            table.row([
                plan.name.clone(),
                or_dash(plan.forecast, |forecast| seconds(forecast.ttft_s)),
                or_dash(plan.forecast, |forecast| seconds(forecast.tpot_s)),
                or_dash(plan.tokens_per_s, |n| format!("{n:.1}")),
                or_dash(plan.tokens_per_s_of_all, |n| format!("{n:.1}")),
                notes.join(" ").trim().to_owned(),
            ]);
        }

        writeln!(f, "{table}")
    }

    fn write_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            writeln!(f, "There is no plan: {error}.")?;
        }
        for phone in &self.phones {
            if let Some(verdict) = &phone.verdict {
                writeln!(f, "{} {verdict}.", phone.name)?;
            }
        }

        Ok(())
    }
}

/// Columns as wide as what is in them; numbers to the right, the first and the last to the left.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(heads: [&str; N]) -> Self {
        Self {
            rows: vec![heads.map(str::to_owned)],
        }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);

        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                let is_text = column == 0 || column + 1 == N;
                line.push_str(if column == 0 { "" } else { "  " });
                line.push_str(if is_text { "" } else { &pad });
                line.push_str(cell);
                line.push_str(if is_text { &pad } else { "" });
            }
            writeln!(f, "{}", line.trim_end())?;
        }

        Ok(())
    }
}

fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// Three digits that say something.
fn milliseconds(ms: f64) -> String {
    let decimals = match ms {
        ms if ms < 0.1 => 3,
        ms if ms < 10.0 => 2,
        ms if ms < 100.0 => 1,
        _ => 0,
    };

    format!("{ms:.decimals$}")
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", milliseconds(seconds * 1e3))
    } else {
        format!("{seconds:.1} s")
    }
}

fn bytes_of(bytes: f64) -> String {
    if bytes < 1e9 {
        format!("{:.0} MB", bytes / 1e6)
    } else {
        format!("{:.1} GB", bytes / 1e9)
    }
}

fn age_of(age_s: u64) -> String {
    let age = Duration::from_secs(age_s).as_secs();

    match age {
        0..60 => format!("{age} s"),
        60..3600 => format!("{} min", age / 60),
        3600..86_400 => format!("{} h", age / 3600),
        _ => format!("{} d", age / 86_400),
    }
}

fn heat_of(thermal: Thermal) -> &'static str {
    match thermal {
        Thermal::Nominal => "well",
        Thermal::Fair => "warm",
        Thermal::Serious => "hot",
        Thermal::Critical => "too hot",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["phone", "ms", "layers"]);
        table.row(["Ann".into(), "10.5".into(), "0–9".into()]);
        table.row(["Zoë".into(), "1".into(), "10–19".into()]);

        let text = table.to_string();

        assert_eq!(
            text,
            "phone    ms  layers\nAnn    10.5  0–9\nZoë       1  10–19\n"
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(milliseconds(0.0123), "0.012");
        assert_eq!(milliseconds(1.234), "1.23");
        assert_eq!(milliseconds(56.78), "56.8");
        assert_eq!(milliseconds(1234.0), "1234");
        assert_eq!(seconds(2.34), "2.3 s");
        assert_eq!(age_of(7300), "2 h");
        assert_eq!(bytes_of(3.21e9), "3.2 GB");
    }
}

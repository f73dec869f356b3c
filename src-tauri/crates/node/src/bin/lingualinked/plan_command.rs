//! `lingualinked plan`: who would run what, and what to expect of it.
//!
//! This machine is measured, or was some time ago. Other phones are described by a file: each is
//! this machine made slower, with memory and a link of its own. Nothing is moved and nobody is
//! asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use gguf_tools::{Cut, Gguf, Sample};
use node::device::{Desktop, Source};
use node::engine_thread::EngineConfig;
use node::figures::{FRESH, Figures};
use node::measure;
use node::model_file;
use node::report::{PhoneFacts, Report};
use proto::PeerId;
use proto::device::{Battery, Policy, Relief, Snapshot, Thermal};
use proto::placement::{Objective, PHONES_MAX};
use proto::profile::{Candidate, Figure, Group, LinkKnowledge, Pace, Profile, Way, problem};
use serde::Deserialize;

use crate::Outcome;
use crate::args::{ModelArgs, one_to};

/// Bytes of a file that describes phones, at most: some dozens take 10 kB.
const PHONES_BYTES_MAX: u64 = 1 << 20;

/// Round trip and goodput of a phone that is described without: Wi-Fi in one room, 5 ms and
/// 20 MB/s. A guess.
const RTT_MS: f64 = 5.0;
const GOODPUT_MB_PER_S: f64 = 20.0;

/// Options of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What counts as good
    #[arg(long, value_enum, default_value_t = Goal::Latency)]
    objective: Goal,
    /// Other phones, as a JSON list; see the README
    #[arg(long, value_name = "FILE")]
    phones: Option<PathBuf>,
    /// Tokens of the prompt that forecasts assume
    #[arg(long, default_value_t = 256, value_parser = one_to(proto::plan::N_CTX_MAX))]
    prompt: u32,
    /// Name of this machine
    #[arg(long, default_value = "this")]
    name: String,
    /// Threads to try, at most [default: all cores]
    #[arg(long, value_parser = one_to(64))]
    threads: Option<u32>,
    /// Plan for this machine made so many times slower
    #[arg(long, default_value_t = 1.0, value_parser = crate::args::slowdown)]
    slowdown: f64,
    /// Bytes that this machine may use for its part of the model
    #[arg(long, value_name = "BYTES")]
    memory_limit: Option<u64>,
    /// Keep what was measured in this folder, and take it from there while it is fresh
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
}

/// What counts as good.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Goal {
    /// One answer as fast as can be
    Latency,
    /// Many answers at once
    Throughput,
}

/// A phone as a file describes it: how it differs from this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    name: String,
    /// How many times slower it computes than this machine.
    slowdown: f64,
    /// Memory that it may use.
    memory_bytes: u64,
    #[serde(default)]
    rtt_ms: Option<f64>,
    #[serde(default)]
    goodput_mb_per_s: Option<f64>,
    #[serde(default)]
    battery: Option<Battery>,
    #[serde(default)]
    thermal: Thermal,
    #[serde(default)]
    excluded: bool,
}

/// A phone of the group that is planned for.
struct Member {
    name: String,
    is_excluded: bool,
    profile: Profile,
    snapshot: Snapshot,
    rtt_s: f64,
    goodput_bytes_per_s: f64,
}

/// Plans.
pub fn run(args: &Args) -> Result<Outcome> {
    let described = args.phones.as_deref().map_or(Ok(Vec::new()), described)?;
    let path = &args.model.model;
    let gguf = Gguf::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let n_phones = 1 + described.len() as u32; // at most PHONES_MAX
    let cut = model_file::open_and_cut(path, args.model.run.n_shards(n_phones))?;
    let sample = Sample::of(&gguf)?;

    let mut members = vec![this_machine(args, &sample)?];
    for phone in &described {
        let member = member(phone, &members[0])?;
        members.push(member);
    }
    let report = report(args, &cut, &sample, &members);

    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.error.is_some() {
        Outcome::Failed
    } else {
        Outcome::Done
    })
}

/// Measures this machine, unless that was done lately.
fn this_machine(args: &Args, sample: &Sample) -> Result<Member> {
    let kept = args.data.as_deref().map(Figures::new);
    let fresh = kept
        .as_ref()
        .and_then(|kept| kept.load(sample.hash()))
        .filter(|profile| profile.logits_s.age() < FRESH);
    let profile = match fresh {
        Some(profile) => profile,
        None => measured(args, sample, kept.as_ref())?,
    };

    Ok(Member {
        name: args.name.clone(),
        is_excluded: false,
        profile: slower(&profile, args.slowdown)?,
        snapshot: Desktop::new(args.memory_limit)?.snapshot(),
        rtt_s: 0.0,
        goodput_bytes_per_s: f64::INFINITY,
    })
}

fn measured(args: &Args, sample: &Sample, kept: Option<&Figures>) -> Result<Profile> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    // At its own speed: what is kept holds for every `--slowdown`.
    let config = EngineConfig {
        n_threads: args.threads.unwrap_or_else(measure::n_cores),
        memory_limit_bytes: args.memory_limit,
        slowdown: 1.0,
    };
    let profile = measure::measure(sample, folder.path(), &config)?;
    if let Some(kept) = kept {
        kept.save(&profile)
            .context("cannot keep what was measured")?;
    }

    Ok(profile)
}

fn described(path: &Path) -> Result<Vec<Described>> {
    let what = || format!("cannot read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(what)?.len();
    ensure!(
        bytes <= PHONES_BYTES_MAX,
        "{} is too long to describe phones",
        path.display()
    );
    let text = std::fs::read(path).with_context(what)?;
    let phones = serde_json::from_slice::<Vec<Described>>(&text).with_context(what)?;
    ensure!(
        phones.len() < PHONES_MAX,
        "{} phones are described, at most {} are possible",
        phones.len(),
        PHONES_MAX - 1
    );

    Ok(phones)
}

/// Makes a member of what is said of it.
fn member(phone: &Described, this: &Member) -> Result<Member> {
    let name = proto::group::Name::tidy(&phone.name).to_string();
    let rtt_s = phone.rtt_ms.unwrap_or(RTT_MS) / 1e3;
    let goodput_bytes_per_s = phone.goodput_mb_per_s.unwrap_or(GOODPUT_MB_PER_S) * 1e6;
    for number in [phone.slowdown, rtt_s, goodput_bytes_per_s] {
        Figure::new(number, 0.0).with_context(|| format!("{name}'s phone"))?;
    }

    Ok(Member {
        profile: slower(&this.profile, phone.slowdown)?,
        is_excluded: phone.excluded,
        snapshot: Snapshot {
            free_bytes: phone.memory_bytes,
            total_bytes: phone.memory_bytes,
            budget_bytes: phone.memory_bytes,
            battery: phone.battery,
            thermal: phone.thermal,
            low_memory: false,
            power_save: false,
            is_metered: false,
            policy: Policy::default(),
            relief: Relief::None,
        },
        name,
        rtt_s,
        goodput_bytes_per_s,
    })
}

/// Returns a profile so many times slower.
fn slower(profile: &Profile, slowdown: f64) -> Result<Profile> {
    let times = |figure: Figure, factor: f64| {
        let slower = Figure::new(figure.value() * factor, figure.spread() * factor);
        slower.map(|slower| slower.aged(figure.age()))
    };
    let pace = |known: Option<Figure>| {
        let known = known.map_or(1.0, |pace| pace.value());
        Figure::new(known * slowdown, 0.0).map(Some)
    };

    Ok(Profile {
        pace: Pace {
            decode: pace(profile.pace.decode)?,
            prefill: pace(profile.pace.prefill)?,
            ends: profile.pace.ends, // what it is a multiple of is slower below
        },
        embed_s: times(profile.embed_s, slowdown)?,
        logits_s: times(profile.logits_s, slowdown)?,
        sample_s: times(profile.sample_s, slowdown)?,
        memory_bytes_per_s: times(profile.memory_bytes_per_s, 1.0 / slowdown)?,
        ..profile.clone()
    })
}

fn report(args: &Args, cut: &Cut, sample: &Sample, members: &[Member]) -> Report {
    let (manifest, sizes) = (cut.manifest(|_| {}), args.model.run.sizes());
    let links = links(members);
    let phones = members.iter().enumerate().map(|(i, member)| Candidate {
        id: id(i),
        name: &member.name,
        is_excluded: member.is_excluded,
        is_unfit: false,
        may_rest: members.len() > 1,
        profile: Some(&member.profile),
        snapshot: Some(&member.snapshot),
        flash_quota_bytes: 0,
    });

    let problem = problem(&Group {
        manifest: &manifest,
        sample_layer_bytes: sample.layer_bytes(),
        head: id(0),
        phones: phones.collect(),
        links: &links,
        sizes,
        prompt_tokens: args.prompt,
        costs: measure::costs(manifest.n_embd, &sizes),
        objective: match args.objective {
            Goal::Latency => Objective::Latency,
            Goal::Throughput => Objective::Throughput,
        },
    });
    let facts = members.iter().enumerate().map(|(i, member)| {
        let facts = PhoneFacts {
            profile: Some(member.profile.clone()),
            snapshot: Some(member.snapshot),
        };
        (id(i), facts)
    });

    Report::new(&manifest, &problem, &facts.collect(), &links)
}

/// Two phones are as far from each other as the farther of them is from this machine, and their
/// link carries as much as the poorer of theirs.
fn links(members: &[Member]) -> BTreeMap<(PeerId, PeerId), LinkKnowledge> {
    let members = members.iter().enumerate();
    let pairs = members
        .clone()
        .flat_map(|a| members.clone().map(move |b| (a, b)))
        .filter(|((a, _), (b, _))| a != b);

    let way = |a: &Member, b: &Member| {
        let rtt_s = Figure::new(a.rtt_s.max(b.rtt_s), 0.0);
        let goodput = a.goodput_bytes_per_s.min(b.goodput_bytes_per_s);
        let goodput_bytes_per_s = Figure::new(goodput, 0.0);
        LinkKnowledge::Way(Way {
            rtt_s: rtt_s.expect("one of the two is described, and was checked"),
            goodput_bytes_per_s: goodput_bytes_per_s.expect("the same"),
        })
    };
    pairs
        .map(|((i, a), (j, b))| ((id(i), id(j)), way(a, b)))
        .collect()
}

/// Returns a name for a phone that has no key.
fn id(index: usize) -> PeerId {
    PeerId([index as u8 + 1; 32]) // at most PHONES_MAX
}

//! What was forecast beside what was measured, and the best plan beside the even split.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bed::{Bed, median, options, with_model};
use crate::models;

/// Tokens of a prompt: as many as plans are made for; and of an answer.
const PROMPT: u32 = 256;
const ANSWER: u32 = 32;

/// Questions of which figures are the medians, after one that warms everything up.
const QUESTIONS: usize = 3;

/// A model, and bytes for each of so many phones: too few for one of them, enough for an even split.
struct Case {
    name: &'static str,
    model: PathBuf,
    slowdowns: &'static [&'static str],
    memory_limit: &'static str,
}

/// What was measured of a plan.
struct Figures {
    stages: String,
    ttft_ms: f64,
    tpot_ms: f64,
    /// The forecast of the leader's `planned` line; of its last `measured` line, what was expected by then.
    forecast: Option<(f64, f64)>,
    corrected: Option<(f64, f64)>,
}

pub fn run(wanted: &str) {
    println!(
        "\nForecast against measurement, and the best plan against the even split: wifi, prompts of {PROMPT} tokens,"
    );
    println!(
        "answers of {ANSWER}, medians of {QUESTIONS}. Errors: how much longer it took than forecast."
    );
    for case in cases() {
        if case.name.to_lowercase().contains(wanted) {
            measure(&case);
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |name, model: &Path, slowdowns, memory_limit| Case {
        name,
        model: model.into(),
        slowdowns,
        memory_limit,
    };
    let mut cases = Vec::new();
    match models::smollm2() {
        Some(model) => cases.extend([
            case("SmolLM2-135M, 2 phones", &model, &["1", "3"], "170000000"),
            case(
                "SmolLM2-135M, 3 phones",
                &model,
                &["1", "1", "3"],
                "150000000",
            ),
        ]),
        None => println!("SmolLM2 is left out: `.ci/models smollm2` fetches it"),
    }
    let model = models::llama_1b();
    cases.extend([
        case(
            "Llama-1B shape, 2 phones",
            &model,
            &["1", "3"],
            "1100000000",
        ),
        case(
            "Llama-1B shape, 3 phones",
            &model,
            &["1", "1", "3"],
            "900000000",
        ),
    ]);

    cases
}

fn measure(case: &Case) {
    println!(
        "\n{}, slowdowns {}, {} B each",
        case.name,
        case.slowdowns.join("/"),
        case.memory_limit
    );
    let best = figures(case, "best");
    let even = figures(case, "even");

    for (name, figures) in [("best", &best), ("even", &even)] {
        println!(
            "  {name}: first token {:.0} ms, {:.1} ms a token · {}",
            figures.ttft_ms, figures.tpot_ms, figures.stages
        );
    }
    let show = |what, forecast: Option<(f64, f64)>| {
        let Some((ttft, tpot)) = forecast else {
            return println!("  {what}: none");
        };
        let error = |measured: f64, forecast: f64| 100.0 * (measured / forecast - 1.0);
        println!(
            "  {what}: first token {ttft:.0} ms ({:+.1} %), {tpot:.1} ms a token ({:+.1} %)",
            error(best.ttft_ms, ttft),
            error(best.tpot_ms, tpot)
        );
    };
    show("forecast", best.forecast);
    show("corrected by the work", best.corrected);
    println!(
        "  even / best: {:.2} a token, {:.2} to the first",
        even.tpot_ms / best.tpot_ms,
        even.ttft_ms / best.ttft_ms
    );
}

fn figures(case: &Case, placement: &str) -> Figures {
    let n = case.slowdowns.len();
    let phones = case.slowdowns.iter().enumerate().map(|(phone, slowdown)| {
        let own = [
            "--slowdown",
            slowdown,
            "--memory-limit",
            case.memory_limit,
            "--placement",
            placement,
            "--spare",
            "0",
            "--context",
            "1024",
            "--conversations",
            "1",
        ];
        match phone {
            0 => with_model(&case.model, n, &own),
            _ => options(&own),
        }
    });
    let mut bed = Bed::new(&phones.collect::<Vec<_>>());
    bed.form();
    bed.until_planned();

    bed.ask(PROMPT, ANSWER);
    let took = (0..QUESTIONS)
        .map(|_| bed.ask(PROMPT, ANSWER))
        .collect::<Vec<_>>();
    let (planned, measured) = (bed.last(0, "planned"), bed.last(0, "measured"));
    Figures {
        stages: stages(&bed.last(0, "plan")),
        ttft_ms: median(took.iter().map(|took| took.ttft_ms)),
        tpot_ms: median(took.iter().map(|took| took.tpot_ms)),
        forecast: pair(&planned["forecast"]),
        corrected: pair(&measured["corrected"]),
    }
}

fn pair(forecast: &Value) -> Option<(f64, f64)> {
    Some((forecast["ttft_ms"].as_f64()?, forecast["tpot_ms"].as_f64()?))
}

fn stages(plan: &Value) -> String {
    let stages = plan["stages"].as_array().into_iter().flatten();
    let stages = stages.map(|stage| {
        let phone = stage["phone"].as_str().unwrap_or_default();
        format!("{phone} {}–{}", stage["layers"][0], stage["layers"][1])
    });

    stages.collect::<Vec<_>>().join(" → ")
}

//! `lingualinked plan`: this machine is measured, others are described, and the plan says who would
//! run what.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::models::{tiny, trial};
use crate::program::Program;
use crate::scratch::Scratch;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("plan::this_machine_alone", this_machine_alone),
        trial("plan::a_model_that_needs_others", a_model_that_needs_others),
        trial("plan::phones_that_cannot_be", phones_that_cannot_be),
    ]
}

fn this_machine_alone() {
    let scratch = Scratch::new();
    let (model, data) = (tiny(&scratch, "tiny-llama"), scratch.path("data"));
    let arguments = [
        "plan",
        "--json",
        "--threads",
        "1",
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];

    let first = report(&scratch, &arguments);
    let second = report(&scratch, &arguments);

    assert_eq!(first["error"], Value::Null);
    assert_eq!(first["plans"][0]["name"], "best");
    assert_eq!(first["plans"][0]["stages"][0]["layers"][0], 0);
    assert!(first["phones"][0]["decode_ms"].as_f64().unwrap() > 0.0);
    // What was measured is kept.
    assert_eq!(
        first["phones"][0]["decode_ms"],
        second["phones"][0]["decode_ms"]
    );
}

/// Each phone has room for some of the model; and each of the other ways says what is in its way.
fn a_model_that_needs_others() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let phones = json!([
        {"name": "Ben", "slowdown": 2.0, "memory_bytes": 2_000_000_000u64},
        {"name": "Cem", "slowdown": 1.0, "memory_bytes": 2_000_000_000u64, "thermal": "serious"},
        {"name": "Dua", "slowdown": 1.0, "memory_bytes": 2_000_000_000u64, "excluded": true},
    ]);
    let phones = scratch.file("phones.json", phones.to_string().as_bytes());
    let arguments = [
        "plan",
        "--json",
        "--threads",
        "1",
        "--name",
        "Ann",
        "--memory-limit",
        "24000000",
        "--model",
        model.to_str().unwrap(),
        "--phones",
        phones.to_str().unwrap(),
    ];

    let report = report(&scratch, &arguments);

    let stages = report["plans"][0]["stages"].as_array().unwrap();
    let runs = |name: &str| stages.iter().any(|stage| stage["phone"] == name);
    assert!(runs("Ben") && !runs("Cem") && !runs("Dua"), "{report}");
    assert_eq!(report["links"].as_array().unwrap().len(), 12);
    let phones = report["phones"].as_array().unwrap();
    assert_eq!(phones[2]["verdict"], "is too hot");
    assert_eq!(phones[3]["verdict"], "was left out by a person");
    let plans = report["plans"].as_array().unwrap();
    let alone = plans.iter().find(|plan| plan["name"] == "Ann alone");
    let why = alone.unwrap()["problem"].as_str().unwrap();
    assert!(why.contains("missing"), "{why}");
}

/// Numbers that cannot be are named, with the phone, and nothing is planned.
fn phones_that_cannot_be() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let rows = [
        ("[", "cannot read"),
        (r#"[{"name": "Ben"}]"#, "cannot read"),
        (
            r#"[{"name": "Ben", "slowdown": -1, "memory_bytes": 1}]"#,
            "Ben",
        ),
        (
            r#"[{"name": "Ben", "slowdown": 1, "memory_bytes": 1, "rtt_ms": 0}]"#,
            "Ben",
        ),
        (
            r#"[{"name": "Ben", "slowdown": 1, "memory_bytes": 1, "wings": 2}]"#,
            "cannot read",
        ),
    ];

    for (text, named) in rows {
        let phones = scratch.file("phones.json", text.as_bytes());
        let arguments = [
            "plan",
            "--model",
            model.to_str().unwrap(),
            "--phones",
            phones.to_str().unwrap(),
        ];

        let ended = Program::run(&scratch, &arguments);

        assert_eq!(ended.status, 1, "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{text}: {}", ended.stderr);
    }
}

fn report(scratch: &Scratch, arguments: &[&str]) -> Value {
    let ended = Program::run(scratch, arguments);
    assert_eq!(ended.status, 0, "{}", ended.stderr);

    serde_json::from_str(&ended.stdout.concat()).expect("one JSON document")
}

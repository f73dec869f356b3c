//! What every member knows of the others, and what people change while a group runs: models, who computes, whether
//! anything is run at all.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::group::{Group, Phone, Setup, go_on_from};
use crate::models::{self, N_BATCH, Plain, SMOLLM2, tiny, tiny_prompt, trial, with_model};
use crate::scratch::Scratch;

/// How long something may take that is told once a second: a busy machine has two cores for four phones.
const SOON: Duration = Duration::from_secs(30);

/// How soon whoever waits for a phone that is suspended is told: its connections are closed, which is seen at once.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Makes a tiny model's token take some 50 ms: an answer is then still being written when something happens.
const SLOW: [&str; 2] = ["--slowdown", "100"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "standing::everybody_knows_how_all_are",
            everybody_knows_how_all_are,
        ),
        trial(
            "standing::a_question_is_seen_by_all",
            a_question_is_seen_by_all,
        ),
        trial(
            "standing::what_is_stopped_runs_nowhere",
            what_is_stopped_runs_nowhere,
        ),
        with_model(
            "standing::memory_is_given_back",
            SMOLLM2,
            memory_is_given_back,
        ),
        trial(
            "standing::a_member_starts_another_model",
            a_member_starts_another_model,
        ),
        trial("standing::a_model_comes_and_goes", a_model_comes_and_goes),
        trial(
            "standing::a_forecast_moves_nothing",
            a_forecast_moves_nothing,
        ),
        trial(
            "standing::whoever_excludes_their_phone_computes_nothing",
            whoever_excludes_their_phone_computes_nothing,
        ),
        trial(
            "standing::a_suspended_phone_leaves_nobody_waiting",
            a_suspended_phone_leaves_nobody_waiting,
        ),
    ]
}

fn everybody_knows_how_all_are() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 3, &[]));
    let question = go_on_from(&tiny_prompt(20), 20);
    group.ask(1, &question).assert_done();

    for phone in 0..3 {
        let status = status_where(group.phone(phone), |status| {
            let all = status["standings"].as_array().expect("a list");
            status["run"]["measured_tpot_ms"].is_f64()
                && all.len() == 3
                && all.iter().all(|s| s["layers_computed"].as_u64() > Some(0))
        });
        for standing in status["standings"].as_array().expect("a list") {
            assert_eq!(standing["preparation"], "ready", "{status}");
            assert!(standing["budget_bytes"].as_u64() > Some(0), "{status}");
            assert!(standing["layers_per_s"].as_f64() > Some(0.0), "{status}");
        }
        let run = &status["run"];
        assert_eq!(
            (&run["phase"], &run["started_by"]),
            (&json!("ready"), &json!("phone 1"))
        );
        assert!(run["measured_tpot_ms"].as_f64() > Some(0.0), "{status}");
    }
    group.stop();
}

fn a_question_is_seen_by_all() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 3, &SLOW));
    group.phone(1).ask(1, &go_on_from(&tiny_prompt(10), 1000));

    for phone in [0, 2] {
        status_where(group.phone(phone), |status| {
            let questions = status["run"]["questions"].as_array();
            questions.is_some_and(|questions| {
                questions.iter().any(|question| {
                    question["phone"] == "phone 2"
                        && question["stage"] == "writing"
                        && question["done"].as_u64() > Some(0)
                })
            })
        });
    }
    group
        .phone(1)
        .program
        .tell(&json!({ "command": "cancel", "id": 1 }));
    group.phone(1).answer(1).assert_done();
    status_where(group.phone(2), |status| {
        status["run"]["questions"] == json!([])
    });
    group.stop();
}

fn what_is_stopped_runs_nowhere() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 3, &SLOW));
    let question = go_on_from(&tiny_prompt(10), 1000);
    group.phone(2).ask(1, &question);
    group.phone(2).wait_for_word(1);

    group
        .phone(1)
        .program
        .tell(&json!({ "command": "stop_running" }));
    let refused = group.phone(1).program.until_event("error");
    let refused = refused["message"].as_str().expect("text");
    assert!(refused.contains("only the phone that leads"), "{refused}");
    group
        .phone(0)
        .program
        .tell(&json!({ "command": "stop_running" }));

    group
        .phone(2)
        .answer(1)
        .assert_failed(&["the model was stopped"]);
    for phone in 0..3 {
        let status = status_where(group.phone(phone), |status| {
            let all = status["standings"].as_array().expect("a list");
            status["run"].is_null() && all.iter().all(|s| s["preparation"].is_null())
        });
        assert!(status["plan"].is_null(), "{status}");
    }
    group.ask(1, &question).assert_failed(&["no model"]);

    // And runs again, as before.
    group
        .phone(0)
        .program
        .tell(&json!({ "command": "run", "phones": 3 }));
    for phone in 0..3 {
        group.phone(phone).program.until_event("plan");
    }
    group.ask(2, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    group.stop();
}

fn memory_is_given_back(model: &Path) {
    let scratch = Scratch::new();
    let mut group = Group::start(&scratch, &Setup::new(model, 1, &[]));
    group.ask(0, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    let process = group.phone(0).program.id();
    let before = resident_bytes(process);

    group
        .phone(0)
        .program
        .tell(&json!({ "command": "stop_running" }));
    group.phone(0).program.until_event("stopped");

    let started = Instant::now();
    let freed = || before.saturating_sub(resident_bytes(process));
    while freed() < 60_000_000 {
        assert!(started.elapsed() < SOON, "{} B of {before} B", freed());
        thread::sleep(Duration::from_millis(50));
    }
    group.stop();
}

/// The phone that has the other model gets the lead, and what was run makes room.
fn a_member_starts_another_model() {
    let scratch = Scratch::new();
    let (first, second) = (tiny(&scratch, "tiny-llama"), tiny(&scratch, "tiny-qwen3"));
    let mut leader = Phone::lead(&scratch, &Setup::new(&first, 2, &[]));
    let mut member = Phone::join_without_model(&scratch, 1, &leader.address);
    for phone in [&mut leader, &mut member] {
        phone.program.until_event("plan");
    }
    let prompt = tiny_prompt(20);
    let question = go_on_from(&prompt, 20);
    member.ask(1, &question);
    assert_eq!(member.answer(1).tokens, models::plain(&first, &prompt, 20));

    member
        .program
        .tell(&json!({ "command": "set_model", "path": second }));
    member
        .program
        .tell(&json!({ "command": "run", "phones": 2 }));
    for phone in [&mut leader, &mut member] {
        let plan = phone.program.until_event("plan");
        assert_eq!(plan["head"], "phone 2", "{plan}");
    }
    leader.ask(2, &question);

    let expected = Plain::load(&second, N_BATCH).answer(&prompt, 20);
    assert_eq!(leader.answer(2).tokens, expected);
    for phone in [leader, member] {
        let ended = phone.end();
        assert_eq!(ended.status, 0, "{ended:#?}");
    }
}

fn a_model_comes_and_goes() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut phone = Phone::alone_without_model(&scratch);
    let refused = |phone: &mut Phone, order: Value| {
        phone.program.tell(&order);
        let error = phone.program.until_event("error");
        let error = error["message"].as_str().expect("text").to_owned();
        assert!(error.contains("this phone has no model"), "{error}");
    };

    refused(&mut phone, json!({ "command": "run", "phones": 1 }));
    refused(&mut phone, json!({ "command": "forecast" }));
    phone
        .program
        .tell(&json!({ "command": "set_model", "path": model }));
    phone
        .program
        .tell(&json!({ "command": "run", "phones": 1 }));
    phone.program.until_event("plan");
    phone.ask(1, &go_on_from(&tiny_prompt(10), 3));
    phone.answer(1).assert_done();

    phone
        .program
        .tell(&json!({ "command": "set_model", "path": null }));
    phone.ask(2, &go_on_from(&tiny_prompt(10), 3));
    phone.answer(2).assert_done(); // what runs goes on
    refused(&mut phone, json!({ "command": "run", "phones": 1 }));
    assert_eq!(phone.end().status, 0);
}

fn a_forecast_moves_nothing() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 2, &[]));
    let epoch = status_where(group.phone(1), |_| true)["plan"]["epoch"].clone();

    // The one that leads, and one that does not.
    for phone in [0, 1] {
        group
            .phone(phone)
            .program
            .tell(&json!({ "command": "forecast" }));
        let forecast = group.phone(phone).program.until_event("forecast");
        for outlook in [&forecast["group"], &forecast["alone"]] {
            assert_eq!(outlook["kind"], "runs", "{forecast}");
            assert!(outlook["tpot_ms"].as_f64() > Some(0.0), "{forecast}");
        }
        let name = format!("phone {}", phone + 1);
        assert_eq!(forecast["alone"]["stages"][0]["phone"], name, "{forecast}");
        assert_eq!(
            forecast["reasons"].as_array().map(Vec::len),
            Some(2),
            "{forecast}"
        );
    }

    let status = status_where(group.phone(1), |_| true);
    assert_eq!(status["plan"]["epoch"], epoch, "{status}");
    group.ask(1, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    group.stop();
}

fn whoever_excludes_their_phone_computes_nothing() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 3, &[]));
    let peers = (0..3).map(|i| status_where(group.phone(i), |_| true)["peer"].clone());
    let peers = peers.collect::<Vec<_>>();

    let others = json!({ "command": "exclude", "peer": peers[2], "excluded": true });
    group.phone(1).program.tell(&others);
    group.phone(1).program.until_event("error");
    let own = |excluded| json!({ "command": "exclude", "peer": peers[1], "excluded": excluded });
    for (excluded, n_stages) in [(true, 2), (false, 3)] {
        group.phone(1).program.tell(&own(excluded));
        for phone in 0..3 {
            let plan = group.phone(phone).program.until_event("plan");
            let stages = plan["stages"].as_array().expect("a list");
            assert_eq!(stages.len(), n_stages, "{plan}");
            assert_eq!(
                stages.iter().any(|s| s["phone"] == "phone 2"),
                !excluded,
                "{plan}"
            );
        }
        // It can chat all the same.
        group.ask(1, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    }
    group.stop();
}

fn a_suspended_phone_leaves_nobody_waiting() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let mut group = Group::start(&scratch, &Setup::new(&model, 3, &SLOW));
    group.phone(2).ask(1, &go_on_from(&tiny_prompt(10), 1000));
    group.phone(2).wait_for_word(1);

    let suspended = Instant::now();
    group
        .phone(1)
        .program
        .tell(&json!({ "command": "suspend" }));
    let answer = group.phone(2).answer(1);
    assert!(suspended.elapsed() < AT_ONCE, "{:?}", suspended.elapsed());
    answer.assert_failed(&["phone 2"]);
    for phone in [0, 2] {
        let plan = group.phone(phone).program.until_event("plan");
        assert_eq!(plan["stages"].as_array().map(Vec::len), Some(2), "{plan}");
    }

    group.phone(1).program.tell(&json!({ "command": "resume" }));
    for phone in 0..3 {
        let is_whole = |line: &Value| {
            line["event"] == "plan" && line["stages"].as_array().map(Vec::len) == Some(3)
        };
        group.phone(phone).program.until(is_whole);
    }
    group.ask(1, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    group.stop();
}

/// Asks how things stand until they are as wanted.
#[track_caller]
fn status_where(phone: &mut Phone, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();

    loop {
        phone.program.tell(&json!({ "command": "status" }));
        let status = phone.program.until_event("status");
        if wanted(&status) {
            return status;
        }
        assert!(started.elapsed() < SOON, "{status}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the bytes of a process that are in memory.
fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());

    kilobytes.expect("the system tells") << 10
}

//! A phone that is killed takes its layers with it. Whoever waits for an answer is told within 5 s, by
//! the phone's name where it is known, and nobody waits for ever. Those who are left go on by themselves.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::group::{Group, Phone, Setup, go_on_from, guest};
use crate::models::{tiny, tiny_prompt, trial};
use crate::program::{Program, send_signal};
use crate::scratch::Scratch;

/// How soon a loss is told, at the latest, on a machine that does other things, too: over QUIC nothing but a lease of 3.5 s
/// tells it. That it is 5 s where phones have the time is shown in the simulated world.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Makes a tiny model's token take some 50 ms: an answer is then still being written when it is broken off.
const SLOW: [&str; 2] = ["--slowdown", "100"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("loss::a_stage_in_an_answer", || {
            demo_loses(Who::Tail, "token", &[])
        }),
        trial("loss::the_head_in_an_answer", || {
            demo_loses(Who::Head, "token", &[])
        }),
        trial("loss::a_stage_in_a_prefill", || {
            demo_loses(Who::Tail, "reading", &["--chunk", "8"])
        }),
        trial("loss::a_stage_over_quic", || {
            demo_loses(Who::Tail, "token", &QUIC)
        }),
        trial("loss::people_read_one_line", people_read_one_line),
        trial(
            "loss::a_stage_while_nothing_is_asked",
            a_stage_while_nothing_is_asked,
        ),
        trial("loss::whoever_asks_is_told", whoever_asks_is_told),
        trial("loss::a_head_that_others_asked", a_head_that_others_asked),
        trial(
            "loss::a_leader_that_others_wait_for",
            a_leader_that_others_wait_for,
        ),
        trial("loss::a_phone_that_comes_back", a_phone_that_comes_back),
    ]
}

const QUIC: [&str; 2] = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];

/// Whom to kill.
#[derive(Clone, Copy)]
enum Who {
    Head,
    Tail,
}

/// A demo of three phones loses one at the first `event`: one error with its name, status 1, nothing left.
fn demo_loses(who: Who, event: &str, more: &[&str]) {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch, &[more, &["--json"]].concat());
    let name = name_in(&demo.until_event("plan"), who);
    demo.until_event(event);

    let phone = scratch.phone(&name);
    let killed = Instant::now();
    send_signal(phone, Signal::SIGKILL);
    let ended = demo.end();

    assert!(killed.elapsed() < TOLD_WITHIN, "{:?}", killed.elapsed());
    ended.assert_refused(&[&left(&name)]);
    scratch.assert_nothing_left();
}

fn people_read_one_line() {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch, &[]);
    while !demo
        .text_line()
        .expect("it repeats the question")
        .starts_with("> ")
    {}

    send_signal(scratch.phone("phone 2"), Signal::SIGKILL);
    let ended = demo.end();

    assert_eq!(ended.status, 1, "{ended:#?}");
    assert_eq!(ended.stderr, format!("lingualinked: {}\n", left("phone 2")));
    scratch.assert_nothing_left();
}

/// A demo that waits for the next question on a pipe does not wait for it any longer.
fn a_stage_while_nothing_is_asked() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let model = model.to_str().expect("plain names");
    let mut demo = Program::start(
        &scratch,
        &[
            "demo",
            "--json",
            "--placement",
            "even",
            "--model",
            model,
            "--max-tokens",
            "3",
        ],
    );
    let name = name_in(&demo.until_event("plan"), Who::Tail);
    demo.write(b"hello\n");
    demo.until_event("done");

    send_signal(scratch.phone(&name), Signal::SIGKILL);
    let ended = demo.end();

    ended.assert_refused(&[&left(&name)]);
    scratch.assert_nothing_left();
}

/// A phone that is neither head nor killed asks, and so does a guest of it; both are told, and the phones that are
/// left go on without the one that was killed.
fn whoever_asks_is_told() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 3, &SLOW);
    let mut group = Group::start(&scratch, &setup);
    let question = go_on_from(&tiny_prompt(20), 2000);
    let address = group.phone(1).local.clone();
    let mut asking = guest(&scratch, &address);
    group.phone(0).ask(1, &question);
    group.phone(1).ask(1, &question);
    asking.until_event("token");
    group.phone(0).wait_for_word(1);
    group.phone(1).wait_for_word(1);

    let killed = Instant::now();
    group.phone(2).program.signal(Signal::SIGKILL);
    let told = [0, 1].map(|phone| group.phone(phone).answer(1));
    let guest = asking.end();

    assert!(killed.elapsed() < TOLD_WITHIN, "{:?}", killed.elapsed());
    for told in &told {
        told.assert_failed(&[&left("phone 3")]);
    }
    guest.assert_refused(&[&left("phone 3")]);
    assert_those_left_answer(&mut group, [0, 1]);
    group.end_without(2);
}

/// The head leads, too: the next leader has the model, and goes on.
fn a_head_that_others_asked() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 3, &SLOW);
    let mut group = Group::start(&scratch, &setup);
    let question = go_on_from(&tiny_prompt(20), 2000);
    let address = group.phone(2).local.clone();
    let mut asking = guest(&scratch, &address);
    group.phone(1).ask(1, &question);
    asking.until_event("token");
    group.phone(1).wait_for_word(1);

    let killed = Instant::now();
    group.phone(0).program.signal(Signal::SIGKILL);
    group
        .phone(1)
        .answer(1)
        .assert_failed(&["the phone that leads the conversation is gone"]);
    let guest = asking.end();

    assert!(killed.elapsed() < TOLD_WITHIN, "{:?}", killed.elapsed());
    guest.assert_refused(&["the phone that leads the conversation is gone"]);
    assert_those_left_answer(&mut group, [1, 2]);
    group.end_without(0);
}

/// The leader is killed while it waits for a third phone: the second leads, and waits for it in its place.
fn a_leader_that_others_wait_for() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 3, &[]);
    let mut leader = Phone::lead(&scratch, &setup);
    let mut member = Phone::join(&scratch, &setup, 1, &leader.address);
    let names_phone_2 = |line: &Value| line.to_string().contains("phone 2");
    leader
        .program
        .until(|line| line["event"] == "members" && names_phone_2(line));
    member.program.until_event("leader");

    leader.program.signal(Signal::SIGKILL);

    let leads = |line: &Value| line["event"] == "leader" && line["phone"] == "phone 2";
    member.program.until(leads);
    assert_eq!(member.end().status, 0);
}

/// A phone that was killed is a member still: it is let in by nobody anew, gets a part again, and asks.
fn a_phone_that_comes_back() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 3, &[]);
    let mut group = Group::start(&scratch, &setup);
    let question = go_on_from(&tiny_prompt(20), 5);
    let expected = group.ask(0, &question).tokens;
    group.phone(2).program.signal(Signal::SIGKILL);
    group.phone(0).program.until_event("plan");

    let mut back = Phone::restart(&scratch, &setup, 2);
    let of_all = |line: &Value| {
        let stages = line["stages"].as_array();
        line["event"] == "plan" && stages.is_some_and(|stages| stages.len() == 3)
    };
    back.program.until(of_all);
    back.ask(1, &question);

    let answer = back.answer(1);
    answer.assert_done();
    assert_eq!(answer.tokens, expected);
    assert_eq!(back.end().status, 0);
    group.end_without(2);
}

/// Waits until the phones that are left have a plan of their own; asserts that each of them then answers.
#[track_caller]
fn assert_those_left_answer(group: &mut Group, left: [usize; 2]) {
    for phone in left {
        let plan = group.phone(phone).program.until_event("plan");
        let stages = plan["stages"].as_array().expect("a plan has stages");
        assert_eq!(stages.len(), left.len(), "{plan}");
    }

    for phone in left {
        let answer = group.ask(phone, &go_on_from(&tiny_prompt(20), 5));
        answer.assert_done();
        assert_eq!(answer.tokens.len(), 5);
    }
}

/// Starts a demo of three phones whose answer takes minutes.
fn demo(scratch: &Scratch, more: &[&str]) -> Program {
    let model = tiny(scratch, "tiny-llama");
    let model = model.to_str().expect("temporary folders have plain names");
    let prompt = "hello there ".repeat(20);
    let demo = [
        "demo",
        "--placement",
        "even",
        "--model",
        model,
        "--prompt",
        &prompt,
        "--max-tokens",
        "1500",
    ];

    Program::start(scratch, &[&demo[..], &SLOW, more].concat())
}

/// Returns what is said of a phone that has been killed.
fn left(name: &str) -> String {
    format!("{name} left the group, and its layers with it")
}

/// Returns the name of a phone in a plan.
fn name_in(plan: &Value, who: Who) -> String {
    let stages = plan["stages"].as_array().expect("a plan has stages");
    let name = match who {
        Who::Head => &plan["head"],
        Who::Tail => &stages.last().expect("a plan has stages")["phone"],
    };

    name.as_str().expect("a name is text").to_owned()
}

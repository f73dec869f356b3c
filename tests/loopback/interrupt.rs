//! Ctrl-C ends everything soon, with status 130; a parent that is killed leaves nothing running, and so does
//! a reader who leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::group::{Group, Setup, go_on_from, guest};
use crate::models::{SMOLLM2, tiny, tiny_prompt, trial, with_model};
use crate::program::{Ended, Program};
use crate::scratch::Scratch;

/// Status after Ctrl-C, as shells give it.
const INTERRUPTED: i32 = 130;

/// What "soon" means; it takes milliseconds on a quiet machine.
const SOON: Duration = Duration::from_secs(5);

/// Makes a tiny model's token take some 50 ms.
const SLOW: [&str; 2] = ["--slowdown", "100"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("interrupt::in_a_prefill", || {
            demo_at("reading", &["--chunk", "8"])
        }),
        trial("interrupt::in_an_answer", || demo_at("token", &[])),
        trial("interrupt::while_the_phones_start", while_the_phones_start),
        trial("interrupt::while_nothing_is_asked", while_nothing_is_asked),
        trial("interrupt::a_guest", a_guest),
        with_model(
            "interrupt::a_phone_that_computes",
            SMOLLM2,
            a_phone_that_computes,
        ),
        trial(
            "interrupt::parent_killed_in_an_answer",
            parent_killed_in_an_answer,
        ),
        trial(
            "interrupt::parent_killed_while_the_phones_start",
            parent_killed_while_the_phones_start,
        ),
        trial(
            "interrupt::nobody_reads_the_answer",
            nobody_reads_the_answer,
        ),
    ]
}

/// Ctrl-C at the first `event`: the answer ends as cancelled.
fn demo_at(event: &str, more: &[&str]) {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch, more);
    let line = demo.until_event(event);
    if event == "reading" {
        assert_ne!(
            line["done"], line["total"],
            "the prompt has been read already"
        );
    }

    let ended = interrupt(demo);

    let last = ended.lines().last().expect("it said something");
    assert_eq!(
        (&last["event"], &last["finish"]),
        (&"done".into(), &"cancelled".into())
    );
    assert_eq!(
        ended
            .lines()
            .filter(|line| line["event"] == "error")
            .count(),
        0,
        "{ended:#?}"
    );
    scratch.assert_nothing_left();
}

fn while_the_phones_start() {
    let scratch = Scratch::new();
    let demo = demo(&scratch, &[]);
    scratch.wait_for_phone("phone 1");

    interrupt(demo);

    scratch.assert_nothing_left();
}

/// The demo waits on a pipe for the next question.
fn while_nothing_is_asked() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let model = model.to_str().expect("temporary folders have plain names");
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
    demo.until_event("plan");
    demo.write(b"hello\n");
    demo.until_event("done");

    interrupt(demo);

    scratch.assert_nothing_left();
}

/// A guest who leaves takes the question along: the one place for a conversation is free again.
fn a_guest() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let one = [&SLOW[..], &["--conversations", "1"]].concat();
    let setup = Setup::new(&model, 2, &one);
    let mut group = Group::start(&scratch, &setup);
    let address = group.phone(1).local.clone();
    let mut asking = guest(&scratch, &address);
    asking.until_event("token");

    interrupt(asking);

    group.ask(0, &go_on_from(&tiny_prompt(10), 3)).assert_done();
    group.stop();
}

/// Real arithmetic, not the sleep of a slow phone: the program ends while another thread is in llama.cpp.
fn a_phone_that_computes(model: &Path) {
    let scratch = Scratch::new();
    let setup = Setup::new(model, 1, &["--chunk", "64"]);
    let mut group = Group::start(&scratch, &setup);
    let phone = group.phone(0);
    phone.ask(1, &go_on_from(&tiny_prompt(1800), 100));
    phone.program.until_event("reading");

    let ended = interrupt(group.take_only());

    assert!(
        ended.lines().all(|line| line["event"] != "token"),
        "the prompt had been read already"
    );
}

fn parent_killed_in_an_answer() {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch, &[]);
    demo.until_event("token");

    demo.signal(Signal::SIGKILL);

    let ended = demo.end();
    assert_eq!(ended.status, 128 + Signal::SIGKILL as i32);
    ended.assert_quiet();
    scratch.assert_no_process();
}

fn parent_killed_while_the_phones_start() {
    let scratch = Scratch::new();
    let demo = demo(&scratch, &[]);
    scratch.wait_for_phone("phone 1");

    demo.signal(Signal::SIGKILL);

    demo.end().assert_quiet();
    scratch.assert_no_process();
}

/// As `| head -1` does.
fn nobody_reads_the_answer() {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch, &[]);
    demo.until_event("token");

    demo.stop_listening();

    let ended = demo.end();
    assert_eq!(ended.status, 1, "{ended:#?}");
    ended.assert_quiet();
    scratch.assert_nothing_left();
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
        "--json",
        "--model",
        model,
        "--prompt",
        &prompt,
        "--max-tokens",
        "1500",
    ];

    Program::start(scratch, &[&demo[..], &SLOW, more].concat())
}

/// Sends Ctrl-C; asserts that the program ends soon, with its status and no complaint.
#[track_caller]
fn interrupt(program: Program) -> Ended {
    let sent = Instant::now();
    program.signal(Signal::SIGINT);
    let ended = program.end();

    assert!(sent.elapsed() < SOON, "{:?}", sent.elapsed());
    assert_eq!(ended.status, INTERRUPTED, "{ended:#?}");
    ended.assert_quiet();
    ended
}

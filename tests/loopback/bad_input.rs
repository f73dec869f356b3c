//! What cannot work says so, once, in words that name what is wrong, and ends with an exit status: 1, or 2
//! where the command line itself is wrong.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::group::{Group, Setup, go_on_from};
use crate::models::{tiny, tiny_prompt, trial};
use crate::program::Program;
use crate::scratch::Scratch;

/// A peer that nobody is.
const NOBODY: &str = "12D3KooWQdtqXTgd8uBDBrNiTaksFgwewgYrArBiZx2EESabmknz";

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "bad_input::models_that_cannot_be_run",
            models_that_cannot_be_run,
        ),
        trial(
            "bad_input::command_lines_that_make_no_sense",
            command_lines_that_make_no_sense,
        ),
        trial(
            "bad_input::more_phones_than_shards",
            more_phones_than_shards,
        ),
        trial(
            "bad_input::a_model_larger_than_the_phones",
            a_model_larger_than_the_phones,
        ),
        trial(
            "bad_input::a_prompt_longer_than_the_context",
            a_prompt_longer_than_the_context,
        ),
        trial(
            "bad_input::one_port_for_several_phones",
            one_port_for_several_phones,
        ),
        trial(
            "bad_input::addresses_that_lead_nowhere",
            addresses_that_lead_nowhere,
        ),
        trial("bad_input::commands_that_are_none", commands_that_are_none),
        trial(
            "bad_input::questions_that_cannot_be_answered",
            questions_that_cannot_be_answered,
        ),
        trial("bad_input::a_damaged_group_file", a_damaged_group_file),
    ]
}

/// Each says the same to people and to programs, and before any phone is started.
fn models_that_cannot_be_run() {
    let scratch = Scratch::new();
    let model = fs::read(tiny(&scratch, "tiny-llama")).expect("just written");
    let half = scratch.file("half.gguf", &model[..model.len() / 2]);
    let beginning = scratch.file("beginning.gguf", &model[..300]);
    let letter = scratch.file("letter.gguf", b"Dear reader, this is no model.");
    let empty = scratch.file("empty.gguf", b"");
    let mamba = scratch.file("mamba.gguf", &of_architecture(&model, b"mamba"));
    let missing = scratch.path("missing.gguf");
    let folder = scratch.tmp();

    let rows: [(&Path, &[&str]); 7] = [
        (&half, &["half.gguf", "ends too early"]),
        (&beginning, &["beginning.gguf", "ends too early"]),
        (&letter, &["letter.gguf", "not a GGUF file"]),
        (&empty, &["empty.gguf", "not a GGUF file"]),
        (
            &mamba,
            &[
                "`mamba` cannot be cut",
                "supported are llama, qwen2, qwen3, gemma3, bloom, phi3",
            ],
        ),
        (&missing, &["missing.gguf", "No such file"]),
        (&folder, &["not a regular file"]),
    ];
    for (model, words) in rows {
        let demo = ["demo", "--prompt", "hello", "--model", path(model)];
        let for_programs = Program::run(&scratch, &[&demo[..], &["--json"]].concat());
        let for_people = Program::run(&scratch, &demo);

        for_programs.assert_refused(words);
        let message = for_programs.errors().remove(0);
        assert_eq!(for_people.stderr, format!("lingualinked: {message}\n"));
        assert_eq!((for_people.status, for_people.stdout), (1, Vec::new()));
        assert!(!said_twice(&message), "{message:?}");
    }
    scratch.assert_nothing_left();
}

fn command_lines_that_make_no_sense() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let demo = ["demo", "--model", path(&model), "--prompt", "hello"];
    let data = scratch.path("data");
    let node = ["node", "--data", path(&data)];

    let rows: [(&[&str], &[&str], &str); 15] = [
        (&demo, &["--phones", "0"], "--phones"),
        (&demo, &["--phones", "13"], "1..=12"),
        (&demo, &["--phones", "three"], "--phones"),
        (&demo, &["--context", "0"], "--context"),
        (&demo, &["--chunk", "0"], "--chunk"),
        (&demo, &["--chunk", "100000"], "1..=512"),
        (&demo, &["--conversations", "0"], "--conversations"),
        (&demo, &["--shards", "0"], "--shards"),
        (&demo, &["--temperature", "NaN"], "between 0 and 100"),
        (&demo, &["--slowdown", "inf"], "between 1 and 1000"),
        (&demo, &["--max-tokens", "0"], "--max-tokens"),
        (&demo, &["--listen", "nonsense"], "--listen"),
        (&["demo"], &[], "--model"),
        (&node, &["--accept", "maybe"], "--accept"),
        (&node, &["--run", "2"], "--model"),
    ];
    for (command, more, word) in rows {
        let ended = Program::run(&scratch, &[command, more].concat());

        ended.assert_said(2, &[word]);
        assert!(ended.stdout.is_empty(), "{ended:#?}");
    }
    scratch.assert_nothing_left();
}

fn more_phones_than_shards() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama"); // of 6 layers
    let rows = [
        (
            ["--phones", "7", "--shards", "16"],
            "7 phones cannot share 6 shards",
        ),
        (
            ["--phones", "3", "--shards", "2"],
            "3 phones cannot share 2 shards",
        ),
    ];

    for (numbers, words) in rows {
        let demo = [
            "demo",
            "--json",
            "--prompt",
            "hello",
            "--model",
            path(&model),
        ];
        Program::run(&scratch, &[&demo[..], &numbers].concat()).assert_refused(&[words]);
    }
    let data = scratch.path("data");
    let run = [
        "node",
        "--json",
        "--data",
        path(&data),
        "--model",
        path(&model),
        "--run",
        "7",
    ];
    Program::run(&scratch, &run).assert_refused(&["7 phones cannot share 6 shards"]);
}

fn a_model_larger_than_the_phones() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let demo = [
        "demo",
        "--json",
        "--prompt",
        "hello",
        "--model",
        path(&model),
    ];

    let ended = Program::run(
        &scratch,
        &[&demo[..], &["--memory-limit", "200000"]].concat(),
    );

    ended.assert_refused(&[
        "MB of memory missing",
        "What would help",
        "more free on phone 1's phone",
    ]);
    scratch.assert_nothing_left();
}

fn a_prompt_longer_than_the_context() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let prompt = "many words ".repeat(200);
    let demo = [
        "demo",
        "--json",
        "--model",
        path(&model),
        "--context",
        "256",
        "--prompt",
        &prompt,
    ];

    let ended = Program::run(&scratch, &demo);

    ended.assert_refused(&["the prompt has", "the context holds 256"]);
    scratch.assert_nothing_left();
}

/// Two processes can listen on one port, and each then gets some of the other's connections.
fn one_port_for_several_phones() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let demo = [
        "demo",
        "--json",
        "--prompt",
        "hello",
        "--model",
        path(&model),
    ];

    let ended = Program::run(
        &scratch,
        &[&demo[..], &["--listen", "/ip4/127.0.0.1/tcp/38123"]].concat(),
    );

    ended.assert_refused(&["port 0"]);
}

fn addresses_that_lead_nowhere() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let nobody = format!("/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}");
    let join = |address: &str| {
        let node = ["node", "--json", "--data", path(&data), "--join", address];
        Program::run(&scratch, &node)
    };
    let ask = |address: &str| Program::run(&scratch, &["chat", "--json", "--to", address, "hello"]);
    let elsewhere = [
        "node",
        "--json",
        "--data",
        path(&data),
        "--listen",
        "/ip4/192.0.2.1/tcp/0",
    ];

    join("/ip4/127.0.0.1/tcp/1").assert_refused(&["/p2p/PEER", "copy the whole address"]);
    join(&nobody).assert_refused(&["the phone to join cannot be reached", "refused"]);
    ask(&nobody).assert_refused(&["/unix/", "copy the whole address", "only members"]);
    ask("/unix/nowhere/phone.sock").assert_refused(&["cannot reach the phone", "No such file"]);
    Program::run(&scratch, &[&elsewhere[..], &["--join", &nobody]].concat())
        .assert_refused(&["cannot listen on /ip4/192.0.2.1/tcp/0"]);
}

/// Nonsense on standard input is refused line by line; the phone goes on.
fn commands_that_are_none() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 2, &[]);
    let mut group = Group::start(&scratch, &setup);
    let lines: [&[u8]; 6] = [
        b"what is this\n",
        b"{\"command\":\"dance\"}\n",
        b"{\"command\":\"ask\",\"id\":1}\n",
        b"{\"command\":\"ask\",\"id\":-1,\"ask\":{}}\n",
        b"\xff\xfe\x00\n",
        b"\n",
    ];

    for line in lines {
        let program = &mut group.phone(1).program;
        program.write(line);
        let error = program.until_event("error");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|m| m.contains("not a command")),
            "{error}"
        );
    }
    group
        .phone(1)
        .program
        .tell(&json!({ "command": "cancel", "id": 99 }));
    let answer = group.ask(1, &go_on_from(&tiny_prompt(10), 3));

    answer.assert_done();
    group.stop();
}

/// Each is refused under its number; the phone goes on.
fn questions_that_cannot_be_answered() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 2, &["--context", "256"]);
    let mut group = Group::start(&scratch, &setup);
    let with = |key: &str, value: Value| {
        let mut question = go_on_from(&tiny_prompt(10), 3);
        question[key] = value;
        question
    };
    let role = json!({ "chat": [{ "role": "wizard", "content": "hello" }] });
    let rows = [
        (go_on_from(&[], 3), "the prompt is empty"),
        (go_on_from(&[4_000_000_000], 3), "no token 4000000000"),
        (
            go_on_from(&tiny_prompt(256), 3),
            "the prompt has 256 tokens, the context holds 256",
        ),
        (with("max_tokens", json!(0)), "max_tokens must be between"),
        (
            with("sampling", json!({ "temperature": -1.0 })),
            "temperature must be between",
        ),
        (with("stop", json!([""])), "stop strings"),
        (with("prompt", role), "role must be one of"),
    ];

    for phone in [0, 1] {
        for (question, words) in &rows {
            group.ask(phone, question).assert_failed(&[words]);
        }
        group
            .ask(phone, &go_on_from(&tiny_prompt(255), 3))
            .assert_done();
    }
    group.stop();
}

/// A phone that forgot whom it obeyed could obey an older leader: it does not start over by itself.
fn a_damaged_group_file() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    fs::create_dir(&data).expect("the folder is ours");
    fs::write(data.join("group.state"), b"\x01\0 torn").expect("there is room");

    let node = ["node", "--json", "--data", path(&data)];
    Program::run(&scratch, &node).assert_refused(&["group.state", "move it away"]);
}

/// Returns a model's bytes with another architecture's name, as long as its own.
fn of_architecture(model: &[u8], name: &[u8; 5]) -> Vec<u8> {
    let key = b"general.architecture";
    let find = |wanted: &[u8], from: usize| {
        let found = model[from..]
            .windows(wanted.len())
            .position(|window| window == wanted);
        from + found.expect("a model says what it is")
    };
    let start = find(b"llama", find(key, 0));

    let mut model = model.to_vec();
    model[start..start + name.len()].copy_from_slice(name);
    model
}

/// Returns whether a message ends with words that stand before.
fn said_twice(message: &str) -> bool {
    message.match_indices(": ").any(|(at, _)| {
        let (before, after) = message.split_at(at);
        before.ends_with(after.trim_start_matches(": "))
    })
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

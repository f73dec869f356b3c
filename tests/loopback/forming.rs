//! Phones become a group because people said so on both of them, and by nothing else.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::group::LOOPBACK;
use crate::models::trial;
use crate::program::Program;
use crate::scratch::Scratch;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("forming::two_people_say_yes", two_people_say_yes),
        trial("forming::one_says_no", one_says_no),
        trial(
            "forming::a_link_lets_one_phone_in",
            a_link_lets_one_phone_in,
        ),
    ]
}

fn two_people_say_yes() {
    let scratch = Scratch::new();
    let (mut anna, address, _) = phone(&scratch, "Anna", &[]);
    let (mut ben, ..) = phone(&scratch, "Ben", &[]);

    ben.tell(&json!({ "command": "meet", "address": address }));
    let (at_anna, at_ben) = (anna.until_event("match"), ben.until_event("match"));
    assert_eq!(at_anna["code"], at_ben["code"]);
    assert_eq!(
        (&at_anna["phone"], &at_anna["side"]),
        (&json!("Ben"), &json!("asked"))
    );
    assert_eq!(
        (&at_ben["phone"], &at_ben["side"]),
        (&json!("Anna"), &json!("asker"))
    );
    confirm(&mut anna, &at_anna);
    confirm(&mut ben, &at_ben);

    for phone in [&mut anna, &mut ben] {
        let members = phone.until(|line| line["event"] == "members" && names(line).len() == 2);
        assert!(names(&members).contains(&"Anna"), "{members}");
    }
    ben.tell(&json!({ "command": "leave" }));
    assert_eq!(ben.until_event("left")["reason"], "left");
    anna.until(|line| line["event"] == "members" && names(line) == ["Anna"]);
    end([anna, ben]);
}

fn one_says_no() {
    let scratch = Scratch::new();
    let (mut anna, address, _) = phone(&scratch, "Anna", &["--accept", "none"]);
    let (ben, ..) = phone(&scratch, "Ben", &["--accept", "all", "--join", &address]);

    ben.end()
        .assert_refused(&["not let into the group", "declined"]);

    anna.tell(&json!({ "command": "status" }));
    assert_eq!(anna.until_event("status")["members"], json!([]));
    end([anna]);
}

fn a_link_lets_one_phone_in() {
    let scratch = Scratch::new();
    let (anna, _, at_anna) = phone(&scratch, "Anna", &[]);
    let (ben, _, at_ben) = phone(&scratch, "Ben", &[]);
    let (cleo, _, at_cleo) = phone(&scratch, "Cleo", &[]);
    let invite = Program::run(&scratch, &["invite", "--json", "--to", &at_anna]);
    let link = invite.lines().next().expect("a link")["link"].clone();
    let link = link.as_str().expect("text");
    let join = |at: &str| Program::run(&scratch, &["join", "--to", at, link]);

    let (first, second) = (join(&at_ben), join(&at_cleo));
    let status = Program::run(&scratch, &["status", "--json", "--to", &at_ben]);

    assert_eq!(first.status, 0, "{first:#?}");
    assert_eq!(second.status, 1, "{second:#?}");
    assert!(
        second.stdout.concat().contains("invite_used"),
        "{second:#?}"
    );
    let status = status.lines().next().expect("a status");
    assert_eq!(names(&status).len(), 2, "{status}");
    end([anna, ben, cleo]);
}

/// Starts a phone; returns it with where phones and where programs reach it.
fn phone(scratch: &Scratch, name: &str, more: &[&str]) -> (Program, String, String) {
    let data = scratch.path(name);
    let data = data.to_str().expect("temporary folders have plain names");
    let node = ["node", "--json", "--name", name, "--data", data];
    let alone = ["--listen", LOOPBACK, "--discover", "none"];

    let mut program = Program::start(scratch, &[&node[..], &alone, more].concat());
    let listening = program.until_event("listening");
    let text = |field: &str| listening[field].as_str().expect("text").to_owned();
    (program, text("address"), text("local"))
}

fn confirm(phone: &mut Program, shown: &Value) {
    phone.tell(&json!({ "command": "confirm", "peer": shown["peer"] }));
}

/// Returns the members' names.
fn names(line: &Value) -> Vec<&str> {
    let members = line["members"].as_array().expect("a list");
    let names = members.iter().map(|member| member["phone"].as_str());

    names.map(|name| name.expect("text")).collect()
}

fn end<const N: usize>(phones: [Program; N]) {
    for mut phone in phones {
        phone.close_input();
        let ended = phone.end();
        assert_eq!(ended.status, 0, "{ended:#?}");
        ended.assert_quiet();
    }
}

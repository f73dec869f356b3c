//! Phones become a group because people said so on both of them, and by nothing else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use proto::group::message::VERSION;
use serde_json::{Value, json};

use crate::group::LOOPBACK;
use crate::models::trial;
use crate::program::{Ended, Program};
use crate::scratch::Scratch;

/// How often to look whether a phone has opened its socket.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("forming::two_people_say_yes", two_people_say_yes),
        trial("forming::one_says_no", one_says_no),
        trial(
            "forming::a_link_lets_one_phone_in",
            a_link_lets_one_phone_in,
        ),
        trial(
            "forming::a_code_that_is_typed_lets_one_phone_in",
            a_code_that_is_typed_lets_one_phone_in,
        ),
        trial(
            "forming::only_the_leader_removes_and_leading_can_be_handed_over",
            only_the_leader_removes_and_leading_can_be_handed_over,
        ),
        trial(
            "forming::a_blocked_phone_is_not_heard_until_it_is_unblocked",
            a_blocked_phone_is_not_heard_until_it_is_unblocked,
        ),
        trial(
            "forming::a_new_name_is_told_and_kept",
            a_new_name_is_told_and_kept,
        ),
        trial(
            "forming::every_phone_comes_back_by_itself",
            every_phone_comes_back_by_itself,
        ),
        trial(
            "forming::phones_find_each_other_and_one_is_tapped",
            phones_find_each_other_and_one_is_tapped,
        ),
        trial(
            "forming::a_phone_is_seen_and_looks_as_its_person_wants",
            a_phone_is_seen_and_looks_as_its_person_wants,
        ),
        trial(
            "forming::a_person_types_and_sees_nothing_that_moves_the_cursor",
            a_person_types_and_sees_nothing_that_moves_the_cursor,
        ),
        trial(
            "forming::two_phones_do_not_share_a_folder",
            two_phones_do_not_share_a_folder,
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
        second.stdout.concat().contains("the invite has been used"),
        "{second:#?}"
    );
    let status = status.lines().next().expect("a status");
    assert_eq!(names(&status).len(), 2, "{status}");
    end([anna, ben, cleo]);
}

fn a_code_that_is_typed_lets_one_phone_in() {
    let scratch = Scratch::new();
    let (mut anna, ..) = phone(&scratch, "Anna", &[]);
    let (ben, _, at_ben) = phone(&scratch, "Ben", &[]);
    anna.until_event("addresses"); // a code says where
    anna.tell(&json!({ "command": "invite" }));
    let invite = anna.until_event("invite");
    let link = invite["link"].as_str().expect("text");
    let code = invite["code"].as_str().expect("it has an IPv4 address");
    let careless = code.to_lowercase().replace('-', " ");
    let slip = slip(code);
    let join = |code: &str| {
        let words = code.split(' ').collect::<Vec<_>>();
        Program::run(&scratch, &[&["join", "--to", &at_ben], &words[..]].concat())
    };

    let (mistyped, joined) = (join(&slip), join(&careless));

    assert!(link.len() < 300, "{link}");
    mistyped.assert_said(1, &["mistyped"]);
    assert_eq!(joined.status, 0, "{joined:#?}");
    anna.until(|line| line["event"] == "members" && names(line).contains(&"Ben"));
    end([anna, ben]);
}

fn only_the_leader_removes_and_leading_can_be_handed_over() {
    let scratch = Scratch::new();
    let (mut anna, mut ben) = pair(&scratch, &[]);
    let (peer_of_anna, peer_of_ben) = (peer_at(&mut anna), peer_at(&mut ben));

    ben.tell(&json!({ "command": "remove", "peer": peer_of_anna }));
    let error = ben.until_event("error");
    anna.tell(&json!({ "command": "hand_over", "peer": peer_of_ben }));
    for phone in [&mut anna, &mut ben] {
        phone.until(|line| line["event"] == "leader" && line["phone"] == "Ben");
    }
    ben.tell(&json!({ "command": "remove", "peer": peer_of_anna }));

    let message = error["message"].as_str().expect("text");
    assert!(message.contains("only the phone that leads"), "{error}");
    assert_eq!(anna.until_event("left")["reason"], "removed");
    ben.until(|line| line["event"] == "members" && names(line) == ["Ben"]);
    end([anna, ben]);
}

fn a_blocked_phone_is_not_heard_until_it_is_unblocked() {
    let scratch = Scratch::new();
    let (mut anna, address, _) = phone(&scratch, "Anna", &[]);
    let (mut ben, ..) = phone(&scratch, "Ben", &[]);
    let peer_of_ben = peer_at(&mut ben);

    anna.tell(&json!({ "command": "block", "peer": peer_of_ben }));
    anna.until(|line| line["event"] == "blocked" && line["phones"][0]["peer"] == peer_of_ben);
    ben.tell(&json!({ "command": "meet", "address": address }));
    anna.tell(&json!({ "command": "tap", "peer": peer_of_ben }));
    let refused = anna.until(|line| line["event"] == "error" || line["event"] == "match");
    anna.tell(&json!({ "command": "unblock", "peer": peer_of_ben }));

    let message = refused["message"].as_str().expect("an error");
    assert!(message.contains("blocked"), "{refused}");
    assert_eq!(anna.until_event("blocked")["phones"], json!([]));
    let shown = anna.until_event("match"); // it still knocks
    assert_eq!(shown["peer"], peer_of_ben);
    end([anna, ben]);
}

fn a_new_name_is_told_and_kept() {
    let scratch = Scratch::new();
    let (mut anna, mut ben) = pair(&scratch, &[]);

    ben.tell(&json!({ "command": "rename", "name": "Benjamin\u{1b}[2J" }));

    anna.until(|line| line["event"] == "members" && names(line).contains(&"Benjamin[2J"));
    end([ben]);
    let mut ben = unnamed(&scratch, "Ben");
    assert_eq!(status(&mut ben)["phone"], "Benjamin[2J");
    end([anna, ben]);
}

/// A group of three whose phones are killed and started again, one after the other, is whole again each time.
fn every_phone_comes_back_by_itself() {
    let scratch = Scratch::new();
    let (anna, ben) = pair(&scratch, &["--accept", "all"]);
    let mut phones = vec![("Anna", anna), ("Ben", ben)];
    let address = status(&mut phones[0].1)["address"].clone();
    let address = address.as_str().expect("text").to_owned();
    let join = ["--accept", "all", "--join", &address];
    phones.push(("Cleo", phone(&scratch, "Cleo", &join).0));
    for (_, phone) in &mut phones {
        phone.until(|line| line["event"] == "members" && names(line).len() == 3);
    }

    for i in 0..phones.len() {
        let name = phones[i].0;
        phones[i].1.signal(Signal::SIGKILL);
        let killed = phones.remove(i).1.end();
        assert_eq!(killed.status, 128 + 9, "{killed:#?}");
        for (_, other) in &mut phones {
            wait_until_lost(other, name);
        }

        phones.insert(i, (name, phone(&scratch, name, &["--accept", "none"]).0));
        for (_, other) in phones.iter_mut().filter(|(other, _)| *other != name) {
            other.until(|line| {
                line["event"] == "present" && line["phone"] == name && line["presence"] == "here"
            });
        }
        let again = &mut phones[i].1;
        again.until_event("joined");
        again.until(|line| line["event"] == "leader" && line["phone"].is_string());
        let members = status(again)["members"].clone();
        assert_eq!(members.as_array().map(Vec::len), Some(3), "{members}");
    }
    for (_, phone) in phones {
        end([phone]);
    }
}

fn phones_find_each_other_and_one_is_tapped() {
    let scratch = Scratch::new();
    let find = ["--discover", "dns-sd", "--accept", "all"];
    let (mut anna, ..) = phone(&scratch, "Anna", &find);
    let (mut ben, ..) = phone(&scratch, "Ben", &find);
    let peer_of_anna = peer_at(&mut anna);

    // Phones of other tests may be near, too.
    let is_anna = |line: &Value| line["event"] == "nearby" && line["peer"] == peer_of_anna;
    let near = ben.until(is_anna);
    ben.tell(&json!({ "command": "tap", "peer": peer_of_anna }));

    assert_eq!(
        (&near["phone"], &near["group"]),
        (&json!("Anna"), &json!(null))
    );
    // In either order.
    let (mut ended, mut near) = (None, None);
    while ended.is_none() || near.is_none() {
        let is_in_group = |line: &Value| is_anna(line) && line["group"].is_string();
        let line = ben.until(|line| line["event"] == "pairing_ended" || is_in_group(line));
        if line["event"] == "nearby" {
            near = Some(line);
        } else {
            ended = Some(line);
        }
    }
    assert_eq!(ended.expect("it was waited for")["end"], "done");
    assert_eq!(near.expect("as above")["version"], VERSION);
    let (anna, ben) = (stop(anna), stop(ben));
    assert_eq!((anna.status, ben.status), (0, 0), "{anna:#?} {ben:#?}");
}

/// A phone may be unseen and still see, and it may rest and still be seen.
fn a_phone_is_seen_and_looks_as_its_person_wants() {
    let scratch = Scratch::new();
    let (mut anna, ..) = phone(&scratch, "Anna", &["--discover", "dns-sd"]);
    let peer_of_anna = peer_at(&mut anna);
    anna.tell(&json!({ "command": "visible", "visible": false }));
    anna.tell(&json!({ "command": "status" }));
    anna.until_event("status"); // so it has been carried out
    let (mut ben, ..) = phone(&scratch, "Ben", &["--discover", "dns-sd"]);
    let peer_of_ben = peer_at(&mut ben);
    let is = |event: &'static str, peer: &Value| {
        let peer = peer.clone();
        move |line: &Value| line["event"] == event && line["peer"] == peer
    };

    anna.until(is("nearby", &peer_of_ben));
    ben.tell(&json!({ "command": "status" }));
    let status = ben.until_event("status");
    let near = status["nearby"].as_array().expect("a list");
    assert!(
        near.iter().all(|near| near["peer"] != peer_of_anna),
        "{status}"
    );

    ben.tell(&json!({ "command": "look", "looking": false }));
    anna.tell(&json!({ "command": "visible", "visible": true }));
    ben.tell(&json!({ "command": "look", "looking": true }));
    ben.until(is("nearby", &peer_of_anna));
    anna.tell(&json!({ "command": "visible", "visible": false }));
    ben.until(is("faded", &peer_of_anna));
    end([anna, ben]);
}

/// A person's lines do what orders do; what other phones say comes without anything that a terminal obeys.
fn a_person_types_and_sees_nothing_that_moves_the_cursor() {
    let scratch = Scratch::new();
    let data = scratch.path("Anna");
    let data = data.to_str().expect("temporary folders have plain names");
    let node = ["node", "--name", "Anna", "--data", data];
    let alone = ["--listen", LOOPBACK, "--discover", "none"];
    let mut anna = Program::start(&scratch, &[&node[..], &alone].concat());
    let mut along = Along::with(data);
    let address = along.order(&json!({ "command": "status" }), "status")["address"].clone();
    let (mut ben, ..) = phone(&scratch, "B\u{1b}[2J\u{202e}en", &[]);

    ben.tell(&json!({ "command": "meet", "address": address }));
    let code = along.until("match")["code"].clone();
    let shown = ben.until_event("match");
    anna.write(format!("yes {}\n", code.as_str().expect("text")).as_bytes());
    confirm(&mut ben, &shown);
    ben.until(|line| line["event"] == "members" && names(line).len() == 2);
    along.until("pairing_ended");
    anna.write(b"members\nhelp\ninvite\nplan\nremove 99\nwhat is a ring?\nstatus\nquit\n");
    let anna = anna.end();

    let words = [
        "B[2Jen shows",
        "in one group with B[2Jen",
        "B[2Jen",
        "Anna (leads), this phone",
        "lingualinked://join?",
        "typed by hand",
        "no model is run",
        "no phone has the number 99",
        "hand over N",
    ];
    anna.assert_said(0, &words);
    let moves = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!anna.stderr.contains(moves), "{anna:#?}");
    end([ben]);
}

fn two_phones_do_not_share_a_folder() {
    let scratch = Scratch::new();
    let (anna, ..) = phone(&scratch, "Anna", &[]);
    let data = scratch.path("Anna");
    let data = data.to_str().expect("temporary folders have plain names");

    let second = Program::run(&scratch, &["node", "--json", "--data", data]);

    second.assert_refused(&["running", "already", "--data"]);
    end([anna]);
}

/// A program that reads along on the socket of a phone that a person types to.
struct Along {
    lines: std::io::Lines<BufReader<UnixStream>>,
    orders: UnixStream,
}

impl Along {
    /// Connects as soon as the phone listens.
    fn with(data: &str) -> Self {
        let socket = Path::new(data).join("phone.sock");
        let orders = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(LOOK_EVERY), // the phone is starting
            }
        };
        let lines = orders.try_clone().expect("a socket can be cloned");

        Self {
            lines: BufReader::new(lines).lines(),
            orders,
        }
    }

    fn order(&mut self, order: &Value, answer: &str) -> Value {
        let written = self.orders.write_all(format!("{order}\n").as_bytes());
        written.expect("the phone reads orders");

        self.until(answer)
    }

    fn until(&mut self, event: &str) -> Value {
        loop {
            let line = self.lines.next().expect("the phone is running");
            let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
            if line["event"] == event {
                return line;
            }
        }
    }
}

/// Starts Anna and Ben and lets Ben into Anna's group.
fn pair(scratch: &Scratch, more: &[&str]) -> (Program, Program) {
    let (mut anna, address, _) = phone(scratch, "Anna", more);
    let (mut ben, ..) = phone(scratch, "Ben", more);

    ben.tell(&json!({ "command": "meet", "address": address }));
    for phone in [&mut anna, &mut ben] {
        let shown = phone.until_event("match");
        if more.is_empty() {
            confirm(phone, &shown);
        }
    }
    for phone in [&mut anna, &mut ben] {
        phone.until(|line| line["event"] == "members" && names(line).len() == 2);
    }
    (anna, ben)
}

fn status(phone: &mut Program) -> Value {
    phone.tell(&json!({ "command": "status" }));

    phone.until_event("status")
}

fn peer_at(phone: &mut Program) -> Value {
    status(phone)["peer"].clone()
}

/// Waits until a phone has given up on another, and obeys a leader that has, too.
fn wait_until_lost(phone: &mut Program, name: &str) {
    let is_over = |status: &Value| {
        let members = status["members"].as_array().expect("a list");
        let mut gone = members.iter().filter(|member| member["phone"] == name);
        gone.any(|member| member["presence"] == "lost" && member["leader"] == false)
    };

    while !is_over(&status(phone)) {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Returns a code with its last letter mistaken.
fn slip(code: &str) -> String {
    let (most, last) = code.split_at(code.len() - 1);

    format!("{most}{}", if last == "7" { "8" } else { "7" })
}

/// Starts a phone that was there before, without saying its name.
fn unnamed(scratch: &Scratch, folder: &str) -> Program {
    let data = scratch.path(folder);
    let data = data.to_str().expect("temporary folders have plain names");
    let node = ["node", "--json", "--data", data];
    let alone = ["--listen", LOOPBACK, "--discover", "none"];
    let mut phone = Program::start(scratch, &[&node[..], &alone].concat());
    phone.until_event("listening");

    phone
}

fn stop(mut phone: Program) -> Ended {
    phone.close_input();

    phone.end()
}

/// Starts a phone; returns it with where phones and where programs reach it.
fn phone(scratch: &Scratch, name: &str, more: &[&str]) -> (Program, String, String) {
    let data = scratch.path(name);
    let data = data.to_str().expect("temporary folders have plain names");
    let node = ["node", "--json", "--name", name, "--data", data];
    let alone: &[&str] = if more.contains(&"--discover") {
        &[]
    } else {
        &["--discover", "none"]
    };
    let listen = ["--listen", LOOPBACK];

    let mut program = Program::start(scratch, &[&node[..], &listen, alone, more].concat());
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

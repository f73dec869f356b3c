//! The app itself, started while another has its data folder: it leads there, and ends. No window is needed for that.

#![cfg(unix)]
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;

use app::instance::{Start, start};

const APP: &str = env!("CARGO_BIN_EXE_lingualinked-app");
const LINK: &str = "lingualinked://join?v=1&g=8c1f0b6a52d94e7d";

#[test]
fn a_second_start_hands_its_link_over_and_ends() {
    let data = tempfile::tempdir().expect("there is room for a folder");
    let Ok(Start::First(first)) = start(data.path(), &[]) else {
        panic!("nobody else has it");
    };
    let (on_start, rung) = mpsc::channel();
    first
        .listen(move |links| on_start.send(links).is_ok())
        .expect("a thread is started");

    let second = open(data.path(), &[LINK]);
    assert!(second.status.success(), "{second:?}");
    assert_eq!(rung.recv(), Ok(vec![LINK.to_owned()]));

    let third = open(data.path(), &[]);
    assert!(third.status.success(), "{third:?}");
    assert_eq!(rung.recv(), Ok(Vec::new()));
    assert!(
        !data.path().join("log.txt").exists(),
        "it has touched the first one's log"
    );
}

#[test]
fn if_the_first_does_not_answer_the_second_says_so() {
    let data = tempfile::tempdir().expect("there is room for a folder");
    let first = start(data.path(), &[]).expect("nobody else has it");

    let second = open(data.path(), &[LINK]);

    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("is open already"), "{said}");
    drop(first);
}

/// Starts the app as a desktop does that has no display, so that it could open no window.
fn open(data: &Path, links: &[&str]) -> Output {
    Command::new(APP)
        .arg("--data")
        .arg(data)
        .args(links)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .expect("it can be started")
}

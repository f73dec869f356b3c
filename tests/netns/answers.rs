//! A group that answers, and what happens to its phones meanwhile. The text is always the same one.

use std::thread;
use std::time::{Duration, Instant};

use netshim::INTERFACE;

use crate::group::{Group, PATIENCE, SLOW, question};
use crate::{Test, TestResult};

/// What this file shows.
pub const TESTS: &[Test] = &[
    ("a_stage_dies_in_an_answer", a_stage_dies, &[]),
    ("the_head_dies_in_an_answer", the_head_dies, &[]),
    ("a_newcomer_asks_during_an_answer", a_newcomer, &[]),
    ("a_cable_is_pulled_for_one_second", pulled_for_one, &[]),
    ("a_cable_is_pulled_for_two_seconds", pulled_for_two, &[]),
    ("a_cable_is_pulled_for_ten_seconds", pulled_for_ten, &[]),
    ("a_head_is_cut_off_for_ten_seconds", the_head_pulled, &[]),
    ("a_member_has_another_address", a_member_moves, &[]),
    ("a_leader_has_another_address", a_leader_moves, &[]),
];

/// Who waits for an answer that cannot come is told within this time, by DESIGN's promise for a loss.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// An answer that takes some seconds, so that something can happen to it.
const LONG: u32 = 150;

fn a_stage_dies() -> TestResult {
    dies(2, 1)
}

fn the_head_dies() -> TestResult {
    dies(0, 1)
}

/// `dying` is killed while `asking` waits for an answer: it is told, there is another plan, and the same answer.
fn dies(dying: usize, asking: usize) -> TestResult {
    let mut group = Group::run(3, 3, SLOW);
    let (short, long) = (question(10), question(2000));
    let expected = group.ask_until_answered(asking, 1, &short, PATIENCE);
    group.node(asking).ask(100, &long);
    group.node(asking).until_token(100);

    let died = Instant::now();
    group.kill(dying);
    group.node(asking).answer(100, PATIENCE).assert_broken_off();
    let told = died.elapsed();
    let plan = group.node(asking).until_event("plan").line;
    let planned = died.elapsed();

    println!(
        "  told after {} ms, planned after {} ms",
        told.as_millis(),
        planned.as_millis()
    );
    assert!(told <= TOLD_WITHIN, "{told:?}");
    assert_eq!(plan["stages"].as_array().map(Vec::len), Some(2), "{plan}");
    for phone in group.running() {
        let answer = group.ask_until_answered(phone, 200, &short, PATIENCE);
        assert_eq!(answer, expected, "phone {phone}");
    }
    group.end();
    Ok(())
}

/// It is let in when the answer has been written, whole; then it can ask, too.
fn a_newcomer() -> TestResult {
    let mut group = Group::run(2, 3, SLOW);
    let expected = group.ask_until_answered(0, 1, &question(LONG), PATIENCE);
    group.node(1).ask(2, &question(LONG));
    group.node(1).until_token(2);

    group.join(2);
    group.node(2).until_event("match");
    let answer = group.node(1).answer(2, PATIENCE);

    answer.assert_done();
    assert_eq!(answer.tokens, expected);
    for phone in 0..3 {
        group.wait_for_members(phone, 3);
    }
    let newcomers = group.ask_until_answered(2, 1, &question(LONG), PATIENCE);
    assert_eq!(newcomers, expected);
    group.end();
    Ok(())
}

/// Nobody has left: the answer goes on.
fn pulled_for_one() -> TestResult {
    let (mut group, expected) = pulled_for(Duration::from_secs(1));

    let answer = group.node(0).answer(2, PATIENCE);

    answer.assert_done();
    assert_eq!(answer.tokens, expected);
    group.end();
    Ok(())
}

/// TCP doubles its pauses, so what was sent at the beginning of the cut may come 1.3 s after its end: by then a lease
/// may be over. The answer goes on, or breaks off and somebody says so; then there is another, the same.
fn pulled_for_two() -> TestResult {
    let (mut group, expected) = pulled_for(Duration::from_secs(2));

    let answer = group.node(0).answer(2, PATIENCE);

    println!("  it ends with {}", answer.end["event"]);
    assert!(expected.starts_with(&answer.tokens), "{answer:?}");
    for phone in 0..3 {
        let again = group.ask_until_answered(phone, 10, &question(20), PATIENCE);
        assert_eq!(again, expected[..20], "phone {phone}");
    }
    group.end();
    Ok(())
}

/// Returns a group of which a phone had no cable for a while, in answer 2 to the first phone, and what the answer is.
fn pulled_for(time: Duration) -> (Group, Vec<u64>) {
    let mut group = Group::run(3, 3, SLOW);
    let expected = group.ask_until_answered(0, 1, &question(LONG), PATIENCE);
    group.node(0).ask(2, &question(LONG));
    group.node(0).until_token(2);

    group.net.unplug(2).expect("it has a cable");
    thread::sleep(time);
    group.net.plug(2).expect("it has a cable");
    (group, expected)
}

fn pulled_for_ten() -> TestResult {
    pulled_for_long(2, 1)
}

fn the_head_pulled() -> TestResult {
    pulled_for_long(0, 1)
}

/// Longer than a lease: the answer breaks off, those who are left answer, and so does the phone that comes back.
fn pulled_for_long(pulled: usize, asking: usize) -> TestResult {
    let mut group = Group::run(3, 3, SLOW);
    let short = question(10);
    let expected = group.ask_until_answered(asking, 1, &short, PATIENCE);
    group.node(asking).ask(100, &question(2000));
    group.node(asking).until_token(100);

    let cut = Instant::now();
    group.net.unplug(pulled)?;
    group.node(asking).answer(100, PATIENCE).assert_broken_off();
    let told = cut.elapsed();
    let meanwhile = group.ask_until_answered(asking, 200, &short, PATIENCE);
    let answered = cut.elapsed();
    thread::sleep(Duration::from_secs(10).saturating_sub(cut.elapsed()));
    group.net.plug(pulled)?;

    let plugged = Instant::now();
    assert_eq!(meanwhile, expected);
    let all = group.running();
    group.one_leader(&all, PATIENCE);
    let healed = plugged.elapsed();
    for &phone in &all {
        let answer = group.ask_until_answered(phone, 300, &short, PATIENCE);
        assert_eq!(answer, expected, "phone {phone}");
    }
    println!(
        "  told after {} ms, answered by those who are left after {} ms; one leader {} ms after it was back, \
         all answer after {} ms",
        told.as_millis(),
        answered.as_millis(),
        healed.as_millis(),
        plugged.elapsed().as_millis()
    );
    group.end();
    Ok(())
}

fn a_member_moves() -> TestResult {
    moves(2)
}

fn a_leader_moves() -> TestResult {
    moves(0)
}

/// A phone is given another address, as by another lease: it is found there, and the group answers.
fn moves(phone: usize) -> TestResult {
    let mut group = Group::run(3, 3, &[]);
    let question = question(10);
    let expected = group.ask_until_answered(phone, 1, &question, PATIENCE);

    let old = format!("{}/24", group.net.phone(phone).ipv4());
    let moved = Instant::now();
    for arguments in [
        ["addr", "del", &old, "dev", INTERFACE],
        ["addr", "add", "10.77.0.99/24", "dev", INTERFACE],
        ["route", "add", "default", "via", "10.77.0.254"],
    ] {
        let status = group
            .net
            .phone(phone)
            .command("ip")
            .args(arguments)
            .status()?;
        assert!(status.success(), "{arguments:?}: {status}");
    }

    // It may take a moment until anybody notices.
    thread::sleep(Duration::from_secs(6));
    let all = group.running();
    group.one_leader(&all, PATIENCE);
    for &phone in &all {
        let answer = group.ask_until_answered(phone, 100, &question, PATIENCE);
        assert_eq!(answer, expected, "phone {phone}");
    }
    println!("  all answer after {} ms", moved.elapsed().as_millis());
    group.end();
    Ok(())
}

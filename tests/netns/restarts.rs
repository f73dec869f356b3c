//! Phones that go and come back: the group is there again by itself, without an invitation.

use std::thread;
use std::time::{Duration, Instant};

use crate::group::{Group, PATIENCE, name, question};
use crate::{Test, TestResult};

/// What this file shows.
pub const TESTS: &[Test] = &[
    (
        "each_phone_is_killed_and_comes_back",
        each_in_turn_killed,
        &[],
    ),
    (
        "each_phone_is_stopped_and_comes_back",
        each_in_turn_stopped,
        &[],
    ),
    ("all_phones_are_killed_and_come_back", all_at_once, &[]),
    ("a_group_that_was_killed_answers_again", answers_again, &[]),
];

fn each_in_turn_killed() -> TestResult {
    in_turn(Group::kill)
}

fn each_in_turn_stopped() -> TestResult {
    in_turn(Group::stop)
}

fn in_turn(end: fn(&mut Group, usize)) -> TestResult {
    let mut group = Group::form(3, 3, &[]);

    for phone in 0..3 {
        end(&mut group, phone);
        thread::sleep(Duration::from_secs(1)); // as long as a person takes to tap it again
        group.start(phone);

        assert_back(&mut group, &format!("phone {phone}"));
    }
    group.end();
    Ok(())
}

fn all_at_once() -> TestResult {
    let mut group = Group::form(4, 4, &[]);

    for phone in 0..4 {
        group.kill(phone);
    }
    for phone in 0..4 {
        group.start(phone);
    }

    assert_back(&mut group, "all");
    group.end();
    Ok(())
}

fn answers_again() -> TestResult {
    let mut group = Group::run(3, 3, &[]);
    let question = question(20);
    let expected = group.ask_until_answered(2, 1, &question, PATIENCE);

    for phone in 0..3 {
        group.kill(phone);
    }
    let back = Instant::now();
    for phone in 0..3 {
        group.start(phone);
    }

    for phone in 0..3 {
        group.node(phone).until_event("plan");
    }
    println!("  a plan again after {} ms", back.elapsed().as_millis());
    for phone in 0..3 {
        let answer = group.ask_until_answered(phone, 1, &question, PATIENCE);
        assert_eq!(answer, expected, "phone {phone}");
    }
    group.end();
    Ok(())
}

/// Asserts that all phones are one group again, as it was.
#[track_caller]
fn assert_back(group: &mut Group, who: &str) {
    let back = Instant::now();
    let all = group.running();

    let (leader, _) = group.one_leader(&all, PATIENCE);
    println!(
        "  {who}: back after {} ms, phone {leader} leads",
        back.elapsed().as_millis()
    );
    for &phone in &all {
        group.wait_for_members(phone, all.len());
        let members = group.node(phone).members();
        let expected = all.iter().map(|&phone| format!("{:?}", name(phone)));
        assert_eq!(members, expected.collect::<Vec<_>>(), "at phone {phone}");
    }
    group.assert_terms();
}

//! A leader that dies, sleeps or is cut off: the others have one within five seconds, and never two at once.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::group::{ELECTED_WITHIN, Group, PATIENCE};
use crate::{Test, TestResult};

/// What this file shows.
pub const TESTS: &[Test] = &[
    ("five_phones_lose_their_leader", five_lose_their_leader, &[]),
    ("of_two_phones_one_goes_on_alone", one_of_two, &[]),
    ("of_three_phones_two_die_at_once", two_of_three, &[]),
    ("a_leader_sleeps_for_twenty_seconds", a_leader_sleeps, &[]),
    (
        "a_leader_is_cut_off_and_comes_back",
        a_leader_is_cut_off,
        &[],
    ),
    ("two_halves_become_one_group_again", two_halves, &[]),
    ("without_multicast_a_link_lets_a_phone_in", by_link, &[]),
];

/// How long it may take until a phone that comes back obeys whom all obey. It is dialled every 8 s at the latest,
/// and TCP may have doubled its own pause to as much.
const HEALED_WITHIN: Duration = Duration::from_secs(20);

fn five_lose_their_leader() -> TestResult {
    loses(5, &[0])
}

fn one_of_two() -> TestResult {
    loses(2, &[0])
}

fn two_of_three() -> TestResult {
    loses(3, &[0, 1])
}

/// A group loses phones, the leader among them; another joins those who are left, by the new leader.
fn loses(n_phones: usize, dying: &[usize]) -> TestResult {
    let mut group = Group::form(n_phones, n_phones, &[]);
    let left: Vec<_> = (0..n_phones)
        .filter(|phone| !dying.contains(phone))
        .collect();

    let died = Instant::now();
    for &phone in dying {
        group.kill(phone);
    }
    assert_elected(&mut group, &left, died, "killed");

    // The dead keep their seats, and take them up.
    for &phone in dying {
        group.start(phone);
    }
    let all: Vec<_> = (0..n_phones).collect();
    let back = Instant::now();
    let (_, healed) = group.one_leader(&all, HEALED_WITHIN);
    println!(
        "  back after {} ms",
        (healed.saturating_duration_since(back)).as_millis()
    );
    group.end();
    Ok(())
}

fn a_leader_sleeps() -> TestResult {
    let mut group = Group::form(5, 5, &[]);

    let slept = Instant::now();
    group.node(0).signal(Signal::SIGSTOP);
    assert_elected(&mut group, &[1, 2, 3, 4], slept, "suspended");
    thread::sleep(Duration::from_secs(20).saturating_sub(slept.elapsed()));
    group.node(0).signal(Signal::SIGCONT);

    assert_healed(&mut group);
    group.end();
    Ok(())
}

fn a_leader_is_cut_off() -> TestResult {
    let mut group = Group::form(5, 5, &[]);

    let cut = Instant::now();
    group.net.partition(&[&[0], &[1, 2, 3, 4]])?;
    assert_elected(&mut group, &[1, 2, 3, 4], cut, "cut off");
    thread::sleep(Duration::from_secs(3));
    group.net.heal()?;

    assert_healed(&mut group);
    group.end();
    Ok(())
}

/// Both sides of a cut have a leader, on purpose; when it heals, one is left, and nobody has lost its seat.
fn two_halves() -> TestResult {
    let mut group = Group::form(4, 4, &[]);

    let cut = Instant::now();
    group.net.partition(&[&[0, 1], &[2, 3]])?;
    assert_elected(&mut group, &[2, 3], cut, "cut in halves");
    assert_eq!(group.leader_of(1), Some(0), "its side has a leader");
    group.net.heal()?;

    assert_healed(&mut group);
    group.end();
    Ok(())
}

fn by_link() -> TestResult {
    let mut group = Group::form(2, 3, &[]);
    group.net.block_multicast(2, true)?;
    group.start(2);

    group
        .node(1)
        .tell(&serde_json::json!({ "command": "invite" }));
    let link = group.node(1).until_event("invite").line["link"].clone();
    group
        .node(2)
        .tell(&serde_json::json!({ "command": "present", "link": link }));

    let ended = group.node(2).until_event("pairing_ended").line;
    assert_eq!(ended["end"], "done", "{ended}");
    for phone in 0..3 {
        group.wait_for_members(phone, 3);
    }
    let (leader, _) = group.one_leader(&[0, 1, 2], PATIENCE);
    assert_eq!(leader, 0);
    group.end();
    Ok(())
}

/// Waits until `phones` have a leader, and asserts that it took them no longer than promised after one of them
/// missed the old one.
#[track_caller]
fn assert_elected(group: &mut Group, phones: &[usize], since: Instant, what: &str) {
    let missed = group.first_without_leader(phones, since);
    let (leader, elected) = group.one_leader(phones, PATIENCE);
    let took = elected.saturating_duration_since(missed);

    println!(
        "  {what}: missed after {} ms, phone {leader} leads {} ms later",
        (missed - since).as_millis(),
        took.as_millis()
    );
    assert!(took <= ELECTED_WITHIN, "{took:?}");
    group.assert_terms();
}

/// Waits until all obey one leader, and asserts that it stays so and that all are members.
#[track_caller]
fn assert_healed(group: &mut Group) {
    let all = group.running();
    let healing = Instant::now();

    let (leader, _) = group.one_leader(&all, HEALED_WITHIN);
    println!(
        "  healed after {} ms: phone {leader} leads",
        healing.elapsed().as_millis()
    );
    thread::sleep(Duration::from_secs(5));
    let (still, _) = group.one_leader(&all, Duration::ZERO);
    assert_eq!(still, leader);
    for &phone in &all {
        assert_eq!(group.node(phone).members().len(), all.len());
    }
}

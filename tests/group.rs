//! Groups survive: the promises of `proto::group`, in the simulated world.
//!
//! `LINGUALINKED_SEEDS=10000` runs that many seeds, `LINGUALINKED_SEED=77 SIM_TRACE=1` one of them
//! with everything that happens.

#![allow(clippy::wildcard_enum_match_arm)] // looks for one event among many
#![allow(clippy::print_stdout)] // figures for who runs it

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use proto::PeerId;
use proto::group::message::{Door, Message, Presence, WaitReason, encode};
use proto::group::{
    Address, Addresses, Command, CommandError, Commit, InEvent, LeaveReason, Name, Nonce, Older,
    OutEvent, PairingEnd, Purpose, Rank, Secret, When,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sim::group::chaos::{self, Outcome, SETTLES_WITHIN};
use sim::group::network::Conditions;
use sim::group::{GroupWorld, Index, Person};
use sim::seeds::SEEDS_VARIABLE;

/// Seeds that once failed. Each is a bug that was found.
const REGRESSIONS: &[u64] = &[
    77, 115, 144, 145, 222, 431, 522, 847, 1214, 1461, 2023, 4511, 4763, 5668, 9761, 11538, 11986,
    56451,
];

/// Seeds run by an ordinary `cargo nextest run`.
const SEEDS: u64 = 2_000;

/// Whatever goes wrong, phones that can talk again have one leader within five seconds, nobody
/// obeyed two in one term, and nobody is in who did not agree.
#[test]
fn groups_come_through_trouble() {
    if let Some(seed) = number("LINGUALINKED_SEED") {
        println!("{:?}", chaos::run(seed));
        return;
    }
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SEEDS);
    let begin = Instant::now();

    let outcomes = run_all(seeds);

    let mut settled: Vec<_> = outcomes.iter().map(|o| o.settled_after).collect();
    settled.sort();
    let events: u64 = outcomes.iter().map(|o| o.events).sum();
    let simulated: Duration = outcomes.iter().map(|o| o.simulated).sum();
    println!(
        "{seeds} seeds, {events} events, {} simulated hours in {:.1?}; settled after {:.1?} (median), {:.1?} (99 %), {:.1?} (worst)",
        simulated.as_secs() / 3600,
        begin.elapsed(),
        settled[settled.len() / 2],
        settled[settled.len() * 99 / 100],
        settled[settled.len() - 1],
    );
}

#[test]
fn seeds_that_once_failed_do_not() {
    for &seed in REGRESSIONS {
        chaos::run(seed);
    }
}

// Leaders that die, sleep, or are cut off.

/// Killed, switched off, suspended for 20 s and back, cut off and back: five seconds after the
/// others saw it, one leader; and one leader again when it is back.
#[test]
fn a_group_outlives_its_leader() {
    let cases: [(&str, Away, Back); 4] = [
        (
            "killed",
            |world, i| world.crash(i, false),
            |world, i| world.restart(i, 0),
        ),
        (
            "switched off",
            |world, i| world.crash(i, true),
            |world, i| world.restart(i, 0),
        ),
        ("suspended", GroupWorld::suspend, GroupWorld::resume),
        ("cut off", cut_off, |world, _| world.heal()),
    ];
    for (name, away, back) in cases {
        let (mut missed, mut elected): (Vec<_>, Vec<_>) =
            (0..200).map(|seed| outlive(seed, away, back)).unzip();
        missed.sort();
        elected.sort();
        println!(
            "leader {name}: missed after {:.1?} (worst {:.1?}), a new one {:.2?} later (worst {:.2?}); medians of 200 groups of 2 to 8",
            missed[100], missed[199], elected[100], elected[199]
        );
        assert!(elected[199] <= SETTLES_WITHIN, "{name}");
    }
}

type Away = fn(&mut GroupWorld, Index);
type Back = fn(&mut GroupWorld, Index);

/// Returns how long it took to see the loss, and how much longer until the others had a leader.
fn outlive(seed: u64, away: Away, back: Back) -> (Duration, Duration) {
    let n = 2 + seed as usize % 7;
    let mut world = GroupWorld::new(seed, n, Conditions::WIFI);
    world.form();
    let old = world.leader_index(0).expect("a settled group has a leader");
    let others: Vec<_> = (0..n).filter(|&i| i != old).collect();

    away(&mut world, old);
    let nobody = |world: &GroupWorld| others.iter().any(|&i| world.leader_index(i) != Some(old));
    let missed = world
        .run_until_done(LIMIT, nobody)
        .expect("the loss is seen");
    let agreed = |world: &GroupWorld| {
        let leader = world.leader_index(others[0]);
        leader.is_some_and(|leader| leader != old)
            && others.iter().all(|&i| world.leader_index(i) == leader)
    };
    let took = world
        .run_until_done(LIMIT, agreed)
        .expect("a leader is found");

    world.run_for(Duration::from_secs(20));
    back(&mut world, old);
    let together = |world: &GroupWorld| world.all_connected() && world.is_settled();
    world
        .run_until_done(LIMIT, together)
        .unwrap_or_else(|| panic!("seed={seed}: {:?}", world.unsettled()));
    (missed, took)
}

fn cut_off(world: &mut GroupWorld, i: Index) {
    let sides: Vec<_> = (0..world.len()).map(|j| u8::from(i == j)).collect();
    world.partition(&sides);
}

/// A phone that slept, and would now win by rank, does not turn the group over.
#[test]
fn a_phone_that_slept_comes_back_as_a_follower() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 4, Conditions::WIFI);
        world.form();
        let leader = world.leader(0);
        let sleeper = (0..4)
            .find(|&i| world.leader_index(0) != Some(i))
            .expect("four phones");
        world.set_rank(
            sleeper,
            Rank {
                holds_model: true,
                plugged_in: true,
                ..Rank::default()
            },
        );

        world.suspend(sleeper);
        world.run_for(Duration::from_secs(20));
        world.resume(sleeper);
        world.run_for(Duration::from_secs(10));

        assert_eq!(
            (0..4).map(|i| world.leader(i)).collect::<Vec<_>>(),
            vec![leader; 4],
            "seed={seed}"
        );
    }
}

/// A phone has another address: its connections stay open and nothing comes through them. All are one group again,
/// though nobody is ever told that a connection broke.
#[test]
fn a_phone_that_moved_is_found_again() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 4, Conditions::WIFI);
        world.form();
        let moved = (seed % 4) as Index;

        world.readdress(moved);
        world.run_for(Duration::from_secs(5));
        let settled = world.run_until_done(Duration::from_secs(15), |world| world.is_settled());

        assert!(settled.is_some(), "seed={seed}: {:?}", world.unsettled());
        assert_eq!(world.roster(moved).map(|r| r.members.len()), Some(4));
    }
}

/// Two phones go on when the third dies, and one when the second dies.
#[test]
fn a_group_shrinks_to_one_and_grows_back() {
    let mut world = GroupWorld::new(3, 3, Conditions::WIFI);
    world.form();

    for off in [world.leader_index(0), world.leader_index(0)] {
        let off = off.expect("settled");
        if world.is_awake(off) {
            world.crash(off, false);
        }
        world.run_for(Duration::from_secs(8));
    }
    let last: Vec<_> = (0..3).filter(|&i| world.is_awake(i)).collect();
    for &i in &last {
        assert!(world.leader(i).is_some(), "phone {i} goes on");
    }
    (0..3).for_each(|i| world.restart(i, 0));
    world
        .run_until_done(LIMIT, |w| w.all_connected() && w.is_settled())
        .expect("all are back");

    assert_eq!(world.roster(0).map(|roster| roster.members.len()), Some(3));
}

/// Every phone in turn is restarted, and comes back without an invitation.
#[test]
fn a_group_survives_the_restart_of_every_phone_in_turn() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 5, Conditions::WIFI);
        world.form();
        let group = world.group(0);
        for i in 0..5 {
            world.crash(i, seed % 2 == 0);
            world.run_for(Duration::from_secs(3));
            world.restart(i, 0);
            let back = |w: &GroupWorld| w.all_connected() && w.is_settled();
            world
                .run_until_done(LIMIT, back)
                .unwrap_or_else(|| panic!("seed={seed}: phone {i}"));
        }
        assert!((0..5).all(|i| world.group(i) == group), "seed={seed}");
    }
}

/// All phones off at once, and on again.
#[test]
fn a_group_survives_a_night() {
    let mut world = GroupWorld::new(11, 6, Conditions::WIFI);
    world.form();
    (0..6).for_each(|i| world.crash(i, true));
    world.run_for(Duration::from_secs(3600));
    (0..6).for_each(|i| world.restart(i, 0));

    world
        .run_until_done(LIMIT, |w| w.all_connected() && w.is_settled())
        .expect("all are back");
}

/// A phone that was away while a newcomer came and took the lead finds both.
#[test]
fn a_phone_that_was_away_meets_a_leader_it_never_knew() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 4, Conditions::WIFI);
        for i in 1..3 {
            tap(&mut world, i, 0, Purpose::Join);
            world
                .run_until_done(LIMIT, |w| w.group(i).is_some())
                .expect("in");
        }
        world.run_for(Duration::from_secs(2));
        world.crash(2, false);
        tap(&mut world, 3, 1, Purpose::Join);
        world
            .run_until_done(LIMIT, |w| w.group(3).is_some())
            .expect("in");
        world.run_for(Duration::from_secs(2));
        let leader = world.leader_index(1).expect("settled");
        let newcomer = world.id(3);
        world.command(leader, Command::HandOver(newcomer));
        world.run_for(Duration::from_secs(3));
        assert_eq!(
            world.leader_index(1),
            Some(3),
            "seed={seed}: the newcomer leads"
        );

        world.restart(2, 0);
        world.run_for(Duration::from_secs(8));

        assert_eq!(world.leader_index(2), Some(3), "seed={seed}");
    }
}

/// While a phone was away in a partition of its own, the others got a leader that it never knew, and
/// it obeyed a number above theirs. They come to it.
#[test]
fn a_phone_that_is_ahead_meets_a_leader_it_never_knew() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 5, Conditions::WIFI);
        for i in 1..4 {
            tap(&mut world, i, 0, Purpose::Join);
            world
                .run_until_done(LIMIT, |w| w.group(i).is_some() && w.is_settled())
                .expect("in");
        }
        // 2 and 3 on their own go through a few terms; then 3 is off for good.
        world.partition(&[0, 0, 1, 1, 0]);
        world.run_for(Duration::from_secs(12));
        for _ in 0..4 {
            let leader = world.leader_index(2).expect("a leader of two");
            let heir = world.id(5 - leader);
            world.command(leader, Command::HandOver(heir));
            world.run_for(Duration::from_secs(3));
        }
        world.crash(3, false);
        // Meanwhile 4 comes and takes the lead of the others.
        tap(&mut world, 4, 1, Purpose::Join);
        world.run_for(Duration::from_secs(10));
        let leader = world.leader_index(1).expect("a leader");
        let newcomer = world.id(4);
        world.command(leader, Command::HandOver(newcomer));
        world.run_for(Duration::from_secs(5));
        world.set_rank(2, Rank::default());
        world.suspend(2); // does not lead when the cut ends
        world.heal();
        world.run_for(Duration::from_secs(10));
        world.resume(2);
        world.run_for(Duration::from_secs(20));

        assert!(world.is_settled(), "seed={seed}: {:?}", world.unsettled());
        assert_eq!(
            world.roster(4).map(|r| r.members.len()),
            Some(5),
            "seed={seed}"
        );
    }
}

/// Everybody whom an absent phone knew has left meanwhile. Nobody can prove to it that they are
/// members now, so it stays alone, until people tap: then it is back in the same group.
#[test]
fn a_phone_that_knows_nobody_any_more_is_tapped_again() {
    let mut world = GroupWorld::new(6, 4, Conditions::WIFI);
    tap(&mut world, 1, 0, Purpose::Join);
    world.run_for(Duration::from_secs(10));
    world.crash(1, false);
    for i in [2, 3] {
        tap(&mut world, i, 0, Purpose::Join);
        world.run_for(Duration::from_secs(10));
    }
    world.command(0, Command::Leave(When::Now));
    world.run_for(Duration::from_secs(10));
    world.restart(1, 0);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.group(1), world.group(2));
    assert_ne!(
        world.leader(1),
        world.leader(2),
        "strangers, though of one group"
    );

    tap(&mut world, 1, 2, Purpose::Join);
    world.run_for(Duration::from_secs(10));

    assert!(world.leader(1).is_some() && world.leader(1) == world.leader(2));
    assert!(world.is_settled(), "{:?}", world.unsettled());
}

// Getting in.

/// Nobody is in a group because of one side.
#[test]
fn both_people_must_say_yes() {
    for refuses in [0, 1] {
        for purpose in [Purpose::Join, Purpose::Invite] {
            for person in [Person::Refuses, Person::Absent] {
                let mut world = GroupWorld::new(1, 2, Conditions::WIFI);
                world.set_person(refuses, person);
                tap(&mut world, 1, 0, purpose);
                world.run_for(Duration::from_secs(200));

                assert_eq!(
                    (world.group(0), world.group(1)),
                    (None, None),
                    "{purpose:?} {person:?}"
                );
            }
        }
    }
}

/// Both tap at once; or each taps the next in a circle. It ends in groups, not in a knot.
#[test]
fn phones_that_tap_each_other_at_once_get_together() {
    for seed in 0..100 {
        let mut world = GroupWorld::new(seed, 2, Conditions::WIFI);
        tap(&mut world, 0, 1, Purpose::Join);
        tap(&mut world, 1, 0, Purpose::Join);
        world.run_for(Duration::from_secs(12));
        assert!(
            world.group(0).is_some() && world.group(0) == world.group(1),
            "seed={seed}"
        );
        assert!(world.is_settled(), "seed={seed}: {:?}", world.unsettled());

        let mut world = GroupWorld::new(seed, 3, Conditions::WIFI);
        (0..3).for_each(|i| tap(&mut world, i, (i + 1) % 3, Purpose::Join));
        world.run_for(Duration::from_secs(30));
        assert!(world.is_settled(), "seed={seed}: {:?}", world.unsettled());
    }
}

/// Two groups that meet stay two until somebody taps; who taps changes over, with consent.
#[test]
fn two_groups_stay_apart_until_people_tap() {
    let mut world = GroupWorld::new(5, 4, Conditions::WIFI);
    tap(&mut world, 1, 0, Purpose::Join);
    tap(&mut world, 3, 2, Purpose::Join);
    world.run_for(Duration::from_secs(20));
    world.sight_all();
    world.run_for(Duration::from_secs(60));
    let (left, right) = (world.group(0), world.group(2));
    assert!(left.is_some() && right.is_some() && left != right);

    tap(&mut world, 3, 0, Purpose::Join);
    world.run_for(Duration::from_secs(20));

    assert_eq!(world.group(3), left);
    assert_eq!(world.group(2), right);
    assert_eq!(world.roster(2).map(|roster| roster.members.len()), Some(1));
    assert!(world.take_notes(3).iter().any(|note| matches!(
        note,
        OutEvent::Left {
            reason: LeaveReason::Switched,
            ..
        }
    )));
}

/// Returns two phones in a group whose leader, which it names, writes an answer; and a third that has just tapped `host`.
fn tapped_in_an_answer(host: usize) -> (GroupWorld, usize) {
    let mut world = GroupWorld::new(8, 3, Conditions::WIFI);
    tap(&mut world, 1, 0, Purpose::Join);
    world.run_for(Duration::from_secs(10));
    let leader = world.leader_index(0).expect("settled");
    world.tell(leader, InEvent::Writing(true));
    tap(&mut world, 2, host, Purpose::Join);

    (world, leader)
}

/// A newcomer that comes while an answer is being written is told, and is in when it is done.
#[test]
fn a_newcomer_waits_for_the_answer_and_is_told() {
    for host in [0, 1] {
        let (mut world, leader) = tapped_in_an_answer(host);
        world.run_for(Duration::from_secs(300));
        let told = world.take_notes(2);
        assert!(world.group(2).is_none());
        assert!(told.iter().any(|note| matches!(
            note,
            OutEvent::Waiting {
                reason: WaitReason::AnswerBeingWritten,
                ..
            }
        )));
        assert!(world.take_notes(host).iter().any(|note| matches!(
            note,
            OutEvent::Admitting {
                reason: WaitReason::AnswerBeingWritten,
                ..
            }
        )));

        world.tell(leader, InEvent::Writing(false));
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.group(2), world.group(0), "host {host}");
    }
}

/// In a group that chats all the time one answer follows the other, sooner than a host asks again.
#[test]
fn a_newcomer_is_let_in_between_two_answers() {
    for host in [0, 1] {
        let (mut world, leader) = tapped_in_an_answer(host);
        world.run_for(Duration::from_secs(10));
        world.tell(leader, InEvent::Writing(false));
        world.run_for(Duration::from_millis(1));
        world.tell(leader, InEvent::Writing(true));
        world.run_for(Duration::from_secs(3));

        assert_eq!(world.group(2), world.group(0), "host {host}");
    }
}

/// An invite lets one phone in, once, in time; a wrong secret lets nobody in.
#[test]
fn an_invite_is_for_one_phone_once_in_time() {
    let mut world = GroupWorld::new(9, 4, Conditions::WIFI);
    let (host, secret, group) = make_invite(&mut world, 0, Duration::from_secs(60));
    let present = |secret| Command::Present {
        host,
        addresses: Addresses::default(),
        secret,
        group,
    };

    world.command(1, present(secret));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.group(1), group, "the first is in");

    world.command(2, present(secret));
    world.run_for(Duration::from_secs(5));
    assert_eq!(
        ends(&mut world, 2),
        [ended(proto::group::message::Refusal::InviteUsed)]
    );

    let (_, late, _) = make_invite(&mut world, 0, Duration::from_secs(60));
    world.run_for(Duration::from_secs(61));
    world.command(2, present(late));
    world.run_for(Duration::from_secs(5));
    assert_eq!(
        ends(&mut world, 2),
        [ended(proto::group::message::Refusal::InviteExpired)]
    );

    let guess = Secret::draw(&mut ChaCha12Rng::seed_from_u64(1));
    world.command(3, present(guess));
    world.run_for(Duration::from_secs(5));
    assert_eq!(
        ends(&mut world, 3),
        [ended(proto::group::message::Refusal::InviteUnknown)]
    );
    assert_eq!((world.group(2), world.group(3)), (None, None));
}

/// An invite typed by hand leads to an address; a phone there that did not make it is found out.
#[test]
fn a_phone_that_did_not_make_the_invite_cannot_take_its_place() {
    let mut world = GroupWorld::new(9, 3, Conditions::WIFI);
    let (_, secret, _) = make_invite(&mut world, 0, Duration::from_secs(60));
    make_invite(&mut world, 2, Duration::from_secs(60));
    let impostor = world.id(2);
    let addresses = Addresses::default();

    world.command(
        1,
        Command::Present {
            host: impostor,
            addresses,
            secret,
            group: None,
        },
    );
    world.run_for(Duration::from_secs(90));

    assert_eq!(world.group(1), None);
}

/// A new name and new addresses reach everyone, and outlive the leader that wrote them down.
#[test]
fn names_and_addresses_reach_everyone() {
    let mut world = GroupWorld::new(4, 4, Conditions::WIFI);
    world.form();
    let address = Address::new(b"/ip4/10.0.0.7/tcp/4001").expect("short");
    let addresses: Addresses = [address].into_iter().collect();
    for i in 0..4 {
        world.tell(i, InEvent::Readdressed(addresses.clone()));
        world.command(i, Command::Rename(Name::tidy(&format!("New {i}"))));
    }
    world.run_for(Duration::from_secs(10));
    world.crash(world.leader_index(0).expect("settled"), false);
    world.run_for(Duration::from_secs(10));

    for i in (0..4).filter(|&i| world.is_awake(i)) {
        let roster = world.roster(i).expect("a member");
        for j in 0..4 {
            let entry = roster.member(world.id(j)).expect("all four");
            assert_eq!(entry.name, Name::tidy(&format!("New {j}")));
            assert_eq!(entry.addresses, addresses);
        }
    }
}

// Getting out.

/// Who leaves after the answer leaves after the answer; a leader hands over first.
#[test]
fn leaving_waits_for_the_answer() {
    for seed in 0..20 {
        let mut world = GroupWorld::new(seed, 3, Conditions::WIFI);
        world.form();
        let leader = world.leader_index(0).expect("settled");
        world.tell(leader, InEvent::Writing(true));
        world.run_for(Duration::from_secs(2));
        for i in [leader, (leader + 1) % 3] {
            world.command(i, Command::Leave(When::AfterAnswer));
        }
        world.run_for(Duration::from_secs(30));
        assert!(
            (0..3).all(|i| world.group(i).is_some()),
            "seed={seed}: they wait"
        );

        world.tell(leader, InEvent::Writing(false));
        world.run_for(Duration::from_secs(8));

        let stays = (leader + 2) % 3;
        assert_eq!(world.group(leader), None, "seed={seed}");
        assert_eq!(world.group((leader + 1) % 3), None, "seed={seed}");
        assert_eq!(
            world.roster(stays).map(|r| r.members.len()),
            Some(1),
            "seed={seed}"
        );
        assert_eq!(world.leader_index(stays), Some(stays), "seed={seed}");
    }
}

/// A leader that leaves is succeeded before a lease could run out.
#[test]
fn a_leader_that_leaves_hands_over_within_a_second() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 4, Conditions::WIFI);
        world.form();
        let leader = world.leader_index(0).expect("settled");
        world.command(leader, Command::Leave(When::Now));
        world.run_for(Duration::from_secs(1));

        assert_eq!(world.group(leader), None, "seed={seed}");
        assert!(world.is_settled(), "seed={seed}: {:?}", world.unsettled());
    }
}

/// A removed phone is told, also if it was off; and no term brings it back.
#[test]
fn a_removed_phone_stays_out() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 4, Conditions::WIFI);
        world.form();
        let leader = world.leader_index(0).expect("settled");
        let removed = (leader + 1) % 4;
        let id = world.id(removed);
        // Cut off, it makes itself a leader of a higher term than the others have.
        cut_off(&mut world, removed);
        world.run_for(Duration::from_secs(15));
        assert_eq!(world.leader_index(removed), Some(removed), "seed={seed}");
        world.command(leader, Command::Remove(id));
        world.run_for(Duration::from_secs(1));

        world.heal();
        world.run_for(Duration::from_secs(15));

        assert_eq!(world.group(removed), None, "seed={seed}");
        assert!(world.take_notes(removed).iter().any(|note| matches!(
            note,
            OutEvent::Left {
                reason: LeaveReason::Removed,
                ..
            }
        )));
        assert!(world.is_settled() && world.roster(leader).is_some_and(|r| !r.contains(id)));
    }
}

/// While the network was cut, one side let somebody in and the other took somebody out: afterwards
/// both are so for the whole.
#[test]
fn what_each_side_decided_holds_for_the_whole() {
    for seed in 0..50 {
        let mut world = GroupWorld::new(seed, 6, Conditions::WIFI);
        for i in 1..5 {
            tap(&mut world, i, 0, Purpose::Join);
            world
                .run_until_done(LIMIT, |w| w.group(i).is_some() && w.is_settled())
                .expect("in");
        }
        let leader = world.leader_index(0).expect("settled");
        let mut rest = (0..5).filter(|&i| i != leader);
        let (near, far, victim) = (
            rest.next().expect("five"),
            rest.next().expect("five"),
            rest.next().expect("five"),
        );
        let sides: Vec<_> = (0..6).map(|i| u8::from(i != leader && i != near)).collect();
        world.partition(&sides);
        world.run_for(Duration::from_secs(12));
        let id = world.id(victim);
        world.command(leader, Command::Remove(id));
        tap(&mut world, 5, far, Purpose::Join);
        world.run_for(Duration::from_secs(12));
        assert!(
            world.group(victim).is_some() && world.group(5).is_some(),
            "seed={seed}"
        );

        world.heal();
        world.run_for(Duration::from_secs(20));

        assert_eq!(world.group(victim), None, "seed={seed}: stays out");
        let roster = world.roster(near).expect("a member");
        assert!(
            roster.contains(world.id(5)) && !roster.contains(id),
            "seed={seed}"
        );
        assert_eq!(roster.members.len(), 5, "seed={seed}");
        assert!(world.is_settled(), "seed={seed}: {:?}", world.unsettled());
    }
}

/// Only the leader's phone removes and hands over.
#[test]
fn a_follower_cannot_remove() {
    let mut world = GroupWorld::new(1, 3, Conditions::WIFI);
    world.form();
    let leader = world.leader_index(0).expect("settled");
    let (follower, victim) = ((leader + 1) % 3, world.id((leader + 2) % 3));
    world.take_notes(follower);

    world.command(follower, Command::Remove(victim));

    let refused = |note: &OutEvent| matches!(note, OutEvent::Refused(CommandError::NotLeader));
    assert!(world.take_notes(follower).iter().any(refused));
    assert!(
        world
            .roster(0)
            .is_some_and(|roster| roster.contains(victim))
    );
}

/// A blocked phone's knocks are not heard.
#[test]
fn a_blocked_phone_is_not_heard() {
    let mut world = GroupWorld::new(1, 2, Conditions::WIFI);
    let nuisance = world.id(1);
    world.command(0, Command::Block(nuisance));
    tap(&mut world, 1, 0, Purpose::Join);
    world.run_for(Duration::from_secs(200));

    assert!(
        world
            .take_notes(0)
            .iter()
            .all(|note| !matches!(note, OutEvent::Match { .. }))
    );
    assert_eq!(world.group(1), None);
}

// Strangers.

/// Ten thousand strangers knock: nothing is shown, nothing grows, and an invite still works.
#[test]
fn a_flood_of_knocks_does_not_shut_the_door() {
    let mut world = GroupWorld::new(2, 3, Conditions::WIFI);
    tap(&mut world, 1, 0, Purpose::Join);
    world.run_for(Duration::from_secs(10));
    world.take_notes(0);
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    for n in 0..10_000u32 {
        let mut key = [0xf0; 32];
        key[1..5].copy_from_slice(&n.to_le_bytes());
        let stranger = PeerId(key);
        let commit = Commit::seal(Nonce::draw(&mut rng), stranger, world.id(0));
        let (purpose, name) = (Purpose::Join, Name::tidy("Sam"));
        let knock = Message::Door(Door::Knock {
            purpose,
            name,
            commit,
        });
        world.inject(stranger, 0, encode(&knock));
        world.run_for(Duration::from_millis(1));
    }
    let shown = |note: &&OutEvent| matches!(note, OutEvent::Match { .. });
    assert_eq!(
        world.take_notes(0).iter().filter(shown).count(),
        0,
        "none showed its nonce"
    );
    world.invite(0, 2, Duration::from_secs(60));
    world.run_for(Duration::from_secs(15));

    assert_eq!(world.group(2), world.group(0));
    assert!(world.is_settled());
}

/// A phone of another version is told so, and told which of the two is older.
#[test]
fn another_version_is_said_plainly() {
    let mut world = GroupWorld::new(2, 2, Conditions::WIFI);
    let stranger = PeerId([0xf0; 32]);
    for (version, older) in [(0u16, Older::Theirs), (9, Older::Ours)] {
        let mut key = [0xf0; 32];
        key[1] = version as u8;
        let (peer, bytes) = (PeerId(key), version.to_le_bytes().to_vec());
        (0..5).for_each(|_| world.inject(peer, 0, bytes.clone()));
        world.run_for(Duration::from_secs(1));

        let told: Vec<_> = world
            .take_notes(0)
            .into_iter()
            .filter_map(|note| match note {
                OutEvent::OtherVersion { theirs, older, .. } => Some((theirs, older)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(version, older)], "once");
    }
    assert_ne!(stranger, world.id(0));
}

/// The others see a member that is silent as suspect first, then as lost, then back.
#[test]
fn a_silent_member_is_suspect_before_it_is_lost() {
    let mut world = GroupWorld::new(4, 3, Conditions::WIFI);
    world.form();
    let leader = world.leader_index(0).expect("settled");
    let (silent, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = world.id(silent);
    for i in [leader, other] {
        world.take_notes(i);
    }

    world.suspend(silent);
    world.run_for(Duration::from_secs(6));
    world.resume(silent);
    world.run_for(Duration::from_secs(6));

    for i in [leader, other] {
        let seen: Vec<_> = world
            .take_notes(i)
            .into_iter()
            .filter_map(|note| match note {
                OutEvent::Present { peer, presence } if peer == id => Some(presence),
                _ => None,
            })
            .collect();
        assert_eq!(
            seen,
            [Presence::Suspect, Presence::Lost, Presence::Here],
            "phone {i}"
        );
    }
}

/// Longer than anything here should take.
const LIMIT: Duration = Duration::from_secs(60);

fn tap(world: &mut GroupWorld, i: Index, other: Index, purpose: Purpose) {
    let peer = world.id(other);
    world.command(i, Command::Ask { peer, purpose });
}

fn make_invite(
    world: &mut GroupWorld,
    host: Index,
    lifetime: Duration,
) -> (PeerId, Secret, Option<proto::group::GroupId>) {
    world.take_notes(host);
    world.command(host, Command::Invite { lifetime });
    let notes = world.take_notes(host);
    let made = notes.iter().find_map(|note| match note {
        OutEvent::Invited { group, secret, .. } => Some((*secret, *group)),
        _ => None,
    });
    let (secret, group) = made.expect("an invite is made at once");
    (world.id(host), secret, Some(group))
}

fn ended(why: proto::group::message::Refusal) -> PairingEnd {
    PairingEnd::Refused(why)
}

fn ends(world: &mut GroupWorld, i: Index) -> Vec<PairingEnd> {
    let notes = world.take_notes(i).into_iter();
    notes
        .filter_map(|note| match note {
            OutEvent::PairingEnded { end, .. } => Some(end),
            _ => None,
        })
        .collect()
}

// Running seeds.

/// Runs seeds `0..seeds` on all cores. All of them run, so that a failure names every seed.
fn run_all(seeds: u64) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = |first: u64| {
        let mine = (first..seeds).step_by(threads);
        let runs = mine.map(|seed| catch_unwind(|| chaos::run(seed)).map_err(|_| seed));
        runs.collect::<Vec<_>>()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads as u64)
            .map(|i| scope.spawn(move || share(i)))
            .collect();
        let joined = runs
            .into_iter()
            .map(|run| run.join().expect("panics were caught"));
        joined.flatten().collect()
    });

    let failed: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed: {failed:?}",
        failed.len()
    );
    results.into_iter().flatten().collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

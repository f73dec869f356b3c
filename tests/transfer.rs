//! The promise of shards on the move, by seed: whatever others do, while one honest holder stays everything
//! arrives, and nothing that was verified is fetched again.
//!
//! `LINGUALINKED_SEEDS=10000 cargo test --release -p tests --test transfer` runs ten times as many.

#![allow(clippy::print_stdout)] // figures for who runs it

use std::time::Duration;

use gguf_tools::CHUNK_BYTES;
use proto::transfer::{IN_FLIGHT_MAX, Purpose};
use sim::errors::Errors;
use sim::seeds;
use sim::transfer::{Fault, Nature, Outcome, Role, SHARD_BYTES, Scenario, World, shard};

/// A second.
const SECOND: u64 = 1_000_000;

/// Apps killed and restarted, links that break, disks that fill, phones that lie, fall silent, leave, change their
/// minds or ask for everything: in the end everything is everywhere where it shall be.
#[test]
fn everything_arrives() {
    let mut seen = Seen::default();

    seeds::run("shards on the move", 1_000, &[], |seed| {
        let world = World::new(Scenario::roll(seed));

        let errors = Errors::listen();
        let outcome = world.run();

        assert_eq!(errors.take(), None);
        seen.add(&outcome);
    });

    eprintln!("shards on the move: {seen:?}");
    assert!(seen.n_killed > 0 && seen.n_full > 0 && seen.n_corrupt > 0);
    assert!(seen.checking_max <= IN_FLIGHT_MAX);
}

/// The same seed tells the same story, to the microsecond.
#[test]
fn a_run_is_its_seed() {
    let run = |seed| World::new(Scenario::roll(seed)).run();

    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// Of four holders one is silent, one lies, one leaves: at every size the shard arrives.
#[test]
fn one_honest_holder_is_enough() {
    for bytes in SHARD_BYTES {
        let holder = |nature| Role {
            nature,
            ..Role::source(1)
        };
        let mut scenario = Scenario::calm(
            &[bytes],
            vec![
                holder(Nature::Honest),
                holder(Nature::Silent { from: 0 }),
                holder(Nature::Corrupt { one_in: 1 }),
                holder(Nature::Honest),
                Role::receiver(1),
            ],
        );
        scenario.faults = vec![(4 * SECOND, Fault::Leave { phone: 3 })];

        let outcome = World::new(scenario).run();

        let n_chunks = bytes.div_ceil(CHUNK_BYTES);
        assert_eq!(outcome.n_written, n_chunks, "{bytes} B");
        println!(
            "{bytes} B: {:.1} s, {} wrong chunks of {}",
            outcome.elapsed as f64 / 1e6,
            outcome.n_corrupt,
            outcome.n_arrived
        );
    }
}

/// A receiver that is killed after each second goes on where it was: what was written is not sent again, but
/// for what was on its way.
#[test]
fn a_killed_receiver_goes_on_where_it_was() {
    let n_chunks = 70;
    let mut scenario = Scenario::calm(
        &[n_chunks * CHUNK_BYTES],
        vec![Role::source(1), Role::receiver(1)],
    );
    scenario.phones[0].bytes_per_s = 2_000_000;
    let kill = |n: u64| (n * 5 * SECOND, Fault::Kill { phone: 1, off: 0 });
    scenario.faults = (1..=6).map(kill).collect();

    let outcome = World::new(scenario).run();

    println!(
        "{} chunks sent for {n_chunks}, with 6 kills",
        outcome.sent[&0]
    );
    assert_eq!(outcome.n_written, n_chunks);
    assert!(outcome.sent[&0] <= n_chunks + 6 * 4, "{outcome:?}");
}

/// A plan that is replaced at once wants the same shards again while the disk still opens them for the last one.
#[test]
fn what_is_wanted_again_while_it_is_opened_arrives() {
    let errors = Errors::listen();
    let n_chunks = 8;
    let mut scenario = Scenario::calm(
        &[n_chunks * CHUNK_BYTES],
        vec![Role::source(1), Role::receiver(1)],
    );
    let want = |wants: &[usize]| Fault::Want {
        phone: 1,
        wants: wants.iter().map(|&i| (i, Purpose::Own)).collect(),
    };
    scenario.faults = vec![
        (1, want(&[])),
        (2, want(&[0])),
        (3, want(&[])),
        (4, want(&[0])),
    ];

    let outcome = World::new(scenario).run();

    assert_eq!(errors.take(), None);
    assert_eq!(outcome.n_written, n_chunks);
}

/// Phones that fetch the same shard serve each other: the source sends each chunk little more than once, and
/// four are done long before four times the time of one.
#[test]
fn receivers_serve_each_other() {
    let n_chunks = 64;
    let run = |n_receivers: usize| {
        let mut phones = vec![Role::source(1)];
        phones.resize(1 + n_receivers, Role::receiver(1));
        phones[0].bytes_per_s = 5_000_000;
        World::new(Scenario::calm(&[n_chunks * CHUNK_BYTES], phones)).run()
    };

    let (one, four) = (run(1), run(4));

    println!(
        "one receiver {:.1} s; four {:.1} s, of 256 chunks each sent {:?}",
        one.elapsed as f64 / 1e6,
        four.elapsed as f64 / 1e6,
        four.sent
    );
    assert!(four.elapsed < 2 * one.elapsed);
    assert!(four.sent[&0] < 2 * n_chunks);
}

/// Who asks for everything at once, all the time, gets its turn like everybody else.
#[test]
fn a_hog_takes_only_its_turn() {
    let run = |nature| {
        let hog = Role {
            nature,
            ..Role::plain()
        };
        let phones = vec![Role::source(1), Role::receiver(1), hog];
        World::new(Scenario::calm(&[70 * CHUNK_BYTES], phones)).run()
    };

    let (without, with) = (run(Nature::Honest), run(Nature::Hog));

    println!(
        "without a hog {:.1} s, with one {:.1} s",
        without.elapsed as f64 / 1e6,
        with.elapsed as f64 / 1e6
    );
    assert!(with.elapsed < 3 * without.elapsed);
}

/// Two quick holders and a slow one: the slow one's last chunk is asked of another instead of waited for.
#[test]
fn a_slow_holder_does_not_hold_up_the_end() {
    let run = |n_slow: usize| {
        let slow = Role {
            bytes_per_s: 30_000, // 35 s a chunk
            ..Role::source(1)
        };
        let mut phones = vec![Role::source(1), Role::receiver(1)];
        phones.resize(2 + n_slow, slow);
        World::new(Scenario::calm(&[70 * CHUNK_BYTES], phones)).run()
    };

    let (without, with) = (run(0), run(1));

    println!(
        "without a slow holder {:.1} s, with one {:.1} s",
        without.elapsed as f64 / 1e6,
        with.elapsed as f64 / 1e6
    );
    assert!(with.elapsed < without.elapsed * 5 / 4);
}

/// What the plan waits for comes before what is only kept at hand, whatever order the list has.
#[test]
fn own_shards_come_first() {
    let sizes = [5 * CHUNK_BYTES; 4];
    let mut receiver = Role::receiver(4);
    receiver.wants[0].1 = Purpose::Overlap;
    receiver.wants[2].1 = Purpose::Overlap;
    let phones = vec![Role::source(4), Role::source(4), receiver];

    let outcome = World::new(Scenario::calm(&sizes, phones)).run();

    let order = outcome.completed.iter().map(|(_, shard)| *shard);
    let order = order.collect::<Vec<_>>();
    assert!(
        order[..2].contains(&shard(1)) && order[..2].contains(&shard(3)),
        "{order:?}"
    );
}

/// A phone whose disk is full stops asking, says so once, and goes on when there is room.
#[test]
fn a_full_disk_waits_for_room() {
    let mut scenario = Scenario::calm(
        &[70 * CHUNK_BYTES],
        vec![Role::source(1), Role::receiver(1)],
    );
    scenario.faults = vec![(
        5 * SECOND,
        Fault::Fill {
            phone: 1,
            free_bytes: 3 * CHUNK_BYTES,
            off: 100 * SECOND,
        },
    )];

    let outcome = World::new(scenario).run();

    assert_eq!((outcome.n_full, outcome.n_written), (1, 70));
    assert!(outcome.elapsed > 100 * SECOND);
    assert!(
        outcome.sent[&0] <= 70 + 8,
        "it asks no more while it is full: {outcome:?}"
    );
}

/// When nobody holds what is missing, this is said once, and nothing is asked for; nothing happens until
/// somebody comes who does.
#[test]
fn a_fetch_without_a_holder_is_quiet() {
    let scenario = Scenario::calm(&[70 * CHUNK_BYTES], vec![Role::plain(), Role::receiver(1)]);

    let outcome = World::new(scenario).run_for(Duration::from_secs(3600));

    assert_eq!(outcome.stalled, [1]);
    assert!(outcome.n_events < 100, "{outcome:?}");
}

/// What many worlds showed together: that they were not empty.
#[derive(Debug, Default)]
struct Seen {
    n_events: u64,
    simulated_s: u64,
    n_arrived: u64,
    n_written: u64,
    n_corrupt: u64,
    n_killed: u64,
    n_full: u64,
    n_distrusted: usize,
    checking_max: usize,
    sending_max: usize,
}

impl Seen {
    fn add(&mut self, outcome: &Outcome) {
        self.n_events += outcome.n_events;
        self.simulated_s += outcome.elapsed / SECOND;
        self.n_arrived += outcome.n_arrived;
        self.n_written += outcome.n_written;
        self.n_corrupt += outcome.n_corrupt;
        self.n_killed += outcome.n_killed;
        self.n_full += outcome.n_full;
        self.n_distrusted += outcome.distrusted.len();
        self.checking_max = self.checking_max.max(outcome.checking_max);
        self.sending_max = self.sending_max.max(outcome.sending_max);
    }
}

//! Whatever bytes a phone sends, reading them costs little memory and ends in a message or an error.

#![allow(clippy::print_stdout)] // figures are for people

use std::alloc::System;

use proto::PeerId;
use proto::group::message::{MESSAGE_BYTES_MAX, VERSION, decode};
use proto::group::{Addresses, GroupId, Member, Name, Roster};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sim::group::liar::{Knowledge, lie};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that decoding one message may ask for.
///
/// Decoded, a full roster is 12 members of 120 B with 8 addresses of 16 B + 96 B; vectors double as
/// they grow, so twice that, and as much again for the check.
const ALLOCATED_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// One test, because all threads share the allocator.
#[test]
fn no_bytes_cost_much_memory() {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let peers: Vec<_> = (1..=12).map(|id| PeerId([id; 32])).collect();
    let roster = full_roster(&peers);
    let known = Knowledge {
        me: peers[3],
        peers: &peers,
        roster: Some(&roster),
        term: Some(roster.version.term),
    };

    let (mut read, mut worst) = (0u32, 0);
    for _ in 0..300_000 {
        let mut bytes = lie(&known, &mut rng);
        if rng.random_bool(0.5) && bytes.len() > 3 {
            claim_a_length(&mut bytes, &mut rng);
        }
        let region = Region::new(ALLOCATOR);
        let message = decode(&bytes);
        worst = worst.max(region.change().bytes_allocated);
        read += u32::from(message.is_ok());
    }

    println!("{read} of 300000 were messages; the dearest asked for {worst} B");
    assert!(read > 50_000, "most of them should get past the version");
    assert!(worst <= ALLOCATED_MAX, "decoding asked for {worst} B");
}

/// Writes a long length somewhere, where a list or a name may begin.
fn claim_a_length(bytes: &mut [u8], rng: &mut ChaCha12Rng) {
    let at = rng.random_range(2..bytes.len());
    let long = [0xff, 0xff, 0xff, 0xff, 0x7f];
    let room = long.len().min(bytes.len() - at);
    bytes[at..at + room].copy_from_slice(&long[..room]);
    bytes[..2].copy_from_slice(&VERSION.to_le_bytes());
}

fn full_roster(peers: &[PeerId]) -> Roster {
    let name = Name::tidy("Phone");
    let mut roster = Roster::found(GroupId([7; 16]), peers[0], name, Addresses::default());
    let since = roster.version.stamp();
    let members = peers.iter().map(|&peer| Member {
        peer,
        name: Name::tidy("Phone"),
        addresses: Addresses::default(),
        since,
    });
    roster.members = members.collect();
    roster
}

//! What happens in a world of shards: who holds what, who wants what, who does wrong, and what breaks when.

use std::time::Duration;

use gguf_tools::{CHUNK_BYTES, ShardHash};
use proto::PeerId;
use proto::transfer::{Purpose, Wanted};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::Micros;

/// A second.
const SECOND: Micros = 1_000_000;

/// Sizes of a shard, around those where something changes.
pub const SHARD_BYTES: [u64; 8] = [
    1,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES,
    5 * CHUNK_BYTES + 77,
    17 * CHUNK_BYTES,
    70 * CHUNK_BYTES + 1,
];

/// Everything about a world that is not luck.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Seed of the luck.
    pub seed: u64,
    /// Sizes of the shards.
    pub shards: Vec<u64>,
    /// The phones.
    pub phones: Vec<Role>,
    /// What breaks, and when.
    pub faults: Vec<(Micros, Fault)>,
}

/// One phone.
#[derive(Debug, Clone)]
pub struct Role {
    /// How it behaves.
    pub nature: Nature,
    /// Shards that it holds, or says so, from the start.
    pub holds: Vec<usize>,
    /// Shards that it shall have.
    pub wants: Vec<(usize, Purpose)>,
    /// What it sends at most.
    pub bytes_per_s: u64,
    /// How long a message takes from it.
    pub delay: Micros,
}

/// How a phone behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// As it should.
    Honest,
    /// One chunk of so many that it sends is wrong.
    Corrupt {
        /// 1 for all of them.
        one_in: u32,
    },
    /// Sends no chunk from some time on.
    Silent {
        /// From when on.
        from: Micros,
    },
    /// Asks for everything at once, all the time, and says whatever comes to its mind.
    Hog,
}

/// What breaks.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A phone's app is killed, and started again after so long.
    Kill {
        /// Which phone.
        phone: usize,
        /// For how long it is off.
        off: Micros,
    },
    /// The connection between two phones breaks, for so long.
    Break {
        /// One of them.
        a: usize,
        /// The other.
        b: usize,
        /// For how long.
        off: Micros,
    },
    /// A phone's disk has room for so many bytes more, until after so long.
    Fill {
        /// Which phone.
        phone: usize,
        /// Room that is left.
        free_bytes: u64,
        /// For how long.
        off: Micros,
    },
    /// A phone leaves for good.
    Leave {
        /// Which phone.
        phone: usize,
    },
    /// The group writes an answer for so long, and shards give way to it.
    Answer {
        /// For how long.
        off: Micros,
    },
    /// The plan changes: a phone shall have other shards.
    Want {
        /// Which phone.
        phone: usize,
        /// Its shards.
        wants: Vec<(usize, Purpose)>,
    },
}

impl Role {
    /// An honest phone on a link of 10 MB/s that holds nothing and wants nothing.
    pub fn plain() -> Self {
        Self {
            nature: Nature::Honest,
            holds: Vec::new(),
            wants: Vec::new(),
            bytes_per_s: 10_000_000,
            delay: 5_000,
        }
    }

    /// Such a phone, with the first `n` shards.
    pub fn source(n: usize) -> Self {
        Self {
            holds: (0..n).collect(),
            ..Self::plain()
        }
    }

    /// Such a phone, that wants the first `n` shards to run them.
    pub fn receiver(n: usize) -> Self {
        Self {
            wants: (0..n).map(|shard| (shard, Purpose::Own)).collect(),
            ..Self::plain()
        }
    }
}

impl Scenario {
    /// A world in which nothing breaks.
    pub fn calm(shards: &[u64], phones: Vec<Role>) -> Self {
        Self {
            seed: 0,
            shards: shards.to_vec(),
            phones,
            faults: Vec::new(),
        }
    }

    /// Rolls a world in which much goes wrong; phone 0 is honest, holds everything, and stays, though it may
    /// be killed, cut off and restarted as any other.
    pub fn roll(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let n_shards = rng.random_range(1..=5);
        let shards = (0..n_shards).map(|_| SHARD_BYTES[rng.random_range(0..SHARD_BYTES.len())]);
        let shards = shards.collect::<Vec<_>>();
        let n_phones = rng.random_range(2..=7);
        let phones = (0..n_phones).map(|phone| roll_role(phone, n_shards, &mut rng));
        let phones = phones.collect();
        let faults = (0..rng.random_range(0..=8)).map(|_| {
            let at = rng.random_range(0..20 * SECOND);
            (at, roll_fault(n_phones, n_shards, &mut rng))
        });

        Self {
            seed,
            shards,
            phones,
            faults: faults.collect(),
        }
    }

    /// Returns what a phone's list says, as its machine is told.
    pub fn wanted(&self, wants: &[(usize, Purpose)]) -> Vec<Wanted> {
        let wanted = wants.iter().map(|&(place, purpose)| Wanted {
            shard: shard(place),
            bytes: self.shards[place],
            purpose,
        });

        wanted.collect()
    }

    /// Returns how long the slowest phone takes to send everything to everybody.
    pub fn longest(&self) -> Duration {
        let bytes: u64 = self.shards.iter().sum();
        let slowest = self.phones.iter().map(|role| role.bytes_per_s).min();
        let seconds = bytes * self.phones.len() as u64 / slowest.unwrap_or(1);

        Duration::from_secs(seconds + 1)
    }
}

/// Returns the name of a phone.
pub fn peer(phone: usize) -> PeerId {
    let mut key = [phone as u8; 32];
    let spread = (phone as u32).wrapping_mul(0x9e37_79b9); // a real key is random
    key[1..4].copy_from_slice(&spread.to_le_bytes()[1..]);

    PeerId(key)
}

/// Returns the name of a shard.
pub fn shard(place: usize) -> ShardHash {
    ShardHash([place as u8; 32])
}

fn roll_role(phone: usize, n_shards: usize, rng: &mut ChaCha12Rng) -> Role {
    let nature = match rng.random_range(0..10) {
        0 | 1 if phone > 0 => Nature::Corrupt {
            one_in: rng.random_range(1..=3),
        },
        2 | 3 if phone > 0 => Nature::Silent {
            from: rng.random_range(0..10 * SECOND),
        },
        4 if phone > 0 => Nature::Hog,
        _ => Nature::Honest,
    };
    let all = (0..n_shards).collect::<Vec<_>>();
    let holds = if phone == 0 || (nature != Nature::Honest && nature != Nature::Hog) {
        all
    } else {
        all.into_iter().filter(|_| rng.random_bool(0.2)).collect()
    };

    Role {
        nature,
        wants: roll_wants(&holds, n_shards, rng),
        holds,
        bytes_per_s: 10u64.pow(rng.random_range(5..=7)) * rng.random_range(1..=9),
        delay: rng.random_range(100..50_000),
    }
}

/// Rolls which shards a phone wants of those that it does not hold.
fn roll_wants(holds: &[usize], n_shards: usize, rng: &mut ChaCha12Rng) -> Vec<(usize, Purpose)> {
    let mut others = (0..n_shards)
        .filter(|place| !holds.contains(place))
        .collect::<Vec<_>>();
    others.shuffle(rng);
    others.truncate(rng.random_range(0..=others.len()));
    let purpose = |own: bool| if own { Purpose::Own } else { Purpose::Overlap };

    others
        .into_iter()
        .map(|place| (place, purpose(rng.random_bool(0.6))))
        .collect()
}

fn roll_fault(n_phones: usize, n_shards: usize, rng: &mut ChaCha12Rng) -> Fault {
    let phone = rng.random_range(0..n_phones);
    let off = rng.random_range(0..10 * SECOND);

    match rng.random_range(0..9) {
        0..=2 => Fault::Kill { phone, off },
        3 | 4 => Fault::Break {
            a: phone,
            b: (phone + rng.random_range(1..n_phones)) % n_phones,
            off,
        },
        5 => Fault::Fill {
            phone,
            free_bytes: rng.random_range(0..20) * CHUNK_BYTES,
            off,
        },
        6 if phone > 0 => Fault::Leave { phone },
        7 => Fault::Answer { off },
        _ => Fault::Want {
            phone,
            wants: roll_wants(&[], n_shards, rng),
        },
    }
}

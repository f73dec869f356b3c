//! What a world of phones is made of, and what goes wrong in it, as data.

use proto::pipeline::Token;
use proto::plan::{ActivationType, Sizes};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::Index;
use crate::group::network::{Conditions, MS, Micros, SECOND};
use crate::ring::{Cancel, Conversation, Pace, Place, Turn};

/// Everything that happens, but for luck on the way and what people say: that is the seed's.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Luck.
    pub seed: u64,
    /// Layers in each shard of the model.
    pub shards: Vec<u32>,
    /// What the model is run with.
    pub sizes: Sizes,
    /// The network.
    pub conditions: Conditions,
    /// How fast each phone is; as many as there are phones.
    pub paces: Vec<Pace>,
    /// Who runs the model.
    pub running: Running,
    /// Which phones are worth more as leaders, plugged in as they are.
    pub plugged_in: Vec<bool>,
    /// Conversations at once on each phone.
    pub n_talks: usize,
    /// What goes wrong, and when, counted from when all was well.
    pub faults: Vec<(Micros, Fault)>,
}

/// Who runs the model, which all phones have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Running {
    /// The program on these phones is started to run it, and does so again when it is restarted.
    Program(Vec<Index>),
    /// A person started it in the app on this phone. Whoever leads goes on with it, as the app does.
    App(Index),
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// To whom.
    pub who: Who,
    /// For how long.
    pub lasts: Micros,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing passes between it and any other.
    CutOff,
    /// Nothing passes between it and this other.
    Cut(Index),
    /// It is off, and on again with what was on its disk. Nobody says so to the others where it is silent.
    Off {
        /// Whether its radio is off, too.
        is_silent: bool,
    },
    /// It does nothing, and its sockets fill.
    Asleep,
    /// Its system suspends the app, which lets go of everybody first.
    Suspended,
    /// A person starts the model on it, in place of what is run. Lasts for a moment.
    Started,
}

/// To whom it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads then.
    Leader,
    /// This phone.
    Phone(Index),
}

impl Scenario {
    /// Rolls a world of 2 to 5 phones in which up to 3 things go wrong.
    pub fn roll(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let n_phones = rng.random_range(2..=5);
        let n_faults = rng.random_range(0..=3);

        Self {
            running: roll_running(&mut rng, n_phones),
            faults: roll_faults(&mut rng, n_phones, n_faults),
            ..Self::roll_calm(seed, &mut rng, n_phones)
        }
    }

    /// Rolls a world of 3 phones, on each of which the program runs the model, and one of which has no cable for 10 s.
    pub fn roll_cable(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(!seed);
        let fault = Fault {
            kind: Kind::CutOff,
            who: Who::Phone(rng.random_range(0..3)),
            lasts: 10 * SECOND,
        };

        Self {
            faults: vec![(rng.random_range(0..5 * SECOND), fault)],
            ..Self::roll_calm(seed, &mut rng, 3)
        }
    }

    /// Rolls a world in which nothing goes wrong, and the program runs the model on every phone.
    fn roll_calm(seed: u64, rng: &mut ChaCha12Rng, n_phones: usize) -> Self {
        let n_shards = rng.random_range(n_phones..=n_phones + 3);
        let conditions = [Conditions::WIFI, Conditions::BUSY_WIFI];

        Self {
            seed,
            shards: (0..n_shards).map(|_| rng.random_range(1..=2)).collect(),
            sizes: Sizes {
                n_ctx: rng.random_range(80..300),
                n_sequences: rng.random_range(1..=4),
                chunk_tokens: rng.random_range(4..=16),
                activation: ActivationType::F32,
                relay_headers: rng.random_bool(0.3),
            },
            conditions: *conditions.choose(rng).expect("there are two"),
            paces: (0..n_phones).map(|_| roll_pace(rng)).collect(),
            running: Running::Program((0..n_phones).collect()),
            plugged_in: (0..n_phones).map(|_| rng.random_bool(0.3)).collect(),
            n_talks: if n_phones < 4 {
                rng.random_range(1..=2)
            } else {
                1
            },
            faults: Vec::new(),
        }
    }

    /// Returns how many phones there are.
    pub fn n_phones(&self) -> usize {
        self.paces.len()
    }

    /// Returns how many layers the model has.
    pub fn n_layers(&self) -> u32 {
        self.shards.iter().sum()
    }
}

impl Running {
    /// Returns whether a person may start it on a phone.
    pub fn may_be_started_on(&self, phone: Index) -> bool {
        match self {
            Self::Program(phones) => phones.contains(&phone),
            Self::App(_) => true,
        }
    }
}

/// Rolls what somebody on a phone says next, turn by turn.
pub(super) fn roll_conversation(rng: &mut ChaCha12Rng, phone: Index) -> Conversation {
    let n_turns = rng.random_range(1..=3);

    Conversation {
        place: Place::Screen(phone),
        turns: (0..n_turns).map(|_| roll_turn(rng)).collect(),
    }
}

fn roll_turn(rng: &mut ChaCha12Rng) -> Turn {
    let n_words = rng.random_range(1..20);
    let word = |_| Token::from(rng.random_range(0..500_u16));
    let words = (0..n_words).map(word).collect();
    let cancel = match rng.random_range(0..10) {
        0 => Some(Cancel::After(rng.random_range(0..3 * SECOND))),
        1 => Some(Cancel::AtToken(rng.random_range(1..10))),
        _ => None,
    };

    Turn {
        words,
        max_tokens: rng.random_range(1..30),
        ignore_end: rng.random_bool(0.5),
        pause: rng.random_range(100 * MS..3 * SECOND),
        cancel,
    }
}

fn roll_pace(rng: &mut ChaCha12Rng) -> Pace {
    Pace {
        load: rng.random_range(20 * MS..2 * SECOND),
        open: rng.random_range(0..5 * MS),
        embed: rng.random_range(0..MS),
        layer: rng.random_range(MS..6 * MS),
        layer_token: rng.random_range(0..MS / 2),
        sample: rng.random_range(0..MS),
    }
}

fn roll_running(rng: &mut ChaCha12Rng, n_phones: usize) -> Running {
    if rng.random_bool(0.4) {
        return Running::App(rng.random_range(0..n_phones));
    }
    let all = rng.random_bool(0.5);
    let mut phones = (0..n_phones).collect::<Vec<_>>();
    phones.retain(|_| all || rng.random_bool(0.5));
    if phones.is_empty() {
        phones.push(rng.random_range(0..n_phones));
    }

    Running::Program(phones)
}

fn roll_faults(rng: &mut ChaCha12Rng, n_phones: usize, n_faults: usize) -> Vec<(Micros, Fault)> {
    let mut at = 0;
    let mut faults = Vec::new();

    for _ in 0..n_faults {
        at += rng.random_range(0..15 * SECOND);
        let phone = rng.random_range(0..n_phones);
        let other = (phone + rng.random_range(1..n_phones)) % n_phones;
        let (kind, lasts) = match rng.random_range(0..12) {
            0..4 => (Kind::CutOff, 500 * MS..20 * SECOND),
            4..6 => (Kind::Cut(other), 500 * MS..20 * SECOND),
            6..8 => {
                let is_silent = rng.random_bool(0.5);
                (Kind::Off { is_silent }, 500 * MS..15 * SECOND)
            }
            8..10 => (Kind::Asleep, 500 * MS..15 * SECOND),
            10 => (Kind::Suspended, 500 * MS..15 * SECOND),
            _ => (Kind::Started, MS..2 * MS),
        };
        let by_name = matches!(kind, Kind::Cut(_)) || rng.random_bool(0.6);
        let who = if by_name {
            Who::Phone(phone)
        } else {
            Who::Leader
        };
        let lasts = rng.random_range(lasts);
        faults.push((at, Fault { kind, who, lasts }));
    }

    faults
}

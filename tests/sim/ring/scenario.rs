//! What a world is made of: phones, network, conversations and faults, as data.

use gguf_tools::{
    Architecture, CHUNK_BYTES, ChunkHash, LayerRange, MANIFEST_VERSION, Manifest, ShardEntry,
    ShardHash, ShardKind,
};
use proto::PeerId;
use proto::pipeline::Token;
use proto::plan::{ActivationType, Sizes};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::Micros;
use super::engine::Pace;
use super::model::N_VOCAB;

/// Everything that happens, but for luck on the way: that is the seed's.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Luck: delays and forgeries follow from it.
    pub seed: u64,
    /// Layers in each shard of the model.
    pub shards: Vec<u32>,
    /// How the phones come to a plan.
    pub formation: Formation,
    /// What the model is run with.
    pub sizes: Sizes,
    /// The network.
    pub network: Network,
    /// How fast each phone is; as many as there are phones.
    pub paces: Vec<Pace>,
    /// Who says what.
    pub conversations: Vec<Conversation>,
    /// What goes wrong.
    pub fault: Fault,
}

/// How the phones come to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formation {
    /// Phone 0 waits for all and shares the shards evenly.
    Gathered,
    /// A leader outside of the ring proposes an uneven plan; phone `head` holds the ends.
    Proposed {
        /// Which phone holds the ends.
        head: usize,
        /// Whether it runs no layers.
        only_ends: bool,
    },
}

/// How messages travel.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// Shortest way, the same for all.
    pub delay: Micros,
    /// Up to this much is added to each message.
    pub jitter: Micros,
    /// Whether step headers and activations may overtake each other, even on one stream.
    pub reorder: bool,
}

/// Where a conversation is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the screen of a phone of the ring.
    Screen(usize),
    /// On a phone outside, connected to a phone of the ring.
    Guest {
        /// That phone of the ring.
        via: usize,
    },
}

/// One conversation.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// Where it is held.
    pub place: Place,
    /// What is said, turn by turn.
    pub turns: Vec<Turn>,
}

/// One question; its prompt is all that was said before, and `words`.
#[derive(Debug, Clone)]
pub struct Turn {
    /// What is added to the conversation.
    pub words: Vec<Token>,
    /// Tokens after which the answer ends.
    pub max_tokens: u32,
    /// Whether the answer goes on after the model has ended its turn.
    pub ignore_end: bool,
    /// Pause before it is asked.
    pub pause: Micros,
    /// When the asker has had enough.
    pub cancel: Option<Cancel>,
}

/// When an asker has had enough.
#[derive(Debug, Clone, Copy)]
pub enum Cancel {
    /// After a while.
    After(Micros),
    /// After so many tokens.
    AtToken(usize),
    /// A guest goes away after a while, without a word.
    Leave(Micros),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A phone of the ring falls silent.
    Loss {
        /// Which.
        phone: usize,
        /// When.
        at: Micros,
    },
    /// Two phones of the ring cannot reach each other any more.
    Cut {
        /// Which.
        phones: [usize; 2],
        /// When.
        at: Micros,
    },
    /// A phone's engine cannot run its next step, nor any after it.
    Breakdown {
        /// Which.
        phone: usize,
        /// From when on.
        at: Micros,
    },
    /// Somebody sends what nobody asked for.
    Hostile {
        /// A phone of the ring that is not the head, or somebody outside.
        member: Option<usize>,
        /// How often.
        forgeries: u32,
    },
}

impl Scenario {
    /// Rolls a world of 1 to 6 phones and 1 to 5 conversations in which nothing goes wrong but the
    /// network.
    pub fn roll(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let n_phones = rng.random_range(1..=6);
        let n_shards = rng.random_range(n_phones..=n_phones + 4);
        let n_conversations = rng.random_range(1..=5);
        let system = words(&mut rng, 0..20);

        Self {
            seed,
            shards: (0..n_shards).map(|_| rng.random_range(1..=3)).collect(),
            formation: roll_formation(&mut rng, n_phones),
            sizes: roll_sizes(&mut rng),
            network: Network {
                delay: rng.random_range(50..5_000),
                jitter: *pick(&mut rng, &[0, 100, 2_000, 50_000]),
                reorder: rng.random_bool(0.5),
            },
            paces: (0..n_phones).map(|_| roll_pace(&mut rng)).collect(),
            conversations: (0..n_conversations)
                .map(|_| roll_conversation(&mut rng, n_phones, &system))
                .collect(),
            fault: Fault::None,
        }
    }

    /// Rolls a world in which a phone of the ring is lost, or its engine, or a way between two.
    pub fn roll_loss(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(!seed);
        let mut scenario = Self::roll(seed);
        let phone = rng.random_range(0..scenario.n_phones());
        let other = rng.random_range(0..scenario.n_phones());
        // A leader outside of the ring would never hear that a phone was lost before it had its part.
        let is_gathered = matches!(scenario.formation, Formation::Gathered);
        let at = match rng.random_bool(0.2) && is_gathered {
            true => rng.random_range(0..600_000), // the phones may still load
            false => rng.random_range(600_000..3_000_000),
        };
        scenario.fault = match rng.random_range(0..4) {
            0 => Fault::Breakdown { phone, at },
            1 if phone != other => Fault::Cut {
                phones: [phone, other],
                at,
            },
            _ => Fault::Loss { phone, at },
        };

        scenario
    }

    /// Rolls a world in which somebody lies: a phone of the ring, or one outside.
    pub fn roll_hostile(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(!seed);
        let mut scenario = Self::roll(seed);
        let liars = (0..scenario.n_phones()).filter(|&phone| phone != scenario.head());
        let member = *pick(&mut rng, &liars.map(Some).chain([None]).collect::<Vec<_>>());
        for conversation in &mut scenario.conversations {
            let (Place::Screen(phone) | Place::Guest { via: phone }) = &mut conversation.place;
            if Some(*phone) == member {
                *phone = scenario.formation.head(); // nothing is promised to a liar's own screen
            }
        }
        scenario.fault = Fault::Hostile {
            member,
            forgeries: rng.random_range(20..100),
        };

        scenario
    }

    /// Builds a world of equal phones with one layer each, whose steps all take `step`, however many
    /// tokens they have; nothing else takes time, and nobody says anything.
    pub fn regular(n_phones: usize, step: Micros) -> Self {
        let pace = Pace {
            load: 0,
            open: 0,
            embed: 0,
            layer: step,
            layer_token: 0,
            sample: 0,
        };

        Self {
            seed: 0,
            shards: vec![1; n_phones],
            formation: Formation::Gathered,
            sizes: Sizes {
                n_ctx: 2048,
                n_sequences: 8,
                chunk_tokens: 8,
                activation: ActivationType::F32,
                relay_headers: false,
            },
            network: Network {
                delay: 0,
                jitter: 0,
                reorder: false,
            },
            paces: vec![pace; n_phones],
            conversations: Vec::new(),
            fault: Fault::None,
        }
    }

    /// Returns whether activations may come in another order than they were meant to: by the network, or
    /// because a phone of the ring sends some again, and the copy is first.
    pub fn is_reordered(&self) -> bool {
        let resent = matches!(
            self.fault,
            Fault::Hostile {
                member: Some(_),
                ..
            }
        );

        self.network.reorder || resent
    }

    /// Returns how many phones there are.
    pub fn n_phones(&self) -> usize {
        self.paces.len()
    }

    /// Returns how many layers the model has.
    pub fn n_layers(&self) -> u32 {
        self.shards.iter().sum()
    }

    /// Returns which phone holds the ends.
    pub fn head(&self) -> usize {
        self.formation.head()
    }

    /// Returns the model's manifest.
    pub fn manifest(&self) -> Manifest {
        manifest(&self.shards)
    }
}

impl Conversation {
    /// Returns a conversation of one question at the head: so many tokens in, so many out.
    pub fn of_one(n_prompt: u32, n_answer: u32) -> Self {
        let turn = Turn {
            words: (0..n_prompt).collect(),
            max_tokens: n_answer,
            ignore_end: true,
            pause: 0,
            cancel: None,
        };

        Self {
            place: Place::Screen(0),
            turns: vec![turn],
        }
    }
}

impl Fault {
    /// Returns from when on answers may break off.
    pub fn breaks_at(self) -> Option<Micros> {
        match self {
            Self::Loss { at, .. } | Self::Cut { at, .. } | Self::Breakdown { at, .. } => Some(at),
            Self::None | Self::Hostile { .. } => None,
        }
    }
}

impl Formation {
    fn head(self) -> usize {
        match self {
            Self::Gathered => 0,
            Self::Proposed { head, .. } => head,
        }
    }
}

/// Returns the name of a phone; their order is not the phones' own.
pub fn peer(phone: usize) -> PeerId {
    let byte = u8::try_from(phone * 97 % 251).expect("below 251");

    PeerId([byte; 32])
}

/// Returns a manifest of shards that have these numbers of layers.
pub fn manifest(shards: &[u32]) -> Manifest {
    let mut start = 0;
    let layers = shards.iter().map(|n| {
        let layers = LayerRange::new(start, start + n).expect("a shard has a layer");
        start += n;
        shard(ShardKind::Layers(layers))
    });

    Manifest {
        version: MANIFEST_VERSION,
        name: "a model".into(),
        architecture: Architecture::Llama,
        layers: layers.collect(),
        n_layers: start,
        n_embd: 64,
        n_vocab: 500,
        n_ctx_train: 1024,
        ends: shard(ShardKind::Ends),
        dependencies: Vec::new(),
    }
}

fn shard(kind: ShardKind) -> ShardEntry {
    ShardEntry {
        kind,
        bytes: CHUNK_BYTES,
        hash: ShardHash([1; 32]),
        chunks: vec![ChunkHash([2; 32])],
        kv_bytes_per_token: 128,
    }
}

fn roll_formation(rng: &mut ChaCha12Rng, n_phones: usize) -> Formation {
    if rng.random_bool(0.5) {
        return Formation::Gathered;
    }

    Formation::Proposed {
        head: rng.random_range(0..n_phones),
        only_ends: n_phones > 1 && rng.random_bool(0.5),
    }
}

fn roll_sizes(rng: &mut ChaCha12Rng) -> Sizes {
    Sizes {
        n_ctx: rng.random_range(40..300),
        n_sequences: rng.random_range(1..=4),
        chunk_tokens: *pick(rng, &[1, 2, 7, 16]),
        activation: ActivationType::F32,
        relay_headers: rng.random_bool(0.5),
    }
}

fn roll_pace(rng: &mut ChaCha12Rng) -> Pace {
    Pace {
        load: rng.random_range(1_000..500_000),
        open: rng.random_range(0..5_000),
        embed: rng.random_range(0..500),
        layer: rng.random_range(100..2_000),
        layer_token: rng.random_range(0..200),
        sample: rng.random_range(0..1_000),
    }
}

fn roll_conversation(rng: &mut ChaCha12Rng, n_phones: usize, system: &[Token]) -> Conversation {
    let phone = rng.random_range(0..n_phones);
    let place = if rng.random_bool(0.3) {
        Place::Guest { via: phone }
    } else {
        Place::Screen(phone)
    };

    let mut turns = (0..rng.random_range(1..=4))
        .map(|_| roll_turn(rng))
        .collect::<Vec<_>>();
    if matches!(place, Place::Guest { .. }) && rng.random_bool(0.2) {
        let turn = turns.last_mut().expect("there is a turn");
        turn.cancel = Some(Cancel::Leave(rng.random_range(0..300_000)));
    }
    if rng.random_bool(0.5) {
        turns[0].words.splice(0..0, system.iter().copied());
    }

    Conversation { place, turns }
}

fn roll_turn(rng: &mut ChaCha12Rng) -> Turn {
    let cancel = match rng.random_range(0..8) {
        0 => Some(Cancel::After(rng.random_range(0..200_000))),
        1 => Some(Cancel::AtToken(rng.random_range(1..10))),
        _ => None,
    };

    Turn {
        words: words(rng, 0..40),
        max_tokens: rng.random_range(1..40),
        ignore_end: false,
        pause: rng.random_range(0..200_000),
        cancel,
    }
}

fn words(rng: &mut ChaCha12Rng, count: std::ops::Range<usize>) -> Vec<Token> {
    let n = rng.random_range(count);
    let word = |_| Token::try_from(rng.random_range(0..N_VOCAB)).expect("below the vocabulary");

    (0..n).map(word).collect()
}

fn pick<'a, T>(rng: &mut ChaCha12Rng, of: &'a [T]) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

/// Cuts `n_shards` into `n_stages` runs, none empty, at random places.
pub fn uneven(
    rng: &mut ChaCha12Rng,
    n_shards: usize,
    n_stages: usize,
) -> Vec<std::ops::Range<u32>> {
    let mut cuts = (1..n_shards).collect::<Vec<_>>();
    cuts.shuffle(rng);
    cuts.truncate(n_stages - 1);
    cuts.extend([0, n_shards]);
    cuts.sort_unstable();

    let bound = |cut: usize| u32::try_from(cut).expect("few shards");
    cuts.windows(2).map(|w| bound(w[0])..bound(w[1])).collect()
}

/// Returns the layers that a run of shards holds.
pub fn layers_of(manifest: &Manifest, shards: &std::ops::Range<u32>) -> LayerRange {
    let layers = |shard: u32| {
        let entry = &manifest.layers[shard as usize];
        entry.layers().expect("a layer shard")
    };

    LayerRange::new(layers(shards.start).start(), layers(shards.end - 1).end())
        .expect("a run has a shard")
}

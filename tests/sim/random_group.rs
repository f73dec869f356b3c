//! Random groups of phones, to place models on: each is fully told by its seed.
//!
//! Two kinds. [`group`] draws phones as people have them, a model of a real shape and links of one
//! quality: what the tables are made from. [`problem`] draws anything that is allowed, likely or
//! not: bound shards, phones left out, links that fail, memory that is short or ample.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::PeerId;
use proto::placement::{
    Availability, Ends, Link, Objective, Phone, Problem, Shard, Tiredness, Workload,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Names that phones get, in turn.
const NAMES: [&str; 10] = [
    "Ann", "Ben", "Cem", "Dua", "Eli", "Fay", "Gus", "Hua", "Ida", "Jon",
];

/// Bytes a weight takes in Q4_0: blocks of 32 in 18 bytes.
const Q4_0_BYTES: f64 = 18.0 / 32.0;

/// Bytes a weight takes in Q6_K, which llama.cpp gives to the output: blocks of 256 in 210 bytes.
const Q6_K_BYTES: f64 = 210.0 / 256.0;

/// Bytes of a context of its own, at `n_ubatch` 128: measured on a Llama-1B shape.
const CONTEXT_BYTES: u64 = 5 << 20;

/// Tokens in a prefill chunk.
const CHUNK_TOKENS: u32 = 128;

/// What a model is, as far as placement cares.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// For tables.
    pub name: &'static str,
    /// Shards it is cut into.
    pub n_shards: usize,
    /// Layers in each shard.
    pub layers_per_shard: usize,
    /// Width of an activation.
    pub n_embd: u64,
    /// Weights of a layer.
    pub layer_params: f64,
    /// Keys and values of a layer, for each token.
    pub kv_values: u64,
    /// Weights of the ends.
    pub ends_params: f64,
}

/// Llama 3.2 1B: 16 layers, 8 KV heads of 64, tied embeddings of 128,256 tokens.
pub const LLAMA_1B: Shape = Shape {
    name: "Llama 1B",
    n_shards: 16,
    layers_per_shard: 1,
    n_embd: 2048,
    layer_params: 60.8e6,
    kv_values: 2 * 512,
    ends_params: 262.7e6,
};

/// Llama 3 8B: 32 layers in pairs, 8 KV heads of 128, embeddings and output of 128,256 tokens.
pub const LLAMA_8B: Shape = Shape {
    name: "Llama 8B",
    n_shards: 16,
    layers_per_shard: 2,
    n_embd: 4096,
    layer_params: 218.1e6,
    kv_values: 2 * 1024,
    ends_params: 2.0 * 525.3e6,
};

/// BLOOM 1.7B: 24 layers, every head with its own keys and values, 250,880 tokens.
pub const BLOOM_1B7: Shape = Shape {
    name: "BLOOM 1.7B",
    n_shards: 24,
    layers_per_shard: 1,
    n_embd: 2048,
    layer_params: 50.4e6,
    kv_values: 2 * 2048,
    ends_params: 513.8e6,
};

/// How phones are joined; each ordered pair draws within a factor of two of it.
#[derive(Debug, Clone, Copy)]
pub struct Air {
    /// For tables.
    pub name: &'static str,
    /// Round-trip time.
    pub rtt_s: f64,
    /// Bytes a second that arrive.
    pub goodput_bytes_per_s: f64,
}

/// Phones on cables or a hub.
pub const CABLE: Air = Air {
    name: "cable",
    rtt_s: 0.001,
    goodput_bytes_per_s: 900e6 / 8.0,
};

/// A good access point near by: the reference case of the side-by-side measurements.
pub const WIFI: Air = Air {
    name: "wifi",
    rtt_s: 0.010,
    goodput_bytes_per_s: 150e6 / 8.0,
};

/// A far or busy access point.
pub const POOR_WIFI: Air = Air {
    name: "poor wifi",
    rtt_s: 0.040,
    goodput_bytes_per_s: 20e6 / 8.0,
};

/// Draws `n_phones` phones as people have them, a model of `shape` and links of the quality of
/// `air`.
///
/// Memory bandwidth from 5 to 50 GB/s bounds decode, 20 to 300 GFLOP/s bound prefill, and a budget
/// is 20 to 120 % of the model, each evenly on a log scale: guesses, from low-end to flagship.
pub fn group(
    seed: u64,
    n_phones: usize,
    shape: &Shape,
    air: &Air,
    objective: Objective,
) -> Problem {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let shards = vec![shard_of(shape); shape.n_shards];
    let ends_bytes = (shape.ends_params * Q6_K_BYTES) as u64;
    let model_bytes = ends_bytes + shards.iter().map(|shard| shard.weights_bytes).sum::<u64>();
    let phones = (0..n_phones)
        .map(|i| phone_of(&mut rng, i, shape, model_bytes))
        .collect::<Vec<_>>();

    Problem {
        head: phones[0].id,
        links: links_of(&mut rng, &phones, air),
        phones,
        shards,
        ends: Ends {
            weights_bytes: ends_bytes,
            repack_bytes: 0,
            context_bytes: CONTEXT_BYTES,
        },
        bound: Vec::new(),
        workload: Workload {
            context_tokens: 2048,
            sessions: 1,
            prompt_tokens: 512,
            chunk_tokens: CHUNK_TOKENS,
            activation_bytes_per_token: shape.n_embd * 4,
        },
        objective,
    }
}

/// Draws anything that is allowed, of up to `phones_max` phones and `shards_max` shards.
pub fn problem(seed: u64, phones_max: usize, shards_max: usize, objective: Objective) -> Problem {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let n_phones = rng.random_range(1..=phones_max);
    let shape = Shape {
        n_shards: rng.random_range(1..=shards_max),
        ..LLAMA_1B
    };
    let air = [CABLE, WIFI, POOR_WIFI][rng.random_range(0..3)];
    let mut problem = group(rng.random(), n_phones, &shape, &air, objective);

    roughen_shards(&mut rng, &mut problem);
    let ease = log_uniform(&mut rng, 0.5..4.0); // from hardly possible to anything goes
    for phone in &mut problem.phones {
        phone.memory_budget_bytes = (phone.memory_budget_bytes as f64 * ease) as u64;
        phone.repacks = rng.random_bool(0.3);
        phone.availability = draw_availability(&mut rng);
    }
    for link in problem.links.values_mut() {
        if rng.random_bool(0.03) {
            *link = Link::Unreachable;
        }
    }

    problem
}

/// Multiplies every measured figure by a factor drawn evenly from `1 ± spread`.
pub fn perturbed(seed: u64, problem: &Problem, spread: f64) -> Problem {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut problem = problem.clone();
    let mut shake = |figure: &mut f64| *figure *= 1.0 + spread * rng.random_range(-1.0..=1.0);

    for phone in &mut problem.phones {
        phone.decode_s.iter_mut().for_each(&mut shake);
        phone.prefill_s.iter_mut().for_each(&mut shake);
        shake(&mut phone.ends_decode_s);
        shake(&mut phone.ends_prefill_s);
    }
    for link in problem.links.values_mut() {
        if let Link::Measured {
            rtt_s,
            goodput_bytes_per_s,
        } = link
        {
            shake(rtt_s);
            shake(goodput_bytes_per_s);
        }
    }

    problem
}

fn shard_of(shape: &Shape) -> Shard {
    let layers = shape.layers_per_shard as u64;
    let weights_bytes = (shape.layer_params * Q4_0_BYTES) as u64 * layers;

    Shard {
        weights_bytes,
        repack_bytes: weights_bytes,
        kv_bytes_per_token: shape.kv_values * 2 * layers, // f16
        context_bytes: CONTEXT_BYTES,
    }
}

fn phone_of(rng: &mut ChaCha12Rng, i: usize, shape: &Shape, model_bytes: u64) -> Phone {
    let bytes_per_s = log_uniform(rng, 5e9..50e9);
    let flops = log_uniform(rng, 20e9..300e9);
    let chunk = f64::from(CHUNK_TOKENS);
    let params = shape.layer_params * shape.layers_per_shard as f64;
    let decode_s = params * Q4_0_BYTES / bytes_per_s;
    let prefill_s = 2.0 * params * chunk / flops;
    let mut noisy = |seconds: f64| {
        let jitter = |_| seconds * rng.random_range(0.95..1.05);
        (0..shape.n_shards).map(jitter).collect::<Vec<_>>()
    };

    Phone {
        id: PeerId([i as u8 + 1; 32]),
        name: NAMES[i % NAMES.len()].into(),
        availability: Availability::Ready,
        decode_s: noisy(decode_s),
        prefill_s: noisy(prefill_s),
        memory_budget_bytes: (model_bytes as f64 * log_uniform(rng, 0.2..1.2)) as u64,
        flash_quota_bytes: 1 << 30,
        repacks: false,
        ends_decode_s: shape.ends_params * Q6_K_BYTES / bytes_per_s,
        ends_prefill_s: 1e-4 * chunk, // a copy for each token
    }
}

fn links_of(
    rng: &mut ChaCha12Rng,
    phones: &[Phone],
    air: &Air,
) -> BTreeMap<(PeerId, PeerId), Link> {
    let pairs = phones
        .iter()
        .flat_map(|from| phones.iter().map(move |to| (from.id, to.id)));

    pairs
        .filter(|(from, to)| from != to)
        .map(|pair| {
            let link = Link::Measured {
                rtt_s: air.rtt_s * log_uniform(rng, 0.5..2.0),
                goodput_bytes_per_s: air.goodput_bytes_per_s * log_uniform(rng, 0.5..2.0),
            };
            (pair, link)
        })
        .collect()
}

/// Gives every shard its own size and time, and binds some to their neighbours.
fn roughen_shards(rng: &mut ChaCha12Rng, problem: &mut Problem) {
    for j in 0..problem.shards.len() {
        let factor = log_uniform(rng, 0.5..2.0);
        let shard = &mut problem.shards[j];
        shard.weights_bytes = (shard.weights_bytes as f64 * factor) as u64;
        shard.repack_bytes = rng.random_range(0..=shard.weights_bytes);
        for phone in &mut problem.phones {
            phone.decode_s[j] *= factor;
            phone.prefill_s[j] *= factor;
        }
        if j > 0 && rng.random_bool(0.1) {
            problem.bound.push(j - 1..j + 1);
        }
    }
}

fn draw_availability(rng: &mut ChaCha12Rng) -> Availability {
    match rng.random_range(0..20) {
        0 => Availability::Excluded,
        1 => Availability::Tired(Tiredness::Hot),
        2 => Availability::Tired(Tiredness::LowBattery),
        _ => Availability::Ready,
    }
}

fn log_uniform(rng: &mut ChaCha12Rng, range: Range<f64>) -> f64 {
    rng.random_range(range.start.ln()..range.end.ln()).exp()
}

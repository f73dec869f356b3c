//! What a stage of several shards takes beside weights and caches.
//!
//! A file of its own, because it looks at the memory of the whole process.

#![cfg(target_os = "linux")]

mod split;

use engine::LoadOptions;
use gguf_tools::{Shape, TensorType};
use split::{CutModel, N_CTX, TinyModel, assert_same_bits, engine, greedy, options};

/// Shards of the model, of a layer each.
const N_SHARDS: u32 = 5;

/// What a shard may take beside its weights and its cache, and the ends and the first shard beside.
const SHARD_BYTES_MAX: i64 = 6_000_000;
const STAGE_BYTES_MAX: i64 = 60_000_000;

/// Layers as wide as Llama-1B's need 17 MB for a step of 128 tokens. The shards of a stage give it
/// back after each, and still compute the same.
#[test]
fn large_steps_leave_no_memory_behind() {
    let shape = Shape {
        n_layers: N_SHARDS,
        n_vocab: 512,
        ..Shape::preset("llama-3.2-1b").expect("the preset exists")
    };
    let model = TinyModel::of(shape, TensorType::Q8_0);
    let cut = CutModel::even(&model.path, N_SHARDS);
    let (engine, plain) = (
        engine(),
        LoadOptions {
            repack: false,
            ..options(1)
        },
    );
    let prompt: Vec<_> = (0..300).map(|i| i * 7 % 400 + 20).collect();

    let before = anonymous_bytes();
    let mut split = cut.load(&engine, &plain);
    for chunk in prompt.chunks(128) {
        split.append(0, chunk);
    }
    let logits = split.append(0, &[7]).to_vec();
    let grown = anonymous_bytes() - before;

    let kv_bytes = cut
        .manifest
        .layers
        .iter()
        .map(|entry| entry.kv_bytes_per_token)
        .sum::<u64>();
    let kv_bytes = i64::try_from(kv_bytes * u64::from(N_CTX)).expect("a few MB");
    let beside = grown - kv_bytes;
    assert!(
        beside < STAGE_BYTES_MAX + i64::from(N_SHARDS) * SHARD_BYTES_MAX,
        "{beside} B"
    );
    eprintln!(
        "{} MB beside weights and caches of {N_SHARDS} shards and the ends",
        beside / 1_000_000
    );

    let mut whole = engine
        .load_whole(&model.path, &plain, &mut split::go_on)
        .expect("it loads");
    for chunk in prompt.chunks(128) {
        whole.run(chunk, 1).expect("the prompt fits");
    }
    let wanted = whole.run(&[7], 1).expect("the token fits");
    assert_same_bits(&logits, wanted, "after large steps");
    let next = greedy(wanted);
    assert_same_bits(
        split.append(0, &[next]),
        whole.run(&[next], 1).expect("it fits"),
        "a step on",
    );
}

/// Memory of the process that no file backs.
fn anonymous_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("Linux has it");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<i64>();

    kilobytes.expect("a number of kB") * 1024
}

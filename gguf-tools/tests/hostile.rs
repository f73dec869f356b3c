//! Any bytes at all into the reader give an error or a model, never a crash, a hang or memory beyond
//! the size of the file.
//!
//! One test, so that nobody else allocates while it counts.

#![allow(clippy::unwrap_used)] // in a test it is the assertion

use std::alloc::System;

use gguf_tools::{Cut, Gguf, Shape, Synth, TensorType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory for error messages, beside what grows with the file.
const SLACK_BYTES: usize = 4096;

#[test]
fn any_bytes_at_all() {
    truncated_anywhere();
    random_bytes();
    random_bytes_after_the_magic();
    valid_files_with_bytes_changed();
    valid_files_with_huge_numbers();
}

/// A file cut short at any byte of its header, or before its end, is refused.
fn truncated_anywhere() {
    for preset in ["tiny-llama", "tiny-bloom"] {
        let file = tiny(preset);
        let model = Gguf::from_bytes(file.clone()).unwrap();
        let header_bytes = usize::try_from(model.data_start()).unwrap();
        let last_tensor_end = file.len() - 512 * 4; // below the alignment: within the last tensor

        for end in (0..header_bytes).chain([header_bytes, last_tensor_end, file.len() - 64]) {
            let read = read(file[..end].to_vec()).unwrap();
            assert!(
                read.is_none(),
                "{preset} cut at {end} of {} was read",
                file.len()
            );
        }
    }
}

fn random_bytes() {
    check(20_000, proptest::collection::vec(any::<u8>(), 0..4096));
}

fn random_bytes_after_the_magic() {
    let small = |max: u64| (0..max).prop_map(u64::to_le_bytes);
    let body = proptest::collection::vec(prop_oneof![Just(0u8), 0u8..16, any::<u8>()], 0..2048);
    let strategy = (small(40), small(40), body).prop_map(|(n_tensors, n_keys, body)| {
        [&b"GGUF\x03\0\0\0"[..], &n_tensors, &n_keys, &body].concat()
    });

    check(20_000, strategy);
}

fn valid_files_with_bytes_changed() {
    for preset in ["tiny-llama", "tiny-gemma3", "tiny-phi3"] {
        let header = header(preset);
        let changes = proptest::collection::vec((0..header.len(), any::<u8>()), 1..8);
        let strategy = changes.prop_map(move |changes| {
            let mut file = header.clone();
            for (at, byte) in changes {
                file[at] = byte;
            }
            file
        });

        check(2000, strategy);
    }
}

/// Writes extreme numbers over any eight bytes: where a length or a count was, it is now absurd.
fn valid_files_with_huge_numbers() {
    let header = header("tiny-llama");
    let extreme = prop_oneof![
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 63),
        Just(1 << 32),
        Just(u64::from(u32::MAX)),
        Just(0),
        0u64..1 << 20,
    ];
    let strategy = (0..header.len() - 8, extreme).prop_map(move |(at, number)| {
        let mut file = header.clone();
        file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        file
    });

    check(4000, strategy);
}

fn check(cases: u32, strategy: impl Strategy<Value = Vec<u8>>) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };

    let outcome = TestRunner::new(config).run(&strategy, |file| read(file).map(|_| ()));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Reads `file`, counts the memory for that, and does with it what is done with a model.
fn read(file: Vec<u8>) -> Result<Option<Gguf>, TestCaseError> {
    let file_bytes = file.len();

    let counting = Region::new(ALLOCATOR);
    let read = Gguf::from_bytes(file);
    let allocated = counting.change().bytes_allocated;

    prop_assert!(
        allocated <= 2 * file_bytes + SLACK_BYTES,
        "{allocated} bytes were allocated for a file of {file_bytes}"
    );
    let Ok(model) = read else {
        return Ok(None);
    };
    for pair in model.key_values() {
        let _ = format!("{:?}", pair.value);
    }
    let _ = model.describe();
    if let Ok(cut) = Cut::about(&model, 3) {
        for shard in cut.shards() {
            let mut start = [0; 4096];
            shard.read_at(0, &mut start);
            shard.read_at(shard.len_bytes() / 2, &mut start);
        }
    }

    Ok(Some(model))
}

fn tiny(preset: &str) -> Vec<u8> {
    let synth = Synth::new(Shape::preset(preset).unwrap(), TensorType::Q4_0, 1);
    let mut file = Vec::new();
    synth.write_to(&mut file, &mut |_| {}).unwrap();

    file
}

/// A tiny model whose data is there but all zeros, so that a case is quick to make.
fn header(preset: &str) -> Vec<u8> {
    let file = tiny(preset);
    let data_start = Gguf::from_bytes(file.clone()).unwrap().data_start();
    let mut header = file;
    header[usize::try_from(data_start).unwrap()..].fill(0);

    header
}

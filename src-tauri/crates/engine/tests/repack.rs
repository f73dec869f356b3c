//! What llama.cpp keeps of weights a second time is what we say it keeps.
//!
//! A file of its own, because it looks at the memory of the whole process.

#![cfg(target_os = "linux")]

mod split;

use engine::{LoadOptions, repacked_bytes};
use gguf_tools::{Gguf, Shape, TensorType};
use split::{CutModel, TinyModel, engine, go_on, options};

/// How far the growth of the process may be from the bytes counted: what else a load allocates
/// differs by some 100 kB from one load to the next, and by huge pages of 2 MiB where the system gives those.
const TOLERANCE_BYTES: u64 = 5_000_000;

#[test]
fn what_is_kept_twice_is_counted() {
    let mut counted = 0;
    for matrices in [TensorType::Q4_0, TensorType::Q8_0, TensorType::F16] {
        let shape = Shape {
            n_layers: 1,
            n_vocab: 16_384,
            tied_embeddings: true,
            ..Shape::preset("llama-3.2-1b").expect("the preset exists")
        };
        let model = TinyModel::of(shape, matrices);
        let cut = CutModel::even(&model.path, 1);

        for shard in [0, 1] {
            growth(&cut, shard, true); // the first load of all sets things up that stay
            let wanted = repacked_bytes(&Gguf::open(&cut.path(shard)).expect("it was written"));
            let found = growth(&cut, shard, true).saturating_sub(growth(&cut, shard, false));

            assert!(
                found.abs_diff(wanted) < TOLERANCE_BYTES,
                "{matrices}, shard {shard}: {found} B are kept twice, not {wanted} B"
            );
            counted += wanted;
        }
    }

    // Where nothing is repacked, nothing was tested.
    assert!(!cfg!(target_arch = "x86_64") || counted > 10_000_000);
}

/// Returns by how much the process grows when it loads a shard, which stays loaded: memory that was
/// given back could be used again without growth.
fn growth(cut: &CutModel, shard: usize, repack: bool) -> u64 {
    let options = LoadOptions {
        repack,
        ..options(1)
    };
    let (engine, path) = (engine(), cut.path(shard));
    let before = anonymous_bytes();

    if shard == 0 {
        let ends = engine.load_ends(&path, &cut.manifest, &options, &mut go_on);
        std::mem::forget(ends.expect("it loads"));
    } else {
        let entry = &cut.manifest.layers[shard - 1];
        let layers = engine.load_layers(&path, &cut.manifest, entry, &options, &mut go_on);
        std::mem::forget(layers.expect("it loads"));
    }

    anonymous_bytes().saturating_sub(before) // some may have been written to the swap
}

/// Memory of the process that no file backs.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("Linux has it");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>();

    kilobytes.expect("a number of kB") * 1024
}

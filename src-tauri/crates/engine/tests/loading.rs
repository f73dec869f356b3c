//! Files that are not what they should be, and loads that are given up: an error that says so,
//! never an end of the process.

mod split;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use engine::{LayerShard, LoadError, LoadOptions, repacked_bytes};
use gguf_tools::{Gguf, ShardEntry, TensorType};
use split::{CutModel, TinyModel, engine, go_on, load_whole, options};

#[test]
fn progress_ascends_to_the_end() {
    let cut = cut("tiny-llama");
    let mut seen = Vec::new();
    let mut note = |done| {
        seen.push(done);
        ControlFlow::Continue(())
    };

    let entry = &cut.manifest.layers[0];
    engine()
        .load_layers(&cut.path(1), &cut.manifest, entry, &options(1), &mut note)
        .expect("the shard loads");

    assert!(
        seen.is_sorted() && seen.first() == Some(&0.0) && seen.last() == Some(&1.0),
        "{seen:?}"
    );
}

#[test]
fn a_load_can_be_given_up_at_any_time() {
    let cut = cut("tiny-llama");
    for n_calls in 0..3 {
        let mut left = n_calls;
        let mut give_up = |_| {
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };

        let entry = &cut.manifest.layers[0];
        let refused = engine().load_layers(
            &cut.path(1),
            &cut.manifest,
            entry,
            &options(1),
            &mut give_up,
        );

        assert!(matches!(refused, Err(LoadError::Cancelled)));
    }
    let refused = engine().load_ends(&cut.path(0), &cut.manifest, &options(1), &mut |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(refused, Err(LoadError::Cancelled)));
}

#[test]
fn a_shard_that_does_not_fit_is_refused_with_both_sizes() {
    let cut = cut("tiny-llama");
    let entry = &cut.manifest.layers[0];
    let shard = Gguf::open(&cut.path(1)).expect("it was just written");
    let needed = options(2).needed_bytes(entry, repacked_bytes(&shard));
    assert!(needed > entry.bytes + 2 * u64::from(split::N_CTX) * entry.kv_bytes_per_token);
    let within = |memory_budget_bytes| LoadOptions {
        memory_budget_bytes,
        ..options(2)
    };

    let refused = engine().load_layers(
        &cut.path(1),
        &cut.manifest,
        entry,
        &within(Some(needed - 1)),
        &mut go_on,
    );

    let sizes = (needed, needed - 1);
    assert!(matches!(
        refused,
        Err(LoadError::OutOfMemory { needed_bytes, free_bytes }) if (needed_bytes, free_bytes) == sizes
    ));
    engine()
        .load_layers(
            &cut.path(1),
            &cut.manifest,
            entry,
            &within(Some(needed)),
            &mut go_on,
        )
        .expect("it fits");
}

#[test]
fn a_shard_of_other_layers_is_refused() {
    let cut = cut("tiny-llama");

    let refused = load(&cut, &cut.path(1), &cut.manifest.layers[1]);

    assert!(
        matches!(&refused, Err(LoadError::WrongLayers { found: 2, .. })),
        "{:?}",
        refused.err()
    );
}

#[test]
fn a_shard_of_another_model_is_refused() {
    let (llama, qwen3) = (cut("tiny-llama"), cut("tiny-qwen3"));

    let refused = load(&qwen3, &llama.path(1), &qwen3.manifest.layers[0]);

    let message = refused.err().expect("it is another model").to_string();
    assert!(
        message.ends_with("general.architecture is llama where the manifest says qwen3"),
        "{message}"
    );
}

#[test]
fn files_that_are_no_gguf_are_refused() {
    let cut = cut("tiny-llama");
    let entry = &cut.manifest.layers[0];
    let whole = std::fs::read(cut.path(1)).expect("the shard is there");
    let half = &whole[..whole.len() / 2];

    for bytes in [
        &b""[..],
        b"GGUF",
        b"This is a text.",
        &[0; 4096],
        half,
        &whole[..whole.len() - 1],
    ] {
        let path = written(&cut, bytes);
        let refused = load(&cut, &path, entry);
        assert!(
            matches!(refused, Err(LoadError::Unreadable { .. })),
            "{} bytes",
            bytes.len()
        );
    }

    let refused = load(&cut, Path::new("no/such/file"), entry);
    assert!(matches!(refused, Err(LoadError::Unreadable { .. })));
}

/// A whole GGUF that lacks a tensor: llama.cpp says which, and the error passes it on.
#[test]
fn what_llama_cpp_refuses_is_told_in_its_words() {
    let cut = cut("tiny-llama");
    let mut bytes = std::fs::read(cut.path(1)).expect("the shard is there");
    let name = b"blk.0.attn_k.weight";
    let at = bytes
        .windows(name.len())
        .position(|part| part == name)
        .expect("the tensor is there");
    bytes[at + name.len() - 1] = b'z';
    let path = written(&cut, &bytes);

    let refused = load(&cut, &path, &cut.manifest.layers[0]);

    let message = refused.err().expect("a tensor is missing").to_string();
    assert!(
        message.contains("tensor 'blk.0.attn_k.weight' not found"),
        "{message}"
    );
}

/// Options may come from another phone's plan.
#[test]
fn impossible_options_are_refused() {
    let cut = cut("tiny-llama");
    let (entry, path) = (&cut.manifest.layers[0], cut.path(1));
    let impossible = [
        LoadOptions {
            n_ctx: 0,
            ..options(1)
        },
        LoadOptions {
            n_ctx: u32::MAX,
            ..options(1)
        },
        LoadOptions {
            n_batch: 0,
            ..options(1)
        },
        options(0),
        options(257),
        options(u32::MAX),
    ];

    for options in impossible {
        let refused = engine().load_layers(&path, &cut.manifest, entry, &options, &mut go_on);
        assert!(
            matches!(refused, Err(LoadError::Backend { .. })),
            "{options:?}"
        );
        let budget = LoadOptions {
            memory_budget_bytes: Some(0),
            ..options
        };
        let refused = engine().load_layers(&path, &cut.manifest, entry, &budget, &mut go_on);
        assert!(
            matches!(refused, Err(LoadError::OutOfMemory { .. })),
            "{budget:?}"
        );
    }
}

/// What a path may hold that a C string or a terminal does not like.
#[test]
fn paths_may_hold_anything() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let path = model.path.with_file_name("модель 模型 'a\"b\n.gguf");
    std::fs::copy(&model.path, &path).expect("there is room for a copy");

    load_whole(&engine(), &path);
}

/// Shards are loaded while others run; the thread that loads hands them over.
#[test]
fn a_shard_may_be_loaded_on_another_thread() {
    let cut = cut("tiny-llama");
    let engine = engine();
    let mut here = cut.load(&engine, &options(1));
    let wanted = here.append(0, &[5, 6, 7]).to_vec();

    let mut there = std::thread::scope(|scope| {
        let loading = scope.spawn(|| cut.load(&engine, &options(1)));
        here.append(0, &[8]);
        loading.join().expect("it loads")
    });

    split::assert_same_bits(there.append(0, &[5, 6, 7]), &wanted, "loaded elsewhere");
}

fn cut(preset: &str) -> CutModel {
    let model = TinyModel::new(preset, TensorType::Q4_0);

    CutModel::new(&model.path, &[2])
}

fn load(cut: &CutModel, path: &Path, entry: &ShardEntry) -> Result<LayerShard, LoadError> {
    engine().load_layers(path, &cut.manifest, entry, &options(1), &mut go_on)
}

fn written(cut: &CutModel, bytes: &[u8]) -> PathBuf {
    let path = cut.folder.path().join("damaged");
    std::fs::write(&path, bytes).expect("there is room for a copy");

    path
}

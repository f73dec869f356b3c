//! A sequence that was cut back, copied, moved or forgotten goes on as if it had always been so.

mod split;

use engine::{RunError, Token};
use gguf_tools::TensorType;
use proptest::prelude::*;
use split::{
    CutModel, SMOLLM2, SplitModel, TinyModel, assert_same_bits, engine, greedy, options, real_model,
};

/// One architecture with a cache for all layers, one with windows.
const PRESETS: [&str; 2] = ["tiny-llama", "tiny-gemma3"];

#[test]
fn a_truncated_sequence_goes_on_as_if_the_rest_had_never_been() {
    for preset in PRESETS {
        let model = ThreeShards::new(preset);
        let (mut split, mut fresh) = (model.load(1), model.load(1));
        split.append(0, &tokens(1, 70));
        split.append(0, &tokens(2, 20));

        split.for_each(|shard| shard.truncate(0, 70).expect("all positions are there"));

        fresh.append(0, &tokens(1, 70));
        assert_go_on_alike(&mut split, 0, &mut fresh, 0, 3);
    }
}

#[test]
fn a_cleared_sequence_is_new() {
    let model = ThreeShards::new("tiny-llama");
    let (mut split, mut fresh) = (model.load(1), model.load(1));
    split.append(0, &tokens(1, 70));

    split.for_each(|shard| shard.clear(0).expect("there is a sequence 0"));

    assert_eq!(split.layers[0].n_positions(0), 0);
    assert_go_on_alike(&mut split, 0, &mut fresh, 0, 2);
}

#[test]
fn a_copy_and_its_original_go_on_apart() {
    for preset in PRESETS {
        let model = ThreeShards::new(preset);
        let (mut split, mut alone) = (model.load(3), model.load(3));
        split.append(0, &tokens(1, 70));
        split.append(2, &tokens(5, 30));
        alone.append(0, &tokens(1, 70));

        split.for_each(|shard| shard.copy(0, 2).expect("there are sequences 0 and 2"));
        split.append(0, &tokens(3, 10));

        assert_go_on_alike(&mut split, 2, &mut alone, 0, 2);
        alone.for_each(|shard| shard.clear(0).expect("there is a sequence 0"));
        alone.append(0, &tokens(1, 70));
        alone.append(0, &tokens(3, 10));
        assert_go_on_alike(&mut split, 0, &mut alone, 0, 4);
    }
}

/// From a phone with room for three sequences to one with room for one, and back as another
/// sequence.
#[test]
fn an_exported_sequence_goes_on_elsewhere() {
    for preset in PRESETS {
        let model = ThreeShards::new(preset);
        let (mut here, mut there, mut stayed) = (model.load(3), model.load(1), model.load(3));
        here.append(1, &tokens(1, 70));
        stayed.append(1, &tokens(1, 70));

        move_sequence(&mut here, 1, &mut there, 0);

        assert_go_on_alike(&mut there, 0, &mut stayed, 1, 2);
        move_sequence(&mut there, 0, &mut here, 2);
        assert_go_on_alike(&mut here, 2, &mut stayed, 1, 3);
    }
}

/// The same with a real model, and the sizes that such a move has.
#[test]
fn a_real_sequence_goes_on_elsewhere() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    let (engine, cut) = (engine(), CutModel::even(&path, 2));
    let (mut here, mut there) = (
        cut.load(&engine, &options(1)),
        cut.load(&engine, &options(1)),
    );
    here.append(0, &tokens(1, 100));

    move_sequence(&mut here, 0, &mut there, 0);

    assert_go_on_alike(&mut there, 0, &mut here, 0, 2);
    let mut state = Vec::new();
    let entry = &cut.manifest.layers[0];
    here.layers[0]
        .export_sequence(0, &mut state)
        .expect("there is a sequence 0");
    let n_positions = u64::from(here.layers[0].n_positions(0));
    let kv_bytes = entry.kv_bytes_per_token * n_positions;
    assert!((kv_bytes..kv_bytes + 16 * n_positions + 1024).contains(&(state.len() as u64)));
}

#[test]
fn an_empty_sequence_can_be_moved() {
    let model = ThreeShards::new("tiny-gemma3");
    let (mut here, mut there) = (model.load(2), model.load(2));
    there.append(1, &tokens(1, 9));

    move_sequence(&mut here, 0, &mut there, 1);

    assert_eq!(there.layers[0].n_positions(1), 0);
    assert_go_on_alike(&mut there, 1, &mut here, 0, 2);
}

/// What slid out of the window is not moved, so one cannot go back behind it, and is told so.
#[test]
fn a_moved_window_cannot_be_truncated_behind_its_start() {
    let model = ThreeShards::new("tiny-gemma3");
    let (mut here, mut there) = (model.load(1), model.load(1));
    here.append(0, &tokens(1, 100));
    move_sequence(&mut here, 0, &mut there, 0);
    let shard = &mut there.layers[0];

    let refused = shard.truncate(0, 60);

    assert!(
        matches!(
            refused,
            Err(RunError::WindowLost {
                position: 60,
                first: 70..100,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(shard.n_positions(0), 100);
    shard.truncate(0, 100).expect("nothing is lost");
    shard.clear(0).expect("one can always begin anew");
}

#[test]
fn sequences_that_do_not_exist_are_refused() {
    let model = ThreeShards::new("tiny-llama");
    let mut split = model.load(2);
    let shard = &mut split.layers[0];
    let unknown = Err(RunError::UnknownSequence {
        sequence: 2,
        n_sequences: 2,
    });

    assert_eq!(shard.truncate(2, 0), unknown);
    assert_eq!(shard.clear(2), unknown);
    assert_eq!(shard.copy(0, 2), unknown);
    assert_eq!(shard.copy(2, 0), unknown);
    assert_eq!(shard.export_sequence(2, &mut Vec::new()), unknown);
    assert_eq!(shard.import_sequence(2, &[]), unknown);
}

#[test]
fn a_cache_of_other_layers_is_refused() {
    let model = ThreeShards::new("tiny-llama");
    let mut split = model.load(1);
    split.append(0, &tokens(1, 9));
    let mut state = Vec::new();
    split.layers[0]
        .export_sequence(0, &mut state)
        .expect("there is a sequence 0");

    let refused = split.layers[1].import_sequence(0, &state);

    assert_eq!(
        refused,
        Err(RunError::WrongCache {
            n_ctx: split::N_CTX
        })
    );
    assert_eq!(split.layers[1].n_positions(0), 9);
}

/// Whatever another phone sends as a cache: an error or a cache, and a shard that goes on working.
#[test]
fn damaged_caches_do_no_harm() {
    let model = ThreeShards::new("tiny-gemma3");
    let (mut split, mut fresh) = (model.load(2), model.load(2));
    split.append(0, &tokens(1, 40));
    let mut state = Vec::new();
    split.layers[0]
        .export_sequence(0, &mut state)
        .expect("there is a sequence 0");
    let mut runner = proptest::test_runner::TestRunner::deterministic();

    // Most of the bytes are keys and values, where any damage is another cache: hit the structure.
    let offset = prop_oneof![0..600usize, 0..state.len()];
    let damage = (offset, any::<u8>(), prop::option::of(0..state.len()));
    let shard = std::cell::RefCell::new(&mut split.layers[0]);
    let outcome = runner.run(&damage, |(offset, byte, length)| {
        let mut damaged = state.clone();
        let offset = offset.min(damaged.len() - 1);
        damaged[offset] = byte;
        damaged.truncate(length.unwrap_or(usize::MAX));

        let imported = shard.borrow_mut().import_sequence(1, &damaged);

        let n_positions = shard.borrow().n_positions(1);
        let is_right = match imported {
            Ok(()) => n_positions == 40,
            Err(error) => {
                matches!(error, RunError::WrongCache { .. }) && [0, 40].contains(&n_positions)
            }
        };
        prop_assert!(is_right, "{imported:?}, {n_positions} positions");
        Ok(())
    });

    outcome.expect("no damage is taken for a cache");
    split.for_each(|shard| shard.clear(1).expect("there is a sequence 1"));
    assert_go_on_alike(&mut split, 1, &mut fresh, 1, 2);
}

/// A tiny model cut in three, and how to load it.
struct ThreeShards {
    cut: CutModel,
}

impl ThreeShards {
    fn new(preset: &str) -> Self {
        let model = TinyModel::new(preset, TensorType::Q4_0);

        Self {
            cut: CutModel::new(&model.path, &[1, 4]),
        }
    }

    fn load(&self, n_sequences: u32) -> SplitModel {
        self.cut.load(&engine(), &options(n_sequences))
    }
}

fn tokens(seed: Token, n: usize) -> Vec<Token> {
    (0..n as Token)
        .map(|i| (i * 31 + seed * 97) % 450 + 10)
        .collect()
}

fn move_sequence(from: &mut SplitModel, sequence: u32, to: &mut SplitModel, to_sequence: u32) {
    for (from, to) in from.layers.iter_mut().zip(&mut to.layers) {
        let mut state = Vec::new();
        from.export_sequence(sequence, &mut state)
            .expect("the sequence exists");
        to.import_sequence(to_sequence, &state)
            .expect("the layers are the same");
        assert_eq!(from.n_positions(sequence), to.n_positions(to_sequence));
    }
}

/// Runs a chunk and some greedy steps through both and compares logits.
fn assert_go_on_alike(a: &mut SplitModel, of_a: u32, b: &mut SplitModel, of_b: u32, seed: Token) {
    let mut next = tokens(seed, 12);
    for step in 0..16 {
        let logits = b.append(of_b, &next).to_vec();
        assert_same_bits(a.append(of_a, &next), &logits, &format!("step {step}"));
        next = vec![greedy(&logits)];
    }
}

//! What goes through all shards comes out as from the whole model: bit for bit.

mod split;

use std::path::Path;

use engine::{Engine, EngineOptions, SequenceRun, Token, Whole};
use gguf_tools::TensorType;
use split::{
    CutModel, GEMMA3, SMOLLM2, SplitModel, TINY_PRESETS, TinyModel, assert_same_bits, engine,
    greedy, load_whole, options, real_model,
};

const PROMPT: &str = "<|im_start|>user\nWhat is the capital of France, and why do people like to go there?\
    <|im_end|>\n<|im_start|>assistant\n";

/// Tokens of a chunk that takes the whole prompt.
const PROMPT_MAX: usize = 128;

/// SmolLM2-135M in 1, 2, 3, 5 and 30 shards: logits equal at each of 64 greedy steps.
#[test]
fn smollm2_is_exact_in_any_number_of_shards() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    for n_shards in [1, 2, 3, 5, 30] {
        assert_real_exact(&path, &CutModel::even(&path, n_shards), &[PROMPT_MAX, 7]);
    }
}

/// Gemma 3 270M has 18 layers, of which each sixth sees everything and the others a window: cuts
/// that do not fall between periods, a layer alone, and a shard with nothing but windows.
#[test]
fn gemma3_is_exact_across_its_window_period() {
    let Some(path) = real_model(GEMMA3) else {
        return;
    };
    for cuts in [&[7, 13][..], &[1], &[6, 12], &[3, 4, 5, 6, 17]] {
        assert_real_exact(&path, &CutModel::new(&path, cuts), &[PROMPT_MAX]);
    }
}

/// Each architecture with tiny random weights, cut in every possible way.
#[test]
fn every_architecture_is_exact_however_it_is_cut() {
    for preset in TINY_PRESETS {
        let model = TinyModel::new(preset, TensorType::Q4_0);
        for cuts in model.all_cuts() {
            assert_tiny_exact(preset, &model, &cuts);
        }
    }
}

/// The other types of weights, cut at each boundary, and into single layers.
#[test]
fn every_type_of_weights_is_exact_at_every_boundary() {
    for preset in TINY_PRESETS {
        for matrices in [TensorType::Q8_0, TensorType::F16, TensorType::F32] {
            let model = TinyModel::new(preset, matrices);
            for cut in 1..model.n_layers {
                assert_tiny_exact(preset, &model, &[cut]);
            }
            assert_tiny_exact(preset, &model, &(1..model.n_layers).collect::<Vec<_>>());
        }
    }
}

/// More rows than the ends take at once, as when a draft is verified.
#[test]
fn every_wanted_row_is_exact() {
    for preset in TINY_PRESETS {
        let model = TinyModel::new(preset, TensorType::Q4_0);
        let engine = engine();
        let mut whole = load_whole(&engine, &model.path);
        let mut split = CutModel::new(&model.path, &[2]).load(&engine, &options(1));
        for n_wanted in [2, 8, 19] {
            let tokens: Vec<Token> = (0..20).map(|i| (i * 53 + 7) % 400 + 5).collect();
            let position = split.layers[0].n_positions(0);
            let run = SequenceRun {
                sequence: 0,
                position,
                n_tokens: 20,
                n_wanted,
            };

            let wanted = whole.run(&tokens, n_wanted).expect("the tokens fit");
            let rows = split.step(&[run], &tokens).expect("the tokens fit");

            assert_same_bits(rows, wanted, &format!("{preset}, {n_wanted} rows"));
        }
    }
}

/// Both kinds of threads: one that computes alone, several that share each product.
#[test]
fn threads_change_nothing_about_exactness() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let (engine, spared) = (
        Engine::new(EngineOptions { n_threads: 2 }),
        Engine::new(EngineOptions { n_threads: 2 }),
    );
    let mut whole = load_whole(&engine, &model.path);
    let mut split = CutModel::new(&model.path, &[1, 3]).load(&spared, &options(1));
    let prompt: Vec<Token> = (0..100).map(|i| (i * 37 + 11) % 400 + 5).collect();

    for (chunk, is_spared) in [(100, false), (9, false), (100, true), (9, true), (9, false)] {
        spared.spare(is_spared);
        let what = if is_spared {
            "one of two threads"
        } else {
            "two threads"
        };
        assert_exact(&mut whole, &mut split, &prompt, chunk, 8, what);
    }
}

fn assert_tiny_exact(preset: &str, model: &TinyModel, cuts: &[u32]) {
    let prompt: Vec<Token> = (0..60).map(|i| (i * 37 + 11) % 400 + 5).collect();
    let engine = engine();
    let mut whole = load_whole(&engine, &model.path);
    let mut split = CutModel::new(&model.path, cuts).load(&engine, &options(1));

    for chunk in [60, 7, 1] {
        assert_exact(
            &mut whole,
            &mut split,
            &prompt,
            chunk,
            8,
            &format!("{preset} cut at {cuts:?}"),
        );
    }
}

fn assert_real_exact(path: &Path, cut: &CutModel, chunks: &[usize]) {
    let engine = engine();
    let mut whole = load_whole(&engine, path);
    let mut split = cut.load(&engine, &options(1));
    let prompt = split.ends.tokenize_prompt(PROMPT);

    for &chunk in chunks {
        let n_shards = split.layers.len();
        assert_exact(
            &mut whole,
            &mut split,
            &prompt,
            chunk,
            64,
            &format!("{n_shards} shards"),
        );
    }
}

/// Runs a prompt in chunks and its greedy continuation through both, comparing logits at every
/// step.
fn assert_exact(
    whole: &mut Whole,
    split: &mut SplitModel,
    prompt: &[Token],
    chunk: usize,
    n_tokens: usize,
    what: &str,
) {
    whole.clear();
    split.for_each(|shard| shard.clear(0).expect("there is a sequence 0"));

    let mut next = 0;
    for chunk in prompt.chunks(chunk) {
        let wanted = whole.run(chunk, 1).expect("the prompt fits");
        assert_same_bits(split.append(0, chunk), wanted, &format!("{what}, prompt"));
        next = greedy(wanted);
    }
    for i in 1..n_tokens {
        let wanted = whole.run(&[next], 1).expect("the token fits");
        assert_same_bits(
            split.append(0, &[next]),
            wanted,
            &format!("{what}, token {i}"),
        );
        next = greedy(wanted);
    }
}

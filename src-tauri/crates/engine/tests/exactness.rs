//! What goes through all shards comes out as from the whole model: bit for bit.

mod split;

use engine::Token;
use gguf_tools::TensorType;
use split::{CutModel, GEMMA3, SMOLLM2, SplitModel, TinyModel, assert_same_bits, engine, greedy, load_whole, options, real_model};

const PROMPT: &str = "<|im_start|>user\nWhat is the capital of France, and why do people like to go there?<|im_end|>\n<|im_start|>assistant\n";

/// SmolLM2-135M in 1, 2, 3, 5 and 30 shards: logits equal at each of 64 greedy steps.
#[test]
fn smollm2_is_exact_in_any_number_of_shards() {
    let Some(path) = real_model(SMOLLM2) else { return };
    for n_shards in [1, 2, 3, 5, 30] {
        let cut = CutModel::even(&path, n_shards);
        assert_exact(&path, &cut, 64, &[]);
    }
}

/// Gemma 3 270M has 18 layers, of which each sixth sees everything and the others a window: cuts that do not fall
/// between periods, a layer alone, and a shard with nothing but windows.
#[test]
fn gemma3_is_exact_across_its_window_period() {
    let Some(path) = real_model(GEMMA3) else { return };
    for cuts in [&[7, 13][..], &[1], &[6, 12], &[3, 4, 5, 6, 17]] {
        let cut = CutModel::new(&path, cuts);
        assert_exact(&path, &cut, 64, &[]);
    }
}

/// Each architecture with tiny random weights, of each type, cut in every possible way.
#[test]
fn every_architecture_is_exact_however_it_is_cut() {
    for preset in ["tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3", "tiny-bloom", "tiny-phi3"] {
        for matrices in [TensorType::Q4_0, TensorType::Q8_0, TensorType::F16, TensorType::F32] {
            let model = TinyModel::new(preset, matrices);
            for cuts in model.all_cuts() {
                let cut = CutModel::new(&model.path, &cuts);
                let prompt: Vec<Token> = (0..60).map(|i| (i * 37 + 11) % 400 + 5).collect();
                eprint!("{preset} {matrices} {cuts:?} ");
                assert_exact(&model.path, &cut, 12, &prompt);
                eprintln!();
            }
        }
    }
}

/// Runs prompt and greedy continuation through both, comparing logits at every step.
fn assert_exact(path: &std::path::Path, cut: &CutModel, n_tokens: usize, prompt: &[Token]) {
    let engine = engine();
    let mut whole = load_whole(&engine, path);
    let mut split = cut.load(&engine, &options(1));
    let prompt = if prompt.is_empty() { split.ends.tokenize_prompt(PROMPT) } else { prompt.to_vec() };
    for chunk in [prompt.len(), 7, 1] {
        whole.clear();
        split.for_each(|shard| shard.clear(0).expect("there is a sequence 0"));
        assert_exact_in_chunks(&mut whole, &mut split, &prompt, chunk, n_tokens);
    }
}

fn assert_exact_in_chunks(
    whole: &mut engine::Whole,
    split: &mut SplitModel,
    prompt: &[Token],
    chunk: usize,
    n_tokens: usize,
) {
    let n_shards = split.layers.len();
    let mut tokens = Vec::new();
    for chunk in prompt.chunks(chunk) {
        let wanted = whole.run(chunk, 1).expect("the prompt fits");
        assert_same_bits(split.append(0, chunk), wanted, &format!("{n_shards} shards, prefill"));
        tokens = vec![greedy(wanted)];
    }
    while tokens.len() < n_tokens {
        let token = tokens[tokens.len() - 1];
        let wanted = whole.run(&[token], 1).expect("the token fits");
        assert_same_bits(split.append(0, &[token]), wanted, &format!("{n_shards} shards, token {}", tokens.len()));
        tokens.push(greedy(wanted));
    }
}

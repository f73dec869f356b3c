//! Real models, tiny random ones, and plain llama.cpp to compare with.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use engine::{Detokenizer, Ends, Engine, EngineOptions, LoadOptions, Token, Whole};
use gguf_tools::{Cut, Gguf, Shape, Synth, TensorType};
use libtest_mimic::Trial;

use crate::scratch::Scratch;

pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

/// One tiny model of each architecture.
pub const TINY: [&str; 6] = [
    "tiny-llama",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-gemma3",
    "tiny-bloom",
    "tiny-phi3",
];

/// Tokens in a batch of plain llama.cpp: its own default.
pub const N_BATCH: usize = 512;

/// Makes a test of a real model; it is skipped, and says so, where the model is missing. Under `CI=true`
/// nothing is skipped: it fails.
pub fn with_model(
    name: &str,
    model: &'static str,
    test: impl FnOnce(&Path) + Send + 'static,
) -> Trial {
    let path = folder().join(model);
    if path.exists() {
        return trial(name, move || test(&path));
    }

    let missing = format!("there is no {} (set LINGUALINKED_MODELS)", path.display());
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    Trial::test(name, move || Err(missing.into()))
        .with_kind(format!("SKIPPED without {model}"))
        .with_ignored_flag(!in_ci)
}

/// Makes a test that needs nothing.
pub fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn folder() -> PathBuf {
    match std::env::var_os("LINGUALINKED_MODELS") {
        Some(folder) => folder.into(),
        None => {
            let home = std::env::var_os("HOME").unwrap_or_default();
            PathBuf::from(home).join(".cache/lingualinked/models")
        }
    }
}

/// Writes a tiny model with random weights.
pub fn tiny(scratch: &Scratch, preset: &str) -> PathBuf {
    let shape = Shape::preset(preset).expect("the preset exists");
    let path = scratch.path(&format!("{preset}.gguf"));
    let synth = Synth::new(shape, TensorType::Q8_0, 1);
    synth
        .write_file(&path, &mut |_| {})
        .expect("there is room for the model");

    path
}

/// Returns `n_tokens` tokens that every tiny model has.
pub fn tiny_prompt(n_tokens: u32) -> Vec<u32> {
    (0..n_tokens).map(|i| (i * 37 + 11) % 400 + 5).collect()
}

/// Plain llama.cpp: the whole model in one context of this process, the likeliest token always.
pub struct Plain {
    whole: Whole,
    n_batch: usize,
    /// The likeliest token after what has been read.
    next: Token,
}

impl Plain {
    /// Loads a model that reads prompts in batches of `n_batch` tokens.
    ///
    /// Batches of other lengths give other last bits: llama.cpp has other kernels for other numbers of rows.
    pub fn load(model: &Path, n_batch: usize) -> Self {
        let options = LoadOptions {
            n_ctx: 2048,
            n_batch: n_batch as u32,
            ..LoadOptions::default()
        };
        let whole = engine()
            .load_whole(model, &options, &mut go_on)
            .expect("the model loads");

        Self {
            whole,
            n_batch,
            next: 0,
        }
    }

    /// Forgets everything, and goes on from a prompt.
    pub fn answer(&mut self, prompt: &[u32], n_tokens: usize) -> Vec<u32> {
        self.whole.clear();

        self.go_on(prompt, n_tokens)
    }

    /// Goes on from `prompt` after everything that was read and written before. The last token that was
    /// written has not been read: where it is to be part of the conversation, `prompt` begins with it.
    pub fn go_on(&mut self, prompt: &[u32], n_tokens: usize) -> Vec<u32> {
        let prompt = prompt
            .iter()
            .map(|&token| token as Token)
            .collect::<Vec<_>>();
        for batch in prompt.chunks(self.n_batch) {
            self.read(batch);
        }
        let mut tokens = vec![self.next];
        while tokens.len() < n_tokens {
            self.read(&[self.next]);
            tokens.push(self.next);
        }

        tokens.into_iter().map(|token| token as u32).collect()
    }

    fn read(&mut self, tokens: &[Token]) {
        self.next = likeliest(self.whole.run(tokens, 1).expect("it fits the context"));
    }
}

/// Returns what plain llama.cpp writes after `prompt`.
pub fn plain(model: &Path, prompt: &[u32], n_tokens: usize) -> Vec<u32> {
    Plain::load(model, N_BATCH).answer(prompt, n_tokens)
}

/// A model's vocabulary.
pub struct Words(Ends);

impl Words {
    /// Loads the vocabulary of a model.
    pub fn of(model: &Path) -> Self {
        let scratch = Scratch::new();
        let gguf = Gguf::open(model).expect("the model is a GGUF");
        let cut = Cut::about(&gguf, 1).expect("the model can be cut");
        let manifest = cut.manifest(|_| {});
        let shard = cut
            .shards()
            .iter()
            .find(|shard| shard.kind() == manifest.ends.kind);
        let path = scratch.path("ends.gguf");
        shard
            .expect("there are ends")
            .write_file(&path)
            .expect("there is room for the ends");

        let ends = engine().load_ends(&path, &manifest, &LoadOptions::default(), &mut go_on);
        Self(ends.expect("the ends load"))
    }

    /// Returns the tokens of a prompt.
    pub fn tokens(&self, prompt: &str) -> Vec<u32> {
        self.0
            .tokenize_prompt(prompt)
            .into_iter()
            .map(|token| token as u32)
            .collect()
    }

    /// Returns the text of an answer.
    pub fn text(&self, tokens: &[u32]) -> String {
        let mut detokenizer = Detokenizer::new();
        let mut text = String::new();
        for &token in tokens {
            detokenizer.push(&self.0, token as Token, &mut text);
        }
        detokenizer.finish(&mut text);

        text
    }
}

fn engine() -> Engine {
    Engine::new(EngineOptions { n_threads: 1 })
}

fn go_on(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Returns the likeliest token, the first of equals.
fn likeliest(logits: &[f32]) -> Token {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });

    best.expect("there are logits") as Token
}

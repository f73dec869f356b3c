//! A model that runs cut and one that runs whole, side by side.

#![allow(dead_code)] // each test file uses a part

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use engine::{
    Ends, Engine, EngineOptions, LayerShard, LoadOptions, RunError, SequenceRun, Token, Whole,
};
use gguf_tools::{Cut, Gguf, LayerRange, Manifest, Shape, Synth, TensorType};

/// Positions per sequence: more than any test uses, so that the caches are alike.
pub const N_CTX: u32 = 512;

/// Tokens per step.
pub const N_BATCH: u32 = 128;

/// Returns an engine with one thread: the machine may be busy with other tests.
pub fn engine() -> Engine {
    Engine::new(EngineOptions { n_threads: 1 })
}

/// Returns how tests load: `n_sequences` sequences of [`N_CTX`] positions.
pub fn options(n_sequences: u32) -> LoadOptions {
    LoadOptions {
        n_ctx: N_CTX,
        n_sequences,
        n_batch: N_BATCH,
        ..LoadOptions::default()
    }
}

/// Does not stop a load.
pub fn go_on(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Returns the path of a real model, or says that the test is skipped.
///
/// Looks in `LINGUALINKED_MODELS`, by default `~/.cache/lingualinked/models`.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LINGUALINKED_MODELS")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set"))
                .join(".cache/lingualinked/models")
        });
    let path = folder.join(name);
    if !path.exists() {
        eprintln!(
            "SKIPPED: there is no {} (set LINGUALINKED_MODELS)",
            path.display()
        );
        return None;
    }

    Some(path)
}

/// A tiny model of each architecture that can be cut.
pub const TINY_PRESETS: [&str; 6] = [
    "tiny-llama",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-gemma3",
    "tiny-bloom",
    "tiny-phi3",
];

pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

/// A model cut into files in a folder of its own.
pub struct CutModel {
    pub folder: tempfile::TempDir,
    pub manifest: Manifest,
}

impl CutModel {
    /// Cuts the model before each of the layers `cuts`.
    pub fn new(path: &Path, cuts: &[u32]) -> Self {
        let gguf = Gguf::open(path).expect("the model is a GGUF");
        let n_layers = Cut::about(&gguf, 1)
            .expect("the model can be cut")
            .manifest(|_| ())
            .n_layers;
        let borders = [&[0], cuts, &[n_layers]].concat();
        let ranges = borders
            .windows(2)
            .map(|b| LayerRange::new(b[0], b[1]).expect("cuts ascend"));
        let cut = Cut::new(&gguf, &ranges.collect::<Vec<_>>()).expect("the model can be cut");

        Self::write(&cut)
    }

    /// Cuts the model into `n_shards` even shards.
    pub fn even(path: &Path, n_shards: u32) -> Self {
        let gguf = Gguf::open(path).expect("the model is a GGUF");

        Self::write(&Cut::about(&gguf, n_shards).expect("the model can be cut"))
    }

    fn write(cut: &Cut) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        for shard in cut.shards() {
            let path = folder.path().join(shard.kind().to_string());
            shard
                .write_file(&path)
                .expect("there is room for the shard");
        }

        Self {
            folder,
            manifest: cut.manifest(|_| ()),
        }
    }

    /// Returns the file of the ends (0) or of a layer shard (from 1).
    pub fn path(&self, shard: usize) -> PathBuf {
        let entry = self.manifest.shards().nth(shard).expect("the shard exists");

        self.folder.path().join(entry.kind.to_string())
    }

    pub fn load(&self, engine: &Engine, options: &LoadOptions) -> SplitModel {
        let manifest = &self.manifest;
        let layers = manifest.layers.iter().enumerate().map(|(i, entry)| {
            let path = self.path(i + 1);
            engine
                .load_layers(&path, manifest, entry, options, &mut go_on)
                .expect("the shard loads")
        });
        let layers = layers.collect();
        let ends = engine.load_ends(&self.path(0), manifest, options, &mut go_on);

        SplitModel {
            ends: ends.expect("the ends load"),
            layers,
            hidden: Vec::new(),
            next: Vec::new(),
            logits: Vec::new(),
        }
    }
}

/// A model with random weights, mostly of a tiny shape, in a folder of its own.
pub struct TinyModel {
    folder: tempfile::TempDir,
    pub path: PathBuf,
    pub n_layers: u32,
}

impl TinyModel {
    pub fn new(preset: &str, matrices: TensorType) -> Self {
        Self::of(Shape::preset(preset).expect("the preset exists"), matrices)
    }

    pub fn of(shape: Shape, matrices: TensorType) -> Self {
        let n_layers = shape.n_layers;
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let path = folder.path().join("model.gguf");
        Synth::new(shape, matrices, 1)
            .write_file(&path, &mut |_| {})
            .expect("there is room for the model");

        Self {
            folder,
            path,
            n_layers,
        }
    }

    /// Returns every set of layers before which the model can be cut.
    pub fn all_cuts(&self) -> impl Iterator<Item = Vec<u32>> + use<> {
        let borders = self.n_layers - 1;

        (0..1u32 << borders).map(move |set| {
            (1..=borders)
                .filter(|cut| set >> (cut - 1) & 1 == 1)
                .collect()
        })
    }
}

/// All shards of a model in one process, run in turn.
pub struct SplitModel {
    pub ends: Ends,
    pub layers: Vec<LayerShard>,
    hidden: Vec<f32>,
    next: Vec<f32>,
    logits: Vec<f32>,
}

impl SplitModel {
    /// Runs tokens through all shards and returns the logits of the wanted rows.
    pub fn step(&mut self, runs: &[SequenceRun], tokens: &[Token]) -> Result<&mut [f32], RunError> {
        self.ends.embed(tokens, &mut self.hidden)?;
        let last = self.layers.len() - 1;
        for (i, shard) in self.layers.iter_mut().enumerate() {
            shard.run(runs, &self.hidden, &mut self.next, i < last)?;
            std::mem::swap(&mut self.hidden, &mut self.next);
        }
        self.ends.logits(&self.hidden, &mut self.logits)?;

        Ok(&mut self.logits)
    }

    /// Appends tokens to a sequence and returns the logits of the last one.
    pub fn append(&mut self, sequence: u32, tokens: &[Token]) -> &mut [f32] {
        let position = self.layers[0].n_positions(sequence);
        let run = SequenceRun {
            sequence,
            position,
            n_tokens: tokens.len() as u32,
            n_wanted: 1,
        };

        self.step(&[run], tokens).expect("the step fits")
    }

    pub fn for_each(&mut self, mut act: impl FnMut(&mut LayerShard)) {
        self.layers.iter_mut().for_each(&mut act);
    }
}

pub fn load_whole(engine: &Engine, path: &Path) -> Whole {
    engine
        .load_whole(path, &options(1), &mut go_on)
        .expect("the model loads")
}

/// Returns the first of the most likely tokens.
pub fn greedy(logits: &[f32]) -> Token {
    let best = logits
        .iter()
        .enumerate()
        .rev()
        .max_by(|a, b| a.1.total_cmp(b.1));

    best.expect("there are logits").0 as Token
}

/// Returns the greedy continuation of a prompt by the whole model.
pub fn continue_whole(whole: &mut Whole, prompt: &[Token], n_tokens: usize) -> Vec<Token> {
    let mut token = greedy(whole.run(prompt, 1).expect("the prompt fits"));
    let mut tokens = vec![token];
    while tokens.len() < n_tokens {
        token = greedy(whole.run(&[token], 1).expect("the token fits"));
        tokens.push(token);
    }

    tokens
}

/// Returns the greedy continuation of a prompt by the cut model.
pub fn continue_split(
    split: &mut SplitModel,
    sequence: u32,
    prompt: &[Token],
    n_tokens: usize,
) -> Vec<Token> {
    let mut token = greedy(split.append(sequence, prompt));
    let mut tokens = vec![token];
    while tokens.len() < n_tokens {
        token = greedy(split.append(sequence, &[token]));
        tokens.push(token);
    }

    tokens
}

/// Asserts that two rows are the same bits; says how far apart they are if not.
#[track_caller]
pub fn assert_same_bits(split: &[f32], whole: &[f32], what: &str) {
    assert_eq!(split.len(), whole.len(), "{what}");
    let differs = |(a, b): &(&f32, &f32)| a.to_bits() != b.to_bits();
    let n = split.iter().zip(whole).filter(differs).count();
    let distance = split
        .iter()
        .zip(whole)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        n == 0,
        "{what}: {n} of {} logits differ, by up to {distance}",
        whole.len()
    );
}

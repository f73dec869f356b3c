//! Plain llama.cpp: the whole model, one context, this process. What a group is measured against.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use engine::{Engine, EngineOptions, LoadOptions, Token, Whole};

/// llama.cpp's own default for tokens in a batch.
const N_BATCH: u32 = 512;

/// The whole model, loaded.
pub struct Plain {
    whole: Whole,
}

/// What one run took.
#[derive(Debug, Clone)]
pub struct Run {
    /// From the start of the prompt to the first token.
    pub ttft: Duration,
    /// From each token to the next.
    pub gaps: Vec<Duration>,
    /// The tokens.
    pub tokens: Vec<u32>,
}

impl Plain {
    /// Loads a model as llama.cpp does by itself.
    pub fn load(model: &Path, n_threads: u32, n_ctx: u32) -> Result<Self> {
        let engine = Engine::new(EngineOptions { n_threads });
        let options = LoadOptions {
            n_ctx,
            n_batch: N_BATCH,
            ..LoadOptions::default()
        };
        let whole = engine.load_whole(model, &options, &mut |_| ControlFlow::Continue(()))?;

        Ok(Self { whole })
    }

    /// Returns the tokens of the vocabulary.
    pub fn n_vocab(&self) -> u32 {
        u32::try_from(self.whole.n_vocab()).expect("llama.cpp counts tokens in 32 bits")
    }

    /// Reads a prompt with an empty cache and writes `n_tokens` greedily.
    pub fn run(&mut self, prompt: &[u32], n_tokens: usize) -> Result<Run> {
        let prompt = prompt
            .iter()
            .map(|&t| Token::try_from(t))
            .collect::<Result<Vec<_>, _>>()?;
        self.whole.clear();

        let started = Instant::now();
        let mut next = 0;
        for chunk in prompt.chunks(N_BATCH as usize) {
            next = greedy(self.whole.run(chunk, 1)?);
        }
        let ttft = started.elapsed();

        let mut tokens = vec![next as u32];
        let mut gaps = Vec::with_capacity(n_tokens);
        let mut last = Instant::now();
        while tokens.len() < n_tokens {
            next = greedy(self.whole.run(&[next], 1)?);
            tokens.push(next as u32);
            gaps.push(last.elapsed());
            last = Instant::now();
        }

        Ok(Run { ttft, gaps, tokens })
    }
}

/// Returns the likeliest token, the first of equals.
fn greedy(logits: &[f32]) -> Token {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });

    Token::try_from(best.unwrap_or(0)).expect("llama.cpp counts tokens in 32 bits")
}

//! A model that can be computed by hand: every number depends on all that a real one would depend on.
//!
//! A row of the hidden state is a digest. Each layer keeps, like a KV cache, what it saw at each
//! position, and makes of a row a digest of all that it saw up to there. So a row that skips a layer, a
//! cache with a gap, a stale tail that was not truncated: each gives another text.

use proto::chat::Ask;
use proto::pipeline::Token;

/// Tokens of the vocabulary. Small, so that conversations share beginnings by chance too.
pub const N_VOCAB: u64 = 500;

/// One token in so many ends the model's turn.
const END_ONE_IN: u32 = 25;

/// One row of a hidden state, with the way that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Token that was embedded.
    pub token: Token,
    /// Layers that it passed, in order.
    pub layers: Vec<u32>,
    /// Digest of all that it depends on.
    pub digest: u64,
}

/// A hidden state.
pub type Hidden = Vec<Row>;

/// What one layer keeps of one sequence, a position each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Tokens whose rows were seen.
    pub tokens: Vec<Token>,
    digests: Vec<u64>,
}

/// What one phone alone would answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// Tokens of the answer.
    pub tokens: Vec<Token>,
    /// Whether the model ended its turn; else the room was used up.
    pub stopped: bool,
}

/// Returns what one phone with the whole model would answer.
pub fn alone(n_layers: u32, n_ctx: usize, prompt: &[Token], ask: &Ask) -> Alone {
    let mut caches = vec![Cache::default(); n_layers as usize];
    let mut read = |token| {
        let mut row = Row::embed(token);
        for (layer, cache) in (0..).zip(&mut caches) {
            cache.run(layer, &mut row);
        }
        row
    };

    let mut row = prompt.iter().map(|&token| read(token)).last();
    let mut tokens = Vec::new();
    while let Some(last) = row {
        let position = prompt.len() + tokens.len();
        let token = sample(&last, position, ask.sampling.seed);
        tokens.push(token);

        if is_end(token) && !ask.ignore_end {
            return Alone {
                tokens,
                stopped: true,
            };
        }
        if tokens.len() == ask.max_tokens as usize || position + 1 == n_ctx {
            break;
        }
        row = Some(read(token));
    }

    Alone {
        tokens,
        stopped: false,
    }
}

/// Draws the token at `position`: a function of the row, of luck and of the position.
pub fn sample(row: &Row, position: usize, seed: u64) -> Token {
    let draw = mix(row.digest, mix(seed, position as u64)) % N_VOCAB;

    Token::try_from(draw).expect("the vocabulary is small")
}

/// Returns whether a token ends the model's turn.
pub fn is_end(token: Token) -> bool {
    token.is_multiple_of(END_ONE_IN)
}

/// Returns a token as text.
pub fn text_of(token: Token) -> String {
    format!("{token} ")
}

impl Row {
    /// Makes a row of a token.
    pub fn embed(token: Token) -> Self {
        Self {
            token,
            layers: Vec::new(),
            digest: mix(0, u64::from(token)),
        }
    }
}

impl Cache {
    /// Runs `layer` over the row at the next position.
    pub fn run(&mut self, layer: u32, row: &mut Row) {
        let before = self.digests.last().copied().unwrap_or_default();
        row.digest = mix(mix(before, row.digest), u64::from(layer));
        row.layers.push(layer);

        self.tokens.push(row.token);
        self.digests.push(row.digest);
    }

    /// Forgets all positions from `n_positions` on.
    pub fn truncate(&mut self, n_positions: usize) {
        self.tokens.truncate(n_positions);
        self.digests.truncate(n_positions);
    }
}

/// Mixes two numbers so that any change of either shows (the finaliser of SplitMix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.rotate_left(23) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);

    x ^ (x >> 31)
}

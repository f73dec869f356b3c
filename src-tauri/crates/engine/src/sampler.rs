//! Choosing the next token: a function of logits, history, seed and position, and of nothing else.
//!
//! There is no hidden random state: the luck of position 17 is the same however often and wherever
//! it is drawn. A replay after a phone was lost therefore writes the same text.
//!
//! The chain: repetition penalty, top-k, min-p, top-p, temperature, draw; the filters look at
//! probabilities at temperature 1. The vocabulary is never sorted: candidates are picked in one
//! pass, and only as many are put in order as top-p needs.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::llama::Token;

/// How many candidates are put in order before top-p looks whether it has enough.
///
/// A guess: with usual settings far fewer survive, and picking 256 of a vocabulary costs little
/// more than reading it.
const SORTED_AT_ONCE: usize = 256;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Above 1 flattens, below 1 sharpens; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 for all.
    pub top_k: u32,
    /// Only tokens at least this likely, measured against the most likely one; 0 for all.
    pub min_p: f32,
    /// Only the most likely of what is left that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Divides the logits of tokens that occurred (multiplies negative ones); 1 for none.
    pub repetition_penalty: f32,
    /// How many tokens of the history count as occurred.
    pub repetition_window: u32,
    /// Different luck for different seeds.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// llama.cpp's default values.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            min_p: 0.05,
            top_p: 0.95,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

/// Chooses tokens; keeps nothing but its options and its scratch space.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    candidates: Vec<Candidate>,
    recent: Vec<Token>,
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: Token,
    logit: f32,
    /// Relative to the most likely token, whose weight is 1.
    weight: f32,
}

impl Sampler {
    /// Returns a sampler with these options.
    pub fn new(options: SamplingOptions) -> Self {
        Self {
            options,
            candidates: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// Returns the options.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Chooses the token for `position`; changes the logits of tokens that occurred in `history`.
    ///
    /// Equal logits are ordered by token, and NaN counts as impossible.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[n_vocab]`, of the token at `position - 1`
    /// - `history`: all tokens before `position`, or at least the last `repetition_window`
    ///
    /// # Panics
    ///
    /// If there are no logits.
    pub fn sample(&mut self, logits: &mut [f32], history: &[Token], position: u32) -> Token {
        assert!(!logits.is_empty(), "a vocabulary is never empty");
        self.penalise(logits, history);
        if self.options.temperature <= 0.0 || self.options.top_k == 1 {
            return most_likely(logits);
        }

        self.filter(logits);

        self.draw(position)
    }

    /// Makes tokens that occurred less likely, each once.
    fn penalise(&mut self, logits: &mut [f32], history: &[Token]) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 || penalty <= 0.0 {
            return;
        }
        let window = history
            .len()
            .saturating_sub(self.options.repetition_window as usize);
        self.recent.clear();
        self.recent.extend_from_slice(&history[window..]);
        self.recent.sort_unstable();
        self.recent.dedup();

        for &token in &self.recent {
            let Some(logit) = usize::try_from(token)
                .ok()
                .and_then(|token| logits.get_mut(token))
            else {
                continue;
            };
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }

    /// Leaves in `candidates` what top-k, min-p and top-p let through, with their weights.
    ///
    /// Each of the three lets through the most likely tokens up to some point.
    fn filter(&mut self, logits: &[f32]) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let bar = match self.options.min_p {
            min_p if min_p > 0.0 => max + min_p.min(1.0).ln(),
            _ => f32::NEG_INFINITY,
        };
        let top_k = match self.options.top_k as usize {
            0 => usize::MAX,
            top_k => top_k,
        };

        self.pick(logits, bar, top_k);
        for candidate in &mut self.candidates {
            candidate.weight = (candidate.logit - max).exp();
        }
        if self.options.top_p < 1.0 {
            self.keep_most_likely(self.options.top_p);
        }
    }

    /// Puts the `n` most likely tokens that reach `bar` into `candidates`, in no order.
    fn pick(&mut self, logits: &[f32], mut bar: f32, n: usize) {
        self.candidates.clear();
        for (token, &logit) in (0..).zip(logits) {
            if logit < bar || logit.is_nan() {
                continue;
            }
            self.candidates.push(Candidate {
                token,
                logit,
                weight: 0.0,
            });
            // The worse half is thrown away; from then on a token must reach the worst that was
            // kept.
            if self.candidates.len() == n.saturating_mul(2) {
                bar = self.keep(n);
            }
        }

        if self.candidates.len() > n {
            self.keep(n);
        }
    }

    /// Keeps the `n` most likely candidates; returns the logit of the last of them.
    fn keep(&mut self, n: usize) -> f32 {
        let (_, last, _) = self
            .candidates
            .select_nth_unstable_by(n - 1, Candidate::order);
        let last = last.logit;
        self.candidates.truncate(n);

        last
    }

    /// Keeps the fewest candidates, most likely first, that together have the part `p` of all
    /// weight; at least one.
    fn keep_most_likely(&mut self, p: f32) {
        let wanted = p * self
            .candidates
            .iter()
            .map(|candidate| candidate.weight)
            .sum::<f32>();
        let (mut reached, mut n_kept) = (0.0, 0);

        while n_kept < self.candidates.len() {
            let rest = &mut self.candidates[n_kept..];
            let n_sorted = rest.len().min(SORTED_AT_ONCE);
            if n_sorted < rest.len() {
                rest.select_nth_unstable_by(n_sorted, Candidate::order);
            }
            rest[..n_sorted].sort_unstable_by(Candidate::order);

            for candidate in &rest[..n_sorted] {
                n_kept += 1;
                reached += candidate.weight;
                if reached >= wanted {
                    return self.candidates.truncate(n_kept);
                }
            }
        }
    }

    /// Draws one of the candidates with the luck of `position`.
    fn draw(&mut self, position: u32) -> Token {
        let exponent = 1.0 / self.options.temperature;
        for candidate in &mut self.candidates {
            candidate.weight = candidate.weight.powf(exponent);
        }
        let total = self
            .candidates
            .iter()
            .map(|candidate| f64::from(candidate.weight))
            .sum::<f64>();

        let mut left = luck(self.options.seed, position) * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.token;
            }
        }

        // Rounding, or all logits were NaN.
        self.candidates
            .last()
            .map_or(0, |candidate| candidate.token)
    }
}

impl Candidate {
    /// Most likely first; equals by token.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other
            .logit
            .total_cmp(&self.logit)
            .then(self.token.cmp(&other.token))
    }
}

/// Returns the first of the most likely tokens; 0 if no logit is a number.
fn most_likely(logits: &[f32]) -> Token {
    let mut best = (f32::NEG_INFINITY, 0);
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.0 {
            best = (logit, token);
        }
    }

    best.1
}

/// Returns a number from 0 to 1, not 1 itself, that is the same for the same seed and position.
fn luck(seed: u64, position: u32) -> f64 {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(position));

    // The 53 bits that an f64 holds exactly.
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Draws that a distribution is judged by.
    const N_DRAWS: u32 = 20_000;

    #[test]
    fn at_temperature_0_the_first_of_the_most_likely_is_chosen() {
        let mut sampler = Sampler::new(SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        });

        assert_eq!(sampler.sample(&mut [0.0, 3.0, 3.0, f32::NAN], &[], 0), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let probabilities = [0.5f32, 0.3, 0.15, 0.05];
        let shares = shares(&open(1.0), &probabilities.map(f32::ln));

        for (share, probability) in shares.iter().zip(probabilities) {
            assert!((share - probability).abs() < 0.015, "{shares:?}");
        }
    }

    #[test]
    fn temperature_flattens_and_sharpens() {
        let logits = [0.8f32, 0.2].map(f32::ln);

        // 0.8 : 0.2 becomes 2 : 1 at temperature 2 (square roots), 16 : 1 at 0.5 (squares).
        assert!((shares(&open(2.0), &logits)[0] - 2.0 / 3.0).abs() < 0.015);
        assert!((shares(&open(0.5), &logits)[0] - 16.0 / 17.0).abs() < 0.01);
    }

    #[test]
    fn each_filter_lets_the_most_likely_through() {
        let logits = [0.4f32, 0.1, 0.3, 0.2].map(f32::ln);
        let chosen = |options| {
            let shares = shares(&options, &logits);
            (0..4)
                .filter(|&token| shares[token] > 0.0)
                .collect::<Vec<_>>()
        };

        assert_eq!(chosen(open(1.0)), [0, 1, 2, 3]);
        assert_eq!(
            chosen(SamplingOptions {
                top_k: 2,
                ..open(1.0)
            }),
            [0, 2]
        );
        assert_eq!(
            chosen(SamplingOptions {
                top_p: 0.6,
                ..open(1.0)
            }),
            [0, 2]
        );
        assert_eq!(
            chosen(SamplingOptions {
                top_p: 0.0,
                ..open(1.0)
            }),
            [0]
        );
        assert_eq!(
            chosen(SamplingOptions {
                min_p: 0.4,
                ..open(1.0)
            }),
            [0, 2, 3]
        );
    }

    #[test]
    fn what_occurred_becomes_less_likely_once() {
        let options = SamplingOptions {
            repetition_penalty: 2.0,
            repetition_window: 3,
            ..open(0.0)
        };
        let mut logits = [3.0, -1.0, 2.0, 1.0];

        // Token 3 is too long ago, token 99 is not in the vocabulary.
        let token = Sampler::new(options).sample(&mut logits, &[3, 0, 0, 1, 99][..4], 4);

        assert_eq!(logits, [1.5, -2.0, 2.0, 1.0]);
        assert_eq!(token, 2);
    }

    #[test]
    fn positions_have_luck_of_their_own() {
        let lucks = (0..100)
            .map(|position| luck(7, position))
            .collect::<Vec<_>>();

        assert!(lucks.iter().all(|luck| (0.0..1.0).contains(luck)));
        assert!(lucks.windows(2).all(|pair| pair[0] != pair[1]));
        assert_ne!(luck(7, 0), luck(8, 0));
        // Kept: a replay on another phone, or another version, must draw the same.
        assert_eq!(luck(7, 3), LUCK_OF_SEED_7_POSITION_3);
    }

    proptest! {
        /// The same seed and position choose the same token, whatever the sampler did before.
        #[test]
        fn a_replay_chooses_the_same(
            logits in prop::collection::vec(-9.0f32..9.0, 1..600),
            options in any_options(),
            positions in prop::collection::vec(0u32..100, 1..8),
        ) {
            let mut used = Sampler::new(options.clone());
            for position in positions {
                let chosen = used.sample(&mut logits.clone(), &[1, 2], position);
                let again = Sampler::new(options.clone()).sample(&mut logits.clone(), &[1, 2], position);
                prop_assert_eq!(chosen, again);
            }
        }

        #[test]
        fn top_k_1_is_greedy(logits in prop::collection::vec(-9.0f32..9.0, 1..600), options in any_options()) {
            let greedy = SamplingOptions { temperature: 0.0, ..options.clone() };
            let top_1 = SamplingOptions { top_k: 1, ..options };

            let [greedy, top_1] = [greedy, top_1].map(|options| {
                Sampler::new(options).sample(&mut logits.clone(), &[], 5)
            });
            prop_assert_eq!(greedy, top_1);
        }

        /// The filters, done slowly: sort everything, cut.
        #[test]
        fn filters_are_those_of_a_full_sort(
            logits in prop::collection::vec(-9.0f32..9.0, 1..2000),
            options in any_options(),
        ) {
            let mut sampler = Sampler::new(options.clone());
            sampler.filter(&logits);
            let mut kept = sampler.candidates.iter().map(|candidate| candidate.token).collect::<Vec<_>>();
            kept.sort_unstable();

            prop_assert_eq!(kept, filtered_slowly(&logits, &options));
        }

        /// Infinite and absent numbers choose something in the vocabulary.
        #[test]
        fn odd_logits_choose_a_token(
            logits in prop::collection::vec(
                prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX]), 1..50),
            options in any_options(),
        ) {
            let token = Sampler::new(options).sample(&mut logits.clone(), &[0], 5);

            prop_assert!((0..logits.len() as Token).contains(&token));
        }
    }

    const LUCK_OF_SEED_7_POSITION_3: f64 = 0.103_773_994_412_343_25;

    /// Returns options that filter nothing.
    fn open(temperature: f32) -> SamplingOptions {
        SamplingOptions {
            temperature,
            top_k: 0,
            min_p: 0.0,
            top_p: 1.0,
            ..SamplingOptions::default()
        }
    }

    fn any_options() -> impl Strategy<Value = SamplingOptions> {
        let limits = (
            0u32..60,
            prop_oneof![Just(0.0f32), 0.0f32..1.0],
            prop_oneof![Just(1.0f32), 0.0f32..1.0],
        );
        (0.1f32..3.0, limits, any::<u64>()).prop_map(
            |(temperature, (top_k, min_p, top_p), seed)| SamplingOptions {
                temperature,
                top_k,
                min_p,
                top_p,
                seed,
                ..SamplingOptions::default()
            },
        )
    }

    fn shares(options: &SamplingOptions, logits: &[f32]) -> Vec<f32> {
        let mut sampler = Sampler::new(options.clone());
        let mut shares = vec![0.0; logits.len()];
        for position in 0..N_DRAWS {
            let token = sampler.sample(&mut logits.to_vec(), &[], position);
            shares[token as usize] += 1.0 / N_DRAWS as f32;
        }

        shares
    }

    fn filtered_slowly(logits: &[f32], options: &SamplingOptions) -> Vec<Token> {
        let mut sorted = (0..)
            .zip(logits)
            .map(|(token, &logit)| Candidate {
                token,
                logit,
                weight: 0.0,
            })
            .collect::<Vec<_>>();
        sorted.sort_by(Candidate::order);
        let max = sorted[0].logit;
        if options.top_k > 0 {
            sorted.truncate(options.top_k as usize);
        }
        if options.min_p > 0.0 {
            sorted.retain(|candidate| candidate.logit >= max + options.min_p.ln());
        }
        let weight = |candidate: &Candidate| (candidate.logit - max).exp();
        let mut left = options.top_p * sorted.iter().map(weight).sum::<f32>();
        if options.top_p < 1.0 {
            let n_before = sorted.iter().take_while(|candidate| {
                left -= weight(candidate);
                left > 1e-4 // sums in another order: equal but for rounding
            });
            let n_kept = n_before.count() + 1;
            sorted.truncate(n_kept);
        }

        let mut kept = sorted
            .iter()
            .map(|candidate| candidate.token)
            .collect::<Vec<_>>();
        kept.sort_unstable();
        kept
    }
}

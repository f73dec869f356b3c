//! What an answer costs as a whole, though it was written in parts: it goes on where a lost phone cut it off.
//!
//! ```text
//!  asked ─► first word … last word ─╳  asked again ─► first word … last word ─► done: what this part cost
//!  └──────┘└──────────────────────┘                  └─────────────────────┘
//!    ttft            time to write        +               time to write
//! ```
//!
//! Only the part that is written to its end says what it cost; of those before it, this phone has counted and timed the
//! tokens as they came. The time between two parts, in which nothing is written, counts for neither figure.

use std::time::{Duration, Instant};

use proto::PeerId;
use proto::chat::Figures as Cost;

/// The parts of an answer.
#[derive(Debug, Default)]
pub struct Parts {
    under_way: Option<Part>,
    broken: Broken,
}

/// A part that is being written.
#[derive(Debug)]
struct Part {
    asked_at: Instant,
    /// Phones that compute it, in ring order.
    ring: Vec<PeerId>,
    /// When its first token came, and its last.
    came: Option<(Instant, Instant)>,
    n_tokens: u32,
}

/// What is known of all parts that broke off with at least a word.
#[derive(Debug, Default)]
struct Broken {
    /// From the question of the first of them to its first word.
    ttft: Option<Duration>,
    n_tokens: u32,
    /// From one token to the next, of the same part.
    n_steps: u32,
    /// What these took together.
    steps: Duration,
    phones: Vec<PeerId>,
}

impl Parts {
    /// A part is asked for, of a ring; the one before has broken off.
    pub fn begin(&mut self, ring: Vec<PeerId>, now: Instant) {
        if let Some(part) = self.under_way.take() {
            self.broken.add(part);
        }

        self.under_way = Some(Part {
            asked_at: now,
            ring,
            came: None,
            n_tokens: 0,
        });
    }

    /// A token came.
    pub fn token(&mut self, now: Instant) {
        let Some(part) = &mut self.under_way else {
            return;
        };
        let first_at = part.came.map_or(now, |(first_at, _)| first_at);

        part.came = Some((first_at, now));
        part.n_tokens = part.n_tokens.saturating_add(1);
    }

    /// Returns what the answer cost if the part under way, which ends it, cost `last`.
    ///
    /// Tokens that were in the cache, and bytes per token, are those of the last part: of others nobody has told them.
    pub fn whole(&self, last: &Cost) -> Cost {
        let Some(ttft) = self.broken.ttft else {
            return *last;
        };
        // What was read of it is the prompt, and what had been written.
        let prompt_tokens = last.prompt_tokens.saturating_sub(self.broken.n_tokens);
        let last_steps = last.completion_tokens.saturating_sub(1);
        let steps_ms = millis(self.broken.steps) + last.tpot_ms * f64::from(last_steps);
        let n_steps = self.broken.n_steps.saturating_add(last_steps);

        Cost {
            prompt_tokens,
            cached_tokens: last.cached_tokens.min(prompt_tokens),
            completion_tokens: last.completion_tokens.saturating_add(self.broken.n_tokens),
            ttft_ms: millis(ttft),
            tpot_ms: steps_ms / f64::from(n_steps.max(1)),
            bytes_per_token: last.bytes_per_token,
        }
    }

    /// Returns the phones that computed it: the ring of the part under way, and then those that only computed parts before.
    pub fn phones(&self) -> Vec<PeerId> {
        let mut phones = Vec::new();
        let ring = self.under_way.iter().flat_map(|part| &part.ring);
        for phone in ring.chain(&self.broken.phones) {
            if !phones.contains(phone) {
                phones.push(*phone);
            }
        }

        phones
    }
}

impl Broken {
    fn add(&mut self, part: Part) {
        let Some((first_at, last_at)) = part.came else {
            return;
        };

        self.ttft
            .get_or_insert(first_at.duration_since(part.asked_at));
        self.n_tokens = self.n_tokens.saturating_add(part.n_tokens);
        self.n_steps = self.n_steps.saturating_add(part.n_tokens - 1);
        self.steps += last_at.duration_since(first_at);
        self.phones.extend(part.ring);
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: PeerId = PeerId([1; 32]);
    const BEN: PeerId = PeerId([2; 32]);
    const CLEO: PeerId = PeerId([3; 32]);

    /// What the last part cost: 6 tokens, 50 ms apart, after 20 of the prompt and 5 that had been written.
    const LAST: Cost = Cost {
        prompt_tokens: 25,
        cached_tokens: 3,
        completion_tokens: 6,
        ttft_ms: 900.0,
        tpot_ms: 50.0,
        bytes_per_token: 7,
    };

    #[test]
    fn an_answer_in_one_part_costs_what_its_ring_says() {
        let start = Instant::now(); // an origin only
        let mut parts = Parts::default();
        write(&mut parts, &[ANNA, BEN], start, &[300, 400, 500]);

        assert_eq!(parts.whole(&LAST), LAST);
        assert_eq!(parts.phones(), [ANNA, BEN]);
    }

    #[test]
    fn an_answer_that_went_on_costs_what_all_its_parts_cost() {
        let start = Instant::now();
        let mut parts = Parts::default();
        // 2 tokens in 100 ms, a part without any, 3 tokens in 2 · 200 ms; 10 s between them do not count.
        write(&mut parts, &[ANNA, BEN, CLEO], start, &[300, 400]);
        write(&mut parts, &[CLEO], after(start, 10_000), &[]);
        let again = after(start, 20_000);
        write(&mut parts, &[ANNA, BEN], again, &[800, 1000, 1200]);
        write(&mut parts, &[ANNA], after(start, 30_000), &[900, 950]);

        let whole = parts.whole(&LAST);

        assert_eq!((whole.prompt_tokens, whole.cached_tokens), (20, 3));
        assert_eq!(whole.completion_tokens, 2 + 3 + 6);
        assert_eq!(whole.ttft_ms, 300.0, "of the part that wrote the first");
        // 1 step of 100 ms, 2 of 200, 5 of 50.
        assert_eq!(whole.tpot_ms, (100.0 + 400.0 + 250.0) / 8.0);
        assert_eq!(parts.phones(), [ANNA, BEN, CLEO]);
    }

    #[test]
    fn parts_without_a_word_count_for_nothing() {
        let start = Instant::now();
        let mut parts = Parts::default();
        write(&mut parts, &[BEN], start, &[]);
        write(&mut parts, &[ANNA], after(start, 5_000), &[900]);

        assert_eq!(parts.whole(&LAST), LAST);
        assert_eq!(parts.phones(), [ANNA]);
    }

    #[test]
    fn parts_of_single_words_have_no_pace() {
        let start = Instant::now();
        let mut parts = Parts::default();
        write(&mut parts, &[ANNA], start, &[300]);
        write(&mut parts, &[ANNA], after(start, 5_000), &[300]);
        let last = Cost {
            completion_tokens: 1,
            tpot_ms: 0.0,
            ..LAST
        };

        let whole = parts.whole(&last);

        assert_eq!((whole.completion_tokens, whole.tpot_ms), (2, 0.0));
    }

    /// Writes a part: tokens so many milliseconds after it was asked for.
    fn write(parts: &mut Parts, ring: &[PeerId], asked_at: Instant, tokens_ms: &[u64]) {
        parts.begin(ring.to_vec(), asked_at);
        for token_ms in tokens_ms {
            parts.token(after(asked_at, *token_ms));
        }
    }

    fn after(at: Instant, ms: u64) -> Instant {
        at + Duration::from_millis(ms)
    }
}

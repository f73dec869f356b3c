//! What people will see if a plan is brought into force: time to the first token, time per token.
//!
//! Decode is a lap after a lap. A prompt goes round in chunks that follow each other without
//! waiting: with S equal stages and M chunks it takes M + S − 1 chunk times. Stages are not equal,
//! so the first chunk takes its lap and every further one comes out one *busiest phone* later:
//!
//! ```text
//! stage 1  ▐1▌▐2▌▐3▌
//! stage 2     ▐▀1▀▀▌▐▀2▀▀▌▐▀3▀▀▌           lap + (M − 1) · busiest
//! stage 3            ▐1▌   ▐2▌   ▐3▌
//! ```
//!
//! The last chunk is what is left of the prompt and therefore shorter. The first token is then one
//! decode of the ends away.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::cost::{Leg, Seconds};
use super::problem::{Availability, Problem};
use super::{Placement, SolveError, solve};
use crate::PeerId;

/// What is expected of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Time to first token, of the planned prompt (TTFT).
    pub ttft_s: f64,
    /// Time per output token, of one session (TPOT).
    pub tpot_s: f64,
    /// Part of it that phones compute.
    pub compute_s: f64,
    /// Part of it that activations are on their way.
    pub hops_s: f64,
    /// What the busiest phone needs for each token: a full ring gives one in that time.
    pub busiest_s: f64,
}

/// What was measured once a plan was in force.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Time to first token, of a prompt as long as planned.
    pub ttft_s: f64,
    /// Time per output token, of one session.
    pub tpot_s: f64,
}

/// How far a forecast was out: 0.1 if what happened took a tenth longer, −0.1 if a tenth less.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Miss {
    /// Of the time to first token.
    pub ttft: f64,
    /// Of the time per output token.
    pub tpot: f64,
}

/// Returns what would come of a group of just `phones`, with the ends on `head`.
///
/// To ask is to allow: phones that are excluded or tired count as ready. Nothing is moved.
///
/// # Errors
///
/// As [`solve`]; a phone that was not measured or not reached is named.
pub fn what_if(
    problem: &Problem,
    phones: &BTreeSet<PeerId>,
    head: PeerId,
) -> Result<Placement, SolveError> {
    let mut smaller = problem.clone();
    smaller.head = head;
    smaller.phones.retain(|phone| phones.contains(&phone.id));
    for phone in &mut smaller.phones {
        phone.availability = Availability::Ready;
    }

    solve(&smaller)
}

/// Returns what would come of `phone` alone, ends and all.
///
/// # Errors
///
/// As [`solve`]; [`SolveError::DoesNotFit`] if the model is too large for it.
pub fn alone(problem: &Problem, phone: PeerId) -> Result<Placement, SolveError> {
    what_if(problem, &BTreeSet::from([phone]), phone)
}

impl Forecast {
    /// Returns how far the forecast was out.
    pub fn miss(&self, measured: Measured) -> Miss {
        Miss {
            ttft: measured.ttft_s / self.ttft_s - 1.0,
            tpot: measured.tpot_s / self.tpot_s - 1.0,
        }
    }

    /// Returns the tokens a second of one session.
    pub fn tokens_per_s(&self) -> f64 {
        1.0 / self.tpot_s
    }

    /// Returns the tokens a second of `sessions` sessions together: each adds its own until the
    /// busiest phone has its hands full.
    pub fn tokens_per_s_of(&self, sessions: u32) -> f64 {
        (f64::from(sessions) / self.tpot_s).min(1.0 / self.busiest_s)
    }

    pub(super) fn of(problem: &Problem, legs: &[Leg]) -> Self {
        let decode = Seconds::of_decode(problem);

        Self {
            ttft_s: ttft_s(problem, &decode, legs),
            tpot_s: decode.lap_s(legs),
            compute_s: decode.compute_s(legs),
            hops_s: decode.hops_s(legs),
            busiest_s: decode.busiest_s(legs),
        }
    }
}

fn ttft_s(problem: &Problem, decode: &Seconds, legs: &[Leg]) -> f64 {
    let chunk_tokens = problem.workload.chunk_tokens;
    let n_chunks = problem.workload.prompt_tokens.div_ceil(chunk_tokens);
    let last_tokens = problem.workload.prompt_tokens - (n_chunks - 1) * chunk_tokens;

    let whole = Seconds::of_chunk(problem, chunk_tokens);
    let last = Seconds::of_chunk(problem, last_tokens);
    let prefill_s = if n_chunks == 1 {
        last.lap_s(legs)
    } else {
        // The last chunk is held up either by itself, after the others, or by the one before it.
        let others = f64::from(n_chunks - 1);
        let (whole_s, last_s) = (whole.busiest_s(legs), last.busiest_s(legs));
        let behind_others_s = others * whole_s + last.lap_s(legs);
        let behind_one_s = whole.lap_s(legs) + (others - 1.0) * whole_s + last_s;
        behind_others_s.max(behind_one_s)
    };

    prefill_s + decode.ends_s()
}

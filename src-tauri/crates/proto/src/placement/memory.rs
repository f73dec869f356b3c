//! What a run of shards takes of a phone's memory, in whole bytes.
//!
//! Nothing here is a float: whether a plan fits is decided by counting. The limits that
//! [`Problem::validate`] enforces keep every sum below 2^63.

use std::ops::Range;

use super::problem::{Phone, Problem};

/// Returns the bytes that `shards` take on `phone`: weights and their repacked copy, KV caches at
/// the planned context, and a context for each shard.
pub(super) fn needed_bytes(problem: &Problem, phone: usize, shards: Range<usize>) -> u64 {
    let cached_tokens =
        u64::from(problem.workload.context_tokens) * u64::from(problem.workload.sessions);
    let repacks = problem.phones[phone].repacks;

    problem.shards[shards]
        .iter()
        .map(|shard| {
            shard.weights_bytes
                + if repacks { shard.repack_bytes } else { 0 }
                + shard.kv_bytes_per_token * cached_tokens
                + shard.context_bytes
        })
        .sum()
}

/// Returns the bytes that the ends take on `phone`, if it is the head.
pub(super) fn ends_bytes(problem: &Problem, phone: usize) -> u64 {
    let Phone { id, repacks, .. } = problem.phones[phone];
    let ends = problem.ends;

    if id != problem.head {
        0
    } else if repacks {
        ends.weights_bytes + ends.repack_bytes + ends.context_bytes
    } else {
        ends.weights_bytes + ends.context_bytes
    }
}

impl Problem {
    /// Returns the memory that a phone needs for layer shards of so many bytes, without caches, whichever they are:
    /// in proportion to what all of them need. The ends are counted where it is the head.
    ///
    /// # Panics
    ///
    /// If there is no such phone.
    pub fn memory_for(&self, phone: usize, shards_bytes: u64) -> u64 {
        let all_bytes = self
            .shards
            .iter()
            .map(|shard| shard.weights_bytes)
            .sum::<u64>();
        let needed = u128::from(needed_bytes(self, phone, 0..self.shards.len()));
        let share = needed * u128::from(shards_bytes.min(all_bytes));
        let share = share.div_ceil(u128::from(all_bytes.max(1)));
        let share = u64::try_from(share).expect("a share is no more than the whole");

        share + ends_bytes(self, phone)
    }
}

/// Returns by how many bytes `shards`, with the ends if the phone is the head, exceed its budget;
/// 0 if they fit.
pub(super) fn shortfall_bytes(problem: &Problem, phone: usize, shards: Range<usize>) -> u64 {
    let needed = needed_bytes(problem, phone, shards) + ends_bytes(problem, phone);

    needed.saturating_sub(problem.phones[phone].memory_budget_bytes)
}

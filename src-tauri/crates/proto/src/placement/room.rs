//! Whether a model fits, where nothing is known of phones but their memory.
//!
//! Before a model is loaded or even fetched, nobody has measured how quick anybody is with it. But
//! whether it fits is counted in bytes alone, by the same network as always: a [`Demand`] makes a
//! problem in which every phone is equally quick and every link equally good.

use std::collections::BTreeMap;

use super::memory;
use super::problem::{
    Availability, Ends, Link, Objective, Phone, Problem, ProblemError, Shard, Workload,
};
use super::shortage;
use crate::PeerId;
use crate::plan::STAGES_MAX;

/// What a model takes of phones' memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Its layer shards, in order.
    pub shards: Vec<Shard>,
    /// Its ends.
    pub ends: Ends,
    /// The work to plan for.
    pub workload: Workload,
    /// What each phone needs while it computes a chunk, and gives back after it.
    pub scratch_bytes: u64,
}

impl Demand {
    /// Returns what one phone needs to run the whole model, without repacked copies of weights.
    ///
    /// # Errors
    ///
    /// Any [`ProblemError`] about shards and work.
    pub fn needed_bytes(&self) -> Result<u64, ProblemError> {
        let problem = self.problem(&[0]);
        problem.validate()?;

        Ok(self.scratch_bytes
            + memory::needed_bytes(&problem, 0, 0..self.shards.len())
            + memory::ends_bytes(&problem, 0))
    }

    /// Returns the least that must be added to phones' memory budgets for the model to fit; 0 if it
    /// does. The first phone holds the ends.
    ///
    /// # Errors
    ///
    /// Any [`ProblemError`], [`ProblemError::Count`] if there is no phone, or more than a group may have.
    ///
    /// # Blocking
    ///
    /// As long as the arithmetic takes: it doubles with every phone, and
    /// for twelve phones × 16 shards takes 20 million steps of the DP, of 2 ns each.
    pub fn missing_bytes(&self, budgets_bytes: &[u64]) -> Result<u64, ProblemError> {
        if budgets_bytes.len() > STAGES_MAX {
            return Err(ProblemError::Count {
                things: "phones",
                count: budgets_bytes.len(),
                max: STAGES_MAX,
            });
        }
        let problem = self.problem(budgets_bytes);
        problem.validate()?;

        let missing_bytes = shortage::least_missing_bytes(&problem, |_| true);
        Ok(missing_bytes.expect("everybody may grow, and everybody reaches everybody"))
    }

    fn problem(&self, budgets_bytes: &[u64]) -> Problem {
        let ids = (0..budgets_bytes.len()).map(|i| PeerId([i as u8; 32]));
        let ids = ids.collect::<Vec<_>>();
        let phones = ids.iter().zip(budgets_bytes).map(|(&id, &budget_bytes)| {
            let budget_bytes = budget_bytes.saturating_sub(self.scratch_bytes);
            phone(id, budget_bytes, self.shards.len())
        });
        let pairs = ids.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b)));

        Problem {
            phones: phones.collect(),
            head: PeerId([0; 32]),
            shards: self.shards.clone(),
            ends: self.ends,
            bound: Vec::new(),
            links: pairs
                .filter(|(a, b)| a != b)
                .map(|pair| (pair, LINK))
                .collect::<BTreeMap<_, _>>(),
            workload: self.workload,
            objective: Objective::Latency,
        }
    }
}

/// Seconds of anything, and a link: any that are possible, because only bytes count.
pub(super) const SECONDS: f64 = 1e-9;
pub(super) const LINK: Link = Link::Measured {
    rtt_s: 0.01,
    goodput_bytes_per_s: 1e6,
};

/// A phone of which only the memory counts.
pub(super) fn phone(id: PeerId, memory_budget_bytes: u64, n_shards: usize) -> Phone {
    Phone {
        id,
        name: String::new(),
        availability: Availability::Ready,
        memory_budget_bytes,
        flash_quota_bytes: 0,
        repacks: false,
        decode_s: vec![SECONDS; n_shards],
        prefill_s: vec![SECONDS; n_shards],
        ends_decode_s: SECONDS,
        ends_prefill_s: SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_as_placement_counts() {
        let demand = demand();
        // Four shards of 100 with 10 × 2 of cache and a context of 5; ends of 50 and 10; scratch 7.
        assert_eq!(demand.needed_bytes(), Ok(4 * 125 + 60 + 7));

        assert_eq!(demand.missing_bytes(&[567]), Ok(0));
        assert_eq!(demand.missing_bytes(&[566]), Ok(1));
        // Two shards and the ends here, two there.
        assert_eq!(demand.missing_bytes(&[317, 257]), Ok(0));
        // Three there, one here: 258 there would have been missing.
        assert_eq!(demand.missing_bytes(&[317, 256]), Ok(1));
        // Memory that no shard fits into is none.
        assert_eq!(demand.missing_bytes(&[442, 131]), Ok(1));
        assert_eq!(demand.missing_bytes(&[442, 132, 0]), Ok(0));
    }

    #[test]
    fn nobody_is_an_error_and_so_are_too_many() {
        for n_phones in [0, STAGES_MAX + 1] {
            let found = demand().missing_bytes(&vec![1000; n_phones]);
            assert!(
                matches!(found, Err(ProblemError::Count { .. })),
                "{found:?}"
            );
        }

        assert_eq!(demand().missing_bytes(&[1000; STAGES_MAX]), Ok(0));
    }

    fn demand() -> Demand {
        let shard = Shard {
            weights_bytes: 100,
            repack_bytes: 0,
            kv_bytes_per_token: 1,
            context_bytes: 5,
        };

        Demand {
            shards: vec![shard; 4],
            ends: Ends {
                weights_bytes: 50,
                repack_bytes: 0,
                context_bytes: 10,
            },
            workload: Workload {
                context_tokens: 10,
                sessions: 2,
                prompt_tokens: 5,
                chunk_tokens: 4,
                activation_bytes_per_token: 64,
            },
            scratch_bytes: 7,
        }
    }
}

//! What a run of whole phones showed.

use crate::group::network::Micros;

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Simulated time from start to the last event.
    pub elapsed: Micros,
    /// Phones that were cut off, from all others or from one.
    pub n_cut: u64,
    /// Phones that were switched off, and on again.
    pub n_off: u64,
    /// Phones that did nothing for a while.
    pub n_asleep: u64,
    /// Questions that were answered to the end.
    pub n_done: u64,
    /// Questions that were not taken for want of a plan.
    pub n_refused: u64,
    /// Answers that broke off.
    pub n_failed: u64,
    /// Answers that went on where one had broken off.
    pub n_went_on: u64,
    /// Times that somebody started the model again, as nothing was run or in place of what was.
    pub n_started_again: u64,
    /// Plans that came into force.
    pub n_plans: u64,
    /// Longest time that a question took to end.
    pub longest_question: Micros,
    /// From the end of the last trouble until one plan was in force everywhere.
    pub well_after: Micros,
    /// From the end of the last trouble until every phone had an answer that was asked for after it.
    pub answered_after: Micros,
}

impl Outcome {
    /// Adds what another run showed; of its times, the longer.
    pub fn add(&mut self, other: &Self) {
        self.elapsed += other.elapsed;
        self.n_cut += other.n_cut;
        self.n_off += other.n_off;
        self.n_asleep += other.n_asleep;
        self.n_done += other.n_done;
        self.n_refused += other.n_refused;
        self.n_failed += other.n_failed;
        self.n_went_on += other.n_went_on;
        self.n_started_again += other.n_started_again;
        self.n_plans += other.n_plans;
        self.longest_question = self.longest_question.max(other.longest_question);
        self.well_after = self.well_after.max(other.well_after);
        self.answered_after = self.answered_after.max(other.answered_after);
    }
}

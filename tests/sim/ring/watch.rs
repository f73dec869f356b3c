//! What is watched at the head: that credits are kept, and that nobody is passed over.

use std::collections::{BTreeMap, BTreeSet};

use proto::StepId;
use proto::chat::Answer;

/// Tokens that another answer may get while one waits for its next.
///
/// Answers take turns: at the most, the other's step was on its way already.
const OVERTAKEN_MAX: u32 = 1;

/// A question, by its luck.
pub type Question = u64;

/// The head, seen from outside.
#[derive(Debug)]
pub struct Watch {
    credits: usize,
    reorder: bool,
    out: BTreeSet<StepId>,
    opened: Vec<Question>,
    started: Vec<Question>,
    /// Answers being written: how often each other answer got a token since it had one.
    writing: BTreeMap<Question, BTreeMap<Question, u32>>,
    /// Steps that were sent.
    pub n_steps: u64,
}

impl Watch {
    /// Watches a head of a ring of `n_stages`.
    pub fn new(n_stages: usize, reorder: bool) -> Self {
        Self {
            credits: 2 * n_stages + 1,
            reorder,
            out: BTreeSet::new(),
            opened: Vec::new(),
            started: Vec::new(),
            writing: BTreeMap::new(),
            n_steps: 0,
        }
    }

    /// Another plan is in force: what is still out comes back no more.
    pub fn begin_anew(&mut self, n_stages: usize) {
        *self = Self {
            n_steps: self.n_steps,
            ..Self::new(n_stages, self.reorder)
        };
    }

    /// A step goes out.
    pub fn sent(&mut self, step: StepId) {
        assert!(self.out.insert(step), "{step} was sent twice");
        assert!(
            self.out.len() <= self.credits,
            "a step outside of the credits"
        );
        self.n_steps += 1;
    }

    /// A step may have come back.
    pub fn returned(&mut self, step: StepId) {
        self.out.remove(&step);
    }

    /// A question was turned into tokens: it stands in the queue.
    pub fn opened(&mut self, question: Question) {
        self.opened.push(question);
    }

    /// The head tells how an answer goes on.
    pub fn told(&mut self, question: Question, answer: &Answer) {
        match answer {
            Answer::Reading { .. } if !self.started.contains(&question) => {
                self.started.push(question);
            }
            Answer::Token { .. } => self.token(question),
            Answer::Done { .. } | Answer::Failed(_) => {
                self.writing.remove(&question);
            }
            Answer::Queued { .. } | Answer::Reading { .. } | Answer::Refused(_) => {}
        }
    }

    /// Checks what only the whole run shows.
    pub fn end(&self) {
        assert_eq!(self.out.len(), 0, "steps are still out: {:?}", self.out);

        let queue = self.opened.iter().filter(|q| self.started.contains(q));
        assert!(
            self.reorder || queue.eq(&self.started),
            "a question was passed over: {:?} but {:?}",
            self.opened,
            self.started
        );
    }

    fn token(&mut self, question: Question) {
        for (&other, overtaken) in self.writing.iter_mut().filter(|(q, _)| **q != question) {
            let n = overtaken.entry(question).or_default();
            *n += 1;
            assert!(
                self.reorder || *n <= OVERTAKEN_MAX,
                "{other} waits while {question} gets {n} tokens"
            );
        }

        self.writing.insert(question, BTreeMap::new());
    }
}

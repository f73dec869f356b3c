//! One answer while it is written: words come a token at a time, and go to the screen a few at once.

use std::time::Instant;

use proto::PeerId;
use proto::chat::{Answer, FailureReason, Figures as Cost, Finish, RefusalReason};

use super::parts::Parts;
use crate::api::{AnswerEvent, AnswerOutcome, Figures, Problem, QuestionStage};

/// One answer while it is written.
#[derive(Debug)]
pub struct Writing {
    /// Text that was not taken yet.
    waiting: String,
    /// Of the part that is being written.
    stage: QuestionStage,
    tokens: u32,
    parts: Parts,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How.
    pub outcome: AnswerOutcome,
    /// What it cost as a whole, if that is known.
    pub cost: Option<Cost>,
}

impl Writing {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self {
            waiting: String::new(),
            stage: QuestionStage::Waiting { ahead: 0 },
            tokens: 0,
            parts: Parts::default(),
        }
    }

    /// A ring was asked for it, or for the rest of it.
    pub fn is_asked(&mut self, ring: Vec<PeerId>, now: Instant) {
        self.stage = QuestionStage::Waiting { ahead: 0 };
        self.tokens = 0;
        self.parts.begin(ring, now);
    }

    /// Returns the phones that computed it; see [`Parts::phones`].
    pub fn phones(&self) -> Vec<PeerId> {
        self.parts.phones()
    }

    /// Returns how far it is.
    pub fn stage(&self) -> QuestionStage {
        self.stage.clone()
    }

    /// Takes the text that came since the last time; empty if none did.
    pub fn take_text(&mut self) -> String {
        std::mem::take(&mut self.waiting)
    }

    /// Returns whether there is text to take.
    pub fn has_text(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Notes how the answer goes on. Returns what a screen hears at once, or how it ended.
    ///
    /// # Errors
    ///
    /// [`Ended`], which is none: nothing follows.
    pub fn hear(&mut self, answer: Answer, now: Instant) -> Result<Option<AnswerEvent>, Ended> {
        match answer {
            Answer::Queued { ahead } => {
                self.stage = QuestionStage::Waiting { ahead };
                Ok(Some(AnswerEvent::Queued { ahead }))
            }
            Answer::Reading { done, total } => {
                self.stage = QuestionStage::Reading { done, total };
                Ok(Some(AnswerEvent::Reading { done, total }))
            }
            Answer::Token { text, .. } => {
                self.tokens = self.tokens.saturating_add(1);
                self.parts.token(now);
                self.stage = QuestionStage::Writing {
                    tokens: self.tokens,
                };
                self.waiting.push_str(&text);
                Ok(None)
            }
            Answer::Done { finish, figures } => Err(Ended {
                outcome: outcome_of(finish),
                cost: Some(self.parts.whole(&figures)),
            }),
            Answer::Refused(reason) => Err(Ended::failed(problem_of_refusal(&reason))),
            Answer::Failed(FailureReason::Stopped) => Err(Ended::stopped()),
            Answer::Failed(reason) => Err(Ended::failed(problem_of_failure(&reason))),
        }
    }
}

impl Ended {
    /// An answer that broke off.
    pub fn failed(problem: Problem) -> Self {
        Self {
            outcome: AnswerOutcome::Failed { problem },
            cost: None,
        }
    }

    /// An answer that was being written when the app ended, or was put away.
    pub fn with_app() -> Self {
        Self {
            outcome: AnswerOutcome::AppEnded,
            cost: None,
        }
    }

    /// An answer that is as long as was wanted, of which no more was heard.
    pub fn cut_off() -> Self {
        Self {
            outcome: AnswerOutcome::CutOff,
            cost: None,
        }
    }

    /// An answer that a person wanted no more of, before there were figures.
    pub fn stopped() -> Self {
        Self {
            outcome: AnswerOutcome::Stopped,
            cost: None,
        }
    }
}

impl Default for Writing {
    fn default() -> Self {
        Self::new()
    }
}

fn outcome_of(finish: Finish) -> AnswerOutcome {
    match finish {
        Finish::Stop => AnswerOutcome::Complete,
        Finish::Length => AnswerOutcome::CutOff,
        Finish::Cancelled => AnswerOutcome::Stopped,
    }
}

/// Returns why a question was not taken.
pub fn problem_of_refusal(reason: &RefusalReason) -> Problem {
    match reason {
        RefusalReason::PromptTooLong { .. } => Problem::ContextFull,
        RefusalReason::Busy { .. } => Problem::Busy,
        RefusalReason::NoModel => Problem::NoModel,
        RefusalReason::PromptEmpty | RefusalReason::Invalid(_) => Problem::other(reason),
    }
}

/// Returns why an answer broke off.
pub fn problem_of_failure(reason: &FailureReason) -> Problem {
    match reason {
        FailureReason::PhoneLost(_) | FailureReason::HeadLost => Problem::PhonesGone { phones: 1 },
        FailureReason::Replanned => Problem::Busy,
        FailureReason::Stopped => Problem::NoModel,
        FailureReason::StageFailed { reason, .. } => Problem::other(reason),
    }
}

/// Returns what an answer cost, as screens have it.
pub fn figures_of(
    cost: &Cost,
    model_name: String,
    phones: Vec<String>,
    context_tokens: u32,
) -> Figures {
    Figures {
        model_name,
        ttft_s: cost.ttft_ms / 1e3,
        tokens_per_s: if cost.tpot_ms > 0.0 {
            1e3 / cost.tpot_ms
        } else {
            0.0
        },
        prompt_tokens: cost.prompt_tokens,
        cached_tokens: cost.cached_tokens,
        completion_tokens: cost.completion_tokens,
        context_tokens,
        phones,
        bytes_per_token: cost.bytes_per_token,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn words_wait_until_they_are_taken() {
        let (mut writing, now) = (Writing::new(), Instant::now());
        writing.is_asked(vec![PeerId([1; 32])], now);

        assert_eq!(
            writing.hear(Answer::Queued { ahead: 2 }, now),
            Ok(Some(AnswerEvent::Queued { ahead: 2 }))
        );
        assert_eq!(writing.hear(token("The "), now), Ok(None));
        assert_eq!(writing.hear(token("sky"), now), Ok(None));

        assert!(writing.has_text());
        assert_eq!(writing.take_text(), "The sky");
        assert_eq!(writing.take_text(), "");
        assert_eq!(writing.stage(), QuestionStage::Writing { tokens: 2 });
    }

    #[test]
    fn every_last_word_ends_it() {
        let done = |finish| Answer::Done {
            finish,
            figures: Cost::default(),
        };
        let failed = |problem| AnswerOutcome::Failed { problem };
        let lasts = [
            (done(Finish::Stop), AnswerOutcome::Complete),
            (done(Finish::Length), AnswerOutcome::CutOff),
            (done(Finish::Cancelled), AnswerOutcome::Stopped),
            (
                Answer::Refused(RefusalReason::Busy { waiting: 9 }),
                failed(Problem::Busy),
            ),
            (
                Answer::Failed(FailureReason::HeadLost),
                failed(Problem::PhonesGone { phones: 1 }),
            ),
        ];

        for (last, outcome) in lasts {
            assert!(last.is_last());
            let ended = Writing::new().hear(last, Instant::now());
            let ended = ended.expect_err("it is the last word");
            assert_eq!(ended.outcome, outcome);
        }
    }

    #[test]
    fn figures_are_those_of_the_whole_answer() {
        let (mut writing, start) = (Writing::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        writing.is_asked(vec![PeerId([1; 32]), PeerId([2; 32])], start);
        for ms in [300, 400, 500] {
            assert_eq!(writing.hear(token("a "), at(ms)), Ok(None));
        }
        writing.is_asked(vec![PeerId([1; 32])], at(60_000));
        assert_eq!(writing.stage(), QuestionStage::Waiting { ahead: 0 });
        assert_eq!(writing.hear(token("b"), at(61_000)), Ok(None));
        let figures = Cost {
            prompt_tokens: 13,
            completion_tokens: 2,
            ttft_ms: 1_000.0,
            tpot_ms: 200.0,
            ..Cost::default()
        };

        let done = Answer::Done {
            finish: Finish::Stop,
            figures,
        };
        let ended = writing.hear(done, at(61_200)).expect_err("it is over");

        let whole = Cost {
            prompt_tokens: 10,
            completion_tokens: 5,
            ttft_ms: 300.0,
            tpot_ms: 400.0 / 3.0,
            ..Cost::default()
        };
        assert_eq!(ended.cost, Some(whole));
        assert_eq!(writing.phones().len(), 2);
        assert_eq!(writing.take_text(), "a a a b", "nothing is lost between");
    }

    fn token(text: &str) -> Answer {
        Answer::Token {
            token: 1,
            text: text.into(),
        }
    }
}

//! The questions that the head has taken, as everybody may see them: who asked, how far each is, never a word.
//!
//! ```text
//!  asked ──► Waiting ──► Reading ──► Writing ──► (gone)
//! ```
//!
//! [`Questions`] listens to what the pipeline tells askers. From that it knows the queue, how quickly answers came of
//! late, and which tokens went round.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::chat::{Answer, Figures};
use crate::standing::{Beat, Question, QuestionStage, Speed};
use crate::{PeerId, RequestId};

/// Weight of one more answer among those of late. A guess: people feel the last three or four.
const GAIN: f32 = 1.0 / 4.0;

/// What is asked of this phone's ring.
#[derive(Debug, Default)]
pub struct Questions {
    /// In order of arrival.
    open: Vec<Open>,
    measured: Option<Speed>,
    is_changed: bool,
    /// Tokens that went round and were not asked for yet, by asker.
    beats: BTreeMap<PeerId, Beat>,
}

#[derive(Debug)]
struct Open {
    request: RequestId,
    stage: QuestionStage,
    last_token_at: Option<Instant>,
}

impl Questions {
    /// A question has come.
    pub fn asked(&mut self, request: RequestId) {
        self.is_changed = true;
        self.open.push(Open {
            request,
            stage: QuestionStage::Waiting { ahead: 0 },
            last_token_at: None,
        });
    }

    /// An answer goes on.
    pub fn answered(&mut self, request: RequestId, answer: &Answer, now: Instant) {
        let Some(at) = self.open.iter().position(|open| open.request == request) else {
            return; // refused as it came: a second of the same name
        };
        self.is_changed = true;
        if let Answer::Done { figures, .. } = answer {
            self.measure(figures);
        }
        if answer.is_last() {
            self.open.remove(at);
            return;
        }

        let open = &mut self.open[at];
        match *answer {
            Answer::Reading { done, total } => open.stage = QuestionStage::Reading { done, total },
            Answer::Token { .. } => {
                if let Some(beat) = open.write(now) {
                    self.note_beat(beat);
                }
            }
            Answer::Queued { .. } | Answer::Done { .. } => {}
            Answer::Refused(_) | Answer::Failed(_) => {}
        }
    }

    /// Returns the questions under way, in order of arrival.
    pub fn open(&self) -> impl Iterator<Item = Question> + '_ {
        let is_waiting = |open: &&Open| matches!(open.stage, QuestionStage::Waiting { .. });
        let mut n_waiting = 0;

        self.open.iter().map(move |open| {
            let ahead = n_waiting;
            n_waiting += u32::from(is_waiting(&open));
            let stage = match open.stage {
                QuestionStage::Waiting { .. } => QuestionStage::Waiting { ahead },
                stage @ (QuestionStage::Reading { .. } | QuestionStage::Writing { .. }) => stage,
            };
            Question {
                asker: open.request.asker,
                number: open.request.number,
                stage,
            }
        })
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns whether anything of this has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Returns how quickly answers came of late.
    pub fn measured(&self) -> Option<Speed> {
        self.measured
    }

    /// Returns the tokens that went round since this was last asked, one beat for each asker.
    pub fn take_beats(&mut self) -> impl Iterator<Item = Beat> + use<> {
        std::mem::take(&mut self.beats).into_values()
    }

    /// Another model is run: what was measured is not of it.
    pub fn forget_speed(&mut self) {
        self.measured = None;
    }

    fn note_beat(&mut self, beat: Beat) {
        let before = self.beats.get(&beat.asker).map_or(0, |beat| beat.tokens);
        let tokens = beat.tokens.saturating_add(before);

        self.beats.insert(beat.asker, Beat { tokens, ..beat });
    }

    fn measure(&mut self, figures: &Figures) {
        if figures.completion_tokens < 2 {
            return; // there is no time from one token to the next
        }
        let [ttft_s, tpot_s] = [figures.ttft_ms, figures.tpot_ms].map(|ms| (ms / 1e3) as f32);
        let mean = |known: f32, new: f32| known + GAIN * (new - known);

        self.measured = Some(match self.measured {
            None => Speed { ttft_s, tpot_s },
            Some(known) => Speed {
                ttft_s: mean(known.ttft_s, ttft_s),
                tpot_s: mean(known.tpot_s, tpot_s),
            },
        });
    }
}

impl Open {
    /// Goes on by one token. The first has come from reading: it went round no lap of its own.
    fn write(&mut self, now: Instant) -> Option<Beat> {
        let tokens = match self.stage {
            QuestionStage::Writing { tokens } => tokens + 1,
            QuestionStage::Waiting { .. } | QuestionStage::Reading { .. } => 1,
        };
        self.stage = QuestionStage::Writing { tokens };
        let last = self.last_token_at.replace(now)?;

        Some(Beat {
            asker: self.request.asker,
            tokens: 1,
            lap_ms: now.duration_since(last).as_secs_f32() * 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::chat::Finish;
    use crate::testing::{ANNA, BELA};

    #[test]
    fn a_question_is_seen_on_its_way_and_then_no_more() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        questions.asked(of(ANNA));
        questions.asked(of(BELA));
        assert_eq!(stages(&questions), [waiting(0), waiting(1)]);

        let reading = Answer::Reading { done: 4, total: 9 };
        questions.answered(of(ANNA), &reading, now);
        let (done, total) = (4, 9);
        let reading = QuestionStage::Reading { done, total };
        assert_eq!(stages(&questions), [reading, waiting(0)]);

        questions.answered(of(ANNA), &token(), now);
        let writing = QuestionStage::Writing { tokens: 1 };
        assert_eq!(stages(&questions), [writing, waiting(0)]);

        questions.answered(of(ANNA), &done_in(3, 20.0), now);
        assert_eq!(stages(&questions), [waiting(0)]);
        assert_eq!(questions.measured().unwrap().tpot_s, 0.02);
    }

    #[test]
    fn every_token_that_goes_round_is_a_beat_of_its_asker() {
        let (mut questions, mut now) = (Questions::default(), Instant::now());
        questions.asked(of(BELA));
        for _ in 0..4 {
            questions.answered(of(BELA), &token(), now);
            now += Duration::from_millis(100);
        }

        let beat = Beat {
            asker: BELA,
            tokens: 3,
            lap_ms: 100.0,
        };
        assert_eq!(questions.take_beats().collect::<Vec<_>>(), [beat]);
        assert_eq!(questions.take_beats().count(), 0);
    }

    fn of(asker: PeerId) -> RequestId {
        RequestId { asker, number: 7 }
    }

    fn waiting(ahead: u32) -> QuestionStage {
        QuestionStage::Waiting { ahead }
    }

    fn token() -> Answer {
        Answer::Token {
            token: 1,
            text: String::new(),
        }
    }

    fn done_in(completion_tokens: u32, tpot_ms: f64) -> Answer {
        Answer::Done {
            finish: Finish::Stop,
            figures: Figures {
                completion_tokens,
                tpot_ms,
                ..Figures::default()
            },
        }
    }

    fn stages(questions: &Questions) -> Vec<QuestionStage> {
        questions.open().map(|question| question.stage).collect()
    }
}

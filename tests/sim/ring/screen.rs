//! One conversation, and what its asker may be told.
//!
//! Each answer is compared, token by token, with what one phone alone would have written. One that breaks off is asked
//! for again, from where it broke off.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::chat::{Answer, Ask, Figures, Finish, Prompt, RefusalReason, Sampling};
use proto::pipeline::Token;

use super::Micros;
use super::model::{self, Alone};
use super::scenario::{Cancel, Conversation, Place, Turn};

/// Pause before a question is asked again that came before there was a model, or whose answer broke off.
const AGAIN_AFTER: Micros = 50_000;

/// How often an answer that broke off is asked for again in vain: until another plan should be in force.
const TRIES_MAX: u32 = 40;

/// What the answers depend on.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Layers of the whole model.
    pub n_layers: u32,
    /// Positions of the context.
    pub n_ctx: u32,
    /// Whether answers may break off.
    pub may_fail: bool,
    /// Whether progress may be told out of order.
    pub reorder: bool,
    /// Whether who is refused for want of a plan asks again, and goes on doing so: there will be one.
    pub persists: bool,
}

/// One conversation under way.
#[derive(Debug)]
pub struct Screen {
    /// Where it is held.
    pub place: Place,
    /// Questions that were asked, and how they ended.
    pub ended: Vec<Ended>,
    /// Whether the asker has left.
    pub left: bool,
    turns: VecDeque<Turn>,
    said: Vec<Token>,
    /// A question whose answer broke off, its name, and what was written of it.
    broken: Option<(Turn, u64, Vec<Token>)>,
    /// How often that was asked again, and nothing was written.
    n_tries: u32,
    open: Option<Open>,
    n_asked: u64,
    index: u64,
}

/// How one question ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// When it was asked.
    pub asked_at: Micros,
    /// When its asker was told.
    pub at: Micros,
    /// How.
    pub how: How,
    /// Whether it went on with an answer that had broken off.
    pub went_on: bool,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// It was answered.
    Done(Finish, Figures),
    /// It was not taken.
    Refused,
    /// The answer broke off.
    Failed,
}

/// What an asker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Waits.
    Wait,
    /// Has had enough.
    Cancel,
    /// Asks, after a pause.
    Ask(Micros),
    /// Says no more.
    Over,
}

/// A question that is asked.
#[derive(Debug)]
struct Open {
    turn: Turn,
    question: u64,
    asked_at: Micros,
    expected: Result<Alone, RefusalReason>,
    n_prompt: u32,
    read: Option<u32>,
    /// Tokens of the answer that were written before it was asked for again.
    n_before: usize,
    got: Vec<Token>,
    text: String,
    cancelled: bool,
}

impl Screen {
    /// Opens a conversation; `index` makes its luck its own.
    pub fn new(index: usize, conversation: Conversation) -> Self {
        Self {
            place: conversation.place,
            ended: Vec::new(),
            left: false,
            turns: conversation.turns.into(),
            said: Vec::new(),
            broken: None,
            n_tries: 0,
            open: None,
            n_asked: 0,
            index: index as u64,
        }
    }

    /// Returns the pause before the next question, if there is one.
    pub fn pause(&self) -> Option<Micros> {
        match self.broken {
            Some(_) => Some(AGAIN_AFTER),
            None => self.turns.front().map(|turn| turn.pause),
        }
    }

    /// Returns whether a question is open.
    pub fn is_waiting(&self) -> bool {
        self.open.is_some()
    }

    /// Returns when the question that is open was asked.
    pub fn asked_at(&self) -> Option<Micros> {
        self.open.as_ref().map(|open| open.asked_at)
    }

    /// Returns the name of the question that is open: its luck, which no other question has.
    pub fn question(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.question)
    }

    /// Returns the asker's own number of the last question.
    pub fn number(&self) -> u64 {
        self.n_asked
    }

    /// Asks the next question. Returns when the asker will have had enough, if it is by the clock.
    pub fn ask(&mut self, model: Model, now: Micros) -> (Arc<Ask>, Option<Micros>) {
        assert!(self.open.is_none(), "one question at a time");
        self.n_asked += 1;
        let new = model::mix(self.index, self.n_asked);
        let broken = self.broken.take();
        let (turn, question, written) = broken.unwrap_or_else(|| {
            let turn = self.turns.pop_front().expect("a question is left");
            (turn, new, Vec::new())
        });

        let prompt = [self.said.as_slice(), &turn.words].concat();
        let ask = Ask {
            prompt: Prompt::Tokens(prompt.clone()),
            max_tokens: turn.max_tokens,
            sampling: Sampling {
                seed: question,
                ..Sampling::default()
            },
            stop: Vec::new(),
            ignore_end: turn.ignore_end,
            written: written.clone(),
        };
        let enough = match turn.cancel {
            Some(Cancel::After(pause) | Cancel::Leave(pause)) => Some(pause),
            Some(Cancel::AtToken(_)) | None => None,
        };
        self.open = Some(Open {
            question,
            asked_at: now,
            expected: expected(model, &prompt, &ask),
            n_prompt: u32::try_from(prompt.len() + written.len()).expect("prompts are short"),
            n_before: written.len(),
            turn,
            read: None,
            got: written,
            text: String::new(),
            cancelled: false,
        });

        (Arc::new(ask), enough)
    }

    /// The asker has had enough of question `number`. Returns whether it is still open.
    pub fn cancel(&mut self, number: u64) -> bool {
        match &mut self.open {
            Some(open) if self.n_asked == number => {
                open.cancelled = true;
                true
            }
            _ => false,
        }
    }

    /// The asker leaves in the middle of question `number`, if it was to and still waits.
    pub fn leave(&mut self, number: u64) -> bool {
        let leaves = |open: &Open| matches!(open.turn.cancel, Some(Cancel::Leave(_)));
        let leaves = self.n_asked == number && self.open.as_ref().is_some_and(leaves);
        if leaves {
            self.go();
        }

        leaves
    }

    /// The asker is gone, and nothing is promised to it any more.
    pub fn go(&mut self) {
        self.left = true;
        self.open = None;
        self.turns.clear();
    }

    /// Compares what the asker is told with what is right.
    pub fn told(&mut self, answer: Answer, model: Model, now: Micros) -> Next {
        let open = self.open.as_mut().expect("nothing is told after the end");

        match answer {
            Answer::Queued { .. } => {
                assert!(open.read.is_none() && open.is_silent(), "queued again");
                Next::Wait
            }
            Answer::Reading { done, total } => {
                open.reads(done, total, model);
                Next::Wait
            }
            Answer::Token { token, text } => open.token(token, &text),
            Answer::Done { finish, figures } => {
                open.done(finish, figures);
                self.end(How::Done(finish, figures), now)
            }
            Answer::Refused(RefusalReason::NoModel) if model.persists || !model.may_fail => {
                let open = self.open.take().expect("just seen");
                self.broken = Some((open.turn, open.question, open.got));
                Next::Ask(AGAIN_AFTER)
            }
            Answer::Refused(reason) => {
                let early = reason == RefusalReason::NoModel;
                assert!(
                    early || open.expected == Err(reason),
                    "refused what is right"
                );
                self.end(How::Refused, now)
            }
            Answer::Failed(reason) => {
                assert!(model.may_fail, "failed in an honest world: {reason}");
                self.n_tries = if open.is_silent() {
                    self.n_tries + 1
                } else {
                    0
                };
                let goes_on = open.goes_on() && (model.persists || self.n_tries < TRIES_MAX);
                let broken = goes_on.then(|| (open.turn.clone(), open.question, open.got.clone()));
                let next = self.end(How::Failed, now);
                self.broken = broken;
                self.pause().map_or(next, Next::Ask)
            }
        }
    }

    fn end(&mut self, how: How, at: Micros) -> Next {
        let open = self.open.take().expect("just seen");
        self.ended.push(Ended {
            asked_at: open.asked_at,
            at,
            how,
            went_on: open.n_before > 0,
        });
        if let How::Done(..) = how {
            self.said.extend(open.turn.words);
            self.said.extend(open.got);
        }

        self.pause().map_or(Next::Over, Next::Ask)
    }
}

impl Open {
    /// Returns whether nothing was told yet.
    fn is_silent(&self) -> bool {
        self.got.len() == self.n_before
    }

    /// Returns whether there is an answer that can go on.
    fn goes_on(&self) -> bool {
        let alone = self.expected.as_ref();

        !self.got.is_empty()
            && !self.cancelled
            && alone.is_ok_and(|alone| self.got.len() < alone.tokens.len())
    }

    fn reads(&mut self, done: u32, total: u32, model: Model) {
        assert!(self.is_silent(), "the prompt was read already");
        assert_eq!(total, self.n_prompt);
        assert!(done <= total, "read {done} of {total}");
        assert!(
            model.reorder || self.read.is_none_or(|before| before < done),
            "read {done} after {:?}",
            self.read
        );

        self.read = Some(done);
    }

    fn token(&mut self, token: Token, text: &str) -> Next {
        let alone = self.expected.as_ref().expect("it should have been refused");
        let position = self.got.len();
        assert_eq!(
            Some(&token),
            alone.tokens.get(position),
            "token {position} is not what one phone alone would have written"
        );

        self.got.push(token);
        self.text += text;
        match self.turn.cancel {
            Some(Cancel::AtToken(n)) if self.got.len() == n => Next::Cancel,
            _ => Next::Wait,
        }
    }

    fn done(&self, finish: Finish, figures: Figures) {
        let new = &self.got[self.n_before..];
        assert_eq!(figures.completion_tokens as usize, new.len());
        let text = new.iter().map(|&token| model::text_of(token));
        assert_eq!(self.text, text.collect::<String>());

        let alone = match finish {
            Finish::Cancelled => return assert!(self.cancelled, "nobody cancelled"),
            Finish::Stop | Finish::Length => self.expected.as_ref().expect("it was answered"),
        };
        assert_eq!(self.got, alone.tokens, "the answer ended early");
        assert_eq!(finish == Finish::Stop, alone.stopped);
        assert_eq!(figures.prompt_tokens, self.n_prompt);
        assert!(
            figures.cached_tokens < self.n_prompt,
            "one token must go round"
        );
    }
}

fn expected(model: Model, prompt: &[Token], ask: &Ask) -> Result<Alone, RefusalReason> {
    let prompt_tokens = u32::try_from(prompt.len()).expect("prompts are short");
    if prompt_tokens == 0 {
        return Err(RefusalReason::PromptEmpty);
    }
    if prompt_tokens >= model.n_ctx {
        return Err(RefusalReason::PromptTooLong {
            prompt_tokens,
            n_ctx: model.n_ctx,
        });
    }

    let n_ctx = model.n_ctx as usize;
    Ok(model::alone(model.n_layers, n_ctx, prompt, ask))
}

//! People at phones: they ask, all the time, and start the model where nothing is run.

use proto::chat::{Answer, RefusalReason};
use proto::phone::InEvent;
use proto::relay::ClientId;
use proto::ring;
use rand::Rng;

use super::shell::Shell;
use super::{Event, Index, POLITE_AFTER, Running, STARTED_AGAIN_AFTER, Stage, World, scenario};
use crate::group::network::{MS, Micros, SECOND};
use crate::ring::{Model, Next, Screen};

/// A person at a phone.
pub(super) struct Talk {
    pub(super) phone: Index,
    pub(super) screen: Screen,
}

impl World {
    pub(super) fn new_screen(&mut self, phone: Index) -> Screen {
        self.n_conversations += 1;
        let conversation = scenario::roll_conversation(&mut self.rng, phone);

        Screen::new(self.n_conversations, conversation)
    }

    pub(super) fn ask_later(&mut self, talk: usize, pause: Micros) {
        let life = self.phones[self.talks[talk].phone].life;

        self.after(pause, Event::Ask { talk, life });
    }

    pub(super) fn ask(&mut self, talk: usize, life: u32) {
        let phone = self.talks[talk].phone;
        let is_over = self.stage == Stage::Ending || self.phones[phone].life != life;
        if is_over || self.phones[phone].machine.is_none() {
            return;
        }
        if self.must_wait() {
            let pause = self.rng.random_range(0..SECOND);
            return self.ask_later(talk, pause);
        }
        if self.talks[talk].screen.pause().is_none() {
            self.talks[talk].screen = self.new_screen(phone);
        }
        let (model, now) = (self.model(), self.now);
        let screen = &mut self.talks[talk].screen;
        let (ask, enough) = screen.ask(model, now);
        let number = screen.number();
        self.outcome.n_went_on += u64::from(!ask.written.is_empty());
        if let Some(pause) = enough {
            self.after(pause, Event::Enough { talk, life, number });
        }

        self.note(|| format!("phone {phone}: talk {talk} asks"));
        let client = ClientId(talk as u64);
        self.handle(phone, InEvent::Ring(ring::InEvent::Ask { client, ask }));
    }

    /// Returns whether people let each other finish. No plan that works is given up in the middle of an answer for one that
    /// has more phones, so there must be a moment in which nothing is written. While an answer is, nobody is let in either:
    /// so people ask once the group is formed.
    fn must_wait(&self) -> bool {
        let somebody_waits = || self.talks.iter().any(|talk| talk.screen.is_waiting());

        match self.stage {
            Stage::Forming => true,
            Stage::Settling(since) => {
                self.now >= since + POLITE_AFTER && !self.is_well && somebody_waits()
            }
            Stage::Trouble | Stage::Steady(_) | Stage::Ending => false,
        }
    }

    pub(super) fn enough(&mut self, talk: usize, life: u32, number: u64) {
        let phone = self.talks[talk].phone;
        if self.phones[phone].life == life && self.talks[talk].screen.cancel(number) {
            let client = ClientId(talk as u64);
            self.handle(phone, InEvent::Ring(ring::InEvent::Cancel { client }));
        }
    }

    pub(super) fn tell(&mut self, talk: usize, answer: Answer) {
        let (model, now, phone) = (self.model(), self.now, self.talks[talk].phone);
        let screen = &mut self.talks[talk].screen;
        let number = screen.number();
        let asked_at = screen.asked_at().expect("nothing is told after the end");
        self.ended(phone, asked_at, &answer);

        match self.talks[talk].screen.told(answer, model, now) {
            Next::Ask(pause) => {
                let more = self.rng.random_range(0..SECOND);
                self.ask_later(talk, pause + more);
            }
            Next::Over => {
                let pause = self.rng.random_range(100 * MS..2 * SECOND);
                self.ask_later(talk, pause);
            }
            Next::Cancel => {
                let life = self.phones[phone].life;
                self.after(0, Event::Enough { talk, life, number });
            }
            Next::Wait => {}
        }
    }

    /// Counts how a question ended, if it did.
    fn ended(&mut self, phone: Index, asked_at: Micros, answer: &Answer) {
        if !answer.is_last() {
            return;
        }
        let took = self.now - asked_at;
        self.note(|| format!("phone {phone} is told {answer:?}"));
        self.outcome.longest_question = self.outcome.longest_question.max(took);

        match answer {
            Answer::Done { .. } => {
                self.outcome.n_done += 1;
                if let Stage::Settling(since) = self.stage
                    && asked_at >= since
                {
                    self.phones[phone].answered_at.get_or_insert(self.now);
                }
            }
            Answer::Refused(RefusalReason::NoModel | RefusalReason::Busy { .. }) => {
                assert!(
                    !self.must_be_well(),
                    "phone {phone} was refused: {answer:?}"
                );
                self.outcome.n_refused += 1;
            }
            Answer::Failed(_) => {
                self.outcome.n_failed += 1;
            }
            Answer::Queued { .. }
            | Answer::Reading { .. }
            | Answer::Token { .. }
            | Answer::Refused(_) => {}
        }
    }

    fn model(&self) -> Model {
        Model {
            n_layers: self.scenario.n_layers(),
            n_ctx: self.scenario.sizes.n_ctx,
            may_fail: !self.must_be_well(),
            reorder: false,
            persists: true,
        }
    }

    /// Has somebody start the model again whose screen shows that nothing is run: as people do once the app has come back
    /// that ran it, and before anybody missed it.
    pub(super) fn start_again(&mut self) {
        let is_idle = |phone: &Shell| {
            let since = phone.idle_since.filter(|_| phone.inbox.is_none());
            phone.machine.is_some() && since.is_some_and(|at| self.now - at > STARTED_AGAIN_AFTER)
        };
        let is_app = matches!(self.scenario.running, Running::App(_));
        let Some(i) = self.phones.iter().position(is_idle).filter(|_| is_app) else {
            return;
        };

        self.phones[i].idle_since = None;
        self.start_model(i);
    }

    /// A person starts the model on a phone.
    pub(super) fn start_model(&mut self, i: Index) {
        self.note(|| format!("somebody starts the model on phone {i}"));
        self.outcome.n_started_again += 1;
        self.handle(i, self.run_model());
    }
}

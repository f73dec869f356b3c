//! What goes wrong with phones, and how it ends.

use proto::phone::{InEvent, Phone};
use rand::Rng;

use super::shell::Shell;
use super::{Event, Fault, Index, Kind, Who, World};
use crate::group::network::SECOND;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        let leader = || {
            let mut terms = self.phones.iter().filter_map(Shell::leader);
            self.index(
                terms
                    .next()
                    .unwrap_or_else(|| self.phones[0].leads())
                    .leader,
            )
        };
        let i = match fault.who {
            Who::Leader => leader(),
            Who::Phone(i) => i,
        };
        let is_up = self.phones[i].machine.is_some() && self.phones[i].inbox.is_none();
        self.note(|| {
            format!(
                "{:?} happens to phone {i}, for {} s",
                fault.kind,
                fault.lasts as f64 / 1e6
            )
        });

        match fault.kind {
            Kind::Off { .. } | Kind::Asleep | Kind::Suspended | Kind::Started if !is_up => {
                return self.trouble_ends();
            }
            Kind::CutOff => {
                self.outcome.n_cut += 1;
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.cut(i, other, self.now);
                }
            }
            Kind::Cut(other) => {
                self.outcome.n_cut += 1;
                self.net.cut(i, other, self.now);
            }
            Kind::Off { is_silent } => self.switch_off(i, is_silent),
            Kind::Asleep => self.fall_asleep(i),
            Kind::Suspended => {
                self.handle(i, InEvent::Suspended);
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.hang_up(i, other, self.now);
                }
                self.hear_all();
                self.fall_asleep(i);
            }
            // A program that is not told so again would not go on after a restart.
            Kind::Started if !self.scenario.running.may_be_started_on(i) => {}
            Kind::Started => self.start_model(i),
        }
        self.after(fault.lasts, Event::Mend(fault.kind, i));
    }

    fn switch_off(&mut self, i: Index, is_silent: bool) {
        self.outcome.n_off += 1;
        self.net.switch_off(i, is_silent, self.now);
        self.phones[i].machine = None;
        self.phones[i].wake = None;
        for talk in self.talks.iter_mut().filter(|talk| talk.phone == i) {
            talk.screen.go();
        }
    }

    pub(super) fn mend(&mut self, kind: Kind, i: Index) {
        self.note(|| format!("{kind:?} is over for phone {i}"));
        match kind {
            Kind::CutOff => {
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.mend(i, other, self.now);
                }
            }
            Kind::Cut(other) => self.net.mend(i, other, self.now),
            Kind::Off { .. } => {
                self.start(i);
                for talk in 0..self.talks.len() {
                    if self.talks[talk].phone == i {
                        self.talks[talk].screen = self.new_screen(i);
                        let pause = self.rng.random_range(0..3 * SECOND);
                        self.ask_later(talk, pause);
                    }
                }
            }
            Kind::Asleep | Kind::Suspended => self.awake(i),
            Kind::Started => {}
        }
        self.trouble_ends();
    }

    fn fall_asleep(&mut self, i: Index) {
        self.outcome.n_asleep += 1;
        self.phones[i].inbox = Some(Vec::new());
        self.net.sleep(i, self.now);
    }

    /// Lets a phone go on: all that waited comes at once, before its timers or after them.
    fn awake(&mut self, i: Index) {
        let inbox = self.phones[i].inbox.take().unwrap_or_default();
        self.net.wake(i, self.now);
        if self.rng.random_bool(0.5) {
            self.turn(i, Phone::handle_timeout);
        }
        for event in inbox {
            self.happen(event);
        }
        self.turn(i, Phone::handle_timeout);
    }

    fn trouble_ends(&mut self) {
        self.n_troubles -= 1;
        if self.n_troubles == 0 {
            self.settle();
        }
    }
}

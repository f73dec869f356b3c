//! Questions on their way to the head, answers on their way back.
//!
//! Any phone of the ring can be asked, by its own screen or by a guest. Its words go to the head:
//!
//! ```text
//!  screen ──► this phone ──────────────► head ──► pipeline
//!  guest ───►  (renumbers)  ◄─────────── answers, token by token
//! ```
//!
//! A question is passed on once: what comes from a phone of the ring to one that is not the head is
//! refused, so that two phones that disagree on the head cannot play ball.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::chat::{Answer, Ask, FailureReason, RefusalReason};
use crate::plan::Plan;
use crate::wire::Chat;
use crate::{PeerId, RequestId};

/// Questions that one phone may have on their way. The same guess as at the head.
const OPEN_MAX: usize = 64;

/// A screen, or another program on this phone; numbered by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What to do.
#[derive(Debug, Clone)]
pub enum OutEvent {
    /// Ask our own pipeline: this phone is the head.
    Ask {
        /// Name of the question.
        request: RequestId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// Have our own pipeline stop an answer.
    Cancel {
        /// Name of the question.
        request: RequestId,
    },
    /// Send a message to another phone.
    Send {
        /// Phone that gets it.
        to: PeerId,
        /// The message.
        message: Chat,
    },
    /// Tell a screen how its answer goes on.
    Tell {
        /// That screen.
        client: ClientId,
        /// What there is to tell.
        answer: Answer,
    },
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Client(ClientId),
    Guest { phone: PeerId, number: u64 },
}

/// The questions that this phone has passed on.
#[derive(Debug)]
pub struct Relay {
    me: PeerId,
    plan: Option<Arc<Plan>>,
    next_number: u64,
    open: BTreeMap<u64, Asker>,
    events: VecDeque<OutEvent>,
}

impl Relay {
    /// Starts without a plan: every question is refused.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            plan: None,
            next_number: 0,
            open: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// A plan is in force: questions go to its head.
    pub fn plan_in_force(&mut self, plan: Arc<Plan>) {
        self.plan = Some(plan);
    }

    /// There is no plan any more, nor anybody to ask.
    pub fn no_plan(&mut self) {
        self.plan = None;
    }

    /// Another plan is being prepared: what was asked under the last one is not answered any more, and nothing is
    /// asked until the next is in force.
    pub fn plan_replaced(&mut self) {
        self.plan = None;
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.answered(number, Answer::Failed(FailureReason::Replanned));
        }
    }

    /// What was run is run no more: nothing is answered, and nobody can be asked.
    pub fn stopped(&mut self) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.answered(number, Answer::Failed(FailureReason::Stopped));
        }

        self.no_plan();
    }

    /// Returns whether there is somebody to ask.
    pub fn has_plan(&self) -> bool {
        self.plan.is_some()
    }

    /// Returns the screen of this phone that asked a question, if it is open.
    pub fn client_of(&self, number: u64) -> Option<ClientId> {
        match self.open.get(&number) {
            Some(&Asker::Client(client)) => Some(client),
            Some(Asker::Guest { .. }) | None => None,
        }
    }

    /// A screen of this phone asks.
    pub fn ask(&mut self, client: ClientId, ask: Arc<Ask>) {
        self.pass_on(Asker::Client(client), ask);
    }

    /// A screen of this phone wants no more.
    pub fn cancel(&mut self, client: ClientId) {
        self.cancel_where(|asker| asker == Asker::Client(client));
    }

    /// Takes note of what another phone says.
    pub fn handle(&mut self, from: PeerId, message: Chat) {
        match message {
            Chat::Ask { number, ask } => self.asked_by(from, number, ask),
            Chat::Cancel { number } if self.is_head() => {
                let request = RequestId {
                    asker: from,
                    number,
                };
                self.events.push_back(OutEvent::Cancel { request });
            }
            Chat::Cancel { number } => {
                self.cancel_where(|asker| {
                    asker
                        == Asker::Guest {
                            phone: from,
                            number,
                        }
                });
            }
            Chat::Answer { number, answer } => {
                if self.head() == Some(from) {
                    self.answered(number, answer);
                } else if self.open.contains_key(&number) {
                    tracing::warn!(%from, "Answer from a phone that is not the head, dropped");
                }
            }
        }
    }

    /// Our own pipeline goes on with an answer.
    pub fn answer(&mut self, request: RequestId, answer: Answer) {
        if request.asker == self.me {
            self.answered(request.number, answer);
        } else {
            self.events.push_back(OutEvent::Send {
                to: request.asker,
                message: Chat::Answer {
                    number: request.number,
                    answer,
                },
            });
        }
    }

    /// A phone is gone: what it asked is not wanted any more, what it was to answer fails, and nothing more
    /// is asked of it.
    pub fn phone_lost(&mut self, phone: PeerId) {
        self.cancel_where(
            |asker| matches!(asker, Asker::Guest { phone: guest, .. } if guest == phone),
        );

        if self.head() == Some(phone) {
            for number in self.open.keys().copied().collect::<Vec<_>>() {
                self.answered(number, Answer::Failed(FailureReason::HeadLost));
            }
            self.plan = None;
        }
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.events.pop_front()
    }

    /// Returns whether no question is on its way.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    fn asked_by(&mut self, from: PeerId, number: u64, ask: Arc<Ask>) {
        if self.is_head() {
            let request = RequestId {
                asker: from,
                number,
            };
            self.events.push_back(OutEvent::Ask { request, ask });
        } else if self.plan.as_ref().is_some_and(|plan| plan.needs(from)) {
            self.tell(
                Asker::Guest {
                    phone: from,
                    number,
                },
                Answer::Refused(RefusalReason::NoModel),
            );
        } else {
            self.pass_on(
                Asker::Guest {
                    phone: from,
                    number,
                },
                ask,
            );
        }
    }

    fn pass_on(&mut self, asker: Asker, ask: Arc<Ask>) {
        let refusal = match self.head() {
            None => Some(RefusalReason::NoModel),
            Some(_) if self.open.len() >= OPEN_MAX => Some(RefusalReason::Busy {
                waiting: u32::try_from(self.open.len()).expect("bounded by OPEN_MAX"),
            }),
            // Asked here already, so that nothing crosses the network that the head would refuse.
            Some(_) => ask.validate().err(),
        };
        if let Some(reason) = refusal {
            return self.tell(asker, Answer::Refused(reason));
        }

        let number = self.next_number;
        self.next_number += 1;
        self.open.insert(number, asker);
        self.events.push_back(match self.head() {
            Some(head) if head != self.me => OutEvent::Send {
                to: head,
                message: Chat::Ask { number, ask },
            },
            _ => OutEvent::Ask {
                request: self.mine(number),
                ask,
            },
        });
    }

    fn answered(&mut self, number: u64, answer: Answer) {
        let Some(&asker) = self.open.get(&number) else {
            return; // a late word after the end
        };

        if answer.is_last() {
            self.open.remove(&number);
        }
        self.tell(asker, answer);
    }

    fn cancel_where(&mut self, wanted: impl Fn(Asker) -> bool) {
        let numbers = self.open.iter().filter(|(_, asker)| wanted(**asker));

        for number in numbers.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.events.push_back(match self.head() {
                Some(head) if head != self.me => OutEvent::Send {
                    to: head,
                    message: Chat::Cancel { number },
                },
                _ => OutEvent::Cancel {
                    request: self.mine(number),
                },
            });
        }
    }

    fn tell(&mut self, asker: Asker, answer: Answer) {
        self.events.push_back(match asker {
            Asker::Client(client) => OutEvent::Tell { client, answer },
            Asker::Guest { phone, number } => OutEvent::Send {
                to: phone,
                message: Chat::Answer { number, answer },
            },
        });
    }

    fn head(&self) -> Option<PeerId> {
        self.plan.as_ref().map(|plan| plan.head)
    }

    fn is_head(&self) -> bool {
        self.head() == Some(self.me)
    }

    fn mine(&self, number: u64) -> RequestId {
        RequestId {
            asker: self.me,
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Finish, Prompt, Sampling};
    use crate::testing::{self, ANNA, BELA, CARL};

    const SCREEN: ClientId = ClientId(1);

    #[test]
    fn a_guest_of_any_phone_is_answered_by_the_head() {
        let mut relay = in_force(BELA);

        relay.handle(
            CARL,
            Chat::Ask {
                number: 7,
                ask: ask("hello"),
            },
        );
        let asked = sent(&mut relay);
        relay.handle(
            ANNA,
            Chat::Answer {
                number: 0,
                answer: done(),
            },
        );

        assert!(matches!(asked[..], [(ANNA, Chat::Ask { number: 0, .. })]));
        assert!(matches!(
            sent(&mut relay)[..],
            [(CARL, Chat::Answer { number: 7, .. })]
        ));
        assert!(relay.is_idle());
    }

    #[test]
    fn an_answer_from_a_phone_that_is_not_the_head_is_dropped() {
        let mut relay = in_force(BELA);
        relay.ask(SCREEN, ask("hello"));
        sent(&mut relay);

        relay.handle(
            CARL,
            Chat::Answer {
                number: 0,
                answer: done(),
            },
        );

        assert!(relay.poll().is_none());
        assert!(!relay.is_idle());
    }

    #[test]
    fn a_question_from_the_ring_is_not_passed_on_again() {
        let mut relay = in_force(BELA);

        relay.handle(
            ANNA,
            Chat::Ask {
                number: 7,
                ask: ask("hello"),
            },
        );

        let refusal = Answer::Refused(RefusalReason::NoModel);
        assert_eq!(
            sent(&mut relay),
            [(
                ANNA,
                Chat::Answer {
                    number: 7,
                    answer: refusal
                }
            )]
        );
    }

    /// What is asked after the head has left would wait for ever.
    #[test]
    fn nothing_is_asked_of_a_head_that_is_gone() {
        let mut relay = in_force(BELA);
        relay.ask(SCREEN, ask("before"));
        sent(&mut relay);

        relay.phone_lost(ANNA);
        relay.ask(SCREEN, ask("after"));

        let told = std::iter::from_fn(|| relay.poll()).map(|event| {
            let OutEvent::Tell { answer, .. } = event else {
                panic!("{event:?}");
            };
            answer
        });
        let failed = Answer::Failed(FailureReason::HeadLost);
        assert_eq!(
            told.collect::<Vec<_>>(),
            [failed, Answer::Refused(RefusalReason::NoModel)]
        );
        assert!(relay.is_idle());
    }

    /// Returns the relay of `me` in a ring of Anna, who is the head, and Bela.
    fn in_force(me: PeerId) -> Relay {
        let mut relay = Relay::new(me);
        relay.plan_in_force(Arc::new(testing::plan(&[ANNA, BELA])));

        relay
    }

    fn ask(text: &str) -> Arc<Ask> {
        Arc::new(Ask {
            prompt: Prompt::Text(text.into()),
            max_tokens: 1,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: false,
        })
    }

    fn done() -> Answer {
        Answer::Done {
            finish: Finish::Stop,
            figures: Default::default(),
        }
    }

    fn sent(relay: &mut Relay) -> Vec<(PeerId, Chat)> {
        std::iter::from_fn(|| relay.poll())
            .map(|event| {
                let OutEvent::Send { to, message } = event else {
                    panic!("{event:?}");
                };
                (to, message)
            })
            .collect()
    }
}

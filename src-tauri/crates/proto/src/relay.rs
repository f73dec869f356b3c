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
//!
//! Who asks while the next plan is being prepared waits here, for [`WAIT_MAX`] at most, and is answered by that plan.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chat::{Answer, Ask, FailureReason, Figures, Finish, RefusalReason};
use crate::plan::Plan;
use crate::wire::Chat;
use crate::{PeerId, RequestId};

/// Questions that one phone may have on their way. The same guess as at the head.
const OPEN_MAX: usize = 64;

/// How long a question waits for the next plan. Shards of a model of 1 GB take as long on Wi-Fi, and a plan that fails is
/// followed by another within seconds. A guess.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// How long it waits once that plan has failed: by then the leader has proposed another, 2 s later, or there will be none
/// soon.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(4);

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

/// A question that waits for the next plan.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    ask: Arc<Ask>,
    until: Instant,
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
    /// Whether another plan takes the last one's place, and is not in force yet.
    is_preparing: bool,
    /// How long who asks meanwhile waits.
    patience: Duration,
    /// Questions that wait for it, oldest first.
    waiting: VecDeque<Waiting>,
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
            is_preparing: false,
            patience: WAIT_MAX,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A plan is in force: questions go to its head, those that have waited first.
    pub fn plan_in_force(&mut self, plan: Arc<Plan>, now: Instant) {
        self.plan = Some(plan);
        self.is_preparing = false;

        for Waiting { asker, ask, .. } in std::mem::take(&mut self.waiting) {
            match asker {
                Asker::Guest { phone, number } => self.asked_by(phone, number, ask, now),
                Asker::Client(_) => self.pass_on(asker, ask, now),
            }
        }
    }

    /// There is no plan any more, nor will there be one soon, nor anybody to ask.
    pub fn no_plan(&mut self) {
        self.plan = None;
        self.is_preparing = false;
        for waiting in std::mem::take(&mut self.waiting) {
            self.refuse(waiting.asker, RefusalReason::NoModel);
        }
    }

    /// Another plan is being prepared: what was asked under the last one is not answered any more, and who asks from
    /// now on waits until the next is in force.
    pub fn plan_replaced(&mut self, now: Instant) {
        let head = self.plan.take().map(|plan| plan.head);
        self.is_preparing = true;
        self.be_patient(WAIT_MAX, now);
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            // It may be on its way still: the head would keep it for the next plan, and answer nobody.
            if let Some(to) = head.filter(|&head| head != self.me) {
                let message = Chat::Cancel { number };
                self.events.push_back(OutEvent::Send { to, message });
            }
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

    /// The plan that is being prepared has failed: who waits for it does so a little longer, for the next.
    pub fn plan_failed(&mut self, now: Instant) {
        self.be_patient(WAIT_AFTER_FAILURE, now);
    }

    /// A screen of this phone asks.
    pub fn ask(&mut self, client: ClientId, ask: Arc<Ask>, now: Instant) {
        self.pass_on(Asker::Client(client), ask, now);
    }

    /// A screen of this phone wants no more.
    pub fn cancel(&mut self, client: ClientId) {
        self.cancel_where(|asker| asker == Asker::Client(client));
    }

    /// Takes note of what another phone says.
    pub fn handle(&mut self, from: PeerId, message: Chat, now: Instant) {
        match message {
            Chat::Ask { number, ask } => self.asked_by(from, number, ask, now),
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
                    tracing::debug!(%from, "Answer from a phone that is not the head, dropped");
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
        self.forget_guest(phone);

        if self.head() == Some(phone) {
            for number in self.open.keys().copied().collect::<Vec<_>>() {
                self.answered(number, Answer::Failed(FailureReason::HeadLost));
            }
            self.plan = None;
        }
    }

    /// Refuses those who have waited for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.until <= now) {
            self.refuse(waiting.asker, RefusalReason::NoModel);
        }
    }

    /// Returns when that is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.events.pop_front()
    }

    /// Returns whether no question is on its way.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.waiting.is_empty()
    }

    fn asked_by(&mut self, from: PeerId, number: u64, ask: Arc<Ask>, now: Instant) {
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
                now,
            );
        }
    }

    fn pass_on(&mut self, asker: Asker, ask: Arc<Ask>, now: Instant) {
        let n_open = self.open.len() + self.waiting.len();
        let refusal = match self.head() {
            None if !self.is_preparing => Some(RefusalReason::NoModel),
            _ if n_open >= OPEN_MAX => Some(RefusalReason::Busy {
                waiting: u32::try_from(n_open).expect("bounded by OPEN_MAX"),
            }),
            // Asked here already, so that nothing crosses the network that the head would refuse.
            _ => ask.validate().err(),
        };
        if let Some(reason) = refusal {
            return self.refuse(asker, reason);
        }
        if self.head().is_none() {
            return self.wait(asker, ask, now);
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

    /// Keeps a question for the next plan.
    fn wait(&mut self, asker: Asker, ask: Arc<Ask>, now: Instant) {
        let ahead = u32::try_from(self.waiting.len()).expect("bounded by OPEN_MAX");

        self.waiting.push_back(Waiting {
            asker,
            ask,
            until: now + self.patience,
        });
        self.tell(asker, Answer::Queued { ahead });
    }

    /// Has everybody wait for so long, from now on.
    fn be_patient(&mut self, patience: Duration, now: Instant) {
        self.patience = patience;
        for waiting in &mut self.waiting {
            waiting.until = now + patience;
        }
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
        let (gone, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| wanted(waiting.asker));
        self.waiting = waiting;
        for Waiting { asker, .. } in gone {
            let (finish, figures) = (Finish::Cancelled, Figures::default());
            self.tell(asker, Answer::Done { finish, figures });
        }

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

    /// Forgets what a phone asked. It is told so: its network may have been away for a moment, and then it still waits.
    fn forget_guest(&mut self, phone: PeerId) {
        let asked =
            |asker: &Asker| matches!(asker, Asker::Guest { phone: guest, .. } if *guest == phone);
        let waiting = self.waiting.iter().map(|waiting| waiting.asker);
        let open = self.open.values().copied();
        let gone = waiting.chain(open).filter(asked).collect::<Vec<_>>();

        self.waiting.retain(|waiting| !asked(&waiting.asker));
        self.cancel_where(|asker| asked(&asker));
        self.open.retain(|_, asker| !asked(asker));
        for asker in gone {
            self.tell(asker, Answer::Failed(FailureReason::HeadLost));
        }
    }

    fn refuse(&mut self, asker: Asker, reason: RefusalReason) {
        self.tell(asker, Answer::Refused(reason));
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
    use crate::chat::{Prompt, Sampling};
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
            Instant::now(),
        );
        let asked = sent(&mut relay);
        relay.handle(
            ANNA,
            Chat::Answer {
                number: 0,
                answer: done(),
            },
            Instant::now(),
        );

        assert!(matches!(asked[..], [(ANNA, Chat::Ask { number: 0, .. })]));
        assert!(matches!(
            sent(&mut relay)[..],
            [(CARL, Chat::Answer { number: 7, .. })]
        ));
        assert!(relay.is_idle());
    }

    /// It waits for the next plan here, or for its answer from the head: it may have been away for a moment, and be there
    /// again. What the head says of the end is of no use to it.
    #[test]
    fn a_guest_that_is_lost_is_told_that_its_answer_broke_off() {
        let now = Instant::now();
        for is_preparing in [false, true] {
            let mut relay = in_force(BELA);
            if is_preparing {
                relay.plan_replaced(now);
            }
            let question = Chat::Ask {
                number: 7,
                ask: ask("hello"),
            };
            relay.handle(CARL, question, now);
            sent(&mut relay);

            relay.phone_lost(CARL);

            let failed = (
                CARL,
                Chat::Answer {
                    number: 7,
                    answer: Answer::Failed(FailureReason::HeadLost),
                },
            );
            let cancel = (ANNA, Chat::Cancel { number: 0 });
            let expected = if is_preparing {
                vec![failed]
            } else {
                vec![cancel, failed]
            };
            assert_eq!(sent(&mut relay), expected);
            assert!(relay.is_idle());
        }
    }

    #[test]
    fn an_answer_from_a_phone_that_is_not_the_head_is_dropped() {
        let mut relay = in_force(BELA);
        relay.ask(SCREEN, ask("hello"), Instant::now());
        sent(&mut relay);

        relay.handle(
            CARL,
            Chat::Answer {
                number: 0,
                answer: done(),
            },
            Instant::now(),
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
            Instant::now(),
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
        relay.ask(SCREEN, ask("before"), Instant::now());
        sent(&mut relay);

        relay.phone_lost(ANNA);
        relay.ask(SCREEN, ask("after"), Instant::now());

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

    /// Who asks between two plans waits, is told so, and is asked for under the next one, in order.
    #[test]
    fn who_asks_between_two_plans_waits_for_the_next() {
        let (mut relay, now) = (in_force(ANNA), Instant::now());
        relay.plan_replaced(now);

        relay.ask(SCREEN, ask("mine"), now);
        let number = 7;
        let guests = Chat::Ask {
            number,
            ask: ask("a guest's"),
        };
        relay.handle(CARL, guests, now);
        let queued = |event: &OutEvent| match event {
            OutEvent::Tell { answer, .. } => answer.clone(),
            OutEvent::Send {
                message: Chat::Answer { answer, .. },
                ..
            } => answer.clone(),
            other => panic!("{other:?}"),
        };
        let told = std::iter::from_fn(|| relay.poll()).map(|event| queued(&event));
        let ahead = |ahead| Answer::Queued { ahead };
        assert_eq!(told.collect::<Vec<_>>(), [ahead(0), ahead(1)]);

        relay.plan_in_force(Arc::new(testing::plan(&[ANNA, BELA])), now);
        let asked = std::iter::from_fn(|| relay.poll()).map(|event| match event {
            OutEvent::Ask { request, .. } => request.asker,
            other => panic!("{other:?}"),
        });
        assert_eq!(asked.collect::<Vec<_>>(), [ANNA, CARL]);
    }

    /// Nobody waits for ever, nor once nothing is to be waited for; and whoever has enough of it is let go.
    #[test]
    fn waiting_comes_to_an_end() {
        let now = Instant::now();
        let refused = Answer::Refused(RefusalReason::NoModel);
        let cancelled = Answer::Done {
            finish: Finish::Cancelled,
            figures: Figures::default(),
        };
        type End<'a> = &'a dyn Fn(&mut Relay);
        let too_late: End<'_> = &|relay| relay.handle_timeout(now + WAIT_MAX);
        let no_plan: End<'_> = &|relay| relay.no_plan();
        let enough: End<'_> = &|relay| relay.cancel(SCREEN);

        for (end, expected) in [
            (too_late, &refused),
            (no_plan, &refused),
            (enough, &cancelled),
        ] {
            let mut relay = in_force(ANNA);
            relay.plan_replaced(now);
            relay.ask(SCREEN, ask("hello"), now);
            relay.poll();
            assert_eq!(relay.poll_timeout(), Some(now + WAIT_MAX));
            relay.handle_timeout(now + WAIT_MAX / 2);
            assert!(!relay.is_idle());
            relay.plan_failed(now);
            assert_eq!(relay.poll_timeout(), Some(now + WAIT_AFTER_FAILURE));

            end(&mut relay);

            let Some(OutEvent::Tell { answer, .. }) = relay.poll() else {
                panic!("nobody is told");
            };
            assert_eq!(answer, *expected);
            assert!(relay.is_idle() && relay.poll_timeout().is_none());
        }
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (mut relay, now) = (in_force(ANNA), Instant::now());
        relay.plan_replaced(now);

        for client in 0..200 {
            relay.ask(ClientId(client), ask("hello"), now);
        }

        let told = std::iter::from_fn(|| relay.poll());
        let is_refused = |event: &OutEvent| {
            let OutEvent::Tell { answer, .. } = event else {
                return false;
            };
            matches!(answer, Answer::Refused(RefusalReason::Busy { .. }))
        };
        assert_eq!(told.filter(is_refused).count(), 200 - OPEN_MAX);
    }

    /// Returns the relay of `me` in a ring of Anna, who is the head, and Bela.
    fn in_force(me: PeerId) -> Relay {
        let mut relay = Relay::new(me);
        relay.plan_in_force(Arc::new(testing::plan(&[ANNA, BELA])), Instant::now());

        relay
    }

    fn ask(text: &str) -> Arc<Ask> {
        Arc::new(Ask {
            prompt: Prompt::Text(text.into()),
            max_tokens: 1,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: false,
            written: Vec::new(),
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

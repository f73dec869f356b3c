//! Somebody who sends what nobody asked for: a phone of the ring, or one outside.
//!
//! What a phone of the ring is entitled to say is not forged: that it cannot go on, or has given its part up (the ring then
//! breaks), and what it makes of the hidden states that it is given (nobody can tell).

use std::sync::Arc;

use proto::chat::{Answer, Ask, Finish, Prompt, Sampling};
use proto::plan::Plan;
use proto::reconfig::Cause;
use proto::wire::{self, CacheOp, Chat, Control, Run, Step, StreamKind};
use proto::{Epoch, PeerId, SequenceId, StepId};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::model::Row;
use super::packet::activation_header;
use super::scenario::{Fault, Scenario, peer};
use super::{Message, OUTSIDER, Packet};

/// Messages that the forger remembers, to send again.
const OVERHEARD_MAX: usize = 200;

/// First number of forged questions: none that is asked honestly.
const NUMBERS: u64 = 1 << 32;

/// Sends what nobody asked for.
#[derive(Debug)]
pub(super) struct Forger {
    me: PeerId,
    left: u32,
    /// What this phone said itself.
    said: Vec<Message>,
}

impl Forger {
    /// Returns the scenario's forger, if it has one.
    pub(super) fn of(scenario: &Scenario) -> Option<Self> {
        let Fault::Hostile { member, forgeries } = scenario.fault else {
            return None;
        };

        Some(Self {
            me: peer(member.unwrap_or(OUTSIDER)),
            left: forgeries,
            said: Vec::new(),
        })
    }

    /// Remembers what it said itself.
    ///
    /// But not what it follows: said again once it has a part, that would say truly that it plays it no more.
    pub(super) fn overhear(&mut self, from: PeerId, to: PeerId, packet: &Packet) {
        if from == self.me && self.said.len() < OVERHEARD_MAX && !tells_what_is_followed(packet) {
            let packet = packet.clone();
            self.said.push(Message { from, to, packet });
        }
    }

    /// Returns the next forgery, if any is left.
    pub(super) fn forge(&mut self, plan: &Plan, rng: &mut ChaCha12Rng) -> Option<Message> {
        self.left = self.left.checked_sub(1)?;
        let others = plan.phones().filter(|&phone| phone != self.me);
        let others = others.collect::<Vec<_>>();
        if others.is_empty() {
            return None;
        }
        let to = others[rng.random_range(0..others.len())];

        let packet = match rng.random_range(0..8) {
            0..2 => control(&self.step(plan, to, rng)),
            2..4 => self.activation(plan, to, rng),
            4 => control(&self.order(plan, to, rng)),
            5 => chat(&self.chat(rng)),
            6 => garbage(rng),
            _ => return Some(self.replay(plan, to, rng)),
        };

        Some(Message {
            from: self.me,
            to,
            packet,
        })
    }

    /// Forges a step header, with another epoch where it would be right to send one.
    fn step(&self, plan: &Plan, to: PeerId, rng: &mut ChaCha12Rng) -> Control {
        let relays = plan.relay_headers && upstream(plan, to) == Some(self.me);
        let absurd = rng.random_bool(0.3);
        let number = |rng: &mut ChaCha12Rng, sane: u32| match absurd {
            true => rng.random(),
            false => rng.random_range(0..sane),
        };

        let runs = (0..rng.random_range(0..4)).map(|_| Run {
            sequence: SequenceId(number(rng, plan.n_sequences)),
            position: number(rng, plan.n_ctx),
            n_tokens: number(rng, plan.chunk_tokens),
            n_wanted: number(rng, 2),
        });
        let runs = runs.collect();
        let cache_ops = (0..rng.random_range(0..3)).map(|_| CacheOp::Truncate {
            sequence: SequenceId(number(rng, plan.n_sequences)),
            n_positions: number(rng, plan.n_ctx),
        });

        Control::Step(Arc::new(Step {
            cache_ops: cache_ops.collect(),
            runs,
            epoch: epoch(plan, relays, rng),
            id: step_id(rng),
        }))
    }

    /// Forges an activation, with another epoch where it would be right to send one.
    fn activation(&self, plan: &Plan, to: PeerId, rng: &mut ChaCha12Rng) -> Packet {
        let feeds = upstream(plan, to) == Some(self.me)
            || plan.head == to && plan.stages.last().is_some_and(|s| s.phone == self.me);
        let rows = vec![Row::embed(0); rng.random_range(0..20)];

        let header = activation_header(epoch(plan, feeds, rng), step_id(rng), &rows);
        Packet::Activation(header, rows)
    }

    /// Forges what only a leader may say, or what a phone may say before a plan is in force.
    fn order(&self, plan: &Plan, to: PeerId, rng: &mut ChaCha12Rng) -> Control {
        let reason = "a lie \u{1b}[2J".repeat(rng.random_range(1..50));
        let mut usurped = plan.clone();
        usurped.epoch = Epoch(*choose(rng, &[0, plan.epoch.0, plan.epoch.0 + 1, u64::MAX]));
        usurped.head = self.me;

        match rng.random_range(0..7) {
            0 => Control::Commit {
                epoch: epoch(plan, false, rng),
            },
            1 => Control::Ready { epoch: plan.epoch },
            2 if plan.needs(self.me) => Control::NotReady {
                epoch: plan.epoch,
                newest: plan.epoch,
                cause: Cause::CannotLoad,
                reason,
            },
            2 => Control::NotReady {
                epoch: plan.epoch,
                newest: epoch(plan, false, rng),
                cause: *choose(rng, &[Cause::Lost, Cause::CannotLoad]),
                reason,
            },
            3 => Control::Prepare {
                plan: Arc::new(usurped),
                manifest: Arc::new(super::manifest(&[1, 1, 1, 1])),
            },
            4 => Control::InForce {
                plan: Arc::new(usurped),
            },
            5 => Control::Follows {
                // Whoever has a part may say that it plays it no more.
                epoch: plan.needs(self.me).then_some(plan.epoch),
                newest: epoch(plan, false, rng),
            },
            _ => Control::StageFailed {
                epoch: epoch(plan, plan.head == to && plan.needs(self.me), rng),
                reason,
            },
        }
    }

    fn chat(&self, rng: &mut ChaCha12Rng) -> Chat {
        match rng.random_range(0..4) {
            0 => Chat::Answer {
                number: rng.random_range(0..4),
                answer: Answer::Token {
                    token: 0,
                    text: "a lie".into(),
                },
            },
            1 => Chat::Answer {
                number: rng.random_range(0..4),
                answer: Answer::Done {
                    finish: Finish::Stop,
                    figures: Default::default(),
                },
            },
            2 => Chat::Cancel {
                number: rng.random_range(0..4) + NUMBERS * rng.random_range(0..2),
            },
            _ => Chat::Ask {
                number: NUMBERS + rng.random_range(0..4),
                ask: Arc::new(Ask {
                    prompt: Prompt::Text("spam".repeat(rng.random_range(0..20))),
                    max_tokens: rng.random_range(0..50),
                    sampling: Sampling {
                        seed: rng.random(),
                        ..Sampling::default()
                    },
                    stop: Vec::new(),
                    ignore_end: false,
                    written: Vec::new(),
                }),
            },
        }
    }

    /// Says again what it said, to whom it said it or to somebody else.
    fn replay(&self, plan: &Plan, to: PeerId, rng: &mut ChaCha12Rng) -> Message {
        if self.said.is_empty() {
            let packet = self.activation(plan, to, rng);
            return Message {
                from: self.me,
                to,
                packet,
            };
        }

        choose(rng, &self.said).clone()
    }
}

fn tells_what_is_followed(packet: &Packet) -> bool {
    match packet {
        Packet::Control(bytes) => {
            matches!(
                super::decode(bytes, StreamKind::Control),
                Ok(Control::Follows { .. })
            )
        }
        Packet::Chat(_) | Packet::Activation(..) => false,
    }
}

fn control(message: &Control) -> Packet {
    Packet::Control(wire::encode_frame(message, StreamKind::Control))
}

fn chat(message: &Chat) -> Packet {
    Packet::Chat(wire::encode_frame(message, StreamKind::Chat))
}

/// Bytes of no meaning, or of one by chance; some announce more than follows.
fn garbage(rng: &mut ChaCha12Rng) -> Packet {
    let length = match rng.random_bool(0.5) {
        true => rng.random_range(0..64),
        false => rng.random(),
    };
    let mut frame = u32::to_le_bytes(length).to_vec();
    frame.extend((0..rng.random_range(0..64)).map(|_| rng.random::<u8>()));

    match rng.random_bool(0.5) {
        true => Packet::Control(frame),
        false => Packet::Chat(frame),
    }
}

/// Returns an epoch; never the plan's own if the message would then be right.
fn epoch(plan: &Plan, other: bool, rng: &mut ChaCha12Rng) -> Epoch {
    let epochs = [
        plan.epoch.0 - 1,
        plan.epoch.0 + 1,
        0,
        u64::MAX,
        plan.epoch.0,
    ];
    let n = epochs.len() - usize::from(other);

    Epoch(*choose(rng, &epochs[..n]))
}

fn step_id(rng: &mut ChaCha12Rng) -> StepId {
    StepId(match rng.random_range(0..3) {
        0 => rng.random_range(0..100),
        1 => rng.random(),
        _ => u64::MAX,
    })
}

/// Returns whose activations a phone takes as a stage.
fn upstream(plan: &Plan, phone: PeerId) -> Option<PeerId> {
    let (position, _) = plan.stage_of(phone)?;

    Some(match position.checked_sub(1) {
        Some(before) => plan.stages[before].phone,
        None => plan.head,
    })
}

fn choose<'a, T>(rng: &mut ChaCha12Rng, of: &'a [T]) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

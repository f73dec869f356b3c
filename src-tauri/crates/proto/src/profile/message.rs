//! What phones say to each other about what they can do. All of it goes over the control stream,
//! but for bursts of activations, which go where activations go.
//!
//! ```text
//! leader                         Ann                                   Ben
//!   │ ── Measure ───────────────► │                                     │
//!   │ ◄─────────────── Measured ─ │ (computes for 1 to 3 s)             │
//!   │ ── Probe { to: Ben } ─────► │ ── Ping ──────────────────────────► │
//!   │                             │ ◄──────────────────────────── Pong ─│   × 10
//!   │                             │ ══ activations of `PROBE_EPOCH` ══► │
//!   │ ◄──────────────── Probed ── │ ◄───────────────────────── Arrived ─│   × 1 to 3
//! ```

use std::sync::Arc;
use std::time::Duration;

use gguf_tools::{ModelHash, Sample};
use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::phone::{Pace, Profile};
use crate::device::Snapshot;
use crate::plan::ActivationType;
use crate::wire::ActivationHeader;
use crate::{Epoch, PeerId, StepId};

/// The epoch of activations that are sent to see how long they take. No plan has it: a phone that
/// does not know of probes ignores them as it ignores those of any plan that is not in force.
pub const PROBE_EPOCH: Epoch = Epoch(u64::MAX);

/// Number of one measuring of a link, given by the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeId(pub u32);

/// A word about measuring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// The leader asks a phone to measure itself.
    Measure {
        /// The model's sample.
        sample: Arc<Sample>,
        /// The model, as its manifest's hash names it.
        model: ModelHash,
    },
    /// A phone tells the leader what it can do, and how it is.
    Measured {
        /// What it can do.
        profile: Box<Profile>,
        /// How it is.
        snapshot: Snapshot,
    },
    /// A phone cannot measure itself.
    NotMeasured {
        /// Why, for people.
        reason: String,
    },
    /// The leader asks a phone to measure the way to another.
    Probe {
        /// Number of this measuring.
        probe: ProbeId,
        /// The other phone.
        to: PeerId,
        /// What to send and how much.
        depth: Depth,
    },
    /// A phone tells the leader what the way to another is like.
    Probed {
        /// Number of this measuring.
        probe: ProbeId,
        /// What was found.
        found: Found,
    },
    /// A phone asks another to answer at once.
    Ping {
        /// Number of this measuring.
        probe: ProbeId,
        /// Number of the ping in it.
        number: u8,
    },
    /// The answer to a ping, with its numbers.
    Pong {
        /// Number of this measuring.
        probe: ProbeId,
        /// Number of the ping in it.
        number: u8,
    },
    /// The last activation of a burst has arrived.
    Arrived {
        /// Number of this measuring.
        probe: ProbeId,
        /// Number of the burst in it.
        burst: u8,
    },
    /// A phone tells the leader how its work goes, beside what its profile says.
    Pace {
        /// The model that it runs.
        model: ModelHash,
        /// How that goes.
        pace: Pace,
    },
    /// A phone tells the leader what it has received of a shard: as fast as the link carries it.
    Received {
        /// Who sent it.
        from: PeerId,
        /// How many bytes.
        n_bytes: u64,
        /// What they took.
        time: Duration,
    },
}

/// What a measuring of a link sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Pings only: some hundred bytes.
    Rtt,
    /// Pings, and bursts of activations of a prefill chunk.
    Full {
        /// Numbers in an activation.
        n_numbers: u32,
        /// Their type on the wire.
        activation: ActivationType,
    },
}

/// What a measuring of a link found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// The phones can talk.
    Way {
        /// Seconds there and back of a small message.
        rtt_s: Figure,
        /// Bytes a second that arrive; `None` if only pings were sent.
        goodput_bytes_per_s: Option<Figure>,
    },
    /// They cannot.
    Unreachable,
}

/// One activation of a burst, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurstFrame {
    /// Number of the measuring.
    pub probe: ProbeId,
    /// Number of the burst in it.
    pub burst: u8,
    /// Whether others of the burst follow.
    pub more: bool,
}

impl BurstFrame {
    /// Returns the header under which it goes over the wire; any numbers may follow.
    pub fn header(self, n_numbers: u32, activation: ActivationType) -> ActivationHeader {
        let step =
            u64::from(self.probe.0) << 32 | u64::from(self.burst) << 8 | u64::from(self.more);

        ActivationHeader {
            epoch: PROBE_EPOCH,
            step: StepId(step),
            n_numbers,
            activation,
        }
    }

    /// Reads it from an activation's epoch and step; `None` if the activation is of a plan.
    pub fn read(epoch: Epoch, step: StepId) -> Option<Self> {
        let [more, burst, _, _, p0, p1, p2, p3] = step.0.to_le_bytes();

        (epoch == PROBE_EPOCH).then_some(Self {
            probe: ProbeId(u32::from_le_bytes([p0, p1, p2, p3])),
            burst,
            more: more != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{SNAPSHOT, figure, profile, sample};
    use super::*;
    use crate::testing::BELA;
    use crate::wire::{LENGTH_BYTES, StreamKind, decode, encode_frame};

    #[test]
    fn every_message_survives_the_wire() {
        let found = Found::Way {
            rtt_s: figure(0.01),
            goodput_bytes_per_s: Some(figure(5e6)),
        };
        let (probe, number) = (ProbeId(7), 3);
        let messages = [
            Message::Measure {
                sample: Arc::new(sample()),
                model: ModelHash::of(b"a model"),
            },
            Message::Measured {
                profile: Box::new(profile(0.001)),
                snapshot: SNAPSHOT,
            },
            Message::NotMeasured {
                reason: "no room".into(),
            },
            Message::Probe {
                probe,
                to: BELA,
                depth: Depth::Rtt,
            },
            Message::Probed { probe, found },
            Message::Ping { probe, number },
            Message::Pong { probe, number },
            Message::Arrived { probe, burst: 1 },
            Message::Pace {
                model: ModelHash::of(b"a model"),
                pace: Pace::UNKNOWN,
            },
            Message::Received {
                from: BELA,
                n_bytes: 8 << 20,
                time: Duration::from_millis(700),
            },
        ];

        for message in messages {
            let frame = encode_frame(&message, StreamKind::Control);

            assert_eq!(decode::<Message>(&frame[LENGTH_BYTES..]).unwrap(), message);
        }
    }

    #[test]
    fn a_burst_is_told_from_a_plans_activations() {
        let frame = BurstFrame {
            probe: ProbeId(u32::MAX),
            burst: 2,
            more: true,
        };
        let header = frame.header(64, ActivationType::F32);

        assert_eq!(BurstFrame::read(header.epoch, header.step), Some(frame));
        assert_eq!(BurstFrame::read(Epoch(3), header.step), None);
    }

    proptest! {
        /// Whatever comes is a message with sound numbers, or an error.
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(Message::Measured { profile, .. }) = decode::<Message>(&bytes) {
                prop_assert!(profile.logits_s.value() > 0.0);
                prop_assert!(profile.decode_s.at(100).is_finite());
            }
        }

        /// The same near the truth: one byte of a real message changed.
        #[test]
        fn a_changed_message_is_sound_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let message = Message::Measured { profile: Box::new(profile(0.001)), snapshot: SNAPSHOT };
            let mut bytes = postcard::to_stdvec(&message).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;

            if let Ok(Message::Measured { profile, .. }) = decode::<Message>(&bytes) {
                let ends_s = profile.ends_decode_s();
                prop_assert!(ends_s > 0.0 && ends_s.is_finite());
                prop_assert!(profile.layers_repacked.of(1000) <= 1000);
            }
        }
    }
}

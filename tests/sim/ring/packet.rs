//! The ring's messages as they go over the wire, and what a shell does about each wish.

use proto::chat::Answer;
use proto::relay::ClientId;
use proto::ring::{InEvent, Notice, OutEvent};
use proto::wire::{self, ActivationHeader, Control, StreamKind};
use proto::{Epoch, PeerId, StepId};

use super::engine::Job;
use super::model::Hidden;

/// A message as it goes over the wire.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Control(Vec<u8>),
    Chat(Vec<u8>),
    Activation([u8; wire::ACTIVATION_HEADER_BYTES], Hidden),
}

/// What a shell does about a wish of the ring.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Sends a message.
    Send { to: PeerId, packet: Packet },
    /// Has the engine do something.
    Work(Job),
    /// Tells a screen.
    Tell { client: ClientId, answer: Answer },
    /// Tells people.
    Notice(Notice),
    /// It is for somebody else.
    Nothing,
}

impl Deed {
    /// Returns what a shell does about a wish.
    pub(crate) fn of(wish: OutEvent<Hidden>) -> Self {
        match wish {
            OutEvent::SendControl { to, message } => {
                let frame = wire::encode_frame(&message, StreamKind::Control);
                let packet = Packet::Control(frame);
                Self::Send { to, packet }
            }
            OutEvent::SendChat { to, message } => {
                let frame = wire::encode_frame(&message, StreamKind::Chat);
                let packet = Packet::Chat(frame);
                Self::Send { to, packet }
            }
            OutEvent::SendActivation {
                to,
                epoch,
                step,
                hidden,
            } => {
                let header = activation_header(epoch, step, &hidden);
                let packet = Packet::Activation(header, hidden);
                Self::Send { to, packet }
            }
            OutEvent::Tell { client, answer } => Self::Tell { client, answer },
            OutEvent::Load { plan, .. } => Self::Work(Job::Load(plan)),
            OutEvent::Unload => Self::Work(Job::Unload),
            OutEvent::Open { request, ask } => Self::Work(Job::Open(request, ask)),
            OutEvent::Close { request } => Self::Work(Job::Close(request)),
            OutEvent::Embed { step, tokens } => Self::Work(Job::Embed(step, tokens)),
            OutEvent::Compute { step, hidden, last } => {
                Self::Work(Job::Compute(step, hidden, last))
            }
            OutEvent::Sample {
                step,
                hidden,
                picks,
            } => Self::Work(Job::Sample(step, hidden, picks)),
            OutEvent::Notice(notice) => Self::Notice(notice),
            OutEvent::Answered(_) => Self::Nothing, // for who holds it against a forecast
        }
    }
}

impl Packet {
    /// Returns which stream it goes on.
    pub(crate) fn kind(&self) -> StreamKind {
        match self {
            Self::Control(_) => StreamKind::Control,
            Self::Chat(_) => StreamKind::Chat,
            Self::Activation(..) => StreamKind::Activation,
        }
    }

    /// Returns whether it may come before one that was sent earlier: the machines do not mind for
    /// activations and step headers, whose second byte after the length is the message's kind.
    pub(crate) fn may_overtake(&self) -> bool {
        match self {
            Self::Activation(..) => true,
            Self::Control(bytes) => {
                matches!(decode(bytes, StreamKind::Control), Ok(Control::Step(_)))
            }
            Self::Chat(_) => false,
        }
    }
}

/// Reads a packet as a shell would; what cannot be read goes nowhere.
pub(crate) fn read(from: PeerId, packet: Packet) -> Option<InEvent<Hidden>> {
    match packet {
        Packet::Control(bytes) => {
            let message = decode(&bytes, StreamKind::Control).ok()?;
            Some(InEvent::Control { from, message })
        }
        Packet::Chat(bytes) => {
            let message = decode(&bytes, StreamKind::Chat).ok()?;
            Some(InEvent::Chat { from, message })
        }
        Packet::Activation(header, hidden) => {
            let header = ActivationHeader::decode(&header).ok()?;
            Some(InEvent::Activation {
                from,
                epoch: header.epoch,
                step: header.step,
                hidden,
            })
        }
    }
}

/// Reads one message from a frame.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    frame: &[u8],
    kind: StreamKind,
) -> Result<T, wire::DecodeError> {
    let (length, message) = frame
        .split_first_chunk::<{ wire::LENGTH_BYTES }>()
        .expect("a frame has a length");
    let length = wire::decode_length(*length, kind)?;

    wire::decode(&message[..length.min(message.len())])
}

/// Makes what precedes a hidden state.
pub(crate) fn activation_header(
    epoch: Epoch,
    step: StepId,
    hidden: &Hidden,
) -> [u8; wire::ACTIVATION_HEADER_BYTES] {
    let header = ActivationHeader {
        epoch,
        step,
        n_numbers: u32::try_from(hidden.len()).expect("few rows"),
        activation: proto::plan::ActivationType::F32,
    };

    header.encode()
}

//! What phones say to each other, as bytes.
//!
//! Four kinds of long-lived streams, so that none waits behind another: **join** (who belongs
//! together, the only one that is open to strangers), **control** (plans, step headers),
//! **activation** (hidden states) and **chat** (questions and answers). On them go frames:
//!
//! ```text
//! join            u32 length │ a message of the group          length ≤ the stream's cap
//! control, chat   u32 length │ postcard                        length ≤ the stream's cap
//! activation      u64 epoch │ u64 step │ u32 n_numbers │ u8 type │ 3 × 0 │ numbers    little-endian
//! ```
//!
//! Every length is compared with its cap before anything is allocated for it. A frame that cannot be
//! read ends the stream: its sender is broken or hostile.

use std::sync::Arc;

use gguf_tools::Manifest;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

use crate::chat::{Answer, Ask};
use crate::forecast;
use crate::group::Bounded;
use crate::plan::{ActivationType, CHUNK_TOKENS_MAX, Plan, SEQUENCES_MAX};
use crate::profile;
use crate::reconfig::Cause;
use crate::standing;
use crate::transfer;
use crate::{Epoch, ModelId, PeerId, SequenceId, StepId};

/// Bytes in a join frame: a full roster takes 12.4 kB.
pub const JOIN_FRAME_BYTES_MAX: usize = 16 << 10;

/// Bytes in a control frame: a manifest of 64 GiB of shards, 32 bytes of hash for each MiB, and
/// as much again.
pub const CONTROL_FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes in a chat frame: the longest question ([`crate::chat::ASK_BYTES_MAX`]), its tokens at 5
/// bytes each, and its names.
pub const CHAT_FRAME_BYTES_MAX: usize = 1 << 20;

/// Numbers in a hidden state: twice the widest supported model's (Llama 3.1 405B: 16,384).
pub const N_EMBD_MAX: u32 = 32_768;

/// Cache operations in a step: one for each sequence.
const CACHE_OPS_MAX: usize = SEQUENCES_MAX as usize;

/// Bytes before an activation's numbers.
pub const ACTIVATION_HEADER_BYTES: usize = 24;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// Kinds of streams between two phones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Who belongs together. Open to strangers.
    Join,
    /// Plans and step headers.
    Control,
    /// Hidden states.
    Activation,
    /// Questions and answers.
    Chat,
    /// What is said about shards.
    Shard,
    /// Shards, chunk by chunk.
    Chunk,
}

/// One pass of the ring: what every stage must know beside the hidden state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Plan that it runs under.
    pub epoch: Epoch,
    /// Its number; stages run steps in this order.
    pub id: StepId,
    /// Done to the caches before the step runs.
    #[serde(deserialize_with = "at_most::<_, _, CACHE_OPS_MAX>")]
    pub cache_ops: Vec<CacheOp>,
    /// Whose tokens go round; the hidden state has their rows in this order.
    #[serde(deserialize_with = "at_most::<_, _, { CHUNK_TOKENS_MAX as usize }>")]
    pub runs: Vec<Run>,
}

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose cache is extended.
    pub sequence: SequenceId,
    /// Position of the first token.
    pub position: u32,
    /// Tokens.
    pub n_tokens: u32,
    /// Rows that the ends want back: the last `n_wanted` of the run. 0 in the middle of a prompt.
    pub n_wanted: u32,
}

/// A change to every stage's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheOp {
    /// Forget all positions from `n_positions` on.
    Truncate {
        /// Whose cache.
        sequence: SequenceId,
        /// Positions that stay.
        n_positions: u32,
    },
}

/// A control frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// The leader proposes a plan: get your shards, load them, say so.
    Prepare {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
    },
    /// A phone has loaded its part of a plan.
    Ready {
        /// The plan's epoch.
        epoch: Epoch,
    },
    /// A phone cannot do its part of a plan.
    NotReady {
        /// The plan's epoch.
        epoch: Epoch,
        /// Newest epoch that the phone knows of.
        newest: Epoch,
        /// Whether it may be different the next time.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
    /// What a phone can do, and what links carry.
    Survey(profile::Message),
    /// A member would run a model of its own if it led.
    Offer {
        /// Whether a person has just started it, and it takes the place of what the leader runs.
        is_fresh: bool,
    },
    /// The leader says that what was run is run no more.
    Stop,
    /// The phone on which a person started what is run asks the leader to stop it.
    StopWanted,
    /// A person wants a model run that the phone which gets this has.
    RunWanted(ModelId),
    /// A person wants to know what to expect of a model that the phone which gets this has.
    ForecastWanted(ModelId),
    /// It says what.
    ForecastTold {
        /// Which model.
        model: ModelId,
        /// What to expect of it.
        reply: forecast::Reply,
    },
    /// How members are.
    Standing(standing::Message),
    /// A member that begins to obey the leader says where it is: it may have followed another phone meanwhile.
    Follows {
        /// Epoch of the plan that it has a part in, in force or being prepared.
        epoch: Option<Epoch>,
        /// Newest epoch that it knows of.
        newest: Epoch,
    },
    /// Every phone is ready: the plan is in force.
    Commit {
        /// The plan's epoch.
        epoch: Epoch,
    },
    /// The leader tells a member without a part that a plan is in force.
    InForce {
        /// The plan.
        plan: Arc<Plan>,
    },
    /// A step header, from the head.
    Step(Arc<Step>),
    /// A stage tells the head that it cannot go on.
    StageFailed {
        /// The plan's epoch.
        epoch: Epoch,
        /// What its engine said.
        reason: String,
    },
    /// A stage tells the head that it cannot reach the phone before or after it in the ring.
    NeighbourLost {
        /// The plan's epoch.
        epoch: Epoch,
        /// Phone that cannot be reached.
        neighbour: PeerId,
    },
}

/// A chat frame. Questions carry the asker's own count; answers carry it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Chat {
    /// A question.
    Ask {
        /// The asker's count.
        number: u64,
        /// The question.
        ask: Arc<Ask>,
    },
    /// No more of that answer.
    Cancel {
        /// The asker's count.
        number: u64,
    },
    /// How an answer goes on.
    Answer {
        /// The asker's count.
        number: u64,
        /// What there is to tell.
        answer: Answer,
    },
}

/// What stands before an activation's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationHeader {
    /// Plan that it belongs to.
    pub epoch: Epoch,
    /// Step that it belongs to.
    pub step: StepId,
    /// Numbers that follow: rows times `n_embd`.
    pub n_numbers: u32,
    /// Their type.
    pub activation: ActivationType,
}

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame says that it is longer than its stream allows.
    #[error("frame of {found} B, at most {max} B are allowed")]
    TooLong {
        /// Bytes announced.
        found: u64,
        /// The cap.
        max: usize,
    },
    /// The bytes are no message of ours.
    #[error("malformed frame: {0}")]
    Malformed(#[from] postcard::Error),
    /// Something follows the message.
    #[error("{0} B follow the message")]
    Trailing(usize),
    /// A number type that does not exist.
    #[error("activation of unknown type {0}")]
    UnknownActivationType(u8),
}

/// Why a step header cannot be run under a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A sequence that the plan has no cache for.
    #[error("sequence {found} of {n_sequences}")]
    UnknownSequence {
        /// Sequence in the header.
        found: u32,
        /// Sequences of the plan.
        n_sequences: u32,
    },
    /// More tokens than a step holds, or none.
    #[error("{found} tokens, a step holds 1 to {max}")]
    WrongTokens {
        /// Tokens in the header.
        found: u64,
        /// The plan's chunk.
        max: u32,
    },
    /// A run leaves the context, or wants more rows than it has.
    #[error(
        "run at {position} with {n_tokens} tokens and {n_wanted} wanted rows leaves the context of {n_ctx}"
    )]
    RunOutOfRange {
        /// First position.
        position: u32,
        /// Tokens.
        n_tokens: u32,
        /// Wanted rows.
        n_wanted: u32,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// More cache operations than sequences.
    #[error("{found} cache operations, at most one for each sequence")]
    TooManyCacheOps {
        /// Operations in the header.
        found: usize,
    },
}

impl Step {
    /// Returns the tokens of all runs: the rows of the hidden state that goes in.
    pub fn n_tokens(&self) -> usize {
        self.runs.iter().map(|run| run.n_tokens as usize).sum()
    }

    /// Returns the wanted rows of all runs: the rows that the last stage puts out.
    pub fn n_wanted(&self) -> usize {
        self.runs.iter().map(|run| run.n_wanted as usize).sum()
    }

    /// Checks that a header can be run under `plan`.
    ///
    /// # Errors
    ///
    /// The first [`StepError`] that applies.
    pub fn validate(&self, plan: &Plan) -> Result<(), StepError> {
        let n_tokens = self.runs.iter().map(|run| u64::from(run.n_tokens)).sum();
        if !(1..=u64::from(plan.chunk_tokens.min(CHUNK_TOKENS_MAX))).contains(&n_tokens) {
            return Err(StepError::WrongTokens {
                found: n_tokens,
                max: plan.chunk_tokens,
            });
        }
        if self.cache_ops.len() > plan.n_sequences as usize {
            return Err(StepError::TooManyCacheOps {
                found: self.cache_ops.len(),
            });
        }

        let truncated = self.cache_ops.iter().map(|op| match op {
            CacheOp::Truncate { sequence, .. } => *sequence,
        });
        let run = self.runs.iter().map(|run| run.sequence);
        for sequence in truncated.chain(run) {
            if sequence.0 >= plan.n_sequences {
                return Err(StepError::UnknownSequence {
                    found: sequence.0,
                    n_sequences: plan.n_sequences,
                });
            }
        }

        self.runs.iter().try_for_each(|run| run.validate(plan))
    }
}

impl Run {
    fn validate(&self, plan: &Plan) -> Result<(), StepError> {
        let end = self.position.checked_add(self.n_tokens);
        let fits = end.is_some_and(|end| end <= plan.n_ctx);

        if fits && self.n_tokens > 0 && self.n_wanted <= self.n_tokens {
            return Ok(());
        }
        Err(StepError::RunOutOfRange {
            position: self.position,
            n_tokens: self.n_tokens,
            n_wanted: self.n_wanted,
            n_ctx: plan.n_ctx,
        })
    }
}

impl StreamKind {
    /// Returns the most bytes that one frame of this kind may announce.
    pub fn frame_bytes_max(self) -> usize {
        match self {
            Self::Join => JOIN_FRAME_BYTES_MAX,
            Self::Control => CONTROL_FRAME_BYTES_MAX,
            Self::Chat => CHAT_FRAME_BYTES_MAX,
            Self::Activation => ACTIVATION_HEADER_BYTES,
            Self::Shard => transfer::MESSAGE_BYTES_MAX,
            Self::Chunk => transfer::CHUNK_HEADER_BYTES,
        }
    }
}

impl ActivationType {
    /// Returns the bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl ActivationHeader {
    /// Returns the header as it goes over the wire.
    pub fn encode(&self) -> [u8; ACTIVATION_HEADER_BYTES] {
        let mut bytes = [0; ACTIVATION_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.step.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.n_numbers.to_le_bytes());
        bytes[20] = match self.activation {
            ActivationType::F32 => 0,
            ActivationType::F16 => 1,
        };

        bytes
    }

    /// Reads a header and checks its length against what any plan can ask for.
    ///
    /// # Errors
    ///
    /// - [`DecodeError::UnknownActivationType`] if the type is neither f32 nor f16
    /// - [`DecodeError::TooLong`] if more numbers follow than [`CHUNK_TOKENS_MAX`] rows of [`N_EMBD_MAX`]
    pub fn decode(bytes: &[u8; ACTIVATION_HEADER_BYTES]) -> Result<Self, DecodeError> {
        let [e0, e1, e2, e3, e4, e5, e6, e7, rest @ ..] = *bytes;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, kind, ..] = rest;
        let n_numbers = u32::from_le_bytes([n0, n1, n2, n3]);
        let activation = match kind {
            0 => ActivationType::F32,
            1 => ActivationType::F16,
            other => return Err(DecodeError::UnknownActivationType(other)),
        };

        if n_numbers > CHUNK_TOKENS_MAX * N_EMBD_MAX {
            return Err(DecodeError::TooLong {
                found: u64::from(n_numbers) * activation.bytes() as u64,
                max: (CHUNK_TOKENS_MAX * N_EMBD_MAX) as usize * activation.bytes(),
            });
        }

        Ok(Self {
            epoch: Epoch(u64::from_le_bytes([e0, e1, e2, e3, e4, e5, e6, e7])),
            step: StepId(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
            n_numbers,
            activation,
        })
    }
}

/// Returns `message` as a frame: its length, then its bytes, to be written at once.
///
/// # Panics
///
/// If the message is longer than its stream allows, or cannot be written as postcard: ours can.
pub fn encode_frame<T: Serialize>(message: &T, kind: StreamKind) -> Vec<u8> {
    let frame = postcard::to_extend(message, vec![0; LENGTH_BYTES]);
    let mut frame = frame.expect("our messages have known lengths and no foreign types");
    let length = frame.len() - LENGTH_BYTES;
    assert!(
        length <= kind.frame_bytes_max(),
        "message of {length} B on {kind:?}"
    );

    let length = u32::try_from(length).expect("caps are below 4 GiB");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    frame
}

/// Returns how many bytes follow a frame's length.
///
/// # Errors
///
/// [`DecodeError::TooLong`] if they are more than the stream allows.
pub fn decode_length(bytes: [u8; LENGTH_BYTES], kind: StreamKind) -> Result<usize, DecodeError> {
    let (found, max) = (u32::from_le_bytes(bytes), kind.frame_bytes_max());

    match usize::try_from(found) {
        Ok(length) if length <= max => Ok(length),
        _ => Err(DecodeError::TooLong {
            found: u64::from(found),
            max,
        }),
    }
}

/// Reads one message from exactly these bytes.
///
/// Reserves at most 1 MiB for a list before its elements are read, whatever length it announces (serde's own cap).
///
/// # Errors
///
/// - [`DecodeError::Malformed`] if they are no such message
/// - [`DecodeError::Trailing`] if something follows it
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (message, rest) = postcard::take_from_bytes(bytes)?;

    if rest.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Reads a list of at most `MAX` elements.
///
/// An element may take a byte on the wire and dozens in memory: a frame's cap alone does not bound it.
pub(crate) fn at_most<'de, D, T, const MAX: usize>(list: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Bounded::<T, MAX>::deserialize(list).map(Bounded::into_vec)
}

/// Reads a text of at most `MAX` bytes.
pub(crate) fn text_at_most<'de, D, const MAX: usize>(text: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(text)?;
    if text.len() > MAX {
        let error = format!("a text of {} B, at most {MAX} are taken", text.len());
        return Err(serde::de::Error::custom(error));
    }

    Ok(text)
}

/// Returns the bytes that a step header takes on the wire.
pub fn step_frame_bytes(step: &Step) -> usize {
    // One more for the number of the enum's variant.
    LENGTH_BYTES + 1 + postcard::experimental::serialized_size(step).expect("a step has a length")
}

/// Returns the bytes that an activation takes on the wire.
pub fn activation_frame_bytes(n_rows: usize, n_embd: usize, activation: ActivationType) -> usize {
    ACTIVATION_HEADER_BYTES + n_rows * n_embd * activation.bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::{FailureReason, Figures, Finish, Message, Prompt, RefusalReason, Sampling};
    use crate::testing::{self, ANNA, BELA, CARL};

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        for message in controls() {
            assert_eq!(
                decode(&body(&message, StreamKind::Control)).as_ref(),
                Ok(&message)
            );
        }
        for message in chats() {
            assert_eq!(
                decode(&body(&message, StreamKind::Chat)).as_ref(),
                Ok(&message)
            );
        }
        for activation in [ActivationType::F32, ActivationType::F16] {
            let header = ActivationHeader {
                epoch: Epoch(u64::MAX),
                step: StepId(1),
                n_numbers: CHUNK_TOKENS_MAX * N_EMBD_MAX,
                activation,
            };
            assert_eq!(ActivationHeader::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn a_part_of_a_message_is_none_and_neither_is_more() {
        for message in controls() {
            let bytes = body(&message, StreamKind::Control);
            for end in 0..bytes.len() {
                assert!(
                    decode::<Control>(&bytes[..end]).is_err(),
                    "{end} of {message:?}"
                );
            }

            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode::<Control>(&longer), Err(DecodeError::Trailing(1)));
        }
    }

    #[test]
    fn a_length_is_compared_with_its_cap() {
        for (kind, max) in [
            (StreamKind::Control, CONTROL_FRAME_BYTES_MAX),
            (StreamKind::Chat, CHAT_FRAME_BYTES_MAX),
        ] {
            let length = u32::try_from(max).unwrap();
            let found = u64::from(length) + 1;

            assert_eq!(decode_length(length.to_le_bytes(), kind), Ok(max));
            assert_eq!(
                decode_length((length + 1).to_le_bytes(), kind),
                Err(DecodeError::TooLong { found, max })
            );
        }
    }

    #[test]
    fn an_activation_that_no_plan_asks_for_is_refused() {
        let mut header = ActivationHeader {
            epoch: Epoch(1),
            step: StepId(1),
            n_numbers: CHUNK_TOKENS_MAX * N_EMBD_MAX + 1,
            activation: ActivationType::F16,
        };
        assert!(matches!(
            ActivationHeader::decode(&header.encode()),
            Err(DecodeError::TooLong { .. })
        ));

        header.n_numbers = 1;
        let mut bytes = header.encode();
        bytes[20] = 2;
        assert_eq!(
            ActivationHeader::decode(&bytes),
            Err(DecodeError::UnknownActivationType(2))
        );
    }

    /// A list's elements may take a byte each on the wire; their number is bounded all the same.
    #[test]
    fn a_list_is_no_longer_than_its_cap() {
        let mut step = step();
        step.cache_ops = vec![step.cache_ops[0]; CACHE_OPS_MAX + 1];
        assert!(decode::<Step>(&postcard::to_stdvec(&step).unwrap()).is_err());
    }

    #[test]
    fn a_frame_is_counted_as_long_as_it_is() {
        let step = step();
        let frame = encode_frame(&Control::Step(Arc::new(step.clone())), StreamKind::Control);

        assert_eq!(step_frame_bytes(&step), frame.len());
        assert_eq!(
            activation_frame_bytes(3, 64, ActivationType::F16),
            24 + 3 * 64 * 2
        );
    }

    /// Each row changes one thing about a good header.
    #[test]
    fn a_step_that_leaves_its_plan_is_refused() {
        type Break = fn(&mut Step);
        let right: [Break; 4] = [
            |_| {},
            |s| s.runs[0].n_wanted = 0,
            |s| s.runs[0].position = testing::SIZES.n_ctx - 2,
            |s| s.runs[0].n_tokens = testing::SIZES.chunk_tokens - 1,
        ];
        let wrong: [Break; 13] = [
            |s| s.runs.clear(),
            |s| s.runs[0].n_tokens = 0,
            |s| s.runs[0].n_tokens = testing::SIZES.chunk_tokens,
            |s| s.runs[0].n_tokens = u32::MAX,
            |s| s.runs = vec![s.runs[0]; 5],
            |s| s.runs[0].n_wanted = s.runs[0].n_tokens + 1,
            |s| s.runs[0].n_wanted = u32::MAX,
            |s| s.runs[0].position = testing::SIZES.n_ctx - 1,
            |s| s.runs[0].position = u32::MAX,
            |s| s.runs[1].sequence.0 = testing::SIZES.n_sequences,
            |s| s.runs[0].sequence.0 = u32::MAX,
            |s| s.cache_ops = vec![s.cache_ops[0]; 3],
            |s| {
                s.cache_ops[0] = CacheOp::Truncate {
                    sequence: SequenceId(2),
                    n_positions: 0,
                }
            },
        ];
        let plan = testing::plan(&[ANNA, BELA]);

        for (row, change) in right.into_iter().enumerate() {
            let mut step = step();
            change(&mut step);
            assert_eq!(step.validate(&plan), Ok(()), "right {row}");
        }
        for (row, change) in wrong.into_iter().enumerate() {
            let mut step = step();
            change(&mut step);
            assert!(step.validate(&plan).is_err(), "wrong {row}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Control>(&bytes);
            let _ = decode::<Chat>(&bytes);
            if let Some(length) = bytes.first_chunk() {
                let _ = decode_length(*length, StreamKind::Control);
            }
            if let Some(header) = bytes.first_chunk() {
                let _ = ActivationHeader::decode(header);
            }
        }

        /// Bytes that are nearly right reach deeper than any.
        #[test]
        fn a_damaged_message_gives_an_error_or_a_message(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            with in any::<[u8; 4]>(),
        ) {
            let controls = controls();
            let mut bytes = body(which.get(&controls), StreamKind::Control);
            let at = at.index(bytes.len());
            bytes.splice(at..(at + 4).min(at), with);
            if let Ok(Control::Step(step)) = decode::<Control>(&bytes) {
                let _ = step.validate(&testing::plan(&[ANNA, BELA]));
            }

            let chats = chats();
            let mut bytes = body(which.get(&chats), StreamKind::Chat);
            let at = at % bytes.len();
            bytes[at] ^= with[0];
            if let Ok(Chat::Ask { ask, .. }) = decode::<Chat>(&bytes) {
                let _ = ask.validate();
            }
        }
    }

    /// Returns one of each control message.
    fn controls() -> Vec<Control> {
        [
            Control::Prepare {
                plan: Arc::new(testing::plan(&[ANNA, BELA, CARL])),
                manifest: Arc::new(testing::manifest(&[2, 2, 2])),
            },
            Control::Ready { epoch: Epoch(1) },
            Control::NotReady {
                epoch: Epoch(u64::MAX),
                newest: Epoch(2),
                cause: Cause::Lost,
                reason: "no room".into(),
            },
            Control::Follows {
                epoch: Some(Epoch(1)),
                newest: Epoch(u64::MAX),
            },
            Control::Commit { epoch: Epoch(0) },
            Control::InForce {
                plan: Arc::new(testing::plan(&[ANNA])),
            },
            Control::Step(Arc::new(step())),
            Control::StageFailed {
                epoch: Epoch(3),
                reason: "no memory".into(),
            },
            Control::NeighbourLost {
                epoch: Epoch(3),
                neighbour: BELA,
            },
            Control::Offer { is_fresh: true },
            Control::Stop,
            Control::StopWanted,
            Control::RunWanted(ModelId([7; 32])),
            Control::ForecastWanted(ModelId([7; 32])),
            Control::ForecastTold {
                model: ModelId([7; 32]),
                reply: forecast::Reply::Failed(forecast::ForecastError::Occupied),
            },
            Control::ForecastTold {
                model: ModelId([7; 32]),
                reply: forecast::Reply::Done(Box::new(testing::forecasts())),
            },
        ]
        .into_iter()
        .chain(standing::messages().map(Control::Standing))
        .collect()
    }

    /// Returns one of each chat message, with one of each prompt and answer.
    fn chats() -> Vec<Chat> {
        let message = Message {
            role: "user".into(),
            content: "hello".into(),
        };
        let prompts = [
            Prompt::Chat(vec![message]),
            Prompt::Text("hello".into()),
            Prompt::Tokens(vec![0, u32::MAX]),
        ];
        let asks = prompts.into_iter().map(|prompt| Chat::Ask {
            number: 1,
            ask: Arc::new(Ask {
                prompt,
                max_tokens: 7,
                sampling: Sampling::default(),
                stop: vec!["stop".into()],
                ignore_end: false,
                written: Vec::new(),
            }),
        });
        let answers = [
            Answer::Queued { ahead: 3 },
            Answer::Reading { done: 1, total: 2 },
            Answer::Token {
                token: 5,
                text: "five".into(),
            },
            Answer::Done {
                finish: Finish::Length,
                figures: Figures {
                    ttft_ms: 0.5,
                    ..Figures::default()
                },
            },
            Answer::Refused(RefusalReason::Busy { waiting: 64 }),
            Answer::Failed(FailureReason::PhoneLost(ANNA)),
        ];
        let answers = answers
            .into_iter()
            .map(|answer| Chat::Answer { number: 2, answer });

        asks.chain(answers)
            .chain([Chat::Cancel { number: 1 }])
            .collect()
    }

    fn step() -> Step {
        let run = |sequence, n_tokens| Run {
            sequence: SequenceId(sequence),
            position: 9,
            n_tokens,
            n_wanted: 1,
        };

        Step {
            epoch: Epoch(1),
            id: StepId(300),
            cache_ops: vec![CacheOp::Truncate {
                sequence: SequenceId(1),
                n_positions: 9,
            }],
            runs: vec![run(0, 2), run(1, 1)],
        }
    }

    fn body<T: Serialize>(message: &T, kind: StreamKind) -> Vec<u8> {
        encode_frame(message, kind).split_off(LENGTH_BYTES)
    }
}

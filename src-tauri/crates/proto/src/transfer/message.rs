//! What phones say to each other about shards, as bytes.
//!
//! Two streams of their own, so that a request never waits behind a chunk, and neither of them behind
//! anything else:
//!
//! ```text
//! shard    u32 length │ postcard                                   length ≤ MESSAGE_BYTES_MAX
//! chunk    32 B shard hash │ u32 index │ u32 n_bytes │ payload     n_bytes ≤ CHUNK_BYTES, little-endian
//! ```
//!
//! A chunk's payload is no part of a message: whoever writes one writes [`ChunkHeader::encode`] and then the
//! bytes from where they are, and whoever reads one reads them to where they shall be.

use gguf_tools::{CHUNK_BYTES, ShardHash};
use serde::{Deserialize, Serialize};

use super::chunks::{CHUNKS_MAX, ChunkIndex, ChunkSet};
use crate::group::Bounded;
use crate::wire::{self, DecodeError, LENGTH_BYTES};

/// Shards in a list at most: two models of 512 layers, each a shard of its own.
pub const SHARDS_MAX: usize = 1024;

/// Bytes of a message at most: the bitmap of the largest shard, 128 KiB, and a list of all others.
pub const MESSAGE_BYTES_MAX: usize = 192 << 10;

/// Bytes before a chunk's payload.
pub const CHUNK_HEADER_BYTES: usize = 40;

/// Bytes of a bitmap at most.
const BITMAP_BYTES_MAX: usize = CHUNKS_MAX as usize / 8;

/// Bytes of an entry of [`Message::Haves`] beside its bitmap, at most: hash, number of the variant, length.
const HAVE_BYTES: usize = 32 + 1 + 3;

/// A message on the shard stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "These I want, the most urgent first: tell me what you hold of them, and when it becomes more."
    /// Takes the place of any such list before.
    Wants(Bounded<ShardHash, SHARDS_MAX>),
    /// "Of what you want I hold this." Takes the place of anything said before.
    Haves(Bounded<Have, SHARDS_MAX>),
    /// "Send me this chunk." Answered by the chunk, or by [`Message::Refused`].
    Request {
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// "That chunk I need no more." It comes all the same if it is on its way.
    Withdraw {
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// "That chunk will not come."
    Refused {
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
        /// Why.
        reason: RefusalReason,
    },
}

/// What a phone holds of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The shard.
    pub shard: ShardHash,
    /// Which of its chunks.
    pub chunks: Held,
}

/// Which chunks of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// All of them.
    All,
    /// Those whose bit is set, as [`ChunkSet::to_bytes`] writes them.
    Some(Bounded<u8, BITMAP_BYTES_MAX>),
}

/// Why a chunk will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// It is not here, or can no longer be read.
    NotHeld,
    /// Too many requests of the asker's wait already.
    Busy,
}

/// What stands before a chunk's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Shard that it is of.
    pub shard: ShardHash,
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Bytes that follow; at most [`CHUNK_BYTES`].
    pub n_bytes: u32,
}

impl Held {
    /// Describes a set.
    pub fn of(set: &ChunkSet) -> Self {
        if set.is_all() {
            Self::All
        } else {
            Self::Some(set.to_bytes().into_iter().collect())
        }
    }

    /// Returns the set, or `None` if it is none of a shard of so many chunks.
    pub fn to_set(&self, n_chunks: u32) -> Option<ChunkSet> {
        match self {
            Self::All => Some(ChunkSet::all(n_chunks)),
            Self::Some(bytes) => ChunkSet::from_bytes(n_chunks, bytes),
        }
    }
}

impl Have {
    /// Returns the bytes that it takes in a message, at most.
    pub(super) fn len_bytes(&self) -> usize {
        HAVE_BYTES
            + match &self.chunks {
                Held::All => 0,
                Held::Some(bytes) => bytes.len(),
            }
    }
}

impl Message {
    /// Returns the message as a frame: its length, then its bytes, to be written at once.
    ///
    /// # Panics
    ///
    /// If it is longer than [`MESSAGE_BYTES_MAX`]: what [`Transfer`](super::Transfer) puts out is not.
    pub fn encode(&self) -> Vec<u8> {
        let frame = postcard::to_extend(self, vec![0; LENGTH_BYTES]);
        let mut frame = frame.expect("our messages have known lengths and no foreign types");
        let length = frame.len() - LENGTH_BYTES;
        assert!(length <= MESSAGE_BYTES_MAX, "message of {length} B");

        let length = u32::try_from(length).expect("the cap is below 4 GiB");
        frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        frame
    }

    /// Returns how many bytes follow a frame's length.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if they are more than [`MESSAGE_BYTES_MAX`].
    pub fn decode_length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, DecodeError> {
        let found = u32::from_le_bytes(bytes);

        match usize::try_from(found) {
            Ok(length) if length <= MESSAGE_BYTES_MAX => Ok(length),
            _ => Err(DecodeError::TooLong {
                found: u64::from(found),
                max: MESSAGE_BYTES_MAX,
            }),
        }
    }

    /// Reads one message from exactly these bytes.
    ///
    /// # Errors
    ///
    /// - [`DecodeError::Malformed`] if they are no such message
    /// - [`DecodeError::Trailing`] if something follows it
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode(bytes)
    }
}

impl ChunkHeader {
    /// Returns the header as it goes over the wire.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        bytes[..32].copy_from_slice(&self.shard.0);
        bytes[32..36].copy_from_slice(&self.chunk.0.to_le_bytes());
        bytes[36..].copy_from_slice(&self.n_bytes.to_le_bytes());

        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if more bytes follow than a chunk has.
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Result<Self, DecodeError> {
        let (hash, rest) = bytes.split_at(32);
        let number =
            |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let n_bytes = number(4);
        if u64::from(n_bytes) > CHUNK_BYTES {
            return Err(DecodeError::TooLong {
                found: u64::from(n_bytes),
                max: CHUNK_BYTES as usize,
            });
        }

        Ok(Self {
            shard: ShardHash(hash.try_into().expect("split at 32")),
            chunk: ChunkIndex(number(0)),
            n_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARD: ShardHash = ShardHash([7; 32]);

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let mut some = ChunkSet::none(9);
        some.insert(ChunkIndex(8));
        let have = |chunks| Have {
            shard: SHARD,
            chunks,
        };
        let chunk = ChunkIndex(u32::MAX);

        for message in [
            Message::Wants([SHARD].into_iter().collect()),
            Message::Haves(
                [have(Held::All), have(Held::of(&some))]
                    .into_iter()
                    .collect(),
            ),
            Message::Request {
                shard: SHARD,
                chunk,
            },
            Message::Withdraw {
                shard: SHARD,
                chunk,
            },
            Message::Refused {
                shard: SHARD,
                chunk,
                reason: RefusalReason::Busy,
            },
        ] {
            let frame = message.encode();
            let (length, body) = frame.split_at(LENGTH_BYTES);

            assert_eq!(
                Message::decode_length(length.try_into().unwrap()),
                Ok(body.len())
            );
            assert_eq!(Message::decode(body), Ok(message));
        }
    }

    #[test]
    fn the_longest_lists_fit() {
        let wants = vec![SHARD; SHARDS_MAX].into_iter().collect();
        let half = Held::of(&ChunkSet::none(CHUNKS_MAX));
        let have = |chunks| Have {
            shard: SHARD,
            chunks,
        };
        let rest = (1..SHARDS_MAX).map(|_| have(Held::All));
        let haves = std::iter::once(have(half)).chain(rest).collect();

        Message::Wants(wants).encode();
        Message::Haves(haves).encode();
    }

    #[test]
    fn a_chunk_header_comes_out_as_it_went_in_and_is_capped() {
        let mut header = ChunkHeader {
            shard: SHARD,
            chunk: ChunkIndex(3),
            n_bytes: CHUNK_BYTES as u32,
        };
        assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));

        header.n_bytes += 1;
        assert!(ChunkHeader::decode(&header.encode()).is_err());
    }

    proptest! {
        /// Any bytes are a message or an error; a message is what its bytes say.
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::decode(&bytes) {
                let again = message.encode();
                prop_assert_eq!(Message::decode(&again[LENGTH_BYTES..]), Ok(message));
            }
        }

        /// Lists that announce more than they may are refused.
        #[test]
        fn long_lists_are_refused(variant in 0u8..2, announced in 1025u32.., tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![variant];
            bytes.extend(postcard::to_allocvec(&announced).unwrap());
            bytes.extend(tail);

            prop_assert!(Message::decode(&bytes).is_err());
        }
    }
}

//! All that a [`Transfer`](super::Transfer) takes and gives.

use std::fmt;
use std::time::Duration;

use gguf_tools::ShardHash;

use super::chunks::{ChunkIndex, ChunkSet};
use super::message::Message;
use super::outlet::Throttle;
use crate::PeerId;

/// A shard that this phone shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub shard: ShardHash,
    /// Its size, from a manifest that has been validated.
    pub bytes: u64,
    /// What for.
    pub purpose: Purpose,
}

/// What a shard is wanted for. A lower one is fetched before a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To be run: the plan waits for it.
    Own,
    /// To be at hand: a neighbour in the ring runs it.
    Overlap,
}

/// What happened. `B` is a chunk's bytes, which are passed on and never looked at.
#[derive(Debug)]
pub enum InEvent<B> {
    /// There is a connection to a member of the group. Nobody else is ever told of.
    PeerJoined(PeerId),
    /// The connection to a member is gone, or it is no member any more.
    PeerLost(PeerId),
    /// A member said something.
    Message {
        /// Who.
        from: PeerId,
        /// What.
        message: Message,
    },
    /// A member sent a chunk.
    Chunk {
        /// Who.
        from: PeerId,
        /// Shard that it says it is of.
        shard: ShardHash,
        /// Chunk that it says it is.
        chunk: ChunkIndex,
        /// Its length.
        n_bytes: u32,
        /// The chunk.
        payload: B,
    },
    /// These shards shall be here, the most urgent first within a [`Purpose`]. Takes the place of any such list
    /// before: a plan has changed, or been given up.
    Want(Vec<Wanted>),
    /// The store holds a whole shard, as a file or in the model that it is cut from: it can be served.
    Held {
        /// Which.
        shard: ShardHash,
        /// Its size.
        bytes: u64,
    },
    /// The store holds a shard no longer.
    Gone(ShardHash),
    /// Answer to [`OutEvent::Open`]: there is room, and these chunks are there and right.
    ///
    /// Also an answer to [`OutEvent::Finish`], if chunks have been damaged since they were written.
    Opened {
        /// Which shard.
        shard: ShardHash,
        /// Its chunks on disk.
        held: ChunkSet,
    },
    /// Answer to [`OutEvent::Check`]: the chunk was right, and is on disk.
    Verified {
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// Answer to [`OutEvent::Check`]: the chunk is not what the manifest says.
    Corrupt {
        /// Who sent it.
        from: PeerId,
        /// Shard that it says it is of.
        shard: ShardHash,
        /// Chunk that it says it is.
        chunk: ChunkIndex,
    },
    /// Answer to [`OutEvent::Finish`], or to [`OutEvent::Open`] if nothing was missing: the shard is there
    /// under its own name, and whole.
    Finished(ShardHash),
    /// Another answer to [`OutEvent::Open`], [`OutEvent::Check`] or [`OutEvent::Finish`].
    StoreFailed {
        /// Which shard.
        shard: ShardHash,
        /// The chunk, if it was one that could not be written.
        chunk: Option<ChunkIndex>,
        /// Why.
        failure: StoreFailure,
    },
    /// A person has made room, or time has passed: try the disk again.
    Retry,
    /// The group computes, and chunks give way to that; or it does not any more.
    GiveWay(bool),
    /// Answer to [`OutEvent::Serve`]: the chunk has been handed to the network, or nobody is there to take it.
    Served {
        /// For whom it was.
        to: PeerId,
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// Answer to [`OutEvent::Serve`]: the chunk cannot be read, or is not what it was.
    Unreadable {
        /// For whom it was.
        to: PeerId,
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
}

/// Why the store could not do what was asked. What it had verified stays; nothing is half written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreFailure {
    /// The disk, or this app's share of it, is full.
    Full {
        /// Bytes that were needed.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The disk does not do its work.
    Io {
        /// What the system said, for people.
        reason: String,
    },
    /// Every chunk was right and the whole is not: the manifest contradicts itself. The file is gone.
    NotTheShard,
}

/// For people: what is wrong, and what helps.
impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full {
                needed_bytes,
                free_bytes,
            } => {
                let missing_mb = needed_bytes.saturating_sub(*free_bytes).div_ceil(1_000_000);
                write!(
                    f,
                    "{missing_mb} MB of storage are missing: make room, or exclude this phone"
                )
            }
            Self::Io { reason } => write!(f, "its storage fails: {reason}"),
            Self::NotTheShard => f.write_str("its shards are not what the manifest says"),
        }
    }
}

/// What to do. `B` is a chunk's bytes.
#[derive(Debug, PartialEq)]
pub enum OutEvent<B> {
    /// Send a message on the shard stream.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Make room for a shard, and say which of its chunks are there: [`InEvent::Opened`],
    /// [`InEvent::Finished`] or [`InEvent::StoreFailed`].
    Open(ShardHash),
    /// Hold a chunk against the manifest, and write it if it is right: [`InEvent::Verified`],
    /// [`InEvent::Corrupt`] or [`InEvent::StoreFailed`].
    Check {
        /// Who sent it.
        from: PeerId,
        /// Shard that it says it is of.
        shard: ShardHash,
        /// Chunk that it says it is.
        chunk: ChunkIndex,
        /// The chunk.
        payload: B,
    },
    /// Every chunk is there: check the whole and give it its name. [`InEvent::Finished`] or
    /// [`InEvent::StoreFailed`].
    Finish(ShardHash),
    /// The shard is wanted no longer. What is there of it stays, for another time, until its room is needed.
    Close(ShardHash),
    /// Read a chunk and send it on the chunk stream: [`InEvent::Served`] or [`InEvent::Unreadable`].
    Serve {
        /// To whom.
        to: PeerId,
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// Let chunks go out so: those that wait already, too.
    Throttle(Throttle),
    /// Something that the phone, or a person, would notice.
    Notice(Notice),
}

/// Something that the phone, or a person, would notice.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// How far it is: at most twice a second.
    Progress(Progress),
    /// A shard is there, whole, under its own name.
    Complete(ShardHash),
    /// Nobody who is here holds what these shards lack. Goes on by itself when somebody comes who does.
    Stalled(Vec<ShardHash>),
    /// The disk cannot go on; nothing is asked for until [`InEvent::Retry`].
    DiskFailed {
        /// Which shard.
        shard: ShardHash,
        /// Why.
        failure: StoreFailure,
    },
    /// This shard cannot be had: see [`StoreFailure::NotTheShard`]. It is wanted no longer.
    Impossible(ShardHash),
    /// A member sends what is not what it should be so often that it is asked no more.
    Distrusted(PeerId),
    /// Bytes came from a member as fast as the link between us carries them: one chunk behind another, and nothing
    /// beside them.
    Carried {
        /// Who sent them.
        from: PeerId,
        /// How many.
        n_bytes: u64,
        /// What they took.
        time: Duration,
    },
}

/// How far the shards of one [`Purpose`] are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which shards.
    pub purpose: Purpose,
    /// Verified bytes of them.
    pub held_bytes: u64,
    /// Bytes of them.
    pub total_bytes: u64,
    /// Verified bytes per second, over the last seconds.
    pub rate_bytes_per_s: u64,
    /// Time until they are all there, at this rate; `None` if nothing comes.
    pub left: Option<Duration>,
    /// Member that most chunks come from at this time.
    pub source: Option<PeerId>,
    /// Members that chunks come from at this time.
    pub n_sources: usize,
}

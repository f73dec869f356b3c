//! Shards on the move: fetching those that this phone shall have, and serving those that it has.
//!
//! A shard is named by the hash of its bytes, and cut into chunks of 1 MiB, each with a hash of its own in
//! the manifest. A phone asks any member that holds a chunk, several at once; what it has verified it offers
//! to others at once, so that phones that fetch the same shard serve each other.
//!
//! ```text
//!   asker                                             holder
//!     │ ── Wants: these shards ─────────────────────────► │
//!     │ ◄───────────────────── Haves: of these, those ──  │   again when it becomes more
//!     │ ── Request: a chunk ────────────────────────────► │
//!     │ ◄══════════════════════════════ the chunk ══════  │   on a stream of its own
//!   Check ─► Verified ─► Haves to all who want it
//! ```
//!
//! The bytes pass through as `B` and are never looked at: the store holds them against the manifest, and says
//! [`InEvent::Verified`] or [`InEvent::Corrupt`]. Nothing is kept here that must survive: after a restart the
//! store says what is on disk, and the fetch goes on from there.
//!
//! What can go wrong, and what becomes of it:
//!
//! | | |
//! |---|---|
//! | a holder is slow | after four times as long as usual its chunks are asked of others; what comes late counts |
//! | is silent | is asked for one chunk at a time, after pauses that double |
//! | sends a wrong chunk | is asked only for what no honest member holds; after [`LIES_MAX`], for nothing |
//! | leaves | what it owed is asked of others |
//! | holds only some chunks | is asked for those |
//! | asks for everything at once | waits in a short queue of its own; the others have their turns |
//! | the disk is full | nothing is asked for until [`InEvent::Retry`]; what was verified stays |
//! | the plan changes | what is no longer wanted is withdrawn; what is there of it stays on disk |

mod chunks;
mod event;
mod fetch;
mod fetching;
mod holder;
mod message;
mod meter;
mod serving;

use std::time::Instant;

use gguf_tools::ShardHash;

pub use chunks::{CHUNKS_MAX, ChunkIndex, ChunkSet, chunk_bytes, n_chunks};
pub use event::{InEvent, Notice, OutEvent, Progress, Purpose, StoreFailure, Wanted};
pub use fetching::IN_FLIGHT_MAX;
pub use holder::{IN_FLIGHT_PER_HOLDER_MAX, LIES_MAX};
pub use message::{
    CHUNK_HEADER_BYTES, ChunkHeader, Have, Held, MESSAGE_BYTES_MAX, Message, RefusalReason,
    SHARDS_MAX,
};
pub use meter::PROGRESS_EVERY;
pub use serving::{QUEUE_MAX, SENDING_MAX, SENDING_PER_ASKER_MAX};

use fetching::Fetching;
use serving::Serving;

use crate::PeerId;

/// Both sides of one phone. `B` is a chunk's bytes.
#[derive(Debug)]
pub struct Transfer<B> {
    fetching: Fetching<B>,
    serving: Serving<B>,
}

impl<B> Transfer<B> {
    /// Begins with nothing wanted, nothing held, and nobody there.
    pub fn new(me: PeerId) -> Self {
        Self {
            fetching: Fetching::new(me),
            serving: Serving::new(),
        }
    }

    /// Takes note of `event`.
    ///
    /// # Panics
    ///
    /// If a shard of [`InEvent::Want`] or [`InEvent::Held`] is empty or larger than a manifest may say.
    pub fn handle(&mut self, event: InEvent<B>, now: Instant) {
        match event {
            InEvent::PeerJoined(peer) => {
                self.serving.joined(peer);
                self.fetching.joined(peer, now);
            }
            InEvent::PeerLost(peer) => {
                self.serving.lost(peer);
                self.fetching.lost(peer, now);
            }
            InEvent::Message { from, message } => self.message(from, message, now),
            InEvent::Chunk {
                from,
                shard,
                chunk,
                n_bytes,
                payload,
            } => self
                .fetching
                .chunk(from, shard, chunk, n_bytes, payload, now),
            InEvent::Want(wanted) => self.fetching.want(wanted, now),
            InEvent::Held { shard, bytes } => self.serving.held(shard, n_chunks(bytes), now),
            InEvent::Gone(shard) => self.serving.gone(shard, now),
            InEvent::Opened { shard, held } => {
                self.fetching.opened(shard, held, now);
                self.serving.changed(shard, now);
            }
            InEvent::Verified { shard, chunk } => {
                if self.fetching.verified(shard, chunk, now) {
                    self.serving.changed(shard, now);
                }
            }
            InEvent::Corrupt { from, shard, chunk } => {
                self.fetching.corrupt(from, shard, chunk, now);
            }
            InEvent::Finished(shard) => {
                if let Some(bytes) = self.fetching.finished(shard, now) {
                    self.serving.held(shard, n_chunks(bytes), now);
                }
            }
            InEvent::StoreFailed {
                shard,
                chunk,
                failure,
            } => self.fetching.store_failed(shard, chunk, failure, now),
            InEvent::Retry => self.fetching.retry(now),
            InEvent::Served { to, shard, chunk } => self.serving.served(to, shard, chunk),
            InEvent::Unreadable { to, shard, chunk } => self.serving.unreadable(to, shard, chunk),
        }

        self.tell(now);
    }

    /// Does what is due: gives up on late requests, tells what is new.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fetching.handle_timeout(now);
        self.tell(now);
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (fetching, serving) = (self.fetching.poll_timeout(), self.serving.poll_timeout());

        fetching.into_iter().chain(serving).min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<B>> {
        self.fetching.poll().or_else(|| self.serving.poll())
    }

    fn message(&mut self, from: PeerId, message: Message, now: Instant) {
        match message {
            Message::Wants(shards) => self.serving.wants(from, shards.into_vec(), now),
            Message::Haves(haves) => self.fetching.haves(from, &haves, now),
            Message::Request { shard, chunk } => {
                let part = self.fetching.held(shard);
                self.serving.request(from, shard, chunk, part);
            }
            Message::Withdraw { shard, chunk } => self.serving.withdraw(from, shard, chunk),
            Message::Refused {
                shard,
                chunk,
                reason,
            } => self.fetching.refused(from, shard, chunk, reason, now),
        }
    }

    /// Tells those who want to know, and whose time has come, what is here.
    fn tell(&mut self, now: Instant) {
        let Self { fetching, serving } = self;

        serving.tell(|shard: ShardHash| fetching.held(shard), now);
    }
}

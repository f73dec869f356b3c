//! One shard on its way: which chunks are held, which are asked for, which are missing.
//!
//! ```text
//!            asked                arrived              Verified
//!  missing ─────────► in flight ───────────► checking ──────────► held
//!     ▲                   │                     │
//!     └───────────────────┴─────────────────────┘  late · refused · holder lost · corrupt · disk full
//! ```
//!
//! A chunk may be asked of two holders when the first is slow. What was held once is never missing again.

use std::collections::BTreeMap;

use gguf_tools::ShardHash;

use super::chunks::{self, ChunkIndex, ChunkSet};
use super::event::{Purpose, Wanted};

/// How far a shard is with the store.
///
/// ```text
///  Closed ──Open──► Opening ──Opened──► Fetching ──last Verified──► Finishing ──Finished──► Done
///    ▲                 │  └──────────────────── Finished ──────────────────────────────────►
///    └── StoreFailed ──┘                  Fetching with all chunks ◄── StoreFailed ── Finishing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not yet asked of the store, or refused by it.
    Closed,
    /// The store makes room and looks what is there.
    Opening,
    /// Chunks are asked for and written.
    Fetching,
    /// The store checks the whole and gives it its name.
    Finishing,
    /// It is there.
    Done,
}

/// One shard on its way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) shard: ShardHash,
    pub(super) bytes: u64,
    pub(super) purpose: Purpose,
    pub(super) state: State,
    n_chunks: u32,
    held: ChunkSet,
    /// Neither held, nor being checked, nor asked of anybody.
    missing: ChunkSet,
    /// Of how many holders a chunk is asked.
    asked: BTreeMap<ChunkIndex, u32>,
    /// Handed to the store, which has not answered yet.
    checking: ChunkSet,
}

impl Fetch {
    pub(super) fn new(wanted: Wanted) -> Self {
        let n_chunks = chunks::n_chunks(wanted.bytes);

        Self {
            shard: wanted.shard,
            bytes: wanted.bytes,
            purpose: wanted.purpose,
            state: State::Closed,
            n_chunks,
            held: ChunkSet::none(n_chunks),
            missing: ChunkSet::none(n_chunks),
            asked: BTreeMap::new(),
            checking: ChunkSet::none(n_chunks),
        }
    }

    pub(super) fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    pub(super) fn n_chunks(&self) -> u32 {
        self.n_chunks
    }

    pub(super) fn chunk_bytes(&self, chunk: ChunkIndex) -> u64 {
        chunks::chunk_bytes(self.bytes, chunk)
    }

    /// Returns the chunks on disk that are right.
    pub(super) fn held(&self) -> &ChunkSet {
        &self.held
    }

    /// Returns the chunks that somebody is to be asked for.
    pub(super) fn missing(&self) -> &ChunkSet {
        &self.missing
    }

    pub(super) fn held_bytes(&self) -> u64 {
        if self.state == State::Done {
            return self.bytes;
        }
        let last = ChunkIndex(self.n_chunks - 1);
        let full = u64::from(self.held.len()) * gguf_tools::CHUNK_BYTES;
        let short = gguf_tools::CHUNK_BYTES - self.chunk_bytes(last);

        full - if self.held.contains(last) { short } else { 0 }
    }

    /// Returns the chunks that are asked of somebody.
    pub(super) fn asked(&self) -> impl Iterator<Item = ChunkIndex> {
        self.asked.keys().copied()
    }

    /// Returns of how many holders a chunk is asked.
    pub(super) fn n_asked(&self, chunk: ChunkIndex) -> u32 {
        self.asked.get(&chunk).copied().unwrap_or(0)
    }

    pub(super) fn n_checking(&self) -> usize {
        self.checking.len() as usize
    }

    /// Returns whether a chunk is neither on disk nor on its way to it.
    pub(super) fn lacks(&self, chunk: ChunkIndex) -> bool {
        self.state == State::Fetching
            && chunk.0 < self.n_chunks
            && !self.held.contains(chunk)
            && !self.checking.contains(chunk)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Fetching || self.state == State::Finishing
    }

    pub(super) fn is_full(&self) -> bool {
        self.state == State::Fetching && self.held.is_all()
    }

    /// The store says what is there.
    pub(super) fn opened(&mut self, held: ChunkSet) {
        self.missing = ChunkSet::all(self.n_chunks);
        self.missing.remove_all(&held);
        self.held = held;
        self.checking = ChunkSet::none(self.n_chunks);
        self.state = State::Fetching;
    }

    /// Somebody is asked for a chunk.
    pub(super) fn ask(&mut self, chunk: ChunkIndex) {
        self.missing.remove(chunk);
        *self.asked.entry(chunk).or_default() += 1;
    }

    /// Somebody who was asked for a chunk is asked no longer: it has come, or it will not.
    pub(super) fn unask(&mut self, chunk: ChunkIndex) {
        let Some(n) = self.asked.get_mut(&chunk) else {
            return;
        };
        *n -= 1;
        if *n == 0 {
            self.asked.remove(&chunk);
            self.miss(chunk);
        }
    }

    /// A chunk has come and goes to the store.
    pub(super) fn check(&mut self, chunk: ChunkIndex) {
        self.missing.remove(chunk);
        self.checking.insert(chunk);
    }

    /// The store has not written a chunk.
    pub(super) fn unwritten(&mut self, chunk: ChunkIndex) {
        if self.checking.remove(chunk) {
            self.miss(chunk);
        }
    }

    /// The store has written a chunk. Returns whether that is news.
    pub(super) fn verified(&mut self, chunk: ChunkIndex) -> bool {
        if !self.is_open() {
            return false; // the store is about to say what is there
        }
        self.checking.remove(chunk);
        self.missing.remove(chunk);

        self.held.insert(chunk)
    }

    fn miss(&mut self, chunk: ChunkIndex) {
        if self.lacks(chunk) && !self.asked.contains_key(&chunk) {
            self.missing.insert(chunk);
        }
    }
}

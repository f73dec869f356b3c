//! Chunks of one shard: their numbers, and sets of them.

use std::fmt;

use gguf_tools::CHUNK_BYTES;
use serde::{Deserialize, Serialize};

/// Chunks in a set at most: of the largest shard that a manifest may list, 1 TiB.
pub const CHUNKS_MAX: u32 = 1 << 20;

/// Bits in a word of a set.
const WORD_BITS: u32 = u64::BITS;

/// Position of a chunk in its shard, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkIndex(pub u32);

/// Which chunks of a shard: one bit for each.
///
/// A bitmap of our own because two things are wanted that the crates for sets of bits lack: the search
/// from the middle on and around, and bytes that are the same on every machine.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkSet {
    n_chunks: u32,
    /// Bit `i % 64` of word `i / 64`; bits from `n_chunks` on are 0.
    words: Vec<u64>,
}

/// Returns how many chunks a shard has.
///
/// # Panics
///
/// If it has none, or more than [`CHUNKS_MAX`]: no valid manifest lists such a shard.
pub fn n_chunks(shard_bytes: u64) -> u32 {
    let n = u32::try_from(shard_bytes.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
    assert!(
        (1..=CHUNKS_MAX).contains(&n),
        "a shard of {shard_bytes} B passed the manifest's check"
    );

    n
}

/// Returns the bytes of one chunk; 0 if there is no such chunk.
pub fn chunk_bytes(shard_bytes: u64, chunk: ChunkIndex) -> u64 {
    let start = u64::from(chunk.0) * CHUNK_BYTES;

    shard_bytes.saturating_sub(start).min(CHUNK_BYTES)
}

impl ChunkSet {
    /// Returns a set without chunks.
    pub fn none(n_chunks: u32) -> Self {
        let n_words = n_chunks.div_ceil(WORD_BITS) as usize;

        Self {
            n_chunks,
            words: vec![0; n_words],
        }
    }

    /// Returns the set of all chunks.
    pub fn all(n_chunks: u32) -> Self {
        let mut all = Self::none(n_chunks);
        all.words.fill(u64::MAX);
        all.clear_tail();

        all
    }

    /// Reads a bitmap, one bit for each chunk, the lowest bit of the first byte first. `None` if it has
    /// another length, or names chunks that there are not.
    pub fn from_bytes(n_chunks: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != n_chunks.div_ceil(8) as usize {
            return None;
        }

        let mut set = Self::none(n_chunks);
        for (word, bytes) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        let read = set.words.last().copied();
        set.clear_tail();

        (set.words.last().copied() == read).then_some(set)
    }

    /// Writes what [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());

        bytes.take(self.n_chunks.div_ceil(8) as usize).collect()
    }

    /// Returns the chunks of the shard, in the set or not.
    pub fn n_chunks(&self) -> u32 {
        self.n_chunks
    }

    /// Returns the chunks in the set.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Returns whether no chunk is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns whether every chunk of the shard is in the set.
    pub fn is_all(&self) -> bool {
        self.len() == self.n_chunks
    }

    /// Returns whether a chunk is in the set.
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        let (word, bit) = place(chunk);

        chunk.0 < self.n_chunks && self.words[word] & bit != 0
    }

    /// Adds a chunk, and returns whether it was missing. One that the shard does not have is not added.
    pub fn insert(&mut self, chunk: ChunkIndex) -> bool {
        if chunk.0 >= self.n_chunks || self.contains(chunk) {
            return false;
        }
        let (word, bit) = place(chunk);
        self.words[word] |= bit;

        true
    }

    /// Takes a chunk out, and returns whether it was there.
    pub fn remove(&mut self, chunk: ChunkIndex) -> bool {
        if !self.contains(chunk) {
            return false;
        }
        let (word, bit) = place(chunk);
        self.words[word] &= !bit;

        true
    }

    /// Takes out every chunk that is in `other`.
    pub fn remove_all(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// Returns the chunks of the set in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkIndex> {
        bits(&self.words, 0..self.words.len(), |_| u64::MAX)
    }

    /// Returns the chunks that are in both sets: from `start` to the last, then from the first to `start`.
    ///
    /// # Panics
    ///
    /// If the sets are of shards of different sizes.
    pub fn common_from(&self, other: &Self, start: ChunkIndex) -> impl Iterator<Item = ChunkIndex> {
        assert_eq!(self.n_chunks, other.n_chunks, "sets of one shard");
        let start = ChunkIndex(start.0.min(self.n_chunks));
        let (word, bit) = place(start);
        let end = self.words.len();
        let first_end = end.min(word + 1);

        let mask = move |i: usize| if i == word { !(bit - 1) } else { u64::MAX };
        let after = bits(&self.words, word.min(end)..end, move |i| {
            other.words[i] & mask(i)
        });
        let before = bits(&self.words, 0..first_end, move |i| {
            other.words[i] & if i == word { bit - 1 } else { u64::MAX }
        });

        after.chain(before)
    }

    fn clear_tail(&mut self) {
        let used = self.n_chunks % WORD_BITS;
        if used > 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }
}

impl fmt::Debug for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkSet({} of {})", self.len(), self.n_chunks)
    }
}

fn place(chunk: ChunkIndex) -> (usize, u64) {
    ((chunk.0 / WORD_BITS) as usize, 1 << (chunk.0 % WORD_BITS))
}

/// Returns the bits that are set in these words, each masked by what `mask` says for it.
fn bits(
    words: &[u64],
    range: std::ops::Range<usize>,
    mask: impl Fn(usize) -> u64,
) -> impl Iterator<Item = ChunkIndex> {
    range.flat_map(move |i| {
        let mut left = words[i] & mask(i);
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(ChunkIndex(i as u32 * WORD_BITS + bit)) // fits: CHUNKS_MAX does
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_chunk_may_be_shorter() {
        for (bytes, n, last) in [
            (1, 1, 1),
            (CHUNK_BYTES - 1, 1, CHUNK_BYTES - 1),
            (CHUNK_BYTES, 1, CHUNK_BYTES),
            (CHUNK_BYTES + 1, 2, 1),
        ] {
            assert_eq!(n_chunks(bytes), n);
            assert_eq!(chunk_bytes(bytes, ChunkIndex(n - 1)), last);
            assert_eq!(chunk_bytes(bytes, ChunkIndex(n)), 0);
        }
    }

    proptest! {
        /// A set is a set, at every size around a word's.
        #[test]
        fn a_set_is_a_set(n in 1u32..200, chunks in prop::collection::vec(0u32..220, 0..80), start in 0u32..200) {
            let mut set = ChunkSet::none(n);
            let mut model = BTreeSet::new();
            for chunk in chunks {
                let added = chunk < n && model.insert(ChunkIndex(chunk));
                prop_assert_eq!(set.insert(ChunkIndex(chunk)), added);
            }

            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            let around = set.common_from(&ChunkSet::all(n), ChunkIndex(start)).collect::<Vec<_>>();
            let (after, before) = (model.range(ChunkIndex(start)..), model.range(..ChunkIndex(start)));
            prop_assert_eq!(around, after.chain(before).copied().collect::<Vec<_>>());
            prop_assert_eq!(ChunkSet::from_bytes(n, &set.to_bytes()), Some(set.clone()));

            let mut rest = ChunkSet::all(n);
            rest.remove_all(&set);
            prop_assert_eq!(rest.len() + set.len(), n);
            prop_assert_eq!(set.is_all(), rest.is_empty());
        }

        /// Any bytes give a set of chunks that there are, or nothing.
        #[test]
        fn any_bytes_name_only_chunks_that_there_are(n in 1u32..200, bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Some(set) = ChunkSet::from_bytes(n, &bytes) {
                prop_assert!(set.iter().all(|chunk| chunk.0 < n));
                prop_assert_eq!(set.to_bytes(), bytes);
            }
        }
    }
}

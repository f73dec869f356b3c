//! A phone's disk: what survives when its app is killed.

use std::collections::BTreeMap;

use gguf_tools::ShardHash;
use proto::transfer::{ChunkIndex, ChunkSet, StoreFailure, chunk_bytes, n_chunks};

/// A phone's disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Bytes that may still be written; `None` without end.
    pub free_bytes: Option<u64>,
    files: BTreeMap<ShardHash, File>,
}

#[derive(Debug, Clone)]
struct File {
    bytes: u64,
    /// Chunks that are there and were right when they were written.
    chunks: ChunkSet,
    /// Under its own name.
    whole: bool,
}

impl Disk {
    /// Puts a whole shard there.
    pub fn put(&mut self, shard: ShardHash, bytes: u64) {
        let file = File {
            bytes,
            chunks: ChunkSet::all(n_chunks(bytes)),
            whole: true,
        };

        self.files.insert(shard, file);
    }

    /// Returns the whole shards that are there.
    pub fn whole(&self) -> impl Iterator<Item = (ShardHash, u64)> {
        let whole = self.files.iter().filter(|(_, file)| file.whole);

        whole.map(|(shard, file)| (*shard, file.bytes))
    }

    /// Returns whether a shard is there, whole.
    pub fn is_whole(&self, shard: ShardHash) -> bool {
        self.files.get(&shard).is_some_and(|file| file.whole)
    }

    /// Returns whether a chunk is there.
    pub fn has(&self, shard: ShardHash, chunk: ChunkIndex) -> bool {
        self.files
            .get(&shard)
            .is_some_and(|file| file.chunks.contains(chunk))
    }

    /// Opens a shard in the making, and returns its chunks; `None` if it is whole.
    pub fn open(&mut self, shard: ShardHash, bytes: u64) -> Result<Option<ChunkSet>, StoreFailure> {
        let new = || File {
            bytes,
            chunks: ChunkSet::none(n_chunks(bytes)),
            whole: false,
        };
        let there = self
            .files
            .get(&shard)
            .map_or(0, |file| u64::from(file.chunks.len()));
        self.room_for(bytes.saturating_sub(there * gguf_tools::CHUNK_BYTES))?;

        let file = self.files.entry(shard).or_insert_with(new);
        Ok((!file.whole).then(|| file.chunks.clone()))
    }

    /// Writes a chunk that is right.
    ///
    /// # Panics
    ///
    /// If it is there already, or the shard was not opened.
    pub fn write(&mut self, shard: ShardHash, chunk: ChunkIndex) -> Result<(), StoreFailure> {
        let bytes = chunk_bytes(self.files[&shard].bytes, chunk);
        self.room_for(bytes)?;
        if let Some(free) = &mut self.free_bytes {
            *free -= bytes;
        }
        let file = self.files.get_mut(&shard).expect("just seen");
        assert!(file.chunks.insert(chunk), "{chunk:?} is written twice");

        Ok(())
    }

    /// Gives a shard its name.
    ///
    /// # Panics
    ///
    /// If chunks are missing.
    pub fn finish(&mut self, shard: ShardHash) {
        let file = self.files.get_mut(&shard).expect("it was opened");
        assert!(file.chunks.is_all(), "{:?} is finished", file.chunks);
        file.whole = true;
    }

    fn room_for(&self, needed_bytes: u64) -> Result<(), StoreFailure> {
        match self.free_bytes {
            Some(free_bytes) if free_bytes < needed_bytes => Err(StoreFailure::Full {
                needed_bytes,
                free_bytes,
            }),
            _ => Ok(()),
        }
    }
}

//! The folder of shards: what is there, what room there is, and what is given up to make some.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gguf_tools::{ShardEntry, ShardHash, VirtualShard, verify_file};
use proto::transfer::{ChunkIndex, ChunkSet, StoreFailure};

use super::files::{self, Finish, Part, part_path, whole_path};

/// Bytes of the disk that are left free: the system and other apps fare badly on a full one. A guess.
const SPARE_BYTES: u64 = 64 << 20;

/// Shards as files. Everything here blocks as long as the disk takes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    limits: Limits,
    /// What the shards are that somebody named.
    known: BTreeMap<ShardHash, ShardEntry>,
    /// Shards of the model that this phone has, to be written without being fetched.
    model: BTreeMap<ShardHash, VirtualShard>,
    /// Shards in the making.
    parts: BTreeMap<ShardHash, Part>,
    /// Shards that are never given up for others.
    needed: BTreeSet<ShardHash>,
    gone: Vec<ShardHash>,
}

/// How much may be written.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all shards together.
    pub quota_bytes: u64,
    /// Bytes of the disk that stay free.
    pub spare_bytes: u64,
}

/// What shards take of the disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of shards that the plan needs, its neighbours' among them, and of those in the making.
    pub needed_bytes: u64,
    /// Bytes of others, which are given up when room is needed.
    pub other_bytes: u64,
    /// What all may take together.
    pub quota_bytes: u64,
    /// What is free on the disk.
    pub free_bytes: u64,
}

/// What is there of a shard that was opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// All of it, under its own name.
    Whole,
    /// These chunks.
    Part(ChunkSet),
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It was right, and is on disk.
    Verified,
    /// It is not what the manifest says.
    Corrupt,
}

/// What became of a shard whose chunks are all there.
#[derive(Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is there, under its own name.
    Whole,
    /// Chunks were damaged since they were written; these are right.
    Damaged(ChunkSet),
}

impl Limits {
    /// Returns the usual limits with a quota.
    pub fn of_quota(quota_bytes: u64) -> Self {
        Self {
            quota_bytes,
            spare_bytes: SPARE_BYTES,
        }
    }
}

impl Folder {
    /// Opens the folder, and makes it if need be.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(path)?;

        Ok(Self {
            path: path.into(),
            limits,
            known: BTreeMap::new(),
            model: BTreeMap::new(),
            parts: BTreeMap::new(),
            needed: BTreeSet::new(),
            gone: Vec::new(),
        })
    }

    /// Returns the shards that are there under their own name, with their sizes.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn whole(&self) -> io::Result<Vec<(ShardHash, u64)>> {
        let files = self.files()?.into_iter().filter(|file| file.is_whole);

        Ok(files.map(|file| (file.shard, file.bytes)).collect())
    }

    /// Learns what shards are, from a manifest that has been validated.
    pub fn know(&mut self, entries: impl IntoIterator<Item = ShardEntry>) {
        let named = entries.into_iter().map(|entry| (entry.hash, entry));

        self.known.extend(named);
    }

    /// Learns which shards need not be fetched: they are cut from the model that is here, and from no other.
    pub fn know_model(&mut self, shards: BTreeMap<ShardHash, VirtualShard>) {
        let before = std::mem::replace(&mut self.model, shards);
        let left = before
            .into_keys()
            .filter(|shard| !self.model.contains_key(shard));

        // What was written of a model that is not here any more stays.
        let gone = left.filter(|&shard| !whole_path(&self.path, shard).exists());
        self.gone.extend(gone);
    }

    /// Writes no more than this from now on. What is there already stays until its room is needed.
    pub fn set_quota(&mut self, quota_bytes: u64) {
        self.limits.quota_bytes = quota_bytes;
    }

    /// Returns what shards take, and what may be written yet.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn usage(&self) -> io::Result<Usage> {
        let (mut needed_bytes, mut other_bytes) = (0, 0);
        for file in self.files()? {
            match self.may_go(file.shard) {
                true => other_bytes += file.bytes,
                false => needed_bytes += file.bytes,
            }
        }

        Ok(Usage {
            needed_bytes,
            other_bytes,
            quota_bytes: self.limits.quota_bytes,
            free_bytes: fs4::available_space(&self.path)?,
        })
    }

    /// Takes note of which shards are needed: by the plan in force, or the next. Others are given up when room
    /// is needed, those that were there longest first.
    pub fn need(&mut self, shards: BTreeSet<ShardHash>) {
        self.needed = shards;
    }

    /// Returns the whole shards that were given up since this was last asked.
    pub fn take_gone(&mut self) -> Vec<ShardHash> {
        std::mem::take(&mut self.gone)
    }

    /// Makes room for a shard, and looks what is there of it. One that is in the model is written from it.
    ///
    /// # Errors
    ///
    /// - [`StoreFailure::Full`] if there is no room for what is missing
    /// - [`StoreFailure::Io`] if the disk fails, or nobody has said what the shard is
    pub fn begin(&mut self, shard: ShardHash) -> Result<Opened, StoreFailure> {
        let entry = self
            .known
            .get(&shard)
            .cloned()
            .ok_or_else(|| StoreFailure::Io {
                reason: format!("nobody has said what shard {shard} is"),
            })?;
        self.parts.remove(&shard);

        let path = whole_path(&self.path, shard);
        let mut part = if path.exists() {
            if verify_file(&entry, &path, |_| {}).is_ok() {
                return Ok(Opened::Whole);
            }
            tracing::info!(%shard, "Shard is damaged, its right chunks are kept");
            Part::of_damaged(&self.path, &entry).map_err(io_failure)?
        } else if self.write_from_model(&entry)? {
            return Ok(Opened::Whole);
        } else {
            Part::open(&self.path, &entry).map_err(io_failure)?
        };

        let held = part.held().clone();
        if let Err(failure) = self.make_room(shard, part.missing_bytes()) {
            if held.is_empty() {
                files::remove(&self.path, shard).map_err(io_failure)?;
            }
            return Err(failure);
        }
        part.sync().map_err(io_failure)?;
        self.parts.insert(shard, part);
        Ok(Opened::Part(held))
    }

    /// Writes a chunk, if it is right.
    ///
    /// # Errors
    ///
    /// - [`StoreFailure::Full`] if the disk is full; the chunk counts as missing
    /// - [`StoreFailure::Io`] if the disk fails, or the shard is not open
    pub fn write(
        &mut self,
        shard: ShardHash,
        chunk: ChunkIndex,
        bytes: &[u8],
    ) -> Result<Written, StoreFailure> {
        let part = self.parts.get_mut(&shard).ok_or_else(|| not_open(shard))?;
        if !part.is_right(chunk, bytes) {
            return Ok(Written::Corrupt);
        }

        match part.write(chunk, bytes) {
            Ok(()) => Ok(Written::Verified),
            Err(error) => {
                let needed_bytes = part.missing_bytes();
                Err(self.failure(error, needed_bytes))
            }
        }
    }

    /// Checks a shard whose chunks are all there, and gives it its name.
    ///
    /// # Errors
    ///
    /// - [`StoreFailure::NotTheShard`] if all its chunks are right and it is not: its files are gone
    /// - [`StoreFailure::Full`], [`StoreFailure::Io`] if the disk fails; what is there stays
    pub fn finish(&mut self, shard: ShardHash) -> Result<Finished, StoreFailure> {
        let part = self.parts.remove(&shard).ok_or_else(|| not_open(shard))?;
        let entry = part.entry().clone();

        match part.finish() {
            Ok(Finish::Whole) => Ok(Finished::Whole),
            Ok(Finish::NotTheShard) => Err(StoreFailure::NotTheShard),
            Ok(Finish::Damaged(part)) => {
                let held = part.held().clone();
                self.parts.insert(shard, *part);
                Ok(Finished::Damaged(held))
            }
            Err(error) => {
                let failure = self.failure(error, 0);
                if let Ok(part) = Part::open(&self.path, &entry) {
                    self.parts.insert(shard, part); // to be finished when told to try again
                }
                Err(failure)
            }
        }
    }

    /// Lays a shard aside. What is there of it stays until its room is needed.
    pub fn close(&mut self, shard: ShardHash) {
        if let Some(mut part) = self.parts.remove(&shard)
            && let Err(error) = part.sync()
        {
            tracing::debug!(%shard, %error, "Part not synced"); // what it claims is hashed anyway
        }
    }

    fn write_from_model(&mut self, entry: &ShardEntry) -> Result<bool, StoreFailure> {
        let Some(shard) = self.model.get(&entry.hash).cloned() else {
            return Ok(false);
        };
        self.make_room(entry.hash, entry.bytes)?;
        let path = whole_path(&self.path, entry.hash);
        let written = shard.write_file(&path);
        written.map_err(|error| self.failure(error, entry.bytes))?;

        if let Err(error) = verify_file(entry, &path, |_| {}) {
            tracing::warn!(shard = %entry.hash, %error, "The model on this phone is another one");
            self.model.remove(&entry.hash);
            files::remove(&self.path, entry.hash).map_err(io_failure)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Gives up what nobody needs, the oldest first, until `needed_bytes` more can be written.
    fn make_room(&mut self, shard: ShardHash, needed_bytes: u64) -> Result<(), StoreFailure> {
        loop {
            let free_bytes = self.free_bytes(shard).map_err(io_failure)?;
            if needed_bytes <= free_bytes {
                return Ok(());
            }
            let files = self.files().map_err(io_failure)?.into_iter();
            let idle = files.filter(|file| file.shard != shard && self.may_go(file.shard));
            let Some(oldest) = idle.min_by_key(|file| file.modified) else {
                return Err(StoreFailure::Full {
                    needed_bytes,
                    free_bytes,
                });
            };
            tracing::info!(shard = %oldest.shard, "Shard given up for another");
            self.give_up(&oldest).map_err(io_failure)?;
        }
    }

    /// Returns the bytes that may still be written, beside what is promised to the other shards in the making.
    fn free_bytes(&self, shard: ShardHash) -> io::Result<u64> {
        let used: u64 = self.files()?.iter().map(|file| file.bytes).sum();
        let others = self
            .parts
            .values()
            .filter(|part| part.entry().hash != shard);
        let promised: u64 = others.map(Part::missing_bytes).sum();
        let of_quota = self.limits.quota_bytes.saturating_sub(used);
        let of_disk = fs4::available_space(&self.path)?.saturating_sub(self.limits.spare_bytes);

        Ok(of_quota.min(of_disk).saturating_sub(promised))
    }

    fn may_go(&self, shard: ShardHash) -> bool {
        !self.needed.contains(&shard) && !self.parts.contains_key(&shard)
    }

    fn give_up(&mut self, file: &ShardOnDisk) -> io::Result<()> {
        files::remove(&self.path, file.shard)?;
        if file.is_whole && !self.model.contains_key(&file.shard) {
            self.gone.push(file.shard); // a part was never offered, and the model still is
        }

        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system has a kind for everything"
    )]
    fn failure(&self, error: io::Error, needed_bytes: u64) -> StoreFailure {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreFailure::Full {
                needed_bytes,
                free_bytes: fs4::available_space(&self.path).unwrap_or(0),
            },
            _ => io_failure(error),
        }
    }

    /// Lists the shards that are there, whole or in part. Files of other names are nobody's business.
    fn files(&self) -> io::Result<Vec<ShardOnDisk>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let file = file?;
            let name = file.file_name();
            let Some((stem, extension)) = name.to_str().and_then(|name| name.split_once('.'))
            else {
                continue;
            };
            let Ok(shard) = stem.parse() else {
                continue;
            };
            if extension == "gguf" || extension == "part" {
                let metadata = file.metadata()?;
                found.push(ShardOnDisk {
                    shard,
                    is_whole: extension == "gguf",
                    bytes: bytes_on_disk(&metadata),
                    modified: metadata.modified()?,
                });
            }
        }

        Ok(found)
    }
}

/// A file of the folder.
struct ShardOnDisk {
    shard: ShardHash,
    is_whole: bool,
    bytes: u64,
    modified: SystemTime,
}

/// Returns the size of a file, less the gaps of a part.
fn bytes_on_disk(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        const BLOCK_BYTES: u64 = 512; // of st_blocks, whatever the file system's own are

        metadata.len().min(metadata.blocks() * BLOCK_BYTES)
    }
    #[cfg(not(unix))]
    metadata.len()
}

fn io_failure(error: io::Error) -> StoreFailure {
    StoreFailure::Io {
        reason: error.to_string(),
    }
}

fn not_open(shard: ShardHash) -> StoreFailure {
    StoreFailure::Io {
        reason: format!("shard {shard} is not open"),
    }
}

/// Returns where a shard's bytes are: under its own name, or in the making.
pub(super) fn readable_paths(folder: &Path, shard: ShardHash) -> [PathBuf; 3] {
    let whole = whole_path(folder, shard);

    // A part may get its name between the first look and the second.
    [whole.clone(), part_path(folder, shard), whole]
}

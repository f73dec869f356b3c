//! A shard's files: the shard itself, or the part of it that is there.
//!
//! ```text
//! HASH.gguf      the shard, whole: it was hashed before it got this name
//! HASH.part      chunks at their places; what is between them is not there
//! HASH.journal   a byte for each chunk: 1 once it was checked and written
//! ```
//!
//! A chunk is written to the part and then noted in the journal. Both are in the system's hands at once, so an
//! app that is killed loses nothing that was noted. They reach the disk every [`SYNC_EVERY`] chunks; a phone
//! whose battery falls out may find a journal that says more than the part holds. So the journal is only a hint
//! where to look: whatever it claims is hashed again before it is believed, at about a second per GB.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gguf_tools::{CHUNK_BYTES, ChunkHash, ShardEntry, ShardHash, VerifyError, verify_file};
use proto::transfer::{ChunkIndex, ChunkSet, n_chunks};

/// Chunks after which part and journal are brought to the disk: what a phone whose battery falls out fetches
/// again. A guess: 16 MiB take a poor flash half a second.
const SYNC_EVERY: u32 = 16;

/// What the journal says of a chunk that is there.
const NOTED: u8 = 1;

/// Returns the path of a whole shard.
pub fn whole_path(folder: &Path, shard: ShardHash) -> PathBuf {
    folder.join(format!("{shard}.gguf"))
}

/// Returns the path of a shard in the making.
pub fn part_path(folder: &Path, shard: ShardHash) -> PathBuf {
    folder.join(format!("{shard}.part"))
}

fn journal_path(folder: &Path, shard: ShardHash) -> PathBuf {
    folder.join(format!("{shard}.journal"))
}

/// A shard in the making.
#[derive(Debug)]
pub struct Part {
    folder: PathBuf,
    entry: ShardEntry,
    part: File,
    journal: File,
    held: ChunkSet,
    n_unsynced: u32,
}

/// How a part became a shard, or did not.
#[derive(Debug)]
pub enum Finish {
    /// It is there under its own name.
    Whole,
    /// Chunks are not what they were when they were written: these are right.
    Damaged(Box<Part>),
    /// Every chunk is right and the whole is not. Its files are gone.
    NotTheShard,
}

impl Part {
    /// Opens what is there of a shard, or begins it, and hashes every chunk that the journal claims.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn open(folder: &Path, entry: &ShardEntry) -> io::Result<Self> {
        let open = |path: PathBuf| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(path)
        };
        let mut part = Self {
            part: open(part_path(folder, entry.hash))?,
            journal: open(journal_path(folder, entry.hash))?,
            folder: folder.into(),
            held: ChunkSet::none(n_chunks(entry.bytes)),
            entry: entry.clone(),
            n_unsynced: 0,
        };
        part.check_claims()?;

        Ok(part)
    }

    /// Makes a part of a whole file that is damaged: what is right of it need not be fetched again.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn of_damaged(folder: &Path, entry: &ShardEntry) -> io::Result<Self> {
        let all = vec![NOTED; entry.chunks.len()];
        fs::write(journal_path(folder, entry.hash), all)?;
        fs::rename(
            whole_path(folder, entry.hash),
            part_path(folder, entry.hash),
        )?;

        Self::open(folder, entry)
    }

    /// Returns the chunks that are there and right.
    pub fn held(&self) -> &ChunkSet {
        &self.held
    }

    /// Returns which shard it is to be.
    pub fn entry(&self) -> &ShardEntry {
        &self.entry
    }

    /// Returns the bytes that are not there yet.
    pub fn missing_bytes(&self) -> u64 {
        let held = self
            .held
            .iter()
            .filter_map(|chunk| self.entry.chunk_bytes(chunk.0));

        self.entry.bytes - held.sum::<u64>()
    }

    /// Returns whether these bytes are the chunk.
    pub fn is_right(&self, chunk: ChunkIndex, bytes: &[u8]) -> bool {
        is_right(&self.entry, chunk, bytes)
    }

    /// Writes a chunk that is right, and notes it.
    ///
    /// # Errors
    ///
    /// Any that the file system returns, such as that the disk is full: then the chunk is not noted, and
    /// counts as missing.
    pub fn write(&mut self, chunk: ChunkIndex, bytes: &[u8]) -> io::Result<()> {
        write_at(&mut self.part, u64::from(chunk.0) * CHUNK_BYTES, bytes)?;
        write_at(&mut self.journal, chunk.0.into(), &[NOTED])?;
        self.held.insert(chunk);

        self.n_unsynced += 1;
        if self.n_unsynced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Brings what was written to the disk: the chunks before the journal that claims them.
    ///
    /// # Errors
    ///
    /// Any that the file system returns.
    pub fn sync(&mut self) -> io::Result<()> {
        self.part.sync_data()?;
        self.journal.sync_data()?;
        self.n_unsynced = 0;

        Ok(())
    }

    /// Hashes the whole, and gives it its name.
    ///
    /// # Errors
    ///
    /// Any that the file system returns; the part stays.
    ///
    /// # Blocking
    ///
    /// About a second per GB, and until the bytes are on the disk.
    pub fn finish(mut self) -> io::Result<Finish> {
        self.sync()?;
        self.part.sync_all()?;
        let (shard, folder) = (self.entry.hash, self.folder.clone());

        match verify_file(&self.entry, &part_path(&folder, shard), |_| {}) {
            Ok(()) => {
                fs::rename(part_path(&folder, shard), whole_path(&folder, shard))?;
                remove_if_there(&journal_path(&folder, shard))?;
                sync_folder(&folder)?;
                Ok(Finish::Whole)
            }
            Err(VerifyError::WholeHash { .. }) => {
                remove(&folder, shard)?;
                Ok(Finish::NotTheShard)
            }
            Err(VerifyError::Io { source, .. }) => Err(source),
            Err(VerifyError::Corrupt { .. } | VerifyError::Size { .. }) => {
                self.check_claims()?;
                Ok(Finish::Damaged(Box::new(self)))
            }
        }
    }

    /// Believes of the journal what the hashes confirm, and strikes the rest.
    fn check_claims(&mut self) -> io::Result<()> {
        self.held = ChunkSet::none(n_chunks(self.entry.bytes));
        if self.part.metadata()?.len() > self.entry.bytes {
            self.part.set_len(self.entry.bytes)?;
        }
        let mut claims = Vec::new();
        self.journal.seek(SeekFrom::Start(0))?;
        let n_claims = self.entry.chunks.len() as u64;
        (&self.journal).take(n_claims).read_to_end(&mut claims)?;

        let mut buffer = Vec::with_capacity(CHUNK_BYTES as usize);
        for (index, claim) in (0..).zip(claims) {
            if claim != NOTED {
                continue;
            }
            let chunk = ChunkIndex(index);
            read_chunk(&mut self.part, &self.entry, chunk, &mut buffer)?;
            if self.is_right(chunk, &buffer) {
                self.held.insert(chunk);
            } else {
                write_at(&mut self.journal, index.into(), &[0])?;
            }
        }
        Ok(())
    }
}

/// Returns whether these bytes are a chunk of a shard.
pub fn is_right(entry: &ShardEntry, chunk: ChunkIndex, bytes: &[u8]) -> bool {
    let expected = entry.chunks.get(chunk.0 as usize);

    entry.chunk_bytes(chunk.0) == Some(bytes.len() as u64)
        && expected == Some(&ChunkHash::of(bytes))
}

/// Removes everything that is there of a shard.
///
/// # Errors
///
/// Any that the file system returns, but that nothing was there.
pub fn remove(folder: &Path, shard: ShardHash) -> io::Result<()> {
    for path in [
        whole_path(folder, shard),
        part_path(folder, shard),
        journal_path(folder, shard),
    ] {
        remove_if_there(&path)?;
    }

    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename last: on Unix it is the directory that has to reach the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;

    file.write_all(bytes)
}

/// Reads as much of a chunk as the file has.
fn read_chunk(
    file: &mut File,
    entry: &ShardEntry,
    chunk: ChunkIndex,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let n_bytes = entry.chunk_bytes(chunk.0).unwrap_or(0);
    buffer.clear();
    file.seek(SeekFrom::Start(u64::from(chunk.0) * CHUNK_BYTES))?;
    file.take(n_bytes).read_to_end(buffer)?;

    Ok(())
}

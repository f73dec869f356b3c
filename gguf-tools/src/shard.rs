//! A shard that need not be written: bytes of its own, and ranges of the model it was cut from.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::layers::LayerRange;
use crate::mapping::Mapping;
use crate::reader::part;
use crate::writer::Piece;

/// Bytes handed on at a time when a shard is written: a chunk, so that progress moves.
const WRITE_BYTES: usize = 1 << 20;

/// What a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardKind {
    /// The embedding, the final norm, the LM head and the tokenizer.
    Ends,
    /// A run of layers.
    Layers(LayerRange),
}

impl ShardKind {
    /// Returns the usual name of the file: `ends.gguf`, or `layers-004-006.gguf` for layers 4 and 5.
    pub fn file_name(&self) -> String {
        match self {
            ShardKind::Ends => "ends.gguf".to_owned(),
            ShardKind::Layers(range) => {
                format!("layers-{:03}-{:03}.gguf", range.start(), range.end())
            }
        }
    }
}

impl fmt::Display for ShardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShardKind::Ends => f.pad("ends"),
            ShardKind::Layers(range) => f.pad(&range.to_string()),
        }
    }
}

/// A shard as a file that can be read without having been written.
///
/// It shares the model it was cut from; clones are cheap.
#[derive(Clone)]
pub struct VirtualShard {
    kind: ShardKind,
    kv_bytes_per_token: u64,
    source: Arc<Mapping>,
    /// Where each piece starts, ascending from 0.
    pieces: Arc<[(u64, Piece)]>,
    bytes: u64,
}

impl VirtualShard {
    pub(crate) fn new(
        kind: ShardKind,
        kv_bytes_per_token: u64,
        source: Arc<Mapping>,
        pieces: Vec<Piece>,
    ) -> Self {
        let mut bytes = 0;
        let pieces = pieces.into_iter().map(|piece| {
            let start = bytes;
            bytes += piece.len();
            (start, piece)
        });

        Self {
            kind,
            kv_bytes_per_token,
            source,
            pieces: pieces.collect(),
            bytes,
        }
    }

    /// Returns what the shard holds.
    pub fn kind(&self) -> ShardKind {
        self.kind
    }

    /// Returns the size of the file.
    pub fn len_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes that one token takes in the shard's KV cache.
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_bytes_per_token
    }

    /// Fills `buffer` with the bytes from `offset` on, and returns how many there were.
    ///
    /// Fewer than asked for, or none, are returned only at the end of the file.
    ///
    /// # Blocking
    ///
    /// As long as the disk takes for pages of the model that are not in memory.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let first = self.pieces.partition_point(|(start, _)| *start <= offset);
        let mut filled = 0;

        for (start, piece) in &self.pieces[first.saturating_sub(1)..] {
            let rest = &mut buffer[filled..];
            if rest.is_empty() {
                break;
            }
            let skip = (offset + filled as u64) - start;
            filled += self.read_piece(piece, skip, rest);
        }

        filled
    }

    /// Fills `buffer` from byte `skip` of `piece` on, and returns how many bytes there were.
    fn read_piece(&self, piece: &Piece, skip: u64, buffer: &mut [u8]) -> usize {
        let left = piece.len().saturating_sub(skip);
        let n = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..n];

        match piece {
            Piece::Zeros(_) => buffer.fill(0),
            Piece::Bytes(bytes) => {
                let bytes = part(bytes, skip.min(bytes.len() as u64)..bytes.len() as u64);
                buffer.copy_from_slice(&bytes.expect("skip is clamped")[..n]);
            }
            Piece::Source(range) => {
                let start = range.start + skip.min(range.end - range.start);
                let bytes = part(&self.source, start..range.end);
                buffer.copy_from_slice(&bytes.expect("ranges lie in the source")[..n]);
            }
        }

        n
    }

    /// Returns a reader of the whole shard.
    pub fn reader(&self) -> ShardReader<'_> {
        ShardReader { shard: self, at: 0 }
    }

    /// Writes the shard to `writer`.
    ///
    /// # Errors
    ///
    /// What `writer` returns.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        self.write_noting(writer, &mut |_| {})
    }

    /// Writes the shard to a file at `path`, which appears whole or not at all.
    ///
    /// # Errors
    ///
    /// Any that the file system returns. The file in the making, `path` with `.part` added, is
    /// taken away.
    ///
    /// # Blocking
    ///
    /// Until the bytes are on the disk.
    pub fn write_file(&self, path: &Path) -> io::Result<()> {
        self.write_file_noting(path, &mut |_| {})
    }

    /// As [`write_file`](Self::write_file), and calls `progress` with the bytes newly written.
    ///
    /// # Errors
    ///
    /// As [`write_file`](Self::write_file).
    pub fn write_file_noting(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        write_whole(path, |file| self.write_noting(file, progress))
    }

    fn write_noting(
        &self,
        writer: &mut impl Write,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let mut buffer = vec![0; WRITE_BYTES];
        let mut at = 0;

        while at < self.bytes {
            let n = self.read_at(at, &mut buffer);
            writer.write_all(&buffer[..n])?;
            at += n as u64;
            progress(n as u64);
        }

        Ok(())
    }
}

impl fmt::Debug for VirtualShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualShard")
            .field("kind", &self.kind)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Reads a shard from its start to its end.
#[derive(Debug)]
pub struct ShardReader<'a> {
    shard: &'a VirtualShard,
    at: u64,
}

impl io::Read for ShardReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.shard.read_at(self.at, buffer);
        self.at += n as u64;

        Ok(n)
    }
}

/// Writes a file through `fill` under another name, and gives it its name when it is on the disk.
pub(crate) fn write_whole<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let part = part_path(path);
    let written = fill_and_sync(&part, fill).and_then(|()| Ok(fs::rename(&part, path)?));
    if let Err(error) = written {
        let _ = fs::remove_file(&part); // the first error is the one to tell
        return Err(error);
    }

    Ok(sync_directory(path)?)
}

fn fill_and_sync<E: From<io::Error>>(
    part: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = BufWriter::new(File::create(part)?);
    fill(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;

    Ok(file.sync_all()?)
}

fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");

    name.into()
}

/// Makes a rename last: on Unix it is the directory that has to reach the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());

    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

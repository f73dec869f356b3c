//! Reading chunks to serve them: from the shard's file, from the part that is there, or from the model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use gguf_tools::{CHUNK_BYTES, ShardEntry, ShardHash, VirtualShard};
use proto::transfer::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkIndex};

use super::files;
use super::folder::readable_paths;

/// Reads chunks.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    known: BTreeMap<ShardHash, ShardEntry>,
    model: BTreeMap<ShardHash, VirtualShard>,
}

impl Reader {
    /// Reads shards of `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            known: BTreeMap::new(),
            model: BTreeMap::new(),
        }
    }

    /// See [`Folder::know`](super::folder::Folder::know).
    pub fn know(&mut self, entries: impl IntoIterator<Item = ShardEntry>) {
        let named = entries.into_iter().map(|entry| (entry.hash, entry));

        self.known.extend(named);
    }

    /// Learns which shards can be read from the model: they need never be written to be served.
    pub fn know_model(&mut self, shards: BTreeMap<ShardHash, VirtualShard>) {
        self.model = shards;
    }

    /// Reads a chunk behind its header: the frame as it goes over the wire, in one piece and never copied.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::NotFound`] if it is not here
    /// - [`io::ErrorKind::InvalidData`] if it is not what the manifest says: who serves it would be taken for a liar
    /// - any other that the file system returns
    pub fn read(&self, shard: ShardHash, chunk: ChunkIndex) -> io::Result<Vec<u8>> {
        let mut frame = Vec::with_capacity(CHUNK_HEADER_BYTES + CHUNK_BYTES as usize);
        frame.resize(CHUNK_HEADER_BYTES, 0);
        self.append(shard, chunk, &mut frame)?;

        let payload = &frame[CHUNK_HEADER_BYTES..];
        let known = self.known.get(&shard);
        if payload.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if known.is_some_and(|entry| !files::is_right(entry, chunk, payload)) {
            return Err(io::ErrorKind::InvalidData.into());
        }

        let header = ChunkHeader {
            shard,
            chunk,
            n_bytes: payload.len() as u32, // at most CHUNK_BYTES were read
        };
        frame[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
        Ok(frame)
    }

    fn append(&self, shard: ShardHash, chunk: ChunkIndex, frame: &mut Vec<u8>) -> io::Result<()> {
        let at = u64::from(chunk.0) * CHUNK_BYTES;
        for path in readable_paths(&self.folder, shard) {
            match File::open(path) {
                Ok(mut file) => {
                    file.seek(SeekFrom::Start(at))?;
                    file.take(CHUNK_BYTES).read_to_end(frame)?;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }

        let shard = self.model.get(&shard).ok_or(io::ErrorKind::NotFound)?;
        frame.resize(CHUNK_HEADER_BYTES + CHUNK_BYTES as usize, 0);
        let n = shard.read_at(at, &mut frame[CHUNK_HEADER_BYTES..]);
        frame.truncate(CHUNK_HEADER_BYTES + n);
        Ok(())
    }
}

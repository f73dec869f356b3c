//! What is here of a model that is not whole: the file `SHA256.part`, and beside it a note.
//!
//! The bytes are hashed as they are written. A part from another day is read once more before it grows, because no
//! hash of a beginning can be checked against anything; so whatever happened to it, the whole is right or refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes that are read or written at once: enough that the system's calls do not count.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Bytes of a note, at most: it has some hundred.
const NOTE_BYTES_MAX: u64 = 4096;

/// Bytes of an entity tag that is kept, at most: servers give 20 to 80.
const ETAG_BYTES_MAX: usize = 256;

const NOTE_VERSION: u32 = 1;

/// What is remembered of a download beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The note's own form.
    pub version: u32,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// Which version of its file the server sent, if it said so firmly.
    pub etag: Option<String>,
    /// Whether it is to go on when the app is started again: nobody has paused it.
    pub is_wanted: bool,
}

impl Note {
    /// Makes a note of a download that has just begun.
    pub fn new(file_bytes: u64) -> Self {
        Self {
            version: NOTE_VERSION,
            file_bytes,
            etag: None,
            is_wanted: true,
        }
    }

    /// Reads a note from what a file held; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let note = serde_json::from_slice::<Self>(bytes).ok()?;
        let is_right = note.version == NOTE_VERSION && note.etag.as_deref().is_none_or(is_strong);

        is_right.then_some(note)
    }

    /// Returns what a file is to hold.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data in memory can be written")
    }

    /// Reads the note at `path`; `None` if there is none that can be read.
    pub fn load(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path).ok()?;
        file.take(NOTE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;

        if bytes.len() as u64 > NOTE_BYTES_MAX {
            return None;
        }
        Self::parse(&bytes)
    }

    /// Writes the note to `path`, at once or not at all.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_at_once(path, &self.to_bytes())
    }
}

/// Returns whether an entity tag names bytes, and is one that a header can carry.
pub fn is_strong(etag: &str) -> bool {
    let is_quoted = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');

    is_quoted && etag.len() <= ETAG_BYTES_MAX && etag.bytes().all(|b| (0x21..0x7f).contains(&b))
}

/// Writes a file that is there whole, or as it was.
pub fn write_at_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file lies in a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;

    Ok(())
}

/// The bytes that are here, hashed.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    done_bytes: u64,
}

impl Part {
    /// Opens a part, or begins one, and hashes what it holds; `progress` is called with how much that is, and stops
    /// by returning `false`. A part longer than the whole is begun anew.
    ///
    /// Returns `None` if it was stopped.
    ///
    /// # Blocking
    ///
    /// Reads the part: some 2 s per GB.
    pub fn open(
        path: &Path,
        file_bytes: u64,
        progress: impl FnMut(u64) -> bool,
    ) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.len() > file_bytes {
            file.set_len(0)?;
        }
        let Some((hasher, done_bytes)) = hash(&mut file, progress)? else {
            return Ok(None);
        };

        Ok(Some(Self {
            path: path.into(),
            file,
            hasher,
            done_bytes,
        }))
    }

    /// Returns how many bytes are here.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Appends bytes. After an error it is as long as before.
    pub fn append(&mut self, block: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(block) {
            self.file.set_len(self.done_bytes)?;
            self.file.seek(SeekFrom::Start(self.done_bytes))?;
            return Err(error);
        }
        self.hasher.update(block);
        self.done_bytes += block.len() as u64;

        Ok(())
    }

    /// Begins anew.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.done_bytes = 0;

        Ok(())
    }

    /// Returns the SHA-256 of what is here, in hexadecimal.
    pub fn sha256(&self) -> String {
        hex(self.hasher.clone())
    }

    /// Puts the whole file where it belongs, at once, and on disk for good.
    pub fn install(&self, whole: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, whole)?;
        sync_folder(whole)
    }
}

/// A rename is only there for good when the folder is.
#[cfg(unix)]
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().expect("a file lies in a folder");

    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_file: &Path) -> io::Result<()> {
    Ok(())
}

/// Hashes a file from its beginning to its end, where it is left; `None` if `progress` said `false`.
pub fn hash(
    file: &mut File,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<Option<(Sha256, u64)>> {
    let (mut hasher, mut done_bytes) = (Sha256::new(), 0);
    let mut block = vec![0; BLOCK_BYTES];
    file.seek(SeekFrom::Start(0))?;

    loop {
        let n = match file.read(&mut block) {
            Ok(0) => return Ok(Some((hasher, done_bytes))),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&block[..n]);
        done_bytes += n as u64;
        if !progress(done_bytes) {
            return Ok(None);
        }
    }
}

/// Returns a hash in hexadecimal.
pub fn hex(hasher: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_goes_on_as_if_it_had_never_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        let bytes = (0..3_000_000_u32)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<_>>();

        for cut in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            bytes.len(),
        ] {
            let mut part = open(&path, bytes.len());
            part.restart().unwrap();
            part.append(&bytes[..cut]).unwrap();
            drop(part);

            let mut part = open(&path, bytes.len());
            assert_eq!(part.done_bytes(), cut as u64);
            part.append(&bytes[cut..]).unwrap();

            assert_eq!(part.sha256(), hex(Sha256::new_with_prefix(&bytes)));
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_part_that_is_too_long_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        fs::write(&path, [1; 11]).unwrap();

        assert_eq!(open(&path, 11).done_bytes(), 11);
        assert_eq!(open(&path, 10).done_bytes(), 0);
    }

    fn open(path: &Path, file_bytes: usize) -> Part {
        Part::open(path, file_bytes as u64, |_| true)
            .unwrap()
            .unwrap()
    }

    proptest! {
        #[test]
        fn a_note_is_read_as_it_was_written(
            file_bytes: u64,
            etag in proptest::option::of("\"[!#-~]{0,250}\""),
            is_wanted: bool,
        ) {
            let note = Note { etag, is_wanted, ..Note::new(file_bytes) };

            prop_assert_eq!(Note::parse(&note.to_bytes()), Some(note));
        }

        #[test]
        fn any_bytes_at_all_are_a_note_or_none(bytes: Vec<u8>) {
            let _ = Note::parse(&bytes);
        }

        #[test]
        fn a_note_with_a_byte_wrong_never_carries_what_no_header_can(at in 0_usize..200, byte: u8) {
            let note = Note { etag: Some("\"0123456789abcdef\"".into()), ..Note::new(98_362_432) };
            let mut bytes = note.to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;

            if let Some(Note { etag: Some(etag), .. }) = Note::parse(&bytes) {
                prop_assert!(is_strong(&etag));
            }
        }
    }

    #[test]
    fn a_note_that_is_too_long_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let mut bytes = Note::new(5).to_bytes();
        fs::write(&path, &bytes).unwrap();
        assert!(Note::load(&path).is_some());

        bytes.resize(NOTE_BYTES_MAX as usize + 1, b' ');
        fs::write(&path, &bytes).unwrap();

        assert_eq!(Note::load(&path), None);
    }
}

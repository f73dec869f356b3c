//! Where a model's bytes are: a mapped file, or memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a GGUF file, never copied once they are here.
#[derive(Debug)]
pub(crate) enum Mapping {
    /// A file: the system reads the pages that are touched.
    File(memmap2::Mmap),
    /// Bytes that somebody made.
    Memory(Vec<u8>),
}

impl Mapping {
    /// Maps the file at `path`.
    #[allow(unsafe_code)] // the one place: no library maps a file without it
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }

        // SAFETY: the mapping is read-only and private to this process. Model files are written
        // once, under another name, and renamed into place, so nothing of ours changes one that is
        // mapped. Another program that cut it short would end this process with SIGBUS, which is
        // also what llama.cpp does with the same file.
        let map = unsafe { memmap2::Mmap::map(&file) }?;

        Ok(Self::File(map))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Mapping::File(map) => map,
            Mapping::Memory(bytes) => bytes,
        }
    }
}

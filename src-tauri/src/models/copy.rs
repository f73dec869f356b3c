//! Copying a file that cannot be used where it lies: whole, or not at all.
//!
//! A plain file says how long it is, so there is room for it or it is not begun. A pipe, by which Android hands over what
//! a cloud provides, does not: there must always be room for some more. It may also give nothing for as long as it likes,
//! so it is never read before it has something: a copy can be stopped at any time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::Trouble;
use super::folder::Folder;
use super::part::BLOCK_BYTES;
use super::progress::Progress;
use crate::api::ModelId;

/// Bytes that there must be room for beyond what has come, where nobody knows how many will.
const AHEAD_BYTES: u64 = 16 << 20;

/// How long a pipe is waited for before it is looked whether anybody still wants the copy.
#[cfg(unix)]
const GLANCE: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// A copy, for as long as it is made.
pub struct Copy {
    /// What is copied.
    pub file: File,
    /// To where.
    pub to: PathBuf,
    /// The folder that this is in.
    pub folder: Folder,
    /// Whoever watches.
    pub progress: Progress,
    /// Turns to `true` when it is to stop.
    pub stop: watch::Receiver<bool>,
}

impl Copy {
    /// Copies; `check_room` says whether so many bytes more have room. Returns whether all has come: not if it was
    /// stopped. If not all has, nothing is left.
    ///
    /// # Errors
    ///
    /// - what `check_room` says
    /// - [`Trouble::StorageShort`] if the disk is full all the same
    /// - if it cannot be read, or written
    ///
    /// # Blocking
    ///
    /// As long as it takes.
    pub fn run(mut self, check_room: impl Fn(u64) -> Result<(), Trouble>) -> Result<bool, Trouble> {
        let copied = self.copy(check_room);

        if copied != Ok(true) {
            let _ = fs::remove_file(&self.to); // the next start does it otherwise
        }
        copied
    }

    fn copy(&mut self, check_room: impl Fn(u64) -> Result<(), Trouble>) -> Result<bool, Trouble> {
        let mut to = File::create(&self.to)?;
        let mut block = vec![0; BLOCK_BYTES];
        let file_bytes = self.file.metadata()?.len(); // 0 of a pipe
        let (mut done_bytes, mut room_bytes) = (0, file_bytes);
        self.progress.begin(0);

        while let Some(n) = self.next(&mut block)? {
            if n == 0 {
                to.sync_all()
                    .map_err(|error| self.told(&error, file_bytes, done_bytes))?;
                return Ok(true);
            }
            done_bytes += n as u64;
            if done_bytes > room_bytes {
                check_room(AHEAD_BYTES)?;
                room_bytes = done_bytes + AHEAD_BYTES;
            }
            to.write_all(&block[..n])
                .map_err(|error| self.told(&error, file_bytes, done_bytes))?;
            self.progress.copying(done_bytes);
        }

        Ok(false)
    }

    /// Returns how many bytes have come, 0 at the end; `None` if they are wanted no more.
    fn next(&mut self, block: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            // Nor by anybody who could still say so.
            if *self.stop.borrow() || self.stop.has_changed().is_err() {
                return Ok(None);
            }
            if !has_something(&self.file)? {
                continue;
            }
            match self.file.read(block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(Some),
            }
        }
    }

    /// Says what it means that something could not be written.
    fn told(&self, error: &io::Error, file_bytes: u64, done_bytes: u64) -> Trouble {
        let free_bytes = self.folder.free_bytes().unwrap_or(0);
        let to_come = match file_bytes.saturating_sub(done_bytes) {
            0 => AHEAD_BYTES,
            known => known,
        };

        Trouble::disk(error, to_come.saturating_sub(free_bytes))
    }
}

/// Returns whether a file has something to be read, or ends; waits a little if not.
#[cfg(unix)]
fn has_something(file: &File) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};

    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&GLANCE)) {
        Ok(n_ready) => Ok(n_ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Only where files are plain ones, which never keep anybody waiting.
#[cfg(not(unix))]
fn has_something(_file: &File) -> io::Result<bool> {
    Ok(true)
}

/// Returns what a copy is called in the list until it is known what it is: no model is called so.
pub fn name_of(to: &Path) -> ModelId {
    let name = to.file_name().unwrap_or_default();

    ModelId(name.to_string_lossy().into_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// As where another app has taken what was free when it was asked.
    #[test]
    fn a_disk_that_is_full_is_said_to_be_and_nothing_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let from = temp.path().join("from");
        fs::write(&from, vec![1; 3 * BLOCK_BYTES]).unwrap();
        let (_stop, stopped) = watch::channel(false);
        let copy = Copy {
            file: File::open(&from).unwrap(),
            to: temp.path().join("full.copy"),
            folder: Folder::make(temp.path()).unwrap(),
            progress: Progress::new(Box::new(|_| {})),
            stop: stopped,
        };
        let to = copy.to.clone();
        std::os::unix::fs::symlink("/dev/full", &to).unwrap();

        let copied = copy.run(|_| Ok(()));

        assert!(
            matches!(copied, Err(Trouble::StorageShort { .. })),
            "{copied:?}"
        );
        assert!(to.symlink_metadata().is_err(), "it is removed");
    }
}

//! A phone's place in its group, kept on disk.
//!
//! A phone that forgot whom it obeyed may obey an older leader. So a file is written beside the old one, brought
//! to the disk and then put in its place: whenever the power goes, one of the two is there, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::group::{Saved, SavedError};

/// Name of the file in a phone's data folder.
const GROUP_FILE: &str = "group.state";

/// Why a phone's place in its group could not be had, or kept.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// The file cannot be read.
    #[error("cannot read the group's file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the group's file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else, or was written by another version.
    #[error(
        "{path} cannot be used: move it away, and have this phone let into its group again ({source})"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SavedError,
    },
}

/// The file, in one phone's data folder.
#[derive(Debug)]
pub struct GroupFile {
    folder: PathBuf,
}

impl GroupFile {
    /// Returns the file in `folder`, which may not exist yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Reads what was written last; a phone in no group, if nothing ever was.
    ///
    /// # Errors
    ///
    /// - [`GroupFileError::Read`] if the file is there and cannot be read
    /// - [`GroupFileError::Malformed`] if it holds something else
    pub fn load(&self) -> Result<Saved, GroupFileError> {
        let path = self.path();

        match fs::read(&path) {
            Ok(bytes) => Saved::from_bytes(&bytes)
                .map_err(|source| GroupFileError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(source) => Err(GroupFileError::Read { path, source }),
        }
    }

    /// Writes, readable by its owner only, and returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`GroupFileError::Write`] if the system says so; the old file is then still there.
    pub fn save(&self, saved: &Saved) -> Result<(), GroupFileError> {
        self.replace(&saved.to_bytes())
            .map_err(|source| GroupFileError::Write {
                path: self.path(),
                source,
            })
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.path(), self.folder.join("group.state.new"));

        let mut file = create_private(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_folder(&self.folder)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(GROUP_FILE)
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    File::create(path)
}

/// The new name is in the folder, and so on the disk when the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::PeerId;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = GroupFile::new(folder.path());
        assert_eq!(file.load().expect("nothing yet"), Saved::default());

        for blocked in [1, 2] {
            let saved = Saved {
                blocked: [PeerId([blocked; 32])].into_iter().collect(),
                ..Saved::default()
            };
            file.save(&saved).expect("there is room");
            assert_eq!(file.load().expect("just saved"), saved);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = fs::metadata(file.path()).expect("it is there");
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = GroupFile::new(folder.path());
        fs::write(file.path(), b"\x01\x00damaged").expect("there is room");

        let error = file.load().expect_err("no group in it");

        assert!(error.to_string().contains("move it away"), "{error}");
    }
}

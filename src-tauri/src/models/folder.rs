//! The folder that models lie in, and how much room there is.
//!
//! | file | is |
//! | --- | --- |
//! | `SHA256.gguf` | a model, whole: it had that hash when it got this name |
//! | `SHA256.part`, `SHA256.json` | what is here of one, and the note beside it |
//! | `UUID.copy` | a model that a person brought and that could not be used where it lay |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Trouble, is_sha256};
use crate::api::ModelId;

/// How the names of copies end.
const COPY: &str = "copy";

/// Storage that is left to the rest of the phone in any case: below that systems begin to complain. A guess.
const LEFT_BYTES: u64 = 200 << 20;

/// The folder that models lie in.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// What may be used of a phone's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that models and shards may take together.
    pub quota_bytes: u64,
    /// Bytes that shards take.
    pub shards_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quota_bytes: u64::MAX,
            shards_bytes: 0,
        }
    }
}

impl Folder {
    /// Makes the folder, where it is not there.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;

        Ok(Self { path: path.into() })
    }

    /// Returns where a whole model lies.
    pub fn whole(&self, model: &ModelId) -> PathBuf {
        self.path.join(format!("{}.gguf", model.0))
    }

    /// Returns where the beginning of a model lies.
    pub fn part(&self, model: &ModelId) -> PathBuf {
        self.path.join(format!("{}.part", model.0))
    }

    /// Returns where the note about a beginning lies.
    pub fn note(&self, model: &ModelId) -> PathBuf {
        self.path.join(format!("{}.json", model.0))
    }

    /// Returns where a copy of a model may be made that cannot be used where it lies.
    pub fn new_copy(&self) -> PathBuf {
        self.path.join(format!("{}.{COPY}", Uuid::now_v7()))
    }

    /// Removes a file if it is such a copy, and there.
    pub fn remove_copy(&self, path: &Path) -> io::Result<()> {
        let is_copy = path.extension().is_some_and(|extension| extension == COPY);
        let folder = self.path.canonicalize()?;

        match is_copy && path.parent() == Some(&folder) {
            true => remove_if_there(path),
            false => Ok(()),
        }
    }

    /// Returns the copies beside those that are `known`.
    pub fn copies_but(&self, known: &[&Path]) -> io::Result<Vec<PathBuf>> {
        let mut copies = Vec::new();
        for entry in fs::read_dir(self.path.canonicalize()?)? {
            let path = entry?.path();
            let is_copy = path.extension().is_some_and(|extension| extension == COPY);
            if is_copy && !known.contains(&&*path) {
                copies.push(path);
            }
        }

        Ok(copies)
    }

    /// Returns a path as it is remembered: what lies here without this folder's own, which on iOS is another after an
    /// update of the app.
    pub fn remembered(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = self.path.canonicalize()?;

        Ok(path.strip_prefix(&folder).unwrap_or(path).into())
    }

    /// Returns where a path that is [remembered](Self::remembered) leads.
    pub fn recalled(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.path.canonicalize()?.join(path))
    }

    /// Returns the models that are here whole.
    pub fn wholes(&self) -> io::Result<Vec<ModelId>> {
        let mut models = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".gguf"));
            if let Some(id) = id.filter(|id| is_sha256(id)) {
                models.push(ModelId(id.to_owned()));
            }
        }
        models.sort();

        Ok(models)
    }

    /// Removes a model, or what is here of it.
    pub fn remove(&self, model: &ModelId) -> io::Result<()> {
        // The note last: with it alone, a download begins anew.
        for path in [self.whole(model), self.part(model), self.note(model)] {
            remove_if_there(&path)?;
        }

        Ok(())
    }

    /// Returns the bytes that lie here.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let mut used_bytes = 0;
        for entry in fs::read_dir(&self.path)? {
            match entry?.metadata() {
                Ok(metadata) => used_bytes += metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed meanwhile
                Err(error) => return Err(error),
            }
        }

        Ok(used_bytes)
    }

    /// Returns the bytes that are free where the folder is.
    pub fn free_bytes(&self) -> io::Result<u64> {
        fs4::available_space(&self.path)
    }

    /// Checks that so many bytes more have room, beside those that others are about to take.
    ///
    /// # Errors
    ///
    /// [`Trouble::StorageShort`] with what is missing.
    pub fn check_room(
        &self,
        bytes: u64,
        promised_bytes: u64,
        limits: Limits,
    ) -> Result<(), Trouble> {
        let wanted = bytes.saturating_add(promised_bytes);
        let free_bytes = self.free_bytes()?.saturating_sub(LEFT_BYTES);
        let used_bytes = self.used_bytes()?.saturating_add(limits.shards_bytes);
        let allowed_bytes = limits.quota_bytes.saturating_sub(used_bytes);

        match wanted.saturating_sub(free_bytes.min(allowed_bytes)) {
            0 => Ok(()),
            missing_bytes => Err(Trouble::StorageShort { missing_bytes }),
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_the_more_of_phone_and_quota() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(temp.path()).unwrap();
        fs::write(temp.path().join("a"), [0; 100]).unwrap();
        let limits = Limits {
            quota_bytes: 1000,
            shards_bytes: 300,
        };

        assert_eq!(folder.used_bytes().unwrap(), 100);
        assert_eq!(folder.check_room(600, 0, limits), Ok(()));
        assert_eq!(folder.check_room(500, 100, limits), Ok(()));
        assert_eq!(
            folder.check_room(600, 1, limits),
            Err(Trouble::StorageShort { missing_bytes: 1 })
        );
        let all = folder.free_bytes().unwrap();
        let short = folder.check_room(all, 0, Limits::default());
        assert!(
            matches!(short, Err(Trouble::StorageShort { missing_bytes }) if missing_bytes >= LEFT_BYTES / 2)
        );
    }

    #[test]
    fn only_hashes_are_models() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(temp.path()).unwrap();
        let id = ModelId("0f".repeat(32));
        for name in ["a.gguf", ".gguf", &format!("{}.gguf", "0F".repeat(32))] {
            fs::write(temp.path().join(name), "").unwrap();
        }
        assert_eq!(folder.wholes().unwrap(), []);
        fs::write(folder.whole(&id), "").unwrap();
        fs::write(folder.note(&id), "").unwrap();

        assert_eq!(folder.wholes().unwrap(), std::slice::from_ref(&id));

        folder.remove(&id).unwrap();
        folder.remove(&id).unwrap();
        assert_eq!(folder.wholes().unwrap(), []);
    }
}

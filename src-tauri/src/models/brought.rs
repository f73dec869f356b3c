//! Models that people bring: files that lie elsewhere on the phone, and are used there.
//!
//! Nothing is copied that can be used where it lies. On a desktop a file has a path. On Android the system's picker gives
//! a `content://` address, and for that an open file, which this process can reach as `/proc/self/fd/N` for as long as it
//! holds it. After a restart somebody must open the address again ([`Models::reopen`](super::Models::reopen)); until then
//! the model is as good as gone. Where the system gives no address that lasts, or no file that can be opened by such a
//! path (a cloud's is a pipe), the file is copied. iOS makes a copy before it hands anything over, and removes it some day:
//! that is moved into the app's folder, where it stays.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gguf_tools::Gguf;
use proto::text::clean;
use sha2::{Digest, Sha256};

use super::Trouble;
use super::card::{Card, FILE_BYTES_MAX};
use super::catalogue::Offer;
use super::part::hex;
use crate::api::ModelId;
use crate::history::{KnownModel, Place};

/// Bytes of a file's name that are kept, at most.
const NAME_BYTES_MAX: usize = 96;

/// Bytes of a header that a name is made of, at most: a vocabulary of 262,144 tokens with scores takes 6 MB.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a file's end that a name is made of.
const END_BYTES: u64 = 1 << 20;

/// A file that a person picked.
#[derive(Debug)]
pub enum Picked {
    /// One with a path.
    Path(PathBuf),
    /// A copy that the system has made for the app, and does not keep.
    Given(PathBuf),
    /// One that the system has opened.
    Opened {
        /// It; it must be a plain file, that can be read anywhere.
        file: File,
        /// What people call it.
        name: String,
        /// By which it can be opened again, e.g. a `content://` address for which the permission was made to last;
        /// `None` if it cannot be.
        address: Option<String>,
    },
}

/// Whether a file that was picked can be used where it lies.
#[derive(Debug)]
pub enum Settling {
    /// It can.
    Stays(Settled),
    /// It is the app's, and must be moved to where it lasts.
    Given {
        /// Where it lies.
        path: PathBuf,
        /// What people call it.
        name: String,
    },
    /// It cannot, and must be copied.
    Moves(Loose),
}

/// A file that cannot be used where it lies.
#[derive(Debug)]
pub struct Loose {
    /// The file, open to be read once.
    pub file: File,
    /// What people call it.
    pub name: String,
}

/// A file that was picked, where it stays.
#[derive(Debug)]
pub struct Settled {
    place: Place,
    file_name: String,
    held: Option<Arc<File>>,
}

/// A model that was brought.
#[derive(Debug, Clone)]
pub struct Brought {
    /// What is kept of it. For its name, see [`name_of`].
    pub known: KnownModel,
    /// The file, held open where it has no path.
    pub held: Option<Arc<File>>,
}

impl Picked {
    /// Leaves the file where it is, if it can be used there.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn settle(self) -> Result<Settling, Trouble> {
        match self {
            Self::Path(path) => {
                let path = path.canonicalize()?;
                let name = file_name(&path);
                Ok(Settling::Stays(Settled::at(path, name)))
            }
            Self::Given(path) => {
                let name = file_name(&path);
                Ok(Settling::Given { path, name })
            }
            Self::Opened {
                file,
                name,
                address: Some(address),
            } if can_be_opened(&file) => Ok(Settling::Stays(Settled {
                place: Place::Address(address),
                file_name: name,
                held: Some(Arc::new(file)),
            })),
            Self::Opened { file, name, .. } => Ok(Settling::Moves(Loose { file, name })),
        }
    }
}

impl Loose {
    /// Returns what it is, as far as that can be seen before it is copied.
    ///
    /// # Errors
    ///
    /// As [`Card::read`], where it can be read more than once: what is no model is not copied.
    pub fn card(&self) -> Result<Card, Trouble> {
        let file_name = clean(&self.name, NAME_BYTES_MAX);

        if can_be_opened(&self.file) {
            let card = Card::read(&path_of_open(&self.file)?)?;
            return Ok(named(card, &file_name));
        }
        let file_bytes = self.file.metadata()?.len(); // 0 of a pipe
        Ok(Card::unknown(&file_name, file_bytes))
    }
}

impl Settled {
    /// Returns a file that lies at a path.
    pub fn at(path: PathBuf, file_name: String) -> Self {
        Self {
            place: Place::Path(path),
            file_name,
            held: None,
        }
    }

    /// Returns where the file lies, if it has a path.
    pub fn path(&self) -> Option<&Path> {
        path_in(&self.place)
    }

    /// Looks at the file: what it is, and what it is to be called here.
    ///
    /// # Errors
    ///
    /// As [`Card::read`]; [`Trouble::NotAFile`] if it is no plain one.
    ///
    /// # Blocking
    ///
    /// Reads the header and a little of the end.
    pub fn look(self, offers: &[Offer]) -> Result<(Brought, Card), Trouble> {
        let file_name = clean(&self.file_name, NAME_BYTES_MAX);
        let path = path_of(&self.place, self.held.as_deref(), &file_name)?;
        let (file_bytes, modified_ms) = stamp(&path)?;

        let gguf = Gguf::open(&path)?;
        let card = named(Card::of(&gguf)?, &file_name);
        let known = KnownModel {
            id: name_of(&path, &gguf, offers)?,
            place: self.place,
            file_name,
            file_bytes,
            modified_ms,
            sha256: None,
        };

        let held = self.held;
        Ok((Brought { known, held }, card))
    }
}

impl Brought {
    /// Returns one that is remembered: where it has no path, it has still to be opened.
    pub fn remembered(known: KnownModel) -> Self {
        Self { known, held: None }
    }

    /// Returns where it lies, if that is a path.
    pub fn lies_at(&self) -> Option<&Path> {
        path_in(&self.known.place)
    }

    /// Returns a path to the file as it was brought.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Vanished`] if it is not there, or its address has not been opened since the app was started
    /// - [`Trouble::Changed`] if it is another one
    pub fn unchanged_path(&self) -> Result<PathBuf, Trouble> {
        let KnownModel {
            place, file_name, ..
        } = &self.known;
        let path = path_of(place, self.held.as_deref(), file_name)?;

        match stamp(&path) {
            Ok(stamp) if stamp == (self.known.file_bytes, self.known.modified_ms) => Ok(path),
            Ok(_) => Err(Trouble::Changed {
                name: file_name.clone(),
            }),
            Err(_) => Err(vanished(file_name)),
        }
    }
}

/// Returns a path by which this process can open a file that was brought.
fn path_of(place: &Place, held: Option<&File>, file_name: &str) -> Result<PathBuf, Trouble> {
    match (place, held) {
        (Place::Path(path), _) => Ok(path.clone()),
        (Place::Address(_), Some(file)) => path_of_open(file),
        (Place::Address(_), None) => Err(vanished(file_name)),
    }
}

fn path_in(place: &Place) -> Option<&Path> {
    match place {
        Place::Path(path) => Some(path),
        Place::Address(_) => None,
    }
}

fn vanished(file_name: &str) -> Trouble {
    Trouble::Vanished {
        name: file_name.to_owned(),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();

    name.to_string_lossy().into_owned()
}

/// Names a model that does not name itself after its file.
fn named(card: Card, file_name: &str) -> Card {
    if card.name != "unnamed" {
        return card;
    }

    Card {
        name: file_name.trim_end_matches(".gguf").to_owned(),
        ..card
    }
}

/// Returns whether a file that is open can be opened once more, to be mapped and read in several places.
fn can_be_opened(file: &File) -> bool {
    let path = path_of_open(file);

    path.is_ok_and(|path| path.is_file() && File::open(path).is_ok())
}

/// Returns a path to a file that is open and may have none.
#[cfg(target_os = "linux")]
fn path_of_open(file: &File) -> Result<PathBuf, Trouble> {
    descriptor_path(file)
}

#[cfg(target_os = "android")]
fn path_of_open(file: &File) -> Result<PathBuf, Trouble> {
    descriptor_path(file)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn descriptor_path(file: &File) -> Result<PathBuf, Trouble> {
    use std::os::fd::AsRawFd;

    Ok(format!("/proc/self/fd/{}", file.as_raw_fd()).into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn path_of_open(_file: &File) -> Result<PathBuf, Trouble> {
    Err(Trouble::Unfit {
        detail: "this system gives open files no path".into(),
    })
}

/// Returns a file's length and when it was changed last.
fn stamp(path: &Path) -> Result<(u64, u64), Trouble> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Trouble::NotAFile);
    }
    let modified = metadata.modified().ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());

    Ok((metadata.len(), modified_ms.unwrap_or(0)))
}

/// Returns what a file is to be called: the name of the model that is offered with just so many bytes, until its hash
/// says otherwise; else the SHA-256 of its length, header and end, which are read at once, where the whole may take
/// minutes.
fn name_of(path: &Path, gguf: &Gguf, offers: &[Offer]) -> Result<ModelId, Trouble> {
    let file_bytes = gguf.file_bytes();
    if let Some(offer) = offers
        .iter()
        .find(|offer| offer.card.file_bytes == file_bytes)
    {
        return Ok(offer.id.clone());
    }

    let mut file = File::open(path)?;
    let mut hasher = Sha256::new_with_prefix(file_bytes.to_le_bytes());
    let header_bytes = gguf.data_start().min(HEADER_BYTES_MAX);
    io::copy(&mut (&mut file).take(header_bytes), &mut hasher)?;
    file.seek(SeekFrom::Start(file_bytes.saturating_sub(END_BYTES)))?;
    io::copy(&mut (&mut file).take(END_BYTES), &mut hasher)?;

    Ok(ModelId(hex(hasher)))
}

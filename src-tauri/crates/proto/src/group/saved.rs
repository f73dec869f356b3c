//! What a phone must not forget: whom it obeyed last, who belongs, whom it blocked.

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::roster::{Roster, Term};
use crate::PeerId;

/// Phones blocked at most. More than anyone blocks by hand.
pub const BLOCKED_MAX: usize = 64;

/// Written in front; a file of another version is refused, not guessed at.
const SAVED_VERSION: u16 = 1;

/// What outlives a restart.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The group that the phone is in.
    pub membership: Option<SavedPlace>,
    /// Phones that it does not want to hear of.
    pub blocked: Bounded<PeerId, BLOCKED_MAX>,
}

/// A place in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPlace {
    /// The highest term obeyed or led.
    pub accepted: Term,
    /// The roster held.
    pub roster: Roster,
}

/// Why a saved state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Written by another version of the app.
    #[error("saved by version {theirs}, this app reads {SAVED_VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// Not what this version writes.
    #[error("the saved group is damaged")]
    Damaged,
}

impl Saved {
    /// Writes the state for the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = SAVED_VERSION.to_le_bytes().to_vec();

        postcard::to_extend(self, bytes).expect("no map of unknown length in it")
    }

    /// Reads what [`Saved::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// - [`SavedError::Version`] if another version wrote it
    /// - [`SavedError::Damaged`] if it cannot be read, or its roster is not whole
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedError> {
        let (version, rest) = bytes.split_first_chunk().ok_or(SavedError::Damaged)?;
        let theirs = u16::from_le_bytes(*version);
        if theirs != SAVED_VERSION {
            return Err(SavedError::Version { theirs });
        }

        let saved: Self = postcard::from_bytes(rest).map_err(|_| SavedError::Damaged)?;
        match &saved.membership {
            Some(place) if place.roster.check().is_err() => Err(SavedError::Damaged),
            Some(_) | None => Ok(saved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::bounded::{Addresses, Name};
    use crate::group::roster::GroupId;

    #[test]
    fn a_saved_group_reads_back() {
        assert_eq!(Saved::from_bytes(&saved().to_bytes()), Ok(saved()));
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused() {
        let bytes = saved().to_bytes();

        assert_eq!(Saved::from_bytes(&bytes[..20]), Err(SavedError::Damaged));
        assert_eq!(
            Saved::from_bytes(&[9, 0, 0]),
            Err(SavedError::Version { theirs: 9 })
        );
    }

    fn saved() -> Saved {
        let (me, name) = (PeerId([1; 32]), Name::tidy("Anna's phone"));
        let roster = Roster::found(GroupId([7; 16]), me, name, Addresses::default());

        Saved {
            membership: Some(SavedPlace {
                accepted: roster.version.term,
                roster,
            }),
            blocked: [PeerId([2; 32])].into_iter().collect(),
        }
    }
}

//! Who a phone is: an Ed25519 key that the app keeps.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use libp2p::identity::{self, Keypair, ed25519};
use proto::PeerId;

/// Name of the key's file in a phone's data folder.
const KEY_FILE: &str = "identity.key";

/// Why a phone's key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot read or write the identity key {path}")]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no identity key; move it away to get a new one")]
    Malformed {
        /// The key's file.
        path: PathBuf,
    },
}

/// Reads the key kept in `folder`, or makes one and keeps it there, readable by its owner only.
///
/// # Errors
///
/// - [`IdentityError::Io`] if the file cannot be read or written
/// - [`IdentityError::Malformed`] if it holds something else
pub fn load_or_create(folder: &Path) -> Result<Keypair, IdentityError> {
    let path = folder.join(KEY_FILE);
    let io = |source| IdentityError::Io {
        path: path.clone(),
        source,
    };

    match fs::read(&path) {
        Ok(mut bytes) => ed25519::SecretKey::try_from_bytes(&mut bytes)
            .map(|secret| ed25519::Keypair::from(secret).into())
            .map_err(|_| IdentityError::Malformed { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let keypair = ed25519::Keypair::generate();
            write_private(&path, keypair.secret().as_ref()).map_err(io)?;
            Ok(keypair.into())
        }
        Err(error) => Err(io(error)),
    }
}

/// Returns the name that the state machines know a libp2p peer by; `None` if its key is not Ed25519.
pub fn peer_id(peer: &libp2p::PeerId) -> Option<PeerId> {
    let key = identity::PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;

    key.try_into_ed25519()
        .ok()
        .map(|key| PeerId(key.to_bytes()))
}

/// Returns the libp2p peer of a name; `None` if the bytes are no point of the curve.
pub fn libp2p_peer(peer: PeerId) -> Option<libp2p::PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;

    Some(identity::PublicKey::from(key).to_peer_id())
}

#[cfg(unix)]
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(not(unix))]
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_the_same_and_is_private() {
        let folder = tempfile::tempdir().expect("a folder for the key");

        let first = load_or_create(folder.path()).expect("the key is made");
        let second = load_or_create(folder.path()).expect("the key is read");

        assert_eq!(first.public(), second.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = fs::metadata(folder.path().join(KEY_FILE)).expect("the key is kept");
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn names_go_both_ways() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();

        let name = peer_id(&peer).expect("an Ed25519 key");

        assert_eq!(libp2p_peer(name), Some(peer));
    }

    #[test]
    fn a_broken_key_file_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder for the key");
        fs::write(folder.path().join(KEY_FILE), b"short").expect("written");

        let error = load_or_create(folder.path()).expect_err("no key in it");

        assert!(matches!(error, IdentityError::Malformed { .. }));
    }
}

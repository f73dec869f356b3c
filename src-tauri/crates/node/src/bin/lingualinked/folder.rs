//! Where a phone keeps what is its own, when nobody says where.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proto::group::Name;

/// Our folder in the system's own for the data of programs.
const FOLDER: &str = "lingualinked";

/// Name of the socket in a phone's data folder.
pub const SOCKET: &str = "phone.sock";

/// Name of the file in it that holds the phone's name, as UTF-8.
const NAME: &str = "name";

/// Bytes of that file that are read: more than any name has.
const NAME_FILE_BYTES_MAX: u64 = 1 << 10;

/// What a phone is called that nobody has named.
const UNNAMED: &str = "phone";

/// Returns the folder that was said, or the one that phones have by default.
///
/// # Errors
///
/// If nothing was said and the system has no folder for this user.
pub fn data_folder(said: Option<&Path>) -> Result<PathBuf> {
    match said {
        Some(folder) => Ok(folder.to_owned()),
        None => dirs::data_dir()
            .map(|data| data.join(FOLDER))
            .context("this system has no data folder for you: say one with --data FOLDER"),
    }
}

/// Makes a data folder that only its owner may look into.
///
/// # Errors
///
/// If it cannot be made.
pub fn make(data: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);

    builder
        .create(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()))
}

/// Returns the local address that was said, or that of the phone in the default folder.
///
/// # Errors
///
/// As [`data_folder`].
pub fn local_address(said: Option<&str>) -> Result<String> {
    match said {
        Some(address) => Ok(address.to_owned()),
        None => Ok(format!(
            "/unix{}",
            data_folder(None)?.join(SOCKET).display()
        )),
    }
}

/// Returns what the phone is called: as said, as it was called last, or "phone"; remembers it.
///
/// # Errors
///
/// If it cannot be remembered.
pub fn name(data: &Path, said: Option<&str>) -> Result<String> {
    let Some(said) = said else {
        return Ok(last_name(data).unwrap_or_else(|| UNNAMED.into()));
    };
    let name = Name::tidy(said);
    remember_name(data, &name)?;

    Ok(name.to_string())
}

/// Remembers what the phone is called.
///
/// # Errors
///
/// If the file cannot be written.
pub fn remember_name(data: &Path, name: &Name) -> Result<()> {
    let file = data.join(NAME);

    std::fs::write(&file, name.as_str()).with_context(|| format!("cannot write {}", file.display()))
}

fn last_name(data: &Path) -> Option<String> {
    use std::io::Read;

    let file = std::fs::File::open(data.join(NAME)).ok()?;
    let mut name = String::new();
    file.take(NAME_FILE_BYTES_MAX)
        .read_to_string(&mut name)
        .ok()?;

    Some(Name::tidy(&name).to_string())
}

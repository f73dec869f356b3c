//! The database as one file: opened, checked, set aside if it is damaged, emptied of what was deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::HistoryError;
use super::schema::MIGRATIONS;

/// How long a start waits for another process that has the database: one that was killed may still be on its way out. A guess.
const IN_USE_WAIT: Duration = Duration::from_secs(2);

/// The database. Everything in it blocks for as long as the disk takes; [`History`](super::History) gives it a thread.
///
/// No answer is under way in it but those that were begun since it was opened, because no other process can have it open.
#[derive(Debug)]
pub struct Archive {
    pub(super) connection: Connection,
    path: PathBuf,
    durability: Durability,
}

/// What opening found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The database was damaged and has been renamed to this; there is a new one in its place. A person should be told.
    pub set_aside: Option<PathBuf>,
    /// Answers that were being written when the app was killed; they are [ended](crate::api::AnswerOutcome::AppEnded), with the words that they
    /// had.
    pub n_left: usize,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The file system's cache. That outlives the app, but not a flat battery.
    Cached,
    /// The flash.
    Synced,
}

impl Archive {
    /// Opens the database, makes it if there is none, and ends the answers that were left under way.
    ///
    /// A damaged one is renamed to `NAME-damaged-NOW`, and a new one takes its place.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::Newer`] if a later version of the app wrote it; it stays as it is
    /// - [`HistoryError::InUse`] if another process has it open
    /// - [`HistoryError::File`] if its folder cannot be written to
    /// - [`HistoryError::StorageFull`], [`HistoryError::Database`] if SQLite says so
    pub fn open(path: &Path, now_unix_ms: u64) -> Result<(Self, Found), HistoryError> {
        make_private(path)?;
        match Self::open_whole(path) {
            Err(HistoryError::Damaged) => {
                let aside = set_aside(path, now_unix_ms)?;
                tracing::error!(?aside, "The history is damaged, and was set aside");
                make_private(path)?;
                let (archive, found) = Self::open_whole(path)?;
                let set_aside = Some(aside);
                Ok((archive, Found { set_aside, ..found }))
            }
            opened => opened,
        }
    }

    fn open_whole(path: &Path) -> Result<(Self, Found), HistoryError> {
        let opened = Self::connect(path).and_then(|mut archive| {
            let n_left = match archive.end_left(None) {
                // They are ended once there is room, before anything else is asked there.
                Err(HistoryError::StorageFull) => 0,
                left => left?,
            };
            Ok((archive, n_left))
        });
        let (archive, n_left) = opened.map_err(|error| when_opening(error, path))?;
        let set_aside = None;
        Ok((archive, Found { set_aside, n_left }))
    }

    fn connect(path: &Path) -> Result<Self, HistoryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(IN_USE_WAIT)?;
        // No other process can open it, and so no index of the log has to be shared through a third file.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
        if pragma(&connection, "auto_vacuum")? != INCREMENTAL {
            // To say it again would write to a file that is perhaps a later version's.
            connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        }
        connection.execute_batch(PRAGMAS)?;
        MIGRATIONS.to_latest(&mut connection)?;
        check(&connection)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            durability: Durability::Synced,
        })
    }

    /// Returns what conversations take of the storage: the file, and its log.
    ///
    /// # Errors
    ///
    /// [`HistoryError::File`] if the file system does not say.
    pub fn bytes(&self) -> Result<u64, HistoryError> {
        let log = fs::metadata(beside(&self.path, "-wal")).map_or(0, |log| log.len());
        let file = fs::metadata(&self.path).map_err(|source| file_error(&self.path, source))?;
        Ok(file.len() + log)
    }

    /// Begins a transaction that is on the flash when it is committed: everything that a person did, and an answer's end.
    pub(super) fn begin_synced(&mut self) -> Result<Transaction<'_>, HistoryError> {
        self.await_commits(Durability::Synced)?;
        Ok(self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// Says what the commits that follow wait for.
    pub(super) fn await_commits(&mut self, durability: Durability) -> Result<(), HistoryError> {
        if self.durability != durability {
            self.connection.execute_batch(match durability {
                Durability::Cached => "PRAGMA synchronous = NORMAL",
                Durability::Synced => "PRAGMA synchronous = FULL",
            })?;
            self.durability = durability;
        }
        Ok(())
    }

    /// Takes what was deleted out of the files, and gives their room back.
    ///
    /// `secure_delete` has overwritten it with zeros, but only in newer copies of its pages, which are in the log, as may be the old
    /// ones. The checkpoint writes the newer copies over the old ones in the file, and cuts the log to nothing. What the flash itself
    /// keeps of blocks that it has replaced is out of reach; phones encrypt it.
    pub(super) fn erase(&self) -> Result<(), HistoryError> {
        // It frees a page for each row that is asked of it.
        let mut vacuum = self
            .connection
            .prepare_cached("PRAGMA incremental_vacuum")?;
        let mut freed = vacuum.query(())?;
        while freed.next()?.is_some() {}
        self.connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(())
    }

    /// [Erases](Self::erase) what has just been deleted. On a full disk that cannot be: it is gone from what is shown, and
    /// from the files with the next that is deleted, or when the database is closed.
    pub(super) fn erase_deleted(&self) {
        if let Err(error) = self.erase() {
            tracing::error!(%error, "What was deleted is still in the log");
        }
    }
}

/// `auto_vacuum`: pages that are free are given back when we ask for it. To be set before the first table is made.
const INCREMENTAL: i64 = 2;

/// - `synchronous`: see [`Durability`]. Both keep the database whole when the battery goes.
/// - `trusted_schema`, `cell_size_check`: a file that somebody tampered with can do less.
const PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA secure_delete = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
";

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Reads all pages once, but compares no index with its table.
fn check(connection: &Connection) -> Result<(), HistoryError> {
    let verdict: String = connection.query_one("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        return Err(HistoryError::Damaged);
    }
    Ok(())
}

/// While it is opened, whatever the surroundings do not explain is the file's fault: then tables are missing, or not ours.
fn when_opening(error: HistoryError, path: &Path) -> HistoryError {
    let HistoryError::Database(source) = error else {
        return error;
    };
    // Listed are those that the file does not cause.
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => HistoryError::InUse {
            path: path.to_owned(),
        },
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
        ) => HistoryError::Database(source),
        _ => HistoryError::Damaged,
    }
}

/// Makes the folder and an empty file that only this user can read. SQLite gives its log the file's mode.
fn make_private(path: &Path) -> Result<(), HistoryError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| file_error(folder, source))?;
    }
    open_private(path).map_err(|source| file_error(path, source))
}

#[cfg(unix)]
fn open_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    const MODE: u32 = 0o600;
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))
}

#[cfg(not(unix))]
fn open_private(path: &Path) -> io::Result<()> {
    // A user's folder is the user's own there.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map(drop)
}

/// Renames the database and its log, so that a tool that repairs databases finds them as SQLite left them.
fn set_aside(path: &Path, now_unix_ms: u64) -> Result<PathBuf, HistoryError> {
    let aside = beside(path, &format!("-damaged-{now_unix_ms}"));
    let (log, log_aside) = (beside(path, "-wal"), beside(&aside, "-wal"));
    if log.exists() {
        fs::rename(&log, &log_aside).map_err(|source| file_error(&log, source))?;
    }
    fs::rename(path, &aside).map_err(|source| file_error(path, source))?;
    Ok(aside)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn file_error(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::File {
        path: path.to_owned(),
        source,
    }
}

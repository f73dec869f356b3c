//! A database that nobody has open.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Opens a database to be read, and checks all of it: every page, every index against its table, every key against what it points
/// at.
pub fn open_checked(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).expect("opened");
    let verdict: String = connection
        .query_one("PRAGMA integrity_check", (), |row| row.get(0))
        .expect("checked");
    assert_eq!(verdict, "ok");
    let orphans = connection
        .prepare("PRAGMA foreign_key_check")
        .and_then(|mut check| check.exists(()))
        .expect("checked");
    assert!(!orphans, "a key points at nothing");
    connection
}

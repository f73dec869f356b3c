//! One app for each data folder: a second start leads to the app that runs, and takes its link there.
//!
//! ```text
//!  second start ── `app.lock` is taken ──► links over `app.sock` ──► the app that runs: shows its window, takes the links
//!       │                                                                │
//!     ends ◄──────────────────────────── `done` ─────────────────────────┘
//! ```
//!
//! Who holds the lock is first; the system lets go of it however that app ends, and what is left of the socket is then
//! swept away. Not by D-Bus, as plugins for this do it: there need not be one, and several phones on one machine, each
//! with a data folder of its own, are to stay several.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::is_link;

const LOCK: &str = "app.lock";
const SOCKET: &str = "app.sock";

/// What the app that runs says when it has taken over.
const DONE: &[u8] = b"done";

/// How long the app that runs is waited for: it may be opening its window, or ending. On a quiet machine either takes
/// less than a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever rings may take to say why.
const RING_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the app that runs is rung for again.
const RETRY: Duration = Duration::from_millis(50);

/// Bytes of all links together: an invite has less than 300.
const LINKS_BYTES_MAX: u64 = 4096;

/// What a start has come to.
#[derive(Debug)]
pub enum Start {
    /// No other app has the data folder.
    First(Instance),
    /// One has, and has taken over: there is nothing left to do.
    HandedOver,
}

/// The data folder is this app's, until the process ends.
#[derive(Debug)]
pub struct Instance {
    lock: File,
    /// Where others ring; `None` where there can be no socket, because the folder's path is too long for one.
    bell: Option<UnixListener>,
}

/// Why an app can neither be the first nor lead to it.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The data folder cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// What of it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another app has the data folder, and does not answer.
    #[error(
        "LinguaLinked is open already, with the data folder {}, and does not answer: end it first", data.display()
    )]
    Silent {
        /// The folder.
        data: PathBuf,
    },
}

/// Takes the data folder, or leads to the app that has it, with links that this one was opened by.
///
/// # Errors
///
/// Any [`InstanceError`].
///
/// # Blocking
///
/// Up to 5 s, if another app has the folder.
pub fn start(data: &Path, links: &[String]) -> Result<Start, InstanceError> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = lock(data)? {
            return Ok(Start::First(Instance::new(data, lock)));
        }
        if ring(data, links).is_ok() {
            return Ok(Start::HandedOver);
        }

        if Instant::now() >= until {
            let data = data.to_owned();
            return Err(InstanceError::Silent { data });
        }
        thread::sleep(RETRY);
    }
}

impl Instance {
    fn new(data: &Path, lock: File) -> Self {
        let path = data.join(SOCKET);
        let _ = fs::remove_file(&path); // of an app that was killed; there is none as a rule
        let bell = UnixListener::bind(&path);
        let bell = bell.inspect_err(|error| tracing::warn!(%error, "No other start will be heard"));

        Self {
            lock,
            bell: bell.ok(),
        }
    }

    /// Tells of each further start, with its links, until the process ends. `on_start` returns whether the app takes over;
    /// one that is about to end does not, and the other start waits until it has.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn listen(self, on_start: impl Fn(Vec<String>) -> bool + Send + 'static) -> io::Result<()> {
        let Self { lock, bell } = self;
        std::mem::forget(lock); // held until the process ends
        let Some(bell) = bell else {
            return Ok(());
        };
        let listen = move || {
            for caller in bell.incoming() {
                match caller.and_then(|caller| answer(caller, &on_start)) {
                    Ok(()) => {}
                    Err(error) => tracing::warn!(%error, "Another start has not said why"),
                }
            }
        };

        thread::Builder::new()
            .name("instance".into())
            .spawn(listen)
            .map(drop)
    }
}

/// Hears why somebody rings.
fn answer(mut caller: UnixStream, on_start: &impl Fn(Vec<String>) -> bool) -> io::Result<()> {
    caller.set_read_timeout(Some(RING_TIMEOUT))?;
    caller.set_write_timeout(Some(RING_TIMEOUT))?;
    let mut text = String::new();
    (&caller).take(LINKS_BYTES_MAX).read_to_string(&mut text)?;

    let links = text.lines().filter(|line| is_link(line));
    match on_start(links.map(str::to_owned).collect()) {
        true => caller.write_all(DONE),
        false => Ok(()),
    }
}

/// Rings for the app that runs, and waits until it has taken over.
fn ring(data: &Path, links: &[String]) -> io::Result<()> {
    let mut app = UnixStream::connect(data.join(SOCKET))?;
    app.set_read_timeout(Some(PATIENCE))?;
    app.write_all(links.join("\n").as_bytes())?;
    app.shutdown(Shutdown::Write)?;

    let mut said = Vec::new();
    app.take(LINKS_BYTES_MAX).read_to_end(&mut said)?;
    match said == DONE {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Takes the lock, if nobody has it.
fn lock(data: &Path) -> Result<Option<File>, InstanceError> {
    const MODE: u32 = 0o600;
    let path = data.join(LOCK);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&path)
        .map_err(|source| file_error(&path, source))?;

    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(file_error(&path, source)),
    }
}

fn file_error(path: &Path, source: io::Error) -> InstanceError {
    InstanceError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LINK: &str = "lingualinked://join?v=1";

    #[test]
    fn a_second_start_leads_to_the_first_and_takes_its_links_there() {
        let data = tempfile::tempdir().expect("there is room for a folder");
        let rung = first(data.path());

        let links = [LINK.to_owned(), "https://example.org".to_owned()];
        let second = start(data.path(), &links).expect("the first answers");
        assert!(matches!(second, Start::HandedOver), "{second:?}");
        assert_eq!(rung.recv(), Ok(vec![LINK.to_owned()]));

        let third = start(data.path(), &[]).expect("the first answers");
        assert!(matches!(third, Start::HandedOver), "{third:?}");
        assert_eq!(rung.recv(), Ok(Vec::new()));
    }

    #[test]
    fn who_has_another_folder_is_another_phone() {
        let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, other) = (one.expect("a folder"), other.expect("a folder"));
        let _rung = first(one.path());

        let start = start(other.path(), &[]).expect("it is free");

        assert!(matches!(start, Start::First(_)), "{start:?}");
    }

    #[test]
    fn what_a_killed_app_has_left_is_no_hindrance() {
        let data = tempfile::tempdir().expect("there is room for a folder");
        let killed = start(data.path(), &[]).expect("it is free");
        drop(killed); // as the system does; the socket's file stays
        assert!(data.path().join(SOCKET).exists());

        let start = start(data.path(), &[]).expect("it is free again");

        assert!(matches!(start, Start::First(_)), "{start:?}");
    }

    #[test]
    fn one_that_rings_and_says_nothing_holds_nobody_up() {
        let data = tempfile::tempdir().expect("there is room for a folder");
        let rung = first(data.path());
        let silent = UnixStream::connect(data.path().join(SOCKET)).expect("it listens");

        let second = start(data.path(), &[LINK.to_owned()]).expect("the first answers");

        assert!(matches!(second, Start::HandedOver), "{second:?}");
        assert_eq!(rung.recv(), Ok(vec![LINK.to_owned()]));
        drop(silent);
    }

    #[test]
    fn one_that_is_about_to_end_takes_nothing_over() {
        let data = tempfile::tempdir().expect("there is room for a folder");
        let rung = first(data.path());
        drop(rung);

        let second = start(data.path(), &[LINK.to_owned()]);

        assert!(matches!(second, Err(InstanceError::Silent { .. })));
    }

    /// Addresses of sockets have 107 bytes at the most.
    #[test]
    fn where_there_can_be_no_socket_a_second_start_is_refused() {
        let data = tempfile::tempdir().expect("there is room for a folder");
        let deep = data.path().join("a".repeat(100));
        fs::create_dir(&deep).expect("there is room for a folder");

        let first = start(&deep, &[]).expect("it is free");
        let second = start(&deep, &[]);

        assert!(matches!(first, Start::First(_)), "{first:?}");
        assert!(matches!(second, Err(InstanceError::Silent { .. })));
    }

    fn first(data: &Path) -> mpsc::Receiver<Vec<String>> {
        let (on_start, rung) = mpsc::channel();
        let Ok(Start::First(first)) = start(data, &[]) else {
            panic!("nobody else has it");
        };
        let tell = move |links| on_start.send(links).is_ok();

        first.listen(tell).expect("a thread is started");
        rung
    }
}

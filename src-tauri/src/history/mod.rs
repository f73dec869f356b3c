//! What was said on this phone, and what its person decided about it: one SQLite database, which only this phone has.
//!
//! An [`Archive`] is the database, and blocks. [`History`] gives it a thread and takes jobs for it, from any task:
//!
//! ```text
//!  commands, answers ──run(|archive| …)──► queue ──► thread: Archive ──► history.db, history.db-wal
//!          ▲                                                │
//!          └───────────────── result ───────────────────────┘
//! ```
//!
//! What is promised:
//!
//! - **A crash loses nothing that was appended.** The app may be killed at any moment; the answer that was being written then is
//!   [ended](crate::api::AnswerOutcome::AppEnded) at the next start, with its words, and nothing else is touched
//!   (`tests/crash.rs`, and the whole app in `tests/windows/crash.rs`). If the phone itself dies, the last seconds of that answer
//!   may be lost (see [`answers`]).
//! - **What is deleted is gone from the files** when the call returns ([`Archive::delete`]), or, on a full disk, later.
//! - **No file is given up.** A database of a later version is refused, a damaged one renamed ([`Archive::open`]).
//! - **Every text has a limit** ([`limits`]).

pub mod answers;
pub mod archive;
mod conversations;
mod error;
pub mod limits;
pub mod preferences;
mod schema;
mod search;
#[cfg(test)]
mod tests;
mod title;

use std::io;
use std::path::Path;
use std::thread;

use tokio::sync::{mpsc, oneshot};

pub use answers::Begun;
pub use archive::{Archive, Found};
pub use error::HistoryError;
pub use preferences::{KnownModel, Place};

/// Jobs that wait. More askers than this wait themselves; each has one job at a time.
const QUEUE: usize = 64;

/// The database on a thread of its own. Clones share it; it is closed after the last is dropped and all jobs are done, or by
/// [`History::close`].
#[derive(Debug, Clone)]
pub struct History {
    orders: mpsc::Sender<Order>,
}

enum Order {
    Do(Box<dyn FnOnce(&mut Archive) + Send>),
    Close(oneshot::Sender<()>),
}

impl History {
    /// Opens the database, and starts its thread.
    ///
    /// # Errors
    ///
    /// Those of [`Archive::open`], and [`HistoryError::File`] if no thread can be started.
    ///
    /// # Blocking
    ///
    /// As long as it takes to read the file once: see [`Archive::open`].
    pub fn open(path: &Path, now_unix_ms: u64) -> Result<(Self, Found), HistoryError> {
        let (archive, found) = Archive::open(path, now_unix_ms)?;
        let (orders, inbox) = mpsc::channel(QUEUE);
        spawn(archive, inbox).map_err(|source| HistoryError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok((Self { orders }, found))
    }

    /// Has the thread do something, after all that was asked before: `run(move |archive| archive.rename(&id, &title))`.
    ///
    /// # Errors
    ///
    /// Those of the job, and [`HistoryError::Gone`] if an earlier one panicked, or the database was closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the job is queued, nothing happens; after that, the job is done all the same.
    pub async fn run<T, J>(&self, job: J) -> Result<T, HistoryError>
    where
        T: Send + 'static,
        J: FnOnce(&mut Archive) -> Result<T, HistoryError> + Send + 'static,
    {
        let (result, done) = oneshot::channel();
        let job = Order::Do(Box::new(move |archive| {
            let _ = result.send(job(archive)); // nobody may wait for it any more
        }));
        self.orders
            .send(job)
            .await
            .map_err(|_| HistoryError::Gone)?;
        done.await.map_err(|_| HistoryError::Gone)?
    }

    /// Closes the database after all that was asked before, whoever else holds it, and waits until it is: then it may be
    /// opened again.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();

        if self.orders.send(Order::Close(closed)).await.is_ok() {
            let _ = done.await; // it was closed by somebody else, or a job panicked
        }
    }
}

fn spawn(mut archive: Archive, mut inbox: mpsc::Receiver<Order>) -> io::Result<()> {
    let carry_out = move || {
        while let Some(order) = inbox.blocking_recv() {
            match order {
                Order::Do(job) => job(&mut archive),
                Order::Close(closed) => {
                    drop(archive);
                    let _ = closed.send(()); // nobody may wait for it any more
                    return;
                }
            }
        }
    };
    thread::Builder::new()
        .name("history".into())
        .spawn(carry_out)
        .map(drop)
}

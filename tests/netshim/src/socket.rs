//! The command socket: a [`Command`] as one line of JSON in, a [`Reply`] as one line out.
//!
//! A client may send any number of lines over one connection. A line that is no command is refused
//! and the connection goes on.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::command::{Command, Reply};
use crate::net::Net;

/// Where the `netshim` program listens and asks unless it is told otherwise.
pub const DEFAULT_PATH: &str = "/run/netshim.sock";

/// The longest line taken: a partition of [`crate::switch::PHONES_MAX`] phones takes under 1 kB.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A listening socket; it is closed and its file removed when dropped.
#[derive(Debug)]
pub struct CommandSocket {
    path: PathBuf,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another network listens there.
    #[error("another network listens at {0}")]
    InUse(PathBuf),
    /// The socket could not be made or used.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The other side did not answer with a reply.
    #[error("{path} does not answer as a network would")]
    NoReply {
        /// Where.
        path: PathBuf,
        /// What is wrong with the line.
        source: serde_json::Error,
    },
}

/// Sends one command and returns its reply.
///
/// # Errors
///
/// - [`SocketError::Io`] if nothing listens there, or it went away
/// - [`SocketError::NoReply`] if the answer is not a reply
pub fn ask(path: &Path, command: &Command) -> Result<Reply, SocketError> {
    let failed = |what| {
        move |source| SocketError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    };

    let mut stream = UnixStream::connect(path).map_err(failed("connect to"))?;
    let line = serde_json::to_string(command).expect("a command has no map with odd keys");
    writeln!(stream, "{line}").map_err(failed("write to"))?;

    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut answer).map_err(failed("read from"))?;
    serde_json::from_str(&answer).map_err(|source| SocketError::NoReply {
        path: path.to_owned(),
        source,
    })
}

impl CommandSocket {
    /// Listens at `path` and applies what it hears to `net`, while that lives.
    ///
    /// # Errors
    ///
    /// - [`SocketError::InUse`] if something listens there; a file that a dead one left is replaced
    /// - [`SocketError::Io`] if the system refuses
    pub fn listen(path: &Path, net: &Arc<Net>) -> Result<Self, SocketError> {
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse(path.to_owned()));
        }
        let failed = |what| {
            move |source| SocketError::Io {
                what,
                path: path.to_owned(),
                source,
            }
        };

        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("protect"))?;

        let stop = EventFd::new().map_err(|error| failed("watch")(error.into()))?;
        let stop = Arc::new(stop);
        let (stopped, net) = (Arc::clone(&stop), Arc::downgrade(net));
        let thread = thread::spawn(move || accept_all(&listener, &stopped, &net));
        Ok(Self {
            path: path.to_owned(),
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for CommandSocket {
    fn drop(&mut self) {
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It panics only with a bug, and the message has been printed.
            let _ = thread.join();
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "Socket file stays behind");
        }
    }
}

fn accept_all(listener: &UnixListener, stop: &EventFd, net: &Weak<Net>) {
    loop {
        let mut fds = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue; // a signal
        }
        if fds[0].any().unwrap_or(true) {
            return;
        }

        match listener.accept() {
            Ok((stream, _)) => {
                let net = Weak::clone(net);
                thread::spawn(move || {
                    if let Err(error) = converse(stream, &net) {
                        tracing::debug!(%error, "Connection ended");
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "Connection not accepted"),
        }
    }
}

/// Answers line by line until the client or the network is gone.
fn converse(stream: UnixStream, net: &Weak<Net>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();

    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Some(net) = net.upgrade() else {
            return Ok(());
        };
        let reply = serde_json::to_string(&answer(&line, &net)).map_err(io::Error::other)?;
        writeln!(writer, "{reply}")?;
    }
}

fn answer(line: &str, net: &Net) -> Reply {
    let reply = match serde_json::from_str(line) {
        Ok(command) => net.apply(command).map_err(|error| error.to_string()),
        Err(error) => Err(format!("no command: {error}")),
    };
    reply.unwrap_or_else(|error| Reply::Refused { error })
}

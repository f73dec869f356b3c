//! Who may tell a running phone what to do: whoever wrote its command line, and other programs of the same user.
//!
//! The first speaks on standard input. The others connect to a Unix socket in the phone's data folder, which only
//! its owner may open: they give the same orders, one JSON object a line, and read the same lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::lines::{Line, Order};

/// Name of the socket in a phone's data folder.
const SOCKET: &str = "phone.sock";

/// What is said and not yet heard. Each is a tap or a line of a script.
const SAID_QUEUE: usize = 64;

/// Lines that wait to be read by a program: those of a long answer. One that reads none is sent away.
const LINE_QUEUE: usize = 4096;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// Standard input.
    Screen,
    /// A program on the socket, counted.
    Local(u64),
}

/// What somebody says.
#[derive(Debug)]
pub enum Said {
    /// A program has come, and reads lines from the other end of this.
    Came(mpsc::Sender<Line>),
    /// An order.
    Order(Order),
    /// A line that is no order.
    Nonsense(String),
    /// What a person typed.
    Typed(String),
    /// They say no more.
    Left,
}

/// Hears everybody.
#[derive(Debug)]
pub struct Askers {
    said: mpsc::Receiver<(Asker, Said)>,
    socket: PathBuf,
}

impl Askers {
    /// Starts to listen, on standard input for JSON or for what a person types.
    ///
    /// # Errors
    ///
    /// If there can be no socket in `data`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(data: &Path, json: bool) -> Result<Self> {
        let data = std::path::absolute(data).context("there is no working folder")?;
        let socket = data.join(SOCKET);
        let listener = listen(&socket)
            .with_context(|| format!("cannot open the socket {}", socket.display()))?;
        let (said_in, said) = mpsc::channel(SAID_QUEUE);

        tokio::spawn(hear_screen(json, said_in.clone()));
        tokio::spawn(receive(listener, said_in));
        Ok(Self { said, socket })
    }

    /// Returns the address that programs of the same user connect to.
    pub fn local_address(&self) -> String {
        format!("/unix{}", self.socket.display())
    }

    /// Waits for what is said next.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> (Asker, Said) {
        match self.said.recv().await {
            Some(said) => said,
            None => std::future::pending().await, // the socket's task ends with the program
        }
    }
}

impl Drop for Askers {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket); // the folder may be gone
    }
}

/// Makes a socket that only its owner may open, in place of one that a crash has left.
///
/// It gets its name when it is private already: there is no moment at which another user could open it.
fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    let new = socket.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, socket)?;

    Ok(listener)
}

async fn hear_screen(json: bool, said: mpsc::Sender<(Asker, Said)>) {
    let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');

    while let Ok(Some(line)) = input.next_segment().await {
        let heard = if json {
            order(&line)
        } else {
            Said::Typed(String::from_utf8_lossy(&line).trim().to_owned())
        };
        if said.send((Asker::Screen, heard)).await.is_err() {
            return;
        }
    }
    let _ = said.send((Asker::Screen, Said::Left)).await; // nobody may be left to hear it
}

async fn receive(listener: UnixListener, said: mpsc::Sender<(Asker, Said)>) {
    for n_came in 0.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Asker::Local(n_came), said.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "No more programs can connect");
                return;
            }
        }
    }
}

/// Carries orders and lines of one program, until it goes or is sent away.
async fn serve(stream: UnixStream, asker: Asker, said: mpsc::Sender<(Asker, Said)>) {
    let (read, mut write) = stream.into_split();
    let (lines_in, mut lines) = mpsc::channel(LINE_QUEUE);
    if said.send((asker, Said::Came(lines_in))).await.is_err() {
        return;
    }

    let orders = async {
        let mut input = BufReader::new(read).split(b'\n');
        while let Ok(Some(line)) = input.next_segment().await {
            if said.send((asker, order(&line))).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        while let Some(line) = lines.recv().await {
            if write.write_all(&line.to_json()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = orders => {}
        () = answers => {}
    }
    let _ = said.send((asker, Said::Left)).await; // nobody may be left to hear it
}

fn order(line: &[u8]) -> Said {
    match serde_json::from_slice(line) {
        Ok(order) => Said::Order(order),
        Err(error) => Said::Nonsense(format!("not a command: {error}")),
    }
}

//! Who may tell a running phone what to do: whoever wrote its command line, and other programs of the same user.
//!
//! The first speaks on standard input. The others connect to a Unix socket in the phone's data folder, which only
//! its owner may open: they give the same orders, one JSON object a line, and read the same lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::folder::SOCKET;
use crate::lines::{Line, Order};
use crate::terminal::{Screen, Typed};

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
    /// What a person typed. They are heard again when it is their turn ([`Askers::give_turn`]).
    Typed(String),
    /// Ctrl-C, typed where nothing was being answered.
    Interrupt,
    /// They say no more.
    Left,
}

/// How standard input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Orders as JSON.
    Json,
    /// What a person, or a script that plays one, has typed.
    Lines,
    /// A person at a terminal.
    Terminal,
}

/// Hears everybody.
pub struct Askers {
    said: mpsc::Receiver<(Asker, Said)>,
    socket: PathBuf,
    /// Lets a person say the next thing: what they type during an answer waits for its end.
    turns: mpsc::Sender<()>,
    /// Whether they have said something since the last turn.
    owes_turn: bool,
    /// The terminal, until the face takes it.
    pub screen: Option<Screen>,
}

impl Askers {
    /// Starts to listen, on standard input and on the socket in `data`.
    ///
    /// # Errors
    ///
    /// If another phone uses `data`, there can be no socket in it, or the terminal cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(data: &Path, input: Input) -> Result<Self> {
        let data = std::path::absolute(data).context("there is no working folder")?;
        let socket = data.join(SOCKET);
        if UnixStream::connect(&socket).await.is_ok() {
            bail!(
                "a phone is running in {} already: give this one a folder of its own with --data",
                data.display()
            );
        }
        let listener = listen(&socket)
            .with_context(|| format!("cannot open the socket {}", socket.display()))?;
        let (said_in, said) = mpsc::channel(SAID_QUEUE);

        let (turns, turns_out) = mpsc::channel(1);
        let _ = turns.try_send(()); // there is room for one: the first line is awaited

        let mut screen = None;
        match input {
            Input::Json => drop(tokio::spawn(hear_orders(said_in.clone()))),
            Input::Lines => drop(tokio::spawn(hear_lines(turns_out, said_in.clone()))),
            Input::Terminal => screen = Some(hear_terminal(turns_out, said_in.clone())?),
        }
        tokio::spawn(receive(listener, said_in));
        Ok(Self {
            said,
            socket,
            turns,
            owes_turn: false,
            screen,
        })
    }

    /// Lets a person say the next thing, if they have said one.
    pub fn give_turn(&mut self) {
        if std::mem::take(&mut self.owes_turn) {
            let _ = self.turns.try_send(()); // they may say no more
        }
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
            Some(said) => {
                self.owes_turn |= matches!(said.1, Said::Typed(_));
                said
            }
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

async fn hear_orders(said: mpsc::Sender<(Asker, Said)>) {
    let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');

    while let Ok(Some(line)) = input.next_segment().await {
        if said.send((Asker::Screen, order(&line))).await.is_err() {
            return;
        }
    }
    let _ = said.send((Asker::Screen, Said::Left)).await; // nobody may be left to hear it
}

async fn hear_lines(mut turns: mpsc::Receiver<()>, said: mpsc::Sender<(Asker, Said)>) {
    let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');

    while turns.recv().await.is_some()
        && let Ok(Some(line)) = input.next_segment().await
    {
        let line = String::from_utf8_lossy(&line).into_owned();
        if said.send((Asker::Screen, Said::Typed(line))).await.is_err() {
            return;
        }
    }
    let _ = said.send((Asker::Screen, Said::Left)).await; // nobody may be left to hear it
}

fn hear_terminal(turns: mpsc::Receiver<()>, said: mpsc::Sender<(Asker, Said)>) -> Result<Screen> {
    Screen::start(turns, move |typed| {
        let heard = match typed {
            Typed::Line(line) => Said::Typed(line),
            Typed::Interrupt => Said::Interrupt,
            Typed::End => Said::Order(Order::Stop),
        };
        let _ = said.blocking_send((Asker::Screen, heard)); // the phone may be stopping
    })
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

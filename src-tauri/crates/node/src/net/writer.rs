//! Writing one stream, in a task of its own: opens it, then writes what is queued.
//!
//! What a writer could not write is lost, and what follows it must not arrive without it: a writer that fails says
//! so, and the phone that it wrote to is disconnected.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use proto::transfer::PIECE_BYTES;
use proto::wire::StreamKind;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::gate::Gate;
use super::streams::{OpenError, Opener};

/// Tells a phone's streams of one kind from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterId(pub u64);

/// Something to write.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Dropped once it is written, or never will be.
    pub sent: Option<oneshot::Sender<()>>,
}

/// Why a writer ended before its queue did.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No stream.
    #[error("it takes no stream: {0}")]
    Open(#[from] OpenError),
    /// The stream broke.
    #[error("a stream to it broke: {0}")]
    Io(#[from] std::io::Error),
}

/// How long a phone may refuse a stream before it is believed.
///
/// A newcomer is a member for its leader a little earlier than it knows itself: by one message, which may
/// be lost twice on a bad link.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// How often it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Writes what is queued, until the queue is dropped. What has a gate passes it piece by piece.
///
/// # Errors
///
/// Any [`WriteError`]; the frame that was being written and those behind it are lost.
pub async fn run(
    opener: Opener,
    peer: libp2p::PeerId,
    kind: StreamKind,
    gate: Option<Gate>,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), WriteError> {
    let mut stream = open(&opener, peer, kind).await?;

    while let Some(frame) = frames.recv().await {
        let Frame { bytes, sent } = frame;
        match &gate {
            None => stream.write_all(&bytes).await?,
            Some(gate) => write_gated(&mut stream, gate, &bytes).await?,
        }
        stream.flush().await?;
        drop(sent);
    }

    let _ = stream.close().await; // the peer may be gone already
    Ok(())
}

async fn write_gated(stream: &mut Stream, gate: &Gate, bytes: &[u8]) -> std::io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES as usize) {
        gate.pass(piece.len() as u32).await; // at most PIECE_BYTES
        stream.write_all(piece).await?;
    }

    Ok(())
}

async fn open(
    opener: &Opener,
    peer: libp2p::PeerId,
    kind: StreamKind,
) -> Result<Stream, OpenError> {
    let started = Instant::now();

    loop {
        match opener.open(peer, kind).await {
            Err(OpenError::Refused) if started.elapsed() < REFUSED_MAX => sleep(ASK_AGAIN).await,
            opened => return opened,
        }
    }
}

//! Writing one stream, in a task of its own: opens it, then writes what is queued.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use proto::wire::StreamKind;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::streams::{OpenError, Opener};

/// How long a phone may refuse a stream before it is believed.
///
/// A newcomer is a member for its leader a little earlier than it knows itself: by one message, which may
/// be lost twice on a bad link.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// How often it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Writes what is queued, until the queue is dropped or the stream breaks.
pub async fn run(
    opener: Opener,
    peer: libp2p::PeerId,
    kind: StreamKind,
    mut frames: mpsc::Receiver<Vec<u8>>,
) {
    let mut stream = match open(&opener, peer, kind).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%peer, ?kind, %error, "Stream not opened"),
    };

    while let Some(frame) = frames.recv().await {
        let written = async {
            stream.write_all(&frame).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            return tracing::debug!(%peer, ?kind, %error, "Stream broke");
        }
    }
    let _ = stream.close().await; // the peer may be gone already
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

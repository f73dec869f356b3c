//! Reading one stream, in a task of its own.
//!
//! A task reads frame after frame and hands them over, one at a time: while they are not taken it reads no
//! further, and its stream's window holds the sender back. It ends with the stream, and says how.

use std::time::{Duration, Instant};

use libp2p::swarm::Stream;
use proto::PeerId;
use proto::wire::StreamKind;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::NetEvent;
use super::frame::{self, ReadError};
use super::members::MembersView;
use super::pace::{Bucket, Pace};
use crate::identity;

/// What a stranger may say. The group looks at two messages a second; a little more may queue up.
const STRANGER: Pace = Pace {
    every: Duration::from_millis(250),
    burst: 16,
};

/// What a member may say about the group: two heartbeats or acks a second, a dozen messages at an
/// election, and those that queue up while a phone sleeps.
const MEMBER: Pace = Pace {
    every: Duration::from_millis(20),
    burst: 128,
};

/// Frames of the ring and of answers: with 8 conversations at 100 tokens a second still four times what is
/// needed. Activations are paced by the ring itself, chunks by who asks for them.
const WORK: Pace = Pace {
    every: Duration::from_micros(250),
    burst: 4096,
};

/// How long a stranger may stay silent on a stream: as long as a person may look at a code.
const STRANGER_SILENCE_MAX: Duration = Duration::from_secs(300);

/// Tells a stream from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderId(pub u64);

/// What a task reports.
#[derive(Debug)]
pub struct Report {
    /// Which task.
    pub id: ReaderId,
    /// Whose stream.
    pub from: PeerId,
    /// What for.
    pub kind: StreamKind,
    /// What there is to report.
    pub read: Result<NetEvent, ReadError>,
}

/// Reads one stream.
pub struct Reader {
    /// Its name.
    pub id: ReaderId,
    /// Whose stream.
    pub from: PeerId,
    /// What for.
    pub kind: StreamKind,
    /// Who is a member.
    pub members: MembersView,
    /// Where the frames go.
    pub reports: mpsc::Sender<Report>,
}

impl Reader {
    /// Reads until the stream ends, or what comes is no frame of ours.
    pub async fn run(self, mut stream: Stream) {
        let mut bucket = Bucket::new(Instant::now());

        loop {
            let read = self.read_one(&mut stream).await;
            let failed = read.is_err();
            if let (Ok(_), Some(pace)) = (&read, self.pace()) {
                let too_early = bucket.take(pace, Instant::now());
                if !too_early.is_zero() {
                    sleep(too_early).await;
                }
            }

            let report = Report {
                id: self.id,
                from: self.from,
                kind: self.kind,
                read,
            };
            if self.reports.send(report).await.is_err() || failed {
                return; // this phone is stopping, or the stream has ended
            }
        }
    }

    async fn read_one(&self, stream: &mut Stream) -> Result<NetEvent, ReadError> {
        let (from, kind) = (self.from, self.kind);

        Ok(match kind {
            StreamKind::Join => {
                let bytes = timeout(self.silence_max(), frame::read_bytes(stream, kind)).await;
                let bytes = bytes.unwrap_or(Err(ReadError::Silent))?;
                NetEvent::JoinMessage { from, bytes }
            }
            StreamKind::Control => NetEvent::Control {
                from,
                message: frame::read_message(stream, kind).await?,
            },
            StreamKind::Chat => NetEvent::Chat {
                from,
                message: frame::read_message(stream, kind).await?,
            },
            StreamKind::Activation => NetEvent::Activation {
                from,
                activation: frame::read_activation(stream).await?,
            },
            StreamKind::Shard => NetEvent::Shard {
                from,
                message: frame::read_message(stream, kind).await?,
            },
            StreamKind::Chunk => {
                let (header, payload) = frame::read_chunk(stream).await?;
                NetEvent::Chunk {
                    from,
                    header,
                    payload,
                }
            }
        })
    }

    fn is_member(&self) -> bool {
        identity::libp2p_peer(self.from).is_some_and(|peer| self.members.contains(&peer))
    }

    fn pace(&self) -> Option<Pace> {
        match self.kind {
            StreamKind::Join if self.is_member() => Some(MEMBER),
            StreamKind::Join => Some(STRANGER),
            StreamKind::Control | StreamKind::Chat | StreamKind::Shard => Some(WORK),
            StreamKind::Activation | StreamKind::Chunk => None,
        }
    }

    fn silence_max(&self) -> Duration {
        if self.is_member() {
            Duration::MAX
        } else {
            STRANGER_SILENCE_MAX
        }
    }
}

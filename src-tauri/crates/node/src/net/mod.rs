//! Connections to other phones, and the long-lived streams on them.
//!
//! Every phone opens the streams that it writes to, one of each kind to each peer it talks to, and
//! reads those that others open to it. A stream has a task of its own, so none waits for another:
//!
//! ```text
//!  event loop ──send──► queue ──► writer task ──► stream ═══► reader task ──► queue ──► event loop
//! ```
//!
//! A reader answers a new stream with one byte. Until then the writer keeps what it has: libp2p-stream drops
//! streams that come quicker than they are taken, and does not say so.
//!
//! All queues are bounded. A peer that does not take what is written to it is disconnected; one that
//! writes faster than this phone reads is held back by its stream's window.

pub mod frame;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::transport::ListenerId;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream as stream;
use proto::PeerId;
use proto::wire::{Chat, Control, StreamKind};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::identity;
use frame::{Activation, ReadError};

/// Frames that wait to be written to one stream.
///
/// Twice the steps that can be in flight: a queue that fills is a peer that does not read.
const WRITE_QUEUE: usize = 64;

/// Frames that wait to be taken by the event loop, from all streams together. The same guess.
const READ_QUEUE: usize = 64;

/// How long a connection without streams is kept. Streams come and go with conversations.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What a reader says once it has a stream: whatever is written to it is read.
const READING: u8 = 1;

/// How often a stream is opened before its phone is given up on. It takes the other phone as many
/// streams of a kind at once to drop one each time: a group has fewer phones.
const OPEN_TRIES: u32 = 16;

/// What came over the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A control message.
    Control {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Control,
    },
    /// A chat message.
    Chat {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Chat,
    },
    /// An activation.
    Activation {
        /// Phone that sent it.
        from: PeerId,
        /// The activation.
        activation: Activation,
    },
    /// This phone can be reached at an address.
    Listening(Multiaddr),
    /// The last connection to a phone is gone, or none could be made.
    Lost {
        /// That phone.
        phone: PeerId,
        /// Why, for people.
        reason: String,
    },
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Noise could not take the identity key.
    #[error("cannot encrypt with this identity key")]
    Noise(#[from] noise::Error),
    /// No socket for that address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address that was asked for.
        address: Multiaddr,
        /// What the system said.
        source: libp2p::TransportError<std::io::Error>,
    },
    /// The address names no phone.
    #[error("{address} does not end in /p2p/PEER: copy the whole address that the phone prints")]
    NoPeer {
        /// Address that was asked for.
        address: Multiaddr,
    },
}

/// This phone's place in the network.
pub struct Net {
    swarm: Swarm<stream::Behaviour>,
    control: stream::Control,
    writers: BTreeMap<(PeerId, StreamKind), mpsc::Sender<Vec<u8>>>,
    events: mpsc::Receiver<NetEvent>,
    /// For the tasks of streams.
    sender: mpsc::Sender<NetEvent>,
}

impl Net {
    /// Starts a network that listens nowhere yet.
    ///
    /// # Errors
    ///
    /// [`NetError::Noise`] if the key cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(keypair: Keypair) -> Result<Self, NetError> {
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )?
            .with_quic()
            .with_behaviour(|_| stream::Behaviour::new())
            .unwrap_or_else(|never| match never {})
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
            .build();

        let (sender, events) = mpsc::channel(READ_QUEUE);
        let mut control = swarm.behaviour().new_control();
        for kind in [
            StreamKind::Control,
            StreamKind::Activation,
            StreamKind::Chat,
        ] {
            let incoming = control.accept(protocol(kind)).expect("each kind once");
            tokio::spawn(accept(incoming, kind, sender.clone()));
        }

        Ok(Self {
            swarm,
            control,
            writers: BTreeMap::new(),
            events,
            sender,
        })
    }

    /// Listens on an address.
    ///
    /// # Errors
    ///
    /// [`NetError::Listen`] if there is no socket for it.
    pub fn listen(&mut self, address: Multiaddr) -> Result<ListenerId, NetError> {
        self.swarm
            .listen_on(address.clone())
            .map_err(|source| NetError::Listen { address, source })
    }

    /// Notes where a phone can be reached and connects to it, unless that has been done.
    pub fn connect(&mut self, phone: PeerId, addresses: Vec<Multiaddr>) {
        let Some(peer) = identity::libp2p_peer(phone) else {
            return tracing::warn!(%phone, "Peer id is no key, not dialled");
        };
        if peer == *self.swarm.local_peer_id() {
            return;
        }
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            // Two phones that dial each other at once from their listening ports would make one TCP connection
            // with two initiators, which Noise refuses.
            .allocate_new_port()
            .build();

        if let Err(error) = self.swarm.dial(dial) {
            tracing::debug!(%phone, %error, "Not dialled");
        }
    }

    /// Queues a control message.
    pub fn send_control(&mut self, to: PeerId, message: &Control) {
        let kind = StreamKind::Control;
        self.send(to, kind, proto::wire::encode_frame(message, kind));
    }

    /// Queues a chat message.
    pub fn send_chat(&mut self, to: PeerId, message: &Chat) {
        let kind = StreamKind::Chat;
        self.send(to, kind, proto::wire::encode_frame(message, kind));
    }

    /// Queues a frame that was made by [`frame::encode_activation`].
    pub fn send_activation(&mut self, to: PeerId, frame: Vec<u8>) {
        self.send(to, StreamKind::Activation, frame);
    }

    /// Waits for the next thing that comes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> NetEvent {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => return event,
                event = self.swarm.select_next_some() => {
                    if let Some(event) = self.swarm_event(event) {
                        return event;
                    }
                }
            }
        }
    }

    fn send(&mut self, to: PeerId, kind: StreamKind, frame: Vec<u8>) {
        let writer = self.writers.entry((to, kind));
        let writer = writer.or_insert_with(|| {
            let (sender, frames) = mpsc::channel(WRITE_QUEUE);
            tokio::spawn(write(
                self.control.clone(),
                to,
                kind,
                frames,
                self.sender.clone(),
            ));
            sender
        });

        if let Err(error) = writer.try_send(frame) {
            match error {
                TrySendError::Full(_) => {
                    tracing::warn!(%to, ?kind, "Peer does not take what is written, disconnected");
                }
                // Its stream broke, and the word that it is gone is on its way.
                TrySendError::Closed(_) => tracing::debug!(%to, ?kind, "Peer is gone"),
            }
            self.writers.remove(&(to, kind));
            if let Some(peer) = identity::libp2p_peer(to) {
                let _ = self.swarm.disconnect_peer_id(peer); // an error means that it is gone
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p has events that concern nobody here"
    )]
    fn swarm_event(&mut self, event: SwarmEvent<()>) -> Option<NetEvent> {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                let address = address.with(Protocol::P2p(*self.swarm.local_peer_id()));
                Some(NetEvent::Listening(address))
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                cause,
                ..
            } => {
                let reason = cause.map_or("it closed the connection".into(), |e| e.to_string());
                self.lost(&peer_id, reason)
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } if !self.swarm.is_connected(&peer) => self.lost(&peer, error.to_string()),
            other => {
                tracing::trace!(event = ?other, "Swarm event");
                None
            }
        }
    }

    fn lost(&mut self, peer: &libp2p::PeerId, reason: String) -> Option<NetEvent> {
        let phone = identity::peer_id(peer)?;
        self.writers.retain(|(to, _), _| *to != phone);

        Some(NetEvent::Lost { phone, reason })
    }
}

/// Splits `/…/p2p/PEER` into the peer and the address before it.
///
/// # Errors
///
/// [`NetError::NoPeer`] if the address does not end in an Ed25519 peer id.
pub fn split_peer(mut address: Multiaddr) -> Result<(PeerId, Multiaddr), NetError> {
    let whole = address.clone();

    match address.pop() {
        Some(Protocol::P2p(peer)) => identity::peer_id(&peer).map(|peer| (peer, address)),
        _ => None,
    }
    .ok_or(NetError::NoPeer { address: whole })
}

fn protocol(kind: StreamKind) -> StreamProtocol {
    StreamProtocol::new(match kind {
        StreamKind::Control => "/lingualinked/control/1",
        StreamKind::Activation => "/lingualinked/activation/1",
        StreamKind::Chat => "/lingualinked/chat/1",
    })
}

/// Writes what is queued, until the queue is dropped. A phone that a stream to breaks is lost: what was
/// in it may be, and is not sent again.
async fn write(
    control: stream::Control,
    to: PeerId,
    kind: StreamKind,
    frames: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<NetEvent>,
) {
    let Err(error) = try_write(control, to, kind, frames).await else {
        return;
    };

    tracing::debug!(%to, ?kind, %error, "Stream broke");
    let lost = NetEvent::Lost {
        phone: to,
        reason: error.to_string(),
    };
    let _ = events.send(lost).await; // this phone may be stopping
}

async fn try_write(
    control: stream::Control,
    to: PeerId,
    kind: StreamKind,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut stream = open(control, to, kind).await?;

    while let Some(frame) = frames.recv().await {
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
    let _ = stream.close().await; // the peer may be gone already
    Ok(())
}

/// Opens a stream and waits until it is read.
async fn open(mut control: stream::Control, to: PeerId, kind: StreamKind) -> io::Result<Stream> {
    let peer = identity::libp2p_peer(to).ok_or(io::ErrorKind::InvalidInput)?;

    let mut reading = [0];
    for _ in 0..OPEN_TRIES {
        let opened = control.open_stream(peer, protocol(kind)).await;
        let mut stream = opened.map_err(io::Error::other)?;
        if stream.read_exact(&mut reading).await.is_ok() && reading == [READING] {
            return Ok(stream);
        }
    }

    Err(io::Error::other("it takes no streams"))
}

/// Reads every stream of one kind that others open.
async fn accept(
    mut incoming: stream::IncomingStreams,
    kind: StreamKind,
    events: mpsc::Sender<NetEvent>,
) {
    while let Some((peer, stream)) = incoming.next().await {
        let Some(from) = identity::peer_id(&peer) else {
            tracing::warn!(%peer, "Peer without an Ed25519 key, not listened to");
            continue;
        };
        tokio::spawn(read(stream, from, kind, events.clone()));
    }
}

/// Reads frames until the stream ends or what comes is no frame of ours.
async fn read(mut stream: Stream, from: PeerId, kind: StreamKind, events: mpsc::Sender<NetEvent>) {
    let told = async {
        stream.write_all(&[READING]).await?;
        stream.flush().await
    };
    if let Err(error) = told.await {
        return tracing::debug!(%from, ?kind, %error, "Stream ended");
    }

    loop {
        match read_one(&mut stream, from, kind).await {
            Ok(event) => {
                if events.send(event).await.is_err() {
                    return; // this phone is stopping
                }
            }
            Err(ReadError::Io(error)) => {
                return tracing::debug!(%from, ?kind, %error, "Stream ended");
            }
            Err(ReadError::Decode(error)) => {
                return tracing::warn!(%from, ?kind, %error, "Malformed frame, stream dropped");
            }
        }
    }
}

async fn read_one(
    stream: &mut Stream,
    from: PeerId,
    kind: StreamKind,
) -> Result<NetEvent, ReadError> {
    Ok(match kind {
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
    })
}

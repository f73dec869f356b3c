//! A phone that does not run our program: it speaks libp2p, and whatever it likes on top.

use std::time::Duration;

use futures::{AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{self as stream, OpenStreamError};
use tokio::time::timeout;

/// The only protocol of ours that strangers may speak.
pub const JOIN: &str = "/lingualinked/join/1";

/// How long something that will happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What 1,000 connections and all else may cost a phone, at most: 24 are kept, each with a stream's window of 256 KiB
/// full of messages that are held back (6 MiB), and as much again three times for whatever an allocator keeps.
pub const GROWTH_MAX_KB: u64 = 24 * 1024;

/// Every kind of stream.
pub const KINDS: [&str; 6] = ["join", "control", "activation", "chat", "shard", "chunk"];

/// How long a connection that is one too many may take to be closed after it was made.
const STAYS_AFTER: Duration = Duration::from_millis(200);

/// A peer that can speak any protocol.
pub struct Peer {
    pub swarm: Swarm<stream::Behaviour>,
    pub control: stream::Control,
    pub host: PeerId,
}

impl Peer {
    /// Connects with a fresh key, as soon as there is room.
    pub async fn connect(address: &Multiaddr) -> Self {
        Self::connect_as(&Keypair::generate_ed25519(), address).await
    }

    /// Connects with a key, as soon as there is room.
    pub async fn connect_as(key: &Keypair, address: &Multiaddr) -> Self {
        let connecting = async {
            loop {
                if let Some(peer) = Self::try_connect_as(key.clone(), address).await {
                    return peer;
                }
            }
        };

        timeout(PATIENCE, connecting)
            .await
            .expect("the host takes strangers")
    }

    /// Connects with a fresh key, and stays so for a moment; `None` if the host does not want it.
    pub async fn try_connect(address: &Multiaddr) -> Option<Self> {
        Self::try_connect_as(Keypair::generate_ed25519(), address).await
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "one kind of event is waited for"
    )]
    async fn try_connect_as(key: Keypair, address: &Multiaddr) -> Option<Self> {
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("an Ed25519 key encrypts")
            .with_behaviour(|_| stream::Behaviour::new())
            .expect("it cannot fail")
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        let control = swarm.behaviour().new_control();
        swarm.dial(address.clone()).ok()?;

        let host = loop {
            match timeout(PATIENCE, swarm.select_next_some()).await.ok()? {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
                SwarmEvent::OutgoingConnectionError { .. } => return None,
                _ => {}
            }
        };
        let peer = Self {
            swarm,
            control,
            host,
        };
        peer.stays_for(STAYS_AFTER).await
    }

    /// Waits whether the host closes the connection within a time; `None` if it does.
    pub async fn stays_for(mut self, duration: Duration) -> Option<Self> {
        let closed = async {
            while !matches!(
                self.swarm.select_next_some().await,
                SwarmEvent::ConnectionClosed { .. }
            ) {}
        };

        timeout(duration, closed).await.is_err().then_some(self)
    }

    /// Opens a stream.
    pub async fn open(&mut self, protocol: StreamProtocol) -> Result<Stream, OpenStreamError> {
        let mut control = self.control.clone();
        let opening = control.open_stream(self.host, protocol);
        tokio::pin!(opening);

        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                event = self.swarm.select_next_some() => {
                    if let SwarmEvent::ConnectionClosed { .. } = event {
                        return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
                    }
                }
            }
        }
    }

    /// Tries to open a stream of every kind, and asserts that it is offered the join stream and nothing else.
    pub async fn try_every_stream(&mut self) {
        for kind in KINDS {
            match self.open(protocol(kind)).await {
                Ok(_) => assert_eq!(kind, "join"),
                Err(OpenStreamError::UnsupportedProtocol(_)) => assert_ne!(kind, "join"),
                Err(OpenStreamError::Io(error)) => panic!("{kind}: {error}"),
                Err(other) => panic!("{kind}: {other}"),
            }
        }
    }

    /// Waits until the host has ended the connection.
    pub async fn closed(mut self) {
        let closed = async {
            while self.swarm.is_connected(&self.host) {
                self.swarm.select_next_some().await;
            }
        };

        timeout(PATIENCE, closed)
            .await
            .expect("the host ends the connection");
    }
}

/// Returns the protocol of a kind of stream.
pub fn protocol(kind: &str) -> StreamProtocol {
    let name = format!("/lingualinked/{kind}/1");

    StreamProtocol::try_from_owned(name).expect("it starts with a slash")
}

/// Writes as much as is taken within a second; returns how many messages that was.
pub async fn flood(peer: &mut Peer) -> u64 {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, peer.open(StreamProtocol::new(JOIN))).await else {
        return 0; // it was one too many after all
    };
    let message = [&16_000u32.to_le_bytes()[..], &[0xa5; 16_000]].concat();
    let mut sent = 0;

    let writing = async {
        while stream.write_all(&message).await.is_ok() && stream.flush().await.is_ok() {
            sent += 1;
        }
    };
    let _ = timeout(Duration::from_secs(1), writing).await; // held back
    sent
}

/// Returns the memory that a process has, as Linux tells.
pub fn rss_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("it is running");
    let line = status.lines().find(|line| line.starts_with("VmRSS"));

    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    kb.expect("Linux tells").parse().expect("a number")
}

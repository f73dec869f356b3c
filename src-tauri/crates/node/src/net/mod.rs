//! Connections to other phones, and the long-lived streams on them.
//!
//! Every phone opens the streams that it writes to, one of each kind to each peer it talks to, and
//! reads those that others open to it. A stream has a task of its own, so none waits for another:
//!
//! ```text
//!  event loop ──send──► queue ──► writer task ──► stream ═══► reader task ──► queue ──► event loop
//! ```
//!
//! **Who may do what.** Noise (or QUIC's TLS) proves who is at the other end of every byte. A stranger can open
//! the join stream and nothing else: the others are not even offered to it ([`streams`]). Members, set by
//! [`Net::set_members`], can open all; when a phone is one no more, its streams end at once.
//!
//! **What it may cost.** Every queue is bounded. Connections are limited per phone and in all
//! ([`libp2p::connection_limits`]), those of strangers also per address ([`door`]); streams per connection;
//! frames in length ([`frame`]) and number ([`pace`]). A peer that does not take what is written to it, that
//! sends what is no frame of ours, or half of one, is disconnected; one that sends faster than it may is held
//! back by its stream's window.
//!
//! **A connection that is dead is found out.** A phone whose address has changed closes nothing: its neighbours'
//! sockets would take frames for minutes. So connections are pinged, and one that does not answer is closed.
//!
//! **Nothing is lost in silence.** Frames of one kind arrive in order and whole, or the phone is disconnected: also
//! when but one of its streams breaks ([`writer`]).
//!
//! **Who is near** comes from [`Discovery`], and with it where to dial. What connected phones say of themselves goes
//! there too, by libp2p's own identify: that and its ping are all that strangers can speak beside the join stream.
//!
//! **One peer, one connection**, as far as the event loop sees. Two phones that dial each other at once have two,
//! which is as good as one while both live. When one of a member's breaks, so do the others, and a phone that
//! dials anew has lost those it had: frames may be lost, and [`NetEvent::Disconnected`] says so.

mod door;
pub mod frame;
mod gate;
mod members;
mod pace;
mod reader;
mod silence;
mod streams;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::ListenerId;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use proto::PeerId;
use proto::group::Sighting;
use proto::transfer::{self, ChunkHeader, Throttle};
use proto::wire::{Chat, Control, StreamKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};

use crate::discovery::address::{self, Interfaces};
use crate::discovery::announcement::Announcement;
use crate::discovery::store::Origin;
use crate::discovery::{Discovery, DiscoveryEvent, Found, Seen, Sources};
use crate::identity;
use frame::{Activation, ReadError};
use gate::Gate;
use members::Members;
use reader::{Reader, ReaderId, Report};
use streams::{Incoming, Opener};
use writer::{Frame, WriteError, WriterId};

/// The port that phones listen on if it is free: registered for nothing, and below those that systems give to
/// outgoing connections.
pub const PORT: u16 = 27_077;

/// What identify calls us.
const IDENTIFY: &str = "/lingualinked/1";

/// Frames that wait to be written to one stream.
///
/// Twice the steps that can be in flight: a queue that fills is a peer that does not read.
const WRITE_QUEUE: usize = 64;

/// Frames that wait to be taken by the event loop, from all streams together. The same guess.
const READ_QUEUE: usize = 64;

/// How long a stranger's connection without streams is kept. Members' are kept always.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a connection is pinged, and how long an answer may take: longer than the leader's lease, which finds out
/// about the links that matter most, and than any pause that a radio or a busy processor makes.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to be made: three round trips, on a link that loses some of them.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that others are making to us at once. Each costs a key exchange.
const PENDING_INCOMING_MAX: u32 = 32;

/// Connections that we are making at once: members and nearby phones.
const PENDING_OUTGOING_MAX: u32 = 32;

/// Connections to one phone: two when both dial at once, and the one that replaces them.
const CONNECTIONS_PER_PHONE_MAX: u32 = 3;

/// Connections in all: [`door::STRANGERS_MAX`], three to each of 12 members, and those that we made to strangers.
const CONNECTIONS_MAX: u32 = 96;

/// Streams on one connection: one each way of each of 6 kinds, libp2p's own, and as many that are ending.
const STREAMS_PER_CONNECTION_MAX: usize = 32;

/// Streams on one connection that are being negotiated.
const NEGOTIATING_MAX: usize = 16;

/// Two connections made within this time come from two phones that dialled each other at once; a later one
/// replaces those before it.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How long to wait for more changes of address: they come several at once, loopback first.
const READDRESS_AFTER: Duration = Duration::from_millis(100);

/// How long to wait for an address when a phone starts: ten times [`READDRESS_AFTER`].
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to look anyway: an interface that goes down keeps its addresses, and nothing is told.
const READDRESS_AGAIN: Duration = Duration::from_secs(10);

/// What came over the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A phone is connected. Also the answer to [`Net::connect`] if it already was.
    Connected(PeerId),
    /// The last connection to a phone is gone, and what was under way may be lost.
    Disconnected {
        /// That phone.
        phone: PeerId,
        /// Why, for people.
        reason: String,
    },
    /// A phone that was dialled could not be reached.
    Unreachable {
        /// That phone.
        phone: PeerId,
        /// Why, for people.
        reason: String,
        /// Whether nothing at all came back from where it was dialled: a machine that refuses is reached.
        is_silent: bool,
    },
    /// A ping went to a connected phone and back.
    RoundTrip {
        /// That phone.
        phone: PeerId,
        /// How long it took.
        time: Duration,
    },
    /// A message about the group, as bytes. The only thing that a stranger can send.
    JoinMessage {
        /// Phone that sent it.
        from: PeerId,
        /// The message, as `proto::group` reads it.
        bytes: Vec<u8>,
    },
    /// A control message from a member.
    Control {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Control,
    },
    /// A chat message from a member.
    Chat {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: Chat,
    },
    /// An activation from a member.
    Activation {
        /// Phone that sent it.
        from: PeerId,
        /// The activation.
        activation: Activation,
    },
    /// A member said something about shards.
    Shard {
        /// Phone that sent it.
        from: PeerId,
        /// The message.
        message: transfer::Message,
    },
    /// A chunk of a shard came.
    Chunk {
        /// Phone that sent it.
        from: PeerId,
        /// Which, as it says.
        header: ChunkHeader,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// This phone can be reached at an address.
    Listening(Multiaddr),
    /// Where other phones may reach this one has changed; the best first, without this phone's id.
    AddressesChanged(Vec<Multiaddr>),
    /// A phone is near: for the first time, again, or with news.
    Sighted {
        /// What it says of itself. Nothing of it is proven.
        sighting: Sighting,
        /// Where it may be reached, the best first.
        addresses: Vec<Multiaddr>,
    },
    /// A phone is near no more.
    Unsighted(PeerId),
    /// Who is at the address that [`Net::reach`] was given; it is connected.
    Reached {
        /// That address.
        address: Multiaddr,
        /// The phone.
        phone: PeerId,
    },
    /// No phone is there.
    NotReached {
        /// That address.
        address: Multiaddr,
        /// Why, for people.
        reason: String,
        /// Whether nothing at all came back from there.
        is_silent: bool,
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
    swarm: Swarm<Behaviour>,
    keypair: Keypair,
    opener: Opener,
    members: Members,
    /// Connections of each phone, oldest first, but for those that are being closed.
    connections: BTreeMap<PeerId, Vec<(ConnectionId, Instant)>>,
    /// Addresses that are dialled to see who is there.
    reaching: BTreeMap<ConnectionId, Multiaddr>,
    /// Where this phone listens, on every interface.
    listening: BTreeSet<Multiaddr>,
    /// What of it is worth saying.
    said: Vec<Multiaddr>,
    /// When to say anew what is.
    readdress_at: Option<Instant>,
    discovery: Discovery,
    /// Whether this phone has let go of everybody, and nobody may connect.
    is_suspended: bool,
    writers: BTreeMap<(PeerId, StreamKind), Writer>,
    /// What all writers of chunks pass.
    gate: Gate,
    n_writers: u64,
    /// Their tasks, each of which ends with how it went.
    writing: JoinSet<Written>,
    readers: BTreeMap<(PeerId, StreamKind), (ReaderId, AbortHandle)>,
    n_readers: u64,
    reports_in: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    events: VecDeque<NetEvent>,
}

/// A stream that is written, or waits to be opened.
struct Writer {
    id: WriterId,
    frames: mpsc::Sender<Frame>,
    task: AbortHandle,
}

/// How a writer ended.
struct Written {
    id: WriterId,
    to: PeerId,
    kind: StreamKind,
    result: Result<(), WriteError>,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    door: door::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: streams::Behaviour,
}

impl Net {
    /// Starts a network that listens nowhere and has no members yet.
    ///
    /// # Errors
    ///
    /// [`NetError::Noise`] if the key cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(keypair: Keypair) -> Result<Self, NetError> {
        let members = Members::new();
        let (streams, opener) = streams::Behaviour::new(members.view());
        let behaviour = Behaviour {
            limits: connection_limits::Behaviour::new(connection_limits()),
            door: door::Behaviour::new(members.view()),
            identify: identify(&keypair, IDENTIFY.into()),
            ping: ping::Behaviour::new(ping()),
            streams,
        };
        let (reports_in, reports) = mpsc::channel(READ_QUEUE);

        Ok(Self {
            discovery: Discovery::new(keypair.public().to_peer_id()),
            swarm: swarm(keypair.clone(), behaviour)?,
            keypair,
            opener,
            members,
            connections: BTreeMap::new(),
            reaching: BTreeMap::new(),
            listening: BTreeSet::new(),
            said: Vec::new(),
            readdress_at: None,
            is_suspended: false,
            writers: BTreeMap::new(),
            gate: Gate::default(),
            n_writers: 0,
            writing: JoinSet::new(),
            readers: BTreeMap::new(),
            n_readers: 0,
            reports_in,
            reports,
            events: VecDeque::new(),
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

    /// Listens on every interface, at [`PORT`] or, if that is taken, at any.
    ///
    /// # Errors
    ///
    /// [`NetError::Listen`] if there is no socket for IPv4. IPv6 is used where there is one.
    pub fn listen_everywhere(&mut self) -> Result<(), NetError> {
        // libp2p shares a port with whoever else does (SO_REUSEPORT): two phones of one machine would each get
        // half of the connections.
        let port = free_port(PORT).or_else(|| free_port(0)).unwrap_or(0);
        let on = |ip: &str| {
            format!("/{ip}/tcp/{port}")
                .parse()
                .expect("an address of ours")
        };

        self.listen(on("ip4/0.0.0.0"))?;
        if let Err(error) = self.listen(on("ip6/::")) {
            tracing::debug!(%error, "No IPv6");
        }
        Ok(())
    }

    /// Starts looking for phones nearby, and being found by them. To be called once, before any connection.
    pub fn discover(&mut self, sources: Sources, announcement: Announcement) {
        self.swarm.behaviour_mut().identify = identify(&self.keypair, announcement.to_label());
        self.discovery.start(sources, announcement);
    }

    /// Looks for phones nearby, and is found by them, from now on: this phone was started without.
    pub fn meet_others(&mut self, sources: Sources, announcement: Announcement) {
        self.discovery.start(sources, announcement);
    }

    /// Says something else of this phone: its name or its group has changed.
    ///
    /// Connected phones that have no other source hear of it when they connect anew.
    pub fn announce(&mut self, announcement: Announcement) {
        self.discovery.announce(announcement);
    }

    /// Builds anew what finds phones, as after a sleep.
    pub fn rediscover(&mut self) {
        self.discovery.restart();
    }

    /// Lets others see this phone nearby, or no more.
    pub fn set_visible(&mut self, is_visible: bool) {
        self.discovery.set_visible(is_visible);
    }

    /// Looks for others, or rests.
    pub fn set_looking(&mut self, is_looking: bool) {
        self.discovery.set_looking(is_looking);
    }

    /// Closes all connections, and lets nobody connect until [`Self::resume`]: others learn at once that this phone is
    /// gone, and need not wait for it.
    pub fn suspend(&mut self) {
        self.is_suspended = true;
        for phone in self.connections.keys().copied().collect::<Vec<_>>() {
            self.disconnect(phone, "this phone is suspended");
        }
    }

    /// Lets others connect again, and builds anew what finds them.
    pub fn resume(&mut self) {
        self.is_suspended = false;
        self.rediscover();
    }

    /// Knocks at every address of the own network: only when a person asks for it.
    pub fn probe(&mut self) {
        self.discovery.probe(PORT);
    }

    /// Takes note of where a phone may be reached, as a person or the group's roster says.
    pub fn learn(&mut self, origin: Origin, phone: PeerId, addresses: &[Multiaddr]) {
        self.discovery.learn(origin, phone, addresses);
    }

    /// Lets these phones open every stream, and no others. The streams of those who are members no more end, but
    /// for the join stream.
    pub fn set_members(&mut self, members: BTreeSet<PeerId>) {
        let peers = members
            .iter()
            .filter_map(|phone| identity::libp2p_peer(*phone));
        self.members.set(peers.collect());

        let is_open = |&(phone, kind): &(PeerId, StreamKind)| {
            kind == StreamKind::Join || members.contains(&phone)
        };
        self.end_writers(|phone, kind| !is_open(&(phone, kind)));
        for (_, (_, task)) in self.readers.extract_if(.., |key, _| !is_open(key)) {
            task.abort();
        }
    }

    /// Connects to a phone at any of these addresses and those that are known already, several at once, unless it is
    /// connected or being dialled.
    /// [`NetEvent::Connected`] or [`NetEvent::Unreachable`] tells how that went.
    pub fn connect(&mut self, phone: PeerId, addresses: Vec<Multiaddr>) {
        if self.is_suspended {
            return;
        }
        let Some(peer) = identity::libp2p_peer(phone) else {
            return tracing::warn!(%phone, "Peer id is no key, not dialled");
        };
        if peer == *self.swarm.local_peer_id() {
            return;
        }
        if self.is_connected(phone) {
            return self.events.push_back(NetEvent::Connected(phone));
        }
        self.discovery.learn(Origin::Roster, phone, &addresses);
        let dial = DialOpts::peer_id(peer)
            // Connections that are being closed do not count.
            .condition(PeerCondition::NotDialing)
            .addresses(self.discovery.addresses_of(phone))
            // Two phones that dial each other at once from their listening ports would make one TCP connection
            // with two initiators, which Noise refuses.
            .allocate_new_port()
            .build();

        match self.swarm.dial(dial) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.unreachable(phone, &error),
        }
    }

    /// Connects to whoever is at an address, and says who it is: [`NetEvent::Reached`] or
    /// [`NetEvent::NotReached`].
    pub fn reach(&mut self, address: Multiaddr) {
        let known = self.discovery.phone_at(&address);
        if let Some(phone) = known.filter(|phone| self.is_connected(*phone)) {
            return self.events.push_back(NetEvent::Reached { address, phone });
        }
        let dial = DialOpts::unknown_peer_id().address(address.clone());
        let dial = dial.allocate_new_port().build();
        let id = dial.connection_id();

        match self.swarm.dial(dial) {
            Ok(()) => drop(self.reaching.insert(id, address)),
            Err(error) => self.not_reached(address, &error),
        }
    }

    /// Closes all connections to a phone.
    pub fn disconnect(&mut self, phone: PeerId, reason: &str) {
        let Some(connections) = self.connections.remove(&phone) else {
            return;
        };

        for (id, _) in connections {
            self.swarm.close_connection(id);
        }
        self.disconnected(phone, reason.into());
    }

    /// Returns whether a phone is connected.
    pub fn is_connected(&self, phone: PeerId) -> bool {
        self.connections.contains_key(&phone)
    }

    /// Queues a message about the group if the phone is connected, else drops it.
    pub fn send_join(&mut self, to: PeerId, bytes: &[u8]) {
        if self.is_connected(to) {
            self.send(to, StreamKind::Join, frame::encode_bytes(bytes));
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

    /// Queues a message about shards.
    pub fn send_shard(&mut self, to: PeerId, message: &transfer::Message) {
        self.send(to, StreamKind::Shard, message.encode());
    }

    /// Queues a chunk: its header and its bytes. `sent` is dropped once it is written, or never will be.
    pub fn send_chunk(&mut self, to: PeerId, bytes: Vec<u8>, sent: oneshot::Sender<()>) {
        let sent = Some(sent);
        self.queue(to, StreamKind::Chunk, Frame { bytes, sent });
    }

    /// Has chunks go out so from now on, those that are queued too.
    pub fn throttle(&self, throttle: Throttle) {
        self.gate.set(throttle);
    }

    /// Waits for the next thing that comes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> NetEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }

            self.step().await;
        }
    }

    /// Returns the next thing that has come already.
    pub fn next_ready(&mut self) -> Option<NetEvent> {
        self.events.pop_front()
    }

    /// Waits until it is known where other phones may reach this one. Gives up in time: a phone may have no network
    /// yet. Returns an address of this machine, with this phone's id.
    pub async fn settle(&mut self) -> Option<Multiaddr> {
        let settled = async {
            while self.said.is_empty() {
                self.step().await;
            }
        };
        let _ = timeout(SETTLE_TIMEOUT, settled).await; // what is known is returned
        let address = self.said.first().or(self.listening.first())?;

        Some(
            address
                .clone()
                .with(Protocol::P2p(*self.swarm.local_peer_id())),
        )
    }

    /// Waits for one thing, and takes note of it.
    async fn step(&mut self) {
        tokio::select! {
            biased;
            Some(report) = self.reports.recv() => self.report(report),
            Some(written) = self.writing.join_next() => self.written(written),
            event = self.swarm.select_next_some() => self.swarm_event(event),
            event = poll_fn(|cx| self.discovery.poll_next(cx)) => self.discovered(event),
            () = at(self.readdress_at) => self.readdress(),
        }
    }

    fn send(&mut self, to: PeerId, kind: StreamKind, bytes: Vec<u8>) {
        self.queue(to, kind, Frame { bytes, sent: None });
    }

    /// Queues a frame; connects first where there is no connection.
    fn queue(&mut self, to: PeerId, kind: StreamKind, frame: Frame) {
        let Some(peer) = identity::libp2p_peer(to) else {
            return tracing::warn!(%to, "Peer id is no key, nothing sent");
        };
        if self.is_suspended {
            return;
        }
        if !self.is_connected(to) && !self.writers.contains_key(&(to, kind)) {
            self.connect(to, Vec::new());
            if matches!(self.events.back(), Some(NetEvent::Unreachable { phone, .. }) if *phone == to)
            {
                return; // and it has been said
            }
        }

        if !self.writers.contains_key(&(to, kind)) {
            self.start_writer(peer, to, kind);
        }
        match self.writers[&(to, kind)].frames.try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => {} // it has failed, which is heard of next
            Err(TrySendError::Full(_)) => {
                tracing::warn!(%to, ?kind, "Peer does not take what is written");
                self.disconnect(to, "it does not take what is written to it");
            }
        }
    }

    fn start_writer(&mut self, peer: libp2p::PeerId, to: PeerId, kind: StreamKind) {
        let id = WriterId(self.n_writers);
        self.n_writers += 1;
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let opener = self.opener.clone();
        let gate = (kind == StreamKind::Chunk).then(|| self.gate.clone());

        let task = self.writing.spawn(async move {
            let result = writer::run(opener, peer, kind, gate, queue).await;
            Written {
                id,
                to,
                kind,
                result,
            }
        });
        self.writers.insert((to, kind), Writer { id, frames, task });
    }

    /// Takes note of how a writer ended, unless it was given up before.
    fn written(&mut self, written: Result<Written, JoinError>) {
        let Ok(written) = written else { return }; // given up
        let Written {
            id,
            to,
            kind,
            result,
        } = written;
        let is_current = self
            .writers
            .get(&(to, kind))
            .is_some_and(|writer| writer.id == id);

        if let (true, Err(error)) = (is_current, result) {
            tracing::debug!(%to, ?kind, %error, "Writer failed");
            self.writers.remove(&(to, kind));
            self.disconnect(to, &error.to_string());
        }
    }

    /// Gives up writers. What waits in their queues must not come out of a later connection.
    fn end_writers(&mut self, is_over: impl Fn(PeerId, StreamKind) -> bool) {
        let over = self
            .writers
            .extract_if(.., |&(to, kind), _| is_over(to, kind));

        for (_, writer) in over {
            writer.task.abort();
        }
    }

    /// Takes note of what a reader says, unless its stream was given up meanwhile.
    fn report(&mut self, report: Report) {
        let Report {
            id,
            from,
            kind,
            read,
        } = report;
        let current = self.readers.get(&(from, kind)).map(|(id, _)| *id);
        if current != Some(id) {
            return tracing::debug!(%from, ?kind, "Frame of a stream that was given up");
        }

        match read {
            Ok(event) => self.events.push_back(event),
            Err(error @ (ReadError::Io(_) | ReadError::Silent)) => {
                tracing::debug!(%from, ?kind, %error, "Stream ended");
                self.readers.remove(&(from, kind));
            }
            Err(error @ (ReadError::Decode(_) | ReadError::HalfSent)) => {
                // What strangers send must not fill the log.
                if identity::libp2p_peer(from).is_some_and(|peer| self.members.contains(&peer)) {
                    tracing::warn!(%from, ?kind, %error, "Malformed frame");
                } else {
                    tracing::debug!(%from, ?kind, %error, "Malformed frame of a stranger");
                }
                self.disconnect(from, "it sent a malformed frame");
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p has events that concern nobody here"
    )]
    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.listening.insert(address.clone());
                self.readdress_soon();
                let address = address.with(Protocol::P2p(*self.swarm.local_peer_id()));
                self.events.push_back(NetEvent::Listening(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listening.remove(&address);
                self.readdress_soon();
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::warn!(?addresses, ?reason, "Listener closed");
                self.listening
                    .retain(|address| !addresses.contains(address));
                self.readdress_soon();
            }
            SwarmEvent::Behaviour(BehaviourEvent::Streams(incoming)) => self.incoming(incoming),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.identified(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.pinged(&event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let incoming = endpoint.is_listener();
                self.connection_made(&peer_id, connection_id, incoming, Instant::now());
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                let reason = cause.map_or("it closed the connection".into(), |e| e.to_string());
                self.connection_closed(&peer_id, connection_id, reason);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } => {
                if let Some(phone) = identity::peer_id(&peer) {
                    self.unreachable(phone, &error);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: None,
                connection_id,
                error,
            } => {
                if let Some(address) = self.reaching.remove(&connection_id) {
                    self.not_reached(address, &error);
                }
            }
            other => tracing::trace!(event = ?other, "Swarm event"),
        }
    }

    fn connection_made(
        &mut self,
        peer: &libp2p::PeerId,
        id: ConnectionId,
        incoming: bool,
        now: Instant,
    ) {
        let phone = identity::peer_id(peer).expect("the door lets in phones only");
        if self.is_suspended {
            self.swarm.close_connection(id);
            return;
        }
        let oldest = self.connections.get(&phone).and_then(|ids| ids.first());
        if incoming && oldest.is_some_and(|(_, made_at)| now - *made_at > AT_ONCE) {
            self.disconnect(phone, "it has connected anew");
        }

        let connections = self.connections.entry(phone).or_default();
        connections.push((id, now));
        if connections.len() == 1 {
            self.events.push_back(NetEvent::Connected(phone));
        }
        if let Some(address) = self.reaching.remove(&id) {
            self.discovery
                .learn(Origin::Person, phone, std::slice::from_ref(&address));
            self.events.push_back(NetEvent::Reached { address, phone });
        }
    }

    fn connection_closed(&mut self, peer: &libp2p::PeerId, id: ConnectionId, reason: String) {
        let Some(phone) = identity::peer_id(peer) else {
            return;
        };
        let Some(connections) = self.connections.get_mut(&phone) else {
            return; // closed by us
        };
        let n_before = connections.len();
        connections.retain(|(other, _)| *other != id);

        let was_ours = connections.len() < n_before;
        if was_ours && (connections.is_empty() || self.members.contains(peer)) {
            self.disconnect(phone, &reason);
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        let Incoming {
            peer,
            connection,
            kind,
            stream,
        } = incoming;
        let Some(from) = identity::peer_id(&peer) else {
            return;
        };
        let connections = self.connections.get(&from);
        if !connections.is_some_and(|ids| ids.iter().any(|(id, _)| *id == connection)) {
            return tracing::debug!(%from, ?kind, "Stream on a connection that is being closed");
        }
        if kind != StreamKind::Join && !self.members.contains(&peer) {
            return tracing::debug!(%from, ?kind, "Stream of a phone that is no member");
        }

        let id = ReaderId(self.n_readers);
        self.n_readers += 1;
        let reader = Reader {
            id,
            from,
            kind,
            members: self.members.view(),
            reports: self.reports_in.clone(),
        };
        let task = tokio::spawn(reader.run(stream)).abort_handle();
        // A phone writes to one stream of each kind: an earlier one is given up.
        if let Some((_, earlier)) = self.readers.insert((from, kind), (id, task)) {
            earlier.abort();
        }
    }

    fn readdress_soon(&mut self) {
        self.readdress_at = Some(Instant::now() + READDRESS_AFTER);
    }

    /// Says anew where this phone is, if that has changed.
    fn readdress(&mut self) {
        self.readdress_at = Some(Instant::now() + READDRESS_AGAIN);
        let said = address::worth_saying(&self.listening, &Interfaces::of_this_machine());
        if said == self.said {
            return;
        }

        for address in self.said.iter().filter(|address| !said.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in said.iter().filter(|address| !self.said.contains(address)) {
            self.swarm.add_external_address(address.clone()); // identify tells these, and no others
        }
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        self.swarm.behaviour_mut().identify.push(connected);
        self.said = said.clone();
        self.discovery.readdress(said.clone());
        self.events.push_back(NetEvent::AddressesChanged(said));
    }

    fn discovered(&mut self, event: DiscoveryEvent) {
        match event {
            DiscoveryEvent::Sighted {
                sighting,
                addresses,
            } => self.events.push_back(NetEvent::Sighted {
                sighting,
                addresses,
            }),
            DiscoveryEvent::Unsighted(phone) => self.events.push_back(NetEvent::Unsighted(phone)),
            DiscoveryEvent::Listener(address) if self.said.contains(&address) => {} // this phone itself
            DiscoveryEvent::Listener(address) => self.reach(address),
        }
    }

    /// Hangs up on a phone that does not answer. One that answers that it knows of no pings is there, whatever it is: the
    /// [`door`] sees to strangers.
    fn pinged(&mut self, event: &ping::Event) {
        let phone = identity::peer_id(&event.peer);
        let error = match (&event.result, phone) {
            (Ok(time), Some(phone)) => {
                let time = *time;
                return self.events.push_back(NetEvent::RoundTrip { phone, time });
            }
            (Ok(_), None) => return,
            (Err(error), _) => error,
        };
        if matches!(error, ping::Failure::Unsupported) {
            return;
        }

        if let Some(phone) = phone {
            tracing::debug!(%phone, %error, "Ping not answered");
            self.disconnect(phone, "it does not answer");
        }
    }

    /// Takes note of what a connected phone says of itself.
    fn identified(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else {
            return;
        };
        let Some(phone) = identity::peer_id(&peer_id).filter(|phone| self.is_connected(*phone))
        else {
            return;
        };

        match Announcement::from_label(&info.agent_version) {
            Some(announcement) => self.discovery.note(
                Origin::Identify,
                Found::Seen(Seen {
                    phone,
                    announcement,
                    addresses: info.listen_addrs,
                }),
            ),
            None => self
                .discovery
                .learn(Origin::Identify, phone, &info.listen_addrs),
        }
    }

    fn not_reached(&mut self, address: Multiaddr, error: &DialError) {
        self.events.push_back(NetEvent::NotReached {
            address,
            reason: error.to_string(),
            is_silent: silence::is_silent(error),
        });
    }

    fn unreachable(&mut self, phone: PeerId, error: &DialError) {
        if self.is_connected(phone) {
            return; // it dialled us meanwhile
        }

        self.end_writers(|to, _| to == phone);
        self.events.push_back(NetEvent::Unreachable {
            phone,
            reason: error.to_string(),
            is_silent: silence::is_silent(error),
        });
    }

    fn disconnected(&mut self, phone: PeerId, reason: String) {
        self.discovery.note(Origin::Identify, Found::Gone(phone));
        self.end_writers(|to, _| to == phone);
        for (_, (_, task)) in self.readers.extract_if(.., |(from, _), _| *from == phone) {
            task.abort();
        }

        self.events
            .push_back(NetEvent::Disconnected { phone, reason });
    }
}

/// Ends the readers, which would otherwise wait for others to end their streams.
impl Drop for Net {
    fn drop(&mut self) {
        for (_, task) in self.readers.values() {
            task.abort();
        }
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

/// Returns the port if nobody else listens there; any that is free for 0.
fn free_port(port: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;

    Some(listener.local_addr().ok()?.port())
}

fn swarm(keypair: Keypair, behaviour: Behaviour) -> Result<Swarm<Behaviour>, NetError> {
    let multiplexing = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            multiplexing,
        )?
        .with_quic_config(|mut config| {
            config.max_concurrent_stream_limit = STREAMS_PER_CONNECTION_MAX as u32;
            config
        })
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never| match never {})
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
        })
        .with_connection_timeout(HANDSHAKE_TIMEOUT);

    Ok(swarm.build())
}

/// Returns at `instant`, or never if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

fn ping() -> ping::Config {
    ping::Config::new()
        .with_interval(PING_EVERY)
        .with_timeout(PING_TIMEOUT)
}

/// Tells connected phones what this one says of itself, and where it is: as it is said everywhere else.
fn identify(keypair: &Keypair, agent: String) -> identify::Behaviour {
    let config = identify::Config::new(IDENTIFY.into(), keypair.public())
        .with_agent_version(agent)
        .with_hide_listen_addrs(true)
        .with_cache_size(0);

    identify::Behaviour::new(config)
}

fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PHONE_MAX))
        .with_max_established(Some(CONNECTIONS_MAX))
}

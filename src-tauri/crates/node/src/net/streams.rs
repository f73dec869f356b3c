//! Opening streams, and taking those that a phone may open: a libp2p behaviour and its handler.
//!
//! What a phone may not open is not offered to it at all: the handler of a stranger's connection
//! negotiates the join stream and nothing else, and looks the phone up again for every stream.
//!
//! ```text
//!  writer task ──Request──► Behaviour ──Open──► Handler ──► negotiation ──► reply
//!  Net ◄──Incoming── Behaviour ◄──Incoming── Handler ◄── negotiation ◄── the other phone
//! ```
//!
//! A request waits while there is no connection, and fails when none can be made. Of several
//! connections the latest is used: the others may be dead already. Nothing incoming is dropped while
//! this phone is busy; it waits in its connection, and holds back only that.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::iter;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use proto::wire::StreamKind;
use tokio::sync::{mpsc, oneshot};

use super::members::MembersView;
use super::pace::{Bucket, Pace};

/// Requests under way to the behaviour; each writer has one at most.
const REQUEST_QUEUE: usize = 16;

/// Streams that a stranger may open: it needs one, and some more if it starts anew.
const STRANGER_STREAMS: Pace = Pace {
    every: Duration::from_secs(1),
    burst: 16,
};

/// Wish for a stream.
#[derive(Debug)]
pub struct Request {
    /// To whom.
    pub peer: PeerId,
    /// What for.
    pub open: Open,
}

/// What a handler is to open.
#[derive(Debug)]
pub struct Open {
    kind: StreamKind,
    reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// A stream that the other phone has opened.
#[derive(Debug)]
pub struct Incoming {
    /// By whom.
    pub peer: PeerId,
    /// On which connection.
    pub connection: ConnectionId,
    /// What for.
    pub kind: StreamKind,
    /// The stream.
    pub stream: Stream,
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The other phone does not offer such streams to us (yet).
    #[error("refused")]
    Refused,
    /// It did not answer.
    #[error("not answered")]
    Timeout,
    /// There is no connection, or it broke.
    #[error("not connected")]
    NotConnected,
}

/// Opens streams from any task.
#[derive(Debug, Clone)]
pub struct Opener(mpsc::Sender<Request>);

impl Opener {
    /// Opens a stream to a phone, as soon as it is connected.
    ///
    /// # Errors
    ///
    /// Any [`OpenError`].
    pub async fn open(&self, peer: PeerId, kind: StreamKind) -> Result<Stream, OpenError> {
        let (reply, stream) = oneshot::channel();
        let open = Open { kind, reply };
        let sent = self.0.send(Request { peer, open }).await;
        sent.map_err(|_| OpenError::NotConnected)?;

        stream.await.unwrap_or(Err(OpenError::NotConnected))
    }
}

/// Knows the connections, and passes requests and streams between them and [`super::Net`].
#[derive(Debug)]
pub struct Behaviour {
    members: MembersView,
    requests: mpsc::Receiver<Request>,
    /// Connections of each phone, oldest first.
    connections: BTreeMap<PeerId, Vec<ConnectionId>>,
    /// Requests that wait for a connection: one per writer, and writers are few.
    waiting: BTreeMap<PeerId, Vec<Open>>,
    out: VecDeque<ToSwarm<Incoming, Open>>,
}

impl Behaviour {
    /// Starts without connections.
    pub fn new(members: MembersView) -> (Self, Opener) {
        let (sender, requests) = mpsc::channel(REQUEST_QUEUE);
        let behaviour = Self {
            members,
            requests,
            connections: BTreeMap::new(),
            waiting: BTreeMap::new(),
            out: VecDeque::new(),
        };

        (behaviour, Opener(sender))
    }

    fn request(&mut self, Request { peer, open }: Request) {
        match self.connections.get(&peer).and_then(|ids| ids.last()) {
            Some(&id) => self.open_on(peer, id, open),
            None => {
                let waiting = self.waiting.entry(peer).or_default();
                waiting.retain(|open| !open.reply.is_closed());
                waiting.push(open);
            }
        }
    }

    fn open_on(&mut self, peer_id: PeerId, id: ConnectionId, event: Open) {
        self.out.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(id),
            event,
        });
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler {
            peer,
            members: self.members.clone(),
            streams: Bucket::new(Instant::now()),
            out: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p has events that concern nobody here"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => {
                self.connections
                    .entry(peer_id)
                    .or_default()
                    .push(connection_id);
                for open in self.waiting.remove(&peer_id).unwrap_or_default() {
                    self.open_on(peer_id, connection_id, open);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                if let Some(ids) = self.connections.get_mut(&peer_id) {
                    ids.retain(|id| *id != connection_id);
                    if ids.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            FromSwarm::DialFailure(DialFailure {
                peer_id: Some(peer),
                ..
            }) => {
                self.waiting.remove(&peer); // dropping the replies says so
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.out.push_back(match event {
            FromHandler::Incoming { kind, stream } => ToSwarm::GenerateEvent(Incoming {
                peer,
                connection,
                kind,
                stream,
            }),
            FromHandler::TooManyStreams => ToSwarm::CloseConnection {
                peer_id: peer,
                connection: libp2p::swarm::CloseConnection::One(connection),
            },
        });
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Poll::Ready(event);
            }
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(request)) => self.request(request),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Negotiates the streams of one connection.
#[derive(Debug)]
pub struct Handler {
    peer: PeerId,
    members: MembersView,
    /// Streams that a stranger has opened.
    streams: Bucket,
    out: VecDeque<HandlerEvent>,
}

/// What a handler tells its behaviour.
#[derive(Debug)]
pub enum FromHandler {
    /// The other phone has opened a stream.
    Incoming {
        /// What for.
        kind: StreamKind,
        /// The stream.
        stream: Stream,
    },
    /// A stranger opens one stream after the other.
    TooManyStreams,
}

type HandlerEvent =
    ConnectionHandlerEvent<Protocols, oneshot::Sender<Result<Stream, OpenError>>, FromHandler>;

impl Handler {
    fn incoming(&mut self, kind: StreamKind, stream: Stream) {
        let is_member = self.members.contains(&self.peer);
        // The phone may have lost its membership since the stream was offered.
        let offered = is_member || kind == StreamKind::Join;
        let paced = is_member || self.streams.try_take(STRANGER_STREAMS, Instant::now());

        let event = match (offered, paced) {
            (true, true) => FromHandler::Incoming { kind, stream },
            (false, true) => return,
            (_, false) => FromHandler::TooManyStreams,
        };
        self.out
            .push_back(ConnectionHandlerEvent::NotifyBehaviour(event));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Result<Stream, OpenError>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(self.members.kinds_open_to(&self.peer)), ())
    }

    /// Members stay connected, whether they have anything to say or not.
    fn connection_keep_alive(&self) -> bool {
        self.members.contains(&self.peer)
    }

    fn on_behaviour_event(&mut self, Open { kind, reply }: Open) {
        let protocol = SubstreamProtocol::new(Protocols(only(kind)), reply);

        self.out
            .push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p has events that concern nobody here"
    )]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Protocols, Protocols, (), Self::OutboundOpenInfo>,
    ) {
        // An asker who is gone needs no answer: the stream is dropped.
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (kind, stream),
                ..
            }) => self.incoming(kind, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: reply,
            }) => drop(reply.send(Ok(stream))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: reply }) => {
                drop(reply.send(Err(error.into())));
            }
            _ => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<HandlerEvent> {
        match self.out.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

impl From<StreamUpgradeError<Infallible>> for OpenError {
    fn from(error: StreamUpgradeError<Infallible>) -> Self {
        match error {
            StreamUpgradeError::NegotiationFailed => Self::Refused,
            StreamUpgradeError::Timeout => Self::Timeout,
            StreamUpgradeError::Io(_) => Self::NotConnected,
            StreamUpgradeError::Apply(never) => match never {},
        }
    }
}

/// The protocols of some kinds of streams; what comes out of the upgrade is the stream as it is.
#[derive(Debug, Clone, Copy)]
pub struct Protocols(&'static [StreamKind]);

/// The protocol of one kind of stream.
#[derive(Debug, Clone, Copy)]
pub struct KindProtocol(StreamKind);

impl AsRef<str> for KindProtocol {
    fn as_ref(&self) -> &str {
        match self.0 {
            StreamKind::Join => "/lingualinked/join/1",
            StreamKind::Control => "/lingualinked/control/1",
            StreamKind::Activation => "/lingualinked/activation/1",
            StreamKind::Chat => "/lingualinked/chat/1",
            StreamKind::Shard => "/lingualinked/shard/1",
            StreamKind::Chunk => "/lingualinked/chunk/1",
        }
    }
}

impl UpgradeInfo for Protocols {
    type Info = KindProtocol;
    type InfoIter =
        iter::Map<std::slice::Iter<'static, StreamKind>, fn(&StreamKind) -> KindProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|kind| KindProtocol(*kind))
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (StreamKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, KindProtocol(kind): KindProtocol) -> Self::Future {
        ready(Ok((kind, stream)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (StreamKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, KindProtocol(kind): KindProtocol) -> Self::Future {
        ready(Ok((kind, stream)))
    }
}

fn only(kind: StreamKind) -> &'static [StreamKind] {
    match kind {
        StreamKind::Join => &[StreamKind::Join],
        StreamKind::Control => &[StreamKind::Control],
        StreamKind::Activation => &[StreamKind::Activation],
        StreamKind::Chat => &[StreamKind::Chat],
        StreamKind::Shard => &[StreamKind::Shard],
        StreamKind::Chunk => &[StreamKind::Chunk],
    }
}

//! Connections that strangers make: few from one address, few in all, so that a crowd of them costs little
//! and leaves members their place.
//!
//! What is the same for everybody (connections per phone, in all, and half made) is up to
//! [`libp2p::connection_limits`] beside this.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::members::MembersView;
use crate::discovery::address::ip_of;
use crate::identity;

/// Connections from strangers at once: more than a room of people who tap, and with
/// [`super::STREAMS_PER_CONNECTION_MAX`] windows of 256 KiB each still bounded.
pub const STRANGERS_MAX: usize = 24;

/// Of these, connections from one address: a phone needs two when both sides dial at once, and again
/// while the old ones are not known to be dead.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 4;

/// Connections from one address that are half made.
pub const PENDING_PER_ADDRESS_MAX: usize = 8;

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The identity is of another kind than phones have.
    #[error("the peer's key is not an Ed25519 key")]
    NotAPhone,
    /// [`STRANGERS_MAX`]
    #[error("{STRANGERS_MAX} strangers are connected")]
    TooManyStrangers,
    /// [`STRANGERS_PER_ADDRESS_MAX`]
    #[error("{STRANGERS_PER_ADDRESS_MAX} strangers are connected from {0}")]
    TooManyFromAddress(IpAddr),
    /// [`PENDING_PER_ADDRESS_MAX`]
    #[error("{PENDING_PER_ADDRESS_MAX} connections from {0} are half made")]
    TooManyHalfMade(IpAddr),
}

/// Refuses what is too much.
#[derive(Debug)]
pub struct Behaviour {
    members: MembersView,
    /// Half made, with where they come from. Loopback is not counted: all phones of a demo are there.
    half_made: BTreeMap<ConnectionId, IpAddr>,
    /// Made by others, with where they come from.
    incoming: BTreeMap<ConnectionId, (PeerId, Option<IpAddr>)>,
}

impl Behaviour {
    /// Refuses nobody yet.
    pub fn new(members: MembersView) -> Self {
        Self {
            members,
            half_made: BTreeMap::new(),
            incoming: BTreeMap::new(),
        }
    }

    fn check_half_made(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(address) = address else {
            return Ok(());
        };
        let n = self.half_made.values().filter(|&&a| a == address).count();

        if n < PENDING_PER_ADDRESS_MAX {
            Ok(())
        } else {
            Err(Refusal::TooManyHalfMade(address))
        }
    }

    fn check_stranger(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let strangers = self.incoming.values();
        let strangers = strangers.filter(|(peer, _)| !self.members.contains(peer));
        let (mut n, mut n_from_address) = (0, 0);
        for (_, from) in strangers {
            n += 1;
            n_from_address += usize::from(from.is_some() && *from == address);
        }

        match address {
            _ if n >= STRANGERS_MAX => Err(Refusal::TooManyStrangers),
            Some(address) if n_from_address >= STRANGERS_PER_ADDRESS_MAX => {
                Err(Refusal::TooManyFromAddress(address))
            }
            _ => Ok(()),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let address = counted_address(from);
        self.check_half_made(address)
            .map_err(ConnectionDenied::new)?;
        self.half_made.extend(address.map(|address| (id, address)));

        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.half_made.remove(&id);
        check_phone(&peer)?;
        if !self.members.contains(&peer) {
            self.check_stranger(counted_address(from))
                .map_err(ConnectionDenied::new)?;
        }

        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        check_phone(&peer)?;

        Ok(dummy::ConnectionHandler)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p has events that concern nobody here"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.half_made.remove(&connection_id);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            }) if endpoint.is_listener() => {
                let address = counted_address(endpoint.get_remote_address());
                self.incoming.insert(connection_id, (peer_id, address));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.incoming.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

fn check_phone(peer: &PeerId) -> Result<(), ConnectionDenied> {
    match identity::peer_id(peer) {
        Some(_) => Ok(()),
        None => Err(ConnectionDenied::new(Refusal::NotAPhone)),
    }
}

/// Returns where a connection comes from, if that address has a limit of its own.
fn counted_address(from: &Multiaddr) -> Option<IpAddr> {
    let address = ip_of(from)?.to_canonical();

    (!address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libp2p::core::ConnectedPoint;
    use libp2p::identity::Keypair;

    use super::*;
    use crate::net::members::Members;

    #[test]
    fn one_address_cannot_take_every_place() {
        let mut door = Door::new();

        let taken = (0..100).filter(|_| door.knock("10.0.0.66")).count();

        assert_eq!(taken, STRANGERS_PER_ADDRESS_MAX);
        assert!(door.knock("10.0.0.7"));
    }

    #[test]
    fn a_crowd_of_strangers_leaves_members_their_place() {
        let mut door = Door::new();

        let taken = (1..=250)
            .filter(|i| door.knock(&format!("10.0.0.{i}")))
            .count();

        assert_eq!(taken, STRANGERS_MAX);
        let member = peer();
        door.members.set(BTreeSet::from([member]));
        assert!(door.knock_as(member, "10.0.0.250"));
    }

    #[test]
    fn who_never_finishes_is_refused_by_address() {
        let mut door = Door::new();

        let half_made = (0..100)
            .filter(|_| door.begin("10.0.0.66").is_some())
            .count();

        assert_eq!(half_made, PENDING_PER_ADDRESS_MAX);
        assert!(door.begin("10.0.0.7").is_some());
        assert!((0..100).all(|_| door.begin("127.0.0.1").is_some()));
    }

    struct Door {
        members: Members,
        behaviour: Behaviour,
        n: usize,
    }

    impl Door {
        fn new() -> Self {
            let members = Members::new();
            Self {
                behaviour: Behaviour::new(members.view()),
                members,
                n: 0,
            }
        }

        fn begin(&mut self, from: &str) -> Option<ConnectionId> {
            self.n += 1;
            let id = ConnectionId::new_unchecked(self.n);
            let (local, remote) = addresses(from);

            let taken = self
                .behaviour
                .handle_pending_inbound_connection(id, &local, &remote);
            taken.is_ok().then_some(id)
        }

        fn knock(&mut self, from: &str) -> bool {
            self.knock_as(peer(), from)
        }

        fn knock_as(&mut self, peer: PeerId, from: &str) -> bool {
            let id = self.begin(from).expect("none is left half made");
            let (local_addr, send_back_addr) = addresses(from);
            let taken = self.behaviour.handle_established_inbound_connection(
                id,
                peer,
                &local_addr,
                &send_back_addr,
            );

            let endpoint = ConnectedPoint::Listener {
                local_addr,
                send_back_addr,
            };
            if taken.is_ok() {
                let established = FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: peer,
                    connection_id: id,
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                });
                self.behaviour.on_swarm_event(established);
            }
            taken.is_ok()
        }
    }

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn addresses(from: &str) -> (Multiaddr, Multiaddr) {
        let local = "/ip4/10.0.0.1/tcp/27077".parse();
        let remote = format!("/ip4/{from}/tcp/40000").parse();

        (local.expect("an address"), remote.expect("an address"))
    }
}

//! Knocking at every address of the own network, where nothing else finds anybody: many access points drop
//! multicast.
//!
//! Only when a person asks for it, only private IPv4 networks, at most the 254 hosts around this phone (the
//! gateway, which a phone that shares its own network is, among them), and only the port that phones listen on
//! unless it is taken. Whoever answers is dialled, and then says who it is.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::ip_of;
use super::announcement::Announcement;
use super::store::Origin;
use super::{Found, PeerSource, SourceError};

/// Hosts that are tried at once: so many sockets every system allows.
const AT_ONCE: usize = 32;

/// How long a host may take to answer. One that is there does so in a few milliseconds, or after a second if the
/// first packet is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Networks that are probed: a person may be in two at once.
const NETWORKS_MAX: usize = 2;

/// One round of knocking; it ends.
pub struct Probe {
    waiting: VecDeque<SocketAddrV4>,
    under_way: FuturesUnordered<BoxFuture<'static, Option<SocketAddrV4>>>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Begins with the networks of these addresses, at this port.
    pub fn new(own_addresses: &[Multiaddr], port: u16) -> Self {
        let own: BTreeSet<_> = own_addresses.iter().filter_map(private_ipv4).collect();

        Self {
            waiting: hosts_around(&own)
                .map(|ip| SocketAddrV4::new(ip, port))
                .collect(),
            under_way: FuturesUnordered::new(),
        }
    }
}

impl PeerSource for Probe {
    fn origin(&self) -> Origin {
        Origin::Probe
    }

    fn announce(&mut self, _: &Announcement, _: &[Multiaddr]) {}

    fn hide(&mut self) {}

    fn look(&mut self, _: bool) -> bool {
        true // it looks once, when a person wants it
    }

    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, SourceError>> {
        loop {
            while self.under_way.len() < AT_ONCE
                && let Some(host) = self.waiting.pop_front()
            {
                self.under_way.push(knock(host).boxed());
            }
            match self.under_way.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(host))) => {
                    let address = Multiaddr::from(*host.ip()).with(Protocol::Tcp(host.port()));
                    return Poll::Ready(Ok(Found::Listener(address)));
                }
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) => return Poll::Ready(Err(SourceError::Ended)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn knock(host: SocketAddrV4) -> Option<SocketAddrV4> {
    let answered = timeout(ANSWER_TIMEOUT, TcpStream::connect(host)).await;

    matches!(answered, Ok(Ok(_))).then_some(host)
}

fn private_ipv4(address: &Multiaddr) -> Option<Ipv4Addr> {
    match ip_of(address)? {
        IpAddr::V4(ip) if ip.is_private() => Some(ip),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Returns the hosts that share their first three bytes with one of `own`: the gateway's usual places first.
fn hosts_around(own: &BTreeSet<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
    let networks = own
        .iter()
        .map(|ip| ip.octets())
        .map(|[a, b, c, _]| [a, b, c]);
    let networks: BTreeSet<_> = networks.collect();
    let usual_first = [1, 254].into_iter().chain(2..254);

    networks
        .into_iter()
        .take(NETWORKS_MAX)
        .flat_map(move |[a, b, c]| usual_first.clone().map(move |d| Ipv4Addr::new(a, b, c, d)))
        .filter(|ip| !own.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_network_is_tried_and_nothing_else() {
        let own = [
            "/ip4/10.77.0.3/tcp/1",
            "/ip4/203.0.113.9/tcp/1",
            "/ip6/fd12::1/tcp/1",
        ];
        let own = own.map(|address| address.parse().expect("an address"));

        let probe = Probe::new(&own, 27_077);

        let hosts: Vec<_> = probe
            .waiting
            .iter()
            .map(|host| host.ip().octets())
            .collect();
        assert_eq!(hosts.len(), 253, "all but this phone");
        assert_eq!(hosts[..2], [[10, 77, 0, 1], [10, 77, 0, 254]]);
        assert!(
            hosts
                .iter()
                .all(|[a, b, c, d]| [*a, *b, *c] == [10, 77, 0] && *d != 3)
        );
    }

    #[tokio::test]
    async fn who_listens_is_found_and_the_probe_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let mut probe = Probe::new(&[], port);
        probe
            .waiting
            .push_back(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));

        let found = std::future::poll_fn(|cx| probe.poll_found(cx)).await;
        let end = std::future::poll_fn(|cx| probe.poll_found(cx)).await;

        let expected = format!("/ip4/127.0.0.1/tcp/{port}")
            .parse()
            .expect("an address");
        assert_eq!(found.expect("it listens"), Found::Listener(expected));
        assert!(matches!(end, Err(SourceError::Ended)));
    }
}

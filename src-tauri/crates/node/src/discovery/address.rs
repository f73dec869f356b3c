//! Which addresses are worth saying, and which are worth dialling.
//!
//! Phones have many interfaces that lead nowhere near: mobile data, tunnels, stand-ins. What is on those is not
//! said to anybody. Loopback is said only by a phone that has nothing else, which can then be found by the
//! other phones of the same machine, as those of a demo are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use if_addrs::Interface;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use proto::group::{Address, Addresses};

/// How the names of interfaces start that lead nowhere near: `MOBILE.md`'s list, Apple's names for mobile data,
/// tunnels and its own radio links, and those of containers.
const ELSEWHERE: [&str; 14] = [
    "dummy", "rmnet", "ccmni", "tun", "tap", "ppp", "wg", "ipsec", "utun", "pdp_ip", "awdl", "llw",
    "docker", "veth",
];

/// Addresses that a router of a mobile network gives to every phone alike (RFC 7335).
const SAME_EVERYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 0);

/// The addresses of this machine, and whether each is on an interface that leads to phones nearby.
#[derive(Debug, Default, Clone)]
pub struct Interfaces(BTreeMap<IpAddr, bool>);

impl Interfaces {
    /// Asks the system; nothing is known if it does not say.
    pub fn of_this_machine() -> Self {
        let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "The system does not tell its interfaces");
            Vec::new()
        });

        let leads_near = |i: &Interface| i.is_oper_up() && !leads_elsewhere(&i.name);
        let found = found.into_iter().map(|i| (i.ip(), leads_near(&i)));
        Self(found.collect())
    }

    /// Returns whether an address is on an interface that leads to phones nearby. One that is not known may.
    pub fn is_near(&self, ip: IpAddr) -> bool {
        self.0.get(&ip).copied().unwrap_or(true)
    }
}

/// Returns whether an interface of this name leads nowhere near.
pub fn leads_elsewhere(name: &str) -> bool {
    ELSEWHERE.iter().any(|start| name.starts_with(start))
}

/// Returns addresses as phones send them to each other: binary, and those that are too long left out.
pub fn to_wire<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Addresses {
    let addresses = addresses.into_iter();

    addresses
        .filter_map(|address| Address::new(address.as_ref()))
        .collect()
}

/// Returns those of another phone's addresses that can be read.
pub fn from_wire(addresses: &Addresses) -> Vec<Multiaddr> {
    let addresses = addresses.iter();

    addresses
        .filter_map(|address| Multiaddr::try_from(address.as_bytes().to_vec()).ok())
        .collect()
}

/// Returns what is worth saying of the addresses that a phone listens on, the most local first.
pub fn worth_saying(listening: &BTreeSet<Multiaddr>, interfaces: &Interfaces) -> Vec<Multiaddr> {
    let said = |address: &&Multiaddr| {
        ip_of(address).is_some_and(|ip| is_unicast(ip) && interfaces.is_near(ip))
    };
    let mut said: Vec<_> = listening.iter().filter(said).cloned().collect();
    if said.iter().any(|address| !is_loopback(address)) {
        said.retain(|address| !is_loopback(address));
    }

    said.sort_by_key(locality);
    said
}

/// Returns whether an address that somebody said may be dialled: a plain one, with or without the phone's id.
///
/// A made-up address can make this phone knock at a door, but only at a single host's, and with nothing to say but who
/// it is.
pub fn is_dialable(address: &Multiaddr) -> bool {
    is_plain(address) && ip_of(address).is_some_and(is_unicast)
}

/// Returns whether an address leads back to the machine that it is used on.
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// Returns how far away an address is; less is nearer.
pub fn locality(address: &Multiaddr) -> u8 {
    match ip_of(address) {
        Some(ip) if ip.is_loopback() => 0,
        Some(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => 1,
        Some(IpAddr::V6(ip)) if ip.is_unique_local() => 2,
        Some(IpAddr::V4(_)) => 3,
        Some(IpAddr::V6(_)) => 4,
        None => 5,
    }
}

/// Returns the host of an address that starts with one.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    let host = address.iter().next()?;

    if let Protocol::Ip4(ip) = host {
        Some(ip.into())
    } else if let Protocol::Ip6(ip) = host {
        Some(ip.into())
    } else {
        None
    }
}

/// Returns the TCP port of an address that has one.
pub fn tcp_port_of(address: &Multiaddr) -> Option<u16> {
    if let Protocol::Tcp(port) = address.iter().nth(1)? {
        Some(port)
    } else {
        None
    }
}

/// Returns an address as IPv4 and TCP write it, if it is one of these.
pub fn tcp_v4_of(address: &Multiaddr) -> Option<SocketAddrV4> {
    match ip_of(address)? {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, tcp_port_of(address)?)),
        IpAddr::V6(_) => None,
    }
}

/// Returns whether an address is host, port, and at most the phone's id.
fn is_plain(address: &Multiaddr) -> bool {
    let mut parts = address.iter().skip(1);
    let transport = parts.next();
    let has_port = if let Some(Protocol::Tcp(port)) = transport {
        port > 0
    } else if let Some(Protocol::Udp(port)) = transport {
        port > 0 && parts.next() == Some(Protocol::QuicV1)
    } else {
        false
    };

    has_port
        && matches!(
            (parts.next(), parts.next()),
            (None | Some(Protocol::P2p(_)), None)
        )
}

/// Returns whether one host can be reached at `ip` without saying over which interface.
fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let same_everywhere = ip.octets()[..3] == SAME_EVERYWHERE.octets()[..3];
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || same_everywhere)
        }
        IpAddr::V6(ip) => {
            let mapped = ip.to_ipv4_mapped().is_some();
            !(ip.is_unspecified() || ip.is_multicast() || is_link_local(ip) || mapped)
        }
    }
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_both_ways_and_nonsense_is_left_out() {
        let quic = "/ip4/192.168.1.7/udp/4001/quic-v1";
        let quic = quic.parse::<Multiaddr>().expect("an address");

        let mut sent = to_wire([&quic]).into_vec();
        sent.extend(Address::new(b"\xffnonsense"));

        assert_eq!(from_wire(&sent.into_iter().collect()), [quic]);
    }

    #[test]
    fn only_what_leads_to_phones_nearby_is_said() {
        let interfaces = interfaces(&[
            ("127.0.0.1", "lo"),
            ("192.168.1.7", "wlan0"),
            ("10.3.4.5", "rmnet_data0"),
            ("10.8.0.2", "tun0"),
            ("fd12::7", "wlan0"),
            ("fe80::7", "wlan0"),
            ("192.0.0.4", "v4-rmnet_data0"),
        ]);
        let listening = interfaces.0.keys().map(|ip| at(*ip)).collect();

        let said = worth_saying(&listening, &interfaces);

        assert_eq!(said, [address("192.168.1.7"), address("fd12::7")]);
    }

    #[test]
    fn a_phone_on_loopback_alone_says_that() {
        let interfaces = interfaces(&[("127.0.0.1", "lo"), ("10.3.4.5", "rmnet0")]);
        let listening = interfaces.0.keys().map(|ip| at(*ip)).collect();

        assert_eq!(
            worth_saying(&listening, &interfaces),
            [address("127.0.0.1")]
        );
    }

    #[test]
    fn only_single_hosts_are_dialled() {
        let good = [
            "/ip4/192.168.1.7/tcp/27077",
            "/ip6/fd12::7/udp/27077/quic-v1",
            "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf",
        ];
        let bad = [
            "/dns/example.org/tcp/443",
            "/ip4/224.0.0.251/udp/5353/quic-v1",
            "/ip4/255.255.255.255/tcp/80",
            "/ip4/0.0.0.0/tcp/80",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/udp/80",
            "/ip4/10.0.0.1/tcp/80/ws",
            "/ip6/fe80::1/tcp/80",
            "/ip6/::ffff:10.0.0.1/tcp/80",
            "/ip4/10.0.0.1",
        ];

        let parse = |text: &&str| text.parse::<Multiaddr>().expect("an address");
        assert!(good.iter().map(parse).all(|address| is_dialable(&address)));
        for address in bad.iter().map(parse) {
            assert!(!is_dialable(&address), "{address}");
        }
    }

    fn interfaces(list: &[(&str, &str)]) -> Interfaces {
        let parse =
            |(ip, name): &(&str, &str)| (ip.parse().expect("an IP"), !leads_elsewhere(name));

        Interfaces(list.iter().map(parse).collect())
    }

    fn address(ip: &str) -> Multiaddr {
        at(ip.parse().expect("an IP"))
    }

    fn at(ip: IpAddr) -> Multiaddr {
        Multiaddr::from(ip).with(Protocol::Tcp(27_077))
    }
}

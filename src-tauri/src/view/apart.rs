//! Whether this network keeps its phones apart, as guest networks do, as far as dialling tells.
//!
//! Such a network says nothing of it: what is sent to another phone is lost. But so it is where the phone is gone. So what
//! counts is a phone that is there in all likelihood, because it was just heard nearby, or a person holds an invite of it;
//! that is in this very network; that this phone's person wants to meet; and from which nothing at all comes back. One
//! phone that is reached proves the opposite.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use libp2p::Multiaddr;
use node::discovery::address::ip_of;
use proto::PeerId;

/// Dials of one phone without an answer that make the network suspect: a single one may meet a phone that is asleep, and
/// takes 5 s. A guess.
const SILENT_DIALS_MIN: u32 = 2;

/// What came of dialling.
#[derive(Debug, Default)]
pub struct Apart {
    /// Networks that this phone is in.
    own: BTreeSet<Network>,
    /// Phones that an invite says to be in one of them.
    invited_here: BTreeSet<PeerId>,
    /// Dials of phones in these networks from which nothing came back.
    silent: BTreeMap<PeerId, u32>,
    /// Whether nothing came back from where a typed code says.
    code_silent: bool,
}

/// A private network: the first three numbers of its addresses. How large it really is, no address says; that of homes
/// and hotspots is as large.
type Network = [u8; 3];

impl Apart {
    /// This phone is elsewhere: what was found out before is about another network.
    pub fn is_at(&mut self, addresses: &[Multiaddr]) {
        let own = addresses.iter().filter_map(network_of).collect();

        if self.own != own {
            *self = Self {
                own,
                ..Self::default()
            };
        }
    }

    /// An invite says where a phone is.
    pub fn is_invited_by(&mut self, phone: PeerId, addresses: &[Multiaddr]) {
        self.silent.remove(&phone);
        let here = addresses.iter().filter_map(network_of);

        if here.into_iter().any(|network| self.own.contains(&network)) {
            self.invited_here.insert(phone);
        } else {
            self.invited_here.remove(&phone);
        }
    }

    /// A phone that this phone's person wants to meet was dialled, and nothing came back; `is_near` if it is heard nearby.
    pub fn is_silent(&mut self, phone: PeerId, is_near: bool) {
        if (is_near && !self.own.is_empty()) || self.invited_here.contains(&phone) {
            *self.silent.entry(phone).or_default() += 1;
        }
    }

    /// Nothing came back from where a typed code says.
    pub fn is_silent_at(&mut self, address: &Multiaddr) {
        let network = network_of(address);

        self.code_silent |= network.is_some_and(|network| self.own.contains(&network));
    }

    /// A phone was reached, whichever it was.
    pub fn is_reached(&mut self) {
        self.silent.clear();
        self.code_silent = false;
    }

    /// A phone is near no more: that may be why it did not answer.
    pub fn faded(&mut self, phone: PeerId) {
        if !self.invited_here.contains(&phone) {
            self.silent.remove(&phone);
        }
    }

    /// Returns whether the network seems to keep phones apart.
    pub fn seems_so(&self) -> bool {
        self.code_silent || self.silent.values().any(|dials| *dials >= SILENT_DIALS_MIN)
    }
}

/// Returns the private network that an address is in, if it is in one.
fn network_of(address: &Multiaddr) -> Option<Network> {
    match ip_of(address)? {
        IpAddr::V4(ip) if ip.is_private() => Some(network(ip)),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn network(ip: Ipv4Addr) -> Network {
    let [a, b, c, _] = ip.octets();

    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: PeerId = PeerId([1; 32]);
    const BEN: PeerId = PeerId([2; 32]);

    #[test]
    fn a_phone_that_is_near_and_never_answers_makes_a_network_suspect() {
        let mut apart = at("192.168.1.7");

        apart.is_silent(ANNA, true);
        assert!(!apart.seems_so(), "it may have been asleep");
        apart.is_silent(ANNA, true);
        assert!(apart.seems_so());

        apart.is_reached();
        assert!(!apart.seems_so());
    }

    #[test]
    fn one_that_is_gone_or_elsewhere_says_nothing_of_the_network() {
        let mut apart = at("192.168.1.7");
        silent_twice(&mut apart, ANNA, false);
        assert!(!apart.seems_so(), "nobody has heard it nearby");

        apart.is_invited_by(ANNA, &[address("192.168.2.9"), address("8.8.8.8")]);
        silent_twice(&mut apart, ANNA, false);
        apart.is_silent_at(&address("192.168.2.9"));
        assert!(!apart.seems_so(), "it is in another network");

        silent_twice(&mut apart, BEN, true);
        apart.faded(BEN);
        assert!(!apart.seems_so(), "it has gone");
    }

    #[test]
    fn an_invite_of_this_network_is_as_good_as_being_near() {
        let mut apart = at("10.0.0.7");

        apart.is_invited_by(ANNA, &[address("10.0.0.9")]);
        silent_twice(&mut apart, ANNA, false);
        apart.faded(ANNA);
        assert!(apart.seems_so());

        let mut apart = at("10.0.0.7");
        apart.is_silent_at(&address("10.0.0.9"));
        assert!(apart.seems_so());
    }

    #[test]
    fn another_network_is_another_matter() {
        let mut apart = at("10.0.0.7");
        silent_twice(&mut apart, ANNA, true);

        apart.is_at(&[address("10.0.0.8")]);
        assert!(apart.seems_so(), "the same network");
        apart.is_at(&[address("192.168.1.8")]);
        assert!(!apart.seems_so());

        apart.is_at(&[address("127.0.0.1")]);
        silent_twice(&mut apart, ANNA, true);
        assert!(!apart.seems_so(), "it is in none");
    }

    fn silent_twice(apart: &mut Apart, phone: PeerId, is_near: bool) {
        apart.is_silent(phone, is_near);
        apart.is_silent(phone, is_near);
    }

    fn at(ip: &str) -> Apart {
        let mut apart = Apart::default();
        apart.is_at(&[address(ip), address("127.0.0.1")]);

        apart
    }

    fn address(ip: &str) -> Multiaddr {
        format!("/ip4/{ip}/tcp/4001").parse().expect("an address")
    }
}

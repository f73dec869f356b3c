//! Where phones may be reached, by what the group's roster says and by what a person typed.

use std::collections::BTreeMap;

use libp2p::Multiaddr;
use proto::PeerId;
use proto::group::{Address, Addresses, Roster};

/// Phones that a person gave an address of at most; more than anybody types in an evening.
const TYPED_MAX: usize = 32;

/// Addresses of phones.
#[derive(Debug, Default)]
pub struct AddressBook {
    members: BTreeMap<PeerId, Vec<Multiaddr>>,
    typed: BTreeMap<PeerId, Multiaddr>,
}

impl AddressBook {
    /// Notes an address that a person gave, in place of one that they gave before.
    pub fn note(&mut self, phone: PeerId, address: Multiaddr) {
        if self.typed.len() >= TYPED_MAX && !self.typed.contains_key(&phone) {
            self.typed.pop_first();
        }

        self.typed.insert(phone, address);
    }

    /// Notes where the members say that they are, in place of where they were.
    pub fn note_members(&mut self, roster: &Roster) {
        let members = roster.members.iter();

        self.members = members
            .map(|member| (member.peer, from_wire(&member.addresses)))
            .collect();
    }

    /// Returns the addresses of a phone, those that a person gave first.
    pub fn of(&self, phone: PeerId) -> Vec<Multiaddr> {
        let members = self.members.get(&phone).into_iter().flatten();

        self.typed
            .get(&phone)
            .into_iter()
            .chain(members)
            .cloned()
            .collect()
    }
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
    fn what_is_typed_comes_first_and_has_a_bound() {
        let mut book = AddressBook::default();
        let address = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("one");

        for i in 0..=TYPED_MAX {
            book.note(PeerId([i as u8; 32]), address(i as u16 + 1));
        }
        book.note(PeerId([5; 32]), address(9));

        assert_eq!(book.typed.len(), TYPED_MAX);
        assert_eq!(book.of(PeerId([5; 32])), [address(9)]);
        assert!(book.of(PeerId([0; 32])).is_empty());
    }
}

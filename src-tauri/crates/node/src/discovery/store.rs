//! Where phones may be reached, as far as anybody said: one store for all sources.
//!
//! Bounded in phones and in addresses: whoever says more pushes out what was said longest ago.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use proto::PeerId;

use super::address;

/// Phones that addresses are kept of: those on a full list of nearby phones, and as many that faded.
pub const PHONES_MAX: usize = 128;

/// Addresses of one phone: those that it may announce ([`proto::group::ADDRESSES_MAX`]), and as many of a network
/// that it has left.
pub const ADDRESSES_MAX: usize = 16;

/// How long an address is kept without being said again. A guess: an evening.
const AGE_MAX: Duration = Duration::from_secs(6 * 3600);

/// What was said within this time is tried before what was said earlier. Sources repeat themselves every 5 to 30 s.
const FRESH: Duration = Duration::from_secs(60);

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A person: an invite, or an address typed by hand.
    Person,
    /// The phone itself, over a connection that proves who it is.
    Identify,
    /// libp2p's own mDNS.
    Mdns,
    /// The system's.
    DnsSd,
    /// It answered when every address near was tried.
    Probe,
    /// A member: the group's roster.
    Roster,
}

/// An address, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The address, without the phone's id.
    pub address: Multiaddr,
    /// Who said so last.
    pub origin: Origin,
    /// When.
    pub said_at: Instant,
}

/// Addresses of phones.
#[derive(Debug, Default)]
pub struct PeerStore {
    phones: BTreeMap<PeerId, Vec<Known>>,
}

impl PeerStore {
    /// Takes note of an address, unless it is none to be dialled.
    pub fn learn(&mut self, phone: PeerId, address: &Multiaddr, origin: Origin, now: Instant) {
        if !address::is_dialable(address) {
            return tracing::debug!(%phone, %address, ?origin, "No address to be dialled");
        }
        let known = Known {
            address: without_peer(address),
            origin,
            said_at: now,
        };

        let addresses = self.phones.entry(phone).or_default();
        addresses.retain(|other| other.address != known.address);
        addresses.insert(0, known); // so the last was said longest ago
        addresses.truncate(ADDRESSES_MAX);
        self.make_room();
    }

    /// Returns where to dial a phone, the best first.
    pub fn addresses(&self, phone: PeerId, now: Instant) -> Vec<Multiaddr> {
        let mut known: Vec<_> = self.known(phone, now).collect();
        known.sort_by_key(|known| {
            let stale = now.saturating_duration_since(known.said_at) > FRESH;
            (
                stale,
                address::locality(&known.address),
                Reverse(known.said_at),
            )
        });

        known
            .into_iter()
            .map(|known| known.address.clone())
            .collect()
    }

    /// Returns what is known of a phone's addresses, the latest first.
    pub fn known(&self, phone: PeerId, now: Instant) -> impl Iterator<Item = &Known> {
        let known = self.phones.get(&phone).into_iter().flatten();

        known.filter(move |known| now.saturating_duration_since(known.said_at) <= AGE_MAX)
    }

    /// Returns the phone that was last said to be at an address.
    pub fn phone_at(&self, address: &Multiaddr) -> Option<PeerId> {
        let address = without_peer(address);
        let said_at = |(phone, known): (&PeerId, &Vec<Known>)| {
            let known = known.iter().find(|known| known.address == address)?;
            Some((known.said_at, *phone))
        };

        self.phones
            .iter()
            .filter_map(said_at)
            .max()
            .map(|(_, phone)| phone)
    }

    fn make_room(&mut self) {
        while self.phones.len() > PHONES_MAX {
            let said_at = |known: &Vec<Known>| known.first().map(|known| known.said_at);
            let oldest = self.phones.iter().min_by_key(|(_, known)| said_at(known));
            let oldest = oldest.map(|(phone, _)| *phone).expect("there are too many");
            self.phones.remove(&oldest);
        }
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    let is_peer = |part: &Protocol<'_>| matches!(part, Protocol::P2p(_));

    address.iter().filter(|part| !is_peer(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_address_from_two_sources_is_kept_once() {
        let (mut store, now) = (PeerStore::default(), Instant::now());

        store.learn(phone(1), &at("192.168.1.7"), Origin::Mdns, now);
        store.learn(phone(1), &at("192.168.1.7"), Origin::DnsSd, now + FRESH);

        let known: Vec<_> = store.known(phone(1), now + FRESH).collect();
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].origin, Origin::DnsSd);
    }

    #[test]
    fn fresh_comes_before_near_and_near_before_far() {
        let (mut store, now) = (PeerStore::default(), Instant::now());
        let later = now + 2 * FRESH;

        store.learn(phone(1), &at("192.168.1.7"), Origin::Mdns, now);
        store.learn(phone(1), &at("203.0.113.7"), Origin::Identify, later);
        store.learn(phone(1), &at("10.0.0.7"), Origin::Identify, later);

        let expected = [at("10.0.0.7"), at("203.0.113.7"), at("192.168.1.7")];
        assert_eq!(store.addresses(phone(1), later), expected);
        assert!(
            store
                .addresses(phone(1), later + AGE_MAX + FRESH)
                .is_empty()
        );
    }

    #[test]
    fn whoever_makes_up_phones_and_addresses_does_not_grow_the_store() {
        let (mut store, now) = (PeerStore::default(), Instant::now());

        for i in 0..=255u8 {
            for j in 0..=255u8 {
                let address = at(&format!("10.0.{i}.{j}"));
                store.learn(
                    phone(i),
                    &address,
                    Origin::Mdns,
                    now + Duration::from_millis(i.into()),
                );
            }
        }

        assert_eq!(store.phones.len(), PHONES_MAX);
        assert!(
            store
                .phones
                .values()
                .all(|known| known.len() == ADDRESSES_MAX)
        );
        assert!(store.known(phone(255), now).count() > 0, "the latest stay");
    }

    fn phone(id: u8) -> PeerId {
        PeerId([id; 32])
    }

    fn at(ip: &str) -> Multiaddr {
        format!("/ip4/{ip}/tcp/27077").parse().expect("an address")
    }
}

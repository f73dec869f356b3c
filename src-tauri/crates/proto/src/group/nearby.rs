//! Phones that discovery sees: a short list that forgets.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use super::bounded::Name;
use super::roster::GroupId;
use crate::PeerId;

/// Phones remembered at once. More than a person scrolls through; anyone in the network can make
/// up phones, so a full list takes no new ones until others fade.
pub const NEARBY_MAX: usize = 64;

/// How long a phone stays listed without being seen again: discovery asks every 5 to 10 s, so
/// three answers were missed.
pub const NEARBY_LIFETIME: Duration = Duration::from_secs(30);

/// What discovery tells of a phone. Nothing in it is proven; it is a list to tap on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The phone.
    pub peer: PeerId,
    /// What it calls itself.
    pub name: Name,
    /// The version of the messages that it speaks.
    pub version: u16,
    /// The group that it is in.
    pub group: Option<GroupId>,
}

#[derive(Debug, Default)]
pub(super) struct Nearby {
    seen: BTreeMap<PeerId, (Sighting, Instant)>,
}

impl Nearby {
    /// Takes note of a sighting. Returns whether it is news.
    pub(super) fn sighted(&mut self, sighting: Sighting, now: Instant) -> bool {
        let until = now + NEARBY_LIFETIME;
        let full = self.seen.len() >= NEARBY_MAX;
        match self.seen.entry(sighting.peer) {
            Entry::Occupied(mut known) => {
                let news = known.get().0 != sighting;
                known.insert((sighting, until));
                news
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(free) => {
                free.insert((sighting, until));
                true
            }
        }
    }

    pub(super) fn unsighted(&mut self, peer: PeerId) -> bool {
        self.seen.remove(&peer).is_some()
    }

    /// Takes out those not seen for too long.
    pub(super) fn fade(&mut self, now: Instant) -> Vec<PeerId> {
        self.seen
            .extract_if(.., |_, (_, expires)| *expires <= now)
            .map(|(peer, _)| peer)
            .collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.seen.values().map(|(_, expires)| *expires).min()
    }

    pub(super) fn get(&self, peer: PeerId) -> Option<&Sighting> {
        self.seen.get(&peer).map(|(sighting, _)| sighting)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sighting> {
        self.seen.values().map(|(sighting, _)| sighting)
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_crowd_does_not_grow_the_list() {
        let now = Instant::now();
        let mut nearby = Nearby::default();

        let taken = (0..=255)
            .filter(|&id| nearby.sighted(sighting(id), now))
            .count();

        assert_eq!((taken, nearby.len()), (NEARBY_MAX, NEARBY_MAX));
        assert_eq!(nearby.fade(now + NEARBY_LIFETIME).len(), NEARBY_MAX);
    }

    fn sighting(id: u8) -> Sighting {
        Sighting {
            peer: PeerId([id; 32]),
            name: Name::tidy("some"),
            version: 1,
            group: None,
        }
    }
}

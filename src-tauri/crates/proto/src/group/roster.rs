//! Who belongs to the group: a numbered list that only the leader writes.
//!
//! Rosters are ordered by [`Version`]: the leader's term, then a number. A phone holds one, and
//! takes another only from the leader it obeys, only if it is newer, and only if it is in it.
//!
//! When two halves of a group meet again, their rosters have each gone their own way. Each entry
//! carries the [`Stamp`] at which it was written, and who left or was removed stays behind as a
//! [`Gone`] with its own; [`Roster::merge`] takes, per phone, whichever was written later, and on
//! a tie believes that it is gone. So a phone admitted on one side is a member of the whole, and
//! one removed on either side stays out until people let it in again.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounded::{Addresses, Bounded, Name};
use super::election::NUMBER_MAX;
use crate::PeerId;

/// Phones in a group at most.
///
/// A token passes every stage, so more than eight rarely pay; the rest may still chat. An honest
/// guess at how many people share a table.
pub const MEMBERS_MAX: usize = 12;

/// Departures remembered at most, the oldest forgotten first: a few for every seat.
pub const GONE_MAX: usize = 32;

/// Name of a group: drawn once, when it is founded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An election number and the phone that won it.
///
/// Who leads is part of the term, so two phones never lead the same one. A phone obeys at most one
/// leader per number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Term {
    /// Counted from 1 when the group is founded.
    pub number: u64,
    /// Phone that leads.
    pub leader: PeerId,
}

/// Which roster: a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Term of the leader that wrote it.
    pub term: Term,
    /// Count of the group's rosters; goes on from term to term.
    pub number: u64,
}

/// When an entry was written: the numbers of a [`Version`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Number of the term.
    pub term: u64,
    /// Number of the roster.
    pub number: u64,
}

/// A phone that belongs to the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The phone.
    pub peer: PeerId,
    /// What a person called it.
    pub name: Name,
    /// Where it may be reached.
    pub addresses: Addresses,
    /// When it was let in.
    pub since: Stamp,
}

/// A phone that left or was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The phone.
    pub peer: PeerId,
    /// When.
    pub at: Stamp,
}

/// The members of a group, by peer id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Whose roster.
    pub group: GroupId,
    /// Which one.
    pub version: Version,
    /// Who belongs.
    pub members: Bounded<Member, MEMBERS_MAX>,
    /// Who did.
    pub gone: Bounded<Gone, GONE_MAX>,
}

/// What is wrong with a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Members or departures are out of order or twice there.
    #[error("entries are not in order of peer id")]
    Unordered,
    /// A phone is a member and gone at once.
    #[error("{0} is both a member and gone")]
    Both(PeerId),
    /// The phone that claims to lead is no member.
    #[error("the leader {0} is no member")]
    LeaderMissing(PeerId),
    /// An entry is from the future.
    #[error("an entry was written after the roster")]
    Future,
    /// A number above 2⁶².
    #[error("its number is absurd")]
    Absurd,
}

impl Version {
    /// Returns when an entry of this roster is written.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            term: self.term.number,
            number: self.number,
        }
    }
}

impl Roster {
    /// Starts a group of one.
    pub fn found(group: GroupId, founder: PeerId, name: Name, addresses: Addresses) -> Self {
        let term = Term {
            number: 1,
            leader: founder,
        };
        let version = Version { term, number: 1 };
        let founder = Member {
            peer: founder,
            name,
            addresses,
            since: version.stamp(),
        };

        Self {
            group,
            version,
            members: [founder].into_iter().collect(),
            gone: Bounded::default(),
        }
    }

    /// Returns the entry of `peer`.
    pub fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    /// Returns whether `peer` belongs to the group.
    pub fn contains(&self, peer: PeerId) -> bool {
        self.member(peer).is_some()
    }

    /// Returns when `peer` left or was removed, if that is remembered.
    pub fn gone_at(&self, peer: PeerId) -> Option<Stamp> {
        let gone = self.gone.iter().find(|gone| gone.peer == peer);

        gone.map(|gone| gone.at)
    }

    /// Returns whether there is no seat left.
    pub fn is_full(&self) -> bool {
        self.members.len() == MEMBERS_MAX
    }

    /// Checks what every honest roster fulfils.
    ///
    /// # Errors
    ///
    /// - see [`RosterError`]; the first that applies
    pub fn check(&self) -> Result<(), RosterError> {
        let members_ordered = self.members.is_sorted_by(|a, b| a.peer < b.peer);
        let gone_ordered = self.gone.is_sorted_by(|a, b| a.peer < b.peer);
        let mut stamps = self.members.iter().map(|member| member.since);
        let mut gone_stamps = self.gone.iter().map(|gone| gone.at);
        let written = self.version.stamp();

        if !members_ordered || !gone_ordered {
            Err(RosterError::Unordered)
        } else if let Some(both) = self.gone.iter().find(|gone| self.contains(gone.peer)) {
            Err(RosterError::Both(both.peer))
        } else if !self.contains(self.version.term.leader) {
            Err(RosterError::LeaderMissing(self.version.term.leader))
        } else if stamps.any(|at| at > written) || gone_stamps.any(|at| at > written) {
            Err(RosterError::Future)
        } else if written.term > NUMBER_MAX || written.number > NUMBER_MAX {
            Err(RosterError::Absurd)
        } else {
            Ok(())
        }
    }

    /// Fingerprint of the whole roster: two that share a version and not a digest were written by
    /// a leader that forgot the first.
    pub fn digest(&self) -> u64 {
        let bytes = postcard::to_stdvec(self).expect("a roster has no map of unknown length");
        let hash = blake3::hash(&bytes);

        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
    }

    /// Starts the next roster, in the leader's `term`, and returns the stamp of its new entries.
    pub(super) fn advance(&mut self, term: Term) -> Stamp {
        self.version = Version {
            term,
            number: self.version.number + 1,
        };
        self.version.stamp()
    }

    /// Lets `member` in, or updates it. Returns whether there was room.
    pub(super) fn add(&mut self, member: Member) -> bool {
        self.gone.retain(|gone| gone.peer != member.peer);
        if let Some(known) = self.members.iter_mut().find(|m| m.peer == member.peer) {
            *known = member;
            return true;
        }

        let mut members: Vec<_> = self.members.to_vec();
        members.push(member);
        members.sort_by_key(|member| member.peer);
        let fits = members.len() <= MEMBERS_MAX;
        if fits {
            self.members = members.into_iter().collect();
        }
        fits
    }

    /// Takes `peer` out and remembers that it is gone.
    pub(super) fn remove(&mut self, peer: PeerId, at: Stamp) {
        self.members.retain(|member| member.peer != peer);
        self.gone.retain(|gone| gone.peer != peer);

        let mut gone: Vec<_> = self.gone.to_vec();
        gone.push(Gone { peer, at });
        self.gone = newest(gone);
    }

    /// Takes over what `other` knows better. Returns whether that changed anything.
    ///
    /// Who `keep`s its seat whatever `other` says is the leader that merges: if it was removed on
    /// the other side, it is told so by that side's phones.
    pub(super) fn merge(&mut self, other: &Self, keep: PeerId) -> bool {
        let mut merged = self.clone();
        for gone in &other.gone {
            let mine = merged.member(gone.peer).map(|member| member.since);
            let known = merged.gone_at(gone.peer);
            let newer = known.is_none_or(|at| at < gone.at) && mine.is_none_or(|at| at <= gone.at);
            if gone.peer != keep && newer {
                merged.remove(gone.peer, gone.at);
            }
        }
        for member in &other.members {
            let gone = merged.gone_at(member.peer);
            let mine = merged.member(member.peer).map(|mine| mine.since);
            let newer = gone.is_none_or(|at| at < member.since)
                && mine.is_none_or(|since| since < member.since);
            let seat = mine.is_some() || !merged.is_full();
            if newer && seat {
                merged.add(member.clone());
            }
        }

        let changed = merged.members != self.members || merged.gone != self.gone;
        *self = merged;
        changed
    }

    /// Returns whether nothing of `other` is news here.
    pub(super) fn accounts_for(&self, other: &Self) -> bool {
        !self.clone().merge(other, self.version.term.leader)
    }
}

/// The latest departures that there is room for, by peer id.
fn newest(mut gone: Vec<Gone>) -> Bounded<Gone, GONE_MAX> {
    gone.sort_by_key(|gone| (Reverse(gone.at), gone.peer));
    gone.truncate(GONE_MAX);
    gone.sort_by_key(|gone| gone.peer);
    gone.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_let_in_on_one_side_belongs_to_the_whole() {
        let mut left = group_of(&[1, 2]);
        let mut right = left.clone();
        let stamp = right.advance(term(2, 2));
        right.add(member(3, stamp));

        assert!(left.merge(&right, peer(1)));

        assert!(left.contains(peer(3)));
        assert!(left.accounts_for(&right));
    }

    #[test]
    fn a_phone_removed_on_either_side_stays_out() {
        let mut left = group_of(&[1, 2, 3]);
        let mut right = left.clone();
        let stamp = right.advance(term(2, 2));
        right.remove(peer(3), stamp);

        let mut other_way = right.clone();
        left.advance(term(3, 1)); // a leader merges in a term above both
        left.merge(&right, peer(1));
        other_way.merge(&left, peer(2));

        assert!(!left.contains(peer(3)) && !other_way.contains(peer(3)));
        assert_eq!(left.check(), Ok(()));
    }

    #[test]
    fn a_phone_let_in_again_after_it_was_removed_belongs() {
        let mut left = group_of(&[1, 2, 3]);
        let mut right = left.clone();
        let stamp = left.advance(term(1, 1));
        left.remove(peer(3), stamp);
        let stamp = right.advance(term(2, 2));
        right.remove(peer(3), stamp);
        let stamp = right.advance(term(2, 2));
        right.add(member(3, stamp));

        left.merge(&right, peer(1));

        assert!(left.contains(peer(3)));
    }

    #[test]
    fn a_roster_whose_leader_is_no_member_is_refused() {
        let mut roster = group_of(&[1, 2]);
        roster.version.term = term(7, 9);

        assert_eq!(roster.check(), Err(RosterError::LeaderMissing(peer(9))));
    }

    fn group_of(peers: &[u8]) -> Roster {
        let name = Name::tidy("one");
        let founder = peer(peers[0]);
        let mut roster = Roster::found(GroupId([7; 16]), founder, name, Addresses::default());
        for &id in &peers[1..] {
            let stamp = roster.advance(roster.version.term);
            roster.add(member(id, stamp));
        }
        roster
    }

    fn member(id: u8, since: Stamp) -> Member {
        Member {
            peer: peer(id),
            name: Name::tidy("some"),
            addresses: Addresses::default(),
            since,
        }
    }

    fn peer(id: u8) -> PeerId {
        PeerId([id; 32])
    }

    fn term(number: u64, leader: u8) -> Term {
        Term {
            number,
            leader: peer(leader),
        }
    }
}

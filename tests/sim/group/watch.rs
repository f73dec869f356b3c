//! What must hold after every event, whatever happens.
//!
//! - A phone obeys at most one leader per number, and its numbers never go back, over restarts too
//!   (unless its disk is put back to an old state, which no program can survive knowingly).
//! - Hence no phone ever obeys two that lead in the same term.
//! - Nobody is in a roster without having agreed with somebody to be.
//! - No table outgrows its bound.

use std::collections::{BTreeMap, BTreeSet};

use proto::PeerId;
use proto::group::{
    BLOCKED_MAX, GONE_MAX, Group, GroupId, INVITES_MAX, KNOCKS_MAX, MEMBERS_MAX, MUTED_MAX,
    NEARBY_MAX, STRANGERS_MAX, VOUCHED_MAX,
};

use super::Index;

/// Things that one turn of a machine may want done: a roster and a heartbeat for each member, some
/// words at the door, and what people are told.
const OUT_MAX: usize = 40 + 6 * MEMBERS_MAX;

/// Remembers what phones did, to see that they never do otherwise.
#[derive(Debug)]
pub struct Watch {
    phones: Vec<Obedience>,
    agreed: BTreeSet<(PeerId, PeerId)>,
}

#[derive(Debug, Default)]
struct Obedience {
    group: Option<GroupId>,
    highest: u64,
    leaders: BTreeMap<u64, PeerId>,
}

impl Watch {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            phones: (0..n).map(|_| Obedience::default()).collect(),
            agreed: BTreeSet::new(),
        }
    }

    /// The person at `here` agreed to be in one group with `there`.
    pub(crate) fn agreed(&mut self, here: PeerId, there: PeerId) {
        self.agreed.insert((here, there));
    }

    /// Phone `i` left its group, or its disk was put back.
    pub(crate) fn forget(&mut self, i: Index) {
        self.phones[i] = Obedience::default();
    }

    pub(crate) fn obedient(&mut self, i: Index, machine: &Group, seed: u64) {
        let (Some(term), Some(roster)) = (machine.accepted(), machine.roster()) else {
            return;
        };
        let before = &mut self.phones[i];
        if before.group != Some(roster.group) {
            *before = Obedience {
                group: Some(roster.group),
                ..Obedience::default()
            };
        }
        assert!(
            term.number >= before.highest,
            "seed={seed}: phone {i} went back from {} to {term:?}",
            before.highest
        );
        before.highest = term.number;
        let leader = *before.leaders.entry(term.number).or_insert(term.leader);
        assert!(
            leader == term.leader,
            "seed={seed}: phone {i} obeyed both {leader} and {} in {}",
            term.leader,
            term.number
        );
        assert!(
            roster.contains(machine.id()),
            "seed={seed}: phone {i} holds a roster without itself"
        );
        assert_eq!(roster.check(), Ok(()), "seed={seed}: phone {i}");
    }

    /// Every member of an honest phone's roster agreed with somebody, who agreed with it; a lying
    /// member may have let its friends in.
    pub(crate) fn consented(&self, machine: &Group, liars: &[PeerId], seed: u64) {
        let Some(roster) = machine.roster() else {
            return;
        };
        let liar_inside = roster
            .members
            .iter()
            .any(|member| liars.contains(&member.peer));
        let liar_was = roster.gone.iter().any(|gone| liars.contains(&gone.peer));
        if liar_inside || liar_was {
            return;
        }
        for member in roster.members.iter().filter(|_| roster.members.len() > 1) {
            let mutual = self
                .agreed
                .iter()
                .any(|&(here, there)| here == member.peer && self.agreed.contains(&(there, here)));
            assert!(
                mutual,
                "seed={seed}: {} is a member and never agreed",
                member.peer
            );
        }
    }

    pub(crate) fn bounded(&self, i: Index, machine: &Group, seed: u64) {
        let sizes = machine.sizes();
        let within = [
            (sizes.members, MEMBERS_MAX),
            (sizes.gone, GONE_MAX),
            (sizes.pairings, KNOCKS_MAX + 1),
            (sizes.vouched, VOUCHED_MAX),
            (sizes.invites, INVITES_MAX),
            (sizes.muted, MUTED_MAX),
            (sizes.strangers, STRANGERS_MAX),
            (sizes.nearby, NEARBY_MAX),
            (sizes.blocked, BLOCKED_MAX),
            (sizes.other_versions, NEARBY_MAX),
            (sizes.out, OUT_MAX),
        ];
        let outgrown = within.iter().any(|(size, max)| size > max);
        assert!(
            !outgrown,
            "seed={seed}: phone {i} outgrew a bound: {sizes:?}"
        );
    }
}

//! The group that this phone is in: who belongs, who leads, who answers, and what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::PeerId;
use proto::group::message::Presence as Answering;
use proto::group::{LeaveReason, OutEvent, Roster};

use super::ids::phone_id;
use crate::api::{Group, Happening, Heat, Member, Notice, Presence};

/// Happenings that are kept.
const HAPPENED_MAX: usize = 50;

/// The group that this phone is in, or none.
#[derive(Debug)]
pub struct Circle {
    me: PeerId,
    roster: Option<Roster>,
    leader: Option<PeerId>,
    /// Whom people were last told that leads.
    last_leader: Option<PeerId>,
    /// Members that do not answer as they should.
    absent: BTreeMap<PeerId, Answering>,
    /// Members that this phone's person wants out.
    unwanted: BTreeSet<PeerId>,
    happened: VecDeque<Happening>,
    leaving: bool,
}

impl Circle {
    /// Begins in no group.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            roster: None,
            leader: None,
            last_leader: None,
            absent: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            happened: VecDeque::new(),
            leaving: false,
        }
    }

    /// Notes what an event says, and returns what a person should be told.
    pub fn hear(&mut self, event: &OutEvent) -> Vec<Notice> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "others are of no member")]
        match event {
            OutEvent::Members(roster) => self.members(roster),
            OutEvent::Leader(term) => self.leads(term.map(|term| term.leader)),
            OutEvent::Present { peer, presence } => self.presence(*peer, *presence),
            OutEvent::Left { reason, .. } => self.left(*reason),
            _ => Vec::new(),
        }
    }

    /// Notes something that happened, for later.
    pub fn note(&mut self, what: &Notice, at_unix_ms: u64) {
        if self.roster.is_none() {
            return;
        }
        if self.happened.len() == HAPPENED_MAX {
            self.happened.pop_front();
        }
        let what = what.clone();
        self.happened.push_back(Happening { at_unix_ms, what });
    }

    /// This phone's person wants a member out.
    pub fn removes(&mut self, phone: PeerId) {
        self.unwanted.insert(phone);
    }

    /// This phone will leave when the answer is written.
    pub fn will_leave(&mut self) {
        self.leaving = self.roster.is_some();
    }

    /// Returns whether this phone is in a group.
    pub fn is_some(&self) -> bool {
        self.roster.is_some()
    }

    /// Returns whether this phone leads, as a phone in no group does.
    pub fn leads_here(&self) -> bool {
        self.roster.is_none() || self.leader == Some(self.me)
    }

    /// Returns who belongs.
    pub fn ids(&self) -> BTreeSet<PeerId> {
        let members = self.roster.iter().flat_map(|roster| roster.members.iter());

        members.map(|member| member.peer).collect()
    }

    /// Returns how many members answer.
    pub fn n_here(&self) -> u32 {
        let here = |phone: &PeerId| self.absent.get(phone) != Some(&Answering::Lost);

        count(self.ids().iter().filter(|phone| here(phone)).count())
    }

    /// Returns the group.
    pub fn group(&self) -> Option<Group> {
        let roster = self.roster.as_ref()?;
        let mut members = roster.members.iter().collect::<Vec<_>>();
        members.sort_by_key(|member| member.since);

        Some(Group {
            members: members.iter().map(|member| self.member(member)).collect(),
            leader: self.leader.map(phone_id),
            happened: self.happened.iter().cloned().collect(),
            leaving: self.leaving,
        })
    }

    fn member(&self, member: &proto::group::Member) -> Member {
        Member {
            id: phone_id(member.peer),
            name: member.name.to_string(),
            presence: match self.absent.get(&member.peer) {
                None | Some(Answering::Here) => Presence::Here,
                Some(Answering::Suspect) => Presence::Suspect,
                Some(Answering::Lost) => Presence::Lost,
            },
            excluded: false,
            tired: None,
            free_memory_bytes: 0,
            total_memory_bytes: 0,
            layers_per_s: None,
            battery: None,
            charging: false,
            heat: Heat::Cool,
            rtt_ms: None,
            layers_computed: 0,
        }
    }

    /// Tells who came and who went since the last roster of the same group.
    fn members(&mut self, roster: &Roster) -> Vec<Notice> {
        let before = self.roster.take().filter(|old| old.group == roster.group);
        let phones = count(roster.members.len());
        self.roster = Some(roster.clone());
        let Some(before) = before else {
            return Vec::new(); // who is there was there before this phone
        };

        let came = roster.members.iter().filter(|m| !before.contains(m.peer));
        let came = came.map(|member| Notice::PhoneJoined {
            name: member.name.to_string(),
            phones,
        });
        let mut told = came.collect::<Vec<_>>();
        for gone in before.members.iter().filter(|m| !roster.contains(m.peer)) {
            let was_lost = self.absent.remove(&gone.peer) == Some(Answering::Lost);
            let name = gone.name.to_string();
            if self.unwanted.remove(&gone.peer) {
                told.push(Notice::Removed { name });
            } else if !was_lost && gone.peer != self.me {
                told.push(Notice::PhoneLeft { name, phones });
            }
        }
        told
    }

    fn leads(&mut self, leader: Option<PeerId>) -> Vec<Notice> {
        self.leader = leader;
        let Some(leader) = leader else {
            return Vec::new();
        };

        let before = self.last_leader.replace(leader);
        let is_other = before.is_some_and(|before| before != leader);
        match self.name_of(leader) {
            Some(name) if is_other => vec![Notice::LeaderChanged { name }],
            Some(_) | None => Vec::new(),
        }
    }

    fn presence(&mut self, phone: PeerId, presence: Answering) -> Vec<Notice> {
        let before = match presence {
            Answering::Here => self.absent.remove(&phone),
            Answering::Suspect | Answering::Lost => self.absent.insert(phone, presence),
        };
        let is_news = presence == Answering::Lost && before != Some(Answering::Lost);

        match self.name_of(phone) {
            Some(name) if is_news => vec![Notice::PhoneLost {
                name,
                phones: self.n_here(),
            }],
            Some(_) | None => Vec::new(),
        }
    }

    fn left(&mut self, reason: LeaveReason) -> Vec<Notice> {
        *self = Self::new(self.me);

        match reason {
            LeaveReason::Removed => vec![Notice::YouWereRemoved],
            LeaveReason::Left | LeaveReason::Switched => Vec::new(),
        }
    }

    fn name_of(&self, phone: PeerId) -> Option<String> {
        let member = self.roster.as_ref()?.member(phone)?;

        Some(member.name.to_string())
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proto::group::{Addresses, GroupId, Name, Stamp, Term};

    use super::*;

    const ME: PeerId = PeerId([1; 32]);
    const SAM: PeerId = PeerId([2; 32]);
    const KIM: PeerId = PeerId([3; 32]);

    #[test]
    fn who_comes_and_goes_is_told_but_not_who_was_there_before() {
        let mut circle = Circle::new(ME);
        assert_eq!(circle.hear(&roster(&[ME, SAM])), []);

        let told = circle.hear(&roster(&[ME, SAM, KIM]));
        let (name, phones) = ("Kim".to_owned(), 3);
        assert_eq!(told, [Notice::PhoneJoined { name, phones }]);

        let told = circle.hear(&roster(&[ME, KIM]));
        let (name, phones) = ("Sam".to_owned(), 2);
        assert_eq!(told, [Notice::PhoneLeft { name, phones }]);
    }

    #[test]
    fn who_is_lost_is_told_once() {
        let mut circle = Circle::new(ME);
        circle.hear(&roster(&[ME, SAM, KIM]));
        let present = |presence| OutEvent::Present {
            peer: SAM,
            presence,
        };

        assert_eq!(circle.hear(&present(Answering::Suspect)), []);
        let told = circle.hear(&present(Answering::Lost));
        let (name, phones) = ("Sam".to_owned(), 2);
        assert_eq!(told, [Notice::PhoneLost { name, phones }]);
        assert_eq!(circle.n_here(), 2);

        assert_eq!(circle.hear(&present(Answering::Lost)), []);
        assert_eq!(circle.hear(&roster(&[ME, KIM])), []);
    }

    #[test]
    fn who_was_removed_here_has_not_left() {
        let mut circle = Circle::new(ME);
        circle.hear(&roster(&[ME, SAM]));
        circle.removes(SAM);

        let told = circle.hear(&roster(&[ME]));

        let name = "Sam".to_owned();
        assert_eq!(told, [Notice::Removed { name }]);
    }

    #[test]
    fn another_leader_is_told_but_not_the_first() {
        let mut circle = Circle::new(ME);
        circle.hear(&roster(&[ME, SAM]));
        let leader = |leader| OutEvent::Leader(Some(Term { number: 1, leader }));

        assert_eq!(circle.hear(&leader(SAM)), []);
        assert!(!circle.leads_here());
        assert_eq!(circle.hear(&OutEvent::Leader(None)), []);
        assert_eq!(circle.hear(&leader(SAM)), []);
        let told = circle.hear(&leader(ME));

        let name = "Me".to_owned();
        assert_eq!(told, [Notice::LeaderChanged { name }]);
        assert!(circle.leads_here());
    }

    #[test]
    fn happenings_are_kept_but_not_without_end() {
        let mut circle = Circle::new(ME);
        circle.note(&Notice::ContinuingAlone, 0);
        circle.hear(&roster(&[ME]));
        assert_eq!(circle.group().map(|group| group.happened.len()), Some(0));

        for at in 0..80 {
            circle.note(&Notice::ContinuingAlone, at);
        }

        let happened = circle.group().map(|group| group.happened);
        let happened = happened.expect("there is a group");
        assert_eq!(happened.len(), HAPPENED_MAX);
        assert_eq!(happened[0].at_unix_ms, 30);
    }

    fn roster(members: &[PeerId]) -> OutEvent {
        let name = |peer: PeerId| match peer {
            ME => Name::tidy("Me"),
            SAM => Name::tidy("Sam"),
            _ => Name::tidy("Kim"),
        };
        let mut roster = Roster::found(GroupId([9; 16]), ME, name(ME), Addresses::default());
        roster.members = members
            .iter()
            .zip(1..)
            .map(|(&peer, number)| proto::group::Member {
                peer,
                name: name(peer),
                addresses: Addresses::default(),
                since: Stamp { term: 1, number },
            })
            .collect();

        OutEvent::Members(Box::new(roster))
    }
}

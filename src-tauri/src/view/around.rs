//! Phones that are no members: those nearby, those on their way into one group with this one, and those never heard.

use std::collections::{BTreeMap, BTreeSet};

use proto::PeerId;
use proto::group::message::Refusal;
use proto::group::{
    CommandError, NEARBY_MAX, Name, Older, OutEvent, PairingEnd as End, Purpose, Side, Sighting,
};

use super::ids::phone_id;
use super::names::Names;
use crate::api::{
    BlockedPhone, NearbyPhone, Notice, Pairing, PairingEnd, PairingPurpose, PairingStage, PhoneId,
    VersionMatch,
};

/// Phones that are no members.
#[derive(Debug, Default)]
pub struct Around {
    nearby: BTreeMap<PeerId, Sighting>,
    /// Phones of another version.
    versions: BTreeMap<PeerId, VersionMatch>,
    /// In the order in which they began.
    pairings: Vec<Way>,
    blocked: BTreeSet<PeerId>,
}

/// Two phones on their way into one group.
#[derive(Debug)]
struct Way {
    /// Not known while a typed code is used: it says where, not who.
    phone: Option<PeerId>,
    /// As it said itself; what is sighted may be older.
    name: Option<Name>,
    purpose: Purpose,
    asked_by_them: bool,
    code: Option<String>,
    stage: PairingStage,
    /// Whether the phone was dialled in vain meanwhile.
    unreached: bool,
}

/// What the phone is called whose code was typed, until it is known who that is.
const UNKNOWN: &str = "?";

impl Around {
    /// Notes what an event says, and returns what a person should be told.
    pub fn hear(&mut self, event: &OutEvent, names: &Names) -> Option<Notice> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "others are of members")]
        match event {
            OutEvent::Nearby(sighting) => {
                self.nearby.insert(sighting.peer, sighting.clone());
            }
            OutEvent::Faded(peer) => {
                self.nearby.remove(peer);
            }
            OutEvent::OtherVersion { peer, older, .. } => {
                let version = match older {
                    Older::Ours => VersionMatch::OursOlder,
                    Older::Theirs => VersionMatch::TheirsOlder,
                };
                // Anybody can make up phones of another version.
                if self.versions.len() < NEARBY_MAX || self.versions.contains_key(peer) {
                    self.versions.insert(*peer, version);
                }
            }
            OutEvent::Match {
                peer,
                name,
                purpose,
                side,
                code,
            } => {
                let way = self.way(*peer, *purpose, *side == Side::Asked);
                way.name = Some(name.clone());
                way.code = Some(code.to_string());
                way.stage = PairingStage::Compare;
            }
            OutEvent::Waiting { host: peer, .. } | OutEvent::Admitting { peer, .. } => {
                let way = self.way(*peer, Purpose::Join, false);
                way.stage = PairingStage::Entering;
            }
            OutEvent::PairingEnded { peer, end } => return self.ended(*peer, *end, names),
            OutEvent::Refused(error) => self.refused(*error),
            _ => {}
        }
        None
    }

    /// Notes which phones are never heard.
    pub fn set_blocked(&mut self, blocked: &BTreeSet<PeerId>) {
        self.blocked.clone_from(blocked);
        self.nearby.retain(|phone, _| !blocked.contains(phone));
        self.pairings
            .retain(|way| way.phone.is_none_or(|phone| !blocked.contains(&phone)));
    }

    /// This phone asks another, or, without one, uses a typed code.
    pub fn asks(&mut self, phone: Option<PeerId>, purpose: Purpose, has_invite: bool) {
        self.pairings.retain(|way| way.phone != phone);
        self.pairings.push(Way {
            phone,
            name: None,
            purpose,
            asked_by_them: false,
            code: None,
            stage: match has_invite {
                true => PairingStage::Entering,
                false => PairingStage::Connecting,
            },
            unreached: false,
        });
    }

    /// This phone's person said yes.
    pub fn confirms(&mut self, phone: PeerId) {
        if let Some(way) = self.find(phone)
            && way.stage == PairingStage::Compare
        {
            way.stage = PairingStage::AgreedHere;
        }
    }

    /// This phone's person said no, or has seen how it ended. Without a phone, of a typed code.
    pub fn puts_away(&mut self, phone: Option<PeerId>) {
        self.pairings.retain(|way| way.phone != phone);
    }

    /// A phone was dialled in vain. It is dialled again, so that is no end yet.
    pub fn unreachable(&mut self, phone: PeerId) {
        if let Some(way) = self.find(phone) {
            way.unreached = true;
        }
    }

    /// Returns whether this phone's person wants to meet a phone, or has agreed to.
    pub fn is_met(&self, phone: PeerId) -> bool {
        self.pairings
            .iter()
            .any(|way| way.phone == Some(phone) && !matches!(way.stage, PairingStage::Ended { .. }))
    }

    /// Returns whether a phone is heard nearby.
    pub fn is_near(&self, phone: PeerId) -> bool {
        self.nearby.contains_key(&phone)
    }

    /// Nobody is where a typed code says.
    pub fn not_reached(&mut self) {
        let end = PairingEnd::Unreachable;

        for way in self.pairings.iter_mut().filter(|way| way.phone.is_none()) {
            way.stage = PairingStage::Ended { end };
        }
    }

    /// Returns what is known of a phone's version.
    pub fn version(&self, phone: PeerId) -> VersionMatch {
        let sighted = self.nearby.get(&phone).map(|sighting| sighting.version);
        let ours = proto::group::message::VERSION;

        match (self.versions.get(&phone), sighted) {
            (_, Some(theirs)) if theirs == ours => VersionMatch::Same,
            (_, Some(theirs)) if theirs < ours => VersionMatch::TheirsOlder,
            (_, Some(_)) => VersionMatch::OursOlder,
            (Some(version), None) => *version,
            (None, None) => VersionMatch::Same,
        }
    }

    /// Returns the phones nearby. `members` are those of this phone's own group.
    pub fn nearby(&self, members: &BTreeSet<PeerId>) -> Vec<NearbyPhone> {
        let near = self.nearby.values().map(|sighting| {
            let in_my_group = members.contains(&sighting.peer);
            let of_theirs = u32::from(sighting.group.is_some());
            NearbyPhone {
                id: phone_id(sighting.peer),
                name: sighting.name.to_string(),
                group_phones: if in_my_group {
                    u32::try_from(members.len()).unwrap_or(u32::MAX)
                } else {
                    of_theirs
                },
                in_my_group,
                version: self.version(sighting.peer),
            }
        });

        near.collect()
    }

    /// Returns the pairings.
    pub fn pairings(&self, names: &Names) -> Vec<Pairing> {
        let pairings = self.pairings.iter().map(|way| Pairing {
            phone: way.phone.map_or_else(|| PhoneId(UNKNOWN.into()), phone_id),
            name: match (&way.name, way.phone) {
                (Some(name), _) => name.to_string(),
                (None, Some(phone)) => names.of(phone),
                (None, None) => String::new(),
            },
            purpose: match way.purpose {
                Purpose::Join => PairingPurpose::Join,
                Purpose::Invite => PairingPurpose::Invite,
            },
            asked_by_them: way.asked_by_them,
            code: way.code.clone(),
            stage: way.stage.clone(),
        });

        pairings.collect()
    }

    /// Returns the phones that are never heard.
    pub fn blocked(&self, names: &Names) -> Vec<BlockedPhone> {
        let blocked = self.blocked.iter().map(|&phone| BlockedPhone {
            id: phone_id(phone),
            name: names.of(phone),
        });

        blocked.collect()
    }

    /// A phone has become a member: it is on no way any more.
    pub fn entered(&mut self, phone: PeerId) {
        self.pairings.retain(|way| way.phone != Some(phone));
    }

    /// This phone has entered a group: a typed code has done its work.
    pub fn has_entered(&mut self) {
        self.pairings.retain(|way| way.phone.is_some());
    }

    fn find(&mut self, phone: PeerId) -> Option<&mut Way> {
        self.pairings
            .iter_mut()
            .find(|way| way.phone == Some(phone))
    }

    /// Returns the way to a phone. A typed code's becomes that of the phone that it led to.
    fn way(&mut self, phone: PeerId, purpose: Purpose, asked_by_them: bool) -> &mut Way {
        let is_it = |way: &Way| way.phone == Some(phone);
        let known = self.pairings.iter().position(is_it);
        let typed = || self.pairings.iter().position(|way| way.phone.is_none());
        let at = known.or_else(|| (!asked_by_them).then(typed).flatten());

        let at = at.unwrap_or_else(|| {
            self.asks(Some(phone), purpose, false);
            self.pairings.len() - 1
        });
        let way = &mut self.pairings[at];
        way.phone = Some(phone);
        way.asked_by_them |= asked_by_them;
        if asked_by_them {
            way.purpose = purpose;
        }
        way
    }

    /// Asking, being asked, or using an invite came to an end. The sheet that shows it stays until it is put away;
    /// where this person had not said anything yet, a word is enough.
    fn ended(&mut self, phone: PeerId, end: End, names: &Names) -> Option<Notice> {
        let typed = self.pairings.iter().position(|way| way.phone.is_none());
        let known = self
            .pairings
            .iter()
            .position(|way| way.phone == Some(phone));
        let at = known.or(typed)?;
        let Some(end) = end_of(end, self.pairings[at].unreached) else {
            self.pairings.remove(at);
            return None;
        };

        let way = &mut self.pairings[at];
        way.phone = Some(phone);
        if way.asked_by_them && way.stage == PairingStage::Compare {
            self.pairings.remove(at);
            let name = names.of(phone);
            return Some(Notice::PairingEnded { name, end });
        }
        way.stage = PairingStage::Ended { end };
        None
    }

    /// What this phone's person wanted of a phone is not to be had.
    fn refused(&mut self, error: CommandError) {
        let (phone, end) = match error {
            CommandError::Asking(_) => return self.none_begins(PairingEnd::Busy),
            CommandError::Blocked(phone) => (phone, PairingEnd::Blocked),
            CommandError::MemberAlready(phone) => return self.entered(phone),
            CommandError::NotAsked(phone) => return self.puts_away(Some(phone)),
            CommandError::NotLeader
            | CommandError::NoGroup
            | CommandError::NoMember(_)
            | CommandError::Self_
            | CommandError::BlockedTooMany(_) => return,
        };

        if let Some(way) = self.find(phone) {
            way.stage = PairingStage::Ended { end };
        }
    }

    /// The last ask was not taken.
    fn none_begins(&mut self, end: PairingEnd) {
        if let Some(way) = self.pairings.last_mut()
            && way.stage == PairingStage::Connecting
        {
            way.stage = PairingStage::Ended { end };
        }
    }
}

/// Returns how a pairing ended; `None` if it ended well, or as this phone's person wanted it to.
fn end_of(end: End, unreached: bool) -> Option<PairingEnd> {
    Some(match end {
        End::Done | End::Cancelled => return None,
        End::Expired if unreached => PairingEnd::Unreachable,
        End::Expired => PairingEnd::Expired,
        End::WrongHost => PairingEnd::WrongHost,
        End::Refused(refusal) => match refusal {
            Refusal::Declined => PairingEnd::Declined,
            Refusal::Cancelled => PairingEnd::Cancelled,
            Refusal::Busy => PairingEnd::Busy,
            Refusal::Expired => PairingEnd::Expired,
            Refusal::BadCode => PairingEnd::BadCode,
            Refusal::InviteUnknown => PairingEnd::InviteUnknown,
            Refusal::InviteExpired => PairingEnd::InviteExpired,
            Refusal::InviteUsed => PairingEnd::InviteUsed,
            Refusal::Full => PairingEnd::Full,
            Refusal::Blocked => PairingEnd::Blocked,
            Refusal::OtherVersion => PairingEnd::OtherVersion,
        },
    })
}

/// Returns whether a screen means the phone of a typed code that is being used.
pub fn is_unknown(phone: &PhoneId) -> bool {
    phone.0 == UNKNOWN
}

#[cfg(test)]
mod tests {
    use proto::group::{Code, Nonce};
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const ANNA: PeerId = PeerId([1; 32]);

    #[test]
    fn two_phones_that_agree_are_on_no_way_any_more() {
        let (mut around, names) = (Around::default(), Names::default());

        around.asks(Some(ANNA), Purpose::Join, false);
        assert_eq!(stage(&around), Some(PairingStage::Connecting));
        around.hear(&matching(Side::Asker), &names);
        assert_eq!(stage(&around), Some(PairingStage::Compare));
        around.confirms(ANNA);
        assert_eq!(stage(&around), Some(PairingStage::AgreedHere));
        around.hear(&ended(End::Done), &names);

        assert_eq!(stage(&around), None);
    }

    #[test]
    fn who_asked_sees_why_not_until_they_put_it_away() {
        let (mut around, names) = (Around::default(), Names::default());
        around.asks(Some(ANNA), Purpose::Join, false);
        around.hear(&matching(Side::Asker), &names);

        let notice = around.hear(&ended(End::Refused(Refusal::Declined)), &names);

        let end = PairingEnd::Declined;
        assert_eq!(notice, None);
        assert_eq!(stage(&around), Some(PairingStage::Ended { end }));
        around.puts_away(Some(ANNA));
        assert_eq!(stage(&around), None);
    }

    #[test]
    fn who_was_asked_is_told_that_the_other_asks_no_more() {
        let (mut around, names) = (Around::default(), Names::default());
        around.hear(&matching(Side::Asked), &names);
        assert!(around.pairings(&names)[0].asked_by_them);
        assert_eq!(around.pairings(&names)[0].name, "Anna");

        let notice = around.hear(&ended(End::Refused(Refusal::Cancelled)), &names);

        let end = PairingEnd::Cancelled;
        let name = String::new();
        assert_eq!(notice, Some(Notice::PairingEnded { name, end }));
        assert_eq!(stage(&around), None);
    }

    #[test]
    fn a_typed_code_leads_to_a_phone_or_to_nobody() {
        let (mut around, names) = (Around::default(), Names::default());
        around.asks(None, Purpose::Join, true);
        assert!(is_unknown(&around.pairings(&names)[0].phone));

        around.hear(&ended(End::Refused(Refusal::InviteUsed)), &names);
        assert_eq!(around.pairings(&names)[0].phone, phone_id(ANNA));

        around.asks(None, Purpose::Join, true);
        around.not_reached();
        let end = PairingEnd::Unreachable;
        let last = around.pairings(&names).pop().map(|pairing| pairing.stage);
        assert_eq!(last, Some(PairingStage::Ended { end }));
        around.puts_away(None);
        assert_eq!(around.pairings(&names).len(), 1);
    }

    #[test]
    fn a_phone_that_could_not_be_reached_was_not_just_slow() {
        let (mut around, names) = (Around::default(), Names::default());
        around.asks(Some(ANNA), Purpose::Join, false);
        around.unreachable(ANNA);
        assert_eq!(stage(&around), Some(PairingStage::Connecting));

        around.hear(&ended(End::Expired), &names);

        let end = PairingEnd::Unreachable;
        assert_eq!(stage(&around), Some(PairingStage::Ended { end }));
    }

    fn stage(around: &Around) -> Option<PairingStage> {
        let pairings = around.pairings(&Names::default());

        pairings.into_iter().next().map(|pairing| pairing.stage)
    }

    fn ended(end: End) -> OutEvent {
        OutEvent::PairingEnded { peer: ANNA, end }
    }

    fn matching(side: Side) -> OutEvent {
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let (one, other) = (Nonce::draw(&mut rng), Nonce::draw(&mut rng));

        OutEvent::Match {
            peer: ANNA,
            name: Name::tidy("Anna"),
            purpose: Purpose::Join,
            side,
            code: Code::of(ANNA, PeerId([2; 32]), one, other),
        }
    }
}

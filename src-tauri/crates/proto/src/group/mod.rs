//! Nearby phones become a group because people tapped, and stay one whatever phones do.
//!
//! A [`Group`] is one phone's part in that. It decides whom to let in, who leads, and who belongs;
//! the shell carries messages, keeps time, writes to disk, and shows what people have to see.
//! All that goes in is [`InEvent`], all that comes out is [`OutEvent`].
//!
//! # States
//!
//! ```text
//!            Ask · Knock · Present            both said yes: Welcome
//!   alone ───────────────────────► pairing ─────────────────────────┐
//!     │  ▲                            │ no · time over              │
//!     │  └────────────────────────────┘                             ▼
//!     │            Invite, or a yes to one who wants in     ┌───────────────┐
//!     ├────────────────────────────────────────────────────►│    member     │
//!     │                                                     │ Following     │  `election.rs`
//!     │◄────────────────────────────────────────────────────┤ Standing      │
//!     │        left · removed · switched to another         │ Leading       │
//!     ▼                                                     └───────────────┘
//!   (restart: a member again, from what was saved, without being let in anew)
//! ```
//!
//! Pairing goes on beside membership: a member may be asked, and may ask; who then enters another
//! group leaves the first at that moment. Two groups that meet stay two until somebody taps.
//!
//! # Story, and where it is told
//!
//! | what happens | messages | file |
//! | --- | --- | --- |
//! | discovery lists phones to tap on | | `nearby.rs` |
//! | two people compare six digits | `Knock` `Answer` `Reveal` `Confirm` | `code.rs`, `admission.rs` |
//! | or one uses the other's link or code | `Present` `Accept` | `invite.rs`, `admission.rs` |
//! | the host has the leader write the newcomer down | `Admit` `Wait` `Welcome` `Refuse` | `admission.rs`, `membership.rs` |
//! | the leader lives, the members obey | `Heartbeat` `Ack` `Roster` `About` | `membership.rs` |
//! | it does not: somebody stands | `Stand` `Grant` `Decline` `Yield` | `election.rs` |
//! | phones meet again after a cut or a night | `Hello` `Introduce` `Ahead` `Merge` | `membership.rs`, `roster.rs` |
//! | somebody leaves or is removed | `Leaving` `Leave` `NotMember` `NoMember` | `membership.rs` |
//!
//! # Times
//!
//! A heartbeat every 0.5 s; suspect after 1.6 s of silence, lost after 3.5 s, or 1.5 s after the
//! connection was closed. Candidates stand 0.3 s apart in order of rank and wait 0.6 s for
//! those that do not answer. Each constant says where it came from, where it stands.
//!
//! # What always holds
//!
//! - Nobody is in a group unless people on both sides said so, on both phones.
//! - A phone obeys one leader: that of the highest number that it accepted. It accepts only higher
//!   numbers, one leader per number, and saves what it accepted before it acts on it
//!   ([`OutEvent::Save`] comes first). So no phone ever obeys two leaders of one number.
//! - A roster counts only if it comes from the leader obeyed, in that leader's term, with a higher
//!   number, and with this phone in it. (To a phone that seeks a leader a member may introduce
//!   one; it then knows whom to listen to, and obeys nobody by that.)
//! - Whoever was removed is a stranger: its terms, rosters and votes are not looked at.
//! - Every table has a bound ([`Sizes`]), every message a length, every stranger a pace; all
//!   strangers together have one too.
//!
//! # What it protects against, and what not
//!
//! The connection proves who speaks (Noise or TLS, the key is the [`PeerId`]), so nobody speaks for
//! another, replays another's words, or reads along. A phone in the middle of a pairing shows two
//! codes. A stranger gets no further than the door, and learns there names, and whether a group's
//! id that it already knows is ours.
//!
//! It does **not** protect against a *member* that lies: it may claim a higher number and lead, and
//! as the leader let in or remove whom it likes; lie about its rank; tell a phone that it was
//! removed. A majority could not be had (two phones must go on when a third dies), so a member is
//! trusted with that much. What it cannot do is make a phone obey two leaders, use the numbers up,
//! grow memory, or come back after it was removed. Nor does this protect against people who say
//! yes without looking; against a crowd of made-up phones that keep the four places at the door or
//! the list of nearby phones full (an invite still works); or against radio jamming. A phone
//! whose disk is put back to an old state may for a moment obey a leader of that time. One that
//! forgot every other member, or was away until all whom it knew had left, has to be tapped again:
//! rosters are not signed, so strangers cannot prove to it that they are members.

mod admission;
mod bounded;
mod code;
mod election;
mod event;
mod invite;
mod limits;
mod membership;
pub mod message;
mod nearby;
mod roster;
mod saved;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::RngCore;
use rand_chacha::ChaCha12Rng;

use self::admission::Admission;
use self::limits::Strangers;
use self::membership::{Entry, Membership, Notice};
use self::message::{DecodeError, Door, Message, Presence, Refusal, VERSION};
use self::nearby::Nearby;
use crate::PeerId;

pub use self::admission::{
    INVITE_LIFETIME_MAX, INVITES_MAX, KNOCKS_MAX, MUTED_MAX, PairingEnd, Purpose, Side, VOUCHED_MAX,
};
pub use self::bounded::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, Address, Addresses, Bounded, NAME_BYTES_MAX, Name,
};
pub use self::code::{Code, Commit, Nonce};
pub use self::election::{HEARTBEAT, LOST_AFTER, LOST_AFTER_DISCONNECT, Rank, SUSPECT_AFTER};
pub use self::event::{Command, CommandError, InEvent, LeaveReason, Older, OutEvent, When};
pub use self::invite::{Invite, InviteError, LINK_BYTES_MAX, Proof, Secret, TypedCode};
pub use self::limits::STRANGERS_MAX;
pub use self::nearby::{NEARBY_MAX, Sighting};
pub use self::roster::{
    GONE_MAX, Gone, GroupId, MEMBERS_MAX, Member, Roster, RosterError, Stamp, Term, Version,
};
pub use self::saved::{BLOCKED_MAX, Saved, SavedError, SavedPlace};

/// How often a phone of another version is spoken of again.
const OTHER_VERSION_PAUSE: Duration = Duration::from_secs(60);

/// Phones of another version remembered, so that each is told of once: as many as are nearby.
const OTHER_VERSION_MAX: usize = NEARBY_MAX;

/// What this phone decides about its group.
#[derive(Debug)]
pub struct Group {
    phone: Phone,
    membership: Option<Membership>,
    admission: Admission,
    nearby: Nearby,
    strangers: Strangers,
    /// Phones of another version, until when they are not spoken of again.
    other_versions: BTreeMap<PeerId, Instant>,
    footing: Option<Footing>,
}

/// What newcomers wait for; their turn comes when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Footing {
    version: Version,
    leader: Option<Term>,
    writing: bool,
}

/// This phone itself: what every part of the machine needs, and the outbox they share.
#[derive(Debug)]
struct Phone {
    id: PeerId,
    name: Name,
    rank: Rank,
    addresses: Addresses,
    /// An answer is being written here.
    writing: bool,
    blocked: BTreeSet<PeerId>,
    rng: ChaCha12Rng,
    out: VecDeque<OutEvent>,
}

/// How many entries each table holds: none outgrows its bound, whatever strangers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named after the tables
pub struct Sizes {
    pub members: usize,
    pub gone: usize,
    pub pairings: usize,
    pub vouched: usize,
    pub invites: usize,
    pub muted: usize,
    pub strangers: usize,
    pub nearby: usize,
    pub blocked: usize,
    pub other_versions: usize,
    pub out: usize,
}

impl Group {
    /// Builds the machine of the phone `me`, as it was when `saved` was written.
    pub fn new(me: PeerId, name: Name, saved: Saved, rng: ChaCha12Rng, now: Instant) -> Self {
        let mut phone = Phone {
            id: me,
            name,
            rank: Rank::default(),
            addresses: Addresses::default(),
            writing: false,
            blocked: saved.blocked.iter().copied().collect(),
            rng,
            out: VecDeque::new(),
        };
        let mine = saved.membership.filter(|place| place.roster.contains(me));
        let membership = mine.map(|place| Membership::resume(place, &mut phone, now));

        Self {
            phone,
            membership,
            admission: Admission::default(),
            nearby: Nearby::default(),
            strangers: Strangers::new(now),
            other_versions: BTreeMap::new(),
            footing: None,
        }
    }

    /// Takes note of `event`.
    pub fn handle(&mut self, event: InEvent, now: Instant) {
        match event {
            InEvent::Sighted(sighting) => self.sighted(sighting, now),
            InEvent::Unsighted(peer) => self.unsighted(peer),
            InEvent::Connected(peer) => self.connected(peer, now),
            InEvent::Disconnected(peer) => self.disconnected(peer, now),
            InEvent::Received { from, message } => self.received(from, *message, now),
            InEvent::Garbled { from, error } => self.garbled(from, &error, now),
            InEvent::Writing(writing) => {
                self.phone.writing = writing;
                self.phone_changed(now);
            }
            InEvent::Ranked(rank) => self.phone.rank = rank,
            InEvent::Readdressed(addresses) => {
                self.phone.addresses = addresses;
                self.phone_changed(now);
            }
            InEvent::Command(command) => {
                if let Err(error) = self.command(command, now) {
                    self.phone.out.push_back(OutEvent::Refused(error));
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.handle_timeout(&mut self.phone, now);
        }
        self.admission.handle_timeout(&mut self.phone, now);
        for peer in self.nearby.fade(now) {
            self.phone.out.push_back(OutEvent::Faded(peer));
        }
        self.settle(now);
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let membership = self.membership.as_ref().map(Membership::deadline);

        [
            membership,
            self.admission.deadline(),
            self.nearby.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.phone.out.pop_front()
    }

    // What may be asked at any time.

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.phone.out.is_empty()
    }

    /// Returns this phone.
    pub fn id(&self) -> PeerId {
        self.phone.id
    }

    /// Returns what this phone is called.
    pub fn name(&self) -> &Name {
        &self.phone.name
    }

    /// Returns the phones that are never heard.
    pub fn blocked(&self) -> &BTreeSet<PeerId> {
        &self.phone.blocked
    }

    /// Returns the roster of the group that this phone is in.
    pub fn roster(&self) -> Option<&Roster> {
        self.membership.as_ref().map(Membership::roster)
    }

    /// Returns whether `peer` is a member of this phone's group, and so may open any stream.
    pub fn is_member(&self, peer: PeerId) -> bool {
        self.roster().is_some_and(|roster| roster.contains(peer))
    }

    /// Returns the term of the leader that is obeyed; it may be this phone's own.
    pub fn leader(&self) -> Option<Term> {
        self.membership.as_ref().and_then(Membership::leader)
    }

    /// Returns the highest term that was obeyed or led, whether or not its leader still lives.
    pub fn accepted(&self) -> Option<Term> {
        self.membership.as_ref().map(Membership::accepted)
    }

    /// Returns whether a member answers, as the leader sees it.
    pub fn presence(&self, peer: PeerId) -> Option<Presence> {
        self.membership
            .as_ref()
            .and_then(|membership| membership.presence(peer))
    }

    /// Returns whether the leader, or this phone, said last that an answer is being written.
    pub fn is_writing(&self) -> bool {
        let membership = self.membership.as_ref();

        membership.map_or(self.phone.writing, |m| m.is_writing(&self.phone))
    }

    /// Returns whether a member knows who belongs and where they are. Only the leader can tell of others.
    pub fn is_up_to_date(&self, peer: PeerId) -> bool {
        peer == self.phone.id
            || self
                .membership
                .as_ref()
                .is_some_and(|membership| membership.is_up_to_date(peer))
    }

    /// Returns the phones that discovery sees.
    pub fn nearby(&self) -> impl Iterator<Item = &Sighting> {
        self.nearby.iter()
    }

    /// Returns what a restart must find again.
    pub fn saved(&self) -> Saved {
        self.phone
            .saved(self.membership.as_ref().map(Membership::saved))
    }

    /// Returns how many entries each table holds.
    pub fn sizes(&self) -> Sizes {
        let admission = self.admission.sizes();
        let contacts = self.membership.as_ref().map_or(0, Membership::contacts_len);
        let gone = self.roster().map_or(0, |roster| roster.gone.len());

        Sizes {
            members: contacts + 1,
            gone,
            pairings: admission.pairings,
            vouched: admission.vouched,
            invites: admission.invites,
            muted: admission.muted,
            strangers: self.strangers.len(),
            nearby: self.nearby.len(),
            blocked: self.phone.blocked.len(),
            other_versions: self.other_versions.len(),
            out: self.phone.out.len(),
        }
    }

    // The network.

    fn sighted(&mut self, sighting: Sighting, now: Instant) {
        let (peer, version) = (sighting.peer, sighting.version);
        if peer == self.phone.id || self.phone.blocked.contains(&peer) {
            return;
        }
        if let Some(membership) = &mut self.membership {
            membership.sighted(peer, now);
        }
        if version != VERSION {
            self.tell_other_version(peer, version, now);
        }
        if self.nearby.sighted(sighting.clone(), now) {
            self.phone.out.push_back(OutEvent::Nearby(sighting));
        }
    }

    fn unsighted(&mut self, peer: PeerId) {
        if self.nearby.unsighted(peer) {
            self.phone.out.push_back(OutEvent::Faded(peer));
        }
    }

    fn connected(&mut self, peer: PeerId, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.connected(peer, &mut self.phone, now);
        }
        self.admission.connected(peer, &mut self.phone, now);
    }

    fn disconnected(&mut self, peer: PeerId, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.disconnected(peer, &mut self.phone, now);
        }
    }

    fn received(&mut self, from: PeerId, message: Message, now: Instant) {
        if from == self.phone.id {
            return;
        }
        match message {
            Message::Group { group, body } => {
                let ours = self
                    .roster()
                    .is_some_and(|r| r.group == group && r.contains(from));
                match &mut self.membership {
                    Some(membership) if ours => {
                        self.admission.arrived(from, &mut self.phone);
                        let notice = membership.handle(from, body, &mut self.phone, now);
                        if let Some(Notice::AdmitRefused { peer, why }) = notice {
                            self.admission.turn_away(peer, why, &mut self.phone);
                        }
                    }
                    Some(_) | None => self.spoken_to_as_member(from, group, now),
                }
            }
            Message::Door(door) => {
                let member = self.is_member(from);
                let blocked = self.phone.blocked.contains(&from) && !member;
                let expected = member || self.admission.expects(from);
                if !blocked && self.strangers.allow(from, expected, now) {
                    self.door(from, door, now);
                }
            }
        }
    }

    /// A phone takes us for a member of its group, or itself for one of ours.
    fn spoken_to_as_member(&mut self, from: PeerId, group: roster::GroupId, now: Instant) {
        if !self.strangers.allow(from, false, now) {
            return;
        }
        match self.roster() {
            Some(roster) if roster.group == group => {
                let gone_at = roster.gone_at(from);
                self.phone.door(from, Door::NotMember { group, gone_at });
            }
            // The welcome may still be on its way: wait for it.
            Some(_) | None if self.admission.awaits_any_welcome() => {}
            Some(_) | None => self.phone.door(from, Door::NoMember { group }),
        }
    }

    fn door(&mut self, from: PeerId, door: Door, now: Instant) {
        let (admission, phone) = (&mut self.admission, &mut self.phone);
        match door {
            Door::Knock {
                purpose,
                name,
                commit,
            } => {
                admission.knocked(from, (purpose, name, commit), phone, now);
            }
            Door::Answer { name, nonce } => admission.answered(from, name, nonce, phone),
            Door::Reveal { nonce } => admission.revealed(from, nonce, phone, now),
            Door::Confirm => admission.confirmed(from, phone, now),
            Door::Present { name, proof } => admission.presented(from, name, proof, phone, now),
            Door::Accept { proof } => admission.accepted(from, proof, phone, now),
            Door::Wait(reason) => admission.told_to_wait(from, reason, phone, now),
            Door::Welcome(roster) => self.welcomed(from, roster, now),
            Door::Refuse(why) => admission.refused(from, why, phone, now),
            Door::NotMember { group, gone_at } => {
                if let Some(membership) = self.membership_of(group) {
                    membership.0.not_member(from, gone_at, membership.1, now);
                }
            }
            Door::NoMember { group } => {
                if let Some((membership, phone)) = self.membership_of(group) {
                    membership.no_member(from, phone, now);
                }
            }
        }
    }

    fn membership_of(&mut self, group: GroupId) -> Option<(&mut Membership, &mut Phone)> {
        let membership = self.membership.as_mut().filter(|m| m.group() == group)?;

        Some((membership, &mut self.phone))
    }

    /// A host says that we are in. Both sides agreed to that, or it is ignored.
    fn welcomed(&mut self, from: PeerId, roster: Roster, now: Instant) {
        let me = self.phone.id;
        let Some(group) = self.admission.awaits_welcome(from) else {
            return;
        };
        let as_agreed = group.is_none_or(|group| group == roster.group);
        let sound =
            roster.contains(me) && roster.contains(from) && roster.version.term.leader != me;
        if !as_agreed || !sound {
            tracing::warn!(?from, "A welcome to another group than agreed");
            return;
        }

        match &mut self.membership {
            Some(membership) if membership.group() == roster.group => {
                membership.introduced(roster, &mut self.phone, now); // forgot part of it
            }
            Some(old) => {
                old.leave_abruptly(&mut self.phone);
                self.settle(now);
                self.membership = Some(Membership::enter(roster, &mut self.phone, now));
            }
            None => self.membership = Some(Membership::enter(roster, &mut self.phone, now)),
        }
        self.admission.entered(Some(from), &mut self.phone);
    }

    fn garbled(&mut self, from: PeerId, error: &DecodeError, now: Instant) {
        if self.phone.blocked.contains(&from) {
            return;
        }
        if let DecodeError::Version { theirs } = error {
            self.tell_other_version(from, *theirs, now);
        } else {
            tracing::debug!(?from, %error, "Garbled");
        }
    }

    /// Says once in a while which of two phones is older; any message tells the other side.
    fn tell_other_version(&mut self, peer: PeerId, theirs: u16, now: Instant) {
        self.other_versions.retain(|_, until| *until > now);
        if theirs == VERSION
            || self.other_versions.contains_key(&peer)
            || self.other_versions.len() >= OTHER_VERSION_MAX
        {
            return;
        }
        self.other_versions.insert(peer, now + OTHER_VERSION_PAUSE);
        let older = if theirs < VERSION {
            Older::Theirs
        } else {
            Older::Ours
        };
        self.phone.out.push_back(OutEvent::OtherVersion {
            peer,
            theirs,
            older,
        });
        self.phone.door(peer, Door::Refuse(Refusal::OtherVersion));
    }

    // The person.

    fn command(&mut self, command: Command, now: Instant) -> Result<(), CommandError> {
        match command {
            Command::Ask { peer, purpose } => self.ask(peer, purpose, now),
            Command::Confirm(peer) => match self.admission.confirm(peer, &mut self.phone, now) {
                true => Ok(()),
                false => Err(CommandError::NotAsked(peer)),
            },
            Command::Refuse(peer) => match self.admission.refuse(peer, &mut self.phone, now) {
                true => Ok(()),
                false => Err(CommandError::NotAsked(peer)),
            },
            Command::Invite { lifetime } => {
                let group = self.found_if_none(now);
                let lifetime = lifetime.min(INVITE_LIFETIME_MAX);
                let secret = self.admission.issue(lifetime, &mut self.phone, now);
                let invited = OutEvent::Invited {
                    group,
                    secret,
                    lifetime,
                };
                self.phone.out.push_back(invited);
                Ok(())
            }
            Command::Present {
                host,
                addresses,
                secret,
                group,
            } => {
                self.check_other(host)?;
                self.phone.dial(host, addresses);
                self.admission
                    .present(host, secret, group, &mut self.phone, now);
                Ok(())
            }
            Command::Leave(when) => {
                let (membership, phone) = self.in_group()?;
                membership.leave(when, phone, now);
                Ok(())
            }
            Command::Remove(peer) => {
                let (membership, phone) = self.in_group()?;
                membership.remove(peer, phone, now)
            }
            Command::HandOver(peer) => {
                let (membership, phone) = self.in_group()?;
                membership.hand_over(peer, phone, now)
            }
            Command::Block(peer) => self.block(peer, now),
            Command::Unblock(peer) => {
                self.phone.blocked.remove(&peer);
                self.save();
                Ok(())
            }
            Command::Rename(name) => {
                self.phone.name = name;
                self.phone_changed(now);
                Ok(())
            }
        }
    }

    fn ask(&mut self, peer: PeerId, purpose: Purpose, now: Instant) -> Result<(), CommandError> {
        self.check_other(peer)?;
        if self.is_member(peer) {
            return Err(CommandError::MemberAlready(peer));
        }
        if let Some(sighting) = self.nearby.get(peer)
            && sighting.version != VERSION
        {
            let theirs = sighting.version;
            self.other_versions.remove(&peer);
            self.tell_other_version(peer, theirs, now);
            let end = PairingEnd::Refused(Refusal::OtherVersion);
            self.phone.pairing_ended(peer, end);
            return Ok(());
        }

        self.admission
            .ask(peer, purpose, &mut self.phone, now)
            .map_err(CommandError::Asking)
    }

    fn block(&mut self, peer: PeerId, now: Instant) -> Result<(), CommandError> {
        self.check_other(peer)?;
        if self.phone.blocked.len() >= BLOCKED_MAX {
            return Err(CommandError::BlockedTooMany(BLOCKED_MAX));
        }
        self.admission.refuse(peer, &mut self.phone, now);
        self.unsighted(peer);
        self.phone.blocked.insert(peer);
        let removed = self
            .in_group()
            .and_then(|(membership, phone)| membership.remove(peer, phone, now));
        if removed.is_err() {
            self.save(); // otherwise the new roster was saved with it
        }
        Ok(())
    }

    fn check_other(&self, peer: PeerId) -> Result<(), CommandError> {
        if peer == self.phone.id {
            Err(CommandError::Self_)
        } else if self.phone.blocked.contains(&peer) {
            Err(CommandError::Blocked(peer))
        } else {
            Ok(())
        }
    }

    fn in_group(&mut self) -> Result<(&mut Membership, &mut Phone), CommandError> {
        match &mut self.membership {
            Some(membership) => Ok((membership, &mut self.phone)),
            None => Err(CommandError::NoGroup),
        }
    }

    fn phone_changed(&mut self, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.phone_changed(&mut self.phone, now);
        }
    }

    // What may follow from anything.

    fn settle(&mut self, now: Instant) {
        if let Some(departed) = self.membership.take_if(|m| m.departed().is_some()) {
            self.take_down(&departed);
        }
        let footing = self.footing();
        if self.footing != footing {
            self.footing = footing;
            self.admission.hurry(now);
        }
        for peer in self.admission.vouched_due(now) {
            self.bring_in(peer, now);
        }
    }

    fn footing(&self) -> Option<Footing> {
        let membership = self.membership.as_ref()?;

        Some(Footing {
            version: membership.roster().version,
            leader: membership.leader(),
            writing: self.phone.writing,
        })
    }

    /// Does the next thing for a newcomer that both sides agreed on.
    fn bring_in(&mut self, peer: PeerId, now: Instant) {
        let inside = self.is_member(peer);
        let Some(name) = self.admission.take_turn(peer, inside, now) else {
            return;
        };
        self.found_if_none(now);
        let membership = self.membership.as_mut().expect("founded if there was none");

        match membership.admit(peer, name, &mut self.phone, now) {
            Entry::Member => {
                let roster = membership.roster().clone();
                self.phone.door(peer, Door::Welcome(roster));
            }
            Entry::Wait(reason) => self.admission.wait(peer, reason, &mut self.phone),
            Entry::Refused(why) => self.admission.turn_away(peer, why, &mut self.phone),
        }
    }

    fn found_if_none(&mut self, now: Instant) -> GroupId {
        if let Some(membership) = &self.membership {
            return membership.group();
        }
        let mut id = [0; 16];
        self.phone.rng.fill_bytes(&mut id);
        self.membership = Some(Membership::found(GroupId(id), &mut self.phone, now));
        self.admission.entered(None, &mut self.phone);
        GroupId(id)
    }

    fn take_down(&mut self, departed: &Membership) {
        self.phone.save(None);
        self.phone.out.push_back(OutEvent::Left {
            group: departed.group(),
            reason: departed
                .departed()
                .expect("only departed ones are taken down"),
        });
    }

    fn save(&mut self) {
        let membership = self.membership.as_ref().map(Membership::saved);
        self.phone.save(membership);
    }
}

impl Phone {
    fn send(&mut self, to: PeerId, message: Message) {
        let message = Box::new(message);
        self.out.push_back(OutEvent::Send { to, message });
    }

    fn door(&mut self, to: PeerId, door: Door) {
        self.send(to, Message::Door(door));
    }

    fn dial(&mut self, peer: PeerId, addresses: Addresses) {
        self.out.push_back(OutEvent::Dial { peer, addresses });
    }

    fn pairing_ended(&mut self, peer: PeerId, end: PairingEnd) {
        self.out.push_back(OutEvent::PairingEnded { peer, end });
    }

    fn save(&mut self, membership: Option<SavedPlace>) {
        let saved = Box::new(self.saved(membership));
        self.out.push_back(OutEvent::Save(saved));
    }

    fn saved(&self, membership: Option<SavedPlace>) -> Saved {
        Saved {
            membership,
            blocked: self.blocked.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Two phones, and what they say to each other carried by hand.
    struct Pair {
        phones: [Group; 2],
        seen: [Vec<OutEvent>; 2],
        now: Instant,
    }

    #[test]
    fn two_people_who_see_one_code_and_say_yes_are_in_one_group() {
        let mut pair = Pair::new();
        let (anna, bela) = (pair.phones[0].id(), pair.phones[1].id());

        pair.command(
            0,
            Command::Ask {
                peer: bela,
                purpose: Purpose::Join,
            },
        );
        let codes = pair.seen.each_ref().map(|seen| seen.iter().find_map(code));
        assert!(codes[0].is_some() && codes[0] == codes[1], "{codes:?}");

        pair.command(0, Command::Confirm(bela));
        assert!(
            pair.phones.iter().all(|phone| phone.roster().is_none()),
            "one yes is none"
        );

        pair.command(1, Command::Confirm(anna));
        assert!(pair.phones[0].is_member(bela) && pair.phones[1].is_member(anna));
        assert_eq!(pair.phones[0].leader().map(|term| term.leader), Some(bela));
    }

    #[test]
    fn a_phone_that_does_not_answer_is_dialled_again_until_it_does() {
        let secret = Secret::draw(&mut ChaCha12Rng::seed_from_u64(1));
        let bela = Pair::new().phones[1].id();
        let ask = Command::Ask {
            peer: bela,
            purpose: Purpose::Join,
        };
        let present = Command::Present {
            host: bela,
            addresses: Addresses::default(),
            secret,
            group: None,
        };
        for command in [ask.clone(), present] {
            let mut pair = Pair::new();
            let anna = &mut pair.phones[0];

            anna.handle(InEvent::Command(command.clone()), pair.now);
            assert_eq!(dials(anna), 1, "{command:?}");
            for second in 1..5 {
                anna.handle_timeout(pair.now + admission::RESEND * second);
                assert_eq!(dials(anna), 1, "{command:?}");
            }
        }

        let mut pair = Pair::new();
        pair.command(0, ask);
        pair.phones[0].handle_timeout(pair.now + admission::RESEND);
        assert_eq!(dials(&mut pair.phones[0]), 0, "there is a code");
    }

    #[test]
    fn a_restarted_phone_is_a_member_still_and_seeks_its_leader() {
        let mut pair = Pair::new();
        pair.command(
            1,
            Command::Invite {
                lifetime: Duration::from_secs(60),
            },
        );
        let saved = pair.phones[1].saved();

        let rng = ChaCha12Rng::seed_from_u64(7);
        let name = Name::tidy("Bela");
        let restarted = Group::new(pair.phones[1].id(), name, saved, rng, pair.now);

        assert_eq!(restarted.roster(), pair.phones[1].roster());
        assert_eq!(
            restarted.leader(),
            None,
            "it led, and does not know who leads by this time"
        );
    }

    #[test]
    fn a_phone_that_drops_unwelcome_codes_gets_few_throws() {
        let mut pair = Pair::new();
        let bela = pair.phones[1].id();
        let mut answers = 0;
        for n in 0..202u8 {
            pair.now += Duration::from_millis(600);
            let thrower = PeerId([n; 32]);
            let mut rng = ChaCha12Rng::seed_from_u64(u64::from(n));
            let commit = Commit::seal(Nonce::draw(&mut rng), thrower, bela);
            let (purpose, name) = (Purpose::Join, Name::tidy("Anna"));
            for door in [
                Door::Knock {
                    purpose,
                    name,
                    commit,
                },
                Door::Refuse(Refusal::Cancelled),
            ] {
                let message = Box::new(Message::Door(door));
                pair.phones[1].handle(
                    InEvent::Received {
                        from: thrower,
                        message,
                    },
                    pair.now,
                );
            }
            answers += std::iter::from_fn(|| pair.phones[1].poll())
                .filter(is_answer)
                .count();
        }

        assert_eq!(answers, 6, "four, and one a minute");
    }

    impl Pair {
        fn new() -> Self {
            let now = Instant::now();
            let phone = |id: u8, name: &str| {
                let rng = ChaCha12Rng::seed_from_u64(u64::from(id));
                Group::new(
                    PeerId([id; 32]),
                    Name::tidy(name),
                    Saved::default(),
                    rng,
                    now,
                )
            };

            Self {
                phones: [phone(1, "Anna"), phone(2, "Bela")],
                seen: [Vec::new(), Vec::new()],
                now,
            }
        }

        /// Carries out a command, and all that follows from it at once.
        fn command(&mut self, at: usize, command: Command) {
            self.phones[at].handle(InEvent::Command(command), self.now);
            while let Some((at, event)) = self.poll() {
                let (here, there) = (self.phones[at].id(), self.phones[1 - at].id());
                match event {
                    OutEvent::Send { message, .. } => {
                        let received = InEvent::Received {
                            from: here,
                            message,
                        };
                        self.phones[1 - at].handle(received, self.now);
                    }
                    OutEvent::Dial { .. } => {
                        self.phones[at].handle(InEvent::Connected(there), self.now);
                    }
                    event => self.seen[at].push(event),
                }
            }
        }

        fn poll(&mut self) -> Option<(usize, OutEvent)> {
            (0..2).find_map(|at| Some((at, self.phones[at].poll()?)))
        }
    }

    fn code(event: &OutEvent) -> Option<Code> {
        if let OutEvent::Match { code, .. } = event {
            Some(*code)
        } else {
            None
        }
    }

    /// Returns how often it dials.
    fn dials(phone: &mut Group) -> usize {
        std::iter::from_fn(|| phone.poll())
            .filter(|event| matches!(event, OutEvent::Dial { .. }))
            .count()
    }

    fn is_answer(event: &OutEvent) -> bool {
        let OutEvent::Send { message, .. } = event else {
            return false;
        };
        matches!(**message, Message::Door(Door::Answer { .. }))
    }
}

//! How a phone gets in: two people look at one code, or one uses the other's invite.
//!
//! ```text
//!  Ask                                   Knock
//!   │                                      │
//!   ▼   Answer            Reveal           ▼
//!  knocking ──► code on both screens ◄── asked (nothing on the screen yet)
//!                     │
//!          Confirm on both phones
//!                     │
//!      ┌──────────────┴──────────────┐
//!      ▼ whose group it is           ▼ the other
//!   vouched: asks its leader       waiting ──► Welcome
//! ```
//!
//! Either side may host: who taps says whether it wants *in* or wants the other in
//! ([`Purpose`]). Any member may host; the leader writes the newcomer into the roster, and the host
//! hands it over. Every step is repeated once a second until it is answered and may come twice; a phone
//! from which nothing has come is dialled again as often.
//!
//! **What a stranger can fill**: [`KNOCKS_MAX`] places, each for at most [`REVEAL_WAIT`] until a
//! code can be shown and [`PAIRING_LIFETIME`] after. People's own asks and invites have their own.
//! Knocks that are begun and not opened have a pace of their own (`limits.rs`): each is a throw at
//! a code that nobody sees.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Phone;
use super::bounded::{Addresses, Name};
use super::code::{Code, Commit, Nonce};
use super::event::OutEvent;
use super::invite::{InviteKey, Proof, Secret};
use super::limits::UNOPENED;
use super::message::{Door, Refusal, WaitReason};
use super::roster::GroupId;
use crate::PeerId;

/// Phones that may ask at once. A person cannot compare more codes.
pub const KNOCKS_MAX: usize = 4;

/// Phones that may be on their way in through this one.
pub const VOUCHED_MAX: usize = 8;

/// Invites that may be open at once; the oldest is dropped for a new one.
pub const INVITES_MAX: usize = 8;

/// How long an invite may last: one put on a wall in the morning works all day, and not for ever.
pub const INVITE_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Phones whose knocks are not heard for a while; the one that is forgiven soonest makes room.
pub const MUTED_MAX: usize = 32;

/// How often a step is repeated until it is answered: three times per round trip of the worst
/// network that we serve, so rarely that a stranger's pace bears it.
pub const RESEND: Duration = Duration::from_secs(1);

/// How long a phone that knocks may take to open its commit: no person is involved.
pub const REVEAL_WAIT: Duration = Duration::from_secs(10);

/// How long two people may take to compare a code: they may have to find each other.
pub const PAIRING_LIFETIME: Duration = Duration::from_secs(120);

/// How long the other side may be silent between agreement and entry. Each message renews it, so
/// an answer may take as long as it takes.
pub const ENTRY_WAIT: Duration = Duration::from_secs(60);

/// How long a phone that a person refused, or that cheated, is not heard.
pub const MUTED_FOR: Duration = Duration::from_secs(60);

/// How long a phone that changed its mind must wait: each attempt is a new throw at the code.
pub const CANCELLED_FOR: Duration = Duration::from_secs(3);

/// Whose group two phones shall be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// That of the phone that is asked; founded, if it has none.
    Join,
    /// That of the phone that asks; founded, if it has none.
    Invite,
}

/// Who tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This phone.
    Asker,
    /// The other.
    Asked,
}

/// How asking, being asked, or using an invite ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingEnd {
    /// Both phones are in one group.
    Done,
    /// The other phone, or its person, said no.
    Refused(Refusal),
    /// Nobody answered in time.
    Expired,
    /// This phone's person said no, or it entered another group meanwhile.
    Cancelled,
    /// The phone that was reached does not know the invite's secret: it is not the host.
    WrongHost,
}

/// Everything at this phone's door.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pairings: BTreeMap<PeerId, Pairing>,
    presenting: Option<Presenting>,
    vouched: BTreeMap<PeerId, Vouch>,
    invites: Vec<Issued>,
    muted: BTreeMap<PeerId, Instant>,
    /// When the bucket of [`UNOPENED`] knocks is full again; it is at first.
    unopened_full_at: Option<Instant>,
}

/// Two phones on their way to a common code, and two people on theirs to agree.
#[derive(Debug)]
struct Pairing {
    side: Side,
    purpose: Purpose,
    /// What the other phone calls itself; the asker learns it from the answer.
    name: Option<Name>,
    mine: Nonce,
    /// The other's nonce under seal, if it asks.
    commit: Option<Commit>,
    /// Known once both nonces are; shown at once.
    code: Option<Code>,
    agreed_here: bool,
    agreed_there: bool,
    expires: Instant,
    resend_at: Instant,
}

/// An invite that a person uses.
#[derive(Debug)]
struct Presenting {
    host: PeerId,
    key: InviteKey,
    group: Option<GroupId>,
    /// The host has shown that it made the invite.
    accepted: bool,
    expires: Instant,
    resend_at: Instant,
}

/// A newcomer that both sides agreed on, until it speaks as a member.
#[derive(Debug)]
struct Vouch {
    name: Name,
    expires: Instant,
    resend_at: Instant,
    /// What was told last, so that it is not told again.
    told: Option<WaitReason>,
    /// It was written into the roster: if it is not there any more, it left again.
    entered: bool,
}

/// An invite that this phone made.
#[derive(Debug)]
struct Issued {
    key: InviteKey,
    expires: Instant,
    used_by: Option<PeerId>,
}

/// How many entries each table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdmissionSizes {
    pub(super) pairings: usize,
    pub(super) vouched: usize,
    pub(super) invites: usize,
    pub(super) muted: usize,
}

impl Admission {
    // A person wants something.

    /// Asks `peer`. There is at most one such ask.
    ///
    /// # Errors
    ///
    /// - the peer already being asked
    pub(super) fn ask(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        phone: &mut Phone,
        now: Instant,
    ) -> Result<(), PeerId> {
        if let Some(asked) = self.asking() {
            return Err(asked);
        }
        if self.pairings.contains_key(&peer) {
            return Err(peer); // it asks us: answer that
        }

        let mine = Nonce::draw(&mut phone.rng);
        self.pairings.insert(
            peer,
            Pairing {
                side: Side::Asker,
                purpose,
                name: None,
                mine,
                commit: None,
                code: None,
                agreed_here: false,
                agreed_there: false,
                expires: now + PAIRING_LIFETIME,
                resend_at: now + RESEND,
            },
        );
        phone.dial(peer, Addresses::default());
        self.repeat(peer, phone);
        Ok(())
    }

    /// The person here says yes to the code. Returns whether there was one to say yes to.
    pub(super) fn confirm(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) -> bool {
        let Some(pairing) = self.pairings.get_mut(&peer).filter(|p| p.code.is_some()) else {
            return false;
        };
        pairing.agreed_here = true;
        pairing.resend_at = now + RESEND;
        phone.door(peer, Door::Confirm);
        self.advance(peer, now);
        true
    }

    /// The person here says no, or stops asking. Returns whether there was anything to stop.
    pub(super) fn refuse(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) -> bool {
        let pairing = self.pairings.remove(&peer);
        let vouch = self.vouched.remove(&peer);
        let presenting = self
            .presenting
            .take_if(|presenting| presenting.host == peer);

        let asked = matches!(&pairing, Some(p) if p.side == Side::Asked);
        if asked {
            self.mute(peer, now + MUTED_FOR);
        }
        let known = pairing.is_some() || vouch.is_some() || presenting.is_some();
        if known {
            let why = if asked {
                Refusal::Declined
            } else {
                Refusal::Cancelled
            };
            phone.door(peer, Door::Refuse(why));
            phone.pairing_ended(peer, PairingEnd::Cancelled);
        }
        known
    }

    /// Makes an invite.
    pub(super) fn issue(&mut self, lifetime: Duration, phone: &mut Phone, now: Instant) -> Secret {
        let secret = Secret::draw(&mut phone.rng);
        if self.invites.len() == INVITES_MAX {
            self.invites.remove(0);
        }
        self.invites.push(Issued {
            key: secret.key(),
            expires: now + lifetime,
            used_by: None,
        });
        secret
    }

    /// Uses an invite of `host`; gives up one that was being used.
    pub(super) fn present(
        &mut self,
        host: PeerId,
        secret: Secret,
        group: Option<GroupId>,
        phone: &mut Phone,
        now: Instant,
    ) {
        if let Some(before) = self.presenting.take()
            && before.host != host
        {
            phone.pairing_ended(before.host, PairingEnd::Cancelled);
        }
        self.presenting = Some(Presenting {
            host,
            key: secret.key(),
            group,
            accepted: false,
            expires: now + ENTRY_WAIT,
            resend_at: now + RESEND,
        });
        self.repeat(host, phone);
    }

    // The other phone says something.

    pub(super) fn knocked(
        &mut self,
        from: PeerId,
        (purpose, name, commit): (Purpose, Name, Commit),
        phone: &mut Phone,
        now: Instant,
    ) {
        if let Some(known) = self.pairings.get(&from) {
            match known.side {
                Side::Asked if known.commit == Some(commit) => self.repeat(from, phone),
                Side::Asked => phone.door(from, Door::Refuse(Refusal::Busy)),
                // Both tapped at once: the lower key's knock stands.
                Side::Asker if from < phone.id && known.code.is_none() => {
                    self.pairings.remove(&from);
                }
                Side::Asker => {}
            }
        }
        if self.pairings.contains_key(&from) {
            return;
        }
        if self.muted.get(&from).is_some_and(|until| now < *until) {
            return phone.door(from, Door::Refuse(Refusal::Declined));
        }
        let full_at = self.unopened_full_at.get_or_insert(now);
        if self
            .pairings
            .values()
            .filter(|p| p.side == Side::Asked)
            .count()
            >= KNOCKS_MAX
            || !UNOPENED.allows(full_at, now)
        {
            return phone.door(from, Door::Refuse(Refusal::Busy));
        }

        let mine = Nonce::draw(&mut phone.rng);
        self.pairings.insert(
            from,
            Pairing {
                side: Side::Asked,
                purpose,
                name: Some(name),
                mine,
                commit: Some(commit),
                code: None,
                agreed_here: false,
                agreed_there: false,
                expires: now + REVEAL_WAIT,
                resend_at: now + RESEND,
            },
        );
        self.repeat(from, phone);
    }

    pub(super) fn answered(&mut self, from: PeerId, name: Name, theirs: Nonce, phone: &mut Phone) {
        let Some(pairing) = self.pairings.get_mut(&from) else {
            return;
        };
        if pairing.side == Side::Asked || pairing.code.is_some() {
            return;
        }
        let code = Code::of(phone.id, from, pairing.mine, theirs);
        pairing.code = Some(code);
        pairing.name = Some(name);
        phone.door(
            from,
            Door::Reveal {
                nonce: pairing.mine,
            },
        );
        show(from, pairing, phone);
    }

    pub(super) fn revealed(
        &mut self,
        from: PeerId,
        theirs: Nonce,
        phone: &mut Phone,
        now: Instant,
    ) {
        let Some(pairing) = self.pairings.get_mut(&from) else {
            return phone.door(from, Door::Refuse(Refusal::Expired));
        };
        let Some(commit) = pairing.commit.filter(|_| pairing.code.is_none()) else {
            return;
        };
        if !commit.opens_with(theirs, from, phone.id) {
            tracing::warn!(?from, "A phone knocked with one nonce and showed another");
            self.pairings.remove(&from);
            self.mute(from, now + MUTED_FOR);
            return phone.door(from, Door::Refuse(Refusal::BadCode));
        }

        if let Some(full_at) = &mut self.unopened_full_at {
            UNOPENED.give_back(full_at);
        }
        pairing.code = Some(Code::of(from, phone.id, theirs, pairing.mine));
        pairing.expires = now + PAIRING_LIFETIME;
        show(from, pairing, phone);
    }

    pub(super) fn confirmed(&mut self, from: PeerId, phone: &mut Phone, now: Instant) {
        if let Some(vouch) = self.vouched.get_mut(&from) {
            vouch.expires = now + ENTRY_WAIT;
            return;
        }
        match self.pairings.get_mut(&from) {
            Some(pairing) if pairing.code.is_some() => {
                pairing.agreed_there = true;
                self.advance(from, now);
            }
            Some(_) => {}
            None => phone.door(from, Door::Refuse(Refusal::Expired)),
        }
    }

    pub(super) fn presented(
        &mut self,
        from: PeerId,
        name: Name,
        proof: Proof,
        phone: &mut Phone,
        now: Instant,
    ) {
        let issued = self
            .invites
            .iter_mut()
            .find(|issued| issued.key.newcomers_proof(from, phone.id) == proof);

        let refusal = match &issued {
            None => Some(Refusal::InviteUnknown),
            Some(issued) if issued.used_by.is_some_and(|by| by != from) => {
                Some(Refusal::InviteUsed)
            }
            Some(issued) if issued.used_by.is_none() && issued.expires <= now => {
                Some(Refusal::InviteExpired)
            }
            Some(_) if self.vouched.len() >= VOUCHED_MAX && !self.vouched.contains_key(&from) => {
                Some(Refusal::Busy)
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return phone.door(from, Door::Refuse(refusal));
        }

        let issued = issued.expect("an unknown invite is refused above");
        let first = issued.used_by.replace(from).is_none();
        let proof = issued.key.hosts_proof(from, phone.id);
        phone.door(from, Door::Accept { proof });
        if first {
            self.vouch(from, name, now);
        } else if let Some(vouch) = self.vouched.get_mut(&from) {
            vouch.expires = now + ENTRY_WAIT;
        } else {
            phone.door(from, Door::Refuse(Refusal::InviteUsed));
        }
    }

    pub(super) fn accepted(&mut self, from: PeerId, proof: Proof, phone: &mut Phone, now: Instant) {
        let Some(presenting) = self.presenting.as_mut().filter(|p| p.host == from) else {
            return;
        };
        if presenting.key.hosts_proof(phone.id, from) == proof {
            presenting.accepted = true;
            presenting.expires = now + ENTRY_WAIT;
        } else {
            self.presenting = None;
            phone.pairing_ended(from, PairingEnd::WrongHost);
        }
    }

    pub(super) fn told_to_wait(
        &mut self,
        from: PeerId,
        reason: WaitReason,
        phone: &mut Phone,
        now: Instant,
    ) {
        if self.awaits_welcome(from).is_none() {
            return;
        }
        if let Some(pairing) = self.pairings.get_mut(&from) {
            pairing.expires = now + ENTRY_WAIT;
        }
        if let Some(presenting) = &mut self.presenting {
            presenting.expires = now + ENTRY_WAIT;
        }
        phone
            .out
            .push_back(OutEvent::Waiting { host: from, reason });
    }

    pub(super) fn refused(&mut self, from: PeerId, why: Refusal, phone: &mut Phone, now: Instant) {
        let pairing = self.pairings.remove(&from);
        let vouch = self.vouched.remove(&from);
        let presenting = self
            .presenting
            .take_if(|presenting| presenting.host == from);

        if matches!(&pairing, Some(p) if p.side == Side::Asked) {
            self.mute(from, now + CANCELLED_FOR);
        }
        let shown = pairing.is_some_and(|p| p.side == Side::Asker || p.code.is_some());
        if shown || vouch.is_some() || presenting.is_some() {
            phone.pairing_ended(from, PairingEnd::Refused(why));
        }
    }

    // What the group asks of its door.

    /// Whether `peer` is somebody that a person here knows of.
    pub(super) fn expects(&self, peer: PeerId) -> bool {
        self.pairings
            .get(&peer)
            .is_some_and(|p| p.side == Side::Asker || p.code.is_some())
            || self.vouched.contains_key(&peer)
            || self.presenting.as_ref().is_some_and(|p| p.host == peer)
    }

    /// Whether a welcome from `host` would be what both agreed on, and to which group, if known.
    pub(super) fn awaits_welcome(&self, host: PeerId) -> Option<Option<GroupId>> {
        let paired = self
            .pairings
            .get(&host)
            .is_some_and(|p| p.agreed_here && p.agreed_there && !p.hosts());
        let presented = self
            .presenting
            .as_ref()
            .filter(|p| p.host == host && p.accepted);

        match presented {
            Some(presenting) => Some(presenting.group),
            None => paired.then_some(None),
        }
    }

    /// Whether this phone may become a member at any moment.
    pub(super) fn awaits_any_welcome(&self) -> bool {
        self.presenting.is_some() || self.pairings.values().any(|p| p.agreed_here && !p.hosts())
    }

    /// This phone entered a group through `host`, or founded one: what would take it elsewhere
    /// comes to an end.
    pub(super) fn entered(&mut self, host: Option<PeerId>, phone: &mut Phone) {
        let elsewhere = |p: &Pairing| !p.hosts();
        let mut ended: Vec<_> = self
            .pairings
            .extract_if(.., |_, pairing| elsewhere(pairing))
            .map(|(peer, _)| peer)
            .collect();
        ended.extend(self.presenting.take().map(|presenting| presenting.host));

        for peer in ended {
            if Some(peer) == host {
                phone.pairing_ended(peer, PairingEnd::Done);
            } else {
                phone.door(peer, Door::Refuse(Refusal::Cancelled));
                phone.pairing_ended(peer, PairingEnd::Cancelled);
            }
        }
    }

    /// Newcomers whose turn it is to be spoken to.
    pub(super) fn vouched_due(&self, now: Instant) -> Vec<PeerId> {
        let due = self
            .vouched
            .iter()
            .filter(|(_, vouch)| vouch.resend_at <= now);

        due.map(|(&peer, _)| peer).collect()
    }

    /// Makes every newcomer's turn come at once: the roster or the leader has changed.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.vouched
            .values_mut()
            .for_each(|vouch| vouch.resend_at = now);
    }

    /// Name of a newcomer; counts as its turn. One that was in and is out again has none.
    pub(super) fn take_turn(&mut self, peer: PeerId, inside: bool, now: Instant) -> Option<Name> {
        let vouch = self.vouched.get_mut(&peer)?;
        if vouch.entered && !inside {
            self.vouched.remove(&peer);
            return None;
        }
        vouch.entered = inside;
        vouch.resend_at = now + RESEND;
        Some(vouch.name.clone())
    }

    /// A newcomer has to wait: tells it, and the person here when the reason is new.
    pub(super) fn wait(&mut self, peer: PeerId, reason: WaitReason, phone: &mut Phone) {
        phone.door(peer, Door::Wait(reason));
        if let Some(vouch) = self.vouched.get_mut(&peer)
            && vouch.told.replace(reason) != Some(reason)
        {
            let name = vouch.name.clone();
            phone
                .out
                .push_back(OutEvent::Admitting { peer, name, reason });
        }
    }

    /// A newcomer cannot be let in.
    pub(super) fn turn_away(&mut self, peer: PeerId, why: Refusal, phone: &mut Phone) {
        if self.vouched.remove(&peer).is_some() {
            phone.door(peer, Door::Refuse(why));
            phone.pairing_ended(peer, PairingEnd::Refused(why));
        }
    }

    /// A newcomer spoke as a member.
    pub(super) fn arrived(&mut self, peer: PeerId, phone: &mut Phone) {
        if self.vouched.remove(&peer).is_some() {
            phone.pairing_ended(peer, PairingEnd::Done);
        }
    }

    /// A connection to `peer` is open: repeats what it may have missed.
    pub(super) fn connected(&mut self, peer: PeerId, phone: &mut Phone, now: Instant) {
        self.repeat(peer, phone);
        if let Some(vouch) = self.vouched.get_mut(&peer) {
            vouch.resend_at = now;
        }
    }

    // Time.

    pub(super) fn handle_timeout(&mut self, phone: &mut Phone, now: Instant) {
        for (peer, pairing) in self.pairings.extract_if(.., |_, p| p.expires <= now) {
            phone.door(peer, Door::Refuse(Refusal::Expired));
            if pairing.side == Side::Asker || pairing.code.is_some() {
                phone.pairing_ended(peer, PairingEnd::Expired);
            }
        }
        for (peer, _) in self.vouched.extract_if(.., |_, vouch| vouch.expires <= now) {
            phone.pairing_ended(peer, PairingEnd::Expired);
        }
        if let Some(late) = self
            .presenting
            .take_if(|presenting| presenting.expires <= now)
        {
            phone.pairing_ended(late.host, PairingEnd::Expired);
        }
        self.muted.retain(|_, until| *until > now);

        let due: Vec<_> = self
            .pairings
            .iter_mut()
            .filter(|(_, pairing)| pairing.resend_at <= now)
            .map(|(&peer, pairing)| (peer, &mut pairing.resend_at))
            .chain(
                self.presenting
                    .iter_mut()
                    .map(|p| (p.host, &mut p.resend_at)),
            )
            .filter(|(_, resend_at)| **resend_at <= now)
            .map(|(peer, resend_at)| {
                *resend_at = now + RESEND;
                peer
            })
            .collect();
        for peer in due {
            if self.has_answered(peer) {
                self.repeat(peer, phone);
            } else {
                // It may never have been reached: a radio that sleeps misses a dial. Where there is a connection, it is
                // told of, and the step repeated.
                phone.dial(peer, Addresses::default());
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let pairings = self.pairings.values().map(|p| p.expires.min(p.resend_at));
        let vouched = self.vouched.values().map(|v| v.expires.min(v.resend_at));
        let presenting = self.presenting.iter().map(|p| p.expires.min(p.resend_at));
        let muted = self.muted.values().copied();

        pairings.chain(vouched).chain(presenting).chain(muted).min()
    }

    pub(super) fn sizes(&self) -> AdmissionSizes {
        AdmissionSizes {
            pairings: self.pairings.len(),
            vouched: self.vouched.len(),
            invites: self.invites.len(),
            muted: self.muted.len(),
        }
    }

    // Helpers.

    /// Both agreed: whose group it is vouches for the other.
    fn advance(&mut self, peer: PeerId, now: Instant) {
        let Some(pairing) = self.pairings.get_mut(&peer) else {
            return;
        };
        if !(pairing.agreed_here && pairing.agreed_there) {
            return;
        }
        if !pairing.hosts() {
            pairing.expires = now + ENTRY_WAIT;
        } else if self.vouched.len() < VOUCHED_MAX {
            let pairing = self.pairings.remove(&peer).expect("just looked at");
            let name = pairing.name.expect("a code is shown with a name");
            self.vouch(peer, name, now);
        }
    }

    fn vouch(&mut self, peer: PeerId, name: Name, now: Instant) {
        self.pairings.remove(&peer);
        self.vouched.insert(
            peer,
            Vouch {
                name,
                expires: now + ENTRY_WAIT,
                resend_at: now,
                told: None,
                entered: false,
            },
        );
    }

    /// Returns whether anything came from a phone that is asked, or whose invite is used, if it did not ask itself.
    fn has_answered(&self, peer: PeerId) -> bool {
        let asked = self.pairings.get(&peer);
        let is_asked_in_vain = asked.is_some_and(|p| p.side == Side::Asker && p.code.is_none());
        let invites = self.presenting.as_ref().filter(|p| p.host == peer);

        !is_asked_in_vain && invites.is_none_or(|p| p.accepted)
    }

    /// Says again what `peer` has not answered yet.
    fn repeat(&mut self, peer: PeerId, phone: &mut Phone) {
        if let Some(pairing) = self.pairings.get(&peer) {
            phone.door(peer, pairing.step(phone, peer));
        }
        if let Some(presenting) = &self.presenting
            && presenting.host == peer
        {
            let name = phone.name.clone();
            let proof = presenting.key.newcomers_proof(phone.id, peer);
            phone.door(peer, Door::Present { name, proof });
        }
    }

    fn mute(&mut self, peer: PeerId, until: Instant) {
        if self.muted.len() >= MUTED_MAX {
            let soonest = self.muted.iter().min_by_key(|(_, until)| **until);
            let soonest = soonest.map(|(&peer, _)| peer).expect("the table is full");
            self.muted.remove(&soonest);
        }
        self.muted.insert(peer, until);
    }

    fn asking(&self) -> Option<PeerId> {
        let mut askers = self.pairings.iter().filter(|(_, p)| p.side == Side::Asker);

        askers.next().map(|(&peer, _)| peer)
    }
}

impl Pairing {
    /// Whether the group is this phone's.
    fn hosts(&self) -> bool {
        match (self.side, self.purpose) {
            (Side::Asked, Purpose::Join) | (Side::Asker, Purpose::Invite) => true,
            (Side::Asker, Purpose::Join) | (Side::Asked, Purpose::Invite) => false,
        }
    }

    /// What this side says until it is answered.
    fn step(&self, phone: &Phone, peer: PeerId) -> Door {
        match (self.side, self.code, self.agreed_here) {
            (_, Some(_), true) => Door::Confirm,
            (Side::Asker, None, _) => Door::Knock {
                purpose: self.purpose,
                name: phone.name.clone(),
                commit: Commit::seal(self.mine, phone.id, peer),
            },
            (Side::Asker, Some(_), false) => Door::Reveal { nonce: self.mine },
            (Side::Asked, _, _) => Door::Answer {
                name: phone.name.clone(),
                nonce: self.mine,
            },
        }
    }
}

fn show(peer: PeerId, pairing: &Pairing, phone: &mut Phone) {
    phone.out.push_back(OutEvent::Match {
        peer,
        name: pairing.name.clone().expect("known with the code"),
        purpose: pairing.purpose,
        side: pairing.side,
        code: pairing.code.expect("the caller has just computed it"),
    });
}

//! The phones that a person may speak of, by number: a number stays a phone's as long as it is near, a member,
//! or blocked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use node::event_loop::Event;
use proto::PeerId;
use proto::group::{OutEvent, Sighting};

/// Phones, as this phone has heard of them.
#[derive(Debug, Default)]
pub struct Phones {
    numbers: BTreeMap<u32, PeerId>,
    /// The last number that was given. None is given twice: somebody may be about to type it.
    last_number: u32,
    nearby: BTreeMap<PeerId, Sighting>,
    members: BTreeSet<PeerId>,
    blocked: BTreeSet<PeerId>,
    /// Codes that wait for a yes or a no, without spaces, in the order in which they were shown.
    codes: Vec<(PeerId, String)>,
}

impl Phones {
    /// Notes what an event says of phones.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Blocked(blocked) => self.blocked.clone_from(blocked),
            Event::Group(OutEvent::Nearby(sighting)) => {
                self.nearby.insert(sighting.peer, sighting.clone());
            }
            Event::Group(OutEvent::Faded(peer)) => drop(self.nearby.remove(peer)),
            Event::Group(OutEvent::Members(roster)) => {
                self.members = roster.members.iter().map(|member| member.peer).collect();
            }
            Event::Group(OutEvent::Left { .. }) => self.members.clear(),
            Event::Group(OutEvent::Match { peer, code, .. }) => {
                self.codes.retain(|(other, _)| other != peer);
                self.codes.push((*peer, digits(&code.to_string())));
            }
            Event::Group(OutEvent::PairingEnded { peer, .. }) => {
                self.codes.retain(|(other, _)| other != peer);
            }
            _ => return,
        }

        self.renumber();
    }

    /// Returns a phone's number.
    pub fn number(&self, phone: PeerId) -> Option<u32> {
        let mut numbers = self.numbers.iter();

        numbers.find_map(|(number, other)| (*other == phone).then_some(*number))
    }

    /// Returns the phone of a number.
    ///
    /// # Errors
    ///
    /// If no phone has it.
    pub fn of(&self, number: u32) -> Result<PeerId> {
        let phone = self.numbers.get(&number).copied();

        phone.with_context(|| {
            format!("no phone has the number {number}: `nearby` and `members` list them")
        })
    }

    /// Returns the phone whose code a person means: the only one, or the one with that code.
    ///
    /// # Errors
    ///
    /// If there is none, or if it is not clear which.
    pub fn matching(&self, code: Option<&str>) -> Result<PeerId> {
        match (code, &self.codes[..]) {
            (_, []) => bail!("no code is shown: `tap N` asks a phone nearby, `nearby` lists them"),
            (None, [(phone, _)]) => Ok(*phone),
            (None, _) => bail!("several codes are shown: say `yes CODE` or `no CODE`"),
            (Some(code), codes) => {
                let phone = codes.iter().find(|(_, shown)| shown == code);
                let phone = phone.map(|(phone, _)| *phone);
                phone.with_context(|| format!("no phone shows {code}"))
            }
        }
    }

    /// Returns the phones nearby.
    pub fn nearby(&self) -> impl Iterator<Item = &Sighting> {
        self.nearby.values()
    }

    /// Returns the phones that are never heard.
    pub fn blocked(&self) -> impl Iterator<Item = PeerId> {
        self.blocked.iter().copied()
    }

    /// Returns whether a phone is a member of this one's group.
    pub fn is_member(&self, phone: PeerId) -> bool {
        self.members.contains(&phone)
    }

    /// Gives numbers to phones that have none, and takes those of phones that are gone.
    fn renumber(&mut self) {
        let known = self.nearby.keys().chain(&self.members).chain(&self.blocked);
        let known = known.copied().collect::<BTreeSet<_>>();
        self.numbers.retain(|_, phone| known.contains(phone));

        for phone in known {
            if self.number(phone).is_none() {
                self.last_number += 1;
                self.numbers.insert(self.last_number, phone);
            }
        }
    }
}

/// Returns a code as it is compared: people need not type its spaces.
fn digits(code: &str) -> String {
    code.chars().filter(char::is_ascii_digit).collect()
}

//! What phones are called, as far as this one has heard.

use std::collections::BTreeMap;

use node::event_loop::Event;
use proto::PeerId;
use proto::group::{NEARBY_MAX, Name, OutEvent};

/// Names that are remembered: those of phones nearby, and of those that were before.
const NAMES_MAX: usize = 16 * NEARBY_MAX;

/// What phones are called.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<PeerId, String>);

impl Names {
    /// Notes what an event says of phones.
    pub fn hear(&mut self, event: &Event) {
        let Event::Group(event) = event else {
            return;
        };

        #[expect(clippy::wildcard_enum_match_arm, reason = "others tell no name")]
        match event {
            OutEvent::Nearby(sighting) => self.note(sighting.peer, &sighting.name),
            OutEvent::Match { peer, name, .. } | OutEvent::Admitting { peer, name, .. } => {
                self.note(*peer, name);
            }
            OutEvent::Members(roster) => {
                for member in &*roster.members {
                    self.note(member.peer, &member.name);
                }
            }
            _ => {}
        }
    }

    /// Notes a phone's name.
    pub fn note(&mut self, phone: PeerId, name: &Name) {
        if self.0.len() < NAMES_MAX || self.0.contains_key(&phone) {
            self.0.insert(phone, name.to_string());
        }
    }

    /// Returns a phone's name; empty if nobody told it.
    pub fn of(&self, phone: PeerId) -> String {
        self.0.get(&phone).cloned().unwrap_or_default()
    }
}

//! Finding phones nearby, in every way that there is, and being found.
//!
//! [`Discovery`] runs sources, each of which may be absent, fail, or find nobody, while the others go on; puts
//! together what they see; and keeps where phones may be reached, whoever said so.
//!
//! | source | what it is |
//! | --- | --- |
//! | [`mdns`] | libp2p's own multicast DNS |
//! | [`dns_sd`] | DNS-SD, as printers are found: the only one that hears the system's own responder |
//! | `bonjour` | the same on iOS, by the system's own service |
//! | [`probe`] | one round of knocking at every address near, when a person asks for it |
//! | identify | what a connected phone says of itself: noted by [`crate::net`] |
//! | persons and rosters | invites, typed addresses, members' addresses: noted by [`crate::net`] |
//!
//! ```text
//!  sources ──Found──► sightings (who is near, seen by whom) ──► Sighted · Unsighted
//!               └───► PeerStore (where to dial)
//! ```
//!
//! A source that fails is built again when the interfaces change, and every [`TICK`]. The first failure is
//! a warning, those after it are not.

pub mod address;
pub mod announcement;
#[cfg(target_os = "ios")]
pub mod bonjour;
pub mod dns_sd;
pub mod mdns;
pub mod probe;
pub mod store;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use proto::PeerId;
use proto::group::Sighting;
use tokio::time::{Interval, MissedTickBehavior, interval};

use announcement::Announcement;
#[cfg(target_os = "ios")]
use bonjour::Bonjour;
#[cfg(not(target_os = "ios"))]
use dns_sd::DnsSd;
use mdns::Mdns;
use probe::Probe;
use store::{Origin, PHONES_MAX, PeerStore};

/// How often a phone that is there is sighted again: the group forgets it after 30 s
/// ([`proto::group`]'s list of nearby phones).
pub const TICK: Duration = Duration::from_secs(10);

/// How long a phone stays listed when the source that saw it has failed or was built anew: twice what every source
/// needs to see it again.
const ORPHANED: Duration = Duration::from_secs(45);

/// Which sources run by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    /// libp2p's mDNS.
    pub mdns: bool,
    /// DNS-SD.
    pub dns_sd: bool,
}

/// A way to find phones.
pub trait PeerSource: Send + Debug {
    /// Who says so.
    fn origin(&self) -> Origin;

    /// Says this of this phone from now on, and that it is at these addresses.
    fn announce(&mut self, announcement: &Announcement, addresses: &[Multiaddr]);

    /// Says nothing of this phone any more, until [`Self::announce`].
    fn hide(&mut self);

    /// Looks for others, or only hears them, and says of this phone what there is to say. Returns whether it could
    /// change that; else it is built anew.
    fn look(&mut self, is_looking: bool) -> bool;

    /// Returns whether it goes on when the interfaces change; else it is built anew.
    fn follows_interfaces(&self) -> bool {
        true
    }

    /// Waits for what is found next.
    ///
    /// # Errors
    ///
    /// Any [`SourceError`]; the source is of no use then.
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, SourceError>>;
}

/// What a source finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A phone is there, or there is news of it.
    Seen(Seen),
    /// A phone is there no more.
    Gone(PeerId),
    /// Somebody listens at this address.
    Listener(Multiaddr),
}

/// A phone that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The phone.
    pub phone: PeerId,
    /// What it says of itself.
    pub announcement: Announcement,
    /// Where it may be reached, beside what is known already.
    pub addresses: Vec<Multiaddr>,
}

/// Why a source is of no use (any more).
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No sockets, or no interfaces.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The same, as DNS-SD's library says it.
    #[error("DNS-SD: {0}")]
    DnsSd(#[from] mdns_sd::Error),
    /// It has nothing more to say.
    #[error("ended")]
    Ended,
}

/// What comes of it.
#[derive(Debug)]
pub enum DiscoveryEvent {
    /// A phone is near: for the first time, again, or with news.
    Sighted {
        /// What it says of itself.
        sighting: Sighting,
        /// Where it may be reached, the best first.
        addresses: Vec<Multiaddr>,
    },
    /// A phone is near no more, as far as is known.
    Unsighted(PeerId),
    /// Somebody listens at this address, and should be asked who it is.
    Listener(Multiaddr),
}

/// Sources, and what they have found.
#[derive(Debug)]
pub struct Discovery {
    me: libp2p::PeerId,
    sources: Vec<Slot>,
    probe: Option<Probe>,
    announcement: Option<Announcement>,
    /// Whether others may see this phone.
    is_visible: bool,
    /// Whether others are looked for.
    is_looking: bool,
    addresses: Vec<Multiaddr>,
    store: PeerStore,
    /// Who is near, as each source last saw it.
    near: BTreeMap<PeerId, BTreeMap<Origin, Record>>,
    tick: Interval,
    events: VecDeque<DiscoveryEvent>,
}

/// A source's place, whether it works or not.
#[derive(Debug)]
struct Slot {
    origin: Origin,
    source: Option<Box<dyn PeerSource>>,
    has_warned: bool,
}

/// A phone as one source saw it.
#[derive(Debug)]
struct Record {
    announcement: Announcement,
    seen_at: Instant,
    /// When it is forgotten, if its source cannot say that it is gone.
    expires: Option<Instant>,
}

impl Discovery {
    /// Makes one that announces nothing and has no sources, but keeps addresses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(me: libp2p::PeerId) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset(); // the first one would come at once

        Self {
            me,
            sources: Vec::new(),
            probe: None,
            announcement: None,
            is_visible: true,
            is_looking: true,
            addresses: Vec::new(),
            store: PeerStore::default(),
            near: BTreeMap::new(),
            tick,
            events: VecDeque::new(),
        }
    }

    /// Starts sources, and has them say this of this phone.
    pub fn start(&mut self, sources: Sources, announcement: Announcement) {
        let wanted = [
            (Origin::Mdns, sources.mdns),
            (Origin::DnsSd, sources.dns_sd),
        ];
        let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted);

        self.sources = wanted
            .map(|(origin, _)| Slot {
                origin,
                source: None,
                has_warned: false,
            })
            .collect();
        self.announcement = Some(announcement);
        self.build_missing(Instant::now());
    }

    /// Has all sources say something else of this phone.
    pub fn announce(&mut self, announcement: Announcement) {
        self.announcement = Some(announcement);
        self.say();
    }

    /// Lets others see this phone, or no more. Whoever knows where it is may still connect.
    pub fn set_visible(&mut self, is_visible: bool) {
        self.is_visible = is_visible;
        if is_visible {
            return self.say();
        }

        for source in self.sources.iter_mut().filter_map(|s| s.source.as_mut()) {
            source.hide();
        }
    }

    /// Looks for others, or rests: this phone is still seen, and who is near may go unseen.
    pub fn set_looking(&mut self, is_looking: bool) {
        if std::mem::replace(&mut self.is_looking, is_looking) == is_looking {
            return;
        }

        let now = Instant::now();
        for i in 0..self.sources.len() {
            let source = self.sources[i].source.as_mut();
            if source.is_some_and(|source| !source.look(is_looking)) {
                self.give_up(i, now);
            }
        }
        self.build_missing(now);
    }

    /// Has all sources say other addresses, and builds those that have failed: the interfaces have changed.
    pub fn readdress(&mut self, addresses: Vec<Multiaddr>) {
        let now = Instant::now();
        let is_first = self.addresses.is_empty();
        self.addresses = addresses;
        for i in 0..self.sources.len() {
            let source = self.sources[i].source.as_ref();
            if !is_first && source.is_some_and(|source| !source.follows_interfaces()) {
                self.give_up(i, now);
            }
        }

        self.say();
        self.build_missing(now);
    }

    /// Builds all sources anew, as after a sleep, which their sockets may not have survived.
    pub fn restart(&mut self) {
        let now = Instant::now();
        for i in 0..self.sources.len() {
            self.give_up(i, now);
        }

        self.build_missing(now);
    }

    /// Knocks at every address of the own network, once, unless that is under way.
    pub fn probe(&mut self, port: u16) {
        if self.probe.is_none() {
            self.probe = Some(Probe::new(&self.addresses, port));
        }
    }

    /// Takes note of what somebody else has found.
    pub fn note(&mut self, origin: Origin, found: Found) {
        let now = Instant::now();

        match found {
            Found::Seen(seen) => self.seen(origin, seen, now),
            Found::Gone(phone) => self.gone(origin, phone),
            Found::Listener(address) => {
                self.events.push_back(DiscoveryEvent::Listener(address));
            }
        }
    }

    /// Takes note of where a phone may be reached.
    pub fn learn(&mut self, origin: Origin, phone: PeerId, addresses: &[Multiaddr]) {
        let now = Instant::now();
        // Loopback of the phone that says so is not ours, unless we are on the same machine; a person knows.
        let is_trusted = matches!(origin, Origin::Person | Origin::Roster);
        let own_machine = is_trusted || self.addresses.iter().any(address::is_loopback);

        for address in addresses.iter().take(store::ADDRESSES_MAX) {
            if own_machine || !address::is_loopback(address) {
                self.store.learn(phone, address, origin, now);
            }
        }
    }

    /// Returns where to dial a phone, the best first.
    pub fn addresses_of(&self, phone: PeerId) -> Vec<Multiaddr> {
        self.store.addresses(phone, Instant::now())
    }

    /// Returns the phone that is known to be at an address.
    pub fn phone_at(&self, address: &Multiaddr) -> Option<PeerId> {
        self.store.phone_at(address)
    }

    /// Waits for what comes next.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DiscoveryEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let now = Instant::now();
            let ticked = self.tick.poll_tick(cx).is_ready();
            if ticked {
                self.on_tick(now);
            }
            let found = self.poll_sources(cx, now);

            if !ticked && !found {
                return Poll::Pending;
            }
        }
    }

    /// Asks each source once. Returns whether any had something.
    fn poll_sources(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut any = false;

        for i in 0..self.sources.len() {
            let origin = self.sources[i].origin;
            match self.sources[i]
                .source
                .as_mut()
                .map(|source| source.poll_found(cx))
            {
                Some(Poll::Ready(Ok(found))) => self.note(origin, found),
                Some(Poll::Ready(Err(error))) => self.failed(i, &error, now),
                Some(Poll::Pending) | None => continue,
            }
            any = true;
        }
        match self.probe.as_mut().map(|probe| probe.poll_found(cx)) {
            Some(Poll::Ready(Ok(found))) => self.note(Origin::Probe, found),
            Some(Poll::Ready(Err(_))) => self.probe = None, // the round is over
            Some(Poll::Pending) | None => return any,
        }

        true
    }

    fn on_tick(&mut self, now: Instant) {
        self.build_missing(now);
        for (phone, records) in &mut self.near {
            records.retain(|_, record| record.expires.is_none_or(|expires| expires > now));
            if records.is_empty() {
                self.events.push_back(DiscoveryEvent::Unsighted(*phone));
            }
        }

        self.near.retain(|_, records| !records.is_empty());
        let phones: Vec<_> = self.near.keys().copied().collect();
        for phone in phones {
            self.sighted(phone);
        }
    }

    fn seen(&mut self, origin: Origin, seen: Seen, now: Instant) {
        self.learn(origin, seen.phone, &seen.addresses);
        if !self.near.contains_key(&seen.phone) && self.near.len() >= PHONES_MAX {
            return tracing::debug!(phone = %seen.phone, "Too many phones nearby");
        }
        let record = Record {
            announcement: seen.announcement,
            seen_at: now,
            expires: None,
        };

        self.near
            .entry(seen.phone)
            .or_default()
            .insert(origin, record);
        self.sighted(seen.phone);
    }

    fn gone(&mut self, origin: Origin, phone: PeerId) {
        let Some(records) = self.near.get_mut(&phone) else {
            return;
        };
        records.remove(&origin);

        if records.is_empty() {
            self.near.remove(&phone);
            self.events.push_back(DiscoveryEvent::Unsighted(phone));
        }
    }

    /// Tells what the latest source said of a phone, if it can be reached: it is connected, or it is known where. Identify
    /// comes last, because libp2p's says for ever what a phone said of itself when it was started.
    fn sighted(&mut self, phone: PeerId) {
        let Some(records) = self.near.get(&phone) else {
            return;
        };
        let rank =
            |(origin, record): &(&Origin, &Record)| (**origin != Origin::Identify, record.seen_at);
        let Some((_, latest)) = records.iter().max_by_key(rank) else {
            return;
        };
        let addresses = self.addresses_of(phone);
        if addresses.is_empty() && !records.contains_key(&Origin::Identify) {
            return;
        }
        let Announcement {
            name,
            version,
            group,
        } = latest.announcement.clone();

        self.events.push_back(DiscoveryEvent::Sighted {
            addresses,
            sighting: Sighting {
                peer: phone,
                name,
                version,
                group,
            },
        });
    }

    fn say(&mut self) {
        let announcement = self.announcement.as_ref();
        let Some(announcement) = announcement.filter(|_| self.is_visible) else {
            return;
        };

        for source in self
            .sources
            .iter_mut()
            .filter_map(|slot| slot.source.as_mut())
        {
            source.announce(announcement, &self.addresses);
        }
    }

    /// Builds the sources that are not there, once there is an address to say: without one nobody can be reached.
    fn build_missing(&mut self, now: Instant) {
        if self.addresses.is_empty() {
            return;
        }
        for i in 0..self.sources.len() {
            if self.sources[i].source.is_some() {
                continue;
            }
            match build(self.sources[i].origin, self.me, self.is_looking) {
                Ok(mut source) => {
                    if let Some(announcement) = &self.announcement
                        && self.is_visible
                    {
                        source.announce(announcement, &self.addresses);
                    }
                    self.sources[i].source = Some(source);
                    self.sources[i].has_warned = false;
                }
                Err(error) => self.failed(i, &error, now),
            }
        }
    }

    fn failed(&mut self, i: usize, error: &SourceError, now: Instant) {
        let slot = &mut self.sources[i];
        let origin = slot.origin;
        if slot.has_warned {
            tracing::debug!(?origin, %error, "Source of nearby phones still fails");
        } else {
            tracing::warn!(?origin, %error, "Source of nearby phones has failed, the others go on");
        }

        slot.has_warned = true;
        self.give_up(i, now);
    }

    /// Drops a source, and has what it saw expire, since it cannot say any more that a phone is gone.
    fn give_up(&mut self, i: usize, now: Instant) {
        self.sources[i].source = None;
        let origin = self.sources[i].origin;
        for record in self
            .near
            .values_mut()
            .filter_map(|records| records.get_mut(&origin))
        {
            record.expires.get_or_insert(now + ORPHANED);
        }
    }
}

fn build(
    origin: Origin,
    me: libp2p::PeerId,
    is_looking: bool,
) -> Result<Box<dyn PeerSource>, SourceError> {
    match origin {
        Origin::Mdns => Ok(Box::new(Mdns::new(me, is_looking)?)),
        #[cfg(not(target_os = "ios"))]
        Origin::DnsSd => Ok(Box::new(DnsSd::new(me, is_looking)?)),
        #[cfg(target_os = "ios")]
        Origin::DnsSd => Ok(Box::new(Bonjour::new(me, is_looking))),
        Origin::Person | Origin::Identify | Origin::Probe | Origin::Roster => {
            unreachable!("only the sources that run by themselves are built")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use libp2p::identity::Keypair;
    use proto::group::Name;

    use super::*;

    #[tokio::test]
    async fn a_phone_is_there_while_any_source_sees_it() {
        let mut discovery = discovery();

        discovery.note(Origin::Mdns, Found::Seen(seen("Sam's")));
        discovery.note(Origin::DnsSd, Found::Seen(seen("Sam's phone")));
        discovery.note(Origin::Mdns, Found::Gone(phone()));

        assert_eq!(next(&mut discovery).await, Some("Sam's".into()));
        assert_eq!(next(&mut discovery).await, Some("Sam's phone".into()));
        assert_eq!(
            next(&mut discovery).await,
            None,
            "nothing is lost by one source"
        );

        discovery.note(Origin::DnsSd, Found::Gone(phone()));
        assert_eq!(next(&mut discovery).await, Some("gone".into()));
    }

    #[tokio::test]
    async fn a_phone_that_stays_is_sighted_again() {
        let mut discovery = discovery();
        discovery.note(Origin::Mdns, Found::Seen(seen("Sam")));
        assert_eq!(next(&mut discovery).await, Some("Sam".into()));

        discovery.on_tick(Instant::now());

        assert_eq!(next(&mut discovery).await, Some("Sam".into()));
    }

    #[tokio::test]
    async fn loopback_of_others_is_not_dialled_but_by_phones_that_are_there_too() {
        let loopback = "/ip4/127.0.0.1/tcp/22".parse().expect("an address");
        let mut discovery = discovery();

        discovery.learn(Origin::Mdns, phone(), std::slice::from_ref(&loopback));
        assert!(discovery.addresses_of(phone()).is_empty());

        discovery.readdress(vec![loopback.clone()]);
        discovery.learn(Origin::Mdns, phone(), std::slice::from_ref(&loopback));
        assert_eq!(discovery.addresses_of(phone()), [loopback]);
    }

    /// What a connected phone says of itself is as old as the phone's program: it may have been renamed since.
    #[tokio::test]
    async fn identify_is_believed_only_where_nobody_else_knows() {
        let mut discovery = discovery();

        discovery.note(Origin::Identify, Found::Seen(seen("before")));
        assert_eq!(next(&mut discovery).await.as_deref(), Some("before"));
        discovery.note(Origin::Mdns, Found::Seen(seen("after")));
        assert_eq!(next(&mut discovery).await.as_deref(), Some("after"));
        discovery.note(Origin::Identify, Found::Seen(seen("before")));

        assert_eq!(next(&mut discovery).await.as_deref(), Some("after"));
    }

    #[tokio::test]
    async fn a_made_up_crowd_does_not_grow_anything() {
        let mut discovery = discovery();

        for i in 0..10_000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&i.to_le_bytes());
            let seen = Seen {
                phone: PeerId(id),
                ..seen("nobody")
            };
            discovery.note(Origin::Mdns, Found::Seen(seen));
            while next(&mut discovery).await.is_some() {}
        }

        assert_eq!(discovery.near.len(), PHONES_MAX);
    }

    fn discovery() -> Discovery {
        Discovery::new(Keypair::generate_ed25519().public().to_peer_id())
    }

    async fn next(discovery: &mut Discovery) -> Option<String> {
        let event = poll_fn(|cx| discovery.poll_next(cx));

        match event.now_or_never()? {
            DiscoveryEvent::Sighted { sighting, .. } => Some(sighting.name.to_string()),
            DiscoveryEvent::Unsighted(_) => Some("gone".into()),
            DiscoveryEvent::Listener(address) => Some(address.to_string()),
        }
    }

    fn phone() -> PeerId {
        PeerId([7; 32])
    }

    fn seen(name: &str) -> Seen {
        Seen {
            phone: phone(),
            announcement: Announcement {
                name: Name::tidy(name),
                version: 1,
                group: None,
            },
            addresses: vec!["/ip4/192.168.1.7/tcp/27077".parse().expect("an address")],
        }
    }
}

//! libp2p's own mDNS (`_p2p._udp`), as a source.
//!
//! The behaviour of `libp2p-mdns` is run here, outside any swarm: so it is told only the addresses that are worth
//! saying, each with the announcement behind it, and can be built anew at any time. That is needed: its task
//! for an interface ends on the first read error and does not come back.
//!
//! It asks and answers over IPv4 only, and not on loopback. It and the system's mDNS do not hear each other
//! (`dns_sd.rs` speaks with that).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::mdns::{Config, Event, tokio::Behaviour};
use libp2p::swarm::behaviour::{ExpiredListenAddr, NewListenAddr};
use libp2p::swarm::{FromSwarm, NetworkBehaviour, ToSwarm};
use proto::PeerId;

use super::announcement::{Announcement, unlabel_address};
use super::store::{Origin, PHONES_MAX};
use super::{Found, PeerSource, Seen, SourceError};
use crate::identity;

/// How often it asks; the first times after 0, 0.5, 1.5 and 3.5 s, until somebody answers.
const ASK: Duration = Duration::from_secs(8);

/// How often it asks while nobody looks: the library asks always, and a radio should not wake for it. A guess.
const ASK_SELDOM: Duration = Duration::from_secs(5 * 60);

/// How long others believe an answer of ours: two of their questions, or our answers, may be lost.
const LIFETIME: Duration = Duration::from_secs(30);

/// Labels of one phone that are not expired: it changes its name or its group now and then.
const LABELS_MAX: usize = 8;

/// libp2p's mDNS.
pub struct Mdns {
    behaviour: Behaviour,
    /// Stands for all our listeners.
    listener: ListenerId,
    announced: BTreeSet<Multiaddr>,
    /// What phones have announced and has not expired, the latest last.
    seen: BTreeMap<PeerId, Vec<(Multiaddr, Announcement)>>,
    /// What is to be told, in the order in which it came: of two announcements the later counts.
    found: VecDeque<Found>,
}

impl std::fmt::Debug for Mdns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mdns")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

impl Mdns {
    /// Starts asking.
    ///
    /// # Errors
    ///
    /// [`SourceError::Io`] if the system does not tell its interfaces.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(me: libp2p::PeerId, is_looking: bool) -> Result<Self, SourceError> {
        let config = Config {
            ttl: LIFETIME,
            query_interval: if is_looking { ASK } else { ASK_SELDOM },
            enable_ipv6: false,
        };

        Ok(Self {
            behaviour: Behaviour::new(config, me)?,
            listener: ListenerId::next(),
            announced: BTreeSet::new(),
            seen: BTreeMap::new(),
            found: VecDeque::new(),
        })
    }

    /// Has the library say these addresses, and no others.
    fn say(&mut self, wanted: BTreeSet<Multiaddr>) {
        let listener_id = self.listener;

        for addr in self.announced.difference(&wanted) {
            let expired = ExpiredListenAddr { listener_id, addr };
            self.behaviour
                .on_swarm_event(FromSwarm::ExpiredListenAddr(expired));
        }
        for addr in wanted.difference(&self.announced) {
            let new = NewListenAddr { listener_id, addr };
            self.behaviour.on_swarm_event(FromSwarm::NewListenAddr(new));
        }
        self.announced = wanted;
    }

    fn discovered(&mut self, phone: PeerId, labelled: &Multiaddr) {
        let Some((address, announcement)) = unlabel_address(labelled) else {
            return; // some other program's
        };
        if !self.seen.contains_key(&phone) && self.seen.len() >= PHONES_MAX {
            return;
        }

        let labels = self.seen.entry(phone).or_default();
        labels.retain(|(other, _)| other != labelled);
        labels.push((labelled.clone(), announcement));
        if labels.len() > LABELS_MAX {
            labels.remove(0);
        }
        self.tell(phone, vec![address]);
    }

    fn expired(&mut self, phone: PeerId, labelled: &Multiaddr) {
        let Some(labels) = self.seen.get_mut(&phone) else {
            return;
        };
        labels.retain(|(other, _)| other != labelled);

        if labels.is_empty() {
            self.seen.remove(&phone);
            self.found.push_back(Found::Gone(phone));
        } else {
            self.tell(phone, Vec::new());
        }
    }

    /// Tells what a phone has announced last.
    fn tell(&mut self, phone: PeerId, addresses: Vec<Multiaddr>) {
        let latest = self.seen.get(&phone).and_then(|labels| labels.last());
        let announcement = latest.map(|(_, announcement)| announcement.clone());

        self.found.extend(announcement.map(|announcement| {
            Found::Seen(Seen {
                phone,
                announcement,
                addresses,
            })
        }));
    }
}

impl PeerSource for Mdns {
    fn origin(&self) -> Origin {
        Origin::Mdns
    }

    fn announce(&mut self, announcement: &Announcement, addresses: &[Multiaddr]) {
        let labelled = addresses
            .iter()
            .map(|address| announcement.label_address(address));

        self.say(labelled.collect());
    }

    fn hide(&mut self) {
        self.say(BTreeSet::new());
    }

    /// How often it asks is fixed when it is built.
    fn look(&mut self, _: bool) -> bool {
        false
    }

    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, SourceError>> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Poll::Ready(Ok(found));
            }
            match self.behaviour.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(Event::Discovered(list))) => {
                    each_phone(list, |phone, address| self.discovered(phone, &address));
                }
                Poll::Ready(ToSwarm::GenerateEvent(Event::Expired(list))) => {
                    each_phone(list, |phone, address| self.expired(phone, &address));
                }
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Its tasks outlive it until another phone says something. Until then they have nothing to announce.
impl Drop for Mdns {
    fn drop(&mut self) {
        self.say(BTreeSet::new());
    }
}

fn each_phone(list: Vec<(libp2p::PeerId, Multiaddr)>, mut note: impl FnMut(PeerId, Multiaddr)) {
    for (peer, address) in list {
        if let Some(phone) = identity::peer_id(&peer) {
            note(phone, address);
        }
    }
}

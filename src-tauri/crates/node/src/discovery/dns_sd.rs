//! DNS-SD: the service `_lingualinked._tcp`, found and told by multicast DNS as printers are.
//!
//! `mdns-sd` asks and answers from the port that other programs listen to, so this hears the system's own
//! responders (avahi, Apple's), and they hear us. What a phone says of itself is in the TXT record:
//!
//! | key | value |
//! | --- | --- |
//! | `id` | libp2p peer id; also the instance's name, which is therefore nobody else's |
//! | `v` | version of the messages |
//! | `n` | name, cut to what a TXT string holds |
//! | `g` | group as 22 characters of base64url, or `-` |
//!
//! The port is that of TCP; addresses on other ports are left to other sources. On iOS raw multicast needs an
//! entitlement: there `bonjour` says and hears the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mdns_sd::{
    IfKind, IfPredicate, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo,
};
use proto::PeerId;
use proto::group::Name;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::address::{ip_of, leads_elsewhere, tcp_port_of};
use super::announcement::{Announcement, group_from_text, group_to_text};
use super::store::{Origin, PHONES_MAX};
use super::{Found, PeerSource, Seen, SourceError};
use crate::identity;

/// The service, as every phone calls it.
pub const SERVICE: &str = "_lingualinked._tcp.local.";

/// How often phones that were found are asked whether they are still there, and others are sought anew: their
/// records alone would live for two minutes, and the library asks less and less often.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(20);

/// How long a phone may take to say that it is still there: two questions, a second apart.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the library may take to say goodbye to the network.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// DNS-SD.
pub struct DnsSd {
    me: libp2p::PeerId,
    daemon: ServiceDaemon,
    events: BoxStream<'static, ServiceEvent>,
    is_looking: bool,
    /// Phones by the names of their services.
    services: BTreeMap<String, PeerId>,
    again: Interval,
}

impl std::fmt::Debug for DnsSd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsSd")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl DnsSd {
    /// Starts asking.
    ///
    /// # Errors
    ///
    /// [`SourceError::DnsSd`] if there are no sockets for it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(me: libp2p::PeerId, is_looking: bool) -> Result<Self, SourceError> {
        let daemon = ServiceDaemon::new()?;
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(|interface| {
            leads_elsewhere(&interface.name)
        })))?;
        let events = match is_looking {
            true => daemon.browse(SERVICE)?.into_stream().boxed(),
            false => stream::pending().boxed(),
        };
        let mut again = interval(ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.reset(); // the first tick would come at once

        Ok(Self {
            me,
            daemon,
            events,
            is_looking,
            services: BTreeMap::new(),
            again,
        })
    }

    fn register(
        &self,
        announcement: &Announcement,
        addresses: &[Multiaddr],
    ) -> Result<(), SourceError> {
        let Some(port) = addresses.iter().find_map(tcp_port_of) else {
            return Ok(()); // nothing to be found at, yet
        };
        let on_port = addresses.iter().filter(|a| tcp_port_of(a) == Some(port));
        let ips: Vec<IpAddr> = on_port.filter_map(ip_of).collect();
        let id = self.me.to_base58();
        let host = format!("ll-{}.local.", &id[id.len() - 20..]);
        let txt = to_txt(self.me, announcement);

        let mut info = ServiceInfo::new(SERVICE, &id, &host, ips.as_slice(), port, &txt[..])?;
        info.set_requires_probe(false); // the names contain our key's: nobody else has them
        info.set_interfaces(ips.into_iter().map(IfKind::Addr).collect());
        Ok(self.daemon.register(info)?)
    }

    fn ask_again(&mut self) -> Result<(), SourceError> {
        if !self.is_looking {
            return Ok(());
        }
        for service in self.services.keys() {
            self.daemon.verify(service.clone(), VERIFY_TIMEOUT)?;
        }
        self.events = self.daemon.browse(SERVICE)?.into_stream().boxed();

        Ok(())
    }

    fn note(&mut self, event: ServiceEvent) -> Option<Found> {
        if let ServiceEvent::ServiceResolved(service) = event {
            let seen = seen(&service)?;
            let is_new = !self.services.contains_key(&service.fullname);
            if is_new && self.services.len() >= PHONES_MAX {
                return None;
            }
            let is_me = identity::libp2p_peer(seen.phone) == Some(self.me);
            if is_me {
                return None;
            }

            self.services.insert(service.fullname, seen.phone);
            Some(Found::Seen(seen))
        } else if let ServiceEvent::ServiceRemoved(_, service) = event {
            self.services.remove(&service).map(Found::Gone)
        } else {
            None
        }
    }
}

impl PeerSource for DnsSd {
    fn origin(&self) -> Origin {
        Origin::DnsSd
    }

    fn announce(&mut self, announcement: &Announcement, addresses: &[Multiaddr]) {
        if let Err(error) = self.register(announcement, addresses) {
            tracing::warn!(%error, "This phone is not announced by DNS-SD");
        }
    }

    fn hide(&mut self) {
        let service = format!("{}.{SERVICE}", self.me.to_base58());

        if let Err(error) = self.daemon.unregister(&service) {
            tracing::debug!(%error, "This phone is still announced by DNS-SD");
        }
    }

    fn look(&mut self, is_looking: bool) -> bool {
        self.is_looking = is_looking;
        if is_looking {
            return self.ask_again().is_ok();
        }

        self.events = stream::pending().boxed();
        self.daemon.stop_browse(SERVICE).is_ok()
    }

    /// The library looks for new addresses every 5 s only, and announced nothing on them when it was tried.
    fn follows_interfaces(&self) -> bool {
        false
    }

    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, SourceError>> {
        while self.again.poll_tick(cx).is_ready() {
            self.ask_again()?;
        }

        loop {
            match self.events.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => {
                    if let Some(found) = self.note(event) {
                        return Poll::Ready(Ok(found));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Err(SourceError::Ended)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Says goodbye, so that others need not find out.
impl Drop for DnsSd {
    fn drop(&mut self) {
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(GOODBYE_TIMEOUT); // others find out
        }
    }
}

/// Returns what this phone's TXT record says.
pub(super) fn to_txt(
    me: libp2p::PeerId,
    announcement: &Announcement,
) -> [(&'static str, String); 4] {
    [
        ("id", me.to_base58()),
        ("v", announcement.version.to_string()),
        ("n", announcement.name.to_string()),
        ("g", group_to_text(announcement.group)),
    ]
}

/// Reads another phone's TXT record; `None` if it is no phone of ours.
pub(super) fn from_txt<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
) -> Option<(PeerId, Announcement)> {
    let peer: libp2p::PeerId = text("id")?.parse().ok()?;
    let announcement = Announcement {
        name: Name::tidy(text("n").unwrap_or_default()),
        version: text("v")?.parse().ok()?,
        group: group_from_text(text("g").unwrap_or("-"))?,
    };

    Some((identity::peer_id(&peer)?, announcement))
}

/// Reads what a service says; `None` if it is no phone of ours.
fn seen(service: &ResolvedService) -> Option<Seen> {
    let (phone, announcement) = from_txt(|key| service.get_property_val_str(key))?;

    let port = service.get_port();
    let addresses = service.get_addresses().iter().map(ScopedIp::to_ip_addr);
    Some(Seen {
        phone,
        announcement,
        addresses: addresses
            .map(|ip| Multiaddr::from(ip).with(Protocol::Tcp(port)))
            .collect(),
    })
}

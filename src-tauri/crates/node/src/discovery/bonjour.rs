//! DNS-SD by iOS's own service, which may use multicast where the app may not.
//!
//! It says and finds the same as [`super::dns_sd`], and phones with either find each other. iOS asks the person at
//! the first search whether the app may look around; until then, and if the answer is no, nothing is found.
//!
//! ```text
//!  browse ──name──► look_up: TXT and port, then addresses ──► Seen
//!         ──gone──────────────────────────────────────────────► Gone
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use async_dnssd::{
    Browse, BrowseResult, BrowsedFlags, Register, RegisterData, RegisterFlags, Registration,
    ResolvedHostFlags, StreamTimeoutExt, TxtRecord, browse, register_extended,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use proto::PeerId;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::address::tcp_port_of;
use super::announcement::Announcement;
use super::dns_sd::{self, ASK_AGAIN};
use super::store::{ADDRESSES_MAX, Origin, PHONES_MAX};
use super::{Found, PeerSource, Seen, SourceError};
use crate::identity;

/// [`dns_sd::SERVICE`], without the domain.
const SERVICE: &str = "_lingualinked._tcp";

/// How long a service may take to say what it is.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for one more address of a phone: the system has them from the same packet, as a rule.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// What came of looking a service up: its name, and what it says.
type LookedUp = (String, Option<Seen>);

/// The system's DNS-SD.
pub struct Bonjour {
    me: libp2p::PeerId,
    /// Nothing while nobody looks.
    browse: Option<Browse>,
    /// Being told to the network, and told.
    registering: Option<Register>,
    registered: Option<Registration>,
    /// Services by name, each with the phone that it is, once that is known.
    services: BTreeMap<String, (BrowseResult, Option<PeerId>)>,
    looking_up: FuturesUnordered<BoxFuture<'static, LookedUp>>,
    again: Interval,
}

impl std::fmt::Debug for Bonjour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bonjour")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl Bonjour {
    /// Makes one that looks around, or only says who this phone is. An error of the system comes with the first poll.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(me: libp2p::PeerId, is_looking: bool) -> Self {
        let mut again = interval(ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.reset(); // the first tick would come at once

        Self {
            me,
            browse: is_looking.then(|| browse(SERVICE)),
            registering: None,
            registered: None,
            services: BTreeMap::new(),
            looking_up: FuturesUnordered::new(),
            again,
        }
    }

    fn register(
        &mut self,
        announcement: &Announcement,
        addresses: &[Multiaddr],
    ) -> Result<(), SourceError> {
        let Some(port) = addresses.iter().find_map(tcp_port_of) else {
            return Ok(()); // nothing to be found at, yet
        };
        let mut txt = TxtRecord::new();
        for (key, value) in dns_sd::to_txt(self.me, announcement) {
            let set = txt.set_value(key.as_bytes(), value.as_bytes());
            set.map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
        }

        self.hide(); // only one service may have the name
        let name = self.me.to_base58();
        let data = RegisterData {
            flags: RegisterFlags::NO_AUTO_RENAME,
            name: Some(&name),
            txt: txt.rdata(),
            ..RegisterData::default()
        };
        self.registering = Some(register_extended(SERVICE, port, data)?);
        Ok(())
    }

    /// Takes note of a service that is there, or is no more.
    fn browsed(&mut self, service: BrowseResult) -> Option<Found> {
        let name = service.service_name.clone();
        if !service.flags.contains(BrowsedFlags::ADD) {
            let (_, phone) = self.services.remove(&name)?;
            return phone.map(Found::Gone);
        }
        let is_me = name == self.me.to_base58();
        let is_new = !self.services.contains_key(&name);
        if is_me || (is_new && self.services.len() >= PHONES_MAX) {
            return None;
        }

        self.looking_up.push(look_up(service.clone()).boxed());
        let phone = self.services.get(&name).and_then(|(_, phone)| *phone);
        self.services.insert(name, (service, phone));
        None
    }

    fn looked_up(&mut self, (name, seen): LookedUp) -> Option<Found> {
        let seen = seen?;
        let (_, phone) = self.services.get_mut(&name)?;
        if identity::libp2p_peer(seen.phone) == Some(self.me) {
            return None;
        }

        *phone = Some(seen.phone);
        Some(Found::Seen(seen))
    }

    /// Asks all services anew what they say: nobody tells when that changes. Not while answers are due.
    fn ask_again(&mut self) {
        if self.browse.is_some() && self.looking_up.is_empty() {
            let services = self.services.values();
            let asked = services.map(|(service, _)| look_up(service.clone()).boxed());
            self.looking_up.extend(asked);
        }
    }

    fn poll_browse(&mut self, cx: &mut Context<'_>) -> Poll<Result<BrowseResult, SourceError>> {
        let Some(browse) = &mut self.browse else {
            return Poll::Pending;
        };

        browse
            .poll_next_unpin(cx)
            .map(|service| Ok(service.ok_or(SourceError::Ended)??))
    }

    fn poll_registering(&mut self, cx: &mut Context<'_>) -> Result<(), SourceError> {
        if let Some(registering) = &mut self.registering
            && let Poll::Ready(registered) = registering.poll_unpin(cx)
        {
            self.registering = None;
            let (registration, _) = registered?;
            self.registered = Some(registration);
        }

        Ok(())
    }
}

impl PeerSource for Bonjour {
    fn origin(&self) -> Origin {
        Origin::DnsSd
    }

    fn announce(&mut self, announcement: &Announcement, addresses: &[Multiaddr]) {
        if let Err(error) = self.register(announcement, addresses) {
            tracing::warn!(%error, "This phone is not announced by DNS-SD");
        }
    }

    fn hide(&mut self) {
        (self.registering, self.registered) = (None, None);
    }

    fn look(&mut self, is_looking: bool) -> bool {
        self.browse = is_looking.then(|| browse(SERVICE));
        true
    }

    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, SourceError>> {
        while self.again.poll_tick(cx).is_ready() {
            self.ask_again();
        }
        self.poll_registering(cx)?;

        while let Poll::Ready(service) = self.poll_browse(cx) {
            if let Some(found) = self.browsed(service?) {
                return Poll::Ready(Ok(found));
            }
        }
        while let Poll::Ready(Some(looked_up)) = self.looking_up.poll_next_unpin(cx) {
            if let Some(found) = self.looked_up(looked_up) {
                return Poll::Ready(Ok(found));
            }
        }

        Poll::Pending
    }
}

/// Asks a service what it is, and where.
async fn look_up(service: BrowseResult) -> LookedUp {
    let name = service.service_name.clone();
    let seen = resolve(&service).await;

    (name, seen)
}

/// `None` if it does not answer, or is no phone of ours.
async fn resolve(service: &BrowseResult) -> Option<Seen> {
    let resolving = service.resolve().timeout(RESOLVE_TIMEOUT);
    let resolved = Box::pin(resolving).next().await?.ok()?;
    let txt = TxtRecord::parse(&resolved.txt)?;
    let (phone, announcement) = dns_sd::from_txt(|key| {
        let value = txt.get(key.as_bytes())??;
        std::str::from_utf8(value).ok()
    })?;

    let addresses = resolved.resolve_socket_address().timeout(ADDRESS_TIMEOUT);
    let addresses = addresses.filter_map(async |found| {
        let found = found.ok()?;
        let is_there = found.flags.contains(ResolvedHostFlags::ADD);
        is_there.then(|| SocketAddr::from(found.address))
    });
    Some(Seen {
        phone,
        announcement,
        addresses: addresses
            .take(ADDRESSES_MAX)
            .map(|at| Multiaddr::from(at.ip()).with(Protocol::Tcp(at.port())))
            .collect()
            .await,
    })
}

//! The switch: frames in, frames out later, or never. No clock, no sockets, no threads.
//!
//! ```text
//!               handle_frame              handle_timeout            poll
//!  phone's TAP ─────────────► in flight ─────────────────► due ───────────► TAPs of those it is for
//!                  │                           │
//!                  └── dropped: lost, overflow,└── dropped: cut
//!                      cut, filtered, nobody
//! ```
//!
//! Every phone has a fixed MAC address ([`mac`]), so nothing is learned and nothing is flooded: a
//! frame for an address that no phone has is dropped, as by an access point that knows its stations.
//!
//! **Rate.** A phone has one radio. Links that follow the profile share it: together they get the
//! profile's rate, and a multicast is sent once, whoever hears it. A link set apart by
//! [`Command::SetLink`] has a transmitter of its own. What is *not* modelled: phones never wait for
//! each other's airtime, so four senders bring one receiver four times the rate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::command::{Command, CommandError, PortStatus};
use crate::link::Link;
use crate::path::{Path, Transmitter};

/// Destination, source, type: what every Ethernet frame starts with.
const HEADER_BYTES: usize = 14;

/// How many phones fit one network: their last address byte is one of `1..=253`.
pub const PHONES_MAX: usize = 64;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Returns the address of a phone's `wlan0`: locally administered, the phone in the last byte.
pub fn mac(phone: usize) -> Mac {
    let phone = u8::try_from(phone).expect("a network has at most PHONES_MAX phones");
    [0x02, 0x77, 0x00, 0x00, 0x00, phone]
}

/// What one phone's frames went through. Only ever grows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames the phone sent.
    pub sent_frames: u64,
    /// Their bytes, headers included.
    pub sent_bytes: u64,
    /// Frames that reached the phone.
    pub received_frames: u64,
    /// Their bytes, headers included.
    pub received_bytes: u64,
    /// Frames it sent that luck took. This and what follows counts a multicast once per receiver.
    pub dropped_lost: u64,
    /// Frames it sent that found the queue full.
    pub dropped_overflow: u64,
    /// Frames it sent to, or through, a cut.
    pub dropped_cut: u64,
    /// Multicasts it sent that were stopped by [`Command::BlockMulticast`] at either end.
    pub dropped_filtered: u64,
    /// Frames it sent to an address that no phone has, or that were no Ethernet frames.
    pub dropped_nobody: u64,
}

/// A frame that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// For whom.
    pub to: usize,
    /// From its Ethernet header on.
    pub frame: Arc<[u8]>,
}

/// The switch. See the [module](self).
#[derive(Debug)]
pub struct Switch {
    /// The figures of every link that is not set apart.
    link: Link,
    ports: Vec<Port>,
    /// `paths[from][to]`; a phone's path to itself is never used.
    paths: Vec<Vec<Path>>,
    /// By arrival; the counter keeps frames that arrive together in the order sent.
    in_flight: BinaryHeap<Reverse<InFlight>>,
    n_sent: u64,
    due: VecDeque<Delivery>,
}

/// Where one phone is plugged in.
#[derive(Debug)]
struct Port {
    plugged: bool,
    multicast_blocked: bool,
    group: usize,
    radio: Transmitter,
    counters: Counters,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrival: Instant,
    n: u64,
    from: usize,
    to: usize,
    frame: Arc<[u8]>,
}

impl Switch {
    /// Makes a switch for `n_phones`, all joined by `link`, with the luck that `seed` names.
    pub fn new(n_phones: usize, link: Link, seed: u64) -> Self {
        let ports = (0..n_phones).map(|_| Port {
            plugged: true,
            multicast_blocked: false,
            group: 0,
            radio: Transmitter::default(),
            counters: Counters::default(),
        });
        let paths =
            (0..n_phones).map(|from| (0..n_phones).map(|to| Path::new(seed, from, to)).collect());

        Self {
            link,
            ports: ports.collect(),
            paths: paths.collect(),
            in_flight: BinaryHeap::new(),
            n_sent: 0,
            due: VecDeque::new(),
        }
    }

    /// Takes a frame that phone `from` sent.
    pub fn handle_frame(&mut self, from: usize, frame: Arc<[u8]>, now: Instant) {
        let everyone = 0..self.ports.len();
        let counters = &mut self.ports[from].counters;
        counters.sent_frames += 1;
        counters.sent_bytes += frame.len() as u64;

        match Destination::of(&frame, everyone.len()) {
            Destination::Phone(to) if to != from => self.send(from, to..to + 1, false, frame, now),
            Destination::Phone(_) | Destination::Nobody => counters.dropped_nobody += 1,
            Destination::Everyone => self.send(from, everyone, false, frame, now),
            Destination::Multicast => self.send(from, everyone, true, frame, now),
        }
    }

    /// Marks as due what has arrived by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse(next)) = self.in_flight.peek()
            && next.arrival <= now
        {
            let Reverse(arrived) = self.in_flight.pop().expect("just peeked");
            self.arrive(arrived);
        }
    }

    /// Returns when the next frame arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(next)| next.arrival)
    }

    /// Returns the next frame to hand over.
    pub fn poll(&mut self) -> Option<Delivery> {
        self.due.pop_front()
    }

    /// Puts a command into force; `Some` is the link that was asked for.
    ///
    /// # Errors
    ///
    /// One of [`CommandError`]; nothing was changed.
    pub fn apply(&mut self, command: &Command) -> Result<Option<Link>, CommandError> {
        match command {
            Command::SetProfile { profile } => self.set_all(profile.link())?,
            Command::SetAll { link } => self.set_all(*link)?,
            Command::SetLink {
                a,
                b,
                link,
                one_way,
            } => self.set_link(*a, *b, *link, *one_way)?,
            Command::Link { a, b } => {
                self.check_pair(*a, *b)?;
                return Ok(Some(self.link(*a, *b)));
            }
            Command::Partition { groups } => self.partition(groups)?,
            Command::Heal => self.ports.iter_mut().for_each(|port| port.group = 0),
            Command::Unplug { phone } => self.port(*phone)?.plugged = false,
            Command::Plug { phone } => self.port(*phone)?.plugged = true,
            Command::BlockMulticast { phone, blocked } => {
                self.port(*phone)?.multicast_blocked = *blocked;
            }
            Command::Status => {}
        }
        Ok(None)
    }

    /// Returns what is known of each phone, in order.
    pub fn status(&self) -> Vec<PortStatus> {
        let status = |port: &Port| PortStatus {
            plugged: port.plugged,
            multicast_blocked: port.multicast_blocked,
            group: port.group,
            counters: port.counters,
        };
        self.ports.iter().map(status).collect()
    }
}

impl Switch {
    /// Sends a frame to each of `receivers` but the sender.
    fn send(
        &mut self,
        from: usize,
        receivers: std::ops::Range<usize>,
        filterable: bool,
        frame: Arc<[u8]>,
        now: Instant,
    ) {
        let mut left_radio_at = None; // once, whoever hears it

        for to in receivers.filter(|to| *to != from) {
            let hears = self.hears(from, to);
            let filtered = filterable && self.filters(from, to);
            let Port {
                radio, counters, ..
            } = &mut self.ports[from];
            if !hears {
                counters.dropped_cut += 1;
                continue;
            }
            if filtered {
                counters.dropped_filtered += 1;
                continue;
            }

            let path = &mut self.paths[from][to];
            let (link, left_at) = match &mut path.own {
                Some((link, own)) => (*link, own.send(frame.len(), link.rate_mbps, now)),
                None => {
                    let send = || radio.send(frame.len(), self.link.rate_mbps, now);
                    (self.link, *left_radio_at.get_or_insert_with(send))
                }
            };
            let Some(left_at) = left_at else {
                counters.dropped_overflow += 1;
                continue;
            };
            if path.loses(&link) {
                counters.dropped_lost += 1;
                continue;
            }

            self.n_sent += 1;
            self.in_flight.push(Reverse(InFlight {
                arrival: path.arrival(&link, left_at),
                n: self.n_sent,
                from,
                to,
                frame: Arc::clone(&frame),
            }));
        }
    }

    /// Hands over a frame, unless the way was cut while it was under way.
    fn arrive(&mut self, arrived: InFlight) {
        let InFlight {
            from, to, frame, ..
        } = arrived;
        if !self.hears(from, to) {
            self.ports[from].counters.dropped_cut += 1;
            return;
        }

        let counters = &mut self.ports[to].counters;
        counters.received_frames += 1;
        counters.received_bytes += frame.len() as u64;
        self.due.push_back(Delivery { to, frame });
    }

    fn hears(&self, from: usize, to: usize) -> bool {
        let (from, to) = (&self.ports[from], &self.ports[to]);
        from.plugged && to.plugged && from.group == to.group
    }

    fn filters(&self, from: usize, to: usize) -> bool {
        self.ports[from].multicast_blocked || self.ports[to].multicast_blocked
    }

    fn link(&self, from: usize, to: usize) -> Link {
        let own = self.paths[from][to].own.as_ref();
        own.map_or(self.link, |(link, _)| *link)
    }

    fn set_all(&mut self, link: Link) -> Result<(), CommandError> {
        link.check()?;
        self.link = link;
        for path in self.paths.iter_mut().flatten() {
            path.own = None;
        }
        Ok(())
    }

    fn set_link(
        &mut self,
        a: usize,
        b: usize,
        link: Link,
        one_way: bool,
    ) -> Result<(), CommandError> {
        link.check()?;
        self.check_pair(a, b)?;

        self.paths[a][b].set(link);
        if !one_way {
            self.paths[b][a].set(link);
        }
        Ok(())
    }

    fn partition(&mut self, groups: &[Vec<usize>]) -> Result<(), CommandError> {
        let mut group_of = BTreeMap::new();
        for (group, phones) in (1..).zip(groups) {
            for phone in phones {
                self.check_phone(*phone)?;
                if group_of.insert(*phone, group).is_some() {
                    return Err(CommandError::InTwoGroups(*phone));
                }
            }
        }

        for (phone, port) in self.ports.iter_mut().enumerate() {
            port.group = group_of.get(&phone).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn port(&mut self, phone: usize) -> Result<&mut Port, CommandError> {
        self.check_phone(phone)?;
        Ok(&mut self.ports[phone])
    }

    fn check_pair(&self, a: usize, b: usize) -> Result<(), CommandError> {
        self.check_phone(a)?;
        self.check_phone(b)?;
        if a == b {
            return Err(CommandError::SamePhone(a));
        }
        Ok(())
    }

    fn check_phone(&self, phone: usize) -> Result<(), CommandError> {
        let n_phones = self.ports.len();
        if phone >= n_phones {
            return Err(CommandError::NoSuchPhone { phone, n_phones });
        }
        Ok(())
    }
}

/// For whom a frame is, by its first bytes.
enum Destination {
    /// One phone, perhaps the sender itself.
    Phone(usize),
    /// Everyone, whatever is filtered.
    Everyone,
    /// Everyone whose multicast is not stopped.
    Multicast,
    /// Nobody here.
    Nobody,
}

impl Destination {
    fn of(frame: &[u8], n_phones: usize) -> Self {
        let Some(header) = frame.first_chunk::<HEADER_BYTES>() else {
            return Self::Nobody;
        };
        match header {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => Self::Everyone,
            // IPv6 neighbour solicitation: what broadcast ARP is to IPv4.
            [0x33, 0x33, 0xff, ..] => Self::Everyone,
            [first, ..] if first & 1 == 1 => Self::Multicast,
            [0x02, 0x77, 0x00, 0x00, 0x00, phone, ..] if usize::from(*phone) < n_phones => {
                Self::Phone(usize::from(*phone))
            }
            _ => Self::Nobody,
        }
    }
}

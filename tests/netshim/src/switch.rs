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
    /// Frames it sent that were stopped at either end, by [`Command::BlockMulticast`] or [`Command::BlockUnicast`].
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
    unicast_blocked: bool,
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
            unicast_blocked: false,
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
            Destination::Phone(to) if to != from => {
                self.send(from, to..to + 1, |port| port.unicast_blocked, frame, now);
            }
            Destination::Phone(_) | Destination::Nobody => counters.dropped_nobody += 1,
            Destination::Everyone => self.send(from, everyone, |_| false, frame, now),
            Destination::Multicast => {
                self.send(from, everyone, |port| port.multicast_blocked, frame, now);
            }
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
            Command::BlockUnicast { phone, blocked } => {
                self.port(*phone)?.unicast_blocked = *blocked;
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
            unicast_blocked: port.unicast_blocked,
            group: port.group,
            counters: port.counters,
        };
        self.ports.iter().map(status).collect()
    }
}

impl Switch {
    /// Sends a frame to each of `receivers` but the sender, unless one of both is `blocked`.
    fn send(
        &mut self,
        from: usize,
        receivers: std::ops::Range<usize>,
        blocked: impl Fn(&Port) -> bool,
        frame: Arc<[u8]>,
        now: Instant,
    ) {
        let mut left_radio_at = None; // once, whoever hears it

        for to in receivers.filter(|to| *to != from) {
            let hears = self.hears(from, to);
            let filtered = blocked(&self.ports[from]) || blocked(&self.ports[to]);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::{LinkError, Profile};

    /// An arrival: after how long, at whom, and the number in the frame.
    type Arrival = (Duration, usize, u32);

    #[test]
    fn a_frame_arrives_after_its_airtime_and_the_delay() {
        let mut world = World::new(2, Profile::GoodWifi.link());

        world.send(0, mac(1), 1500, 7);

        // 1,500 bytes at 300 Mb/s take 40 µs.
        assert_eq!(world.arrivals(), [(Duration::from_micros(2040), 1, 7)]);
    }

    #[test]
    fn jitter_spreads_arrivals_around_the_delay_and_keeps_their_order() {
        for seed in 0..20 {
            for gap in [10, 1_000, 50_000].map(Duration::from_micros) {
                let link = Link {
                    delay_ms: 15.0,
                    jitter_ms: 10.0,
                    ..Profile::Loopback.link()
                };
                let mut world = World::seeded(seed, 2, link);

                let delays = world.delays_ms(5_000, gap);

                let arrived = delays.iter().map(|(number, _)| *number).collect::<Vec<_>>();
                assert!(arrived.is_sorted(), "seed={seed} gap={gap:?}");
                assert!(
                    delays.iter().all(|(_, ms)| (5.0..=25.0).contains(ms)),
                    "seed={seed}"
                );
            }
        }
    }

    /// Early frames are not held back for late ones, so a busy link is no slower than a quiet one.
    #[test]
    fn jitter_leaves_the_mean_delay_alone_at_every_rate() {
        let link = Link {
            delay_ms: 15.0,
            jitter_ms: 10.0,
            ..Profile::Loopback.link()
        };
        for gap in [100, 1_000, 50_000].map(Duration::from_micros) {
            let n = 10_000_000 / u32::try_from(gap.as_micros()).expect("gaps are short");
            let runs = (0..20).flat_map(|seed| World::seeded(seed, 2, link).delays_ms(n, gap));
            let delays = runs.map(|(_, ms)| ms).collect::<Vec<_>>();

            let mean = delays.iter().sum::<f64>() / delays.len() as f64;

            assert!((mean - 15.0).abs() < 0.5, "gap={gap:?} mean={mean}");
        }
    }

    #[test]
    fn only_a_link_that_says_so_reorders() {
        let link = Link {
            delay_ms: 15.0,
            jitter_ms: 10.0,
            ..Profile::Loopback.link()
        };
        let mut world = World::new(
            2,
            Link {
                reorder: true,
                ..link
            },
        );

        let delays = world.delays_ms(100, Duration::from_millis(1));

        assert_eq!(delays.len(), 100);
        assert!(!delays.iter().map(|(number, _)| number).is_sorted());
    }

    #[test]
    fn a_shorter_delay_lets_no_frame_overtake_those_under_way() {
        let mut world = World::new(2, Profile::Paper.link());
        world.send(0, mac(1), 1500, 1);
        world.apply(Command::SetProfile {
            profile: Profile::Loopback,
        });
        world.send(0, mac(1), 1500, 2);

        let numbers = world.arrivals().into_iter().map(|(_, _, number)| number);

        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_full_queue_drops_what_comes_last() {
        let rate_mbps = Some(96.0);
        let mut world = World::new(
            2,
            Link {
                rate_mbps,
                ..Profile::Loopback.link()
            },
        );

        // 1,200 bytes take 0.1 ms. The queue holds 100 ms and the frame in the air.
        for number in 0..2_000 {
            world.send(0, mac(1), 1200, number);
        }

        let arrivals = world.arrivals();
        let numbers = arrivals
            .iter()
            .map(|(_, _, number)| *number)
            .collect::<Vec<_>>();
        assert_eq!(numbers, (0..1_001).collect::<Vec<_>>());
        assert_eq!(arrivals[1_000].0, Duration::from_micros(100_100));
        assert_eq!(world.counters(0).dropped_overflow, 999);
    }

    #[test]
    fn a_slow_link_still_queues_some_frames() {
        let rate_mbps = Some(0.1);
        let mut world = World::new(
            2,
            Link {
                rate_mbps,
                ..Profile::Loopback.link()
            },
        );

        for number in 0..300 {
            world.send(0, mac(1), 1514, number);
        }

        assert_eq!(
            world.arrivals().len(),
            257,
            "256 waiting and one in the air"
        );
    }

    #[test]
    fn loss_takes_its_share_and_no_more() {
        let mut world = World::new(
            2,
            Link {
                loss: 0.1,
                ..Profile::Loopback.link()
            },
        );

        let n_arrived = world.delays_ms(10_000, Duration::from_micros(10)).len();

        assert!(
            (8_880..=9_120).contains(&n_arrived),
            "{n_arrived}: 4 sigma are 120"
        );
        assert_eq!(world.counters(0).dropped_lost, 10_000 - n_arrived as u64);
    }

    #[test]
    fn the_same_seed_loses_the_same_frames_whatever_others_send() {
        let lossy = Link {
            loss: 0.3,
            ..Profile::Loopback.link()
        };
        let mut quiet = World::seeded(5, 3, lossy);
        let mut busy = World::seeded(5, 3, lossy);
        let mut other_seed = World::seeded(6, 3, lossy);

        for number in 0..200 {
            busy.send(2, mac(1), 100, 1_000 + number);
            busy.send(1, mac(0), 100, 2_000 + number);
            for world in [&mut quiet, &mut busy, &mut other_seed] {
                world.send(0, mac(1), 100, number);
            }
        }

        let from_0 = |world: &mut World| {
            let arrivals = world.arrivals().into_iter().map(|(_, _, number)| number);
            arrivals
                .filter(|number| *number < 1_000)
                .collect::<Vec<_>>()
        };
        let arrived = from_0(&mut quiet);
        assert_eq!(from_0(&mut busy), arrived);
        assert_ne!(from_0(&mut other_seed), arrived);
    }

    #[test]
    fn a_cut_also_takes_the_frames_under_way() {
        let cuts = [
            Command::Partition {
                groups: vec![vec![0], vec![1]],
            },
            Command::Unplug { phone: 0 },
            Command::Unplug { phone: 1 },
        ];
        for cut in cuts {
            let mut world = World::new(2, Profile::Paper.link());
            world.send(0, mac(1), 100, 1);
            world.apply(cut.clone());
            world.send(0, mac(1), 100, 2);
            assert_eq!(world.arrivals(), [], "{cut:?}");
            assert_eq!(world.counters(0).dropped_cut, 2, "{cut:?}");

            for mend in [
                Command::Heal,
                Command::Plug { phone: 0 },
                Command::Plug { phone: 1 },
            ] {
                world.apply(mend);
            }
            world.send(0, mac(1), 100, 3);
            assert_eq!(world.arrivals().len(), 1, "{cut:?}");
        }
    }

    #[test]
    fn phones_that_no_group_names_stay_together() {
        let mut world = World::new(5, Profile::Loopback.link());
        world.apply(Command::Partition {
            groups: vec![vec![0, 1], vec![2]],
        });

        for from in 0..5 {
            world.send(from, BROADCAST, 100, u32::try_from(from).expect("small"));
        }

        let heard = world.arrivals().into_iter().map(|(_, to, from)| (from, to));
        assert_eq!(heard.collect::<Vec<_>>(), [(0, 1), (1, 0), (3, 4), (4, 3)]);
    }

    #[test]
    fn blocked_multicast_leaves_what_a_phone_needs_to_be_reached() {
        let cases = [
            (MDNS_V4, 1),
            (MDNS_V6, 1),
            (BROADCAST, 2),
            (SOLICITED_NODE, 2),
        ];
        for (to, n_hearing) in cases {
            let mut world = World::new(3, Profile::Loopback.link());
            world.apply(Command::BlockMulticast {
                phone: 2,
                blocked: true,
            });

            world.send(0, to, 100, 0);
            assert_eq!(world.arrivals().len(), n_hearing, "from phone 0 to {to:x?}");

            world.send(2, to, 100, 0);
            assert_eq!(
                world.arrivals().len(),
                (n_hearing - 1) * 2,
                "from phone 2 to {to:x?}"
            );

            world.apply(Command::BlockMulticast {
                phone: 2,
                blocked: false,
            });
            world.send(2, to, 100, 0);
            assert_eq!(world.arrivals().len(), 2, "{to:x?}");
        }
    }

    #[test]
    fn blocked_unicast_leaves_what_a_phone_is_heard_of_by() {
        let mut world = World::new(3, Profile::Loopback.link());
        world.apply(Command::BlockUnicast {
            phone: 2,
            blocked: true,
        });

        for (from, to) in [(0, 2), (2, 0)] {
            world.send(from, mac(to), 100, 0);
            assert_eq!(world.arrivals(), [], "from phone {from}");
            assert_eq!(world.counters(from).dropped_filtered, 1);
        }
        world.send(0, mac(1), 100, 0);
        assert_eq!(world.arrivals().len(), 1, "others are not apart");
        for to in [MDNS_V4, MDNS_V6, BROADCAST, SOLICITED_NODE] {
            world.send(2, to, 100, 0);
            assert_eq!(world.arrivals().len(), 2, "to {to:x?}");
        }

        world.apply(Command::BlockUnicast {
            phone: 2,
            blocked: false,
        });
        world.send(0, mac(2), 100, 0);
        assert_eq!(world.arrivals().len(), 1);
    }

    #[test]
    fn a_phone_has_one_radio_but_a_link_set_apart_has_its_own() {
        let rate_mbps = Some(96.0);
        let link = Link {
            rate_mbps,
            ..Profile::Loopback.link()
        };
        let mut world = World::new(4, link);
        world.apply(Command::SetLink {
            a: 0,
            b: 3,
            link,
            one_way: false,
        });

        // 1,200 bytes take 0.1 ms; a multicast is sent once.
        world.send(0, mac(1), 1200, 1);
        world.send(0, mac(2), 1200, 2);
        world.send(0, mac(3), 1200, 3);
        world.send(0, MDNS_V4, 1200, 4);

        let us = Duration::from_micros;
        let expected = [
            (us(100), 1, 1),
            (us(100), 3, 3),
            (us(200), 2, 2),
            (us(200), 3, 4),
            (us(300), 1, 4),
            (us(300), 2, 4),
        ];
        assert_eq!(world.arrivals(), expected);
    }

    #[test]
    fn frames_for_nobody_go_nowhere() {
        let mut world = World::new(2, Profile::Loopback.link());

        world.send(0, mac(0), 100, 0);
        world.send(0, mac(2), 100, 0);
        world.send(0, [0x02, 0, 0, 0, 0, 1], 100, 0);
        world
            .switch
            .handle_frame(0, Arc::from([0xff; 13]), world.now);

        assert_eq!(world.arrivals(), []);
        assert_eq!(world.counters(0).dropped_nobody, 4);
    }

    #[test]
    fn a_command_that_does_not_fit_changes_nothing() {
        let link = Profile::Wifi.link();
        let bad = Link { loss: 2.0, ..link };
        let one_way = false;
        let n_phones = 2;
        let cases = [
            (Command::SetAll { link: bad }, LinkError::Loss(2.0).into()),
            (
                Command::SetLink {
                    a: 0,
                    b: 1,
                    link: bad,
                    one_way,
                },
                LinkError::Loss(2.0).into(),
            ),
            (
                Command::SetLink {
                    a: 1,
                    b: 1,
                    link,
                    one_way,
                },
                CommandError::SamePhone(1),
            ),
            (
                Command::SetLink {
                    a: 0,
                    b: 2,
                    link,
                    one_way,
                },
                CommandError::NoSuchPhone { phone: 2, n_phones },
            ),
            (
                Command::Unplug { phone: 9 },
                CommandError::NoSuchPhone { phone: 9, n_phones },
            ),
            (
                Command::Partition {
                    groups: vec![vec![0], vec![1, 0]],
                },
                CommandError::InTwoGroups(0),
            ),
        ];
        for (command, expected) in cases {
            let mut world = World::new(n_phones, Profile::Paper.link());

            assert_eq!(world.switch.apply(&command), Err(expected), "{command:?}");

            world.send(0, mac(1), 1200, 0);
            assert_eq!(
                world.arrivals(),
                [(Duration::from_micros(45_100), 1, 0)],
                "{command:?}"
            );
        }
    }

    const BROADCAST: Mac = [0xff; 6];
    /// 224.0.0.251
    const MDNS_V4: Mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb];
    /// ff02::fb
    const MDNS_V6: Mac = [0x33, 0x33, 0x00, 0x00, 0x00, 0xfb];
    const SOLICITED_NODE: Mac = [0x33, 0x33, 0xff, 0x00, 0x00, 0x01];

    /// A switch and a clock that moves only when told.
    struct World {
        switch: Switch,
        start: Instant,
        now: Instant,
    }

    impl World {
        fn new(n_phones: usize, link: Link) -> Self {
            Self::seeded(0, n_phones, link)
        }

        fn seeded(seed: u64, n_phones: usize, link: Link) -> Self {
            let now = Instant::now(); // an origin only
            Self {
                switch: Switch::new(n_phones, link, seed),
                start: now,
                now,
            }
        }

        fn send(&mut self, from: usize, to: Mac, n_bytes: usize, number: u32) {
            let mut frame = vec![0; n_bytes];
            frame[..6].copy_from_slice(&to);
            frame[6..12].copy_from_slice(&mac(from));
            frame[14..18].copy_from_slice(&number.to_be_bytes());
            self.switch.handle_frame(from, frame.into(), self.now);
        }

        fn apply(&mut self, command: Command) {
            self.switch.apply(&command).expect("the command fits");
        }

        /// Runs until nothing is under way, and returns what arrived.
        fn arrivals(&mut self) -> Vec<Arrival> {
            let mut arrivals = Vec::new();
            while let Some(next) = self.switch.poll_timeout() {
                self.now = next.max(self.now);
                self.switch.handle_timeout(self.now);
                while let Some(Delivery { to, frame }) = self.switch.poll() {
                    let number = frame[14..18].try_into().expect("four bytes");
                    arrivals.push((self.now - self.start, to, u32::from_be_bytes(number)));
                }
            }
            arrivals
        }

        /// Sends `n` frames from phone 0 to 1, `gap` apart; returns numbers and delays as they arrive.
        fn delays_ms(&mut self, n: u32, gap: Duration) -> Vec<(u32, f64)> {
            for number in 0..n {
                self.now = self.start + gap * number;
                self.send(0, mac(1), 100, number);
            }
            self.now = self.start;

            let delay =
                |(at, _, number): Arrival| (number, (at - gap * number).as_secs_f64() * 1e3);
            self.arrivals().into_iter().map(delay).collect()
        }

        fn counters(&self, phone: usize) -> Counters {
            self.switch.status()[phone].counters
        }
    }
}

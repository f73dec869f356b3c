//! Connections between phones, as the node crate makes, uses and loses them.
//!
//! A connection is like TCP: in order, and nothing is lost while it lasts. While the way between two phones is cut, what
//! was sent waits, and arrives late, in a burst, if the cut ends before either side has given the connection up. Each side
//! does so for itself, when its pings have failed or its group hangs up, and then everything that was on its way is lost,
//! or its beginning arrives: by luck.
//!
//! ```text
//!  dial ──► connection ──► both use it ──► one gives it up ──► Closed on its way ──► the other has lost it, too
//! ```
//!
//! What a phone does about connections is what `node/src/net/mod.rs` does: one that breaks takes the others to the same
//! phone along, one that is dialled anew too late to have been dialled at once replaces those before it, each kind of
//! message is written to one connection as long as that lasts, and what is to be sent first has it dialled.

use std::collections::{BTreeMap, VecDeque};

use proto::wire::StreamKind;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::Index;
use crate::group::network::{Conditions, MS, Micros, SECOND};
use crate::ring::Packet;

/// How long a cut, or a phone that stands still, goes unnoticed by pings, at least and at most: libp2p pings every 2 s,
/// waits for 5 s, and forgives the first one, for whose successor a stream has to be opened first.
const PINGS_FAIL_AFTER: std::ops::Range<Micros> = 5 * SECOND..19 * SECOND;

/// When a dial is tried again, as TCP does, and when it is given up: `HANDSHAKE_TIMEOUT` of the node.
const DIAL_AGAIN_AFTER: [Micros; 2] = [SECOND, 2 * SECOND];
const DIAL_GIVEN_UP_AFTER: Micros = 5 * SECOND;

/// Two connections made within this time come from two phones that dialled each other at once: `AT_ONCE` of the node.
const AT_ONCE: Micros = 10 * SECOND;

/// TCP doubles its pauses, so what was sent at the beginning of a cut may come this long after its end.
const RESEND_PAUSE_MAX: Micros = 6 * SECOND;

/// How long a phone that was switched on again may be written to on an old connection before it says that it knows none.
const RESET_AFTER_MAX: Micros = 2 * SECOND;

/// Something that a phone sends.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// About the group.
    Join(Vec<u8>),
    /// About what is computed.
    Ring(Packet),
    /// About shards.
    Shard(Vec<u8>),
}

/// What a phone hears of the network.
#[derive(Debug)]
pub enum Told {
    /// A phone is connected.
    Connected(Index),
    /// The last connection to a phone is gone, and what was under way may be lost.
    Disconnected(Index),
    /// A phone that was dialled was not reached.
    Unreachable(Index),
    /// A phone sent something.
    Came { from: Index, parcel: Parcel },
}

/// Phones, and the ways between them.
#[derive(Debug)]
pub struct Net {
    conditions: Conditions,
    rng: ChaCha12Rng,
    now: Micros,
    hosts: Vec<Host>,
    connections: Vec<Connection>,
    /// Ways that are cut, or were.
    cuts: BTreeMap<(Index, Index), Cut>,
    /// What happens when; the counter keeps ties in the order of their making.
    queue: BTreeMap<(Micros, u64), Due>,
    n_due: u64,
    told: VecDeque<(Index, Told)>,
}

/// One phone's side of everything.
#[derive(Debug, Default)]
struct Host {
    is_on: bool,
    /// Its radio is off, too: nobody answers for it.
    is_silent: bool,
    is_asleep: bool,
    /// Since when it does nothing.
    still_since: Option<Micros>,
    peers: BTreeMap<Index, Peer>,
}

/// What a phone has to another.
#[derive(Debug, Default)]
struct Peer {
    /// Oldest first, and since when.
    connections: Vec<(Id, Micros)>,
    /// Number of the dial that is under way.
    dial: Option<u64>,
    /// What waits for a connection.
    waiting: Vec<Parcel>,
    /// On which connection each kind is written.
    writers: BTreeMap<StreamKind, Id>,
}

type Id = usize;

#[derive(Debug)]
struct Connection {
    /// Who dialled, and who was.
    ends: [Index; 2],
    /// Whether it is open there.
    is_open: [bool; 2],
    /// From each end to the other.
    ways: [Way; 2],
}

#[derive(Debug, Default)]
struct Way {
    /// When the last thing arrives.
    last: Micros,
    /// Nothing arrives before.
    blocked_until: Micros,
    /// What waits for a cut to end.
    held: Vec<Cargo>,
    /// What is on its way is lost, but for the end.
    is_lost: bool,
}

#[derive(Debug)]
enum Cargo {
    Made,
    Parcel(Parcel),
    Closed,
}

#[derive(Debug, Default)]
struct Cut {
    /// How many reasons there are for it.
    depth: u32,
    since: Micros,
}

/// A dial: when the phone has another number for the same, or none, it is over.
#[derive(Debug, Clone, Copy)]
struct Dial {
    from: Index,
    to: Index,
    number: u64,
}

#[derive(Debug)]
enum Due {
    Try {
        dial: Dial,
        n_tries: usize,
    },
    GiveUpDial(Dial),
    Made(Id),
    Arrive {
        id: Id,
        end: usize,
        cargo: Cargo,
    },
    PingsFail {
        id: Id,
        end: usize,
        /// Since when nothing came.
        since: Micros,
    },
    Reset {
        id: Id,
        end: usize,
    },
}

impl Net {
    /// Puts up `n` phones that are off.
    pub fn new(n: usize, conditions: Conditions, rng: ChaCha12Rng) -> Self {
        Self {
            conditions,
            rng,
            now: 0,
            hosts: (0..n).map(|_| Host::default()).collect(),
            connections: Vec::new(),
            cuts: BTreeMap::new(),
            queue: BTreeMap::new(),
            n_due: 0,
            told: VecDeque::new(),
        }
    }

    /// Returns when something happens next.
    pub fn next_at(&self) -> Option<Micros> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next thing happen.
    pub fn step(&mut self, now: Micros) {
        self.now = now;
        if let Some((_, due)) = self.queue.pop_first() {
            self.happen(due);
        }
    }

    /// Returns the next thing that a phone hears.
    pub fn poll(&mut self) -> Option<(Index, Told)> {
        self.told.pop_front()
    }

    // What phones do.

    /// Has `from` connect to `to`.
    pub fn dial(&mut self, from: Index, to: Index, now: Micros) {
        self.now = now;
        if self.is_connected(from, to) {
            return self.told.push_back((from, Told::Connected(to)));
        }
        if self.peer(from, to).dial.is_some() {
            return;
        }

        let number = self.n_due;
        self.peer(from, to).dial = Some(number);
        let dial = Dial { from, to, number };
        let pause = self.pause();
        self.after(pause, Due::Try { dial, n_tries: 0 });
        self.after(DIAL_GIVEN_UP_AFTER, Due::GiveUpDial(dial));
    }

    /// Has `from` close all connections to `to`.
    pub fn hang_up(&mut self, from: Index, to: Index, now: Micros) {
        self.now = now;
        self.disconnect(from, to);
    }

    /// Sends something; connects first where there is no connection, but for words about the group.
    pub fn send(&mut self, from: Index, to: Index, parcel: Parcel, now: Micros) {
        self.now = now;
        let is_connected = self.is_connected(from, to);
        if is_connected {
            return self.write(from, to, parcel);
        }
        if matches!(parcel, Parcel::Join(_)) {
            return;
        }

        self.peer(from, to).waiting.push(parcel);
        self.dial(from, to, now);
    }

    // What happens to phones, and to the ways between them.

    /// Switches a phone on: it knows of no connection.
    pub fn switch_on(&mut self, i: Index, now: Micros) {
        self.now = now;
        let host = &mut self.hosts[i];
        host.is_on = true;
        host.is_silent = false;
        host.still_since = None;

        for (id, end) in self.ends_of(i) {
            let connection = &self.connections[id];
            if !connection.is_open[end] && connection.is_open[1 - end] {
                let pause = self.rng.random_range(0..RESET_AFTER_MAX);
                self.after(pause, Due::Reset { id, end });
            }
        }
    }

    /// Switches a phone off. Its system says so to the others, or nobody does.
    pub fn switch_off(&mut self, i: Index, is_silent: bool, now: Micros) {
        self.now = now;
        let host = &mut self.hosts[i];
        host.is_on = false;
        host.is_asleep = false;
        host.is_silent = is_silent;
        host.still_since = Some(now);
        host.peers.clear();

        for (id, end) in self.ends_of(i) {
            if !std::mem::replace(&mut self.connections[id].is_open[end], false) {
                continue;
            }
            if is_silent {
                self.connections[id].ways[end].is_lost = true;
                self.ping_fails_later(id, 1 - end);
            } else {
                self.close(id, end);
            }
        }
    }

    /// Stops a phone as SIGSTOP does: its sockets fill, and it answers no ping.
    pub fn sleep(&mut self, i: Index, now: Micros) {
        self.now = now;
        self.hosts[i].is_asleep = true;
        self.hosts[i].still_since = Some(now);
        for (id, end) in self.ends_of(i) {
            self.ping_fails_later(id, 1 - end);
        }
    }

    /// Lets a phone go on.
    pub fn wake(&mut self, i: Index, now: Micros) {
        self.now = now;
        self.hosts[i].is_asleep = false;
        self.hosts[i].still_since = None;
    }

    /// Cuts the way between two phones. Each cut needs its own [`Self::mend`].
    pub fn cut(&mut self, a: Index, b: Index, now: Micros) {
        self.now = now;
        let cut = self.cuts.entry(pair(a, b)).or_default();
        cut.depth += 1;
        if cut.depth > 1 {
            return;
        }

        cut.since = now;
        for id in self.between(a, b) {
            self.ping_fails_later(id, 0);
            self.ping_fails_later(id, 1);
        }
    }

    /// Takes back one cut; after the last, what has waited arrives, in a while.
    pub fn mend(&mut self, a: Index, b: Index, now: Micros) {
        self.now = now;
        let cut = self.cuts.entry(pair(a, b)).or_default();
        cut.depth -= 1;
        if cut.depth > 0 {
            return;
        }

        let lasted = now - cut.since;
        for id in self.between(a, b) {
            for end in 0..2 {
                let pause = self.rng.random_range(0..=lasted.min(RESEND_PAUSE_MAX));
                let way = &mut self.connections[id].ways[end];
                let held = std::mem::take(&mut way.held);
                if held.is_empty() {
                    continue;
                }
                way.blocked_until = now + pause;
                for cargo in held {
                    self.transmit(id, end, cargo);
                }
            }
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Try { dial, n_tries } => self.try_dial(dial, n_tries),
            Due::GiveUpDial(dial) => {
                if self.is_under_way(dial) {
                    self.unreachable(dial.from, dial.to);
                }
            }
            Due::Made(id) => self.dialled(id),
            Due::Arrive { id, end, cargo } => self.arrive(id, end, cargo),
            Due::PingsFail { id, end, since } => {
                let [one, other] = self.connections[id].ends;
                let me = self.connections[id].ends[end];
                if self
                    .stalled_since(id)
                    .is_some_and(|stalled| stalled <= since)
                    && self.connections[id].is_open[end]
                    && !self.hosts[me].is_asleep
                {
                    self.disconnect(me, if me == one { other } else { one });
                }
            }
            Due::Reset { id, end } => {
                if self.connections[id].is_open[1 - end] {
                    self.transmit(id, end, Cargo::Closed);
                }
            }
        }
    }

    fn try_dial(&mut self, dial: Dial, n_tries: usize) {
        let Dial { from, to, .. } = dial;
        if !self.is_under_way(dial) {
            return;
        }
        let host = &self.hosts[to];
        if !host.is_on && !host.is_silent && !self.is_cut(from, to) {
            return self.unreachable(from, to); // its system refuses
        }
        if !host.is_on || host.is_asleep || self.hosts[from].is_asleep || self.is_cut(from, to) {
            if let Some(pause) = DIAL_AGAIN_AFTER.get(n_tries) {
                let n_tries = n_tries + 1;
                self.after(*pause, Due::Try { dial, n_tries });
            }
            return;
        }

        self.connections.push(Connection {
            ends: [from, to],
            is_open: [true, true],
            ways: Default::default(),
        });
        let id = self.connections.len() - 1;
        let pause = self.pause() + self.pause();
        self.after(pause, Due::Made(id));
    }

    /// The phone that dialled has a connection; the other one has it when it hears the first of it.
    fn dialled(&mut self, id: Id) {
        let [from, to] = self.connections[id].ends;
        if !self.connections[id].is_open[0] {
            return self.transmit(id, 0, Cargo::Closed);
        }

        self.peer(from, to).dial = None;
        self.transmit(id, 0, Cargo::Made);
        if self.stalled_since(id).is_some() {
            self.ping_fails_later(id, 0);
        }
        self.made(id, 0);
    }

    fn made(&mut self, id: Id, end: usize) {
        let connection = &self.connections[id];
        let (me, other) = (connection.ends[end], connection.ends[1 - end]);
        let now = self.now;
        let oldest = self.peer(me, other).connections.first().copied();
        if end == 1 && oldest.is_some_and(|(_, made_at)| now - made_at > AT_ONCE) {
            self.disconnect(me, other);
        }

        let peer = self.peer(me, other);
        peer.connections.push((id, now));
        if peer.connections.len() == 1 {
            self.told.push_back((me, Told::Connected(other)));
        }
        for parcel in std::mem::take(&mut self.peer(me, other).waiting) {
            self.write(me, other, parcel);
        }
    }

    fn arrive(&mut self, id: Id, end: usize, cargo: Cargo) {
        let connection = &self.connections[id];
        let (me, other) = (connection.ends[end], connection.ends[1 - end]);
        if !connection.is_open[end] || !self.hosts[me].is_on {
            return;
        }

        match cargo {
            Cargo::Made => self.made(id, end),
            Cargo::Parcel(_) if connection.ways[1 - end].is_lost => {}
            Cargo::Parcel(parcel) => {
                let from = other;
                self.told.push_back((me, Told::Came { from, parcel }));
            }
            Cargo::Closed => {
                let known = &self.peer(me, other).connections;
                if known.iter().any(|(known, _)| *known == id) {
                    self.disconnect(me, other);
                } else {
                    self.connections[id].is_open[end] = false; // it never was one
                }
            }
        }
    }

    /// One side gives up everything that it has to the other.
    fn disconnect(&mut self, me: Index, other: Index) {
        let peer = self.peer(me, other);
        let connections = std::mem::take(&mut peer.connections);
        if connections.is_empty() {
            return;
        }
        peer.writers.clear();
        peer.waiting.clear();

        for (id, _) in connections {
            let end = usize::from(self.connections[id].ends[1] == me);
            self.connections[id].is_open[end] = false;
            self.close(id, end);
        }
        self.told.push_back((me, Told::Disconnected(other)));
    }

    /// What was on its way from a side that gives a connection up arrives, or does not.
    fn close(&mut self, id: Id, end: usize) {
        self.connections[id].ways[end].is_lost = self.rng.random_bool(0.5);
        self.transmit(id, end, Cargo::Closed);
    }

    fn unreachable(&mut self, from: Index, to: Index) {
        let is_connected = self.is_connected(from, to);
        let peer = self.peer(from, to);
        peer.dial = None;
        if !is_connected {
            peer.waiting.clear();
            self.told.push_back((from, Told::Unreachable(to)));
        }
    }

    /// Writes to the connection that this kind is written to, or the newest.
    fn write(&mut self, from: Index, to: Index, parcel: Parcel) {
        let peer = self.peer(from, to);
        let (newest, _) = *peer.connections.last().expect("it is connected");
        let id = *peer.writers.entry(parcel.kind()).or_insert(newest);
        let end = usize::from(self.connections[id].ends[1] == from);

        self.transmit(id, end, Cargo::Parcel(parcel));
    }

    fn transmit(&mut self, id: Id, end: usize, cargo: Cargo) {
        let [one, other] = self.connections[id].ends;
        let from = self.connections[id].ends[end];
        if self.is_cut(one, other) || (self.hosts[from].is_silent && !self.hosts[from].is_on) {
            return self.connections[id].ways[end].held.push(cargo);
        }

        let pause = self.pause();
        let way = &mut self.connections[id].ways[end];
        let at = (self.now + pause).max(way.last + 1).max(way.blocked_until);
        way.last = at;
        let end = 1 - end;
        self.at(at, Due::Arrive { id, end, cargo });
    }

    /// Pings of that side fail in a while, unless something comes through before.
    fn ping_fails_later(&mut self, id: Id, end: usize) {
        if self.connections[id].is_open[end] {
            let pause = self.rng.random_range(PINGS_FAIL_AFTER);
            let since = self.now;
            self.after(pause, Due::PingsFail { id, end, since });
        }
    }

    /// Returns since when nothing comes through a connection.
    fn stalled_since(&self, id: Id) -> Option<Micros> {
        let connection = &self.connections[id];
        let [one, other] = connection.ends;
        let cut = self.cuts.get(&pair(one, other));
        let is_blocked = connection.ways.iter().any(|w| w.blocked_until > self.now);
        let cut = cut.filter(|cut| cut.depth > 0 || is_blocked);
        let still = [one, other]
            .into_iter()
            .filter_map(|i| self.hosts[i].still_since);

        still.chain(cut.map(|cut| cut.since)).min()
    }

    fn is_cut(&self, a: Index, b: Index) -> bool {
        self.cuts.get(&pair(a, b)).is_some_and(|cut| cut.depth > 0)
    }

    fn is_connected(&self, from: Index, to: Index) -> bool {
        let peer = self.hosts[from].peers.get(&to);

        peer.is_some_and(|peer| !peer.connections.is_empty())
    }

    fn is_under_way(&self, dial: Dial) -> bool {
        let host = &self.hosts[dial.from];
        let current = host.peers.get(&dial.to).and_then(|peer| peer.dial);

        host.is_on && current == Some(dial.number)
    }

    fn peer(&mut self, me: Index, other: Index) -> &mut Peer {
        self.hosts[me].peers.entry(other).or_default()
    }

    /// Returns the connections of a phone that are open at either end, and which end is its own.
    fn ends_of(&self, i: Index) -> Vec<(Id, usize)> {
        let all = self.connections.iter().enumerate();
        let open = all.filter(|(_, c)| c.is_open[0] || c.is_open[1]);

        open.filter_map(|(id, c)| Some((id, c.ends.iter().position(|&end| end == i)?)))
            .collect()
    }

    fn between(&self, a: Index, b: Index) -> Vec<Id> {
        let is_between = |c: &Connection| pair(c.ends[0], c.ends[1]) == pair(a, b);
        let all = self.connections.iter().enumerate();

        all.filter(|(_, c)| is_between(c) && (c.is_open[0] || c.is_open[1]))
            .map(|(id, _)| id)
            .collect()
    }

    fn pause(&mut self) -> Micros {
        self.conditions.delay + self.rng.random_range(0..=self.conditions.jitter.max(MS))
    }

    fn after(&mut self, pause: Micros, due: Due) {
        self.at(self.now + pause, due);
    }

    fn at(&mut self, at: Micros, due: Due) {
        self.n_due += 1;
        self.queue.insert((at, self.n_due), due);
    }
}

impl Parcel {
    fn kind(&self) -> StreamKind {
        match self {
            Self::Join(_) => StreamKind::Join,
            Self::Ring(packet) => packet.kind(),
            Self::Shard(_) => StreamKind::Shard,
        }
    }
}

fn pair(a: Index, b: Index) -> (Index, Index) {
    (a.min(b), a.max(b))
}

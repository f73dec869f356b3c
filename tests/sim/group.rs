//! A world of phones that form a group, lose each other, and find each other again.
//!
//! The machines are those of [`proto::group`], and every message goes through the real encoder
//! and decoder. Network, disk, clock and people are fake. [`GroupWorld`] is driven by hand in
//! scenarios, and by [`chaos`] by seed. After every event, [`watch`] checks what must always hold.

#![allow(clippy::wildcard_enum_match_arm)] // looks for one event among many

pub mod chaos;
pub mod liar;
pub mod network;
pub mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::PeerId;
use proto::group::message::{Message, decode, encode};
use proto::group::{
    Addresses, Code, Command, Group, GroupId, InEvent, Name, OutEvent, Rank, Roster, Saved,
    Sighting, Term,
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

use self::network::{Conditions, Link, MS, Micros, SECOND};
use self::watch::Watch;
use crate::errors::Errors;

/// Which phone: its place in the world.
pub type Index = usize;

/// States kept of each phone's disk, so that an old one can be put back.
const DISK_HISTORY: usize = 12;

/// Out events kept per phone for scenarios.
const NOTES_MAX: usize = 4096;

/// Phones, links, and what is on its way.
pub struct GroupWorld {
    seed: u64,
    rng: ChaCha12Rng,
    origin: Instant,
    now: Micros,
    phones: Vec<SimPhone>,
    links: Vec<Link>,
    conditions: Conditions,
    /// What will happen, by time; the counter keeps ties in the order in which it was planned.
    queue: BinaryHeap<Reverse<(Micros, u64, Slot)>>,
    pending: Vec<Option<Due>>,
    free: Vec<Slot>,
    planned: u64,
    events: u64,
    watch: Watch,
    errors: Errors,
    /// Phones may forget, or outlast, everybody who knew them both.
    may_lose_touch: bool,
    trace: bool,
}

type Slot = usize;

/// One phone and its person.
struct SimPhone {
    id: PeerId,
    /// `None` while the phone is off.
    machine: Option<Group>,
    clock: Clock,
    rank: Rank,
    /// When the machine wants to be woken.
    wake: Option<Micros>,
    /// Suspended: what waits in its sockets.
    asleep: Option<Vec<Due>>,
    disk: VecDeque<Vec<u8>>,
    person: Person,
    /// Not running our program any more, or never did.
    liar: bool,
    /// The code on the screen, per other phone.
    codes: BTreeMap<PeerId, Code>,
    notes: Vec<OutEvent>,
    /// Dies after this many more out events: between a save and a send, say.
    dies_in: Option<u32>,
}

/// A phone's clock: it began somewhere, and runs a little fast or slow.
#[derive(Debug, Clone, Copy)]
struct Clock {
    offset: Micros,
    rate_ppm: i64,
}

/// How a person answers when a code is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    /// Looks at both screens, and says yes if the codes are the same.
    Compares,
    /// Says no.
    Refuses,
    /// Does not look.
    Absent,
}

/// Something on its way.
enum Due {
    Deliver {
        to: Index,
        from: PeerId,
        bytes: Rc<[u8]>,
        generation: Option<u32>,
    },
    Dialled {
        from: Index,
        to: Index,
    },
    Connected {
        at: Index,
        peer: Index,
    },
    Disconnected {
        at: Index,
        peer: Index,
    },
    /// A cut link's connection is given up on.
    Break {
        a: Index,
        b: Index,
        generation: u32,
    },
    /// A person looks at the screen.
    Decide {
        at: Index,
        peer: PeerId,
        tries: u32,
    },
    /// What `chaos` planned.
    Fault(chaos::Fault),
}

impl GroupWorld {
    /// Builds `n` phones that are on, near each other, and in no group.
    pub fn new(seed: u64, n: usize, conditions: Conditions) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut ids: Vec<u8> = (1..=250).collect();
        let phones = (0..n)
            .map(|_| SimPhone::new(ids.swap_remove(rng.random_range(0..ids.len())), &mut rng))
            .collect();

        let mut world = Self {
            seed,
            rng,
            origin: Instant::now(), // an origin only: nothing reads the clock again
            now: 0,
            phones,
            links: (0..n * n).map(|_| Link::default()).collect(),
            conditions,
            queue: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            planned: 0,
            events: 0,
            watch: Watch::new(n),
            errors: Errors::listen(),
            may_lose_touch: false,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        for i in 0..n {
            world.start(i, Saved::default());
        }
        world
    }

    // What a scenario does.

    /// Runs for `duration`.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + micros(duration));
    }

    /// Runs until `done`, at most for `limit`. Returns how long it took, if it was.
    pub fn run_until_done(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let end = start + micros(limit);
        while !done(self) {
            let next = self.next_instant()?;
            if next > end {
                return None;
            }
            self.run_next(next);
        }
        Some(Duration::from_micros(self.now - start))
    }

    /// A person at phone `i` wants something.
    pub fn command(&mut self, i: Index, command: Command) {
        if let Command::Confirm(peer) = command {
            self.watch.agreed(self.phones[i].id, peer);
        }
        if let Command::Present { host, .. } = command {
            self.watch.agreed(self.phones[i].id, host);
            self.watch.agreed(host, self.phones[i].id); // by making the invite
        }
        self.tell(i, InEvent::Command(command));
    }

    /// Something happens to phone `i` that is not from the network.
    pub fn tell(&mut self, i: Index, event: InEvent) {
        if self.is_awake(i) {
            self.step(i, |machine, now| machine.handle(event, now));
        }
    }

    /// Everyone taps phone 0 and compares codes; runs until all are in its group.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub fn form(&mut self) {
        for i in 1..self.phones.len() {
            let peer = self.id(0);
            let purpose = proto::group::Purpose::Join;
            self.command(i, Command::Ask { peer, purpose });
            let joined = |world: &Self| world.group(i).is_some() && world.leader(i).is_some();
            let took = self.run_until_done(Duration::from_secs(30), joined);
            assert!(
                took.is_some(),
                "seed={}: phone {i} did not get in",
                self.seed
            );
        }
        let formed = self.run_until_done(Duration::from_secs(10), Self::is_settled);
        assert!(
            formed.is_some(),
            "seed={}: the group did not settle",
            self.seed
        );
    }

    /// Switches phone `i` off. Others see its connections closed at once, or after a while.
    pub fn crash(&mut self, i: Index, silently: bool) {
        self.note(|| format!("phone {i} is off, silently: {silently}"));
        self.phones[i].machine = None;
        self.phones[i].asleep = None;
        self.phones[i].wake = None;
        self.phones[i].dies_in = None;
        self.phones[i].codes.clear();
        for j in self.others(i) {
            let (generation, connected) = (self.link(i, j).generation, self.link(i, j).connected);
            if connected && silently {
                let after = self.rng.random_range(3 * SECOND..12 * SECOND);
                let (a, b) = (i.min(j), i.max(j));
                self.plan(after, Due::Break { a, b, generation });
            } else if connected {
                self.hang_up(i, j);
            }
        }
    }

    /// Kills phone `i` in the middle of its next turn, after `outs` more out events.
    pub fn crash_within(&mut self, i: Index, outs: u32) {
        self.phones[i].dies_in = Some(outs);
    }

    /// Switches phone `i` on, with what was on its disk `age` saves ago.
    pub fn restart(&mut self, i: Index, age: usize) {
        if self.phones[i].machine.is_some() {
            return;
        }
        for j in self.others(i) {
            if self.link(i, j).connected {
                self.hang_up(i, j);
            }
        }
        let disk = &self.phones[i].disk;
        let stale = age > 0;
        let bytes = disk.len().checked_sub(1 + age).map(|at| disk[at].clone());
        let saved = match bytes {
            Some(bytes) => Saved::from_bytes(&bytes).expect("what a phone saved reads back"),
            None => Saved::default(),
        };
        self.note(|| format!("phone {i} is on again, {age} saves old: {saved:?}"));
        if stale {
            self.watch.forget(i);
            let kept = self.phones[i].disk.len().saturating_sub(age);
            self.phones[i].disk.truncate(kept);
        }
        self.start(i, saved);
    }

    /// Stops phone `i` as SIGSTOP does: nothing runs, and its sockets fill.
    pub fn suspend(&mut self, i: Index) {
        if self.is_awake(i) {
            self.note(|| format!("phone {i} sleeps"));
            self.phones[i].asleep = Some(Vec::new());
        }
    }

    /// Lets phone `i` go on: all that waited comes at once.
    pub fn resume(&mut self, i: Index) {
        let Some(inbox) = self.phones[i].asleep.take() else {
            return;
        };
        self.note(|| format!("phone {i} wakes to {} events", inbox.len()));
        if self.rng.random_bool(0.5) {
            self.step(i, Group::handle_timeout);
        }
        for due in inbox {
            self.happen(due);
        }
        self.step(i, Group::handle_timeout);
    }

    /// Cuts every link between phones of different sides; `sides[i]` is phone `i`'s.
    pub fn partition(&mut self, sides: &[u8]) {
        self.note(|| format!("sides are {sides:?}"));
        for a in 0..self.phones.len() {
            for b in a + 1..self.phones.len() {
                self.set_cut(a, b, sides[a] != sides[b]);
            }
        }
    }

    /// Cuts one link, or mends it.
    pub fn set_cut(&mut self, a: Index, b: Index, cut: bool) {
        let (a, b) = (a.min(b), a.max(b));
        let link = self.link(a, b);
        let was = std::mem::replace(&mut link.cut, cut);
        let generation = link.generation;
        if cut && !was && link.connected {
            let after = self.rng.random_range(2 * SECOND..9 * SECOND);
            self.plan(after, Due::Break { a, b, generation });
        }
        if !cut && was {
            for (to_b, bytes) in std::mem::take(&mut self.link(a, b).backlog) {
                let (from, to) = if to_b { (a, b) } else { (b, a) };
                self.transmit(from, to, bytes);
            }
        }
    }

    /// Gives phone `i` another address: its connections stay open, and nothing comes through them any more.
    pub fn readdress(&mut self, i: Index) {
        for other in (0..self.len()).filter(|&other| other != i) {
            let link = self.link(i, other);
            link.dead = link.connected;
            link.generation += 1;
        }
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.partition(&vec![0; self.phones.len()]);
    }

    /// Sends `bytes` to phone `to` from somebody who proved to be `from`.
    pub fn inject(&mut self, from: PeerId, to: Index, bytes: Vec<u8>) {
        let due = Due::Deliver {
            to,
            from,
            bytes: bytes.into(),
            generation: None,
        };
        self.plan(MS, due);
    }

    /// Sets how good the links are.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Sets how the person at phone `i` answers.
    pub fn set_person(&mut self, i: Index, person: Person) {
        self.phones[i].person = person;
    }

    /// Sets what phone `i` is worth as a leader.
    pub fn set_rank(&mut self, i: Index, rank: Rank) {
        self.phones[i].rank = rank;
        self.tell(i, InEvent::Ranked(rank));
    }

    // What a scenario sees.

    /// Returns how many phones there are.
    pub fn len(&self) -> usize {
        self.phones.len()
    }

    /// Returns whether there is no phone.
    pub fn is_empty(&self) -> bool {
        self.phones.is_empty()
    }

    /// Returns phone `i`'s key.
    pub fn id(&self, i: Index) -> PeerId {
        self.phones[i].id
    }

    /// Returns the group that phone `i` is in.
    pub fn group(&self, i: Index) -> Option<GroupId> {
        self.roster(i).map(|roster| roster.group)
    }

    /// Returns phone `i`'s roster.
    pub fn roster(&self, i: Index) -> Option<&Roster> {
        self.phones[i].machine.as_ref()?.roster()
    }

    /// Returns the term that phone `i` obeys.
    pub fn leader(&self, i: Index) -> Option<Term> {
        self.phones[i].machine.as_ref()?.leader()
    }

    /// Returns which phone leads, as phone `i` sees it.
    pub fn leader_index(&self, i: Index) -> Option<Index> {
        self.leader(i).and_then(|term| self.index(term.leader))
    }

    /// Returns phone `i`'s machine, if it is on.
    pub fn machine(&self, i: Index) -> Option<&Group> {
        self.phones[i].machine.as_ref()
    }

    /// Returns whether phone `i` is on and not suspended.
    pub fn is_awake(&self, i: Index) -> bool {
        self.phones[i].machine.is_some() && self.phones[i].asleep.is_none()
    }

    /// Returns what phone `i` wanted done, since the last call.
    pub fn take_notes(&mut self, i: Index) -> Vec<OutEvent> {
        std::mem::take(&mut self.phones[i].notes)
    }

    /// Returns the simulated time.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Returns how many events have happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns whether every phone that is awake and in a group obeys a leader whom all of its
    /// group obey, and who has it in its roster.
    pub fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// Says what is not settled.
    ///
    /// Where disks were put back, people left, or a member lied, only phones that know each other can be expected to
    /// agree: one that forgot all the others, or was away until all it knew had left, is a stranger
    /// until people tap.
    pub fn unsettled(&self) -> Option<String> {
        let honest = |i: &Index| self.is_awake(*i) && !self.phones[*i].liar;
        let in_group: Vec<_> = (0..self.len())
            .filter(honest)
            .filter_map(|i| Some((i, self.roster(i)?)))
            .collect();
        for (i, roster) in &in_group {
            let Some(term) = self.leader(*i) else {
                return Some(format!("phone {i} obeys nobody"));
            };
            let leader = self.index(term.leader).filter(|&l| self.is_awake(l));
            let Some(leaders) = leader.and_then(|l| self.roster(l)) else {
                return Some(format!("phone {i} obeys {term:?}, who is off"));
            };
            if leaders.version != roster.version {
                return Some(format!("phone {i} has not the leader's roster"));
            }
            if !leaders.contains(self.phones[*i].id) {
                return Some(format!("phone {i} is not in its leader's roster"));
            }
        }
        for (i, mine) in &in_group {
            for (j, theirs) in &in_group {
                let together = mine.group == theirs.group;
                let mutual = mine.contains(self.id(*j)) && theirs.contains(self.id(*i));
                let must_agree = together && (mutual || !self.may_lose_touch);
                if must_agree && self.leader(*i) != self.leader(*j) {
                    return Some(format!("phones {i} and {j} obey two leaders"));
                }
            }
        }
        None
    }

    // The loop.

    fn run_until(&mut self, end: Micros) {
        while let Some(next) = self.next_instant().filter(|&next| next <= end) {
            self.run_next(next);
        }
        self.now = end;
    }

    /// When something happens next, on its way or because a machine wants to be woken.
    fn next_instant(&self) -> Option<Micros> {
        let planned = self.queue.peek().map(|Reverse((at, _, _))| *at);
        let wakes = self
            .phones
            .iter()
            .filter(|p| p.asleep.is_none())
            .filter_map(|p| p.wake);

        planned
            .into_iter()
            .chain(wakes)
            .min()
            .map(|at| at.max(self.now))
    }

    fn run_next(&mut self, next: Micros) {
        self.now = next;
        self.events += 1;
        let planned = self
            .queue
            .peek()
            .is_some_and(|Reverse((at, _, _))| *at <= next);
        if planned {
            let Reverse((_, _, slot)) = self.queue.pop().expect("just peeked");
            let due = self.pending[slot].take().expect("each slot is used once");
            self.free.push(slot);
            self.happen(due);
        } else {
            let woken = self
                .phones
                .iter()
                .position(|p| p.asleep.is_none() && p.wake.is_some_and(|at| at <= next));
            self.step(woken.expect("that is why it is now"), Group::handle_timeout);
        }
    }

    fn plan(&mut self, after: Micros, due: Due) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.pending.push(None);
                self.pending.len() - 1
            }
        };
        self.pending[slot] = Some(due);
        self.planned += 1;
        self.queue
            .push(Reverse((self.now + after, self.planned, slot)));
    }

    fn happen(&mut self, due: Due) {
        let at = match &due {
            Due::Deliver { to: at, .. }
            | Due::Connected { at, .. }
            | Due::Disconnected { at, .. }
            | Due::Decide { at, .. } => Some(*at),
            Due::Dialled { .. } | Due::Break { .. } | Due::Fault(_) => None,
        };
        if let Some(inbox) = at.and_then(|at| self.phones[at].asleep.as_mut()) {
            return inbox.push(due);
        }

        match due {
            Due::Deliver {
                to,
                from,
                bytes,
                generation,
            } => {
                self.deliver(to, from, &bytes, generation);
            }
            Due::Dialled { from, to } => self.dialled(from, to),
            Due::Connected { at, peer } => {
                let peer = self.phones[peer].id;
                self.tell(at, InEvent::Connected(peer));
            }
            Due::Disconnected { at, peer } => {
                if !self.link(at, peer).connected {
                    let peer = self.phones[peer].id;
                    self.tell(at, InEvent::Disconnected(peer));
                }
            }
            Due::Break { a, b, generation } => {
                let off = self.phones[a].machine.is_none() || self.phones[b].machine.is_none();
                let link = self.link(a, b);
                if link.connected && link.generation == generation && (link.cut || off) {
                    self.hang_up(a, b);
                }
            }
            Due::Decide { at, peer, tries } => self.decide(at, peer, tries),
            Due::Fault(fault) => self.strike(fault),
        }
    }

    // The shell of each phone.

    fn start(&mut self, i: Index, saved: Saved) {
        let rng = ChaCha12Rng::seed_from_u64(self.rng.next_u64());
        let phone = &self.phones[i];
        let (id, rank) = (phone.id, phone.rank);
        let name = Name::tidy(&format!("Phone {i}"));
        let now = self.local(i);

        self.phones[i].machine = Some(Group::new(id, name, saved, rng, now));
        self.tell(i, InEvent::Ranked(rank));
    }

    /// Lets phone `i`'s machine take one turn, carries out what it wants, and checks the world.
    fn step(&mut self, i: Index, turn: impl FnOnce(&mut Group, Instant)) {
        let now = self.local(i);
        let Some(machine) = &mut self.phones[i].machine else {
            return;
        };
        turn(machine, now);
        self.watch.bounded(i, machine, self.seed);

        while let Some(event) = self.phones[i].machine.as_mut().and_then(Group::poll) {
            if self.phones[i].dies_in == Some(0) {
                return self.crash(i, false);
            }
            self.phones[i].dies_in = self.phones[i].dies_in.map(|outs| outs - 1);
            self.act(i, event);
        }
        self.sleep_until_due(i);
        self.check(i);
    }

    fn act(&mut self, i: Index, event: OutEvent) {
        let noted = !matches!(event, OutEvent::Send { .. } | OutEvent::Save(_));
        if self.trace && noted {
            self.note(|| format!("phone {i}: {event:?}"));
        }
        match &event {
            OutEvent::Save(saved) => {
                let disk = &mut self.phones[i].disk;
                if disk.len() == DISK_HISTORY {
                    disk.pop_front();
                }
                disk.push_back(saved.to_bytes());
            }
            OutEvent::Send { to, message } => self.send(i, *to, message),
            OutEvent::Dial { peer, .. } => {
                if let Some(to) = self.index(*peer) {
                    let after = 3 * (self.conditions.delay + self.conditions.jitter / 2);
                    self.plan(after, Due::Dialled { from: i, to });
                }
            }
            OutEvent::HangUp(peer) => {
                if let Some(to) = self.index(*peer).filter(|&to| self.link(i, to).connected) {
                    self.hang_up(i, to);
                }
            }
            OutEvent::Match { peer, code, .. } => {
                self.phones[i].codes.insert(*peer, *code);
                let after = self.rng.random_range(200 * MS..1500 * MS);
                self.plan(
                    after,
                    Due::Decide {
                        at: i,
                        peer: *peer,
                        tries: 0,
                    },
                );
            }
            OutEvent::PairingEnded { peer, .. } => {
                self.phones[i].codes.remove(peer);
            }
            OutEvent::Left { .. } => self.watch.forget(i),
            _ => {}
        }
        if noted && self.phones[i].notes.len() < NOTES_MAX {
            self.phones[i].notes.push(event);
        }
    }

    fn send(&mut self, from: Index, to: PeerId, message: &Message) {
        let Some(to) = self.index(to) else {
            return;
        };
        if self.trace {
            self.note(|| format!("phone {from} to {to}: {message:?}"));
        }
        let link = self.link(from, to);
        if !link.connected || link.dead {
            return;
        }
        let bytes: Rc<[u8]> = encode(message).into();
        if link.cut {
            link.hold(from < to, bytes);
        } else {
            self.transmit(from, to, bytes);
        }
    }

    fn transmit(&mut self, from: Index, to: Index, bytes: Rc<[u8]>) {
        let (conditions, now) = (self.conditions, self.now);
        let at = self.at(from, to);
        let link = &mut self.links[at];
        let generation = Some(link.generation);
        let arrivals = link.arrivals(from < to, &conditions, now, &mut self.rng);
        let from = self.phones[from].id;
        for at in arrivals.into_iter().flatten() {
            let bytes = bytes.clone();
            self.plan(
                at - now,
                Due::Deliver {
                    to,
                    from,
                    bytes,
                    generation,
                },
            );
        }
    }

    fn deliver(&mut self, to: Index, from: PeerId, bytes: &[u8], generation: Option<u32>) {
        if let Some(generation) = generation {
            let sender = self.index(from).expect("a phone sent it");
            if self.link(sender, to).generation != generation {
                return;
            }
        }
        if self.phones[to].liar {
            return;
        }
        let event = match decode(bytes) {
            Ok(message) => InEvent::Received {
                from,
                message: Box::new(message),
            },
            Err(error) => InEvent::Garbled { from, error },
        };
        self.tell(to, event);
    }

    fn dialled(&mut self, from: Index, to: Index) {
        let reachable = self.is_awake(from) && self.is_awake(to) && !self.link(from, to).cut;
        if !reachable {
            return;
        }
        let link = self.link(from, to);
        if !link.connected {
            link.connected = true;
            link.generation += 1;
            link.backlog.clear();
            self.plan(0, Due::Connected { at: to, peer: from });
        }
        self.plan(0, Due::Connected { at: from, peer: to });
    }

    /// Ends a connection; both ends, if on, are told.
    fn hang_up(&mut self, a: Index, b: Index) {
        let link = self.link(a, b);
        link.connected = false;
        link.dead = false;
        link.generation += 1;
        link.backlog.clear();
        self.plan(MS, Due::Disconnected { at: a, peer: b });
        self.plan(MS, Due::Disconnected { at: b, peer: a });
    }

    /// A person looks at both screens.
    fn decide(&mut self, i: Index, peer: PeerId, tries: u32) {
        let Some(&mine) = self.phones[i].codes.get(&peer) else {
            return;
        };
        let other = self.index(peer).map(|j| &self.phones[j]);
        let theirs = other.and_then(|other| other.codes.get(&self.phones[i].id).copied());
        match (self.phones[i].person, theirs) {
            (Person::Absent, _) => {}
            (Person::Compares, Some(theirs)) if theirs == mine => {
                self.command(i, Command::Confirm(peer));
            }
            (Person::Compares, None) if tries < 5 && other.is_some() => {
                self.plan(
                    SECOND / 2,
                    Due::Decide {
                        at: i,
                        peer,
                        tries: tries + 1,
                    },
                );
            }
            (Person::Compares | Person::Refuses, _) => self.command(i, Command::Refuse(peer)),
        }
    }

    // Time and place.

    /// What phone `i`'s clock shows.
    fn local(&self, i: Index) -> Instant {
        self.origin + Duration::from_micros(self.phones[i].clock.read(self.now))
    }

    fn sleep_until_due(&mut self, i: Index) {
        let deadline = self.phones[i]
            .machine
            .as_ref()
            .and_then(Group::poll_timeout);
        let phone = &mut self.phones[i];
        phone.wake = deadline.map(|at| {
            let local = u64::try_from((at - self.origin).as_micros()).expect("a short run");
            phone.clock.when(local)
        });
    }

    fn index(&self, peer: PeerId) -> Option<Index> {
        self.phones.iter().position(|phone| phone.id == peer)
    }

    fn others(&self, i: Index) -> impl Iterator<Item = Index> + use<> {
        (0..self.phones.len()).filter(move |&j| j != i)
    }

    fn at(&self, a: Index, b: Index) -> usize {
        a.min(b) * self.phones.len() + a.max(b)
    }

    fn link(&mut self, a: Index, b: Index) -> &mut Link {
        let at = self.at(a, b);
        &mut self.links[at]
    }

    /// Returns whether all phones that are on are connected to each other.
    pub fn all_connected(&self) -> bool {
        let on: Vec<_> = (0..self.len())
            .filter(|&i| self.is_awake(i) && !self.phones[i].liar && self.group(i).is_some())
            .collect();
        on.iter().all(|&a| {
            on.iter().all(|&b| {
                let together = a != b && self.group(a) == self.group(b);
                !together || self.links[self.at(a, b)].connected
            })
        })
    }

    fn check(&mut self, i: Index) {
        if let Some(error) = self.errors.take() {
            panic!("seed={}: an error was logged: {error}", self.seed);
        }
        let Some(machine) = &self.phones[i].machine else {
            return;
        };
        let liars = self.phones.iter().filter(|phone| phone.liar);
        let liars: Vec<_> = liars.map(|phone| phone.id).collect();
        self.watch.obedient(i, machine, self.seed);
        self.watch.consented(machine, &liars, self.seed);
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let s = self.now as f64 / SECOND as f64;
            eprintln!("{s:10.4} {}", line());
        }
    }

    /// Shows every phone to every other, as discovery does.
    pub fn sight_all(&mut self) {
        for i in 0..self.len() {
            for j in self.others(i) {
                let sighting = Sighting {
                    peer: self.id(j),
                    name: Name::tidy("nearby"),
                    version: proto::group::message::VERSION,
                    group: self.group(j),
                };
                self.tell(i, InEvent::Sighted(sighting));
            }
        }
    }

    /// Phone `newcomer` uses an invite that phone `host` makes.
    pub fn invite(&mut self, host: Index, newcomer: Index, lifetime: Duration) {
        self.phones[host].notes.clear();
        self.command(host, Command::Invite { lifetime });
        let invited = self.phones[host].notes.iter().find_map(|note| match note {
            OutEvent::Invited { group, secret, .. } => Some((*group, *secret)),
            _ => None,
        });
        if let Some((group, secret)) = invited {
            let host = self.id(host);
            let addresses = Addresses::default();
            let group = Some(group);
            self.command(
                newcomer,
                Command::Present {
                    host,
                    addresses,
                    secret,
                    group,
                },
            );
        }
    }
}

impl SimPhone {
    fn new(id: u8, rng: &mut ChaCha12Rng) -> Self {
        Self {
            id: PeerId([id; 32]),
            machine: None,
            clock: Clock {
                offset: rng.random_range(0..1_000_000 * SECOND),
                rate_ppm: rng.random_range(-500..=500),
            },
            rank: Rank {
                holds_model: rng.random_bool(0.3),
                plugged_in: rng.random_bool(0.3),
                memory_mib: rng.random_range(1..8) * 1024,
                speed: rng.random_range(1..30) * 1000,
            },
            wake: None,
            asleep: None,
            disk: VecDeque::new(),
            person: Person::Compares,
            liar: false,
            codes: BTreeMap::new(),
            notes: Vec::new(),
            dies_in: None,
        }
    }
}

impl Clock {
    fn read(self, now: Micros) -> Micros {
        let drift = i64::try_from(now).expect("a short run") * self.rate_ppm / 1_000_000;

        (self.offset + now)
            .checked_add_signed(drift)
            .expect("a short run")
    }

    /// The first time at which the clock shows `local` or more.
    fn when(self, local: Micros) -> Micros {
        let elapsed = local.saturating_sub(self.offset);
        let drift = i64::try_from(elapsed).expect("a short run") * self.rate_ppm / 1_000_000;
        let mut now = elapsed.saturating_add_signed(-drift).saturating_sub(2);
        while self.read(now) < local {
            now += 1;
        }
        now
    }
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).expect("a short run")
}

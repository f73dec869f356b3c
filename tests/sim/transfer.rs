//! Shards on the move: phones that fetch from each other while much goes wrong.
//!
//! Each phone is a whole [`Transfer`]; around it stand a fake disk, which survives when the app is killed, and a
//! fake network. A chunk's bytes are a note of what it is and whether it is right. Checked as the world runs:
//! no chunk is asked for that is on disk, none is written twice, nobody is sent anything who is no member, and
//! what waits in memory stays within its bounds. Checked in the end: everything is there.
//!
//! ```text
//!   Transfer ──Open, Check, Finish──► store: a queue, a disk
//!      ▲ │
//!      │ └──Send, Serve──► uplink: one chunk after the other ──► link: lost when it breaks
//!      └───────────────────────────────────────────────────────────┘
//! ```

mod disk;
mod scenario;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gguf_tools::{CHUNK_BYTES, ShardHash};
use proto::transfer::{
    ChunkHeader, ChunkIndex, Have, Held, IN_FLIGHT_MAX, InEvent, Message, Notice, OutEvent,
    PROGRESS_EVERY, Purpose, SENDING_MAX, StoreFailure, Throttle, Transfer, chunk_bytes, n_chunks,
};
use proto::wire::LENGTH_BYTES;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use scenario::{Fault, Nature, Role, SHARD_BYTES, Scenario, peer, shard};

use disk::Disk;

/// Simulated time since the world began, in microseconds.
pub type Micros = u64;

/// Things that may happen in one world; ten times what the longest rolled one takes.
const EVENTS_MAX: u64 = 3_000_000;

/// Beyond what sending everything to everybody takes: faults, their ends, and pauses of up to 64 s after each.
const PATIENCE: Micros = 1_800_000_000;

/// How long a store takes over one thing at most.
const STORE_MAX: Micros = 20_000;

/// How long until a phone notices that a connection is gone, or there, at most.
const NOTICED_AFTER_MAX: Micros = 3_000_000;

/// How often a hog speaks, how much at once, and until when.
const HOG_EVERY: Micros = 200_000;
const HOG_MESSAGES: usize = 40;
const HOG_UNTIL: Micros = 20_000_000;

/// Phones, disks, and what is between them.
pub struct World {
    scenario: Scenario,
    rng: ChaCha12Rng,
    origin: Instant,
    now: Micros,
    events: BTreeMap<(Micros, u64), Event>,
    n_events: u64,
    phones: Vec<Shell>,
    links: BTreeMap<(usize, usize), Link>,
    faults_left: usize,
    /// Answers that are being written.
    n_answers: u32,
    outcome: Outcome,
}

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// When the last phone had everything.
    pub elapsed: Micros,
    /// Things that happened.
    pub n_events: u64,
    /// Chunks that came in and were asked for or not.
    pub n_arrived: u64,
    /// Chunks that were written.
    pub n_written: u64,
    /// Chunks that were wrong.
    pub n_corrupt: u64,
    /// Times that an app was killed.
    pub n_killed: u64,
    /// Times that a disk was full.
    pub n_full: u64,
    /// Chunks sent, by sender.
    pub sent: BTreeMap<usize, u64>,
    /// When each phone had everything it wanted.
    pub complete_at: BTreeMap<usize, Micros>,
    /// Most chunks that waited to be checked on one phone.
    pub checking_max: usize,
    /// Most chunks that were being sent by one phone.
    pub sending_max: usize,
    /// When each shard was complete, by phone, in order.
    pub completed: Vec<(usize, ShardHash)>,
    /// Members that were no longer asked, each with who said so.
    pub distrusted: Vec<(usize, usize)>,
    /// Who said that nobody holds what it lacks.
    pub stalled: Vec<usize>,
}

/// One phone: its decisions, and a fake of what carries them out.
struct Shell {
    machine: Option<Transfer<Content>>,
    /// Counts its starts: what was begun before a kill comes to nothing.
    life: u32,
    left: bool,
    disk: Disk,
    wants: Vec<(usize, Purpose)>,
    wake: Option<Micros>,
    store_free_at: Micros,
    uplink_free_at: Micros,
    /// Connections that the machine was told of, with their number.
    sees: BTreeMap<usize, u32>,
    n_checking: usize,
    sending: BTreeMap<usize, usize>,
    /// Bytes that may go out; `None` if nothing holds them back.
    allowed: Option<u64>,
    /// Chunks that wait to go out, and for whom, on which connection.
    held_back: VecDeque<((usize, u32), ShardHash, ChunkIndex)>,
    progress_at: Option<Micros>,
}

/// What is between two phones.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Counts connections: what was sent on an old one is lost.
    number: u32,
    /// Why it is down.
    n_breaks: u32,
}

/// A chunk's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    shard: ShardHash,
    chunk: ChunkIndex,
    right: bool,
}

enum Event {
    Arrive {
        from: usize,
        to: usize,
        number: u32,
        packet: Packet,
    },
    Sent {
        phone: usize,
        life: u32,
        to: usize,
        number: u32,
        shard: ShardHash,
        chunk: ChunkIndex,
    },
    Stored {
        phone: usize,
        life: u32,
        op: StoreOp,
    },
    Wake(usize),
    Look {
        phone: usize,
        other: usize,
    },
    Fault(Fault),
    Start(usize),
    Heal(usize, usize),
    Free(usize),
    Answered,
    Hog(usize),
}

enum Packet {
    Message(Vec<u8>),
    Chunk(Vec<u8>, Content),
}

enum StoreOp {
    Open(ShardHash),
    Check {
        from: usize,
        content: Content,
        chunk: ChunkIndex,
        shard: ShardHash,
    },
    Finish(ShardHash),
}

impl World {
    /// Builds the world that `scenario` tells.
    pub fn new(scenario: Scenario) -> Self {
        let n = scenario.phones.len();
        let phones = scenario
            .phones
            .iter()
            .map(|role| Shell::new(role, &scenario));
        let pairs = (0..n).flat_map(|a| {
            (a + 1..n).map(move |b| {
                (
                    (a, b),
                    Link {
                        number: 1,
                        n_breaks: 0,
                    },
                )
            })
        });

        let mut world = Self {
            rng: ChaCha12Rng::seed_from_u64(scenario.seed),
            origin: Instant::now(), // an origin only: nothing reads the clock again
            now: 0,
            events: BTreeMap::new(),
            n_events: 0,
            phones: phones.collect(),
            links: pairs.collect(),
            faults_left: scenario.faults.len(),
            n_answers: 0,
            outcome: Outcome::default(),
            scenario,
        };
        world.begin();

        world
    }

    /// Runs until every phone that is there has what it wants, and nothing more goes wrong.
    ///
    /// # Panics
    ///
    /// If the promise is broken.
    pub fn run(mut self) -> Outcome {
        let longest = self.scenario.longest().as_micros();
        let limit = Micros::try_from(longest).expect("a short run") * 4 + PATIENCE;

        while !self.is_over() {
            let Some(((at, _), event)) = self.events.pop_first() else {
                panic!(
                    "nothing happens any more, and there lacks {:?}",
                    self.lacking()
                );
            };
            self.now = at;
            assert!(
                at <= limit,
                "at {limit} µs there lacks {:?}",
                self.lacking()
            );
            self.happen(event);
            assert!(self.n_events < EVENTS_MAX, "the world never ends");
        }

        self.outcome.elapsed = self.now;
        self.outcome.n_events = self.n_events;
        self.outcome
    }

    /// Runs for some time, whether it is over or not.
    pub fn run_for(mut self, duration: Duration) -> Outcome {
        let end = micros(duration);
        while let Some(((at, _), event)) = self.events.pop_first()
            && at <= end
        {
            self.now = at;
            self.happen(event);
            assert!(self.n_events < EVENTS_MAX, "the world never ends");
        }

        self.outcome.elapsed = self.now;
        self.outcome.n_events = self.n_events;
        self.outcome
    }

    fn begin(&mut self) {
        for phone in 0..self.phones.len() {
            self.start(phone);
            if self.scenario.phones[phone].nature == Nature::Hog {
                self.after(HOG_EVERY, Event::Hog(phone));
            }
        }
        for (at, fault) in self.scenario.faults.clone() {
            self.after(at, Event::Fault(fault));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive {
                from,
                to,
                number,
                packet,
            } => self.arrive(from, to, number, packet),
            Event::Sent {
                phone,
                life,
                to,
                number,
                shard,
                chunk,
            } => self.sent(phone, life, (to, number), shard, chunk),
            Event::Stored { phone, life, op } => self.stored(phone, life, op),
            Event::Wake(phone) => self.woken(phone),
            Event::Look { phone, other } => self.look(phone, other),
            Event::Fault(fault) => self.fault(fault),
            Event::Start(phone) => self.start(phone),
            Event::Heal(a, b) => self.heal(a, b),
            Event::Free(phone) => self.free(phone),
            Event::Answered => {
                self.n_answers -= 1;
                self.give_way();
            }
            Event::Hog(phone) => self.hog(phone),
        }
    }

    // ── The promise ───────────────────────────────────────────────────────────────────────────────

    fn is_over(&self) -> bool {
        self.faults_left == 0 && self.lacking().is_empty()
    }

    /// Returns which phones lack what. A hog talks itself out of what it wants.
    fn lacking(&self) -> Vec<(usize, Vec<usize>)> {
        let natures = self.scenario.phones.iter().map(|role| role.nature);
        let phones = self.phones.iter().zip(natures).enumerate();
        let here = phones.filter(|(_, (shell, nature))| !shell.left && *nature != Nature::Hog);
        let lacking = here.map(|(phone, (shell, _))| (phone, shell.lacks()));

        lacking.filter(|(_, lacks)| !lacks.is_empty()).collect()
    }

    // ── Phones ────────────────────────────────────────────────────────────────────────────────────

    fn start(&mut self, phone: usize) {
        if self.phones[phone].left || self.phones[phone].machine.is_some() {
            return;
        }
        let role = &self.scenario.phones[phone];
        let shell = &mut self.phones[phone];
        shell.machine = Some(Transfer::new(peer(phone)));
        shell.store_free_at = self.now;
        shell.uplink_free_at = self.now;

        let mut held = shell.disk.whole().collect::<Vec<_>>();
        if role.nature != Nature::Honest {
            let said = role
                .holds
                .iter()
                .map(|&i| (shard(i), self.scenario.shards[i]));
            held.extend(said); // whether it is there or not
        }
        let wanted = self.scenario.wanted(&self.phones[phone].wants);
        for (shard, bytes) in held {
            self.handle(phone, InEvent::Held { shard, bytes });
        }
        self.handle(phone, InEvent::Want(wanted));
        self.handle(phone, InEvent::GiveWay(self.n_answers > 0));
        for other in 0..self.phones.len() {
            self.look_soon(phone, other);
        }
    }

    fn kill(&mut self, phone: usize) {
        let shell = &mut self.phones[phone];
        shell.machine = None;
        shell.life += 1;
        shell.wake = None;
        shell.sees.clear();
        shell.n_checking = 0;
        shell.sending.clear();
        shell.allowed = None;
        shell.held_back.clear();
        shell.progress_at = None;

        for other in 0..self.phones.len() {
            if other != phone {
                self.link_mut(phone, other).number += 1;
                self.look_soon(phone, other);
            }
        }
    }

    fn handle(&mut self, phone: usize, event: InEvent<Content>) {
        let now = self.origin + Duration::from_micros(self.now);
        if let Some(machine) = &mut self.phones[phone].machine {
            machine.handle(event, now);
            self.act_all(phone);
        }
    }

    fn woken(&mut self, phone: usize) {
        let now = self.origin + Duration::from_micros(self.now);
        let shell = &mut self.phones[phone];
        if shell.wake != Some(self.now) {
            return; // it wanted to be woken at another time
        }
        shell.wake = None;
        if let Some(machine) = &mut shell.machine {
            machine.handle_timeout(now);
            self.act_all(phone);
        }
    }

    fn act_all(&mut self, phone: usize) {
        while let Some(machine) = &mut self.phones[phone].machine
            && let Some(event) = machine.poll()
        {
            self.act(phone, event);
        }

        let Some(machine) = &self.phones[phone].machine else {
            return;
        };
        let wake = machine.poll_timeout().map(|at| micros_up(at - self.origin));
        let wake = wake.map(|at| at.max(self.now));
        if wake != self.phones[phone].wake {
            self.phones[phone].wake = wake;
            if let Some(at) = wake {
                self.after(at - self.now, Event::Wake(phone));
            }
        }
    }

    fn act(&mut self, phone: usize, event: OutEvent<Content>) {
        match event {
            OutEvent::Send { to, message } => {
                if let Message::Request { shard, chunk } = message {
                    let has = self.phones[phone].disk.has(shard, chunk);
                    assert!(!has, "phone {phone} asks for {chunk:?} that it has");
                }
                self.send(phone, index(to), Packet::Message(message.encode()));
            }
            OutEvent::Open(shard) => self.store(phone, StoreOp::Open(shard)),
            OutEvent::Check {
                from,
                shard,
                chunk,
                payload,
            } => {
                self.phones[phone].n_checking += 1;
                let n_checking = self.phones[phone].n_checking;
                assert!(
                    n_checking <= IN_FLIGHT_MAX,
                    "{n_checking} chunks wait for the disk"
                );
                self.outcome.checking_max = self.outcome.checking_max.max(n_checking);
                let op = StoreOp::Check {
                    from: index(from),
                    content: payload,
                    chunk,
                    shard,
                };
                self.store(phone, op);
            }
            OutEvent::Finish(shard) => self.store(phone, StoreOp::Finish(shard)),
            OutEvent::Close(_) => {}
            OutEvent::Serve { to, shard, chunk } => self.serve(phone, index(to), shard, chunk),
            OutEvent::Throttle(throttle) => self.throttle(phone, throttle),
            OutEvent::Notice(notice) => self.notice(phone, notice),
        }
    }

    /// Lets out what may go, in the order in which it was to.
    fn throttle(&mut self, phone: usize, throttle: Throttle) {
        let shell = &mut self.phones[phone];
        shell.allowed = match (throttle, shell.allowed) {
            (Throttle::Open, _) | (Throttle::Allow(_), None) => None,
            (Throttle::Held, _) => Some(0),
            (Throttle::Allow(bytes), Some(before)) => Some(before + u64::from(bytes)),
        };

        self.let_out(phone);
    }

    fn let_out(&mut self, phone: usize) {
        loop {
            let shell = &mut self.phones[phone];
            let Some(&(to, shard, chunk)) = shell.held_back.front() else {
                return;
            };
            let bytes = chunk_bytes(self.scenario.shards[place(shard)], chunk);
            if let Some(allowed) = &mut shell.allowed {
                if *allowed < bytes {
                    return;
                }
                *allowed -= bytes;
            }
            shell.held_back.pop_front();
            self.put_out(phone, to, shard, chunk);
        }
    }

    fn notice(&mut self, phone: usize, notice: Notice) {
        match notice {
            Notice::Progress(progress) => {
                assert!(progress.held_bytes <= progress.total_bytes, "{progress:?}");
                if let Some(last) = self.phones[phone].progress_at.replace(self.now) {
                    assert!(
                        self.now - last >= micros(PROGRESS_EVERY),
                        "progress is told too often"
                    );
                }
            }
            Notice::Complete(shard) => {
                assert!(
                    self.phones[phone].disk.is_whole(shard),
                    "complete before it is there"
                );
                self.outcome.completed.push((phone, shard));
                if self.phones[phone].lacks().is_empty() {
                    self.outcome.complete_at.insert(phone, self.now);
                }
            }
            Notice::Carried { n_bytes, .. } => assert!(n_bytes <= CHUNK_BYTES),
            Notice::Stalled(_) => self.outcome.stalled.push(phone),
            Notice::DiskFailed { .. } => self.outcome.n_full += 1,
            Notice::Impossible(shard) => panic!("{shard} is possible"),
            Notice::Distrusted(liar) => {
                let liar = index(liar);
                let nature = self.scenario.phones[liar].nature;
                assert!(
                    matches!(nature, Nature::Corrupt { .. } | Nature::Hog),
                    "phone {liar} is honest"
                );
                self.outcome.distrusted.push((phone, liar));
            }
        }
    }

    // ── The store ─────────────────────────────────────────────────────────────────────────────────

    fn store(&mut self, phone: usize, op: StoreOp) {
        let took = self.rng.random_range(100..=STORE_MAX);
        let shell = &mut self.phones[phone];
        shell.store_free_at = shell.store_free_at.max(self.now) + took;
        let (life, wait) = (shell.life, shell.store_free_at - self.now);

        self.after(wait, Event::Stored { phone, life, op });
    }

    fn stored(&mut self, phone: usize, life: u32, op: StoreOp) {
        let shell = &mut self.phones[phone];
        if shell.life != life {
            return;
        }

        let event = match op {
            StoreOp::Open(shard) => {
                let bytes = self.scenario.shards[place(shard)];
                match shell.disk.open(shard, bytes) {
                    Ok(Some(held)) => InEvent::Opened { shard, held },
                    Ok(None) => InEvent::Finished(shard),
                    Err(failure) => failed(shard, None, failure),
                }
            }
            StoreOp::Check {
                from,
                content,
                chunk,
                shard,
            } => {
                shell.n_checking -= 1;
                let expected = Content {
                    shard,
                    chunk,
                    right: true,
                };
                if content != expected {
                    self.outcome.n_corrupt += 1;
                    InEvent::Corrupt {
                        from: peer(from),
                        shard,
                        chunk,
                    }
                } else {
                    match shell.disk.write(shard, chunk) {
                        Ok(()) => {
                            self.outcome.n_written += 1;
                            InEvent::Verified { shard, chunk }
                        }
                        Err(failure) => failed(shard, Some(chunk), failure),
                    }
                }
            }
            StoreOp::Finish(shard) => {
                shell.disk.finish(shard);
                InEvent::Finished(shard)
            }
        };
        self.handle(phone, event);
    }

    // ── The network ───────────────────────────────────────────────────────────────────────────────

    fn send(&mut self, from: usize, to: usize, packet: Packet) {
        let Some(&number) = self.phones[from].sees.get(&to) else {
            panic!("phone {from} speaks to {to}, whom it does not see");
        };
        let delay = self.scenario.phones[from].delay;

        self.after(
            delay,
            Event::Arrive {
                from,
                to,
                number,
                packet,
            },
        );
    }

    /// Reads a chunk and puts it on the uplink, behind what is there.
    fn serve(&mut self, phone: usize, to: usize, shard: ShardHash, chunk: ChunkIndex) {
        let n_members = self.phones.len();
        let nature = self.scenario.phones[phone].nature;
        let shell = &mut self.phones[phone];
        let Some(&number) = shell.sees.get(&to) else {
            panic!("phone {phone} serves {to}, whom it does not see");
        };
        if nature == Nature::Honest {
            assert!(
                shell.disk.has(shard, chunk),
                "phone {phone} serves what it lacks"
            );
        }
        *shell.sending.entry(to).or_default() += 1;
        let n_sending = shell.sending.values().sum();
        assert!(
            n_sending < SENDING_MAX + n_members,
            "{n_sending} chunks are sent at once"
        );
        self.outcome.sending_max = self.outcome.sending_max.max(n_sending);
        if matches!(nature, Nature::Silent { from } if from <= self.now) {
            return; // for ever
        }

        shell.held_back.push_back(((to, number), shard, chunk));
        self.let_out(phone);
    }

    fn put_out(
        &mut self,
        phone: usize,
        (to, number): (usize, u32),
        shard: ShardHash,
        chunk: ChunkIndex,
    ) {
        let shell = &mut self.phones[phone];
        let bytes = chunk_bytes(self.scenario.shards[place(shard)], chunk);
        let took = bytes * 1_000_000 / self.scenario.phones[phone].bytes_per_s;
        shell.uplink_free_at = shell.uplink_free_at.max(self.now) + took;
        let (life, wait) = (shell.life, shell.uplink_free_at - self.now);
        *self.outcome.sent.entry(phone).or_default() += 1;
        self.after(
            wait,
            Event::Sent {
                phone,
                life,
                to,
                number,
                shard,
                chunk,
            },
        );
    }

    fn sent(
        &mut self,
        phone: usize,
        life: u32,
        (to, number): (usize, u32),
        shard: ShardHash,
        chunk: ChunkIndex,
    ) {
        let shell = &mut self.phones[phone];
        if shell.life != life {
            return;
        }
        if shell.sees.get(&to) == Some(&number) {
            *shell.sending.get_mut(&to).expect("it was counted") -= 1;
            let packet = self.chunk_packet(phone, shard, chunk);
            self.send(phone, to, packet);
            let to = peer(to);
            self.handle(phone, InEvent::Served { to, shard, chunk });
        }
    }

    /// Returns a chunk as a phone of this nature sends it.
    fn chunk_packet(&mut self, phone: usize, shard: ShardHash, chunk: ChunkIndex) -> Packet {
        let wrong = match self.scenario.phones[phone].nature {
            Nature::Corrupt { one_in } => self.rng.random_ratio(1, one_in),
            Nature::Hog => !self.phones[phone].disk.has(shard, chunk),
            Nature::Honest | Nature::Silent { .. } => false,
        };
        let bytes = chunk_bytes(self.scenario.shards[place(shard)], chunk);
        let short = wrong && self.rng.random_bool(0.2);
        let header = ChunkHeader {
            shard,
            chunk,
            n_bytes: (bytes - u64::from(short)) as u32,
        };
        let content = Content {
            shard,
            chunk,
            right: !wrong,
        };

        Packet::Chunk(header.encode().to_vec(), content)
    }

    /// Reads what came as a shell would, and passes it on.
    fn arrive(&mut self, from: usize, to: usize, number: u32, packet: Packet) {
        if self.link(from, to).number != number || self.phones[to].sees.get(&from) != Some(&number)
        {
            return; // lost with its connection, or before the machine was told of it
        }
        let from = peer(from);

        let event = match packet {
            Packet::Message(frame) => {
                let (length, body) = frame.split_at(LENGTH_BYTES);
                let length = Message::decode_length(length.try_into().expect("split there"));
                assert_eq!(length, Ok(body.len()));
                let message = Message::decode(body).expect("all messages are well-formed");
                InEvent::Message { from, message }
            }
            Packet::Chunk(header, payload) => {
                self.outcome.n_arrived += 1;
                let header = header.as_slice().try_into().expect("of this length");
                let header = ChunkHeader::decode(header).expect("all headers are well-formed");
                InEvent::Chunk {
                    from,
                    shard: header.shard,
                    chunk: header.chunk,
                    n_bytes: header.n_bytes,
                    payload,
                }
            }
        };
        self.handle(to, event);
    }

    /// Both ends of a link will soon look whether it is there.
    fn look_soon(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        for (phone, other) in [(a, b), (b, a)] {
            let after = self.rng.random_range(0..NOTICED_AFTER_MAX);
            self.after(after, Event::Look { phone, other });
        }
    }

    /// A phone looks whether its connection to another is as it knows.
    fn look(&mut self, phone: usize, other: usize) {
        let link = self.link(phone, other);
        let both_on = self.phones[phone].machine.is_some() && self.phones[other].machine.is_some();
        let is_up = both_on && link.n_breaks == 0;

        let seen = self.phones[phone].sees.get(&other).copied();
        if seen.is_some_and(|number| !is_up || number != link.number) {
            self.phones[phone].sees.remove(&other);
            self.phones[phone].sending.remove(&other);
            self.handle(phone, InEvent::PeerLost(peer(other)));
        }
        if is_up && !self.phones[phone].sees.contains_key(&other) {
            self.phones[phone].sees.insert(other, link.number);
            self.handle(phone, InEvent::PeerJoined(peer(other)));
        }
    }

    // ── Faults ────────────────────────────────────────────────────────────────────────────────────

    fn fault(&mut self, fault: Fault) {
        self.faults_left -= 1;
        match fault {
            Fault::Kill { phone, off } => {
                if self.phones[phone].machine.is_some() {
                    self.outcome.n_killed += 1;
                    self.kill(phone);
                    self.after(off, Event::Start(phone));
                }
            }
            Fault::Break { a, b, off } => {
                let link = self.link_mut(a, b);
                link.number += 1;
                link.n_breaks += 1;
                self.look_soon(a, b);
                self.after(off, Event::Heal(a, b));
            }
            Fault::Fill {
                phone,
                free_bytes,
                off,
            } => {
                self.phones[phone].disk.free_bytes = Some(free_bytes);
                self.after(off, Event::Free(phone));
            }
            Fault::Leave { phone } => {
                self.kill(phone);
                self.phones[phone].left = true;
            }
            Fault::Answer { off } => {
                self.n_answers += 1;
                self.give_way();
                self.after(off, Event::Answered);
            }
            Fault::Want { phone, wants } => {
                self.phones[phone].wants.clone_from(&wants);
                let wanted = self.scenario.wanted(&wants);
                self.handle(phone, InEvent::Want(wanted));
            }
        }
    }

    fn heal(&mut self, a: usize, b: usize) {
        self.link_mut(a, b).n_breaks -= 1;
        self.look_soon(a, b);
    }

    /// Tells every phone whether an answer is being written.
    fn give_way(&mut self) {
        let gives_way = self.n_answers > 0;

        for phone in 0..self.phones.len() {
            self.handle(phone, InEvent::GiveWay(gives_way));
        }
    }

    fn free(&mut self, phone: usize) {
        self.phones[phone].disk.free_bytes = None;
        self.handle(phone, InEvent::Retry);
    }

    /// Says whatever comes to its mind, to everybody it sees.
    fn hog(&mut self, phone: usize) {
        if self.phones[phone].left || self.now > HOG_UNTIL {
            return;
        }
        for other in self.phones[phone].sees.keys().copied().collect::<Vec<_>>() {
            for _ in 0..HOG_MESSAGES {
                let packet = self.hog_packet(phone);
                self.send(phone, other, packet);
            }
        }
        self.after(HOG_EVERY, Event::Hog(phone));
    }

    fn hog_packet(&mut self, phone: usize) -> Packet {
        let i = self.rng.random_range(0..self.scenario.shards.len());
        let n = n_chunks(self.scenario.shards[i]);
        let (shard, chunk) = (shard(i), ChunkIndex(self.rng.random_range(0..n + 1)));
        let junk = (0..self.rng.random_range(0..20))
            .map(|_| self.rng.random())
            .collect();
        let chunks = if self.rng.random_bool(0.5) {
            Held::All
        } else {
            Held::Some(junk)
        };

        let message = match self.rng.random_range(0..20) {
            0 => Message::Wants([shard, shard].into_iter().collect()),
            1 => Message::Haves([Have { shard, chunks }].into_iter().collect()),
            2 => Message::Withdraw { shard, chunk },
            3 if chunk.0 < n => return self.chunk_packet(phone, shard, chunk),
            _ => Message::Request { shard, chunk },
        };
        Packet::Message(message.encode())
    }

    // ── Time ──────────────────────────────────────────────────────────────────────────────────────

    fn after(&mut self, wait: Micros, event: Event) {
        self.n_events += 1;
        self.events.insert((self.now + wait, self.n_events), event);
    }

    fn link(&self, a: usize, b: usize) -> Link {
        self.links[&(a.min(b), a.max(b))]
    }

    fn link_mut(&mut self, a: usize, b: usize) -> &mut Link {
        let link = self.links.get_mut(&(a.min(b), a.max(b)));
        link.expect("a link between any two")
    }
}

impl Shell {
    fn new(role: &Role, scenario: &Scenario) -> Self {
        let mut disk = Disk::default();
        if matches!(role.nature, Nature::Honest | Nature::Hog) {
            for &i in &role.holds {
                disk.put(shard(i), scenario.shards[i]);
            }
        }

        Self {
            machine: None,
            life: 0,
            left: false,
            disk,
            wants: role.wants.clone(),
            wake: None,
            store_free_at: 0,
            uplink_free_at: 0,
            sees: BTreeMap::new(),
            n_checking: 0,
            sending: BTreeMap::new(),
            allowed: None,
            held_back: VecDeque::new(),
            progress_at: None,
        }
    }

    fn lacks(&self) -> Vec<usize> {
        let wants = self.wants.iter().map(|(place, _)| *place);

        wants
            .filter(|place| !self.disk.is_whole(shard(*place)))
            .collect()
    }
}

fn failed(shard: ShardHash, chunk: Option<ChunkIndex>, failure: StoreFailure) -> InEvent<Content> {
    InEvent::StoreFailed {
        shard,
        chunk,
        failure,
    }
}

fn index(phone: proto::PeerId) -> usize {
    usize::from(phone.0[0])
}

fn place(shard: ShardHash) -> usize {
    usize::from(shard.0[0])
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).expect("a short run")
}

/// Returns the first microsecond that is not before an instant.
fn micros_up(duration: Duration) -> Micros {
    u64::try_from(duration.as_nanos().div_ceil(1000)).expect("a short run")
}

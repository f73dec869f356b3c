//! The ring: phones that run a model together while people talk to it.
//!
//! Each phone is a whole [`Phone`]; around it stand a fake engine, a fake network, and people.
//! The promise is checked as the world runs: every answer is what one phone alone would have written,
//! every token passes layers `0..n` once and in order, every cache is without gaps, nobody is passed
//! over, no step goes outside of the credits, and in the end nothing is left.
//!
//! ```text
//!   Screen ──► Phone ──► Engine         one job at a time, in order
//!              ▲   │
//!              └───┴──► Network         each message as bytes, after a delay
//! ```

mod engine;
mod forger;
mod model;
mod packet;
mod scenario;
mod screen;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::Manifest;
use proto::plan::{Plan, Stage};
use proto::reconfig::Status;
use proto::relay::ClientId;
use proto::ring::{InEvent, Notice, OutEvent, Ring};
use proto::wire::{self, Chat, Control, StreamKind};
use proto::{Epoch, PeerId, RequestId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use engine::Pace;
pub(crate) use engine::{Engine, Job};
pub use model::Hidden;
pub(crate) use packet::{Deed, Packet, decode, read};
pub use scenario::{
    Cancel, Conversation, Fault, Formation, Network, Place, Scenario, Turn, manifest, peer,
};
pub use screen::{Ended, How};
pub(crate) use screen::{Model, Next, Screen};

use forger::Forger;
use watch::Watch;

/// Simulated time since the world began, in microseconds.
pub type Micros = u64;

/// Things that may happen in one world. Ten times what the longest rolled one takes: more is a loop.
const EVENTS_MAX: u64 = 3_000_000;

/// Longest time until a phone notices that another is gone.
const NOTICED_AFTER_MAX: Micros = 200_000;

/// First of the guests' numbers; phones of the ring have those below.
const GUESTS: usize = 100;

/// How long after a plan broke its leader makes another: when everybody has noticed why.
const REPLAN_AFTER: Micros = 500_000;

/// Number of a leader that takes no part in the ring.
const LEADER: usize = 200;

/// Number of somebody who has no business here.
const OUTSIDER: usize = 201;

/// Phones, people, and what is between them.
pub struct World {
    scenario: Scenario,
    rng: ChaCha12Rng,
    origin: Instant,
    now: Micros,
    /// What happens when; the counter keeps ties in the order of their making.
    events: BTreeMap<(Micros, u64), Event>,
    n_events: u64,
    phones: BTreeMap<PeerId, Shell>,
    leader: Option<ProposingLeader>,
    screens: Vec<Screen>,
    plan: Option<Arc<Plan>>,
    watch: Watch,
    /// When the last message of each stream arrives: streams keep their order.
    streams: BTreeMap<(PeerId, PeerId, StreamKind), Micros>,
    /// Who has noticed that whom is gone.
    noticed: BTreeSet<(PeerId, PeerId)>,
    /// Two phones that cannot reach each other.
    cut: Option<[PeerId; 2]>,
    forger: Option<Forger>,
    questions: BTreeMap<RequestId, watch::Question>,
}

/// What a run showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Simulated time from start to the last event.
    pub elapsed: Micros,
    /// How each question ended, conversation by conversation.
    pub ended: Vec<Vec<Ended>>,
    /// Rows that went all the way round.
    pub n_rows: u64,
    /// Steps that were sent.
    pub n_steps: u64,
    /// When every phone has noticed that one is gone, if one is.
    pub all_know_at: Option<Micros>,
}

/// One phone: its decisions, and a fake of what carries them out.
struct Shell {
    machine: Ring<Hidden>,
    engine: Engine,
    /// The plan that it has last said to be in force.
    in_force: Option<Epoch>,
    lost: bool,
}

/// A leader outside of the ring: proposes one plan, and no other.
struct ProposingLeader {
    plan: Arc<Plan>,
    manifest: Arc<Manifest>,
    ready: BTreeSet<PeerId>,
}

/// What happens.
#[derive(Debug)]
enum Event {
    /// A message arrives.
    Arrive(Message),
    /// An engine is done with its job.
    JobDone(PeerId),
    /// Somebody asks their next question.
    Ask(usize),
    /// Somebody has had enough of their question of this number.
    Enough(usize, u64),
    /// The scenario's fault happens.
    Break,
    /// The leader, a phone of the ring, plans with those that are left.
    Replan,
    /// A phone notices that another is gone.
    Notice { by: PeerId, gone: PeerId },
    /// The forger has something to send.
    Forge,
    /// A phone wants to be woken.
    Wake(PeerId),
}

/// A message on its way.
#[derive(Debug, Clone)]
struct Message {
    from: PeerId,
    to: PeerId,
    packet: Packet,
}

impl World {
    /// Builds the world that `scenario` tells.
    pub fn new(scenario: Scenario) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(scenario.seed);
        let leader = proposing_leader(&scenario, &mut rng);
        let n_stages = match &leader {
            Some(leader) => leader.plan.stages.len(),
            None => scenario.n_phones(),
        };
        let screens = scenario.conversations.iter().cloned().enumerate();

        let mut world = Self {
            phones: (0..scenario.n_phones())
                .map(|phone| (peer(phone), shell(&scenario, phone)))
                .collect(),
            screens: screens.map(|(i, talk)| Screen::new(i, talk)).collect(),
            watch: Watch::new(n_stages, scenario.is_reordered()),
            forger: Forger::of(&scenario),
            plan: None,
            cut: None,
            leader,
            rng,
            scenario,
            origin: Instant::now(), // an origin only: nothing reads the clock again
            now: 0,
            events: BTreeMap::new(),
            n_events: 0,
            streams: BTreeMap::new(),
            noticed: BTreeSet::new(),
            questions: BTreeMap::new(),
        };
        world.begin();

        world
    }

    /// Runs until nothing more happens.
    ///
    /// # Panics
    ///
    /// If the promise is broken.
    pub fn run(mut self) -> Outcome {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.happen(event);
            assert!(self.n_events < EVENTS_MAX, "the world never ends");
        }

        self.end()
    }

    fn begin(&mut self) {
        let leader = match self.scenario.formation {
            Formation::Gathered => peer(0),
            Formation::Proposed { .. } => peer(LEADER),
        };
        for phone in self.phones.keys().copied().collect::<Vec<_>>() {
            self.handle(phone, InEvent::Leader(Some(leader)));
        }
        self.propose();

        for screen in 0..self.screens.len() {
            if let Some(pause) = self.screens[screen].pause() {
                self.after(pause, Event::Ask(screen));
            }
        }
        if let Some(at) = self.scenario.fault.breaks_at() {
            self.after(at, Event::Break);
        }
    }

    /// Has the leader propose the world's first plan.
    fn propose(&mut self) {
        if let Some(leader) = &self.leader {
            let everybody = leader.plan.phones().collect();
            let order = Control::Prepare {
                plan: Arc::clone(&leader.plan),
                manifest: Arc::clone(&leader.manifest),
            };
            return self.leader_says(&order, everybody);
        }

        let everybody = self.phones.keys().copied().collect::<Vec<_>>();
        self.propose_to(&everybody);
    }

    fn propose_to(&mut self, phones: &[PeerId]) {
        let manifest = self.scenario.manifest();
        let epoch = self.phones[&phones[0]].machine.reconfig().next_epoch();
        let plan = Plan::even(epoch, &manifest, phones, self.scenario.sizes);
        let plan = Arc::new(plan.expect("there are shards enough"));
        let manifest = Arc::new(manifest);
        self.handle(phones[0], InEvent::Propose { plan, manifest });
    }

    /// Has the leader plan with those that are left, if it is one of them.
    fn replan(&mut self) {
        let is_out = |phone: usize| match self.scenario.fault {
            Fault::Loss { phone: gone, .. } => phone == gone,
            Fault::Cut { phones, .. } => phone == phones[0].max(phones[1]),
            Fault::Breakdown { phone: broken, .. } => phone == broken,
            Fault::None | Fault::Hostile { .. } => false,
        };
        let left = (0..self.scenario.n_phones()).filter(|&phone| !is_out(phone));
        let left = left.map(peer).collect::<Vec<_>>();

        let status = self.phones[&peer(0)].machine.reconfig().status();
        if left.first() == Some(&peer(0)) && matches!(status, Status::Failed(_)) {
            self.propose_to(&left);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(message) => self.arrive(message),
            Event::JobDone(phone) => self.job_done(phone),
            Event::Ask(screen) => self.ask(screen),
            Event::Enough(screen, number) => self.enough(screen, number),
            Event::Break => self.break_down(),
            Event::Replan => self.replan(),
            Event::Notice { by, gone } => self.notice(by, gone),
            Event::Forge => self.forge(),
            Event::Wake(phone) => self.wake(phone),
        }
    }

    // ── Messages ──────────────────────────────────────────────────────────────────────────────────

    /// Reads a message as a shell would, and passes it to whom it is for.
    fn arrive(&mut self, message: Message) {
        let Message { from, to, packet } = message;
        let is_cut = self
            .cut
            .is_some_and(|cut| cut.contains(&from) && cut.contains(&to));
        if is_cut || self.noticed.contains(&(to, from)) {
            return; // the connection is gone
        }

        if let Some(screen) = self.guest(to) {
            return self.arrive_at_guest(screen, packet);
        }
        if to == peer(LEADER) {
            return self.arrive_at_leader(from, packet);
        }
        if let Some(event) = read(from, packet) {
            self.handle(to, event);
        }
    }

    fn arrive_at_guest(&mut self, screen: usize, packet: Packet) {
        let Packet::Chat(bytes) = packet else {
            unreachable!("guests have chat streams only");
        };
        let Ok(Chat::Answer { number, answer }) = decode(&bytes, StreamKind::Chat) else {
            unreachable!("guests get answers only");
        };

        if self.screens[screen].left {
            return;
        }
        assert_eq!(
            number,
            self.screens[screen].number(),
            "answer to another question"
        );
        self.tell(screen, answer);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "it leads, and that is all")]
    fn arrive_at_leader(&mut self, from: PeerId, packet: Packet) {
        let Packet::Control(bytes) = packet else {
            return;
        };
        let Ok(message) = decode::<Control>(&bytes, StreamKind::Control) else {
            return;
        };
        let leader = self.leader.as_mut().expect("it was told something");
        let everybody = leader.plan.phones().collect::<BTreeSet<_>>();

        let order = match message {
            Control::Ready { epoch } if leader.ready.insert(from) && leader.ready == everybody => {
                Control::Commit { epoch }
            }
            _ => return,
        };
        self.leader_says(&order, everybody);
    }

    fn leader_says(&mut self, order: &Control, to: BTreeSet<PeerId>) {
        for to in to {
            let frame = wire::encode_frame(order, StreamKind::Control);
            self.send(peer(LEADER), to, Packet::Control(frame));
        }
    }

    /// Puts a message on its way.
    fn send(&mut self, from: PeerId, to: PeerId, packet: Packet) {
        if let Some(forger) = &mut self.forger {
            forger.overhear(from, to, &packet);
        }

        let network = self.scenario.network;
        let mut at = self.now + network.delay + self.rng.random_range(0..=network.jitter);
        if !(network.reorder && packet.may_overtake()) {
            let last = self.streams.entry((from, to, packet.kind())).or_default();
            at = at.max(*last);
            *last = at;
        }

        self.at(at, Event::Arrive(Message { from, to, packet }));
    }

    // ── Phones ────────────────────────────────────────────────────────────────────────────────────

    /// Gives a phone an event and does what it wants.
    fn handle(&mut self, phone: PeerId, event: InEvent<Hidden>) {
        self.watch_in(phone, &event);
        let now = self.origin + Duration::from_micros(self.now);
        let Some(shell) = self.phones.get_mut(&phone).filter(|shell| !shell.lost) else {
            return;
        };

        shell.machine.handle(event, now);
        self.act_all(phone);
        self.wake_later(phone);
    }

    /// Has a phone woken when it wants to be.
    fn wake_later(&mut self, phone: PeerId) {
        let shell = self.phones.get(&phone);
        let Some(at) = shell.and_then(|shell| shell.machine.poll_timeout()) else {
            return;
        };
        let at = (at - self.origin).as_micros();

        self.at(
            Micros::try_from(at).expect("worlds are short"),
            Event::Wake(phone),
        );
    }

    fn wake(&mut self, phone: PeerId) {
        let now = self.origin + Duration::from_micros(self.now);
        let Some(shell) = self.phones.get_mut(&phone).filter(|shell| !shell.lost) else {
            return;
        };

        if shell.machine.poll_timeout().is_some_and(|at| at <= now) {
            shell.machine.handle_timeout(now);
            self.act_all(phone);
            self.wake_later(phone);
        }
    }

    fn act_all(&mut self, phone: PeerId) {
        while let Some(wish) = self.phones.get_mut(&phone).and_then(|s| s.machine.poll()) {
            self.watch_out(phone, &wish);
            self.act(phone, wish);
        }
    }

    fn act(&mut self, phone: PeerId, wish: OutEvent<Hidden>) {
        match Deed::of(wish) {
            Deed::Send { to, packet } => self.send(phone, to, packet),
            Deed::Work(job) => self.job(phone, job),
            Deed::Tell { client, answer } => {
                let screen = usize::try_from(client.0).expect("few screens");
                self.tell(screen, answer);
            }
            Deed::Notice(notice) => self.noticed_by(phone, notice),
            Deed::Nothing => {}
        }
    }

    fn job(&mut self, phone: PeerId, job: Job) {
        let shell = self.phones.get_mut(&phone).expect("a phone of the ring");

        if let Some(takes) = shell.engine.push(job) {
            self.after(takes, Event::JobDone(phone));
        }
    }

    fn job_done(&mut self, phone: PeerId) {
        let shell = self.phones.get_mut(&phone).expect("a phone of the ring");
        if shell.lost {
            return;
        }

        let (result, takes) = shell.engine.finish();
        if let Some(takes) = takes {
            self.after(takes, Event::JobDone(phone));
        }
        if let Some(event) = result {
            self.handle(phone, event);
        }
    }

    fn noticed_by(&mut self, phone: PeerId, notice: Notice) {
        match notice {
            Notice::InForce { plan, .. } => {
                let shell = self.phones.get_mut(&phone).expect("a phone of the ring");
                let before = shell.in_force.replace(plan.epoch);
                assert!(before < Some(plan.epoch), "a plan comes into force once");
                if phone == plan.head && before.is_some() {
                    self.watch.begin_anew(plan.stages.len());
                    self.announce(phone);
                }
                self.plan = Some(plan);

                let all_follow = self.phones.values().all(|shell| shell.in_force.is_some());
                if all_follow && self.forger.is_some() {
                    self.after(0, Event::Forge);
                }
            }
            Notice::Broken {
                phone: cause,
                reason,
                ..
            } => {
                assert!(self.model().may_fail, "broken by {cause}: {reason}");
                if phone == peer(0) && self.leader.is_none() {
                    self.after(REPLAN_AFTER, Event::Replan);
                }
            }
            Notice::Stopped => unreachable!("nobody stops the model"),
        }
    }

    /// Tells those without a part in the plan that it is in force.
    fn announce(&mut self, leader: PeerId) {
        for phone in self.phones.keys().copied().collect::<Vec<_>>() {
            self.handle(leader, InEvent::Announce(phone));
        }
    }

    // ── People ────────────────────────────────────────────────────────────────────────────────────

    fn ask(&mut self, screen: usize) {
        if self.screens[screen].left || self.screens[screen].pause().is_none() {
            return;
        }
        let (model, now) = (self.model(), self.now);
        let (ask, enough) = self.screens[screen].ask(model, now);
        let number = self.screens[screen].number();
        if let Some(pause) = enough {
            self.after(pause, Event::Enough(screen, number));
        }

        match self.screens[screen].place {
            Place::Screen(phone) => {
                let client = ClientId(screen as u64);
                self.handle(peer(phone), InEvent::Ask { client, ask });
            }
            Place::Guest { via } => self.guest_says(screen, via, &Chat::Ask { number, ask }),
        }
    }

    fn enough(&mut self, screen: usize, number: u64) {
        if self.screens[screen].leave(number) {
            let Place::Guest { via } = self.screens[screen].place else {
                unreachable!("only guests leave");
            };
            return self.notice_later(peer(via), peer(GUESTS + screen));
        }
        if !self.screens[screen].cancel(number) {
            return;
        }

        match self.screens[screen].place {
            Place::Screen(phone) => {
                let client = ClientId(screen as u64);
                self.handle(peer(phone), InEvent::Cancel { client });
            }
            Place::Guest { via } => self.guest_says(screen, via, &Chat::Cancel { number }),
        }
    }

    fn guest_says(&mut self, screen: usize, via: usize, message: &Chat) {
        let frame = wire::encode_frame(message, StreamKind::Chat);

        self.send(peer(GUESTS + screen), peer(via), Packet::Chat(frame));
    }

    fn tell(&mut self, screen: usize, answer: proto::chat::Answer) {
        let model = self.model();
        let number = self.screens[screen].number();

        match self.screens[screen].told(answer, model, self.now) {
            Next::Ask(pause) => self.after(pause, Event::Ask(screen)),
            Next::Cancel => self.after(0, Event::Enough(screen, number)),
            Next::Wait | Next::Over => {}
        }
    }

    fn model(&self) -> Model {
        Model {
            n_layers: self.scenario.n_layers(),
            n_ctx: self.scenario.sizes.n_ctx,
            may_fail: self
                .scenario
                .fault
                .breaks_at()
                .is_some_and(|at| at <= self.now),
            reorder: self.scenario.is_reordered(),
            persists: false,
        }
    }

    fn guest(&self, peer_id: PeerId) -> Option<usize> {
        (0..self.screens.len()).find(|&screen| peer(GUESTS + screen) == peer_id)
    }

    // ── Faults ────────────────────────────────────────────────────────────────────────────────────

    fn break_down(&mut self) {
        match self.scenario.fault {
            Fault::Loss { phone, .. } => self.lose(peer(phone)),
            Fault::Cut {
                phones: [one, other],
                ..
            } => {
                self.notice_later(peer(one), peer(other));
                self.notice_later(peer(other), peer(one));
                self.cut = Some([peer(one), peer(other)]);
            }
            Fault::Breakdown { phone, .. } => {
                let shell = self.phones.get_mut(&peer(phone));
                shell.expect("a phone of the ring").engine.broken = true;
            }
            Fault::None | Fault::Hostile { .. } => unreachable!("nothing breaks"),
        }
    }

    fn lose(&mut self, gone: PeerId) {
        self.phones
            .get_mut(&gone)
            .expect("a phone of the ring")
            .lost = true;
        for by in self.phones.keys().copied().collect::<Vec<_>>() {
            self.notice_later(by, gone);
        }

        for screen in &mut self.screens {
            let (Place::Screen(phone) | Place::Guest { via: phone }) = screen.place;
            if peer(phone) == gone {
                screen.go();
            }
        }
    }

    fn notice_later(&mut self, by: PeerId, gone: PeerId) {
        let pause = self.rng.random_range(0..NOTICED_AFTER_MAX);

        self.after(pause, Event::Notice { by, gone });
    }

    fn notice(&mut self, by: PeerId, gone: PeerId) {
        self.noticed.insert((by, gone));
        self.handle(by, InEvent::PhoneLost(gone));
    }

    fn forge(&mut self) {
        let plan = self.plan.as_ref().expect("forged once a plan is in force");
        let forger = self.forger.as_mut().expect("there is one");

        let Some(message) = forger.forge(plan, &mut self.rng) else {
            for by in self.phones.keys().copied().collect::<Vec<_>>() {
                self.notice_later(by, peer(OUTSIDER));
            }
            return;
        };
        let pause = self.rng.random_range(0..20_000);
        self.at(self.now, Event::Arrive(message));
        self.after(pause, Event::Forge);
    }

    // ── Watching ──────────────────────────────────────────────────────────────────────────────────

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some events tell something"
    )]
    fn watch_in(&mut self, phone: PeerId, event: &InEvent<Hidden>) {
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.head == phone) else {
            return;
        };
        let tail = plan.stages.last().map(|stage| stage.phone);

        match event {
            InEvent::Opened { request, .. } => self.watch.opened(self.questions[request]),
            InEvent::Activation {
                from, epoch, step, ..
            } if Some(*from) == tail && *epoch == plan.epoch => self.watch.returned(*step),
            InEvent::Computed { step, .. } if Some(phone) == tail => self.watch.returned(*step),
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some wishes tell something"
    )]
    fn watch_out(&mut self, phone: PeerId, wish: &OutEvent<Hidden>) {
        if self.plan.as_ref().is_none_or(|plan| plan.head != phone) {
            return;
        }

        match wish {
            OutEvent::Embed { step, .. } => self.watch.sent(*step),
            OutEvent::Open { request, ask } => {
                self.questions.insert(*request, ask.sampling.seed);
            }
            OutEvent::Tell { client, answer } => {
                let screen = usize::try_from(client.0).expect("few screens");
                let question = self.screens[screen].question();
                self.watch.told(question.expect("it was asked"), answer);
            }
            OutEvent::SendChat {
                to,
                message: Chat::Answer { number, answer },
            } => {
                let request = RequestId {
                    asker: *to,
                    number: *number,
                };
                if let Some(&question) = self.questions.get(&request) {
                    self.watch.told(question, answer);
                }
            }
            _ => {}
        }
    }

    // ── Time ──────────────────────────────────────────────────────────────────────────────────────

    fn after(&mut self, pause: Micros, event: Event) {
        self.at(self.now + pause, event);
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.n_events += 1;
        self.events.insert((at, self.n_events), event);
    }

    /// Checks that nothing is left, and tells what was seen.
    fn end(self) -> Outcome {
        for (i, screen) in self.screens.iter().enumerate() {
            assert!(!screen.is_waiting(), "conversation {i} was never answered");
        }
        let breaks_at = self.scenario.fault.breaks_at();
        if breaks_at.is_none() {
            self.watch.end();
            self.nothing_is_left();
        }

        Outcome {
            elapsed: self.now,
            n_rows: self.phones.values().map(|shell| shell.engine.n_rows).sum(),
            n_steps: self.watch.n_steps,
            all_know_at: match self.scenario.fault {
                Fault::Loss { at, .. } => Some(at + NOTICED_AFTER_MAX),
                Fault::Cut { .. } | Fault::Breakdown { .. } => None, // what does not matter goes on
                Fault::None | Fault::Hostile { .. } => None,
            },
            ended: self
                .screens
                .into_iter()
                .map(|screen| screen.ended)
                .collect(),
        }
    }

    /// No question, step or sampler is left on any phone, and every layer's cache holds the same tokens.
    fn nothing_is_left(&self) {
        let mut caches = BTreeMap::new();

        for (phone, shell) in &self.phones {
            assert!(
                shell.machine.is_idle(),
                "{phone} still waits: {:#?}",
                shell.machine
            );
            let samplers = shell.engine.samplers().collect::<Vec<_>>();
            assert!(
                samplers.is_empty(),
                "samplers were never closed: {samplers:?}"
            );

            for (layer, sequence, tokens) in shell.engine.caches() {
                let first = caches.entry(sequence).or_insert(tokens);
                assert_eq!(
                    *first, tokens,
                    "layer {layer} of {sequence:?} holds other tokens"
                );
            }
        }
    }
}

fn shell(scenario: &Scenario, phone: usize) -> Shell {
    Shell {
        machine: Ring::new(peer(phone)),
        engine: Engine::new(peer(phone), scenario.paces[phone], scenario.n_layers()),
        in_force: None,
        lost: false,
    }
}

fn proposing_leader(scenario: &Scenario, rng: &mut ChaCha12Rng) -> Option<ProposingLeader> {
    let Formation::Proposed { head, only_ends } = scenario.formation else {
        return None;
    };
    let manifest = Arc::new(scenario.manifest());
    let mut phones = (0..scenario.n_phones()).collect::<Vec<_>>();
    phones.retain(|&phone| !(only_ends && phone == head));
    rand::seq::SliceRandom::shuffle(phones.as_mut_slice(), rng);

    let runs = scenario::uneven(rng, scenario.shards.len(), phones.len());
    let stages = phones.into_iter().zip(runs).map(|(phone, shards)| Stage {
        phone: peer(phone),
        layers: scenario::layers_of(&manifest, &shards),
        shards,
    });
    let sizes = scenario.sizes;
    let plan = Plan {
        epoch: Epoch(rng.random_range(1..1 << 40)),
        model: manifest.hash(),
        head: peer(head),
        stages: stages.collect(),
        spares: Vec::new(),
        n_embd: manifest.n_embd,
        n_ctx: sizes.n_ctx,
        n_sequences: sizes.n_sequences,
        chunk_tokens: sizes.chunk_tokens,
        activation: sizes.activation,
        relay_headers: sizes.relay_headers,
    };

    Some(ProposingLeader {
        plan: Arc::new(plan),
        manifest,
        ready: BTreeSet::new(),
    })
}

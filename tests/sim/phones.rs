//! Whole phones: a group that runs a model while its phones are cut off, killed and put to sleep, and come back.
//!
//! Each phone is a whole [`Phone`]; around it stand the fake engine and the people of [`crate::ring`], and a network whose
//! connections break as those of the node crate do. A world goes through these stages:
//!
//! ```text
//!  Forming ──► Trouble ──► Settling ──► Steady ──► Ending
//!   people tap, somebody   what went    within a bound all is well:    nobody asks any more,
//!   runs the model         wrong ends   then no answer breaks off      and everything ends
//! ```
//!
//! People ask on every phone, all the time, and go on where an answer broke off. The promises are checked as the world runs:
//! every token is what one phone alone would have written, every question ends, nobody obeys two leaders of one term, no term
//! goes back, nothing is logged as an error; and when the last trouble is over, there are one group, one leader and one plan
//! with everybody in it again, and every phone is answered.

mod net;
mod scenario;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gguf_tools::{Manifest, Sample, Shape, Synth, TensorType};
use proto::chat::{Answer, RefusalReason};
use proto::group::message::{decode as decode_join, encode as encode_join};
use proto::group::{self, Address, Command, Name, Purpose, Rank, Saved, Term};
use proto::phone::{InEvent, OutEvent, Phone};
use proto::planning::{Rule, Work};
use proto::profile::Costs;
use proto::relay::ClientId;
use proto::ring::{self, Notice};
use proto::standing::{HeldModel, Trouble};
use proto::transfer;
use proto::wire::LENGTH_BYTES;
use proto::{Epoch, ModelId, PeerId, supply};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use scenario::{Fault, Kind, Running, Scenario, Who};

use crate::errors::Errors;
use crate::group::network::{MS, Micros, SECOND};
use crate::group::watch::Watch;
use crate::ring::{Deed, Engine, Hidden, Job, Model, Next, Screen, manifest, peer, read};
use net::{Net, Parcel, Told};

/// Which phone: its place in the world.
pub type Index = usize;

/// What the phones run.
const MODEL: ModelId = ModelId([1; 32]);

/// How long phones may take until they are one group that runs the model for the first time.
const FORMED_WITHIN: Micros = 60 * SECOND;

/// How long all may take, once the last trouble is over, until everything is well again, and every phone was answered.
const WELL_WITHIN: Micros = 40 * SECOND;

/// From when on after the last trouble nothing may break any more: pings find out so late that a connection is dead.
const QUIET_AFTER: Micros = 25 * SECOND;

/// When after the last trouble people begin to let each other finish.
const POLITE_AFTER: Micros = 10 * SECOND;

/// How long nothing may break then.
const STEADY: Micros = 8 * SECOND;

/// How long a question may take to end, of whatever kind that is.
const ENDS_WITHIN: Micros = 100 * SECOND;

/// How long people look at a screen that shows that nothing is run, or that the phone was not let lead.
const STARTED_AGAIN_AFTER: Micros = 5 * SECOND;

/// How often it is looked whether all is well.
const LOOK_EVERY: Micros = 100 * MS;

/// Things that may happen in one world. Ten times what the longest rolled one takes: more is a loop.
const EVENTS_MAX: u64 = 5_000_000;

/// Phones, people, and what is between them.
pub struct World {
    scenario: Scenario,
    manifest: Arc<Manifest>,
    rng: ChaCha12Rng,
    origin: Instant,
    now: Micros,
    stage: Stage,
    phones: Vec<Shell>,
    net: Net,
    talks: Vec<Talk>,
    n_conversations: usize,
    /// What happens when; the counter keeps ties in the order of their making.
    events: BTreeMap<(Micros, u64), Event>,
    n_events: u64,
    n_happened: u64,
    /// Faults that have not ended.
    n_troubles: usize,
    watch: Watch,
    errors: Errors,
    /// Whether all was well when that was looked at last.
    is_well: bool,
    outcome: Outcome,
    trace: bool,
}

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Simulated time from start to the last event.
    pub elapsed: Micros,
    /// Phones that were cut off, from all others or from one.
    pub n_cut: u64,
    /// Phones that were switched off, and on again.
    pub n_off: u64,
    /// Phones that did nothing for a while.
    pub n_asleep: u64,
    /// Questions that were answered to the end.
    pub n_done: u64,
    /// Questions that were not taken for want of a plan.
    pub n_refused: u64,
    /// Answers that broke off.
    pub n_failed: u64,
    /// Answers that went on where one had broken off.
    pub n_went_on: u64,
    /// Times that somebody started the model again, as nothing was run or in place of what was.
    pub n_started_again: u64,
    /// Plans that came into force.
    pub n_plans: u64,
    /// Longest time that a question took to end.
    pub longest_question: Micros,
    /// From the end of the last trouble until one plan was in force everywhere.
    pub well_after: Micros,
    /// From the end of the last trouble until every phone had an answer that was asked for after it.
    pub answered_after: Micros,
}

impl Outcome {
    /// Adds what another run showed; of its times, the longer.
    pub fn add(&mut self, other: &Self) {
        self.elapsed += other.elapsed;
        self.n_cut += other.n_cut;
        self.n_off += other.n_off;
        self.n_asleep += other.n_asleep;
        self.n_done += other.n_done;
        self.n_refused += other.n_refused;
        self.n_failed += other.n_failed;
        self.n_went_on += other.n_went_on;
        self.n_started_again += other.n_started_again;
        self.n_plans += other.n_plans;
        self.longest_question = self.longest_question.max(other.longest_question);
        self.well_after = self.well_after.max(other.well_after);
        self.answered_after = self.answered_after.max(other.answered_after);
    }
}

/// How far a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Forming,
    Trouble,
    /// Since when nothing goes wrong.
    Settling(Micros),
    /// Until when nothing may break.
    Steady(Micros),
    Ending,
}

/// One phone, and a fake of what carries out its decisions.
struct Shell {
    id: PeerId,
    /// `None` while it is off.
    machine: Option<Phone<Hidden, Vec<u8>>>,
    engine: Engine,
    /// What happened while it was asleep.
    inbox: Option<Vec<Event>>,
    /// Counts how often it was switched on.
    life: u32,
    wake: Option<Micros>,
    disk: Vec<u8>,
    /// The last plan in force that it had a part in.
    in_force: Option<Epoch>,
    /// Since when its screen has shown that nothing is run.
    idle_since: Option<Micros>,
    /// When it was first answered a question that was asked after the last trouble.
    answered_at: Option<Micros>,
}

/// A person at a phone.
struct Talk {
    phone: Index,
    screen: Screen,
}

/// What happens.
#[derive(Debug)]
enum Event {
    /// The network has something for a phone.
    Net(Index, Told),
    /// An engine is done with its job.
    JobDone { phone: Index, life: u32 },
    /// The disk has something for a phone.
    Disk {
        phone: Index,
        life: u32,
        event: transfer::InEvent<Vec<u8>>,
    },
    /// A person asks their next question.
    Ask { talk: usize, life: u32 },
    /// A person has had enough of their question of this number.
    Enough { talk: usize, life: u32, number: u64 },
    /// A person wants something of the group.
    Command { phone: Index, command: Command },
    /// A person starts the model.
    Start { phone: Index, life: u32 },
    /// Something goes wrong.
    Strike(Fault),
    /// It does no more.
    Mend(Kind, Index),
    /// It is looked whether all is well.
    Look,
}

impl World {
    /// Builds the world that `scenario` tells.
    pub fn new(scenario: Scenario) -> Self {
        let n = scenario.n_phones();
        let mut rng = ChaCha12Rng::seed_from_u64(scenario.seed);
        let net_rng = ChaCha12Rng::seed_from_u64(rng.next_u64());
        let mut world = Self {
            manifest: Arc::new(manifest(&scenario.shards)),
            phones: (0..n).map(|i| Shell::new(&scenario, i)).collect(),
            net: Net::new(n, scenario.conditions, net_rng),
            talks: Vec::new(),
            n_conversations: 0,
            scenario,
            rng,
            origin: Instant::now(), // an origin only: nothing reads the clock again
            now: 0,
            stage: Stage::Forming,
            events: BTreeMap::new(),
            n_events: 0,
            n_happened: 0,
            n_troubles: 0,
            watch: Watch::new(n),
            errors: Errors::listen(),
            is_well: false,
            outcome: Outcome::default(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        world.begin();

        world
    }

    /// Runs until nothing is asked any more.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn run(mut self) -> Outcome {
        while self.stage != Stage::Ending || self.talks.iter().any(|t| t.screen.is_waiting()) {
            self.step();
        }

        self.outcome.elapsed = self.now;
        self.outcome
    }

    fn begin(&mut self) {
        for i in 0..self.phones.len() {
            self.start(i);
        }
        for i in 1..self.phones.len() {
            let command = Command::Ask {
                peer: peer(0),
                purpose: Purpose::Join,
            };
            let at = self.rng.random_range(100 * MS..5 * SECOND);
            self.after(at, Event::Command { phone: i, command });
        }
        for talk in 0..self.phones.len() * self.scenario.n_talks {
            let phone = talk % self.phones.len();
            let screen = self.new_screen(phone);
            self.talks.push(Talk { phone, screen });
            self.ask_later(talk, SECOND);
        }
        self.after(LOOK_EVERY, Event::Look);
    }

    // ── Time ──────────────────────────────────────────────────────────────────────────────────────

    fn step(&mut self) {
        self.n_happened += 1;
        assert!(self.n_happened < EVENTS_MAX, "the world never ends");
        let event_at = self.events.first_key_value().map(|((at, _), _)| *at);
        let net_at = self.net.next_at();
        let woken = self.phones.iter().enumerate();
        let woken = woken.filter(|(_, phone)| phone.inbox.is_none());
        let woken = woken.filter_map(|(i, phone)| Some((phone.wake?, i))).min();
        let wake_at = woken.map(|(at, _)| at.max(self.now));

        let next = event_at.into_iter().chain(net_at).chain(wake_at).min();
        self.now = next.expect("it is looked again and again");
        if net_at == next {
            self.net.step(self.now);
        } else if event_at == next {
            let (_, event) = self.events.pop_first().expect("just looked at");
            self.happen(event);
        } else if let Some((_, i)) = woken {
            self.turn(i, Phone::handle_timeout);
        }
        self.hear_all();
    }

    /// Lets phones hear what the network has for them.
    fn hear_all(&mut self) {
        while let Some((i, told)) = self.net.poll() {
            self.happen(Event::Net(i, told));
        }
    }

    fn happen(&mut self, event: Event) {
        let concerns = match &event {
            Event::Net(phone, _)
            | Event::JobDone { phone, .. }
            | Event::Disk { phone, .. }
            | Event::Start { phone, .. }
            | Event::Command { phone, .. } => Some(*phone),
            Event::Ask { talk, .. } | Event::Enough { talk, .. } => Some(self.talks[*talk].phone),
            Event::Strike(_) | Event::Mend(..) | Event::Look => None,
        };
        if let Some(inbox) = concerns.and_then(|i| self.phones[i].inbox.as_mut()) {
            return inbox.push(event);
        }

        match event {
            Event::Net(i, told) => self.told(i, told),
            Event::JobDone { phone, life } => self.job_done(phone, life),
            Event::Disk { phone, life, event } => {
                if self.phones[phone].life == life {
                    self.handle(phone, InEvent::Shards(event));
                }
            }
            Event::Ask { talk, life } => self.ask(talk, life),
            Event::Enough { talk, life, number } => self.enough(talk, life, number),
            Event::Command { phone, command } => {
                self.handle(phone, InEvent::Group(group::InEvent::Command(command)));
            }
            Event::Start { phone, life } => {
                if self.phones[phone].life == life {
                    self.start_model(phone);
                }
            }
            Event::Strike(fault) => self.strike(fault),
            Event::Mend(kind, i) => self.mend(kind, i),
            Event::Look => self.look(),
        }
    }

    fn after(&mut self, pause: Micros, event: Event) {
        self.n_events += 1;
        self.events.insert((self.now + pause, self.n_events), event);
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_micros(self.now)
    }

    // ── Phones ────────────────────────────────────────────────────────────────────────────────────

    /// Switches a phone on, with what is on its disk.
    fn start(&mut self, i: Index) {
        let saved = Saved::from_bytes(&self.phones[i].disk).expect("what a phone saved reads back");
        let (id, name) = (peer(i), Name::tidy(&format!("Phone {i}")));
        let rng = ChaCha12Rng::seed_from_u64(self.rng.next_u64());
        let first = self.phones[i].life == 0;
        let machine = Phone::new(id, name, saved, rng, self.instant());
        self.net.switch_on(i, self.now);
        let phone = &mut self.phones[i];
        phone.machine = Some(machine);
        phone.life += 1;
        phone.engine = Engine::new(id, self.scenario.paces[i], self.scenario.n_layers());
        phone.in_force = None;
        phone.idle_since = None;

        let address = Address::new(&id.0).expect("it is short");
        let rank = Rank {
            holds_model: true,
            plugged_in: self.scenario.plugged_in[i],
            ..Rank::default()
        };
        let addresses = [address].into_iter().collect();
        self.handle(i, InEvent::Group(group::InEvent::Readdressed(addresses)));
        self.handle(i, InEvent::Group(group::InEvent::Ranked(rank)));
        match &self.scenario.running {
            Running::App(runs) => {
                let runs = *runs == i && first;
                let name = Name::tidy("a model");
                self.handle(i, InEvent::Models(vec![HeldModel { model: MODEL, name }]));
                if runs {
                    self.handle(i, self.run_model());
                }
            }
            Running::Program(phones) if phones.contains(&i) => self.handle(i, self.run_model()),
            Running::Program(_) => {}
        }
    }

    fn run_model(&self) -> InEvent<Hidden, Vec<u8>> {
        let is_app = matches!(self.scenario.running, Running::App(_));
        let n_phones = if is_app { 1 } else { self.phones.len() };
        let work = Work {
            manifest: Arc::clone(&self.manifest),
            sample: sample(),
            sizes: self.scenario.sizes,
            n_phones,
            rule: Rule::Even,
            prompt_tokens: 16,
            costs: Costs {
                context_bytes: 0,
                scratch_bytes: 0,
            },
            flash_quota_bytes: 0,
        };

        InEvent::Run {
            work: Box::new(work),
            model: is_app.then_some(MODEL),
        }
    }

    fn handle(&mut self, i: Index, event: InEvent<Hidden, Vec<u8>>) {
        if self.trace && !matches!(event, InEvent::Group(group::InEvent::Received { .. })) {
            self.note_in(i, &event);
        }
        self.turn(i, |machine, now| machine.handle(event, now));
    }

    /// Lets phone `i` take one turn, and carries out what it wants.
    fn turn(&mut self, i: Index, turn: impl FnOnce(&mut Phone<Hidden, Vec<u8>>, Instant)) {
        let now = self.instant();
        let Some(machine) = &mut self.phones[i].machine else {
            return;
        };

        turn(machine, now);
        while let Some(event) = self.phones[i].machine.as_mut().and_then(Phone::poll) {
            self.act(i, event);
        }
        self.check(i);
        let origin = self.origin;
        let phone = &mut self.phones[i];
        let due = phone.machine.as_ref().and_then(Phone::poll_timeout);
        phone.wake = due.map(|at| micros(at.saturating_duration_since(origin)));
    }

    fn check(&mut self, i: Index) {
        if let Some(error) = self.errors.take() {
            panic!("an error was logged: {error}");
        }
        let machine = self.phones[i].machine.as_ref().expect("it took a turn");

        self.watch.obedient(i, machine.group(), self.scenario.seed);
        self.watch.bounded(i, machine.group(), self.scenario.seed);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "people see the others, and nobody measures for an even split"
    )]
    fn act(&mut self, i: Index, event: OutEvent<Hidden, Vec<u8>>) {
        use supply::OutEvent::Transfer;

        let life = self.phones[i].life;
        match event {
            OutEvent::Group(event) => self.act_group(i, event),
            OutEvent::Ring(wish) => self.act_ring(i, wish),
            // Every phone has the whole model.
            OutEvent::Supply(Transfer(transfer::OutEvent::Open(shard))) => {
                let event = transfer::InEvent::Finished(shard);
                let phone = i;
                self.after(MS, Event::Disk { phone, life, event });
            }
            OutEvent::Supply(Transfer(transfer::OutEvent::Send { to, message })) => {
                self.send(i, to, Parcel::Shard(message.encode()));
            }
            OutEvent::Show(board) if board.run.is_some() => self.phones[i].idle_since = None,
            OutEvent::Show(_) => {
                self.phones[i].idle_since.get_or_insert(self.now);
            }
            OutEvent::RunWanted { .. } => {
                self.note(|| format!("phone {i} is to run the model"));
                self.handle(i, self.run_model());
            }
            OutEvent::CannotPlan { reason, trouble } => {
                self.note(|| format!("phone {i} cannot plan: {reason}"));
                if trouble == Trouble::NotHandedOver {
                    let phone = i;
                    self.after(STARTED_AGAIN_AFTER, Event::Start { phone, life });
                }
            }
            OutEvent::Measure(measure) => unreachable!("an even split: {measure:?}"),
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "people see the others")]
    fn act_group(&mut self, i: Index, event: group::OutEvent) {
        match event {
            group::OutEvent::Save(saved) => self.phones[i].disk = saved.to_bytes(),
            group::OutEvent::Send { to, message } => {
                self.send(i, to, Parcel::Join(encode_join(&message)));
            }
            group::OutEvent::Dial { peer, .. } => self.net.dial(i, self.index(peer), self.now),
            group::OutEvent::HangUp(peer) => {
                self.note(|| format!("phone {i} hangs up on {}", self.index(peer)));
                self.net.hang_up(i, self.index(peer), self.now);
            }
            group::OutEvent::Match { peer, .. } => {
                let (phone, command) = (i, Command::Confirm(peer));
                let pause = self.rng.random_range(200 * MS..SECOND);
                self.after(pause, Event::Command { phone, command });
            }
            event => self.note(|| format!("phone {i}: {event:?}")),
        }
    }

    fn act_ring(&mut self, i: Index, wish: ring::OutEvent<Hidden>) {
        if let ring::OutEvent::Load { plan, .. } = &wish {
            for other in plan.phones().filter(|&phone| phone != peer(i)) {
                self.net.dial(i, self.index(other), self.now);
            }
        }

        match Deed::of(wish) {
            Deed::Send { to, packet } => self.send(i, to, Parcel::Ring(packet)),
            Deed::Work(job) => self.job(i, job),
            Deed::Tell { client, answer } => {
                self.tell(usize::try_from(client.0).expect("few talks"), answer);
            }
            Deed::Notice(notice) => self.noticed_by(i, &notice),
            Deed::Nothing => {}
        }
    }

    fn send(&mut self, i: Index, to: PeerId, parcel: Parcel) {
        self.net.send(i, self.index(to), parcel, self.now);
    }

    fn told(&mut self, i: Index, told: Told) {
        let event = match told {
            Told::Connected(other) => InEvent::Group(group::InEvent::Connected(peer(other))),
            Told::Disconnected(other) => InEvent::Group(group::InEvent::Disconnected(peer(other))),
            Told::Unreachable(other) => InEvent::Ring(ring::InEvent::PhoneLost(peer(other))),
            Told::Came { from, parcel } => opened(peer(from), parcel),
        };

        self.handle(i, event);
    }

    fn job(&mut self, i: Index, job: Job) {
        let (phone, life) = (i, self.phones[i].life);

        if let Some(takes) = self.phones[i].engine.push(job) {
            self.after(takes, Event::JobDone { phone, life });
        }
    }

    fn job_done(&mut self, phone: Index, life: u32) {
        if self.phones[phone].life != life || self.phones[phone].machine.is_none() {
            return;
        }

        let (result, takes) = self.phones[phone].engine.finish();
        if let Some(takes) = takes {
            self.after(takes, Event::JobDone { phone, life });
        }
        if let Some(event) = result {
            self.handle(phone, InEvent::Ring(event));
        }
    }

    fn noticed_by(&mut self, i: Index, notice: &Notice) {
        self.note(|| match notice {
            Notice::InForce { plan } => {
                let phones = plan.phones().map(|phone| self.index(phone));
                let phones = phones.collect::<Vec<_>>();
                format!("phone {i}: plan {} of {phones:?}", plan.epoch)
            }
            Notice::Broken { epoch, reason, .. } => format!("phone {i}: {epoch} broken: {reason}"),
            Notice::Stopped => format!("phone {i}: stopped"),
        });
        if let Notice::InForce { plan } = notice {
            self.outcome.n_plans += u64::from(plan.head == peer(i));
            // One that has no part in it is told of whatever its leader runs.
            if plan.needs(peer(i)) {
                let before = self.phones[i].in_force.replace(plan.epoch);
                assert!(before < Some(plan.epoch), "phone {i} went back");
            }
        }
    }

    // ── People ────────────────────────────────────────────────────────────────────────────────────

    fn new_screen(&mut self, phone: Index) -> Screen {
        self.n_conversations += 1;
        let conversation = scenario::roll_conversation(&mut self.rng, phone);

        Screen::new(self.n_conversations, conversation)
    }

    fn ask_later(&mut self, talk: usize, pause: Micros) {
        let life = self.phones[self.talks[talk].phone].life;

        self.after(pause, Event::Ask { talk, life });
    }

    fn ask(&mut self, talk: usize, life: u32) {
        let phone = self.talks[talk].phone;
        let is_over = self.stage == Stage::Ending || self.phones[phone].life != life;
        if is_over || self.phones[phone].machine.is_none() {
            return;
        }
        if self.must_wait() {
            let pause = self.rng.random_range(0..SECOND);
            return self.ask_later(talk, pause);
        }
        if self.talks[talk].screen.pause().is_none() {
            self.talks[talk].screen = self.new_screen(phone);
        }
        let (model, now) = (self.model(), self.now);
        let screen = &mut self.talks[talk].screen;
        let (ask, enough) = screen.ask(model, now);
        let number = screen.number();
        self.outcome.n_went_on += u64::from(!ask.written.is_empty());
        if let Some(pause) = enough {
            self.after(pause, Event::Enough { talk, life, number });
        }

        self.note(|| format!("phone {phone}: talk {talk} asks"));
        let client = ClientId(talk as u64);
        self.handle(phone, InEvent::Ring(ring::InEvent::Ask { client, ask }));
    }

    /// Returns whether people let each other finish. No plan that works is given up in the middle of an answer for one that
    /// has more phones, so there must be a moment in which nothing is written. While an answer is, nobody is let in either:
    /// so people ask once the group is formed.
    fn must_wait(&self) -> bool {
        let somebody_waits = || self.talks.iter().any(|talk| talk.screen.is_waiting());

        match self.stage {
            Stage::Forming => true,
            Stage::Settling(since) => {
                self.now >= since + POLITE_AFTER && !self.is_well && somebody_waits()
            }
            Stage::Trouble | Stage::Steady(_) | Stage::Ending => false,
        }
    }

    fn enough(&mut self, talk: usize, life: u32, number: u64) {
        let phone = self.talks[talk].phone;
        if self.phones[phone].life == life && self.talks[talk].screen.cancel(number) {
            let client = ClientId(talk as u64);
            self.handle(phone, InEvent::Ring(ring::InEvent::Cancel { client }));
        }
    }

    fn tell(&mut self, talk: usize, answer: Answer) {
        let (model, now, phone) = (self.model(), self.now, self.talks[talk].phone);
        let screen = &mut self.talks[talk].screen;
        let number = screen.number();
        let asked_at = screen.asked_at().expect("nothing is told after the end");
        self.ended(phone, asked_at, &answer);

        match self.talks[talk].screen.told(answer, model, now) {
            Next::Ask(pause) => {
                let more = self.rng.random_range(0..SECOND);
                self.ask_later(talk, pause + more);
            }
            Next::Over => {
                let pause = self.rng.random_range(100 * MS..2 * SECOND);
                self.ask_later(talk, pause);
            }
            Next::Cancel => {
                let life = self.phones[phone].life;
                self.after(0, Event::Enough { talk, life, number });
            }
            Next::Wait => {}
        }
    }

    /// Counts how a question ended, if it did.
    fn ended(&mut self, phone: Index, asked_at: Micros, answer: &Answer) {
        if !answer.is_last() {
            return;
        }
        let took = self.now - asked_at;
        self.note(|| format!("phone {phone} is told {answer:?}"));
        self.outcome.longest_question = self.outcome.longest_question.max(took);

        match answer {
            Answer::Done { .. } => {
                self.outcome.n_done += 1;
                if let Stage::Settling(since) = self.stage
                    && asked_at >= since
                {
                    self.phones[phone].answered_at.get_or_insert(self.now);
                }
            }
            Answer::Refused(RefusalReason::NoModel | RefusalReason::Busy { .. }) => {
                assert!(
                    !self.must_be_well(),
                    "phone {phone} was refused: {answer:?}"
                );
                self.outcome.n_refused += 1;
            }
            Answer::Failed(_) => {
                self.outcome.n_failed += 1;
            }
            Answer::Queued { .. }
            | Answer::Reading { .. }
            | Answer::Token { .. }
            | Answer::Refused(_) => {}
        }
    }

    fn model(&self) -> Model {
        Model {
            n_layers: self.scenario.n_layers(),
            n_ctx: self.scenario.sizes.n_ctx,
            may_fail: !self.must_be_well(),
            reorder: false,
            persists: true,
        }
    }

    /// Has somebody start the model again whose screen shows that nothing is run: as people do once the app has come back
    /// that ran it, and before anybody missed it.
    fn start_again(&mut self) {
        let is_idle = |phone: &Shell| {
            let since = phone.idle_since.filter(|_| phone.inbox.is_none());
            phone.machine.is_some() && since.is_some_and(|at| self.now - at > STARTED_AGAIN_AFTER)
        };
        let is_app = matches!(self.scenario.running, Running::App(_));
        let Some(i) = self.phones.iter().position(is_idle).filter(|_| is_app) else {
            return;
        };

        self.phones[i].idle_since = None;
        self.start_model(i);
    }

    /// A person starts the model on a phone.
    fn start_model(&mut self, i: Index) {
        self.note(|| format!("somebody starts the model on phone {i}"));
        self.outcome.n_started_again += 1;
        self.handle(i, self.run_model());
    }

    // ── Faults ────────────────────────────────────────────────────────────────────────────────────

    fn strike(&mut self, fault: Fault) {
        let leader = || {
            let mut terms = self.phones.iter().filter_map(Shell::leader);
            self.index(
                terms
                    .next()
                    .unwrap_or_else(|| self.phones[0].leads())
                    .leader,
            )
        };
        let i = match fault.who {
            Who::Leader => leader(),
            Who::Phone(i) => i,
        };
        let is_up = self.phones[i].machine.is_some() && self.phones[i].inbox.is_none();
        self.note(|| {
            format!(
                "{:?} happens to phone {i}, for {} s",
                fault.kind,
                fault.lasts as f64 / 1e6
            )
        });

        match fault.kind {
            Kind::Off { .. } | Kind::Asleep | Kind::Suspended | Kind::Started if !is_up => {
                return self.trouble_ends();
            }
            Kind::CutOff => {
                self.outcome.n_cut += 1;
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.cut(i, other, self.now);
                }
            }
            Kind::Cut(other) => {
                self.outcome.n_cut += 1;
                self.net.cut(i, other, self.now);
            }
            Kind::Off { is_silent } => self.switch_off(i, is_silent),
            Kind::Asleep => self.fall_asleep(i),
            Kind::Suspended => {
                self.handle(i, InEvent::Suspended);
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.hang_up(i, other, self.now);
                }
                self.hear_all();
                self.fall_asleep(i);
            }
            // A program that is not told so again would not go on after a restart.
            Kind::Started if !self.scenario.running.may_be_started_on(i) => {}
            Kind::Started => self.start_model(i),
        }
        self.after(fault.lasts, Event::Mend(fault.kind, i));
    }

    fn switch_off(&mut self, i: Index, is_silent: bool) {
        self.outcome.n_off += 1;
        self.net.switch_off(i, is_silent, self.now);
        self.phones[i].machine = None;
        self.phones[i].wake = None;
        for talk in self.talks.iter_mut().filter(|talk| talk.phone == i) {
            talk.screen.go();
        }
    }

    fn mend(&mut self, kind: Kind, i: Index) {
        self.note(|| format!("{kind:?} is over for phone {i}"));
        match kind {
            Kind::CutOff => {
                for other in (0..self.phones.len()).filter(|&other| other != i) {
                    self.net.mend(i, other, self.now);
                }
            }
            Kind::Cut(other) => self.net.mend(i, other, self.now),
            Kind::Off { .. } => {
                self.start(i);
                for talk in 0..self.talks.len() {
                    if self.talks[talk].phone == i {
                        self.talks[talk].screen = self.new_screen(i);
                        let pause = self.rng.random_range(0..3 * SECOND);
                        self.ask_later(talk, pause);
                    }
                }
            }
            Kind::Asleep | Kind::Suspended => self.awake(i),
            Kind::Started => {}
        }
        self.trouble_ends();
    }

    fn fall_asleep(&mut self, i: Index) {
        self.outcome.n_asleep += 1;
        self.phones[i].inbox = Some(Vec::new());
        self.net.sleep(i, self.now);
    }

    /// Lets a phone go on: all that waited comes at once, before its timers or after them.
    fn awake(&mut self, i: Index) {
        let inbox = self.phones[i].inbox.take().unwrap_or_default();
        self.net.wake(i, self.now);
        if self.rng.random_bool(0.5) {
            self.turn(i, Phone::handle_timeout);
        }
        for event in inbox {
            self.happen(event);
        }
        self.turn(i, Phone::handle_timeout);
    }

    fn trouble_ends(&mut self) {
        self.n_troubles -= 1;
        if self.n_troubles == 0 {
            self.settle();
        }
    }

    // ── Stages ────────────────────────────────────────────────────────────────────────────────────

    /// Looks whether all is well, and what follows from that.
    fn look(&mut self) {
        self.after(LOOK_EVERY, Event::Look);
        for talk in &self.talks {
            let asked_at = talk.screen.asked_at().unwrap_or(self.now);
            let waits = self.now - asked_at;
            assert!(waits <= ENDS_WITHIN, "phone {} waits for ever", talk.phone);
        }

        self.start_again();

        match self.stage {
            Stage::Forming => match self.trouble() {
                None => self.begin_trouble(),
                Some(why) => assert!(self.now < FORMED_WITHIN, "never formed: {why}"),
            },
            Stage::Settling(since) => self.look_settling(since),
            Stage::Steady(until) => {
                if let Some(why) = self.trouble() {
                    panic!("all was well, and is not: {why}");
                }
                if self.now >= until {
                    self.stage = Stage::Ending;
                }
            }
            Stage::Trouble | Stage::Ending => {}
        }
    }

    fn begin_trouble(&mut self) {
        self.note(|| "all is well".into());
        self.stage = Stage::Trouble;
        self.n_troubles = self.scenario.faults.len();
        for (at, fault) in self.scenario.faults.clone() {
            self.after(at, Event::Strike(fault));
        }
        if self.n_troubles == 0 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.note(|| "all trouble is over".into());
        self.stage = Stage::Settling(self.now);
        for phone in &mut self.phones {
            phone.answered_at = None;
        }
    }

    fn look_settling(&mut self, since: Micros) {
        let lasts = self.now - since;
        let trouble = self.trouble();
        self.is_well = trouble.is_none();
        if trouble.is_some() {
            self.outcome.well_after = lasts;
        }
        let unanswered = self
            .phones
            .iter()
            .position(|phone| phone.answered_at.is_none());
        let answered = self.phones.iter().filter_map(|phone| phone.answered_at);
        self.outcome.answered_after = answered.max().map_or(0, |at| at - since);

        if lasts >= WELL_WITHIN {
            assert_eq!(trouble, None, "long after all trouble was over");
            assert_eq!(
                unanswered, None,
                "phone that was not answered after all trouble was over"
            );
        }
        if trouble.is_none() && unanswered.is_none() && lasts >= QUIET_AFTER {
            self.note(|| "nothing may break any more".into());
            self.stage = Stage::Steady(self.now + STEADY);
        }
    }

    fn must_be_well(&self) -> bool {
        matches!(self.stage, Stage::Steady(_) | Stage::Ending)
    }

    /// Says why not all phones are in one group, with one leader, and follow one plan that has everybody in it.
    fn trouble(&self) -> Option<String> {
        let term = self.phones[0].leader();
        let plan = self.phones[0].machine.as_ref()?.plan_in_force();
        for (i, phone) in self.phones.iter().enumerate() {
            let machine = phone.machine.as_ref()?;
            let members = machine
                .group()
                .roster()
                .map_or(0, |roster| roster.members.len());
            if members != self.phones.len() {
                return Some(format!("phone {i} knows of {members} members"));
            }
            if phone.leader().is_none() || phone.leader() != term {
                return Some(format!(
                    "phone {i} obeys {:?}, not {term:?}",
                    phone.leader()
                ));
            }
            let Some(mine) = machine.plan_in_force() else {
                return Some(format!("phone {i} follows no plan"));
            };
            if plan.is_none_or(|plan| plan.epoch != mine.epoch) {
                return Some(format!("phone {i} follows another plan: {}", mine.epoch));
            }
            if mine.phones().count() != self.phones.len() {
                return Some(format!("not everybody has a part in {}", mine.epoch));
            }
        }

        None
    }

    fn index(&self, peer: PeerId) -> Index {
        let index = self.phones.iter().position(|phone| phone.id == peer);

        index.expect("there are no others")
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:10.4} {}", self.now as f64 / 1e6, line());
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are too many")]
    fn note_in(&self, i: Index, event: &InEvent<Hidden, Vec<u8>>) {
        use proto::wire::Control;
        match event {
            InEvent::Ring(ring::InEvent::Control {
                message: Control::Standing(_) | Control::Step(_),
                ..
            }) => {}
            InEvent::Ring(ring::InEvent::Control { from, message }) => {
                let from = self.index(*from);
                let message = format!("{message:?}");
                self.note(|| format!("phone {i} hears {from}: {message:.60}"));
            }
            InEvent::Group(
                event @ (group::InEvent::Connected(peer) | group::InEvent::Disconnected(peer)),
            ) => {
                let is_connected = matches!(event, group::InEvent::Connected(_));
                let other = self.index(*peer);
                self.note(|| format!("phone {i} is connected to {other}: {is_connected}"));
            }
            InEvent::Ring(ring::InEvent::PhoneLost(peer)) => {
                self.note(|| format!("phone {i} cannot reach {}", self.index(*peer)));
            }
            _ => {}
        }
    }
}

impl Shell {
    fn new(scenario: &Scenario, i: Index) -> Self {
        Self {
            id: peer(i),
            machine: None,
            engine: Engine::new(peer(i), scenario.paces[i], scenario.n_layers()),
            inbox: None,
            life: 0,
            wake: None,
            disk: Saved::default().to_bytes(),
            in_force: None,
            idle_since: None,
            answered_at: None,
        }
    }

    /// Returns the term that it obeys.
    fn leader(&self) -> Option<Term> {
        self.machine.as_ref()?.group().leader()
    }

    /// Returns a term of its own, where it obeys nobody.
    fn leads(&self) -> Term {
        Term {
            number: 0,
            leader: self.id,
        }
    }
}

/// Reads what came as a shell would.
fn opened(from: PeerId, parcel: Parcel) -> InEvent<Hidden, Vec<u8>> {
    match parcel {
        Parcel::Join(bytes) => InEvent::Group(group::InEvent::Received {
            from,
            message: Box::new(decode_join(&bytes).expect("everybody is honest")),
        }),
        Parcel::Ring(packet) => InEvent::Ring(read(from, packet).expect("everybody is honest")),
        Parcel::Shard(frame) => InEvent::Shards(transfer::InEvent::Message {
            from,
            message: transfer::Message::decode(&frame[LENGTH_BYTES..])
                .expect("everybody is honest"),
        }),
    }
}

/// What phones would measure themselves with.
fn sample() -> Arc<Sample> {
    static SAMPLE: OnceLock<Arc<Sample>> = OnceLock::new();

    Arc::clone(SAMPLE.get_or_init(|| {
        let shape = Shape::preset("tiny-llama").expect("the preset exists");
        let model = Synth::new(shape, TensorType::Q4_0, 1).to_gguf();
        Arc::new(Sample::of(&model.expect("it fits memory")).expect("it can be cut"))
    }))
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).expect("worlds are short")
}

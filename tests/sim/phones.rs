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
mod outcome;
mod people;
mod scenario;
mod shell;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::Manifest;
use proto::group::{self, Command, Purpose};
use proto::phone::{InEvent, Phone};
use proto::{PeerId, transfer};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use outcome::Outcome;
pub use scenario::{Fault, Kind, Running, Scenario, Who};

use crate::errors::Errors;
use crate::group::network::{MS, Micros, SECOND};
use crate::group::watch::Watch;
use crate::ring::{manifest, peer};
use net::{Net, Told};
use people::Talk;
use shell::Shell;

/// Which phone: its place in the world.
pub type Index = usize;

/// How long phones may take until they are one group that runs the model for the first time.
const FORMED_WITHIN: Micros = 60 * SECOND;

/// How long all may take, once the last trouble is over, until everything is well again, and every phone was answered. Twice
/// the longest of 10,000 seeds, which took 22 s: a phone is dialled every 8 s, and a plan waits until nothing is written.
const WELL_WITHIN: Micros = 40 * SECOND;

/// From when on after the last trouble nothing may break any more: pings find out so late that a connection is dead.
const QUIET_AFTER: Micros = 25 * SECOND;

/// When after the last trouble people begin to let each other finish.
const POLITE_AFTER: Micros = 10 * SECOND;

/// How long nothing may break then.
const STEADY: Micros = 8 * SECOND;

/// How long a question may take to end, of whatever kind that is. Twice the longest of 10,000 seeds, which took 28 s.
const ENDS_WITHIN: Micros = 60 * SECOND;

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
}

//! The leader's part: asks every phone what it can do, has every link measured, and keeps it fresh.
//!
//! ```text
//!  phone:   asked ──► measured ─┐                     newcomer: the same, and its links
//!              └────► silent    │
//!                               ▼
//!  link:              waiting ──► being probed ──► known ──► refreshed, stalest first
//!                                       └────────► unreachable
//!
//!  all phones measured or silent, all links between them known: Done
//! ```
//!
//! All phones measure themselves at once, as each computes alone. Links are measured in turns: two
//! phones of which one is computing, or talking to a third, would measure that. So a phone takes
//! part in one measuring at a time, and of the group at most [`Config::probes_at_once`] run:
//! one where all share the air, as Wi-Fi does.
//!
//! A full measuring takes some 0.1 to 0.3 s of both phones: four phones have 12 ways, of which each phone
//! has 6. Afterwards links are refreshed by pings alone, one link a [`REFRESH_INTERVAL`], goodput by
//! what is sent anyway, and compute by what the work tells.
//!
//! What a phone says of itself is believed within bounds only ([`Profile::validate`]), and is soon
//! corrected by the work. A phone that says nothing, or nonsense, gets no work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::{ModelHash, Sample};

use super::message::{Depth, Found, Message, ProbeId};
use super::phone::{Profile, Way};
use crate::PeerId;
use crate::device::Snapshot;
use crate::plan::ActivationType;

/// How long the others wait for a phone that measures itself: seven times what it should take. One whose processor was
/// busy with something else took 16 s. One that is later still takes part in the next plan.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long measuring a link may take: a ping that is given up on, or three bursts of a link so
/// slow that the last is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// A link that carries less is none: an activation of 2 kB would take two seconds.
const GOODPUT_MIN_BYTES_PER_S: f64 = 1024.0;

/// How often one link is pinged once all are known: ten pings of 20 bytes a minute.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Links younger than this are not refreshed: what was measured minutes ago still holds for phones
/// on a table.
const FRESH: Duration = Duration::from_secs(300);

/// First number of the measurings of a survey that is made beside another: each would take more than a century to get
/// to the other's at one a second.
const PROBES_BESIDE: u32 = 1 << 31;

/// What a survey is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The model's sample.
    pub sample: Arc<Sample>,
    /// The model, as its manifest's hash names it.
    pub model: ModelHash,
    /// Numbers in the activation of a prefill chunk.
    pub chunk_numbers: u32,
    /// Their type on the wire.
    pub activation: ActivationType,
    /// Links that are measured at once, at most.
    pub probes_at_once: usize,
}

/// What happened.
#[derive(Debug)]
pub enum InEvent {
    /// A phone is in the group: the leader itself, too.
    Joined(PeerId),
    /// A phone has left the group, or is lost.
    Left(PeerId),
    /// A phone said something; so does the leader to itself.
    Message {
        /// Who.
        from: PeerId,
        /// What.
        message: Message,
    },
    /// The hops of a ring took so many times as long as the ways between its phones say.
    Hops {
        /// The ways, each once.
        ways: Vec<(PeerId, PeerId)>,
        /// How many times as long.
        ratio: f64,
    },
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum OutEvent {
    /// Say this to a phone, which may be the leader itself.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Everything is known that can be: [`Survey::phones`] and [`Survey::links`]. Comes again after
    /// somebody joined or left, or answered late.
    Done,
}

/// What is known of a phone.
#[derive(Debug, Clone, PartialEq)]
pub enum Knowledge {
    /// It was asked and has not answered yet.
    Asked,
    /// It has measured itself.
    Measured(Box<Profile>),
    /// It could not, or said what cannot be.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// It has not answered in time.
    Silent,
}

/// A phone of the group, as the leader knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Surveyed {
    /// What it can do.
    pub knowledge: Knowledge,
    /// How it is; `None` until it said so.
    pub snapshot: Option<Snapshot>,
    /// When it said last what it can do, or was asked.
    at: Instant,
}

/// What is known of the way from one phone to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LinkKnowledge {
    /// It was measured.
    Way(Way),
    /// The phones cannot talk to each other.
    Unreachable,
}

/// Two phones, in the order of the way from one to the other.
type Pair = (PeerId, PeerId);

/// Asks, listens, and keeps what it hears.
#[derive(Debug)]
pub struct Survey {
    config: Config,
    sample: ModelHash,
    phones: BTreeMap<PeerId, Surveyed>,
    links: BTreeMap<Pair, (LinkKnowledge, Instant)>,
    probing: BTreeMap<ProbeId, Probing>,
    n_probes: u32,
    /// Whether [`OutEvent::Done`] was said of what is known.
    is_done: bool,
    refresh_at: Option<Instant>,
    out: VecDeque<OutEvent>,
}

/// A link that is being measured.
#[derive(Debug, Clone, Copy)]
struct Probing {
    pair: Pair,
    depth: Depth,
    deadline: Instant,
}

impl Survey {
    /// Makes a survey of nobody yet.
    pub fn new(config: Config) -> Self {
        Self {
            sample: config.sample.hash(),
            config,
            phones: BTreeMap::new(),
            links: BTreeMap::new(),
            probing: BTreeMap::new(),
            n_probes: 0,
            is_done: false,
            refresh_at: None,
            out: VecDeque::new(),
        }
    }

    /// Makes a survey whose measurings of links are told from those of another, made with [`Self::new`] on the same phone.
    pub fn beside_another(config: Config) -> Self {
        Self {
            n_probes: PROBES_BESIDE,
            ..Self::new(config)
        }
    }

    /// Learns what another survey knows, as far as it is fresh: of phones that are not known here, what they can do, if
    /// that was measured with the same sample, and the ways between them.
    ///
    /// Only of `phones`, which join next.
    pub fn learn(&mut self, other: &Self, phones: &BTreeSet<PeerId>, now: Instant) {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        let fresh = other.links.iter().filter(|(_, (_, at))| is_fresh(*at));
        let fresh = fresh.filter(|((from, to), _)| phones.contains(from) && phones.contains(to));
        for (&pair, &link) in fresh {
            self.links.entry(pair).or_insert(link);
        }
        if other.sample != self.sample {
            return;
        }

        let is_known = |phone: &Surveyed| {
            matches!(phone.knowledge, Knowledge::Measured(_)) && is_fresh(phone.at)
        };
        let known = other.phones.iter().filter(|(_, phone)| is_known(phone));
        let known = known.filter(|(id, _)| phones.contains(id));
        for (&id, phone) in known {
            self.phones.entry(id).or_insert_with(|| phone.clone());
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: InEvent, now: Instant) {
        match event {
            InEvent::Joined(phone) => self.joined(phone, now),
            InEvent::Left(phone) => self.left(phone),
            InEvent::Message { from, message } => self.hear(from, message, now),
            InEvent::Hops { ways, ratio } => {
                for way in ways {
                    self.hopped(way, ratio);
                }
            }
        }

        self.go_on(now);
    }

    /// Gives up on what takes too long, and refreshes what is old.
    pub fn handle_timeout(&mut self, now: Instant) {
        for phone in self.phones.values_mut() {
            if phone.knowledge == Knowledge::Asked && phone.at + MEASURE_TIMEOUT <= now {
                phone.knowledge = Knowledge::Silent;
            }
        }
        let is_late = |probing: &Probing| probing.deadline <= now;
        let late = self.probing.iter().filter(|(_, probing)| is_late(probing));
        for probe in late.map(|(&probe, _)| probe).collect::<Vec<_>>() {
            self.found(probe, Found::Unreachable, now);
        }

        self.go_on(now);
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh(now);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.phones.values();
        let asked = asked.filter(|phone| phone.knowledge == Knowledge::Asked);
        let answers = asked.map(|phone| phone.at + MEASURE_TIMEOUT);
        let probes = self.probing.values().map(|probing| probing.deadline);

        answers.chain(probes).chain(self.refresh_at).min()
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.out.is_empty()
    }

    /// Returns the next thing that is wanted.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.out.pop_front()
    }

    /// Returns what is known of every phone, its figures as old as they are at `now`.
    pub fn phones(&self, now: Instant) -> BTreeMap<PeerId, Surveyed> {
        let aged = |phone: &Surveyed| {
            let mut phone = phone.clone();
            let age = now.saturating_duration_since(phone.at);
            if let Knowledge::Measured(profile) = &mut phone.knowledge {
                **profile = profile.as_ref().clone().aged(age);
            }
            phone
        };

        self.phones.iter().map(|(&id, p)| (id, aged(p))).collect()
    }

    /// Returns what is known of every way, its figures as old as they are at `now`.
    pub fn links(&self, now: Instant) -> BTreeMap<(PeerId, PeerId), LinkKnowledge> {
        let aged = |&(link, at): &(LinkKnowledge, Instant)| match link {
            LinkKnowledge::Unreachable => LinkKnowledge::Unreachable,
            LinkKnowledge::Way(way) => {
                LinkKnowledge::Way(way.aged(now.saturating_duration_since(at)))
            }
        };

        let links = self.links.iter();
        links.map(|(&pair, link)| (pair, aged(link))).collect()
    }

    /// Returns whether everything is known that can be.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns what phones are measured with.
    pub fn sample(&self) -> ModelHash {
        self.sample
    }

    /// Returns whether a phone was asked what it can do and has not answered.
    pub fn waits_for(&self, phone: PeerId) -> bool {
        let phone = self.phones.get(&phone);

        phone.is_some_and(|phone| phone.knowledge == Knowledge::Asked)
    }

    /// Returns whether a phone was given up on, and has not answered since.
    pub fn is_silent(&self, phone: PeerId) -> bool {
        let phone = self.phones.get(&phone);

        phone.is_some_and(|phone| phone.knowledge == Knowledge::Silent)
    }

    /// Returns why a phone could not be measured, if it said so.
    pub fn failure_of(&self, phone: PeerId) -> Option<&str> {
        let phone = self.phones.get(&phone)?;

        match &phone.knowledge {
            Knowledge::Failed { reason } => Some(reason),
            Knowledge::Asked | Knowledge::Measured(_) | Knowledge::Silent => None,
        }
    }

    /// Returns the phones of which it is not known yet what they can do, or what the ways to others are.
    pub fn unknown_phones(&self) -> BTreeSet<PeerId> {
        let asked = self.phones.keys().copied();
        let asked = asked.filter(|&phone| self.waits_for(phone));
        let probing = self.probing.values();
        let probing = probing.filter(|probing| probing.depth != Depth::Rtt);
        let ways = self.unknown().chain(probing.map(|probing| probing.pair));

        asked
            .chain(ways.flat_map(|(from, to)| [from, to]))
            .collect()
    }

    fn joined(&mut self, phone: PeerId, now: Instant) {
        if self.phones.contains_key(&phone) {
            return;
        }
        let asked = Surveyed {
            knowledge: Knowledge::Asked,
            snapshot: None,
            at: now,
        };
        self.phones.insert(phone, asked);
        self.is_done = false;

        let sample = Arc::clone(&self.config.sample);
        let model = self.config.model;
        self.send(phone, Message::Measure { sample, model });
    }

    fn left(&mut self, phone: PeerId) {
        if self.phones.remove(&phone).is_none() {
            return;
        }
        let is_of = |&(from, to): &Pair| from == phone || to == phone;
        self.links.retain(|pair, _| !is_of(pair));
        self.probing.retain(|_, probing| !is_of(&probing.pair));
        self.is_done = false;
    }

    fn hear(&mut self, from: PeerId, message: Message, now: Instant) {
        let sample = self.sample;
        let Some(phone) = self.phones.get_mut(&from) else {
            return;
        };

        match message {
            Message::Measured {
                mut profile,
                snapshot,
            } => {
                profile.pace = profile.pace.bounded();
                if phone.knowledge == Knowledge::Silent {
                    self.is_done = false;
                }
                phone.snapshot = Some(snapshot.bounded());
                phone.at = now;
                phone.knowledge = match profile.validate(sample) {
                    Ok(()) => Knowledge::Measured(profile),
                    Err(error) => Knowledge::Failed {
                        reason: error.to_string(),
                    },
                };
            }
            Message::NotMeasured { reason } => {
                let reason = crate::text::clean(&reason, REASON_BYTES_MAX);
                phone.knowledge = Knowledge::Failed { reason };
            }
            Message::Pace { model, pace } if model == self.config.model => {
                if let Knowledge::Measured(profile) = &mut phone.knowledge {
                    profile.pace = pace.bounded();
                }
            }
            Message::Probed { probe, found } => {
                let asked = self.probing.get(&probe);
                if asked.is_some_and(|probing| probing.pair.0 == from) {
                    self.found(probe, found, now);
                }
            }
            Message::Received {
                from: sender,
                n_bytes,
                time,
            } => self.transferred((sender, from), n_bytes, time, now),
            // Of another model, and words between members.
            Message::Pace { .. }
            | Message::Measure { .. }
            | Message::Probe { .. }
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::Arrived { .. } => {}
        }
    }

    fn found(&mut self, probe: ProbeId, found: Found, now: Instant) {
        let Some(Probing { pair, depth, .. }) = self.probing.remove(&probe) else {
            return;
        };
        let known = self.links.get(&pair).map(|&(link, _)| link);

        let link = match (found, known) {
            (Found::Unreachable, _) => LinkKnowledge::Unreachable,
            (Found::Way { rtt_s, .. }, _) if rtt_s.value() > PROBE_TIMEOUT.as_secs_f64() => {
                LinkKnowledge::Unreachable
            }
            (
                Found::Way {
                    goodput_bytes_per_s: Some(goodput),
                    ..
                },
                _,
            ) if goodput.value() < GOODPUT_MIN_BYTES_PER_S => LinkKnowledge::Unreachable,
            (
                Found::Way {
                    rtt_s,
                    goodput_bytes_per_s: Some(goodput),
                },
                _,
            ) => LinkKnowledge::Way(Way {
                rtt_s,
                goodput_bytes_per_s: goodput,
            }),
            (Found::Way { rtt_s, .. }, Some(LinkKnowledge::Way(way))) if depth == Depth::Rtt => {
                LinkKnowledge::Way(Way {
                    rtt_s: way.rtt_s.after(rtt_s.value()),
                    ..way
                })
            }
            // It answers pings, and nothing larger arrives.
            (Found::Way { .. }, _) => LinkKnowledge::Unreachable,
        };
        self.links.insert(pair, (link, now));
    }

    fn transferred(&mut self, pair: Pair, bytes: u64, time: Duration, now: Instant) {
        let Some((LinkKnowledge::Way(way), at)) = self.links.get_mut(&pair) else {
            return;
        };
        let rate = bytes as f64 / time.as_secs_f64();
        // Its round trip has not been measured: that figure keeps its age.
        way.rtt_s = way.rtt_s.aged(now.saturating_duration_since(*at));
        way.goodput_bytes_per_s = way.goodput_bytes_per_s.after(rate);
        *at = now;
    }

    /// Corrects a way by what activations took on it. Most of a token's hop is delay, so that is what is corrected; and
    /// the figure keeps its age, so that it is pinged again all the same.
    fn hopped(&mut self, pair: Pair, ratio: f64) {
        if let Some((LinkKnowledge::Way(way), _)) = self.links.get_mut(&pair) {
            let (rtt_s, age) = (way.rtt_s.value(), way.rtt_s.age());
            way.rtt_s = way.rtt_s.after(rtt_s * ratio).aged(age);
        }
    }

    /// Starts what can be started, and says so when all is known.
    fn go_on(&mut self, now: Instant) {
        while self.probing.len() < self.config.probes_at_once.max(1) {
            let Some(pair) = self.next_unknown() else {
                break;
            };
            let depth = Depth::Full {
                n_numbers: self.config.chunk_numbers,
                activation: self.config.activation,
            };
            self.probe(pair, depth, now);
        }

        let is_waiting = |phone: &Surveyed| phone.knowledge == Knowledge::Asked;
        let all_known = !self.phones.values().any(is_waiting) && self.unknown().next().is_none();
        let probes_full = |probing: &Probing| probing.depth != Depth::Rtt;
        if all_known && !self.probing.values().any(probes_full) && !self.is_done {
            self.is_done = true;
            self.refresh_at = Some(now + REFRESH_INTERVAL);
            self.out.push_back(OutEvent::Done);
        }
    }

    /// Pings along the stalest way, if there is one that is stale.
    fn refresh(&mut self, now: Instant) {
        self.refresh_at = Some(now + REFRESH_INTERVAL);
        if !self.probing.is_empty() {
            return;
        }
        let stale = self.links.iter().filter(|(_, (_, at))| *at + FRESH <= now);
        let stalest = stale.min_by_key(|(_, (_, at))| *at);
        let Some((&pair, &(link, _))) = stalest else {
            return;
        };

        match link {
            LinkKnowledge::Way(_) => self.probe(pair, Depth::Rtt, now),
            // Perhaps they can talk by now: forgotten, it is measured anew.
            LinkKnowledge::Unreachable => {
                self.links.remove(&pair);
                self.is_done = false;
                self.go_on(now);
            }
        }
    }

    fn probe(&mut self, pair: Pair, depth: Depth, now: Instant) {
        let probe = ProbeId(self.n_probes);
        self.n_probes = self.n_probes.wrapping_add(1);
        let deadline = now + PROBE_TIMEOUT;
        self.probing.insert(
            probe,
            Probing {
                pair,
                depth,
                deadline,
            },
        );

        let (from, to) = pair;
        self.send(from, Message::Probe { probe, to, depth });
    }

    /// Returns a way that is not known yet, between phones that nothing else is asked of.
    fn next_unknown(&self) -> Option<Pair> {
        let is_busy = |phone: PeerId| {
            let mut probing = self.probing.values();
            probing.any(|Probing { pair, .. }| pair.0 == phone || pair.1 == phone)
        };

        self.unknown()
            .find(|&(from, to)| !is_busy(from) && !is_busy(to))
    }

    /// Returns the ways between measured phones that are neither known nor being measured.
    fn unknown(&self) -> impl Iterator<Item = Pair> + '_ {
        let is_measured = |phone: &Surveyed| matches!(phone.knowledge, Knowledge::Measured(_));
        let measured = self.phones.iter().filter(move |(_, p)| is_measured(p));
        let measured = measured.map(|(&id, _)| id).collect::<Vec<_>>();
        let others = measured.clone();
        let pairs = measured
            .into_iter()
            .flat_map(move |from| others.clone().into_iter().map(move |to| (from, to)));

        pairs.filter(|pair| {
            let mut probing = self.probing.values();
            pair.0 != pair.1
                && !self.links.contains_key(pair)
                && !probing.any(|probing| probing.pair == *pair)
        })
    }

    fn send(&mut self, to: PeerId, message: Message) {
        self.out.push_back(OutEvent::Send { to, message });
    }
}

/// Bytes of another phone's reason that are kept: a line on a screen, twice.
const REASON_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{SNAPSHOT, figure, profile, sample};
    use super::*;
    use crate::testing::{ANNA, BELA, CARL};

    const DORA: PeerId = PeerId([0xdd; 32]);

    #[test]
    fn two_phones_are_known_after_one_round() {
        let mut world = World::new(1);
        world.join([ANNA, BELA]);

        world.run();

        assert_eq!(world.n_done, 1);
        let phones = world.survey.phones(world.now);
        let is_measured = |phone: &Surveyed| matches!(phone.knowledge, Knowledge::Measured(_));
        assert!(phones.values().all(is_measured));
        assert_eq!(world.survey.links(world.now).len(), 2);
    }

    /// A phone takes part in one measuring at a time, whatever is allowed at once.
    #[test]
    fn no_phone_is_measured_twice_at_once() {
        for probes_at_once in [1, 2, 5] {
            let mut world = World::new(probes_at_once);
            world.join([ANNA, BELA, CARL, DORA]);

            world.run();

            assert_eq!(world.survey.links(world.now).len(), 12);
            assert!(world.most_at_once <= probes_at_once.min(2));
            assert_eq!(world.most_at_once, probes_at_once.min(2));
        }
    }

    #[test]
    fn a_silent_phone_holds_nobody_up_for_ever() {
        let mut world = World::new(1);
        world.silent.insert(CARL);
        world.join([ANNA, BELA, CARL]);

        world.run();

        assert_eq!(world.n_done, 1);
        assert_eq!(
            world.survey.phones(world.now)[&CARL].knowledge,
            Knowledge::Silent
        );
        assert_eq!(world.survey.links(world.now).len(), 2);
        assert!(world.now - world.start < MEASURE_TIMEOUT + PROBE_TIMEOUT);
    }

    #[test]
    fn who_answers_late_is_known_all_the_same() {
        let mut world = World::new(1);
        world.silent.insert(CARL);
        world.join([ANNA, BELA, CARL]);
        world.run();
        assert!(world.survey.is_silent(CARL));

        world.silent.clear();
        let late = InEvent::Message {
            from: CARL,
            message: measured(),
        };
        world.survey.handle(late, world.now);
        world.run();

        assert!(!world.survey.is_silent(CARL));
        assert_eq!(world.n_done, 2);
        assert_eq!(world.survey.links(world.now).len(), 6);
    }

    #[test]
    fn phones_that_cannot_talk_are_told_apart() {
        let mut world = World::new(1);
        world.cut_off.insert((BELA, CARL));
        world.join([ANNA, BELA, CARL]);

        world.run();

        let links = world.survey.links(world.now);
        assert_eq!(links[&(BELA, CARL)], LinkKnowledge::Unreachable);
        assert!(matches!(links[&(CARL, BELA)], LinkKnowledge::Way(_)));
    }

    #[test]
    fn a_phone_that_leaves_takes_its_figures_along() {
        let mut world = World::new(1);
        world.join([ANNA, BELA, CARL]);
        for _ in 0..4 {
            world.answer_one();
        }

        world.survey.handle(InEvent::Left(CARL), world.now);
        world.run();

        assert_eq!(world.survey.phones(world.now).len(), 2);
        let links = world.survey.links(world.now);
        assert!(links.keys().all(|&(a, b)| a != CARL && b != CARL));
        assert_eq!(links.len(), 2);
        assert!(world.survey.is_done());
    }

    #[test]
    fn a_newcomer_is_measured_alone() {
        let mut world = World::new(1);
        world.join([ANNA, BELA]);
        world.run();
        let n_asked = world.n_asked;

        world.join([CARL]);
        world.run();

        assert_eq!(world.n_done, 2);
        assert_eq!(world.n_asked - n_asked, 1 + 4); // itself, and its four ways
    }

    #[test]
    fn a_profile_of_another_model_is_not_believed() {
        let mut world = World::new(1);
        world.join([ANNA]);
        let mut other = profile(0.001);
        other.sample = ModelHash::of(b"another");
        world.queue.clear();
        let message = Message::Measured {
            profile: Box::new(other),
            snapshot: SNAPSHOT,
        };

        let event = InEvent::Message {
            from: ANNA,
            message,
        };
        world.survey.handle(event, world.now);

        let phones = world.survey.phones(world.now);
        assert!(matches!(phones[&ANNA].knowledge, Knowledge::Failed { .. }));
        assert!(world.survey.is_done());
    }

    #[test]
    fn nobody_answers_for_another() {
        let mut world = World::new(1);
        world.join([ANNA, BELA, CARL]);
        for _ in 0..3 {
            world.answer_one(); // all have measured themselves: the first way is asked for
        }
        let unreachable = Message::Probed {
            probe: ProbeId(0),
            found: Found::Unreachable,
        };
        let lie = InEvent::Message {
            from: CARL,
            message: unreachable,
        };

        world.survey.handle(lie, world.now);
        world.run();

        let links = world.survey.links(world.now);
        assert!(links.values().all(|l| matches!(l, LinkKnowledge::Way(_))));
    }

    #[test]
    fn old_links_are_pinged_and_figures_say_how_old_they_are() {
        let mut world = World::new(1);
        world.join([ANNA, BELA]);
        world.run();
        let measured = world.now;

        while world.now < measured + FRESH + 3 * REFRESH_INTERVAL {
            let next = world.survey.poll_timeout().expect("it refreshes");
            let LinkKnowledge::Way(way) = world.survey.links(next)[&(BELA, ANNA)] else {
                panic!("they can talk");
            };
            assert!(way.rtt_s.age() <= FRESH + 3 * REFRESH_INTERVAL);
            world.now = next;
            world.survey.handle_timeout(next);
            world.collect();
            while world.answer_one() {}
        }

        assert_eq!(world.n_pinged, 2);
        let LinkKnowledge::Way(way) = world.survey.links(world.now)[&(ANNA, BELA)] else {
            panic!("they can talk");
        };
        // Pinged again; goodput was not measured and is as old as it is.
        assert!(way.rtt_s.age() < FRESH);
        assert!(way.goodput_bytes_per_s.value() > 0.0);
    }

    #[test]
    fn the_work_tells_what_a_link_carries() {
        let mut world = World::new(1);
        world.join([ANNA, BELA]);
        world.run();

        for _ in 0..40 {
            let message = Message::Received {
                from: ANNA,
                n_bytes: 1 << 20,
                time: Duration::from_millis(500),
            };
            let event = InEvent::Message {
                from: BELA,
                message,
            };
            world.survey.handle(event, world.now);
        }

        let LinkKnowledge::Way(way) = world.survey.links(world.now)[&(ANNA, BELA)] else {
            panic!("they can talk");
        };
        let wanted = (1 << 20) as f64 / 0.5;
        assert!((way.goodput_bytes_per_s.value() / wanted - 1.0).abs() < 0.05);
    }

    #[test]
    fn the_work_tells_what_hops_take() {
        let mut world = World::new(1);
        world.join([ANNA, BELA, CARL]);
        world.run();
        let rtt_s = |world: &World, pair| match world.survey.links(world.now)[&pair] {
            LinkKnowledge::Way(way) => way.rtt_s.value(),
            LinkKnowledge::Unreachable => panic!("they can talk"),
        };
        let before = rtt_s(&world, (ANNA, BELA));

        for _ in 0..40 {
            // What is left of the difference, as an answer would show it.
            let ratio = 1.5 * before / rtt_s(&world, (ANNA, BELA));
            let ways = vec![(ANNA, BELA), (BELA, ANNA)];
            world
                .survey
                .handle(InEvent::Hops { ways, ratio }, world.now);
        }

        assert!((rtt_s(&world, (BELA, ANNA)) / before - 1.5).abs() < 0.05);
        assert_eq!(rtt_s(&world, (ANNA, CARL)), before);
    }

    proptest! {
        /// Whoever comes, goes, keeps silent or is cut off: it ends, and no link is left of anybody
        /// who is not there.
        #[test]
        fn every_survey_ends(
            steps in prop::collection::vec((0..3u8, 0..4usize), 0..60),
            silent in 0..16u8,
            at_once in 1..4usize,
        ) {
            let all = [ANNA, BELA, CARL, DORA];
            let mut world = World::new(at_once);
            world.silent = (0..4).filter(|i| silent >> i & 1 == 1).map(|i| all[i]).collect();
            let mut here = BTreeSet::new();

            for (what, who) in steps {
                let phone = all[who];
                match what {
                    0 => { here.insert(phone); world.join([phone]); }
                    1 => {
                        here.remove(&phone);
                        world.survey.handle(InEvent::Left(phone), world.now);
                        world.collect();
                    }
                    _ => { world.answer_one(); }
                }
            }
            world.run();

            prop_assert!(here.is_empty() || world.survey.is_done());
            let phones = world.survey.phones(world.now);
            prop_assert_eq!(phones.keys().copied().collect::<BTreeSet<_>>(), here.clone());
            for ((from, to), _) in world.survey.links(world.now) {
                prop_assert!(here.contains(&from) && here.contains(&to));
            }
        }
    }

    /// Phones that answer when they are asked, one after the other.
    struct World {
        survey: Survey,
        start: Instant,
        now: Instant,
        queue: VecDeque<(PeerId, Message)>,
        silent: BTreeSet<PeerId>,
        cut_off: BTreeSet<Pair>,
        n_done: u32,
        n_asked: u32,
        n_pinged: u32,
        most_at_once: usize,
    }

    fn measured() -> Message {
        Message::Measured {
            profile: Box::new(profile(0.001)),
            snapshot: SNAPSHOT,
        }
    }

    impl World {
        fn new(probes_at_once: usize) -> Self {
            let start = Instant::now();
            let config = Config {
                sample: Arc::new(sample()),
                model: ModelHash::of(b"a model"),
                chunk_numbers: 128 * 64,
                activation: ActivationType::F32,
                probes_at_once,
            };

            Self {
                survey: Survey::new(config),
                start,
                now: start,
                queue: VecDeque::new(),
                silent: BTreeSet::new(),
                cut_off: BTreeSet::new(),
                n_done: 0,
                n_asked: 0,
                n_pinged: 0,
                most_at_once: 0,
            }
        }

        fn join<const N: usize>(&mut self, phones: [PeerId; N]) {
            for phone in phones {
                self.survey.handle(InEvent::Joined(phone), self.now);
            }
            self.collect();
        }

        /// Lets phones answer, and time pass, until all is known.
        fn run(&mut self) {
            self.collect();
            loop {
                if self.answer_one() {
                    continue;
                }
                if self.survey.is_done() {
                    return;
                }
                match self.survey.poll_timeout() {
                    Some(at) => self.now = self.now.max(at),
                    None => return,
                }
                self.survey.handle_timeout(self.now);
                self.collect();
            }
        }

        /// Lets the phone that was asked first answer.
        fn answer_one(&mut self) -> bool {
            let Some((phone, order)) = self.queue.pop_front() else {
                return false;
            };
            self.now += Duration::from_millis(300);
            if self.silent.contains(&phone) {
                return true;
            }

            let message = match order {
                Message::Measure { .. } => measured(),
                Message::Probe { probe, to, depth } => {
                    let found = if self.cut_off.contains(&(phone, to)) {
                        Found::Unreachable
                    } else {
                        Found::Way {
                            rtt_s: figure(0.01),
                            goodput_bytes_per_s: (depth != Depth::Rtt).then_some(figure(1e7)),
                        }
                    };
                    Message::Probed { probe, found }
                }
                other => panic!("no order: {other:?}"),
            };
            let event = InEvent::Message {
                from: phone,
                message,
            };
            self.survey.handle(event, self.now);
            self.collect();

            true
        }

        fn collect(&mut self) {
            while let Some(event) = self.survey.poll() {
                match event {
                    OutEvent::Done => self.n_done += 1,
                    OutEvent::Send { to, message } => {
                        self.n_asked += 1;
                        if let Message::Probe {
                            depth: Depth::Rtt, ..
                        } = message
                        {
                            self.n_pinged += 1;
                        }
                        self.queue.push_back((to, message));
                    }
                }
            }
            self.check();
        }

        fn check(&mut self) {
            let mut busy = BTreeSet::new();
            for Probing { pair, .. } in self.survey.probing.values() {
                assert!(busy.insert(pair.0) && busy.insert(pair.1), "{pair:?}");
            }
            self.most_at_once = self.most_at_once.max(self.survey.probing.len());
        }
    }
}

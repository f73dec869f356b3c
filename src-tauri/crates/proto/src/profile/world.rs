//! A survey among phones that answer as they do, over links that delay and carry as they do: what
//! is found must be what is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::ModelHash;

use super::testing::{SNAPSHOT, profile, sample};
use super::{
    BurstFrame, Knowledge, LinkKnowledge, Message, Profile, Respondent, Survey, respondent, survey,
};
use crate::PeerId;
use crate::plan::ActivationType;

/// Numbers in the activation of a chunk: 128 tokens of a model that is 2,048 wide.
const CHUNK_NUMBERS: u32 = 128 * 2048;

/// What a phone needs to measure itself.
const MEASURING: Duration = Duration::from_millis(1500);

/// The model that is measured.
const MODEL: ModelHash = ModelHash([7; 32]);

/// What a link is.
#[derive(Debug, Clone, Copy)]
struct Link {
    rtt: Duration,
    bytes_per_s: f64,
}

#[test]
fn what_is_found_is_what_is() {
    let links = |from: u8, to: u8| Link {
        rtt: Duration::from_millis(2 + u64::from(from + to) * 3),
        bytes_per_s: 5e6 * f64::from(1 + from) * f64::from(1 + to),
    };
    let mut world = World::new(4, links);

    world.run();

    let found = world.survey.links(world.now);
    assert_eq!(found.len(), 12);
    for ((from, to), link) in found {
        let is = links(from.0[0], to.0[0]);
        let LinkKnowledge::Way(way) = link else {
            panic!("all can talk");
        };
        let rtt_off = way.rtt_s.value() / is.rtt.as_secs_f64() - 1.0;
        let goodput_off = way.goodput_bytes_per_s.value() / is.bytes_per_s - 1.0;
        assert!(rtt_off.abs() < 0.01, "{from} to {to}: {way:?} is {is:?}");
        assert!(
            goodput_off.abs() < 0.02,
            "{from} to {to}: {way:?} is {is:?}"
        );
    }
}

/// Measuring four phones on Wi-Fi in one room takes little of anybody's time.
#[test]
fn a_group_is_known_in_seconds() {
    let wifi = |_, _| Link {
        rtt: Duration::from_millis(5),
        bytes_per_s: 20e6,
    };
    let mut world = World::new(4, wifi);

    world.run();

    let whole = world.now - world.start;
    assert!(whole < Duration::from_secs(6), "{whole:?}");
    for (phone, busy) in &world.busy {
        assert!(*busy < Duration::from_secs(3), "{phone}: {busy:?}");
    }
}

/// What a member orders, which may want a forecast, is done beside what the leader orders: it costs some seconds, and
/// changes nothing that the leader knows.
#[test]
fn a_member_cannot_play_the_leader() {
    let wifi = |_, _| Link {
        rtt: Duration::from_millis(5),
        bytes_per_s: 20e6,
    };
    let mut world = World::new(3, wifi);
    let sample = Arc::new(sample());
    world.send(
        id(2),
        id(1),
        Message::Measure {
            sample,
            model: MODEL,
        },
    );

    world.run();

    let phones = world.survey.phones(world.now);
    let is_measured = |knowledge: &Knowledge| matches!(knowledge, Knowledge::Measured(_));
    assert!(phones.values().all(|phone| is_measured(&phone.knowledge)));
    assert!((3..=4).contains(&world.n_measured));
}

fn id(index: u8) -> PeerId {
    PeerId([index; 32])
}

/// What happens at some time.
enum Arrival {
    Message { from: PeerId, message: Message },
    Burst { from: PeerId, frame: BurstFrame },
    Measured(Box<Profile>),
}

/// Phones, of which the first leads.
struct World<L> {
    survey: Survey,
    phones: BTreeMap<PeerId, Respondent>,
    links: L,
    start: Instant,
    now: Instant,
    /// By time and order.
    arrivals: BTreeMap<(Instant, u64), (PeerId, Arrival)>,
    n_arrivals: u64,
    n_measured: u32,
    /// How long each phone measured, or was measured with.
    busy: BTreeMap<PeerId, Duration>,
    /// Who is told to probe whom, since when.
    probing: BTreeMap<PeerId, (PeerId, Instant)>,
    is_done: bool,
}

impl<L: Fn(u8, u8) -> Link> World<L> {
    fn new(n_phones: u8, links: L) -> Self {
        let start = Instant::now();
        let config = survey::Config {
            sample: Arc::new(sample()),
            model: MODEL,
            chunk_numbers: CHUNK_NUMBERS,
            activation: ActivationType::F32,
            probes_at_once: 1,
        };
        let mut world = Self {
            survey: Survey::new(config),
            phones: BTreeMap::new(),
            links,
            start,
            now: start,
            arrivals: BTreeMap::new(),
            n_arrivals: 0,
            n_measured: 0,
            busy: BTreeMap::new(),
            probing: BTreeMap::new(),
            is_done: false,
        };

        for index in 0..n_phones {
            let mut phone = Respondent::new();
            phone.handle(respondent::InEvent::Leader(id(0)), start);
            world.phones.insert(id(index), phone);
            world
                .survey
                .handle(survey::InEvent::Joined(id(index)), start);
        }
        world.act();

        world
    }

    fn run(&mut self) {
        while !self.is_done {
            let timeouts = self.phones.values().filter_map(Respondent::poll_timeout);
            let timeout = timeouts.chain(self.survey.poll_timeout()).min();
            let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at);
            let next = timeout.into_iter().chain(arrival).min();
            self.now = next.expect("it does not stand still before it is done");

            if arrival == Some(self.now) {
                let (_, (to, arrival)) = self.arrivals.pop_first().unwrap();
                self.arrive(to, arrival);
            } else {
                self.survey.handle_timeout(self.now);
                for phone in self.phones.values_mut() {
                    phone.handle_timeout(self.now);
                }
            }
            self.act();
        }
    }

    fn arrive(&mut self, to: PeerId, arrival: Arrival) {
        let event = match arrival {
            Arrival::Burst { from, frame } => respondent::InEvent::Burst { from, frame },
            Arrival::Measured(profile) => respondent::InEvent::Measured {
                profile,
                snapshot: SNAPSHOT,
            },
            Arrival::Message { from, message } => {
                self.note(from, &message);
                if to == id(0) {
                    let message = message.clone();
                    let event = survey::InEvent::Message { from, message };
                    self.survey.handle(event, self.now);
                }
                respondent::InEvent::Message { from, message }
            }
        };

        let phone = self.phones.get_mut(&to).unwrap();
        phone.handle(event, self.now);
    }

    fn note(&mut self, from: PeerId, message: &Message) {
        if let Message::Probed { .. } = message {
            let (other, since) = self.probing.remove(&from).unwrap();
            for phone in [from, other] {
                *self.busy.entry(phone).or_default() += self.now - since;
            }
        }
    }

    /// Carries out what everybody wants.
    fn act(&mut self) {
        while let Some(event) = self.survey.poll() {
            match event {
                survey::OutEvent::Done => self.is_done = true,
                survey::OutEvent::Send { to, message } => {
                    if let Message::Probe { to: other, .. } = message {
                        self.probing.insert(to, (other, self.now));
                    }
                    self.send(id(0), to, message);
                }
            }
        }
        for me in self.phones.keys().copied().collect::<Vec<_>>() {
            while let Some(event) = self.phones.get_mut(&me).unwrap().poll() {
                self.act_for(me, event);
            }
        }
    }

    fn act_for(&mut self, me: PeerId, event: respondent::OutEvent) {
        match event {
            respondent::OutEvent::Send { to, message } => self.send(me, to, message),
            respondent::OutEvent::Measure(_) => {
                self.n_measured += 1;
                *self.busy.entry(me).or_default() += MEASURING;
                let measured = Arrival::Measured(Box::new(profile(0.001)));
                self.schedule(MEASURING, me, measured);
            }
            respondent::OutEvent::SendBurst {
                to,
                frame,
                n_frames,
                n_numbers,
                activation,
            } => {
                let link = (self.links)(me.0[0], to.0[0]);
                let frame_bytes = f64::from(n_numbers) * activation.bytes() as f64;
                for i in 1..=n_frames {
                    let carried = frame_bytes * f64::from(i) / link.bytes_per_s;
                    let after = link.rtt / 2 + Duration::from_secs_f64(carried);
                    let more = i < n_frames;
                    let frame = BurstFrame { more, ..frame };
                    self.schedule(after, to, Arrival::Burst { from: me, frame });
                }
            }
        }
    }

    fn send(&mut self, from: PeerId, to: PeerId, message: Message) {
        let after = if from == to {
            Duration::ZERO
        } else {
            (self.links)(from.0[0], to.0[0]).rtt / 2
        };

        self.schedule(after, to, Arrival::Message { from, message });
    }

    fn schedule(&mut self, after: Duration, to: PeerId, arrival: Arrival) {
        self.n_arrivals += 1;
        let at = (self.now + after, self.n_arrivals);
        self.arrivals.insert(at, (to, arrival));
    }
}

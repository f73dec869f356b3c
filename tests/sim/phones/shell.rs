//! One phone, and a fake of what carries out its decisions: engine, disk, and the way to the network.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gguf_tools::{Sample, Shape, Synth, TensorType};
use proto::group::message::{decode as decode_join, encode as encode_join};
use proto::group::{self, Address, Command, Name, Rank, Saved, Term};
use proto::phone::{InEvent, OutEvent, Phone};
use proto::planning::{Rule, Work};
use proto::profile::Costs;
use proto::ring::{self, Notice};
use proto::standing::{HeldModel, Trouble};
use proto::transfer;
use proto::wire::LENGTH_BYTES;
use proto::{Epoch, ModelId, PeerId, supply};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::net::{Parcel, Told};
use super::{Event, Index, Running, STARTED_AGAIN_AFTER, Scenario, World};
use crate::group::network::{MS, Micros, SECOND};
use crate::ring::{Deed, Engine, Hidden, Job, peer, read};

/// What the phones run.
const MODEL: ModelId = ModelId([1; 32]);

/// One phone, and a fake of what carries out its decisions.
pub(super) struct Shell {
    pub(super) id: PeerId,
    /// `None` while it is off.
    pub(super) machine: Option<Phone<Hidden, Vec<u8>>>,
    pub(super) engine: Engine,
    /// What happened while it was asleep.
    pub(super) inbox: Option<Vec<Event>>,
    /// Counts how often it was switched on.
    pub(super) life: u32,
    pub(super) wake: Option<Micros>,
    pub(super) disk: Vec<u8>,
    /// The last plan in force that it had a part in.
    pub(super) in_force: Option<Epoch>,
    /// Since when its screen has shown that nothing is run.
    pub(super) idle_since: Option<Micros>,
    /// When it was first answered a question that was asked after the last trouble.
    pub(super) answered_at: Option<Micros>,
}

impl World {
    /// Switches a phone on, with what is on its disk.
    pub(super) fn start(&mut self, i: Index) {
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

    pub(super) fn run_model(&self) -> InEvent<Hidden, Vec<u8>> {
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

    pub(super) fn handle(&mut self, i: Index, event: InEvent<Hidden, Vec<u8>>) {
        if self.trace && !matches!(event, InEvent::Group(group::InEvent::Received { .. })) {
            self.note_in(i, &event);
        }
        self.turn(i, |machine, now| machine.handle(event, now));
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

    /// Lets phone `i` take one turn, and carries out what it wants.
    pub(super) fn turn(
        &mut self,
        i: Index,
        turn: impl FnOnce(&mut Phone<Hidden, Vec<u8>>, Instant),
    ) {
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

    pub(super) fn told(&mut self, i: Index, told: Told) {
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

    pub(super) fn job_done(&mut self, phone: Index, life: u32) {
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
}

impl Shell {
    pub(super) fn new(scenario: &Scenario, i: Index) -> Self {
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
    pub(super) fn leader(&self) -> Option<Term> {
        self.machine.as_ref()?.group().leader()
    }

    /// Returns a term of its own, where it obeys nobody.
    pub(super) fn leads(&self) -> Term {
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

//! The one loop of a running phone.
//!
//! Each turn has three steps, and they never mix: wait for one input, let the state take note of it,
//! carry out what the state then wants. Only the first step awaits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Instant;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use gguf_tools::{Manifest, ShardHash};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use proto::chat::{Answer, Ask};
use proto::device::{Policy, Snapshot};
use proto::forecast::{self, ForecastError, ForecastId, Forecasts, Reply};
use proto::group::message::{VERSION, decode, encode};
use proto::group::{self, Group, Name, Purpose, Rank, Roster, Secret, TypedCode};
use proto::phone::{InEvent, OutEvent, Phone, Refused};
use proto::plan::Plan;
use proto::planning::{Outlook, Review, Work};
use proto::profile::{BurstFrame, respondent};
use proto::relay::ClientId;
use proto::ring::{self, Notice};
use proto::standing::{Beat, Board, HeldModel, Trouble};
use proto::supply;
use proto::transfer::{self, ChunkIndex, Progress, StoreFailure};
use proto::{ModelId, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::discovery::announcement::Announcement;
use crate::discovery::store::Origin;
use crate::discovery::{Sources, address};
use crate::engine_thread::{EngineEvent, Job, ShardFile};
use crate::group_file::{GroupFile, GroupFileError};
use crate::model_file;
use crate::net::frame::{Hidden, encode_activation};
use crate::net::{Net, NetEvent};
use crate::store::folder::Usage;
use crate::store::{Store, StoreEvent};

/// What a screen, or a program that plays one, wants of this phone.
#[derive(Debug)]
pub enum Command {
    /// Ask something; the answer comes on the channel, which ends after its last word.
    ///
    /// Dropping the channel's other end cancels.
    Ask {
        /// Who asks; used once.
        client: ClientId,
        /// The question.
        ask: Arc<Ask>,
        /// Where the answer goes.
        answers: mpsc::Sender<Answer>,
    },
    /// Stop an answer: its last word says that it was cancelled.
    Cancel {
        /// Who asked.
        client: ClientId,
    },
    /// Something about the group.
    Group(group::Command),
    /// To be in the group of the phone at an address.
    Meet {
        /// That phone.
        phone: PeerId,
        /// Where it is.
        address: Multiaddr,
    },
    /// To use an invite whose code a person typed. One at a time: the last.
    PresentTyped(TypedCode),
    /// To knock at every address of the own network, once.
    Probe,
    /// Run a model that this phone has.
    Run {
        /// The model.
        work: Box<Work>,
        /// By which others know it.
        model: Option<ModelId>,
    },
    /// Have a model run that another member has.
    RunElsewhere {
        /// Which.
        model: ModelId,
        /// Who runs it, or why nobody does.
        answer: oneshot::Sender<Result<PeerId, Refused>>,
    },
    /// Run nothing any more.
    StopRunning(oneshot::Sender<Result<(), Refused>>),
    /// Leave a phone out of computing, or let it take part again.
    Exclude {
        /// That phone.
        phone: PeerId,
        /// Whether it is left out.
        is_excluded: bool,
        /// Whether that is done, or why not.
        answer: oneshot::Sender<Result<(), Refused>>,
    },
    /// Find out what to expect of a model that this phone has.
    Forecast {
        /// The model.
        work: Box<Work>,
        /// Whether a person of this phone wants to know.
        is_own: bool,
        /// What there is to tell. Dropping the other end ends it.
        news: mpsc::UnboundedSender<ForecastNews>,
    },
    /// Have another member find out what to expect of a model that it has.
    ForecastElsewhere {
        /// Which.
        model: ModelId,
        /// What there is to tell, as above.
        news: mpsc::UnboundedSender<ForecastNews>,
    },
    /// Tell a member what to expect of a model of this phone's, as it wanted to know.
    TellForecast {
        /// That member.
        to: PeerId,
        /// The model.
        model: ModelId,
        /// What to expect of it.
        reply: Reply,
    },
    /// This phone has these models, and no others.
    SetModels(Vec<ModelFile>),
    /// A person allows this phone so much.
    SetLimits(Limits),
    /// This phone is so, as its system says.
    SetDevice(Snapshot),
    /// Whether others may see this phone nearby.
    SetVisible(bool),
    /// Whether phones nearby are looked for.
    SetLooking(bool),
    /// Look for others, and be found by them, after a start without; and listen everywhere.
    MeetOthers {
        /// How they are looked for.
        sources: Sources,
        /// Whether this phone is to be reached on every interface from now on.
        everywhere: bool,
    },
    /// Let go of everybody, and answer when that is done.
    Suspend(oneshot::Sender<()>),
    /// Be there again.
    Resume,
    /// Tell what shards take of the disk.
    Storage(oneshot::Sender<Usage>),
    /// End.
    Stop,
}

/// What a person would notice.
#[derive(Debug)]
pub enum Event {
    /// See [`Notice`].
    Notice(Notice),
    /// Something about the group; but for what is sent, saved and dialled.
    Group(group::OutEvent),
    /// Where other phones may reach this one has changed; the best first.
    Addresses(Vec<Multiaddr>),
    /// A phone was dialled and not reached.
    Unreachable {
        /// That phone.
        phone: PeerId,
        /// Why, for people.
        reason: String,
        /// Whether nothing at all came back from where it was dialled: a machine that refuses is reached.
        is_silent: bool,
    },
    /// No phone is at the address of a typed code.
    NotReached {
        /// That address.
        address: Multiaddr,
        /// Why, for people.
        reason: String,
        /// Whether nothing at all came back from there.
        is_silent: bool,
    },
    /// Phones that are never heard: told at the start, and when that has changed.
    Blocked(BTreeSet<PeerId>),
    /// This phone cannot keep its place in the group, and stops before it does what it would have to remember.
    CannotSave(GroupFileError),
    /// This phone, which leads, has made a plan; with what is expected of it, if phones were measured.
    Planned(Option<Box<Outlook>>),
    /// This phone, which leads, has held an answer against what was expected of it.
    Reviewed(Box<Review>),
    /// This phone leads, and can make no plan.
    CannotPlan {
        /// Why, for people.
        reason: String,
        /// Why, as far as it is one of the usual reasons.
        trouble: Trouble,
    },
    /// How every member is, and what is run: in place of what was told before. At most four times a second.
    Standing(Box<Board>),
    /// Tokens went round the ring. For each phone that asked at most five times a second.
    Beat(Beat),
    /// A member wants to know what to expect of a model of this phone's: it waits for
    /// [`Handle::forecast_for`](crate::start::Handle::forecast_for).
    ForecastWanted {
        /// Which.
        model: ModelId,
        /// That member.
        by: PeerId,
    },
    /// This phone has a model that is to be run: [`Handle::run`](crate::start::Handle::run) it. Another member's person
    /// started it, or the phone that ran it is lost and this one leads now.
    RunWanted {
        /// Which.
        model: ModelId,
        /// Phone on which a person started it.
        by: PeerId,
    },
    /// Shards are on the move.
    Fetching(Progress),
    /// The disk cannot go on with shards that are not needed yet.
    DiskFailed(StoreFailure),
    /// Shards are being loaded.
    Loading {
        /// Between 0 and 1.
        fraction: f32,
    },
}

/// What there is to tell of a forecast.
#[derive(Debug)]
pub enum ForecastNews {
    /// Phones are measured. Of these it is not known yet what they can do, or what the ways to them are.
    Measuring {
        /// Those phones.
        unknown: BTreeSet<PeerId>,
    },
    /// What to expect. Nothing comes after this.
    Done(Box<Forecasts>),
    /// There is no forecast. Nothing comes after this.
    Failed(ForecastError),
}

/// A model that this phone has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its file.
    pub path: PathBuf,
    /// By which others know it; a model without is not told to others.
    pub model: Option<ModelId>,
    /// What it is called.
    pub name: String,
}

/// How much a person allows this phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When it works, and with how much memory.
    pub policy: Policy,
    /// What shards may take of the disk; `None` leaves only what the system needs.
    pub shard_quota_bytes: Option<u64>,
}

/// Owns the state and both ends of every channel to it.
pub struct EventLoop {
    /// What this phone decides.
    pub phone: Phone<Hidden, Vec<u8>>,
    /// Other phones.
    pub net: Net,
    /// Shards on disk.
    pub store: Store,
    /// This phone's models.
    pub models: Vec<ModelFile>,
    /// Model whose shards the store was told of last.
    pub described: Option<Arc<Manifest>>,
    /// Chunks that are being written to the network.
    pub sending: FuturesUnordered<Sending>,
    /// Jobs for the engine thread.
    pub jobs: thread_mpsc::Sender<Job>,
    /// What it says.
    pub engine_events: mpsc::UnboundedReceiver<EngineEvent>,
    /// How this phone is, from time to time.
    pub snapshots: mpsc::Receiver<Snapshot>,
    /// What screens want.
    pub commands: mpsc::Receiver<Command>,
    /// What they are told. Screens that do not look lose words of progress, never a plan or an end.
    pub events: mpsc::UnboundedSender<Event>,
    /// The phone's place in its group, on disk.
    pub group_file: GroupFile,
    /// What this phone says of itself to those nearby.
    pub announcement: Announcement,
    /// Address and secret of the typed code that is being used, until it is known who is there.
    pub typed: Option<(Multiaddr, Secret)>,
    /// Plan whose activations are sent.
    pub plan: Option<Arc<Plan>>,
    /// Who waits for which answer.
    pub clients: BTreeMap<ClientId, mpsc::Sender<Answer>>,
    /// Who waits for which forecast.
    pub forecasts: BTreeMap<ForecastId, mpsc::UnboundedSender<ForecastNews>>,
    /// Forecasts that were asked for.
    pub n_forecasts: u64,
    /// Whether this phone has let go of everybody: then it does nothing by itself.
    pub is_suspended: bool,
}

/// A chunk on its way.
type Sending = BoxFuture<'static, InEvent<Hidden, Vec<u8>>>;

/// What ended the wait.
enum Input {
    Phone(InEvent<Hidden, Vec<u8>>),
    /// What was computed, and what that took.
    Computed {
        event: ring::InEvent<Hidden>,
        work: Option<respondent::Work>,
    },
    Addresses(Vec<Multiaddr>),
    Unreachable {
        phone: PeerId,
        reason: String,
        is_silent: bool,
    },
    Reached {
        address: Multiaddr,
        phone: PeerId,
    },
    NotReached {
        address: Multiaddr,
        reason: String,
        is_silent: bool,
    },
    Loading {
        fraction: f32,
    },
    Store(StoreEvent),
    Sent(InEvent<Hidden, Vec<u8>>),
    Command(Command),
    Timeout,
    Nothing,
}

impl EventLoop {
    /// Runs until it is told to stop, every handle is dropped, or its place in the group cannot be kept.
    pub async fn run(mut self) {
        self.tell(Event::Blocked(self.phone.group().blocked().clone()));
        loop {
            if let Err(error) = self.act_all() {
                return self.tell(Event::CannotSave(error));
            }

            let input = self.next_input().await;
            let now = Instant::now(); // the only clock that the state goes by

            if self.note(input, now).is_break() {
                return;
            }
        }
    }

    /// Waits for whatever comes first: our own work before others'. Decides nothing.
    async fn next_input(&mut self) -> Input {
        // The time of a phone that is suspended stands still, as if it were not there.
        let timeout = self.phone.poll_timeout().filter(|_| !self.is_suspended);

        tokio::select! {
            biased;
            Some(event) = self.engine_events.recv() => engine_input(event),
            Some(event) = self.store.next() => Input::Store(event),
            Some(sent) = self.sending.next() => Input::Sent(sent),
            Some(snapshot) = self.snapshots.recv() => {
                Input::Phone(InEvent::Device(snapshot))
            }
            // Before what comes from others, who may send without an end.
            command = self.commands.recv() => Input::Command(command.unwrap_or(Command::Stop)),
            () = at(timeout) => Input::Timeout,
            event = self.net.next() => net_input(event),
        }
    }

    /// Lets the state take note of an input.
    fn note(&mut self, input: Input, now: Instant) -> ControlFlow<()> {
        match input {
            Input::Phone(event) => self.phone.handle(event, now),
            Input::Computed { event, work } => self.computed(event, work, now),
            Input::Addresses(addresses) => self.readdressed(addresses, now),
            Input::Unreachable {
                phone,
                reason,
                is_silent,
            } => self.unreachable(phone, reason, is_silent, now),
            Input::Reached { address, phone } => self.reached(&address, phone, now),
            Input::NotReached {
                address,
                reason,
                is_silent,
            } => self.not_reached(address, reason, is_silent),
            Input::Loading { fraction } => {
                self.phone.handle(InEvent::Loading(fraction), now);
                self.tell(Event::Loading { fraction });
            }
            Input::Store(StoreEvent::Transfer(event)) => {
                self.phone.handle(InEvent::Shards(event), now);
            }
            Input::Store(StoreEvent::Frame {
                to,
                shard,
                chunk,
                frame,
            }) => self.send_chunk(to, shard, chunk, frame),
            Input::Sent(event) => self.phone.handle(event, now),
            Input::Command(Command::Stop) => return ControlFlow::Break(()),
            Input::Command(command) => self.command(command, now),
            Input::Timeout => self.phone.handle_timeout(now),
            Input::Nothing => {}
        }

        self.cancel_unheard(now);
        self.end_unheard_forecasts(now);
        ControlFlow::Continue(())
    }

    fn computed(
        &mut self,
        event: ring::InEvent<Hidden>,
        work: Option<respondent::Work>,
        now: Instant,
    ) {
        self.phone.handle(InEvent::Ring(event), now);
        if let Some(work) = work {
            self.phone.handle(InEvent::Computed(work), now);
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        let event = match command {
            Command::Ask {
                client,
                ask,
                answers,
            } => {
                self.clients.insert(client, answers);
                InEvent::Ring(ring::InEvent::Ask { client, ask })
            }
            Command::Cancel { client } => InEvent::Ring(ring::InEvent::Cancel { client }),
            Command::Group(command) => return self.group_command(command, now),
            Command::Meet { phone, address } => return self.meet(phone, address, now),
            Command::PresentTyped(code) => return self.present_typed(code),
            Command::Probe => return self.net.probe(),
            Command::Run { work, model } => InEvent::Run { work, model },
            Command::RunElsewhere { model, answer } => {
                let refused = self.phone.check_run_elsewhere(model);
                let _ = answer.send(refused); // nobody may wait any more
                InEvent::RunElsewhere(model)
            }
            Command::StopRunning(answer) => {
                return self.if_allowed(self.phone.check_stop(), answer, InEvent::Stop, now);
            }
            Command::Exclude {
                phone,
                is_excluded,
                answer,
            } => {
                let event = InEvent::Exclude { phone, is_excluded };
                let allowed = self.phone.check_exclude(phone);
                return self.if_allowed(allowed, answer, event, now);
            }
            Command::Forecast { work, is_own, news } => {
                let id = self.next_forecast(news);
                InEvent::Forecast { id, work, is_own }
            }
            Command::ForecastElsewhere { model, news } => {
                let id = self.next_forecast(news);
                InEvent::ForecastElsewhere { id, model }
            }
            Command::TellForecast { to, model, reply } => {
                InEvent::ForecastTold { to, model, reply }
            }
            Command::SetModels(models) => return self.set_models(models, now),
            Command::SetLimits(limits) => return self.set_limits(limits, now),
            Command::SetDevice(snapshot) => {
                self.snapshots.close(); // who says it by itself need not be asked
                InEvent::Device(snapshot)
            }
            Command::SetVisible(is_visible) => return self.net.set_visible(is_visible),
            Command::SetLooking(is_looking) => return self.net.set_looking(is_looking),
            Command::MeetOthers {
                sources,
                everywhere,
            } => return self.meet_others(sources, everywhere),
            Command::Suspend(done) => return self.suspend(done, now),
            Command::Resume => return self.resume(now),
            Command::Storage(answer) => return self.store.usage(answer),
            Command::Stop => unreachable!("it ends the loop"),
        };

        self.phone.handle(event, now);
    }

    /// Passes on what a person wants, if they may have it, and tells them.
    fn if_allowed(
        &mut self,
        allowed: Result<(), Refused>,
        answer: oneshot::Sender<Result<(), Refused>>,
        event: InEvent<Hidden, Vec<u8>>,
        now: Instant,
    ) {
        if allowed.is_ok() {
            self.phone.handle(event, now);
        }

        let _ = answer.send(allowed); // nobody may wait any more
    }

    /// Serves other models from now on, and tells the group. What others are fetching of a model that stays, they go on
    /// fetching.
    fn set_models(&mut self, models: Vec<ModelFile>, now: Instant) {
        if models == self.models {
            return;
        }

        for event in had(&models) {
            self.phone.handle(event, now);
        }
        self.models = models;
        if let Some(manifest) = self.described.take() {
            self.describe(manifest);
        }
    }

    fn set_limits(&mut self, limits: Limits, now: Instant) {
        let quota_bytes = limits.shard_quota_bytes.unwrap_or(u64::MAX);
        self.store.set_quota(quota_bytes);
        self.job(Job::LimitMemory(limits.policy.memory_limit_bytes));

        self.phone.handle(InEvent::Policy(limits.policy), now);
    }

    /// Goes on the network, from which this phone was kept so far. What runs goes on.
    fn meet_others(&mut self, sources: Sources, everywhere: bool) {
        if everywhere && let Err(error) = self.net.listen_everywhere() {
            tracing::error!(%error, "Others cannot reach this phone");
        }

        self.net.meet_others(sources, self.announcement.clone());
    }

    /// Lets go of everybody: others learn at once, and need not wait for this phone.
    fn suspend(&mut self, done: oneshot::Sender<()>, now: Instant) {
        self.phone.handle(InEvent::Suspended, now);
        self.net.suspend();
        while let Some(event) = self.net.next_ready() {
            if let Input::Phone(event) = net_input(event) {
                self.phone.handle(event, now);
            }
        }

        self.is_suspended = true;
        let _ = done.send(()); // nobody may wait any more
    }

    /// Is there again, as after a sleep.
    fn resume(&mut self, now: Instant) {
        self.is_suspended = false;
        self.net.resume();

        self.phone.handle_timeout(now);
    }

    /// Says nearby and on the screen what the command has changed at once: the name, or who is blocked.
    fn group_command(&mut self, command: group::Command, now: Instant) {
        let blocked = self.phone.group().blocked().clone();
        let event = InEvent::Group(group::InEvent::Command(command));
        self.phone.handle(event, now);

        self.announce();
        if *self.phone.group().blocked() != blocked {
            self.tell(Event::Blocked(self.phone.group().blocked().clone()));
        }
    }

    /// Dials the address in a typed code, which says where, but not who.
    fn present_typed(&mut self, code: TypedCode) {
        let ip = Multiaddr::from(*code.address.ip());
        let address = ip.with(Protocol::Tcp(code.address.port()));

        self.typed = Some((address.clone(), code.secret));
        self.net.reach(address);
    }

    /// Uses the typed code at the phone that its address led to.
    fn reached(&mut self, address: &Multiaddr, phone: PeerId, now: Instant) {
        let Some((_, secret)) = self.typed.take_if(|(typed, _)| typed == address) else {
            return; // a probe's
        };
        let present = group::Command::Present {
            host: phone,
            addresses: address::to_wire([address]),
            secret,
            group: None,
        };

        self.group_command(present, now);
    }

    fn not_reached(&mut self, address: Multiaddr, reason: String, is_silent: bool) {
        if self.typed.take_if(|(typed, _)| *typed == address).is_some() {
            self.tell(Event::NotReached {
                address,
                reason,
                is_silent,
            });
        }
    }

    /// Dials an address that a person gave. Asks a stranger there to be let in; a member is only met again.
    fn meet(&mut self, phone: PeerId, address: Multiaddr, now: Instant) {
        self.net.learn(Origin::Person, phone, &[address]);
        self.net.connect(phone, Vec::new());

        if !self.phone.group().is_member(phone) {
            let ask = group::Command::Ask {
                peer: phone,
                purpose: Purpose::Join,
            };
            self.group_command(ask, now);
        }
    }

    fn readdressed(&mut self, addresses: Vec<Multiaddr>, now: Instant) {
        let event = group::InEvent::Readdressed(address::to_wire(&addresses));
        self.phone.handle(InEvent::Group(event), now);

        self.tell(Event::Addresses(addresses));
    }

    /// What was on its way to a phone that is not reached is lost.
    fn unreachable(&mut self, phone: PeerId, reason: String, is_silent: bool, now: Instant) {
        let event = ring::InEvent::PhoneLost(phone);
        self.phone.handle(InEvent::Ring(event), now);

        self.tell(Event::Unreachable {
            phone,
            reason,
            is_silent,
        });
    }

    /// Carries out everything that the state wants.
    ///
    /// # Errors
    ///
    /// As [`GroupFile::save`]; what would have followed is then not done.
    fn act_all(&mut self) -> Result<(), GroupFileError> {
        while let Some(event) = self.phone.poll() {
            match event {
                OutEvent::Group(event) => self.act_group(event)?,
                OutEvent::Ring(event) => self.act_ring(event),
                OutEvent::Supply(event) => self.act_supply(event),
                OutEvent::Measure(event) => self.act_measure(event),
                OutEvent::Planned(outlook) => self.tell(Event::Planned(outlook)),
                OutEvent::Reviewed(review) => self.tell(Event::Reviewed(review)),
                OutEvent::CannotPlan { reason, trouble } => {
                    self.tell(Event::CannotPlan { reason, trouble });
                }
                OutEvent::Show(board) => self.tell(Event::Standing(board)),
                OutEvent::Beat(beat) => self.tell(Event::Beat(beat)),
                OutEvent::Forecast { id, news } => self.tell_forecast(id, news),
                OutEvent::ForecastWanted { model, by } => {
                    self.tell(Event::ForecastWanted { model, by });
                }
                OutEvent::RunWanted { model, by } => self.tell(Event::RunWanted { model, by }),
                OutEvent::Spare(is_spared) => {
                    tracing::info!(
                        is_spared,
                        "This phone computes with half of its threads, or all"
                    );
                    self.job(Job::Spare(is_spared));
                }
            }
        }

        Ok(())
    }

    /// Carries out one event of the group. Waits for nothing but the disk, when something is to be saved: it is rare,
    /// small, and what follows must not be seen by others before.
    #[expect(clippy::wildcard_enum_match_arm, reason = "people see all others")]
    fn act_group(&mut self, event: group::OutEvent) -> Result<(), GroupFileError> {
        match event {
            group::OutEvent::Save(saved) => return self.group_file.save(&saved),
            group::OutEvent::Send { to, message } => self.net.send_join(to, &encode(&message)),
            group::OutEvent::Dial { peer, addresses } => {
                self.net.connect(peer, address::from_wire(&addresses));
            }
            group::OutEvent::HangUp(peer) => self.net.disconnect(peer, "it is silent"),
            group::OutEvent::Members(ref roster) => {
                self.set_members(roster);
                self.announce();
                self.tell(Event::Group(event));
            }
            group::OutEvent::Left { .. } => {
                self.net.set_members(BTreeSet::new());
                self.announce();
                self.tell(Event::Group(event));
            }
            event => self.tell(Event::Group(event)),
        }

        Ok(())
    }

    fn set_members(&mut self, roster: &Roster) {
        let members = roster.members.iter().map(|member| member.peer);

        self.net.set_members(members.collect());
        for member in &roster.members {
            let addresses = address::from_wire(&member.addresses);
            self.net.learn(Origin::Roster, member.peer, &addresses);
        }
    }

    /// Says nearby what has changed of this phone.
    fn announce(&mut self) {
        let announcement = announcement(self.phone.group());

        if announcement != self.announcement {
            self.announcement = announcement.clone();
            self.net.announce(announcement);
        }
    }

    /// Carries out one event of the ring. Awaits nothing: whatever takes time has its own task or thread.
    fn act_ring(&mut self, event: ring::OutEvent<Hidden>) {
        use ring::OutEvent as Wish;

        match event {
            Wish::SendControl { to, message } => self.net.send_control(to, &message),
            Wish::SendChat { to, message } => self.net.send_chat(to, &message),
            Wish::SendActivation {
                to,
                epoch,
                step,
                hidden,
            } => {
                let activation = self
                    .plan
                    .as_ref()
                    .map_or_else(Default::default, |p| p.activation);
                let frame = encode_activation(epoch, step, &hidden, activation);
                self.net.send_activation(to, frame);
            }
            Wish::Load { plan, manifest } => {
                for phone in plan.phones() {
                    self.net.connect(phone, Vec::new());
                }
                self.plan = Some(Arc::clone(&plan));
                self.load(plan, manifest);
            }
            Wish::Unload => {
                self.plan = None;
                self.job(Job::Unload);
            }
            Wish::Open { request, ask } => self.job(Job::Open { request, ask }),
            Wish::Close { request } => self.job(Job::Close { request }),
            Wish::Embed { step, tokens } => self.job(Job::Embed { step, tokens }),
            Wish::Compute { step, hidden, last } => {
                self.job(Job::Compute { step, hidden, last });
            }
            Wish::Sample {
                step,
                hidden,
                picks,
            } => self.job(Job::Sample {
                step,
                hidden,
                picks,
            }),
            Wish::Tell { client, answer } => self.answer(client, answer),
            Wish::Answered(_) => unreachable!("the phone keeps these to itself"),
            Wish::Notice(notice) => self.tell(Event::Notice(notice)),
        }
    }

    fn load(&mut self, plan: Arc<Plan>, manifest: Arc<Manifest>) {
        let entries = plan.shards_of(self.phone.me(), &manifest);
        let files = entries.map(|entry| ShardFile {
            entry: entry.clone(),
            path: self.store.path(entry.hash),
        });
        let files = files.collect();

        self.job(Job::Load {
            plan,
            manifest,
            files,
        });
    }

    /// Carries out one event of the shards on the move.
    fn act_supply(&mut self, event: supply::OutEvent<Vec<u8>>) {
        use transfer::OutEvent as Wish;

        match event {
            supply::OutEvent::Describe(manifest) => self.describe(manifest),
            supply::OutEvent::Need(shards) => self.store.need(shards),
            supply::OutEvent::Progress(progress) => self.tell(Event::Fetching(progress)),
            supply::OutEvent::DiskFailed(failure) => self.tell(Event::DiskFailed(failure)),
            supply::OutEvent::Transfer(Wish::Send { to, message }) => {
                self.net.send_shard(to, &message);
            }
            supply::OutEvent::Transfer(Wish::Open(shard)) => self.store.open(shard),
            supply::OutEvent::Transfer(Wish::Check {
                from,
                shard,
                chunk,
                payload,
            }) => self.store.check(from, shard, chunk, payload),
            supply::OutEvent::Transfer(Wish::Finish(shard)) => self.store.finish(shard),
            supply::OutEvent::Transfer(Wish::Close(shard)) => self.store.close(shard),
            supply::OutEvent::Transfer(Wish::Serve { to, shard, chunk }) => {
                self.store.serve(to, shard, chunk);
            }
            supply::OutEvent::Transfer(Wish::Throttle(throttle)) => self.net.throttle(throttle),
            supply::OutEvent::Transfer(Wish::Notice(_))
            | supply::OutEvent::Load { .. }
            | supply::OutEvent::Failed { .. }
            | supply::OutEvent::Carried { .. } => unreachable!("the phone keeps these to itself"),
        }
    }

    /// Tells the store what a model's shards are, and of this phone's own file if it is that model: opens it and reads
    /// its header, some milliseconds, once for a model.
    fn describe(&mut self, manifest: Arc<Manifest>) {
        let known = self.described.as_ref();
        if known.is_some_and(|known| known.hash() == manifest.hash()) {
            return;
        }

        self.store.know(&manifest);
        let cut_as = |model: &ModelFile| match model_file::cut_as(&model.path, &manifest) {
            Ok(cut) => Some(cut).filter(|cut| model_file::may_be(cut, &manifest)),
            Err(error) => {
                tracing::info!(%error, "This phone's model is not the group's");
                None
            }
        };
        match self.models.iter().find_map(cut_as) {
            Some(cut) => self.store.offer_model(&cut, &manifest),
            None => self.store.forget_model(),
        }
        self.described = Some(manifest);
    }

    /// Sends a chunk, and lets the state know once it is on its way.
    fn send_chunk(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex, frame: Vec<u8>) {
        let (sent, written) = oneshot::channel();
        self.net.send_chunk(to, frame, sent);

        self.sending.push(Box::pin(async move {
            let _ = written.await; // written, or never to be: as well
            InEvent::Shards(transfer::InEvent::Served { to, shard, chunk })
        }));
    }

    fn act_measure(&mut self, event: respondent::OutEvent) {
        match event {
            respondent::OutEvent::Measure(sample) => self.job(Job::Measure(sample)),
            respondent::OutEvent::SendBurst {
                to,
                frame,
                n_frames,
                n_numbers,
                activation,
            } => {
                let numbers = vec![0; n_numbers as usize * activation.bytes()];
                for i in 0..n_frames {
                    let more = i + 1 < n_frames;
                    let header = BurstFrame { more, ..frame }.header(n_numbers, activation);
                    let frame = [&header.encode()[..], &numbers].concat();
                    self.net.send_activation(to, frame);
                }
            }
            respondent::OutEvent::Send { .. } => unreachable!("the phone sends these itself"),
        }
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        let is_last = answer.is_last();
        if let Some(answers) = self.clients.get(&client) {
            let _ = answers.try_send(answer); // nobody listens: cancelled below
        }
        if is_last {
            self.clients.remove(&client);
        }
    }

    /// Cancels the questions whose askers no longer listen, or take so little that a word more would be lost.
    fn cancel_unheard(&mut self, now: Instant) {
        let unheard = self.clients.extract_if(.., |_, answers| {
            answers.is_closed() || answers.capacity() == 0
        });

        for (client, _) in unheard {
            self.phone
                .handle(InEvent::Ring(ring::InEvent::Cancel { client }), now);
        }
    }

    /// Takes note of somebody who waits for a forecast.
    fn next_forecast(&mut self, news: mpsc::UnboundedSender<ForecastNews>) -> ForecastId {
        let id = ForecastId(self.n_forecasts);
        self.n_forecasts += 1;
        self.forecasts.insert(id, news);

        id
    }

    /// Tells who waits for a forecast. If nobody does any more, it is ended below.
    fn tell_forecast(&mut self, id: ForecastId, news: forecast::News) {
        let is_last = news.is_last();
        let waiting = self.forecasts.get(&id).cloned();
        if is_last {
            self.forecasts.remove(&id);
        }
        let Some(waiting) = waiting else { return };

        match news {
            forecast::News::Measuring { unknown } => {
                let _ = waiting.send(ForecastNews::Measuring { unknown });
            }
            forecast::News::Failed(error) => drop(waiting.send(ForecastNews::Failed(error))),
            forecast::News::Told(told) => drop(waiting.send(ForecastNews::Done(told))),
            // Placement takes up to a second: beside the loop.
            forecast::News::Known(known) => drop(tokio::task::spawn_blocking(move || {
                let _ = waiting.send(ForecastNews::Done(Box::new(known.forecasts())));
            })),
        }
    }

    /// Ends forecasts that nobody waits for any more.
    fn end_unheard_forecasts(&mut self, now: Instant) {
        let unheard = self.forecasts.extract_if(.., |_, news| news.is_closed());

        for (id, _) in unheard {
            self.phone.handle(InEvent::ForecastUnwanted(id), now);
        }
    }

    fn job(&mut self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("The engine thread has ended");
        }
    }

    fn tell(&mut self, event: Event) {
        let _ = self.events.send(event); // a phone without a screen
    }
}

fn engine_input(event: EngineEvent) -> Input {
    match event {
        EngineEvent::Phone { event, work } => Input::Computed { event, work },
        EngineEvent::Measured(event) => Input::Phone(InEvent::Measured(event)),
        EngineEvent::Loading { fraction } => Input::Loading { fraction },
    }
}

fn net_input(event: NetEvent) -> Input {
    let event = match event {
        NetEvent::Connected(phone) => InEvent::Group(group::InEvent::Connected(phone)),
        NetEvent::Disconnected { phone, reason } => {
            tracing::info!(%phone, reason, "Disconnected");
            InEvent::Group(group::InEvent::Disconnected(phone))
        }
        NetEvent::Unreachable {
            phone,
            reason,
            is_silent,
        } => {
            return Input::Unreachable {
                phone,
                reason,
                is_silent,
            };
        }
        NetEvent::RoundTrip { phone, time } => {
            return Input::Phone(InEvent::RoundTrip { phone, time });
        }
        NetEvent::JoinMessage { from, bytes } => InEvent::Group(match decode(&bytes) {
            Ok(message) => group::InEvent::Received {
                from,
                message: Box::new(message),
            },
            Err(error) => group::InEvent::Garbled { from, error },
        }),
        NetEvent::Control { from, message } => {
            InEvent::Ring(ring::InEvent::Control { from, message })
        }
        NetEvent::Chat { from, message } => InEvent::Ring(ring::InEvent::Chat { from, message }),
        NetEvent::Activation { from, activation } => InEvent::Ring(ring::InEvent::Activation {
            from,
            epoch: activation.epoch,
            step: activation.step,
            hidden: activation.hidden,
        }),
        NetEvent::Shard { from, message } => {
            return Input::Phone(InEvent::Shards(transfer::InEvent::Message {
                from,
                message,
            }));
        }
        NetEvent::Chunk {
            from,
            header,
            payload,
        } => {
            return Input::Phone(InEvent::Shards(transfer::InEvent::Chunk {
                from,
                shard: header.shard,
                chunk: header.chunk,
                n_bytes: header.n_bytes,
                payload,
            }));
        }
        NetEvent::Sighted { sighting, .. } => InEvent::Group(group::InEvent::Sighted(sighting)),
        NetEvent::Unsighted(phone) => InEvent::Group(group::InEvent::Unsighted(phone)),
        NetEvent::AddressesChanged(addresses) => return Input::Addresses(addresses),
        NetEvent::Reached { address, phone } => return Input::Reached { address, phone },
        NetEvent::NotReached {
            address,
            reason,
            is_silent,
        } => {
            return Input::NotReached {
                address,
                reason,
                is_silent,
            };
        }
        NetEvent::Listening(_) => return Input::Nothing,
    };

    Input::Phone(event)
}

/// Returns what a phone has to know of its models.
pub fn had<H, C>(models: &[ModelFile]) -> [InEvent<H, C>; 2] {
    let told = models.iter().filter_map(ModelFile::told);
    let rank = Rank {
        holds_model: !models.is_empty(),
        ..Rank::default()
    };

    [
        InEvent::Models(told.collect()),
        InEvent::Group(group::InEvent::Ranked(rank)),
    ]
}

impl ModelFile {
    /// Returns it as others are told.
    fn told(&self) -> Option<HeldModel> {
        Some(HeldModel {
            model: self.model?,
            name: Name::tidy(&self.name),
        })
    }
}

/// Returns what a phone says of itself to those nearby.
pub fn announcement(group: &Group) -> Announcement {
    Announcement {
        name: group.name().clone(),
        version: VERSION,
        group: group.roster().map(|roster| roster.group),
    }
}

/// Returns at `instant`, or never if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

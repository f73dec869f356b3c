//! The one loop of a running phone.
//!
//! Each turn has three steps, and they never mix: wait for one input, let the state take note of it,
//! carry out what the state then wants. Only the first step awaits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Instant;

use libp2p::Multiaddr;
use proto::PeerId;
use proto::chat::{Answer, Ask};
use proto::group::message::{VERSION, decode, encode};
use proto::group::{self, Group, Name, Purpose, Roster};
use proto::phone::{InEvent, OutEvent, Phone, Work};
use proto::plan::Plan;
use proto::relay::ClientId;
use proto::ring::{self, Notice};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::discovery::address;
use crate::discovery::announcement::Announcement;
use crate::discovery::store::Origin;
use crate::disk::{Disk, DiskEvent};
use crate::engine_thread::{EngineEvent, Job};
use crate::group_file::{GroupFile, GroupFileError};
use crate::net::frame::{Hidden, encode_activation};
use crate::net::{Net, NetEvent};

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
        answers: mpsc::UnboundedSender<Answer>,
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
    /// Run a model, when this phone leads.
    Run(Work),
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
    },
    /// This phone cannot keep its place in the group, and stops before it does what it would have to remember.
    CannotSave(GroupFileError),
    /// Shards are being written or checked.
    Preparing {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Shards are being loaded.
    Loading {
        /// Between 0 and 1.
        fraction: f32,
    },
}

/// Owns the state and both ends of every channel to it.
pub struct EventLoop {
    /// What this phone decides.
    pub phone: Phone<Hidden>,
    /// Other phones.
    pub net: Net,
    /// Shards on disk.
    pub disk: Disk,
    /// Jobs for the engine thread.
    pub jobs: thread_mpsc::Sender<Job>,
    /// What it says.
    pub engine_events: mpsc::UnboundedReceiver<EngineEvent>,
    /// What screens want.
    pub commands: mpsc::Receiver<Command>,
    /// What they are told. Screens that do not look lose words of progress, never a plan or an end.
    pub events: mpsc::UnboundedSender<Event>,
    /// The phone's place in its group, on disk.
    pub group_file: GroupFile,
    /// What this phone says of itself to those nearby.
    pub announcement: Announcement,
    /// Plan whose activations are sent.
    pub plan: Option<Arc<Plan>>,
    /// Who waits for which answer.
    pub clients: BTreeMap<ClientId, mpsc::UnboundedSender<Answer>>,
}

/// What ended the wait.
enum Input {
    Phone(InEvent<Hidden>),
    Addresses(Vec<Multiaddr>),
    Unreachable { phone: PeerId, reason: String },
    Tell(Event),
    Files(DiskEvent),
    Command(Command),
    Timeout,
    Nothing,
}

impl EventLoop {
    /// Runs until it is told to stop, every handle is dropped, or its place in the group cannot be kept.
    pub async fn run(mut self) {
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
        let timeout = self.phone.poll_timeout();

        tokio::select! {
            biased;
            Some(event) = self.engine_events.recv() => engine_input(event),
            event = self.disk.next() => Input::Files(event),
            event = self.net.next() => net_input(event),
            command = self.commands.recv() => Input::Command(command.unwrap_or(Command::Stop)),
            () = at(timeout) => Input::Timeout,
        }
    }

    /// Lets the state take note of an input.
    fn note(&mut self, input: Input, now: Instant) -> ControlFlow<()> {
        match input {
            Input::Phone(event) => self.phone.handle(event, now),
            Input::Addresses(addresses) => self.readdressed(addresses, now),
            Input::Unreachable { phone, reason } => self.unreachable(phone, reason, now),
            Input::Tell(event) => self.tell(event),
            Input::Files(event) => self.files(event, now),
            Input::Command(Command::Stop) => return ControlFlow::Break(()),
            Input::Command(command) => self.command(command, now),
            Input::Timeout => self.phone.handle_timeout(now),
            Input::Nothing => {}
        }

        self.cancel_unheard(now);
        ControlFlow::Continue(())
    }

    fn files(&mut self, event: DiskEvent, now: Instant) {
        match event {
            DiskEvent::Progress {
                done_bytes,
                total_bytes,
            } => self.tell(Event::Preparing {
                done_bytes,
                total_bytes,
            }),
            DiskEvent::Ready(job) => self.job(job),
            DiskEvent::Failed { epoch, reason } => {
                let event = ring::InEvent::LoadFailed { epoch, reason };
                self.phone.handle(InEvent::Ring(event), now);
            }
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
            Command::Group(command) => InEvent::Group(group::InEvent::Command(command)),
            Command::Meet { phone, address } => return self.meet(phone, address, now),
            Command::Run(work) => InEvent::Run(work),
            Command::Stop => unreachable!("it ends the loop"),
        };

        self.phone.handle(event, now);
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
            self.command(Command::Group(ask), now);
        }
    }

    fn readdressed(&mut self, addresses: Vec<Multiaddr>, now: Instant) {
        let event = group::InEvent::Readdressed(address::to_wire(&addresses));
        self.phone.handle(InEvent::Group(event), now);

        self.tell(Event::Addresses(addresses));
    }

    /// What was on its way to a phone that is not reached is lost.
    fn unreachable(&mut self, phone: PeerId, reason: String, now: Instant) {
        let event = ring::InEvent::PhoneLost(phone);
        self.phone.handle(InEvent::Ring(event), now);

        self.tell(Event::Unreachable { phone, reason });
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
        let announcement = announcement(self.announcement.name.clone(), self.phone.group());

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
                self.disk.obtain(plan, manifest);
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
            Wish::Notice(notice) => self.tell(Event::Notice(notice)),
        }
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        let is_last = answer.is_last();
        if let Some(answers) = self.clients.get(&client) {
            let _ = answers.send(answer); // nobody listens: cancelled below
        }
        if is_last {
            self.clients.remove(&client);
        }
    }

    /// Cancels the questions whose askers no longer listen.
    fn cancel_unheard(&mut self, now: Instant) {
        let unheard = self
            .clients
            .extract_if(.., |_, answers| answers.is_closed());

        for (client, _) in unheard {
            self.phone
                .handle(InEvent::Ring(ring::InEvent::Cancel { client }), now);
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
        EngineEvent::Phone(event) => Input::Phone(InEvent::Ring(event)),
        EngineEvent::Loading { fraction } => Input::Tell(Event::Loading { fraction }),
    }
}

fn net_input(event: NetEvent) -> Input {
    let event = match event {
        NetEvent::Connected(phone) => InEvent::Group(group::InEvent::Connected(phone)),
        NetEvent::Disconnected { phone, reason } => {
            tracing::info!(%phone, reason, "Disconnected");
            InEvent::Group(group::InEvent::Disconnected(phone))
        }
        NetEvent::Unreachable { phone, reason } => {
            return Input::Unreachable { phone, reason };
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
        NetEvent::Sighted { sighting, .. } => InEvent::Group(group::InEvent::Sighted(sighting)),
        NetEvent::Unsighted(phone) => InEvent::Group(group::InEvent::Unsighted(phone)),
        NetEvent::AddressesChanged(addresses) => return Input::Addresses(addresses),
        NetEvent::Listening(_) | NetEvent::Reached { .. } | NetEvent::NotReached { .. } => {
            return Input::Nothing;
        }
    };

    Input::Phone(event)
}

/// Returns what a phone says of itself to those nearby.
pub fn announcement(name: Name, group: &Group) -> Announcement {
    Announcement {
        name,
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

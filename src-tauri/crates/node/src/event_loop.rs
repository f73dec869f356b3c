//! The one loop of a running phone.
//!
//! Each turn has three steps, and they never mix: wait for one input, let the state take note of it,
//! carry out what the state then wants. Only the first step awaits.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Instant;

use libp2p::Multiaddr;
use proto::chat::{Answer, Ask};
use proto::phone::{InEvent, Notice, OutEvent, Phone};
use proto::plan::Plan;
use proto::relay::ClientId;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::disk::{Disk, DiskEvent};
use crate::engine_thread::{EngineEvent, Job};
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
    /// End.
    Stop,
}

/// What a person would notice.
#[derive(Debug)]
pub enum Event {
    /// See [`Notice`].
    Notice(Notice),
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
    /// A phone cannot be reached, or not any more.
    Lost {
        /// That phone.
        phone: proto::PeerId,
        /// Why, for people.
        reason: String,
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
    /// Plan whose activations are sent.
    pub plan: Option<Arc<Plan>>,
    /// Who waits for which answer.
    pub clients: BTreeMap<ClientId, mpsc::UnboundedSender<Answer>>,
}

/// What ended the wait.
enum Input {
    Phone(InEvent<Hidden>),
    Tell(Event),
    Files(DiskEvent),
    Command(Command),
    Timeout,
    Nothing,
}

impl EventLoop {
    /// Runs until it is told to stop or every handle is dropped.
    pub async fn run(mut self) {
        loop {
            self.act_all();

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
            Input::Phone(event) => {
                if let InEvent::PhoneLost(phone) = event {
                    tracing::info!(%phone, "Phone lost");
                }
                self.phone.handle(event, now);
            }
            Input::Tell(event) => self.tell(event),
            Input::Files(DiskEvent::Progress {
                done_bytes,
                total_bytes,
            }) => self.tell(Event::Preparing {
                done_bytes,
                total_bytes,
            }),
            Input::Files(DiskEvent::Ready(job)) => self.job(job),
            Input::Files(DiskEvent::Failed { epoch, reason }) => {
                self.phone
                    .handle(InEvent::LoadFailed { epoch, reason }, now);
            }
            Input::Command(Command::Ask {
                client,
                ask,
                answers,
            }) => {
                self.clients.insert(client, answers);
                self.phone.handle(InEvent::Ask { client, ask }, now);
            }
            Input::Command(Command::Cancel { client }) => {
                self.phone.handle(InEvent::Cancel { client }, now);
            }
            Input::Command(Command::Stop) => return ControlFlow::Break(()),
            Input::Timeout => self.phone.handle_timeout(now),
            Input::Nothing => {}
        }

        self.cancel_unheard(now);
        ControlFlow::Continue(())
    }

    /// Carries out everything that the state wants.
    fn act_all(&mut self) {
        while let Some(event) = self.phone.poll() {
            self.act(event);
        }
    }

    /// Carries out one event. Awaits nothing: whatever takes time has its own task or thread.
    fn act(&mut self, event: OutEvent<Hidden>) {
        match event {
            OutEvent::SendControl { to, message } => self.net.send_control(to, &message),
            OutEvent::SendChat { to, message } => self.net.send_chat(to, &message),
            OutEvent::SendActivation {
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
            OutEvent::Load {
                plan,
                manifest,
                addresses,
            } => {
                for (phone, addresses) in addresses {
                    let addresses = addresses.0.iter().filter_map(|a| a.parse().ok());
                    self.net
                        .connect(phone, addresses.collect::<Vec<Multiaddr>>());
                }
                self.plan = Some(Arc::clone(&plan));
                self.disk.obtain(plan, manifest);
            }
            OutEvent::Open { request, ask } => self.job(Job::Open { request, ask }),
            OutEvent::Close { request } => self.job(Job::Close { request }),
            OutEvent::Embed { step, tokens } => self.job(Job::Embed { step, tokens }),
            OutEvent::Compute { step, hidden, last } => {
                self.job(Job::Compute { step, hidden, last });
            }
            OutEvent::Sample {
                step,
                hidden,
                picks,
            } => self.job(Job::Sample {
                step,
                hidden,
                picks,
            }),
            OutEvent::Tell { client, answer } => self.answer(client, answer),
            OutEvent::Notice(notice) => self.tell(Event::Notice(notice)),
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
            self.phone.handle(InEvent::Cancel { client }, now);
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
        EngineEvent::Phone(event) => Input::Phone(event),
        EngineEvent::Loading { fraction } => Input::Tell(Event::Loading { fraction }),
    }
}

fn net_input(event: NetEvent) -> Input {
    match event {
        NetEvent::Control { from, message } => Input::Phone(InEvent::Control { from, message }),
        NetEvent::Chat { from, message } => Input::Phone(InEvent::Chat { from, message }),
        NetEvent::Activation { from, activation } => Input::Phone(InEvent::Activation {
            from,
            epoch: activation.epoch,
            step: activation.step,
            hidden: activation.hidden,
        }),
        NetEvent::Disconnected { phone, reason } | NetEvent::Unreachable { phone, reason } => {
            tracing::debug!(%phone, reason, "Phone not connected");
            Input::Phone(InEvent::PhoneLost(phone))
        }
        NetEvent::Connected(_)
        | NetEvent::JoinMessage { .. }
        | NetEvent::Listening(_)
        | NetEvent::AddressesChanged(_)
        | NetEvent::Sighted { .. }
        | NetEvent::Unsighted(_)
        | NetEvent::Reached { .. }
        | NetEvent::NotReached { .. } => Input::Nothing,
    }
}

/// Returns at `instant`, or never if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

//! Starting a phone: builds the parts and hands them to the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use proto::ModelId;
use proto::chat::{Answer, Ask, FailureReason};
use proto::device::Snapshot;
use proto::forecast::{ForecastError, Reply};
use proto::group::{self, Name, TypedCode};
use proto::phone::{InEvent, Phone, Refused};
use proto::planning::Work;
use proto::relay::ClientId;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::device::{self, DeviceError, Shared, Source};
use crate::discovery::Sources;
use crate::engine_thread::{self, EngineConfig};
use crate::event_loop::{
    self, Command, Event, EventLoop, ForecastNews, Limits, ModelFile, announcement,
};
use crate::group_file::{GroupFile, GroupFileError};
use crate::identity;
use crate::measure::Gauge;
use crate::net::{Net, NetError, split_peer};
use crate::store::Store;
use crate::store::folder::{self, Usage};

/// Commands that wait to be taken; each is a tap or a line of a script.
const COMMAND_QUEUE: usize = 64;
/// Words of one answer that wait to be taken: at 100 a second, those of ten seconds. Who takes none for longer is taken
/// for one that listens no more; a head may send them faster than anybody reads.
const ANSWER_QUEUE: usize = 1024;

/// Folder of the shards within a phone's data folder.
const SHARDS_FOLDER: &str = "shards";

/// What shards leave of the disk. Systems warn and slow down when a few hundred megabytes are left: a guess at a
/// little more.
const STORE_SPARE_BYTES: u64 = 256 << 20;

/// What a phone is started with.
#[derive(Debug)]
pub struct Config {
    /// Its name, for people.
    pub name: String,
    /// Its key.
    pub keypair: Keypair,
    /// Where it keeps its shards and its place in a group.
    pub data_folder: PathBuf,
    /// The models that it has.
    pub models: Vec<ModelFile>,
    /// Who knows how it is; the system, as desktops ask it, if nobody else does.
    pub device: Option<Box<dyn Source + Send>>,
    /// What its person allows.
    pub limits: Limits,
    /// Where it listens; port 0 takes any. Everywhere, if nothing is said.
    pub listen: Option<Multiaddr>,
    /// How it looks for phones nearby.
    pub sources: Sources,
    /// How it computes.
    pub engine: EngineConfig,
}

/// Why a phone could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network could not be started.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The data folder cannot be used.
    #[error("cannot use the data folder: {0}")]
    Store(#[from] std::io::Error),
    /// Its place in a group cannot be read.
    #[error(transparent)]
    Group(#[from] GroupFileError),
    /// The system gives no address to listen at.
    #[error("there is no network: not even this machine's own")]
    Nowhere,
    /// The system does not tell how it is.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The processor cannot compute with this build.
    #[error(transparent)]
    Processor(#[from] engine::ProcessorError),
    /// The key is of another kind.
    #[error("the identity key is not an Ed25519 key")]
    NotEd25519,
}

/// Why a phone does not do what a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WantError {
    /// They may not, or cannot.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The phone has stopped.
    #[error("the phone has stopped")]
    Stopped,
}

/// A running phone. It stops when the last handle is dropped.
#[derive(Debug)]
pub struct Handle {
    /// Where it can be reached.
    pub address: Multiaddr,
    /// Its name among the state machines.
    pub me: proto::PeerId,
    commands: mpsc::Sender<Command>,
    n_asked: AtomicU64,
    running: JoinHandle<()>,
}

/// Starts a phone and returns once it can be reached.
///
/// # Errors
///
/// Any [`StartError`].
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn start(config: Config) -> Result<(Handle, mpsc::UnboundedReceiver<Event>), StartError> {
    engine::check_processor()?;
    let peer = config.keypair.public().to_peer_id();
    let me = identity::peer_id(&peer).ok_or(StartError::NotEd25519)?;
    let shards = config.data_folder.join(SHARDS_FOLDER);
    let store = Store::start(&shards, store_limits(config.limits))?;
    let group_file = GroupFile::new(&config.data_folder);
    let mut phone = phone(me, &config, &group_file)?;
    let mut net = Net::new(config.keypair)?;
    let announcement = announcement(phone.group());
    net.discover(config.sources, announcement.clone());
    match config.listen {
        Some(address) => drop(net.listen(address)?),
        None => net.listen_everywhere()?,
    }
    let address = net.settle().await.ok_or(StartError::Nowhere)?;

    let device: Box<dyn Source + Send> = match config.device {
        Some(device) => device,
        None => device::of_this_system()?,
    };
    let mut device = Shared::new(device);
    phone.handle(first_snapshot(&mut device), Instant::now());
    let gauge = Gauge::new(device.clone(), &config.data_folder);
    let (jobs, engine_events) = engine_thread::start(config.engine, gauge);
    let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
    let (events, outbox) = mpsc::unbounded_channel();
    let event_loop = EventLoop {
        phone,
        net,
        store,
        sending: Default::default(),
        models: config.models,
        described: None,
        jobs,
        engine_events,
        snapshots: device.watch()?,
        commands: inbox,
        events,
        group_file,
        announcement,
        typed: None,
        plan: None,
        clients: Default::default(),
        forecasts: Default::default(),
        n_forecasts: 0,
        is_suspended: false,
    };

    let handle = Handle {
        address,
        me,
        commands,
        n_asked: AtomicU64::new(0),
        running: tokio::spawn(event_loop.run()),
    };
    Ok((handle, outbox))
}

impl Handle {
    /// Asks something. Dropping the answer cancels it.
    pub async fn ask(&self, ask: Ask) -> (ClientId, Answers) {
        let client = ClientId(self.n_asked.fetch_add(1, Ordering::Relaxed));
        let (answers, receiver) = mpsc::channel(ANSWER_QUEUE);
        let ask = Command::Ask {
            client,
            ask: Arc::new(ask),
            answers,
        };
        let _ = self.commands.send(ask).await; // a phone that has stopped closes the receiver

        (client, Answers::new(receiver))
    }

    /// Stops an answer, which then ends with a last word that says so.
    pub async fn cancel(&self, client: ClientId) {
        let _ = self.commands.send(Command::Cancel { client }).await; // it may have stopped
    }

    /// Wants something of the group; what comes of it is an [`Event::Group`].
    pub async fn group(&self, command: group::Command) {
        let _ = self.commands.send(Command::Group(command)).await; // it may have stopped
    }

    /// Asks the phone at an address, which ends in `/p2p/PEER`, to be let into its group. If both are in one already,
    /// it is only connected to.
    ///
    /// # Errors
    ///
    /// [`NetError::NoPeer`] if the address names no phone.
    pub async fn meet(&self, address: Multiaddr) -> Result<proto::PeerId, NetError> {
        let (phone, address) = split_peer(address)?;
        let _ = self.commands.send(Command::Meet { phone, address }).await; // it may have stopped

        Ok(phone)
    }

    /// Uses an invite whose code a person typed: what comes of it is an [`Event::Group`] or an [`Event::NotReached`].
    pub async fn present_typed(&self, code: TypedCode) {
        let _ = self.commands.send(Command::PresentTyped(code)).await; // it may have stopped
    }

    /// Knocks once at every address of the own network; who is there will be nearby.
    pub async fn probe(&self) {
        let _ = self.commands.send(Command::Probe).await; // it may have stopped
    }

    /// Has a model run that this phone has, in place of what is run; by `model` others know it.
    ///
    /// The head is who has the model, and the head leads: a phone that does not lead asks for it, and what the leader
    /// runs is stopped on all phones. What comes of it is an [`Event::Planned`] or an [`Event::CannotPlan`], and stands
    /// in every member's [`Event::Standing`].
    pub async fn run(&self, work: Work, model: Option<ModelId>) {
        let work = Box::new(work);
        let _ = self.commands.send(Command::Run { work, model }).await; // it may have stopped
    }

    /// Has a model run that another member has: that phone is told, and gets an [`Event::RunWanted`]. Returns which
    /// phone it is.
    ///
    /// # Errors
    ///
    /// [`WantError::Refused`] if no other member that is here has it.
    pub async fn run_elsewhere(&self, model: ModelId) -> Result<proto::PeerId, WantError> {
        self.ask_for(|answer| Command::RunElsewhere { model, answer })
            .await
    }

    /// Runs nothing any more, in the whole group: answers end, memory is given back.
    ///
    /// # Errors
    ///
    /// [`WantError::Refused`] on a phone that neither leads nor is the one on which the model was started.
    pub async fn stop_running(&self) -> Result<(), WantError> {
        self.ask_for(Command::StopRunning).await
    }

    /// Leaves a phone out of computing, or lets it take part again: this one, or any if this phone leads. Another plan
    /// is made when nothing is being written.
    ///
    /// # Errors
    ///
    /// [`WantError::Refused`] if it is another's phone and this one does not lead, or no member.
    pub async fn exclude(&self, phone: proto::PeerId, is_excluded: bool) -> Result<(), WantError> {
        self.ask_for(|answer| Command::Exclude {
            phone,
            is_excluded,
            answer,
        })
        .await
    }

    /// Finds out what to expect of a model that this phone has: of the group, of this phone alone, and without each of
    /// the others. Nothing is moved. The last news is [`ForecastNews::Done`] or [`ForecastNews::Failed`]; dropping the
    /// receiver ends it. One at a time: a second one ends the first.
    pub async fn forecast(&self, work: Work) -> mpsc::UnboundedReceiver<ForecastNews> {
        self.find_out(work, true).await
    }

    async fn find_out(&self, work: Work, is_own: bool) -> mpsc::UnboundedReceiver<ForecastNews> {
        let (news, receiver) = mpsc::unbounded_channel();
        let work = Box::new(work);
        let command = Command::Forecast { work, is_own, news };
        let _ = self.commands.send(command).await; // it may have stopped

        receiver
    }

    /// The same of a model that another member has, which finds it out: that phone gets an [`Event::ForecastWanted`].
    pub async fn forecast_elsewhere(
        &self,
        model: ModelId,
    ) -> mpsc::UnboundedReceiver<ForecastNews> {
        let (news, receiver) = mpsc::unbounded_channel();
        let _ = self
            .commands
            .send(Command::ForecastElsewhere { model, news })
            .await; // it may have stopped

        receiver
    }

    /// Finds out what to expect of a model that this phone has, and tells `by`, as [`Event::ForecastWanted`] says. `work`
    /// is `None` if the model cannot be read.
    pub async fn forecast_for(&self, by: proto::PeerId, model: ModelId, work: Option<Work>) {
        let reply = match work {
            Some(work) => last_news(self.find_out(work, false).await).await,
            None => Reply::Failed(ForecastError::NobodyHasIt),
        };

        let _ = self
            .commands
            .send(Command::TellForecast {
                to: by,
                model,
                reply,
            })
            .await; // as above
    }

    /// Says which models this phone has. What it runs goes on; a model that is gone is not planned again.
    pub async fn set_models(&self, models: Vec<ModelFile>) {
        let _ = self.commands.send(Command::SetModels(models)).await; // it may have stopped
    }

    /// Says what a person allows this phone. Memory counts from the next load on.
    pub async fn set_limits(&self, limits: Limits) {
        let _ = self.commands.send(Command::SetLimits(limits)).await; // it may have stopped
    }

    /// Says how this phone is, as its system tells: memory, battery, heat, network. To be said whenever that changes;
    /// what its person allows is filled in.
    pub async fn set_device(&self, snapshot: Snapshot) {
        let _ = self.commands.send(Command::SetDevice(snapshot)).await; // it may have stopped
    }

    /// Lets other phones see this one nearby, or no more. Whoever knows where it is can still ask.
    pub async fn set_visible(&self, is_visible: bool) {
        let _ = self.commands.send(Command::SetVisible(is_visible)).await; // it may have stopped
    }

    /// Looks for phones nearby, or rests: radios need not wake for it.
    pub async fn set_looking(&self, is_looking: bool) {
        let _ = self.commands.send(Command::SetLooking(is_looking)).await; // it may have stopped
    }

    /// Looks for others and is found by them from now on, where it was started without [`Sources`]; `everywhere`, where it
    /// was started to listen on this machine only. What runs goes on. To be called once.
    pub async fn meet_others(&self, sources: Sources, everywhere: bool) {
        let _ = self
            .commands
            .send(Command::MeetOthers {
                sources,
                everywhere,
            })
            .await; // it may have stopped
    }

    /// Lets go of everybody, before the system suspends the app: connections are closed, which others see at once, and
    /// nobody waits for this phone. It keeps its place in the group. Returns when that is done.
    pub async fn suspend(&self) {
        let (done, wait) = oneshot::channel();
        let _ = self.commands.send(Command::Suspend(done)).await; // it may have stopped
        let _ = wait.await; // as above
    }

    /// Is there again: looks for its group, and is found by it.
    pub async fn resume(&self) {
        let _ = self.commands.send(Command::Resume).await; // it may have stopped
    }

    /// Returns what shards take of the disk; `None` if that cannot be told.
    pub async fn storage(&self) -> Option<Usage> {
        let (answer, wait) = oneshot::channel();
        let _ = self.commands.send(Command::Storage(answer)).await; // it may have stopped

        wait.await.ok()
    }

    async fn ask_for<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command,
    ) -> Result<T, WantError> {
        let (answer, wait) = oneshot::channel();
        let sent = self.commands.send(command(answer)).await;
        sent.map_err(|_| WantError::Stopped)?;

        Ok(wait.await.map_err(|_| WantError::Stopped)??)
    }

    /// Stops the phone and waits until it has.
    pub async fn stop(self) {
        let _ = self.commands.send(Command::Stop).await; // it may have stopped already
        let _ = self.running.await; // a panic of the loop has been printed
    }
}

/// Builds the state, as it was when the phone was stopped.
fn phone<H, C>(
    me: proto::PeerId,
    config: &Config,
    group_file: &GroupFile,
) -> Result<Phone<H, C>, StartError> {
    let (name, saved, now) = (Name::tidy(&config.name), group_file.load()?, Instant::now());

    let mut phone = Phone::new(me, name, saved, ChaCha12Rng::from_os_rng(), now);
    phone.handle(InEvent::Policy(config.limits.policy), now);
    for event in event_loop::had(&config.models) {
        phone.handle(event, now);
    }
    Ok(phone)
}

/// Tells how the phone is as it starts.
fn first_snapshot<H, C>(device: &mut dyn Source) -> InEvent<H, C> {
    InEvent::Device(device.snapshot())
}

fn store_limits(limits: Limits) -> folder::Limits {
    folder::Limits {
        quota_bytes: limits.shard_quota_bytes.unwrap_or(u64::MAX),
        spare_bytes: STORE_SPARE_BYTES,
    }
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answers {
    words: mpsc::Receiver<Answer>,
    has_ended: bool,
}

impl Answers {
    fn new(words: mpsc::Receiver<Answer>) -> Self {
        Self {
            words,
            has_ended: false,
        }
    }

    /// Waits for the next word; `None` after the last. Where none comes, because the phone stops or words were not taken
    /// for long, the last says that the head is lost.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Answer> {
        if self.has_ended {
            return None;
        }

        let lost = Answer::Failed(FailureReason::HeadLost);
        let answer = self.words.recv().await.unwrap_or(lost);
        self.has_ended = answer.is_last();
        Some(answer)
    }
}

/// Waits for the end of a forecast.
pub async fn last_news(mut news: mpsc::UnboundedReceiver<ForecastNews>) -> Reply {
    loop {
        match news.recv().await {
            Some(ForecastNews::Measuring { .. }) => {}
            Some(ForecastNews::Done(forecasts)) => return Reply::Done(forecasts),
            Some(ForecastNews::Failed(error)) => return Reply::Failed(error),
            None => return Reply::Failed(ForecastError::Occupied), // the phone stops
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::chat::RefusalReason;

    use super::*;

    #[tokio::test]
    async fn an_answer_always_ends() {
        let reading = || Answer::Reading { done: 1, total: 2 };
        let lost = Answer::Failed(FailureReason::HeadLost);
        for last in [Some(Answer::Refused(RefusalReason::NoModel)), None] {
            let (to, words) = mpsc::channel(2);
            let mut answers = Answers::new(words);
            to.send(reading()).await.expect("it is waited for");
            if let Some(last) = last.clone() {
                to.send(last).await.expect("it is waited for");
            }
            drop(to);

            assert_eq!(answers.next().await, Some(reading()));
            assert_eq!(answers.next().await, Some(last.unwrap_or(lost.clone())));
            assert_eq!(answers.next().await, None);
        }
    }
}

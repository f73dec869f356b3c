//! Starting a phone: builds the parts and hands them to the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use proto::chat::{Answer, Ask};
use proto::group::{self, Name, Rank, TypedCode};
use proto::phone::{InEvent, Phone};
use proto::planning::Work;
use proto::relay::ClientId;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::device::{Desktop, DeviceError, Script, Shared};
use crate::discovery::Sources;
use crate::engine_thread::{self, EngineConfig};
use crate::event_loop::{Command, Event, EventLoop, announcement};
use crate::group_file::{GroupFile, GroupFileError};
use crate::identity;
use crate::measure::Gauge;
use crate::net::{Net, NetError, split_peer};
use crate::store::Store;
use crate::store::folder::Limits;

/// Commands that wait to be taken; each is a tap or a line of a script.
const COMMAND_QUEUE: usize = 64;

/// Folder of the shards within a phone's data folder.
const SHARDS_FOLDER: &str = "shards";

/// What shards may take of the disk. Systems warn and slow down when a few hundred megabytes are left: a guess at a
/// little more. People set no quota of their own yet.
const STORE_LIMITS: Limits = Limits {
    quota_bytes: u64::MAX,
    spare_bytes: 256 << 20,
};

/// What a phone is started with.
#[derive(Debug)]
pub struct Config {
    /// Its name, for people.
    pub name: String,
    /// Its key.
    pub keypair: Keypair,
    /// Where it keeps its shards and its place in a group.
    pub data_folder: PathBuf,
    /// The model file, if it has one.
    pub model: Option<PathBuf>,
    /// Where it listens; port 0 takes any. Everywhere, if nothing is said.
    pub listen: Option<Multiaddr>,
    /// How it looks for phones nearby.
    pub sources: Sources,
    /// How it computes.
    pub engine: EngineConfig,
    /// Script that plays how the phone is, for tests and demonstrations; the system is asked if there is none.
    pub device_script: Option<PathBuf>,
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
    /// The key is of another kind.
    #[error("the identity key is not an Ed25519 key")]
    NotEd25519,
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
    let peer = config.keypair.public().to_peer_id();
    let me = identity::peer_id(&peer).ok_or(StartError::NotEd25519)?;
    let shards = config.data_folder.join(SHARDS_FOLDER);
    let store = Store::start(&shards, STORE_LIMITS)?;
    let group_file = GroupFile::new(&config.data_folder);
    let phone = phone(me, &config, &group_file)?;
    let mut net = Net::new(config.keypair)?;
    let announcement = announcement(phone.group());
    net.discover(config.sources, announcement.clone());
    match config.listen {
        Some(address) => drop(net.listen(address)?),
        None => net.listen_everywhere()?,
    }
    let address = net.settle().await.ok_or(StartError::Nowhere)?;

    let device = match &config.device_script {
        Some(script) => Shared::new(Script::load(script)?),
        None => Shared::new(Desktop::new(config.engine.memory_limit_bytes)?),
    };
    let gauge = Gauge::new(device.clone(), &config.data_folder);
    let (jobs, engine_events) = engine_thread::start(config.engine, gauge);
    let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
    let (events, outbox) = mpsc::unbounded_channel();
    let event_loop = EventLoop {
        phone,
        net,
        store,
        sending: Default::default(),
        model: config.model,
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
    /// Asks something; the answer ends with its last word. Dropping the receiver cancels.
    pub async fn ask(&self, ask: Ask) -> (ClientId, mpsc::UnboundedReceiver<Answer>) {
        let client = ClientId(self.n_asked.fetch_add(1, Ordering::Relaxed));
        let (answers, receiver) = mpsc::unbounded_channel();
        let ask = Command::Ask {
            client,
            ask: Arc::new(ask),
            answers,
        };
        let _ = self.commands.send(ask).await; // a phone that has stopped closes the receiver

        (client, receiver)
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

    /// Has a model run whenever this phone leads.
    pub async fn run(&self, work: Work) {
        let _ = self.commands.send(Command::Run(Box::new(work))).await; // it may have stopped
    }

    /// Leaves a phone out of computing, or lets it take part again. On the phone that leads.
    pub async fn exclude(&self, phone: proto::PeerId, is_excluded: bool) {
        let exclude = Command::Exclude { phone, is_excluded };
        let _ = self.commands.send(exclude).await; // it may have stopped
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
    let rank = Rank {
        holds_model: config.model.is_some(),
        ..Rank::default()
    };

    let mut phone = Phone::new(me, name, saved, ChaCha12Rng::from_os_rng(), now);
    phone.handle(InEvent::Group(group::InEvent::Ranked(rank)), now);
    Ok(phone)
}

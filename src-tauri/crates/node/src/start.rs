//! Starting a phone: builds the parts and hands them to the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use gguf_tools::Cut;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use proto::chat::{Answer, Ask};
use proto::phone::{Gather, Identity, Phone};
use proto::plan::{PlanError, Sizes};
use proto::relay::ClientId;
use proto::wire::Addresses;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::disk::{Disk, DiskError};
use crate::engine_thread::{self, EngineConfig};
use crate::event_loop::{Command, Event, EventLoop};
use crate::identity;
use crate::net::{Net, NetError, NetEvent};

/// Commands that wait to be taken; each is a tap or a line of a script.
const COMMAND_QUEUE: usize = 64;

/// What a phone is started with.
#[derive(Debug)]
pub struct Config {
    /// Its name, for people.
    pub name: String,
    /// Its key.
    pub keypair: Keypair,
    /// Where it keeps its shards.
    pub data_folder: PathBuf,
    /// The model file, if it has one.
    pub model: Option<PathBuf>,
    /// Where it listens; port 0 takes any.
    pub listen: Multiaddr,
    /// Whom it follows.
    pub role: Role,
    /// How it computes.
    pub engine: EngineConfig,
}

/// Whom a phone follows.
#[derive(Debug)]
pub enum Role {
    /// Itself: it waits for others and then starts the model.
    Leader {
        /// Phones that take part, this one among them.
        n_phones: usize,
        /// The model, cut.
        cut: Box<Cut>,
        /// What it is run with.
        sizes: Sizes,
    },
    /// The phone at this address, which ends in `/p2p/PEER`.
    Member {
        /// That address.
        leader: Multiaddr,
    },
}

/// Why a phone could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network could not be started.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The model cannot be shared by so many phones.
    #[error(transparent)]
    Plan(#[from] PlanError),
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
    let disk = Disk::new(me, &config.data_folder, config.model)?;
    let mut net = Net::new(config.keypair)?;
    net.listen(config.listen)?;
    let address = first_address(&mut net).await;

    let addresses = Addresses(vec![address.to_string()]);
    let phone = phone(me, config.name, addresses, config.role, &mut net)?;
    let (jobs, engine_events) = engine_thread::start(config.engine);
    let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
    let (events, outbox) = mpsc::unbounded_channel();
    let event_loop = EventLoop {
        phone,
        net,
        disk,
        jobs,
        engine_events,
        commands: inbox,
        events,
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

    /// Stops the phone and waits until it has.
    pub async fn stop(self) {
        let _ = self.commands.send(Command::Stop).await; // it may have stopped already
        let _ = self.running.await; // a panic of the loop has been printed
    }
}

fn phone<H>(
    me: proto::PeerId,
    name: String,
    addresses: Addresses,
    role: Role,
    net: &mut Net,
) -> Result<Phone<H>, StartError> {
    let identity = |leader| Identity {
        me,
        name,
        addresses,
        leader,
    };

    match role {
        Role::Leader {
            n_phones,
            cut,
            sizes,
        } => {
            let gather = Gather {
                n_phones,
                manifest: Arc::new(cut.manifest(|_| {})),
                sizes,
            };
            Ok(Phone::leader(identity(me), gather)?)
        }
        Role::Member { leader } => {
            let (leader, address) = crate::net::split_peer(leader)?;
            net.connect(leader, vec![address]);
            Ok(Phone::member(identity(leader)))
        }
    }
}

/// Waits for the first address that the network listens on.
async fn first_address(net: &mut Net) -> Multiaddr {
    loop {
        if let NetEvent::Listening(address) = net.next().boxed().await {
            return address;
        }
    }
}

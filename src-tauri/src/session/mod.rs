//! The app without its window: what a person wants goes in, what a screen shows comes out.
//!
//! ```text
//!  commands ──Request──►┌────────┐──► state: a watch, the last one counts
//!  node ─────Event─────►│ Worker │──► notices, beats: streams, nothing is missed
//!  answers ──Word──────►│        │──► answers: a stream each, from `begun` to `end`
//!  models ───News──────►└────────┘──► history, node, platform
//! ```
//!
//! The [`Worker`] owns everything and is one task: no two things happen at once. [`Session`] is what others hold of it.

mod answers;
mod chats;
mod listeners;
mod models;
mod people;
mod phone;
mod request;
mod telling;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use libp2p::Multiaddr;
use node::discovery::Sources;
use node::identity::{self, IdentityError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::{
    AnswerEvent, AppState, Beat, Conversation, ConversationId, Diagnostics, Forecasts,
    ImportResult, ModelId, Notice, PermissionKind, PermissionStatus, Problem, Question, ScanResult,
    SearchHit,
};
use crate::clock;
use crate::history::{History, HistoryError};
use crate::models::Picked;
use crate::platform::Platform;
use listeners::Listeners;
pub use request::{Order, Reply, Request, Turn};
use worker::Worker;

/// Requests that wait: each is a tap.
const REQUEST_QUEUE: usize = 64;

/// File of conversations in the data folder.
const HISTORY_FILE: &str = "history.db";

/// Where a session keeps what is its own, and how it meets others.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its folder.
    pub data: PathBuf,
    /// Where it listens; everywhere, if nothing is said.
    pub listen: Option<Multiaddr>,
    /// How it looks for phones nearby.
    pub sources: Sources,
    /// From where models are had, beside where the catalogue says: for tests.
    pub models: crate::models::Sources,
}

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The phone's key cannot be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key is of another kind.
    #[error("the identity key is not an Ed25519 key")]
    NotEd25519,
    /// What was said cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The data folder cannot be made.
    #[error("cannot use the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Models on this phone cannot be looked at.
    #[error("cannot look at this phone's models: {0}")]
    Models(String),
}

/// A running session, as those hold it who ask something of it.
#[derive(Debug, Clone)]
pub struct Session {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<Arc<AppState>>,
    notices: Listeners<Notice>,
    beats: Listeners<Beat>,
    platform: Arc<dyn Platform>,
}

impl Session {
    /// Begins a session; the task ends after [`Session::end`].
    ///
    /// # Errors
    ///
    /// Any [`OpenError`].
    pub async fn open(
        config: Config,
        platform: Arc<dyn Platform>,
    ) -> Result<(Self, JoinHandle<()>), OpenError> {
        make_folder(&config.data)?;
        let keypair = identity::load_or_create(&config.data)?;
        let me = identity::peer_id(&keypair.public().to_peer_id()).ok_or(OpenError::NotEd25519)?;
        let file = config.data.join(HISTORY_FILE);
        let opened =
            tokio::task::spawn_blocking(move || History::open(&file, clock::unix_ms())).await;
        let (history, found) = opened.map_err(|_| HistoryError::Gone)??;
        tracing::info!(
            n_left = found.n_left,
            set_aside = found.set_aside.is_some(),
            "History opened"
        );

        let (requests, inbox) = mpsc::channel(REQUEST_QUEUE);
        let set_aside = found.set_aside.map(|path| Notice::HistorySetAside {
            path: path.display().to_string(),
        });
        let notices = Listeners::with(set_aside.into_iter().collect());
        let beats = Listeners::default();
        let worker = Worker::new(worker::Parts {
            config,
            keypair,
            me,
            history,
            platform: Arc::clone(&platform),
            requests: inbox,
            notices: notices.clone(),
            beats: beats.clone(),
        })
        .await?;
        let session = Self {
            requests,
            state: worker.watch(),
            notices,
            beats,
            platform,
        };

        Ok((session, tokio::spawn(worker.run())))
    }

    /// Returns the state, to be watched.
    pub fn state(&self) -> watch::Receiver<Arc<AppState>> {
        self.state.clone()
    }

    /// Returns a stream of what a person should be told once.
    pub fn notices(&self) -> mpsc::UnboundedReceiver<Notice> {
        self.notices.join()
    }

    /// Returns a stream of tokens that go round.
    pub fn beats(&self) -> mpsc::UnboundedReceiver<Beat> {
        self.beats.join()
    }

    /// Returns the system around.
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    /// Wants something done; returns when it was taken up.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub async fn order(&self, order: Order) -> Result<(), Problem> {
        self.request(|reply| Request::Do(order, reply)).await
    }

    /// Asks something in a conversation. The stream begins with `begun` and ends with `end`.
    ///
    /// # Errors
    ///
    /// If the question was not taken; nothing is heard then.
    pub async fn ask(
        &self,
        question: Question,
    ) -> Result<mpsc::UnboundedReceiver<AnswerEvent>, Problem> {
        self.request(|reply| Request::Ask(question, reply)).await
    }

    /// Takes up the stream of an answer that is being written, as if from its beginning: for a page that was loaded anew.
    /// `None` if none is being written there. Who heard it before hears it still.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn watch_answer(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<mpsc::UnboundedReceiver<AnswerEvent>>, Problem> {
        self.request(|reply| Request::WatchAnswer(conversation, reply))
            .await
    }

    /// Makes a conversation.
    ///
    /// # Errors
    ///
    /// If there is no room for it.
    pub async fn create_conversation(&self) -> Result<ConversationId, Problem> {
        self.request(Request::Create).await
    }

    /// Returns a conversation.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub async fn load_conversation(&self, id: ConversationId) -> Result<Conversation, Problem> {
        self.request(|reply| Request::Load(id, reply)).await
    }

    /// Finds words in all conversations.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn search(&self, query: String) -> Result<Vec<SearchHit>, Problem> {
        self.request(|reply| Request::Search(query, reply)).await
    }

    /// Says what to expect of a model.
    ///
    /// # Errors
    ///
    /// If that cannot be said now.
    pub async fn forecast(&self, model: ModelId) -> Result<Forecasts, Problem> {
        self.request(|reply| Request::Forecast(model, reply)).await
    }

    /// Takes a model's file in.
    ///
    /// # Errors
    ///
    /// If it is none that we can run.
    pub async fn import(&self, picked: Picked) -> Result<ImportResult, Problem> {
        self.request(|reply| Request::Import(picked, reply)).await
    }

    /// Asks a person whether the app may do this; the answer is in the state, too.
    ///
    /// # Errors
    ///
    /// If the system cannot ask.
    pub async fn request_permission(
        &self,
        permission: PermissionKind,
    ) -> Result<PermissionStatus, Problem> {
        let status = self.platform.request_permission(permission).await?;
        self.turn(Turn::Permissions);

        Ok(status)
    }

    /// Lets a person hold a code before the camera, and asks whether that may be used, if nobody was asked yet.
    ///
    /// # Errors
    ///
    /// If the system cannot ask, or its camera fails.
    pub async fn scan(&self) -> Result<ScanResult, Problem> {
        if !self.platform.has_camera() {
            return Ok(ScanResult::NoCamera);
        }

        match self.request_permission(PermissionKind::Camera).await? {
            PermissionStatus::Granted | PermissionStatus::NotNeeded => self.platform.scan().await,
            PermissionStatus::NotAsked | PermissionStatus::Denied => Ok(ScanResult::Denied),
        }
    }

    /// Lets a person choose where to write a text. Returns whether they did.
    ///
    /// # Errors
    ///
    /// If it cannot be written there.
    pub async fn save_file(&self, name: String, text: String) -> Result<bool, Problem> {
        let path = self.platform.save_text(name, text).await?;
        if let Some(path) = &path {
            self.notices.tell(&Notice::FileSaved { path: path.clone() });
        }

        Ok(path.is_some())
    }

    /// Opens a web address outside of the app.
    ///
    /// # Errors
    ///
    /// If it is none, or the system cannot.
    pub fn open_link(&self, url: &str) -> Result<(), Problem> {
        let parsed = url::Url::parse(url).map_err(Problem::other)?;
        if !matches!(parsed.scheme(), "http" | "https" | "mailto") {
            return Err(Problem::other("only web addresses are opened"));
        }

        self.platform.open_link(parsed.as_str())
    }

    /// Says what helps to find out what is wrong.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub async fn diagnostics(&self) -> Result<Diagnostics, Problem> {
        self.request(Request::Diagnostics).await
    }

    /// Notes that the system's circumstances are others. Waits for nothing.
    pub fn turn(&self, turn: Turn) {
        if self.requests.try_send(Request::Turn(turn)).is_err() {
            tracing::warn!(
                "A turn of the system's was not noted: the session is busy, or has ended"
            );
        }
    }

    /// Lets go of everybody, because the system is about to stop the app: answers are stopped and kept, others are told.
    /// Returns when that is done; [`Turn::Resumed`] ends it.
    pub async fn suspend(&self) {
        let (done, suspended) = oneshot::channel();
        if self.requests.send(Request::Suspend(done)).await.is_ok() {
            let _ = suspended.await; // it may have ended
        }
    }

    /// Ends: answers are stopped and kept, others are told, and then the task is over.
    pub async fn end(&self) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::End(done)).await.is_ok() {
            let _ = ended.await; // it may have ended by itself
        }
    }

    async fn request<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Problem::other("the app is ending");
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| gone(()))?;

        answer.await.map_err(|_| gone(()))?
    }
}

/// Makes a folder that only its owner may look into.
pub(crate) fn make_folder(path: &std::path::Path) -> Result<(), OpenError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);

    builder.create(path).map_err(|source| OpenError::Folder {
        path: path.into(),
        source,
    })
}

//! A phone for tests: a whole session, in a folder of its own, behind a window that is not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use app::api::{
    AnswerEvent, AnswerOutcome, AppState, ConversationId, Device, Figures, Message, MessageBody,
    Model, ModelAvailability, ModelId, NetworkState, Notice, Permission, PermissionKind,
    PermissionStatus, Problem, Question, QuestionWhat, RunPhase, Sampling, ScanResult,
    SettingChange,
};
use app::models::{self, Picked};
use app::platform::{Doing, Platform};
use app::session::{Config, Order, Session};
use app::view::running::device_of;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use libp2p::Multiaddr;
use node::device::{Desktop, Source};
use node::discovery::Sources;
use proto::device::Snapshot;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take here: a machine with two cores may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Memory of each phone: too little for the model as a whole, so that it has to be shared.
pub const MEMORY_BYTES: u64 = 250_000_000;

/// What the camera sees.
pub const SEEN: &str = "lingualinked://join?v=1";

/// How addresses of files begin here that have no path.
const ADDRESS: &str = "content://";

/// Returns the address of a file that has no path, as far as the app knows.
#[cfg(target_os = "linux")]
pub fn address_of(path: &Path) -> String {
    format!("{ADDRESS}{}", path.display())
}

/// A phone.
pub struct Phone {
    pub session: Session,
    pub folder: Arc<TempDir>,
    pub bench: Arc<Bench>,
    pub notices: Arc<Mutex<Vec<Notice>>>,
    state: watch::Receiver<Arc<AppState>>,
    task: JoinHandle<()>,
}

impl Phone {
    /// Starts a new phone, named, that may use so much memory.
    pub async fn new(name: &str, memory_bytes: Option<u64>) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("there is room for a folder"));
        let phone = Self::open(folder).await;
        phone.order(Order::Rename(name.into())).await;
        phone.order(Order::Welcome).await;
        let limit = SettingChange::MemoryLimitBytes(memory_bytes);
        phone.order(Order::ChangeSetting(limit)).await;

        phone
    }

    /// Starts the phone of a folder, and waits until it can be reached.
    pub async fn open(folder: Arc<TempDir>) -> Self {
        let phone = Self::begin(folder, Circumstances::default()).await;
        phone
            .until("the node is up", |state| state.network == NetworkState::Ok)
            .await;
        phone
    }

    /// Starts the phone of a folder, in whatever circumstances.
    pub async fn begin(folder: Arc<TempDir>, circumstances: Circumstances) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let bench = Arc::new(Bench::new(circumstances.local_network));
        let config = Config {
            data: folder.path().to_owned(),
            listen: circumstances.listen,
            sources: Sources {
                mdns: false,
                dns_sd: false,
            },
            models: circumstances.models,
        };

        let (session, task) = Session::open(config, bench.clone())
            .await
            .expect("a session begins");
        let phone = Self {
            state: session.state(),
            notices: Arc::default(),
            session,
            folder,
            bench,
            task,
        };
        phone.keep_notices();
        phone
    }

    fn keep_notices(&self) {
        let (mut told, kept) = (self.session.notices(), self.notices.clone());

        tokio::spawn(async move {
            while let Some(notice) = told.recv().await {
                kept.lock().expect("nobody panics with it").push(notice);
            }
        });
    }

    /// Ends it as a window that is closed does. Its folder stays.
    pub async fn close(self) -> Arc<TempDir> {
        self.session.end().await;
        timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("and does not panic");

        self.folder
    }

    /// Ends it as a crash does: nothing is told, nothing is saved.
    pub fn crash(self) {
        self.task.abort();
    }

    pub fn now(&self) -> Arc<AppState> {
        self.state.borrow().clone()
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, what: &str, is_so: impl Fn(&AppState) -> bool) -> Arc<AppState> {
        let mut state = self.session.state();
        let wait = state.wait_for(|state| is_so(state));

        match timeout(PATIENCE, wait).await {
            Ok(state) => state.expect("the session goes on").clone(),
            Err(_) => panic!(
                "{}: waited in vain until {what}: {:#?}",
                self.now().name,
                self.now()
            ),
        }
    }

    pub async fn order(&self, order: Order) {
        let taken = self.session.order(order.clone()).await;

        assert_eq!(taken, Ok(()), "{order:?}");
    }

    /// Gets the small model, from this machine.
    pub async fn get_model(&self) -> ModelId {
        let id = smollm2(&self.now()).id.clone();
        self.order(Order::Download(id.clone())).await;
        self.until("the model is here", |state| {
            smollm2(state).availability == ModelAvailability::Here
        })
        .await;

        id
    }

    /// Runs the small model with whoever is in the group.
    pub async fn run_model(&self) {
        let id = self.get_model().await;
        let start = || self.session.order(Order::Start(id.clone()));
        while start().await == Err(Problem::Busy) {
            tokio::time::sleep(Duration::from_millis(10)).await; // the node is being started
        }

        self.until_ready().await;
    }

    pub async fn until_ready(&self) -> Arc<AppState> {
        self.until("the model is ready", |state| {
            let run = state.run.as_ref();
            run.is_some_and(|run| run.phase == RunPhase::Ready)
        })
        .await
    }

    /// Makes a conversation whose answers are always the same.
    pub async fn converse(&self, max_tokens: u32) -> ConversationId {
        let id = self.session.create_conversation().await;
        let id = id.expect("there is room for it");
        self.order(Order::Configure(
            id.clone(),
            String::new(),
            greedy(max_tokens),
        ))
        .await;

        id
    }

    /// Asks, and returns the stream.
    pub async fn ask(&self, id: &ConversationId, text: &str) -> Stream {
        let what = QuestionWhat::New { text: text.into() };
        let stream = self
            .session
            .ask(Question {
                conversation: id.clone(),
                what,
            })
            .await;

        Stream(stream.expect("the question is taken"))
    }

    /// Waits until the system was told that the phone does something.
    pub async fn does(&self, what: &str, is_so: impl Fn(Doing) -> bool) {
        let doing = || *self.bench.doing.lock().expect("nobody panics with it");
        let wait = async {
            while !is_so(doing()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };

        if timeout(PATIENCE, wait).await.is_err() {
            panic!("the system was not told that {what}: {:?}", doing());
        }
    }

    /// Waits until a person was told something.
    pub async fn told(&self, is_it: impl Fn(&Notice) -> bool) {
        let was_told = || {
            let notices = self.notices.lock().expect("nobody panics with it");
            notices.iter().any(&is_it)
        };
        let wait = async {
            while !was_told() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };

        if timeout(PATIENCE, wait).await.is_err() {
            panic!("not told: {:?}", self.notices);
        }
    }
}

/// An answer, as a screen hears it.
pub struct Stream(pub mpsc::UnboundedReceiver<AnswerEvent>);

impl Stream {
    pub async fn next(&mut self) -> AnswerEvent {
        let event = timeout(PATIENCE, self.0.recv()).await;

        event.expect("it goes on").expect("it ends with `end`")
    }

    /// Waits for some words.
    pub async fn words(&mut self, at_least: usize) -> String {
        let mut text = String::new();
        while text.len() < at_least {
            match self.next().await {
                AnswerEvent::Text { text: more } => text += &more,
                AnswerEvent::End { message } => panic!("it ended too soon: {message:?}"),
                _ => {}
            }
        }

        text
    }

    /// Waits for the end, and returns it with all that was heard.
    pub async fn end(mut self) -> (Message, Vec<AnswerEvent>) {
        let mut heard = Vec::new();
        loop {
            let event = self.next().await;
            heard.push(event.clone());
            if let AnswerEvent::End { message } = event {
                assert_eq!(self.0.recv().await, None, "nothing follows the end");
                return (message, heard);
            }
        }
    }
}

/// Returns an answer's text and how it ended.
pub fn answer(message: &Message) -> (&str, &AnswerOutcome) {
    match &message.body {
        MessageBody::Answer { text, outcome, .. } => (text, outcome),
        other => panic!("no answer: {other:?}"),
    }
}

/// Returns what an answer cost.
pub fn figures(message: &Message) -> &Figures {
    match &message.body {
        MessageBody::Answer {
            figures: Some(figures),
            ..
        } => figures,
        other => panic!("no figures: {other:?}"),
    }
}

pub fn smollm2(state: &AppState) -> &Model {
    let models = state.models.iter();

    models
        .min_by_key(|model| model.file_bytes)
        .expect("the catalogue is not empty")
}

/// Always the same text.
pub fn greedy(max_tokens: u32) -> Sampling {
    Sampling {
        temperature: 0.0,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.05,
        repetition_penalty: 1.0,
        seed: Some(1),
        max_tokens,
    }
}

pub fn models_folder() -> PathBuf {
    let folder = std::env::var_os("LINGUALINKED_MODELS");

    folder
        .expect("LINGUALINKED_MODELS says where test models are")
        .into()
}

/// What a phone is started in.
pub struct Circumstances {
    /// Where it listens; everywhere, if nothing is said.
    pub listen: Option<Multiaddr>,
    /// From where it has models.
    pub models: models::Sources,
    /// Whether the app may meet phones in the same network.
    pub local_network: PermissionStatus,
}

impl Default for Circumstances {
    fn default() -> Self {
        Self {
            listen: Some("/ip4/127.0.0.1/tcp/0".parse().expect("an address")),
            models: models::Sources {
                folder: Some(models_folder()),
                base: None,
            },
            local_network: PermissionStatus::NotNeeded,
        }
    }
}

/// The system around a phone that has none: this machine, or what a test makes of it.
#[derive(Debug)]
pub struct Bench {
    pub doing: Mutex<Doing>,
    pub saved: Mutex<Vec<(String, String)>>,
    /// What a person said to the local network.
    local_network: Mutex<PermissionStatus>,
    /// How the phone is.
    reading: watch::Sender<Snapshot>,
    /// What a person says of the camera; there is none, if nothing is said.
    pub camera: Mutex<Option<PermissionStatus>>,
    /// What a person was asked for.
    pub asked: Mutex<Vec<PermissionKind>>,
}

impl Bench {
    fn new(local_network: PermissionStatus) -> Self {
        let desktop = Desktop::new(None);
        let snapshot = desktop.expect("this machine tells its memory").snapshot();
        Self {
            doing: Mutex::default(),
            saved: Mutex::default(),
            local_network: Mutex::new(local_network),
            reading: watch::Sender::new(snapshot),
            camera: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// A person says something else to the local network. The app hears of it when it asks.
    pub fn says_to_local_network(&self, status: PermissionStatus) {
        *self.local_network.lock().expect("nobody panics with it") = status;
    }

    /// The phone is otherwise from now on.
    pub fn is(&self, change: impl FnOnce(&mut Snapshot)) {
        self.reading.send_modify(change);
    }

    /// Returns the files that a person saved, with what is in them.
    pub fn saved(&self) -> Vec<(String, String)> {
        self.saved.lock().expect("nobody panics with it").clone()
    }
}

impl Platform for Bench {
    fn source(&self, memory_limit_bytes: Option<u64>) -> Result<Box<dyn Source + Send>, Problem> {
        let desktop = Desktop::new(memory_limit_bytes).map_err(Problem::other)?;

        Ok(Box::new(desktop))
    }

    fn device(&self) -> Device {
        device_of(&self.reading.borrow())
    }

    fn readings(&self) -> BoxStream<'static, Snapshot> {
        let mut readings = self.reading.subscribe();
        readings.mark_changed();

        futures::stream::unfold(readings, |mut readings| async move {
            readings.changed().await.ok()?;
            let reading = *readings.borrow_and_update();
            Some((reading, readings))
        })
        .boxed()
    }

    fn tells_metered(&self) -> bool {
        true
    }

    fn does(&self, doing: Doing) {
        *self.doing.lock().expect("nobody panics with it") = doing;
    }

    fn permissions(&self) -> BoxFuture<'_, Vec<Permission>> {
        let permission = Permission {
            kind: PermissionKind::LocalNetwork,
            status: *self.local_network.lock().expect("nobody panics with it"),
        };

        futures::future::ready(vec![permission]).boxed()
    }

    fn request_permission(
        &self,
        kind: PermissionKind,
    ) -> BoxFuture<'_, Result<PermissionStatus, Problem>> {
        let mut asked = self.asked.lock().expect("nobody panics with it");
        asked.push(kind);
        let said = *self.camera.lock().expect("nobody panics with it");

        futures::future::ready(Ok(said.unwrap_or(PermissionStatus::NotNeeded))).boxed()
    }

    fn open_settings(&self) -> Result<(), Problem> {
        Err(Problem::other("this machine has none"))
    }

    fn has_camera(&self) -> bool {
        self.camera.lock().expect("nobody panics with it").is_some()
    }

    /// Sees what is always there.
    fn scan(&self) -> BoxFuture<'_, Result<ScanResult, Problem>> {
        let text = SEEN.into();

        futures::future::ready(Ok(ScanResult::Scanned { text })).boxed()
    }

    fn cancel_scan(&self) -> BoxFuture<'_, Result<(), Problem>> {
        futures::future::ready(Ok(())).boxed()
    }

    fn pick_model(&self) -> BoxFuture<'_, Result<Option<Picked>, Problem>> {
        futures::future::ready(Ok(None)).boxed()
    }

    fn open_model(&self, address: String) -> BoxFuture<'_, Result<File, Problem>> {
        let path = address.strip_prefix(ADDRESS).unwrap_or_default();

        futures::future::ready(File::open(path).map_err(Problem::other)).boxed()
    }

    fn save_text(
        &self,
        name: String,
        text: String,
    ) -> BoxFuture<'_, Result<Option<String>, Problem>> {
        let path = format!("/saved/{name}");
        let mut saved = self.saved.lock().expect("nobody panics with it");
        saved.push((name, text));

        futures::future::ready(Ok(Some(path))).boxed()
    }

    fn open_link(&self, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

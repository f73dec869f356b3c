//! The one task that owns a session.
//!
//! Each turn has three steps: wait for one input, carry it out, show what has changed if that is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use node::discovery::Sources;
use node::event_loop::Event;
use node::start::{Handle, StartError};
use proto::PeerId;
use proto::device::Snapshot;
use proto::group::Name;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::answers::{Open, Word};
use super::listeners::Listeners;
use super::request::{Request, Turn};
use super::{Config, OpenError, telling};
use crate::api::{
    AppState, Beat, ConversationId, ConversationSummary, NetworkState, Notice, Permission,
    PermissionKind, PermissionStatus, PhoneId, Problem, Settings,
};
use crate::clock;
use crate::history::{History, HistoryError};
use crate::platform::{Doing, Platform};
use crate::view::{self, View, ids};

/// How often the state is shown at most: as often as an eye can follow numbers.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

/// How often words are handed on at most: 30 to 50 ms look smooth and cost a screen little.
const WORDS_INTERVAL: Duration = Duration::from_millis(40);

/// How long after a start that failed the node is started again: a network may be there by then.
const NODE_RETRY: Duration = Duration::from_secs(3);

/// Where a phone listens that keeps to itself: nothing of that leaves it.
const THIS_MACHINE: &str = "/ip4/127.0.0.1/tcp/0";

/// Large cores of a phone: four is usual, a guess for those that say nothing.
const LARGE_CORES_MAX: u32 = 4;

/// Words of all answers together that wait to be taken. Taking is quicker than computing: a guess.
const WORD_QUEUE: usize = 256;

/// What a worker is made of.
pub struct Parts {
    /// Where and how.
    pub config: Config,
    /// The phone's key.
    pub keypair: Keypair,
    /// Its name among the state machines.
    pub me: PeerId,
    /// What was said.
    pub history: History,
    /// The system around.
    pub platform: Arc<dyn Platform>,
    /// What is wanted.
    pub requests: mpsc::Receiver<Request>,
    /// Who hears notices.
    pub notices: Listeners<Notice>,
    /// Who hears beats.
    pub beats: Listeners<Beat>,
}

/// What a person decided, as it is kept.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The phone's name.
    pub name: String,
    /// Whether the welcome screen has been gone through.
    pub welcomed: bool,
    /// Settings.
    pub settings: Settings,
}

/// The node, or why there is none.
pub enum Node {
    /// It runs.
    Up {
        /// Takes commands.
        handle: Arc<Handle>,
        /// Tells what happens.
        events: mpsc::UnboundedReceiver<Event>,
    },
    /// It is being started.
    Starting,
    /// It could not be started, and is started again at this time.
    Down {
        /// When; not before something else happens, if nothing is said.
        retry_at: Option<Instant>,
        /// Why.
        network: NetworkState,
    },
}

/// What work beside the worker has come to.
pub enum Done {
    /// The node was started, or was not.
    Node(Box<Result<(Handle, mpsc::UnboundedReceiver<Event>), StartError>>),
    /// The system said what a person allowed.
    Permissions(Vec<Permission>),
    /// This phone is so.
    Reading(Snapshot),
    /// Something about models.
    Model(super::models::Done),
}

/// Owns a session.
pub struct Worker {
    pub(super) config: Config,
    keypair: Keypair,
    pub(super) history: History,
    pub(super) platform: Arc<dyn Platform>,
    requests: mpsc::Receiver<Request>,
    words: mpsc::Receiver<Word>,
    pub(super) words_in: mpsc::Sender<Word>,
    done: mpsc::UnboundedReceiver<Done>,
    pub(super) done_in: mpsc::UnboundedSender<Done>,
    notices: Listeners<Notice>,
    beats: Listeners<Beat>,
    state: watch::Sender<Arc<AppState>>,
    /// Whether something that the state shows has changed.
    pub(super) changed: bool,
    show_at: Instant,
    pub(super) words_at: Instant,

    pub(super) node: Node,
    /// Whether the node is on the network, or is being started on it; else this phone keeps to itself.
    pub(super) meets_others: bool,
    pub(super) view: View,
    pub(super) decided: Decided,
    pub(super) conversations: Vec<ConversationSummary>,
    pub(super) answers: BTreeMap<ConversationId, Open>,
    pub(super) models: super::models::Shelf,
    pub(super) permissions: Vec<Permission>,
    pub(super) looking: bool,
    pub(super) suspended: bool,
    /// The invite that opened the app, until a person has said whether to follow it.
    pub(super) opened_invite: Option<String>,
    doing: watch::Sender<Doing>,
    /// How this phone is, as its system said last.
    pub(super) reading: Option<Snapshot>,
    /// Seeds of answers for which no seed was said.
    pub(super) luck: ChaCha12Rng,
}

/// What ended the wait.
enum Input {
    Request(Request),
    Word(Word),
    Event(Box<Event>),
    Done(Done),
    NodeEnded,
    Models,
    Due,
    Abandoned,
}

impl Worker {
    /// Reads what was decided and said, and begins to start the node.
    pub async fn new(parts: Parts) -> Result<Self, OpenError> {
        let (words_in, words) = mpsc::channel(WORD_QUEUE);
        let (done_in, done) = mpsc::unbounded_channel();
        let models = super::models::Shelf::open(&parts.config, &parts.history).await?;
        let (decided, conversations) = parts.history.run(recall).await?;
        let now = Instant::now();
        let (state, _) = watch::channel(Arc::default());

        let mut worker = Self {
            config: parts.config,
            keypair: parts.keypair,
            history: parts.history,
            platform: parts.platform,
            requests: parts.requests,
            words,
            words_in,
            done,
            done_in,
            notices: parts.notices,
            beats: parts.beats,
            state,
            changed: true,
            show_at: now,
            words_at: now,
            node: Node::Down {
                retry_at: None,
                network: NetworkState::Looking,
            },
            meets_others: false,
            view: View::new(parts.me),
            decided,
            conversations,
            answers: BTreeMap::new(),
            models,
            permissions: Vec::new(),
            looking: false,
            suspended: false,
            opened_invite: None,
            doing: watch::Sender::default(),
            reading: None,
            luck: ChaCha12Rng::from_os_rng(),
        };
        worker.view.renamed(&worker.name());
        worker.ask_permissions();
        worker.follow_device();
        worker.keep_telling();
        worker.reopen_models();
        worker.show();
        Ok(worker)
    }

    /// Returns the state, to be watched.
    pub fn watch(&self) -> watch::Receiver<Arc<AppState>> {
        self.state.subscribe()
    }

    /// Runs until it is told to end, or nobody holds the session any more.
    pub async fn run(mut self) {
        loop {
            match self.next_input().await {
                Input::Request(Request::End(done)) => return self.end(Some(done)).await,
                Input::Abandoned => return self.end(None).await,
                Input::Request(request) => self.request(request).await,
                Input::Word(word) => self.word(word).await,
                Input::Event(event) => self.event(*event).await,
                Input::Done(done) => self.done(done).await,
                Input::NodeEnded => self.node_ended(),
                Input::Models => self.models_changed().await,
                Input::Due => {}
            }

            self.do_what_is_due().await;
        }
    }

    /// Waits for whatever comes first: what people want before what happens. Decides nothing.
    async fn next_input(&mut self) -> Input {
        let due = self.due();

        tokio::select! {
            biased;
            request = self.requests.recv() => request.map_or(Input::Abandoned, Input::Request),
            Some(done) = self.done.recv() => Input::Done(done),
            Some(word) = self.words.recv() => Input::Word(word),
            event = next_event(&mut self.node) => {
                event.map_or(Input::NodeEnded, |event| Input::Event(Box::new(event)))
            }
            () = self.models.changed() => Input::Models,
            () = at(due) => Input::Due,
        }
    }

    fn due(&self) -> Option<Instant> {
        let shows = self.changed.then_some(self.show_at);
        let words = self.has_words().then_some(self.words_at);
        let node = match &self.node {
            Node::Down { retry_at, .. } if !self.suspended => *retry_at,
            Node::Down { .. } | Node::Up { .. } | Node::Starting => None,
        };

        [shows, words, node, self.answers_due()]
            .into_iter()
            .flatten()
            .min()
    }

    async fn do_what_is_due(&mut self) {
        let now = Instant::now();

        if self.has_words() && self.words_at <= now {
            self.words_at = now + WORDS_INTERVAL;
            self.hand_words_on().await;
        }
        self.tend_answers(now).await;
        if let Node::Down { retry_at, .. } = &self.node
            && retry_at.is_some_and(|at| at <= now)
            && !self.suspended
        {
            self.start_node().await;
        }
        self.tell_platform();
        if self.changed && self.show_at <= now {
            self.show();
        }
    }

    async fn request(&mut self, request: Request) {
        // Nobody may wait for a reply any more.
        match request {
            Request::Do(order, reply) => drop(reply.send(self.order(order).await)),
            Request::Ask(question, reply) => self.ask(question, reply).await,
            Request::WatchAnswer(id, reply) => drop(reply.send(Ok(self.watch_answer(&id)))),
            Request::Create(reply) => drop(reply.send(self.create().await)),
            Request::Load(id, reply) => drop(reply.send(self.load(id).await)),
            Request::Search(query, reply) => drop(reply.send(self.search(query).await)),
            Request::Forecast(model, reply) => self.forecast(model, reply).await,
            Request::Import(picked, reply) => self.import(picked, reply),
            Request::Diagnostics(reply) => drop(reply.send(Ok(self.diagnostics()))),
            Request::Turn(turn) => self.turn(turn).await,
            Request::Suspend(done) => {
                self.suspend().await;
                let _ = done.send(());
            }
            Request::End(_) => unreachable!("it ends the loop"),
        }
    }

    async fn event(&mut self, event: Event) {
        if let Event::Beat(beat) = &event {
            return self.beats.tell(&Beat {
                tokens: beat.tokens,
                lap_ms: f64::from(beat.lap_ms),
                asker: ids::phone_id(beat.asker),
            });
        }

        self.changed = true;
        let event = self.by_its_name_here(event);
        let told = self.view.hear(&event, clock::unix_ms());
        for notice in told {
            self.tell(notice).await;
        }
        match event {
            Event::Standing(_) => {
                self.run_is_told();
                self.refit(false);
                self.run_changed().await;
            }
            Event::RunWanted { model, .. } => self.run_for_group(ids::model_id(model)),
            Event::ForecastWanted { model, by } => self.forecast_for(by, model),
            Event::CannotSave(error) => tracing::error!(%error, "The node cannot go on"),
            Event::CannotPlan { reason, .. } => tracing::info!(reason, "No plan"),
            Event::DiskFailed(failure) => tracing::warn!(%failure, "Shards cannot be kept"),
            Event::Addresses(addresses) => tracing::info!(n = addresses.len(), "Addresses"),
            Event::Group(_)
            | Event::Notice(_)
            | Event::Unreachable { .. }
            | Event::NotReached { .. }
            | Event::Blocked(_)
            | Event::Planned(_)
            | Event::Reviewed(_)
            | Event::Fetching(_)
            | Event::Loading { .. }
            | Event::Beat(_) => {}
        }
    }

    /// Calls a model as this phone's list does: what its file says is for nobody.
    fn by_its_name_here(&self, mut event: Event) -> Event {
        if let Event::Standing(board) = &mut event
            && let Some(run) = &mut board.run
            && let Some(name) = run.model.and_then(|id| self.model_name(&ids::model_id(id)))
        {
            run.name = Name::tidy(&name);
        }

        event
    }

    /// Tells a person something, once; where it concerns an answer that is being written, in the conversation, too.
    pub(super) async fn tell(&mut self, notice: Notice) {
        if view::concerns_answer(&notice) {
            self.note_in_answers(&notice).await;
        }

        self.notices.tell(&notice);
    }

    async fn done(&mut self, done: Done) {
        self.changed = true;

        match done {
            Done::Node(started) => self.node_started(*started).await,
            Done::Permissions(permissions) => self.permitted(permissions).await,
            Done::Reading(reading) => self.read(reading).await,
            Done::Model(done) => self.model_done(done).await,
        }
    }

    // The node

    /// It is known what a person allows: the first time, the node is started; later, they may allow more.
    async fn permitted(&mut self, permissions: Vec<Permission>) {
        self.permissions = permissions;

        match &self.node {
            Node::Down { retry_at: None, .. } => self.start_node().await,
            Node::Up { .. } | Node::Starting | Node::Down { .. } => self.meet_others().await,
        }
    }

    /// Goes on the network, if that has become possible. Never leaves it again: a system that takes the permission away
    /// ends the app.
    pub(super) async fn meet_others(&mut self) {
        if self.meets_others || !self.may_meet_others() {
            return;
        }
        let Ok(handle) = self.handle() else {
            return; // it will be started on the network, or go on it when it has been started
        };

        self.meets_others = true;
        let everywhere = self.config.listen.is_none();
        if everywhere {
            self.view.is_elsewhere();
        }
        handle.meet_others(self.config.sources, everywhere).await;
    }

    /// Returns whether this phone may be on the network: not before its person knows why, and has given it a name.
    fn may_meet_others(&self) -> bool {
        self.decided.welcomed && !self.lacks_network()
    }

    /// Returns whether the system keeps this phone from others, as far as it has said so.
    pub(super) fn lacks_network(&self) -> bool {
        self.permissions.iter().any(|permission| {
            permission.kind == PermissionKind::LocalNetwork
                && matches!(
                    permission.status,
                    PermissionStatus::NotAsked | PermissionStatus::Denied
                )
        })
    }

    async fn start_node(&mut self) {
        self.node = Node::Starting;
        self.meets_others = self.may_meet_others();
        let limit = self.decided.settings.memory_limit_bytes;
        let device = match self.platform.source(limit) {
            Ok(device) => device,
            Err(problem) => {
                return self.node_down(NetworkState::Failed {
                    detail: format!("{problem:?}"),
                });
            }
        };
        let config = node::start::Config {
            name: self.name().to_string(),
            keypair: self.keypair.clone(),
            data_folder: self.config.data.clone(),
            models: self.model_files().await,
            limits: self.limits(),
            listen: self.listen(),
            sources: self.sources(),
            engine: node::engine_thread::EngineConfig {
                n_threads: n_threads(node::measure::n_cores()),
                memory_limit_bytes: limit,
                slowdown: 1.0,
            },
            device: Some(device),
        };
        let done = self.done_in.clone();

        tokio::spawn(async move {
            let started = node::start::start(config).await;
            let _ = done.send(Done::Node(Box::new(started))); // the session may have ended
        });
    }

    fn listen(&self) -> Option<Multiaddr> {
        let this_machine = || THIS_MACHINE.parse().expect("an address");
        let alone = (!self.meets_others).then(this_machine);

        self.config.listen.clone().or(alone)
    }

    fn sources(&self) -> Sources {
        match self.meets_others {
            true => self.config.sources,
            false => Sources {
                mdns: false,
                dns_sd: false,
            },
        }
    }

    async fn node_started(
        &mut self,
        started: Result<(Handle, mpsc::UnboundedReceiver<Event>), StartError>,
    ) {
        match started {
            Ok((handle, events)) => {
                let handle = Arc::new(handle);
                self.view.is_at(&handle.address);
                self.node = Node::Up { handle, events };
                self.instruct_node().await;
                self.meet_others().await;
            }
            Err(StartError::Nowhere) => self.node_down(NetworkState::NoWifi),
            Err(error) => {
                tracing::error!(%error, "The node cannot be started");
                self.node_down(NetworkState::Failed {
                    detail: error.to_string(),
                });
            }
        }
    }

    fn node_ended(&mut self) {
        tracing::error!("The node has stopped by itself");
        self.node_down(NetworkState::StartsAgain);
    }

    fn node_down(&mut self, network: NetworkState) {
        self.changed = true;
        self.view = View::new(self.view.me());
        self.view.renamed(&self.name());
        self.node = Node::Down {
            retry_at: Some(Instant::now() + NODE_RETRY),
            network,
        };
    }

    /// Returns the node.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn handle(&self) -> Result<Arc<Handle>, Problem> {
        match &self.node {
            Node::Up { handle, .. } => Ok(Arc::clone(handle)),
            Node::Starting => Err(Problem::Busy),
            Node::Down { network, .. } => Err(match network {
                NetworkState::Failed { detail } => Problem::other(detail),
                NetworkState::Isolated => Problem::Isolated,
                NetworkState::NoPermission => no_permission(),
                NetworkState::StartsAgain => Problem::StartsAgain,
                NetworkState::Ok | NetworkState::Looking | NetworkState::NoWifi => Problem::NoWifi,
            }),
        }
    }

    /// Says why nobody can be met, where the system keeps this phone from others.
    pub(super) fn check_network(&self) -> Result<(), Problem> {
        match self.lacks_network() {
            true => Err(no_permission()),
            false => Ok(()),
        }
    }

    /// Returns this phone, as screens name it.
    pub(super) fn me(&self) -> PhoneId {
        ids::phone_id(self.view.me())
    }

    /// Returns the phone's name, as others see it.
    pub(super) fn name(&self) -> Name {
        Name::tidy(&self.decided.name)
    }

    // The system around

    fn follow_device(&self) {
        let (mut readings, done) = (self.platform.readings(), self.done_in.clone());

        tokio::spawn(async move {
            while let Some(reading) = readings.next().await {
                if done.send(Done::Reading(reading)).is_err() {
                    return; // the session has ended
                }
            }
        });
    }

    async fn read(&mut self, reading: Snapshot) {
        let (before, is_first) = (self.connection(), self.reading.is_none());
        self.reading = Some(reading);
        // The first time, with those that were broken off when the app ended.
        if is_first || self.connection() != before {
            self.resume_downloads().await;
        }
        if let Ok(handle) = self.handle() {
            handle.set_device(reading).await;
        }
    }

    pub(super) fn ask_permissions(&self) {
        let (platform, done) = (Arc::clone(&self.platform), self.done_in.clone());

        tokio::spawn(async move {
            let permissions = platform.permissions().await;
            let _ = done.send(Done::Permissions(permissions)); // the session may have ended
        });
    }

    fn keep_telling(&self) {
        let (platform, doing) = (Arc::clone(&self.platform), self.doing.subscribe());

        tokio::spawn(telling::keep_telling(doing, move |doing| {
            platform.does(doing);
        }));
    }

    /// Tells the system what the app does, once more: it may have refused what it allows an app in front.
    pub(super) fn tell_again(&self) {
        self.doing.send_modify(|_| {});
    }

    /// Tells the system what the app does, when that has changed.
    fn tell_platform(&self) {
        let me = self.view.me();
        let run = self.view.board().run.as_ref();
        let is_asked = run.is_some_and(|run| run.n_questions > 0);
        let has_part = run.is_some_and(|run| run.stages.iter().any(|stage| stage.phone == me));
        let doing = Doing {
            looks: self.looking,
            is_in_group: self.view.in_group(),
            n_phones: self.view.n_here(),
            computes: is_asked && has_part,
            answers: !self.answers.is_empty(),
            fetches: self.models.are_coming(),
            keeps_screen_on: self.decided.settings.keep_screen_on && !self.answers.is_empty(),
        };

        self.doing
            .send_if_modified(|told| std::mem::replace(told, doing) != doing);
    }

    // What is shown

    fn show(&mut self) {
        self.changed = false;
        self.show_at = Instant::now() + SHOW_INTERVAL;
        let state = self.app_state();

        self.state.send_if_modified(|shown| {
            let is_news = **shown != state;
            if is_news {
                *shown = Arc::new(state);
            }
            is_news
        });
    }

    fn app_state(&self) -> AppState {
        AppState {
            name: self.decided.name.clone(),
            me: self.me(),
            app_version: env!("CARGO_PKG_VERSION").into(),
            welcomed: self.decided.welcomed,
            permissions: self.permissions.clone(),
            network: self.network(),
            device: self.view.device().unwrap_or_else(|| self.platform.device()),
            tells_metered: self.platform.tells_metered(),
            looking: self.looking,
            nearby: self.view.nearby(),
            pairings: self.view.pairings(),
            invite: self.view.invite(clock::unix_ms()),
            opened_invite: self.opened_invite.clone(),
            blocked: self.view.blocked(),
            group: self.view.group_state(),
            run: self.run_state(),
            models: self.models.list(&self.view),
            storage: self.models.storage(),
            conversations: self.conversations.clone(),
            settings: self.decided.settings.clone(),
        }
    }

    /// Ends every answer, and the node.
    async fn end(mut self, done: Option<oneshot::Sender<()>>) {
        self.end_all_answers().await;
        let node = std::mem::replace(&mut self.node, Node::Starting);
        let leaving = async {
            if let Node::Up { handle, .. } = node {
                super::phone::leave(handle).await;
            }
        };
        tokio::join!(leaving, self.models.stop());

        self.history.close().await;

        tracing::info!("The session has ended");
        if let Some(done) = done {
            let _ = done.send(()); // nobody may wait for it
        }
    }

    /// Notes that the system's circumstances are others.
    async fn turn(&mut self, turn: Turn) {
        self.changed = true;

        match turn {
            Turn::Opened(link) => self.opened(link),
            Turn::Resumed => self.resume().await,
            Turn::Permissions => self.ask_permissions(),
        }
    }
}

fn no_permission() -> Problem {
    Problem::NoPermission {
        permission: PermissionKind::LocalNetwork,
    }
}

/// Returns the threads to compute with: a core is left to the rest of the phone, because threads that wait for each other
/// for a busy core are many times slower; and only so many, because phones have no more large cores than that.
fn n_threads(n_cores: u32) -> u32 {
    n_cores.saturating_sub(1).clamp(1, LARGE_CORES_MAX)
}

/// Reads what is kept.
fn recall(
    archive: &mut crate::history::Archive,
) -> Result<(Decided, Vec<ConversationSummary>), HistoryError> {
    let decided = Decided {
        name: archive.name()?,
        welcomed: archive.welcomed()?,
        settings: archive.settings()?.unwrap_or_else(super::phone::settings),
    };

    Ok((decided, archive.conversations()?))
}

/// Waits for the node's next event; forever if there is no node.
async fn next_event(node: &mut Node) -> Option<Event> {
    match node {
        Node::Up { events, .. } => events.recv().await,
        Node::Starting | Node::Down { .. } => std::future::pending().await,
    }
}

/// Returns at `instant`, or never if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

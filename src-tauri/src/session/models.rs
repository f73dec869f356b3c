//! Models: getting them, what to expect of them, and having one run.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use node::event_loop::{ForecastNews, Limits, ModelFile};
use node::start::{Handle, WantError};
use node::store::folder::Usage;
use node::work::Wish;
use proto::PeerId;
use proto::device::Policy;
use proto::forecast::{self, ForecastError};
use proto::phone::Refused;
use proto::planning::Work;
use proto::standing::RunPhase as Phase;
use tokio::sync::{mpsc, watch};

use super::request::Reply;
use super::worker::{self, Node, Worker};
use super::{Config, OpenError};
use crate::api::{
    Fit, Forecasts, ImportResult, Model, ModelAvailability, ModelId, Notice, PhonePreparation,
    PreparationStep, Problem, Run, RunPhase, ShardSource, Storage,
};
use crate::history::History;
use crate::models::{self, Listed, Models, Network, Picked};
use crate::view::{View, ids, outlook};

/// Bytes by which memory has to change before it is counted anew which models fit: that takes half a second in a group
/// of twelve.
const FIT_STEP_BYTES: u64 = 64 << 20;

/// Part of a small memory by which that has to change: much less than what makes a model tight.
const FIT_STEP_SHARE: u64 = 32;

/// Folder of models within the data folder.
const MODELS_FOLDER: &str = "models";

/// What work beside the worker has come to.
pub enum Done {
    /// A model was read, to be run.
    Read {
        model: ModelId,
        work: Result<Box<Work>, Problem>,
    },
    /// What is taken of the storage.
    Storage(Storage),
    /// A file was looked at that a person brought.
    Imported,
}

/// The models of this phone.
pub struct Shelf {
    models: Models,
    listing: watch::Receiver<Vec<Listed>>,
    storage: Storage,
    /// Where each was when last seen, to tell when it has come.
    seen: BTreeMap<ModelId, ModelAvailability>,
    /// What the fits were counted for.
    room: Room,
    fits: BTreeMap<ModelId, (Fit, Option<Fit>)>,
    /// Model that a person has started, until the node says so itself.
    starting: Option<Starting>,
}

/// A model that is being read, to be run.
struct Starting {
    model: ModelId,
    by: By,
    problem: Option<Problem>,
}

/// Where models may run, and in how much memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Room {
    /// What the app may use on this phone.
    here_bytes: u64,
    /// The same of every phone of the group that computes, this one first: as a rule it will hold the ends. Empty in no
    /// group.
    group: Vec<(PeerId, u64)>,
    /// Who will hold the ends of each model of the list, where that is another.
    heads: Vec<Option<PeerId>>,
}

/// Who wants a model to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// This phone's person.
    Person,
    /// A member of its group.
    Group,
}

impl Shelf {
    /// Looks at what is here.
    pub async fn open(config: &Config, history: &History) -> Result<Self, OpenError> {
        let folder = config.data.join(MODELS_FOLDER);
        let config = models::Config::new(folder, config.models.clone());
        let models = Models::open(config, history.clone())
            .await
            .map_err(|trouble| OpenError::Models(trouble.to_string()))?;
        let mut listing = models.watch();
        let seen = seen(&listing.borrow_and_update());

        Ok(Self {
            models,
            listing,
            storage: Storage::default(),
            seen,
            room: Room::default(),
            fits: BTreeMap::new(),
            starting: None,
        })
    }

    /// Waits until the list has changed.
    pub async fn changed(&mut self) {
        if self.listing.changed().await.is_err() {
            std::future::pending().await // it lives as long as the models
        }
    }

    /// Ends all that is being done with models; downloads go on another time.
    pub async fn stop(&self) {
        self.models.end().await;
    }

    /// Returns what is taken of the storage.
    pub fn storage(&self) -> Storage {
        self.storage.clone()
    }

    /// Returns whether a model is coming, or being read.
    pub fn are_coming(&self) -> bool {
        let listing = self.listing.borrow();

        listing.iter().any(|listed| {
            matches!(
                listed.availability,
                ModelAvailability::Downloading { .. }
                    | ModelAvailability::Copying { .. }
                    | ModelAvailability::Checking { .. }
            )
        })
    }

    /// Returns the models as a screen shows them.
    pub fn list(&self, view: &View) -> Vec<Model> {
        let listing = self.listing.borrow();
        let models = listing.iter().map(|listed| {
            let fits = self.fits.get(&listed.id).cloned();
            let (here, group) = fits.unwrap_or((Fit::Tight, None));
            let mut model = listed.model(here, group);
            if model.availability == ModelAvailability::NotHere
                && let Some(phone) = holder(view, &model.id)
            {
                model.availability = ModelAvailability::InGroup {
                    phone: ids::phone_id(phone),
                };
            }
            model
        });

        models.collect()
    }

    /// Counts anew which models fit, if there is more room, or less.
    fn refit(&mut self, view: &View, here_bytes: u64, even_so: bool) {
        let listing = self.listing.borrow();
        let room = Room {
            here_bytes,
            group: computing(view, here_bytes),
            heads: listing.iter().map(|listed| head(view, listed)).collect(),
        };
        if !even_so && !room.differs(&self.room) {
            return;
        }

        let fits = listing.iter().zip(&room.heads).map(|(listed, head)| {
            let shape = &listed.card.shape;
            let group = room.budgets_bytes(*head);
            let in_group = (!group.is_empty()).then(|| shape.fit(&group));
            (listed.id.clone(), (shape.fit(&[here_bytes]), in_group))
        });
        self.fits = fits.collect();
        self.room = room;
    }

    /// Returns the models whose files are here.
    fn here(&self) -> Vec<(ModelId, String)> {
        let listing = self.listing.borrow();
        let here = listing
            .iter()
            .filter(|listed| listed.availability == ModelAvailability::Here);

        here.map(|listed| (listed.id.clone(), listed.card.name.clone()))
            .collect()
    }

    fn get(&self, id: &ModelId) -> Result<Listed, Problem> {
        Ok(self.models.get(id)?)
    }
}

impl Room {
    /// Returns whether it has to be counted anew what fits.
    fn differs(&self, before: &Self) -> bool {
        let phones = |room: &Self| {
            room.group
                .iter()
                .map(|(phone, _)| *phone)
                .collect::<Vec<_>>()
        };
        let is_moved = |now: u64, before: u64| {
            now.abs_diff(before) >= FIT_STEP_BYTES.min(before / FIT_STEP_SHARE).max(1)
        };
        let mut members = self.group.iter().zip(&before.group);

        phones(self) != phones(before)
            || self.heads != before.heads
            || is_moved(self.here_bytes, before.here_bytes)
            || members.any(|((_, now), (_, before))| is_moved(*now, *before))
    }

    /// Returns the memory of each phone of the group, beginning with the one that holds the ends.
    fn budgets_bytes(&self, head: Option<PeerId>) -> Vec<u64> {
        let mut phones = self.group.clone();
        phones.sort_by_key(|(phone, _)| Some(*phone) != head); // a stable sort: this phone is next

        phones.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

impl Worker {
    /// Tells the node what this phone has and may do: when it has been started, and when that has changed.
    pub(super) async fn instruct_node(&mut self) {
        let Ok(handle) = self.handle() else {
            return;
        };

        handle.set_limits(self.limits()).await;
        if let Some(reading) = self.reading {
            handle.set_device(reading).await;
        }
        handle.set_visible(self.decided.settings.visible).await;
        handle.set_looking(self.looking).await;
        handle.set_models(self.model_files().await).await;
        self.weigh();
    }

    /// Returns what this phone's person allows it.
    pub(super) fn limits(&self) -> Limits {
        let settings = &self.decided.settings;
        let percent = (settings.battery_floor * 100.0).round().clamp(0.0, 100.0);

        Limits {
            policy: Policy {
                battery_floor_percent: percent as u8,
                only_while_charging: settings.only_while_charging,
                use_metered: settings.use_metered,
                memory_limit_bytes: settings.memory_limit_bytes,
            },
            shard_quota_bytes: Some(settings.storage_quota_bytes),
        }
    }

    pub(super) async fn model_files(&self) -> Vec<ModelFile> {
        let mut files = Vec::new();
        for (id, name) in self.models.here() {
            if let Ok(path) = self.models.models.path(&id).await {
                let model = ids::model_of(&id).ok();
                files.push(ModelFile { path, model, name });
            }
        }

        files
    }

    /// The list of models has changed.
    pub(super) async fn models_changed(&mut self) {
        self.changed = true;
        let now_seen = seen(&self.models.listing.borrow_and_update());
        let before = std::mem::replace(&mut self.models.seen, now_seen.clone());
        let is_here = |seen: &BTreeMap<ModelId, ModelAvailability>, id: &ModelId| {
            seen.get(id) == Some(&ModelAvailability::Here)
        };
        let came = now_seen.keys();
        let came = came.filter(|id| is_here(&now_seen, id) && !is_here(&before, id));
        let went = before.keys();
        let went = went.filter(|id| is_here(&before, id) && !is_here(&now_seen, id));
        let has_moved = came.clone().chain(went).next().is_some();

        for id in came {
            if let Ok(listed) = self.models.get(id)
                && !listed.imported
            {
                let model = listed.card.name.clone();
                self.tell(Notice::DownloadDone { model }).await;
            }
        }
        self.refit(!are_of_a_kind(&now_seen, &before));
        if has_moved && let Ok(handle) = self.handle() {
            handle.set_models(self.model_files().await).await;
            self.weigh();
        }
    }

    /// Counts anew which models fit, if memory has changed, or even so.
    pub(super) fn refit(&mut self, even_so: bool) {
        let device = self.view.device();
        let device = device.unwrap_or_else(|| self.platform.device());

        self.models
            .refit(&self.view, device.memory_budget_bytes, even_so);
    }

    /// Asks what is taken of the storage.
    fn weigh(&self) {
        let (models, history) = (self.models.models.clone(), self.history.clone());
        let (handle, done) = (self.handle().ok(), self.done_in.clone());
        let quota_bytes = self.decided.settings.storage_quota_bytes;

        tokio::spawn(async move {
            let (models_bytes, free_bytes) = models.storage().await.unwrap_or_default();
            let conversations_bytes = history.run(|archive| archive.bytes()).await;
            let shards = match handle {
                Some(handle) => handle.storage().await,
                None => None,
            };
            let of_shards = |bytes: fn(&Usage) -> u64| shards.as_ref().map_or(0, bytes);
            let storage = Storage {
                models_bytes: models_bytes + of_shards(|usage| usage.needed_bytes),
                shards_bytes: of_shards(|usage| usage.other_bytes),
                conversations_bytes: conversations_bytes.unwrap_or_default(),
                free_bytes,
                quota_bytes,
            };
            let _ = done.send(worker::Done::Model(Done::Storage(storage))); // the session may have ended
        });
    }

    pub(super) async fn model_done(&mut self, done: Done) {
        match done {
            Done::Storage(storage) => {
                self.models.models.set_limits(models::Limits {
                    quota_bytes: storage.quota_bytes,
                    shards_bytes: storage.shards_bytes,
                });
                self.models.storage = storage;
            }
            Done::Imported => self.weigh(),
            Done::Read { model, work } => self.run_read(model, work).await,
        }
    }

    /// Says what models may take of the storage.
    pub(super) fn limit_models(&self) {
        self.weigh();
    }

    /// Returns what a model is called here.
    pub(super) fn model_name(&self, id: &ModelId) -> Option<String> {
        let listed = self.models.get(id).ok()?;

        Some(listed.card.name.clone())
    }

    // Getting them

    /// Returns what this phone is connected by.
    pub(super) fn connection(&self) -> Network {
        let is_metered = match &self.reading {
            Some(reading) => reading.is_metered,
            None => self.platform.device().metered,
        };

        Network {
            is_metered,
            may_cost: self.decided.settings.use_metered,
        }
    }

    pub(super) async fn download(&self, id: &ModelId) -> Result<(), Problem> {
        let models = self.models.models.clone();

        Ok(models.download(id, self.connection()).await?)
    }

    pub(super) async fn pause_download(&self, id: &ModelId) -> Result<(), Problem> {
        Ok(self.models.models.pause(id).await?)
    }

    pub(super) async fn delete_model(&mut self, id: &ModelId) -> Result<(), Problem> {
        let run = self.run_state();
        if run.is_some_and(|run| run.model == *id && run.head == Some(self.me())) {
            return Err(Problem::Busy);
        }
        self.models.models.delete(id).await?;

        self.weigh();
        Ok(())
    }

    /// Looks at a file that a person brought, beside everything else.
    pub(super) fn import(&self, picked: Picked, reply: Reply<ImportResult>) {
        let (models, done) = (self.models.models.clone(), self.done_in.clone());

        tokio::spawn(async move {
            let imported = models.import(picked).await;
            let imported = imported.map(|model| match model {
                Some(model) => ImportResult::Imported { model },
                None => ImportResult::Cancelled,
            });
            let _ = reply.send(imported.map_err(Problem::from)); // nobody may wait for it
            let _ = done.send(worker::Done::Model(Done::Imported)); // the session may have ended
        });
    }

    /// Opens files again that people brought and that have no path: the system closes them when the app ends.
    pub(super) fn reopen_models(&self) {
        for (id, address) in self.models.models.unopened() {
            let (models, platform) = (self.models.models.clone(), Arc::clone(&self.platform));
            tokio::spawn(async move {
                let reopened = match platform.open_model(address).await {
                    Ok(file) => models.reopen(&id, file).await.map_err(Problem::from),
                    Err(problem) => Err(problem),
                };
                if let Err(problem) = reopened {
                    // The list says that it is gone.
                    tracing::warn!(?problem, "An imported file cannot be opened again");
                }
            });
        }
    }

    /// Goes on with downloads that nobody has paused; stops those that would cost money where that is not allowed.
    pub(super) async fn resume_downloads(&self) {
        if self.suspended {
            return; // it is done when the app is in front again
        }

        if let Err(trouble) = self.models.models.resume(self.connection()).await {
            tracing::info!(%trouble, "A download does not go on");
        }
    }

    // What to expect of them

    /// Says what to expect of a model, beside everything else: phones may have to be measured first.
    pub(super) async fn forecast(&mut self, id: ModelId, reply: Reply<Forecasts>) {
        let handle = match self.handle() {
            Ok(handle) => handle,
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        let (models, me) = (self.models.models.clone(), self.me());
        let is_here = self
            .models
            .get(&id)
            .is_ok_and(|listed| listed.availability == ModelAvailability::Here);
        if !is_here && holder(&self.view, &id).is_none() {
            return drop(reply.send(Ok(outlook::unknown(me))));
        }

        tokio::spawn(async move {
            let forecasts = async {
                let news = match is_here {
                    true => handle.forecast(work_of(&models, &id).await?).await,
                    // Who has it would be the head: it finds out.
                    false => handle.forecast_elsewhere(ids::model_of(&id)?).await,
                };
                last_news(news).await
            };
            let _ = reply.send(forecasts.await); // nobody may wait for it
        });
    }

    /// Says what to expect of a model of this phone's to a member that wants to know, beside everything else.
    pub(super) fn forecast_for(&self, by: PeerId, model: proto::ModelId) {
        let Ok(handle) = self.handle() else {
            return;
        };
        let models = self.models.models.clone();

        tokio::spawn(async move {
            let work = work_of(&models, &ids::model_id(model)).await;
            let work = work.inspect_err(|problem| tracing::info!(?problem, "No forecast"));
            handle.forecast_for(by, model, work.ok()).await;
        });
    }

    // Having one run

    /// Has a model run: reads it beside everything else, if it is here, or asks a member that has it.
    pub(super) async fn start_model(&mut self, id: &ModelId) -> Result<(), Problem> {
        let handle = self.handle()?;
        let listed = self.models.get(id)?;
        if listed.availability != ModelAvailability::Here {
            return self.start_elsewhere(&handle, id).await;
        }
        self.models.models.path(id).await?;

        self.read_and_run(id.clone(), By::Person);
        Ok(())
    }

    async fn start_elsewhere(&self, handle: &Handle, id: &ModelId) -> Result<(), Problem> {
        let model = ids::model_of(id)?;

        handle.run_elsewhere(model).await.map(drop).map_err(refused)
    }

    /// The group wants a model of this phone's to run; not if it runs, or this phone's person is starting one.
    pub(super) fn run_for_group(&mut self, model: ModelId) {
        let starting = self.models.starting.as_ref();
        let starting = starting.filter(|starting| starting.problem.is_none());
        let is_starting =
            starting.is_some_and(|starting| starting.by == By::Person || starting.model == model);
        let run = self.view.board().run.as_ref();
        let runs = run.is_some_and(|run| {
            let has_failed = matches!(run.phase, Phase::Failed(_));
            run.model.map(ids::model_id).as_ref() == Some(&model) && !has_failed
        });

        if !is_starting && !runs {
            self.read_and_run(model, By::Group);
        }
    }

    /// Reads a model of this phone's, and then has it run.
    fn read_and_run(&mut self, model: ModelId, by: By) {
        self.changed = true;
        self.models.starting = Some(Starting {
            model: model.clone(),
            by,
            problem: None,
        });
        let (models, done) = (self.models.models.clone(), self.done_in.clone());

        tokio::spawn(async move {
            let work = work_of(&models, &model).await.map(Box::new);
            let _ = done.send(worker::Done::Model(Done::Read { model, work })); // the session may have ended
        });
    }

    async fn run_read(&mut self, model: ModelId, work: Result<Box<Work>, Problem>) {
        let Some(starting) = self.models.starting.as_mut() else {
            return; // nobody wants it any more
        };
        if starting.model != model {
            return; // nor this one
        }

        let by = starting.by;
        match (work, self.handle()) {
            (Ok(work), Ok(handle)) => handle.run(*work, ids::model_of(&model).ok()).await,
            (Err(problem), _) | (Ok(_), Err(problem)) => {
                self.start_failed(model, by, problem).await
            }
        }
    }

    /// A model cannot be read. That is shown in place of what runs; where something runs, a word has to be enough.
    async fn start_failed(&mut self, id: ModelId, by: By, problem: Problem) {
        if self.view.board().run.is_some() {
            self.models.starting = None;
            let model = self.model_name(&id).unwrap_or_default();
            return self.tell(Notice::StartFailed { model, problem }).await;
        }

        self.models.starting = Some(Starting {
            model: id,
            by,
            problem: Some(problem),
        });
    }

    /// Has nothing run; where all that is shown is that a start failed, puts that away.
    pub(super) async fn stop_model(&mut self) -> Result<(), Problem> {
        let starting = self.models.starting.take();
        let has_failed = starting.is_some_and(|starting| starting.problem.is_some());
        if has_failed && self.view.board().run.is_none() {
            return Ok(());
        }

        self.handle()?.stop_running().await.map_err(refused)
    }

    /// The node says what is run: what this phone's person started is among it, or has been replaced.
    pub(super) fn run_is_told(&mut self) {
        let Some(run) = &self.view.board().run else {
            return;
        };
        let told = run.model.map(ids::model_id);

        if let Some(starting) = &self.models.starting
            && (told.as_ref() == Some(&starting.model) || starting.problem.is_some())
        {
            self.models.starting = None;
        }
    }

    /// Returns what is run, or is about to be: a start that failed hides nothing.
    pub(super) fn run_state(&self) -> Option<Run> {
        let runs = self.view.board().run.is_some();
        let starting = self.models.starting.as_ref();
        let starting = starting.filter(|starting| starting.problem.is_none() || !runs);

        match starting.and_then(|starting| self.run_to_be(starting)) {
            Some(run) => Some(run),
            None => self.view.run(self.answer_ids()),
        }
    }

    /// Returns a run of which the node has said nothing yet: this phone reads the model.
    fn run_to_be(&self, starting: &Starting) -> Option<Run> {
        let listed = self.models.get(&starting.model).ok()?;
        let model = listed.model(Fit::Fits, None);
        let reading = PhonePreparation {
            phone: self.me(),
            step: PreparationStep::Checking,
            done_bytes: 0,
            total_bytes: model.file_bytes,
            rate_bytes_s: 0.0,
            left_s: None,
            source: ShardSource::OwnStorage,
        };

        Some(Run {
            model: model.id,
            model_name: model.name,
            n_layers: model.n_layers,
            phase: match &starting.problem {
                None => RunPhase::Preparing {
                    phones: vec![reading],
                },
                Some(problem) => RunPhase::Failed {
                    problem: problem.clone(),
                },
            },
            stages: Vec::new(),
            head: None,
            forecast: None,
            measured: None,
            queue: Vec::new(),
        })
    }

    // Circumstances

    /// The app is behind others, and may be stopped at any moment: answers end and are kept, others are told.
    pub(super) async fn suspend(&mut self) {
        self.changed = true;
        self.suspended = true;
        self.end_all_answers().await;

        // Others are told at once: the system gives some seconds, and a file may take them all to be written out.
        let handle = self.handle().ok();
        let leaving = async {
            if let Some(handle) = handle {
                handle.suspend().await;
            }
        };
        tokio::join!(leaving, self.models.models.suspend());
    }

    /// The app is in front again, wherever a person was meanwhile: perhaps in the settings.
    pub(super) async fn resume(&mut self) {
        self.ask_permissions();
        self.tell_again();
        if !std::mem::replace(&mut self.suspended, false) {
            return;
        }
        self.resume_downloads().await;

        if let Node::Up { handle, .. } = &self.node {
            handle.resume().await;
        }
    }
}

/// Returns a model as what is to be run by whoever is here.
async fn work_of(models: &Models, id: &ModelId) -> Result<Work, Problem> {
    let work = models.work(id, &Wish::of(models::PHONES_MIN)).await?;

    Ok(Work {
        n_phones: 1,
        ..work
    })
}

/// Waits for the end of a forecast.
async fn last_news(news: mpsc::UnboundedReceiver<ForecastNews>) -> Result<Forecasts, Problem> {
    match node::start::last_news(news).await {
        forecast::Reply::Done(forecasts) => Ok(outlook::forecasts_of(&forecasts)),
        forecast::Reply::Failed(error) => Err(not_forecast(error)),
    }
}

fn not_forecast(error: ForecastError) -> Problem {
    match error {
        ForecastError::Busy | ForecastError::Occupied | ForecastError::Superseded => Problem::Busy,
        ForecastError::NobodyHasIt => refused_by(Refused::NobodyHasIt),
        ForecastError::NoLeader | ForecastError::TimedOut => Problem::other(error),
    }
}

/// Returns what each phone of the group may use, but for those that do not compute; this one first.
fn computing(view: &View, here_bytes: u64) -> Vec<(PeerId, u64)> {
    if !view.in_group() {
        return Vec::new();
    }
    let others = view.board().members.iter().filter(|(phone, member)| {
        let rests = member.is_excluded || member.standing.tiredness().is_some();
        **phone != view.me() && !rests
    });
    let others = others.filter_map(|(phone, member)| {
        let device = member.standing.device.as_ref()?;
        Some((*phone, device.budget_bytes))
    });

    std::iter::once((view.me(), here_bytes))
        .chain(others)
        .filter(|(_, bytes)| *bytes > 0)
        .collect()
}

/// Returns who will hold the ends of a model, if that is another phone: the one that has it.
fn head(view: &View, listed: &Listed) -> Option<PeerId> {
    let is_elsewhere = listed.availability == ModelAvailability::NotHere;

    is_elsewhere.then(|| holder(view, &listed.id)).flatten()
}

/// Returns a member that has a model.
fn holder(view: &View, id: &ModelId) -> Option<PeerId> {
    let model = ids::model_of(id).ok()?;
    let mut members = view.board().members.iter();
    let holder = members.find(|(phone, member)| {
        let has_it = member
            .standing
            .models
            .iter()
            .any(|held| held.model == model);
        has_it && **phone != view.me()
    });

    holder.map(|(phone, _)| *phone)
}

fn seen(listing: &[Listed]) -> BTreeMap<ModelId, ModelAvailability> {
    let seen = listing.iter();

    seen.map(|listed| (listed.id.clone(), listed.availability.clone()))
        .collect()
}

/// Returns whether the models are the same and as far as before: bytes may have come in of each.
fn are_of_a_kind(
    now: &BTreeMap<ModelId, ModelAvailability>,
    before: &BTreeMap<ModelId, ModelAvailability>,
) -> bool {
    let kinds = |seen: &BTreeMap<_, _>| seen.values().map(discriminant).collect::<Vec<_>>();

    now.keys().eq(before.keys()) && kinds(now) == kinds(before)
}

/// Returns why the node does not do what a person wants.
pub(super) fn refused(error: WantError) -> Problem {
    match error {
        WantError::Refused(refused) => refused_by(refused),
        WantError::Stopped => Problem::Busy,
    }
}

fn refused_by(refused: Refused) -> Problem {
    match refused {
        Refused::NotLeader => Problem::NotLeader,
        Refused::NoMember => Problem::Unreachable,
        Refused::NobodyHasIt => Problem::NoModel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PeerId = PeerId([2; 32]);
    const ANN: PeerId = PeerId([1; 32]);
    const SAM: PeerId = PeerId([3; 32]);

    #[test]
    fn it_is_counted_anew_when_memory_has_changed_enough() {
        let before = room(&[(ME, 3_000_000_000), (SAM, 200_000_000)]);
        let of = |me, sam| room(&[(ME, me), (SAM, sam)]);

        assert!(!of(3_000_000_000, 200_000_000).differs(&before));
        assert!(!of(3_050_000_000, 204_000_000).differs(&before));
        assert!(of(3_070_000_000, 200_000_000).differs(&before));
        assert!(of(3_000_000_000, 193_000_000).differs(&before));
        assert!(room(&[(ME, 3_000_000_000)]).differs(&before));
        assert!(room(&[(ME, 0)]).differs(&room(&[(ME, 1)])));
        let elsewhere = Room {
            heads: vec![Some(SAM)],
            ..before.clone()
        };
        assert!(elsewhere.differs(&before));
    }

    #[test]
    fn who_holds_the_ends_comes_first_and_nothing_is_rounded() {
        let room = room(&[(ME, 200_000_001), (ANN, 5), (SAM, 7)]);

        assert_eq!(room.budgets_bytes(None), [200_000_001, 5, 7]);
        assert_eq!(room.budgets_bytes(Some(SAM)), [7, 200_000_001, 5]);
    }

    fn room(group: &[(PeerId, u64)]) -> Room {
        Room {
            here_bytes: group[0].1,
            group: group.to_vec(),
            heads: vec![None],
        }
    }
}

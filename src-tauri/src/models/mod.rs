//! Models on this phone: which there are, whether they fit, and getting them here.
//!
//! ```text
//!              download            every byte, right hash
//!  not here ───────────► downloading ─────────────────────► here
//!     ▲  ▲                 │   ▲                             ▲
//!     │  │           pause │   │ download, resume            │ hash made
//!     │  │ delete          ▼   │                             │
//!     │  └─────────────── paused             import ───► checking
//!     │ download
//!     └────────────────── failed
//! ```
//!
//! What has to be copied for an import is in the list as copying, until it has come and is known; then it is checked.
//!
//! [`Models`] holds the list, and a task for each model that something is being done with. Whoever watches it sees the
//! list as it is, four times a second at most while something is coming.
//!
//! | file | is about |
//! | --- | --- |
//! | [`catalogue`] | what is offered, with addresses and hashes |
//! | [`card`] | what a model is, and whether it fits |
//! | `source`, `server`, `download`, `part` | getting one: from where, asking, not giving up, what is here of it |
//! | [`brought`], `copy` | files that people bring, used where they lie, and copied where they cannot be |
//! | `folder` | where models lie, and room |

#![cfg_attr(test, allow(clippy::unwrap_used))] // in a test it is the assertion

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::work::{self, Cutting, Wish};
use proto::planning::Work;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::{Fit, Model, ModelAvailability, ModelId, Problem};
use crate::history::{History, KnownModel, Place};

pub mod brought;
pub mod card;
pub mod catalogue;
mod copy;
mod download;
mod folder;
mod part;
mod progress;
mod server;
mod source;
mod trouble;

pub use brought::Picked;
pub use card::{Card, PHONES_MIN, Shape};
pub use catalogue::Offer;
pub use folder::Limits;
pub use server::Patience;
pub use source::{BadAddress, Sources};
pub use trouble::Trouble;

use brought::{Brought, Loose, Settled, Settling};
use copy::Copy;
use download::{Download, Ended};
use folder::Folder;
use part::Note;
use progress::{Progress, Tell};
use server::Servers;

/// What the file of a copy is called that nothing is remembered of.
const COPY_NAME: &str = "imported.gguf";

/// Ways to cut a model that are remembered: one for this phone alone, one for a group, of two models.
const CUTTINGS_MAX: usize = 4;

/// How models are kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that they lie in.
    pub folder: PathBuf,
    /// What is offered.
    pub offers: Vec<Offer>,
    /// Where else they may be had.
    pub sources: Sources,
    /// What they may take.
    pub limits: Limits,
    /// How long servers are waited for.
    pub patience: Patience,
}

impl Config {
    /// What this version of the app offers, in a folder.
    pub fn new(folder: PathBuf, sources: Sources) -> Self {
        Self {
            folder,
            offers: catalogue::offers(),
            sources,
            limits: Limits::default(),
            patience: Patience::default(),
        }
    }
}

/// A model in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub id: ModelId,
    /// What it is.
    pub card: Arc<Card>,
    /// Whether a person brought it.
    pub imported: bool,
    /// Whether it can be downloaded, once more if need be.
    pub offered: bool,
    /// Where it is.
    pub availability: ModelAvailability,
}

/// What the phone is connected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Whether it costs money.
    pub is_metered: bool,
    /// Whether a person allows that.
    pub may_cost: bool,
}

/// The models of this phone. Clones are the same.
#[derive(Debug, Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    /// Remembers what was brought.
    history: History,
    offers: Vec<Offer>,
    sources: Sources,
    servers: Servers,
    limits: Mutex<Limits>,
    listing: watch::Sender<Vec<Listed>>,
    jobs: Mutex<BTreeMap<ModelId, Job>>,
    /// Held from asking for room until it is promised: two that ask at once would be given the same.
    asking_for_room: tokio::sync::Mutex<()>,
    brought: Mutex<BTreeMap<ModelId, Brought>>,
    /// The youngest last.
    cuttings: tokio::sync::Mutex<Vec<(CutName, Cutting)>>,
}

/// Something that is being done with a model.
#[derive(Debug)]
struct Job {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Bytes of storage that it will have taken.
    bytes: u64,
    errand: Errand,
}

/// What is done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// It comes from a server.
    Fetch,
    /// It comes from another folder of this machine, and can come another time as well.
    Take,
    /// It is read once.
    Read,
    /// It is copied: that would have to begin anew, if it can be had again at all.
    Copy,
}

/// A file as it was, and a way to cut it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CutName {
    path: PathBuf,
    file_bytes: u64,
    modified: Option<std::time::SystemTime>,
    n_shards: u32,
}

impl Network {
    /// Returns whether nothing may be fetched over it.
    fn is_closed(self) -> bool {
        self.is_metered && !self.may_cost
    }
}

impl Listed {
    /// Returns the model as a screen shows it.
    pub fn model(&self, fits_here: Fit, fits_group: Option<Fit>) -> Model {
        let Card { shape, .. } = self.card.as_ref();

        Model {
            id: self.id.clone(),
            name: self.card.name.clone(),
            maker: self.card.maker.clone(),
            architecture: self.card.architecture.clone(),
            quantisation: self.card.quantisation.clone(),
            licence: self.card.licence.clone(),
            parameters: self.card.parameters,
            n_layers: u32::try_from(shape.layer_bytes.len()).unwrap_or(u32::MAX),
            context_tokens: self.card.context_tokens,
            file_bytes: self.card.file_bytes,
            needed_bytes: shape.needed_bytes(),
            languages: self.card.languages.clone(),
            imported: self.imported,
            offered: self.offered,
            availability: self.availability.clone(),
            fits_here,
            fits_group,
        }
    }
}

impl Models {
    /// Looks at what is here, and at what `history` remembers of what people brought. Downloads that were broken off wait
    /// for [`resume`](Self::resume); files that people brought and that were not read to the end are read again.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or read, or what was brought cannot be remembered.
    pub async fn open(config: Config, history: History) -> Result<Self, Trouble> {
        let known = history.run(|archive| archive.models()).await?;
        let (folder, offers, brought, adopted, listing) = on_disk(move || -> io::Result<_> {
            let folder = Folder::make(&config.folder)?;
            let mut brought = BTreeMap::new();
            for mut known in known.into_iter().filter(|known| is_sha256(&known.id.0)) {
                if let Place::Path(path) = &mut known.place {
                    *path = folder.recalled(path)?;
                }
                brought.insert(known.id.clone(), Brought::remembered(known));
            }
            let adopted = adopt(&folder, &config.offers, &mut brought);
            let listing = list(&folder, &config.offers, &brought)?;
            Ok((folder, config.offers, brought, adopted, listing))
        })
        .await??;
        let models = Self {
            shared: Arc::new(Shared {
                folder,
                history,
                offers,
                sources: config.sources,
                servers: Servers::new(config.patience),
                limits: Mutex::new(config.limits),
                listing: watch::Sender::new(listing),
                jobs: Mutex::default(),
                asking_for_room: tokio::sync::Mutex::default(),
                brought: Mutex::new(brought),
                cuttings: tokio::sync::Mutex::default(),
            }),
        };
        for known in adopted {
            models.shared.remember(known).await?;
        }
        models.shared.read_unread();
        Ok(models)
    }

    /// Returns the list as it is, and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Vec<Listed>> {
        self.shared.listing.subscribe()
    }

    /// Returns a model as it is now.
    ///
    /// # Errors
    ///
    /// [`Trouble::Unknown`] if there is none of this name.
    pub fn get(&self, id: &ModelId) -> Result<Listed, Trouble> {
        let listing = self.shared.listing.borrow();
        let found = listing.iter().find(|listed| listed.id == *id);

        found.cloned().ok_or(Trouble::Unknown)
    }

    /// Says what models may take.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.shared.limits) = limits;
    }

    /// Begins to download a model, or goes on where that was paused or failed. Done when it has begun; the rest is
    /// seen in the list. A model that is here, or coming, is left alone.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unknown`] if it is not offered
    /// - [`Trouble::Metered`] if it would cost money
    /// - [`Trouble::StorageShort`] with what is missing
    pub async fn download(&self, id: &ModelId, network: Network) -> Result<(), Trouble> {
        let shared = &self.shared;
        let offer = shared.offers.iter().find(|offer| offer.id == *id);
        let offer = offer.cloned().ok_or(Trouble::Unknown)?;
        if self.get(id)?.availability == ModelAvailability::Here || shared.is_busy(id) {
            return Ok(());
        }
        let sources = shared.sources.of(&offer);
        let is_local = matches!(sources.first(), Some(source::Source::File(_)));
        if network.is_closed() && !is_local {
            return Err(Trouble::Metered);
        }
        let errand = match is_local {
            true => Errand::Take,
            false => Errand::Fetch,
        };

        let _alone = shared.asking_for_room.lock().await;
        let missing_bytes = shared.check_room(&offer).await?;
        shared.begin(&offer, sources, missing_bytes, errand);
        Ok(())
    }

    /// Stops a download and keeps what has come, until somebody asks for it again.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unknown`] if there is none of this name
    /// - if that cannot be noted down
    pub async fn pause(&self, id: &ModelId) -> Result<(), Trouble> {
        self.get(id)?; // before its name becomes that of a file
        self.shared.stop(id).await;
        let shared = Arc::clone(&self.shared);
        let id = id.clone();

        on_disk(move || shared.forget_wish(&id)).await?
    }

    /// Stops all that [`resume`](Self::resume) goes on with: the app is suspended. A copy would have to begin anew: it is
    /// left alone.
    pub async fn suspend(&self) {
        self.shared.stop_all(|errand| errand != Errand::Copy).await;
    }

    /// Stops everything: the app ends.
    pub async fn end(&self) {
        self.shared.stop_all(|_| true).await;
    }

    /// Goes on with downloads that nobody has paused: those that were suspended, or broken off when the app ended; and
    /// with reading what was brought. Those that this network forbids are stopped, and go on when it is called for
    /// another.
    ///
    /// # Errors
    ///
    /// The first that a [`download`](Self::download) failed with.
    pub async fn resume(&self, network: Network) -> Result<(), Trouble> {
        if network.is_closed() {
            self.shared.stop_all(|errand| errand == Errand::Fetch).await;
        }
        self.shared.read_unread();
        let mut outcome = Ok(());
        for offer in self.shared.offers.clone() {
            let note = self.shared.folder.note(&offer.id);
            let note = on_disk(move || Note::load(&note)).await?;
            if note.is_some_and(|note| note.is_wanted) {
                outcome = outcome.and(self.download(&offer.id, network).await);
            }
        }

        outcome
    }

    /// Removes a model's file, or what has come of it. A file that a person brought stays where it is, and is
    /// forgotten. Whoever runs the model stops that first.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unknown`] if there is none of this name
    /// - if the system cannot remove it
    pub async fn delete(&self, id: &ModelId) -> Result<(), Trouble> {
        self.get(id)?; // before its name becomes that of a file
        self.shared.stop(id).await;

        self.shared.delete(id).await
    }

    /// Takes a file that a person picked into the list, and uses it where it lies, or, where that cannot be, a copy. That
    /// is seen in the list as copying; [`delete`](Self::delete) stops it, and `None` is returned. Done when its header has
    /// been looked at; then it is read once, which is seen in the list as checking.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unsupported`] and [`Trouble::Unfit`], which say what would do
    /// - [`Trouble::StorageShort`] if there is no room for a copy
    /// - if it cannot be read, or noted down
    pub async fn import(&self, picked: Picked) -> Result<Option<ModelId>, Trouble> {
        let settled = match on_disk(move || picked.settle()).await?? {
            Settling::Stays(settled) => settled,
            Settling::Given { path, name } => self.shared.keep(path, name).await?,
            Settling::Moves(loose) => match self.shared.copy(loose).await? {
                Some(settled) => settled,
                None => return Ok(None),
            },
        };

        self.take_in(settled).await.map(Some)
    }

    async fn take_in(&self, settled: Settled) -> Result<ModelId, Trouble> {
        let shared = Arc::clone(&self.shared);
        let (brought, card) = on_disk(move || shared.look(settled)).await??;
        let id = brought.known.id.clone();
        let is_here = self
            .get(&id)
            .is_ok_and(|listed| listed.availability == ModelAvailability::Here);
        if is_here {
            let shared = Arc::clone(&self.shared);
            return on_disk(move || shared.remove_copy(&brought).map(|()| id)).await?;
        }

        self.shared.stop(&id).await;
        self.shared.bring(brought, card).await?;
        self.shared.read_through(&id);
        Ok(id)
    }

    /// Returns the addresses of models that were brought and must be opened again, after the app was started anew.
    pub fn unopened(&self) -> Vec<(ModelId, String)> {
        let brought = lock(&self.shared.brought);
        let unopened = brought.values().filter(|brought| brought.held.is_none());

        unopened
            .filter_map(|brought| match &brought.known.place {
                Place::Address(address) => Some((brought.known.id.clone(), address.clone())),
                Place::Path(_) => None,
            })
            .collect()
    }

    /// Takes the open file of one of [`unopened`](Self::unopened).
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unknown`] if there is none of this name
    /// - [`Trouble::Changed`] if it is another file by now
    pub async fn reopen(&self, id: &ModelId, file: File) -> Result<(), Trouble> {
        let brought = {
            let mut list = lock(&self.shared.brought);
            let brought = list.get_mut(id).ok_or(Trouble::Unknown)?;
            brought.held = Some(Arc::new(file));
            brought.clone()
        };
        let card = on_disk(move || {
            let path = brought.unchanged_path()?;
            Ok::<_, Trouble>((brought.known.sha256.is_some(), Card::read(&path)?))
        });

        let (was_read, card) = card.await??;
        self.shared.show(id, card, ModelAvailability::Here);
        if !was_read {
            self.shared.read_through(id);
        }
        Ok(())
    }

    /// Returns where a model's file lies, if it is here whole and as it was.
    ///
    /// # Errors
    ///
    /// - [`Trouble::Unknown`], [`Trouble::NotHere`]
    /// - [`Trouble::Vanished`], [`Trouble::Changed`] if it is a person's own and is no longer what it was; the list says
    ///   so from then on
    pub async fn path(&self, id: &ModelId) -> Result<PathBuf, Trouble> {
        if self.get(id)?.availability != ModelAvailability::Here {
            return Err(Trouble::NotHere);
        }
        let brought = lock(&self.shared.brought).get(id).cloned();
        let whole = self.shared.folder.whole(id);
        let found = on_disk(move || match brought {
            Some(brought) => brought.unchanged_path(),
            None if whole.is_file() => Ok(whole),
            None => Err(Trouble::NotHere),
        });

        found.await?.inspect_err(|trouble| {
            self.shared.set(id, failed(trouble));
        })
    }

    /// Returns a model as what a leader is asked to run. The file is read and hashed the first time it is cut so, about
    /// a second per GB; after that this takes no time.
    ///
    /// # Errors
    ///
    /// As [`path`](Self::path); [`Trouble::Unfit`] if it cannot be run so.
    pub async fn work(&self, id: &ModelId, wish: &Wish) -> Result<Work, Trouble> {
        let path = self.path(id).await?;
        let cutting = self
            .shared
            .cutting(&path, work::n_shards(wish.n_phones))
            .await?;

        cutting.work(wish).map_err(|error| Trouble::Unfit {
            detail: error.to_string(),
        })
    }

    /// Returns the bytes that models take in the app's folder, and those that are free.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub async fn storage(&self) -> Result<(u64, u64), Trouble> {
        let folder = self.shared.folder.clone();

        on_disk(move || Ok((folder.used_bytes()?, folder.free_bytes()?))).await?
    }
}

impl Shared {
    fn set(&self, id: &ModelId, availability: ModelAvailability) {
        self.listing.send_if_modified(|listing| {
            let listed = listing.iter_mut().find(|listed| listed.id == *id);
            listed.is_some_and(|listed| {
                std::mem::replace(&mut listed.availability, availability.clone()) != availability
            })
        });
    }

    /// Puts a model into the list that a person brought.
    fn show(&self, id: &ModelId, card: Card, availability: ModelAvailability) {
        let listed = Listed {
            id: id.clone(),
            card: Arc::new(card),
            imported: true,
            offered: self.offers.iter().any(|offer| offer.id == *id),
            availability,
        };
        self.listing.send_modify(|listing| {
            match listing.iter_mut().find(|known| known.id == *id) {
                Some(known) => *known = listed,
                None => listing.push(listed),
            }
        });
    }

    /// Takes something out of the list.
    fn forget(&self, id: &ModelId) {
        self.listing
            .send_modify(|listing| listing.retain(|listed| listed.id != *id));
    }

    fn is_busy(&self, id: &ModelId) -> bool {
        lock(&self.jobs)
            .get(id)
            .is_some_and(|job| !job.task.is_finished())
    }

    /// Stops what is being done with a model, and waits until that has ended.
    async fn stop(&self, id: &ModelId) {
        let job = lock(&self.jobs).remove(id);
        if let Some(job) = job {
            job.stop.send_replace(true);
            let _ = job.task.await; // one that panicked has ended as well
        }
    }

    async fn stop_all(&self, which: impl Fn(Errand) -> bool) {
        let ids = {
            let jobs = lock(&self.jobs);
            let wanted = jobs.iter().filter(|(_, job)| which(job.errand));
            wanted.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };

        for id in ids {
            self.stop(&id).await;
        }
    }

    /// Returns the bytes that are missing of a model, if there is room for them.
    async fn check_room(self: &Arc<Self>, offer: &Offer) -> Result<u64, Trouble> {
        let part = self.folder.part(&offer.id);
        let file_bytes = offer.card.file_bytes;
        let shared = Arc::clone(self);

        on_disk(move || {
            let here_bytes = part.metadata().map_or(0, |metadata| metadata.len());
            let missing_bytes = file_bytes.saturating_sub(here_bytes);
            shared.check_room_for(missing_bytes)?;
            Ok(missing_bytes)
        })
        .await?
    }

    /// Checks that so many bytes have room, beside all that is about to come.
    fn check_room_for(&self, bytes: u64) -> Result<(), Trouble> {
        let jobs = lock(&self.jobs);
        let others = jobs.values().filter(|job| !job.task.is_finished());
        let promised_bytes = others.map(|job| job.bytes).sum();
        drop(jobs);
        let limits = *lock(&self.limits);

        self.folder.check_room(bytes, promised_bytes, limits)
    }

    /// Copies a file that a person picked; `None` if they stopped that. The list shows it meanwhile under a name of its
    /// own: what it will be called is known when it is here.
    async fn copy(self: &Arc<Self>, loose: Loose) -> Result<Option<Settled>, Trouble> {
        let shared = Arc::clone(self);
        let alone = self.asking_for_room.lock().await;
        let (Loose { file, name }, card) = on_disk(move || {
            let card = loose.card()?;
            shared.check_room_for(card.file_bytes)?;
            Ok::<_, Trouble>((loose, card))
        })
        .await??;
        let to = self.folder.new_copy();
        let (id, bytes) = (copy::name_of(&to), card.file_bytes);
        let beginning = ModelAvailability::Copying {
            done_bytes: 0,
            rate_bytes_s: 0.0,
        };
        self.show(&id, card, beginning);

        let (done, copied) = oneshot::channel();
        let path = to.clone();
        self.start(&id, bytes, Errand::Copy, |shared, stop| {
            let copy = Copy {
                file,
                to,
                folder: shared.folder.clone(),
                progress: Progress::new(shared.tell(&id)),
                stop,
            };
            let shared = Arc::clone(shared);
            async move {
                let copied = on_disk(move || copy.run(|bytes| shared.check_room_for(bytes))).await;
                let _ = done.send(copied.flatten()); // whoever waits for it may be gone
            }
        });
        drop(alone);
        let copied = copied.await;
        self.stop(&id).await; // it has ended
        self.forget(&id);

        match copied {
            Ok(Ok(true)) => {
                let path = on_disk(move || path.canonicalize()).await??;
                Ok(Some(Settled::at(path, name)))
            }
            Ok(Ok(false)) | Err(_) => Ok(None),
            Ok(Err(trouble)) => Err(trouble),
        }
    }

    /// Moves a file here that is the app's already: it takes no more room than before.
    async fn keep(&self, from: PathBuf, name: String) -> Result<Settled, Trouble> {
        let to = self.folder.new_copy();

        on_disk(move || {
            std::fs::rename(from, &to)?;
            Ok(Settled::at(to.canonicalize()?, name))
        })
        .await?
    }

    /// Looks at a file where it stays.
    fn look(&self, settled: Settled) -> Result<(Brought, Card), Trouble> {
        let path = settled.path().map(Path::to_owned);

        settled.look(&self.offers).inspect_err(|_| {
            if let Some(path) = path {
                let _ = self.folder.remove_copy(&path); // the next start does it otherwise
            }
        })
    }

    /// Removes what was brought, if it is a copy.
    fn remove_copy(&self, brought: &Brought) -> Result<(), Trouble> {
        if let Some(path) = brought.lies_at() {
            self.folder.remove_copy(path)?;
        }

        Ok(())
    }

    fn begin(
        self: &Arc<Self>,
        offer: &Offer,
        sources: Vec<source::Source>,
        bytes: u64,
        errand: Errand,
    ) {
        self.start(&offer.id, bytes, errand, |shared, stop| {
            shared.set(
                &offer.id,
                ModelAvailability::Downloading {
                    done_bytes: offer.card.file_bytes - bytes,
                    rate_bytes_s: 0.0,
                },
            );
            let download = Download {
                offer: offer.clone(),
                folder: shared.folder.clone(),
                sources,
                servers: shared.servers.clone(),
                progress: Progress::new(shared.tell(&offer.id)),
                stop,
            };
            let (shared, id) = (Arc::clone(shared), offer.id.clone());
            async move {
                let ended = download.run().await;
                shared.end(&id, ended).await;
            }
        });
    }

    /// Says how a download ended.
    async fn end(self: &Arc<Self>, id: &ModelId, ended: Result<Ended, Trouble>) {
        let (shared, of) = (Arc::clone(self), id.clone());
        let availability = on_disk(move || match ended {
            Ok(Ended::Whole) => ModelAvailability::Here,
            Ok(Ended::Stopped) => shared.what_is_here(&of),
            Err(trouble) => {
                if let Err(error) = shared.forget_wish(&of) {
                    tracing::warn!(%error, "That a download failed cannot be noted down");
                }
                failed(&trouble)
            }
        });

        self.set(
            id,
            availability
                .await
                .unwrap_or_else(|trouble| failed(&trouble)),
        );
    }

    /// Begins something with a model; nothing, if something is being done with it.
    fn start<F>(
        self: &Arc<Self>,
        id: &ModelId,
        bytes: u64,
        errand: Errand,
        job: impl FnOnce(&Arc<Self>, watch::Receiver<bool>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut jobs = lock(&self.jobs);
        if jobs.get(id).is_some_and(|job| !job.task.is_finished()) {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(job(self, stopped));
        let job = Job {
            stop,
            task,
            bytes,
            errand,
        };
        jobs.insert(id.clone(), job);
    }

    /// Reads what people brought and what was not read to its end; not what was found damaged.
    fn read_unread(self: &Arc<Self>) {
        let unread = {
            let (brought, listing) = (lock(&self.brought), self.listing.borrow());
            let has_failed = |id: &ModelId| {
                let listed = listing.iter().find(|listed| listed.id == *id);
                listed.is_some_and(|l| matches!(l.availability, ModelAvailability::Failed { .. }))
            };
            let known = brought.values().map(|brought| &brought.known);
            let unread = known.filter(|known| known.sha256.is_none());
            let unread = unread.map(|known| known.id.clone());
            unread.filter(|id| !has_failed(id)).collect::<Vec<_>>()
        };

        for id in unread {
            self.read_through(&id);
        }
    }

    /// Reads a file that a person brought to its end, for its hash.
    fn read_through(self: &Arc<Self>, id: &ModelId) {
        self.start(id, 0, Errand::Read, |shared, stop| {
            let mut progress = Progress::new(shared.tell(id));
            let (shared, id) = (Arc::clone(shared), id.clone());
            async move {
                let (of, reader) = (id.clone(), Arc::clone(&shared));
                let hashed = on_disk(move || reader.hash_brought(&of, &mut progress, &stop)).await;
                let read = match hashed.flatten() {
                    Ok(Some(known)) => shared.was_read(known).await,
                    Ok(None) => return,
                    Err(trouble) => Err(trouble),
                };
                let availability = match read {
                    Ok(()) => ModelAvailability::Here,
                    Err(trouble) => failed(&trouble),
                };
                shared.set(&id, availability);
            }
        });
    }

    /// Returns it with its hash, if it was read to its end.
    fn hash_brought(
        &self,
        id: &ModelId,
        progress: &mut Progress,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<KnownModel>, Trouble> {
        let brought = lock(&self.brought)
            .get(id)
            .cloned()
            .ok_or(Trouble::Unknown)?;
        let mut file = File::open(brought.unchanged_path()?)?;
        let hashed = part::hash(&mut file, |done_bytes| {
            progress.checking(done_bytes);
            !*stop.borrow()
        })?;
        let Some((hasher, _)) = hashed else {
            return Ok(None);
        };
        brought.unchanged_path()?;

        let sha256 = part::hex(hasher);
        let is_offered = self.offers.iter().any(|offer| offer.id == *id);
        if is_offered && sha256 != id.0 {
            return Err(Trouble::Damaged);
        }
        Ok(Some(KnownModel {
            sha256: Some(sha256),
            ..brought.known
        }))
    }

    /// Remembers a model that was brought, over the next start.
    async fn remember(&self, mut known: KnownModel) -> Result<(), Trouble> {
        if let Place::Path(path) = &mut known.place {
            *path = self.folder.remembered(path)?;
        }
        let remembered = self
            .history
            .run(move |archive| archive.remember_model(&known));

        Ok(remembered.await?)
    }

    /// A model that was brought has been read to its end.
    async fn was_read(&self, known: KnownModel) -> Result<(), Trouble> {
        self.remember(known.clone()).await?;

        if let Some(brought) = lock(&self.brought).get_mut(&known.id) {
            brought.known = known;
        }
        Ok(())
    }

    async fn bring(self: &Arc<Self>, brought: Brought, card: Card) -> Result<(), Trouble> {
        let id = brought.known.id.clone();
        self.remember(brought.known.clone()).await?;
        let before = lock(&self.brought).insert(id.clone(), brought);
        if let Some(before) = before {
            let shared = Arc::clone(self);
            on_disk(move || shared.remove_copy(&before)).await??;
        }

        self.show(&id, card, ModelAvailability::Checking { done_bytes: 0 });
        Ok(())
    }

    /// Removes the file first: what is remembered without a file can be removed once more, a file that is not remembered
    /// would be taken in again.
    async fn delete(self: &Arc<Self>, id: &ModelId) -> Result<(), Trouble> {
        let brought = lock(&self.brought).get(id).cloned();
        let (shared, of) = (Arc::clone(self), id.clone());
        on_disk(move || {
            shared.folder.remove(&of)?;
            brought.map_or(Ok(()), |brought| shared.remove_copy(&brought))
        })
        .await??;
        let of = id.clone();
        self.history
            .run(move |archive| archive.forget_model(&of))
            .await?;
        lock(&self.brought).remove(id);

        let offer = self.offers.iter().find(|offer| offer.id == *id);
        self.listing.send_modify(|listing| match offer {
            None => listing.retain(|listed| listed.id != *id),
            Some(offer) => {
                let listed = listing.iter_mut().find(|listed| listed.id == *id);
                if let Some(listed) = listed {
                    *listed = Listed::of(offer, ModelAvailability::NotHere);
                }
            }
        });
        Ok(())
    }

    /// Notes down that a download is not to go on by itself.
    fn forget_wish(&self, id: &ModelId) -> Result<(), Trouble> {
        let path = self.folder.note(id);
        let Some(note) = Note::load(&path).filter(|note| note.is_wanted) else {
            return Ok(());
        };
        let note = Note {
            is_wanted: false,
            ..note
        };

        Ok(note.save(&path)?)
    }

    fn what_is_here(&self, id: &ModelId) -> ModelAvailability {
        let part = self.folder.part(id).metadata();
        part.map_or(ModelAvailability::NotHere, |part| {
            ModelAvailability::Paused {
                done_bytes: part.len(),
            }
        })
    }

    fn tell(self: &Arc<Self>, id: &ModelId) -> Tell {
        let (shared, id) = (Arc::clone(self), id.clone());

        Box::new(move |availability| shared.set(&id, availability))
    }

    async fn cutting(&self, path: &Path, n_shards: u32) -> Result<Cutting, Trouble> {
        let path = path.to_owned();
        let mut cuttings = self.cuttings.lock().await;
        let (name, path) = on_disk(move || {
            let metadata = path.metadata()?;
            let name = CutName {
                path: path.clone(),
                file_bytes: metadata.len(),
                modified: metadata.modified().ok(),
                n_shards,
            };
            Ok::<_, io::Error>((name, path))
        })
        .await??;
        if let Some((_, cutting)) = cuttings.iter().find(|(known, _)| *known == name) {
            return Ok(cutting.clone());
        }

        let cutting = on_disk(move || Cutting::of(&path, n_shards, |_| {})).await?;
        let cutting = cutting.map_err(|error| Trouble::Unfit {
            detail: error.to_string(),
        })?;
        if cuttings.len() == CUTTINGS_MAX {
            cuttings.remove(0);
        }
        cuttings.push((name, cutting.clone()));

        Ok(cutting)
    }
}

impl Listed {
    fn of(offer: &Offer, availability: ModelAvailability) -> Self {
        Self {
            id: offer.id.clone(),
            card: Arc::clone(&offer.card),
            imported: false,
            offered: true,
            availability,
        }
    }
}

/// Returns the models that are offered, with what is here of them; those that were brought; and those that were offered
/// by another version of the app and are still here.
fn list(
    folder: &Folder,
    offers: &[Offer],
    brought: &BTreeMap<ModelId, Brought>,
) -> io::Result<Vec<Listed>> {
    let mut listing = Vec::new();
    for offer in offers {
        listing.push(match brought.get(&offer.id) {
            Some(brought) => list_brought(brought, Some(offer)),
            None => Listed::of(offer, offered(folder, offer)?),
        });
    }
    let is_offered = |id: &ModelId| offers.iter().any(|offer| offer.id == *id);

    let others = brought
        .values()
        .filter(|brought| !is_offered(&brought.known.id));
    listing.extend(others.map(|brought| list_brought(brought, None)));
    for id in folder.wholes()?.into_iter().filter(|id| !is_offered(id)) {
        match Card::read(&folder.whole(&id)) {
            Ok(card) => listing.push(Listed {
                id,
                card: Arc::new(card),
                imported: false,
                offered: false,
                availability: ModelAvailability::Here,
            }),
            Err(error) => tracing::warn!(%error, "A file among the models is none"),
        }
    }

    Ok(listing)
}

/// Returns where a model is that is offered, and clears away what a crash has left.
fn offered(folder: &Folder, offer: &Offer) -> io::Result<ModelAvailability> {
    let bytes = |path: PathBuf| path.metadata().ok().map(|metadata| metadata.len());

    match bytes(folder.whole(&offer.id)) {
        Some(bytes) if bytes == offer.card.file_bytes => {
            let _ = std::fs::remove_file(folder.note(&offer.id)); // is usually not there
            return Ok(ModelAvailability::Here);
        }
        Some(_) => folder.remove(&offer.id)?,
        None => {}
    }

    Ok(match bytes(folder.part(&offer.id)) {
        Some(done_bytes) => ModelAvailability::Paused { done_bytes },
        None => ModelAvailability::NotHere,
    })
}

/// Takes in the copies that are not remembered, if they are whole models: the app was killed before it remembered them, or
/// the history was lost. All others were broken off, or have been replaced, and are removed.
fn adopt(
    folder: &Folder,
    offers: &[Offer],
    brought: &mut BTreeMap<ModelId, Brought>,
) -> Vec<KnownModel> {
    let known = brought.values().filter_map(Brought::lies_at);
    let copies = folder.copies_but(&known.collect::<Vec<_>>());
    let copies = copies.inspect_err(|error| tracing::warn!(%error, "Copies cannot be looked for"));
    let mut adopted = Vec::new();

    for copy in copies.unwrap_or_default() {
        let settled = Settled::at(copy.clone(), COPY_NAME.into());
        match settled.look(offers) {
            Ok((found, _)) if !brought.contains_key(&found.known.id) => {
                adopted.push(found.known.clone());
                brought.insert(found.known.id.clone(), found);
            }
            Ok(_) | Err(_) => {
                let removed = folder.remove_copy(&copy);
                let _ = removed.inspect_err(|error| tracing::warn!(%error, "A copy stays")); // until the next start
            }
        }
    }

    adopted
}

fn list_brought(brought: &Brought, offer: Option<&Offer>) -> Listed {
    let card = brought.unchanged_path().and_then(|path| Card::read(&path));
    let known = &brought.known;
    let availability = match (&card, &known.sha256) {
        (Ok(_), Some(_)) => ModelAvailability::Here,
        (Ok(_), None) => ModelAvailability::Checking { done_bytes: 0 },
        (Err(trouble), _) => failed(trouble),
    };
    let card = match (card, offer) {
        (Ok(card), _) => Arc::new(card),
        (Err(_), Some(offer)) => Arc::clone(&offer.card),
        (Err(_), None) => Arc::new(Card::unknown(&known.file_name, known.file_bytes)),
    };

    Listed {
        id: known.id.clone(),
        card,
        imported: true,
        offered: offer.is_some(),
        availability,
    }
}

fn failed(trouble: &Trouble) -> ModelAvailability {
    ModelAvailability::Failed {
        problem: Problem::from(trouble),
    }
}

/// Returns whether a text is the SHA-256 of something, in small hexadecimal digits: what a file here may be called.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Runs something that waits for the disk, away from threads that must not wait.
async fn on_disk<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(what).await;

    done.map_err(|error| Trouble::Disk {
        detail: error.to_string(),
    })
}

/// Takes a lock. What it guards is whole between any two statements, so a panic elsewhere has broken nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

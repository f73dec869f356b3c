//! Shards on this phone's disk: whole, coming in, or waiting inside the model file.
//!
//! ```text
//! shards/HASH.gguf       whole, renamed into place when every chunk and the whole were right
//! shards/HASH.incoming   chunks where they belong, holes between them
//! the model file         every shard of it, cut when somebody reads a chunk
//! ```
//!
//! - **There is no journal.** Whether a chunk of a file is there is found out by hashing it: a hole has not the hash
//!   of a chunk. That takes a second for a gigabyte when a fetch is opened, and cannot be wrong, whenever the phone
//!   was killed and whatever the disk forgot.
//! - **Everything is looked at again** before it is loaded or sent: disks and people are what they are. A shard that
//!   was damaged is mended, chunk by chunk, from whoever has it.
//! - **What nobody needs goes** when room is needed, the longest unused first; never what the plan names.
//! - One thread does all of it. Its jobs are bounded by [`proto::transfer`]: so many chunks on their way at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::thread;
use std::time::SystemTime;

use gguf_tools::{CHUNK_BYTES, ChunkHash, Cut, Gguf, Manifest, ShardEntry, ShardHash, verify_file};
use proto::PeerId;
use proto::transfer::{
    CHUNK_HEADER_BYTES, ChunkHeader, ChunkIndex, ChunkSet, InEvent, StoreFailure,
};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// Folder of the shards within a phone's data folder.
const SHARDS_FOLDER: &str = "shards";

/// How the name of a whole shard ends.
const WHOLE: &str = "gguf";

/// How that of one that is being fetched does.
const INCOMING: &str = "incoming";

/// Models that are known at once: the one in force, and the next.
const MODELS_MAX: usize = 2;

/// Flash that is left to the rest of the phone. Systems warn and slow down when a few hundred megabytes are left: a
/// guess at a little more.
const LEFT_FREE_BYTES: u64 = 256 << 20;

/// What the store says.
#[derive(Debug)]
pub enum StoreEvent {
    /// For the state.
    Transfer(InEvent<Vec<u8>>),
    /// A chunk to be sent, with its header.
    Chunk {
        /// To whom.
        to: PeerId,
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
        /// Header and bytes.
        frame: Vec<u8>,
    },
}

/// What the thread is asked.
#[derive(Debug)]
enum Job {
    Describe(Arc<Manifest>),
    Open(ShardHash),
    Check {
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        payload: Vec<u8>,
    },
    Finish(ShardHash),
    Close(ShardHash),
    Serve {
        to: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
    },
}

/// The shards of one phone.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    jobs: thread_mpsc::Sender<Job>,
    /// At most one for each job, and one for each shard of a model.
    events: mpsc::UnboundedReceiver<StoreEvent>,
}

impl Store {
    /// Keeps shards in a phone's data folder; `model` is the file to cut them from, if this phone has one.
    ///
    /// # Errors
    ///
    /// What the system returns if the folder cannot be made.
    pub fn start(data_folder: &Path, model: Option<PathBuf>) -> io::Result<Self> {
        let folder = data_folder.join(SHARDS_FOLDER);
        fs::create_dir_all(&folder)?;
        let (jobs, inbox) = thread_mpsc::channel();
        let (outbox, events) = mpsc::unbounded_channel();
        let mut keeper = Keeper {
            folder: folder.clone(),
            model,
            models: Vec::new(),
            wanted: BTreeSet::new(),
            incoming: BTreeMap::new(),
            events: outbox,
        };

        thread::Builder::new().name("store".into()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                keeper.work(job);
            }
        })?;
        Ok(Self {
            folder,
            jobs,
            events,
        })
    }

    /// Returns where a whole shard is.
    pub fn path(&self, shard: ShardHash) -> PathBuf {
        whole(&self.folder, shard)
    }

    /// Learns of a model's shards: answered by `Held` for each that can be served.
    pub fn describe(&self, manifest: Arc<Manifest>) {
        self.job(Job::Describe(manifest));
    }

    /// See [`proto::transfer::OutEvent::Open`].
    pub fn open(&self, shard: ShardHash) {
        self.job(Job::Open(shard));
    }

    /// See [`proto::transfer::OutEvent::Check`].
    pub fn check(&self, from: PeerId, shard: ShardHash, chunk: ChunkIndex, payload: Vec<u8>) {
        self.job(Job::Check {
            from,
            shard,
            chunk,
            payload,
        });
    }

    /// See [`proto::transfer::OutEvent::Finish`].
    pub fn finish(&self, shard: ShardHash) {
        self.job(Job::Finish(shard));
    }

    /// See [`proto::transfer::OutEvent::Close`].
    pub fn close(&self, shard: ShardHash) {
        self.job(Job::Close(shard));
    }

    /// See [`proto::transfer::OutEvent::Serve`]: answered by [`StoreEvent::Chunk`], or by `Unreadable`.
    pub fn serve(&self, to: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        self.job(Job::Serve { to, shard, chunk });
    }

    /// Waits for the next thing that the store says.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> StoreEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await, // a panic of the thread has been printed
        }
    }

    fn job(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("The store's thread has ended");
        }
    }
}

/// The thread's own.
struct Keeper {
    folder: PathBuf,
    model: Option<PathBuf>,
    /// Models that are known, the newest last.
    models: Vec<Described>,
    /// Shards that must stay.
    wanted: BTreeSet<ShardHash>,
    incoming: BTreeMap<ShardHash, Incoming>,
    events: mpsc::UnboundedSender<StoreEvent>,
}

/// A model, and this phone's own file of it.
struct Described {
    manifest: Arc<Manifest>,
    cut: Option<Cut>,
}

/// A shard that is being fetched.
struct Incoming {
    file: File,
    held: ChunkSet,
}

impl Keeper {
    fn work(&mut self, job: Job) {
        match job {
            Job::Describe(manifest) => self.describe(manifest),
            Job::Open(shard) => self.open(shard),
            Job::Check {
                from,
                shard,
                chunk,
                payload,
            } => self.check(from, shard, chunk, &payload),
            Job::Finish(shard) => self.finish(shard),
            Job::Close(shard) => {
                self.incoming.remove(&shard);
                self.wanted.remove(&shard);
            }
            Job::Serve { to, shard, chunk } => self.serve(to, shard, chunk),
        }
    }

    fn describe(&mut self, manifest: Arc<Manifest>) {
        let known = self.models.iter().any(|m| *m.manifest == *manifest);
        if !known {
            let cut = self.cut_as(&manifest);
            self.models.push(Described {
                manifest: Arc::clone(&manifest),
                cut,
            });
            if self.models.len() > MODELS_MAX {
                self.models.remove(0);
            }
        }

        let model = self.models.iter().find(|m| *m.manifest == *manifest);
        let has_model = model.is_some_and(|model| model.cut.is_some());
        for entry in manifest.shards() {
            let length = fs::metadata(whole(&self.folder, entry.hash)).map(|file| file.len());
            if has_model || length.is_ok_and(|bytes| bytes == entry.bytes) {
                self.say(InEvent::Held {
                    shard: entry.hash,
                    bytes: entry.bytes,
                });
            }
        }
    }

    /// Cuts this phone's model where the manifest says, if it is that model.
    fn cut_as(&self, manifest: &Manifest) -> Option<Cut> {
        let path = self.model.as_ref()?;
        let ranges = manifest.layers.iter().filter_map(ShardEntry::layers);
        let ranges = ranges.collect::<Vec<_>>();
        let gguf = Gguf::open(path).map_err(|e| e.to_string());
        let cut = gguf.and_then(|gguf| Cut::new(&gguf, &ranges).map_err(|e| e.to_string()));

        match cut {
            Ok(cut) if is_of(&cut, manifest) => Some(cut),
            Ok(_) => {
                tracing::info!(path = %path.display(), "This phone's model is not the one that the group runs");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "This phone's model cannot be cut");
                None
            }
        }
    }

    fn open(&mut self, shard: ShardHash) {
        self.wanted.insert(shard);
        let Some(entry) = self.entry(shard) else {
            return self.fail(shard, None, io_failure("a shard of no model that is known"));
        };
        let path = whole(&self.folder, shard);

        match verify_file(&entry, &path, |_| {}) {
            Ok(()) => {
                touch(&path);
                return self.say(InEvent::Finished(shard));
            }
            Err(error) => tracing::debug!(%error, "Shard is not here"),
        }
        match self.open_missing(&entry, &path) {
            Ok(Opened::Finished) => self.say(InEvent::Finished(shard)),
            Ok(Opened::Some(held)) => self.say(InEvent::Opened { shard, held }),
            Err(failure) => self.fail(shard, None, failure),
        }
    }

    /// Cuts a shard out of the model; else keeps what is right of it, and makes room for the rest.
    fn open_missing(&mut self, entry: &ShardEntry, path: &Path) -> Result<Opened, StoreFailure> {
        if let Some(cut) = self.models.iter().find_map(|model| model.cut_with(entry)) {
            let shard = cut.shards().iter().find(|s| s.kind() == entry.kind);
            let shard = shard.expect("the cut was found by its shard").clone();
            self.make_room(entry.bytes)?;
            let written = shard.write_file(path);
            written.map_err(|error| self.failure(&error, entry.bytes))?;
            if verify_file(entry, path, |_| {}).is_ok() {
                return Ok(Opened::Finished);
            }
            tracing::warn!("This phone's model is not the one that the group runs");
            for model in &mut self.models {
                model.cut = None;
            }
        }

        // A damaged one is mended where it is.
        let incoming = incoming(&self.folder, entry.hash);
        if path.exists() && !incoming.exists() {
            let renamed = fs::rename(path, &incoming);
            renamed.map_err(|error| self.failure(&error, entry.bytes))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&incoming)
            .map_err(|error| self.failure(&error, entry.bytes))?;
        let held = held_of(&file, entry).map_err(|error| self.failure(&error, entry.bytes))?;
        let missing_bytes = entry
            .bytes
            .saturating_sub(u64::from(held.len()) * CHUNK_BYTES);
        self.make_room(missing_bytes)?;
        file.set_len(entry.bytes)
            .map_err(|error| self.failure(&error, missing_bytes))?;

        let opened = Opened::Some(held.clone());
        self.incoming.insert(entry.hash, Incoming { file, held });
        Ok(opened)
    }

    fn check(&mut self, from: PeerId, shard: ShardHash, chunk: ChunkIndex, payload: &[u8]) {
        let entry = self.entry(shard);
        let Some(hash) = entry.and_then(|entry| entry.chunks.get(chunk.0 as usize).copied()) else {
            return self.fail(shard, Some(chunk), io_failure("a chunk that no shard has"));
        };
        if ChunkHash::of(payload) != hash {
            return self.say(InEvent::Corrupt { from, shard, chunk });
        }
        let Some(incoming) = self.incoming.get_mut(&shard) else {
            return self.fail(shard, Some(chunk), io_failure("a shard that is not open"));
        };

        let offset = u64::from(chunk.0) * CHUNK_BYTES;
        match incoming.file.write_all_at(payload, offset) {
            Ok(()) => {
                incoming.held.insert(chunk);
                self.say(InEvent::Verified { shard, chunk });
            }
            Err(error) => {
                let failure = self.failure(&error, payload.len() as u64);
                self.fail(shard, Some(chunk), failure);
            }
        }
    }

    fn finish(&mut self, shard: ShardHash) {
        let Some(entry) = self.entry(shard) else {
            return self.fail(shard, None, io_failure("a shard of no model that is known"));
        };

        match self.name(&entry) {
            Ok(true) => self.say(InEvent::Finished(shard)),
            Ok(false) => self.fail(shard, None, StoreFailure::NotTheShard),
            Err(error) => {
                let failure = self.failure(&error, entry.bytes);
                self.fail(shard, None, failure);
            }
        }
    }

    /// Gives a fetched shard its name, once it is on the disk. Returns whether it is what it should be.
    fn name(&mut self, entry: &ShardEntry) -> io::Result<bool> {
        let from = incoming(&self.folder, entry.hash);
        if let Some(incoming) = self.incoming.remove(&entry.hash) {
            incoming.file.sync_all()?;
        }
        if let Err(error) = verify_file(entry, &from, |_| {}) {
            tracing::warn!(%error, "Every chunk was right and the shard is not");
            fs::remove_file(&from)?;
            return Ok(false);
        }

        fs::rename(&from, whole(&self.folder, entry.hash))?;
        File::open(&self.folder)?.sync_all()?;
        Ok(true)
    }

    fn serve(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        match self.read(shard, chunk) {
            Some(frame) => {
                let _ = self.events.send(StoreEvent::Chunk {
                    to,
                    shard,
                    chunk,
                    frame,
                }); // the phone may be stopping
            }
            None => {
                tracing::warn!(%shard, chunk = chunk.0, "Chunk is damaged or gone, not sent");
                self.say(InEvent::Unreadable { to, shard, chunk });
            }
        }
    }

    /// Reads a chunk behind its header, if it is what it should be.
    fn read(&self, shard: ShardHash, chunk: ChunkIndex) -> Option<Vec<u8>> {
        let entry = self.entry(shard)?;
        let hash = *entry.chunks.get(chunk.0 as usize)?;
        let offset = u64::from(chunk.0) * CHUNK_BYTES;
        let n_bytes = entry.chunk_bytes(chunk.0)?;
        let header = ChunkHeader {
            shard,
            chunk,
            n_bytes: u32::try_from(n_bytes).expect("a chunk is 1 MiB"),
        };
        let mut frame = Vec::with_capacity(CHUNK_HEADER_BYTES + n_bytes as usize);
        frame.extend_from_slice(&header.encode());
        frame.resize(CHUNK_HEADER_BYTES + n_bytes as usize, 0);

        let place = &mut frame[CHUNK_HEADER_BYTES..];
        let file = File::open(whole(&self.folder, shard));
        let from_disk = match (&self.incoming.get(&shard), file) {
            (Some(incoming), _) => incoming.file.read_exact_at(place, offset).is_ok(),
            (None, Ok(file)) => file.read_exact_at(place, offset).is_ok(),
            (None, Err(_)) => false,
        };
        if !from_disk || ChunkHash::of(place) != hash {
            let cut = self
                .models
                .iter()
                .find_map(|model| model.cut_with(&entry))?;
            let virtual_shard = cut.shards().iter().find(|s| s.kind() == entry.kind)?;
            let read = virtual_shard.read_at(offset, place);
            if read != place.len() || ChunkHash::of(place) != hash {
                return None;
            }
        }

        Some(frame)
    }

    /// Makes room for so many bytes: takes away shards that nobody needs, the longest unused first.
    fn make_room(&self, needed_bytes: u64) -> Result<(), StoreFailure> {
        let free = || free_bytes(&self.folder).map_err(|error| self.failure(&error, needed_bytes));
        let needed = needed_bytes + LEFT_FREE_BYTES.min(needed_bytes);
        if free()? >= needed {
            return Ok(());
        }

        for (_, path) in self.unneeded() {
            tracing::info!(path = %path.display(), "Shard taken away: room is needed");
            let _ = fs::remove_file(&path); // it may be gone
            if free()? >= needed {
                return Ok(());
            }
        }
        Err(StoreFailure::Full {
            needed_bytes: needed,
            free_bytes: free()?,
        })
    }

    /// Returns files of shards that nobody needs, by when they were used last.
    fn unneeded(&self) -> Vec<(SystemTime, PathBuf)> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let unneeded = files.filter_map(|file| {
            let path = file.path();
            let shard = path.file_stem()?.to_str()?.parse::<ShardHash>().ok()?;
            let used_at = file.metadata().ok()?.modified().ok()?;
            (!self.wanted.contains(&shard)).then_some((used_at, path))
        });
        let mut unneeded = unneeded.collect::<Vec<_>>();
        unneeded.sort();

        unneeded
    }

    fn entry(&self, shard: ShardHash) -> Option<ShardEntry> {
        let mut entries = self.models.iter().rev().flat_map(|m| m.manifest.shards());

        entries.find(|entry| entry.hash == shard).cloned()
    }

    fn failure(&self, error: &io::Error, needed_bytes: u64) -> StoreFailure {
        let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
        if full.contains(&error.raw_os_error()) {
            return StoreFailure::Full {
                needed_bytes,
                free_bytes: free_bytes(&self.folder).unwrap_or(0),
            };
        }

        io_failure(&error.to_string())
    }

    fn fail(&self, shard: ShardHash, chunk: Option<ChunkIndex>, failure: StoreFailure) {
        self.say(InEvent::StoreFailed {
            shard,
            chunk,
            failure,
        });
    }

    fn say(&self, event: InEvent<Vec<u8>>) {
        let _ = self.events.send(StoreEvent::Transfer(event)); // the phone may be stopping
    }
}

/// What there is of a shard that is not whole.
enum Opened {
    Finished,
    Some(ChunkSet),
}

impl Described {
    /// Returns the cut that has a shard.
    fn cut_with(&self, entry: &ShardEntry) -> Option<&Cut> {
        let has_it = self.manifest.shards().any(|own| own.hash == entry.hash);

        self.cut.as_ref().filter(|_| has_it)
    }
}

/// Returns whether a cut is of the manifest's model, as far as a look at the first chunk of the ends and at all sizes
/// tells. Every chunk is looked at again when it is read.
fn is_of(cut: &Cut, manifest: &Manifest) -> bool {
    let mut first = vec![0; manifest.ends.chunk_bytes(0).unwrap_or(0) as usize];
    let same_sizes = manifest.shards().all(|entry| {
        let shard = cut.shards().iter().find(|s| s.kind() == entry.kind);
        shard.is_some_and(|shard| shard.len_bytes() == entry.bytes)
    });
    let ends = cut.shards().iter().find(|s| s.kind() == manifest.ends.kind);
    if let Some(ends) = ends {
        ends.read_at(0, &mut first);
    }

    same_sizes && manifest.ends.chunks.first() == Some(&ChunkHash::of(&first))
}

/// Returns which chunks of a file are right.
fn held_of(file: &File, entry: &ShardEntry) -> io::Result<ChunkSet> {
    let mut held = ChunkSet::none(u32::try_from(entry.chunks.len()).expect("below 2^20 chunks"));
    let bytes = file.metadata()?.len();
    let mut buffer = vec![0; CHUNK_BYTES as usize];

    for (index, hash) in (0..).zip(&entry.chunks) {
        let offset = u64::from(index) * CHUNK_BYTES;
        let length = entry.chunk_bytes(index).unwrap_or(0);
        if offset + length > bytes {
            break;
        }
        let chunk = &mut buffer[..length as usize];
        file.read_exact_at(chunk, offset)?;
        if ChunkHash::of(chunk) == *hash {
            held.insert(ChunkIndex(index));
        }
    }

    Ok(held)
}

fn whole(folder: &Path, shard: ShardHash) -> PathBuf {
    folder.join(format!("{shard}.{WHOLE}"))
}

fn incoming(folder: &Path, shard: ShardHash) -> PathBuf {
    folder.join(format!("{shard}.{INCOMING}"))
}

/// Notes that a shard was used.
fn touch(path: &Path) {
    let touched = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(%error, "Shard's time of use not noted");
    }
}

/// Returns what the file system gives to a user.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;

    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn io_failure(reason: &str) -> StoreFailure {
    StoreFailure::Io {
        reason: reason.to_owned(),
    }
}

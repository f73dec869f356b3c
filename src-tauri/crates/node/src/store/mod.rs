//! Shards on this phone's disk, for [`proto::transfer`]: its `Open`, `Check`, `Finish`, `Close` and `Serve`.
//!
//! Two threads, because disks block: one writes, in the order asked, and one reads for others, so that serving
//! never waits for a hash of a whole shard. What they find out comes back as the machine's own events.
//!
//! ```text
//!  event loop ──Open, Check, Finish, Close──► writer: Folder ──┐
//!       ▲     ──Serve───────────────────────► reader: Reader ──┤
//!       └───────────────────── StoreEvent ─────────────────────┘
//! ```
//!
//! The queues need no bound of their own: chunks in them are bounded by the machine's
//! [`IN_FLIGHT_MAX`](proto::transfer::IN_FLIGHT_MAX) and [`SENDING_MAX`](proto::transfer::SENDING_MAX), and what else
//! is in them is some bytes for each shard of a plan.

pub mod files;
pub mod folder;
pub mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use gguf_tools::{Cut, Manifest, ShardEntry, ShardHash, VirtualShard};
use proto::PeerId;
use proto::transfer::{ChunkIndex, InEvent, StoreFailure};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use folder::{Finished, Folder, Limits, Opened, Usage, Written};
use reader::Reader;

/// What the store says.
#[derive(Debug)]
pub enum StoreEvent {
    /// For the state machine.
    Transfer(InEvent<Vec<u8>>),
    /// A chunk, header and all, to be written to the chunk stream. Then say [`InEvent::Served`].
    Frame {
        /// To whom.
        to: PeerId,
        /// Shard that it is of.
        shard: ShardHash,
        /// The chunk.
        chunk: ChunkIndex,
        /// [`proto::transfer::ChunkHeader`] and payload.
        frame: Vec<u8>,
    },
}

/// Both threads. They end when this is dropped, after what they are at.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    events: tokio_mpsc::UnboundedReceiver<StoreEvent>,
}

#[derive(Debug)]
enum Write {
    Know(Vec<ShardEntry>),
    KnowModel(BTreeMap<ShardHash, VirtualShard>),
    Need(BTreeSet<ShardHash>),
    Open(ShardHash),
    Check {
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        payload: Vec<u8>,
    },
    Finish(ShardHash),
    Close(ShardHash),
    Quota(u64),
    Usage(oneshot::Sender<Usage>),
}

#[derive(Debug)]
enum Read {
    Know(Vec<ShardEntry>),
    KnowModel(BTreeMap<ShardHash, VirtualShard>),
    Serve {
        to: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
    },
}

impl Store {
    /// Starts the threads. Says first which shards are there ([`InEvent::Held`]).
    ///
    /// # Errors
    ///
    /// Any that the file system returns when the folder is made or read.
    pub fn start(folder: &Path, limits: Limits) -> io::Result<Self> {
        let (events, outbox) = tokio_mpsc::unbounded_channel();
        let shards = Folder::open(folder, limits)?;
        for (shard, bytes) in shards.whole()? {
            let held = StoreEvent::Transfer(InEvent::Held { shard, bytes });
            let _ = events.send(held); // the receiver is below
        }

        let (writes, inbox) = mpsc::channel();
        let writer = Writer {
            folder: shards,
            events: events.clone(),
        };
        spawn("store writer", move || writer.run(&inbox))?;
        let (reads, inbox) = mpsc::channel();
        let reader = Reader::new(folder);
        spawn("store reader", move || serve(reader, &inbox, &events))?;

        Ok(Self {
            folder: folder.into(),
            writes,
            reads,
            events: outbox,
        })
    }

    /// Waits for the next thing that the store says; `None` if both threads have ended, which is a bug.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<StoreEvent> {
        self.events.recv().await
    }

    /// Returns where a shard is once it is there.
    pub fn path(&self, shard: ShardHash) -> PathBuf {
        files::whole_path(&self.folder, shard)
    }

    /// Learns what shards are. To be said of a manifest, once it is validated, before any shard of it is wanted.
    pub fn know(&self, manifest: &Manifest) {
        let entries = manifest.shards().cloned().collect::<Vec<_>>();

        self.read(Read::Know(entries.clone()));
        self.write(Write::Know(entries));
    }

    /// Learns that this phone has the model, cut as `manifest` says: its shards are served without being written,
    /// and written, not fetched, when they are opened.
    pub fn offer_model(&self, cut: &Cut, manifest: &Manifest) {
        let of_kind = |entry: &ShardEntry| {
            let shard = cut.shards().iter().find(|shard| shard.kind() == entry.kind);
            shard.filter(|shard| shard.len_bytes() == entry.bytes)
        };
        let shards = manifest.shards();
        let shards = shards.filter_map(|entry| Some((entry.hash, of_kind(entry)?.clone())));
        let shards = shards.collect::<BTreeMap<_, _>>();

        self.read(Read::KnowModel(shards.clone()));
        self.write(Write::KnowModel(shards));
    }

    /// This phone has no model any more: what was not written of it can be served no more.
    pub fn forget_model(&self) {
        self.read(Read::KnowModel(BTreeMap::new()));
        self.write(Write::KnowModel(BTreeMap::new()));
    }

    /// Has shards take no more than this. What is there already stays until its room is needed.
    pub fn set_quota(&self, quota_bytes: u64) {
        self.write(Write::Quota(quota_bytes));
    }

    /// Tells what shards take, when what was asked of the disk before is done.
    pub fn usage(&self, to: oneshot::Sender<Usage>) {
        self.write(Write::Usage(to));
    }

    /// Says which shards the plans need: these are never given up for others.
    pub fn need(&self, shards: BTreeSet<ShardHash>) {
        self.write(Write::Need(shards));
    }

    /// Carries out [`OutEvent::Open`](proto::transfer::OutEvent::Open).
    pub fn open(&self, shard: ShardHash) {
        self.write(Write::Open(shard));
    }

    /// Carries out [`OutEvent::Check`](proto::transfer::OutEvent::Check).
    pub fn check(&self, from: PeerId, shard: ShardHash, chunk: ChunkIndex, payload: Vec<u8>) {
        self.write(Write::Check {
            from,
            shard,
            chunk,
            payload,
        });
    }

    /// Carries out [`OutEvent::Finish`](proto::transfer::OutEvent::Finish).
    pub fn finish(&self, shard: ShardHash) {
        self.write(Write::Finish(shard));
    }

    /// Carries out [`OutEvent::Close`](proto::transfer::OutEvent::Close).
    pub fn close(&self, shard: ShardHash) {
        self.write(Write::Close(shard));
    }

    /// Carries out [`OutEvent::Serve`](proto::transfer::OutEvent::Serve).
    pub fn serve(&self, to: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        self.read(Read::Serve { to, shard, chunk });
    }

    fn write(&self, order: Write) {
        if self.writes.send(order).is_err() {
            tracing::error!("The store's writer has ended");
        }
    }

    fn read(&self, order: Read) {
        if self.reads.send(order).is_err() {
            tracing::error!("The store's reader has ended");
        }
    }
}

/// The thread that writes.
struct Writer {
    folder: Folder,
    events: tokio_mpsc::UnboundedSender<StoreEvent>,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Write>) {
        while let Ok(order) = inbox.recv() {
            let event = self.carry_out(order);
            for shard in self.folder.take_gone() {
                self.tell(InEvent::Gone(shard));
            }
            if let Some(event) = event {
                self.tell(event);
            }
        }
    }

    fn carry_out(&mut self, order: Write) -> Option<InEvent<Vec<u8>>> {
        match order {
            Write::Know(entries) => self.folder.know(entries),
            Write::KnowModel(shards) => {
                for (&shard, file) in &shards {
                    let bytes = file.len_bytes();
                    self.tell(InEvent::Held { shard, bytes });
                }
                self.folder.know_model(shards);
            }
            Write::Need(shards) => self.folder.need(shards),
            Write::Close(shard) => self.folder.close(shard),
            Write::Quota(bytes) => self.folder.set_quota(bytes),
            Write::Usage(to) => match self.folder.usage() {
                Ok(usage) => drop(to.send(usage)), // nobody may wait any more
                Err(error) => tracing::warn!(%error, "What shards take is not known"),
            },
            Write::Open(shard) => return Some(self.open(shard)),
            Write::Check {
                from,
                shard,
                chunk,
                payload,
            } => return Some(self.check(from, shard, chunk, &payload)),
            Write::Finish(shard) => return Some(self.finish(shard)),
        }

        None
    }

    fn open(&mut self, shard: ShardHash) -> InEvent<Vec<u8>> {
        match self.folder.begin(shard) {
            Ok(Opened::Whole) => InEvent::Finished(shard),
            Ok(Opened::Part(held)) => InEvent::Opened { shard, held },
            Err(failure) => failed(shard, None, failure),
        }
    }

    fn check(
        &mut self,
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        payload: &[u8],
    ) -> InEvent<Vec<u8>> {
        match self.folder.write(shard, chunk, payload) {
            Ok(Written::Verified) => InEvent::Verified { shard, chunk },
            Ok(Written::Corrupt) => InEvent::Corrupt { from, shard, chunk },
            Err(failure) => failed(shard, Some(chunk), failure),
        }
    }

    fn finish(&mut self, shard: ShardHash) -> InEvent<Vec<u8>> {
        match self.folder.finish(shard) {
            Ok(Finished::Whole) => InEvent::Finished(shard),
            Ok(Finished::Damaged(held)) => InEvent::Opened { shard, held },
            Err(failure) => failed(shard, None, failure),
        }
    }

    fn tell(&self, event: InEvent<Vec<u8>>) {
        let _ = self.events.send(StoreEvent::Transfer(event)); // the event loop may have ended
    }
}

/// The thread that reads.
fn serve(
    mut reader: Reader,
    inbox: &mpsc::Receiver<Read>,
    events: &tokio_mpsc::UnboundedSender<StoreEvent>,
) {
    while let Ok(order) = inbox.recv() {
        match order {
            Read::Know(entries) => reader.know(entries),
            Read::KnowModel(shards) => reader.know_model(shards),
            Read::Serve { to, shard, chunk } => {
                let event = match reader.read(shard, chunk) {
                    Ok(frame) => StoreEvent::Frame {
                        to,
                        shard,
                        chunk,
                        frame,
                    },
                    Err(error) => {
                        tracing::warn!(%shard, ?chunk, %error, "Chunk cannot be served");
                        StoreEvent::Transfer(InEvent::Unreadable { to, shard, chunk })
                    }
                };
                let _ = events.send(event); // the event loop may have ended
            }
        }
    }
}

fn failed(shard: ShardHash, chunk: Option<ChunkIndex>, failure: StoreFailure) -> InEvent<Vec<u8>> {
    InEvent::StoreFailed {
        shard,
        chunk,
        failure,
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run)?;

    Ok(())
}

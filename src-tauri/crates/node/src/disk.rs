//! Shards on this phone's disk.
//!
//! A shard is a file named by its hash. It is written beside and renamed into place, so a file that is
//! there is whole; it is hashed again before it is loaded all the same, because disks and people are what
//! they are. A phone that has the model file cuts what it needs, and mends what is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gguf_tools::{Cut, Gguf, Manifest, ReadError, Refusal, ShardEntry, VerifyError, verify_file};
use proto::plan::Plan;
use proto::{Epoch, PeerId};
use tokio::sync::mpsc;

use crate::engine_thread::{Job, ShardFile};

/// Folder of the shards within a phone's data folder.
const SHARDS_FOLDER: &str = "shards";

/// Why a shard could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk is full, or not ours to write.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model file cannot be read.
    #[error("cannot read the model {}: {source}", path.display())]
    Model {
        /// The model's file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The model cannot be cut.
    #[error("cannot cut the model {}: {source}", path.display())]
    Refused {
        /// The model's file.
        path: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// The shard is not here, or not sound, and there is no model to cut it from.
    #[error(
        "shard {kind} is missing or damaged on this phone, which has no model file to cut it from"
    )]
    Missing {
        /// What the shard holds.
        kind: String,
    },
    /// What was cut is not what the leader's manifest names.
    #[error("the model file on this phone is not the one that the group runs: {0}")]
    OtherModel(VerifyError),
}

/// What the disk says.
#[derive(Debug)]
pub enum DiskEvent {
    /// So much has been checked or written.
    Progress {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Every shard of this phone's part is here: load them.
    Ready(Job),
    /// A shard cannot be had.
    Failed {
        /// The plan's epoch.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
}

/// The shards of one phone.
#[derive(Debug)]
pub struct Disk {
    me: PeerId,
    folder: PathBuf,
    model: Option<PathBuf>,
    sender: mpsc::UnboundedSender<DiskEvent>,
    /// A word for each chunk of a load: bounded by the plans that a leader makes.
    events: mpsc::UnboundedReceiver<DiskEvent>,
}

impl Disk {
    /// Keeps shards in `folder`; `model` is the file to cut them from, if this phone has one.
    ///
    /// # Errors
    ///
    /// [`DiskError::Write`] if the folder cannot be made.
    pub fn new(me: PeerId, folder: &Path, model: Option<PathBuf>) -> Result<Self, DiskError> {
        let folder = folder.join(SHARDS_FOLDER);
        fs::create_dir_all(&folder).map_err(|source| DiskError::Write {
            path: folder.clone(),
            source,
        })?;

        let (sender, events) = mpsc::unbounded_channel();
        Ok(Self {
            me,
            folder,
            model,
            sender,
            events,
        })
    }

    /// Sees to it that this phone's shards of a plan are here and sound: answered by an event.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn obtain(&self, plan: Arc<Plan>, manifest: Arc<Manifest>) {
        let obtain = Obtain {
            folder: self.folder.clone(),
            model: self.model.clone(),
            sender: self.sender.clone(),
            entries: entries_of(&plan, &manifest, self.me),
            done_bytes: 0,
        };

        tokio::task::spawn_blocking(move || {
            let sender = obtain.sender.clone();
            let event = match obtain.run(&manifest) {
                Ok(files) => DiskEvent::Ready(Job::Load {
                    plan,
                    manifest,
                    files,
                }),
                Err(error) => DiskEvent::Failed {
                    epoch: plan.epoch,
                    reason: error.to_string(),
                },
            };
            let _ = sender.send(event); // the phone may be stopping
        });
    }

    /// Waits for the next thing that the disk says.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> DiskEvent {
        let event = self.events.recv().await;

        event.expect("the disk keeps a sender itself")
    }
}

/// Opens a model and cuts it into about `n_shards` shards.
///
/// # Errors
///
/// - [`DiskError::Model`] if the file is no sound GGUF
/// - [`DiskError::Refused`] if the model is none that can be cut
pub fn open_and_cut(path: &Path, n_shards: u32) -> Result<Cut, DiskError> {
    Cut::about(&open(path)?, n_shards).map_err(|source| DiskError::Refused {
        path: path.into(),
        source,
    })
}

/// One go at getting the shards of a plan.
struct Obtain {
    folder: PathBuf,
    model: Option<PathBuf>,
    sender: mpsc::UnboundedSender<DiskEvent>,
    entries: Vec<ShardEntry>,
    done_bytes: u64,
}

impl Obtain {
    fn run(mut self, manifest: &Manifest) -> Result<Vec<ShardFile>, DiskError> {
        let entries = std::mem::take(&mut self.entries);
        let total_bytes = entries.iter().map(|entry| entry.bytes).sum();
        let mut cut = None;

        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = self.folder.join(format!("{}.gguf", entry.hash));
            if let Err(error) = self.verify(&entry, &path, total_bytes) {
                tracing::debug!(%error, "Shard is cut anew");
                let cut = match &mut cut {
                    Some(cut) => cut,
                    empty => empty.insert(self.cut_as(manifest, &entry)?),
                };
                self.write(cut, &entry, &path)?;
                self.verify(&entry, &path, total_bytes)
                    .map_err(DiskError::OtherModel)?;
            }
            files.push(ShardFile { entry, path });
        }

        Ok(files)
    }

    fn verify(
        &mut self,
        entry: &ShardEntry,
        path: &Path,
        total_bytes: u64,
    ) -> Result<(), VerifyError> {
        let before = self.done_bytes;
        let result = verify_file(entry, path, |bytes| {
            self.done_bytes += bytes;
            let _ = self.sender.send(DiskEvent::Progress {
                done_bytes: self.done_bytes,
                total_bytes,
            });
        });
        if result.is_err() {
            self.done_bytes = before;
        }

        result
    }

    /// Cuts this phone's model where the leader has cut it.
    fn cut_as(&self, manifest: &Manifest, wanted: &ShardEntry) -> Result<Cut, DiskError> {
        let Some(path) = &self.model else {
            return Err(DiskError::Missing {
                kind: wanted.kind.to_string(),
            });
        };
        let ranges = manifest.layers.iter().filter_map(ShardEntry::layers);

        Cut::new(&open(path)?, &ranges.collect::<Vec<_>>()).map_err(|source| DiskError::Refused {
            path: path.clone(),
            source,
        })
    }

    fn write(&self, cut: &Cut, entry: &ShardEntry, path: &Path) -> Result<(), DiskError> {
        let shard = cut.shards().iter().find(|shard| shard.kind() == entry.kind);
        let shard = shard.expect("cut at the manifest's own ranges");

        shard.write_file(path).map_err(|source| DiskError::Write {
            path: path.into(),
            source,
        })
    }
}

fn open(path: &Path) -> Result<Gguf, DiskError> {
    Gguf::open(path).map_err(|source| DiskError::Model {
        path: path.into(),
        source,
    })
}

/// Returns the shards that a plan gives a phone: the ends if it is the head, then its stage's.
fn entries_of(plan: &Plan, manifest: &Manifest, me: PeerId) -> Vec<ShardEntry> {
    let ends = (plan.head == me).then_some(&manifest.ends);
    let stage = plan.stage_of(me).map(|(_, stage)| {
        let range = stage.shards.start as usize..stage.shards.end as usize;
        &manifest.layers[range] // the plan was checked against the manifest
    });

    ends.into_iter()
        .chain(stage.into_iter().flatten())
        .cloned()
        .collect()
}

//! Having the shards of a plan here before they are loaded.
//!
//! A [`Supply`] stands between the ring, which says what is to be loaded, and [`Transfer`], which fetches it:
//!
//! ```text
//!             prepare                      every shard Complete
//!   idle ──────────────────► fetching ──────────────────────────► idle, Load said
//!    ▲                          │ disk full · no such shard · nobody holds it for NOBODY_HAS_IT
//!    └──────────────────────────┘ Failed said
//! ```
//!
//! A newer plan takes the place of an older one at any time; chunks that are there stay there. After its own shards
//! a phone fetches its neighbours' ([`Purpose::Overlap`]), so that a boundary can move, and a lost phone be replaced,
//! without the network.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::{Manifest, ShardEntry, ShardHash};

use crate::plan::Plan;
use crate::reconfig::Cause;
use crate::transfer::{self, Notice, Progress, Purpose, StoreFailure, Transfer, Wanted};
use crate::{Epoch, PeerId};

/// How long nobody may hold what a plan needs before it is given up. Whoever has the model may be on its way back: a
/// phone that was restarted is a member again within 5 s.
const NOBODY_HAS_IT: Duration = Duration::from_secs(15);

/// What to do. `C` is a chunk's bytes.
#[derive(Debug)]
pub enum OutEvent<C> {
    /// Know these shards by their hashes, and say which of them this phone's own model can be cut into
    /// ([`transfer::InEvent::Held`]).
    Describe(Arc<Manifest>),
    /// These shards must stay, whatever room is needed.
    Need(BTreeSet<ShardHash>),
    /// Something about shards on the move; but for notices.
    Transfer(transfer::OutEvent<C>),
    /// Everything is here: load it.
    Load {
        /// The plan.
        plan: Arc<Plan>,
        /// What its model is.
        manifest: Arc<Manifest>,
    },
    /// It cannot be had.
    Failed {
        /// The plan's epoch.
        epoch: Epoch,
        /// Whether it may be different the next time.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
    /// How far it is, at most twice a second.
    Progress(Progress),
    /// The disk cannot go on with shards that are not needed yet.
    DiskFailed(StoreFailure),
    /// See [`Notice::Carried`].
    Carried {
        /// Who sent.
        from: PeerId,
        /// How many bytes.
        n_bytes: u64,
        /// What they took.
        time: Duration,
    },
}

/// One phone's shards.
#[derive(Debug)]
pub struct Supply<C> {
    me: PeerId,
    transfer: Transfer<C>,
    /// Members that are connected.
    peers: BTreeSet<PeerId>,
    pending: Option<Pending>,
    /// Shards of the last list that are whole.
    here: BTreeSet<ShardHash>,
    events: VecDeque<OutEvent<C>>,
}

/// A plan that waits for shards.
#[derive(Debug)]
struct Pending {
    plan: Arc<Plan>,
    manifest: Arc<Manifest>,
    missing: BTreeSet<ShardHash>,
    /// When it is given up because nobody holds what is missing.
    give_up_at: Option<Instant>,
}

impl<C> Supply<C> {
    /// Begins with nothing, and nobody there.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            transfer: Transfer::new(me),
            peers: BTreeSet::new(),
            pending: None,
            here: BTreeSet::new(),
            events: VecDeque::new(),
        }
    }

    /// Learns what a model consists of: this phone may hold it, and serve it.
    pub fn describe(&mut self, manifest: Arc<Manifest>) {
        self.events.push_back(OutEvent::Describe(manifest));
    }

    /// Gets the shards of a plan, in place of those of any before.
    pub fn prepare(&mut self, plan: Arc<Plan>, manifest: Arc<Manifest>, now: Instant) {
        let own = plan.shards_of(self.me, &manifest).map(wanted(Purpose::Own));
        let own = own.collect::<Vec<_>>();
        let spares = plan.spares_of(self.me, &manifest);
        let spares = spares.map(wanted(Purpose::Overlap));
        let all = own.iter().copied().chain(spares).collect::<Vec<_>>();
        let missing = own.iter().map(|wanted| wanted.shard).collect();

        self.describe(Arc::clone(&manifest));
        let needed = all.iter().map(|wanted| wanted.shard).collect();
        self.events.push_back(OutEvent::Need(needed));
        self.pending = Some(Pending {
            plan,
            manifest,
            missing,
            give_up_at: None,
        });
        // What is whole is looked at again before it is loaded: disks and people are what they are.
        let unfinished = all
            .iter()
            .filter(|wanted| !self.here.contains(&wanted.shard));
        let unfinished = unfinished.copied().collect();
        self.here.clear();
        self.transfer
            .handle(transfer::InEvent::Want(unfinished), now);
        self.transfer.handle(transfer::InEvent::Want(all), now);
        self.exchange(now);
    }

    /// Forgets a plan that has failed elsewhere: nothing is fetched for it any more.
    pub fn give_up(&mut self, epoch: Epoch, now: Instant) {
        if self.pending.take_if(|p| p.plan.epoch == epoch).is_some() {
            self.transfer
                .handle(transfer::InEvent::Want(Vec::new()), now);
            self.here.clear();
            self.exchange(now);
        }
    }

    /// Needs nothing any more. What is here stays as long as nobody needs its room.
    pub fn stop(&mut self, now: Instant) {
        self.pending = None;
        self.here.clear();
        self.events.push_back(OutEvent::Need(BTreeSet::new()));
        self.transfer
            .handle(transfer::InEvent::Want(Vec::new()), now);
        self.exchange(now);
    }

    /// Takes note of something about shards.
    pub fn handle(&mut self, event: transfer::InEvent<C>, now: Instant) {
        self.transfer.handle(event, now);
        self.exchange(now);
    }

    /// Takes note of who is connected and a member.
    pub fn set_peers(&mut self, peers: BTreeSet<PeerId>, now: Instant) {
        for &peer in self.peers.difference(&peers) {
            self.transfer.handle(transfer::InEvent::PeerLost(peer), now);
        }
        for &peer in peers.difference(&self.peers) {
            self.transfer
                .handle(transfer::InEvent::PeerJoined(peer), now);
        }

        self.peers = peers;
        self.exchange(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.transfer.poll_timeout().is_some_and(|due| due <= now) {
            self.transfer.handle_timeout(now);
        }
        let is_over = |pending: &mut Pending| pending.give_up_at.is_some_and(|at| at <= now);
        if let Some(pending) = self.pending.take_if(is_over) {
            let reason = "no phone here has the shards that this one needs";
            self.fail(&pending.plan, Cause::Lost, reason.into());
        }

        self.exchange(now);
    }

    /// Returns when [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let give_up_at = self.pending.as_ref().and_then(|pending| pending.give_up_at);

        self.transfer
            .poll_timeout()
            .into_iter()
            .chain(give_up_at)
            .min()
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<C>> {
        self.events.pop_front()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the shell carries out the others"
    )]
    fn exchange(&mut self, now: Instant) {
        while let Some(event) = self.transfer.poll() {
            match event {
                transfer::OutEvent::Notice(notice) => self.notice(notice, now),
                event => self.events.push_back(OutEvent::Transfer(event)),
            }
        }
    }

    fn notice(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Progress(progress) => {
                if progress.rate_bytes_per_s > 0
                    && let Some(pending) = &mut self.pending
                {
                    pending.give_up_at = None;
                }
                self.events.push_back(OutEvent::Progress(progress));
            }
            Notice::Complete(shard) => self.complete(shard),
            Notice::Stalled(shards) => {
                if let Some(pending) = &mut self.pending {
                    let waits = shards.iter().any(|shard| pending.missing.contains(shard));
                    let at = pending.give_up_at.unwrap_or(now + NOBODY_HAS_IT);
                    pending.give_up_at = waits.then_some(at);
                }
            }
            Notice::DiskFailed { shard, failure } => {
                let reason = failure.to_string();
                if !self.fail_if_needed(shard, reason) {
                    self.events.push_back(OutEvent::DiskFailed(failure));
                }
            }
            Notice::Impossible(shard) => {
                let reason = "its shards do not have the bytes that the manifest says";
                self.fail_if_needed(shard, reason.into());
            }
            Notice::Distrusted(peer) => {
                tracing::warn!(%peer, "Member sends wrong chunks, asked no more");
            }
            Notice::Carried {
                from,
                n_bytes,
                time,
            } => self.events.push_back(OutEvent::Carried {
                from,
                n_bytes,
                time,
            }),
        }
    }

    fn complete(&mut self, shard: ShardHash) {
        self.here.insert(shard);
        let Some(pending) = &mut self.pending else {
            return;
        };
        pending.missing.remove(&shard);

        if let Some(Pending { plan, manifest, .. }) =
            self.pending.take_if(|pending| pending.missing.is_empty())
        {
            self.events.push_back(OutEvent::Load { plan, manifest });
        }
    }

    /// Fails the plan if it needs a shard that cannot be had. Returns whether it does.
    fn fail_if_needed(&mut self, shard: ShardHash, reason: String) -> bool {
        let needs_it = |pending: &mut Pending| pending.missing.contains(&shard);
        let Some(pending) = self.pending.take_if(needs_it) else {
            return false;
        };

        self.fail(&pending.plan, Cause::CannotLoad, reason);
        true
    }

    fn fail(&mut self, plan: &Plan, cause: Cause, reason: String) {
        self.events.push_back(OutEvent::Failed {
            epoch: plan.epoch,
            cause,
            reason,
        });
    }
}

fn wanted(purpose: Purpose) -> impl Fn(&ShardEntry) -> Wanted {
    move |entry| Wanted {
        shard: entry.hash,
        bytes: entry.bytes,
        purpose,
    }
}

//! A phone that is hot, all but empty or short of memory works less, or is spared.
//!
//! ```text
//!  this phone:  snapshot ──► caretaker ──► half of the threads
//!                               └── relief ──► with its snapshot, to the leader
//!  the leader:  relief of a phone in the plan in force ──► another plan: when nothing is written,
//!                                                          or when its patience ends
//! ```

use std::time::{Duration, Instant};

use gguf_tools::Manifest;

use super::{Load, OutEvent, PeerId, Phone, Planning, respondent};
use crate::device::{Relief, Snapshot, Thermal};
use crate::plan::Plan;

/// How long answers may go on while a phone of the ring has asked for relief, or its person wants it out: most answers
/// end by then. A guess.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for one whose system is about to stop it: for heat or for want of memory. A guess.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Whether an answer may still be written before the next plan is made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hurry {
    /// As long as it takes.
    #[default]
    None,
    /// Until then.
    Until(Instant),
    /// No more.
    Great,
}

impl Hurry {
    /// The next plan can wait so long from now on; `None` if it need not hurry. An end that is set comes no later for it.
    pub(super) fn set(&mut self, patience: Option<Duration>, now: Instant) {
        *self = match (*self, patience.map(|patience| now + patience)) {
            (_, None) => Self::None,
            (Self::Great, Some(_)) => Self::Great,
            (Self::Until(at), Some(_)) if at <= now => Self::Great,
            (Self::Until(at), Some(end)) => Self::Until(at.min(end)),
            (Self::None, Some(end)) => Self::Until(end),
        };
    }

    pub(super) fn is_great(self) -> bool {
        self == Self::Great
    }

    /// Returns when that changes.
    pub(super) fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::None | Self::Great => None,
        }
    }
}

/// Returns what a phone computes with under a plan, which was validated against `manifest`.
pub(super) fn load_of(plan: &Plan, phone: PeerId, manifest: &Manifest) -> Load {
    let n_positions = u64::from(plan.n_ctx) * u64::from(plan.n_sequences);
    let shards = || plan.shards_of(phone, manifest);
    let layers = || shards().filter(|shard| shard.layers().is_some());
    let cached_bytes = layers().map(|shard| shard.kv_bytes_per_token * n_positions);

    Load {
        n_shards: u32::try_from(layers().count()).unwrap_or(u32::MAX),
        shards_bytes: layers().map(|shard| shard.bytes).sum(),
        used_bytes: shards().map(|shard| shard.bytes).chain(cached_bytes).sum(),
    }
}

impl<H, C> Phone<H, C> {
    /// This phone was measured: that is told with how it is, as below.
    pub(super) fn measured(&mut self, mut event: respondent::InEvent, now: Instant) {
        if let respondent::InEvent::Measured { snapshot, .. } = &mut event {
            *snapshot = self.cared_for(*snapshot, now);
        }

        self.respondent.handle(event, now);
    }

    /// Takes note of how this phone is. Returns what others are told of it: as its person would have it, and with what it
    /// asks for.
    pub(super) fn cared_for(&mut self, snapshot: Snapshot, now: Instant) -> Snapshot {
        self.told.device = Some(snapshot);
        let snapshot = snapshot.under(self.policy);
        self.caretaker.handle(&snapshot, self.load, now);
        let snapshot = Snapshot {
            relief: self.caretaker.relief(),
            ..snapshot
        };

        let is_spared = self.caretaker.is_slow();
        if std::mem::replace(&mut self.is_spared, is_spared) != is_spared {
            self.events.push_back(OutEvent::Spare(is_spared));
        }
        self.change_mine(now, |mine| mine.device = Some(snapshot));
        snapshot
    }
}

/// Returns how long answers may go on while phones of the plan in force wait for another; `None` if none do.
pub(super) fn patience(planning: &Planning) -> Option<Duration> {
    planning.pressing().map(patience_for).min()
}

/// Returns how long answers may go on while such a phone of the ring asks for relief, or its person wants it out.
fn patience_for(device: Option<&Snapshot>) -> Duration {
    let is_urgent = device.is_some_and(|device| {
        let wants_memory = matches!(device.relief, Relief::AtMost { is_hot: false, .. });
        wants_memory || device.thermal >= Thermal::Critical
    });

    match is_urgent {
        true => SHORT_PATIENCE,
        false => PATIENCE,
    }
}

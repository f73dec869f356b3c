//! The serving side: whose request is answered next.
//!
//! Members take turns, a chunk each. Whoever asks for everything at once waits in a queue of its own that is
//! short, and is refused beyond it; whoever does not take what is sent keeps only its own place busy. Nothing
//! that a member says makes more memory busy than [`QUEUE_MAX`] and [`SENDING_PER_ASKER_MAX`] say. How fast it goes
//! out, when others wait for an answer, is the [`Outlet`]'s to say.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gguf_tools::{CHUNK_BYTES, ShardHash};

use super::chunks::{ChunkIndex, ChunkSet};
use super::event::OutEvent;
use super::message::{Have, Held, MESSAGE_BYTES_MAX, Message, RefusalReason};
use super::outlet::Outlet;
use crate::PeerId;

/// Requests of one member that wait. An honest one has two in flight, and as many given up on.
pub const QUEUE_MAX: usize = 8;

/// Chunks on their way to one member: one on the link and the next behind it.
pub const SENDING_PER_ASKER_MAX: usize = 2;

/// Chunks on their way to all members, beyond which each has but one: 8 MiB. Who reads slowly must not keep
/// others from their first. A guess.
pub const SENDING_MAX: usize = 8;

/// How often a member is told what is here: a receiver's new chunks are worth telling at once, but not one by
/// one on a fast link. A guess.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Bytes of a message beside its list's entries: the number of its variant, and the list's length.
const LIST_BYTES: usize = 1 + 3;

/// The serving side.
#[derive(Debug)]
pub(super) struct Serving<B> {
    /// Whole shards that can be read, each with its number of chunks.
    whole: BTreeMap<ShardHash, u32>,
    askers: BTreeMap<PeerId, Asker>,
    /// Whose chunk was read last.
    last_served: Option<PeerId>,
    outlet: Outlet,
    events: VecDeque<OutEvent<B>>,
}

/// A member that may ask.
#[derive(Debug, Default)]
struct Asker {
    /// What it wants to hear of.
    wants: Vec<ShardHash>,
    told_at: Option<Instant>,
    /// When to tell it what is here, if that has changed.
    tell_at: Option<Instant>,
    queue: VecDeque<(ShardHash, ChunkIndex)>,
    sending: Vec<(ShardHash, ChunkIndex)>,
}

impl<B> Serving<B> {
    pub(super) fn new() -> Self {
        Self {
            whole: BTreeMap::new(),
            askers: BTreeMap::new(),
            last_served: None,
            outlet: Outlet::default(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn joined(&mut self, peer: PeerId) {
        self.askers.insert(peer, Asker::default());
    }

    pub(super) fn lost(&mut self, peer: PeerId) {
        self.askers.remove(&peer);
        self.serve_next();
    }

    pub(super) fn held(&mut self, shard: ShardHash, n_chunks: u32, now: Instant) {
        self.whole.insert(shard, n_chunks);
        self.changed(shard, now);
    }

    pub(super) fn gone(&mut self, shard: ShardHash, now: Instant) {
        self.whole.remove(&shard);
        self.changed(shard, now);
    }

    /// What is here of a shard has changed.
    pub(super) fn changed(&mut self, shard: ShardHash, now: Instant) {
        let askers = self.askers.values_mut();

        askers
            .filter(|asker| asker.wants.contains(&shard))
            .for_each(|asker| asker.tell_soon(now));
    }

    pub(super) fn wants(&mut self, from: PeerId, shards: Vec<ShardHash>, now: Instant) {
        if let Some(asker) = self.askers.get_mut(&from) {
            asker.wants = shards;
            asker.tell_soon(now);
        }
    }

    /// Takes a request that can be answered: `part` are the chunks that are here of a shard that is fetched.
    pub(super) fn request(
        &mut self,
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        part: Option<&ChunkSet>,
    ) {
        let is_held = self.whole.get(&shard).is_some_and(|n| chunk.0 < *n)
            || part.is_some_and(|set| set.contains(chunk));
        let Some(asker) = self.askers.get_mut(&from) else {
            return;
        };
        let wanted = (shard, chunk);
        if asker.sending.contains(&wanted) || asker.queue.contains(&wanted) {
            return; // it comes
        }

        if !is_held {
            self.refuse(from, shard, chunk, RefusalReason::NotHeld);
        } else if asker.queue.len() == QUEUE_MAX {
            self.refuse(from, shard, chunk, RefusalReason::Busy);
        } else {
            asker.queue.push_back(wanted);
            self.serve_next();
        }
    }

    pub(super) fn withdraw(&mut self, from: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        if let Some(asker) = self.askers.get_mut(&from) {
            asker.queue.retain(|queued| *queued != (shard, chunk));
        }
    }

    pub(super) fn served(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex, now: Instant) {
        self.taken(to, shard, chunk);

        // The last chunk of a shard is shorter than the others, and tells nothing.
        let is_full = self.whole.get(&shard).is_some_and(|n| chunk.0 + 1 < *n);
        let n_bytes = is_full.then_some(CHUNK_BYTES);
        self.outlet.sent(n_bytes, self.n_sending() > 0, now);
    }

    pub(super) fn unreadable(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        if self.askers.contains_key(&to) {
            self.refuse(to, shard, chunk, RefusalReason::NotHeld);
        }
        self.taken(to, shard, chunk);
    }

    /// Somebody waits for an answer, or nobody does any more.
    pub(super) fn give_way(&mut self, gives_way: bool) {
        let news = self.outlet.give_way(gives_way).map(OutEvent::Throttle);

        self.events.extend(news);
    }

    /// Lets go what may go now.
    pub(super) fn let_go(&mut self, now: Instant) {
        if self.n_sending() > 0 {
            let piece = self.outlet.let_go(now).map(OutEvent::Throttle);
            self.events.extend(piece);
        }
    }

    /// Tells those whose time has come what is here.
    pub(super) fn tell<'a>(
        &mut self,
        part: impl Fn(ShardHash) -> Option<&'a ChunkSet>,
        now: Instant,
    ) {
        for (&to, asker) in &mut self.askers {
            if asker.tell_at.is_none_or(|at| at > now) {
                continue;
            }
            asker.tell_at = None;
            asker.told_at = Some(now);
            let haves = asker.haves(&self.whole, &part);
            let message = Message::Haves(haves.into_iter().collect());
            self.events.push_back(OutEvent::Send { to, message });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let tell_at = self.askers.values().filter_map(|asker| asker.tell_at);
        let let_go_at = self.outlet.next_at().filter(|_| self.n_sending() > 0);

        tell_at.chain(let_go_at).min()
    }

    pub(super) fn poll(&mut self) -> Option<OutEvent<B>> {
        self.events.pop_front()
    }

    /// Hands out reading while there is room: to each member in turn.
    fn serve_next(&mut self) {
        while let Some(to) = self.next_turn() {
            let asker = self.askers.get_mut(&to).expect("its turn");
            let (shard, chunk) = asker.queue.pop_front().expect("it waits");
            asker.sending.push((shard, chunk));
            self.last_served = Some(to);
            self.events.push_back(OutEvent::Serve { to, shard, chunk });
        }
    }

    /// A chunk is no longer on its way: the next may be.
    fn taken(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        if let Some(asker) = self.askers.get_mut(&to) {
            asker.sending.retain(|sending| *sending != (shard, chunk));
        }
        self.serve_next();
    }

    fn n_sending(&self) -> usize {
        self.askers.values().map(|asker| asker.sending.len()).sum()
    }

    fn next_turn(&self) -> Option<PeerId> {
        let n_sending = self.n_sending();
        let after = self
            .askers
            .iter()
            .filter(|(peer, _)| Some(**peer) > self.last_served);
        let around = after.chain(&self.askers);
        let max = if n_sending < SENDING_MAX {
            SENDING_PER_ASKER_MAX
        } else {
            1
        };

        let mut turns =
            around.filter(|(_, asker)| !asker.queue.is_empty() && asker.sending.len() < max);
        turns.next().map(|(peer, _)| *peer)
    }

    fn refuse(&mut self, to: PeerId, shard: ShardHash, chunk: ChunkIndex, reason: RefusalReason) {
        let message = Message::Refused {
            shard,
            chunk,
            reason,
        };
        self.events.push_back(OutEvent::Send { to, message });
    }
}

impl Asker {
    /// Has it told what is here: at once, or when it is time again.
    fn tell_soon(&mut self, now: Instant) {
        let again = self.told_at.map_or(now, |at| at + TELL_EVERY);

        self.tell_at.get_or_insert(again.max(now));
    }

    /// Returns what is here of what it wants, as far as a message holds it; the rest when it wants less.
    fn haves<'a>(
        &self,
        whole: &BTreeMap<ShardHash, u32>,
        part: &impl Fn(ShardHash) -> Option<&'a ChunkSet>,
    ) -> Vec<Have> {
        let held = self.wants.iter().filter_map(|&shard| {
            let chunks = if whole.contains_key(&shard) {
                Held::All
            } else {
                Held::of(part(shard).filter(|set| !set.is_empty())?)
            };
            Some(Have { shard, chunks })
        });
        let mut room = MESSAGE_BYTES_MAX - LIST_BYTES;

        held.take_while(|have| {
            let fits = have.len_bytes() <= room;
            room = room.saturating_sub(have.len_bytes());
            fits
        })
        .collect()
    }
}

//! Shards on the move: fetching those that this phone shall have, and serving those that it has.
//!
//! A shard is named by the hash of its bytes, and cut into chunks of 1 MiB, each with a hash of its own in
//! the manifest. A phone asks any member that holds a chunk, several at once; what it has verified it offers
//! to others at once, so that phones that fetch the same shard serve each other.
//!
//! ```text
//!   asker                                             holder
//!     │ ── Wants: these shards ─────────────────────────► │
//!     │ ◄───────────────────── Haves: of these, those ──  │   again when it becomes more
//!     │ ── Request: a chunk ────────────────────────────► │
//!     │ ◄══════════════════════════════ the chunk ══════  │   on a stream of its own
//!   Check ─► Verified ─► Haves to all who want it
//! ```
//!
//! The bytes pass through as `B` and are never looked at: the store holds them against the manifest, and says
//! [`InEvent::Verified`] or [`InEvent::Corrupt`]. Nothing is kept here that must survive: after a restart the
//! store says what is on disk, and the fetch goes on from there.
//!
//! What can go wrong, and what becomes of it:
//!
//! | | |
//! |---|---|
//! | a holder is slow | after four times as long as usual its chunks are asked of others; what comes late counts |
//! | is silent | is asked for one chunk at a time, after pauses that double |
//! | sends a wrong chunk | is asked only for what no honest member holds; after [`LIES_MAX`], for nothing |
//! | leaves | what it owed is asked of others |
//! | holds only some chunks | is asked for those |
//! | asks for everything at once | waits in a short queue of its own; the others have their turns |
//! | the disk is full | nothing is asked for until [`InEvent::Retry`]; what was verified stays |
//! | the group computes | chunks go out slowly, in small pieces, until it does not (`outlet`) |
//! | the plan changes | what is no longer wanted is withdrawn; what is there of it stays on disk |

mod chunks;
mod event;
mod fetch;
mod fetching;
mod holder;
mod message;
mod meter;
mod outlet;
mod serving;

use std::time::Instant;

use gguf_tools::ShardHash;

pub use chunks::{CHUNKS_MAX, ChunkIndex, ChunkSet, chunk_bytes, n_chunks};
pub use event::{InEvent, Notice, OutEvent, Progress, Purpose, StoreFailure, Wanted};
pub use fetching::IN_FLIGHT_MAX;
pub use holder::{IN_FLIGHT_PER_HOLDER_MAX, LIES_MAX};
pub use message::{
    CHUNK_HEADER_BYTES, ChunkHeader, Have, Held, MESSAGE_BYTES_MAX, Message, RefusalReason,
    SHARDS_MAX,
};
pub use meter::PROGRESS_EVERY;
pub use outlet::{PIECE_BYTES, Throttle};
pub use serving::{QUEUE_MAX, SENDING_MAX, SENDING_PER_ASKER_MAX};

use fetching::Fetching;
use serving::Serving;

use crate::PeerId;

/// Both sides of one phone. `B` is a chunk's bytes.
#[derive(Debug)]
pub struct Transfer<B> {
    fetching: Fetching<B>,
    serving: Serving<B>,
}

impl<B> Transfer<B> {
    /// Begins with nothing wanted, nothing held, and nobody there.
    pub fn new(me: PeerId) -> Self {
        Self {
            fetching: Fetching::new(me),
            serving: Serving::new(),
        }
    }

    /// Takes note of `event`.
    ///
    /// # Panics
    ///
    /// If a shard of [`InEvent::Want`] or [`InEvent::Held`] is empty or larger than a manifest may say.
    pub fn handle(&mut self, event: InEvent<B>, now: Instant) {
        match event {
            InEvent::PeerJoined(peer) => {
                self.serving.joined(peer);
                self.fetching.joined(peer, now);
            }
            InEvent::PeerLost(peer) => {
                self.serving.lost(peer);
                self.fetching.lost(peer, now);
            }
            InEvent::Message { from, message } => self.message(from, message, now),
            InEvent::Chunk {
                from,
                shard,
                chunk,
                n_bytes,
                payload,
            } => self
                .fetching
                .chunk(from, shard, chunk, n_bytes, payload, now),
            InEvent::Want(wanted) => self.fetching.want(wanted, now),
            InEvent::Held { shard, bytes } => self.serving.held(shard, n_chunks(bytes), now),
            InEvent::Gone(shard) => self.serving.gone(shard, now),
            InEvent::Opened { shard, held } => {
                self.fetching.opened(shard, held, now);
                self.serving.changed(shard, now);
            }
            InEvent::Verified { shard, chunk } => {
                if self.fetching.verified(shard, chunk, now) {
                    self.serving.changed(shard, now);
                }
            }
            InEvent::Corrupt { from, shard, chunk } => {
                self.fetching.corrupt(from, shard, chunk, now);
            }
            InEvent::Finished(shard) => {
                if let Some(bytes) = self.fetching.finished(shard, now) {
                    self.serving.held(shard, n_chunks(bytes), now);
                }
            }
            InEvent::StoreFailed {
                shard,
                chunk,
                failure,
            } => self.fetching.store_failed(shard, chunk, failure, now),
            InEvent::Retry => self.fetching.retry(now),
            InEvent::GiveWay(gives_way) => {
                self.serving.give_way(gives_way);
                self.fetching.give_way(gives_way, now);
            }
            InEvent::Served { to, shard, chunk } => self.serving.served(to, shard, chunk, now),
            InEvent::Unreadable { to, shard, chunk } => self.serving.unreadable(to, shard, chunk),
        }

        self.tell(now);
        self.serving.let_go(now);
    }

    /// Does what is due: gives up on late requests, tells what is new, lets the next piece of a chunk go.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fetching.handle_timeout(now);
        self.tell(now);
        self.serving.let_go(now);
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (fetching, serving) = (self.fetching.poll_timeout(), self.serving.poll_timeout());

        fetching.into_iter().chain(serving).min()
    }

    /// Returns the next thing to do.
    pub fn poll(&mut self) -> Option<OutEvent<B>> {
        self.fetching.poll().or_else(|| self.serving.poll())
    }

    fn message(&mut self, from: PeerId, message: Message, now: Instant) {
        match message {
            Message::Wants(shards) => self.serving.wants(from, shards.into_vec(), now),
            Message::Haves(haves) => self.fetching.haves(from, &haves, now),
            Message::Request { shard, chunk } => {
                let part = self.fetching.held(shard);
                self.serving.request(from, shard, chunk, part);
            }
            Message::Withdraw { shard, chunk } => self.serving.withdraw(from, shard, chunk),
            Message::Refused {
                shard,
                chunk,
                reason,
            } => self.fetching.refused(from, shard, chunk, reason, now),
        }
    }

    /// Tells those who want to know, and whose time has come, what is here.
    fn tell(&mut self, now: Instant) {
        let Self { fetching, serving } = self;

        serving.tell(|shard: ShardHash| fetching.held(shard), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gguf_tools::CHUNK_BYTES;

    use super::*;
    use crate::testing::{ANNA, BELA, CARL};

    const SHARD: ShardHash = ShardHash([1; 32]);

    #[test]
    fn a_holder_is_asked_for_two_chunks_at_a_time() {
        let now = Instant::now();
        let mut fetch = fetch(5, now);

        joined(&mut fetch, ANNA, now);

        assert_eq!(asked(&mut fetch), [ANNA, ANNA]);
    }

    #[test]
    fn what_a_lost_holder_owed_is_asked_of_another() {
        let now = Instant::now();
        let mut fetch = fetch(2, now);
        joined(&mut fetch, ANNA, now);
        asked(&mut fetch);

        joined(&mut fetch, BELA, now);
        fetch.handle(InEvent::PeerLost(ANNA), now);

        assert_eq!(asked(&mut fetch), [BELA, BELA]);
    }

    #[test]
    fn who_lied_is_asked_only_for_what_no_honest_member_holds() {
        let now = Instant::now();
        let mut fetch = fetch(9, now);
        joined(&mut fetch, ANNA, now);
        fetch.handle(
            InEvent::Corrupt {
                from: ANNA,
                shard: SHARD,
                chunk: ChunkIndex(0),
            },
            now,
        );
        assert_eq!(asked(&mut fetch), [ANNA, ANNA], "nobody else is there");

        fetch.handle(InEvent::PeerLost(ANNA), now);
        joined(&mut fetch, BELA, now);
        joined(&mut fetch, ANNA, now);

        assert_eq!(asked(&mut fetch), [BELA, BELA], "it left and came back");
    }

    #[test]
    fn a_silent_holder_is_asked_ever_more_seldom() {
        let mut now = Instant::now();
        let mut fetch = fetch(9, now);
        joined(&mut fetch, ANNA, now);
        asked(&mut fetch);

        let mut n_asked = 0;
        let end = now + Duration::from_secs(600);
        while let Some(wake) = fetch.poll_timeout().filter(|wake| *wake < end) {
            now = now.max(wake);
            fetch.handle_timeout(now);
            n_asked += asked(&mut fetch).len();
        }

        assert!((5..20).contains(&n_asked), "{n_asked} in ten minutes");
    }

    #[test]
    fn members_take_turns() {
        let now = Instant::now();
        let mut holder = Transfer::<()>::new(CARL);
        let held = InEvent::Held {
            shard: SHARD,
            bytes: 100 * CHUNK_BYTES,
        };
        holder.handle(held, now);
        for peer in [ANNA, BELA] {
            holder.handle(InEvent::PeerJoined(peer), now);
        }
        for i in 0..100 {
            request(&mut holder, ANNA, i, now);
        }
        request(&mut holder, BELA, 0, now);
        let (mut served, refused) = answers(&mut holder);
        assert_eq!(
            served.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
            [ANNA, ANNA, BELA]
        );
        assert_eq!(refused, 100 - SENDING_PER_ASKER_MAX - QUEUE_MAX);

        request(&mut holder, BELA, 1, now);
        request(&mut holder, BELA, 2, now);
        for _ in 0..2 {
            let (to, chunk) = served.remove(0);
            let shard = SHARD;
            holder.handle(InEvent::Served { to, shard, chunk }, now);
        }
        let next = answers(&mut holder).0;
        assert_eq!(
            next.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
            [BELA, ANNA, ANNA]
        );
    }

    /// While the group computes, what goes out is allowed piece by piece; afterwards nothing holds it.
    #[test]
    fn chunks_give_way_while_the_group_computes() {
        let mut now = Instant::now();
        let mut holder = Transfer::<()>::new(CARL);
        let held = InEvent::Held {
            shard: SHARD,
            bytes: 100 * CHUNK_BYTES,
        };
        holder.handle(held, now);
        holder.handle(InEvent::PeerJoined(ANNA), now);
        holder.handle(InEvent::GiveWay(true), now);
        assert_eq!(throttles(&mut holder), [Throttle::Held]);

        request(&mut holder, ANNA, 0, now);
        let (mut allowed, end) = (0, now + Duration::from_secs(4));
        loop {
            for throttle in throttles(&mut holder) {
                let Throttle::Allow(bytes) = throttle else {
                    panic!("{throttle:?}");
                };
                allowed += bytes;
            }
            match holder.poll_timeout() {
                Some(wake) if wake < end => now = wake,
                _ => break,
            }
            holder.handle_timeout(now);
        }
        // Half a MiB a second, as nothing is known of the link.
        assert!((1_900_000..2_200_000).contains(&allowed), "{allowed}");

        holder.handle(InEvent::GiveWay(false), now);
        assert_eq!(throttles(&mut holder), [Throttle::Open]);
    }

    /// Chunks that come slowly because others wait for an answer are neither late nor asked of others.
    #[test]
    fn a_holder_that_gives_way_is_not_late() {
        let mut now = Instant::now();
        let mut fetch = fetch(9, now);
        joined(&mut fetch, ANNA, now);
        for chunk in asked_chunks(&mut fetch) {
            now += Duration::from_millis(100);
            arrives(&mut fetch, ANNA, chunk, now);
        }
        asked(&mut fetch);

        fetch.handle(InEvent::GiveWay(true), now);
        fetch.handle_timeout(now + Duration::from_secs(10));
        joined(&mut fetch, BELA, now + Duration::from_secs(10));

        let events = std::iter::from_fn(|| fetch.poll()).collect::<Vec<_>>();
        let withdrawn = events.iter().any(|event| {
            let OutEvent::Send { message, .. } = event else {
                return false;
            };
            matches!(message, Message::Withdraw { .. })
        });
        assert!(!withdrawn, "{events:?}");
    }

    /// How fast a link carries chunks is told of chunks that came one behind the other, and of no others.
    #[test]
    fn what_a_link_carries_is_told() {
        let mut now = Instant::now();
        let mut fetch = fetch(9, now);
        joined(&mut fetch, ANNA, now);
        let mut carried = Vec::new();
        let mut chunks = asked_chunks(&mut fetch);
        while let Some(chunk) = chunks.pop() {
            now += Duration::from_millis(100);
            arrives(&mut fetch, ANNA, chunk, now);
            let events = std::iter::from_fn(|| fetch.poll()).collect::<Vec<_>>();
            for event in events {
                match event {
                    OutEvent::Notice(Notice::Carried { time, .. }) => carried.push(time),
                    OutEvent::Send {
                        message: Message::Request { chunk, .. },
                        ..
                    } => chunks.insert(0, chunk),
                    _ => {}
                }
            }
            if carried.len() == 5 {
                break;
            }
        }

        assert_eq!(carried, [Duration::from_millis(100); 5]);
    }

    /// Returns a transfer that wants a shard of so many chunks, none of which is there.
    fn fetch(n_chunks: u32, now: Instant) -> Transfer<()> {
        let mut fetch = Transfer::new(CARL);
        let wanted = Wanted {
            shard: SHARD,
            bytes: u64::from(n_chunks) * CHUNK_BYTES,
            purpose: Purpose::Own,
        };
        fetch.handle(InEvent::Want(vec![wanted]), now);
        let held = ChunkSet::none(n_chunks);
        fetch.handle(InEvent::Opened { shard: SHARD, held }, now);

        fetch
    }

    fn joined(fetch: &mut Transfer<()>, peer: PeerId, now: Instant) {
        let have = Have {
            shard: SHARD,
            chunks: Held::All,
        };
        let message = Message::Haves([have].into_iter().collect());

        fetch.handle(InEvent::PeerJoined(peer), now);
        fetch.handle(
            InEvent::Message {
                from: peer,
                message,
            },
            now,
        );
    }

    fn request(holder: &mut Transfer<()>, from: PeerId, chunk: u32, now: Instant) {
        let message = Message::Request {
            shard: SHARD,
            chunk: ChunkIndex(chunk),
        };

        holder.handle(InEvent::Message { from, message }, now);
    }

    /// A chunk comes, and is right.
    fn arrives(fetch: &mut Transfer<()>, from: PeerId, chunk: ChunkIndex, now: Instant) {
        let shard = SHARD;
        let n_bytes = CHUNK_BYTES as u32;
        let payload = ();

        fetch.handle(
            InEvent::Chunk {
                from,
                shard,
                chunk,
                n_bytes,
                payload,
            },
            now,
        );
        fetch.handle(InEvent::Verified { shard, chunk }, now);
    }

    fn throttles(holder: &mut Transfer<()>) -> Vec<Throttle> {
        let events = std::iter::from_fn(|| holder.poll());
        let throttles = events.filter_map(|event| match event {
            OutEvent::Throttle(throttle) => Some(throttle),
            _ => None,
        });

        throttles.collect()
    }

    /// Returns which chunks are asked for.
    fn asked_chunks(fetch: &mut Transfer<()>) -> Vec<ChunkIndex> {
        let events = std::iter::from_fn(|| fetch.poll());
        let asked = events.filter_map(|event| match event {
            OutEvent::Send {
                message: Message::Request { chunk, .. },
                ..
            } => Some(chunk),
            _ => None,
        });

        asked.collect()
    }

    /// Returns who is asked for a chunk.
    fn asked(fetch: &mut Transfer<()>) -> Vec<PeerId> {
        let events = std::iter::from_fn(|| fetch.poll());
        let asked = events.filter_map(|event| match event {
            OutEvent::Send {
                to,
                message: Message::Request { .. },
            } => Some(to),
            _ => None,
        });

        asked.collect()
    }

    /// Returns what is served, and how often somebody is refused.
    fn answers(holder: &mut Transfer<()>) -> (Vec<(PeerId, ChunkIndex)>, usize) {
        let events = std::iter::from_fn(|| holder.poll()).collect::<Vec<_>>();
        let n_refused = events.iter().filter(|event| {
            matches!(
                event,
                OutEvent::Send {
                    message: Message::Refused { .. },
                    ..
                }
            )
        });
        let n_refused = n_refused.count();
        let served = events.into_iter().filter_map(|event| match event {
            OutEvent::Serve { to, chunk, .. } => Some((to, chunk)),
            _ => None,
        });

        (served.collect(), n_refused)
    }
}

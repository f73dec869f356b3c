//! The receiving side: which chunk to ask of which holder, over all shards that are wanted.
//!
//! Whoever has room is asked, the fastest first, for the chunk that fewest others hold; every phone begins
//! at another place, so that phones that fetch the same shard soon have something for each other. Who sent
//! a wrong chunk is asked only for what no honest member holds; who is silent, one chunk at a time and ever
//! more seldom. When nothing is left to ask for, the slowest chunks are asked of a second holder.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gguf_tools::ShardHash;

use super::chunks::{ChunkIndex, ChunkSet};
use super::event::{Notice, OutEvent, Progress, Purpose, StoreFailure, Wanted};
use super::fetch::{Fetch, State};
use super::holder::{Arrival, Holder, LIES_MAX};
use super::message::{Have, Message, RefusalReason, SHARDS_MAX};
use super::meter::Meter;
use crate::PeerId;

/// Chunks asked for or being checked, of all holders together: what bounds the memory for chunks that come.
///
/// Eight holders with two each; 16 MiB is what a phone can spare while it loads no model. A guess.
pub const IN_FLIGHT_MAX: usize = 16;

/// Chunks among which the one is looked for that fewest hold: bounds the search in a shard of a million.
const RAREST_OF: usize = 64;

/// How much longer than a second holder the first must take before the second is asked too.
const HEDGE_FACTOR: u32 = 2;

/// What a round of messages costs at most, beside the chunk: no second holder is asked for less. A guess.
const HEDGE_MIN: Duration = Duration::from_millis(200);

/// How long a chunk is thought to take a holder that never sent one: 1 MiB/s, a poor link.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);

/// How long a holder may take over a chunk at least while chunks give way to an answer: as long as 11 phones wait that are
/// served two chunks each at the least rate of [`super::outlet`], and a little more.
const GIVING_WAY_PATIENCE: Duration = Duration::from_secs(96);

/// Members whose lies are remembered: more than a group has, so that leaving and coming back clears nobody.
const LIARS_MAX: usize = 64;

/// The receiving side.
#[derive(Debug)]
pub(super) struct Fetching<B> {
    me: PeerId,
    /// In the order of their purpose, the most urgent first.
    fetches: Vec<Fetch>,
    holders: BTreeMap<PeerId, Holder>,
    /// Wrong chunks by sender; outlasts the connection.
    lies: BTreeMap<PeerId, u32>,
    /// The disk has failed: nothing is asked for.
    paused: bool,
    /// The group computes, and chunks come slowly for that.
    gives_way: bool,
    /// What [`Notice::Stalled`] said last.
    stalled: Vec<ShardHash>,
    meter: Meter,
    events: VecDeque<OutEvent<B>>,
}

/// One chunk to ask for.
#[derive(Debug, Clone, Copy)]
struct Choice {
    holder: PeerId,
    fetch: usize,
    chunk: ChunkIndex,
}

impl<B> Fetching<B> {
    pub(super) fn new(me: PeerId) -> Self {
        Self {
            me,
            fetches: Vec::new(),
            holders: BTreeMap::new(),
            lies: BTreeMap::new(),
            paused: false,
            gives_way: false,
            stalled: Vec::new(),
            meter: Meter::default(),
            events: VecDeque::new(),
        }
    }

    // ── What shall be here ────────────────────────────────────────────────────────────────────────

    pub(super) fn want(&mut self, wanted: Vec<Wanted>, now: Instant) {
        let mut old = std::mem::take(&mut self.fetches);
        let mut wanted = wanted;
        wanted.sort_by_key(|wanted| wanted.purpose); // stable: urgency stays within a purpose

        for wanted in wanted.into_iter().take(SHARDS_MAX) {
            if self.fetches.iter().any(|fetch| fetch.shard == wanted.shard) {
                continue;
            }
            let same = |fetch: &Fetch| fetch.shard == wanted.shard && fetch.bytes == wanted.bytes;
            let fetch = match old.iter().position(same) {
                Some(place) => old.remove(place).with_purpose(wanted.purpose),
                None => Fetch::new(wanted),
            };
            self.fetches.push(fetch);
        }

        for fetch in old {
            self.cancel(&fetch);
        }
        self.meter.touch(now);
        self.tell_wants_to_all(now);
        self.ask_more(now);
    }

    fn cancel(&mut self, fetch: &Fetch) {
        for chunk in fetch.asked() {
            self.withdraw(fetch.shard, chunk);
        }
        for holder in self.holders.values_mut() {
            holder.haves.remove(&fetch.shard);
        }
        if !matches!(fetch.state, State::Closed | State::Done) {
            self.events.push_back(OutEvent::Close(fetch.shard));
        }
    }

    // ── Members ───────────────────────────────────────────────────────────────────────────────────

    pub(super) fn joined(&mut self, peer: PeerId, now: Instant) {
        if let Some(before) = self.holders.insert(peer, Holder::default()) {
            self.unask_all(&before); // it is back before it was missed
        }
        self.tell_wants(peer, now);
    }

    pub(super) fn lost(&mut self, peer: PeerId, now: Instant) {
        let Some(holder) = self.holders.remove(&peer) else {
            return;
        };
        self.unask_all(&holder);
        self.ask_more(now);
    }

    pub(super) fn haves(&mut self, from: PeerId, haves: &[Have], now: Instant) {
        let Some(holder) = self.holders.get_mut(&from) else {
            return;
        };
        let known = haves.iter().filter_map(|have| {
            let fetch = self
                .fetches
                .iter()
                .find(|fetch| fetch.shard == have.shard)?;
            let set = have.chunks.to_set(fetch.n_chunks())?;
            (fetch.state != State::Done).then_some((have.shard, set))
        });

        holder.haves = known.collect();
        holder.answered();
        self.ask_more(now);
    }

    pub(super) fn refused(
        &mut self,
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        reason: RefusalReason,
        now: Instant,
    ) {
        let Some(holder) = self.holders.get_mut(&from) else {
            return;
        };
        if reason == RefusalReason::NotHeld
            && let Some(set) = holder.haves.get_mut(&shard)
        {
            set.remove(chunk);
        }
        if holder.refused(shard, chunk, now) {
            self.unask(shard, chunk);
        }
        self.ask_more(now);
    }

    // ── Chunks ────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn chunk(
        &mut self,
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        n_bytes: u32,
        payload: B,
        now: Instant,
    ) {
        let Some(holder) = self.holders.get_mut(&from) else {
            return;
        };
        match holder.arrived(shard, chunk, self.gives_way, now) {
            Arrival::InFlight { took } => {
                self.unask(shard, chunk);
                self.carried(from, n_bytes, took);
            }
            Arrival::Late => {}
            Arrival::Unasked => {
                return tracing::debug!(%from, ?chunk, "Chunk that nobody asked for, dropped");
            }
        }

        let n_checking = self.n_checking();
        let fetch = self.fetches.iter_mut().find(|fetch| fetch.shard == shard);
        if let Some(fetch) = fetch
            && fetch.lacks(chunk)
            && !self.paused
            && n_checking < IN_FLIGHT_MAX
        {
            if fetch.chunk_bytes(chunk) == u64::from(n_bytes) {
                fetch.check(chunk);
                self.events.push_back(OutEvent::Check {
                    from,
                    shard,
                    chunk,
                    payload,
                });
            } else {
                self.lied(from);
            }
        }
        self.ask_more(now);
    }

    /// Says what a link carries, if nobody else sends at the same time.
    fn carried(&mut self, from: PeerId, n_bytes: u32, took: Option<Duration>) {
        let mut others = self.holders.iter().filter(|(peer, _)| **peer != from);
        let is_alone = others.all(|(_, holder)| holder.n_in_flight() == 0);

        if let Some(time) = took.filter(|_| is_alone) {
            self.events.push_back(OutEvent::Notice(Notice::Carried {
                from,
                n_bytes: n_bytes.into(),
                time,
            }));
        }
    }

    /// Somebody waits for an answer, or nobody does any more.
    pub(super) fn give_way(&mut self, gives_way: bool, now: Instant) {
        self.gives_way = gives_way;
        if gives_way {
            for holder in self.holders.values_mut() {
                holder.be_patient(GIVING_WAY_PATIENCE, now);
            }
        }
    }

    /// Takes note that a chunk is on disk, and returns whether that is news.
    pub(super) fn verified(&mut self, shard: ShardHash, chunk: ChunkIndex, now: Instant) -> bool {
        let Some(fetch) = self.fetch_mut(shard) else {
            return false;
        };
        if !fetch.verified(chunk) {
            return false;
        }

        let n_bytes = fetch.chunk_bytes(chunk);
        self.meter.add(n_bytes, now);
        self.withdraw(shard, chunk);
        self.finish_full();
        self.ask_more(now);

        true
    }

    pub(super) fn corrupt(
        &mut self,
        from: PeerId,
        shard: ShardHash,
        chunk: ChunkIndex,
        now: Instant,
    ) {
        if let Some(fetch) = self.fetch_mut(shard) {
            fetch.unwritten(chunk);
        }
        self.lied(from);
        self.ask_more(now);
    }

    fn lied(&mut self, from: PeerId) {
        if self.lies.len() == LIARS_MAX && !self.lies.contains_key(&from) {
            let least = self.lies.iter().min_by_key(|(_, lies)| **lies);
            let least = *least.expect("it is full").0;
            self.lies.remove(&least);
        }
        let lies = self.lies.entry(from).or_default();
        *lies = lies.saturating_add(1);
        tracing::warn!(%from, lies, "Member sent a wrong chunk");

        if *lies == LIES_MAX {
            self.events
                .push_back(OutEvent::Notice(Notice::Distrusted(from)));
            self.take_back(from);
        }
    }

    /// Takes back everything that a member owes.
    fn take_back(&mut self, peer: PeerId) {
        let Some(holder) = self.holders.get_mut(&peer) else {
            return;
        };
        let owed = holder.in_flight().map(|r| (r.shard, r.chunk));
        for (shard, chunk) in owed.collect::<Vec<_>>() {
            self.withdraw_from(peer, shard, chunk);
        }
    }

    // ── The store ─────────────────────────────────────────────────────────────────────────────────

    pub(super) fn opened(&mut self, shard: ShardHash, held: ChunkSet, now: Instant) {
        let Some(fetch) = self.fetch_mut(shard) else {
            return; // cancelled meanwhile
        };
        if !matches!(fetch.state, State::Opening | State::Finishing) {
            return; // cancelled and wanted again meanwhile: the first of two answers has said it
        }
        if fetch.n_chunks() != held.n_chunks() {
            return tracing::error!(%shard, ?held, "The store opened a shard of another size");
        }

        fetch.opened(held);
        self.meter.touch(now);
        self.finish_full();
        self.ask_more(now);
    }

    /// Takes note that a shard is there, and returns its size if that was awaited.
    pub(super) fn finished(&mut self, shard: ShardHash, now: Instant) -> Option<u64> {
        let fetch = self.fetch_mut(shard)?;
        if fetch.state == State::Done {
            return None;
        }

        fetch.state = State::Done;
        let bytes = fetch.bytes;
        for holder in self.holders.values_mut() {
            holder.haves.remove(&shard);
        }
        self.events
            .push_back(OutEvent::Notice(Notice::Complete(shard)));
        self.meter.touch(now);
        self.tell_wants_to_all(now);
        self.ask_more(now);

        Some(bytes)
    }

    pub(super) fn store_failed(
        &mut self,
        shard: ShardHash,
        chunk: Option<ChunkIndex>,
        failure: StoreFailure,
        now: Instant,
    ) {
        let Some(place) = self.fetches.iter().position(|fetch| fetch.shard == shard) else {
            return; // cancelled meanwhile
        };
        if failure == StoreFailure::NotTheShard {
            let fetch = self.fetches.remove(place);
            self.cancel(&fetch);
            self.events
                .push_back(OutEvent::Notice(Notice::Impossible(shard)));
            self.tell_wants_to_all(now);
            return self.ask_more(now);
        }

        let fetch = &mut self.fetches[place];
        match (chunk, fetch.state) {
            (Some(chunk), _) => fetch.unwritten(chunk),
            (None, State::Opening) => fetch.state = State::Closed,
            (None, State::Finishing) => fetch.state = State::Fetching,
            (None, State::Closed | State::Fetching | State::Done) => {}
        }
        self.pause(shard, failure);
    }

    /// Stops asking: what comes could not be written.
    fn pause(&mut self, shard: ShardHash, failure: StoreFailure) {
        if std::mem::replace(&mut self.paused, true) {
            return;
        }
        tracing::warn!(%shard, ?failure, "The store cannot go on, nothing is asked for");
        for peer in self.holders.keys().copied().collect::<Vec<_>>() {
            self.take_back(peer);
        }
        self.events
            .push_back(OutEvent::Notice(Notice::DiskFailed { shard, failure }));
    }

    pub(super) fn retry(&mut self, now: Instant) {
        self.paused = false;
        self.finish_full();
        self.ask_more(now);
    }

    fn finish_full(&mut self) {
        if self.paused {
            return;
        }
        for fetch in self.fetches.iter_mut().filter(|fetch| fetch.is_full()) {
            fetch.state = State::Finishing;
            self.events.push_back(OutEvent::Finish(fetch.shard));
        }
    }

    // ── Verbs ─────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let late = self.holders.iter_mut().flat_map(|(&peer, holder)| {
            let late = holder.give_up(now);
            late.into_iter().map(move |request| (peer, request))
        });
        for (peer, request) in late.collect::<Vec<_>>() {
            let (shard, chunk) = (request.shard, request.chunk);
            tracing::debug!(%peer, %shard, ?chunk, "Chunk is late");
            self.unask(shard, chunk);
            self.send(peer, Message::Withdraw { shard, chunk });
        }

        let again = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.tell_again_at().is_some_and(|at| at <= now));
        for peer in again.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.tell_wants(peer, now);
        }

        self.ask_more(now);
        if self.meter.is_due(now) {
            self.tell_progress(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let holders = self.holders.values().filter_map(Holder::poll_timeout);

        holders.chain(self.meter.due()).min()
    }

    pub(super) fn poll(&mut self) -> Option<OutEvent<B>> {
        self.events.pop_front()
    }

    /// Returns which chunks of a shard are here that is being fetched.
    pub(super) fn held(&self, shard: ShardHash) -> Option<&ChunkSet> {
        let fetch = self.fetches.iter().find(|fetch| fetch.shard == shard)?;

        fetch.is_open().then(|| fetch.held())
    }

    // ── Whom to ask for what ──────────────────────────────────────────────────────────────────────

    fn ask_more(&mut self, now: Instant) {
        if self.paused {
            return;
        }
        self.open_active();

        while self.n_in_flight() + self.n_checking() < IN_FLIGHT_MAX
            && let Some(choice) = self.choose().or_else(|| self.choose_second(now))
        {
            self.ask(choice, now);
        }
        self.tell_stalled();
    }

    /// Opens the shards whose turn it is; the others' room is not taken, nor their chunks hashed, before.
    fn open_active(&mut self) {
        let Some(active) = self.active() else {
            return;
        };
        let closed = |fetch: &&mut Fetch| fetch.state == State::Closed && fetch.purpose <= active;
        for fetch in self.fetches.iter_mut().filter(closed) {
            fetch.state = State::Opening;
            self.events.push_back(OutEvent::Open(fetch.shard));
        }
    }

    fn ask(&mut self, choice: Choice, now: Instant) {
        let fetch = &mut self.fetches[choice.fetch];
        let (shard, chunk) = (fetch.shard, choice.chunk);
        fetch.ask(chunk);
        let n_bytes = fetch.chunk_bytes(chunk);

        let patience = if self.gives_way {
            GIVING_WAY_PATIENCE
        } else {
            Duration::ZERO
        };
        let holder = self.holders.get_mut(&choice.holder);
        holder
            .expect("chosen from the holders")
            .ask(shard, chunk, n_bytes, patience, now);
        self.send(choice.holder, Message::Request { shard, chunk });
        self.meter.touch(now);
    }

    /// Returns what is fetched at this time: the lowest purpose for which something can be done.
    fn active(&self) -> Option<Purpose> {
        let can_go_on = |fetch: &&Fetch| match fetch.state {
            State::Closed | State::Opening | State::Finishing => true,
            State::Fetching => {
                fetch.n_checking() > 0 || fetch.asked().next().is_some() || self.is_available(fetch)
            }
            State::Done => false,
        };

        self.fetches
            .iter()
            .find(can_go_on)
            .map(|fetch| fetch.purpose)
    }

    /// Returns the next chunk to ask for, and whom.
    fn choose(&self) -> Option<Choice> {
        let active = self.active()?;
        let turn = |fetch: &Fetch| fetch.state == State::Fetching && fetch.purpose == active;

        self.idle_holders().into_iter().find_map(|(peer, holder)| {
            let fetches = self
                .fetches
                .iter()
                .enumerate()
                .filter(|(_, fetch)| turn(fetch));
            fetches
                .filter_map(|(place, fetch)| {
                    let chunk = self.rarest(peer, holder, fetch)?;
                    Some(Choice {
                        holder: peer,
                        fetch: place,
                        chunk,
                    })
                })
                .next()
        })
    }

    /// Returns a chunk that its holder takes long over, and another who would be much quicker.
    fn choose_second(&self, now: Instant) -> Option<Choice> {
        if self.gives_way {
            return None; // all are slow, and twice would be more
        }

        self.idle_holders().into_iter().find_map(|(peer, holder)| {
            let wait = holder.wait(gguf_tools::CHUNK_BYTES).unwrap_or(UNKNOWN_WAIT);
            if self.lies_of(peer) > 0 || holder.silences() > 0 {
                return None;
            }
            let slow = self.slow_chunks(peer, holder, now);
            let (still, fetch, chunk) = slow.max_by_key(|(still, ..)| *still)?;

            (still > HEDGE_FACTOR * wait + HEDGE_MIN).then_some(Choice {
                holder: peer,
                fetch,
                chunk,
            })
        })
    }

    /// Returns the chunks that one other is asked for and `holder` has, each with the time it will still take.
    fn slow_chunks(
        &self,
        peer: PeerId,
        holder: &Holder,
        now: Instant,
    ) -> impl Iterator<Item = (Duration, usize, ChunkIndex)> {
        let others = self
            .holders
            .iter()
            .filter(move |(other, _)| **other != peer);

        others.flat_map(move |(_, other)| {
            other.in_flight().filter_map(move |request| {
                let (shard, chunk) = (request.shard, request.chunk);
                let place = self.fetches.iter().position(|fetch| fetch.shard == shard)?;
                let fetch = &self.fetches[place];
                let last = fetch.missing().is_empty(); // before, a chunk twice is another one later
                let once = fetch.n_asked(chunk) == 1 && fetch.lacks(chunk);
                let has = holder.haves.get(&shard)?.contains(chunk);

                (last && once && has).then_some((other.still(shard, chunk, now)?, place, chunk))
            })
        })
    }

    /// Returns the holders that may be asked, the best first: the honest, then the awake, then the fast.
    fn idle_holders(&self) -> Vec<(PeerId, &Holder)> {
        let idle = self
            .holders
            .iter()
            .filter(|(peer, holder)| holder.has_room() && self.lies_of(**peer) < LIES_MAX);
        let mut idle = idle
            .map(|(&peer, holder)| (peer, holder))
            .collect::<Vec<_>>();
        idle.sort_by_key(|(peer, holder)| {
            let wait = holder.wait(gguf_tools::CHUNK_BYTES).unwrap_or(UNKNOWN_WAIT);
            (self.lies_of(*peer), holder.silences(), wait)
        });

        idle
    }

    /// Returns the chunk that `holder` has, this phone lacks, and fewest others have.
    fn rarest(&self, peer: PeerId, holder: &Holder, fetch: &Fetch) -> Option<ChunkIndex> {
        let has = holder.haves.get(&fetch.shard)?;
        let lied = self.lies_of(peer) > 0;
        let candidates = fetch.missing().common_from(has, self.start(fetch));
        let allowed =
            candidates.filter(|chunk| !lied || !self.honest_holder_has(fetch.shard, *chunk));

        allowed
            .take(RAREST_OF)
            .min_by_key(|chunk| self.n_holders(fetch.shard, *chunk))
    }

    /// Returns where this phone begins with a shard: elsewhere than others.
    fn start(&self, fetch: &Fetch) -> ChunkIndex {
        let [a, b, c, d, ..] = self.me.0;
        let [e, f, g, h, ..] = fetch.shard.0;
        let luck = u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h]);
        let scaled = (u64::from(luck) * u64::from(fetch.n_chunks())) >> 32;

        ChunkIndex(u32::try_from(scaled).expect("below the number of chunks"))
    }

    fn n_holders(&self, shard: ShardHash, chunk: ChunkIndex) -> usize {
        let has = |holder: &&Holder| {
            holder
                .haves
                .get(&shard)
                .is_some_and(|set| set.contains(chunk))
        };

        self.holders.values().filter(has).count()
    }

    fn honest_holder_has(&self, shard: ShardHash, chunk: ChunkIndex) -> bool {
        self.holders.iter().any(|(peer, holder)| {
            self.lies_of(*peer) == 0
                && holder.silences() == 0
                && holder
                    .haves
                    .get(&shard)
                    .is_some_and(|set| set.contains(chunk))
        })
    }

    /// Returns whether anybody who is trusted holds something that is missing.
    fn is_available(&self, fetch: &Fetch) -> bool {
        self.holders.iter().any(|(peer, holder)| {
            let has = holder.haves.get(&fetch.shard);
            let common = has.and_then(|has| fetch.missing().common_from(has, ChunkIndex(0)).next());
            self.lies_of(*peer) < LIES_MAX && common.is_some()
        })
    }

    fn lies_of(&self, peer: PeerId) -> u32 {
        self.lies.get(&peer).copied().unwrap_or(0)
    }

    // ── Words ─────────────────────────────────────────────────────────────────────────────────────

    fn tell_wants_to_all(&mut self, now: Instant) {
        for peer in self.holders.keys().copied().collect::<Vec<_>>() {
            self.tell_wants(peer, now);
        }
    }

    fn tell_wants(&mut self, to: PeerId, now: Instant) {
        let lacking = |fetch: &&Fetch| fetch.state != State::Done;
        let wants = self.fetches.iter().filter(lacking).map(|fetch| fetch.shard);
        let wants = wants.collect::<Vec<_>>();
        if let Some(holder) = self.holders.get_mut(&to)
            && holder.is_to_hear(!wants.is_empty(), now)
        {
            let message = Message::Wants(wants.into_iter().collect());
            self.send(to, message);
        }
    }

    fn tell_stalled(&mut self) {
        let stalled = self.fetches.iter().filter(|fetch| {
            fetch.state == State::Fetching
                && !fetch.missing().is_empty()
                && fetch.n_checking() == 0
                && fetch.asked().next().is_none()
                && !self.is_available(fetch)
        });
        let stalled = stalled.map(|fetch| fetch.shard).collect::<Vec<_>>();

        if stalled != self.stalled {
            self.stalled.clone_from(&stalled);
            if !stalled.is_empty() {
                self.events
                    .push_back(OutEvent::Notice(Notice::Stalled(stalled)));
            }
        }
    }

    fn tell_progress(&mut self, now: Instant) {
        let lacking = self.fetches.iter().find(|fetch| fetch.state != State::Done);
        let Some(shown) = lacking.or(self.fetches.last()) else {
            return self.meter.told(false, now);
        };
        let purpose = shown.purpose;
        let shards = || self.fetches.iter().filter(|fetch| fetch.purpose == purpose);
        let held_bytes = shards().map(Fetch::held_bytes).sum();
        let total_bytes = shards().map(|fetch| fetch.bytes).sum();
        let rate_bytes_per_s = self.meter.rate_bytes_per_s(now);
        let is_source = |holder: &&Holder| holder.n_in_flight() > 0 && holder.silences() == 0;

        let sources = self.holders.iter().filter(|(_, holder)| is_source(holder));
        let source = sources.max_by_key(|(_, holder)| holder.n_in_flight());

        let progress = Progress {
            purpose,
            held_bytes,
            total_bytes,
            rate_bytes_per_s,
            left: time_left(total_bytes - held_bytes, rate_bytes_per_s),
            source: source.map(|(&peer, _)| peer),
            n_sources: self.holders.values().filter(is_source).count(),
        };
        self.events
            .push_back(OutEvent::Notice(Notice::Progress(progress)));
        self.meter.told(self.n_in_flight() > 0, now);
    }

    fn send(&mut self, to: PeerId, message: Message) {
        self.events.push_back(OutEvent::Send { to, message });
    }

    // ── Requests ──────────────────────────────────────────────────────────────────────────────────

    /// Takes a chunk back from whoever still owes it.
    fn withdraw(&mut self, shard: ShardHash, chunk: ChunkIndex) {
        for peer in self.holders.keys().copied().collect::<Vec<_>>() {
            self.withdraw_from(peer, shard, chunk);
        }
    }

    fn withdraw_from(&mut self, peer: PeerId, shard: ShardHash, chunk: ChunkIndex) {
        let holder = self.holders.get_mut(&peer);
        if holder.is_some_and(|holder| holder.forget(shard, chunk)) {
            self.unask(shard, chunk);
            self.send(peer, Message::Withdraw { shard, chunk });
        }
    }

    fn unask_all(&mut self, holder: &Holder) {
        for request in holder.in_flight() {
            self.unask(request.shard, request.chunk);
        }
    }

    fn unask(&mut self, shard: ShardHash, chunk: ChunkIndex) {
        if let Some(fetch) = self.fetch_mut(shard) {
            fetch.unask(chunk);
        }
    }

    fn fetch_mut(&mut self, shard: ShardHash) -> Option<&mut Fetch> {
        self.fetches.iter_mut().find(|fetch| fetch.shard == shard)
    }

    fn n_in_flight(&self) -> usize {
        self.holders.values().map(Holder::n_in_flight).sum()
    }

    fn n_checking(&self) -> usize {
        self.fetches.iter().map(Fetch::n_checking).sum()
    }
}

fn time_left(left_bytes: u64, rate_bytes_per_s: u64) -> Option<Duration> {
    if left_bytes == 0 {
        return Some(Duration::ZERO);
    }

    left_bytes
        .checked_div(rate_bytes_per_s)
        .map(Duration::from_secs)
}

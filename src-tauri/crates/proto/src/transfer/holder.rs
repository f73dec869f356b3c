//! One member as a source of chunks: what it holds, what it owes us, how fast and how honest it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gguf_tools::ShardHash;

use super::chunks::{ChunkIndex, ChunkSet};

/// Chunks asked of one holder before the first has come.
///
/// While one comes, the request for the next is there already: the link is never idle while a chunk takes
/// longer than a round trip, that is below 100 MB/s at 10 ms.
pub const IN_FLIGHT_PER_HOLDER_MAX: usize = 2;

/// Wrong chunks after which a holder is asked no more. One may be a damaged disk; three are a habit, a guess.
pub const LIES_MAX: u32 = 3;

/// How long a holder whose speed is not known may take over each chunk that it owes. A guess: 1 MiB at 70 kB/s.
const FIRST_TIMEOUT: Duration = Duration::from_secs(15);

/// How long nothing is thought of it when a holder whose speed is not known has not sent its first chunk.
/// 1 MiB takes 1 s on a poor link, and one may be ahead of it.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);

/// Shortest time that a holder may take, however fast it has been: a phone whose app was put aside for a moment.
/// A guess.
const TIMEOUT_MIN: Duration = Duration::from_secs(3);

/// Longest time that a holder may take: 1 MiB at 9 kB/s. Slower ones are asked again, and what comes late counts.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// How many times as long as it usually takes a holder may take: it has other askers too. A guess.
const TIMEOUT_FACTOR: f64 = 4.0;

/// How long a holder is left alone after it let a request run out of time; doubles each time.
const REST: Duration = Duration::from_secs(1);

/// Most doublings: 64 s, after which a phone that was put aside is asked again.
const REST_DOUBLINGS_MAX: u32 = 6;

/// How long until a member that has not answered is told again what is wanted: it may have learnt later than
/// this phone that they are in one group. A guess.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// Weight of the newest chunk in a holder's speed. A guess: the last three chunks count for two thirds.
const SPEED_WEIGHT: f64 = 0.3;

/// Requests remembered that ran out of time, so that what comes late is not in vain.
const LATE_MAX: usize = 16;

/// One member as a source of chunks.
#[derive(Debug, Default)]
pub(super) struct Holder {
    /// Of the shards that we want, what it holds.
    pub(super) haves: BTreeMap<ShardHash, ChunkSet>,
    /// Whether it was told last that something is wanted.
    heard_of_wants: bool,
    /// When it was last told what is wanted, if it has not answered.
    unanswered_since: Option<Instant>,
    /// What it owes us, in the order in which it was asked.
    in_flight: VecDeque<Request>,
    /// What it was given up on for.
    late: VecDeque<Request>,
    /// Smoothed seconds per byte.
    pace: Option<f64>,
    last_arrival: Option<Instant>,
    /// Requests that ran out of time since the last chunk came.
    silences: u32,
    resting_until: Option<Instant>,
}

/// A chunk that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) shard: ShardHash,
    pub(super) chunk: ChunkIndex,
    n_bytes: u64,
    asked_at: Instant,
    deadline: Instant,
}

/// How a chunk stands that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was awaited.
    InFlight {
        /// What the link took for it, if that was busy with it and nothing else.
        took: Option<Duration>,
    },
    /// It had been given up on.
    Late,
    /// It was never asked for.
    Unasked,
}

impl Holder {
    /// Returns whether it is to hear what is wanted: not if that is nothing, and was nothing before.
    pub(super) fn is_to_hear(&mut self, wants_any: bool, now: Instant) -> bool {
        let is_news = wants_any || self.heard_of_wants;
        self.heard_of_wants = wants_any;
        self.unanswered_since = wants_any.then_some(now); // nothing needs no answer

        is_news
    }

    /// It said what it holds.
    pub(super) fn answered(&mut self) {
        self.unanswered_since = None;
    }

    /// Returns when to tell it again what is wanted.
    pub(super) fn tell_again_at(&self) -> Option<Instant> {
        Some(self.unanswered_since? + TELL_AGAIN)
    }

    /// Notes that it was asked for a chunk, over which it may take `patience` at least.
    pub(super) fn ask(
        &mut self,
        shard: ShardHash,
        chunk: ChunkIndex,
        n_bytes: u64,
        patience: Duration,
        now: Instant,
    ) {
        let deadline = now + self.timeout(n_bytes).max(patience);
        self.in_flight.push_back(Request {
            shard,
            chunk,
            n_bytes,
            asked_at: now,
            deadline,
        });
    }

    /// Lets it take so long over what it owes, from now on.
    pub(super) fn be_patient(&mut self, patience: Duration, now: Instant) {
        for request in &mut self.in_flight {
            request.deadline = request.deadline.max(now + patience);
        }
    }

    /// Takes a chunk off what is owed, and learns from the time it took, unless it `gives_way` to something else.
    pub(super) fn arrived(
        &mut self,
        shard: ShardHash,
        chunk: ChunkIndex,
        gives_way: bool,
        now: Instant,
    ) -> Arrival {
        let (request, arrival) = match take(&mut self.in_flight, shard, chunk) {
            Some(request) => (request, Arrival::InFlight { took: None }),
            None => match take(&mut self.late, shard, chunk) {
                Some(request) => (request, Arrival::Late),
                None => return Arrival::Unasked,
            },
        };

        let begun = self
            .last_arrival
            .map_or(request.asked_at, |at| at.max(request.asked_at));
        let took = now.saturating_duration_since(begun);
        if !gives_way {
            let pace = took.as_secs_f64() / request.n_bytes as f64;
            let old = self.pace.unwrap_or(pace);
            self.pace = Some(old + SPEED_WEIGHT * (pace - old));
        }
        // It was asked for before the one ahead of it had come: the link was never idle.
        let followed = self.last_arrival.is_some_and(|at| at > request.asked_at);
        let arrival = match arrival {
            Arrival::InFlight { .. } => Arrival::InFlight {
                took: Some(took).filter(|_| followed && !gives_way),
            },
            Arrival::Late | Arrival::Unasked => arrival,
        };
        self.last_arrival = Some(now);
        self.silences = 0;
        self.resting_until = None;

        arrival
    }

    /// Takes a request back, and returns whether there was one.
    pub(super) fn forget(&mut self, shard: ShardHash, chunk: ChunkIndex) -> bool {
        let Some(request) = take(&mut self.in_flight, shard, chunk) else {
            return false;
        };
        self.remember(request); // it may be on its way

        true
    }

    /// It said that a chunk will not come. Returns whether that one was awaited.
    pub(super) fn refused(&mut self, shard: ShardHash, chunk: ChunkIndex, now: Instant) -> bool {
        let awaited = take(&mut self.in_flight, shard, chunk).is_some();
        if awaited {
            self.resting_until = Some(now + REST);
        }

        awaited
    }

    /// Gives up on the requests whose time is over, leaves the holder alone for a while, and returns them.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<Request> {
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
        }
        let is_over = |request: &Request| request.deadline <= now;
        if !self.in_flight.iter().any(is_over) {
            return Vec::new();
        }

        // What waits behind would wait as long: everything goes to somebody else.
        let over = self.in_flight.drain(..).collect::<Vec<_>>();
        over.iter().for_each(|request| self.remember(*request));
        self.silences = self.silences.saturating_add(1);
        self.pace = self.pace.map(|pace| pace * 2.0);
        self.resting_until = Some(now + REST * (1 << (self.silences - 1).min(REST_DOUBLINGS_MAX)));

        over
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.in_flight.iter().map(|request| request.deadline);

        deadlines
            .chain(self.resting_until)
            .chain(self.tell_again_at())
            .min()
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Request> {
        self.in_flight.iter()
    }

    pub(super) fn n_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether it may be asked for one more chunk. One that is silent gets one request at a time.
    pub(super) fn has_room(&self) -> bool {
        let max = if self.silences > 0 {
            1
        } else {
            IN_FLIGHT_PER_HOLDER_MAX
        };

        self.resting_until.is_none() && self.in_flight.len() < max
    }

    pub(super) fn silences(&self) -> u32 {
        self.silences
    }

    /// Returns how long one more chunk would take it to send, behind what it owes; `None` if it never sent any.
    pub(super) fn wait(&self, n_bytes: u64) -> Option<Duration> {
        let ahead: u64 = self.in_flight.iter().map(|request| request.n_bytes).sum();
        let seconds = self.pace? * (ahead + n_bytes) as f64;

        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns how much longer a chunk will take that it owes; `None` if that cannot be said yet.
    pub(super) fn still(
        &self,
        shard: ShardHash,
        chunk: ChunkIndex,
        now: Instant,
    ) -> Option<Duration> {
        let place = self.in_flight.iter().position(|r| r.is(shard, chunk))?;
        let Some(pace) = self.pace else {
            let request = &self.in_flight[place];
            let waited = now.saturating_duration_since(request.asked_at);
            let left = request.deadline.saturating_duration_since(now);
            return (waited >= FIRST_PATIENCE).then_some(left);
        };
        let ahead: u64 = self
            .in_flight
            .iter()
            .take(place + 1)
            .map(|r| r.n_bytes)
            .sum();
        let begun = self.last_arrival.map_or(self.in_flight[0].asked_at, |at| {
            at.max(self.in_flight[0].asked_at)
        });
        let whole = Duration::try_from_secs_f64(pace * ahead as f64).unwrap_or(TIMEOUT_MAX);
        let passed = now.saturating_duration_since(begun);

        // Later than it should be: it may take as long again.
        Some(whole.checked_sub(passed).unwrap_or(whole))
    }

    fn timeout(&self, n_bytes: u64) -> Duration {
        let Some(wait) = self.wait(n_bytes) else {
            return FIRST_TIMEOUT * (self.in_flight.len() as u32 + 1); // few: IN_FLIGHT_PER_HOLDER_MAX
        };

        let usual = wait.as_secs_f64().min(TIMEOUT_MAX.as_secs_f64());
        Duration::from_secs_f64(usual * TIMEOUT_FACTOR).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }

    fn remember(&mut self, request: Request) {
        if self.late.len() == LATE_MAX {
            self.late.pop_front();
        }
        self.late.push_back(request);
    }
}

impl Request {
    fn is(&self, shard: ShardHash, chunk: ChunkIndex) -> bool {
        self.shard == shard && self.chunk == chunk
    }
}

fn take(requests: &mut VecDeque<Request>, shard: ShardHash, chunk: ChunkIndex) -> Option<Request> {
    let place = requests
        .iter()
        .position(|request| request.is(shard, chunk))?;

    requests.remove(place)
}

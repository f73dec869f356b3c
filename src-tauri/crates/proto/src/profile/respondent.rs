//! A member's part: it measures what the leader asks for, one thing at a time, and tells.
//!
//! ```text
//!            Measure                       Measured by the engine
//!  idle ───────────────► measuring ───────────────────────────────► idle
//!   │  Probe                                   Probed
//!   └─────────► pinging ───────► bursting ──────────────► idle
//!                   └── nobody answers ──► Probed: unreachable
//! ```
//!
//! - **Pings** follow each other without a pause, and the first ones do not count: a radio that
//!   sleeps takes ten times as long (8 to 20 ms busy, 56 ms idle, on one phone), and while tokens
//!   go round it does not sleep.
//! - **Bursts** are activations of a prefill chunk, of the size that the plan will send, on the
//!   stream that it will send them on. Each has as many more as it seems to take, until one takes
//!   long enough to be told from its round trip. All times are the sender's own: a phone that answers
//!   can only make its link look worse than it is.
//! - **The work itself** says how it goes ([`InEvent::Computed`]): its time beside what the profile
//!   says gives the pace, which the leader is told now and then.
//!
//! Members may order, and the leader as a rule is who does: another that has a model asks what to expect of it. Orders
//! are carried out one after the other, those of the leader first. Anybody may ping: that costs a few bytes in answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_tools::{ModelHash, Sample};

use super::bridge::SHARD_S;
use super::figure::Figure;
use super::message::{BurstFrame, Depth, Found, Message, ProbeId};
use super::phone::Profile;
use crate::PeerId;
use crate::device::Snapshot;
use crate::plan::{ActivationType, CHUNK_TOKENS_MAX};
use crate::wire::N_EMBD_MAX;

/// Pings of a measuring, and how many at its beginning do not count: the radio is awake after one
/// round trip, the processor after two.
const PINGS: u8 = 10;
const PINGS_UNCOUNTED: usize = 2;

/// Time after which no further ping is sent if some were answered: 10 pings of a radio that sleeps
/// (56 ms) would take longer.
const PINGS_TIME: Duration = Duration::from_millis(400);

/// How long one ping may take: longer than any delay at which a token a second is possible.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A burst that takes so long beside its round trip is long enough: a clock that is read a
/// millisecond late is then off by a fiftieth.
const BURST_ENOUGH: Duration = Duration::from_millis(50);

/// How many times the activations of the burst before it a burst has, at most: the first may have
/// been quick by chance.
const BURST_GROWTH: f64 = 4.0;

/// Bursts of a measuring, at most: up to 1, 4 and 16 activations.
const BURSTS_MAX: u8 = 3;

/// Bytes of a burst, at most: a second of poor Wi-Fi (8 MB/s).
const BURST_BYTES_MAX: u64 = 8 << 20;

/// How long a burst may take: an activation of 1 MiB at 130 kB/s. A link slower than that is told
/// as one that carried it in this time.
const BURST_TIMEOUT: Duration = Duration::from_secs(8);

/// How often the leader is told how the work goes: a few bytes every ten seconds, a guess at how
/// soon a balancer could make use of it.
const PACE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that are received of one phone before the leader is told how fast they came: about a second of Wi-Fi, and
/// enough chunks that one that was held up does not count for much. A guess.
const RECEIVED_ENOUGH: u64 = 8 << 20;
/// Orders that wait, at most: more would be late. What is beyond is not carried out.
const ORDERS_MAX: usize = 8;

/// Models of which it is kept what this phone said of itself: the one that is run, and some that were only asked about.
const SAID_MAX: usize = 4;

/// What happened.
#[derive(Debug)]
pub enum InEvent {
    /// The group has this leader.
    Leader(PeerId),
    /// A phone said something.
    Message {
        /// Who.
        from: PeerId,
        /// What.
        message: Message,
    },
    /// An activation of a burst has arrived.
    Burst {
        /// From whom.
        from: PeerId,
        /// Which.
        frame: BurstFrame,
    },
    /// The engine has measured this phone.
    Measured {
        /// What it can do.
        profile: Box<Profile>,
        /// How it is.
        snapshot: Snapshot,
    },
    /// The engine could not measure this phone.
    NotMeasured {
        /// Why, for people.
        reason: String,
    },
    /// The engine has run a step.
    Computed(Work),
    /// Bytes of a shard came as fast as the link carries them.
    Received {
        /// From whom.
        from: PeerId,
        /// How many.
        n_bytes: u64,
        /// What they took.
        time: Duration,
    },
    /// A phone cannot be reached.
    PhoneLost(PeerId),
}

/// Something that was computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// A step of one conversation through this phone's layers.
    Layers {
        /// The layers.
        stage: StageLayers,
        /// Tokens in the step: 1 is a decode step.
        n_tokens: u32,
        /// Positions in the cache before it.
        n_positions: u32,
        /// What it took.
        time: Duration,
    },
    /// One hidden state was made a token.
    Token {
        /// The model, as its manifest's hash names it.
        model: ModelHash,
        /// What it took.
        time: Duration,
    },
}

/// The layers that a phone runs, as far as their time depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageLayers {
    /// The model, as its manifest's hash names it.
    pub model: ModelHash,
    /// How many they are.
    pub n_layers: u32,
    /// In how many shards.
    pub n_shards: u32,
    /// Bytes of their weights.
    pub weights_bytes: u64,
    /// Tokens in a prefill chunk.
    pub chunk_tokens: u32,
}

impl Work {
    fn model(&self) -> ModelHash {
        match self {
            Self::Layers { stage, .. } => stage.model,
            Self::Token { model, .. } => *model,
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum OutEvent {
    /// Say this to a phone, which may be this one.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Send activations one after the other, each under the header of its frame; the last has
    /// `more` unset. What their numbers are does not matter.
    SendBurst {
        /// To whom.
        to: PeerId,
        /// The frame of the first.
        frame: BurstFrame,
        /// How many.
        n_frames: u32,
        /// Numbers in each.
        n_numbers: u32,
        /// Their type.
        activation: ActivationType,
    },
    /// Measure this phone; answered by [`InEvent::Measured`] or [`InEvent::NotMeasured`].
    Measure(Arc<Sample>),
}

/// Measures for the leader.
#[derive(Debug)]
pub struct Respondent {
    leader: Option<PeerId>,
    /// For whom the engine is measuring.
    measuring_for: Option<PeerId>,
    probing: Option<Probing>,
    /// Orders that wait, and whose they are.
    orders: VecDeque<(PeerId, Message)>,
    /// What this phone said of itself, by model, the latest last: the work tells the pace of one of them.
    said: VecDeque<Said>,
    /// Model that is being measured, and bytes of a layer of its sample.
    measuring: Option<(ModelHash, u64)>,
    /// Who sends shards, how much of them came since the leader was told, and what that took.
    received: Option<(PeerId, u64, Duration)>,
    /// Model that was run last.
    worked_on: Option<ModelHash>,
    /// When the pace may be told again; `None` if there is nothing to tell.
    pace_due: Option<Instant>,
    pace_told: Option<Instant>,
    out: VecDeque<OutEvent>,
}

/// What this phone said of itself.
#[derive(Debug)]
struct Said {
    model: ModelHash,
    /// Bytes of a layer of the sample that it was measured with.
    sample_layer_bytes: u64,
    profile: Box<Profile>,
}

/// A link that is being measured.
#[derive(Debug)]
struct Probing {
    probe: ProbeId,
    /// Who ordered it.
    for_whom: PeerId,
    to: PeerId,
    depth: Depth,
    phase: Phase,
    sent_at: Instant,
}

#[derive(Debug)]
enum Phase {
    Pinging {
        started: Instant,
        number: u8,
        rtts_s: Vec<f64>,
    },
    Bursting {
        rtt_s: Figure,
        burst: u8,
        n_frames: u32,
        /// What the burst before this one gave.
        before: Option<f64>,
    },
}

impl Respondent {
    /// Makes a member that follows nobody yet.
    pub fn new() -> Self {
        Self {
            leader: None,
            measuring_for: None,
            probing: None,
            orders: VecDeque::new(),
            said: VecDeque::new(),
            measuring: None,
            received: None,
            worked_on: None,
            pace_due: None,
            pace_told: None,
            out: VecDeque::new(),
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: InEvent, now: Instant) {
        match event {
            InEvent::Leader(leader) => self.follow(leader),
            InEvent::Message { from, message } => self.hear(from, message, now),
            InEvent::Burst { from, frame } => self.burst_frame(from, frame),
            InEvent::Measured { profile, snapshot } => self.measured(profile, snapshot),
            InEvent::NotMeasured { reason } => {
                if let Some(to) = self.measuring_for.take() {
                    self.send(to, Message::NotMeasured { reason });
                }
            }
            InEvent::Computed(work) => self.computed(work, now),
            InEvent::Received {
                from,
                n_bytes,
                time,
            } => self.received(from, n_bytes, time),
            InEvent::PhoneLost(phone) => {
                if self.probing.as_ref().is_some_and(|p| p.to == phone) {
                    self.end_probe(Found::Unreachable);
                }
            }
        }

        self.go_on(now);
    }

    /// Gives up on what takes too long, and tells the pace when it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(probing) = &self.probing
            && probing.deadline() <= now
        {
            let found = probing.late(now);
            self.end_probe(found);
            self.go_on(now);
        }
        if self.pace_due.is_some_and(|due| due <= now) {
            self.tell_pace(now);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.probing.as_ref().map(Probing::deadline);

        probe.into_iter().chain(self.pace_due).min()
    }

    /// Returns the next thing that is wanted.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.out.pop_front()
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.out.is_empty()
    }

    /// A new leader knows nothing of what the old one had ordered.
    fn follow(&mut self, leader: PeerId) {
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            self.probing = None;
            self.orders.clear();
        }
    }

    fn hear(&mut self, from: PeerId, message: Message, now: Instant) {
        match message {
            order @ (Message::Measure { .. } | Message::Probe { .. }) => self.order(from, order),
            Message::Ping { probe, number } => self.send(from, Message::Pong { probe, number }),
            Message::Pong { probe, number } => self.pong(from, probe, number, now),
            Message::Arrived { probe, burst } => self.arrived(from, probe, burst, now),
            // Words for whoever orders.
            Message::Measured { .. }
            | Message::NotMeasured { .. }
            | Message::Probed { .. }
            | Message::Pace { .. }
            | Message::Received { .. } => {}
        }
    }

    /// Takes an order. If there are too many, one is dropped: not the leader's, if there is another.
    fn order(&mut self, from: PeerId, order: Message) {
        let is_others = |(other, _): &(PeerId, Message)| self.leader != Some(*other);
        if self.orders.len() >= ORDERS_MAX {
            tracing::warn!(%from, "Too many orders to measure, one is dropped");
            let last_is_others = self.orders.back().is_some_and(is_others);
            if self.leader != Some(from) || !last_is_others {
                return;
            }
            self.orders.pop_back();
        }

        let first_of_others = self.orders.iter().position(is_others);
        let at = first_of_others.filter(|_| self.leader == Some(from));
        let at = at.unwrap_or(self.orders.len());
        self.orders.insert(at, (from, order));
    }

    /// Carries out the next order, when the last is done.
    fn go_on(&mut self, now: Instant) {
        if self.measuring_for.is_some() || self.probing.is_some() {
            return;
        }

        match self.orders.pop_front() {
            Some((from, Message::Measure { sample, model })) => {
                self.measuring_for = Some(from);
                self.measuring = Some((model, sample.layer_bytes().max(1)));
                self.measure(sample);
            }
            Some((from, Message::Probe { probe, to, depth })) => {
                self.start_probe(from, probe, to, depth, now);
            }
            _ => {}
        }
    }

    fn measure(&mut self, sample: Arc<Sample>) {
        self.out.push_back(OutEvent::Measure(sample));
    }

    fn measured(&mut self, profile: Box<Profile>, snapshot: Snapshot) {
        if let Some((model, sample_layer_bytes)) = self.measuring.take() {
            self.said.retain(|said| said.model != model);
            if self.said.len() == SAID_MAX {
                self.said.pop_front();
            }
            self.said.push_back(Said {
                model,
                sample_layer_bytes,
                profile: profile.clone(),
            });
        }
        if let Some(to) = self.measuring_for.take() {
            self.send(to, Message::Measured { profile, snapshot });
        }
    }

    fn start_probe(
        &mut self,
        for_whom: PeerId,
        probe: ProbeId,
        to: PeerId,
        depth: Depth,
        now: Instant,
    ) {
        let depth = match depth {
            Depth::Full {
                n_numbers,
                activation,
            } => Depth::Full {
                // No plan's activation is larger.
                n_numbers: n_numbers.clamp(1, CHUNK_TOKENS_MAX * N_EMBD_MAX),
                activation,
            },
            Depth::Rtt => Depth::Rtt,
        };
        self.probing = Some(Probing {
            probe,
            for_whom,
            to,
            depth,
            sent_at: now,
            phase: Phase::Pinging {
                started: now,
                number: 0,
                rtts_s: Vec::new(),
            },
        });

        self.send(to, Message::Ping { probe, number: 0 });
    }

    fn pong(&mut self, from: PeerId, probe: ProbeId, answered: u8, now: Instant) {
        let Some(probing) = self.probing_of(from, probe) else {
            return;
        };
        let elapsed = now.duration_since(probing.sent_at).as_secs_f64();
        let Phase::Pinging {
            started,
            number,
            rtts_s,
        } = &mut probing.phase
        else {
            return;
        };
        if answered != *number {
            return;
        }

        rtts_s.push(elapsed);
        *number += 1;
        let is_enough = rtts_s.len() > PINGS_UNCOUNTED && now.duration_since(*started) > PINGS_TIME;
        if *number < PINGS && !is_enough {
            let number = *number;
            probing.sent_at = now;
            self.send(from, Message::Ping { probe, number });
        } else {
            let rtt_s = rtt_of(rtts_s);
            self.pinged(rtt_s, now);
        }
    }

    fn pinged(&mut self, rtt_s: Option<Figure>, now: Instant) {
        let depth = self.probing.as_ref().map(|probing| probing.depth);
        match (rtt_s, depth) {
            (Some(rtt_s), Some(Depth::Full { .. })) => self.send_burst(rtt_s, 0, 1, None, now),
            (Some(rtt_s), _) => self.end_probe(Found::Way {
                rtt_s,
                goodput_bytes_per_s: None,
            }),
            (None, _) => self.end_probe(Found::Unreachable),
        }
    }

    fn send_burst(
        &mut self,
        rtt_s: Figure,
        burst: u8,
        n_frames: u32,
        before: Option<f64>,
        now: Instant,
    ) {
        let Some(probing) = &mut self.probing else {
            return;
        };
        let Depth::Full {
            n_numbers,
            activation,
        } = probing.depth
        else {
            return;
        };
        probing.sent_at = now;
        probing.phase = Phase::Bursting {
            rtt_s,
            burst,
            n_frames,
            before,
        };

        let (to, probe) = (probing.to, probing.probe);
        self.out.push_back(OutEvent::SendBurst {
            to,
            frame: BurstFrame {
                probe,
                burst,
                more: n_frames > 1,
            },
            n_frames,
            n_numbers,
            activation,
        });
    }

    fn arrived(&mut self, from: PeerId, probe: ProbeId, arrived: u8, now: Instant) {
        let Some(probing) = self.probing_of(from, probe) else {
            return;
        };
        let Phase::Bursting {
            rtt_s,
            burst,
            n_frames,
            before,
        } = probing.phase
        else {
            return;
        };
        if arrived != burst {
            return;
        }

        let elapsed = now.duration_since(probing.sent_at);
        let goodput = goodput(probing.burst_bytes(n_frames), elapsed, rtt_s);
        let carried_s = probing.burst_bytes(n_frames) as f64 / goodput;
        let longer = (BURST_ENOUGH.as_secs_f64() / carried_s).min(BURST_GROWTH);
        let more = (f64::from(n_frames) * longer).ceil() as u32;
        let is_last = burst + 1 == BURSTS_MAX
            || more <= n_frames
            || probing.burst_bytes(more) > BURST_BYTES_MAX;
        if !is_last {
            return self.send_burst(rtt_s, burst + 1, more, Some(goodput), now);
        }

        let spread = before.map_or(0.0, |before| (goodput - before).abs());
        self.end_probe(Found::Way {
            rtt_s,
            goodput_bytes_per_s: Figure::new(goodput, spread).ok(),
        });
    }

    fn burst_frame(&mut self, from: PeerId, frame: BurstFrame) {
        let BurstFrame { probe, burst, more } = frame;
        if !more {
            self.send(from, Message::Arrived { probe, burst });
        }
    }

    fn end_probe(&mut self, found: Found) {
        if let Some(Probing {
            probe, for_whom, ..
        }) = self.probing.take()
        {
            self.send(for_whom, Message::Probed { probe, found });
        }
    }

    /// Takes note of how long something took beside what the profile says.
    fn computed(&mut self, work: Work, now: Instant) {
        let model = work.model();
        let Some(said) = self.said.iter_mut().find(|said| said.model == model) else {
            return;
        };
        let Some((ratio, pace)) = pace_of(&mut said.profile, said.sample_layer_bytes, work) else {
            return;
        };

        match pace {
            Some(known) => *known = known.after(ratio),
            None => *pace = Figure::new(ratio, 0.0).ok(),
        }
        let due = self.pace_told.map_or(now, |told| told + PACE_INTERVAL);
        self.pace_due.get_or_insert(due);
        self.worked_on = Some(model);
        if due <= now {
            self.tell_pace(now);
        }
    }

    fn received(&mut self, from: PeerId, n_bytes: u64, time: Duration) {
        let before = self.received.take_if(|(sender, ..)| *sender == from);
        let (_, bytes_before, time_before) = before.unwrap_or((from, 0, Duration::ZERO));
        let (n_bytes, time) = (
            bytes_before.saturating_add(n_bytes),
            time_before.saturating_add(time),
        );

        if n_bytes < RECEIVED_ENOUGH {
            self.received = Some((from, n_bytes, time));
        } else {
            self.tell(Message::Received {
                from,
                n_bytes,
                time,
            });
        }
    }

    fn tell_pace(&mut self, now: Instant) {
        self.pace_due = None;
        self.pace_told = Some(now);
        let worked_on = self
            .said
            .iter()
            .find(|said| Some(said.model) == self.worked_on);

        if let Some(&Said {
            model, ref profile, ..
        }) = worked_on
        {
            let pace = profile.pace;
            self.tell(Message::Pace { model, pace });
        }
    }

    fn probing_of(&mut self, from: PeerId, probe: ProbeId) -> Option<&mut Probing> {
        let is_it = |probing: &&mut Probing| probing.to == from && probing.probe == probe;

        self.probing.as_mut().filter(is_it)
    }

    fn tell(&mut self, message: Message) {
        if let Some(leader) = self.leader {
            self.send(leader, message);
        }
    }

    fn send(&mut self, to: PeerId, message: Message) {
        self.out.push_back(OutEvent::Send { to, message });
    }
}

/// Returns how many times as long as measured something took, and the pace that this tells; `None` if it tells none.
///
/// The other direction of what [`problem`](super::problem) makes of a profile: the shard's own cost is the same on both
/// sides, so it is no part of a pace.
fn pace_of(
    profile: &mut Profile,
    sample_layer_bytes: u64,
    work: Work,
) -> Option<(f64, &mut Option<Figure>)> {
    match work {
        Work::Token { time, .. } => {
            let ratio = time.as_secs_f64() / profile.token_s();
            Some((ratio, &mut profile.pace.ends))
        }
        Work::Layers {
            stage,
            n_tokens,
            n_positions,
            time,
        } => {
            let took_s = time.as_secs_f64() - f64::from(stage.n_shards) * SHARD_S;
            let n_sampled = stage.weights_bytes as f64 / sample_layer_bytes as f64;
            let decode_s = profile.decode_s.at(n_positions) * n_sampled;
            if n_tokens == 1 {
                return Some((took_s / decode_s, &mut profile.pace.decode));
            }
            if 2 * n_tokens < stage.chunk_tokens {
                return None; // as much a decode step as a chunk
            }

            let chunk_tokens = f64::from(stage.chunk_tokens);
            let a_token_s = profile.prefill_s.at(n_positions) * f64::from(stage.n_layers);
            let chunk_s = a_token_s * chunk_tokens;
            let beyond_first = f64::from(n_tokens - 1) / (chunk_tokens - 1.0).max(1.0);
            // As `Seconds::of_chunk` has it for a chunk that is not full.
            let wanted_s = decode_s.min(chunk_s) + (chunk_s - decode_s).max(0.0) * beyond_first;
            Some((took_s / wanted_s, &mut profile.pace.prefill))
        }
    }
}

impl Default for Respondent {
    fn default() -> Self {
        Self::new()
    }
}

impl Probing {
    fn deadline(&self) -> Instant {
        let timeout = match self.phase {
            Phase::Pinging { .. } => PING_TIMEOUT,
            Phase::Bursting { .. } => BURST_TIMEOUT,
        };

        self.sent_at + timeout
    }

    /// Returns what is known when nothing more is heard.
    fn late(&self, now: Instant) -> Found {
        match &self.phase {
            Phase::Pinging { rtts_s, .. } => match rtt_of(rtts_s) {
                Some(rtt_s) => Found::Way {
                    rtt_s,
                    goodput_bytes_per_s: None,
                },
                None => Found::Unreachable,
            },
            // At best it would have arrived just now.
            &Phase::Bursting {
                rtt_s,
                n_frames,
                before,
                ..
            } => {
                let elapsed = now.duration_since(self.sent_at);
                let at_most = goodput(self.burst_bytes(n_frames), elapsed, rtt_s);
                let goodput = before.unwrap_or(at_most).min(at_most);
                Found::Way {
                    rtt_s,
                    goodput_bytes_per_s: Figure::new(goodput, goodput).ok(),
                }
            }
        }
    }

    fn burst_bytes(&self, n_frames: u32) -> u64 {
        match self.depth {
            Depth::Rtt => 0,
            Depth::Full {
                n_numbers,
                activation,
            } => u64::from(n_frames) * u64::from(n_numbers) * activation.bytes() as u64,
        }
    }
}

/// Returns the bytes a second of a burst whose last word was heard after `elapsed`: the round trip
/// is not the bytes'. At least a tenth of the time is, whatever the clock says.
fn goodput(bytes: u64, elapsed: Duration, rtt_s: Figure) -> f64 {
    let elapsed = elapsed.as_secs_f64().max(1e-6);
    let on_the_way = (elapsed - rtt_s.value()).max(elapsed / 10.0);

    bytes as f64 / on_the_way
}

/// Returns the median of the round trips that count; `None` if there is none.
fn rtt_of(rtts_s: &[f64]) -> Option<Figure> {
    let counted = rtts_s
        .get(PINGS_UNCOUNTED..)
        .filter(|rest| !rest.is_empty());
    let counted = counted.unwrap_or(rtts_s);
    let value = median(counted)?;
    let distances = counted.iter().map(|rtt| (rtt - value).abs());
    let spread = median(&distances.collect::<Vec<_>>())?;

    // Two instants of a coarse clock may be the same.
    Figure::new(value.max(1e-9), spread).ok()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);

    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SNAPSHOT, profile, sample};
    use super::*;
    use crate::testing::{ANNA, BELA, CARL};

    const PROBE: ProbeId = ProbeId(1);
    const MODEL: ModelHash = ModelHash([7; 32]);
    const FULL: Depth = Depth::Full {
        n_numbers: 128 * 512,
        activation: ActivationType::F32,
    };

    /// Each is told what they asked for; the leader need not wait for the others.
    #[test]
    fn orders_are_carried_out_one_after_the_other_the_leaders_first() {
        let (mut member, now) = member();
        let order = |from| InEvent::Message {
            from,
            message: Message::Measure {
                sample: Arc::new(sample()),
                model: MODEL,
            },
        };
        let mut told = Vec::new();

        for from in [CARL, CARL, ANNA] {
            member.handle(order(from), now);
        }
        for _ in 0..3 {
            assert!(matches!(member.poll(), Some(OutEvent::Measure(_))));
            assert_eq!(member.poll(), None);
            let measured = InEvent::Measured {
                profile: Box::new(profile(0.001)),
                snapshot: SNAPSHOT,
            };
            member.handle(measured, now);
            let Some(OutEvent::Send { to, .. }) = member.poll() else {
                panic!("it tells nobody");
            };
            told.push(to);
        }

        assert_eq!(told, [CARL, ANNA, CARL]);
        for _ in 0..2 * ORDERS_MAX {
            member.handle(order(CARL), now);
        }
        assert!(member.orders.len() <= ORDERS_MAX);
    }

    /// The link between Bela and Carl is played: 10 ms there and back, 10 MB/s.
    #[test]
    fn a_link_is_found_to_be_what_it_is() {
        let found = play(Duration::from_millis(10), 10e6);

        let Found::Way {
            rtt_s,
            goodput_bytes_per_s: Some(goodput),
        } = found
        else {
            panic!("{found:?}");
        };
        assert!((rtt_s.value() - 0.010).abs() < 1e-6);
        assert!((goodput.value() / 10e6 - 1.0).abs() < 0.01, "{goodput:?}");
    }

    #[test]
    fn a_phone_that_does_not_answer_cannot_be_reached() {
        let (mut member, now) = member();
        member.handle(order(FULL), now);
        member.poll();

        let late = member.poll_timeout().expect("it waits");
        member.handle_timeout(late);

        assert_eq!(told(&mut member), Some(Found::Unreachable));
        assert_eq!(member.poll_timeout(), None);
    }

    #[test]
    fn a_burst_that_never_arrives_gives_the_most_that_it_can_have_been() {
        let (mut member, mut now) = member();
        member.handle(order(FULL), now);
        for number in 0..PINGS {
            now += Duration::from_millis(5);
            member.handle(
                from_carl(Message::Pong {
                    probe: PROBE,
                    number,
                }),
                now,
            );
        }
        let late = member.poll_timeout().expect("it waits");

        member.handle_timeout(late);

        let Some(Found::Way {
            goodput_bytes_per_s: Some(goodput),
            ..
        }) = told(&mut member)
        else {
            panic!("the phones can talk");
        };
        assert!(goodput.value() < 262_144.0 / 7.9, "{goodput:?}");
    }

    #[test]
    fn answers_that_do_not_belong_change_nothing() {
        let (mut member, now) = member();
        member.handle(order(FULL), now);
        member.poll();

        let other = ProbeId(9);
        for message in [
            Message::Pong {
                probe: other,
                number: 0,
            },
            Message::Pong {
                probe: PROBE,
                number: 5,
            },
            Message::Arrived {
                probe: PROBE,
                burst: 0,
            },
        ] {
            member.handle(from_carl(message), now);
            assert_eq!(member.poll(), None);
        }
        let from_another = InEvent::Message {
            from: ANNA,
            message: Message::Pong {
                probe: PROBE,
                number: 0,
            },
        };
        member.handle(from_another, now);
        assert_eq!(member.poll(), None);
    }

    #[test]
    fn the_leader_hears_how_the_work_goes_but_not_at_every_step() {
        let (mut member, start) = member();
        let measured = InEvent::Measured {
            profile: Box::new(profile(0.001)),
            snapshot: SNAPSHOT,
        };
        let order = InEvent::Message {
            from: ANNA,
            message: Message::Measure {
                sample: Arc::new(sample()),
                model: MODEL,
            },
        };
        member.handle(order, start);
        member.handle(measured, start);
        while member.poll().is_some() {}

        let mut told = Vec::new();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            let work = Work::Layers {
                stage: StageLayers {
                    model: MODEL,
                    n_layers: 10,
                    n_shards: 0,
                    weights_bytes: 10 * sample().layer_bytes(),
                    chunk_tokens: 128,
                },
                n_tokens: 1,
                n_positions: 64,
                time: Duration::from_millis(30),
            };
            member.handle(InEvent::Computed(work), now);
            member.handle_timeout(now);
            while let Some(event) = member.poll() {
                told.push(event);
            }
        }

        assert!((5..=7).contains(&told.len()), "{}", told.len());
        let Some(OutEvent::Send {
            message: Message::Pace { pace, .. },
            ..
        }) = told.last()
        else {
            panic!("{told:?}");
        };
        // The profile says 10 ms.
        assert!((pace.decode.unwrap().value() - 3.0).abs() < 0.01);
        assert_eq!(pace.prefill, None);
    }

    /// What the work tells is what the forecast is made of: the same time comes out again.
    #[test]
    fn a_pace_corrects_the_forecast_by_just_what_it_was_out() {
        let stage = StageLayers {
            model: MODEL,
            n_layers: 10,
            n_shards: 5,
            weights_bytes: 20,
            chunk_tokens: 128,
        };
        let mut profile = profile(0.001);
        let layers = |n_tokens, n_positions, time| Work::Layers {
            stage,
            n_tokens,
            n_positions,
            time,
        };

        // Twenty bytes where the sample's layers have one each: 20 ms, and the shards' own.
        let decode = layers(1, 64, Duration::from_micros(40_225));
        let (ratio, _) = pace_of(&mut profile, 1, decode).expect("a decode step tells a pace");
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");

        // A tenth of a millisecond for each of 128 tokens and ten layers.
        let chunk = layers(128, 0, Duration::from_micros(64_225));
        let (ratio, _) = pace_of(&mut profile, 1, chunk).expect("a whole chunk tells a pace");
        assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");

        let little = layers(20, 0, Duration::from_millis(50)); // of 128
        assert!(pace_of(&mut profile, 1, little).is_none());
        let token = Work::Token {
            model: MODEL,
            time: Duration::from_micros(4_200),
        };
        let (ratio, _) = pace_of(&mut profile, 1, token).expect("the ends have a pace");
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn how_fast_shards_came_is_told_once_there_is_enough_of_them() {
        let (mut member, now) = member();
        let received = |from, n_bytes| InEvent::Received {
            from,
            n_bytes,
            time: Duration::from_millis(100),
        };

        for _ in 0..7 {
            member.handle(received(CARL, 1 << 20), now);
        }
        member.handle(received(BELA, 1 << 20), now); // another link: from the beginning
        assert_eq!(member.poll(), None);
        for _ in 0..7 {
            member.handle(received(BELA, 1 << 20), now);
        }

        let Some(OutEvent::Send { message, .. }) = member.poll() else {
            panic!("it tells nothing");
        };
        let expected = Message::Received {
            from: BELA,
            n_bytes: 8 << 20,
            time: Duration::from_millis(800),
        };
        assert_eq!(message, expected);
    }

    /// Measures a link with this round trip and goodput, and returns what was found.
    fn play(rtt: Duration, goodput: f64) -> Found {
        let (mut member, mut now) = member();
        member.handle(order(FULL), now);

        loop {
            match member.poll().expect("it goes on until it is done") {
                OutEvent::Send {
                    to: CARL,
                    message: Message::Ping { probe, number },
                } => {
                    now += rtt;
                    member.handle(from_carl(Message::Pong { probe, number }), now);
                }
                OutEvent::SendBurst {
                    frame,
                    n_frames,
                    n_numbers,
                    ..
                } => {
                    let bytes = f64::from(n_frames) * f64::from(n_numbers) * 4.0;
                    now += rtt + Duration::from_secs_f64(bytes / goodput);
                    let BurstFrame { probe, burst, .. } = frame;
                    member.handle(from_carl(Message::Arrived { probe, burst }), now);
                }
                OutEvent::Send {
                    to: ANNA,
                    message:
                        Message::Probed {
                            probe: PROBE,
                            found,
                        },
                } => return found,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Bela, whom Anna leads.
    fn member() -> (Respondent, Instant) {
        let now = Instant::now();
        let mut member = Respondent::new();
        member.handle(InEvent::Leader(ANNA), now);

        (member, now)
    }

    fn order(depth: Depth) -> InEvent {
        InEvent::Message {
            from: ANNA,
            message: Message::Probe {
                probe: PROBE,
                to: CARL,
                depth,
            },
        }
    }

    fn from_carl(message: Message) -> InEvent {
        InEvent::Message {
            from: CARL,
            message,
        }
    }

    fn told(member: &mut Respondent) -> Option<Found> {
        std::iter::from_fn(|| member.poll()).find_map(|event| match event {
            OutEvent::Send {
                to: ANNA,
                message: Message::Probed { found, .. },
            } => Some(found),
            _ => None,
        })
    }

    #[test]
    fn pings_of_anybody_are_answered() {
        let (mut bela, now) = member();
        let ping = Message::Ping {
            probe: PROBE,
            number: 4,
        };

        bela.handle(from_carl(ping), now);
        let last = BurstFrame {
            probe: PROBE,
            burst: 1,
            more: false,
        };
        for frame in [BurstFrame { more: true, ..last }, last] {
            bela.handle(InEvent::Burst { from: CARL, frame }, now);
        }

        let answers = std::iter::from_fn(|| bela.poll()).collect::<Vec<_>>();
        let sent = |message| OutEvent::Send { to: CARL, message };
        let pong = Message::Pong {
            probe: PROBE,
            number: 4,
        };
        let arrived = Message::Arrived {
            probe: PROBE,
            burst: 1,
        };
        assert_eq!(answers, [sent(pong), sent(arrived)]);
    }
}

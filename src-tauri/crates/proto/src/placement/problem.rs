//! What placement is asked: phones, shards, links, the work to plan for, and what counts as good.
//!
//! Every figure is somebody's measurement. One that is absent, not finite or not positive is an
//! error that names it: a default would be a wrong answer that looks like a right one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::PeerId;

/// Phones in a problem, at most.
///
/// A guess: more people than sit round a table.
pub const PHONES_MAX: usize = 32;

/// Shards of a model, at most. Models are cut into about 16, so that a stage has something to give.
pub const SHARDS_MAX: usize = 64;

/// Bytes of anything, at most: 1 PiB, so that sums over [`SHARDS_MAX`] shards stay within `u64`.
const BYTES_MAX: u64 = 1 << 50;

/// KV bytes a token, at most: 1 GiB. With the two limits below a cache stays under 2^57 bytes.
const KV_BYTES_PER_TOKEN_MAX: u64 = 1 << 30;

/// Tokens of context, at most: 2 Mi, above any model's.
const CONTEXT_TOKENS_MAX: u32 = 1 << 21;

/// Sessions at once, at most: 64, llama.cpp's own limit of sequences (`LLAMA_MAX_SEQ`) in 2024.
const SESSIONS_MAX: u32 = 64;

/// Seconds of anything, at most: one hour. A shard or a link that slow is a unit mixed up.
pub(crate) const SECONDS_MAX: f64 = 3600.0;

/// Who could run what, and what for.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Every member of the group, the excluded and the tired too: each gets an answer.
    pub phones: Vec<Phone>,
    /// The phone that holds the ends: tokens begin and end their lap there.
    pub head: PeerId,
    /// Layer shards, in layer order.
    pub shards: Vec<Shard>,
    /// The ends, which stay on the head.
    pub ends: Ends,
    /// Half-open runs of shards that must stay on one phone (shared KV, for instance).
    pub bound: Vec<Range<usize>>,
    /// Links by (from, to). Needed for each ordered pair of phones that may take part.
    pub links: BTreeMap<(PeerId, PeerId), Link>,
    /// The work to plan for.
    pub workload: Workload,
    /// What counts as good.
    pub objective: Objective,
}

/// What a phone can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Phone {
    /// The phone.
    pub id: PeerId,
    /// What its person calls it; used in answers.
    pub name: String,
    /// Whether it may run layers.
    pub availability: Availability,
    /// Memory that the system lets the app use, for weights, KV caches and contexts together.
    pub memory_budget_bytes: u64,
    /// Flash that may be filled with neighbours' shards.
    pub flash_quota_bytes: u64,
    /// Whether its llama.cpp keeps a repacked, anonymous copy of the weights that can be.
    pub repacks: bool,
    /// Seconds for one token through each shard, at the planned context.
    pub decode_s: Vec<f64>,
    /// Seconds for one prefill chunk through each shard.
    pub prefill_s: Vec<f64>,
    /// Seconds for the ends at one token: embedding, norm, logits, sampling.
    pub ends_decode_s: f64,
    /// Seconds for the ends at one prefill chunk: the embedding, and no logits.
    pub ends_prefill_s: f64,
}

/// Whether a phone may run layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It may.
    Ready,
    /// A person said no.
    Excluded,
    /// It had better rest.
    Tired(Tiredness),
}

/// Why a phone had better rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Tiredness {
    /// Its battery is too low.
    LowBattery,
    /// It is too hot.
    Hot,
    /// Its person would have it work only while it is being charged.
    NotCharging,
    /// Its network costs money, and its person minds.
    Metered,
    /// What it can do could not be measured.
    Unmeasured,
    /// It could not do its part of a plan, and has not left since.
    Failed,
}

/// What one layer shard needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Weights in memory; also the size of the file, near enough.
    pub weights_bytes: u64,
    /// Second copy that a phone which repacks makes (Q4_0 weights; 0 for other types).
    pub repack_bytes: u64,
    /// KV cache that each token of each session adds.
    pub kv_bytes_per_token: u64,
    /// What its context costs beside the cache: about 5 MB at `n_ubatch` 128, measured.
    pub context_bytes: u64,
}

/// What the ends need of the head's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// `token_embd`, `output_norm`, `output` and the vocabulary.
    pub weights_bytes: u64,
    /// Second copy that a phone which repacks makes.
    pub repack_bytes: u64,
    /// What its context costs.
    pub context_bytes: u64,
}

/// What the way from one phone to another costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// It was measured.
    Measured {
        /// Round-trip time of a small message. Half of it is the way there.
        rtt_s: f64,
        /// Bytes a second that arrive, on the kind of stream that activations take.
        goodput_bytes_per_s: f64,
    },
    /// It was tried, and the phones cannot talk to each other.
    Unreachable,
}

/// The work to plan for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Tokens that every session's KV cache must have room for.
    pub context_tokens: u32,
    /// Sessions that have a cache at once.
    pub sessions: u32,
    /// Tokens of the prompt that the first-token forecast assumes.
    pub prompt_tokens: u32,
    /// Tokens in a prefill chunk; what `prefill_s` was measured with.
    pub chunk_tokens: u32,
    /// Bytes of one token's activation on the wire: `n_embd` × 4 in f32.
    pub activation_bytes_per_token: u64,
}

/// What counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Objective {
    /// One answer as fast as can be: the least seconds for a token's lap of the ring.
    Latency,
    /// Many answers at once: the least seconds that the busiest phone needs for each token of a
    /// full ring, and of the plans that reach it the one with the shortest lap.
    Throughput,
}

/// Why a problem cannot be solved as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// There are too many of something, or none.
    #[error("{count} {things}, between 1 and {max} are possible")]
    Count {
        /// What is counted.
        things: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two entries stand for one phone.
    #[error("{name}'s phone is listed twice")]
    DuplicatePhone {
        /// Its name in the second entry.
        name: String,
    },
    /// The head is not among the phones.
    #[error("the head, phone {head}, is not in the group")]
    UnknownHead {
        /// The head.
        head: PeerId,
    },
    /// A figure is absent.
    #[error("{figure} is missing")]
    Missing {
        /// Which one.
        figure: String,
    },
    /// A figure is not finite, not positive, or beyond what can be.
    #[error("{figure} is {value}, which cannot be")]
    Impossible {
        /// Which one.
        figure: String,
        /// What it is.
        value: f64,
    },
    /// A bound run is empty, reversed or beyond the last shard.
    #[error("shards {start}..{end} cannot be bound together: there are {n_shards}")]
    BadBound {
        /// First shard bound.
        start: usize,
        /// Shard after the last one bound.
        end: usize,
        /// Shards of the model.
        n_shards: usize,
    },
}

impl Problem {
    /// Checks that every figure the answer will rest on is there and possible.
    ///
    /// A phone that takes no part need not have been measured; the head must know its ends.
    ///
    /// # Errors
    ///
    /// - [`ProblemError::Count`] if there is no phone or shard, or too many
    /// - [`ProblemError::DuplicatePhone`], [`ProblemError::UnknownHead`],
    ///   [`ProblemError::BadBound`]
    /// - [`ProblemError::Missing`] if a phone or pair that may take part has a figure too few
    /// - [`ProblemError::Impossible`] if a figure is not finite, not positive or beyond its limit
    pub fn validate(&self) -> Result<(), ProblemError> {
        self.check_shape()?;
        self.workload.validate()?;
        self.check_bytes()?;

        for phone in self.phones.iter().filter(|phone| phone.is_ready()) {
            phone.check_times(self.shards.len())?;
        }
        self.phones[self.head_index()].check_ends_times()?;

        self.check_links()
    }

    /// Returns the head's place in `phones`.
    ///
    /// # Panics
    ///
    /// If the head is not among the phones: [`Problem::validate`] first.
    pub(super) fn head_index(&self) -> usize {
        self.index_of(self.head)
            .expect("validate() found the head among the phones")
    }

    /// Returns the place of `phone` in `phones`.
    pub(super) fn index_of(&self, phone: PeerId) -> Option<usize> {
        self.phones.iter().position(|known| known.id == phone)
    }

    /// Returns the link between two phones, by their places.
    ///
    /// A pair without one counts as unreachable: [`Problem::validate`] wants one for every pair
    /// that may take part.
    pub(super) fn link(&self, from: usize, to: usize) -> Link {
        let pair = (self.phones[from].id, self.phones[to].id);

        self.links.get(&pair).copied().unwrap_or(Link::Unreachable)
    }

    fn check_shape(&self) -> Result<(), ProblemError> {
        check_count("phones", self.phones.len(), PHONES_MAX)?;
        check_count("shards", self.shards.len(), SHARDS_MAX)?;

        let mut seen = BTreeSet::new();
        if let Some(twin) = self.phones.iter().find(|phone| !seen.insert(phone.id)) {
            let name = twin.name.clone();
            return Err(ProblemError::DuplicatePhone { name });
        }
        if self.index_of(self.head).is_none() {
            return Err(ProblemError::UnknownHead { head: self.head });
        }

        let n_shards = self.shards.len();
        match self
            .bound
            .iter()
            .find(|run| run.is_empty() || run.end > n_shards)
        {
            None => Ok(()),
            Some(&Range { start, end }) => Err(ProblemError::BadBound {
                start,
                end,
                n_shards,
            }),
        }
    }

    fn check_bytes(&self) -> Result<(), ProblemError> {
        for phone in &self.phones {
            let name = &phone.name;
            check_bytes(
                || format!("{name}'s memory budget"),
                phone.memory_budget_bytes,
            )?;
            check_bytes(|| format!("{name}'s flash quota"), phone.flash_quota_bytes)?;
        }
        for (j, shard) in self.shards.iter().enumerate() {
            check_bytes(|| format!("bytes of shard {j}"), shard.weights_bytes)?;
            check_bytes(
                || format!("repacked bytes of shard {j}"),
                shard.repack_bytes,
            )?;
            check_bytes(
                || format!("context bytes of shard {j}"),
                shard.context_bytes,
            )?;
            check_whole(
                || format!("KV bytes a token of shard {j}"),
                shard.kv_bytes_per_token,
                0..=KV_BYTES_PER_TOKEN_MAX,
            )?;
        }

        check_bytes(|| "bytes of the ends".into(), self.ends.weights_bytes)?;
        check_bytes(
            || "repacked bytes of the ends".into(),
            self.ends.repack_bytes,
        )?;
        check_bytes(
            || "context bytes of the ends".into(),
            self.ends.context_bytes,
        )
    }

    fn check_links(&self) -> Result<(), ProblemError> {
        let takes_part = |phone: &&Phone| phone.is_ready() || phone.id == self.head;

        for from in self.phones.iter().filter(takes_part) {
            for to in self.phones.iter().filter(takes_part) {
                if from.id != to.id {
                    self.check_link(from, to)?;
                }
            }
        }

        Ok(())
    }

    fn check_link(&self, from: &Phone, to: &Phone) -> Result<(), ProblemError> {
        let figure = |what| format!("{what} from {}'s phone to {}'s", from.name, to.name);

        match self.links.get(&(from.id, to.id)) {
            None => {
                let figure = figure("the link");
                Err(ProblemError::Missing { figure })
            }
            Some(Link::Unreachable) => Ok(()),
            Some(&Link::Measured {
                rtt_s,
                goodput_bytes_per_s,
            }) => {
                check_seconds(|| figure("the round-trip time"), rtt_s)?;
                check_positive(|| figure("the goodput"), goodput_bytes_per_s)
            }
        }
    }
}

impl Phone {
    /// Returns whether the phone may run layers.
    pub fn is_ready(&self) -> bool {
        self.availability == Availability::Ready
    }

    fn check_times(&self, n_shards: usize) -> Result<(), ProblemError> {
        for (phase, times) in [("decode", &self.decode_s), ("prefill", &self.prefill_s)] {
            let figure = |j| format!("{}'s {phase} time of shard {j}", self.name);

            if times.len() < n_shards {
                let figure = figure(times.len());
                return Err(ProblemError::Missing { figure });
            }
            for (j, &seconds) in times.iter().enumerate() {
                check_seconds(|| figure(j), seconds)?;
            }
        }

        Ok(())
    }

    fn check_ends_times(&self) -> Result<(), ProblemError> {
        let figure = |phase| format!("{}'s {phase} time of the ends", self.name);

        check_seconds(|| figure("decode"), self.ends_decode_s)?;
        check_seconds(|| figure("prefill"), self.ends_prefill_s)
    }
}

impl Workload {
    fn validate(&self) -> Result<(), ProblemError> {
        let tokens = 1..=u64::from(CONTEXT_TOKENS_MAX);
        let context = u64::from(self.context_tokens);
        let prompt = u64::from(self.prompt_tokens);
        let chunk = u64::from(self.chunk_tokens);
        let sessions = u64::from(self.sessions);

        check_whole(|| "the planned context".into(), context, tokens.clone())?;
        check_whole(|| "the planned prompt".into(), prompt, tokens.clone())?;
        check_whole(|| "the prefill chunk".into(), chunk, tokens)?;
        check_whole(
            || "the number of sessions".into(),
            sessions,
            1..=u64::from(SESSIONS_MAX),
        )?;
        check_whole(
            || "bytes of an activation".into(),
            self.activation_bytes_per_token,
            1..=BYTES_MAX,
        )
    }
}

fn check_count(things: &'static str, count: usize, max: usize) -> Result<(), ProblemError> {
    if (1..=max).contains(&count) {
        Ok(())
    } else {
        Err(ProblemError::Count { things, count, max })
    }
}

fn check_seconds(figure: impl Fn() -> String, value: f64) -> Result<(), ProblemError> {
    check(figure, value, value <= SECONDS_MAX && value > 0.0)
}

fn check_positive(figure: impl Fn() -> String, value: f64) -> Result<(), ProblemError> {
    check(figure, value, value.is_finite() && value > 0.0)
}

fn check_bytes(figure: impl Fn() -> String, value: u64) -> Result<(), ProblemError> {
    check_whole(figure, value, 0..=BYTES_MAX)
}

fn check_whole(
    figure: impl Fn() -> String,
    value: u64,
    possible: std::ops::RangeInclusive<u64>,
) -> Result<(), ProblemError> {
    check(figure, value as f64, possible.contains(&value))
}

fn check(figure: impl Fn() -> String, value: f64, possible: bool) -> Result<(), ProblemError> {
    if possible {
        Ok(())
    } else {
        let figure = figure();
        Err(ProblemError::Impossible { figure, value })
    }
}

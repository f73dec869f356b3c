//! Which phone runs which consecutive shards, in which order.
//!
//! A [`Plan`] is never changed, only succeeded by one of a higher [`Epoch`]. It comes from the leader
//! over the network, so [`Plan::validate`] is asked before anything is done with it.
//!
//! ```text
//!  head: ends ──► stage 0 ──► stage 1 ──► … ──► stage S-1 ──┐
//!   ▲                                                       │
//!   └───────────────────────────────────────────────────────┘
//! ```
//!
//! The head may be the phone of one of the stages; that hop then costs nothing.

use std::ops::Range;

use gguf_tools::{LayerRange, Manifest, ModelHash, ShardEntry};
use serde::{Deserialize, Serialize};

use crate::wire::{self, N_EMBD_MAX};
use crate::{Epoch, PeerId};

/// Stages that a plan may have: the phones that a group may have.
///
/// The design is for two to six phones; twice that leaves room, and bounds what a hostile leader can ask.
pub const STAGES_MAX: usize = 12;

/// Positions that a plan may give one sequence.
///
/// The longest context of the supported architectures' released models (Llama 3.2: 131,072).
pub const N_CTX_MAX: u32 = 131_072;

/// Sequences that a plan may ask every stage to keep caches for: a guess at what a group of
/// [`STAGES_MAX`] phones can want at once.
pub const SEQUENCES_MAX: u32 = 16;

/// Tokens in one step: a prefill chunk.
///
/// 64 to 128 keep the matrix kernels efficient and let chunks follow each other round the ring
/// (measured: `DESIGN`, 5); 512 is llama.cpp's own default and the most a step may hold.
pub const CHUNK_TOKENS_MAX: u32 = 512;

/// Spares that a plan may name: both neighbours' halves of 64 shards for each phone.
pub const SPARES_MAX: usize = STAGES_MAX * 64;

/// One phone's consecutive shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Phone that runs them.
    pub phone: PeerId,
    /// Shards as indices into [`Manifest::layers`], half-open, never empty.
    pub shards: Range<u32>,
    /// Layers that these shards hold.
    pub layers: LayerRange,
}

/// A shard that a phone keeps and does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// The phone.
    pub phone: PeerId,
    /// The shard, as an index into [`Manifest::layers`].
    pub shard: u32,
}

/// Type of an activation's numbers on the wire.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivationType {
    /// As llama.cpp computes it: text is bit-identical to one phone's.
    #[default]
    F32,
    /// Half the bytes; the text may differ.
    F16,
}

/// How a model is run by a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Number of the plan.
    pub epoch: Epoch,
    /// Model that is run.
    pub model: ModelHash,
    /// Phone that holds the ends.
    pub head: PeerId,
    /// Stages in ring order.
    #[serde(deserialize_with = "wire::at_most::<_, _, STAGES_MAX>")]
    pub stages: Vec<Stage>,
    /// Numbers in a hidden state.
    pub n_embd: u32,
    /// Shards to be kept beside those that are run, so that a boundary can move without the network.
    #[serde(deserialize_with = "wire::at_most::<_, _, SPARES_MAX>")]
    pub spares: Vec<Spare>,
    /// Positions that each sequence's cache can hold.
    pub n_ctx: u32,
    /// Sequences that each stage keeps a cache for.
    pub n_sequences: u32,
    /// Tokens in a prefill chunk, the most that a step holds.
    pub chunk_tokens: u32,
    /// Numbers on the wire.
    pub activation: ActivationType,
    /// Whether step headers travel with the activation instead of going to every stage directly.
    ///
    /// Slower; kept so that the difference can be measured.
    pub relay_headers: bool,
}

/// Why a plan cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is nobody to compute.
    #[error("the plan has no stage")]
    NoStages,
    /// More stages than a group has phones.
    #[error("the plan has {n_stages} stages, at most {STAGES_MAX} are possible")]
    TooManyStages {
        /// Stages in the plan.
        n_stages: usize,
    },
    /// More phones than shards to give them.
    #[error("{n_phones} phones cannot share {n_shards} shards: ask for fewer phones")]
    MorePhonesThanShards {
        /// Phones that were to get shards.
        n_phones: usize,
        /// Layer shards of the model.
        n_shards: usize,
    },
    /// A phone stands in the plan twice.
    #[error("phone {phone} stands in the plan twice")]
    PhoneTwice {
        /// That phone.
        phone: PeerId,
    },
    /// The stages do not cover every shard once, in order.
    #[error("stage {stage} holds shards {found:?}, expected a run that starts at {expected}")]
    NotContiguous {
        /// Position of the stage.
        stage: usize,
        /// Its shards.
        found: Range<u32>,
        /// Where it should start, and what it must not exceed.
        expected: u32,
    },
    /// A stage's layers are not those of its shards.
    #[error("stage {stage} says layers {found}, its shards hold {expected}")]
    WrongLayers {
        /// Position of the stage.
        stage: usize,
        /// Layers in the plan.
        found: LayerRange,
        /// Layers in the manifest.
        expected: LayerRange,
    },
    /// The plan is for another model.
    #[error("the plan is for model {found}, the manifest describes {expected}")]
    WrongModel {
        /// Model in the plan.
        found: ModelHash,
        /// Model in the manifest.
        expected: ModelHash,
    },
    /// The plan's hidden state has another width than the model's.
    #[error("the plan says n_embd {found}, the model has {expected}")]
    WrongWidth {
        /// Width in the plan.
        found: u32,
        /// Width in the manifest.
        expected: u32,
    },
    /// A shard is to be kept by a phone without a part, or is none, or there are too many.
    #[error("the plan has a shard kept that is none, or by a phone that has no part")]
    BadSpare,
    /// A size is zero or beyond its cap.
    #[error("the plan's {what} is {found}, must be between 1 and {max}")]
    OutOfRange {
        /// Name of the size.
        what: &'static str,
        /// Its value.
        found: u32,
        /// The most it may be.
        max: u32,
    },
}

/// What a plan is run with, beside the phones and shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Positions that each sequence's cache can hold.
    pub n_ctx: u32,
    /// Sequences that each stage keeps a cache for.
    pub n_sequences: u32,
    /// Tokens in a prefill chunk.
    pub chunk_tokens: u32,
    /// Numbers on the wire.
    pub activation: ActivationType,
    /// See [`Plan::relay_headers`].
    pub relay_headers: bool,
}

impl Plan {
    /// Gives every phone the same number of shards, give or take one; the first phone is the head.
    ///
    /// # Errors
    ///
    /// - [`PlanError::NoStages`] if there are no phones
    /// - [`PlanError::TooManyStages`] if there are more than [`STAGES_MAX`]
    /// - [`PlanError::MorePhonesThanShards`] if a phone would get nothing
    /// - [`PlanError::PhoneTwice`] if two phones are the same
    /// - [`PlanError::OutOfRange`] if one of `sizes` is zero or beyond its cap
    pub fn even(
        epoch: Epoch,
        manifest: &Manifest,
        phones: &[PeerId],
        sizes: Sizes,
    ) -> Result<Self, PlanError> {
        let Some(&head) = phones.first() else {
            return Err(PlanError::NoStages);
        };
        if phones.len() > STAGES_MAX {
            return Err(PlanError::TooManyStages {
                n_stages: phones.len(),
            });
        }
        let n_shards = manifest.layers.len();
        if phones.len() > n_shards {
            return Err(PlanError::MorePhonesThanShards {
                n_phones: phones.len(),
                n_shards,
            });
        }

        let runs = phones
            .iter()
            .copied()
            .zip(even_runs(n_shards, phones.len()));
        Self::of_runs(epoch, manifest, head, runs, sizes)
    }

    /// Gives each phone the shards of its run, in ring order.
    ///
    /// # Errors
    ///
    /// As [`Self::validate`].
    pub fn of_runs(
        epoch: Epoch,
        manifest: &Manifest,
        head: PeerId,
        runs: impl IntoIterator<Item = (PeerId, Range<u32>)>,
        sizes: Sizes,
    ) -> Result<Self, PlanError> {
        let stages = runs
            .into_iter()
            .enumerate()
            .map(|(stage, (phone, shards))| {
                let layers = layers_of(manifest, &shards);
                Ok(Stage {
                    phone,
                    layers: layers.ok_or(PlanError::NotContiguous {
                        stage,
                        found: shards.clone(),
                        expected: shards.start,
                    })?,
                    shards,
                })
            });

        let plan = Self {
            epoch,
            model: manifest.hash(),
            head,
            stages: stages.collect::<Result<_, _>>()?,
            spares: Vec::new(),
            n_embd: manifest.n_embd,
            n_ctx: sizes.n_ctx,
            n_sequences: sizes.n_sequences,
            chunk_tokens: sizes.chunk_tokens,
            activation: sizes.activation,
            relay_headers: sizes.relay_headers,
        };
        plan.validate(manifest)?;

        Ok(plan)
    }

    /// Checks that the plan covers every layer of `manifest` once, in order, with sane sizes.
    ///
    /// # Errors
    ///
    /// The first [`PlanError`] that applies.
    pub fn validate(&self, manifest: &Manifest) -> Result<(), PlanError> {
        if self.model != manifest.hash() {
            return Err(PlanError::WrongModel {
                found: self.model,
                expected: manifest.hash(),
            });
        }
        if self.n_embd != manifest.n_embd {
            return Err(PlanError::WrongWidth {
                found: self.n_embd,
                expected: manifest.n_embd,
            });
        }
        self.validate_sizes()?;
        self.validate_phones()?;
        self.validate_spares(manifest)?;

        let mut start = 0;
        for (stage, run) in self.stages.iter().enumerate() {
            let not_contiguous = || PlanError::NotContiguous {
                stage,
                found: run.shards.clone(),
                expected: start,
            };
            if run.shards.start != start {
                return Err(not_contiguous());
            }
            let expected = layers_of(manifest, &run.shards).ok_or_else(not_contiguous)?;
            if expected != run.layers {
                return Err(PlanError::WrongLayers {
                    stage,
                    found: run.layers,
                    expected,
                });
            }
            start = run.shards.end;
        }

        if start as usize == manifest.layers.len() {
            Ok(())
        } else {
            Err(PlanError::NotContiguous {
                stage: self.stages.len(),
                found: start..start,
                expected: start,
            })
        }
    }

    /// Returns the stage that `phone` runs, with its position in the ring.
    pub fn stage_of(&self, phone: PeerId) -> Option<(usize, &Stage)> {
        self.stages
            .iter()
            .enumerate()
            .find(|(_, stage)| stage.phone == phone)
    }

    /// Returns whether `phone` computes anything: a stage or the ends.
    pub fn needs(&self, phone: PeerId) -> bool {
        self.head == phone || self.stage_of(phone).is_some()
    }

    /// Returns whether activations go from one of two phones to the other.
    pub fn are_neighbours(&self, one: PeerId, other: PeerId) -> bool {
        let stages = self.stages.iter().map(|stage| stage.phone);
        let from = std::iter::once(self.head).chain(stages.clone());
        let to = stages.chain([self.head]);

        from.zip(to)
            .any(|hop| hop == (one, other) || hop == (other, one))
    }

    /// Returns every phone that computes, the head first, each once.
    pub fn phones(&self) -> impl Iterator<Item = PeerId> + '_ {
        let others = self.stages.iter().map(|stage| stage.phone);

        std::iter::once(self.head).chain(others.filter(|&phone| phone != self.head))
    }

    /// Returns whether another plan, of a later epoch, would have every phone do what it does already.
    pub fn does_the_same_as(&self, other: &Self) -> bool {
        let other = Self {
            epoch: self.epoch,
            ..other.clone()
        };

        *self == other
    }

    /// Returns the shards that `phone` runs: the ends if it is the head, then its stage's. Of a plan that was
    /// validated against `manifest`.
    pub fn shards_of<'a>(
        &self,
        phone: PeerId,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = &'a ShardEntry> + use<'a> {
        let ends = (self.head == phone).then_some(&manifest.ends);
        let stage = self
            .stage_of(phone)
            .map(|(_, stage)| entries(manifest, &stage.shards));

        ends.into_iter().chain(stage.into_iter().flatten())
    }

    /// Returns the shards that `phone` shall keep beside those it runs, the most valuable first. Of a plan that was
    /// validated against `manifest`.
    pub fn spares_of<'a>(
        &'a self,
        phone: PeerId,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = &'a ShardEntry> {
        let spares = self.spares.iter().filter(move |spare| spare.phone == phone);

        spares.filter_map(|spare| manifest.layers.get(spare.shard as usize))
    }

    /// Returns the hops of one step that cross the network.
    pub fn n_hops(&self) -> usize {
        let ring = std::iter::once(self.head).chain(self.stages.iter().map(|stage| stage.phone));
        let next = ring.clone().skip(1).chain(std::iter::once(self.head));

        ring.zip(next).filter(|(from, to)| from != to).count()
    }

    fn validate_sizes(&self) -> Result<(), PlanError> {
        let sizes = [
            ("n_ctx", self.n_ctx, N_CTX_MAX),
            ("n_sequences", self.n_sequences, SEQUENCES_MAX),
            ("chunk_tokens", self.chunk_tokens, CHUNK_TOKENS_MAX),
            ("n_embd", self.n_embd, N_EMBD_MAX),
        ];

        for (what, found, max) in sizes {
            if !(1..=max).contains(&found) {
                return Err(PlanError::OutOfRange { what, found, max });
            }
        }

        Ok(())
    }

    fn validate_phones(&self) -> Result<(), PlanError> {
        if self.stages.is_empty() {
            return Err(PlanError::NoStages);
        }
        if self.stages.len() > STAGES_MAX {
            return Err(PlanError::TooManyStages {
                n_stages: self.stages.len(),
            });
        }

        for (i, stage) in self.stages.iter().enumerate() {
            if self.stages[..i].iter().any(|s| s.phone == stage.phone) {
                return Err(PlanError::PhoneTwice { phone: stage.phone });
            }
        }

        Ok(())
    }

    fn validate_spares(&self, manifest: &Manifest) -> Result<(), PlanError> {
        let is_sound = |spare: &Spare| {
            self.needs(spare.phone) && (spare.shard as usize) < manifest.layers.len()
        };

        if self.spares.len() <= SPARES_MAX && self.spares.iter().all(is_sound) {
            Ok(())
        } else {
            Err(PlanError::BadSpare)
        }
    }
}

/// Returns a run's shards; none if it leaves the manifest.
fn entries<'a>(manifest: &'a Manifest, shards: &Range<u32>) -> &'a [ShardEntry] {
    let run = shards.start as usize..shards.end as usize;

    manifest.layers.get(run).unwrap_or_default()
}

/// Cuts `0..n_shards` into `n_phones` runs whose lengths differ by one at the most.
fn even_runs(n_shards: usize, n_phones: usize) -> impl Iterator<Item = Range<u32>> {
    let bound = move |i: usize| {
        u32::try_from(i * n_shards / n_phones).expect("a manifest has fewer than 2^32 shards")
    };

    (0..n_phones).map(move |i| bound(i)..bound(i + 1))
}

/// Returns the layers of a run of shards; `None` if it is empty or leaves the manifest.
fn layers_of(manifest: &Manifest, shards: &Range<u32>) -> Option<LayerRange> {
    let run = manifest
        .layers
        .get(shards.start as usize..shards.end as usize)?;
    let (first, last) = (run.first()?.layers()?, run.last()?.layers()?);

    LayerRange::new(first.start(), last.end()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, ANNA, BELA, CARL, SIZES};

    #[test]
    fn the_first_phone_is_the_head_and_the_ring_closes_at_it() {
        let plan = testing::plan(&[ANNA, BELA, CARL]);

        assert_eq!(plan.head, ANNA);
        assert_eq!(plan.phones().collect::<Vec<_>>(), [ANNA, BELA, CARL]);
        assert_eq!(plan.n_hops(), 3);
    }

    #[test]
    fn hops_within_a_phone_cross_no_network() {
        let mut plan = testing::plan(&[ANNA, BELA, CARL]);
        for (head, n_hops) in [(ANNA, 3), (BELA, 4), (CARL, 3), (PeerId([0xdd; 32]), 4)] {
            plan.head = head;
            assert_eq!(plan.n_hops(), n_hops, "head {head}");
        }

        assert_eq!(testing::plan(&[ANNA]).n_hops(), 0);
    }

    /// Each row breaks a good plan in one way, and is told what is wrong.
    #[test]
    fn what_cannot_be_followed_is_refused() {
        use PlanError::*;
        type Break = fn(&mut Plan);
        type IsRight = fn(&PlanError) -> bool;
        let rows: [(Break, IsRight); 18] = [
            (|p| p.model.0[0] ^= 1, |e| matches!(e, WrongModel { .. })),
            (|p| p.n_embd += 1, |e| matches!(e, WrongWidth { .. })),
            (|p| p.n_ctx = 0, |e| is_size(e, "n_ctx")),
            (|p| p.n_ctx = N_CTX_MAX + 1, |e| is_size(e, "n_ctx")),
            (|p| p.n_sequences = 0, |e| is_size(e, "n_sequences")),
            (|p| p.n_sequences = u32::MAX, |e| is_size(e, "n_sequences")),
            (|p| p.chunk_tokens = 0, |e| is_size(e, "chunk_tokens")),
            (
                |p| p.chunk_tokens = CHUNK_TOKENS_MAX + 1,
                |e| is_size(e, "chunk_tokens"),
            ),
            (|p| p.stages.clear(), |e| *e == NoStages),
            (
                |p| p.stages = vec![p.stages[0].clone(); STAGES_MAX + 1],
                |e| matches!(e, TooManyStages { .. }),
            ),
            (
                |p| p.stages[2].phone = ANNA,
                |e| *e == PhoneTwice { phone: ANNA },
            ),
            (|p| p.stages.swap(0, 1), |e| is_gap(e, 0)),
            (|p| p.stages[1].shards = 1..1, |e| is_gap(e, 1)),
            (|p| p.stages[1].shards = 1..u32::MAX, |e| is_gap(e, 1)),
            (|p| p.stages[2].shards = 0..3, |e| is_gap(e, 2)),
            (
                |p| p.stages = [&p.stages[..1], &p.stages[2..]].concat(),
                |e| is_gap(e, 1),
            ),
            (|p| p.stages.truncate(2), |e| is_gap(e, 2)),
            (
                |p| p.stages[0].layers = p.stages[1].layers,
                |e| matches!(e, WrongLayers { stage: 0, .. }),
            ),
        ];
        let manifest = testing::manifest(&[2, 2, 2]);
        assert_eq!(
            testing::plan(&[ANNA, BELA, CARL]).validate(&manifest),
            Ok(())
        );

        for (i, (break_it, is_right)) in rows.into_iter().enumerate() {
            let mut plan = testing::plan(&[ANNA, BELA, CARL]);
            break_it(&mut plan);
            let error = plan.validate(&manifest).expect_err("it is broken");
            assert!(is_right(&error), "row {i}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        let even = |shards: &[u32], phones: &[PeerId], sizes| {
            Plan::even(Epoch(1), &testing::manifest(shards), phones, sizes).map(drop)
        };
        let phones = [ANNA, BELA];
        let more = (0..=STAGES_MAX)
            .map(|i| PeerId([i as u8; 32]))
            .collect::<Vec<_>>();

        assert_eq!(even(&[1], &[], SIZES), Err(PlanError::NoStages));
        assert_eq!(
            even(&[2], &phones, SIZES),
            Err(PlanError::MorePhonesThanShards {
                n_phones: 2,
                n_shards: 1
            })
        );
        assert!(matches!(
            even(&[1; 99], &more, SIZES),
            Err(PlanError::TooManyStages { .. })
        ));
        assert_eq!(
            even(&[1, 1], &[ANNA, ANNA], SIZES),
            Err(PlanError::PhoneTwice { phone: ANNA })
        );
        let no_room = Sizes { n_ctx: 0, ..SIZES };
        assert!(matches!(
            even(&[1, 1], &phones, no_room),
            Err(PlanError::OutOfRange { what: "n_ctx", .. })
        ));
    }

    proptest! {
        #[test]
        fn an_even_plan_covers_every_layer_once_in_order_and_is_even(
            shards in proptest::collection::vec(1u32..5, 1..40),
            n_phones in 1usize..=STAGES_MAX,
        ) {
            let manifest = testing::manifest(&shards);
            let phones = (0..n_phones).map(|i| PeerId([i as u8; 32])).collect::<Vec<_>>();
            let plan = Plan::even(Epoch(1), &manifest, &phones, SIZES);
            prop_assert_eq!(plan.is_ok(), n_phones <= shards.len());
            let Ok(plan) = plan else { return Ok(()) };

            let covered = plan.stages.iter().flat_map(|s| s.layers.start()..s.layers.end());
            prop_assert!(covered.eq(0..shards.iter().sum()));
            let lens = plan.stages.iter().map(|s| s.shards.len());
            prop_assert!(lens.clone().max() <= lens.min().map(|shortest| shortest + 1));
        }
    }

    fn is_size(error: &PlanError, name: &str) -> bool {
        matches!(error, PlanError::OutOfRange { what, .. } if *what == name)
    }

    fn is_gap(error: &PlanError, at: usize) -> bool {
        matches!(error, PlanError::NotContiguous { stage, .. } if *stage == at)
    }
}

//! From what was measured to what placement is asked.
//!
//! Units change here, and only here: figures are per layer and token of the sample; placement wants
//! seconds per shard and bytes per shard.
//!
//! ```text
//! decode_s[j]  = layers of j · decode_s(context) · bytes per layer of j ÷ bytes per sampled layer
//!                + SHARD_S
//! prefill_s[j] = layers of j · prefill_s(context) · tokens in a chunk + SHARD_S
//! ```
//!
//! A decode step reads every weight once, so a layer whose weights take more bytes takes longer in
//! proportion; a prefill chunk computes as much whatever the weights are packed in.
//!
//! What was not measured is not made up: a phone without a profile, or of which a link to the
//! others is missing, takes no part, and placement says why.

use std::collections::BTreeMap;

use gguf_tools::{Dependency, LayerRange, Manifest, ShardEntry};

use super::phone::{Profile, Share};
use super::survey::LinkKnowledge;
use crate::PeerId;
use crate::device::{Relief, Snapshot};
use crate::placement::{
    Availability, Demand, Ends, Link, Objective, Phone, Problem, SECONDS_MAX, Shard, Tiredness,
    Workload,
};
use crate::plan::Sizes;

/// What one more shard adds to a step: 45 µs, measured with SmolLM2-135M as 30 one-layer shards on
/// a desktop core. A phone's may be twice that; a shard of any model that needs a group takes
/// milliseconds.
pub(super) const SHARD_S: f64 = 45e-6;

/// llama.cpp rounds the positions of a cache up to a multiple of this.
const CONTEXT_STEP: u32 = 256;

/// What a group is, as far as placement cares.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// The model.
    pub manifest: &'a Manifest,
    /// Bytes of a sampled layer ([`Sample::layer_bytes`](gguf_tools::Sample::layer_bytes)).
    pub sample_layer_bytes: u64,
    /// The phone that would hold the ends.
    pub head: PeerId,
    /// Every member, the head among them.
    pub phones: Vec<Candidate<'a>>,
    /// What is known of the ways between them.
    pub links: &'a BTreeMap<(PeerId, PeerId), LinkKnowledge>,
    /// What the plan is to be run with.
    pub sizes: Sizes,
    /// Tokens of a typical prompt: the context at which steps are taken to run.
    pub prompt_tokens: u32,
    /// What llama.cpp takes beside weights and caches.
    pub costs: Costs,
    /// What counts as good.
    pub objective: Objective,
}

/// A member of the group.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The phone.
    pub id: PeerId,
    /// What its person calls it.
    pub name: &'a str,
    /// Whether a person left it out.
    pub is_excluded: bool,
    /// Whether it could not do its part of a plan.
    pub is_unfit: bool,
    /// Whether others could compute in its place while it is tired.
    pub may_rest: bool,
    /// What it can do; `None` if that could not be measured.
    pub profile: Option<&'a Profile>,
    /// How it is; `None` if it has not said so.
    pub snapshot: Option<&'a Snapshot>,
    /// Flash that may be filled with neighbours' shards.
    pub flash_quota_bytes: u64,
}

/// What llama.cpp takes beside weights and caches: the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Bytes of a context.
    pub context_bytes: u64,
    /// Bytes that a phone needs while it computes a chunk, and gives back after it.
    pub scratch_bytes: u64,
}

/// How large a shard is, known before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize {
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes that one token takes in its KV cache.
    pub kv_bytes_per_token: u64,
}

/// A model of which only the sizes are known: from its header, or from a list of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSize {
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Bytes of the ends.
    pub ends_bytes: u64,
    /// The layer shards, in order.
    pub shards: Vec<ShardSize>,
}

impl ModelSize {
    /// Returns what the model takes of memory when it is run so; repacked copies, of which nothing
    /// is known before phones were measured, are not counted.
    pub fn demand(&self, sizes: &Sizes, prompt_tokens: u32, costs: Costs) -> Demand {
        let shards = self.shards.iter();

        Demand {
            shards: shards.map(|&size| shard_of(size, 0, costs)).collect(),
            ends: ends_of(self.ends_bytes, 0, costs),
            workload: workload(self.n_embd, sizes, prompt_tokens),
            scratch_bytes: costs.scratch_bytes,
        }
    }
}

/// Makes a problem for placement of what is known of a group.
///
/// The problem is as good as its figures: [`Problem::validate`] names one that is missing.
pub fn problem(group: &Group<'_>) -> Problem {
    let repacked = |share: fn(&Profile) -> Share| {
        let profiles = group.phones.iter().filter_map(|phone| phone.profile);
        // One number for all phones: that of those which keep most.
        let shares = profiles.map(share);
        shares.fold(
            Share::default(),
            |most, share| {
                if share > most { share } else { most }
            },
        )
    };
    let layers_repacked = repacked(|profile| profile.layers_repacked);
    let ends_repacked = repacked(|profile| profile.ends_repacked);
    let ends = &group.manifest.ends;

    let problem = Problem {
        phones: group
            .phones
            .iter()
            .map(|phone| group.phone(phone))
            .collect(),
        head: group.head,
        shards: group
            .manifest
            .layers
            .iter()
            .map(|entry| group.shard(entry, layers_repacked))
            .collect(),
        ends: ends_of(ends.bytes, ends_repacked.of(ends.bytes), group.costs),
        bound: bound(group.manifest),
        links: group
            .links
            .iter()
            .map(|(&pair, link)| (pair, link_of(link)))
            .collect(),
        workload: workload(group.manifest.n_embd, &group.sizes, group.prompt_tokens),
        objective: group.objective,
    };
    relieved(problem, group)
}

/// Gives phones that ask for no more than some of the layer shards as much less memory.
fn relieved(mut problem: Problem, group: &Group<'_>) -> Problem {
    for (i, phone) in group.phones.iter().enumerate() {
        if let Some(Relief::AtMost { shards_bytes, .. }) = phone.wishes().map(|s| s.relief) {
            let budget_bytes = problem.memory_for(i, shards_bytes);
            let phone = &mut problem.phones[i];
            phone.memory_budget_bytes = phone.memory_budget_bytes.min(budget_bytes);
        }
    }

    problem
}

impl Candidate<'_> {
    /// Returns how it is, where it counts that it had better rest.
    fn wishes(&self) -> Option<&Snapshot> {
        self.snapshot.filter(|_| self.may_rest)
    }
}

impl Group<'_> {
    fn phone(&self, phone: &Candidate<'_>) -> Phone {
        let budget_bytes = phone.snapshot.map_or(0, |snapshot| snapshot.budget_bytes);
        let times = |seconds: &dyn Fn(&Profile, &ShardEntry) -> f64| {
            let entries = self.manifest.layers.iter();
            phone.profile.map_or(Vec::new(), |profile| {
                entries.map(|entry| seconds(profile, entry)).collect()
            })
        };
        let chunk_tokens = f64::from(self.sizes.chunk_tokens);
        let embed_s = phone.profile.map_or(0.0, |profile| profile.embed_s.value());

        let decode_s = times(&|profile, entry| self.decode_s(profile, entry));
        let prefill_s = times(&|profile, entry| self.prefill_s(profile, entry));
        // One whose figures cannot be gets no work; they must not keep all others from a plan.
        let is_believed = |seconds: &f64| *seconds > 0.0 && *seconds <= SECONDS_MAX;
        let availability = match availability(phone) {
            Availability::Ready if !decode_s.iter().chain(&prefill_s).all(is_believed) => {
                Availability::Tired(Tiredness::Unmeasured)
            }
            availability @ (Availability::Ready
            | Availability::Excluded
            | Availability::Tired(_)) => availability,
        };

        Phone {
            id: phone.id,
            name: phone.name.to_owned(),
            availability,
            memory_budget_bytes: budget_bytes.saturating_sub(self.costs.scratch_bytes),
            flash_quota_bytes: phone.flash_quota_bytes,
            repacks: phone.profile.is_some_and(|profile| {
                profile.layers_repacked > Share::default()
                    || profile.ends_repacked > Share::default()
            }),
            decode_s,
            prefill_s,
            ends_decode_s: phone.profile.map_or(0.0, Profile::ends_decode_s),
            ends_prefill_s: embed_s * chunk_tokens,
        }
    }

    fn decode_s(&self, profile: &Profile, entry: &ShardEntry) -> f64 {
        let n_layers = n_layers(entry);
        let layer_bytes = entry.bytes as f64 / n_layers;
        let heavier = layer_bytes / self.sample_layer_bytes.max(1) as f64;

        n_layers * profile.decode_s_at(self.prompt_tokens) * heavier + SHARD_S
    }

    fn prefill_s(&self, profile: &Profile, entry: &ShardEntry) -> f64 {
        // A prompt's chunks see from none to all of it: half on average.
        let token_s = profile.prefill_s_at(self.prompt_tokens / 2);

        n_layers(entry) * token_s * f64::from(self.sizes.chunk_tokens) + SHARD_S
    }

    fn shard(&self, entry: &ShardEntry, repacked: Share) -> Shard {
        let size = ShardSize {
            bytes: entry.bytes,
            kv_bytes_per_token: entry.kv_bytes_per_token,
        };

        shard_of(size, repacked.of(entry.bytes), self.costs)
    }
}

fn shard_of(size: ShardSize, repack_bytes: u64, costs: Costs) -> Shard {
    Shard {
        weights_bytes: size.bytes,
        repack_bytes,
        kv_bytes_per_token: size.kv_bytes_per_token,
        context_bytes: costs.context_bytes,
    }
}

fn ends_of(bytes: u64, repack_bytes: u64, costs: Costs) -> Ends {
    Ends {
        weights_bytes: bytes,
        repack_bytes,
        // One context embeds, another scores.
        context_bytes: 2 * costs.context_bytes,
    }
}

fn workload(n_embd: u32, sizes: &Sizes, prompt_tokens: u32) -> Workload {
    let number_bytes = sizes.activation.bytes() as u64;

    Workload {
        context_tokens: sizes.n_ctx.next_multiple_of(CONTEXT_STEP),
        sessions: sizes.n_sequences,
        prompt_tokens,
        chunk_tokens: sizes.chunk_tokens,
        activation_bytes_per_token: u64::from(n_embd) * number_bytes,
    }
}

fn availability(phone: &Candidate<'_>) -> Availability {
    let asks_for_less = phone.wishes().is_some_and(
        |snapshot| matches!(snapshot.relief, Relief::AtMost { shards_bytes, .. } if shards_bytes > 0),
    );
    let tiredness = phone.wishes().and_then(Snapshot::tiredness);
    // Who asks to have no more than that wants that much.
    let tiredness = tiredness.filter(|_| !asks_for_less);
    let tiredness = tiredness.or(phone.is_unfit.then_some(Tiredness::Failed));

    match (phone.is_excluded, tiredness, phone.profile) {
        (true, ..) => Availability::Excluded,
        (_, Some(tiredness), _) => Availability::Tired(tiredness),
        (_, None, None) => Availability::Tired(Tiredness::Unmeasured),
        (_, None, Some(_)) => Availability::Ready,
    }
}

fn link_of(link: &LinkKnowledge) -> Link {
    match link {
        LinkKnowledge::Unreachable => Link::Unreachable,
        LinkKnowledge::Way(way) => Link::Measured {
            rtt_s: way.rtt_s.value(),
            goodput_bytes_per_s: way.goodput_bytes_per_s.value(),
        },
    }
}

/// Returns the shards that layers which are bound together lie in.
fn bound(manifest: &Manifest) -> Vec<std::ops::Range<usize>> {
    let shards_of = |layers: &LayerRange| {
        let holds = |entry: &ShardEntry, layer| entry.layers().is_some_and(|l| l.contains(layer));
        let mut shards = manifest.layers.iter();
        let first = shards.position(|entry| holds(entry, layers.start()))?;
        let last = manifest.layers.iter();
        let last = last
            .clone()
            .rposition(|entry| holds(entry, layers.end() - 1))?;
        (first < last).then_some(first..last + 1)
    };
    let ranges = manifest
        .dependencies
        .iter()
        .filter_map(|dependency| match dependency {
            Dependency::BoundTogether(layers) => Some(layers),
            Dependency::RecomputedLocally(_) | Dependency::Replicated { .. } => None,
        });

    ranges.filter_map(shards_of).collect()
}

fn n_layers(entry: &ShardEntry) -> f64 {
    entry.layers().map_or(0.0, |layers| f64::from(layers.len()))
}

#[cfg(test)]
mod tests {
    use super::super::phone::Way;
    use super::super::testing::{SNAPSHOT, figure, profile};
    use super::*;
    use crate::device::{Battery, Thermal};
    use crate::placement::{Reason, SolveError, solve};
    use crate::testing::{ANNA, BELA, SIZES, manifest};

    const COSTS: Costs = Costs {
        context_bytes: 6 << 20,
        scratch_bytes: 20 << 20,
    };

    #[test]
    fn seconds_are_a_shards_and_bytes_are_whole() {
        let (quick, links) = (profile(0.001), BTreeMap::new());
        let manifest = manifest(&[2, 3]);
        let problem = problem(&group(&manifest, &[anna(&quick)], &links));

        let phone = &problem.phones[0];
        // Two layers in a shard of 1 MiB, where a sampled layer has half a MiB.
        assert_close(phone.decode_s[0], 2.0 * 0.001 + SHARD_S);
        // Three layers in 1 MiB: each has less to read.
        assert_close(phone.decode_s[1], 2.0 * 0.001 + SHARD_S);
        // Four tokens in a chunk, a tenth of a millisecond each.
        assert_close(phone.prefill_s[1], 3.0 * 4.0 * 0.0001 + SHARD_S);
        assert_close(phone.ends_decode_s, 1e-5 + 2e-3 + 1e-4);
        assert_close(phone.ends_prefill_s, 4e-5);
        assert_eq!(phone.memory_budget_bytes, 3_000_000_000 - (20 << 20));

        assert_eq!(problem.shards[0].weights_bytes, 1 << 20);
        assert_eq!(problem.shards[0].repack_bytes, 1 << 20);
        assert_eq!(problem.shards[0].kv_bytes_per_token, 128);
        // 64 positions are rounded up as llama.cpp does; two sessions; 64 numbers in f32.
        assert_eq!(problem.workload.context_tokens, 256);
        assert_eq!(problem.workload.sessions, 2);
        assert_eq!(problem.workload.activation_bytes_per_token, 256);
        problem.validate().unwrap();
    }

    #[test]
    fn a_group_is_placed_by_what_was_measured() {
        let (quick, slow) = (profile(0.001), profile(0.010));
        let links = links(&[ANNA, BELA]);
        let manifest = manifest(&[2; 8]);
        let bela = Candidate {
            id: BELA,
            name: "Bela",
            ..anna(&slow)
        };

        let placement = solve(&problem(&group(&manifest, &[anna(&quick), bela], &links)));

        let placement = placement.unwrap();
        assert!(placement.is_one_phone());
        assert!(matches!(
            placement.verdicts[1].reason,
            Reason::WouldAdd { .. }
        ));
    }

    #[test]
    fn phones_that_should_rest_or_are_not_known_get_nothing() {
        let quick = profile(0.001);
        let hot = Snapshot {
            thermal: Thermal::Serious,
            ..SNAPSHOT
        };
        let empty = Snapshot {
            battery: Some(Battery {
                percent: 5,
                charging: false,
            }),
            ..SNAPSHOT
        };
        let cases = [
            (
                Candidate {
                    snapshot: Some(&hot),
                    ..anna(&quick)
                },
                Availability::Tired(Tiredness::Hot),
            ),
            (
                Candidate {
                    snapshot: Some(&empty),
                    ..anna(&quick)
                },
                Availability::Tired(Tiredness::LowBattery),
            ),
            (
                Candidate {
                    profile: None,
                    ..anna(&quick)
                },
                Availability::Tired(Tiredness::Unmeasured),
            ),
            (
                Candidate {
                    is_excluded: true,
                    ..anna(&quick)
                },
                Availability::Excluded,
            ),
            (
                Candidate {
                    is_unfit: true,
                    ..anna(&quick)
                },
                Availability::Tired(Tiredness::Failed),
            ),
        ];
        let links = links(&[ANNA, BELA]);
        let manifest = manifest(&[2; 4]);

        for (other, availability) in cases {
            let other = Candidate {
                id: BELA,
                name: "Bela",
                ..other
            };
            let problem = problem(&group(&manifest, &[anna(&quick), other], &links));
            assert_eq!(problem.phones[1].availability, availability);

            let placement = solve(&problem).unwrap();
            assert!(placement.stages.iter().all(|stage| stage.phone == ANNA));
        }
    }

    #[test]
    fn a_head_that_was_not_measured_is_named() {
        let quick = profile(0.001);
        let unknown = Candidate {
            profile: None,
            ..anna(&quick)
        };
        let manifest = manifest(&[2]);
        let links = BTreeMap::new();

        let error = solve(&problem(&group(&manifest, &[unknown], &links))).unwrap_err();

        assert!(matches!(error, SolveError::Invalid(_)), "{error}");
    }

    #[test]
    fn layers_that_are_bound_bind_their_shards() {
        let mut manifest = manifest(&[2, 2, 2, 2]);
        let layers = |start, end| LayerRange::new(start, end).unwrap();
        manifest.dependencies = vec![
            Dependency::BoundTogether(layers(3, 5)),
            Dependency::BoundTogether(layers(6, 8)), // in one shard anyway
        ];

        assert_eq!(bound(&manifest), vec![1..3; 1]);
    }

    fn group<'a>(
        manifest: &'a Manifest,
        phones: &[Candidate<'a>],
        links: &'a BTreeMap<(PeerId, PeerId), LinkKnowledge>,
    ) -> Group<'a> {
        Group {
            manifest,
            sample_layer_bytes: 1 << 19,
            head: ANNA,
            phones: phones.to_vec(),
            links,
            sizes: SIZES,
            prompt_tokens: 64,
            costs: COSTS,
            objective: Objective::Latency,
        }
    }

    fn anna(profile: &Profile) -> Candidate<'_> {
        Candidate {
            id: ANNA,
            name: "Anna",
            is_excluded: false,
            is_unfit: false,
            may_rest: true,
            profile: Some(profile),
            snapshot: Some(&SNAPSHOT),
            flash_quota_bytes: 1 << 30,
        }
    }

    fn links(phones: &[PeerId]) -> BTreeMap<(PeerId, PeerId), LinkKnowledge> {
        let way = LinkKnowledge::Way(Way {
            rtt_s: figure(0.01),
            goodput_bytes_per_s: figure(1e7),
        });
        let pairs = phones
            .iter()
            .flat_map(|&a| phones.iter().map(move |&b| (a, b)));

        pairs
            .filter(|(a, b)| a != b)
            .map(|pair| (pair, way))
            .collect()
    }

    fn assert_close(found: f64, wanted: f64) {
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found} not {wanted}");
    }
}

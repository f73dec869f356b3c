//! A small model and its plans, for tests.

use gguf_tools::{
    Architecture, CHUNK_BYTES, ChunkHash, LayerRange, MANIFEST_VERSION, Manifest, ShardEntry,
    ShardHash, ShardKind,
};

use crate::forecast::{Forecasts, Outlook, StageOutlook};
use crate::placement::{Forecast, Help, Reason, Shortage, Verdict};
use crate::plan::{ActivationType, Plan, Sizes};
use crate::{Epoch, PeerId};

pub(crate) const ANNA: PeerId = PeerId([0xaa; 32]);
pub(crate) const BELA: PeerId = PeerId([0xbb; 32]);
pub(crate) const CARL: PeerId = PeerId([0xcc; 32]);

pub(crate) const SIZES: Sizes = Sizes {
    n_ctx: 64,
    n_sequences: 2,
    chunk_tokens: 4,
    activation: ActivationType::F32,
    relay_headers: false,
};

/// Returns an even plan for `phones`, with epoch 1 and one two-layer shard for each.
pub(crate) fn plan(phones: &[PeerId]) -> Plan {
    let manifest = manifest(&vec![2; phones.len()]);

    Plan::even(Epoch(1), &manifest, phones, SIZES).expect("a shard for each")
}

/// Returns a manifest of shards that have these numbers of layers.
pub(crate) fn manifest(shards: &[u32]) -> Manifest {
    let mut start = 0;
    let layers = shards.iter().map(|n| {
        let layers = LayerRange::new(start, start + n).expect("a shard has a layer");
        start += n;
        shard(ShardKind::Layers(layers))
    });

    Manifest {
        version: MANIFEST_VERSION,
        name: "a model".into(),
        architecture: Architecture::Llama,
        layers: layers.collect(),
        n_layers: start,
        n_embd: 64,
        n_vocab: 500,
        n_ctx_train: 1024,
        ends: shard(ShardKind::Ends),
        dependencies: Vec::new(),
    }
}

fn shard(kind: ShardKind) -> ShardEntry {
    ShardEntry {
        kind,
        bytes: CHUNK_BYTES,
        hash: ShardHash([1; 32]),
        chunks: vec![ChunkHash([2; 32])],
        kv_bytes_per_token: 128,
    }
}

/// Returns what to expect of a model, with everything that can be in it.
pub(crate) fn forecasts() -> Forecasts {
    let runs = Outlook::Runs {
        forecast: Forecast {
            ttft_s: 1.0,
            tpot_s: 0.1,
            compute_s: 0.08,
            hops_s: 0.02,
            busiest_s: 0.05,
        },
        stages: vec![StageOutlook {
            phone: ANNA,
            layers: (0, 4),
            ms_per_token: 50.0,
        }],
        slowest: ANNA,
        fetch_bytes: 1 << 30,
    };
    let shortage = Shortage {
        needed_bytes: 2,
        missing_bytes: 1,
        helps: vec![Help::BringBack {
            phone: BELA,
            name: "Bela".into(),
        }],
    };

    Forecasts {
        group: runs,
        alone: Outlook::DoesNotFit(shortage),
        without: vec![
            (BELA, Outlook::CutOff),
            (CARL, Outlook::Unknown { phone: CARL }),
        ],
        verdicts: vec![Verdict {
            phone: ANNA,
            name: "Anna".into(),
            reason: Reason::WouldAdd { ms_per_token: 3.0 },
        }],
    }
}

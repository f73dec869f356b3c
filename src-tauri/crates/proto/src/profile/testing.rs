//! A sample, a profile and a phone that is well, for tests.

use gguf_tools::{Sample, Shape, Synth, TensorType};

use super::figure::Figure;
use super::phone::{Curve, Pace, Profile, Share};
use crate::device::{Policy, Relief, Snapshot, Thermal};

pub(crate) const SNAPSHOT: Snapshot = Snapshot {
    free_bytes: 4_000_000_000,
    total_bytes: 8_000_000_000,
    budget_bytes: 3_000_000_000,
    battery: None,
    thermal: Thermal::Nominal,
    low_memory: false,
    power_save: false,
    is_metered: false,
    policy: Policy {
        memory_limit_bytes: None,
        battery_floor_percent: 20,
        only_while_charging: false,
        use_metered: true,
    },
    relief: Relief::None,
};

pub(crate) fn sample() -> Sample {
    let shape = Shape::preset("tiny-llama").expect("the preset exists");
    let model = Synth::new(shape, TensorType::Q4_0, 1).to_gguf();

    Sample::of(&model.expect("it fits memory")).expect("it can be cut")
}

/// Returns the profile of a phone that takes so long for a token and layer at 64 positions, twice
/// as long at 1088, and a tenth for a token of prefill.
pub(crate) fn profile(decode_s: f64) -> Profile {
    Profile {
        sample: sample().hash(),
        n_threads: 4,
        decode_s: Curve {
            n_positions: [64, 1088],
            figures: [figure(decode_s), figure(2.0 * decode_s)],
        },
        prefill_s: Curve {
            n_positions: [0, 1024],
            figures: [figure(decode_s / 10.0), figure(decode_s / 10.0)],
        },
        embed_s: figure(1e-5),
        logits_s: figure(2e-3),
        sample_s: figure(1e-4),
        memory_bytes_per_s: figure(1e10),
        layers_repacked: Share::new(1.0),
        ends_repacked: Share::default(),
        pace: Pace::UNKNOWN,
    }
}

pub(crate) fn figure(value: f64) -> Figure {
    Figure::new(value, value / 20.0).expect("a sound number")
}

//! Every model that can be cut can be measured without its weights.

mod split;

use std::time::Duration;

use engine::{AtContext, Measured, ProfileError, ProfileOptions, profile};
use gguf_tools::{Gguf, Sample, TensorType};
use split::{GEMMA3, SMOLLM2, TINY_PRESETS, TinyModel, real_model};

#[test]
fn every_architecture_is_measured() {
    for preset in TINY_PRESETS {
        let model = TinyModel::new(preset, TensorType::Q4_0);
        let sample = Sample::of(&Gguf::open(&model.path).expect("it was written"));

        let measured = measure(&sample.expect("it can be cut"));

        assert_sane(&measured.expect("it is measured"), preset);
    }
}

#[test]
fn real_models_are_measured() {
    for name in [SMOLLM2, GEMMA3] {
        let Some(path) = real_model(name) else {
            continue;
        };
        let sample = Sample::of(&Gguf::open(&path).expect("it is a GGUF"));

        let measured = measure(&sample.expect("it can be cut"));

        assert_sane(&measured.expect("it is measured"), name);
    }
}

#[test]
fn nothing_is_left_behind() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let sample = Sample::of(&Gguf::open(&model.path).expect("it was written"));
    let folder = tempfile::tempdir().expect("there is room for a folder");

    profile(&sample.expect("it can be cut"), folder.path(), &quick()).expect("it is measured");

    let left = std::fs::read_dir(folder.path()).expect("it is a folder");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_sample_that_is_none_is_refused() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let mut sample =
        Sample::of(&Gguf::open(&model.path).expect("it was written")).expect("it can be cut");
    sample.layers.data_bytes /= 2;

    assert!(matches!(measure(&sample), Err(ProfileError::Sample(_))));
}

fn measure(sample: &Sample) -> Result<Measured, ProfileError> {
    let folder = tempfile::tempdir().expect("there is room for a folder");

    profile(sample, folder.path(), &quick())
}

/// Tests want to know whether it works, not how long it takes.
fn quick() -> ProfileOptions {
    ProfileOptions {
        n_threads_max: 2,
        time: Duration::from_millis(100),
        ..ProfileOptions::default()
    }
}

fn assert_sane(measured: &Measured, name: &str) {
    let ends = [measured.embed_s, measured.logits_s, measured.sample_s];
    let at = measured.decode.iter().chain(&measured.prefill);
    let seconds = at.map(|at: &AtContext| at.seconds).chain(ends);

    for reading in seconds.chain([measured.memory_bytes_per_s]) {
        assert!(reading.value > 0.0 && reading.value.is_finite(), "{name}");
        assert!(
            reading.spread >= 0.0 && reading.spread.is_finite(),
            "{name}"
        );
        assert!(reading.n > 0, "{name}");
    }
    for share in [measured.layers_repacked, measured.ends_repacked] {
        assert!((0.0..=1.0).contains(&share), "{name}");
    }
    assert!((1..=2).contains(&measured.n_threads), "{name}");
    assert!(measured.decode[0].n_positions < measured.decode[1].n_positions);
}

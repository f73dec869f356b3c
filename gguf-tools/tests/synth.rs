//! Random models: real sizes, the same file from the same seed, numbers that stay finite.

#![allow(clippy::unwrap_used)] // in a test it is the assertion

use gguf_tools::{Gguf, Shape, Synth, SynthError, TensorType};

const TYPES: [TensorType; 4] = [
    TensorType::Q4_0,
    TensorType::Q8_0,
    TensorType::F16,
    TensorType::F32,
];

/// Parameter counts as published (BLOOM's from its configuration), in millions.
#[test]
fn real_shapes_have_the_published_number_of_weights() {
    let published = [
        ("llama-3.2-1b", 1236),
        ("llama-3.2-3b", 3213),
        ("qwen2.5-0.5b", 494),
        ("qwen3-0.6b", 596),
        ("gemma-3-1b", 1000),
        ("bloom-1b1", 1065),
        ("bloom-3b", 3003),
        ("phi-3-mini-128k", 3821),
    ];

    for (preset, millions) in published {
        let synth = Synth::new(Shape::preset(preset).unwrap(), TensorType::Q4_0, 0);
        assert_eq!(
            (synth.n_parameters() + 500_000) / 1_000_000,
            millions,
            "{preset}"
        );
    }
}

#[test]
fn every_preset_can_be_laid_out_in_every_type() {
    for preset in Shape::PRESETS {
        for tensor_type in TYPES {
            let synth = Synth::new(Shape::preset(preset).unwrap(), tensor_type, 0);
            assert!(
                synth.len_bytes().unwrap() > 100_000,
                "{preset} {tensor_type}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_file_of_the_size_foretold() {
    for tensor_type in TYPES {
        let bytes = |seed| {
            let synth = Synth::new(Shape::preset("tiny-gemma3").unwrap(), tensor_type, seed);
            let mut bytes = Vec::new();
            let mut told = 0;
            synth.write_to(&mut bytes, &mut |n| told += n).unwrap();
            assert_eq!(bytes.len() as u64, told);
            assert_eq!(synth.len_bytes().unwrap(), told);
            bytes
        };

        assert!(bytes(1) == bytes(1), "{tensor_type}");
        assert!(bytes(1) != bytes(2), "{tensor_type}");
    }
}

/// Decoded by hand: mean 0, and the size that keeps a hidden state as large as it was.
#[test]
fn weights_have_the_size_they_should() {
    for tensor_type in TYPES {
        let synth = Synth::new(Shape::preset("tiny-llama").unwrap(), tensor_type, 5);
        let model = synth.to_gguf().unwrap();
        let weights = decode(&model, "blk.3.ffn_up.weight");

        let n = weights.len() as f32;
        let mean = weights.iter().sum::<f32>() / n;
        let std = (weights.iter().map(|weight| weight * weight).sum::<f32>() / n).sqrt();
        let wanted = 1.0 / 128f32.sqrt();
        assert_eq!(weights.len(), 128 * 256);
        assert!(mean.abs() < 0.02 * wanted, "{tensor_type}: mean {mean}");
        assert!(
            (std / wanted - 1.0).abs() < 0.03,
            "{tensor_type}: {std} instead of {wanted}"
        );
    }
}

#[test]
fn impossible_shapes_are_refused() {
    let tiny = || Shape::preset("tiny-qwen2").unwrap();
    let cases = [
        (
            Shape {
                n_embd: 100,
                head_dim: 25,
                ..tiny()
            },
            "must be even",
        ),
        (
            Shape {
                n_embd: 130,
                head_dim: 32,
                ..tiny()
            },
            "n_head × head_dim must be n_embd",
        ),
        (
            Shape {
                n_embd: 72,
                head_dim: 18,
                ..tiny()
            },
            "multiple of 32",
        ),
        (
            Shape {
                n_head_kv: 3,
                ..tiny()
            },
            "must divide n_head",
        ),
        (
            Shape {
                n_layers: 0,
                ..tiny()
            },
            "n_layers is 0",
        ),
        (
            Shape {
                n_layers: 513,
                ..tiny()
            },
            "n_layers is 513",
        ),
        (
            Shape {
                n_vocab: 282,
                ..tiny()
            },
            "at least 283 tokens",
        ),
    ];

    for (shape, said) in cases {
        let error = Synth::new(shape, TensorType::Q4_0, 0)
            .to_gguf()
            .expect_err(said)
            .to_string();
        assert!(error.contains(said), "{error:?} should say {said:?}");
    }
    let quants = Synth::new(tiny(), TensorType::from_name("Q4_K").unwrap(), 0).to_gguf();
    assert!(matches!(quants, Err(SynthError::TensorType { .. })));
    assert!(matches!(
        Shape::preset("opt-125m"),
        Err(SynthError::Preset { .. })
    ));
}

/// Unpacks a tensor, written from the definition of the types.
fn decode(model: &Gguf, name: &str) -> Vec<f32> {
    let tensor = model.tensor(name).unwrap();
    let scale = |block: &[u8]| half::f16::from_le_bytes([block[0], block[1]]).to_f32();

    match tensor.tensor_type.name() {
        "F32" => tensor
            .bytes
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        "F16" => tensor.bytes.chunks(2).map(scale).collect(),
        "Q8_0" => {
            let blocks = tensor.bytes.chunks(34);
            blocks
                .flat_map(|b| b[2..].iter().map(move |&n| f32::from(n as i8) * scale(b)))
                .collect()
        }
        "Q4_0" => {
            let blocks = tensor.bytes.chunks(18);
            let nibbles = |b: u8| [f32::from(b & 15) - 8.0, f32::from(b >> 4) - 8.0];
            blocks
                .flat_map(|b| {
                    b[2..]
                        .iter()
                        .flat_map(move |&n| nibbles(n).map(|x| x * scale(b)))
                })
                .collect()
        }
        other => panic!("{other} is not made here"),
    }
}

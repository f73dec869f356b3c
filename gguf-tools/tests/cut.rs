//! What a cut promises about bytes: every tensor of the model is in the shards, unchanged, where it
//! should be; and a shard that is read without being written is the shard that is written.

#![allow(clippy::unwrap_used)] // in a test it is the assertion

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use gguf_tools::{
    Architecture, CHUNK_BYTES, Cut, Dependency, Gguf, LayerRange, Recomputed, Refusal, Shape,
    ShardEntry, ShardKind, Synth, TensorType, Value, VirtualShard, verify_file,
};
use proptest::prelude::*;

const TINY: [&str; 6] = [
    "tiny-llama",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-gemma3",
    "tiny-bloom",
    "tiny-phi3",
];

/// Tensors outside of the layers of which layer shards have copies.
const REPLICATED: [&str; 7] = [
    "output_norm.weight",
    "output_norm.bias",
    "token_embd_norm.weight",
    "token_embd_norm.bias",
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

#[test]
fn every_tensor_is_in_the_shards_unchanged() {
    for preset in TINY {
        let model = tiny(preset);
        let n_layers = model.describe().unwrap().n_layers;

        for n_shards in 1..=n_layers {
            let cut = Cut::about(&model, n_shards).unwrap();
            let whole = tensors(&model);
            let mut left = whole.keys().cloned().collect::<BTreeSet<_>>();
            for shard in cut.shards() {
                take_away_what_is_in(shard, &whole, &mut left);
            }

            assert!(left.is_empty(), "{preset} in {n_shards}: {left:?} nowhere");
        }
    }
}

/// Checks that the shard's tensors are those of the `whole`, and takes them from `left`: once, but
/// for those that every shard has a copy of.
fn take_away_what_is_in(
    shard: &VirtualShard,
    whole: &BTreeMap<String, Contents>,
    left: &mut BTreeSet<String>,
) {
    for (name, contents) in tensors(&read(shard)) {
        let in_model = match shard.kind() {
            ShardKind::Ends if name.starts_with("blk.") => {
                assert!(
                    contents.2.iter().all(|&byte| byte == 0),
                    "{name} is not zero"
                );
                continue;
            }
            ShardKind::Ends => name.clone(),
            ShardKind::Layers(_) if name == "token_embd.weight" => {
                assert_eq!(contents.0, [128, 1]);
                continue;
            }
            ShardKind::Layers(range) => renumbered(&name, range),
        };

        assert!(whole[&in_model] == contents, "{name} of {}", shard.kind());
        let first = left.remove(&in_model);
        assert!(
            first || REPLICATED.contains(&name.as_str()),
            "{name} is there twice"
        );
    }
}

/// Returns what a tensor of the shard `range` is called in the model.
fn renumbered(name: &str, range: LayerRange) -> String {
    let Some((layer, suffix)) = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return name.to_owned();
    };
    let layer = layer.parse::<u32>().unwrap() + range.start();
    assert!(range.contains(layer), "{name} in {range}");

    format!("blk.{layer}.{suffix}")
}

#[test]
fn a_layer_shard_is_a_whole_small_model() {
    for preset in TINY {
        let model = tiny(preset);
        let cut = Cut::new(&model, &ranges(&[0, 2, 3, layers(&model)])).unwrap();

        for shard in &cut.shards()[1..] {
            let ShardKind::Layers(range) = shard.kind() else {
                panic!("only the first shard is the ends");
            };
            let small = read(shard);
            let about = small.describe().unwrap();

            assert_eq!(
                (about.n_layers, about.n_vocab),
                (range.len(), 1),
                "{preset} {range}"
            );
            assert_eq!(
                about.layer_bytes.len() as u32,
                range.len(),
                "{preset} {range}"
            );
            assert_eq!(
                about.tokenizer.as_deref(),
                Some("no_vocab"),
                "{preset} {range}"
            );
            assert_eq!(about.refusal, None, "{preset} {range}");
            let stray = small.key_values().find(|pair| {
                pair.key.starts_with("tokenizer.") && pair.key != "tokenizer.ggml.model"
            });
            assert!(stray.is_none(), "{preset} {range}: {stray:?}");
        }
    }
}

#[test]
fn the_ends_keep_the_whole_tokenizer() {
    for preset in TINY {
        let model = tiny(preset);
        let ends = read(&Cut::about(&model, 2).unwrap().shards()[0]);

        let tokenizer = |gguf: &Gguf| {
            let pairs = gguf.key_values();
            let pairs = pairs.filter(|pair| pair.key.starts_with("tokenizer."));
            pairs
                .map(|pair| format!("{} {:?}", pair.key, pair.value))
                .collect::<Vec<_>>()
        };

        assert!(tokenizer(&model).len() > 8);
        assert_eq!(tokenizer(&ends), tokenizer(&model), "{preset}");
        assert_eq!(ends.describe().unwrap().n_layers, 1, "{preset}");
        assert_eq!(ends.describe().unwrap().refusal, None, "{preset}");
    }
}

/// Tiny Gemma's layers 2 and 5 of 8 see everything; the cuts are not at multiples of 3.
#[test]
fn sliding_windows_follow_their_layers() {
    let model = tiny("tiny-gemma3");
    let cut = Cut::new(&model, &ranges(&[0, 1, 4, 5, 6, 8])).unwrap();
    let expected: [Option<&[bool]>; 5] = [
        Some(&[true]),
        Some(&[true, false, true]),
        Some(&[true]),
        None, // a window that no layer uses is left out
        Some(&[true, true]),
    ];

    for (shard, expected) in cut.shards()[1..].iter().zip(expected) {
        let small = read(shard);
        let flags = small
            .find_array("gemma3.attention.sliding_window_pattern")
            .unwrap();
        let flags = flags.map(|flags| flags.iter().collect::<Vec<_>>());

        let expected =
            expected.map(|flags| flags.iter().map(|&f| Value::Bool(f)).collect::<Vec<_>>());
        assert_eq!(flags, expected, "{}", shard.kind());
        let window = small
            .find_number("gemma3.attention.sliding_window")
            .unwrap();
        assert_eq!(window.is_some(), expected.is_some(), "{}", shard.kind());
    }
}

/// Head sizes are written out: llama.cpp would else derive them from the first layer it sees.
#[test]
fn head_sizes_are_written_out() {
    for preset in TINY {
        let model = tiny(preset);
        let whole = model.describe().unwrap();
        let shard = read(&Cut::about(&model, 2).unwrap().shards()[1]);

        let key = format!("{}.attention.key_length", whole.architecture);
        assert_eq!(shard.number(&key).unwrap(), whole.key_length, "{preset}");
    }
}

#[test]
fn ranges_must_cover_the_model_in_order() {
    let model = tiny("tiny-llama");
    let cut = |starts: &[(u32, u32)]| {
        let ranges = starts
            .iter()
            .map(|&(start, end)| LayerRange::new(start, end).unwrap());
        Cut::new(&model, &ranges.collect::<Vec<_>>()).map(|_| ())
    };

    assert!(cut(&[(0, 2), (2, 6)]).is_ok());
    assert!(matches!(
        cut(&[]),
        Err(Refusal::RangesEnd {
            found: 0,
            n_layers: 6
        })
    ));
    assert!(matches!(
        cut(&[(0, 5)]),
        Err(Refusal::RangesEnd { found: 5, .. })
    ));
    assert!(matches!(
        cut(&[(0, 7)]),
        Err(Refusal::RangesEnd { found: 7, .. })
    ));
    assert!(matches!(
        cut(&[(1, 6)]),
        Err(Refusal::RangesNotConsecutive { expected: 0, .. })
    ));
    assert!(matches!(
        cut(&[(0, 3), (2, 6)]),
        Err(Refusal::RangesNotConsecutive { expected: 3, .. })
    ));
    assert!(matches!(
        cut(&[(0, 3), (4, 6)]),
        Err(Refusal::RangesNotConsecutive { expected: 3, .. })
    ));
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    for preset in TINY {
        let [first, second] =
            [(); 2].map(|()| Cut::about(&tiny(preset), 3).unwrap().manifest(|_| {}));

        assert_eq!(first.hash(), second.hash(), "{preset}");
    }
}

#[test]
fn a_written_shard_is_the_virtual_one() {
    let folder = tempfile::tempdir().unwrap();

    for preset in TINY {
        let cut = Cut::about(&tiny(preset), 3).unwrap();
        let mut hashed = 0;
        let manifest = cut.manifest(|bytes| hashed += bytes);
        manifest.validate().unwrap();
        assert_eq!(hashed, cut.len_bytes());

        for (shard, entry) in cut.shards().iter().zip(manifest.shards()) {
            let path = folder.path().join("shard.gguf");
            let mut written = 0;
            shard
                .write_file_noting(&path, &mut |bytes| written += bytes)
                .unwrap();

            assert_eq!(
                (written, entry.bytes),
                (shard.len_bytes(), shard.len_bytes())
            );
            assert_eq!(entry.kind, shard.kind());
            verify_file(entry, &path, |_| {}).unwrap();
            let hash = blake3::hash(&std::fs::read(&path).unwrap());
            assert_eq!(entry.hash.0, *hash.as_bytes(), "{preset} {}", shard.kind());
        }
    }
    let names = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 1, "no .part file is left");
}

/// Sizes at which something changes: in a piece, at its end, over several, at chunks, past the end.
#[test]
fn a_virtual_shard_reads_the_same_at_any_offset() {
    let model = Synth::new(Shape::preset("tiny-llama").unwrap(), TensorType::F32, 3)
        .to_gguf()
        .unwrap();
    let cut = Cut::about(&model, 2).unwrap();
    let shard = &cut.shards()[1];
    let whole = bytes(shard);
    let len = whole.len() as u64;
    assert!(len > CHUNK_BYTES, "large enough to have two chunks");

    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let edges = [
        0,
        1,
        31,
        32,
        33,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        len - 1,
        len,
        len + 1,
        u64::MAX - 9,
    ];
    let places = (
        prop_oneof![proptest::sample::select(edges.to_vec()), 0..len],
        0usize..300_000,
    );
    runner
        .run(&places, |(offset, wanted)| {
            let mut buffer = vec![0xaa; wanted];
            let n = shard.read_at(offset, &mut buffer);

            let start = offset.min(len) as usize;
            let expected = &whole[start..whole.len().min(start + wanted)];
            prop_assert_eq!(&buffer[..n], expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn kv_bytes_are_those_of_the_layers() {
    // two heads of 32 elements, keys and values, two bytes each
    let cut = Cut::new(&tiny("tiny-llama"), &ranges(&[0, 2, 6])).unwrap();

    let bytes = cut
        .shards()
        .iter()
        .map(VirtualShard::kv_bytes_per_token)
        .collect::<Vec<_>>();
    assert_eq!(
        bytes,
        [2 * 32 * 2, 2 * (2 * 2 * 32 * 2), 4 * (2 * 2 * 32 * 2)]
    );
}

#[test]
fn what_cannot_be_cut_honestly_is_refused() {
    let refusals: [(&str, Edit, &str); 18] = [
        (
            "tiny-llama",
            Edit::Number("llama.rope.dimension_count", 16),
            "rope.dimension_count` is 16",
        ),
        (
            "tiny-phi3",
            Edit::Number("phi3.rope.dimension_count", 33),
            "rope.dimension_count` is 33",
        ),
        (
            "tiny-qwen3",
            Edit::Number("qwen3.attention.value_length", 32),
            "value_length` is 32",
        ),
        (
            "tiny-qwen2",
            Edit::Number("qwen2.attention.key_length", 64),
            "value_length` is 32",
        ),
        (
            "tiny-llama",
            Edit::Text("general.architecture", "opt"),
            "`opt` cannot be cut; supported are llama, qwen2",
        ),
        (
            "tiny-llama",
            Edit::Text("general.type", "adapter"),
            "of type `adapter`",
        ),
        ("tiny-llama", Edit::Number("split.count", 4), "4 files"),
        (
            "tiny-llama",
            Edit::Number("llama.expert_count", 8),
            "`llama.expert_count` is 8",
        ),
        (
            "tiny-qwen3",
            Edit::Number("qwen3.nextn_predict_layers", 1),
            "`qwen3.nextn_predict_layers`",
        ),
        (
            "tiny-gemma3",
            Edit::Number("gemma3.attention.key_length_swa", 32),
            "key_length_swa",
        ),
        (
            "tiny-llama",
            Edit::Numbers("llama.attention.head_count", &[4, 4, 4, 4, 4, 2]),
            "differs between layers",
        ),
        (
            "tiny-llama",
            Edit::Numbers("llama.feed_forward_length", &[256; 5]),
            "5 entries for 6 layers",
        ),
        (
            "tiny-llama",
            Edit::Numbers("llama.mystery", &[1; 6]),
            "unknown meaning",
        ),
        (
            "tiny-llama",
            Edit::Number("llama.block_count", 0),
            "block_count` is 0",
        ),
        (
            "tiny-llama",
            Edit::Number("llama.block_count", 7),
            "`blk.6.attn_norm.weight` is missing",
        ),
        (
            "tiny-llama",
            Edit::Number("llama.block_count", 5),
            "`blk.5.",
        ),
        (
            "tiny-llama",
            Edit::Number("llama.embedding_length", 64),
            "`token_embd.weight` has the shape",
        ),
        (
            "tiny-llama",
            Edit::Number("llama.attention.head_count", 0),
            "head_count` is 0",
        ),
    ];

    for (preset, edit, said) in refusals {
        let model = edit.apply(&tiny(preset));

        let refusal = Cut::about(&model, 2).expect_err(said).to_string();
        assert!(refusal.contains(said), "{refusal:?} should say {said:?}");
        assert!(
            model
                .describe()
                .is_ok_and(|about| about.refusal == Some(refusal))
                || said.contains("opt")
        );
    }
}

/// llama.cpp takes Gemma 3 with 62 layers for the 27B model, which scales attention otherwise.
#[test]
fn gemma_of_62_layers_is_refused() {
    let deep = |n_layers| {
        let shape = Shape {
            n_layers,
            ..Shape::preset("tiny-gemma3").unwrap()
        };
        Synth::new(shape, TensorType::Q4_0, 1).to_gguf().unwrap()
    };

    let whole = Cut::about(&deep(62), 4).unwrap_err();
    let shard = Cut::new(&deep(63), &ranges(&[0, 62, 63])).unwrap_err();

    for refusal in [whole, shard] {
        let layers = matches!(
            refusal,
            Refusal::LayerCount {
                architecture: Architecture::Gemma3,
                n_layers: 62
            }
        );
        assert!(layers, "{refusal}");
    }
    assert!(Cut::about(&deep(63), 4).is_ok());
}

/// Lists with one entry per layer are cut with the layers, scalars are left alone.
#[test]
fn lists_are_cut_with_their_layers() {
    let model = Edit::Numbers("llama.feed_forward_length", &[256; 6]).apply(&tiny("tiny-llama"));
    let cut = Cut::new(&model, &ranges(&[0, 1, 6])).unwrap();

    let lists = cut.shards()[1..].iter().map(|shard| {
        let list = read(shard)
            .find_array("llama.feed_forward_length")
            .unwrap()
            .map(|list| list.len);
        list.unwrap()
    });
    assert_eq!(lists.collect::<Vec<_>>(), [1, 5]);
    assert_eq!(
        read(&cut.shards()[0])
            .number("llama.feed_forward_length")
            .unwrap(),
        32
    );
}

/// The files are right, and the manifest says so: but are they this model's?
#[test]
fn a_shard_of_another_model_or_place_is_told() {
    for preset in TINY {
        let cut = Cut::new(&tiny(preset), &ranges(&[0, 2, 3, layers(&tiny(preset))])).unwrap();
        let manifest = cut.manifest(|_| {});
        for (shard, entry) in cut.shards().iter().zip(manifest.shards()) {
            manifest.check_shard(entry, &read(shard)).unwrap();
        }

        let say = |entry: &ShardEntry, shard: &Gguf| {
            manifest.check_shard(entry, shard).unwrap_err().to_string()
        };
        let longer = say(&manifest.layers[1], &read(&cut.shards()[1]));
        assert!(
            longer.contains("number of layers is 2 in the shard, the manifest says 1"),
            "{longer}"
        );
        let ends = say(&manifest.layers[1], &read(&cut.shards()[0]));
        assert!(
            ends.contains("number of tokens is 512 in the shard, the manifest says 1"),
            "{ends}"
        );
        let other = if preset == "tiny-llama" {
            "tiny-bloom"
        } else {
            "tiny-llama"
        };
        let other = say(
            &manifest.ends,
            &read(&Cut::about(&tiny(other), 1).unwrap().shards()[0]),
        );
        assert!(other.contains("the architecture is"), "{other}");
    }
}

/// llama.cpp ends the process over a vocabulary in which two tokens are the same.
#[test]
fn a_token_that_is_there_twice_is_refused() {
    let twice = Edit::Tokens(|id| format!("token {}", id % 511)); // 0 and 511 are the same
    let empty = Edit::Tokens(|id| {
        if id < 9 {
            String::new()
        } else {
            format!("token {id}")
        }
    });

    let refusal = Cut::about(&twice.apply(&tiny("tiny-llama")), 2).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::DuplicateToken { token } if token == "token 0"),
        "{refusal}"
    );
    let empty = Cut::about(&empty.apply(&tiny("tiny-llama")), 2);
    assert!(empty.is_ok(), "empty tokens get names of their own");
}

#[test]
fn alignment_is_kept() {
    let model = Edit::Number("general.alignment", 128).apply(&tiny("tiny-llama"));

    let cut = Cut::about(&model, 2).unwrap();

    assert_eq!(model.alignment(), 128);
    for shard in cut.shards() {
        let shard = read(shard);
        assert_eq!((shard.alignment(), shard.data_start() % 128), (128, 0));
    }
}

#[test]
fn dependencies_are_declared() {
    let declared = |preset: &str| {
        Cut::about(&tiny(preset), 2)
            .unwrap()
            .manifest(|_| {})
            .dependencies
    };
    let copies = |dependencies: &[Dependency]| {
        let names = dependencies
            .iter()
            .filter_map(|dependency| match dependency {
                Dependency::Replicated { tensor, .. } => Some(tensor.clone()),
                Dependency::RecomputedLocally(_) | Dependency::BoundTogether(_) => None,
            });
        names.collect::<Vec<_>>()
    };

    let llama = declared("tiny-llama");
    assert!(llama.contains(&Dependency::RecomputedLocally(Recomputed::Rope)));
    assert_eq!(copies(&llama), ["output_norm.weight", "rope_freqs.weight"]);
    let bloom = declared("tiny-bloom");
    assert!(bloom.contains(&Dependency::RecomputedLocally(Recomputed::Alibi)));
    let expected = [
        "token_embd_norm.weight",
        "token_embd_norm.bias",
        "output_norm.weight",
        "output_norm.bias",
    ];
    assert_eq!(copies(&bloom), expected);
}

/// Dimensions, type and bytes of a tensor.
type Contents = (Vec<u64>, TensorType, Vec<u8>);

fn tensors(gguf: &Gguf) -> BTreeMap<String, Contents> {
    let contents = |tensor: &gguf_tools::Tensor<'_>| {
        (
            tensor.dims().to_vec(),
            tensor.tensor_type,
            tensor.bytes.to_vec(),
        )
    };

    gguf.tensors()
        .map(|tensor| (tensor.name.to_owned(), contents(&tensor)))
        .collect()
}

fn tiny(preset: &str) -> Gguf {
    Synth::new(Shape::preset(preset).unwrap(), TensorType::Q4_0, 1)
        .to_gguf()
        .unwrap()
}

fn layers(model: &Gguf) -> u32 {
    model.describe().unwrap().n_layers
}

fn ranges(cuts: &[u32]) -> Vec<LayerRange> {
    cuts.windows(2)
        .map(|pair| LayerRange::new(pair[0], pair[1]).unwrap())
        .collect()
}

fn read(shard: &VirtualShard) -> Gguf {
    Gguf::from_bytes(bytes(shard)).unwrap()
}

fn bytes(shard: &VirtualShard) -> Vec<u8> {
    let mut bytes = Vec::new();
    shard.reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, shard.len_bytes());

    bytes
}

/// A change to a model's metadata: a key set to another value, or added.
#[derive(Clone, Copy)]
enum Edit {
    Text(&'static str, &'static str),
    Number(&'static str, u32),
    Numbers(&'static str, &'static [u32]),
    /// The 512 tokens of the vocabulary, made by this function of their ids.
    Tokens(fn(u32) -> String),
}

impl Edit {
    /// Returns `model` with the change. Written by hand, from the format's specification.
    fn apply(self, model: &Gguf) -> Gguf {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let (key, value) = match self {
            Edit::Text(key, value) => (key, [&8u32.to_le_bytes()[..], &text(value)].concat()),
            Edit::Number(key, value) => (key, [4u32.to_le_bytes(), value.to_le_bytes()].concat()),
            Edit::Numbers(key, values) => {
                let list = [
                    &9u32.to_le_bytes()[..],
                    &4u32.to_le_bytes(),
                    &(values.len() as u64).to_le_bytes(),
                ];
                let values = values.iter().flat_map(|value| value.to_le_bytes());
                (key, list.concat().into_iter().chain(values).collect())
            }
            Edit::Tokens(token) => {
                let list = [
                    &9u32.to_le_bytes()[..],
                    &8u32.to_le_bytes(),
                    &512u64.to_le_bytes(),
                ];
                let tokens = (0..512).flat_map(|id| text(&token(id)));
                let value = list.concat().into_iter().chain(tokens).collect();
                ("tokenizer.ggml.tokens", value)
            }
        };
        let alignment: u64 = match self {
            Edit::Number("general.alignment", alignment) => alignment.into(),
            Edit::Text(..) | Edit::Number(..) | Edit::Numbers(..) | Edit::Tokens(_) => 32,
        };

        let kept = model.key_values().filter(|pair| pair.key != key).count() as u64;
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((model.n_tensors() as u64).to_le_bytes());
        file.extend((kept + 1).to_le_bytes());
        for pair in model.key_values().filter(|pair| pair.key != key) {
            file.extend(model.raw_key_value(&pair));
        }
        file.extend([text(key), value].concat());

        let mut offset = 0u64;
        for tensor in model.tensors() {
            file.extend(text(tensor.name));
            file.extend((tensor.dims().len() as u32).to_le_bytes());
            file.extend(tensor.dims().iter().flat_map(|dim| dim.to_le_bytes()));
            file.extend(tensor.tensor_type.id().to_le_bytes());
            file.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(alignment);
        }
        for tensor in model.tensors() {
            file.resize(file.len().next_multiple_of(alignment as usize), 0);
            file.extend(tensor.bytes);
        }

        Gguf::from_bytes(file).unwrap()
    }
}

//! The command line, as people and scripts use it.

#![allow(clippy::unwrap_used)] // in a test it is the assertion

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use gguf_tools::{CHUNK_BYTES, Description, Manifest, VerifyError, verify_file};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_model_is_made_described_cut_and_verified() {
    let folder = Folder::with_model("tiny-llama");

    let about = folder.json::<Description>(&["inspect", "model.gguf", "--json"]);
    assert_eq!((about.architecture.as_str(), about.n_layers), ("llama", 6));
    let said = folder.json::<Value>(&[
        "cut",
        "model.gguf",
        "--out",
        "shards",
        "--at",
        "2,3",
        "--json",
    ]);
    assert_eq!(said["shards"].as_array().unwrap().len(), 4);
    let verified = folder.json::<Value>(&["verify", "shards", "--json"]);
    assert_eq!(
        (&verified["ok"], &verified["model"]),
        (&Value::Bool(true), &said["model"])
    );

    let files = fs::read_dir(folder.path().join("shards")).unwrap();
    let mut files = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    files.sort();
    let expected = [
        "ends.gguf",
        "layers-000-002.gguf",
        "layers-002-003.gguf",
        "layers-003-006.gguf",
        "manifest.json",
    ];
    assert_eq!(files, expected);
}

#[test]
fn a_manifest_is_the_same_with_and_without_shards_on_disk() {
    let folder = Folder::with_model("tiny-gemma3");
    folder.ok(&["cut", "model.gguf", "-o", "shards", "--shards", "3"]);

    let virtual_one =
        folder.json::<Manifest>(&["manifest", "model.gguf", "--shards", "3", "--json"]);
    let written = fs::read(folder.path().join("shards/manifest.json")).unwrap();

    assert_eq!(
        virtual_one,
        serde_json::from_slice::<Manifest>(&written).unwrap()
    );
}

#[test]
fn tables_are_for_people() {
    let folder = Folder::with_model("tiny-bloom");

    let inspected = folder.ok(&["inspect", "model.gguf", "--keys", "--tensors"]);
    let listed = folder.ok(&["manifest", "model.gguf", "--shards", "2"]);

    for word in [
        "can be cut          yes",
        "bloom.block_count",
        "u32",
        "blk.4.ffn_down.weight",
        "512 × 128",
    ] {
        assert!(inspected.contains(word), "{word} in {inspected}");
    }
    for word in ["ends", "0..3", "3..5", "in 3 shards"] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
}

#[test]
fn damaged_shards_are_told_chunk_by_chunk() {
    let folder = TempDir::new().unwrap();
    let folder = Folder { folder };
    folder.ok(&[
        "synth",
        "tiny-llama",
        "--type",
        "f32",
        "--out",
        "model.gguf",
    ]);
    folder.ok(&["cut", "model.gguf", "--out", "shards", "--shards", "2"]);
    let path = folder.path().join("shards/layers-000-003.gguf");
    let whole = fs::read(&path).unwrap();

    let mut damaged = whole.clone();
    damaged[CHUNK_BYTES as usize] ^= 1; // the first byte of the second chunk
    fs::write(&path, &damaged).unwrap();
    let wrong = folder.fails(&["verify", "shards"], 1);
    assert!(
        wrong.contains("1 of 2 chunks are wrong, the first is 1"),
        "{wrong}"
    );
    assert!(wrong.contains("ok      ends.gguf"), "{wrong}");

    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let short = folder.fails(&["verify", "shards"], 1);
    assert!(short.contains("the manifest says"), "{short}");

    fs::remove_file(&path).unwrap();
    let missing = folder.fails(&["verify", "shards"], 1);
    assert!(
        missing.contains("cannot read") && missing.contains("layers-000-003.gguf"),
        "{missing}"
    );
}

/// Every chunk is right but the manifest lies about the whole: found only by the last check.
#[test]
fn a_manifest_that_contradicts_itself_is_found() {
    let folder = Folder::with_model("tiny-qwen2");
    folder.ok(&["cut", "model.gguf", "--out", "shards"]);
    let text = fs::read(folder.path().join("shards/manifest.json")).unwrap();
    let mut manifest = serde_json::from_slice::<Manifest>(&text).unwrap();
    manifest.ends.hash.0[0] ^= 1;

    let outcome = verify_file(
        &manifest.ends,
        &folder.path().join("shards/ends.gguf"),
        |_| {},
    );

    assert!(
        matches!(outcome, Err(VerifyError::WholeHash { .. })),
        "{outcome:?}"
    );
}

#[test]
fn errors_say_what_is_wrong_and_which_file() {
    let folder = Folder::with_model("tiny-llama");
    fs::write(folder.path().join("text.gguf"), "not a model").unwrap();
    let model = fs::read(folder.path().join("model.gguf")).unwrap();
    fs::write(folder.path().join("short.gguf"), &model[..model.len() / 2]).unwrap();
    fs::write(folder.path().join("empty.json"), "{}").unwrap();

    let cases: [(&[&str], i32, &str); 13] = [
        (&["inspect", "nowhere.gguf"], 1, "nowhere.gguf"),
        (&["inspect", "text.gguf"], 1, "not a GGUF file"),
        (&["inspect", "."], 1, "not a regular file"),
        (&["cut", "short.gguf", "-o", "shards"], 1, "ends too early"),
        (&["cut", "model.gguf"], 2, "--out"),
        (
            &["cut", "model.gguf", "-o", "shards", "--shards", "0"],
            2,
            "--shards",
        ),
        (
            &["cut", "model.gguf", "-o", "shards", "--at", "4,2"],
            1,
            "ascending layers from 1 to 5",
        ),
        (
            &["cut", "model.gguf", "-o", "shards", "--at", "6"],
            1,
            "ascending layers from 1 to 5",
        ),
        (
            &["cut", "model.gguf", "-o", "model.gguf/shards"],
            1,
            "cannot make the folder",
        ),
        (&["verify", "."], 1, "`gguf-tools cut` writes one"),
        (
            &["verify", ".", "--manifest", "empty.json"],
            1,
            "missing field",
        ),
        (
            &["synth", "tiny-opt", "-o", "x.gguf"],
            1,
            "there are llama-3.2-1b",
        ),
        (
            &["synth", "tiny-llama", "-o", "x.gguf", "--type", "q4_k"],
            1,
            "cannot make Q4_K weights",
        ),
    ];

    for (args, status, said) in cases {
        let output = folder.fails(args, status);
        assert!(
            output.contains(said),
            "{args:?} should say {said:?}: {output}"
        );
    }
    assert!(
        !folder.path().join("shards").exists(),
        "nothing is made before the model is checked"
    );
}

#[test]
fn a_tokenizer_can_be_taken_from_another_model() {
    let folder = Folder::with_model("tiny-llama");

    folder.ok(&[
        "synth",
        "tiny-bloom",
        "-o",
        "other.gguf",
        "--tokenizer",
        "model.gguf",
        "--layers",
        "2",
    ]);
    let about = folder.json::<Description>(&["inspect", "other.gguf", "--json"]);

    assert_eq!(
        (about.n_layers, about.n_vocab, about.has_chat_template),
        (2, 512, true)
    );
    assert_eq!(about.refusal, None);
}

/// A folder of its own for a test.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn with_model(preset: &str) -> Self {
        let folder = Self {
            folder: TempDir::new().unwrap(),
        };
        folder.ok(&["synth", preset, "--out", "model.gguf"]);

        folder
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the command, which must succeed, and returns what it wrote.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");

        String::from_utf8(output.stdout).unwrap()
    }

    fn json<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> T {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Runs the command, which must fail with `status`, and returns all that it wrote.
    fn fails(&self, args: &[&str], status: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {output:?}");

        [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .concat()
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf-tools"));

        command
            .args(args)
            .current_dir(self.path())
            .output()
            .unwrap()
    }
}

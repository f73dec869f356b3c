//! The models that are run: a real one, and random weights of real shapes, as speed does not depend on them.

use std::path::{Path, PathBuf};

use gguf_tools::{Shape, Synth, TensorType};

/// The real one, if it has been fetched ([`.ci/models`]).
pub fn smollm2() -> Option<PathBuf> {
    let folder = std::env::var_os("LINGUALINKED_MODELS")?;
    let path = Path::new(&folder).join("SmolLM2-135M-Instruct.Q4_1.gguf");

    path.is_file().then_some(path)
}

/// Llama 3.2 1B in Q4_0, written once and kept.
pub fn llama_1b() -> PathBuf {
    kept("llama-3.2-1b-q4_0.gguf", "llama-3.2-1b", TensorType::Q4_0)
}

/// A small model of large files: SmolLM2's shape in F16.
pub fn small_in_f16() -> PathBuf {
    let shape = Shape {
        name: "135m-f16".into(),
        n_layers: 30,
        n_embd: 576,
        n_ff: 1536,
        n_head: 9,
        n_head_kv: 3,
        head_dim: 64,
        n_vocab: 49_152,
        ..Shape::preset("llama-3.2-1b").expect("the preset exists")
    };

    written("135m-f16.gguf", || Synth::new(shape, TensorType::F16, 1))
}

fn kept(file: &str, preset: &str, tensor_type: TensorType) -> PathBuf {
    let shape = || Shape::preset(preset).expect("the preset exists");

    written(file, || Synth::new(shape(), tensor_type, 1))
}

fn written(file: &str, synth: impl FnOnce() -> Synth) -> PathBuf {
    let path = std::env::temp_dir().join("lingualinked-bench").join(file);
    if path.is_file() {
        return path;
    }

    let part = path.with_extension("part");
    let folder = path.parent().expect("it is in a folder");
    std::fs::create_dir_all(folder).expect("there is room for a folder");
    let written = synth().write_file(&part, &mut |_| {});
    written.expect("there is room for the model");
    std::fs::rename(&part, &path).expect("it is ours");
    path
}

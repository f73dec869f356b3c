//! The models that are run: a real one, and random weights of a real shape, as speed does not depend on them.

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
    let shape = Shape::preset("llama-3.2-1b").expect("the preset exists");

    written("llama-3.2-1b-q4_0.gguf", || {
        Synth::new(shape, TensorType::Q4_0, 1)
    })
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

//! Writes a corpus to start from: tiny models of every architecture, and their manifests.

use std::fs;

use gguf_tools::{Architecture, Cut, Shape, Synth, TensorType};

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    for target in ["reader", "manifest"] {
        fs::create_dir_all(format!("{folder}/{target}")).expect("the folder can be made");
    }

    for architecture in Architecture::ALL {
        let shape = Shape {
            n_layers: 1,
            n_embd: 32,
            n_ff: 32,
            n_head: 1,
            n_head_kv: 1,
            head_dim: 32,
            n_vocab: 283,
            ..Shape::preset(&format!("tiny-{architecture}")).expect("one for each")
        };
        let synth = Synth::new(shape, TensorType::Q4_0, 1);
        let mut file = Vec::new();
        synth
            .write_to(&mut file, &mut |_| {})
            .expect("memory takes all");
        let model = synth.to_gguf().expect("the shape is possible");
        let manifest = Cut::about(&model, 1)
            .expect("it can be cut")
            .manifest(|_| {});
        let manifest = postcard::to_allocvec(&manifest).expect("plain data");

        fs::write(format!("{folder}/reader/{architecture}"), file).expect("it can be written");
        fs::write(format!("{folder}/manifest/{architecture}"), manifest)
            .expect("it can be written");
    }
}

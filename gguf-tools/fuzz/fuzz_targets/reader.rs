//! Any bytes at all: an error or a model, and then whatever is done with models.

#![no_main]

use gguf_tools::{Cut, Gguf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Gguf::from_bytes(bytes.to_vec()) else {
        return;
    };

    for pair in model.key_values() {
        assert_eq!(model.key_value(pair.key).expect("listed").value, pair.value);
    }
    for tensor in model.tensors() {
        assert_eq!(
            model.tensor(tensor.name).expect("listed").dims(),
            tensor.dims()
        );
    }
    let _ = model.describe();
    if let Ok(cut) = Cut::about(&model, 3) {
        cut.manifest(|_| {})
            .validate()
            .expect("a manifest of ours is valid");
        for shard in cut.shards() {
            let mut file = Vec::new();
            shard.write_to(&mut file).expect("memory takes all");
            let shard = Gguf::from_bytes(file).expect("a shard is a GGUF file");
            assert_eq!(
                shard.describe().expect("with all its numbers").refusal,
                None
            );
        }
    }
});

//! A manifest from a hostile peer.

#![no_main]

use gguf_tools::{Manifest, ShardKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = postcard::from_bytes::<Manifest>(bytes) else {
        return;
    };
    let _ = manifest.hash();
    if manifest.validate().is_err() {
        return;
    }

    let mut next = 0;
    for entry in &manifest.layers {
        let ShardKind::Layers(range) = entry.kind else {
            panic!("valid, but there are ends among the layers");
        };
        assert_eq!(range.start(), next);
        next = range.end();
        assert!(entry.chunk_bytes(entry.chunks.len() as u32).is_none());
    }
    assert_eq!(next, manifest.n_layers);
});

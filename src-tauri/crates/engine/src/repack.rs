//! Which weights llama.cpp keeps a second time, in a layout that computes faster.
//!
//! It repacks a matrix while it loads it, into memory of its own; the file stays mapped beside it.
//! Whether it does depends on the type, the number of rows and the processor: this is llama.cpp's
//! own list (`ggml_repack_get_optimal_repack_type` in `ggml-cpu/repack.cpp`), for x86 and ARM.
//! `tests/memory.rs` holds it against what a load really takes.

use gguf_tools::{Gguf, Tensor};

use crate::llama::CpuFeatures;

/// Returns the bytes of a file's weights that llama.cpp repacks on this processor.
///
/// The embedding of a model without an LM head of its own counts: as LM head it is a matrix like
/// any other, and its rows are looked up in the file.
pub fn repacked_bytes(gguf: &Gguf) -> u64 {
    let features = CpuFeatures::detect();
    let has_head = gguf.tensor("output.weight").is_some();
    let is_matrix =
        |tensor: &Tensor<'_>| tensor.dims().len() == 2 && (!has_head || tensor.name != EMBEDDING);

    gguf.tensors()
        .filter(|tensor| is_matrix(tensor) && is_repacked(tensor, features))
        .map(|tensor| tensor.bytes.len() as u64)
        .sum()
}

const EMBEDDING: &str = "token_embd.weight";

fn is_repacked(tensor: &Tensor<'_>, cpu: CpuFeatures) -> bool {
    let rows = tensor.dims()[1];
    let by = |has: bool, of: u64| has && rows.is_multiple_of(of);
    let (dot, int8) = (cpu.neon && cpu.dotprod, cpu.neon && cpu.matmul_int8);

    match tensor.tensor_type.name() {
        "Q4_0" => by(cpu.avx2, 8) || by(int8 || dot, 4),
        "Q4_K" => by(cpu.avx2 || int8 || dot, 8),
        "Q2_K" => by(cpu.avx512, 8),
        "Q5_K" | "Q6_K" => by(int8 || dot, 8),
        "IQ4_NL" | "MXFP4" => by(cpu.avx2, 8) || by(dot, 4),
        "Q8_0" | "Q1_0" => by(int8 || dot, 4),
        _ => false,
    }
}

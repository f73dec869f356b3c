//! Random weights, packed as they are in a file.

use half::f16;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;

use crate::tensor_type::TensorType;

/// How far norms and biases stray from 1 and 0.
const STRAY: f32 = 0.1;

/// How large what attention adds to the hidden state is, and what the feed-forward adds, as part
/// of a matrix's natural size.
///
/// Attention averages over the context. Were it as strong as the rest, every position would soon
/// hold the same average, and greedy decoding would repeat one token (as tried).
const ATTENTION_ADDS: f32 = 0.25;
const FEED_FORWARD_ADDS: f32 = 2.0;

/// How far biases stray from 0.
const BIAS: f32 = 0.02;

/// Size of small norms: those of BLOOM's embeddings and of what attention adds in Gemma 3.
const SMALL_NORM: f32 = 0.1;

/// Factor on the rows of special tokens, so that their logits stay far below the largest.
const QUIET: f32 = 1.0 / 16.0;

/// Standard deviation of a number drawn evenly from −7 to 7 and an extra 0: √(280/16).
const Q4_STD: f32 = 4.183_3;

/// Standard deviation of a number drawn evenly from −128 to 127, where −128 counts as −127.
const Q8_STD: f32 = 73.9;

/// Standard deviation of a number drawn evenly from −1 to 1: √(1/3).
const EVEN_STD: f32 = 0.577_35;

/// What a tensor is filled with.
#[derive(Debug, Clone)]
pub(super) enum Fill {
    /// Numbers around 0 with this standard deviation.
    Matrix { std: f32 },
    /// The same, but smaller in the rows of special tokens.
    Embedding { std: f32 },
    /// Numbers near 1.
    Norm,
    /// Numbers near a tenth, for norms after which the hidden state should still be small.
    SmallNorm,
    /// Numbers near 0.
    Bias,
    /// These numbers.
    Table(Vec<f32>),
}

impl Fill {
    /// A matrix that puts out numbers as large as those that come in, `from` at a time.
    pub(super) fn keeping(from: u64) -> Self {
        Fill::Matrix {
            std: (from as f32).sqrt().recip(),
        }
    }

    /// The matrix by which attention adds to the hidden state.
    pub(super) fn attention_adding(from: u64) -> Self {
        Fill::Matrix {
            std: ATTENTION_ADDS * (from as f32).sqrt().recip(),
        }
    }

    /// The matrix by which the feed-forward adds to the hidden state.
    pub(super) fn feed_forward_adding(from: u64) -> Self {
        Fill::Matrix {
            std: FEED_FORWARD_ADDS * (from as f32).sqrt().recip(),
        }
    }

    /// Fills one row, packed as `tensor_type`; a `quiet` one is that of a special token.
    pub(super) fn fill_row(
        &self,
        tensor_type: TensorType,
        quiet: bool,
        rng: &mut ChaCha12Rng,
        row: &mut [u8],
    ) {
        match self {
            Fill::Matrix { std } => fill_matrix(tensor_type, *std, rng, row),
            Fill::Embedding { std } if quiet => fill_matrix(tensor_type, *std * QUIET, rng, row),
            Fill::Embedding { std } => fill_matrix(tensor_type, *std, rng, row),
            Fill::Norm => fill_f32(rng, row, |even| 1.0 + STRAY * even),
            Fill::SmallNorm => fill_f32(rng, row, |even| SMALL_NORM * (1.0 + STRAY * even)),
            Fill::Bias => fill_f32(rng, row, |even| BIAS * even),
            Fill::Table(table) => {
                for (number, bytes) in table.iter().zip(row.chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&number.to_le_bytes());
                }
            }
        }
    }
}

/// Returns the number by which llama.cpp names a file whose matrices are of this type.
pub(super) fn file_type(matrices: TensorType) -> u32 {
    match matrices {
        TensorType::F32 => 0,
        TensorType::F16 => 1,
        TensorType::Q4_0 => 2,
        _ => 7, // Q8_0
    }
}

fn fill_matrix(tensor_type: TensorType, std: f32, rng: &mut ChaCha12Rng, row: &mut [u8]) {
    match tensor_type {
        TensorType::Q4_0 => fill_blocks::<18>(std / Q4_STD, rng, row, |byte| {
            // a nibble of 8 is zero; 0 would be −8, and the mean not zero
            let nibble = |bits: u8| if bits == 0 { 8 } else { bits };
            nibble(byte & 15) | nibble(byte >> 4) << 4
        }),
        TensorType::Q8_0 => fill_blocks::<34>(std / Q8_STD, rng, row, |byte| {
            if byte == 0x80 { 0x81 } else { byte }
        }),
        TensorType::F16 => {
            rng.fill_bytes(row);
            for bytes in row.chunks_exact_mut(2) {
                let even = f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0;
                let number = f16::from_f32(even * std / EVEN_STD);
                bytes.copy_from_slice(&number.to_le_bytes());
            }
        }
        _ => fill_f32(rng, row, |even| even * std / EVEN_STD), // F32
    }
}

/// Fills a row of blocks of `BYTES`: a scale in two bytes, then packed numbers, made of random bytes
/// by `pack`. Scales differ between blocks, so that swapping two shows.
fn fill_blocks<const BYTES: usize>(
    scale: f32,
    rng: &mut ChaCha12Rng,
    row: &mut [u8],
    pack: impl Fn(u8) -> u8,
) {
    rng.fill_bytes(row);

    for block in row.chunks_exact_mut(BYTES) {
        let (head, numbers) = block.split_at_mut(2);
        let factor = 0.75 + f32::from(head[0]) / 512.0; // 0.75 to 1.25, 1 on average
        head.copy_from_slice(&f16::from_f32(scale * factor).to_le_bytes());
        for byte in numbers {
            *byte = pack(*byte);
        }
    }
}

/// Fills a row of floats with what `make` makes of numbers drawn evenly from −1 to 1.
fn fill_f32(rng: &mut ChaCha12Rng, row: &mut [u8], make: impl Fn(f32) -> f32) {
    rng.fill_bytes(row);

    for bytes in row.chunks_exact_mut(4) {
        let bits = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let even = (f64::from(bits) / 2_147_483_648.0) as f32;
        bytes.copy_from_slice(&make(even).to_le_bytes());
    }
}

//! How weights are packed: the tensor types of GGUF, and how many bytes each takes.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a tensor's elements are packed into blocks of bytes.
///
/// Numbers and sizes are those of `ggml.h` and `ggml-common.h` in llama.cpp. A number that was
/// withdrawn there (the interleaved Q4_0 types, for one) is unknown here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Index into [`KINDS`].
    index: u8,
}

/// One line of the table: number in the file, name, elements in a block, bytes of a block.
struct Kind {
    id: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
}

const fn kind(id: u32, name: &'static str, block_elements: u64, block_bytes: u64) -> Kind {
    Kind {
        id,
        name,
        block_elements,
        block_bytes,
    }
}

const KINDS: [Kind; 35] = [
    kind(0, "F32", 1, 4),
    kind(1, "F16", 1, 2),
    kind(2, "Q4_0", 32, 18),
    kind(3, "Q4_1", 32, 20),
    kind(6, "Q5_0", 32, 22),
    kind(7, "Q5_1", 32, 24),
    kind(8, "Q8_0", 32, 34),
    kind(9, "Q8_1", 32, 36),
    kind(10, "Q2_K", 256, 84),
    kind(11, "Q3_K", 256, 110),
    kind(12, "Q4_K", 256, 144),
    kind(13, "Q5_K", 256, 176),
    kind(14, "Q6_K", 256, 210),
    kind(15, "Q8_K", 256, 292),
    kind(16, "IQ2_XXS", 256, 66),
    kind(17, "IQ2_XS", 256, 74),
    kind(18, "IQ3_XXS", 256, 98),
    kind(19, "IQ1_S", 256, 50),
    kind(20, "IQ4_NL", 32, 18),
    kind(21, "IQ3_S", 256, 110),
    kind(22, "IQ2_S", 256, 82),
    kind(23, "IQ4_XS", 256, 136),
    kind(24, "I8", 1, 1),
    kind(25, "I16", 1, 2),
    kind(26, "I32", 1, 4),
    kind(27, "I64", 1, 8),
    kind(28, "F64", 1, 8),
    kind(29, "IQ1_M", 256, 56),
    kind(30, "BF16", 1, 2),
    kind(34, "TQ1_0", 256, 54),
    kind(35, "TQ2_0", 256, 66),
    kind(39, "MXFP4", 32, 17),
    kind(40, "NVFP4", 64, 36),
    kind(41, "Q1_0", 128, 18),
    kind(42, "Q2_0", 64, 18),
];

impl TensorType {
    /// 32-bit floats: norms and biases, always.
    pub const F32: Self = Self { index: 0 };
    /// 16-bit floats.
    pub const F16: Self = Self { index: 1 };
    /// Blocks of 32 four-bit numbers and one scale.
    pub const Q4_0: Self = Self { index: 2 };
    /// Blocks of 32 bytes and one scale.
    pub const Q8_0: Self = Self { index: 6 };

    /// Returns the type with number `id` in a file, if it is known.
    pub fn from_id(id: u32) -> Option<Self> {
        let index = KINDS.iter().position(|kind| kind.id == id)?;

        Some(Self {
            index: u8::try_from(index).expect("the table has fewer than 256 lines"),
        })
    }

    /// Returns the type called `name`, in capitals or not, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        let kind = KINDS
            .iter()
            .find(|kind| kind.name.eq_ignore_ascii_case(name))?;

        Self::from_id(kind.id)
    }

    /// Returns the number that stands for this type in a file.
    pub fn id(self) -> u32 {
        self.kind().id
    }

    /// Returns the name, as llama.cpp writes it in capitals.
    pub fn name(self) -> &'static str {
        self.kind().name
    }

    /// Returns the number of elements packed together; a row is a multiple of it.
    pub fn block_elements(self) -> u64 {
        self.kind().block_elements
    }

    /// Returns the bytes that a tensor of shape `dims` takes, or `None` if its rows are not made
    /// of whole blocks or the product does not fit 64 bits.
    pub fn bytes_of(self, dims: &[u64]) -> Option<u64> {
        let kind = self.kind();
        let row = dims.first().copied().unwrap_or(1);
        if row % kind.block_elements != 0 {
            return None;
        }

        dims.iter()
            .skip(1)
            .try_fold(row / kind.block_elements, |blocks, &dim| {
                blocks.checked_mul(dim)
            })?
            .checked_mul(kind.block_bytes)
    }

    fn kind(self) -> &'static Kind {
        &KINDS[usize::from(self.index)]
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TensorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TensorType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;

        Self::from_name(&name).ok_or_else(|| D::Error::custom(format!("no tensor type {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_types_are_the_ones_they_say() {
        let named = [
            (TensorType::F32, 0, "F32"),
            (TensorType::F16, 1, "F16"),
            (TensorType::Q4_0, 2, "Q4_0"),
            (TensorType::Q8_0, 8, "Q8_0"),
        ];

        for (tensor_type, id, name) in named {
            assert_eq!((tensor_type.id(), tensor_type.name()), (id, name));
            assert_eq!(TensorType::from_id(id), Some(tensor_type));
            assert_eq!(
                TensorType::from_name(&name.to_lowercase()),
                Some(tensor_type)
            );
        }
    }

    /// Sizes taken from a real file: rows of SmolLM2-135M and Gemma 3 270M.
    #[test]
    fn bytes_follow_blocks() {
        let cases = [
            ("F32", &[576][..], Some(2304)),
            ("Q8_0", &[576, 49152], Some(30_081_024)),
            ("Q4_1", &[1536, 576], Some(552_960)),
            ("Q4_K", &[1024, 640], Some(368_640)),
            ("Q6_K", &[2048, 640], Some(1_075_200)),
            ("Q4_0", &[33, 2], None),
            ("F32", &[u64::MAX, 2], None),
            ("Q4_0", &[32, u64::MAX], None),
        ];

        for (name, dims, bytes) in cases {
            let tensor_type = TensorType::from_name(name).unwrap();
            assert_eq!(tensor_type.bytes_of(dims), bytes, "{name} {dims:?}");
        }
    }
}

//! How a sequence's exported cache looks: a header of ours, then llama.cpp's state.
//!
//! ```text
//! "LLKV" · version u32 · n_layers u32 · n_embd u32 · n_sequences u32 · n_positions u32 · state
//! ```
//!
//! All numbers little-endian. The header says what llama.cpp's state does not, or says too late: whose it is and how
//! many positions it claims. llama.cpp checks the rest against its own types and row sizes.

const MAGIC: &[u8; 4] = b"LLKV";
const VERSION: u32 = 1;
/// Magic, version and four numbers.
const HEADER_BYTES: usize = 24;

/// What an exported cache says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) n_layers: u32,
    pub(crate) n_embd: u32,
    /// llama.cpp's state lists all sequences, the others as empty.
    pub(crate) n_sequences: u32,
    pub(crate) n_positions: u32,
}

impl Header {
    pub(crate) fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        for n in [VERSION, self.n_layers, self.n_embd, self.n_sequences, self.n_positions] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    /// Reads a header and returns it with the state behind it.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, state) = bytes.split_at_checked(HEADER_BYTES)?;
        let (magic, numbers) = header.split_at(MAGIC.len());
        let (numbers, _) = numbers.as_chunks::<4>();
        let &[version, n_layers, n_embd, n_sequences, n_positions] = numbers else {
            return None;
        };
        let read = u32::from_le_bytes;

        (magic == MAGIC && read(version) == VERSION).then_some((
            Self {
                n_layers: read(n_layers),
                n_embd: read(n_embd),
                n_sequences: read(n_sequences),
                n_positions: read(n_positions),
            },
            state,
        ))
    }
}

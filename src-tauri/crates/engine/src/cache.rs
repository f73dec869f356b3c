//! How a sequence's exported cache looks, so that it fits wherever the same layers are loaded.
//!
//! ```text
//! "LLKV" · version · n_layers · n_embd · n_positions · n_caches · magic · cache × n_caches
//! ```
//!
//! All numbers are 32 bits, little-endian. A model with a sliding window has two caches: one of the
//! layers that see everything, one of those that slide; any other has one. A cache is a section of
//! llama.cpp's own state:
//!
//! ```text
//! n_cells · (position · 1 · sequence) × n_cells · transposed · n_layers · rotation · rotation
//!         · (type · row bytes u64 · rows) × n_layers for the keys, the same for the values
//! ```
//!
//! llama.cpp's state has such a section for each sequence that its context has room for, all but
//! one of them empty. They are left out here, so that a phone with room for four takes over from
//! one with room for eight. And what comes from another phone is checked here, section by section,
//! before llama.cpp sees it.

const FORMAT: &[u8; 4] = b"LLKV";
const VERSION: u32 = 1;
/// llama.cpp's number for "this is the state of a sequence", and the sequence.
const STATE_HEAD_BYTES: usize = 8;
/// Most caches that a model has.
const CACHES_MAX: u32 = 2;

/// What an exported cache says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) n_layers: u32,
    pub(crate) n_embd: u32,
    pub(crate) n_positions: u32,
}

/// Makes an exported cache of llama.cpp's state of `sequence`, one of `n_sequences`.
///
/// Returns `None` if the state does not look as described above: llama.cpp has changed, then.
pub(crate) fn from_state(
    header: Header,
    state: &[u8],
    sequence: u32,
    n_sequences: u32,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut rest = Reader(state);
    let (magic, _) = (rest.number()?, rest.number()?);
    let mut caches = Vec::with_capacity(CACHES_MAX as usize);
    while !rest.0.is_empty() {
        let n_streams = rest.number()?;
        for stream in 0..n_streams {
            let section = rest.section()?;
            match stream == sequence {
                true => caches.push(section.bytes),
                false if section.n_cells == 0 => {}
                false => return None,
            }
        }
        if n_streams != n_sequences {
            return None;
        }
    }

    out.extend_from_slice(FORMAT);
    let Header {
        n_layers,
        n_embd,
        n_positions,
    } = header;
    for number in [
        VERSION,
        n_layers,
        n_embd,
        n_positions,
        caches.len() as u32,
        magic,
    ] {
        put(out, number);
    }
    caches.iter().for_each(|cache| out.extend_from_slice(cache));

    Some(())
}

/// Returns what an exported cache says about itself, and llama.cpp's state for `sequence`, one of
/// `n_sequences`.
///
/// Returns `None` if anything is not as described above: the positions of each cache ascend to the
/// last, and the first cache has them all.
pub(crate) fn to_state(bytes: &[u8], sequence: u32, n_sequences: u32) -> Option<(Header, Vec<u8>)> {
    let mut rest = Reader(bytes);
    if rest.take(FORMAT.len())? != FORMAT || rest.number()? != VERSION {
        return None;
    }
    let header = Header {
        n_layers: rest.number()?,
        n_embd: rest.number()?,
        n_positions: rest.number()?,
    };
    let n_caches = rest.number()?;
    let magic = rest.number()?;
    if n_caches == 0 || n_caches > CACHES_MAX {
        return None;
    }

    let empty_bytes = 4 * (n_sequences as usize + 1);
    let mut state =
        Vec::with_capacity(STATE_HEAD_BYTES + rest.0.len() + CACHES_MAX as usize * empty_bytes);
    put(&mut state, magic);
    put(&mut state, sequence);
    for i in 0..n_caches {
        let cache = rest.section()?;
        if !cache.reaches(header.n_positions) || (i == 0 && cache.n_cells != header.n_positions) {
            return None;
        }
        put(&mut state, n_sequences);
        for stream in 0..n_sequences {
            match stream == sequence {
                true => state.extend_from_slice(cache.bytes),
                false => put(&mut state, 0),
            }
        }
    }

    rest.0.is_empty().then_some((header, state))
}

/// Makes a cache of `n_positions` out of one of few, by repeating its first position: as much to
/// look at, for measuring, without having computed it.
///
/// Layers that slide get all positions too: where they were computed one after the other, llama.cpp
/// keeps those out of the window and passes over them. Returns `None` if the bytes are not as
/// described above, or hold no position.
pub(crate) fn stretch(bytes: &[u8], n_positions: u32) -> Option<Vec<u8>> {
    let mut rest = Reader(bytes);
    let mut out = rest.take(FORMAT.len() + 3 * 4)?.to_vec(); // up to the number of positions
    rest.number()?;
    put(&mut out, n_positions);
    let n_caches = rest.number()?;
    put(&mut out, n_caches);
    put(&mut out, rest.number()?);

    for _ in 0..n_caches {
        rest.stretched_section(n_positions, &mut out)?;
    }

    rest.0.is_empty().then_some(out)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

/// One sequence's part of one cache.
struct Section<'a> {
    n_cells: u32,
    cells: &'a [[[u8; 4]; 3]],
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;

        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;

        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn section(&mut self) -> Option<Section<'a>> {
        let start = self.0;
        let n_cells = self.number()?;
        let mut cells = &[][..];
        if n_cells > 0 {
            cells = self
                .take((n_cells as usize).checked_mul(12)?)?
                .as_chunks()
                .0
                .as_chunks()
                .0;
            let (transposed, n_layers) = (self.number()?, self.number()?);
            self.take(8)?;
            if transposed != 0 {
                return None;
            }
            for _ in 0..n_layers.checked_mul(2)? {
                self.rows(n_cells)?;
            }
        }
        let n_bytes = start.len() - self.0.len();

        Some(Section {
            n_cells,
            cells,
            bytes: &start[..n_bytes],
        })
    }

    /// Copies a section, its first cell and row for each position.
    fn stretched_section(&mut self, n_positions: u32, out: &mut Vec<u8>) -> Option<()> {
        let n_before = self.number()?;
        let cells = self.take((n_before as usize).checked_mul(12)?)?;
        let rest_of_cell = cells.get(4..12)?;
        put(out, n_positions);
        for position in 0..n_positions {
            put(out, position);
            out.extend_from_slice(rest_of_cell);
        }

        let head = self.take(16)?;
        out.extend_from_slice(head);
        let n_layers = Reader(&head[4..]).number()?;
        for _ in 0..n_layers.checked_mul(2)? {
            let head = self.take(12)?;
            out.extend_from_slice(head);
            let row_bytes = u64::from_le_bytes(head[4..].try_into().ok()?);
            let row_bytes = usize::try_from(row_bytes).ok()?;
            let rows = self.take(row_bytes.checked_mul(n_before as usize)?)?;
            for _ in 0..n_positions {
                out.extend_from_slice(&rows[..row_bytes]);
            }
        }

        Some(())
    }

    /// Skips the keys or the values of one layer.
    fn rows(&mut self, n_cells: u32) -> Option<()> {
        self.take(4)?;
        let row_bytes = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let n_bytes = usize::try_from(row_bytes)
            .ok()?
            .checked_mul(n_cells as usize)?;
        self.take(n_bytes)?;

        Some(())
    }
}

impl Section<'_> {
    /// Returns whether the positions ascend to the last of `n_positions`, each in one sequence.
    fn reaches(&self, n_positions: u32) -> bool {
        let mut positions = self
            .cells
            .iter()
            .map(|[position, ..]| u32::from_le_bytes(*position));
        let belong_to_one = self
            .cells
            .iter()
            .all(|[_, n, _]| u32::from_le_bytes(*n) == 1);

        belong_to_one
            && positions.clone().is_sorted_by(|a, b| a < b)
            && positions.next_back() == n_positions.checked_sub(1)
    }
}

fn put(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

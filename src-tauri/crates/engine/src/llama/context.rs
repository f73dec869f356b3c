//! A model's KV cache and buffers, and the one function that computes.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::tap::{Tap, TapNames, on_node};
use super::{Model, ThreadPool, Token};

/// llama.cpp rounds the positions of a sequence up to a multiple of this; we do it first, to count
/// memory right.
const N_CTX_STEP: u32 = 256;

/// Rows of a decode from which on its scratch memory is given back.
///
/// Scratch grows with the rows: 0.14 MB each for layers of a Llama-1B shape. What a token at a time
/// needs is too little to be worth a call to the system.
const RELEASED_FROM_ROWS: i32 = 16;

/// How a context is made.
#[derive(Debug, Clone)]
pub(crate) struct ContextOptions {
    /// Positions per sequence, rounded up to a multiple of 256.
    pub(crate) n_ctx: u32,
    /// Sequences, each with a cache of `n_ctx` positions of its own.
    pub(crate) n_sequences: u32,
    /// Most rows of one decode.
    pub(crate) n_batch: u32,
    /// Most rows of one decode that may be wanted; 0 for as many as rows.
    pub(crate) n_wanted_max: u32,
    /// Where the graph is entered and left; empty for plain llama.cpp.
    pub(crate) tap: TapNames,
    /// Whether to pin attention to the kernel that shards use, rather than leave it to llama.cpp.
    ///
    /// Left alone llama.cpp decides by looking at the graph; on a CPU it decides the same.
    pub(crate) pin_attention: bool,
}

/// What goes into a decode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// One token per row.
    Tokens(&'a [Token]),
    /// `[n_rows, n_embd]`.
    Hidden(&'a [f32]),
}

/// Where one row of a decode belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) sequence: u32,
    pub(crate) position: u32,
    pub(crate) wanted: bool,
}

/// Why a decode failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// llama.cpp returned this number; it has removed the rows from the KV cache.
    Llama(i32),
    /// The graph has no such entry or exit, or of another shape. The rows may be in the KV cache.
    Tap,
}

/// A context of one model.
///
/// Sequences do not share cells (`kv_unified = false`): each has a cache of its own, laid out as if
/// it were alone, so that what one computes does not depend on what others did before.
pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    /// Made by `Box::into_raw`, freed in `drop`: llama.cpp holds the address.
    tap: NonNull<Tap>,
    is_tapped: bool,
    n_embd: usize,
    batch: Batch,
    pool: Arc<ThreadPool>,
    /// How many of the pool's threads llama.cpp was told to use.
    n_threads: i32,
    /// Pools that were used before: llama.cpp's backend lets the last one rest only when the next
    /// graph comes, so it must still be there.
    former_pools: Vec<Arc<ThreadPool>>,
    model: Arc<Model>,
}

// SAFETY: a llama.cpp context has no thread affinity. It, the tap and the batch's pointers are
// reached only through `&mut self`, and the pool only under its lock.
unsafe impl Send for Context {}

impl Context {
    /// Allocates cache and buffers; `None` if llama.cpp refuses or has no memory.
    pub(crate) fn new(
        model: Arc<Model>,
        pool: Arc<ThreadPool>,
        options: &ContextOptions,
    ) -> Option<Self> {
        if [options.n_ctx, options.n_sequences, options.n_batch].contains(&0) {
            return None; // llama.cpp takes 0 for "as large as can be"
        }
        let n_ctx = options.n_ctx.checked_next_multiple_of(N_CTX_STEP)?;
        let n_cells = n_ctx.checked_mul(options.n_sequences)?;
        let n_threads = n_threads_of(&pool);
        let is_tapped = !options.tap.is_empty();
        let tap = Box::into_raw(Box::new(Tap::new(options.tap.clone())));

        // SAFETY: `model` outlives the context (it is a field of `Self`, dropped after `drop` has
        // run), as do the tap and the pool; other pointers in the default parameters are null.
        let raw = unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = n_cells;
            params.n_seq_max = options.n_sequences;
            params.n_batch = options.n_batch;
            params.n_ubatch = options.n_batch;
            params.n_outputs_max = options.n_wanted_max;
            params.n_threads = n_threads;
            params.n_threads_batch = n_threads;
            if options.pin_attention {
                params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
            }
            if is_tapped {
                params.cb_eval = Some(on_node);
                params.cb_eval_user_data = tap.cast();
            }
            sys::llama_init_from_model(model.as_ptr(), params)
        };

        let tap = NonNull::new(tap).expect("a box is never null");
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: made by `Box::into_raw` above, and no context holds it.
            drop(unsafe { Box::from_raw(tap.as_ptr()) });
            return None;
        };
        // SAFETY: both are valid; the pool outlives the context.
        unsafe { sys::llama_attach_threadpool(raw.as_ptr(), pool.as_ptr(), pool.as_ptr()) }

        let n_embd = model.n_embd();
        let batch = Batch::with_capacity(options.n_batch, options.n_sequences);

        Some(Self {
            raw,
            tap,
            is_tapped,
            n_embd,
            batch,
            pool,
            n_threads,
            former_pools: Vec::new(),
            model,
        })
    }

    /// Computes rows in one graph and stores their keys and values.
    ///
    /// All sequences of one decode must bring the same number of rows, and be consecutive numbers
    /// in ascending order: otherwise llama.cpp would split the rows and reorder them.
    ///
    /// # Shapes
    ///
    /// - `input`: one token or `[n_embd]` per row
    /// - `output`: what the exit holds: `[n_rows, n_embd]`, or `[n_wanted, n_embd]` where the last
    ///   layer dropped the others; empty if the context has no exit
    ///
    /// # Panics
    ///
    /// If `input` is not as long as `rows`, or there are more rows than `n_batch`.
    pub(crate) fn decode(
        &mut self,
        input: Input<'_>,
        rows: impl Iterator<Item = Row>,
        output: &mut [f32],
    ) -> Result<(), DecodeError> {
        let batch = self.batch.fill(input, rows, self.n_embd);
        let hidden = match input {
            Input::Hidden(hidden) => hidden,
            Input::Tokens(_) => &[],
        };

        // SAFETY: the tap is used by this thread only, and by llama.cpp's callback during the
        // decode below, when no reference to it lives; `hidden` and `output` are borrowed until
        // after `disarm`.
        unsafe { self.tap.as_mut() }.arm(hidden, output);
        let n_threads = n_threads_of(&self.pool);
        let status = {
            let _busy = self.pool.lock();
            if std::mem::replace(&mut self.n_threads, n_threads) != n_threads {
                // SAFETY: no decode runs, as `self` is borrowed; the pool has as many threads.
                unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), n_threads, n_threads) }
            }
            // SAFETY: the batch points to arrays as long as it says, which llama.cpp reads and
            // copies.
            unsafe { sys::llama_decode(self.raw.as_ptr(), batch) }
        };
        // SAFETY: the decode is over: nobody else holds the tap.
        let tap = unsafe { self.tap.as_mut() };
        let passed = tap.disarm();
        if batch.n_tokens >= RELEASED_FROM_ROWS {
            // SAFETY: no graph of this context runs, and the next one writes before it reads.
            unsafe { tap.scratch().release() }
        }

        match status {
            0 if passed || !self.is_tapped => Ok(()),
            0 => Err(DecodeError::Tap),
            code => Err(DecodeError::Llama(code)),
        }
    }

    /// Computes with the threads of another pool from the next decode on.
    pub(crate) fn use_pool(&mut self, pool: &Arc<ThreadPool>) {
        let n_threads = n_threads_of(pool);

        // SAFETY: no decode runs, as `self` is borrowed; both pools outlive the context.
        unsafe {
            let (raw, threads) = (self.raw.as_ptr(), pool.as_ptr());
            sys::llama_attach_threadpool(raw, threads, threads);
            sys::llama_set_n_threads(raw, n_threads, n_threads);
        }
        self.n_threads = n_threads;
        let former = std::mem::replace(&mut self.pool, Arc::clone(pool));
        self.former_pools.push(former);
    }

    /// Returns the logits of the last decode: `[n_wanted, n_vocab]`.
    ///
    /// # Panics
    ///
    /// If the last decode wanted fewer rows.
    pub(crate) fn logits(&mut self, n_wanted: usize) -> &mut [f32] {
        // SAFETY: llama.cpp's buffer holds the rows that the last decode wanted, checked below; it
        // lives until the next decode, and the slice borrows `self` mutably until then.
        unsafe {
            let len = n_wanted * self.model.n_vocab();
            let logits = sys::llama_get_logits(self.raw.as_ptr());
            assert!(
                !logits.is_null() && n_wanted <= self.batch.n_wanted,
                "no such logits"
            );
            std::slice::from_raw_parts_mut(logits, len)
        }
    }

    /// Forgets a sequence from `position` on.
    pub(crate) fn forget_from(&mut self, sequence: u32, position: u32) {
        // SAFETY: the memory belongs to the context; the sequence is one of its own (llama.cpp
        // aborts otherwise).
        unsafe {
            sys::llama_memory_seq_rm(self.memory(), self.own(sequence), signed(position), -1)
        };
    }

    /// Forgets all sequences.
    pub(crate) fn forget_all(&mut self) {
        // SAFETY: the memory belongs to the context.
        unsafe { sys::llama_memory_clear(self.memory(), false) }
    }

    /// Returns the first position that is still in a sequence's cache, if any is.
    pub(crate) fn first_position(&self, sequence: u32) -> Option<u32> {
        // SAFETY: as above; only reads.
        let position = unsafe { sys::llama_memory_seq_pos_min(self.memory(), self.own(sequence)) };

        u32::try_from(position).ok()
    }

    /// Appends a sequence's part of the cache in llama.cpp's own format; returns whether there was
    /// room for it.
    pub(crate) fn append_state(&mut self, sequence: u32, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        // SAFETY: the sequence is the context's own; `size` bytes can be written after `start`.
        unsafe {
            let sequence = self.own(sequence);
            let size = sys::llama_state_seq_get_size(self.raw.as_ptr(), sequence);
            out.resize(start + size, 0);
            let state = out.as_mut_ptr().add(start);
            sys::llama_state_seq_get_data(self.raw.as_ptr(), state, size, sequence) == size
        }
    }

    /// Replaces a sequence's part of the cache by what [`Context::append_state`] wrote, maybe
    /// elsewhere.
    ///
    /// Returns whether llama.cpp took all of it; if not, the sequence is to be forgotten.
    pub(crate) fn set_state(&mut self, sequence: u32, state: &[u8]) -> bool {
        // SAFETY: the sequence is the context's own; llama.cpp reads at most `state.len()` bytes
        // and checks types, row sizes and layer counts against its own.
        unsafe {
            let (raw, sequence) = (self.raw.as_ptr(), self.own(sequence));
            sys::llama_state_seq_set_data(raw, state.as_ptr(), state.len(), sequence) == state.len()
        }
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: a decoder's context always has a memory, which lives as long.
        unsafe { sys::llama_get_memory(self.raw.as_ptr()) }
    }

    /// # Panics
    ///
    /// If the context has no such sequence: llama.cpp would end the process.
    fn own(&self, sequence: u32) -> sys::llama_seq_id {
        assert!(
            (sequence as usize) < self.batch.sequences.len(),
            "no sequence {sequence}"
        );

        signed(sequence)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: freed once, the context first, as it holds the tap's address.
        unsafe {
            sys::llama_free(self.raw.as_ptr());
            drop(Box::from_raw(self.tap.as_ptr()));
        }
    }
}

/// The arrays of a `llama_batch`, kept from step to step.
struct Batch {
    tokens: Vec<Token>,
    positions: Vec<sys::llama_pos>,
    /// All ones: a row belongs to one sequence.
    n_sequences: Vec<i32>,
    /// 0, 1, 2, …: what `sequence_of` points into.
    sequences: Vec<sys::llama_seq_id>,
    sequence_of: Vec<*mut sys::llama_seq_id>,
    wanted: Vec<i8>,
    n_wanted: usize,
    n_rows_max: usize,
}

impl Batch {
    fn with_capacity(n_rows_max: u32, n_sequences: u32) -> Self {
        let n_rows_max = n_rows_max as usize;

        Self {
            tokens: Vec::with_capacity(n_rows_max),
            positions: Vec::with_capacity(n_rows_max),
            n_sequences: vec![1; n_rows_max],
            sequences: (0..signed(n_sequences)).collect(),
            sequence_of: Vec::with_capacity(n_rows_max),
            wanted: Vec::with_capacity(n_rows_max),
            n_wanted: 0,
            n_rows_max,
        }
    }

    /// Returns the rows as llama.cpp wants them. The pointers are good until `self` or `input`
    /// changes.
    fn fill(
        &mut self,
        input: Input<'_>,
        rows: impl Iterator<Item = Row>,
        n_embd: usize,
    ) -> sys::llama_batch {
        self.positions.clear();
        self.sequence_of.clear();
        self.wanted.clear();
        for row in rows {
            self.positions.push(signed(row.position));
            self.sequence_of
                .push(&raw mut self.sequences[row.sequence as usize]);
            self.wanted.push(i8::from(row.wanted));
        }

        let n_rows = self.positions.len();
        let n_input = match input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Hidden(hidden) => hidden.len() / n_embd,
        };
        assert!(
            n_rows <= self.n_rows_max && n_rows == n_input,
            "{n_rows} rows, {n_input} inputs"
        );
        self.n_wanted = self.wanted.iter().filter(|&&wanted| wanted != 0).count();

        let (token, embd) = match input {
            Input::Tokens(tokens) => {
                self.tokens.clear();
                self.tokens.extend_from_slice(tokens);
                (self.tokens.as_mut_ptr(), std::ptr::null_mut())
            }
            // llama.cpp declares its inputs mutable but only reads them.
            Input::Hidden(hidden) => (std::ptr::null_mut(), hidden.as_ptr().cast_mut()),
        };

        sys::llama_batch {
            n_tokens: i32::try_from(n_rows)
                .expect("at most n_batch, which llama.cpp took as an i32"),
            token,
            embd,
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.n_sequences.as_mut_ptr(),
            seq_id: self.sequence_of.as_mut_ptr(),
            logits: self.wanted.as_mut_ptr(),
        }
    }
}

fn n_threads_of(pool: &ThreadPool) -> i32 {
    i32::try_from(pool.n_threads()).expect("at most N_THREADS_MAX")
}

/// Positions and sequences are small: a context has at most `i32::MAX` of each.
fn signed(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

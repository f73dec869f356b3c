//! Giving back what a graph needed in between.
//!
//! llama.cpp keeps a buffer per context for the intermediate results of its largest graph. A stage
//! has several contexts, of which one computes at a time, so their buffers would stay in memory for
//! nothing: with 128 rows and layers of a Llama-1B shape, 17 MB for each shard. There is no way to
//! share them, but between two graphs nothing in them counts. So after a large graph we tell the
//! system that it may have the pages back; the next large graph gets empty ones.

use std::ffi::c_void;

use llama_cpp_sys_2 as sys;

/// Size of a buffer from which on it is given back.
///
/// Getting empty pages costs 0.4 ms per MiB on the test machine: 1.5 % of a prefill through two-layer
/// shards of a Llama-1B shape, 4 % of one through shards of SmolLM2, whose buffers of 4 MiB may as
/// well stay.
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))] // elsewhere pages stay
const RELEASED_FROM_BYTES: usize = 6 << 20;

/// A context's buffer for intermediate results, as far as it is known.
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))] // elsewhere pages stay
#[derive(Debug, Clone, Copy)]
pub(super) struct Scratch {
    start: *mut c_void,
    n_bytes: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            start: std::ptr::null_mut(),
            n_bytes: 0,
        }
    }
}

impl Scratch {
    /// Returns the buffer that holds a node of a graph.
    pub(super) fn of(node: &sys::ggml_tensor) -> Self {
        // SAFETY: a computed node lies in a buffer of its context. Only memory of the CPU is ours
        // to give back.
        unsafe {
            if node.buffer.is_null() || !sys::ggml_backend_buffer_is_host(node.buffer) {
                return Self::default();
            }
            Self {
                start: sys::ggml_backend_buffer_get_base(node.buffer),
                n_bytes: sys::ggml_backend_buffer_get_size(node.buffer),
            }
        }
    }

    /// Gives the buffer's pages back to the system; they read as zeros from then on.
    ///
    /// # Safety
    ///
    /// The context that the buffer belongs to is alive, and no graph of it runs.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) unsafe fn release(self) {
        use rustix::mm::{Advice, madvise};

        if self.n_bytes < RELEASED_FROM_BYTES {
            return;
        }
        let page = rustix::param::page_size();
        let n_skipped = self.start.align_offset(page);
        let n_bytes = self.n_bytes.saturating_sub(n_skipped) / page * page;

        // SAFETY: whole pages inside the buffer, which is private memory: nobody else's data lies
        // in them, and by the caller's promise nobody needs what does. On failure the pages merely
        // stay.
        let released = unsafe {
            madvise(
                self.start.byte_add(n_skipped),
                n_bytes,
                Advice::LinuxDontNeed,
            )
        };
        if let Err(error) = released {
            tracing::debug!(%error, n_bytes, "Scratch memory stays");
        }
    }

    /// Elsewhere the pages stay.
    ///
    /// # Safety
    ///
    /// None is needed.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) unsafe fn release(self) {}
}

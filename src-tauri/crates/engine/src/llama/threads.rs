//! The threads that do the arithmetic: one pool for every context of the process.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::processor::fast_cores;

/// How many rounds an idle worker spins before it sleeps, in llama.cpp's unit of about 130,000.
///
/// llama.cpp's default is 50, which keeps every core busy for about 0.1 s after each graph: a phone
/// that waits for its turn in the ring would burn its battery on nothing. With 0 a worker sleeps at
/// once and is woken for each graph.
const POLL: u32 = 0;

/// Most threads that llama.cpp takes (`GGML_MAX_N_THREADS`).
const N_THREADS_MAX: u32 = 512;

/// A pool of threads that computes one graph at a time.
///
/// Without a pool every graph would start threads of its own (`ggml_graph_compute` does when it is
/// given none). With one thread the pool has no worker at all: the caller computes, and nothing
/// spins.
pub(crate) struct ThreadPool {
    raw: NonNull<sys::ggml_threadpool>,
    n_threads: u32,
    /// How many of them compute.
    n_used: AtomicU32,
    /// Held while a graph runs: the pool holds the state of one graph only.
    busy: Mutex<()>,
}

// SAFETY: llama.cpp's pool is plain heap memory and joinable threads without affinity to their
// creator; `busy` is held by whoever computes, so one thread at a time uses it.
unsafe impl Send for ThreadPool {}
// SAFETY: as above: the pointer is only read through `&self`, and used for computing under `busy`.
unsafe impl Sync for ThreadPool {}

impl ThreadPool {
    /// Starts `n_threads - 1` workers; the thread that computes is the other one. Where cores differ, the fast ones are
    /// kept to, if there are enough.
    pub(crate) fn new(n_threads: u32) -> Self {
        let n_threads = n_threads.clamp(1, N_THREADS_MAX);

        // SAFETY: the parameters are a plain struct, read during the call; llama.cpp copies what it
        // keeps.
        let raw = unsafe {
            let mut params = sys::ggml_threadpool_params_default(
                i32::try_from(n_threads).expect("at most N_THREADS_MAX"),
            );
            params.poll = POLL;
            keep_to(&mut params.cpumask, &cores_for(n_threads));
            sys::ggml_threadpool_new(&raw mut params)
        };

        Self {
            raw: NonNull::new(raw).expect("llama.cpp aborts when it cannot start a thread"),
            n_threads,
            n_used: AtomicU32::new(n_threads),
            busy: Mutex::new(()),
        }
    }

    /// Returns the number of threads that compute a graph, the caller included.
    pub(crate) fn n_threads(&self) -> u32 {
        self.n_used.load(Ordering::Relaxed)
    }

    /// Lets half of the threads rest from the next graph on, or none. The others sleep, and cost nothing.
    pub(crate) fn spare(&self, is_spared: bool) {
        let n_used = match is_spared {
            true => (self.n_threads / 2).max(1),
            false => self.n_threads,
        };

        self.n_used.store(n_used, Ordering::Relaxed);
    }

    /// Waits until no graph runs, and keeps others from starting one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data that a panic could leave half-written.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.raw.as_ptr()
    }
}

/// Returns the cores that so many threads are kept to; none if they may run anywhere.
fn cores_for(n_threads: u32) -> Vec<usize> {
    let fast = fast_cores().filter(|cores| cores.len() >= n_threads as usize);

    fast.unwrap_or_default()
}

/// Marks cores in llama.cpp's mask. A mask without any lets threads run anywhere.
fn keep_to(mask: &mut [bool], cores: &[usize]) {
    for (core, is_used) in mask.iter_mut().enumerate() {
        *is_used = cores.contains(&core);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // SAFETY: every context that was given the pool holds an `Arc` of it and is gone; freed
        // once.
        unsafe { sys::ggml_threadpool_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spared_pool_computes_with_half_and_with_one_at_least() {
        for (n_threads, half) in [(4, 2), (3, 1), (1, 1)] {
            let pool = ThreadPool::new(n_threads);

            pool.spare(true);
            assert_eq!(pool.n_threads(), half);
            pool.spare(false);
            assert_eq!(pool.n_threads(), n_threads);
        }
    }

    #[test]
    fn a_mask_marks_the_cores_and_no_others() {
        let mut mask = [true; 8];

        keep_to(&mut mask, &[4, 7]);
        assert_eq!(mask.map(u8::from), [0, 0, 0, 0, 1, 0, 0, 1]);
        keep_to(&mut mask, &[]);
        assert_eq!(mask, [false; 8]);
    }
}

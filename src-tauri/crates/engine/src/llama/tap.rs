//! How a graph is entered late and left early, with nothing but llama.cpp's evaluation callback.
//!
//! Before each node llama.cpp asks whether we want to see it, and computes everything up to a node
//! that we want in one go. When the node has been computed it calls again:
//!
//! - at the **entry** we write the hidden state over what was computed (where feeding embeddings
//!   would not do: BLOOM normalises them once more) and let it go on;
//! - at the **exit** we copy the node out and say stop. llama.cpp then leaves the rest of the
//!   graph, norm and LM head among it, uncomputed and returns success; the KV cache keeps what the
//!   computed part stored.

use std::ffi::{c_char, c_void};

use llama_cpp_sys_2 as sys;

use super::scratch::Scratch;

/// Where a context's graph is entered and left, by the names that llama.cpp gives its nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct TapNames {
    /// Node over which the input is written.
    pub(crate) entry: Option<String>,
    /// Node that is the output, and the last one computed.
    pub(crate) exit: Option<String>,
}

impl TapNames {
    pub(crate) fn is_empty(&self) -> bool {
        self.entry.is_none() && self.exit.is_none()
    }
}

/// What one decode writes and reads at the entry and the exit.
///
/// Lives at one address as long as its context, which calls [`on_node`] with it. The pointers are
/// valid during a decode and null otherwise.
pub(super) struct Tap {
    names: TapNames,
    input: *const f32,
    input_len: usize,
    output: *mut f32,
    output_len: usize,
    entered: bool,
    left: bool,
    scratch: Scratch,
}

impl Tap {
    pub(super) fn new(names: TapNames) -> Self {
        Self {
            names,
            input: std::ptr::null(),
            input_len: 0,
            output: std::ptr::null_mut(),
            output_len: 0,
            entered: false,
            left: false,
            scratch: Scratch::default(),
        }
    }

    /// Sets what the next decode writes at the entry and where it leaves its output.
    ///
    /// Both must stay where they are until [`Tap::disarm`].
    pub(super) fn arm(&mut self, input: &[f32], output: &mut [f32]) {
        (self.input, self.input_len) = (input.as_ptr(), input.len());
        (self.output, self.output_len) = (output.as_mut_ptr(), output.len());
        (self.entered, self.left) = (false, false);
        self.scratch = Scratch::default();
    }

    /// Forgets the pointers; returns whether the decode passed entry and exit with the shapes it
    /// should have.
    pub(super) fn disarm(&mut self) -> bool {
        (self.input, self.input_len) = (std::ptr::null(), 0);
        (self.output, self.output_len) = (std::ptr::null_mut(), 0);

        (self.entered || self.names.entry.is_none()) && (self.left || self.names.exit.is_none())
    }

    /// Writes the input over the node; returns whether to go on.
    fn enter(&mut self, node: &mut sys::ggml_tensor) -> bool {
        self.entered = holds(node, self.input_len);
        if self.entered && self.input_len > 0 {
            // SAFETY: the node holds as many bytes as are written; `input` is valid while armed.
            unsafe { sys::ggml_backend_tensor_set(node, self.input.cast(), 0, self.input_len * 4) }
        }

        self.entered
    }

    /// Returns where the graph of the last decode kept its intermediate results; nowhere if it was
    /// not left at the exit.
    pub(super) fn scratch(&self) -> Scratch {
        self.scratch
    }

    /// Copies the node to the output.
    fn leave(&mut self, node: &sys::ggml_tensor) {
        self.scratch = Scratch::of(node);
        self.left = holds(node, self.output_len);
        if self.left && self.output_len > 0 {
            // SAFETY: the node holds as many bytes as are read; `output` is valid while armed.
            unsafe {
                sys::ggml_backend_tensor_get(node, self.output.cast(), 0, self.output_len * 4)
            }
        }
    }
}

/// Returns whether `node` is `n` numbers of 32 bits without gaps.
fn holds(node: &sys::ggml_tensor, n: usize) -> bool {
    // SAFETY: a node handed to the callback is a valid tensor.
    node.type_ == sys::GGML_TYPE_F32
        && unsafe { sys::ggml_is_contiguous(node) && sys::ggml_nbytes(node) == n * 4 }
}

fn is_named(node: &sys::ggml_tensor, name: &Option<String>) -> bool {
    let Some(name) = name.as_deref().map(str::as_bytes) else {
        return false;
    };
    // This runs for every node of every graph: the bytes are compared in place.
    node.name.len() > name.len()
        && node.name[name.len()] == 0
        && node
            .name
            .iter()
            .zip(name)
            .all(|(&have, &want)| have == want as c_char)
}

/// llama.cpp's `cb_eval`: first whether a node is wanted (`ask`), then whether to go on after it.
pub(super) extern "C" fn on_node(node: *mut sys::ggml_tensor, ask: bool, tap: *mut c_void) -> bool {
    // SAFETY: `Context` passed its own `Tap`, which no other reference names while a decode runs;
    // llama.cpp passes a valid node, and calls on the decoding thread.
    let (tap, node) = unsafe { (&mut *tap.cast::<Tap>(), &mut *node) };
    let (is_entry, is_exit) = (
        is_named(node, &tap.names.entry),
        is_named(node, &tap.names.exit),
    );

    if ask {
        return is_entry || is_exit;
    }
    if is_exit {
        tap.leave(node);
    }

    is_entry && tap.enter(node)
}

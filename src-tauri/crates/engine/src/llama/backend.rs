//! llama.cpp's process-wide state: set up once, its log sent to `tracing`.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

static INIT: Once = Once::new();

thread_local! {
    /// The first error line llama.cpp wrote on this thread: its functions return only null or a
    /// number.
    static FIRST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets llama.cpp up, once per process; later calls return at once.
///
/// Never undone: other contexts may live until the process ends.
pub(crate) fn init() {
    INIT.call_once(|| {
        // SAFETY: called once, before any other function of llama.cpp; `on_log` is a plain function
        // that lives as long as the process and needs no data.
        unsafe {
            sys::llama_log_set(Some(on_log), std::ptr::null_mut());
            sys::llama_backend_init();
        }
    });
}

/// Runs `call` and returns its value with the first error line llama.cpp wrote meanwhile, which may
/// be empty.
///
/// llama.cpp loads on the calling thread, so lines of other loads do not mix in.
pub(crate) fn first_error<T>(call: impl FnOnce() -> T) -> (T, String) {
    FIRST_ERROR.with_borrow_mut(String::clear);
    let value = call();

    (value, FIRST_ERROR.with_borrow(String::clone))
}

/// Ends the process at once: no destructor runs, of Rust or C++.
///
/// An ordinary exit destroys llama.cpp's globals. A thread that is in the middle of a step would go on with
/// what is left of them, and the process would end by a segmentation fault.
///
/// What is to be written must be flushed before.
pub fn exit_process(status: u8) -> ! {
    // SAFETY: `_exit` takes any number, and needs nothing from a process that it ends.
    unsafe { libc::_exit(status.into()) }
}

/// Sends a line of llama.cpp's log to `tracing`, two levels lower than llama.cpp thinks of it.
///
/// It calls `error` what we return as an error to the caller, who decides how bad that is.
extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: llama.cpp passes a NUL-terminated string that outlives the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line = text.trim_end();
    if line.is_empty() {
        return;
    }

    match level {
        sys::GGML_LOG_LEVEL_ERROR => {
            // The first error is the cause; what follows says that its caller failed too.
            FIRST_ERROR.with_borrow_mut(|last| {
                if last.is_empty() {
                    line.clone_into(last);
                }
            });
            tracing::warn!(target: "llama", "{line}");
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama", "{line}"),
        _ => tracing::trace!(target: "llama", "{line}"),
    }
}

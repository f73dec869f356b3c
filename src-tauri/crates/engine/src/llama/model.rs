//! A loaded model: weights and vocabulary, read-only.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::Token;

/// Longest piece of text that is read without asking llama.cpp twice.
///
/// Pieces are a few bytes; the longest in common vocabularies are runs of 100 or so spaces.
const PIECE_BYTES: usize = 128;

/// Weights and vocabulary of one GGUF file.
pub(crate) struct Model {
    raw: NonNull<sys::llama_model>,
}

// SAFETY: a llama.cpp model has no thread affinity.
unsafe impl Send for Model {}
// SAFETY: every function called through `&self` takes the model or its vocabulary as `const` and
// only reads; llama.cpp itself shares models between contexts on different threads.
unsafe impl Sync for Model {}

/// How a load ended without a model.
pub(crate) enum Loading {
    /// The caller's progress function said stop.
    Cancelled,
    /// llama.cpp refused the file.
    Refused,
}

impl Model {
    /// Maps the file and reads what must be read; with `repack`, keeps a second copy of some
    /// weights in a faster layout.
    ///
    /// `progress` is called with the part that is done, from 0 to 1.
    pub(crate) fn load(
        path: &Path,
        repack: bool,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Self, Loading> {
        let path =
            CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Loading::Refused)?;
        let mut state = Progress {
            report: progress,
            cancelled: false,
        };

        // SAFETY: `path` is NUL-terminated; `state` outlives the call, which is the only time at
        // which llama.cpp calls `on_progress`; all other pointers in the default parameters are
        // null.
        let raw = unsafe {
            let mut params = sys::llama_model_default_params();
            params.use_extra_bufts = repack;
            params.progress_callback = Some(on_progress);
            params.progress_callback_user_data = (&raw mut state).cast();
            sys::llama_model_load_from_file(path.as_ptr(), params)
        };

        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw }),
            None if state.cancelled => Err(Loading::Cancelled),
            None => Err(Loading::Refused),
        }
    }

    pub(crate) fn n_embd(&self) -> usize {
        // SAFETY: reads a number of a loaded model.
        count(unsafe { sys::llama_model_n_embd(self.raw.as_ptr()) })
    }

    pub(crate) fn n_layers(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::llama_model_n_layer(self.raw.as_ptr()) }
            .try_into()
            .unwrap_or(0)
    }

    /// Returns how many positions back a sliding-window layer looks; 0 if the model has none.
    pub(crate) fn n_swa(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::llama_model_n_swa(self.raw.as_ptr()) }
            .try_into()
            .unwrap_or(0)
    }

    pub(crate) fn n_vocab(&self) -> usize {
        // SAFETY: reads a number of the vocabulary of a loaded model.
        count(unsafe { sys::llama_vocab_n_tokens(self.vocab()) })
    }

    /// Returns the model's own chat template, if it has one.
    pub(crate) fn chat_template(&self) -> Option<String> {
        // SAFETY: the name may be null, which means the default template; the string that is
        // returned belongs to the model and is copied while it is borrowed.
        unsafe {
            let template = sys::llama_model_chat_template(self.raw.as_ptr(), std::ptr::null());
            (!template.is_null()).then(|| CStr::from_ptr(template).to_string_lossy().into_owned())
        }
    }

    /// Returns a token as the vocabulary spells it, control tokens included.
    pub(crate) fn token_name(&self, token: Token) -> String {
        if !self.has(token) {
            return String::new();
        }
        // SAFETY: the token is in the vocabulary, which owns the string; it is copied while
        // borrowed.
        unsafe {
            let name = sys::llama_vocab_get_text(self.vocab(), token);
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// Returns whether generation ends with `token`.
    pub(crate) fn is_end_of_turn(&self, token: Token) -> bool {
        // SAFETY: reads the vocabulary; the token was checked, as llama.cpp aborts on one out of
        // range.
        self.has(token) && unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    /// Returns whether `token` stands for no text.
    pub(crate) fn is_control(&self, token: Token) -> bool {
        // SAFETY: as above.
        self.has(token) && unsafe { sys::llama_vocab_is_control(self.vocab(), token) }
    }

    pub(crate) fn bos(&self) -> Option<Token> {
        // SAFETY: reads a number of the vocabulary of a loaded model.
        self.known(unsafe { sys::llama_vocab_bos(self.vocab()) })
    }

    pub(crate) fn eos(&self) -> Option<Token> {
        // SAFETY: as above.
        self.known(unsafe { sys::llama_vocab_eos(self.vocab()) })
    }

    /// Returns whether prompts are to start with the beginning-of-sequence token.
    pub(crate) fn wants_bos(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    /// Splits text into tokens, adding none; `None` if the model has no tokenizer or the text is
    /// too long for one.
    pub(crate) fn tokenize(&self, text: &str, parse_special: bool) -> Option<Vec<Token>> {
        // SAFETY: reads a number of the vocabulary of a loaded model.
        if unsafe { sys::llama_vocab_type(self.vocab()) } == sys::LLAMA_VOCAB_TYPE_NONE {
            return None; // llama.cpp aborts
        }
        let text_bytes = i32::try_from(text.len()).ok()?;

        // A token is seldom shorter than a byte; where it is, the second round has the room that is
        // asked for.
        let mut tokens = vec![0; text.len() + 8];
        for _ in 0..2 {
            let room = i32::try_from(tokens.len()).ok()?;
            // SAFETY: `text` and `tokens` are as long as said.
            let n = unsafe {
                let text = text.as_ptr().cast::<c_char>();
                sys::llama_tokenize(
                    self.vocab(),
                    text,
                    text_bytes,
                    tokens.as_mut_ptr(),
                    room,
                    false,
                    parse_special,
                )
            };
            match usize::try_from(n) {
                Ok(n) => {
                    tokens.truncate(n);
                    return Some(tokens);
                }
                Err(_) => tokens.resize(usize::try_from(n.checked_neg()?).ok()?, 0),
            }
        }

        None
    }

    /// Appends the bytes that `token` stands for: any bytes, not always whole characters; none for
    /// a control token.
    pub(crate) fn append_piece(&self, token: Token, out: &mut Vec<u8>) {
        if !self.has(token) {
            return;
        }

        let start = out.len();
        let mut room = PIECE_BYTES;
        for _ in 0..2 {
            out.resize(start + room, 0);
            // SAFETY: `room` bytes can be written after `start`.
            let n = unsafe {
                let buffer = out.as_mut_ptr().add(start).cast::<c_char>();
                let room = i32::try_from(room).unwrap_or(i32::MAX);
                sys::llama_token_to_piece(self.vocab(), token, buffer, room, 0, false)
            };
            match usize::try_from(n) {
                Ok(n) => return out.truncate(start + n),
                Err(_) => room = usize::try_from(n.saturating_neg()).unwrap_or(0),
            }
        }

        out.truncate(start);
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: every loaded model has a vocabulary, if only an empty one, that lives as long.
        unsafe { sys::llama_model_get_vocab(self.raw.as_ptr()) }
    }

    fn has(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|token| token < self.n_vocab())
    }

    fn known(&self, token: Token) -> Option<Token> {
        self.has(token).then_some(token)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: contexts hold an `Arc` of their model and are gone; freed once.
        unsafe { sys::llama_model_free(self.raw.as_ptr()) }
    }
}

struct Progress<'a> {
    report: &'a mut dyn FnMut(f32) -> ControlFlow<()>,
    cancelled: bool,
}

extern "C" fn on_progress(done: f32, state: *mut c_void) -> bool {
    // SAFETY: `Model::load` passed a `Progress` that outlives the load, and llama.cpp calls from
    // the loading thread.
    let state = unsafe { &mut *state.cast::<Progress<'_>>() };
    state.cancelled |= (state.report)(done).is_break();

    !state.cancelled
}

fn count(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

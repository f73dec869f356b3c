//! What a phone decides, without doing any of it.
//!
//! Every module here is a state machine that opens no socket, reads no file, asks no clock, and
//! spawns no task. Each answers to the same four verbs:
//!
//! | verb | meaning |
//! | --- | --- |
//! | `handle(event, now)` | something happened: a message, a command, a result |
//! | `handle_timeout(now)` | the instant named by `poll_timeout` has come |
//! | `poll_timeout()` | when to wake the machine, if nothing else happens |
//! | `poll()` | the next thing it wants done; call until `None` |

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests may pick an origin of time

mod ids;
pub mod placement;

pub use ids::{Epoch, PeerId, RequestId, SequenceId, StepId};

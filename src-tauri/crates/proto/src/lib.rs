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
//!
//! [`phone::Phone`] holds them all; a machine that never waits for a time has no time verbs.

// Tests may pick an origin of time, name the one event they look for, and trust what they built.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod balance;
pub mod chat;
pub mod device;
pub mod forecast;
pub mod group;
mod ids;
pub mod phone;
pub mod pipeline;
pub mod placement;
pub mod plan;
pub mod planning;
pub mod profile;
pub mod questions;
pub mod reconfig;
pub mod relay;
pub mod ring;
pub mod standing;
pub mod supply;
#[cfg(test)]
mod testing;
pub mod text;
pub mod transfer;
pub mod wire;

pub use ids::{Epoch, ModelId, PeerId, RequestId, SequenceId, StepId};

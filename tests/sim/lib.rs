//! A world of phones in one thread, where time is a number and luck is a seed.
//!
//! The machines of [`proto`] run here exactly as they run on a phone; only the shell is fake.
//! A run is fully told by its seed: print it, and the failure comes back.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod errors;
pub mod group;
pub mod phones;
pub mod random_group;
pub mod ring;
pub mod seeds;
pub mod transfer;

//! A world of phones in one thread, where time is a number and luck is a seed.
//!
//! The machines of [`proto`] run here exactly as they run on a phone; only the shell is fake.
//! A run is fully told by its seed: print it, and the failure comes back.

pub mod ring;
pub mod seeds;
pub mod witness;

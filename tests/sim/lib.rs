//! A world of phones in one thread.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod errors;
pub mod group;
pub mod random_group;

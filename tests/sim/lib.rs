//! A world of phones in one thread.

pub mod random_group;

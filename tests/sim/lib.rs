//! A world of phones in one thread.

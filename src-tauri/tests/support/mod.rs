//! What tests of the app share.

pub mod server;

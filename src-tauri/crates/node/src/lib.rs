//! The shell: carries out what [`proto`] decides.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`start`] | builds a phone and hands it to the loop |
//! | [`event_loop`] | the one loop: waits, lets the state note, acts |
//! | [`net`] | connections and long-lived streams |
//! | [`discovery`] | finding phones nearby, and where they may be reached |
//! | [`disk`] | shards as files |
//! | [`engine_thread`] | the thread that computes |
//! | [`identity`] | the phone's key |
//! | [`group_file`] | the phone's place in a group |

pub mod discovery;
pub mod disk;
pub mod engine_thread;
pub mod event_loop;
pub mod group_file;
pub mod identity;
pub mod net;
pub mod start;

//! The shell: carries out what [`proto`] decides.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`start`] | builds a phone and hands it to the loop |
//! | [`event_loop`] | the one loop: waits, lets the state note, acts |
//! | [`net`] | connections and long-lived streams |
//! | [`disk`] | shards as files |
//! | [`store`] | shards as files, fetched and served |
//! | [`engine_thread`] | the thread that computes |
//! | [`guest`] | asking a phone without taking part |
//! | [`identity`] | the phone's key |

pub mod disk;
pub mod engine_thread;
pub mod event_loop;
pub mod guest;
pub mod identity;
pub mod net;
pub mod start;
pub mod store;

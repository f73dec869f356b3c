//! The shell: carries out what [`proto`] decides.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`start`] | builds a phone and hands it to the loop |
//! | [`event_loop`] | the one loop: waits, lets the state note, acts |
//! | [`net`] | connections and long-lived streams |
//! | [`discovery`] | finding phones nearby, and where they may be reached |
//! | [`store`] | shards on disk: whole, coming in, or waiting inside the model file |
//! | [`model_file`] | that file |
//! | [`work`] | that file as what a leader is asked to run |
//! | [`device`] | memory, battery and heat, as the system or a script tells |
//! | [`measure`] | what this phone can do, measured by the engine |
//! | [`figures`] | what was measured, kept for the next time |
//! | [`report`] | a group and its plans, as a table for people |
//! | [`engine_thread`] | the thread that computes |
//! | [`identity`] | the phone's key |
//! | [`group_file`] | the phone's place in a group |

pub mod device;
pub mod discovery;
pub mod engine_thread;
pub mod event_loop;
pub mod figures;
pub mod group_file;
pub mod identity;
pub mod measure;
pub mod model_file;
pub mod net;
pub mod report;
pub mod start;
pub mod store;
pub mod work;

//! Phones as network namespaces, joined by a user-space switch that delays, loses and cuts.
//!
//! A [`Net`] is a Wi-Fi in a box. Each phone is a network namespace with one interface, `wlan0`: a
//! TAP whose other end is held by this process. One thread carries every frame from the TAP it came
//! from to the TAPs it is for, and on the way does to it what a real network does: delay, jitter,
//! loss, a limited rate, a partition, a pulled cable. Programs inside notice nothing; they are
//! started with [`Phone::command`] and are the real ones.
//!
//! ```text
//!   namespace 0          this process                       namespace 1
//!  ┌───────────┐   ┌───────────────────────────────────┐   ┌───────────┐
//!  │ node      │   │ pump: waits, reads, writes        │   │ node      │
//!  │   wlan0 ──┼───┼─► TAP 0 ──► Switch ──► TAP 1 ─────┼───┼──► wlan0  │
//!  └───────────┘   │             (decides, sans IO)    │   └───────────┘
//!                  └──────────────▲────────────────────┘
//!                      Command    │   from Net's methods or, as JSON, from a Unix socket
//! ```
//!
//! - [`link`] says what a link is and names the usual ones: `wifi`, `busy-wifi`, `paper`, …
//! - [`switch`] decides when each frame arrives, if it does; it has no clock and no sockets
//! - [`command`] is what can be changed while it runs; [`socket`] carries it as lines of JSON
//! - [`net`] puts up namespaces, TAPs and the pump, and takes them down, also after a panic
//! - [`namespace`] makes, enters and removes one namespace, and those that a dead process left
//! - [`traffic`] sends something through it; [`mod@bench`] measures what the box itself costs
//!
//! It needs root, `/dev/net/tun` and the `ip` program (Debian: `iproute2`), and no kernel module for
//! traffic control: many kernels have no netem. [`requirements`] says what is missing.

pub mod bench;
pub mod command;
pub mod link;
pub mod namespace;
pub mod net;
mod path;
mod pump;
pub mod socket;
pub mod switch;
pub mod traffic;

pub use command::{Command, PhoneStatus, Reply};
pub use link::{Link, LinkError, Profile};
pub use namespace::{Missing, requirements};
pub use net::{INTERFACE, Net, NetError, NetOptions, Phone};
pub use switch::Counters;

//! What phones can do, and what links between them carry: measured, kept, and made a problem for
//! [`placement`](crate::placement).
//!
//! ```text
//!  leader: Survey ── Measure ──► member: Respondent ── Measure ──► engine
//!     │    ▲                                                          │
//!     │    └── Measured { Profile, Snapshot } ◄───────────────────────┘
//!     │
//!     │    Probe ──► member ── Ping, bursts ──► another member
//!     ▼    ◄── Probed { round trip, goodput }
//!  problem(…) ──► placement::Problem
//! ```
//!
//! - [`Figure`]: a number with its spread and age, smoothed as work brings samples
//! - [`Profile`], [`Way`]: what a phone and a link are
//! - [`Survey`]: the leader's machine; [`Respondent`]: everybody's
//! - [`Message`]: what they say to each other, and [`PROBE_EPOCH`], by which bursts are told
//! - [`problem`]: from figures to placement, a pure function
//!
//! A phone without the model measures itself with a [`Sample`](gguf_tools::Sample): before anything
//! is moved, everybody's figures are there.

mod bridge;
mod figure;
mod message;
mod phone;
pub mod respondent;
pub mod survey;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod world;

pub use bridge::{Candidate, Costs, Group, ModelSize, ShardSize, problem};
pub use figure::{Figure, FigureError};
pub use message::{BurstFrame, Depth, Found, Message, PROBE_EPOCH, ProbeId};
pub use phone::{Curve, Pace, Profile, ProfileError, Share, Way};
pub use respondent::Respondent;
pub use survey::{Knowledge, LinkKnowledge, Survey, Surveyed};

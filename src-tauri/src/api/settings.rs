//! What a person decides about this phone.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a person decides about this phone.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Settings {
    /// What the app may use; null leaves it to the phone.
    pub memory_limit_bytes: Option<u64>,
    /// Stop computing for others below this; 0 to 1.
    pub battery_floor: f64,
    /// Compute for others only while it is charged.
    pub only_while_charging: bool,
    /// Compute and download where it costs money.
    pub use_metered: bool,
    /// What models and shards may take of the storage.
    pub storage_quota_bytes: u64,
    /// Keep the screen on while an answer is written.
    pub keep_screen_on: bool,
    /// Whether other phones see this one nearby.
    pub visible: bool,
}

/// What helps to find out what is wrong; nothing that anybody wrote is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Diagnostics {
    /// Lines to be copied.
    pub text: String,
}

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

/// What a person decides anew. One thing at a time, so that two that follow each other closely cannot undo each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "setting", content = "value", rename_all = "snake_case")]
pub enum SettingChange {
    /// See [`Settings::memory_limit_bytes`].
    MemoryLimitBytes(Option<u64>),
    /// See [`Settings::battery_floor`].
    BatteryFloor(f64),
    /// See [`Settings::only_while_charging`].
    OnlyWhileCharging(bool),
    /// See [`Settings::use_metered`].
    UseMetered(bool),
    /// See [`Settings::storage_quota_bytes`].
    StorageQuotaBytes(u64),
    /// See [`Settings::keep_screen_on`].
    KeepScreenOn(bool),
    /// See [`Settings::visible`].
    Visible(bool),
}

impl Settings {
    /// Returns them with one thing decided anew.
    pub fn with(mut self, change: SettingChange) -> Self {
        match change {
            SettingChange::MemoryLimitBytes(limit) => self.memory_limit_bytes = limit,
            SettingChange::BatteryFloor(floor) => self.battery_floor = floor,
            SettingChange::OnlyWhileCharging(only) => self.only_while_charging = only,
            SettingChange::UseMetered(may) => self.use_metered = may,
            SettingChange::StorageQuotaBytes(quota) => self.storage_quota_bytes = quota,
            SettingChange::KeepScreenOn(on) => self.keep_screen_on = on,
            SettingChange::Visible(visible) => self.visible = visible,
        }

        self
    }
}

/// What helps to find out what is wrong; nothing that anybody wrote is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Diagnostics {
    /// Lines to be copied.
    pub text: String,
}

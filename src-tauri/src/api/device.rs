//! How this phone is doing, and what it lets the app do.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How this phone is doing.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Device {
    /// Memory that is free.
    pub free_memory_bytes: u64,
    /// What the app may use of it.
    pub memory_budget_bytes: u64,
    /// Memory that there is.
    pub total_memory_bytes: u64,
    /// 0 to 1; null where there is no battery.
    pub battery: Option<f64>,
    /// Whether it is being charged.
    pub charging: bool,
    /// How hot it is.
    pub heat: Heat,
    /// Whether the system saves power.
    pub power_save: bool,
    /// Whether what is sent and received costs money.
    pub metered: bool,
}

/// How hot a phone is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Heat {
    /// As it should be.
    #[default]
    Cool,
    /// It is slowed down, or soon will be.
    Warm,
    /// It had better rest.
    Hot,
}

/// Something that the system asks a person about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Permission {
    /// What.
    pub kind: PermissionKind,
    /// What the person said.
    pub status: PermissionStatus,
}

/// What the system asks a person about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PermissionKind {
    /// To talk to phones in the same network.
    LocalNetwork,
    /// To scan a code.
    Camera,
    /// To say that the app works in the background.
    Notifications,
}

/// `denied` can only be changed in the system's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PermissionStatus {
    /// This system does not ask.
    NotNeeded,
    /// Nobody was asked yet.
    NotAsked,
    /// Yes.
    Granted,
    /// No.
    Denied,
}

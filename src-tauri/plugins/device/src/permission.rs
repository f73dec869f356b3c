//! What a person must allow.

use serde::{Deserialize, Serialize};

/// What a person is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionKind {
    /// To find and reach phones nearby.
    LocalNetwork,
    /// To scan an invite.
    Camera,
    /// To say that the phone computes behind other apps.
    Notifications,
}

/// What a person has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionStatus {
    /// This system does not want to be asked, or asks by itself.
    NotNeeded,
    /// Nobody was asked, or somebody said no once.
    NotAsked,
    /// Yes.
    Granted,
    /// No, for good: only the system's settings change it.
    Denied,
}

//! Other phones, and the ways into one group with them.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::PhoneId;

/// What discovery tells of a phone. Nothing in it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct NearbyPhone {
    /// Its id.
    pub id: PhoneId,
    /// What it calls itself.
    pub name: String,
    /// Phones in the group that it is in, itself included; 0 if it is in none. Of a group that is not this phone's
    /// own, no more is known than that there is one: 1.
    pub group_phones: u32,
    /// Whether it is in this phone's own group.
    pub in_my_group: bool,
    /// Whether the two understand each other.
    pub version: VersionMatch,
}

/// Whether two phones' versions are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum VersionMatch {
    /// They are.
    Same,
    /// The other phone should be updated.
    TheirsOlder,
    /// This one should.
    OursOlder,
}

/// Whether this phone can reach others, and if not, why not.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NetworkState {
    /// It can.
    Ok,
    /// It is not known yet.
    #[default]
    Looking,
    /// In no network.
    NoWifi,
    /// On a Wi-Fi that seems to keep its phones apart (guest networks do).
    Isolated,
    /// A person said no, or was not asked yet.
    NoPermission,
    /// This phone's part in it has broken down, and is begun anew by itself.
    StartsAgain,
    /// The system does not let it.
    Failed {
        /// What it said.
        detail: String,
    },
}

/// Two phones on their way into one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Pairing {
    /// The other phone.
    pub phone: PhoneId,
    /// Its name.
    pub name: String,
    /// Whose group it shall be.
    pub purpose: PairingPurpose,
    /// Whether the other phone asked.
    pub asked_by_them: bool,
    /// Six digits that both screens show, as `042 917`; null until both phones know them.
    pub code: Option<String>,
    /// How far they are.
    pub stage: PairingStage,
}

/// Whose group it shall be: that of the phone that is asked, or that of the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PairingPurpose {
    /// That of the phone that is asked.
    Join,
    /// That of the phone that asks.
    Invite,
}

/// How far two phones are on their way into one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PairingStage {
    /// They are not connected yet.
    Connecting,
    /// Both screens show the code; this phone's person has not said anything yet.
    Compare,
    /// This phone's person said yes; the other's has not.
    AgreedHere,
    /// Both said yes; the leader's phone has to let them in.
    Entering,
    /// It has come to an end.
    Ended {
        /// How.
        end: PairingEnd,
    },
}

/// How two phones' way into one group ended, if not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PairingEnd {
    /// The other phone's person said no.
    Declined,
    /// The other phone asks no more.
    Cancelled,
    /// The other phone has its hands full.
    Busy,
    /// Nobody said anything for too long.
    Expired,
    /// The two screens showed different codes.
    BadCode,
    /// The other phone made no such invite.
    InviteUnknown,
    /// The invite is too old.
    InviteExpired,
    /// Somebody has used it.
    InviteUsed,
    /// The group has no room.
    Full,
    /// The other phone's person wants no more of this one.
    Blocked,
    /// The two do not understand each other.
    OtherVersion,
    /// The other phone could not be reached.
    Unreachable,
    /// Another phone is where the invite says.
    WrongHost,
}

/// A way into this phone's group, for one phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Invite {
    /// `lingualinked://join?…`, under 300 bytes.
    pub link: String,
    /// 24 letters and digits in groups, for phones without a camera; empty where no address can be typed.
    pub typed_code: String,
    /// Until when it is good.
    pub expires_unix_ms: u64,
}

/// A phone that is never heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct BlockedPhone {
    /// Its id.
    pub id: PhoneId,
    /// Its name, or the start of its id.
    pub name: String,
}

/// What a camera saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScanResult {
    /// A code.
    Scanned {
        /// What it says.
        text: String,
    },
    /// Nothing: a person wanted no more.
    Cancelled,
    /// Nothing: a person does not let the app use it.
    Denied,
    /// There is none.
    NoCamera,
}

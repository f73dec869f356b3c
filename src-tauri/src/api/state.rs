//! Everything that a screen may show.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{
    BlockedPhone, ConversationSummary, Device, Group, Invite, Model, NearbyPhone, NetworkState,
    Pairing, Permission, PhoneId, Run, Settings, Storage,
};

/// Everything a screen may show, but for the words of conversations. Sent whole; the last one wins.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct AppState {
    /// Name of this phone, as its person chose it; empty before they did.
    pub name: String,
    /// This phone.
    pub me: PhoneId,
    /// Version of this program.
    pub app_version: String,
    /// Whether the welcome screen has been gone through.
    pub welcomed: bool,
    /// What the system asks a person about.
    pub permissions: Vec<Permission>,
    /// Whether this phone can reach others.
    pub network: NetworkState,
    /// How this phone is doing.
    pub device: Device,
    /// Whether its system says what a network costs: `metered` means nothing where it does not.
    pub tells_metered: bool,
    /// Whether this phone looks for others.
    pub looking: bool,
    /// Phones that it sees.
    pub nearby: Vec<NearbyPhone>,
    /// Phones on their way into one group with it.
    pub pairings: Vec<Pairing>,
    /// A way into its group, while it is open.
    pub invite: Option<Invite>,
    /// Another phone's invite, by whose link the app was opened, until its person has said whether to use it.
    pub opened_invite: Option<String>,
    /// Phones that are never heard.
    pub blocked: Vec<BlockedPhone>,
    /// The group that it is in.
    pub group: Option<Group>,
    /// What runs, or is being made ready, in the group or on this phone alone.
    pub run: Option<Run>,
    /// Models that can be had.
    pub models: Vec<Model>,
    /// What the app takes of the storage.
    pub storage: Storage,
    /// Newest first.
    pub conversations: Vec<ConversationSummary>,
    /// What its person decided.
    pub settings: Settings,
}

//! What a screen and this program say to each other.
//!
//! These types are the screens' as well: `ui/src/bindings` is made from them, and a test sees that neither drifts.
//! Where a number is told, its unit is in its name.

mod chat;
mod device;
mod group;
mod model;
mod nearby;
mod notice;
mod problem;
mod run;
mod settings;
mod state;

pub use chat::{
    AnswerEvent, AnswerOutcome, Conversation, ConversationId, ConversationSummary, Figures,
    Message, MessageBody, MessageId, Question, QuestionWhat, Sampling, SearchHit,
};
pub use device::{Device, Heat, Permission, PermissionKind, PermissionStatus};
pub use group::{Group, Happening, LeaveWhen, Member, PhoneId, Presence, Tiredness};
pub use model::{Fit, ImportResult, Model, ModelAvailability, ModelId, Storage};
pub use nearby::{
    BlockedPhone, Invite, NearbyPhone, NetworkState, Pairing, PairingEnd, PairingPurpose,
    PairingStage, ScanResult, VersionMatch,
};
pub use notice::{Notice, RebalanceReason};
pub use problem::{Problem, ServerFault};
pub use run::{
    Beat, Forecasts, Help, Outlook, OutlookWithout, PhonePreparation, PreparationStep,
    QuestionStage, QueuedQuestion, Run, RunPhase, ShardSource, Speed, Stage, Verdict,
    VerdictReason,
};
pub use settings::{Diagnostics, SettingChange, Settings};
pub use state::AppState;

#[cfg(test)]
mod bindings;

//! What each system tells, and does.

#[cfg(target_os = "android")]
mod android;
#[cfg(desktop)]
mod desktop;
#[cfg(target_os = "ios")]
#[allow(unsafe_code)] // Apple's C and Objective-C: each block gives its reason
mod ios;

use std::fmt::Debug;

use tokio::sync::watch;

use crate::{Answer, DeviceError, Holds, Insets, Notice, PermissionKind, Reading};
#[cfg(target_os = "android")]
use crate::{Opening, PickedFile};

#[cfg(target_os = "android")]
pub(crate) use android::start;
#[cfg(desktop)]
pub(crate) use desktop::start;
#[cfg(target_os = "ios")]
pub(crate) use ios::start;

/// What [`crate::Device`] is asked, as one system answers it.
pub(crate) trait System: Debug + Send + Sync {
    fn readings(&self) -> watch::Receiver<Reading>;

    fn hold(&self, holds: Holds) -> Result<(), DeviceError>;

    fn serve(&self, notice: Option<Notice>) -> Result<(), DeviceError>;

    fn permission(&self, kind: PermissionKind) -> Answer<'_>;

    fn request_permission(&self, kind: PermissionKind) -> Answer<'_>;

    fn has_camera(&self) -> bool;

    fn open_settings(&self) -> Result<(), DeviceError>;

    #[cfg(target_os = "ios")]
    fn follow_places(&self, on: Box<dyn Fn(crate::Place)>);

    #[cfg(target_os = "android")]
    fn pick_file(&self) -> Opening<'_, Option<PickedFile>>;

    #[cfg(target_os = "android")]
    fn open_file(&self, address: String) -> Opening<'_, std::fs::File>;

    #[cfg(target_os = "android")]
    fn save_file(&self, name: String, text: String) -> Opening<'_, Option<String>>;

    /// Returns what of the page is hidden, where the page cannot find out.
    fn insets(&self) -> Option<Insets> {
        None
    }
}

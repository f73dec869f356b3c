//! The app's plugin for what only the phone itself can tell or do.
//!
//! | | Android | iOS | desktop |
//! | --- | --- | --- | --- |
//! | [`Reading`]: memory, battery, heat, power save | Kotlin, pushed | asked every [`PERIOD`] | [`node::device::Desktop`] |
//! | [`Reading`]: metered, headroom, radio lock, low memory | Kotlin, pushed | not told | not told |
//! | [`Holds`] | locks and a window flag | screen only | nothing to hold |
//! | [`Device::serve`]: computing behind other apps | foreground service | there is none | not needed |
//! | `Device::follow_places`: put away, and in front again | not needed | told by the system | not needed |
//! | [`Device::permission`] | asked of the system | camera; whether the local network was explained | not needed |
//! | [`Insets`] | Kotlin, set as CSS properties | the page's own `env()` | none |
//!
//! ```text
//!  the system ──► [`system`] ──► watch::Receiver<Reading> ──► screens
//!                                         └──► [`Device::source`] ──► node's measuring
//! ```
//!
//! Here is told how the phone is; what it had better do about it is decided in [`proto::device`].
//! Nothing of this can be asked by the page: the app asks, in Rust.

#[cfg(any(target_os = "android", test))]
mod android_report;
mod permission;
mod reading;
mod system;

use futures::future::BoxFuture;
use node::device::Source;
use tauri::plugin::{Builder, TauriPlugin};
use tauri::webview::PageLoadEvent;
use tauri::{Manager, Runtime, Webview};
use tokio::sync::watch;

pub use permission::{PermissionKind, PermissionStatus};
pub use reading::{Insets, Reading};

use reading::Latest;
use system::System;

/// How often a phone is asked how it is, where it does not say so by itself.
///
/// Android answers for its thermal headroom no more often than this.
pub const PERIOD: std::time::Duration = std::time::Duration::from_secs(10);

/// Makes the plugin. [`DeviceExt::device`] is there once it has been set up.
pub fn init<R: Runtime>() -> TauriPlugin<R> {
    Builder::new("device")
        .setup(|app, api| {
            let device = Device::new(system::start(app, api)?);
            app.manage(device);
            Ok(())
        })
        .on_page_load(|webview, load| {
            if load.event() == PageLoadEvent::Finished {
                webview.device().apply_insets(webview);
            }
        })
        .build()
}

/// Gives whatever manages the app's state its [`Device`].
pub trait DeviceExt<R: Runtime> {
    /// Returns the phone.
    ///
    /// # Panics
    ///
    /// If the plugin has not been set up.
    fn device(&self) -> &Device;
}

impl<R: Runtime, T: Manager<R>> DeviceExt<R> for T {
    fn device(&self) -> &Device {
        self.state::<Device>().inner()
    }
}

/// This phone: how it is, and what it is asked to do.
#[derive(Debug)]
pub struct Device {
    system: Box<dyn System>,
}

/// What is held for the app so that a token is not late. None of it outlives the app.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    /// The Wi-Fi chip passes multicast on: while phones are looked for.
    pub multicast: bool,
    /// The radio does not doze between packets, which would cost 10 to 50 ms a hop: while a token is on its way.
    /// The system heeds it only while the app is in front and the screen is on.
    pub low_latency_wifi: bool,
    /// The processor goes on when the screen is off: while a request runs. Ends by itself 10 minutes after it was asked for
    /// last.
    pub processor: bool,
    /// The screen stays on: while an answer is being written in front.
    pub screen: bool,
}

/// What people are told while the app works behind others: in which words, is in its resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is in a group.
    InGroup {
        /// Of so many phones that are there, this one among them.
        n_phones: u32,
    },
    /// It computes for somebody of the group.
    Computes,
    /// An answer is being written for the person here.
    Answers,
    /// A model is coming.
    Fetches,
}

/// The phone did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the phone cannot do that: {reason}")]
pub struct DeviceError {
    /// In the system's words.
    pub reason: String,
}

impl Device {
    fn new(system: Box<dyn System>) -> Self {
        Self { system }
    }

    /// Returns how the phone is, from now on: the last value counts.
    pub fn readings(&self) -> watch::Receiver<Reading> {
        self.system.readings()
    }

    /// Returns who tells the node how this phone is. `memory_limit_bytes` is what a person allows;
    /// the system may allow less.
    pub fn source(&self, memory_limit_bytes: Option<u64>) -> Box<dyn Source + Send> {
        Box::new(Latest::new(self.readings(), memory_limit_bytes))
    }

    /// Holds these, and lets go of what was held before and is not among them.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the system refuses one. The others are held.
    ///
    /// # Blocking
    ///
    /// Some milliseconds, on Android until its main thread has time. Not to be called on the main thread.
    pub fn hold(&self, holds: Holds) -> Result<(), DeviceError> {
        self.system.hold(holds)
    }

    /// Lets the app work while others are in front, and says so to people; `None` ends that.
    ///
    /// On iOS a phone that leaves the foreground stops computing whatever is asked here.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the system refuses: Android does when the app is not in front.
    ///
    /// # Blocking
    ///
    /// As [`Device::hold`].
    pub fn serve(&self, notice: Option<Notice>) -> Result<(), DeviceError> {
        self.system.serve(notice)
    }

    /// Returns whether the app may do this.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the system does not say.
    pub async fn permission(&self, kind: PermissionKind) -> Result<PermissionStatus, DeviceError> {
        self.system.permission(kind).await
    }

    /// Asks a person whether the app may do this, and returns what the person said. Nobody is asked
    /// again who has said no for good.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the system cannot ask.
    pub async fn request_permission(
        &self,
        kind: PermissionKind,
    ) -> Result<PermissionStatus, DeviceError> {
        self.system.request_permission(kind).await
    }

    /// Returns whether there is a camera.
    pub fn has_camera(&self) -> bool {
        self.system.has_camera()
    }

    /// Opens the system's settings of this app, where a permission that was denied can be given.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if there are none: on desktops.
    ///
    /// # Blocking
    ///
    /// As [`Device::hold`].
    pub fn open_settings(&self) -> Result<(), DeviceError> {
        self.system.open_settings()
    }

    /// Calls `on`, on the main thread, whenever the app is put away, and whenever it is in front again, as long as it runs.
    /// A system's question or a call that lies over the app does neither.
    #[cfg(target_os = "ios")]
    pub fn follow_places(&self, on: impl Fn(Place) + 'static) {
        self.system.follow_places(Box::new(on));
    }

    /// Lets a person pick a file, wherever the system finds one, and opens it; `None` if they picked none.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if it cannot be opened.
    #[cfg(target_os = "android")]
    pub async fn pick_file(&self) -> Result<Option<PickedFile>, DeviceError> {
        self.system.pick_file().await
    }

    /// Opens a file again that a person has picked, by its [address](PickedFile::address).
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if it is gone, or the permission to read it is.
    #[cfg(target_os = "android")]
    pub async fn open_file(&self, address: String) -> Result<std::fs::File, DeviceError> {
        self.system.open_file(address).await
    }

    /// Lets a person choose where to write a file, suggests a name for it, and writes it. Returns what it is called there;
    /// `None` if they chose no place.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if it cannot be written.
    #[cfg(target_os = "android")]
    pub async fn save_file(
        &self,
        name: String,
        text: String,
    ) -> Result<Option<String>, DeviceError> {
        self.system.save_file(name, text).await
    }

    /// Tells the page what of it is hidden, for it was not there when that changed.
    fn apply_insets<R: Runtime>(&self, webview: &Webview<R>) {
        if let Some(insets) = self.system.insets()
            && let Err(error) = webview.eval(insets.script())
        {
            tracing::warn!(%error, "The page does not know what of it is hidden");
        }
    }
}

/// Where the app is, on a system that stops apps that are behind others.
#[cfg(target_os = "ios")]
#[derive(Debug)]
pub enum Place {
    /// In front, or about to be.
    Front,
    /// Behind others: it is stopped when this is dropped, or soon anyway.
    Behind(Grace),
}

/// Time that the system leaves an app that was put away, until this is dropped.
#[cfg(target_os = "ios")]
pub struct Grace(Option<Box<dyn FnOnce() + Send>>);

#[cfg(target_os = "ios")]
impl Grace {
    fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

#[cfg(target_os = "ios")]
impl Drop for Grace {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

#[cfg(target_os = "ios")]
impl std::fmt::Debug for Grace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grace")
    }
}

/// A file that a person picked, and that has no path.
#[cfg(target_os = "android")]
#[derive(Debug)]
pub struct PickedFile {
    /// It, open to be read.
    pub file: std::fs::File,
    /// What people call it.
    pub name: String,
    /// By which it can be opened again, also after a restart; `None` if it cannot.
    pub address: Option<String>,
}

/// A file that may have to be fetched, or picked by a person first.
#[cfg(target_os = "android")]
type Opening<'a, T> = BoxFuture<'a, Result<T, DeviceError>>;

/// An answer that may take a person's time.
type Answer<'a> = BoxFuture<'a, Result<PermissionStatus, DeviceError>>;

#[cfg(mobile)]
impl From<tauri::plugin::mobile::PluginInvokeError> for DeviceError {
    fn from(error: tauri::plugin::mobile::PluginInvokeError) -> Self {
        Self {
            reason: error.to_string(),
        }
    }
}

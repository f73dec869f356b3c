//! What the system around the app gives it: the one seam between a session and the window that it runs behind.
//!
//! Tests run sessions without a window, with a platform of their own.

use std::fmt::Debug;
use std::fs::File;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use node::device::Source;
use proto::device::Snapshot;

use crate::api::{Device, Permission, PermissionKind, PermissionStatus, Problem, ScanResult};
use crate::models::Picked;

/// What the app does, as far as the system has to know: it may not stop it then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doing {
    /// It looks for other phones.
    pub looks: bool,
    /// It is in a group, and others may count on it.
    pub is_in_group: bool,
    /// Phones of the group that are there, this one among them.
    pub n_phones: u32,
    /// An answer is being written for somebody, and this phone computes.
    pub computes: bool,
    /// An answer is being written for the person here.
    pub answers: bool,
    /// A model is coming, or being read.
    pub fetches: bool,
    /// The person here wants the screen to stay on, because of that answer.
    pub keeps_screen_on: bool,
}

impl Doing {
    /// Returns whether the processor is needed, whatever the screen does.
    pub fn is_busy(self) -> bool {
        self.computes || self.answers || self.fetches
    }
}

/// What the system gives.
pub trait Platform: Debug + Send + Sync + 'static {
    /// Returns who tells the node how this phone is, if the app may use so much memory.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    fn source(&self, memory_limit_bytes: Option<u64>) -> Result<Box<dyn Source + Send>, Problem>;

    /// Returns how this phone is, before the node says so.
    fn device(&self) -> Device;

    /// Returns how this phone is, now and whenever that changes.
    fn readings(&self) -> BoxStream<'static, Snapshot>;

    /// Returns whether the system says what a network costs.
    fn tells_metered(&self) -> bool;

    /// Says what the app does, in place of what it did before. While it [is busy](Doing::is_busy) that is said again and
    /// again: the system need not believe for ever what was said once.
    ///
    /// # Blocking
    ///
    /// Until the system's main thread has time.
    fn does(&self, doing: Doing);

    /// Returns what a person allowed.
    fn permissions(&self) -> BoxFuture<'_, Vec<Permission>>;

    /// Asks a person, and returns what was said. Who has said no for good is not asked again.
    fn request_permission(
        &self,
        permission: PermissionKind,
    ) -> BoxFuture<'_, Result<PermissionStatus, Problem>>;

    /// Opens the system's page about this app.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn open_settings(&self) -> Result<(), Problem>;

    /// Returns whether there is a camera that [`Platform::scan`] looks through.
    fn has_camera(&self) -> bool;

    /// Lets a person hold a code before the camera, which must be there and allowed. The picture lies behind the page.
    fn scan(&self) -> BoxFuture<'_, Result<ScanResult, Problem>>;

    /// Ends a scan that is under way: nothing was seen.
    fn cancel_scan(&self) -> BoxFuture<'_, Result<(), Problem>>;

    /// Lets a person choose a model's file.
    fn pick_model(&self) -> BoxFuture<'_, Result<Option<Picked>, Problem>>;

    /// Opens a file again that a person chose before, by its address.
    fn open_model(&self, address: String) -> BoxFuture<'_, Result<File, Problem>>;

    /// Lets a person choose where to write a text, and writes it. Returns where, if they chose.
    fn save_text(
        &self,
        name: String,
        text: String,
    ) -> BoxFuture<'_, Result<Option<String>, Problem>>;

    /// Opens a web address outside of the app.
    ///
    /// # Errors
    ///
    /// If the system cannot.
    fn open_link(&self, url: &str) -> Result<(), Problem>;
}

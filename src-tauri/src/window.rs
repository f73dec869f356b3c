//! The system around the app, where it has a window: what [`Platform`] is there.

use std::fmt::Debug;
use std::fs::File;
#[cfg(not(target_os = "android"))]
use std::path::PathBuf;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use node::device::Source;
use proto::device::Snapshot;
use tauri::AppHandle;
#[cfg(target_os = "ios")]
use tauri::Manager;
use tauri_plugin_device::{DeviceError, DeviceExt, Holds, Notice};
#[cfg(not(target_os = "android"))]
use tauri_plugin_dialog::{DialogExt, FilePath};
use tauri_plugin_opener::OpenerExt;
#[cfg(not(target_os = "android"))]
use tokio::sync::oneshot;

use crate::api::{Device, Permission, PermissionKind, PermissionStatus, Problem, ScanResult};
use crate::models::Picked;
use crate::platform::{Doing, Platform};
use crate::view::running::device_of;

/// The app that has the window.
pub struct Window(AppHandle);

impl Window {
    /// Takes the app that has it.
    pub fn new(app: AppHandle) -> Self {
        Self(app)
    }
}

#[cfg(not(target_os = "android"))]
impl Window {
    /// Lets a person choose where a file of this name goes.
    async fn choose_place(&self, name: String) -> Result<Option<PathBuf>, Problem> {
        let (sender, picked) = oneshot::channel();
        let dialog = self.0.dialog().file().set_file_name(name);
        dialog.save_file(move |path| drop(sender.send(path)));

        picked.await.ok().flatten().map(path_of).transpose()
    }
}

impl Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Window")
    }
}

impl Platform for Window {
    fn source(&self, memory_limit_bytes: Option<u64>) -> Result<Box<dyn Source + Send>, Problem> {
        Ok(self.0.device().source(memory_limit_bytes))
    }

    fn device(&self) -> Device {
        device_of(&self.0.device().readings().borrow().snapshot)
    }

    fn readings(&self) -> BoxStream<'static, Snapshot> {
        let mut readings = self.0.device().readings();
        readings.mark_changed();

        futures::stream::unfold(readings, |mut readings| async move {
            readings.changed().await.ok()?;
            let told = readings.borrow_and_update().snapshot;
            Some((told, readings))
        })
        .boxed()
    }

    fn tells_metered(&self) -> bool {
        cfg!(target_os = "android")
    }

    fn does(&self, doing: Doing) {
        let device = self.0.device();
        let held = device.hold(Holds {
            multicast: doing.looks || doing.is_in_group,
            low_latency_wifi: doing.computes || doing.answers,
            processor: doing.is_busy(),
            screen: doing.keeps_screen_on,
        });

        for refused in [held, device.serve(notice_of(doing))] {
            if let Err(error) = refused {
                tracing::warn!(%error, "The system does not let this phone work undisturbed");
            }
        }
    }

    fn permissions(&self) -> BoxFuture<'_, Vec<Permission>> {
        let kinds = [
            PermissionKind::LocalNetwork,
            PermissionKind::Camera,
            PermissionKind::Notifications,
        ];
        let ask = async move |kind| {
            let status = self.0.device().permission(theirs(kind)).await;
            let status = status.map_or(PermissionStatus::NotAsked, ours);
            Permission { kind, status }
        };

        futures::future::join_all(kinds.map(ask)).boxed()
    }

    fn request_permission(
        &self,
        permission: PermissionKind,
    ) -> BoxFuture<'_, Result<PermissionStatus, Problem>> {
        async move {
            let asked = self.0.device().request_permission(theirs(permission));
            asked.await.map(ours).map_err(problem)
        }
        .boxed()
    }

    fn open_settings(&self) -> Result<(), Problem> {
        self.0.device().open_settings().map_err(problem)
    }

    fn has_camera(&self) -> bool {
        self.0.device().has_camera()
    }

    #[cfg(desktop)]
    fn scan(&self) -> BoxFuture<'_, Result<ScanResult, Problem>> {
        futures::future::ready(Ok(ScanResult::NoCamera)).boxed()
    }

    #[cfg(mobile)]
    fn scan(&self) -> BoxFuture<'_, Result<ScanResult, Problem>> {
        crate::scanner::scan(&self.0).boxed()
    }

    #[cfg(desktop)]
    fn cancel_scan(&self) -> BoxFuture<'_, Result<(), Problem>> {
        futures::future::ready(Ok(())).boxed()
    }

    #[cfg(mobile)]
    fn cancel_scan(&self) -> BoxFuture<'_, Result<(), Problem>> {
        crate::scanner::cancel(&self.0).boxed()
    }

    #[cfg(target_os = "android")]
    fn pick_model(&self) -> BoxFuture<'_, Result<Option<Picked>, Problem>> {
        async move {
            let picked = self.0.device().pick_file().await.map_err(problem)?;
            Ok(picked.map(|picked| Picked::Opened {
                file: picked.file,
                name: picked.name,
                address: picked.address,
            }))
        }
        .boxed()
    }

    #[cfg(not(target_os = "android"))]
    fn pick_model(&self) -> BoxFuture<'_, Result<Option<Picked>, Problem>> {
        let (sender, picked) = oneshot::channel();
        let dialog = self.0.dialog().file().add_filter("GGUF", &["gguf"]);
        dialog.pick_file(move |path| drop(sender.send(path)));

        async move {
            match picked.await.ok().flatten() {
                // iOS hands over a copy, in a folder that it clears.
                Some(path) if cfg!(target_os = "ios") => Ok(Some(Picked::Given(path_of(path)?))),
                Some(path) => Ok(Some(Picked::Path(path_of(path)?))),
                None => Ok(None),
            }
        }
        .boxed()
    }

    #[cfg(target_os = "android")]
    fn open_model(&self, address: String) -> BoxFuture<'_, Result<File, Problem>> {
        async move { self.0.device().open_file(address).await.map_err(problem) }.boxed()
    }

    #[cfg(not(target_os = "android"))]
    fn open_model(&self, _: String) -> BoxFuture<'_, Result<File, Problem>> {
        let none = Problem::other("files have paths here, and no addresses");

        futures::future::ready(Err(none)).boxed()
    }

    #[cfg(target_os = "android")]
    fn save_text(
        &self,
        name: String,
        text: String,
    ) -> BoxFuture<'_, Result<Option<String>, Problem>> {
        async move { self.0.device().save_file(name, text).await.map_err(problem) }.boxed()
    }

    /// iOS lets nobody write where a person chose. It copies a file there, of that name, from the app's documents.
    #[cfg(target_os = "ios")]
    fn save_text(
        &self,
        name: String,
        text: String,
    ) -> BoxFuture<'_, Result<Option<String>, Problem>> {
        async move {
            let documents = self.0.path().document_dir().map_err(Problem::other)?;
            let copied = documents.join(&name);
            tokio::fs::write(&copied, text)
                .await
                .map_err(Problem::other)?;
            let path = self.choose_place(name).await;
            tokio::fs::remove_file(&copied)
                .await
                .map_err(Problem::other)?;

            Ok(path?.map(|path| path.display().to_string()))
        }
        .boxed()
    }

    #[cfg(desktop)]
    fn save_text(
        &self,
        name: String,
        text: String,
    ) -> BoxFuture<'_, Result<Option<String>, Problem>> {
        async move {
            let Some(path) = self.choose_place(name).await? else {
                return Ok(None);
            };
            tokio::fs::write(&path, text)
                .await
                .map_err(Problem::other)?;
            Ok(Some(path.display().to_string()))
        }
        .boxed()
    }

    fn open_link(&self, url: &str) -> Result<(), Problem> {
        let opened = self.0.opener().open_url(url, None::<&str>);

        opened.map_err(Problem::other)
    }
}

#[cfg(not(target_os = "android"))]
fn path_of(path: FilePath) -> Result<PathBuf, Problem> {
    path.into_path().map_err(Problem::other)
}

/// Returns what people are told of it while other apps are in front; `None` if the app may be stopped then.
fn notice_of(doing: Doing) -> Option<Notice> {
    match doing {
        Doing { answers: true, .. } => Some(Notice::Answers),
        Doing { computes: true, .. } => Some(Notice::Computes),
        Doing { fetches: true, .. } => Some(Notice::Fetches),
        Doing {
            is_in_group: true,
            n_phones,
            ..
        } => Some(Notice::InGroup { n_phones }),
        _ => None,
    }
}

fn problem(error: DeviceError) -> Problem {
    Problem::other(error)
}

fn theirs(kind: PermissionKind) -> tauri_plugin_device::PermissionKind {
    match kind {
        PermissionKind::LocalNetwork => tauri_plugin_device::PermissionKind::LocalNetwork,
        PermissionKind::Camera => tauri_plugin_device::PermissionKind::Camera,
        PermissionKind::Notifications => tauri_plugin_device::PermissionKind::Notifications,
    }
}

fn ours(status: tauri_plugin_device::PermissionStatus) -> PermissionStatus {
    match status {
        tauri_plugin_device::PermissionStatus::NotNeeded => PermissionStatus::NotNeeded,
        tauri_plugin_device::PermissionStatus::NotAsked => PermissionStatus::NotAsked,
        tauri_plugin_device::PermissionStatus::Granted => PermissionStatus::Granted,
        tauri_plugin_device::PermissionStatus::Denied => PermissionStatus::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_told_is_what_keeps_the_phone_busiest() {
        let in_group = Doing {
            is_in_group: true,
            n_phones: 3,
            ..Doing::default()
        };
        let fetches = Doing {
            fetches: true,
            ..in_group
        };
        let computes = Doing {
            computes: true,
            ..fetches
        };

        assert_eq!(notice_of(Doing::default()), None);
        assert_eq!(notice_of(in_group), Some(Notice::InGroup { n_phones: 3 }));
        assert_eq!(notice_of(fetches), Some(Notice::Fetches));
        assert_eq!(notice_of(computes), Some(Notice::Computes));
        let answers = Doing {
            answers: true,
            ..Doing::default()
        };
        assert_eq!(notice_of(answers), Some(Notice::Answers), "alone, too");
    }
}

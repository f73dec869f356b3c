//! Android: the Kotlin part tells and does, this side translates.

use std::fs::{self, File};
use std::os::fd::{FromRawFd, RawFd};

use futures::FutureExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tauri::ipc::{Channel, InvokeResponseBody};
use tauri::plugin::{PluginApi, PluginHandle};
use tauri::{AppHandle, Manager, Runtime};
use tokio::sync::watch;

use super::System;
use crate::android_report::{
    AndroidReport, OpenedFile, Permissions, SavedFile, alias, anonymous_bytes,
};
use crate::{
    Answer, DeviceError, Holds, Insets, Notice, Opening, PermissionKind, PickedFile, Reading,
};

/// Where the Kotlin part is.
const PACKAGE: &str = "app.lingualinked.device";
const CLASS: &str = "DevicePlugin";

/// What the Kotlin part says when it is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct First {
    /// `Build.VERSION.SDK_INT`.
    sdk: u32,
    /// `PackageManager.FEATURE_CAMERA_ANY`.
    has_camera: bool,
    report: AndroidReport,
}

/// What the Kotlin part sends to from then on.
#[derive(Serialize)]
struct WatchArgs {
    reports: Channel,
    insets: Channel,
}

/// [`Holds`], as the Kotlin part wants them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldArgs {
    multicast: bool,
    low_latency_wifi: bool,
    processor: bool,
    screen: bool,
}

/// [`Notice`], as the Kotlin part wants it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServeArgs {
    kind: &'static str,
    n_phones: u32,
}

/// Which file to open.
#[derive(Serialize)]
struct OpenArgs {
    address: String,
}

/// What to write, and what to call it.
#[derive(Serialize)]
struct SaveArgs {
    name: String,
    text: String,
}

/// What [`Permissions`] are the answer to.
#[derive(Serialize)]
struct PermissionArgs {
    permissions: [&'static str; 1],
}

struct Android<R: Runtime> {
    kotlin: PluginHandle<R>,
    sdk: u32,
    has_camera: bool,
    readings: watch::Receiver<Reading>,
    insets: watch::Receiver<Insets>,
}

impl<R: Runtime> std::fmt::Debug for Android<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Android")
            .field("sdk", &self.sdk)
            .finish_non_exhaustive()
    }
}

/// Loads the Kotlin part, and has it say how the phone is.
///
/// # Errors
///
/// If it cannot be loaded, or does not answer.
pub(crate) fn start<R: Runtime, C: DeserializeOwned>(
    app: &AppHandle<R>,
    api: PluginApi<R, C>,
) -> Result<Box<dyn System>, Box<dyn std::error::Error>> {
    let kotlin = api.register_android_plugin(PACKAGE, CLASS)?;
    let first: First = kotlin.run_mobile_plugin("read", ())?;
    let (reading_sender, readings) = watch::channel(first.report.reading(own_bytes()));
    let (insets_sender, insets) = watch::channel(Insets::default());

    let app = app.clone();
    let channels = WatchArgs {
        reports: channel(move |report: AndroidReport| {
            reading_sender.send_replace(report.reading(own_bytes()));
        }),
        insets: channel(move |insets| {
            insets_sender.send_replace(insets);
            show(&app, insets);
        }),
    };
    kotlin.run_mobile_plugin::<()>("watch", channels)?;

    Ok(Box::new(Android {
        kotlin,
        sdk: first.sdk,
        has_camera: first.has_camera,
        readings,
        insets,
    }))
}

/// Makes a channel that Kotlin sends JSON to.
fn channel<T: DeserializeOwned>(on: impl Fn(T) + Send + Sync + 'static) -> Channel {
    Channel::new(move |body: InvokeResponseBody| {
        on(body.deserialize()?);
        Ok(())
    })
}

/// Tells every page what of it is hidden.
fn show<R: Runtime>(app: &AppHandle<R>, insets: Insets) {
    for window in app.webview_windows().values() {
        if let Err(error) = window.eval(insets.script()) {
            tracing::warn!(%error, "The page does not know what of it is hidden");
        }
    }
}

/// Returns the memory that this process holds and that is no file's; 0 if the system does not say.
fn own_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();

    anonymous_bytes(&status).unwrap_or_default()
}

/// Takes a descriptor over.
#[expect(unsafe_code, reason = "no library takes a number for a descriptor")]
fn take_over(descriptor: RawFd) -> Result<File, DeviceError> {
    if descriptor < 0 {
        return Err(DeviceError {
            reason: "the file has no descriptor".into(),
        });
    }

    // SAFETY: the Kotlin part has detached it from what it was opened by (`detachFd`), and told it nobody else: it is
    // open, and only this closes it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

impl<R: Runtime> System for Android<R> {
    fn readings(&self) -> watch::Receiver<Reading> {
        self.readings.clone()
    }

    fn hold(&self, holds: Holds) -> Result<(), DeviceError> {
        let Holds {
            multicast,
            low_latency_wifi,
            processor,
            screen,
        } = holds;
        let args = HoldArgs {
            multicast,
            low_latency_wifi,
            processor,
            screen,
        };

        Ok(self.kotlin.run_mobile_plugin("hold", args)?)
    }

    fn serve(&self, notice: Option<Notice>) -> Result<(), DeviceError> {
        let (kind, n_phones) = match notice {
            None => return Ok(self.kotlin.run_mobile_plugin("rest", ())?),
            Some(Notice::InGroup { n_phones }) => ("in_group", n_phones),
            Some(Notice::Computes) => ("computes", 0),
            Some(Notice::Answers) => ("answers", 0),
            Some(Notice::Fetches) => ("fetches", 0),
        };

        Ok(self
            .kotlin
            .run_mobile_plugin("serve", ServeArgs { kind, n_phones })?)
    }

    fn permission(&self, kind: PermissionKind) -> Answer<'_> {
        async move {
            let how = self
                .kotlin
                .run_mobile_plugin_async::<Permissions>("checkPermissions", ());
            Ok(how.await?.status(kind, self.sdk))
        }
        .boxed()
    }

    fn request_permission(&self, kind: PermissionKind) -> Answer<'_> {
        async move {
            let status = self.permission(kind).await?;
            if status != crate::PermissionStatus::NotAsked {
                return Ok(status); // the system would not ask anybody
            }

            let args = PermissionArgs {
                permissions: [alias(kind)],
            };
            let how = self
                .kotlin
                .run_mobile_plugin_async::<Permissions>("requestPermissions", args);
            Ok(how.await?.status(kind, self.sdk))
        }
        .boxed()
    }

    fn has_camera(&self) -> bool {
        self.has_camera
    }

    fn open_settings(&self) -> Result<(), DeviceError> {
        Ok(self.kotlin.run_mobile_plugin("openSettings", ())?)
    }

    fn pick_file(&self) -> Opening<'_, Option<PickedFile>> {
        async move {
            let picked = self
                .kotlin
                .run_mobile_plugin_async::<OpenedFile>("pickFile", ());
            let picked = picked.await?;
            let Some(descriptor) = picked.descriptor else {
                return Ok(None);
            };

            Ok(Some(PickedFile {
                file: take_over(descriptor)?,
                address: picked.address_that_lasts(),
                name: picked.name,
            }))
        }
        .boxed()
    }

    fn open_file(&self, address: String) -> Opening<'_, File> {
        async move {
            let opened = self
                .kotlin
                .run_mobile_plugin_async::<OpenedFile>("openFile", OpenArgs { address });

            take_over(opened.await?.descriptor.unwrap_or(-1))
        }
        .boxed()
    }

    fn save_file(&self, name: String, text: String) -> Opening<'_, Option<String>> {
        async move {
            let saved = self
                .kotlin
                .run_mobile_plugin_async::<SavedFile>("saveFile", SaveArgs { name, text });

            Ok(saved.await?.name)
        }
        .boxed()
    }

    fn insets(&self) -> Option<Insets> {
        Some(*self.insets.borrow())
    }
}

//! A desktop: it tells how it is, and has nothing to ask or hold.

use std::thread;

use futures::FutureExt;
use futures::future::ready;
use node::device::{Desktop, Source};
use serde::de::DeserializeOwned;
use tauri::plugin::PluginApi;
use tauri::{AppHandle, Runtime};
use tokio::sync::watch;

use super::System;
use crate::{
    Answer, DeviceError, Holds, Notice, PERIOD, PermissionKind, PermissionStatus, Reading,
};

#[derive(Debug)]
struct Computer {
    readings: watch::Receiver<Reading>,
}

/// Starts asking how this computer is.
///
/// # Errors
///
/// If it does not tell its memory, or there can be no thread.
pub(crate) fn start<R: Runtime, C: DeserializeOwned>(
    _: &AppHandle<R>,
    _: PluginApi<R, C>,
) -> Result<Box<dyn System>, Box<dyn std::error::Error>> {
    Ok(Box::new(Computer::new()?))
}

impl Computer {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut desktop = Desktop::new(None)?;
        let (sender, readings) = watch::channel(read(&mut desktop));
        thread::Builder::new()
            .name("device".into())
            .spawn(move || watch(desktop, &sender))?;

        Ok(Self { readings })
    }
}

/// Reads again and again, until nobody listens any more.
fn watch(mut desktop: Desktop, sender: &watch::Sender<Reading>) {
    while !sender.is_closed() {
        thread::sleep(PERIOD);
        sender.send_replace(read(&mut desktop));
    }
}

fn read(desktop: &mut Desktop) -> Reading {
    Reading {
        snapshot: desktop.snapshot(),
        headroom: None,
        radio_lock: false,
    }
}

impl System for Computer {
    fn readings(&self) -> watch::Receiver<Reading> {
        self.readings.clone()
    }

    fn hold(&self, _: Holds) -> Result<(), DeviceError> {
        Ok(())
    }

    fn serve(&self, _: Option<Notice>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn permission(&self, _: PermissionKind) -> Answer<'_> {
        ready(Ok(PermissionStatus::NotNeeded)).boxed()
    }

    fn request_permission(&self, kind: PermissionKind) -> Answer<'_> {
        self.permission(kind)
    }

    /// It may have one, but nothing here looks through it.
    fn has_camera(&self) -> bool {
        false
    }

    fn open_settings(&self) -> Result<(), DeviceError> {
        Err(DeviceError {
            reason: "a desktop has no settings of one app".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::Device;

    #[test]
    fn a_desktop_tells_how_it_is_and_needs_no_leave() {
        let computer = Computer::new().expect("it tells its memory");
        let device = Device::new(Box::new(computer));

        let reading = *device.readings().borrow();
        assert!(reading.snapshot.total_bytes >= reading.snapshot.free_bytes);
        let snapshot = device.source(Some(1_000_000)).snapshot();
        assert!((1..=1_000_000).contains(&snapshot.budget_bytes));
        let camera = block_on(device.permission(PermissionKind::Camera));
        assert_eq!(camera, Ok(PermissionStatus::NotNeeded));
        assert!(!device.has_camera());
        assert!(device.open_settings().is_err());
    }
}

//! iOS, asked in Rust: there is no Swift.
//!
//! UIKit may be asked on the main thread only, so all readings are taken there. iOS has no foreground service,
//! no Wi-Fi locks, and asks by itself for the local network: when the node first looks around. Nor does it tell what came
//! of that. So the app first explains it; that a person went on from there is kept, and taken for a yes.

use std::ffi::c_uint;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use block2::RcBlock;
use futures::FutureExt;
use futures::future::ready;
use mach2::kern_return::KERN_SUCCESS;
use mach2::task::task_info;
use mach2::task_info::{TASK_VM_INFO, task_vm_info};
use mach2::traps::mach_task_self;
use node::device::budget_bytes;
use objc2::MainThreadMarker;
use objc2::runtime::Bool;
use objc2_av_foundation::{AVAuthorizationStatus, AVCaptureDevice, AVMediaTypeVideo};
use objc2_foundation::{
    NSDictionary, NSNotification, NSNotificationCenter, NSNotificationName, NSOperationQueue,
    NSProcessInfo, NSProcessInfoThermalState, NSString, NSURL, NSUserDefaults, ns_string,
};
use objc2_ui_kit::{
    UIApplication, UIApplicationDidEnterBackgroundNotification,
    UIApplicationDidReceiveMemoryWarningNotification, UIApplicationOpenSettingsURLString,
    UIApplicationWillEnterForegroundNotification, UIBackgroundTaskInvalid, UIDevice,
    UIDeviceBatteryState,
};
use proto::device::{Battery, Policy, Relief, Snapshot, Thermal};
use serde::de::DeserializeOwned;
use tauri::plugin::PluginApi;
use tauri::{AppHandle, Runtime};
use tokio::sync::{oneshot, watch};

use super::System;
use crate::{
    Answer, DeviceError, Grace, Holds, Notice, PERIOD, PermissionKind, PermissionStatus, Place,
    Reading,
};

struct Ios<R: Runtime> {
    app: AppHandle<R>,
    readings: watch::Receiver<Reading>,
}

impl<R: Runtime> std::fmt::Debug for Ios<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ios").finish_non_exhaustive()
    }
}

/// Starts asking how this phone is.
///
/// # Errors
///
/// If there can be no thread, or this is not the main one.
pub(crate) fn start<R: Runtime, C: DeserializeOwned>(
    app: &AppHandle<R>,
    _: PluginApi<R, C>,
) -> Result<Box<dyn System>, Box<dyn std::error::Error>> {
    let main = MainThreadMarker::new().ok_or("plugins are set up on the main thread")?;
    UIDevice::currentDevice(main).setBatteryMonitoringEnabled(true);
    let (sender, readings) = watch::channel(read(main));
    watch_memory(sender.clone());
    let asking = app.clone();
    thread::Builder::new()
        .name("device".into())
        .spawn(move || keep_reading(&asking, sender))?;

    Ok(Box::new(Ios {
        app: app.clone(),
        readings,
    }))
}

/// Reads again and again, until nobody listens any more or the app ends.
fn keep_reading<R: Runtime>(app: &AppHandle<R>, sender: watch::Sender<Reading>) {
    while !sender.is_closed() {
        thread::sleep(PERIOD);
        let sender = sender.clone();
        let asked = on_main(app, move |main| {
            sender.send_replace(read(main));
        });
        if asked.is_err() {
            return;
        }
    }
}

/// Reads at once when iOS warns that memory runs short: it ends apps next.
fn watch_memory(sender: watch::Sender<Reading>) {
    // SAFETY: a constant of the framework.
    let warning = unsafe { UIApplicationDidReceiveMemoryWarningNotification };

    observe(warning, move |main| {
        let mut reading = read(main);
        reading.snapshot.low_memory = true;
        sender.send_replace(reading);
    });
}

/// Does something on the main thread whenever iOS says that, as long as the app runs.
fn observe(name: &NSNotificationName, what: impl Fn(MainThreadMarker) + 'static) {
    let told = RcBlock::new(move |_: NonNull<NSNotification>| {
        what(MainThreadMarker::new().expect("the main queue runs on the main thread"));
    });
    let center = NSNotificationCenter::defaultCenter();
    let queue = NSOperationQueue::mainQueue();

    // SAFETY: the center keeps the block, which runs on the main queue alone.
    let observer = unsafe {
        center.addObserverForName_object_queue_usingBlock(Some(name), None, Some(&queue), &told)
    };
    std::mem::forget(observer); // as long as the app runs
}

/// Asks iOS not to stop the app yet, until what is returned is dropped or iOS's patience ends: some 30 seconds.
fn grace<R: Runtime>(main: MainThreadMarker, app: &AppHandle<R>) -> Grace {
    // SAFETY: a constant of the framework.
    let task = Arc::new(AtomicUsize::new(unsafe { UIBackgroundTaskInvalid }));
    let expiring = Arc::clone(&task);
    let expired = RcBlock::new(move || {
        let main = MainThreadMarker::new().expect("UIKit calls it on the main thread");
        end_task(main, &expiring);
    });
    let begun = UIApplication::sharedApplication(main)
        .beginBackgroundTaskWithExpirationHandler(Some(&expired));
    task.store(begun, Ordering::Relaxed);

    let app = app.clone();
    Grace::new(move || {
        let ended = on_main(&app, move |main| end_task(main, &task));
        if let Err(error) = ended {
            tracing::warn!(%error, "iOS waits in vain");
        }
    })
}

/// Ends a background task, once: iOS ends an app that leaves one open.
fn end_task(main: MainThreadMarker, task: &AtomicUsize) {
    // SAFETY: a constant of the framework.
    let none = unsafe { UIBackgroundTaskInvalid };
    let begun = task.swap(none, Ordering::Relaxed);

    if begun != none {
        UIApplication::sharedApplication(main).endBackgroundTask(begun);
    }
}

/// Does something on the main thread, some time.
fn on_main<R: Runtime>(
    app: &AppHandle<R>,
    what: impl FnOnce(MainThreadMarker) + Send + 'static,
) -> Result<(), DeviceError> {
    let run = app.run_on_main_thread(move || {
        what(MainThreadMarker::new().expect("Tauri runs this on the main thread"));
    });

    run.map_err(|error| DeviceError {
        reason: error.to_string(),
    })
}

fn read(main: MainThreadMarker) -> Reading {
    let system = NSProcessInfo::processInfo();
    let (total_bytes, free_bytes) = (system.physicalMemory(), available_bytes());

    Reading {
        snapshot: Snapshot {
            free_bytes,
            total_bytes,
            budget_bytes: budget_bytes(free_bytes, total_bytes, footprint_bytes()),
            battery: battery(main),
            thermal: thermal(system.thermalState()),
            low_memory: false,
            power_save: system.isLowPowerModeEnabled(),
            is_metered: false,
            policy: Policy::default(),
            relief: Relief::None,
        },
        headroom: None,
        radio_lock: false,
    }
}

/// Returns what iOS lets the app take beside what it has. Mapped weights do not count against it.
fn available_bytes() -> u64 {
    unsafe extern "C" {
        /// `<os/proc.h>`, since iOS 13.
        fn os_proc_available_memory() -> usize;
    }

    // SAFETY: it takes nothing, and may be called by any thread of an app.
    unsafe { os_proc_available_memory() as u64 }
}

/// Returns what iOS counts as the app's own memory; 0 if it does not say.
fn footprint_bytes() -> u64 {
    let mut info = task_vm_info::default();
    let mut count = (size_of::<task_vm_info>() / size_of::<c_uint>()) as u32;

    // SAFETY: `info` is as large as `count` says, in the kernel's unit; the kernel writes no more than that, and
    // any bytes are a `task_vm_info`.
    let result = unsafe {
        task_info(
            mach_task_self(),
            TASK_VM_INFO,
            (&raw mut info).cast(),
            &raw mut count,
        )
    };
    if result == KERN_SUCCESS {
        info.phys_footprint
    } else {
        0
    }
}

/// Returns the battery; the simulator has none, and says −1.
fn battery(main: MainThreadMarker) -> Option<Battery> {
    let device = UIDevice::currentDevice(main);
    let level = Some(device.batteryLevel()).filter(|level| *level >= 0.0)?;
    let state = device.batteryState();

    Some(Battery {
        percent: (level.min(1.0) * 100.0).round() as u8,
        charging: state == UIDeviceBatteryState::Charging || state == UIDeviceBatteryState::Full,
    })
}

fn thermal(state: NSProcessInfoThermalState) -> Thermal {
    match state {
        NSProcessInfoThermalState::Nominal => Thermal::Nominal,
        NSProcessInfoThermalState::Fair => Thermal::Fair,
        NSProcessInfoThermalState::Serious => Thermal::Serious,
        _ => Thermal::Critical, // and what a later iOS may add above
    }
}

/// Returns what a person said about the camera.
fn camera() -> PermissionStatus {
    // SAFETY: a constant of the framework, which is there on every iPhone.
    let Some(video) = (unsafe { AVMediaTypeVideo }) else {
        return PermissionStatus::Denied;
    };
    // SAFETY: it is one of the two media types that it takes.
    let status = unsafe { AVCaptureDevice::authorizationStatusForMediaType(video) };

    match status {
        AVAuthorizationStatus::Authorized => PermissionStatus::Granted,
        AVAuthorizationStatus::NotDetermined => PermissionStatus::NotAsked,
        _ => PermissionStatus::Denied, // or forbidden by whoever manages the phone
    }
}

/// Returns whether a person has let the app look for phones, and have iOS ask for it.
fn local_network() -> PermissionStatus {
    let is_allowed = NSUserDefaults::standardUserDefaults().boolForKey(local_network_key());

    match is_allowed {
        true => PermissionStatus::Granted,
        false => PermissionStatus::NotAsked,
    }
}

fn allow_local_network() {
    NSUserDefaults::standardUserDefaults().setBool_forKey(true, local_network_key());
}

fn local_network_key() -> &'static NSString {
    ns_string!("local-network")
}

/// Has iOS ask for the camera; what comes back is dropped unsent if it cannot.
fn ask_for_camera(answer: oneshot::Sender<()>) {
    let answer = std::cell::Cell::new(Some(answer));
    let answered = RcBlock::new(move |_: Bool| {
        if let Some(answer) = answer.take() {
            let _ = answer.send(()); // whoever asked may have gone
        }
    });

    // SAFETY: as in `camera`; the block is kept by the framework until it was called, once, on a queue of its own.
    // What it holds is `Send`.
    unsafe {
        if let Some(video) = AVMediaTypeVideo {
            AVCaptureDevice::requestAccessForMediaType_completionHandler(video, &answered);
        }
    }
}

impl<R: Runtime> System for Ios<R> {
    fn readings(&self) -> watch::Receiver<Reading> {
        self.readings.clone()
    }

    fn follow_places(&self, on: Box<dyn Fn(Place)>) {
        let on = std::rc::Rc::new(on);
        // SAFETY: constants of the framework.
        let (behind, front) = unsafe {
            (
                UIApplicationDidEnterBackgroundNotification,
                UIApplicationWillEnterForegroundNotification,
            )
        };

        let (app, told) = (self.app.clone(), std::rc::Rc::clone(&on));
        observe(behind, move |main| told(Place::Behind(grace(main, &app))));
        observe(front, move |_| on(Place::Front));
    }

    fn hold(&self, holds: Holds) -> Result<(), DeviceError> {
        on_main(&self.app, move |main| {
            UIApplication::sharedApplication(main).setIdleTimerDisabled(holds.screen);
        })
    }

    fn serve(&self, _: Option<Notice>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn permission(&self, kind: PermissionKind) -> Answer<'_> {
        let status = match kind {
            PermissionKind::Camera => camera(),
            PermissionKind::LocalNetwork => local_network(),
            PermissionKind::Notifications => PermissionStatus::NotNeeded,
        };

        ready(Ok(status)).boxed()
    }

    fn request_permission(&self, kind: PermissionKind) -> Answer<'_> {
        async move {
            let status = self.permission(kind).await?;
            if status != PermissionStatus::NotAsked {
                return Ok(status);
            }
            if kind == PermissionKind::LocalNetwork {
                allow_local_network();
                return self.permission(kind).await;
            }

            let (sender, answered) = oneshot::channel();
            ask_for_camera(sender);
            let _ = answered.await; // it is asked below what came of it
            self.permission(kind).await
        }
        .boxed()
    }

    fn has_camera(&self) -> bool {
        // SAFETY: as in `camera`.
        unsafe {
            AVMediaTypeVideo
                .is_some_and(|video| AVCaptureDevice::defaultDeviceWithMediaType(video).is_some())
        }
    }

    fn open_settings(&self) -> Result<(), DeviceError> {
        on_main(&self.app, |main| {
            // SAFETY: a constant of the framework.
            let settings = unsafe { UIApplicationOpenSettingsURLString };
            let Some(url) = NSURL::URLWithString(settings) else {
                return;
            };
            let app = UIApplication::sharedApplication(main);
            // SAFETY: no options are given, so none is of a wrong type.
            unsafe {
                app.openURL_options_completionHandler(&url, &NSDictionary::new(), None);
            }
        })
    }
}

//! What the Kotlin part says, and what it means. Kotlin only tells; all that is concluded is here, where it is tested.

use node::device::budget_bytes;
use proto::device::{Battery, Policy, Relief, Snapshot, Thermal};
use serde::Deserialize;
use tauri::plugin::PermissionState;

use crate::{PermissionKind, PermissionStatus, Reading};

/// Headroom of heat from which on a phone counts as warm, and as hot: Android's 1 is where it throttles
/// severely. The first is a guess.
const HEADROOM_FAIR: f32 = 0.85;
const HEADROOM_SERIOUS: f32 = 1.0;

/// The first Android on which each must be asked for at run time.
const SDK_NOTIFICATIONS: u32 = 33;
const SDK_LOCAL_NETWORK: u32 = 37;

/// What the Kotlin part says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AndroidReport {
    /// What can be had without closing other apps' processes.
    available_bytes: u64,
    /// Below so much available memory the system begins to close them.
    threshold_bytes: u64,
    total_bytes: u64,
    low_memory: bool,
    /// Negative if there is no battery.
    battery_percent: i32,
    charging: bool,
    power_save: bool,
    /// `PowerManager.THERMAL_STATUS_*`; negative if it is not told.
    thermal_status: i32,
    /// Negative if it is not told.
    headroom: f32,
    radio_lock: bool,
    metered: bool,
}

impl AndroidReport {
    /// Puts together what Kotlin says and what memory this process holds that is nobody else's.
    ///
    /// Weights are mapped files, which Android counts as available: only anonymous memory is ours.
    pub(crate) fn reading(&self, anonymous_bytes: u64) -> Reading {
        let free_bytes = self.available_bytes.saturating_sub(self.threshold_bytes);
        let headroom = Some(self.headroom).filter(|h| h.is_finite() && *h >= 0.0);

        Reading {
            snapshot: Snapshot {
                free_bytes,
                total_bytes: self.total_bytes,
                budget_bytes: budget_bytes(free_bytes, self.total_bytes, anonymous_bytes),
                battery: self.battery(),
                thermal: thermal(self.thermal_status).max(forecast(headroom)),
                low_memory: self.low_memory,
                power_save: self.power_save,
                is_metered: self.metered,
                policy: Policy::default(),
                relief: Relief::None,
            },
            headroom,
            radio_lock: self.radio_lock,
        }
    }

    fn battery(&self) -> Option<Battery> {
        let percent = u8::try_from(self.battery_percent).ok()?;

        Some(Battery {
            percent: percent.min(100),
            charging: self.charging,
        })
    }
}

/// Returns how hot `PowerManager` says the phone is: 1 and 2 are throttling that people do not notice, 3
/// is severe, 4 and above come before it switches off.
fn thermal(status: i32) -> Thermal {
    match status {
        ..=0 => Thermal::Nominal,
        1..=2 => Thermal::Fair,
        3 => Thermal::Serious,
        4.. => Thermal::Critical,
    }
}

/// Returns how hot the phone will be. A forecast alone makes nobody leave.
fn forecast(headroom: Option<f32>) -> Thermal {
    match headroom {
        Some(h) if h >= HEADROOM_SERIOUS => Thermal::Serious,
        Some(h) if h >= HEADROOM_FAIR => Thermal::Fair,
        Some(_) | None => Thermal::Nominal,
    }
}

/// Finds the anonymous memory in Linux's `/proc/self/status`.
pub(crate) fn anonymous_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;

    kib.checked_mul(1024)
}

/// How all permissions stand.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Permissions {
    local_network: PermissionState,
    camera: PermissionState,
    notifications: PermissionState,
}

impl Permissions {
    /// Returns how one of them stands on an Android of this SDK. An older one grants what a newer one asks for.
    pub(crate) fn status(self, kind: PermissionKind, sdk: u32) -> PermissionStatus {
        let (state, is_asked) = match kind {
            PermissionKind::LocalNetwork => (self.local_network, sdk >= SDK_LOCAL_NETWORK),
            PermissionKind::Camera => (self.camera, true),
            PermissionKind::Notifications => (self.notifications, sdk >= SDK_NOTIFICATIONS),
        };

        match state {
            _ if !is_asked => PermissionStatus::NotNeeded,
            PermissionState::Granted => PermissionStatus::Granted,
            PermissionState::Denied => PermissionStatus::Denied,
            PermissionState::Prompt | PermissionState::PromptWithRationale => {
                PermissionStatus::NotAsked
            }
        }
    }
}

/// Returns a permission's name in the Kotlin part.
#[cfg(target_os = "android")]
pub(crate) fn alias(kind: PermissionKind) -> &'static str {
    match kind {
        PermissionKind::LocalNetwork => "localNetwork",
        PermissionKind::Camera => "camera",
        PermissionKind::Notifications => "notifications",
    }
}

/// A file that was opened, as the Kotlin part says it; all of it is missing if a person picked none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OpenedFile {
    /// Number by which this process reads it; less than 0 if there is none.
    pub(crate) descriptor: Option<i32>,
    /// What people call it.
    pub(crate) name: String,
    /// By which the system opens it.
    address: String,
    /// Whether the system will do so after a restart.
    lasts: bool,
}

impl OpenedFile {
    /// Returns by what it can be opened again, if it can.
    pub(crate) fn address_that_lasts(&self) -> Option<String> {
        (self.lasts && !self.address.is_empty()).then(|| self.address.clone())
    }
}

/// A file that was written, as the Kotlin part says it; nothing if a person chose no place.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SavedFile {
    /// What people call it.
    pub(crate) name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{
        "availableBytes": 3000000000, "thresholdBytes": 500000000, "totalBytes": 8000000000,
        "lowMemory": false, "batteryPercent": 71, "charging": true, "powerSave": false,
        "thermalStatus": 0, "headroom": 0.4, "radioLock": true, "metered": false
    }"#;

    #[test]
    fn a_file_is_opened_again_only_if_the_system_lets_us() {
        let opened = |lasts: bool| -> OpenedFile {
            let text = format!(
                r#"{{"descriptor": 7, "name": "a.gguf", "address": "content://a", "lasts": {lasts}}}"#
            );
            serde_json::from_str(&text).expect("as Kotlin writes it")
        };

        let file = opened(true);
        assert_eq!((file.descriptor, file.name.as_str()), (Some(7), "a.gguf"));
        assert_eq!(file.address_that_lasts(), Some("content://a".into()));
        assert_eq!(opened(false).address_that_lasts(), None);
        let none: OpenedFile = serde_json::from_str("{}").expect("nothing was picked");
        assert_eq!(none.descriptor, None);
    }

    #[test]
    fn a_file_is_saved_or_is_not() {
        let saved = |text: &str| -> SavedFile { serde_json::from_str(text).expect("Kotlin's") };

        assert_eq!(saved(r#"{"name": "a.md"}"#).name, Some("a.md".into()));
        assert_eq!(saved("{}").name, None);
    }

    #[test]
    fn what_kotlin_says_is_read() {
        let reading = report(|_| {}).reading(1_000_000_000);

        let snapshot = reading.snapshot;
        assert_eq!(snapshot.free_bytes, 2_500_000_000);
        assert_eq!(
            snapshot.budget_bytes, 3_500_000_000,
            "free, and ours already"
        );
        let battery = snapshot.battery.expect("it has one");
        assert!(battery.percent == 71 && battery.charging);
        assert_eq!(snapshot.thermal, Thermal::Nominal);
        assert_eq!(reading.headroom, Some(0.4));
        assert!(reading.radio_lock && !snapshot.is_metered);
    }

    #[test]
    fn what_kotlin_does_not_know_is_left_out() {
        let reading = report(|r| {
            r.battery_percent = -1;
            r.thermal_status = -1;
            r.headroom = -1.0;
            r.threshold_bytes = u64::MAX;
        })
        .reading(0);

        assert_eq!(reading.snapshot.battery, None);
        assert_eq!(reading.snapshot.thermal, Thermal::Nominal);
        assert_eq!(reading.headroom, None);
        assert_eq!(reading.snapshot.free_bytes, 0);
    }

    #[test]
    fn heat_is_what_is_and_what_is_to_come() {
        let cases = [
            (0, 0.5, Thermal::Nominal),
            (0, 0.9, Thermal::Fair),
            (0, 3.0, Thermal::Serious),
            (1, 0.5, Thermal::Fair),
            (2, -1.0, Thermal::Fair),
            (3, 0.5, Thermal::Serious),
            (4, 0.5, Thermal::Critical),
            (6, f32::NAN, Thermal::Critical),
        ];

        for (status, headroom, expected) in cases {
            let told = report(|r| (r.thermal_status, r.headroom) = (status, headroom));
            let thermal = told.reading(0).snapshot.thermal;
            assert_eq!(thermal, expected, "{status} {headroom}");
        }
    }

    #[test]
    fn people_are_asked_only_where_the_system_wants_it() {
        let states =
            r#"{"localNetwork": "prompt", "camera": "denied", "notifications": "granted"}"#;
        let permissions: Permissions = serde_json::from_str(states).expect("Tauri's words");
        let status = |sdk| {
            let kinds = [
                PermissionKind::LocalNetwork,
                PermissionKind::Camera,
                PermissionKind::Notifications,
            ];
            kinds.map(|kind| permissions.status(kind, sdk))
        };

        use PermissionStatus::{Denied, Granted, NotAsked, NotNeeded};
        assert_eq!(status(28), [NotNeeded, Denied, NotNeeded]);
        assert_eq!(status(33), [NotNeeded, Denied, Granted]);
        assert_eq!(status(36), [NotNeeded, Denied, Granted]);
        assert_eq!(status(37), [NotAsked, Denied, Granted]);
    }

    #[test]
    fn anonymous_memory_is_found() {
        let status = "VmRSS:\t  900 kB\nRssAnon:\t    600 kB\nRssFile:\t  300 kB\n";

        assert_eq!(anonymous_bytes(status), Some(600 * 1024));
        assert_eq!(anonymous_bytes("RssAnon: much"), None);
        assert_eq!(anonymous_bytes(""), None);
    }

    fn report(change: impl FnOnce(&mut AndroidReport)) -> AndroidReport {
        let mut report = serde_json::from_str(REPORT).expect("it is one");
        change(&mut report);
        report
    }
}

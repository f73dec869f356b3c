//! How this phone is: memory, battery and heat.
//!
//! Whoever knows is a [`Source`]: the desktop's system ([`Desktop`]), a script ([`Script`]), and on
//! phones the app's own plugin. What follows from what they say is decided in
//! [`proto::device`].

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proto::device::{Battery, Policy, Relief, Snapshot, Thermal};
use serde::Deserialize;
use tokio::sync::mpsc;

#[cfg(not(any(target_os = "android", target_os = "ios")))]
mod desktop;

#[cfg(not(any(target_os = "android", target_os = "ios")))]
pub use desktop::Desktop;

/// How often a phone looks how it is: heat takes tens of seconds, a battery minutes; and it costs some milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Part of the memory that an app may use where the system does not say, and what it leaves to the
/// rest in any case: the rule for a phone that is started for the first time.
const BUDGET_PERCENT: u64 = 60;
const LEFT_BYTES: u64 = 1_200_000_000;

/// Bytes of a script, at most: thousands of scenes.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// Whoever knows how this phone is.
pub trait Source: std::fmt::Debug {
    /// Returns how it is now.
    ///
    /// # Blocking
    ///
    /// Some milliseconds: the system is asked.
    fn snapshot(&mut self) -> Snapshot;
}

/// A source that several threads ask.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Box<dyn Source + Send>>>);

impl Shared {
    /// Shares a source.
    pub fn new(source: Box<dyn Source + Send>) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    /// Looks from time to time how the phone is, on a thread of its own, which ends once nobody listens.
    ///
    /// # Errors
    ///
    /// Any that the system returns when it starts no thread.
    pub fn watch(mut self) -> io::Result<mpsc::Receiver<Snapshot>> {
        let (snapshots, receiver) = mpsc::channel(1);
        let look = move || {
            while !snapshots.is_closed() {
                thread::sleep(LOOK_EVERY);
                let _ = snapshots.try_send(self.snapshot()); // the one before has not been taken yet: as well
            }
        };

        thread::Builder::new().name("device".into()).spawn(look)?;
        Ok(receiver)
    }
}

impl Source for Shared {
    fn snapshot(&mut self) -> Snapshot {
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);

        source.snapshot()
    }
}

/// Why a phone's state cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The system does not say.
    #[error("the system does not tell its memory: {0}")]
    System(#[from] sysinfo::Error),
    /// On phones only the app can ask the system.
    #[error("on a phone the app must tell how it is")]
    Untold,
    /// The script cannot be read.
    #[error("cannot read the script {}: {source}", path.display())]
    Io {
        /// The script's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The script is none.
    #[error("the script {} is wrong: {source}", path.display())]
    Script {
        /// The script's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The script has no scene, or they are not in order.
    #[error("the scenes of the script {} must ascend in `at_s`, and there must be one", path.display())]
    Order {
        /// The script's file.
        path: PathBuf,
    },
}

/// Returns who tells how this machine is, where the system alone can.
///
/// # Errors
///
/// - [`DeviceError::System`] where it tells nothing
/// - [`DeviceError::Untold`] on a phone
pub fn of_this_system() -> Result<Box<dyn Source + Send>, DeviceError> {
    #[cfg(any(target_os = "android", target_os = "ios"))]
    return Err(DeviceError::Untold);

    #[cfg(not(any(target_os = "android", target_os = "ios")))]
    Ok(Box::new(Desktop::new(None)?))
}

/// Returns what an app may use: what is free and what it uses already, and no more than the rule
/// for phones allows.
pub fn budget_bytes(free_bytes: u64, total_bytes: u64, used_bytes: u64) -> u64 {
    let by_rule = (total_bytes / 100 * BUDGET_PERCENT).min(total_bytes.saturating_sub(LEFT_BYTES));

    by_rule.min(free_bytes.saturating_add(used_bytes))
}

/// A play: what a phone is, and when. For tests and demonstrations.
///
/// A file holds a JSON list of scenes; each lasts until the next, the last for ever:
///
/// ```json
/// [
///   {"at_s": 0, "free_bytes": 4000000000, "budget_bytes": 3000000000,
///    "battery": {"percent": 80, "charging": false}, "thermal": "nominal"},
///   {"at_s": 20, "free_bytes": 4000000000, "budget_bytes": 3000000000, "thermal": "serious"}
/// ]
/// ```
#[derive(Debug)]
pub struct Script {
    started: Instant,
    now: Snapshot,
    later: VecDeque<Scene>,
}

/// How a phone is from some time on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    at_s: f64,
    free_bytes: u64,
    #[serde(default)]
    total_bytes: u64,
    budget_bytes: u64,
    #[serde(default)]
    battery: Option<Battery>,
    #[serde(default)]
    thermal: Thermal,
    #[serde(default)]
    low_memory: bool,
    #[serde(default)]
    power_save: bool,
    #[serde(default)]
    metered: bool,
}

impl Script {
    /// Reads a script, which begins to play.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Io`], [`DeviceError::Script`] or [`DeviceError::Order`].
    pub fn load(path: &Path) -> Result<Self, DeviceError> {
        let io = |source| DeviceError::Io {
            path: path.into(),
            source,
        };
        if std::fs::metadata(path).map_err(io)?.len() > SCRIPT_BYTES_MAX {
            return Err(io(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read(path).map_err(io)?;
        let scenes = serde_json::from_slice::<VecDeque<Scene>>(&text).map_err(|source| {
            DeviceError::Script {
                path: path.into(),
                source,
            }
        })?;

        Self::new(scenes).ok_or_else(|| DeviceError::Order { path: path.into() })
    }

    fn new(mut scenes: VecDeque<Scene>) -> Option<Self> {
        let in_order = scenes.iter().is_sorted_by(|a, b| a.at_s <= b.at_s);
        let possible = scenes.iter().all(|scene| scene.at_s >= 0.0);
        let first = scenes.pop_front()?;

        (in_order && possible).then(|| Self {
            started: Instant::now(),
            now: first.snapshot(),
            later: scenes,
        })
    }

    fn at(&mut self, elapsed: Duration) -> Snapshot {
        let is_on = |scene: &Scene| scene.at_s <= elapsed.as_secs_f64();
        while self.later.front().is_some_and(is_on) {
            let scene = self.later.pop_front().expect("just looked at");
            self.now = scene.snapshot();
        }

        self.now
    }
}

impl Source for Script {
    fn snapshot(&mut self) -> Snapshot {
        self.at(self.started.elapsed())
    }
}

impl Scene {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            free_bytes: self.free_bytes,
            total_bytes: self.total_bytes,
            budget_bytes: self.budget_bytes,
            battery: self.battery,
            thermal: self.thermal,
            low_memory: self.low_memory,
            power_save: self.power_save,
            is_metered: self.metered,
            policy: Policy::default(),
            relief: Relief::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn a_budget_leaves_room_for_the_rest() {
        assert_eq!(budget_bytes(6 * GB, 8 * GB, 0), 4_800_000_000);
        assert_eq!(budget_bytes(GB, 8 * GB, GB), 2 * GB);
        assert_eq!(budget_bytes(2 * GB, 2 * GB, 0), 800_000_000);
        assert_eq!(budget_bytes(GB, GB, 0), 0);
    }

    #[test]
    fn a_script_plays_scene_after_scene() {
        let mut script = script(
            r#"[{"at_s": 0, "free_bytes": 5, "budget_bytes": 4},
                {"at_s": 1, "free_bytes": 5, "budget_bytes": 3, "thermal": "fair"},
                {"at_s": 2, "free_bytes": 5, "budget_bytes": 2,
                 "battery": {"percent": 7, "charging": true}}]"#,
        )
        .expect("it is in order");
        let at = |script: &mut Script, ms| script.at(Duration::from_millis(ms));

        assert_eq!(at(&mut script, 999).budget_bytes, 4);
        assert_eq!(at(&mut script, 1000).thermal, Thermal::Fair);
        let battery = at(&mut script, 60_000).battery.expect("it has one by then");
        assert!(battery.charging && battery.percent == 7);
    }

    #[test]
    fn a_script_out_of_order_is_none() {
        let scene = |at_s| format!(r#"{{"at_s": {at_s}, "free_bytes": 1, "budget_bytes": 1}}"#);

        assert!(script("[]").is_none());
        assert!(script(&format!("[{},{}]", scene(2), scene(1))).is_none());
        assert!(script(&format!("[{}]", scene(-1))).is_none());
    }

    fn script(json: &str) -> Option<Script> {
        Script::new(serde_json::from_str(json).expect("it is JSON"))
    }
}

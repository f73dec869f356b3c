//! A computer. On phones no library tells the battery, and the heat only the system's own API.

use proto::device::{Battery, Policy, Relief, Snapshot, Thermal};
use starship_battery::State;
use starship_battery::units::ratio::percent;
use sysinfo::{Components, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{DeviceError, Source, budget_bytes};

/// Degrees below a component's critical temperature from which on it is hot, and warm. A guess:
/// processors slow down some degrees before they would be switched off.
const SERIOUS_BELOW: f32 = 5.0;
const FAIR_BELOW: f32 = 15.0;

/// A computer, asked by way of `sysinfo` and `starship-battery`.
#[derive(Debug)]
pub struct Desktop {
    system: System,
    memory_limit_bytes: Option<u64>,
}

impl Desktop {
    /// Makes a source. `memory_limit_bytes` is what a person allows; the system may allow less.
    ///
    /// # Errors
    ///
    /// [`DeviceError::System`] where the system tells nothing.
    pub fn new(memory_limit_bytes: Option<u64>) -> Result<Self, DeviceError> {
        Ok(Self {
            system: System::new()?,
            memory_limit_bytes,
        })
    }

    /// Returns the bytes that are free, those of all, and those that this process uses.
    fn memory(&mut self) -> (u64, u64, u64) {
        self.system.refresh_memory();
        let me = Pid::from_u32(std::process::id());
        let what = ProcessRefreshKind::nothing().with_memory();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::Some(&[me]), false, what);
        let used = self
            .system
            .process(me)
            .map_or(0, |process| process.memory());

        let (free, total) = (self.system.available_memory(), self.system.total_memory());
        match self.system.cgroup_limits() {
            Some(limits) => (
                free.min(limits.free_memory),
                total.min(limits.total_memory),
                used,
            ),
            None => (free, total, used),
        }
    }
}

impl Source for Desktop {
    fn snapshot(&mut self) -> Snapshot {
        let (free_bytes, total_bytes, used_bytes) = self.memory();

        Snapshot {
            free_bytes,
            total_bytes,
            budget_bytes: budget_bytes(free_bytes, total_bytes, used_bytes)
                .min(self.memory_limit_bytes.unwrap_or(u64::MAX)),
            battery: battery(),
            thermal: thermal(),
            low_memory: false,
            power_save: false,
            is_metered: false,
            policy: Policy::default(),
            relief: Relief::None,
        }
    }
}

/// Returns the fullest battery; none is nothing unusual.
fn battery() -> Option<Battery> {
    let batteries = starship_battery::Manager::new().and_then(|manager| manager.batteries());
    let batteries = batteries.inspect_err(|error| tracing::debug!(%error, "No battery to be seen"));

    let told = batteries.ok()?.flatten().map(|battery| Battery {
        percent: battery.state_of_charge().get::<percent>().clamp(0.0, 100.0) as u8,
        charging: matches!(
            battery.state(),
            State::Charging | State::Full | State::Paused
        ),
    });
    told.max_by_key(|battery| battery.percent)
}

/// Returns how hot the hottest component is beside what it bears, where it says so.
fn thermal() -> Thermal {
    let Ok(components) = Components::new_with_refreshed_list() else {
        return Thermal::Nominal;
    };
    let components = components.iter();
    let margins = components.filter_map(|c| Some(c.critical()? - c.temperature()?));

    margins.map(thermal_of).max().unwrap_or_default()
}

/// Returns how hot something is that may become so many degrees hotter.
fn thermal_of(margin: f32) -> Thermal {
    match margin {
        m if m <= 0.0 => Thermal::Critical,
        m if m <= SERIOUS_BELOW => Thermal::Serious,
        m if m <= FAIR_BELOW => Thermal::Fair,
        _ => Thermal::Nominal, // and what is no number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn this_machine_tells_how_it_is() {
        let mut desktop = Desktop::new(Some(GB / 2)).expect("it tells its memory");

        let snapshot = desktop.snapshot();

        assert!(snapshot.free_bytes > 0);
        assert!((1..=GB / 2).contains(&snapshot.budget_bytes));
    }

    #[test]
    fn heat_is_told_by_what_is_left() {
        let cases = [
            (60.0, Thermal::Nominal),
            (15.0, Thermal::Fair),
            (5.0, Thermal::Serious),
            (0.0, Thermal::Critical),
            (f32::NAN, Thermal::Nominal),
        ];

        for (margin, thermal) in cases {
            assert_eq!(thermal_of(margin), thermal, "{margin}");
        }
    }
}

//! How the phone is, whichever system told it.

use node::device::Source;
use proto::device::Snapshot;
use serde::Deserialize;
use tokio::sync::watch;

/// Most CSS pixels that an inset may be: more than any phone is high.
const INSET_MAX: f32 = 4096.0;

/// How this phone is at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// What the group is told, and policy goes by.
    pub snapshot: Snapshot,
    /// How near the phone will be to severe throttling in 10 s, which is 1; `None` if it does not say.
    pub headroom: Option<f32>,
    /// Whether the radio is kept from dozing.
    pub radio_lock: bool,
}

/// What of the page is hidden by the system's bars, a cut-out, or the keyboard, in CSS pixels.
#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
pub struct Insets {
    /// At the top.
    pub top: f32,
    /// At the bottom, without the keyboard.
    pub bottom: f32,
    /// At the left.
    pub left: f32,
    /// At the right.
    pub right: f32,
    /// By the keyboard, above `bottom`.
    pub keyboard: f32,
}

impl Insets {
    /// Returns what makes a page know them: its CSS properties `--native-*`.
    pub fn script(&self) -> String {
        let values = [
            ("inset-top", self.top),
            ("inset-bottom", self.bottom),
            ("inset-left", self.left),
            ("inset-right", self.right),
            ("keyboard", self.keyboard),
        ];
        let set = values.map(|(name, pixels)| {
            let pixels = Some(pixels).filter(|p| p.is_finite()).unwrap_or_default();
            let pixels = pixels.clamp(0.0, INSET_MAX);
            format!("s.setProperty(\"--native-{name}\",\"{pixels:.1}px\");")
        });

        format!(
            "(()=>{{const s=document.documentElement.style;{}}})()",
            set.concat()
        )
    }
}

/// The node's source: whatever was read last.
#[derive(Debug)]
pub(crate) struct Latest {
    readings: watch::Receiver<Reading>,
    memory_limit_bytes: Option<u64>,
}

impl Latest {
    pub(crate) fn new(readings: watch::Receiver<Reading>, memory_limit_bytes: Option<u64>) -> Self {
        Self {
            readings,
            memory_limit_bytes,
        }
    }
}

impl Source for Latest {
    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.readings.borrow_and_update().snapshot;
        let limit = self.memory_limit_bytes.unwrap_or(u64::MAX);

        Snapshot {
            budget_bytes: snapshot.budget_bytes.min(limit),
            ..snapshot
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::device::{Policy, Relief, Thermal};

    use super::*;

    #[test]
    fn the_node_hears_what_was_read_last() {
        let (sender, receiver) = watch::channel(READING);
        let mut source = Latest::new(receiver, Some(1_000));
        assert_eq!(
            source.snapshot().budget_bytes,
            1_000,
            "what a person allows"
        );

        let mut warm = READING;
        warm.snapshot.thermal = Thermal::Fair;
        sender.send_replace(warm);

        assert_eq!(source.snapshot().thermal, Thermal::Fair);
    }

    #[test]
    fn insets_are_set_whatever_they_are() {
        let insets = Insets {
            top: 24.25,
            bottom: f32::NAN,
            left: -3.0,
            right: f32::INFINITY,
            keyboard: 300.0,
        };

        let script = insets.script();

        for (name, pixels) in [
            ("inset-top", "24.2"),
            ("inset-bottom", "0.0"),
            ("inset-left", "0.0"),
            ("inset-right", "0.0"),
            ("keyboard", "300.0"),
        ] {
            let set = format!("s.setProperty(\"--native-{name}\",\"{pixels}px\");");
            assert!(script.contains(&set), "{script}");
        }
    }

    const READING: Reading = Reading {
        snapshot: Snapshot {
            free_bytes: 3_000_000,
            total_bytes: 8_000_000,
            budget_bytes: 2_000_000,
            battery: None,
            thermal: Thermal::Nominal,
            low_memory: false,
            power_save: false,
            is_metered: false,
            policy: Policy {
                memory_limit_bytes: None,
                battery_floor_percent: 20,
                only_while_charging: false,
                use_metered: false,
            },
            relief: Relief::None,
        },
        headroom: None,
        radio_lock: false,
    };
}

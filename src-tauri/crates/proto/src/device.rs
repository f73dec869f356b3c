//! How a phone is: memory, battery, heat; and what it had better do about it.
//!
//! Whoever can ask the system makes a [`Snapshot`] from time to time: a desktop, a phone's own
//! plugin, or a script in a test. What follows from it is decided here, the same everywhere:
//!
//! | it is | advice | until |
//! | --- | --- | --- |
//! | too hot, or its battery is all but empty | [`Advice::Leave`] | cooler and rested, charged or plugged in |
//! | not charging, or on a network that costs money, and its person minds | [`Advice::Leave`] | plugged in, on another |
//! | out of memory | [`Advice::Shed`] as many shards as are too much | there has been enough for a while |
//! | running out of it, as the system warns again and again | [`Advice::Shed`] half of its shards | the same |
//! | hot | [`Advice::Shed`] half of its shards | cool and rested |
//! | warm, or saving power | [`Advice::Slow`]: half of its threads | cool and rested, or not saving |
//! | anything else | [`Advice::Ok`] | |
//!
//! Where the limits are that concern a person's money and battery is theirs to say: a [`Policy`], which goes with
//! each snapshot, so that whoever plans goes by it too.
//!
//! A limit is left at another value than it was reached at, and heat not before the phone has rested, so that one that
//! is just about too hot does not come and go: a [`Caretaker`] sees to that. What a phone asks of whoever plans goes with
//! its snapshot, too: a [`Relief`].

mod caretaker;

use serde::{Deserialize, Serialize};

use crate::placement::Tiredness;

pub use caretaker::Caretaker;

/// Battery below which a phone is given no new work, in percent, if its person has not said otherwise. A guess: people
/// begin to worry at a fifth.
const BATTERY_FLOOR_PERCENT: u8 = 20;

/// How many percent below that a phone leaves the work that it has: enough to finish an answer, and by default enough
/// left to call somebody. A guess.
const BATTERY_GRACE_PERCENT: u8 = 10;

/// How many percent above its limit a battery must be to count as recovered.
const BATTERY_MARGIN_PERCENT: u8 = 3;

/// Bytes that anything in a snapshot may be, 1 PiB: as much as placement counts with.
const BYTES_MAX: u64 = 1 << 50;

/// How a phone is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Memory that is free, or can be had at once.
    pub free_bytes: u64,
    /// Memory that it has; 0 if that is not known.
    pub total_bytes: u64,
    /// Memory that the system lets the app use in all, for weights, caches and contexts.
    pub budget_bytes: u64,
    /// Its battery; `None` if it has none, as desktops.
    pub battery: Option<Battery>,
    /// How hot it is, as far as the system says.
    pub thermal: Thermal,
    /// Whether the system is about to end apps for want of memory, whatever it has said that this one may use.
    pub low_memory: bool,
    /// Whether the system saves power.
    pub power_save: bool,
    /// Whether its network costs money.
    pub is_metered: bool,
    /// What its person allows.
    pub policy: Policy,
    /// What it asks of whoever plans.
    pub relief: Relief,
}

/// What a person allows their phone to do for the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Memory that weights, caches and buffers may take together; `None` leaves it to the system.
    pub memory_limit_bytes: Option<u64>,
    /// Battery below which it is given no new work, in percent, unless it is being charged.
    pub battery_floor_percent: u8,
    /// Whether it works only while it is being charged. One without a battery counts as charging.
    pub only_while_charging: bool,
    /// Whether it works over a network that costs money.
    pub use_metered: bool,
}

/// A battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Battery {
    /// How full it is; more than 100 counts as 100.
    pub percent: u8,
    /// Whether it is being charged, or need not be.
    pub charging: bool,
}

/// How hot a phone is: the steps that both Android and iOS have, cooler first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thermal {
    /// Nothing is known, or nothing is the matter.
    #[default]
    Nominal,
    /// Warm: it will soon slow down by itself.
    Fair,
    /// Hot: it has slowed down.
    Serious,
    /// Too hot: it will stop.
    Critical,
}

/// What a phone computes with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Layer shards.
    pub n_shards: u32,
    /// Bytes of these, without caches.
    pub shards_bytes: u64,
    /// Memory that everything of ours takes at the least: the ends and the caches too.
    pub used_bytes: u64,
}

/// What a phone had better do. The later ones go before the earlier.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Go on.
    #[default]
    Ok,
    /// Compute with half of its threads.
    Slow,
    /// Give so many shards away.
    Shed(u32),
    /// Take no part.
    Leave,
}

/// What a phone asks of whoever plans.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relief {
    /// Nothing.
    #[default]
    None,
    /// No more layer shards than so many bytes of them, without caches.
    AtMost {
        /// Bytes.
        shards_bytes: u64,
        /// Whether for heat; else for want of memory.
        is_hot: bool,
    },
    /// No part at all, for this reason.
    Rest(Tiredness),
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            memory_limit_bytes: None,
            battery_floor_percent: BATTERY_FLOOR_PERCENT,
            only_while_charging: false,
            use_metered: true,
        }
    }
}

impl Snapshot {
    /// Returns another phone's snapshot as far as it can be.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            free_bytes: self.free_bytes.min(BYTES_MAX),
            total_bytes: self.total_bytes.min(BYTES_MAX),
            budget_bytes: self.budget_bytes.min(BYTES_MAX),
            ..self
        }
    }

    /// Returns it as what its person allows makes it.
    #[must_use]
    pub fn under(self, policy: Policy) -> Self {
        let limit_bytes = policy.memory_limit_bytes.unwrap_or(u64::MAX);

        Self {
            budget_bytes: self.budget_bytes.min(limit_bytes),
            policy,
            ..self
        }
    }

    /// Returns why the phone had better be given no new work, if it had. It may keep what it has, as far as it asks for
    /// no [`Relief`].
    pub fn tiredness(&self) -> Option<Tiredness> {
        match self.relief {
            Relief::Rest(tiredness) => Some(tiredness),
            Relief::None | Relief::AtMost { .. } => self.reason_to_rest(),
        }
    }

    fn is_hot(&self) -> bool {
        self.thermal >= Thermal::Serious
    }

    fn reason_to_rest(&self) -> Option<Tiredness> {
        if self.is_hot() {
            Some(Tiredness::Hot)
        } else if self.is_below(self.policy.battery_floor_percent) {
            Some(Tiredness::LowBattery)
        } else {
            self.forbids()
        }
    }

    /// Returns why its person would not have it work, where it is and as it is plugged in.
    fn forbids(&self) -> Option<Tiredness> {
        let is_charging = self.battery.is_none_or(|battery| battery.charging);

        if self.policy.only_while_charging && !is_charging {
            Some(Tiredness::NotCharging)
        } else if self.is_metered && !self.policy.use_metered {
            Some(Tiredness::Metered)
        } else {
            None
        }
    }

    /// Returns what the phone had better do, given what it computes with.
    pub fn advice(&self, load: Load) -> Advice {
        let missing_bytes = load.used_bytes.saturating_sub(self.budget_bytes);

        if self.thermal >= Thermal::Critical
            || self.is_below(self.leaves_below())
            || self.forbids().is_some()
        {
            Advice::Leave
        } else if missing_bytes > 0 {
            load.shed(missing_bytes)
        } else if self.is_hot() || self.low_memory {
            load.shed(load.shards_bytes / 2)
        } else if self.thermal >= Thermal::Fair || self.power_save {
            Advice::Slow
        } else {
            Advice::Ok
        }
    }

    /// Returns whether the phone is so much better than when it was given `advice`, and asked for `relief`, that this may
    /// be over.
    fn is_over(&self, advice: Advice, relief: Relief) -> bool {
        match (advice, relief) {
            (Advice::Leave, _) => {
                let recovered = self.leaves_below().saturating_add(BATTERY_MARGIN_PERCENT);
                self.thermal <= Thermal::Fair && !self.is_below(recovered)
            }
            (Advice::Shed(_), Relief::AtMost { is_hot: false, .. }) => true,
            (Advice::Ok | Advice::Slow | Advice::Shed(_), _) => self.thermal <= Thermal::Nominal,
        }
    }

    /// Battery below which the phone leaves, in percent.
    fn leaves_below(&self) -> u8 {
        let floor = self.policy.battery_floor_percent;

        floor.saturating_sub(BATTERY_GRACE_PERCENT)
    }

    fn is_below(&self, percent: u8) -> bool {
        self.battery
            .is_some_and(|battery| !battery.charging && battery.percent < percent)
    }
}

impl Advice {
    /// Returns its place among all advice.
    fn rank(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Slow => 1,
            Self::Shed(_) => 2,
            Self::Leave => 3,
        }
    }
}

impl Load {
    /// Advises to give away as many shards as hold `bytes`; to leave if these are not enough.
    fn shed(self, bytes: u64) -> Advice {
        if bytes == 0 || self.n_shards == 0 {
            return if bytes == 0 {
                Advice::Ok
            } else {
                Advice::Leave
            };
        }
        let shard_bytes = (self.shards_bytes / u64::from(self.n_shards)).max(1);
        let n_shards = bytes.div_ceil(shard_bytes);

        match u32::try_from(n_shards) {
            Ok(n) if n <= self.n_shards => Advice::Shed(n),
            _ => Advice::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) const GB: u64 = 1_000_000_000;

    #[test]
    fn a_phone_that_is_well_goes_on() {
        assert_eq!(WELL.advice(LOAD), Advice::Ok);
        assert_eq!(WELL.tiredness(), None);
    }

    #[test]
    fn no_battery_is_no_low_battery() {
        let desktop = Snapshot {
            battery: None,
            ..WELL
        };

        assert_eq!(desktop.advice(LOAD), Advice::Ok);
        assert_eq!(desktop.tiredness(), None);
    }

    #[test]
    fn each_trouble_has_its_advice() {
        let cases = [
            (hot(Thermal::Fair), Advice::Slow, None),
            (hot(Thermal::Serious), Advice::Shed(3), Some(Tiredness::Hot)),
            (hot(Thermal::Critical), Advice::Leave, Some(Tiredness::Hot)),
            (charged(25), Advice::Ok, None),
            (charged(15), Advice::Ok, Some(Tiredness::LowBattery)),
            (charged(9), Advice::Leave, Some(Tiredness::LowBattery)),
            (budget(1_900_000_000), Advice::Shed(1), None),
            (budget(1_300_000_000), Advice::Shed(5), None),
            (budget(GB / 10), Advice::Leave, None),
        ];

        for (snapshot, advice, tiredness) in cases {
            assert_eq!(snapshot.advice(LOAD), advice, "{snapshot:?}");
            assert_eq!(snapshot.tiredness(), tiredness, "{snapshot:?}");
        }
    }

    proptest! {
        /// Nobody is told to give away more than it has.
        #[test]
        fn advice_can_be_followed(
            budget_bytes in any::<u64>(),
            percent in any::<u8>(),
            charging in any::<bool>(),
            heat in 0..4usize,
            n_shards in 0..20u32,
            shards_bytes in any::<u64>(),
            used_bytes in any::<u64>(),
        ) {
            let thermal = [Thermal::Nominal, Thermal::Fair, Thermal::Serious, Thermal::Critical][heat];
            let battery = Some(Battery { percent, charging });
            let snapshot = Snapshot { budget_bytes, battery, thermal, ..WELL };
            let load = Load { n_shards, shards_bytes, used_bytes };

            if let Advice::Shed(n) = snapshot.advice(load) {
                prop_assert!(n >= 1 && n <= n_shards);
            }
        }
    }

    #[test]
    fn a_person_says_when_their_phone_rests() {
        let policy = |policy| Snapshot {
            policy,
            is_metered: true,
            ..charged(40)
        };
        let careful = Policy {
            battery_floor_percent: 50,
            ..Policy::default()
        };
        let plugged = Policy {
            only_while_charging: true,
            ..Policy::default()
        };
        let thrifty = Policy {
            use_metered: false,
            ..Policy::default()
        };
        let cases = [
            (policy(Policy::default()), None, Advice::Ok),
            (policy(careful), Some(Tiredness::LowBattery), Advice::Ok),
            (policy(plugged), Some(Tiredness::NotCharging), Advice::Leave),
            (policy(thrifty), Some(Tiredness::Metered), Advice::Leave),
        ];

        for (snapshot, tiredness, advice) in cases {
            assert_eq!(snapshot.tiredness(), tiredness, "{snapshot:?}");
            assert_eq!(snapshot.advice(LOAD), advice, "{snapshot:?}");
        }
        let desktop = Snapshot {
            battery: None,
            ..policy(plugged)
        };
        assert_eq!(desktop.tiredness(), None);
    }

    pub(super) const WELL: Snapshot = Snapshot {
        free_bytes: 4 * GB,
        total_bytes: 8 * GB,
        budget_bytes: 3 * GB,
        battery: Some(Battery {
            percent: 80,
            charging: false,
        }),
        thermal: Thermal::Nominal,
        low_memory: false,
        power_save: false,
        is_metered: false,
        policy: Policy {
            memory_limit_bytes: None,
            battery_floor_percent: BATTERY_FLOOR_PERCENT,
            only_while_charging: false,
            use_metered: true,
        },
        relief: Relief::None,
    };

    pub(super) const LOAD: Load = Load {
        n_shards: 6,
        shards_bytes: 900_000_000,
        used_bytes: 2 * GB,
    };

    pub(super) fn hot(thermal: Thermal) -> Snapshot {
        Snapshot { thermal, ..WELL }
    }

    pub(super) fn charged(percent: u8) -> Snapshot {
        let battery = Some(Battery {
            percent,
            charging: false,
        });

        Snapshot { battery, ..WELL }
    }

    fn budget(budget_bytes: u64) -> Snapshot {
        Snapshot {
            budget_bytes,
            ..WELL
        }
    }
}

//! What a link does to the frames it carries, and the usual links by name.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One direction between two phones.
///
/// The fields are what a person says and what the command socket carries, so the units are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One-way delay, from the end of sending to arrival.
    #[serde(default)]
    pub delay_ms: f64,
    /// How far the delay wanders to either side. At most `delay_ms`.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Share of frames that never arrive, `0.0..=1.0`. A multicast is lost for each receiver apart.
    #[serde(default)]
    pub loss: f64,
    /// Bits of Ethernet frame per second, in millions. `None`: as fast as this machine can.
    #[serde(default)]
    pub rate_mbps: Option<f64>,
    /// Whether each frame draws a jitter of its own, so that a later one may arrive earlier.
    ///
    /// Wi-Fi keeps the order of one sender's frames, so no profile sets it.
    #[serde(default)]
    pub reorder: bool,
}

/// The usual networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// No delay and no limit: what the switch itself can do.
    Loopback,
    /// Near the access point, nobody else on it: 2 ms, 300 Mb/s.
    GoodWifi,
    /// A home: 5 ms ± 2 ms, 150 Mb/s.
    Wifi,
    /// A full train: 15 ms ± 10 ms, 40 Mb/s, 1 % loss.
    BusyWifi,
    /// What the LinguaLinked paper had (arXiv 2312.00388): 45 ms one way, 96 Mb/s.
    Paper,
}

impl Profile {
    /// Every profile, from the fastest.
    pub const ALL: [Self; 5] = [
        Self::Loopback,
        Self::GoodWifi,
        Self::Wifi,
        Self::BusyWifi,
        Self::Paper,
    ];

    /// Returns what the shell and the socket call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::GoodWifi => "good-wifi",
            Self::Wifi => "wifi",
            Self::BusyWifi => "busy-wifi",
            Self::Paper => "paper",
        }
    }

    /// Returns the link between any two phones under this profile.
    pub const fn link(self) -> Link {
        match self {
            Self::Loopback => link(0.0, 0.0, 0.0, None),
            Self::GoodWifi => link(2.0, 0.0, 0.0, Some(300.0)),
            Self::Wifi => link(5.0, 2.0, 0.0, Some(150.0)),
            Self::BusyWifi => link(15.0, 10.0, 0.01, Some(40.0)),
            Self::Paper => link(45.0, 0.0, 0.0, Some(96.0)),
        }
    }
}

const fn link(delay_ms: f64, jitter_ms: f64, loss: f64, rate_mbps: Option<f64>) -> Link {
    Link {
        delay_ms,
        jitter_ms,
        loss,
        rate_mbps,
        reorder: false,
    }
}

/// A delay beyond this is a slip of the keyboard: geostationary satellites take 250 ms.
const DELAY_MS_MAX: f64 = 60_000.0;

impl Link {
    /// Checks that the figures describe a link that can exist.
    ///
    /// # Errors
    ///
    /// - [`LinkError::Delay`] unless `0 ≤ delay_ms ≤ 60,000`
    /// - [`LinkError::Jitter`] unless `0 ≤ jitter_ms ≤ delay_ms`
    /// - [`LinkError::Loss`] unless `0 ≤ loss ≤ 1`
    /// - [`LinkError::Rate`] unless the rate is absent or at least one bit per second
    pub fn check(&self) -> Result<(), LinkError> {
        if !(0.0..=DELAY_MS_MAX).contains(&self.delay_ms) {
            return Err(LinkError::Delay(self.delay_ms));
        }
        if !(0.0..=self.delay_ms).contains(&self.jitter_ms) {
            return Err(LinkError::Jitter(self.jitter_ms, self.delay_ms));
        }
        if !(0.0..=1.0).contains(&self.loss) {
            return Err(LinkError::Loss(self.loss));
        }
        match self.rate_mbps {
            Some(rate) if !(rate.is_finite() && rate * 1e6 >= 1.0) => Err(LinkError::Rate(rate)),
            _ => Ok(()),
        }
    }
}

/// Why figures describe no link.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// Negative, absurd or not a number.
    #[error("a delay of {0} ms is not in 0..={DELAY_MS_MAX} ms")]
    Delay(f64),
    /// A frame would arrive before it was sent.
    #[error("a jitter of {0} ms is not in 0..={1} ms, the delay")]
    Jitter(f64, f64),
    /// Not a share.
    #[error("a loss of {0} is not in 0..=1")]
    Loss(f64),
    /// Nothing would ever be sent: that is a partition.
    #[error("a rate of {0} Mb/s sends nothing; cut the link instead")]
    Rate(f64),
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::{Link, LinkError, Profile};

    #[test]
    fn every_profile_is_a_possible_link() {
        for profile in Profile::ALL {
            assert_eq!(profile.link().check(), Ok(()), "{profile:?}");
        }
    }

    #[test]
    fn shell_and_socket_call_a_profile_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_str(profile.name(), false), Ok(profile));
            let json = serde_json::to_value(profile).expect("a name");
            assert_eq!(json, profile.name());
        }
    }

    #[test]
    fn impossible_figures_are_refused() {
        let wifi = Profile::Wifi.link();
        let delay_ms = -1.0;
        let jitter_ms = 5.1;
        let loss = 1.1;

        assert_eq!(
            Link { delay_ms, ..wifi }.check(),
            Err(LinkError::Delay(-1.0))
        );
        assert_eq!(
            Link { jitter_ms, ..wifi }.check(),
            Err(LinkError::Jitter(5.1, 5.0))
        );
        assert_eq!(Link { loss, ..wifi }.check(), Err(LinkError::Loss(1.1)));
        for rate in [0.0, -3.0, f64::INFINITY] {
            let rate_mbps = Some(rate);
            assert_eq!(
                Link { rate_mbps, ..wifi }.check(),
                Err(LinkError::Rate(rate))
            );
        }
        assert!(
            Link {
                delay_ms: f64::NAN,
                ..wifi
            }
            .check()
            .is_err()
        );
    }
}

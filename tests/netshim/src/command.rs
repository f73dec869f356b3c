//! What can be asked of a running network, and what it answers.
//!
//! The same enum serves the Rust methods of [`crate::Net`] and, as one line of JSON each, the command
//! socket:
//!
//! ```text
//! {"cmd":"set_link","a":0,"b":1,"link":{"delay_ms":20,"loss":0.05,"rate_mbps":10}}
//! {"reply":"done"}
//! {"cmd":"unplug","phone":7}
//! {"reply":"refused","error":"there is no phone 7: this network has 3"}
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::link::{Link, LinkError, Profile};
use crate::switch::Counters;

/// What can be asked. Phones are counted from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Puts every link under a profile; links set apart follow it again.
    SetProfile {
        /// Which.
        profile: Profile,
    },
    /// Gives every link the same figures; links set apart follow them again.
    SetAll {
        /// Which.
        link: Link,
    },
    /// Sets the link between two phones apart, with a transmitter of its own for each direction.
    SetLink {
        /// The sending phone.
        a: usize,
        /// The receiving phone.
        b: usize,
        /// The figures.
        link: Link,
        /// Whether the way back stays as it is.
        #[serde(default)]
        one_way: bool,
    },
    /// Asks for the figures in force from one phone to another.
    Link {
        /// The sending phone.
        a: usize,
        /// The receiving phone.
        b: usize,
    },
    /// Cuts the network into groups. Phones that none names make one more group together.
    ///
    /// Frames under way between groups are lost.
    Partition {
        /// Who can still hear each other.
        groups: Vec<Vec<usize>>,
    },
    /// Joins all groups again. Pulled cables stay pulled.
    Heal,
    /// Pulls a phone's cable: its interface loses its carrier, and frames under way are lost.
    Unplug {
        /// Whose.
        phone: usize,
    },
    /// Puts a phone's cable back.
    Plug {
        /// Whose.
        phone: usize,
    },
    /// Stops or lets pass multicast to and from a phone, as some access points do.
    ///
    /// Broadcast (ARP) and IPv6 neighbour solicitation pass all the same: without them the phone
    /// would be cut off.
    BlockMulticast {
        /// Whose.
        phone: usize,
        /// Whether to stop it.
        blocked: bool,
    },
    /// Stops or lets pass what is for one phone alone, to and from a phone, as access points do that keep their clients
    /// apart.
    ///
    /// Broadcast and multicast pass: the phone is heard of, but nothing comes back from it.
    BlockUnicast {
        /// Whose.
        phone: usize,
        /// Whether to stop it.
        blocked: bool,
    },
    /// Asks for every phone's addresses, state and counters.
    Status,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is in force.
    Done,
    /// The figures asked for.
    Link {
        /// In force from `a` to `b`.
        link: Link,
    },
    /// The phones, in order.
    Phones {
        /// Each with its counters.
        phones: Vec<PhoneStatus>,
    },
    /// Nothing was changed.
    Refused {
        /// Why.
        error: String,
    },
}

/// One phone, seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhoneStatus {
    /// What the options called it.
    pub name: String,
    /// For `ip netns exec`.
    pub namespace: String,
    /// The address of `wlan0`.
    pub ipv4: Ipv4Addr,
    /// The link-local address of `wlan0`.
    pub ipv6: Ipv6Addr,
    /// What the switch knows.
    #[serde(flatten)]
    pub port: PortStatus,
}

/// What the switch knows of one phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Whether its cable is in.
    pub plugged: bool,
    /// Whether multicast is stopped.
    pub multicast_blocked: bool,
    /// Whether unicast is stopped.
    pub unicast_blocked: bool,
    /// Phones with the same number hear each other.
    pub group: usize,
    /// Since the start.
    pub counters: Counters,
}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// Phones are counted from 0.
    #[error("there is no phone {phone}: this network has {n_phones}")]
    NoSuchPhone {
        /// What was asked for.
        phone: usize,
        /// How many there are.
        n_phones: usize,
    },
    /// A link has two ends.
    #[error("phone {0} has no link to itself")]
    SamePhone(usize),
    /// A phone is in one place.
    #[error("phone {0} is in two groups")]
    InTwoGroups(usize),
    /// The figures describe no link.
    #[error(transparent)]
    Link(#[from] LinkError),
}

//! What a phone says of itself to whoever is near, and how it fits where only an address is expected.
//!
//! DNS-SD has room for names and values. libp2p-mdns and identify carry addresses and one word, so there the
//! announcement is written as a **label**, which fits a multiaddress' `/dns/` part:
//!
//! ```text
//! /ip4/192.168.1.7/tcp/27077/dns/ll1.1.4k9y…Zw.U2FtJ3MgcGhvbmU/p2p/12D3Koo…
//!                                 │  │ │       └ name, base64url
//!                                 │  │ └ group, base64url, or -
//!                                 │  └ version of the messages
//!                                 └ an announcement of ours, first edition
//! ```
//!
//! Nothing in it is proven, and every part of it is bounded.

use data_encoding::BASE64URL_NOPAD;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use proto::group::{GroupId, Name};

/// What a label starts with.
const EDITION: &str = "ll1";

/// Stands for no group.
const NO_GROUP: &str = "-";

/// What a phone says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// What a person calls it.
    pub name: Name,
    /// The version of the messages that it speaks: [`proto::group::message::VERSION`] for this phone.
    pub version: u16,
    /// The group that it is in.
    pub group: Option<GroupId>,
}

impl Announcement {
    /// Writes it as one word of at most 120 characters: letters, digits, `.`, `-` and `_`.
    pub fn to_label(&self) -> String {
        let name = BASE64URL_NOPAD.encode(self.name.as_str().as_bytes());

        format!(
            "{EDITION}.{}.{}.{name}",
            self.version,
            group_to_text(self.group)
        )
    }

    /// Reads such a word; `None` if it is none.
    pub fn from_label(label: &str) -> Option<Self> {
        let mut parts = label.splitn(4, '.');
        let (edition, version) = (parts.next()?, parts.next()?);
        let (group, name) = (parts.next()?, parts.next()?);
        let name = BASE64URL_NOPAD.decode(name.as_bytes()).ok()?;

        (edition == EDITION).then_some(())?;
        Some(Self {
            name: Name::tidy(&String::from_utf8(name).ok()?),
            version: version.parse().ok()?,
            group: group_from_text(group)?,
        })
    }

    /// Hangs it behind an address.
    pub fn label_address(&self, address: &Multiaddr) -> Multiaddr {
        address.clone().with(Protocol::Dns(self.to_label().into()))
    }
}

/// Takes an announcement off an address, with the phone's id behind it if there is one. `None` if there is none.
pub fn unlabel_address(address: &Multiaddr) -> Option<(Multiaddr, Announcement)> {
    let mut address = address.clone();
    let mut last = address.pop()?;
    if matches!(last, Protocol::P2p(_)) {
        last = address.pop()?;
    }
    let Protocol::Dns(label) = last else {
        return None;
    };

    Announcement::from_label(&label).map(|announcement| (address, announcement))
}

/// Writes a group as 22 characters, or none as `-`.
pub fn group_to_text(group: Option<GroupId>) -> String {
    group.map_or(NO_GROUP.into(), |group| BASE64URL_NOPAD.encode(&group.0))
}

/// Reads what [`group_to_text`] writes. The outer `None` says that it is neither.
pub fn group_from_text(text: &str) -> Option<Option<GroupId>> {
    if text == NO_GROUP {
        return Some(None);
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;

    Some(Some(GroupId(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_rides_behind_an_address_that_is_parsed_as_text() {
        let announcement = announcement("Søren's phone", Some(GroupId([0xff; 16])));
        let address = "/ip4/192.168.1.7/tcp/27077".parse().expect("an address");

        let labelled = announcement.label_address(&address).to_string();
        let read = unlabel_address(&labelled.parse().expect("still an address"));

        assert_eq!(read, Some((address, announcement)));
    }

    /// libp2p-mdns leaves out addresses of more than 255 characters, with `dnsaddr=` and the phone's id.
    #[test]
    fn the_longest_name_fits_a_dns_record() {
        let announcement = announcement(&"x".repeat(200), Some(GroupId([0xff; 16])));
        let address = "/ip4/255.255.255.255/tcp/65535"
            .parse()
            .expect("an address");

        let labelled = announcement.label_address(&address);
        let record =
            format!("dnsaddr={labelled}/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf");

        assert!(record.len() <= 255, "{} characters", record.len());
    }

    #[test]
    fn an_address_of_something_else_has_no_announcement() {
        for address in [
            "/ip4/10.0.0.1/tcp/4001",
            "/dns/example.org",
            "/ip4/10.0.0.1/tcp/1/dns/ll1.x.-.YQ",
        ] {
            assert_eq!(unlabel_address(&address.parse().expect("an address")), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_announcement_or_none(text in ".*", tail in "[-_.a-zA-Z0-9]{0,80}") {
            let _ = Announcement::from_label(&text);
            let _ = Announcement::from_label(&format!("ll1.{tail}"));
        }
    }

    fn announcement(name: &str, group: Option<GroupId>) -> Announcement {
        Announcement {
            name: Name::tidy(name),
            version: 1,
            group,
        }
    }
}

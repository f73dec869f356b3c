//! The invite that is open: a secret of the node's, with addresses and the time of day added.

use std::time::Duration;

use libp2p::Multiaddr;
use node::discovery::address;
use proto::PeerId;
use proto::group::{self, GroupId, Secret, TypedCode};

use crate::api::Invite;

/// Whether an invite is shown, and which.
#[derive(Debug, Default)]
pub struct Doorway {
    /// Whether a person wants to see one.
    is_open: bool,
    issued: Option<Issued>,
}

#[derive(Debug)]
struct Issued {
    group: GroupId,
    secret: Secret,
    expires_unix_ms: u64,
}

impl Doorway {
    /// A person wants to see the invite that comes next.
    pub fn open(&mut self) {
        self.is_open = true;
        self.issued = None;
    }

    /// They have seen enough, or somebody has used it.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// The node has made one. One that nobody wants to see, as when a group is founded, is forgotten.
    pub fn invited(
        &mut self,
        group: GroupId,
        secret: Secret,
        lifetime: Duration,
        now_unix_ms: u64,
    ) {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);

        self.issued = self.is_open.then(|| Issued {
            group,
            secret,
            expires_unix_ms: now_unix_ms.saturating_add(lifetime_ms),
        });
    }

    /// Returns the invite, made for where this phone is now.
    pub fn invite(&self, me: PeerId, addresses: &[Multiaddr], now_unix_ms: u64) -> Option<Invite> {
        let issued = self.issued.as_ref()?;
        if issued.expires_unix_ms <= now_unix_ms {
            return None;
        }

        let invite = group::Invite {
            group: issued.group,
            host: me,
            secret: issued.secret,
            expires_unix_s: issued.expires_unix_ms / 1000,
            addresses: addresses.iter().map(Multiaddr::to_string).collect(),
        };
        let address = addresses.iter().find_map(address::tcp_v4_of);
        let typed = address.map(|address| TypedCode {
            address,
            secret: issued.secret,
        });
        Some(Invite {
            link: invite.to_link(),
            typed_code: typed.map_or_else(String::new, |typed| typed.to_text()),
            expires_unix_ms: issued.expires_unix_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    #[test]
    fn an_invite_is_shown_to_who_wants_it_until_it_expires() {
        let (me, here) = (
            PeerId([1; 32]),
            ["/ip4/10.0.0.7/tcp/4001".parse().expect("an address")],
        );
        let secret = Secret::draw(&mut ChaCha12Rng::seed_from_u64(1));
        let (group, lifetime) = (GroupId([2; 16]), Duration::from_secs(60));
        let mut doorway = Doorway::default();

        doorway.invited(group, secret, lifetime, 1_000);
        assert_eq!(doorway.invite(me, &here, 1_000), None);

        doorway.open();
        doorway.invited(group, secret, lifetime, 1_000);
        let invite = doorway.invite(me, &here, 1_000).expect("it is open");
        assert_eq!(invite.expires_unix_ms, 61_000);
        assert!(invite.link.starts_with("lingualinked://join?"));
        assert!(invite.link.len() < group::LINK_BYTES_MAX);
        assert_eq!(
            TypedCode::from_text(&invite.typed_code).map(|code| code.secret),
            Ok(secret)
        );
        assert_eq!(doorway.invite(me, &here, 61_000), None);
    }
}

//! Invites: a secret that lets one phone in, as a link, a QR code, or typed by hand.
//!
//! Whoever makes an invite has thereby said yes; whoever uses it says yes by using it. The secret
//! never travels between the phones. Both show that they know it by a [`Proof`], which also names
//! both keys: a phone in the middle can neither pass a proof on nor make one, and learns nothing it
//! could use. The making phone keeps only the key that follows from the secret, compares in
//! constant time, and lets one phone in, once, before the invite expires.
//!
//! ```text
//!  newcomer                                host
//!    │  Present  H(key, "newcomer", both)    │
//!    ├──────────────────────────────────────►│  one of mine? in time? unused?
//!    │  Accept   H(key, "host", both)        │
//!    │◄──────────────────────────────────────┤  so this is the phone whose code I read
//! ```
//!
//! **How long a secret.** 64 bits: 11 characters in a link, 13 by hand. Guessing at the door is
//! limited to some twenty tries a second by all strangers together; within ten minutes that finds
//! it with a chance of 10⁻¹⁵. A phone in the middle of a *typed* code (which has no room for a
//! key) may also try secrets on its own against the proof it was shown: 10¹⁰ a second would take
//! thirty years on average.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngCore;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use url::Url;

use super::roster::GroupId;
use crate::PeerId;

/// Bytes of a link at most, so that a small phone's camera reads its QR code (version 10, 57 × 57)
/// across a table.
pub const LINK_BYTES_MAX: usize = 300;

/// Version of the link, apart from that of the messages: an old app should be able to say "this
/// link is for a newer version".
const LINK_VERSION: &str = "1";

/// What stays as it is in an address: it keeps a multiaddr readable, and 12 bytes shorter.
const ADDRESS_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b':')
    .remove(b'-')
    .remove(b'_');

const KEY_CONTEXT: &str = "lingualinked 2025 invite: key of a one-time secret";
const CHECK_CONTEXT: &str = "lingualinked 2025 typed code: check byte";

/// What only the invite's reader knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 8]);

/// What follows from a [`Secret`]: enough to check and to make proofs.
#[derive(Clone, Copy)]
pub(super) struct InviteKey([u8; 32]);

/// Shows knowledge of a secret, for one newcomer and one host. Compared in constant time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Proof([u8; 32]);

/// All that a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The group.
    pub group: GroupId,
    /// The phone that made the invite, and lets the newcomer in.
    pub host: PeerId,
    /// Lets one phone in.
    pub secret: Secret,
    /// When the invite expires, in seconds since 1970, by the host's clock. Only to be told to a
    /// person: the host judges by its own clock.
    pub expires_unix_s: u64,
    /// Where the host may be reached, as multiaddrs, best first.
    pub addresses: Vec<String>,
}

/// What is typed by hand where no camera works: where, and the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypedCode {
    /// The host's address in the local network.
    pub address: SocketAddrV4,
    /// Lets one phone in.
    pub secret: Secret,
}

/// Why a link or a typed code cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Not a link of this app.
    #[error("not a lingualinked://join link")]
    NotALink,
    /// Longer than any that we make.
    #[error("link of {bytes} B, at most {LINK_BYTES_MAX} are read")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// A link for another version of the app.
    #[error("the link is of version {theirs}, this app reads {LINK_VERSION}")]
    Version {
        /// The link's version.
        theirs: String,
    },
    /// A field is missing or cannot be read.
    #[error("the link's field `{field}` is missing or broken")]
    Field {
        /// Its letter.
        field: &'static str,
    },
    /// A typed code of the wrong length or with a character that no code has.
    #[error("a code has 24 letters and digits")]
    NotACode,
    /// A typed code with a slip in it.
    #[error("the code was mistyped")]
    Mistyped,
}

impl Secret {
    /// Draws a secret.
    pub fn draw(rng: &mut ChaCha12Rng) -> Self {
        let mut bytes = [0; 8];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Returns what `newcomer` shows `host`.
    pub fn newcomers_proof(self, newcomer: PeerId, host: PeerId) -> Proof {
        self.key().newcomers_proof(newcomer, host)
    }

    /// Returns what both sides' proofs are made with.
    pub(super) fn key(self) -> InviteKey {
        InviteKey(blake3::derive_key(KEY_CONTEXT, &self.0))
    }
}

/// Hides the secret from logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl InviteKey {
    /// What the newcomer shows.
    pub(super) fn newcomers_proof(&self, newcomer: PeerId, host: PeerId) -> Proof {
        self.proof(b"newcomer", newcomer, host)
    }

    /// What the host shows.
    pub(super) fn hosts_proof(&self, newcomer: PeerId, host: PeerId) -> Proof {
        self.proof(b"host", newcomer, host)
    }

    fn proof(&self, who: &[u8], newcomer: PeerId, host: PeerId) -> Proof {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&newcomer.0).update(&host.0).update(who);
        Proof(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for InviteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteKey(…)")
    }
}

/// In constant time: `blake3::Hash` compares so.
impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from(self.0) == blake3::Hash::from(other.0)
    }
}

impl Eq for Proof {}

impl Invite {
    /// Writes the link, with as many addresses as fit into [`LINK_BYTES_MAX`].
    pub fn to_link(&self) -> String {
        let Self {
            group,
            host,
            secret,
            expires_unix_s,
            addresses,
        } = self;
        let mut link = format!(
            "lingualinked://join?v={LINK_VERSION}&g={}&p={}&s={}&e={expires_unix_s}",
            BASE64URL_NOPAD.encode(&group.0),
            BASE64URL_NOPAD.encode(&host.0),
            BASE64URL_NOPAD.encode(&secret.0),
        );

        for address in addresses {
            let field = format!("&a={}", utf8_percent_encode(address, ADDRESS_ESCAPED));
            if link.len() + field.len() < LINK_BYTES_MAX {
                link.push_str(&field);
            }
        }
        link
    }

    /// Reads a link that was scanned, tapped or pasted.
    ///
    /// # Errors
    ///
    /// - [`InviteError::TooLong`], [`InviteError::NotALink`], [`InviteError::Version`]
    /// - [`InviteError::Field`] if a field is missing, twice there, or not what it should be
    pub fn from_link(link: &str) -> Result<Self, InviteError> {
        let link = link.trim();
        if link.len() > LINK_BYTES_MAX {
            return Err(InviteError::TooLong { bytes: link.len() });
        }
        let url = Url::parse(link).map_err(|_| InviteError::NotALink)?;
        if url.scheme() != "lingualinked" || url.host_str() != Some("join") {
            return Err(InviteError::NotALink);
        }
        let version = field(&url, "v")?;
        if version != LINK_VERSION {
            return Err(InviteError::Version { theirs: version });
        }

        let expires = field(&url, "e")?;
        Ok(Self {
            group: GroupId(bytes(&url, "g")?),
            host: PeerId(bytes(&url, "p")?),
            secret: Secret(bytes(&url, "s")?),
            expires_unix_s: expires
                .parse()
                .map_err(|_| InviteError::Field { field: "e" })?,
            addresses: values(&url, "a").collect(),
        })
    }
}

impl TypedCode {
    /// Writes the code in six groups of four, such as `0M5R-…`: Crockford's base32, which has no
    /// letters that look like digits.
    ///
    /// 4 bytes of address, 2 of port, 8 of secret and one to catch slips make 24 characters.
    pub fn to_text(&self) -> String {
        let mut bytes = [0; 15];
        bytes[..4].copy_from_slice(&self.address.ip().octets());
        bytes[4..6].copy_from_slice(&self.address.port().to_be_bytes());
        bytes[6..14].copy_from_slice(&self.secret.0);
        bytes[14] = check_byte(&bytes[..14]);

        let text = crockford().encode(&bytes);
        let groups: Vec<_> = (0..6).map(|i| &text[4 * i..4 * i + 4]).collect();
        groups.join("-")
    }

    /// Reads what a person typed, in any case, with or without hyphens and spaces, with `O` for
    /// `0` and `I` or `L` for `1`.
    ///
    /// # Errors
    ///
    /// - [`InviteError::NotACode`] if it is not 24 characters of the alphabet
    /// - [`InviteError::Mistyped`] if the check byte is wrong, as after 255 of 256 slips
    pub fn from_text(text: &str) -> Result<Self, InviteError> {
        let bytes = crockford()
            .decode(text.trim().as_bytes())
            .map_err(|_| InviteError::NotACode)?;
        let bytes: [u8; 15] = bytes.try_into().map_err(|_| InviteError::NotACode)?;
        let [a, b, c, d, high, low, secret @ .., check] = bytes;
        if check != check_byte(&bytes[..14]) {
            return Err(InviteError::Mistyped);
        }

        let port = u16::from_be_bytes([high, low]);
        Ok(Self {
            address: SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port),
            secret: Secret(secret),
        })
    }
}

fn values<'a>(url: &'a Url, letter: &'a str) -> impl Iterator<Item = String> + 'a {
    url.query_pairs()
        .filter(move |(key, _)| key == letter)
        .map(|(_, value)| value.into_owned())
}

/// The only value of a field.
fn field(url: &Url, letter: &'static str) -> Result<String, InviteError> {
    let mut found = values(url, letter);

    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        (None | Some(_), _) => Err(InviteError::Field { field: letter }),
    }
}

fn bytes<const N: usize>(url: &Url, letter: &'static str) -> Result<[u8; N], InviteError> {
    let decoded = BASE64URL_NOPAD.decode(field(url, letter)?.as_bytes());

    decoded
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(InviteError::Field { field: letter })
}

fn check_byte(bytes: &[u8]) -> u8 {
    blake3::derive_key(CHECK_CONTEXT, bytes)[0]
}

fn crockford() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.translate.from.push_str("abcdefghjkmnpqrstvwxyzOoIiLl");
    spec.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ001111");
    spec.ignore.push_str("- ");
    spec.encoding().expect("32 symbols, none twice")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_link_with_ordinary_addresses_carries_five_of_them() {
        let invite = Invite {
            addresses: (0..9)
                .map(|i| format!("/ip4/192.168.178.{i}/tcp/40123"))
                .collect(),
            ..invite()
        };

        let read = Invite::from_link(&invite.to_link()).expect("our own link");

        assert_eq!(read.addresses, invite.addresses[..5]);
    }

    #[test]
    fn a_link_without_a_secret_is_refused_by_name() {
        let link = invite().to_link().replace("&s=", "&x=");

        assert_eq!(
            Invite::from_link(&link),
            Err(InviteError::Field { field: "s" })
        );
    }

    #[test]
    fn a_link_of_another_version_says_which() {
        let link = invite().to_link().replace("v=1", "v=2");

        let theirs = "2".to_string();
        assert_eq!(
            Invite::from_link(&link),
            Err(InviteError::Version { theirs })
        );
    }

    #[test]
    fn a_slip_in_a_typed_code_is_noticed() {
        let text = typed().to_text();
        let slip = text.replacen('D', "E", 1);

        assert_ne!(slip, text);
        assert_eq!(TypedCode::from_text(&slip), Err(InviteError::Mistyped));
    }

    #[test]
    fn a_typed_code_may_be_typed_carelessly() {
        let text = typed().to_text();
        let careless = text
            .to_lowercase()
            .replace('-', " ")
            .replace('0', "o")
            .replace('1', "l");

        assert_eq!(TypedCode::from_text(&careless), Ok(typed()));
    }

    #[test]
    fn a_proof_is_for_one_newcomer_one_host_and_one_direction() {
        let key = invite().secret.key();
        let (anna, bela) = (PeerId([1; 32]), PeerId([2; 32]));
        let proof = key.newcomers_proof(anna, bela);

        assert_eq!(proof, key.newcomers_proof(anna, bela));
        assert_ne!(proof, key.newcomers_proof(bela, anna));
        assert_ne!(proof, key.hosts_proof(anna, bela));
    }

    proptest! {
        #[test]
        fn every_link_reads_back_and_is_short(
            group: [u8; 16], host: [u8; 32], seed: u64, expires_unix_s: u64,
            addresses in prop::collection::vec("[ -~é]{0,60}", 0..8),
        ) {
            let secret = Secret::draw(&mut ChaCha12Rng::seed_from_u64(seed));
            let (group, host) = (GroupId(group), PeerId(host));
            let invite = Invite { group, host, secret, expires_unix_s, addresses };

            let link = invite.to_link();
            let read = Invite::from_link(&link).expect("our own link");

            prop_assert!(link.len() < LINK_BYTES_MAX);
            prop_assert!(read.addresses.iter().all(|address| invite.addresses.contains(address)));
            prop_assert_eq!(Invite { addresses: vec![], ..read }, Invite { addresses: vec![], ..invite });
        }

        #[test]
        fn every_typed_code_reads_back(ip: [u8; 4], port: u16, seed: u64) {
            let secret = Secret::draw(&mut ChaCha12Rng::seed_from_u64(seed));
            let code = TypedCode { address: SocketAddrV4::new(ip.into(), port), secret };

            prop_assert_eq!(TypedCode::from_text(&code.to_text()), Ok(code));
        }

        #[test]
        fn any_text_is_a_link_or_an_error(text in ".*", tail in "[ -~]{0,200}") {
            let _ = Invite::from_link(&text);
            let _ = Invite::from_link(&format!("lingualinked://join?v=1&{tail}"));
            let _ = TypedCode::from_text(&text);
        }
    }

    fn invite() -> Invite {
        Invite {
            group: GroupId([7; 16]),
            host: PeerId([9; 32]),
            secret: Secret([3; 8]),
            expires_unix_s: 1_790_000_000,
            addresses: vec![],
        }
    }

    fn typed() -> TypedCode {
        TypedCode {
            address: "192.168.1.7:40123".parse().expect("an address"),
            secret: Secret([0x73; 8]),
        }
    }
}

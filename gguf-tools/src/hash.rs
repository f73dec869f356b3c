//! Names of things by their content: BLAKE3, written as 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text was not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct HashFormatError;

/// Defines a hash type: 32 bytes, hexadecimal for people and in JSON, raw in binary formats.
macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the hash of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(blake3::hash(bytes).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = HashFormatError;

            fn from_str(text: &str) -> Result<Self, HashFormatError> {
                let hash = blake3::Hash::from_hex(text).map_err(|_| HashFormatError)?;

                Ok(Self(hash.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hash_type! {
    /// Hash of a whole shard.
    ShardHash
}

hash_type! {
    /// Hash of one chunk of a shard.
    ChunkHash
}

hash_type! {
    /// Hash of a manifest, and so of everything it lists: the name of a model cut in one way.
    ModelHash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_in_json_and_raw_in_postcard() {
        let hash = ChunkHash::of(b"");
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"; // BLAKE3 test vector

        let json = serde_json::to_string(&hash).unwrap();
        let raw = postcard::to_allocvec(&hash).unwrap();

        assert_eq!(json, format!("\"{hex}\""));
        assert_eq!(raw, hash.0);
        assert_eq!(serde_json::from_str::<ChunkHash>(&json).unwrap(), hash);
        assert_eq!(postcard::from_bytes::<ChunkHash>(&raw).unwrap(), hash);
        assert_eq!(hex.parse::<ChunkHash>().unwrap(), hash);
        assert!("af13".parse::<ChunkHash>().is_err());
    }
}

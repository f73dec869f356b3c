//! Values from other phones that cannot be too long: the decoder refuses them before it makes room.

use std::fmt;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// Bytes of a phone's name at most, in UTF-8.
///
/// A name must fit a list row on a small screen; 64 bytes are 64 Latin or 21 Chinese characters.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of one address at most.
///
/// The longest that we dial, `/ip6/…/udp/…/quic-v1/p2p/…`, is 66 bytes as a binary multiaddr.
pub const ADDRESS_BYTES_MAX: usize = 96;

/// Addresses kept of one phone at most.
///
/// Wi-Fi, hotspot and one cable, each with IPv4, a global and a local IPv6 address, are nine; the
/// shell sends the best first.
pub const ADDRESSES_MAX: usize = 8;

/// Where a phone may be reached, best first.
pub type Addresses = Bounded<Address, ADDRESSES_MAX>;

/// At most `MAX` things, in order. A longer list is refused while it is decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// Appends `item`, or gives it back when the list is full.
    ///
    /// # Errors
    ///
    /// - the item itself if there are `MAX` already
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.0.len() < MAX {
            self.0.push(item);
            Ok(())
        } else {
            Err(item)
        }
    }

    /// Returns the items.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Keeps the items for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// Lends the items to be changed in place.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Takes the first `MAX` items and leaves the rest.
impl<T, const MAX: usize> FromIterator<T> for Bounded<T, MAX> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }
}

impl<T, const MAX: usize> Deref for Bounded<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a Bounded<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(std::marker::PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let Some(count) = seq.size_hint()
            && count > MAX
        {
            return Err(A::Error::invalid_length(count, &self));
        }

        let mut items = Bounded::default();
        while let Some(item) = seq.next_element()? {
            items
                .push(item)
                .map_err(|_| A::Error::invalid_length(MAX + 1, &self))?;
        }
        Ok(items)
    }
}

/// One address in the shell's own writing (a binary multiaddr). Nothing here looks inside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(Box<[u8]>);

impl Address {
    /// Takes `bytes`, unless they are more than [`ADDRESS_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= ADDRESS_BYTES_MAX).then(|| Self(bytes.into()))
    }

    /// Returns the bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} B)", self.0.len())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;

        Self::new(bytes).ok_or_else(|| D::Error::custom("address is too long"))
    }
}

/// What a person calls a phone: clean, short, and never empty.
///
/// Clean as [`text::clean`] makes it, so that a name cannot rewrite the sentence it stands in ("Sam asks to join").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Makes a name of whatever a person typed: drops what is not clean, cuts at
    /// [`NAME_BYTES_MAX`], and says "phone" when nothing is left.
    pub fn tidy(typed: &str) -> Self {
        let name = text::clean(typed, NAME_BYTES_MAX);

        Self(if name.is_empty() {
            "phone".into()
        } else {
            name.into()
        })
    }

    /// Takes a name from the wire as it is, or not at all: an honest phone sends tidy ones.
    fn checked(name: &str) -> Option<Self> {
        let is_tidy = !name.is_empty() && text::clean(name, NAME_BYTES_MAX) == name;

        is_tidy.then(|| Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <&str>::deserialize(deserializer)?;

        Self::checked(name).ok_or_else(|| D::Error::custom("name is not tidy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_name_loses_what_could_rewrite_the_screen() {
        assert_eq!(
            Name::tidy("  Sam\u{202e}\n's phone ").as_str(),
            "Sam's phone"
        );
        assert_eq!(Name::tidy("\u{7}\u{200b}").as_str(), "phone");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = Name::tidy(&"é".repeat(100));

        assert_eq!(name.as_str().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn an_untidy_name_from_the_wire_is_refused() {
        for name in ["", " Sam", "Sam\u{202e}", &"x".repeat(65)] {
            let bytes = postcard::to_stdvec(name).expect("a string encodes");

            assert!(postcard::from_bytes::<Name>(&bytes).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_list_that_says_it_is_long_is_refused_before_room_is_made() {
        let bytes = postcard::to_stdvec(&u64::MAX).expect("a length is a varint");

        assert!(postcard::from_bytes::<Bounded<u64, 8>>(&bytes).is_err());
    }
}

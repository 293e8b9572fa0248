//! A 16-byte UUID.

use core::fmt;
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::fields::fixed_str::quoted;
use crate::fields::maybe::{Bytewise, Optional, Tag1};
use crate::record::{FieldType, KeyField};
use crate::schema::Kind;
use crate::unpadded::Unpadded;

/// A UUID: 16 bytes in the order in which they are written. Converts from and into [`uuid::Uuid`].
///
/// A separate type, because the `zerocopy` support of that crate is not stable.
///
/// ```
/// use pongo::Uuid;
///
/// let id: Uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse()?;
/// assert_eq!(id.as_bytes()[0], 0x67);
/// assert_eq!(id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The nil UUID: all zeros.
    pub const NIL: Self = Self([0; 16]);

    /// Creates a random UUID (version 4).
    #[must_use]
    pub fn new_v4() -> Self {
        uuid::Uuid::new_v4().into()
    }

    /// Creates a UUID whose first 48 bits are the current time in milliseconds, followed by random
    /// bits (version 7): UUIDs sort by the time of their creation. UUIDs of one process that are
    /// created one after another rise, also within a millisecond.
    #[must_use]
    pub fn new_v7() -> Self {
        uuid::Uuid::now_v7().into()
    }

    /// Creates a UUID from its bytes.
    #[must_use]
    #[inline]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the UUID.
    #[must_use]
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<uuid::Uuid> for Uuid {
    #[inline]
    fn from(uuid: uuid::Uuid) -> Self {
        Self(uuid.into_bytes())
    }
}

impl From<Uuid> for uuid::Uuid {
    #[inline]
    fn from(uuid: Uuid) -> Self {
        uuid::Uuid::from_bytes(uuid.0)
    }
}

/// An error while parsing a [`Uuid`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text {text:?} is no UUID: {source}")]
pub struct UuidError {
    text: String,
    source: uuid::Error,
}

impl UuidError {
    /// Returns the text, or its beginning and `…`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        let uuid = uuid::Uuid::parse_str(text);
        uuid.map(Self::from).map_err(|source| UuidError { text: quoted(text), source })
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from(*self).fmt(f)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FieldType for Uuid {
    const KIND: Kind = Kind::Uuid;
    const ABSENT_VALUE: Self = Self::NIL;
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
}

impl KeyField for Uuid {}

impl Optional for Uuid {
    type Cell = Bytewise<Self>;
    type ArrayCell<const N: usize> = Bytewise<[Self; N]>;
    type Tag = Tag1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_both_ways() {
        let theirs = uuid::Uuid::new_v4();
        let ours = Uuid::from(theirs);
        assert_eq!(uuid::Uuid::from(ours), theirs);
        assert_eq!(ours.to_string(), theirs.to_string());
        assert_eq!(ours.to_string().parse::<Uuid>().unwrap(), ours);
        let error = "no uuid".parse::<Uuid>().unwrap_err();
        assert!(error.to_string().starts_with("the text \"no uuid\" is no UUID: "), "{error}");
        assert_ne!(Uuid::new_v4(), Uuid::NIL);
        let (first, second) = (Uuid::new_v7(), Uuid::new_v7());
        assert!(first < second, "{first} {second}");
        assert_eq!(uuid::Uuid::from(first).get_version_num(), 7);
    }
}

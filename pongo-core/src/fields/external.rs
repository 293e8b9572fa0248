//! Keys that are not fields of their records: arbitrary bytes in the heap.
//!
//! A row of such a table is its record preceded by 32 bytes: the digest of the key, by which it is
//! found, and an [`ExternalKey`] with the heap address of the key's own bytes. Two keys can have
//! the same digest: a look-up compares the bytes, and inserting a second such key is an error.
//!
//! ```text
//!  0        16     24    28     32
//!  | digest | addr | len | hash | record
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::fields::{Blob, HeapError, HeapRead};
use crate::record::FieldType;
use crate::schema::Kind;
use crate::unpadded::Unpadded;

/// Maximum length of an external key in bytes.
pub const MAX_EXTERNAL_KEY: usize = u16::MAX as usize;

/// Returns the digest by which a row is found: xxh3 (128 bits, seed 0) of its key's bytes,
/// little-endian.
#[must_use]
pub fn key_digest(key: &[u8]) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(key).to_le_bytes()
}

/// The heap address of a row's key: the 16 bytes of a [`Blob`], with alignment 1, so that they can
/// precede any record.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct ExternalKey([u8; 16]);

impl ExternalKey {
    /// The empty key.
    pub const EMPTY: Self = Self([0; 16]);

    /// Returns the key as a [`Blob`].
    #[must_use]
    #[inline]
    pub fn blob(&self) -> Blob {
        zerocopy::transmute!(self.0)
    }

    /// Returns the key, borrowed from `heap`.
    ///
    /// # Errors
    /// As for [`Blob::as_bytes`].
    #[inline]
    pub fn as_bytes<'h, H: HeapRead + ?Sized>(&self, heap: &'h H) -> Result<&'h [u8], HeapError> {
        self.blob().as_bytes(heap)
    }
}

impl From<Blob> for ExternalKey {
    #[inline]
    fn from(blob: Blob) -> Self {
        Self(zerocopy::transmute!(blob))
    }
}

impl FieldType for ExternalKey {
    const KIND: Kind = Kind::External;
    const ABSENT_VALUE: Self = Self::EMPTY;
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
}

const _: () = assert!(size_of::<ExternalKey>() == size_of::<Blob>() && align_of::<ExternalKey>() == 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HeapAddr;

    #[test]
    fn a_name_is_a_blob() {
        let blob = Blob::new(HeapAddr(24), 7, 0x1234_5678);
        assert_eq!(IntoBytes::as_bytes(&ExternalKey::from(blob).blob()), IntoBytes::as_bytes(&blob));
        assert_eq!(
            IntoBytes::as_bytes(&ExternalKey::from(Blob::EMPTY)),
            IntoBytes::as_bytes(&ExternalKey::EMPTY)
        );
    }

    #[test]
    fn digest_is_part_of_the_format() {
        assert_eq!(u128::from_le_bytes(key_digest(b"")), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}

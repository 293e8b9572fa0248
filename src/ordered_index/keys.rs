//! [`KeyEncoder`]: where the ordered key of a row comes from.

use pongo_core::error::ReadError;
use pongo_core::fields::{ExternalKey, HeapRead};
use pongo_index::Encoding;
use zerocopy::FromBytes;

/// The source of an index's keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeyEncoder {
    /// Fields of the row, all of fixed size.
    Fields(Encoding),
    /// Bytes in the heap: the key of a table whose keys are stored outside its records.
    Heap {
        /// Offset in a row of the 16-byte [`ExternalKey`] that refers to the key.
        offset: usize,
    },
}

impl KeyEncoder {
    /// Returns the length of a key in bytes if all keys have the same length.
    pub(crate) fn fixed_len(&self) -> Option<usize> {
        match self {
            Self::Fields(encoding) => Some(encoding.len()),
            Self::Heap { .. } => None,
        }
    }

    /// Appends the key of a row, given as its bytes.
    #[inline]
    pub(crate) fn put(
        &self,
        table: &str,
        row: &[u8],
        heap: &dyn HeapRead,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Fields(encoding) => encoding.encode_row(row, out),
            Self::Heap { offset } => {
                let name = row.get(*offset..offset + size_of::<ExternalKey>());
                let name =
                    name.and_then(|bytes| ExternalKey::read_from_bytes(bytes).ok()).unwrap_or_default();
                let key = name
                    .as_bytes(heap)
                    .map_err(|source| ReadError::ExternalKey { table: table.to_owned(), source })?;
                out.extend_from_slice(key);
            }
        }
        Ok(())
    }

    /// Converts a bound on values, given as the concatenated bytes of fields, into a bound on keys.
    pub(crate) fn bound(&self, raw: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Fields(encoding) => {
                let mut key = Vec::with_capacity(raw.len());
                encoding.encode_fields(&raw, &mut key);
                key
            }
            Self::Heap { .. } => raw,
        }
    }

    /// Returns the key ranges of absent values before `end`, as [`Encoding::absent_before`] does.
    /// Keys in the heap have no absent parts.
    pub(crate) fn absent_before(&self, end: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Fields(encoding) => encoding.absent_before(end).collect(),
            Self::Heap { .. } => Vec::new(),
        }
    }

    /// Returns whether a key has an absent part, as [`Encoding::has_absent`] does.
    pub(crate) fn has_absent(&self, key: &[u8]) -> bool {
        matches!(self, Self::Fields(encoding) if encoding.has_absent(key))
    }
}

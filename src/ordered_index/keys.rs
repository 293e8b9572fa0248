//! [`KeyEncoder`]: where the ordered key of a row comes from, and which keys are within bounds.

use std::ops::Bound;

use pongo_core::error::ReadError;
use pongo_core::fields::{ExternalKey, HeapRead};
use pongo_index::{Encoding, after_prefix};
use zerocopy::FromBytes;

use super::limits::Limits;

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

    /// Returns the first key after all keys that a bound stands for, or `None` if there is none. A
    /// bound on fields stands for all keys that start with it, so that it can cover only the first
    /// fields of an index; one on a key in the heap stands for that key alone.
    fn after(&self, bound: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Fields(_) => after_prefix(bound),
            Self::Heap { .. } => Some([bound, &[0]].concat()),
        }
    }

    /// Returns the key ranges of absent values before `end`, as [`Encoding::absent_before`] does.
    /// Keys in the heap have no absent parts.
    fn absent_before(&self, end: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Fields(encoding) => encoding.absent_before(end).collect(),
            Self::Heap { .. } => Vec::new(),
        }
    }

    /// Returns whether a key has an absent part, as [`Encoding::has_absent`] does.
    pub(crate) fn has_absent(&self, key: &[u8]) -> bool {
        matches!(self, Self::Fields(encoding) if encoding.has_absent(key))
    }

    /// Converts bounds on values to limits on keys. Rows without a value in a field for which the
    /// end has one are excluded, unless the start has no value there either. Returns `None` if the
    /// bounds contain no keys, for example because the start is after the end.
    pub(crate) fn limits(&self, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Option<Limits> {
        let bound = |raw| self.bound(raw);
        let (start, end) = (start.map(bound), end.map(bound));
        let mut limits = Limits::default();
        let absent = match &end {
            Bound::Included(to) | Bound::Excluded(to) => self.absent_before(to),
            Bound::Unbounded => Vec::new(),
        };
        let begins_in = |hole: &(Vec<u8>, Vec<u8>)| matches!(&start, Bound::Included(from) | Bound::Excluded(from) if from.starts_with(&hole.0));
        let holes: Vec<_> = absent.into_iter().filter(|hole| !begins_in(hole)).collect();
        match start {
            Bound::Unbounded => {}
            Bound::Included(from) => limits.from = Some(from),
            Bound::Excluded(from) => limits.from = Some(self.after(&from)?),
        }
        for (first, after) in holes {
            match &limits.from {
                // The range starts after the hole.
                Some(from) if *from >= after => {}
                Some(from) if *from >= first => limits.from = Some(after),
                None if first == [0] => limits.from = Some(after),
                _ => limits.holes.push((first, after)),
            }
        }
        match end {
            Bound::Unbounded => {}
            Bound::Included(to) => limits.below = self.after(&to),
            Bound::Excluded(to) => limits.below = Some(to),
        }
        let first = limits.from.as_deref().unwrap_or_default();
        let is_empty = limits.below.as_ref().is_some_and(|below| first >= &below[..]);
        (!is_empty).then_some(limits)
    }
}

/// Returns the limits of all keys in the heap that start with a prefix.
pub(crate) fn prefix_limits(prefix: &[u8]) -> Limits {
    Limits { from: Some(prefix.to_vec()), below: after_prefix(prefix), ..Limits::default() }
}

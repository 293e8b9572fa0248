//! Where a key, or the value of an index, lies in a row: hashed and compared as bytes. Equal values have equal bytes
//! ([`KeyField`](pongo_core::record::KeyField)).

use pongo_core::ids::RowId;
use pongo_core::table::TableView;
use pongo_index::{KeyHashes, key_hash};

/// The parts of a row, in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyBytesAt(Vec<(usize, usize)>);

/// Values in several parts that are no longer than this are put together without an allocation.
const SHORT: usize = 128;

impl KeyBytesAt {
    pub(crate) fn new(ranges: Vec<(usize, usize)>) -> Self {
        Self(ranges)
    }

    fn parts<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
        self.0.iter().map(move |&(offset, len)| &row[offset..offset + len])
    }

    /// The hash of a row's value.
    pub(crate) fn hash(&self, row: &[u8]) -> u64 {
        if let &[(offset, len)] = &self.0[..] {
            return key_hash(&row[offset..offset + len]);
        }
        let len = self.0.iter().map(|&(_, len)| len).sum();
        let (mut short, mut long);
        let bytes = if len <= SHORT {
            short = [0; SHORT];
            &mut short[..len]
        } else {
            long = vec![0; len];
            &mut long[..]
        };
        let mut at = 0;
        for part in self.parts(row) {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        key_hash(bytes)
    }

    /// Whether two rows have the same value.
    pub(crate) fn same(&self, a: &[u8], b: &[u8]) -> bool {
        self.parts(a).eq(self.parts(b))
    }

    /// Whether a row has this value, whose fields lie one behind the other.
    pub(crate) fn is(&self, row: &[u8], mut value: &[u8]) -> bool {
        for part in self.parts(row) {
            let Some(rest) = value.strip_prefix(part) else { return false };
            value = rest;
        }
        value.is_empty()
    }
}

/// How many rows, or index lines, are fetched ahead where many are looked at one after the other.
pub(crate) const AHEAD: usize = 16;

/// The hashes of one index, taken from the bytes of a table's rows.
pub(crate) struct RowKeys<'a> {
    pub(crate) view: &'a TableView,
    pub(crate) ranges: &'a KeyBytesAt,
}

impl RowKeys<'_> {
    /// Whether two rows have the same value; not, if one cannot be read.
    pub(crate) fn same(&self, a: RowId, b: RowId) -> bool {
        let (Ok(a), Ok(b)) = (self.view.row_bytes(a), self.view.row_bytes(b)) else { return false };
        self.ranges.same(a, b)
    }
}

impl KeyHashes for RowKeys<'_> {
    fn hash(&self, row: RowId) -> u64 {
        self.view.row_bytes(row).map_or(0, |bytes| self.ranges.hash(bytes))
    }

    fn hashes(&self, rows: &[RowId], out: &mut Vec<u64>) {
        for (place, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(place + AHEAD) {
                self.view.prefetch(ahead);
            }
            out.push(self.hash(row));
        }
    }

    fn forgotten(&self, rows: &[RowId]) -> Vec<bool> {
        if self.view.live() == self.view.len() {
            return vec![false; rows.len()];
        }
        let seen_from = self.view.core().seen_from().min(self.view.seq());
        let is_forgotten = |row: &RowId| {
            // One of which that cannot be said keeps its entry.
            row.0 < self.view.len()
                && self.view.died(*row).is_ok_and(|died| died.is_some_and(|died| died <= seen_from))
        };
        rows.iter().map(is_forgotten).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_parts_are_those_one_behind_the_other() {
        let row: Vec<u8> = (0..200).collect();
        for parts in [vec![(3, 4)], vec![(8, 2), (0, 3)], vec![(0, 100), (120, 80)]] {
            let ranges = KeyBytesAt::new(parts.clone());
            let value: Vec<u8> = parts.iter().flat_map(|&(at, len)| &row[at..at + len]).copied().collect();
            assert_eq!(ranges.hash(&row), key_hash(&value));
            assert!(ranges.is(&row, &value) && ranges.same(&row, &row));
            assert!(!ranges.is(&row, &value[1..]) && !ranges.is(&row, &[&value[..], &[0]].concat()));
            let mut other = row.clone();
            other[parts[0].0] ^= 1;
            assert!(!ranges.same(&row, &other) && !ranges.is(&other, &value));
        }
    }
}

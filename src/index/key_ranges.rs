//! Location of a key or an index value in a row. It is hashed and compared as bytes. Equal values
//! have equal bytes ([`KeyField`](pongo_core::record::KeyField)), except for floats, which are
//! normalized first.

use pongo_core::ids::RowId;
use pongo_core::order::normalize;
use pongo_core::schema::{Kind, StoredKind, StoredSchema};
use pongo_core::table::TableView;
use pongo_index::{HashError, HashIndex, KeyHasher, key_hash};

/// The byte ranges of a row that form a value, in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyRanges {
    ranges: Vec<(usize, usize)>,
    /// Offset and length of each float in the value, whose parts are concatenated. Floats are
    /// hashed and compared in normalized form ([`order`](pongo_core::order)).
    floats: Vec<(usize, usize)>,
}

/// Values of several parts up to this length are concatenated without an allocation.
const INLINE_KEY_LEN: usize = 128;

impl KeyRanges {
    /// Creates it for fields that are not floats.
    pub(crate) fn new(ranges: Vec<(usize, usize)>) -> Self {
        Self { ranges, floats: Vec::new() }
    }

    /// Creates it for fields of a schema, given by their indexes.
    pub(crate) fn of(schema: &StoredSchema, fields: &[usize]) -> Self {
        let mut floats = Vec::new();
        let mut at = 0;
        for field in fields.iter().filter_map(|&place| schema.fields.get(place)) {
            if let StoredKind::Plain(plain) = &field.kind
                && matches!(plain.kind(), Kind::F32 | Kind::F64)
            {
                floats.push((at, field.size));
            }
            at += field.size;
        }
        Self { ranges: schema.ranges_of(fields), floats }
    }

    fn parts<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> + Clone {
        self.ranges.iter().map(move |&(offset, len)| &row[offset..offset + len])
    }

    /// Calls a function with the concatenated parts, floats normalized.
    fn joined<'r, O>(&self, parts: impl Iterator<Item = &'r [u8]> + Clone, f: impl FnOnce(&[u8]) -> O) -> O {
        let len = parts.clone().map(<[u8]>::len).sum();
        let (mut short, mut long);
        let bytes = if len <= INLINE_KEY_LEN {
            short = [0; INLINE_KEY_LEN];
            &mut short[..len]
        } else {
            long = vec![0; len];
            &mut long[..]
        };
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        for &(at, len) in &self.floats {
            if let Some(float) = bytes.get_mut(at..at + len) {
                normalize(float);
            }
        }
        f(bytes)
    }

    /// Returns the hash of a row's value.
    pub(crate) fn hash(&self, row: &[u8]) -> u64 {
        match &self.ranges[..] {
            &[(offset, len)] if self.floats.is_empty() => key_hash(&row[offset..offset + len]),
            _ => self.joined(self.parts(row), key_hash),
        }
    }

    /// Returns the hash of a value whose fields are concatenated.
    pub(crate) fn hash_of(&self, value: &[u8]) -> u64 {
        if self.floats.is_empty() { key_hash(value) } else { self.joined(std::iter::once(value), key_hash) }
    }

    /// Returns whether two rows have the same value.
    pub(crate) fn same(&self, a: &[u8], b: &[u8]) -> bool {
        if self.floats.is_empty() {
            return self.parts(a).eq(self.parts(b));
        }
        self.joined(self.parts(b), |value| self.is(a, value))
    }

    /// Returns whether a row has this value, whose fields are concatenated.
    pub(crate) fn is(&self, row: &[u8], mut value: &[u8]) -> bool {
        if !self.floats.is_empty() {
            return self.joined(std::iter::once(value), |value| {
                self.joined(self.parts(row), |bytes| bytes == value)
            });
        }
        for part in self.parts(row) {
            let Some(rest) = value.strip_prefix(part) else { return false };
            value = rest;
        }
        value.is_empty()
    }
}

/// Prefetch distance: number of rows or index entries that are prefetched ahead in a sequential
/// scan.
pub(crate) const PREFETCH_DISTANCE: usize = 16;

/// The hashes of one index, computed from the rows of a table.
pub(crate) struct RowKeyHasher<'a> {
    pub(crate) view: &'a TableView,
    pub(crate) ranges: &'a KeyRanges,
}

impl RowKeyHasher<'_> {
    /// Returns whether two rows have the same value, or `false` if one of them cannot be read.
    pub(crate) fn same(&self, a: RowId, b: RowId) -> bool {
        let (Ok(a), Ok(b)) = (self.view.row_bytes(a), self.view.row_bytes(b)) else { return false };
        self.ranges.same(a, b)
    }

    /// Allocates the disk space that may be needed to change the entries of new rows with these
    /// hashes and of deleted rows.
    pub(crate) fn make_writable(
        &self,
        index: &HashIndex,
        hashes: &[u64],
        deleted_rows: &[RowId],
    ) -> Result<(), HashError> {
        if !self.view.core().storage().stores_may_allocate() {
            return Ok(());
        }
        // A row that a transaction both creates and deletes has no previous entry and is beyond the
        // view.
        let deleted_rows =
            deleted_rows.iter().filter(|row| row.0 < self.view.len()).map(|&row| self.hash(row));
        index.make_writable(hashes.iter().copied().chain(deleted_rows))
    }
}

impl KeyHasher for RowKeyHasher<'_> {
    fn hash(&self, row: RowId) -> u64 {
        self.view.row_bytes(row).map_or(0, |bytes| self.ranges.hash(bytes))
    }

    fn hashes(&self, rows: &[RowId], out: &mut Vec<u64>) {
        for (place, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(place + PREFETCH_DISTANCE) {
                self.view.prefetch(ahead);
            }
            out.push(self.hash(row));
        }
    }

    fn forgotten(&self, rows: &[RowId]) -> Vec<bool> {
        if self.view.live() == self.view.len() {
            return vec![false; rows.len()];
        }
        let oldest_visible_seq = self.view.core().oldest_visible_seq().min(self.view.seq());
        let is_forgotten = |row: &RowId| {
            // If this cannot be determined, the row keeps its entry.
            row.0 < self.view.len()
                && self.view.deleted_at(*row).is_ok_and(|deleted_at| {
                    deleted_at.is_some_and(|deleted_at| deleted_at <= oldest_visible_seq)
                })
        };
        rows.iter().map(is_forgotten).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_parts_equal_their_concatenation() {
        let row: Vec<u8> = (0..200).collect();
        for parts in [vec![(3, 4)], vec![(8, 2), (0, 3)], vec![(0, 100), (120, 80)]] {
            let ranges = KeyRanges::new(parts.clone());
            let value: Vec<u8> = parts.iter().flat_map(|&(at, len)| &row[at..at + len]).copied().collect();
            assert_eq!(ranges.hash(&row), key_hash(&value));
            assert!(ranges.is(&row, &value) && ranges.same(&row, &row));
            assert!(!ranges.is(&row, &value[1..]) && !ranges.is(&row, &[&value[..], &[0]].concat()));
            let mut other = row.clone();
            other[parts[0].0] ^= 1;
            assert!(!ranges.same(&row, &other) && !ranges.is(&other, &value));
        }
    }

    #[test]
    fn equal_floats_are_one_value() {
        let field = |name: &str, kind: Kind, offset| {
            let kind = StoredKind::from(&kind);
            pongo_core::schema::StoredField { name: name.into(), size: kind.size(), kind, offset }
        };
        let schema = StoredSchema {
            table: "t".into(),
            record: "T".into(),
            version: 1,
            size: 16,
            align: 8,
            fields: vec![field("a", Kind::F64, 0), field("b", Kind::U32, 8), field("c", Kind::F32, 12)],
            key: vec![1],
            indexes: Vec::new(),
        };
        let row =
            |a: f64, b: u32, c: f32| [&a.to_le_bytes()[..], &b.to_le_bytes(), &c.to_le_bytes()].concat();
        let at = KeyRanges::of(&schema, &[2, 1, 0]);
        let value =
            |a: f64, b: u32, c: f32| [&c.to_le_bytes()[..], &b.to_le_bytes(), &a.to_le_bytes()].concat();
        let (one, other) = (row(-0.0, 7, f32::NAN), row(0.0, 7, -f32::NAN));
        assert!(at.same(&one, &other) && at.hash(&one) == at.hash(&other));
        assert!(at.is(&one, &value(0.0, 7, f32::from_bits(0x7f80_0001))));
        assert_eq!(at.hash_of(&value(-0.0, 7, -f32::NAN)), at.hash(&other));
        for different in [row(1.0, 7, f32::NAN), row(0.0, 8, f32::NAN), row(0.0, 7, f32::INFINITY)] {
            assert!(!at.same(&one, &different) && at.hash(&one) != at.hash(&different));
        }
        // Bytes that do not belong to a float are not changed.
        let integer = KeyRanges::of(&schema, &[1]);
        assert!(!integer.same(&row(0.0, 1 << 31, 0.0), &row(0.0, 0, 0.0)));
        let one_float = KeyRanges::of(&schema, &[0]);
        assert_eq!(one_float.hash(&one), key_hash(&0_f64.to_le_bytes()));
    }
}

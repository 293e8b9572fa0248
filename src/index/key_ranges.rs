//! Location of a key or an index value in a row. It is hashed and compared as bytes. Equal values
//! have equal bytes ([`KeyField`](pongo_core::record::KeyField)), except for floats, which are
//! normalized first.
//!
//! A unique index has no entry for a row in which one of its fields is an absent
//! [`Maybe`](pongo_core::fields::Maybe). The value's bytes are then those without the tags.
//! `docs/design/hash-index.md` gives the reasons.

use std::borrow::Cow;

use pongo_core::ids::RowId;
use pongo_core::order::normalize;
use pongo_core::schema::{Kind, StoredKind, StoredSchema};
use pongo_core::table::TableView;
use pongo_index::{HashError, HashIndex, KeyHasher, key_hash};

/// The hash that stands for a row without an entry in an index of fields that may be absent. A
/// value of such an index never has it. See [`KeyRanges::has_entry`].
const NO_ENTRY: u64 = u64::MAX;

/// The byte ranges of a row that form a value, in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyRanges {
    ranges: Vec<(usize, usize)>,
    /// `None` if the value's bytes are compared as they are, and each row has a value.
    special: Option<Box<SpecialParts>>,
}

/// The parts of a value that are not compared as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct SpecialParts {
    /// Offset and length of each float in the value, whose parts are concatenated. Floats are
    /// hashed and compared in normalized form ([`order`](pongo_core::order)).
    floats: Vec<(usize, usize)>,
    /// The tags of the fields that may be absent.
    tags: Vec<MaybeTag>,
}

/// The tag of a field that may be absent. The field has a value if the tag's first byte is not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct MaybeTag {
    /// Offset in a row.
    row: usize,
    /// Offset in the concatenated fields, tags included.
    fields: usize,
    len: usize,
}

/// Values of several parts up to this length are concatenated without an allocation.
const INLINE_KEY_LEN: usize = 128;

impl KeyRanges {
    /// Creates it for fields that are neither floats nor may be absent.
    pub(crate) fn new(ranges: Vec<(usize, usize)>) -> Self {
        Self { ranges, special: None }
    }

    /// Creates it for fields of a schema, given by their indexes.
    pub(crate) fn of(schema: &StoredSchema, fields: &[usize]) -> Self {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        let mut special = SpecialParts::default();
        let (mut value_len, mut fields_len) = (0, 0);
        for field in fields.iter().filter_map(|&place| schema.fields.get(place)) {
            let (kind, tag) = match &field.kind {
                StoredKind::Maybe(of) => (&**of, of.align().min(field.size)),
                kind => (kind, 0),
            };
            if tag > 0 {
                special.tags.push(MaybeTag { row: field.offset, fields: fields_len, len: tag });
            }
            let (offset, len) = (field.offset + tag, field.size - tag);
            if let StoredKind::Plain(plain) = kind
                && matches!(plain.kind(), Kind::F32 | Kind::F64)
            {
                special.floats.push((value_len, len));
            }
            match ranges.last_mut() {
                Some((first, before)) if *first + *before == offset => *before += len,
                _ => ranges.push((offset, len)),
            }
            value_len += len;
            fields_len += field.size;
        }
        let is_plain = special.floats.is_empty() && special.tags.is_empty();
        Self { ranges, special: (!is_plain).then(|| Box::new(special)) }
    }

    fn parts<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> + Clone {
        self.ranges.iter().map(move |&(offset, len)| &row[offset..offset + len])
    }

    fn floats(&self) -> &[(usize, usize)] {
        self.special.as_ref().map_or(&[], |special| &special.floats)
    }

    fn tags(&self) -> &[MaybeTag] {
        self.special.as_ref().map_or(&[], |special| &special.tags)
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
        for &(at, len) in self.floats() {
            if let Some(float) = bytes.get_mut(at..at + len) {
                normalize(float);
            }
        }
        f(bytes)
    }

    /// Returns whether some fields may be absent, so that not every row has an entry.
    pub(crate) fn is_optional(&self) -> bool {
        !self.tags().is_empty()
    }

    /// Returns whether a row has an entry in the index, which is the case if all of its fields are
    /// present.
    pub(crate) fn is_present(&self, row: &[u8]) -> bool {
        self.tags().iter().all(|tag| row[tag.row] != 0)
    }

    /// Returns whether a hash of [`hash`](Self::hash) is that of a row with an entry.
    pub(crate) fn has_entry(&self, hash: u64) -> bool {
        hash != NO_ENTRY || !self.is_optional()
    }

    /// Returns those hashes whose rows have an entry.
    pub(crate) fn with_entry<'h>(&self, hashes: &'h [u64]) -> Cow<'h, [u64]> {
        if !self.is_optional() {
            return Cow::Borrowed(hashes);
        }
        Cow::Owned(hashes.iter().copied().filter(|&hash| hash != NO_ENTRY).collect())
    }

    /// Returns the hash of a row's value. If the row has none, [`has_entry`](Self::has_entry) of
    /// the result is `false`.
    pub(crate) fn hash(&self, row: &[u8]) -> u64 {
        match (&self.ranges[..], &self.special) {
            (&[(offset, len)], None) => key_hash(&row[offset..offset + len]),
            _ => self.hash_of_parts(row),
        }
    }

    /// Returns the hash of a value of several parts or with special parts. A separate function that
    /// is not inlined, so that the most common values are hashed in place.
    #[inline(never)]
    fn hash_of_parts(&self, row: &[u8]) -> u64 {
        if !self.is_present(row) {
            return NO_ENTRY;
        }
        self.entry_hash(self.joined(self.parts(row), key_hash))
    }

    /// Returns the hash to use for a value whose bytes have this hash.
    fn entry_hash(&self, hash: u64) -> u64 {
        if self.has_entry(hash) { hash } else { NO_ENTRY - 1 }
    }

    /// Returns the value's bytes in concatenated fields, for [`hash_of`](Self::hash_of) and
    /// [`is`](Self::is). Returns `None` if one of the fields is absent.
    pub(crate) fn value_of<'v>(&self, fields: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        if !self.is_optional() {
            return Some(Cow::Borrowed(fields));
        }
        let (mut value, mut at) = (Vec::with_capacity(fields.len()), 0);
        for tag in self.tags() {
            if *fields.get(tag.fields)? == 0 {
                return None;
            }
            value.extend_from_slice(fields.get(at..tag.fields)?);
            at = tag.fields + tag.len;
        }
        value.extend_from_slice(fields.get(at..)?);
        Some(Cow::Owned(value))
    }

    /// Returns the hash of a value.
    pub(crate) fn hash_of(&self, value: &[u8]) -> u64 {
        match self.special {
            None => key_hash(value),
            Some(_) => self.entry_hash(self.joined(std::iter::once(value), key_hash)),
        }
    }

    /// Returns whether two rows have the same value. A row without a value has the value of no row.
    pub(crate) fn same(&self, a: &[u8], b: &[u8]) -> bool {
        if !self.is_present(a) || !self.is_present(b) {
            return false;
        }
        if self.floats().is_empty() {
            return self.parts(a).eq(self.parts(b));
        }
        self.joined(self.parts(b), |value| self.is(a, value))
    }

    /// Returns whether a row has this value.
    pub(crate) fn is(&self, row: &[u8], mut value: &[u8]) -> bool {
        if !self.is_present(row) {
            return false;
        }
        if !self.floats().is_empty() {
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
        let all = hashes.iter().copied().chain(deleted_rows);
        index.make_writable(all.filter(|&hash| self.ranges.has_entry(hash)))
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

    /// Creates a schema with fields of these kinds at these offsets.
    fn schema(fields: &[(Kind, usize)], size: usize) -> StoredSchema {
        let field = |&(kind, offset): &(Kind, usize)| {
            let kind = StoredKind::from(&kind);
            pongo_core::schema::StoredField { name: offset.to_string(), size: kind.size(), kind, offset }
        };
        StoredSchema {
            table: "t".into(),
            record: "T".into(),
            version: 1,
            size,
            align: 8,
            fields: fields.iter().map(field).collect(),
            key: vec![1],
            indexes: Vec::new(),
        }
    }

    #[test]
    fn equal_floats_are_one_value() {
        let schema = schema(&[(Kind::F64, 0), (Kind::U32, 8), (Kind::F32, 12)], 16);
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

    #[test]
    fn absent_parts_leave_no_value() {
        let kinds = [(Kind::Maybe(&Kind::U16), 0), (Kind::U8, 4), (Kind::Maybe(&Kind::F32), 8)];
        let schema = schema(&kinds, 16);
        let row = |tag: u8, a: u16, b: u8, other_tag: u8, c: f32| {
            let [low, high] = a.to_le_bytes();
            [&[tag, 9, low, high, b, 1, 2, 3, other_tag, 9, 9, 9][..], &c.to_le_bytes()].concat()
        };
        let of = KeyRanges::of(&schema, &[2, 1, 0]);
        assert!(of.is_optional() && !KeyRanges::of(&schema, &[1]).is_optional());
        let one = row(1, 7, 5, 1, -0.0);
        // The tags are no part of the value.
        let value = [&0_f32.to_le_bytes()[..], &[5, 7, 0]].concat();
        let fields = [&[1, 0, 0, 0][..], &(-0_f32).to_le_bytes(), &[5, 1, 0, 7, 0]].concat();
        assert_eq!(
            of.value_of(&fields).as_deref(),
            Some(&[&(-0_f32).to_le_bytes()[..], &[5, 7, 0]].concat()[..])
        );
        for same in [row(255, 7, 5, 2, 0.0), row(1, 7, 5, 1, 0.0)] {
            assert!(of.same(&one, &same) && of.is_present(&same) && of.is(&same, &value));
            assert_eq!((of.hash(&same), of.hash_of(&value)), (key_hash(&value), key_hash(&value)));
        }
        // Zero bytes are a value.
        let zero = row(1, 0, 0, 1, 0.0);
        assert!(of.is_present(&zero) && of.has_entry(of.hash(&zero)) && of.same(&zero, &zero));
        for absent in [row(0, 7, 5, 1, 0.0), row(1, 7, 5, 0, 0.0), row(0, 0, 0, 0, 0.0)] {
            assert!(!of.is_present(&absent) && !of.has_entry(of.hash(&absent)));
            assert!(!of.same(&absent, &absent) && !of.same(&one, &absent) && !of.same(&absent, &one));
            assert!(!of.is(&absent, &value));
            let (first, last) = (absent[8], absent[0]);
            let fields = [&[first, 0, 0, 0][..], &[0; 4], &[5, last, 0, 7, 0]].concat();
            assert_eq!(of.value_of(&fields), None);
        }
        let hashes = [of.hash(&one), of.hash(&row(0, 7, 5, 1, 0.0)), of.hash(&zero)];
        assert_eq!(*of.with_entry(&hashes), [hashes[0], hashes[2]]);
    }

    /// A value whose hash is the number that stands for rows without an entry has an entry.
    #[test]
    fn no_hash_hides_a_value() {
        let kinds = [(Kind::Maybe(&Kind::U64), 0), (Kind::U64, 16)];
        let (optional, plain) = (schema(&kinds, 24), KeyRanges::new(vec![(16, 8)]));
        let optional = KeyRanges::of(&optional, &[0]);
        assert!(!optional.has_entry(NO_ENTRY) && optional.has_entry(NO_ENTRY - 1) && optional.has_entry(0));
        assert!(plain.has_entry(NO_ENTRY));
        assert_eq!(plain.with_entry(&[NO_ENTRY, 3]).len(), 2);
        assert_eq!([NO_ENTRY, 3].map(|hash| optional.entry_hash(hash)), [NO_ENTRY - 1, 3]);
        assert_eq!(plain.entry_hash(NO_ENTRY), NO_ENTRY);
    }
}

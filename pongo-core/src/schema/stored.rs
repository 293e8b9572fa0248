//! The owned form of a [`Schema`]: the description of a table that a store has without the
//! program's type.

use super::kind::{StoredKind, placed};
use super::{Kind, Schema};

/// The layout of a table's rows, as a store's schema file describes it.
///
/// Created from a program's [`Schema`], or read from the file with [`StoredSchema::parse`], which
/// checks that all parts are consistent: each field is at the first offset after the one before
/// that its type's alignment divides, indices into `fields` are in range, and sizes are those of the
/// kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSchema {
    /// The table's name.
    pub table: String,
    /// The type's name.
    pub record: String,
    /// The version of this table's layout, counted from 1.
    pub version: u32,
    /// The size of a row in bytes.
    pub size: usize,
    /// The alignment of a row.
    pub align: usize,
    /// The fields, in the order of their offsets.
    pub fields: Vec<StoredField>,
    /// The key fields, as indices into `fields`, in the key's order.
    pub key: Vec<usize>,
    /// The secondary indexes.
    pub indexes: Vec<StoredIndex>,
}

/// A field of a stored record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredField {
    /// The field's name.
    pub name: String,
    /// The field's kind.
    pub kind: StoredKind,
    /// Offset in bytes from the record's start.
    pub offset: usize,
    /// The field's size in bytes.
    pub size: usize,
}

/// A secondary index of a stored table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredIndex {
    /// The index's name.
    pub name: String,
    /// The index's fields, as indices into [`StoredSchema::fields`], in order.
    pub fields: Vec<usize>,
    /// Whether two live rows may not have the same value.
    pub unique: bool,
}

/// A [`Text`](crate::fields::Text) or [`Blob`](crate::fields::Blob) somewhere in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapField {
    /// Offset in bytes of its 16 bytes from the row's start.
    pub offset: usize,
    /// Whether it is text and must therefore be UTF-8.
    pub text: bool,
}

impl From<&Schema> for StoredSchema {
    fn from(schema: &Schema) -> Self {
        Self {
            table: schema.table.to_owned(),
            record: schema.record.to_owned(),
            version: 1,
            size: schema.size,
            align: schema.align,
            fields: schema
                .fields
                .iter()
                .map(|field| StoredField {
                    name: field.name.to_owned(),
                    kind: StoredKind::from(&field.kind),
                    offset: field.offset,
                    size: field.size,
                })
                .collect(),
            key: schema.key.to_vec(),
            indexes: schema
                .indexes
                .iter()
                .map(|index| StoredIndex {
                    name: index.name.to_owned(),
                    fields: index.fields.to_vec(),
                    unique: index.unique,
                })
                .collect(),
        }
    }
}

impl StoredSchema {
    /// Returns a fingerprint of the layout: equal for two schemas if and only if their rows' bytes
    /// have the same meaning (except for collisions of xxh3).
    ///
    /// Covers size and alignment, the names, kinds and positions of the fields, and the key.
    /// Excludes the indexes, which can be rebuilt, and the names of tables and types, which do not
    /// affect the bytes. It is xxh3 (128 bits) of
    ///
    /// ```text
    /// 16 8                  size, alignment
    /// 0 8 id: u64           offset, size, name, kind (without names of types) of each field, in order
    /// 8 8 price: f64
    /// key 0                 the key fields' places
    /// ```
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        use core::fmt::Write;
        let mut layout = String::new();
        // Writing into a `String` cannot fail.
        let _ = writeln!(layout, "{} {}", self.size, self.align);
        for field in &self.fields {
            let _ = write!(layout, "{} {} {}: ", field.offset, field.size, field.name);
            let _ = field.kind.write(&mut layout, false);
            layout.push('\n');
        }
        layout.push_str("key");
        for place in &self.key {
            let _ = write!(layout, " {place}");
        }
        xxhash_rust::xxh3::xxh3_128(layout.as_bytes())
    }

    /// Returns every `Text` and `Blob` in a row, including those in arrays, nested records and
    /// `Maybe`s, in the order of their offsets.
    ///
    /// The result has at most one element for each 16 bytes of a row. A `Maybe` without a value
    /// holds an empty one.
    #[must_use]
    pub fn heap_fields(&self) -> Vec<HeapField> {
        let mut found = Vec::new();
        for field in &self.fields {
            collect(&field.kind, field.offset, &mut found);
        }
        found
    }

    /// Returns the position of the key in a row: `(offset, length)` in the key's order, with
    /// adjacent ranges merged.
    #[must_use]
    pub fn key_ranges(&self) -> Vec<(usize, usize)> {
        self.ranges_of(&self.key)
    }

    /// Returns the positions of some fields, given as indices into `fields`, in the form of
    /// [`key_ranges`](Self::key_ranges).
    #[must_use]
    pub fn ranges_of(&self, fields: &[usize]) -> Vec<(usize, usize)> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for field in fields.iter().filter_map(|place| self.fields.get(*place)) {
            match ranges.last_mut() {
                Some((offset, len)) if *offset + *len == field.offset => *len += field.size,
                _ => ranges.push((field.offset, field.size)),
            }
        }
        ranges
    }

    /// Returns the offset in a row of the 16 bytes that refer to its key's bytes in the heap, for a
    /// table whose keys are not fields of its records. The key field is then the digest of these
    /// bytes ([`key_digest`](crate::fields::key_digest)).
    #[must_use]
    pub fn external_key(&self) -> Option<usize> {
        let [digest, name, ..] = &self.fields[..] else { return None };
        let is_name = matches!(&name.kind, StoredKind::Plain(plain) if plain.kind() == Kind::External);
        (self.key == [0] && digest.size == size_of::<u128>() && is_name).then_some(name.offset)
    }

    /// Returns the unique indexes, each with its position in `indexes`.
    pub fn uniques(&self) -> impl Iterator<Item = (usize, &StoredIndex)> {
        self.indexes.iter().enumerate().filter(|(_, index)| index.unique)
    }

    /// Returns the names of an index's fields, separated by commas.
    #[must_use]
    pub fn field_names(&self, fields: &[usize]) -> String {
        let names: Vec<&str> =
            fields.iter().filter_map(|place| self.fields.get(*place)).map(|field| &*field.name).collect();
        names.join(", ")
    }
}

fn collect(kind: &StoredKind, offset: usize, found: &mut Vec<HeapField>) {
    match kind {
        StoredKind::Plain(plain) => match plain.kind() {
            Kind::Text => found.push(HeapField { offset, text: true }),
            Kind::Blob | Kind::External => found.push(HeapField { offset, text: false }),
            _ => {}
        },
        StoredKind::Enum { .. } | StoredKind::FixedStr(_) => {}
        StoredKind::Maybe(of) => collect(of, offset + of.align(), found),
        StoredKind::Array { of, len } => {
            let mut first = Vec::new();
            collect(of, 0, &mut first);
            if first.is_empty() {
                return;
            }
            for element in 0..*len {
                let start = offset + element * of.size();
                found.extend(first.iter().map(|field| HeapField { offset: start + field.offset, ..*field }));
            }
        }
        StoredKind::Record { fields, .. } => {
            for (_, at, kind) in placed(fields) {
                collect(kind, offset + at, found);
            }
        }
    }
}

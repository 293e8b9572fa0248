//! The owned form of a [`Schema`]: what a store knows about a table without the program's type.

use super::kind::StoredKind;
use super::{Kind, Schema};

/// What a table's rows are, as a store's schema file says it.
///
/// Made from a program's [`Schema`] or read from the file with [`StoredSchema::parse`], which checks that all its parts
/// agree: fields lie one behind the other without gaps, places are inside `fields`, sizes are those of the kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSchema {
    /// The table's name.
    pub table: String,
    /// The type's name.
    pub record: String,
    /// Which layout of this table it is, counted from 1.
    pub version: u32,
    /// The size of a row in bytes.
    pub size: usize,
    /// Its alignment.
    pub align: usize,
    /// Its fields, in the order of their offsets.
    pub fields: Vec<StoredField>,
    /// The key fields, as places in `fields`, in the key's order.
    pub key: Vec<usize>,
    /// The secondary indexes.
    pub indexes: Vec<StoredIndex>,
}

/// One field of a stored record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredField {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: StoredKind,
    /// Bytes from the record's start.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A secondary index of a stored table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredIndex {
    /// Its name.
    pub name: String,
    /// Its fields, as places in [`StoredSchema::fields`], in order.
    pub fields: Vec<usize>,
    /// Whether two live rows may not have the same value.
    pub unique: bool,
}

/// A [`Text`](crate::fields::Text) or [`Blob`](crate::fields::Blob) somewhere in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapField {
    /// Bytes from the row's start to its 16 bytes.
    pub offset: usize,
    /// Whether it is text, and so has to be UTF-8.
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
    /// A number of the layout: equal for two schemas iff their rows' bytes mean the same (but for xxh3's collisions).
    ///
    /// Covers size, alignment, the fields' names, kinds and places, and the key. Not the indexes, which can be rebuilt,
    /// nor the names of tables and types, which mean nothing to the bytes. It is xxh3 (128 bits) of
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

    /// Every `Text` and `Blob` in a row, in arrays, nested records and `Maybe`s too, in the order of their offsets.
    ///
    /// At most one for each 16 bytes of a row. A `Maybe` without a value has an empty one.
    #[must_use]
    pub fn heap_fields(&self) -> Vec<HeapField> {
        let mut found = Vec::new();
        for field in &self.fields {
            collect(&field.kind, field.offset, &mut found);
        }
        found
    }

    /// Where the key lies in a row: `(offset, length)` in the key's order, with ranges that touch merged.
    #[must_use]
    pub fn key_ranges(&self) -> Vec<(usize, usize)> {
        self.ranges_of(&self.key)
    }

    /// Where some fields, given as places in `fields`, lie in a row: as [`key_ranges`](Self::key_ranges) says it of the key.
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

    /// Where in a row the 16 bytes lie that name its key's bytes in the heap: for a table whose keys are not fields of its
    /// records. The key field is the digest of these bytes ([`key_digest`](crate::fields::key_digest)) then.
    #[must_use]
    pub fn external_key(&self) -> Option<usize> {
        let [digest, name, ..] = &self.fields[..] else { return None };
        let is_name = matches!(&name.kind, StoredKind::Plain(plain) if plain.kind() == Kind::External);
        (self.key == [0] && digest.size == size_of::<u128>() && is_name).then_some(name.offset)
    }

    /// The unique indexes, each with its place in `indexes`.
    pub fn uniques(&self) -> impl Iterator<Item = (usize, &StoredIndex)> {
        self.indexes.iter().enumerate().filter(|(_, index)| index.unique)
    }

    /// The names of an index's fields, with commas between.
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
            let mut offset = offset;
            for (_, kind) in fields {
                collect(kind, offset, found);
                offset += kind.size();
            }
        }
    }
}

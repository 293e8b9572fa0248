//! Encoded keys are sorted like the values, for all fields at any offset.

use std::cmp::Ordering;

use pongo_core::schema::{Kind, StoredField, StoredKind, StoredSchema};
use pongo_index::{Encoding, after_prefix};

use crate::{Bytes, RandomSource};

const KINDS: [Kind; 25] = [
    Kind::U8,
    Kind::U16,
    Kind::U32,
    Kind::U64,
    Kind::U128,
    Kind::I8,
    Kind::I16,
    Kind::I32,
    Kind::I64,
    Kind::I128,
    Kind::F32,
    Kind::F64,
    Kind::Bool,
    Kind::Uuid,
    Kind::Timestamp,
    Kind::FixedStr(1),
    Kind::FixedStr(5),
    Kind::FixedStr(12),
    Kind::Enum { name: "E", repr: &Kind::I16, variants: &[("A", -1), ("B", 3)] },
    Kind::Array { of: &Kind::U8, len: 6 },
    Kind::Array { of: &Kind::I32, len: 2 },
    Kind::Array { of: &Kind::Array { of: &Kind::U16, len: 2 }, len: 2 },
    Kind::Char,
    Kind::NonZeroU64,
    Kind::NonZeroI32,
];

/// Compares the encoded keys of two rows. The bytes describe the fields of a row, those that form
/// the key, and the rows.
pub fn key_encoding(data: &[u8]) {
    let mut bytes = Bytes(data);
    let fields: Vec<(StoredKind, bool)> = (0..=bytes.below(4))
        .map(|_| {
            let what = bytes.below(256) as usize;
            let kind = StoredKind::from(&KINDS[what % KINDS.len()]);
            let maybe = what / KINDS.len() % 3 == 2 && !matches!(kind, StoredKind::Array { .. });
            if maybe { (StoredKind::Maybe(Box::new(kind)), true) } else { (kind, false) }
        })
        .collect();
    let schema = schema(&fields);
    // Each field of the key once, in any order.
    let mut key: Vec<usize> = Vec::new();
    for _ in 0..=bytes.below(fields.len() as u64) {
        let place = bytes.below(fields.len() as u64) as usize;
        if !key.contains(&place) {
            key.push(place);
        }
    }
    let first = row(&mut bytes, schema.size, None);
    let second = row(&mut bytes, schema.size, Some(&first));
    let encoding = Encoding::new(&schema, &key).expect("all these kinds have an order");
    let encode = |row: &[u8]| {
        let mut out = b"in front".to_vec();
        encoding.encode_row(row, &mut out);
        let raw: Vec<u8> = key.iter().flat_map(|&place| field(&schema, place, row)).copied().collect();
        let mut by_fields = b"in front".to_vec();
        encoding.encode_fields(&raw, &mut by_fields);
        assert_eq!(out, by_fields, "by the row, and by its fields");
        // The first fields alone are a prefix of the whole key.
        let mut len = 0;
        for &place in &key {
            len += schema.fields[place].size;
            let mut begin = b"in front".to_vec();
            encoding.encode_fields(&raw[..len], &mut begin);
            assert!(out.starts_with(&begin) && begin.len() == 8 + len, "a prefix of {len} bytes");
        }
        out.split_off(8)
    };
    let (encoded_first, encoded_second) = (encode(&first), encode(&second));
    let expected = key
        .iter()
        .map(|&place| {
            order(&schema.fields[place].kind, field(&schema, place, &first), field(&schema, place, &second))
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal);
    assert_eq!(
        encoded_first.cmp(&encoded_second),
        expected,
        "{:?} of {first:x?} and {second:x?}: {encoded_first:x?} and {encoded_second:x?}",
        key.iter().map(|&place| schema.fields[place].kind.to_string()).collect::<Vec<_>>()
    );
    ranges(&encoded_first, &encoded_second);
}

fn schema(fields: &[(StoredKind, bool)]) -> StoredSchema {
    let mut size = 0;
    let fields = fields
        .iter()
        .enumerate()
        .map(|(place, (kind, _))| {
            let field = StoredField {
                name: format!("f{place}"),
                offset: size,
                size: kind.size(),
                kind: kind.clone(),
            };
            size += field.size;
            field
        })
        .collect();
    StoredSchema {
        table: "keys".into(),
        record: "Keys".into(),
        version: 1,
        size,
        align: 1,
        fields,
        key: vec![0],
        indexes: Vec::new(),
    }
}

fn field<'r>(schema: &StoredSchema, place: usize, row: &'r [u8]) -> &'r [u8] {
    let field = &schema.fields[place];
    &row[field.offset..field.offset + field.size]
}

/// Generates a row, which may be a copy of `like` with a few bytes changed.
fn row(bytes: &mut Bytes<'_>, size: usize, like: Option<&[u8]>) -> Vec<u8> {
    match like {
        Some(like) if bytes.below(4) != 0 => {
            let mut row = like.to_vec();
            for _ in 0..bytes.below(4) {
                let at = bytes.below(size as u64) as usize;
                row[at] = bytes.below(256) as u8;
            }
            row
        }
        _ => (0..size).map(|_| bytes.below(256) as u8).collect(),
    }
}

/// Compares two values in the order of their types.
fn order(kind: &StoredKind, first: &[u8], second: &[u8]) -> Ordering {
    match kind {
        StoredKind::Plain(plain) => plain_order(plain.kind(), first, second),
        StoredKind::Enum { repr, .. } => plain_order(repr.kind(), first, second),
        StoredKind::Array { of, .. } => {
            let (first, second) = (first.chunks(of.size()), second.chunks(of.size()));
            first
                .zip(second)
                .map(|(first, second)| order(of, first, second))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        StoredKind::Maybe(of) => {
            let (tag, value) = first.split_at(of.align());
            let (other_tag, other) = second.split_at(of.align());
            let there = |tag: &[u8]| tag[0] != 0;
            match (there(tag), there(other_tag)) {
                (true, true) => order(of, value, other),
                (first, second) => first.cmp(&second),
            }
        }
        // Texts of fixed size are compared by all bytes.
        _ => first.cmp(second),
    }
}

fn unsigned(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u128::from(byte))
}

fn signed(bytes: &[u8]) -> i128 {
    let unused = 128 - 8 * bytes.len() as u32;
    (unsigned(bytes) << unused) as i128 >> unused
}

/// Compares floats as numbers. NaNs are sorted after all numbers and are equal to each other.
fn floats(first: f64, second: f64) -> Ordering {
    first.partial_cmp(&second).unwrap_or_else(|| first.is_nan().cmp(&second.is_nan()))
}

fn plain_order(kind: Kind, first: &[u8], second: &[u8]) -> Ordering {
    match kind.integer() {
        Kind::U16 | Kind::U32 | Kind::U64 | Kind::U128 => unsigned(first).cmp(&unsigned(second)),
        Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::I128 | Kind::Timestamp => {
            signed(first).cmp(&signed(second))
        }
        Kind::F32 => {
            let float = |bytes| f64::from(f32::from_bits(unsigned(bytes) as u32));
            floats(float(first), float(second))
        }
        Kind::F64 => {
            let float = |bytes| f64::from_bits(unsigned(bytes) as u64);
            floats(float(first), float(second))
        }
        _ => first.cmp(second),
    }
}

/// Checks that `after_prefix` ends the range of keys with a prefix: keys with the prefix are
/// inside, all others outside.
fn ranges(key: &[u8], other: &[u8]) {
    for len in 0..=key.len().min(6) {
        let prefix = &key[..len];
        let after = after_prefix(prefix);
        let within = |key: &[u8]| key >= prefix && after.as_ref().is_none_or(|after| key < &after[..]);
        assert!(within(key), "{key:x?} begins with {prefix:x?}");
        assert_eq!(within(other), other.starts_with(prefix), "{other:x?} and {prefix:x?}, up to {after:x?}");
    }
}

//! Schema files: any text, and any schema. A parsed file is written back byte for byte, and all
//! queries of a schema are run.

use pongo::PongoRecord;
use pongo_core::schema::{Kind, SchemaDiff, StoredField, StoredIndex, StoredKind, StoredSchema};
use pongo_index::Encoding;

use crate::{Bytes, RandomSource, Seat, Stop};

/// Tests a schema. The first byte selects the meaning of the rest: a schema file, a schema file
/// without its last line, a line that replaces or precedes one of a valid file, or decisions from
/// which a schema is generated.
pub fn schema(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    match how % 4 {
        0 => text(rest),
        1 => {
            let mut text = rest.to_vec();
            with_checksum(&mut text);
            self::text(&text);
        }
        2 => changed(rest),
        _ => made(&mut Bytes(rest)),
    }
}

fn with_checksum(text: &mut Vec<u8>) {
    let sum = xxhash_rust::xxh3::xxh3_64(text);
    text.extend_from_slice(format!("checksum {sum:016x}\n").as_bytes());
}

fn text(text: &[u8]) {
    match StoredSchema::parse_bytes(text) {
        Ok(schema) => {
            assert_eq!(schema.to_text().as_bytes(), text, "a schema has one spelling");
            asked(&schema);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Parses a valid file with one line changed. The first byte selects the line, the rest is its
/// text.
fn changed(rest: &[u8]) {
    let Some((&line, new)) = rest.split_first() else { return };
    let sound = StoredSchema::from(if line & 128 == 0 { Stop::SCHEMA } else { Seat::SCHEMA }).to_text();
    let mut lines: Vec<&[u8]> = sound.lines().map(str::as_bytes).collect();
    lines.pop();
    let place = usize::from(line & 31) % lines.len();
    if line & 64 == 0 {
        lines[place] = new;
    } else {
        lines.insert(place, new);
    }
    let mut file = lines.join(&b'\n');
    file.push(b'\n');
    with_checksum(&mut file);
    text(&file);
}

fn name(bytes: &mut Bytes<'_>, number: usize) -> String {
    ["id", "visits", "a", "name", "é", "r_9"][bytes.below(6) as usize].to_owned() + &number.to_string()
}

fn kind(bytes: &mut Bytes<'_>, depth: u64) -> StoredKind {
    const PLAIN: [Kind; 22] = [
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
        Kind::Text,
        Kind::Blob,
        Kind::External,
        Kind::Char,
        Kind::NonZeroU8,
        Kind::NonZeroI32,
        Kind::NonZeroU128,
    ];
    let what = bytes.below(if depth > 4 { 24 } else { 32 });
    match what {
        0..22 => StoredKind::from(&PLAIN[what as usize]),
        22 => StoredKind::FixedStr(1 + bytes.below(300) as usize),
        23 => {
            let StoredKind::Plain(repr) = StoredKind::from(&PLAIN[bytes.below(10) as usize]) else {
                return kind(bytes, 9);
            };
            let signed = bytes.below(2) == 1;
            let variants = (0..=bytes.below(4) as usize)
                .map(|place| (name(bytes, place), if signed { 3 } else { place as i128 } + place as i128))
                .collect();
            StoredKind::Enum { name: name(bytes, 0), repr, variants }
        }
        24..26 => StoredKind::Maybe(Box::new(kind(bytes, depth + 1))),
        26..29 => {
            StoredKind::Array { of: Box::new(kind(bytes, depth + 1)), len: 1 + bytes.below(5) as usize }
        }
        _ => StoredKind::Record {
            name: name(bytes, 0),
            fields: (0..=bytes.below(3) as usize)
                .map(|place| (name(bytes, place), kind(bytes, depth + 1)))
                .collect(),
        },
    }
}

/// Generates a schema. Its text may still be rejected because of alignments.
pub(super) fn make(bytes: &mut Bytes<'_>) -> StoredSchema {
    let mut fields = Vec::new();
    let (mut size, mut align) = (0, 1);
    for place in 0..=bytes.below(5) as usize {
        let kind = kind(bytes, 0);
        let field = StoredField { name: name(bytes, place), offset: size, size: kind.size(), kind };
        (size, align) = (size + field.size, align.max(field.kind.align()));
        fields.push(field);
    }
    let places = |bytes: &mut Bytes<'_>, fields: usize| {
        let mut places: Vec<usize> =
            (0..=bytes.below(3)).map(|_| bytes.below(fields as u64) as usize).collect();
        let mut seen = Vec::new();
        places.retain(|place| {
            !seen.contains(place) && {
                seen.push(*place);
                true
            }
        });
        places
    };
    let key = places(bytes, fields.len());
    let indexes = (0..bytes.below(3))
        .map(|number| StoredIndex {
            name: format!("i{number}"),
            fields: places(bytes, fields.len()),
            unique: bytes.below(2) == 0,
        })
        .collect();
    StoredSchema {
        table: "made".into(),
        record: "Made".into(),
        version: 1,
        size,
        align,
        fields,
        key,
        indexes,
    }
}

fn made(bytes: &mut Bytes<'_>) {
    let (first, second) = (make(bytes), make(bytes));
    for schema in [&first, &second] {
        let text = schema.to_text();
        match StoredSchema::parse(&text) {
            Ok(read) => assert_eq!(read, *schema, "what is written is read"),
            // Some fields are not at multiples of their alignments, or the size of the record is
            // not a multiple of its alignment.
            Err(error) => {
                let aligned = schema.fields.iter().all(|field| field.offset % field.kind.align() == 0);
                assert!(
                    !aligned || schema.size % schema.align != 0 || has_two_of_a_kind(schema),
                    "{error}\n{text}"
                );
            }
        }
        asked(schema);
    }
    both(&first, &second);
}

/// Returns whether two variants have the same number, or two fields the same name, at any depth:
/// the parser may reject these.
fn has_two_of_a_kind(schema: &StoredSchema) -> bool {
    fn inside(kind: &StoredKind) -> bool {
        match kind {
            StoredKind::Enum { variants, .. } => {
                variants
                    .iter()
                    .enumerate()
                    .any(|(at, one)| variants[..at].iter().any(|other| other.1 == one.1 || other.0 == one.0))
                    || variants.iter().any(|(_, value)| *value > 127)
            }
            StoredKind::Array { of, .. } | StoredKind::Maybe(of) => inside(of),
            StoredKind::Record { fields, .. } => {
                let twice = |at: usize| fields[..at].iter().any(|other| other.0 == fields[at].0);
                (0..fields.len()).any(twice)
                    || fields.iter().any(|(_, kind)| inside(kind))
                    || misplaced(fields)
            }
            _ => false,
        }
    }
    fn misplaced(fields: &[(String, StoredKind)]) -> bool {
        let mut end = 0;
        let wrong = fields.iter().any(|(_, kind)| {
            let wrong = end % kind.align() != 0;
            end += kind.size();
            wrong
        });
        wrong || fields.iter().any(|(_, kind)| end % kind.align() != 0)
    }
    schema.fields.iter().any(|field| inside(&field.kind))
}

/// Runs all queries of a schema that a store uses.
fn asked(schema: &StoredSchema) {
    let print = schema.fingerprint();
    assert!(schema.key_ranges().iter().all(|(offset, len)| offset + len <= schema.size));
    assert!(schema.uniques().count() <= schema.indexes.len());
    let names = schema.field_names(&schema.key);
    assert_eq!(names.split(", ").count(), schema.key.len());
    let diff = SchemaDiff::compare(schema, schema);
    assert!(diff.is_same_layout() && !diff.to_string().is_empty());
    both(schema, &StoredSchema::from(Stop::SCHEMA));
    // The lists of fields grow with the size of the record, so large records are skipped.
    if schema.size <= 1 << 16 {
        assert!(schema.heap_fields().iter().all(|field| field.offset + 16 <= schema.size));
        assert!(schema.external_key().is_none_or(|at| at + 16 <= schema.size));
        for filler in [0, 1, 0x80, 0xff] {
            let row = vec![filler; schema.size];
            let invalid = schema.invalid_field(&row);
            assert!(invalid.is_none() || !schema.takes_all_bytes(), "{invalid:?}");
            assert!(!schema.describe_key(&row).is_empty());
            if let Some(encoding) = Encoding::new(schema, &schema.key) {
                let mut key = Vec::new();
                encoding.encode_row(&row, &mut key);
                assert_eq!(key.len(), encoding.len());
            }
        }
    }
    assert_eq!(print, schema.clone().fingerprint());
}

fn both(first: &StoredSchema, second: &StoredSchema) {
    let diff = SchemaDiff::compare(first, second);
    assert_eq!(diff.is_same_layout(), first.fingerprint() == second.fingerprint());
    assert!(diff.to_string().contains(&first.table));
}

//! Tests of stored schemas: round trips, fingerprints, heap fields and key ranges, invalid input.

use super::*;

static POSITION: [Field; 2] = [
    Field { name: "lat", kind: Kind::F64, offset: 0, size: 8 },
    Field { name: "notes", kind: Kind::Array { of: &Kind::Maybe(&Kind::Text), len: 2 }, offset: 8, size: 48 },
];

static SCHEMA: Schema = Schema {
    table: "flights",
    record: "Flight",
    size: 104,
    align: 8,
    fields: &[
        Field { name: "id", kind: Kind::U64, offset: 0, size: 8 },
        Field { name: "carrier", kind: Kind::FixedStr(2), offset: 8, size: 2 },
        Field {
            name: "cabin",
            kind: Kind::Enum { name: "Cabin", repr: &Kind::I16, variants: &[("Economy", 0), ("First", -7)] },
            offset: 10,
            size: 2,
        },
        Field { name: "dep_delay", kind: Kind::F32, offset: 12, size: 4 },
        Field {
            name: "at",
            kind: Kind::Record { name: "Position", fields: &POSITION, size: 56 },
            offset: 16,
            size: 56,
        },
        Field { name: "größe", kind: Kind::Blob, offset: 72, size: 16 },
        Field { name: "uuid", kind: Kind::Uuid, offset: 88, size: 16 },
    ],
    key: &[2, 1, 0],
    indexes: &[
        IndexDef { name: "uuid", fields: &[6], unique: true },
        IndexDef { name: "carrier+cabin", fields: &[1, 2], unique: false },
    ],
};

const TEXT: &str = "\
pongo schema 1
table flights
record Flight
version 1
size 104
align 8
field 0 8 id: u64
field 8 2 carrier: str<2>
field 10 2 cabin: enum Cabin: i16 {Economy = 0, First = -7}
field 12 4 dep_delay: f32
field 16 56 at: record Position {lat: f64, notes: [maybe<text>; 2]}
field 72 16 größe: blob
field 88 16 uuid: uuid
key cabin, carrier, id
unique uuid: uuid
index carrier+cabin: carrier, cabin
";

/// Appends the matching checksum to a text.
fn signed(body: &str) -> String {
    format!("{body}checksum {:016x}\n", xxhash_rust::xxh3::xxh3_64(body.as_bytes()))
}

fn stored() -> StoredSchema {
    StoredSchema::from(&SCHEMA)
}

/// Returns the error for a valid text in which `from` is replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(TEXT.contains(from));
    StoredSchema::parse(&signed(&TEXT.replacen(from, to, 1))).expect_err(to).to_string()
}

#[test]
fn text_reads_back() {
    assert_eq!(stored().to_text(), signed(TEXT));
    assert_eq!(StoredSchema::parse(&signed(TEXT)).unwrap(), stored());
    assert_eq!(StoredSchema::parse_bytes(signed(TEXT).as_bytes()).unwrap(), stored());
}

#[test]
fn fingerprint_covers_only_the_layout() {
    let fingerprint = stored().fingerprint();
    let changed = |change: &dyn Fn(&mut StoredSchema)| {
        let mut schema = stored();
        change(&mut schema);
        schema.fingerprint() != fingerprint
    };
    assert!(!changed(&|schema| schema.indexes.clear()));
    assert!(!changed(&|schema| schema.table = "others".to_owned()));
    assert!(!changed(&|schema| schema.record = "Other".to_owned()));
    assert!(!changed(&|schema| schema.version = 2));
    assert!(!changed(&|schema| {
        let kind = StoredKind::parse("record Place {lat: f64, notes: [maybe<text>; 2]}").unwrap();
        schema.fields[4].kind = kind;
    }));
    assert!(changed(&|schema| schema.key = vec![0]));
    assert!(changed(&|schema| schema.key = vec![0, 1, 2]));
    assert!(changed(&|schema| schema.fields[0].name = "number".to_owned()));
    assert!(changed(&|schema| schema.fields[0].kind = StoredKind::parse("i64").unwrap()));
    assert!(changed(&|schema| schema.fields.swap(0, 1)));
    assert!(changed(&|schema| schema.size = 112));
    assert!(changed(&|schema| schema.align = 16));
    assert!(changed(&|schema| {
        schema.fields[2].kind = StoredKind::parse("enum Cabin: i16 {Economy = 0, First = 7}").unwrap();
    }));
    let layout = "104 8\n0 8 id: u64\n8 2 carrier: str<2>\n10 2 cabin: enum: i16 {Economy = 0, First = \
                  -7}\n12 4 dep_delay: f32\n16 56 at: record {lat: f64, notes: [maybe<text>; 2]}\n72 16 \
                  größe: blob\n88 16 uuid: uuid\nkey 2 1 0";
    assert_eq!(
        fingerprint,
        xxhash_rust::xxh3::xxh3_128(layout.as_bytes()),
        "the fingerprint is part of the format"
    );
}

#[test]
fn heap_fields_and_key_ranges() {
    let text = |offset| HeapField { offset, text: true };
    assert_eq!(stored().heap_fields(), [text(32), text(56), HeapField { offset: 72, text: false }]);
    assert_eq!(
        stored().key_ranges(),
        [(10, 2), (8, 2), (0, 8)],
        "in the key's order, which runs backwards here"
    );
    let mut schema = stored();
    schema.key = vec![1, 2, 3, 0];
    assert_eq!(schema.key_ranges(), [(8, 8), (0, 8)]);
}

#[test]
fn errors_say_line_expectation_and_find() {
    assert_eq!(
        refused("field 12 4", "field 13 4"),
        "line 10 of the schema file: expected offset 12, the first one for its type after the field \
         before, found `13 4 dep_delay: f32`: restore it from a copy of the store"
    );
    for (from, to, part) in [
        ("pongo schema 1", "pongo schema 2", "format 2 and this program reads format 1"),
        ("pongo schema 1", "mongo", "line 1 of the schema file: expected `pongo schema 1`, found `mongo`"),
        ("table flights", "table ../etc", "line 2 of the schema file: expected 1 to 64 of"),
        ("record Flight\n", "", "line 3 of the schema file: expected `record ` and a type's name"),
        ("version 1", "version 0", "line 4"),
        ("size 104", "size 0104", "line 5"),
        ("size 104", "size 96", "line 13 of the schema file: expected fields of 96 bytes in all"),
        ("size 104", "size 100", "line 6 of the schema file: expected a power of two"),
        ("size 104", "size 99999999999999999999999", "line 5"),
        ("align 8", "align 4", "line 7 of the schema file: expected an offset and a record that are aligned"),
        ("align 8", "align 3", "line 6"),
        ("field 12 4 dep_delay", "field 12 4 id", "expected a name that no other field has"),
        ("dep_delay: f32", "dep_delay: f64", "expected size 8, which the type has"),
        ("dep_delay: f32", "dep delay: f32", "expected offset, size, name, `: ` and type"),
        ("dep_delay: f32", "dep_delay: f33", "expected a type, found `f33`"),
        ("field 88 16 uuid: uuid\n", "", "line 13 of the schema file: expected `field 88 `"),
        (
            "key cabin, carrier, id",
            "key cabin, cabin",
            "line 14 of the schema file: expected names of fields",
        ),
        ("key cabin, carrier, id", "key nothing", "line 14"),
        ("key cabin, carrier, id\n", "", "line 14 of the schema file: expected `key ` and names of fields"),
        ("unique uuid: uuid", "unique uuid: ", "expected an index's name"),
        ("unique uuid: uuid", "unique carrier+cabin: uuid", "expected a name that no other index has"),
        (
            "unique uuid: uuid",
            "trigger uuid: uuid",
            "line 15 of the schema file: expected `index `, `unique `",
        ),
    ] {
        let error = refused(from, to);
        assert!(error.contains(part), "{to}: {error}");
    }
    let whole = signed(TEXT);
    for (text, part) in [
        (whole.replace("Flight", "Flught"), "checksum is"),
        (whole.trim_end().to_owned(), "as the last line"),
        (whole.clone() + "\n", "as the last line"),
        (whole.replace("checksum ", "checksum +"), "as the last line"),
        (TEXT.to_owned(), "as the last line"),
        (String::new(), "line 1 of the schema file"),
        ("pongo schema 1".to_owned(), "line 1 of the schema file"),
        ("x".repeat(MAX_TEXT + 1), "at most 4194304 bytes"),
    ] {
        let error = StoredSchema::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(matches!(StoredSchema::parse_bytes(b"pongo \xff"), Err(SchemaParseError::NotUtf8 { .. })));
}

/// A pseudorandom sequence that is the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[test]
fn mutations_are_refused_or_round_trip() {
    let mut numbers = Numbers(7);
    let pieces = [
        "99", "0", "-", "[", "maybe<", "u8", "text", ": ", ", ", "\n", "{", "}", ">", "ß", "\r", " ", "id",
        "; 4]",
    ];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut body: Vec<char> = TEXT.chars().collect();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(body.len());
            match numbers.below(4) {
                0 => drop(body.remove(at)),
                1 => body.splice(at..at, pieces[numbers.below(pieces.len())].chars()).for_each(drop),
                2 => body[at] = char::from(numbers.below(128) as u8),
                _ => {
                    let other = numbers.below(body.len());
                    body.swap(at, other);
                }
            }
        }
        let text = signed(&body.iter().collect::<String>());
        match StoredSchema::parse(&text) {
            Ok(schema) => {
                taken += 1;
                assert_eq!(schema.to_text(), text, "each schema has one spelling");
                assert!(schema.heap_fields().iter().all(|field| field.offset + 16 <= schema.size));
                assert!(schema.key_ranges().iter().all(|(offset, len)| offset + len <= schema.size));
                let diff = SchemaDiff::compare(&stored(), &schema);
                assert_eq!(diff.is_same_layout(), schema.fingerprint() == stored().fingerprint());
                assert!(!diff.to_string().is_empty());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 100 && refused > 10_000, "{taken} taken, {refused} refused: the mutations reach both");
}

#[test]
fn garbage_is_refused() {
    let mut numbers = Numbers(11);
    for _ in 0..2_000 {
        let len = numbers.below(400);
        let bytes: Vec<u8> = (0..len).map(|_| numbers.below(256) as u8).collect();
        assert!(StoredSchema::parse_bytes(&bytes).is_err());
        let with_head = [b"pongo schema 1\n", &bytes[..]].concat();
        assert!(StoredSchema::parse_bytes(&with_head).is_err());
    }
}

#[test]
fn a_difference_shows_both_layouts() {
    let program = StoredSchema::parse(&signed(
        "\
pongo schema 1
table flights
record Flight2
version 1
size 96
align 8
field 0 8 id: u64
field 8 2 carrier: str<2>
field 10 2 cabin: enum Class: i16 {Economy = 0, First = -7}
field 12 4 arr_delay: f32
field 16 56 at: record Place {lat: u64, notes: [maybe<text>; 2]}
field 72 16 uuid: uuid
field 88 8 count: u64
key id
unique uuid: uuid
",
    ))
    .unwrap();
    let diff = SchemaDiff::compare(&stored(), &program);
    assert!(!diff.is_same_layout());
    assert_eq!(
        diff.to_string(),
        "\
table `flights`: the stored rows and the program's type differ where a line begins with `!`
  | stored                                                   | program
! | record Flight: 104 bytes, aligned to 8                   | record Flight2: 96 bytes, aligned to 8
  |     0   8 id: u64                                        |     0   8 id: u64
  |     8   2 carrier: str<2>                                |     8   2 carrier: str<2>
  |    10   2 cabin: enum Cabin: i16 {Economy = 0, First = - |    10   2 cabin: enum Class: i16 {Economy = 0, First = -
  |           7}                                             |           7}
! |    12   4 dep_delay: f32                                 |
! |                                                          |    12   4 arr_delay: f32
  |    16  56 at: record Position                            |    16  56 at: record Place
! |    16   8   lat: f64                                     |    16   8   lat: u64
  |    24  48   notes: [maybe<text>; 2]                      |    24  48   notes: [maybe<text>; 2]
! |    72  16 größe: blob                                    |
! |    88  16 uuid: uuid                                     |    72  16 uuid: uuid
! |                                                          |    88   8 count: u64
! | key cabin, carrier, id                                   | key id
  | unique uuid                                              | unique uuid
! | index carrier, cabin                                     |"
    );
}

#[test]
fn other_names_are_no_difference() {
    let mut program = stored();
    program.record = "Other".to_owned();
    program.indexes.clear();
    let diff = SchemaDiff::compare(&stored(), &program);
    assert!(diff.is_same_layout());
    assert!(
        diff.to_string()
            .starts_with("table `flights`: the stored rows and the program's type have the same layout\n")
    );
}

#[test]
fn padding_follows_from_the_types() {
    let text = signed(
        "\
pongo schema 1
table orders
record Order
version 1
size 40
align 8
field 0 2 region: u16
field 4 4 number: u32
field 8 2 quantity: u16
field 12 8 inner: record Inner {wide: u32, narrow: u8, tail: u8}
field 24 8 price: f64
field 32 1 flag: bool
key region, number
",
    );
    let schema = StoredSchema::parse(&text).unwrap();
    assert_eq!(schema.to_text(), text);
    assert_eq!(schema.key_ranges(), [(0, 2), (4, 4)]);
    for (from, to, expected) in [
        ("field 4 4", "field 2 4", "offset 4, the first one for its type after the field before"),
        ("field 4 4", "field 8 4", "offset 4, the first one for its type after the field before"),
        ("field 12 8", "field 12 6", "size 8, which the type has"),
        ("size 40", "size 48", "`field 33 ` with the field that begins there"),
        ("size 40\nalign 8", "size 64\nalign 16", "`field 33 ` with the field that begins there"),
    ] {
        let body = &text[..text.find("checksum").expect("a last line")];
        let error = StoredSchema::parse(&signed(&body.replace(from, to))).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

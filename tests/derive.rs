//! The output of the macros for structs and enums: schema, keys, columns, cells.
#![allow(missing_docs)] // The types are `pub` to show that the macros leak nothing.

use pongo::prelude::*;
use pongo::schema::{HeapField, Kind, StoredSchema};
use pongo::zerocopy::{IntoBytes, TryFromBytes};

#[pongo::record]
#[pongo(table = "flights", index(carrier, origin), unique(tail_number, departs))]
#[derive(Debug)]
pub struct Flight {
    #[pongo(key)]
    pub day: u32,
    pub number: Maybe<u32>,
    #[pongo(key)]
    pub carrier: FixedStr<2>,
    #[pongo(index)]
    pub origin: [u8; 3],
    pub cabin: Cabin,
    _pad: [u8; 6],
    #[pongo(key)]
    pub departs: Timestamp,
    pub r#type: Position,
    pub tail: Text,
    #[pongo(unique)]
    pub tail_number: u64,
    pub notes: [Maybe<Position>; 2],
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        bytes(self) == bytes(other)
    }
}

/// Returns a record's bytes. The cells of `Maybe` do not implement `IntoBytes`.
fn bytes<F: FieldType>(value: &F) -> Vec<u8> {
    pongo_core::padding::with_bytes(value, <[u8]>::to_vec)
}

#[pongo::record]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
pub struct Position {
    lat: f64,
    lon: f64,
    what: Blob,
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd)]
pub enum Cabin {
    First = 1,
    Economy = 0,
    r#Type = 7,
}

#[pongo::record]
#[repr(i16)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Minus = -300,
    Plus = 300,
}

fn flight() -> Flight {
    Flight {
        day: 0x0102,
        number: Maybe::none(),
        carrier: "UA".try_into().unwrap(),
        origin: *b"EWR",
        cabin: Cabin::Type,
        _pad: [0; 6],
        departs: Timestamp::from_micros(5),
        r#type: Position { lat: 1.0, lon: 2.0, what: Blob::EMPTY },
        tail: Text::EMPTY,
        tail_number: 9,
        notes: [Maybe::none(), Maybe::some(Position { lat: 3.0, lon: 4.0, what: Blob::EMPTY })],
    }
}

#[test]
fn the_schema_is_the_layout() {
    let schema = Flight::SCHEMA;
    assert_eq!((schema.table, schema.record), ("flights", "Flight"));
    assert_eq!((schema.size, schema.align), (size_of::<Flight>(), 8));
    let fields: Vec<_> = schema.fields.iter().map(|field| (field.name, field.offset, field.size)).collect();
    assert_eq!(
        fields,
        [
            ("day", 0, 4),
            ("number", 4, 8),
            ("carrier", 12, 2),
            ("origin", 14, 3),
            ("cabin", 17, 1),
            ("_pad", 18, 6),
            ("departs", 24, 8),
            ("type", 32, 32),
            ("tail", 64, 16),
            ("tail_number", 80, 8),
            ("notes", 88, 80),
        ]
    );
    assert_eq!(schema.key, [0, 2, 6]);
    let indexes: Vec<_> =
        schema.indexes.iter().map(|index| (index.name, index.fields, index.unique)).collect();
    assert_eq!(
        indexes,
        [
            ("origin", &[3][..], false),
            ("tail_number", &[9], true),
            ("carrier+origin", &[2, 3], false),
            ("tail_number+departs", &[9, 6], true),
        ]
    );
    assert_eq!(
        Cabin::KIND,
        Kind::Enum { name: "Cabin", repr: &Kind::U8, variants: &[("First", 1), ("Economy", 0), ("Type", 7)] }
    );
}

#[test]
fn keys_are_bytes_in_field_order() {
    let row = flight();
    assert_eq!(row.key(), (0x0102, "UA".try_into().unwrap(), Timestamp::from_micros(5)));
    let key: [u8; 14] = row.key_bytes();
    assert_eq!(&key, b"\x02\x01\0\0UA\x05\0\0\0\0\0\0\0");
    assert_eq!(Flight::encode_key(&row.key()), key);

    let stored = StoredSchema::from(Flight::SCHEMA);
    assert_eq!(stored.key_ranges(), [(0, 4), (12, 2), (24, 8)]);
    let cut: Vec<u8> =
        stored.key_ranges().iter().flat_map(|(at, len)| bytes(&row)[*at..*at + *len].to_vec()).collect();
    assert_eq!(cut, key);
}

#[test]
fn columns_borrow_their_field() {
    let row = flight();
    assert_eq!(Flight::CARRIER.of(&row), "UA");
    assert_eq!((Flight::TYPE.name(), Flight::TYPE.offset()), ("type", 32));
    assert!(std::ptr::eq(Flight::TAIL.of(&row), &raw const row.tail));
}

#[test]
fn heap_fields_are_found_when_nested() {
    let stored = StoredSchema::from(Flight::SCHEMA);
    let blob = |offset| HeapField { offset, text: false };
    assert_eq!(
        stored.heap_fields(),
        [blob(48), HeapField { offset: 64, text: true }, blob(88 + 24), blob(128 + 24)]
    );
    assert_eq!(StoredSchema::parse(&stored.to_text()).unwrap(), stored);
}

#[test]
fn only_valid_bytes_are_a_row() {
    let row = flight();
    let mut changed = bytes(&row);
    assert_eq!(Flight::try_read_from_bytes(&changed).unwrap(), row);
    changed[17] = 2;
    assert!(Flight::try_read_from_bytes(&changed).is_err(), "no cabin has the number 2");
}

#[pongo::record]
#[derive(Clone, PartialEq, Debug)]
struct Keyed {
    #[pongo(key)]
    id: u64,
    short: u16,
}

#[pongo::record]
#[pongo(key = "external")]
#[derive(Clone, PartialEq, Debug)]
struct Outside {
    value: u16,
}

/// Any field type can be absent, also in arrays, with and without padding.
#[test]
fn arrays_and_tables_records_can_be_absent() -> Result<(), Box<dyn std::error::Error>> {
    #[pongo::record]
    #[derive(Clone, PartialEq, Debug)]
    struct All {
        #[pongo(key)]
        id: u64,
        keyed: Maybe<Keyed>,
        many: Maybe<[Keyed; 2]>,
        outside: Maybe<[[Outside; 1]; 2]>,
        cabins: Maybe<[Cabin; 3]>,
        times: Maybe<[Timestamp; 2]>,
    }
    let keyed = |id| Keyed { id, short: 7 };
    let all = |id, some: bool| All {
        id,
        keyed: some.then(|| keyed(1)).into(),
        many: some.then(|| [keyed(2), keyed(3)]).into(),
        outside: some.then_some([[Outside { value: 4 }], [Outside { value: 5 }]]).into(),
        cabins: some.then_some([Cabin::First; 3]).into(),
        times: some.then_some([Timestamp::from_micros(9); 2]).into(),
    };
    assert_eq!(All::SCHEMA.size, 8 + (8 + 16) + (8 + 32) + (2 + 4) + (1 + 3) + 6 + (8 + 16));
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut rows = tx.table::<All>()?;
    rows.put(&all(1, true))?;
    rows.put(&all(2, false))?;
    assert_eq!((rows.get(1)?, rows.get(2)?), (Some(&all(1, true)), Some(&all(2, false))));
    rows.update(2, |row| *row = all(2, true))?;
    assert_eq!(rows.get(2)?, Some(&all(2, true)));
    Ok(())
}

#[test]
fn enums_and_records_can_be_absent() {
    let none = Maybe::<Cabin>::none();
    assert_eq!((none.get(), bytes(&none)), (None, vec![0, 0]));
    assert_eq!(Maybe::some(Cabin::First).to_option(), Some(Cabin::First));
    // No variant of `Sign` is zero: the first variant is used for an absent value.
    let none = Maybe::<Sign>::none();
    assert_eq!(bytes(&none)[..2], [0, 0]);
    assert!(Maybe::<Sign>::try_read_from_bytes(&bytes(&none)).unwrap().is_none());
    assert_eq!(size_of::<Maybe<Position>>(), 40);
    let blank = <Flight as FieldType>::ABSENT_VALUE;
    assert_eq!(blank.cabin, Cabin::Economy);
    assert!(bytes(&blank).iter().all(|byte| *byte == 0));
}

/// A type that is neither `Copy` nor `Clone` can be a record, unless it is a key.
#[pongo::record]
#[derive(Clone)]
struct Plain {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[repr(u32)]
#[derive(PartialEq)]
enum NotCopyNotEq {
    A,
}

#[test]
fn names_come_from_the_type() {
    assert_eq!(Plain::SCHEMA.table, "plain");
    assert_eq!(Plain { id: 7 }.clone().key(), 7);
    assert_eq!(NotCopyNotEq::A.as_bytes(), [0; 4]);
}

/// Fields that are removed by `cfg` are not checked; the others are.
#[pongo::record]
struct Configured {
    #[pongo(key)]
    id: u64,
    #[cfg(not(test))]
    never: String,
    #[cfg(test)]
    #[pongo(index)]
    always: u64,
}

/// Derives that the attribute would add may be written explicitly.
#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Debug, pongo::zerocopy::FromBytes, pongo::zerocopy::IntoBytes)]
struct Written {
    #[pongo(key)]
    id: u64,
}

#[test]
fn attributes_of_the_users_own_stay() {
    assert_eq!(Configured::SCHEMA.fields.len(), 2);
    assert_eq!(Configured::ALWAYS.of(&Configured { id: 1, always: 2 }), &2);
    let written: Written = pongo::zerocopy::FromBytes::read_from_bytes(&[1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(written, Written { id: 1 });
}

/// The names of columns that would collide with each other, or with constants of the struct.
#[pongo::record]
#[pongo(index(max, r#type))]
#[allow(non_snake_case)]
struct Renamed {
    #[pongo(key, column = "LARGEST")]
    max: u64,
    a_b: u32,
    #[pongo(column = "a_B")]
    A_B: u32,
    #[pongo(column = "r#TYPE_OF", index)]
    r#type: u32,
    #[pongo(column = "RESERVED")]
    _reserved: u32,
}

impl Renamed {
    const MAX: u64 = 5;
    const TYPE: u32 = 6;
}

#[test]
fn columns_can_be_renamed() {
    let row = Renamed { max: Renamed::MAX, a_b: 1, A_B: 2, r#type: Renamed::TYPE, _reserved: 3 };
    assert_eq!((Renamed::LARGEST.name(), Renamed::LARGEST.of(&row)), ("max", &5));
    assert_eq!((Renamed::A_B.name(), Renamed::A_B.of(&row)), ("a_b", &1));
    assert_eq!((Renamed::a_B.name(), Renamed::a_B.of(&row)), ("A_B", &2));
    assert_eq!((Renamed::TYPE_OF.name(), Renamed::TYPE_OF.of(&row)), ("type", &6));
    assert_eq!((Renamed::RESERVED.name(), Renamed::RESERVED.of(&row)), ("_reserved", &3));
    let names: Vec<_> = Renamed::SCHEMA.fields.iter().map(|field| field.name).collect();
    assert_eq!(names, ["max", "a_b", "A_B", "type", "_reserved"]);
}

/// Derives above the attribute.
#[derive(Clone, Debug)] // and a note
#[allow(dead_code)]
/// A record.
#[derive(PartialEq, Eq)]
#[pongo::record]
#[pongo(table = "above")]
struct Above {
    #[pongo(key)]
    id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[pongo::record]
#[derive(Hash)]
enum EnumAbove {
    A,
    B,
}

macro_rules! with_derives_above {
    ($name:ident) => {
        #[derive(Clone, Copy, Debug)]
        #[pongo::record]
        struct $name {
            #[pongo(key)]
            id: u64,
        }
    };
}

with_derives_above!(InMacro);

#[test]
fn derives_may_stand_above() {
    assert_eq!(Above { id: 1 }.clone(), Above { id: 1 });
    assert_eq!((Above::SCHEMA.table, Above::ID.name()), ("above", "id"));
    assert_ne!(EnumAbove::A, EnumAbove::B);
    assert_eq!(InMacro::SCHEMA.table, "in_macro");
    let copied = InMacro { id: 1 };
    assert_eq!((copied, copied).1.id, 1);
}

/// Types of fields that name the record itself.
#[pongo::record]
struct OfSelf {
    #[pongo(key)]
    id: [u8; Self::N],
    #[pongo(index)]
    rest: Maybe<[u16; Self::N + 1]>,
}

impl OfSelf {
    const N: usize = 3;
}

#[pongo::record]
#[pongo(key = "external")]
struct OutsideOfSelf {
    #[pongo(index)]
    bytes: [u8; Self::N],
}

impl OutsideOfSelf {
    const N: usize = 5;
}

#[pongo::record]
struct NestedOfSelf {
    bytes: [u8; Self::N],
}

impl NestedOfSelf {
    const N: usize = 2;
}

#[test]
fn field_types_may_name_the_record() {
    assert_eq!(OfSelf { id: [7; 3], rest: Maybe::none() }.key_bytes(), [7; 3]);
    assert_eq!(OfSelf::SCHEMA.size, 4 + 2 + 8);
    assert_eq!(OutsideOfSelf::BYTES.of(&OutsideOfSelf { bytes: [1; 5] }), &[1; 5]);
    assert_eq!(bytes(&Maybe::some(NestedOfSelf { bytes: [8, 9] })), [1, 8, 9]);
}

/// Structs of one field as keys.
#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Id(i64);

#[pongo::record]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(FixedStr<4>);

#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Zone {
    number: u16,
}

/// Not a key, but a field.
#[pongo::record]
#[derive(Clone, Copy)]
struct Weight(f64);

#[pongo::record]
#[pongo(index(zone, code))]
#[derive(Clone, Copy)]
struct Parcel {
    #[pongo(key)]
    id: Id,
    #[pongo(index)]
    code: Code,
    #[pongo(unique)]
    zone: Zone,
    #[pongo(index)]
    next: Maybe<Id>,
    weight: Weight,
}

#[pongo::record]
struct ByCode {
    #[pongo(key)]
    code: Code,
    #[pongo(key)]
    zone: Zone,
    id: Id,
}

#[test]
fn structs_of_one_field_are_keys() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!((Id::KIND, Code::KIND, Weight::KIND), (Kind::I64, Kind::FixedStr(4), Kind::F64));
    assert!(matches!(Zone::KIND, Kind::Record { name: "Zone", size: 2, .. }));
    let stored = StoredSchema::from(Parcel::SCHEMA);
    assert_eq!(StoredSchema::parse(&stored.to_text())?, stored);

    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let code = |text: &str| FixedStr::new(text).map(Code);
    for (id, text, number) in [(-5, "ABB", 300), (7, "ABC", 2), (300, "B", 255), (-400, "AZ", 256)] {
        let next = if id < 0 { Maybe::none() } else { Maybe::some(Id(id - 1)) };
        let zone = Zone { number };
        let row = Parcel { id: Id(id), code: code(text)?, zone, next, weight: Weight(0.5) };
        tx.table::<Parcel>()?.insert(&row)?;
        tx.table::<ByCode>()?.insert(&ByCode { code: row.code, zone, id: row.id })?;
    }
    let taken = Parcel { id: Id(1), ..*tx.table::<Parcel>()?.get(Id(7))?.ok_or("it was put")? };
    assert!(tx.table::<Parcel>()?.insert(&taken).is_err(), "the zone is taken");
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let rows = snapshot.table::<Parcel>()?;
    let ids = |rows: pongo::Range<'_, Parcel>| {
        rows.map(|row| Ok(row?.id.0)).collect::<Result<Vec<_>, pongo::ReadError>>()
    };
    assert_eq!(rows.get(Id(300))?.map(|row| row.code), Some(code("B")?));
    assert_eq!(ids(rows.range(..)?)?, [-400, -5, 7, 300]);
    assert_eq!(ids(rows.range(Id(-5)..Id(300))?)?, [-5, 7]);
    assert_eq!(ids(rows.by(Parcel::CODE).prefix("AB")?)?, [-5, 7]);
    assert_eq!(ids(rows.by(Parcel::CODE).range(code("AZ")?..)?)?, [-400, 300]);
    assert_eq!(ids(rows.by(Parcel::ZONE).all()?)?, [7, 300, -400, -5]);
    assert_eq!(ids(rows.by(Parcel::ZONE).eq(Zone { number: 256 })?)?, [-400]);
    assert_eq!(ids(rows.by((Parcel::ZONE, Parcel::CODE)).prefix((Zone { number: 255 },))?)?, [300]);
    assert_eq!(ids(rows.by(Parcel::NEXT).range(Maybe::some(Id(0))..)?)?, [7, 300]);
    assert_eq!(ids(rows.by(Parcel::NEXT).eq(Maybe::none())?)?.len(), 2);
    assert_eq!(rows.filter(Parcel::CODE.eq(code("B")?)).count(), 1);
    assert_eq!(rows.filter(Parcel::ZONE.is_in(&[Zone { number: 2 }, Zone { number: 3 }])).count(), 1);
    let by_code = snapshot.table::<ByCode>()?;
    assert_eq!(by_code.get((code("ABC")?, Zone { number: 2 }))?.map(|row| row.id), Some(Id(7)));
    assert_eq!(by_code.prefix((code("AZ")?,))?.count(), 1);
    Ok(())
}

#[test]
fn mismatch_shows_both_structs() {
    let stored = StoredSchema::from(Plain::SCHEMA);
    let program = StoredSchema::from(Configured::SCHEMA);
    let diff = pongo::schema::SchemaDiff::compare(&stored, &program);
    assert!(!diff.is_same_layout());
    assert_eq!(
        diff.to_string(),
        "table `plain`: the stored rows and the program's type differ where a line begins with `!`\n  \
           | stored                              | program\n\
         ! | record Plain: 8 bytes, aligned to 8 | record Configured: 16 bytes, aligned to 8\n  \
           |     0   8 id: u64                   |     0   8 id: u64\n\
         ! |                                     |     8   8 always: u64\n  \
           | key id                              | key id\n\
         ! |                                     | index always"
    );
}

//! Order-preserving key encoding: comparing two encoded keys byte by byte orders them as comparing
//! the field values does.
//!
//! Every key field has a fixed size, and its encoding has the same size:
//!
//! - unsigned integers are stored big-endian, signed integers big-endian with the sign bit flipped;
//! - floats are stored as their rank in [their total order](pongo_core::order);
//! - `bool`, `char`, `NonZero` integers and enums are stored as their number;
//! - `FixedStr`, `Uuid` and byte arrays are stored unchanged, other arrays element by element;
//! - a record of one field is stored as that field;
//! - a `Maybe` is stored as its tag followed by the value.
//!
//! The key of several fields is the concatenation of their encodings, so a key whose first fields
//! have given values starts with the encodings of these values. FoundationDB's tuple layer uses the
//! same method.

use pongo_core::order::TotalOrder;
use pongo_core::schema::{Kind, StoredKind, StoredSchema};

/// The offsets of an index's fields in a row, and the encoding of each field.
///
/// ```
/// use pongo_core::schema::StoredSchema;
/// use pongo_index::Encoding;
///
/// # let text = "pongo schema 1\ntable t\nrecord T\nversion 1\nsize 6\nalign 2\nfield 0 4 name: str<4>\n\
/// # field 4 2 level: i16\nkey name, level\n";
/// # let sum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
/// # let schema = StoredSchema::parse(&format!("{text}checksum {sum:016x}\n"))?;
/// // of a record with the fields `name: FixedStr<4>` and `level: i16`
/// let encoding = Encoding::new(&schema, &[1, 0]).ok_or("both can be ordered")?;
/// let mut key = Vec::new();
/// encoding.encode_row(b"JFK\0\xff\xff", &mut key); // level -1
/// assert_eq!(key, b"\x7f\xffJFK\0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoding {
    parts: Vec<Part>,
    len: usize,
}

/// A run of bytes that are encoded in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    /// Byte offset in a row.
    row: usize,
    /// Byte offset in the concatenated fields, and in the encoding.
    at: usize,
    len: usize,
    /// Bytes of a `Maybe`'s tag before the value, or 0 if the part is not a `Maybe`. An absent
    /// value is encoded as zeros.
    tag: usize,
    order: Order,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// Copied unchanged.
    Bytes,
    /// Unsigned integers with this number of bytes.
    Unsigned(usize),
    /// Signed integers with this number of bytes.
    Signed(usize),
    /// Floats with this number of bytes.
    Float(usize),
}

impl Encoding {
    /// Creates the encoding of the given fields (positions in the schema), in the index's order.
    /// Returns `None` if a field has no byte order (texts, nested records) or does not exist.
    #[must_use]
    pub fn new(schema: &StoredSchema, fields: &[usize]) -> Option<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let mut len = 0;
        for &place in fields {
            let field = schema.fields.get(place)?;
            let (tag, order) = match &field.kind {
                StoredKind::Maybe(of) => (of.align(), order(of)?),
                kind => (0, order(kind)?),
            };
            let part = Part { row: field.offset, at: len, len: field.size, tag, order };
            match parts.last_mut() {
                Some(last) if last.goes_on_with(part) => last.len += part.len,
                _ => parts.push(part),
            }
            len += field.size;
        }
        Some(Self { parts, len })
    }

    /// Returns the length of an encoded key in bytes, which is the total size of the fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the encoding has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the encoded key of a row, given as the row's bytes.
    ///
    /// # Panics
    /// If the row is shorter than the schema requires.
    #[inline]
    pub fn encode_row(&self, row: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.len, 0);
        self.encode_row_to(row, &mut out[start..]);
    }

    /// Writes the encoded key as [`encode_row`](Self::encode_row) does, into a buffer of
    /// [`len`](Self::len) bytes.
    ///
    /// # Panics
    /// If the row is shorter than the schema requires, or the buffer is shorter than the key.
    #[inline]
    pub fn encode_row_to(&self, row: &[u8], out: &mut [u8]) {
        for part in &self.parts {
            part.put(&row[part.row..part.row + part.len], &mut out[part.at..part.at + part.len]);
        }
    }

    /// Appends the encoded key of the concatenated field bytes. If `bytes` ends after one of the
    /// fields, only the fields up to that point are encoded.
    #[inline]
    pub fn encode_fields(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let len = bytes.len().min(self.len);
        out.resize(start + len, 0);
        for part in &self.parts {
            let end = (part.at + part.len).min(len);
            if part.at < end {
                part.put(&bytes[part.at..end], &mut out[start + part.at..start + end]);
            }
        }
    }

    /// Returns the key ranges below a range end that a comparison of values must exclude. The end
    /// is given as encoded fields.
    ///
    /// Each range holds the keys that equal the end in all fields before a `Maybe` and have no
    /// value where the end has one. It is given as its first key and the first key after it. Such a
    /// key sorts below the end, but its row does not satisfy a condition on the value: an absent
    /// value compares with no value.
    ///
    /// ```
    /// # use pongo_core::schema::StoredSchema;
    /// # use pongo_index::Encoding;
    /// # let text = "pongo schema 1\ntable t\nrecord T\nversion 1\nsize 6\nalign 2\nfield 0 2 of: i16\n\
    /// # field 2 4 level: maybe<i16>\nkey of\n";
    /// # let sum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    /// # let schema = StoredSchema::parse(&format!("{text}checksum {sum:016x}\n"))?;
    /// // of a record with the fields `of: i16` and `level: Maybe<i16>`
    /// let encoding = Encoding::new(&schema, &[0, 1]).ok_or("both can be ordered")?;
    /// let mut end = Vec::new();
    /// encoding.encode_row(b"\x07\0\x01\0\x05\0", &mut end); // below (7, 5)
    /// let absent: Vec<_> = encoding.absent_before(&end).collect();
    /// assert_eq!(absent, [(b"\x80\x07\x00".to_vec(), b"\x80\x07\x01".to_vec())]); // all of (7, none)
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn absent_before(&self, end: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let has_value = |part: &&Part| part.tag > 0 && end.get(part.at).is_some_and(|tag| *tag == PRESENT);
        self.parts.iter().filter(has_value).map(|part| {
            let with_tag = |tag| [&end[..part.at], &[tag]].concat();
            (with_tag(ABSENT), with_tag(PRESENT))
        })
    }

    /// Returns whether an encoded key has an absent `Maybe` in one of its fields. Fields after the
    /// end of `key` are not absent.
    #[must_use]
    pub fn has_absent(&self, key: &[u8]) -> bool {
        self.parts.iter().any(|part| part.tag > 0 && key.get(part.at) == Some(&ABSENT))
    }
}

/// The first byte of an encoded `Maybe`.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

impl Part {
    /// Returns whether the next part can be merged into this one.
    fn goes_on_with(self, next: Self) -> bool {
        let plain = self.tag == 0 && next.tag == 0 && !matches!(self.order, Order::Float(_));
        plain && self.order == next.order && self.row + self.len == next.row
    }

    #[inline]
    fn put(self, from: &[u8], to: &mut [u8]) {
        if self.tag == 0 {
            return self.order.put(from, to);
        }
        // `Maybe::is_some` also reads only the first byte of the tag. The bytes of an absent value
        // have no meaning.
        if from[0] != 0 {
            to[..self.tag].fill(PRESENT);
            self.order.put(&from[self.tag..], &mut to[self.tag..]);
        } else {
            to.fill(ABSENT);
        }
    }
}

impl Order {
    #[inline]
    fn put(self, from: &[u8], to: &mut [u8]) {
        match self {
            Self::Bytes => to.copy_from_slice(from),
            Self::Unsigned(width) => reverse(width, 0, from, to),
            Self::Signed(width) => reverse(width, 0x80, from, to),
            Self::Float(_) => float(from, to),
        }
    }
}

#[inline]
fn reverse(width: usize, sign: u8, from: &[u8], to: &mut [u8]) {
    // The most common width, converted in one instruction.
    if let (8, Ok(bytes)) = (width, <[u8; 8]>::try_from(from)) {
        let value = u64::from_le_bytes(bytes) ^ u64::from(sign) << 56;
        to.copy_from_slice(&value.to_be_bytes());
        return;
    }
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
        for (from, to) in from.iter().rev().zip(&mut *to) {
            *to = *from;
        }
        to[0] ^= sign;
    }
}

fn float(from: &[u8], to: &mut [u8]) {
    if let Ok(bytes) = <[u8; 4]>::try_from(from) {
        to.copy_from_slice(&f32::from_le_bytes(bytes).rank().to_be_bytes());
    } else if let Ok(bytes) = <[u8; 8]>::try_from(from) {
        to.copy_from_slice(&f64::from_le_bytes(bytes).rank().to_be_bytes());
    }
}

fn order(kind: &StoredKind) -> Option<Order> {
    match kind {
        StoredKind::Plain(plain) => match plain.kind().integer() {
            Kind::U8 | Kind::Bool | Kind::Uuid => Some(Order::Bytes),
            Kind::U16 | Kind::U32 | Kind::U64 | Kind::U128 => Some(Order::Unsigned(kind.size())),
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::I128 | Kind::Timestamp => {
                Some(Order::Signed(kind.size()))
            }
            Kind::F32 | Kind::F64 => Some(Order::Float(kind.size())),
            _ => None,
        },
        StoredKind::Enum { repr, .. } => order(&StoredKind::Plain(*repr)),
        StoredKind::FixedStr(_) => Some(Order::Bytes),
        // Equal values of a record of one field have equal bytes unless the field is a float.
        StoredKind::Record { fields, .. } => match &fields[..] {
            [(_, of)] => order(of).filter(|order| !matches!(order, Order::Float(_))),
            _ => None,
        },
        StoredKind::Array { of, .. } => order(of).filter(|order| !matches!(order, Order::Float(_))),
        _ => None,
    }
}

/// Returns the least key that is greater than every key that starts with `prefix`, or `None` if
/// there is no such key.
///
/// ```
/// use pongo_index::after_prefix;
/// assert_eq!(after_prefix(b"UA"), Some(b"UB".to_vec()));
/// assert_eq!(after_prefix(b"U\xff"), Some(b"V".to_vec()));
/// assert_eq!(after_prefix(b"\xff"), None);
/// ```
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use pongo_core::schema::StoredField;

    use super::*;

    fn schema(kinds: &[Kind]) -> StoredSchema {
        let mut offset = 0;
        let mut fields = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let kind = StoredKind::from(kind);
            let size = kind.size();
            fields.push(StoredField { name: format!("f{place}"), kind, offset, size });
            offset += size;
        }
        StoredSchema {
            table: "t".into(),
            record: "T".into(),
            version: 1,
            size: offset,
            align: 1,
            fields,
            key: vec![0],
            indexes: Vec::new(),
        }
    }

    fn encoded(kinds: &[Kind], fields: &[usize], row: &[u8]) -> Vec<u8> {
        let encoding = Encoding::new(&schema(kinds), fields).expect("kinds with an order");
        let mut by_row = Vec::new();
        encoding.encode_row(row, &mut by_row);
        let schema = schema(kinds);
        let raw: Vec<u8> = fields
            .iter()
            .flat_map(|&place| &row[schema.fields[place].offset..][..schema.fields[place].size])
            .copied()
            .collect();
        let mut by_fields = Vec::new();
        encoding.encode_fields(&raw, &mut by_fields);
        assert_eq!(by_row, by_fields);
        by_row
    }

    fn rises<T: Ord + Copy + core::fmt::Debug, const N: usize>(
        kind: Kind,
        values: &mut [T],
        bytes: impl Fn(T) -> [u8; N],
    ) {
        values.sort_unstable();
        for pair in values.windows(2) {
            let (a, b) = (encoded(&[kind], &[0], &bytes(pair[0])), encoded(&[kind], &[0], &bytes(pair[1])));
            assert_eq!(a.cmp(&b), pair[0].cmp(&pair[1]), "{pair:?}: {a:x?} {b:x?}");
        }
    }

    #[test]
    fn encoded_integers_keep_their_order() {
        rises(Kind::U8, &mut [0, 1, 127, 128, 255_u8], u8::to_le_bytes);
        rises(Kind::U16, &mut [0, 1, 255, 256, 0x7fff, 0x8000, u16::MAX], u16::to_le_bytes);
        rises(Kind::U32, &mut [0, 1, 256, 0x1_0000, u32::MAX], u32::to_le_bytes);
        rises(Kind::U64, &mut [0, 1, 255, 256, 1 << 32, u64::MAX - 1, u64::MAX], u64::to_le_bytes);
        rises(Kind::U128, &mut [0, 1, 1 << 64, 1 << 120, u128::MAX], u128::to_le_bytes);
        rises(Kind::I8, &mut [-128, -1, 0, 1, 127_i8], i8::to_le_bytes);
        rises(Kind::I16, &mut [i16::MIN, -256, -1, 0, 1, 255, 256, i16::MAX], i16::to_le_bytes);
        rises(Kind::I32, &mut [i32::MIN, -70_000, -1, 0, 1, i32::MAX], i32::to_le_bytes);
        rises(Kind::NonZeroI32, &mut [i32::MIN, -70_000, -1, 1, 256, i32::MAX], i32::to_le_bytes);
        rises(Kind::NonZeroU64, &mut [1, 255, 256, 1 << 32, u64::MAX], u64::to_le_bytes);
        rises(Kind::Char, &mut ['\0', 'z', 'é', '\u{ffff}', '\u{10000}', char::MAX], |c| {
            u32::from(c).to_le_bytes()
        });
        rises(Kind::Timestamp, &mut [i64::MIN, -1 << 40, -1, 0, 1, i64::MAX], i64::to_le_bytes);
        rises(Kind::I128, &mut [i128::MIN, -1 << 70, -1, 0, 1, i128::MAX], i128::to_le_bytes);
        let repr = Kind::Enum { name: "E", repr: &Kind::I8, variants: &[("A", -1), ("B", 3)] };
        rises(repr, &mut [-1, 3_i8], i8::to_le_bytes);
    }

    #[test]
    fn encoded_floats_keep_their_order() {
        let values =
            [f64::NEG_INFINITY, -1e300, -1.5, -1e-310, 0.0, 1e-310, 1.0, 1.5, 1e300, f64::INFINITY, f64::NAN];
        let key = |value: f64| encoded(&[Kind::F64], &[0], &value.to_le_bytes());
        assert!(values.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert_eq!(key(-0.0), key(0.0));
        assert_eq!(key(-f64::NAN), key(f64::from_bits(0x7ff8_0000_0000_1234)));
        let key = |value: f32| encoded(&[Kind::F32], &[0], &value.to_le_bytes());
        assert!(
            values
                .windows(2)
                .filter(|pair| pair[0].abs() != 1e-310 && pair[1].abs() != 1e-310)
                .all(|pair| { key(pair[0] as f32) <= key(pair[1] as f32) })
        );
        assert!(key(1.0) < key(1.5) && key(-1.5) < key(-1.0) && key(-0.0) == key(0.0));
    }

    /// Checks bytes that are part of the on-disk format: a change requires a new index id.
    #[test]
    fn float_encoding_is_part_of_format() {
        let key = |value: f64| encoded(&[Kind::F64], &[0], &value.to_le_bytes());
        assert_eq!(key(f64::NAN), 0xfff8_0000_0000_0000_u64.to_be_bytes());
        assert_eq!(key(f64::INFINITY), 0xfff0_0000_0000_0000_u64.to_be_bytes());
        assert_eq!(key(-0.0), 0x8000_0000_0000_0000_u64.to_be_bytes());
        assert_eq!(key(-1.5), 0x4007_ffff_ffff_ffff_u64.to_be_bytes());
        let key = |value: f32| encoded(&[Kind::F32], &[0], &value.to_le_bytes());
        assert_eq!(key(-f32::NAN), 0xffc0_0000_u32.to_be_bytes());
        assert_eq!(key(1.5), 0xbfc0_0000_u32.to_be_bytes());
    }

    #[test]
    fn absent_values_before_end_are_recognized() {
        let kinds = [Kind::U8, Kind::Maybe(&Kind::U8), Kind::Maybe(&Kind::I16)];
        let encoding = Encoding::new(&schema(&kinds), &[0, 1, 2]).expect("all have an order");
        let before = |fields: &[u8]| {
            let mut end = Vec::new();
            encoding.encode_fields(fields, &mut end);
            encoding.absent_before(&end).collect::<Vec<_>>()
        };
        let first = (vec![7, 0], vec![7, 1]);
        let second = (vec![7, 1, 5, 0], vec![7, 1, 5, 1]);
        assert_eq!(before(&[7, 1, 5, 1, 0, 0, 1]), [first.clone(), second]);
        assert_eq!(before(&[7, 1, 5]), [first]);
        assert_eq!(before(&[7]), []);
        // If the end itself has no value, nothing is compared with an absent value.
        assert_eq!(before(&[7, 0, 0, 1, 0, 0, 1]), [(vec![7, 0, 0, 0], vec![7, 0, 0, 1])]);
    }

    #[test]
    fn absent_value_sorts_first() {
        let key = |tag: u8, value: i16| {
            encoded(&[Kind::Maybe(&Kind::I16)], &[0], &[tag, 0, value as u8, (value >> 8) as u8])
        };
        assert!(key(0, 7) == key(0, 0) && key(0, 7) < key(1, i16::MIN) && key(1, -1) < key(1, 0));
    }

    #[test]
    fn absent_part_is_found_in_key() {
        let kinds = [Kind::Maybe(&Kind::I16), Kind::U8, Kind::Maybe(&Kind::U8)];
        let encoding = Encoding::new(&schema(&kinds), &[1, 0, 2]).expect("all have an order");
        for (row, absent) in [
            ([1, 0, 0, 0, 0, 1, 0], false),
            ([9, 0, 0, 0, 7, 1, 0], false),
            ([0, 0, 5, 0, 7, 1, 0], true),
            ([1, 0, 5, 0, 7, 0, 9], true),
        ] {
            let mut key = Vec::new();
            encoding.encode_row(&row, &mut key);
            assert_eq!(encoding.has_absent(&key), absent, "{row:?}");
            // Not part of a key that ends before it.
            assert!(!encoding.has_absent(&key[..1]));
        }
        assert!(!Encoding::new(&schema(&kinds), &[1]).expect("it has one").has_absent(&[0]));
    }

    #[test]
    fn tag_byte_marks_presence() {
        use pongo_core::fields::Maybe;
        use zerocopy::TryFromBytes;

        for (bytes, same_as) in [([0, 9, 5, 0], [0, 0, 0, 0]), ([7, 9, 5, 0], [1, 0, 5, 0])] {
            let read = |bytes: [u8; 4]| Maybe::<i16>::try_read_from_bytes(&bytes).expect("any tag is one");
            assert_eq!(read(bytes), read(same_as));
            let key = |bytes: [u8; 4]| encoded(&[Kind::Maybe(&Kind::I16)], &[0], &bytes);
            assert_eq!(key(bytes), key(same_as));
        }
    }

    #[test]
    fn fields_compare_in_declared_order() {
        let kinds = [Kind::I16, Kind::FixedStr(2), Kind::Array { of: &Kind::U16, len: 2 }];
        let row = |level: i16, name: &[u8; 2], pair: [u16; 2]| {
            [&level.to_le_bytes()[..], name, &pair[0].to_le_bytes(), &pair[1].to_le_bytes()].concat()
        };
        let key = |fields: &[usize], row: &[u8]| encoded(&kinds, fields, row);
        let (low, high) = (row(-5, b"ZZ", [0, 9]), row(3, b"AA", [1, 0]));
        assert!(key(&[0, 1], &low) < key(&[0, 1], &high));
        assert!(key(&[1, 0], &low) > key(&[1, 0], &high));
        assert!(key(&[2], &low) < key(&[2], &high));
        assert!(key(&[2, 1, 0], &row(1, b"A\0", [7, 255])) < key(&[2, 1, 0], &row(0, b"A\0", [7, 256])));
        // The encoding of the first fields alone is a prefix.
        let encoding = Encoding::new(&schema(&kinds), &[1, 0, 2]).expect("all have an order");
        let (mut whole, mut first) = (Vec::new(), Vec::new());
        encoding.encode_row(&low, &mut whole);
        encoding.encode_fields(&[&b"ZZ"[..], &(-5_i16).to_le_bytes()].concat(), &mut first);
        assert_eq!(first, whole[..4]);
    }

    #[test]
    fn unordered_types_have_no_encoding() {
        for kind in [Kind::Text, Kind::Blob, Kind::Maybe(&Kind::Text), Kind::Array { of: &Kind::F32, len: 2 }]
        {
            assert_eq!(Encoding::new(&schema(&[kind]), &[0]), None);
        }
        assert_eq!(Encoding::new(&schema(&[Kind::U8]), &[1]), None);
    }
}

//! Schemas: the layout of a table's rows, as the type declares it at compile time ([`Schema`]) and
//! as the store describes it on disk ([`StoredSchema`]).
//!
//! | module | purpose |
//! | --- | --- |
//! | this module | the compile-time form, which the macros fill in, and the limits of both forms |
//! | `kind` | [`StoredKind`]: writes and parses a type's canonical name |
//! | `stored` | [`StoredSchema`]: the owned form, its fingerprint, heap fields and key ranges |
//! | `text` | the schema file: `to_text` and `parse` |
//! | `check` | validates the bytes of a row |
//! | `describe` | formats a row's key or other fields for messages |
//! | `diff` | [`SchemaDiff`]: compares two layouts |

mod check;
mod describe;
mod diff;
mod kind;
mod stored;
mod text;

pub use describe::describe_bytes;
pub(crate) use describe::describe_value;
pub use diff::SchemaDiff;
pub use kind::{PlainKind, StoredKind};
pub use stored::{HeapField, StoredField, StoredIndex, StoredSchema};
pub use text::{MAX_TEXT, SchemaParseError};

/// Maximum size of a record in bytes: 1 GiB. It may exceed the size of a chunk, since rows can span
/// chunks.
pub const MAX_RECORD_SIZE: usize = 1 << 30;
/// Maximum alignment of a record: the page size.
pub const MAX_ALIGN: usize = 4096;
/// Maximum nesting depth of records, arrays and `Maybe`s.
pub const MAX_DEPTH: usize = 64;
/// Maximum number of characters in a table's name.
pub const MAX_TABLE_NAME: usize = 64;

/// Returns whether `name` is a valid table name: 1 to 64 of `a`–`z`, `0`–`9`, `_`, `-`, beginning
/// with a letter. The name is used as a folder name.
#[must_use]
pub const fn is_table_name(name: &str) -> bool {
    let name = name.as_bytes();
    if name.is_empty() || name.len() > MAX_TABLE_NAME || !name[0].is_ascii_lowercase() {
        return false;
    }
    let mut place = 0;
    while place < name.len() {
        if !matches!(name[place], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        place += 1;
    }
    true
}

/// The kind of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `u128`
    U128,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `i128`
    I128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `bool`
    Bool,
    /// `char`: the `u32` of a Unicode scalar value.
    Char,
    /// `NonZeroU8`: `u8` except 0.
    NonZeroU8,
    /// `NonZeroU16`: `u16` except 0.
    NonZeroU16,
    /// `NonZeroU32`: `u32` except 0.
    NonZeroU32,
    /// `NonZeroU64`: `u64` except 0.
    NonZeroU64,
    /// `NonZeroU128`: `u128` except 0.
    NonZeroU128,
    /// `NonZeroI8`: `i8` except 0.
    NonZeroI8,
    /// `NonZeroI16`: `i16` except 0.
    NonZeroI16,
    /// `NonZeroI32`: `i32` except 0.
    NonZeroI32,
    /// `NonZeroI64`: `i64` except 0.
    NonZeroI64,
    /// `NonZeroI128`: `i128` except 0.
    NonZeroI128,
    /// An enum without fields and with a fixed representation.
    Enum {
        /// The type's name.
        name: &'static str,
        /// The integer kind: `U8`, `I16`, …
        repr: &'static Kind,
        /// The name and value of each variant, in order.
        variants: &'static [(&'static str, i128)],
    },
    /// `[of; len]`
    Array {
        /// The elements' kind.
        of: &'static Kind,
        /// The number of elements.
        len: usize,
    },
    /// A nested record, with the alignment of its fields.
    Record {
        /// The type's name.
        name: &'static str,
        /// The record's fields.
        fields: &'static [Field],
        /// The record's size in bytes.
        size: usize,
    },
    /// 16 bytes of UUID.
    Uuid,
    /// Microseconds since 1970-01-01 UTC, as `i64`.
    Timestamp,
    /// UTF-8 of at most this many bytes, padded with zeros.
    FixedStr(usize),
    /// A value that may be missing.
    Maybe(&'static Kind),
    /// Text in the heap.
    Text,
    /// Bytes in the heap.
    Blob,
    /// Bytes in the heap that are the row's key: as a `Blob`, but with alignment 1.
    External,
}

impl Kind {
    /// Returns the integer that a `NonZero` or a `char` is stored as, with the same size, alignment
    /// and order, and any other kind itself.
    #[must_use]
    pub const fn integer(self) -> Self {
        match self {
            Self::Char => Self::U32,
            Self::NonZeroU8 => Self::U8,
            Self::NonZeroU16 => Self::U16,
            Self::NonZeroU32 => Self::U32,
            Self::NonZeroU64 => Self::U64,
            Self::NonZeroU128 => Self::U128,
            Self::NonZeroI8 => Self::I8,
            Self::NonZeroI16 => Self::I16,
            Self::NonZeroI32 => Self::I32,
            Self::NonZeroI64 => Self::I64,
            Self::NonZeroI128 => Self::I128,
            kind => kind,
        }
    }

    /// Returns whether the kind is a `NonZero` integer.
    pub(crate) const fn is_non_zero(self) -> bool {
        matches!(
            self,
            Self::NonZeroU8
                | Self::NonZeroU16
                | Self::NonZeroU32
                | Self::NonZeroU64
                | Self::NonZeroU128
                | Self::NonZeroI8
                | Self::NonZeroI16
                | Self::NonZeroI32
                | Self::NonZeroI64
                | Self::NonZeroI128
        )
    }

    /// Returns the size in bytes and the alignment that follow from the kind, as
    /// [`StoredKind::size`] and [`StoredKind::align`] do.
    pub(crate) const fn size_and_align(&self) -> (usize, usize) {
        match self {
            Self::U8 | Self::I8 | Self::NonZeroU8 | Self::NonZeroI8 | Self::Bool => (1, 1),
            Self::U16 | Self::I16 | Self::NonZeroU16 | Self::NonZeroI16 => (2, 2),
            Self::U32 | Self::I32 | Self::NonZeroU32 | Self::NonZeroI32 | Self::F32 | Self::Char => (4, 4),
            Self::U64 | Self::I64 | Self::NonZeroU64 | Self::NonZeroI64 | Self::F64 | Self::Timestamp => {
                (8, 8)
            }
            Self::U128 | Self::I128 | Self::NonZeroU128 | Self::NonZeroI128 => (16, 16),
            Self::Text | Self::Blob => (16, 8),
            Self::Uuid | Self::External => (16, 1),
            Self::FixedStr(len) => (*len, 1),
            Self::Enum { repr, .. } => repr.size_and_align(),
            Self::Array { of, len } => {
                let (size, align) = of.size_and_align();
                (size.saturating_mul(*len), align)
            }
            Self::Maybe(of) => {
                let (size, align) = of.size_and_align();
                (size.saturating_add(align), align)
            }
            Self::Record { fields, .. } => {
                let (mut end, mut most, mut place) = (0_usize, 1, 0);
                while place < fields.len() {
                    let (size, align) = fields[place].kind.size_and_align();
                    end = end.next_multiple_of(align).saturating_add(size);
                    most = if align > most { align } else { most };
                    place += 1;
                }
                (end.next_multiple_of(most), most)
            }
        }
    }
}

/// A field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The field's name, without `r#`.
    pub name: &'static str,
    /// The field's kind.
    pub kind: Kind,
    /// Offset in bytes from the record's start.
    pub offset: usize,
    /// The field's size in bytes.
    pub size: usize,
}

/// A secondary index that a type declares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexDef {
    /// The index's name: that of the field, or those of the fields joined with `+`.
    pub name: &'static str,
    /// The index's fields, as indices into [`Schema::fields`], in order.
    pub fields: &'static [usize],
    /// Whether two live rows may not have the same value.
    pub unique: bool,
}

/// The layout of a table's rows, as the type declares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schema {
    /// The table's name: lower-case letters, digits, `_` and `-`.
    pub table: &'static str,
    /// The type's name.
    pub record: &'static str,
    /// The size of a row in bytes.
    pub size: usize,
    /// The alignment of a row.
    pub align: usize,
    /// The fields, in the order of their offsets.
    pub fields: &'static [Field],
    /// The key fields, as indices into `fields`, in the key's order.
    pub key: &'static [usize],
    /// The secondary indexes.
    pub indexes: &'static [IndexDef],
}

#[cfg(test)]
mod tests;

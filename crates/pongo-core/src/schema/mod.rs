//! Schemas: what a table's rows are, as the type says it at compile time ([`Schema`]) and as the store says it on disk
//! ([`StoredSchema`]).
//!
//! | module | what it owns |
//! | --- | --- |
//! | here | the compile-time side, which the macros fill in, and the limits of both sides |
//! | `kind` | [`StoredKind`]: a type's canonical name, read and written |
//! | `stored` | [`StoredSchema`]: the owned side, its fingerprint, its heap fields and key ranges |
//! | `text` | the schema file: `to_text` and `parse` |
//! | `check` | whether bytes can be a row |
//! | `describe` | a row's key or other fields, for messages |
//! | `diff` | [`SchemaDiff`]: two layouts side by side |

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

/// A record is at most this many bytes: a GiB. It may be larger than a chunk: rows straddle chunks.
pub const MAX_RECORD_SIZE: usize = 1 << 30;
/// A record is aligned to at most this: rows begin at most on pages.
pub const MAX_ALIGN: usize = 4096;
/// Records, arrays and `Maybe`s are nested at most this deep in one another.
pub const MAX_DEPTH: usize = 64;
/// A table's name has at most this many characters.
pub const MAX_TABLE_NAME: usize = 64;

/// Whether `name` can be a table's: 1 to 64 of `a`–`z`, `0`–`9`, `_`, `-`, with a letter first. It names a folder.
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

/// What a field is.
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
    /// An enum without fields and with a fixed representation.
    Enum {
        /// The type's name.
        name: &'static str,
        /// `U8`, `I16`, …
        repr: &'static Kind,
        /// Name and value of each variant, in order.
        variants: &'static [(&'static str, i128)],
    },
    /// `[of; len]`
    Array {
        /// The elements' kind.
        of: &'static Kind,
        /// How many.
        len: usize,
    },
    /// A nested record, aligned as its fields are.
    Record {
        /// The type's name.
        name: &'static str,
        /// Its fields.
        fields: &'static [Field],
        /// Its size in bytes.
        size: usize,
    },
    /// 16 bytes of UUID.
    Uuid,
    /// Microseconds since 1970-01-01 UTC, as `i64`.
    Timestamp,
    /// UTF-8 of at most so many bytes, filled up with zeros.
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

/// One field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, without `r#`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Bytes from the record's start.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A secondary index that a type asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexDef {
    /// Its name: the field's, or the fields' joined with `+`.
    pub name: &'static str,
    /// Its fields, as places in [`Schema::fields`], in order.
    pub fields: &'static [usize],
    /// Whether two live rows may not have the same value.
    pub unique: bool,
}

/// What a table's rows are, as the type says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schema {
    /// The table's name: lower-case letters, digits, `_` and `-`.
    pub table: &'static str,
    /// The type's name.
    pub record: &'static str,
    /// The size of a row in bytes.
    pub size: usize,
    /// Its alignment.
    pub align: usize,
    /// Its fields, in the order of their offsets.
    pub fields: &'static [Field],
    /// The key fields, as places in `fields`, in the key's order.
    pub key: &'static [usize],
    /// The secondary indexes.
    pub indexes: &'static [IndexDef],
}

#[cfg(test)]
mod tests;

//! Schemas: what a table's rows are, as the type says it at compile time ([`Schema`]) and as the store says it on disk
//! ([`StoredSchema`]).

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
    /// A nested record.
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

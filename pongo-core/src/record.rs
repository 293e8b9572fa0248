//! The traits that the macros implement: types that can be a field ([`FieldType`]), types that can
//! be a table's row ([`PongoRecord`]), and types that are stored under an external key
//! ([`ExternalRecord`]).
//!
//! All are safe traits. Memory safety depends only on the traits of `zerocopy` (`TryFromBytes`:
//! which bytes are a valid value, `Immutable`: no interior mutability) and on
//! [`Unpadded`], which safe code cannot forge.
//! The derive checks the items of these traits (names, offsets, keys) against the layout at compile
//! time. A wrong manual implementation leads to wrong results, never to undefined behaviour.

use zerocopy::{Immutable, KnownLayout, TryFromBytes};

use crate::fields::ExternalKey;
use crate::schema::{Kind, Schema};
use crate::unpadded::{Unpadded, write_whole};

/// A type that can be a field of a record.
///
/// Implemented for the integers and floats of fixed size, the `NonZero` integers, `bool`, `char`,
/// arrays, and the types in [`crate::fields`]; the macros implement it for structs and for enums
/// without fields.
///
/// A value is stored as its bytes in memory. A struct may have padding, the bytes between fields
/// and after the last one that the compiler adds for alignment: in the files they are zero, and
/// reading ignores them. Values of a type without padding are copied as they are, which is faster
/// than field by field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a record",
    label = "this type has no fixed bytes that PongoDB knows",
    note = "take `u64` or `i64` for `usize` or `isize`, `Text` or `FixedStr<N>` for `String`, `Blob` or `[T; \
            N]` for `Vec<T>`, `Maybe<T>` for `Option<T>`",
    note = "a struct or an enum of your own becomes a field type with `#[pongo::record]` above it"
)]
pub trait FieldType: TryFromBytes + Immutable + KnownLayout + Sized + Send + Sync + 'static {
    /// The type's kind, as in the schema file.
    const KIND: Kind;
    /// The content of the value's place if the value is absent: all zeros wherever zeros are a
    /// valid value of the type.
    const ABSENT_VALUE: Self;
    /// The proof that the type has no padding, if it has none.
    #[doc(hidden)]
    const UNPADDED: Option<Unpadded<Self>>;

    /// Writes the fields at their offsets into `out`, which has the value's size and only zeros. A
    /// type with padding must implement it: the default panics for one.
    #[doc(hidden)]
    #[inline]
    fn write_fields(&self, out: &mut [u8]) {
        write_whole(Self::UNPADDED, self, out);
    }

    /// Writes the value's bytes at `at` into bytes that are zero there. `at` and the size are
    /// constants in the macros' code, so that this is a plain store for types without padding.
    #[doc(hidden)]
    #[inline(always)]
    fn put_at(&self, bytes: &mut [u8], at: usize) {
        let out = &mut bytes[at..at + size_of::<Self>()];
        match Self::UNPADDED {
            Some(unpadded) => out.copy_from_slice(unpadded.bytes(self)),
            None => self.write_fields(out),
        }
    }
}

/// A field type that can be part of a key: equal values have equal bytes, and unequal values have
/// unequal bytes.
///
/// Floats cannot (`0.0` equals `-0.0`, and all NaNs are equal), nor can
/// [`Text`](crate::fields::Text) and [`Blob`](crate::fields::Blob), whose bytes hold the address of
/// the contents in the heap.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key or an index",
    label = "equal values of this type need not have equal bytes",
    note = "take an integer, `bool`, `char`, `Uuid`, `Timestamp`, `FixedStr<N>`, or an array of these: \
            `FixedStr<N>` for `Text`, a scaled integer for a float, several key fields for a nested record",
    note = "an enum or a struct of one field needs `#[derive(Clone, Copy, PartialEq, Eq)]`"
)]
pub trait KeyField: FieldType + Copy + Eq {}

/// A type whose values are the rows of a table. Implemented by `#[pongo::record]` or
/// `#[derive(PongoRecord)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record with a key",
    label = "no table can hold this type",
    note = "write `#[pongo::record]` above the struct and `#[pongo(key)]` above at least one of its fields",
    note = "the table of a struct with `#[pongo(key = \"external\")]` is `external::<{Self}>()` in place of \
            `table::<{Self}>()`"
)]
pub trait PongoRecord: FieldType {
    /// The argument of look-ups: the key field's type, or a tuple of field types. All of them are
    /// [`KeyField`]s, so the key is `Copy`.
    type Key;
    /// The bytes of a key in the representation of a row, with the key fields adjacent: `[u8; N]`.
    type KeyBytes: AsRef<[u8]> + Copy + Eq + core::hash::Hash + Send + Sync + 'static;
    /// The name, layout and keys.
    const SCHEMA: &'static Schema;
    /// Returns the key of this row.
    fn key(&self) -> Self::Key;
    /// Returns the bytes of this row's key.
    fn key_bytes(&self) -> Self::KeyBytes;
    /// Returns the bytes of a key to search for.
    fn encode_key(key: &Self::Key) -> Self::KeyBytes;
}

/// A type whose values are stored under keys that are not fields of it: arbitrary bytes.
/// Implemented by `#[pongo::record]` or `#[derive(PongoRecord)]` for a struct with
/// `#[pongo(key = "external")]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record with an external key",
    label = "no table holds this type under keys of any bytes",
    note = "write `#[pongo::record]` and `#[pongo(key = \"external\")]` above the struct; one with \
            `#[pongo(key)]` above a field has its table by `table::<{Self}>()`"
)]
pub trait ExternalRecord: FieldType {
    /// The type of the table's rows: the key's digest, the heap address of the key, and the value.
    #[doc(hidden)]
    type Row: PongoRecord<Key = [u8; 16], KeyBytes = [u8; 16]>;
    #[doc(hidden)]
    fn into_row(self, digest: [u8; 16], key: ExternalKey) -> Self::Row;
    #[doc(hidden)]
    fn set_key(row: &mut Self::Row, digest: [u8; 16], key: ExternalKey);
    #[doc(hidden)]
    fn key_of(row: &Self::Row) -> ExternalKey;
    #[doc(hidden)]
    fn value_of(row: &Self::Row) -> &Self;
    #[doc(hidden)]
    fn value_mut(row: &mut Self::Row) -> &mut Self;
}

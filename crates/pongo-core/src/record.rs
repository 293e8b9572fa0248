//! What the macros implement: a type that can be a field ([`FieldType`]) and a type that can be a table's row
//! ([`PongoRecord`]), or be kept in one under a key of its own ([`ExternalRecord`]).
//!
//! All are safe traits. Memory safety rests on `zerocopy`'s traits alone (`TryFromBytes`: which bytes are a value,
//! `IntoBytes`: no padding, `Immutable`: no cell behind a shared reference). What is said here (names, offsets, keys)
//! is checked against the layout at compile time by the derive; a wrong implementation by hand gives wrong answers,
//! never undefined behaviour.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::fields::ExternalKey;
use crate::schema::{Kind, Schema};

/// A type that can be a field of a record.
///
/// Implemented for the integers and floats of fixed size, `bool`, arrays, and the types in [`crate::fields`]; the
/// macros implement it for structs and for enums without fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a record",
    label = "this type has no fixed bytes that PongoDB knows",
    note = "take `u64` or `i64` for `usize` or `isize`, `Text` or `FixedStr<N>` for `String`, `Blob` or `[T; N]` for \
            `Vec<T>`, `Maybe<T>` for `Option<T>`, `u32` for `char`",
    note = "a struct or an enum of your own becomes a field type with `#[pongo::record]` above it"
)]
pub trait FieldType:
    TryFromBytes + IntoBytes + Immutable + KnownLayout + Sized + Send + Sync + 'static
{
    /// What the type is, as the schema file says it.
    const KIND: Kind;
    /// What stands in the place of a value that is not there: all zeros wherever zeros are a value of the type.
    const BLANK: Self;
}

/// A field type that can be part of a key: equal values have equal bytes and unequal values unequal ones.
///
/// Floats are not (`0.0` and `-0.0` are one value, and so is every NaN), and neither are [`Text`](crate::fields::Text) and
/// [`Blob`](crate::fields::Blob), whose bytes say where in the heap the contents lie.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key or an index",
    label = "equal values of this type need not have equal bytes",
    note = "take an integer, `bool`, `Uuid`, `Timestamp`, `FixedStr<N>`, an array of these, or an enum that is `Copy` and \
            `Eq`: `FixedStr<N>` for `Text`, a scaled integer for a float, several key fields for a nested record"
)]
pub trait KeyField: FieldType + Copy + Eq {}

/// A type whose values are the rows of a table. Implemented by `#[pongo::record]` or `#[derive(PongoRecord)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record with a key",
    label = "no table can hold this type",
    note = "write `#[pongo::record]` above the struct and `#[pongo(key)]` above at least one of its fields",
    note = "the table of a struct with `#[pongo(key = \"external\")]` is `external::<{Self}>()` in place of `table::<{Self}>()`"
)]
pub trait PongoRecord: FieldType {
    /// What look-ups take: the key field's type, or a tuple of them.
    type Key;
    /// The bytes of a key as they lie in the row, key fields one behind the other: `[u8; N]`.
    type KeyBytes: AsRef<[u8]> + Copy + Eq + core::hash::Hash + Send + Sync + 'static;
    /// Name, layout and keys.
    const SCHEMA: &'static Schema;
    /// The key of this row.
    fn key(&self) -> Self::Key;
    /// The bytes of this row's key.
    fn key_bytes(&self) -> Self::KeyBytes;
    /// The bytes of a key that is looked for.
    fn encode_key(key: &Self::Key) -> Self::KeyBytes;
}

/// A type whose values are kept under keys that are not fields of it: any bytes. Implemented by `#[pongo::record]` or
/// `#[derive(PongoRecord)]` for a struct with `#[pongo(key = "external")]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record with an external key",
    label = "no table holds this type under keys of any bytes",
    note = "write `#[pongo::record]` and `#[pongo(key = \"external\")]` above the struct; one with `#[pongo(key)]` above a field has \
            its table by `table::<{Self}>()`"
)]
pub trait ExternalRecord: FieldType {
    /// What the table's rows are: the key's digest, where its bytes lie, and the value.
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

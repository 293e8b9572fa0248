//! What the macros implement: a type that can be a field ([`FieldType`]) and a type that can be a table's row
//! ([`PongoRecord`]).
//!
//! Both are safe traits. Memory safety rests on `zerocopy`'s traits alone (`TryFromBytes`: which bytes are a value,
//! `IntoBytes`: no padding, `Immutable`: no cell behind a shared reference). What is said here (names, offsets, keys)
//! is checked against the layout at compile time by the derive; a wrong implementation by hand gives wrong answers,
//! never undefined behaviour.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::schema::{Kind, Schema};

/// A type that can be a field of a record.
pub trait FieldType: TryFromBytes + IntoBytes + Immutable + KnownLayout + Sized + Send + Sync + 'static {
    /// What the type is, as the schema file says it.
    const KIND: Kind;
}

/// A field type that can be part of a key: equal values have equal bytes and unequal values unequal ones.
pub trait KeyField: FieldType + Eq {}

/// A type whose values are the rows of a table. Implemented by `#[pongo::record]` or `#[derive(PongoRecord)]`.
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

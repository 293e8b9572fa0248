//! The items that the macros' output names. Not part of the public API: they change without notice.

pub use core;

pub use zerocopy;

pub use pongo_derive::PongoRecord as DerivePongoRecord;

pub use crate::column::Column;
pub use crate::fields::ExternalKey;
pub use crate::fields::maybe::{Optional, OptionalCell, Tag, TagOf};
pub use crate::layout;
pub use crate::predicate::Comparable;
pub use crate::record::{ExternalRecord, FieldType, KeyField, PongoRecord};
pub use crate::schema::{Field, IndexDef, Kind, Schema, is_table_name};

/// Returns the description of one field.
#[must_use]
pub const fn field<F: FieldType>(name: &'static str, offset: usize) -> Field {
    Field { name, kind: F::KIND, offset, size: size_of::<F>() }
}

/// Compiles only for a type that can be a field.
pub const fn field_type<F: FieldType>() {}

/// Compiles only for a type that can be part of a key.
pub const fn key_field<F: KeyField>() {}

/// Compiles only for a type that can be part of a unique index.
pub const fn unique_field<F: crate::search::UniqueField>() {}

/// Compiles only for a type that can be part of an index.
pub const fn index_field<F: crate::search::IndexField>() {}

/// Writes the bytes of one key field after the `at` bytes that are already present. `at` and the
/// field's size are constants, so the compiler reduces this to a plain store.
#[inline(always)]
pub fn put_key_field<F: zerocopy::IntoBytes + zerocopy::Immutable>(bytes: &mut [u8], at: usize, field: &F) {
    bytes[at..at + size_of::<F>()].copy_from_slice(field.as_bytes());
}

/// `Copy`, with an unused lifetime. The bound `for<'a> T: CopyFor<'a>` keeps the compiler from
/// deciding at the `impl` whether a concrete type is `Copy`, so that the macros can write an `impl`
/// that applies only if it is.
pub trait CopyFor<'a>: Copy {}
impl<T: Copy> CopyFor<'_> for T {}

/// As [`CopyFor`], for the bounds of a key field.
pub trait KeyFor<'a>: Copy + Eq {}
impl<T: Copy + Eq> KeyFor<'_> for T {}

#[cfg(test)]
mod tests {
    use crate::record::PongoRecord;

    /// The tables of this crate are records too, and name the crate as `crate`.
    #[pongo_derive::record]
    #[pongo(crate = "crate", table = "objects")]
    struct Object {
        #[pongo(key)]
        id: u64,
        #[pongo(key)]
        part: u16,
        kind: [u16; 3],
    }

    #[test]
    fn records_inside_this_crate() {
        let object = Object { id: 1, part: 2, kind: [3; 3] };
        assert_eq!(object.key(), (1, 2));
        assert_eq!(object.key_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(Object::SCHEMA.table, "objects");
        assert_eq!(Object::KIND.of(&object), &[3; 3]);
    }
}

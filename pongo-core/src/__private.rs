//! The items that the macros' output names. Not part of the public API: they change without notice.

pub use core;

pub use zerocopy;

pub use pongo_derive::PongoRecord as DerivePongoRecord;

pub use crate::column::Column;
pub use crate::fields::ExternalKey;
pub use crate::fields::maybe::{Optional, TagOf, Tagged};
pub use crate::layout;
pub use crate::padding::{Layout, NoPadding, PaddingFree, Part, Unpadded};
pub use crate::predicate::Comparable;
pub use crate::record::{ExternalRecord, FieldType, KeyField, PongoRecord};
pub use crate::schema::{Field, IndexDef, Kind, Schema, is_table_name};
pub use crate::search::OneField;

/// Returns the alignment for which a tag is named. A type with a larger one is refused elsewhere.
#[must_use]
pub const fn tag_width(align: usize) -> usize {
    if align <= crate::schema::MAX_ALIGN { align } else { 1 }
}

/// Returns a copy of a key field. Compiles only for a type that can be part of a key.
#[inline(always)]
pub const fn key_field<F: KeyField>(field: &F) -> F {
    *field
}

/// Compiles only for a type that can be part of a unique index.
pub const fn unique_field<F: crate::search::UniqueField>() {}

/// Compiles only for a type that can be part of an index.
pub const fn index_field<F: crate::search::IndexField>() {}

/// `Copy`, with an unused lifetime. The bound `for<'a> T: CopyFor<'a>` keeps the compiler from
/// deciding at the `impl` whether a concrete type is `Copy`, so that the macros can write an `impl`
/// that applies only if it is.
pub trait CopyFor<'a>: Copy {}
impl<T: Copy> CopyFor<'_> for T {}

/// As [`CopyFor`], for the bounds of a key field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key or an index",
    label = "this type is not `Copy` and `Eq`",
    note = "write `#[derive(Clone, Copy, PartialEq, Eq)]` above it"
)]
pub trait KeyFor<'a>: Copy + Eq {}
#[diagnostic::do_not_recommend]
impl<T: Copy + Eq> KeyFor<'_> for T {}

/// As [`CopyFor`], for a type that can be part of a key.
pub trait KeyFieldFor<'a>: KeyField {}
impl<T: KeyField> KeyFieldFor<'_> for T {}

/// As [`CopyFor`], for the traits that a type with `#[derive(PongoRecord)]` derives from zerocopy.
pub trait DerivedFor<'a>: zerocopy::TryFromBytes + zerocopy::Immutable + zerocopy::KnownLayout {}
impl<T: zerocopy::TryFromBytes + zerocopy::Immutable + zerocopy::KnownLayout> DerivedFor<'_> for T {}

/// Tells whether a type derives these traits: `Probe::<T>::DERIVED` is the constant of the `impl`
/// here if it applies, and otherwise that of [`NotDerived`].
pub struct Probe<T>(core::marker::PhantomData<T>);

/// See [`Probe`].
pub trait NotDerived {
    /// The type does not derive them.
    const DERIVED: bool = false;
}
impl<T> NotDerived for Probe<T> {}

impl<T: zerocopy::TryFromBytes + zerocopy::Immutable + zerocopy::KnownLayout> Probe<T> {
    /// The type derives them.
    pub const DERIVED: bool = true;
}

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

//! What changes of one row have in common: the [`Place`] at which its key was found.

use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::ExternalKey;
use pongo_core::padding::equal_bytes;
use pongo_core::record::FieldType;

use crate::keys::{KeyBytes, Keys};
use crate::table_mut::TableMut;
use crate::write_set::copy;
use crate::write_set::key_map::KeyLocation;

/// Shows that the caller is in this crate.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Internal(pub(super) ());

/// A key of a table, and where it was found. Any change of the table may move the key.
#[doc(hidden)]
pub struct Place<T, K: Keys<T>> {
    pub(super) key: KeyBytes<T, K>,
    pub(super) hash: u64,
    pub(super) spot: KeyLocation,
    /// The external key in the heap, if a row has it.
    pub(super) known: Option<ExternalKey>,
}

/// The kind of keys of a record, for changing its table: every [`Keys`] is one.
pub trait KeysMut<T>: Keys<T> {
    /// Looks up a key. A [`Place`] holds only until the next change of the table, so that only this
    /// crate can ask for one.
    #[doc(hidden)]
    fn place(
        table: &TableMut<'_, T, Self>,
        key: &Self::Key,
        internal: Internal,
    ) -> Result<Place<T, Self>, WriteError>;
    /// Returns the value of a key.
    #[doc(hidden)]
    fn get<'a>(table: &'a TableMut<'_, T, Self>, key: &Self::Key) -> Result<Option<&'a T>, ReadError>;
    /// Inserts or replaces the value of a key, which was found at this place.
    #[doc(hidden)]
    fn put_at(
        table: &mut TableMut<'_, T, Self>,
        place: &Place<T, Self>,
        key: &Self::Key,
        value: &T,
    ) -> Result<(), WriteError>;
}

/// Returns whether both values are absent, or have the same bytes.
fn same_value<T: FieldType>(value: Option<&T>, other: Option<&T>) -> bool {
    match (value, other) {
        (Some(value), Some(other)) => equal_bytes(value, other),
        (None, None) => true,
        _ => false,
    }
}

impl<T: FieldType, K: KeysMut<T>> TableMut<'_, T, K> {
    /// Returns the value at a place.
    pub(super) fn value_at(&self, place: &Place<T, K>) -> Result<Option<&T>, ReadError> {
        Ok(self.row(place.spot)?.map(K::value))
    }

    /// Changes the value at a place to `new` if it is `expected`.
    pub(super) fn compare_and_set_at(
        &mut self,
        place: &Place<T, K>,
        key: &K::Key,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<bool, WriteError> {
        if !same_value(self.value_at(place)?, expected) {
            return Ok(false);
        }
        match (new, expected) {
            (Some(value), _) => K::put_at(self, place, key, value)?,
            (None, Some(_)) => {
                self.staging().ensure_complete()?;
                self.delete_found(place.spot, place.hash);
            }
            (None, None) => {}
        }
        Ok(true)
    }

    /// Replaces the value at a place with a copy that `change` has modified.
    pub(super) fn update_at<R>(
        &mut self,
        place: &Place<T, K>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        self.update_found(place.spot, place.hash, &place.key, |row| change(K::value_mut(row)))
    }

    /// Deletes the value at a place, and returns a copy of it.
    pub(super) fn take_at(&mut self, place: &Place<T, K>) -> Result<Option<T>, WriteError> {
        self.staging().ensure_complete()?;
        let previous = self.value_at(place)?.map(copy);
        if previous.is_some() {
            self.delete_found(place.spot, place.hash);
        }
        Ok(previous)
    }
}

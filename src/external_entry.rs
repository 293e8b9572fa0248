//! One key of a table with external keys in a write transaction, with its value or without one:
//! [`ExternalTableMut::entry`].

use core::fmt;

use pongo_core::error::{ReadError, WriteError};
use pongo_core::record::{ExternalRecord, PongoRecord};

use crate::external_mut::{ExternalTableMut, Place};
use crate::write_set::copy;

/// A key of a table and the value under this key, if it exists. See [`ExternalTableMut::entry`].
pub enum ExternalEntry<'a, 't, T: ExternalRecord> {
    /// A value under the key exists.
    Occupied(ExternalOccupiedEntry<'a, 't, T>),
    /// No value under the key exists.
    Vacant(ExternalVacantEntry<'a, 't, T>),
}

/// A key of a table that has a value. It is part of [`ExternalEntry`].
pub struct ExternalOccupiedEntry<'a, 't, T: ExternalRecord> {
    slot: KeySlot<'a, 't, T>,
}

/// A key of a table that has no value. It is part of [`ExternalEntry`].
pub struct ExternalVacantEntry<'a, 't, T: ExternalRecord> {
    slot: KeySlot<'a, 't, T>,
}

/// A key of a table, and where it was found.
struct KeySlot<'a, 't, T: ExternalRecord> {
    table: &'a mut ExternalTableMut<'t, T>,
    key: Box<[u8]>,
    /// `None` after a change, which may have moved the key.
    place: Option<Place>,
}

impl<'t, T: ExternalRecord> ExternalTableMut<'t, T> {
    /// Looks up a key, and returns its [`ExternalEntry`], with which the value is read, changed,
    /// inserted or deleted without another lookup.
    ///
    /// Costs as much as [`get`](Self::get) and a copy of the key. A second change through the same
    /// entry looks the key up again.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and [`WriteError::KeyTooLong`] and
    /// [`WriteError::DigestCollision`] as for [`put`](Self::put).
    ///
    /// ```
    /// use pongo::prelude::*;
    /// use pongo::ExternalEntry;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "words", key = "external")]
    /// struct Word {
    ///     count: u64,
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut words = tx.external::<Word>()?;
    /// for word in "to be or not to be".split(' ') {
    ///     words.entry(word)?.and_modify(|word| word.count += 1)?.or_insert(&Word { count: 1 })?;
    /// }
    /// assert_eq!(words.get("be")?.map(|word| word.count), Some(2));
    /// match words.entry("or")? {
    ///     ExternalEntry::Occupied(entry) => assert_eq!(entry.remove()?.count, 1),
    ///     ExternalEntry::Vacant(_) => unreachable!("it is in the text"),
    /// }
    /// assert_eq!(words.len()?, 3);
    /// # drop(words);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entry(&mut self, key: impl AsRef<[u8]>) -> Result<ExternalEntry<'_, 't, T>, WriteError> {
        let key: Box<[u8]> = key.as_ref().into();
        let place = self.place(&key)?;
        let exists = place.known.is_some();
        let slot = KeySlot { table: self, key, place: Some(place) };
        Ok(if exists {
            ExternalEntry::Occupied(ExternalOccupiedEntry { slot })
        } else {
            ExternalEntry::Vacant(ExternalVacantEntry { slot })
        })
    }
}

impl<'a, T: ExternalRecord> KeySlot<'a, '_, T> {
    /// Returns the place of the key, which the caller is about to change.
    fn take_place(&mut self) -> Result<Place, WriteError> {
        match self.place.take() {
            Some(place) => Ok(place),
            None => self.table.place(&self.key),
        }
    }

    /// Returns the value, which must exist.
    fn value(&self) -> Result<&T, ReadError> {
        let value = match &self.place {
            Some(place) => self.table.value_at(place)?,
            None => self.table.get(&self.key)?,
        };
        Ok(value.expect("an occupied entry has a value"))
    }

    fn into_value(self) -> Result<&'a T, ReadError> {
        let table: &'a ExternalTableMut<'_, T> = self.table;
        let value = match &self.place {
            Some(place) => table.value_at(place)?,
            None => table.get(&self.key)?,
        };
        Ok(value.expect("an occupied entry has a value"))
    }

    fn put(&mut self, value: &T) -> Result<(), WriteError> {
        let place = self.take_place()?;
        self.table.put_at(&place, &self.key, value)
    }
}

impl<'a, 't, T: ExternalRecord> ExternalEntry<'a, 't, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Occupied(entry) => entry.key(),
            Self::Vacant(entry) => entry.key(),
        }
    }

    /// Changes the value if it exists, as [`ExternalTableMut::update`] does.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::update`].
    pub fn and_modify<R>(self, change: impl FnOnce(&mut T) -> R) -> Result<Self, WriteError> {
        match self {
            Self::Occupied(mut entry) => {
                entry.update(change)?;
                Ok(Self::Occupied(entry))
            }
            Self::Vacant(entry) => Ok(Self::Vacant(entry)),
        }
    }

    /// Inserts the value if none under this key exists. Returns the value that is in the table then.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::put`], and [`ReadError`].
    pub fn or_insert(self, value: &T) -> Result<&'a T, WriteError> {
        match self {
            Self::Occupied(entry) => Ok(entry.into_value()?),
            Self::Vacant(entry) => entry.insert(value),
        }
    }

    /// Inserts the value that `make` returns if none under this key exists. Returns the value that
    /// is in the table then.
    ///
    /// # Errors
    /// As for [`or_insert`](Self::or_insert).
    pub fn or_insert_with(self, make: impl FnOnce() -> T) -> Result<&'a T, WriteError> {
        self.or_insert_with_key(|_| make())
    }

    /// Inserts the value that `make` returns for the key if none under this key exists. Returns the
    /// value that is in the table then.
    ///
    /// # Errors
    /// As for [`or_insert`](Self::or_insert).
    pub fn or_insert_with_key(self, make: impl FnOnce(&[u8]) -> T) -> Result<&'a T, WriteError> {
        match self {
            Self::Occupied(entry) => Ok(entry.into_value()?),
            Self::Vacant(entry) => {
                let value = make(entry.key());
                entry.insert(&value)
            }
        }
    }
}

impl<'a, T: ExternalRecord> ExternalOccupiedEntry<'a, '_, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.slot.key
    }

    /// Returns the value, as this transaction sees it.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::get`].
    pub fn get(&self) -> Result<&T, ReadError> {
        self.slot.value()
    }

    /// Returns the value for as long as the table is borrowed.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::get`].
    pub fn into_value(self) -> Result<&'a T, ReadError> {
        self.slot.into_value()
    }

    /// Replaces the value, and returns a copy of the previous one.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::put`]. The table is not changed then.
    pub fn insert(&mut self, value: &T) -> Result<T, WriteError> {
        let previous = copy(self.slot.value()?);
        self.slot.put(value)?;
        Ok(previous)
    }

    /// Replaces the value with a copy that `change` has modified. Returns the result of `change`.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::update`]. The table is not changed then.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Result<R, WriteError> {
        let place = self.slot.take_place()?;
        let changed = self.slot.table.update_at(&place, change)?;
        Ok(changed.expect("an occupied entry has a value"))
    }

    /// Deletes the value, and returns a copy of it.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::delete`].
    pub fn remove(mut self) -> Result<T, WriteError> {
        let place = self.slot.take_place()?;
        let removed = self.slot.table.take_at(&place)?;
        Ok(removed.expect("an occupied entry has a value"))
    }
}

impl<'a, T: ExternalRecord> ExternalVacantEntry<'a, '_, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.slot.key
    }

    /// Inserts the value, and returns it as it is in the table.
    ///
    /// # Errors
    /// As for [`ExternalTableMut::put`]. The table is not changed then.
    pub fn insert(mut self, value: &T) -> Result<&'a T, WriteError> {
        self.slot.put(value)?;
        let table: &'a ExternalTableMut<'_, T> = self.slot.table;
        Ok(table.newest_value()?)
    }
}

impl<T: ExternalRecord> fmt::Debug for ExternalEntry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => entry.fmt(f),
            Self::Vacant(entry) => entry.fmt(f),
        }
    }
}

impl<T: ExternalRecord> fmt::Debug for ExternalOccupiedEntry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalOccupiedEntry").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<T: ExternalRecord> fmt::Debug for ExternalVacantEntry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalVacantEntry").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

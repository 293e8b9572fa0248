//! One key of a table in a write transaction, with its row or without one: [`TableMut::entry`].

use core::borrow::Borrow;
use core::fmt;

use pongo_core::error::{ReadError, WriteError};
use pongo_core::record::PongoRecord;
use pongo_index::key_hash;

use crate::table_mut::TableMut;
use crate::write_set::copy;
use crate::write_set::key_map::KeyLocation;

/// A key of a table and the row with this key, if it exists. See [`TableMut::entry`].
pub enum Entry<'a, 't, T: PongoRecord> {
    /// A row with the key exists.
    Occupied(OccupiedEntry<'a, 't, T>),
    /// No row with the key exists.
    Vacant(VacantEntry<'a, 't, T>),
}

/// A key of a table that has a row. It is part of [`Entry`].
pub struct OccupiedEntry<'a, 't, T: PongoRecord> {
    slot: KeySlot<'a, 't, T>,
}

/// A key of a table that has no row. It is part of [`Entry`].
pub struct VacantEntry<'a, 't, T: PongoRecord> {
    slot: KeySlot<'a, 't, T>,
}

/// A key of a table, and where it was found.
struct KeySlot<'a, 't, T: PongoRecord> {
    table: &'a mut TableMut<'t, T>,
    key: T::Key,
    bytes: T::KeyBytes,
    hash: u64,
    /// `None` after a change, which may have moved the key.
    spot: Option<KeyLocation>,
}

impl<'t, T: PongoRecord> TableMut<'t, T> {
    /// Looks up a key, and returns its [`Entry`], with which the row is read, changed, inserted or
    /// deleted without another lookup.
    ///
    /// Costs as much as [`get`](Self::get). A second change through the same entry looks the key up
    /// again.
    ///
    /// # Errors
    /// As for [`get`](Self::get). The methods that change the table return the errors of
    /// [`put`](Self::put), and [`WriteError::EntryKey`] if a row has another key than the entry; the
    /// table is not changed then.
    ///
    /// ```
    /// use pongo::prelude::*;
    /// use pongo::Entry;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "words")]
    /// struct Word {
    ///     #[pongo(key)]
    ///     word: FixedStr<16>,
    ///     count: u64,
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut words = tx.table::<Word>()?;
    /// for word in "to be or not to be".split(' ') {
    ///     let word: FixedStr<16> = word.parse()?;
    ///     words.entry(word)?.and_modify(|row| row.count += 1)?.or_insert(&Word { word, count: 1 })?;
    /// }
    /// assert_eq!(words.get(&"be".parse()?)?.map(|row| row.count), Some(2));
    ///
    /// match words.entry(&"or".parse()?)? {
    ///     Entry::Occupied(entry) => assert_eq!(entry.remove()?.count, 1),
    ///     Entry::Vacant(_) => unreachable!("it is in the text"),
    /// }
    /// assert_eq!(words.len()?, 3);
    /// # drop(words);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entry(&mut self, key: impl Borrow<T::Key>) -> Result<Entry<'_, 't, T>, WriteError>
    where
        T::Key: Copy,
    {
        let key = *key.borrow();
        let bytes = T::encode_key(&key);
        let hash = key_hash(bytes.as_ref());
        let spot = self.spot(hash, &bytes)?;
        let exists = self.value(spot)?.is_some();
        let slot = KeySlot { table: self, key, bytes, hash, spot: Some(spot) };
        Ok(if exists { Entry::Occupied(OccupiedEntry { slot }) } else { Entry::Vacant(VacantEntry { slot }) })
    }
}

impl<'a, T: PongoRecord> KeySlot<'a, '_, T> {
    fn spot(&self) -> Result<KeyLocation, ReadError> {
        match self.spot {
            Some(spot) => Ok(spot),
            None => self.table.spot(self.hash, &self.bytes),
        }
    }

    /// Returns the row, which must exist.
    fn row(&self) -> Result<&T, ReadError> {
        Ok(self.table.value(self.spot()?)?.expect("an occupied entry has a row"))
    }

    fn into_row(self) -> Result<&'a T, ReadError> {
        let spot = self.spot()?;
        let table: &'a TableMut<'_, T> = self.table;
        Ok(table.value(spot)?.expect("an occupied entry has a row"))
    }

    /// Returns an error if the row has another key than this entry.
    fn check_key(&self, row: &T) -> Result<(), WriteError> {
        self.table.check_entry_key(&self.bytes, row)
    }

    fn put(&mut self, row: &T) -> Result<(), WriteError> {
        self.check_key(row)?;
        let spot = self.spot()?;
        self.spot = None;
        self.table.put_at_spot(spot, self.hash, row)
    }
}

impl<'a, 't, T: PongoRecord> Entry<'a, 't, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &T::Key {
        match self {
            Self::Occupied(entry) => entry.key(),
            Self::Vacant(entry) => entry.key(),
        }
    }

    /// Changes the row if it exists, as [`TableMut::update`] does.
    ///
    /// # Errors
    /// As for [`TableMut::update`].
    pub fn and_modify<R>(self, change: impl FnOnce(&mut T) -> R) -> Result<Self, WriteError> {
        match self {
            Self::Occupied(mut entry) => {
                entry.update(change)?;
                Ok(Self::Occupied(entry))
            }
            Self::Vacant(entry) => Ok(Self::Vacant(entry)),
        }
    }

    /// Inserts the row if none with this key exists. Returns the row that is in the table then.
    ///
    /// # Errors
    /// As for [`VacantEntry::insert`], and [`ReadError`].
    pub fn or_insert(self, row: &T) -> Result<&'a T, WriteError> {
        match self {
            Self::Occupied(entry) => Ok(entry.into_row()?),
            Self::Vacant(entry) => entry.insert(row),
        }
    }

    /// Inserts the row that `make` returns if none with this key exists. Returns the row that is in
    /// the table then.
    ///
    /// # Errors
    /// As for [`or_insert`](Self::or_insert).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// let account = accounts.entry(7)?.or_insert_with(|| Account { number: 7, cents: 100 })?;
    /// assert_eq!(account.cents, 100);
    /// let other = accounts.entry(8)?.or_insert(&Account { number: 9, cents: 0 });
    /// let error = other.map(|_| ()).unwrap_err();
    /// assert!(error.to_string().contains("expected key number = 8, found number = 9"), "{error}");
    /// # drop(accounts);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn or_insert_with(self, make: impl FnOnce() -> T) -> Result<&'a T, WriteError> {
        self.or_insert_with_key(|_| make())
    }

    /// Inserts the row that `make` returns for the key if none with this key exists. Returns the row
    /// that is in the table then.
    ///
    /// # Errors
    /// As for [`or_insert`](Self::or_insert).
    pub fn or_insert_with_key(self, make: impl FnOnce(&T::Key) -> T) -> Result<&'a T, WriteError> {
        match self {
            Self::Occupied(entry) => Ok(entry.into_row()?),
            Self::Vacant(entry) => {
                let row = make(entry.key());
                entry.insert(&row)
            }
        }
    }
}

impl<'a, T: PongoRecord> OccupiedEntry<'a, '_, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &T::Key {
        &self.slot.key
    }

    /// Returns the row, as this transaction sees it.
    ///
    /// # Errors
    /// As for [`TableMut::get`].
    pub fn get(&self) -> Result<&T, ReadError> {
        self.slot.row()
    }

    /// Returns the row for as long as the table is borrowed.
    ///
    /// # Errors
    /// As for [`TableMut::get`].
    pub fn into_row(self) -> Result<&'a T, ReadError> {
        self.slot.into_row()
    }

    /// Replaces the row, and returns a copy of the previous one.
    ///
    /// # Errors
    /// As for [`TableMut::put`], and [`WriteError::EntryKey`] if the row has another key. The table
    /// is not changed then.
    pub fn insert(&mut self, row: &T) -> Result<T, WriteError> {
        let previous = copy(self.slot.row()?);
        self.slot.put(row)?;
        Ok(previous)
    }

    /// Replaces the row with a copy that `change` has modified. Returns the result of `change`.
    ///
    /// # Errors
    /// As for [`TableMut::update`]. The table is not changed then.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Result<R, WriteError> {
        let KeySlot { table, bytes, hash, spot, .. } = &mut self.slot;
        let spot = match spot.take() {
            Some(spot) => spot,
            None => table.spot(*hash, bytes)?,
        };
        let changed = table.update_found(spot, *hash, bytes, change)?;
        Ok(changed.expect("an occupied entry has a row"))
    }

    /// Deletes the row, and returns a copy of it.
    ///
    /// # Errors
    /// As for [`TableMut::delete`].
    pub fn remove(self) -> Result<T, WriteError> {
        let KeySlot { table, bytes, hash, spot, .. } = self.slot;
        table.staging().ensure_complete()?;
        let spot = match spot {
            Some(spot) => spot,
            None => table.spot(hash, &bytes)?,
        };
        let previous = copy(table.value(spot)?.expect("an occupied entry has a row"));
        table.delete_found(spot, hash);
        Ok(previous)
    }
}

impl<'a, T: PongoRecord> VacantEntry<'a, '_, T> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &T::Key {
        &self.slot.key
    }

    /// Inserts the row, and returns it as it is in the table.
    ///
    /// # Errors
    /// As for [`TableMut::put`], and [`WriteError::EntryKey`] if the row has another key. The table
    /// is not changed then.
    pub fn insert(mut self, row: &T) -> Result<&'a T, WriteError> {
        self.slot.put(row)?;
        let table: &'a TableMut<'_, T> = self.slot.table;
        Ok(table.newest_row()?)
    }
}

impl<T: PongoRecord> fmt::Debug for Entry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => entry.fmt(f),
            Self::Vacant(entry) => entry.fmt(f),
        }
    }
}

impl<T: PongoRecord> fmt::Debug for OccupiedEntry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry").field("table", &T::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<T: PongoRecord> fmt::Debug for VacantEntry<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VacantEntry").field("table", &T::SCHEMA.table).finish_non_exhaustive()
    }
}

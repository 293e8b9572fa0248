//! One key of a table in a write transaction, with its row or without one: [`TableMut::entry`].

use core::borrow::Borrow;
use core::fmt;

use pongo_core::error::{ReadError, WriteError};
use pongo_core::record::{ExternalRecord, FieldType, PongoRecord};

use crate::keys::{External, InRow, table_name};
use crate::table_mut::TableMut;
use crate::table_mut::place::{Internal, KeysMut, Place};
use crate::write_set::copy;

/// A key of a table and the row with this key, if it exists. See [`TableMut::entry`].
pub enum Entry<'a, 't, T, K: KeysMut<T> = InRow> {
    /// A row with the key exists.
    Occupied(OccupiedEntry<'a, 't, T, K>),
    /// No row with the key exists.
    Vacant(VacantEntry<'a, 't, T, K>),
}

/// A key of a table that has a row. It is part of [`Entry`].
pub struct OccupiedEntry<'a, 't, T, K: KeysMut<T> = InRow> {
    slot: KeySlot<'a, 't, T, K>,
}

/// A key of a table that has no row. It is part of [`Entry`].
pub struct VacantEntry<'a, 't, T, K: KeysMut<T> = InRow> {
    slot: KeySlot<'a, 't, T, K>,
}

/// A key of a table and the value under this key, if it exists. See [`ExternalTableMut::entry`].
///
/// [`ExternalTableMut::entry`]: crate::ExternalTableMut::entry
pub type ExternalEntry<'a, 't, T> = Entry<'a, 't, T, External<<T as ExternalRecord>::Row>>;
/// A key of a table that has a value. It is part of [`ExternalEntry`].
pub type ExternalOccupiedEntry<'a, 't, T> = OccupiedEntry<'a, 't, T, External<<T as ExternalRecord>::Row>>;
/// A key of a table that has no value. It is part of [`ExternalEntry`].
pub type ExternalVacantEntry<'a, 't, T> = VacantEntry<'a, 't, T, External<<T as ExternalRecord>::Row>>;

/// A key of a table, and where it was found.
struct KeySlot<'a, 't, T, K: KeysMut<T>> {
    table: &'a mut TableMut<'t, T, K>,
    key: K::KeyBuf,
    /// `None` after a change, which may have moved the key.
    place: Option<Place<T, K>>,
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
        Entry::new(self, *key.borrow())
    }
}

impl<'t, T: ExternalRecord> TableMut<'t, T, External<T::Row>> {
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
        Entry::new(self, key.as_ref().into())
    }
}

impl<'a, T: FieldType, K: KeysMut<T>> KeySlot<'a, '_, T, K> {
    /// Returns the place of the key, which the caller is about to change.
    fn take_place(&mut self) -> Result<Place<T, K>, WriteError> {
        match self.place.take() {
            Some(place) => Ok(place),
            None => K::place(self.table, self.key.borrow(), Internal(())),
        }
    }

    /// Returns the row, which must exist.
    fn row(&self) -> Result<&T, ReadError> {
        row_of(self.table, self.place.as_ref(), self.key.borrow())
    }

    fn into_row(self) -> Result<&'a T, ReadError> {
        row_of(self.table, self.place.as_ref(), self.key.borrow())
    }

    fn put(&mut self, row: &T) -> Result<(), WriteError> {
        let place = self.take_place()?;
        K::put_at(self.table, &place, self.key.borrow(), row)
    }
}

/// Returns the row of an occupied entry.
fn row_of<'a, T: FieldType, K: KeysMut<T>>(
    table: &'a TableMut<'_, T, K>,
    place: Option<&Place<T, K>>,
    key: &K::Key,
) -> Result<&'a T, ReadError> {
    let row = match place {
        Some(place) => table.value_at(place)?,
        None => K::get(table, key)?,
    };
    Ok(row.expect("an occupied entry has a row"))
}

impl<'a, 't, T: FieldType, K: KeysMut<T>> Entry<'a, 't, T, K> {
    fn new(table: &'a mut TableMut<'t, T, K>, key: K::KeyBuf) -> Result<Self, WriteError> {
        let place = K::place(table, key.borrow(), Internal(()))?;
        let exists = table.row(place.spot)?.is_some();
        let slot = KeySlot { table, key, place: Some(place) };
        Ok(if exists { Self::Occupied(OccupiedEntry { slot }) } else { Self::Vacant(VacantEntry { slot }) })
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K::Key {
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
    pub fn or_insert_with_key(self, make: impl FnOnce(&K::Key) -> T) -> Result<&'a T, WriteError> {
        match self {
            Self::Occupied(entry) => Ok(entry.into_row()?),
            Self::Vacant(entry) => {
                let row = make(entry.key());
                entry.insert(&row)
            }
        }
    }
}

impl<'a, T: FieldType, K: KeysMut<T>> OccupiedEntry<'a, '_, T, K> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K::Key {
        self.slot.key.borrow()
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
        let place = self.slot.take_place()?;
        let changed = self.slot.table.update_at(&place, change)?;
        Ok(changed.expect("an occupied entry has a row"))
    }

    /// Deletes the row, and returns a copy of it.
    ///
    /// # Errors
    /// As for [`TableMut::delete`].
    pub fn remove(mut self) -> Result<T, WriteError> {
        let place = self.slot.take_place()?;
        let removed = self.slot.table.take_at(&place)?;
        Ok(removed.expect("an occupied entry has a row"))
    }
}

impl<'a, T: ExternalRecord> OccupiedEntry<'a, '_, T, External<T::Row>> {
    /// Returns the value for as long as the table is borrowed: [`into_row`](Self::into_row).
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn into_value(self) -> Result<&'a T, ReadError> {
        self.into_row()
    }
}

impl<'a, T: FieldType, K: KeysMut<T>> VacantEntry<'a, '_, T, K> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K::Key {
        self.slot.key.borrow()
    }

    /// Inserts the row, and returns it as it is in the table.
    ///
    /// # Errors
    /// As for [`TableMut::put`], and [`WriteError::EntryKey`] if the row has another key. The table
    /// is not changed then.
    pub fn insert(mut self, row: &T) -> Result<&'a T, WriteError> {
        self.slot.put(row)?;
        let table: &'a TableMut<'_, T, K> = self.slot.table;
        Ok(K::value(table.newest_row()?))
    }
}

impl<T, K: KeysMut<T>> fmt::Debug for Entry<'_, '_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => entry.fmt(f),
            Self::Vacant(entry) => entry.fmt(f),
        }
    }
}

impl<T, K: KeysMut<T>> fmt::Debug for OccupiedEntry<'_, '_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

impl<T, K: KeysMut<T>> fmt::Debug for VacantEntry<'_, '_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VacantEntry").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

//! Tables whose keys are fields of their records in a write transaction: the methods of [`TableMut`]
//! that take such keys, or rows that contain them.

use core::borrow::Borrow;
use core::convert::Infallible;

use pongo_core::error::{ReadError, WriteError};
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::rows::append_bytes;
use pongo_index::key_hash;

use crate::keys::InRow;
use crate::table_mut::place::{Internal, KeysMut, Place};
use crate::table_mut::{ExtendError, TableMut};
use crate::write_set::bulk::WRITE;
use crate::write_set::{copy, hash_of};

impl<T: PongoRecord> KeysMut<T> for InRow {
    fn place(table: &TableMut<'_, T>, key: &T::Key, _: Internal) -> Result<Place<T, Self>, WriteError> {
        let key = T::encode_key(key);
        let hash = key_hash(key.as_ref());
        let spot = table.spot(hash, &key)?;
        Ok(Place { key, hash, spot, known: None })
    }

    fn get<'a>(table: &'a TableMut<'_, T>, key: &T::Key) -> Result<Option<&'a T>, ReadError> {
        table.get(key)
    }

    fn put_at(
        table: &mut TableMut<'_, T>,
        place: &Place<T, Self>,
        _: &T::Key,
        row: &T,
    ) -> Result<(), WriteError> {
        table.check_entry_key(&place.key, row)?;
        table.check(row)?;
        table.put_unchecked(place.spot, place.hash, row)
    }
}

impl<T: PongoRecord> TableMut<'_, T> {
    /// Inserts or replaces the row with this key. Returns `true` if a row was replaced.
    ///
    /// # Errors
    /// - [`WriteError::HeapField`] if a text or blob of the row does not refer to bytes of this
    ///   store or transaction.
    /// - [`WriteError::UniqueViolation`] if another row has the same value in a unique field, and
    ///   this transaction has neither deleted nor changed that row before.
    ///
    /// The table is not changed in these cases.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// #[pongo::record]
    /// #[pongo(table = "users", unique(team, seat))]
    /// struct User {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     #[pongo(unique)]
    ///     mail: FixedStr<16>,
    ///     team: u32,
    ///     seat: u32,
    /// }
    ///
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut users = tx.table::<User>()?;
    /// users.put(&User { id: 1, mail: "ada@x.org".parse()?, team: 3, seat: 1 })?;
    /// let error = users.put(&User { id: 2, mail: "ada@x.org".parse()?, team: 3, seat: 2 }).unwrap_err();
    /// assert!(error.to_string().contains("found mail = \"ada@x.org\" in the row with key id = 1"));
    /// users.put(&User { id: 2, mail: "bob@x.org".parse()?, team: 3, seat: 2 })?;
    /// assert!(users.update(&2, |user| user.seat = 1).is_err());
    /// users.delete(&1)?;
    /// assert!(users.update(&2, |user| user.seat = 1)?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put(&mut self, row: &T) -> Result<bool, WriteError> {
        self.check(row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        let was_there = self.row(spot)?.is_some();
        self.put_unchecked(spot, hash, row)?;
        Ok(was_there)
    }

    /// Inserts or replaces the row with this key, as [`put`](Self::put) does, and returns a copy of
    /// the previous row, or `None` if there was none. `put` makes no copy.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// assert!(accounts.replace(&Account { number: 1, cents: 500 })?.is_none());
    /// let previous = accounts.replace(&Account { number: 1, cents: 700 })?;
    /// assert_eq!(previous.map(|account| account.cents), Some(500));
    /// # drop(accounts);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace(&mut self, row: &T) -> Result<Option<T>, WriteError> {
        self.check(row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        let previous = self.row(spot)?.map(copy);
        self.put_unchecked(spot, hash, row)?;
        Ok(previous)
    }

    /// Changes the row with this key to `new` if it is `expected`, and returns whether it was.
    /// `None` stands for no row: `(None, Some(row))` inserts a row, `(Some(row), None)` deletes it,
    /// and `(None, None)` returns whether there is none.
    ///
    /// Rows are equal if their bytes are: a `-0.0` differs from `0.0`, and a text from another with
    /// the same content that was written separately. A row that was read from this store, in any
    /// transaction, therefore equals the row in the table unless it was changed in between.
    ///
    /// Costs as much as [`get`](Self::get) and the comparison, and as [`put`](Self::put) or
    /// [`delete`](Self::delete) if the row is as expected.
    ///
    /// # Errors
    /// As for [`put`](Self::put), and [`WriteError::EntryKey`] if `new` or `expected` has another
    /// key. The table is not changed then.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// #[pongo::record]
    /// #[pongo(table = "accounts")]
    /// #[derive(Clone)]
    /// struct Account {
    ///     #[pongo(key)]
    ///     number: u64,
    ///     cents: i64,
    /// }
    ///
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Account>()?.put(&Account { number: 1, cents: 500 })?;
    /// # tx.commit()?;
    /// // Read, without a write transaction that keeps others waiting, ...
    /// let snapshot = store.begin_read()?;
    /// let before = snapshot.table::<Account>()?.get(1)?.ok_or("no such account")?;
    /// let after = Account { cents: before.cents * 2, ..before.clone() };
    /// // ... and write only if the row has not changed since.
    /// let tx = store.begin_write()?;
    /// assert!(tx.table::<Account>()?.compare_and_set(1, Some(before), Some(&after))?);
    /// assert!(!tx.table::<Account>()?.compare_and_set(1, Some(before), Some(&after))?);
    /// tx.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_and_set(
        &mut self,
        key: impl Borrow<T::Key>,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<bool, WriteError> {
        let place = InRow::place(self, key.borrow(), Internal(()))?;
        for row in [expected, new].into_iter().flatten() {
            self.check_entry_key(&place.key, row)?;
        }
        self.compare_and_set_at(&place, key.borrow(), expected, new)
    }

    /// Returns an error if a row does not have the key for which it was passed.
    fn check_entry_key(&self, key: &T::KeyBytes, row: &T) -> Result<(), WriteError> {
        if row.key_bytes() == *key {
            return Ok(());
        }
        Err(WriteError::EntryKey {
            table: T::SCHEMA.table.to_owned(),
            expected: self.staging().core().schema().describe_key_bytes(key.as_ref()),
            found: self.describe_key(row),
        })
    }

    /// Inserts a row with a new key.
    ///
    /// # Errors
    /// [`WriteError::KeyExists`] if a row with its key exists; otherwise as for [`put`](Self::put).
    /// The table is not changed in these cases.
    pub fn insert(&mut self, row: &T) -> Result<(), WriteError> {
        self.check(row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        if self.row(spot)?.is_some() {
            return Err(WriteError::KeyExists {
                table: T::SCHEMA.table.to_owned(),
                key: self.describe_key(row),
            });
        }
        self.put_unchecked(spot, hash, row)
    }

    fn describe_key(&self, row: &T) -> String {
        with_bytes(row, |row| self.staging().core().schema().describe_key(row))
    }

    /// Replaces the row with this key with a copy that `change` has modified. Returns the result of
    /// `change`, or `None` if the row does not exist.
    ///
    /// # Errors
    /// [`WriteError::KeyChanged`] if `change` changed the key; otherwise as for [`put`](Self::put).
    /// The table is not changed in these cases.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// accounts.put(&Account { number: 1, cents: 500 })?;
    /// let left = accounts.update(&1, |account| {
    ///     account.cents -= 120;
    ///     account.cents
    /// })?;
    /// assert_eq!(left, Some(380));
    /// assert_eq!(accounts.update(&2, |account| account.cents)?, None);
    /// drop(accounts);
    /// tx.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update<R>(
        &mut self,
        key: impl Borrow<T::Key>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let key = T::encode_key(key.borrow());
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        self.update_found(spot, hash, &key, change)
    }

    /// Deletes the row with this key. Returns whether the row existed.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn delete(&mut self, key: impl Borrow<T::Key>) -> Result<bool, WriteError> {
        self.delete_bytes(&T::encode_key(key.borrow()))
    }

    /// Deletes the row with this key, and returns a copy of it, or `None` if it did not exist.
    /// [`delete`](Self::delete) makes no copy.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// accounts.put(&Account { number: 1, cents: 500 })?;
    /// assert_eq!(accounts.take(1)?.map(|account| account.cents), Some(500));
    /// assert!(accounts.take(1)?.is_none());
    /// # drop(accounts);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&mut self, key: impl Borrow<T::Key>) -> Result<Option<T>, WriteError> {
        self.staging().ensure_complete()?;
        let place = InRow::place(self, key.borrow(), Internal(()))?;
        self.take_at(&place)
    }

    /// Inserts or replaces many rows, given as values or as references, by writing them directly to
    /// the table's chunks. This is the way to load a table. As with [`put`](Self::put), a row
    /// replaces the one with the same key, including an earlier one of the same load. Returns the
    /// number of rows in the input.
    ///
    /// Costs two copies per row here and about 100 ns per row at the commit, which syncs the
    /// written rows; takes 8 bytes of memory per row until then, and the same memory and time again
    /// for each unique index. The first read or change by key in the same transaction compares the
    /// keys of all rows loaded so far, at about 100 ns and 20 bytes per row.
    ///
    /// An iterator of values holds each row on the stack for a moment; an iterator of references
    /// does not. Pass rows that are too large for the stack as references, or fill them in place
    /// ([`alloc_slice`](Self::alloc_slice)).
    ///
    /// # Errors
    /// As for [`put`](Self::put), except [`WriteError::UniqueViolation`]. Rows before the rejected
    /// one are part of the transaction. Unique values are compared when the next row is put or at
    /// the commit, in the state the rows have by then: two rows of a load may exchange their
    /// values. The operation that finds two rows with one value returns the error, and so do later
    /// ones until one of the rows is deleted.
    ///
    /// [`WriteError::Storage`] if rows cannot be written, for example because the disk is full.
    /// After that, or after a panic in the iterator that was caught, the transaction can only be
    /// aborted or rolled back to a savepoint: this function and the commit return
    /// [`WriteError::IncompleteChange`].
    pub fn extend<R: Borrow<T>>(&mut self, rows: impl IntoIterator<Item = R>) -> Result<u64, WriteError> {
        self.try_extend(rows.into_iter().map(Ok::<R, Infallible>)).map_err(|error| match error {
            ExtendError::Write(error) => error,
            ExtendError::Rows(never) => match never {},
        })
    }

    /// Loads rows from a fallible iterator, for example rows that are read from a file, like
    /// [`extend`](Self::extend). Rows before an error of the iterator are part of the transaction.
    ///
    /// # Errors
    /// [`ExtendError::Rows`] with the iterator's first error; [`ExtendError::Write`] as for
    /// [`extend`](Self::extend).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let lines = "1\n2\nthree\n4".lines();
    /// let loaded = tx.table::<Trade>()?.try_extend(lines.map(|line| line.parse().map(|id| Trade { id })));
    /// assert_eq!(loaded.unwrap_err().to_string(), "a row to be loaded could not be made: invalid digit found in string");
    /// assert_eq!(tx.table::<Trade>()?.len()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_extend<R: Borrow<T>, E>(
        &mut self,
        rows: impl IntoIterator<Item = Result<R, E>>,
    ) -> Result<u64, ExtendError<E>> {
        self.staging().ensure_complete()?;
        let guard = self.guard;
        self.staging_mut().write_staged(guard)?;
        let at_once = (WRITE / size_of::<T>()).max(1);
        // Bytes instead of `T`s: a `T` that is passed by value may be copied to the stack.
        let mut batch: Vec<u8> = Vec::with_capacity(if at_once > 1 { at_once * size_of::<T>() } else { 0 });
        let mut hashes: Vec<u64> = Vec::with_capacity(at_once);
        let before = self.staging().written();
        self.staging_mut().begin_load();
        let mut refused = None;
        for row in rows {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    refused = Some(ExtendError::Rows(error));
                    break;
                }
            };
            let row = row.borrow();
            if let Err(error) = self.staging().check_heap(guard, row) {
                refused = Some(error.into());
                break;
            }
            hashes.push(hash_of(row));
            if at_once == 1 {
                with_bytes(row, |row| self.staging_mut().write(guard, row, &mut hashes))?;
                continue;
            }
            append_bytes(row, &mut batch);
            if hashes.len() == at_once {
                self.staging_mut().write(guard, &batch, &mut hashes)?;
                batch.clear();
            }
        }
        self.staging_mut().write(guard, &batch, &mut hashes)?;
        self.staging_mut().end_load();
        match refused {
            Some(error) => Err(error),
            None => Ok((self.staging().written() - before) as u64),
        }
    }
}

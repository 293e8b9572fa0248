//! A table in a write transaction: [`TableMut`].
//!
//! | module | purpose |
//! | --- | --- |
//! | here | one row at a time, and bulk loads |
//! | `read` | the reads of a snapshot, with the transaction's own changes |
//! | `place` | what changes of one row have in common: where its key was found |
//! | [`external`] | the methods that take external keys |
//! | [`entry`] | one key, with its row or without one |
//! | [`range`] | changes to many rows |
//! | [`alloc`] | rows that are filled in place |

pub(crate) mod alloc;
pub(crate) mod entry;
pub(crate) mod external;
pub(crate) mod place;
pub(crate) mod range;
mod read;

use core::borrow::Borrow;
use core::convert::Infallible;

use std::sync::Arc;

use pongo_core::engine::EngineTransaction;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::ids::RowId;
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::rows::append_bytes;
use pongo_index::key_hash;

use crate::keys::{InRow, KeyBytes, KeyKind, Keys, table_name};
use crate::table::{Parts, Table};
use crate::table_mut::place::KeysMut;
use crate::transaction::WriteTransaction;
use crate::write_set::bulk::WRITE;
use crate::write_set::key_map::KeyLocation;
use crate::write_set::own::Own;
use crate::write_set::{TableWriteSet, copy, hash_of};

/// A table in a [`WriteTransaction`](crate::WriteTransaction).
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "accounts")]
/// struct Account {
///     #[pongo(key)]
///     number: u64,
///     cents: i64,
///     owner: Text,
/// }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// let owner = tx.text("Ada")?;
/// let mut accounts = tx.table::<Account>()?;
/// accounts.insert(&Account { number: 1, cents: 500, owner })?;
/// assert!(accounts.insert(&Account { number: 1, cents: 0, owner: Text::EMPTY }).is_err());
/// assert_eq!(accounts.get(&1)?.map(|account| account.cents), Some(500));
/// assert!(accounts.put(&Account { number: 1, cents: 700, owner })?);
/// assert!(accounts.delete(&1)? && !accounts.delete(&1)?);
/// drop(accounts);
/// tx.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Iterators and rows borrow the table, so it cannot change while they exist; other tables can be
/// changed in the meantime:
///
/// ```compile_fail,E0502
/// # use pongo::prelude::*;
/// # #[pongo::record]
/// # #[pongo(table = "items")]
/// # struct Item { #[pongo(key)] id: u64 }
/// # let store = Store::in_memory()?;
/// # let tx = store.begin_write()?;
/// let mut items = tx.table::<Item>()?;
/// for item in items.range(..)? {
///     items.delete(&item?.id)?; // `items` is lent to the range
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// To change the table that is read, use [`retain`](Self::retain),
/// [`extract_if`](Self::extract_if), [`modify`](Self::modify) or
/// [`delete_range`](Self::delete_range).
///
/// `K` is the kind of the table's keys. `TableMut<'_, T>` is a table whose keys are fields of `T`;
/// [`ExternalTableMut<'_, T>`](crate::ExternalTableMut) is one whose keys are bytes beside it.
pub struct TableMut<'t, T, K: KeyKind<T> = InRow> {
    tx: &'t WriteTransaction,
    guard: &'t EngineTransaction,
    /// `Some` until this is dropped.
    staging: Option<Box<TableWriteSet<K::Row>>>,
    /// Returns the staging to the transaction.
    close: fn(&WriteTransaction, Box<TableWriteSet<K::Row>>),
}

impl WriteTransaction {
    /// Opens the table of `T` for reading and writing. Creates it as part of this transaction if
    /// the store does not have it.
    ///
    /// A table can be open only once at a time in a transaction; different tables can be open at
    /// the same time. Drop the `TableMut` before the transaction is committed, with a block around
    /// it or with [`drop`].
    ///
    /// # Errors
    /// - [`WriteError::TableAlreadyOpen`] while another `TableMut` of this table exists.
    /// - [`WriteError::Schema`] with both layouts side by side, if the layout of the table's rows
    ///   differs from `T`.
    /// - [`WriteError::MissingUniqueIndex`] if `T` declares unique fields that the table does not.
    ///   The reverse is allowed: the table's unique fields are enforced.
    /// - [`WriteError::TableTypeMismatch`] if this transaction has opened the table as another
    ///   type.
    /// - [`WriteError::Storage`] if the table's files cannot be created or read.
    ///
    /// ```compile_fail,E0505
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "items")]
    /// # struct Item { #[pongo(key)] id: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// let mut items = tx.table::<Item>()?;
    /// items.put(&Item { id: 1 })?;
    /// tx.commit()?; // `items` is still there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn table<T: PongoRecord>(&self) -> Result<TableMut<'_, T>, WriteError> {
        TableMut::open(self)
    }
}

impl<T, K: KeyKind<T>> Drop for TableMut<'_, T, K> {
    fn drop(&mut self) {
        if let Some(staging) = self.staging.take() {
            (self.close)(self.tx, staging);
        }
    }
}

impl<T, K: Keys<T>> core::fmt::Debug for TableMut<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TableMut").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

impl<'t, T, K: Keys<T>> TableMut<'t, T, K> {
    fn open(tx: &'t WriteTransaction) -> Result<Self, WriteError> {
        let staging = Some(tx.open_staging()?);
        Ok(Self { tx, guard: tx.guard(), staging, close: |tx, staging| tx.close_table(staging) })
    }

    fn staging(&self) -> &TableWriteSet<K::Row> {
        self.staging.as_ref().expect("present until this is dropped")
    }

    fn staging_mut(&mut self) -> &mut TableWriteSet<K::Row> {
        self.staging.as_mut().expect("present until this is dropped")
    }

    /// Returns a reader of the table in the transaction's current state.
    fn reader(&self) -> Result<Table<'_, T, K>, ReadError> {
        let staging = self.staging();
        staging.resolve(self.guard)?;
        let parts = Parts { view: self.guard.view(staging.core())?, handle: Arc::clone(staging.handle()) };
        let own = (!staging.is_untouched()).then(|| Own::new(staging, self.guard));
        Ok(Table::of_transaction(parts, self.tx.source(), own))
    }

    #[inline]
    fn spot(&self, hash: u64, key: &KeyBytes<T, K>) -> Result<KeyLocation, ReadError> {
        let staging = self.staging();
        staging.resolve(self.guard)?;
        staging.locate(self.guard, &staging.keys(), hash, key)
    }

    /// Returns the row at `spot`.
    fn row(&self, spot: KeyLocation) -> Result<Option<&K::Row>, ReadError> {
        self.staging().value(self.guard, spot)
    }

    /// Returns the row that this transaction appended last.
    fn newest_row(&self) -> Result<&K::Row, ReadError> {
        let staging = self.staging();
        let rows = staging.view().len() + (staging.written() + staging.staged()) as u64;
        staging.own_row(self.guard, RowId(rows - 1))
    }

    /// Returns an error if the table no longer accepts changes, or if a text or blob of the row
    /// does not refer to existing bytes.
    fn check(&self, row: &K::Row) -> Result<(), WriteError> {
        self.staging().ensure_complete()?;
        self.staging().check_heap(self.guard, row)
    }

    /// Inserts or replaces the row. The caller has checked its texts and blobs.
    fn put_unchecked(&mut self, spot: KeyLocation, hash: u64, row: &K::Row) -> Result<(), WriteError> {
        self.check_unique(spot, row)?;
        self.put_copy(spot, hash, row)
    }

    fn put_copy(&mut self, spot: KeyLocation, hash: u64, row: &K::Row) -> Result<(), WriteError> {
        let guard = self.guard;
        self.staging_mut().put(guard, spot, hash, row)
    }

    /// Deletes the row at `spot`, which must exist.
    fn delete_found(&mut self, spot: KeyLocation, hash: u64) {
        let guard = self.guard;
        self.staging_mut().delete_found(guard, spot, hash);
    }

    fn check_unique(&mut self, spot: KeyLocation, row: &K::Row) -> Result<(), WriteError> {
        let guard = self.guard;
        self.staging_mut().check_unique(guard, spot, row)
    }

    /// Replaces the row with the given key, which was found at `spot`, with a copy that `change` has
    /// modified.
    #[inline]
    fn update_found<R>(
        &mut self,
        spot: KeyLocation,
        hash: u64,
        key: &KeyBytes<T, K>,
        change: impl FnOnce(&mut K::Row) -> R,
    ) -> Result<Option<R>, WriteError> {
        let guard = self.guard;
        self.staging_mut().update(guard, spot, hash, key, change)
    }

    /// Deletes the row with these bytes of its key. Returns whether it existed.
    fn delete_bytes(&mut self, key: &KeyBytes<T, K>) -> Result<bool, WriteError> {
        self.staging().ensure_complete()?;
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, key)?;
        if self.row(spot)?.is_none() {
            return Ok(false);
        }
        self.delete_found(spot, hash);
        Ok(true)
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
        let place = InRow::place(self, key.borrow())?;
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
        let place = InRow::place(self, key.borrow())?;
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

/// The reason why [`TableMut::try_extend`] stopped.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError<E> {
    /// The iterator returned an error.
    #[error("a row to be loaded could not be made: {0}")]
    Rows(#[source] E),
    /// A row could not be written to the table.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Prints the message, so that it is readable if a program's `main` returns the error.
impl<E: core::fmt::Display> core::fmt::Debug for ExtendError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

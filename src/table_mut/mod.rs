//! A table in a write transaction: [`TableMut`].
//!
//! | module | purpose |
//! | --- | --- |
//! | here | the table, and what all changes have in common |
//! | `in_row` | one row at a time, and bulk loads |
//! | `read` | the reads of a snapshot, with the transaction's own changes |
//! | `place` | what changes of one row have in common: where its key was found |
//! | [`external`] | the methods that take external keys |
//! | [`entry`] | one key, with its row or without one |
//! | [`range`] | changes to many rows |
//! | [`alloc`] | rows that are filled in place |

pub(crate) mod alloc;
pub(crate) mod entry;
mod in_row;
pub(crate) mod place;
pub(crate) mod range;
mod read;

// After the others, so that links to methods such as `TableMut::get` lead to those for keys in rows.
pub(crate) mod external;

use std::sync::Arc;

use pongo_core::engine::EngineTransaction;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_index::key_hash;

use crate::keys::{InRow, KeyBytes, KeyKind, Keys, table_name};
use crate::table::{Parts, Table};
use crate::transaction::WriteTransaction;
use crate::write_set::TableWriteSet;
use crate::write_set::key_map::KeyLocation;
use crate::write_set::own::Own;

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

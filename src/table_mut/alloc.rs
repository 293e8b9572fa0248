//! Rows that are filled in place: [`TableMut::alloc`] and [`TableMut::alloc_slice`].

use core::fmt;
use core::ops::{Deref, DerefMut};

use pongo_core::engine::NewRows;
use pongo_core::error::WriteError;
use pongo_core::padding::{PaddingFree, Unpadded, unpadded};
use pongo_core::record::PongoRecord;

use crate::keys::{InRow, Keys, table_name};
use crate::table_mut::TableMut;
use crate::write_set::TableWriteSet;

/// Zeroed rows from [`TableMut::alloc_slice`] that are filled in place: a `[T]`.
///
/// When this is dropped, the rows are inserted into the transaction with their contents at that
/// time; see there.
pub struct RowsMut<'t, T: PongoRecord> {
    staging: &'t mut TableWriteSet<T>,
    rows: NewRows<'t, T>,
    /// Whether the thread was already panicking when the rows were created. Such a panic says
    /// nothing about the rows.
    panicking: bool,
    /// Whether the rows were inserted or discarded.
    finished: bool,
}

/// A zeroed row from [`TableMut::alloc`] that is filled in place: a `T`.
///
/// When this is dropped, the row is inserted into the transaction with its contents at that time;
/// see there. With an external key the value is inserted under the key that was passed to
/// [`ExternalTableMut::alloc`](crate::ExternalTableMut::alloc).
pub struct RowMut<'t, T, K: Keys<T> = InRow> {
    rows: RowsMut<'t, K::Row>,
}

impl<T: PongoRecord> TableMut<'_, T> {
    /// Returns a new zeroed row that is filled in place. It is stored in the table's chunk file
    /// from the start and is never copied, so records of any size up to 1 GiB work with any stack
    /// size.
    ///
    /// The row is inserted when the returned value is dropped or passed to [`RowMut::insert`], with
    /// the key that it has then. As with [`put`](Self::put), it replaces a row with the same key,
    /// also an earlier row of this transaction. Until then the table is borrowed; texts and blobs
    /// can still be created. No other transaction or snapshot sees the row before the commit.
    ///
    /// `T` must have no padding ([`PaddingFree`]), since the program writes into the stored bytes.
    ///
    /// Costs a memory mapping, about ten microseconds, and a page fault (1 to 4 µs) for every 4 KiB
    /// that are filled; at commit it costs the same as [`extend`](Self::extend). For many small
    /// rows, use [`alloc_slice`](Self::alloc_slice). In an in-memory store the row is filled
    /// outside the store and then copied into it.
    ///
    /// # Errors
    /// Returns [`WriteError::NotZeroable`] if a field of `T` must not be zero, and
    /// [`WriteError::Storage`] if the disk has no space for the row; nothing is changed in either
    /// case. Returns [`WriteError::IncompleteChange`] if rows of this table were lost before, as
    /// described next.
    ///
    /// Unique values are compared by the next call that compares values, or by the commit, as those
    /// of [`extend`](Self::extend): it returns [`WriteError::UniqueViolation`], until one of the rows
    /// is deleted.
    ///
    /// If a `Text` or `Blob` of the row does not refer to bytes of this store, [`RowMut::insert`]
    /// returns an error and does not insert the row. If the row was dropped instead, the commit returns that
    /// error. If the row is dropped by a panic or passed to [`core::mem::forget`], the commit
    /// returns [`WriteError::IncompleteChange`]; a forgotten row also stays mapped until the
    /// process ends.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// struct Cell {
    ///     height: f32,
    ///     water: f32,
    /// }
    ///
    /// #[pongo::record]
    /// #[pongo(table = "maps")]
    /// struct Map {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     cells: [[Cell; 256]; 256],
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut maps = tx.table::<Map>()?;
    /// let mut map = maps.alloc()?;
    /// map.id = 7;
    /// for (y, row) in map.cells.iter_mut().enumerate() {
    ///     for (x, cell) in row.iter_mut().enumerate() {
    ///         cell.height = (x * y) as f32;
    ///     }
    /// }
    /// map.insert()?;
    /// drop(maps);
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let map = snapshot.table::<Map>()?.get(&7)?.ok_or("it was put in")?;
    /// assert_eq!((map.cells[3][5].height, map.cells[3][5].water), (15.0, 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The table is borrowed until the row is inserted:
    /// ```compile_fail,E0499
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "maps")]
    /// # struct Map { #[pongo(key)] id: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// let mut maps = tx.table::<Map>()?;
    /// let mut one = maps.alloc()?;
    /// let mut two = maps.alloc()?;
    /// one.id = two.id + 1;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc(&mut self) -> Result<RowMut<'_, T>, WriteError>
    where
        T: PaddingFree,
    {
        self.alloc_row(unpadded())
    }

    /// Returns `rows` contiguous zeroed rows that are filled in place, as [`alloc`](Self::alloc)
    /// does for one. If several of them have the same key, the last one is kept.
    ///
    /// # Errors
    /// Fails as [`alloc`](Self::alloc) does.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "samples")]
    /// struct Sample {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     value: f64,
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut samples = tx.table::<Sample>()?;
    /// let mut rows = samples.alloc_slice(1000)?;
    /// for (id, row) in (0..).zip(rows.iter_mut()) {
    ///     *row = Sample { id, value: id as f64 / 2.0 };
    /// }
    /// drop(rows);
    /// assert_eq!(samples.get(&999)?.map(|sample| sample.value), Some(499.5));
    /// drop(samples);
    /// tx.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc_slice(&mut self, rows: usize) -> Result<RowsMut<'_, T>, WriteError>
    where
        T: PaddingFree,
    {
        self.alloc_rows(rows, unpadded())
    }
}

impl<T, K: Keys<T>> TableMut<'_, T, K> {
    pub(super) fn alloc_row(&mut self, unpadded: Unpadded<K::Row>) -> Result<RowMut<'_, T, K>, WriteError> {
        Ok(RowMut { rows: self.alloc_rows(1, unpadded)? })
    }

    fn alloc_rows(
        &mut self,
        rows: usize,
        unpadded: Unpadded<K::Row>,
    ) -> Result<RowsMut<'_, K::Row>, WriteError> {
        let guard = self.guard;
        let staging = self.staging_mut();
        staging.ensure_complete()?;
        staging.write_staged(guard)?;
        let rows = guard.alloc(staging.core(), rows, unpadded)?;
        staging.begin_load();
        let panicking = std::thread::panicking();
        Ok(RowsMut { staging, rows, panicking, finished: false })
    }
}

impl<T: PongoRecord> RowsMut<'_, T> {
    /// Inserts the rows, as dropping them does, and returns an error at once if that fails.
    ///
    /// # Errors
    /// Returns [`WriteError::HeapField`] if a text or blob of a row does not refer to bytes of this
    /// store or transaction: none of the rows is inserted, and the transaction stays usable.
    /// Returns [`WriteError::Storage`] if the rows cannot be written, which is possible only in an
    /// in-memory store: then the transaction can only be aborted.
    pub fn insert(mut self) -> Result<(), WriteError> {
        self.insert_rows()
    }

    /// Discards the rows, as if they had not been allocated.
    pub fn discard(mut self) {
        self.finished = true;
        self.staging.end_load();
    }

    fn insert_rows(&mut self) -> Result<(), WriteError> {
        self.finished = true;
        for row in &*self.rows {
            if let Err(error) = self.staging.check_heap(self.rows.guard(), row) {
                self.staging.end_load();
                return Err(error);
            }
        }
        self.staging.append_filled(&mut self.rows)?;
        self.staging.end_load();
        Ok(())
    }
}

impl<T: PongoRecord> Drop for RowsMut<'_, T> {
    fn drop(&mut self) {
        if self.finished || (std::thread::panicking() && !self.panicking) {
            return;
        }
        if let Err(error) = self.insert_rows() {
            self.staging.refuse(error);
        }
    }
}

impl<T: PongoRecord> Deref for RowsMut<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.rows
    }
}

impl<T: PongoRecord> DerefMut for RowsMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.rows
    }
}

impl<T: PongoRecord> fmt::Debug for RowsMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsMut").field("table", &T::SCHEMA.table).field("rows", &self.len()).finish()
    }
}

impl<T, K: Keys<T>> RowMut<'_, T, K> {
    /// Returns the row, including the key that may precede its value.
    pub(super) fn row_mut(&mut self) -> &mut K::Row {
        &mut self.rows[0]
    }

    /// Inserts the row, as dropping it does, and returns an error at once if that fails.
    ///
    /// # Errors
    /// Fails as [`RowsMut::insert`] does.
    pub fn insert(self) -> Result<(), WriteError> {
        self.rows.insert()
    }

    /// Discards the row, as if it had not been allocated.
    pub fn discard(self) {
        self.rows.discard();
    }
}

impl<T, K: Keys<T>> Deref for RowMut<'_, T, K> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        K::value(&self.rows[0])
    }
}

impl<T, K: Keys<T>> DerefMut for RowMut<'_, T, K> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        K::value_mut(&mut self.rows[0])
    }
}

impl<T, K: Keys<T>> fmt::Debug for RowMut<'_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowMut").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

//! Rows that are filled where they will lie: [`TableMut::alloc`] and [`TableMut::alloc_slice`].

use core::fmt;
use core::ops::{Deref, DerefMut};

use pongo_core::engine::NewRows;
use pongo_core::error::WriteError;
use pongo_core::record::PongoRecord;

use zerocopy::IntoBytes;

use crate::staging::{Staging, hash_of};
use crate::table_mut::TableMut;

/// Rows that were given out zeroed by [`TableMut::alloc_slice`], to be filled in place: a `[T]`.
///
/// When it is dropped, the rows are the transaction's as they are then. See there.
pub struct RowsMut<'t, T: PongoRecord> {
    staging: &'t mut Staging<T>,
    rows: NewRows<'t, T>,
    /// A panic was on its way when the rows were given out, so that it says nothing about them.
    panicking: bool,
    /// The rows were added or given back.
    settled: bool,
}

/// A row that was given out zeroed by [`TableMut::alloc`], to be filled in place: a `T`.
///
/// When it is dropped, the row is the transaction's as it is then. See there.
pub struct RowMut<'t, T: PongoRecord> {
    rows: RowsMut<'t, T>,
}

impl<T: PongoRecord> TableMut<'_, T> {
    /// Gives out a new row whose bytes are all zero, to be filled in place: it lies in the table's chunk file already, and is
    /// never copied. For records of any size up to 1 GiB, on however small a stack.
    ///
    /// The row is put in when what this returns is dropped, or given to [`RowMut::finish`], with the key that it has then: as
    /// with [`put`](Self::put), it takes the place of one with the same key, also of an earlier one of this transaction.
    /// Until then the table is borrowed; texts and blobs can be made meanwhile. Nobody else sees the row before the commit.
    ///
    /// Costs a map, ten microseconds or so, and a page fault (1 to 4 µs) for every 4 KiB that are filled; at the commit as with
    /// [`extend`](Self::extend). For many small rows, take [`alloc_slice`](Self::alloc_slice). In a store in memory the row is
    /// filled beside the store and copied to it.
    ///
    /// # Errors
    /// [`WriteError::NoZeroValue`] if some field of `T` may not be zero; [`WriteError::Fault`] if the disk has no space for the
    /// row: nothing is changed then. [`WriteError::BrokenOff`] if rows of this table were lost before, as below.
    ///
    /// If a `Text` or `Blob` of the row names no bytes of this store, `finish` says so, and the row is not put in; if it
    /// was dropped, the commit refuses with that error. If the row is dropped by a panic, or given to [`core::mem::forget`],
    /// the commit refuses with [`WriteError::BrokenOff`] (and a forgotten one stays mapped until the process ends).
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
    /// map.finish()?;
    /// drop(maps);
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let map = snapshot.table::<Map>()?.get(&7)?.ok_or("it was put in")?;
    /// assert_eq!((map.cells[3][5].height, map.cells[3][5].water), (15.0, 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The table waits for the row:
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
    pub fn alloc(&mut self) -> Result<RowMut<'_, T>, WriteError> {
        Ok(RowMut { rows: self.alloc_slice(1)? })
    }

    /// As [`alloc`](Self::alloc), of `rows` rows that lie one behind the other. The last of those with the same key counts.
    ///
    /// # Errors
    /// As there.
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
    pub fn alloc_slice(&mut self, rows: usize) -> Result<RowsMut<'_, T>, WriteError> {
        let guard = self.guard;
        let staging = self.staging_mut();
        staging.refuse_broken()?;
        staging.write_staged(guard)?;
        let rows = guard.alloc(&staging.core, rows)?;
        staging.loading = true;
        let panicking = std::thread::panicking();
        Ok(RowsMut { staging, rows, panicking, settled: false })
    }
}

impl<T: PongoRecord> RowsMut<'_, T> {
    /// Puts the rows in, as dropping them does, and says at once if that fails.
    ///
    /// # Errors
    /// [`WriteError::HeapField`] if a text or blob of a row does not name bytes of this store or transaction: none of the rows
    /// is put in, and the transaction goes on. [`WriteError::Fault`] if they cannot be written, which only a store in
    /// memory has to: then the transaction can only be aborted.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.settle()
    }

    /// Gives the rows back, as if they had not been asked for.
    pub fn discard(mut self) {
        self.settled = true;
        self.staging.loading = false;
    }

    fn settle(&mut self) -> Result<(), WriteError> {
        self.settled = true;
        for row in &*self.rows {
            if let Err(error) = self.staging.check_heap(self.rows.guard(), row) {
                self.staging.loading = false;
                return Err(error);
            }
        }
        let before = self.staging.hashes.len();
        self.staging.hashes.extend(self.rows.iter().map(hash_of));
        self.staging.hash_values(self.rows.as_bytes());
        if let Err(error) = self.rows.keep() {
            self.staging.forget_written(before);
            return Err(error);
        }
        self.staging.loading = false;
        Ok(())
    }
}

impl<T: PongoRecord> Drop for RowsMut<'_, T> {
    fn drop(&mut self) {
        if self.settled || (std::thread::panicking() && !self.panicking) {
            return;
        }
        if let Err(error) = self.settle() {
            self.staging.loading = true;
            self.staging.refused = Some(error);
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

impl<T: PongoRecord> RowMut<'_, T> {
    /// Puts the row in, as dropping it does, and says at once if that fails.
    ///
    /// # Errors
    /// As for [`RowsMut::finish`].
    pub fn finish(self) -> Result<(), WriteError> {
        self.rows.finish()
    }

    /// Gives the row back, as if it had not been asked for.
    pub fn discard(self) {
        self.rows.discard();
    }
}

impl<T: PongoRecord> Deref for RowMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.rows[0]
    }
}

impl<T: PongoRecord> DerefMut for RowMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.rows[0]
    }
}

impl<T: PongoRecord> fmt::Debug for RowMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowMut").field("table", &T::SCHEMA.table).finish_non_exhaustive()
    }
}

//! Rows that are filled in place: [`EngineTransaction::alloc`] returns zeroed space in the chunks,
//! after everything that is applied or appended, and [`NewRows::keep`] adds it to the transaction
//! as rows.
//!
//! The commit then references them as it references rows that were
//! [appended](EngineTransaction::append): the chunks get their names, are synced, and only then the
//! journal entry is written.

use core::ops::{Deref, DerefMut, Range};
use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::transaction::{Appending, EngineTransaction, assert_above_published};
use crate::error::{StorageError, WriteError};
use crate::ids::RowId;
use crate::record::PongoRecord;
use crate::space::LARGEST;
use crate::storage::WritableMap;
use crate::table::TableCore;
use crate::unpadded::Unpadded;

/// Size in bytes from which the kernel is asked to start writing back filled rows.
const WRITEBACK: usize = 1 << 20;

/// Rows that a transaction fills in place, before they belong to it: a `[T]`. Dropping or leaking
/// it leaves no trace except the space, which the next rows of the table use. [`keep`](Self::keep)
/// adds the rows to the transaction.
pub struct NewRows<'g, T> {
    guard: &'g EngineTransaction,
    /// `None`: no rows, or they were kept.
    map: Option<WritableMap>,
    /// Prevents other appends to the table. Released after the map, which is dropped first.
    appending: Appending<'g>,
    table: Arc<TableCore>,
    /// The bytes of the space that the rows take.
    range: Range<u64>,
    /// The map's bytes; empty if there is no map.
    rows: NonNull<[T]>,
    /// The bytes of the map stay initialised, whatever is written into the rows.
    unpadded: Unpadded<T>,
}

// SAFETY: it consists of a shared borrow of a guard, which is `Sync`, and a map containing `T`s
// that only it can access: like `&mut [T]`, it can be sent if `T` can.
unsafe impl<T: Send> Send for NewRows<'_, T> where EngineTransaction: Sync {}

// SAFETY: like `&[T]`, a shared reference to it provides only shared references to `T`s.
unsafe impl<T: Sync> Sync for NewRows<'_, T> where EngineTransaction: Sync {}

impl<T> core::fmt::Debug for NewRows<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NewRows").field("table", &self.table.schema().table).finish_non_exhaustive()
    }
}

impl EngineTransaction {
    /// Allocates zeroed space for `rows` rows of a table after those it has: in place where the
    /// storage can map files writable, and in memory otherwise. `T`'s layout was compared with the
    /// table's. It has no padding: what is written into a `T` in place would leave the bytes of
    /// padding undefined, and they are stored.
    ///
    /// # Errors
    /// [`WriteError::NotZeroable`] if zeros are not a valid `T`; [`WriteError::Storage`] if there
    /// is no space for the rows.
    pub fn alloc<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        rows: usize,
        unpadded: Unpadded<T>,
    ) -> Result<NewRows<'_, T>, WriteError> {
        let (appending, range, map) = self.reserve_rows::<T>(table, rows)?;
        if let Some(map) = &map
            && T::try_ref_from_bytes(&map.bytes()[..size_of::<T>()]).is_err()
        {
            return Err(WriteError::NotZeroable {
                table: table.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        // SAFETY: the first row is a valid `T`, and all others have the same bytes: zeros.
        Ok(unsafe { NewRows::over(self, appending, range, map, unpadded) })
    }

    /// Works like [`alloc`](Self::alloc) for one row, which starts as a copy of a row of the table,
    /// applied or appended. The copy never uses the stack.
    ///
    /// # Errors
    /// As for [`alloc`](Self::alloc), but zeros need not be a valid `T`; [`WriteError::Read`] if
    /// the row cannot be read.
    pub fn alloc_copy<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        row: RowId,
        unpadded: Unpadded<T>,
    ) -> Result<NewRows<'_, T>, WriteError> {
        let (appending, range, mut map) = self.reserve_rows::<T>(table, 1)?;
        if let Some(map) = &mut map {
            if row.0 < self.table_state(table.id()).len {
                let view = self.view(table)?;
                map.bytes_mut().copy_from_slice(unpadded.bytes(view.row::<T>(row)?));
            } else {
                map.bytes_mut().copy_from_slice(unpadded.bytes(self.appended_row::<T>(table, row)?));
            }
        }
        // SAFETY: the bytes are those of a valid `T`.
        Ok(unsafe { NewRows::over(self, appending, range, map, unpadded) })
    }

    /// Reserves and returns the bytes of the space that the next `rows` rows take, zeroed.
    fn reserve_rows<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        rows: usize,
    ) -> Result<(Appending<'_>, Range<u64>, Option<WritableMap>), WriteError> {
        self.ensure_not_forked()?;
        self.engine.assert_own(table);
        let size = table.row_size();
        assert_eq!(size_of::<T>() as u64, size, "the type's layout was compared with the table's");
        self.begin_changes()?;
        let entry = self.entry(table);
        let appending = entry.begin_append()?;
        let len = self.table_state(table.id()).len;
        let from = (len + entry.appended()) * size;
        let end = (rows as u64).checked_mul(size).and_then(|bytes| bytes.checked_add(from));
        let Some(end) = end.filter(|end| *end <= LARGEST) else {
            let what = format!("{rows} rows of {size} bytes are too many for table {}", table.schema().table);
            return Err(StorageError::Limit { what: format!("{what}, in bytes"), limit: LARGEST }.into());
        };
        if rows == 0 {
            return Ok((appending, from..from, None));
        }
        assert_above_published(&self.engine, table.id(), len);
        entry.is_reserved.store(true, Ordering::Relaxed);
        table.space.reserve_to(end)?;
        entry.read_cut()?;
        // SAFETY: the bytes are after all applied and all appended rows. While the map exists,
        // `NewRows` holds `appending`, the only right to append to this table, so nothing else
        // writes there. `NewRows` borrows the guard; discarding rows and forgetting chunks both
        // need exclusive access to the guard, so they can only happen after it. References are
        // created only to bytes below a length (docs/UNSAFE.md).
        let map = unsafe { table.space.writable_window(&(from..end)) }?;
        Ok((appending, from..end, Some(map)))
    }
}

impl<'g, T: PongoRecord> NewRows<'g, T> {
    /// Creates the rows over a map.
    ///
    /// # Safety
    /// The map, which has the bytes of `range`, must contain valid `T`s.
    unsafe fn over(
        guard: &'g EngineTransaction,
        appending: Appending<'g>,
        range: Range<u64>,
        mut map: Option<WritableMap>,
        unpadded: Unpadded<T>,
    ) -> Self {
        let rows = map.as_mut().map_or_else(none, |map| {
            let bytes = map.bytes_mut();
            let first = NonNull::from(&mut *bytes).cast::<T>();
            // Rows begin at multiples of their size, maps at page boundaries.
            assert!(first.is_aligned(), "a row's alignment divides its size and is at most a page");
            NonNull::slice_from_raw_parts(first, bytes.len() / size_of::<T>())
        });
        let table = Arc::clone(&appending.0.table);
        Self { guard, appending, table, range, map, rows, unpadded }
    }

    /// Returns the bytes of the rows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.unpadded.slice_bytes(self)
    }

    /// Returns the transaction to which the rows will belong. It reads its data without them.
    #[must_use]
    pub fn guard(&self) -> &'g EngineTransaction {
        self.guard
    }

    /// Adds the rows to the transaction, as if they had been [appended](EngineTransaction::append),
    /// and unmaps them. `self` is empty afterwards.
    ///
    /// # Errors
    /// [`WriteError::Storage`] if they cannot be written, which happens only if they are in memory;
    /// they are then lost.
    pub fn keep(&mut self) -> Result<(), WriteError> {
        self.guard.ensure_not_forked()?;
        let Some(map) = self.map.take() else { return Ok(()) };
        self.rows = none();
        let space = &self.table.space;
        if !map.is_in_files() {
            space.write_at(self.range.start, map.bytes())?;
        }
        // Computes their checksums from what the user stored.
        self.appending.note(map.bytes());
        let large = map.bytes().len() >= WRITEBACK;
        drop(map);
        if large {
            space.start_writeback(&self.range);
        }
        Ok(())
    }
}

impl<T> Deref for NewRows<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `rows` is empty, or covers the bytes of `map`, which stay mapped until `keep` has
        // made `rows` empty. The bytes are aligned and valid `T`s (see `over`), and only `self` can
        // access them: the map's own references exist only within `keep` and `over`.
        unsafe { self.rows.as_ref() }
    }
}

impl<T> DerefMut for NewRows<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { self.rows.as_mut() }
    }
}

fn none<T>() -> NonNull<[T]> {
    NonNull::slice_from_raw_parts(NonNull::dangling(), 0)
}

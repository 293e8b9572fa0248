//! Rows that are filled where they will lie: [`WriteGuard::alloc`] gives out zeroed space in the chunks, behind everything
//! that is applied or appended, and [`NewRows::keep`] makes it rows of the transaction.
//!
//! The commit then cites them as it cites rows that were [appended](WriteGuard::append): chunks named, synced, and only then
//! the journal entry.

use core::ops::{Deref, DerefMut, Range};
use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::assert_above_published;
use super::writer::{Appending, WriteGuard};
use crate::error::{Fault, WriteError};
use crate::ids::RowId;
use crate::record::PongoRecord;
use crate::space::LARGEST;
use crate::storage::WritableMap;
use crate::table::TableCore;

/// From this many bytes on the kernel is asked to begin writing back what was filled.
const WRITEBACK: usize = 1 << 20;

/// Rows that a transaction fills in place, before they are its own: a `[T]`. Dropping it, or leaking it, leaves no trace but
/// the space, which the next rows of the table take; [`keep`](Self::keep) adds the rows to the transaction.
pub struct NewRows<'g, T> {
    guard: &'g WriteGuard,
    /// `None`: no rows, or they were kept.
    map: Option<WritableMap>,
    /// Nothing else is appended to the table meanwhile: given back once the map is gone, which is dropped first.
    appending: Appending<'g>,
    table: Arc<TableCore>,
    /// The bytes of the space that they take.
    range: Range<u64>,
    /// The map's bytes; empty if there is none.
    rows: NonNull<[T]>,
}

// SAFETY: it is a shared borrow of a guard, which is `Sync`, and a map that only it reaches, with `T`s in it: as
// `&mut [T]`, it can be sent if `T` can.
unsafe impl<T: Send> Send for NewRows<'_, T> where WriteGuard: Sync {}

// SAFETY: as `&[T]`, a shared reference to it gives out shared references to `T`s.
unsafe impl<T: Sync> Sync for NewRows<'_, T> where WriteGuard: Sync {}

impl<T> core::fmt::Debug for NewRows<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NewRows").field("table", &self.table.schema().table).finish_non_exhaustive()
    }
}

impl WriteGuard {
    /// Zeroed space for `rows` rows of a table behind those it has, in place where the storage can map files writable and
    /// in memory where it cannot. `T`'s layout was compared with the table's.
    ///
    /// # Errors
    /// [`WriteError::NoZeroValue`] if zeros are no value of `T`; [`WriteError::Fault`] if there is no space for them.
    pub fn alloc<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        rows: usize,
    ) -> Result<NewRows<'_, T>, WriteError> {
        let (appending, range, map) = self.room_for::<T>(table, rows)?;
        if let Some(map) = &map
            && T::try_ref_from_bytes(&map.bytes()[..size_of::<T>()]).is_err()
        {
            return Err(WriteError::NoZeroValue {
                table: table.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        // SAFETY: the first row is a valid `T`, and all others have the same bytes: zeros.
        Ok(unsafe { NewRows::over(self, appending, range, map) })
    }

    /// As [`alloc`](Self::alloc), of one row that begins as a copy of a row of the table, applied or appended. The copy never
    /// passes over the stack.
    ///
    /// # Errors
    /// As there, but zeros need not be a value; [`WriteError::Read`] if the row cannot be read.
    pub fn alloc_copy<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        row: RowId,
    ) -> Result<NewRows<'_, T>, WriteError> {
        let (appending, range, mut map) = self.room_for::<T>(table, 1)?;
        if let Some(map) = &mut map {
            if row.0 < self.table_state(table.id()).len {
                let view = self.view(table)?;
                map.bytes_mut().copy_from_slice(view.row::<T>(row)?.as_bytes());
            } else {
                map.bytes_mut().copy_from_slice(self.appended_row::<T>(table, row)?.as_bytes());
            }
        }
        // SAFETY: the bytes are those of a valid `T`.
        Ok(unsafe { NewRows::over(self, appending, range, map) })
    }

    /// The bytes of the space that the next `rows` rows take, zeroed.
    fn room_for<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        rows: usize,
    ) -> Result<(Appending<'_>, Range<u64>, Option<WritableMap>), WriteError> {
        self.refuse_forked()?;
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
            return Err(Fault::Limit { what: format!("{what}, in bytes"), limit: LARGEST }.into());
        };
        if rows == 0 {
            return Ok((appending, from..from, None));
        }
        assert_above_published(&self.engine, table.id(), len);
        entry.roomed.store(true, Ordering::Relaxed);
        table.space.reserve_to(end)?;
        entry.read_cut()?;
        // SAFETY: the bytes lie behind all applied and all appended rows. While the map lives, `NewRows` has `appending`, the only
        // right to append to this table: nothing is written there by others. It borrows the guard, so that rows are given up
        // and chunks forgotten, which both need the guard alone, only after it. References are made to bytes below a
        // length only (docs/UNSAFE.md).
        let map = unsafe { table.space.room(&(from..end)) }?;
        Ok((appending, from..end, Some(map)))
    }
}

impl<'g, T: PongoRecord> NewRows<'g, T> {
    /// # Safety
    /// The map, which has the bytes of `range`, holds valid `T`s.
    unsafe fn over(
        guard: &'g WriteGuard,
        appending: Appending<'g>,
        range: Range<u64>,
        mut map: Option<WritableMap>,
    ) -> Self {
        let rows = map.as_mut().map_or_else(none, |map| {
            let bytes = map.bytes_mut();
            let first = NonNull::from(&mut *bytes).cast::<T>();
            // Rows begin at multiples of their size, maps on pages.
            assert!(first.is_aligned(), "a row's alignment divides its size and is at most a page");
            NonNull::slice_from_raw_parts(first, bytes.len() / size_of::<T>())
        });
        let table = Arc::clone(&appending.0.table);
        Self { guard, appending, table, range, map, rows }
    }

    /// The transaction they will belong to. It reads what it has without them.
    #[must_use]
    pub fn guard(&self) -> &'g WriteGuard {
        self.guard
    }

    /// Adds the rows to the transaction, as if they had been [appended](WriteGuard::append), and unmaps them: it is empty
    /// afterwards.
    ///
    /// # Errors
    /// [`WriteError::Fault`] if they cannot be written, which happens only where they are in memory: then they are lost.
    pub fn keep(&mut self) -> Result<(), WriteError> {
        self.guard.refuse_forked()?;
        let Some(map) = self.map.take() else { return Ok(()) };
        self.rows = none();
        let space = &self.table.space;
        if !map.is_in_files() {
            space.write_at(self.range.start, map.bytes())?;
        }
        // Here their checksums are computed, from what the user stored.
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
        // SAFETY: `rows` is empty, or covers the bytes of `map`, which stay mapped until `keep` has made `rows` empty. They
        // are aligned and valid `T`s (`over`), and nobody but `self` reaches them: the map's own references live in
        // `keep` and `over` only.
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

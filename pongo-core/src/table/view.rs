//! A table at one `Seq`: which rows are visible, and their bytes.
//!
//! Unsafe code relies on this: rows below a view's length were written before the view was created,
//! and are not written again while it exists (docs/UNSAFE.md).

use std::ops::Range;
use std::sync::Arc;

use zerocopy::TryFromBytes;

use super::TableCore;
use crate::error::{ReadError, StorageError};
use crate::ids::{ChunkId, Location, RowId, Seq};
use crate::record::PongoRecord;
use crate::space::{BLOCK, Chunk, SpaceView};
use crate::state::TableState;

/// A table at one `Seq`.
#[derive(Clone, Debug)]
pub struct TableView {
    pub(super) core: Arc<TableCore>,
    pub(super) view: Arc<SpaceView>,
    pub(super) state: TableState,
    pub(super) seq: Seq,
    /// The table's row size, copied here for fast access.
    pub(super) row_size: u64,
}

impl TableView {
    /// Returns the table.
    #[must_use]
    pub fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    /// Returns the number of rows, deleted ones included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        self.state.len
    }

    /// Returns whether no row was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.len == 0
    }

    /// Returns the number of rows that are not deleted.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.state.live
    }

    /// Returns the commit that this view shows.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Returns the bytes of a row below the length, deleted or not.
    ///
    /// Costs an addition, a test of the block's state and, once per block and process, a checksum
    /// of 64 KiB.
    #[inline]
    pub fn row_bytes(&self, row: RowId) -> Result<&[u8], StorageError> {
        self.rows_bytes(row..row.next())
    }

    /// Returns the bytes of consecutive rows below the length.
    #[inline]
    pub fn rows_bytes(&self, rows: Range<RowId>) -> Result<&[u8], StorageError> {
        if rows.end.0 > self.state.len || rows.start > rows.end {
            return Err(self.beyond(&rows));
        }
        let size = self.core.row_size;
        // SAFETY: rows below the view's length were published, or were applied by this process
        // under the writer lock that the transaction with this view still holds; the writer never
        // writes below an applied length. A view of a transaction itself ends with rows that the
        // transaction wrote before the view was created: they are overwritten only after the guard,
        // which outlives such views, is dropped or discards them.
        unsafe { self.view.bytes(rows.start.0 * size, (rows.end.0 - rows.start.0) * size) }
    }

    #[cold]
    fn beyond(&self, rows: &Range<RowId>) -> StorageError {
        StorageError::corrupt(
            self.core.space.dir(),
            0,
            format!("rows below {}", self.state.len),
            format!("rows {}..{}", rows.start, rows.end),
        )
    }

    /// Returns a row as its type. `T`'s layout was compared with the table's.
    #[inline]
    pub fn row<T: PongoRecord>(&self, row: RowId) -> Result<&T, ReadError> {
        let bytes = self.row_bytes(row)?;
        T::try_ref_from_bytes(bytes).map_err(|_| self.invalid::<T>(row))
    }

    /// Returns the bytes of a row, after validating it as [`row`](Self::row) does.
    ///
    /// # Errors
    /// As for [`row`](Self::row).
    #[inline]
    pub fn valid_row_bytes<T: PongoRecord>(&self, row: RowId) -> Result<&[u8], ReadError> {
        let bytes = self.row_bytes(row)?;
        T::try_ref_from_bytes(bytes).map_err(|_| self.invalid::<T>(row))?;
        Ok(bytes)
    }

    #[cold]
    fn invalid<T: PongoRecord>(&self, row: RowId) -> ReadError {
        ReadError::InvalidRow { table: self.core.schema.table.clone(), record: T::SCHEMA.record, row }
    }

    /// Returns a row as its type, and whether its chunk has marks, if that takes only a few
    /// instructions: the row is below the length and its block was verified before. `None` says
    /// nothing about the row; call [`row`](Self::row).
    #[inline]
    #[must_use]
    pub fn get_if_verified<T: PongoRecord>(&self, row: RowId) -> Option<(&T, bool)> {
        let size = size_of::<T>() as u64;
        if row.0 >= self.state.len || size != self.row_size {
            return None;
        }
        // SAFETY: as in `rows_bytes`: the row is below the length.
        let (bytes, marked) = unsafe { self.view.get_if_verified(row.0 * size, size) }?;
        Some((T::try_ref_from_bytes(bytes).ok()?, marked))
    }

    /// Returns rows as one contiguous slice `&[T]`.
    ///
    /// Validation costs nothing for a type without forbidden bit patterns. For other types, each
    /// block of 64 KiB is validated once per process.
    pub fn rows<T: PongoRecord>(&self, rows: Range<RowId>) -> Result<&[T], ReadError> {
        let size = self.core.row_size;
        if size_of::<T>() as u64 != size {
            return Err(self.invalid::<T>(rows.start));
        }
        let bytes = self.rows_bytes(rows.clone())?;
        let known = self.view.valid_blocks::<T>();
        if let Some(known) = known
            && known.all(rows.start.0 * size, rows.end.0 * size)
        {
            // SAFETY: this view validated as `T` every block in which a row of the range begins:
            // the bytes are valid and, being below the length, have not changed since.
            let slice = unsafe { crate::cast::slice_unchecked::<T>(bytes) };
            if let Some(slice) = slice {
                return Ok(slice);
            }
        }
        let slice = <[T]>::try_ref_from_bytes(bytes).map_err(|_| self.first_invalid::<T>(&rows))?;
        if let Some(known) = known {
            known.note(rows.start.0 * size, rows.end.0 * size, size);
        }
        Ok(slice)
    }

    #[cold]
    fn first_invalid<T: PongoRecord>(&self, rows: &Range<RowId>) -> ReadError {
        for row in rows.start.0..rows.end.0 {
            if let Err(error) = self.row::<T>(RowId(row)) {
                return error;
            }
        }
        self.invalid::<T>(rows.start)
    }

    /// Returns whether a row below the length is not deleted at this view's `Seq`.
    ///
    /// # Errors
    /// [`StorageError`] if the marks of its chunk are corrupt. They are compared with their
    /// checksum when they are first needed.
    #[inline]
    pub fn is_live(&self, row: RowId) -> Result<bool, StorageError> {
        Ok(self.deleted_at(row)?.is_none_or(|deleted_at| deleted_at > self.seq))
    }

    /// Returns whether the chunk of a row has no marks, so that no row in it was deleted or
    /// replaced another row. Costs a few instructions.
    #[inline]
    #[must_use]
    pub fn has_no_marks(&self, row: RowId) -> bool {
        self.view.marked_chunk_at(row.0.wrapping_mul(self.row_size)).is_none()
    }

    /// Returns the commit that deleted a row below the length, even if that commit is after this
    /// view.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    #[inline]
    pub fn deleted_at(&self, row: RowId) -> Result<Option<Seq>, StorageError> {
        match self.view.marked_chunk_at(row.0.wrapping_mul(self.core.row_size)) {
            None => Ok(None),
            Some(chunk) => Ok(self.core.marks_of(chunk)?.and_then(|marks| marks.deleted_at(row))),
        }
    }

    /// Maps and verifies the marks of all chunks. After this, reading the marks of any row cannot
    /// fail.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn load_marks(&self) -> Result<(), StorageError> {
        self.view.chunks.iter().try_for_each(|chunk| self.core.marks_of(chunk).map(|_| ()))
    }

    /// Follows the chain of previous rows from a candidate to the first row that this view can see,
    /// which is below the length. The candidate comes from an index and may be newer than this view
    /// or invalid. The result says nothing about the row's key or whether it is deleted.
    #[inline]
    pub fn resolve(&self, candidate: RowId) -> Result<Option<RowId>, StorageError> {
        if candidate.0 < self.state.len {
            return Ok(Some(candidate));
        }
        self.resolve_above(candidate)
    }

    #[cold]
    fn resolve_above(&self, mut candidate: RowId) -> Result<Option<RowId>, StorageError> {
        // `previous` is always lower, so the loop ends.
        while candidate.0 >= self.state.len {
            match self.core.previous_above(candidate)? {
                Some(previous) => candidate = previous,
                None => return Ok(None),
            }
        }
        Ok(Some(candidate))
    }

    /// Works like [`resolve`](Self::resolve), but follows at most `versions` previous rows.
    ///
    /// # Errors
    /// [`StorageError`] if marks are corrupt.
    #[inline]
    pub fn resolve_near(&self, candidate: RowId, versions: usize) -> Result<Resolved, StorageError> {
        if candidate.0 < self.state.len {
            return Ok(Resolved::Row(candidate));
        }
        self.resolve_near_above(candidate, versions)
    }

    #[cold]
    fn resolve_near_above(&self, mut candidate: RowId, versions: usize) -> Result<Resolved, StorageError> {
        for _ in 0..versions {
            match self.core.previous_above(candidate)? {
                Some(previous) if previous.0 < self.state.len => return Ok(Resolved::Row(previous)),
                Some(previous) => candidate = previous,
                None => return Ok(Resolved::Nothing),
            }
        }
        Ok(Resolved::Far)
    }

    /// Returns the row that a row below the length replaced.
    pub fn previous(&self, row: RowId) -> Result<Option<RowId>, StorageError> {
        self.core.previous_above(row)
    }

    /// Returns the next run of live rows at or after `from`: without a deleted row, and at most one
    /// chunk long.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run(&self, from: RowId) -> Result<Option<Range<RowId>>, StorageError> {
        self.next_run_in(from..RowId(self.state.len))
    }

    /// Returns the first run of live rows in a range, as [`next_run`](Self::next_run) does. Rows
    /// outside the range are not examined.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run_in(&self, rows: Range<RowId>) -> Result<Option<Range<RowId>>, StorageError> {
        self.next_run_at(rows, self.seq)
    }

    /// Returns the first run of rows in a range that were not deleted at or before commit `seq`.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run_at(&self, rows: Range<RowId>, seq: Seq) -> Result<Option<Range<RowId>>, StorageError> {
        let size = self.core.row_size;
        let mut start = rows.start.0;
        let last = rows.end.0.min(self.state.len);
        while start < last {
            let Some(chunk) = self.view.chunk_at(start * size) else { break };
            let end = chunk.end().div_ceil(size).min(last);
            let Some(marks) = self.core.marks_of(chunk)? else {
                return Ok(Some(RowId(start)..RowId(end)));
            };
            let deleted_at =
                |row: u64| marks.deleted_at(RowId(row)).is_some_and(|deleted_at| deleted_at <= seq);
            while start < end && deleted_at(start) {
                start += 1;
            }
            let mut stop = start;
            while stop < end && !deleted_at(stop) {
                stop += 1;
            }
            if start < stop {
                return Ok(Some(RowId(start)..RowId(stop)));
            }
        }
        Ok(None)
    }

    /// Compares the blocks that contain these rows with their checksums, even if that was done
    /// before. Rows written after the last checkpoint have no checksums yet.
    ///
    /// # Errors
    /// [`StorageError`] with the first block that differs.
    pub fn compare(&self, rows: Range<RowId>) -> Result<(), StorageError> {
        if rows.end.0 > self.state.len || rows.start > rows.end {
            return Err(self.beyond(&rows));
        }
        let size = self.core.row_size;
        // SAFETY: as in `rows_bytes`: the rows are below the length.
        unsafe { self.view.compare(rows.start.0 * size, (rows.end.0 - rows.start.0) * size) }
    }

    /// Reads the stored checksums of all blocks, so that no descriptor is needed to read a row
    /// until the next checkpoint.
    pub(crate) fn prepare_to_look(&self) -> Result<(), StorageError> {
        self.view.read_sums()
    }

    /// Returns the chunks in which rows below the length begin, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRows> + '_ {
        (0..).map_while(|place| self.chunk_rows(place)).filter(|chunk| chunk.rows.start < chunk.rows.end)
    }

    /// Returns the rows that begin in the chunk at an index in the view; `None` after the last
    /// chunk that has any.
    fn chunk_rows(&self, place: usize) -> Option<ChunkRows> {
        let chunk = self.view.chunks.get(place)?;
        let first = chunk.start.div_ceil(self.row_size);
        let end = chunk.end().div_ceil(self.row_size);
        if first >= self.state.len {
            return None;
        }
        let full = end <= self.state.len;
        // The last row may end in another chunk.
        let blocks_end = (end * self.row_size).next_multiple_of(BLOCK);
        Some(ChunkRows {
            place,
            id: chunk.id,
            rows: RowId(first)..RowId(end.min(self.state.len)),
            full,
            durable: full && blocks_end <= self.state.summed,
        })
    }

    /// Returns the chunk of an item that [`chunks`](Self::chunks) listed.
    pub(crate) fn chunk(&self, rows: &ChunkRows) -> Option<&Arc<Chunk>> {
        self.view.chunks.get(rows.place)
    }

    /// Returns the checksum of the checksums of the blocks that these rows touch, all below a
    /// durable checkpoint.
    pub(crate) fn sum_of_sums(&self, rows: Range<RowId>) -> Result<u64, StorageError> {
        self.view.sum_of_sums(rows.start.0 * self.row_size, rows.end.0 * self.row_size)
    }

    /// Returns the location of a row.
    #[must_use]
    pub fn locate(&self, row: RowId) -> Option<Location> {
        let at = row.0.checked_mul(self.core.row_size)?;
        if row.0 >= self.state.len {
            return None;
        }
        let chunk = self.view.chunk_at(at)?;
        Some(Location { chunk: chunk.id, offset: at - chunk.start })
    }

    /// Returns the row that begins at a location.
    #[must_use]
    pub fn row_at(&self, location: Location) -> Option<RowId> {
        let chunk = self.view.chunks.iter().find(|chunk| chunk.id == location.chunk)?;
        let at = chunk.start.checked_add(location.offset)?;
        let row = RowId(at / self.core.row_size);
        (location.offset < chunk.len && at % self.core.row_size == 0 && row.0 < self.state.len).then_some(row)
    }

    /// Prefetches a row into the processor's cache.
    #[inline]
    pub fn prefetch(&self, row: RowId) {
        self.view.prefetch(row.0.wrapping_mul(self.core.row_size));
    }
}

/// The result of [`TableView::resolve_near`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// This row.
    Row(RowId),
    /// No version is old enough for the view.
    Nothing,
    /// There are more versions than were followed.
    Far,
}

/// The rows of a view that begin in one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkRows {
    /// Index among the view's chunks.
    place: usize,
    /// The chunk.
    pub id: ChunkId,
    /// The rows below the view's length that begin in it, deleted ones included.
    pub rows: Range<RowId>,
    /// Whether no further row will ever begin in it.
    pub full: bool,
    /// Whether it is full and a durable checkpoint covers every byte of its rows: no crash can
    /// change them.
    pub durable: bool,
}

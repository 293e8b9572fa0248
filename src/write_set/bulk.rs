//! Rows that are written to the chunks before the commit: staged rows that would take too much
//! memory, rows of bulk loads and of `alloc`, and rows that are too large for the stack and for
//! holding many of them in memory. Large rows are never placed on the stack.

use pongo_core::engine::{EngineTransaction, NewRows};
use pongo_core::error::{ReadError, WriteError};
use pongo_core::ids::RowId;
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::rows::RowBuffer;

use crate::index::error::fault;
use crate::index::key_ranges::PREFETCH_DISTANCE;
use crate::index::unique::Unique;
use crate::write_set::key_map::{KeyLocation, PriorVersion, has_duplicates};
use crate::write_set::savepoint::WriteSetStep;
use crate::write_set::unique::UniqueValues;
use crate::write_set::{AnyTableWriteSet, TableWriteSet, hash_of, inner};

/// Number of bytes that a bulk load writes at a time.
pub(crate) const WRITE: usize = 1 << 20;

/// Appends the hashes of the unique values of rows.
fn hash_values(indexes: &[Unique], values: &mut [UniqueValues], rows: &[u8], size: usize) {
    for (unique, values) in indexes.iter().zip(values) {
        values.hashes.extend(rows.chunks_exact(size).map(|row| unique.ranges.hash(row)));
    }
}

impl<T: PongoRecord> TableWriteSet<T> {
    /// Marks the changes as incomplete until [`end_load`](Self::end_load).
    pub(crate) fn begin_load(&mut self) {
        self.loading = true;
    }

    pub(crate) fn end_load(&mut self) {
        self.loading = false;
    }

    /// Marks the changes as incomplete. The commit returns this error.
    pub(crate) fn refuse(&mut self, error: WriteError) {
        self.loading = true;
        self.refused = Some(error);
    }

    /// Returns the number of rows in the chunks.
    pub(crate) fn written(&self) -> usize {
        self.hashes.len()
    }

    /// Returns the number of rows in memory.
    pub(crate) fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Writes the staged rows to the chunks, so that rows appended after them are newer.
    pub(crate) fn write_staged(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        if self.staged.is_empty() { Ok(()) } else { self.write_all_staged(guard) }
    }

    /// Writes all staged rows. Not inlined, for the same reason as `unstage_to`.
    #[inline(never)]
    fn write_all_staged(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        self.resolve(guard)?;
        guard.append(&self.core, self.staged.bytes())?;
        let first = self.view.len() + self.hashes.len() as u64;
        self.hashes.extend(self.staged.iter().map(hash_of));
        self.hash_values_of_staged();
        // Rows are staged only after all written rows have been checked.
        self.checked = self.hashes.len();
        guard.note_row_memory(0, self.memory());
        let staged = std::mem::take(&mut self.staged);
        if self.steps.enabled {
            self.steps.push(WriteSetStep::Written(staged));
        }
        let number = |place: usize| RowId(first + place as u64);
        let (before, hashes) = (self.view.len(), &self.hashes);
        let keys = inner(&mut self.keys);
        keys.assign_rows(number, |row| hashes[(row.0 - before) as usize]);
        keys.resolved = self.hashes.len() as u64;
        self.unique_values.iter_mut().for_each(|unique_values| unique_values.assign_rows(number));
        Ok(())
    }

    pub(super) fn hash_values_of_staged(&mut self) {
        hash_values(&self.handle.unique, &mut self.unique_values, self.staged.bytes(), size_of::<T>());
    }

    /// Writes rows of a bulk load to the chunks, after the rows written before. `hashes` contains
    /// their key hashes and is emptied.
    pub(crate) fn write(
        &mut self,
        guard: &EngineTransaction,
        rows: &[u8],
        hashes: &mut Vec<u64>,
    ) -> Result<(), WriteError> {
        if rows.is_empty() {
            return Ok(());
        }
        guard.append(&self.core, rows)?;
        self.hashes.append(hashes);
        self.hash_values(rows);
        Ok(())
    }

    /// Adds rows that were filled in place to the written ones. If that fails, none of them is
    /// added.
    pub(crate) fn append_filled(&mut self, rows: &mut NewRows<'_, T>) -> Result<(), WriteError> {
        let before = self.hashes.len();
        self.hashes.extend(rows.iter().map(hash_of));
        self.hash_values(rows.bytes());
        if let Err(error) = rows.keep() {
            self.forget_written(before);
            return Err(error);
        }
        Ok(())
    }

    /// Appends the hashes of unique values of rows that follow the written ones.
    fn hash_values(&mut self, rows: &[u8]) {
        hash_values(&self.handle.unique, &mut self.unique_values, rows, size_of::<T>());
    }

    /// Discards the hashes of all written rows after the first `rows`.
    fn forget_written(&mut self, rows: usize) {
        self.hashes.truncate(rows);
        for unique_values in &mut self.unique_values {
            unique_values.hashes.truncate(rows);
        }
    }

    /// Returns the hashes of a row's unique values.
    fn value_hashes(&self, row: &[u8]) -> Vec<u64> {
        self.handle.unique.iter().map(|unique| unique.ranges.hash(row)).collect()
    }

    /// Records a row that was just appended, with a key that was found at `spot`. All written rows
    /// before it must be resolved, and none may be staged.
    fn note_appended(&mut self, spot: KeyLocation, hash: u64, unique: &[u64]) {
        let first = self.view.len();
        let row = RowId(first + self.hashes.len() as u64);
        self.hashes.push(hash);
        // The values are compared with all others when the next row is checked.
        for (unique_values, &hash) in self.unique_values.iter_mut().zip(unique) {
            unique_values.hashes.push(hash);
        }
        let hashes = &self.hashes;
        let keys = inner(&mut self.keys);
        keys.note_written(spot, hash, row, |row| hashes[(row.0 - first) as usize]);
        keys.resolved = hashes.len() as u64;
    }

    /// Writes a row with a key that was found at `spot`.
    pub(super) fn put_large(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        row: &T,
    ) -> Result<(), WriteError> {
        with_bytes(row, |row| {
            guard.append(&self.core, row)?;
            let unique = self.value_hashes(row);
            self.note_appended(spot, hash, &unique);
            Ok(())
        })
    }

    /// Changes a copy of the row at `spot`. The copy is made in the chunk file, at the place of the
    /// new row, or in memory if the row has padding.
    pub(super) fn update_large<R>(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let Some(before) = spot.written_row() else { return Ok(None) };
        self.ensure_complete()?;
        let Some(unpadded) = T::UNPADDED else {
            let mut copy = RowBuffer::new();
            copy.push(self.row(guard, before)?);
            let mut rows = copy.into_values();
            let result = self.change_copy(guard, spot, key, &mut rows[0], change)?;
            self.put_large(guard, spot, hash, &rows[0])?;
            return Ok(Some(result));
        };
        let mut rows = guard.alloc_copy::<T>(&self.core, before, unpadded)?;
        let result = self.change_copy(guard, spot, key, &mut rows[0], change)?;
        let unique = self.value_hashes(rows.bytes());
        rows.keep()?;
        drop(rows);
        self.note_appended(spot, hash, &unique);
        Ok(Some(result))
    }

    /// Does the same as [`resolve`](Self::resolve), for the last time. If the hashes show that the
    /// keys and unique values of the written rows are distinct, only rows from before the
    /// transaction are looked up, and no keys are recorded.
    pub(super) fn resolve_all(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        let keys = inner(&mut self.keys);
        let unresolved = keys.resolved as usize;
        let alone =
            keys.is_empty() && !has_duplicates(&self.hashes[unresolved..]) && self.all_values_distinct();
        if !alone {
            self.resolve(guard)?;
            return self.check_written(guard);
        }
        // In parts: a found pair takes three times the space of what is recorded from it.
        const PART: usize = 1 << 16;
        let rows = if self.view.is_empty() { 0 } else { self.hashes.len() };
        let mut found = Vec::new();
        for part in (0..rows).step_by(PART) {
            for place in part..rows.min(part + PART) {
                if let Some(&ahead) = self.hashes.get(place + PREFETCH_DISTANCE) {
                    self.handle.index.prefetch(ahead);
                }
                let (row, hash) = (RowId(self.view.len() + place as u64), self.hashes[place]);
                self.resolve_distinct(guard, row, hash, &mut found)?;
            }
            let keys = inner(&mut self.keys);
            for (row, base) in found.drain(..) {
                if let Some(base) = keys.mark_deleted(Some(base)) {
                    keys.previous.push((row, base.row));
                }
            }
        }
        inner(&mut self.keys).resolved = self.hashes.len() as u64;
        self.check_distinct(guard)
    }

    fn resolve_distinct(
        &self,
        guard: &EngineTransaction,
        row: RowId,
        hash: u64,
        found: &mut Vec<(RowId, PriorVersion)>,
    ) -> Result<(), ReadError> {
        let mut failed = None;
        let base = self.handle.index.find(hash, |candidate| {
            if candidate.row.0 >= self.view.len() {
                return None;
            }
            let same = self.view.row::<T>(candidate.row).and_then(|old| {
                let new = self.row(guard, row)?;
                let base = PriorVersion { row: candidate.row, alive: self.view.is_live(candidate.row)? };
                Ok((old.key_bytes() == new.key_bytes()).then_some(base))
            });
            match same {
                Ok(same) => same,
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        found.extend(base.map_err(|error| fault(&self.core, error))?.map(|base| (row, base)));
        Ok(())
    }
}

//! Rows that are too large for the stack and for holding many of them in memory. They are never
//! placed on the stack, and are written directly to the chunks instead of being staged in memory.

use pongo_core::engine::EngineTransaction;
use pongo_core::error::WriteError;
use pongo_core::ids::RowId;
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::rows::RowBuffer;

use crate::write_set::key_map::{KeyLocation, PendingChange, PriorVersion};
use crate::write_set::{TableWriteSet, inner};

/// Rows with more bytes than this are never staged.
const LARGE: usize = 64 << 10;

/// Returns whether rows of this type are written to the chunks one by one.
pub(crate) const fn is_large<T>() -> bool {
    size_of::<T>() > LARGE
}

impl<T: PongoRecord> TableWriteSet<T> {
    /// Returns the hashes of a row's unique values.
    fn value_hashes(&self, row: &[u8]) -> Vec<u64> {
        self.handle.unique.iter().map(|unique| unique.ranges.hash(row)).collect()
    }

    /// Returns an error if a changed copy of the row `before` must not replace it.
    fn check_changed(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        before: RowId,
        key: &T::KeyBytes,
        row: &T,
    ) -> Result<(), WriteError> {
        if row.key_bytes() != *key {
            let describe = |row: &T| with_bytes(row, |row| self.core.schema().describe_key(row));
            return Err(WriteError::KeyChanged {
                table: T::SCHEMA.table.to_owned(),
                before: describe(self.row(guard, before)?),
                after: describe(row),
            });
        }
        self.check_heap(guard, row)?;
        self.check_unique(guard, spot, row)
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
    pub(crate) fn put_large(
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
    pub(crate) fn update_large<R>(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let before = match spot {
            KeyLocation::Modified(PendingChange {
                base: Some(PriorVersion { row, alive: true }), ..
            })
            | KeyLocation::Bulk(row)
            | KeyLocation::Committed(PriorVersion { row, alive: true }) => row,
            KeyLocation::Modified(_) | KeyLocation::Committed(_) | KeyLocation::Absent => return Ok(None),
        };
        self.ensure_complete()?;
        let Some(unpadded) = T::UNPADDED else {
            let mut copy = RowBuffer::new();
            copy.push(self.row(guard, before)?);
            let mut rows = copy.into_values();
            let result = change(&mut rows[0]);
            self.check_changed(guard, spot, before, key, &rows[0])?;
            self.put_large(guard, spot, hash, &rows[0])?;
            return Ok(Some(result));
        };
        let mut rows = guard.alloc_copy::<T>(&self.core, before, unpadded)?;
        let result = change(&mut rows[0]);
        self.check_changed(guard, spot, before, key, &rows[0])?;
        let unique = self.value_hashes(rows.bytes());
        rows.keep()?;
        drop(rows);
        self.note_appended(spot, hash, &unique);
        Ok(Some(result))
    }
}

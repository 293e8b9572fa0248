//! Unique constraints in a transaction: no two live rows have the same unique value, whichever
//! program wrote them. A row without a value is in conflict with no row and is not recorded.
//!
//! A row that is put is compared at once with the applied rows, through the unique index, and with
//! the transaction's own rows ([`UniqueValues`]). Rows of a bulk load are compared when the next
//! row is put or at commit, with their values at that time: two rows of one load can exchange their
//! values.

use std::cell::OnceCell;

use hashbrown::HashTable;
use pongo_core::engine::EngineTransaction;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{ExternalKey, HeapRead};
use pongo_core::ids::RowId;
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::schema::describe_bytes;
use pongo_index::key_hash;
use zerocopy::FromBytes;

use crate::index::error::fault;
use crate::index::key_ranges::PREFETCH_DISTANCE;
use crate::index::unique::Unique;
use crate::write_set::key_map::{KeyLocation, PendingChange, Place, PriorVersion, Sharded, has_duplicates};
use crate::write_set::undo_log::UndoLog;
use crate::write_set::{TableWriteSet, inner};

/// A new row of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PendingRow {
    /// A row in memory, by its index among the staged rows.
    Staged(usize),
    /// A row in the table's chunks.
    Written(RowId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct UniqueEntry {
    hash: u64,
    row: PendingRow,
}

/// The values of one unique index among a transaction's rows.
#[derive(Debug, Default)]
pub(crate) struct UniqueValues {
    /// Number of the first written row.
    first: u64,
    /// Staged rows: hash of the value, index among the staged rows.
    staged: HashTable<(u64, usize)>,
    /// Written rows that are live and have been checked against the others.
    written: Sharded<Place>,
    /// Value hashes of all written rows, including those without a value. At commit those of the
    /// staged rows are appended.
    pub(super) hashes: Vec<u64>,
    /// Changes: the removed entry and the entry that replaced it.
    log: UndoLog<(Option<UniqueEntry>, Option<UniqueEntry>)>,
}

impl UniqueValues {
    /// Creates an empty set for a transaction whose first written row has this number.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.written.is_empty()
    }

    /// Returns the row whose value has this hash and satisfies `has_value`.
    pub(crate) fn find(
        &self,
        hash: u64,
        mut has_value: impl FnMut(PendingRow) -> bool,
    ) -> Option<PendingRow> {
        let staged =
            self.staged.find(hash, |&(known, place)| known == hash && has_value(PendingRow::Staged(place)));
        if let Some(&(_, place)) = staged {
            return Some(PendingRow::Staged(place));
        }
        let new = |place: &Place| PendingRow::Written(RowId(self.first + place.get()));
        let is = |place: &Place| self.hashes[place.get() as usize] == hash && has_value(new(place));
        self.written.find(hash, is).map(new)
    }

    /// Adds a row whose value no other row has.
    pub(crate) fn add(&mut self, hash: u64, row: PendingRow) {
        self.change(None, Some(UniqueEntry { hash, row }));
        if self.log.enabled {
            self.log.push((None, Some(UniqueEntry { hash, row })));
        }
    }

    /// Removes a row and its value. Does nothing if the row was not added.
    pub(crate) fn remove(&mut self, hash: u64, row: PendingRow) {
        let holder = UniqueEntry { hash, row };
        if self.take(holder) && self.log.enabled {
            self.log.push((Some(holder), None));
        }
    }

    /// Updates the index of a staged row after it moved.
    pub(crate) fn move_staged(&mut self, hash: u64, from: usize, to: usize) {
        self.remove(hash, PendingRow::Staged(from));
        self.add(hash, PendingRow::Staged(to));
    }

    /// Replaces all staged rows by the written rows that `number` assigns to them. Their hashes
    /// must have been added to `hashes` before.
    pub(crate) fn assign_rows(&mut self, number: impl Fn(usize) -> RowId) {
        for (hash, place) in std::mem::take(&mut self.staged) {
            let (before, now) = (PendingRow::Staged(place), PendingRow::Written(number(place)));
            self.change(None, Some(UniqueEntry { hash, row: now }));
            if self.log.enabled {
                self.log
                    .push((Some(UniqueEntry { hash, row: before }), Some(UniqueEntry { hash, row: now })));
            }
        }
    }

    /// Returns the hashes of all rows and clears everything else. No values can be checked
    /// afterwards.
    pub(crate) fn finish(&mut self) -> Vec<u64> {
        std::mem::take(self).hashes
    }

    fn take(&mut self, holder: UniqueEntry) -> bool {
        match holder.row {
            PendingRow::Staged(place) => {
                let entry = self.staged.find_entry(holder.hash, |known| *known == (holder.hash, place));
                entry.map(|entry| entry.remove()).is_ok()
            }
            PendingRow::Written(row) => {
                let first = self.first;
                self.written.remove(holder.hash, |known| first + known.get() == row.0)
            }
        }
    }

    fn change(&mut self, from: Option<UniqueEntry>, to: Option<UniqueEntry>) {
        if let Some(from) = from {
            self.take(from);
        }
        match to {
            Some(UniqueEntry { hash, row: PendingRow::Staged(place) }) => {
                self.staged.insert_unique(hash, (hash, place), |&(hash, _)| hash);
            }
            Some(UniqueEntry { hash, row: PendingRow::Written(row) }) => {
                let hashes = &self.hashes;
                let hash_of = |place: &Place| hashes[place.get() as usize];
                self.written.insert(hash, Place::new(row.0 - self.first), hash_of);
            }
            None => {}
        }
    }

    /// Returns a mark for [`rewind`](Self::rewind) and starts the undo log.
    pub(crate) fn mark(&mut self) -> usize {
        self.log.enable()
    }

    /// Undoes everything since a mark. The hashes of the first `written` rows are kept.
    pub(crate) fn rewind(&mut self, mark: usize, written: usize) {
        while let Some((before, now)) = self.log.pop_until(mark) {
            self.change(now, before);
        }
        self.hashes.truncate(written);
    }

    /// Clears the undo log. Called when no savepoint is left.
    pub(crate) fn forget_marks(&mut self) {
        self.log.clear();
    }
}

impl<T: PongoRecord> TableWriteSet<T> {
    fn unique(&self) -> &[Unique] {
        &self.handle.unique
    }

    /// Returns an error if a row to be put at `spot` has a unique value of another row.
    pub(crate) fn check_unique(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        row: &T,
    ) -> Result<(), WriteError> {
        if self.unique().is_empty() {
            return Ok(());
        }
        with_bytes(row, |row| self.check_unique_bytes(guard, spot, row))
    }

    fn check_unique_bytes(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        row: &[u8],
    ) -> Result<(), WriteError> {
        self.check_written(guard)?;
        match self.value(guard, spot)? {
            Some(before) => with_bytes(before, |before| self.check_values(guard, Some(before), row)),
            None => self.check_values(guard, None, row),
        }
    }

    /// Returns an error if another row has one of the unique values of `row`, which is to replace
    /// `before`.
    fn check_values(
        &self,
        guard: &EngineTransaction,
        before: Option<&[u8]>,
        row: &[u8],
    ) -> Result<(), WriteError> {
        for place in 0..self.unique().len() {
            let ranges = &self.unique()[place].ranges;
            if before.is_some_and(|before| ranges.same(before, row)) {
                continue;
            }
            let hash = ranges.hash(row);
            if !ranges.has_entry(hash) {
                continue;
            }
            if let Some(other) = self.find_conflict(guard, place, hash, row)? {
                return Err(self.not_unique(guard, place, row, other));
            }
        }
        Ok(())
    }

    /// Compares the rows of bulk loads that are still live with all other rows.
    pub(crate) fn check_written(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        if self.unique().is_empty() {
            return Ok(());
        }
        self.resolve(guard)?;
        self.mark_values_deleted();
        while self.checked < self.hashes.len() {
            let number = RowId(self.view.len() + self.checked as u64);
            if self.is_alive(guard, number)? {
                self.check_one(guard, number)?;
            }
            self.checked += 1;
        }
        Ok(())
    }

    fn check_one(&mut self, guard: &EngineTransaction, number: RowId) -> Result<(), WriteError> {
        let written = PendingRow::Written(number);
        for place in 0..self.unique().len() {
            let hash = self.unique_values[place].hashes[self.checked];
            if !self.unique()[place].ranges.has_entry(hash) {
                continue;
            }
            let row = self.row(guard, number)?;
            match with_bytes(row, |row| self.find_conflict(guard, place, hash, row))? {
                None => self.unique_values[place].add(hash, written),
                // The row was compared before, when another of its values was in conflict.
                Some(other) if other == written => {}
                Some(other) => {
                    return Err(with_bytes(row, |row| self.not_unique(guard, place, row, other)));
                }
            }
        }
        Ok(())
    }

    /// Removes the values of new rows that have been deleted since.
    fn mark_values_deleted(&mut self) {
        let keys = inner(&mut self.keys);
        for &row in &keys.deleted_rows[self.buried..] {
            if let Some(at) = row.0.checked_sub(self.view.len()) {
                for unique_values in &mut self.unique_values {
                    unique_values.remove(unique_values.hashes[at as usize], PendingRow::Written(row));
                }
            }
        }
        self.buried = keys.deleted_rows.len();
    }

    /// Returns the live row, new or applied, that has the same value as `row` in a unique index.
    fn find_conflict(
        &self,
        guard: &EngineTransaction,
        place: usize,
        hash: u64,
        row: &[u8],
    ) -> Result<Option<PendingRow>, ReadError> {
        let ranges = &self.unique()[place].ranges;
        let mut failed = None;
        let new = self.unique_values[place].find(hash, |new| match self.new_row(guard, new) {
            Ok(other) => with_bytes(other, |other| ranges.same(other, row)),
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if new.is_some() {
            return Ok(new);
        }
        match self.applied_with(place, hash, row)? {
            Some(other) if self.is_alive(guard, other)? => Ok(Some(PendingRow::Written(other))),
            _ => Ok(None),
        }
    }

    /// Returns the row from before this transaction that was live and had the same value.
    fn applied_with(&self, place: usize, hash: u64, row: &[u8]) -> Result<Option<RowId>, ReadError> {
        if self.view.is_empty() {
            return Ok(None);
        }
        let unique = &self.unique()[place];
        let mut failed = None;
        let found = unique.index.find(hash, |candidate| {
            let other = candidate.row;
            if other.0 >= self.view.len() {
                return None;
            }
            let alive = self
                .view
                .is_live(other)
                .and_then(|alive| self.view.row_bytes(other).map(|bytes| (alive, bytes)));
            match alive {
                Ok((false, _)) => None,
                Ok((true, bytes)) => unique.ranges.same(bytes, row).then_some(other),
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            }
        });
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(found.map_err(|error| fault(&self.core, error))?),
        }
    }

    fn new_row<'a>(&'a self, guard: &'a EngineTransaction, new: PendingRow) -> Result<&'a T, ReadError> {
        match new {
            PendingRow::Staged(place) => Ok(&self.staged[place]),
            PendingRow::Written(row) => self.row(guard, row),
        }
    }

    /// Returns whether a row that has a number is live from the transaction's point of view.
    fn is_alive(&self, guard: &EngineTransaction, row: RowId) -> Result<bool, ReadError> {
        let key = self.row(guard, row)?.key_bytes();
        let spot = self.locate(guard, &self.keys(), key_hash(key.as_ref()), &key)?;
        Ok(match spot {
            KeyLocation::Modified(PendingChange { staged: None, base: Some(base), .. })
            | KeyLocation::Committed(base) => base == PriorVersion { row, alive: true },
            KeyLocation::Bulk(newest) => newest == row,
            KeyLocation::Modified(_) | KeyLocation::Absent => false,
        })
    }

    /// Returns whether all unique values of bulk-loaded rows are distinct, judging by their hashes,
    /// and no value of another new row is recorded.
    pub(crate) fn all_values_distinct(&self) -> bool {
        let alone = |(unique, unique_values): (&Unique, &UniqueValues)| {
            let hashes = &unique_values.hashes[self.checked..];
            unique_values.is_empty() && !has_duplicates(&unique.ranges.with_entry(hashes))
        };
        self.unique().iter().zip(&self.unique_values).all(alone)
    }

    /// Checks the unique values at commit. Requires that
    /// [`all_values_distinct`](Self::all_values_distinct) returned `true` and all keys are
    /// distinct, so rows are only compared with rows from before the transaction.
    pub(crate) fn check_distinct(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        if self.view.is_empty() {
            return Ok(());
        }
        let keys = self.keys();
        let deleted = OnceCell::new();
        let dies = |row: RowId| {
            let sorted = deleted.get_or_init(|| {
                let mut deleted = keys.deleted_rows.clone();
                deleted.sort_unstable();
                deleted
            });
            sorted.binary_search(&row).is_ok()
        };
        for place in 0..self.unique().len() {
            let hashes = &self.unique_values[place].hashes;
            let ranges = &self.unique()[place].ranges;
            // Pairs are sorted by their new rows.
            let mut replaced = keys.previous.iter().peekable();
            for (at, &hash) in hashes.iter().enumerate() {
                if let Some(&ahead) = hashes.get(at + PREFETCH_DISTANCE) {
                    self.unique()[place].index.prefetch(ahead);
                }
                let number = RowId(self.view.len() + at as u64);
                while replaced.next_if(|&&(new, _)| new < number).is_some() {}
                let before = replaced.next_if(|&&(new, _)| new == number).map(|&(_, before)| before);
                if !ranges.has_entry(hash) {
                    continue;
                }
                let row = self.row(guard, number)?;
                match with_bytes(row, |row| self.applied_with(place, hash, row))? {
                    Some(other) if before != Some(other) && !dies(other) => {
                        let other = PendingRow::Written(other);
                        return Err(with_bytes(row, |row| self.not_unique(guard, place, row, other)));
                    }
                    _ => {}
                }
            }
        }
        drop(keys);
        self.checked = self.hashes.len();
        Ok(())
    }

    /// Calls a function for each unique value of a staged row, with the value's hash.
    #[inline]
    fn for_each_value_of_staged(&mut self, place: usize, mut f: impl FnMut(&mut UniqueValues, u64)) {
        let row = self.staged.row_bytes(place);
        for (unique, unique_values) in self.handle.unique.iter().zip(&mut self.unique_values) {
            let hash = unique.ranges.hash(row);
            if unique.ranges.has_entry(hash) {
                f(unique_values, hash);
            }
        }
    }

    /// Records the unique values of a row that was just staged.
    pub(crate) fn hold_staged(&mut self, place: usize) {
        self.for_each_value_of_staged(place, |values, hash| values.add(hash, PendingRow::Staged(place)));
    }

    /// Removes the unique values of a staged row before it is removed or replaced.
    pub(crate) fn drop_staged(&mut self, place: usize) {
        self.for_each_value_of_staged(place, |values, hash| values.remove(hash, PendingRow::Staged(place)));
    }

    /// Records that a staged row moved from one index among the staged rows to another.
    pub(crate) fn note_staged_moved(&mut self, from: usize, to: usize) {
        self.for_each_value_of_staged(to, |values, hash| values.move_staged(hash, from, to));
    }

    #[cold]
    fn not_unique(
        &self,
        guard: &EngineTransaction,
        place: usize,
        row: &[u8],
        other: PendingRow,
    ) -> WriteError {
        let schema = self.core.schema();
        let fields = &schema.indexes[self.unique()[place].place].fields;
        let existing_key = match self.new_row(guard, other) {
            Ok(other) => with_bytes(other, |other| self.describe_key(guard, other)),
            Err(error) => return error.into(),
        };
        WriteError::UniqueViolation {
            table: schema.table.clone(),
            index: schema.field_names(fields),
            value: schema.describe_fields(fields, row),
            existing_key,
            row: match other {
                PendingRow::Staged(_) => None,
                PendingRow::Written(row) => (row.0 < self.view.len()).then_some(row),
            },
        }
    }

    /// Formats a row's key for error messages.
    fn describe_key(&self, guard: &EngineTransaction, row: &[u8]) -> String {
        let schema = self.core.schema();
        let name =
            schema.external_key().and_then(|offset| row.get(offset..offset + size_of::<ExternalKey>()));
        let name = name.and_then(|bytes| ExternalKey::read_from_bytes(bytes).ok());
        let Some(name) = name.map(|name| name.blob()) else { return schema.describe_key(row) };
        if name.is_empty() {
            return describe_bytes(&[]);
        }
        match guard.read_heap(name.addr(), name.len(), name.content_hash()) {
            Ok(key) => describe_bytes(key),
            Err(_) => schema.describe_key(row),
        }
    }
}

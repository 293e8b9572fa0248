//! The unique values of a transaction's new rows.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

use crate::write_set::sharded::{Place, Sharded};
use crate::write_set::undo_log::UndoLog;

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
    /// Value hashes of all written rows. At commit those of the staged rows are appended.
    pub(crate) hashes: Vec<u64>,
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
        self.log.push(|| (None, Some(UniqueEntry { hash, row })));
    }

    /// Removes a row and its value. Does nothing if the row was not added.
    pub(crate) fn remove(&mut self, hash: u64, row: PendingRow) {
        let holder = UniqueEntry { hash, row };
        if self.take(holder) {
            self.log.push(|| (Some(holder), None));
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
            self.log.push(|| (Some(UniqueEntry { hash, row: before }), Some(UniqueEntry { hash, row: now })));
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

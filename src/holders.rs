//! Which of a transaction's new rows has which unique value.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

use crate::sharded::{Place, Sharded};
use crate::undo::Log;

/// A new row of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum New {
    /// In memory.
    Staged(usize),
    /// In the table's chunks.
    Written(RowId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holder {
    hash: u64,
    row: New,
}

/// The values of one unique index among a transaction's rows.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// The number of the first written row.
    first: u64,
    /// The staged rows.
    staged: HashTable<(u64, usize)>,
    /// The written rows that are alive and were compared with the others.
    written: Sharded<Place>,
    /// Hashes of the values of all written rows; in the end of the staged ones, too.
    pub(crate) hashes: Vec<u64>,
    /// What was there and what came in its place.
    log: Log<(Option<Holder>, Option<Holder>)>,
}

impl Holders {
    /// Of a transaction whose written rows begin with this number.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.written.is_empty()
    }

    /// The row whose value has this hash and satisfies `has_value`.
    pub(crate) fn find(&self, hash: u64, mut has_value: impl FnMut(New) -> bool) -> Option<New> {
        let staged = self.staged.find(hash, |&(known, place)| known == hash && has_value(New::Staged(place)));
        if let Some(&(_, place)) = staged {
            return Some(New::Staged(place));
        }
        let new = |place: &Place| New::Written(RowId(self.first + place.get()));
        let is = |place: &Place| self.hashes[place.get() as usize] == hash && has_value(new(place));
        self.written.find(hash, is).map(new)
    }

    /// A row has a value that no other has.
    pub(crate) fn add(&mut self, hash: u64, row: New) {
        self.change(None, Some(Holder { hash, row }));
        self.log.note(|| (None, Some(Holder { hash, row })));
    }

    /// A row has its value no more. Nothing, if it was not noted.
    pub(crate) fn remove(&mut self, hash: u64, row: New) {
        let holder = Holder { hash, row };
        if self.take(holder) {
            self.log.note(|| (Some(holder), None));
        }
    }

    /// A staged row has another place now.
    pub(crate) fn move_staged(&mut self, hash: u64, from: usize, to: usize) {
        self.remove(hash, New::Staged(from));
        self.add(hash, New::Staged(to));
    }

    /// The staged rows were written, to rows that `number` says, and their hashes are noted.
    pub(crate) fn settle(&mut self, number: impl Fn(usize) -> RowId) {
        for (hash, place) in std::mem::take(&mut self.staged) {
            let (before, now) = (New::Staged(place), New::Written(number(place)));
            self.change(None, Some(Holder { hash, row: now }));
            self.log.note(|| (Some(Holder { hash, row: before }), Some(Holder { hash, row: now })));
        }
    }

    /// Nobody compares values any more. The hashes of all rows.
    pub(crate) fn finish(&mut self) -> Vec<u64> {
        std::mem::take(self).hashes
    }

    fn take(&mut self, holder: Holder) -> bool {
        match holder.row {
            New::Staged(place) => {
                let entry = self.staged.find_entry(holder.hash, |known| *known == (holder.hash, place));
                entry.map(|entry| entry.remove()).is_ok()
            }
            New::Written(row) => {
                let first = self.first;
                self.written.remove(holder.hash, |known| first + known.get() == row.0)
            }
        }
    }

    fn change(&mut self, from: Option<Holder>, to: Option<Holder>) {
        if let Some(from) = from {
            self.take(from);
        }
        match to {
            Some(Holder { hash, row: New::Staged(place) }) => {
                self.staged.insert_unique(hash, (hash, place), |&(hash, _)| hash);
            }
            Some(Holder { hash, row: New::Written(row) }) => {
                let hashes = &self.hashes;
                let hash_of = |place: &Place| hashes[place.get() as usize];
                self.written.insert(hash, Place::new(row.0 - self.first), hash_of);
            }
            None => {}
        }
    }

    /// A place to come back to with [`rewind`](Self::rewind).
    pub(crate) fn mark(&mut self) -> usize {
        self.log.keep()
    }

    /// Takes back what was done since a mark; the first `written` of the written rows stay.
    pub(crate) fn rewind(&mut self, mark: usize, written: usize) {
        while let Some((before, now)) = self.log.pop_to(mark) {
            self.change(now, before);
        }
        self.hashes.truncate(written);
    }

    /// No mark is left.
    pub(crate) fn forget_marks(&mut self) {
        self.log.end();
    }
}

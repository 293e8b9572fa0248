//! Which of a transaction's new rows has which unique value.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

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
    /// The new rows that are alive and were compared with the others: staged ones always are.
    held: HashTable<Holder>,
    /// Hashes of the values of all written rows; in the end of the staged ones, too.
    pub(crate) hashes: Vec<u64>,
    /// What was there and what came in its place.
    log: Log<(Option<Holder>, Option<Holder>)>,
}

impl Holders {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The row whose value has this hash and satisfies `has_value`.
    pub(crate) fn find(&self, hash: u64, mut has_value: impl FnMut(New) -> bool) -> Option<New> {
        self.held.find(hash, |known| known.hash == hash && has_value(known.row)).map(|known| known.row)
    }

    /// A row has a value that no other has.
    pub(crate) fn add(&mut self, hash: u64, row: New) {
        self.change(None, Some(Holder { hash, row }));
        self.log.note(|| (None, Some(Holder { hash, row })));
    }

    /// A row has its value no more. Nothing, if it was not noted.
    pub(crate) fn remove(&mut self, hash: u64, row: New) {
        let holder = Holder { hash, row };
        if self.held.find(hash, |known| *known == holder).is_some() {
            self.change(Some(holder), None);
            self.log.note(|| (Some(holder), None));
        }
    }

    /// A staged row has another place now.
    pub(crate) fn move_staged(&mut self, hash: u64, from: usize, to: usize) {
        self.remove(hash, New::Staged(from));
        self.add(hash, New::Staged(to));
    }

    /// The staged rows were written, to rows that `number` says.
    pub(crate) fn settle(&mut self, number: impl Fn(usize) -> RowId) {
        let Self { held, log, .. } = self;
        for holder in held.iter_mut() {
            if let New::Staged(place) = holder.row {
                let before = std::mem::replace(&mut holder.row, New::Written(number(place)));
                log.note(|| (Some(Holder { row: before, ..*holder }), Some(*holder)));
            }
        }
    }

    fn change(&mut self, from: Option<Holder>, to: Option<Holder>) {
        if let Some(from) = from
            && let Ok(entry) = self.held.find_entry(from.hash, |known| *known == from)
        {
            entry.remove();
        }
        if let Some(to) = to {
            self.held.insert_unique(to.hash, to, |known| known.hash);
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

//! The changes of one transaction to one table, on top of the table's state before it ([`Own`]):
//! the remaining rows from before, and the transaction's own rows by key, all of them, and in index
//! order.
//!
//! An own row has the number that it would get if the transaction were committed now. Rows already
//! in the chunks keep their number; a row in memory can move when another row is deleted. Orders
//! over own rows ([`OwnOrder`]) are therefore hints, like those over committed rows: a pair is
//! valid only if its row exists and has its key.

use std::sync::{Arc, MutexGuard, PoisonError};

use pongo_core::engine::EngineTransaction;
use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_core::table::TableView;
use pongo_index::key_hash;
use pongo_index::ordered::Pairs;

use crate::ordered_index::{Limits, OrderedIndex, OwnRows, Passed, Recent};
use crate::write_set::TableWriteSet;
use crate::write_set::key_map::{KeyLocation, Keys, PendingChange};
use crate::write_set::own_order::OwnOrder;

/// The changes of a transaction to a table. All bulk-loaded rows have been compared with the others
/// before this is created.
pub(crate) struct Own<'s, T> {
    staging: &'s TableWriteSet<T>,
    guard: &'s EngineTransaction,
}

impl<T> Clone for Own<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Own<'_, T> {}

impl<'s, T: PongoRecord> Own<'s, T> {
    pub(crate) fn new(staging: &'s TableWriteSet<T>, guard: &'s EngineTransaction) -> Self {
        Self { staging, guard }
    }

    /// Returns the number of the first own row.
    fn first(&self) -> u64 {
        self.staging.view.len()
    }

    /// Returns the number of own rows, including superseded ones.
    pub(crate) fn count(&self) -> u64 {
        (self.staging.hashes.len() + self.staging.staged.len()) as u64
    }

    /// Returns the number of live rows of the table from the transaction's point of view.
    pub(crate) fn live(&self) -> u64 {
        self.staging.view.live() + self.count() - self.staging.keys().deleted_rows.len() as u64
    }

    /// Returns an own row by its number.
    pub(crate) fn row(&self, row: RowId) -> Result<&'s T, ReadError> {
        self.staging.own_row(self.guard, row)
    }

    /// Returns whether the transaction replaced or deleted a row from before that was live.
    fn hides(&self, keys: &Keys, value: &T) -> Result<bool, ReadError> {
        if keys.is_empty() {
            return Ok(false);
        }
        let key = value.key_bytes();
        Ok(self.staging.locate_own(self.guard, keys, key_hash(key.as_ref()), &key)?.is_some())
    }

    /// Returns whether an own row in the chunks is the newest version of its key.
    fn is_live(&self, keys: &Keys, place: u64) -> bool {
        keys.has_written(self.staging.hashes[place as usize], RowId(self.first() + place))
    }

    /// Returns the row with a key.
    pub(crate) fn get(&self, key: &T::KeyBytes) -> Result<Option<(RowId, &'s T)>, ReadError> {
        let hash = key_hash(key.as_ref());
        let spot = self.staging.locate(self.guard, &self.staging.keys(), hash, key)?;
        let first_staged = self.first() + self.staging.hashes.len() as u64;
        let row = match spot {
            KeyLocation::Modified(PendingChange { staged: Some(place), .. }) => {
                RowId(first_staged + place as u64)
            }
            _ => match spot.written_row() {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        Ok(self.staging.value(self.guard, spot)?.map(|value| (row, value)))
    }

    /// Returns the first contiguous rows that the transaction did not change, or `None` if there
    /// are none.
    pub(crate) fn first_run(&self, rows: &[T]) -> Result<Option<std::ops::Range<usize>>, ReadError> {
        let keys = self.staging.keys();
        if keys.is_empty() {
            return Ok((!rows.is_empty()).then_some(0..rows.len()));
        }
        let mut start = 0;
        while start < rows.len() && self.hides(&keys, &rows[start])? {
            start += 1;
        }
        let mut end = start;
        while end < rows.len() && !self.hides(&keys, &rows[end])? {
            end += 1;
        }
        Ok((start < end).then_some(start..end))
    }

    /// Returns the next slice of live own rows from index `at` on, and advances `at`.
    pub(crate) fn next_slice(&self, at: &mut u64) -> Option<Result<(RowId, &'s [T]), ReadError>> {
        let (first, written) = (self.first(), self.staging.hashes.len() as u64);
        if *at < written {
            let keys = self.staging.keys();
            while *at < written && !self.is_live(&keys, *at) {
                *at += 1;
            }
            let from = *at;
            while *at < written && self.is_live(&keys, *at) {
                *at += 1;
            }
            if from < *at {
                let rows = RowId(first + from)..RowId(first + *at);
                let slice = self.guard.appended_slice(&self.staging.core, rows);
                return Some(slice.map(|slice| (RowId(first + from), slice)));
            }
        }
        let staged = self.staging.staged.get((*at - written) as usize..).filter(|rows| !rows.is_empty())?;
        let from = RowId(first + *at);
        *at += staged.len() as u64;
        Some(Ok((from, staged)))
    }

    fn orders(&self) -> MutexGuard<'s, Vec<OwnOrder>> {
        self.staging.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a function with the order of an index, which is created if it does not exist.
    fn with_order<R>(&self, index: &OrderedIndex, then: impl FnOnce(&mut OwnOrder) -> R) -> R {
        let mut orders = self.orders();
        if let Some(order) = orders.iter_mut().find(|order| order.fields == index.fields()) {
            return then(order);
        }
        orders.push(OwnOrder::new(index.fields().to_vec()));
        let last = orders.len() - 1;
        then(&mut orders[last])
    }

    fn key(&self, index: &OrderedIndex, row: RowId, out: &mut Vec<u8>) -> Result<(), ReadError> {
        out.clear();
        index.keys().put(T::SCHEMA.table, self.row_bytes(row)?, self.guard, out)
    }

    /// Returns whether a pair is valid: its row is a live own row with this key.
    fn counts(
        &self,
        keys: &Keys,
        index: &OrderedIndex,
        (key, row): (&[u8], RowId),
        found: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let Some(place) = row.0.checked_sub(self.first()).filter(|place| *place < self.count()) else {
            return Ok(false);
        };
        if place < self.staging.hashes.len() as u64 && !self.is_live(keys, place) {
            return Ok(false);
        }
        self.key(index, row, found)?;
        Ok(found == key)
    }

    /// Updates the order to include all current rows.
    fn refresh(&self, index: &OrderedIndex, order: &mut OwnOrder) -> Result<(), ReadError> {
        let keys = self.staging.keys();
        let (first, written, count) = (self.first(), self.staging.hashes.len() as u64, self.count());
        order.note_count(count);
        let mut found = Vec::new();
        let mut pending = std::mem::take(&mut order.pending);
        pending.sort_unstable();
        pending.dedup();
        pending.retain(|place| *place < order.upto);
        let new = pending.iter().copied().chain(order.upto..count);
        let mut pairs = Pairs::new();
        for place in new.filter(|place| *place >= written || self.is_live(&keys, *place)) {
            let row = RowId(first + place);
            self.key(index, row, &mut found)?;
            pairs.push(&found, row).map_err(|error| index.fault(error))?;
        }
        order.upto = count;
        for (run, part) in &mut order.runs {
            while part.start < part.end && !self.counts(&keys, index, run.pair(part.start), &mut found)? {
                part.start += 1;
            }
            while part.start < part.end && !self.counts(&keys, index, run.pair(part.end - 1), &mut found)? {
                part.end -= 1;
            }
        }
        order.runs.retain(|(_, part)| part.start < part.end);
        if pairs.is_empty() {
            return Ok(());
        }
        let mut new = distinct(index, pairs)?;
        // Merge runs that are shorter than twice the new run. The total number of pairs sorted
        // again is then only a few times the number of new pairs.
        while let Some((last, part)) = order.runs.pop_if(|(_, part)| part.len() < 2 * new.len()) {
            let mut pairs = Pairs::new();
            for place in part {
                let pair = last.pair(place);
                if self.counts(&keys, index, pair, &mut found)? {
                    pairs.push(pair.0, pair.1).map_err(|error| index.fault(error))?;
                }
            }
            for place in 0..new.len() {
                let pair = new.pair(place);
                pairs.push(pair.0, pair.1).map_err(|error| index.fault(error))?;
            }
            new = distinct(index, pairs)?;
        }
        let all = 0..new.len();
        order.runs.push((Arc::new(new), all));
        Ok(())
    }
}

/// Sorts pairs and removes duplicates. A row that was changed and changed back occurs twice.
fn distinct(index: &OrderedIndex, pairs: Pairs) -> Result<Recent, ReadError> {
    let sorted = Recent::of(pairs.sort());
    if (1..sorted.len()).all(|place| sorted.pair(place - 1) != sorted.pair(place)) {
        return Ok(sorted);
    }
    let mut pairs = Pairs::new();
    for place in 0..sorted.len() {
        let pair = sorted.pair(place);
        if place == 0 || sorted.pair(place - 1) != pair {
            pairs.push(pair.0, pair.1).map_err(|error| index.fault(error))?;
        }
    }
    Ok(Recent::of(pairs.sort()))
}

impl<T: PongoRecord> OwnRows for Own<'_, T> {
    fn retain(&self, view: &TableView, rows: &mut Vec<RowId>) {
        let keys = self.staging.keys();
        if keys.is_empty() {
            return;
        }
        // A row that cannot be read is kept, so that reading it returns the error.
        rows.retain(|&row| {
            let hidden = view.row::<T>(row).and_then(|value| self.hides(&keys, value));
            !hidden.unwrap_or(false)
        });
    }

    fn is_own(&self, index: &OrderedIndex, key: &[u8], row: RowId) -> bool {
        self.counts(&self.staging.keys(), index, (key, row), &mut Vec::new()).unwrap_or(true)
    }

    fn row_bytes(&self, row: RowId) -> Result<&[u8], ReadError> {
        self.staging.own_row_bytes(self.guard, row)
    }

    fn runs(&self, index: &OrderedIndex) -> Result<Vec<Arc<Recent>>, ReadError> {
        self.with_order(index, |order| {
            self.refresh(index, order)?;
            Ok(order.runs.iter().map(|(run, _)| Arc::clone(run)).collect())
        })
    }

    fn passed(&self, index: &OrderedIndex, forward: bool) -> Option<Passed> {
        self.with_order(index, |order| order.passed[usize::from(forward)].clone())
    }

    fn note_passed(&self, index: &OrderedIndex, forward: bool, passed: Passed) {
        self.with_order(index, |order| order.passed[usize::from(forward)] = Some(passed));
    }
}

/// A transaction's own rows at the time of the query, by their keys, which do not change when rows
/// move.
pub(crate) struct OwnKeys<T: PongoRecord> {
    /// Their order, if they were queried in the order of an index: the row numbers are indexes into
    /// `keys`.
    pairs: Option<Recent>,
    at: usize,
    keys: Vec<T::KeyBytes>,
}

impl<T: PongoRecord> OwnKeys<T> {
    /// Creates an unordered list of all own rows.
    pub(crate) fn all(own: Own<'_, T>) -> Result<Self, ReadError> {
        let (mut keys, mut at) = (Vec::new(), 0);
        while let Some(slice) = own.next_slice(&mut at) {
            keys.extend(slice?.1.iter().map(PongoRecord::key_bytes));
        }
        Ok(Self { pairs: None, at: 0, keys })
    }

    /// Creates a list of the rows whose pairs are within limits, in the order of an index. Costs
    /// the own rows added since the index was last queried, and the rows within the limits.
    pub(crate) fn within(own: Own<'_, T>, index: &OrderedIndex, limits: &Limits) -> Result<Self, ReadError> {
        let (mut found, mut buffer) = (Vec::new(), Vec::new());
        let runs = own.runs(index)?;
        let known = own.staging.keys();
        for run in &runs {
            for place in run.first_admitted(|key, row| limits.start_admits(key, row))..run.len() {
                let pair = run.pair(place);
                if !limits.end_admits(pair.0, pair.1) {
                    break;
                }
                if limits.contain(pair.0, pair.1) && own.counts(&known, index, pair, &mut buffer)? {
                    found.push(pair);
                }
            }
        }
        // A row that was changed and changed back is in two runs.
        found.sort_unstable();
        found.dedup();
        let (mut pairs, mut keys) = (Pairs::new(), Vec::with_capacity(found.len()));
        for (key, row) in found {
            pairs.push(key, RowId(keys.len() as u64)).map_err(|error| index.fault(error))?;
            keys.push(own.row(row)?.key_bytes());
        }
        Ok(Self { pairs: Some(Recent::of(pairs.sort())), at: 0, keys })
    }

    /// Returns the index key of the next row.
    pub(crate) fn peek(&self) -> Option<&[u8]> {
        let pairs = self.pairs.as_ref().filter(|pairs| self.at < pairs.len())?;
        Some(pairs.pair(self.at).0)
    }

    /// Returns the table key of the next row.
    pub(crate) fn next(&mut self) -> Option<T::KeyBytes> {
        let place = match &self.pairs {
            Some(pairs) if self.at < pairs.len() => pairs.pair(self.at).1.0 as usize,
            Some(_) => return None,
            None => self.at,
        };
        let key = self.keys.get(place).copied()?;
        self.at += 1;
        Some(key)
    }
}

//! Changes to many rows of a write transaction, in the order of an index: by a range of the key
//! ([`TableMut::modify`], [`delete_range`](TableMut::delete_range), [`retain`](TableMut::retain),
//! [`extract_if`](TableMut::extract_if), [`pop_first`](TableMut::pop_first)) or of another index
//! ([`IndexViewMut`]).
//!
//! All of them act on the rows that exist when they are called, never on their own output.
//! Committed rows are visited in the index as it was before the transaction, which changes do not
//! modify. The transaction's own rows are visited by a list of their keys that is created first
//! ([`Visit`]).

use core::fmt;
use core::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pongo_core::error::{ReadError, StorageError, WriteError};
use pongo_core::ids::RowId;
use pongo_core::padding::with_bytes;
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::search::{IndexColumns, ValueBounds};
use pongo_core::table::TableView;
use pongo_index::key_hash;

use crate::keys::{External, InRow, KeyBytes, Keys, external_key, table_name};
use crate::ordered_index::{Limits, OrderedIndex, Stream};
use crate::table::index_view::fields_of;
use crate::table::range::Range;
use crate::table_mut::TableMut;
use crate::write_set::key_map::{KeyLocation, PriorVersion};
use crate::write_set::own::{Own, OwnKeys};

/// The rows of a table as they were when this was created, for changing them one after the other.
pub(super) struct Visit<'t, T, K: Keys<T>> {
    view: &'t TableView,
    base: BaseRows<'t>,
    /// The next committed row, and its key in the index.
    next: Option<(RowId, Vec<u8>)>,
    own: OwnKeys<K::Row>,
}

/// A row that still exists: its location, the hash of its key, and its key.
type VisitedRow<T, K> = (KeyLocation, u64, KeyBytes<T, K>);

/// The committed rows, whether or not the transaction changed them.
enum BaseRows<'t> {
    /// Rows in the order of an index.
    Index(Box<Stream<'t>>, Arc<OrderedIndex>),
    /// All live rows, run by run: the rest of the current run.
    All(std::ops::Range<RowId>),
}

impl<'t, T, K: Keys<T>> Visit<'t, T, K> {
    /// Visits all rows, in unspecified order.
    pub(super) fn all(table: &TableMut<'t, T, K>) -> Result<Self, ReadError> {
        let (staging, guard) = (table.staging(), table.guard);
        staging.resolve(guard)?;
        let own = OwnKeys::all(Own::new(staging, guard))?;
        Ok(Self {
            view: guard.view(staging.core())?,
            base: BaseRows::All(RowId(0)..RowId(0)),
            next: None,
            own,
        })
    }

    /// Visits the rows within limits, in the order of an index.
    fn within(
        table: &TableMut<'t, T, K>,
        index: Arc<OrderedIndex>,
        limits: Limits,
    ) -> Result<Self, ReadError> {
        let (staging, guard) = (table.staging(), table.guard);
        staging.resolve(guard)?;
        let view = guard.view(staging.core())?;
        let own = OwnKeys::within(Own::new(staging, guard), &index, &limits)?;
        let source = table.tx.source();
        let (ordered, engine) = (&source.shared.ordered, &source.shared.engine);
        let base = Stream::new(ordered, engine, view, source.heap, Arc::clone(&index), limits, None);
        Ok(Self { view, base: BaseRows::Index(Box::new(base), index), next: None, own })
    }

    /// Returns the next row that still exists.
    fn next(&mut self, table: &TableMut<'t, T, K>) -> Result<Option<VisitedRow<T, K>>, ReadError> {
        loop {
            if self.next.is_none() {
                self.next = self.next_base(table)?;
            }
            let base_first = match (&self.next, self.own.peek()) {
                (Some((_, key)), Some(own)) => &key[..] <= own,
                (next, _) => next.is_some(),
            };
            if base_first {
                let Some((row, _)) = self.next.take() else { return Ok(None) };
                let key = self.view.row::<K::Row>(row)?.key_bytes();
                return Ok(Some((
                    KeyLocation::Committed(PriorVersion { row, alive: true }),
                    key_hash(key.as_ref()),
                    key,
                )));
            }
            let Some(key) = self.own.next() else { return Ok(None) };
            let hash = key_hash(key.as_ref());
            let spot = table.spot(hash, &key)?;
            if table.row(spot)?.is_some() {
                return Ok(Some((spot, hash, key)));
            }
        }
    }

    /// Returns the next committed row that the transaction has not changed, with its key in the
    /// index.
    fn next_base(&mut self, table: &TableMut<'t, T, K>) -> Result<Option<(RowId, Vec<u8>)>, ReadError> {
        let own = Own::new(table.staging(), table.guard);
        loop {
            let row = match &mut self.base {
                BaseRows::Index(stream, _) => stream.next()?,
                BaseRows::All(run) => {
                    if run.is_empty() {
                        *run = self.view.next_run(run.end)?.unwrap_or(run.end..run.end);
                    }
                    let row = run.start;
                    (!run.is_empty()).then(|| {
                        run.start = row.next();
                        row
                    })
                }
            };
            let Some(row) = row else { return Ok(None) };
            let value = self.view.row::<K::Row>(row)?;
            if own.first_run(std::slice::from_ref(value))?.is_none() {
                continue;
            }
            let mut key = Vec::new();
            if let BaseRows::Index(_, index) = &self.base
                && self.own.peek().is_some()
            {
                with_bytes(value, |value| {
                    index.keys().put(table_name::<T, K>(), value, table.guard, &mut key)
                })?;
            }
            return Ok(Some((row, key)));
        }
    }
}

/// Runs the caller's code in the middle of a multi-row change. If the code panics, the flag remains
/// set and marks the change as incomplete.
fn interrupted<R>(flag: &AtomicBool, code: impl FnOnce() -> R) -> R {
    flag.store(true, Ordering::Relaxed);
    let result = code();
    flag.store(false, Ordering::Relaxed);
    result
}

impl<'t, T, K: Keys<T>> TableMut<'t, T, K> {
    /// Visits the rows whose keys in an index are within bounds on values.
    pub(super) fn visit(
        &self,
        fields: &[usize],
        start: Bound<Vec<u8>>,
        end: Bound<Vec<u8>>,
    ) -> Result<Option<Visit<'t, T, K>>, ReadError> {
        let index = self.index(fields)?;
        match index.keys().limits(start, end) {
            Some(limits) => Visit::within(self, index, limits).map(Some),
            None => Ok(None),
        }
    }

    fn index(&self, fields: &[usize]) -> Result<Arc<OrderedIndex>, ReadError> {
        let (core, ordered) = (self.staging().core(), &self.tx.source().shared.ordered);
        // A table that may never be committed is visible to this transaction only, so its index is
        // not added to the shared list.
        let index_uncached = self.staging().view().is_empty();
        let index =
            if index_uncached { ordered.index_uncached(core, fields) } else { ordered.index(core, fields) };
        let fault = || StorageError::Limit {
            what: format!("table {} has a key that cannot be ordered", table_name::<T, K>()),
            limit: 0,
        };
        index.ok_or_else(|| fault().into())
    }

    pub(super) fn modify_visited<R>(
        &mut self,
        visit: Option<Visit<'t, T, K>>,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        self.staging().ensure_complete()?;
        let Some(mut visit) = visit else { return Ok(0) };
        let flag = self.staging().interrupted_flag();
        let mut changed = 0;
        while let Some((spot, hash, key)) = visit.next(self)? {
            // The result of `change` is dropped while the flag is set, because its `Drop` is the
            // caller's code too.
            let change = |row: &mut K::Row| interrupted(&flag, || drop(change(K::value_mut(row))));
            let result = self.update_found(spot, hash, &key, change)?;
            changed += u64::from(result.is_some());
        }
        Ok(changed)
    }

    pub(super) fn delete_visited(&mut self, visit: Option<Visit<'t, T, K>>) -> Result<u64, WriteError> {
        self.delete_visited_if(visit, None::<fn(&K::Row) -> Result<bool, ReadError>>)
    }

    pub(super) fn delete_visited_if(
        &mut self,
        visit: Option<Visit<'t, T, K>>,
        mut test: Option<impl FnMut(&K::Row) -> Result<bool, ReadError>>,
    ) -> Result<u64, WriteError> {
        self.staging().ensure_complete()?;
        let Some(mut visit) = visit else { return Ok(0) };
        let flag = self.staging().interrupted_flag();
        let mut deleted = 0;
        while let Some((spot, hash, _)) = visit.next(self)? {
            if let Some(test) = &mut test {
                let Some(row) = self.row(spot)? else { continue };
                if !interrupted(&flag, || test(row))? {
                    continue;
                }
            }
            self.delete_found(spot, hash);
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Deletes the next row for which `test` returns `true`, and returns a copy of it.
    fn extract_next(
        &mut self,
        visit: &mut Option<Visit<'t, T, K>>,
        mut test: impl FnMut(&K::Row) -> Result<bool, ReadError>,
    ) -> Result<Option<K::Taken>, WriteError> {
        self.staging().ensure_complete()?;
        let Some(visit) = visit else { return Ok(None) };
        let flag = self.staging().interrupted_flag();
        while let Some((spot, hash, _)) = visit.next(self)? {
            let Some(row) = self.row(spot)? else { continue };
            if interrupted(&flag, || test(row))? {
                let taken = K::taken(self.guard, row)?;
                self.delete_found(spot, hash);
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Deletes the first or last row of a range, and returns it.
    fn pop(
        &mut self,
        range: impl FnOnce(&Self) -> Result<Range<'_, T, K>, ReadError>,
        forward: bool,
    ) -> Result<Option<K::Taken>, WriteError> {
        let Some(row) = range(self)?.next_row(forward).transpose()? else { return Ok(None) };
        let (taken, key) = (K::taken(self.guard, row)?, row.key_bytes());
        self.delete_bytes(&key)?;
        Ok(Some(taken))
    }

    /// Removes and returns the row with the lowest key, or returns `None` if the table is empty.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "jobs")]
    /// # struct Job { #[pongo(key)] number: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut jobs = tx.table::<Job>()?;
    /// jobs.extend([3, 1, 2].map(|number| Job { number }))?;
    /// assert_eq!(jobs.pop_first()?.map(|job| job.number), Some(1));
    /// assert_eq!(jobs.pop_last()?.map(|job| job.number), Some(3));
    /// assert_eq!(jobs.len()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pop_first(&mut self) -> Result<Option<K::Taken>, WriteError> {
        self.pop(|table| table.reader()?.in_key_order(), true)
    }

    /// Removes and returns the row with the highest key, like [`pop_first`](Self::pop_first).
    ///
    /// # Errors
    /// As for [`pop_first`](Self::pop_first).
    pub fn pop_last(&mut self) -> Result<Option<K::Taken>, WriteError> {
        self.pop(|table| table.reader()?.in_key_order(), false)
    }

    /// Returns the index over a column, or over a tuple of columns, for changing rows.
    /// [`by`](Self::by) is for reading.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "jobs")]
    /// # struct Job { #[pongo(key)] number: u64, #[pongo(index)] due: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut jobs = tx.table::<Job>()?;
    /// jobs.extend((0..10).map(|number| Job { number, due: 100 - number }))?;
    /// assert_eq!(jobs.by_mut(Job::DUE).modify(95.., |job| job.due += 1000)?, 6);
    /// assert_eq!(jobs.by_mut(Job::DUE).delete_range(..93)?, 2);
    /// assert_eq!(jobs.by_mut(Job::DUE).pop_first()?.map(|job| job.number), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by_mut<C: IndexColumns<T>>(&mut self, columns: C) -> IndexViewMut<'_, 't, T, C, K> {
        IndexViewMut { table: self, columns }
    }
}

impl<'t, T: PongoRecord> TableMut<'t, T> {
    fn visit_keys(
        &self,
        bounds: &impl RangeBounds<T::Key>,
    ) -> Result<Option<Visit<'t, T, InRow>>, ReadError> {
        let raw = |key: &T::Key| T::encode_key(key).as_ref().to_vec();
        self.visit(T::SCHEMA.key, bounds.start_bound().map(raw), bounds.end_bound().map(raw))
    }

    /// Changes all rows whose keys are within bounds, in key order, as [`update`](Self::update)
    /// changes one. Visits the committed rows and those of this transaction, as they are at the
    /// call; rows that the change itself puts are not visited. Returns the number of changed rows.
    ///
    /// Costs a lookup and a copy per row, and the key and about 16 bytes of memory for each row
    /// that this transaction changed before.
    ///
    /// # Errors
    /// As for [`update`](Self::update), and [`ReadError`]s. Rows before the rejected one are changed
    /// then; a [savepoint](crate::WriteTransaction::savepoint) can undo that. After a panic in `change` that was caught, the transaction can only be
    /// aborted or rolled back to a savepoint: changes and the commit return
    /// [`WriteError::IncompleteChange`].
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// accounts.extend((0..100).map(|number| Account { number, cents: 500 }))?;
    /// assert_eq!(accounts.modify(10..20, |account| account.cents += 5)?, 10);
    /// assert_eq!(accounts.get(&19)?.map(|account| account.cents), Some(505));
    /// assert_eq!(accounts.delete_range(50..)?, 50);
    /// assert_eq!(accounts.len()?, 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modify<R>(
        &mut self,
        bounds: impl RangeBounds<T::Key>,
        change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.modify_visited(visit, change)
    }

    /// Deletes all rows whose keys are within bounds. Returns their number. Costs as much as
    /// [`modify`](Self::modify).
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn delete_range(&mut self, bounds: impl RangeBounds<T::Key>) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.delete_visited(visit)
    }

    /// Deletes all rows for which `keep` returns `false`, in unspecified order. Returns their
    /// number.
    ///
    /// Costs a scan, and a lookup for each row that is deleted or was put by this transaction.
    ///
    /// # Errors
    /// [`ReadError`]s. After a panic in `keep`, as for [`modify`](Self::modify).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "sessions")]
    /// # struct Session { #[pongo(key)] id: u64, seen: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut sessions = tx.table::<Session>()?;
    /// sessions.extend((0..10).map(|id| Session { id, seen: id * 10 }))?;
    /// assert_eq!(sessions.retain(|session| session.seen >= 70)?, 7);
    /// assert_eq!(sessions.len()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> Result<u64, WriteError> {
        let visit = Visit::all(self)?;
        self.delete_visited_if(Some(visit), Some(|row: &T| Ok(!keep(row))))
    }

    /// Deletes all rows whose keys are within bounds and for which `keep` returns `false`, in key
    /// order. Returns their number.
    ///
    /// # Errors
    /// As for [`retain`](Self::retain).
    pub fn retain_in(
        &mut self,
        bounds: impl RangeBounds<T::Key>,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.delete_visited_if(visit, Some(|row: &T| Ok(!keep(row))))
    }

    /// Removes and returns the rows whose keys are within bounds and for which `take` returns
    /// `true`, in key order. Each row is deleted when the iterator returns it; rows that are not
    /// requested from the iterator stay. Visits the rows that exist at the call.
    ///
    /// # Errors
    /// As for [`delete_range`](Self::delete_range), also as the last item. After a panic in `take`,
    /// as for [`modify`](Self::modify).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "jobs")]
    /// # struct Job { #[pongo(key)] number: u64, size: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut jobs = tx.table::<Job>()?;
    /// jobs.extend((0..10).map(|number| Job { number, size: number % 3 }))?;
    /// let two: Vec<Job> = jobs.extract_if(2.., |job| job.size == 0)?.take(2).collect::<Result<_, _>>()?;
    /// assert_eq!((two[0].number, two[1].number), (3, 6));
    /// assert!(jobs.contains(&9)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extract_if<P: FnMut(&T) -> bool>(
        &mut self,
        bounds: impl RangeBounds<T::Key>,
        take: P,
    ) -> Result<ExtractIf<'_, 't, T, P>, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        ExtractIf::new(self, visit, take)
    }
}

/// A table of a write transaction, accessed through one of its indexes. See [`TableMut::by_mut`].
pub struct IndexViewMut<'a, 't, T, C, K: Keys<T> = InRow> {
    table: &'a mut TableMut<'t, T, K>,
    columns: C,
}

impl<T, C: IndexColumns<T>, K: Keys<T>> fmt::Debug for IndexViewMut<'_, '_, T, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexViewMut")
            .field("table", &table_name::<T, K>())
            .field("columns", &self.columns.names())
            .finish()
    }
}

impl<'t, T, C: IndexColumns<T>, K: Keys<T>> IndexViewMut<'_, 't, T, C, K> {
    fn visit(&self, bounds: &impl ValueBounds<C::Value>) -> Result<Option<Visit<'t, T, K>>, ReadError> {
        let fields = fields_of::<T, K>(&self.columns)?;
        let (start, end) = bounds.value_bounds();
        self.table.visit(fields, start, end)
    }

    /// Changes all rows whose values are within bounds, in the order of the values, like
    /// [`TableMut::modify`]. A row is visited only once, even if the change moves it to another
    /// position in the range.
    ///
    /// # Errors
    /// As for [`TableMut::modify`], and [`ReadError::NoIndex`] if no index starts with these
    /// columns.
    pub fn modify<R>(
        self,
        bounds: impl ValueBounds<C::Value>,
        change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        let visit = self.visit(&bounds)?;
        self.table.modify_visited(visit, change)
    }

    /// Deletes all rows whose values are within bounds. Returns their number.
    ///
    /// # Errors
    /// As for [`modify`](Self::modify).
    pub fn delete_range(self, bounds: impl ValueBounds<C::Value>) -> Result<u64, WriteError> {
        let visit = self.visit(&bounds)?;
        self.table.delete_visited(visit)
    }

    /// Removes and returns the row with the lowest value, or returns `None` if the table is empty.
    ///
    /// # Errors
    /// As for [`modify`](Self::modify).
    pub fn pop_first(self) -> Result<Option<K::Taken>, WriteError> {
        self.table.pop(|table| table.reader()?.by(self.columns).all(), true)
    }

    /// Removes and returns the row with the highest value, like [`pop_first`](Self::pop_first).
    ///
    /// # Errors
    /// As for [`pop_first`](Self::pop_first).
    pub fn pop_last(self) -> Result<Option<K::Taken>, WriteError> {
        self.table.pop(|table| table.reader()?.by(self.columns).all(), false)
    }
}

impl<'a, 't, T: PongoRecord, C: IndexColumns<T>> IndexViewMut<'a, 't, T, C> {
    /// Removes and returns the rows whose values are within bounds and for which `take` returns
    /// `true`, in the order of the values, like [`TableMut::extract_if`].
    ///
    /// # Errors
    /// As for [`modify`](Self::modify).
    pub fn extract_if<P: FnMut(&T) -> bool>(
        self,
        bounds: impl ValueBounds<C::Value>,
        take: P,
    ) -> Result<ExtractIf<'a, 't, T, P>, WriteError> {
        let visit = self.visit(&bounds)?;
        ExtractIf::new(self.table, visit, take)
    }
}

impl<'a, 't, T: ExternalRecord, C: IndexColumns<T>> IndexViewMut<'a, 't, T, C, External<T::Row>> {
    /// Removes and returns the keys and values whose column values are within bounds and for which
    /// `take` returns `true`, in the order of the column values, like [`TableMut::extract_if`].
    ///
    /// # Errors
    /// As for [`modify`](Self::modify).
    pub fn extract_if<P: FnMut(&[u8], &T) -> bool>(
        self,
        bounds: impl ValueBounds<C::Value>,
        take: P,
    ) -> Result<ExternalExtractIf<'a, 't, T, P>, WriteError> {
        let visit = self.visit(&bounds)?;
        ExtractIf::new(self.table, visit, take)
    }
}

/// An iterator that removes rows from a table as it returns them. See [`TableMut::extract_if`].
#[must_use = "rows are taken out when they are asked for"]
pub struct ExtractIf<'a, 't, T, P, K: Keys<T> = InRow> {
    table: &'a mut TableMut<'t, T, K>,
    /// `None` after the last item or an error.
    visit: Option<Visit<'t, T, K>>,
    take: P,
}

/// An iterator that removes keys and values as it returns them. See
/// [`ExternalTableMut::extract_if`](crate::ExternalTableMut::extract_if).
pub type ExternalExtractIf<'a, 't, T, P> = ExtractIf<'a, 't, T, P, External<<T as ExternalRecord>::Row>>;
/// A table of a write transaction, accessed through one of its indexes. See [`TableMut::by_mut`].
pub type ExternalIndexViewMut<'a, 't, T, C> =
    IndexViewMut<'a, 't, T, C, External<<T as ExternalRecord>::Row>>;

impl<T, P, K: Keys<T>> fmt::Debug for ExtractIf<'_, '_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractIf").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

impl<'a, 't, T, P, K: Keys<T>> ExtractIf<'a, 't, T, P, K> {
    pub(super) fn new(
        table: &'a mut TableMut<'t, T, K>,
        visit: Option<Visit<'t, T, K>>,
        take: P,
    ) -> Result<Self, WriteError> {
        table.staging().ensure_complete()?;
        Ok(Self { table, visit, take })
    }

    /// Removes and returns the next row for which `test` returns `true`.
    fn next_if(
        &mut self,
        mut test: impl FnMut(&mut P, &K::Row) -> Result<bool, ReadError>,
    ) -> Option<Result<K::Taken, WriteError>> {
        let take = &mut self.take;
        let item = self.table.extract_next(&mut self.visit, |row| test(take, row)).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.visit = None;
        }
        item
    }
}

impl<T: PongoRecord, P: FnMut(&T) -> bool> Iterator for ExtractIf<'_, '_, T, P> {
    type Item = Result<T, WriteError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_if(|take, row| Ok(take(row)))
    }
}

impl<T: ExternalRecord, P: FnMut(&[u8], &T) -> bool> Iterator for ExtractIf<'_, '_, T, P, External<T::Row>> {
    type Item = Result<(Vec<u8>, T), WriteError>;

    fn next(&mut self) -> Option<Self::Item> {
        let heap = self.table.guard;
        self.next_if(|take, row| Ok(take(external_key::<T>(heap, row)?, T::value_of(row))))
    }
}

impl<'a, 't, T, P, K: Keys<T>> FusedIterator for ExtractIf<'a, 't, T, P, K> where Self: Iterator {}

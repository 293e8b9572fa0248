//! Rows in key order: ranges of a table's key and of its secondary indexes.

use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use pongo_core::error::{ReadError, StorageError};
use pongo_core::fields::{HeapError, HeapRead};
use pongo_core::ids::{HeapAddr, RowId};
use pongo_core::record::PongoRecord;
use pongo_core::search::KeyPrefix;
use pongo_core::table::TableView;

use crate::keys::{InRow, Keys, table_name};
use crate::ordered_index::{Limits, OrderedIndex, OwnRows, Pair, Stream};
use crate::shared::Source;
use crate::table::Table;
use crate::write_set::own::Own;

/// An iterator over rows of a [`Snapshot`](crate::Snapshot) or a write transaction in the order of
/// a key, from both ends. [`Table::range`], [`TableMut::range`](crate::TableMut::range) and
/// [`IndexView`](crate::IndexView) return it.
///
/// It returns exactly the rows of the snapshot, regardless of concurrent writes. Items are
/// `Result<&T, ReadError>`, with external keys `Result<(&[u8], &T), ReadError>`; an error is the
/// last item. A row costs about 10 ns if rows were written in key order; otherwise a cache miss,
/// several of which overlap. An external key is read from the heap twice: 0.3 µs per item if keys
/// were put in random order.
///
/// ```
/// use pongo::prelude::*;
///
/// # #[pongo::record]
/// # #[pongo(table = "trades")]
/// # struct Trade { #[pongo(key)] id: u64, price: f64 }
/// # let store = Store::in_memory()?;
/// # let tx = store.begin_write()?;
/// # tx.table::<Trade>()?.extend([5, 1, 4, 2, 3].map(|id| Trade { id, price: 0.5 }))?;
/// # tx.commit()?;
/// let snapshot = store.begin_read()?;
/// let trades = snapshot.table::<Trade>()?;
/// let ids = trades.range(2..5)?.map(|trade| Ok(trade?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()?;
/// assert_eq!(ids, [2, 3, 4]);
/// let last = trades.range(..)?.next_back().ok_or("there are some")??;
/// assert_eq!(last.id, 5);
///
/// // A page at a time: the cursor can be kept, sent, and used on a later snapshot.
/// let mut page = trades.range(..)?;
/// assert_eq!(page.by_ref().take(2).count(), 2);
/// let cursor = page.cursor()?.ok_or("two rows were given")?.to_bytes();
/// let rest = trades.range(..)?.start_after(&Cursor::from_bytes(&cursor).ok_or("as it was kept")?)?;
/// assert_eq!(rest.map(|trade| trade.map_or(0, |t| t.id)).collect::<Vec<_>>(), [3, 4, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Range<'s, T, K: Keys<T> = InRow> {
    /// `None` if the range is empty or has only the row in `one`.
    stream: Option<Stream<'s>>,
    one: Option<SingleRow<'s>>,
    /// Consecutive rows that were taken from the stream together.
    ready: std::slice::Iter<'s, K::Row>,
    /// The row numbers of that run.
    ready_run: std::ops::Range<RowId>,
    /// Identifies the index, for cursors.
    index: u64,
    /// The changes of the transaction that is read.
    own: Option<Own<'s, K::Row>>,
    heap: &'s (dyn HeapRead + Sync),
}

/// The single row found in a unique index, without access to the ordered index.
struct SingleRow<'s> {
    view: &'s TableView,
    index: Arc<OrderedIndex>,
    row: RowId,
    /// Whether the row was returned or left out, and from which end.
    given: Option<End>,
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Front,
    Back,
}

impl SingleRow<'_> {
    fn pair(&self) -> Result<Pair, ReadError> {
        let mut key = Vec::new();
        // The values of unique fields are stored in the row itself, so the heap is not needed.
        self.index.keys().put(
            &self.view.core().schema().table,
            self.view.row_bytes(self.row)?,
            &EmptyHeap,
            &mut key,
        )?;
        Ok(Pair { key, row: self.row })
    }
}

/// A heap without contents, for keys that are not stored in the heap.
struct EmptyHeap;

impl HeapRead for EmptyHeap {
    fn read_heap(&self, addr: HeapAddr, len: u32, _: u32) -> Result<&[u8], HeapError> {
        Err(HeapError::Outside { addr, len, end: HeapAddr(0) })
    }
}

impl<T, K: Keys<T>> core::fmt::Debug for Range<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Range").field("table", &table_name::<T, K>()).finish_non_exhaustive()
    }
}

/// The position of one row in the order of an index, from which a range can continue later, in
/// another snapshot or process.
///
/// It stays valid if the row is changed or deleted: the range continues with the same rows as if it
/// had not been.
///
/// In an index in which many rows have the same value, or none, these are in the order in which
/// they were last put; a changed row moves to their end. Within one write transaction the order of
/// such rows is not stable, because deleting one of the transaction's own rows moves another. Page
/// through them by the table's key, or use
/// [`TableMut::extract_if`](crate::TableMut::extract_if).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    index: u64,
    key: Vec<u8>,
    row: u64,
}

impl Cursor {
    /// Returns the cursor as bytes: 16 bytes, followed by those of the key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.index.to_le_bytes()[..], &self.row.to_le_bytes(), &self.key].concat()
    }

    /// Restores a cursor from [`to_bytes`](Self::to_bytes). Returns `None` if there are fewer than
    /// 16 bytes. Bytes that did not come from a cursor give an arbitrary position, or an error in
    /// [`Range::start_after`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, rest) = bytes.split_first_chunk()?;
        let (row, key) = rest.split_first_chunk()?;
        Some(Self { index: u64::from_le_bytes(*index), row: u64::from_le_bytes(*row), key: key.to_vec() })
    }
}

impl<'s, T, K: Keys<T>> Range<'s, T, K> {
    /// Creates an empty range of an index.
    pub(crate) fn empty(table: &Table<'s, T, K>, index: u64) -> Self {
        Self {
            stream: None,
            one: None,
            ready: [].iter(),
            ready_run: RowId(0)..RowId(0),
            index,
            own: None,
            heap: table.source().heap,
        }
    }

    /// Creates a range with the single row found in a unique index.
    pub(crate) fn one(
        table: &Table<'s, T, K>,
        view: &'s TableView,
        index: Arc<OrderedIndex>,
        row: RowId,
    ) -> Self {
        let empty = Self::empty(table, index.cursor_id());
        Self { one: Some(SingleRow { view, index, row, given: None }), ..empty }
    }

    fn new(table: &Table<'s, T, K>, view: &'s TableView, index: Arc<OrderedIndex>, limits: Limits) -> Self {
        let (id, own) = (index.cursor_id(), table.own());
        let Source { shared, heap } = table.source();
        let rows = own.map(|own| Box::new(own) as Box<dyn OwnRows + 's>);
        let stream = Some(Stream::new(&shared.ordered, &shared.engine, view, heap, index, limits, rows));
        Self { stream, own, ..Self::empty(table, id) }
    }

    /// Creates a range with the row found in a unique index, if any, and the transaction's own rows
    /// within limits.
    pub(crate) fn one_and_own(
        table: &Table<'s, T, K>,
        view: &'s TableView,
        index: &Arc<OrderedIndex>,
        row: Option<RowId>,
        limits: Limits,
    ) -> Self {
        let range = Self::new(table, view, Arc::clone(index), limits);
        let one = row.map(|row| SingleRow { view, index: Arc::clone(index), row, given: None });
        Self { stream: range.stream.map(Stream::own_only), one, ..range }
    }

    /// Returns whether no two rows can have this key in the index of this range.
    fn is_unique(&self, key: &[u8]) -> bool {
        let of_stream = self.stream.as_ref().map(Stream::index);
        let index = of_stream.or(self.one.as_ref().map(|one| &one.index));
        index.is_some_and(|index| {
            let (fields, schema) = (index.fields(), K::Row::SCHEMA);
            let mut unique = schema.indexes.iter().filter(|index| index.unique).map(|index| index.fields);
            fields == schema.key || (unique.any(|unique| fields == unique) && !index.keys().has_absent(key))
        })
    }

    /// Starts the range after a cursor: the cursor's row and all rows before it are skipped.
    ///
    /// # Errors
    /// [`ReadError::Cursor`] if the cursor belongs to another table or index.
    pub fn start_after(mut self, cursor: &Cursor) -> Result<Self, ReadError> {
        if cursor.index != self.index && (self.stream.is_some() || self.one.is_some()) {
            return Err(ReadError::Cursor { table: table_name::<T, K>() });
        }
        // If keys are unique, the cursor stands for any row with its key: a changed row has a new
        // row number.
        let row = if self.is_unique(&cursor.key) { u64::MAX - 1 } else { cursor.row };
        let pair = Pair { key: cursor.key.clone(), row: RowId(row) };
        if let Some(one) = self.one.as_mut().filter(|one| one.given.is_none())
            && one.pair()? <= pair
        {
            one.given = Some(End::Front);
        }
        if let Some(stream) = &mut self.stream {
            stream.start_after(pair);
        }
        Ok(self)
    }

    /// Returns the position of the row that [`next`](Iterator::next) returned last. Before the
    /// first row it is the cursor passed to [`start_after`](Self::start_after), or `None`.
    ///
    /// # Errors
    /// [`ReadError::Storage`] if the row can no longer be read.
    pub fn cursor(&self) -> Result<Option<Cursor>, ReadError> {
        let given = (!self.ready.as_slice().is_empty())
            .then(|| RowId(self.ready_run.end.0 - self.ready.len() as u64 - 1));
        let place = match (&self.stream, self.one_given(End::Front)) {
            (_, Some(one)) => Some(one.pair()?),
            (Some(stream), None) => stream.front_place_at(given)?,
            (None, None) => None,
        };
        Ok(place.map(|pair| Cursor { index: self.index, key: pair.key, row: pair.row.0 }))
    }

    /// Ends the range before a cursor, to page from the back. See
    /// [`cursor_back`](Self::cursor_back).
    ///
    /// # Errors
    /// As for [`start_after`](Self::start_after).
    pub fn end_before(mut self, cursor: &Cursor) -> Result<Self, ReadError> {
        if cursor.index != self.index && (self.stream.is_some() || self.one.is_some()) {
            return Err(ReadError::Cursor { table: table_name::<T, K>() });
        }
        let row = if self.is_unique(&cursor.key) { 0 } else { cursor.row };
        let pair = Pair { key: cursor.key.clone(), row: RowId(row) };
        if let Some(one) = self.one.as_mut().filter(|one| one.given.is_none())
            && one.pair()? >= pair
        {
            one.given = Some(End::Back);
        }
        if let Some(stream) = &mut self.stream {
            stream.end_before(pair);
        }
        Ok(self)
    }

    /// Returns the position of the row that [`next_back`](DoubleEndedIterator::next_back) returned
    /// last, or `None` before the first one.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..5).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let trades = snapshot.table::<Trade>()?;
    /// let mut page = trades.range(..)?; // the newest first, two at a time
    /// assert_eq!(page.next_back().transpose()?.map(|trade| trade.id), Some(4));
    /// assert_eq!(page.next_back().transpose()?.map(|trade| trade.id), Some(3));
    /// let cursor = page.cursor_back().ok_or("two rows were given")?;
    /// let mut rest = trades.range(..)?.end_before(&cursor)?;
    /// assert_eq!(rest.next_back().transpose()?.map(|trade| trade.id), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cursor_back(&self) -> Option<Cursor> {
        let pair = match self.one_given(End::Back) {
            // It was read a moment ago.
            Some(one) => one.pair().ok()?,
            None => self.stream.as_ref()?.back_place()?.clone(),
        };
        Some(Cursor { index: self.index, key: pair.key, row: pair.row.0 })
    }

    /// Returns the row of a unique index if it was returned or left out at this end. No other row
    /// has its value.
    fn one_given(&self, end: End) -> Option<&SingleRow<'s>> {
        self.one.as_ref().filter(|one| one.given == Some(end))
    }

    /// Returns the number of remaining rows. Checks the version marks of each row, but does not
    /// read its bytes if the index is up to date.
    ///
    /// # Errors
    /// As for the items.
    pub fn count_rows(mut self) -> Result<u64, ReadError> {
        self.unread();
        let mut rows = 0;
        while self.step(true)?.is_some() {
            rows += 1;
        }
        Ok(rows)
    }

    /// Returns an iterator over the same rows with their row numbers.
    #[must_use]
    pub fn entries(mut self) -> RangeEntries<'s, T, K> {
        self.unread();
        RangeEntries { range: self }
    }

    /// Takes a run of consecutive rows from the stream, if one is available, and returns its first
    /// row.
    fn take_run(&mut self) -> Option<&'s K::Row> {
        let stream = self.stream.as_mut()?;
        let run = stream.next_run()?;
        match stream.view().rows::<K::Row>(run.clone()) {
            Ok(rows) => {
                self.ready = rows.iter();
                self.ready_run = run;
                self.ready.next()
            }
            Err(_) => {
                // Read one by one instead, up to the damaged row.
                stream.unread(&run, run.end.0 - run.start.0);
                None
            }
        }
    }

    /// Returns the unused rows of the current run to the stream.
    fn unread(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.unread(&self.ready_run, self.ready.len() as u64);
        }
        self.ready = [].iter();
    }

    fn step(&mut self, forward: bool) -> Result<Option<RowId>, ReadError> {
        if let Some(one) = self.one.as_mut().filter(|one| one.given.is_none()) {
            one.given = Some(if forward { End::Front } else { End::Back });
            return Ok(Some(one.row));
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let row = if forward { stream.next() } else { stream.next_back() };
        if row.is_err() {
            stream.end();
        }
        row
    }

    fn entry(&mut self, forward: bool) -> Option<Result<(RowId, &'s K::Row), ReadError>> {
        let view = match (&self.stream, &self.one) {
            (Some(stream), _) => stream.view(),
            (None, Some(one)) => one.view,
            (None, None) => return None,
        };
        match self.step(forward) {
            Ok(None) => None,
            Ok(Some(row)) => {
                let value = match (view.get_if_verified::<K::Row>(row), &self.own) {
                    (Some((value, _)), _) => Ok(value),
                    (None, Some(own)) if row.0 >= view.len() => own.row(row),
                    (None, _) => view.row::<K::Row>(row),
                };
                if value.is_err()
                    && let Some(stream) = &mut self.stream
                {
                    stream.end();
                }
                Some(value.map(|value| (row, value)))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Returns the next row at one end. Only before the first item is requested.
    pub(crate) fn next_row(&mut self, forward: bool) -> Option<Result<&'s K::Row, ReadError>> {
        Some(self.entry(forward)?.map(|(_, row)| row))
    }

    /// Returns a row as an item. After an error the range is empty, and its cursors keep their
    /// positions: a range that continues from one does not start again at the first row.
    #[inline]
    fn item(&mut self, row: &'s K::Row) -> Result<K::Item<'s>, ReadError> {
        let item = K::item(self.heap, row);
        if item.is_err() {
            self.unread();
            if let Some(stream) = &mut self.stream {
                stream.end();
            }
        }
        item
    }
}

impl<'s, T, K: Keys<T>> Iterator for Range<'s, T, K> {
    type Item = Result<K::Item<'s>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.ready.next() {
            return Some(self.item(row));
        }
        if let Some(row) = self.take_run() {
            return Some(self.item(row));
        }
        let entry = self.entry(true)?;
        Some(entry.and_then(|(_, row)| self.item(row)))
    }
}

impl<T, K: Keys<T>> DoubleEndedIterator for Range<'_, T, K> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.unread();
        let entry = self.entry(false)?;
        Some(entry.and_then(|(_, row)| self.item(row)))
    }
}

impl<T, K: Keys<T>> FusedIterator for Range<'_, T, K> {}

/// An iterator over the rows of a range with their row numbers. See [`Range::entries`].
pub struct RangeEntries<'s, T, K: Keys<T> = InRow> {
    range: Range<'s, T, K>,
}

impl<T, K: Keys<T>> core::fmt::Debug for RangeEntries<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RangeEntries").field("range", &self.range).finish()
    }
}

impl<'s, T, K: Keys<T>> RangeEntries<'s, T, K> {
    fn step(&mut self, forward: bool) -> Option<Result<(RowId, K::Item<'s>), ReadError>> {
        let entry = self.range.entry(forward)?;
        Some(entry.and_then(|(number, row)| Ok((number, self.range.item(row)?))))
    }
}

impl<'s, T, K: Keys<T>> Iterator for RangeEntries<'s, T, K> {
    type Item = Result<(RowId, K::Item<'s>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl<T, K: Keys<T>> DoubleEndedIterator for RangeEntries<'_, T, K> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl<T, K: Keys<T>> FusedIterator for RangeEntries<'_, T, K> {}

/// A view of a table, and the index to read it through.
type IndexedView<'s> = (&'s TableView, Arc<OrderedIndex>);

impl<'s, T: PongoRecord> Table<'s, T> {
    /// Returns the rows whose keys are within bounds, in key order. Keys of several fields are
    /// compared field by field. A range whose start is after its end is empty.
    ///
    /// Costs a search in the index (a few microseconds), and per row the cost stated at [`Range`].
    /// The first range over many new rows sorts them or brings the index up to date: see
    /// [`Store::catch_up_indexes`](crate::Store::catch_up_indexes).
    ///
    /// # Errors
    /// [`ReadError::Storage`] if rows are damaged.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// use std::ops::Bound;
    ///
    /// # #[pongo::record]
    /// # #[pongo(table = "readings")]
    /// # struct Reading { #[pongo(key)] station: FixedStr<4>, #[pongo(key)] hour: u32, wind: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # let key = |name: &str| FixedStr::<4>::try_from(name);
    /// # for (station, hour) in [("KJFK", 7), ("KEWR", 9), ("KJFK", 2), ("KLGA", 1)] {
    /// #     tx.table::<Reading>()?.put(&Reading { station: key(station)?, hour, wind: 1.0 })?;
    /// # }
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let readings = snapshot.table::<Reading>()?; // of the key (station, hour)
    /// let jfk = key("KJFK")?;
    /// let hours = |range: pongo::Range<'_, Reading>| {
    ///     range.map(|reading| Ok(reading?.hour)).collect::<Result<Vec<_>, pongo::ReadError>>()
    /// };
    /// assert_eq!(hours(readings.range((jfk, 0)..=(jfk, 5))?)?, [2]);
    /// assert_eq!(hours(readings.range((Bound::Excluded((jfk, 2)), Bound::Unbounded))?)?, [7, 1]);
    /// assert_eq!(hours(readings.prefix((jfk,))?)?, [2, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, bounds: impl RangeBounds<T::Key>) -> Result<Range<'s, T>, ReadError> {
        let raw = |key: &T::Key| T::encode_key(key).as_ref().to_vec();
        self.range_of(T::SCHEMA.key, bounds.start_bound().map(raw), bounds.end_bound().map(raw))
    }

    /// Returns the rows whose keys start with a prefix, in key order. The prefix is a `&str` for a
    /// [`FixedStr`](crate::FixedStr), a `&[u8]` for a byte array or a [`Uuid`](crate::Uuid), or a
    /// tuple of the first fields for a key of several fields.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn prefix(&self, prefix: impl KeyPrefix<T::Key>) -> Result<Range<'s, T>, ReadError> {
        self.prefix_of(T::SCHEMA.key, &prefix)
    }

    /// Returns the number of rows whose keys are within bounds. Costs a few nanoseconds per row.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn count(&self, bounds: impl RangeBounds<T::Key>) -> Result<u64, ReadError> {
        self.range(bounds)?.count_rows()
    }
}

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    /// Returns the row with the lowest key.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn first(&self) -> Result<Option<K::Item<'s>>, ReadError> {
        self.in_key_order()?.next().transpose()
    }

    /// Returns the row with the highest key.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn last(&self) -> Result<Option<K::Item<'s>>, ReadError> {
        self.in_key_order()?.next_back().transpose()
    }

    /// Returns all rows in key order.
    pub(crate) fn in_key_order(&self) -> Result<Range<'s, T, K>, ReadError> {
        self.range_of(K::Row::SCHEMA.key, Bound::Unbounded, Bound::Unbounded)
    }

    /// Returns the rows of the key's index within limits.
    pub(crate) fn range_within(&self, limits: Limits) -> Result<Range<'s, T, K>, ReadError> {
        let Some((view, index)) = self.ordered(K::Row::SCHEMA.key)? else {
            return Ok(Range::empty(self, 0));
        };
        Ok(Range::new(self, view, index, limits))
    }

    /// Returns the rows of an index within bounds on values, given as bytes.
    pub(crate) fn range_of(
        &self,
        fields: &[usize],
        start: Bound<Vec<u8>>,
        end: Bound<Vec<u8>>,
    ) -> Result<Range<'s, T, K>, ReadError> {
        let Some((view, index)) = self.ordered(fields)? else { return Ok(Range::empty(self, 0)) };
        let Some(limits) = index.keys().limits(start, end) else {
            return Ok(Range::empty(self, index.cursor_id()));
        };
        Ok(Range::new(self, view, index, limits))
    }

    pub(crate) fn prefix_of<V>(
        &self,
        fields: &[usize],
        prefix: &impl KeyPrefix<V>,
    ) -> Result<Range<'s, T, K>, ReadError> {
        let mut raw = Vec::new();
        if !prefix.prefix(&mut raw) {
            return Ok(Range::empty(self, 0));
        }
        self.range_of(fields, Bound::Included(raw.clone()), Bound::Included(raw))
    }

    fn ordered(&self, fields: &[usize]) -> Result<Option<IndexedView<'s>>, ReadError> {
        let Some(view) = self.view() else { return Ok(None) };
        match self.ordered_index(view, fields) {
            Some(index) => Ok(Some((view, index))),
            // The derive macro rejects such a field in a key or an index.
            None => Err(StorageError::Limit {
                what: format!("table {} has a key that cannot be ordered", table_name::<T, K>()),
                limit: 0,
            }
            .into()),
        }
    }
}

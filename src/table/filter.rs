//! Filtered scans: [`Table::filter`] skips the chunks and zones in which no row can match and tests
//! the others row by row. [`pongo_core::zones`] describes the zone maps, [`Predicate`] the
//! conditions.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;
use std::vec;

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::predicate::{Predicate, Pruning};
use pongo_core::record::PongoRecord;
use pongo_core::table::{ChunkRows, TableView};
use pongo_core::zones::Zone;

use crate::keys::{InRow, KeyKind, Keys, table_name};
use crate::table::Table;
use crate::table::explain::Explain;
use crate::write_set::own::Own;

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    /// Returns an iterator over the rows that match a condition, in the order of
    /// [`rows`](Self::rows).
    ///
    /// A zone map stores the minimum and maximum of every number, time, `bool`, enum, `Uuid` and
    /// short fixed string, per chunk and per 64 KiB of a chunk. Zones in which the condition cannot
    /// hold are skipped, and rows of zones in which it always holds are not tested. So a condition
    /// on a field that rises with the rows, such as a time, costs only the matching rows.
    /// [`Filtered::explain`] reports what is skipped.
    ///
    /// The first filter on a chunk reads all its rows to build the zone map, at some nanoseconds
    /// per field and row, and stores the map next to the chunk for later filters and other
    /// processes.
    ///
    /// An item is an error if a block is damaged, as with [`slices`](Self::slices). Skipped rows
    /// are not verified.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "flights")]
    /// struct Flight {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     delay: Maybe<f32>,
    ///     carrier: FixedStr<2>,
    ///     month: u16,
    ///     _pad: [u8; 4],
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// tx.table::<Flight>()?.extend((0..1200u16).map(|i| Flight {
    ///     id: i.into(),
    ///     delay: if i % 7 == 0 { Maybe::none() } else { Maybe::some(f32::from(i % 100)) },
    ///     carrier: if i % 2 == 0 { "UA" } else { "AA" }.parse().unwrap_or_default(),
    ///     month: 1 + i / 100,
    ///     _pad: [0; 4],
    /// }))?;
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let flights = snapshot.table::<Flight>()?;
    /// let united = Flight::CARRIER.eq("UA".parse()?);
    /// let late = Flight::MONTH.between(6..=7).and(Flight::DELAY.gt(60.0)).and(united);
    /// for flight in flights.filter(&late) {
    ///     assert!(flight?.delay.to_option() > Some(60.0));
    /// }
    /// assert_eq!(flights.filter(&late).count(), 34);
    /// assert_eq!(flights.filter(Flight::DELAY.is_none()).count(), 172);
    /// // One commit: the rows are in key order.
    /// println!("{}", flights.filter(&late).explain()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Values of another type, and types that cannot be compared, are rejected at compile time:
    /// ```compile_fail
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "flights")]
    /// # struct Flight { #[pongo(key)] id: u64, tail: Text }
    /// let _ = Flight::TAIL.eq("N14228");
    /// ```
    pub fn filter<P: Predicate<T>>(&self, predicate: P) -> Filtered<'s, T, P, K> {
        let chunks: Vec<_> = self.view().map(|view| view.chunks().collect()).unwrap_or_default();
        let read = RowSource { view: self.view(), own: self.own(), heap: self.source().heap };
        Filtered { entries: FilteredEntries::new(read, predicate, chunks, Vec::new()) }
    }
}

/// Contiguous rows of one chunk that a filter must read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) rows: Range<RowId>,
    /// Whether each row must be tested. If not, all match.
    pub(crate) tested: bool,
}

/// What a filter reads: the rows `R` of a table.
pub(crate) struct RowSource<'s, R> {
    pub(crate) view: Option<&'s TableView>,
    /// The changes of the transaction in which the table is read.
    pub(crate) own: Option<Own<'s, R>>,
    pub(crate) heap: &'s (dyn HeapRead + Sync),
}

impl<R> Clone for RowSource<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for RowSource<'_, R> {}

/// Returns the rows of a chunk that can match.
pub(crate) fn spans_of<T, K: Keys<T>>(
    view: &TableView,
    chunk: &ChunkRows,
    predicate: &impl Predicate<T>,
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut add = |rows: Range<RowId>, verdict| {
        let rows = rows.start..rows.end.min(chunk.rows.end);
        let tested = match verdict {
            Pruning::None => return,
            Pruning::Some => true,
            Pruning::All => false,
        };
        match spans.last_mut() {
            _ if rows.start >= rows.end => {}
            Some(last) if last.tested == tested && last.rows.end == rows.start => last.rows.end = rows.end,
            _ => spans.push(Span { rows, tested }),
        }
    };
    let mut known = chunk.rows.start;
    if let Some(zones) = view.zones(chunk) {
        let prune = |mut zone: Zone<'_>| {
            zone.select_part(K::VALUE_OFFSET);
            predicate.prune(&zone)
        };
        match prune(zones.whole()) {
            Pruning::Some => zones.iter().for_each(|zone| add(zone.rows(), prune(zone))),
            verdict => add(zones.rows(), verdict),
        }
        known = zones.rows().end;
    }
    // Rows after the last complete zone.
    add(known..chunk.rows.end, Pruning::Some);
    spans
}

/// An iterator over runs of live rows in a range of row numbers.
pub(crate) struct Runs<'s, T> {
    view: Option<&'s TableView>,
    /// The changes of the transaction in which the table is read.
    own: Option<Own<'s, T>>,
    rows: Range<RowId>,
}

impl<T> Clone for Runs<'_, T> {
    fn clone(&self) -> Self {
        Self { view: self.view, own: self.own, rows: self.rows.clone() }
    }
}

impl<'s, T: PongoRecord> Runs<'s, T> {
    pub(crate) fn new(view: Option<&'s TableView>, own: Option<Own<'s, T>>, rows: Range<RowId>) -> Self {
        Self { view, own, rows }
    }
}

impl<'s, T: PongoRecord> Iterator for Runs<'s, T> {
    type Item = Result<(RowId, &'s [T]), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = self.view?;
        loop {
            let run = match view.next_run_in(self.rows.clone()) {
                Ok(run) => run?,
                Err(fault) => {
                    self.view = None;
                    return Some(Err(fault.into()));
                }
            };
            self.rows.start = run.end;
            let rows = view.rows(run.clone());
            let (Some(own), Ok(all)) = (&self.own, &rows) else {
                return Some(rows.map(|rows| (run.start, rows)));
            };
            match own.first_run(all) {
                Ok(Some(left)) => {
                    self.rows.start = RowId(run.start.0 + left.end as u64);
                    return Some(Ok((RowId(run.start.0 + left.start as u64), &all[left])));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// An iterator over the rows that match a condition: see [`Table::filter`].
#[must_use]
pub struct Filtered<'s, T, P, K: KeyKind<T> = InRow> {
    entries: FilteredEntries<'s, T, P, K>,
}

impl<T, P: Clone, K: KeyKind<T>> Clone for Filtered<'_, T, P, K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<'s, T, P: Predicate<T>, K: Keys<T>> Filtered<'s, T, P, K> {
    /// Returns the same rows with their row numbers, which are ascending.
    pub fn entries(self) -> FilteredEntries<'s, T, P, K> {
        self.entries
    }

    /// Returns the number of chunks, zones and rows, how many of them are skipped, and because of
    /// which conditions.
    ///
    /// Costs the same as the first filter on the table, or some microseconds per chunk once the
    /// zone maps exist.
    ///
    /// # Errors
    /// Returns [`ReadError::Storage`] if a chunk's rows are damaged, so that it has no zone map;
    /// the filter reads all of its rows.
    pub fn explain(&self) -> Result<Explain, ReadError> {
        let own = self.entries.runs.own.map_or(0, |own| own.count());
        Explain::new(self.entries.runs.view, own, K::VALUE_OFFSET, &self.entries.predicate)
    }

    #[cfg(feature = "rayon")]
    pub(crate) fn into_parts(self) -> (RowSource<'s, K::Row>, P) {
        let FilteredEntries { runs: Runs { view, own, .. }, heap, predicate, .. } = self.entries;
        (RowSource { view, own, heap }, predicate)
    }

    /// Returns the rows of one span.
    #[cfg(feature = "rayon")]
    pub(crate) fn of_span(read: RowSource<'s, K::Row>, predicate: P, span: Span) -> Self {
        let entries = FilteredEntries::new(read, predicate, Vec::new(), vec![span]);
        // The span belongs to the view, so the transaction's own rows are not returned.
        Self { entries: FilteredEntries { own_at: u64::MAX, ..entries } }
    }
}

impl<'s, T, P: Predicate<T>, K: Keys<T>> Iterator for Filtered<'s, T, P, K> {
    type Item = Result<K::Item<'s>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next()?.map(|(_, item)| item))
    }

    #[inline]
    fn count(self) -> usize {
        self.entries.count()
    }

    /// Folds the rows as fast as a loop over the slices. `sum` and `for_each` use it.
    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        let mut entries = self.entries;
        let mut all = init;
        loop {
            let rows = core::mem::take(&mut entries.slice);
            let test = entries.tested.then_some(&entries.predicate);
            all = fold_run::<T, K, P, B>(rows, test, entries.heap, all, &mut f);
            match entries.advance() {
                Some(Ok(())) => {}
                Some(Err(error)) => all = f(all, Err(error)),
                None => return all,
            }
        }
    }
}

impl<T, P: Predicate<T>, K: Keys<T>> FusedIterator for Filtered<'_, T, P, K> {}

/// Folds the rows of one run, which are tested or all match. A separate function that is not
/// inlined, so that the accumulator stays in registers: the calls between the runs would force it
/// into memory.
#[inline(never)]
fn fold_run<'s, T, K: Keys<T>, P: Predicate<T>, B>(
    rows: core::slice::Iter<'s, K::Row>,
    test: Option<&P>,
    heap: &'s (dyn HeapRead + Sync),
    all: B,
    f: &mut impl FnMut(B, Result<K::Item<'s>, ReadError>) -> B,
) -> B {
    let f = |all, row| f(all, K::item(heap, row));
    match test {
        Some(predicate) => rows.filter(|row| predicate.matches(K::value(row))).fold(all, f),
        None => rows.fold(all, f),
    }
}

/// An iterator over the rows that match a condition, with their row numbers: see
/// [`Filtered::entries`].
#[must_use]
pub struct FilteredEntries<'s, T, P, K: KeyKind<T> = InRow> {
    predicate: P,
    /// Chunks that are not processed yet.
    chunks: vec::IntoIter<ChunkRows>,
    /// Remaining spans of the current chunk.
    spans: vec::IntoIter<Span>,
    /// Remaining runs of the current span.
    runs: Runs<'s, K::Row>,
    /// Whether the rows of the current span must be tested.
    tested: bool,
    /// The remaining rows of the current run; `end` is the number of the row after it.
    slice: core::slice::Iter<'s, K::Row>,
    end: RowId,
    /// Index of the transaction's next row.
    own_at: u64,
    heap: &'s (dyn HeapRead + Sync),
}

impl<T, P: Clone, K: KeyKind<T>> Clone for FilteredEntries<'_, T, P, K> {
    fn clone(&self) -> Self {
        Self {
            predicate: self.predicate.clone(),
            chunks: self.chunks.clone(),
            spans: self.spans.clone(),
            runs: self.runs.clone(),
            own_at: self.own_at,
            tested: self.tested,
            slice: self.slice.clone(),
            end: self.end,
            heap: self.heap,
        }
    }
}

impl<'s, T, P: Predicate<T>, K: Keys<T>> FilteredEntries<'s, T, P, K> {
    fn new(read: RowSource<'s, K::Row>, predicate: P, chunks: Vec<ChunkRows>, spans: Vec<Span>) -> Self {
        Self {
            predicate,
            chunks: chunks.into_iter(),
            spans: spans.into_iter(),
            runs: Runs::new(read.view, read.own, RowId(0)..RowId(0)),
            tested: false,
            slice: [].iter(),
            end: RowId(0),
            own_at: 0,
            heap: read.heap,
        }
    }

    /// Moves to the next run.
    #[inline(never)]
    fn advance(&mut self) -> Option<Result<(), ReadError>> {
        let view = self.runs.view?;
        loop {
            if let Some(run) = self.runs.next() {
                return Some(run.map(|(row, rows)| {
                    (self.end, self.slice) = (RowId(row.0 + rows.len() as u64), rows.iter());
                }));
            }
            match self.spans.next() {
                Some(span) => (self.runs.rows, self.tested) = (span.rows, span.tested),
                None => match self.chunks.next() {
                    Some(chunk) => self.spans = spans_of::<T, K>(view, &chunk, &self.predicate).into_iter(),
                    None => return self.advance_own(),
                },
            }
        }
    }

    /// Moves to the next slice of the transaction's own rows.
    fn advance_own(&mut self) -> Option<Result<(), ReadError>> {
        let own = self.runs.own.filter(|_| self.own_at < u64::MAX)?;
        let slice = own.next_slice(&mut self.own_at)?;
        self.tested = true;
        Some(slice.map(|(row, rows)| {
            (self.end, self.slice) = (RowId(row.0 + rows.len() as u64), rows.iter());
        }))
    }
}

impl<'s, T, P: Predicate<T>, K: Keys<T>> Iterator for FilteredEntries<'s, T, P, K> {
    type Item = Result<(RowId, K::Item<'s>), ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = if self.tested {
                self.slice.find(|row| self.predicate.matches(K::value(row)))
            } else {
                self.slice.next()
            };
            if let Some(row) = found {
                let number = RowId(self.end.0 - self.slice.len() as u64 - 1);
                return Some(K::item(self.heap, row).map(|item| (number, item)));
            }
            if let Err(error) = self.advance()? {
                return Some(Err(error));
            }
        }
    }

    /// Counts without a branch per row, which the processor would have to predict. Reads no
    /// external keys.
    #[inline]
    fn count(mut self) -> usize {
        let mut all = 0;
        loop {
            let rows = core::mem::take(&mut self.slice);
            all += if self.tested {
                rows.filter(|row| self.predicate.matches(K::value(row))).count()
            } else {
                rows.len()
            };
            match self.advance() {
                Some(Ok(())) => {}
                Some(Err(_)) => all += 1,
                None => return all,
            }
        }
    }
}

impl<T, P: Predicate<T>, K: Keys<T>> FusedIterator for FilteredEntries<'_, T, P, K> {}

impl<T, P: Predicate<T>, K: Keys<T>> fmt::Debug for Filtered<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

impl<T, P: Predicate<T>, K: Keys<T>> fmt::Debug for FilteredEntries<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut conditions = Vec::new();
        self.predicate.each(false, &mut |condition, negated| {
            conditions.push(format!("{}{condition}", if negated { "not " } else { "" }));
        });
        let mut out = f.debug_struct("Filtered");
        out.field("table", &table_name::<T, K>())
            .field("conditions", &conditions)
            .field("before", &self.end)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[crate::record]
    #[pongo(table = "points")]
    struct Point {
        #[pongo(key)]
        id: u64,
        height: f32,
        level: Maybe<i16>,
    }

    fn point(id: u64) -> Point {
        let height = if id.is_multiple_of(9) { f32::NAN } else { (id % 5000) as f32 - 100.0 };
        let level = if id < 30_000 { Maybe::none() } else { Maybe::some((id % 77) as i16 - 40) };
        Point { id, height, level }
    }

    fn values<V>(zone: Option<(&[u8], &[u8])>, read: impl Fn(&[u8]) -> V) -> Option<(V, V)> {
        zone.map(|(min, max)| (read(min), read(max)))
    }

    #[test]
    fn zone_bounds_are_minimum_and_maximum() {
        let store = Options::new().chunk_size(256 << 10).in_memory().unwrap();
        let tx = store.begin_write().unwrap();
        tx.table::<Point>().unwrap().extend((0..50_000).map(point)).unwrap();
        tx.commit().unwrap();
        let snapshot = store.begin_read().unwrap();
        let view = snapshot.table::<Point>().unwrap().view().unwrap();
        let mut looked_at = 0;
        for chunk in view.chunks() {
            let Some(zones) = view.zones(&chunk) else { continue };
            assert!(!chunk.full || zones.rows() == chunk.rows);
            for zone in zones.iter().chain([zones.whole()]) {
                let rows = || (zone.rows().start.0..zone.rows().end.0).map(point);
                let ids = values(zone.bounds(0), |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
                assert_eq!(ids, Some((zone.rows().start.0, zone.rows().end.0 - 1)));
                let heights = values(zone.bounds(8), |bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
                let least = rows().map(|row| row.height).fold(f32::INFINITY, f32::min);
                let greatest = rows().map(|row| row.height).fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(heights, Some((least, greatest)));
                let levels = values(zone.bounds(12), |bytes| i16::from_le_bytes(bytes.try_into().unwrap()));
                let there: Vec<_> = rows().filter_map(|row| row.level.to_option()).collect();
                assert_eq!(levels, there.iter().copied().min().zip(there.iter().copied().max()));
                looked_at += 1;
            }
        }
        assert!(looked_at > 12, "{looked_at}");
    }

    #[test]
    fn only_checkpointed_zones_are_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let open = || open(folder.path());
        let files = || {
            let names = std::fs::read_dir(folder.path().join("tables/points")).unwrap();
            names.filter(|name| name.as_ref().unwrap().path().extension() == Some("zones".as_ref())).count()
        };
        let load = |store: &Store, rows: Range<u64>| {
            let tx = store.begin_write().unwrap();
            tx.table::<Point>().unwrap().extend(rows.map(point)).unwrap();
            tx.commit().unwrap();
        };
        let seal = |store: &Store| {
            let snapshot = store.begin_read().unwrap();
            let view = snapshot.table::<Point>().unwrap().view().unwrap();
            let full = view.chunks().filter(|chunk| chunk.full).count();
            assert_eq!(view.seal_zones(), full);
            (full, view.chunks().filter(|chunk| chunk.durable).count())
        };
        let store = open();
        load(&store, 0..40_000);
        let (full, durable) = seal(&store);
        assert!(full > 1);
        assert_eq!((durable, files()), (0, 0));
        store.close().unwrap();

        let store = open();
        let (again, durable) = seal(&store);
        assert_eq!((again, durable, files()), (full, full, full));
        // New rows are not covered before the next checkpoint.
        load(&store, 40_000..90_000);
        let (more, durable) = seal(&store);
        assert!(more > full);
        assert_eq!((durable, files()), (full, full));
    }

    #[allow(unsafe_code, reason = "a folder of the test's own")]
    fn open(folder: &std::path::Path) -> Store {
        // SAFETY: the folder belongs to this test, so no other process changes its files.
        unsafe { Options::new().chunk_size(256 << 10).open(folder) }.unwrap()
    }
}

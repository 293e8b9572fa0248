//! Multithreaded scans: rayon's parallel iterators over a table's slices and rows, and over the
//! rows that match a condition. Work is split by zones (about 64 KiB), so that threads get equal
//! shares. If rayon cannot create its threads, the calling thread does all the work.

use core::ops::Range;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::predicate::Predicate;
use pongo_core::record::PongoRecord;
use pongo_core::table::{ChunkRows, TableView};
use rayon::iter::plumbing::{Folder, UnindexedConsumer};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::keys::Keys;
use crate::table::Table;
use crate::table::filter::{Filtered, RowSource, Runs, Span, spans_of};
use crate::write_set::own::Own;

/// State of rayon's global pool, which is used by threads outside any pool.
#[derive(Clone, Copy)]
enum Pool {
    Unknown,
    There,
    /// The pool could not be created, and rayon does not try again.
    Lost,
}

/// Returns whether rayon has threads or can create them. Rayon panics if it cannot, so this
/// function asks it to create them first.
fn has_threads() -> bool {
    static POOL: Mutex<Pool> = Mutex::new(Pool::Unknown);
    if rayon::current_thread_index().is_some() {
        return true;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*pool, Pool::Unknown) {
        // Rayon tries only once, so this first checks that the process can create a thread now.
        if std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join).is_err() {
            return false;
        }
        *pool = match rayon::ThreadPoolBuilder::new().build_global() {
            Err(error) if error.source().is_some() => Pool::Lost,
            // Created, or it existed already.
            _ => Pool::There,
        };
    }
    matches!(*pool, Pool::There)
}

/// A parallel iterator, and a sequential iterator over the same items.
struct OrAlone<P, A> {
    parallel: P,
    alone: A,
}

impl<T: Send, P: ParallelIterator<Item = T>, A: Iterator<Item = T> + Send> ParallelIterator
    for OrAlone<P, A>
{
    type Item = T;

    fn drive_unindexed<C: UnindexedConsumer<T>>(self, consumer: C) -> C::Result {
        if has_threads() {
            self.parallel.drive_unindexed(consumer)
        } else {
            consumer.into_folder().consume_iter(self.alone).complete()
        }
    }
}

/// Splits rows at zone boundaries. The first zone starts at `start`.
fn pieces(rows: &Range<RowId>, start: RowId, zone_rows: u64) -> impl Iterator<Item = Range<RowId>> + use<> {
    let (mut at, end) = (rows.start.0, rows.end.0);
    core::iter::from_fn(move || {
        let zone_end = start.0 + ((at - start.0) / zone_rows + 1) * zone_rows;
        let piece = RowId(at)..RowId(zone_end.min(end));
        at = piece.end.0;
        (piece.start < piece.end).then_some(piece)
    })
}

/// Returns the rows of the transaction in which a table is read.
fn own_slices<T: PongoRecord>(own: Option<Own<'_, T>>) -> Vec<Result<&[T], ReadError>> {
    let Some(own) = own else { return Vec::new() };
    let mut at = 0;
    std::iter::from_fn(|| own.next_slice(&mut at)).map(|slice| slice.map(|(_, rows)| rows)).collect()
}

/// Returns the rows of a slice, or no rows and the error if the slice could not be read.
fn parts<R, I>(slice: Result<&[R], ReadError>) -> (&[R], Option<Result<I, ReadError>>) {
    match slice {
        Ok(rows) => (rows, None),
        Err(error) => (&[], Some(Err(error))),
    }
}

/// Returns all rows of a table, split by zones.
fn all_pieces(view: Option<&TableView>) -> Vec<Range<RowId>> {
    let Some(view) = view else { return Vec::new() };
    let zone_rows = view.core().zone_rows();
    view.chunks().flat_map(|chunk| pieces(&chunk.rows, chunk.rows.start, zone_rows)).collect()
}

impl<'s, T: PongoRecord> Table<'s, T> {
    /// Returns the same rows as [`slices`](Self::slices), read by the threads of rayon's pool. A
    /// slice has at most some 64 KiB, or 256 rows.
    ///
    /// ```
    /// use pongo::prelude::*;
    /// use pongo::rayon::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..10_000).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let trades = snapshot.table::<Trade>()?;
    /// let sums = trades.par_slices().map(|rows| Ok(rows?.iter().map(|trade| trade.price).sum::<f64>()));
    /// assert_eq!(sums.sum::<Result<f64, pongo::ReadError>>()?, 5000.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn par_slices(&self) -> impl ParallelIterator<Item = Result<&'s [T], ReadError>> + use<'s, T> {
        self.par_row_slices()
    }
}

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    fn par_row_slices(
        &self,
    ) -> impl ParallelIterator<Item = Result<&'s [K::Row], ReadError>> + use<'s, T, K> {
        let (view, own) = (self.view(), self.own());
        let runs = move |rows| Runs::<K::Row>::new(view, own, rows).map(|run| run.map(|(_, rows)| rows));
        let pieces = all_pieces(view);
        let alone = pieces.clone().into_iter().flat_map(runs);
        let alone = alone.chain(std::iter::once(own).flat_map(own_slices));
        let parallel = pieces.into_par_iter().flat_map_iter(runs).chain(own_slices(own).into_par_iter());
        OrAlone { parallel, alone }
    }

    /// Returns the same rows as [`rows`](Self::rows), read by the threads of rayon's pool.
    /// [`par_slices`](Table::par_slices) is faster where it can be used.
    pub fn par_rows(&self) -> impl ParallelIterator<Item = Result<K::Item<'s>, ReadError>> + use<'s, T, K> {
        let heap = self.source().heap;
        self.par_row_slices().flat_map_iter(move |slice| {
            let (rows, failed) = parts(slice);
            rows.iter().map(move |row| K::item(heap, row)).chain(failed)
        })
    }
}

impl<'s, T, P: Predicate<T> + 's, K: Keys<T>> Filtered<'s, T, P, K> {
    /// Returns the same rows, read by the threads of rayon's pool. Rows that this iterator has
    /// already returned are returned again.
    ///
    /// ```
    /// use pongo::prelude::*;
    /// use pongo::rayon::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..10_000).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let late = snapshot.table::<Trade>()?.filter(Trade::ID.ge(9_000)).par();
    /// assert_eq!(late.map(|trade| trade.map(|t| t.price)).sum::<Result<f64, _>>()?, 500.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn par(self) -> impl ParallelIterator<Item = Result<K::Item<'s>, ReadError>> + use<'s, T, P, K> {
        let (read, predicate) = self.into_parts();
        let RowSource { view, own, heap } = read;
        let predicate = Arc::new(predicate);
        let chunks: Vec<_> = view.map(|view| view.chunks().collect()).unwrap_or_default();
        let judged = Arc::clone(&predicate);
        let spans = move |chunk: ChunkRows| {
            let Some(view) = view else { return Vec::new() };
            let cut = |span: &Span| {
                let tested = span.tested;
                pieces(&span.rows, chunk.rows.start, view.core().zone_rows())
                    .map(move |rows| Span { rows, tested })
                    .collect::<Vec<_>>()
            };
            spans_of::<T, K>(view, &chunk, &judged).iter().flat_map(cut).collect::<Vec<_>>()
        };
        let of_view = Arc::clone(&predicate);
        let of_view = move |span| Filtered::<T, _, K>::of_span(read, Arc::clone(&of_view), span);
        let of_own = move |slice| {
            let predicate = Arc::clone(&predicate);
            let (rows, failed) = parts::<K::Row, _>(slice);
            let matching = rows.iter().filter(move |row| predicate.matches(K::value(row)));
            matching.map(move |row| K::item(heap, row)).chain(failed)
        };
        let alone = chunks.clone().into_iter().flat_map(spans.clone()).flat_map(of_view.clone());
        let alone = alone.chain(std::iter::once(own).flat_map(own_slices).flat_map(of_own.clone()));
        let parallel = chunks.into_par_iter().flat_map(spans).flat_map_iter(of_view);
        let parallel = parallel.chain(own_slices(own).into_par_iter().flat_map_iter(of_own));
        OrAlone { parallel, alone }
    }
}

//! The sources of a stream's pairs: blocks ([`BlockSource`]) and recent rows ([`RunSource`]).

use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::error::{ReadError, StorageError};
use pongo_core::fields::HeapRead;
use pongo_core::ids::{RowId, Seq};
use pongo_core::snapshot::EngineSnapshot;
use pongo_core::table::TableView;
use pongo_index::ordered::{
    BlockCursor, Edge, KeyExtractor, OrderedError, OrderedStore, ReadPoint, Sorted, Taken,
};

use super::OrderedIndexes;
use super::index::{OrderedIndex, RowKeyExtractor};
use super::limits::Limits;
use super::own::OwnRows;
use super::recent::{Learning, Recent};

/// State shared by all sources of a stream.
pub(super) struct Context<'s> {
    pub(super) view: &'s TableView,
    pub(super) heap: &'s (dyn HeapRead + Sync),
    pub(super) index: Arc<OrderedIndex>,
    pub(super) ordered: &'s OrderedIndexes,
    pub(super) engine: &'s Arc<Engine>,
    /// The changes of the transaction that the stream reads in, if any.
    pub(super) own: Option<Box<dyn OwnRows + 's>>,
    /// A newer view, if the index contains rows beyond this one: a search may need the keys of rows
    /// that `view` does not see.
    pub(super) wide: Option<EngineSnapshot>,
}

impl Context<'_> {
    /// Appends the row's key to `out`.
    pub(super) fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes = match &self.own {
            Some(own) if row.0 >= self.view.len() => own.row_bytes(row)?,
            _ => self.view.row_bytes(row)?,
        };
        self.index.keys().put(&self.view.core().schema().table, bytes, self.heap, out)
    }

    /// Removes rows that the transaction replaced or deleted. Returns how many were removed.
    pub(super) fn hide(&self, rows: &mut Vec<RowId>) -> usize {
        let Some(own) = &self.own else { return 0 };
        let before = rows.len();
        own.retain(self.view, rows);
        before - rows.len()
    }

    /// Returns whether the transaction replaced or deleted a row of the view, and adds it to
    /// `skipped` if so.
    fn hides(&self, row: RowId, skipped: &mut usize) -> bool {
        if self.own.is_none() {
            return false;
        }
        let hidden = self.hide(&mut vec![row]);
        *skipped += hidden;
        hidden > 0
    }

    /// Returns whether a pair of a row beyond the view belongs to one of the transaction's own
    /// rows.
    fn is_own(&self, key: &[u8], row: RowId) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_own(&self.index, key, row))
    }

    /// Returns a cursor over the pairs in blocks, from an edge on in one direction.
    pub(super) fn cursor(
        &mut self,
        store: &Arc<OrderedStore>,
        sorted: &Arc<Sorted>,
        from: Edge<'_>,
        forward: bool,
    ) -> Result<BlockCursor, SourceError> {
        let wide = match &self.wide {
            Some(snapshot) => snapshot.view(self.index.core())?.map_or(0, TableView::len),
            None => self.view.len(),
        };
        if sorted.watermark().row > wide {
            // Taken after this version of the index was loaded, so it sees every row that the index
            // contains.
            self.wide = Some(self.engine.begin_read()?);
        }
        let keys = self.keys()?;
        let cursor = if forward { sorted.forward(from, &keys) } else { sorted.backward(from, &keys) };
        cursor.map_err(|error| self.blame(store, error))
    }

    /// Returns the keys of all rows that the index contains.
    fn keys(&self) -> Result<RowKeyExtractor<'_>, ReadError> {
        let wide = match &self.wide {
            Some(snapshot) => snapshot.view(self.index.core())?,
            None => None,
        };
        let heap = match &self.wide {
            Some(snapshot) => snapshot as &(dyn HeapRead + Sync),
            None => self.heap,
        };
        Ok(RowKeyExtractor { view: wide.unwrap_or(self.view), heap, keys: self.index.keys() })
    }

    /// Classifies an error: caused by reading a row, or by the blocks.
    fn blame(&self, store: &Arc<OrderedStore>, error: OrderedError) -> SourceError {
        match error {
            OrderedError::Keys { .. } => SourceError::Read(self.index.fault(error)),
            error => SourceError::Blocks(Arc::clone(store), error),
        }
    }

    /// Returns what the view sees.
    fn read_point(&self) -> ReadPoint {
        ReadPoint { len: self.view.len(), seq: self.view.seq().0 }
    }

    /// Returns the visibility of a row at the view.
    // Inlining is forced because this is called in several loops over all rows of a range.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn look(&self, row: RowId) -> Result<Look, StorageError> {
        if row.0 >= self.view.len() {
            return Ok(Look::Later);
        }
        if self.view.has_no_marks(row) {
            return Ok(Look::Seen);
        }
        Ok(match self.view.deleted_at(row)? {
            Some(deleted_at) if deleted_at <= self.view.seq() => Look::Deleted(deleted_at.0),
            _ => Look::Seen,
        })
    }

    /// Returns whether a commit is permanent, so that its deletions may be recorded for other
    /// readers.
    fn is_published(&self, seq: u64) -> bool {
        self.view.core().is_published(Seq(seq))
    }
}

/// Visibility of a row at a view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Seen,
    /// Deleted by this commit.
    Deleted(u64),
    /// Written after the view was taken.
    Later,
}

/// Number of rows that are read together. It starts small, since most ranges are short.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 512;
/// Number of recent rows by which prefetching is ahead.
const PREFETCH_DISTANCE: usize = 8;

/// Pairs stored in blocks.
///
/// Checksums show that the blocks are unchanged since they were written, and the watermark shows
/// that the rows are. So keys are read from the rows only where they are needed: at the end of a
/// batch, to check it against the limits, and where pairs of several sources are compared. The
/// order of a batch's rows is checked after they were returned.
pub(super) struct BlockSource {
    store: Arc<OrderedStore>,
    cursor: BlockCursor,
    /// Rows of the current batch that the view sees.
    pub(super) rows: Vec<RowId>,
    pub(super) at: usize,
    /// Last key of the last checked batch; valid if `any` is set.
    last: Vec<u8>,
    any: bool,
    /// Key of the row at index `key_at`.
    key: Vec<u8>,
    key_at: usize,
    batch: usize,
    ended: bool,
    /// Number of rows skipped because the transaction replaced or deleted them.
    pub(super) skipped: usize,
    /// Commit by which all pairs of the current block so far were deleted, if all of them were.
    deleted_by: Option<u64>,
}

/// Why a source cannot continue.
pub(super) enum SourceError {
    Read(ReadError),
    /// The blocks of this store are suspect.
    Blocks(Arc<OrderedStore>, OrderedError),
}

impl From<ReadError> for SourceError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl BlockSource {
    pub(super) fn new(store: &Arc<OrderedStore>, cursor: BlockCursor) -> Self {
        Self {
            store: Arc::clone(store),
            cursor,
            rows: Vec::with_capacity(4 * FIRST_BATCH),
            at: 0,
            last: Vec::new(),
            any: false,
            key: Vec::new(),
            key_at: usize::MAX,
            batch: FIRST_BATCH,
            ended: false,
            skipped: 0,
            deleted_by: None,
        }
    }

    /// Makes the next row ready.
    pub(super) fn fill(
        &mut self,
        context: &Context<'_>,
        limits: &Limits,
        forward: bool,
    ) -> Result<(), SourceError> {
        while self.at == self.rows.len() && !self.ended {
            self.check_batch(context, forward)?;
            self.rows.clear();
            (self.at, self.key_at) = (0, usize::MAX);
            let taken = self.cursor.fill_block(&mut self.rows, self.batch, context.read_point());
            let taken = taken.map_err(|error| SourceError::Blocks(Arc::clone(&self.store), error))?;
            let Some(taken) = taken else {
                self.ended = true;
                break;
            };
            self.batch = (self.batch * 2).min(LARGEST_BATCH);
            for &row in &self.rows {
                context.view.prefetch(row);
            }
            if self.is_live_run(context)? {
                self.deleted_by = None;
            } else {
                let ends = self.rows.first().copied().zip(self.rows.last().copied());
                self.retain_seen(context, taken)?;
                if self.rows.is_empty()
                    && let Some((first, last)) = ends
                {
                    self.leave_versions_out(context, first, last)?;
                }
            }
            self.skipped += context.hide(&mut self.rows);
            self.cut_off(context, limits, forward)?;
            self.leave_holes(context, limits)?;
        }
        Ok(())
    }

    /// Removes the rows in excluded key ranges from the batch.
    fn leave_holes(&mut self, context: &Context<'_>, limits: &Limits) -> Result<(), SourceError> {
        if limits.holes.is_empty() {
            return Ok(());
        }
        let mut kept = 0;
        for place in 0..self.rows.len() {
            let row = self.rows[place];
            self.key.clear();
            context.key(row, &mut self.key)?;
            if !limits.is_in_hole(&self.key) {
                self.rows[kept] = row;
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        Ok(())
    }

    /// Removes the rows that the view does not see. If all rows of a block were deleted, records
    /// that, so that later readers skip the block.
    fn retain_seen(&mut self, context: &Context<'_>, taken: Taken) -> Result<(), ReadError> {
        let mut deleted_by = if taken.from_start { Some(0) } else { self.deleted_by };
        let mut failed = None;
        // Fast path: usually all rows are visible.
        let seen = self.rows.iter().take_while(|row| matches!(context.look(**row), Ok(Look::Seen))).count();
        if seen > 0 {
            deleted_by = None;
        }
        let mut kept = seen;
        for at in seen..self.rows.len() {
            let row = self.rows[at];
            match context.look(row) {
                Ok(Look::Deleted(seq)) => deleted_by = deleted_by.map(|before| before.max(seq)),
                Ok(look) => {
                    deleted_by = None;
                    self.rows[kept] = row;
                    kept += usize::from(look == Look::Seen);
                }
                Err(fault) => failed = Some(fault),
            }
        }
        self.rows.truncate(kept);
        if let Some(fault) = failed {
            return Err(fault.into());
        }
        self.deleted_by = deleted_by;
        if taken.to_end
            && let Some(seq) = self.deleted_by.take()
            && context.is_published(seq)
        {
            self.cursor.note_deleted_by(taken, seq);
        }
        Ok(())
    }

    /// Skips the remaining versions of one key. The view sees no row from `first` to `last`; if
    /// both have the same key, there may be very many versions of it.
    fn leave_versions_out(
        &mut self,
        context: &Context<'_>,
        first: RowId,
        last: RowId,
    ) -> Result<(), SourceError> {
        if first == last || !context.index.is_of_key() {
            return Ok(());
        }
        let keys = context.keys()?;
        let key_of = |row, out: &mut Vec<u8>| {
            let put = keys.key(row, out).map_err(|source| OrderedError::Keys { row, source });
            put.map_err(|error| context.blame(&self.store, error))
        };
        let mut last_key = Vec::new();
        key_of(last, &mut last_key)?;
        key_of(first, &mut self.key)?;
        if self.key == last_key {
            let jumped = self.cursor.jump(&last_key, RowId(context.view.len()), &keys);
            jumped.map_err(|error| context.blame(&self.store, error))?;
            self.deleted_by = None;
        }
        Ok(())
    }

    /// Returns whether the rows are consecutive and all visible, which is common if they were
    /// written in key order.
    fn is_live_run(&self, context: &Context<'_>) -> Result<bool, ReadError> {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return Ok(true) };
        Ok(last.0.checked_sub(first.0) == Some(self.rows.len() as u64 - 1)
            && self.rows.is_sorted_by(|one, next| one.next() == *next)
            && context.view.next_run_in(first..last.next())? == Some(first..last.next()))
    }

    /// Checks that the rows of the previous batch are in key order. Called when all of them were
    /// returned, so they are in the processor's cache.
    ///
    /// # Errors
    /// Returns an error if they are not.
    fn check_batch(&mut self, context: &Context<'_>, forward: bool) -> Result<(), SourceError> {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return Ok(()) };
        self.key.clear();
        context.key(first, &mut self.key)?;
        let sooner = |one: &[u8], other: &[u8]| if forward { one < other } else { one > other };
        let mut wrong = self.any && sooner(&self.key, &self.last);
        self.last.clear();
        context.key(last, &mut self.last)?;
        wrong |= sooner(&self.last, &self.key);
        self.any = true;
        if wrong {
            let what = format!("rows {first} to {last} in another order than that of their keys");
            return Err(SourceError::Blocks(Arc::clone(&self.store), OrderedError::Damaged { what }));
        }
        Ok(())
    }

    /// Truncates the batch at the limit.
    fn cut_off(&mut self, context: &Context<'_>, limits: &Limits, forward: bool) -> Result<(), SourceError> {
        let Some(&last) = self.rows.last() else { return Ok(()) };
        if limits.is_open(forward) {
            return Ok(());
        }
        self.key.clear();
        context.key(last, &mut self.key)?;
        if limits.admits(forward, &self.key, last) {
            return Ok(());
        }
        let (mut within, mut beyond) = (0, self.rows.len() - 1);
        while within < beyond {
            let middle = within.midpoint(beyond);
            self.key.clear();
            context.key(self.rows[middle], &mut self.key)?;
            if limits.admits(forward, &self.key, self.rows[middle]) {
                within = middle + 1;
            } else {
                beyond = middle;
            }
        }
        self.rows.truncate(within);
        self.ended = true;
        Ok(())
    }

    /// Returns the next row, which [`fill`](Self::fill) made ready.
    #[inline]
    pub(super) fn row(&self) -> Option<RowId> {
        self.rows.get(self.at).copied()
    }

    /// Makes the next row's key ready, too.
    pub(super) fn fill_key(&mut self, context: &Context<'_>) -> Result<(), ReadError> {
        if let Some(row) = self.row()
            && self.key_at != self.at
        {
            self.key.clear();
            context.key(row, &mut self.key)?;
            self.key_at = self.at;
        }
        Ok(())
    }

    /// Returns the next pair, if its key was made ready.
    pub(super) fn current(&self) -> Option<(&[u8], RowId)> {
        self.row().filter(|_| self.key_at == self.at).map(|row| (&self.key[..], row))
    }
}

/// Recent pairs: those of `run` within the range.
pub(super) struct RunSource {
    pub(super) run: Arc<Recent>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// Rows below this one are in blocks.
    pub(super) watermark: u64,
    /// Number of pairs skipped because the transaction replaced or deleted their rows.
    pub(super) skipped: usize,
    pub(super) learning: Learning,
    /// The pairs belong to the transaction's own rows, not to the view's.
    pub(super) own: bool,
}

impl RunSource {
    fn place(&self, forward: bool) -> usize {
        if forward { self.at } else { self.end - 1 }
    }

    pub(super) fn fill(
        &mut self,
        context: &Context<'_>,
        limits: &Limits,
        forward: bool,
    ) -> Result<(), ReadError> {
        let mut passed = 0;
        while self.at < self.end {
            let place = self.place(forward);
            let (key, row) = self.run.run.get(place);
            let deleted = match context.look(row)? {
                Look::Deleted(seq) => Some(seq),
                Look::Seen
                    if row.0 >= self.watermark
                        && !limits.is_in_hole(key)
                        && !context.hides(row, &mut self.skipped) =>
                {
                    return Ok(());
                }
                Look::Later if !limits.is_in_hole(key) && context.is_own(key, row) => return Ok(()),
                Look::Seen | Look::Later => None,
            };
            self.learning.pass(&self.run, place, forward, deleted, |seq| context.is_published(seq));
            self.advance(context, forward);
            let sight = context.read_point();
            if forward {
                self.at = self.run.skip(self.at, self.end, sight);
            } else {
                self.end = self.run.skip_back(self.at, self.end, sight);
            }
            passed += 1;
            if passed % FIRST_BATCH == 0 && !self.own && context.index.is_of_key() {
                self.leave_versions_out(place, context.view.len(), forward);
            }
        }
        Ok(())
    }

    /// Skips versions of one key after the pair at `place`, which the view did not see. If the next
    /// pair has the same key, there may be very many versions: at most one is visible, the newest
    /// below the view's length `len`.
    fn leave_versions_out(&mut self, place: usize, len: u64, forward: bool) {
        let run = &self.run.run;
        let (key, _) = run.get(place);
        if self.at >= self.end || run.get(self.place(forward)).0 != key {
            return;
        }
        let behind = run.rank(Edge::BeforePair(key, RowId(len)));
        if forward {
            let to = match behind.checked_sub(1) {
                Some(newest) if newest >= self.at => newest,
                _ => run.rank(Edge::After(key)).max(self.at),
            };
            self.at = to.min(self.end);
        } else {
            let to = if self.end >= behind { behind } else { run.rank(Edge::Before(key)).min(self.end) };
            self.end = to.max(self.at);
        }
    }

    pub(super) fn advance(&mut self, context: &Context<'_>, forward: bool) {
        if forward {
            self.at += 1
        } else {
            self.end -= 1
        }
        if self.end - self.at > PREFETCH_DISTANCE {
            let ahead = if forward { self.at + PREFETCH_DISTANCE } else { self.end - 1 - PREFETCH_DISTANCE };
            context.view.prefetch(self.run.run.get(ahead).1);
        }
    }

    pub(super) fn current(&self, forward: bool) -> Option<(&[u8], RowId)> {
        (self.at < self.end).then(|| self.run.run.get(self.place(forward)))
    }
}

//! Where a stream's pairs come from: blocks ([`BlockSide`]) and recent rows ([`RunSide`]).

use std::sync::Arc;

use pongo_core::error::{Fault, ReadError};
use pongo_core::fields::HeapRead;
use pongo_core::ids::{RowId, Seq};
use pongo_core::snapshot::Snapshot;
use pongo_core::table::TableView;
use pongo_index::ordered::{Cursor, Edge, FullKeys, OrderedError, OrderedStore, Sight, Sorted, Taken};

use super::index::{OrderedIndex, ViewKeys};
use super::own::OwnRows;
use super::recent::{Learning, Recent};
use super::stream::Limits;
use crate::store::Shared;

/// What all sides look at.
pub(super) struct Context<'s> {
    pub(super) view: &'s TableView,
    pub(super) heap: &'s (dyn HeapRead + Sync),
    pub(super) index: Arc<OrderedIndex>,
    pub(super) shared: &'s Arc<Shared>,
    /// The transaction's changes, in a stream that reads in one.
    pub(super) own: Option<Box<dyn OwnRows + 's>>,
    /// A newer view, where the index goes beyond this one: a search may need the keys of rows that this one does not see.
    pub(super) wide: Option<Snapshot>,
}

impl Context<'_> {
    /// The row's key, behind what is in `out`.
    pub(super) fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes = match &self.own {
            Some(own) if row.0 >= self.view.len() => own.row_bytes(row)?,
            _ => self.view.row_bytes(row)?,
        };
        self.index.keys().put(&self.view.core().schema().table, bytes, self.heap, out)
    }

    /// Takes rows off that the transaction took away. Returns how many.
    pub(super) fn hide(&self, rows: &mut Vec<RowId>) -> usize {
        let Some(own) = &self.own else { return 0 };
        let before = rows.len();
        own.retain(self.view, rows);
        before - rows.len()
    }

    /// Whether the transaction took a row of the view away, which is counted.
    fn hides(&self, row: RowId, skipped: &mut usize) -> bool {
        if self.own.is_none() {
            return false;
        }
        let hidden = self.hide(&mut vec![row]);
        *skipped += hidden;
        hidden > 0
    }

    /// Whether a pair of a row behind the view is that of one of the transaction's own.
    fn is_own(&self, key: &[u8], row: RowId) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_own(&self.index, key, row))
    }

    /// The pairs in blocks from an edge on, in a direction.
    pub(super) fn cursor(
        &mut self,
        store: &Arc<OrderedStore>,
        sorted: &Arc<Sorted>,
        from: Edge<'_>,
        forward: bool,
    ) -> Result<Cursor, SideError> {
        let wide = match &self.wide {
            Some(snapshot) => snapshot.view(self.index.core())?.map_or(0, TableView::len),
            None => self.view.len(),
        };
        if sorted.watermark().row > wide {
            // Behind the version at hand, so that it sees all that the index has.
            self.wide = Some(self.shared.engine.begin_read()?);
        }
        let keys = self.keys()?;
        let cursor = if forward { sorted.forward(from, &keys) } else { sorted.backward(from, &keys) };
        cursor.map_err(|error| self.blame(store, error))
    }

    /// The keys of all rows that the index has.
    fn keys(&self) -> Result<ViewKeys<'_>, ReadError> {
        let wide = match &self.wide {
            Some(snapshot) => snapshot.view(self.index.core())?,
            None => None,
        };
        let heap = match &self.wide {
            Some(snapshot) => snapshot as &(dyn HeapRead + Sync),
            None => self.heap,
        };
        Ok(ViewKeys { view: wide.unwrap_or(self.view), heap, keys: self.index.keys() })
    }

    /// Whether the rows or the blocks are to blame for an error.
    fn blame(&self, store: &Arc<OrderedStore>, error: OrderedError) -> SideError {
        match error {
            OrderedError::Keys { .. } => SideError::Read(self.index.fault(error)),
            error => SideError::Blocks(Arc::clone(store), error),
        }
    }

    /// What the view sees.
    fn sight(&self) -> Sight {
        Sight { len: self.view.len(), seq: self.view.seq().0 }
    }

    /// What a row is to the view.
    // Asked for: it stands in several loops over all rows of a range.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn look(&self, row: RowId) -> Result<Look, Fault> {
        if row.0 >= self.view.len() {
            return Ok(Look::Later);
        }
        if self.view.has_no_marks(row) {
            return Ok(Look::Seen);
        }
        Ok(match self.view.died(row)? {
            Some(died) if died <= self.view.seq() => Look::Deleted(died.0),
            _ => Look::Seen,
        })
    }

    /// Whether a commit is there for good, so that others can be told of what it deleted.
    fn is_published(&self, seq: u64) -> bool {
        self.view.core().is_published(Seq(seq))
    }
}

/// What a row is to a view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Seen,
    /// By this commit.
    Deleted(u64),
    /// Written behind the view.
    Later,
}

/// Rows that are read together: few at first, since most ranges are short.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 512;
/// Recent rows that are fetched ahead.
const AHEAD: usize = 8;

/// Pairs that lie in blocks.
///
/// The blocks' checksums say that they are what was written, and the watermark that the rows are; so keys are taken from the
/// rows only where something depends on them: at the end of a batch, to see that it is within the limits, and where pairs of
/// several sides are compared. That rows are in the order of their keys is looked at batch by batch, once they were given.
pub(super) struct BlockSide {
    store: Arc<OrderedStore>,
    cursor: Cursor,
    /// Rows of this batch that the view sees.
    pub(super) rows: Vec<RowId>,
    pub(super) at: usize,
    /// The last key of the batch that was checked last, if there was any.
    last: Vec<u8>,
    any: bool,
    /// The key of the row at the place beside it.
    key: Vec<u8>,
    key_at: usize,
    batch: usize,
    ended: bool,
    /// Rows that the transaction took away.
    pub(super) skipped: usize,
    /// By when the pairs of the block at hand were deleted, if all of them were up to here.
    deleted_by: Option<u64>,
}

/// Why a side cannot go on.
pub(super) enum SideError {
    Read(ReadError),
    /// The blocks are doubtful.
    Blocks(Arc<OrderedStore>, OrderedError),
}

impl From<ReadError> for SideError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl BlockSide {
    pub(super) fn new(store: &Arc<OrderedStore>, cursor: Cursor) -> Self {
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
    ) -> Result<(), SideError> {
        while self.at == self.rows.len() && !self.ended {
            self.check_batch(context, forward)?;
            self.rows.clear();
            (self.at, self.key_at) = (0, usize::MAX);
            let taken = self.cursor.fill_block(&mut self.rows, self.batch, context.sight());
            let taken = taken.map_err(|error| SideError::Blocks(Arc::clone(&self.store), error))?;
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

    /// Takes the rows in holes out of the batch.
    fn leave_holes(&mut self, context: &Context<'_>, limits: &Limits) -> Result<(), SideError> {
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

    /// Drops the rows that the view does not see. Once that was so for a whole block, because all of them were deleted, it is
    /// passed over from then on.
    fn retain_seen(&mut self, context: &Context<'_>, taken: Taken) -> Result<(), ReadError> {
        let mut deleted_by = if taken.from_start { Some(0) } else { self.deleted_by };
        let mut failed = None;
        // Nearly always all are seen: a loop that does nothing else.
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

    /// The view saw nothing from row `first` to row `last`. If these are versions of one key, there may be very many.
    fn leave_versions_out(
        &mut self,
        context: &Context<'_>,
        first: RowId,
        last: RowId,
    ) -> Result<(), SideError> {
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

    /// Whether the rows lie one behind the other and the view sees all: mostly so where they came in key order.
    fn is_live_run(&self, context: &Context<'_>) -> Result<bool, ReadError> {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return Ok(true) };
        Ok(last.0.checked_sub(first.0) == Some(self.rows.len() as u64 - 1)
            && self.rows.is_sorted_by(|one, next| one.next() == *next)
            && context.view.next_run_in(first..last.next())? == Some(first..last.next()))
    }

    /// Errs if the rows of the batch before are not in the order of their keys. Asked for when all of them were given, and so
    /// lie in the processor's cache.
    fn check_batch(&mut self, context: &Context<'_>, forward: bool) -> Result<(), SideError> {
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
            return Err(SideError::Blocks(Arc::clone(&self.store), OrderedError::Damaged { what }));
        }
        Ok(())
    }

    /// Cuts off what lies beyond the limit.
    fn cut_off(&mut self, context: &Context<'_>, limits: &Limits, forward: bool) -> Result<(), SideError> {
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

    /// The row that comes next; [`fill`](Self::fill) made it ready.
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

    /// The pair that comes next, if its key was made ready.
    pub(super) fn current(&self) -> Option<(&[u8], RowId)> {
        self.row().filter(|_| self.key_at == self.at).map(|row| (&self.key[..], row))
    }
}

/// Recent pairs: those of `run` in the range.
pub(super) struct RunSide {
    pub(super) run: Arc<Recent>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// Rows below this are in blocks.
    pub(super) watermark: u64,
    /// Pairs that the transaction took away.
    pub(super) skipped: usize,
    pub(super) learning: Learning,
    /// The pairs are those of the transaction's own rows, not of the view's.
    pub(super) own: bool,
}

impl RunSide {
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
            let sight = context.sight();
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

    /// The view did not see the pair at `place`, and others before. If the next one is of the same key, there may be very many: at
    /// most one is seen, the newest of those below the view's length.
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
        if self.end - self.at > AHEAD {
            let ahead = if forward { self.at + AHEAD } else { self.end - 1 - AHEAD };
            context.view.prefetch(self.run.run.get(ahead).1);
        }
    }

    pub(super) fn current(&self, forward: bool) -> Option<(&[u8], RowId)> {
        (self.at < self.end).then(|| self.run.run.get(self.place(forward)))
    }
}

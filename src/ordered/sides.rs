//! Where a stream's pairs come from: blocks ([`BlockSide`]) and recent rows ([`RunSide`]).

use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::snapshot::Snapshot;
use pongo_core::table::TableView;
use pongo_index::ordered::{Cursor, OrderedError, OrderedStore};

use super::index::{OrderedIndex, Recent};
use super::own::OwnRows;
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

    /// Whether the view has the row, and the transaction left it.
    #[inline]
    pub(super) fn sees(&self, row: RowId) -> bool {
        row.0 < self.view.len() && self.view.is_live(row)
    }

    /// Takes rows off that the transaction took away. Returns how many.
    pub(super) fn hide(&self, rows: &mut Vec<RowId>) -> usize {
        let Some(own) = &self.own else { return 0 };
        let before = rows.len();
        own.retain(self.view, rows);
        before - rows.len()
    }

    /// Whether a recent pair counts: one of the view's rows or of the transaction's. One that the transaction took away is
    /// counted.
    fn admits(&self, key: &[u8], row: RowId, skipped: &mut usize) -> bool {
        let Some(own) = &self.own else { return self.sees(row) };
        if row.0 >= self.view.len() {
            return own.is_own(&self.index, key, row);
        }
        if !self.view.is_live(row) {
            return false;
        }
        let hidden = self.hide(&mut vec![row]);
        *skipped += hidden;
        hidden == 0
    }
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
            let more = self.cursor.fill(&mut self.rows, self.batch);
            self.ended = !more.map_err(|error| SideError::Blocks(Arc::clone(&self.store), error))?;
            self.batch = (self.batch * 2).min(LARGEST_BATCH);
            for &row in &self.rows {
                context.view.prefetch(row);
            }
            if !self.is_live_run(context) {
                self.rows.retain(|&row| context.sees(row));
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

    /// Whether the rows lie one behind the other and the view sees all: mostly so where they came in key order.
    fn is_live_run(&self, context: &Context<'_>) -> bool {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return true };
        last.0.checked_sub(first.0) == Some(self.rows.len() as u64 - 1)
            && self.rows.is_sorted_by(|one, next| one.next() == *next)
            && context.view.next_run_in(first..last.next()) == Some(first..last.next())
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
}

impl RunSide {
    fn place(&self, forward: bool) -> usize {
        if forward { self.at } else { self.end - 1 }
    }

    pub(super) fn fill(&mut self, context: &Context<'_>, limits: &Limits, forward: bool) {
        while self.at < self.end {
            let place = self.place(forward);
            let (key, row) = self.run.run.get(place);
            if row.0 >= self.watermark
                && !limits.is_in_hole(key)
                && context.admits(key, row, &mut self.skipped)
            {
                return;
            }
            self.advance(context, forward);
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

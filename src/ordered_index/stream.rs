//! [`Stream`]: the rows of an index that a view sees, in key order, from both ends.
//!
//! A stream merges the pairs in blocks, the recent rows sorted in memory, and the rows that are in
//! neither, which it scans. A pair counts if its row is below the view's length and alive at the
//! view's `Seq`, and its key is the row's own. An index may contain too many pairs, never too few,
//! so the result is exact at any view, older or newer than the index.

use std::cmp::Ordering;
use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::table::TableView;
use pongo_index::ordered::Edge;

use super::OrderedIndexes;
use super::index::{OrderedIndex, Sources};
use super::limits::{Limits, Pair};
use super::own::{OwnRows, Passed};
use super::recent::{Learning, Recent};
use super::scan::Scan;
use super::sources::{BlockSource, Context, RunSource, SourceError};

/// An iteration through an index in one direction.
struct MergeIter {
    forward: bool,
    /// The remaining range: it excludes the pairs returned before this flow was opened.
    limits: Limits,
    blocks: Option<BlockSource>,
    /// Runs of the view's rows, followed from `own_from` on by those of the transaction's own rows.
    runs: Vec<RunSource>,
    own_from: usize,
    scan: Option<Scan>,
    /// In a transaction: where the search in the view's rows started, until that is recorded.
    began: Option<Passed>,
}

/// The source of the next pair.
#[derive(Clone, Copy)]
enum Next {
    Blocks,
    Run(usize),
    Scan,
}

impl MergeIter {
    fn open(
        context: &mut Context<'_>,
        sources: &Sources,
        limits: &Limits,
        forward: bool,
    ) -> Result<Self, SourceError> {
        let (own_start, own_end) = (limits.start(), limits.end());
        let began = context.own.as_ref().map(|own| {
            let from = if forward { Some(limits.first()) } else { limits.last() };
            match own.passed(&context.index, forward) {
                // Continue from the end of the part that is known to be empty.
                Some(passed) if passed.covers(&from, forward) => passed,
                _ => Passed { to: from.clone(), from },
            }
        });
        let passed = began.as_ref().filter(|began| began.from != began.to);
        let nowhere = passed.is_some_and(|passed| match &passed.to {
            None => true,
            Some(to) if forward => limits.last().is_some_and(|last| *to >= last),
            Some(to) => *to <= limits.first(),
        });
        let passed = passed.and_then(|passed| passed.to.as_ref());
        let (start, end) = match passed {
            Some(pair) if forward => (Edge::BeforePair(&pair.key, pair.row), own_end),
            Some(pair) => (own_start, Edge::BeforePair(&pair.key, pair.row)),
            None => (own_start, own_end),
        };
        let watermark = sources.sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row);
        let blocks = match &sources.sorted {
            None => None,
            Some(_) if nowhere => None,
            Some((store, sorted)) => {
                let (from, until) = if forward { (start, end) } else { (end, start) };
                let cursor = context.cursor(store, sorted, from, forward)?;
                Some(BlockSource::new(store, cursor.until(until)))
            }
        };
        let side = |run: &Arc<Recent>, start: Edge<'_>, end: Edge<'_>, watermark, own| {
            let (at, end) = (run.run.rank(start), run.run.rank(end));
            RunSource {
                run: Arc::clone(run),
                at,
                end: end.max(at),
                watermark,
                skipped: 0,
                learning: Learning::default(),
                own,
            }
        };
        let of_view =
            sources.runs.iter().filter(|_| !nowhere).map(|run| side(run, start, end, watermark, false));
        let mut runs: Vec<_> = of_view.filter(|run| run.at < run.end).collect();
        let own_from = runs.len();
        if let Some(own) = &context.own {
            let own = own.runs(&context.index)?;
            let own = own.iter().map(|run| side(run, own_start, own_end, 0, true));
            runs.extend(own.filter(|run| run.at < run.end));
        }
        let scan = sources.scan_from.filter(|_| !nowhere).map(|from| Scan::new(forward, from));
        Ok(Self { forward, limits: limits.clone(), blocks, runs, own_from, scan, began })
    }

    /// Returns the next row, if blocks are the only source and it is ready.
    #[inline]
    fn take_ready(&mut self) -> Option<RowId> {
        if !self.is_blocks_alone() {
            return None;
        }
        let blocks = self.blocks.as_mut()?;
        let &row = blocks.rows.get(blocks.at)?;
        blocks.at += 1;
        Some(row)
    }

    /// Returns the next consecutive rows, at least two, if blocks are the only source and they are
    /// ready.
    #[inline]
    fn take_run(&mut self) -> Option<std::ops::Range<RowId>> {
        if !self.is_blocks_alone() {
            return None;
        }
        let blocks = self.blocks.as_mut()?;
        let ready = blocks.rows.get(blocks.at..)?;
        // Called for each row where rows are not in key order, so `None` must be found quickly.
        let &[first, second, ..] = ready else { return None };
        if first.next() != second {
            return None;
        }
        let len = 1 + ready.windows(2).take_while(|pair| pair[0].next() == pair[1]).count();
        blocks.at += len;
        Some(first..RowId(first.0 + len as u64))
    }

    fn is_blocks_alone(&self) -> bool {
        self.runs.is_empty() && self.scan.is_none()
    }

    /// Fills every source and returns which one has the next pair. Without `with_key`, the key is
    /// not read if it is not needed.
    fn ready(&mut self, context: &Context<'_>, with_key: bool) -> Result<Option<Next>, SourceError> {
        if let Some(blocks) = &mut self.blocks {
            blocks.fill(context, &self.limits, self.forward)?;
        }
        for run in &mut self.runs {
            run.fill(context, &self.limits, self.forward)?;
        }
        if let Some(scan) = &mut self.scan {
            scan.fill(context, &self.limits)?;
        }
        let alone = self.is_blocks_alone() && !with_key && self.began.is_none();
        let mut first = None;
        if let Some(blocks) = &mut self.blocks
            && blocks.row().is_some()
        {
            if alone {
                return Ok(Some(Next::Blocks));
            }
            blocks.fill_key(context)?;
            first = Some(Next::Blocks);
        }
        if let Some(pair) = self.scan.as_ref().and_then(Scan::current)
            && self.is_sooner(pair, first)
        {
            first = Some(Next::Scan);
        }
        for place in 0..self.runs.len() {
            if place == self.own_from {
                self.note_passed(context, first);
            }
            // A transaction's row can be in two of its runs.
            while let Some(pair) = self.runs[place].current(self.forward)
                && first.and_then(|first| self.current(first)) == Some(pair)
            {
                self.runs[place].advance(context, self.forward);
                self.runs[place].fill(context, &self.limits, self.forward)?;
            }
            let Some(pair) = self.runs[place].current(self.forward) else { continue };
            if self.is_sooner(pair, first) {
                first = Some(Next::Run(place));
            }
        }
        self.note_passed(context, first);
        Ok(first)
    }

    /// Records, once the first row of the view or the end is found, the part up to it in which the
    /// transaction left no row of the view. Later searches skip that part.
    fn note_passed(&mut self, context: &Context<'_>, first: Option<Next>) {
        let Some(began) = self.began.take() else { return };
        let skipped = self.blocks.as_ref().map_or(0, |blocks| blocks.skipped)
            + self.scan.as_ref().map_or(0, |scan| scan.skipped)
            + self.runs[..self.own_from].iter().map(|run| run.skipped).sum::<usize>();
        // Rows in excluded key ranges were skipped for this range only.
        if skipped < WORTH_NOTING || !self.limits.holes.is_empty() {
            return;
        }
        let found = first.and_then(|first| self.current(first));
        let to = match found {
            // A backward search starts below its pair.
            Some((key, row)) => {
                Some(Pair { key: key.to_vec(), row: if self.forward { row } else { row.next() } })
            }
            None if self.forward => self.limits.last(),
            None => Some(self.limits.first()),
        };
        if let Some(own) = &context.own {
            own.note_passed(&context.index, self.forward, Passed { from: began.from, to });
        }
    }

    /// Returns whether a pair precedes that of the best source so far.
    fn is_sooner(&self, pair: (&[u8], RowId), best: Option<Next>) -> bool {
        best.and_then(|best| self.current(best)).is_none_or(|best| {
            pair.cmp(&best) == if self.forward { Ordering::Less } else { Ordering::Greater }
        })
    }

    fn current(&self, next: Next) -> Option<(&[u8], RowId)> {
        match next {
            Next::Blocks => self.blocks.as_ref()?.current(),
            Next::Run(place) => self.runs[place].current(self.forward),
            Next::Scan => self.scan.as_ref()?.current(),
        }
    }

    fn row(&self, next: Next) -> Option<RowId> {
        match next {
            Next::Blocks => self.blocks.as_ref()?.row(),
            _ => self.current(next).map(|(_, row)| row),
        }
    }

    fn advance(&mut self, next: Next, context: &Context<'_>) {
        match next {
            Next::Blocks => {
                if let Some(blocks) = &mut self.blocks {
                    blocks.at += 1;
                }
            }
            Next::Run(place) => self.runs[place].advance(context, self.forward),
            Next::Scan => {
                if let Some(scan) = &mut self.scan {
                    scan.advance();
                }
            }
        }
    }
}

/// Minimum number of rows removed by the transaction that a search must skip before the result is
/// recorded.
const WORTH_NOTING: usize = 16;

/// Number of times that corrupt blocks are quarantined and the stream reopened before all rows are
/// scanned instead.
const TRIES: usize = 3;

/// A double-ended stream of the rows of an index; see the [module](self).
pub(crate) struct Stream<'s> {
    context: Context<'s>,
    limits: Limits,
    front: Option<Box<MergeIter>>,
    back: Option<Box<MergeIter>>,
    /// Last row and pairs that each end returned. `front_pair` is set only once both ends are in
    /// use.
    front_row: Option<RowId>,
    /// Value of `front_row` before the last run was taken.
    before_run: Option<RowId>,
    front_pair: Option<Pair>,
    back_pair: Option<Pair>,
    tries: usize,
    done: bool,
    /// The view's rows are excluded.
    own_only: bool,
}

impl<'s> Stream<'s> {
    pub(crate) fn new(
        ordered: &'s OrderedIndexes,
        engine: &'s Arc<Engine>,
        view: &'s TableView,
        heap: &'s (dyn HeapRead + Sync),
        index: Arc<OrderedIndex>,
        limits: Limits,
        own: Option<Box<dyn OwnRows + 's>>,
    ) -> Self {
        let context = Context { view, heap, index, ordered, engine, own, wide: None };
        Self {
            context,
            limits,
            front: None,
            back: None,
            front_row: None,
            before_run: None,
            front_pair: None,
            back_pair: None,
            tries: 0,
            done: false,
            own_only: false,
        }
    }

    pub(crate) fn view(&self) -> &'s TableView {
        self.context.view
    }

    /// Returns the position of the front: the pair that it returned last, or after which it
    /// started.
    pub(crate) fn front_place(&self) -> Result<Option<Pair>, ReadError> {
        self.front_place_at(None)
    }

    /// Returns the position of the front as if `given` were the last row returned.
    pub(crate) fn front_place_at(&self, given: Option<RowId>) -> Result<Option<Pair>, ReadError> {
        let Some(row) = given.or(self.front_row) else { return Ok(self.limits.after.clone()) };
        let mut key = Vec::new();
        self.context.key(row, &mut key)?;
        Ok(Some(Pair { key, row }))
    }

    /// Starts after a pair. Must be called before the first row is taken.
    pub(crate) fn start_after(&mut self, pair: Pair) {
        self.limits.after = Some(pair);
    }

    /// Returns the stream's index.
    pub(crate) fn index(&self) -> &Arc<OrderedIndex> {
        &self.context.index
    }

    /// Ends before a pair. Must be called before the first row is taken.
    pub(crate) fn end_before(&mut self, pair: Pair) {
        self.limits.before = Some(pair);
    }

    /// Returns the pair that the back returned last.
    pub(crate) fn back_place(&self) -> Option<&Pair> {
        self.back_pair.as_ref()
    }

    /// Excludes the view's rows, so that only the transaction's own remain. Must be called before
    /// the first row is taken.
    pub(crate) fn own_only(mut self) -> Self {
        self.own_only = true;
        self
    }

    fn sources(&mut self) -> Result<Sources, ReadError> {
        if self.own_only || self.context.view.is_empty() {
            return Ok(Sources { sorted: None, runs: Vec::new(), scan_from: None });
        }
        if self.tries >= TRIES {
            return Ok(Sources { sorted: None, runs: Vec::new(), scan_from: Some(0) });
        }
        let Context { ordered, engine, view, heap, .. } = self.context;
        self.context.index.sources(ordered, engine, view, heap)
    }

    fn open(&mut self, forward: bool) -> Result<Box<MergeIter>, ReadError> {
        loop {
            let sources = self.sources()?;
            let limits = self.limits_now(forward)?;
            match MergeIter::open(&mut self.context, &sources, &limits, forward) {
                Ok(flow) => return Ok(Box::new(flow)),
                Err(error) => self.recover(error)?,
            }
        }
    }

    /// Returns the limits without the pairs that this direction has returned.
    fn limits_now(&self, forward: bool) -> Result<Limits, ReadError> {
        let mut limits = self.limits.clone();
        if forward {
            limits.after = self.front_place()?;
        } else if let Some(pair) = &self.back_pair {
            limits.before = Some(pair.clone());
        }
        Ok(limits)
    }

    fn recover(&mut self, error: SourceError) -> Result<(), ReadError> {
        match error {
            SourceError::Read(error) => Err(error),
            SourceError::Blocks(store, error) => {
                if self.context.ordered.handle_corruption(&store, &error) {
                    self.tries += 1;
                } else {
                    // Another thread quarantined or closed this store in the meantime; the current
                    // one is not affected.
                    self.context.index.forget_blocks_in(&store);
                }
                Ok(())
            }
        }
    }

    /// Returns the next consecutive rows from the front, if they are known without extra work.
    pub(crate) fn next_run(&mut self) -> Option<std::ops::Range<RowId>> {
        if self.back_pair.is_some() || self.back.is_some() || self.done {
            return None;
        }
        let run = self.front.as_mut()?.take_run()?;
        self.before_run = self.front_row;
        self.front_row = Some(RowId(run.end.0 - 1));
        Some(run)
    }

    /// Returns the last `unused` rows of a run from [`next_run`](Self::next_run) to the stream.
    pub(crate) fn unread(&mut self, run: &std::ops::Range<RowId>, unused: u64) {
        if unused > 0
            && let Some(flow) = &mut self.front
            && let Some(blocks) = &mut flow.blocks
        {
            blocks.at -= unused as usize;
            let all = unused == run.end.0 - run.start.0;
            self.front_row = if all { self.before_run } else { Some(RowId(run.end.0 - unused - 1)) };
        }
    }

    /// Ends the stream. The positions of its front and back stay.
    pub(crate) fn end(&mut self) {
        self.done = true;
        (self.front, self.back) = (None, None);
    }

    /// Returns the next row from the front.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<RowId>, ReadError> {
        // The common case: one source, one end, and a row that is ready.
        if self.back_pair.is_none()
            && self.back.is_none()
            && let Some(flow) = &mut self.front
            && let Some(row) = flow.take_ready()
        {
            self.front_row = Some(row);
            return Ok(Some(row));
        }
        self.step(true)
    }

    /// Returns the next row from the back.
    pub(crate) fn next_back(&mut self) -> Result<Option<RowId>, ReadError> {
        if self.front_row.is_some() && self.front_pair.is_none() {
            self.front_pair = self.front_place()?;
        }
        self.step(false)
    }

    fn step(&mut self, forward: bool) -> Result<Option<RowId>, ReadError> {
        while !self.done {
            let taken = if forward { self.front.take() } else { self.back.take() };
            let mut flow = match taken {
                Some(flow) => flow,
                None => self.open(forward)?,
            };
            match self.advance(&mut flow) {
                Ok(row) => {
                    if forward {
                        self.front = Some(flow);
                    } else {
                        self.back = Some(flow);
                    }
                    self.done = row.is_none();
                    return Ok(row);
                }
                Err(error) => self.recover(error)?,
            }
        }
        Ok(None)
    }

    fn advance(&mut self, flow: &mut MergeIter) -> Result<Option<RowId>, SourceError> {
        let forward = flow.forward;
        let with_key = !forward || self.back.is_some() || self.back_pair.is_some();
        let Some(next) = flow.ready(&self.context, with_key)? else { return Ok(None) };
        let row = if with_key {
            let Some((key, row)) = flow.current(next) else { return Ok(None) };
            let met = if forward {
                self.back_pair.as_ref().is_some_and(|back| (key, row) >= (&back.key[..], back.row))
            } else {
                self.front_pair.as_ref().is_some_and(|front| (key, row) <= (&front.key[..], front.row))
            };
            if met {
                return Ok(None);
            }
            let pair = Some(Pair { key: key.to_vec(), row });
            *(if forward { &mut self.front_pair } else { &mut self.back_pair }) = pair;
            row
        } else {
            let Some(row) = flow.row(next) else { return Ok(None) };
            row
        };
        if forward {
            self.front_row = Some(row);
        }
        flow.advance(next, &self.context);
        Ok(Some(row))
    }
}

//! [`Stream`]: the rows of an index that a view sees, in the order of their keys, from both ends.
//!
//! It merges the pairs in blocks with the recent rows, which are sorted in memory; or it looks through the rows, where neither is
//! to be had. A pair counts if its row is below the view's length and alive at its `Seq`, and its key is the row's own: an index
//! can name too much, never too little, so that what is left is exact at any view, older than the index or newer.

use std::cmp::Ordering;
use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::snapshot::Snapshot;
use pongo_core::table::TableView;
use pongo_index::ordered::{Cursor, Edge, OrderedError, OrderedStore};

use super::index::{OrderedIndex, Recent, Sources, ViewKeys};
use super::scan::Scan;
use crate::store::Shared;

/// A pair that is no longer where it was.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) row: RowId,
}

/// Which pairs are meant: from the first key on, below the second, both as the index encodes them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Limits {
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) below: Option<Vec<u8>>,
    /// Behind this pair only.
    pub(crate) after: Option<Pair>,
    /// Before this pair only.
    pub(crate) before: Option<Pair>,
}

impl Limits {
    fn start(&self) -> Edge<'_> {
        match (&self.after, &self.from) {
            (Some(pair), Some(from)) if pair.key < *from => Edge::Before(from),
            (Some(pair), _) => Edge::AfterPair(&pair.key, pair.row),
            (None, Some(from)) => Edge::Before(from),
            (None, None) => Edge::Start,
        }
    }

    fn end(&self) -> Edge<'_> {
        match (&self.before, &self.below) {
            (Some(pair), Some(below)) if pair.key >= *below => Edge::Before(below),
            (Some(pair), _) => Edge::BeforePair(&pair.key, pair.row),
            (None, Some(below)) => Edge::Before(below),
            (None, None) => Edge::End,
        }
    }

    /// Whether a pair is among those meant.
    pub(super) fn contain(&self, key: &[u8], row: RowId) -> bool {
        self.start_admits(key, row) && self.end_admits(key, row)
    }

    fn start_admits(&self, key: &[u8], row: RowId) -> bool {
        !self.start().is_behind(key, row)
    }

    #[inline]
    fn end_admits(&self, key: &[u8], row: RowId) -> bool {
        if let Some(before) = &self.before
            && (key, row) >= (&before.key[..], before.row)
        {
            return false;
        }
        self.below.as_ref().is_none_or(|below| key < &below[..])
    }

    fn admits(&self, forward: bool, key: &[u8], row: RowId) -> bool {
        if forward { self.end_admits(key, row) } else { self.start_admits(key, row) }
    }
}

/// What all sides look at.
struct Context<'s> {
    view: &'s TableView,
    heap: &'s dyn HeapRead,
    index: Arc<OrderedIndex>,
    shared: &'s Arc<Shared>,
    /// A newer view, where the index goes beyond this one: a search may need the keys of rows that this one does not see.
    wide: Option<Snapshot>,
}

impl Context<'_> {
    /// The row's key, behind what is in `out`.
    fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes = self.view.row_bytes(row)?;
        self.index.keys().put(&self.view.core().schema().table, bytes, self.heap, out)
    }

    #[inline]
    fn sees(&self, row: RowId) -> bool {
        row.0 < self.view.len() && self.view.is_live(row)
    }
}

/// Rows that are read together: few at first, since most ranges are short.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 256;
/// Recent rows that are fetched ahead.
const AHEAD: usize = 8;

/// Pairs that lie in blocks.
struct BlockSide {
    store: Arc<OrderedStore>,
    cursor: Cursor,
    /// Rows of this batch that the view sees, with their keys one behind the other.
    rows: Vec<RowId>,
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    /// The last key of the batch before, if there was any.
    last: Vec<u8>,
    any: bool,
    at: usize,
    batch: usize,
    ended: bool,
}

/// Why a side cannot go on.
enum SideError {
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
    /// Makes the next pair ready.
    fn fill(&mut self, context: &Context<'_>, limits: &Limits, forward: bool) -> Result<(), SideError> {
        while self.at == self.rows.len() && !self.ended {
            self.rows.clear();
            self.at = 0;
            let more = self.cursor.fill(&mut self.rows, self.batch);
            self.ended = !more.map_err(|error| SideError::Blocks(Arc::clone(&self.store), error))?;
            self.batch = (self.batch * 2).min(LARGEST_BATCH);
            for &row in &self.rows {
                context.view.prefetch(row);
            }
            self.rows.retain(|&row| context.sees(row));
            self.take_keys(context, limits, forward)?;
        }
        Ok(())
    }

    fn take_keys(&mut self, context: &Context<'_>, limits: &Limits, forward: bool) -> Result<(), SideError> {
        self.keys.clear();
        self.ends.clear();
        let (source, table) = (context.index.keys(), &context.view.core().schema().table);
        for (place, &row) in self.rows.iter().enumerate() {
            let bytes = context.view.row_bytes(row).map_err(ReadError::from)?;
            let from = self.keys.len();
            source.put(table, bytes, context.heap, &mut self.keys)?;
            self.ends.push(self.keys.len());
            let (before, key) = self.keys.split_at(from);
            let last = match place {
                0 if !self.any => continue,
                0 => &self.last[..],
                1 => before,
                _ => &before[self.ends[place - 2]..],
            };
            if if forward { key < last } else { key > last } {
                let what = format!("row {row} in another order than that of its key");
                return Err(SideError::Blocks(Arc::clone(&self.store), OrderedError::Damaged { what }));
            }
        }
        let Some(last) = self.rows.len().checked_sub(1) else { return Ok(()) };
        self.any = true;
        let key = self.keys[self.start_of(last)..].to_vec();
        // The last batch goes beyond the limit.
        if !limits.admits(forward, &key, self.rows[last]) {
            let admitted = |&place: &usize| limits.admits(forward, self.key(place), self.rows[place]);
            let within = (0..self.rows.len()).take_while(admitted).count();
            self.rows.truncate(within);
            self.ended = true;
        }
        self.last = key;
        Ok(())
    }

    fn start_of(&self, place: usize) -> usize {
        if place == 0 { 0 } else { self.ends[place - 1] }
    }

    fn key(&self, place: usize) -> &[u8] {
        &self.keys[self.start_of(place)..self.ends[place]]
    }

    fn current(&self) -> Option<(&[u8], RowId)> {
        let &row = self.rows.get(self.at)?;
        Some((self.key(self.at), row))
    }
}

/// Recent pairs: those of `run` in the range.
struct RunSide {
    run: Arc<Recent>,
    at: usize,
    end: usize,
    /// Rows below this are in blocks.
    watermark: u64,
}

impl RunSide {
    fn place(&self, forward: bool) -> usize {
        if forward { self.at } else { self.end - 1 }
    }

    fn fill(&mut self, context: &Context<'_>, forward: bool) {
        while self.at < self.end {
            let place = self.place(forward);
            let row = self.run.run.get(place).1;
            if row.0 >= self.watermark && context.sees(row) {
                return;
            }
            self.advance(context, forward);
        }
    }

    fn advance(&mut self, context: &Context<'_>, forward: bool) {
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

    fn current(&self, forward: bool) -> Option<(&[u8], RowId)> {
        (self.at < self.end).then(|| self.run.run.get(self.place(forward)))
    }
}

/// The way through an index in one direction.
struct Flow {
    forward: bool,
    /// What it goes through: what was given before it began is taken off.
    limits: Limits,
    blocks: Option<BlockSide>,
    runs: Vec<RunSide>,
    scan: Option<Scan>,
}

/// Which side has the next pair.
#[derive(Clone, Copy)]
enum Next {
    Blocks,
    Run(usize),
    Scan,
}

impl Flow {
    fn open(
        context: &mut Context<'_>,
        sources: &Sources,
        limits: &Limits,
        forward: bool,
    ) -> Result<Self, SideError> {
        let (start, end) = (limits.start(), limits.end());
        let watermark = sources.sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row);
        let blocks = match &sources.sorted {
            None => None,
            Some((store, sorted)) => {
                if watermark > context.view.len() && context.wide.is_none() {
                    context.wide = Some(context.shared.engine.begin_read()?);
                }
                let wide = match &context.wide {
                    Some(snapshot) => snapshot.view(context.index.core())?,
                    None => None,
                };
                let heap = match &context.wide {
                    Some(snapshot) => snapshot as &dyn HeapRead,
                    None => context.heap,
                };
                let keys = ViewKeys { view: wide.unwrap_or(context.view), heap, keys: context.index.keys() };
                let (from, until) = if forward { (start, end) } else { (end, start) };
                let cursor = if forward { sorted.forward(from, &keys) } else { sorted.backward(from, &keys) };
                let cursor = cursor.map_err(|error| match error {
                    OrderedError::Keys { .. } => SideError::Read(context.index.fault(error)),
                    error => SideError::Blocks(Arc::clone(store), error),
                })?;
                Some(BlockSide {
                    store: Arc::clone(store),
                    cursor: cursor.until(until),
                    rows: Vec::new(),
                    keys: Vec::new(),
                    ends: Vec::new(),
                    last: Vec::new(),
                    any: false,
                    at: 0,
                    batch: FIRST_BATCH,
                    ended: false,
                })
            }
        };
        let runs = sources.runs.iter().map(|run| {
            let (at, end) = (run.run.rank(start), run.run.rank(end));
            RunSide { run: Arc::clone(run), at, end: end.max(at), watermark }
        });
        Ok(Self {
            forward,
            limits: limits.clone(),
            blocks,
            runs: runs.filter(|run| run.at < run.end).collect(),
            scan: sources.scan.then(|| Scan::new(forward)),
        })
    }

    /// Makes the next pair of every side ready and says which comes first.
    fn ready(&mut self, context: &Context<'_>) -> Result<Option<Next>, SideError> {
        if let Some(blocks) = &mut self.blocks {
            blocks.fill(context, &self.limits, self.forward)?;
        }
        for run in &mut self.runs {
            run.fill(context, self.forward);
        }
        if let Some(scan) = &mut self.scan {
            scan.fill(context.view, context.heap, &context.index, &self.limits)?;
        }
        let mut first = None;
        if let Some(blocks) = &self.blocks
            && blocks.current().is_some()
        {
            first = Some(Next::Blocks);
        }
        for (place, run) in self.runs.iter().enumerate() {
            let Some(pair) = run.current(self.forward) else { continue };
            let sooner = first.and_then(|first| self.current(first)).is_none_or(|best| {
                pair.cmp(&best) == if self.forward { Ordering::Less } else { Ordering::Greater }
            });
            if sooner {
                first = Some(Next::Run(place));
            }
        }
        if let Some(scan) = &self.scan
            && scan.current().is_some()
        {
            first = Some(Next::Scan);
        }
        Ok(first)
    }

    fn current(&self, next: Next) -> Option<(&[u8], RowId)> {
        match next {
            Next::Blocks => self.blocks.as_ref()?.current(),
            Next::Run(place) => self.runs[place].current(self.forward),
            Next::Scan => self.scan.as_ref()?.current(),
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

/// How often doubtful blocks are set aside and others tried before the rows are looked through.
const TRIES: usize = 3;

/// See the module.
pub(crate) struct Stream<'s> {
    context: Context<'s>,
    limits: Limits,
    front: Option<Flow>,
    back: Option<Flow>,
    /// The last pairs that each end gave. The front's key is filled in only once both ends are in use.
    front_row: Option<RowId>,
    front_pair: Option<Pair>,
    back_pair: Option<Pair>,
    tries: usize,
    done: bool,
}

impl<'s> Stream<'s> {
    pub(crate) fn new(
        shared: &'s Arc<Shared>,
        view: &'s TableView,
        heap: &'s dyn HeapRead,
        index: Arc<OrderedIndex>,
        limits: Limits,
    ) -> Self {
        let context = Context { view, heap, index, shared, wide: None };
        Self {
            context,
            limits,
            front: None,
            back: None,
            front_row: None,
            front_pair: None,
            back_pair: None,
            tries: 0,
            done: false,
        }
    }

    pub(crate) fn view(&self) -> &'s TableView {
        self.context.view
    }

    /// Where the front is: the pair it gave last, or behind which it began.
    pub(crate) fn front_place(&self) -> Result<Option<Pair>, ReadError> {
        let Some(row) = self.front_row else { return Ok(self.limits.after.clone()) };
        let mut key = Vec::new();
        self.context.key(row, &mut key)?;
        Ok(Some(Pair { key, row }))
    }

    /// Begins behind a pair. Nothing was taken yet.
    pub(crate) fn begin_after(&mut self, pair: Pair) {
        self.limits.after = Some(pair);
    }

    fn sources(&mut self) -> Result<Sources, ReadError> {
        if self.tries >= TRIES {
            return Ok(Sources { sorted: None, runs: Vec::new(), scan: true });
        }
        let shared = self.context.shared;
        self.context.index.sources(&shared.ordered, &shared.engine, self.context.view, self.context.heap)
    }

    fn open(&mut self, forward: bool) -> Result<Flow, ReadError> {
        loop {
            let sources = self.sources()?;
            let limits = self.limits_now(forward)?;
            match Flow::open(&mut self.context, &sources, &limits, forward) {
                Ok(flow) => return Ok(flow),
                Err(error) => self.recover(error)?,
            }
        }
    }

    /// The limits, with what this direction gave already taken off.
    fn limits_now(&self, forward: bool) -> Result<Limits, ReadError> {
        let mut limits = self.limits.clone();
        if forward {
            limits.after = self.front_place()?;
        } else if let Some(pair) = &self.back_pair {
            limits.before = Some(pair.clone());
        }
        Ok(limits)
    }

    fn recover(&mut self, error: SideError) -> Result<(), ReadError> {
        match error {
            SideError::Read(error) => Err(error),
            SideError::Blocks(store, error) => {
                if self.context.shared.ordered.doubt(&store, &error) {
                    self.tries += 1;
                } else {
                    // Set aside by someone else meanwhile, or closed: nothing is wrong with what is there now.
                    self.context.index.forget_blocks_in(&store);
                }
                Ok(())
            }
        }
    }

    /// The next row from the front.
    pub(crate) fn next(&mut self) -> Result<Option<RowId>, ReadError> {
        self.step(true)
    }

    /// The next row from the back.
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

    fn advance(&mut self, flow: &mut Flow) -> Result<Option<RowId>, SideError> {
        let Some(next) = flow.ready(&self.context)? else { return Ok(None) };
        let Some((key, row)) = flow.current(next) else { return Ok(None) };
        if flow.forward {
            if self.back_pair.as_ref().is_some_and(|back| (key, row) >= (&back.key[..], back.row)) {
                return Ok(None);
            }
            self.front_row = Some(row);
            if self.back.is_some() {
                self.front_pair = Some(Pair { key: key.to_vec(), row });
            }
        } else {
            if self.front_pair.as_ref().is_some_and(|front| (key, row) <= (&front.key[..], front.row)) {
                return Ok(None);
            }
            self.back_pair = Some(Pair { key: key.to_vec(), row });
        }
        flow.advance(next, &self.context);
        Ok(Some(row))
    }
}

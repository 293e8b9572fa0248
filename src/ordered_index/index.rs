//! One ordered index of one table: the part stored in blocks, up to its watermark, and the rows
//! after the watermark, sorted in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pongo_core::engine::Engine;
use pongo_core::error::{ReadError, StorageError};
use pongo_core::fields::HeapRead;
use pongo_core::guard::fails;
use pongo_core::ids::{RowId, Seq};
use pongo_core::schema::StoredField;
use pongo_core::table::{TableCore, TableView};
use pongo_index::key_hash;
use pongo_index::ordered::{
    IndexId, KeyExtractor, OrderedError, OrderedStore, Pairs, Rewrite, Sorted, Watermark,
};

use super::memory::Memory;
use super::recent::Recent;
use super::{BEGAN, KeyEncoder, OrderedIndexes, Tuning, lock};

/// Without blocks, a range query sorts at most this number of rows, or the number sorted already if
/// that is larger, and scans the remaining rows. The first range over a large table therefore takes
/// no longer than a few later ones, and soon all rows are sorted.
const SORTED_AT_ONCE: u64 = 1 << 20;
/// Sorted runs are joined while the result takes at most this fraction (1/n) of the memory limit.
/// The same fraction is kept free for joining.
const JOINED_PART: u64 = 8;
/// Rows are sorted in steps that take at most this fraction (1/n) of the memory limit.
const STEP_PART: u64 = 16;
/// Bytes that sorting takes per row, in addition to twice the key's length: the row number, an
/// index into the order, and the sort key.
const SORTING_A_ROW: u64 = 36;
/// Additional bytes per row if keys have no fixed length.
const SORTING_A_LENGTH: u64 = 16;

/// Number of row bytes before the watermark that are hashed into its digest.
const DIGEST: u64 = 4096;

/// A forced catch-up drops the pairs of deleted rows if more than one in this many pairs in blocks
/// belongs to a deleted row.
const WORTH_DROPPING: u64 = 16;
/// With fewer recent pairs than this, the pairs of rows that no snapshot can see any more are
/// sorted too: finding the oldest visible commit takes a few microseconds.
const MANY: usize = 1024;

/// One ordered index of one table; see the [module](self).
#[derive(Debug)]
pub(crate) struct OrderedIndex {
    core: Arc<TableCore>,
    fields: Vec<usize>,
    keys: KeyEncoder,
    id: IndexId,
    state: Mutex<State>,
    tuning: Tuning,
    /// Held by the thread that brings the blocks up to date.
    merging: Mutex<()>,
    /// The table's length, and (in `look_at_deleted`) its number of deleted rows, at which the
    /// index worker checks this index again.
    look_at: AtomicU64,
    look_at_deleted: AtomicU64,
    /// Time of the last range query that used `runs`, in ms since [`BEGAN`].
    asked_at: AtomicU64,
    /// Number of unsorted rows that the last range query had to scan.
    scanned: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The pairs in blocks, and the store that contains them.
    sorted: Option<(Arc<OrderedStore>, Arc<Sorted>)>,
    /// Consecutive runs of the rows after the watermark, in row order; earlier runs are larger.
    runs: Vec<Arc<Recent>>,
    left: Left,
}

/// Pairs of deleted rows that the last merge with [`Rewrite::Deleted`] could not drop.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    pairs: u64,
    /// Snapshots older than this commit could still see these rows when the merge ran. `None`: the
    /// pairs are too sparse to be worth rewriting their blocks.
    held_before: Option<Seq>,
}

/// How far an index lags its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lag {
    /// Number of rows that are not in blocks.
    recent: u64,
    /// Number of pairs of deleted rows, in blocks and in recent rows, that no merge has examined
    /// yet.
    deleted: u64,
    /// Limits for `recent` and `deleted` up to which the index is left as it is.
    allowed: u64,
    allowed_deleted: u64,
    /// Number of pairs in blocks.
    pairs: u64,
}

impl State {
    fn forget(&mut self) {
        *self = Self::default();
    }

    fn lag(&self, view: &TableView, tuning: &Tuning) -> Lag {
        let (watermark, pairs) =
            self.sorted.as_ref().map_or((0, 0), |(_, sorted)| (sorted.watermark().row, sorted.len()));
        let recent = view.len().saturating_sub(watermark);
        // Each row has one pair, so the surplus over the live rows belongs to deleted rows. A view
        // older than the index would also count the pairs of later rows.
        let surplus = (pairs + recent).saturating_sub(view.live());
        let deleted = if watermark <= view.len() { surplus.saturating_sub(self.left.pairs) } else { 0 };
        let allowed = tuning.allowed_lag(view.live());
        // A merge examines the pairs kept for older readers again each time, hence the higher
        // limit.
        Lag { recent, deleted, allowed, allowed_deleted: allowed.max(self.left.pairs / 4), pairs }
    }
}

/// The sources that together contain all pairs of an index at one view.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(super) sorted: Option<(Arc<OrderedStore>, Arc<Sorted>)>,
    pub(super) runs: Vec<Arc<Recent>>,
    /// Rows from this one on are not sorted and must be scanned.
    pub(super) scan_from: Option<u64>,
}

/// When a catch-up continues to the last row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CatchUp {
    /// Only if the index lags by more than the allowed number of rows.
    IfLagging,
    /// Always.
    Always,
}

/// Keys of a view's rows, in the encoding of one index.
#[derive(Clone, Copy)]
pub(super) struct RowKeyExtractor<'a> {
    pub(super) view: &'a TableView,
    pub(super) heap: &'a (dyn HeapRead + Sync),
    pub(super) keys: &'a KeyEncoder,
}

impl KeyExtractor for RowKeyExtractor<'_> {
    fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        out.clear();
        let table = &self.view.core().schema().table;
        Ok(self.keys.put(table, self.view.row_bytes(row)?, self.heap, out)?)
    }

    fn prefetch(&self, row: RowId) {
        self.view.prefetch(row);
    }
}

impl OrderedIndex {
    pub(super) fn new(core: &Arc<TableCore>, fields: &[usize], keys: KeyEncoder, tuning: Tuning) -> Self {
        let mut name = core.id().0.to_le_bytes().to_vec();
        name.extend(fields.iter().flat_map(|&field| (field as u32).to_le_bytes()));
        name.extend(core.fingerprint().to_le_bytes());
        Self {
            core: Arc::clone(core),
            fields: fields.to_vec(),
            keys,
            id: IndexId(key_hash(&name)),
            state: Mutex::default(),
            merging: Mutex::default(),
            look_at: AtomicU64::new(tuning.small + 1),
            look_at_deleted: AtomicU64::new(tuning.small + 1),
            asked_at: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            tuning,
        }
    }

    pub(super) fn is(&self, core: &Arc<TableCore>, fields: &[usize]) -> bool {
        Arc::ptr_eq(&self.core, core) && self.fields == fields
    }

    /// Returns whether this is the index of the table's key. A view sees at most one row per key.
    pub(super) fn is_of_key(&self) -> bool {
        self.core.schema().key == self.fields
    }

    pub(crate) fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    pub(super) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub(crate) fn keys(&self) -> &KeyEncoder {
        &self.keys
    }

    /// Returns the identifier that cursors of this index carry.
    pub(crate) fn cursor_id(&self) -> u64 {
        self.id.0
    }

    /// Returns the first field, whose minima and maxima bound the keys.
    pub(super) fn bounded_field(&self) -> Option<&StoredField> {
        self.core.schema().fields.get(*self.fields.first()?)
    }

    /// Returns the positions of the indexed fields in the schema, in index order.
    pub(crate) fn fields(&self) -> &[usize] {
        &self.fields
    }

    /// Forgets the blocks, which are corrupt or no longer available.
    pub(super) fn forget_blocks(&self) {
        lock(&self.state).forget();
    }

    /// Forgets the blocks if they belong to this store.
    pub(super) fn forget_blocks_in(&self, store: &Arc<OrderedStore>) {
        let mut state = lock(&self.state);
        if state.sorted.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, store)) {
            state.forget();
        }
    }

    /// Returns the watermark known to this process: rows below it are in blocks.
    pub(crate) fn watermark(&self) -> u64 {
        lock(&self.state).sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row)
    }

    /// Returns whether the index worker should check this index, given the table's length and
    /// number of live rows.
    pub(crate) fn is_due(&self, len: u64, live: u64) -> bool {
        len >= self.look_at.load(Ordering::Relaxed)
            || len.saturating_sub(live) >= self.look_at_deleted.load(Ordering::Relaxed)
    }

    /// Records that the index worker has checked this index, and computes when the next check is
    /// due.
    pub(super) fn note_kept(&self, engine: &Arc<Engine>) -> Result<(), ReadError> {
        let snapshot = engine.begin_read()?;
        let Some(view) = snapshot.view(&self.core)? else { return Ok(()) };
        let lag = lock(&self.state).lag(view, &self.tuning);
        // A lag that could not be reduced now must not trigger a check at each commit.
        let rest = |lag: u64, allowed: u64| if lag > allowed { allowed } else { allowed - lag };
        let due = |now: u64, rest: u64| (now + rest).max(self.tuning.small) + 1;
        self.look_at.store(due(view.len(), rest(lag.recent, lag.allowed)), Ordering::Relaxed);
        let deleted = view.len() - view.live().min(view.len());
        self.look_at_deleted.store(due(deleted, rest(lag.deleted, lag.allowed_deleted)), Ordering::Relaxed);
        Ok(())
    }

    /// Returns the pairs in blocks and the store that contains them, if they are loaded.
    pub(crate) fn in_blocks(&self) -> Option<(Arc<OrderedStore>, Arc<Sorted>)> {
        lock(&self.state).sorted.clone()
    }

    /// Returns the keys of a view's rows, in the encoding of this index.
    pub(crate) fn keys_of<'a>(
        &'a self,
        view: &'a TableView,
        heap: &'a (dyn HeapRead + Sync),
    ) -> impl KeyExtractor + 'a {
        RowKeyExtractor { view, heap, keys: &self.keys }
    }

    /// Rebuilds the blocks from all rows, if the block store is available.
    pub(crate) fn rebuild(&self, ordered: &OrderedIndexes, engine: &Arc<Engine>) -> Result<(), ReadError> {
        {
            let _merging = lock(&self.merging);
            let Some(store) = ordered.store() else { return Ok(()) };
            // Blocks that cannot be removed are suspect: the whole block store is handled as
            // failed.
            if let Err(error) = store.remove(self.id) {
                ordered.handle_corruption(&store, &error);
            }
            // Not before the removal: a concurrent query would load the old blocks again.
            self.forget_blocks();
        }
        self.catch_up(ordered, engine, CatchUp::Always).map(|_| ())
    }

    /// Returns the sources of this index at a view. Loads the blocks and sorts recent rows as
    /// needed.
    pub(crate) fn sources(
        &self,
        ordered: &OrderedIndexes,
        engine: &Arc<Engine>,
        view: &TableView,
        heap: &dyn HeapRead,
    ) -> Result<Sources, ReadError> {
        if engine.is_inherited() {
            // The blocks and the locks around them belong to the parent process.
            return Err(ReadError::Forked);
        }
        let held = if view.len() > self.tuning.small { ordered.store() } else { ordered.open_store() };
        if let Some(store) = &held {
            self.load(ordered, store, engine)?;
            let lag = lock(&self.state).lag(view, &self.tuning);
            // Deleted rows are left to the index worker; until it drops their pairs, readers skip
            // them.
            if lag.recent > 2 * lag.allowed {
                // Either a running catch-up finishes first, or this thread catches up. If it fails,
                // the rows are sorted in memory.
                let _ = self.catch_up(ordered, engine, CatchUp::IfLagging);
            }
        }
        let mut is_last = held.is_none();
        loop {
            let mut state = lock(&self.state);
            let sorted_to = self.extend_runs(&mut state, view, heap, ordered, held.is_none())?;
            if !state.runs.is_empty() {
                // Only runs are freed when idle, so the time matters only if some exist.
                self.asked_at.store(BEGAN.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
            if sorted_to >= view.len() || is_last {
                let unsorted = view.len().saturating_sub(sorted_to);
                self.scanned.store(unsorted, Ordering::Relaxed);
                return Ok(Sources {
                    sorted: state.sorted.clone(),
                    runs: state.runs.clone(),
                    scan_from: (unsorted > 0).then_some(sorted_to),
                });
            }
            // The newest rows do not fit in memory, so they are merged into the blocks.
            drop(state);
            let _ = self.catch_up(ordered, engine, CatchUp::Always);
            is_last = true;
        }
    }

    /// Returns the number of rows that the last range query had to scan.
    pub(crate) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed)
    }

    /// Frees the sorted runs if no query has used them for `idle`. Returns whether any were freed.
    pub(super) fn free_runs_if_idle(&self, idle: Duration) -> bool {
        let now = BEGAN.elapsed().as_millis() as u64;
        let since = now.saturating_sub(self.asked_at.load(Ordering::Relaxed));
        let Ok(mut state) = self.state.try_lock() else { return false };
        let is_idle = u128::from(since) >= idle.as_millis() && !state.runs.is_empty();
        if is_idle {
            state.runs.clear();
        }
        is_idle
    }

    /// Loads the newest version of the index from the store, if it has one that matches the rows.
    pub(crate) fn load(
        &self,
        ordered: &OrderedIndexes,
        store: &Arc<OrderedStore>,
        engine: &Arc<Engine>,
    ) -> Result<(), ReadError> {
        {
            let mut state = lock(&self.state);
            match &state.sorted {
                Some((known, _)) if Arc::ptr_eq(known, store) => return Ok(()),
                // These blocks belong to a store that is no longer in use.
                Some(_) => state.forget(),
                None => {}
            }
        }
        let sorted = match store.index(self.id) {
            Ok(Some(sorted)) => sorted,
            Ok(None) => return Ok(()),
            Err(error) => {
                ordered.handle_corruption(store, &error);
                return Ok(());
            }
        };
        let snapshot = engine.begin_read()?;
        let Some(view) = snapshot.view(&self.core)? else { return Ok(()) };
        if let Some(what) = self.check_watermark(sorted.watermark(), view, engine)? {
            ordered.handle_corruption(store, &OrderedError::Damaged { what });
            return Ok(());
        }
        // Only if nothing has changed: another thread may have merged into the index, removed it,
        // or quarantined the store.
        ordered.while_held(store, || {
            let mut state = lock(&self.state);
            let newest = store.index(self.id).ok().flatten();
            if state.sorted.is_none() && newest.is_some_and(|newest| Arc::ptr_eq(&newest, &sorted)) {
                state.sorted = Some((Arc::clone(store), sorted));
            }
        });
        Ok(())
    }

    /// Returns a description of how a watermark contradicts the store and its rows, or `None` if it
    /// matches them.
    fn check_watermark(
        &self,
        watermark: Watermark,
        view: &TableView,
        engine: &Arc<Engine>,
    ) -> Result<Option<String>, StorageError> {
        let table = &self.core.schema().table;
        let said = |expected: String, found: String| {
            Ok(Some(format!("an index of table {table}: expected {expected}, found {found}")))
        };
        if watermark.store != self.core.store_id() {
            return said("one of this store".to_owned(), format!("one of store {:032x}", watermark.store));
        }
        if watermark.salt > engine.salt() || Seq(watermark.seq) > view.seq() {
            return said(
                format!("one made by commit {} of generation {} or before", view.seq(), engine.salt()),
                format!("commit {} of generation {}", watermark.seq, watermark.salt),
            );
        }
        if watermark.row > view.len() {
            return said(format!("at most {} rows", view.len()), format!("{}", watermark.row));
        }
        let digest = digest(view, watermark.row)?;
        if fails!("ordered.watermark.digest", watermark.digest != digest) {
            return said(
                format!("rows before {} with digest {:016x}", watermark.row, watermark.digest),
                format!("{digest:016x}"),
            );
        }
        Ok(None)
    }

    /// Sorts the rows added since the last call, as far as memory allows, and returns the row up to
    /// which all rows are sorted. `bounded` limits the number of rows sorted at once.
    fn extend_runs(
        &self,
        state: &mut State,
        view: &TableView,
        heap: &dyn HeapRead,
        ordered: &OrderedIndexes,
        bounded: bool,
    ) -> Result<u64, ReadError> {
        let watermark = state.sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row);
        state.runs.retain(|run| run.to > watermark);
        match state.runs.first() {
            // The watermark has moved back.
            Some(first) if first.from > watermark => state.runs.clear(),
            Some(first) if first.from < watermark => {
                // If there is no memory for both copies, the run stays whole: readers skip its
                // pairs below the watermark.
                if let Some(mut reserved) = ordered.memory().reserve(first.memory(), u64::MAX) {
                    let join = Recent::join(&[first], |row| row < watermark);
                    let mut rest = join.map_err(|error| self.fault(error))?;
                    rest.from = watermark;
                    reserved.set(rest.memory());
                    rest.reserved = Some(reserved);
                    state.runs[0] = Arc::new(rest);
                }
            }
            _ => {}
        }
        let mut known = state.runs.last().map_or(watermark, |run| run.to);
        let mut end = view.len();
        if bounded {
            let at_once = SORTED_AT_ONCE.min(self.tuning.slice).max(known - watermark);
            end = end.min(known + at_once).min(watermark.saturating_add(self.tuning.in_memory));
        }
        // Computed only where enough pairs could be dropped.
        let mut forgotten = None;
        let mut is_forgotten = |pairs: usize| {
            let seq =
                (pairs >= MANY).then(|| *forgotten.get_or_insert_with(|| self.core.oldest_visible_seq()));
            move |row: u64| seq.is_some_and(|seq| is_gone(view, RowId(row), seq))
        };
        while known < end {
            let count = usize::try_from(end - known).unwrap_or(usize::MAX);
            let dropped = is_forgotten(count);
            let Some(new) = self.sort_some(view, heap, known..end, &dropped, ordered)? else { break };
            known = new.to;
            self.push_run(state, new, &mut is_forgotten, ordered.memory())?;
        }
        Ok(known)
    }

    /// Sorts the first of these rows, limited to the memory of one step. Returns `None` if no
    /// memory is available.
    fn sort_some(
        &self,
        view: &TableView,
        heap: &dyn HeapRead,
        rows: std::ops::Range<u64>,
        dropped: &dyn Fn(u64) -> bool,
        ordered: &OrderedIndexes,
    ) -> Result<Option<Recent>, ReadError> {
        let memory = ordered.memory();
        // At least 1: with a step of 0 bytes, keys without a fixed length would never make
        // progress.
        let step = (memory.limit() / STEP_PART).max(1);
        let a_row = self.keys.fixed_len().map(|len| 2 * len as u64 + SORTING_A_ROW);
        let (to, wanted) = match a_row {
            Some(a_row) => {
                let to = rows.end.min(rows.start + (step / a_row).max(1));
                (to, (to - rows.start) * a_row)
            }
            None => (rows.end, step),
        };
        let most = memory.limit() - memory.limit() / JOINED_PART;
        let Some(mut reserved) = memory.reserve(wanted, most).or_else(|| {
            // Free the idle runs of other indexes for one that is in use.
            ordered.free_idle(self).then(|| memory.reserve(wanted, most)).flatten()
        }) else {
            return Ok(None);
        };
        let key_bytes = if a_row.is_none() { step } else { u64::MAX };
        let mut sorted = self.run_of(view, heap, rows.start..to, dropped, key_bytes)?;
        reserved.set(sorted.memory());
        sorted.reserved = Some(reserved);
        Ok(Some(sorted))
    }

    /// Appends a sorted run and joins it with previous runs that are not much larger. In total, the
    /// rows joined again are a small multiple of the rows added.
    fn push_run<D: Fn(u64) -> bool>(
        &self,
        state: &mut State,
        mut new: Recent,
        is_forgotten: &mut impl FnMut(usize) -> D,
        memory: &Arc<Memory>,
    ) -> Result<(), ReadError> {
        while let Some(last) = state.runs.last()
            && last.len() < 2 * new.len().max(1)
        {
            let both = last.memory() + new.memory();
            if both > memory.limit() / JOINED_PART {
                break;
            }
            let Some(mut reserved) = memory.reserve(both, memory.limit()) else { break };
            let dropped = is_forgotten(last.len() + new.len());
            new = Recent::join(&[last, &new], dropped).map_err(|error| self.fault(error))?;
            reserved.set(new.memory());
            new.reserved = Some(reserved);
            state.runs.pop();
        }
        state.runs.push(Arc::new(new));
        Ok(())
    }

    /// Returns the sorted pairs of these rows, without those that are `dropped`; the bytes of
    /// dropped rows are not read. Stops before the last row once sorting takes `most_bytes`.
    fn run_of(
        &self,
        view: &TableView,
        heap: &dyn HeapRead,
        rows: std::ops::Range<u64>,
        dropped: &dyn Fn(u64) -> bool,
        most_bytes: u64,
    ) -> Result<Recent, ReadError> {
        let most = (rows.end - rows.start).min(view.live()) as usize;
        let mut pairs = match self.keys.fixed_len() {
            Some(len) => Pairs::with_capacity(most, len),
            None => Pairs::default(),
        };
        let size = self.core.row_size();
        let at_once = ((1 << 20) / size).max(1);
        let (mut key, mut taken, mut end) = (Vec::new(), 0, rows.end);
        let table = &self.core.schema().table;
        let mut kept = rows.clone().filter(|&row| !dropped(row)).peekable();
        'rows: while let Some(from) = kept.next() {
            let mut to = from + 1;
            while to - from < at_once && kept.next_if_eq(&to).is_some() {
                to += 1;
            }
            let bytes = view.rows_bytes(RowId(from)..RowId(to))?;
            for (row, bytes) in (from..to).zip(bytes.chunks_exact(size as usize)) {
                if taken >= most_bytes {
                    end = row;
                    break 'rows;
                }
                key.clear();
                self.keys.put(table, bytes, heap, &mut key)?;
                taken += 2 * key.len() as u64 + SORTING_A_ROW + SORTING_A_LENGTH;
                pairs.push(&key, RowId(row)).map_err(|error| self.fault(error))?;
            }
        }
        Ok(Recent::new(rows.start, end, pairs))
    }

    pub(crate) fn fault(&self, error: OrderedError) -> ReadError {
        StorageError::Index { table: self.core.schema().table.clone(), source: Box::new(error) }.into()
    }

    /// Merges all rows up to the newest durable commit into the blocks. Returns `Ok(false)` if the
    /// blocks are not available.
    pub(crate) fn catch_up(
        &self,
        ordered: &OrderedIndexes,
        engine: &Arc<Engine>,
        worth: CatchUp,
    ) -> Result<bool, ReadError> {
        if engine.is_poisoned() {
            return Ok(false);
        }
        let _merging = lock(&self.merging);
        let snapshot = engine.begin_durable_read()?;
        let Some(view) = snapshot.view(&self.core)? else { return Ok(true) };
        if view.is_empty() {
            return Ok(true);
        }
        if worth == CatchUp::IfLagging && view.len() <= self.tuning.allowed_lag(view.live()) {
            // The index may lag by the whole table: no blocks are opened or created to find that
            // out.
            return Ok(true);
        }
        let Some(store) = ordered.store() else { return Ok(false) };
        self.load(ordered, &store, engine)?;
        loop {
            // Uses the store's own watermark, not the one this process remembers. The lock excludes
            // other merges and removals.
            let from = match store.index(self.id) {
                Ok(sorted) => sorted.map_or(0, |sorted| sorted.watermark().row),
                Err(error) => {
                    ordered.handle_corruption(&store, &error);
                    return Err(self.fault(error));
                }
            };
            if from != self.watermark() {
                lock(&self.state).forget();
                self.load(ordered, &store, engine)?;
                if from != self.watermark() {
                    // Quarantined, because the index contradicts the rows. The next query starts a
                    // new one.
                    return Ok(false);
                }
            }
            // Rows deleted at or before this commit are visible to no snapshot, now or later, even
            // after a power failure.
            let forgotten = self.core.oldest_visible_seq().min(view.seq());
            let lag = {
                let mut state = lock(&self.state);
                if state.left.held_before.is_some_and(|seq| forgotten >= seq) {
                    state.left = Left::default();
                }
                state.lag(view, &self.tuning)
            };
            let (behind, drops) = match worth {
                CatchUp::IfLagging => (
                    lag.recent > lag.allowed || lag.deleted > lag.allowed_deleted,
                    lag.deleted > lag.allowed_deleted / 2,
                ),
                CatchUp::Always => (lag.recent > 0, lag.deleted > lag.pairs / WORTH_DROPPING),
            };
            if lag.recent == 0 && lag.pairs == 0 || !behind && !drops {
                return Ok(true);
            }
            if worth == CatchUp::IfLagging && !behind {
                return Ok(true);
            }
            let to = view.len().min(from + self.tuning.slice);
            // Pairs are dropped only with the last slice, when their remaining number is known.
            let drops = drops && to == view.len();
            let dropped = |row: RowId| is_gone(view, row, forgotten);
            let recent = self.run_of(view, &snapshot, from..to, &|row| dropped(RowId(row)), u64::MAX)?;
            let watermark = Watermark {
                store: self.core.store_id(),
                salt: engine.salt(),
                seq: view.seq().0,
                row: to,
                digest: digest(view, to)?,
            };
            let keys = RowKeyExtractor { view, heap: &snapshot, keys: &self.keys };
            if engine.is_poisoned() {
                return Ok(false);
            }
            let never = AtomicBool::new(false);
            let rewrite = if drops { Rewrite::Deleted } else { Rewrite::Touched };
            match store.merge(self.id, watermark, &recent.run, &keys, &dropped, rewrite, &never) {
                Ok(sorted) => {
                    let surplus = sorted.len().saturating_sub(view.live());
                    ordered.while_held(&store, || {
                        let mut state = lock(&self.state);
                        state.sorted = Some((Arc::clone(&store), sorted));
                        state.runs.retain(|run| run.to > to);
                        if drops {
                            let held_before = (forgotten < view.seq()).then(|| view.seq());
                            state.left = Left { pairs: surplus, held_before };
                        }
                    });
                    if drops {
                        return Ok(true);
                    }
                }
                Err(OrderedError::Stopped) => return Ok(true),
                Err(error) => {
                    ordered.handle_corruption(&store, &error);
                    // Another thread's operation on the blocks failed and that thread handled the
                    // error, or the files could not be reopened after a compaction. The blocks are
                    // not available now.
                    if matches!(error, OrderedError::Poisoned { .. }) {
                        return Ok(false);
                    }
                    return Err(self.fault(error));
                }
            }
        }
    }
}

/// Returns whether a row was deleted at or before a commit. A row whose state cannot be read counts
/// as not deleted and keeps its pair.
fn is_gone(view: &TableView, row: RowId, seq: Seq) -> bool {
    view.deleted_at(row).is_ok_and(|deleted_at| deleted_at.is_some_and(|deleted_at| deleted_at <= seq))
}

/// Returns a hash of the last bytes of the rows below a watermark, which distinguishes these
/// rows from those of another table or history.
fn digest(view: &TableView, row: u64) -> Result<u64, StorageError> {
    let size = view.core().row_size();
    let rows = DIGEST.div_ceil(size).min(row);
    let bytes = view.rows_bytes(RowId(row - rows)..RowId(row))?;
    let from = bytes.len().saturating_sub(DIGEST as usize);
    Ok(key_hash(&bytes[from..]))
}

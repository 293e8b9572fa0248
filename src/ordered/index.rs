//! One ordered index of one table: the part in blocks, up to its watermark, and the rows behind that, sorted in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pongo_core::engine::Engine;
use pongo_core::error::{Fault, ReadError};
use pongo_core::fields::HeapRead;
use pongo_core::guard::fails;
use pongo_core::ids::{RowId, Seq};
use pongo_core::schema::StoredField;
use pongo_core::table::{TableCore, TableView};
use pongo_index::key_hash;
use pongo_index::ordered::{
    FullKeys, IndexId, OrderedError, OrderedStore, Pairs, Rewrite, Sorted, Watermark,
};

use super::memory::Memory;
use super::recent::Recent;
use super::{BEGAN, KeySource, Ordered, Tuning, lock};

/// Rows that one range sorts at least, where there are so many; beyond, as many as are sorted already. What is left it looks
/// through. So the first range of a large table takes no longer than a few others, and soon all rows are sorted.
const SORTED_AT_ONCE: u64 = 1 << 20;
/// Sorted rows are joined as long as they take this part of the memory, which is left free for joining them.
const JOINED_PART: u64 = 8;
/// Rows are sorted so many at a time that it takes this part of the memory.
const STEP_PART: u64 = 16;
/// What sorting takes a row beside twice its key: its number, a place in the order, what it is sorted by.
const SORTING_A_ROW: u64 = 36;
/// And what a key takes of which the length is not known.
const SORTING_A_LENGTH: u64 = 16;

/// Bytes of rows at the watermark that are hashed into its digest.
const DIGEST: u64 = 4096;

/// Of so many pairs in blocks one must be of a deleted row for these to be dropped where an index is brought up in any case.
const WORTH_DROPPING: u64 = 16;
/// Fewer recent pairs are sorted with those of rows that nobody sees any more: to ask which these are costs some microseconds.
const MANY: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct OrderedIndex {
    core: Arc<TableCore>,
    fields: Vec<usize>,
    keys: KeySource,
    id: IndexId,
    state: Mutex<State>,
    tuning: Tuning,
    /// Held by whoever brings the blocks up to date.
    merging: Mutex<()>,
    /// The table's length at which the keeper is to look at it again, and the number of its deleted rows.
    look_at: AtomicU64,
    look_at_deleted: AtomicU64,
    /// When a range last asked for it, in ms since [`BEGAN`].
    asked_at: AtomicU64,
    /// Rows that it had to look through.
    scanned: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// What lies in blocks, and the store it lies in.
    sorted: Option<(Arc<OrderedStore>, Arc<Sorted>)>,
    /// The rows behind, one behind the other, older and larger ones first.
    runs: Vec<Arc<Recent>>,
    left: Left,
}

/// What the merge that looked for pairs of deleted rows last could not drop.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    pairs: u64,
    /// Readers of before this commit may have seen these rows then. `None`: they lie too thinly to be worth it.
    held_before: Option<Seq>,
}

/// How far an index is behind its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lag {
    /// Rows that are not in blocks.
    recent: u64,
    /// Pairs of deleted rows, in blocks and not, that no merge looked at yet.
    deleted: u64,
    /// How many of either are left as they are.
    allowed: u64,
    allowed_deleted: u64,
    /// Pairs in blocks.
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
        // Each row has one pair: those that are too many are of deleted rows. Of a view that is older than the index that would count
        // those of later rows.
        let surplus = (pairs + recent).saturating_sub(view.live());
        let deleted = if watermark <= view.len() { surplus.saturating_sub(self.left.pairs) } else { 0 };
        let allowed = tuning.allowed_lag(view.live());
        // What is held for older readers is gone through each time.
        Lag { recent, deleted, allowed, allowed_deleted: allowed.max(self.left.pairs / 4), pairs }
    }
}

/// What answers for an index at one view.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(super) sorted: Option<(Arc<OrderedStore>, Arc<Sorted>)>,
    pub(super) runs: Vec<Arc<Recent>>,
    /// From this row on nothing is sorted: the rows are to be looked through.
    pub(super) scan_from: Option<u64>,
}

/// Whether a catch-up goes on to the last row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worth {
    /// Only if the index lags more than allowed.
    IfLagging,
    /// In any case.
    Always,
}

/// Keys of a view's rows, as an index has them.
#[derive(Clone, Copy)]
pub(super) struct ViewKeys<'a> {
    pub(super) view: &'a TableView,
    pub(super) heap: &'a (dyn HeapRead + Sync),
    pub(super) keys: &'a KeySource,
}

impl FullKeys for ViewKeys<'_> {
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
    pub(super) fn new(core: &Arc<TableCore>, fields: &[usize], keys: KeySource, tuning: Tuning) -> Self {
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

    /// Whether it is the one of the table's key: of each key a view sees one row at most.
    pub(super) fn is_of_key(&self) -> bool {
        self.core.schema().key == self.fields
    }

    pub(crate) fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    pub(super) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub(crate) fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// What a cursor through this index carries.
    pub(crate) fn cursor_id(&self) -> u64 {
        self.id.0
    }

    /// The first field, whose minima and maxima are bounds on keys.
    pub(super) fn bounded_field(&self) -> Option<&StoredField> {
        self.core.schema().fields.get(*self.fields.first()?)
    }

    /// The fields' places in the schema, in order.
    pub(crate) fn fields(&self) -> &[usize] {
        &self.fields
    }

    /// The blocks are doubtful, or gone.
    pub(super) fn forget_blocks(&self) {
        lock(&self.state).forget();
    }

    /// The same, if they are those of this store.
    pub(super) fn forget_blocks_in(&self, store: &Arc<OrderedStore>) {
        let mut state = lock(&self.state);
        if state.sorted.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, store)) {
            state.forget();
        }
    }

    /// Rows below this are in blocks, as far as this process knows.
    pub(crate) fn watermark(&self) -> u64 {
        lock(&self.state).sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row)
    }

    /// Whether the keeper is to look, now that the table has so many rows, of which so many are alive.
    pub(crate) fn is_due(&self, len: u64, live: u64) -> bool {
        len >= self.look_at.load(Ordering::Relaxed)
            || len.saturating_sub(live) >= self.look_at_deleted.load(Ordering::Relaxed)
    }

    /// The keeper looked.
    pub(super) fn note_kept(&self, engine: &Arc<Engine>) -> Result<(), ReadError> {
        let snapshot = engine.begin_read()?;
        let Some(view) = snapshot.view(&self.core)? else { return Ok(()) };
        let lag = lock(&self.state).lag(view, &self.tuning);
        // What could not be brought up now is not asked for at each commit.
        let rest = |lag: u64, allowed: u64| if lag > allowed { allowed } else { allowed - lag };
        let due = |now: u64, rest: u64| (now + rest).max(self.tuning.small) + 1;
        self.look_at.store(due(view.len(), rest(lag.recent, lag.allowed)), Ordering::Relaxed);
        let deleted = view.len() - view.live().min(view.len());
        self.look_at_deleted.store(due(deleted, rest(lag.deleted, lag.allowed_deleted)), Ordering::Relaxed);
        Ok(())
    }

    /// What lies in blocks, if it is known by now, and where.
    pub(crate) fn in_blocks(&self) -> Option<(Arc<OrderedStore>, Arc<Sorted>)> {
        lock(&self.state).sorted.clone()
    }

    /// The keys of a view's rows, as this index has them.
    pub(crate) fn keys_of<'a>(
        &'a self,
        view: &'a TableView,
        heap: &'a (dyn HeapRead + Sync),
    ) -> impl FullKeys + 'a {
        ViewKeys { view, heap, keys: &self.keys }
    }

    /// Makes the blocks anew from all rows, if they can be had.
    pub(crate) fn rebuild(&self, ordered: &Ordered, engine: &Arc<Engine>) -> Result<(), ReadError> {
        {
            let _merging = lock(&self.merging);
            let Some(store) = ordered.store() else { return Ok(()) };
            // Blocks that cannot be removed are doubtful, and set aside as a whole.
            if let Err(error) = store.remove(self.id) {
                ordered.doubt(&store, &error);
            }
            // Not before: who asks meanwhile takes the blocks as they were.
            self.forget_blocks();
        }
        self.catch_up(ordered, engine, Worth::Always).map(|_| ())
    }

    /// What answers at a view.
    pub(crate) fn sources(
        &self,
        ordered: &Ordered,
        engine: &Arc<Engine>,
        view: &TableView,
        heap: &dyn HeapRead,
    ) -> Result<Sources, ReadError> {
        if engine.is_inherited() {
            // The blocks, and the locks around them, are the parent's.
            return Err(ReadError::Forked);
        }
        let held = if view.len() > self.tuning.small { ordered.store() } else { ordered.open_store() };
        if let Some(store) = &held {
            self.load(ordered, store, engine)?;
            let lag = lock(&self.state).lag(view, &self.tuning);
            // Deleted rows wait for the keeper: they are passed over meanwhile.
            if lag.recent > 2 * lag.allowed {
                // Whoever is at it already, or this thread. If it fails the rows are sorted in memory.
                let _ = self.catch_up(ordered, engine, Worth::IfLagging);
            }
        }
        let mut is_last = held.is_none();
        loop {
            let mut state = lock(&self.state);
            let sorted_to = self.extend_runs(&mut state, view, heap, ordered, held.is_none())?;
            if !state.runs.is_empty() {
                // Only these are given up when nobody asks for them.
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
            // There is no room for what came last: it goes to the blocks.
            drop(state);
            let _ = self.catch_up(ordered, engine, Worth::Always);
            is_last = true;
        }
    }

    /// How many rows the last range had to look through.
    pub(crate) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed)
    }

    /// Gives up what is sorted, if nothing asked for it for so long. Whether there was anything.
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

    /// Takes the index's newest version from the store, if it has one that fits the rows.
    pub(crate) fn load(
        &self,
        ordered: &Ordered,
        store: &Arc<OrderedStore>,
        engine: &Arc<Engine>,
    ) -> Result<(), ReadError> {
        {
            let mut state = lock(&self.state);
            match &state.sorted {
                Some((known, _)) if Arc::ptr_eq(known, store) => return Ok(()),
                // Of a store that was set aside.
                Some(_) => state.forget(),
                None => {}
            }
        }
        let sorted = match store.index(self.id) {
            Ok(Some(sorted)) => sorted,
            Ok(None) => return Ok(()),
            Err(error) => {
                ordered.doubt(store, &error);
                return Ok(());
            }
        };
        let snapshot = engine.begin_read()?;
        let Some(view) = snapshot.view(&self.core)? else { return Ok(()) };
        if let Some(what) = self.contradiction(sorted.watermark(), view, engine)? {
            ordered.doubt(store, &OrderedError::Damaged { what });
            return Ok(());
        }
        // Only what is still so: meanwhile it may have been merged into, removed, or set aside.
        ordered.while_held(store, || {
            let mut state = lock(&self.state);
            let newest = store.index(self.id).ok().flatten();
            if state.sorted.is_none() && newest.is_some_and(|newest| Arc::ptr_eq(&newest, &sorted)) {
                state.sorted = Some((Arc::clone(store), sorted));
            }
        });
        Ok(())
    }

    /// In what a watermark contradicts the store and its rows.
    fn contradiction(
        &self,
        watermark: Watermark,
        view: &TableView,
        engine: &Arc<Engine>,
    ) -> Result<Option<String>, Fault> {
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

    /// Sorts what came since the last time, as far as there is memory, and returns the row up to which all is sorted. `bounded`:
    /// not too much of it at once.
    fn extend_runs(
        &self,
        state: &mut State,
        view: &TableView,
        heap: &dyn HeapRead,
        ordered: &Ordered,
        bounded: bool,
    ) -> Result<u64, ReadError> {
        let watermark = state.sorted.as_ref().map_or(0, |(_, sorted)| sorted.watermark().row);
        state.runs.retain(|run| run.to > watermark);
        match state.runs.first() {
            // What lies in blocks is less than it was.
            Some(first) if first.from > watermark => state.runs.clear(),
            Some(first) if first.from < watermark => {
                // Without room for both it stays: pairs below the watermark are passed over.
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
        // Not looked for where there is little to be gained.
        let mut forgotten = None;
        let mut is_forgotten = |pairs: usize| {
            let seq = (pairs >= MANY).then(|| *forgotten.get_or_insert_with(|| self.core.seen_from()));
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

    /// Sorts the first of some rows, as many as there is memory for at a time; `None` if there is none.
    fn sort_some(
        &self,
        view: &TableView,
        heap: &dyn HeapRead,
        rows: std::ops::Range<u64>,
        dropped: &dyn Fn(u64) -> bool,
        ordered: &Ordered,
    ) -> Result<Option<Recent>, ReadError> {
        let memory = ordered.memory();
        // Not nothing: keys whose length is not known would be sorted none at a time, for ever.
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
            // What nobody asks for makes room for what somebody does.
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

    /// Takes sorted rows in behind the others, and joins those that are not much larger: what is joined again is, all in all, a few
    /// times what came.
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

    /// The sorted pairs of some rows, but those that are `dropped`: of these no byte is read. It ends before the last one if sorting
    /// them would take more than so many bytes.
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
        Fault::Index { table: self.core.schema().table.clone(), source: Box::new(error) }.into()
    }

    /// Brings the blocks up to the newest durable commit. `Ok(false)`: there are none to be had.
    pub(crate) fn catch_up(
        &self,
        ordered: &Ordered,
        engine: &Arc<Engine>,
        worth: Worth,
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
        if worth == Worth::IfLagging && view.len() <= self.tuning.allowed_lag(view.live()) {
            // It may lag by all of it: no blocks are opened, or made, to find that out.
            return Ok(true);
        }
        let Some(store) = ordered.store() else { return Ok(false) };
        self.load(ordered, &store, engine)?;
        loop {
            // What the store itself says, not what this process remembers: nobody else merges or removes meanwhile.
            let from = match store.index(self.id) {
                Ok(sorted) => sorted.map_or(0, |sorted| sorted.watermark().row),
                Err(error) => {
                    ordered.doubt(&store, &error);
                    return Err(self.fault(error));
                }
            };
            if from != self.watermark() {
                lock(&self.state).forget();
                self.load(ordered, &store, engine)?;
                if from != self.watermark() {
                    // Set aside, because it contradicts the rows: whoever asks next begins anew.
                    return Ok(false);
                }
            }
            // Seen by no snapshot, now or later, also after a power cut.
            let forgotten = self.core.seen_from().min(view.seq());
            let lag = {
                let mut state = lock(&self.state);
                if state.left.held_before.is_some_and(|seq| forgotten >= seq) {
                    state.left = Left::default();
                }
                state.lag(view, &self.tuning)
            };
            let (behind, drops) = match worth {
                Worth::IfLagging => (
                    lag.recent > lag.allowed || lag.deleted > lag.allowed_deleted,
                    lag.deleted > lag.allowed_deleted / 2,
                ),
                Worth::Always => (lag.recent > 0, lag.deleted > lag.pairs / WORTH_DROPPING),
            };
            if lag.recent == 0 && lag.pairs == 0 || !behind && !drops {
                return Ok(true);
            }
            if worth == Worth::IfLagging && !behind {
                return Ok(true);
            }
            let to = view.len().min(from + self.tuning.slice);
            // All that lags first, so that what is left is known then.
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
            let keys = ViewKeys { view, heap: &snapshot, keys: &self.keys };
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
                    ordered.doubt(&store, &error);
                    // Another thread's work on the blocks failed, which heard of it, or was not let in again behind a compaction:
                    // they are not to be had now.
                    if matches!(error, OrderedError::Poisoned { .. }) {
                        return Ok(false);
                    }
                    return Err(self.fault(error));
                }
            }
        }
    }
}

/// Whether a row was deleted at or before a commit. One of which that cannot be said keeps its pair.
fn is_gone(view: &TableView, row: RowId, seq: Seq) -> bool {
    view.died(row).is_ok_and(|died| died.is_some_and(|died| died <= seq))
}

/// A number that rows below a watermark hardly share with others: a hash of the last of their bytes.
fn digest(view: &TableView, row: u64) -> Result<u64, Fault> {
    let size = view.core().row_size();
    let rows = DIGEST.div_ceil(size).min(row);
    let bytes = view.rows_bytes(RowId(row - rows)..RowId(row))?;
    let from = bytes.len().saturating_sub(DIGEST as usize);
    Ok(key_hash(&bytes[from..]))
}

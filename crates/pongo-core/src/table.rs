//! A table: its schema, its row space and its marks, as one process knows them ([`TableCore`]); and the table at one
//! `Seq` ([`TableView`]), which says which rows are there and gives their bytes.
//!
//! A row is visible iff its number is below the table's length and it had not died by the `Seq`. Rows are immutable
//! once published; what is given out borrows from the view, which keeps its chunks mapped.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use zerocopy::TryFromBytes;

use crate::baseline::{Baseline, Bound};
use crate::codec::checksum;
use crate::control::Control;
use crate::error::{Fault, ReadError};
use crate::guard::{fails, removable};
use crate::ids::{ChunkId, Location, RowId, Seq, TableId};
use crate::marks::{DirtyMarks, Extent, Marks};
use crate::record::PongoRecord;
use crate::schema::StoredSchema;
use crate::space::{BLOCK, Chunk, Space, SpaceIdentity, View};
use crate::state::TableState;
use crate::storage::{Idle, Storage};
use crate::zones::Plan;

/// A table as one process knows it, whatever the `Seq`.
#[derive(Debug)]
pub struct TableCore {
    id: TableId,
    schema: StoredSchema,
    fingerprint: u128,
    row_size: u64,
    storage: Arc<dyn Storage>,
    control: Arc<Control>,
    pub(crate) space: Space,
    zone_plan: Arc<Plan>,
    /// The marks epoch up to which the marks files of the first `marks_chunks` chunks are known.
    marks_seen: AtomicU64,
    marks_chunks: AtomicU64,
    marks_lock: Mutex<()>,
    /// The store was closed in order since: marks of commits behind `baseline` are no damage.
    outlived: AtomicBool,
    /// What the marks must be, known to the process that opened the store alone: it compares each file when it first maps
    /// it. Who joins others maps what is in use already.
    baseline: OnceLock<Baseline>,
}

impl TableCore {
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        control: &Arc<Control>,
        store: u128,
        id: TableId,
        schema: StoredSchema,
        sizes: crate::space::Sizes,
    ) -> Result<Self, Fault> {
        let fingerprint = schema.fingerprint();
        let row_size = schema.size as u64;
        let identity = SpaceIdentity { store, table: Some(id), row_size, fingerprint };
        let space = Space::open(storage, format!("tables/{}", schema.table), identity, sizes)?;
        Ok(Self {
            id,
            fingerprint,
            row_size,
            zone_plan: Arc::new(Plan::new(&schema)),
            schema,
            storage: Arc::clone(storage),
            control: Arc::clone(control),
            space,
            marks_seen: AtomicU64::new(u64::MAX),
            marks_chunks: AtomicU64::new(0),
            marks_lock: Mutex::default(),
            outlived: AtomicBool::new(false),
            baseline: OnceLock::new(),
        })
    }

    /// Panics if it is a table of another store than that of `control`: lengths of the one say nothing about rows of the other,
    /// which may be written below them.
    #[inline]
    pub(crate) fn assert_of(&self, control: &Arc<Control>) {
        assert!(Arc::ptr_eq(&self.control, control), "a table of another store");
    }

    /// The storage that it lives in.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether nobody wrote to the store since it was closed in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.control.is_clean()
    }

    /// A number that says which commits there are: of the newest one that was published and of the recovery generation. What
    /// an index was made durable with tells it from one of another time.
    #[must_use]
    pub fn moment(&self) -> u64 {
        let (_, state) = self.control.published();
        let words = [state.seq.0, self.control.salt().0].map(u64::to_le_bytes);
        checksum(words.as_flattened())
    }

    /// Rows that died at or before this commit are seen by no snapshot of any process, now or later.
    ///
    /// Costs a look at the pins of all processes, some microseconds.
    #[must_use]
    pub fn seen_from(&self) -> Seq {
        self.control.seen_from()
    }

    /// Whether a commit was published: it is there for good, in every process, and its number is no other's.
    ///
    /// Costs a look at the newest state, some 0.1 µs.
    #[must_use]
    pub fn is_published(&self, seq: Seq) -> bool {
        self.control.published().1.seq >= seq
    }

    /// The number of its store.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.space.identity().store
    }

    /// The table's number in its store.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// What its rows are.
    #[must_use]
    pub fn schema(&self) -> &StoredSchema {
        &self.schema
    }

    /// The layout's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Which of its fields have bounds.
    pub(crate) fn zone_plan(&self) -> &Arc<Plan> {
        &self.zone_plan
    }

    /// Rows of a zone: see [`crate::zones`].
    #[must_use]
    pub fn zone_rows(&self) -> u64 {
        self.zone_plan.zone_rows()
    }

    /// Bytes of a row.
    #[must_use]
    pub fn row_size(&self) -> u64 {
        self.row_size
    }

    /// The table at a state and a `Seq`; maps what is not mapped yet.
    pub(crate) fn at(self: &Arc<Self>, state: TableState, seq: Seq) -> Result<TableView, Fault> {
        let end = state.len.checked_mul(self.row_size).ok_or_else(|| Fault::Limit {
            what: format!("table {} is too long", self.schema.table),
            limit: u64::MAX / self.row_size,
        })?;
        let view = self.space.view_to(end, state.summed)?;
        if !self.knows_marks(view.chunk_count() as u64) {
            self.refresh_marks()?;
        }
        Ok(TableView { core: Arc::clone(self), view, state, seq, row_size: self.row_size })
    }

    /// Whether the marks files of the first `chunks` chunks are known. A chunk that another process made may have come
    /// into sight after its marks did.
    fn knows_marks(&self, chunks: u64) -> bool {
        chunks <= self.marks_chunks.load(Ordering::Acquire)
            && self.marks_seen.load(Ordering::Acquire) == self.control.marks_epoch(self.id)
    }

    /// What the newest checkpoint says of the marks. Called before any is looked at, by whoever is alone with the store.
    pub(crate) fn expect_marks(&self, baseline: Baseline) {
        debug_assert!(self.space.chunks().iter().all(|chunk| chunk.marks.get().is_none()));
        let _ = self.baseline.set(baseline);
    }

    /// Looks for marks files of all known chunks that have none in this process. What is in them is looked at when a row of the
    /// chunk is asked for.
    #[cold]
    fn refresh_marks(&self) -> Result<(), Fault> {
        let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.control.marks_epoch(self.id);
        let dir = self.space.dir();
        let names = self.storage.list(dir).map_err(Fault::io("listing", dir))?;
        let chunks = self.space.chunks();
        for chunk in &chunks {
            let name = format!("{}.marks", chunk.id);
            let wanted = || names.binary_search(&name).is_ok() || self.must_have_marks(chunk);
            if !chunk.is_marked() && wanted() {
                chunk.set_marked();
                self.space.note_marks(chunk);
            }
        }
        self.marks_chunks.store(chunks.len() as u64, Ordering::Release);
        self.marks_seen.store(epoch, Ordering::Release);
        Ok(())
    }

    /// The store is about to be closed in order: what is first looked at from now on can be of later commits than those that the
    /// checkpoint knew with which this process began.
    pub(crate) fn outlive_baseline(&self) {
        self.outlived.store(true, Ordering::Release);
    }

    /// The marks of a chunk, if it has any; mapped, and compared with what the checkpoint says of them, at the first call.
    #[inline]
    fn marks_of<'a>(&self, chunk: &'a Arc<Chunk>) -> Result<Option<&'a Marks>, Fault> {
        match chunk.marks.get() {
            Some(marks) => Ok(Some(marks)),
            None if chunk.is_marked() => self.look_at_marks(chunk),
            None => Ok(None),
        }
    }

    #[cold]
    fn look_at_marks<'a>(&self, chunk: &'a Arc<Chunk>) -> Result<Option<&'a Marks>, Fault> {
        let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if chunk.marks.get().is_none() {
            self.adopt_marks(chunk, false)?;
        }
        Ok(chunk.marks.get())
    }

    /// Of all known chunks, those that have marks, with them.
    fn marked_chunks(&self) -> Result<Vec<Arc<Chunk>>, Fault> {
        self.refresh_marks()?;
        let mut chunks = self.space.chunks();
        chunks.retain(|chunk| chunk.is_marked());
        chunks.iter().try_for_each(|chunk| self.marks_of(chunk).map(|_| ()))?;
        Ok(chunks)
    }

    /// Whether the checkpoint says that the chunk has marks.
    fn must_have_marks(&self, chunk: &Chunk) -> bool {
        self.baseline.get().is_some_and(|baseline| baseline.lists(chunk.id))
    }

    /// Maps the marks of a chunk, making the file if asked to. The caller holds `marks_lock`.
    fn adopt_marks(&self, chunk: &Arc<Chunk>, create: bool) -> Result<(), Fault> {
        let path = format!("{}/{}.marks", self.space.dir(), chunk.id);
        let extent = self.extent(chunk);
        let is_clean = || self.control.is_clean() && !self.outlived.load(Ordering::Acquire);
        // Once: a map that is made again is of the same file.
        let baseline = self.baseline.get().filter(|_| !chunk.marks_compared.load(Ordering::Relaxed));
        let opened = Marks::open(&*self.storage, path.clone(), extent, baseline, is_clean)?;
        let marks = match opened {
            Some(marks) => marks,
            // To make it anew would bring dead rows back to life.
            None if fails!("marks.listed", self.must_have_marks(chunk))
                || chunk.marks_compared.load(Ordering::Relaxed) =>
            {
                return Err(Fault::corrupt(
                    path,
                    0,
                    "the marks that the newest checkpoint lists, or that were here before: which rows of the chunk are dead",
                    "no such file",
                ));
            }
            None if create => Marks::create(&*self.storage, self.space.dir(), path, extent)?,
            None => return Ok(()),
        };
        chunk.marks_compared.store(true, Ordering::Relaxed);
        let _ = chunk.marks.set(marks);
        chunk.set_marked();
        self.space.note_marks(chunk);
        Ok(())
    }

    /// Which rows begin in a chunk.
    fn extent(&self, chunk: &Chunk) -> Extent {
        let first = chunk.start.div_ceil(self.row_size);
        let end = chunk.end().div_ceil(self.row_size);
        Extent {
            store: self.space.identity().store,
            table: self.id,
            chunk: chunk.id,
            first: RowId(first),
            rows: end - first,
        }
    }

    fn chunk_of(&self, row: RowId) -> Result<Option<Arc<Chunk>>, Fault> {
        row.0.checked_mul(self.row_size).map_or(Ok(None), |at| self.space.find_chunk(at))
    }

    /// For the writer: the chunk of a row, with its marks made and known.
    pub(crate) fn marked_chunk(&self, row: RowId) -> Result<Arc<Chunk>, Fault> {
        let chunk = self.chunk_of(row)?.ok_or_else(|| {
            Fault::corrupt(self.space.dir(), row.0, format!("a chunk with row {row}"), "none such")
        })?;
        if chunk.marks.get().is_none() {
            let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
            if chunk.marks.get().is_none() {
                self.adopt_marks(&chunk, true)?;
            }
        }
        // Not only where the file was made: whoever made it may have failed, or died, before he said so.
        if !chunk.announced.swap(true, Ordering::AcqRel) {
            self.control.advance_marks_epoch(self.id);
        }
        Ok(chunk)
    }

    /// The row that `row` replaced, for rows that may lie above any length this process has seen.
    fn previous_above(&self, row: RowId) -> Result<Option<RowId>, Fault> {
        let Some(chunk) = self.chunk_of(row)? else { return Ok(None) };
        if !chunk.is_marked() && !self.knows_marks(chunk.id.0 + 1) {
            self.refresh_marks()?;
        }
        Ok(self.marks_of(&chunk)?.and_then(|marks| marks.previous(row)))
    }

    /// A sync may have failed, and memory says what the disk does not: stores all marks again.
    pub(crate) fn store_marks_again(&self) -> Result<(), Fault> {
        let marks =
            |chunk: &Arc<Chunk>| chunk.marks.get().map_or(Ok(()), |marks| marks.store_again(&*self.storage));
        self.marked_chunks()?.iter().try_for_each(marks)
    }

    /// Clears what lost commits left in the marks. `stored` is what was stored since `before`. Not synced: the checkpoint that
    /// ends a recovery syncs all marks.
    pub(crate) fn clear_marks_above(
        &self,
        before: Bound,
        now: Bound,
        stored: &DirtyMarks,
    ) -> Result<(), Fault> {
        for chunk in self.marked_chunks()? {
            let stored = stored.get(&(self.id, chunk.id)).copied().unwrap_or_default();
            if let Some(marks) = chunk.marks.get() {
                marks.clear_above(&*self.storage, before, now, stored)?;
            }
        }
        Ok(())
    }

    /// Syncs and sums every marks file, whoever made it, and syncs their names. Gives the sums by chunk.
    pub(crate) fn settle_marks(&self, bound: Bound) -> Result<Vec<(ChunkId, u64)>, Fault> {
        let chunks = self.marked_chunks()?;
        removable!("marks.settle.folder", self.space.sync_dir())?;
        self.settle_each(chunks.iter(), bound)
    }

    /// The same for the marks of these chunks, whose names are durable.
    pub(crate) fn settle_marks_of(
        &self,
        ids: impl Iterator<Item = ChunkId>,
        bound: Bound,
    ) -> Result<Vec<(ChunkId, u64)>, Fault> {
        let chunks = self.space.chunks();
        // A checkpoint that failed may have synced some, which were then given up.
        if !self.knows_marks(chunks.len() as u64) {
            self.refresh_marks()?;
        }
        let chunk_of = |id| chunks.binary_search_by_key(&id, |chunk| chunk.id).ok();
        self.settle_each(ids.filter_map(|id| Some(&chunks[chunk_of(id)?])), bound)
    }

    fn settle_each<'a>(
        &self,
        chunks: impl Iterator<Item = &'a Arc<Chunk>>,
        bound: Bound,
    ) -> Result<Vec<(ChunkId, u64)>, Fault> {
        let mut sums = Vec::new();
        for chunk in chunks {
            let Some(marks) = self.marks_of(chunk)? else { continue };
            // In this order: a file system may say of a page that is not on the disk yet that it is a hole.
            removable!("marks.settle.sync", marks.sync())?;
            sums.push((chunk.id, marks.sum(&*self.storage, bound)?));
        }
        Ok(sums)
    }
}

impl Idle for TableCore {
    fn give_up_maps(&self) {
        let Ok(_guard) = self.marks_lock.try_lock() else { return };
        self.space.give_up_maps(|| {
            // Seen by whoever gets the next view.
            self.marks_chunks.store(0, Ordering::Release);
            self.marks_seen.store(u64::MAX, Ordering::Release);
        });
    }
}

/// A table at one `Seq`.
#[derive(Clone, Debug)]
pub struct TableView {
    core: Arc<TableCore>,
    view: Arc<View>,
    state: TableState,
    seq: Seq,
    /// The table's, at hand.
    row_size: u64,
}

impl TableView {
    /// The table.
    #[must_use]
    pub fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    /// Rows, dead ones included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        self.state.len
    }

    /// Whether no row was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.len == 0
    }

    /// Rows that are alive.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.state.live
    }

    /// The commit that this view shows.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The bytes of a row below the length, dead or alive. Cost: an addition, a test of the block's state, and, once a
    /// block and process, a checksum of 64 KiB.
    #[inline]
    pub fn row_bytes(&self, row: RowId) -> Result<&[u8], Fault> {
        self.rows_bytes(row..row.next())
    }

    /// The bytes of rows below the length, one behind the other.
    #[inline]
    pub fn rows_bytes(&self, rows: Range<RowId>) -> Result<&[u8], Fault> {
        if rows.end.0 > self.state.len || rows.start > rows.end {
            return Err(self.beyond(&rows));
        }
        let size = self.core.row_size;
        // SAFETY: rows below the view's length were published, or applied by this process under the writer lock that
        // the transaction with this view still holds; the writer never writes below an applied length. The view of a
        // transaction itself ends with rows that it wrote before the view was made: they are written over only when the
        // guard, which outlives such views, is gone or gives them up.
        unsafe { self.view.bytes(rows.start.0 * size, (rows.end.0 - rows.start.0) * size) }
    }

    #[cold]
    fn beyond(&self, rows: &Range<RowId>) -> Fault {
        Fault::corrupt(
            self.core.space.dir(),
            0,
            format!("rows below {}", self.state.len),
            format!("rows {}..{}", rows.start, rows.end),
        )
    }

    /// A row as its type. `T`'s layout was compared with the table's.
    #[inline]
    pub fn row<T: PongoRecord>(&self, row: RowId) -> Result<&T, ReadError> {
        let bytes = self.row_bytes(row)?;
        T::try_ref_from_bytes(bytes).map_err(|_| self.invalid::<T>(row))
    }

    #[cold]
    fn invalid<T: PongoRecord>(&self, row: RowId) -> ReadError {
        ReadError::InvalidRow { table: self.core.schema.table.clone(), record: T::SCHEMA.record, row }
    }

    /// A row as its type, with whether its chunk has marks, if that takes a few instructions: the row is below the length
    /// and its block was looked at before. `None` says nothing; ask [`row`](Self::row).
    #[inline]
    #[must_use]
    pub fn glance<T: PongoRecord>(&self, row: RowId) -> Option<(&T, bool)> {
        let size = size_of::<T>() as u64;
        if row.0 >= self.state.len || size != self.row_size {
            return None;
        }
        // SAFETY: as in `rows_bytes`: the row is below the length.
        let (bytes, marked) = unsafe { self.view.glance(row.0 * size, size) }?;
        Some((T::try_ref_from_bytes(bytes).ok()?, marked))
    }

    /// Rows as a slice of their type: one contiguous `&[T]`. A type without forbidden bit patterns costs nothing; for
    /// another, each block of 64 KiB is looked through once a process.
    pub fn rows<T: PongoRecord>(&self, rows: Range<RowId>) -> Result<&[T], ReadError> {
        let size = self.core.row_size;
        if size_of::<T>() as u64 != size {
            return Err(self.invalid::<T>(rows.start));
        }
        let bytes = self.rows_bytes(rows.clone())?;
        let known = self.view.valid_blocks::<T>();
        if let Some(known) = known
            && known.all(rows.start.0 * size, rows.end.0 * size)
        {
            // SAFETY: every block in which a row of the range begins was looked through as `T` by this view: the
            // bytes are valid, and, being below the length, have not changed since.
            let slice = unsafe { crate::cast::slice_unchecked::<T>(bytes) };
            if let Some(slice) = slice {
                return Ok(slice);
            }
        }
        let slice = <[T]>::try_ref_from_bytes(bytes).map_err(|_| self.first_invalid::<T>(&rows))?;
        if let Some(known) = known {
            known.note(rows.start.0 * size, rows.end.0 * size, size);
        }
        Ok(slice)
    }

    #[cold]
    fn first_invalid<T: PongoRecord>(&self, rows: &Range<RowId>) -> ReadError {
        for row in rows.start.0..rows.end.0 {
            if let Err(error) = self.row::<T>(RowId(row)) {
                return error;
            }
        }
        self.invalid::<T>(rows.start)
    }

    /// Whether a row below the length is alive at this view's `Seq`.
    ///
    /// # Errors
    /// [`Fault`] if the marks of its chunk are damaged: compared with their checksum when one is first asked for.
    #[inline]
    pub fn is_live(&self, row: RowId) -> Result<bool, Fault> {
        Ok(self.died(row)?.is_none_or(|died| died > self.seq))
    }

    /// Whether the chunk of a row has no marks, so that nothing in it died or replaced another row: a few instructions.
    #[inline]
    #[must_use]
    pub fn has_no_marks(&self, row: RowId) -> bool {
        self.view.marked_chunk_at(row.0.wrapping_mul(self.row_size)).is_none()
    }

    /// The commit at which a row below the length died, also if that is behind this view.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    #[inline]
    pub fn died(&self, row: RowId) -> Result<Option<Seq>, Fault> {
        match self.view.marked_chunk_at(row.0.wrapping_mul(self.core.row_size)) {
            None => Ok(None),
            Some(chunk) => Ok(self.core.marks_of(chunk)?.and_then(|marks| marks.died(row))),
        }
    }

    /// Looks at the marks of all chunks: after this, none of the rows' marks can fail to be read.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn know_marks(&self) -> Result<(), Fault> {
        self.view.chunks.iter().try_for_each(|chunk| self.core.marks_of(chunk).map(|_| ()))
    }

    /// From a candidate that an index gave, which may be newer than this view or nonsense, down the chain of previous
    /// rows to the one that this view could see: below the length. Says nothing about key or life.
    #[inline]
    pub fn resolve(&self, candidate: RowId) -> Result<Option<RowId>, Fault> {
        if candidate.0 < self.state.len {
            return Ok(Some(candidate));
        }
        self.resolve_above(candidate)
    }

    #[cold]
    fn resolve_above(&self, mut candidate: RowId) -> Result<Option<RowId>, Fault> {
        // `previous` is always lower, so this ends.
        while candidate.0 >= self.state.len {
            match self.core.previous_above(candidate)? {
                Some(previous) => candidate = previous,
                None => return Ok(None),
            }
        }
        Ok(Some(candidate))
    }

    /// As [`resolve`](Self::resolve), but no more than so many versions are gone through.
    ///
    /// # Errors
    /// [`Fault`] if marks are damaged.
    #[inline]
    pub fn resolve_near(&self, candidate: RowId, versions: usize) -> Result<Resolved, Fault> {
        if candidate.0 < self.state.len {
            return Ok(Resolved::Row(candidate));
        }
        self.resolve_near_above(candidate, versions)
    }

    #[cold]
    fn resolve_near_above(&self, mut candidate: RowId, versions: usize) -> Result<Resolved, Fault> {
        for _ in 0..versions {
            match self.core.previous_above(candidate)? {
                Some(previous) if previous.0 < self.state.len => return Ok(Resolved::Row(previous)),
                Some(previous) => candidate = previous,
                None => return Ok(Resolved::Nothing),
            }
        }
        Ok(Resolved::Far)
    }

    /// The row that a row below the length replaced.
    pub fn previous(&self, row: RowId) -> Result<Option<RowId>, Fault> {
        self.core.previous_above(row)
    }

    /// The next run of live rows at or behind `from`: no dead row inside, at most one chunk long.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run(&self, from: RowId) -> Result<Option<Range<RowId>>, Fault> {
        self.next_run_in(from..RowId(self.state.len))
    }

    /// The first run of live rows in a range: as [`next_run`](Self::next_run), and none outside it is looked at.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run_in(&self, rows: Range<RowId>) -> Result<Option<Range<RowId>>, Fault> {
        self.next_run_at(rows, self.seq)
    }

    /// The same at another commit: the first run of rows that had not died by then.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run_at(&self, rows: Range<RowId>, seq: Seq) -> Result<Option<Range<RowId>>, Fault> {
        let size = self.core.row_size;
        let mut start = rows.start.0;
        let last = rows.end.0.min(self.state.len);
        while start < last {
            let Some(chunk) = self.view.chunk_at(start * size) else { break };
            let end = chunk.end().div_ceil(size).min(last);
            let Some(marks) = self.core.marks_of(chunk)? else {
                return Ok(Some(RowId(start)..RowId(end)));
            };
            let died = |row: u64| marks.died(RowId(row)).is_some_and(|died| died <= seq);
            while start < end && died(start) {
                start += 1;
            }
            let mut stop = start;
            while stop < end && !died(stop) {
                stop += 1;
            }
            if start < stop {
                return Ok(Some(RowId(start)..RowId(stop)));
            }
        }
        Ok(None)
    }

    /// Compares the blocks with these rows with their checksums, whether that was done before or not. Rows behind the last
    /// checkpoint have none yet.
    ///
    /// # Errors
    /// [`Fault`] with the first block that differs.
    pub fn compare(&self, rows: Range<RowId>) -> Result<(), Fault> {
        if rows.end.0 > self.state.len || rows.start > rows.end {
            return Err(self.beyond(&rows));
        }
        let size = self.core.row_size;
        // SAFETY: as in `rows_bytes`: the rows are below the length.
        unsafe { self.view.compare(rows.start.0 * size, (rows.end.0 - rows.start.0) * size) }
    }

    /// From here on, until the next checkpoint, no descriptor is needed to look at a row.
    pub(crate) fn prepare_to_look(&self) -> Result<(), Fault> {
        self.view.read_sums()
    }

    /// The chunks in which rows below the length begin, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRows> + '_ {
        (0..).map_while(|place| self.chunk_rows(place)).filter(|chunk| chunk.rows.start < chunk.rows.end)
    }

    /// Which rows begin in the chunk at a place in the view; `None` behind the last one that has any.
    fn chunk_rows(&self, place: usize) -> Option<ChunkRows> {
        let chunk = self.view.chunks.get(place)?;
        let first = chunk.start.div_ceil(self.row_size);
        let end = chunk.end().div_ceil(self.row_size);
        if first >= self.state.len {
            return None;
        }
        let full = end <= self.state.len;
        // The last row may end in another chunk.
        let blocks_end = (end * self.row_size).next_multiple_of(BLOCK);
        Some(ChunkRows {
            place,
            id: chunk.id,
            rows: RowId(first)..RowId(end.min(self.state.len)),
            full,
            durable: full && blocks_end <= self.state.summed,
        })
    }

    /// What [`chunks`](Self::chunks) listed.
    pub(crate) fn chunk(&self, rows: &ChunkRows) -> Option<&Arc<Chunk>> {
        self.view.chunks.get(rows.place)
    }

    /// The checksum of the checksums of the blocks that these rows touch, all below a durable checkpoint.
    pub(crate) fn sum_of_sums(&self, rows: Range<RowId>) -> Result<u64, Fault> {
        self.view.sum_of_sums(rows.start.0 * self.row_size, rows.end.0 * self.row_size)
    }

    /// Where a row lies.
    #[must_use]
    pub fn locate(&self, row: RowId) -> Option<Location> {
        let at = row.0.checked_mul(self.core.row_size)?;
        if row.0 >= self.state.len {
            return None;
        }
        let chunk = self.view.chunk_at(at)?;
        Some(Location { chunk: chunk.id, offset: at - chunk.start })
    }

    /// The row that begins at a location.
    #[must_use]
    pub fn row_at(&self, location: Location) -> Option<RowId> {
        let chunk = self.view.chunks.iter().find(|chunk| chunk.id == location.chunk)?;
        let at = chunk.start.checked_add(location.offset)?;
        let row = RowId(at / self.core.row_size);
        (location.offset < chunk.len && at % self.core.row_size == 0 && row.0 < self.state.len).then_some(row)
    }

    /// Asks the processor to fetch a row.
    #[inline]
    pub fn prefetch(&self, row: RowId) {
        self.view.prefetch(row.0.wrapping_mul(self.core.row_size));
    }
}

/// What [`TableView::resolve_near`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// This row.
    Row(RowId),
    /// No version is that old.
    Nothing,
    /// There are more versions than were gone through.
    Far,
}

/// The rows of a view that begin in one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkRows {
    /// Among the view's chunks.
    place: usize,
    /// The chunk.
    pub id: ChunkId,
    /// The rows below the view's length that begin in it, dead ones included.
    pub rows: Range<RowId>,
    /// Whether these are all that will ever begin in it.
    pub full: bool,
    /// Whether they are, and a durable checkpoint covers every byte of theirs: no crash can change them.
    pub durable: bool,
}

/// Blocks of a table are this many bytes; what is checked once a block is checked once for so many bytes.
pub const BLOCK_BYTES: u64 = BLOCK;

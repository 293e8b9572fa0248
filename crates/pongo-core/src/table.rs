//! A table: its schema, its row space and its marks, as one process knows them ([`TableCore`]), and
//! the table at one `Seq` ([`TableView`]), which tells which rows are visible and returns their
//! bytes.
//!
//! A row is visible iff its number is below the table's length and it was not deleted at or before
//! the `Seq`. Rows are immutable once published. References that a view returns borrow from it; the
//! view keeps its chunks mapped.

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

/// A table as one process knows it, independent of any `Seq`.
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
    /// Whether the store was closed cleanly since: marks of commits after `baseline` are then no
    /// corruption.
    outlived: AtomicBool,
    /// The expected marks, known to the process that opened the store alone, which compares each
    /// file when it first maps it. A process that joins others maps files that are already in use.
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

    /// Panics if the table does not belong to the store of `control`. Lengths of one store say
    /// nothing about rows of another, which may be written below them.
    #[inline]
    pub(crate) fn assert_of(&self, control: &Arc<Control>) {
        assert!(Arc::ptr_eq(&self.control, control), "a table of another store");
    }

    /// Returns the storage that holds the table.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Returns whether no process wrote to the store since it was closed cleanly.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.control.is_clean()
    }

    /// Returns a number that identifies the set of commits: it is derived from the newest published
    /// commit and the recovery generation. An index made durable with this number can be told from
    /// one of another time.
    #[must_use]
    pub fn moment(&self) -> u64 {
        let (_, state) = self.control.published();
        let words = [state.seq.0, self.control.salt().0].map(u64::to_le_bytes);
        checksum(words.as_flattened())
    }

    /// Returns the oldest `Seq` that a snapshot can have: rows deleted at or before this commit are
    /// visible to no snapshot of any process, now or later.
    ///
    /// Costs some microseconds: it reads the pins of all processes.
    #[must_use]
    pub fn seen_from(&self) -> Seq {
        self.control.seen_from()
    }

    /// Returns whether a commit was published: it then exists permanently, in every process, and no
    /// other commit has its number.
    ///
    /// Costs some 0.1 µs: it reads the newest state.
    #[must_use]
    pub fn is_published(&self, seq: Seq) -> bool {
        self.control.published().1.seq >= seq
    }

    /// Returns the number of the table's store.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.space.identity().store
    }

    /// Returns the table's number in its store.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// Returns the schema of the rows.
    #[must_use]
    pub fn schema(&self) -> &StoredSchema {
        &self.schema
    }

    /// Returns the layout's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Returns the plan of the zone maps: which fields have bounds.
    pub(crate) fn zone_plan(&self) -> &Arc<Plan> {
        &self.zone_plan
    }

    /// Returns the number of rows in a zone: see [`crate::zones`].
    #[must_use]
    pub fn zone_rows(&self) -> u64 {
        self.zone_plan.zone_rows()
    }

    /// Returns the size of a row in bytes.
    #[must_use]
    pub fn row_size(&self) -> u64 {
        self.row_size
    }

    /// Returns the table at a state and a `Seq`. Maps chunks that are not mapped yet.
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

    /// Returns whether the marks files of the first `chunks` chunks are known. A chunk that another
    /// process created may have become visible here after its marks file did.
    fn knows_marks(&self, chunks: u64) -> bool {
        chunks <= self.marks_chunks.load(Ordering::Acquire)
            && self.marks_seen.load(Ordering::Acquire) == self.control.marks_epoch(self.id)
    }

    /// Sets the marks that the newest checkpoint recorded. Called by the process that is alone with
    /// the store, before it reads any marks.
    pub(crate) fn expect_marks(&self, baseline: Baseline) {
        debug_assert!(self.space.chunks().iter().all(|chunk| chunk.marks.get().is_none()));
        let _ = self.baseline.set(baseline);
    }

    /// Searches for marks files of all known chunks that have none in this process. Their contents
    /// are read when a row of the chunk is requested.
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

    /// Accepts marks of later commits from now on. Called when the store is about to be closed
    /// cleanly: marks that are first read afterwards can be of later commits than those of the
    /// checkpoint with which this process began.
    pub(crate) fn outlive_baseline(&self) {
        self.outlived.store(true, Ordering::Release);
    }

    /// Returns the marks of a chunk, if it has any. The first call maps them and compares them with
    /// the checkpoint's record.
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

    /// Returns all known chunks that have marks, with their marks mapped.
    fn marked_chunks(&self) -> Result<Vec<Arc<Chunk>>, Fault> {
        self.refresh_marks()?;
        let mut chunks = self.space.chunks();
        chunks.retain(|chunk| chunk.is_marked());
        chunks.iter().try_for_each(|chunk| self.marks_of(chunk).map(|_| ()))?;
        Ok(chunks)
    }

    /// Returns whether the checkpoint lists marks for the chunk.
    fn must_have_marks(&self, chunk: &Chunk) -> bool {
        self.baseline.get().is_some_and(|baseline| baseline.lists(chunk.id))
    }

    /// Maps the marks of a chunk, creating the file if `create` is set. The caller holds
    /// `marks_lock`.
    fn adopt_marks(&self, chunk: &Arc<Chunk>, create: bool) -> Result<(), Fault> {
        let path = format!("{}/{}.marks", self.space.dir(), chunk.id);
        let extent = self.extent(chunk);
        let is_clean = || self.control.is_clean() && !self.outlived.load(Ordering::Acquire);
        // Compared once only: a map that is created again is of the same file.
        let baseline = self.baseline.get().filter(|_| !chunk.marks_compared.load(Ordering::Relaxed));
        let opened = Marks::open(&*self.storage, path.clone(), extent, baseline, is_clean)?;
        let marks = match opened {
            Some(marks) => marks,
            // Creating a new file would make deleted rows visible again.
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

    /// Returns the extent of the rows that begin in a chunk.
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

    /// Returns the chunk of a row, with its marks created and announced. For the writer.
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
        // Not only if this process created the file: the process that did may have failed, or have
        // been killed, before it announced it.
        if !chunk.announced.swap(true, Ordering::AcqRel) {
            self.control.advance_marks_epoch(self.id);
        }
        Ok(chunk)
    }

    /// Returns the row that `row` replaced, for rows that may be above any length this process has
    /// seen.
    fn previous_above(&self, row: RowId) -> Result<Option<RowId>, Fault> {
        let Some(chunk) = self.chunk_of(row)? else { return Ok(None) };
        if !chunk.is_marked() && !self.knows_marks(chunk.id.0 + 1) {
            self.refresh_marks()?;
        }
        Ok(self.marks_of(&chunk)?.and_then(|marks| marks.previous(row)))
    }

    /// Stores all marks again. For use when a sync may have failed, so that memory may differ from
    /// the disk.
    pub(crate) fn store_marks_again(&self) -> Result<(), Fault> {
        let marks =
            |chunk: &Arc<Chunk>| chunk.marks.get().map_or(Ok(()), |marks| marks.store_again(&*self.storage));
        self.marked_chunks()?.iter().try_for_each(marks)
    }

    /// Clears the marks that lost commits left. `stored` counts the marks stored since `before`.
    /// Does not sync: the checkpoint that ends a recovery syncs all marks.
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

    /// Syncs and sums every marks file, whichever process created it, and syncs their names.
    /// Returns the checksums by chunk.
    pub(crate) fn settle_marks(&self, bound: Bound) -> Result<Vec<(ChunkId, u64)>, Fault> {
        let chunks = self.marked_chunks()?;
        removable!("marks.settle.folder", self.space.sync_dir())?;
        self.settle_each(chunks.iter(), bound)
    }

    /// Syncs and sums the marks of these chunks, whose names are durable. Returns the checksums by
    /// chunk.
    pub(crate) fn settle_marks_of(
        &self,
        ids: impl Iterator<Item = ChunkId>,
        bound: Bound,
    ) -> Result<Vec<(ChunkId, u64)>, Fault> {
        let chunks = self.space.chunks();
        // A failed checkpoint may have synced some marks, whose maps were then released.
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
            // Sync before summing: a file system may report a page that is not on disk yet as a
            // hole.
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
            // Seen by every thread that gets the next view.
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
    /// The table's row size, copied here for fast access.
    row_size: u64,
}

impl TableView {
    /// Returns the table.
    #[must_use]
    pub fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    /// Returns the number of rows, deleted ones included.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        self.state.len
    }

    /// Returns whether no row was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.len == 0
    }

    /// Returns the number of rows that are not deleted.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.state.live
    }

    /// Returns the commit that this view shows.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Returns the bytes of a row below the length, deleted or not.
    ///
    /// Costs an addition, a test of the block's state and, once per block and process, a checksum
    /// of 64 KiB.
    #[inline]
    pub fn row_bytes(&self, row: RowId) -> Result<&[u8], Fault> {
        self.rows_bytes(row..row.next())
    }

    /// Returns the bytes of consecutive rows below the length.
    #[inline]
    pub fn rows_bytes(&self, rows: Range<RowId>) -> Result<&[u8], Fault> {
        if rows.end.0 > self.state.len || rows.start > rows.end {
            return Err(self.beyond(&rows));
        }
        let size = self.core.row_size;
        // SAFETY: rows below the view's length were published, or were applied by this process
        // under the writer lock that the transaction with this view still holds; the writer never
        // writes below an applied length. A view of a transaction itself ends with rows that the
        // transaction wrote before the view was created: they are overwritten only after the guard,
        // which outlives such views, is dropped or discards them.
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

    /// Returns a row as its type. `T`'s layout was compared with the table's.
    #[inline]
    pub fn row<T: PongoRecord>(&self, row: RowId) -> Result<&T, ReadError> {
        let bytes = self.row_bytes(row)?;
        T::try_ref_from_bytes(bytes).map_err(|_| self.invalid::<T>(row))
    }

    #[cold]
    fn invalid<T: PongoRecord>(&self, row: RowId) -> ReadError {
        ReadError::InvalidRow { table: self.core.schema.table.clone(), record: T::SCHEMA.record, row }
    }

    /// Returns a row as its type, and whether its chunk has marks, if that takes only a few
    /// instructions: the row is below the length and its block was verified before. `None` says
    /// nothing about the row; call [`row`](Self::row).
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

    /// Returns rows as one contiguous slice `&[T]`.
    ///
    /// Validation costs nothing for a type without forbidden bit patterns. For other types, each
    /// block of 64 KiB is validated once per process.
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
            // SAFETY: this view validated as `T` every block in which a row of the range begins:
            // the bytes are valid and, being below the length, have not changed since.
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

    /// Returns whether a row below the length is not deleted at this view's `Seq`.
    ///
    /// # Errors
    /// [`Fault`] if the marks of its chunk are corrupt. They are compared with their checksum when
    /// they are first needed.
    #[inline]
    pub fn is_live(&self, row: RowId) -> Result<bool, Fault> {
        Ok(self.died(row)?.is_none_or(|died| died > self.seq))
    }

    /// Returns whether the chunk of a row has no marks, so that no row in it was deleted or
    /// replaced another row. Costs a few instructions.
    #[inline]
    #[must_use]
    pub fn has_no_marks(&self, row: RowId) -> bool {
        self.view.marked_chunk_at(row.0.wrapping_mul(self.row_size)).is_none()
    }

    /// Returns the commit that deleted a row below the length, even if that commit is after this
    /// view.
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

    /// Maps and verifies the marks of all chunks. After this, reading the marks of any row cannot
    /// fail.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn know_marks(&self) -> Result<(), Fault> {
        self.view.chunks.iter().try_for_each(|chunk| self.core.marks_of(chunk).map(|_| ()))
    }

    /// Follows the chain of previous rows from a candidate to the first row that this view can see,
    /// which is below the length. The candidate comes from an index and may be newer than this view
    /// or invalid. The result says nothing about the row's key or whether it is deleted.
    #[inline]
    pub fn resolve(&self, candidate: RowId) -> Result<Option<RowId>, Fault> {
        if candidate.0 < self.state.len {
            return Ok(Some(candidate));
        }
        self.resolve_above(candidate)
    }

    #[cold]
    fn resolve_above(&self, mut candidate: RowId) -> Result<Option<RowId>, Fault> {
        // `previous` is always lower, so the loop ends.
        while candidate.0 >= self.state.len {
            match self.core.previous_above(candidate)? {
                Some(previous) => candidate = previous,
                None => return Ok(None),
            }
        }
        Ok(Some(candidate))
    }

    /// Works like [`resolve`](Self::resolve), but follows at most `versions` previous rows.
    ///
    /// # Errors
    /// [`Fault`] if marks are corrupt.
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

    /// Returns the row that a row below the length replaced.
    pub fn previous(&self, row: RowId) -> Result<Option<RowId>, Fault> {
        self.core.previous_above(row)
    }

    /// Returns the next run of live rows at or after `from`: without a deleted row, and at most one
    /// chunk long.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run(&self, from: RowId) -> Result<Option<Range<RowId>>, Fault> {
        self.next_run_in(from..RowId(self.state.len))
    }

    /// Returns the first run of live rows in a range, as [`next_run`](Self::next_run) does. Rows
    /// outside the range are not examined.
    ///
    /// # Errors
    /// As for [`is_live`](Self::is_live).
    pub fn next_run_in(&self, rows: Range<RowId>) -> Result<Option<Range<RowId>>, Fault> {
        self.next_run_at(rows, self.seq)
    }

    /// Returns the first run of rows in a range that were not deleted at or before commit `seq`.
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

    /// Compares the blocks that contain these rows with their checksums, even if that was done
    /// before. Rows written after the last checkpoint have no checksums yet.
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

    /// Reads the stored checksums of all blocks, so that no descriptor is needed to read a row
    /// until the next checkpoint.
    pub(crate) fn prepare_to_look(&self) -> Result<(), Fault> {
        self.view.read_sums()
    }

    /// Returns the chunks in which rows below the length begin, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRows> + '_ {
        (0..).map_while(|place| self.chunk_rows(place)).filter(|chunk| chunk.rows.start < chunk.rows.end)
    }

    /// Returns the rows that begin in the chunk at an index in the view; `None` after the last
    /// chunk that has any.
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

    /// Returns the chunk of an item that [`chunks`](Self::chunks) listed.
    pub(crate) fn chunk(&self, rows: &ChunkRows) -> Option<&Arc<Chunk>> {
        self.view.chunks.get(rows.place)
    }

    /// Returns the checksum of the checksums of the blocks that these rows touch, all below a
    /// durable checkpoint.
    pub(crate) fn sum_of_sums(&self, rows: Range<RowId>) -> Result<u64, Fault> {
        self.view.sum_of_sums(rows.start.0 * self.row_size, rows.end.0 * self.row_size)
    }

    /// Returns the location of a row.
    #[must_use]
    pub fn locate(&self, row: RowId) -> Option<Location> {
        let at = row.0.checked_mul(self.core.row_size)?;
        if row.0 >= self.state.len {
            return None;
        }
        let chunk = self.view.chunk_at(at)?;
        Some(Location { chunk: chunk.id, offset: at - chunk.start })
    }

    /// Returns the row that begins at a location.
    #[must_use]
    pub fn row_at(&self, location: Location) -> Option<RowId> {
        let chunk = self.view.chunks.iter().find(|chunk| chunk.id == location.chunk)?;
        let at = chunk.start.checked_add(location.offset)?;
        let row = RowId(at / self.core.row_size);
        (location.offset < chunk.len && at % self.core.row_size == 0 && row.0 < self.state.len).then_some(row)
    }

    /// Prefetches a row into the processor's cache.
    #[inline]
    pub fn prefetch(&self, row: RowId) {
        self.view.prefetch(row.0.wrapping_mul(self.core.row_size));
    }
}

/// The result of [`TableView::resolve_near`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// This row.
    Row(RowId),
    /// No version is old enough for the view.
    Nothing,
    /// There are more versions than were followed.
    Far,
}

/// The rows of a view that begin in one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkRows {
    /// Index among the view's chunks.
    place: usize,
    /// The chunk.
    pub id: ChunkId,
    /// The rows below the view's length that begin in it, deleted ones included.
    pub rows: Range<RowId>,
    /// Whether no further row will ever begin in it.
    pub full: bool,
    /// Whether it is full and a durable checkpoint covers every byte of its rows: no crash can
    /// change them.
    pub durable: bool,
}

/// Size of a table's block in bytes. A check that is done once per block covers this many bytes.
pub const BLOCK_BYTES: u64 = BLOCK;

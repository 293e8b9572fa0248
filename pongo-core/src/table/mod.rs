//! A table: its schema, its row space and its marks, as one process knows them ([`TableCore`]), and
//! the table at one `Seq` ([`TableView`]), which tells which rows are visible and returns their
//! bytes.
//!
//! | module | purpose |
//! | --- | --- |
//! | here | a table in this process: mapping, discovering and settling its marks |
//! | `view` | the table at one `Seq` |
//!
//! A row is visible iff its number is below the table's length and it was not deleted at or before
//! the `Seq`. Rows are immutable once published. References that a view returns borrow from it; the
//! view keeps its chunks mapped.

#[allow(unsafe_code, reason = "reads rows below the table's length")]
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use view::{ChunkRows, Resolved, TableView};

use crate::codec::checksum;
use crate::control::Control;
use crate::error::StorageError;
use crate::guard::{fails, removable};
use crate::ids::{ChunkId, RowId, Seq, TableId};
use crate::mark_checksums::{CheckpointBound, CheckpointMarks};
use crate::marks::{DirtyMarks, Marks, RowExtent};
use crate::schema::StoredSchema;
use crate::space::{BLOCK, Chunk, Space, SpaceIdentity};
use crate::state::TableState;
use crate::storage::{Idle, Storage};
use crate::zones::ZonePlan;

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
    zone_plan: Arc<ZonePlan>,
    /// The marks epoch up to which the marks files of the first `marks_chunks` chunks are known.
    marks_seen: AtomicU64,
    marks_chunks: AtomicU64,
    marks_lock: Mutex<()>,
    /// Whether the store was closed cleanly since: marks of commits after `baseline` are then no
    /// corruption.
    outlived: AtomicBool,
    /// The expected marks, known to the process that opened the store alone, which compares each
    /// file when it first maps it. A process that joins others maps files that are already in use.
    baseline: OnceLock<CheckpointMarks>,
}

impl TableCore {
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        control: &Arc<Control>,
        store: u128,
        id: TableId,
        schema: StoredSchema,
        sizes: crate::space::Sizes,
    ) -> Result<Self, StorageError> {
        let fingerprint = schema.fingerprint();
        let row_size = schema.size as u64;
        let identity = SpaceIdentity { store, table: Some(id), row_size, fingerprint };
        let space = Space::open(storage, format!("tables/{}", schema.table), identity, sizes)?;
        Ok(Self {
            id,
            fingerprint,
            row_size,
            zone_plan: Arc::new(ZonePlan::new(&schema)),
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
    pub fn version_stamp(&self) -> u64 {
        let (_, state) = self.control.published();
        let words = [state.seq.0, self.control.salt().0].map(u64::to_le_bytes);
        checksum(words.as_flattened())
    }

    /// Returns the oldest `Seq` that a snapshot can have: rows deleted at or before this commit are
    /// visible to no snapshot of any process, now or later.
    ///
    /// Costs some microseconds: it reads the pins of all processes.
    #[must_use]
    pub fn oldest_visible_seq(&self) -> Seq {
        self.control.oldest_visible_seq()
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
    pub(crate) fn zone_plan(&self) -> &Arc<ZonePlan> {
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
    pub(crate) fn at(self: &Arc<Self>, state: TableState, seq: Seq) -> Result<TableView, StorageError> {
        let end = state.len.checked_mul(self.row_size).ok_or_else(|| StorageError::Limit {
            what: format!("table {} is too long", self.schema.table),
            limit: u64::MAX / self.row_size,
        })?;
        let view = self.space.view_to(end, state.summed)?;
        if !self.are_marks_known(view.chunk_count() as u64) {
            self.refresh_marks()?;
        }
        Ok(TableView { core: Arc::clone(self), view, state, seq, row_size: self.row_size })
    }

    /// Returns whether the marks files of the first `chunks` chunks are known. A chunk that another
    /// process created may have become visible here after its marks file did.
    fn are_marks_known(&self, chunks: u64) -> bool {
        chunks <= self.marks_chunks.load(Ordering::Acquire)
            && self.marks_seen.load(Ordering::Acquire) == self.control.marks_epoch(self.id)
    }

    /// Sets the marks that the newest checkpoint recorded. Called by the process that is alone with
    /// the store, before it reads any marks.
    pub(crate) fn set_checkpoint_marks(&self, baseline: CheckpointMarks) {
        debug_assert!(self.space.chunks().iter().all(|chunk| chunk.marks.get().is_none()));
        let _ = self.baseline.set(baseline);
    }

    /// Searches for marks files of all known chunks that have none in this process. Their contents
    /// are read when a row of the chunk is requested.
    #[cold]
    fn refresh_marks(&self) -> Result<(), StorageError> {
        let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.control.marks_epoch(self.id);
        let dir = self.space.dir();
        let names = self.storage.list(dir).map_err(StorageError::io("listing", dir))?;
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
    pub(crate) fn accept_later_marks(&self) {
        self.outlived.store(true, Ordering::Release);
    }

    /// Returns the marks of a chunk, if it has any. The first call maps them and compares them with
    /// the checkpoint's record.
    #[inline]
    fn marks_of<'a>(&self, chunk: &'a Arc<Chunk>) -> Result<Option<&'a Marks>, StorageError> {
        match chunk.marks.get() {
            Some(marks) => Ok(Some(marks)),
            None if chunk.is_marked() => self.find_marks(chunk),
            None => Ok(None),
        }
    }

    #[cold]
    fn find_marks<'a>(&self, chunk: &'a Arc<Chunk>) -> Result<Option<&'a Marks>, StorageError> {
        let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if chunk.marks.get().is_none() {
            self.map_marks(chunk, false)?;
        }
        Ok(chunk.marks.get())
    }

    /// Returns all known chunks that have marks, with their marks mapped.
    fn marked_chunks(&self) -> Result<Vec<Arc<Chunk>>, StorageError> {
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
    fn map_marks(&self, chunk: &Arc<Chunk>, create: bool) -> Result<(), StorageError> {
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
                return Err(StorageError::corrupt(
                    path,
                    0,
                    "the marks that the newest checkpoint lists, or that were here before: which rows of the \
                     chunk are dead",
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
    fn extent(&self, chunk: &Chunk) -> RowExtent {
        let first = chunk.start.div_ceil(self.row_size);
        let end = chunk.end().div_ceil(self.row_size);
        RowExtent {
            store: self.space.identity().store,
            table: self.id,
            chunk: chunk.id,
            first: RowId(first),
            rows: end - first,
        }
    }

    fn chunk_of(&self, row: RowId) -> Result<Option<Arc<Chunk>>, StorageError> {
        row.0.checked_mul(self.row_size).map_or(Ok(None), |at| self.space.find_chunk(at))
    }

    /// Returns the chunk of a row, with its marks created and announced. For the writer.
    pub(crate) fn marked_chunk(&self, row: RowId) -> Result<Arc<Chunk>, StorageError> {
        let chunk = self.chunk_of(row)?.ok_or_else(|| {
            StorageError::corrupt(self.space.dir(), row.0, format!("a chunk with row {row}"), "none such")
        })?;
        if chunk.marks.get().is_none() {
            let _guard = self.marks_lock.lock().unwrap_or_else(PoisonError::into_inner);
            if chunk.marks.get().is_none() {
                self.map_marks(&chunk, true)?;
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
    fn previous_above(&self, row: RowId) -> Result<Option<RowId>, StorageError> {
        let Some(chunk) = self.chunk_of(row)? else { return Ok(None) };
        if !chunk.is_marked() && !self.are_marks_known(chunk.id.0 + 1) {
            self.refresh_marks()?;
        }
        Ok(self.marks_of(&chunk)?.and_then(|marks| marks.previous(row)))
    }

    /// Stores all marks again. For use when a sync may have failed, so that memory may differ from
    /// the disk.
    pub(crate) fn rewrite_marks(&self) -> Result<(), StorageError> {
        let marks =
            |chunk: &Arc<Chunk>| chunk.marks.get().map_or(Ok(()), |marks| marks.rewrite(&*self.storage));
        self.marked_chunks()?.iter().try_for_each(marks)
    }

    /// Clears the marks that lost commits left. `stored` counts the marks stored since `before`.
    /// Does not sync: the checkpoint that ends a recovery syncs all marks.
    pub(crate) fn clear_marks_above(
        &self,
        before: CheckpointBound,
        now: CheckpointBound,
        stored: &DirtyMarks,
    ) -> Result<(), StorageError> {
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
    pub(crate) fn checkpoint_marks(
        &self,
        bound: CheckpointBound,
    ) -> Result<Vec<(ChunkId, u64)>, StorageError> {
        let chunks = self.marked_chunks()?;
        removable!("marks.settle.folder", self.space.sync_dir())?;
        self.checkpoint_each(chunks.iter(), bound)
    }

    /// Syncs and sums the marks of these chunks, whose names are durable. Returns the checksums by
    /// chunk.
    pub(crate) fn checkpoint_marks_of(
        &self,
        ids: impl Iterator<Item = ChunkId>,
        bound: CheckpointBound,
    ) -> Result<Vec<(ChunkId, u64)>, StorageError> {
        let chunks = self.space.chunks();
        // A failed checkpoint may have synced some marks, whose maps were then released.
        if !self.are_marks_known(chunks.len() as u64) {
            self.refresh_marks()?;
        }
        let chunk_of = |id| chunks.binary_search_by_key(&id, |chunk| chunk.id).ok();
        self.checkpoint_each(ids.filter_map(|id| Some(&chunks[chunk_of(id)?])), bound)
    }

    fn checkpoint_each<'a>(
        &self,
        chunks: impl Iterator<Item = &'a Arc<Chunk>>,
        bound: CheckpointBound,
    ) -> Result<Vec<(ChunkId, u64)>, StorageError> {
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

/// Size of a table's block in bytes. A check that is done once per block covers this many bytes.
pub const BLOCK_BYTES: u64 = BLOCK;

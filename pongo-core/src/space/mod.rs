//! A space: one unbounded run of bytes (a table's rows, or the heap), stored in consecutive chunk
//! files.
//!
//! | module | purpose |
//! | --- | --- |
//! | `chunk` | one chunk file: header, block checksums |
//! | `bytes` | the bytes of a space, whichever chunks they are in: writing, syncing, reading, checksums |
//! | `referenced` | checksums of bytes that a journal entry stores by reference |
//! | `writable_window` | a zeroed, writable window after the end |
//! | `view` | one address range with the chunks mapped in it |
//! | here | the list of chunks: creating, discovering, naming and mapping them |
//!
//! Only the process that holds the store's writer lock writes. A chunk is created under a temporary
//! name with all its space preallocated. [`Space::settle`] syncs it, renames it and syncs the
//! folder before anything refers to it. Chunks are never truncated or rewritten, only unlinked.

mod bytes;
#[forbid(unsafe_code)]
mod chunk;
#[forbid(unsafe_code)]
mod referenced;
#[allow(unsafe_code, reason = "slices of what is mapped")]
mod view;
#[allow(unsafe_code, reason = "hands the caller's promise to the writable map")]
mod writable_window;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

pub(crate) use chunk::{Chunk, SpaceIdentity};
pub(crate) use referenced::{RunSums, blocks_of, parts_of};
pub(crate) use view::SpaceView;

use chunk::HEADER;

use crate::error::StorageError;
use crate::guard::{holds, removable};
use crate::ids::ChunkId;
use crate::storage::Storage;

/// Bytes covered by one checksum. A chunk is a whole number of blocks.
pub(crate) const BLOCK: u64 = 64 << 10;

/// Maximum size of an address range.
pub(crate) const LARGEST: u64 = 1 << 45;

/// Sizes of chunks, address ranges and journal segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Maximum chunk size of a table that is not large itself, in bytes (default 16 MiB).
    pub chunk: u64,
    /// Size of the first address range reserved for a table, in bytes (default 1 GiB). Costs
    /// address space, not memory.
    pub reservation: u64,
    /// Bytes for entries in the smallest journal segment (default 1 MiB), a multiple of
    /// [`PAGE`](crate::storage::PAGE).
    pub segment: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { chunk: 16 << 20, reservation: 1 << 30, segment: crate::journal::SMALLEST }
    }
}

/// A space as seen by one process.
#[derive(Debug)]
pub(crate) struct Space {
    storage: Arc<dyn Storage>,
    dir: String,
    identity: SpaceIdentity,
    sizes: Sizes,
    /// Locked while chunks are created or discovered and while the view is replaced.
    known: Mutex<KnownChunks>,
    view: RwLock<Arc<SpaceView>>,
}

#[derive(Debug, Default)]
struct KnownChunks {
    /// All chunks that this process knows, in order, without gaps.
    chunks: Vec<Arc<Chunk>>,
    /// Number of chunks at the end of `chunks` that have only their temporary name.
    pending: usize,
    /// Whether there are chunks that another process renamed, possibly without making the names
    /// durable because it crashed.
    foreign: bool,
    /// Every view that is still in use.
    views: Vec<Weak<SpaceView>>,
}

impl KnownChunks {
    fn end(&self, origin: u64) -> u64 {
        self.chunks.last().map_or(origin, |chunk| chunk.end())
    }

    /// Appends a discovered chunk.
    fn push_found(&mut self, chunk: Chunk) {
        self.chunks.push(Arc::new(chunk));
        self.foreign = true;
    }

    fn next_id(&self) -> ChunkId {
        self.chunks.last().map_or(ChunkId(0), |chunk| chunk.id.next())
    }
}

impl Space {
    /// Opens a space in the existing folder `dir`. Chunks are discovered when they are needed.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        dir: String,
        identity: SpaceIdentity,
        sizes: Sizes,
    ) -> Result<Self, StorageError> {
        let view = Arc::new(SpaceView::new(storage, 0, sizes.reservation.next_multiple_of(BLOCK), &dir)?);
        let known = KnownChunks { views: vec![Arc::downgrade(&view)], ..KnownChunks::default() };
        Ok(Self {
            storage: Arc::clone(storage),
            dir,
            identity,
            sizes,
            known: Mutex::new(known),
            view: RwLock::new(view),
        })
    }

    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    pub(crate) fn identity(&self) -> &SpaceIdentity {
        &self.identity
    }

    fn known(&self) -> MutexGuard<'_, KnownChunks> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest view.
    pub(crate) fn view(&self) -> Arc<SpaceView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns a view in which all bytes below `end` are mapped.
    pub(crate) fn view_to(&self, end: u64, summed: u64) -> Result<Arc<SpaceView>, StorageError> {
        let view = self.view();
        view.note_summed(summed);
        if end <= view.mapped_end() {
            return Ok(view);
        }
        self.map_to(end, summed)
    }

    /// Maps all bytes below `end`, which were not mapped at the caller's last check.
    fn map_to(&self, end: u64, summed: u64) -> Result<Arc<SpaceView>, StorageError> {
        let mut known = self.known();
        let view = self.view();
        if end <= view.mapped_end() {
            // Another thread mapped them. The view may have contained one more chunk, which was
            // since forgotten.
            view.note_summed(summed);
            return Ok(view);
        }
        self.discover(&mut known, end)?;
        let known_end = known.end(0);
        if known_end < end {
            return Err(StorageError::corrupt(
                format!("{}/{}.chunk", self.dir, known.next_id()),
                0,
                format!("a chunk that extends to byte {end} of the space"),
                format!("no such file; the chunks end at byte {known_end}"),
            ));
        }
        let mut view = view;
        if known_end > view.capacity_end() {
            let capacity =
                known_end.saturating_mul(4).min(LARGEST).next_power_of_two().max(view.reserved_end());
            let larger = SpaceView::new(&self.storage, 0, capacity, &self.dir)?;
            larger.inherit(&view);
            view = Arc::new(larger);
            known.views.retain(|view| view.strong_count() > 0);
            known.views.push(Arc::downgrade(&view));
        }
        let mapped = view.chunks.len();
        for chunk in &known.chunks[mapped..] {
            view.map(chunk)?;
        }
        view.note_summed(summed);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }

    /// Opens chunks that other processes created, until byte `end` is covered or no more exist.
    fn discover(&self, known: &mut KnownChunks, end: u64) -> Result<(), StorageError> {
        while known.end(0) < end {
            let (id, start) = (known.next_id(), known.end(0));
            match Chunk::open(&*self.storage, &self.dir, &self.identity, id, start)? {
                Some(chunk) => {
                    known.push_found(chunk);
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Notes that a chunk has marks: its rows are looked up in the marks in every view that has the
    /// chunk mapped, and in those that map it later.
    pub(crate) fn note_marks(&self, chunk: &Chunk) {
        let known = self.known();
        for view in known.views.iter().filter_map(Weak::upgrade) {
            view.note_marks(chunk);
        }
    }

    /// Returns the chunk that contains byte `at` of the space, mapped or not, or `None` if no chunk
    /// file covers it.
    ///
    /// Returns an error if the chunk cannot be opened or its header is invalid: treating it as
    /// missing would mean that its rows do not exist.
    pub(crate) fn find_chunk(&self, at: u64) -> Result<Option<Arc<Chunk>>, StorageError> {
        let mut known = self.known();
        if known.end(0) <= at {
            self.discover(&mut known, at.saturating_add(1))?;
        }
        let index = known.chunks.partition_point(|chunk| chunk.end() <= at);
        Ok(known.chunks.get(index).filter(|chunk| chunk.start <= at).cloned())
    }

    /// Returns whether chunks exist up to byte `end`. Returns an error if one exists but is
    /// invalid.
    pub(crate) fn reaches(&self, end: u64) -> Result<bool, StorageError> {
        let mut known = self.known();
        self.discover(&mut known, end)?;
        Ok(known.end(0) >= end)
    }

    /// Discovers the chunks that other processes have created. No chunk is pending: a process that
    /// releases the writer lock forgets its pending chunks first.
    pub(crate) fn refresh(&self) -> Result<(), StorageError> {
        let mut known = self.known();
        debug_assert_eq!(known.pending, 0);
        self.discover(&mut known, u64::MAX)
    }

    /// Forgets the chunks that this process created and did not settle, and removes their files.
    /// The caller has the writer lock: the next writer may create other chunks in their place,
    /// which views of this process must discover.
    pub(crate) fn forget_pending(&self) {
        let mut known = self.known();
        if known.pending == 0 {
            return;
        }
        let keep = known.chunks.len() - known.pending;
        for chunk in known.chunks.drain(keep..) {
            // A file that cannot be removed has a temporary name and is removed by the next
            // recovery.
            let _ = self.storage.remove(&format!("{}.new", chunk.path));
        }
        known.pending = 0;
        // The newest range may have a forgotten chunk mapped, so the next view needs a new one.
        self.view().limit(known.end(0));
    }

    /// Removes chunk files with temporary names, and the named ones that start at or above `end`
    /// and are invalid or do not follow the others: a crash left them, and nothing refers to them.
    /// The caller has the store open exclusively.
    pub(crate) fn sweep(&self, end: u64) -> Result<(), StorageError> {
        let io = |what| StorageError::io(what, self.dir.as_str());
        for name in self.storage.list(&self.dir).map_err(io("listing"))? {
            if name.ends_with(".new") {
                self.storage.remove(&format!("{}/{name}", self.dir)).map_err(io("sweeping"))?;
            }
        }
        let mut known = self.known();
        loop {
            let (id, start) = (known.next_id(), known.end(0));
            match Chunk::open(&*self.storage, &self.dir, &self.identity, id, start) {
                Ok(Some(chunk)) => known.push_found(chunk),
                Ok(None) | Err(StorageError::Corrupt(_)) if start >= end => return self.sweep_from(id),
                // A chunk that is missing below `end` is reported when it is needed.
                Ok(None) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// Removes every file of chunk `first` and of the chunks after it.
    fn sweep_from(&self, first: ChunkId) -> Result<(), StorageError> {
        for name in self.storage.list(&self.dir).map_err(StorageError::io("listing", self.dir.as_str()))? {
            let number = name.split_once('.').and_then(|(number, _)| number.parse().ok());
            if number.is_some_and(|number: u64| number >= first.0) {
                let path = format!("{}/{name}", self.dir);
                self.storage.remove(&path).map_err(StorageError::io("sweeping", path.as_str()))?;
            }
        }
        Ok(())
    }

    /// Removes every file in the folder. They belong to an uncommitted transaction, and nothing
    /// refers to them.
    pub(crate) fn clear(&self) -> Result<(), StorageError> {
        for name in self.storage.list(&self.dir).map_err(StorageError::io("listing", self.dir.as_str()))? {
            let path = format!("{}/{name}", self.dir);
            self.storage.remove(&path).map_err(StorageError::io("sweeping", path.as_str()))?;
        }
        Ok(())
    }

    /// Ensures that chunks exist up to byte `end`, with all their space preallocated. An error
    /// leaves the published store unchanged.
    pub(crate) fn reserve_to(&self, end: u64) -> Result<(), StorageError> {
        if end > LARGEST {
            // A longer space could be committed, but not be opened again.
            let what = format!("{} would be too long, in bytes", self.dir);
            return Err(StorageError::Limit { what, limit: LARGEST });
        }
        let mut known = self.known();
        self.discover(&mut known, end)?;
        while known.end(0) < end {
            let (id, start) = (known.next_id(), known.end(0));
            let len = self.next_len(start, end);
            let chunk = Chunk::create(&*self.storage, &self.dir, &self.identity, id, start, len)?;
            known.chunks.push(Arc::new(chunk));
            known.pending += 1;
        }
        Ok(())
    }

    /// Returns the size of the next chunk: the same as all chunks before it together, at least one
    /// block, at most `sizes.chunk`. It is larger if there would otherwise be more than about 512
    /// chunks, which a single large row can cause.
    fn next_len(&self, start: u64, end: u64) -> u64 {
        let largest = self.sizes.chunk.max(end / 512).next_multiple_of(BLOCK);
        let wanted = start.clamp(BLOCK, largest).next_multiple_of(BLOCK);
        let missing = (end - start).next_multiple_of(BLOCK);
        wanted.max(missing.min(largest)).max(BLOCK)
    }

    /// Renames new chunks to their final names, durably.
    pub(crate) fn publish_names(&self) -> Result<(), StorageError> {
        let mut known = self.known();
        if known.pending == 0 && !known.foreign {
            return Ok(());
        }
        let first = known.chunks.len() - known.pending;
        if first == 0 && known.pending > 0 {
            self.sync_above()?;
        }
        for chunk in &known.chunks[first..] {
            chunk.publish_name(&*self.storage)?;
        }
        removable!("chunk.settle.folder", self.sync_dir())?;
        known.pending = 0;
        known.foreign = false;
        Ok(())
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync_dir(&self) -> Result<(), StorageError> {
        self.storage.sync_dir(&self.dir).map_err(StorageError::io(StorageError::SYNCING, self.dir.as_str()))
    }

    /// Makes the names in all parent folders, from the parent of `dir` up to the store's folder,
    /// durable. This is needed before the first file in the folder gets its name: programs that
    /// copy stores omit empty folders, and the process that opens the copy creates them again.
    fn sync_above(&self) -> Result<(), StorageError> {
        let mut dir = self.dir.as_str();
        while !dir.is_empty() {
            dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
            removable!("chunk.settle.above", self.storage.sync_dir(dir))
                .map_err(StorageError::io(StorageError::SYNCING, format!("the folder above {}", self.dir)))?;
        }
        Ok(())
    }

    fn chunks_of(&self, range: &Range<u64>) -> Vec<Arc<Chunk>> {
        let known = self.known();
        let first = known.chunks.partition_point(|chunk| chunk.end() <= range.start);
        known.chunks[first..].iter().take_while(|chunk| chunk.start < range.end).cloned().collect()
    }

    /// Releases the maps of chunks and marks if no thread holds a view or a chunk. They are mapped
    /// again when they are needed.
    ///
    /// Marks that were stored to keep their map until they are synced, because the map's syncer
    /// reports failed write-backs. Chunk files are synced through their
    /// [`Reopened`](crate::storage::Reopened), whether they are mapped or not. `first` is called
    /// once it is certain that no view is in use, and before anything is released.
    pub(crate) fn give_up_maps(&self, first: impl FnOnce()) {
        let Ok(mut known) = self.known.try_lock() else { return };
        let Ok(mut view) = self.view.try_write() else { return };
        if known.pending > 0 || view.chunks.len() == 0 {
            return;
        }
        // The weak reference to this view must not count as a user of it.
        let views = std::mem::take(&mut known.views);
        let is_own = |other: &Weak<SpaceView>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(&view));
        known.views = views.into_iter().filter(|other| other.upgrade().is_some() && !is_own(other)).collect();
        if Arc::get_mut(&mut view).is_none() {
            known.views.push(Arc::downgrade(&view));
            return;
        }
        let fresh = SpaceView::new(&self.storage, 0, view.reserved_end(), &self.dir);
        let is_made = fresh.is_ok();
        if let Ok(fresh) = fresh {
            first();
            *view = Arc::new(fresh);
        }
        known.views.push(Arc::downgrade(&view));
        if !is_made {
            return;
        }
        // Chunks that are still in another view are skipped.
        for chunk in known.chunks.iter_mut().filter_map(Arc::get_mut) {
            if chunk.marks.get().is_some_and(|marks| holds!("marks.idle.synced", !marks.is_stored())) {
                chunk.marks.take();
            }
        }
    }

    /// Returns the total size of all chunk files in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.known().chunks.iter().map(|chunk| HEADER + chunk.len).sum()
    }

    /// Returns the chunks that this process knows.
    pub(crate) fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.known().chunks.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn space() -> Space {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        storage.create_dir("heap").unwrap();
        let identity = SpaceIdentity { store: 7, table: None, row_size: 1, fingerprint: 0 };
        let sizes = Sizes { reservation: 8 * BLOCK, ..Sizes::default() };
        Space::open(&storage, "heap".to_owned(), identity, sizes).unwrap()
    }

    /// Checks that a space that could not be opened again is not created.
    #[test]
    fn too_long_space_is_refused() {
        let space = space();
        let error = space.reserve_to(LARGEST + 1).unwrap_err();
        assert!(matches!(error, StorageError::Limit { limit: LARGEST, .. }), "{error}");
        assert_eq!(space.chunks().len(), 0);
    }

    /// Tests a thread that finds that bytes are not mapped and waits for the lock while a
    /// transaction maps them, together with a chunk of the transaction after them, and is aborted.
    #[test]
    fn waiting_thread_finds_the_current_chunk() {
        let space = space();
        space.reserve_to(BLOCK).unwrap();
        space.publish_names().unwrap();
        assert_eq!(space.view().mapped_end(), 0);
        space.reserve_to(2 * BLOCK).unwrap();
        assert_eq!(space.view_to(2 * BLOCK, 0).unwrap().chunk_count(), 2);
        space.forget_pending();
        let view = space.map_to(BLOCK, 0).unwrap();
        assert_eq!((view.mapped_end(), view.chunk_count()), (BLOCK, 1));
        // The chunk that is created there next is visible, in another range.
        space.reserve_to(3 * BLOCK).unwrap();
        assert_eq!(space.view_to(3 * BLOCK, 0).unwrap().mapped_end(), 3 * BLOCK);
    }

    #[test]
    fn unused_maps_are_released() {
        use crate::ids::{RowId, Seq, TableId};
        use crate::marks::{Marks, RowExtent};
        use std::cell::Cell;

        let space = space();
        space.reserve_to(2 * BLOCK).unwrap();
        space.publish_names().unwrap();
        let given_up = Cell::new(0);
        let give_up = || space.give_up_maps(|| given_up.set(given_up.get() + 1));
        let mapped = || space.view().mapped_end();
        let view = space.view_to(2 * BLOCK, 0).unwrap();
        give_up();
        assert_eq!((mapped(), given_up.get()), (2 * BLOCK, 0), "a reader is active");
        drop(view);

        let chunks = space.chunks();
        let extent =
            RowExtent { store: 7, table: TableId(0), chunk: chunks[0].id, first: RowId(0), rows: 64 };
        let marks = Marks::create(&*space.storage, "heap", "heap/0.marks".to_owned(), extent).unwrap();
        assert!(chunks[0].marks.set(marks).is_ok());
        give_up();
        assert_eq!((mapped(), given_up.get()), (0, 1));
        assert!(chunks[0].marks.get().is_some(), "a reader has the chunk");

        chunks[0].marks.get().unwrap().set_deleted_at(RowId(1), Seq(3));
        drop(chunks);
        let has_marks = || space.chunks()[0].marks.get().is_some();
        space.view_to(2 * BLOCK, 0).unwrap();
        give_up();
        assert_eq!((mapped(), given_up.get(), has_marks()), (0, 2, true), "what is not synced stays");

        space.chunks()[0].marks.get().unwrap().sync().unwrap();
        space.view_to(2 * BLOCK, 0).unwrap();
        give_up();
        assert_eq!((mapped(), given_up.get(), has_marks()), (0, 3, false));
        assert_eq!(space.view_to(2 * BLOCK, 0).unwrap().chunk_count(), 1);
    }
}

//! A space: one endless run of bytes (a table's rows, or the heap) kept in chunk files that follow each other.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `chunk` | one chunk file: header, block checksums |
//! | `cited` | checksums of bytes that a journal entry cites |
//! | `room` | bytes behind the end, zeroed and writable |
//! | `view` | one address range with the chunks mapped in it |
//! | here | the list of chunks, how they are made, found and written |
//!
//! Writing is the privilege of whoever holds the store's writer lock. A chunk is made under a temporary name with all
//! its space set aside; [`Space::settle`] syncs it, gives it its name and syncs the folder, before anything refers to
//! it. Chunks are only ever unlinked: never truncated or rewritten.

#[forbid(unsafe_code)]
mod chunk;
#[forbid(unsafe_code)]
mod cited;
#[allow(unsafe_code, reason = "hands the caller's promise to the writable map")]
mod room;
#[allow(unsafe_code, reason = "slices of what is mapped")]
mod view;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

pub(crate) use chunk::{Chunk, SpaceIdentity};
pub(crate) use cited::{RunSums, blocks_of, parts_of};
pub(crate) use view::View;

use chunk::{HEADER, sum_of};

use crate::error::Fault;
use crate::guard::{holds, removable};
use crate::ids::ChunkId;
use crate::storage::Storage;

/// Bytes with one checksum; chunks are whole blocks.
pub(crate) const BLOCK: u64 = 64 << 10;

/// The largest address range.
pub(crate) const LARGEST: u64 = 1 << 45;

/// How large chunks and address ranges are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The largest chunk of a table that is not large itself, in bytes (default 16 MiB).
    pub chunk: u64,
    /// The first address range reserved for a table, in bytes (default 1 GiB). Costs address space, not memory.
    pub reservation: u64,
    /// Bytes for entries of the smallest journal segment (default 1 MiB), a multiple of [`PAGE`](crate::storage::PAGE).
    pub segment: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { chunk: 16 << 20, reservation: 1 << 30, segment: crate::journal::SMALLEST }
    }
}

/// A space, as one process knows it.
#[derive(Debug)]
pub(crate) struct Space {
    storage: Arc<dyn Storage>,
    dir: String,
    identity: SpaceIdentity,
    sizes: Sizes,
    /// What makes and finds chunks and replaces the view holds this.
    known: Mutex<Known>,
    view: RwLock<Arc<View>>,
}

#[derive(Debug, Default)]
struct Known {
    /// All chunks that this process knows, in order, without gaps.
    chunks: Vec<Arc<Chunk>>,
    /// How many of them, at the end, have only their temporary name.
    pending: usize,
    /// Whether there are chunks that another process named, which perhaps died before it made their names durable.
    foreign: bool,
    /// Every view that anyone holds.
    views: Vec<Weak<View>>,
}

impl Known {
    fn end(&self, origin: u64) -> u64 {
        self.chunks.last().map_or(origin, |chunk| chunk.end())
    }

    /// Adds a chunk that was found.
    fn push_found(&mut self, chunk: Chunk) {
        self.chunks.push(Arc::new(chunk));
        self.foreign = true;
    }

    fn next_id(&self) -> ChunkId {
        self.chunks.last().map_or(ChunkId(0), |chunk| chunk.id.next())
    }
}

impl Space {
    /// A space in folder `dir`, which exists. Chunks are looked for when they are needed.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        dir: String,
        identity: SpaceIdentity,
        sizes: Sizes,
    ) -> Result<Self, Fault> {
        let view = Arc::new(View::new(storage, 0, sizes.reservation.next_multiple_of(BLOCK), &dir)?);
        let known = Known { views: vec![Arc::downgrade(&view)], ..Known::default() };
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest view.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A view in which all bytes below `end` are mapped.
    pub(crate) fn view_to(&self, end: u64, summed: u64) -> Result<Arc<View>, Fault> {
        let view = self.view();
        view.note_summed(summed);
        if end <= view.mapped_end() {
            return Ok(view);
        }
        self.map_to(end, summed)
    }

    /// The same where it was not so a moment ago.
    fn map_to(&self, end: u64, summed: u64) -> Result<Arc<View>, Fault> {
        let mut known = self.known();
        let view = self.view();
        if end <= view.mapped_end() {
            // Somebody else did it. It may have had a chunk more, which was forgotten.
            view.note_summed(summed);
            return Ok(view);
        }
        self.discover(&mut known, end)?;
        let known_end = known.end(0);
        if known_end < end {
            return Err(Fault::corrupt(
                format!("{}/{}.chunk", self.dir, known.next_id()),
                0,
                format!("a chunk that goes on to byte {end} of the space"),
                format!("no such file; the chunks end at byte {known_end}"),
            ));
        }
        let mut view = view;
        if known_end > view.capacity_end() {
            let capacity =
                known_end.saturating_mul(4).min(LARGEST).next_power_of_two().max(view.reserved_end());
            let larger = View::new(&self.storage, 0, capacity, &self.dir)?;
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

    /// Finds chunks that others made, until byte `end` is covered or there are no more.
    fn discover(&self, known: &mut Known, end: u64) -> Result<(), Fault> {
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

    /// A chunk has marks now: its rows are looked up in them in every view that has it mapped, and will be in those
    /// that map it later.
    pub(crate) fn note_marks(&self, chunk: &Chunk) {
        let known = self.known();
        for view in known.views.iter().filter_map(Weak::upgrade) {
            view.note_marks(chunk);
        }
    }

    /// The chunk that byte `at` of the space lies in, whether mapped or not; `None` if no chunk file covers it. One that
    /// cannot be opened, or does not check, is an error: to take it for none would be to say that its rows do not exist.
    pub(crate) fn find_chunk(&self, at: u64) -> Result<Option<Arc<Chunk>>, Fault> {
        let mut known = self.known();
        if known.end(0) <= at {
            self.discover(&mut known, at.saturating_add(1))?;
        }
        let index = known.chunks.partition_point(|chunk| chunk.end() <= at);
        Ok(known.chunks.get(index).filter(|chunk| chunk.start <= at).cloned())
    }

    /// Whether there are chunks up to byte `end`. One that is there and does not check is an error.
    pub(crate) fn reaches(&self, end: u64) -> Result<bool, Fault> {
        let mut known = self.known();
        self.discover(&mut known, end)?;
        Ok(known.end(0) >= end)
    }

    /// Finds what others made since. Nothing is pending: whoever gives the writer lock up forgets that first.
    pub(crate) fn refresh(&self) -> Result<(), Fault> {
        let mut known = self.known();
        debug_assert_eq!(known.pending, 0);
        self.discover(&mut known, u64::MAX)
    }

    /// Forgets chunks that this process made and did not settle, and removes their files. The caller has the writer lock:
    /// the next writer may make other chunks in their place, which views of this process must find.
    pub(crate) fn forget_pending(&self) {
        let mut known = self.known();
        if known.pending == 0 {
            return;
        }
        let keep = known.chunks.len() - known.pending;
        for chunk in known.chunks.drain(keep..) {
            // What cannot be removed has a temporary name, and is swept by the next recovery.
            let _ = self.storage.remove(&format!("{}.new", chunk.path));
        }
        known.pending = 0;
        // The newest range may have a forgotten chunk mapped: the next view needs a fresh one.
        self.view().limit(known.end(0));
    }

    /// Removes chunk files under temporary names, and named ones that lie wholly above `end` and do not check or do not
    /// follow the others: that is what a crash left of chunks that nothing refers to. The caller is alone with the store.
    pub(crate) fn sweep(&self, end: u64) -> Result<(), Fault> {
        let io = |what| Fault::io(what, self.dir.as_str());
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
                Ok(None) | Err(Fault::Corrupt(_)) if start >= end => return self.sweep_from(id),
                // A chunk that is missing below `end` is reported by whoever needs it.
                Ok(None) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// Removes every file of chunk `first` and those behind it.
    fn sweep_from(&self, first: ChunkId) -> Result<(), Fault> {
        for name in self.storage.list(&self.dir).map_err(Fault::io("listing", self.dir.as_str()))? {
            let number = name.split_once('.').and_then(|(number, _)| number.parse().ok());
            if number.is_some_and(|number: u64| number >= first.0) {
                let path = format!("{}/{name}", self.dir);
                self.storage.remove(&path).map_err(Fault::io("sweeping", path.as_str()))?;
            }
        }
        Ok(())
    }

    /// Removes every file in the folder: what a transaction that never was left there. Nothing refers to them.
    pub(crate) fn clear(&self) -> Result<(), Fault> {
        for name in self.storage.list(&self.dir).map_err(Fault::io("listing", self.dir.as_str()))? {
            let path = format!("{}/{name}", self.dir);
            self.storage.remove(&path).map_err(Fault::io("sweeping", path.as_str()))?;
        }
        Ok(())
    }

    /// Makes sure that there are chunks up to byte `end`; all space is set aside. `Err` leaves the published store as
    /// it was.
    pub(crate) fn reserve_to(&self, end: u64) -> Result<(), Fault> {
        if end > LARGEST {
            // It could be committed, and not be opened again.
            let what = format!("{} would be too long, in bytes", self.dir);
            return Err(Fault::Limit { what, limit: LARGEST });
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

    /// As large as all before it together, at least a block, at most `sizes.chunk`; larger once there would be more
    /// than about 512 chunks, for which one large row is enough.
    fn next_len(&self, start: u64, end: u64) -> u64 {
        let largest = self.sizes.chunk.max(end / 512).next_multiple_of(BLOCK);
        let wanted = start.clamp(BLOCK, largest).next_multiple_of(BLOCK);
        let missing = (end - start).next_multiple_of(BLOCK);
        wanted.max(missing.min(largest)).max(BLOCK)
    }

    /// Gives new chunks their names, durably.
    pub(crate) fn settle(&self) -> Result<(), Fault> {
        let mut known = self.known();
        if known.pending == 0 && !known.foreign {
            return Ok(());
        }
        let first = known.chunks.len() - known.pending;
        if first == 0 && known.pending > 0 {
            self.sync_above()?;
        }
        for chunk in &known.chunks[first..] {
            chunk.settle(&*self.storage)?;
        }
        removable!("chunk.settle.folder", self.sync_dir())?;
        known.pending = 0;
        known.foreign = false;
        Ok(())
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync_dir(&self) -> Result<(), Fault> {
        self.storage.sync_dir(&self.dir).map_err(Fault::io(Fault::SYNCING, self.dir.as_str()))
    }

    /// Makes the names of the folder and of the one that it lies in durable. Before the first file in it has its name: programs
    /// that copy stores drop folders with nothing in them, and whoever opened the copy made them again.
    fn sync_above(&self) -> Result<(), Fault> {
        let mut dir = self.dir.as_str();
        while !dir.is_empty() {
            dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
            removable!("chunk.settle.above", self.storage.sync_dir(dir))
                .map_err(Fault::io(Fault::SYNCING, format!("the folder above {}", self.dir)))?;
        }
        Ok(())
    }

    fn chunks_of(&self, range: &Range<u64>) -> Vec<Arc<Chunk>> {
        let known = self.known();
        let first = known.chunks.partition_point(|chunk| chunk.end() <= range.start);
        known.chunks[first..].iter().take_while(|chunk| chunk.start < range.end).cloned().collect()
    }

    /// Writes bytes at `at`; the chunks are there ([`Space::reserve_to`]).
    pub(crate) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let range = at..at + bytes.len() as u64;
        let mut written = at;
        for chunk in self.chunks_of(&range) {
            if chunk.start > written {
                break;
            }
            let end = chunk.end().min(range.end);
            let part = &bytes[(written - at) as usize..(end - at) as usize];
            chunk
                .file_to_write(&*self.storage)?
                .write_at(part, HEADER + written - chunk.start)
                .map_err(Fault::io("writing", chunk.path.as_str()))?;
            written = end;
        }
        if written < range.end {
            return Err(Fault::corrupt(
                self.dir.as_str(),
                written,
                format!("chunks up to byte {}", range.end),
                "none there",
            ));
        }
        Ok(())
    }

    /// `fdatasync` of every chunk that the range touches.
    pub(crate) fn sync(&self, range: &Range<u64>) -> Result<(), Fault> {
        self.chunks_of(range).iter().try_for_each(|chunk| chunk.sync(&*self.storage))
    }

    /// Gives the maps of chunks and marks up if nobody has a view or a chunk, and as long as that is so. Marks that were stored
    /// to keep their map until they are synced: it hears of a write-back that fails. Files are synced through what
    /// [`Reopened`](crate::storage::Reopened) keeps, whether they are mapped or not. `first` is called once it is sure that
    /// nobody looks, and before anything is given up.
    pub(crate) fn give_up_maps(&self, first: impl FnOnce()) {
        let Ok(mut known) = self.known.try_lock() else { return };
        let Ok(mut view) = self.view.try_write() else { return };
        if known.pending > 0 || view.chunks.len() == 0 {
            return;
        }
        // What is known of it does not count as somebody who has it.
        let views = std::mem::take(&mut known.views);
        let is_own = |other: &Weak<View>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(&view));
        known.views = views.into_iter().filter(|other| other.upgrade().is_some() && !is_own(other)).collect();
        if Arc::get_mut(&mut view).is_none() {
            known.views.push(Arc::downgrade(&view));
            return;
        }
        let fresh = View::new(&self.storage, 0, view.reserved_end(), &self.dir);
        let is_made = fresh.is_ok();
        if let Ok(fresh) = fresh {
            first();
            *view = Arc::new(fresh);
        }
        known.views.push(Arc::downgrade(&view));
        if !is_made {
            return;
        }
        // Some are in another view yet.
        for chunk in known.chunks.iter_mut().filter_map(Arc::get_mut) {
            if chunk.marks.get().is_some_and(|marks| holds!("marks.idle.synced", !marks.is_stored())) {
                chunk.marks.take();
            }
        }
    }

    /// Asks the kernel to begin writing the range back.
    pub(crate) fn start_writeback(&self, range: &Range<u64>) {
        for chunk in self.chunks_of(range) {
            let (from, to) = (range.start.max(chunk.start), range.end.min(chunk.end()));
            if let Ok(file) = chunk.file(&*self.storage) {
                file.start_writeback(HEADER + from - chunk.start, to - from);
            }
        }
    }

    /// Reads bytes that lie in one block; the chunk is there.
    fn read_part(&self, part: &Range<u64>) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; (part.end - part.start) as usize];
        self.read_part_into(part.start, &mut bytes)?;
        Ok(bytes)
    }

    fn read_part_into(&self, at: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let Some(chunk) = self.find_chunk(at)? else {
            let what = format!("a chunk with byte {at} of the space");
            return Err(Fault::corrupt(self.dir.as_str(), at, what, "no such file"));
        };
        chunk
            .file(&*self.storage)?
            .read_at(bytes, HEADER + at - chunk.start)
            .map_err(Fault::io("reading", chunk.path.as_str()))
    }

    /// Errs if a part of a block does not have the checksum that was computed as it was written.
    fn compare_part(&self, part: &Range<u64>, found: u64, expected: u64) -> Result<(), Fault> {
        if holds!("cited.checksum", found == expected) {
            return Ok(());
        }
        let (file, offset) = match self.find_chunk(part.start)? {
            Some(chunk) => (chunk.path.clone(), HEADER + part.start - chunk.start),
            None => (self.dir.clone(), part.start),
        };
        Err(Fault::corrupt(
            file,
            offset,
            format!("{} bytes with checksum {expected:016x}, as they were written", part.end - part.start),
            format!("checksum {found:016x}"),
        ))
    }

    /// Compares bytes that a journal entry cites with their checksums, which are as many as the run touches
    /// blocks.
    pub(crate) fn compare_run(&self, run: &Range<u64>, sums: &[u64]) -> Result<(), Fault> {
        debug_assert_eq!(blocks_of(run), sums.len() as u64);
        let mut bytes = vec![0; (run.end - run.start).min(BLOCK) as usize];
        for (part, &expected) in parts_of(run.clone()).zip(sums) {
            let bytes = &mut bytes[..(part.end - part.start) as usize];
            self.read_part_into(part.start, bytes)?;
            self.compare_part(&part, sum_of(bytes), expected)?;
        }
        Ok(())
    }

    /// Stores the checksums of the blocks in `[from, to)`, both multiples of [`BLOCK`], and syncs them and
    /// their files' names. `known` gives those that were computed as the block was written; the others are
    /// computed from its bytes, which are final.
    #[allow(unsafe_code, reason = "sums bytes below the applied length")]
    pub(crate) fn write_sums(
        &self,
        from: u64,
        to: u64,
        view: &View,
        known: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), Fault> {
        debug_assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK));
        for chunk in self.chunks_of(&(from..to)) {
            let (first, last) = (from.max(chunk.start), to.min(chunk.end()));
            let mut sums = Vec::with_capacity(((last - first) / BLOCK) as usize);
            for block in (first..last).step_by(BLOCK as usize) {
                sums.push(match known(block) {
                    Some(sum) => sum,
                    // SAFETY: the block lies below the applied length and the caller holds the writer lock:
                    // written, and not written again.
                    None => sum_of(unsafe { view.bytes(block, BLOCK) }?),
                });
            }
            chunk.write_sums(&*self.storage, (first - chunk.start) / BLOCK, &sums)?;
        }
        // Also of a file that was there: whoever made it may have died before it got here.
        removable!("sums.folder", self.sync_dir())
    }

    /// Bytes of all chunk files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.known().chunks.iter().map(|chunk| HEADER + chunk.len).sum()
    }

    /// The chunks this process knows.
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

    /// What could not be opened again is not made.
    #[test]
    fn a_space_that_is_too_long_is_refused() {
        let space = space();
        let error = space.reserve_to(LARGEST + 1).unwrap_err();
        assert!(matches!(error, Fault::Limit { limit: LARGEST, .. }), "{error}");
        assert_eq!(space.chunks().len(), 0);
    }

    /// A thread finds bytes not mapped, and waits for the lock; meanwhile a transaction maps them, with a chunk of its own behind
    /// them, and is aborted.
    #[test]
    fn whoever_waited_while_a_chunk_came_and_went_finds_what_is_there() {
        let space = space();
        space.reserve_to(BLOCK).unwrap();
        space.settle().unwrap();
        assert_eq!(space.view().mapped_end(), 0);
        space.reserve_to(2 * BLOCK).unwrap();
        assert_eq!(space.view_to(2 * BLOCK, 0).unwrap().chunk_count(), 2);
        space.forget_pending();
        let view = space.map_to(BLOCK, 0).unwrap();
        assert_eq!((view.mapped_end(), view.chunk_count()), (BLOCK, 1));
        // What is made there next is seen, in another range.
        space.reserve_to(3 * BLOCK).unwrap();
        assert_eq!(space.view_to(3 * BLOCK, 0).unwrap().mapped_end(), 3 * BLOCK);
    }

    #[test]
    fn maps_are_given_up_while_nobody_looks() {
        use crate::ids::{RowId, Seq, TableId};
        use crate::marks::{Extent, Marks};
        use std::cell::Cell;

        let space = space();
        space.reserve_to(2 * BLOCK).unwrap();
        space.settle().unwrap();
        let given_up = Cell::new(0);
        let give_up = || space.give_up_maps(|| given_up.set(given_up.get() + 1));
        let mapped = || space.view().mapped_end();
        let view = space.view_to(2 * BLOCK, 0).unwrap();
        give_up();
        assert_eq!((mapped(), given_up.get()), (2 * BLOCK, 0), "somebody looks");
        drop(view);

        let chunks = space.chunks();
        let extent = Extent { store: 7, table: TableId(0), chunk: chunks[0].id, first: RowId(0), rows: 64 };
        let marks = Marks::create(&*space.storage, "heap", "heap/0.marks".to_owned(), extent).unwrap();
        assert!(chunks[0].marks.set(marks).is_ok());
        give_up();
        assert_eq!((mapped(), given_up.get()), (0, 1));
        assert!(chunks[0].marks.get().is_some(), "somebody has the chunk");

        chunks[0].marks.get().unwrap().set_died(RowId(1), Seq(3));
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

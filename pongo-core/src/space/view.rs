//! One address range over a space: the chunks mapped one after the other, and the state of each
//! block (verified in this process, in a chunk with marks, rows valid for their type).
//!
//! Requires: the writer never writes below a published length; a chunk stays mapped as long as a
//! view that holds it. Guarantees: a slice is returned only inside mapped chunks, and its blocks
//! were verified against their stored checksums (where they have one) once in this process.

use std::any::TypeId;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use super::BLOCK;
use super::chunk::{Chunk, HEADER, sum_of};
use crate::append_vec::AppendVec;
use crate::codec::Summing;
use crate::error::StorageError;
use crate::guard::{fails, removable};
use crate::storage::{Reservation, Storage};

const VERIFIED: u32 = 1;
const MARKS: u32 = 2;
const ORDINAL_SHIFT: u32 = 8;

/// A mapped range; see the module documentation.
pub(crate) struct SpaceView {
    storage: Arc<dyn Storage>,
    reservation: Reservation,
    /// The start of the first mapped chunk in the space; byte `b` of the space is at `b - origin`
    /// of the reservation.
    origin: u64,
    blocks: Box<[AtomicU32]>,
    pub(crate) chunks: AppendVec<Arc<Chunk>>,
    summed: AtomicU64,
    /// The stored checksums of all blocks below this byte were read into memory.
    sums_read: AtomicU64,
    /// The end of the part that is mapped and described in `blocks`.
    ready: AtomicU64,
    /// Mapped bytes at or after this byte of the space do not belong to it any more; [`u64::MAX`]
    /// if all do.
    limit: AtomicU64,
    valid: OnceLock<ValidBlocks>,
}

impl SpaceView {
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        origin: u64,
        len: u64,
        name: &str,
    ) -> Result<Self, StorageError> {
        let reservation =
            storage.reserve(len as usize).map_err(StorageError::io("reserving address space for", name))?;
        let blocks = (0..len / BLOCK).map(|_| AtomicU32::new(0)).collect();
        Ok(Self {
            storage: Arc::clone(storage),
            reservation,
            origin,
            blocks,
            chunks: AppendVec::new(),
            summed: AtomicU64::new(0),
            sums_read: AtomicU64::new(0),
            ready: AtomicU64::new(origin),
            limit: AtomicU64::new(u64::MAX),
            valid: OnceLock::new(),
        })
    }

    /// Returns the end of the range in which chunks can be mapped.
    pub(crate) fn capacity_end(&self) -> u64 {
        self.reserved_end().min(self.limit.load(Ordering::Acquire))
    }

    pub(crate) fn reserved_end(&self) -> u64 {
        self.origin + self.reservation.len() as u64
    }

    /// Returns the end of the mapped chunks.
    #[inline]
    pub(crate) fn mapped_end(&self) -> u64 {
        self.ready.load(Ordering::Acquire).min(self.limit.load(Ordering::Acquire))
    }

    /// Returns the number of chunks that are part of the view.
    pub(crate) fn chunk_count(&self) -> usize {
        match self.limit.load(Ordering::Acquire) {
            u64::MAX => self.chunks.len(),
            limit => self.chunks.iter().take_while(|chunk| chunk.end() <= limit).count(),
        }
    }

    /// Hides the chunks that begin at or after byte `end`, which were forgotten, and prevents
    /// further mapping.
    pub(crate) fn limit(&self, end: u64) {
        if self.ready.load(Ordering::Acquire) > end {
            self.limit.fetch_min(end, Ordering::AcqRel);
        }
    }

    /// Maps the next chunk. The caller holds the space's lock and checked that the chunk fits and
    /// follows the last one.
    pub(crate) fn map(&self, chunk: &Arc<Chunk>) -> Result<(), StorageError> {
        let at = (chunk.start - self.origin) as usize;
        self.storage.check_maps();
        let file = chunk.file(&*self.storage)?;
        file.map_into(HEADER, chunk.len, &self.reservation, at)
            .map_err(StorageError::io("mapping", chunk.path.as_str()))?;
        let ordinal = self.chunks.push(Arc::clone(chunk)) as u32;
        for block in self.blocks_of(chunk) {
            block.fetch_or(ordinal << ORDINAL_SHIFT, Ordering::Release);
        }
        if chunk.is_marked() {
            self.set_marks(chunk);
        }
        self.ready.store(chunk.end(), Ordering::SeqCst);
        // Marks may be added concurrently: either the thread that adds them sees the chunk here, or
        // this thread sees the marks.
        removable!("marks.map.fence", fence(Ordering::SeqCst));
        if chunk.is_marked() {
            self.set_marks(chunk);
        }
        Ok(())
    }

    fn set_marks(&self, chunk: &Chunk) {
        for block in self.blocks_of(chunk) {
            block.fetch_or(MARKS, Ordering::Release);
        }
    }

    fn blocks_of(&self, chunk: &Chunk) -> &[AtomicU32] {
        let first = ((chunk.start - self.origin) / BLOCK) as usize;
        &self.blocks[first..first + (chunk.len / BLOCK) as usize]
    }

    /// Notes that a chunk has marks. From now on its rows are looked up in them.
    pub(crate) fn note_marks(&self, chunk: &Chunk) {
        removable!("marks.note.fence", fence(Ordering::SeqCst));
        if chunk.start >= self.origin && chunk.end() <= self.mapped_end() {
            self.set_marks(chunk);
        }
    }

    /// Notes that blocks below byte `summed` of the space have checksums on disk.
    pub(crate) fn note_summed(&self, summed: u64) {
        // A thread that reads this value may access all of these blocks, even beyond the length
        // that it knows itself. The release store makes their contents visible to it.
        self.summed.fetch_max(summed, Ordering::Release);
    }

    fn summed(&self) -> u64 {
        self.summed.load(Ordering::Acquire)
    }

    #[inline]
    fn state(&self, at: u64) -> Option<&AtomicU32> {
        self.blocks.get((at.checked_sub(self.origin)? / BLOCK) as usize)
    }

    /// Returns the chunk that contains byte `at` of the space.
    pub(crate) fn chunk_at(&self, at: u64) -> Option<&Arc<Chunk>> {
        if at >= self.mapped_end() {
            return None;
        }
        let state = self.state(at)?.load(Ordering::Acquire);
        self.chunks.get((state >> ORDINAL_SHIFT) as usize)
    }

    /// Returns the chunk of byte `at` if it has marks.
    #[inline]
    pub(crate) fn marked_chunk_at(&self, at: u64) -> Option<&Arc<Chunk>> {
        let state = self.state(at)?.load(Ordering::Acquire);
        if state & MARKS == 0 {
            return None;
        }
        self.chunks.get((state >> ORDINAL_SHIFT) as usize)
    }

    /// Returns the set of blocks that were validated as `T`, if `T` is the first type that this was
    /// called with.
    pub(crate) fn valid_blocks<T: 'static>(&self) -> Option<&ValidBlocks> {
        let valid = self.valid.get_or_init(|| ValidBlocks::new(TypeId::of::<T>(), self.blocks.len()));
        (valid.kind == TypeId::of::<T>()).then_some(valid)
    }

    /// Returns bytes `[at, at + len)` of the space. Returns an error if they are not mapped, or if
    /// a block that they overlap does not match its stored checksum.
    ///
    /// # Safety
    /// The bytes were written and are not written again: they are below a published length, or this
    /// process wrote them under the writer lock, which no other process has taken since.
    #[inline]
    pub(crate) unsafe fn bytes(&self, at: u64, len: u64) -> Result<&[u8], StorageError> {
        if len == 0 {
            // The range may be after everything that is mapped, and then has no block to check.
            return Ok(&[]);
        }
        let first = at.wrapping_sub(self.origin) / BLOCK;
        let last = at.wrapping_sub(self.origin).wrapping_add(len - 1) / BLOCK;
        let verified = self
            .blocks
            .get(first as usize..=last as usize)
            .is_some_and(|blocks| blocks.iter().all(|block| block.load(Ordering::Relaxed) & VERIFIED != 0));
        if !verified {
            // SAFETY: the caller's promise covers the callee's requirement.
            unsafe { self.verify(at, len, false) }?;
        }
        // SAFETY: by the caller's promise the bytes were written and are not written again while
        // the reservation (owned by `self`) lives.
        let slice = unsafe { self.reservation.slice((at - self.origin) as usize, len as usize) };
        slice.ok_or_else(|| self.unmapped(at, len))
    }

    /// Returns bytes like [`SpaceView::bytes`] if all their blocks were verified before, and
    /// whether the first byte is in a chunk with marks. Returns `None` if a block was not verified
    /// or the bytes are not mapped, or if they overlap more than two blocks.
    ///
    /// Costs a few instructions, so that the processor can overlap several lookups.
    ///
    /// # Safety
    /// As for [`SpaceView::bytes`].
    #[inline]
    pub(crate) unsafe fn get_if_verified(&self, at: u64, len: u64) -> Option<(&[u8], bool)> {
        let place = at.wrapping_sub(self.origin);
        let (first, last) = (place / BLOCK, place.wrapping_add(len - 1) / BLOCK);
        let state = self.blocks.get(first as usize)?.load(Ordering::Acquire);
        let mut known = state;
        if last != first {
            if last != first + 1 {
                return None;
            }
            known &= self.blocks.get(last as usize)?.load(Ordering::Relaxed);
        }
        if known & VERIFIED == 0 {
            return None;
        }
        // SAFETY: by the caller's promise the bytes were written and are not written again while
        // the reservation (owned by `self`) lives.
        let slice = unsafe { self.reservation.slice(place as usize, len as usize) }?;
        Some((slice, state & MARKS != 0))
    }

    #[cold]
    fn unmapped(&self, at: u64, len: u64) -> StorageError {
        StorageError::corrupt(
            self.chunks.get(0).map_or_else(|| "a chunk".to_owned(), |chunk| chunk.path.clone()),
            at,
            format!("{len} bytes of mapped chunks"),
            format!("chunks that end at {}", self.mapped_end()),
        )
    }

    /// Verifies the blocks that the range overlaps against their stored checksums, where they have
    /// one, even if they were verified before.
    ///
    /// # Safety
    /// As for [`SpaceView::bytes`].
    pub(crate) unsafe fn compare(&self, at: u64, len: u64) -> Result<(), StorageError> {
        // SAFETY: the caller's promise covers the callee's requirement.
        unsafe { self.verify(at, len, true) }
    }

    /// Verifies the blocks that the range overlaps against their stored checksums, where they have
    /// one. With `again`, verifies also those that were verified before.
    ///
    /// # Safety
    /// As for [`SpaceView::bytes`]. Blocks below `summed` are entirely below a published length.
    #[cold]
    unsafe fn verify(&self, at: u64, len: u64, again: bool) -> Result<(), StorageError> {
        if at < self.origin || at.checked_add(len).is_none_or(|end| end > self.mapped_end()) {
            return Err(self.unmapped(at, len));
        }
        let mut block = at - (at - self.origin) % BLOCK;
        while block < at + len {
            let Some(state) = self.state(block) else { return Err(self.unmapped(at, len)) };
            if again || state.load(Ordering::Relaxed) & VERIFIED == 0 {
                if block + BLOCK <= self.summed() {
                    let Some(chunk) = self.chunk_at(block) else { return Err(self.unmapped(at, len)) };
                    let index = (block - chunk.start) / BLOCK;
                    let summed = self.summed().min(chunk.end()) - chunk.start;
                    let expected = chunk.block_sum(&*self.storage, index, summed / BLOCK)?;
                    let place = (block - self.origin) as usize;
                    // SAFETY: a block below `summed` is below a published length: it was written
                    // and is not written again.
                    let bytes = unsafe { self.reservation.slice(place, BLOCK as usize) };
                    let found = sum_of(bytes.ok_or_else(|| self.unmapped(block, BLOCK))?);
                    if fails!("block.checksum", found != expected) {
                        return Err(StorageError::corrupt(
                            chunk.path.as_str(),
                            HEADER + index * BLOCK,
                            format!("a block of {BLOCK} bytes with checksum {expected:016x}"),
                            format!("one with checksum {found:016x}"),
                        ));
                    }
                }
                state.fetch_or(VERIFIED, Ordering::Relaxed);
            }
            block += BLOCK;
        }
        Ok(())
    }

    /// Returns the checksum of the stored checksums of the blocks that `[from, to)` overlaps, which
    /// serves as a checksum of all their bytes. The blocks are below `summed`.
    pub(crate) fn sum_of_sums(&self, from: u64, to: u64) -> Result<u64, StorageError> {
        let summed = self.summed();
        let mut sums = Summing::new();
        for block in (from - (from - self.origin) % BLOCK..to).step_by(BLOCK as usize) {
            let Some(chunk) = self.chunk_at(block) else { return Err(self.unmapped(from, to - from)) };
            let blocks = summed.min(chunk.end()).saturating_sub(chunk.start) / BLOCK;
            sums.add(chunk.block_sum(&*self.storage, (block - chunk.start) / BLOCK, blocks)?);
        }
        Ok(sums.sum())
    }

    /// Reads the stored checksums of all blocks into memory, so that no file is needed to verify a
    /// block until more blocks are added.
    ///
    /// Invalid stored checksums are not reported here, but when an affected block is verified.
    /// Returns an error only if resources for reading them are exhausted.
    pub(crate) fn read_sums(&self) -> Result<(), StorageError> {
        let summed = self.summed();
        if self.sums_read.load(Ordering::Relaxed) == summed {
            return Ok(());
        }
        for chunk in self.chunks.iter().take_while(|chunk| chunk.start < summed) {
            let blocks = (summed.min(chunk.end()) - chunk.start) / BLOCK;
            match blocks.checked_sub(1).map(|last| chunk.block_sum(&*self.storage, last, blocks)) {
                Some(Err(fault)) if fault.is_exhausted() => return Err(fault),
                _ => {}
            }
        }
        self.sums_read.store(summed, Ordering::Relaxed);
        Ok(())
    }

    /// Copies the verification state of the blocks from another view of the same space.
    pub(crate) fn inherit(&self, old: &Self) {
        let count = (old.mapped_end() / BLOCK) as usize;
        for (new, old) in self.blocks.iter().zip(&old.blocks).take(count) {
            new.fetch_or(old.load(Ordering::Relaxed) & VERIFIED, Ordering::Relaxed);
        }
        self.note_summed(old.summed());
    }

    /// Asks the processor to fetch the cache line at byte `at` of the space.
    #[inline]
    pub(crate) fn prefetch(&self, at: u64) {
        if at < self.mapped_end() && at >= self.origin {
            self.reservation.prefetch((at - self.origin) as usize);
        }
    }
}

/// One bit for each block: all rows that begin in it are valid values of one type.
pub(crate) struct ValidBlocks {
    kind: TypeId,
    bits: Box<[AtomicU64]>,
}

impl ValidBlocks {
    fn new(kind: TypeId, blocks: usize) -> Self {
        Self { kind, bits: (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    fn bit(block: u64) -> (usize, u64) {
        ((block / 64) as usize, 1 << (block % 64))
    }

    /// Returns whether all rows that begin in `[from, to)` are known to be valid. Offsets count
    /// from the view's origin, which is the space's first byte.
    pub(crate) fn all(&self, from: u64, to: u64) -> bool {
        (from / BLOCK..to.div_ceil(BLOCK)).all(|block| {
            let (word, bit) = Self::bit(block);
            self.bits.get(word).is_some_and(|bits| bits.load(Ordering::Relaxed) & bit != 0)
        })
    }

    /// Notes that the rows in `[from, to)`, whole rows of `size` bytes, are valid. Marks only the
    /// blocks for which the range contains every row that begins in them.
    pub(crate) fn note(&self, from: u64, to: u64, size: u64) {
        for block in from / BLOCK..to / BLOCK {
            let first_row_begin = (block * BLOCK).next_multiple_of(size);
            if first_row_begin >= from {
                let (word, bit) = Self::bit(block);
                if let Some(bits) = self.bits.get(word) {
                    bits.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
    }
}

impl core::fmt::Debug for SpaceView {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SpaceView")
            .field("origin", &self.origin)
            .field("mapped_end", &self.mapped_end())
            .finish()
    }
}

//! One address range over a space: the chunks mapped one behind the other, and what is known of each block (verified
//! in this process, in a chunk with marks, rows valid for their type).
//!
//! Relied on: the writer never writes below a published length; a chunk stays mapped as long as a view that holds it.
//! Promise: a slice is given out only inside mapped chunks, and its blocks were checked against their stored checksums
//! (where they have one) once in this process.

use std::any::TypeId;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use super::BLOCK;
use super::chunk::{Chunk, HEADER, sum_of};
use crate::append_vec::AppendVec;
use crate::codec::Summing;
use crate::error::Fault;
use crate::guard::{fails, removable};
use crate::storage::{Reservation, Storage};

const VERIFIED: u32 = 1;
const MARKS: u32 = 2;
const ORDINAL_SHIFT: u32 = 8;

/// A mapped range; see the module.
pub(crate) struct View {
    storage: Arc<dyn Storage>,
    reservation: Reservation,
    /// Where the first mapped chunk begins in the space; byte `b` of the space is at `b - origin` of the reservation.
    origin: u64,
    blocks: Box<[AtomicU32]>,
    pub(crate) chunks: AppendVec<Arc<Chunk>>,
    summed: AtomicU64,
    /// Below this byte the stored checksums were all read to memory.
    sums_read: AtomicU64,
    /// The end of what is mapped and described in `blocks`.
    ready: AtomicU64,
    /// What is mapped at and behind this byte of the space is not part of it any more; [`u64::MAX`] if all is.
    limit: AtomicU64,
    valid: OnceLock<ValidBlocks>,
}

impl View {
    pub(crate) fn new(storage: &Arc<dyn Storage>, origin: u64, len: u64, name: &str) -> Result<Self, Fault> {
        let reservation =
            storage.reserve(len as usize).map_err(Fault::io("reserving address space for", name))?;
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

    /// Up to where chunks can be mapped.
    pub(crate) fn capacity_end(&self) -> u64 {
        self.reserved_end().min(self.limit.load(Ordering::Acquire))
    }

    pub(crate) fn reserved_end(&self) -> u64 {
        self.origin + self.reservation.len() as u64
    }

    /// The end of the mapped chunks.
    #[inline]
    pub(crate) fn mapped_end(&self) -> u64 {
        self.ready.load(Ordering::Acquire).min(self.limit.load(Ordering::Acquire))
    }

    /// How many chunks are part of it.
    pub(crate) fn chunk_count(&self) -> usize {
        match self.limit.load(Ordering::Acquire) {
            u64::MAX => self.chunks.len(),
            limit => self.chunks.iter().take_while(|chunk| chunk.end() <= limit).count(),
        }
    }

    /// A chunk that begins at or behind byte `end` was forgotten: it is not to be seen here, and nothing more is to be
    /// mapped.
    pub(crate) fn limit(&self, end: u64) {
        if self.ready.load(Ordering::Acquire) > end {
            self.limit.fetch_min(end, Ordering::AcqRel);
        }
    }

    /// Maps the next chunk. The caller holds the space's lock and checked that it fits and follows.
    pub(crate) fn map(&self, chunk: &Arc<Chunk>) -> Result<(), Fault> {
        let at = (chunk.start - self.origin) as usize;
        self.storage.check_maps();
        let file = chunk.file(&*self.storage)?;
        file.map_into(HEADER, chunk.len, &self.reservation, at)
            .map_err(Fault::io("mapping", chunk.path.as_str()))?;
        let ordinal = self.chunks.push(Arc::clone(chunk)) as u32;
        for block in self.blocks_of(chunk) {
            block.fetch_or(ordinal << ORDINAL_SHIFT, Ordering::Release);
        }
        if chunk.is_marked() {
            self.set_marks(chunk);
        }
        self.ready.store(chunk.end(), Ordering::SeqCst);
        // Marks that came meanwhile: either whoever brought them sees the chunk here, or this sees them.
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

    /// From now on rows of this chunk are looked up in its marks.
    pub(crate) fn note_marks(&self, chunk: &Chunk) {
        removable!("marks.note.fence", fence(Ordering::SeqCst));
        if chunk.start >= self.origin && chunk.end() <= self.mapped_end() {
            self.set_marks(chunk);
        }
    }

    /// Blocks below this byte of the space have checksums on disk.
    pub(crate) fn note_summed(&self, summed: u64) {
        // Whoever sees this may look at all of these blocks, also beyond the length that it knows itself: so it sees what is in
        // them.
        self.summed.fetch_max(summed, Ordering::Release);
    }

    fn summed(&self) -> u64 {
        self.summed.load(Ordering::Acquire)
    }

    #[inline]
    fn state(&self, at: u64) -> Option<&AtomicU32> {
        self.blocks.get((at.checked_sub(self.origin)? / BLOCK) as usize)
    }

    /// The chunk that byte `at` of the space lies in.
    pub(crate) fn chunk_at(&self, at: u64) -> Option<&Arc<Chunk>> {
        if at >= self.mapped_end() {
            return None;
        }
        let state = self.state(at)?.load(Ordering::Acquire);
        self.chunks.get((state >> ORDINAL_SHIFT) as usize)
    }

    /// The chunk of byte `at` if it has marks.
    #[inline]
    pub(crate) fn marked_chunk_at(&self, at: u64) -> Option<&Arc<Chunk>> {
        let state = self.state(at)?.load(Ordering::Acquire);
        if state & MARKS == 0 {
            return None;
        }
        self.chunks.get((state >> ORDINAL_SHIFT) as usize)
    }

    /// Which blocks were looked through as `T`, if `T` is the first type that asked.
    pub(crate) fn valid_blocks<T: 'static>(&self) -> Option<&ValidBlocks> {
        let valid = self.valid.get_or_init(|| ValidBlocks::new(TypeId::of::<T>(), self.blocks.len()));
        (valid.kind == TypeId::of::<T>()).then_some(valid)
    }

    /// Bytes `[at, at + len)` of the space; `None` if they are not mapped.
    ///
    /// # Safety
    /// The bytes were written and no one will write them again: they lie below a length that was published, or were
    /// written by this process under the writer lock, which nobody else has taken since.
    #[inline]
    pub(crate) unsafe fn bytes(&self, at: u64, len: u64) -> Result<&[u8], Fault> {
        if len == 0 {
            // Perhaps behind everything that is mapped: there is no block to look at.
            return Ok(&[]);
        }
        let first = at.wrapping_sub(self.origin) / BLOCK;
        let last = at.wrapping_sub(self.origin).wrapping_add(len - 1) / BLOCK;
        let verified = self
            .blocks
            .get(first as usize..=last as usize)
            .is_some_and(|blocks| blocks.iter().all(|block| block.load(Ordering::Relaxed) & VERIFIED != 0));
        if !verified {
            // SAFETY: the caller's promise is the callee's.
            unsafe { self.verify(at, len, false) }?;
        }
        // SAFETY: the caller's promise: written, and not written again while the reservation (owned by self) lives.
        let slice = unsafe { self.reservation.slice((at - self.origin) as usize, len as usize) };
        slice.ok_or_else(|| self.unmapped(at, len))
    }

    /// As [`View::bytes`] for bytes whose blocks were all checked before; `None` if not, or if they are not mapped. Says as
    /// well whether the first of them lies in a chunk with marks. A few instructions, so that look-ups overlap.
    ///
    /// # Safety
    /// As for [`View::bytes`].
    #[inline]
    pub(crate) unsafe fn glance(&self, at: u64, len: u64) -> Option<(&[u8], bool)> {
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
        // SAFETY: the caller's promise: written, and not written again while the reservation (owned by self) lives.
        let slice = unsafe { self.reservation.slice(place as usize, len as usize) }?;
        Some((slice, state & MARKS != 0))
    }

    #[cold]
    fn unmapped(&self, at: u64, len: u64) -> Fault {
        Fault::corrupt(
            self.chunks.get(0).map_or_else(|| "a chunk".to_owned(), |chunk| chunk.path.clone()),
            at,
            format!("{len} bytes of mapped chunks"),
            format!("chunks that end at {}", self.mapped_end()),
        )
    }

    /// Compares the blocks that the range touches with their stored checksums, where they have one, whether that was done before
    /// or not.
    ///
    /// # Safety
    /// As for [`View::bytes`].
    pub(crate) unsafe fn compare(&self, at: u64, len: u64) -> Result<(), Fault> {
        // SAFETY: the caller's promise is the callee's.
        unsafe { self.verify(at, len, true) }
    }

    /// Checks the blocks that the range touches against their stored checksums, where they have one; with `again`, those that were
    /// checked before too.
    ///
    /// # Safety
    /// As for [`View::bytes`]. Blocks below `summed` lie wholly below a published length.
    #[cold]
    unsafe fn verify(&self, at: u64, len: u64, again: bool) -> Result<(), Fault> {
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
                    // SAFETY: a block below `summed` is below a published length: written, and not written again.
                    let bytes = unsafe { self.reservation.slice(place, BLOCK as usize) };
                    let found = sum_of(bytes.ok_or_else(|| self.unmapped(block, BLOCK))?);
                    if fails!("block.checksum", found != expected) {
                        return Err(Fault::corrupt(
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

    /// The checksum of the stored checksums of the blocks that `[from, to)` touches: as good as one of all their bytes.
    /// They lie below `summed`.
    pub(crate) fn sum_of_sums(&self, from: u64, to: u64) -> Result<u64, Fault> {
        let summed = self.summed();
        let mut sums = Summing::new();
        for block in (from - (from - self.origin) % BLOCK..to).step_by(BLOCK as usize) {
            let Some(chunk) = self.chunk_at(block) else { return Err(self.unmapped(from, to - from)) };
            let blocks = summed.min(chunk.end()).saturating_sub(chunk.start) / BLOCK;
            sums.add(chunk.block_sum(&*self.storage, (block - chunk.start) / BLOCK, blocks)?);
        }
        Ok(sums.sum())
    }

    /// Reads the stored checksums of all blocks, so that from here on, until there are more, no file is needed to look at a
    /// block. What is wrong with them is told to whoever looks at such a block; an error is that they could not be had.
    pub(crate) fn read_sums(&self) -> Result<(), Fault> {
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

    /// Takes over what another view of the same space knows of its blocks.
    pub(crate) fn inherit(&self, old: &Self) {
        let count = (old.mapped_end() / BLOCK) as usize;
        for (new, old) in self.blocks.iter().zip(&old.blocks).take(count) {
            new.fetch_or(old.load(Ordering::Relaxed) & VERIFIED, Ordering::Relaxed);
        }
        self.note_summed(old.summed());
    }

    /// Asks the processor to fetch the line at byte `at` of the space.
    #[inline]
    pub(crate) fn prefetch(&self, at: u64) {
        if at < self.mapped_end() && at >= self.origin {
            self.reservation.prefetch((at - self.origin) as usize);
        }
    }
}

/// One bit a block: all rows that begin in it are valid values of one type.
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

    /// Whether all rows that begin in `[from, to)` are known to be valid. Bytes count from the view's origin, which is
    /// the space's first byte.
    pub(crate) fn all(&self, from: u64, to: u64) -> bool {
        (from / BLOCK..to.div_ceil(BLOCK)).all(|block| {
            let (word, bit) = Self::bit(block);
            self.bits.get(word).is_some_and(|bits| bits.load(Ordering::Relaxed) & bit != 0)
        })
    }

    /// Notes that the rows in `[from, to)`, whole rows of `size` bytes, are valid: counts for the blocks of which it
    /// has every row that begins there.
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

impl core::fmt::Debug for View {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("origin", &self.origin).field("mapped_end", &self.mapped_end()).finish()
    }
}

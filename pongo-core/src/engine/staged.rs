//! Heap items that one transaction stages: in memory and, beyond a limit, in the heap's chunks,
//! after everything applied. An item's location never changes until the item is discarded.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::append_vec::AppendVec;
use crate::arena::Arena;
use crate::error::{StorageError, WriteError};
use crate::fields::HeapError;
use crate::heap;
use crate::ids::HeapAddr;
use crate::space::{RunSums, Space, SpaceView};

/// Number of bytes written to the chunks after which the kernel is asked to start writing them
/// back.
const WRITEBACK: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct StagedHeap {
    /// The heap's length as applied: the first item's address.
    base: u64,
    /// Number of bytes that the transaction may hold in memory.
    limit: u64,
    memory: Arena,
    /// Number of bytes in the chunks, after those in memory. Stored after the bytes are written.
    spilled: AtomicU64,
    staging: Mutex<StagedParts>,
    /// Views of the heap with what was staged; the last one reaches furthest. The first is of the
    /// applied heap.
    views: AppendVec<Arc<SpaceView>>,
}

#[derive(Debug, Default)]
struct StagedParts {
    /// Whether an item was written to the chunks: then all later items are too.
    spilling: bool,
    /// Position in the space up to which the kernel was asked to write back.
    written_back: u64,
    /// Checksums of all staged bytes, once they are in the chunks.
    sums: Option<RunSums>,
}

impl StagedHeap {
    pub(crate) fn new(base: u64, limit: u64) -> Self {
        Self {
            base,
            limit,
            memory: Arena::new(),
            spilled: AtomicU64::new(0),
            staging: Mutex::default(),
            views: AppendVec::new(),
        }
    }

    /// Returns the number of staged bytes.
    pub(crate) fn len(&self) -> u64 {
        self.memory.len() as u64 + self.spilled.load(Ordering::Acquire)
    }

    /// Returns the number of staged bytes that are in memory.
    pub(crate) fn in_memory(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Returns whether some staged bytes are in the chunks.
    pub(crate) fn is_spilled(&self) -> bool {
        self.spilled.load(Ordering::Acquire) > 0
    }

    /// Returns the checksums of all staged bytes, block by block, if some are in the chunks: then
    /// all are.
    pub(crate) fn spilled_sums(&self, space: &Space) -> Result<Option<Vec<u64>>, StorageError> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sums) = staging.sums.as_mut().filter(|_| self.is_spilled()) else { return Ok(None) };
        sums.read_cut(space)?;
        Ok(Some(sums.sums()))
    }

    /// Returns the bytes in memory, in order. They precede those in the chunks.
    pub(crate) fn memory(&self) -> impl Iterator<Item = &[u8]> {
        self.memory.slices()
    }

    /// Returns the bytes in memory as one slice.
    pub(crate) fn in_one(&self) -> Cow<'_, [u8]> {
        let mut pieces = self.memory();
        let one = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => Cow::Borrowed(one),
            Some(two) => Cow::Owned([one, two].into_iter().chain(pieces).collect::<Vec<_>>().concat()),
        }
    }

    /// Stages an item. `space` is the heap's; `elsewhere` is the number of other bytes that the
    /// transaction holds in memory; `begin_changes` is called before anything is written to the
    /// chunks.
    pub(crate) fn stage(
        &self,
        space: &Space,
        bytes: &[u8],
        elsewhere: u64,
        begin_changes: impl FnOnce() -> Result<(), WriteError>,
    ) -> Result<HeapAddr, WriteError> {
        let mut item = Vec::with_capacity(heap::item_len(bytes.len() as u64) as usize);
        heap::stage(&mut item, bytes);
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = self.memory.len() as u64 + item.len() as u64 + elsewhere <= self.limit;
        if !staging.spilling && fits {
            return Ok(HeapAddr(self.base + self.memory.push(&item) as u64));
        }
        begin_changes()?;
        let at = self.base + self.len();
        let end = at + item.len() as u64;
        space.reserve_to(end)?;
        if !staging.spilling {
            // The bytes in memory are written to the chunks as well, so that the entry can
            // reference all of them. They are written again if writing the item failed last time:
            // there may be more in memory since.
            let mut sums = RunSums::new(self.base);
            let mut at = self.base;
            for piece in self.memory.slices() {
                space.write_at(at, piece)?;
                sums.add(piece);
                at += piece.len() as u64;
            }
            staging.sums = Some(sums);
        }
        if let Some(sums) = &mut staging.sums {
            sums.read_cut(space)?;
            space.write_at(at, &item)?;
            sums.add(&item);
        }
        staging.spilling = true;
        self.spilled.fetch_add(item.len() as u64, Ordering::Release);
        let from = staging.written_back.max(self.base + self.memory.len() as u64);
        if end - from >= WRITEBACK {
            space.start_writeback(&(from..end));
            staging.written_back = end;
        }
        Ok(HeapAddr(at))
    }

    /// Reads an item of the applied heap, or a staged one. `space` is the heap's, and `summed` is
    /// the applied heap's length with checksums.
    pub(crate) fn read(
        &self,
        space: &Space,
        summed: u64,
        addr: HeapAddr,
        len: u32,
        hash: u32,
    ) -> Result<&[u8], HeapError> {
        let whole = heap::item_len(u64::from(len));
        let in_memory = addr.0.checked_sub(self.base).filter(|&at| at < self.memory.len() as u64);
        if let Some(at) = in_memory {
            let outside = HeapError::Outside { addr, len, end: HeapAddr(self.base + self.len()) };
            let item = if at.is_multiple_of(8) { self.memory.get(at as usize, whole as usize) } else { None };
            return heap::check(item.ok_or(outside)?, addr, len, hash);
        }
        // Excludes what is in memory: the chunks may have no bytes there yet.
        let end = if addr.0 < self.base { self.base } else { self.base + self.len() };
        let view = self.view(space, summed, end).map_err(|fault| heap::chunk_error(addr, fault))?;
        heap::read(view, end, addr, len, hash)
    }

    /// Returns a view of the heap, mapped up to byte `end` of its space.
    fn view(&self, space: &Space, summed: u64, end: u64) -> Result<&SpaceView, StorageError> {
        let last = || self.views.len().checked_sub(1).and_then(|last| self.views.get(last));
        if let Some(view) = last().filter(|view| view.mapped_end() >= end) {
            return Ok(view);
        }
        let view = space.view_to(end, summed)?;
        let _staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.views.push(view);
        Ok(self.views.get(place).expect("it was just added"))
    }

    /// Discards all bytes except the first `len`.
    pub(crate) fn truncate(&mut self, len: u64) {
        let in_memory = self.memory.len() as u64;
        let staging = self.staging.get_mut().unwrap_or_else(PoisonError::into_inner);
        if len >= in_memory {
            let spilled = self.spilled.get_mut();
            *spilled = (*spilled).min(len - in_memory);
            staging.spilling = *spilled > 0;
            match &mut staging.sums {
                Some(sums) if *spilled > 0 => sums.cut(self.base + in_memory + *spilled),
                sums => *sums = None,
            }
        } else {
            self.memory.truncate(len as usize);
            *self.spilled.get_mut() = 0;
            staging.spilling = false;
            staging.sums = None;
        }
        staging.written_back = staging.written_back.min(self.base + len);
    }
}

//! Disk usage of a memory storage's files, page by page, with a limit, so that a full disk can be
//! tested.
//!
//! As on a real disk, space is used by pages that were allocated or written, not by a file's
//! length. Preallocated pages can always be written again. The space of an unlinked file is freed
//! when its last handle is dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PAGE;

/// The disk: its limit and its usage, in bytes.
#[derive(Debug)]
pub(super) struct MemoryQuota {
    limit: u64,
    used: AtomicU64,
}

impl MemoryQuota {
    pub(super) fn new(limit: u64) -> MemoryQuota {
        MemoryQuota { limit, used: AtomicU64::new(0) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn full(&self) -> io::Error {
        let message = format!("{} of {} bytes are in use", self.used(), self.limit);
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}

/// The pages that one file uses; frees them when dropped.
#[derive(Debug)]
pub(super) struct Pages {
    space: Arc<MemoryQuota>,
    taken: Vec<u64>,
}

impl Pages {
    pub(super) fn new(space: Arc<MemoryQuota>) -> Pages {
        Pages { space, taken: Vec::new() }
    }

    /// Allocates every page of `[offset, end)`, or none of them.
    pub(super) fn allocate(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let missing = pages(offset, end).filter(|page| !self.has(*page)).count() as u64;
        if !self.space.take(missing * PAGE) {
            return Err(self.space.full());
        }
        pages(offset, end).for_each(|page| self.mark(page));
        Ok(())
    }

    /// Allocates the pages of `[offset, end)` from the front as far as there is space. Returns the
    /// end of the part that can be written, and an error if this is not the whole range.
    pub(super) fn write(&mut self, offset: u64, end: u64) -> (u64, io::Result<()>) {
        for page in pages(offset, end) {
            if self.has(page) {
                continue;
            }
            if !self.space.take(PAGE) {
                return (offset.max(page * PAGE), Err(self.space.full()));
            }
            self.mark(page);
        }
        (end, Ok(()))
    }

    /// Frees every page that begins at or after `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        let keep = len.div_ceil(PAGE);
        let before = self.count();
        for page in keep..self.taken.len() as u64 * 64 {
            self.taken[(page / 64) as usize] &= !(1 << (page % 64));
        }
        self.space.used.fetch_sub((before - self.count()) * PAGE, Ordering::Relaxed);
    }

    fn has(&self, page: u64) -> bool {
        self.taken.get((page / 64) as usize).is_some_and(|bits| bits >> (page % 64) & 1 == 1)
    }

    fn mark(&mut self, page: u64) {
        let word = (page / 64) as usize;
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        self.taken[word] |= 1 << (page % 64);
    }

    fn count(&self) -> u64 {
        self.taken.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

fn pages(offset: u64, end: u64) -> std::ops::Range<u64> {
    offset / PAGE..end.div_ceil(PAGE)
}

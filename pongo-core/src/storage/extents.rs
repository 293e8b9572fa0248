//! The bytes of a file of the memory storage: consecutive blocks of words, which stay in place
//! while a word map points into them.
//!
//! A file usually is one block. While it is not mapped as words, the block is replaced by a larger
//! one as the file grows. When it is mapped for the first time, the block is extended so that the
//! file can grow in place, and maps made before and after share their words. A file that grows
//! beyond that gets another block. The only limitation is that a range across two blocks cannot be
//! mapped while an older map of one of them is alive: this is an error of kind `Unsupported`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PAGE;
use super::block::PageBlock;

/// Size to which a file's block is extended when the file is first mapped as words. Untouched
/// memory costs only addresses.
const ROOM: u64 = if cfg!(any(miri, loom)) {
    64 << 10
} else if cfg!(fuzzing) {
    // AddressSanitizer marks all of it, each time.
    1 << 20
} else {
    64 << 20
};

/// A file's blocks, in order and without gaps. Everything beyond them reads as zero.
#[derive(Default)]
pub(super) struct Extents {
    extents: Vec<Extent>,
}

struct Extent {
    start: u64,
    /// Also held by every word map of the block.
    block: Arc<PageBlock>,
}

impl Extent {
    fn end(&self) -> u64 {
        self.start + self.block.bytes() as u64
    }

    /// Returns whether no word map points into the block. `get_mut` also makes the last stores of a
    /// dropped map visible to this thread, which `strong_count` would not.
    fn is_movable(&mut self) -> bool {
        Arc::get_mut(&mut self.block).is_some()
    }

    /// Returns the part of `[offset, offset + len)` in this extent: its start in the block, its
    /// start in the range, its length.
    fn part(&self, offset: u64, len: usize) -> Option<(usize, usize, usize)> {
        let begin = offset.max(self.start);
        let end = (offset + len as u64).min(self.end());
        (begin < end)
            .then(|| ((begin - self.start) as usize, (begin - offset) as usize, (end - begin) as usize))
    }
}

impl Extents {
    fn capacity(&self) -> u64 {
        self.extents.last().map_or(0, Extent::end)
    }

    /// Fills `buf` with the bytes at `offset`.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        buf.fill(0);
        for extent in &self.extents {
            if let Some((at, from, len)) = extent.part(offset, buf.len()) {
                extent.block.read(&mut buf[from..from + len], at);
            }
        }
    }

    /// Writes bytes for which [`ensure`](Self::ensure) has allocated memory.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) {
        debug_assert!(offset + bytes.len() as u64 <= self.capacity());
        for extent in &self.extents {
            if let Some((at, from, len)) = extent.part(offset, bytes.len()) {
                extent.block.write(&bytes[from..from + len], at);
            }
        }
    }

    /// Zeroes `[from, to)`.
    pub(super) fn clear(&self, from: u64, to: u64) {
        for extent in &self.extents {
            let begin = from.max(extent.start);
            let end = to.min(extent.end());
            if begin < end {
                extent.block.clear((begin - extent.start) as usize, (end - extent.start) as usize);
            }
        }
    }

    /// Ensures that every byte below `end` has memory.
    pub(super) fn ensure(&mut self, end: u64) -> io::Result<()> {
        let capacity = self.capacity();
        if end <= capacity {
            return Ok(());
        }
        let end = end.next_multiple_of(PAGE);
        // The first block is as long as requested, since most files are allocated whole; later
        // blocks double the file.
        let generous = end.max(capacity.saturating_mul(2));
        match self.extents.pop_if(Extent::is_movable) {
            Some(mut last) => {
                let moved = last.enlarge(&[generous, end]);
                self.extents.push(last);
                moved
            }
            None => {
                let block = zeroed(&[generous - capacity, end - capacity])?;
                self.extents.push(Extent { start: capacity, block: Arc::new(block) });
                Ok(())
            }
        }
    }

    /// Returns the block that contains `[offset, offset + len)` of a file of `file_len` bytes, and
    /// the first byte's position in it.
    pub(super) fn pin(
        &mut self,
        offset: u64,
        len: usize,
        file_len: u64,
    ) -> io::Result<(Arc<PageBlock>, usize)> {
        let end = offset + len as u64;
        self.ensure(end)?;
        let first = self.extents.partition_point(|e| e.end() <= offset);
        let last = self.extents.partition_point(|e| e.start < end);
        if last - first > 1 {
            self.merge(first, last)?;
        }
        let is_last = first + 1 == self.extents.len();
        let extent = &mut self.extents[first];
        let room = file_len.saturating_mul(4).max(ROOM);
        if is_last && extent.end() < room / 2 && extent.is_movable() {
            // If this fails, growth adds another block, which is sufficient when memory is short.
            let _ = extent.enlarge(&[room]);
        }
        Ok((extent.block.clone(), (offset - extent.start) as usize))
    }

    /// Replaces several blocks by one.
    fn merge(&mut self, first: usize, last: usize) -> io::Result<()> {
        if !self.extents[first..last].iter_mut().all(Extent::is_movable) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the memory storage cannot map across a place where the file grew while older word maps of \
                 it are alive: drop them first, or map the new part by itself",
            ));
        }
        let start = self.extents[first].start;
        let whole = zeroed(&[self.extents[last - 1].end() - start])?;
        for extent in &self.extents[first..last] {
            copy_words(&extent.block, &whole, (extent.start - start) as usize);
        }
        self.extents.splice(first..last, [Extent { start, block: Arc::new(whole) }]);
        Ok(())
    }
}

impl Extent {
    /// Moves to a block that ends at the first of `ends` for which there is enough memory.
    fn enlarge(&mut self, ends: &[u64]) -> io::Result<()> {
        let sizes: Vec<u64> = ends.iter().map(|end| end - self.start).collect();
        let larger = zeroed(&sizes)?;
        copy_words(&self.block, &larger, 0);
        self.block = Arc::new(larger);
        Ok(())
    }
}

/// Allocates a block of the first of these sizes for which there is enough memory.
fn zeroed(sizes: &[u64]) -> io::Result<PageBlock> {
    let mut failed = io::Error::from(io::ErrorKind::OutOfMemory);
    for size in sizes {
        match usize::try_from(*size)
            .map_err(|_| io::ErrorKind::OutOfMemory.into())
            .and_then(PageBlock::zeroed)
        {
            Ok(block) => return Ok(block),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Copies all words of `from` to byte `at` of `to`, where all words are zero. Skips zero words, so
/// that their pages stay untouched.
fn copy_words(from: &PageBlock, to: &PageBlock, at: usize) {
    let to = &to.words()[at / size_of::<u64>()..];
    for (from, to) in from.words().iter().zip(to) {
        let word = from.load(Ordering::Relaxed);
        if word != 0 {
            to.store(word, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = PAGE;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 + 1).collect()
    }

    #[test]
    fn spans_over_several_blocks_read_back() {
        let mut extents = Extents::default();
        let mut pins = Vec::new();
        for pages in [1, 2, 4] {
            extents.ensure(pages * P).unwrap();
            // Held so that the next growth must add a block.
            pins.extend(extents.extents.iter().map(|e| e.block.clone()));
        }
        assert_eq!(extents.extents.len(), 3);
        let bytes = pattern(3 * P as usize);
        extents.write(&bytes, P / 2);
        let mut read = vec![9; 5 * P as usize];
        extents.read(&mut read, 0);
        assert!(read[..P as usize / 2].iter().all(|b| *b == 0));
        assert_eq!(read[P as usize / 2..][..bytes.len()], bytes);
        assert!(read[P as usize / 2 + bytes.len()..].iter().all(|b| *b == 0), "also beyond the last block");
        assert_eq!(extents.pin(0, 2 * P as usize, 4 * P).err().unwrap().kind(), io::ErrorKind::Unsupported);
        drop(pins);
        extents.pin(0, 4 * P as usize, 4 * P).unwrap();
        assert_eq!(extents.extents.len(), 1);
        let mut again = vec![0; 5 * P as usize];
        extents.read(&mut again, 0);
        assert_eq!(again, read);
    }

    #[test]
    fn a_pinned_block_grows_in_place() {
        let mut extents = Extents::default();
        extents.ensure(P).unwrap();
        let (before, _) = extents.pin(0, P as usize, P).unwrap();
        extents.ensure(ROOM).unwrap();
        let (after, at) = extents.pin(P, P as usize, ROOM).unwrap();
        assert!(Arc::ptr_eq(&before, &after));
        assert_eq!(at as u64, P);
        extents.ensure(ROOM + 1).unwrap();
        assert_eq!(extents.extents.len(), 2);
    }

    #[test]
    fn clearing_reaches_no_further_than_told() {
        let mut extents = Extents::default();
        extents.ensure(4 * P).unwrap();
        extents.write(&[7; 4 * PAGE as usize], 0);
        extents.clear(3, 2 * P + 5);
        let mut read = vec![0; 4 * P as usize];
        extents.read(&mut read, 0);
        let cleared = 3..2 * P as usize + 5;
        assert!(read.iter().enumerate().all(|(i, b)| (*b == 0) == cleared.contains(&i)));
    }
}

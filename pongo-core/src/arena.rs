//! [`Arena`]: append-only bytes that never move, so that borrowed bytes stay valid while more are
//! appended.
//!
//! A piece is stored completely in one segment; segments are never reallocated. One thread appends
//! at a time (an internal lock); readers take no lock: a segment's length is stored after its bytes
//! are written, and bytes below it never change until [`truncate`](Arena::truncate), which requires
//! exclusive access to the arena.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::append_vec::AppendVec;

/// Size in bytes of the first segment; later ones double up to [`LARGEST`].
const SMALLEST: usize = 4 << 10;
const LARGEST: usize = 1 << 20;

struct Segment {
    /// The offset of its first byte in the arena.
    start: usize,
    bytes: Box<[UnsafeCell<MaybeUninit<u8>>]>,
    /// Number of bytes written; stored after the bytes themselves.
    len: AtomicUsize,
}

// SAFETY: bytes at or above `len` are written by one thread at a time (`Arena::push` holds the
// arena's lock) and read by none; bytes below `len` are only read, until `Arena::truncate` has
// exclusive access to the arena.
unsafe impl Sync for Segment {}

impl Segment {
    fn new(start: usize, capacity: usize) -> Self {
        let bytes = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Self { start, bytes, len: AtomicUsize::new(0) }
    }

    /// Returns bytes `[at, at + len)` of the segment, if all of them were written.
    fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        if end > self.len.load(Ordering::Acquire) {
            return None;
        }
        let first = self.bytes.get(at..end)?.as_ptr().cast::<u8>();
        // SAFETY: the cells `[at, end)` are inside the box and below `len`, so they were
        // initialized before the load above (release/acquire), and nothing writes to them while
        // `self` is borrowed; `UnsafeCell<MaybeUninit<u8>>` has the layout of `u8`.
        Some(unsafe { core::slice::from_raw_parts(first, len) })
    }

    /// Appends bytes; returns `false` if they do not fit. The caller holds the arena's lock.
    fn push(&self, bytes: &[u8]) -> bool {
        let at = self.len.load(Ordering::Relaxed);
        let Some(cells) = self.bytes.get(at..).and_then(|cells| cells.get(..bytes.len())) else {
            return false;
        };
        let to = UnsafeCell::raw_get(cells.as_ptr()).cast::<u8>();
        // SAFETY: `cells` has the same length as `bytes` and is inside the box, in cells that may
        // be written through a shared reference. The cells are at or above `len`: no reference to
        // their contents exists, so they do not overlap `bytes`, and no other thread writes to
        // them, since the caller holds the arena's lock.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.len.store(at + bytes.len(), Ordering::Release);
        true
    }
}

/// An arena of bytes; see the module.
pub(crate) struct Arena {
    segments: AppendVec<Segment>,
    appending: Mutex<()>,
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self { segments: AppendVec::new(), appending: Mutex::default() }
    }

    /// Returns the number of bytes that were appended.
    pub(crate) fn len(&self) -> usize {
        let last = self.segments.len().checked_sub(1).and_then(|last| self.segments.get(last));
        last.map_or(0, |segment| segment.start + segment.len.load(Ordering::Acquire))
    }

    /// Appends bytes, which stay contiguous. Returns their offset.
    pub(crate) fn push(&self, bytes: &[u8]) -> usize {
        let _guard = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.len();
        let last = self.segments.len().checked_sub(1).and_then(|last| self.segments.get(last));
        if last.is_some_and(|segment| segment.push(bytes)) {
            return start;
        }
        let wanted = last.map_or(SMALLEST, |segment| (2 * segment.bytes.len()).min(LARGEST));
        let segment = Segment::new(start, wanted.max(bytes.len()));
        segment.push(bytes);
        self.segments.push(segment);
        start
    }

    /// Returns bytes `[at, at + len)`, which must have been appended together.
    pub(crate) fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        // Finds the last segment that begins at or before `at`.
        let (mut low, mut high) = (0, self.segments.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.segments.get(middle)?.start <= at { low = middle + 1 } else { high = middle }
        }
        let segment = self.segments.get(low.checked_sub(1)?)?;
        segment.get(at - segment.start, len)
    }

    /// Iterates over all bytes in order, as one slice per segment.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().filter_map(|segment| segment.get(0, segment.len.load(Ordering::Acquire)))
    }

    /// Removes all bytes except the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        let kept = self.segments.iter().take_while(|segment| segment.start < len).count();
        self.segments.truncate(kept);
        if let Some(last) = self.segments.iter_mut().last() {
            let end = *last.len.get_mut();
            *last.len.get_mut() = end.min(len - last.start);
        }
    }
}

impl core::fmt::Debug for Arena {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Arena").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(i: usize) -> Vec<u8> {
        (0..i % 97 * if i.is_multiple_of(50) { 200 } else { 1 }).map(|byte| (byte ^ i) as u8).collect()
    }

    #[test]
    fn borrowed_bytes_survive_appends() {
        let arena = Arena::new();
        let mut lent: Vec<(usize, &[u8])> = Vec::new();
        for i in 0..2000 {
            let bytes = piece(i);
            let at = arena.push(&bytes);
            lent.push((i, arena.get(at, bytes.len()).unwrap()));
        }
        assert!(lent.iter().all(|(i, bytes)| **bytes == piece(*i)));
        let all: Vec<u8> = arena.slices().flatten().copied().collect();
        assert_eq!(all.len(), arena.len());
        assert_eq!(all, (0..2000).flat_map(piece).collect::<Vec<u8>>());
        assert_eq!(arena.get(arena.len(), 1), None);
        assert_eq!(arena.get(usize::MAX, 2), None);
    }

    #[test]
    fn truncated_bytes_are_overwritten() {
        let mut arena = Arena::new();
        let offsets: Vec<usize> = (0..500).map(|i| arena.push(&piece(i))).collect();
        for &keep in &[400, 123, 1, 0] {
            arena.truncate(offsets[keep]);
            assert_eq!(arena.len(), offsets[keep]);
            assert_eq!(arena.get(offsets[keep], 1), None);
            let at = arena.push(b"other");
            assert_eq!((at, arena.get(at, 5)), (offsets[keep], Some(&b"other"[..])));
            if keep > 20 {
                assert_eq!(arena.get(offsets[20], 20), Some(&piece(20)[..]));
            }
        }
    }

    #[test]
    fn threads_append_and_read() {
        let arena = Arena::new();
        std::thread::scope(|scope| {
            for thread in 0..3_u8 {
                let arena = &arena;
                scope.spawn(move || {
                    let mut known: Vec<(usize, u8)> = Vec::new();
                    for i in 0..300_u32 {
                        let byte = thread * 80 + (i % 80) as u8;
                        known.push((arena.push(&[byte; 33]), byte));
                        let &(at, byte) = &known[i as usize / 2];
                        assert_eq!(arena.get(at, 33), Some(&[byte; 33][..]));
                    }
                });
            }
        });
        assert_eq!(arena.len(), 3 * 300 * 33);
    }
}

//! An allocator that counts the bytes that are allocated.
//!
//! It does not count the blocks of word maps of files in memory: each takes 64 MiB of addresses, of
//! which only a few pages are touched (`storage/extents.rs`), just as a map of a real file takes
//! addresses and no memory. Only these blocks are allocated as zeroed words of that size.
#![allow(unsafe_code, reason = "an allocator cannot be had otherwise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

const ROOM: usize = 64 << 20;

fn counts(layout: Layout) -> bool {
    !(layout.align() == 8 && layout.size() > ROOM)
}

fn add(layout: Layout) {
    if counts(layout) {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

fn subtract(layout: Layout) {
    if counts(layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator with the same arguments, and its result is
// returned; the counters are numbers that no memory depends on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout);
        if !counts(layout) {
            // Blocks are always zeroed, so an allocation that is not zeroed is memory that counts.
            PEAK.fetch_max(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's promises about the layout are those that the callee requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        subtract(layout);
        // SAFETY: the caller got the block from this allocator, and so from the system's allocator,
        // with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        subtract(layout);
        // The caller promises that the new size is that of a valid layout.
        if let Ok(new) = Layout::from_size_align(new_size, layout.align()) {
            add(new);
        }
        // SAFETY: as for `dealloc`, and the caller's promises about the new size are those that the
        // callee requires.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// Starts to measure. Returns the number of bytes that are allocated now.
pub(crate) fn watch() -> usize {
    let live = LIVE.load(Ordering::Relaxed);
    PEAK.store(live, Ordering::Relaxed);
    live
}

/// Returns the highest number of bytes allocated since [`watch`].
pub(crate) fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

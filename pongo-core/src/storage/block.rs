//! One allocation of zeroed words that can be accessed both as bytes and as atomic words.
//!
//! It is the memory of
//! [`AtomicWords::atomic_words_in_heap`](super::AtomicWords::atomic_words_in_heap) and of every
//! file of [`MemoryStorage`](super::MemoryStorage). All accesses are atomic operations on whole
//! words, so that a byte copy and a concurrent word store are never a data race: at worst a reader
//! sees some words before and some after the store.
//!
//! Guarantees: the words are page aligned, start at zero, and never move while the block lives.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;

use super::PAGE;
use crate::sync::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// Owns the words; the address is stable until drop.
pub(super) struct PageBlock {
    allocation: NonNull<u8>,
    layout: Layout,
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the block owns its allocation and exposes only `&[AtomicU64]`, which is `Send` and
// `Sync`.
unsafe impl Send for PageBlock {}
// SAFETY: as above; no method changes a field after construction.
unsafe impl Sync for PageBlock {}

impl PageBlock {
    /// Allocates `bytes` zeroed bytes, rounded up to whole words. Returns `OutOfMemory` if there is
    /// not enough memory.
    ///
    /// The requested alignment is one for which the allocator can use fresh pages, which cost
    /// nothing until touched. This function aligns to a page itself, by allocating one page more.
    pub(super) fn zeroed(bytes: usize) -> io::Result<PageBlock> {
        let out_of_memory =
            || io::Error::new(io::ErrorKind::OutOfMemory, format!("no {bytes} bytes of memory"));
        let len = bytes.div_ceil(WORD);
        let size =
            len.checked_mul(WORD).and_then(|n| n.checked_add(PAGE as usize)).ok_or_else(out_of_memory)?;
        let layout = Layout::from_size_align(size, WORD).map_err(|_| out_of_memory())?;
        // SAFETY: the layout's size is at least one page, so it is not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        let allocation = NonNull::new(allocation).ok_or_else(out_of_memory)?;
        let pad = allocation.align_offset(PAGE as usize);
        assert!(pad < PAGE as usize, "the next page boundary is less than a page ahead");
        // SAFETY: `pad` is below `PAGE` and the allocation is `PAGE` bytes larger than the words,
        // so the result and the `len` words after it are inside the same allocation.
        let words = unsafe { allocation.add(pad) };
        Ok(PageBlock { allocation, layout, words: words.cast(), len })
    }

    /// Returns all words.
    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `atomic_words` points to `len` aligned words inside an allocation that lives as
        // long as `self`. Zeroed bytes are valid `AtomicU64`s, and no reference of another type to
        // these bytes is ever made.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }

    /// Returns a pointer to the first word; valid for `len` words as long as the block lives.
    pub(super) fn start(&self) -> NonNull<AtomicU64> {
        self.words
    }

    /// Returns the size of the block in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.len * WORD
    }

    /// Copies the bytes from `at` into `out`. Panics if `out` reaches beyond the block.
    pub(super) fn read(&self, out: &mut [u8], at: usize) {
        let words = self.words();
        let (head, body) = out.split_at_mut(head_len(at, out.len()));
        if !head.is_empty() {
            let word = words[at / WORD].load(Ordering::Acquire).to_ne_bytes();
            head.copy_from_slice(&word[at % WORD..][..head.len()]);
        }
        let first = (at + head.len()) / WORD;
        let (whole, tail) = body.as_chunks_mut::<WORD>();
        let rest = first + whole.len();
        for (bytes, word) in whole.iter_mut().zip(&words[first..rest]) {
            *bytes = word.load(Ordering::Acquire).to_ne_bytes();
        }
        if !tail.is_empty() {
            let word = words[rest].load(Ordering::Acquire).to_ne_bytes();
            tail.copy_from_slice(&word[..tail.len()]);
        }
    }

    /// Copies `bytes` to `at`. Leaves every other byte unchanged, even if another thread stores to
    /// it concurrently. Panics if the bytes do not fit.
    pub(super) fn write(&self, bytes: &[u8], at: usize) {
        let words = self.words();
        let (head, body) = bytes.split_at(head_len(at, bytes.len()));
        if !head.is_empty() {
            write_part(&words[at / WORD], at % WORD, head);
        }
        let first = (at + head.len()) / WORD;
        let (whole, tail) = body.as_chunks::<WORD>();
        let rest = first + whole.len();
        for (bytes, word) in whole.iter().zip(&words[first..rest]) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Release);
        }
        if !tail.is_empty() {
            write_part(&words[rest], 0, tail);
        }
    }

    /// Zeroes `[from, to)`. Panics if the range reaches beyond the block.
    pub(super) fn clear(&self, from: usize, to: usize) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut at = from;
        while at < to {
            let n = ZEROS.len().min(to - at);
            self.write(&ZEROS[..n], at);
            at += n;
        }
    }
}

/// Returns the number of bytes, of the `len` bytes at `at`, before the first word boundary.
fn head_len(at: usize, len: usize) -> usize {
    ((WORD - at % WORD) % WORD).min(len)
}

/// Replaces some bytes of a word and leaves the others unchanged.
fn write_part(word: &AtomicU64, within: usize, bytes: &[u8]) {
    let mut old = word.load(Ordering::Relaxed);
    loop {
        let mut new = old.to_ne_bytes();
        new[within..][..bytes.len()].copy_from_slice(bytes);
        match word.compare_exchange_weak(old, u64::from_ne_bytes(new), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

impl Drop for PageBlock {
    fn drop(&mut self) {
        // SAFETY: this pointer and this layout come from the call of `alloc_zeroed`, and the memory
        // is freed only here.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_without_side_effects() {
        for at in 0..20 {
            for len in 0..30 {
                let block = PageBlock::zeroed(64).unwrap();
                block.write(&[0xEE; 64], 0);
                let bytes: Vec<u8> = (1..=len as u8).collect();
                block.write(&bytes, at);
                let mut expected = [0xEE; 64];
                expected[at..at + len].copy_from_slice(&bytes);
                let mut all = [0; 64];
                block.read(&mut all, 0);
                assert_eq!(all, expected, "written {len} bytes at {at}");
                let mut part = vec![0; len];
                block.read(&mut part, at);
                assert_eq!(part, bytes);
            }
        }
    }

    #[test]
    fn starts_zeroed_and_page_aligned() {
        let block = PageBlock::zeroed(4097).unwrap();
        assert_eq!(block.bytes(), 4104);
        assert_eq!(block.start().as_ptr() as usize % PAGE as usize, 0);
        assert!(block.words().iter().all(|w| w.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn too_large_is_an_error() {
        assert_eq!(PageBlock::zeroed(usize::MAX).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
    }
}

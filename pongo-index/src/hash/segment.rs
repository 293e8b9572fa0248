//! Segments: one header line and 511 lines of eight entries.
//!
//! A key's entry is stored in the first line, starting at its home line and wrapping around, that
//! had a vacant slot when it was inserted. A used slot never becomes empty again while the segment
//! is in use, and a line is filled from its first slot to its last. So **an empty last slot ends a
//! probe**. A probe continues in the overflow chain only if no line has an empty last slot. A chain
//! exists only if its base segment is full.

use pongo_core::guard::removable;
use pongo_core::storage::{AtomicWords, match_tag_mask};
use pongo_core::sync::{Ordering, fence};

use super::Candidate;
use super::layout::{CAPACITY, LINE, LINES, SEGMENT_WORDS, SPLIT_AT, SegmentKind, entry, home, segment_word};

/// The words of one segment. A reader may read a segment that is being rewritten for other keys, so
/// readers check every word that they use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) words: &'a AtomicWords,
    /// The index of its first word.
    pub(super) base: usize,
}

/// The result of a probe.
pub(super) enum Probe<R> {
    /// The closure returned a value.
    Hit(R),
    /// A line has an empty slot.
    End,
    /// No line has an empty slot.
    Full,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(super) fn get(self, word: usize) -> u64 {
        self.words.load(self.base + word, Ordering::Relaxed)
    }

    /// Sets a header word. *Writer.*
    pub(super) fn set(self, word: usize, value: u64) {
        self.words.store(self.base + word, value, Ordering::Release);
    }

    /// Sets the entry in `slot`. This store makes the entry visible to readers. *Writer.*
    #[inline]
    pub(super) fn set_entry(self, slot: usize, word: u64) {
        self.words.store(self.base + LINE + slot, word, Ordering::Release);
    }

    /// Returns the entry in `slot`, which must be less than [`CAPACITY`].
    #[inline]
    pub(super) fn entry(self, slot: usize) -> u64 {
        self.words.load(self.base + LINE + slot, Ordering::Relaxed)
    }

    /// Returns the eight entries of line `line`, which must be less than [`LINES`].
    #[inline]
    pub(super) fn line(self, line: usize) -> [u64; LINE] {
        self.words.line(self.base + LINE + line * LINE)
    }

    #[inline]
    pub(super) fn prefetch(self, hash: u64) {
        self.words.prefetch(self.base + LINE + home(hash) * LINE);
    }

    /// Returns the number of used slots from the header, limited to [`CAPACITY`].
    pub(super) fn used(self) -> usize {
        self.get(segment_word::USED).min(CAPACITY as u64) as usize
    }

    pub(super) fn kind(self) -> Option<SegmentKind> {
        SegmentKind::from_word(self.get(segment_word::KIND))
    }

    /// Returns the number of the next segment in the chain.
    pub(super) fn next(self) -> Option<u32> {
        match self.get(segment_word::NEXT) {
            0 => None,
            // A number that is out of range becomes one that no piece contains. Its look-up then
            // fails with an error.
            next => Some(u32::try_from(next - 1).unwrap_or(u32::MAX)),
        }
    }

    /// Calls `f` with the slot and the candidate of every entry that has the hash's tag, until `f`
    /// returns a value.
    // Forced: see `HashIndex::find`.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub(super) fn probe<R>(self, hash: u64, f: &mut impl FnMut(usize, Candidate) -> Option<R>) -> Probe<R> {
        let tag = entry::tag(hash);
        let mut at = home(hash);
        for _ in 0..LINES {
            let line = self.line(at);
            let last = line[LINE - 1];
            let mut tagged = match_tag_mask(line, (tag >> 48) as u16);
            while tagged != 0 {
                let slot = at * LINE + tagged.trailing_zeros() as usize % LINE;
                tagged &= tagged - 1;
                // This second load is an acquire load: a reader that sees the entry also sees what
                // was written before it (the row, its previous row). The entry may have changed
                // since the first load: it may belong to another key with the same tag or have no
                // row.
                let word = self.words.load(self.base + LINE + slot, Ordering::Acquire);
                if entry::has_tag(word, tag)
                    && let Some(candidate) = entry::candidate(word)
                    && let Some(found) = f(slot, candidate)
                {
                    return Probe::Hit(found);
                }
            }
            // A line is filled from its first slot to its last.
            if last == entry::EMPTY {
                return Probe::End;
            }
            at = if at + 1 == LINES { 0 } else { at + 1 };
        }
        Probe::Full
    }

    /// Returns the slot for a new entry with this hash, or `None` if the segment is full. *Writer.*
    #[inline]
    pub(super) fn vacancy(self, hash: u64) -> Option<usize> {
        vacancy(hash, |line| self.line(line))
    }

    /// Stores an entry in a vacant slot. *Writer.*
    ///
    /// The count is stored first. If the writer crashes between the two stores, the count is one
    /// too high, which is harmless, but never too low.
    #[inline]
    pub(super) fn fill(self, slot: usize, word: u64) {
        if self.entry(slot) == entry::EMPTY {
            let used = self.get(segment_word::USED);
            self.words.store(self.base + segment_word::USED, used.wrapping_add(1), Ordering::Relaxed);
        }
        self.set_entry(slot, word);
    }

    /// Appends the segment's entries to `out`, without empty and removed slots.
    pub(super) fn entries(self, out: &mut Vec<u64>) {
        for line in 0..LINES {
            out.extend(self.line(line).into_iter().filter(|&word| !entry::is_vacant(word)));
        }
    }

    /// Writes an image to this segment, which nothing may refer to. *Writer.*
    pub(super) fn write(self, image: &SegmentImage) {
        // A reader that still has an older reference to this segment and sees one of these stores
        // must find on its second read that the reference is gone. The stores that removed the
        // reference come before this release fence, which pairs with the reader's acquire fence.
        removable!("hash.segment.fence", fence(Ordering::Release));
        for (i, &word) in image.words.iter().enumerate() {
            self.words.store(self.base + i, word, Ordering::Relaxed);
        }
    }
}

#[inline]
fn vacancy(hash: u64, line: impl Fn(usize) -> [u64; LINE]) -> Option<usize> {
    let mut at = home(hash);
    for _ in 0..LINES {
        let words = line(at);
        if let Some(i) = words.iter().position(|&word| entry::is_vacant(word)) {
            return Some(at * LINE + i);
        }
        at = if at + 1 == LINES { 0 } else { at + 1 };
    }
    None
}

/// A segment that is being built in private memory.
pub(super) struct SegmentImage {
    words: Box<[u64; SEGMENT_WORDS]>,
}

impl SegmentImage {
    pub(super) fn new(kind: SegmentKind, number: u32, prefix: u64) -> SegmentImage {
        let mut words: Box<[u64; SEGMENT_WORDS]> =
            vec![0; SEGMENT_WORDS].into_boxed_slice().try_into().expect("a segment's words");
        words[segment_word::KIND] = kind.to_word();
        words[segment_word::PREFIX] = prefix;
        words[segment_word::RETRY_AT] = SPLIT_AT as u64;
        words[segment_word::NUMBER] = u64::from(number);
        SegmentImage { words }
    }

    pub(super) fn set(&mut self, word: usize, value: u64) {
        self.words[word] = value;
    }

    pub(super) fn header(&self) -> &[u64] {
        &self.words[..LINE]
    }

    pub(super) fn is_full(&self) -> bool {
        self.words[segment_word::USED] == CAPACITY as u64
    }

    /// Adds an entry. The image must not be full.
    pub(super) fn push(&mut self, hash: u64, word: u64) {
        let entries = &self.words[LINE..];
        let line = |line: usize| *entries[line * LINE..].first_chunk().expect("a line");
        let slot = vacancy(hash, line).expect("an image that is not full has a vacancy");
        self.words[LINE + slot] = word;
        self.words[segment_word::USED] += 1;
    }
}

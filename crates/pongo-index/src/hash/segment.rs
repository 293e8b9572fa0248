//! A segment: one header line and 511 lines of eight entries.
//!
//! A key's entry lies in the first line from its home on (wrapping around) that had a vacancy when it was inserted. A slot
//! that was filled never becomes empty again while the segment is in use, and a line fills from its first slot to its last, so **an empty
//! last slot ends a probe**. Only when no line has one does the probe go on in the overflow chain, and a chain begins only behind a full segment.

use pongo_core::guard::removable;
use pongo_core::storage::{Words, same_upper};
use pongo_core::sync::{Ordering, fence};

use super::Candidate;
use super::layout::{CAPACITY, Kind, LINE, LINES, SEGMENT_WORDS, SPLIT_AT, entry, home, segment_word};

/// The words of one segment. Readers may meet one that is being rebuilt for other keys: whatever they read, they check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) words: &'a Words,
    /// Its first word.
    pub(super) base: usize,
}

/// How a probe ended.
pub(super) enum Probe<R> {
    /// The closure gave a value.
    Hit(R),
    /// A line with an empty slot.
    End,
    /// No line has an empty slot.
    Full,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(super) fn get(self, word: usize) -> u64 {
        self.words.load(self.base + word, Ordering::Relaxed)
    }

    /// *Writer.* Sets a header word.
    pub(super) fn set(self, word: usize, value: u64) {
        self.words.store(self.base + word, value, Ordering::Release);
    }

    /// *Writer.* Sets the entry in `slot`: the one store by which readers come to see it.
    #[inline]
    pub(super) fn set_entry(self, slot: usize, word: u64) {
        self.words.store(self.base + LINE + slot, word, Ordering::Release);
    }

    /// The entry in `slot`, below [`CAPACITY`].
    #[inline]
    pub(super) fn entry(self, slot: usize) -> u64 {
        self.words.load(self.base + LINE + slot, Ordering::Relaxed)
    }

    /// The eight entries of line `line`, below [`LINES`].
    #[inline]
    pub(super) fn line(self, line: usize) -> [u64; LINE] {
        self.words.line(self.base + LINE + line * LINE)
    }

    #[inline]
    pub(super) fn prefetch(self, hash: u64) {
        self.words.prefetch(self.base + LINE + home(hash) * LINE);
    }

    /// Slots in use, as the header says it, and never more than there are.
    pub(super) fn used(self) -> usize {
        self.get(segment_word::USED).min(CAPACITY as u64) as usize
    }

    pub(super) fn kind(self) -> Option<Kind> {
        Kind::from_word(self.get(segment_word::KIND))
    }

    /// The next segment of the chain, if its number fits.
    pub(super) fn next(self) -> Option<u32> {
        match self.get(segment_word::NEXT) {
            0 => None,
            // A number too large to be one names a segment that no piece holds, which is noticed where it is looked up.
            next => Some(u32::try_from(next - 1).unwrap_or(u32::MAX)),
        }
    }

    /// Gives `f` the slot and the candidate of every entry with the hash's tag, until it gives a value.
    // Asked for: see `HashIndex::find`.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub(super) fn probe<R>(self, hash: u64, f: &mut impl FnMut(usize, Candidate) -> Option<R>) -> Probe<R> {
        let tag = entry::tag(hash);
        let mut at = home(hash);
        for _ in 0..LINES {
            let line = self.line(at);
            let last = line[LINE - 1];
            let mut tagged = same_upper(line, (tag >> 48) as u16);
            while tagged != 0 {
                let slot = at * LINE + tagged.trailing_zeros() as usize % LINE;
                tagged &= tagged - 1;
                // Read again, now in order: what was written before the entry was (the row, its previous row) is seen by
                // whoever sees the entry. It may be another one by now, with the same tag or without a row.
                let word = self.words.load(self.base + LINE + slot, Ordering::Acquire);
                if entry::has_tag(word, tag)
                    && let Some(candidate) = entry::candidate(word)
                    && let Some(found) = f(slot, candidate)
                {
                    return Probe::Hit(found);
                }
            }
            // A line fills from its first slot to its last.
            if last == entry::EMPTY {
                return Probe::End;
            }
            at = if at + 1 == LINES { 0 } else { at + 1 };
        }
        Probe::Full
    }

    /// *Writer.* The slot where a new entry of this hash goes.
    #[inline]
    pub(super) fn vacancy(self, hash: u64) -> Option<usize> {
        vacancy(hash, |line| self.line(line))
    }

    /// *Writer.* Puts an entry into a vacant slot. The count goes first: if the writer dies between the stores, the header
    /// says one too many, which is harmless, and never one too few.
    #[inline]
    pub(super) fn fill(self, slot: usize, word: u64) {
        if self.entry(slot) == entry::EMPTY {
            let used = self.get(segment_word::USED);
            self.words.store(self.base + segment_word::USED, used.wrapping_add(1), Ordering::Relaxed);
        }
        self.set_entry(slot, word);
    }

    /// Puts the segment's entries (no empty or removed ones) behind `out`.
    pub(super) fn entries(self, out: &mut Vec<u64>) {
        for line in 0..LINES {
            out.extend(self.line(line).into_iter().filter(|&word| !entry::is_vacant(word)));
        }
    }

    /// *Writer.* Makes the segment, which nothing names, what the image says.
    pub(super) fn write(self, image: &Image) {
        // A reader that still has an older name of this segment and sees one of these stores must find that name gone when
        // it looks again: the stores that took the name away come before this fence, and its own fence meets it.
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

/// A segment being built in private memory.
pub(super) struct Image {
    words: Box<[u64; SEGMENT_WORDS]>,
}

impl Image {
    pub(super) fn new(kind: Kind, number: u32, prefix: u64) -> Image {
        let mut words: Box<[u64; SEGMENT_WORDS]> =
            vec![0; SEGMENT_WORDS].into_boxed_slice().try_into().expect("a segment's words");
        words[segment_word::KIND] = kind.to_word();
        words[segment_word::PREFIX] = prefix;
        words[segment_word::RETRY_AT] = SPLIT_AT as u64;
        words[segment_word::NUMBER] = u64::from(number);
        Image { words }
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

    /// Adds an entry. The image is not full.
    pub(super) fn push(&mut self, hash: u64, word: u64) {
        let entries = &self.words[LINE..];
        let line = |line: usize| *entries[line * LINE..].first_chunk().expect("a line");
        let slot = vacancy(hash, line).expect("an image that is not full has a vacancy");
        self.words[LINE + slot] = word;
        self.words[segment_word::USED] += 1;
    }
}

//! Reservation of space. [`HashIndex::reserve`] makes room for the entries of a commit, so that no
//! insert has to split a segment or can fail for lack of space.
//!
//! Segments split only here, before the commit is in the journal. If the commit never reaches the
//! journal, the index has more room than it needs and is as correct as before.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use pongo_core::ids::RowId;
use pongo_core::storage::PAGE;

use super::allocator::{AllocatorBase, SegmentAllocator};
use super::error::{BoxedError, HashError};
use super::layout::{
    CAPACITY, LINE, LINES, SEGMENT_WORDS, SPLIT_AT, SegmentKind, TopEntry, account_word, entry, home,
    max_depth, segment_word, top_index,
};
use super::segment::{Segment, SegmentImage};
use super::write::{SORT_BITS, sort_by_top};
use super::{HashIndex, KeyHasher};

impl HashIndex {
    /// Makes room for entries with these hashes. *Writer.*
    ///
    /// After `Ok` and until the next `reserve`, inserting these entries does not fail for lack of
    /// space, and no operation on the index needs a file descriptor or a new map. Hashes of keys
    /// that already have an entry, which will only be replaced, may be left out.
    ///
    /// Costs about 10 ns per hash if there is room. Splitting a segment costs about 100 µs, with
    /// its 3,577 rows in memory.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`] if the storage has no space: the index then holds the same entries as
    /// before. [`HashError::Damaged`] if the files and the rows contradict each other.
    /// [`HashError::Exhausted`] after 2³⁸ splits.
    pub fn reserve(&self, hashes: &[u64], keys: &dyn KeyHasher) -> Result<(), HashError> {
        let mut writer = self.writer()?;
        writer.preallocate()?;
        writer.reserve(hashes, keys)?;
        // Also needed if entries are only changed: another process may have created their piece.
        let (pieces, _) = writer.counts()?;
        Ok(writer.view.maps.map_pieces(pieces)?)
    }

    /// Allocates the space that changes of entries with these hashes may need. *Writer.*
    ///
    /// Does nothing unless stores to a map can take space on this file system. Call
    /// [`reserve`](Self::reserve) first for those hashes that are new. Costs one system call per
    /// page.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Self::reserve).
    pub fn make_writable(&self, hashes: impl IntoIterator<Item = u64>) -> Result<(), HashError> {
        if !self.first.folder.storage.stores_may_allocate() {
            return Ok(());
        }
        let (writer, mut done) = (self.writer()?, HashSet::new());
        let hashes: Vec<u64> = hashes.into_iter().collect();
        for &hash in &hashes {
            writer.make_entries_writable(hash, hashes.len(), &mut done)?;
        }
        Ok(())
    }
}

/// For more changes than this, all pages of a segment are made writable without checking which
/// pages the changes affect.
const FEW: usize = 64;
/// Number of words in a page.
const PAGE_WORDS: usize = PAGE as usize / size_of::<u64>();

/// The result of [`SegmentAllocator::add_capacity`].
enum Capacity {
    /// The entries fit once this number of segments can be allocated.
    Made(u64),
    /// The segment was replaced: the caller must read the top again.
    Replaced,
}

impl<'a> SegmentAllocator<'a> {
    pub(super) fn reserve(&mut self, hashes: &[u64], keys: &dyn KeyHasher) -> Result<(), BoxedError> {
        if let &[hash] = hashes {
            return self.reserve_sorted(&[hash], keys);
        }
        if self.has_capacity(hashes)? {
            return Ok(());
        }
        // Large batches are first partitioned by the upper bits: runs that fit in a cache are
        // sorted several times as fast.
        let bits = if hashes.len() < 1 << SORT_BITS { 1 } else { SORT_BITS };
        let mut sorted = sort_by_top(hashes.iter().copied(), |&hash| hash, bits);
        sorted
            .chunk_by_mut(|&a, &b| top_index(a, bits) == top_index(b, bits))
            .for_each(<[u64]>::sort_unstable);
        self.reserve_sorted(&sorted, keys)
    }

    /// Makes all pages writable that `count` changes can store to: changes of entries with this
    /// hash and of other entries. `done` contains the pages that are already writable, by segment.
    fn make_entries_writable(
        &self,
        hash: u64,
        count: usize,
        done: &mut HashSet<(u32, usize)>,
    ) -> Result<(), BoxedError> {
        let base = self.base(hash)?;
        let mut chain = vec![(base.number, base.segment)];
        for member in self.view.chain(base.segment) {
            chain.push(member?);
        }
        if count > FEW {
            for (number, segment) in chain {
                if done.insert((number, usize::MAX)) {
                    let all = segment.base..segment.base + SEGMENT_WORDS;
                    self.view.maps.make_writable(segment.words, all)?;
                }
            }
            return Ok(());
        }
        let mut make = |number: u32, segment: Segment<'a>, word: usize| {
            let page = word / PAGE_WORDS;
            if !done.insert((number, page)) {
                return Ok(());
            }
            let from = segment.base + page * PAGE_WORDS;
            self.view.maps.make_writable(segment.words, from..(from + PAGE_WORDS).min(segment.words.len()))
        };
        for (number, segment) in chain {
            // The header, which contains the count.
            make(number, segment, 0)?;
            // An existing entry is stored no later than the first line that ends with an empty
            // slot. A new one goes to the first vacant slot, and other changes use fewer than
            // `count` of these.
            let (mut at, mut vacant) = (home(hash), 0);
            for _ in 0..LINES {
                let line = segment.line(at);
                make(number, segment, LINE + at * LINE)?;
                vacant += line.iter().filter(|&&word| entry::is_vacant(word)).count();
                if vacant >= count && line[LINE - 1] == entry::EMPTY {
                    break;
                }
                at = if at + 1 == LINES { 0 } else { at + 1 };
            }
        }
        Ok(())
    }

    /// Returns whether every segment has room for its part of the hashes without a split. Returns
    /// `false` without checking where counting would cost more than sorting.
    fn has_capacity(&self, hashes: &[u64]) -> Result<bool, BoxedError> {
        let bits = self.view.root.bits;
        if hashes.len() < 1 << bits >> 3 {
            return Ok(false);
        }
        let mut shares = vec![0_u32; 1 << bits];
        for &hash in hashes {
            shares[top_index(hash, bits)] += 1;
        }
        let mut at = 0;
        while at < shares.len() {
            let base = self.base((at as u64) << (64 - bits))?;
            let end = at + (1 << (bits - base.depth));
            // Only in a damaged index does a top entry refer to a segment whose range starts
            // earlier.
            let Some(shares) = shares.get(at..end) else {
                return Err(self.damaged(format!(
                    "segment {}, of {} bits, begins before top entry {at}, which names it",
                    base.number, base.depth
                )));
            };
            let share: u64 = shares.iter().map(|&n| u64::from(n)).sum();
            if share > 0 && self.used(base)? as u64 + share > SPLIT_AT as u64 {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// Makes room for sorted hashes. Hashes of one segment are adjacent, because a segment covers a
    /// range of hashes.
    fn reserve_sorted(&mut self, sorted: &[u64], keys: &dyn KeyHasher) -> Result<(), BoxedError> {
        let mut overflow = 0;
        let mut rest = sorted;
        while let Some(&first) = rest.first() {
            let base = self.base(first)?;
            let (mine, after) = rest.split_at(rest.partition_point(|&hash| hash <= base.last()));
            match self.add_capacity(base, mine, sorted.len(), keys)? {
                Capacity::Made(segments) => {
                    overflow += segments;
                    rest = after;
                }
                Capacity::Replaced => {}
            }
        }
        if overflow > 0 { self.ensure(overflow) } else { Ok(()) }
    }

    /// Returns the number of used slots in a segment and its chain.
    fn used(&self, base: AllocatorBase<'a>) -> Result<usize, BoxedError> {
        let mut used = base.segment.used();
        for member in self.view.chain(base.segment) {
            used += member?.1.used();
        }
        Ok(used)
    }

    /// Makes room in one segment. `coming` contains the sorted hashes in this segment's range that
    /// will be inserted, at least one. `all_coming` is the number of hashes for all segments.
    fn add_capacity(
        &mut self,
        base: AllocatorBase<'a>,
        coming: &[u64],
        all_coming: usize,
        keys: &dyn KeyHasher,
    ) -> Result<Capacity, BoxedError> {
        let used = self.used(base)?;
        if used + coming.len() <= SPLIT_AT {
            return Ok(Capacity::Made(0));
        }
        if used + coming.len() > base.segment.get(segment_word::RETRY_AT) as usize {
            let entries = self.hashed_entries(base, keys)?;
            let after = entries.len() + coming.len();
            if after <= SPLIT_AT / 4 * 3 && entries.len() < used {
                self.replace_segment(base, entries, false)?;
                return Ok(Capacity::Replaced);
            }
            let (_, allocated) = self.counts()?;
            let deepest = max_depth(allocated + (all_coming / CAPACITY) as u64);
            if separable(base.depth, deepest, &entries, coming) {
                self.replace_segment(base, entries, true)?;
                return Ok(Capacity::Replaced);
            }
            // Without this delay, each further key with the same hash would check all entries
            // again: wait until the segment has noticeably more entries.
            let retry_at = used + coming.len() + (used / 8).max(CAPACITY / 8);
            base.segment.set(segment_word::RETRY_AT, retry_at as u64);
        }
        let mut room = CAPACITY - base.segment.used();
        for member in self.view.chain(base.segment) {
            room += CAPACITY - member?.1.used();
        }
        Ok(Capacity::Made(coming.len().saturating_sub(room).div_ceil(CAPACITY) as u64))
    }

    /// Returns the entries of a segment and its chain, with the hashes of their rows' keys. Entries
    /// that no reader needs any more are left out.
    fn hashed_entries(
        &self,
        base: AllocatorBase<'a>,
        keys: &dyn KeyHasher,
    ) -> Result<Vec<(u64, u64)>, BoxedError> {
        let mut words = Vec::with_capacity(CAPACITY);
        base.segment.entries(&mut words);
        for member in self.view.chain(base.segment) {
            member?.1.entries(&mut words);
        }
        let rows: Vec<RowId> =
            words.iter().filter_map(|&word| entry::candidate(word)).map(|c| c.row).collect();
        let mut hashes = Vec::with_capacity(rows.len());
        keys.hashes(&rows, &mut hashes);
        if hashes.len() != rows.len() {
            return Err(self.damaged(format!("{} rows gave {} hashes", rows.len(), hashes.len())));
        }
        for ((&word, &hash), row) in words.iter().zip(&hashes).zip(&rows) {
            if !entry::has_tag(word, entry::tag(hash)) || hash < base.prefix || hash > base.last() {
                return Err(self.damaged(format!(
                    "row {row} has a key with hash {hash:#x}, its entry {word:#x} is in segment {} of prefix \
                     {:#x}, {} bits",
                    base.number, base.prefix, base.depth
                )));
            }
        }
        let forgotten = keys.forgotten(&rows);
        let kept = |i: usize| !forgotten.get(i).copied().unwrap_or(false);
        let entries = hashes.into_iter().zip(words).enumerate();
        Ok(entries.filter(|&(i, _)| kept(i)).map(|(_, entry)| entry).collect())
    }

    /// Replaces `base` and its chain by one new segment, or by two that have one more bit of depth.
    /// The old segments stay unchanged until nothing refers to them.
    fn replace_segment(
        &mut self,
        base: AllocatorBase<'a>,
        entries: Vec<(u64, u64)>,
        split: bool,
    ) -> Result<(), BoxedError> {
        let depth = base.depth + u32::from(split);
        if depth > self.view.root.bits {
            self.grow_top(depth)?;
        }
        let range = self.top_range(base)?;
        self.view.maps.make_writable(self.view.top, range.clone())?;
        let upper = base.prefix | 1_u64.checked_shl(64 - depth).unwrap_or(0);
        let (high, low): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|&(hash, _)| split && hash >= upper);
        let sides = if split { vec![(base.prefix, low), (upper, high)] } else { vec![(base.prefix, low)] };

        self.ensure(sides.iter().map(|(_, entries)| chain_len(entries.len()) as u64).sum())?;
        let mut old = vec![(base.number, base.segment)];
        for member in self.view.chain(base.segment) {
            old.push(member?);
        }
        for (_, segment) in &old {
            self.view.maps.make_writable(segment.words, segment.base..segment.base + LINE)?;
        }
        let mut numbers = Vec::with_capacity(2);
        for (prefix, entries) in &sides {
            numbers.push(self.build(depth, *prefix, entries)?);
        }

        let generation = self.generation()?;
        self.set(account_word::INTENT, u64::from(base.number) + 1);
        let side_len = range.len() / sides.len();
        for (i, at) in range.enumerate() {
            let entry = TopEntry::new(numbers[i / side_len], generation);
            self.view.top.store(at, entry.0, Ordering::Release);
        }
        self.set(account_word::INTENT, 0);
        self.free(&old);
        Ok(())
    }

    /// Writes a base segment with these entries, and an overflow chain if they do not fit in one
    /// segment. Returns the number of the base segment.
    fn build(&self, depth: u32, prefix: u64, entries: &[(u64, u64)]) -> Result<u32, BoxedError> {
        let mut images: Vec<(u32, Segment<'a>, SegmentImage)> = Vec::new();
        for i in 0..chain_len(entries.len()) {
            let (number, segment) = self.take()?;
            let kind = if i == 0 { SegmentKind::Base { depth } } else { SegmentKind::Overflow };
            self.view.maps.make_writable(segment.words, segment.base..segment.base + SEGMENT_WORDS)?;
            images.push((number, segment, SegmentImage::new(kind, number, prefix)));
        }
        let mut filling = 0;
        for &(hash, word) in entries {
            if images[filling].2.is_full() {
                filling += 1;
            }
            images[filling].2.push(hash, word);
        }
        for i in 1..images.len() {
            let number = images[i].0;
            images[i - 1].2.set(segment_word::NEXT, u64::from(number) + 1);
            let position = images.len() - i;
            images[i].2.set(segment_word::POSITION, position as u64);
        }
        for (_, segment, image) in &images {
            segment.write(image);
        }
        Ok(images[0].0)
    }
}

/// Returns the number of segments that this number of entries needs.
fn chain_len(entries: usize) -> usize {
    entries.div_ceil(CAPACITY).max(1)
}

/// Returns whether splitting a segment of `depth` bits, down to at most `max` bits, can separate
/// the existing entries and the new hashes.
fn separable(depth: u32, max: u32, entries: &[(u64, u64)], coming: &[u64]) -> bool {
    let hashes =
        || entries.iter().map(|&(hash, _)| hash).chain(coming.first().copied()).chain(coming.last().copied());
    match (hashes().min(), hashes().max()) {
        (Some(low), Some(high)) if depth < max => (low ^ high) >> (64 - max) != 0,
        _ => false,
    }
}

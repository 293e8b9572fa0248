//! Changes of entries: the writer's operations between two reservations. Each operation is one
//! release store that readers can see (one more if it adds an overflow segment), so the writer may
//! crash after any of them.

use pongo_core::ids::RowId;

use super::allocator::{AllocatorBase, SegmentAllocator};
use super::error::{BoxedError, HashError};
use super::layout::{CAPACITY, SEGMENT_WORDS, SegmentKind, entry, segment_word, top_index};
use super::segment::{Segment, SegmentImage};
use super::{Candidate, HashIndex};

/// Number of items that are sorted by segment at a time: 16 MiB.
pub(super) const BATCH: usize = 1 << 20;
/// Batches of at most this number of items are not sorted.
const FEW: usize = 4;
/// Maximum number of hash bits that a batch is sorted by. The ends of 2^12 runs fit in the
/// second-level cache.
pub(super) const SORT_BITS: u32 = 12;

/// The result of [`HashIndex::upsert_checked`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upsert {
    /// The key had no entry, and one was added.
    Inserted,
    /// The key's entry referred to this older row, and now refers to the new one.
    Replaced(RowId),
    /// The key's entry already referred to this row, the same or a newer one, and was left
    /// unchanged.
    Kept(RowId),
}

impl HashIndex {
    /// Adds an entry, without checking whether the key already has one. *Writer.*
    ///
    /// Does not fail for lack of space if the hash was [reserved](Self::reserve). Without a
    /// reservation it may add an overflow segment instead of splitting, which is correct but slow
    /// if done often.
    ///
    /// # Errors
    ///
    /// [`HashError::RowTooLarge`], [`HashError::Damaged`], and without a reservation
    /// [`HashError::Full`].
    pub fn insert(&self, hash: u64, row: RowId) -> Result<(), HashError> {
        let word = pack(hash, row)?;
        let mut writer = self.writer()?;
        let base = writer.base(hash)?;
        Ok(writer.put(base, hash, word)?)
    }

    /// Makes the entry of `old` refer to `new` and clears its deletion mark. Returns `false` if
    /// `old` has no entry. *Writer.*
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), but never because of a lack of space.
    pub fn replace(&self, hash: u64, old: RowId, new: RowId) -> Result<bool, HashError> {
        let word = pack(hash, new)?;
        Ok(self.change(hash, old, word)?)
    }

    /// Marks the entry of `row` as deleted. The entry keeps the row. Returns `false` if `row` has
    /// no entry. Idempotent. *Writer.*
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn set_deleted(&self, hash: u64, row: RowId) -> Result<bool, HashError> {
        let word = pack(hash, row)? | entry::DELETED;
        Ok(self.change(hash, row, word)?)
    }

    /// Removes the entry of `row`. Later inserts can reuse the slot. Returns `false` if `row` has
    /// no entry. *Writer.*
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn remove(&self, hash: u64, row: RowId) -> Result<bool, HashError> {
        Ok(self.change(hash, row, entry::REMOVED)?)
    }

    /// Updates the entry of a key to `row`, or adds one. Idempotent, so that a journal entry can be
    /// replayed more than once. *Writer.*
    ///
    /// `same_key` returns whether a candidate row has the key. An entry of a newer row, or of `row`
    /// itself (deleted or not), is left unchanged.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn upsert_checked(
        &self,
        hash: u64,
        row: RowId,
        same_key: &mut dyn FnMut(RowId) -> bool,
    ) -> Result<Upsert, HashError> {
        let word = pack(hash, row)?;
        let mut writer = self.writer()?;
        let base = writer.base(hash)?;
        let found = writer.view.probe(base.segment, hash, |segment, slot, candidate| {
            same_key(candidate.row).then_some((segment, slot, candidate.row))
        })?;
        match found {
            Some((_, _, present)) if present >= row => Ok(Upsert::Kept(present)),
            Some((segment, slot, older)) => {
                segment.set_entry(slot, word);
                Ok(Upsert::Replaced(older))
            }
            None => {
                writer.put(base, hash, word)?;
                Ok(Upsert::Inserted)
            }
        }
    }

    /// Adds many entries, each as [`insert`](Self::insert) does. *Writer.*
    ///
    /// The entries are first sorted by segment, so that each cache miss serves many of them. Needs
    /// at most 16 MiB of memory.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert). Entries before the one that failed may have been added.
    pub fn insert_bulk(&self, entries: &[(u64, RowId)]) -> Result<(), HashError> {
        if let Some(&(_, row)) = entries.iter().find(|(_, row)| *row > entry::MAX_ROW) {
            return Err(HashError::RowTooLarge { row });
        }
        let mut writer = self.writer()?;
        for batch in entries.chunks(BATCH) {
            let words = batch.iter().map(|&(hash, row)| (hash, entry::pack(hash, row, false)));
            writer.put_all(words)?;
        }
        Ok(())
    }

    fn change(&self, hash: u64, row: RowId, word: u64) -> Result<bool, BoxedError> {
        let writer = self.writer()?;
        let base = writer.base(hash)?;
        let found =
            writer.view.probe(base.segment, hash, |segment, slot, Candidate { row: named, .. }| {
                (named == row).then_some((segment, slot))
            })?;
        if let Some((segment, slot)) = found {
            segment.set_entry(slot, word);
        }
        Ok(found.is_some())
    }
}

fn pack(hash: u64, row: RowId) -> Result<u64, BoxedError> {
    if row > entry::MAX_ROW {
        Err(Box::new(HashError::RowTooLarge { row }))
    } else {
        Ok(entry::pack(hash, row, false))
    }
}

impl<'a> SegmentAllocator<'a> {
    #[inline]
    fn put(&mut self, base: AllocatorBase<'a>, hash: u64, word: u64) -> Result<(), BoxedError> {
        // A segment that has a chain is full and remains full.
        if base.segment.next().is_none()
            && let Some(slot) = base.segment.vacancy(hash)
        {
            base.segment.fill(slot, word);
            return Ok(());
        }
        self.put_overflow(base, hash, word)
    }

    #[cold]
    fn put_overflow(&mut self, base: AllocatorBase<'a>, hash: u64, word: u64) -> Result<(), BoxedError> {
        let mut first: Option<Segment<'a>> = None;
        for member in self.view.chain(base.segment) {
            let (_, member) = member?;
            if member.used() < CAPACITY
                && let Some(slot) = member.vacancy(hash)
            {
                member.fill(slot, word);
                return Ok(());
            }
            first = first.or(Some(member));
        }
        self.ensure(1)?;
        let (number, segment) = self.take()?;
        self.view.maps.make_writable(segment.words, segment.base..segment.base + SEGMENT_WORDS)?;
        let mut image = SegmentImage::new(SegmentKind::Overflow, number, base.prefix);
        image.set(segment_word::NEXT, base.segment.get(segment_word::NEXT));
        let below = first.map_or(0, |first| first.get(segment_word::POSITION));
        image.set(segment_word::POSITION, below.saturating_add(1));
        image.push(hash, word);
        segment.write(&image);
        base.segment.set(segment_word::NEXT, u64::from(number) + 1);
        Ok(())
    }

    /// Adds at most [`BATCH`] entries, given with their hashes.
    pub(super) fn put_all(
        &mut self,
        items: impl ExactSizeIterator<Item = (u64, u64)> + Clone,
    ) -> Result<(), BoxedError> {
        if items.len() <= FEW {
            return items.into_iter().try_for_each(|(hash, word)| self.put(self.base(hash)?, hash, word));
        }
        let sorted = sort_by_top(items, |&(hash, _)| hash, self.view.root.bits.min(SORT_BITS));
        let mut current: Option<AllocatorBase<'a>> = None;
        for &(hash, word) in &sorted {
            let base = match current {
                Some(base) if base.prefix <= hash && hash <= base.last() => base,
                _ => self.base(hash)?,
            };
            current = Some(base);
            self.put(base, hash, word)?;
        }
        Ok(())
    }
}

/// Sorts items by the upper `bits` bits of their hashes (counting sort). Uses fewer bits for a
/// small number of items, because clearing the counters would otherwise cost more than sorting
/// saves.
pub(super) fn sort_by_top<T: Copy + Default>(
    items: impl ExactSizeIterator<Item = T> + Clone,
    hash: impl Fn(&T) -> u64,
    bits: u32,
) -> Vec<T> {
    let bits = bits.min(items.len().max(1).ilog2() + 1);
    let mut ends = vec![0_usize; 1 << bits];
    for item in items.clone() {
        ends[top_index(hash(&item), bits)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += std::mem::replace(end, sum);
    }
    let mut sorted = vec![T::default(); items.len()];
    for item in items {
        let end = &mut ends[top_index(hash(&item), bits)];
        sorted[*end] = item;
        *end += 1;
    }
    sorted
}

//! Look-ups. A reader takes no lock and stores nothing. It reads the root, a top entry, a line of a
//! segment, and the row.
//!
//! **A miss is valid only if a second read of root and top entry, after an acquire fence, returns
//! the same words.** Generations and roots never repeat, so equal words mean that the segment was
//! in force during the whole look-up. If they differ, a writer made progress and the look-up starts
//! over. The proof is in `docs/design/hash-index.md`.

use pongo_core::guard::removable;
use pongo_core::storage::AtomicWords;
use pongo_core::sync::{Ordering, fence};

use super::error::{BoxedError, HashError};
use super::layout::{HashRoot, TopEntry, segment_word, top_index};
use super::maps::Maps;
use super::segment::{Probe, Segment};
use super::{Candidate, HashIndex};

/// Maximum number of epochs that one handle follows. Each epoch after the first is a rebuild of the
/// whole index while the handle was open.
const MAX_EPOCHS: usize = 1024;

/// The maps that a root word refers to.
#[derive(Clone, Copy)]
pub(super) struct HashView<'a> {
    pub(super) maps: &'a Maps,
    pub(super) top: &'a AtomicWords,
    pub(super) root: HashRoot,
}

impl<'a> HashView<'a> {
    /// Returns the top entry for a hash and the segment that it refers to.
    #[inline]
    pub(super) fn locate(self, hash: u64) -> Result<(TopEntry, Segment<'a>), BoxedError> {
        let word = self.top.load(top_index(hash, self.root.bits), Ordering::Acquire);
        Ok((TopEntry(word), self.resolve(TopEntry(word))?))
    }

    #[inline]
    pub(super) fn resolve(self, entry: TopEntry) -> Result<Segment<'a>, BoxedError> {
        if entry.generation() == 0 {
            return Err(self
                .maps
                .folder
                .damaged(format!("a top entry is {:#x}, which names nothing", entry.0)));
        }
        self.maps.segment(entry.segment())
    }

    /// Probes a segment and, if it is full, its overflow chain.
    #[inline]
    pub(super) fn probe<R>(
        self,
        segment: Segment<'a>,
        hash: u64,
        mut f: impl FnMut(Segment<'a>, usize, Candidate) -> Option<R>,
    ) -> Result<Option<R>, BoxedError> {
        match segment.probe(hash, &mut |slot, candidate| f(segment, slot, candidate)) {
            Probe::Hit(found) => Ok(Some(found)),
            Probe::End => Ok(None),
            Probe::Full => self.probe_chain(segment, hash, f),
        }
    }

    #[cold]
    fn probe_chain<R>(
        self,
        segment: Segment<'a>,
        hash: u64,
        mut f: impl FnMut(Segment<'a>, usize, Candidate) -> Option<R>,
    ) -> Result<Option<R>, BoxedError> {
        for member in self.chain(segment) {
            let (_, member) = member?;
            let probe = member.probe(hash, &mut |slot, candidate| f(member, slot, candidate));
            if let Probe::Hit(found) = probe {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns an iterator over the overflow segments of `segment`.
    pub(super) fn chain(self, segment: Segment<'a>) -> Chain<'a> {
        Chain { view: self, next: segment.next(), above: u64::MAX }
    }
}

/// An iterator over the numbers and words of an overflow chain. Positions must decrease from member
/// to member, so the iteration ends even if the words are corrupt.
pub(super) struct Chain<'a> {
    view: HashView<'a>,
    next: Option<u32>,
    above: u64,
}

impl<'a> Iterator for Chain<'a> {
    type Item = Result<(u32, Segment<'a>), BoxedError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next.take()?;
        let segment = match self.view.maps.segment(number) {
            Ok(segment) => segment,
            Err(error) => return Some(Err(error)),
        };
        // The fence orders the load of the number that led to this member before the loads of its
        // words. The writer stored these words before the number.
        removable!("hash.chain.fence", fence(Ordering::Acquire));
        let position = segment.get(segment_word::POSITION);
        if position == 0 || position >= self.above {
            let what = format!(
                "segment {number} has position {position} in a chain, expected 1 to {}",
                self.above - 1
            );
            return Some(Err(self.view.maps.folder.damaged(what)));
        }
        self.above = position;
        self.next = segment.next();
        Some(Ok((number, segment)))
    }
}

impl HashIndex {
    /// Returns the view that the root word refers to now.
    #[inline]
    pub(super) fn view(&self) -> Result<HashView<'_>, BoxedError> {
        loop {
            let word = self.head.root_word();
            let view = self.view_of(word);
            // The files of a root that is no longer in force may have been deleted.
            if view.is_ok() || self.head.root_word() == word {
                return view;
            }
        }
    }

    #[inline]
    fn view_of(&self, word: u64) -> Result<HashView<'_>, BoxedError> {
        let root = HashRoot::from_word(word).ok_or_else(|| self.no_root(word))?;
        let maps = if self.first.epoch == root.epoch { &self.first } else { self.later(root.epoch)? };
        Ok(HashView { maps, top: maps.top(root.bits)?, root })
    }

    #[cold]
    fn no_root(&self, word: u64) -> BoxedError {
        self.first.folder.damaged(format!("the root is {word:#x}, which no index was built with"))
    }

    /// Returns the maps of an epoch that started after this handle was opened.
    #[cold]
    fn later(&self, epoch: u32) -> Result<&Maps, BoxedError> {
        let mut maps = &self.first;
        for _ in 0..MAX_EPOCHS {
            if epoch == maps.epoch {
                return Ok(maps);
            }
            if epoch < maps.epoch {
                break;
            }
            maps = maps.later(epoch);
        }
        Err(self
            .first
            .folder
            .damaged(format!("the root names epoch {epoch}, the last one met is {}", maps.epoch)))
    }

    /// Calls `f` with every row that may have a key with this hash, until `f` returns a value, and
    /// returns this value. `None` means that `f` accepted no entry, and that no key that was in the
    /// index during the whole look-up was missed.
    ///
    /// `f` must check the row: one in 65,536 other keys has the same tag. `f` may be called more
    /// than once with the same row if a writer is active or if thousands of keys share the hash.
    ///
    /// Costs one line of the index (a cache miss in a large index), plus the cost of `f`.
    ///
    /// # Errors
    ///
    /// [`HashError::Damaged`] if the files refer to a segment or file that does not exist,
    /// [`HashError::Io`] if a file that another process created cannot be opened or mapped. An
    /// active writer never causes an error.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use pongo_core::{ids::RowId, storage::{MemoryStorage, Storage}};
    /// use pongo_index::{HashIndex, IndexIdentity, key_hash};
    ///
    /// let keys = [3_u64, 5, 8];
    /// let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    /// let index = HashIndex::create(&storage, "hash/numbers", IndexIdentity { store: 1, table: 2 }, 0)?;
    /// for (row, key) in keys.iter().enumerate() {
    ///     index.insert(key_hash(&key.to_le_bytes()), RowId(row as u64))?;
    /// }
    /// let get = |key: u64| {
    ///     index.find(key_hash(&key.to_le_bytes()), |c| (keys[c.row.0 as usize] == key).then_some(c.row))
    /// };
    /// assert_eq!(get(5)?, Some(RowId(1)));
    /// assert_eq!(get(6)?, None);
    /// # Ok::<(), pongo_index::HashError>(())
    /// ```
    // Forced, because a function that calls `find` twice would otherwise not inline it. The extra
    // call costs a tenth of a look-up.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn find<R>(
        &self,
        hash: u64,
        mut f: impl FnMut(Candidate) -> Option<R>,
    ) -> Result<Option<R>, HashError> {
        match self.find_mapped(hash, &mut f) {
            Some(found) => Ok(found),
            None => Ok(self.find_any(hash, f)?),
        }
    }

    /// Looks up a hash in the common case: everything is mapped, the home line has an empty slot,
    /// and no split is in progress. Returns `None` if the look-up must be done by `find_any`.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn find_mapped<R>(&self, hash: u64, f: &mut impl FnMut(Candidate) -> Option<R>) -> Option<Option<R>> {
        let word = self.head.root_word();
        if word != self.checked.load(Ordering::Relaxed) {
            return None;
        }
        let bits = HashRoot::bits_of(word);
        let top = self.first.mapped_top(bits)?;
        let at = top_index(hash, bits);
        let entry = TopEntry(top.load(at, Ordering::Acquire));
        if entry.generation() == 0 {
            return None;
        }
        match self.first.mapped_segment(entry.segment())?.probe(hash, &mut |_, candidate| f(candidate)) {
            Probe::Hit(found) => Some(Some(found)),
            Probe::Full => None,
            Probe::End => {
                // All loads of the segment are ordered before the two loads that follow.
                removable!("hash.find.fence", fence(Ordering::Acquire));
                let same = top.load(at, Ordering::Relaxed) == entry.0 && self.head.root_word() == word;
                same.then_some(None)
            }
        }
    }

    /// Looks up a hash in all cases.
    #[cold]
    #[inline(never)]
    fn find_any<R>(
        &self,
        hash: u64,
        mut f: impl FnMut(Candidate) -> Option<R>,
    ) -> Result<Option<R>, BoxedError> {
        loop {
            let view = self.view()?;
            if view.root.epoch == self.first.epoch {
                self.checked.store(view.root.to_word(), Ordering::Relaxed);
            }
            let at = top_index(hash, view.root.bits);
            let entry = view.top.load(at, Ordering::Acquire);
            let result = view
                .resolve(TopEntry(entry))
                .and_then(|segment| view.probe(segment, hash, |_, _, candidate| f(candidate)));
            if let Ok(Some(_)) = result {
                return result;
            }
            removable!("hash.find_any.fence", fence(Ordering::Acquire));
            let same = view.top.load(at, Ordering::Relaxed) == entry;
            if same && self.head.root_word() == view.root.to_word() {
                return result;
            }
        }
    }

    /// Prefetches the line that [`find`](Self::find) will read for this hash. This is only a hint.
    /// Look-ups of several keys are faster if all are prefetched first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(root) = HashRoot::from_word(self.head.root_word())
            && root.epoch == self.first.epoch
            && let Some(top) = self.first.mapped_top(root.bits)
            && let entry = TopEntry(top.load(top_index(hash, root.bits), Ordering::Acquire))
            && let Some(segment) = self.first.mapped_segment(entry.segment())
        {
            segment.prefetch(hash);
        }
    }
}

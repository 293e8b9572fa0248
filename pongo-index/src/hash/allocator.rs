//! The writer's account of an epoch: allocating and freeing segments, adding pieces, numbering
//! generations, growing the top, and iterating over the segments in force.
//!
//! The order of the stores makes a crash of the writer harmless. A number is stored in the account
//! before it is used, and a file is counted only after it is allocated. A crash between two stores
//! leaks at most a segment that nothing refers to; [`recover`](super::HashIndex::recover) frees it.

use pongo_core::guard::removable;
use pongo_core::sync::{Ordering, fence};

use super::HashIndex;
use super::error::{BoxedError, HashError};
use super::header::IndexHeader;
use super::layout::{
    HashRoot, MAX_PIECES, SegmentKind, TopEntry, account_word, capacity, head_word, last_hash, segment_word,
    top_index,
};
use super::read::HashView;
use super::segment::Segment;

/// The single writer, for a published epoch or one that is being built.
pub(super) struct SegmentAllocator<'a> {
    pub(super) head: &'a IndexHeader,
    pub(super) view: HashView<'a>,
    /// Whether the root of `view` is published.
    pub(super) live: bool,
}

/// A base segment whose header is consistent with its entry in the top.
#[derive(Clone, Copy)]
pub(super) struct AllocatorBase<'a> {
    pub(super) number: u32,
    pub(super) segment: Segment<'a>,
    pub(super) depth: u32,
    pub(super) prefix: u64,
}

impl AllocatorBase<'_> {
    /// Returns the highest hash that belongs to this segment.
    pub(super) fn last(&self) -> u64 {
        last_hash(self.prefix, self.depth)
    }
}

impl HashIndex {
    /// Returns the writer for the current view. *Writer.*
    pub(super) fn writer(&self) -> Result<SegmentAllocator<'_>, BoxedError> {
        Ok(SegmentAllocator { head: &self.head, view: self.view()?, live: true })
    }
}

impl<'a> SegmentAllocator<'a> {
    pub(super) fn damaged(&self, what: impl Into<String>) -> BoxedError {
        self.view.maps.folder.damaged(what)
    }

    pub(super) fn get(&self, word: usize) -> u64 {
        self.head.get(head_word::ACCOUNTS + self.view.root.account * head_word::ACCOUNT_WORDS + word)
    }

    pub(super) fn set(&self, word: usize, value: u64) {
        self.head.set(head_word::ACCOUNTS + self.view.root.account * head_word::ACCOUNT_WORDS + word, value);
    }

    /// Makes sure that all files have their space allocated. Must be called before any store.
    pub(super) fn preallocate(&self) -> Result<(), BoxedError> {
        self.head.preallocate(&*self.view.maps.folder.storage)?;
        let (pieces, _) = self.counts()?;
        self.view.maps.preallocate(pieces, self.view.root.bits)
    }

    /// Returns the number of pieces and of segments in the account. Returns an error if the account
    /// does not belong to this epoch or its counts are out of range.
    pub(super) fn counts(&self) -> Result<(usize, u64), BoxedError> {
        let [epoch, pieces, allocated] =
            [account_word::EPOCH, account_word::PIECES, account_word::ALLOCATED].map(|word| self.get(word));
        if epoch != u64::from(self.view.root.epoch) {
            let root = self.view.root.epoch;
            return Err(self.damaged(format!("the account is epoch {epoch}'s, the root names {root}")));
        }
        if pieces > MAX_PIECES as u64 || allocated > capacity(pieces as usize) {
            return Err(self.damaged(format!("the account counts {allocated} segments in {pieces} pieces")));
        }
        Ok((pieces as usize, allocated))
    }

    /// Returns the base segment for a hash.
    #[inline]
    pub(super) fn base(&self, hash: u64) -> Result<AllocatorBase<'a>, BoxedError> {
        let (entry, segment) = self.view.locate(hash)?;
        let base = self.check_base(entry.segment(), segment)?;
        if hash < base.prefix || hash > base.last() {
            return Err(self.damaged(format!(
                "the top leads hash {hash:#x} to segment {}, which holds {:#x} and {} bits",
                base.number, base.prefix, base.depth
            )));
        }
        Ok(base)
    }

    /// Returns the segment as a base segment. Returns an error if its header is not that of a base
    /// segment with this number.
    #[inline]
    pub(super) fn check_base(
        &self,
        number: u32,
        segment: Segment<'a>,
    ) -> Result<AllocatorBase<'a>, BoxedError> {
        let prefix = segment.get(segment_word::PREFIX);
        match segment.kind() {
            Some(SegmentKind::Base { depth })
                if depth <= self.view.root.bits
                    && segment.get(segment_word::NUMBER) == u64::from(number)
                    && prefix.checked_shl(depth).unwrap_or(0) == 0 =>
            {
                Ok(AllocatorBase { number, segment, depth, prefix })
            }
            kind => Err(self.damaged(format!(
                "segment {number} says of itself: {kind:?}, number {}, prefix {prefix:#x}; expected a base \
                 segment",
                segment.get(segment_word::NUMBER)
            ))),
        }
    }

    /// Returns the range of top entries that refer to `base`. Returns an error if one of them
    /// refers to another segment, because the top is then damaged.
    pub(super) fn top_range(&self, base: AllocatorBase<'a>) -> Result<std::ops::Range<usize>, BoxedError> {
        let bits = self.view.root.bits;
        let first = top_index(base.prefix, bits);
        let range = first..first + (1 << (bits - base.depth));
        let strays =
            |&at: &usize| TopEntry(self.view.top.load(at, Ordering::Relaxed)).segment() != base.number;
        match range.clone().find(strays) {
            None => Ok(range),
            Some(at) => Err(self.damaged(format!(
                "top entry {at} does not name segment {}, whose range contains it",
                base.number
            ))),
        }
    }

    /// Calls `f` for every segment in force. Each base segment is followed by its chain.
    pub(super) fn for_each_segment(
        &self,
        mut f: impl FnMut(SegmentKind, u32, Segment<'a>),
    ) -> Result<(), BoxedError> {
        let bits = self.view.root.bits;
        let mut at = 0_usize;
        while at < 1 << bits {
            let base = self.base((at as u64) << (64 - bits))?;
            self.top_range(base)?;
            let AllocatorBase { number, segment, depth, .. } = base;
            f(SegmentKind::Base { depth }, number, segment);
            for member in self.view.chain(segment) {
                let (number, member) = member?;
                if member.kind() != Some(SegmentKind::Overflow)
                    || member.get(segment_word::NUMBER) != u64::from(number)
                {
                    return Err(
                        self.damaged(format!("segment {number} is in a chain and is {:?}", member.kind()))
                    );
                }
                f(SegmentKind::Overflow, number, member);
            }
            at += 1 << (bits - depth);
        }
        Ok(())
    }

    /// Makes sure that `count` segments can be allocated, and adds pieces if necessary. If there is
    /// no space, returns an error and the index holds the same entries as before.
    pub(super) fn ensure(&self, count: u64) -> Result<(), BoxedError> {
        loop {
            let (pieces, allocated) = self.counts()?;
            let free = self.get(account_word::FREE_COUNT).min(allocated);
            if free + (capacity(pieces) - allocated) >= count {
                return Ok(());
            }
            self.view.maps.make_piece(pieces)?;
            self.set(account_word::PIECES, pieces as u64 + 1);
        }
    }

    /// Allocates a segment that nothing refers to. Its words may have any value.
    pub(super) fn take(&self) -> Result<(u32, Segment<'a>), BoxedError> {
        let (pieces, allocated) = self.counts()?;
        if let Some(number) = self.get(account_word::FREE).checked_sub(1) {
            if number >= allocated {
                return Err(
                    self.damaged(format!("segment {number} is on the free list, there are {allocated}"))
                );
            }
            let segment = self.view.maps.segment(number as u32)?;
            if segment.kind() != Some(SegmentKind::Free) {
                return Err(
                    self.damaged(format!("segment {number} is on the free list and is {:?}", segment.kind()))
                );
            }
            self.set(account_word::FREE, segment.get(segment_word::FREE_NEXT));
            self.set(account_word::FREE_COUNT, self.get(account_word::FREE_COUNT).saturating_sub(1));
            return Ok((number as u32, segment));
        }
        if allocated >= capacity(pieces) {
            return Err(
                self.damaged(format!("all {allocated} segments are in use, the account says some are free"))
            );
        }
        self.set(account_word::ALLOCATED, allocated + 1);
        Ok((allocated as u32, self.view.maps.segment(allocated as u32)?))
    }

    /// Frees segments that nothing refers to any more. A reader may still be using one of them: the
    /// entries, and the header words that readers use, stay unchanged until the segment is
    /// rewritten.
    pub(super) fn free(&self, segments: &[(u32, Segment<'a>)]) {
        // The stores below, and those that rewrite the segment later, come after the stores that
        // removed the references to it.
        removable!("hash.free.fence", fence(Ordering::Release));
        for &(number, segment) in segments {
            segment.set(segment_word::FREE_NEXT, self.get(account_word::FREE));
            segment.set(segment_word::KIND, SegmentKind::Free.to_word());
            self.set(account_word::FREE, u64::from(number) + 1);
            self.set(account_word::FREE_COUNT, self.get(account_word::FREE_COUNT) + 1);
        }
    }

    /// Returns a generation that no top entry of this epoch has had.
    pub(super) fn generation(&self) -> Result<u64, BoxedError> {
        let next = self.get(account_word::GENERATION).saturating_add(1);
        if next > TopEntry::MAX_GENERATION {
            return Err(Box::new(HashError::Exhausted {
                dir: self.view.maps.folder.dir.clone(),
                what: "generations",
            }));
        }
        self.set(account_word::GENERATION, next);
        Ok(next)
    }

    /// Replaces the top by one with more bits: a new file in which every entry is repeated,
    /// published by one store of the root.
    pub(super) fn grow_top(&mut self, bits: u32) -> Result<(), BoxedError> {
        let old = self.view;
        let top = old.maps.make_top(bits)?;
        let repeat = bits - old.root.bits;
        for at in 0..1_usize << bits {
            top.store(at, old.top.load(at >> repeat, Ordering::Relaxed), Ordering::Relaxed);
        }
        self.view = HashView { root: HashRoot { bits, ..old.root }, top, ..old };
        if self.live {
            self.head.publish(self.view.root);
        }
        old.maps.remove_top(old.root.bits);
        Ok(())
    }
}

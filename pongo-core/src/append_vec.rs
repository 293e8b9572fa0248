//! An append-only list that is read without a lock: each slot is a `OnceLock`, in blocks that
//! double in size. The first item is stored in the list itself, so that a list of at most one item
//! is small and allocates nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of blocks in addition to the first item; they have 2, 4, 8 … slots.
const BLOCKS: usize = 31;

/// The slots of a block, allocated with its first item.
type Block<T> = OnceLock<Box<[OnceLock<T>]>>;

/// An append-only list. Only one writer may append at a time, which the caller ensures; readers
/// need no lock.
pub(crate) struct AppendVec<T> {
    first: OnceLock<T>,
    others: OnceLock<Box<[Block<T>; BLOCKS]>>,
    len: AtomicUsize,
}

/// Returns the block of an item other than the first, and its slot in the block.
fn place(index: usize) -> (usize, usize) {
    let block = (index + 1).ilog2() as usize;
    (block - 1, index + 1 - (1 << block))
}

impl<T> AppendVec<T> {
    pub(crate) fn new() -> Self {
        Self { first: OnceLock::new(), others: OnceLock::new(), len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index == 0 { self.first.get() } else { self.get_other(index) }
    }

    fn get_other(&self, index: usize) -> Option<&T> {
        let (block, at) = place(index);
        self.others.get()?.get(block)?.get()?.get(at)?.get()
    }

    /// Appends an item and returns its index. The caller must hold a lock.
    ///
    /// # Panics
    /// If another thread appends at the same time.
    pub(crate) fn push(&self, value: T) -> usize {
        let index = self.len.load(Ordering::Relaxed);
        let set = if index == 0 {
            self.first.set(value)
        } else {
            let (block, at) = place(index);
            let blocks = self.others.get_or_init(|| Box::new([const { OnceLock::new() }; BLOCKS]));
            let places =
                blocks[block].get_or_init(|| (0..2_usize << block).map(|_| OnceLock::new()).collect());
            places[at].set(value)
        };
        assert!(set.is_ok(), "one writer at a time");
        self.len.store(index + 1, Ordering::Release);
        index
    }

    /// Drops all items except the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        let end = *self.len.get_mut();
        for index in len..end {
            if index == 0 {
                self.first.take();
                continue;
            }
            let (block, at) = place(index);
            if let Some(places) = self.others.get_mut().and_then(|blocks| blocks[block].get_mut()) {
                places[at].take();
            }
        }
        *self.len.get_mut() = len.min(end);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let blocks = self.others.get_mut().into_iter().flat_map(|blocks| blocks.iter_mut());
        let others = blocks.filter_map(OnceLock::get_mut).flat_map(|places| places.iter_mut());
        self.first.get_mut().into_iter().chain(others.filter_map(OnceLock::get_mut))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<T> core::fmt::Debug for AppendVec<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AppendVec").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_over_blocks() {
        let list = AppendVec::new();
        for i in 0..1000 {
            assert_eq!(list.push(i), i);
        }
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        assert_eq!(list.get(1000), None);
    }

    #[test]
    fn truncates_and_grows_again() {
        let mut list = AppendVec::new();
        for i in 0..100 {
            list.push(i);
        }
        list.iter_mut().for_each(|item| *item += 1);
        list.truncate(40);
        assert_eq!((list.len(), list.get(40), list.get(39)), (40, None, Some(&40)));
        for i in 0..30 {
            list.push(i);
        }
        assert_eq!((list.len(), list.get(40), list.get(69)), (70, Some(&0), Some(&29)));
        list.truncate(100);
        assert_eq!(list.iter().count(), 70);
    }
}

//! A list that only grows and is read without a lock: each place is a `OnceLock`, in blocks that double in size.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const BLOCKS: usize = 32;

/// Grows at the end, one writer at a time (the caller sees to that); readers need no lock.
pub(crate) struct AppendVec<T> {
    blocks: [OnceLock<Box<[OnceLock<T>]>>; BLOCKS],
    len: AtomicUsize,
}

fn place(index: usize) -> (usize, usize) {
    let block = (index + 1).ilog2() as usize;
    (block, index + 1 - (1 << block))
}

impl<T> AppendVec<T> {
    pub(crate) fn new() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS], len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (block, at) = place(index);
        self.blocks.get(block)?.get()?.get(at)?.get()
    }

    /// Appends; a second caller at the same time loses nothing but may have to be told: the caller holds a lock.
    pub(crate) fn push(&self, value: T) -> usize {
        let index = self.len.load(Ordering::Relaxed);
        let (block, at) = place(index);
        let places =
            self.blocks[block].get_or_init(|| (0..1usize << block).map(|_| OnceLock::new()).collect());
        assert!(places[at].set(value).is_ok(), "one writer at a time");
        self.len.store(index + 1, Ordering::Release);
        index
    }

    /// Drops all items but the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        let end = *self.len.get_mut();
        for index in len..end {
            let (block, at) = place(index);
            if let Some(places) = self.blocks[block].get_mut() {
                places[at].take();
            }
        }
        *self.len.get_mut() = len.min(end);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let blocks = self.blocks.iter_mut().filter_map(OnceLock::get_mut);
        blocks.flat_map(|places| places.iter_mut().filter_map(OnceLock::get_mut))
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

//! [`AtomicWords`]: shared memory that consists of atomic words only.
//!
//! Marks, the hash index and `control` are changed concurrently by other threads and processes.
//! They are accessed only through this type: every access is an atomic operation on an aligned
//! `u64`, so no `&` or `&mut` to plain data ever covers bytes that another thread or process may
//! store to, and a [`StoreHook`] can observe every store.
//!
//! This module relies on its keeper (a map or an allocation) to stay in place while any clone
//! lives. The caller interprets the words, and checks that an index read from the disk is in
//! bounds: an index out of bounds panics.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Syncer;
use super::block::PageBlock;
use super::real::RealMap;
use crate::guard::removable;
use crate::sync::{AtomicU64, Ordering};

/// Observes every store made through an [`AtomicWords`] that it is attached to. A simulated disk
/// records writes through maps with it.
pub trait StoreHook: Send + Sync {
    /// Reports that a word of file `file` at `byte_offset` changed from `old` to `new`. Called
    /// after the store took effect, by the thread that made it. Concurrent stores to one word may
    /// be reported in a different order than they happened.
    fn stored(&self, file: u64, byte_offset: u64, old: u64, new: u64);
}

/// A shared writable run of atomic words: a map of a file, or memory of this process. Clones are
/// handles on the same words and keep them alive.
///
/// Every method that takes an index panics if it is not below [`len`](AtomicWords::len), as a slice
/// does.
///
/// ```
/// use pongo_core::storage::AtomicWords;
/// use std::sync::atomic::Ordering;
///
/// let words = AtomicWords::atomic_words_in_heap(16);
/// let same = words.clone();
/// words.store(9, 7, Ordering::Release);
/// assert_eq!(same.load(9, Ordering::Acquire), 7);
/// assert_eq!(same.line(8), [0, 7, 0, 0, 0, 0, 0, 0]);
/// ```
#[derive(Clone)]
pub struct AtomicWords {
    start: NonNull<AtomicU64>,
    len: usize,
    hook: Option<Arc<Hooked>>,
    /// Syncs the words; `None` for words that need no syncing because they exist only in memory.
    syncer: Option<Arc<dyn Syncer>>,
    /// Whether a store may need space on the disk.
    takes_space: bool,
    _keeper: Arc<dyn Any + Send + Sync>,
}

/// A hook, with the file and the offset in it at which the words are stored.
struct Hooked {
    hook: Arc<dyn StoreHook>,
    file: u64,
    offset: u64,
}

// SAFETY: only `AtomicU64`s, which are `Send` and `Sync`, are accessed through `start`. The keeper,
// which is also both, keeps them in place.
unsafe impl Send for AtomicWords {}
// SAFETY: as above.
unsafe impl Sync for AtomicWords {}

impl AtomicWords {
    /// Creates a handle on the `len` words at `start`, which live as long as `keeper`.
    ///
    /// # Safety
    ///
    /// `start` is aligned and valid for reads and writes of `len` words as long as `keeper` (or a
    /// clone of the `Arc`) lives, and until then references to these bytes are made only as
    /// [`AtomicU64`]s.
    pub(super) unsafe fn from_raw(
        start: NonNull<AtomicU64>,
        len: usize,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> AtomicWords {
        #[cfg(loom)]
        crate::sync::register(start.as_ptr(), len, Arc::clone(&keeper));
        AtomicWords { start, len, hook: None, syncer: None, takes_space: false, _keeper: keeper }
    }

    /// Creates a handle on all words of a shared, writable map. If its length is not a multiple of
    /// 8, the last bytes are left out. `takes_space` states whether stores may need space on the
    /// disk, so that [`make_writable`](AtomicWords::make_writable) has an effect.
    pub(super) fn from_map(map: RealMap, takes_space: bool) -> AtomicWords {
        let start =
            NonNull::new(map.map().as_mut_ptr()).expect("a map is not at address zero").cast::<AtomicU64>();
        assert!(start.is_aligned(), "maps begin on a page");
        let len = map.map().len() / size_of::<u64>();
        let keeper = Arc::new(map);
        // SAFETY: the map is readable and writable and is unmapped only when the keeper is dropped.
        // It was moved into this function, so only the keeper and the syncer own this mapping, and
        // the syncer accesses none of its bytes. Other mappings of the file are at other addresses.
        let words = unsafe { AtomicWords::from_raw(start, len, Arc::clone(&keeper) as _) };
        AtomicWords { takes_space, ..words }.with_syncer(keeper)
    }

    /// Returns whether a store through a map may need new space on the disk, as
    /// [`Storage::stores_may_allocate`] specifies.
    ///
    /// [`Storage::stores_may_allocate`]: super::Storage::stores_may_allocate
    #[inline]
    pub fn stores_may_allocate(&self) -> bool {
        self.takes_space
    }

    /// Ensures that the pages of words `range` can be stored to: if a store may need new space,
    /// allocates that space now. Otherwise costs nothing. A file system snapshot taken afterwards
    /// undoes it.
    ///
    /// # Errors
    ///
    /// Returns `StorageFull` if there is no space; without this call the store would raise a
    /// signal.
    #[inline]
    pub fn make_writable(&self, range: std::ops::Range<usize>) -> std::io::Result<()> {
        if self.takes_space { self.populate(range) } else { Ok(()) }
    }

    #[cold]
    fn populate(&self, range: std::ops::Range<usize>) -> std::io::Result<()> {
        let words = &self.all()[range];
        if words.is_empty() {
            return Ok(());
        }
        let page = super::PAGE as usize;
        // A map begins on a page boundary, so the page of its first word belongs to the map.
        let before = words.as_ptr().addr() % page;
        let start = words.as_ptr().wrapping_byte_sub(before).cast_mut().cast();
        let len = (before + size_of_val(words)).next_multiple_of(page);
        let populate = || {
            // SAFETY: the pages are inside this map, which lives as long as `self`, and the call
            // changes none of their bytes: it prepares each page as a store would, without storing.
            unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxPopulateWrite) }
        };
        match removable!("space.writable", rustix::io::retry_on_intr(populate)) {
            // Linux before 5.14 has no such call; nothing is guaranteed there
            // (docs/design/full-disk.md).
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(rustix::io::Errno::FAULT) => Err(super::file_system::no_space_for_a_page()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates zeroed words in this process's memory.
    ///
    /// # Panics
    ///
    /// Panics if there is not enough memory.
    pub fn atomic_words_in_heap(len_words: usize) -> AtomicWords {
        let bytes = len_words.checked_mul(size_of::<u64>()).expect("a length in bytes that fits usize");
        let block = PageBlock::zeroed(bytes).expect("memory for the words");
        let start = block.start();
        // SAFETY: the block holds `len_words` aligned words, stays in place until it is dropped,
        // and exposes atomics only.
        unsafe { AtomicWords::from_raw(start, len_words, Arc::new(block)) }
    }

    /// Attaches a hook that observes every store made through this handle and its clones. `file`
    /// and `offset` are passed on to the hook: the file, and the offset in it at which word 0 is
    /// stored.
    #[must_use]
    pub fn with_hook(mut self, file: u64, offset: u64, hook: Arc<dyn StoreHook>) -> AtomicWords {
        self.hook = Some(Arc::new(Hooked { hook, file, offset }));
        self
    }

    /// Attaches the syncer that [`sync`](Self::sync) calls.
    #[must_use]
    pub fn with_syncer(mut self, syncer: Arc<dyn Syncer>) -> AtomicWords {
        self.syncer = Some(syncer);
        self
    }

    /// Syncs the mapped part of the file (`fdatasync`). After `Ok`, everything that was stored in
    /// these words, through any map, and written to that part, is on the disk.
    ///
    /// Needs no descriptor, and reports every write-back that failed since the file was opened for
    /// mapping. Does nothing for words in memory.
    pub fn sync(&self) -> std::io::Result<()> {
        self.syncer.as_ref().map_or(Ok(()), |syncer| syncer.sync())
    }

    /// Returns the number of words.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the number of words is zero.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn all(&self) -> &[AtomicU64] {
        // SAFETY: the code that created `self` promised `len` valid, aligned words at `start`,
        // accessed only as atomics, for as long as the keeper lives; `self` holds the keeper.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Reads a word. `o` is an ordering of loads.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn load(&self, i: usize, o: Ordering) -> u64 {
        self.all()[i].load(o)
    }

    /// Reads the eight words starting at `i`, each by a relaxed load, with one bounds check. `i`
    /// must be a multiple of 8, so that they are one cache line.
    #[inline]
    pub fn line(&self, i: usize) -> [u64; 8] {
        debug_assert_eq!(i % 8, 0, "a line begins at a multiple of 8 words");
        let line: &[AtomicU64; 8] = self.all()[i..].first_chunk().expect("a whole line inside the words");
        [
            line[0].load(Ordering::Relaxed),
            line[1].load(Ordering::Relaxed),
            line[2].load(Ordering::Relaxed),
            line[3].load(Ordering::Relaxed),
            line[4].load(Ordering::Relaxed),
            line[5].load(Ordering::Relaxed),
            line[6].load(Ordering::Relaxed),
            line[7].load(Ordering::Relaxed),
        ]
    }

    /// Asks the processor to fetch the cache line of word `i`. Only a hint: does nothing for an
    /// index out of bounds, or on processors other than x86-64.
    #[inline]
    pub fn prefetch(&self, i: usize) {
        super::prefetch_line(self.start.as_ptr().wrapping_add(i).cast::<u8>());
    }

    /// Writes a word. `o` is an ordering of stores.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn store(&self, i: usize, v: u64, o: Ordering) {
        let word = &self.all()[i];
        if self.hook.is_none() {
            return word.store(v, o);
        }
        // The hook must receive the replaced value; a separate load could miss a store in between.
        let old = word.swap(v, o);
        self.notify_hook(i, old, v);
    }

    /// Writes `new` if the word is `current`. Returns the previous value, as `Ok` if `new` was
    /// written.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn compare_exchange(
        &self,
        i: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let old = self.all()[i].compare_exchange(current, new, success, failure)?;
        self.notify_hook(i, old, new);
        Ok(old)
    }

    /// Adds `v`, wrapping around. Returns the previous value.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn fetch_add(&self, i: usize, v: u64, o: Ordering) -> u64 {
        let old = self.all()[i].fetch_add(v, o);
        self.notify_hook(i, old, old.wrapping_add(v));
        old
    }

    /// Raises the word to at least `v`. Returns the previous value.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn fetch_max(&self, i: usize, v: u64, o: Ordering) -> u64 {
        let old = self.all()[i].fetch_max(v, o);
        self.notify_hook(i, old, old.max(v));
        old
    }

    /// Sets the bits of `v`. Returns the previous value.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn fetch_or(&self, i: usize, v: u64, o: Ordering) -> u64 {
        let old = self.all()[i].fetch_or(v, o);
        self.notify_hook(i, old, old | v);
        old
    }

    /// Clears all bits except those of `v`. Returns the previous value.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn fetch_and(&self, i: usize, v: u64, o: Ordering) -> u64 {
        let old = self.all()[i].fetch_and(v, o);
        self.notify_hook(i, old, old & v);
        old
    }

    /// Reports a change to the hook, if one is attached. Every store calls this.
    #[inline]
    fn notify_hook(&self, i: usize, old: u64, new: u64) {
        if let Some(hooked) = &self.hook {
            hooked.notify_hook(i, old, new);
        }
    }
}

impl Hooked {
    #[cold]
    fn notify_hook(&self, i: usize, old: u64, new: u64) {
        self.hook.stored(self.file, self.offset + (i * size_of::<u64>()) as u64, old, new);
    }
}

impl fmt::Debug for AtomicWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicWords")
            .field("len", &self.len)
            .field("hooked", &self.hook.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    const O: Ordering = Ordering::SeqCst;

    #[derive(Default)]
    struct Journal(Mutex<Vec<(u64, u64, u64, u64)>>);

    impl StoreHook for Journal {
        fn stored(&self, file: u64, byte_offset: u64, old: u64, new: u64) {
            self.0.lock().unwrap().push((file, byte_offset, old, new));
        }
    }

    #[test]
    fn operations_return_the_old_word() {
        let words = AtomicWords::atomic_words_in_heap(8);
        words.store(3, 5, O);
        assert_eq!(words.fetch_add(3, 2, O), 5);
        assert_eq!(words.fetch_max(3, 9, O), 7);
        assert_eq!(words.fetch_max(3, 1, O), 9);
        assert_eq!(words.fetch_or(3, 6, O), 9);
        assert_eq!(words.fetch_and(3, 3, O), 15);
        assert_eq!(words.compare_exchange(3, 4, 8, O, O), Err(3));
        assert_eq!(words.compare_exchange(3, 3, 8, O, O), Ok(3));
        assert_eq!(words.line(0), [0, 0, 0, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn hook_sees_each_successful_store() {
        let journal = Arc::new(Journal::default());
        let plain = AtomicWords::atomic_words_in_heap(16);
        let words = plain.clone().with_hook(4, 4096, journal.clone());
        words.store(1, 5, O);
        words.fetch_add(1, u64::MAX, O);
        words.fetch_max(1, 9, O);
        words.fetch_or(1, 6, O);
        words.clone().fetch_and(1, 3, O);
        assert_eq!(words.compare_exchange(1, 4, 8, O, O), Err(3));
        assert_eq!(words.compare_exchange(1, 3, 8, O, O), Ok(3));
        plain.store(2, 1, O);
        let at = 4096 + 8;
        let expected = [(0, 5), (5, 4), (4, 9), (9, 15), (15, 3), (3, 8)].map(|(old, new)| (4, at, old, new));
        assert_eq!(*journal.0.lock().unwrap(), expected);
        assert_eq!(words.load(2, O), 1);
    }

    #[test]
    fn bounds_are_those_of_a_slice() {
        let words = AtomicWords::atomic_words_in_heap(15);
        words.prefetch(usize::MAX);
        let panics = |access: &dyn Fn()| catch_unwind(AssertUnwindSafe(access)).is_err();
        for outside in [15, usize::MAX] {
            assert!(panics(&|| _ = words.load(outside, O)));
            assert!(panics(&|| words.store(outside, 1, O)));
        }
        assert!(panics(&|| _ = words.line(8)), "the line ends at word 16");
        assert!(AtomicWords::atomic_words_in_heap(0).is_empty());
    }

    #[test]
    fn threads_see_each_other() {
        let words = AtomicWords::atomic_words_in_heap(8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| _ = words.fetch_add(0, 1, O)));
            }
        });
        assert_eq!(words.load(0, O), 400);
    }
}

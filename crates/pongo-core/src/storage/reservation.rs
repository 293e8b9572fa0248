//! [`Reservation`]: one range of addresses into which the chunks of a table are mapped, one behind the other.
//!
//! The range is reserved with nothing in it; [`File::map_into`](super::File::map_into) fills it from the bottom up, and
//! [`unmap_front`](Reservation::unmap_front) gives back what is no longer needed at its lower end. What is mapped is
//! always one interval `[low, high)`, so that a reader needs two loads and a few comparisons to know that a row is there,
//! and a run of rows over many chunks is one slice.
//!
//! Relied on: whoever takes a [`slice`](Reservation::slice) knows that its bytes were written and are not written again
//! (rows below a snapshot's length are such bytes). Promised: the base address never changes, `high` never falls, and
//! `low` never falls below what was mapped before.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::PAGE;
use super::maps::Counted;

const PAGE_BYTES: usize = PAGE as usize;

/// A reserved range of addresses with read-only maps in it. Dropping it unmaps them all.
///
/// Any thread may take slices while another maps.
pub struct Reservation {
    base: NonNull<u8>,
    len: usize,
    low: AtomicUsize,
    high: AtomicUsize,
    region: Arc<Region>,
}

// SAFETY: `base` points into the region, which the reservation keeps alive and which is `Send` and `Sync`; what is read
// through it is promised not to change by the contract of `slice`.
unsafe impl Send for Reservation {}
// SAFETY: as above; the bounds are atomics and mapping is serialised by the region's mutex.
unsafe impl Sync for Reservation {}

/// The address range itself. Apart from its [`Reservation`] because a file of the memory storage must be able to copy
/// later writes into it, and to notice that it is gone.
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    /// What is mapped; the reservation's two atomics are copies of it for readers that take no lock.
    bounds: Mutex<Range<usize>>,
    /// The range itself, and each file that is mapped in it.
    maps: Counted,
}

enum Backing {
    /// Address space of the kernel's: `PROT_NONE` where nothing is mapped.
    Kernel,
    /// A zeroed allocation, readable throughout; for where there is no kernel, as under Miri.
    Heap(Layout),
}

// SAFETY: the region owns its address range; the bytes are changed only in `copy_in`, under the mutex or before they
// are published by `high`, and never where a slice is alive (the contract of `Reservation::slice`).
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

#[expect(
    clippy::len_without_is_empty,
    reason = "a reservation has a length from the start; `mapped` says what is in it"
)]
impl Reservation {
    /// Reserves `len` bytes of address space, a multiple of [`PAGE`], that cost no memory and no disk.
    ///
    /// `InvalidInput` for another length, `OutOfMemory` if the address space or a limit on it is exhausted.
    pub(super) fn in_kernel(len: usize) -> io::Result<Reservation> {
        check_len(len)?;
        // SAFETY: with a null address the kernel chooses a range that nothing else uses.
        let base =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), reserved()) };
        let base =
            base.map_err(|e| describe(e.into(), format!("cannot reserve {len} bytes of address space")))?;
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero unasked");
        Ok(Reservation::over(Region {
            base,
            len,
            backing: Backing::Kernel,
            bounds: Mutex::new(0..0),
            maps: Counted::new(1),
        }))
    }

    /// The same over an allocation, without any system call. Only files of the memory storage can be mapped into it.
    pub(super) fn in_heap(len: usize) -> io::Result<Reservation> {
        check_len(len)?;
        let layout = Layout::from_size_align(len, PAGE_BYTES)
            .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, format!("no {len} bytes of memory")))?;
        // SAFETY: `check_len` made sure that the size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base)
            .ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, format!("no {len} bytes of memory")))?;
        Ok(Reservation::over(Region {
            base,
            len,
            backing: Backing::Heap(layout),
            bounds: Mutex::new(0..0),
            maps: Counted::new(0),
        }))
    }

    fn over(region: Region) -> Reservation {
        let (low, high) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Reservation { base: region.base, len: region.len, low, high, region: Arc::new(region) }
    }

    /// Bytes of address space, mapped or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where the range begins: a multiple of [`PAGE`] that never changes. Only bytes inside [`mapped`](Self::mapped) may be
    /// read through it, by the contract of [`slice`](Self::slice).
    #[inline]
    pub fn base(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The same, to write through, for [`WritableMap`](super::WritableMap).
    pub(super) fn start(&self) -> NonNull<u8> {
        self.base
    }

    /// The bytes that are mapped.
    #[inline]
    pub fn mapped(&self) -> Range<usize> {
        // `high` first: it is stored after `low`, so whoever sees a `high` sees the `low` that belongs to it.
        let high = self.high.load(Ordering::Acquire);
        let low = self.low.load(Ordering::Relaxed);
        low..high.max(low)
    }

    /// The `len` bytes at `at`, or `None` unless all of them are mapped. Costs two loads and three comparisons.
    ///
    /// # Safety
    ///
    /// For as long as the slice lives:
    /// - each of the bytes was written before (which the caller learned by an acquiring load, a lock or the like), or was
    ///   never written and reads as zero, and no one writes it again: no [`write_at`](super::File::write_at), no store
    ///   through a [`Words`](super::Words) of the file, in this process or another;
    /// - the file under them is not truncated;
    /// - [`unmap_front`](Self::unmap_front) is not called for them.
    #[inline]
    pub unsafe fn slice(&self, at: usize, len: usize) -> Option<&[u8]> {
        // `high` first, as in `mapped`.
        let high = self.high.load(Ordering::Acquire);
        let low = self.low.load(Ordering::Relaxed);
        let end = at.checked_add(len)?;
        if at < low || end > high {
            return None;
        }
        // SAFETY: `at <= high <= self.len`, so the result is inside the range or one past it.
        let start = unsafe { self.base.add(at) };
        // SAFETY: `[at, end)` lies in `[low, high)`, all of which is mapped readable for as long as `self` is borrowed, since
        // only `unmap_front` unmaps and the caller promises not to call it for these bytes; the caller promises as well
        // that nobody writes to them.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// Asks the processor to fetch the cache line of byte `at`: a hint that never faults, wherever `at` is. Does nothing on
    /// processors other than x86-64.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        super::prefetch_line(self.base.as_ptr().wrapping_add(at));
    }

    /// Tells the kernel that the mapped part of `range` will be read here and there: it then reads no pages ahead.
    pub fn advise_random(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::Random)
    }

    /// Tells the kernel that the mapped part of `range` will be read in order: it then reads far ahead.
    pub fn advise_sequential(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::Sequential)
    }

    /// Takes back what `advise_random` or `advise_sequential` said.
    pub fn advise_normal(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::Normal)
    }

    fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        let bounds = self.region.lock();
        let start = range.start.max(bounds.start) / PAGE_BYTES * PAGE_BYTES;
        let end = range.end.min(bounds.end);
        if start >= end || matches!(self.region.backing, Backing::Heap(_)) {
            return Ok(());
        }
        let address = self.region.address(start);
        // SAFETY: the range lies inside this reservation's mapped part, which stays mapped while `bounds` is locked, and
        // none of the three kinds of advice that get here changes what the bytes are.
        unsafe { rustix::mm::madvise(address.cast(), end - start, advice) }
            .map_err(|e| describe(e.into(), format!("cannot advise on bytes {start}..{end} of a map")))
    }

    /// Unmaps `[low, up_to)`, so that the files there can give their space back; the addresses stay reserved. Does nothing
    /// if that is below `low` already.
    ///
    /// `InvalidInput` if `up_to` is no multiple of [`PAGE`] or above what is mapped. After another error the bytes are
    /// out of reach all the same, though perhaps still mapped until the reservation is dropped.
    ///
    /// # Safety
    ///
    /// No slice of bytes below `up_to` is alive, and none is being taken.
    pub unsafe fn unmap_front(&self, up_to: usize) -> io::Result<()> {
        let mut bounds = self.region.lock();
        if !up_to.is_multiple_of(PAGE_BYTES) || up_to > bounds.end {
            return Err(invalid(format!(
                "cannot unmap up to byte {up_to}: expected a multiple of {PAGE} that is at most {}",
                bounds.end
            )));
        }
        if up_to <= bounds.start {
            return Ok(());
        }
        let start = bounds.start;
        bounds.start = up_to;
        self.low.store(up_to, Ordering::Release);
        match self.region.backing {
            // SAFETY: `[start, up_to)` was mapped, and the caller promises that nobody holds a slice of it.
            Backing::Kernel => unsafe { self.region.make_inaccessible(start, up_to - start) },
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Maps `[offset, offset + len)` of the file behind `fd` read-only at `at`. The caller has checked them against the file.
    pub(super) fn map_file(&self, fd: BorrowedFd<'_>, offset: u64, len: usize, at: usize) -> io::Result<()> {
        self.map_file_for(ProtFlags::READ, fd, offset, len, at)
    }

    /// The same for reading and writing: for [`WritableMap`](super::WritableMap), which gives nobody else this reservation.
    pub(super) fn map_file_writable(
        &self,
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        at: usize,
    ) -> io::Result<()> {
        self.map_file_for(ProtFlags::READ | ProtFlags::WRITE, fd, offset, len, at)
    }

    fn map_file_for(
        &self,
        access: ProtFlags,
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        at: usize,
    ) -> io::Result<()> {
        self.extend(at, len, |region| {
            if matches!(region.backing, Backing::Heap(_)) {
                return Err(invalid(
                    "a reservation of the memory storage takes no map of a real file".into(),
                ));
            }
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: `extend` made sure that the range lies inside this reservation, at or above everything that was ever
            // mapped in it, so no reference to any of it exists and nothing but our own empty reservation is replaced.
            let mapped =
                unsafe { rustix::mm::mmap(region.address(at).cast(), len, access, flags, fd, offset) };
            match mapped {
                Ok(_) => {
                    region.maps.add();
                    Ok(())
                }
                Err(error) => {
                    region.close_hole(at, len);
                    Err(error.into())
                }
            }
        })
    }

    /// Makes `len` bytes at `at` zeroed memory, readable and writable.
    pub(super) fn map_zeroed(&self, at: usize, len: usize) -> io::Result<()> {
        self.extend(at, len, |region| region.make_writable(at, len))
    }

    /// Makes `len` bytes at `at` readable memory that begins as what `read(buf, position)` gives, for a file of the memory
    /// storage, which then passes its later writes on through [`Region::write`].
    pub(super) fn map_memory(
        &self,
        at: usize,
        len: usize,
        mut read: impl FnMut(&mut [u8], usize),
    ) -> io::Result<Weak<Region>> {
        self.extend(at, len, |region| {
            region.make_writable(at, len)?;
            let mut page = [0; PAGE_BYTES];
            for position in (0..len).step_by(PAGE_BYTES) {
                read(&mut page, position);
                // Untouched memory is zero already, and stays free of charge.
                if page.iter().any(|b| *b != 0) {
                    // SAFETY: `extend` made sure that the page lies inside the range, above everything that was mapped, so no
                    // slice of it exists; it has just been made writable.
                    unsafe { region.copy_in(at + position, &page) };
                }
            }
            Ok(())
        })?;
        Ok(Arc::downgrade(&self.region))
    }

    /// Checks a new map's place, has it made, and publishes it.
    fn extend(&self, at: usize, len: usize, map: impl FnOnce(&Region) -> io::Result<()>) -> io::Result<()> {
        let mut bounds = self.region.lock();
        let aligned = at.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES) && len > 0;
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        // An empty interval may begin anywhere above all that was mapped before; below, a reader that still sees the old
        // `high` with the new `low` would take bytes for mapped that are not.
        let in_order = if bounds.is_empty() { at >= bounds.end } else { at == bounds.end };
        if !(aligned && inside && in_order) {
            return Err(invalid(format!(
                "cannot map {len} bytes at byte {at} of a reservation of {} bytes with {}..{} mapped: expected multiples of \
                 {PAGE}, the map inside the reservation and directly behind what is mapped",
                self.len, bounds.start, bounds.end
            )));
        }
        map(&self.region)?;
        if bounds.is_empty() {
            bounds.start = at;
            self.low.store(at, Ordering::Release);
        }
        bounds.end = at + len;
        self.high.store(bounds.end, Ordering::Release);
        Ok(())
    }
}

impl Region {
    fn lock(&self) -> MutexGuard<'_, Range<usize>> {
        // Every change of the bounds is a single assignment, so a panic elsewhere leaves them true.
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.len);
        self.base.as_ptr().wrapping_add(at)
    }

    /// Copies bytes that were written to a file of the memory storage to where the file is mapped; `false` if the whole view
    /// `[at, at + len)`, in which they lie, is no longer mapped and need not be told again. `position` is relative to `at`.
    ///
    /// Like the kernel, it changes these bytes and no others, so that slices of bytes beside them are not disturbed.
    pub(super) fn write(&self, at: usize, len: usize, position: usize, bytes: &[u8]) -> bool {
        let bounds = self.lock();
        if bounds.start >= at + len {
            return false;
        }
        let begin = (at + position).max(bounds.start);
        let end = (at + position + bytes.len()).min(at + len).min(bounds.end);
        if begin < end {
            let bytes = &bytes[begin - (at + position)..][..end - begin];
            // SAFETY: `[begin, end)` lies inside what `map_memory` made writable and `unmap_front` has not unmapped, and the
            // lock keeps it so. Whoever holds a slice of it promised that nobody would write to the file there, so no
            // slice covers these bytes.
            unsafe { self.copy_in(begin, bytes) };
        }
        true
    }

    /// # Safety
    ///
    /// `[at, at + bytes.len())` lies inside the range, is writable, and no reference to any of it exists.
    unsafe fn copy_in(&self, at: usize, bytes: &[u8]) {
        // SAFETY: the source is a slice; the target is valid for writes and not aliased by the caller's promise; they cannot
        // overlap because nobody has a reference to the target.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(at), bytes.len()) }
    }

    /// Makes part of the reservation, which nobody uses yet, zeroed memory.
    fn make_writable(&self, at: usize, len: usize) -> io::Result<()> {
        match self.backing {
            Backing::Heap(_) => Ok(()),
            Backing::Kernel => {
                let flags = MapFlags::PRIVATE | MapFlags::FIXED;
                let access = ProtFlags::READ | ProtFlags::WRITE;
                // SAFETY: called from `extend` only, for a range inside this reservation that was never mapped: nothing refers
                // to it, and only our own empty reservation is replaced.
                let mapped =
                    unsafe { rustix::mm::mmap_anonymous(self.address(at).cast(), len, access, flags) };
                if mapped.is_err() {
                    self.close_hole(at, len);
                }
                Ok(mapped.map(|_| ())?)
            }
        }
    }

    /// Reserves a part again after a failed map: some kernels take the old mapping away before they notice the failure, and
    /// a foreign map that slipped into the hole would be unmapped with the reservation. Where nothing was taken away, the
    /// kernel refuses, which is as well.
    fn close_hole(&self, at: usize, len: usize) {
        let flags = reserved() | MapFlags::FIXED_NOREPLACE;
        // SAFETY: `FIXED_NOREPLACE` maps only where there is nothing.
        let _ =
            unsafe { rustix::mm::mmap_anonymous(self.address(at).cast(), len, ProtFlags::empty(), flags) };
    }

    /// # Safety
    ///
    /// `[at, at + len)` lies inside the range, and no reference to any of it exists.
    unsafe fn make_inaccessible(&self, at: usize, len: usize) -> io::Result<()> {
        let flags = reserved() | MapFlags::FIXED;
        // SAFETY: the range is ours alone and nobody refers to it, by the caller's promise.
        unsafe { rustix::mm::mmap_anonymous(self.address(at).cast(), len, ProtFlags::empty(), flags) }
            .map(|_| ())
            .map_err(|e| {
                describe(e.into(), format!("cannot unmap {len} bytes at byte {at} of a reservation"))
            })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.backing {
            Backing::Kernel => {
                // SAFETY: the range is ours alone; slices borrow from the reservation, so none is left. It fails only for
                // arguments that could not have been mapped.
                let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
                debug_assert!(unmapped.is_ok(), "unmapping a reservation: {unmapped:?}");
            }
            // SAFETY: this is the pointer and the layout that `alloc_zeroed` was called with, and it is freed only here.
            Backing::Heap(layout) => unsafe { dealloc(self.base.as_ptr(), layout) },
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("base", &self.base)
            .field("len", &self.len)
            .field("mapped", &self.mapped())
            .finish()
    }
}

/// Flags of address space that holds nothing and is charged to nobody.
fn reserved() -> MapFlags {
    MapFlags::PRIVATE | MapFlags::NORESERVE
}

fn check_len(len: usize) -> io::Result<()> {
    if len == 0 || !len.is_multiple_of(PAGE_BYTES) || len > isize::MAX as usize {
        return Err(invalid(format!("cannot reserve {len} bytes: expected a positive multiple of {PAGE}")));
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn describe(error: io::Error, what: String) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: usize = PAGE_BYTES;

    fn both(len: usize) -> Vec<Reservation> {
        let mut both = vec![Reservation::in_heap(len).unwrap()];
        if !cfg!(miri) {
            both.push(Reservation::in_kernel(len).unwrap());
        }
        both
    }

    fn fill(with: u8) -> impl FnMut(&mut [u8], usize) {
        move |page, _| page.fill(with)
    }

    fn slice(r: &Reservation, at: usize, len: usize) -> Option<&[u8]> {
        // SAFETY: no test here writes to bytes while it holds a slice of them, nor unmaps them.
        unsafe { r.slice(at, len) }
    }

    #[test]
    fn only_what_is_mapped_can_be_sliced() {
        for r in both(8 * P) {
            assert_eq!(slice(&r, 0, 1), None);
            assert!(r.mapped().is_empty());
            r.map_memory(2 * P, P, fill(1)).unwrap();
            r.map_memory(3 * P, 2 * P, fill(2)).unwrap();
            assert_eq!(r.mapped(), 2 * P..5 * P);
            assert_eq!(slice(&r, 2 * P - 1, 1), None);
            assert_eq!(slice(&r, 3 * P - 1, 2), Some(&[1, 2][..]));
            assert_eq!(slice(&r, 2 * P, 3 * P).map(<[u8]>::len), Some(3 * P));
            assert_eq!(slice(&r, 2 * P, 3 * P + 1), None);
            assert_eq!(slice(&r, 5 * P, 1), None);
            assert_eq!(slice(&r, 5 * P, 0), Some(&[][..]));
            assert_eq!(slice(&r, 3 * P, usize::MAX), None);
            r.prefetch(usize::MAX);
        }
    }

    #[test]
    fn a_map_goes_directly_behind_the_last() {
        for r in both(8 * P) {
            for (at, len) in [(0, 9 * P), (P, 8 * P), (1, P), (0, 1), (0, 0), (usize::MAX - P + 1, P)] {
                let error = r.map_memory(at, len, fill(1)).err().unwrap();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{len} bytes at {at}: {error}");
            }
            r.map_memory(P, P, fill(1)).unwrap();
            for at in [0, P, 3 * P] {
                assert!(r.map_memory(at, P, fill(1)).is_err(), "at {at}");
            }
            r.map_memory(2 * P, 6 * P, fill(1)).unwrap();
            assert_eq!(r.mapped(), P..8 * P);
        }
    }

    #[test]
    fn the_front_can_be_unmapped_up_to_the_end() {
        for r in both(8 * P) {
            let view = r.map_memory(P, 3 * P, fill(1)).unwrap();
            for bad in [P + 1, 5 * P] {
                // SAFETY: no slice is alive.
                assert!(unsafe { r.unmap_front(bad) }.is_err());
            }
            // SAFETY: no slice is alive.
            unsafe { r.unmap_front(3 * P) }.unwrap();
            // SAFETY: no slice is alive.
            unsafe { r.unmap_front(2 * P) }.unwrap();
            assert_eq!(r.mapped(), 3 * P..4 * P);
            assert_eq!((slice(&r, 2 * P, 1), slice(&r, 3 * P, 1)), (None, Some(&[1][..])));
            let region = view.upgrade().unwrap();
            assert!(region.write(P, 3 * P, 0, &[7; 3 * P]), "part of the view is still mapped");
            assert_eq!(slice(&r, 3 * P, 1), Some(&[7][..]));
            // SAFETY: no slice is alive.
            unsafe { r.unmap_front(4 * P) }.unwrap();
            assert!(!region.write(P, 3 * P, 0, &[8; 3 * P]), "none of it is");
            assert!(r.map_memory(P, P, fill(1)).is_err(), "below what was mapped before");
            r.map_memory(5 * P, P, fill(3)).unwrap();
            assert_eq!(r.mapped(), 5 * P..6 * P);
            drop(r);
            drop(region);
            assert!(view.upgrade().is_none());
        }
    }

    #[test]
    fn readers_keep_up_with_a_mapper() {
        for r in both(64 * P) {
            std::thread::scope(|scope| {
                scope.spawn(|| (0..64).for_each(|i| _ = r.map_memory(i * P, P, fill(i as u8 + 1)).unwrap()));
                let mut seen = 0;
                while seen < 64 {
                    if let Some(byte) = slice(&r, seen * P, P) {
                        seen += 1;
                        assert_eq!(byte[P - 1] as usize, seen);
                    }
                    std::hint::spin_loop();
                }
            });
        }
    }

    #[test]
    fn odd_lengths_are_refused() {
        for len in [0, 1, P + 1, usize::MAX / P * P] {
            assert!(Reservation::in_heap(len).is_err());
            assert!(Reservation::in_kernel(len).is_err());
        }
        if !cfg!(miri) {
            assert_eq!(Reservation::in_kernel(1 << 60).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
        }
    }

    #[test]
    fn advice_reaches_mapped_pages_only() {
        for r in both(8 * P) {
            r.advise_random(0..usize::MAX).unwrap();
            r.map_memory(0, 2 * P, fill(1)).unwrap();
            r.advise_random(0..P + 5).unwrap();
            r.advise_sequential(5..8 * P).unwrap();
            r.advise_normal(0..usize::MAX).unwrap();
            assert_eq!(slice(&r, 0, 1), Some(&[1][..]));
        }
    }
}

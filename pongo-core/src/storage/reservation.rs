//! [`Reservation`]: one address range into which the chunks of a table are mapped one after the
//! other.
//!
//! The range is reserved with nothing mapped. [`File::map_into`](super::File::map_into) fills it
//! from the bottom up, and [`unmap_front`](Reservation::unmap_front) unmaps its lower end when it
//! is no longer needed. The mapped part is always one interval `[low, high)`, so that a reader
//! needs two loads and a few comparisons to know that a row is mapped, and a run of rows over many
//! chunks is one slice.
//!
//! Requires: a caller of [`slice`](Reservation::slice) knows that the bytes were written and are
//! not written again (rows below a snapshot's length are such bytes). Guarantees: the base address
//! never changes, `high` never decreases, and `low` never falls below what was mapped before.

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

/// A reserved address range with read-only maps in it. Dropping it unmaps all of them.
///
/// Any thread may take slices while another one maps.
pub struct Reservation {
    base: NonNull<u8>,
    len: usize,
    low: AtomicUsize,
    high: AtomicUsize,
    region: Arc<Region>,
}

// SAFETY: `base` points into the region, which the reservation keeps alive and which is `Send` and
// `Sync`. By the contract of `slice`, bytes that are read through it do not change.
unsafe impl Send for Reservation {}
// SAFETY: as above; the bounds are atomics, and mapping is serialised by the region's mutex.
unsafe impl Sync for Reservation {}

/// The address range itself. It is separate from its [`Reservation`] because a file of the memory
/// storage must be able to copy later writes into it, and to detect that it was dropped.
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    /// The mapped interval. The reservation's two atomics are copies of it for readers that take no
    /// lock.
    bounds: Mutex<Range<usize>>,
    /// Counts the range itself and each file that is mapped in it.
    maps: Counted,
}

enum Backing {
    /// Address space reserved by the kernel: `PROT_NONE` where nothing is mapped.
    Kernel,
    /// A zeroed allocation, readable throughout, for environments without a kernel, such as Miri.
    Heap(Layout),
}

// SAFETY: the region owns its address range. Its bytes are changed only in `copy_in`, under the
// mutex or before `high` publishes them, and never where a slice is alive (the contract of
// `Reservation::slice`).
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

#[expect(
    clippy::len_without_is_empty,
    reason = "a reservation has a length from the start; `mapped` says what is in it"
)]
impl Reservation {
    /// Reserves `len` bytes of address space, a multiple of [`PAGE`]. Costs no memory and no disk
    /// space.
    ///
    /// Returns `InvalidInput` for another length, and `OutOfMemory` if the address space or a limit
    /// on it is exhausted.
    pub(super) fn in_kernel(len: usize) -> io::Result<Reservation> {
        check_len(len)?;
        // SAFETY: with a null address the kernel chooses an unused range.
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

    /// Reserves `len` bytes as an allocation, without a system call. Only files of the memory
    /// storage can be mapped into it.
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

    /// Returns the size of the address range in bytes, mapped or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the start of the range: a multiple of [`PAGE`] that never changes. Only bytes inside
    /// [`mapped`](Self::mapped) may be read through it, under the contract of
    /// [`slice`](Self::slice).
    #[inline]
    pub fn base(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// Returns the start of the range for writing, for [`WritableMap`](super::WritableMap).
    pub(super) fn start(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the mapped interval.
    #[inline]
    pub fn mapped(&self) -> Range<usize> {
        // Load `high` first: it is stored after `low`, so a thread that reads a `high` also reads
        // the matching `low`.
        let high = self.high.load(Ordering::Acquire);
        let low = self.low.load(Ordering::Relaxed);
        low..high.max(low)
    }

    /// Returns the `len` bytes at `at`, or `None` unless all of them are mapped.
    ///
    /// Costs two loads and three comparisons.
    ///
    /// # Safety
    ///
    /// For as long as the slice lives:
    /// - each of the bytes was written before (which the caller learned by an acquire load, a lock
    ///   or the like), or was never written and reads as zero, and no thread or process writes it
    ///   again: no [`write_at`](super::File::write_at), no store through an
    ///   [`AtomicWords`](super::AtomicWords) of the file, in this process or another;
    /// - the underlying file is not truncated;
    /// - [`unmap_front`](Self::unmap_front) is not called for them.
    #[inline]
    pub unsafe fn slice(&self, at: usize, len: usize) -> Option<&[u8]> {
        // Load `high` first, as in `mapped`.
        let high = self.high.load(Ordering::Acquire);
        let low = self.low.load(Ordering::Relaxed);
        let end = at.checked_add(len)?;
        if at < low || end > high {
            return None;
        }
        // SAFETY: `at <= high <= self.len`, so the result is inside the range or one past its end.
        let start = unsafe { self.base.add(at) };
        // SAFETY: `[at, end)` is inside `[low, high)`, all of which stays mapped and readable while
        // `self` is borrowed: only `unmap_front` unmaps, and the caller promises not to call it for
        // these bytes. The caller also promises that the bytes are not written while the slice
        // lives.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// Asks the processor to fetch the cache line of byte `at`. A hint that never faults, whatever
    /// `at` is. Does nothing on processors other than x86-64.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        super::prefetch_line(self.base.as_ptr().wrapping_add(at));
    }

    /// Advises the kernel that the mapped part of `range` will be read in random order, so that it
    /// does no readahead.
    pub fn advise_random(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::Random)
    }

    /// Advises the kernel that the mapped part of `range` will be read in order, so that it reads
    /// far ahead.
    pub fn advise_sequential(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::Sequential)
    }

    /// Resets the effect of `advise_random` or `advise_sequential`.
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
        // SAFETY: the range is inside this reservation's mapped part, which stays mapped while
        // `bounds` is locked, and none of the three kinds of advice used here changes the contents.
        unsafe { rustix::mm::madvise(address.cast(), end - start, advice) }
            .map_err(|e| describe(e.into(), format!("cannot advise on bytes {start}..{end} of a map")))
    }

    /// Unmaps `[low, up_to)`, so that the disk space of the files mapped there can be freed. The
    /// addresses stay reserved. Does nothing if `up_to` is not above `low`.
    ///
    /// Returns `InvalidInput` if `up_to` is not a multiple of [`PAGE`] or is above the mapped
    /// interval. After any other error the bytes are inaccessible through this type as well,
    /// although they may stay mapped until the reservation is dropped.
    ///
    /// # Safety
    ///
    /// No slice of bytes below `up_to` is alive, and no thread is taking one.
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
            // SAFETY: `[start, up_to)` was mapped, and the caller promises that no slice of it is
            // alive.
            Backing::Kernel => unsafe { self.region.make_inaccessible(start, up_to - start) },
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Maps `[offset, offset + len)` of the file `fd` read-only at `at`. The caller has checked
    /// them against the file.
    pub(super) fn map_file(&self, fd: BorrowedFd<'_>, offset: u64, len: usize, at: usize) -> io::Result<()> {
        self.map_file_for(ProtFlags::READ, fd, offset, len, at)
    }

    /// Maps like [`map_file`](Self::map_file), for reading and writing: for
    /// [`WritableMap`](super::WritableMap), which shares this reservation with no other code.
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
            // SAFETY: `extend` made sure that the range is inside this reservation, at or above
            // everything that was ever mapped in it. So no reference to any of it exists, and the
            // map replaces only our own empty reservation.
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

    /// Makes the `len` bytes at `at` zeroed memory, readable and writable.
    pub(super) fn map_zeroed(&self, at: usize, len: usize) -> io::Result<()> {
        self.extend(at, len, |region| region.make_writable(at, len))
    }

    /// Makes the `len` bytes at `at` readable memory whose initial contents are supplied by
    /// `read(buf, position)`. Used for a file of the memory storage, which forwards its later
    /// writes through [`Region::write`].
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
                // Untouched memory is zero already and does not use physical memory.
                if page.iter().any(|b| *b != 0) {
                    // SAFETY: `extend` made sure that the page is inside the range, above
                    // everything that was mapped before, so no slice of it exists. It was made
                    // writable just above.
                    unsafe { region.copy_in(at + position, &page) };
                }
            }
            Ok(())
        })?;
        Ok(Arc::downgrade(&self.region))
    }

    /// Checks the position of a new map, calls `map` to create it, and publishes it.
    fn extend(&self, at: usize, len: usize, map: impl FnOnce(&Region) -> io::Result<()>) -> io::Result<()> {
        let mut bounds = self.region.lock();
        let aligned = at.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES) && len > 0;
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        // An empty interval may begin anywhere at or above everything that was mapped before. Below
        // that, a reader that still reads the old `high` with the new `low` would treat unmapped
        // bytes as mapped.
        let in_order = if bounds.is_empty() { at >= bounds.end } else { at == bounds.end };
        if !(aligned && inside && in_order) {
            return Err(invalid(format!(
                "cannot map {len} bytes at byte {at} of a reservation of {} bytes with {}..{} mapped: \
                 expected multiples of {PAGE}, the map inside the reservation and directly behind what is \
                 mapped",
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
        // Every change of the bounds is a single assignment, so they stay consistent after a panic
        // in another thread.
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.len);
        self.base.as_ptr().wrapping_add(at)
    }

    /// Copies bytes that were written to a file of the memory storage to the place where the file
    /// is mapped. `position` is relative to `at`. Returns `false` if the whole view
    /// `[at, at + len)` is unmapped, so that later writes need not be forwarded.
    ///
    /// Like the kernel, it changes only these bytes, so that slices of adjacent bytes are not
    /// affected.
    pub(super) fn write(&self, at: usize, len: usize, position: usize, bytes: &[u8]) -> bool {
        let bounds = self.lock();
        if bounds.start >= at + len {
            return false;
        }
        let begin = (at + position).max(bounds.start);
        let end = (at + position + bytes.len()).min(at + len).min(bounds.end);
        if begin < end {
            let bytes = &bytes[begin - (at + position)..][..end - begin];
            // SAFETY: `[begin, end)` is inside the range that `map_memory` made writable and
            // `unmap_front` has not unmapped, and the lock keeps it so. A caller that holds a slice
            // promised that the file is not written there, so no slice covers these bytes.
            unsafe { self.copy_in(begin, bytes) };
        }
        true
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Safety
    ///
    /// `[at, at + bytes.len())` is inside the range, is writable, and no reference to any of it
    /// exists.
    unsafe fn copy_in(&self, at: usize, bytes: &[u8]) {
        // SAFETY: the source is a slice. By the caller's promise the target is valid for writes and
        // not aliased. The two cannot overlap because no reference to the target exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(at), bytes.len()) }
    }

    /// Makes an unused part of the reservation zeroed, writable memory.
    fn make_writable(&self, at: usize, len: usize) -> io::Result<()> {
        match self.backing {
            Backing::Heap(_) => Ok(()),
            Backing::Kernel => {
                let flags = MapFlags::PRIVATE | MapFlags::FIXED;
                let access = ProtFlags::READ | ProtFlags::WRITE;
                // SAFETY: called from `extend` only, for a range inside this reservation that was
                // never mapped: no reference to it exists, and the map replaces only our own empty
                // reservation.
                let mapped =
                    unsafe { rustix::mm::mmap_anonymous(self.address(at).cast(), len, access, flags) };
                if mapped.is_err() {
                    self.close_hole(at, len);
                }
                Ok(mapped.map(|_| ())?)
            }
        }
    }

    /// Reserves a part again after a failed map. Some kernels remove the old mapping before they
    /// detect the failure, and an unrelated map that was placed into the hole would be unmapped
    /// with the reservation. If nothing was removed, the call fails, and the old mapping stays as
    /// it is.
    fn close_hole(&self, at: usize, len: usize) {
        let flags = reserved() | MapFlags::FIXED_NOREPLACE;
        // SAFETY: `FIXED_NOREPLACE` maps only where nothing is mapped.
        let _ =
            unsafe { rustix::mm::mmap_anonymous(self.address(at).cast(), len, ProtFlags::empty(), flags) };
    }

    /// Unmaps `[at, at + len)` by mapping inaccessible memory over it.
    ///
    /// # Safety
    ///
    /// `[at, at + len)` is inside the range, and no reference to any of it exists.
    unsafe fn make_inaccessible(&self, at: usize, len: usize) -> io::Result<()> {
        let flags = reserved() | MapFlags::FIXED;
        // SAFETY: the range belongs to this region, and by the caller's promise no reference to it
        // exists.
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
                // SAFETY: the range belongs to this region, and no slice of it is alive, because
                // slices borrow from the reservation. The call fails only for arguments with which
                // the range could not have been mapped.
                let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
                debug_assert!(unmapped.is_ok(), "unmapping a reservation: {unmapped:?}");
            }
            // SAFETY: this pointer and this layout come from the call of `alloc_zeroed`, and the
            // memory is freed only here.
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

/// Returns the flags for address space that holds nothing and is not charged to any memory limit.
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
        // SAFETY: no test here writes to bytes or unmaps them while it holds a slice of them.
        unsafe { r.slice(at, len) }
    }

    #[test]
    fn only_mapped_bytes_can_be_sliced() {
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
    fn maps_are_adjacent() {
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
    fn front_can_be_unmapped() {
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

//! Storage: the traits through which the engine accesses files, maps and locks.
//!
//! All persistent bytes are accessed through [`Storage`] and [`File`], so that the same engine runs
//! on real files ([`RealStorage`]), on plain memory ([`MemoryStorage`]) and, in tests, on a
//! simulated disk that loses, reorders and tears unsynced writes.
//!
//! | module | purpose |
//! | --- | --- |
//! | `real` | files of one folder: `pwrite`, `fallocate(2)`, `fdatasync`, OFD locks, maps |
//! | `linux` | the two system calls that rustix does not have |
//! | `file_system`, `extent_map` | detection of the file system type; allocated extents of a file |
//! | `memory` | the same behaviour over plain allocations, in one process |
//! | `block`, `extents` | storage of a memory file: words whose address is stable while mapped |
//! | `host` | detection of file systems whose locks are kept by this kernel |
//! | `locks`, `memory_quota` | byte-range locks of memory files, and their quota on a limited disk |
//! | `maps` | number of maps of this process, and its limit |
//! | `open_files` | files that are opened on demand: few descriptors for many files |
//! | `forward` | the methods of a storage that wraps another one |
//! | `reservation` | one reserved address range, filled with read-only maps from the bottom up |
//! | `atomic_words` | a shared writable map of atomic words, with a hook for its stores |
//! | `writable` | bytes that one transaction fills in place before they become visible to others |
//! | `validate`, `error` | argument checks of all storages; the file error type, full disks |
//!
//! Guarantees to the rest of the crate: paths are relative to the store's folder and use `/`;
//! offsets and lengths are in bytes; an `Ok` from [`File::sync`] means that the kernel reported the
//! data as written to the disk; no function here retries a failed sync.

#[allow(unsafe_code, reason = "words that are shared")]
mod atomic_words;
#[allow(unsafe_code, reason = "memory with words in it")]
mod block;
#[forbid(unsafe_code)]
mod error;
#[allow(unsafe_code, reason = "a system call")]
mod extent_map;
#[forbid(unsafe_code)]
mod extents;
#[forbid(unsafe_code)]
mod file_system;
#[forbid(unsafe_code)]
mod forward;
#[forbid(unsafe_code)]
mod host;
#[allow(unsafe_code, reason = "system calls")]
mod linux;
#[forbid(unsafe_code)]
mod locks;
#[forbid(unsafe_code)]
mod maps;
#[allow(unsafe_code, reason = "words that live in a block")]
mod memory;
#[forbid(unsafe_code)]
mod memory_quota;
#[forbid(unsafe_code)]
mod open_files;
#[expect(clippy::disallowed_methods, reason = "the implementation of `Storage` that syncs and maps")]
#[forbid(unsafe_code)]
mod real;
#[expect(clippy::disallowed_methods, reason = "maps files into the range")]
#[allow(unsafe_code, reason = "address ranges")]
mod reservation;
#[forbid(unsafe_code)]
mod validate;
#[allow(unsafe_code, reason = "slices of a writable map")]
mod writable;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

pub use atomic_words::{AtomicWords, StoreHook};
pub use error::{FileError, is_out_of_space};
pub use host::Host;
#[doc(hidden)]
pub use maps::set_map_limit;
pub use memory::MemoryStorage;
pub use open_files::{Idle, Reopened, ToSync};
pub(crate) use open_files::{
    MAX_OPEN_FILES, OpenFiles, is_of_opening, is_out_of_descriptors, is_out_of_memory,
};
pub use real::RealStorage;
pub use reservation::Reservation;
pub(crate) use writable::{Piece, WritableMap};

/// Page size in bytes. Maps, allocations and chunk bounds are multiples of it.
pub const PAGE: u64 = 4096;

/// Asks the processor to fetch a cache line. Never faults, whatever the address.
#[inline]
#[allow(unsafe_code, reason = "one instruction")]
fn prefetch_line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction is a hint: it has no architectural effect and does not fault for any
    // address. Every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// A folder of files.
///
/// Errors carry a [`FileError`] that names the operation and the file. An absolute path, or one
/// with an empty component, `.` or `..`, is `InvalidInput`. A folder where a file is expected is
/// `IsADirectory`; a file where a folder is expected is `NotADirectory`.
pub trait Storage: Send + Sync + Debug {
    /// Creates a new, empty file and opens it for reading and writing. Returns `AlreadyExists` if
    /// the file exists.
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing. Returns `NotFound` if the file does not
    /// exist.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Renames a file (not a folder), replacing an existing file named `to`. Handles and maps of
    /// the replaced file stay valid. Durable only after [`sync_dir`](Self::sync_dir) of both
    /// folders.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Unlinks a file. Handles and maps of it stay valid.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Creates a folder. An existing folder is not an error.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Returns the names (not paths) of a folder's entries, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable. The store's own folder is `""`.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Reserves `len` bytes of address space, a multiple of [`PAGE`], with nothing mapped. Costs no
    /// memory.
    fn reserve(&self, len: usize) -> io::Result<Reservation>;
    /// Returns a token for the page cache: same boot, same mount. It is equal at two moments only
    /// if no page of this folder's files can have been lost between them, except by a failed
    /// write-back. `None` if the system cannot tell.
    fn cache_identity(&self) -> Option<[u8; 32]>;
    /// Returns whether reading a hole of a mapped file allocates disk space, as on tmpfs. If so,
    /// the read raises a signal when the disk is full, so mapped ranges must have no holes.
    fn hole_reads_allocate(&self) -> bool {
        false
    }
    /// Returns whether a store through a map may need new disk space although the range is
    /// preallocated, as on btrfs. If so, [`AtomicWords::make_writable`] must precede each store:
    /// otherwise the store raises a signal when the disk is full.
    fn stores_may_allocate(&self) -> bool {
        false
    }
    /// Returns where the folder's pages and locks are kept: whether a lock held by another process
    /// proves that both processes share memory.
    fn host(&self) -> io::Result<Host> {
        Ok(Host::PROCESS)
    }
    /// Returns the identity of the folder among all open ones of this process: equal for two
    /// handles on the same folder.
    fn folder_identity(&self) -> io::Result<(u64, u64)>;
    /// Returns the name of this storage for messages: the folder's path.
    fn name(&self) -> String;
    /// Notes that a reopenable file has just been used. A storage that limits its open files may
    /// close another one.
    #[doc(hidden)]
    fn note_open(&self, file: &Arc<Reopened>) {
        let _ = file;
    }
    /// Registers an object whose maps can be released while they are unused.
    #[doc(hidden)]
    fn note_idle(&self, what: Weak<dyn Idle>) {
        let _ = what;
    }
    /// Checks the number of maps, and releases some if there are too many. Called before a map is
    /// made and after a commit.
    #[doc(hidden)]
    fn check_maps(&self) {}
    /// Returns whether, since the last call, too many maps remained after a release. Objects with
    /// unsynced data keep their maps, so a sync is then needed to release them.
    #[doc(hidden)]
    fn take_crowded(&self) -> bool {
        false
    }
}

/// An object that syncs a file without holding a descriptor. It reports every write-back failure
/// since it was created, or since the file it was created from was opened.
pub trait Syncer: Send + Sync + Debug {
    /// Syncs the file, as [`File::sync`] does.
    fn sync(&self) -> io::Result<()>;
}

/// A [`Syncer`] that keeps the file handle open, for storages whose handles cost nothing.
#[derive(Debug)]
pub struct ByHandle(pub Arc<dyn File>);

impl Syncer for ByHandle {
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// One open file: in POSIX terms one open file description, so that locks belong to this value.
pub trait File: Send + Sync + Debug {
    /// Returns the file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Returns whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from `offset`. Returns `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, extending the file if needed. Interrupted and short
    /// writes are continued. After an error (`StorageFull` among them) any part of the bytes may
    /// have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Preallocates disk space for `[offset, offset + len)`, extending the file if needed. Bytes
    /// beyond the old end read as zero, and no existing byte changes. After `Ok`, writing to the
    /// range cannot fail because the disk is full (except where
    /// [`Storage::stores_may_allocate`]). Returns `StorageFull` if there is not enough space.
    ///
    /// On a file system without such a call, zeroed pages are written to the range instead: no
    /// process may store to the range until this call returns.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Sets the length without allocating space (holes read as zero).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns the first run of bytes at or after `from` that may hold nonzero bytes; all bytes
    /// between `from` and the run are zero. `None` if there is no such run before the end of the
    /// file. Finding ranges that were never written costs no memory. A storage that cannot detect
    /// holes, or may report only what is already on the disk, returns everything up to the end.
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        Ok((from < len).then_some(from..len))
    }
    /// Syncs the file (`fdatasync`). After `Ok`, everything written to it by `write_at` or through
    /// an [`AtomicWords`] map is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Returns a [`Syncer`] for the first `len` bytes of the file, to be used after this handle,
    /// which may have written to it, is closed. The file may be shorter than `len`.
    fn syncer(self: Arc<Self>, len: u64) -> io::Result<Arc<dyn Syncer>>;
    /// Asks the kernel to start writing `[offset, offset + len)` back, without waiting. Only a
    /// hint.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Maps `[offset, offset + len)` shared and writable as atomic words. Both are multiples of
    /// [`PAGE`], and the range is inside the file; every page of it has been allocated or is never
    /// stored to. All maps of the file, `read_at` and `write_at` access the same bytes. The map
    /// stays valid after this handle is dropped.
    ///
    /// Returns `InvalidInput` for other bounds, and `UnexpectedEof` if the file ends before the
    /// range. The memory storage returns `Unsupported` if a file has grown beyond 64 MiB and beyond
    /// four times its length at its first map, and the new map would cross that boundary while
    /// older maps are alive.
    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords>;
    /// Maps `[offset, offset + len)` of the file read-only at byte `at` of a reservation. All three
    /// are multiples of [`PAGE`]. The range is inside the file and inside the reservation, and `at`
    /// is the end of the reservation's mapped bytes (or any position after it, if none are mapped).
    /// Later writes to the file are visible there. The map stays valid after this handle is
    /// dropped.
    ///
    /// Returns `InvalidInput` for other bounds, and `UnexpectedEof` if the file ends before the
    /// range.
    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()>;
    /// Tries to lock the bytes `[start, start + len)`. Returns `false` if another description holds
    /// a conflicting lock. Locking bytes that this description already holds changes their mode,
    /// atomically. A zero `len` is `InvalidInput`. Locks are released when the last reference to
    /// this value is dropped.
    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool>;
    /// Locks the bytes, waiting for other holders. While waiting, this description keeps the locks
    /// that it already holds on them. Two descriptions that hold the bytes shared and both request
    /// them exclusively deadlock.
    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()>;
    /// Unlocks the bytes.
    fn unlock(&self, start: u64, len: u64) -> io::Result<()>;
    /// Returns whether any *other* description holds a lock that conflicts with `mode` on these
    /// bytes (`F_OFD_GETLK`).
    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool>;
    /// Returns the underlying descriptor, if there is one. For the implementations only.
    #[doc(hidden)]
    fn raw(&self) -> RawFile<'_>;
    /// Returns a number that identifies the file among all existing files of the same storage, for
    /// hooks and messages. It is the same for all handles on the file. A real file system may reuse
    /// it after the file is deleted.
    fn id(&self) -> u64;
}

/// The underlying resource of a [`File`]; used only by the storage implementations.
#[doc(hidden)]
#[derive(Debug)]
pub enum RawFile<'a> {
    /// A descriptor of the operating system.
    Real(std::os::fd::BorrowedFd<'a>),
    /// Bytes in this process's memory.
    Memory,
}

/// The lock mode of a byte range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Held together with other shared holders.
    Shared,
    /// Held by one description only.
    Exclusive,
}

/// Returns a mask of the words whose upper 16 bits equal `upper`: bit `i` for word `i`.
///
/// On x86-64 it takes a third of the instructions of the plain loop. A lookup in the hash index is
/// then so short that the processor can start the next one while it waits for this one's row.
///
/// ```
/// use pongo_core::storage::match_tag_mask;
/// assert_eq!(match_tag_mask([7 << 48, 8 << 48, 0, 7 << 48 | 5, 0, 0, 0, u64::MAX], 7), 0b1001);
/// ```
#[must_use]
#[inline]
#[allow(unsafe_code, reason = "instructions that every processor of this kind has")]
pub fn match_tag_mask(words: [u64; 8], upper: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { match_tag_mask_sse2(words, upper) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        match_tag_mask_scalar(words, upper)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn match_tag_mask_scalar(words: [u64; 8], upper: u16) -> u32 {
    let same = |word: u64| u32::from((word >> 48) as u16 == upper);
    words.iter().enumerate().fold(0, |found, (i, &word)| found | same(word) << i)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn match_tag_mask_sse2(words: [u64; 8], upper: u16) -> u32 {
    use core::arch::x86_64::{
        _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set_epi64x, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_ps, _mm_srai_epi32,
    };
    let pair = |i: usize| _mm_castsi128_ps(_mm_set_epi64x(words[i + 1] as i64, words[i] as i64));
    // Takes the upper halves of four words, then their upper 16 bits, sign-extended to 32 bits.
    let four = |i: usize| {
        let halves = _mm_shuffle_ps::<0b11_01_11_01>(pair(i), pair(i + 2));
        _mm_srai_epi32::<16>(_mm_castps_si128(halves))
    };
    // All values fit in 16 bits, so packing with saturation does not change them.
    let uppers = _mm_packs_epi32(four(0), four(4));
    let same = _mm_cmpeq_epi16(uppers, _mm_set1_epi16(upper as i16));
    _mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bits_compare_like_plain_loop() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state
        };
        for round in 0..10_000 {
            let upper = [0, 1, 0x7fff, 0x8000, 0xffff, next() as u16][round % 6];
            let words = [(); 8].map(|()| match next() >> 61 {
                0..3 => u64::from(upper) << 48 | next() >> 16,
                3 => (u64::from(upper) << 48).wrapping_sub(1),
                _ => next(),
            });
            assert_eq!(
                match_tag_mask(words, upper),
                match_tag_mask_scalar(words, upper),
                "{words:x?} {upper:x}"
            );
        }
    }
}

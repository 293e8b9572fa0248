//! Storage: the one door through which the engine reaches bytes that outlive it.
//!
//! Everything the store does to files, maps and locks goes through [`Storage`] and [`File`], so that the same engine
//! runs on real files ([`RealStorage`]), on plain memory ([`MemoryStorage`]) and, in tests, on a disk that loses,
//! reorders and tears what was not synced.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `real` | files of one folder: `pwrite`, `fallocate(2)`, `fdatasync`, OFD locks, maps |
//! | `linux` | the two system calls that rustix does not have |
//! | `file_system`, `extent_map` | what kind of file system it is; which bytes of a file have space of their own |
//! | `memory` | the same behaviour over plain allocations, in one process |
//! | `block`, `extents` | the bytes of a memory file: words that stay in place while they are mapped |
//! | `host` | which file systems keep their locks in this kernel |
//! | `locks`, `space` | a memory file's byte-range locks, and its share of a limited disk |
//! | `maps` | how many maps this process has, and may have |
//! | `open_files` | files that are opened when they are needed: few descriptors for many files |
//! | `reservation` | one reserved address range, filled with read-only maps from the bottom up |
//! | `words` | a shared writable map that holds nothing but atomic words, with the hook for its stores |
//! | `writable` | bytes that one transaction fills in place, before anyone else sees them |
//! | `arguments`, `error` | what both refuse, and what a failure says |
//!
//! Promise to the rest of the crate: a path is relative to the store's folder and uses `/`; offsets and lengths are
//! bytes; an `Ok` from [`File::sync`] means the kernel said the data are on the disk; nothing here retries a failed
//! sync.

#[forbid(unsafe_code)]
mod arguments;
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
mod open_files;
#[forbid(unsafe_code)]
mod real;
#[allow(unsafe_code, reason = "address ranges")]
mod reservation;
#[forbid(unsafe_code)]
mod space;
#[allow(unsafe_code, reason = "words that are shared")]
mod words;
#[allow(unsafe_code, reason = "slices of a writable map")]
mod writable;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

pub use error::FileError;
pub use host::Host;
#[doc(hidden)]
pub use maps::set_map_limit;
pub use memory::MemoryStorage;
pub use open_files::{Idle, Reopened, ToSync};
pub(crate) use open_files::{MOST, OpenFiles, is_of_opening, is_out_of_descriptors, is_out_of_memory};
pub use real::RealStorage;
pub use reservation::Reservation;
pub use words::{StoreHook, Words};
pub(crate) use writable::{Piece, WritableMap};

/// Maps, allocations and chunk bounds are multiples of this.
pub const PAGE: u64 = 4096;

/// Asks the processor to fetch a cache line; never faults, whatever the address.
#[inline]
#[allow(unsafe_code, reason = "one instruction")]
fn prefetch_line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction is a hint that reads nothing and faults nowhere; every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// A folder with files in it.
///
/// Errors carry a [`FileError`] that names the operation and the file. A path that is absolute, has an empty name in it,
/// `.` or `..`, is `InvalidInput`; a folder where a file is expected is `IsADirectory`, the other way round
/// `NotADirectory`.
pub trait Storage: Send + Sync + Debug {
    /// Makes a new, empty file and opens it for reading and writing. Errs with `AlreadyExists` if it is there.
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing. Errs with `NotFound` if it is not there.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file (not a folder) a new name in the store, in place of whatever file had it. Handles and maps of that one
    /// live on. Durable only after [`sync_dir`](Self::sync_dir) of the folders concerned.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Unlinks a file. Handles and maps of it live on.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder; one that is there already is fine.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Names (not paths) of what is in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable. The store's own folder is `""`.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Reserves `len` bytes of address space, a multiple of [`PAGE`], with nothing in them. Costs no memory.
    fn reserve(&self, len: usize) -> io::Result<Reservation>;
    /// A token that is equal at two moments only if no page of this folder's files can have been lost between them
    /// except by a failed write-back: same boot, same mount. `None` if the system cannot say.
    fn cache_identity(&self) -> Option<[u8; 32]>;
    /// Whether to read a hole of a mapped file takes space on the disk, as on tmpfs: then a full disk turns the read into a
    /// signal, so that what is mapped must have no holes.
    fn reading_holes_takes_space(&self) -> bool {
        false
    }
    /// Whether a store through a map may need new space although space was set aside, as on btrfs: then each is preceded by
    /// [`Words::make_writable`], without which a full disk turns the store into a signal.
    fn stores_may_take_space(&self) -> bool {
        false
    }
    /// Where the folder's pages and locks are kept: whether a lock that another process holds proves that both share memory.
    fn host(&self) -> io::Result<Host> {
        Ok(Host::PROCESS)
    }
    /// Identity of the folder among all open ones of this process: equal for two handles on the same folder.
    fn folder_identity(&self) -> io::Result<(u64, u64)>;
    /// What to call this storage in messages: the folder's path.
    fn name(&self) -> String;
    /// A file that can be closed and opened again has just been used. A storage that keeps few files open closes another one.
    #[doc(hidden)]
    fn note_open(&self, file: &Arc<Reopened>) {
        let _ = file;
    }
    /// Something has maps that it can give up while nobody uses it.
    #[doc(hidden)]
    fn note_idle(&self, what: Weak<dyn Idle>) {
        let _ = what;
    }
    /// A map is about to be made, or a commit was: where there are too many maps, some are given up.
    #[doc(hidden)]
    fn check_maps(&self) {}
    /// Whether, since the last call, there were too many maps and none could be given up: what is not synced keeps them.
    #[doc(hidden)]
    fn take_crowded(&self) -> bool {
        false
    }
}

/// What can sync a file and takes no descriptor: it hears of every write-back that fails from when it was made, or from when
/// the file that it was made of was opened, on.
pub trait Syncer: Send + Sync + Debug {
    /// As [`File::sync`].
    fn sync(&self) -> io::Result<()>;
}

/// A handle that stays open to sync its file: for storages whose handles cost nothing.
#[derive(Debug)]
pub struct ByHandle(pub Arc<dyn File>);

impl Syncer for ByHandle {
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// One open file: in POSIX terms one open file description, so that locks belong to this value.
pub trait File: Send + Sync + Debug {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, lengthening the file if need be. Interrupted and short writes are continued; after
    /// an error (`StorageFull` among them) any part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Sets aside disk space for `[offset, offset + len)`, lengthening the file if need be; bytes that were not there
    /// read as zero, and no byte that was there changes. After `Ok`, writing there cannot fail for want of space (but where
    /// [`Storage::stores_may_take_space`]); `StorageFull` if there is none. Where a file system has no such call, pages of zeros
    /// are written over: nobody may store to the range meanwhile.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Sets the length without setting space aside (holes read as zero).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The first run of bytes at or behind `from` that may hold something else than zeros; all before it are zeros. `None`:
    /// there is none up to the file's end. What was never written costs no memory to find out; a storage that cannot tell, or
    /// may tell of what is on the disk only, gives everything to the end.
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        Ok((from < len).then_some(from..len))
    }
    /// `fdatasync`: everything written to the file, by `write_at` or through a [`Words`] map, is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// What can sync the first `len` bytes of the file when this handle, which may have written to it, is closed. The file may
    /// end before.
    fn syncer(self: Arc<Self>, len: u64) -> io::Result<Arc<dyn Syncer>>;
    /// Asks the kernel to begin writing `[offset, offset + len)` back, without waiting. Only a hint.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Maps `[offset, offset + len)` shared and writable as atomic words. Both are multiples of [`PAGE`] and lie inside
    /// the file; every page of it has been allocated, or is never stored to. All maps of the file and what `read_at` and
    /// `write_at` reach are the same bytes. The map outlives this handle.
    ///
    /// `InvalidInput` for other bounds, `UnexpectedEof` if the file ends before. The memory storage errs with `Unsupported`
    /// where a file grew by more than 64 MiB and four times its length since it was first mapped, and a map is to reach
    /// across that place while older ones are alive.
    fn map_words(&self, offset: u64, len: u64) -> io::Result<Words>;
    /// Maps `[offset, offset + len)` of the file read-only at byte `at` of a reservation. All are multiples of
    /// [`PAGE`]; the range lies inside the file and inside the reservation, and `at` is where the reservation's mapped bytes
    /// end (or anywhere above them, if none are mapped). Later writes to the file are seen there; the map outlives this
    /// handle.
    ///
    /// `InvalidInput` for other bounds, `UnexpectedEof` if the file ends before.
    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()>;
    /// Tries to lock the bytes `[start, start + len)`; `false` if another description holds them. Locking bytes this
    /// description holds already changes their mode, in one step. No length is `InvalidInput`. Locks go with the last
    /// reference to this value.
    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool>;
    /// Locks the bytes, waiting for others, and keeping meanwhile what this description holds of them. Two that hold bytes
    /// shared and both ask for them alone wait for ever.
    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()>;
    /// Gives the bytes up.
    fn unlock(&self, start: u64, len: u64) -> io::Result<()>;
    /// Whether any *other* description holds a lock that stands in the way of `mode` on these bytes (`F_OFD_GETLK`).
    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool>;
    /// For the implementations only: the descriptor behind this file, if there is one.
    #[doc(hidden)]
    fn raw(&self) -> RawFile<'_>;
    /// A number that tells this file from every other one that is there in the same storage, for hooks and messages. The same
    /// for all handles on the file; a real file system may use it again once the file is gone.
    fn id(&self) -> u64;
}

/// What stands behind a [`File`]; only the storage implementations look at it.
#[doc(hidden)]
#[derive(Debug)]
pub enum RawFile<'a> {
    /// A descriptor of the operating system.
    Real(std::os::fd::BorrowedFd<'a>),
    /// Bytes in this process's memory.
    Memory,
}

/// How a byte range is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// Which of eight words have these upper 16 bits: bit `i` for word `i`. On x86-64 a third of the instructions of the plain
/// loop: a look-up in the hash index has so few that the processor is at the next one while it waits for the row of this.
///
/// ```
/// use pongo_core::storage::same_upper;
/// assert_eq!(same_upper([7 << 48, 8 << 48, 0, 7 << 48 | 5, 0, 0, 0, u64::MAX], 7), 0b1001);
/// ```
#[must_use]
#[inline]
#[allow(unsafe_code, reason = "instructions that every processor of this kind has")]
pub fn same_upper(words: [u64; 8], upper: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { same_upper_sse2(words, upper) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        same_upper_plain(words, upper)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn same_upper_plain(words: [u64; 8], upper: u16) -> u32 {
    let same = |word: u64| u32::from((word >> 48) as u16 == upper);
    words.iter().enumerate().fold(0, |found, (i, &word)| found | same(word) << i)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn same_upper_sse2(words: [u64; 8], upper: u16) -> u32 {
    use core::arch::x86_64::{
        _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set_epi64x, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_ps, _mm_srai_epi32,
    };
    let pair = |i: usize| _mm_castsi128_ps(_mm_set_epi64x(words[i + 1] as i64, words[i] as i64));
    // The upper halves of four words, then their upper 16 bits as numbers of 32 with the same sign.
    let four = |i: usize| {
        let halves = _mm_shuffle_ps::<0b11_01_11_01>(pair(i), pair(i + 2));
        _mm_srai_epi32::<16>(_mm_castps_si128(halves))
    };
    // They fit 16 bits, so that packing changes none.
    let uppers = _mm_packs_epi32(four(0), four(4));
    let same = _mm_cmpeq_epi16(uppers, _mm_set1_epi16(upper as i16));
    _mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bits_are_compared_as_in_the_plain_loop() {
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
            assert_eq!(same_upper(words, upper), same_upper_plain(words, upper), "{words:x?} {upper:x}");
        }
    }
}

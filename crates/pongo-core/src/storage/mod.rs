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
//! | `memory` | the same behaviour over plain allocations, in one process |
//! | `block`, `extents` | the bytes of a memory file: words that stay in place while they are mapped |
//! | `locks`, `space` | a memory file's byte-range locks, and its share of a limited disk |
//! | `reservation` | one reserved address range, filled with read-only maps from the bottom up |
//! | `words` | a shared writable map that holds nothing but atomic words, with the hook for its stores |
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
#[forbid(unsafe_code)]
mod extents;
#[allow(unsafe_code, reason = "system calls")]
mod linux;
#[forbid(unsafe_code)]
mod locks;
#[allow(unsafe_code, reason = "words that live in a block")]
mod memory;
#[forbid(unsafe_code)]
mod real;
#[allow(unsafe_code, reason = "address ranges")]
mod reservation;
#[forbid(unsafe_code)]
mod space;
#[allow(unsafe_code, reason = "words that are shared")]
mod words;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use error::FileError;
pub use memory::MemoryStorage;
pub use real::RealStorage;
pub use reservation::Reservation;
pub use words::{StoreHook, Words};

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
    /// Identity of the folder among all open ones of this process: equal for two handles on the same folder.
    fn folder_identity(&self) -> io::Result<(u64, u64)>;
    /// What to call this storage in messages: the folder's path.
    fn name(&self) -> String;
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
    /// read as zero, and no byte that was there changes. After `Ok`, writing there cannot fail for want of space; `StorageFull`
    /// if there is none.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Sets the length without setting space aside (holes read as zero).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The first run of bytes at or behind `from` that may hold something else than zeros; all before it are zeros. `None`:
    /// there is none up to the file's end. What was never written costs no memory to find out; a storage that cannot tell
    /// gives everything to the end.
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        Ok((from < len).then_some(from..len))
    }
    /// `fdatasync`: everything written to the file, by `write_at` or through a [`Words`] map, is on the disk.
    fn sync(&self) -> io::Result<()>;
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

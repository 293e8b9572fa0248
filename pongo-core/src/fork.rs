//! Handling of open stores in a child process that was created by `fork`.
//!
//! A child shares its parent's open file descriptions, and with them the locks. A lock is held as
//! long as any process has a descriptor of the locked description open, or a map that was created
//! through it, even after the parent has exited. Two mechanisms deal with this:
//!
//! - [`ForkGuard`]: a page that the kernel zeroes in the child. With it an inherited handle detects
//!   that it is in a child: it returns errors and must not access `control`, not even when it is
//!   dropped.
//! - [`LockDescriptor`]: a list of the descriptors on which locks are held. In the child, before
//!   `fork` returns, each is replaced by a descriptor on which every operation fails. The inherited
//!   handle closes this replacement when it is dropped.
//!
//! A child that is created without `fork` (`posix_spawn`, `vfork`, a bare `clone`) runs no
//! handlers: it keeps the locks held until it calls `exec`, which closes all descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::error::StorageError;
use crate::storage::{File, PAGE, RawFile};

/// Distinguishes the process that created it from that process's children. Under Miri, and on
/// kernels before 4.14, children are not detected.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: Option<MmapRaw>,
}

impl ForkGuard {
    /// Creates a guard for this process.
    ///
    /// # Errors
    /// [`StorageError::Io`] if no memory can be mapped for the page: without it a child would not
    /// be detected.
    pub(crate) fn new() -> Result<Self, StorageError> {
        if cfg!(miri) {
            return Ok(Self { page: None });
        }
        let failed = || StorageError::io("mapping", "a page by which `fork` is noticed");
        let page = MmapRaw::from(MmapOptions::new().len(PAGE as usize).map_anon().map_err(failed())?);
        // SAFETY: the range is exactly the map, which is private, anonymous and owned by `page`;
        // the advice changes the bytes that a child sees, never those of this process.
        match unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) } {
            Ok(()) => byte(&page).store(1, Ordering::Relaxed),
            // The kernel does not support this advice.
            Err(Errno::INVAL) => return Ok(Self { page: None }),
            Err(errno) => return Err(failed()(errno.into())),
        }
        Ok(Self { page: Some(page) })
    }

    /// Returns whether this process is a child of the one that created the guard. Costs one load.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.page.as_ref().is_some_and(|page| byte(page).load(Ordering::Relaxed) == 0)
    }
}

fn byte(page: &MmapRaw) -> &AtomicU8 {
    // SAFETY: the map is at least one byte long, private to this value, and accessed only through
    // this atomic; it lives as long as the borrow of `page`.
    unsafe { AtomicU8::from_ptr(page.as_mut_ptr()) }
}

/// Maximum number of descriptors on which a process can hold locks: two for each open store.
const MAX_LOCKED: usize = 1024;

/// Each slot is 0, or a descriptor + 1. A static array of atomics, so that the child's handler
/// needs no lock and allocates nothing.
static LOCKED: [AtomicI32; MAX_LOCKED] = [const { AtomicI32::new(0) }; MAX_LOCKED];
/// The descriptor that replaces the others.
static NOTHING: AtomicI32 = AtomicI32::new(-1);
/// Number of forks that have started and whose child may not exist yet.
static FORKING: AtomicU32 = AtomicU32::new(0);
/// Number of forks that have returned in the parent.
static FORKED: AtomicU64 = AtomicU64::new(0);

extern "C" fn before_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_parent() {
    // In this order: a thread that sees no fork in progress also sees that this one happened.
    FORKED.fetch_add(1, Ordering::SeqCst);
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// Runs in the child before `fork` returns there. Other threads of the parent may have been
/// anywhere in their code, so it uses only atomics and one system call.
extern "C" fn after_fork_in_child() {
    // Forks by other threads of the parent do not concern this process.
    FORKING.store(0, Ordering::SeqCst);
    let nothing = NOTHING.load(Ordering::SeqCst);
    for place in &LOCKED {
        let descriptor = place.load(Ordering::SeqCst) - 1;
        if descriptor >= 0 {
            // SAFETY: `dup3` is async-signal-safe and accesses no memory. The descriptor belongs to
            // a `LockDescriptor`, so nothing else in this process uses it; its inherited owner then
            // refers to another file, on which every operation fails.
            unsafe { libc::dup3(nothing, descriptor, libc::O_CLOEXEC) };
        }
    }
}

static INSTALLED: OnceLock<Result<OwnedFd, i32>> = OnceLock::new();

/// Registers the handlers, once per process.
fn install() -> Result<(), StorageError> {
    let installed = INSTALLED.get_or_init(|| {
        // An `O_PATH` descriptor: it can be opened wherever a root directory exists, and can be
        // neither read, written nor locked.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let nothing = rustix::fs::open("/", flags, Mode::empty()).map_err(rustix::io::Errno::raw_os_error)?;
        NOTHING.store(nothing.as_raw_fd(), Ordering::SeqCst);
        // SAFETY: three functions of the right type that live as long as the program and may run at
        // any `fork`: they use atomics and, in the child, an async-signal-safe system call.
        let result = unsafe {
            libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child))
        };
        if result == 0 { Ok(nothing) } else { Err(result) }
    });
    match installed {
        Ok(_) => Ok(()),
        Err(code) => {
            Err(StorageError::io("preparing for a fork, at", "/")(io::Error::from_raw_os_error(*code)))
        }
    }
}

/// A descriptor on which locks are, or will be, held, and its slot in the list. Dropped after the
/// last lock is released, since a child may be created immediately after, and before the file is
/// closed, since the descriptor number may then be reused for another file.
#[derive(Debug)]
pub(crate) struct LockDescriptor {
    /// The slot. `None` for a file in memory.
    place: Option<usize>,
}

impl LockDescriptor {
    /// Opens a file on which locks will be held, and registers its descriptor before any lock is
    /// taken. No map may be created through it: a child inherits maps as well, and a map keeps the
    /// lock held as a descriptor does.
    ///
    /// # Errors
    /// The error of `open`; [`StorageError::Limit`] if this process has too many stores open.
    pub(crate) fn open(
        open: impl Fn() -> Result<Arc<dyn File>, StorageError>,
    ) -> Result<(Arc<dyn File>, Self), StorageError> {
        loop {
            let installed = INSTALLED.get().is_some();
            let forked = FORKED.load(Ordering::SeqCst);
            let file = open()?;
            let RawFile::Real(descriptor) = file.raw() else { return Ok((file, Self { place: None })) };
            if !installed {
                install()?;
                continue;
            }
            let noted = Self::note(descriptor)?;
            if FORKING.load(Ordering::SeqCst) == 0 && FORKED.load(Ordering::SeqCst) == forked {
                return Ok((file, noted));
            }
            // A child may have been created in between, with the descriptor but before it was
            // registered. The child then has a file description that this process does not use.
            drop(noted);
            std::thread::yield_now();
        }
    }

    fn note(descriptor: BorrowedFd<'_>) -> Result<Self, StorageError> {
        let value = descriptor.as_raw_fd() + 1;
        let free =
            |place: &AtomicI32| place.compare_exchange(0, value, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        match LOCKED.iter().position(free) {
            Some(place) => Ok(Self { place: Some(place) }),
            None => Err(StorageError::Limit {
                what: "this process has too many stores open: close one".to_owned(),
                limit: MAX_LOCKED as u64 / 2,
            }),
        }
    }
}

impl Drop for LockDescriptor {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            LOCKED[place].store(0, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::storage::{RealStorage, Storage};

    /// Creates a child that exits at once.
    fn fork() {
        // SAFETY: the child calls only `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the process; no code of the parent is run and no memory is written.
            unsafe { libc::_exit(0) };
        }
        assert!(child > 0);
        // SAFETY: a null pointer means that the status is not requested.
        let found = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(found, child);
    }

    #[test]
    fn locked_file_is_not_inherited() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::open(folder.path()).unwrap();
        storage.create("control").unwrap();
        let opened = Cell::new(0);
        let open = |forks: bool| {
            opened.set(opened.get() + 1);
            let file = storage.open("control").unwrap();
            if forks && opened.get() == 1 {
                // After the open and before the registration: the child has the file, and its
                // handler does not know the descriptor.
                fork();
            }
            Ok(file)
        };
        // The first call in the process registers the handlers.
        drop(LockDescriptor::open(|| open(false)).unwrap());
        opened.set(0);
        let (file, noted) = LockDescriptor::open(|| open(true)).unwrap();
        assert_eq!(opened.get(), 2);
        let RawFile::Real(descriptor) = file.raw() else { panic!("a real file") };
        let noted_as = |place: usize| LOCKED[place].load(Ordering::SeqCst) - 1;
        assert_eq!(noted.place.map(noted_as), Some(descriptor.as_raw_fd()));
    }
}

//! What becomes of an open store in a child made by `fork`.
//!
//! A child shares its parent's open file descriptions, and with them its locks: as long as one descriptor of a locked
//! description is open anywhere, or a map was made through it, the lock stays, also when the parent has died. So two
//! things happen here.
//!
//! - [`ForkGuard`]: a page that the kernel wipes in the child. An inherited handle is refused by it, and must not touch
//!   `control`, not even when it is dropped.
//! - [`LockDescriptor`]: a list of the descriptors that locks are held on. In the child, before `fork` returns there,
//!   each is replaced by one on which nothing can be done. The inherited handle closes that one when it is dropped.
//!
//! A child that is made without `fork` (`posix_spawn`, `vfork`, a bare `clone`) runs no handlers: until it calls `exec`,
//! which closes everything, it keeps the locks alive.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::error::Fault;
use crate::storage::{File, PAGE, RawFile};

/// Tells the process that made it from its children. Under Miri, and on kernels before 4.14, it cannot tell.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: Option<MmapRaw>,
}

impl ForkGuard {
    /// Errs if there is no memory for its page: without it a child would not be noticed.
    pub(crate) fn new() -> Result<Self, Fault> {
        if cfg!(miri) {
            return Ok(Self { page: None });
        }
        let failed = || Fault::io("mapping", "a page by which `fork` is noticed");
        let page = MmapRaw::from(MmapOptions::new().len(PAGE as usize).map_anon().map_err(failed())?);
        // SAFETY: the range is exactly the map, which is private, anonymous and owned by `page`; the advice changes
        // what a child sees, never this process's bytes.
        match unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) } {
            Ok(()) => byte(&page).store(1, Ordering::Relaxed),
            // A kernel that does not know the advice.
            Err(Errno::INVAL) => return Ok(Self { page: None }),
            Err(errno) => return Err(failed()(errno.into())),
        }
        Ok(Self { page: Some(page) })
    }

    /// Whether the process is a child of the one that made this. Cost: a load.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.page.as_ref().is_some_and(|page| byte(page).load(Ordering::Relaxed) == 0)
    }
}

fn byte(page: &MmapRaw) -> &AtomicU8 {
    // SAFETY: the map is at least one byte long, private to this value, and reached only as this atomic; it lives as
    // long as the borrow of `page`.
    unsafe { AtomicU8::from_ptr(page.as_mut_ptr()) }
}

/// Descriptors that a process can hold locks on: two for each open store.
const MOST: usize = 1024;

/// Each place is 0, or a descriptor + 1. A fixed list of atomics, so that the child's handler needs no lock and no memory.
static LOCKED: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];
/// The descriptor that takes the place of the others.
static NOTHING: AtomicI32 = AtomicI32::new(-1);
/// Forks that have begun and whose child is perhaps not there yet.
static FORKING: AtomicU32 = AtomicU32::new(0);
/// Forks of which the parent has heard the end.
static FORKED: AtomicU64 = AtomicU64::new(0);

extern "C" fn before_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_parent() {
    // In this order: who sees no fork going on sees that this one was.
    FORKED.fetch_add(1, Ordering::SeqCst);
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// Runs in the child before `fork` returns there, when other threads of the parent may have been anywhere: atomics and one
/// system call only.
extern "C" fn after_fork_in_child() {
    // The forks of other threads are not this process's.
    FORKING.store(0, Ordering::SeqCst);
    let nothing = NOTHING.load(Ordering::SeqCst);
    for place in &LOCKED {
        let descriptor = place.load(Ordering::SeqCst) - 1;
        if descriptor >= 0 {
            // SAFETY: `dup3` is async-signal-safe and touches no memory. The descriptor is one that a `LockDescriptor`
            // stands for, so nothing else of this process has it; its owner, inherited, finds another file behind it, on
            // which every operation fails.
            unsafe { libc::dup3(nothing, descriptor, libc::O_CLOEXEC) };
        }
    }
}

static INSTALLED: OnceLock<Result<OwnedFd, i32>> = OnceLock::new();

/// Makes the handlers known, once a process.
fn install() -> Result<(), Fault> {
    let installed = INSTALLED.get_or_init(|| {
        // A descriptor of a path alone: it can be had wherever there is a root, and can be neither read, written nor locked.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let nothing = rustix::fs::open("/", flags, Mode::empty()).map_err(rustix::io::Errno::raw_os_error)?;
        NOTHING.store(nothing.as_raw_fd(), Ordering::SeqCst);
        // SAFETY: three functions of the right type that live as long as the program and may run at any `fork`: they use
        // atomics and, in the child, an async-signal-safe system call.
        let result = unsafe {
            libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child))
        };
        if result == 0 { Ok(nothing) } else { Err(result) }
    });
    match installed {
        Ok(_) => Ok(()),
        Err(code) => Err(Fault::io("preparing for a fork, at", "/")(io::Error::from_raw_os_error(*code))),
    }
}

/// A descriptor on which locks are, or will be, held: its place in the list. Dropped when no lock is left, since a child may
/// be made right behind; and before the file is closed, for the number may be somebody else's then.
#[derive(Debug)]
pub(crate) struct LockDescriptor {
    /// `None` for a file in memory.
    place: Option<usize>,
}

impl LockDescriptor {
    /// Opens a file that locks will be held on, and notes it before any is. No map may be made through it: a child inherits
    /// maps as well, and a map keeps the lock as a descriptor does.
    ///
    /// # Errors
    /// What `open` says; [`Fault::Limit`] if this process has too many stores open.
    pub(crate) fn open(
        open: impl Fn() -> Result<Arc<dyn File>, Fault>,
    ) -> Result<(Arc<dyn File>, Self), Fault> {
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
            // A child may have been made in between, with the descriptor and without the note: it keeps a description that
            // this process does not use.
            drop(noted);
            std::thread::yield_now();
        }
    }

    fn note(descriptor: BorrowedFd<'_>) -> Result<Self, Fault> {
        let value = descriptor.as_raw_fd() + 1;
        let free =
            |place: &AtomicI32| place.compare_exchange(0, value, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        match LOCKED.iter().position(free) {
            Some(place) => Ok(Self { place: Some(place) }),
            None => Err(Fault::Limit {
                what: "this process has too many stores open: close one".to_owned(),
                limit: MOST as u64 / 2,
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

    /// Makes a child that ends at once.
    fn fork() {
        // SAFETY: the child calls nothing but `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the process; nothing of the parent's is run or written.
            unsafe { libc::_exit(0) };
        }
        assert!(child > 0);
        // SAFETY: a null pointer says that the status is not wanted.
        let found = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(found, child);
    }

    #[test]
    fn a_file_that_a_child_may_have_is_not_the_one_that_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::open(folder.path()).unwrap();
        storage.create("control").unwrap();
        let opened = Cell::new(0);
        let open = |forks: bool| {
            opened.set(opened.get() + 1);
            let file = storage.open("control").unwrap();
            if forks && opened.get() == 1 {
                // Behind the opening and before the note: the child has the file, and its handler does not know it.
                fork();
            }
            Ok(file)
        };
        // The first one of the process makes the handlers known.
        drop(LockDescriptor::open(|| open(false)).unwrap());
        opened.set(0);
        let (file, noted) = LockDescriptor::open(|| open(true)).unwrap();
        assert_eq!(opened.get(), 2);
        let RawFile::Real(descriptor) = file.raw() else { panic!("a real file") };
        let noted_as = |place: usize| LOCKED[place].load(Ordering::SeqCst) - 1;
        assert_eq!(noted.place.map(noted_as), Some(descriptor.as_raw_fd()));
    }
}

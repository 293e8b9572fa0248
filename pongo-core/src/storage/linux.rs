//! The two system calls that rustix does not have: open file description locks, and starting
//! write-back.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::LockMode;

/// Tries to lock. Returns `false` if another description holds a conflicting lock.
pub(super) fn try_lock(fd: BorrowedFd<'_>, bytes: Range<u64>, mode: LockMode) -> io::Result<bool> {
    match lock_call(fd, libc::F_OFD_SETLK, kind(mode), bytes) {
        Ok(_) => Ok(true),
        // Both error numbers mean "held by another": POSIX lets the system choose.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Locks, waiting for other holders. A signal does not end the wait.
pub(super) fn lock(fd: BorrowedFd<'_>, bytes: Range<u64>, mode: LockMode) -> io::Result<()> {
    loop {
        match lock_call(fd, libc::F_OFD_SETLKW, kind(mode), bytes.clone()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

/// Releases the description's locks on these bytes.
pub(super) fn unlock(fd: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    lock_call(fd, libc::F_OFD_SETLK, libc::F_UNLCK, bytes).map(|_| ())
}

/// Returns whether another description holds a lock that conflicts with this one.
pub(super) fn is_locked(fd: BorrowedFd<'_>, bytes: Range<u64>, mode: LockMode) -> io::Result<bool> {
    let found = lock_call(fd, libc::F_OFD_GETLK, kind(mode), bytes)?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn kind(mode: LockMode) -> libc::c_int {
    match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    }
}

/// Calls one of the three OFD commands. Returns the structure as the kernel left it.
fn lock_call(
    fd: BorrowedFd<'_>,
    command: libc::c_int,
    kind: libc::c_int,
    bytes: Range<u64>,
) -> io::Result<libc::flock> {
    let offset = |n: u64| libc::off_t::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset(bytes.start)?,
        l_len: offset(bytes.end - bytes.start)?,
        // Any other value is rejected for these commands.
        l_pid: 0,
    };
    // SAFETY: the descriptor is open while it is borrowed. The three OFD commands take a pointer to
    // one `flock`, which they read and may write; it lives and is not otherwise used during the
    // call.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut request) };
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(request) }
}

/// Starts writing dirty pages of the range back, without waiting. An error is neither reported nor
/// consumed: with this flag alone, the kernel keeps it for the next `fdatasync`.
pub(super) fn start_writeback(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(len)) else {
        return;
    };
    // SAFETY: the descriptor is open while it is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

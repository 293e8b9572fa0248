//! The two system calls that rustix does not have: locks of an open file description, and the start of write-back.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::LockMode;

/// Tries to lock; `false` if another description stands in the way.
pub(super) fn try_lock(fd: BorrowedFd<'_>, bytes: Range<u64>, mode: LockMode) -> io::Result<bool> {
    match lock_call(fd, libc::F_OFD_SETLK, kind(mode), bytes) {
        Ok(_) => Ok(true),
        // Both numbers mean "held by another": POSIX leaves the choice to the system.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Locks, waiting for others. A signal does not end the wait.
pub(super) fn lock(fd: BorrowedFd<'_>, bytes: Range<u64>, mode: LockMode) -> io::Result<()> {
    loop {
        match lock_call(fd, libc::F_OFD_SETLKW, kind(mode), bytes.clone()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

/// Gives up what the description holds of these bytes.
pub(super) fn unlock(fd: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    lock_call(fd, libc::F_OFD_SETLK, libc::F_UNLCK, bytes).map(|_| ())
}

/// Whether another description stands in the way of such a lock.
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

/// One of the three OFD commands; gives the structure as the kernel left it.
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
        // Anything else is refused for these commands.
        l_pid: 0,
    };
    // SAFETY: the descriptor is open while it is borrowed; the three OFD commands take a pointer to one `flock`, which they
    // read and may write, and which lives and is not otherwise used during the call.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut request) };
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(request) }
}

/// Begins to write dirty pages of the range back and does not wait. An error is not reported, and not used up either: with
/// this flag alone the kernel leaves it for the next `fdatasync` to find.
pub(super) fn start_writeback(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(len)) else {
        return;
    };
    // SAFETY: the descriptor is open while it is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

//! The system calls that concern files, and the ways in which each can fail.

use libc::c_long;

/// A system call of the kernel that a store uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Call {
    Open,
    Read,
    ReadAt,
    Write,
    WriteAt,
    Allocate,
    SetLen,
    SyncData,
    SyncAll,
    SyncMap,
    SyncRange,
    Rename,
    Remove,
    MakeFolder,
    List,
    LookAt,
    Seek,
    Lock,
    Map,
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// With this error number, without having done anything.
    Error(i32),
    /// It reads or writes half of the requested bytes: not a failure, if the caller continues.
    Short,
}

impl Call {
    pub(crate) const ALL: [Call; 19] = [
        Call::Open,
        Call::Read,
        Call::ReadAt,
        Call::Write,
        Call::WriteAt,
        Call::Allocate,
        Call::SetLen,
        Call::SyncData,
        Call::SyncAll,
        Call::SyncMap,
        Call::SyncRange,
        Call::Rename,
        Call::Remove,
        Call::MakeFolder,
        Call::List,
        Call::LookAt,
        Call::Seek,
        Call::Lock,
        Call::Map,
    ];

    /// Returns its numbers on this machine: some calls have several forms.
    pub(crate) fn numbers(self) -> &'static [c_long] {
        match self {
            Call::Open => &[libc::SYS_openat, libc::SYS_open],
            Call::Read => &[libc::SYS_read, libc::SYS_readv],
            Call::ReadAt => &[libc::SYS_pread64, libc::SYS_preadv],
            Call::Write => &[libc::SYS_write, libc::SYS_writev],
            Call::WriteAt => &[libc::SYS_pwrite64, libc::SYS_pwritev],
            Call::Allocate => &[libc::SYS_fallocate],
            Call::SetLen => &[libc::SYS_ftruncate],
            Call::SyncData => &[libc::SYS_fdatasync],
            Call::SyncAll => &[libc::SYS_fsync],
            Call::SyncMap => &[libc::SYS_msync],
            Call::SyncRange => &[libc::SYS_sync_file_range],
            Call::Rename => &[libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_rename],
            Call::Remove => &[libc::SYS_unlinkat, libc::SYS_unlink, libc::SYS_rmdir],
            Call::MakeFolder => &[libc::SYS_mkdirat, libc::SYS_mkdir],
            Call::List => &[libc::SYS_getdents64],
            Call::LookAt => &[libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_fstatfs],
            Call::Seek => &[libc::SYS_lseek],
            Call::Lock => &[libc::SYS_fcntl],
            Call::Map => &[libc::SYS_mmap],
        }
    }

    pub(crate) fn of(number: c_long) -> Option<Call> {
        Call::ALL.into_iter().find(|call| call.numbers().contains(&number))
    }

    /// Returns whether its first argument is a path and not a descriptor. A descriptor may be that
    /// of a folder, followed by a path.
    pub(crate) fn path_first(number: c_long) -> bool {
        [libc::SYS_open, libc::SYS_rename, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_mkdir]
            .contains(&number)
    }

    /// Returns whether its second argument is a path relative to the folder in the first argument.
    pub(crate) fn path_second(number: c_long) -> bool {
        let with_path = [
            libc::SYS_openat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_unlinkat,
            libc::SYS_mkdirat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
        ];
        with_path.contains(&number)
    }

    /// Returns the errors that the kernel can return if the disk fails or is full, or if there is
    /// no memory.
    pub(crate) fn errors(self) -> &'static [i32] {
        use libc::{EIO, ENOLCK, ENOMEM, ENOSPC};
        match self {
            Call::Read
            | Call::ReadAt
            | Call::Remove
            | Call::SyncRange
            | Call::List
            | Call::LookAt
            | Call::Seek => &[EIO],
            Call::Open | Call::Rename | Call::MakeFolder => &[EIO, ENOSPC],
            Call::Write | Call::WriteAt | Call::Allocate | Call::SetLen => &[EIO, ENOSPC],
            Call::SyncData | Call::SyncAll | Call::SyncMap => &[EIO, ENOSPC],
            Call::Lock => &[EIO, ENOLCK],
            Call::Map => &[ENOMEM],
        }
    }

    /// Returns the events that can affect it without being a failure: the caller must continue.
    pub(crate) fn hindrances(self) -> &'static [How] {
        const INTERRUPTED: How = How::Error(libc::EINTR);
        match self {
            Call::ReadAt | Call::WriteAt | Call::Read | Call::Write => &[INTERRUPTED, How::Short],
            Call::Open | Call::SetLen => &[INTERRUPTED],
            // On a file system that cannot preallocate space, the store writes zeros instead.
            Call::Allocate => &[INTERRUPTED, How::Error(libc::EOPNOTSUPP)],
            // It is only a hint, whose result is not used.
            Call::SyncRange => &[INTERRUPTED, How::Error(libc::EIO)],
            _ => &[],
        }
    }
}

//! The system calls that concern files, and how each of them can fail.

use libc::c_long;

/// A system call of the kernel's interface, as far as a store uses it.
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
    /// With this number, and without having done anything.
    Error(i32),
    /// It reads or writes half of what it was asked to: no failure, if whoever calls goes on.
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

    /// Its numbers on this machine: some calls have several forms.
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

    /// Whether its first argument is a path, rather than a descriptor (perhaps of a folder, and then a path).
    pub(crate) fn path_first(number: c_long) -> bool {
        [libc::SYS_open, libc::SYS_rename, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_mkdir]
            .contains(&number)
    }

    /// Whether its second argument is a path below the folder that the first one names.
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

    /// What the kernel can answer when the disk fails or is full, or when there is no memory.
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

    /// What may happen to it without anything being wrong: whoever calls it goes on.
    pub(crate) fn hindrances(self) -> &'static [How] {
        const INTERRUPTED: How = How::Error(libc::EINTR);
        match self {
            Call::ReadAt | Call::WriteAt | Call::Read | Call::Write => &[INTERRUPTED, How::Short],
            Call::Open | Call::SetLen => &[INTERRUPTED],
            // A file system that cannot set space aside gets zeros instead.
            Call::Allocate => &[INTERRUPTED, How::Error(libc::EOPNOTSUPP)],
            // Only a hint, and it has no outcome.
            Call::SyncRange => &[INTERRUPTED, How::Error(libc::EIO)],
            _ => &[],
        }
    }
}

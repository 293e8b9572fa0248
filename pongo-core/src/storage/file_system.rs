//! The type of the file system on which a store is stored, as far as it affects the use of its
//! files: whether holes can be detected, whether reading a hole takes space, and whether a store
//! uses the space that was preallocated for it.
//!
//! Only file systems listed here are trusted. For any other the worst case is assumed, which costs
//! time but is correct. The measurements are in `docs/design/full-disk.md`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FallocateFlags, IFlags};
use rustix::io::{Errno, retry_on_intr};

use super::extent_map::is_preallocated;
use crate::guard::{fails, holds, removable};

/// Values of `f_type` returned by `fstatfs`.
const EXT_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683e;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// `FS_NOCOMP_FL`, which rustix does not define.
const NO_COMPRESS: u32 = 0x400;

/// A type of file system; see the module documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileSystem {
    /// ext2, ext3, ext4: overwrites in place.
    Ext,
    /// Overwrites in place, except blocks that are shared with another file.
    Xfs,
    /// Copies on write, except for files with `NOCOW` and blocks that are in no snapshot.
    Btrfs,
    /// In memory; reading a hole allocates a page.
    Tmpfs,
    /// Any other file system, or one that could not be detected.
    Other,
}

impl FileSystem {
    /// Returns the file system of an open file or folder.
    pub(super) fn of(fd: impl AsFd) -> Self {
        match rustix::fs::fstatfs(fd).map(|system| system.f_type as u64) {
            Ok(EXT_MAGIC) => Self::Ext,
            Ok(XFS_MAGIC) => Self::Xfs,
            Ok(BTRFS_MAGIC) => Self::Btrfs,
            Ok(TMPFS_MAGIC) => Self::Tmpfs,
            _ => Self::Other,
        }
    }

    /// Returns whether `SEEK_DATA` and `SEEK_HOLE` take into account pages that are in the page
    /// cache and were not written back. A FUSE file system with a writeback cache answers from its
    /// backing file and reports such pages as a hole.
    pub(super) fn knows_holes(self) -> bool {
        !fails!("space.holes", self == Self::Other)
    }

    /// Returns whether reading a hole through a map takes space.
    pub(super) fn hole_reads_allocate(self) -> bool {
        self == Self::Tmpfs
    }

    /// Returns whether a store through a map to [preallocated space](Self::preallocated) may need
    /// new space, and raise a signal when the disk is full.
    pub(super) fn stores_may_allocate(self) -> bool {
        matches!(self, Self::Btrfs | Self::Other)
    }

    /// Prepares a new, empty file. On btrfs, the file is then overwritten in place (as long as it
    /// is in no snapshot) and not compressed, so that its space can be preallocated. If the file
    /// system refuses, the file stays as it was.
    pub(super) fn prepare_new(self, file: impl AsFd) {
        if !self.stores_may_allocate() {
            return;
        }
        let file = file.as_fd();
        if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
            // Neither flag can be combined with `NOCOW`.
            let flags = flags - IFlags::COMPRESSED - IFlags::from_bits_retain(NO_COMPRESS);
            let _ = removable!("space.nocow", rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW));
        }
    }

    /// Preallocates space for bytes of a file, extending it if needed, in unshared blocks if the
    /// file system supports that. Returns `OPNOTSUPP` or `NOSYS` if there is no `fallocate`.
    pub(super) fn preallocate(self, file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
        let allocate = |flags| retry_on_intr(|| rustix::fs::fallocate(file, flags, offset, len));
        let outcome = match self {
            // A store to a block that is shared with a copy of the file (`cp --reflink`, and `cp`
            // by default) goes to a new block.
            Self::Xfs if holds!("space.unshare", false) => allocate(FallocateFlags::empty()),
            Self::Xfs => match allocate(FallocateFlags::UNSHARE_RANGE) {
                Err(Errno::OPNOTSUPP | Errno::INVAL) => allocate(FallocateFlags::empty()),
                outcome => outcome,
            },
            _ => allocate(FallocateFlags::empty()),
        };
        match outcome {
            // XFS requests space before it checks whether any is needed.
            Err(Errno::NOSPC | Errno::DQUOT) if is_preallocated(file, offset, len) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Returns the error for a page that cannot be made writable. The kernel reports only that a store
/// would raise a signal.
pub(super) fn no_space_for_a_page() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "no space for a page that is mapped (or the disk failed): the file system writes it to a new place",
    )
}

//! What kind of file system a store lies on, as far as it changes how its files are to be used: whether holes can be asked
//! for, whether reading one takes space, and whether space that was set aside is the space that a store will take.
//!
//! Only file systems that are named here are trusted; of any other the worst is assumed, which costs time and is right.
//! `docs/design/full-disk.md` has what was measured.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FallocateFlags, IFlags};
use rustix::io::{Errno, retry_on_intr};

use super::extent_map::is_set_aside;
use crate::guard::{fails, holds, removable};

/// What `fstatfs` says of each.
const EXT_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683e;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// `FS_NOCOMP_FL`, which rustix does not name.
const NO_COMPRESS: u32 = 0x400;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileSystem {
    /// ext2, ext3, ext4: written in place.
    Ext,
    /// Written in place, but for blocks that are shared with another file.
    Xfs,
    /// Writes elsewhere, but for files that say `NOCOW` and blocks that are in no snapshot.
    Btrfs,
    /// Memory; a hole that is read takes a page.
    Tmpfs,
    /// Any other, or one that cannot be told.
    Other,
}

impl FileSystem {
    /// That of an open file or folder.
    pub(super) fn of(fd: impl AsFd) -> Self {
        match rustix::fs::fstatfs(fd).map(|system| system.f_type as u64) {
            Ok(EXT_MAGIC) => Self::Ext,
            Ok(XFS_MAGIC) => Self::Xfs,
            Ok(BTRFS_MAGIC) => Self::Btrfs,
            Ok(TMPFS_MAGIC) => Self::Tmpfs,
            _ => Self::Other,
        }
    }

    /// Whether `SEEK_DATA` and `SEEK_HOLE` know of what is in the page cache and was not written back. A FUSE file system
    /// with a writeback cache answers from the file behind it and calls such pages a hole.
    pub(super) fn knows_holes(self) -> bool {
        !fails!("space.holes", self == Self::Other)
    }

    /// Whether reading a hole through a map takes space.
    pub(super) fn reading_holes_takes_space(self) -> bool {
        self == Self::Tmpfs
    }

    /// Whether a store through a map to space that was [set aside](Self::set_aside) may need new space, and, on a full disk,
    /// be a signal.
    pub(super) fn stores_may_take_space(self) -> bool {
        matches!(self, Self::Btrfs | Self::Other)
    }

    /// To be called on a file that is new and empty. On btrfs it is from then on written in place (as long as it is in no
    /// snapshot) and not compressed: its space can be set aside. A file system that refuses leaves it as it was.
    pub(super) fn prepare_new(self, file: impl AsFd) {
        if !self.stores_may_take_space() {
            return;
        }
        let file = file.as_fd();
        if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
            // Neither goes together with `NOCOW`.
            let flags = flags - IFlags::COMPRESSED - IFlags::from_bits_retain(NO_COMPRESS);
            let _ = removable!("space.nocow", rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW));
        }
    }

    /// Sets space aside for bytes of a file, lengthening it if need be, in blocks that are this file's alone where the file
    /// system can do that. `OPNOTSUPP` or `NOSYS` where there is no `fallocate`.
    pub(super) fn set_aside(self, file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
        let allocate = |flags| retry_on_intr(|| rustix::fs::fallocate(file, flags, offset, len));
        let outcome = match self {
            // Blocks that a copy of the file shares (`cp --reflink`, and `cp` by itself) are written elsewhere.
            Self::Xfs if holds!("space.unshare", false) => allocate(FallocateFlags::empty()),
            Self::Xfs => match allocate(FallocateFlags::UNSHARE_RANGE) {
                Err(Errno::OPNOTSUPP | Errno::INVAL) => allocate(FallocateFlags::empty()),
                outcome => outcome,
            },
            _ => allocate(FallocateFlags::empty()),
        };
        match outcome {
            // xfs asks for space before it looks whether any is needed.
            Err(Errno::NOSPC | Errno::DQUOT) if is_set_aside(file, offset, len) => Ok(()),
            outcome => outcome,
        }
    }
}

/// The error of a page that cannot be made writable: the kernel has no more to say than that a store would be a signal.
pub(super) fn no_space_for_a_page() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "no space for a page that is mapped (or the disk failed): the file system writes it to a new place",
    )
}

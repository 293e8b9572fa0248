//! The kernel that keeps a folder's pages and locks.

/// The kernel that manages a folder, as far as it can be detected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// The type of the file system, as returned by `statfs`; 0 for memory of this process.
    pub file_system: u64,
    /// Whether this kernel keeps all locks on the folder's files. `false` if this is unknown.
    pub is_local: bool,
    /// The kernel's boot ID; `None` if it is unavailable, for example without `/proc`.
    pub boot: Option<[u8; 16]>,
}

impl Host {
    /// The host of files that are memory of this process.
    pub const PROCESS: Host = Host { file_system: 0, is_local: true, boot: None };

    /// Creates the host for a file system of this type.
    pub(crate) fn of_file_system(file_system: u64, boot: Option<[u8; 16]>) -> Host {
        // On some machines the kernel returns the number as a signed 32-bit value.
        let file_system = file_system & 0xffff_ffff;
        let is_local = known(file_system).is_some_and(|(_, _, kept)| *kept == Locks::Kernel);
        Host { file_system, is_local, boot }
    }

    /// Returns the name of a file system type.
    pub(crate) fn name_of(file_system: u64) -> Option<&'static str> {
        known(file_system).map(|(_, name, _)| *name)
    }
}

fn known(file_system: u64) -> Option<&'static (u64, &'static str, Locks)> {
    KNOWN.iter().find(|(number, _, _)| *number == file_system)
}

/// The party that keeps the locks on a file system's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Locks {
    /// The kernel alone: every process that holds a lock runs on it.
    Kernel,
    /// A server, another machine or another program may hold locks.
    Others,
}

/// Types of file systems (`statfs(2)`, the kernel's `magic.h`). Only those whose locks this kernel
/// keeps are required here; the others are used in messages.
const KNOWN: [(u64, &str, Locks); 32] = {
    use Locks::{Kernel, Others};
    [
        (0xef53, "ext2/3/4", Kernel),
        (0x5846_5342, "XFS", Kernel),
        (0x9123_683e, "btrfs", Kernel),
        (0x0102_1994, "tmpfs", Kernel),
        (0x8584_58f6, "ramfs", Kernel),
        (0x794c_7630, "overlayfs", Kernel),
        (0x2fc1_2fc1, "ZFS", Kernel),
        (0xf2f5_2010, "F2FS", Kernel),
        (0xca45_1a4e, "bcachefs", Kernel),
        (0x3434, "NILFS2", Kernel),
        (0x3153_464a, "JFS", Kernel),
        (0x5265_4973, "ReiserFS", Kernel),
        (0x7366_746e, "NTFS", Kernel),
        (0x4d44, "FAT", Kernel),
        (0x2011_bab0, "exFAT", Kernel),
        (0x6969, "NFS", Others),
        (0xff53_4d42, "CIFS", Others),
        (0xfe53_4d42, "SMB", Others),
        (0x517b, "SMB", Others),
        (0x0102_1997, "9p", Others),
        (0x6573_5546, "FUSE", Others),
        (0x5346_414f, "AFS", Others),
        (0x6b41_4653, "AFS", Others),
        (0x00c3_6400, "Ceph", Others),
        (0x0bd0_0bd0, "Lustre", Others),
        (0x0116_1970, "GFS2", Others),
        (0x7461_636f, "OCFS2", Others),
        (0x786f_4256, "a VirtualBox shared folder", Others),
        (0x4750_4653, "GPFS", Others),
        (0x1983_0326, "BeeGFS", Others),
        (0x2003_0528, "OrangeFS", Others),
        (0x7375_7245, "Coda", Others),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_file_system_is_not_local() {
        let is_local = |number| Host::of_file_system(number, None).is_local;
        // The value that the kernel returns if `f_type` is a signed 32-bit number.
        assert!(is_local(0xef53) && is_local(0x9123_683e) && is_local(0xffff_ffff_9123_683e));
        assert!(!is_local(0x6969) && !is_local(0x6573_5546) && !is_local(0x1234_5678) && !is_local(0));
    }

    #[test]
    fn no_number_stands_for_two() {
        let mut numbers: Vec<u64> = KNOWN.iter().map(|(number, _, _)| *number).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|two| two[0] != two[1]), "{numbers:x?}");
    }
}

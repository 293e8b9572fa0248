//! Decides whether two processes that open one `control` file can share it.
//!
//! The words of `control` and the rows of a store are memory that processes share through the page
//! cache, so both must run on one kernel and access one inode. A lock that another process holds
//! proves this wherever the kernel itself keeps the locks: on every local file system, whatever
//! mount namespace, bind mount or chroot each process uses, and whether or not it can read `/proc`.
//! Where a server keeps the locks (NFS, SMB, 9p, cluster file systems, FUSE), the holder can be
//! another machine with its own page cache: there the boot ids must also be known and equal. An
//! unknown file system is treated as one of those.
//!
//! On a server's own local file system, the locks of its clients are visible. Therefore the type of
//! the file system, the device and the folder's inode are compared on every file system: a client
//! has different ones.

use std::fmt;
use std::io;

use crate::guard::{fails, holds};
use crate::storage::{Host, Storage};

/// Number of words of a place in `control`.
pub(crate) const WORDS: usize = 5;

/// The file system and folder in which a process accesses a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    host: Host,
    /// Device and inode number of the folder.
    folder: (u64, u64),
}

/// The reason why a process cannot share memory with the one that has the store open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Obstacle {
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Place {
    pub(crate) fn of(storage: &dyn Storage) -> io::Result<Self> {
        Ok(Self { host: storage.host()?, folder: storage.folder_identity()? })
    }

    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let boot = u128::from_le_bytes(self.host.boot.unwrap_or_default());
        [self.host.file_system, self.folder.0, self.folder.1, boot as u64, (boot >> 64) as u64]
    }

    /// Compares this process's place with the one that the processes with the store open have
    /// recorded.
    pub(crate) fn obstacle(&self, noted: [u64; WORDS]) -> Option<Obstacle> {
        let ours = self.to_words();
        let holder = |words: [u64; WORDS]| {
            format!("{} with device {:#x} and inode {}", FileSystem(words[0]), words[1], words[2])
        };
        if fails!("join.folder", ours[..3] != noted[..3]) {
            return Some(Obstacle {
                expected: format!("the folder that this process sees, on {}", holder(ours)),
                found: format!("one on {}", holder(noted)),
            });
        }
        // A container can have its own boot id: where the lock is sufficient proof, the id is
        // ignored.
        if self.host.is_local || holds!("join.boot", ours[3..] == noted[3..] && self.host.boot.is_some()) {
            return None;
        }
        Some(Obstacle {
            expected: format!(
                "boot {}, as of this process (a lock on {} can be another machine's, which shares no memory)",
                Boot(ours),
                FileSystem(ours[0])
            ),
            found: format!("boot {}", Boot(noted)),
        })
    }
}

/// The type of a file system, displayed by name if it is known here.
struct FileSystem(u64);

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Host::name_of(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "a file system of type {:#x}", self.0),
        }
    }
}

/// The boot id among the words of a place.
struct Boot([u64; WORDS]);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u128::from(self.0[3]) | u128::from(self.0[4]) << 64 {
            0 => f.write_str("unknown (make `/proc/sys/kernel/random/boot_id` readable)"),
            boot => uuid::Uuid::from_bytes(boot.to_le_bytes()).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: u64 = 0xef53;
    const NFS: u64 = 0x6969;

    fn place(file_system: u64, folder: (u64, u64), boot: Option<u8>) -> Place {
        let is_local = file_system == EXT4;
        Place { host: Host { file_system, is_local, boot: boot.map(|id| [id; 16]) }, folder }
    }

    fn meet(one: Place, holder: Place) -> Option<String> {
        one.obstacle(holder.to_words()).map(|obstacle| format!("{} | {}", obstacle.expected, obstacle.found))
    }

    #[test]
    fn local_disk_needs_only_a_lock() {
        let boots = [None, Some(1), Some(2)];
        for (ours, theirs) in boots.iter().flat_map(|ours| boots.iter().map(move |theirs| (*ours, *theirs))) {
            assert_eq!(meet(place(EXT4, (5, 6), ours), place(EXT4, (5, 6), theirs)), None);
        }
    }

    #[test]
    fn remote_disk_needs_equal_boots() {
        assert_eq!(meet(place(NFS, (5, 6), Some(1)), place(NFS, (5, 6), Some(1))), None);
        for (ours, theirs) in [(Some(1), Some(2)), (None, Some(1)), (Some(1), None), (None, None)] {
            let said = meet(place(NFS, (5, 6), ours), place(NFS, (5, 6), theirs)).expect("an obstacle");
            let unknown = said.matches("unknown (make `/proc").count();
            assert_eq!(unknown, usize::from(ours.is_none()) + usize::from(theirs.is_none()), "{said}");
            assert!(said.contains("NFS"), "{said}");
        }
        let said = meet(place(NFS, (5, 6), Some(1)), place(NFS, (5, 6), Some(2))).expect("an obstacle");
        assert!(said.ends_with("| boot 02020202-0202-0202-0202-020202020202"), "{said}");
    }

    /// Covers a server that opens a store that a client has open over the network, a second mount
    /// with its own page cache, and a hard link to the `control` of another store.
    #[test]
    fn the_folder_must_be_one_everywhere() {
        let holders =
            [place(NFS, (5, 6), Some(1)), place(EXT4, (4, 6), Some(1)), place(EXT4, (5, 7), Some(1))];
        for holder in holders {
            assert!(meet(place(EXT4, (5, 6), Some(1)), holder).is_some(), "{holder:?}");
        }
        assert!(meet(place(NFS, (5, 6), Some(1)), place(NFS, (9, 6), Some(1))).is_some());
    }
}

//! Detection of bytes of a file that have unshared space on the disk: the ioctl `FS_IOC_FIEMAP`,
//! which rustix does not have.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `FS_IOC_FIEMAP`: `_IOWR('f', 11, struct fiemap)`.
const FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
/// Flag of compressed or encrypted extents, which are written to a new place when they change.
const ENCODED: u32 = 0x8;
/// Flag of extents whose blocks are shared with other files.
const SHARED: u32 = 0x2000;
/// Maximum number of extents per call.
const COUNT: usize = 64;

/// `struct fiemap_extent` of `linux/fiemap.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap`, followed by an array of extents.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; COUNT],
}

const _: () = assert!(size_of::<Extent>() == 56 && size_of::<Request>() == 32 + 56 * COUNT);

/// Returns whether every byte of a range has allocated, unshared blocks, written or not. Returns
/// `false` if the file system does not support the query.
pub(super) fn is_preallocated(file: BorrowedFd<'_>, offset: u64, len: u64) -> bool {
    let Some(end) = offset.checked_add(len) else { return false };
    let mut at = offset;
    while at < end {
        let mut request = Request {
            start: at,
            length: end - at,
            flags: 0,
            mapped: 0,
            count: COUNT as u32,
            reserved: 0,
            extents: [Extent::default(); COUNT],
        };
        // SAFETY: the descriptor is open while it is borrowed. The ioctl reads and writes one
        // `struct fiemap` and at most `count` extents after it: together they are `Request`, which
        // lives and is not otherwise used during the call.
        let outcome = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, &raw mut request) };
        let mapped = request.extents.get(..request.mapped as usize).unwrap_or_default();
        if outcome == -1 || mapped.is_empty() {
            return false;
        }
        for extent in mapped {
            if extent.logical > at || extent.flags & (ENCODED | SHARED) != 0 {
                return false;
            }
            at = at.max(extent.logical.saturating_add(extent.length));
        }
    }
    // Blocks beyond the end of the file do not extend it.
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_size.cast_unsigned() >= end)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn holes_are_not_set_aside() {
        // Next to the source: the folder for temporary files may be a tmpfs, which does not support
        // the query.
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let all = |file: &File| is_preallocated(file.as_fd(), 0, 16 << 12);
        file.set_len(16 << 12).unwrap();
        assert!(!all(&file));
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 16 << 12).is_err()
            || !all(&file)
        {
            println!("skipped: the file system does not report preallocated space");
            return;
        }
        file.write_all_at(&[1; 3 << 12], 5 << 12).unwrap();
        assert!(all(&file), "what is written to keeps its space");
        assert!(!is_preallocated(file.as_fd(), 0, 17 << 12), "beyond the end");
        assert!(!is_preallocated(file.as_fd(), u64::MAX, 2));
        let holes = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, holes, 9 << 12, 1 << 12).unwrap();
        assert!(!all(&file));
        assert!(
            is_preallocated(file.as_fd(), 0, 9 << 12) && is_preallocated(file.as_fd(), 10 << 12, 6 << 12)
        );
    }
}

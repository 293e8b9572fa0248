//! Which bytes of a file have space on the disk that is theirs alone: the ioctl `FS_IOC_FIEMAP`, which rustix does not have.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `FS_IOC_FIEMAP`: `_IOWR('f', 11, struct fiemap)`.
const FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
/// Compressed or encrypted: written elsewhere when it changes.
const ENCODED: u32 = 0x8;
/// Other files have these blocks as well.
const SHARED: u32 = 0x2000;
/// Extents that are asked for at a time.
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

/// `struct fiemap` with room for extents behind it.
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

/// Whether every byte of a range has blocks of its own, written to or not. `false` where the file system does not say.
pub(super) fn is_set_aside(file: BorrowedFd<'_>, offset: u64, len: u64) -> bool {
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
        // SAFETY: the descriptor is open while it is borrowed. The ioctl reads and writes one `struct fiemap` and, behind it, at
        // most `count` extents: that is `Request`, which lives and is not otherwise used during the call.
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
    // Blocks behind the end of the file do not make it longer.
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
        // Beside the source: the folder for temporary files may be a tmpfs, which does not say.
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let all = |file: &File| is_set_aside(file.as_fd(), 0, 16 << 12);
        file.set_len(16 << 12).unwrap();
        assert!(!all(&file));
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 16 << 12).is_err()
            || !all(&file)
        {
            println!("skipped: the file system does not say what is set aside");
            return;
        }
        file.write_all_at(&[1; 3 << 12], 5 << 12).unwrap();
        assert!(all(&file), "what is written to keeps its space");
        assert!(!is_set_aside(file.as_fd(), 0, 17 << 12), "beyond the end");
        assert!(!is_set_aside(file.as_fd(), u64::MAX, 2));
        let holes = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, holes, 9 << 12, 1 << 12).unwrap();
        assert!(!all(&file));
        assert!(is_set_aside(file.as_fd(), 0, 9 << 12) && is_set_aside(file.as_fd(), 10 << 12, 6 << 12));
    }
}

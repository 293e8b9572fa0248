//! What every storage refuses before it does anything, so that a mistake shows in memory as it would on a disk.

use std::io;
use std::ops::Range;

use super::PAGE;

/// Offsets are signed in the kernel's interfaces; no file reaches this far.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// A path of a file: names divided by `/`, none empty, `.` or `..`, so that it cannot leave the store's folder.
pub(super) fn check_path(path: &str) -> io::Result<()> {
    let name_ok = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    if path.split('/').all(name_ok) {
        return Ok(());
    }
    Err(invalid(format!(
        "{path:?} is no path in a store: expected names divided by '/', without '.', '..' or a leading '/'"
    )))
}

/// A path of a folder: as of a file, or empty for the store's own.
pub(super) fn check_folder_path(path: &str) -> io::Result<()> {
    if path.is_empty() { Ok(()) } else { check_path(path) }
}

/// The end of `[offset, offset + len)`.
pub(super) fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset
        .checked_add(len)
        .filter(|end| *end <= MAX_OFFSET)
        .ok_or_else(|| invalid(format!("{len} bytes at byte {offset} end beyond byte {MAX_OFFSET}")))
}

/// The end of a range that may not be empty.
pub(super) fn end_of_some(offset: u64, len: u64) -> io::Result<u64> {
    if len == 0 {
        return Err(invalid(format!("no bytes at byte {offset}: expected a length above zero")));
    }
    end_of(offset, len)
}

/// Bytes to lock. An empty range is refused: to `fcntl` it would mean "all the rest".
pub(super) fn lock_range(start: u64, len: u64) -> io::Result<Range<u64>> {
    Ok(start..end_of_some(start, len)?)
}

/// A range to map: whole pages inside a file of `file_len` bytes. A map beyond the end would be a signal at its first use.
/// Gives the length as a size in memory.
pub(super) fn check_map(offset: u64, len: u64, file_len: u64) -> io::Result<usize> {
    let end = end_of_some(offset, len)?;
    if !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
        return Err(invalid(format!(
            "cannot map {len} bytes at byte {offset}: expected multiples of {PAGE}"
        )));
    }
    if end > file_len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("cannot map bytes {offset}..{end}: the file ends at byte {file_len}; was it truncated?"),
        ));
    }
    usize::try_from(len).map_err(|_| invalid(format!("cannot map {len} bytes: more than an address space")))
}

pub(super) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

//! Argument checks that every storage performs first, so that a mistake causes the same error in
//! memory as on a disk.

use std::io;
use std::ops::Range;

use super::PAGE;

/// Maximum offset in a file. Offsets are signed in the kernel's interfaces.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Returns an error unless `path` is a valid file path: names separated by `/`, none of them empty,
/// `.` or `..`, so that it cannot leave the store's folder.
pub(super) fn check_path(path: &str) -> io::Result<()> {
    let name_ok = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    if path.split('/').all(name_ok) {
        return Ok(());
    }
    Err(invalid(format!(
        "{path:?} is no path in a store: expected names divided by '/', without '.', '..' or a leading '/'"
    )))
}

/// Returns an error unless `path` is a valid folder path: like that of a file, or empty for the
/// store's own folder.
pub(super) fn check_folder_path(path: &str) -> io::Result<()> {
    if path.is_empty() { Ok(()) } else { check_path(path) }
}

/// Returns the end of `[offset, offset + len)`.
pub(super) fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset
        .checked_add(len)
        .filter(|end| *end <= MAX_OFFSET)
        .ok_or_else(|| invalid(format!("{len} bytes at byte {offset} end beyond byte {MAX_OFFSET}")))
}

/// Returns the end of a range. Returns an error if the range is empty.
pub(super) fn end_of_some(offset: u64, len: u64) -> io::Result<u64> {
    if len == 0 {
        return Err(invalid(format!("no bytes at byte {offset}: expected a length above zero")));
    }
    end_of(offset, len)
}

/// Returns the range of bytes to lock. Rejects an empty range, which `fcntl` would interpret as "to
/// the end of the file".
pub(super) fn lock_range(start: u64, len: u64) -> io::Result<Range<u64>> {
    Ok(start..end_of_some(start, len)?)
}

/// Returns the length of a range to map as a `usize`. Returns an error unless the range consists of
/// whole pages inside a file of `file_len` bytes: accessing a map beyond the end of the file raises
/// a signal.
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

//! The only cast that does not validate the bytes: for rows that were validated before.

use zerocopy::{Immutable, TryFromBytes};

/// Casts bytes to a slice of `T` without validating each `T`. Returns `None` if the length or the
/// alignment is wrong.
///
/// # Safety
/// `bytes` must be a sequence of valid `T`s.
pub(crate) unsafe fn slice_unchecked<T: TryFromBytes + Immutable>(bytes: &[u8]) -> Option<&[T]> {
    let size = core::mem::size_of::<T>();
    let pointer = bytes.as_ptr().cast::<T>();
    if size == 0 || !bytes.len().is_multiple_of(size) || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: the pointer is aligned and covers `bytes`, which is borrowed for the result's
    // lifetime; its length is a multiple of the size; the caller promises valid values; `Immutable`
    // excludes interior mutability. Padding may have any bytes.
    Some(unsafe { core::slice::from_raw_parts(pointer, bytes.len() / size) })
}

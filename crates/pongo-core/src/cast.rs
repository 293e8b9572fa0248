//! The one cast without a look at the bytes: rows that were found valid before.

use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// Bytes as a slice of `T`, without looking whether each is a valid `T`. `None` if the length or the alignment is wrong.
///
/// # Safety
/// `bytes` is a run of valid `T`s.
pub(crate) unsafe fn slice_unchecked<T: TryFromBytes + IntoBytes + Immutable>(bytes: &[u8]) -> Option<&[T]> {
    let size = core::mem::size_of::<T>();
    let pointer = bytes.as_ptr().cast::<T>();
    if size == 0 || !bytes.len().is_multiple_of(size) || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: the pointer is aligned and covers `bytes`, which is borrowed for the result's lifetime; its length is a
    // multiple of the size; the caller promises valid values; `Immutable` leaves no cell to write through.
    Some(unsafe { core::slice::from_raw_parts(pointer, bytes.len() / size) })
}

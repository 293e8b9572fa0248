//! Rows in memory as bytes: [`RowBuffer`].

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::Deref;

use crate::padding::with_bytes;
use crate::record::FieldType;

/// A list of rows that can be read as a `[T]` and as bytes. Padding bytes are zero.
///
/// Holds copies of bytes: a `Drop` implementation of `T` is not run for them.
///
/// Its invariant: every byte of each element of `rows` is initialised, and each element is a valid
/// `T`.
pub struct RowBuffer<T> {
    rows: Vec<MaybeUninit<T>>,
}

impl<T> Default for RowBuffer<T> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<T> core::fmt::Debug for RowBuffer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RowBuffer").field("rows", &self.rows.len()).finish()
    }
}

impl<T: FieldType> RowBuffer<T> {
    /// Creates an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Appends a copy of a row.
    ///
    /// # Panics
    /// If a manual implementation of [`FieldType`] writes other bytes than those of the value.
    #[inline]
    pub fn push(&mut self, row: &T) {
        self.rows.reserve(1);
        let len = self.rows.len();
        let slot = self.rows.spare_capacity_mut().as_mut_ptr().cast::<T>();
        if T::UNPADDED.is_some() {
            // SAFETY: `reserve` made space for one more element at `slot`, which is aligned and
            // overlaps no other value.
            unsafe { slot.copy_from_nonoverlapping(row, 1) };
        } else {
            // SAFETY: as above: the space of one element.
            unsafe { slot.write_bytes(0, 1) };
            // SAFETY: the bytes are those of one element, which were initialised just now, and no
            // other reference to them exists.
            let bytes = unsafe { core::slice::from_raw_parts_mut(slot.cast::<u8>(), size_of::<T>()) };
            row.write_fields(bytes);
            // The bytes come from a safe trait, so they are not taken to be a valid `T`.
            assert!(T::try_ref_from_bytes(bytes).is_ok(), "the bytes of a value are a value");
        }
        // SAFETY: there is capacity for `len + 1` elements. All bytes of the last one are
        // initialised, also in the first branch, where `T` has no padding; and it is a valid `T`, as
        // a copy of one or because that was tested.
        unsafe { self.rows.set_len(len + 1) };
    }

    /// Replaces a row by a copy of another one.
    ///
    /// # Panics
    /// As [`push`](Self::push), and if there is no row at `place`. The list is not changed then.
    #[inline]
    pub fn set(&mut self, place: usize, row: &T) {
        assert!(place < self.rows.len(), "only a row of the list is replaced");
        with_bytes(row, |row| {
            // As in `push`: bytes from a safe trait are tested.
            let valid = T::UNPADDED.is_some() || T::try_read_from_bytes(row).is_ok();
            assert!(valid, "the bytes of a value are a value");
            let at = place * size_of::<T>();
            self.bytes_mut()[at..at + size_of::<T>()].copy_from_slice(row);
        });
    }

    /// Removes a row; the last one takes its place.
    ///
    /// # Panics
    /// If there is no row at `place`.
    pub fn swap_remove(&mut self, place: usize) {
        assert!(place < self.rows.len(), "only a row of the list is removed");
        let (size, last) = (size_of::<T>(), self.rows.len() - 1);
        self.bytes_mut().copy_within(last * size..(last + 1) * size, place * size);
        self.rows.truncate(last);
    }

    /// Exchanges two rows.
    ///
    /// # Panics
    /// If there is no row at one of the places.
    pub fn swap(&mut self, a: usize, b: usize) {
        assert!(a.max(b) < self.rows.len(), "only rows of the list are exchanged");
        let size = size_of::<T>();
        if a != b {
            let (low, high) = self.bytes_mut().split_at_mut(a.max(b) * size);
            low[a.min(b) * size..][..size].swap_with_slice(&mut high[..size]);
        }
    }

    /// Removes the last row, if there is one.
    pub fn pop(&mut self) {
        self.rows.pop();
    }

    /// Returns the bytes of all rows.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: all bytes of all elements are initialised (see the invariant), and borrowed for
        // the result's lifetime; `T: Immutable` excludes that they change.
        unsafe { core::slice::from_raw_parts(self.rows.as_ptr().cast::<u8>(), size_of_val(&self.rows[..])) }
    }

    /// Returns the bytes of a row.
    ///
    /// # Panics
    /// If there is no row at `place`.
    #[must_use]
    #[inline]
    pub fn row_bytes(&self, place: usize) -> &[u8] {
        let row = core::ptr::from_ref(&self.rows[place]);
        // SAFETY: as in `bytes`, for one element.
        unsafe { core::slice::from_raw_parts(row.cast::<u8>(), size_of::<T>()) }
    }

    /// Returns the bytes of all rows. The callers write only whole rows, each a valid `T`.
    fn bytes_mut(&mut self) -> &mut [u8] {
        let len = size_of_val(&self.rows[..]);
        // SAFETY: all bytes of all elements are initialised, and borrowed mutably for the result's
        // lifetime.
        unsafe { core::slice::from_raw_parts_mut(self.rows.as_mut_ptr().cast::<u8>(), len) }
    }

    /// Converts the list into values that the program can change in place.
    #[must_use]
    pub fn into_values(self) -> Vec<T> {
        let mut rows = ManuallyDrop::new(self.rows);
        // SAFETY: the allocation is that of a `Vec` which is not dropped. `MaybeUninit<T>` has the
        // layout of `T`, and all elements are valid `T`s (see the invariant).
        unsafe { Vec::from_raw_parts(rows.as_mut_ptr().cast::<T>(), rows.len(), rows.capacity()) }
    }
}

impl<T: FieldType> Deref for RowBuffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: all elements are valid `T`s (see the invariant), in the layout of a `[T]`.
        unsafe { core::slice::from_raw_parts(self.rows.as_ptr().cast::<T>(), self.rows.len()) }
    }
}

impl<T: FieldType> Extend<T> for RowBuffer<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.push(&row));
    }
}

/// Appends the bytes of a row to others, with zeros for padding.
#[inline]
pub fn append_bytes<T: FieldType>(row: &T, out: &mut Vec<u8>) {
    with_bytes(row, |bytes| out.extend_from_slice(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;
    use crate::unpadded::Unpadded;
    use zerocopy::{Immutable, KnownLayout, TryFromBytes};

    #[pongo_derive::record]
    #[pongo(crate = "crate")]
    #[derive(PartialEq, Debug)]
    struct Padded {
        narrow: u8,
        wide: u32,
        flag: bool,
    }

    fn row(n: u32) -> Padded {
        Padded { narrow: n as u8, wide: n, flag: true }
    }

    fn bytes(n: u8) -> [u8; 12] {
        [n, 0, 0, 0, n, 0, 0, 0, 1, 0, 0, 0]
    }

    #[test]
    fn rows_are_moved_as_whole_bytes() {
        let mut rows = RowBuffer::new();
        rows.extend((0..5).map(row));
        assert_eq!(rows.bytes(), (0..5).flat_map(bytes).collect::<Vec<_>>());
        rows.set(1, &row(9));
        rows.swap(0, 4);
        rows.swap(2, 2);
        rows.swap_remove(1);
        assert_eq!(rows[..], [4, 0, 2, 3].map(row));
        rows.swap_remove(3);
        rows.pop();
        assert_eq!((rows.len(), rows.row_bytes(1)), (2, &bytes(0)[..]));
        let mut values = rows.into_values();
        values[0].wide = 70;
        assert_eq!(values, [Padded { narrow: 4, wide: 70, flag: true }, row(0)]);
    }

    #[test]
    fn rows_without_padding_are_copied() {
        let mut rows = RowBuffer::new();
        rows.extend([1u16, 2, 3]);
        rows.set(0, &7);
        assert_eq!((&rows[..], rows.bytes()), (&[7, 2, 3][..], &[7, 0, 2, 0, 3, 0][..]));
    }

    /// A wrong manual implementation: its `write_fields` writes bytes that are no value.
    #[derive(TryFromBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Wrong {
        flag: bool,
        wide: u16,
    }

    impl FieldType for Wrong {
        const KIND: Kind = Kind::Bool;
        const ABSENT_VALUE: Self = Self { flag: false, wide: 0 };
        const UNPADDED: Option<Unpadded<Self>> = None;

        fn write_fields(&self, out: &mut [u8]) {
            out.fill(2);
        }
    }

    #[test]
    fn bytes_that_are_no_value_are_not_taken() {
        let mut rows = RowBuffer::new();
        let pushed =
            std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| rows.push(&Wrong::ABSENT_VALUE)));
        assert!(pushed.is_err() && rows.is_empty());
    }
}

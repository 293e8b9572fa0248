//! Values as bytes, for types with and without padding.
//!
//! The compiler may leave padding bytes uninitialised, and reading an uninitialised byte is
//! undefined behaviour. Therefore no `&[u8]` is created over a value of a type that may have
//! padding: [`copy_to`] writes its fields into zeroed bytes instead. The bytes of a value are the
//! same each time, and padding bytes in files are zero. For a type with an [`Unpadded`] the
//! compiler reduces this to a copy of memory.

use core::marker::PhantomData;

use crate::record::FieldType;
pub use crate::unpadded::{Part, Unpadded};

/// Writes the bytes of a value into `out`, with zeros for padding.
///
/// # Panics
/// If `out` does not have the value's size.
#[inline(always)]
pub fn copy_to<T: FieldType>(value: &T, out: &mut [u8]) {
    match T::UNPADDED {
        Some(unpadded) => out.copy_from_slice(unpadded.bytes(value)),
        None => {
            assert_eq!(out.len(), size_of::<T>(), "a value is written into bytes of its size");
            out.fill(0);
            value.write_fields(out);
        }
    }
}

/// Values with padding of up to this size are written into bytes on the stack.
const SMALL: usize = 256;

/// Calls a function with the bytes of a value, in which padding is zero. They are the value's own
/// bytes if it has no padding.
#[inline(always)]
pub fn with_bytes<T: FieldType, R>(value: &T, then: impl FnOnce(&[u8]) -> R) -> R {
    match T::UNPADDED {
        Some(unpadded) => then(unpadded.bytes(value)),
        None => with_copied_bytes(value, then),
    }
}

fn with_copied_bytes<T: FieldType, R>(value: &T, then: impl FnOnce(&[u8]) -> R) -> R {
    if size_of::<T>() <= SMALL {
        let mut bytes = [0; SMALL];
        let bytes = &mut bytes[..size_of::<T>()];
        value.write_fields(bytes);
        then(bytes)
    } else {
        let mut bytes = vec![0; size_of::<T>()];
        value.write_fields(&mut bytes);
        then(&bytes)
    }
}

/// Returns whether two values have the same bytes. Padding is ignored.
#[must_use]
pub fn equal_bytes<T: FieldType>(a: &T, b: &T) -> bool {
    with_bytes(a, |a| with_bytes(b, |b| a == b))
}

/// Returns a copy of a value, made from its bytes.
///
/// # Panics
/// If a manual implementation of [`FieldType`] writes other bytes than those of the value.
#[inline]
pub fn copy_of<T: FieldType>(value: &T) -> T {
    with_bytes(value, |bytes| {
        T::try_read_from_bytes(bytes).unwrap_or_else(|_| unreachable!("the bytes of a value are a value"))
    })
}

/// A record whose layout has no padding: its fields are adjacent, and so are those of the records
/// in it. Rows of such a type can be filled in place (`TableMut::alloc`).
///
/// Implemented by `#[pongo::record]` and `#[derive(PongoRecord)]` where it applies.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record that is known to have no padding",
    label = "rows of this type cannot be filled in place",
    note = "add the bound `T: PaddingFree` to the generic function, or use `put` or `extend`"
)]
pub trait PaddingFree: FieldType {}

/// Returns the proof that a record has no padding.
#[must_use]
pub const fn unpadded<T: PaddingFree>() -> Unpadded<T> {
    T::UNPADDED.expect("a manual implementation of `PaddingFree` is for a record without padding")
}

/// The layout of a record: `UNPADDED` says whether it has no padding. The lifetime is not used. It
/// makes the bound `for<'a> Layout<'a, …>: NoPadding<T>` one that the compiler does not decide at
/// the `impl`.
#[doc(hidden)]
pub struct Layout<'a, const UNPADDED: bool>(PhantomData<&'a ()>);

/// Holds for a [`Layout`] without padding; `T` is the record, for the message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` has padding, so its rows cannot be filled in place",
    label = "the program would write into the row's bytes, and what it leaves in padding is undefined",
    note = "order the fields by alignment, the largest first, and fill the rest with a field such as \
            `_pad: [u8; 3]`, also in the records that are fields of `{T}`",
    note = "`put`, `insert` and `extend` take records with padding"
)]
pub trait NoPadding<T> {}
impl<T> NoPadding<T> for Layout<'_, true> {}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;
    use crate::fields::{Maybe, Text};

    #[pongo_derive::record]
    #[pongo(crate = "crate")]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Inner {
        wide: u32,
        narrow: u8,
    }

    #[pongo_derive::record]
    #[pongo(crate = "crate", table = "padded")]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Padded {
        #[pongo(key)]
        region: u16,
        #[pongo(key)]
        number: u32,
        quantity: u16,
        price: f64,
        inner: [Inner; 2],
        maybe: Maybe<Inner>,
        flag: bool,
    }

    #[pongo_derive::record]
    #[pongo(crate = "crate")]
    struct Whole {
        wide: u32,
        narrow: u16,
        bytes: [u8; 2],
    }

    fn padded() -> Padded {
        let inner = |wide| Inner { wide, narrow: 7 };
        Padded {
            region: 0x1111,
            number: 0x2222_2222,
            quantity: 0x3333,
            price: f64::from_bits(0x4444_4444_4444_4444),
            inner: [inner(0x5555_5555), inner(0x6666_6666)],
            maybe: Maybe::some(inner(0x7777_7777)),
            flag: true,
        }
    }

    const EXPECTED: &[u8; 56] = b"\x11\x11\0\0\x22\x22\x22\x22\x33\x33\0\0\0\0\0\0\
        \x44\x44\x44\x44\x44\x44\x44\x44\x55\x55\x55\x55\x07\0\0\0\x66\x66\x66\x66\x07\0\0\0\
        \x01\0\0\0\x77\x77\x77\x77\x07\0\0\0\x01\0\0\0";

    /// Returns the value in memory whose padding was 0xAA before the fields were written.
    fn dirty<T>(slot: &mut MaybeUninit<T>, write: impl FnOnce(&mut MaybeUninit<T>)) -> &T {
        // SAFETY: `slot` is valid for writes of a `T`.
        unsafe { slot.as_mut_ptr().write_bytes(0xaa, 1) };
        write(slot);
        // SAFETY: `write` initialised every field.
        unsafe { slot.assume_init_ref() }
    }

    #[test]
    fn certificates_follow_the_layout() {
        assert!(u64::UNPADDED.is_some() && <[u16; 3]>::UNPADDED.is_some() && Text::UNPADDED.is_some());
        assert!(Whole::UNPADDED.is_some() && <[Whole; 4]>::UNPADDED.is_some());
        assert!(Maybe::<u32>::UNPADDED.is_some() && Maybe::<Whole>::UNPADDED.is_some());
        assert!(Inner::UNPADDED.is_none() && <[Inner; 2]>::UNPADDED.is_none());
        assert!(Maybe::<Inner>::UNPADDED.is_none() && Padded::UNPADDED.is_none());
    }

    /// With Miri this fails if a byte that was not initialised is read.
    #[test]
    fn padding_is_written_as_zeros() {
        let mut slot = MaybeUninit::uninit();
        let value = dirty(&mut slot, |slot| {
            slot.write(padded());
        });
        let mut out = [0xbb; 56];
        copy_to(value, &mut out);
        assert_eq!(&out, EXPECTED);
        with_bytes(value, |bytes| assert_eq!(bytes, EXPECTED));
        assert!(equal_bytes(value, &padded()) && !equal_bytes(value, &Padded { flag: false, ..padded() }));
        assert_eq!(copy_of(value), padded());
        let many = [padded(); 5];
        with_bytes(&many, |bytes| {
            assert_eq!(bytes.len(), 5 * 56);
            assert!(bytes.chunks_exact(56).all(|bytes| bytes == EXPECTED));
        });
        let none = Maybe::<Inner>::NONE;
        with_bytes(&none, |bytes| assert_eq!(bytes, [0; 12]));
    }

    #[test]
    fn a_value_without_padding_is_its_own_bytes() {
        let whole = Whole { wide: 0x0403_0201, narrow: 0x0605, bytes: [7, 8] };
        let at = core::ptr::from_ref(&whole).cast::<u8>();
        with_bytes(&whole, |bytes| assert_eq!((bytes, bytes.as_ptr()), (&[1, 2, 3, 4, 5, 6, 7, 8][..], at)));
        let mut out = [0; 8];
        copy_to(&whole, &mut out);
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    #[should_panic(expected = "bytes of its size")]
    fn bytes_of_another_size_are_refused() {
        copy_to(&padded(), &mut [0; 55]);
    }
}

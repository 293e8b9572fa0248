//! The proof that a type has no padding, and the bytes of its values: [`Unpadded`].

use core::marker::PhantomData;

use zerocopy::{Immutable, IntoBytes};

/// Proof that a type has no padding: every byte of every value of `T` is initialised.
///
/// Safe code obtains one only for a type that implements `IntoBytes`, and for arrays of a type for
/// which it has one.
pub struct Unpadded<T>(PhantomData<fn() -> T>);

impl<T> Clone for Unpadded<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Unpadded<T> {}

impl<T> core::fmt::Debug for Unpadded<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Unpadded")
    }
}

/// The size of a field of `T`, and whether the field's type has no padding.
#[doc(hidden)]
pub struct Part<T> {
    size: usize,
    unpadded: bool,
    of: PhantomData<fn() -> T>,
}

impl<T> Part<T> {
    /// Describes the field that `project` borrows. The two arguments agree on the field's type, so
    /// that it is the declared one.
    #[must_use]
    pub const fn new<F>(project: fn(&T) -> &F, unpadded: Option<Unpadded<F>>) -> Self {
        let _ = project;
        Self { size: size_of::<F>(), unpadded: unpadded.is_some(), of: PhantomData }
    }
}

impl<T> Unpadded<T> {
    /// Returns the proof for a type that zerocopy knows to have no padding.
    #[must_use]
    pub const fn of_into_bytes() -> Self
    where
        T: IntoBytes,
    {
        Self(PhantomData)
    }

    /// Returns the proof for a struct if its fields have no padding and take all of its bytes.
    ///
    /// # Safety
    /// `T` is a struct, and each element of `parts` describes another field of it.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn of_struct(parts: &[Part<T>]) -> Option<Self> {
        let (mut size, mut place) = (0, 0);
        while place < parts.len() {
            if !parts[place].unpadded {
                return None;
            }
            size += parts[place].size;
            place += 1;
        }
        // The fields of a struct do not overlap: they cover as many bytes as they have in all.
        if size == size_of::<T>() { Some(Self(PhantomData)) } else { None }
    }

    /// Returns the proof for an enum without fields, if it has the size of its integer `R`: an
    /// alignment above that of `R` would add padding.
    ///
    /// # Safety
    /// `T` is an enum, none of its variants has a field, and it is represented by `R`
    /// (`#[repr(u8)]`, for example).
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn of_enum<R>() -> Option<Self> {
        if size_of::<T>() == size_of::<R>() { Some(Self(PhantomData)) } else { None }
    }

    /// Returns the proof for a type whose layout the caller knows.
    ///
    /// # Safety
    /// No value of `T` has padding: all of its bytes are initialised.
    #[must_use]
    pub(crate) const unsafe fn of_layout() -> Self {
        Self(PhantomData)
    }

    /// Returns the proof for arrays: elements are adjacent.
    #[must_use]
    pub const fn array<const N: usize>(self) -> Unpadded<[T; N]> {
        Unpadded(PhantomData)
    }
}

impl<T: Immutable> Unpadded<T> {
    /// Returns the bytes of a value.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(self, value: &T) -> &[u8] {
        self.slice_bytes(core::slice::from_ref(value))
    }

    /// Returns the bytes of adjacent values.
    #[must_use]
    #[inline(always)]
    pub const fn slice_bytes(self, values: &[T]) -> &[u8] {
        let len = size_of_val(values);
        // SAFETY: the bytes are those of `values`, which are borrowed for the result's lifetime.
        // They do not change, since `T: Immutable` has no interior mutability, and all of
        // them are initialised, since `self` proves that `T` has no padding. A `u8` needs no
        // alignment.
        unsafe { core::slice::from_raw_parts(values.as_ptr().cast::<u8>(), len) }
    }
}

/// Writes the bytes of a value without padding: the default of `write_fields`.
///
/// # Panics
/// If the type may have padding, since its fields are not known here.
#[inline]
pub(crate) fn write_whole<T: Immutable>(unpadded: Option<Unpadded<T>>, value: &T, out: &mut [u8]) {
    match unpadded {
        Some(unpadded) => out.copy_from_slice(unpadded.bytes(value)),
        None => panic!(
            "`{}` has padding and does not implement `write_fields`: use `#[pongo::record]`",
            core::any::type_name::<T>()
        ),
    }
}

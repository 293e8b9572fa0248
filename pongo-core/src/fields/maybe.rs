//! A value that may be absent: adds no padding to that of the value.
//!
//! An `Option<u32>` has three bytes of padding and no fixed layout. A [`Maybe<u32>`] is a *cell*: a
//! tag as wide as the value's alignment, followed by the value.
//!
//! ```text
//! tag    align_of::<T>() bytes: the first is 1 if the value is present, all others are 0
//! value  size_of::<T>() bytes: T::ABSENT_VALUE if it is not
//! ```
//!
//! The tag ends at a valid offset for the value, and the cell's size is a multiple of the
//! alignment, so there is no padding except that of the value. On stable Rust no single generic
//! struct can declare "as many bytes as the alignment of `T`": each type names its cell, the cell of
//! its arrays and its [`Tag`] in [`Optional`].
//!
//! | cell | used for | why it has no padding |
//! | --- | --- | --- |
//! | [`Single`], [`Repeated`] | numbers, `bool`, `char`, arrays of them | tag and value share a type |
//! | [`Bytewise`] | types with alignment 1, arrays of them | no part has an alignment above 1 |
//! | [`NonZeroCell`] | `NonZero` integers, arrays of them | enum with `repr(u8)`; the sizes are compared |
//! | `record_cell!` | `Timestamp`, `Text`, `Blob` | struct that implements `IntoBytes` |
//! | [`Tagged`] | records, enums, all other arrays | the sizes of its fields are compared |

use core::fmt;
use core::hash::{Hash, Hasher};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes, Unaligned};

use crate::record::FieldType;
use crate::schema::Kind;
use crate::unpadded::{Part, Unpadded, write_whole};

/// A field type that can be used in a [`Maybe`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a `Maybe`",
    label = "there is no cell for this type",
    note = "take a type that can be a field of a record, except a `Maybe`"
)]
pub trait Optional: FieldType {
    /// The cell: tag and value.
    #[doc(hidden)]
    type Cell: OptionalCell<Value = Self>;
    /// The cell of an array of values.
    #[doc(hidden)]
    type ArrayCell<const N: usize>: OptionalCell<Value = [Self; N]>;
    /// The tag for the type's alignment.
    #[doc(hidden)]
    type Tag: Tag;
}

impl<F: Optional, const N: usize> Optional for [F; N] {
    type Cell = F::ArrayCell<N>;
    type ArrayCell<const M: usize> = Tagged<F::Tag, [[F; N]; M]>;
    type Tag = F::Tag;
}

/// The tag and value of a [`Maybe`].
#[doc(hidden)]
pub trait OptionalCell: TryFromBytes + Immutable + KnownLayout + Sized + Send + Sync + 'static {
    /// The value's type.
    type Value;
    /// A cell without a value: tag and value are blank.
    const ABSENT: Self;
    /// The proof that the cell has no padding, if it has none.
    const UNPADDED: Option<Unpadded<Self>>;
    /// Creates a cell with a value.
    fn present(value: Self::Value) -> Self;
    /// Returns whether the first byte of the tag is not 0.
    fn is_present(&self) -> bool;
    /// Returns the value, if it is present.
    fn value(&self) -> Option<&Self::Value>;
    /// Converts the cell into the value, if it is present.
    fn into_value(self) -> Option<Self::Value>;
    /// Writes tag and value into `out`, as [`FieldType::write_fields`] does.
    #[inline]
    fn write_fields(&self, out: &mut [u8]) {
        write_whole(Self::UNPADDED, self, out);
    }
}

/// A `T` or no value: the equivalent of `Option<T>` in a record.
///
/// Takes the size of `T` plus its alignment. In a row of zero bytes every `Maybe` is absent.
///
/// ```
/// use pongo::Maybe;
///
/// let delay = Maybe::some(2.5f32);
/// assert_eq!(delay.get(), Some(&2.5));
/// assert_eq!(size_of_val(&delay), 8);
/// assert_eq!(Maybe::<f32>::from(None).to_option(), None);
/// ```
#[derive(TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Maybe<T: Optional>(
    T::Cell,
    // Without this field a type that cannot stand in a `Maybe` is two errors: the size of a struct
    // depends on the type of its last field.
    (),
);

impl<T: Optional> Maybe<T> {
    /// No value.
    pub const NONE: Self = Self(T::Cell::ABSENT, ());

    /// Returns a `Maybe` without a value.
    #[must_use]
    #[inline]
    pub const fn none() -> Self {
        Self::NONE
    }

    /// Returns a `Maybe` with a value.
    #[must_use]
    #[inline]
    pub fn some(value: T) -> Self {
        Self(T::Cell::present(value), ())
    }

    /// Returns whether a value is present, which is the case if the first byte of the tag is not 0.
    #[must_use]
    #[inline]
    pub fn is_some(&self) -> bool {
        self.0.is_present()
    }

    /// Returns whether no value is present.
    #[must_use]
    #[inline]
    pub fn is_none(&self) -> bool {
        !self.is_some()
    }

    /// Returns the value, borrowed from the record.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.value()
    }

    /// Returns a copy of the value.
    #[must_use]
    #[inline]
    pub fn to_option(&self) -> Option<T>
    where
        T: Copy,
    {
        self.get().copied()
    }

    /// Converts the `Maybe` into the value.
    #[must_use]
    #[inline]
    pub fn into_option(self) -> Option<T> {
        self.0.into_value()
    }
}

impl<T: Optional> FieldType for Maybe<T> {
    const KIND: Kind = Kind::Maybe(&T::KIND);
    const ABSENT_VALUE: Self = Self::NONE;
    // SAFETY: one part for one of the struct's fields.
    const UNPADDED: Option<Unpadded<Self>> =
        unsafe { Unpadded::of_struct(&[Part::new(|maybe: &Self| &maybe.0, T::Cell::UNPADDED)]) };

    #[inline]
    fn write_fields(&self, out: &mut [u8]) {
        self.0.write_fields(out);
    }
}

impl<T: Optional> Default for Maybe<T> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T: Optional> From<Option<T>> for Maybe<T> {
    #[inline]
    fn from(value: Option<T>) -> Self {
        match value {
            Some(value) => Self::some(value),
            None => Self::NONE,
        }
    }
}

impl<T: Optional> From<T> for Maybe<T> {
    #[inline]
    fn from(value: T) -> Self {
        Self::some(value)
    }
}

impl<T: Optional> From<Maybe<T>> for Option<T> {
    #[inline]
    fn from(value: Maybe<T>) -> Self {
        value.into_option()
    }
}

impl<T: Optional> Clone for Maybe<T>
where
    T::Cell: Clone,
{
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone(), ())
    }
}

impl<T: Optional> Copy for Maybe<T> where T::Cell: Copy {}

impl<T: Optional + PartialEq> PartialEq for Maybe<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Optional + Eq> Eq for Maybe<T> {}

impl<T: Optional + PartialOrd> PartialOrd for Maybe<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl<T: Optional + Ord> Ord for Maybe<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.get().cmp(&other.get())
    }
}

impl<T: Optional + Hash> Hash for Maybe<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl<T: Optional + fmt::Debug> fmt::Debug for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A type whose size equals its alignment, so that it can be its own tag.
#[doc(hidden)]
pub trait Word: FieldType + IntoBytes + Copy {
    /// The value whose first byte is 1 and whose other bytes are 0.
    const ONE: Self;
}

/// The cell of one [`Word`].
#[doc(hidden)]
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Single<T> {
    tag: T,
    value: T,
}

impl<T: Word> OptionalCell for Single<T> {
    type Value = T;
    const ABSENT: Self = Self { tag: T::ABSENT_VALUE, value: T::ABSENT_VALUE };
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
    #[inline]
    fn present(value: T) -> Self {
        Self { tag: T::ONE, value }
    }
    #[inline]
    fn is_present(&self) -> bool {
        self.tag.as_bytes()[0] != 0
    }
    #[inline]
    fn value(&self) -> Option<&T> {
        if self.is_present() { Some(&self.value) } else { None }
    }
    #[inline]
    fn into_value(self) -> Option<T> {
        if self.is_present() { Some(self.value) } else { None }
    }
}

/// The cell of an array of [`Word`]s.
#[doc(hidden)]
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Repeated<T, const N: usize> {
    tag: T,
    value: [T; N],
}

impl<T: Word, const N: usize> OptionalCell for Repeated<T, N> {
    type Value = [T; N];
    const ABSENT: Self = Self { tag: T::ABSENT_VALUE, value: [T::ABSENT_VALUE; N] };
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
    #[inline]
    fn present(value: [T; N]) -> Self {
        Self { tag: T::ONE, value }
    }
    #[inline]
    fn is_present(&self) -> bool {
        self.tag.as_bytes()[0] != 0
    }
    #[inline]
    fn value(&self) -> Option<&[T; N]> {
        if self.is_present() { Some(&self.value) } else { None }
    }
    #[inline]
    fn into_value(self) -> Option<[T; N]> {
        if self.is_present() { Some(self.value) } else { None }
    }
}

/// The cell of a type with alignment 1.
#[doc(hidden)]
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bytewise<T> {
    tag: u8,
    value: T,
}

impl<T: FieldType + IntoBytes + Unaligned> OptionalCell for Bytewise<T> {
    type Value = T;
    const ABSENT: Self = Self { tag: 0, value: T::ABSENT_VALUE };
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
    #[inline]
    fn present(value: T) -> Self {
        Self { tag: 1, value }
    }
    #[inline]
    fn is_present(&self) -> bool {
        self.tag != 0
    }
    #[inline]
    fn value(&self) -> Option<&T> {
        if self.is_present() { Some(&self.value) } else { None }
    }
    #[inline]
    fn into_value(self) -> Option<T> {
        if self.is_present() { Some(self.value) } else { None }
    }
}

/// The cell of a `NonZero` integer or of an array of them: `A` is the integer, which takes zeros, or
/// the array of integers, `P` the value, and `REST` the size of the integer without its first byte.
#[doc(hidden)]
#[derive(Clone, Copy, TryFromBytes, Immutable, KnownLayout)]
#[repr(u8)]
pub enum NonZeroCell<A, P, const REST: usize> {
    Absent([u8; REST], A) = 0,
    Present([u8; REST], P) = 1,
}

impl<A: FieldType + IntoBytes, P: FieldType + IntoBytes, const REST: usize> OptionalCell
    for NonZeroCell<A, P, REST>
{
    type Value = P;
    const ABSENT: Self = Self::Absent([0; REST], A::ABSENT_VALUE);
    const UNPADDED: Option<Unpadded<Self>> = {
        let size = size_of::<u8>() + REST + size_of::<A>();
        assert!(size_of::<A>() == size_of::<P>() && size_of::<Self>() == size, "the fields take all bytes");
        // SAFETY: each variant of an enum with `repr(u8)` has the layout of a `repr(C)` struct of a
        // `u8` and its fields (reference, "Primitive representation of field-carrying enums"). The
        // fields have no padding, since they implement `IntoBytes`, and the sum of their sizes and
        // that of the `u8` is the size of the enum, so that there is no padding between them or
        // after the last one.
        Some(unsafe { Unpadded::of_layout() })
    };
    #[inline]
    fn present(value: P) -> Self {
        Self::Present([0; REST], value)
    }
    #[inline]
    fn is_present(&self) -> bool {
        matches!(self, Self::Present(..))
    }
    #[inline]
    fn value(&self) -> Option<&P> {
        match self {
            Self::Absent(..) => None,
            Self::Present(_, value) => Some(value),
        }
    }
    #[inline]
    fn into_value(self) -> Option<P> {
        match self {
            Self::Absent(..) => None,
            Self::Present(_, value) => Some(value),
        }
    }
}

/// The cell of any other type.
#[doc(hidden)]
#[derive(Clone, Copy, TryFromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tagged<G, T> {
    tag: G,
    value: T,
}

impl<G: Tag, T: FieldType> OptionalCell for Tagged<G, T> {
    type Value = T;
    const ABSENT: Self = {
        assert!(size_of::<G>() == align_of::<T>(), "a tag is as wide as the value's alignment");
        Self { tag: G::ABSENT, value: T::ABSENT_VALUE }
    };
    // SAFETY: one part for each field of the struct.
    const UNPADDED: Option<Unpadded<Self>> = unsafe {
        Unpadded::of_struct(&[
            Part::new(|cell: &Self| &cell.tag, Some(Unpadded::of_into_bytes())),
            Part::new(|cell: &Self| &cell.value, T::UNPADDED),
        ])
    };
    #[inline]
    fn present(value: T) -> Self {
        Self { tag: G::PRESENT, value }
    }
    #[inline]
    fn is_present(&self) -> bool {
        self.tag.is_present()
    }
    #[inline]
    fn value(&self) -> Option<&T> {
        if self.is_present() { Some(&self.value) } else { None }
    }
    #[inline]
    fn into_value(self) -> Option<T> {
        if self.is_present() { Some(self.value) } else { None }
    }
    #[inline]
    fn write_fields(&self, out: &mut [u8]) {
        self.tag.put(out);
        self.value.put_at(out, core::mem::offset_of!(Self, value));
    }
}

/// The tag for one alignment.
#[doc(hidden)]
pub trait Tag: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static {
    /// The value is absent.
    const ABSENT: Self;
    /// The value is present.
    const PRESENT: Self;
    /// Returns whether the first byte is not 0.
    #[inline]
    fn is_present(&self) -> bool {
        self.as_bytes()[0] != 0
    }
    /// Writes the tag to the start of a cell's bytes.
    #[inline]
    fn put(&self, bytes: &mut [u8]) {
        bytes[..size_of::<Self>()].copy_from_slice(self.as_bytes());
    }
}

/// Implemented for `[(); A]`; names the tag of width and alignment `A`.
#[doc(hidden)]
pub trait TagOf {
    /// The tag.
    type Tag: Tag;
}

macro_rules! tag {
    ($($name:ident $align:literal)*) => {$(
        #[doc(hidden)]
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C, align($align))]
        pub struct $name([u8; $align]);

        const _: () = assert!(size_of::<$name>() == $align && align_of::<$name>() == $align);

        impl Tag for $name {
            const ABSENT: Self = Self([0; $align]);
            const PRESENT: Self = {
                let mut bytes = [0; $align];
                bytes[0] = 1;
                Self(bytes)
            };
        }

        impl TagOf for [(); $align] {
            type Tag = $name;
        }
    )*};
}

tag!(Tag1 1 Tag2 2 Tag4 4 Tag8 8 Tag16 16 Tag32 32 Tag64 64 Tag128 128 Tag256 256 Tag512 512 Tag1024 1024
     Tag2048 2048 Tag4096 4096);

/// Defines the cell of a type that is not generic and implements `IntoBytes`.
macro_rules! record_cell {
    ($type:ty) => {
        const _: () = {
            #[doc(hidden)]
            #[derive(
                Clone,
                Copy,
                zerocopy::TryFromBytes,
                zerocopy::IntoBytes,
                zerocopy::Immutable,
                zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub struct Cell {
                tag: <[(); align_of::<$type>()] as $crate::fields::maybe::TagOf>::Tag,
                value: $type,
            }

            impl $crate::fields::maybe::OptionalCell for Cell {
                type Value = $type;
                const ABSENT: Self = Self {
                    tag: $crate::fields::maybe::Tag::ABSENT,
                    value: <$type as $crate::record::FieldType>::ABSENT_VALUE,
                };
                const UNPADDED: Option<$crate::unpadded::Unpadded<Self>> =
                    Some($crate::unpadded::Unpadded::of_into_bytes());
                #[inline]
                fn present(value: $type) -> Self {
                    Self { tag: $crate::fields::maybe::Tag::PRESENT, value }
                }
                #[inline]
                fn is_present(&self) -> bool {
                    $crate::fields::maybe::Tag::is_present(&self.tag)
                }
                #[inline]
                fn value(&self) -> Option<&$type> {
                    if self.is_present() { Some(&self.value) } else { None }
                }
                #[inline]
                fn into_value(self) -> Option<$type> {
                    if self.is_present() { Some(self.value) } else { None }
                }
            }

            impl $crate::fields::maybe::Optional for $type {
                type Cell = Cell;
                type ArrayCell<const N: usize> = $crate::fields::maybe::Tagged<Self::Tag, [Self; N]>;
                type Tag = <[(); align_of::<$type>()] as $crate::fields::maybe::TagOf>::Tag;
            }
        };
    };
}
pub(crate) use record_cell;

#[cfg(test)]
mod tests {
    use core::num::{NonZeroI16, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU128};

    use super::*;
    use crate::fields::{Blob, FixedStr, Text, Timestamp, Uuid};
    use crate::padding::with_bytes;

    fn bytes<F: FieldType>(value: &F) -> Vec<u8> {
        with_bytes(value, <[u8]>::to_vec)
    }

    /// Checks the layout, the canonical bytes and both conversions for one value.
    fn cell<T: Optional + Copy + PartialEq + fmt::Debug>(value: T) {
        assert_eq!(size_of::<Maybe<T>>(), size_of::<T>() + align_of::<T>());
        assert_eq!(align_of::<Maybe<T>>(), align_of::<T>());
        let none = Maybe::<T>::none();
        assert!(bytes(&none).iter().all(|byte| *byte == 0), "an absent value is all zeros");
        assert_eq!(none.get(), None);
        let some = Maybe::some(value);
        assert_eq!(some.get(), Some(&value));
        let of_some = bytes(&some);
        assert_eq!(of_some[0], 1);
        assert!(of_some[1..align_of::<T>()].iter().all(|byte| *byte == 0));
        assert_eq!(of_some[align_of::<T>()..], bytes(&value));
        let read = Maybe::<T>::try_read_from_bytes(&of_some).expect("its own bytes are valid");
        assert_eq!(read.into_option(), Some(value));
        assert_eq!(Maybe::from(Some(value)), some);
        assert_ne!(some, none);
    }

    #[test]
    fn every_cell_is_tag_then_value() {
        cell([[7u16, 8], [9, 10]]);
        cell([[[true]; 2]; 3]);
        cell([Timestamp::from_micros(-1); 2]);
        cell(7u8);
        cell(-7i16);
        cell(7u32);
        cell(u64::MAX);
        cell(i128::MIN);
        cell(1.5f32);
        cell(-0.0f64);
        cell(true);
        cell('\u{10ffff}');
        cell(['a'; 3]);
        cell(NonZeroU8::MAX);
        cell(NonZeroI16::MIN);
        cell(NonZeroU32::MIN);
        cell(NonZeroI64::MAX);
        cell(NonZeroU128::MAX);
        cell([NonZeroU16::MIN; 3]);
        cell([NonZeroI128::MIN; 2]);
        cell([1u16, 2, 3]);
        cell([0.5f64; 4]);
        cell([false; 5]);
        cell(FixedStr::<3>::try_from("abc").unwrap());
        cell([FixedStr::<2>::try_from("ab").unwrap(); 2]);
        cell(Uuid::from_bytes([9; 16]));
        cell(Timestamp::from_micros(-1));
    }

    /// As [`cell`], for types without equality.
    fn heap_cell<T: Optional + Copy>(value: T) {
        assert_eq!((size_of::<Maybe<T>>(), align_of::<Maybe<T>>()), (24, 8));
        assert_eq!(bytes(&Maybe::<T>::none()), [0; 24]);
        let some = Maybe::some(value);
        assert_eq!(bytes(&some)[..8], 1_u64.to_le_bytes());
        assert_eq!(bytes(&some)[8..], bytes(&value));
        assert_eq!(some.get().map(bytes), Some(bytes(&value)));
    }

    #[test]
    fn texts_and_blobs_have_cells() {
        heap_cell(Text::new(crate::ids::HeapAddr(24), 7, 0x1234_5678));
        heap_cell(Blob::new(crate::ids::HeapAddr(24), 7, 0x1234_5678));
    }

    #[test]
    fn an_invalid_value_is_no_cell() {
        assert!(Maybe::<bool>::try_read_from_bytes(&[1, 2]).is_err());
        assert!(Maybe::<bool>::try_read_from_bytes(&[0, 3]).is_err(), "checked whether it is present or not");
    }

    #[test]
    fn zeros_are_an_absent_non_zero() {
        let read =
            |bytes: &[u8]| Maybe::<NonZeroU16>::try_read_from_bytes(bytes).ok().map(Maybe::into_option);
        assert_eq!(read(&[0; 4]), Some(None));
        assert_eq!(read(&[1, 0, 0, 0]), None, "a value that is present is not 0");
        assert_eq!(read(&[1, 0, 0, 1]), Some(NonZeroU16::new(256)));
        assert_eq!(read(&[2, 0, 1, 0]), None);
        let read =
            |bytes: &[u8]| Maybe::<[NonZeroU8; 2]>::try_read_from_bytes(bytes).ok().map(Maybe::into_option);
        assert_eq!(read(&[0; 3]), Some(None));
        assert!(read(&[1, 0, 1]).is_none() && read(&[1, 1, 0]).is_none() && read(&[1, 1, 1]).is_some());
    }

    #[test]
    fn order_and_debug_match_option() {
        let (none, one, two) = (Maybe::<u32>::none(), Maybe::some(1u32), Maybe::some(2u32));
        assert!(none < one && one < two);
        assert_eq!(format!("{none:?} {one:?}"), "None Some(1)");
    }
}

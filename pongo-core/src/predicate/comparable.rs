//! The fields that can be compared with a value, and the type of that value.

use core::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};

use crate::fields::maybe::Optional;
use crate::fields::{FixedStr, Maybe, Timestamp, Uuid};
use crate::order::TotalOrder;
use crate::record::{FieldType, KeyField};

/// A field type whose values can be tested for equality by `eq`, `ne` and `is_in`: any type that
/// can be a key, floats, and a `Maybe` of these. The macros implement it for enums that are `Copy`
/// and `Eq`.
#[diagnostic::on_unimplemented(
    message = "a column of `{Self}` cannot be compared with a value",
    label = "equal values of this type need not have equal bytes",
    note = "take an integer, a float, `bool`, `char`, `Uuid`, `Timestamp`, `FixedStr<N>`, an array of \
            bytes, an enum that is `Copy` and `Eq`, or a `Maybe` of one of these",
    note = "a `Text` or `Blob` is in the heap: test it in `Iterator::filter` on the rows, or keep a \
            `FixedStr<N>` of its start in the row"
)]
pub trait Comparable: FieldType {
    /// The type of the value to compare with: the type itself, or the one inside the `Maybe`.
    type Value: FieldType + Copy + PartialEq;
    /// Returns the value, if it is present.
    fn value(&self) -> Option<Self::Value>;

    /// Returns whether two values are equal: as `==`, except that all float NaNs are equal.
    #[inline(always)]
    fn same(a: &Self::Value, b: &Self::Value) -> bool {
        a == b
    }
}

/// A field type whose values have an order, which `lt`, `le`, `gt`, `ge` and `between` use:
/// integers (also `NonZero`), floats, `bool`, `char`, `Timestamp`, and by their bytes `Uuid`,
/// `FixedStr<N>` and `[u8; N]`; a `Maybe` of one of these.
#[diagnostic::on_unimplemented(
    message = "the values of a column of `{Self}` have no order",
    label = "no order of this type's values is known",
    note = "take an integer, a float, `bool`, `char`, `Timestamp`, `Uuid`, `FixedStr<N>`, `[u8; N]`, or a \
            `Maybe` of one of these",
    note = "an enum can be asked for with `eq`, `ne` and `is_in`"
)]
pub trait Ordered: Comparable<Value: PartialOrd> {
    /// Returns whether a value comes before another one: as `<`, except that float NaN comes after
    /// all others.
    #[inline(always)]
    fn less(a: &Self::Value, b: &Self::Value) -> bool {
        a < b
    }
}

macro_rules! comparable {
    ($([$($parameters:tt)*] $type:ty;)*) => {$(
        impl<$($parameters)*> Comparable for $type {
            type Value = Self;

            #[inline(always)]
            fn value(&self) -> Option<Self> {
                Some(*self)
            }
        }
    )*};
}

comparable! {
    [] u8; [] u16; [] u32; [] u64; [] u128;
    [] i8; [] i16; [] i32; [] i64; [] i128;
    [] NonZeroU8; [] NonZeroU16; [] NonZeroU32; [] NonZeroU64; [] NonZeroU128;
    [] NonZeroI8; [] NonZeroI16; [] NonZeroI32; [] NonZeroI64; [] NonZeroI128;
    [] bool; [] char; [] Timestamp; [] Uuid;
    [const N: usize] FixedStr<N>;
    [F: KeyField, const N: usize] [F; N];
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Comparable for $type {
            type Value = Self;

            #[inline(always)]
            fn value(&self) -> Option<Self> {
                Some(*self)
            }

            #[inline(always)]
            fn same(a: &Self, b: &Self) -> bool {
                a.is_same(*b)
            }
        }

        impl Ordered for $type {
            #[inline(always)]
            fn less(a: &Self, b: &Self) -> bool {
                a.is_less(*b)
            }
        }
    )*};
}

floats!(f32 f64);

#[diagnostic::do_not_recommend]
impl<F: Optional + Comparable<Value = F> + Copy + PartialEq> Comparable for Maybe<F> {
    type Value = F;

    #[inline(always)]
    fn value(&self) -> Option<F> {
        self.get().copied()
    }

    #[inline(always)]
    fn same(a: &F, b: &F) -> bool {
        F::same(a, b)
    }
}

macro_rules! ordered {
    ($($type:ty)*) => {$( impl Ordered for $type {} )*};
}

ordered!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool char Timestamp Uuid);
ordered!(NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128);
ordered!(NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128);

impl<const N: usize> Ordered for FixedStr<N> {}

impl<const N: usize> Ordered for [u8; N] {}

#[diagnostic::do_not_recommend]
impl<F: Optional + Ordered + Comparable<Value = F> + Copy + PartialOrd> Ordered for Maybe<F> {
    #[inline(always)]
    fn less(a: &F, b: &F) -> bool {
        F::less(a, b)
    }
}

//! The field types of the language itself: integers and floats of fixed size, `NonZero` integers,
//! `bool`, `char`, arrays.

use core::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};

use crate::fields::maybe::{NonZeroCell, Optional, Repeated, Single, TagOf, Word};
use crate::record::{FieldType, KeyField};
use crate::schema::Kind;
use crate::unpadded::Unpadded;

macro_rules! plain {
    ($($type:ty, $kind:ident, $blank:expr, $one:expr;)*) => {$(
        impl FieldType for $type {
            const KIND: Kind = Kind::$kind;
            const ABSENT_VALUE: Self = $blank;
            const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
        }

        impl Word for $type {
            const ONE: Self = $one;
        }

        impl Optional for $type {
            type Cell = Single<$type>;
            type ArrayCell<const N: usize> = Repeated<$type, N>;
            type Tag = <[(); align_of::<$type>()] as TagOf>::Tag;
        }
    )*};
}

plain! {
    u8, U8, 0, 1;
    u16, U16, 0, 1;
    u32, U32, 0, 1;
    u64, U64, 0, 1;
    u128, U128, 0, 1;
    i8, I8, 0, 1;
    i16, I16, 0, 1;
    i32, I32, 0, 1;
    i64, I64, 0, 1;
    i128, I128, 0, 1;
    f32, F32, 0.0, f32::from_bits(1);
    f64, F64, 0.0, f64::from_bits(1);
    bool, Bool, false, true;
    char, Char, '\0', '\x01';
}

/// The integer, and its size without the first byte.
macro_rules! non_zero {
    ($($type:ident $integer:ident $rest:literal;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl FieldType for $type {
            const KIND: Kind = Kind::$type;
            /// Zeros are no value of the type; a `Maybe` of one has a cell that takes them.
            const ABSENT_VALUE: Self = match Self::new(1) {
                Some(one) => one,
                None => unreachable!(),
            };
            const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
        }

        #[diagnostic::do_not_recommend]
        impl KeyField for $type {}

        #[diagnostic::do_not_recommend]
        impl Optional for $type {
            type Cell = NonZeroCell<$integer, $type, $rest>;
            type ArrayCell<const N: usize> = NonZeroCell<[$integer; N], [$type; N], $rest>;
            type Tag = <[(); align_of::<$type>()] as TagOf>::Tag;
        }
    )*};
}

non_zero! {
    NonZeroU8 u8 0;
    NonZeroU16 u16 1;
    NonZeroU32 u32 3;
    NonZeroU64 u64 7;
    NonZeroU128 u128 15;
    NonZeroI8 i8 0;
    NonZeroI16 i16 1;
    NonZeroI32 i32 3;
    NonZeroI64 i64 7;
    NonZeroI128 i128 15;
}

macro_rules! key {
    ($($type:ty)*) => {$( impl KeyField for $type {} )*};
}

key!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool char);

impl<F: FieldType, const N: usize> FieldType for [F; N] {
    const KIND: Kind = Kind::Array { of: &F::KIND, len: N };
    const ABSENT_VALUE: Self = [F::ABSENT_VALUE; N];
    const UNPADDED: Option<Unpadded<Self>> = match F::UNPADDED {
        Some(unpadded) => Some(unpadded.array()),
        None => None,
    };

    #[inline]
    fn write_fields(&self, out: &mut [u8]) {
        for (place, element) in self.iter().enumerate() {
            element.put_at(out, place * size_of::<F>());
        }
    }
}

impl<F: KeyField, const N: usize> KeyField for [F; N] {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::padding::with_bytes;

    fn blank_is_zero<F: FieldType>() {
        with_bytes(&F::ABSENT_VALUE, |bytes| assert!(bytes.iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn blanks_are_zeros() {
        blank_is_zero::<u8>();
        blank_is_zero::<i128>();
        blank_is_zero::<f64>();
        blank_is_zero::<bool>();
        blank_is_zero::<char>();
        blank_is_zero::<crate::fields::Maybe<NonZeroU32>>();
        blank_is_zero::<[crate::fields::Maybe<[NonZeroI128; 2]>; 2]>();
        blank_is_zero::<[[u16; 3]; 2]>();
        assert_eq!(
            <[[u16; 3]; 2]>::KIND,
            Kind::Array { of: &Kind::Array { of: &Kind::U16, len: 3 }, len: 2 }
        );
    }
}

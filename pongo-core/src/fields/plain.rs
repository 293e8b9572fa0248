//! The field types of the language itself: integers and floats of fixed size, `bool`, arrays.

use crate::fields::maybe::{Optional, Repeated, Single, Word};
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
        }

        impl<const N: usize> Optional for [$type; N] {
            type Cell = Repeated<$type, N>;
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
}

macro_rules! key {
    ($($type:ty)*) => {$( impl KeyField for $type {} )*};
}

key!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool);

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
        blank_is_zero::<[[u16; 3]; 2]>();
        assert_eq!(
            <[[u16; 3]; 2]>::KIND,
            Kind::Array { of: &Kind::Array { of: &Kind::U16, len: 3 }, len: 2 }
        );
    }
}

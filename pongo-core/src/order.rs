//! The order of float values that filters, zone maps, indexes and unique values share.
//!
//! `-∞ < … < -0.0 = 0.0 < … < ∞ < NaN`, and all NaNs are equal: a total order, the one of
//! PostgreSQL. The comparison operators of the language (IEEE 754) are not a total order, since
//! with NaN all of them except `!=` are false.
//!
//! [`rank`](TotalOrder::rank) is the definition; `is_less` and `is_same` give the same results with
//! fewer instructions.

use core::cmp::Ordering;

/// A float type with its total order.
pub trait TotalOrder: Copy + PartialOrd {
    /// The unsigned integer of the same width.
    type Rank: Ord + Copy;

    /// The NaN that [`normal`](Self::normal) returns.
    const NAN: Self;

    /// Returns an integer that compares with the rank of another value as the values compare.
    fn rank(self) -> Self::Rank;

    /// Returns the representative of all values that are equal to this one: `0.0` for `-0.0`, one
    /// NaN for every NaN, otherwise the value itself. Representatives of equal values have equal
    /// bytes.
    #[must_use]
    fn normal(self) -> Self;

    /// Returns whether this value comes before another one.
    fn is_less(self, other: Self) -> bool;

    /// Returns whether two values are equal.
    fn is_same(self, other: Self) -> bool;

    /// Compares this value with another one.
    fn compare(self, other: Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

macro_rules! total_order {
    ($($float:ident $bits:ident $nan:literal)*) => {$(
        impl TotalOrder for $float {
            type Rank = $bits;

            // An explicit constant: these bits are part of the format, and the language leaves the
            // bits of its `NAN` unspecified.
            const NAN: Self = Self::from_bits($nan);

            #[inline]
            fn rank(self) -> $bits {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let bits = self.normal().to_bits();
                if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }

            #[inline]
            fn normal(self) -> Self {
                if self.is_nan() { <Self as TotalOrder>::NAN } else { self + 0.0 }
            }

            // Branch-free, so that a loop over rows is vectorized. The alternative, `self < other`
            // or only `other` is NaN, takes two comparisons per row; this form takes one, and a
            // test that the loop can evaluate from the value that is searched for.
            #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "true where `other` is NaN")]
            #[inline(always)]
            fn is_less(self, other: Self) -> bool {
                !(self >= other) & !self.is_nan()
            }

            #[inline(always)]
            fn is_same(self, other: Self) -> bool {
                (self == other) | (self.is_nan() & other.is_nan())
            }
        }
    )*};
}

total_order! {
    f32 u32 0x7fc0_0000
    f64 u64 0x7ff8_0000_0000_0000
}

/// Replaces a float, given as the little-endian bytes of an `f32` or an `f64`, by its
/// [`normal`](TotalOrder::normal) form. Does not change slices of other lengths.
#[inline]
pub fn normalize(bytes: &mut [u8]) {
    if let Ok(bytes) = <&mut [u8; 8]>::try_from(&mut *bytes) {
        *bytes = f64::from_le_bytes(*bytes).normal().to_le_bytes();
    } else if let Ok(bytes) = <&mut [u8; 4]>::try_from(bytes) {
        *bytes = f32::from_le_bytes(*bytes).normal().to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the lowest to the highest; those in one line are equal.
    const LADDER: [&[f64]; 11] = [
        &[f64::NEG_INFINITY],
        &[f64::MIN],
        &[-1.5],
        &[-f64::MIN_POSITIVE],
        &[-5e-324],
        &[-0.0, 0.0],
        &[5e-324],
        &[1.5],
        &[f64::MAX],
        &[f64::INFINITY],
        &[f64::NAN, -f64::NAN],
    ];

    fn agree<F: TotalOrder + core::fmt::Debug>(a: F, b: F, expected: Ordering) {
        assert_eq!(a.compare(b), expected, "{a:?} {b:?}");
        assert_eq!(a.is_less(b), expected.is_lt(), "{a:?} {b:?}");
        assert_eq!(a.is_same(b), expected.is_eq(), "{a:?} {b:?}");
        assert_eq!(a.normal().compare(b.normal()), expected, "{a:?} {b:?}");
    }

    #[test]
    fn floats_have_one_total_order() {
        let rungs: Vec<(usize, f64)> = LADDER
            .iter()
            .enumerate()
            .flat_map(|(rung, values)| values.iter().map(move |v| (rung, *v)))
            .collect();
        for &(rung, a) in &rungs {
            for &(other, b) in &rungs {
                agree(a, b, rung.cmp(&other));
            }
        }
    }

    #[test]
    fn both_comparisons_agree() {
        let mut state = 1_u64;
        let mut bits = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Some values with all exponent bits set, and some zeros: NaN, infinities, both zeros.
            match state >> 61 {
                0 => state | 0x7ff << 52,
                1 => state & (1 << 63),
                2 => (state & (1 << 63)) | 0x7ff << 52,
                _ => state ^ (state >> 31),
            }
        };
        for _ in 0..20_000 {
            let (a, b) = (f64::from_bits(bits()), f64::from_bits(bits()));
            let expected = match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(&b).expect("numbers"),
                (a, b) => a.cmp(&b),
            };
            agree(a, b, expected);
            let (a, b) = (f32::from_bits((bits() >> 32) as u32), f32::from_bits((bits() >> 32) as u32));
            let expected = match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(&b).expect("numbers"),
                (a, b) => a.cmp(&b),
            };
            agree(a, b, expected);
        }
    }

    #[test]
    fn equal_values_normalize_to_equal_bytes() {
        let normal = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            normalize(&mut bytes);
            bytes
        };
        assert_eq!(normal(&(-0.0_f64).to_le_bytes()), 0_f64.to_le_bytes());
        assert_eq!(normal(&(-0.0_f32).to_le_bytes()), 0_f32.to_le_bytes());
        for bits in [0x7ff0_0000_0000_0001, u64::MAX, 0xfff8_0000_0000_0000] {
            assert_eq!(normal(&bits.to_le_bytes()), 0x7ff8_0000_0000_0000_u64.to_le_bytes());
        }
        assert_eq!(normal(&u32::MAX.to_le_bytes()), 0x7fc0_0000_u32.to_le_bytes());
        assert_eq!(normal(&(-1.5_f64).to_le_bytes()), (-1.5_f64).to_le_bytes());
        assert_eq!(normal(&[255; 3]), [255; 3]);
    }
}

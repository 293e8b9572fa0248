//! Evaluation of a comparison for a zone from its statistics.

use core::cmp::Ordering;

use super::{Comparable, Ordered};
use crate::zones::ZoneStats;

/// The share of a zone's rows that meet a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pruning {
    /// No row meets it.
    None,
    /// Some rows may meet it.
    Some,
    /// Every row meets it.
    All,
}

impl Pruning {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::None => Self::All,
            Self::Some => Self::Some,
            Self::All => Self::None,
        }
    }

    /// Combines the verdicts of two parts of the rows.
    fn joined(self, other: Self) -> Self {
        if self == other { self } else { Self::Some }
    }

    fn of(none: bool, all: bool) -> Self {
        match (none, all) {
            (true, _) => Self::None,
            (_, true) => Self::All,
            _ => Self::Some,
        }
    }
}

/// The order of the minimum and of the maximum of some values relative to the value that is
/// searched for.
#[doc(hidden)]
pub type Ends = (Ordering, Ordering);

/// One of the six comparison operators.
#[doc(hidden)]
pub trait Operator<F: Comparable>: Copy + Send + Sync + 'static {
    /// The operator's symbol.
    const SIGN: &'static str;
    /// Returns whether the comparison holds between a row's value and the value that is searched
    /// for.
    fn holds(found: &F::Value, asked: &F::Value) -> bool;
    /// Returns the verdict for values between a minimum and a maximum.
    fn among(ends: Ends) -> Pruning;
}

macro_rules! operator {
    ($($name:ident $sign:tt $bound:ident, $holds:expr, $among:expr;)*) => {$(
        #[doc(hidden)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl<F: $bound> Operator<F> for $name {
            const SIGN: &'static str = stringify!($sign);

            #[inline(always)]
            fn holds(found: &F::Value, asked: &F::Value) -> bool {
                $holds(found, asked)
            }

            fn among((min, max): Ends) -> Pruning {
                $among(min, max)
            }
        }
    )*};
}

operator! {
    LessThan < Ordered, |found, asked| F::less(found, asked),
        |min: Ordering, max: Ordering| Pruning::of(!min.is_lt(), max.is_lt());
    NotGreaterThan <= Ordered, |found, asked| !F::less(asked, found),
        |min: Ordering, max: Ordering| Pruning::of(!min.is_le(), max.is_le());
    GreaterThan > Ordered, |found, asked| F::less(asked, found),
        |min: Ordering, max: Ordering| Pruning::of(!max.is_gt(), min.is_gt());
    NotLessThan >= Ordered, |found, asked| !F::less(found, asked),
        |min: Ordering, max: Ordering| Pruning::of(!max.is_ge(), min.is_ge());
    EqualTo == Comparable, |found, asked| F::same(found, asked), equal;
    NotEqualTo != Comparable, |found, asked| !F::same(found, asked), |min, max| equal(min, max).opposite();
}

fn equal(min: Ordering, max: Ordering) -> Pruning {
    Pruning::of(min.is_gt() || max.is_lt(), min.is_eq() && max.is_eq())
}

/// Evaluates a comparison for all rows of a zone. `among` evaluates it for values; its argument is
/// a function that compares their minimum and maximum with a value that is searched for, given as
/// bytes. Numbers and NaN are evaluated separately; no comparison holds for an absent value.
pub(super) fn prune(
    stats: Option<ZoneStats<'_>>,
    width: usize,
    among: impl Fn(&dyn Fn(&[u8]) -> Ends) -> Pruning,
) -> Pruning {
    let Some(stats) = &stats else { return Pruning::Some };
    if !stats.is_about(width) {
        return Pruning::Some;
    }
    let between =
        |min: &[u8], max: &[u8]| among(&|asked| (stats.compare(min, asked), stats.compare(max, asked)));
    let values = stats.bounds().map(|(min, max)| between(min, max));
    let nan = stats.nan().map(|nan| between(nan, nan));
    let absent = stats.some_absent().then_some(Pruning::None);
    [values, nan, absent].into_iter().flatten().reduce(Pruning::joined).unwrap_or(Pruning::Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the verdict with the result for each value, for every zone of values from 0 to 4
    /// and every value that is searched for.
    #[test]
    fn verdicts_are_those_of_the_values() {
        fn check<O: Operator<i32>>(_: O) {
            for min in 0..5 {
                for max in min..5 {
                    for asked in -1..6 {
                        // Only the minimum and maximum are certain to be present.
                        let among = O::among((min.cmp(&asked), max.cmp(&asked)));
                        let hits = (min..=max).filter(|value| O::holds(value, &asked)).count() as i32;
                        let expected = Pruning::of(hits == 0, hits == max - min + 1);
                        assert_eq!(among, expected, "{min}..={max} {} {asked}", <O as Operator<i32>>::SIGN);
                    }
                }
            }
        }
        check(LessThan);
        check(NotGreaterThan);
        check(GreaterThan);
        check(NotLessThan);
        check(EqualTo);
        check(NotEqualTo);
    }
}

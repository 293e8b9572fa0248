//! A comparison put to what is known of a zone.

use core::cmp::Ordering;

use crate::zones::Facts;

/// How many rows of a zone meet a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No row does.
    None,
    /// Perhaps some do.
    Some,
    /// Every row does.
    All,
}

impl Verdict {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::None => Self::All,
            Self::Some => Self::Some,
            Self::All => Self::None,
        }
    }

    /// Of rows in two parts.
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

/// How the least and the greatest value of a zone compare with the one that is asked for; `None`: that one is not a number.
#[doc(hidden)]
pub type Ends = Option<(Ordering, Ordering)>;

/// One of the six comparisons.
#[doc(hidden)]
pub trait Operator<V>: Copy + Send + Sync + 'static {
    /// As it is written.
    const SIGN: &'static str;
    /// What holds for a value that is not a number.
    const OF_NAN: Verdict;
    /// Whether it holds between a row's value and the one that is asked for.
    fn holds(found: &V, asked: &V) -> bool;
    /// What holds for the values between the least and the greatest.
    fn among(ends: Ends) -> Verdict;
}

macro_rules! operator {
    ($($name:ident $sign:tt $bound:ident, $of_nan:ident, $among:expr;)*) => {$(
        #[doc(hidden)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl<V: $bound> Operator<V> for $name {
            const SIGN: &'static str = stringify!($sign);
            const OF_NAN: Verdict = Verdict::$of_nan;

            #[inline(always)]
            fn holds(found: &V, asked: &V) -> bool {
                found $sign asked
            }

            fn among(ends: Ends) -> Verdict {
                $among(ends)
            }
        }
    )*};
}

operator! {
    LessThan < PartialOrd, None, |ends: Ends| some_and_all(ends, |(min, max)| (min.is_lt(), max.is_lt()));
    NotGreaterThan <= PartialOrd, None, |ends: Ends| some_and_all(ends, |(min, max)| (min.is_le(), max.is_le()));
    GreaterThan > PartialOrd, None, |ends: Ends| some_and_all(ends, |(min, max)| (max.is_gt(), min.is_gt()));
    NotLessThan >= PartialOrd, None, |ends: Ends| some_and_all(ends, |(min, max)| (max.is_ge(), min.is_ge()));
    EqualTo == PartialEq, None, equal;
    NotEqualTo != PartialEq, All, |ends: Ends| equal(ends).opposite();
}

/// Whether some can, whether all do. Nothing compares with what is not a number.
fn some_and_all(ends: Ends, test: impl FnOnce((Ordering, Ordering)) -> (bool, bool)) -> Verdict {
    let (some, all) = ends.map_or((false, false), test);
    Verdict::of(!some, all)
}

fn equal(ends: Ends) -> Verdict {
    some_and_all(ends, |(min, max)| (min.is_le() && max.is_ge(), min.is_eq() && max.is_eq()))
}

/// What a comparison says of all rows of a zone. `among` has the values' part, given how the ends compare with the value
/// that is asked for; what is not a number and what is missing have their own.
pub(super) fn judge(
    facts: Option<Facts<'_>>,
    width: usize,
    of_nan: Verdict,
    among: impl FnOnce(Facts<'_>) -> Verdict,
) -> Verdict {
    let Some(facts) = facts.filter(|facts| facts.is_about(width)) else { return Verdict::Some };
    let values = facts.bounds().map(|_| among(facts));
    let nan = facts.some_nan().then_some(of_nan);
    let absent = facts.some_absent().then_some(Verdict::None);
    [values, nan, absent].into_iter().flatten().reduce(Verdict::joined).unwrap_or(Verdict::Some)
}

/// How the least and the greatest value compare with one that is asked for.
pub(super) fn ends(facts: &Facts<'_>, asked: &[u8]) -> Ends {
    let (min, max) = facts.bounds()?;
    Some((facts.compare(asked, min)?.reverse(), facts.compare(asked, max)?.reverse()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every zone of values from 0 to 4 and every value that is asked for: none and all are what looking at each says.
    #[test]
    fn verdicts_are_those_of_the_values() {
        fn check<O: Operator<i32>>(_: O) {
            for min in 0..5 {
                for max in min..5 {
                    for asked in -1..6 {
                        // Only the ends are sure to be there.
                        let among = O::among(Some((min.cmp(&asked), max.cmp(&asked))));
                        let hits = (min..=max).filter(|value| O::holds(value, &asked)).count() as i32;
                        let expected = Verdict::of(hits == 0, hits == max - min + 1);
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

    #[test]
    fn nothing_but_unequal_holds_for_what_is_not_a_number() {
        assert_eq!(<LessThan as Operator<f32>>::among(None), Verdict::None);
        assert_eq!(<NotLessThan as Operator<f32>>::among(None), Verdict::None);
        assert_eq!(<EqualTo as Operator<f32>>::among(None), Verdict::None);
        assert_eq!(<NotEqualTo as Operator<f32>>::among(None), Verdict::All);
        assert_eq!(<NotEqualTo as Operator<f32>>::OF_NAN, Verdict::All);
    }
}

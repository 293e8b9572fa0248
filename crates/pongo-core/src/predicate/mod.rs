//! Conditions on rows, made from columns: `Flight::DEP_DELAY.gt(60.0).and(Flight::CARRIER.eq("UA".parse()?))`.
//!
//! A condition is a value of its own type, so that testing a row is a few instructions. It can also be put to a [`Zone`]:
//! do none, some or all of its rows match? What that says is exact for none and all, and "some" is always allowed.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `compare` | the methods of [`Column`](crate::column::Column) that make conditions, and the conditions they make |
//! | `comparable` | which fields can be compared: [`Comparable`], [`Ordered`] |
//! | `judge` | a comparison put to what is known of a zone |
//! | here | [`Predicate`], [`Verdict`], and, or, not |

mod comparable;
mod compare;
mod judge;

use core::fmt;
use std::sync::Arc;

pub use self::comparable::{Comparable, Ordered};
pub use self::compare::{Between, Compare, IsIn, Presence};
pub use self::judge::Verdict;
#[doc(hidden)]
pub use self::judge::{
    Ends, EqualTo, GreaterThan, LessThan, NotEqualTo, NotGreaterThan, NotLessThan, Operator,
};

use crate::zones::Zone;

/// A condition on rows of type `R`.
///
/// Made by the methods of [`Column`](crate::column::Column) and by [`and`](Self::and), [`or`](Self::or), [`not`](Self::not).
/// One of your own need only say [`matches`](Self::matches); it skips nothing.
pub trait Predicate<R>: Send + Sync {
    /// Whether a row meets the condition.
    fn matches(&self, row: &R) -> bool;

    /// Whether none, some or all rows of a zone do. "None" and "all" are promises, "some" is none: a wrong promise gives
    /// wrong results.
    fn judge(&self, zone: &Zone<'_>) -> Verdict {
        let _ = zone;
        Verdict::Some
    }

    /// Whether [`matches`](Self::matches) takes a few instructions: then both sides of an [`and`](Self::and) are looked at,
    /// which is quicker than to guess whether the second one has to be.
    fn is_quick(&self) -> bool {
        false
    }

    /// Shows each single condition in turn, with whether it stands under a [`not`](Self::not).
    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        let _ = (negated, show);
    }

    /// Both this and another one.
    #[inline]
    fn and<Q: Predicate<R>>(self, other: Q) -> And<Self, Q>
    where
        Self: Sized,
    {
        And(self, other)
    }

    /// This or another one, or both.
    #[inline]
    fn or<Q: Predicate<R>>(self, other: Q) -> Or<Self, Q>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Not this one. A comparison with an absent value is false, so its opposite is true: `a.gt(1).not()` has the rows without a
    /// value, `a.le(1)` has not. (SQL has a third truth value there and gives neither; `a.gt(1).not().and(a.is_some())` does, too.)
    #[inline]
    fn not(self) -> Not<Self>
    where
        Self: Sized,
    {
        Not(self)
    }
}

macro_rules! pointer {
    ($($pointer:ty)*) => {$(
        impl<R, P: Predicate<R> + ?Sized> Predicate<R> for $pointer {
            #[inline]
            fn matches(&self, row: &R) -> bool {
                (**self).matches(row)
            }

            fn judge(&self, zone: &Zone<'_>) -> Verdict {
                (**self).judge(zone)
            }

            #[inline]
            fn is_quick(&self) -> bool {
                (**self).is_quick()
            }

            fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
                (**self).each(negated, show);
            }
        }
    )*};
}

pointer!(&P Box<P> Arc<P>);

/// A single condition on one column. [`Display`](fmt::Display) says it in a few words.
pub trait Condition: fmt::Display {
    /// Whether none, some or all rows of a zone meet it.
    fn verdict(&self, zone: &Zone<'_>) -> Verdict;
}

/// Both of two conditions: see [`Predicate::and`].
#[derive(Clone, Copy, Debug)]
pub struct And<P, Q>(P, Q);

impl<R, P: Predicate<R>, Q: Predicate<R>> Predicate<R> for And<P, Q> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        if self.1.is_quick() {
            self.0.matches(row) & self.1.matches(row)
        } else {
            self.0.matches(row) && self.1.matches(row)
        }
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        self.0.is_quick() & self.1.is_quick()
    }

    fn judge(&self, zone: &Zone<'_>) -> Verdict {
        match (self.0.judge(zone), self.1.judge(zone)) {
            (Verdict::None, _) | (_, Verdict::None) => Verdict::None,
            (Verdict::All, Verdict::All) => Verdict::All,
            _ => Verdict::Some,
        }
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(negated, show);
        self.1.each(negated, show);
    }
}

/// One of two conditions, or both: see [`Predicate::or`].
#[derive(Clone, Copy, Debug)]
pub struct Or<P, Q>(P, Q);

impl<R, P: Predicate<R>, Q: Predicate<R>> Predicate<R> for Or<P, Q> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        if self.1.is_quick() {
            self.0.matches(row) | self.1.matches(row)
        } else {
            self.0.matches(row) || self.1.matches(row)
        }
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        self.0.is_quick() & self.1.is_quick()
    }

    fn judge(&self, zone: &Zone<'_>) -> Verdict {
        match (self.0.judge(zone), self.1.judge(zone)) {
            (Verdict::All, _) | (_, Verdict::All) => Verdict::All,
            (Verdict::None, Verdict::None) => Verdict::None,
            _ => Verdict::Some,
        }
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(negated, show);
        self.1.each(negated, show);
    }
}

/// The opposite of a condition: see [`Predicate::not`].
#[derive(Clone, Copy, Debug)]
pub struct Not<P>(P);

impl<R, P: Predicate<R>> Predicate<R> for Not<P> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        !self.0.matches(row)
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        self.0.is_quick()
    }

    fn judge(&self, zone: &Zone<'_>) -> Verdict {
        self.0.judge(zone).opposite()
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(!negated, show);
    }
}

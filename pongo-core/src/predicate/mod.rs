//! Conditions on rows, built from columns:
//! `Flight::DEP_DELAY.gt(60.0).and(Flight::CARRIER.eq("UA".parse()?))`.
//!
//! Each condition has its own type, so that testing a row takes a few instructions. A condition can
//! also be evaluated for a [`Zone`]: none, some or all of its rows match. "None" and "all" are
//! exact; "some" is always allowed.
//!
//! | module | purpose |
//! | --- | --- |
//! | `compare` | the methods of [`Column`](crate::column::Column) that create conditions |
//! | `comparable` | the fields that can be compared: [`Comparable`], [`Ordered`] |
//! | `pruning` | evaluates a comparison for a zone from its statistics |
//! | here | [`Predicate`], [`Pruning`], and, or, not |

mod comparable;
mod compare;
mod pruning;

use core::fmt;
use std::sync::Arc;

pub use self::comparable::{Comparable, Ordered};
pub use self::compare::{Between, Compare, IsIn, Presence};
pub use self::pruning::Pruning;
#[doc(hidden)]
pub use self::pruning::{
    Ends, EqualTo, GreaterThan, LessThan, NotEqualTo, NotGreaterThan, NotLessThan, Operator,
};

use crate::zones::Zone;

/// A condition on rows of type `R`.
///
/// Created by the methods of [`Column`](crate::column::Column) and by [`and`](Self::and),
/// [`or`](Self::or), [`not`](Self::not). A user-defined condition only needs to implement
/// [`matches`](Self::matches); it then skips no zones.
pub trait Predicate<R>: Send + Sync {
    /// Returns whether a row meets the condition.
    fn matches(&self, row: &R) -> bool;

    /// Returns whether none, some or all rows of a zone meet the condition. "None" and "all" must
    /// be exact, otherwise results are wrong; "some" is always allowed.
    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        let _ = zone;
        Pruning::Some
    }

    /// Returns whether [`matches`](Self::matches) takes only a few instructions. Both sides of an
    /// [`and`](Self::and) are then evaluated, which is faster than predicting whether the second is
    /// needed.
    fn is_quick(&self) -> bool {
        false
    }

    /// Passes each single condition in turn to `show`, with whether it is inside a
    /// [`not`](Self::not).
    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        let _ = (negated, show);
    }

    /// Combines two conditions: both must be met.
    #[inline]
    fn and<Q: Predicate<R>>(self, other: Q) -> And<Self, Q>
    where
        Self: Sized,
    {
        And(self, other)
    }

    /// Combines two conditions: at least one must be met.
    #[inline]
    fn or<Q: Predicate<R>>(self, other: Q) -> Or<Self, Q>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Negates the condition. A comparison with an absent value is false, so its negation is true:
    /// `a.gt(1).not()` includes the rows without a value, `a.le(1)` does not. (SQL uses a third
    /// truth value and includes them in neither, which `a.gt(1).not().and(a.is_some())` does too.)
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

            fn prune(&self, zone: &Zone<'_>) -> Pruning {
                (**self).prune(zone)
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

/// A single condition on one column. [`Display`](fmt::Display) shows it in a few words.
pub trait Condition: fmt::Display {
    /// Returns whether none, some or all rows of a zone meet it.
    fn pruning(&self, zone: &Zone<'_>) -> Pruning;
}

/// The conjunction of two conditions: see [`Predicate::and`].
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

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        match (self.0.prune(zone), self.1.prune(zone)) {
            (Pruning::None, _) | (_, Pruning::None) => Pruning::None,
            (Pruning::All, Pruning::All) => Pruning::All,
            _ => Pruning::Some,
        }
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(negated, show);
        self.1.each(negated, show);
    }
}

/// The disjunction of two conditions: see [`Predicate::or`].
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

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        match (self.0.prune(zone), self.1.prune(zone)) {
            (Pruning::All, _) | (_, Pruning::All) => Pruning::All,
            (Pruning::None, Pruning::None) => Pruning::None,
            _ => Pruning::Some,
        }
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(negated, show);
        self.1.each(negated, show);
    }
}

/// The negation of a condition: see [`Predicate::not`].
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

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        self.0.prune(zone).opposite()
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        self.0.each(!negated, show);
    }
}

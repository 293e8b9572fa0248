//! The methods of [`Column`] that create conditions, and the types of these conditions.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::pruning::{
    EqualTo, GreaterThan, LessThan, NotEqualTo, NotGreaterThan, NotLessThan, Operator, Pruning, prune,
};
use super::{Comparable, Condition, Ordered, Predicate};
use crate::column::Column;
use crate::fields::maybe::{Maybe, Optional};
use crate::padding::with_bytes;
use crate::record::FieldType;
use crate::schema::describe_value;
use crate::zones::Zone;

/// Conditions. They use the same order as indexes ([`IndexField`](crate::search::IndexField)).
///
/// *Floats* have one total order, as in PostgreSQL: `-0.0` equals `0.0`, all NaNs are equal and
/// come after infinity. So `ge(0.0)` and `ne(0.0)` include rows with NaN, `le(f64::INFINITY)`
/// includes all other rows, and `eq(f64::NAN)` finds the rows with NaN. The operators of the
/// language differ: with them `NaN >= 0.0` is false.
///
/// *Absent values*: if a `Maybe` has no value, every comparison is false, as with NULL in SQL:
/// `eq`, `ne`, `is_in`, `between`, and even `between(..)`. Use [`is_none`](Self::is_none) and
/// [`is_some`](Self::is_some) to test for absent values. The negation of a comparison is true for
/// them, as for every row for which the comparison is false: [`Predicate::not`].
impl<R: FieldType, F: FieldType> Column<R, F> {
    /// Selects rows whose value is less.
    pub fn lt(self, value: F::Value) -> Compare<R, F, LessThan>
    where
        F: Ordered,
    {
        Compare::new(self, value)
    }

    /// Selects rows whose value is less or equal.
    pub fn le(self, value: F::Value) -> Compare<R, F, NotGreaterThan>
    where
        F: Ordered,
    {
        Compare::new(self, value)
    }

    /// Selects rows whose value is greater.
    pub fn gt(self, value: F::Value) -> Compare<R, F, GreaterThan>
    where
        F: Ordered,
    {
        Compare::new(self, value)
    }

    /// Selects rows whose value is greater or equal.
    pub fn ge(self, value: F::Value) -> Compare<R, F, NotLessThan>
    where
        F: Ordered,
    {
        Compare::new(self, value)
    }

    /// Selects rows with this value.
    pub fn eq(self, value: F::Value) -> Compare<R, F, EqualTo>
    where
        F: Comparable,
    {
        Compare::new(self, value)
    }

    /// Selects rows with another value. Rows whose value is absent are not selected.
    pub fn ne(self, value: F::Value) -> Compare<R, F, NotEqualTo>
    where
        F: Comparable,
    {
        Compare::new(self, value)
    }

    /// Selects rows whose value is in a range; the range's bounds are inclusive or exclusive as
    /// usual. A range that ends before it starts selects no rows.
    pub fn between(self, range: impl RangeBounds<F::Value>) -> Between<R, F>
    where
        F: Ordered,
    {
        Between { column: self, start: range.start_bound().cloned(), end: range.end_bound().cloned() }
    }

    /// Selects rows with one of these values. Each row is compared with the values one after
    /// another.
    pub fn is_in(self, values: &[F::Value]) -> IsIn<R, F>
    where
        F: Comparable,
    {
        IsIn { column: self, values: values.into() }
    }

    /// Returns the value of the field in a row, if it is present.
    #[inline(always)]
    fn value_in(&self, row: &R) -> Option<F::Value>
    where
        F: Comparable,
    {
        let Some(unpadded) = R::UNPADDED else { return self.of(row).value() };
        // Does not use the column's function: a call in the loop over the rows, even one that is
        // never executed, would cost more than the comparison.
        let (offset, size) = (self.offset(), size_of::<F>());
        // `Column::new` ensures that the field is inside the row.
        let bytes = &unpadded.bytes(row)[offset..offset + size];
        // The row is an `R`, so its field is a valid `F`, unless the column was constructed by hand
        // with another offset.
        F::try_read_from_bytes(bytes).unwrap_or(F::ABSENT_VALUE).value()
    }
}

/// Conditions on whether a value is present.
impl<R: FieldType, F: Optional> Column<R, Maybe<F>> {
    /// Selects rows with a value.
    pub fn is_some(self) -> Presence<R, F> {
        Presence { column: self, wanted: true }
    }

    /// Selects rows without a value.
    pub fn is_none(self) -> Presence<R, F> {
        Presence { column: self, wanted: false }
    }
}

/// A comparison of a column with one value: [`Column::lt`], `le`, `gt`, `ge`, `eq`, `ne`.
#[must_use]
pub struct Compare<R, F: Comparable, O> {
    column: Column<R, F>,
    value: F::Value,
    operator: PhantomData<fn() -> O>,
}

impl<R, F: Comparable, O> Compare<R, F, O> {
    fn new(column: Column<R, F>, value: F::Value) -> Self {
        Self { column, value, operator: PhantomData }
    }
}

impl<R: FieldType, F: Comparable, O: Operator<F>> Predicate<R> for Compare<R, F, O> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        self.column.value_in(row).is_some_and(|found| O::holds(&found, &self.value))
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        size_of::<F>() <= MAX_QUICK_VALUES
    }

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        with_bytes(&self.value, |asked| {
            prune(zone.stats(self.column.offset()), asked.len(), |ends| O::among(ends(asked)))
        })
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        show(self, negated);
    }
}

impl<R: FieldType, F: Comparable, O: Operator<F>> Condition for Compare<R, F, O> {
    fn pruning(&self, zone: &Zone<'_>) -> Pruning {
        self.prune(zone)
    }
}

impl<R, F: Comparable, O: Operator<F>> fmt::Display for Compare<R, F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.column.name(), O::SIGN, said(&self.value))
    }
}

/// A comparison of a column with a range: [`Column::between`].
#[must_use]
pub struct Between<R, F: Comparable> {
    column: Column<R, F>,
    start: Bound<F::Value>,
    end: Bound<F::Value>,
}

impl<R: FieldType, F: Ordered> Predicate<R> for Between<R, F> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        let holds = |found: F::Value| {
            let from = match &self.start {
                Bound::Included(start) => !F::less(&found, start),
                Bound::Excluded(start) => F::less(start, &found),
                Bound::Unbounded => true,
            };
            let to = match &self.end {
                Bound::Included(end) => !F::less(end, &found),
                Bound::Excluded(end) => F::less(&found, end),
                Bound::Unbounded => true,
            };
            from & to
        };
        self.column.value_in(row).is_some_and(holds)
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        size_of::<F>() <= MAX_QUICK_VALUES
    }

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        prune(zone.stats(self.column.offset()), size_of::<F::Value>(), |ends| {
            let ends = |value: &F::Value| with_bytes(value, ends);
            let from = match &self.start {
                Bound::Included(start) => <NotLessThan as Operator<F>>::among(ends(start)),
                Bound::Excluded(start) => <GreaterThan as Operator<F>>::among(ends(start)),
                Bound::Unbounded => Pruning::All,
            };
            let to = match &self.end {
                Bound::Included(end) => <NotGreaterThan as Operator<F>>::among(ends(end)),
                Bound::Excluded(end) => <LessThan as Operator<F>>::among(ends(end)),
                Bound::Unbounded => Pruning::All,
            };
            match (from, to) {
                (Pruning::None, _) | (_, Pruning::None) => Pruning::None,
                (Pruning::All, Pruning::All) => Pruning::All,
                _ => Pruning::Some,
            }
        })
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        show(self, negated);
    }
}

impl<R: FieldType, F: Ordered> Condition for Between<R, F> {
    fn pruning(&self, zone: &Zone<'_>) -> Pruning {
        self.prune(zone)
    }
}

impl<R, F: Comparable> fmt::Display for Between<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in ", self.column.name())?;
        match &self.start {
            Bound::Included(start) => write!(f, "{}", said(start))?,
            Bound::Excluded(start) => write!(f, "(above {})", said(start))?,
            Bound::Unbounded => {}
        }
        match &self.end {
            Bound::Included(end) => write!(f, "..={}", said(end)),
            Bound::Excluded(end) => write!(f, "..{}", said(end)),
            Bound::Unbounded => write!(f, ".."),
        }
    }
}

/// A comparison of a column with a list of values: [`Column::is_in`].
#[must_use]
pub struct IsIn<R, F: Comparable> {
    column: Column<R, F>,
    values: Arc<[F::Value]>,
}

impl<R: FieldType, F: Comparable> Predicate<R> for IsIn<R, F> {
    #[inline]
    fn matches(&self, row: &R) -> bool {
        self.column.value_in(row).is_some_and(|found| self.values.iter().any(|value| F::same(&found, value)))
    }

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        prune(zone.stats(self.column.offset()), size_of::<F::Value>(), |ends| {
            let each = |value: &F::Value| <EqualTo as Operator<F>>::among(with_bytes(value, ends));
            let mut found = Pruning::None;
            for verdict in self.values.iter().map(each) {
                match verdict {
                    Pruning::All => return Pruning::All,
                    Pruning::Some => found = Pruning::Some,
                    Pruning::None => {}
                }
            }
            found
        })
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        show(self, negated);
    }
}

impl<R: FieldType, F: Comparable> Condition for IsIn<R, F> {
    fn pruning(&self, zone: &Zone<'_>) -> Pruning {
        self.prune(zone)
    }
}

/// Maximum size in bytes of a field that is compared with a few instructions.
const MAX_QUICK_VALUES: usize = 16;
/// Maximum number of values of a list that are displayed.
const MAX_SHOWN_VALUES: usize = 4;

impl<R, F: Comparable> fmt::Display for IsIn<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in [", self.column.name())?;
        for (place, value) in self.values.iter().take(MAX_SHOWN_VALUES).enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, said(value))?;
        }
        match self.values.len().checked_sub(MAX_SHOWN_VALUES) {
            Some(more @ 1..) => write!(f, " and {more} more]"),
            _ => write!(f, "]"),
        }
    }
}

/// A test whether a `Maybe` has a value: [`Column::is_some`], [`Column::is_none`].
#[must_use]
pub struct Presence<R, F: Optional> {
    column: Column<R, Maybe<F>>,
    wanted: bool,
}

impl<R: FieldType, F: Optional> Predicate<R> for Presence<R, F> {
    #[inline(always)]
    fn matches(&self, row: &R) -> bool {
        let is_some = match R::UNPADDED {
            // Reads only the first byte of the tag, not the value.
            Some(unpadded) => unpadded.bytes(row)[self.column.offset()] != 0,
            None => self.column.of(row).is_some(),
        };
        is_some == self.wanted
    }

    #[inline(always)]
    fn is_quick(&self) -> bool {
        true
    }

    fn prune(&self, zone: &Zone<'_>) -> Pruning {
        let Some(facts) = zone.stats(self.column.offset()) else { return Pruning::Some };
        let verdict = match (facts.some_present(), facts.some_absent()) {
            (true, false) => Pruning::All,
            (false, true) => Pruning::None,
            _ => Pruning::Some,
        };
        if self.wanted { verdict } else { verdict.opposite() }
    }

    fn each(&self, negated: bool, show: &mut dyn FnMut(&dyn Condition, bool)) {
        show(self, negated);
    }
}

impl<R: FieldType, F: Optional> Condition for Presence<R, F> {
    fn pruning(&self, zone: &Zone<'_>) -> Pruning {
        self.prune(zone)
    }
}

impl<R, F: Optional> fmt::Display for Presence<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.column.name(), if self.wanted { "there" } else { "missing" })
    }
}

fn said<V: FieldType>(value: &V) -> String {
    with_bytes(value, |bytes| describe_value(&V::KIND, bytes))
}

macro_rules! plain {
    ($($name:ident<R, F $(: $bound:ident)?, $($operator:ident)?> { $($field:ident),* })*) => {$(
        impl<R, F: $($bound)?, $($operator)?> Clone for $name<R, F, $($operator)?> {
            fn clone(&self) -> Self {
                Self { $($field: self.$field.clone()),* }
            }
        }
    )*};
}

plain! {
    Compare<R, F: Comparable, O> { column, value, operator }
    Between<R, F: Comparable,> { column, start, end }
    IsIn<R, F: Comparable,> { column, values }
    Presence<R, F: Optional,> { column, wanted }
}

//! The arguments of an index search: the columns that name the index, the values to search for, and
//! the prefixes that denote a range of keys.

use core::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::column::Column;
use crate::fields::maybe::Optional;
use crate::fields::{FixedStr, Maybe, Uuid};
use crate::record::{FieldType, KeyField};
use crate::rows::append_bytes;

/// A field type that can be part of an index: any type that can be part of a key, floats, and
/// [`Maybe`]s of both.
///
/// Integers, [`Timestamp`](crate::fields::Timestamp)s and floats are ordered by value, `FixedStr`
/// by its UTF-8 bytes, which is the order of code points, as is that of `char`. `false` comes
/// before `true`; enums are ordered by their numbers, arrays by their elements. For floats `-0.0`
/// equals `0.0`, and all NaNs are equal and come after infinity ([`order`](crate::order)). An
/// absent value comes before all others, and is excluded by bounds that are values. Filters use the
/// same order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of an index",
    label = "values of this type have no order by their bytes",
    note = "take an integer, a float, `bool`, `char`, `Uuid`, `Timestamp`, `FixedStr<N>`, or an array or a \
            `Maybe` of these: `FixedStr<N>` for `Text`, several fields for a nested record",
    note = "an enum or a struct of one field needs `#[derive(Clone, Copy, PartialEq, Eq)]`"
)]
pub trait IndexField: FieldType {}

impl<F: KeyField> IndexField for F {}
impl IndexField for f32 {}
impl IndexField for f64 {}
impl<F: IndexField + Optional> IndexField for Maybe<F> {}

/// A field type that can be part of a unique index, by `#[pongo(unique)]`: any type that can be
/// part of an index. For floats `-0.0` equals `0.0` and all NaNs are equal, as in an index.
///
/// Any number of rows may lack the value of a [`Maybe`], as with `NULL` in SQL. In a unique index
/// over several fields, a row without one of the values is in conflict with no other row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key or an index",
    label = "equal values of this type need not have equal bytes",
    note = "take an integer, a float, `bool`, `char`, `Uuid`, `Timestamp`, `FixedStr<N>`, an array of these \
            but floats, or a `Maybe` of these: `FixedStr<N>` for `Text`, several fields for a nested record",
    note = "an enum or a struct of one field needs `#[derive(Clone, Copy, PartialEq, Eq)]`"
)]
pub trait UniqueField: IndexField {}

impl<F: KeyField> UniqueField for F {}
impl UniqueField for f32 {}
impl UniqueField for f64 {}
impl<F: UniqueField + Optional> UniqueField for Maybe<F> {}

/// The columns of an index: one column, or a tuple of two to six in the index's order, or the first
/// columns of the index.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an index of `{R}`",
    label = "expected a column of `{R}`, as in `by(Flight::CARRIER)`, or a tuple of some",
    note = "a field is indexed by `#[pongo(index)]` above it, several by `#[pongo(index(a, b))]` above the \
            struct"
)]
pub trait IndexColumns<R> {
    /// The value to search for: the field's type, or a tuple of field types.
    type Value;
    /// Returns the columns' names.
    fn names(&self) -> Vec<&'static str>;
    /// Appends the bytes of a value in the representation of a row, with its fields adjacent.
    fn bytes(value: &Self::Value, out: &mut Vec<u8>);
}

impl<R, F: IndexField> IndexColumns<R> for Column<R, F> {
    type Value = F;

    fn names(&self) -> Vec<&'static str> {
        vec![self.name()]
    }

    fn bytes(value: &F, out: &mut Vec<u8>) {
        append_bytes(value, out);
    }
}

/// A value to search for in a field of type `F`: an `F`, a `&str` for a [`FixedStr`], either of
/// them for a [`Maybe`], or a tuple of these.
#[diagnostic::on_unimplemented(
    message = "a value of type `{Self}` cannot be looked for in a column of type `{F}`",
    label = "expected `{F}`"
)]
pub trait IntoValue<F> {
    /// Converts into the field's type; returns `None` if no value of the type is equal, e.g. for a
    /// string that is too long.
    fn into_value(self) -> Option<F>;
}

impl<F: IndexField> IntoValue<F> for F {
    fn into_value(self) -> Option<F> {
        Some(self)
    }
}

impl<const N: usize> IntoValue<FixedStr<N>> for &str {
    fn into_value(self) -> Option<FixedStr<N>> {
        self.try_into().ok()
    }
}

impl<F: IndexField + Optional> IntoValue<Maybe<F>> for F {
    fn into_value(self) -> Option<Maybe<F>> {
        Some(Maybe::some(self))
    }
}

impl<const N: usize> IntoValue<Maybe<FixedStr<N>>> for &str {
    fn into_value(self) -> Option<Maybe<FixedStr<N>>> {
        self.try_into().ok().map(Maybe::some)
    }
}

/// An end of a range of values of type `F`: an `F`, a `&str` of any length for a [`FixedStr`],
/// either of them for a [`Maybe`], a tuple of these for several columns, or a reference to one of
/// these values.
///
/// A string that is too long for its column, or contains a zero byte, equals no value of the
/// column, and still bounds a range: the values before it are less, and those after it are greater,
/// in the order of the strings.
#[diagnostic::on_unimplemented(
    message = "a value of type `{Self}` cannot be an end of a range in a column of type `{F}`",
    label = "expected `{F}`",
    note = "take a value of the column's type, a `&str` for `FixedStr<N>`, the value itself for a `Maybe`, \
            or a tuple of these for several columns"
)]
pub trait BoundValue<F> {
    /// Appends the bytes of this value in the representation of a row, with its fields adjacent,
    /// and returns `true`.
    ///
    /// Returns `false` if no `F` equals this value. Then an `F` is less than this value if its
    /// bytes are less than the appended ones or start with them, and otherwise greater.
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool;
}

impl<F: IndexField> BoundValue<F> for F {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        append_bytes(self, out);
        true
    }
}

impl<F: IndexField> BoundValue<F> for &F {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        append_bytes(*self, out);
        true
    }
}

impl<const N: usize> BoundValue<FixedStr<N>> for &str {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        let len = self.len().min(N);
        out.extend_from_slice(&self.as_bytes()[..len]);
        out.extend(core::iter::repeat_n(0, N - len));
        FixedStr::<N>::new(self).is_ok()
    }
}

/// Appends the tag of a present value of a [`Maybe`].
fn append_tag<F>(out: &mut Vec<u8>) {
    out.push(1);
    out.extend(core::iter::repeat_n(0, align_of::<F>() - 1));
}

impl<F: IndexField + Optional> BoundValue<Maybe<F>> for F {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        append_tag::<F>(out);
        BoundValue::<F>::bound_bytes(self, out)
    }
}

impl<F: IndexField + Optional> BoundValue<Maybe<F>> for &F {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        BoundValue::<Maybe<F>>::bound_bytes(*self, out)
    }
}

impl<const N: usize> BoundValue<Maybe<FixedStr<N>>> for &str {
    fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
        append_tag::<FixedStr<N>>(out);
        BoundValue::<FixedStr<N>>::bound_bytes(self, out)
    }
}

/// Bounds on the values of an index: a range of any kind, or a pair of [`Bound`]s, whose ends are
/// [`BoundValue`]s, as in `5..`, `"a"..="b"` or `(carrier, 0.0)..(carrier, 60.0)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a range of values of type `{F}`",
    label = "expected a range such as `a..b`, `a..`, `..=b` or `..`, or a pair of `Bound`s"
)]
pub trait ValueBounds<F> {
    /// Returns the start and the end bound as bytes in the representation of a row. Fewer bytes
    /// than those of an `F` stand for all values that start with them.
    fn value_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>);
}

impl<F> ValueBounds<F> for RangeFull {
    fn value_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

/// Returns the bytes of an end that has a value, and whether the column's type has this value.
fn end_bytes<F>(value: &impl BoundValue<F>) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let is_value = value.bound_bytes(&mut bytes);
    (bytes, is_value)
}

/// Returns the start of a range as bytes.
fn start_of<F>(bound: Bound<&impl BoundValue<F>>) -> Bound<Vec<u8>> {
    match bound.map(end_bytes) {
        Bound::Included((bytes, true)) => Bound::Included(bytes),
        Bound::Included((bytes, false)) | Bound::Excluded((bytes, _)) => Bound::Excluded(bytes),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Returns the end of a range as bytes.
fn end_of<F>(bound: Bound<&impl BoundValue<F>>) -> Bound<Vec<u8>> {
    match bound.map(end_bytes) {
        Bound::Excluded((bytes, true)) => Bound::Excluded(bytes),
        Bound::Excluded((bytes, false)) | Bound::Included((bytes, _)) => Bound::Included(bytes),
        Bound::Unbounded => Bound::Unbounded,
    }
}

macro_rules! value_bounds {
    ($($range:ty),*) => {$(
        impl<F, V: BoundValue<F>> ValueBounds<F> for $range {
            fn value_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
                (start_of(RangeBounds::<V>::start_bound(self)), end_of(RangeBounds::<V>::end_bound(self)))
            }
        }
    )*};
}

value_bounds!(
    Range<V>,
    RangeFrom<V>,
    RangeTo<V>,
    RangeInclusive<V>,
    RangeToInclusive<V>,
    (Bound<V>, Bound<V>)
);

/// A prefix of all keys in a range: a `&str` for a [`FixedStr`], `&[u8]` for an array of bytes or a
/// [`Uuid`], or for a key of several fields a tuple of the first fields, as in `(airport,)`.
#[diagnostic::on_unimplemented(
    message = "keys of type `{K}` have no prefix of type `{Self}`",
    label = "expected a `&str` for `FixedStr`, `&[u8]` for bytes, or a tuple of the first fields, as in \
             `(airport,)`"
)]
pub trait KeyPrefix<K> {
    /// Appends the prefix's bytes in the representation of a row; returns `false` if no key begins
    /// with it.
    fn prefix(&self, out: &mut Vec<u8>) -> bool;
}

/// A struct with one field and no key, whose bytes are those of the field. Implemented by the macros.
#[doc(hidden)]
pub trait OneField {
    /// The field's type.
    type Field;
}

#[diagnostic::do_not_recommend]
impl<K: OneField> KeyPrefix<K> for &str
where
    Self: KeyPrefix<K::Field>,
{
    fn prefix(&self, out: &mut Vec<u8>) -> bool {
        KeyPrefix::<K::Field>::prefix(self, out)
    }
}

#[diagnostic::do_not_recommend]
impl<K: OneField> KeyPrefix<K> for &[u8]
where
    Self: KeyPrefix<K::Field>,
{
    fn prefix(&self, out: &mut Vec<u8>) -> bool {
        KeyPrefix::<K::Field>::prefix(self, out)
    }
}

impl<const N: usize> KeyPrefix<FixedStr<N>> for &str {
    fn prefix(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.as_bytes());
        self.len() <= N && !self.contains('\0')
    }
}

impl<const N: usize> KeyPrefix<[u8; N]> for &[u8] {
    fn prefix(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self);
        self.len() <= N
    }
}

impl KeyPrefix<Uuid> for &[u8] {
    fn prefix(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self);
        self.len() <= size_of::<Uuid>()
    }
}

macro_rules! tuples {
    ($(($($part:ident $given:ident $place:tt),+)),+) => {$(
        impl<R, $($part: IndexField),+> IndexColumns<R> for ($(Column<R, $part>,)+) {
            type Value = ($($part,)+);

            fn names(&self) -> Vec<&'static str> {
                vec![$(self.$place.name()),+]
            }

            fn bytes(value: &Self::Value, out: &mut Vec<u8>) {
                $(append_bytes(&value.$place, out);)+
            }
        }

        impl<$($part, $given: IntoValue<$part>),+> IntoValue<($($part,)+)> for ($($given,)+) {
            fn into_value(self) -> Option<($($part,)+)> {
                Some(($(self.$place.into_value()?,)+))
            }
        }

        impl<$($part, $given: BoundValue<$part>),+> BoundValue<($($part,)+)> for ($($given,)+) {
            fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
                // The parts after one that no value equals do not matter.
                true $(&& self.$place.bound_bytes(out))+
            }
        }

        impl<$($part, $given: BoundValue<$part>),+> BoundValue<($($part,)+)> for &($($given,)+) {
            fn bound_bytes(&self, out: &mut Vec<u8>) -> bool {
                (**self).bound_bytes(out)
            }
        }
    )+};
}

tuples!(
    (A GivenA 0, B GivenB 1),
    (A GivenA 0, B GivenB 1, C GivenC 2),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3, E GivenE 4),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3, E GivenE 4, F GivenF 5)
);

macro_rules! prefixes {
    ($(($($part:ident $given:ident $place:tt),+; $($rest:ident),+)),+) => {$(
        impl<$($part: IndexField, $given: IntoValue<$part> + Clone,)+ $($rest: IndexField),+> KeyPrefix<($($part,)+ $($rest,)+)>
            for ($($given,)+)
        {
            fn prefix(&self, out: &mut Vec<u8>) -> bool {
                $(
                    let Some(value) = self.$place.clone().into_value() else { return false };
                    append_bytes(&value, out);
                )+
                true
            }
        }
    )+};
}

prefixes!(
    (A GivenA 0; B),
    (A GivenA 0; B, C),
    (A GivenA 0, B GivenB 1; C),
    (A GivenA 0; B, C, D),
    (A GivenA 0, B GivenB 1; C, D),
    (A GivenA 0, B GivenB 1, C GivenC 2; D),
    (A GivenA 0; B, C, D, E),
    (A GivenA 0, B GivenB 1; C, D, E),
    (A GivenA 0, B GivenB 1, C GivenC 2; D, E),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3; E),
    (A GivenA 0; B, C, D, E, F),
    (A GivenA 0, B GivenB 1; C, D, E, F),
    (A GivenA 0, B GivenB 1, C GivenC 2; D, E, F),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3; E, F),
    (A GivenA 0, B GivenB 1, C GivenC 2, D GivenD 3, E GivenE 4; F)
);

#[cfg(test)]
mod tests {
    use super::*;

    fn value<F>(value: impl IntoValue<F>) -> Option<F> {
        value.into_value()
    }

    fn prefix<K>(prefix: impl KeyPrefix<K>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        prefix.prefix(&mut out).then_some(out)
    }

    #[test]
    fn values_are_encoded_as_written() {
        assert_eq!(value::<u16>(5), Some(5));
        assert_eq!(value::<f64>(0.5), Some(0.5));
        assert_eq!(value::<FixedStr<2>>("UA"), "UA".try_into().ok());
        assert_eq!(value::<FixedStr<2>>("UAL"), None);
        assert_eq!(value::<(FixedStr<2>, u16)>(("UA", 7)), Some(("UA".try_into().expect("it fits"), 7)));
    }

    #[test]
    fn present_values_need_no_maybe() {
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(value::<Maybe<u16>>(5), Some(Maybe::some(5)));
        assert_eq!(value::<Maybe<u16>>(Maybe::some(5)), Some(Maybe::some(5)));
        assert_eq!(value::<Maybe<u16>>(Maybe::none()), Some(Maybe::none()));
        assert_eq!(value::<Maybe<FixedStr<2>>>("UA"), Some(Maybe::some("UA".try_into().expect("it fits"))));
        assert_eq!(value::<Maybe<FixedStr<2>>>("UAL"), None);
        assert_eq!(value::<(Maybe<u8>, u8)>((1, 2)), Some((Maybe::some(1), 2)));
        assert_eq!(bounds::<Maybe<u32>>(5..7), bounds::<Maybe<u32>>(Maybe::some(5)..Maybe::some(7)));
        assert_eq!(bounds::<Maybe<u32>>(&5..&7), bounds::<Maybe<u32>>(5..7));
        assert_eq!(bounds::<Maybe<u32>>(5..), (Included(vec![1, 0, 0, 0, 5, 0, 0, 0]), Unbounded));
        let text = |text: &str| text.parse::<FixedStr<2>>().map(Maybe::some).expect("it fits");
        assert_eq!(bounds::<Maybe<FixedStr<2>>>("a"..="b"), bounds(text("a")..=text("b")));
        assert_eq!(bounds::<Maybe<FixedStr<2>>>("UAL"..), (Excluded(b"\x01UA".to_vec()), Unbounded));
        assert_eq!(bounds::<(Maybe<u8>, u8)>(..(1, 2)), (Unbounded, Excluded(vec![1, 1, 2])));
    }

    fn bounds<F>(bounds: impl ValueBounds<F>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        bounds.value_bounds()
    }

    #[test]
    fn bounds_are_bytes_of_values() {
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(bounds::<u16>(5..), (Included(vec![5, 0]), Unbounded));
        assert_eq!(bounds::<u16>(..), (Unbounded, Unbounded));
        assert_eq!(bounds::<u16>(&5..&7), bounds::<u16>(5..7));
        assert_eq!(bounds::<FixedStr<2>>("a"..="b"), (Included(b"a\0".to_vec()), Included(b"b\0".to_vec())));
        let pairs = (Excluded(("UA", 7)), Excluded(("UB", 8)));
        let expected = (Excluded(b"UA\x07\0".to_vec()), Excluded(b"UB\x08\0".to_vec()));
        assert_eq!(bounds::<(FixedStr<2>, u16)>(pairs), expected);
    }

    #[test]
    fn bound_that_is_no_value_lies_between_values() {
        use Bound::{Excluded, Included, Unbounded};
        let below = |text: &str| (Unbounded, Included(text.as_bytes().to_vec()));
        let from = |text: &str| (Excluded(text.as_bytes().to_vec()), Unbounded);
        for too_long in ["UAL", "UA\0", "UAé"] {
            assert_eq!(bounds::<FixedStr<2>>(..too_long), below("UA"));
            assert_eq!(bounds::<FixedStr<2>>(..=too_long), below("UA"));
            assert_eq!(bounds::<FixedStr<2>>(too_long..), from("UA"));
            // What follows it in a tuple does not matter.
            assert_eq!(bounds::<(FixedStr<2>, u16)>(..(too_long, 7)), below("UA"));
            assert_eq!(bounds::<(u8, FixedStr<2>)>((65, too_long)..), from("AUA"));
        }
    }

    #[test]
    fn prefix_is_first_fields_bytes() {
        assert_eq!(prefix::<FixedStr<4>>("KJ"), Some(b"KJ".to_vec()));
        assert_eq!(prefix::<FixedStr<4>>("KJFKX"), None);
        assert_eq!(prefix::<(FixedStr<4>, u32)>(("KJ",)), Some(b"KJ\0\0".to_vec()));
        assert_eq!(prefix::<(u8, u16, u32)>((1, 2)), Some(vec![1, 2, 0]));
    }
}

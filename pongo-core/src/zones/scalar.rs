//! The order of a field's bytes, by which a zone map determines the minimum and maximum.

use core::cmp::Ordering;

use super::{ABSENT, BOUNDED, NAN, PRESENT};
use crate::order::TotalOrder;
use crate::schema::{Kind, PlainKind, StoredKind};

/// Maximum length of strings and byte arrays with bounds.
const LONGEST: usize = 64;

/// The order of a field's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scalar {
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    /// Lexicographic order of this many bytes.
    Bytes(usize),
    /// No order: only the presence of values is recorded.
    Unordered,
}

/// The adjacent rows of one zone, and the position of the value in each.
#[derive(Clone, Copy)]
pub(super) struct Values<'r> {
    pub(super) rows: &'r [u8],
    /// The size of a row in bytes.
    pub(super) size: usize,
    /// The offset of the value in a row.
    pub(super) at: usize,
    /// The offset of the first byte of its `Maybe`'s tag.
    pub(super) tag: Option<usize>,
}

impl<'r> Values<'r> {
    /// Iterates over the values that are present.
    fn iter(self, width: usize) -> impl Iterator<Item = &'r [u8]> {
        let there = move |row: &&[u8]| self.tag.is_none_or(|tag| row[tag] != 0);
        self.rows.chunks_exact(self.size).filter(there).map(move |row| &row[self.at..self.at + width])
    }

    /// Returns flags that tell whether values are present and whether some are absent.
    fn presence(self) -> u8 {
        let Some(tag) = self.tag else { return PRESENT };
        self.rows
            .chunks_exact(self.size)
            .fold(0, |flags, row| flags | if row[tag] == 0 { ABSENT } else { PRESENT })
    }
}

/// A number in a row.
trait Number: Copy + PartialOrd {
    /// Reads a number from exactly its bytes.
    fn read(bytes: &[u8]) -> Self;
    fn write(self, to: &mut [u8]);
    fn compare(self, other: Self) -> Ordering;
    fn is_nan(self) -> bool;
}

macro_rules! number {
    ($compare:path, $is_nan:expr, $($type:ty)*) => {$(
        impl Number for $type {
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the width of the type"))
            }

            fn write(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn compare(self, other: Self) -> Ordering {
                $compare(self, other)
            }

            #[inline]
            fn is_nan(self) -> bool {
                $is_nan(self)
            }
        }
    )*};
}

number!(compare_integers, |_| false, u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);
number!(TotalOrder::compare, |value: Self| value.is_nan(), f32 f64);

fn compare_integers<N: Ord>(a: N, b: N) -> Ordering {
    a.cmp(&b)
}

/// Writes the minimum and maximum; returns the flags. NaN is excluded from the bounds.
fn numbers<N: Number>(values: Values<'_>, min: &mut [u8], max: &mut [u8]) -> u8 {
    let mut flags = 0;
    let mut bounds: Option<(N, N)> = None;
    for value in values.iter(size_of::<N>()).map(N::read) {
        if value.is_nan() {
            flags |= NAN;
            continue;
        }
        let (least, greatest) = bounds.get_or_insert((value, value));
        *least = if value < *least { value } else { *least };
        *greatest = if value > *greatest { value } else { *greatest };
    }
    if let Some((least, greatest)) = bounds {
        least.write(min);
        greatest.write(max);
        flags |= BOUNDED;
    }
    flags
}

fn strings(values: Values<'_>, width: usize, min: &mut [u8], max: &mut [u8]) -> u8 {
    let mut all = values.iter(width);
    let Some(first) = all.next() else { return 0 };
    let (least, greatest) =
        all.fold((first, first), |(least, greatest), value| (least.min(value), greatest.max(value)));
    min.copy_from_slice(least);
    max.copy_from_slice(greatest);
    BOUNDED
}

fn compared<N: Number>(a: &[u8], b: &[u8]) -> Ordering {
    N::read(a).compare(N::read(b))
}

/// Calls a function that is generic over the number's type.
macro_rules! each_number {
    ($scalar:expr, $call:ident($($argument:expr),*), $($other:tt)*) => {
        match $scalar {
            Scalar::U8 => $call::<u8>($($argument),*),
            Scalar::U16 => $call::<u16>($($argument),*),
            Scalar::U32 => $call::<u32>($($argument),*),
            Scalar::U64 => $call::<u64>($($argument),*),
            Scalar::U128 => $call::<u128>($($argument),*),
            Scalar::I8 => $call::<i8>($($argument),*),
            Scalar::I16 => $call::<i16>($($argument),*),
            Scalar::I32 => $call::<i32>($($argument),*),
            Scalar::I64 => $call::<i64>($($argument),*),
            Scalar::I128 => $call::<i128>($($argument),*),
            Scalar::F32 => $call::<f32>($($argument),*),
            Scalar::F64 => $call::<f64>($($argument),*),
            $($other)*
        }
    };
}

impl Scalar {
    /// Returns the order of a kind of field; `None` if it has none.
    pub(crate) fn of(kind: &StoredKind) -> Option<Self> {
        match kind {
            StoredKind::Plain(plain) => Self::of_plain(*plain),
            StoredKind::Enum { repr, .. } => Self::of_plain(*repr),
            StoredKind::FixedStr(len) if *len <= LONGEST => Some(Self::Bytes(*len)),
            StoredKind::Array { of, len } if *len <= LONGEST => match **of {
                StoredKind::Plain(plain) if plain.kind() == Kind::U8 => Some(Self::Bytes(*len)),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_plain(plain: PlainKind) -> Option<Self> {
        Some(match plain.kind().integer() {
            Kind::U8 | Kind::Bool => Self::U8,
            Kind::U16 => Self::U16,
            Kind::U32 => Self::U32,
            Kind::U64 => Self::U64,
            Kind::U128 => Self::U128,
            Kind::I8 => Self::I8,
            Kind::I16 => Self::I16,
            Kind::I32 => Self::I32,
            Kind::I64 | Kind::Timestamp => Self::I64,
            Kind::I128 => Self::I128,
            Kind::F32 => Self::F32,
            Kind::F64 => Self::F64,
            Kind::Uuid => Self::Bytes(16),
            _ => return None,
        })
    }

    /// Returns the size of a value in bytes.
    pub(crate) fn width(self) -> usize {
        fn width<N>() -> usize {
            size_of::<N>()
        }
        each_number!(self, width(), Self::Bytes(len) => len, Self::Unordered => 0,)
    }

    /// Compares two values of this width. Without an order all values are equal.
    pub(crate) fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        each_number!(self, compared(a, b), Self::Bytes(_) => a.cmp(b), Self::Unordered => Ordering::Equal,)
    }

    /// Returns NaN if the type has it.
    pub(crate) fn nan(self) -> Option<&'static [u8]> {
        const NAN_32: [u8; 4] = <f32 as TotalOrder>::NAN.to_le_bytes();
        const NAN_64: [u8; 8] = <f64 as TotalOrder>::NAN.to_le_bytes();
        match self {
            Self::F32 => Some(&NAN_32),
            Self::F64 => Some(&NAN_64),
            _ => None,
        }
    }

    /// Computes the flags of a zone from its values, and the bounds if the flags say that they are
    /// valid.
    pub(super) fn gather(self, values: Values<'_>, min: &mut [u8], max: &mut [u8]) -> u8 {
        let bounds = each_number!(
            self,
            numbers(values, min, max),
            Self::Bytes(len) => strings(values, len, min, max),
            Self::Unordered => 0,
        );
        bounds | values.presence()
    }
}

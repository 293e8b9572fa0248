//! A record with every kind of field that can be compared, random conditions on it, and the same
//! conditions in plain Rust.

use std::cmp::Ordering;

use pongo::prelude::*;
use pongo_test_support::Random;

#[pongo::record]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Freight = 3,
    Mail = 200,
    People = 7,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Freight, Kind::Mail, Kind::People];

/// A row of 176 bytes, so that rows cross the boundaries of blocks and chunks.
#[pongo::record]
#[pongo(table = "mix")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    pub(crate) u128: u128,
    pub(crate) i128: i128,
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    pub(crate) f64: f64,
    pub(crate) i64: i64,
    pub(crate) landed: Maybe<Timestamp>,
    pub(crate) f32: f32,
    pub(crate) i32: i32,
    pub(crate) u32: u32,
    pub(crate) delay: Maybe<f32>,
    pub(crate) seats: Maybe<u32>,
    pub(crate) u16: u16,
    pub(crate) i16: i16,
    pub(crate) u8: u8,
    pub(crate) i8: i8,
    pub(crate) flag: bool,
    pub(crate) kind: Kind,
    pub(crate) known: Maybe<bool>,
    pub(crate) code: FixedStr<4>,
    pub(crate) tag: [u8; 3],
    pub(crate) via: Maybe<FixedStr<2>>,
    pub(crate) who: Uuid,
    pub(crate) maybe_kind: Maybe<Kind>,
    pub(crate) maybe_who: Maybe<Uuid>,
    pub(crate) mark: Maybe<[u8; 2]>,
    pub(crate) pair: [u16; 2],
    pub(crate) _pad: [u8; 6],
}

/// Returns a row whose values are near those of rows with near ids, with occasional outliers.
pub(crate) fn mix(id: u64, rng: &mut Random) -> Mix {
    let drift = id / 200;
    // Ranges of ids in which no value is present, all values are NaN, or all values are equal.
    let stretch = drift / 3 % 5;
    let base = if stretch == 4 { drift / 15 * 15 } else { drift + rng.below(3) };
    let odd = rng.below(500) == 0;
    let near = if odd { rng.next() >> rng.below(64) } else { base };
    let float = match (stretch, rng.below(400)) {
        // NaN of either sign and with any payload.
        (1, _) | (_, 0) => f64::from_bits(0x7ff8 << 48 | rng.next() >> 13 | rng.next() << 63),
        (_, 1) => f64::INFINITY,
        (_, 2) => -0.0,
        (_, 3) => f64::NEG_INFINITY,
        (_, 4) => 0.0,
        _ => near as f64 - 20.0,
    };
    let text = |wide: usize| format!("{:0wide$}", near % 10u64.pow(wide as u32));
    let there = match stretch {
        2 => false,
        3 => rng.below(2) == 0,
        _ => true,
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&near.to_be_bytes());
    Mix {
        u128: u128::from(near) << 70,
        i128: i128::from(near as i64) - 30,
        id,
        at: Timestamp::from_micros(near as i64 - 30),
        f64: float,
        i64: near as i64 - 30,
        landed: there.then_some(Timestamp::from_micros(near as i64)).into(),
        f32: float as f32,
        i32: near as i32 - 30,
        u32: near as u32,
        delay: there.then_some(float as f32).into(),
        seats: there.then_some(near as u32).into(),
        u16: near as u16,
        i16: (near as i16).wrapping_sub(30),
        u8: near as u8,
        i8: near as i8,
        flag: if stretch == 4 { drift.is_multiple_of(2) } else { near.is_multiple_of(7) },
        kind: KINDS[(base / 4 % 3) as usize],
        known: there.then_some(near.is_multiple_of(5)).into(),
        code: text(4).parse().expect("four digits"),
        tag: [(near >> 8) as u8, near as u8, 7],
        via: there.then_some(text(2).parse().expect("two digits")).into(),
        who: Uuid::from_bytes(bytes),
        maybe_kind: there.then_some(KINDS[(base / 9 % 3) as usize]).into(),
        maybe_who: there.then_some(Uuid::from_bytes(bytes)).into(),
        mark: there.then_some([near as u8, 1]).into(),
        pair: [near as u16, 0],
        _pad: [0; 6],
    }
}

/// The order of values, implemented a second time. For floats, `-0.0` equals `0.0`, and all NaN are
/// equal and sort after all numbers.
trait Order: Copy {
    fn order(self, other: Self) -> Ordering;
}

macro_rules! order {
    ($($type:ty)*) => {$(
        impl Order for $type {
            fn order(self, other: Self) -> Ordering {
                self.cmp(&other)
            }
        }
    )*};
}

order!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool Timestamp Uuid FixedStr<2> FixedStr<4> [u8; 2] [u8; 3] [u16; 2]);

impl Order for f64 {
    fn order(self, other: Self) -> Ordering {
        match (self.is_nan(), other.is_nan()) {
            (false, false) if self < other => Ordering::Less,
            (false, false) if self == other => Ordering::Equal,
            (false, false) => Ordering::Greater,
            (a, b) => a.cmp(&b),
        }
    }
}

impl Order for f32 {
    fn order(self, other: Self) -> Ordering {
        f64::from(self).order(f64::from(other))
    }
}

impl Order for Kind {
    fn order(self, other: Self) -> Ordering {
        (self as u8).cmp(&(other as u8))
    }
}

/// A condition, and the same condition in plain Rust.
pub(crate) type Case = (Box<dyn Predicate<Mix>>, Box<dyn Fn(&Mix) -> bool>);

/// Makes a comparison of a column, with values as random rows have them. `$get` returns the field
/// of a row as an `Option`.
macro_rules! ordered {
    ($rng:expr, $sample:expr, $column:expr, $get:expr) => {{
        let get = $get;
        let (a, b) = (get(&$sample[0]), get(&$sample[1]));
        match (a, b, $rng.below(11)) {
            (Some(a), _, 0) => {
                case($column.lt(a), move |row| get(row).is_some_and(|value| value.order(a).is_lt()))
            }
            (Some(a), _, 1) => {
                case($column.le(a), move |row| get(row).is_some_and(|value| value.order(a).is_le()))
            }
            (Some(a), _, 2) => {
                case($column.gt(a), move |row| get(row).is_some_and(|value| value.order(a).is_gt()))
            }
            (Some(a), _, 3) => {
                case($column.ge(a), move |row| get(row).is_some_and(|value| value.order(a).is_ge()))
            }
            (Some(a), Some(b), 4) => case($column.between(a..b), move |row| {
                get(row).is_some_and(|value| value.order(a).is_ge() && value.order(b).is_lt())
            }),
            (Some(a), Some(b), 5) => case($column.between(a..=b), move |row| {
                get(row).is_some_and(|value| value.order(a).is_ge() && value.order(b).is_le())
            }),
            (Some(a), _, 6) => {
                case($column.between(..a), move |row| get(row).is_some_and(|value| value.order(a).is_lt()))
            }
            (Some(_), _, 7) => case($column.between(..), move |row| get(row).is_some()),
            (a, b, _) => equal!($rng, a, b, $column, get),
        }
    }};
}

macro_rules! equal {
    ($rng:expr, $a:expr, $b:expr, $column:expr, $get:expr) => {{
        let get = $get;
        match ($a, $b, $rng.below(3)) {
            (Some(a), _, 0) => {
                case($column.eq(a), move |row| get(row).is_some_and(|value| value.order(a).is_eq()))
            }
            (Some(a), _, 1) => {
                case($column.ne(a), move |row| get(row).is_some_and(|value| value.order(a).is_ne()))
            }
            (Some(a), Some(b), _) => case($column.is_in(&[a, b]), move |row| {
                get(row).is_some_and(|value| value.order(a).is_eq() || value.order(b).is_eq())
            }),
            _ => case($column.is_in(&[]), |_| false),
        }
    }};
}

fn case(predicate: impl Predicate<Mix> + 'static, plain: impl Fn(&Mix) -> bool + 'static) -> Case {
    (Box::new(predicate), Box::new(plain))
}

/// Returns a comparison of a random column with values of the sample rows.
fn leaf(rng: &mut Random, sample: &[Mix; 2]) -> Case {
    match rng.below(30) {
        0 => ordered!(rng, sample, Mix::U128, |row: &Mix| Some(row.u128)),
        1 => ordered!(rng, sample, Mix::I128, |row: &Mix| Some(row.i128)),
        2 => ordered!(rng, sample, Mix::ID, |row: &Mix| Some(row.id)),
        3 => ordered!(rng, sample, Mix::AT, |row: &Mix| Some(row.at)),
        4 => ordered!(rng, sample, Mix::F64, |row: &Mix| Some(row.f64)),
        5 => ordered!(rng, sample, Mix::I64, |row: &Mix| Some(row.i64)),
        6 => ordered!(rng, sample, Mix::LANDED, |row: &Mix| row.landed.to_option()),
        7 => ordered!(rng, sample, Mix::F32, |row: &Mix| Some(row.f32)),
        8 => ordered!(rng, sample, Mix::I32, |row: &Mix| Some(row.i32)),
        9 => ordered!(rng, sample, Mix::U32, |row: &Mix| Some(row.u32)),
        10 => ordered!(rng, sample, Mix::DELAY, |row: &Mix| row.delay.to_option()),
        11 => ordered!(rng, sample, Mix::SEATS, |row: &Mix| row.seats.to_option()),
        12 => ordered!(rng, sample, Mix::U16, |row: &Mix| Some(row.u16)),
        13 => ordered!(rng, sample, Mix::I16, |row: &Mix| Some(row.i16)),
        14 => ordered!(rng, sample, Mix::U8, |row: &Mix| Some(row.u8)),
        15 => ordered!(rng, sample, Mix::I8, |row: &Mix| Some(row.i8)),
        16 => ordered!(rng, sample, Mix::FLAG, |row: &Mix| Some(row.flag)),
        17 => ordered!(rng, sample, Mix::KNOWN, |row: &Mix| row.known.to_option()),
        18 => ordered!(rng, sample, Mix::CODE, |row: &Mix| Some(row.code)),
        19 => ordered!(rng, sample, Mix::TAG, |row: &Mix| Some(row.tag)),
        20 => ordered!(rng, sample, Mix::VIA, |row: &Mix| row.via.to_option()),
        21 => ordered!(rng, sample, Mix::WHO, |row: &Mix| Some(row.who)),
        22 => ordered!(rng, sample, Mix::MAYBE_WHO, |row: &Mix| row.maybe_who.to_option()),
        23 => ordered!(rng, sample, Mix::MARK, |row: &Mix| row.mark.to_option()),
        24 => {
            let get = |row: &Mix| Some(row.kind);
            equal!(rng, get(&sample[0]), get(&sample[1]), Mix::KIND, get)
        }
        25 => {
            let get = |row: &Mix| row.maybe_kind.to_option();
            equal!(rng, get(&sample[0]), get(&sample[1]), Mix::MAYBE_KIND, get)
        }
        26 => {
            let get = |row: &Mix| Some(row.pair);
            equal!(rng, get(&sample[0]), get(&sample[1]), Mix::PAIR, get)
        }
        27 => case(Mix::DELAY.is_some(), |row| row.delay.is_some()),
        28 => case(Mix::LANDED.is_none(), |row| row.landed.is_none()),
        _ => case(Mix::MAYBE_KIND.is_none(), |row| row.maybe_kind.is_none()),
    }
}

/// Returns a random condition of up to seven comparisons.
pub(crate) fn condition(rng: &mut Random, rows: u64, depth: u32) -> Case {
    if depth == 0 || rng.below(3) == 0 {
        let sample = [(); 2].map(|()| {
            let id = rng.below(rows);
            mix(id, rng)
        });
        return leaf(rng, &sample);
    }
    let ((a, plain_a), (b, plain_b)) = (condition(rng, rows, depth - 1), condition(rng, rows, depth - 1));
    match rng.below(3) {
        0 => case(a.and(b), move |row| plain_a(row) && plain_b(row)),
        1 => case(a.or(b), move |row| plain_a(row) || plain_b(row)),
        _ => case(a.not(), move |row| !plain_a(row)),
    }
}

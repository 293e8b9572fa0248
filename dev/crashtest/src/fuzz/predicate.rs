//! Conditions on columns: a filter, which skips blocks, finds the same rows as a plain loop.

use std::cmp::Ordering;
use std::sync::OnceLock;

use pongo::Predicate;
use pongo::prelude::*;
use pongo_core::storage::MemoryStorage;
use pongo_sim::Random;
use std::sync::Arc;

use crate::fuzz::image::quiet;
use crate::{Bytes, RandomSource};

/// A row with every kind of field that can be compared.
#[pongo::record]
#[pongo(table = "samples")]
#[derive(PartialEq, Debug, Clone)]
struct Sample {
    #[pongo(key)]
    id: u64,
    level: f64,
    count: i64,
    some: Maybe<i32>,
    share: Maybe<f32>,
    code: FixedStr<6>,
    open: bool,
    flag: u8,
}

const ROWS: u64 = 6000;

/// Generates a row. Some ranges of rows have similar values, so that zones can be skipped.
fn sample(id: u64, random: &mut Random) -> Sample {
    let stretch = id / 700;
    let float = |random: &mut Random, base: f64| match random.below(400) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        _ => base + random.below(8) as f64,
    };
    let level = float(random, 16.0 * stretch as f64);
    let share = float(random, stretch as f64) as f32;
    let name: String =
        (0..random.below(7)).map(|_| char::from(b'a' + (stretch + random.below(3)) as u8)).collect();
    Sample {
        id,
        level,
        count: (stretch as i64 - 4) * 16 + random.below(16) as i64,
        some: if stretch % 3 == 1 || random.one_in(5) { Maybe::none() } else { Maybe::some(stretch as i32) },
        share: if stretch == 2 { Maybe::none() } else { Maybe::some(share) },
        code: name.parse().expect("short enough"),
        open: stretch.is_multiple_of(2) && !random.one_in(900),
        flag: random.below(4) as u8 + stretch as u8,
    }
}

/// Returns a store with zones, and its rows.
fn samples() -> &'static (Store, Vec<Sample>) {
    static SAMPLES: OnceLock<(Store, Vec<Sample>)> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let storage = Arc::new(MemoryStorage::new());
        let store = quiet().open_on(Arc::clone(&storage) as _).expect("a new store");
        let mut random = Random(3);
        let all: Vec<Sample> = (0..ROWS).map(|id| sample(id, &mut random)).collect();
        let tx = store.begin_write().expect("nothing goes wrong");
        tx.table::<Sample>().expect("a table").extend(all.iter().cloned()).expect("memory");
        tx.commit().expect("nothing goes wrong");
        // Zones are built from the rows of a checkpoint.
        store.close().expect("nothing goes wrong");
        let store = quiet().open_on(storage).expect("a store");
        (store, all)
    })
}

/// The order of values, implemented independently: for floats, `-0.0` equals `0.0`, and NaN is one
/// value after all others.
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

order!(u8 u64 i32 i64 bool FixedStr<6>);

impl Order for f64 {
    fn order(self, other: Self) -> Ordering {
        self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }
}

impl Order for f32 {
    fn order(self, other: Self) -> Ordering {
        f64::from(self).order(f64::from(other))
    }
}

type Boxed = Box<dyn Predicate<Sample>>;
type Plain = Box<dyn Fn(&Sample) -> bool>;

fn float(bytes: &mut Bytes<'_>) -> f64 {
    match bytes.below(10) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => f64::from_bits((0..8).fold(0, |bits, _| bits << 8 | bytes.below(256))),
        5 => bytes.below(256) as f64 / 2.0 - 20.0,
        _ => bytes.below(256) as f64,
    }
}

/// Generates a condition, and the same condition as plain code.
fn condition(bytes: &mut Bytes<'_>, depth: u32) -> (Boxed, Plain) {
    let what = bytes.below(if depth > 4 { 20 } else { 32 });
    macro_rules! compared {
        ($column:expr, $value:expr, $of:expr) => {{
            let value = $value;
            let (high, of) = ($value, $of);
            match bytes.below(8) {
                0 => (
                    Box::new($column.lt(value)) as Boxed,
                    Box::new(move |s: &Sample| of(s).is_some_and(|v| v.order(value).is_lt())) as Plain,
                ),
                1 => (
                    Box::new($column.le(value)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_le())),
                ),
                2 => (
                    Box::new($column.gt(value)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_gt())),
                ),
                3 => (
                    Box::new($column.ge(value)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_ge())),
                ),
                4 => (
                    Box::new($column.eq(value)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_eq())),
                ),
                5 => (
                    Box::new($column.ne(value)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_ne())),
                ),
                6 => {
                    let both = [value, high];
                    (
                        Box::new($column.is_in(&both)),
                        Box::new(move |s| of(s).is_some_and(|v| both.iter().any(|b| b.order(v).is_eq()))),
                    )
                }
                _ => (
                    Box::new($column.between(value..high)),
                    Box::new(move |s| of(s).is_some_and(|v| v.order(value).is_ge() && v.order(high).is_lt())),
                ),
            }
        }};
    }
    match what {
        0..3 => compared!(Sample::LEVEL, float(bytes), |s: &Sample| Some(s.level)),
        3..6 => compared!(Sample::COUNT, bytes.below(256) as i64 - 100, |s: &Sample| Some(s.count)),
        6..8 => compared!(Sample::SOME, bytes.below(12) as i32 - 1, |s: &Sample| s.some.to_option()),
        8..10 => compared!(Sample::SHARE, float(bytes) as f32, |s: &Sample| s.share.to_option()),
        10 | 11 => {
            let mut text = || {
                let len = bytes.below(7);
                (0..len).map(|_| char::from(b'a' + bytes.below(26) as u8)).collect::<String>()
            };
            let (first, second) = (text(), text());
            let mut values =
                [first, second].map(|text| text.parse::<FixedStr<6>>().expect("short")).into_iter();
            compared!(Sample::CODE, values.next().expect("two are made"), |s: &Sample| Some(s.code))
        }
        12 | 13 => compared!(Sample::OPEN, bytes.below(2) == 1, |s: &Sample| Some(s.open)),
        14 | 15 => compared!(Sample::FLAG, bytes.below(18) as u8, |s: &Sample| Some(s.flag)),
        16 => (Box::new(Sample::SOME.is_some()), Box::new(|s| s.some.is_some())),
        17 => (Box::new(Sample::SOME.is_none()), Box::new(|s| s.some.is_none())),
        18 => (Box::new(Sample::SHARE.is_none()), Box::new(|s| s.share.is_none())),
        19 => compared!(Sample::ID, bytes.below(65536), |s: &Sample| Some(s.id)),
        20..24 => {
            let (first, second) = (condition(bytes, depth + 1), condition(bytes, depth + 1));
            (Box::new(first.0.and(second.0)), Box::new(move |s| first.1(s) && second.1(s)))
        }
        24..28 => {
            let (first, second) = (condition(bytes, depth + 1), condition(bytes, depth + 1));
            (Box::new(first.0.or(second.0)), Box::new(move |s| first.1(s) || second.1(s)))
        }
        _ => {
            let (boxed, plain) = condition(bytes, depth + 1);
            (Box::new(boxed.not()), Box::new(move |s| !plain(s)))
        }
    }
}

/// Compares a filter with a plain loop. The bytes describe the condition.
pub fn predicate(data: &[u8]) {
    let (store, all) = samples();
    let mut bytes = Bytes(data);
    let (boxed, plain) = condition(&mut bytes, 0);
    let snapshot = store.begin_read().expect("nothing goes wrong");
    let table = snapshot.table::<Sample>().expect("the table");
    let filtered = table.filter(&boxed);
    let explain = filtered.explain().expect("rows that can be read");
    let tested = explain.pruned.rows + explain.matched.rows + explain.scanned.rows;
    assert_eq!(tested, ROWS, "{explain}");
    assert!(!explain.to_string().is_empty());
    let found: Vec<u64> =
        filtered.map(|row| row.map(|row| row.id)).collect::<Result<_, _>>().expect("rows that can be read");
    let expected: Vec<u64> = all.iter().filter(|row| plain(row)).map(|row| row.id).collect();
    assert_eq!(found, expected, "{explain}");
}

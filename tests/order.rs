//! One order of floats and of absent values: filters, zones, indexes and unique values agree on
//! random floats, including NaN and both zeros, and on `Maybe`s. They are compared with this file's
//! own implementation of the order.

#![allow(clippy::duplicated_attributes, reason = "two indexes have a field in common")]

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use pongo::prelude::*;
use pongo::{BoundValue, IndexColumns, IndexView, ReadError, WriteError};
use pongo_test_support::{Outcome, Random, bound};

#[pongo::record]
#[pongo(table = "levels", index(of, level))]
#[pongo(index(level, share, of))]
#[derive(Clone, Copy, Debug)]
struct Level {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    value: f64,
    #[pongo(index)]
    level: Maybe<f64>,
    #[pongo(index)]
    share: Maybe<f32>,
    #[pongo(index)]
    small: f32,
    of: u16,
    _pad: [u8; 2],
}

/// A value of a column, wide enough for all of them. `None` means absent.
type Value = Option<f64>;

/// Compares floats: NaN after all numbers, both zeros equal.
fn float_order(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if a < b => Ordering::Less,
        (false, false) if a > b => Ordering::Greater,
        (false, false) => Ordering::Equal,
        (a, b) => a.cmp(&b),
    }
}

/// Compares values in the order of an index: absent values come first.
fn order(a: Value, b: Value) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => float_order(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn order_all(a: &[Value], b: &[Value]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| order(*a, *b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn value_of<V>(bound: &Bound<V>) -> Option<&V> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

/// Returns whether a row with these values is within the bounds.
fn lies_within(row: &[Value], start: &Bound<Vec<Value>>, end: &Bound<Vec<Value>>) -> bool {
    let from = match start {
        Bound::Included(start) => order_all(row, start).is_ge(),
        Bound::Excluded(start) => order_all(row, start).is_gt(),
        Bound::Unbounded => true,
    };
    let to = match end {
        Bound::Included(end) => order_all(row, end).is_le(),
        Bound::Excluded(end) => order_all(row, end).is_lt(),
        Bound::Unbounded => true,
    };
    // An absent value is below a present value of the end bound only if the start bound explicitly
    // includes absent values.
    let compared_absent = value_of(end).and_then(|end| {
        let differs = (0..row.len()).find(|&place| order(row[place], end[place]).is_ne())?;
        (row[differs].is_none() && end[differs].is_some()).then_some(differs)
    });
    let asked_for = |place: usize| {
        value_of(start)
            .is_some_and(|start| order_all(&start[..place], &row[..place]).is_eq() && start[place].is_none())
    };
    from && to && compared_absent.is_none_or(asked_for)
}

fn float(rng: &mut Random) -> f64 {
    match rng.below(14) {
        0 => f64::NAN,
        1 => f64::from_bits(0xfff0_0000_0000_0001 | rng.next() >> 20),
        2 => f64::INFINITY,
        3 => f64::NEG_INFINITY,
        4 | 5 => -0.0,
        6 | 7 => 0.0,
        8 => f64::from_bits(rng.next()),
        9 => f64::from(f32::MIN_POSITIVE),
        _ => rng.below(9) as f64 / 2.0 - 2.0,
    }
}

fn maybe<T>(rng: &mut Random, value: T) -> Option<T> {
    (rng.below(4) != 0).then_some(value)
}

fn level(id: u64, rng: &mut Random) -> Level {
    // Ranges of ids in which all values are NaN, all are absent, or none is, so that zones record
    // it.
    let stretch = id / 1500 % 4;
    let value = if stretch == 1 { f64::NAN } else { float(rng) };
    let level = match stretch {
        2 => None,
        3 => Some(float(rng)),
        _ => {
            let value = float(rng);
            maybe(rng, value)
        }
    };
    let share = float(rng) as f32;
    let share = maybe(rng, share);
    let small = float(rng) as f32;
    Level {
        id,
        value,
        level: level.into(),
        share: share.into(),
        small,
        of: rng.below(3) as u16,
        _pad: [0; 2],
    }
}

fn value(row: &Level) -> Vec<Value> {
    vec![Some(row.value)]
}

fn small(row: &Level) -> Vec<Value> {
    vec![Some(row.small.into())]
}

fn level_of(row: &Level) -> Value {
    row.level.to_option()
}

fn share_of(row: &Level) -> Value {
    row.share.to_option().map(f64::from)
}

type Rows = BTreeMap<u64, Level>;

fn ids(rows: impl Iterator<Item = Result<impl std::borrow::Borrow<Level>, ReadError>>) -> Vec<u64> {
    let mut ids: Vec<u64> =
        rows.map(|row| std::borrow::Borrow::<Level>::borrow(&row.expect("sound")).id).collect();
    ids.sort_unstable();
    ids
}

/// Checks a range of an index by every method against the rows.
fn check_range<C: IndexColumns<Level>>(
    by: &IndexView<'_, Level, C>,
    (start, end): (Bound<C::Value>, Bound<C::Value>),
    plain: impl Fn(&C::Value) -> Vec<Value>,
    of: impl Fn(&Level) -> Vec<Value>,
    rows: &Rows,
) -> Outcome<Vec<u64>>
where
    C::Value: Copy + BoundValue<C::Value>,
{
    let (from, to) = (start.as_ref().map(&plain), end.as_ref().map(&plain));
    let what = format!("{by:?} in {from:?} .. {to:?}");
    let range = || by.range((start, end));
    let wanted: Vec<u64> =
        rows.values().filter(|row| lies_within(&of(row), &from, &to)).map(|row| row.id).collect();
    let found: Vec<&Level> = range()?.collect::<Result<_, _>>()?;
    assert!(found.windows(2).all(|pair| order_all(&of(pair[0]), &of(pair[1])).is_le()), "{what}: in order");
    assert_eq!(ids(found.iter().copied().map(Ok)), wanted, "{what}");
    assert_eq!(by.count((start, end))?, wanted.len() as u64, "{what}");
    let mut backward: Vec<u64> = range()?.rev().map(|row| row.map(|row| row.id)).collect::<Result<_, _>>()?;
    backward.reverse();
    assert_eq!(backward, found.iter().map(|row| row.id).collect::<Vec<_>>(), "{what}: from the back");
    // From both ends, and after a cursor in the middle.
    let mut both = range()?;
    let front = both.by_ref().take(wanted.len() / 3).count();
    let back = both.by_ref().rev().take(wanted.len() / 3).count();
    assert_eq!(front + back + both.count(), wanted.len(), "{what}: from both ends");
    let mut part = range()?;
    part.by_ref().take(wanted.len() / 2).for_each(drop);
    if let Some(cursor) = part.cursor()? {
        let rest = range()?.start_after(&cursor)?.count();
        assert_eq!(rest, wanted.len() - wanted.len() / 2, "{what}: after a cursor");
    }
    Ok(wanted)
}

/// Runs all checks on one snapshot.
fn check(snapshot: &Snapshot, rows: &Rows, rng: &mut Random) -> Outcome {
    let table = snapshot.table::<Level>()?;
    let some = Maybe::<f64>::some;
    let (a, b) = (float(rng), float(rng));
    let (low, high) = (bound(rng.next(), a), bound(rng.next(), b));

    // A column of floats: the filter and the index return the same rows as the model.
    let by_value = table.by(Level::VALUE);
    let found = check_range(&by_value, (low, high), |v| vec![Some(*v)], value, rows)?;
    assert_eq!(ids(table.filter(Level::VALUE.between((low, high)))), found, "{low:?} {high:?}");
    let compare = |kind: &str| -> Vec<u64> {
        let keep = |row: &&Level| {
            let order = float_order(row.value, a);
            match kind {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                "ge" => order.is_ge(),
                "eq" => order.is_eq(),
                _ => order.is_ne(),
            }
        };
        rows.values().filter(keep).map(|row| row.id).collect()
    };
    assert_eq!(ids(table.filter(Level::VALUE.lt(a))), compare("lt"), "{a}");
    assert_eq!(ids(table.filter(Level::VALUE.le(a))), compare("le"), "{a}");
    assert_eq!(ids(table.filter(Level::VALUE.gt(a))), compare("gt"), "{a}");
    assert_eq!(ids(table.filter(Level::VALUE.ge(a))), compare("ge"), "{a}");
    assert_eq!(ids(table.filter(Level::VALUE.eq(a))), compare("eq"), "{a}");
    assert_eq!(ids(table.filter(Level::VALUE.ne(a))), compare("ne"), "{a}");
    assert_eq!(ids(by_value.range(..a)?), compare("lt"), "{a}");
    assert_eq!(ids(by_value.range(..=a)?), compare("le"), "{a}");
    assert_eq!(ids(by_value.range((Bound::Excluded(a), Bound::Unbounded))?), compare("gt"), "{a}");
    assert_eq!(ids(by_value.range(a..)?), compare("ge"), "{a}");
    assert_eq!(ids(by_value.eq(a)?), compare("eq"), "{a}");
    let either: Vec<u64> = rows
        .values()
        .filter(|row| [a, b].iter().any(|asked| float_order(row.value, *asked).is_eq()))
        .map(|row| row.id)
        .collect();
    assert_eq!(ids(table.filter(Level::VALUE.is_in(&[a, b]))), either, "{a} {b}");
    let (small_low, small_high) = (bound(rng.next(), a as f32), bound(rng.next(), b as f32));
    check_range(&table.by(Level::SMALL), (small_low, small_high), |v| vec![Some((*v).into())], small, rows)?;

    // The same for a column with absent values: no comparison is true for an absent value.
    let by_level = table.by(Level::LEVEL);
    let of_level = |row: &Level| vec![level_of(row)];
    let found =
        check_range(&by_level, (low.map(some), high.map(some)), |v| vec![v.to_option()], of_level, rows)?;
    match (value_of(&low), value_of(&high)) {
        (None, None) => assert_eq!(found.len(), rows.len()),
        _ => assert_eq!(ids(table.filter(Level::LEVEL.between((low, high)))), found, "{low:?} {high:?}"),
    }
    let plain = |keep: &dyn Fn(f64) -> bool| -> Vec<u64> {
        rows.values().filter(|row| level_of(row).is_some_and(keep)).map(|row| row.id).collect()
    };
    let less = plain(&|value| float_order(value, a).is_lt());
    assert_eq!(ids(table.filter(Level::LEVEL.lt(a))), less, "{a}");
    assert_eq!(ids(by_level.range(..some(a))?), less, "{a}");
    let greater = plain(&|value| float_order(value, a).is_ge());
    assert_eq!(ids(table.filter(Level::LEVEL.ge(a))), greater, "{a}");
    assert_eq!(ids(by_level.range(some(a)..)?), greater, "{a}");
    let equal = plain(&|value| float_order(value, a).is_eq());
    assert_eq!(ids(table.filter(Level::LEVEL.eq(a))), equal, "{a}");
    assert_eq!(ids(by_level.eq(some(a))?), equal, "{a}");
    assert_eq!(ids(table.filter(Level::LEVEL.ne(a))), plain(&|value| float_order(value, a).is_ne()), "{a}");
    assert_eq!(ids(table.filter(Level::LEVEL.between(..))), plain(&|_| true));
    assert_eq!(ids(by_level.range((Bound::Excluded(Maybe::none()), Bound::Unbounded))?), plain(&|_| true));
    let absent: Vec<u64> = rows.values().filter(|row| row.level.is_none()).map(|row| row.id).collect();
    assert_eq!(ids(table.filter(Level::LEVEL.is_none())), absent);
    assert_eq!(ids(by_level.eq(Maybe::none())?), absent);
    assert_eq!(ids(by_level.range(..=Maybe::none())?), absent);
    let any = |rng: &mut Random| {
        let value = float(rng);
        Maybe::from(maybe(rng, value))
    };
    let (low, high) = (any(rng), any(rng));
    let bounds = (bound(rng.next(), low), bound(rng.next(), high));
    check_range(&by_level, bounds, |v| vec![v.to_option()], of_level, rows)?;

    // An index on several columns.
    let of = rng.below(4) as u16;
    let bounds = (bound(rng.next(), (rng.below(4) as u16, any(rng))), bound(rng.next(), (of, any(rng))));
    let pair = |row: &Level| vec![Some(f64::from(row.of)), level_of(row)];
    let plain = |v: &(u16, Maybe<f64>)| vec![Some(f64::from(v.0)), v.1.to_option()];
    check_range(&table.by((Level::OF, Level::LEVEL)), bounds, plain, pair, rows)?;
    let share = |rng: &mut Random| {
        let value = float(rng) as f32;
        Maybe::from(maybe(rng, value))
    };
    let mut three = || (any(rng), share(rng), rng.below(4) as u16);
    let (low, high) = (three(), three());
    let bounds = (bound(rng.next(), low), bound(rng.next(), high));
    let of_three = |row: &Level| vec![level_of(row), share_of(row), Some(f64::from(row.of))];
    let plain = |v: &(Maybe<f64>, Maybe<f32>, u16)| {
        vec![v.0.to_option(), v.1.to_option().map(f64::from), Some(f64::from(v.2))]
    };
    check_range(&table.by((Level::LEVEL, Level::SHARE, Level::OF)), bounds, plain, of_three, rows)?;
    Ok(())
}

fn change(store: &Store, rows: &mut Rows, rng: &mut Random, count: u64) -> Outcome {
    let tx = store.begin_write_with(Durability::Relaxed)?;
    let mut table = tx.table::<Level>()?;
    let next = rows.last_key_value().map_or(0, |(id, _)| id + 1);
    let new: Vec<Level> = (next..next + count).map(|id| level(id, rng)).collect();
    rows.extend(new.iter().map(|row| (row.id, *row)));
    table.extend(new)?;
    for _ in 0..count / 20 {
        let id = rng.below(next + count);
        if rng.below(2) == 0 {
            table.delete(id)?;
            rows.remove(&id);
        } else {
            let row = level(id, rng);
            table.put(&row)?;
            rows.insert(id, row);
        }
    }
    drop(table);
    tx.commit()?;
    Ok(())
}

fn life(store: &Store, seed: &str, settle: bool) -> Outcome {
    let mut rng = Random::seeded(seed);
    let mut rows = Rows::new();
    for round in 0..6 {
        change(store, &mut rows, &mut rng, [700, 1500, 40][round % 3])?;
        if settle && round % 2 == 0 {
            store.catch_up_indexes()?;
        }
        let snapshot = store.begin_read()?;
        for _ in 0..12 {
            check(&snapshot, &rows, &mut rng)?;
        }
    }
    Ok(())
}

#[test]
fn filters_and_sorted_rows_agree() -> Outcome {
    life(&Store::in_memory()?, "order_in_memory", false)
}

#[test]
fn filters_and_indexes_agree_on_blocks() -> Outcome {
    let options = Options::new().chunk_size(64 << 10).ordered_tuning(50, 1 << 20, 400, 1 << 18);
    life(&options.in_memory()?, "order_in_blocks", true)
}

#[test]
fn filters_and_scans_agree() -> Outcome {
    let options = Options::new().chunk_size(64 << 10).ordered(false).ordered_tuning(50, 100, 100, 1 << 18);
    life(&options.in_memory()?, "order_scanned", false)
}

#[test]
fn filters_and_indexes_agree_after_reopening() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut rng = Random::seeded("order_opened_again");
    let mut rows = Rows::new();
    for round in 0..3 {
        let store = open(folder.path())?;
        for _ in 0..8 * round {
            check(&store.begin_read()?, &rows, &mut rng)?;
        }
        change(&store, &mut rows, &mut rng, 2500)?;
        check(&store.begin_read()?, &rows, &mut rng)?;
        store.close()?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "a folder of the test's own")]
fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: no other process knows the folder.
    Ok(unsafe { Options::new().chunk_size(64 << 10).ordered_tuning(50, 1 << 20, 400, 1 << 18).open(path) }?)
}

/// The same record as a table with external keys.
#[pongo::record]
#[pongo(table = "files", key = "external")]
struct File {
    #[pongo(index)]
    score: Maybe<f64>,
}

#[test]
fn external_tables_have_the_same_order() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut files = tx.external::<File>()?;
    let scores = [None, Some(f64::NAN), Some(-0.0), Some(0.0), Some(-1.0), Some(-f64::NAN)];
    for (place, score) in scores.into_iter().enumerate() {
        files.put([place as u8], &File { score: score.into() })?;
    }
    drop(files);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let by = snapshot.external::<File>()?.by(File::SCORE);
    let keys = |range: pongo::ExternalRange<'_, File>| -> Outcome<Vec<u8>> {
        Ok(range.map(|item| item.map(|(key, _)| key[0])).collect::<Result<_, _>>()?)
    };
    assert_eq!(keys(by.all()?)?, [0, 4, 2, 3, 1, 5]);
    assert_eq!(keys(by.range(..Maybe::some(1.0))?)?, [4, 2, 3]);
    assert_eq!(keys(by.range(Maybe::some(0.0)..)?)?, [2, 3, 1, 5]);
    assert_eq!(keys(by.eq(Maybe::some(0.0))?)?, [2, 3]);
    assert_eq!(keys(by.eq(Maybe::some(f64::NAN))?)?, [1, 5]);
    assert_eq!(keys(by.eq(Maybe::none())?)?, [0]);
    assert_eq!(by.count(Maybe::none()..Maybe::some(-0.5))?, 2);
    Ok(())
}

#[pongo::record]
#[pongo(table = "prices", unique(of, share))]
#[derive(Debug)]
struct Price {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    price: f64,
    share: f32,
    of: u32,
}

fn price(id: u64, price: f64, of: u32, share: f32) -> Price {
    Price { id, price, share, of }
}

#[test]
fn equal_floats_are_one_unique_value() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let tx = store.begin_write()?;
    let mut prices = tx.table::<Price>()?;
    prices.put(&price(1, -0.0, 1, 0.5))?;
    prices.put(&price(2, f64::NAN, 1, f32::NAN))?;
    prices.put(&price(3, f64::INFINITY, 1, -0.0))?;
    let twice = |result: Result<bool, WriteError>, holder: &str| match result {
        Err(WriteError::UniqueViolation { existing_key, .. }) => assert_eq!(existing_key, holder),
        other => panic!("{other:?} beside {holder}"),
    };
    // Conflicts with rows of the same transaction.
    twice(prices.put(&price(9, 0.0, 2, 0.0)), "id = 1");
    twice(prices.put(&price(9, -f64::NAN, 2, 0.0)), "id = 2");
    twice(prices.put(&price(9, 7.0, 1, 0.0)), "id = 3");
    drop(prices);
    tx.commit()?;
    // Conflicts with rows of earlier transactions, and in a bulk load.
    let tx = store.begin_write()?;
    let mut prices = tx.table::<Price>()?;
    twice(prices.put(&price(9, f64::from_bits(0x7ff0_0000_0000_0001), 2, 0.0)), "id = 2");
    twice(prices.put(&price(9, 7.0, 1, -f32::NAN)), "id = 2");
    assert!(prices.put(&price(1, 0.0, 1, 0.5))?, "a row may have its own value, as another float of it");
    assert!(!prices.put(&price(4, 7.0, 2, 0.0))?);
    drop(prices);
    tx.commit()?;
    let tx = store.begin_write()?;
    let bulk = tx.table::<Price>()?.extend([price(8, 8.0, 8, 1.0), price(9, -0.0, 9, 1.0)]);
    let refused = match bulk {
        Err(error) => error.to_string(),
        Ok(_) => tx.commit().expect_err("-0.0 exists").to_string(),
    };
    assert!(refused.contains("in the row with key id = 1"), "{refused}");

    let look = |store: &Store| -> Outcome {
        let snapshot = store.begin_read()?;
        let prices = snapshot.table::<Price>()?;
        assert_eq!(prices.len(), 4);
        let found = |value: f64| -> Outcome<Option<u64>> {
            let range = prices.by(Price::PRICE).range(value..=value)?.next().transpose()?.map(|row| row.id);
            let equal = prices.by(Price::PRICE).eq(value)?.next().transpose()?.map(|row| row.id);
            assert_eq!(equal, range, "{value}");
            Ok(equal)
        };
        assert_eq!([found(0.0)?, found(-0.0)?], [Some(1); 2]);
        assert_eq!([found(f64::NAN)?, found(-f64::NAN)?], [Some(2); 2]);
        assert_eq!([found(f64::INFINITY)?, found(7.0)?, found(8.0)?], [Some(3), Some(4), None]);
        let both = prices.by((Price::OF, Price::SHARE));
        let id =
            |of, share| both.eq((of, share)).map(|mut rows| rows.next().map(|row| row.map(|row| row.id)));
        assert_eq!(id(1, 0.0)?.transpose()?, Some(3));
        assert_eq!(id(1, -f32::NAN)?.transpose()?, Some(2));
        assert_eq!(id(2, -0.0)?.transpose()?, Some(4));
        // Rows keep their bits.
        assert_eq!(prices.get(1)?.map(|row| row.price.to_bits()), Some(0.0_f64.to_bits()));
        assert_eq!(prices.get(3)?.map(|row| row.share.to_bits()), Some((-0.0_f32).to_bits()));
        Ok(())
    };
    look(&store)?;
    store.close()?;
    let store = open(folder.path())?;
    look(&store)?;
    store.rebuild_index::<Price>()?;
    look(&store)?;
    let report = store.verify(|_| {})?;
    assert!(report.is_valid(), "{report}");
    // A deleted row no longer conflicts with equal values.
    let tx = store.begin_write()?;
    tx.table::<Price>()?.delete(2)?;
    tx.table::<Price>()?.put(&price(5, -f64::NAN, 1, -f32::NAN))?;
    tx.commit()?;
    assert_eq!(store.begin_read()?.table::<Price>()?.by(Price::PRICE).count(f64::NAN..)?, 1);
    Ok(())
}

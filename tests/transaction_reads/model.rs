//! The record, the model of its table, and the comparison of all reads.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use pongo::prelude::*;
use pongo::{Range, ReadError, TableMut};
use pongo_test_support::{Random, bound};

use crate::Outcome;

/// A row with a unique field and one that many rows share. It is large enough that few rows fill a
/// transaction's memory.
#[pongo::record]
#[pongo(table = "items")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Item {
    #[pongo(key)]
    pub(crate) id: u64,
    #[pongo(unique)]
    pub(crate) code: u64,
    #[pongo(index)]
    pub(crate) rank: u32,
    pub(crate) version: u32,
    pub(crate) pad: [u64; 60],
}

pub(crate) type Map = BTreeMap<u64, Item>;

pub(crate) fn item(id: u64, code: u64, rank: u32, version: u32) -> Item {
    Item { id, code, rank, version, pad: [id ^ u64::from(version); 60] }
}

/// Returns whether another row has the code.
pub(crate) fn is_taken(map: &Map, id: u64, code: u64) -> bool {
    map.values().any(|other| other.id != id && other.code == code)
}

fn owned(range: Range<'_, Item>) -> Result<Vec<Item>, ReadError> {
    range.map(|row| row.copied()).collect()
}

/// Asserts the order of an index with equal values, then sorts the rows with equal values by id,
/// since the index may return those in any order.
fn by_rank(mut rows: Vec<Item>) -> Vec<Item> {
    assert!(rows.is_sorted_by_key(|row| row.rank), "not in the order of the index");
    rows.sort_by_key(|row| (row.rank, row.id));
    rows
}

fn within(map: &Map, bounds: &(Bound<u32>, Bound<u32>)) -> Vec<Item> {
    let mut rows: Vec<Item> = map.values().filter(|row| bounds.contains(&row.rank)).copied().collect();
    rows.sort_by_key(|row| (row.rank, row.id));
    rows
}

/// Compares every read of a table in a transaction with the model.
pub(crate) fn check(table: &TableMut<'_, Item>, map: &Map, keys: u64, rng: &mut Random) -> Outcome {
    assert_eq!(table.len()?, map.len() as u64);
    assert_eq!(table.is_empty()?, map.is_empty());
    let looked: Vec<u64> = (0..8).map(|_| rng.below(keys)).collect();
    for id in &looked {
        assert_eq!(table.get(id)?, map.get(id));
        assert_eq!(table.contains(id)?, map.contains_key(id));
    }
    let many = table.get_many(&looked)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(many, looked.iter().map(|id| map.get(id)).collect::<Vec<_>>());
    assert_eq!(table.first()?, map.values().next());
    assert_eq!(table.last()?, map.values().next_back());

    // Without an order.
    let all: Vec<Item> = map.values().copied().collect();
    let mut rows = table.rows()?.map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows, all);
    let mut rows = Vec::new();
    for slice in table.slices()? {
        rows.extend_from_slice(slice?);
    }
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows, all);
    let limit = rng.below(40) as u32;
    let filtered: Vec<Item> = all.iter().filter(|row| row.rank >= limit).copied().collect();
    let mut rows =
        table.filter(Item::RANK.ge(limit))?.map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows, filtered);
    assert_eq!(table.filter(Item::RANK.ge(limit))?.count(), filtered.len());
    let explained = table.filter(Item::RANK.ge(limit))?.explain()?;
    assert_eq!(explained.total.rows, explained.pruned.rows + explained.matched.rows + explained.scanned.rows);

    // By key, from both ends.
    let bounds = (bound(rng.next(), rng.below(keys)), bound(rng.next(), rng.below(keys)));
    let expected: Vec<Item> = all.iter().filter(|row| bounds.contains(&row.id)).copied().collect();
    assert_eq!(owned(table.range(bounds)?)?, expected);
    let mut back = table.range(bounds)?.rev().map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    back.reverse();
    assert_eq!(back, expected);
    assert_eq!(table.count(bounds)?, expected.len() as u64);
    let (mut range, mut left) = (table.range(bounds)?, std::collections::VecDeque::from(expected.clone()));
    while !left.is_empty() {
        let (found, expected) = if rng.below(2) == 0 {
            (range.next(), left.pop_front())
        } else {
            (range.next_back(), left.pop_back())
        };
        assert_eq!(found.transpose()?, expected.as_ref());
    }
    assert!(range.next().is_none() && range.next_back().is_none());
    // A page, and the rows after its cursor.
    let taken = rng.below(expected.len() as u64 + 1) as usize;
    let mut page = table.range(bounds)?;
    assert_eq!(page.by_ref().take(taken).count(), taken);
    if let Some(cursor) = page.cursor()? {
        assert_eq!(owned(table.range(bounds)?.start_after(&cursor)?)?, expected[taken..]);
    }

    // By an index with many equal values.
    let bounds = (bound(rng.next(), rng.below(40) as u32), bound(rng.next(), rng.below(40) as u32));
    let expected = within(map, &bounds);
    assert_eq!(by_rank(owned(table.by(Item::RANK)?.range(bounds)?)?), expected);
    let mut back: Vec<Item> =
        table.by(Item::RANK)?.range(bounds)?.rev().map(|row| row.copied()).collect::<Result<_, _>>()?;
    back.reverse();
    assert_eq!(by_rank(back), expected);
    assert_eq!(table.by(Item::RANK)?.count(bounds)?, expected.len() as u64);
    let rank = rng.below(40) as u32;
    let equal = by_rank(owned(table.by(Item::RANK)?.eq(rank)?)?);
    assert_eq!(equal, within(map, &(Bound::Included(rank), Bound::Included(rank))));
    let first = table.by(Item::RANK)?.first()?.map(|row| row.rank);
    assert_eq!(first, map.values().map(|row| row.rank).min());
    let last = table.by(Item::RANK)?.last()?.map(|row| row.rank);
    assert_eq!(last, map.values().map(|row| row.rank).max());

    // By a unique index.
    for _ in 0..4 {
        let code = rng.below(2 * keys);
        let found = table.by(Item::CODE)?.eq(code)?.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(found, map.values().filter(|row| row.code == code).collect::<Vec<_>>());
    }
    Ok(())
}

/// Compares the same reads of a snapshot with the model.
pub(crate) fn check_snapshot(store: &Store, map: &Map) -> Outcome {
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Item>()?;
    assert_eq!(table.len(), map.len() as u64);
    let found = table.range(..)?.map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found, map.values().copied().collect::<Vec<_>>());
    assert_eq!(table.by(Item::RANK).all()?.count(), map.len());
    Ok(())
}

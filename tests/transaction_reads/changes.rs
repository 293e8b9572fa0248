//! Random changes of one table, with a check of every read between them.

use std::cell::Cell;

use pongo::prelude::*;
use pongo::{Committed, WriteError};
use pongo_test_support::Random;

use crate::Outcome;
use crate::model::{Item, Map, check, check_snapshot, is_taken, item};

/// Number of keys. The number of codes is twice as large.
const KEYS: u64 = 300;

/// Applies one random change to the table and to the model.
fn change(tx: &WriteTransaction, map: &mut Map, rng: &mut Random) -> Outcome {
    let mut table = tx.table::<Item>()?;
    let (id, code) = (rng.below(KEYS), rng.below(2 * KEYS));
    let row = item(id, code, rng.below(40) as u32, rng.next() as u32);
    let bounds = (bound(rng), bound(rng));
    let (from, to) = (rng.below(KEYS), rng.below(KEYS));
    let keys = from.min(to)..from.max(to);
    match rng.below(16) {
        0..4 => match table.put(&row) {
            Ok(was_there) => {
                assert!(!is_taken(map, id, code));
                assert_eq!(was_there, map.insert(id, row).is_some());
            }
            Err(WriteError::UniqueViolation { .. }) => assert!(is_taken(map, id, code)),
            Err(error) => return Err(error.into()),
        },
        4 | 5 => {
            let changed =
                table.update(id, |row| (row.rank, row.version) = (row.rank / 2, row.version + 1))?;
            if let Some(row) = map.get_mut(&id) {
                (row.rank, row.version) = (row.rank / 2, row.version + 1);
            }
            assert_eq!(changed.is_some(), map.contains_key(&id));
        }
        6 | 7 => assert_eq!(table.delete(id)?, map.remove(&id).is_some()),
        8 => {
            // Codes from a range that nothing else uses, so that no two are equal.
            let first = 2 * KEYS + rng.next() % 1_000_000_000;
            let rows: Vec<Item> = (0..rng.below(30))
                .map(|i| item(rng.below(KEYS), (first + i) * 2, rng.below(40) as u32, i as u32))
                .collect();
            assert_eq!(table.extend(&rows)?, rows.len() as u64);
            map.extend(rows.iter().map(|row| (row.id, *row)));
        }
        9 => {
            assert_eq!(table.pop_first()?, map.pop_first().map(|(_, row)| row));
            assert_eq!(table.pop_last()?, map.pop_last().map(|(_, row)| row));
        }
        10 => {
            let found = table.modify(keys.clone(), |row| row.rank = (row.rank + 7) % 40)?;
            let changed = map.range_mut(keys).map(|(_, row)| row.rank = (row.rank + 7) % 40).count();
            assert_eq!(found, changed as u64);
        }
        11 => {
            let keys = keys.start..keys.start + 20;
            let gone: Vec<u64> = map.range(keys.clone()).map(|(id, _)| *id).collect();
            assert_eq!(table.delete_range(keys)?, gone.len() as u64);
            map.retain(|id, _| !gone.contains(id));
        }
        12 => {
            // Rows move within the range that is being modified: each is changed once.
            let changed = table.by_mut(Item::RANK).modify(bounds, |row| row.rank = (row.rank + 3).min(39))?;
            let mut found = 0;
            for row in map.values_mut().filter(|row| std::ops::RangeBounds::contains(&bounds, &row.rank)) {
                row.rank = (row.rank + 3).min(39);
                found += 1;
            }
            assert_eq!(changed, found);
        }
        13 => {
            let part = rng.below(17) as u32;
            let before = map.len();
            let deleted = table.retain(|row| row.version % 17 != part)?;
            map.retain(|_, row| row.version % 17 != part);
            assert_eq!(deleted, (before - map.len()) as u64);
        }
        14 => {
            // Only `most` rows are taken: the predicate is not called for later ones.
            let (most, seen) = (rng.below(5) as usize, Cell::new(0));
            let odd = |row: &Item| {
                seen.set(seen.get() + 1);
                row.version % 2 == 1
            };
            let taken: Vec<Item> =
                table.extract_if(keys.clone(), odd)?.take(most).collect::<Result<_, _>>()?;
            let expected: Vec<Item> = map
                .range(keys.clone())
                .map(|(_, row)| *row)
                .filter(|row| row.version % 2 == 1)
                .take(most)
                .collect();
            assert_eq!(taken, expected);
            if let Some(last) = expected.last()
                && expected.len() == most
            {
                assert_eq!(seen.get(), map.range(keys.start..=last.id).count());
            }
            map.retain(|id, _| !expected.iter().any(|row| row.id == *id));
        }
        _ => {
            let lowest = map.values().map(|row| row.rank).min();
            let popped = table.by_mut(Item::RANK).pop_first()?;
            assert_eq!(popped.map(|row| row.rank), lowest);
            if let Some(popped) = popped {
                assert_eq!(map.remove(&popped.id), Some(popped));
            }
        }
    }
    Ok(())
}

fn bound(rng: &mut Random) -> std::ops::Bound<u32> {
    // Never a bound that makes a range start after its end: either from a low value or to a high
    // one.
    match rng.below(3) {
        0 => std::ops::Bound::Unbounded,
        1 => std::ops::Bound::Included(20),
        _ => std::ops::Bound::Unbounded,
    }
}

/// Checks the numbers of changes that a commit reports.
fn check_changes(committed: &Committed, before: &Map, after: &Map) {
    let (mut inserted, mut replaced, mut deleted) = (0, 0, 0);
    for id in before.keys() {
        deleted += u64::from(!after.contains_key(id));
    }
    for id in after.keys() {
        inserted += u64::from(!before.contains_key(id));
    }
    let found = committed.table("items").map(|table| (table.inserted, table.deleted, table.replaced));
    let (found_inserted, found_deleted, found_replaced) = found.unwrap_or_default();
    for (id, row) in after {
        replaced += u64::from(before.get(id).is_some_and(|before| before != row));
    }
    assert_eq!((found_inserted, found_deleted), (inserted, deleted));
    // A row that is put again unchanged may count as replaced.
    assert!(found_replaced >= replaced && found_replaced <= before.len() as u64 - deleted);
}

fn transaction(store: &Store, kept: &mut Map, rng: &mut Random) -> Outcome {
    let durability = if rng.below(2) == 0 { Durability::Relaxed } else { Durability::Sync };
    let mut tx = store.begin_write_with(durability)?;
    let mut map = kept.clone();
    let mut points: Vec<(Savepoint, Map)> = Vec::new();
    for _ in 0..rng.below(25) {
        match rng.below(8) {
            0 => points.push((tx.savepoint()?, map.clone())),
            1 if !points.is_empty() => {
                let back = rng.below(points.len() as u64) as usize;
                points.truncate(back + 1);
                tx.rollback_to(&points[back].0)?;
                map = points[back].1.clone();
            }
            _ => change(&tx, &mut map, rng)?,
        }
        if rng.below(3) > 0 {
            check(&tx.table::<Item>()?, &map, KEYS, rng)?;
        }
    }
    check(&tx.table::<Item>()?, &map, KEYS, rng)?;
    if rng.below(5) == 0 {
        tx.abort();
    } else {
        check_changes(&tx.commit()?, kept, &map);
        *kept = map;
    }
    check_snapshot(store, kept)
}

fn run(options: Options, rounds: u64, seed: &str) -> Outcome {
    let mut rng = Random::seeded(seed);
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    let open = || unsafe { options.open(folder.path().join("items.pongo")) };
    let mut store = open()?;
    let mut map = Map::new();
    for round in 0..rounds {
        transaction(&store, &mut map, &mut rng)?;
        if round % 17 == 16 {
            store.catch_up_indexes()?;
        }
        if round % 23 == 22 {
            drop(store);
            store = open()?;
        }
    }
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

#[test]
fn all_reads_of_a_changing_table() -> Outcome {
    run(Options::new(), 60, "all_reads")
}

/// 130 rows of 512 bytes exceed the transaction's memory, so that rows spill to disk.
#[test]
fn all_reads_with_spilled_rows() -> Outcome {
    run(
        Options::new().transaction_memory(64 << 10).ordered_tuning(16, 1 << 20, 64, 1 << 10),
        60,
        "spilled_rows",
    )
}

/// Every range is a scan of the rows.
#[test]
fn all_reads_without_blocks() -> Outcome {
    run(Options::new().ordered(false).ordered_tuning(16, 32, 64, 7), 30, "without_blocks")
}

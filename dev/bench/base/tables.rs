//! Loads of one table with rows of 64 bytes under random keys, in a warm page cache.

use std::hint::black_box;

use pongo::prelude::*;

use crate::records::{Found, Trade, key, missing, random, sum, time, trade};
use crate::world::{Clock, Load, Outcome, World, expect, open};

/// Loads of this module: first those that load the whole table, then reads, then commits.
pub(crate) const LOADS: &[Load] = &[
    cpu("load_extend", "row", "one transaction, extend of all rows, a Sync commit", load_extend),
    // A background thread of the library may do part of this work, and its instructions are not
    // counted.
    Load { counted: false, ..cpu("settle", "row", "settle right after that load", settle) },
    cpu("load_put", "row", "one transaction, put of a fifth of the rows, a Sync commit", load_put),
    cpu("open_get", "time", "open a closed store, get a row, close", open_get),
    cpu("open_range", "time", "open a closed store, read the first row of a range, close", open_range),
    cpu("snapshot", "time", "begin_read and its end", snapshot),
    cpu("get", "key", "get of random existing keys", get),
    cpu("get_missing", "key", "get of missing keys", get_missing),
    cpu("get_many", "key", "get_many of random keys", get_many),
    cpu("scan_slices", "row", "all rows by slices", scan_slices),
    cpu("scan_rows", "row", "all rows by rows", scan_rows),
    cpu("range_100", "range", "100 rows in key order from a random key on", range_100),
    cpu("range_all", "row", "all rows in key order", range_all),
    cpu("filter", "filter", "the rows of a day by a filter that skips blocks", filter),
    disk("commit_sync_1", "commit", "put of one row, Sync", commit_sync_1),
    disk("commit_sync_1000", "commit", "put of 1000 rows, Sync", commit_sync_1000),
    disk("commit_relaxed_1", "commit", "put of one row, Relaxed", commit_relaxed_1),
    disk("update_1", "commit", "update of one row, Relaxed", update_1),
];

/// Describes a load that is bound by the processor.
const fn cpu(
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    run: fn(&mut World, &mut Clock) -> Outcome,
) -> Load {
    Load { name, unit, disk: false, counted: true, what, run }
}

/// Describes a load in which each operation writes.
const fn disk(
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    run: fn(&mut World, &mut Clock) -> Outcome,
) -> Load {
    Load { name, unit, disk: true, counted: true, what, run }
}

fn load_extend(world: &mut World, clock: &mut Clock) -> Outcome {
    // Waits for the indexes, so that no background work continues while the other program runs.
    Ok(world.load_trades(Some(clock))?.settle()?)
}

fn settle(world: &mut World, clock: &mut Clock) -> Outcome {
    let store = world.load_trades(None)?;
    clock.time(world.rows, || Ok(store.settle()?))
}

fn load_put(world: &mut World, clock: &mut Clock) -> Outcome {
    let rows = world.per_million(200_000);
    let store = world.empty("put")?;
    clock.time(rows, || {
        let mut tx = store.begin_write()?;
        {
            let mut trades = tx.table::<Trade>()?;
            for number in 0..rows {
                trades.put(&trade(number))?;
            }
        }
        let _ = tx.commit()?;
        Ok(())
    })?;
    expect("rows that were put", store.begin_read()?.table::<Trade>()?.len(), rows)?;
    store.close()?;
    world.remove("put")
}

fn reopen(world: &mut World, clock: &mut Clock, read: fn(&Table<'_, Trade>, u64) -> Outcome) -> Outcome {
    const TIMES: u64 = 5;
    let number = random(world.rows, 1, world.seed())[0];
    world.while_closed(|path| {
        clock.time(TIMES, || {
            for _ in 0..TIMES {
                let store = open(path)?;
                read(&store.begin_read()?.table()?, number)?;
                store.close()?;
            }
            Ok(())
        })
    })
}

fn open_get(world: &mut World, clock: &mut Clock) -> Outcome {
    reopen(world, clock, |trades, number| {
        let row = trades.get(&key(number))?.map(|trade| trade.number);
        expect("the row after an open", row, Some(number))
    })
}

fn open_range(world: &mut World, clock: &mut Clock) -> Outcome {
    reopen(world, clock, |trades, number| {
        let row = trades.range(key(number)..)?.next().transpose()?.map(|trade| trade.number);
        expect("the first row of a range after an open", row, Some(number))
    })
}

fn snapshot(world: &mut World, clock: &mut Clock) -> Outcome {
    let (store, times) = (world.trades()?, world.per_million(100_000));
    clock.time(times, || {
        for _ in 0..times {
            black_box(store.begin_read()?);
        }
        Ok(())
    })
}

/// Returns random keys, and the sum of their rows.
fn keys(world: &mut World) -> (Vec<[u8; 16]>, Found) {
    let numbers = random(world.rows, world.per_million(200_000), world.seed());
    let expected = sum(numbers.iter().copied());
    (numbers.into_iter().map(key).collect(), expected)
}

fn look_up(store: &Store, keys: &[[u8; 16]], expected: Found, clock: &mut Clock) -> Outcome {
    let snapshot = store.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let mut found = Found::default();
    clock.time(keys.len() as u64, || {
        for key in keys {
            if let Some(trade) = trades.get(key)? {
                found.add(trade);
            }
        }
        Ok(())
    })?;
    expect("look-ups", found, expected)
}

fn get(world: &mut World, clock: &mut Clock) -> Outcome {
    let (keys, expected) = keys(world);
    look_up(&world.trades()?, &keys, expected, clock)
}

fn get_missing(world: &mut World, clock: &mut Clock) -> Outcome {
    let keys = missing(world.per_million(200_000), world.seed());
    look_up(&world.trades()?, &keys, Found::default(), clock)
}

fn get_many(world: &mut World, clock: &mut Clock) -> Outcome {
    let (keys, expected) = keys(world);
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let mut found = Found::default();
    clock.time(keys.len() as u64, || {
        for trade in trades.get_many(&keys) {
            if let Some(trade) = trade? {
                found.add(trade);
            }
        }
        Ok(())
    })?;
    expect("look-ups of many keys", found, expected)
}

/// Number of scans within one timed section.
const SCANS: u64 = 5;

/// Returns the expected result of the scans: all rows of the load and those committed since.
fn all(world: &mut World) -> Found {
    let once = sum(0..world.fresh_numbers(0).end);
    Found { rows: once.rows * SCANS, sum: once.sum * SCANS as f64 }
}

fn scan_slices(world: &mut World, clock: &mut Clock) -> Outcome {
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let expected = all(world);
    let mut found = Found::default();
    clock.time(expected.rows, || {
        for _ in 0..SCANS {
            for rows in trades.slices() {
                rows?.iter().for_each(|trade| found.add(trade));
            }
        }
        Ok(())
    })?;
    expect("scan by slices", found, expected)
}

fn scan_rows(world: &mut World, clock: &mut Clock) -> Outcome {
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let expected = all(world);
    let mut found = Found::default();
    clock.time(expected.rows, || {
        for _ in 0..SCANS {
            for trade in trades.rows() {
                found.add(trade?);
            }
        }
        Ok(())
    })?;
    expect("scan by rows", found, expected)
}

/// Reads a range of 100 rows from each start key. Returns the number of rows; the caller checks it.
pub(crate) fn ranges(trades: &Table<'_, Trade>, starts: &[[u8; 16]]) -> Outcome<u64> {
    let mut found = Found::default();
    for start in starts {
        for trade in trades.range(*start..)?.take(100) {
            found.add(trade?);
        }
    }
    black_box(found.sum);
    Ok(found.rows)
}

/// Returns keys that almost certainly have at least 100 rows after them: a fifth of the rows have
/// keys above all of these.
pub(crate) fn starts(count: u64, seed: u64) -> Vec<[u8; 16]> {
    let mut starts = missing(count, seed);
    starts.iter_mut().for_each(|start| start[0] %= 200);
    starts
}

fn range_100(world: &mut World, clock: &mut Clock) -> Outcome {
    let starts = starts(world.per_million(3000), world.seed());
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let mut rows = 0;
    clock.time(starts.len() as u64, || {
        rows = ranges(&trades, &starts)?;
        Ok(())
    })?;
    expect("rows of ranges", rows, 100 * starts.len() as u64)
}

fn range_all(world: &mut World, clock: &mut Clock) -> Outcome {
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let expected = sum(0..world.fresh_numbers(0).end);
    let mut found = Found::default();
    clock.time(expected.rows, || {
        for trade in trades.range(..)? {
            found.add(trade?);
        }
        Ok(())
    })?;
    expect("rows in key order", found, expected)
}

fn filter(world: &mut World, clock: &mut Clock) -> Outcome {
    const TIMES: u64 = 20;
    let snapshot = world.trades()?.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let days = random(364, TIMES, world.seed()).into_iter();
    let days: Vec<_> = days.map(|day| world.rows * day / 365..world.rows * (day + 1) / 365).collect();
    let expected = sum(days.iter().cloned().flatten());
    let mut found = Found::default();
    clock.time(TIMES, || {
        for day in &days {
            for trade in trades.filter(Trade::TS.between(time(day.start)..time(day.end))) {
                found.add(trade?);
            }
        }
        Ok(())
    })?;
    expect("rows of days", found, expected)
}

fn commits(world: &mut World, clock: &mut Clock, of: usize, commits: u64, durability: Durability) -> Outcome {
    let store = world.trades()?;
    let rows: Vec<Trade> = world.fresh_numbers(commits * of as u64).map(trade).collect();
    clock.time(commits, || {
        for rows in rows.chunks(of) {
            let mut tx = store.begin_write_with(durability)?;
            {
                let mut trades = tx.table::<Trade>()?;
                for row in rows {
                    trades.put(row)?;
                }
            }
            let _ = tx.commit()?;
        }
        Ok(())
    })?;
    let last = rows.last().map(|row| row.number);
    let snapshot = store.begin_read()?;
    let found = snapshot.table::<Trade>()?.get(&key(last.unwrap_or(0)))?.map(|row| row.number);
    expect("the last row committed", found, last)
}

fn commit_sync_1(world: &mut World, clock: &mut Clock) -> Outcome {
    let times = world.per_million(100);
    commits(world, clock, 1, times, Durability::Sync)
}

fn commit_sync_1000(world: &mut World, clock: &mut Clock) -> Outcome {
    commits(world, clock, 1000, 10, Durability::Sync)
}

fn commit_relaxed_1(world: &mut World, clock: &mut Clock) -> Outcome {
    let times = world.per_million(5000);
    commits(world, clock, 1, times, Durability::Relaxed)
}

fn update_1(world: &mut World, clock: &mut Clock) -> Outcome {
    let numbers = random(world.rows, world.per_million(5000), world.seed());
    let store = world.trades()?;
    clock.time(numbers.len() as u64, || {
        for number in &numbers {
            let mut tx = store.begin_write_with(Durability::Relaxed)?;
            {
                let mut trades = tx.table::<Trade>()?;
                let side = trades.update(&key(*number), |trade| trade.side ^= 1)?;
                expect("rows updated", side.is_some(), true)?;
            }
            let _ = tx.commit()?;
        }
        Ok(())
    })
}

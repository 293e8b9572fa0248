//! Loads whose cost must not grow with the number of earlier operations: a queue, rows kept for a
//! limited time, a row with many versions, and ranges in a process that does not own the ordered
//! index. All loads are small, so that a commit in which the cost does grow can be timed too; the
//! subcommands of `pongo-bench` show whether the cost grows.
//!
//! Each line in [`LOADS`] is compared across commits; each load starts from its own new store.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pongo::prelude::*;

use crate::records::{Event, Trade, event, trade};
use crate::tables::{ranges, starts};
use crate::world::{Clock, Load, Outcome, World, expect, open};

/// Loads of this module, described at the top of the file.
pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "queue",
        unit: "job",
        disk: true,
        counted: true,
        what: "1000 jobs wait: find the first, delete it and put another, Relaxed",
        run: queue,
    },
    Load {
        name: "retention",
        unit: "cycle",
        disk: true,
        counted: true,
        what: "extend by 500 rows, delete_range of the 500 oldest, first; Relaxed",
        run: retention,
    },
    Load {
        name: "old_version",
        unit: "key",
        disk: false,
        counted: true,
        what: "get of a hot key in a snapshot that is old",
        run: old_version,
    },
    Load {
        name: "new_version",
        unit: "range",
        disk: false,
        counted: true,
        what: "the first row of a range that begins at a hot key, in a new snapshot",
        run: new_version,
    },
    Load {
        name: "second_range",
        unit: "range",
        disk: false,
        counted: false,
        what: "100 rows in key order in a second process",
        run: second_range,
    },
];

/// Creates a store with events `0..count`, inserted in one transaction.
fn events(world: &World, name: &str, count: u64) -> Outcome<Store> {
    let store = world.empty(name)?;
    let mut tx = store.begin_write()?;
    {
        let mut events = tx.table::<Event>()?;
        let _ = events.extend((0..count).map(event))?;
    }
    let _ = tx.commit()?;
    store.settle()?;
    Ok(store)
}

/// Closes and removes a store.
fn end(world: &World, name: &str, store: Store) -> Outcome {
    store.close()?;
    world.remove(name)
}

fn first(store: &Store) -> Outcome<u64> {
    let snapshot = store.begin_read()?;
    let number = snapshot.table::<Event>()?.first()?.map(|event| event.number);
    Ok(number.ok_or("the table has a first row")?)
}

fn queue(world: &mut World, clock: &mut Clock) -> Outcome {
    const WAITING: u64 = 1000;
    let jobs = world.per_million(10_000);
    let store = events(world, "queue", WAITING)?;
    clock.time(jobs, || {
        for number in 0..jobs {
            expect("the first job", first(&store)?, number)?;
            let mut tx = store.begin_write_with(Durability::Relaxed)?;
            {
                let mut events = tx.table::<Event>()?;
                expect("whether the job was there", events.delete(&number)?, true)?;
                events.put(&event(number + WAITING))?;
            }
            let _ = tx.commit()?;
        }
        Ok(())
    })?;
    expect("jobs that wait", store.begin_read()?.table::<Event>()?.len(), WAITING)?;
    end(world, "queue", store)
}

fn retention(world: &mut World, clock: &mut Clock) -> Outcome {
    const STEP: u64 = 500;
    let kept = world.per_million(20_000).max(STEP);
    let cycles = world.per_million(100);
    let store = events(world, "retention", kept)?;
    clock.time(cycles, || {
        for cycle in 0..cycles {
            let mut tx = store.begin_write_with(Durability::Relaxed)?;
            {
                let mut events = tx.table::<Event>()?;
                let from = kept + cycle * STEP;
                let _ = events.extend((from..from + STEP).map(event))?;
                let deleted = events.delete_range(..(cycle + 1) * STEP)?;
                expect("rows deleted", deleted, STEP)?;
            }
            let _ = tx.commit()?;
            expect("the oldest row", first(&store)?, (cycle + 1) * STEP)?;
        }
        Ok(())
    })?;
    expect("rows kept", store.begin_read()?.table::<Event>()?.len(), kept)?;
    end(world, "retention", store)
}

/// Key that the version loads update often.
const HOT: u64 = 50;

/// Returns a store in which one key was updated often, and a snapshot from before the updates.
fn versions(world: &mut World) -> Outcome<&(Store, Snapshot)> {
    if world.versions.is_none() {
        let store = events(world, "versions", 2 * HOT)?;
        let old = store.begin_read()?;
        for version in 1..=updates(world) {
            let mut tx = store.begin_write_with(Durability::Relaxed)?;
            {
                let mut events = tx.table::<Event>()?;
                let updated = events.update(&HOT, |event| event.content[2] = version)?;
                expect("whether the hot key exists", updated.is_some(), true)?;
            }
            let _ = tx.commit()?;
        }
        store.settle()?;
        world.versions = Some((store, old));
    }
    Ok(world.versions.as_ref().ok_or("they were just made")?)
}

fn updates(world: &World) -> u64 {
    world.per_million(10_000)
}

fn old_version(world: &mut World, clock: &mut Clock) -> Outcome {
    const TIMES: u64 = 50;
    let (_, old) = versions(world)?;
    let events = old.table::<Event>()?;
    clock.time(TIMES, || {
        for _ in 0..TIMES {
            let content = events.get(&HOT)?.map(|event| event.content);
            expect("the hot key in the old snapshot", content, Some(event(HOT).content))?;
        }
        Ok(())
    })
}

fn new_version(world: &mut World, clock: &mut Clock) -> Outcome {
    const TIMES: u64 = 50;
    let updates = updates(world);
    let new = versions(world)?.0.begin_read()?;
    let events = new.table::<Event>()?;
    clock.time(TIMES, || {
        for _ in 0..TIMES {
            let row = events.range(HOT..)?.next().ok_or("the hot key exists")??;
            expect("the hot key in a new snapshot", (row.number, row.content[2]), (HOT, updates))?;
        }
        Ok(())
    })
}

/// Returns the number of rows in the store that two processes share.
fn shared_rows(rows: u64) -> u64 {
    (rows / 10).max(2000)
}

/// Times ranges that a second process reads while this process owns the ordered index of the store.
fn second_range(world: &mut World, clock: &mut Clock) -> Outcome {
    let ranges = world.per_million(1000);
    let store = world.empty("shared")?;
    let mut tx = store.begin_write()?;
    {
        let mut trades = tx.table::<Trade>()?;
        let _ = trades.extend((0..shared_rows(world.rows)).map(trade))?;
    }
    let _ = tx.commit()?;
    store.settle()?;
    let mut second = Command::new(std::env::current_exe()?)
        .arg("second")
        .arg(world.path("shared"))
        .args([ranges.to_string(), world.seed().to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answer = String::new();
    if let Some(output) = &mut second.stdout {
        output.read_to_string(&mut answer)?;
    }
    expect("whether the second process succeeded", second.wait()?.success(), true)?;
    clock.took(Duration::from_nanos(answer.trim().parse()?), ranges);
    end(world, "shared", store)
}

/// Runs the second process: reads one untimed range, then times the others and prints the
/// nanoseconds.
pub(crate) fn second(path: &Path, count: &str, seed: &str) -> Outcome {
    let starts = starts(count.parse()?, seed.parse()?);
    let store = open(path)?;
    let snapshot = store.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    ranges(&trades, &starts[..1])?;
    let mut clock = Clock::default();
    let mut rows = 0;
    clock.time(starts.len() as u64, || {
        rows = ranges(&trades, &starts)?;
        Ok(())
    })?;
    expect("rows of ranges in the second process", rows, 100 * starts.len() as u64)?;
    let (took, _) = clock.read().ok_or("it was timed once")?;
    println!("{}", took.as_nanos());
    Ok(())
}

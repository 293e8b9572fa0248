//! Versions: one key that is updated repeatedly and read in snapshots of all ages; and ten thousand
//! keys with fifty million versions in total, of which the newest is read first after an open.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pongo::prelude::*;
use pongo::{Options, Snapshot};

use super::{median_of, micros, open};

/// Number of keys of the second part.
const KEYS: u64 = 10_000;

#[pongo::record]
#[pongo(table = "counters")]
struct Counter {
    #[pongo(key)]
    id: u64,
    value: u64,
}

pub(super) fn run(versions: u64, all: u64, dir: &Path) -> Result<()> {
    for ordered in [true, false] {
        hot_key(versions, ordered, &dir.join(if ordered { "hot" } else { "hot-unordered" }))?;
    }
    many_keys(all, &dir.join("many"))
}

/// Prints the times in one snapshot: of the first `get` of the key, of later ones, and of a range
/// that begins with the key.
fn look(what: &str, snapshot: &Snapshot, expected: u64) -> Result<()> {
    let counters = snapshot.table::<Counter>()?;
    let get = || -> Result<()> {
        let found = counters.get(7)?.context("the key exists")?;
        ensure!(found.value == expected, "value {}, expected {expected}", found.value);
        Ok(())
    };
    let range = || -> Result<()> {
        let found = counters.range(7..)?.next().context("the key exists")??;
        ensure!((found.id, found.value) == (7, expected));
        Ok(())
    };
    let first_get = median_of(1, get)?;
    let later_gets = median_of(101, get)?;
    let first_range = median_of(1, range)?;
    let later_ranges = median_of(101, range)?;
    println!(
        "  {what:<38} get {:>12}, again {:>10}; range(k..).next() {:>12}, again {:>10}",
        micros(first_get),
        micros(later_gets),
        micros(first_range),
        micros(later_ranges)
    );
    Ok(())
}

fn hot_key(versions: u64, ordered: bool, dir: &Path) -> Result<()> {
    let store = open(Options::new().ordered(ordered), dir)?;
    println!("one key of 1,000, {} the ordered index", if ordered { "with" } else { "without" });
    let tx = store.begin_write()?;
    tx.table::<Counter>()?.extend((0..1000).map(|id| Counter { id, value: 0 }))?;
    tx.commit()?;
    let oldest = store.begin_read()?;
    let mut middle = None;
    for value in 1..=versions {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        tx.table::<Counter>()?.put(&Counter { id: 7, value })?;
        tx.commit()?;
        if value == versions / 2 {
            middle = Some((store.begin_read()?, value));
        }
        if value == versions / 4 || value == versions {
            look(&format!("{value} versions, oldest snapshot"), &oldest, 0)?;
            look(&format!("{value} versions, new snapshot"), &store.begin_read()?, value)?;
        }
    }
    if let Some((middle, value)) = middle {
        look("all versions, snapshot in the middle", &middle, value)?;
    }
    drop(oldest);
    look("all versions, no older snapshot", &store.begin_read()?, versions)?;
    println!();
    Ok(())
}

fn many_keys(all: u64, dir: &Path) -> Result<()> {
    let store = open(Options::new(), dir)?;
    let rounds = all / KEYS;
    for value in 0..rounds {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        tx.table::<Counter>()?.extend((0..KEYS).map(|id| Counter { id, value }))?;
        tx.commit()?;
    }
    store.close()?;
    let mut times: Vec<(Duration, Duration, Duration)> = Vec::new();
    for round in 0..5 {
        let began = Instant::now();
        let store = open(Options::new(), dir)?;
        let opened = began.elapsed();
        let began = Instant::now();
        let snapshot = store.begin_read()?;
        let found = snapshot.table::<Counter>()?.get(round * 777)?.map(|counter| counter.value);
        let got = began.elapsed();
        ensure!(found == rounds.checked_sub(1));
        let began = Instant::now();
        let first = snapshot.table::<Counter>()?.first()?.map(|counter| counter.id);
        ensure!(first == Some(0));
        times.push((opened, got, began.elapsed()));
        drop(snapshot);
        store.close()?;
    }
    times.sort_unstable_by_key(|&(_, got, _)| got);
    let (opened, got, first) = times[times.len() / 2];
    println!(
        "{KEYS} keys with {all} versions: opened in {}, the first get after that in {}, the first range in \
         {}\n",
        micros(opened),
        micros(got),
        micros(first)
    );
    let verdict = if got <= Duration::from_millis(20) { "reached" } else { "missed" };
    println!("figure versions: first get after an open {}, goal 20 ms: {verdict}", micros(got));
    Ok(())
}

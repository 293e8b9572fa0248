//! A retention load: each cycle inserts a thousand rows and deletes the thousand oldest by a range
//! of keys.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use pongo::prelude::*;

use super::{Tenths, micros, open};

/// Rows of one cycle.
const ROWS: u64 = 1000;

#[pongo::record]
#[pongo(table = "samples")]
struct Sample {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    at: i64,
    value: f64,
}

fn sample(id: u64) -> Sample {
    Sample { id, at: 1_700_000_000 + (id / 10) as i64, value: id as f64 }
}

pub(super) fn run(rows: u64, dir: &Path) -> Result<()> {
    // The run writes twenty times the number of live rows after the initial load.
    let alive = (rows / 21 / ROWS).max(1) * ROWS;
    let store = open(Options::new(), dir)?;
    let tx = store.begin_write()?;
    tx.table::<Sample>()?.extend((0..alive).map(sample))?;
    tx.commit()?;
    let mut tenths = Tenths::new(
        format!("retention of {alive} rows, {rows} in all"),
        &[
            ("first by key", 1.25),
            ("first by time", 1.25),
            ("range of 100", 1.25),
            ("Relaxed", 1.6),
            ("Sync", 1.25),
        ],
    );
    let (mut next, mut cycle) = (alive, 0_u64);
    for tenth in 0..10 {
        tenths.begin();
        let end = alive + (rows - alive) * (tenth + 1) / 10;
        while next < end {
            let synced = cycle.is_multiple_of(2);
            let (column, durability) = if synced { (4, Durability::Sync) } else { (3, Durability::Relaxed) };
            tenths.time(column, || {
                let tx = store.begin_write_with(durability)?;
                let mut samples = tx.table::<Sample>()?;
                samples.extend((next..next + ROWS).map(sample))?;
                samples.delete_range(..next + ROWS - alive)?;
                drop(samples);
                tx.commit()?;
                Ok(())
            })?;
            next += ROWS;
            cycle += 1;
            let oldest = next - alive;
            let snapshot = store.begin_read()?;
            let samples = snapshot.table::<Sample>()?;
            let by_key = tenths.time(0, || Ok(samples.first()?.map(|sample| sample.id)))?;
            let by_time = tenths.time(1, || Ok(samples.by(Sample::AT).first()?.map(|sample| sample.id)))?;
            ensure!(by_key == by_time && by_key == Some(oldest), "{by_key:?}, {by_time:?}, {oldest}");
            let from = oldest + alive / 2;
            let found = tenths.time(2, || Ok(samples.range(from..from + 100)?.count_rows()?))?;
            ensure!(found == 100);
        }
    }
    tenths.print();
    println!("{}", store.stats()?);
    store.close()?;
    let began = Instant::now();
    let store = open(Options::new(), dir)?;
    let opened = began.elapsed();
    let began = Instant::now();
    let snapshot = store.begin_read()?;
    let first = snapshot.table::<Sample>()?.first()?.map(|sample| sample.id);
    ensure!(first == Some(next - alive));
    println!("opened in {}, the first range after that in {}\n", micros(opened), micros(began.elapsed()));
    Ok(())
}

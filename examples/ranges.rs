//! Ordered reads: ranges and prefixes of keys, secondary indexes, both directions, pages.
//!
//! `cargo run --example ranges`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "readings")]
struct Reading {
    #[pongo(key)]
    sensor: u64,
    #[pongo(key)]
    second: i64, // negative numbers sort before positive ones
    #[pongo(index)]
    celsius: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let readings = (0..3).flat_map(|sensor| {
        (-5..5).map(move |second| Reading { sensor, second, celsius: (sensor * 10) as f64 + second as f64 })
    });
    tx.table::<Reading>()?.extend(readings)?;
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let readings = snapshot.table::<Reading>()?;

    // By the whole key, or by its first fields: no upper bound has to be computed.
    assert_eq!(readings.count((1, 0)..(1, 3))?, 3);
    for reading in readings.prefix((2,))?.rev().take(2) {
        let reading = reading?;
        println!("sensor 2 at {}: {} °C", reading.second, reading.celsius);
    }

    // By a secondary index.
    let coldest = readings.by(Reading::CELSIUS).first()?.ok_or("rows exist")?;
    println!("coldest: sensor {} with {} °C", coldest.sensor, coldest.celsius);
    assert_eq!(readings.by(Reading::CELSIUS).count(20.0..)?, 5);

    // In pages: a cursor continues after the last row that was read, also in a later snapshot.
    let mut page = readings.range(..)?;
    let first: Vec<_> = page.by_ref().take(10).collect::<Result<_, _>>()?;
    let cursor = page.cursor()?.ok_or("ten rows were read")?;
    let next = store.begin_read()?.table::<Reading>()?.range(..)?.start_after(&cursor)?.count();
    assert_eq!((first.len(), next), (10, 20));
    Ok(())
}

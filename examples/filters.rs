//! Filters: conditions on fields without an index; blocks of rows that cannot match are skipped.
//!
//! `cargo run --release --example filters`

use pongo::prelude::*;
use pongo::rayon::prelude::*;

#[pongo::record]
#[pongo(table = "trades")]
struct Trade {
    #[pongo(key)]
    id: u64,
    time: Timestamp, // rises with the row number, so that most blocks can be skipped
    price: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let rows = (0..1_000_000).map(|id| Trade {
        id,
        time: Timestamp::from_micros(id as i64),
        price: (id % 50) as f64,
    });
    tx.table::<Trade>()?.extend(rows)?;
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let trades = snapshot.table::<Trade>()?;
    let period = Timestamp::from_micros(500_000)..Timestamp::from_micros(600_000);
    let expensive = Trade::TIME.between(period).and(Trade::PRICE.gt(47.5));

    // What a filter reads and skips, before it runs.
    println!("{}", trades.filter(&expensive).explain()?);

    // On one thread, and on all cores.
    let count = trades.filter(&expensive).count();
    let sum = trades
        .filter(&expensive)
        .par()
        .map(|trade| Ok(trade?.price))
        .sum::<Result<f64, pongo::ReadError>>()?;
    println!("{count} trades match; the sum of their prices is {sum}");
    assert_eq!((count, sum), (4_000, 194_000.0));
    Ok(())
}

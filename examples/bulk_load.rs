//! Bulk loads: a million rows in one transaction, then changes and deletions by range.
//!
//! `cargo run --release --example bulk_load`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "trades")]
struct Trade {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    price: f64,
    quantity: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // SAFETY: no other program writes to the files of this temporary folder.
    let store = unsafe { Store::open(folder.path().join("trades.pongo"))? };

    // `extend` writes rows straight to the table's files, in any order of keys.
    let tx = store.begin_write()?;
    let rows = (0..1_000_000u64).map(|i| i * 7919 % 1_000_000);
    let count = tx.table::<Trade>()?.extend(rows.map(|id| Trade { id, price: id as f64, quantity: 1.0 }))?;
    tx.commit()?;
    println!("{count} rows loaded");
    store.catch_up_indexes()?; // brings the ordered indexes up to date now instead of at the first range

    // Many rows at once, by the key or by another index.
    let tx = store.begin_write()?;
    let mut trades = tx.table::<Trade>()?;
    let deleted = trades.by_mut(Trade::PRICE).delete_range(..250_000.0)?;
    let changed = trades.modify(900_000.., |trade| trade.quantity *= 2.0)?;
    drop(trades);
    tx.commit()?;
    println!("{deleted} rows deleted, {changed} changed");

    let snapshot = store.begin_read()?;
    assert_eq!(snapshot.table::<Trade>()?.len(), 750_000);
    Ok(())
}

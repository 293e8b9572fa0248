//! Savepoints: undo a part of a transaction and continue with it.
//!
//! `cargo run --example savepoints`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "accounts")]
struct Account {
    #[pongo(key)]
    id: u64,
    cents: i64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Account>()?.extend([1, 2, 3].map(|id| Account { id, cents: 100 }))?;
    tx.commit()?;

    let mut tx = store.begin_write()?;
    for (from, to, cents) in [(1, 2, 70), (1, 3, 50), (2, 3, 150)] {
        let savepoint = tx.savepoint()?;
        let mut accounts = tx.table::<Account>()?;
        accounts.update(to, |account| account.cents += cents)?;
        let left = accounts.update(from, |account| {
            account.cents -= cents;
            account.cents
        })?;
        drop(accounts);
        if left < Some(0) {
            println!("{cents} cents from {from} to {to}: not enough, undone");
            tx.rollback_to(&savepoint)?; // this payment only, in all tables
        }
        tx.release(savepoint)?;
    }
    tx.commit()?; // the other payments

    let snapshot = store.begin_read()?;
    let accounts = snapshot.table::<Account>()?;
    let cents = accounts
        .range(..)?
        .map(|account| Ok(account?.cents))
        .collect::<Result<Vec<_>, pongo::ReadError>>()?;
    assert_eq!(cents, [30, 20, 250]);
    Ok(())
}

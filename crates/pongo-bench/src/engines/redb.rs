//! redb.
//!
//! - A table of `[u8; 16]` keys and `[u8; 48]` values: fixed widths, which redb stores without lengths.
//! - The cache is the default of 1 GiB; all rows fit at 10 M.
//! - `Sync` is `Durability::Immediate` with one-phase commit, the default. `Relaxed` is `Durability::None`: such commits
//!   are kept in redb's own cache, so they do not survive the process, which PongoDB's do.
//! - The load is one write transaction; look-ups run in one read transaction, the scan through `iter`.

use std::path::Path;

use anyhow::Result;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade, value_of_tail};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "redb",
    title: "redb 4.4",
    open,
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

const TRADES: TableDefinition<Key, [u8; 48]> = TableDefinition::new("trades");

struct Redb {
    database: Database,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Redb { database: Database::create(folder.join("trades.redb"))? }))
}

impl Redb {
    fn put(&self, rows: &mut dyn Iterator<Item = Trade>, durability: Durability) -> Result<()> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(match durability {
            Durability::Sync => redb::Durability::Immediate,
            Durability::Relaxed => redb::Durability::None,
        })?;
        {
            let mut trades = tx.open_table(TRADES)?;
            for row in rows {
                let tail: &[u8; 48] = row.tail().try_into().expect("48 bytes");
                trades.insert(&row.id, tail)?;
            }
        }
        tx.commit()?;
        Ok(())
    }
}

impl Engine for Redb {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        self.put(rows, Durability::Sync)
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let trades = self.database.begin_read()?.open_table(TRADES)?;
        let mut found = Found::default();
        for key in keys {
            if let Some(tail) = trades.get(key)? {
                found.add(value_of_tail(&tail.value()));
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let trades = self.database.begin_read()?.open_table(TRADES)?;
        let mut found = Found::default();
        for pair in trades.iter()? {
            found.add(value_of_tail(&pair?.1.value()));
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()> {
        self.put(&mut rows.iter().copied(), durability)
    }

    fn snapshots(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(self.database.begin_read()?);
        }
        Ok(())
    }
}

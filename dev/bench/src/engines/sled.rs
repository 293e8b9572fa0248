//! sled 0.34.7.
//!
//! - The default tree and configuration, 48-byte values under 16-byte keys.
//! - The load is one insert per row and one `flush`. sled's transactions are closures that may run
//!   several times and hold all their writes in memory; they are not suited for millions of rows.
//! - A commit is `insert`, or `apply_batch` for more than one row, then `flush` for `Sync`. Its
//!   flush is `sync_file_range` and not a real sync: rows can be lost in a power cut. `Relaxed`
//!   does not flush; a thread of sled does so every 500 ms, and until then the rows exist only in
//!   the process.
//! - There are no snapshots: lookups and scans see the current state, and `snapshots` does nothing.

use std::path::Path;

use anyhow::Result;

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade, value_of_tail};

/// sled; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "sled",
    title: "sled 0.34.7",
    open,
    open_indexed: None,
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

struct Sled {
    database: sled::Db,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Sled { database: sled::open(folder)? }))
}

impl Engine for Sled {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        for row in rows {
            self.database.insert(row.id, row.tail())?;
        }
        self.database.flush()?;
        Ok(())
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let mut found = Found::default();
        for key in keys {
            if let Some(tail) = self.database.get(key)? {
                found.add(value_of_tail(&tail));
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let mut found = Found::default();
        for pair in self.database.iter() {
            found.add(value_of_tail(&pair?.1));
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()> {
        match rows {
            [row] => {
                self.database.insert(row.id, row.tail())?;
            }
            rows => {
                let mut batch = sled::Batch::default();
                for row in rows {
                    batch.insert(&row.id, row.tail());
                }
                self.database.apply_batch(batch)?;
            }
        }
        if durability == Durability::Sync {
            self.database.flush()?;
        }
        Ok(())
    }

    fn snapshots(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

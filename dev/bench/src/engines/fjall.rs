//! fjall, an LSM tree.
//!
//! - One keyspace with default options, 48-byte values under 16-byte keys.
//! - The load is one insert per row and one `persist(SyncAll)`: a batch of all rows would have to
//!   be held in memory. fjall's threads flush and compact during the load and after it.
//! - A commit is a batch. `Sync` is `PersistMode::SyncData` (`fdatasync`), `Relaxed` is
//!   `PersistMode::Buffer`: the bytes have been handed to the operating system, as with PongoDB.
//! - Lookups and the scan run on a snapshot.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade, value_of_tail};

/// fjall; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "fjall",
    title: "fjall 3.1",
    open,
    open_indexed: None,
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

struct Fjall {
    database: Database,
    trades: Keyspace,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    let database = Database::builder(folder).open()?;
    let trades = database.keyspace("trades", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, trades }))
}

impl Engine for Fjall {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        for row in rows {
            self.trades.insert(row.id, row.tail())?;
        }
        self.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let snapshot = self.database.snapshot();
        let mut found = Found::default();
        for key in keys {
            if let Some(tail) = snapshot.get(&self.trades, key)? {
                found.add(value_of_tail(&tail));
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let mut found = Found::default();
        for guard in self.database.snapshot().iter(&self.trades) {
            found.add(value_of_tail(&guard.value()?));
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(match durability {
            Durability::Sync => PersistMode::SyncData,
            Durability::Relaxed => PersistMode::Buffer,
        }));
        for row in rows {
            batch.insert(&self.trades, row.id, row.tail());
        }
        batch.commit()?;
        Ok(())
    }

    fn snapshots(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(self.database.snapshot());
        }
        Ok(())
    }
}

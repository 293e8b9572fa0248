//! LMDB through heed.
//!
//! - Keys are the 16 bytes, values the record's other 48: the key is stored once, which is the best an LMDB user can do.
//! - The map is 64 GiB large, as users set it who do not want to think of it again; the file grows only with its pages.
//! - Flags are the defaults: no `MDB_WRITEMAP`, read-ahead on, full sync on commit. A relaxed commit is one under
//!   `MDB_NOSYNC`, set while nothing else runs: data are in the page cache then and survive the process, as with PongoDB.
//! - The load is one write transaction with `put` in the order the rows come in (`MDB_APPEND` needs sorted keys).
//! - Look-ups run in one read transaction, the scan through a cursor; values are read where they lie in the map.

use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade, value_of_tail};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "lmdb",
    title: "LMDB (heed 0.22)",
    open,
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

struct Lmdb {
    env: Env,
    trades: Database<Bytes, Bytes>,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 30);
    // SAFETY: the folder is this run's own, and nothing but LMDB writes to the files in it.
    let env = unsafe { options.open(folder) }?;
    let mut tx = env.write_txn()?;
    let trades = env.create_database(&mut tx, None)?;
    tx.commit()?;
    Ok(Box::new(Lmdb { env, trades }))
}

impl Lmdb {
    fn put(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for row in rows {
            self.trades.put(&mut tx, &row.id, row.tail())?;
        }
        tx.commit()?;
        Ok(())
    }
}

impl Engine for Lmdb {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        self.put(rows)
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let tx = self.env.read_txn()?;
        let mut found = Found::default();
        for key in keys {
            if let Some(tail) = self.trades.get(&tx, key)? {
                found.add(value_of_tail(tail));
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let tx = self.env.read_txn()?;
        let mut found = Found::default();
        for pair in self.trades.iter(&tx)? {
            found.add(value_of_tail(pair?.1));
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], _: Durability) -> Result<()> {
        self.put(&mut rows.iter().copied())
    }

    fn snapshots(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(self.env.read_txn()?);
        }
        Ok(())
    }

    fn prepare(&self, durability: Durability) -> Result<()> {
        let mode = match durability {
            Durability::Sync => FlagSetMode::Disable,
            Durability::Relaxed => FlagSetMode::Enable,
        };
        // SAFETY: no transaction is open, no other thread uses the environment, and a store that a power cut would
        // leave broken is thrown away with the run.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode) }?;
        Ok(())
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        // What relaxed commits left to the system is made durable, so that closing means the same for all engines. A
        // failure shows in the next open.
        let _ = self.env.force_sync();
    }
}

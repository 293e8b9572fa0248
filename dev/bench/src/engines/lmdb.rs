//! LMDB through heed.
//!
//! - The 16 bytes of the key are the key, the record's other 48 the value: the key is stored once,
//!   which is the best that an LMDB user can do.
//! - The map has 64 GiB, a size that users choose to avoid resizing it; the file grows only with
//!   its pages.
//! - Flags are the defaults: no `MDB_WRITEMAP`, read-ahead on, full sync on commit. A relaxed
//!   commit runs under `MDB_NOSYNC`, which is set while nothing else runs: the data is in the page
//!   cache then and survives the process, as with PongoDB.
//! - The load is one write transaction with `put` in the order of the rows (`MDB_APPEND` needs
//!   sorted keys).
//! - Lookups run in one read transaction, the scan and ranges through a cursor; values are read in
//!   place in the map.
//! - A load in key order uses `MDB_APPEND`, which fills pages completely.
//! - The index of postings is a second database, `MDB_DUPSORT | MDB_DUPFIXED`, from the account to
//!   the keys of its rows; both are written in one transaction.

use std::ops::Bound;
use std::path::Path;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{Database, DatabaseFlags, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::indexed::{Indexed, Posting};
use crate::ordered::Ordered;
use crate::trade::{Key, Trade, value_of_tail};

/// LMDB; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "lmdb",
    title: "LMDB (heed 0.22)",
    open,
    open_indexed: Some(open_indexed),
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

struct Lmdb {
    env: Env,
    trades: Database<Bytes, Bytes>,
}

fn environment(folder: &Path) -> Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 30).max_dbs(2);
    // SAFETY: the folder belongs to this run, and only LMDB writes to the files in it.
    Ok(unsafe { options.open(folder) }?)
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    let env = environment(folder)?;
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

    fn ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }

    fn prepare(&self, durability: Durability) -> Result<()> {
        sync_commits(&self.env, durability == Durability::Sync)
    }
}

fn sync_commits(env: &Env, sync: bool) -> Result<()> {
    let mode = if sync { FlagSetMode::Disable } else { FlagSetMode::Enable };
    // SAFETY: no transaction is open and no other thread uses the environment. A power cut could
    // corrupt the store in this mode, but the store is deleted at the end of the run.
    unsafe { env.set_flags(EnvFlags::NO_SYNC, mode) }?;
    Ok(())
}

impl Ordered for Lmdb {
    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for row in rows {
            self.trades.put_with_flags(&mut tx, PutFlags::APPEND, &row.id, row.tail())?;
        }
        tx.commit()?;
        Ok(())
    }

    fn ranges(&self, starts: &[Key], rows: usize) -> Result<Found> {
        let tx = self.env.read_txn()?;
        let mut found = Found::default();
        for start in starts {
            let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(start), Bound::Unbounded);
            for pair in self.trades.range(&tx, &from)?.take(rows) {
                found.add(value_of_tail(pair?.1));
            }
        }
        Ok(found)
    }

    fn in_order(&self) -> Result<Found> {
        self.scan()
    }
}

/// A store of postings, and an index from accounts to their keys.
struct LmdbPostings {
    env: Env,
    postings: Database<Bytes, Bytes>,
    by_account: Database<Bytes, Bytes>,
}

fn open_indexed(folder: &Path) -> Result<Box<dyn Indexed>> {
    let env = environment(folder)?;
    let mut tx = env.write_txn()?;
    let postings = env.create_database(&mut tx, Some("postings"))?;
    let mut options = env.database_options().types::<Bytes, Bytes>();
    options.name("by_account").flags(DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED);
    let by_account = options.create(&mut tx)?;
    tx.commit()?;
    Ok(Box::new(LmdbPostings { env, postings, by_account }))
}

impl LmdbPostings {
    fn put_all(&self, rows: &mut dyn Iterator<Item = Posting>) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for row in rows {
            self.postings.put(&mut tx, &row.id, row.tail())?;
            self.by_account.put(&mut tx, &row.account.to_be_bytes(), &row.id)?;
        }
        tx.commit()?;
        Ok(())
    }
}

impl Indexed for LmdbPostings {
    fn load(&self, rows: &mut dyn Iterator<Item = Posting>) -> Result<()> {
        self.put_all(rows)
    }

    fn equal(&self, accounts: &[u64]) -> Result<Found> {
        let tx = self.env.read_txn()?;
        let mut found = Found::default();
        for account in accounts {
            for pair in self.by_account.get_duplicates(&tx, &account.to_be_bytes())?.into_iter().flatten() {
                let tail = self.postings.get(&tx, pair?.1)?;
                found.add(value_of_tail(tail.context("the index names a missing row")?));
            }
        }
        Ok(found)
    }

    fn equal_keys(&self, accounts: &[u64]) -> Result<u64> {
        let tx = self.env.read_txn()?;
        let mut rows = 0;
        for account in accounts {
            for pair in self.by_account.get_duplicates(&tx, &account.to_be_bytes())?.into_iter().flatten() {
                rows += u64::from(!pair?.1.is_empty());
            }
        }
        Ok(rows)
    }

    fn put(&self, rows: &[Posting]) -> Result<()> {
        sync_commits(&self.env, false)?;
        rows.iter().try_for_each(|row| self.put_all(&mut std::iter::once(*row)))
    }
}

impl Drop for LmdbPostings {
    fn drop(&mut self) {
        // See `Drop for Lmdb`.
        let _ = self.env.force_sync();
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        // Data of relaxed commits that is still in the page cache is made durable, so that closing
        // means the same for all engines. A failure is detected at the next open.
        let _ = self.env.force_sync();
    }
}

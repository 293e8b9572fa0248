//! redb.
//!
//! - A table of `[u8; 16]` keys and `[u8; 48]` values: fixed widths, which redb stores without
//!   lengths.
//! - The cache has the default size of 1 GiB; all rows fit at 10 M.
//! - `Sync` is `Durability::Immediate` with one-phase commit, the default. `Relaxed` is
//!   `Durability::None`: such commits are kept in redb's own cache, so they do not survive the
//!   process, unlike those of PongoDB.
//! - The load is one write transaction; lookups run in one read transaction, the scan uses `iter`.
//! - The index of postings is a multimap table from the account to the keys of its rows.

use std::path::Path;

use anyhow::{Context, Result};
use redb::{Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::indexed::{Indexed, Posting};
use crate::trade::{Key, Trade, value_of_tail};

/// redb; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "redb",
    title: "redb 4.4",
    open,
    open_indexed: Some(open_indexed),
    stores: true,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

const TRADES: TableDefinition<Key, [u8; 48]> = TableDefinition::new("trades");
const POSTINGS: TableDefinition<Key, [u8; 48]> = TableDefinition::new("postings");
const BY_ACCOUNT: MultimapTableDefinition<u64, Key> = MultimapTableDefinition::new("by_account");

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

/// A store of postings, and an index from accounts to their keys.
struct RedbPostings {
    database: Database,
}

fn open_indexed(folder: &Path) -> Result<Box<dyn Indexed>> {
    Ok(Box::new(RedbPostings { database: Database::create(folder.join("postings.redb"))? }))
}

impl RedbPostings {
    fn put_all(&self, rows: &mut dyn Iterator<Item = Posting>, durability: redb::Durability) -> Result<()> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(durability)?;
        {
            let mut postings = tx.open_table(POSTINGS)?;
            let mut by_account = tx.open_multimap_table(BY_ACCOUNT)?;
            for row in rows {
                let tail: &[u8; 48] = row.tail().try_into().expect("48 bytes");
                postings.insert(&row.id, tail)?;
                by_account.insert(row.account, row.id)?;
            }
        }
        tx.commit()?;
        Ok(())
    }
}

impl Indexed for RedbPostings {
    fn load(&self, rows: &mut dyn Iterator<Item = Posting>) -> Result<()> {
        self.put_all(rows, redb::Durability::Immediate)
    }

    fn equal(&self, accounts: &[u64]) -> Result<Found> {
        let tx = self.database.begin_read()?;
        let (postings, by_account) = (tx.open_table(POSTINGS)?, tx.open_multimap_table(BY_ACCOUNT)?);
        let mut found = Found::default();
        for account in accounts {
            for key in by_account.get(account)? {
                let tail = postings.get(key?.value())?.context("the index names a missing row")?;
                found.add(value_of_tail(&tail.value()));
            }
        }
        Ok(found)
    }

    fn equal_keys(&self, accounts: &[u64]) -> Result<u64> {
        let by_account = self.database.begin_read()?.open_multimap_table(BY_ACCOUNT)?;
        let mut rows = 0;
        for account in accounts {
            for key in by_account.get(account)? {
                key?;
                rows += 1;
            }
        }
        Ok(rows)
    }

    fn put(&self, rows: &[Posting]) -> Result<()> {
        let once = |row: &Posting| self.put_all(&mut std::iter::once(*row), redb::Durability::None);
        rows.iter().try_for_each(once)
    }
}

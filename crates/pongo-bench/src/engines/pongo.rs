//! PongoDB, with default options.
//!
//! - The table's rows are [`Trade`]s as they are; look-ups give `&Trade`, the scan runs over `&[Trade]`.
//! - The load is one write transaction with `extend`, straight to chunks; its commit syncs them, hash index included.
//! - A commit puts its rows one by one in one transaction.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pongo::prelude::*;

use crate::engine::{self, Engine, Entry, Found};
use crate::trade::{Key, Trade};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "pongo",
    title: "**PongoDB**",
    open,
    stores: true,
    relaxed: true,
    journal_bytes: Some(journal_bytes),
    cut_power: Some(cut_power),
};

struct Pongo {
    store: Store,
}

fn place(folder: &Path) -> PathBuf {
    folder.join("trades.pongo")
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    // SAFETY: the folder is this run's own, and nothing but PongoDB writes to the files in it.
    let store = unsafe { Store::open(place(folder)) }?;
    Ok(Box::new(Pongo { store }))
}

/// The journal's size: recovery reads at most that.
fn journal_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for segment in fs::read_dir(place(folder).join("journal"))? {
        bytes += segment?.metadata()?.len();
    }
    Ok(bytes)
}

/// After a power cut nothing in `control` and `hash/` is trusted; without them an open does the same work.
fn cut_power(folder: &Path) -> Result<()> {
    let store = place(folder);
    fs::remove_dir_all(store.join("hash")).context("taking the hash index away")?;
    fs::remove_file(store.join("control")).context("taking the shared state away")?;
    Ok(())
}

impl Engine for Pongo {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        let mut tx = self.store.begin_write()?;
        tx.table::<Trade>()?.extend(rows)?;
        tx.commit()?;
        Ok(())
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let trades = snapshot.table::<Trade>()?;
        let mut found = Found::default();
        for key in keys {
            if let Some(trade) = trades.get(key)? {
                found.add(trade.value());
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let mut found = Found::default();
        for rows in snapshot.table::<Trade>()?.slices() {
            for trade in rows? {
                found.add(trade.value());
            }
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], durability: engine::Durability) -> Result<()> {
        let mut tx = self.store.begin_write_with(match durability {
            engine::Durability::Sync => Durability::Sync,
            engine::Durability::Relaxed => Durability::Relaxed,
        })?;
        {
            let mut trades = tx.table::<Trade>()?;
            for row in rows {
                trades.put(row)?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    fn snapshots(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(self.store.begin_read()?);
        }
        Ok(())
    }
}

//! PongoDB, with default options.
//!
//! - The table's rows are unchanged [`Trade`]s; lookups return `&Trade`, the scan reads `&[Trade]`.
//! - The load is one write transaction with `extend`, directly to chunks; its commit syncs them,
//!   including the hash index.
//! - Ordered indexes are maintained as by default: by a thread of the store, and at the close.
//!   [`UNORDERED`] is a store without them.
//! - A commit puts its rows one by one in one transaction.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pongo::ReadError;
use pongo::prelude::*;
use pongo::rayon::ThreadPool;
use pongo::rayon::prelude::*;

use crate::engine::{self, Engine, Entry, Found};
use crate::indexed::{Indexed, Posting};
use crate::ordered::{Ordered, Scans};
use crate::trade::{Key, Trade};

/// PongoDB; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "pongo",
    title: "**PongoDB**",
    open,
    open_indexed: Some(open_indexed),
    stores: true,
    relaxed: true,
    journal_bytes: Some(journal_bytes),
    cut_power: Some(cut_power),
};

/// PongoDB without ordered indexes; see the module documentation.
pub(crate) const UNORDERED: Entry = Entry {
    name: "pongo_unordered",
    title: "PongoDB without ordered indexes",
    open: open_unordered,
    open_indexed: None,
    ..ENTRY
};

struct Pongo {
    store: Store,
}

fn place(folder: &Path) -> PathBuf {
    folder.join("trades.pongo")
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    // SAFETY: the folder belongs to this run, and only PongoDB writes to the files in it.
    let store = unsafe { Store::open(place(folder)) }?;
    Ok(Box::new(Pongo { store }))
}

fn open_unordered(folder: &Path) -> Result<Box<dyn Engine>> {
    // SAFETY: as in `open`.
    let store = unsafe { Options::new().ordered(false).open(place(folder)) }?;
    Ok(Box::new(Pongo { store }))
}

/// Returns the size of the journal, which bounds what recovery reads.
fn journal_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for segment in fs::read_dir(place(folder).join("journal"))? {
        bytes += segment?.metadata()?.len();
    }
    Ok(bytes)
}

/// Removes `control` and `hash/`: nothing in them is trusted after a power cut, so an open without
/// them does the same work.
fn cut_power(folder: &Path) -> Result<()> {
    let store = place(folder);
    fs::remove_dir_all(store.join("hash")).context("taking the hash index away")?;
    fs::remove_file(store.join("control")).context("taking the shared state away")?;
    Ok(())
}

impl Engine for Pongo {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        let tx = self.store.begin_write()?;
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
        let tx = self.store.begin_write_with(match durability {
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

    fn ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }

    fn scans(&self) -> Option<&dyn Scans> {
        Some(self)
    }
}

impl Ordered for Pongo {
    fn settle(&self) -> Result<()> {
        Ok(self.store.catch_up_indexes()?)
    }

    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        self.load(rows)
    }

    fn ranges(&self, starts: &[Key], rows: usize) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let trades = snapshot.table::<Trade>()?;
        let mut found = Found::default();
        for start in starts {
            for trade in trades.range(*start..)?.take(rows) {
                found.add(trade?.value());
            }
        }
        Ok(found)
    }

    fn in_order(&self) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let mut found = Found::default();
        for trade in snapshot.table::<Trade>()?.range(..)? {
            found.add(trade?.value());
        }
        Ok(found)
    }
}

fn add_up(rows: &[Trade]) -> Found {
    let mut found = Found::default();
    rows.iter().for_each(|row| found.add(row.value()));
    found
}

impl Scans for Pongo {
    fn get_many(&self, keys: &[Key]) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let mut found = Found::default();
        for trade in snapshot.table::<Trade>()?.get_many(keys) {
            if let Some(trade) = trade? {
                found.add(trade.value());
            }
        }
        Ok(found)
    }

    fn filtered(&self, times: Range<i64>) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let mut found = Found::default();
        for trade in snapshot.table::<Trade>()?.filter(Trade::TS.between(times)) {
            found.add(trade?.value());
        }
        Ok(found)
    }

    fn looked_through(&self, times: Range<i64>) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let mut found = Found::default();
        for rows in snapshot.table::<Trade>()?.slices() {
            for trade in rows?.iter().filter(|trade| times.contains(&trade.ts)) {
                found.add(trade.value());
            }
        }
        Ok(found)
    }

    fn scan_by(&self, threads: &ThreadPool) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let trades = snapshot.table::<Trade>()?;
        let found: Result<Found, ReadError> = threads.install(|| {
            let sums = trades.par_slices().map(|rows| Ok(add_up(rows?)));
            sums.try_reduce(Found::default, |one, other| Ok(one.and(other)))
        });
        Ok(found?)
    }

    fn rebuild(&self) -> Result<()> {
        Ok(self.store.rebuild_index::<Trade>()?)
    }
}

struct PongoPostings {
    store: Store,
}

fn open_indexed(folder: &Path) -> Result<Box<dyn Indexed>> {
    // SAFETY: as in `open`.
    let store = unsafe { Store::open(place(folder)) }?;
    Ok(Box::new(PongoPostings { store }))
}

impl Indexed for PongoPostings {
    fn load(&self, rows: &mut dyn Iterator<Item = Posting>) -> Result<()> {
        let tx = self.store.begin_write()?;
        tx.table::<Posting>()?.extend(rows)?;
        tx.commit()?;
        Ok(self.store.catch_up_indexes()?)
    }

    fn equal(&self, accounts: &[u64]) -> Result<Found> {
        let snapshot = self.store.begin_read()?;
        let postings = snapshot.table::<Posting>()?;
        let mut found = Found::default();
        for account in accounts {
            for posting in postings.by(Posting::ACCOUNT).eq(*account)? {
                found.add(posting?.value());
            }
        }
        Ok(found)
    }

    fn equal_keys(&self, accounts: &[u64]) -> Result<u64> {
        let snapshot = self.store.begin_read()?;
        let postings = snapshot.table::<Posting>()?;
        let mut rows = 0;
        for account in accounts {
            rows += postings.by(Posting::ACCOUNT).eq(*account)?.count_rows()?;
        }
        Ok(rows)
    }

    fn put(&self, rows: &[Posting]) -> Result<()> {
        for row in rows {
            let tx = self.store.begin_write_with(Durability::Relaxed)?;
            tx.table::<Posting>()?.put(row)?;
            tx.commit()?;
        }
        Ok(())
    }
}

//! The operations of an engine, and the list of engines.
//!
//! Each engine has a module under [`crate::engines`], whose documentation states its configuration
//! and the reasons for it. All engines are measured with the same access pattern: the loop is
//! inside the adapter, so that the timed code contains neither calls through `dyn` nor transactions
//! of the harness. Every read returns a sum, which the harness checks.

use std::path::Path;

use anyhow::{Result, bail};

use crate::engines;
use crate::indexed::Indexed;
use crate::ordered::{Ordered, Scans};
use crate::trade::{Key, Trade};

/// The guarantee for which a commit waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Durability {
    /// The data is on disk.
    Sync,
    /// The data has been handed to the operating system, or the closest that the engine offers.
    Relaxed,
}

/// Result of lookups: number of rows found, and the sum of their values.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) sum: f64,
}

impl Found {
    /// Adds one row's value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.rows += 1;
        self.sum += value;
    }

    /// Returns the total of both.
    pub(crate) fn and(self, other: Found) -> Found {
        Found { rows: self.rows + other.rows, sum: self.sum + other.sum }
    }
}

/// An open store of an engine. Dropping it closes it cleanly.
pub(crate) trait Engine: Sync {
    /// Stores all rows in the order of the iterator, in one transaction if the engine can, and
    /// syncs at the end.
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()>;
    /// Looks up each key, in one read transaction.
    fn get(&self, keys: &[Key]) -> Result<Found>;
    /// Adds up the value of every row, in whatever order is fastest.
    fn scan(&self) -> Result<Found>;
    /// Puts the rows in one transaction and commits it. Called from several threads at once.
    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()>;
    /// Begins and ends `times` read transactions.
    fn snapshots(&self, times: u64) -> Result<()>;
    /// Sets the durability of the commits of a round before its first commit, for engines where
    /// that is a mode of the open store.
    fn prepare(&self, _durability: Durability) -> Result<()> {
        Ok(())
    }
    /// Returns the operations on rows in key order, if they are measured.
    fn ordered(&self) -> Option<&dyn Ordered> {
        None
    }
    /// Returns the scans that are compared with each other within this engine, if they are
    /// measured.
    fn scans(&self) -> Option<&dyn Scans> {
        None
    }
}

/// A function that creates or opens a store of postings.
pub(crate) type OpenIndexed = fn(&Path) -> Result<Box<dyn Indexed>>;

/// An engine that can be measured.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Name in the table.
    pub(crate) title: &'static str,
    /// Creates a store in an empty folder, or opens the existing one.
    pub(crate) open: fn(&Path) -> Result<Box<dyn Engine>>,
    /// Like `open`, for a store of postings, if those are measured.
    pub(crate) open_indexed: Option<OpenIndexed>,
    /// Whether the engine stores rows; `bare` only commits.
    pub(crate) stores: bool,
    /// Whether the engine has commits that do not wait for the disk.
    pub(crate) relaxed: bool,
    /// Returns the bytes of journal that an open after a kill has to replay, determined from the
    /// folder alone.
    pub(crate) journal_bytes: Option<fn(&Path) -> Result<u64>>,
    /// Removes from a closed or killed store the state that would not be trusted after a power cut.
    pub(crate) cut_power: Option<fn(&Path) -> Result<()>>,
}

/// All engines, in the order of the table.
pub(crate) const ENGINES: &[Entry] = &[
    engines::pongo::ENTRY,
    engines::lmdb::ENTRY,
    engines::redb::ENTRY,
    engines::fjall::ENTRY,
    engines::sled::ENTRY,
    engines::native_db::ENTRY,
    engines::bare::ENTRY,
];

/// PongoDB without ordered indexes, for comparison.
pub(crate) const UNORDERED: Entry = engines::pongo::UNORDERED;

/// Returns the engine with this name.
pub(crate) fn find(name: &str) -> Result<&'static Entry> {
    match ENGINES.iter().chain([&UNORDERED]).find(|entry| entry.name == name) {
        Some(entry) => Ok(entry),
        None => {
            let names: Vec<_> = ENGINES.iter().map(|entry| entry.name).collect();
            bail!("no engine is called {name:?}: there are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trade;

    /// Checks that every engine keeps the rows that were stored, across a close too, and finds no
    /// others.
    #[test]
    fn engines_agree() {
        const ROWS: u64 = 3000;
        for entry in ENGINES.iter().filter(|entry| entry.stores) {
            let folder = tempfile::tempdir().unwrap();
            {
                let engine = (entry.open)(folder.path()).unwrap();
                engine.load(&mut (0..ROWS).map(trade::trade)).unwrap();
                for durability in [Durability::Sync, Durability::Relaxed] {
                    if durability == Durability::Sync || entry.relaxed {
                        let at = ROWS + durability as u64;
                        engine.prepare(durability).unwrap();
                        engine.commit(&[trade::trade(at)], durability).unwrap();
                    }
                }
            }
            let engine = (entry.open)(folder.path()).unwrap();
            let rows = ROWS + 1 + u64::from(entry.relaxed);
            let expected = Found { rows, sum: (0..rows).map(|n| trade::trade(n).value()).sum() };
            assert_eq!(engine.scan().unwrap(), expected, "{}", entry.name);
            let (keys, sum) = trade::present(rows, 500, 1);
            assert_eq!(engine.get(&keys).unwrap(), Found { rows: 500, sum }, "{}", entry.name);
            assert_eq!(engine.get(&trade::missing(500, 2)).unwrap(), Found::default(), "{}", entry.name);
            engine.snapshots(10).unwrap();
        }
    }

    #[test]
    fn unknown_name_lists_known_names() {
        let message = find("oracle").err().unwrap().to_string();
        assert!(message.contains("\"oracle\"") && message.contains("lmdb"), "{message}");
    }
}

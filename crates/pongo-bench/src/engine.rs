//! What is asked of an engine, and the list of engines.
//!
//! One module an engine under [`crate::engines`], each with its configuration and the reasons for it in its
//! documentation. All use one access pattern: the loop is inside the adapter, so that no call through a `dyn` and no
//! transaction of the harness is in what is timed, and every read returns a sum that the harness checks.

use std::path::Path;

use anyhow::{Result, bail};

use crate::engines;
use crate::indexed::Indexed;
use crate::ordered::{Ordered, Scans};
use crate::trade::{Key, Trade};

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Durability {
    /// The data are on the disk.
    Sync,
    /// The data are with the operating system, or as near to it as the engine offers.
    Relaxed,
}

/// What look-ups found: how many, and the sum of their values.
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

    /// Both together.
    pub(crate) fn and(self, other: Found) -> Found {
        Found { rows: self.rows + other.rows, sum: self.sum + other.sum }
    }
}

/// An open store of one engine. Dropping it is a clean close.
pub(crate) trait Engine: Sync {
    /// Stores all rows in the order given, in one transaction if the engine can, and syncs at the end.
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()>;
    /// Looks each key up, in one read transaction.
    fn get(&self, keys: &[Key]) -> Result<Found>;
    /// Adds up the value of every row, in whatever order is fastest.
    fn scan(&self) -> Result<Found>;
    /// Puts the rows in one transaction and commits it. Called from several threads at once.
    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()>;
    /// Begins and ends a read transaction so many times.
    fn snapshots(&self, times: u64) -> Result<()>;
    /// Says before the first commit of a round how durable its commits will be, for engines where that is a mode of
    /// the open store.
    fn prepare(&self, _durability: Durability) -> Result<()> {
        Ok(())
    }
    /// Its ways through rows in key order, if they are measured.
    fn ordered(&self) -> Option<&dyn Ordered> {
        None
    }
    /// Its ways that are measured against its own.
    fn scans(&self) -> Option<&dyn Scans> {
        None
    }
}

/// Makes or opens a store of postings.
pub(crate) type OpenIndexed = fn(&Path) -> Result<Box<dyn Indexed>>;

/// An engine that can be measured.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is called in the table.
    pub(crate) title: &'static str,
    /// Makes a store in an empty folder, or opens the one that is there.
    pub(crate) open: fn(&Path) -> Result<Box<dyn Engine>>,
    /// The same for a store of postings, if those are measured.
    pub(crate) open_indexed: Option<OpenIndexed>,
    /// Whether it stores rows at all; `bare` only commits.
    pub(crate) stores: bool,
    /// Whether commits that do not wait for the disk can be had.
    pub(crate) relaxed: bool,
    /// Bytes of journal that an open after a kill has to replay, from the folder alone.
    pub(crate) journal_bytes: Option<fn(&Path) -> Result<u64>>,
    /// Takes away from a closed or killed store what would not be trusted after a power cut.
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

/// The engine of that name.
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

    /// Every engine keeps what it was given, over a close too, and finds nothing else.
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
    fn an_unknown_name_lists_the_known_ones() {
        let message = find("oracle").err().unwrap().to_string();
        assert!(message.contains("\"oracle\"") && message.contains("lmdb"), "{message}");
    }
}

//! What the loads of one process share: a folder with their stores, and a clock that is used once a load.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pongo::prelude::*;

use crate::records::{Trade, trade};

/// Errors of whatever part end the program.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A load: operations that are timed together.
pub(crate) struct Load {
    /// Name on the command line and in the table.
    pub(crate) name: &'static str,
    /// Name of one operation: `row`, `key`, `commit` …
    pub(crate) unit: &'static str,
    /// It waits for the disk: dirty data are written out before it.
    pub(crate) disk: bool,
    /// Its instructions can be counted: not if another thread or process does the work.
    pub(crate) counted: bool,
    /// Description of what is timed.
    pub(crate) what: &'static str,
    /// Prepares without the clock and runs the operations within it. Called several times in a process.
    pub(crate) run: fn(&mut World, &mut Clock) -> Outcome,
}

/// Times one section of a load.
#[derive(Default)]
pub(crate) struct Clock {
    took: Vec<(Duration, u64)>,
}

impl Clock {
    /// Runs and times the operations of a load, of which there are so many.
    pub(crate) fn time(&mut self, operations: u64, mut run: impl FnMut() -> Outcome) -> Outcome {
        let mut outcome = Ok(());
        let took = pongo_base_timed(&mut || outcome = run());
        self.took(took, operations);
        outcome
    }

    /// Adds a time that was taken elsewhere.
    pub(crate) fn took(&mut self, took: Duration, operations: u64) {
        self.took.push((took, operations.max(1)));
    }

    /// Returns the time, if exactly one was taken.
    pub(crate) fn read(self) -> Option<(Duration, u64)> {
        match self.took.as_slice() {
            [once] => Some(*once),
            _ => None,
        }
    }
}

/// All that is timed in this process runs within this function and nothing else does: callgrind is told to
/// count inside it, and to write its counts when it returns. Therefore it has a symbol of its own and is
/// never inlined.
// SAFETY: no other symbol of this program or of a library has this name.
#[unsafe(no_mangle)]
#[inline(never)]
fn pongo_base_timed(run: &mut dyn FnMut()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}

/// The stores of one process.
pub(crate) struct World {
    folder: PathBuf,
    /// Rows of the main table.
    pub(crate) rows: u64,
    trades: Option<Store>,
    /// The number of the next row that is committed to the main table.
    next: u64,
    /// Seeds: every run of a load asks for other keys.
    seed: u64,
    /// The store of versions of [`crate::growth`], and its old snapshot.
    pub(crate) versions: Option<(Store, Snapshot)>,
}

impl World {
    pub(crate) fn new(folder: &Path, rows: u64) -> Outcome<World> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.to_owned();
        Ok(World { folder, rows, trades: None, next: rows, seed: 0, versions: None })
    }

    /// Returns so many for each million rows of the main table, at least one.
    pub(crate) fn per_million(&self, number: u64) -> u64 {
        (self.rows * number / 1_000_000).max(1)
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }

    /// Returns numbers of rows that the main table does not have yet.
    pub(crate) fn fresh_numbers(&mut self, count: u64) -> std::ops::Range<u64> {
        self.next += count;
        self.next - count..self.next
    }

    /// Returns the path of a store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Creates an empty store. Removes a closed store with this name first.
    pub(crate) fn empty(&self, name: &str) -> Outcome<Store> {
        self.remove(name)?;
        open(&self.path(name))
    }

    /// Removes a closed store.
    pub(crate) fn remove(&self, name: &str) -> Outcome {
        let path = self.path(name);
        if path.exists() {
            std::fs::remove_dir_all(path)?;
        }
        Ok(())
    }

    /// Loads the main table anew into an empty store: within the clock if one is given. Its ordered index has
    /// yet to be brought up then, which a thread of the library may have begun.
    pub(crate) fn load_trades(&mut self, clock: Option<&mut Clock>) -> Outcome<Store> {
        self.trades = None;
        let store = self.empty("trades")?;
        let rows = self.rows;
        let load = || {
            let mut tx = store.begin_write()?;
            {
                let mut trades = tx.table::<Trade>()?;
                let _ = trades.extend((0..rows).map(trade))?;
            }
            let _ = tx.commit()?;
            Ok(())
        };
        match clock {
            Some(clock) => clock.time(rows, load)?,
            None => load()?,
        }
        (self.trades, self.next) = (Some(store.clone()), rows);
        Ok(store)
    }

    /// Returns the main store with all its rows.
    pub(crate) fn trades(&mut self) -> Outcome<Store> {
        match &self.trades {
            Some(store) => Ok(store.clone()),
            None => {
                let store = self.load_trades(None)?;
                store.settle()?;
                Ok(store)
            }
        }
    }

    /// Closes the main store, which keeps its rows, runs `within` on its path and opens it again.
    pub(crate) fn while_closed(&mut self, within: impl FnOnce(&Path) -> Outcome) -> Outcome {
        drop(self.trades()?);
        if let Some(store) = self.trades.take() {
            store.close()?;
        }
        let path = self.path("trades");
        within(&path)?;
        self.trades = Some(open(&path)?);
        Ok(())
    }
}

/// Opens or makes a store with default options.
pub(crate) fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: the folder is this run's own, and nothing but PongoDB writes to the files in it.
    Ok(unsafe { Store::open(path) }?)
}

/// Checks a result. The error names what was expected and what was found.
pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, found {found:?}").into())
    }
}

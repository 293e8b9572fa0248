//! State that the loads of one process share: a folder with their stores, and a clock that each
//! load uses once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pongo::prelude::*;

use crate::records::{Trade, trade};

/// Result of any step; an error ends the program.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A load: operations that are timed together.
pub(crate) struct Load {
    /// Name on the command line and in the table.
    pub(crate) name: &'static str,
    /// Name of one operation: `row`, `key`, `commit` …
    pub(crate) unit: &'static str,
    /// Whether the load waits for the disk; if so, dirty pages are written out before it runs.
    pub(crate) disk: bool,
    /// Whether its instructions can be counted: not if another thread or process does the work.
    pub(crate) counted: bool,
    /// Description of what is timed.
    pub(crate) what: &'static str,
    /// Prepares untimed, then runs the operations within the clock. Called several times in a
    /// process.
    pub(crate) run: fn(&mut World, &mut Clock) -> Outcome,
}

/// A clock for one section of a load.
#[derive(Default)]
pub(crate) struct Clock {
    took: Vec<(Duration, u64)>,
}

impl Clock {
    /// Runs and times a load with this number of operations.
    pub(crate) fn time(&mut self, operations: u64, mut run: impl FnMut() -> Outcome) -> Outcome {
        let mut outcome = Ok(());
        let took = pongo_base_timed(&mut || outcome = run());
        self.took(took, operations);
        outcome
    }

    /// Adds a time that was measured elsewhere.
    pub(crate) fn took(&mut self, took: Duration, operations: u64) {
        self.took.push((took, operations.max(1)));
    }

    /// Returns the time if exactly one was recorded.
    pub(crate) fn read(self) -> Option<(Duration, u64)> {
        match self.took.as_slice() {
            [once] => Some(*once),
            _ => None,
        }
    }
}

/// Runs a timed section. All timed code of this process, and nothing else, runs within this
/// function: callgrind is told to count inside it, and to write its counts when it returns.
/// Therefore it has its own symbol and is never inlined.
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
    /// Number of rows of the main table.
    pub(crate) rows: u64,
    trades: Option<Store>,
    /// Number of the next row to commit to the main table.
    next: u64,
    /// Last seed used; every run of a load reads other keys.
    seed: u64,
    /// The store of the version loads of [`crate::growth`], and a snapshot from before the updates.
    pub(crate) versions: Option<(Store, Snapshot)>,
}

impl World {
    pub(crate) fn new(folder: &Path, rows: u64) -> Outcome<World> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.to_owned();
        Ok(World { folder, rows, trades: None, next: rows, seed: 0, versions: None })
    }

    /// Returns `number` for each million rows of the main table, at least one.
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

    /// Loads the main table into an empty store, within the clock if one is given. Its ordered
    /// index still has to catch up afterwards; a background thread of the library may already do
    /// so.
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

    /// Returns the main store with all its rows. Creates it if necessary.
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

    /// Closes the main store, which keeps its rows, calls `within` with its path and opens it
    /// again.
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

/// Opens or creates a store with default options.
pub(crate) fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: the folder belongs to this run, and only PongoDB writes to the files in it.
    Ok(unsafe { Store::open(path) }?)
}

/// Checks a result. The error contains the expected and the found value.
pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, found {found:?}").into())
    }
}

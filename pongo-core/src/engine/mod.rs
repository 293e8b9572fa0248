//! The engine: one open store in one process.
//!
//! | module | purpose |
//! | --- | --- |
//! | this one | composition of the parts; what a read transaction pins; the list of tables |
//! | `open` | creating a store, opening it, joining other processes, closing |
//! | `recover` | from the newest checkpoint to the last complete entry |
//! | `take_over` | from what another process published or left in the journal to writing here |
//! | `apply` | applying one journal entry: the same for recovery, take-over and commit |
//! | `gate` | who may write: the writer lock, in this process and between processes |
//! | `transaction` | one write transaction before its commit |
//! | `staged` | heap items of a transaction before its commit |
//! | `commit` | the path of one transaction from staged bytes to acknowledgement |
//! | `alloc` | rows that a transaction fills in place |
//! | `pipeline` | syncs shared by waiting commits; publishing in order |
//! | `block_sums` | checksums of blocks that entries since the newest checkpoint reference |
//! | `checkpoint` | the point from which recovery replays |
//! | `indexer` | the interface to the layer that knows keys |

#[allow(unsafe_code, reason = "returns bytes after everything that is applied")]
mod alloc;
#[forbid(unsafe_code)]
mod apply;
#[forbid(unsafe_code)]
mod block_sums;
#[allow(unsafe_code, reason = "sums bytes below the applied length")]
mod checkpoint;
#[forbid(unsafe_code)]
mod commit;
#[forbid(unsafe_code)]
mod gate;
#[forbid(unsafe_code)]
mod indexer;
#[forbid(unsafe_code)]
mod open;
#[forbid(unsafe_code)]
mod pipeline;
#[forbid(unsafe_code)]
mod recover;
#[forbid(unsafe_code)]
mod staged;
#[forbid(unsafe_code)]
mod take_over;
#[forbid(unsafe_code)]
mod transaction;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

pub use alloc::NewRows;
pub use commit::{Durability, TableWriteBatch, WriteBatch};
pub use indexer::{CrashBounds, IndexError, Indexer, Replay, TableChange};
pub use transaction::EngineTransaction;

pub use crate::control::Wait;

use crate::control::Control;
use crate::error::{ReadError, StorageError};
use crate::fork::ForkGuard;
use crate::guard::removable;
use crate::ids::TableId;
use crate::schema::StoredSchema;
use crate::snapshot_tracker::{Pin, SnapshotTracker};
use crate::space::{Sizes, Space, SpaceView};
use crate::state::{HeapState, StoreState};
use crate::storage::Storage;
use crate::table::TableCore;
use gate::Gate;
use pipeline::Pipeline;

/// Options for opening a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineOptions {
    /// Sizes of chunks and address ranges.
    pub sizes: Sizes,
    /// Number of journal bytes after which a commit writes a checkpoint (default 64 MiB). More
    /// means fewer checkpoints and longer recovery.
    pub checkpoint_bytes: u64,
    /// Number of bytes of rows and heap items that a transaction holds in memory before it writes
    /// further ones to the chunks (default 64 MiB).
    pub transaction_memory: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { sizes: Sizes::default(), checkpoint_bytes: 64 << 20, transaction_memory: 64 << 20 }
    }
}

/// One open store in one process.
pub struct Engine {
    storage: Arc<dyn Storage>,
    options: EngineOptions,
    store: u128,
    control: Arc<Control>,
    pins: SnapshotTracker,
    fork: ForkGuard,
    heap: Space,
    tables: RwLock<Vec<Arc<TableCore>>>,
    gate: Gate,
    pipeline: Pipeline,
    /// Whether the recovery that created this engine did not complete: then the store must not be
    /// closed as clean.
    unfinished: AtomicBool,
    /// A number that identifies this open store among all that write to the store.
    owner: u64,
    indexer: Arc<dyn Indexer>,
    /// The newest published state that this process has seen, with the number of its record.
    latest: RwLock<(u64, Arc<StoreState>)>,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("store", &self.storage.name()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Returns the store's number, chosen at random when it was created.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.store
    }

    /// Returns the storage that holds the store.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Returns the options with which the store was opened.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Pins the newest published state, for a snapshot. The caller passes the pin to
    /// [`unpin`](Self::unpin).
    #[inline]
    pub(crate) fn pin_newest(&self) -> Result<(Arc<StoreState>, Pin), ReadError> {
        self.ensure_reader_not_forked()?;
        self.control.retry_shared();
        self.pins.prepare()?;
        Ok(self.pins.pin_newest(|| self.newest(), |state| state.seq))
    }

    /// Syncs the journal unless the commits of `state` are durable already.
    pub(crate) fn make_durable(&self, state: &StoreState) -> Result<(), StorageError> {
        let is_durable = || state.journal_end <= self.control.durable();
        if is_durable() {
            return Ok(());
        }
        let path = crate::journal::path_of(state.segment);
        let file = match self.storage.open(&path) {
            // A segment is synced before the next one is started, and is removed only once a
            // checkpoint is durable.
            Err(_) if is_durable() => return Ok(()),
            opened => opened.map_err(StorageError::io("opening", path.as_str()))?,
        };
        removable!("read.durable.sync", file.sync()).map_err(|error| {
            let fault = StorageError::io("syncing", path.as_str())(error);
            self.poison(&fault.to_string());
            fault
        })?;
        if self.control.is_poisoned() {
            // If the failure was reported to another descriptor, this sync returns success
            // nevertheless.
            let error = std::io::Error::other("another sync of it failed, and the store is poisoned");
            return Err(StorageError::io("syncing", path.as_str())(error));
        }
        self.control.note_durable(state.journal_end);
        Ok(())
    }

    /// Returns the current recovery generation.
    #[must_use]
    pub fn salt(&self) -> u64 {
        self.control.salt().0
    }

    /// Returns whether a write or sync of the store failed, in any process.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.control.is_poisoned()
    }

    pub(crate) fn ensure_reader_not_forked(&self) -> Result<(), ReadError> {
        if self.fork.is_child() { Err(ReadError::Forked) } else { Ok(()) }
    }

    /// Returns whether this process is a child, created by `fork`, of the one that opened the
    /// store. This handle then does nothing any more, and the store must be opened again.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.fork.is_child()
    }

    fn newest(&self) -> Arc<StoreState> {
        let counter = self.control.published_counter();
        {
            let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
            if latest.0 == counter {
                return Arc::clone(&latest.1);
            }
        }
        let (counter, state) = self.control.published();
        let state = Arc::new(state);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if counter > latest.0 {
            *latest = (counter, Arc::clone(&state));
        }
        state
    }

    /// Panics if the table belongs to another store, or to another handle of the same store.
    #[inline]
    pub(crate) fn assert_own(&self, table: &TableCore) {
        table.assert_of(&self.control);
    }

    pub(crate) fn unpin(&self, pin: &Pin) {
        if !self.fork.is_child() {
            self.pins.unpin(pin);
        }
    }

    /// Returns the table of that name among the first `count`.
    pub(crate) fn table_named(&self, name: &str, count: usize) -> Result<Option<Arc<TableCore>>, ReadError> {
        let find = |tables: &[Arc<TableCore>]| {
            tables.iter().take(count).find(|table| table.schema().table == name).cloned()
        };
        {
            let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(table) = find(&tables) {
                return Ok(Some(table));
            }
            if tables.len() >= count {
                return Ok(None);
            }
        }
        self.load_tables(count)?;
        Ok(find(&self.tables.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Returns the first `count` tables.
    pub(crate) fn tables_to(&self, count: usize) -> Result<Vec<Arc<TableCore>>, StorageError> {
        self.load_tables(count)?;
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables.iter().take(count).cloned().collect())
    }

    fn table(&self, id: TableId) -> Option<Arc<TableCore>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).get(id.0 as usize).cloned()
    }

    /// Reads the schema files of tables that other processes created, until `count` tables are
    /// known.
    fn load_tables(&self, count: usize) -> Result<(), StorageError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        while tables.len() < count {
            let id = TableId(tables.len() as u32);
            let schema = read_schema(&*self.storage, id)?;
            tables.push(self.table_core(id, schema)?);
        }
        Ok(())
    }

    fn table_core(&self, id: TableId, schema: StoredSchema) -> Result<Arc<TableCore>, StorageError> {
        let table = TableCore::new(&self.storage, &self.control, self.store, id, schema, self.options.sizes)?;
        let table = Arc::new(table);
        self.storage.note_idle(Arc::downgrade(&table) as _);
        Ok(table)
    }

    pub(crate) fn heap_view(&self, state: HeapState) -> Result<Arc<SpaceView>, StorageError> {
        self.heap.view_to(state.len, state.summed)
    }

    /// Returns the number of bytes on disk: rows and heap.
    #[must_use]
    pub fn space_usage(&self) -> SpaceUsage {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        SpaceUsage {
            rows: tables.iter().map(|table| table.space.disk_bytes()).sum(),
            heap: self.heap.disk_bytes(),
        }
    }
}

/// Bytes of the files that this process knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpaceUsage {
    /// Bytes of the tables' chunks.
    pub rows: u64,
    /// Bytes of the heap's chunks.
    pub heap: u64,
}

const SCHEMA_DIR: &str = "schema";
/// Schema files have at most this many bytes.
const LARGEST_SCHEMA: u64 = 4 << 20;

fn schema_path(id: TableId, version: u32) -> String {
    format!("{SCHEMA_DIR}/{}.{version}.schema", id.0)
}

/// Reads the schema of table `id`.
fn read_schema(storage: &dyn Storage, id: TableId) -> Result<StoredSchema, StorageError> {
    let path = schema_path(id, 1);
    let file = match storage.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StorageError::corrupt(
                path,
                0,
                "the schema of a table that was committed",
                "no such file",
            ));
        }
        opened => opened.map_err(StorageError::io("opening", path.as_str()))?,
    };
    let len = file.len().map_err(StorageError::io("measuring", path.as_str()))?;
    if len > LARGEST_SCHEMA {
        return Err(StorageError::corrupt(path, 0, "a schema file", format!("a file of {len} bytes")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_at(&mut bytes, 0).map_err(StorageError::io("reading", path.as_str()))?;
    StoredSchema::parse_bytes(&bytes).map_err(|error| {
        StorageError::corrupt(path, 0, "a schema file with a right checksum", error.to_string())
    })
}

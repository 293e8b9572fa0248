//! The ordered indexes of a store: where their blocks are stored, and which indexes are open.
//!
//! | module | purpose |
//! | --- | --- |
//! | this one | [`OrderedIndexes`]: the block store, opened on first use, quarantined when corrupt |
//! | `index` | [`OrderedIndex`]: one index: pairs in blocks, recent rows in memory, catch-up |
//! | `keys` | where a row's key comes from, and which keys are within bounds |
//! | `limits` | a range of pairs |
//! | `stream` | pairs from all sources in key order, from both ends |
//! | `newest` | the newest version of one key |
//! | `recent` | [`Recent`](recent::Recent): sorted recent rows, and stretches to skip |
//! | `sources` | a stream's sources: blocks and recent rows |
//! | `scan` | the same pairs from a scan of the rows alone |
//! | `memory` | the memory budget for sorted rows |
//! | `worker` | the background thread that keeps indexes from lagging |
//!
//! Index entries are verified against the rows: see `docs/design/ordered-index.md`.

mod index;
mod keys;
mod limits;
mod memory;
mod newest;
mod own;
mod recent;
mod scan;
mod sources;
mod stream;
mod worker;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use pongo_core::table::TableCore;
use pongo_index::Encoding;
use pongo_index::ordered::{
    BlockStore, Folder, MemoryBlocks, OrderedError, OrderedStore, SledBlocks, StoreError, bytes_on_disk,
    identity, quarantine,
};

pub(crate) use index::{CatchUp, OrderedIndex};
pub(crate) use keys::{KeyEncoder, prefix_limits};
pub(crate) use limits::{Limits, Pair};
pub(crate) use memory::Memory;
pub(crate) use newest::newest;
pub(crate) use own::{OwnRows, Passed};
pub(crate) use recent::Recent;
pub(crate) use stream::Stream;
pub(crate) use worker::{IndexWorker, catch_up_all};

/// Where the blocks of a store's ordered indexes are stored.
#[derive(Clone, Debug)]
pub(crate) enum IndexStorage {
    /// In memory, for the store's lifetime.
    Memory,
    /// In sled, in this folder of a store.
    Folder(Arc<Folder>),
    /// Not stored: ranges are answered from the rows. Other processes may store blocks in this
    /// folder.
    Disabled(Option<Arc<Folder>>),
}

/// Size thresholds. Tests use smaller values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tuning {
    /// Tables with at most this many rows are sorted in memory and need no file.
    pub(crate) small: u64,
    /// Bytes of memory for the sorted rows of all indexes. Each range scans the rows that do not
    /// fit.
    pub(crate) memory: u64,
    /// The same limit as a number of rows per index, for tests.
    pub(crate) in_memory: u64,
    /// Maximum number of rows merged at once. Sorting takes 20 bytes plus the key per row, or 4
    /// bytes plus twice the key.
    pub(crate) slice: u64,
    /// Maximum number of pairs that a scan keeps per pass.
    pub(crate) kept: usize,
    /// Minimum size on disk, in bytes, at which compaction is considered. With 0, the blocks are
    /// always compacted.
    pub(crate) compact_from: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            small: 16_384,
            memory: 256 << 20,
            in_memory: u64::MAX,
            slice: 16 << 20,
            kept: 1 << 18,
            compact_from: 8 << 20,
        }
    }
}

impl Tuning {
    /// Returns how many rows, and how many pairs of deleted rows, an index may lag before it is
    /// brought up to date, given the table's number of live rows.
    fn allowed_lag(&self, live: u64) -> u64 {
        (live / 8).clamp(self.small, self.slice.max(self.small))
    }
}

/// State of the block store in this process.
#[derive(Debug)]
enum OpenState {
    Closed,
    Open(Arc<OrderedStore>),
    /// Unavailable for now; opening is retried after [`REFUSED_FOR`].
    Unavailable {
        reason: String,
        at: Instant,
    },
    /// Inherited through `fork`, or the store is being closed.
    Detached,
}

/// Time before opening a refused block store is retried.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// Sorted rows that no range has used for this long are freed when another index needs memory.
const IDLE: Duration = Duration::from_secs(10);

/// Reference time of the idle clock.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Blocks are compacted when their files take more than this multiple of the blocks' bytes. A
/// compacted copy takes about twice those bytes, and a merge that rewrites all blocks adds about
/// twice as much again, so not every one of several consecutive merges is followed by a compaction.
const COMPACT_AT: u64 = 4;

/// The ordered indexes of one store in one process.
#[derive(Debug)]
pub(crate) struct OrderedIndexes {
    home: IndexStorage,
    tuning: Tuning,
    /// Lock order: `held`, then `indexes`, then an index's state.
    held: Mutex<OpenState>,
    indexes: RwLock<Vec<Arc<OrderedIndex>>>,
    /// Number of times the blocks were quarantined.
    quarantined: AtomicU64,
    /// Reason of the last quarantine.
    last_error: Mutex<Option<String>>,
    /// Size on disk, in bytes, up to which the blocks are not compacted.
    compact_beyond: AtomicU64,
    memory: Arc<Memory>,
}

/// Result of [`OrderedIndexes::state`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OrderedState {
    /// Whether this process has the block store open.
    pub(crate) held: bool,
    /// Reason why it is not open, if this process tried to open it.
    pub(crate) unavailable_reason: Option<String>,
    pub(crate) quarantined: u64,
    pub(crate) last_error: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns where an index over these fields takes its keys from, or `None` if they cannot be
/// ordered.
fn key_source(core: &TableCore, fields: &[usize]) -> Option<KeyEncoder> {
    let schema = core.schema();
    match schema.external_key() {
        Some(offset) if schema.key == fields => Some(KeyEncoder::Heap { offset }),
        _ => Encoding::new(schema, fields).map(KeyEncoder::Fields),
    }
}

/// Folder of all files of the ordered indexes within a store's folder, and sled's folder in it.
const FOLDER: &str = "ordered";
const SLED: &str = "ordered/sled";

/// Maximum length, in bytes, of sled's `db` file if nothing was ever merged into it. Used where no
/// note records whether there were roots.
const LEN_OF_NEW: u64 = 2 << 20;

/// Quarantines the blocks, if their files are still the ones that were `found` damaged.
fn quarantine_blocks(store: &Folder, found: Option<(u64, u64)>) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        doing: "quarantine",
        path: store.shown().join(SLED).display().to_string(),
        source,
    };
    let path = store.path().map_err(failed)?;
    quarantine(&path.join(SLED), found).map(|_| ())
}

fn len_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

impl OrderedIndexes {
    pub(crate) fn new(home: IndexStorage, tuning: Tuning) -> Self {
        Self {
            home,
            tuning,
            held: Mutex::new(OpenState::Closed),
            indexes: RwLock::default(),
            quarantined: AtomicU64::new(0),
            last_error: Mutex::default(),
            compact_beyond: AtomicU64::new(0),
            memory: Memory::new(tuning.memory),
        }
    }

    /// Returns the memory budget for sorted rows.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Frees the sorted rows of all idle indexes except this one. Returns whether any were freed.
    /// Does not block, so the state of `but` may be locked.
    fn free_idle(&self, but: &OrderedIndex) -> bool {
        let Ok(indexes) = self.indexes.try_read() else { return false };
        let mut freed = false;
        for index in indexes.iter().filter(|index| !std::ptr::eq(&***index, but)) {
            freed |= index.free_runs_if_idle(IDLE);
        }
        freed
    }

    /// Returns whether blocks are stored at all.
    pub(crate) fn is_enabled(&self) -> bool {
        !matches!(self.home, IndexStorage::Disabled(_))
    }

    /// Returns the index of a table over these fields, or `None` if they cannot be ordered. Creates
    /// it on first use.
    pub(crate) fn index(&self, core: &Arc<TableCore>, fields: &[usize]) -> Option<Arc<OrderedIndex>> {
        let is_it = |known: &&Arc<OrderedIndex>| known.is(core, fields);
        if let Some(known) = self.indexes.read().unwrap_or_else(PoisonError::into_inner).iter().find(is_it) {
            return Some(Arc::clone(known));
        }
        let keys = key_source(core, fields)?;
        let mut indexes = self.indexes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = indexes.iter().find(is_it) {
            return Some(Arc::clone(known));
        }
        let index = Arc::new(OrderedIndex::new(core, fields, keys, self.tuning));
        indexes.push(Arc::clone(&index));
        Some(index)
    }

    /// Creates an index for a table that may never be committed. It is not registered, so no other
    /// caller sees it.
    pub(crate) fn index_uncached(
        &self,
        core: &Arc<TableCore>,
        fields: &[usize],
    ) -> Option<Arc<OrderedIndex>> {
        let keys = key_source(core, fields)?;
        Some(Arc::new(OrderedIndex::new(core, fields, keys, self.tuning)))
    }

    /// Returns the index of the table's key, the indexes that its schema declares, and those
    /// already opened.
    pub(crate) fn indexes_of(&self, core: &Arc<TableCore>) -> Vec<Arc<OrderedIndex>> {
        let schema = core.schema();
        let mut found: Vec<_> = self.index(core, &schema.key).into_iter().collect();
        found.extend(schema.indexes.iter().filter_map(|index| self.index(core, &index.fields)));
        // Indexes that only a program's record type declares.
        for known in &*self.indexes.read().unwrap_or_else(PoisonError::into_inner) {
            if Arc::ptr_eq(known.core(), core) && !found.iter().any(|index| Arc::ptr_eq(index, known)) {
                found.push(Arc::clone(known));
            }
        }
        found
    }

    /// Returns the block store if this process has it open.
    pub(crate) fn open_store(&self) -> Option<Arc<OrderedStore>> {
        match &*lock(&self.held) {
            OpenState::Open(store) => Some(Arc::clone(store)),
            _ => None,
        }
    }

    /// Calls `then` if this block store is the one in use. It cannot be quarantined during the
    /// call.
    fn while_held(&self, store: &Arc<OrderedStore>, then: impl FnOnce()) {
        let held = lock(&self.held);
        if matches!(&*held, OpenState::Open(known) if Arc::ptr_eq(known, store)) {
            then();
        }
    }

    /// Returns the block store, opening it if necessary. Returns `None` if it is unavailable, for
    /// example because another process has it open.
    pub(crate) fn store(&self) -> Option<Arc<OrderedStore>> {
        let mut held = lock(&self.held);
        match &*held {
            OpenState::Open(store) => return Some(Arc::clone(store)),
            OpenState::Detached => return None,
            OpenState::Unavailable { at, .. } if at.elapsed() < REFUSED_FOR => return None,
            OpenState::Closed | OpenState::Unavailable { .. } => {}
        }
        match self.open() {
            Ok(Some(store)) => {
                let store = Arc::new(store);
                *held = OpenState::Open(Arc::clone(&store));
                Some(store)
            }
            Ok(None) => None,
            Err(error) => {
                *held = OpenState::Unavailable { reason: error.to_string(), at: Instant::now() };
                None
            }
        }
    }

    fn open(&self) -> Result<Option<OrderedStore>, OrderedError> {
        let folder = match &self.home {
            IndexStorage::Disabled(_) => return Ok(None),
            IndexStorage::Memory => return OrderedStore::open(Box::new(MemoryBlocks::default())).map(Some),
            IndexStorage::Folder(folder) => folder,
        };
        let in_sled = || folder.path().map(|path| path.join(SLED));
        let (len_before, had_roots, before) = in_sled().map_or((0, false, None), |path| {
            (len_of(&path.join("db")), SledBlocks::had_roots(&path), identity(&path))
        });
        let open = || {
            let blocks: Box<dyn BlockStore> = Box::new(SledBlocks::open_in(folder, SLED)?);
            OrderedStore::open(blocks)
        };
        let opened = open().and_then(|store| {
            if store.is_new() && (had_roots || len_before > LEN_OF_NEW) {
                // sled can open damaged files with some or all entries missing.
                let _ = store.close();
                let path = folder.shown().join(SLED);
                let what = format!(
                    "{}: expected what {len_before} bytes of `db` once held, found nothing",
                    path.display()
                );
                return Err(OrderedError::Damaged { what });
            }
            Ok(store)
        });
        let (store, had_roots) = match opened {
            Err(OrderedError::Damaged { what }) => {
                self.record_corruption(&what);
                // If there was no file before, sled has created one.
                let found = before.or_else(|| in_sled().ok().and_then(|path| identity(&path)));
                quarantine_blocks(folder, found)?;
                (open()?, false)
            }
            opened => (opened?, had_roots),
        };
        if !had_roots {
            // Without the note, loss of all entries may go undetected later; nothing is wrong now.
            let _ = in_sled().and_then(|path| SledBlocks::note_roots(&path));
        }
        Ok(Some(store))
    }

    /// Returns the block store, opening it if its files exist. Creates nothing.
    pub(crate) fn store_if_any(&self) -> Option<Arc<OrderedStore>> {
        let is_there = match &self.home {
            IndexStorage::Folder(folder) => {
                folder.path().is_ok_and(|path| path.join(SLED).join("db").exists())
            }
            IndexStorage::Memory | IndexStorage::Disabled(_) => false,
        };
        if is_there { self.store() } else { self.open_store() }
    }

    /// Returns the bytes that the ordered indexes take on disk, no matter which process has them
    /// open.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let (IndexStorage::Folder(folder) | IndexStorage::Disabled(Some(folder))) = &self.home else {
            return 0;
        };
        folder.path().and_then(|path| bytes_on_disk(&path.join(FOLDER))).unwrap_or(0)
    }

    fn record_corruption(&self, what: &str) {
        self.quarantined.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(what.to_owned());
    }

    /// Handles an error from reading or merging blocks. Damaged blocks are quarantined and rebuilt
    /// from an empty store; after other errors, such as a full disk, the store is closed and opened
    /// again later. `Stopped` and `Keys` say nothing about the blocks and are ignored.
    ///
    /// `store` is the one that failed. Returns `false`, and changes nothing, if it is no longer the
    /// one in use.
    pub(crate) fn handle_corruption(&self, store: &Arc<OrderedStore>, error: &OrderedError) -> bool {
        if matches!(error, OrderedError::Stopped | OrderedError::Keys { .. }) {
            return true;
        }
        let mut held = lock(&self.held);
        if !matches!(&*held, OpenState::Open(known) if Arc::ptr_eq(known, store)) {
            return false;
        }
        let found = store.identity();
        let _ = store.close();
        let damaged = matches!(error, OrderedError::Damaged { .. } | OrderedError::KeyTooLong { .. });
        *held = if damaged {
            self.record_corruption(&error.to_string());
            match &self.home {
                IndexStorage::Folder(folder) => match quarantine_blocks(folder, found) {
                    Ok(()) => OpenState::Closed,
                    Err(error) => OpenState::Unavailable { reason: error.to_string(), at: Instant::now() },
                },
                _ => OpenState::Closed,
            }
        } else {
            OpenState::Unavailable { reason: error.to_string(), at: Instant::now() }
        };
        for index in &*self.indexes.read().unwrap_or_else(PoisonError::into_inner) {
            index.forget_blocks();
        }
        true
    }

    /// Returns the state of the block store in this process.
    pub(crate) fn state(&self) -> OrderedState {
        let held = lock(&self.held);
        OrderedState {
            held: matches!(&*held, OpenState::Open(_)),
            unavailable_reason: match &*held {
                OpenState::Unavailable { reason, .. } => Some(reason.clone()),
                _ => None,
            },
            quarantined: self.quarantined.load(Ordering::Relaxed),
            last_error: lock(&self.last_error).clone(),
        }
    }

    /// Compacts the block store if that frees enough space: after many merges sled takes several
    /// times the space that it needs.
    pub(crate) fn compact(&self, store: &Arc<OrderedStore>) {
        let outcome = store.stats().and_then(|stats| {
            let from = self.tuning.compact_from;
            let beyond =
                (COMPACT_AT * stats.block_bytes + from).max(self.compact_beyond.load(Ordering::Relaxed));
            if stats.disk_bytes <= beyond && from > 0 {
                return Ok(());
            }
            // Raised first, so that a compaction that fails or frees little is not repeated at
            // once.
            self.compact_beyond.store(stats.disk_bytes + stats.disk_bytes / 2, Ordering::Relaxed);
            store.compact()?;
            let after = store.stats()?.disk_bytes;
            self.compact_beyond.store(after + after / 2, Ordering::Relaxed);
            Ok(())
        });
        if let Err(error) = outcome
            && (matches!(error, OrderedError::Damaged { .. }) || !store.is_open())
        {
            self.handle_corruption(store, &error);
        }
    }

    /// Closes the block store permanently.
    pub(crate) fn close(&self) {
        let before = std::mem::replace(&mut *lock(&self.held), OpenState::Detached);
        if let OpenState::Open(store) = before {
            let _ = store.close();
        }
    }

    /// Detaches the block store in a child created by `fork`. It belongs to the parent and is not
    /// touched.
    pub(crate) fn forget(&self) {
        // A thread of the parent may have held the lock at the time of the fork; then it is never
        // released.
        if let Ok(mut held) = self.held.try_lock()
            && let OpenState::Open(store) = std::mem::replace(&mut *held, OpenState::Detached)
        {
            store.forget();
            std::mem::forget(store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[crate::record]
    #[pongo(table = "events")]
    struct Event {
        #[pongo(key)]
        id: u64,
        #[pongo(index)]
        kind: u64,
    }

    #[test]
    fn what_nobody_asks_for_makes_room() -> Result<(), Box<dyn std::error::Error>> {
        const ROWS: u64 = 10_000;
        let store = Options::new().ordered(false).index_memory(ROWS * 20).in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Event>()?.extend((0..ROWS).map(|id| Event { id, kind: id % 7 }))?;
        // Replacing every second row leaves a deleted version, which takes no memory.
        for id in (0..ROWS).step_by(2) {
            tx.table::<Event>()?.put(&Event { id, kind: 8 })?;
        }
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let events = snapshot.table::<Event>()?;
        let ordered = &store.shared.ordered;
        let scanned =
            || store.stats().map(|stats| [0, 1].map(|index| stats.tables[0].indexes[index].scanned));
        assert_eq!(events.range(..)?.count() as u64, ROWS);
        // 16 bytes per row, plus the memory reserved for deleted rows among the last live ones.
        let takes_one = || (ROWS * 16..ROWS * 17).contains(&ordered.memory().used());
        assert!(scanned()?[0] == 0 && takes_one(), "{}", ordered.memory().used());
        assert_eq!(events.by(Event::KIND).eq(8)?.count() as u64, ROWS / 2);
        assert!(scanned()?[1] > 0);
        let indexes = ordered.indexes_of(&snapshot.inner().tables()?[0]);
        assert!(!ordered.free_idle(&indexes[1]), "it was asked for just now");
        assert!(
            indexes[0].free_runs_if_idle(Duration::ZERO) && !indexes[0].free_runs_if_idle(Duration::ZERO)
        );
        assert_eq!(events.by(Event::KIND).eq(8)?.count() as u64, ROWS / 2);
        assert!(scanned()?[1] == 0 && takes_one(), "{}", ordered.memory().used());
        assert_eq!(events.range(..)?.count() as u64, ROWS);
        Ok(())
    }
}

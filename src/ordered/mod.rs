//! The ordered indexes of a store: where their blocks lie, and which of them are known.
//!
//! | file | what it owns |
//! | --- | --- |
//! | here | [`Ordered`]: the blocks, opened when first needed; set aside when doubtful |
//! | `index` | [`OrderedIndex`]: one index: what lies in blocks, the rows behind it in memory, bringing the one up to the other |
//! | `keys` | where a row's key comes from |
//! | `stream` | pairs of both in order, from both ends |
//! | `newest` | the newest version of one key |
//! | `recent` | [`Recent`](recent::Recent): recent rows, sorted, and which of them are passed over together |
//! | `sides` | where its pairs come from: blocks, and recent rows |
//! | `scan` | the same from the rows alone |
//! | `memory` | what sorted rows take, and may take |
//! | `keeper` | the thread that keeps indexes from lagging |
//!
//! What an index says is never believed by itself: `docs/ORDERED.md`.

mod index;
mod keeper;
mod keys;
mod memory;
mod newest;
mod own;
mod recent;
mod scan;
mod sides;
mod stream;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use pongo_core::table::TableCore;
use pongo_index::Encoding;
use pongo_index::ordered::{
    BlockStore, Folder, MemoryBlocks, OrderedError, OrderedStore, SledBlocks, StoreError, bytes_on_disk,
    identity, set_aside,
};

pub(crate) use index::{OrderedIndex, Worth};
pub(crate) use keeper::{Keeper, catch_up_all};
pub(crate) use keys::KeySource;
pub(crate) use memory::Memory;
pub(crate) use newest::newest;
pub(crate) use own::{OwnRows, Passed};
pub(crate) use recent::Recent;
pub(crate) use stream::{Limits, Pair, Stream};

/// Where the blocks of a store's ordered indexes lie.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// In memory, with the store.
    Memory,
    /// In sled, in this folder of a store.
    Folder(Arc<Folder>),
    /// Nowhere: ranges are answered from the rows. Others may have them in this folder of a store.
    Nowhere(Option<Arc<Folder>>),
}

/// How much of what. Tests take less of all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tuning {
    /// A table with fewer rows is put in order in memory: it is not worth a file.
    pub(crate) small: u64,
    /// Bytes that sorted rows of all indexes may take in memory. What has no room is looked through by each range.
    pub(crate) memory: u64,
    /// The same as rows of an index, for tests.
    pub(crate) in_memory: u64,
    /// Rows that are merged at a time: sorting takes 20 bytes and the key a row, or 4 and twice the key.
    pub(crate) slice: u64,
    /// Pairs that one pass over the rows keeps.
    pub(crate) kept: usize,
    /// Bytes on disk beyond which it is asked whether compacting is worth it. With 0 it always is.
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
    /// How many rows, and how many pairs of deleted rows, an index of a table with so many live rows may have too little or too
    /// much before it is brought up.
    fn allowed_lag(&self, live: u64) -> u64 {
        (live / 8).clamp(self.small, self.slice.max(self.small))
    }
}

/// What became of the blocks in this process.
#[derive(Debug)]
enum Held {
    NotYet,
    Here(Arc<OrderedStore>),
    /// Not to be had now: asked for again after a while.
    Refused {
        reason: String,
        at: Instant,
    },
    /// Inherited through `fork`, or the store is being closed.
    Gone,
}

/// How long a refusal is believed.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// Sorted rows that no range asked for so long make room for others.
const IDLE: Duration = Duration::from_secs(10);

/// Since when uses of an index are counted.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Blocks are compacted when they take so many times their bytes on disk. A copy takes about twice as many, and a merge that
/// rewrites all of it twice as many again: those that come one behind the other are not all followed by a copy.
const COMPACT_AT: u64 = 4;

/// The ordered indexes of one store in one process.
#[derive(Debug)]
pub(crate) struct Ordered {
    home: Home,
    tuning: Tuning,
    /// Locked before `indexes`, and both before an index's state.
    held: Mutex<Held>,
    indexes: RwLock<Vec<Arc<OrderedIndex>>>,
    /// How often the blocks were set aside.
    set_aside: AtomicU64,
    /// Why the last time.
    last_doubt: Mutex<Option<String>>,
    /// Bytes on disk below which they are not compacted.
    compact_beyond: AtomicU64,
    memory: Arc<Memory>,
}

/// What [`Ordered::state`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OrderedState {
    /// Whether this process has the blocks open.
    pub(crate) held: bool,
    /// Why not, if it tried.
    pub(crate) refused: Option<String>,
    pub(crate) set_aside: u64,
    pub(crate) last_doubt: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an index over these fields has its keys from.
fn key_source(core: &TableCore, fields: &[usize]) -> Option<KeySource> {
    let schema = core.schema();
    match schema.external_key() {
        Some(offset) if schema.key == fields => Some(KeySource::Heap { offset }),
        _ => Encoding::new(schema, fields).map(KeySource::Fields),
    }
}

/// All that is of the ordered indexes, and sled's part of it, in the folder of a store.
const FOLDER: &str = "ordered";
const SLED: &str = "ordered/sled";

/// What sled's `db` may be long if nothing was ever merged into it: where no note says whether there were roots.
const LEN_OF_NEW: u64 = 2 << 20;

/// Moves the blocks out of the way, if they are still the ones that were `found` damaged.
fn put_aside(store: &Folder, found: Option<(u64, u64)>) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        doing: "set aside",
        path: store.shown().join(SLED).display().to_string(),
        source,
    };
    let path = store.path().map_err(failed)?;
    set_aside(&path.join(SLED), found).map(|_| ())
}

fn len_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

impl Ordered {
    pub(crate) fn new(home: Home, tuning: Tuning) -> Self {
        Self {
            home,
            tuning,
            held: Mutex::new(Held::NotYet),
            indexes: RwLock::default(),
            set_aside: AtomicU64::new(0),
            last_doubt: Mutex::default(),
            compact_beyond: AtomicU64::new(0),
            memory: Memory::new(tuning.memory),
        }
    }

    /// What sorted rows take.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Gives up the sorted rows of indexes that were not asked for a while, but for this one. Whether there were any. Its state may
    /// be locked; nothing is waited for.
    fn free_idle(&self, but: &OrderedIndex) -> bool {
        let Ok(indexes) = self.indexes.try_read() else { return false };
        let mut freed = false;
        for index in indexes.iter().filter(|index| !std::ptr::eq(&***index, but)) {
            freed |= index.free_runs_if_idle(IDLE);
        }
        freed
    }

    /// Whether there is a place for blocks at all.
    pub(crate) fn has_home(&self) -> bool {
        !matches!(self.home, Home::Nowhere(_))
    }

    /// The index of a table over these fields, if they can be put in order.
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

    /// The same for a table that may never be committed: nobody else hears of it.
    pub(crate) fn unlisted(&self, core: &Arc<TableCore>, fields: &[usize]) -> Option<Arc<OrderedIndex>> {
        let keys = key_source(core, fields)?;
        Some(Arc::new(OrderedIndex::new(core, fields, keys, self.tuning)))
    }

    /// The index of a table's key, and those that its schema asks for.
    pub(crate) fn indexes_of(&self, core: &Arc<TableCore>) -> Vec<Arc<OrderedIndex>> {
        let schema = core.schema();
        let mut found: Vec<_> = self.index(core, &schema.key).into_iter().collect();
        found.extend(schema.indexes.iter().filter_map(|index| self.index(core, &index.fields)));
        // Those that only a program's type asks for.
        for known in &*self.indexes.read().unwrap_or_else(PoisonError::into_inner) {
            if Arc::ptr_eq(known.core(), core) && !found.iter().any(|index| Arc::ptr_eq(index, known)) {
                found.push(Arc::clone(known));
            }
        }
        found
    }

    /// The blocks, if this process has them open.
    pub(crate) fn open_store(&self) -> Option<Arc<OrderedStore>> {
        match &*lock(&self.held) {
            Held::Here(store) => Some(Arc::clone(store)),
            _ => None,
        }
    }

    /// Does something if these blocks are the ones that count, and they are not set aside meanwhile.
    fn while_held(&self, store: &Arc<OrderedStore>, then: impl FnOnce()) {
        let held = lock(&self.held);
        if matches!(&*held, Held::Here(known) if Arc::ptr_eq(known, store)) {
            then();
        }
    }

    /// The blocks, opened if they are not; `None` if they cannot be had, because another process has them, say.
    pub(crate) fn store(&self) -> Option<Arc<OrderedStore>> {
        let mut held = lock(&self.held);
        match &*held {
            Held::Here(store) => return Some(Arc::clone(store)),
            Held::Gone => return None,
            Held::Refused { at, .. } if at.elapsed() < REFUSED_FOR => return None,
            Held::NotYet | Held::Refused { .. } => {}
        }
        match self.open() {
            Ok(Some(store)) => {
                let store = Arc::new(store);
                *held = Held::Here(Arc::clone(&store));
                Some(store)
            }
            Ok(None) => None,
            Err(error) => {
                *held = Held::Refused { reason: error.to_string(), at: Instant::now() };
                None
            }
        }
    }

    fn open(&self) -> Result<Option<OrderedStore>, OrderedError> {
        let folder = match &self.home {
            Home::Nowhere(_) => return Ok(None),
            Home::Memory => return OrderedStore::open(Box::new(MemoryBlocks::default())).map(Some),
            Home::Folder(folder) => folder,
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
                // Sled can open what is damaged with less in it.
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
                self.note_doubt(&what);
                // Where there was no file sled has made one.
                let found = before.or_else(|| in_sled().ok().and_then(|path| identity(&path)));
                put_aside(folder, found)?;
                (open()?, false)
            }
            opened => (opened?, had_roots),
        };
        if !had_roots {
            // Without the note less is known, and nothing wrong.
            let _ = in_sled().and_then(|path| SledBlocks::note_roots(&path));
        }
        Ok(Some(store))
    }

    /// The blocks, opened if they are not, and if there are any: nothing is made.
    pub(crate) fn store_if_any(&self) -> Option<Arc<OrderedStore>> {
        let is_there = match &self.home {
            Home::Folder(folder) => folder.path().is_ok_and(|path| path.join(SLED).join("db").exists()),
            Home::Memory | Home::Nowhere(_) => false,
        };
        if is_there { self.store() } else { self.open_store() }
    }

    /// What the ordered indexes take on disk, whoever has them open.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let (Home::Folder(folder) | Home::Nowhere(Some(folder))) = &self.home else { return 0 };
        folder.path().and_then(|path| bytes_on_disk(&path.join(FOLDER))).unwrap_or(0)
    }

    fn note_doubt(&self, what: &str) {
        self.set_aside.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_doubt) = Some(what.to_owned());
    }

    /// After an error in reading or merging blocks: those that are doubtful are set aside and begun anew; what failed for
    /// want of space is tried again later. `store` is the one that erred: what came after it is left alone, and `false` says
    /// so.
    pub(crate) fn doubt(&self, store: &Arc<OrderedStore>, error: &OrderedError) -> bool {
        if matches!(error, OrderedError::Stopped | OrderedError::Keys { .. }) {
            return true;
        }
        let mut held = lock(&self.held);
        if !matches!(&*held, Held::Here(known) if Arc::ptr_eq(known, store)) {
            return false;
        }
        let found = store.identity();
        let _ = store.close();
        let damaged = matches!(error, OrderedError::Damaged { .. } | OrderedError::KeyTooLong { .. });
        *held = if damaged {
            self.note_doubt(&error.to_string());
            match &self.home {
                Home::Folder(folder) => match put_aside(folder, found) {
                    Ok(()) => Held::NotYet,
                    Err(error) => Held::Refused { reason: error.to_string(), at: Instant::now() },
                },
                _ => Held::NotYet,
            }
        } else {
            Held::Refused { reason: error.to_string(), at: Instant::now() }
        };
        for index in &*self.indexes.read().unwrap_or_else(PoisonError::into_inner) {
            index.forget_blocks();
        }
        true
    }

    /// What became of the blocks.
    pub(crate) fn state(&self) -> OrderedState {
        let held = lock(&self.held);
        OrderedState {
            held: matches!(&*held, Held::Here(_)),
            refused: match &*held {
                Held::Refused { reason, .. } => Some(reason.clone()),
                _ => None,
            },
            set_aside: self.set_aside.load(Ordering::Relaxed),
            last_doubt: lock(&self.last_doubt).clone(),
        }
    }

    /// Has the blocks written anew if that gives back much space: many merges leave sled with several times what it needs.
    pub(crate) fn compact(&self, store: &Arc<OrderedStore>) {
        let outcome = store.stats().and_then(|stats| {
            let from = self.tuning.compact_from;
            let beyond =
                (COMPACT_AT * stats.block_bytes + from).max(self.compact_beyond.load(Ordering::Relaxed));
            if stats.disk_bytes <= beyond && from > 0 {
                return Ok(());
            }
            // Not again and again, if it gives back little, or fails.
            self.compact_beyond.store(stats.disk_bytes + stats.disk_bytes / 2, Ordering::Relaxed);
            store.compact()?;
            let after = store.stats()?.disk_bytes;
            self.compact_beyond.store(after + after / 2, Ordering::Relaxed);
            Ok(())
        });
        if let Err(error) = outcome
            && (matches!(error, OrderedError::Damaged { .. }) || !store.is_open())
        {
            self.doubt(store, &error);
        }
    }

    /// Lets go of the blocks for good.
    pub(crate) fn close(&self) {
        let before = std::mem::replace(&mut *lock(&self.held), Held::Gone);
        if let Held::Here(store) = before {
            let _ = store.close();
        }
    }

    /// In a child made by `fork`: the blocks are the parent's, and are not touched.
    pub(crate) fn forget(&self) {
        // A thread of the parent may have held the lock: then nobody will ever give it up.
        if let Ok(mut held) = self.held.try_lock()
            && let Held::Here(store) = std::mem::replace(&mut *held, Held::Gone)
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
        // Every second row is dead: it takes no memory.
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
        // 16 bytes a row, and what was meant for dead ones that lie among the last of them.
        let takes_one = || (ROWS * 16..ROWS * 17).contains(&ordered.memory().used());
        assert!(scanned()?[0] == 0 && takes_one(), "{}", ordered.memory().used());
        assert_eq!(events.by(Event::KIND).equal(8)?.count() as u64, ROWS / 2);
        assert!(scanned()?[1] > 0);
        let indexes = ordered.indexes_of(&snapshot.inner().tables()?[0]);
        assert!(!ordered.free_idle(&indexes[1]), "it was asked for just now");
        assert!(
            indexes[0].free_runs_if_idle(Duration::ZERO) && !indexes[0].free_runs_if_idle(Duration::ZERO)
        );
        assert_eq!(events.by(Event::KIND).equal(8)?.count() as u64, ROWS / 2);
        assert!(scanned()?[1] == 0 && takes_one(), "{}", ordered.memory().used());
        assert_eq!(events.range(..)?.count() as u64, ROWS);
        Ok(())
    }
}

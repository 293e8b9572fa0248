//! [`OrderedStore`]: the ordered indexes of a store, their roots, and which blocks are still
//! needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pongo_core::guard::{fails, removable};
use pongo_core::ids::RowId;

use super::cache::Shared;
use super::directory::{Directory, Part};
use super::merge::{Merge, Rewrite};
use super::root::{self, IndexRoot, Roots};
use super::sorted::Sorted;
use super::{BlockStore, IndexId, KeyExtractor, OrderedError, Run, StoreError, Watermark};

/// Default size in bytes of the cache of verified blocks: enough for all blocks of 10 M random
/// keys.
pub const CACHE_BYTES: usize = 96 << 20;

/// The ordered indexes of one store. They are built from the rows, so they can be rebuilt if they
/// are lost.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use pongo_core::ids::RowId;
/// use pongo_index::ordered::{
///     Edge, KeyExtractor, IndexId, MemoryBlocks, OrderedStore, Pairs, Rewrite, Watermark,
/// };
///
/// struct Names;
/// impl KeyExtractor for Names {
///     fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///         out.extend_from_slice(["pear", "apple", "fig"][row.0 as usize].as_bytes());
///         Ok(())
///     }
/// }
///
/// let store = OrderedStore::open(Box::new(MemoryBlocks::default()))?;
/// let mut pairs = Pairs::new();
/// for (row, key) in ["pear", "apple", "fig"].iter().enumerate() {
///     pairs.push(key.as_bytes(), RowId(row as u64))?;
/// }
/// let watermark = Watermark { row: 3, ..Watermark::default() };
/// let never = AtomicBool::new(false);
/// let sorted =
///     store.merge(IndexId(1), watermark, &pairs.sort(), &Names, &|_| false, Rewrite::Touched, &never)?;
///
/// let mut rows = Vec::new();
/// let mut cursor = sorted.forward(Edge::Before(b"b"), &Names)?;
/// while cursor.fill(&mut rows, 100)? {}
/// assert_eq!(rows, [RowId(2), RowId(0)]);
/// # Ok::<(), pongo_index::ordered::OrderedError>(())
/// ```
#[derive(Debug)]
pub struct OrderedStore {
    shared: Arc<Shared>,
    /// Serializes merges. Block numbers ascend, and those at and above the roots' `next` are
    /// unused.
    writer: Mutex<()>,
    state: Mutex<State>,
    is_new: bool,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    indexes: BTreeMap<u64, OpenIndex>,
    retired: Vec<Retired>,
    /// Blocks were removed since the last sync.
    unsynced: bool,
    /// Why no more is written.
    poisoned: Option<Poison>,
}

#[derive(Debug)]
struct Poison {
    /// Whether the stored blocks are suspect, so that every write returns
    /// [`OrderedError::Damaged`].
    damaged: bool,
    why: String,
}

impl State {
    /// Stops further writes. Only the first failure is recorded.
    fn poison(&mut self, error: &OrderedError) {
        let damaged = matches!(error, OrderedError::Damaged { .. });
        let why = match error {
            OrderedError::Damaged { what } => what.clone(),
            other => other.to_string(),
        };
        self.poisoned.get_or_insert(Poison { damaged, why });
    }
}

#[derive(Debug)]
struct OpenIndex {
    root: IndexRoot,
    sorted: Option<Arc<Sorted>>,
}

/// Numbers of blocks and parts that `version` was the last one to refer to.
#[derive(Debug)]
struct Retired {
    id: IndexId,
    version: Weak<Sorted>,
    numbers: Vec<u64>,
}

/// Space and memory that the ordered indexes take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OrderedStats {
    /// Pairs in all indexes.
    pub pairs: u64,
    /// Blocks of all indexes.
    pub blocks: u64,
    /// Parts of the indexes' directories.
    pub parts: u64,
    /// Bytes in those blocks.
    pub block_bytes: u64,
    /// Bytes on disk, including space that is not yet freed.
    pub disk_bytes: u64,
    /// Memory that directories take, in bytes.
    pub directory_bytes: u64,
    /// Memory that cached blocks take, in bytes.
    pub cache_bytes: u64,
    /// Blocks and parts that only older versions refer to.
    pub retired: u64,
}

impl OrderedStore {
    /// Opens a block store, reads the roots and removes blocks that no root refers to. Costs
    /// reading one block, and removing what an unfinished merge has written.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] or [`OrderedError::Store`].
    pub fn open(blocks: Box<dyn BlockStore>) -> Result<OrderedStore, OrderedError> {
        OrderedStore::open_with(blocks, CACHE_BYTES)
    }

    /// Does the same as [`open`](OrderedStore::open), with a limit in bytes for the blocks cached
    /// in memory.
    ///
    /// # Errors
    /// Returns the same errors as [`open`](OrderedStore::open).
    pub fn open_with(blocks: Box<dyn BlockStore>, cache_bytes: usize) -> Result<OrderedStore, OrderedError> {
        let found = blocks.get_named(root::NAME)?;
        let is_new = found.is_none();
        let roots = match found {
            Some(bytes) => Roots::read(bytes.as_ref())?,
            None if !blocks.numbers(0)?.is_empty() => {
                return Err(OrderedError::damaged("there are blocks, and no roots"));
            }
            // From now on roots exist, even without any index: if they are missing later, they were
            // lost.
            None => {
                let roots = Roots::default();
                blocks.put_named(root::NAME, &roots.encode())?;
                removable!("ordered.first.roots", blocks.sync())?;
                roots
            }
        };
        // Numbers ascend: the blocks of an interrupted merge have numbers from `next` on.
        let mut swept = blocks.numbers(roots.next)?;
        swept.extend(&roots.retired);
        if !swept.is_empty() {
            blocks.remove(&swept)?;
        }
        let indexes =
            roots.indexes.into_iter().map(|root| (root.id.0, OpenIndex { root, sorted: None })).collect();
        let state = State { next: roots.next, indexes, unsynced: !swept.is_empty(), ..State::default() };
        Ok(OrderedStore {
            shared: Arc::new(Shared::new(blocks, cache_bytes)),
            writer: Mutex::new(()),
            state: Mutex::new(state),
            is_new,
        })
    }

    /// Returns whether the block store was empty, without roots, when it was opened.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns the newest version of an index, or `None` if the index does not exist. The first
    /// call reads its directory.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] or [`OrderedError::Store`].
    pub fn index(&self, id: IndexId) -> Result<Option<Arc<Sorted>>, OrderedError> {
        let mut state = self.state();
        let Some(held) = state.indexes.get_mut(&id.0) else { return Ok(None) };
        if let Some(sorted) = &held.sorted {
            return Ok(Some(sorted.clone()));
        }
        let mut parts = Vec::with_capacity(held.root.parts.len());
        for &(number, sum) in &held.root.parts {
            let Some(bytes) = self.shared.blocks.get(number)? else {
                return Err(OrderedError::damaged(format!("directory part {number} is missing")));
            };
            parts.push(Arc::new(Part::read(number, sum, bytes.as_ref())?));
        }
        let directory = Directory::new(parts)?;
        if fails!("ordered.roots.pairs", directory.pairs() != held.root.pairs) {
            return Err(OrderedError::damaged(format!(
                "the directory of index {} has {} pairs, its root says {}",
                id.0,
                directory.pairs(),
                held.root.pairs
            )));
        }
        let watermark = held.root.watermark;
        let sorted = Arc::new(Sorted { id, watermark, directory, shared: self.shared.clone() });
        held.sorted = Some(sorted.clone());
        Ok(Some(sorted))
    }

    /// Returns the ids of all indexes.
    #[must_use]
    pub fn indexes(&self) -> Vec<IndexId> {
        self.state().indexes.keys().map(|&id| IndexId(id)).collect()
    }

    /// Merges a run into an index, or creates the index from it, and returns once the result is
    /// durable. The index must contain no pair of the run already.
    ///
    /// Readers keep the versions that they have. `drop` selects the pairs of rewritten blocks that
    /// are left out; the keys of their rows are not read. Costs about 0.1 µs per pair if many pairs
    /// go into each block, the blocks that are rewritten, and two syncs.
    ///
    /// # Errors
    /// Returns any kind of error. No error changes a version. After [`OrderedError::Store`],
    /// further merges return [`OrderedError::Poisoned`]; after [`OrderedError::Damaged`], they
    /// return the same error again.
    #[expect(clippy::too_many_arguments, reason = "each is of another kind, none has a default")]
    pub fn merge(
        &self,
        id: IndexId,
        watermark: Watermark,
        run: &Run,
        keys: &dyn KeyExtractor,
        drop: &(dyn Fn(RowId) -> bool + Sync),
        rewrite: Rewrite,
        stop: &AtomicBool,
    ) -> Result<Arc<Sorted>, OrderedError> {
        let _writer = self.write()?;
        self.remove_retired()?;
        let old = self.index(id)?;
        let began = self.state().next;
        let nothing = Directory::default();
        let directory = old.as_ref().map_or(&nothing, |old| &old.directory);
        let mut merge = Merge::new(&self.shared, keys, drop, stop, rewrite, began);
        let merged = merge.run(directory, run);
        let (next, numbers) = (merge.next, std::mem::take(&mut merge.retired));
        let directory = merged.inspect_err(|error| self.rollback(error, began..next))?;
        let sorted = Arc::new(Sorted { id, watermark, directory, shared: self.shared.clone() });
        let parts = sorted.directory.parts.iter().map(|part| (part.number, part.sum)).collect();
        let root = IndexRoot { id, watermark, pairs: sorted.len(), parts };
        self.publish(next, id, Some(OpenIndex { root, sorted: Some(sorted.clone()) }), numbers)?;
        std::mem::drop(old);
        self.remove_retired()?;
        Ok(sorted)
    }

    /// Removes an index. Versions of it that are in use remain readable. Costs two syncs.
    ///
    /// # Errors
    /// Returns the same errors as [`merge`](OrderedStore::merge).
    pub fn remove(&self, id: IndexId) -> Result<(), OrderedError> {
        let _writer = self.write()?;
        let Some(sorted) = self.index(id)? else { return Ok(()) };
        let next = self.state().next;
        self.publish(next, id, None, sorted.numbers())?;
        std::mem::drop(sorted);
        self.remove_retired()
    }

    /// Removes the blocks of versions that are no longer in use. Merges do so too.
    ///
    /// # Errors
    /// Returns [`OrderedError::Store`] or [`OrderedError::Poisoned`].
    pub fn tidy(&self) -> Result<(), OrderedError> {
        let _writer = self.write()?;
        self.remove_retired()
    }

    /// Makes the removal of blocks durable, too, so that closing has nothing left to write. Costs a
    /// sync if any were removed.
    ///
    /// # Errors
    /// Returns [`OrderedError::Store`] or [`OrderedError::Poisoned`].
    pub fn sync_removals(&self) -> Result<(), OrderedError> {
        let _writer = self.write()?;
        if !self.state().unsynced {
            return Ok(());
        }
        let synced = removable!("ordered.settle.sync", self.shared.blocks.sync());
        let synced = synced.map_err(OrderedError::from);
        let mut state = self.state();
        match &synced {
            Ok(()) => state.unsynced = false,
            Err(error) => state.poison(error),
        }
        synced
    }

    /// Rewrites all needed blocks consecutively and frees the space of all others. Versions that
    /// are in use remain readable. Costs a copy of all blocks and some syncs, and needs the space
    /// for the copy until it is finished; readers wait while the copy replaces the original.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`], [`OrderedError::Store`] or [`OrderedError::Poisoned`]. No
    /// version is changed; [`is_open`](OrderedStore::is_open) returns whether they are still
    /// readable.
    pub fn compact(&self) -> Result<(), OrderedError> {
        let _writer = self.write()?;
        self.remove_retired()?;
        let mut numbers = Vec::new();
        for id in self.indexes() {
            numbers.extend(self.index(id)?.iter().flat_map(|sorted| sorted.numbers()));
        }
        numbers.extend(self.state().retired.iter().flat_map(|retired| &retired.numbers));
        numbers.sort_unstable();
        Ok(self.shared.blocks.compact(&numbers)?)
    }

    /// Returns whether blocks can be read: the store was not closed, neither by
    /// [`close`](OrderedStore::close) nor by an error.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.blocks.get_named(root::NAME).is_ok()
    }

    /// Returns the space and memory that the indexes take. Reads all directories.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] or [`OrderedError::Store`].
    pub fn stats(&self) -> Result<OrderedStats, OrderedError> {
        let mut stats = OrderedStats {
            disk_bytes: self.shared.blocks.disk_bytes()?,
            cache_bytes: self.shared.cached_bytes() as u64,
            ..OrderedStats::default()
        };
        for id in self.indexes() {
            let Some(sorted) = self.index(id)? else { continue };
            stats.pairs += sorted.len();
            stats.parts += sorted.directory.parts.len() as u64;
            stats.directory_bytes += sorted.directory.memory() as u64;
            for entry in sorted.directory.iter() {
                stats.blocks += 1;
                stats.block_bytes += u64::from(entry.bytes);
            }
        }
        stats.retired = self.state().retired.iter().map(|retired| retired.numbers.len() as u64).sum();
        Ok(stats)
    }

    /// Returns device and inode of the file that contains the blocks, or `None` if they are in
    /// memory.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.shared.blocks.identity()
    }

    /// Closes files and releases locks. Cursors that still exist return [`StoreError::Closed`] at
    /// their next block.
    ///
    /// # Errors
    /// Returns [`OrderedError::Store`]. Finished merges are durable in any case.
    pub fn close(&self) -> Result<(), OrderedError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().poisoned.get_or_insert(Poison { damaged: false, why: "it was closed".to_owned() });
        self.shared.clear();
        Ok(self.shared.blocks.close()?)
    }

    /// Forgets files and locks without touching them: for a child created by `fork`.
    pub fn forget(&self) {
        self.shared.blocks.forget();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<MutexGuard<'_, ()>, OrderedError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.state().poisoned {
            None => Ok(writer),
            Some(Poison { damaged: true, why }) => Err(OrderedError::Damaged { what: why.clone() }),
            Some(Poison { damaged: false, why }) => Err(OrderedError::Poisoned { why: why.clone() }),
        }
    }

    /// Handles a merge that failed before it changed a root. Removes what it wrote, or, if the
    /// block store itself failed, stops further writes.
    fn rollback(&self, error: &OrderedError, numbers: std::ops::Range<u64>) {
        let store_is_well = !matches!(error, OrderedError::Damaged { .. } | OrderedError::Store(_));
        self.state().unsynced = true;
        let removed = store_is_well && self.shared.blocks.remove(&numbers.collect::<Vec<_>>()).is_ok();
        if !removed {
            self.state().poison(error);
        }
    }

    /// Syncs the written blocks, then writes and syncs the root that refers to them, then updates
    /// the state in memory.
    fn publish(
        &self,
        next: u64,
        id: IndexId,
        version: Option<OpenIndex>,
        numbers: Vec<u64>,
    ) -> Result<(), OrderedError> {
        let mut roots = Roots { next, ..Roots::default() };
        {
            let state = self.state();
            let others = state.indexes.values().map(|held| &held.root).filter(|root| root.id != id);
            roots.indexes.extend(others.cloned());
            roots.indexes.extend(version.as_ref().map(|held| held.root.clone()));
            roots.retired.extend(state.retired.iter().flat_map(|retired| &retired.numbers));
            roots.retired.extend(&numbers);
        }
        let blocks = &self.shared.blocks;
        let written = (|| -> Result<(), StoreError> {
            removable!("ordered.blocks.sync", blocks.sync())?;
            blocks.put_named(root::NAME, &roots.encode())?;
            removable!("ordered.roots.sync", blocks.sync())
        })();
        let mut state = self.state();
        if let Err(error) = written {
            // It is unknown which root is on disk now.
            let error = error.into();
            state.poison(&error);
            return Err(error);
        }
        (state.next, state.unsynced) = (next, false);
        let before = match version {
            Some(held) => state.indexes.insert(id.0, held),
            None => state.indexes.remove(&id.0),
        };
        let version =
            before.and_then(|held| held.sorted).map_or_else(Weak::new, |sorted| Arc::downgrade(&sorted));
        state.retired.push(Retired { id, version, numbers });
        Ok(())
    }

    /// Removes the blocks of versions that are no longer in use. The caller holds the writer lock.
    /// The next root omits these blocks from its retired numbers; the first sync of that
    /// publication makes the removal durable.
    fn remove_retired(&self) -> Result<(), OrderedError> {
        let mut numbers = Vec::new();
        {
            let mut state = self.state();
            // A version in use needs the blocks that it and all later versions of its index were
            // the last to refer to.
            let mut living = BTreeSet::new();
            state.retired.retain_mut(|retired| {
                if fails!("ordered.version.pin", retired.version.strong_count() != 0) {
                    living.insert(retired.id.0);
                }
                let kept = living.contains(&retired.id.0);
                if !kept {
                    numbers.append(&mut retired.numbers);
                }
                kept
            });
        }
        if numbers.is_empty() {
            return Ok(());
        }
        self.shared.forget(&numbers);
        self.state().unsynced = true;
        self.shared.blocks.remove(&numbers).map_err(|error| {
            let error = error.into();
            self.state().poison(&error);
            error
        })
    }
}

//! A cache of recently read, verified blocks: a block found in it costs no read from the store and
//! no checksum.

use pongo_core::guard::fails;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::block::Leaf;
use super::directory::EntryRef;
use super::{BlockStore, OrderedError};

/// Number of shards, so that threads that read different blocks seldom wait for each other.
const SHARDS: usize = 32;
/// Approximate bytes of memory that a cached block takes in addition to its own bytes.
const OVERHEAD: usize = 160;

/// The block store and its cache, shared by all versions of all indexes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) blocks: Box<dyn BlockStore>,
    shards: [Mutex<Shard>; SHARDS],
    /// Maximum number of bytes per shard.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    held: HashMap<u64, CachedLeaf>,
    /// Block numbers in the order of insertion; a block that was used since then moves to the end
    /// instead of being evicted.
    queue: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedLeaf {
    leaf: Arc<Leaf>,
    sum: u64,
    used: bool,
}

impl Shared {
    pub(super) fn new(blocks: Box<dyn BlockStore>, cache_bytes: usize) -> Shared {
        Shared { blocks, shards: Default::default(), capacity: cache_bytes / SHARDS }
    }

    fn shard(&self, number: u64) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[number as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a verified block, and adds it to the cache.
    pub(super) fn leaf(&self, entry: EntryRef<'_>) -> Result<Arc<Leaf>, OrderedError> {
        if let Some(held) = self.shard(entry.number).held.get_mut(&entry.number)
            && held.sum == entry.sum
        {
            held.used = true;
            return Ok(held.leaf.clone());
        }
        let leaf = Arc::new(self.read(entry)?);
        self.shard(entry.number).insert(entry, leaf.clone(), self.capacity);
        Ok(leaf)
    }

    /// Returns a verified block, from the cache if possible. Does not add it to the cache.
    pub(super) fn peek(&self, entry: EntryRef<'_>) -> Result<Arc<Leaf>, OrderedError> {
        if let Some(held) = self.shard(entry.number).held.get(&entry.number)
            && held.sum == entry.sum
        {
            return Ok(held.leaf.clone());
        }
        self.read(entry).map(Arc::new)
    }

    /// Reads and verifies a block, bypassing the cache: for scans over many blocks that will not be
    /// read again soon.
    pub(super) fn read(&self, entry: EntryRef<'_>) -> Result<Leaf, OrderedError> {
        let number = entry.number;
        let Some(block) = self.blocks.get(number)? else {
            return Err(OrderedError::damaged(format!("block {number} is missing")));
        };
        let found = xxh3_64(block.as_ref());
        if fails!("ordered.block.checksum", found != entry.sum) {
            return Err(OrderedError::damaged(format!(
                "block {number} has the checksum {found:016x}, expected {:016x}",
                entry.sum
            )));
        }
        let leaf = Leaf::read(block)?;
        if leaf.len() != usize::from(entry.pairs) {
            return Err(OrderedError::damaged(format!(
                "block {number} has {} pairs, its directory says {}",
                leaf.len(),
                entry.pairs
            )));
        }
        Ok(leaf)
    }

    /// Removes blocks that no version refers to any more.
    pub(super) fn forget(&self, numbers: &[u64]) {
        for &number in numbers {
            let mut shard = self.shard(number);
            if let Some(held) = shard.held.remove(&number) {
                shard.bytes -= held.leaf.bytes() + OVERHEAD;
            }
            shard.trim_queue();
        }
    }

    /// Removes all blocks.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    /// Returns the bytes that the cache takes.
    pub(super) fn cached_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).bytes).sum()
    }
}

impl Shard {
    /// Removes the numbers of forgotten blocks from the queue once they are more than the others.
    /// A cache that never fills up does not remove them otherwise.
    fn trim_queue(&mut self) {
        if self.queue.len() > 2 * self.held.len() + 64 {
            let held = &self.held;
            self.queue.retain(|number| held.contains_key(number));
        }
    }

    fn insert(&mut self, entry: EntryRef<'_>, leaf: Arc<Leaf>, capacity: usize) {
        let size = leaf.bytes() + OVERHEAD;
        if size > capacity {
            return;
        }
        self.bytes += size;
        // Evicts the oldest block that was not used since its last turn.
        while self.bytes > capacity {
            let Some(number) = self.queue.pop_front() else { break };
            match self.held.get_mut(&number) {
                Some(held) if held.used => {
                    held.used = false;
                    self.queue.push_back(number);
                }
                Some(_) => {
                    if let Some(held) = self.held.remove(&number) {
                        self.bytes -= held.leaf.bytes() + OVERHEAD;
                    }
                }
                None => {} // removed by `forget`
            }
        }
        match self.held.insert(entry.number, CachedLeaf { leaf, sum: entry.sum, used: false }) {
            Some(before) => self.bytes -= before.leaf.bytes() + OVERHEAD,
            None => self.queue.push_back(entry.number),
        }
    }
}

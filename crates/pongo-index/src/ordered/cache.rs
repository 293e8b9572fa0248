//! Blocks read lately, verified once: a block found here costs no look at the store and no checksum.

use pongo_core::guard::fails;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::block::Leaf;
use super::directory::EntryRef;
use super::{BlockStore, OrderedError};

/// Threads that read different blocks seldom wait for each other.
const SHARDS: usize = 32;
/// What a block takes beside its bytes, about.
const OVERHEAD: usize = 160;

/// The store and its cache: what all versions of all indexes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) blocks: Box<dyn BlockStore>,
    shards: [Mutex<Shard>; SHARDS],
    /// Bytes that each shard holds at most.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    held: HashMap<u64, Held>,
    /// In the order in which they came, or were found used when it was their turn to go.
    queue: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
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

    /// The block, verified.
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

    /// The block, verified; from the cache if it is there, and not kept if it is not.
    pub(super) fn peek(&self, entry: EntryRef<'_>) -> Result<Arc<Leaf>, OrderedError> {
        if let Some(held) = self.shard(entry.number).held.get(&entry.number)
            && held.sum == entry.sum
        {
            return Ok(held.leaf.clone());
        }
        self.read(entry).map(Arc::new)
    }

    /// The block, verified, and not kept: for walks over many that will not be read again soon.
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

    /// Drops blocks that no version names any more.
    pub(super) fn forget(&self, numbers: &[u64]) {
        for &number in numbers {
            let mut shard = self.shard(number);
            if let Some(held) = shard.held.remove(&number) {
                shard.bytes -= held.leaf.bytes() + OVERHEAD;
            }
            shard.trim_queue();
        }
    }

    /// Drops all.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    /// Bytes that the cache takes.
    pub(super) fn cached_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).bytes).sum()
    }
}

impl Shard {
    /// Removes the numbers of forgotten blocks from the queue once they are more than the others: a cache that never
    /// fills up never comes to them by itself.
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
        // The first to go is the one that came first and was not asked for since its last turn.
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
                None => {} // forgotten before
            }
        }
        match self.held.insert(entry.number, Held { leaf, sum: entry.sum, used: false }) {
            Some(before) => self.bytes -= before.leaf.bytes() + OVERHEAD,
            None => self.queue.push_back(entry.number),
        }
    }
}

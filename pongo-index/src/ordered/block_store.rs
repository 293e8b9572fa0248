//! [`BlockStore`]: the interface to block storage. It handles numbers, names and bytes, and is not
//! trusted: the caller verifies the checksum of everything that it returns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::StoreError;

/// Bytes returned by a block store: shared, never copied, never changed.
#[derive(Clone)]
pub struct Block(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Block {
    /// Wraps a value that owns the bytes.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Block {
        Block(Arc::new(bytes))
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block of {} bytes", self.as_ref().len())
    }
}

/// Storage for blocks: numbered byte strings that are written once and removed once, and a few
/// named ones that are replaced.
///
/// The only guarantee for a crash is that writes before a successful [`sync`](BlockStore::sync)
/// survive. A named value is then either the old or the new one.
pub trait BlockStore: Send + Sync + fmt::Debug {
    /// Returns the block with this number, if it exists.
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError>;
    /// Writes blocks, replacing existing ones with the same numbers.
    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError>;
    /// Removes blocks. Numbers without a block are ignored.
    fn remove(&self, numbers: &[u64]) -> Result<(), StoreError>;
    /// Returns the numbers of all blocks from this one on, in ascending order.
    fn numbers(&self, from: u64) -> Result<Vec<u64>, StoreError>;
    /// Returns the value of a name, if it exists.
    fn get_named(&self, name: &[u8]) -> Result<Option<Block>, StoreError>;
    /// Replaces the value of a name as a whole.
    fn put_named(&self, name: &[u8], value: &[u8]) -> Result<(), StoreError>;
    /// Makes all previous writes durable: they survive a power failure once this returns.
    fn sync(&self) -> Result<(), StoreError>;
    /// Returns the bytes that the store takes on disk.
    fn disk_bytes(&self) -> Result<u64, StoreError>;
    /// Frees the space beyond that needed for these blocks and all named values. Other blocks may
    /// be removed. Concurrent reads remain possible, though some wait. After an error the store is
    /// unchanged or closed.
    fn compact(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let _ = numbers;
        Ok(())
    }
    /// Returns device and inode of the underlying file, if other processes can exchange it once it
    /// is closed.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }
    /// Closes files and releases locks. Later calls return [`StoreError::Closed`].
    fn close(&self) -> Result<(), StoreError>;
    /// Forgets files and locks without touching them: for a child created by `fork`, where they
    /// belong to the parent.
    fn forget(&self);
}

/// Blocks in memory: for in-memory stores and for tests.
///
/// ```
/// use pongo_index::ordered::{BlockStore, MemoryBlocks};
/// let blocks = MemoryBlocks::default();
/// blocks.put(vec![(7, b"seven".to_vec())])?;
/// assert_eq!(blocks.get(7)?.unwrap().as_ref(), b"seven");
/// assert!(blocks.get(8)?.is_none());
/// # Ok::<(), pongo_index::ordered::StoreError>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryBlocks {
    held: RwLock<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    blocks: BTreeMap<u64, Block>,
    named: BTreeMap<Vec<u8>, Block>,
}

impl MemoryBlocks {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, MemoryState> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, MemoryState> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for MemoryBlocks {
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError> {
        Ok(self.read().blocks.get(&number).cloned())
    }

    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let blocks = blocks.into_iter().map(|(number, bytes)| (number, Block::new(bytes)));
        self.write().blocks.extend(blocks);
        Ok(())
    }

    fn remove(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let mut held = self.write();
        for number in numbers {
            held.blocks.remove(number);
        }
        Ok(())
    }

    fn numbers(&self, from: u64) -> Result<Vec<u64>, StoreError> {
        Ok(self.read().blocks.range(from..).map(|(&number, _)| number).collect())
    }

    fn get_named(&self, name: &[u8]) -> Result<Option<Block>, StoreError> {
        Ok(self.read().named.get(name).cloned())
    }

    fn put_named(&self, name: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.write().named.insert(name.to_vec(), Block::new(value.to_vec()));
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn forget(&self) {}
}

//! [`BlockStore`]: the narrow door to wherever blocks lie. It knows numbers, names and bytes, and is not trusted: what
//! comes back is compared with a checksum by whoever asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::StoreError;

/// Bytes that a store gave out: shared, never copied, never changed.
#[derive(Clone)]
pub struct Block(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Block {
    /// Wraps what holds the bytes.
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

/// Where blocks lie: numbered bytes that are written once and removed once, and a few named ones that are replaced.
///
/// Nothing is promised about what outlives a crash but this: what was put before a [`sync`](BlockStore::sync) that
/// succeeded. A named value is the old one or the new one.
pub trait BlockStore: Send + Sync + fmt::Debug {
    /// The block of this number, if there is one.
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError>;
    /// Writes blocks; a number that is there already is replaced.
    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError>;
    /// Removes blocks; a number that is not there is passed over.
    fn remove(&self, numbers: &[u64]) -> Result<(), StoreError>;
    /// The numbers of all blocks from this one on, ascending.
    fn numbers(&self, from: u64) -> Result<Vec<u64>, StoreError>;
    /// The value of a name.
    fn get_named(&self, name: &[u8]) -> Result<Option<Block>, StoreError>;
    /// Replaces the value of a name as a whole.
    fn put_named(&self, name: &[u8], value: &[u8]) -> Result<(), StoreError>;
    /// Returns once everything put before survives a power cut.
    fn sync(&self) -> Result<(), StoreError>;
    /// Bytes that it takes on disk.
    fn disk_bytes(&self) -> Result<u64, StoreError>;
    /// Gives back the space that it takes beyond what these blocks and the names need. Others may go. Calls of other threads
    /// that read go on, some of them after a wait. After an error it is what it was, or closed.
    fn compact(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let _ = numbers;
        Ok(())
    }
    /// Returns device and inode of what it lies in, where that can be exchanged by others once it is closed.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }
    /// Lets go of files and locks. Later calls answer [`StoreError::Closed`].
    fn close(&self) -> Result<(), StoreError>;
    /// Forgets files and locks without touching them: for a child made by `fork`, where they belong to the parent.
    fn forget(&self);
}

/// Blocks in memory: for stores that live there, and for tests.
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
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    blocks: BTreeMap<u64, Block>,
    named: BTreeMap<Vec<u8>, Block>,
}

impl MemoryBlocks {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
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

//! The ordered index: keys in order, for ranges, prefixes and secondary indexes. It knows bytes and row numbers, no types.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `error` | [`OrderedError`], [`StoreError`] |
//! | `blocks` | [`BlockStore`], the door to where blocks lie; [`MemoryBlocks`] |
//! | `in_sled` | [`SledBlocks`], the only file that calls sled but for `sled_thread`; [`set_aside`] |
//! | `sled_thread` | the thread that opens and drops a sled, and whether sled can have its own |
//! | `sled_files` | what may lie in sled's folder for sled to be let near it |
//! | `folder` | [`Folder`], which is followed when it is renamed |
//! | `edge`, `run` | [`Edge`], a place between two pairs; [`Pairs`] and [`Run`], what is merged |
//! | `block` | the bytes of a block: encode, read, search |
//! | `directory`, `root` | which blocks an index has; which indexes a store has |
//! | `cache` | blocks read lately |
//! | `hidden` | [`Hidden`], [`HiddenGroup`]: pairs that a reader sees none of, skipped together |
//! | `sorted`, `cursor` | [`Sorted`], one version of one index; [`Cursor`], its rows in order |
//! | `gather`, `merge` | a version and a run make the next version |
//! | `store` | [`OrderedStore`]: versions made durable, blocks removed, all of them written anew |
//!
//! Pairs are sorted by the bytes of their keys, then by row. Blocks hold cut keys: where two of them are equal, the row
//! is asked for the whole one through [`FullKeys`]. Every byte that is read is covered by a checksum that the root
//! covers, so whatever the store below lost or mixed up is an error, never a wrong row. An *older* copy of the whole
//! folder is what the [`Watermark`] is compared for, by whoever has the rows. The format is in `docs/ORDERED.md`.

mod block;
mod blocks;
mod cache;
mod cursor;
mod directory;
mod edge;
mod error;
mod folder;
mod gather;
mod hidden;
mod in_sled;
mod merge;
mod root;
mod run;
mod sled_files;
mod sled_thread;
mod sorted;
mod store;

use std::error::Error;

use pongo_core::ids::RowId;

pub use blocks::{Block, BlockStore, MemoryBlocks};
pub use cursor::{Cursor, Taken};
pub use edge::Edge;
pub use error::{OrderedError, StoreError};
pub use folder::Folder;
pub use hidden::{Hidden, HiddenGroup, Sight};
pub use in_sled::{SledBlocks, bytes_on_disk, identity, set_aside};
pub use merge::Rewrite;
pub use run::{Pairs, Run};
pub use sorted::Sorted;
pub use store::{CACHE_BYTES, OrderedStats, OrderedStore};

/// The most bytes of a key.
pub const MAX_KEY: usize = u16::MAX as usize;

/// Names one index of a store. Who makes it sees to it that two indexes never have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexId(pub u64);

/// Of which state of the rows an index has every pair. Kept and given back as it is; comparing it with the rows is the
/// caller's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Watermark {
    /// The store's identity.
    pub store: u128,
    /// Its recovery generation.
    pub salt: u64,
    /// The commit.
    pub seq: u64,
    /// Rows below this one have their pairs.
    pub row: u64,
    /// A digest of the last rows below it.
    pub digest: u64,
}

/// The whole ordered key of a row, asked where cut keys do not decide: a row or two when a range begins, and when pairs
/// with equal cuts are merged.
pub trait FullKeys {
    /// Appends the key of `row` to `out`, which is empty.
    ///
    /// # Errors
    /// Whatever keeps the row from being read. A damaged index may name rows that do not exist: that is an error too, not
    /// a panic.
    fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Says that the key of `row` will be asked for soon.
    fn prefetch(&self, row: RowId) {
        let _ = row;
    }
}

//! The ordered index: keys in order, for ranges, prefixes and secondary indexes. It handles bytes
//! and row numbers, no types.
//!
//! | module | purpose |
//! | --- | --- |
//! | `error` | [`OrderedError`], [`StoreError`] |
//! | `block_store` | [`BlockStore`], the interface to block storage; [`MemoryBlocks`] |
//! | `sled_store` | [`SledBlocks`], blocks in sled (only here and in `sled_thread`) |
//! | `sled_folder` | sled's folder: path, lock on its parent, quarantine ([`quarantine`]) |
//! | `sled_thread` | the thread that opens and drops sled |
//! | `sled_files` | checks of the files in sled's folder before sled opens them |
//! | `folder` | [`Folder`], which is followed when it is renamed |
//! | `edge`, `run` | [`Edge`], a position between pairs; [`Pairs`] and [`Run`], a merge's input |
//! | `block` | the bytes of a block: encode, read, search |
//! | `directory`, `root` | the blocks of an index; the indexes of a store |
//! | `cache` | the cache of recently read blocks |
//! | `hidden` | [`Hidden`], [`HiddenGroup`]: facts that let readers skip many pairs at once |
//! | `sorted`, `cursor` | [`Sorted`], one version of one index; [`BlockCursor`], its rows in order |
//! | `merge_buffer`, `merge` | creation of the next version from a version and a run |
//! | `store` | [`OrderedStore`]: durable versions, removal of blocks, compaction |
//!
//! Pairs are sorted by the bytes of their keys, then by row. Blocks contain truncated keys: where
//! two of them are equal, the whole key is read from the row through [`KeyExtractor`]. Every byte
//! that is read is covered by a checksum that the root covers, so data that the block store lost or
//! mixed up results in an error, never in a wrong row. To detect an *older* copy of the whole
//! folder, the caller compares the [`Watermark`] with the rows. The format is described in
//! `docs/design/ordered-index.md`.

mod block;
mod block_store;
mod cache;
mod cursor;
mod directory;
mod edge;
mod error;
mod folder;
mod hidden;
mod merge;
mod merge_buffer;
mod root;
mod run;
#[expect(clippy::disallowed_methods, reason = "the files of sled are not accessed through `Storage`")]
mod sled_files;
#[expect(clippy::disallowed_methods, reason = "the files of sled are not accessed through `Storage`")]
mod sled_folder;
#[expect(clippy::disallowed_methods, reason = "the files of sled are not accessed through `Storage`")]
mod sled_store;
mod sled_thread;
mod sorted;
mod store;

use std::error::Error;

use pongo_core::ids::RowId;

pub use block_store::{Block, BlockStore, MemoryBlocks};
pub use cursor::{BlockCursor, Taken};
pub use edge::Edge;
pub use error::{OrderedError, StoreError};
pub use folder::Folder;
pub use hidden::{Hidden, HiddenGroup, ReadPoint};
pub use merge::Rewrite;
pub use run::{Pairs, Run};
pub use sled_folder::{bytes_on_disk, identity, quarantine};
pub use sled_store::SledBlocks;
pub use sorted::Sorted;
pub use store::{CACHE_BYTES, OrderedStats, OrderedStore};

/// Maximum length of a key in bytes.
pub const MAX_KEY: usize = u16::MAX as usize;

/// Identifies one index of a store. The caller must not assign the same id to two indexes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexId(pub u64);

/// The state of the rows of which an index contains every pair. It is stored and returned
/// unchanged; the caller compares it with the rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Watermark {
    /// The store's identity.
    pub store: u128,
    /// The store's recovery generation.
    pub salt: u64,
    /// The commit.
    pub seq: u64,
    /// Rows below this one have their pairs in the index.
    pub row: u64,
    /// A digest of the last rows below `row`.
    pub digest: u64,
}

/// Access to the whole ordered key of a row, needed where truncated keys do not decide: for a row
/// or two when a range starts, and when pairs with equal truncated keys are merged.
pub trait KeyExtractor {
    /// Appends the key of `row` to `out`, which is empty.
    ///
    /// # Errors
    /// Returns an error if the row cannot be read. A damaged index may name rows that do not exist:
    /// that must be an error too, not a panic.
    fn key(&self, row: RowId, out: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Announces that the key of `row` will be needed soon.
    fn prefetch(&self, row: RowId) {
        let _ = row;
    }
}

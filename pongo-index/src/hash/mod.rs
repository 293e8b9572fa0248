//! The hash index: extendible hashing in memory-mapped files. There is one writer at a time, and
//! any number of readers in any process. Readers take no lock.
//!
//! The *top* is the directory of extendible hashing: it maps the upper bits of a hash to a segment.
//!
//! | module | purpose |
//! | --- | --- |
//! | `layout` | the numbers of the format: the meaning of each word, the use of the hash bits |
//! | `error` | [`HashError`] |
//! | `header` | the file `head`: identity, root word, the accounts of the epoch's segments |
//! | `maps` | one epoch's files, mapped at first use and never unmapped while the index is open |
//! | `segment` | 32 KiB of entries: scanning, finding a vacant slot, building an image |
//! | `read` | [`HashIndex::find`] |
//! | `allocator` | allocating, freeing and iterating over segments, adding pieces, growing the top |
//! | `reserve` | reserving space before a commit: splits and rewrites of segments |
//! | `write` | entries: insert, replace, mark as deleted, remove, bulk insert |
//! | `recover` | recovery after a writer crashed; iteration over all entries |
//! | `sum` | the checksum of a closed index |
//! | `build` | [`HashIndex::create`], [`HashIndex::open`], [`HashIndex::rebuild`] |
//!
//! The caller guarantees three things. It calls writer methods only under the store's writer lock.
//! It checks every candidate against its row, because an entry stores only 16 bits of the hash and
//! a row number. It rebuilds, and does not open, an index whose files may have lost pages (after a
//! power cut).

mod allocator;
mod build;
mod error;
mod header;
mod layout;
mod maps;
mod read;
mod recover;
mod reserve;
mod segment;
mod sum;
mod write;

use std::sync::atomic::AtomicU64;

use pongo_core::ids::RowId;
use xxhash_rust::xxh3::xxh3_64;

pub use error::HashError;
pub use header::{IndexIdentity, Seen};
pub use recover::HashStats;
pub use write::Upsert;

use header::IndexHeader;
use maps::Maps;

/// Returns the hash of a key's bytes: xxh3, 64 bits, without a seed.
///
/// An adversary can choose keys that share a hash. Look-ups of these keys get slower, but no
/// operation fails.
///
/// ```
/// use pongo_index::key_hash;
/// assert_eq!(key_hash(&42_u64.to_le_bytes()), key_hash(&[42, 0, 0, 0, 0, 0, 0, 0]));
/// assert_ne!(key_hash(&42_u64.to_le_bytes()), key_hash(&43_u64.to_le_bytes()));
/// ```
#[must_use]
#[inline]
pub fn key_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Access to the hashes of the rows' keys, which the index needs when a segment splits.
///
/// A damaged index can refer to rows that do not exist. An implementation may return any value for
/// such a row, but must not panic. A value that contradicts the entry is detected and reported as
/// [`HashError::Damaged`].
pub trait KeyHasher {
    /// Returns the hash of the key of `row`.
    fn hash(&self, row: RowId) -> u64;

    /// Appends the hashes of the keys of `rows` to `out`, in the same order. An implementation
    /// whose row reads may miss the cache should override this and prefetch a few rows ahead.
    fn hashes(&self, rows: &[RowId], out: &mut Vec<u64>) {
        out.extend(rows.iter().map(|&row| self.hash(row)));
    }

    /// Returns for each of `rows` whether its entry can be removed: no current or future reader
    /// needs the row or a row that it replaced. Called when a segment is full, so that deleted keys
    /// do not make the index grow without bound.
    fn forgotten(&self, rows: &[RowId]) -> Vec<bool> {
        vec![false; rows.len()]
    }
}

/// A row that the index returns for a hash. The row's key may be a different one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The row.
    pub row: RowId,
    /// Whether the key was deleted. The row is then the last one that the key had.
    pub deleted: bool,
}

/// One process's handle on one table's hash index. Methods marked *writer* need the store's writer
/// lock. Any number of threads may call the other methods at any time, also while a writer in any
/// process is active.
///
/// See the [module](self) for its parts and `docs/design/hash-index.md` for the format.
#[derive(Debug)]
pub struct HashIndex {
    head: IndexHeader,
    /// The epoch that this handle was opened with. Later epochs are linked from it.
    first: Maps,
    /// The root word that was checked last and belongs to the epoch of `first`. Most look-ups find
    /// it unchanged.
    checked: AtomicU64,
}

//! The hash index: extendible hashing in memory-mapped files, one writer at a time, any number of readers in any
//! process, none of which takes a lock.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `layout` | the numbers of the format: what each word means, which hash bits go where |
//! | `error` | [`HashError`] |
//! | `head` | the file `head`: identity, root word, the accounts of the epoch's segments |
//! | `maps` | one epoch's files, mapped when first named and never unmapped while the index is open |
//! | `segment` | 32 KiB of entries: scanning, finding a vacancy, building an image |
//! | `read` | [`HashIndex::find`] |
//! | `account` | taking and freeing segments, adding pieces, a bigger top |
//! | `reserve` | space first: splits, renewals |
//! | `write` | entries: insert, replace, dead, remove, bulk |
//! | `recover` | what a successor does after a writer died; the walk over all entries |
//! | `sum` | the checksum of a closed index |
//! | `build` | [`HashIndex::create`], [`HashIndex::open`], [`HashIndex::rebuild`] |
//!
//! It relies on the caller for three things: that writer methods are called under the store's writer lock only, that
//! every candidate is checked against its row (an entry is 16 bits of hash and a row number, nothing more), and that an
//! index whose files may have lost pages (a power cut) is rebuilt, not opened.

mod account;
mod build;
mod error;
mod head;
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

pub use build::Identity;
pub use error::HashError;
pub use recover::{Seen, Stats};
pub use write::Upsert;

use head::Head;
use maps::Maps;

/// The hash of a key's bytes: xxh3, 64 bits, without a seed.
///
/// Keys made by an adversary can share a hash; look-ups among them slow down, nothing fails.
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

/// What the index asks of the rows: the hash of a row's key, needed when a segment splits.
///
/// A damaged index can name rows that do not exist: an implementation answers anything for them, and does not panic.
/// An answer that contradicts the entry is noticed and becomes [`HashError::Damaged`].
pub trait KeyHashes {
    /// The hash of the key of `row`.
    fn hash(&self, row: RowId) -> u64;

    /// The hashes of the keys of `rows`, in their order, put behind what is in `out`. Worth implementing where a look at a
    /// row may miss the cache: prefetch a few rows ahead.
    fn hashes(&self, rows: &[RowId], out: &mut Vec<u64>) {
        out.extend(rows.iter().map(|&row| self.hash(row)));
    }

    /// Of which of `rows` the entries can go: no reader, now or later, will ask for the row or for one that it replaced. Asked where
    /// a segment has no room left, so that deleted keys make no index larger for ever.
    fn forgotten(&self, rows: &[RowId]) -> Vec<bool> {
        vec![false; rows.len()]
    }
}

/// A row that the index names for a hash. Its key may be another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The row.
    pub row: RowId,
    /// Whether the key was deleted; the row is the last one it had.
    pub dead: bool,
}

/// One process's handle on one table's hash index. Methods marked *writer* need the store's writer lock; the others may
/// be called by any number of threads at any time, also while a writer of any process is at work.
///
/// See the [module](self) for its parts and `docs/HASH.md` for the format.
#[derive(Debug)]
pub struct HashIndex {
    head: Head,
    /// The epoch this handle began with; later ones hang behind it.
    first: Maps,
    /// The root word that was looked at last, found sane and of that epoch: most look-ups meet it again.
    checked: AtomicU64,
}

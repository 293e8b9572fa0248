//! What a checkpoint says of one table's marks: which chunks have any, and a checksum of each chunk's.
//!
//! Marks change in place after the checkpoint, so that no sum of a file's bytes would last. The sum here is over what was
//! there *at the checkpoint*: a word goes from zero to its value once, and a word that came later can be told from one that
//! was there, so the sum can be computed again at any time and must come out the same.

use crate::codec::checksum;
use crate::ids::{ChunkId, RowId, Seq};

/// Tells the marks that were there at a checkpoint from those that came later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound {
    /// The checkpoint's `Seq`.
    pub(crate) seq: Seq,
    /// The table's length at it.
    pub(crate) len: u64,
}

impl Bound {
    /// Whether a death, by its word's value, was there.
    pub(crate) fn has_death(&self, row: RowId, word: u64) -> bool {
        row.0 < self.len && word <= self.seq.0
    }

    /// Whether what a row replaced was there: it is stored before the row counts.
    pub(crate) fn has_previous(&self, row: RowId) -> bool {
        row.0 < self.len
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Baseline {
    bound: Bound,
    /// In the order of the chunks. A chunk that is not here had no marks.
    sums: Vec<(ChunkId, u64)>,
}

impl Baseline {
    pub(crate) fn new(bound: Bound, sums: Vec<(ChunkId, u64)>) -> Self {
        debug_assert!(sums.is_sorted_by(|a, b| a.0 < b.0));
        Self { bound, sums }
    }

    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// Whether the chunk had marks, so that its file must be there.
    pub(crate) fn lists(&self, chunk: ChunkId) -> bool {
        self.place(chunk).is_ok()
    }

    /// The sum that the chunk's marks must have.
    pub(crate) fn sum_of(&self, chunk: ChunkId) -> u64 {
        self.place(chunk).map_or_else(|_| no_marks(), |place| self.sums[place].1)
    }

    fn place(&self, chunk: ChunkId) -> Result<usize, usize> {
        self.sums.binary_search_by_key(&chunk, |&(id, _)| id)
    }
}

/// The sum of a chunk without marks. A checkpoint does not list it.
pub(crate) fn no_marks() -> u64 {
    checksum(&[])
}

//! A checkpoint's record of one table's marks: which chunks have marks, and a checksum of the marks
//! of each chunk.
//!
//! Marks change in place after the checkpoint, so a checksum of a file's bytes would become
//! invalid. The checksum here covers the marks that existed *at the checkpoint*: a word changes
//! from zero to its value once, and a later word can be told from one that existed, so the checksum
//! can be computed again at any time and must be the same.

use crate::codec::checksum;
use crate::ids::{ChunkId, RowId, Seq};

/// Tells marks that existed at a checkpoint from later ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CheckpointBound {
    /// The checkpoint's `Seq`.
    pub(crate) seq: Seq,
    /// The table's length at the checkpoint.
    pub(crate) len: u64,
}

impl CheckpointBound {
    /// Returns whether a deletion, given by the value of its word, existed at the checkpoint.
    pub(crate) fn has_deletion(&self, row: RowId, word: u64) -> bool {
        row.0 < self.len && word <= self.seq.0
    }

    /// Returns whether the previous row of a row existed at the checkpoint: it is stored before the
    /// row counts.
    pub(crate) fn has_previous(&self, row: RowId) -> bool {
        row.0 < self.len
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CheckpointMarks {
    bound: CheckpointBound,
    /// Sorted by chunk. A chunk that is not in the list had no marks.
    sums: Vec<(ChunkId, u64)>,
}

impl CheckpointMarks {
    pub(crate) fn new(bound: CheckpointBound, sums: Vec<(ChunkId, u64)>) -> Self {
        debug_assert!(sums.is_sorted_by(|a, b| a.0 < b.0));
        Self { bound, sums }
    }

    pub(crate) fn bound(&self) -> CheckpointBound {
        self.bound
    }

    /// Returns whether the chunk had marks, so that its file must exist.
    pub(crate) fn lists(&self, chunk: ChunkId) -> bool {
        self.place(chunk).is_ok()
    }

    /// Returns the checksum that the chunk's marks must have.
    pub(crate) fn sum_of(&self, chunk: ChunkId) -> u64 {
        self.place(chunk).map_or_else(|_| no_marks(), |place| self.sums[place].1)
    }

    fn place(&self, chunk: ChunkId) -> Result<usize, usize> {
        self.sums.binary_search_by_key(&chunk, |&(id, _)| id)
    }
}

/// Returns the checksum of a chunk without marks. A checkpoint does not list such a chunk.
pub(crate) fn no_marks() -> u64 {
    checksum(&[])
}

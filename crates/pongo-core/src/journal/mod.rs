//! The journal: the redo log, the one place where a commit becomes durable.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `entry` | what one entry says, encoded and decoded |
//! | `segment` | segment files: made, recycled, rolled, synced |
//! | `scan` | finding the entries again: which one is the last, what is a torn tail and what is rot |
//!
//! Positions ([`JournalPos`](crate::ids::JournalPos)) count bytes over all segments since the store was made. An entry
//! carries its own position and the salt, so that what an earlier life of a recycled segment left never checks.

mod entry;
mod scan;
mod segment;

pub(crate) use entry::{
    CHECKPOINT, COMMIT, Checkpoint, CheckpointHeap, CheckpointTable, Commit, Header, HeapPart, LONGEST,
    NewTable, PIECE, RowsPart, Sealing, seal,
};
pub(crate) use scan::{Found, Scanner};
pub(crate) use segment::{DIR, Journal, SMALLEST, path_of};

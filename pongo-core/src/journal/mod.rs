//! The journal: the redo log, the one place where a commit becomes durable.
//!
//! | module | purpose |
//! | --- | --- |
//! | `entry` | what all entries have: the header and the checksum |
//! | `commit`, `checkpoint` | the body of an entry of either kind, encoded and decoded |
//! | `segment` | segment files: created, recycled, rolled, synced |
//! | `scan` | finding entries: the last one, a torn tail, or corruption |
//!
//! Positions ([`JournalPos`](crate::ids::JournalPos)) count bytes over all segments since the store
//! was created. An entry contains its own position and the salt, so that old entries in a recycled
//! segment are never valid.

mod checkpoint;
mod commit;
mod entry;
mod scan;
mod segment;

pub(crate) use checkpoint::{Checkpoint, CheckpointHeap, CheckpointTable};
pub(crate) use commit::{Commit, HeapPart, NewTable, RowsPart};
pub(crate) use entry::{CHECKPOINT, COMMIT, Header, LONGEST, PIECE, Sealing, seal};
pub(crate) use scan::{Found, Scanner};
pub(crate) use segment::{DIR, Journal, SMALLEST, path_of};

//! What a store holds at one `Seq`: the tables' lengths and the heap's. The applied state of the writer, a published
//! ring record, a snapshot and a checkpoint are all this.

use crate::ids::{JournalPos, Seq};

/// How many tables one store can have.
pub const MAX_TABLES: usize = 255;

/// One table at one `Seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableState {
    /// Rows in the table, dead ones included: one more than the highest `RowId`.
    pub len: u64,
    /// Rows that are alive.
    pub live: u64,
    /// Bytes of the row space whose blocks have checksums on disk; a multiple of the block size.
    pub summed: u64,
}

/// The heap at one `Seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapState {
    /// Bytes in the heap.
    pub len: u64,
    /// Bytes whose blocks have checksums on disk.
    pub summed: u64,
}

/// A whole store at one `Seq`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The commit that made this state.
    pub seq: Seq,
    /// The heap.
    pub heap: HeapState,
    /// The tables, by `TableId`.
    pub tables: Vec<TableState>,
    /// The journal segment in which the entry of `seq` ends.
    pub segment: u64,
    /// Where it ends.
    pub journal_end: JournalPos,
}

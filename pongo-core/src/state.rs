//! The contents of a store at one `Seq`: the lengths of the tables and of the heap. The applied
//! state of the writer, a published ring record, a snapshot and a checkpoint all have this form.

use crate::ids::{JournalPos, Seq};

/// Maximum number of tables in one store.
pub const MAX_TABLES: usize = 255;

/// One table at one `Seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableState {
    /// Number of rows in the table, deleted ones included: one more than the highest `RowId`.
    pub len: u64,
    /// Number of rows that are not deleted.
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
pub struct StoreState {
    /// The commit that created this state.
    pub seq: Seq,
    /// The heap.
    pub heap: HeapState,
    /// The tables, by `TableId`.
    pub tables: Vec<TableState>,
    /// The journal segment in which the entry of `seq` ends.
    pub segment: u64,
    /// The position at which that entry ends.
    pub journal_end: JournalPos,
}

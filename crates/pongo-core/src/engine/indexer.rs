//! What the engine asks of the layer above, which knows keys: to keep an index of each table in step with its rows.
//!
//! All calls are made under the writer lock, or by a process that is alone with the store.

use std::error::Error;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use crate::ids::{RowId, Seq};
use crate::table::{TableCore, TableView};

/// What a commit does to one table, once its rows and marks are written.
#[derive(Debug)]
pub struct Change<'a> {
    /// The table.
    pub table: &'a Arc<TableCore>,
    /// The table with this commit applied, and, if this is done again, all later ones that are in the journal.
    pub view: TableView,
    /// The new rows.
    pub rows: Range<RowId>,
    /// Hashes of the new rows' keys, in order, and behind them those of their values in each unique index, index by index;
    /// empty if the committer did not know them.
    pub hashes: &'a [u64],
    /// Pairs of a new row and the row it replaced.
    pub previous: &'a [(RowId, RowId)],
    /// Rows that died, those replaced included.
    pub deaths: &'a [RowId],
}

/// What the index of a table must have if a process was killed, and the system lives on. One that has less, or more, is of an
/// older or a newer copy of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Killed {
    /// No later commit was ever written.
    pub newest: Seq,
    /// From the rows that were published to those that are there now.
    pub rows: RangeInclusive<u64>,
}

/// What an index answers when it cannot do as asked.
pub type IndexError = Box<dyn Error + Send + Sync>;

/// The layer that knows keys.
pub trait Indexer: Send + Sync {
    /// The process is alone with the store: the index of this table, as it lies on disk, is as good as the rows. Without
    /// `killed` the store was closed in order; with it somebody may have died while he wrote to the index, which is refused if it
    /// is not of these rows.
    fn adopt(&self, table: &Arc<TableCore>, killed: Option<&Killed>) -> Result<(), IndexError>;
    /// Somebody is about to write, for the first time since the store was closed: errs if the index is not what was synced
    /// then, and is then rebuilt.
    fn check(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// The process is alone, or has the writer lock: the index is lost or cannot be trusted, make it from the live rows.
    fn rebuild(&self, view: &TableView) -> Result<(), IndexError>;
    /// A table was made: make its empty index.
    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// Space first: after `Ok`, `apply` of new rows with these hashes, given as in [`Change::hashes`], cannot fail for want
    /// of space, nor can `apply` of these deaths. `view` is the table as applied so far.
    fn reserve(&self, view: &TableView, hashes: &[u64], deaths: &[RowId]) -> Result<(), IndexError>;
    /// Brings the index up to a commit that is in the journal and in the chunks. `again`: it may have been applied
    /// before, in part or whole, and so may later ones.
    fn apply(&self, change: &Change<'_>, again: bool) -> Result<(), IndexError>;
    /// Another process wrote last and may have died at any point: mend what it left half done.
    fn take_over(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// Makes the index of this table durable.
    fn sync(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
}

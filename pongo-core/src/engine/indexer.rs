//! The interface that the layer above, which knows keys, implements for the engine: it keeps an
//! index of each table up to date with the table's rows.
//!
//! All calls are made under the writer lock, or by a process that is alone with the store.

use std::borrow::Cow;
use std::error::Error;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use crate::error::StorageError;
use crate::ids::{RowId, Seq};
use crate::table::{TableCore, TableView};

/// The changes of a commit to one table, once its rows and marks are written.
#[derive(Debug)]
pub struct TableChange<'a> {
    /// The table.
    pub table: &'a Arc<TableCore>,
    /// The table with this commit applied and, if it is applied again, with all later ones that are
    /// in the journal.
    pub view: TableView,
    /// The new rows.
    pub rows: Range<RowId>,
    /// Hashes of the new rows' keys, in order, followed by the hashes of their values in each
    /// unique index, index by index. Empty if the committer did not know them. The indexer defines
    /// the number that stands for a row without a value.
    pub hashes: &'a [u64],
    /// Pairs of a new row and the row it replaced.
    pub previous: &'a [(RowId, RowId)],
    /// Rows that were deleted, those replaced included.
    pub deleted_rows: &'a [RowId],
}

impl<'a> TableChange<'a> {
    /// Returns the pairs of [`previous`](Self::previous) sorted by their new rows. Copies them only
    /// if they are not in this order; a transaction has them in this order.
    #[must_use]
    pub fn previous_by_row(&self) -> Cow<'a, [(RowId, RowId)]> {
        let mut pairs = Cow::Borrowed(self.previous);
        if !pairs.is_sorted() {
            pairs.to_mut().sort_unstable();
        }
        pairs
    }
}

/// The bounds of a table's index after a process was killed while the system kept running. An index
/// outside these bounds belongs to an older or a newer copy of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashBounds {
    /// No later commit was ever written.
    pub newest: Seq,
    /// From the number of rows that were published to the number that exists now.
    pub rows: RangeInclusive<u64>,
}

/// Whether a commit may have been applied to an index before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// This commit and later ones were not applied before.
    First,
    /// This commit may have been applied before, in part or completely, and so may later ones.
    Repeat,
}

/// The error of an index that cannot do what it was asked to.
pub type IndexError = Box<dyn Error + Send + Sync>;

/// The layer that knows keys.
pub trait Indexer: Send + Sync {
    /// Opens the index of this table as stored on disk, which is as valid as the rows. The process
    /// is alone with the store.
    ///
    /// Without `crash_bounds` the store was closed cleanly. With it, a process may have been killed
    /// while it wrote to the index; returns an error if the index does not belong to these rows.
    fn reuse(&self, table: &Arc<TableCore>, crash_bounds: Option<&CrashBounds>) -> Result<(), IndexError>;
    /// Checks the index before the first write since the store was closed. Returns an error if the
    /// index is not what was synced then; the caller then rebuilds it.
    fn verify_checksum(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// Rebuilds from the live rows an index that is lost or cannot be trusted. The process is alone
    /// with the store, or has the writer lock.
    fn rebuild(&self, view: &TableView) -> Result<(), IndexError>;
    /// Creates the empty index of a new table.
    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// Reserves space: after `Ok`, `apply` of new rows with these hashes, in the order of
    /// [`TableChange::hashes`], and of these deletions cannot fail because there is no space.
    /// `view` is the table as applied so far.
    fn reserve(&self, view: &TableView, hashes: &[u64], deleted_rows: &[RowId]) -> Result<(), IndexError>;
    /// Applies to the index a commit that is in the journal and in the chunks.
    fn apply(&self, change: &TableChange<'_>, replay: Replay) -> Result<(), IndexError>;
    /// Repairs what another process left incomplete: it wrote last, and may have been killed at any
    /// point.
    fn repair_after_crash(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
    /// Makes the index of this table durable.
    fn sync(&self, table: &Arc<TableCore>) -> Result<(), IndexError>;
}

/// Returns the function that turns an error of a table's index into a [`StorageError`].
pub(crate) fn index_fault(table: &TableCore) -> impl FnOnce(IndexError) -> StorageError {
    |source| StorageError::Index { table: table.schema().table.clone(), source }
}

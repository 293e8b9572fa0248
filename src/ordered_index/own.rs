//! [`OwnRows`]: a stream's view of the write transaction that it reads in.

use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::table::TableView;

use super::index::OrderedIndex;
use super::limits::Pair;
use super::recent::Recent;

/// A transaction's changes to a table, relative to the view from before them. The transaction's own
/// rows are numbered from the view's length on.
pub(crate) trait OwnRows: Send + Sync {
    /// Retains the view's rows that the transaction did not replace or delete.
    fn retain(&self, view: &TableView, rows: &mut Vec<RowId>);
    /// Returns whether a pair belongs to one of the transaction's own rows in its current state.
    fn is_own(&self, index: &OrderedIndex, key: &[u8], row: RowId) -> bool;
    /// Returns the bytes of one of the transaction's own rows.
    fn row_bytes(&self, row: RowId) -> Result<&[u8], ReadError>;
    /// Returns pairs of the transaction's own rows: all current ones, possibly outdated ones, and
    /// possibly duplicates.
    fn runs(&self, index: &OrderedIndex) -> Result<Vec<Arc<Recent>>, ReadError>;
    /// Returns the part of the index that a search in the view's rows can skip.
    fn passed(&self, index: &OrderedIndex, forward: bool) -> Option<Passed>;
    /// Records such a part.
    fn note_passed(&self, index: &OrderedIndex, forward: bool, passed: Passed);
}

/// A part of an index in which the transaction has replaced or deleted all of the view's rows. Only
/// a rollback brings such rows back, so a transaction that repeatedly takes the first row does not
/// need to skip the ones it took before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    /// Where the search started: forward at this pair, backward below it. `None`: at the index's
    /// end.
    pub(crate) from: Option<Pair>,
    /// Where the first remaining row was found. `None`: no row remains.
    pub(crate) to: Option<Pair>,
}

impl Passed {
    /// Returns whether a search that starts at `from` starts in this part.
    pub(super) fn covers(&self, from: &Option<Pair>, forward: bool) -> bool {
        if forward {
            // `from` is never `None` for a forward search; as an end, `None` means the index's end.
            *from >= self.from
                && self.to.as_ref().is_none_or(|to| from.as_ref().is_some_and(|from| from < to))
        } else {
            let upto = match (from, &self.from) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(from), Some(known)) => from <= known,
            };
            upto && match (from, &self.to) {
                (_, None) => true,
                (None, Some(_)) => true,
                (Some(from), Some(to)) => from > to,
            }
        }
    }
}

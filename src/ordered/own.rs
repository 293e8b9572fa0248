//! What a stream asks of a write transaction that it reads in: [`OwnRows`].

use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::table::TableView;

use super::index::OrderedIndex;
use super::recent::Recent;
use super::stream::Pair;

/// A transaction's changes to a table, beside the view of it as it was before. Numbers of its own rows begin behind that view.
pub(crate) trait OwnRows: Send + Sync {
    /// Leaves rows of the view that the transaction did not replace or delete.
    fn retain(&self, view: &TableView, rows: &mut Vec<RowId>);
    /// Whether a pair is that of an own row as it is now.
    fn is_own(&self, index: &OrderedIndex, key: &[u8], row: RowId) -> bool;
    /// The bytes of an own row.
    fn row_bytes(&self, row: RowId) -> Result<&[u8], ReadError>;
    /// Pairs of own rows, all that are there and perhaps more, the same one perhaps twice.
    fn runs(&self, index: &OrderedIndex) -> Result<Vec<Arc<Recent>>, ReadError>;
    /// Where a search in the view's rows need not look.
    fn passed(&self, index: &OrderedIndex, forward: bool) -> Option<Passed>;
    /// Notes that.
    fn note_passed(&self, index: &OrderedIndex, forward: bool, passed: Passed);
}

/// A part of an index in which the view has no row that the transaction left: rows do not come back, short of a
/// rollback, so that whoever takes the first row again and again need not pass those that it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    /// Where the search began: forward at this pair, backward below it. `None`: at the index's end.
    pub(crate) from: Option<Pair>,
    /// Where the first row was found; `None`: nowhere.
    pub(crate) to: Option<Pair>,
}

impl Passed {
    /// Whether a search that begins there begins in this part.
    pub(super) fn covers(&self, from: &Option<Pair>, forward: bool) -> bool {
        if forward {
            // `None` never begins a search forward, and as an end it is the index's.
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

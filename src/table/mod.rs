//! A table in a [`Snapshot`](crate::Snapshot), or as a write transaction reads it: [`Table`].
//!
//! | module | purpose |
//! | --- | --- |
//! | [`lookup`] | rows by key: index, row, key, visibility, versions |
//! | [`iter`] | all rows, in slices or one by one |
//! | [`range`], [`index_view`] | rows in key order, and in the order of another index |
//! | [`external`] | the methods that take external keys |
//! | [`filter`], [`explain`] | scans of the blocks that can match, and what was skipped |
//! | `parallel` | parallel iterators of rayon |

pub(crate) mod explain;
pub(crate) mod filter;
pub(crate) mod index_view;
pub(crate) mod iter;
pub(crate) mod lookup;
#[cfg(feature = "rayon")]
pub(crate) mod parallel;
pub(crate) mod range;

// After the others, so that links to methods such as `Table::get` lead to those for keys in rows.
pub(crate) mod external;

use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::ids::{Location, RowId};
use pongo_core::table::TableView;
use pongo_index::HashIndex;

use crate::keys::{InRow, KeyKind, Keys, table_name};
use crate::ordered_index::OrderedIndex;
use crate::shared::{Source, TableHandle};
use crate::write_set::own::Own;

/// A table in a [`Snapshot`](crate::Snapshot), whose rows are `T`s. What it returns borrows from
/// the snapshot, not from the `Table`.
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "trades")]
/// struct Trade {
///     #[pongo(key)]
///     id: u64,
///     price: f64,
///     qty: f64,
/// }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// tx.table::<Trade>()?.extend((0..1000).map(|id| Trade { id, price: 2.0, qty: 0.5 }))?;
/// tx.commit()?;
///
/// let snapshot = store.begin_read()?;
/// let trades = snapshot.table::<Trade>()?;
/// assert_eq!(trades.len(), 1000);
/// assert!(trades.contains(&999)? && !trades.contains(&1000)?);
///
/// let mut sum = 0.0;
/// for rows in trades.slices() {
///     for trade in rows? {
///         sum += trade.price * trade.qty;
///     }
/// }
/// assert_eq!(sum, 1000.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The methods of [`TableMut`](crate::TableMut) also read a table in a write transaction through
/// this type.
///
/// `K` is the kind of the table's keys. `Table<'_, T>` is a table whose keys are fields of `T`;
/// [`ExternalTable<'_, T>`](crate::ExternalTable) is one whose keys are bytes beside it. Most methods
/// are those of both.
pub struct Table<'s, T, K: KeyKind<T> = InRow> {
    /// The view and index for lookups by key; `None` if the table does not exist, or is read in a
    /// transaction that changed it.
    plain: Option<Plain<'s>>,
    /// `None` if the table did not exist yet.
    parts: Option<Parts<'s>>,
    source: Source<'s>,
    /// The changes of the transaction that is read, if it changed this table.
    own: Option<Own<'s, K::Row>>,
}

/// The two parts of [`Parts`] that a lookup needs, stored without indirection.
#[derive(Clone)]
struct Plain<'s> {
    view: &'s TableView,
    index: Arc<HashIndex>,
}

/// A view of a table, with the table's indexes.
#[derive(Clone)]
pub(crate) struct Parts<'s> {
    pub(crate) view: &'s TableView,
    pub(crate) handle: Arc<TableHandle>,
}

impl<T, K: KeyKind<T>> Clone for Table<'_, T, K> {
    fn clone(&self) -> Self {
        Self { plain: self.plain.clone(), parts: self.parts.clone(), source: self.source, own: self.own }
    }
}

impl<T, K: Keys<T>> core::fmt::Debug for Table<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Table").field("table", &table_name::<T, K>()).field("len", &self.len()).finish()
    }
}

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    /// Creates the table as a snapshot sees it. With `None` it is empty.
    pub(crate) fn of_snapshot(source: Source<'s>, parts: Option<Parts<'s>>) -> Self {
        let plain =
            parts.as_ref().map(|parts| Plain { view: parts.view, index: Arc::clone(&parts.handle.index) });
        Self { plain, parts, source, own: None }
    }

    /// Creates a reader of a table in a write transaction.
    pub(crate) fn of_transaction(parts: Parts<'s>, source: Source<'s>, own: Option<Own<'s, K::Row>>) -> Self {
        let plain = own.is_none().then(|| Plain { view: parts.view, index: Arc::clone(&parts.handle.index) });
        Self { plain, parts: Some(parts), source, own }
    }

    /// Returns the view of the table, or `None` if the table did not exist yet.
    pub(crate) fn view(&self) -> Option<&'s TableView> {
        self.parts.as_ref().map(|parts| parts.view)
    }

    pub(crate) fn parts(&self) -> Option<&Parts<'s>> {
        self.parts.as_ref()
    }

    pub(crate) fn source(&self) -> Source<'s> {
        self.source
    }

    pub(crate) fn own(&self) -> Option<Own<'s, K::Row>> {
        self.own
    }

    /// Returns the ordered index over these fields, or `None` if they cannot be ordered.
    pub(crate) fn ordered_index(&self, view: &TableView, fields: &[usize]) -> Option<Arc<OrderedIndex>> {
        let ordered = &self.source().shared.ordered;
        // A table that may never be committed is visible to this transaction only, so its index is
        // not added to the shared list.
        let index_uncached = self.own().is_some() && view.is_empty();
        if index_uncached {
            ordered.index_uncached(view.core(), fields)
        } else {
            ordered.index(view.core(), fields)
        }
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        match (&self.own, &self.parts) {
            (Some(own), _) => own.live(),
            (None, Some(parts)) => parts.view.live(),
            (None, None) => 0,
        }
    }

    /// Returns whether the table has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the row with this number, or `None` if no such row is visible in this snapshot.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn row(&self, row: RowId) -> Result<Option<K::Item<'s>>, ReadError> {
        match self.view() {
            Some(view) if row.0 < view.len() && view.is_live(row)? => {
                K::item(self.source.heap, view.row(row)?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the table's chunk file in which a row is stored, and its offset there. Returns
    /// `None` for a row that was not written yet.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let trades = snapshot.table::<Trade>()?;
    /// let (row, _) = trades.get_row(&3)?.ok_or("not found")?;
    /// let place = trades.locate(row).ok_or("and was written")?;
    /// assert_eq!(place.offset, 3 * 16);
    /// assert_eq!(trades.row_at(place), Some(row));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn locate(&self, row: RowId) -> Option<Location> {
        self.view()?.locate(row)
    }

    /// Returns the row that starts at a location: the reverse of [`locate`](Self::locate).
    #[must_use]
    pub fn row_at(&self, location: Location) -> Option<RowId> {
        self.view()?.row_at(location)
    }
}

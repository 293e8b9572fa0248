//! Iterators over all rows of a table: [`Slices`], [`Rows`], [`Entries`] and [`Values`].

use std::iter::FusedIterator;
use std::marker::PhantomData;

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_core::table::TableView;

use super::Table;
use crate::keys::{InRow, KeyKind, Keys, table_name};
use crate::write_set::own::Own;

impl<'s, T: PongoRecord> Table<'s, T> {
    /// Returns all rows in slices. A slice contains adjacent rows of one chunk, with no deleted or
    /// replaced row between them.
    ///
    /// The rows are in commit order, and within a commit in the order in which they were put,
    /// except that the place of a row that was deleted in the transaction that put it is taken by
    /// the transaction's last row. Concurrent writes have no effect.
    ///
    /// The first access to a block of 64 KiB in a process verifies its checksum, and its values if
    /// `T` has invalid bit patterns. After that a slice costs nothing per row.
    ///
    /// If a block of a slice is damaged, the item is an error, and the next item is the following
    /// slice.
    #[must_use]
    pub fn slices(&self) -> Slices<'s, T> {
        self.row_slices()
    }
}

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    fn row_slices(&self) -> Slices<'s, K::Row> {
        Slices { view: self.view(), next: RowId(0), own: self.own.map(|own| (own, 0)), record: PhantomData }
    }

    /// Returns all rows, in the order in which they were last put: that of
    /// [`slices`](Table::slices), which is faster if slices can be used.
    ///
    /// With external keys an item is a key and its value. Reads the bytes of each key;
    /// [`values`](crate::ExternalTable::values) does not.
    #[must_use]
    pub fn rows(&self) -> Rows<'s, T, K> {
        Rows { entries: self.entries() }
    }

    /// Returns all rows with their row numbers, in ascending order.
    #[must_use]
    pub fn entries(&self) -> Entries<'s, T, K> {
        Entries { slices: self.row_slices(), row: RowId(0), slice: [].iter(), heap: self.source.heap }
    }
}

impl<'s, T, K: Keys<T>> IntoIterator for &Table<'s, T, K> {
    type Item = Result<K::Item<'s>, ReadError>;
    type IntoIter = Rows<'s, T, K>;

    fn into_iter(self) -> Rows<'s, T, K> {
        self.rows()
    }
}

/// An iterator over slices of a table's rows. See [`Table::slices`].
pub struct Slices<'s, T> {
    view: Option<&'s TableView>,
    next: RowId,
    /// The transaction's changes, and the index of its next own row.
    own: Option<(Own<'s, T>, u64)>,
    record: PhantomData<fn() -> T>,
}

impl<T> core::fmt::Debug for Slices<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slices").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T> Clone for Slices<'_, T> {
    fn clone(&self) -> Self {
        Self { view: self.view, next: self.next, own: self.own, record: PhantomData }
    }
}

impl<'s, T: PongoRecord> Slices<'s, T> {
    /// Returns the next slice with the number of its first row.
    fn next_run(&mut self) -> Option<Result<(RowId, &'s [T]), ReadError>> {
        let view = self.view?;
        loop {
            let run = match view.next_run(self.next) {
                Ok(run) => run,
                Err(fault) => {
                    self.view = None;
                    return Some(Err(fault.into()));
                }
            };
            let Some(run) = run else {
                let (own, at) = self.own.as_mut()?;
                return own.next_slice(at);
            };
            let rows = view.rows(run.clone());
            let (Some((own, _)), Ok(all)) = (&self.own, &rows) else {
                self.next = run.end;
                return Some(rows.map(|rows| (run.start, rows)));
            };
            match own.first_run(all) {
                Ok(Some(left)) => {
                    self.next = RowId(run.start.0 + left.end as u64);
                    return Some(Ok((RowId(run.start.0 + left.start as u64), &all[left])));
                }
                Ok(None) => self.next = run.end,
                Err(error) => {
                    self.next = run.end;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<'s, T: PongoRecord> Iterator for Slices<'s, T> {
    type Item = Result<&'s [T], ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_run()?.map(|(_, rows)| rows))
    }
}

impl<T: PongoRecord> FusedIterator for Slices<'_, T> {}

/// An iterator over a table's rows. See [`Table::rows`].
pub struct Rows<'s, T, K: KeyKind<T> = InRow> {
    entries: Entries<'s, T, K>,
}

impl<T, K: KeyKind<T>> Clone for Rows<'_, T, K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<'s, T, K: Keys<T>> Iterator for Rows<'s, T, K> {
    type Item = Result<K::Item<'s>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next()?.map(|(_, item)| item))
    }
}

impl<T, K: Keys<T>> FusedIterator for Rows<'_, T, K> {}

impl<T, K: Keys<T>> core::fmt::Debug for Rows<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rows").field("entries", &self.entries).finish()
    }
}

/// An iterator over a table's rows with their row numbers. See [`Table::entries`].
pub struct Entries<'s, T, K: KeyKind<T> = InRow> {
    slices: Slices<'s, K::Row>,
    /// The number of the next row of `slice`.
    row: RowId,
    slice: core::slice::Iter<'s, K::Row>,
    heap: &'s (dyn HeapRead + Sync),
}

impl<T, K: KeyKind<T>> Clone for Entries<'_, T, K> {
    fn clone(&self) -> Self {
        Self { slices: self.slices.clone(), row: self.row, slice: self.slice.clone(), heap: self.heap }
    }
}

impl<'s, T, K: Keys<T>> Entries<'s, T, K> {
    #[inline]
    fn next_row(&mut self) -> Option<Result<(RowId, &'s K::Row), ReadError>> {
        loop {
            if let Some(value) = self.slice.next() {
                let row = self.row;
                self.row = row.next();
                return Some(Ok((row, value)));
            }
            match self.slices.next_run()? {
                Ok((row, rows)) => (self.row, self.slice) = (row, rows.iter()),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<'s, T, K: Keys<T>> Iterator for Entries<'s, T, K> {
    type Item = Result<(RowId, K::Item<'s>), ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let found = self.next_row()?;
        Some(found.and_then(|(number, row)| Ok((number, K::item(self.heap, row)?))))
    }
}

impl<T, K: Keys<T>> FusedIterator for Entries<'_, T, K> {}

impl<T, K: Keys<T>> core::fmt::Debug for Entries<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Entries")
            .field("table", &table_name::<T, K>())
            .field("next", &self.row)
            .finish_non_exhaustive()
    }
}

/// An iterator over the values of a table, without their keys. See
/// [`ExternalTable::values`](crate::ExternalTable::values).
pub struct Values<'s, T, K: KeyKind<T> = InRow> {
    entries: Entries<'s, T, K>,
}

impl<'s, T, K: Keys<T>> Values<'s, T, K> {
    pub(super) fn new(entries: Entries<'s, T, K>) -> Self {
        Self { entries }
    }
}

impl<T, K: KeyKind<T>> Clone for Values<'_, T, K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<'s, T: 's, K: Keys<T>> Iterator for Values<'s, T, K> {
    type Item = Result<&'s T, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next_row()?.map(|(_, row)| K::value(row)))
    }
}

impl<'s, T: 's, K: Keys<T>> FusedIterator for Values<'s, T, K> {}

impl<T, K: Keys<T>> core::fmt::Debug for Values<'_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Values").field("entries", &self.entries).finish()
    }
}

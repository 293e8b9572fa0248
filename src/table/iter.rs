//! Iterators over all rows of a table: [`Slices`], [`Rows`] and [`Entries`].

use std::iter::FusedIterator;
use std::marker::PhantomData;

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_core::table::TableView;

use super::Table;
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
        Slices { view: self.view(), next: RowId(0), own: self.own.map(|own| (own, 0)), record: PhantomData }
    }

    /// Returns all rows, in the order of [`slices`](Self::slices), which is faster if slices can be
    /// used.
    #[must_use]
    pub fn rows(&self) -> Rows<'s, T> {
        Rows { entries: self.entries() }
    }

    /// Returns all rows with their row numbers, in ascending order.
    #[must_use]
    pub fn entries(&self) -> Entries<'s, T> {
        Entries { slices: self.slices(), row: RowId(0), slice: [].iter() }
    }
}

impl<'s, T: PongoRecord> IntoIterator for &Table<'s, T> {
    type Item = Result<&'s T, ReadError>;
    type IntoIter = Rows<'s, T>;

    fn into_iter(self) -> Rows<'s, T> {
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
pub struct Rows<'s, T> {
    entries: Entries<'s, T>,
}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<'s, T: PongoRecord> Iterator for Rows<'s, T> {
    type Item = Result<&'s T, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next()?.map(|(_, value)| value))
    }
}

impl<T: PongoRecord> FusedIterator for Rows<'_, T> {}

/// An iterator over a table's rows with their row numbers. See [`Table::entries`].
#[derive(Debug)]
pub struct Entries<'s, T> {
    slices: Slices<'s, T>,
    /// The number of the next row of `slice`.
    row: RowId,
    slice: core::slice::Iter<'s, T>,
}

impl<T> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        Self { slices: self.slices.clone(), row: self.row, slice: self.slice.clone() }
    }
}

impl<'s, T: PongoRecord> Iterator for Entries<'s, T> {
    type Item = Result<(RowId, &'s T), ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
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

impl<T: PongoRecord> FusedIterator for Entries<'_, T> {}

//! Rows by an index other than the key's, or by a part of the key.

use std::ops::{Bound, RangeBounds};

use pongo_core::error::ReadError;
use pongo_core::record::PongoRecord;
use pongo_core::search::{IndexColumns, IntoValue, KeyPrefix};
use pongo_index::key_hash;

use crate::range::Range;
use crate::read::Table;
use crate::unique::{Unique, find_unique};

impl<'s, T: PongoRecord> Table<'s, T> {
    /// The index over a column, or a tuple of columns: one that `#[pongo(index)]` or `#[pongo(unique)]` asks for, or the key, or the
    /// first columns of one.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "flights")]
    /// #[pongo(index(carrier, delay))]
    /// struct Flight {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     #[pongo(index)]
    ///     delay: f64,
    ///     carrier: FixedStr<8>,
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let mut tx = store.begin_write()?;
    /// for (id, carrier, delay) in [(1, "UA", 2.0), (2, "AA", 77.5), (3, "UA", -3.0)] {
    ///     tx.table::<Flight>()?.put(&Flight { id, delay, carrier: carrier.parse()? })?;
    /// }
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let flights = snapshot.table::<Flight>()?;
    /// let ids = |rows: pongo::Range<'_, Flight>| rows.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, pongo::ReadError>>();
    /// assert_eq!(ids(flights.by(Flight::DELAY).range(0.0..)?)?, [1, 2]);
    /// assert_eq!(ids(flights.by(Flight::CARRIER).equal("UA")?)?, [3, 1]);
    /// assert_eq!(ids(flights.by((Flight::CARRIER, Flight::DELAY)).equal(("AA", 77.5))?)?, [2]);
    /// let longest = flights.by(Flight::DELAY).rev()?.next().ok_or("there are some")??;
    /// assert_eq!(longest.id, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by<C: IndexColumns<T>>(&self, columns: C) -> By<'s, T, C> {
        By { table: self.clone(), columns }
    }
}

/// A table by one of its indexes: see [`Table::by`].
pub struct By<'s, T, C> {
    table: Table<'s, T>,
    columns: C,
}

impl<T: PongoRecord, C: IndexColumns<T>> core::fmt::Debug for By<'_, T, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("By").field("table", &T::SCHEMA.table).field("columns", &self.columns.names()).finish()
    }
}

impl<'s, T: PongoRecord, C: IndexColumns<T>> By<'s, T, C> {
    /// The fields of the index whose first ones are these columns: the one with the fewest.
    fn fields(&self) -> Result<&'static [usize], ReadError> {
        let names = self.columns.names();
        let name_of = |&place: &usize| T::SCHEMA.fields.get(place).map(|field| field.name);
        let begins = |fields: &&'static [usize]| {
            fields.len() >= names.len()
                && fields.iter().zip(&names).all(|(place, name)| name_of(place) == Some(*name))
        };
        let all = std::iter::once(T::SCHEMA.key).chain(T::SCHEMA.indexes.iter().map(|index| index.fields));
        all.filter(begins).min_by_key(|fields| fields.len()).ok_or_else(|| ReadError::NoIndex {
            table: T::SCHEMA.table,
            asked: names.join(", "),
            known: T::SCHEMA.indexes.iter().map(|index| index.name).collect::<Vec<_>>().join("`, `"),
        })
    }

    /// The row with a value of all fields of a unique index, from its hash index.
    fn unique(&self, fields: &[usize], raw: &[u8]) -> Result<Option<Range<'s, T>>, ReadError> {
        let snapshot = self.table.snapshot();
        if self.columns.names().len() != fields.len() {
            return Ok(None);
        }
        let (Some(handle), Some(view)) = (snapshot.handle::<T>()?, self.table.view()) else {
            return Ok(None);
        };
        let is_it = |unique: &&Unique| view.core().schema().indexes[unique.place].fields == fields;
        let Some(unique) = handle.unique.iter().find(is_it) else { return Ok(None) };
        let Some(index) = snapshot.shared().ordered.index(view.core(), fields) else { return Ok(None) };
        let found =
            find_unique::<T>(view, unique, key_hash(raw), raw, || self.table.newest(fields, raw, None))?;
        Ok(Some(match found {
            Some((row, _)) => Range::one(view, index, row),
            None => Range::empty(index.cursor_id()),
        }))
    }

    fn raw(value: &C::Value) -> Vec<u8> {
        let mut raw = Vec::new();
        C::bytes(value, &mut raw);
        raw
    }

    /// Rows with this value. A string that is too long for its column equals none.
    ///
    /// # Errors
    /// [`ReadError::NoIndex`] if no index begins with these columns; [`ReadError::Fault`] if rows are damaged.
    pub fn equal(&self, value: impl IntoValue<C::Value>) -> Result<Range<'s, T>, ReadError> {
        let fields = self.fields()?;
        let Some(value) = value.into_value() else { return Ok(Range::empty(0)) };
        let raw = Self::raw(&value);
        if let Some(found) = self.unique(fields, &raw)? {
            return Ok(found);
        }
        self.table.range_of(fields, Bound::Included(raw.clone()), Bound::Included(raw))
    }

    /// Rows with values within bounds, in the order of the values; equal ones in the order in which they were put.
    ///
    /// # Errors
    /// As for [`equal`](Self::equal), and [`ReadError::StartAfterEnd`].
    pub fn range(&self, bounds: impl RangeBounds<C::Value>) -> Result<Range<'s, T>, ReadError> {
        let (start, end) = (bounds.start_bound().map(Self::raw), bounds.end_bound().map(Self::raw));
        self.table.range_of(self.fields()?, start, end)
    }

    /// Rows whose values begin with a prefix, as in [`Table::prefix`].
    ///
    /// # Errors
    /// As for [`equal`](Self::equal).
    pub fn prefix(&self, prefix: impl KeyPrefix<C::Value>) -> Result<Range<'s, T>, ReadError> {
        self.table.prefix_of(self.fields()?, &prefix)
    }

    /// All rows in the order of the index.
    ///
    /// # Errors
    /// As for [`equal`](Self::equal).
    pub fn all(&self) -> Result<Range<'s, T>, ReadError> {
        self.range(..)
    }

    /// All rows from the highest value down: `all()?.rev()`.
    ///
    /// # Errors
    /// As for [`equal`](Self::equal).
    pub fn rev(&self) -> Result<std::iter::Rev<Range<'s, T>>, ReadError> {
        Ok(self.all()?.rev())
    }

    /// The row with the lowest value.
    ///
    /// # Errors
    /// As for [`equal`](Self::equal).
    pub fn first(&self) -> Result<Option<&'s T>, ReadError> {
        self.all()?.next().transpose()
    }

    /// The row with the highest value.
    ///
    /// # Errors
    /// As for [`equal`](Self::equal).
    pub fn last(&self) -> Result<Option<&'s T>, ReadError> {
        self.all()?.next_back().transpose()
    }

    /// How many rows have values within bounds.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn count(&self, bounds: impl RangeBounds<C::Value>) -> Result<u64, ReadError> {
        self.range(bounds)?.count_rows()
    }
}

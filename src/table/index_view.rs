//! Access to rows through a secondary index, or through the first fields of the key.

use std::ops::Bound;

use pongo_core::error::ReadError;
use pongo_core::record::PongoRecord;
use pongo_core::search::{IndexColumns, IntoValue, KeyPrefix, ValueBounds};

use crate::index::unique::{Unique, find_unique};
use crate::keys::{InRow, KeyKind, Keys, table_name};
use crate::table::range::Range;
use crate::table::{Parts, Table};

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    /// Returns the index over a column, or over a tuple of columns: an index declared with
    /// `#[pongo(index)]` or `#[pongo(unique)]`, the key, or the first columns of either.
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
    /// let tx = store.begin_write()?;
    /// for (id, carrier, delay) in [(1, "UA", 2.0), (2, "AA", 77.5), (3, "UA", -3.0)] {
    ///     tx.table::<Flight>()?.put(&Flight { id, delay, carrier: carrier.parse()? })?;
    /// }
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let flights = snapshot.table::<Flight>()?;
    /// let ids = |rows: pongo::Range<'_, Flight>| rows.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, pongo::ReadError>>();
    /// assert_eq!(ids(flights.by(Flight::DELAY).range(0.0..)?)?, [1, 2]);
    /// assert_eq!(ids(flights.by(Flight::CARRIER).eq("UA")?)?, [3, 1]);
    /// assert_eq!(ids(flights.by((Flight::CARRIER, Flight::DELAY)).eq(("AA", 77.5))?)?, [2]);
    /// let longest = flights.by(Flight::DELAY).rev()?.next().ok_or("there are some")??;
    /// assert_eq!(longest.id, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by<C: IndexColumns<T>>(&self, columns: C) -> IndexView<'s, T, C, K> {
        IndexView { table: self.clone(), columns }
    }
}

/// Returns the fields of the index that starts with these columns; if there are several, of the one
/// with the fewest fields.
pub(crate) fn fields_of<T, K: Keys<T>>(
    columns: &impl IndexColumns<T>,
) -> Result<&'static [usize], ReadError> {
    let (names, schema) = (columns.names(), K::Row::SCHEMA);
    let name_of = |&place: &usize| schema.fields.get(place).map(|field| field.name);
    let begins = |fields: &&'static [usize]| {
        fields.len() >= names.len()
            && fields.iter().zip(&names).all(|(place, name)| name_of(place) == Some(*name))
    };
    let all = std::iter::once(schema.key).chain(schema.indexes.iter().map(|index| index.fields));
    all.filter(begins).min_by_key(|fields| fields.len()).ok_or_else(|| ReadError::NoIndex {
        table: schema.table,
        asked: names.join(", "),
        known: schema.indexes.iter().map(|index| index.name).collect::<Vec<_>>().join("`, `"),
    })
}

/// A table accessed through one of its indexes. See [`Table::by`].
pub struct IndexView<'s, T, C, K: KeyKind<T> = InRow> {
    table: Table<'s, T, K>,
    columns: C,
}

impl<T, C: IndexColumns<T>, K: Keys<T>> core::fmt::Debug for IndexView<'_, T, C, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IndexView")
            .field("table", &table_name::<T, K>())
            .field("columns", &self.columns.names())
            .finish()
    }
}

impl<'s, T, C: IndexColumns<T>, K: Keys<T>> IndexView<'s, T, C, K> {
    fn fields(&self) -> Result<&'static [usize], ReadError> {
        fields_of::<T, K>(&self.columns)
    }

    /// Returns the row with a value in a unique index, found in its hash index. Returns `None` if
    /// the hash index cannot answer, for example because the columns are not all the fields of a
    /// unique index, or the value is absent.
    fn unique(&self, fields: &[usize], raw: &[u8]) -> Result<Option<Range<'s, T, K>>, ReadError> {
        if self.columns.names().len() != fields.len() {
            return Ok(None);
        }
        let Some(Parts { view, handle }) = self.table.parts() else { return Ok(None) };
        let is_it = |unique: &&Unique| view.core().schema().indexes[unique.place].fields == fields;
        let Some(unique) = handle.unique.iter().find(is_it) else { return Ok(None) };
        let Some(value) = unique.ranges.value_of(raw) else { return Ok(None) };
        let Some(index) = self.table.ordered_index(view, fields) else { return Ok(None) };
        let newest = || self.table.newest(fields, raw, None);
        let found = find_unique::<K::Row>(view, unique, &value, newest)?;
        let Some(own) = self.table.own() else {
            return Ok(Some(match found {
                Some((row, _)) => Range::one(&self.table, view, index, row),
                None => Range::empty(&self.table, index.cursor_id()),
            }));
        };
        // The transaction may have deleted or changed the committed row, and may have its own row
        // with this value.
        let left = match found {
            Some((row, value)) => own.first_run(std::slice::from_ref(value))?.map(|_| row),
            None => None,
        };
        let same = Bound::Included(raw.to_vec());
        Ok(match index.keys().limits(same.clone(), same) {
            Some(limits) => Some(Range::one_and_own(&self.table, view, &index, left, limits)),
            None => None,
        })
    }

    fn raw(value: &C::Value) -> Vec<u8> {
        let mut raw = Vec::new();
        C::bytes(value, &mut raw);
        raw
    }

    /// Returns the rows with this value. A string that is too long for its column equals no row.
    ///
    /// Floats are equal as in every float order here ([`IndexField`](crate::IndexField)): `0.0`
    /// also finds `-0.0`, and a NaN finds every NaN. For a column of `Maybe`s, a value may stand
    /// without `Maybe::some`. `Maybe::none()` finds the rows without a value, as
    /// [`is_none`](crate::Column::is_none) does in a filter, also in a unique index, where it finds
    /// any number of rows.
    ///
    /// # Errors
    /// [`ReadError::NoIndex`] if no index starts with these columns; [`ReadError::Storage`] if rows
    /// are damaged.
    pub fn eq(&self, value: impl IntoValue<C::Value>) -> Result<Range<'s, T, K>, ReadError> {
        let fields = self.fields()?;
        let Some(value) = value.into_value() else { return Ok(Range::empty(&self.table, 0)) };
        let raw = Self::raw(&value);
        if let Some(found) = self.unique(fields, &raw)? {
            return Ok(found);
        }
        self.table.range_of(fields, Bound::Included(raw.clone()), Bound::Included(raw))
    }

    /// Returns the rows whose values are within bounds, in the order of the values, and rows with
    /// equal values in the order in which they were last put. Among equal rows that a write
    /// transaction has put itself, this order can change when it deletes one of them: see
    /// [`Cursor`](crate::Cursor).
    ///
    /// The ends are values of the columns, with or without `Maybe::some`, or strings of any length
    /// for [`FixedStr`](crate::FixedStr) columns: see [`BoundValue`](crate::BoundValue). A range
    /// whose start is after its end is empty.
    ///
    /// NaN is greater than infinity: the range `0.0..` contains it, `0.0..=f64::INFINITY` does not.
    ///
    /// Rows without a value (of a [`Maybe`](crate::Maybe)) come first in a range without bounds, as
    /// in [`all`](Self::all). Bounds that are values exclude them, because no comparison with an
    /// absent value is true: `..Maybe::some(5.0)` contains the rows whose value is less than 5.
    /// With several columns, a row is compared with a bound as in SQL: up to the first column in
    /// which it differs from the bound, and it is excluded if it has no value in that column or an
    /// earlier one. A bound of `Maybe::none()` stands for the position of absent values in the
    /// order, so that a range can start with them: `Maybe::none()..Maybe::some(5.0)`.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// #[pongo(table = "flights")]
    /// struct Flight {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     #[pongo(index)]
    ///     delay: Maybe<f64>,
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// for (id, delay) in [(1, Some(f64::NAN)), (2, None), (3, Some(-2.0)), (4, Some(7.5))] {
    ///     tx.table::<Flight>()?.put(&Flight { id, delay: delay.into() })?;
    /// }
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let flights = snapshot.table::<Flight>()?;
    /// let ids = |rows: pongo::Range<'_, Flight>| rows.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, pongo::ReadError>>();
    /// let delays = flights.by(Flight::DELAY);
    /// assert_eq!(ids(delays.all()?)?, [2, 3, 4, 1]);
    /// assert_eq!(ids(delays.range(..5.0)?)?, [3]);
    /// assert_eq!(ids(delays.range(..Maybe::some(5.0))?)?, [3]);
    /// assert_eq!(ids(delays.range(0.0..)?)?, [4, 1]);
    /// assert_eq!(flights.filter(Flight::DELAY.ge(0.0)).count(), 2);
    /// assert_eq!(ids(delays.range(Maybe::none()..Maybe::some(5.0))?)?, [2, 3]);
    /// assert_eq!(ids(delays.eq(Maybe::none())?)?, [2]);
    /// assert_eq!(ids(delays.range(Maybe::some(5.0)..Maybe::some(0.0))?)?, [0; 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// #[pongo::record]
    /// #[pongo(table = "users")]
    /// struct User {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     #[pongo(unique)]
    ///     mail: FixedStr<16>,
    /// }
    ///
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// for (id, mail) in [(1, "ada@x.org"), (2, "bob@x.org"), (3, "cy@x.org")] {
    ///     tx.table::<User>()?.put(&User { id, mail: mail.parse()? })?;
    /// }
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let users = snapshot.table::<User>()?;
    /// assert_eq!(users.by(User::MAIL).range("a".."b")?.count(), 1);
    /// assert_eq!(users.by(User::MAIL).range("bob@x.org"..)?.count(), 2);
    /// assert_eq!(users.by(User::MAIL).range(..="bob and everybody before him")?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, bounds: impl ValueBounds<C::Value>) -> Result<Range<'s, T, K>, ReadError> {
        let (start, end) = bounds.value_bounds();
        self.table.range_of(self.fields()?, start, end)
    }

    /// Returns the rows whose values start with a prefix, like [`Table::prefix`].
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn prefix(&self, prefix: impl KeyPrefix<C::Value>) -> Result<Range<'s, T, K>, ReadError> {
        self.table.prefix_of(self.fields()?, &prefix)
    }

    /// Returns all rows in the order of the index. Rows without a value come first.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn all(&self) -> Result<Range<'s, T, K>, ReadError> {
        self.range(..)
    }

    /// Returns all rows in the reverse order of the index: `all()?.rev()`.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn rev(&self) -> Result<std::iter::Rev<Range<'s, T, K>>, ReadError> {
        Ok(self.all()?.rev())
    }

    /// Returns the row with the lowest value. A row without a value is lowest.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn first(&self) -> Result<Option<K::Item<'s>>, ReadError> {
        self.all()?.next().transpose()
    }

    /// Returns the row with the highest value. For floats, NaN is highest.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn last(&self) -> Result<Option<K::Item<'s>>, ReadError> {
        self.all()?.next_back().transpose()
    }

    /// Returns the number of rows whose values are within bounds.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn count(&self, bounds: impl ValueBounds<C::Value>) -> Result<u64, ReadError> {
        self.range(bounds)?.count_rows()
    }
}

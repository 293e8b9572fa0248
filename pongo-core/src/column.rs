//! A field of a record as a value, e.g. `Flight::CARRIER`.

use core::fmt;

use crate::fields::{FixedStr, FixedStrError, Maybe};

/// The field `F` of the record `R`. The macros define one constant for each field of a table's
/// record.
///
/// Costs nothing: it holds a name, an offset and a function that borrows the field.
///
/// Its comparisons create conditions ([`Predicate`](crate::predicate::Predicate)) for
/// `Table::filter`.
pub struct Column<R, F> {
    name: &'static str,
    offset: usize,
    project: fn(&R) -> &F,
}

impl<R, F> Column<R, F> {
    /// Creates a column. For the macros: `name` and `offset` are those of the field that `project`
    /// borrows.
    ///
    /// # Panics
    /// If no `F` fits at this offset.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, offset: usize, project: fn(&R) -> &F) -> Self {
        assert!(size_of::<F>() <= size_of::<R>(), "a field is not larger than its record");
        assert!(offset <= size_of::<R>() - size_of::<F>(), "a field is inside its record");
        Self { name, offset, project }
    }

    /// Returns the field's name, as in the schema.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the offset in bytes of the field from the record's start.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the field of one row.
    #[must_use]
    #[inline]
    pub fn of<'row>(&self, row: &'row R) -> &'row F {
        (self.project)(row)
    }
}

impl<R, const N: usize> Column<R, FixedStr<N>> {
    /// Converts a text to a value of this column: [`FixedStr::new`], with an error that names the
    /// column.
    ///
    /// # Errors
    /// [`FixedStrError`] if it has more than `N` bytes or a zero byte.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// struct Flight {
    ///     #[pongo(key)]
    ///     id: u16,
    ///     carrier: FixedStr<2>,
    /// }
    ///
    /// let flight = Flight { id: 7, carrier: Flight::CARRIER.text("UA")? };
    /// let error = Flight::CARRIER.text("UAL").unwrap_err().to_string();
    /// let expected = "the text \"UAL\" (3 bytes) does not fit into column `carrier`, a FixedStr<2>";
    /// assert!(error.starts_with(expected));
    /// # assert_eq!(flight.carrier, "UA");
    /// # Ok::<(), pongo::FixedStrError>(())
    /// ```
    pub fn text(&self, text: &str) -> Result<FixedStr<N>, FixedStrError> {
        FixedStr::new(text).map_err(|error| error.of_column(self.name))
    }
}

impl<R, const N: usize> Column<R, Maybe<FixedStr<N>>> {
    /// Converts a text to a value of this column, as for a column of `FixedStr`.
    ///
    /// # Errors
    /// As for a column of `FixedStr`.
    pub fn text(&self, text: &str) -> Result<FixedStr<N>, FixedStrError> {
        FixedStr::new(text).map_err(|error| error.of_column(self.name))
    }
}

impl<R, F> Clone for Column<R, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, F> Copy for Column<R, F> {}

impl<R, F> fmt::Debug for Column<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("name", &self.name).field("offset", &self.offset).finish()
    }
}

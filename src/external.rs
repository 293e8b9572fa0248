//! Tables whose keys are not fields of their records, in a snapshot: [`ExternalTable`].
//!
//! A row of such a table consists of a digest of its key, the address of the key's bytes in the
//! heap ([`pongo_core::fields::external`]), and the record. The digest is the row's key, so hash
//! index, marks and journal treat it like any other row. This module adds two things: each lookup
//! compares the key's own bytes, and the ordered index is sorted by these bytes.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{
    Bound, Range as Between, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

use pongo_core::error::ReadError;
use pongo_core::fields::{ExternalKey, HeapRead, key_digest};
use pongo_core::predicate::Predicate;
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::search::{IndexColumns, IntoValue, KeyPrefix, ValueBounds};
use pongo_index::{after_prefix, key_hash};

use crate::ordered_index::Limits;
use crate::table::Table;
use crate::table::index_view::IndexView;
use crate::table::iter::Rows;
use crate::table::lookup::site;
use crate::table::range::{Cursor, Range};

/// A table in a [`Snapshot`](crate::Snapshot) that stores `T`s under keys of arbitrary bytes:
/// `#[pongo(key = "external")]`. What it returns borrows from the snapshot, not from the
/// `ExternalTable`.
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "images", key = "external")]
/// struct Image {
///     #[pongo(index)]
///     taken: u32,
///     pixels: [[u8; 8]; 8],
/// }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// let mut images = tx.external::<Image>()?;
/// for (key, taken) in [("cats/tom.png", 7), ("cats/felix.png", 3), ("dogs/rex.png", 5)] {
///     images.put(key, &Image { taken, pixels: [[0; 8]; 8] })?;
/// }
/// drop(images);
/// tx.commit()?;
///
/// let snapshot = store.begin_read()?;
/// let images = snapshot.external::<Image>()?;
/// assert_eq!(images.get("dogs/rex.png")?.map(|image| image.taken), Some(5));
/// assert!(images.get("dogs")?.is_none());
///
/// let cats = images.prefix("cats/")?.map(|item| Ok(item?.0)).collect::<Result<Vec<_>, pongo::ReadError>>()?;
/// assert_eq!(cats, [&b"cats/felix.png"[..], b"cats/tom.png"]);
/// assert_eq!(images.count("cats/g".."dogs/s")?, 2);
/// let (key, oldest) = images.by(Image::TAKEN).first()?.ok_or("there are some")?;
/// assert_eq!((key, oldest.taken), (&b"cats/felix.png"[..], 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A type without a key field has no [`Table`]:
/// ```compile_fail,E0277
/// # use pongo::prelude::*;
/// # #[pongo::record]
/// # #[pongo(table = "images", key = "external")]
/// # struct Image { taken: u32 }
/// # let store = Store::in_memory()?;
/// # let snapshot = store.begin_read()?;
/// let images = snapshot.table::<Image>()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ExternalTable<'s, T: ExternalRecord> {
    rows: Table<'s, T::Row>,
}

impl<T: ExternalRecord> Clone for ExternalTable<'_, T> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<T: ExternalRecord> core::fmt::Debug for ExternalTable<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalTable")
            .field("table", &T::Row::SCHEMA.table)
            .field("len", &self.len())
            .finish()
    }
}

/// Bounds on keys: a range of any kind over types that have bytes, as in `"a".."b"`, `..=[3, 0]`,
/// `key..`, or a pair of [`Bound`]s.
pub trait KeyBounds {
    /// Returns the start and the end bound.
    fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

impl KeyBounds for RangeFull {
    fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

macro_rules! key_bounds {
    ($($range:ty),*) => {$(
        impl<K: AsRef<[u8]>> KeyBounds for $range {
            fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
                (self.start_bound().map(K::as_ref), self.end_bound().map(K::as_ref))
            }
        }
    )*};
}

key_bounds!(
    Between<K>,
    RangeFrom<K>,
    RangeTo<K>,
    RangeInclusive<K>,
    RangeToInclusive<K>,
    (Bound<K>, Bound<K>)
);

/// Returns the bytes of a row's key.
pub(crate) fn key_in<'h, T: ExternalRecord>(
    heap: &'h (impl HeapRead + ?Sized),
    row: &T::Row,
) -> Result<&'h [u8], ReadError> {
    let key: ExternalKey = T::key_of(row);
    key.as_bytes(heap)
        .map_err(|source| ReadError::ExternalKey { table: T::Row::SCHEMA.table.to_owned(), source })
}

/// Returns the next key after this one, in byte order.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Converts bounds to limits on keys. Returns `None` if the bounds contain no keys, for example
/// because the start is after the end.
pub(crate) fn limits(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Option<Limits> {
    let from = match start {
        Bound::Unbounded => None,
        Bound::Included(from) => Some(from.to_vec()),
        Bound::Excluded(from) => Some(successor(from)),
    };
    let below = match end {
        Bound::Unbounded => None,
        Bound::Included(to) => Some(successor(to)),
        Bound::Excluded(to) => Some(to.to_vec()),
    };
    let is_empty =
        below.as_ref().is_some_and(|below| from.as_ref().map_or(&[][..], |from| from) >= &below[..]);
    (!is_empty).then(|| Limits { from, below, ..Limits::default() })
}

impl<'s, T: ExternalRecord> ExternalTable<'s, T> {
    pub(crate) fn new(rows: Table<'s, T::Row>) -> Self {
        Self { rows }
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.rows.len()
    }

    /// Returns whether the table has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the value under this key, as a reference into the mapped file. Costs a cache miss in
    /// the index, one in the rows and one in the heap, where the key's bytes are compared.
    ///
    /// # Errors
    /// [`ReadError::Storage`] if the index or the row's block is damaged; [`ReadError::InvalidRow`]
    /// if the row's bytes are not a valid `T`; [`ReadError::ExternalKey`] if the key's bytes cannot
    /// be read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&'s T>, ReadError> {
        let key = key.as_ref();
        let digest = <T::Row as PongoRecord>::encode_key(&key_digest(key));
        let found = self.rows.find::<{ site::EXTERNAL }>(key_hash(digest.as_ref()), &digest, Some(key))?;
        let Some((_, row)) = found else { return Ok(None) };
        let is_it = key_in::<T>(self.rows.source().heap, row)? == key;
        Ok(is_it.then(|| T::value_of(row)))
    }

    /// Returns whether a value under this key exists.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError> {
        Ok(self.get(key)?.is_some())
    }

    /// Looks up many keys and returns the results in the order of the keys, with one
    /// [`get`](Self::get) per key.
    pub fn get_many<'k, K: AsRef<[u8]>>(&self, keys: &'k [K]) -> ExternalGetMany<'s, 'k, T, K> {
        ExternalGetMany { table: self.clone(), keys: keys.iter() }
    }

    /// Returns the keys and values that match a predicate on the fields of `T`, in the order of
    /// [`rows`](Self::rows). Every value is tested: zone maps are not used here.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "counts", key = "external")]
    /// # struct Count { n: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.external::<Count>()?.extend(["a", "ab", "abc"].map(|key| (key, Count { n: key.len() as u64 })))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let counts = snapshot.external::<Count>()?;
    /// let (key, _) = counts.filter(Count::N.gt(2)).next().ok_or("one is")??;
    /// assert_eq!(key, b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter<P: Predicate<T>>(&self, predicate: P) -> ExternalFiltered<'s, T, P> {
        ExternalFiltered { rows: self.rows.rows(), heap: self.rows.source().heap, predicate }
    }

    /// Returns all keys and values, in the order in which they were last put. Reads the bytes of
    /// each key; [`values`](Self::values) does not.
    #[must_use]
    pub fn rows(&self) -> ExternalRows<'s, T> {
        ExternalRows { rows: self.rows.rows(), heap: self.rows.source().heap }
    }

    /// Returns all values without their keys, in the order of [`rows`](Self::rows).
    #[must_use]
    pub fn values(&self) -> ExternalValues<'s, T> {
        ExternalValues { rows: self.rows.rows() }
    }

    /// Returns the keys within bounds and their values, in the order of the keys' bytes: a key
    /// comes before all longer keys that start with it.
    ///
    /// Costs as much as [`Table::range`], and reads each key's bytes twice: 0.3 µs per item if keys
    /// were put in random order.
    ///
    /// # Errors
    /// As for [`Table::range`].
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "counts", key = "external")]
    /// # struct Count { n: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.external::<Count>()?.extend(["a", "ab", "abc", "b", ""].map(|key| (key, Count { n: key.len() as u64 })))?;
    /// # tx.commit()?;
    /// use std::ops::Bound;
    ///
    /// let snapshot = store.begin_read()?;
    /// let counts = snapshot.external::<Count>()?; // of "", "a", "ab", "abc" and "b"
    /// let mut keys = Vec::new();
    /// for item in counts.range("a"..="ab")? {
    ///     keys.push(item?.0);
    /// }
    /// assert_eq!(keys, [&b"a"[..], b"ab"]);
    /// assert_eq!(counts.count((Bound::Excluded("a"), Bound::Excluded("b")))?, 2);
    /// assert_eq!(counts.range(..)?.rev().count(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, bounds: impl KeyBounds) -> Result<ExternalRange<'s, T>, ReadError> {
        let (start, end) = bounds.key_bounds();
        self.within(limits(start, end))
    }

    /// Returns the keys that start with these bytes and their values, in key order.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<ExternalRange<'s, T>, ReadError> {
        let prefix = prefix.as_ref();
        let below = after_prefix(prefix);
        self.within(Some(Limits { from: Some(prefix.to_vec()), below, ..Limits::default() }))
    }

    fn within(&self, limits: Option<Limits>) -> Result<ExternalRange<'s, T>, ReadError> {
        let range = match limits {
            Some(limits) => self.rows.range_within(limits)?,
            None => self.rows.no_range()?,
        };
        Ok(self.with_keys(range))
    }

    fn with_keys(&self, range: Range<'s, T::Row>) -> ExternalRange<'s, T> {
        ExternalRange { range, heap: self.rows.source().heap, failed: false }
    }

    /// Returns the lowest key and its value.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn first(&self) -> Result<Option<(&'s [u8], &'s T)>, ReadError> {
        self.range(..)?.next().transpose()
    }

    /// Returns the highest key and its value.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn last(&self) -> Result<Option<(&'s [u8], &'s T)>, ReadError> {
        self.range(..)?.next_back().transpose()
    }

    /// Returns the number of keys within bounds.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn count(&self, bounds: impl KeyBounds) -> Result<u64, ReadError> {
        self.range(bounds)?.count_rows()
    }

    /// Returns the index over a column, or over a tuple of columns, of the fields of `T`, like
    /// [`Table::by`].
    pub fn by<C: IndexColumns<T>>(&self, columns: C) -> ExternalIndexView<'s, T, C> {
        let by = self.rows.by(Behind { columns, value: PhantomData });
        ExternalIndexView { table: self.clone(), by }
    }
}

impl<'s, T: ExternalRecord> IntoIterator for &ExternalTable<'s, T> {
    type Item = Result<(&'s [u8], &'s T), ReadError>;
    type IntoIter = ExternalRows<'s, T>;

    fn into_iter(self) -> ExternalRows<'s, T> {
        self.rows()
    }
}

fn item<'s, T: ExternalRecord>(
    heap: &'s (dyn HeapRead + Sync),
    row: Result<&'s T::Row, ReadError>,
) -> Result<(&'s [u8], &'s T), ReadError> {
    let row = row?;
    Ok((key_in::<T>(heap, row)?, T::value_of(row)))
}

/// An iterator over the keys and values of a table. See [`ExternalTable::rows`].
pub struct ExternalRows<'s, T: ExternalRecord> {
    rows: Rows<'s, T::Row>,
    heap: &'s (dyn HeapRead + Sync),
}

impl<T: ExternalRecord> Clone for ExternalRows<'_, T> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), heap: self.heap }
    }
}

impl<T: ExternalRecord> core::fmt::Debug for ExternalRows<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalRows").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<'s, T: ExternalRecord> Iterator for ExternalRows<'s, T> {
    type Item = Result<(&'s [u8], &'s T), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(item(self.heap, self.rows.next()?))
    }
}

impl<T: ExternalRecord> FusedIterator for ExternalRows<'_, T> {}

/// An iterator over the values of many keys. See [`ExternalTable::get_many`].
pub struct ExternalGetMany<'s, 'k, T: ExternalRecord, K> {
    table: ExternalTable<'s, T>,
    keys: std::slice::Iter<'k, K>,
}

impl<T: ExternalRecord, K> core::fmt::Debug for ExternalGetMany<'_, '_, T, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalGetMany")
            .field("table", &self.table)
            .field("keys_left", &self.keys.len())
            .finish()
    }
}

impl<'s, T: ExternalRecord, K: AsRef<[u8]>> Iterator for ExternalGetMany<'s, '_, T, K> {
    type Item = Result<Option<&'s T>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.table.get(self.keys.next()?))
    }
}

/// An iterator over the keys and values that match a predicate. See [`ExternalTable::filter`].
#[must_use]
pub struct ExternalFiltered<'s, T: ExternalRecord, P> {
    rows: Rows<'s, T::Row>,
    heap: &'s (dyn HeapRead + Sync),
    predicate: P,
}

impl<T: ExternalRecord, P> core::fmt::Debug for ExternalFiltered<'_, T, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalFiltered").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<'s, T: ExternalRecord, P: Predicate<T>> Iterator for ExternalFiltered<'s, T, P> {
    type Item = Result<(&'s [u8], &'s T), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let predicate = &self.predicate;
        let row =
            self.rows.find(|row| row.as_ref().map_or(true, |row| predicate.matches(T::value_of(row))))?;
        Some(item(self.heap, row))
    }
}

impl<T: ExternalRecord, P: Predicate<T>> FusedIterator for ExternalFiltered<'_, T, P> {}

/// An iterator over the values of a table. See [`ExternalTable::values`].
pub struct ExternalValues<'s, T: ExternalRecord> {
    rows: Rows<'s, T::Row>,
}

impl<T: ExternalRecord> Clone for ExternalValues<'_, T> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<T: ExternalRecord> core::fmt::Debug for ExternalValues<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalValues").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<'s, T: ExternalRecord> Iterator for ExternalValues<'s, T> {
    type Item = Result<&'s T, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.rows.next()?.map(T::value_of))
    }
}

impl<T: ExternalRecord> FusedIterator for ExternalValues<'_, T> {}

/// An iterator over keys and values in the order of an index, from both ends: a [`Range`] whose
/// items include their keys. An error is the last item.
pub struct ExternalRange<'s, T: ExternalRecord> {
    range: Range<'s, T::Row>,
    heap: &'s (dyn HeapRead + Sync),
    /// Set after a key could not be read.
    failed: bool,
}

impl<T: ExternalRecord> core::fmt::Debug for ExternalRange<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalRange").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<'s, T: ExternalRecord> ExternalRange<'s, T> {
    /// Starts the range after a cursor, like [`Range::start_after`].
    ///
    /// # Errors
    /// As for [`Range::start_after`].
    pub fn start_after(self, cursor: &Cursor) -> Result<Self, ReadError> {
        Ok(Self { range: self.range.start_after(cursor)?, ..self })
    }

    /// Returns the position of the item that [`next`](Iterator::next) returned last, like
    /// [`Range::cursor`].
    ///
    /// # Errors
    /// As for [`Range::cursor`].
    pub fn cursor(&self) -> Result<Option<Cursor>, ReadError> {
        self.range.cursor()
    }

    /// Returns the number of remaining keys, like [`Range::count_rows`].
    ///
    /// # Errors
    /// As for [`Range::count_rows`].
    pub fn count_rows(self) -> Result<u64, ReadError> {
        self.range.count_rows()
    }

    fn item(&mut self, row: Option<Result<&'s T::Row, ReadError>>) -> Option<<Self as Iterator>::Item> {
        let item = item(self.heap, row?);
        self.failed = item.is_err();
        Some(item)
    }
}

impl<'s, T: ExternalRecord> Iterator for ExternalRange<'s, T> {
    type Item = Result<(&'s [u8], &'s T), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.range.next();
        self.item(row)
    }
}

impl<T: ExternalRecord> DoubleEndedIterator for ExternalRange<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.range.next_back();
        self.item(row)
    }
}

impl<T: ExternalRecord> FusedIterator for ExternalRange<'_, T> {}

/// Columns of a value as columns of its row, which have the same names.
struct Behind<C, T> {
    columns: C,
    value: PhantomData<fn() -> T>,
}

impl<T: ExternalRecord, C: IndexColumns<T>> IndexColumns<T::Row> for Behind<C, T> {
    type Value = C::Value;

    fn names(&self) -> Vec<&'static str> {
        self.columns.names()
    }

    fn bytes(value: &C::Value, out: &mut Vec<u8>) {
        C::bytes(value, out);
    }
}

/// A table accessed through one of its secondary indexes. See [`ExternalTable::by`].
pub struct ExternalIndexView<'s, T: ExternalRecord, C> {
    table: ExternalTable<'s, T>,
    by: IndexView<'s, T::Row, Behind<C, T>>,
}

impl<T: ExternalRecord, C: IndexColumns<T>> core::fmt::Debug for ExternalIndexView<'_, T, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExternalIndexView").field("by", &self.by).finish_non_exhaustive()
    }
}

impl<'s, T: ExternalRecord, C: IndexColumns<T>> ExternalIndexView<'s, T, C> {
    /// Returns the keys and values with this column value, like [`IndexView::eq`].
    ///
    /// # Errors
    /// As for [`IndexView::eq`].
    pub fn eq(&self, value: impl IntoValue<C::Value>) -> Result<ExternalRange<'s, T>, ReadError> {
        Ok(self.table.with_keys(self.by.eq(value)?))
    }

    /// Returns the keys and values whose column values are within bounds, in the order of the
    /// column values, like [`IndexView::range`].
    ///
    /// # Errors
    /// As for [`IndexView::range`].
    pub fn range(&self, bounds: impl ValueBounds<C::Value>) -> Result<ExternalRange<'s, T>, ReadError> {
        Ok(self.table.with_keys(self.by.range(bounds)?))
    }

    /// Returns the keys and values whose column values start with a prefix, like
    /// [`IndexView::prefix`].
    ///
    /// # Errors
    /// As for [`IndexView::prefix`].
    pub fn prefix(&self, prefix: impl KeyPrefix<C::Value>) -> Result<ExternalRange<'s, T>, ReadError> {
        Ok(self.table.with_keys(self.by.prefix(prefix)?))
    }

    /// Returns all keys and values in the order of the index.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn all(&self) -> Result<ExternalRange<'s, T>, ReadError> {
        self.range(..)
    }

    /// Returns all keys and values in the reverse order of the index.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn rev(&self) -> Result<std::iter::Rev<ExternalRange<'s, T>>, ReadError> {
        Ok(self.all()?.rev())
    }

    /// Returns the key and value with the lowest column value.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn first(&self) -> Result<Option<(&'s [u8], &'s T)>, ReadError> {
        self.all()?.next().transpose()
    }

    /// Returns the key and value with the highest column value.
    ///
    /// # Errors
    /// As for [`eq`](Self::eq).
    pub fn last(&self) -> Result<Option<(&'s [u8], &'s T)>, ReadError> {
        self.all()?.next_back().transpose()
    }

    /// Returns the number of values whose column values are within bounds.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn count(&self, bounds: impl ValueBounds<C::Value>) -> Result<u64, ReadError> {
        self.range(bounds)?.count_rows()
    }
}

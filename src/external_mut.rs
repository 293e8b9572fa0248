//! Tables whose keys are not fields of their records, in a write transaction: [`ExternalTableMut`].

use core::borrow::Borrow;
use core::fmt;
use core::ops::{Deref, DerefMut};

use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{Blob, ExternalKey, MAX_EXTERNAL_KEY, key_digest};
use pongo_core::layout::EXTERNAL_HEAD;
use pongo_core::padding::{PaddingFree, copy_to};
use pongo_core::predicate::Predicate;
use pongo_core::record::{ExternalRecord, FieldType, PongoRecord};
use pongo_core::schema::describe_bytes;
use pongo_core::search::IndexColumns;
use pongo_index::key_hash;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::keys::external_key;
use crate::table::external::{
    ExternalFiltered, ExternalGetMany, ExternalIndexView, ExternalRange, ExternalRows, ExternalTable,
    KeyBounds,
};
use crate::table_mut::alloc::RowMut;
use crate::table_mut::range::Visit;
use crate::table_mut::{TableMut, same_row};
use crate::transaction::WriteTransaction;
use crate::write_set::bulk::WRITE;
use crate::write_set::key_map::KeyLocation;
use crate::write_set::{copy, is_large};

/// A table in a [`WriteTransaction`](crate::WriteTransaction) that stores `T`s under keys of 0 to
/// 65,535 arbitrary bytes: `#[pongo(key = "external")]`.
///
/// The bytes of a key are written with the first value that is put under it. Later values under the
/// same key refer to these bytes.
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "pages", key = "external")]
/// struct Page {
///     visits: u64,
///     body: Text,
/// }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// let body = tx.text("<h1>Pongo</h1>")?;
/// let mut pages = tx.external::<Page>()?;
/// assert!(!pages.put("/index.html", &Page { visits: 1, body })?);
/// assert!(pages.insert("/index.html", &Page { visits: 0, body }).is_err());
/// assert_eq!(pages.update("/index.html", |page| page.visits += 1)?, Some(()));
/// assert_eq!(pages.get(b"/index.html")?.map(|page| page.visits), Some(2));
/// assert!(pages.delete("/index.html")? && !pages.contains("/index.html")?);
/// drop(pages);
/// tx.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ExternalTableMut<'t, T: ExternalRecord> {
    rows: TableMut<'t, T::Row>,
}

impl WriteTransaction {
    /// Opens a table of `T`s with arbitrary bytes as keys, for reading and writing. This is
    /// [`table`](Self::table) for a type with `#[pongo(key = "external")]`.
    ///
    /// # Errors
    /// As for [`table`](Self::table).
    pub fn external<T: ExternalRecord>(&self) -> Result<ExternalTableMut<'_, T>, WriteError> {
        Ok(ExternalTableMut::new(self.table::<T::Row>()?))
    }
}

impl<T: ExternalRecord> fmt::Debug for ExternalTableMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalTableMut").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

/// The result of looking up a key in a transaction.
struct Found<'a, T: ExternalRecord> {
    digest: [u8; 16],
    hash: u64,
    spot: KeyLocation,
    /// The row with the key's digest, and whether its key equals the searched one.
    row: Option<(&'a T::Row, bool)>,
}

/// The location at which a value is to be put.
pub(crate) struct Place {
    digest: [u8; 16],
    hash: u64,
    spot: KeyLocation,
    /// The key in the heap, if it already has a value.
    pub(crate) known: Option<ExternalKey>,
}

impl<'t, T: ExternalRecord> ExternalTableMut<'t, T> {
    fn new(rows: TableMut<'t, T::Row>) -> Self {
        Self { rows }
    }

    fn reader(&self) -> Result<ExternalTable<'_, T>, ReadError> {
        Ok(ExternalTable::of_rows(self.rows.reader()?))
    }

    fn key_in(&self, row: &T::Row) -> Result<&[u8], ReadError> {
        external_key::<T>(self.rows.guard, row)
    }

    fn find(&self, key: &[u8]) -> Result<Found<'_, T>, ReadError> {
        let digest = key_digest(key);
        let hash = key_hash(&digest);
        let spot = self.rows.spot(hash, &digest)?;
        let row = match self.rows.value(spot)? {
            Some(row) => Some((row, self.key_in(row)? == key)),
            None => None,
        };
        Ok(Found { digest, hash, spot, row })
    }

    /// Returns the location for a key.
    pub(crate) fn place(&self, key: &[u8]) -> Result<Place, WriteError> {
        let table = || T::Row::SCHEMA.table.to_owned();
        if key.len() > MAX_EXTERNAL_KEY {
            return Err(WriteError::KeyTooLong { table: table(), len: key.len() });
        }
        let Found { digest, hash, spot, row } = self.find(key)?;
        let known = match row {
            Some((row, true)) => Some(T::key_of(row)),
            Some((row, false)) => {
                let existing_key = describe_bytes(self.key_in(row)?);
                return Err(WriteError::DigestCollision {
                    table: table(),
                    key: describe_bytes(key),
                    existing_key,
                });
            }
            None => None,
        };
        Ok(Place { digest, hash, spot, known })
    }

    /// Returns the value at a place, which must not have been changed since it was looked up.
    pub(crate) fn value_at(&self, place: &Place) -> Result<Option<&T>, ReadError> {
        Ok(self.rows.value(place.spot)?.map(T::value_of))
    }

    /// Returns the value that this transaction appended last.
    pub(crate) fn newest_value(&self) -> Result<&T, ReadError> {
        Ok(T::value_of(self.rows.newest_row()?))
    }

    /// Changes the value at a place, like [`update`](Self::update).
    pub(crate) fn update_at<R>(
        &mut self,
        place: &Place,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        self.rows.update_found(place.spot, place.hash, &place.digest, |row| change(T::value_mut(row)))
    }

    /// Deletes the value at a place, and returns a copy of it.
    pub(crate) fn take_at(&mut self, place: &Place) -> Result<Option<T>, WriteError> {
        self.rows.staging().ensure_complete()?;
        let previous = self.value_at(place)?.map(copy);
        if previous.is_some() {
            self.rows.delete_found(place.spot, place.hash);
        }
        Ok(previous)
    }

    fn stage_key(&self, key: &[u8]) -> Result<ExternalKey, WriteError> {
        let (addr, len, hash) = self.rows.tx.stage_heap(key)?;
        Ok(if len == 0 { ExternalKey::EMPTY } else { Blob::new(addr, len, hash).into() })
    }

    /// Returns the value under this key, as this transaction sees it.
    ///
    /// # Errors
    /// [`ReadError`] if the index, the row or the key's bytes are damaged.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&T>, ReadError> {
        let found = self.find(key.as_ref())?;
        Ok(found.row.and_then(|(row, is_it)| is_it.then(|| T::value_of(row))))
    }

    /// Returns whether a value under this key exists.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError> {
        Ok(self.get(key)?.is_some())
    }

    /// Looks up many keys and returns the results in the order of the keys.
    ///
    /// # Errors
    /// As for [`len`](Self::len); for the items, as for [`get`](Self::get).
    pub fn get_many<'s, K: AsRef<[u8]>>(
        &'s self,
        keys: &'s [K],
    ) -> Result<ExternalGetMany<'s, 's, T, K>, ReadError> {
        Ok(self.reader()?.get_many(keys))
    }

    /// Returns all keys and values: the committed ones, then those of this transaction, in
    /// unspecified order.
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn rows(&self) -> Result<ExternalRows<'_, T>, ReadError> {
        Ok(self.reader()?.rows())
    }

    /// Returns the keys and values that match a predicate, like [`ExternalTable::filter`].
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn filter<P: Predicate<T>>(&self, predicate: P) -> Result<ExternalFiltered<'_, T, P>, ReadError> {
        Ok(self.reader()?.filter(predicate))
    }

    /// Returns the keys within bounds and their values, in the order of the keys' bytes, like
    /// [`ExternalTable::range`].
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn range(&self, bounds: impl KeyBounds) -> Result<ExternalRange<'_, T>, ReadError> {
        self.reader()?.range(bounds)
    }

    /// Returns the keys that start with these bytes and their values, in key order.
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<ExternalRange<'_, T>, ReadError> {
        self.reader()?.prefix(prefix)
    }

    /// Returns the lowest key and its value.
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn first(&self) -> Result<Option<(&[u8], &T)>, ReadError> {
        self.reader()?.first()
    }

    /// Returns the highest key and its value.
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn last(&self) -> Result<Option<(&[u8], &T)>, ReadError> {
        self.reader()?.last()
    }

    /// Returns the number of keys within bounds.
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn count(&self, bounds: impl KeyBounds) -> Result<u64, ReadError> {
        self.reader()?.count(bounds)
    }

    /// Returns the index over a column, or over a tuple of columns, like [`ExternalTable::by`].
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn by<C: IndexColumns<T>>(&self, columns: C) -> Result<ExternalIndexView<'_, T, C>, ReadError> {
        Ok(self.reader()?.by(columns))
    }

    /// Returns the number of values.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn len(&self) -> Result<u64, ReadError> {
        self.rows.len()
    }

    /// Returns whether the table has no values.
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }

    /// Inserts or replaces the value under this key. Returns `true` if a value was replaced.
    ///
    /// # Errors
    /// - [`WriteError::KeyTooLong`] if the key has more than 65,535 bytes.
    /// - [`WriteError::DigestCollision`] if another key of the table has the same digest.
    /// - Otherwise as for [`TableMut::put`].
    ///
    /// The table is not changed in these cases.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<bool, WriteError> {
        let key = key.as_ref();
        let place = self.place(key)?;
        self.put_at(&place, key, value)?;
        Ok(place.known.is_some())
    }

    pub(crate) fn put_at(&mut self, place: &Place, key: &[u8], value: &T) -> Result<(), WriteError> {
        if const { is_large::<T::Row>() } {
            return self.put_large_value(place, key, value);
        }
        self.put_small(place, key, value)
    }

    /// Builds the row as bytes, since it is too large for the stack.
    fn put_large_value(&mut self, place: &Place, key: &[u8], value: &T) -> Result<(), WriteError> {
        let mut row = AlignedRow::new(size_of::<T::Row>());
        let (head, body) = row.bytes_mut().split_at_mut(size_of::<T::Row>() - size_of::<T>());
        head[..16].copy_from_slice(&place.digest);
        copy_to(value, body);
        self.check_row(place, row.row::<T::Row>())?;
        let name = self.name(place, key)?;
        row.bytes_mut()[16..EXTERNAL_HEAD].copy_from_slice(IntoBytes::as_bytes(&name));
        self.rows.put_copy(place.spot, place.hash, row.row())
    }

    /// A separate function, so that callers that do not reach it reserve no stack space for a large
    /// row.
    #[inline(never)]
    fn put_small(&mut self, place: &Place, key: &[u8], value: &T) -> Result<(), WriteError> {
        let mut row = copy(value).into_row(place.digest, ExternalKey::EMPTY);
        self.check_row(place, &row)?;
        let name = self.name(place, key)?;
        T::set_key(&mut row, place.digest, name);
        self.rows.put_copy(place.spot, place.hash, &row)
    }

    /// Checks a row before its key is set: a rejected row stages no key bytes.
    fn check_row(&mut self, place: &Place, row: &T::Row) -> Result<(), WriteError> {
        self.rows.check(row)?;
        self.rows.check_unique(place.spot, row)
    }

    fn name(&self, place: &Place, key: &[u8]) -> Result<ExternalKey, WriteError> {
        place.known.map_or_else(|| self.stage_key(key), Ok)
    }

    /// Inserts or replaces the value under this key, as [`put`](Self::put) does, and returns a copy
    /// of the previous value, or `None` if there was none. `put` makes no copy.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "cache", key = "external")]
    /// # struct Entry { used: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut cache = tx.external::<Entry>()?;
    /// assert!(cache.replace("a", &Entry { used: 1 })?.is_none());
    /// assert_eq!(cache.replace("a", &Entry { used: 2 })?.map(|entry| entry.used), Some(1));
    /// assert_eq!(cache.take("a")?.map(|entry| entry.used), Some(2));
    /// # drop(cache);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<Option<T>, WriteError> {
        let key = key.as_ref();
        let place = self.place(key)?;
        let previous = self.value_at(&place)?.map(copy);
        self.put_at(&place, key, value)?;
        Ok(previous)
    }

    /// Changes the value under this key to `new` if it is `expected`, and returns whether it was.
    /// `None` stands for no value, and values are compared by their bytes, as in
    /// [`TableMut::compare_and_set`].
    ///
    /// # Errors
    /// As for [`put`](Self::put). The table is not changed then.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "locks", key = "external")]
    /// # struct Lock { owner: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut locks = tx.external::<Lock>()?;
    /// assert!(locks.compare_and_set("door", None, Some(&Lock { owner: 7 }))?);
    /// assert!(!locks.compare_and_set("door", None, Some(&Lock { owner: 8 }))?);
    /// assert!(locks.compare_and_set("door", Some(&Lock { owner: 7 }), None)?);
    /// assert!(locks.is_empty()?);
    /// # drop(locks);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_and_set(
        &mut self,
        key: impl AsRef<[u8]>,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<bool, WriteError> {
        let key = key.as_ref();
        let place = self.place(key)?;
        if !same_row(self.value_at(&place)?, expected) {
            return Ok(false);
        }
        match (new, expected) {
            (Some(value), _) => self.put_at(&place, key, value)?,
            (None, Some(_)) => {
                self.rows.staging().ensure_complete()?;
                self.rows.delete_found(place.spot, place.hash);
            }
            (None, None) => {}
        }
        Ok(true)
    }

    /// Inserts a value under a new key.
    ///
    /// # Errors
    /// [`WriteError::KeyExists`] if a value under this key exists; otherwise as for
    /// [`put`](Self::put). The table is not changed in these cases.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<(), WriteError> {
        let key = key.as_ref();
        let place = self.place(key)?;
        if place.known.is_some() {
            let table = T::Row::SCHEMA.table.to_owned();
            return Err(WriteError::KeyExists { table, key: describe_bytes(key) });
        }
        self.put_at(&place, key, value)
    }

    /// Replaces the value under a key with a copy that `change` has modified. Returns the result of
    /// `change`, or `None` if the value does not exist.
    ///
    /// # Errors
    /// As for [`TableMut::put`]. The table is not changed then.
    pub fn update<R>(
        &mut self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let Found { digest, hash, spot, row } = self.find(key.as_ref())?;
        if !matches!(row, Some((_, true))) {
            return Ok(None);
        }
        self.rows.update_found(spot, hash, &digest, |row| change(T::value_mut(row)))
    }

    /// Deletes the value under a key. Returns whether it existed.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let found = self.find(key.as_ref())?;
        match found.row {
            Some((_, true)) => {
                let digest = found.digest;
                self.rows.delete(digest)
            }
            _ => Ok(false),
        }
    }

    /// Deletes the value under a key, and returns a copy of it, or `None` if it did not exist.
    /// [`delete`](Self::delete) makes no copy.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn take(&mut self, key: impl AsRef<[u8]>) -> Result<Option<T>, WriteError> {
        let Found { digest, hash, spot, row } = self.find(key.as_ref())?;
        if !matches!(row, Some((_, true))) {
            return Ok(None);
        }
        self.take_at(&Place { digest, hash, spot, known: None })
    }

    /// Allocates a zeroed value to be filled in place, in the memory where it will be stored, like
    /// [`TableMut::alloc`], for values of any size up to 1 GiB. The value is inserted under this
    /// key, or replaces the existing one, when the returned [`ExternalRowMut`] is dropped or passed
    /// to [`ExternalRowMut::insert`].
    ///
    /// # Errors
    /// As for [`TableMut::alloc`] and [`put`](Self::put).
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// #[pongo::record]
    /// struct Cell {
    ///     height: f32,
    ///     water: f32,
    /// }
    ///
    /// #[pongo::record]
    /// #[pongo(table = "maps", key = "external")]
    /// struct Map {
    ///     cells: [[Cell; 256]; 256],
    /// }
    ///
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut maps = tx.external::<Map>()?;
    /// let mut map = maps.alloc("europe/alps")?;
    /// map.cells[3][5].height = 4810.0;
    /// map.insert()?;
    /// drop(maps);
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let map = snapshot.external::<Map>()?.get("europe/alps")?.ok_or("it was put in")?;
    /// assert_eq!((map.cells[3][5].height, map.cells[3][6].water), (4810.0, 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc(&mut self, key: impl AsRef<[u8]>) -> Result<ExternalRowMut<'_, T>, WriteError>
    where
        T: PaddingFree,
    {
        // The 32 bytes before the value have no padding either.
        let unpadded = const { T::Row::UNPADDED.expect("a row has no more padding than its value") };
        let place = self.place(key.as_ref())?;
        let name = match place.known {
            Some(name) => name,
            None => self.stage_key(key.as_ref())?,
        };
        let mut row = self.rows.alloc_row(unpadded)?;
        T::set_key(&mut row, place.digest, name);
        Ok(ExternalRowMut { row })
    }

    /// Inserts or replaces many values under their keys, given as values or as references. This is
    /// the way to load a table. A value replaces the one under the same key, including an earlier
    /// one of the same load. Returns the number of pairs in the input.
    ///
    /// Rows are written to the table's chunks, 1 MiB at a time, and take about 30 bytes of memory
    /// each until the commit; the keys are kept in memory until then. Costs a lookup per key and
    /// two copies per value: about a microsecond in all, and a quarter of that at the commit.
    ///
    /// # Errors
    /// As for [`put`](Self::put). Pairs before the rejected one are part of the transaction.
    pub fn extend<K: AsRef<[u8]>, V: Borrow<T>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64, WriteError> {
        self.rows.staging().ensure_complete()?;
        let at_once = (WRITE / size_of::<T::Row>()).max(1);
        let guard = self.rows.guard;
        let mut count = 0;
        // If the iterator panics, the load remains marked as interrupted.
        self.rows.staging_mut().begin_load();
        for (key, value) in pairs {
            self.rows.staging_mut().end_load();
            self.put(key, value.borrow())?;
            count += 1;
            if self.rows.staging().staged() >= at_once {
                self.rows.staging_mut().write_staged(guard)?;
            }
            self.rows.staging_mut().begin_load();
        }
        self.rows.staging_mut().end_load();
        Ok(count)
    }
}

impl<'t, T: ExternalRecord> ExternalTableMut<'t, T> {
    fn visit(&self, bounds: &impl KeyBounds) -> Result<Option<Visit<'t, T::Row>>, ReadError> {
        let (start, end) = bounds.key_bounds();
        self.rows.visit(T::Row::SCHEMA.key, start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec))
    }

    /// Changes all values whose keys are within bounds, in key order, like [`TableMut::modify`].
    /// Returns the number of values.
    ///
    /// # Errors
    /// As for [`TableMut::modify`].
    pub fn modify<R>(
        &mut self,
        bounds: impl KeyBounds,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        let visit = self.visit(&bounds)?;
        self.rows.modify_visited(visit, |row| change(T::value_mut(row)))
    }

    /// Deletes all values whose keys are within bounds. Returns their number.
    ///
    /// # Errors
    /// As for [`TableMut::delete_range`].
    pub fn delete_range(&mut self, bounds: impl KeyBounds) -> Result<u64, WriteError> {
        let visit = self.visit(&bounds)?;
        self.rows.delete_visited(visit)
    }

    /// Deletes all values for which `keep`, called with key and value, returns `false`. Returns
    /// their number.
    ///
    /// # Errors
    /// As for [`TableMut::retain`].
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &T) -> bool) -> Result<u64, WriteError> {
        let (visit, guard) = (Visit::all(&self.rows)?, self.rows.guard);
        let gone = |row: &T::Row| Ok(!keep(external_key::<T>(guard, row)?, T::value_of(row)));
        self.rows.delete_visited_if(Some(visit), Some(gone))
    }

    /// Removes and returns the keys and values whose keys are within bounds and for which `take`
    /// returns `true`, in key order, like [`TableMut::extract_if`].
    ///
    /// # Errors
    /// As for [`TableMut::extract_if`].
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "cache", key = "external")]
    /// # struct Entry { used: u64 }
    /// # let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// let mut cache = tx.external::<Entry>()?;
    /// cache.extend(["a", "b", "c", "d"].into_iter().zip([5, 1, 7, 2].map(|used| Entry { used })))?;
    /// let old = cache.extract_if("b".., |_, entry| entry.used < 5)?.collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(old.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"b", b"d"]);
    /// assert_eq!(cache.pop_first()?.map(|(key, _)| key), Some(b"a".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extract_if<P: FnMut(&[u8], &T) -> bool>(
        &mut self,
        bounds: impl KeyBounds,
        take: P,
    ) -> Result<ExternalExtractIf<'_, 't, T, P>, WriteError> {
        let visit = self.visit(&bounds)?;
        self.rows.staging().ensure_complete()?;
        Ok(ExternalExtractIf { table: self, visit, take })
    }

    /// Removes and returns the lowest key and its value.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn pop_first(&mut self) -> Result<Option<(Vec<u8>, T)>, WriteError> {
        let first = self.first()?.map(|(key, value)| (key.to_vec(), copy(value)));
        self.take_out(first)
    }

    /// Removes and returns the highest key and its value.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn pop_last(&mut self) -> Result<Option<(Vec<u8>, T)>, WriteError> {
        let last = self.last()?.map(|(key, value)| (key.to_vec(), copy(value)));
        self.take_out(last)
    }

    fn take_out(&mut self, item: Option<(Vec<u8>, T)>) -> Result<Option<(Vec<u8>, T)>, WriteError> {
        if let Some((key, _)) = &item {
            self.delete(key)?;
        }
        Ok(item)
    }
}

/// An iterator that removes keys and values as it returns them. See
/// [`ExternalTableMut::extract_if`].
#[must_use = "values are taken out when they are asked for"]
pub struct ExternalExtractIf<'a, 't, T: ExternalRecord, P> {
    table: &'a mut ExternalTableMut<'t, T>,
    /// `None` after the last item or an error.
    visit: Option<Visit<'t, T::Row>>,
    take: P,
}

impl<T: ExternalRecord, P> fmt::Debug for ExternalExtractIf<'_, '_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalExtractIf").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<T: ExternalRecord, P: FnMut(&[u8], &T) -> bool> Iterator for ExternalExtractIf<'_, '_, T, P> {
    type Item = Result<(Vec<u8>, T), WriteError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (guard, take) = (self.table.rows.guard, &mut self.take);
        let mut test = |row: &T::Row| {
            let key = external_key::<T>(guard, row)?;
            Ok(take(key, T::value_of(row)).then(|| (key.to_vec(), copy(T::value_of(row)))))
        };
        let item = self.table.rows.extract_next(&mut self.visit, &mut test).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.visit = None;
        }
        item
    }
}

/// Bytes of a row that is too large for the stack, with the alignment of a row.
struct AlignedRow {
    blocks: Vec<Block>,
    len: usize,
}

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
struct Block([u8; 32]);

impl AlignedRow {
    fn new(len: usize) -> Self {
        Self { blocks: vec![Block::new_zeroed(); len.div_ceil(size_of::<Block>())], len }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.blocks.as_mut_slice().as_mut_bytes()[..self.len]
    }

    /// Returns the row, whose bytes are a head of any bytes and those of a value.
    fn row<R: PongoRecord>(&self) -> &R {
        let bytes = &self.blocks.as_slice().as_bytes()[..self.len];
        R::try_ref_from_bytes(bytes).unwrap_or_else(|_| unreachable!("a head and a value are a row"))
    }
}

/// A zeroed value returned by [`ExternalTableMut::alloc`], to be filled in place as a `T`.
///
/// When it is dropped, its current contents become part of the transaction, under the key given to
/// `alloc`.
pub struct ExternalRowMut<'t, T: ExternalRecord> {
    row: RowMut<'t, T::Row>,
}

impl<T: ExternalRecord> ExternalRowMut<'_, T> {
    /// Inserts the value, as dropping it does, and reports errors.
    ///
    /// # Errors
    /// As for [`RowMut::insert`].
    pub fn insert(self) -> Result<(), WriteError> {
        self.row.insert()
    }

    /// Discards the value, as if it had not been allocated.
    pub fn discard(self) {
        self.row.discard();
    }
}

impl<T: ExternalRecord> Deref for ExternalRowMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        T::value_of(&self.row)
    }
}

impl<T: ExternalRecord> DerefMut for ExternalRowMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        T::value_mut(&mut self.row)
    }
}

impl<T: ExternalRecord> fmt::Debug for ExternalRowMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalRowMut").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

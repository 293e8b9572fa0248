//! Tables with external keys in a write transaction: the methods of [`TableMut`] that take such
//! keys, and how a row with its key is put.

use core::borrow::Borrow;
use core::convert::Infallible;

use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{Blob, ExternalKey, MAX_EXTERNAL_KEY, key_digest};
use pongo_core::layout::EXTERNAL_HEAD;
use pongo_core::padding::{PaddingFree, copy_to};
use pongo_core::record::{ExternalRecord, FieldType, PongoRecord};
use pongo_core::schema::describe_bytes;
use pongo_index::key_hash;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::keys::{External, external_key};
use crate::table::external::{ExternalGetMany, ExternalRange, ExternalValues, KeyBounds};
use crate::table_mut::alloc::RowMut;
use crate::table_mut::place::{Internal, KeysMut, Place};
use crate::table_mut::range::{ExternalExtractIf, ExtractIf, Visit};
use crate::table_mut::{ExtendError, TableMut};
use crate::transaction::WriteTransaction;
use crate::write_set::bulk::WRITE;
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
pub type ExternalTableMut<'t, T> = TableMut<'t, T, External<<T as ExternalRecord>::Row>>;

/// A zeroed value returned by [`ExternalTableMut::alloc`], to be filled in place as a `T`.
///
/// When it is dropped, its current contents become part of the transaction, under the key given to
/// `alloc`.
pub type ExternalRowMut<'t, T> = RowMut<'t, T, External<<T as ExternalRecord>::Row>>;

type ExternalPlace<T> = Place<T, External<<T as ExternalRecord>::Row>>;
type ExternalVisit<'t, T> = Visit<'t, T, External<<T as ExternalRecord>::Row>>;

impl WriteTransaction {
    /// Opens a table of `T`s with arbitrary bytes as keys, for reading and writing. This is
    /// [`table`](Self::table) for a type with `#[pongo(key = "external")]`.
    ///
    /// # Errors
    /// As for [`table`](Self::table).
    pub fn external<T: ExternalRecord>(&self) -> Result<ExternalTableMut<'_, T>, WriteError> {
        TableMut::open(self)
    }
}

/// The result of looking up a key in a transaction.
struct Found<'a, T: ExternalRecord> {
    place: ExternalPlace<T>,
    /// The row with the key's digest, and whether its key equals the searched one.
    row: Option<(&'a T::Row, bool)>,
}

impl<T: ExternalRecord> KeysMut<T> for External<T::Row> {
    fn place(table: &TableMut<'_, T, Self>, key: &[u8], _: Internal) -> Result<ExternalPlace<T>, WriteError> {
        let name = || T::Row::SCHEMA.table.to_owned();
        if key.len() > MAX_EXTERNAL_KEY {
            return Err(WriteError::KeyTooLong { table: name(), len: key.len() });
        }
        let Found { place, row } = table.find(key)?;
        match row {
            Some((row, true)) => Ok(Place { known: Some(T::key_of(row)), ..place }),
            Some((row, false)) => {
                let existing_key = describe_bytes(external_key::<T>(table.guard, row)?);
                Err(WriteError::DigestCollision { table: name(), key: describe_bytes(key), existing_key })
            }
            None => Ok(place),
        }
    }

    fn get<'a>(table: &'a TableMut<'_, T, Self>, key: &[u8]) -> Result<Option<&'a T>, ReadError> {
        table.get(key)
    }

    fn put_at(
        table: &mut TableMut<'_, T, Self>,
        place: &ExternalPlace<T>,
        key: &[u8],
        value: &T,
    ) -> Result<(), WriteError> {
        if const { is_large::<T::Row>() } {
            return table.put_large_value(place, key, value);
        }
        table.put_small(place, key, value)
    }
}

impl<'t, T: ExternalRecord> TableMut<'t, T, External<T::Row>> {
    fn find(&self, key: &[u8]) -> Result<Found<'_, T>, ReadError> {
        let digest = key_digest(key);
        let hash = key_hash(&digest);
        let spot = self.spot(hash, &digest)?;
        let row = match self.row(spot)? {
            Some(row) => Some((row, external_key::<T>(self.guard, row)? == key)),
            None => None,
        };
        Ok(Found { place: Place { key: digest, hash, spot, known: None }, row })
    }

    /// Returns the place of a key that has a value.
    fn occupied(&self, key: &[u8]) -> Result<Option<ExternalPlace<T>>, ReadError> {
        let Found { place, row } = self.find(key)?;
        Ok(matches!(row, Some((_, true))).then_some(place))
    }

    fn stage_key(&self, key: &[u8]) -> Result<ExternalKey, WriteError> {
        let (addr, len, hash) = self.tx.stage_heap(key)?;
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
    pub fn get_many<'s, 'k, Q: AsRef<[u8]>>(
        &'s self,
        keys: &'k [Q],
    ) -> Result<ExternalGetMany<'s, 'k, T, Q>, ReadError> {
        Ok(self.reader()?.get_many(keys))
    }

    /// Returns all values without their keys, in the order of [`rows`](Self::rows).
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn values(&self) -> Result<ExternalValues<'_, T>, ReadError> {
        Ok(self.reader()?.values())
    }

    /// Returns the keys within bounds and their values, in the order of the keys' bytes, like
    /// [`ExternalTable::range`](crate::ExternalTable::range).
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

    /// Returns the number of keys within bounds.
    ///
    /// # Errors
    /// As for [`TableMut::range`].
    pub fn count(&self, bounds: impl KeyBounds) -> Result<u64, ReadError> {
        self.reader()?.count(bounds)
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
        let place = External::place(self, key, Internal(()))?;
        External::put_at(self, &place, key, value)?;
        Ok(place.known.is_some())
    }

    /// Builds the row as bytes, since it is too large for the stack.
    fn put_large_value(&mut self, place: &ExternalPlace<T>, key: &[u8], value: &T) -> Result<(), WriteError> {
        let mut row = AlignedRow::new(size_of::<T::Row>());
        let (head, body) = row.bytes_mut().split_at_mut(size_of::<T::Row>() - size_of::<T>());
        head[..16].copy_from_slice(&place.key);
        copy_to(value, body);
        self.check_row(place, row.row::<T::Row>())?;
        let name = self.name(place, key)?;
        row.bytes_mut()[16..EXTERNAL_HEAD].copy_from_slice(IntoBytes::as_bytes(&name));
        self.put_copy(place.spot, place.hash, row.row())
    }

    /// A separate function, so that callers that do not reach it reserve no stack space for a large
    /// row.
    #[inline(never)]
    fn put_small(&mut self, place: &ExternalPlace<T>, key: &[u8], value: &T) -> Result<(), WriteError> {
        let mut row = copy(value).into_row(place.key, ExternalKey::EMPTY);
        self.check_row(place, &row)?;
        let name = self.name(place, key)?;
        T::set_key(&mut row, place.key, name);
        self.put_copy(place.spot, place.hash, &row)
    }

    /// Checks a row before its key is set: a rejected row stages no key bytes.
    fn check_row(&mut self, place: &ExternalPlace<T>, row: &T::Row) -> Result<(), WriteError> {
        self.check(row)?;
        self.check_unique(place.spot, row)
    }

    fn name(&self, place: &ExternalPlace<T>, key: &[u8]) -> Result<ExternalKey, WriteError> {
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
        let place = External::place(self, key, Internal(()))?;
        let previous = self.value_at(&place)?.map(copy);
        External::put_at(self, &place, key, value)?;
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
        let place = External::place(self, key, Internal(()))?;
        self.compare_and_set_at(&place, key, expected, new)
    }

    /// Inserts a value under a new key.
    ///
    /// # Errors
    /// [`WriteError::KeyExists`] if a value under this key exists; otherwise as for
    /// [`put`](Self::put). The table is not changed in these cases.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<(), WriteError> {
        let key = key.as_ref();
        let place = External::place(self, key, Internal(()))?;
        if place.known.is_some() {
            let table = T::Row::SCHEMA.table.to_owned();
            return Err(WriteError::KeyExists { table, key: describe_bytes(key) });
        }
        External::put_at(self, &place, key, value)
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
        match self.occupied(key.as_ref())? {
            Some(place) => self.update_at(&place, change),
            None => Ok(None),
        }
    }

    /// Deletes the value under a key. Returns whether it existed.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let Some(place) = self.occupied(key.as_ref())? else { return Ok(false) };
        self.staging().ensure_complete()?;
        self.delete_found(place.spot, place.hash);
        Ok(true)
    }

    /// Deletes the value under a key, and returns a copy of it, or `None` if it did not exist.
    /// [`delete`](Self::delete) makes no copy.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn take(&mut self, key: impl AsRef<[u8]>) -> Result<Option<T>, WriteError> {
        match self.occupied(key.as_ref())? {
            Some(place) => self.take_at(&place),
            None => Ok(None),
        }
    }

    /// Allocates a zeroed value to be filled in place, in the memory where it will be stored, like
    /// [`TableMut::alloc`], for values of any size up to 1 GiB. The value is inserted under this
    /// key, or replaces the existing one, when the returned [`ExternalRowMut`] is dropped or passed
    /// to [`ExternalRowMut::insert`].
    ///
    /// # Errors
    /// As for [`TableMut::alloc`]: a unique value that another row has is an error of the next call
    /// that compares values, or of the commit. [`WriteError::KeyTooLong`] for a key over 65,535 bytes.
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
        // Once: a second call need not return the same bytes.
        let key = key.as_ref();
        let place = External::place(self, key, Internal(()))?;
        let name = self.name(&place, key)?;
        let mut row = self.alloc_row(unpadded)?;
        T::set_key(row.row_mut(), place.key, name);
        Ok(row)
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
        self.try_extend(pairs.into_iter().map(Ok::<(K, V), Infallible>)).map_err(|error| match error {
            ExtendError::Write(error) => error,
            ExtendError::Rows(never) => match never {},
        })
    }

    /// Loads keys and values from a fallible iterator, for example ones that are read from a file,
    /// like [`extend`](Self::extend). Pairs before an error of the iterator are part of the
    /// transaction.
    ///
    /// # Errors
    /// [`ExtendError::Rows`] with the iterator's first error; [`ExtendError::Write`] as for
    /// [`extend`](Self::extend).
    pub fn try_extend<K: AsRef<[u8]>, V: Borrow<T>, E>(
        &mut self,
        pairs: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<u64, ExtendError<E>> {
        self.staging().ensure_complete()?;
        let at_once = (WRITE / size_of::<T::Row>()).max(1);
        let guard = self.guard;
        let mut count = 0;
        // If the iterator panics, the load remains marked as interrupted.
        self.staging_mut().begin_load();
        for pair in pairs {
            self.staging_mut().end_load();
            let (key, value) = pair.map_err(ExtendError::Rows)?;
            self.put(key, value.borrow())?;
            count += 1;
            if self.staging().staged() >= at_once {
                self.staging_mut().write_staged(guard)?;
            }
            self.staging_mut().begin_load();
        }
        self.staging_mut().end_load();
        Ok(count)
    }

    fn visit_keys(&self, bounds: &impl KeyBounds) -> Result<Option<ExternalVisit<'t, T>>, ReadError> {
        let (start, end) = bounds.key_bounds();
        self.visit(T::Row::SCHEMA.key, start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec))
    }

    /// Changes all values whose keys are within bounds, in key order, like [`TableMut::modify`].
    /// Returns the number of values.
    ///
    /// # Errors
    /// As for [`TableMut::modify`].
    pub fn modify<R>(
        &mut self,
        bounds: impl KeyBounds,
        change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.modify_visited(visit, change)
    }

    /// Deletes all values whose keys are within bounds. Returns their number.
    ///
    /// # Errors
    /// As for [`TableMut::delete_range`].
    pub fn delete_range(&mut self, bounds: impl KeyBounds) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.delete_visited(visit)
    }

    /// Deletes all values for which `keep`, called with key and value, returns `false`. Returns
    /// their number.
    ///
    /// # Errors
    /// As for [`TableMut::retain`].
    pub fn retain(&mut self, keep: impl FnMut(&[u8], &T) -> bool) -> Result<u64, WriteError> {
        let visit = Visit::all(self)?;
        self.retain_visited(Some(visit), keep)
    }

    /// Deletes all values whose keys are within bounds and for which `keep`, called with key and
    /// value, returns `false`, in key order. Returns their number.
    ///
    /// # Errors
    /// As for [`retain`](Self::retain).
    pub fn retain_in(
        &mut self,
        bounds: impl KeyBounds,
        keep: impl FnMut(&[u8], &T) -> bool,
    ) -> Result<u64, WriteError> {
        let visit = self.visit_keys(&bounds)?;
        self.retain_visited(visit, keep)
    }

    fn retain_visited(
        &mut self,
        visit: Option<ExternalVisit<'t, T>>,
        mut keep: impl FnMut(&[u8], &T) -> bool,
    ) -> Result<u64, WriteError> {
        let heap = self.guard;
        let gone = |row: &T::Row| Ok(!keep(external_key::<T>(heap, row)?, T::value_of(row)));
        self.delete_visited_if(visit, Some(gone))
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
        let visit = self.visit_keys(&bounds)?;
        ExtractIf::new(self, visit, take)
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

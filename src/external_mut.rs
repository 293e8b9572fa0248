//! Tables whose keys are not fields of their records, in a write transaction: [`ExternalTableMut`].

use core::borrow::Borrow;
use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use pongo_core::engine::WriteGuard;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{Blob, ExternalKey, MAX_EXTERNAL_KEY, content_hash, key_digest};
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::schema::describe_bytes;
use pongo_index::key_hash;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::alloc::RowMut;
use crate::keys::Spot;
use crate::large::is_large;
use crate::staging::{Staging, copy};
use crate::store::Shared;
use crate::table_mut::TableMut;

/// Bytes of staged rows that a bulk load writes at once.
const WRITE: usize = 1 << 20;

/// A table in a [`WriteTransaction`](crate::WriteTransaction) whose `T`s are kept under keys of any bytes, 0 to 65,535 of them:
/// `#[pongo(key = "external")]`.
///
/// The key's bytes are written with the first value that is put under it; later values under the same key name them where they
/// lie.
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
/// let mut tx = store.begin_write()?;
/// let body = tx.text("<h1>Pongo</h1>")?;
/// let mut pages = tx.external::<Page>()?;
/// assert!(!pages.put("/index.html", &Page { visits: 1, body })?);
/// assert!(pages.insert("/index.html", &Page { visits: 0, body }).is_err());
/// assert_eq!(pages.update("/index.html", |page| page.visits += 1)?, Some(()));
/// assert_eq!(pages.get(b"/index.html")?.map(|page| page.visits), Some(2));
/// assert!(pages.delete("/index.html")? && !pages.contains("/index.html")?);
/// tx.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ExternalTableMut<'t, T: ExternalRecord> {
    staging: &'t mut Staging<T::Row>,
    guard: &'t mut WriteGuard,
    heap: &'t mut Vec<u8>,
    shared: &'t Arc<Shared>,
}

impl<T: ExternalRecord> fmt::Debug for ExternalTableMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalTableMut").field("table", &T::Row::SCHEMA.table).finish_non_exhaustive()
    }
}

/// What a transaction has of a key.
struct Found<'a, T: ExternalRecord> {
    digest: [u8; 16],
    hash: u64,
    spot: Spot,
    /// The row with its digest, and whether that has its key.
    row: Option<(&'a T::Row, bool)>,
}

/// Where a value is to be put.
struct Place {
    digest: [u8; 16],
    hash: u64,
    spot: Spot,
    key: ExternalKey,
    was_there: bool,
}

impl<'t, T: ExternalRecord> ExternalTableMut<'t, T> {
    pub(crate) fn new(
        staging: &'t mut Staging<T::Row>,
        guard: &'t mut WriteGuard,
        heap: &'t mut Vec<u8>,
        shared: &'t Arc<Shared>,
    ) -> Self {
        Self { staging, guard, heap, shared }
    }

    fn rows(&mut self) -> TableMut<'_, T::Row> {
        TableMut { staging: self.staging, guard: self.guard, heap: self.heap, shared: self.shared }
    }

    fn key_in(&self, row: &T::Row) -> Result<&[u8], ReadError> {
        let name = T::key_of(row).blob();
        if name.is_empty() {
            return Ok(&[]);
        }
        let key = self.guard.read_heap(self.heap, name.addr(), name.len(), name.content_hash());
        key.map_err(|source| ReadError::ExternalKey { table: T::Row::SCHEMA.table.to_owned(), source })
    }

    fn find(&self, key: &[u8]) -> Result<Found<'_, T>, ReadError> {
        let digest = key_digest(key);
        let hash = key_hash(&digest);
        self.staging.resolve(self.guard)?;
        let spot = self.staging.locate(self.guard, &self.staging.keys.borrow(), hash, &digest)?;
        let row = match self.staging.value(self.guard, spot)? {
            Some(row) => Some((row, self.key_in(row)? == key)),
            None => None,
        };
        Ok(Found { digest, hash, spot, row })
    }

    /// Finds or makes the place of a key. What it stages goes with [`forget_key`](Self::forget_key).
    fn place(&mut self, key: &[u8]) -> Result<Place, WriteError> {
        let table = || T::Row::SCHEMA.table.to_owned();
        if key.len() > MAX_EXTERNAL_KEY {
            return Err(WriteError::KeyTooLong { table: table(), len: key.len() });
        }
        let Found { digest, hash, spot, row } = self.find(key)?;
        let known = match row {
            Some((row, true)) => Some(T::key_of(row)),
            Some((row, false)) => {
                let in_the_way = describe_bytes(self.key_in(row)?);
                return Err(WriteError::SameDigest { table: table(), key: describe_bytes(key), in_the_way });
            }
            None => None,
        };
        let key_at = known.unwrap_or_else(|| self.stage_key(key));
        Ok(Place { digest, hash, spot, key: key_at, was_there: known.is_some() })
    }

    fn stage_key(&mut self, key: &[u8]) -> ExternalKey {
        if key.is_empty() {
            return ExternalKey::EMPTY;
        }
        let addr = self.guard.stage_heap(self.heap, key);
        Blob::new(addr, key.len() as u32, content_hash(key)).into()
    }

    /// The value under this key, as this transaction has it.
    ///
    /// # Errors
    /// [`ReadError`] if the index, the row or the key's bytes are damaged.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&T>, ReadError> {
        let found = self.find(key.as_ref())?;
        Ok(found.row.and_then(|(row, is_it)| is_it.then(|| T::value_of(row))))
    }

    /// Whether there is a value under this key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError> {
        Ok(self.get(key)?.is_some())
    }

    /// How many values there are.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn len(&self) -> Result<u64, ReadError> {
        self.staging.live(self.guard)
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }

    /// Puts a value under a key, in the place of the one that is there: whether there was one.
    ///
    /// # Errors
    /// [`WriteError::KeyTooLong`] beyond 65,535 bytes; [`WriteError::SameDigest`] if another key of the table has the same
    /// digest; as for [`TableMut::put`]. Nothing is changed then.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<bool, WriteError> {
        let staged = self.heap.len();
        let put = self.place(key.as_ref()).and_then(|place| {
            self.put_at(&place, value)?;
            Ok(place.was_there)
        });
        self.keep_key(staged, put)
    }

    /// Takes back the bytes of a key that was staged for nothing.
    fn keep_key<R>(&mut self, staged: usize, outcome: Result<R, WriteError>) -> Result<R, WriteError> {
        if outcome.is_err() {
            self.heap.truncate(staged);
        }
        outcome
    }

    fn put_at(&mut self, place: &Place, value: &T) -> Result<(), WriteError> {
        if const { is_large::<T::Row>() } {
            let mut row = AlignedRow::new(size_of::<T::Row>());
            let (head, body) = row.bytes_mut().split_at_mut(size_of::<T::Row>() - size_of::<T>());
            head[..16].copy_from_slice(&place.digest);
            head[16..].copy_from_slice(IntoBytes::as_bytes(&place.key));
            body.copy_from_slice(value.as_bytes());
            let row = T::Row::try_ref_from_bytes(row.bytes_mut());
            let row = row.unwrap_or_else(|_| unreachable!("a head of any bytes and a value are a row"));
            return self.rows().put_found(place.spot, place.hash, row);
        }
        self.put_small(place, value)
    }

    /// Apart, so that a large row has no place on the stack of those that never call it.
    #[inline(never)]
    fn put_small(&mut self, place: &Place, value: &T) -> Result<(), WriteError> {
        let row = copy(value).into_row(place.digest, place.key);
        self.rows().put_found(place.spot, place.hash, &row)
    }

    /// Puts a value under a key that is new.
    ///
    /// # Errors
    /// [`WriteError::KeyExists`] if there is a value under it; as for [`put`](Self::put). Nothing is changed then.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: &T) -> Result<(), WriteError> {
        let (key, staged) = (key.as_ref(), self.heap.len());
        let put = self.place(key).and_then(|place| {
            if place.was_there {
                let table = T::Row::SCHEMA.table.to_owned();
                return Err(WriteError::KeyExists { table, key: describe_bytes(key) });
            }
            self.put_at(&place, value)
        });
        self.keep_key(staged, put)
    }

    /// Changes the value under a key: `change` gets a copy, which then replaces it. What `change` returned, or `None` if
    /// there is no such value.
    ///
    /// # Errors
    /// As for [`TableMut::put`]. Nothing is changed then.
    pub fn update<R>(
        &mut self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let Found { digest, hash, spot, row } = self.find(key.as_ref())?;
        if !matches!(row, Some((_, true))) {
            return Ok(None);
        }
        self.rows().update_found(spot, hash, &digest, |row| change(T::value_mut(row)))
    }

    /// Deletes what is under a key: whether there was something.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let found = self.find(key.as_ref())?;
        match found.row {
            Some((_, true)) => {
                let digest = found.digest;
                self.rows().delete(&digest)
            }
            _ => Ok(false),
        }
    }

    /// Gives out a value whose bytes are all zero, to be filled in place, where it will lie: as [`TableMut::alloc`], for
    /// values of any size up to 1 GiB. It is put under this key, in the place of what is there, when what this returns is
    /// dropped or given to [`ExternalRowMut::finish`].
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
    /// let mut tx = store.begin_write()?;
    /// let mut maps = tx.external::<Map>()?;
    /// let mut map = maps.alloc("europe/alps")?;
    /// map.cells[3][5].height = 4810.0;
    /// map.finish()?;
    /// tx.commit()?;
    ///
    /// let snapshot = store.begin_read()?;
    /// let map = snapshot.external::<Map>()?.get("europe/alps")?.ok_or("it was put in")?;
    /// assert_eq!((map.cells[3][5].height, map.cells[3][6].water), (4810.0, 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc(&mut self, key: impl AsRef<[u8]>) -> Result<ExternalRowMut<'_, T>, WriteError> {
        let staged = self.heap.len();
        let place = self.place(key.as_ref());
        let place = self.keep_key(staged, place)?;
        let mut row = self.rows().into_row()?;
        T::set_key(&mut row, place.digest, place.key);
        Ok(ExternalRowMut { row })
    }

    /// Puts many values in under their keys, given as values or as references: the way to load a table. A value takes the
    /// place of one under the same key, also of an earlier one of the load. Returns how many pairs there were.
    ///
    /// Rows go to the table's chunks, a MiB at a time, and need some 30 bytes of memory each until the commit; the keys are
    /// kept in memory until then. Costs a look-up a key and two copies a value: about
    /// a microsecond in all, and a quarter of that at the commit.
    ///
    /// # Errors
    /// As for [`put`](Self::put): pairs before the one that was refused are in the transaction.
    pub fn extend<K: AsRef<[u8]>, V: Borrow<T>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64, WriteError> {
        let at_once = (WRITE / size_of::<T::Row>()).max(1);
        let mut count = 0;
        for (key, value) in pairs {
            self.put(key, value.borrow())?;
            count += 1;
            if self.staging.staged.len() >= at_once {
                self.staging.write_staged(self.guard)?;
            }
        }
        Ok(count)
    }
}

/// Bytes of a row that is too large for the stack, aligned as a row can be.
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
}

/// A value that was given out zeroed by [`ExternalTableMut::alloc`], to be filled in place: a `T`.
///
/// When it is dropped, it is the transaction's as it is then, under the key that it was asked for with.
pub struct ExternalRowMut<'t, T: ExternalRecord> {
    row: RowMut<'t, T::Row>,
}

impl<T: ExternalRecord> ExternalRowMut<'_, T> {
    /// Puts the value in, as dropping it does, and says at once if that fails.
    ///
    /// # Errors
    /// As for [`RowMut::finish`].
    pub fn finish(self) -> Result<(), WriteError> {
        self.row.finish()
    }

    /// Gives the value back, as if it had not been asked for.
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

//! A table in a write transaction: [`TableMut`].

use core::borrow::Borrow;

use std::sync::Arc;

use pongo_core::engine::WriteGuard;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::record::PongoRecord;
use pongo_index::key_hash;

use crate::keys::{Base, Spot, Touched};
use crate::large::is_large;
use crate::staging::{Staging, copy, hash_of};
use crate::store::Shared;

/// Bytes that a bulk load writes at once.
const WRITE: usize = 1 << 20;

/// A table in a [`WriteTransaction`](crate::WriteTransaction).
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "accounts")]
/// struct Account {
///     #[pongo(key)]
///     number: u64,
///     cents: i64,
///     owner: Text,
/// }
///
/// let store = Store::in_memory()?;
/// let mut tx = store.begin_write()?;
/// let owner = tx.text("Ada")?;
/// let mut accounts = tx.table::<Account>()?;
/// accounts.insert(&Account { number: 1, cents: 500, owner })?;
/// assert!(accounts.insert(&Account { number: 1, cents: 0, owner: Text::EMPTY }).is_err());
/// assert_eq!(accounts.get(&1)?.map(|account| account.cents), Some(500));
/// assert!(accounts.put(&Account { number: 1, cents: 700, owner })?);
/// assert!(accounts.delete(&1)? && !accounts.delete(&1)?);
/// tx.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableMut<'t, T> {
    pub(crate) staging: &'t mut Staging<T>,
    pub(crate) guard: &'t mut WriteGuard,
    pub(crate) heap: &'t [u8],
    pub(crate) shared: &'t Arc<Shared>,
}

impl<T: PongoRecord> core::fmt::Debug for TableMut<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TableMut").field("table", &T::SCHEMA.table).finish_non_exhaustive()
    }
}

impl<T: PongoRecord> TableMut<'_, T> {
    fn spot(&self, hash: u64, key: &T::KeyBytes) -> Result<Spot, ReadError> {
        self.staging.resolve(self.guard)?;
        self.staging.locate(self.guard, &self.staging.keys.borrow(), hash, key)
    }

    fn value(&self, spot: Spot) -> Result<Option<&T>, ReadError> {
        self.staging.value(self.guard, spot)
    }

    /// The row with this key, as this transaction has it.
    ///
    /// # Errors
    /// [`ReadError`] if the index or the row is damaged.
    pub fn get(&self, key: &T::Key) -> Result<Option<&T>, ReadError> {
        let key = T::encode_key(key);
        self.value(self.spot(key_hash(key.as_ref()), &key)?)
    }

    /// Whether there is a row with this key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains(&self, key: &T::Key) -> Result<bool, ReadError> {
        Ok(self.get(key)?.is_some())
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// As [`get`](Self::get): rows of a bulk load are compared with the others first.
    pub fn len(&self) -> Result<u64, ReadError> {
        self.staging.live(self.guard)
    }

    /// Whether there is no row.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }

    /// Puts a row in, in the place of the one with the same key if there is one: whether there was.
    ///
    /// # Errors
    /// [`WriteError::HeapField`] if a text or blob of the row does not name bytes of this store or transaction;
    /// [`WriteError::NotUnique`] if another row has its value in a field that is unique, and that row was neither deleted
    /// nor changed earlier in this transaction. Nothing is changed then.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// #[pongo::record]
    /// #[pongo(table = "users", unique(team, seat))]
    /// struct User {
    ///     #[pongo(key)]
    ///     id: u64,
    ///     #[pongo(unique)]
    ///     mail: FixedStr<16>,
    ///     team: u32,
    ///     seat: u32,
    /// }
    ///
    /// # let store = Store::in_memory()?;
    /// let mut tx = store.begin_write()?;
    /// let mut users = tx.table::<User>()?;
    /// users.put(&User { id: 1, mail: "ada@x.org".parse()?, team: 3, seat: 1 })?;
    /// let error = users.put(&User { id: 2, mail: "ada@x.org".parse()?, team: 3, seat: 2 }).unwrap_err();
    /// assert!(error.to_string().contains("found mail = \"ada@x.org\" in the row with key id = 1"));
    /// users.put(&User { id: 2, mail: "bob@x.org".parse()?, team: 3, seat: 2 })?;
    /// assert!(users.update(&2, |user| user.seat = 1).is_err());
    /// users.delete(&1)?;
    /// assert!(users.update(&2, |user| user.seat = 1)?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put(&mut self, row: &T) -> Result<bool, WriteError> {
        self.staging.check_heap(self.guard, self.heap, row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        let was_there = self.value(spot)?.is_some();
        self.put_unchecked(spot, hash, row)?;
        Ok(was_there)
    }

    /// As [`put`](Self::put), of a key that was found at `spot`.
    pub(crate) fn put_found(&mut self, spot: Spot, hash: u64, row: &T) -> Result<(), WriteError> {
        self.staging.check_heap(self.guard, self.heap, row)?;
        self.put_unchecked(spot, hash, row)
    }

    /// The row's texts and blobs were looked at.
    fn put_unchecked(&mut self, spot: Spot, hash: u64, row: &T) -> Result<(), WriteError> {
        self.staging.check_unique(self.guard, self.heap, spot, row)?;
        self.put_copy(spot, hash, row)
    }

    fn put_copy(&mut self, spot: Spot, hash: u64, row: &T) -> Result<(), WriteError> {
        if const { is_large::<T>() } {
            return self.put_large(spot, hash, row);
        }
        self.stage_copy(spot, hash, row);
        Ok(())
    }

    /// Apart, so that a large row has no place on the stack of those that never call it.
    #[inline]
    fn stage_copy(&mut self, spot: Spot, hash: u64, row: &T) {
        self.put_at(spot, hash, copy(row));
    }

    fn put_at(&mut self, spot: Spot, hash: u64, row: T) {
        if let Spot::Touched(Touched { staged: Some(place), .. }) = spot {
            return self.staging.replace_staged(place, row);
        }
        let base = match spot {
            Spot::Touched(touched) => touched.base,
            Spot::Written(row) => Some(Base { row, alive: true }),
            Spot::Applied(base) => Some(base),
            Spot::Nowhere => None,
        };
        let keys = self.staging.keys.get_mut();
        let base = keys.bury(base);
        keys.touch(spot, Touched { hash, staged: Some(self.staging.staged.len()), base });
        self.staging.push_staged(row);
    }

    /// Puts a row in whose key is new.
    ///
    /// # Errors
    /// [`WriteError::KeyExists`] if there is a row with its key; as for [`put`](Self::put). Nothing is changed then.
    pub fn insert(&mut self, row: &T) -> Result<(), WriteError> {
        self.staging.check_heap(self.guard, self.heap, row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        if self.value(spot)?.is_some() {
            return Err(WriteError::KeyExists {
                table: T::SCHEMA.table.to_owned(),
                key: self.describe_key(row),
            });
        }
        self.put_unchecked(spot, hash, row)
    }

    pub(crate) fn describe_key(&self, row: &T) -> String {
        self.staging.core.schema().describe_key(row.as_bytes())
    }

    /// Changes the row with this key: `change` gets a copy, which then replaces the row. What `change` returned, or `None`
    /// if there is no such row.
    ///
    /// # Errors
    /// [`WriteError::KeyChanged`] if `change` changed the key; as for [`put`](Self::put). Nothing is changed then.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let mut tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// accounts.put(&Account { number: 1, cents: 500 })?;
    /// let left = accounts.update(&1, |account| {
    ///     account.cents -= 120;
    ///     account.cents
    /// })?;
    /// assert_eq!(left, Some(380));
    /// assert_eq!(accounts.update(&2, |account| account.cents)?, None);
    /// tx.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update<R>(
        &mut self,
        key: &T::Key,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        self.update_bytes(&T::encode_key(key), change)
    }

    pub(crate) fn update_bytes<R>(
        &mut self,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, key)?;
        self.update_found(spot, hash, key, change)
    }

    /// As [`update`](Self::update), of a key that was found at `spot`.
    #[inline]
    pub(crate) fn update_found<R>(
        &mut self,
        spot: Spot,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        if const { is_large::<T>() } {
            self.update_large(spot, hash, key, change)
        } else {
            self.update_staged(spot, hash, key, change)
        }
    }

    /// Apart, as [`stage_copy`](Self::stage_copy) is.
    #[inline]
    fn update_staged<R>(
        &mut self,
        spot: Spot,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let Some(before) = self.value(spot)? else { return Ok(None) };
        let mut row = copy(before);
        let result = change(&mut row);
        if row.key_bytes() != *key {
            return Err(WriteError::KeyChanged {
                table: T::SCHEMA.table.to_owned(),
                before: self.describe_key(before),
                after: self.describe_key(&row),
            });
        }
        self.staging.check_heap(self.guard, self.heap, &row)?;
        self.staging.check_unique(self.guard, self.heap, spot, &row)?;
        self.put_at(spot, hash, row);
        Ok(Some(result))
    }

    /// Deletes the row with this key: whether there was one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: &T::Key) -> Result<bool, WriteError> {
        self.delete_bytes(&T::encode_key(key))
    }

    pub(crate) fn delete_bytes(&mut self, key: &T::KeyBytes) -> Result<bool, WriteError> {
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, key)?;
        if self.value(spot)?.is_none() {
            return Ok(false);
        }
        let keys = self.staging.keys.get_mut();
        match spot {
            Spot::Touched(touched @ Touched { staged: Some(place), .. }) => {
                let now = Touched { staged: None, ..touched };
                if now.base.is_some() {
                    keys.touch(spot, now)
                } else {
                    keys.forget(touched)
                }
                self.staging.take_staged(place);
            }
            Spot::Touched(Touched { base: Some(base), .. }) | Spot::Applied(base) => {
                let base = keys.bury(Some(base));
                keys.touch(spot, Touched { hash, staged: None, base });
            }
            Spot::Written(row) => {
                let base = keys.bury(Some(Base { row, alive: true }));
                keys.touch(spot, Touched { hash, staged: None, base });
            }
            Spot::Touched(_) | Spot::Nowhere => {}
        }
        Ok(true)
    }

    /// Puts many rows in, given as values or as references, straight to the table's chunks: the way to load a table. As with
    /// [`put`](Self::put), a row takes the place of one with the same key, also of an earlier one of the load. Returns how many
    /// rows there were.
    ///
    /// Costs two copies a row here and some 100 ns a row at the commit, which syncs what was written; needs eight bytes of
    /// memory a row until then, and as many and as much time again for each unique index. Reading or changing rows by key in the
    /// same transaction makes it compare the keys of all rows loaded so far, at some 100 ns and 20 bytes a row. An iterator of
    /// values has each on the stack for a moment, one of references does not: rows that are too large for that are given as
    /// references, or filled in place ([`alloc_slice`](Self::alloc_slice)).
    ///
    /// # Errors
    /// As for [`put`](Self::put), but for [`WriteError::NotUnique`]: rows before the one that was refused are in the
    /// transaction. Unique values are compared when the next row is put, or at the commit, as the rows are then: two rows of
    /// a load may exchange their values. Whoever finds two rows with one value errs, until one of them is deleted.
    ///
    /// [`WriteError::Fault`] if rows cannot be written, for want of space say; after that, and after a panic in the iterator
    /// that is caught, the transaction can only be aborted, or rolled back to a savepoint: this and the commit answer
    /// [`WriteError::BrokenOff`].
    pub fn extend<R: Borrow<T>>(&mut self, rows: impl IntoIterator<Item = R>) -> Result<u64, WriteError> {
        self.staging.refuse_broken()?;
        self.staging.write_staged(self.guard)?;
        let at_once = (WRITE / size_of::<T>()).max(1);
        // Not as `T`s: what is passed by value may lie on the stack.
        let mut batch: Vec<u8> = Vec::with_capacity(if at_once > 1 { at_once * size_of::<T>() } else { 0 });
        let mut hashes: Vec<u64> = Vec::with_capacity(at_once);
        let before = self.staging.hashes.len();
        self.staging.loading = true;
        for row in rows {
            let row = row.borrow();
            if let Err(error) = self.staging.check_heap(self.guard, self.heap, row) {
                self.write(&mut batch, &mut hashes)?;
                self.staging.loading = false;
                return Err(error);
            }
            hashes.push(hash_of(row));
            if at_once == 1 {
                self.staging.write(self.guard, row.as_bytes(), &mut hashes)?;
                continue;
            }
            batch.extend_from_slice(row.as_bytes());
            if hashes.len() == at_once {
                self.write(&mut batch, &mut hashes)?;
            }
        }
        self.write(&mut batch, &mut hashes)?;
        self.staging.loading = false;
        Ok((self.staging.hashes.len() - before) as u64)
    }

    fn write(&mut self, batch: &mut Vec<u8>, hashes: &mut Vec<u64>) -> Result<(), WriteError> {
        self.staging.write(self.guard, batch, hashes)?;
        batch.clear();
        Ok(())
    }
}

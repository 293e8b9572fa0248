//! Write transactions: [`WriteTransaction`] and a table in it, [`TableMut`].

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::sync::Arc;

use pongo_core::engine::{Batch, Durability, TableBatch, WriteGuard};
use pongo_core::error::{CommitError, Fault, ReadError, WriteError};
use pongo_core::fields::{Blob, HeapError, HeapRead, Text, content_hash};
use pongo_core::ids::{HeapAddr, RowId, Seq};
use pongo_core::record::PongoRecord;
use pongo_core::schema::{HeapField, StoredSchema};
use pongo_core::table::{TableCore, TableView};
use pongo_index::{HashIndex, key_hash};
use zerocopy::{FromBytes, IntoBytes};

use crate::indexes;
use crate::keys::{Base, Keys, Spot, Touched, has_twins};
use crate::store::{Shared, compare};

/// A write transaction: the only one in its store, in whatever process, until it ends. It sees what was committed before it
/// and its own changes. Nobody else sees them before [`commit`](Self::commit); dropping it, or [`abort`](Self::abort),
/// leaves no trace.
///
/// Rows that are put are kept in memory until the commit; [`TableMut::extend`] writes to the table's chunks as it goes.
pub struct WriteTransaction {
    guard: WriteGuard,
    shared: Arc<Shared>,
    durability: Durability,
    /// Heap bytes to come.
    heap: Vec<u8>,
    tables: Vec<(TypeId, Box<dyn AnyStaging>)>,
}

impl core::fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WriteTransaction").field("durability", &self.durability).finish_non_exhaustive()
    }
}

impl WriteTransaction {
    pub(crate) fn new(guard: WriteGuard, shared: Arc<Shared>, durability: Durability) -> Self {
        Self { guard, shared, durability, heap: Vec::new(), tables: Vec::new() }
    }

    /// The table of `T`, to read and change. Makes it, with this transaction, if the store has none.
    ///
    /// # Errors
    /// [`WriteError::Schema`], with both layouts side by side, if the table's rows are laid out otherwise than `T` says;
    /// [`WriteError::TwoTypes`] if this transaction changes the table as another type; [`WriteError::Fault`] if the table's
    /// files cannot be made or read.
    pub fn table<T: PongoRecord>(&mut self) -> Result<TableMut<'_, T>, WriteError> {
        self.guard.refuse_forked()?;
        let kind = TypeId::of::<T>();
        let place = match self.tables.iter().position(|(known, _)| *known == kind) {
            Some(place) => place,
            None => {
                let staging = self.stage::<T>()?;
                self.tables.push((kind, Box::new(staging)));
                self.tables.len() - 1
            }
        };
        let staging = self.tables[place].1.as_any().downcast_mut();
        let staging = staging.expect("the place of a type has its staging");
        Ok(TableMut { staging, guard: &mut self.guard, heap: &self.heap })
    }

    fn stage<T: PongoRecord>(&mut self) -> Result<Staging<T>, WriteError> {
        let guard = &mut self.guard;
        let known = self.shared.handle::<T>(|name| guard.committed_table_named(name)).map_err(as_schema)?;
        let (core, index) = match known {
            Some(handle) => (Arc::clone(&handle.core), Arc::clone(&handle.index)),
            None => {
                let core = match guard.table_named(T::SCHEMA.table)? {
                    Some(core) => core,
                    None => guard.create_table(StoredSchema::from(T::SCHEMA))?,
                };
                compare::<T>(&core)?;
                let index = self.shared.indexes.of(&core).map_err(|error| indexes::fault(&core, error))?;
                (core, index)
            }
        };
        if self.tables.iter().any(|(_, staging)| Arc::ptr_eq(staging.core(), &core)) {
            return Err(WriteError::TwoTypes {
                table: core.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        let view = guard.view(&core)?;
        Ok(Staging {
            heap_fields: core.schema().heap_fields(),
            core,
            index,
            view,
            staged: Vec::new(),
            hashes: Vec::new(),
            keys: RefCell::default(),
            loading: false,
        })
    }

    /// Stages text for a row of this transaction. Its bytes are written with the commit, whether or not a row names them.
    ///
    /// # Errors
    /// [`WriteError::Fault`] if it has 4 GiB or more.
    pub fn text(&mut self, text: &str) -> Result<Text, WriteError> {
        let (addr, len, hash) = self.stage_heap(text.as_bytes())?;
        Ok(Text::new(addr, len, hash))
    }

    /// Stages bytes for a row of this transaction, as [`text`](Self::text) does.
    ///
    /// # Errors
    /// As there.
    pub fn blob(&mut self, bytes: &[u8]) -> Result<Blob, WriteError> {
        let (addr, len, hash) = self.stage_heap(bytes)?;
        Ok(Blob::new(addr, len, hash))
    }

    fn stage_heap(&mut self, bytes: &[u8]) -> Result<(HeapAddr, u32, u32), WriteError> {
        let len = u32::try_from(bytes.len()).map_err(|_| Fault::Limit {
            what: format!("a text or blob of {} bytes is too long", bytes.len()),
            limit: u64::from(u32::MAX),
        })?;
        if len == 0 {
            return Ok((HeapAddr(0), 0, 0));
        }
        let addr = self.guard.stage_heap(&mut self.heap, bytes);
        Ok((addr, len, content_hash(bytes)))
    }

    /// Commits: from now on every new snapshot, in every process, sees the transaction as a whole. With
    /// [`Durability::Sync`] it is on the disk when this returns.
    ///
    /// Costs two small writes and, for `Sync`, one sync of the disk, which commits of other threads share.
    ///
    /// # Errors
    /// [`CommitError::Refused`]: nothing was changed. [`CommitError::OutcomeUnknown`]: a write or sync failed midway; the
    /// store takes no more writes until it is opened anew, which finds the transaction whole or not at all.
    pub fn commit(mut self) -> Result<Seq, CommitError> {
        for (_, staging) in &mut self.tables {
            staging.finish(&self.guard)?;
        }
        let tables = self.tables.iter().filter_map(|(_, staging)| staging.batch()).collect();
        self.guard.commit(&Batch { tables, heap: &self.heap }, self.durability)
    }

    /// Ends the transaction without a trace, as dropping it does.
    pub fn abort(self) {}
}

/// Keeps a wrong layout apart from other faults, as [`WriteError`] does.
fn as_schema(error: ReadError) -> WriteError {
    match error {
        ReadError::Schema(mismatch) => WriteError::Schema(mismatch),
        other => WriteError::Read(other),
    }
}

impl HeapRead for WriteTransaction {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.guard.read_heap(&self.heap, addr, len, hash)
    }
}

/// What a transaction does to one table, as `T`s.
struct Staging<T> {
    core: Arc<TableCore>,
    index: Arc<HashIndex>,
    /// The table as applied before this transaction.
    view: TableView,
    heap_fields: Vec<HeapField>,
    /// Rows in memory.
    staged: Vec<T>,
    /// Of the keys of all written rows; in the end of the staged ones, too.
    hashes: Vec<u64>,
    keys: RefCell<Keys>,
    /// A bulk load is at work, or was broken off.
    loading: bool,
}

trait AnyStaging: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn core(&self) -> &Arc<TableCore>;
    /// Everything is staged: what replaces what is settled.
    fn finish(&mut self, guard: &WriteGuard) -> Result<(), WriteError>;
    /// What the commit is to do; `None` if nothing.
    fn batch(&self) -> Option<TableBatch<'_>>;
}

impl<T: PongoRecord> AnyStaging for Staging<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    fn finish(&mut self, guard: &WriteGuard) -> Result<(), WriteError> {
        if self.loading {
            return Err(WriteError::BrokenOff { table: self.core.schema().table.clone() });
        }
        let written = self.hashes.len() as u64;
        self.resolve_all(guard)?;
        let first = self.view.len() + written;
        self.keys.get_mut().settle(|place| RowId(first + place as u64));
        self.hashes.extend(self.staged.iter().map(hash_of));
        Ok(())
    }

    fn batch(&self) -> Option<TableBatch<'_>> {
        let keys = self.keys.borrow();
        if self.hashes.is_empty() && keys.deaths.is_empty() {
            return None;
        }
        Some(TableBatch {
            table: Arc::clone(&self.core),
            rows: self.staged.as_slice().as_bytes(),
            hashes: &self.hashes,
            previous: keys.previous.clone(),
            deaths: keys.deaths.clone(),
        })
    }
}

fn hash_of<T: PongoRecord>(row: &T) -> u64 {
    key_hash(row.key_bytes().as_ref())
}

/// A second value with the same bytes.
fn copy<T: PongoRecord>(row: &T) -> T {
    T::try_read_from_bytes(row.as_bytes())
        .unwrap_or_else(|_| unreachable!("the bytes of a value are a value"))
}

impl<T: PongoRecord> Staging<T> {
    /// The row with a number: of before, or written by this transaction.
    fn row<'a>(&'a self, guard: &'a WriteGuard, row: RowId) -> Result<&'a T, ReadError> {
        if row.0 < self.view.len() { self.view.row(row) } else { guard.appended_row(&self.core, row) }
    }

    /// Where a key is. Written rows beyond `keys.resolved` are not looked at.
    fn locate(
        &self,
        guard: &WriteGuard,
        keys: &Keys,
        hash: u64,
        key: &T::KeyBytes,
    ) -> Result<Spot, ReadError> {
        let failed = RefCell::new(None);
        let has_key = |row: RowId| match self.row(guard, row) {
            Ok(row) => row.key_bytes() == *key,
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                false
            }
        };
        let touched = keys.touched.find(hash, |touched| {
            touched.hash == hash
                && match (touched.staged, touched.base) {
                    (Some(place), _) => self.staged[place].key_bytes() == *key,
                    (None, Some(base)) => has_key(base.row),
                    (None, None) => false,
                }
        });
        if let Some(touched) = touched {
            return Ok(Spot::Touched(*touched));
        }
        if let Some(row) = keys.written.find(hash, |row| self.hash_of_written(*row) == hash && has_key(*row))
        {
            return Ok(Spot::Written(*row));
        }
        let applied = self.find_applied(hash, has_key)?;
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(applied.map_or(Spot::Nowhere, Spot::Applied)),
        }
    }

    fn find_applied(&self, hash: u64, has_key: impl Fn(RowId) -> bool) -> Result<Option<Base>, ReadError> {
        let len = self.view.len();
        if len == 0 {
            return Ok(None);
        }
        let found = self.index.find(hash, |candidate| {
            let row = candidate.row;
            (row.0 < len && has_key(row)).then(|| Base { row, alive: self.view.is_live(row) })
        });
        found.map_err(|error| indexes::fault(&self.core, error).into())
    }

    fn hash_of_written(&self, row: RowId) -> u64 {
        self.hashes[(row.0 - self.view.len()) as usize]
    }

    /// Compares written rows with all others, one by one, and keeps their keys for look-ups.
    fn resolve(&self, guard: &WriteGuard) -> Result<(), ReadError> {
        let mut keys = self.keys.borrow_mut();
        while keys.resolved < self.hashes.len() as u64 {
            let row = RowId(self.view.len() + keys.resolved);
            let hash = self.hash_of_written(row);
            let key = self.row(guard, row)?.key_bytes();
            let spot = self.locate(guard, &keys, hash, &key)?;
            keys.note_written(spot, hash, row, |row| self.hash_of_written(row));
            keys.resolved += 1;
        }
        Ok(())
    }

    /// As [`resolve`](Self::resolve), for the last time: if no key comes twice among the written rows, which is what their
    /// hashes say, only rows of before need to be looked for, and nothing is kept.
    fn resolve_all(&mut self, guard: &WriteGuard) -> Result<(), ReadError> {
        let keys = self.keys.get_mut();
        let unresolved = keys.resolved as usize;
        let alone =
            keys.touched.is_empty() && keys.written.is_empty() && !has_twins(&self.hashes[unresolved..]);
        if !alone {
            return self.resolve(guard);
        }
        let mut found = Vec::new();
        if !self.view.is_empty() {
            for (place, &hash) in self.hashes.iter().enumerate() {
                if let Some(&ahead) = self.hashes.get(place + AHEAD) {
                    self.index.prefetch(ahead);
                }
                self.resolve_alone(guard, RowId(self.view.len() + place as u64), hash, &mut found)?;
            }
        }
        let keys = self.keys.get_mut();
        for (row, base) in found {
            if let Some(base) = keys.bury(Some(base)) {
                keys.previous.push((row, base.row));
            }
        }
        keys.resolved = self.hashes.len() as u64;
        Ok(())
    }

    fn resolve_alone(
        &self,
        guard: &WriteGuard,
        row: RowId,
        hash: u64,
        found: &mut Vec<(RowId, Base)>,
    ) -> Result<(), ReadError> {
        let mut failed = None;
        let base = self.index.find(hash, |candidate| {
            if candidate.row.0 >= self.view.len() {
                return None;
            }
            let same = self.view.row::<T>(candidate.row).and_then(|old| {
                let new = self.row(guard, row)?;
                Ok(old.key_bytes() == new.key_bytes())
            });
            match same {
                Ok(same) => {
                    same.then(|| Base { row: candidate.row, alive: self.view.is_live(candidate.row) })
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        found.extend(base.map_err(|error| indexes::fault(&self.core, error))?.map(|base| (row, base)));
        Ok(())
    }

    /// The name of the field that the byte at `offset` of a row belongs to.
    fn field_at(&self, offset: usize) -> String {
        let fields = &self.core.schema().fields;
        fields
            .iter()
            .rfind(|field| field.offset <= offset)
            .map_or_else(String::new, |field| field.name.clone())
    }

    /// Errs if a `Text` or `Blob` of the row does not name bytes that are there.
    fn check_heap(&self, guard: &WriteGuard, heap: &[u8], row: &T) -> Result<(), WriteError> {
        for field in &self.heap_fields {
            let bytes = &row.as_bytes()[field.offset..field.offset + size_of::<Blob>()];
            let blob = Blob::read_from_bytes(bytes).unwrap_or(Blob::EMPTY);
            if blob.is_empty() {
                continue;
            }
            let refuse = |source: Box<dyn std::error::Error + Send + Sync>| WriteError::HeapField {
                table: self.core.schema().table.clone(),
                field: self.field_at(field.offset),
                source,
            };
            let bytes = guard
                .read_heap(heap, blob.addr(), blob.len(), blob.content_hash())
                .map_err(|error| refuse(Box::new(error)))?;
            if field.text {
                core::str::from_utf8(bytes).map_err(|error| refuse(Box::new(error)))?;
            }
        }
        Ok(())
    }

    /// Writes the staged rows to the chunks, so that what comes behind them is newer.
    fn write_staged(&mut self, guard: &mut WriteGuard) -> Result<(), WriteError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        self.resolve(guard)?;
        guard.append(&self.core, self.staged.as_slice().as_bytes())?;
        let first = self.view.len() + self.hashes.len() as u64;
        self.hashes.extend(self.staged.iter().map(hash_of));
        self.staged.clear();
        let keys = self.keys.get_mut();
        keys.settle(|place| RowId(first + place as u64));
        keys.resolved = self.hashes.len() as u64;
        Ok(())
    }
}

/// Index lines that are fetched ahead in bulk look-ups.
const AHEAD: usize = 16;
/// Bytes that a bulk load writes at once.
const WRITE: usize = 1 << 20;

/// A table in a [`WriteTransaction`].
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
    staging: &'t mut Staging<T>,
    guard: &'t mut WriteGuard,
    heap: &'t [u8],
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
        match spot {
            Spot::Touched(Touched { staged: Some(place), .. }) => Ok(Some(&self.staging.staged[place])),
            Spot::Touched(Touched { base: Some(Base { row, alive: true }), .. })
            | Spot::Written(row)
            | Spot::Applied(Base { row, alive: true }) => self.staging.row(self.guard, row).map(Some),
            Spot::Touched(_) | Spot::Applied(_) | Spot::Nowhere => Ok(None),
        }
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
        self.staging.resolve(self.guard)?;
        let new = (self.staging.hashes.len() + self.staging.staged.len()) as u64;
        Ok(self.staging.view.live() + new - self.staging.keys.borrow().deaths.len() as u64)
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
    /// [`WriteError::HeapField`] if a text or blob of the row does not name bytes of this store or transaction. Nothing is
    /// changed then.
    pub fn put(&mut self, row: &T) -> Result<bool, WriteError> {
        self.staging.check_heap(self.guard, self.heap, row)?;
        let key = row.key_bytes();
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        let was_there = self.value(spot)?.is_some();
        self.put_at(spot, hash, copy(row));
        Ok(was_there)
    }

    fn put_at(&mut self, spot: Spot, hash: u64, row: T) {
        if let Spot::Touched(Touched { staged: Some(place), .. }) = spot {
            self.staging.staged[place] = row;
            return;
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
        self.staging.staged.push(row);
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
        self.put_at(spot, hash, copy(row));
        Ok(())
    }

    fn describe_key(&self, row: &T) -> String {
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
        let key = T::encode_key(key);
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
        let Some(before) = self.value(spot)? else { return Ok(None) };
        let mut row = copy(before);
        let result = change(&mut row);
        if row.key_bytes() != key {
            return Err(WriteError::KeyChanged {
                table: T::SCHEMA.table.to_owned(),
                before: self.describe_key(before),
                after: self.describe_key(&row),
            });
        }
        self.staging.check_heap(self.guard, self.heap, &row)?;
        self.put_at(spot, hash, row);
        Ok(Some(result))
    }

    /// Deletes the row with this key: whether there was one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: &T::Key) -> Result<bool, WriteError> {
        let key = T::encode_key(key);
        let hash = key_hash(key.as_ref());
        let spot = self.spot(hash, &key)?;
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
                self.unstage(place);
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

    /// Takes a staged row out; the last one takes its place.
    fn unstage(&mut self, place: usize) {
        let last = self.staging.staged.len() - 1;
        self.staging.staged.swap_remove(place);
        if place < last {
            let hash = hash_of(&self.staging.staged[place]);
            let keys = self.staging.keys.get_mut();
            if let Some(moved) = keys.touched.find_mut(hash, |known| known.staged == Some(last)) {
                moved.staged = Some(place);
            }
        }
    }

    /// Puts many rows in, straight to the table's chunks: the way to load a table. As with [`put`](Self::put), a row takes
    /// the place of one with the same key, also of an earlier one of the load. Returns how many rows there were.
    ///
    /// Costs two copies a row here and some 100 ns a row at the commit, which syncs what was written; needs eight bytes of
    /// memory a row until then. Reading or changing rows by key in the same transaction makes it compare the keys of all
    /// rows loaded so far, at some 100 ns and 20 bytes a row.
    ///
    /// # Errors
    /// As for [`put`](Self::put): rows before the one that was refused are in the transaction. [`WriteError::Fault`] if they
    /// cannot be written, for want of space say; after that, and after a panic in the iterator that is caught, the
    /// transaction can only be aborted.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = T>) -> Result<u64, WriteError> {
        self.staging.write_staged(self.guard)?;
        let at_once = (WRITE / size_of::<T>()).max(1);
        let mut batch: Vec<T> = Vec::with_capacity(at_once);
        let before = self.staging.hashes.len();
        self.staging.loading = true;
        for row in rows {
            if let Err(error) = self.staging.check_heap(self.guard, self.heap, &row) {
                self.write(&mut batch)?;
                self.staging.loading = false;
                return Err(error);
            }
            batch.push(row);
            if batch.len() == at_once {
                self.write(&mut batch)?;
            }
        }
        self.write(&mut batch)?;
        self.staging.loading = false;
        Ok((self.staging.hashes.len() - before) as u64)
    }

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), WriteError> {
        if !batch.is_empty() {
            self.guard.append(&self.staging.core, batch.as_slice().as_bytes())?;
            self.staging.hashes.extend(batch.iter().map(hash_of));
            batch.clear();
        }
        Ok(())
    }
}

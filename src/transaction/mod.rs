//! Write transactions: [`WriteTransaction`].

pub(crate) mod savepoint;

use std::any::TypeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pongo_core::engine::{Durability, EngineTransaction, WriteBatch};
use pongo_core::error::{CommitError, ReadError, StorageError, WriteError};
use pongo_core::fields::{Blob, HeapError, HeapRead, Text, content_hash};
use pongo_core::ids::{HeapAddr, Seq};
use pongo_core::record::PongoRecord;
use pongo_core::schema::StoredSchema;
use pongo_core::table::TableCore;

use crate::shared::{SharedStore, Source, User, compare};
use crate::transaction::savepoint::{Savepoint, Savepoints};
use crate::write_set::{AnyTableWriteSet, TableChanges, TableWriteSet};

/// A write transaction. At most one exists per store at a time, across all processes.
///
/// It reads everything that was committed before it started, including commits that still wait for
/// their sync ([`base_seq`](Self::base_seq)), and its own changes. No other transaction sees these
/// changes before [`commit`](Self::commit). Dropping the transaction, or [`abort`](Self::abort),
/// discards them.
///
/// Several tables can be open at once, in several threads, and texts and blobs can be staged while
/// they are:
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "stock")]
/// struct Item { #[pongo(key)] id: u32, left: u32 }
///
/// #[pongo::record]
/// #[pongo(table = "orders")]
/// struct Order { #[pongo(key)] number: u64, item: u32, _pad: [u8; 4], note: Text }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// {
///     let (mut stock, mut orders) = (tx.table::<Item>()?, tx.table::<Order>()?);
///     stock.put(&Item { id: 7, left: 3 })?;
///     let number = orders.last()?.map_or(1, |last| last.number + 1);
///     stock.update(&7, |item| item.left -= 1)?;
///     orders.insert(&Order { number, item: 7, _pad: [0; 4], note: tx.text("gift wrapped")? })?;
/// }
/// let committed = tx.commit()?;
/// assert_eq!(committed.table("orders").map(|orders| orders.inserted), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Rows and texts are kept in memory up to
/// [`Options::transaction_memory`](crate::Options::transaction_memory) (64 MiB by default). Further
/// ones are written to the chunks immediately, like those of
/// [`TableMut::extend`](crate::TableMut::extend).
pub struct WriteTransaction {
    /// Boxed, because a transaction is moved several times between its start and its commit.
    guard: Box<EngineTransaction>,
    shared: Arc<SharedStore>,
    durability: Durability,
    tables: Mutex<Vec<Slot>>,
    savepoints: Savepoints,
    _user: User,
}

/// A table that was opened in a transaction.
struct Slot {
    kind: TypeId,
    core: Arc<TableCore>,
    /// `None` while a [`TableMut`](crate::TableMut) holds it.
    staging: Option<Box<dyn AnyTableWriteSet>>,
    /// Number of live rows after the commit, once it is known.
    live_after: u64,
}

impl Slot {
    /// Returns the table's staging, or an error if its [`TableMut`](crate::TableMut) was leaked
    /// with `mem::forget`.
    fn closed(&mut self) -> Result<&mut Box<dyn AnyTableWriteSet>, WriteError> {
        let open = || WriteError::TableAlreadyOpen { table: self.core.schema().table.clone() };
        self.staging.as_mut().ok_or_else(open)
    }
}

impl core::fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WriteTransaction").field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// The effect of a commit: returned by [`WriteTransaction::commit`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Committed {
    /// The commit's sequence number: snapshots with this number or a higher one contain the commit.
    /// For an empty transaction it is the number of the previous commit.
    pub seq: Seq,
    /// The changes of each table; tables without changes are omitted.
    pub tables: Vec<TableChanges>,
}

impl Committed {
    /// Returns the changes of the table with this name, or `None` if it did not change.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableChanges> {
        self.tables.iter().find(|table| table.table == name)
    }
}

impl WriteTransaction {
    pub(crate) fn new(
        guard: Box<EngineTransaction>,
        shared: Arc<SharedStore>,
        durability: Durability,
    ) -> Self {
        Self {
            _user: User::transaction(&shared),
            guard,
            shared,
            durability,
            tables: Mutex::default(),
            savepoints: Savepoints::default(),
        }
    }

    /// Returns the number of the newest commit that this transaction reads. It reads all commits up
    /// to this one, whether published or still waiting for their sync. If such a sync fails, this
    /// transaction cannot commit either.
    #[must_use]
    pub fn base_seq(&self) -> Seq {
        self.guard.applied().seq
    }

    /// Sets the durability of the commit, in place of the one that the transaction was started
    /// with.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    pub(crate) fn guard(&self) -> &EngineTransaction {
        &self.guard
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source { shared: &self.shared, heap: &*self.guard }
    }

    /// Takes out the staging of `T`'s table; [`close_table`](Self::close_table) puts it back.
    /// Creates it if this transaction has not opened the table yet.
    ///
    /// # Errors
    /// As for [`table`](Self::table).
    pub(crate) fn open_staging<T: PongoRecord>(&self) -> Result<Box<TableWriteSet<T>>, WriteError> {
        self.guard.ensure_not_forked()?;
        self.guard.note_thread();
        let kind = TypeId::of::<T>();
        let mut tables = self.tables();
        let place = tables.iter().position(|slot| slot.kind == kind);
        let staging = match place {
            Some(place) => {
                let slot = &mut tables[place];
                let open = || WriteError::TableAlreadyOpen { table: slot.core.schema().table.clone() };
                let staging = slot.staging.take().ok_or_else(open)?;
                staging.into_any().downcast().expect("the slot of a type has its staging")
            }
            None => {
                let staging = self.stage::<T>(&tables)?;
                tables.push(Slot { kind, core: Arc::clone(staging.core()), staging: None, live_after: 0 });
                staging
            }
        };
        Ok(staging)
    }

    /// Puts back the staging of a [`TableMut`](crate::TableMut) that is dropped.
    pub(crate) fn close_table(&self, staging: Box<dyn AnyTableWriteSet>) {
        let mut tables = self.tables();
        if let Some(slot) = tables.iter_mut().find(|slot| Arc::ptr_eq(&slot.core, staging.core())) {
            slot.staging = Some(staging);
        }
    }

    fn tables(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the staging of all opened tables, or an error if the [`TableMut`](crate::TableMut)
    /// of one was leaked with `mem::forget`.
    fn closed_tables(&mut self) -> Result<Vec<&mut Box<dyn AnyTableWriteSet>>, WriteError> {
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        tables.iter_mut().map(Slot::closed).collect()
    }

    fn stage<T: PongoRecord>(&self, tables: &[Slot]) -> Result<Box<TableWriteSet<T>>, WriteError> {
        let guard = &self.guard;
        let known = self.shared.handle::<T>(|name| guard.committed_table_named(name)).map_err(as_schema)?;
        let handle = match known {
            Some(handle) => handle,
            None => {
                let core = match guard.table_named(T::SCHEMA.table)? {
                    Some(core) => core,
                    None => guard.create_table(StoredSchema::from(T::SCHEMA))?,
                };
                compare::<T>(&core)?;
                Arc::new(self.shared.open_handle(core)?)
            }
        };
        let core = &handle.core;
        ensure_unique_indexes::<T>(core.schema())?;
        if tables.iter().any(|slot| Arc::ptr_eq(&slot.core, core)) {
            return Err(WriteError::TableTypeMismatch {
                table: core.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        let view = guard.view(core)?.clone();
        Ok(Box::new(TableWriteSet::new(handle, view)))
    }

    /// Stages a text for a row of this transaction. Its bytes are written by the commit, even if no
    /// row refers to them. Beyond 64 MiB
    /// ([`Options::transaction_memory`](crate::Options::transaction_memory)) they are written to
    /// the heap's chunks immediately.
    ///
    /// # Errors
    /// [`WriteError::Storage`] if the text has 4 GiB or more, or if there is no space for it.
    pub fn text(&self, text: &str) -> Result<Text, WriteError> {
        let (addr, len, hash) = self.stage_heap(text.as_bytes())?;
        Ok(Text::new(addr, len, hash))
    }

    /// Stages bytes for a row of this transaction, like [`text`](Self::text).
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub fn blob(&self, bytes: &[u8]) -> Result<Blob, WriteError> {
        let (addr, len, hash) = self.stage_heap(bytes)?;
        Ok(Blob::new(addr, len, hash))
    }

    pub(crate) fn stage_heap(&self, bytes: &[u8]) -> Result<(HeapAddr, u32, u32), WriteError> {
        let len = u32::try_from(bytes.len()).map_err(|_| StorageError::Limit {
            what: format!("a text or blob of {} bytes is too long", bytes.len()),
            limit: u64::from(u32::MAX),
        })?;
        if len == 0 {
            return Ok((HeapAddr(0), 0, 0));
        }
        Ok((self.guard.stage_heap(bytes)?, len, content_hash(bytes)))
    }

    /// Creates a savepoint that [`rollback_to`](Self::rollback_to) can return to. Savepoints can be
    /// nested to any depth.
    ///
    /// While a savepoint exists, each put, change or delete of a row also records the previous
    /// state, which takes memory for the row. [Release](Self::release) savepoints that are no
    /// longer needed.
    ///
    /// # Errors
    /// [`WriteError::Forked`] in a child made by `fork`.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "orders")]
    /// # struct Order { #[pongo(key)] id: u64, cents: u64 }
    /// # let store = Store::in_memory()?;
    /// let mut tx = store.begin_write()?;
    /// tx.table::<Order>()?.put(&Order { id: 1, cents: 500 })?;
    /// for id in 2..5 {
    ///     let savepoint = tx.savepoint()?;
    ///     tx.table::<Order>()?.put(&Order { id, cents: 100 * id })?;
    ///     if id == 3 {
    ///         tx.rollback_to(&savepoint)?;
    ///     }
    ///     tx.release(savepoint)?;
    /// }
    /// tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let orders = snapshot.table::<Order>()?;
    /// let ids = orders.rows().map(|order| Ok(order?.id));
    /// assert_eq!(ids.collect::<Result<Vec<_>, pongo::ReadError>>()?, [1, 2, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint, WriteError> {
        self.guard.ensure_not_forked()?;
        let opened = self.closed_tables()?.len();
        let savepoint = self.savepoints.begin(&self.guard, opened);
        if let Some(number) = self.savepoints.numbers().last() {
            self.closed_tables()?.into_iter().for_each(|staging| staging.mark(number));
        }
        Ok(savepoint)
    }

    /// Undoes everything since a savepoint: rows put, changed, deleted and loaded, texts and blobs,
    /// and created tables. The savepoint stays valid and can be rolled back to again; later
    /// savepoints end.
    ///
    /// A [`Text`] or [`Blob`] created since then no longer refers to bytes of this transaction, and
    /// a row with it is rejected. If a bulk load was interrupted since then, the table becomes
    /// usable again.
    ///
    /// Costs one step for each row put, changed or deleted since then. Bytes that
    /// [`TableMut::extend`](crate::TableMut::extend) wrote are overwritten by later writes.
    ///
    /// # Errors
    /// [`WriteError::Savepoint`] if the savepoint belongs to another transaction or has ended.
    /// Nothing is changed then.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<(), WriteError> {
        self.guard.ensure_not_forked()?;
        self.closed_tables()?;
        let point = self.savepoints.go_back(savepoint, &mut self.guard)?;
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slot in tables.drain(point.tables..) {
            self.guard.truncate_appended(&slot.core, 0);
            if let Some(staging) = slot.staging {
                self.guard.note_row_memory(0, staging.memory());
            }
        }
        for staging in tables.iter_mut().filter_map(|slot| slot.staging.as_mut()) {
            staging.rewind(point.number, &mut self.guard);
        }
        self.guard.truncate_staged_heap(point.heap);
        Ok(())
    }

    /// Ends a savepoint and all later ones. The changes since then remain part of the transaction,
    /// and an outer savepoint can still undo them.
    ///
    /// # Errors
    /// As for [`rollback_to`](Self::rollback_to).
    pub fn release(&mut self, savepoint: Savepoint) -> Result<(), WriteError> {
        self.closed_tables()?;
        let number = self.savepoints.end(&savepoint)?;
        self.closed_tables()?.into_iter().for_each(|staging| staging.release(number));
        Ok(())
    }

    /// Commits the transaction. It becomes visible atomically to the snapshots of all threads and
    /// processes before this call returns: with [`Durability::Sync`], after it is on disk. Every
    /// [`begin_read`](crate::Store::begin_read) and every write transaction that starts after the
    /// return sees it.
    ///
    /// Costs two small writes and, for `Sync`, one disk sync, which concurrent commits of other
    /// threads share. A transaction that changed nothing writes nothing.
    ///
    /// # Errors
    /// - [`CommitError::Refused`] if nothing was committed.
    /// - [`CommitError::OutcomeUnknown`] if a write or sync failed midway. The store accepts no
    ///   more writes until it is opened again; it then contains the transaction completely or not
    ///   at all.
    pub fn commit(self) -> Result<Committed, CommitError> {
        let Self { guard, shared, durability, tables, .. } = self;
        let mut tables = tables.into_inner().unwrap_or_else(PoisonError::into_inner);
        tables.iter_mut().try_for_each(|slot| slot.closed().map(drop))?;
        let mut changes = Vec::with_capacity(tables.len());
        for slot in &mut tables {
            let staging = slot.closed()?;
            staging.finish(&guard)?;
            changes.extend(staging.changes()?);
            slot.live_after = staging.live_after();
        }
        let mut batches = Vec::with_capacity(tables.len());
        for slot in &mut tables {
            batches.extend(slot.closed()?.batch());
        }
        if !batches.is_empty() {
            shared.note_commit();
        }
        let seq = guard.commit(&WriteBatch { tables: batches }, durability)?;
        for slot in &tables {
            if let Some(staging) = &slot.staging {
                shared.note_rows(&slot.core, staging.len(), slot.live_after);
            }
        }
        Ok(Committed { seq, tables: changes })
    }

    /// Discards the transaction, like dropping it.
    pub fn abort(self) {}
}

/// Returns an error if `T` declares a unique index that the table does not have. The stored schema
/// alone decides which fields are unique, because every program that writes to the table must
/// enforce the same ones.
fn ensure_unique_indexes<T: PongoRecord>(stored: &StoredSchema) -> Result<(), WriteError> {
    let asked = T::SCHEMA.indexes.iter().filter(|index| index.unique);
    // The layouts are the same, so field positions are too.
    let missing = |fields: &[usize]| !stored.uniques().any(|(_, index)| index.fields == fields);
    let Some(index) = asked.map(|index| index.fields).find(|fields| missing(fields)) else { return Ok(()) };
    let found: Vec<String> = stored
        .uniques()
        .map(|(_, index)| format!("`unique {}`", stored.field_names(&index.fields)))
        .collect();
    Err(WriteError::MissingUniqueIndex {
        table: stored.table.clone(),
        record: T::SCHEMA.record,
        index: stored.field_names(index),
        found: if found.is_empty() { "none".to_owned() } else { found.join(", ") },
    })
}

/// Converts an error, keeping a schema mismatch a separate variant, as [`WriteError`] does.
fn as_schema(error: ReadError) -> WriteError {
    match error {
        ReadError::Schema(mismatch) => WriteError::Schema(mismatch),
        other => WriteError::Read(other),
    }
}

/// Reads committed bytes and those that this transaction staged.
impl HeapRead for WriteTransaction {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.guard.read_heap(addr, len, hash)
    }
}

#[cfg(feature = "serde")]
impl pongo_core::fields::serde::HeapWrite for WriteTransaction {
    fn write_heap(&self, bytes: &[u8]) -> Result<Blob, WriteError> {
        self.blob(bytes)
    }
}

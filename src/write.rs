//! Write transactions: [`WriteTransaction`].

use std::any::TypeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pongo_core::engine::{Batch, Durability, WriteGuard};
use pongo_core::error::{CommitError, Fault, ReadError, WriteError};
use pongo_core::fields::{Blob, HeapError, HeapRead, Text, content_hash};
use pongo_core::ids::{HeapAddr, Seq};
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::schema::StoredSchema;
use pongo_core::table::TableCore;

use crate::external_mut::ExternalTableMut;
use crate::read::Source;
use crate::savepoint::{Savepoint, Savepoints};
use crate::staging::{AnyStaging, Staging};
use crate::store::{Shared, User, compare};
use crate::table_mut::TableMut;

/// A write transaction: the only one in its store, in whatever process, until it ends. It reads everything that was committed
/// before it, commits that still wait for their sync included ([`base_seq`](Self::base_seq)), and its own changes.
/// Nobody else sees these before [`commit`](Self::commit); dropping it, or [`abort`](Self::abort), leaves no trace.
///
/// Several tables can be open at once, in several threads; texts and blobs are staged beside them:
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
/// Rows that are put, and texts, are kept in memory up to
/// [`Options::transaction_memory`](crate::Options::transaction_memory) (64 MiB); more go to the chunks at once, as those of
/// [`TableMut::extend`] do.
pub struct WriteTransaction {
    /// Boxed: a transaction is moved several times, from where it begins to its commit.
    guard: Box<WriteGuard>,
    shared: Arc<Shared>,
    durability: Durability,
    tables: Mutex<Vec<Slot>>,
    savepoints: Savepoints,
    _user: User,
}

/// A table that was opened in a transaction.
struct Slot {
    kind: TypeId,
    core: Arc<TableCore>,
    /// Absent while a [`TableMut`] has it.
    staging: Option<Box<dyn AnyStaging>>,
    /// Rows that are alive after the commit, once that is known.
    live_after: u64,
}

impl Slot {
    /// Returns the table's staging; an error if its [`TableMut`] was given to `mem::forget`.
    fn closed(&mut self) -> Result<&mut Box<dyn AnyStaging>, WriteError> {
        let open = || WriteError::TableAlreadyOpen { table: self.core.schema().table.clone() };
        self.staging.as_mut().ok_or_else(open)
    }
}

impl core::fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WriteTransaction").field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// What a commit did: returned by [`WriteTransaction::commit`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Committed {
    /// The commit's number: a snapshot with this number, or a higher one, shows it. That of the commit before if the
    /// transaction was empty.
    pub seq: Seq,
    /// What it changed, table by table; tables without a change are left out.
    pub tables: Vec<TableChanges>,
}

impl Committed {
    /// What changed in the table of that name; `None`: nothing did.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableChanges> {
        self.tables.iter().find(|table| table.table == name)
    }
}

/// How many rows of a table a commit changed, each key counted once: what the table has more, other and less than before.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TableChanges {
    /// The table's name.
    pub table: String,
    /// Rows whose keys are new.
    pub inserted: u64,
    /// Rows that replaced one with the same key.
    pub replaced: u64,
    /// Rows that are gone.
    pub deleted: u64,
}

impl WriteTransaction {
    pub(crate) fn new(guard: Box<WriteGuard>, shared: Arc<Shared>, durability: Durability) -> Self {
        Self {
            _user: User::transaction(&shared),
            guard,
            shared,
            durability,
            tables: Mutex::default(),
            savepoints: Savepoints::default(),
        }
    }

    /// The number of the newest commit that this transaction reads: all up to it, published or still waiting for their
    /// sync. If such a sync fails this transaction cannot commit either.
    #[must_use]
    pub fn base_seq(&self) -> Seq {
        self.guard.applied().seq
    }

    /// When the commit is to be acknowledged, in place of what the transaction was begun with.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    pub(crate) fn guard(&self) -> &WriteGuard {
        &self.guard
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source { shared: &self.shared, heap: &*self.guard }
    }

    /// Opens the table of `T`, to read and change. Makes it, with this transaction, if the store has none.
    ///
    /// A table is open once at a time in a transaction; others can be open beside it. Drop the `TableMut` before the
    /// transaction is committed (a block around it, or [`drop`]):
    ///
    /// ```compile_fail,E0505
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "items")]
    /// # struct Item { #[pongo(key)] id: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// let mut items = tx.table::<Item>()?;
    /// items.put(&Item { id: 1 })?;
    /// tx.commit()?; // `items` is still there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WriteError::TableAlreadyOpen`] while another `TableMut` of this table lives;
    /// [`WriteError::Schema`], with both layouts side by side, if the table's rows are laid out otherwise than `T` says;
    /// [`WriteError::UniqueMissing`] if `T` says that fields are unique and the table was made without that (the other way
    /// round is fine: what the table says is enforced); [`WriteError::TwoTypes`] if this transaction changes the table as
    /// another type; [`WriteError::Fault`] if the table's files cannot be made or read.
    pub fn table<T: PongoRecord>(&self) -> Result<TableMut<'_, T>, WriteError> {
        self.guard.refuse_forked()?;
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
                tables.push(Slot { kind, core: Arc::clone(&staging.core), staging: None, live_after: 0 });
                staging
            }
        };
        drop(tables);
        Ok(TableMut::new(self, staging))
    }

    /// A [`TableMut`] is done.
    pub(crate) fn close_table(&self, staging: Box<dyn AnyStaging>) {
        let mut tables = self.tables();
        if let Some(slot) = tables.iter_mut().find(|slot| Arc::ptr_eq(&slot.core, staging.core())) {
            slot.staging = Some(staging);
        }
    }

    fn tables(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tables that were opened; errs if one of them was given to `mem::forget`.
    fn closed_tables(&mut self) -> Result<Vec<&mut Box<dyn AnyStaging>>, WriteError> {
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        tables.iter_mut().map(Slot::closed).collect()
    }

    /// Opens the table of `T`s under keys of any bytes, to read and change: [`table`](Self::table) for a type with
    /// `#[pongo(key = "external")]`.
    ///
    /// # Errors
    /// As there.
    pub fn external<T: ExternalRecord>(&self) -> Result<ExternalTableMut<'_, T>, WriteError> {
        Ok(ExternalTableMut::new(self.table::<T::Row>()?))
    }

    fn stage<T: PongoRecord>(&self, tables: &[Slot]) -> Result<Box<Staging<T>>, WriteError> {
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
        refuse_missing_unique::<T>(core.schema())?;
        if tables.iter().any(|slot| Arc::ptr_eq(&slot.core, core)) {
            return Err(WriteError::TwoTypes {
                table: core.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        let view = guard.view(core)?.clone();
        Ok(Box::new(Staging::new(handle, view)))
    }

    /// Stages text for a row of this transaction. Its bytes are written with the commit, whether or not a row names them;
    /// beyond 64 MiB ([`Options::transaction_memory`](crate::Options::transaction_memory)) they go to the heap's chunks at once.
    ///
    /// # Errors
    /// [`WriteError::Fault`] if it has 4 GiB or more, or if there is no space for it.
    pub fn text(&self, text: &str) -> Result<Text, WriteError> {
        let (addr, len, hash) = self.stage_heap(text.as_bytes())?;
        Ok(Text::new(addr, len, hash))
    }

    /// Stages bytes for a row of this transaction, as [`text`](Self::text) does.
    ///
    /// # Errors
    /// As there.
    pub fn blob(&self, bytes: &[u8]) -> Result<Blob, WriteError> {
        let (addr, len, hash) = self.stage_heap(bytes)?;
        Ok(Blob::new(addr, len, hash))
    }

    pub(crate) fn stage_heap(&self, bytes: &[u8]) -> Result<(HeapAddr, u32, u32), WriteError> {
        let len = u32::try_from(bytes.len()).map_err(|_| Fault::Limit {
            what: format!("a text or blob of {} bytes is too long", bytes.len()),
            limit: u64::from(u32::MAX),
        })?;
        if len == 0 {
            return Ok((HeapAddr(0), 0, 0));
        }
        Ok((self.guard.stage_heap(bytes)?, len, content_hash(bytes)))
    }

    /// Marks a place to come back to with [`rollback_to`](Self::rollback_to): savepoints can be nested, at any depth.
    ///
    /// While one lives, each row that is put, changed or deleted costs a note of what was there before, and so memory for
    /// the row; one that is no longer needed should be [released](Self::release).
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
    /// assert_eq!(orders.rows().map(|order| Ok(order?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()?, [1, 2, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint, WriteError> {
        self.guard.refuse_forked()?;
        let opened = self.closed_tables()?.len();
        let savepoint = self.savepoints.begin(&self.guard, opened);
        if let Some(number) = self.savepoints.numbers().last() {
            self.closed_tables()?.into_iter().for_each(|staging| staging.mark(number));
        }
        Ok(savepoint)
    }

    /// Takes back everything that was done since a savepoint: rows put, changed, deleted and loaded, texts and blobs,
    /// tables made. It can be rolled back to again; savepoints made since end.
    ///
    /// A [`Text`] or [`Blob`] that was made since does not name bytes of this transaction any more: a row with it is refused.
    /// A bulk load that was broken off since is mended by this.
    ///
    /// Costs what was done since: a step for each row put, changed or deleted. Bytes that [`TableMut::extend`] wrote are
    /// written over by what comes next.
    ///
    /// # Errors
    /// [`WriteError::Savepoint`] if it is one of another transaction, or ended: nothing is changed then.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<(), WriteError> {
        self.guard.refuse_forked()?;
        self.closed_tables()?;
        let point = self.savepoints.go_back(savepoint, &mut self.guard)?;
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slot in tables.drain(point.tables..) {
            self.guard.keep_appended(&slot.core, 0);
            if let Some(staging) = slot.staging {
                self.guard.note_row_memory(0, staging.memory());
            }
        }
        for staging in tables.iter_mut().filter_map(|slot| slot.staging.as_mut()) {
            staging.rewind(point.number, &mut self.guard);
        }
        self.guard.keep_staged_heap(point.heap);
        Ok(())
    }

    /// Ends a savepoint and those made since: what was done stays part of the transaction, or of what an outer savepoint
    /// takes back.
    ///
    /// # Errors
    /// As for [`rollback_to`](Self::rollback_to).
    pub fn release(&mut self, savepoint: Savepoint) -> Result<(), WriteError> {
        self.closed_tables()?;
        let number = self.savepoints.end(&savepoint)?;
        self.closed_tables()?.into_iter().for_each(|staging| staging.release(number));
        Ok(())
    }

    /// Commits. The transaction becomes visible, whole, to snapshots of all threads and processes at one moment between this
    /// call and its return: with [`Durability::Sync`] once it is on the disk. Every [`begin_read`](crate::Store::begin_read)
    /// that starts after the return sees it, and every write transaction that begins after it.
    ///
    /// Costs two small writes and, for `Sync`, one sync of the disk, which commits of other threads share. A transaction that
    /// changed nothing writes nothing.
    ///
    /// # Errors
    /// [`CommitError::Refused`]: nothing was changed. [`CommitError::OutcomeUnknown`]: a write or sync failed midway; the
    /// store takes no more writes until it is opened anew, which finds the transaction whole or not at all.
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
        let seq = guard.commit(&Batch { tables: batches }, durability)?;
        for slot in &tables {
            if let Some(staging) = &slot.staging {
                shared.note_rows(&slot.core, staging.len(), slot.live_after);
            }
        }
        Ok(Committed { seq, tables: changes })
    }

    /// Ends the transaction without a trace, as dropping it does.
    pub fn abort(self) {}
}

/// What is unique is the table's to say, whichever program writes to it: a type that says more cannot be kept to.
fn refuse_missing_unique<T: PongoRecord>(stored: &StoredSchema) -> Result<(), WriteError> {
    let asked = T::SCHEMA.indexes.iter().filter(|index| index.unique);
    // Fields have the same places: the layouts are the same.
    let missing = |fields: &[usize]| !stored.uniques().any(|(_, index)| index.fields == fields);
    let Some(index) = asked.map(|index| index.fields).find(|fields| missing(fields)) else { return Ok(()) };
    let found: Vec<String> = stored
        .uniques()
        .map(|(_, index)| format!("`unique {}`", stored.field_names(&index.fields)))
        .collect();
    Err(WriteError::UniqueMissing {
        table: stored.table.clone(),
        record: T::SCHEMA.record,
        index: stored.field_names(index),
        found: if found.is_empty() { "none".to_owned() } else { found.join(", ") },
    })
}

/// Keeps a wrong layout apart from other faults, as [`WriteError`] does.
fn as_schema(error: ReadError) -> WriteError {
    match error {
        ReadError::Schema(mismatch) => WriteError::Schema(mismatch),
        other => WriteError::Read(other),
    }
}

/// What was committed before, and what this transaction staged.
impl HeapRead for WriteTransaction {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.guard.read_heap(addr, len, hash)
    }
}

//! Write transactions: [`WriteTransaction`].

use std::any::TypeId;
use std::sync::Arc;

use pongo_core::engine::{Batch, Durability, WriteGuard};
use pongo_core::error::{CommitError, Fault, ReadError, WriteError};
use pongo_core::fields::{Blob, HeapError, HeapRead, Text, content_hash};
use pongo_core::ids::{HeapAddr, Seq};
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::schema::StoredSchema;

use crate::external_mut::ExternalTableMut;
use crate::savepoint::{Savepoint, Savepoints};
use crate::staging::{AnyStaging, Staging};
use crate::store::{Shared, User, compare};
use crate::table_mut::TableMut;

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
    savepoints: Savepoints,
    _user: User,
}

impl core::fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WriteTransaction").field("durability", &self.durability).finish_non_exhaustive()
    }
}

impl WriteTransaction {
    pub(crate) fn new(guard: WriteGuard, shared: Arc<Shared>, durability: Durability) -> Self {
        Self {
            _user: User::transaction(&shared),
            guard,
            shared,
            durability,
            heap: Vec::new(),
            tables: Vec::new(),
            savepoints: Savepoints::default(),
        }
    }

    /// The table of `T`, to read and change. Makes it, with this transaction, if the store has none.
    ///
    /// # Errors
    /// [`WriteError::Schema`], with both layouts side by side, if the table's rows are laid out otherwise than `T` says;
    /// [`WriteError::UniqueMissing`] if `T` says that fields are unique and the table was made without that (the other way
    /// round is fine: what the table says is enforced); [`WriteError::TwoTypes`] if this transaction changes the table as
    /// another type; [`WriteError::Fault`] if the table's files cannot be made or read.
    pub fn table<T: PongoRecord>(&mut self) -> Result<TableMut<'_, T>, WriteError> {
        let place = self.place_of::<T>()?;
        Ok(TableMut {
            staging: staging_at(&mut self.tables, place),
            guard: &mut self.guard,
            heap: &self.heap,
            shared: &self.shared,
        })
    }

    /// The table of `T`s under keys of any bytes, to read and change: [`table`](Self::table) for a type with
    /// `#[pongo(key = "external")]`.
    ///
    /// # Errors
    /// As there.
    pub fn external<T: ExternalRecord>(&mut self) -> Result<ExternalTableMut<'_, T>, WriteError> {
        let place = self.place_of::<T::Row>()?;
        let staging = staging_at(&mut self.tables, place);
        Ok(ExternalTableMut::new(staging, &mut self.guard, &mut self.heap, &self.shared))
    }

    /// Where in `tables` the table of `T` is, from now on.
    fn place_of<T: PongoRecord>(&mut self) -> Result<usize, WriteError> {
        self.guard.refuse_forked()?;
        let kind = TypeId::of::<T>();
        Ok(match self.tables.iter().position(|(known, _)| *known == kind) {
            Some(place) => place,
            None => {
                let staging = self.stage::<T>()?;
                self.tables.push((kind, staging));
                self.tables.len() - 1
            }
        })
    }

    fn stage<T: PongoRecord>(&mut self) -> Result<Box<Staging<T>>, WriteError> {
        let guard = &mut self.guard;
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
        if self.tables.iter().any(|(_, staging)| Arc::ptr_eq(staging.core(), core)) {
            return Err(WriteError::TwoTypes {
                table: core.schema().table.clone(),
                record: T::SCHEMA.record,
            });
        }
        let view = guard.view(core)?;
        Ok(Box::new(Staging::new(handle, view)))
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
        let savepoint = self.savepoints.begin(&self.guard, self.heap.len(), self.tables.len());
        if let Some(number) = self.savepoints.numbers().last() {
            self.tables.iter_mut().for_each(|(_, staging)| staging.mark(number));
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
        let point = self.savepoints.go_back(savepoint, &mut self.guard)?;
        for (_, staging) in self.tables.drain(point.tables..) {
            self.guard.keep_appended(staging.core(), 0);
        }
        for (_, staging) in &mut self.tables {
            staging.rewind(point.number, &mut self.guard);
        }
        self.heap.truncate(point.heap);
        Ok(())
    }

    /// Ends a savepoint and those made since: what was done stays part of the transaction, or of what an outer savepoint
    /// takes back.
    ///
    /// # Errors
    /// As for [`rollback_to`](Self::rollback_to).
    pub fn release(&mut self, savepoint: Savepoint) -> Result<(), WriteError> {
        let number = self.savepoints.end(&savepoint)?;
        self.tables.iter_mut().for_each(|(_, staging)| staging.release(number));
        Ok(())
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
            staging.finish(&self.guard, &self.heap)?;
        }
        let tables = self.tables.iter().filter_map(|(_, staging)| staging.batch()).collect();
        if !self.tables.is_empty() {
            self.shared.note_commit();
        }
        let seq = self.guard.commit(&Batch { tables, heap: &self.heap }, self.durability)?;
        for (_, staging) in &self.tables {
            self.shared.note_rows(staging.core(), staging.len());
        }
        Ok(seq)
    }

    /// Ends the transaction without a trace, as dropping it does.
    pub fn abort(self) {}
}

/// The staging of the type that has this place.
fn staging_at<T: PongoRecord>(tables: &mut [(TypeId, Box<dyn AnyStaging>)], place: usize) -> &mut Staging<T> {
    let staging = tables[place].1.as_any().downcast_mut();
    staging.expect("the place of a type has its staging")
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

impl HeapRead for WriteTransaction {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.guard.read_heap(&self.heap, addr, len, hash)
    }
}

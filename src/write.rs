//! Write transactions: [`WriteTransaction`].

use std::any::TypeId;
use std::sync::Arc;

use pongo_core::engine::{Batch, Durability, WriteGuard};
use pongo_core::error::{CommitError, Fault, ReadError, WriteError};
use pongo_core::fields::{Blob, HeapError, HeapRead, Text, content_hash};
use pongo_core::ids::{HeapAddr, Seq};
use pongo_core::record::PongoRecord;
use pongo_core::schema::StoredSchema;

use crate::indexes;
use crate::staging::{AnyStaging, Staging};
use crate::store::{Shared, compare};
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
        Ok(Staging::new(core, index, view))
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
        let seq = self.guard.commit(&Batch { tables, heap: &self.heap }, self.durability)?;
        for (_, staging) in &self.tables {
            self.shared.note_rows(staging.core(), staging.len());
        }
        Ok(seq)
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

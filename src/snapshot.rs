//! Read transactions: [`Snapshot`].

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use pongo_core::error::ReadError;
use pongo_core::fields::{HeapError, HeapRead};
use pongo_core::ids::{HeapAddr, Seq};
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::snapshot;

use crate::keys::Keys;
use crate::shared::{SharedStore, Source, TableHandle};
use crate::table::external::ExternalTable;
use crate::table::{Parts, Table};

/// A read transaction: the state of the store at one commit, regardless of concurrent writes.
///
/// Everything it returns borrows from it. It can be sent to and shared between threads, and keeps
/// the store open.
///
/// Rows that an existing snapshot can see are not reclaimed: a snapshot that is kept for hours
/// costs disk space.
#[derive(Debug)]
pub struct Snapshot {
    inner: snapshot::EngineSnapshot,
    shared: Arc<SharedStore>,
}

// A panic in the caller's code leaves the state consistent: reading changes only cached data (maps,
// zones, indexes in memory), every change leaves it valid at each step, and locks that a panic
// poisoned are still acquired.
impl UnwindSafe for Snapshot {}
impl RefUnwindSafe for Snapshot {}

impl Snapshot {
    pub(crate) fn new(inner: snapshot::EngineSnapshot, shared: Arc<SharedStore>) -> Self {
        Self { inner, shared }
    }

    pub(crate) fn inner(&self) -> &snapshot::EngineSnapshot {
        &self.inner
    }

    pub(crate) fn shared(&self) -> &Arc<SharedStore> {
        &self.shared
    }

    /// Returns the sequence number of the commit that this snapshot reads. Later commits have
    /// higher numbers.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.inner.seq()
    }

    /// Returns the table of `T`. A table that did not exist yet at this snapshot is empty.
    ///
    /// The first call for a table compares its layout with `T` and maps its files as far as
    /// necessary; later calls take about 20 ns.
    ///
    /// # Errors
    /// [`ReadError::Schema`] with both layouts side by side, if the layout of the table's rows
    /// differs from `T`.
    pub fn table<T: PongoRecord>(&self) -> Result<Table<'_, T>, ReadError> {
        self.open()
    }

    #[inline]
    fn open<T, K: Keys<T>>(&self) -> Result<Table<'_, T, K>, ReadError> {
        let source = Source { shared: &self.shared, heap: self };
        let Some(handle) = self.handle::<K::Row>()? else { return Ok(Table::of_snapshot(source, None)) };
        let view = self.inner.view(&handle.core)?;
        Ok(Table::of_snapshot(source, view.map(|view| Parts { view, handle })))
    }

    /// Returns a table of `T`s with arbitrary bytes as keys. This is [`table`](Self::table) for a
    /// type with `#[pongo(key = "external")]`.
    ///
    /// # Errors
    /// As for [`table`](Self::table).
    pub fn external<T: ExternalRecord>(&self) -> Result<ExternalTable<'_, T>, ReadError> {
        self.open()
    }

    pub(crate) fn handle<T: PongoRecord>(&self) -> Result<Option<Arc<TableHandle>>, ReadError> {
        self.shared.handle::<T>(|name| self.inner.table_named(name))
    }
}

impl HeapRead for Snapshot {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.inner.read_heap(addr, len, hash)
    }
}

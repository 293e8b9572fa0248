//! One write transaction before its commit: the guard that is the right to write, with the tables,
//! rows and heap items that the transaction has added so far.
//!
//! Everything that it writes is after what is applied. It becomes part of the store when the guard
//! is committed; if it is dropped instead, what it created is removed.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::gate::WriterState;
use super::staged::StagedHeap;
use super::{Engine, schema_path};
use crate::append_vec::AppendVec;
use crate::control::Wait;
use crate::error::{ReadError, StorageError, WriteError};
use crate::fields::{HeapError, HeapRead};
use crate::heap;
use crate::ids::{HeapAddr, RowId, TableId};
use crate::record::PongoRecord;
use crate::space::RunSums;
use crate::state::{StoreState, TableState};
use crate::table::{TableCore, TableView};

/// The right to write, with everything that one transaction writes before its commit. Acquired by
/// [`Engine::begin_write`], released when dropped.
///
/// Staging takes shared references: several threads can append to different tables, and stage heap
/// items, at the same time. Data read through the guard borrows from it, and does not move or
/// change until the guard is dropped or borrowed mutably.
#[derive(Debug)]
pub struct EngineTransaction {
    pub(crate) engine: Arc<Engine>,
    /// Everything applied when the guard was acquired. Nothing else is applied until this
    /// transaction commits.
    base: Arc<StoreState>,
    /// Present until the guard is dropped or spent.
    writer: Mutex<Option<Box<WriterState>>>,
    /// Tables that this transaction creates.
    new_tables: Mutex<Vec<Arc<TableCore>>>,
    /// Tables that this transaction has used.
    tables: AppendVec<TransactionTable>,
    /// Locked to add to `tables`, or to a table's views.
    adding: Mutex<()>,
    pub(crate) heap: StagedHeap,
    /// Bytes of rows that the layer above holds in memory for this transaction.
    row_memory: AtomicU64,
    /// Whether the journal may contain the transaction.
    pub(crate) committed: AtomicBool,
    /// Whether the transaction was applied and is queued for publication.
    pub(crate) settled: bool,
}

/// One table in a transaction.
pub(crate) struct TransactionTable {
    pub(crate) table: Arc<TableCore>,
    /// The table as applied.
    base: OnceLock<TableView>,
    /// Number of rows written beyond the applied length. Stored after the rows are written.
    appended: AtomicU64,
    /// Checksums of these rows.
    sums: Mutex<RunSums>,
    /// Views of the table that include these rows; the last view has the most rows. They never
    /// leave the guard: once it is dropped the rows may be overwritten.
    views: AppendVec<TableView>,
    /// Whether rows are being appended, or filled in place.
    busy: AtomicBool,
    /// Whether space for rows was reserved, even if no rows were written there.
    pub(crate) is_reserved: AtomicBool,
}

impl core::fmt::Debug for TransactionTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TransactionTable").field("table", &self.table.schema().table).finish_non_exhaustive()
    }
}

impl TransactionTable {
    /// Acquires the right to append to the table. Returns an error if another caller has it, or
    /// never released it.
    pub(crate) fn begin_append(&self) -> Result<Appending<'_>, WriteError> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(WriteError::IncompleteChange { table: self.table.schema().table.clone() });
        }
        Ok(Appending(self))
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Reads the bytes that a checksum still needs before bytes after the appended rows are
    /// written. Those may overwrite rows that were discarded.
    pub(crate) fn read_cut(&self) -> Result<(), StorageError> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).read_cut(&self.table.space)
    }
}

/// The right to append to one table of a transaction, released when dropped.
#[derive(Debug)]
pub(crate) struct Appending<'g>(pub(crate) &'g TransactionTable);

impl Appending<'_> {
    /// Records that rows with these bytes were written after those appended before.
    pub(crate) fn note(&self, rows: &[u8]) {
        self.0.sums.lock().unwrap_or_else(PoisonError::into_inner).add(rows);
        self.0.appended.fetch_add(rows.len() as u64 / self.0.table.row_size(), Ordering::Release);
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Waits for the right to write, among threads and processes.
    ///
    /// # Errors
    /// [`WriteError::OpenInThread`] if this thread began the transaction that is open, or was the
    /// last to call [`EngineTransaction::note_thread`] for it: it would wait for itself.
    pub fn begin_write(self: &Arc<Self>) -> Result<Box<EngineTransaction>, WriteError> {
        Ok(self.begin_write_within(Wait::Forever)?.expect("waits for as long as it takes"))
    }

    /// Works like [`begin_write`](Self::begin_write), but waits no longer than `wait`. Returns
    /// `None` if another transaction is still open then.
    ///
    /// # Errors
    /// As for [`begin_write`](Self::begin_write).
    pub fn begin_write_within(
        self: &Arc<Self>,
        wait: Wait,
    ) -> Result<Option<Box<EngineTransaction>>, WriteError> {
        if self.fork.is_child() {
            return Err(WriteError::Forked);
        }
        let Some((mut writer, locked)) = self.take_writer(wait)? else { return Ok(None) };
        match self.acquire(&mut writer, locked, wait) {
            Ok(true) => Ok(Some(Box::new(EngineTransaction {
                engine: Arc::clone(self),
                base: Arc::clone(&writer.state),
                heap: StagedHeap::new(writer.state.heap.len, self.options.transaction_memory),
                writer: Mutex::new(Some(writer)),
                new_tables: Mutex::default(),
                tables: AppendVec::new(),
                adding: Mutex::default(),
                row_memory: AtomicU64::new(0),
                committed: AtomicBool::new(false),
                settled: false,
            }))),
            Ok(false) => {
                self.return_writer(writer);
                Ok(None)
            }
            Err(error) => {
                let error = self.poison_if_sync_failed(error);
                self.return_writer(writer);
                Err(error)
            }
        }
    }
}

impl EngineTransaction {
    /// Returns an error in a child made by `fork`.
    pub fn ensure_not_forked(&self) -> Result<(), WriteError> {
        if self.engine.fork.is_child() { Err(WriteError::Forked) } else { Ok(()) }
    }

    pub(crate) fn writer_mut(&mut self) -> &mut WriterState {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        writer.as_mut().expect("present until the guard is spent")
    }

    /// Gives access to the writer through a shared reference, for work done once all staging is
    /// complete.
    pub(crate) fn with_writer<R>(&self, work: impl FnOnce(&mut WriterState) -> R) -> R {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        work(writer.as_mut().expect("present until the guard is spent"))
    }

    /// Records on disk that the store is not closed cleanly, if it was. Called before the first
    /// write, to an index as well.
    ///
    /// # Errors
    /// [`WriteError::Storage`] if that cannot be written.
    pub fn begin_changes(&self) -> Result<(), WriteError> {
        if !self.engine.control.is_clean() {
            return Ok(());
        }
        self.with_writer(|writer| self.engine.begin_changes(writer))
            .map_err(|error| self.engine.poison_if_sync_failed(error))
    }

    /// Records that this thread works on the transaction now, so that it must not wait for another
    /// one.
    pub fn note_thread(&self) {
        self.engine.note_thread();
    }

    /// Returns the engine to which the guard belongs.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns everything applied so far: what this transaction sees in addition to its own
    /// changes.
    #[must_use]
    pub fn applied(&self) -> &StoreState {
        &self.base
    }

    fn new_tables(&self) -> MutexGuard<'_, Vec<Arc<TableCore>>> {
        self.new_tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the table of that name, created by this transaction or before.
    pub fn table_named(&self, name: &str) -> Result<Option<Arc<TableCore>>, ReadError> {
        self.table_among(&self.new_tables(), name)
    }

    pub(crate) fn table_among(
        &self,
        new_tables: &[Arc<TableCore>],
        name: &str,
    ) -> Result<Option<Arc<TableCore>>, ReadError> {
        if let Some(new) = new_tables.iter().find(|table| table.schema().table == name) {
            return Ok(Some(Arc::clone(new)));
        }
        self.committed_table_named(name)
    }

    /// Runs `make` with the list of new tables, one caller at a time.
    pub(crate) fn with_new_tables<R>(&self, make: impl FnOnce(&mut Vec<Arc<TableCore>>) -> R) -> R {
        make(&mut self.new_tables())
    }

    /// Returns the table of that name, if a commit before this transaction created it.
    pub fn committed_table_named(&self, name: &str) -> Result<Option<Arc<TableCore>>, ReadError> {
        self.engine.ensure_reader_not_forked()?;
        self.engine.table_named(name, self.applied().tables.len())
    }

    /// Returns the entry of a table, created if it does not exist.
    pub(crate) fn entry(&self, table: &Arc<TableCore>) -> &TransactionTable {
        let find = || self.tables.iter().find(|known| Arc::ptr_eq(&known.table, table));
        if let Some(known) = find() {
            return known;
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find() {
            return known;
        }
        let place = self.tables.push(TransactionTable {
            table: Arc::clone(table),
            base: OnceLock::new(),
            appended: AtomicU64::new(0),
            sums: Mutex::new(RunSums::new(self.table_state(table.id()).len * table.row_size())),
            views: AppendVec::new(),
            busy: AtomicBool::new(false),
            is_reserved: AtomicBool::new(false),
        });
        self.tables.get(place).expect("it was just added")
    }

    /// Returns a table as applied so far.
    ///
    /// # Panics
    /// If the table belongs to another store, as in the other methods that take one.
    pub fn view(&self, table: &Arc<TableCore>) -> Result<&TableView, ReadError> {
        self.engine.ensure_reader_not_forked()?;
        self.engine.assert_own(table);
        let entry = self.entry(table);
        if let Some(view) = entry.base.get() {
            return Ok(view);
        }
        let view = table.at(self.table_state(table.id()), self.applied().seq)?;
        Ok(entry.base.get_or_init(|| view))
    }

    /// Returns the table with the rows that [`EngineTransaction::append`] wrote beyond the applied
    /// length.
    ///
    /// # Errors
    /// As for [`view`](Self::view).
    fn appended_view(&self, table: &Arc<TableCore>) -> Result<&TableView, ReadError> {
        // In a child nothing prevents the parent from overwriting them.
        self.engine.ensure_reader_not_forked()?;
        self.engine.assert_own(table);
        let entry = self.entry(table);
        let last = || entry.views.len().checked_sub(1).and_then(|last| entry.views.get(last));
        let mut state = self.table_state(table.id());
        state.len += entry.appended();
        if let Some(view) = last().filter(|view| view.len() >= state.len) {
            return Ok(view);
        }
        let view = table.at(state, self.applied().seq)?;
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entry.views.push(view);
        Ok(entry.views.get(place).expect("it was just added"))
    }

    /// Returns a row that [`EngineTransaction::append`] wrote beyond the applied length.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn appended_row<T: PongoRecord>(&self, table: &Arc<TableCore>, row: RowId) -> Result<&T, ReadError> {
        self.appended_view(table)?.row(row)
    }

    /// Returns the bytes of a row, as [`appended_row`](Self::appended_row) returns the row.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn appended_row_bytes<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        row: RowId,
    ) -> Result<&[u8], ReadError> {
        self.appended_view(table)?.valid_row_bytes::<T>(row)
    }

    /// Returns consecutive rows that [`EngineTransaction::append`] wrote beyond the applied length.
    ///
    /// # Errors
    /// If there are no such rows.
    pub fn appended_slice<T: PongoRecord>(
        &self,
        table: &Arc<TableCore>,
        rows: Range<RowId>,
    ) -> Result<&[T], ReadError> {
        self.appended_view(table)?.rows(rows)
    }

    /// Returns the number of rows of a table that were written beyond the applied length.
    #[must_use]
    pub fn appended_rows(&self, table: &Arc<TableCore>) -> u64 {
        self.tables
            .iter()
            .find(|known| Arc::ptr_eq(&known.table, table))
            .map_or(0, TransactionTable::appended)
    }

    /// Returns the checksums of the appended rows of a table so far; those of further rows can be
    /// added.
    pub(crate) fn appended_sums(&self, table: &Arc<TableCore>) -> Result<RunSums, StorageError> {
        let entry = self.entry(table);
        entry.read_cut()?;
        let sums = entry.sums.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sums.clone())
    }

    /// Returns all tables that this transaction has used.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &TransactionTable> {
        self.tables.iter()
    }

    /// Discards rows that [`EngineTransaction::append`] wrote, except the first `rows`: rows
    /// appended next overwrite them.
    pub fn truncate_appended(&mut self, table: &Arc<TableCore>, rows: u64) {
        let end = (self.table_state(table.id()).len + rows) * table.row_size();
        let Some(known) = self.tables.iter_mut().find(|known| Arc::ptr_eq(&known.table, table)) else {
            return;
        };
        // A holder of the right borrows this guard, so none is left. If the flag is set, the right
        // was leaked, and nothing will write there.
        *known.busy.get_mut() = false;
        if *known.appended.get_mut() > rows {
            *known.appended.get_mut() = rows;
            known.sums.get_mut().unwrap_or_else(PoisonError::into_inner).cut(end);
            known.views.truncate(0);
            if rows == 0 {
                table.space.forget_pending();
            }
        }
    }

    /// Returns the number of tables that this transaction created.
    #[must_use]
    pub fn new_table_count(&self) -> usize {
        self.new_tables().len()
    }

    /// Removes the tables that this transaction created, except the first `count`.
    pub fn truncate_new_tables(&mut self, count: usize) {
        loop {
            let new_tables = self.new_tables.get_mut().unwrap_or_else(PoisonError::into_inner);
            if new_tables.len() <= count {
                break;
            }
            let table = new_tables.pop().expect("there are more than that");
            if let Some(known) = self.tables.iter_mut().find(|known| Arc::ptr_eq(&known.table, &table)) {
                *known.appended.get_mut() = 0;
                known.views.truncate(0);
            }
            self.remove_new_table(&table);
        }
    }

    /// Removes the files of a new table. Files that cannot be removed are unreferenced: the next
    /// recovery removes the schema file, and chunk files stay until the name is used again.
    fn remove_new_table(&self, table: &TableCore) {
        let _ = table.space.clear();
        let _ = self.engine.storage.remove(&schema_path(table.id(), 1));
    }

    pub(crate) fn table_state(&self, table: TableId) -> TableState {
        self.applied().tables.get(table.0 as usize).copied().unwrap_or_default()
    }

    /// Returns the heap's length as applied: staged bytes begin here.
    #[must_use]
    pub fn heap_len(&self) -> u64 {
        self.applied().heap.len
    }

    /// Stages an item of the heap and returns its address. The item is written with the commit.
    /// Items beyond [`transaction_memory`](super::EngineOptions::transaction_memory) are written to
    /// the heap's chunks at once.
    ///
    /// # Errors
    /// [`WriteError::Storage`] if such an item cannot be written.
    pub fn stage_heap(&self, bytes: &[u8]) -> Result<HeapAddr, WriteError> {
        self.ensure_not_forked()?;
        let in_rows = self.row_memory.load(Ordering::Relaxed);
        self.heap.stage(&self.engine.heap, bytes, in_rows, || self.begin_changes())
    }

    /// Returns the number of heap bytes that were staged: pass it to
    /// [`truncate_staged_heap`](Self::truncate_staged_heap) to return to this point.
    #[must_use]
    pub fn staged_heap_len(&self) -> u64 {
        self.heap.len()
    }

    /// Discards staged heap bytes, except the first `len`.
    pub fn truncate_staged_heap(&mut self, len: u64) {
        self.heap.truncate(len);
    }

    /// Records that the layer above holds `more` bytes of rows more, and `fewer` bytes fewer, in
    /// memory than before.
    pub fn note_row_memory(&self, more: u64, fewer: u64) {
        self.row_memory.fetch_add(more.wrapping_sub(fewer), Ordering::Relaxed);
    }

    /// Returns whether this transaction holds more in memory than it may.
    #[must_use]
    pub fn is_memory_full(&self) -> bool {
        self.row_memory.load(Ordering::Relaxed) + self.heap.in_memory()
            > self.engine.options.transaction_memory
    }
}

/// Items of the applied heap, and those that were staged.
impl HeapRead for EngineTransaction {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.engine.ensure_reader_not_forked().map_err(|error| heap::forked(addr, error))?;
        self.heap.read(&self.engine.heap, self.base.heap.summed, addr, len, hash)
    }
}

impl EngineTransaction {
    /// Removes what the transaction created for a commit that did not happen.
    fn rollback(&mut self) {
        self.tables.iter_mut().for_each(|known| {
            *known.appended.get_mut() = 0;
            known.views.truncate(0);
        });
        self.truncate_new_tables(0);
        for table in self.engine.tables.read().unwrap_or_else(PoisonError::into_inner).iter() {
            table.space.forget_pending();
        }
        self.engine.heap.forget_pending();
    }
}

impl Drop for EngineTransaction {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        if self.engine.fork.is_child() {
            // The parent still has it, and the lock too: nothing of it may be touched, or even
            // closed.
            std::mem::forget(writer);
            return;
        }
        if !*self.committed.get_mut() {
            self.rollback();
        } else if !self.settled {
            self.engine.poison("a commit was broken off between the journal and its publication");
        }
        self.engine.return_writer(writer);
    }
}

/// Asserts in debug builds that rows from `first` on are above everything published, so that they
/// may be written.
pub(super) fn assert_above_published(engine: &Engine, table: TableId, first: u64) {
    if cfg!(debug_assertions) {
        let (_, published) = engine.control.published();
        let len = published.tables.get(table.0 as usize).map_or(0, |table| table.len);
        assert!(len <= first, "no write below a published length: {len} rows, writing row {first}");
    }
}

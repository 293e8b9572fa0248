//! The uncommitted changes of a write transaction to one table: staged rows in memory, rows written
//! to the chunks, and the state of their keys.

pub(crate) mod bulk;
pub(crate) mod key_map;
pub(crate) mod own;
pub(crate) mod own_order;
mod savepoint;
pub(crate) mod undo_log;
pub(crate) mod unique;

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use pongo_core::engine::{EngineTransaction, TableWriteBatch};
use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{Blob, HeapRead};
use pongo_core::ids::RowId;
pub(crate) use pongo_core::padding::copy_of as copy;
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::rows::RowBuffer;
use pongo_core::table::{TableCore, TableView};
use pongo_index::key_hash;
use zerocopy::FromBytes;

use crate::index::error::fault;
use crate::shared::TableHandle;
use crate::write_set::key_map::{KeyLocation, Keys, PendingChange, PriorVersion};
use crate::write_set::own_order::OwnOrder;
use crate::write_set::undo_log::UndoLog;

use savepoint::{WriteSetMark, WriteSetStep};
use unique::UniqueValues;

/// The changes of a transaction to one table, with rows of type `T`.
pub(crate) struct TableWriteSet<T> {
    core: Arc<TableCore>,
    handle: Arc<TableHandle>,
    /// The table as applied before this transaction.
    view: TableView,
    /// Rows in memory.
    staged: RowBuffer<T>,
    /// Key hashes of all written rows. At commit those of the staged rows are appended.
    hashes: Vec<u64>,
    keys: RwLock<Keys>,
    /// One entry for each index in `unique`.
    unique_values: Vec<UniqueValues>,
    /// Number of written rows whose unique values have been checked.
    checked: usize,
    /// Number of deleted rows whose values have been removed from `unique_values`.
    buried: usize,
    /// A bulk load is running or was aborted, or rows of `alloc` are not inserted yet.
    loading: bool,
    /// User code runs between two changes. If it does not return, this stays set, and the changes
    /// are incomplete.
    interrupted: Arc<AtomicBool>,
    /// The transaction's rows, sorted by the indexes that were queried.
    orders: Mutex<Vec<OwnOrder>>,
    /// The error for which rows of `alloc` were not inserted when they were dropped. The commit
    /// returns it.
    refused: Option<WriteError>,
    steps: UndoLog<WriteSetStep<T>>,
    /// Savepoints with their numbers, oldest first.
    marks: Vec<(u64, WriteSetMark)>,
}

/// Numbers of the rows of a table that a commit changed, compared with the table before it. Each
/// key is counted once.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TableChanges {
    /// The table's name.
    pub table: String,
    /// Number of rows with new keys.
    pub inserted: u64,
    /// Number of rows that replaced a row with the same key.
    pub replaced: u64,
    /// Number of rows that no longer exist.
    pub deleted: u64,
}

pub(crate) trait AnyTableWriteSet: Send + Sync {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn core(&self) -> &Arc<TableCore>;
    /// Resolves which rows the staged rows replace and computes all hashes. Called after everything
    /// is staged.
    fn finish(&mut self, guard: &EngineTransaction) -> Result<(), WriteError>;
    /// Returns the number of rows of the table after the commit, including deleted ones.
    fn len(&self) -> u64;
    /// Returns the changes of the commit, or `None` if nothing changes. Called after `finish`.
    fn changes(&self) -> Result<Option<TableChanges>, WriteError>;
    /// Returns the memory in bytes of the rows in memory and their bookkeeping.
    fn memory(&self) -> u64;
    /// Returns the number of live rows after the commit. Called after `finish`.
    fn live_after(&self) -> u64;
    /// Returns the changes for the engine to commit, or `None` if nothing changes. Called once, as
    /// the last method.
    fn batch(&mut self) -> Option<TableWriteBatch<'_>>;
    /// Creates a savepoint.
    fn mark(&mut self, savepoint: u64);
    /// Restores the state at this savepoint and ends the later savepoints. Does nothing if the
    /// savepoint is older than this staging.
    fn rewind(&mut self, savepoint: u64, guard: &mut EngineTransaction);
    /// Ends this savepoint and the later ones.
    fn release(&mut self, savepoint: u64);
}

impl<T: PongoRecord> AnyTableWriteSet for TableWriteSet<T> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    fn finish(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.ensure_complete()?;
        let written = self.hashes.len();
        self.resolve_all(guard)?;
        let first = self.view.len() + written as u64;
        self.keys_mut().finish(|place| RowId(first + place as u64));
        *self.orders_mut() = Vec::new();
        let indexes = 1 + self.unique_values.len();
        self.hashes.reserve_exact((written + self.staged.len()) * indexes - written);
        self.hashes.extend(self.staged.iter().map(hash_of));
        self.hash_values_of_staged();
        for unique_values in &mut self.unique_values {
            self.hashes.append(&mut unique_values.finish());
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.view.len() + self.new_rows()
    }

    fn changes(&self) -> Result<Option<TableChanges>, WriteError> {
        let keys = self.keys();
        let first = self.view.len();
        if self.hashes.is_empty() && keys.deleted_rows.is_empty() {
            return Ok(None);
        }
        let new = self.new_rows();
        let of_before = keys.deleted_rows.iter().filter(|row| row.0 < first).count() as u64;
        let live = new - (keys.deleted_rows.len() as u64 - of_before);
        let deleted = keys.deleted(|row| self.view.is_live(row))?;
        let replaced = of_before - deleted;
        let table = self.core.schema().table.clone();
        Ok(Some(TableChanges { table, inserted: live - replaced, replaced, deleted }))
    }

    fn memory(&self) -> u64 {
        self.staged.len() as u64 * self.cost()
    }

    fn live_after(&self) -> u64 {
        let rows = self.view.live() + self.new_rows();
        rows.saturating_sub(self.keys().deleted_rows.len() as u64)
    }

    fn batch(&mut self) -> Option<TableWriteBatch<'_>> {
        // Whatever is not moved into the batch is no longer needed.
        let keys = std::mem::take(self.keys_mut());
        if self.hashes.is_empty() && keys.deleted_rows.is_empty() {
            return None;
        }
        Some(TableWriteBatch {
            table: Arc::clone(&self.core),
            rows: self.staged.bytes(),
            hashes: &self.hashes,
            previous: keys.previous,
            deleted_rows: keys.deleted_rows,
        })
    }

    fn mark(&mut self, savepoint: u64) {
        self.add_mark(savepoint);
    }

    fn rewind(&mut self, savepoint: u64, guard: &mut EngineTransaction) {
        self.rewind_to(savepoint, guard);
    }

    fn release(&mut self, savepoint: u64) {
        self.release_mark(savepoint);
    }
}

/// Rows with more bytes than this are never staged.
const LARGE: usize = 64 << 10;

/// Returns whether rows of this type are too large for the stack and for holding many of them in
/// memory. They are written to the chunks one by one.
pub(crate) const fn is_large<T>() -> bool {
    size_of::<T>() > LARGE
}

pub(crate) fn hash_of<T: PongoRecord>(row: &T) -> u64 {
    key_hash(row.key_bytes().as_ref())
}

/// Returns the content of a lock that cannot be held elsewhere. A separate function, so that only
/// this field is borrowed.
pub(crate) fn inner(keys: &mut RwLock<Keys>) -> &mut Keys {
    keys.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl<T: PongoRecord> TableWriteSet<T> {
    pub(crate) fn new(handle: Arc<TableHandle>, view: TableView) -> Self {
        Self {
            core: Arc::clone(&handle.core),
            unique_values: handle.unique.iter().map(|_| UniqueValues::new(view.len())).collect(),
            keys: RwLock::new(Keys::new(view.len())),
            handle,
            view,
            staged: RowBuffer::new(),
            hashes: Vec::new(),
            orders: Mutex::default(),
            interrupted: Arc::default(),
            checked: 0,
            buried: 0,
            loading: false,
            steps: UndoLog::default(),
            marks: Vec::new(),
            refused: None,
        }
    }

    pub(crate) fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    pub(crate) fn handle(&self) -> &Arc<TableHandle> {
        &self.handle
    }

    /// Returns the table as applied before this transaction.
    pub(crate) fn view(&self) -> &TableView {
        &self.view
    }

    /// Returns the flag that is set while user code runs between two changes.
    pub(crate) fn interrupted_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    fn is_broken(&self) -> bool {
        self.loading || self.interrupted.load(Ordering::Relaxed)
    }

    /// Returns an error if a bulk load was aborted or rows of `alloc` were lost.
    pub(crate) fn ensure_complete(&self) -> Result<(), WriteError> {
        if self.is_broken() {
            return Err(WriteError::IncompleteChange { table: self.core.schema().table.clone() });
        }
        Ok(())
    }

    pub(crate) fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keys_mut(&mut self) -> &mut Keys {
        inner(&mut self.keys)
    }

    fn orders_mut(&mut self) -> &mut Vec<OwnOrder> {
        self.orders.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of new rows. Requires that `finish` has appended the hashes of unique
    /// values to those of the keys.
    fn new_rows(&self) -> u64 {
        (self.hashes.len() / (1 + self.unique_values.len())) as u64
    }

    /// Returns whether the transaction has changed nothing in this table yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.hashes.is_empty() && self.staged.is_empty() && self.keys().is_empty()
    }

    /// Returns a row of this transaction by the number that it would get if the transaction were
    /// committed now.
    pub(crate) fn own_row<'a>(
        &'a self,
        guard: &'a EngineTransaction,
        row: RowId,
    ) -> Result<&'a T, ReadError> {
        let staged = row.0.checked_sub(self.view.len() + self.hashes.len() as u64);
        match staged.and_then(|place| self.staged.get(place as usize)) {
            Some(value) => Ok(value),
            None => guard.appended_row(&self.core, row),
        }
    }

    /// Returns the bytes of such a row.
    pub(crate) fn own_row_bytes<'a>(
        &'a self,
        guard: &'a EngineTransaction,
        row: RowId,
    ) -> Result<&'a [u8], ReadError> {
        match row.0.checked_sub(self.view.len() + self.hashes.len() as u64) {
            Some(place) if place < self.staged.len() as u64 => Ok(self.staged.row_bytes(place as usize)),
            _ => guard.appended_row_bytes::<T>(&self.core, row),
        }
    }

    /// Returns the row with this number, from before this transaction or written by it.
    pub(crate) fn row<'a>(&'a self, guard: &'a EngineTransaction, row: RowId) -> Result<&'a T, ReadError> {
        if row.0 < self.view.len() { self.view.row(row) } else { guard.appended_row(&self.core, row) }
    }

    /// Returns the current row of a key that was found at `spot`.
    pub(crate) fn value<'a>(
        &'a self,
        guard: &'a EngineTransaction,
        spot: KeyLocation,
    ) -> Result<Option<&'a T>, ReadError> {
        match spot {
            KeyLocation::Modified(PendingChange { staged: Some(place), .. }) => Ok(Some(&self.staged[place])),
            _ => spot.written_row().map(|row| self.row(guard, row)).transpose(),
        }
    }

    /// Returns the location of a key. Written rows from `keys.resolved` on are ignored.
    pub(crate) fn locate(
        &self,
        guard: &EngineTransaction,
        keys: &Keys,
        hash: u64,
        key: &T::KeyBytes,
    ) -> Result<KeyLocation, ReadError> {
        if let Some(spot) = self.locate_own(guard, keys, hash, key)? {
            return Ok(spot);
        }
        let failed = RefCell::new(None);
        let has_key = |row: RowId| match self.row(guard, row) {
            Ok(row) => row.key_bytes() == *key,
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                false
            }
        };
        let applied = self.find_applied(hash, has_key)?;
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(applied.map_or(KeyLocation::Absent, KeyLocation::Committed)),
        }
    }

    /// Returns the location of a key that this transaction touched, or `None` if it did not change
    /// this key.
    #[inline]
    pub(crate) fn locate_own(
        &self,
        guard: &EngineTransaction,
        keys: &Keys,
        hash: u64,
        key: &T::KeyBytes,
    ) -> Result<Option<KeyLocation>, ReadError> {
        let failed = RefCell::new(None);
        let has_key = |row: RowId| match self.row(guard, row) {
            Ok(row) => row.key_bytes() == *key,
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                false
            }
        };
        let of_staged = |place: usize| self.staged[place].key_bytes() == *key;
        let of_written = |row| self.hash_of_written(row) == hash && has_key(row);
        let found = keys.find(hash, of_staged, of_written, has_key);
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    fn find_applied(
        &self,
        hash: u64,
        has_key: impl Fn(RowId) -> bool,
    ) -> Result<Option<PriorVersion>, ReadError> {
        let len = self.view.len();
        if len == 0 {
            return Ok(None);
        }
        let found = self.handle.index.find(hash, |candidate| {
            let row = candidate.row;
            (row.0 < len && has_key(row)).then_some(row)
        });
        match found.map_err(|error| fault(&self.core, error))? {
            Some(row) => Ok(Some(PriorVersion { row, alive: self.view.is_live(row)? })),
            None => Ok(None),
        }
    }

    fn hash_of_written(&self, row: RowId) -> u64 {
        self.hashes[(row.0 - self.view.len()) as usize]
    }

    /// Returns the number of live rows.
    pub(crate) fn live(&self, guard: &EngineTransaction) -> Result<u64, ReadError> {
        self.resolve(guard)?;
        let new = (self.hashes.len() + self.staged.len()) as u64;
        Ok(self.view.live() + new - self.keys().deleted_rows.len() as u64)
    }

    /// Compares unresolved written rows with all others one by one and records their keys for
    /// look-ups.
    pub(crate) fn resolve(&self, guard: &EngineTransaction) -> Result<(), ReadError> {
        if self.keys().resolved == self.hashes.len() as u64 {
            return Ok(());
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
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

    /// Returns the name of the field that contains the byte at `offset` of a row.
    fn field_at(&self, offset: usize) -> String {
        let fields = &self.core.schema().fields;
        fields
            .iter()
            .rfind(|field| field.offset <= offset)
            .map_or_else(String::new, |field| field.name.clone())
    }

    /// Returns an error if a `Text` or `Blob` of the row does not refer to existing bytes.
    pub(crate) fn check_heap(&self, guard: &EngineTransaction, row: &T) -> Result<(), WriteError> {
        if self.handle.heap_fields.is_empty() {
            return Ok(());
        }
        with_bytes(row, |row| self.check_heap_bytes(guard, row))
    }

    fn check_heap_bytes(&self, guard: &EngineTransaction, row: &[u8]) -> Result<(), WriteError> {
        for field in &self.handle.heap_fields {
            let bytes = &row[field.offset..field.offset + size_of::<Blob>()];
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
                .read_heap(blob.addr(), blob.len(), blob.content_hash())
                .map_err(|error| refuse(Box::new(error)))?;
            if field.text {
                core::str::from_utf8(bytes).map_err(|error| refuse(Box::new(error)))?;
            }
        }
        Ok(())
    }

    /// Returns the maximum memory in bytes of a staged row and its bookkeeping.
    fn cost(&self) -> u64 {
        /// Bytes per entry of the key table while it grows: the old table, full, and the new one,
        /// twice as large.
        const KEY: usize = 144;
        /// Bytes per entry of a unique index while it grows.
        const VALUE: usize = 60;
        (size_of::<T>() + KEY + VALUE * self.unique_values.len()) as u64
    }

    /// Inserts or replaces a row with a key that was found at `spot`. The caller has checked the
    /// row.
    pub(crate) fn put(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        row: &T,
    ) -> Result<(), WriteError> {
        if const { is_large::<T>() } {
            return self.put_large(guard, spot, hash, row);
        }
        self.put_small(guard, spot, hash, row)
    }

    /// A separate function, so that callers that do not reach it reserve no stack space for a large
    /// row.
    #[inline]
    fn put_small(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        row: &T,
    ) -> Result<(), WriteError> {
        self.put_at(guard, spot, hash, row)
    }

    // Always inlined: otherwise the key information is copied once more.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn put_at(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        row: &T,
    ) -> Result<(), WriteError> {
        if let KeyLocation::Modified(PendingChange { staged: Some(place), .. }) = spot {
            self.replace_staged(place, row);
            return Ok(());
        }
        // Before any change, since this can fail. It does not change the state of a key without a
        // staged row.
        self.spill(guard)?;
        let base = match spot {
            KeyLocation::Modified(touched) => touched.base,
            KeyLocation::Bulk(row) => Some(PriorVersion { row, alive: true }),
            KeyLocation::Committed(base) => Some(base),
            KeyLocation::Absent => None,
        };
        let place = self.staged.len();
        // First: copying a row with padding runs code of a safe trait, which may panic.
        self.push_staged(guard, row);
        let keys = self.keys_mut();
        let base = keys.mark_deleted(base);
        keys.touch(spot, PendingChange { hash, staged: Some(place), base });
        Ok(())
    }

    /// Replaces the row with the given key, which was found at `spot`, with a copy that `change` has
    /// modified. Returns the result of `change`, or `None` if the row does not exist.
    #[inline]
    pub(crate) fn update<R>(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        if const { is_large::<T>() } {
            self.update_large(guard, spot, hash, key, change)
        } else {
            self.update_small(guard, spot, hash, key, change)
        }
    }

    /// A separate function for the same reason as [`put_small`](Self::put_small).
    #[inline]
    fn update_small<R>(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        hash: u64,
        key: &T::KeyBytes,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, WriteError> {
        let Some(before) = self.value(guard, spot)? else { return Ok(None) };
        let mut row = copy(before);
        let result = self.change_copy(guard, spot, key, &mut row, change)?;
        self.put_at(guard, spot, hash, &row)?;
        Ok(Some(result))
    }

    /// Changes a copy of the row at `spot`, and checks the result: its key, texts and blobs, and
    /// unique values.
    #[inline]
    fn change_copy<R>(
        &mut self,
        guard: &EngineTransaction,
        spot: KeyLocation,
        key: &T::KeyBytes,
        row: &mut T,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, WriteError> {
        let result = change(row);
        if row.key_bytes() != *key {
            let describe = |row: &T| with_bytes(row, |row| self.core.schema().describe_key(row));
            return Err(WriteError::KeyChanged {
                table: T::SCHEMA.table.to_owned(),
                before: self.value(guard, spot)?.map_or_else(String::new, describe),
                after: describe(row),
            });
        }
        self.ensure_complete()?;
        self.check_heap(guard, row)?;
        self.check_unique(guard, spot, row)?;
        Ok(result)
    }

    /// Deletes the row at `spot`, which must exist.
    pub(crate) fn delete_found(&mut self, guard: &EngineTransaction, spot: KeyLocation, hash: u64) {
        let keys = self.keys_mut();
        match spot {
            KeyLocation::Modified(touched @ PendingChange { staged: Some(place), .. }) => {
                let now = PendingChange { staged: None, ..touched };
                if now.base.is_some() {
                    keys.touch(spot, now)
                } else {
                    keys.forget(touched)
                }
                self.take_staged(guard, place);
            }
            KeyLocation::Modified(PendingChange { base: Some(base), .. }) | KeyLocation::Committed(base) => {
                let base = keys.mark_deleted(Some(base));
                keys.touch(spot, PendingChange { hash, staged: None, base });
            }
            KeyLocation::Bulk(row) => {
                let base = keys.mark_deleted(Some(PriorVersion { row, alive: true }));
                keys.touch(spot, PendingChange { hash, staged: None, base });
            }
            KeyLocation::Modified(_) | KeyLocation::Absent => {}
        }
    }

    /// Stages a row.
    fn push_staged(&mut self, guard: &EngineTransaction, row: &T) {
        self.staged.push(row);
        guard.note_row_memory(self.cost(), 0);
        self.hold_staged(self.staged.len() - 1);
        if self.steps.enabled {
            self.steps.push(WriteSetStep::Pushed);
        }
    }

    /// Stages a row in place of another version of it.
    fn replace_staged(&mut self, place: usize, row: &T) {
        // Copying a row with padding runs code of a safe trait, which may panic: it is copied before
        // anything changes.
        let is_padded = const { T::UNPADDED.is_none() };
        if is_padded {
            self.staged.push(row);
        }
        self.drop_staged(place);
        if self.steps.enabled {
            self.steps.push(WriteSetStep::Replaced(place, copy(&self.staged[place])));
        }
        if is_padded {
            self.staged.swap_remove(place);
        } else {
            self.staged.set(place, row);
        }
        self.hold_staged(place);
        self.note_changed(place);
    }

    /// Records that another row is now at this index among the staged ones.
    fn note_changed(&mut self, place: usize) {
        let written = self.hashes.len() as u64;
        let count = written + self.staged.len() as u64;
        for order in self.orders_mut() {
            order.note_changed(written + place as u64);
            order.note_count(count);
        }
    }

    /// Removes a staged row; the last one takes its place. Not inlined, for the same reason as
    /// `unstage_to`.
    #[inline(never)]
    fn take_staged(&mut self, guard: &EngineTransaction, place: usize) {
        guard.note_row_memory(0, self.cost());
        self.drop_staged(place);
        if self.steps.enabled {
            self.steps.push(WriteSetStep::Taken(place, copy(&self.staged[place])));
        }
        self.staged.swap_remove(place);
        let last = self.staged.len();
        self.note_changed(place);
        if place < last {
            inner(&mut self.keys).move_staged(hash_of(&self.staged[place]), last, place);
            self.note_staged_moved(last, place);
        }
    }

    /// Writes the staged rows to the chunks if the transaction uses too much memory and this table
    /// has more than a few staged rows.
    fn spill(&mut self, guard: &EngineTransaction) -> Result<(), WriteError> {
        const LEAST: u64 = 1 << 20;
        let least = guard.engine().options().transaction_memory.min(LEAST);
        if self.memory() >= least && guard.is_memory_full() { self.write_staged(guard) } else { Ok(()) }
    }
}

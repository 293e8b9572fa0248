//! The path of one transaction from staged bytes to acknowledgement: first space is reserved, then
//! the bytes of rows and heap are written, then the journal entry, then the words it describes
//! (marks, index), then the sync, then publication.
//!
//! Before the entry is written every step may fail, and a failure changes nothing: bytes beyond the
//! applied length are not part of the store. After it no step may fail because space, a descriptor
//! or a map is missing: words are stored only in maps that were created before. A failure of
//! another kind poisons the store.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::apply::{advance, reserve_marks, store_marks};
use super::indexer::{Replay, TableChange, index_fault};
use super::transaction::{EngineTransaction, assert_above_published};
use super::{SCHEMA_DIR, schema_path};
use crate::error::{CommitError, StorageError, WriteError};
use crate::guard::removable;
use crate::ids::{HeapAddr, RowId, Seq, TableId};
use crate::journal::{
    COMMIT, Commit, Header, HeapPart, Journal, LONGEST, NewTable, PIECE, RowsPart, Sealing, seal,
};
use crate::schema::StoredSchema;
use crate::space::{Chunk, RunSums};
use crate::state::{MAX_TABLES, TableState};
use crate::table::{TableCore, TableView};

/// When a commit is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Once it is on disk: it survives a power cut. Commits of several threads share syncs.
    #[default]
    Sync,
    /// Once the kernel has it: it survives the end of the process, even if killed, but a power cut
    /// may lose it. A commit is never lost without all later ones.
    Relaxed,
}

/// The changes of a transaction to one table.
#[derive(Debug)]
pub struct TableWriteBatch<'a> {
    /// The table.
    pub table: Arc<TableCore>,
    /// New rows, contiguous. They follow those that were [appended](EngineTransaction::append).
    pub rows: &'a [u8],
    /// Hashes of the keys of all new rows, appended ones first, followed by the hashes of their
    /// values in each unique index, index by index.
    pub hashes: &'a [u64],
    /// Pairs of a new row and the row it replaced. New rows have the numbers that they will get.
    pub previous: Vec<(RowId, RowId)>,
    /// Rows to delete, those replaced included.
    pub deleted_rows: Vec<RowId>,
}

/// The changes of a transaction, except the heap items that it
/// [staged](EngineTransaction::stage_heap).
#[derive(Debug, Default)]
pub struct WriteBatch<'a> {
    /// Changes to tables, each table at most once.
    pub tables: Vec<TableWriteBatch<'a>>,
}

/// Size in bytes above which row or heap bytes are written to the chunks before the entry, which
/// then references them instead of containing them.
const INLINE_LIMIT: usize = 1 << 20;

/// Number of referenced bytes that count as one journal byte when deciding whether a checkpoint is
/// due.
const REFERENCED_WEIGHT: u64 = 16;

/// One table's part of a commit, with everything reserved and mapped.
struct Part<'a> {
    batch: &'a TableWriteBatch<'a>,
    first: RowId,
    /// Number of rows that are synced in the chunks before the entry.
    referenced: u64,
    /// A checksum for each block that those rows touch.
    sums: Vec<u64>,
    inline: &'a [u8],
    /// Keeps the maps of the marks that will be stored: they belong to chunks.
    _marked: Vec<Arc<Chunk>>,
    /// The table with this commit, all of it mapped.
    view: TableView,
    state: TableState,
}

/// Staged heap items, placed after the applied ones.
struct PlacedHeap<'a> {
    first: HeapAddr,
    referenced: u64,
    /// Checksums of the referenced bytes, block by block.
    sums: Vec<u64>,
    inline: Cow<'a, [u8]>,
}

impl PlacedHeap<'_> {
    fn part(&self) -> HeapPart<'_> {
        HeapPart {
            first: self.first,
            referenced: self.referenced,
            sums: self.sums.clone(),
            inline: &self.inline,
        }
    }
}

impl EngineTransaction {
    /// Creates a table for `schema` in this transaction. Its schema file and folder are durable
    /// when this returns, but the table exists only once the transaction commits.
    ///
    /// # Errors
    /// [`StorageError::Limit`] if a table of that name exists, or if the store has the maximum
    /// number of tables.
    pub fn create_table(&self, schema: StoredSchema) -> Result<Arc<TableCore>, WriteError> {
        self.ensure_not_forked()?;
        self.begin_changes()?;
        self.with_new_tables(|new| self.try_create_table(schema, new))
            .map_err(|error| self.engine.poison_if_sync_failed(error))
    }

    fn try_create_table(
        &self,
        schema: StoredSchema,
        new_tables: &mut Vec<Arc<TableCore>>,
    ) -> Result<Arc<TableCore>, WriteError> {
        let engine = &self.engine;
        if self.table_among(new_tables, &schema.table)?.is_some() {
            return Err(
                StorageError::Limit { what: format!("a second table `{}`", schema.table), limit: 1 }.into()
            );
        }
        let storage = &*engine.storage;
        let count = self.applied().tables.len() + new_tables.len();
        if count >= MAX_TABLES {
            return Err(StorageError::Limit {
                what: format!(
                    "table {} is one too many for a store: put some tables into another store",
                    schema.table
                ),
                limit: MAX_TABLES as u64,
            }
            .into());
        }
        let id = TableId(count as u32);
        let path = schema_path(id, 1);
        // The layout comes from a safe trait, and a store with a schema file that cannot be read
        // cannot be opened.
        let text = schema.to_text();
        StoredSchema::parse(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
            .map_err(StorageError::io("describing the rows of", schema.table.as_str()))?;
        let temporary = format!("{path}.new");
        let _ = storage.remove(&temporary);
        let write = || {
            let file = storage.create(&temporary)?;
            file.write_at(text.as_bytes(), 0)?;
            Ok(file)
        };
        let file = write().map_err(StorageError::io("writing", temporary.as_str()))?;
        removable!("schema.sync", file.sync())
            .map_err(StorageError::io(StorageError::SYNCING, temporary.as_str()))?;
        storage.rename(&temporary, &path).map_err(StorageError::io("renaming", temporary.as_str()))?;
        removable!("schema.folder", storage.sync_dir(SCHEMA_DIR))
            .map_err(StorageError::io("syncing", SCHEMA_DIR))?;
        let dir = format!("tables/{}", schema.table);
        storage.create_dir(&dir).map_err(StorageError::io("making", dir.as_str()))?;
        removable!("table.folder", storage.sync_dir("tables"))
            .map_err(StorageError::io("syncing", "tables"))?;
        // A copy of a store without tables may lack the folders `schema` and `tables`; the process
        // that opened it created them again, perhaps without durable names.
        removable!("table.folder.above", storage.sync_dir(""))
            .map_err(StorageError::io(StorageError::SYNCING, "the store's folder"))?;
        let table = engine.table_core(id, schema)?;
        // A folder of that name may contain chunks of a transaction that never committed, and marks
        // that delete rows which do not exist. If they reappeared after a power cut, they would be
        // reported as corruption in marks of this table.
        table.space.clear()?;
        // Also if nothing was left to remove: the process that removed the files may have been
        // killed before its sync.
        removable!("table.clear.folder", table.space.sync_dir())?;
        engine.indexer.create(&table).map_err(index_fault(&table))?;
        new_tables.push(Arc::clone(&table));
        Ok(table)
    }

    /// Writes rows to the chunks beyond the applied length. They become part of this transaction,
    /// whose entry will reference them.
    ///
    /// # Errors
    /// [`WriteError::Storage`] if they cannot be written; [`WriteError::IncompleteChange`] if
    /// another thread appends to the table, or if rows that were allocated to be filled in place
    /// were leaked.
    pub fn append(&self, table: &Arc<TableCore>, rows: &[u8]) -> Result<(), WriteError> {
        let size = table.row_size();
        assert!((rows.len() as u64).is_multiple_of(size), "whole rows");
        self.engine.assert_own(table);
        self.ensure_not_forked()?;
        self.begin_changes()?;
        let entry = self.entry(table);
        let appending = entry.begin_append()?;
        let len = self.table_state(table.id()).len;
        let from = (len + entry.appended()) * size;
        let to = from + rows.len() as u64;
        assert_above_published(&self.engine, table.id(), len);
        entry.is_reserved.store(true, Ordering::Relaxed);
        table.space.reserve_to(to)?;
        entry.read_cut()?;
        table.space.write_at(from, rows)?;
        table.space.start_writeback(&(from..to));
        appending.note(rows);
        Ok(())
    }

    /// Commits the transaction. When this returns `Ok`, the transaction is published, and durable
    /// as requested.
    pub fn commit(
        mut self: Box<Self>,
        batch: &WriteBatch<'_>,
        durability: Durability,
    ) -> Result<Seq, CommitError> {
        let engine = Arc::clone(&self.engine);
        self.ensure_not_forked()?;
        batch.tables.iter().for_each(|part| engine.assert_own(&part.table));
        engine.ensure_not_poisoned()?;
        if batch.tables.is_empty() && self.heap.len() == 0 && self.new_table_count() == 0 {
            // What the transaction read may still wait for its sync, and is lost if that fails.
            let seq = self.applied().seq;
            drop(self);
            let waited = engine.pipeline.wait(seq);
            return waited.map(|()| seq).map_err(|reason| WriteError::Poisoned { reason }.into());
        }
        self.begin_changes()?;
        debug_assert!(
            batch
                .tables
                .iter()
                .enumerate()
                .all(|(i, a)| batch.tables[..i].iter().all(|b| !Arc::ptr_eq(&a.table, &b.table))),
            "a table stands once in a batch"
        );
        let seq = self.applied().seq.next();
        let parts = self.reserve_space(batch, seq).map_err(|error| engine.poison_if_sync_failed(error))?;
        let heap = self.place_heap().map_err(|error| engine.poison_if_sync_failed(error))?;
        let heap_len = self.heap.len();

        let entry = Commit {
            new_tables: self.with_new_tables(|new_tables| {
                let new =
                    |table: &Arc<TableCore>| NewTable { table: table.id(), fingerprint: table.fingerprint() };
                new_tables.iter().map(new).collect()
            }),
            rows: parts
                .iter()
                .map(|part| RowsPart {
                    table: part.batch.table.id(),
                    row_size: part.batch.table.row_size(),
                    first: part.first,
                    referenced: part.referenced,
                    sums: part.sums.clone(),
                    inline: part.inline,
                    previous: Cow::Borrowed(&part.batch.previous),
                    deleted_rows: Cow::Borrowed(&part.batch.deleted_rows),
                })
                .collect(),
            heap: (heap_len > 0).then(|| heap.part()),
        };
        if entry.len() > LONGEST {
            return Err(StorageError::Limit {
                what: format!(
                    "a transaction whose journal entry takes {} bytes replaces or deletes too many rows",
                    entry.len()
                ),
                limit: LONGEST,
            }
            .into());
        }
        self.append_entry(&entry, seq)?;
        drop(entry);

        // The point of no return: the entry is in the journal, and a successor would roll it
        // forward.
        if let Err(fault) = self.apply(&parts, &heap.part(), heap_len, seq) {
            let reason = format!("applying a commit failed: {fault}");
            engine.poison(&reason);
            return Err(CommitError::OutcomeUnknown { reason });
        }
        drop(parts);
        let writer = self.writer_mut();
        let state = Arc::make_mut(&mut writer.state);
        state.seq = seq;
        state.segment = writer.journal.segment_number();
        state.journal_end = writer.journal.end();
        let (state, file) = (Arc::clone(&writer.state), writer.journal.file());
        // Reserved space that was not used, and rows of a table that the batch does not contain:
        // their chunks have no permanent names, and another process will create chunks in their
        // place.
        for entry in self.entries().filter(|entry| entry.is_reserved.load(Ordering::Relaxed)) {
            entry.table.space.forget_pending();
        }
        engine.pipeline.push(state, durability == Durability::Relaxed, file);
        self.settled = true;
        let result = self.checkpoint_if_due();
        drop(self);
        let waited = engine.pipeline.wait(seq);
        engine.release_if_idle();
        if let Err(reason) = waited {
            return Err(CommitError::OutcomeUnknown { reason });
        }
        // A failed checkpoint says nothing about this commit. If it poisoned the store, the next
        // commit returns that error.
        let _ = result;
        Ok(seq)
    }

    /// Reserves everything that the commit needs.
    ///
    /// First comes space: chunks, marks and index. Then the rows are written after everything that
    /// is applied, the chunks get their permanent names, and referenced rows are synced. Then
    /// everything that is needed after the entry is mapped and verified.
    fn reserve_space<'a>(&self, batch: &'a WriteBatch<'a>, seq: Seq) -> Result<Vec<Part<'a>>, WriteError> {
        let mut parts = Vec::with_capacity(batch.tables.len());
        self.engine.control.make_writable()?;
        for table_batch in &batch.tables {
            let table = &table_batch.table;
            let size = table.row_size();
            let mut state = self.table_state(table.id());
            let first = RowId(state.len);
            let appended = self.appended_rows(table);
            let staged = table_batch.rows.len() as u64 / size;
            let end = (first.0 + appended + staged) * size;
            assert_above_published(&self.engine, table.id(), first.0);
            table.space.reserve_to(end)?;
            let marked = reserve_marks(table, &table_batch.previous, &table_batch.deleted_rows)?;
            let view = self.view(table).map_err(WriteError::from)?;
            if !table_batch.hashes.is_empty() || !table_batch.deleted_rows.is_empty() {
                // Splitting an index hashes rows, and cannot report that no descriptor was
                // available.
                view.prepare_to_look()?;
            }
            let reserved = self.engine.indexer.reserve(view, table_batch.hashes, &table_batch.deleted_rows);
            reserved.map_err(index_fault(table))?;
            let mut sums = self.appended_sums(table)?;
            // Inline rows too: after the entry an error can no longer be returned, and the bytes
            // are beyond every length.
            table.space.write_at((first.0 + appended) * size, table_batch.rows)?;
            let (referenced, inline) = if table_batch.rows.len() > INLINE_LIMIT {
                sums.add(table_batch.rows);
                (appended + staged, &[][..])
            } else {
                (appended, table_batch.rows)
            };
            table.space.publish_names()?;
            if referenced > 0 {
                removable!(
                    "cited.rows.sync",
                    table.space.sync(&(first.0 * size..(first.0 + referenced) * size))
                )?;
            }
            advance(&mut state, appended + staged, table_batch.deleted_rows.len() as u64);
            let view = table.at(state, seq)?;
            // Indexes read deleted rows, and unique indexes also read older versions and other rows
            // that may have the value. The first read of a block reads its checksum from a file.
            for &row in &table_batch.deleted_rows {
                view.row_bytes(row)?;
            }
            if view.live() != view.len() && table.schema().uniques().next().is_some() {
                view.prepare_to_look()?;
                view.load_marks()?;
            }
            let sums = sums.sums();
            parts.push(Part {
                batch: table_batch,
                first,
                referenced,
                sums,
                inline,
                _marked: marked,
                view,
                state,
            });
        }
        Ok(parts)
    }

    /// Writes the staged heap items to the chunks, and returns which of their bytes the entry
    /// references and which it contains. Referenced bytes are synced.
    fn place_heap(&self) -> Result<PlacedHeap<'_>, WriteError> {
        let first = self.heap_len();
        let heap = &self.engine.heap;
        let end = first + self.heap.len();
        heap.reserve_to(end)?;
        heap.publish_names()?;
        let first = HeapAddr(first);
        let sums = match self.heap.spilled_sums(heap)? {
            Some(sums) => sums,
            None => {
                // Inline items too are written before the entry, as rows are.
                let mut at = first.0;
                for piece in self.heap.memory() {
                    heap.write_at(at, piece)?;
                    at += piece.len() as u64;
                }
                if self.heap.len() <= INLINE_LIMIT as u64 {
                    return Ok(PlacedHeap {
                        first,
                        referenced: 0,
                        sums: Vec::new(),
                        inline: self.heap.in_one(),
                    });
                }
                let mut sums = RunSums::new(first.0);
                self.heap.memory().for_each(|piece| sums.add(piece));
                sums.sums()
            }
        };
        removable!("cited.heap.sync", heap.sync(&(first.0..end)))?;
        Ok(PlacedHeap { first, referenced: end - first.0, sums, inline: Cow::Borrowed(&[]) })
    }

    fn append_entry(&self, entry: &Commit<'_>, seq: Seq) -> Result<(), CommitError> {
        let engine = &self.engine;
        let durable = engine.pipeline.durable();
        let len = entry.len();
        self.with_writer(|writer| {
            engine.roll_if_needed(writer, len).map_err(|error| engine.poison_if_sync_failed(error))?;
            writer.journal.prepare(len).map_err(WriteError::from)?;
            let durable = durable.max(engine.pipeline.durable());
            let journal = &mut writer.journal;
            debug_assert!(durable <= journal.end(), "no more is durable than was written");
            // From here on the entry may be in the journal, so what it refers to must stay.
            self.committed.store(true, Ordering::Relaxed);
            let written = if len <= PIECE as u64 {
                let mut entry = entry.encode();
                seal(&mut entry, COMMIT, journal.salt, journal.end(), durable, seq);
                journal.append(&entry)
            } else {
                let (salt, pos) = (journal.salt, journal.end());
                let header = Header { len, kind: COMMIT, salt, pos, durable, seq, checksum: 0 };
                append_in_pieces(journal, entry, header)
            };
            written.map_err(|fault| {
                // Part of it may be in the file, and a successor must not mistake what follows for
                // a tail.
                let reason = format!("writing the journal failed: {fault}");
                engine.poison(&reason);
                CommitError::OutcomeUnknown { reason }
            })
        })
    }

    fn apply(
        &self,
        parts: &[Part<'_>],
        heap: &HeapPart<'_>,
        heap_len: u64,
        seq: Seq,
    ) -> Result<(), StorageError> {
        let engine = &self.engine;
        let new_tables = self.with_new_tables(std::mem::take);
        self.with_writer(|writer| {
            let state = Arc::make_mut(&mut writer.state);
            if !new_tables.is_empty() {
                state.tables.resize(state.tables.len() + new_tables.len(), TableState::default());
                engine.adopt_tables(new_tables);
            }
            state.heap.len += heap_len;
            writer.block_sums.note(None, heap.referenced_bytes(), &heap.sums);
            for part in parts {
                let table = &part.batch.table;
                let size = table.row_size();
                let referenced = part.first.0 * size..(part.first.0 + part.referenced) * size;
                writer.block_sums.note(Some(table.id()), referenced, &part.sums);
                store_marks(
                    table,
                    &part.batch.previous,
                    &part.batch.deleted_rows,
                    seq,
                    &mut writer.dirty_marks,
                )?;
                let change = TableChange {
                    table,
                    view: part.view.clone(),
                    rows: part.first..RowId(part.state.len),
                    hashes: part.batch.hashes,
                    previous: &part.batch.previous,
                    deleted_rows: &part.batch.deleted_rows,
                };
                engine.indexer.apply(&change, Replay::First).map_err(index_fault(table))?;
                state.tables[table.id().0 as usize] = part.state;
            }
            Ok(())
        })
    }

    fn checkpoint_if_due(&mut self) -> Result<(), WriteError> {
        let engine = Arc::clone(&self.engine);
        engine.storage.check_maps();
        let writer = self.writer_mut();
        let journal = writer.journal.end().0.saturating_sub(engine.control.checkpoint().0);
        // A recovery reads referenced bytes too, but faster, since it only compares checksums.
        let written = journal.saturating_add(writer.block_sums.referenced() / REFERENCED_WEIGHT);
        // Also due if unsynced data keeps more maps than the limit.
        if written >= engine.options.checkpoint_bytes || engine.storage.take_crowded() {
            engine.checkpoint(writer, false)?;
        }
        Ok(())
    }
}

/// Writes an entry that is too long to be held in memory.
fn append_in_pieces(journal: &mut Journal, entry: &Commit<'_>, header: Header) -> Result<(), StorageError> {
    let len = header.len;
    let mut sealing = Sealing::new(header);
    entry.encode_in_pieces(|piece| {
        sealing.add(piece);
        Ok::<(), StorageError>(())
    })?;
    let mut header = Some(sealing.header());
    journal.append_in_pieces(len, |write| {
        entry.encode_in_pieces(|piece| {
            if let Some(header) = header.take() {
                piece[..header.len()].copy_from_slice(&header);
            }
            write(piece)
        })
    })
}

//! Applying a journal entry: the stores that recovery, take-over and commit have in common. They
//! read no index and do not depend on old values: repeating them produces the same bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Engine;
use super::block_sums::BlockSums;
use crate::error::StorageError;
use crate::guard::{fails, holds};
use crate::ids::{RowId, Seq};
use crate::journal::{Commit, Found, HeapPart, RowsPart};
use crate::marks::DirtyMarks;
use crate::space::Chunk;
use crate::state::{MAX_TABLES, StoreState, TableState};
use crate::superblock::REFERENCED_SUMS;
use crate::table::TableCore;

/// Reserves space for every mark that a commit will store. The chunks must exist. Returns the
/// chunks whose marks will be stored: while the caller holds a chunk, its marks stay mapped.
pub(crate) fn reserve_marks(
    table: &TableCore,
    previous: &[(RowId, RowId)],
    deleted_rows: &[RowId],
) -> Result<Vec<Arc<Chunk>>, StorageError> {
    let mut done = BTreeSet::new();
    let mut marked: Vec<Arc<Chunk>> = Vec::new();
    let mut reserve = |row: RowId, deleted_at: bool| {
        let chunk = table.marked_chunk(row)?;
        let Some(marks) = chunk.marks.get() else { return Ok(()) };
        let (died_page, previous_page) = marks.pages(row);
        let page = if deleted_at { died_page } else { previous_page };
        if done.insert((chunk.id, page)) {
            marks.allocate(&**table.storage(), row, deleted_at, !deleted_at)?;
            marked.push(Arc::clone(&chunk));
        }
        Ok::<(), StorageError>(())
    };
    for &(row, _) in previous {
        reserve(row, false)?;
    }
    for &row in deleted_rows {
        reserve(row, true)?;
    }
    Ok(marked)
}

/// Stores the marks of a commit, and records which chunks' marks changed.
pub(crate) fn store_marks(
    table: &TableCore,
    previous: &[(RowId, RowId)],
    deleted_rows: &[RowId],
    seq: Seq,
    dirty: &mut DirtyMarks,
) -> Result<(), StorageError> {
    for &(row, before) in previous {
        let chunk = table.marked_chunk(row)?;
        if let Some(marks) = chunk.marks.get() {
            marks.set_previous(row, before);
        }
        dirty.entry((table.id(), chunk.id)).or_default().previous += 1;
    }
    for &row in deleted_rows {
        let chunk = table.marked_chunk(row)?;
        if let Some(marks) = chunk.marks.get() {
            marks.set_deleted_at(row, seq);
        }
        dirty.entry((table.id(), chunk.id)).or_default().deleted_rows += 1;
    }
    Ok(())
}

/// Adds the rows and deletions of a commit to a table's state.
pub(crate) fn advance(state: &mut TableState, added: u64, deleted_rows: u64) {
    state.len += added;
    state.live = (state.live + added).saturating_sub(deleted_rows);
}

impl Engine {
    /// Applies a commit that was found in the journal to the chunks, the marks and `state`.
    /// Referenced bytes are compared with their checksums, which the entry has if the store's
    /// `format` includes them. The caller updates the index.
    pub(crate) fn replay(
        &self,
        found: &Found,
        state: &mut StoreState,
        dirty: &mut DirtyMarks,
        block_sums: &mut BlockSums,
        format: u32,
    ) -> Result<(), StorageError> {
        let nonsense = |what: &str| {
            StorageError::corrupt(
                format!("journal/{}.log", found.segment),
                found.header.pos.0,
                "a commit that fits the store",
                format!("an entry with a right checksum, but {what}"),
            )
        };
        if fails!("replay.seq", found.header.seq != state.seq.next()) {
            return Err(nonsense(&format!("Seq {} after Seq {}", found.header.seq, state.seq)));
        }
        let commit = Commit::decode(&found.bytes).ok_or_else(|| nonsense("sections that do not decode"))?;
        for new in &commit.new_tables {
            if new.table.0 as usize != state.tables.len() || state.tables.len() >= MAX_TABLES {
                return Err(nonsense("a table out of turn"));
            }
            state.tables.push(TableState::default());
            self.load_tables(state.tables.len())?;
            let has_it = |table: Arc<TableCore>| {
                holds!("replay.schema.fingerprint", table.fingerprint() == new.fingerprint)
            };
            if !self.table(new.table).is_some_and(has_it) {
                return Err(nonsense("a table whose schema file says another layout"));
            }
        }
        let has_sums =
            |referenced: u64, sums: &[u64]| format < REFERENCED_SUMS || referenced == 0 || !sums.is_empty();
        if !commit.rows.iter().all(|part| has_sums(part.referenced, &part.sums))
            || !commit.heap.as_ref().is_none_or(|part| has_sums(part.referenced, &part.sums))
        {
            return Err(nonsense("bytes that it references without their checksums"));
        }
        if let Some(heap) = &commit.heap {
            block_sums.note(None, heap.referenced_bytes(), &heap.sums);
            self.replay_heap(heap, state)
                .map_err(|fault| fault.unwrap_or_else(|| nonsense("heap bytes out of turn")))?;
        }
        for part in &commit.rows {
            let known = state.tables.get(part.table.0 as usize).copied();
            let table = self.table(part.table).filter(|_| known.is_some());
            let (Some(table), Some(known)) = (table, known) else { return Err(nonsense("rows of no table")) };
            if part.row_size != table.row_size() || part.first.0 != known.len {
                return Err(nonsense("rows out of turn"));
            }
            let end = part.first.0 + part.count();
            let fits = |&(row, before): &(RowId, RowId)| row.0 < end && row >= part.first && before < row;
            if !part.previous.iter().all(fits) || part.deleted_rows.iter().any(|row| row.0 >= end) {
                return Err(nonsense("marks of rows that do not exist"));
            }
            block_sums.note(Some(part.table), part.referenced_bytes(), &part.sums);
            self.replay_rows(&table, part, found.header.seq, dirty)?;
            advance(&mut state.tables[part.table.0 as usize], part.count(), part.deleted_rows.len() as u64);
        }
        state.seq = found.header.seq;
        state.segment = found.segment;
        state.journal_end = crate::ids::JournalPos(found.header.pos.0 + found.header.len);
        Ok(())
    }

    fn replay_rows(
        &self,
        table: &Arc<TableCore>,
        part: &RowsPart<'_>,
        seq: Seq,
        dirty: &mut DirtyMarks,
    ) -> Result<(), StorageError> {
        let size = part.row_size;
        let end = (part.first.0 + part.count()) * size;
        if !table.space.reaches(end)? {
            return Err(StorageError::corrupt(
                table.space.dir(),
                end,
                "the chunk that a commit wrote to",
                "no such file",
            ));
        }
        if !part.sums.is_empty() {
            table.space.compare_run(&part.referenced_bytes(), &part.sums)?;
        }
        table.space.write_at(part.referenced_bytes().end, part.inline)?;
        let _marked = reserve_marks(table, &part.previous, &part.deleted_rows)?;
        store_marks(table, &part.previous, &part.deleted_rows, seq, dirty)
    }

    fn replay_heap(&self, part: &HeapPart<'_>, state: &mut StoreState) -> Result<(), Option<StorageError>> {
        let end = part
            .first
            .0
            .checked_add(part.referenced)
            .and_then(|end| end.checked_add(part.inline.len() as u64));
        let Some(end) = end.filter(|_| part.first.0 == state.heap.len) else { return Err(None) };
        if !self.heap.reaches(end).map_err(Some)? {
            return Err(None);
        }
        if !part.sums.is_empty() {
            self.heap.compare_run(&part.referenced_bytes(), &part.sums).map_err(Some)?;
        }
        self.heap.write_at(part.referenced_bytes().end, part.inline).map_err(Some)?;
        state.heap.len = end;
        Ok(())
    }
}

//! Applying a journal entry: the stores that recovery, take-over and commit have in common. They
//! read no index and do not depend on old values: repeating them produces the same bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Engine;
use super::block_sums::BlockSums;
use crate::error::Fault;
use crate::guard::{fails, holds};
use crate::ids::{RowId, Seq};
use crate::journal::{Commit, Found, HeapPart, RowsPart};
use crate::marks::DirtyMarks;
use crate::space::Chunk;
use crate::state::{MAX_TABLES, State, TableState};
use crate::superblock::CITED_SUMS;
use crate::table::TableCore;

/// Reserves space for every mark that a commit will store. The chunks must exist. Returns the
/// chunks whose marks will be stored: while the caller holds a chunk, its marks stay mapped.
pub(crate) fn reserve_marks(
    table: &TableCore,
    previous: &[(RowId, RowId)],
    deaths: &[RowId],
) -> Result<Vec<Arc<Chunk>>, Fault> {
    let mut done = BTreeSet::new();
    let mut marked: Vec<Arc<Chunk>> = Vec::new();
    let mut reserve = |row: RowId, died: bool| {
        let chunk = table.marked_chunk(row)?;
        let Some(marks) = chunk.marks.get() else { return Ok(()) };
        let (died_page, previous_page) = marks.pages(row);
        let page = if died { died_page } else { previous_page };
        if done.insert((chunk.id, page)) {
            marks.allocate(&**table.storage(), row, died, !died)?;
            marked.push(Arc::clone(&chunk));
        }
        Ok::<(), Fault>(())
    };
    for &(row, _) in previous {
        reserve(row, false)?;
    }
    for &row in deaths {
        reserve(row, true)?;
    }
    Ok(marked)
}

/// Stores the marks of a commit, and records which chunks' marks changed.
pub(crate) fn store_marks(
    table: &TableCore,
    previous: &[(RowId, RowId)],
    deaths: &[RowId],
    seq: Seq,
    dirty: &mut DirtyMarks,
) -> Result<(), Fault> {
    for &(row, before) in previous {
        let chunk = table.marked_chunk(row)?;
        if let Some(marks) = chunk.marks.get() {
            marks.set_previous(row, before);
        }
        dirty.entry((table.id(), chunk.id)).or_default().previous += 1;
    }
    for &row in deaths {
        let chunk = table.marked_chunk(row)?;
        if let Some(marks) = chunk.marks.get() {
            marks.set_died(row, seq);
        }
        dirty.entry((table.id(), chunk.id)).or_default().deaths += 1;
    }
    Ok(())
}

/// Adds the rows and deletions of a commit to a table's state.
pub(crate) fn advance(state: &mut TableState, added: u64, deaths: u64) {
    state.len += added;
    state.live = (state.live + added).saturating_sub(deaths);
}

impl Engine {
    /// Applies a commit that was found in the journal to the chunks, the marks and `state`.
    /// Referenced bytes are compared with their checksums, which the entry has if the store's
    /// `format` includes them. The caller updates the index.
    pub(crate) fn replay(
        &self,
        found: &Found,
        state: &mut State,
        dirty: &mut DirtyMarks,
        block_sums: &mut BlockSums,
        format: u32,
    ) -> Result<(), Fault> {
        let nonsense = |what: &str| {
            Fault::corrupt(
                format!("journal/{}.log", found.segment),
                found.header.pos.0,
                "a commit that fits the store",
                format!("an entry with a right checksum, but {what}"),
            )
        };
        if fails!("replay.seq", found.header.seq != state.seq.next()) {
            return Err(nonsense(&format!("Seq {} behind Seq {}", found.header.seq, state.seq)));
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
        let has_sums = |cited: u64, sums: &[u64]| format < CITED_SUMS || cited == 0 || !sums.is_empty();
        if !commit.rows.iter().all(|part| has_sums(part.cited, &part.sums))
            || !commit.heap.as_ref().is_none_or(|part| has_sums(part.cited, &part.sums))
        {
            return Err(nonsense("bytes that it cites without their checksums"));
        }
        if let Some(heap) = &commit.heap {
            block_sums.note(None, heap.cited_bytes(), &heap.sums);
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
            if !part.previous.iter().all(fits) || part.deaths.iter().any(|row| row.0 >= end) {
                return Err(nonsense("marks of rows that do not exist"));
            }
            block_sums.note(Some(part.table), part.cited_bytes(), &part.sums);
            self.replay_rows(&table, part, found.header.seq, dirty)?;
            advance(&mut state.tables[part.table.0 as usize], part.count(), part.deaths.len() as u64);
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
    ) -> Result<(), Fault> {
        let size = part.row_size;
        let end = (part.first.0 + part.count()) * size;
        if !table.space.reaches(end)? {
            return Err(Fault::corrupt(
                table.space.dir(),
                end,
                "the chunk that a commit wrote to",
                "no such file",
            ));
        }
        if !part.sums.is_empty() {
            table.space.compare_run(&part.cited_bytes(), &part.sums)?;
        }
        table.space.write_at(part.cited_bytes().end, part.carried)?;
        let _marked = reserve_marks(table, &part.previous, &part.deaths)?;
        store_marks(table, &part.previous, &part.deaths, seq, dirty)
    }

    fn replay_heap(&self, part: &HeapPart<'_>, state: &mut State) -> Result<(), Option<Fault>> {
        let end =
            part.first.0.checked_add(part.cited).and_then(|end| end.checked_add(part.carried.len() as u64));
        let Some(end) = end.filter(|_| part.first.0 == state.heap.len) else { return Err(None) };
        if !self.heap.reaches(end).map_err(Some)? {
            return Err(None);
        }
        if !part.sums.is_empty() {
            self.heap.compare_run(&part.cited_bytes(), &part.sums).map_err(Some)?;
        }
        self.heap.write_at(part.cited_bytes().end, part.carried).map_err(Some)?;
        state.heap.len = end;
        Ok(())
    }
}

//! A checkpoint: everything up to a `Seq` is on disk in chunks and marks, and the super file points
//! to a journal entry that says so. Recovery replays from there.
//!
//! Order: the pipeline is drained; block checksums are written; chunks and marks are synced; the
//! entry is written and synced; the super slot is written and synced; only then are older segments
//! reused.

use std::sync::Arc;

use super::Engine;
use super::gate::WriterState;
use crate::codec::checksum;
use crate::error::{StorageError, WriteError};
use crate::guard::{holds, removable};
use crate::ids::{ChunkId, Salt};
use crate::journal::{
    CHECKPOINT, COMMIT, Checkpoint, CheckpointHeap, CheckpointTable, Commit, Scanner, seal,
};
use crate::mark_checksums::{CheckpointBound, no_marks};
use crate::space::{BLOCK, Space};
use crate::state::StoreState;
use crate::storage::PAGE;
use crate::superblock::{FORMAT_VERSION, Slot};

impl Engine {
    /// Writes a checkpoint of everything applied. If `clean` is set, the index is synced too, and
    /// no other work follows.
    pub(crate) fn checkpoint(&self, writer: &mut WriterState, clean: bool) -> Result<(), WriteError> {
        self.drain()?;
        let salt = writer.journal.salt;
        if clean {
            // Marks that are first read below may be later than the known checkpoint; they are no
            // corruption.
            for table in self.tables_to(writer.state.tables.len())? {
                table.accept_later_marks();
                // Indexes are opened here too: opened later, they would be compared with checksums
                // that do not exist yet. Other errors of an index are left for its sync to report.
                if let Err(fault) =
                    self.indexer.verify_checksum(&table).map_err(super::indexer::index_fault(&table))
                    && fault.is_exhausted()
                {
                    return Err(fault.into());
                }
            }
            // Before the super file says so: the next writer must undo it, even if this process is
            // killed in between.
            self.control.set_clean(true);
        }
        self.write_checkpoint(writer, clean, salt).map_err(|fault| {
            // If space, a descriptor or a map is missing, nothing is lost, and the next commit
            // retries.
            if !fault.is_full() && !fault.is_exhausted() {
                self.poison(&format!("a checkpoint failed: {fault}"));
            }
            if clean {
                // The store does not count as closed cleanly: the next writer retries, and a
                // process that joins compares no index with a checksum that was not written.
                self.control.set_clean(false);
            }
            WriteError::Storage(fault)
        })?;
        self.control.set_clean(clean);
        // A process that takes over starts in the published segment, so the segment is recycled
        // only after this.
        self.control.publish(&writer.state);
        debug_assert_eq!(
            writer.superblock.segment(),
            writer.state.segment,
            "what the super file names stays"
        );
        writer.journal.retire_before(writer.state.segment);
        Ok(())
    }

    /// Does the work of a checkpoint. Also used by recovery, with the next salt.
    pub(crate) fn write_checkpoint(
        &self,
        writer: &mut WriterState,
        clean: bool,
        salt: Salt,
    ) -> Result<(), StorageError> {
        let entry = self.checkpoint_spaces(writer, clean, salt)?;
        let mut entry = entry.encode();
        if salt != writer.journal.salt || !writer.journal.fits(entry.len() as u64) {
            // A recovery creates a small segment: it may be running because the disk is full.
            let grow = salt == writer.journal.salt;
            writer.journal.salt = salt;
            writer.journal.roll(entry.len() as u64, grow)?;
            self.pipeline.note_durable(writer.journal.end());
        }
        let (pos, segment) = (writer.journal.end(), writer.journal.segment_number());
        // Not `pos`: relaxed commits before it may be only in the kernel.
        let sum = seal(&mut entry, CHECKPOINT, salt, pos, self.pipeline.durable(), writer.state.seq);
        writer.journal.append(&entry)?;
        removable!("checkpoint.journal.sync", writer.journal.file().sync())
            .map_err(StorageError::io("syncing", format!("journal/{segment}.log")))?;
        writer.superblock.advance(Slot {
            format: FORMAT_VERSION,
            store: self.store,
            generation: 0,
            salt,
            segment,
            checkpoint: pos,
            checkpoint_checksum: sum,
        })?;
        let end = writer.journal.end();
        self.pipeline.note_durable(end);
        self.control.note_durable(end);
        self.control.set_checkpoint(end);
        self.control.set_dirty_by_other_process(false);
        let state = Arc::make_mut(&mut writer.state);
        state.segment = segment;
        state.journal_end = end;
        writer.checkpoint = Arc::clone(&writer.state);
        writer.dirty_marks.clear();
        writer.block_sums.clear();
        Ok(())
    }

    /// Sums and syncs all chunks and marks that changed since the last checkpoint.
    ///
    /// Reads the allocated pages of every marks file that changed.
    fn checkpoint_spaces(
        &self,
        writer: &mut WriterState,
        clean: bool,
        salt: Salt,
    ) -> Result<Checkpoint, StorageError> {
        let mut checkpoint = Checkpoint { clean, ..Checkpoint::default() };
        let foreign = self.control.is_dirty_by_other_process();
        if foreign && salt == writer.journal.salt {
            self.collect_block_sums(writer)?;
        }
        let known = &writer.block_sums;
        let tables = self.tables_to(writer.state.tables.len())?;
        let seq = writer.state.seq;
        let state = Arc::make_mut(&mut writer.state);
        for (table, now) in tables.iter().zip(&mut state.tables) {
            let size = table.row_size();
            let before = writer.checkpoint.tables.get(table.id().0 as usize).copied().unwrap_or_default();
            let end = now.len * size;
            let known = |block| known.get(Some(table.id()), block);
            let tail_sum = checkpoint_space(&table.space, before.len * size, end, &mut now.summed, known)?;
            let bound = CheckpointBound { seq, len: now.len };
            let of_table = (table.id(), ChunkId(0))..=(table.id(), ChunkId(u64::MAX));
            let settled = if foreign {
                writer.marks_sums.retain(|(id, _), _| *id != table.id());
                table.checkpoint_marks(bound)?
            } else {
                let dirty = writer.dirty_marks.range(of_table.clone()).map(|(&(_, chunk), _)| chunk);
                table.checkpoint_marks_of(dirty, bound)?
            };
            writer.marks_sums.extend(settled.iter().map(|&(chunk, sum)| ((table.id(), chunk), sum)));
            if clean {
                // Also if the disk is full: what the index should have written may be lost, and no
                // later sync will report it.
                removable!("checkpoint.index.sync", self.indexer.sync(table)).map_err(|error| {
                    let index = format!("the index of table {}", table.schema().table);
                    StorageError::io(StorageError::SYNCING, index)(std::io::Error::other(error))
                })?;
            }
            checkpoint.tables.push(CheckpointTable {
                state: *now,
                fingerprint: table.fingerprint(),
                tail_sum,
                marks: writer
                    .marks_sums
                    .range(of_table)
                    .map(|(&(_, chunk), &sum)| (chunk, sum))
                    .filter(|&(_, sum)| sum != no_marks())
                    .collect(),
            });
        }
        let heap = &mut state.heap;
        let known = |block| known.get(None, block);
        let before = writer.checkpoint.heap.len;
        let tail_sum = checkpoint_space(&self.heap, before, heap.len, &mut heap.summed, known)?;
        checkpoint.heap = CheckpointHeap { state: *heap, tail_sum };
        Ok(checkpoint)
    }

    /// Reads the checksums of blocks that entries of other processes reference, from the newest
    /// checkpoint on. They describe the bytes as they were written, whatever they are now.
    fn collect_block_sums(&self, writer: &mut WriterState) -> Result<(), StorageError> {
        let slot = writer.superblock.newest();
        let scanner = Scanner::begin(&self.storage, self.store, slot.salt, slot.segment, slot.checkpoint)?;
        let mut scanner = scanner.behind_published();
        while let Some(found) = scanner.next()? {
            let Some(commit) = Commit::decode(&found.bytes).filter(|_| found.header.kind == COMMIT) else {
                continue;
            };
            for part in &commit.rows {
                writer.block_sums.note(Some(part.table), part.referenced_bytes(), &part.sums);
            }
            if let Some(heap) = &commit.heap {
                writer.block_sums.note(None, heap.referenced_bytes(), &heap.sums);
            }
        }
        Ok(())
    }

    /// Checks the bytes after the last summed block of each space against the checkpoint that
    /// records their checksum.
    pub(crate) fn check_tails(&self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        let tables = self.tables_to(checkpoint.tables.len())?;
        for (table, stored) in tables.iter().zip(&checkpoint.tables) {
            check_tail(
                &table.space,
                stored.state.summed,
                stored.state.len * table.row_size(),
                stored.tail_sum,
            )?;
        }
        let heap = &checkpoint.heap;
        check_tail(&self.heap, heap.state.summed, heap.state.len, heap.tail_sum)
    }

    /// Starts the next segment if an entry of `len` bytes does not fit the current one.
    pub(crate) fn roll_if_needed(&self, writer: &mut WriterState, len: u64) -> Result<(), WriteError> {
        if writer.journal.fits(len) {
            return Ok(());
        }
        // If two syncs of one file run at the same time, only one may report a failure: draining
        // ensures that only one runs.
        self.drain()?;
        let end = writer.journal.end();
        writer.journal.roll(len, true)?;
        self.pipeline.note_durable(end);
        Ok(())
    }

    /// Returns the state that a checkpoint entry describes.
    pub(crate) fn state_of(checkpoint: &Checkpoint) -> StoreState {
        StoreState {
            heap: checkpoint.heap.state,
            tables: checkpoint.tables.iter().map(|table| table.state).collect(),
            ..StoreState::default()
        }
    }
}

/// Writes the checksums of newly complete blocks (taking those that are `known` without computing
/// them), syncs what was written since `before`, and returns the checksum of the rest.
fn checkpoint_space(
    space: &Space,
    before: u64,
    end: u64,
    summed: &mut u64,
    known: impl Fn(u64) -> Option<u64>,
) -> Result<u64, StorageError> {
    let view = space.view_to(end, *summed)?;
    let complete = end / BLOCK * BLOCK;
    if complete > *summed {
        space.write_sums(*summed, complete, &view, known)?;
        *summed = complete;
    }
    if end > before {
        removable!("checkpoint.space.sync", space.sync(&(before..end)))?;
    }
    tail_sum(space, *summed, end)
}

fn tail_sum(space: &Space, summed: u64, end: u64) -> Result<u64, StorageError> {
    let view = space.view_to(end, summed)?;
    // SAFETY: the bytes are below the applied length, and the caller holds the writer lock or is
    // alone with the store: they were written, and are not written again while this runs.
    let bytes = if end > summed { unsafe { view.bytes(summed, end - summed) }? } else { &[] };
    Ok(checksum(bytes))
}

fn check_tail(space: &Space, summed: u64, end: u64, expected: u64) -> Result<(), StorageError> {
    let bad = summed > end || !summed.is_multiple_of(BLOCK) || end - summed >= BLOCK;
    let found = if bad { !expected } else { tail_sum(space, summed, end)? };
    if holds!("tail.checksum", found == expected) {
        return Ok(());
    }
    let (file, offset) = match space.find_chunk(summed)? {
        Some(chunk) => (chunk.path.clone(), PAGE + summed - chunk.start),
        None => (space.dir().to_owned(), summed),
    };
    Err(StorageError::corrupt(
        file,
        offset,
        format!(
            "{} bytes with checksum {expected:016x}, as the last checkpoint says",
            end.saturating_sub(summed)
        ),
        format!("checksum {found:016x}"),
    ))
}

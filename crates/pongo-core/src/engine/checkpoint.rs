//! A checkpoint: everything up to a `Seq` is on disk in chunks and marks, and the super file points to a journal entry
//! that says so. Recovery replays from there.
//!
//! Order: pipeline empty; block checksums; chunks and marks synced; the entry written and synced; the super slot written
//! and synced; only then are older segments used again.

use std::sync::Arc;

use super::Engine;
use super::writer::Writer;
use crate::baseline::{Bound, no_marks};
use crate::codec::checksum;
use crate::error::{Fault, WriteError};
use crate::guard::{holds, removable};
use crate::ids::{ChunkId, Salt};
use crate::journal::{
    CHECKPOINT, COMMIT, Checkpoint, CheckpointHeap, CheckpointTable, Commit, Scanner, seal,
};
use crate::space::{BLOCK, Space};
use crate::state::State;
use crate::storage::PAGE;
use crate::superblock::{FORMAT_VERSION, Slot};

impl Engine {
    /// Makes a checkpoint of everything applied. `clean`: the index is synced too, and this is the last thing that
    /// happens.
    pub(crate) fn checkpoint(&self, writer: &mut Writer, clean: bool) -> Result<(), WriteError> {
        self.drain()?;
        let salt = writer.journal.salt;
        if clean {
            // Marks that are first looked at below are later than the checkpoint that is known, and no damage.
            for table in self.tables_to(writer.state.tables.len())? {
                table.outlive_baseline();
                // And indexes would be compared with checksums that are not made yet. What is wrong with one is for its sync to say.
                if let Err(fault) = self.indexer.check(&table).map_err(super::commit::index_fault(&table))
                    && fault.is_exhausted()
                {
                    return Err(fault.into());
                }
            }
            // Before the super file says so: whoever writes next must take it back, also if this process dies in between.
            self.control.set_clean(true);
        }
        self.write_checkpoint(writer, clean, salt).map_err(|fault| {
            // For want of space, a descriptor or a map: nothing is lost, and the next commit tries again.
            if !fault.is_full() && !fault.is_exhausted() {
                self.poison(&format!("a checkpoint failed: {fault}"));
            }
            if clean {
                // The store is not one that was closed in order: the next writer tries again, and whoever joins compares no index
                // with a checksum that was not made.
                self.control.set_clean(false);
            }
            WriteError::Fault(fault)
        })?;
        self.control.set_clean(clean);
        // Who takes over begins in the published segment, so it is given up only after this.
        self.control.publish(&writer.state);
        debug_assert_eq!(
            writer.superblock.segment(),
            writer.state.segment,
            "what the super file names stays"
        );
        writer.journal.retire_before(writer.state.segment);
        Ok(())
    }

    /// The work of a checkpoint; used by recovery as well, with the next salt.
    pub(crate) fn write_checkpoint(&self, writer: &mut Writer, clean: bool, salt: Salt) -> Result<(), Fault> {
        let entry = self.settle_spaces(writer, clean, salt)?;
        let mut entry = entry.encode();
        if salt != writer.journal.salt || !writer.journal.fits(entry.len() as u64) {
            // A recovery makes a small one: it may be there because the disk is full.
            let grow = salt == writer.journal.salt;
            writer.journal.salt = salt;
            writer.journal.roll(entry.len() as u64, grow)?;
            self.pipeline.note_durable(writer.journal.end());
        }
        let (pos, segment) = (writer.journal.end(), writer.journal.segment_number());
        // Not `pos`: relaxed commits before it may be in the kernel only.
        let sum = seal(&mut entry, CHECKPOINT, salt, pos, self.pipeline.durable(), writer.state.seq);
        writer.journal.append(&entry)?;
        removable!("checkpoint.journal.sync", writer.journal.file().sync())
            .map_err(Fault::io("syncing", format!("journal/{segment}.log")))?;
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
        self.control.set_foreign_dirty(false);
        let state = Arc::make_mut(&mut writer.state);
        state.segment = segment;
        state.journal_end = end;
        writer.checkpoint = Arc::clone(&writer.state);
        writer.dirty_marks.clear();
        writer.block_sums.clear();
        Ok(())
    }

    /// Sums and syncs every chunk and mark that changed since the last checkpoint. Cost: marks files that changed are read
    /// whole, where they have pages.
    fn settle_spaces(&self, writer: &mut Writer, clean: bool, salt: Salt) -> Result<Checkpoint, Fault> {
        let mut checkpoint = Checkpoint { clean, ..Checkpoint::default() };
        let foreign = self.control.is_foreign_dirty();
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
            let tail_sum = settle_space(&table.space, before.len * size, end, &mut now.summed, known)?;
            let bound = Bound { seq, len: now.len };
            let of_table = (table.id(), ChunkId(0))..=(table.id(), ChunkId(u64::MAX));
            let settled = if foreign {
                writer.marks_sums.retain(|(id, _), _| *id != table.id());
                table.settle_marks(bound)?
            } else {
                let dirty = writer.dirty_marks.range(of_table.clone()).map(|(&(_, chunk), _)| chunk);
                table.settle_marks_of(dirty, bound)?
            };
            writer.marks_sums.extend(settled.iter().map(|&(chunk, sum)| ((table.id(), chunk), sum)));
            if clean {
                // Of a full disk too: what it should have written may be lost, and no later sync will tell.
                removable!("checkpoint.index.sync", self.indexer.sync(table)).map_err(|error| {
                    let index = format!("the index of table {}", table.schema().table);
                    Fault::io(Fault::SYNCING, index)(std::io::Error::other(error))
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
        let tail_sum = settle_space(&self.heap, before, heap.len, &mut heap.summed, known)?;
        checkpoint.heap = CheckpointHeap { state: *heap, tail_sum };
        Ok(checkpoint)
    }

    /// The checksums of blocks that entries of other processes cite, from the newest checkpoint on: what
    /// these bytes were when they were written, whatever they are by now.
    fn collect_block_sums(&self, writer: &mut Writer) -> Result<(), Fault> {
        let slot = writer.superblock.newest();
        let scanner = Scanner::begin(&self.storage, self.store, slot.salt, slot.segment, slot.checkpoint)?;
        let mut scanner = scanner.behind_published();
        while let Some(found) = scanner.next()? {
            let Some(commit) = Commit::decode(&found.bytes).filter(|_| found.header.kind == COMMIT) else {
                continue;
            };
            for part in &commit.rows {
                writer.block_sums.note(Some(part.table), part.cited_bytes(), &part.sums);
            }
            if let Some(heap) = &commit.heap {
                writer.block_sums.note(None, heap.cited_bytes(), &heap.sums);
            }
        }
        Ok(())
    }

    /// Checks the bytes behind the last summed block of each space against the checkpoint that names them.
    pub(crate) fn check_tails(&self, checkpoint: &Checkpoint) -> Result<(), Fault> {
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

    /// Begins the next segment if an entry of `len` bytes does not fit the current one.
    pub(crate) fn roll_if_needed(&self, writer: &mut Writer, len: u64) -> Result<(), WriteError> {
        if writer.journal.fits(len) {
            return Ok(());
        }
        // Of two syncs of one file at the same time only one may hear of a failure: here there is one.
        self.drain()?;
        let end = writer.journal.end();
        writer.journal.roll(len, true)?;
        self.pipeline.note_durable(end);
        Ok(())
    }

    /// The state that a checkpoint entry describes.
    pub(crate) fn state_of(checkpoint: &Checkpoint) -> State {
        State {
            heap: checkpoint.heap.state,
            tables: checkpoint.tables.iter().map(|table| table.state).collect(),
            ..State::default()
        }
    }
}

/// Stores the checksums of newly complete blocks, those that are `known` as they are, syncs what was written
/// since `before`, and returns the checksum of the rest.
fn settle_space(
    space: &Space,
    before: u64,
    end: u64,
    summed: &mut u64,
    known: impl Fn(u64) -> Option<u64>,
) -> Result<u64, Fault> {
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

fn tail_sum(space: &Space, summed: u64, end: u64) -> Result<u64, Fault> {
    let view = space.view_to(end, summed)?;
    // SAFETY: below the applied length, under the writer lock or alone with the store: written, not written again while
    // this runs.
    let bytes = if end > summed { unsafe { view.bytes(summed, end - summed) }? } else { &[] };
    Ok(checksum(bytes))
}

fn check_tail(space: &Space, summed: u64, end: u64, expected: u64) -> Result<(), Fault> {
    let bad = summed > end || !summed.is_multiple_of(BLOCK) || end - summed >= BLOCK;
    let found = if bad { !expected } else { tail_sum(space, summed, end)? };
    if holds!("tail.checksum", found == expected) {
        return Ok(());
    }
    let (file, offset) = match space.find_chunk(summed)? {
        Some(chunk) => (chunk.path.clone(), PAGE + summed - chunk.start),
        None => (space.dir().to_owned(), summed),
    };
    Err(Fault::corrupt(
        file,
        offset,
        format!(
            "{} bytes with checksum {expected:016x}, as the last checkpoint says",
            end.saturating_sub(summed)
        ),
        format!("checksum {found:016x}"),
    ))
}

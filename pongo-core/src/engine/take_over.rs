//! Taking over from another process that wrote last, before this one writes.
//!
//! Needs the writer lock, or that the process is alone with the store. Guarantees that afterwards
//! the writer's state is everything that any process published or left in the journal, and that
//! all of it is published.

use std::sync::Arc;

use super::Engine;
use super::gate::WriterState;
use super::indexer::index_fault;
use crate::error::{OpenError, StorageError, WriteError};
use crate::guard::removable;
use crate::journal::{self, CHECKPOINT, Journal, Scanner};
use crate::superblock::{self, FORMAT_VERSION, Superblock};

impl Engine {
    /// Takes over from another process that wrote last: reads what it published and rolls forward
    /// what it left in the journal. Never writes below a published length.
    pub(super) fn take_over(&self, writer: &mut WriterState) -> Result<(), WriteError> {
        let (superblock, _) = Superblock::open(&*self.storage).map_err(|error| match error {
            OpenError::Storage(fault) => fault,
            other => StorageError::corrupt(superblock::PATH, 0, "a readable super file", other.to_string()),
        })?;
        writer.superblock = superblock;
        let (_, mut state) = self.control.published();
        let salt = self.control.salt();
        let tables = self.tables_to(state.tables.len())?;
        self.heap.refresh()?;
        // After a clean close no process has written to an index yet, so no index needs repair. The
        // first writer compares all indexes, and rebuilds those that are not what was synced.
        let is_untouched = self.control.is_clean();
        for table in &tables {
            table.space.refresh()?;
            if !is_untouched {
                self.indexer.repair_after_crash(table).map_err(index_fault(table))?;
            }
        }
        let start = (state.segment, state.journal_end);
        let mut scanner =
            Scanner::begin(&self.storage, self.store, salt, start.0, start.1)?.behind_published();
        let before = state.seq;
        while let Some(found) = scanner.next()? {
            if found.header.kind == CHECKPOINT {
                continue;
            }
            let WriterState { dirty_marks, block_sums, .. } = &mut *writer;
            self.replay(&found, &mut state, dirty_marks, block_sums, FORMAT_VERSION)?;
        }
        self.replay_indexes(salt, start, &state)?;
        let end = scanner.position();
        let segment = scanner.into_segment();
        if segment.header.number != state.segment || end != state.journal_end {
            // The process that started the segment may have been killed before its name was
            // durable.
            removable!("takeover.journal.folder", self.storage.sync_dir(journal::DIR))
                .map_err(StorageError::io(StorageError::SYNCING, journal::DIR))?;
        }
        if state.seq > before {
            removable!("takeover.journal.sync", segment.file.sync())
                .map_err(StorageError::io(StorageError::SYNCING, "the journal"))?;
            self.control.note_durable(end);
        }
        state.journal_end = end;
        state.segment = segment.header.number;
        let smallest = self.options.sizes.segment;
        writer.journal = Journal::resume(&self.storage, self.store, salt, segment, end, smallest)?;
        self.pipeline.reset(state.seq, self.control.durable());
        if state.seq > before {
            self.control.publish(&state);
        }
        // Other processes may have dirtied files since the last checkpoint that are not in this
        // process's lists: the next checkpoint syncs everything.
        self.control.set_dirty_by_other_process(true);
        writer.checkpoint = Arc::default();
        writer.state = Arc::new(state);
        Ok(())
    }
}

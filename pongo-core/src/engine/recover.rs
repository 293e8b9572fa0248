//! Recovery, by a process that is alone with the store: from the newest valid checkpoint, through
//! the journal, to the last complete entry.
//!
//! It always ends with a checkpoint with the next salt before another process can join, so that
//! nothing that was lost can reappear. A store that was closed cleanly needs no recovery. Running
//! it twice produces the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::block_sums::BlockSums;
use super::gate::WriterState;
use super::indexer::{CrashBounds, Replay, TableChange, index_fault};
use super::open::sweep_schemas;
use super::{Engine, EngineOptions, Indexer};
use crate::codec::LIMIT;
use crate::control::Control;
use crate::error::{OpenError, StorageError};
use crate::guard::{fails, removable};
use crate::ids::{ChunkId, JournalPos, RowId, Salt, Seq, TableId};
use crate::journal::{CHECKPOINT, COMMIT, Checkpoint, Commit, Found, Journal, Scanner};
use crate::mark_checksums::{CheckpointBound, CheckpointMarks};
use crate::marks::DirtyMarks;
use crate::state::StoreState;
use crate::storage::Storage;
use crate::superblock::{FORMAT_VERSION, Slot, Superblock};
use crate::table::TableCore;

impl Engine {
    pub(super) fn recover(
        storage: &Arc<dyn Storage>,
        options: EngineOptions,
        indexer: Arc<dyn Indexer>,
        control: &Arc<Control>,
        superblock: Superblock,
        slot: Slot,
    ) -> Result<Arc<Self>, OpenError> {
        let (checkpoint, mut scanner) = read_checkpoint(storage, &slot)?;
        let cache_identity = storage.cache_identity();
        // The state published before, if nothing was lost since: then the hash index is still
        // valid.
        let survived =
            control.is_page_cache_intact(slot.store, cache_identity).then(|| control.published().1);
        // A process publishes everything that its checkpoint contains before it writes the
        // checkpoint (a recovery does so afterwards, and `control` is not ready until then). If
        // less was published, this `control` belongs to an older copy of the store.
        let survived = survived.filter(|published| published.seq >= scanner.seq);

        // If the store was left poisoned in this boot, or by a failed recovery, memory may differ
        // from the disk.
        let doubtful = control.is_poisoned();

        let mut state = Self::state_of(&checkpoint);
        state.seq = scanner.seq;
        let base = state.clone();
        control.rebuild(slot.store, cache_identity, slot.salt);
        let journal = Journal::resume(
            storage,
            slot.store,
            slot.salt,
            scanner.inner.clone_segment(),
            scanner.inner.position(),
            options.sizes.segment,
        )?;
        let writer = WriterState {
            state: Arc::default(),
            journal,
            superblock,
            checkpoint: Arc::new(base),
            dirty_marks: DirtyMarks::new(),
            marks_sums: marks_sums(&checkpoint),
            block_sums: BlockSums::default(),
        };
        let engine = Self::assemble(storage, options, indexer, control, slot.store, writer)?;
        let mut writer = engine.take_idle_writer().expect("no other thread has this engine");
        let result = engine.recover_into(
            &mut writer,
            state,
            &checkpoint,
            &mut scanner.inner,
            slot.format,
            (survived, doubtful),
        );
        engine.return_writer(writer);
        match result {
            Ok(()) => {
                control.clear_poison();
                Ok(Arc::new(engine))
            }
            Err(fault) => {
                // A store that was not recovered must not be closed as clean.
                engine.unfinished.store(true, Ordering::Relaxed);
                // If only a resource was missing, the work so far is equivalent to what a process
                // leaves that is killed here.
                if !fault.is_exhausted() {
                    control.poison();
                }
                Err(fault.into())
            }
        }
    }

    fn recover_into(
        &self,
        writer: &mut WriterState,
        mut state: StoreState,
        checkpoint: &Checkpoint,
        scanner: &mut Scanner,
        format: u32,
        (survived, doubtful): (Option<StoreState>, bool),
    ) -> Result<(), StorageError> {
        self.load_tables(checkpoint.tables.len())?;
        let tables = self.tables_to(checkpoint.tables.len())?;
        for (table, stored) in tables.iter().zip(&checkpoint.tables) {
            if fails!("recover.schema.fingerprint", table.fingerprint() != stored.fingerprint) {
                return Err(StorageError::corrupt(
                    format!("schema/{}.1.schema", table.id().0),
                    0,
                    format!("the layout with fingerprint {:032x}", stored.fingerprint),
                    format!("one with fingerprint {:032x}", table.fingerprint()),
                ));
            }
            if stored.state.len.checked_mul(table.row_size()).is_none_or(|end| end >= LIMIT) {
                return Err(StorageError::corrupt(
                    "the newest checkpoint",
                    0,
                    format!("a length that table {} can have", table.schema().table),
                    format!("{} rows", stored.state.len),
                ));
            }
            let bound = CheckpointBound { seq: state.seq, len: stored.state.len };
            table.set_checkpoint_marks(CheckpointMarks::new(bound, stored.marks.clone()));
        }
        self.check_tails(checkpoint)?;
        let place = |scanner: &Scanner| (scanner.clone_segment().header.number, scanner.position());
        let behind = place(scanner);
        let mut first_unseen = None;
        while let Some(found) = scanner.next()? {
            if found.header.kind == COMMIT {
                let WriterState { dirty_marks, block_sums, .. } = &mut *writer;
                self.replay(&found, &mut state, dirty_marks, block_sums, format)?;
                if survived.as_ref().is_some_and(|published| found.header.seq > published.seq) {
                    first_unseen.get_or_insert((found.segment, found.header.pos));
                }
            }
        }
        let all = self.tables_to(state.tables.len())?;
        if let Some(published) = survived
            .as_ref()
            .map(|state| state.seq)
            .filter(|&seq| fails!("recover.published", seq > state.seq))
        {
            return Err(StorageError::corrupt(
                format!("journal/{}.log", scanner.clone_segment().header.number),
                scanner.position().0,
                format!(
                    "the entries up to commit {published}, which `control` says was published since the \
                     system started (`control` can be deleted while the store is closed)"
                ),
                format!("whole ones only up to commit {}", state.seq),
            ));
        }
        // Remove what lost commits left of chunks and marks, but only once it is known what was not
        // lost: rows that an entry references are stored nowhere else, and a chunk with a corrupt
        // header must be reported, not removed.
        for (table, state) in all.iter().zip(&state.tables) {
            if state.len == 0 {
                // Programs that copy stores omit empty folders.
                let dir = table.space.dir();
                self.storage.create_dir(dir).map_err(StorageError::io("making", dir))?;
            }
            table.space.sweep(state.len * table.row_size())?;
        }
        self.heap.sweep(state.heap.len)?;
        let index_ok = survived.is_some()
            && first_unseen.is_none_or(|start| {
                let adopt =
                    |table| self.indexer.reuse(table, Some(&crash_bounds(table, survived.as_ref(), &state)));
                // Includes tables created since the checkpoint, up to the published state; the
                // replay creates the indexes of later ones again.
                let known = survived.as_ref().map_or(0, |published| published.tables.len()).max(tables.len());
                all.iter().take(known).all(|table| adopt(table).is_ok())
                    && self.replay_indexes(writer.journal.salt, start, &state).is_ok()
            });
        state.journal_end = scanner.position();
        state.segment = scanner.clone_segment().header.number;
        writer.journal = Journal::resume(
            &self.storage,
            self.store,
            writer.journal.salt,
            scanner.clone_segment(),
            scanner.position(),
            self.options.sizes.segment,
        )?;
        writer.state = Arc::new(state);
        self.pipeline.reset(writer.state.seq, writer.journal.end());
        // The store counts as closed cleanly only if nothing follows the checkpoint and memory is
        // not suspect. What a failed recovery cleared is synced by the checkpoint at the end of
        // this one. And a process that was about to write first may have been killed during the
        // checkpoint that precedes the first write: then that checkpoint's entry, and the name of
        // the segment created for it, may be in memory only, and `super` still names the segment
        // before.
        let goes_on = place(scanner) != behind;
        let clean = checkpoint.clean && !goes_on && !doubtful;
        // Again, since the replay may have taken a while.
        self.control.make_writable()?;
        // Set before marks are read: after a clean close there must be none of later commits.
        self.control.set_clean(clean);
        if doubtful {
            all.iter().try_for_each(|table| table.rewrite_marks())?;
        }
        let trusted = clean || index_ok;
        let mut lost =
            self.adopt_indexes(writer, trusted, (!clean).then_some(survived.as_ref()).flatten())?;
        // A store of an older format: the checkpoint that ends a recovery upgrades it to this
        // format, even if nothing needs to be recovered. After that checkpoint no index is compared
        // with the checksum that it got at the clean close, so all are rebuilt.
        let upgrade = format < FORMAT_VERSION;
        if clean && upgrade {
            lost.clone_from(&all);
        }
        if clean && !lost.is_empty() {
            // A rebuilt index does not match its checksum. So the store must first stop counting as
            // closed cleanly; otherwise a process that opens it after a failure would refuse to
            // read by key.
            self.end_recovery(writer)?;
            // All indexes: in a store that was not closed cleanly, existing indexes are not
            // compared with their checksums, and where one was lost others may be older copies.
            self.rebuild_indexes(writer, &self.tables_to(writer.state.tables.len())?)?;
        } else if clean && !upgrade {
            let needed = writer.journal.segment_number();
            Journal::sweep(&*self.storage, |number| number >= needed)?;
            self.control.set_checkpoint(writer.journal.end());
            self.control.note_durable(writer.journal.end());
        } else {
            self.rebuild_indexes(writer, &lost)?;
            self.end_recovery(writer)?;
        }
        self.control.set_last_writer(self.owner);
        self.control.publish(&writer.state);
        Ok(())
    }

    /// Clears what lost commits left, and writes the checkpoint with the next salt.
    fn end_recovery(&self, writer: &mut WriterState) -> Result<(), StorageError> {
        let tables = self.tables_to(writer.state.tables.len())?;
        for (table, state) in tables.iter().zip(&writer.state.tables) {
            // Also if no entry was lost: anything found then is corruption, which a later
            // checkpoint would take for a mark.
            let base = writer.checkpoint.tables.get(table.id().0 as usize).map_or(0, |state| state.len);
            let before = CheckpointBound { seq: writer.checkpoint.seq, len: base };
            let now = CheckpointBound { seq: writer.state.seq, len: state.len };
            table.clear_marks_above(before, now, &writer.dirty_marks)?;
        }
        sweep_schemas(&*self.storage, tables.len())?;
        // The process that created the store may have been killed before the names in it were
        // durable.
        removable!("recover.folder", self.storage.sync_dir(""))
            .map_err(StorageError::io(StorageError::SYNCING, "the store's folder"))?;
        // Every mark may have another value on disk than in memory: sync them all, whichever
        // process changed them.
        self.control.set_dirty_by_other_process(true);
        let salt = writer.journal.salt.next();
        self.write_checkpoint(writer, false, salt)?;
        // The newest checkpoint no longer says so, and the indexes were synced at a moment of the
        // previous generation.
        self.control.set_clean(false);
        // The other slot as well: if this slot becomes corrupt, the other must not lead to the
        // previous generation.
        removable!("super.repeat", writer.superblock.repeat())?;
        self.control.set_salt(salt);
        writer.journal.forget_others()
    }

    /// Opens the indexes if they can be `trusted`: after a clean close, or after a process was
    /// killed that had published `published`. Returns the tables whose index must be rebuilt.
    fn adopt_indexes(
        &self,
        writer: &WriterState,
        trusted: bool,
        published: Option<&StoreState>,
    ) -> Result<Vec<Arc<TableCore>>, StorageError> {
        let mut lost = Vec::new();
        for table in self.tables_to(writer.state.tables.len())? {
            let crash_bounds =
                published.map(|published| crash_bounds(&table, Some(published), &writer.state));
            if trusted {
                match self.indexer.reuse(&table, crash_bounds.as_ref()).map_err(index_fault(&table)) {
                    Ok(()) => continue,
                    // An index that cannot be opened because there is no descriptor is not lost.
                    Err(fault) if fault.is_exhausted() => return Err(fault),
                    Err(_) => {}
                }
            }
            lost.push(table);
        }
        Ok(lost)
    }

    fn rebuild_indexes(&self, writer: &WriterState, lost: &[Arc<TableCore>]) -> Result<(), StorageError> {
        for table in lost {
            let view = table.at(writer.state.tables[table.id().0 as usize], writer.state.seq)?;
            self.indexer.rebuild(&view).map_err(index_fault(table))?;
        }
        Ok(())
    }

    /// Applies to the indexes the entries from a position in the journal to its tail. They may have
    /// been applied before. All are replayed: an index may contain rows of the last entry while the
    /// first is applied.
    pub(super) fn replay_indexes(
        &self,
        salt: Salt,
        (segment, pos): (u64, JournalPos),
        state: &StoreState,
    ) -> Result<(), StorageError> {
        let mut scanner = Scanner::begin(&self.storage, self.store, salt, segment, pos)?.behind_published();
        while let Some(found) = scanner.next()? {
            if found.header.kind == COMMIT {
                self.replay_index(&found, state)?;
            }
        }
        Ok(())
    }

    fn replay_index(&self, found: &Found, state: &StoreState) -> Result<(), StorageError> {
        let Some(commit) = Commit::decode(&found.bytes) else { return Ok(()) };
        for new in &commit.new_tables {
            if let Some(table) = self.table(new.table)
                && self.indexer.reuse(&table, Some(&crash_bounds(&table, None, state))).is_err()
            {
                self.indexer.create(&table).map_err(index_fault(&table))?;
            }
        }
        for part in &commit.rows {
            let Some(table) = self.table(part.table) else { continue };
            let change = TableChange {
                table: &table,
                view: table.at(state.tables[part.table.0 as usize], state.seq)?,
                rows: part.first..RowId(part.first.0 + part.count()),
                hashes: &[],
                previous: &part.previous,
                deleted_rows: &part.deleted_rows,
            };
            self.indexer.apply(&change, Replay::Repeat).map_err(index_fault(&table))?;
        }
        Ok(())
    }
}

/// Returns the bounds of a table's index: it contains at least the rows that were published, and at
/// most those that exist now.
fn crash_bounds(table: &TableCore, published: Option<&StoreState>, now: &StoreState) -> CrashBounds {
    let rows = |state: &StoreState| state.tables.get(table.id().0 as usize).map_or(0, |table| table.len);
    CrashBounds { newest: now.seq, rows: published.map_or(0, rows)..=rows(now) }
}

fn marks_sums(checkpoint: &Checkpoint) -> BTreeMap<(TableId, ChunkId), u64> {
    let mut all = BTreeMap::new();
    for (id, table) in (0..).map(TableId).zip(&checkpoint.tables) {
        all.extend(table.marks.iter().map(|&(chunk, sum)| ((id, chunk), sum)));
    }
    all
}

/// A scanner positioned after a checkpoint, with the checkpoint's `Seq`.
struct Behind {
    inner: Scanner,
    seq: Seq,
}

/// Returns the checkpoint that a slot names, and a scanner positioned after it. A slot is written
/// only once its checkpoint is durable: an invalid checkpoint is corruption, and falling back to
/// the older slot would silently lose every commit since.
fn read_checkpoint(storage: &Arc<dyn Storage>, slot: &Slot) -> Result<(Checkpoint, Behind), StorageError> {
    let mut scanner = Scanner::begin(storage, slot.store, slot.salt, slot.segment, slot.checkpoint)?;
    let wrong = || {
        StorageError::corrupt(
            format!("journal/{}.log", slot.segment),
            slot.checkpoint.0,
            "the checkpoint that the super file names",
            "another entry, or a damaged one",
        )
    };
    let found = scanner.next()?.ok_or_else(wrong)?;
    if found.header.kind != CHECKPOINT
        || found.header.pos != slot.checkpoint
        || fails!("super.checkpoint.checksum", found.header.checksum != slot.checkpoint_checksum)
    {
        return Err(wrong());
    }
    let checkpoint = Checkpoint::decode(&found.bytes).ok_or_else(wrong)?;
    Ok((checkpoint, Behind { inner: scanner, seq: found.header.seq }))
}

//! Recovery, alone with the store: from the newest checkpoint that checks, through the journal, to the last whole entry.
//!
//! It always ends in a checkpoint with the next salt before anyone is let in, so that nothing that was lost can come
//! back. A store that was closed cleanly needs none of it. Running it twice gives the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::index_fault;
use super::indexer::{Change, Killed};
use super::open::sweep_schemas;
use super::writer::{BlockSums, Writer};
use super::{Engine, EngineOptions, Indexer};
use crate::baseline::{Baseline, Bound};
use crate::codec::LIMIT;
use crate::control::Control;
use crate::error::{Fault, OpenError};
use crate::guard::{fails, removable};
use crate::ids::{ChunkId, JournalPos, RowId, Salt, Seq, TableId};
use crate::journal::{CHECKPOINT, COMMIT, Checkpoint, Commit, Found, Journal, Scanner};
use crate::marks::DirtyMarks;
use crate::state::State;
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
        // What was published before, if nothing was lost since: then the hash index is as good as it was.
        let survived = control.survived(slot.store, cache_identity).then(|| control.published().1);
        // Whoever made a checkpoint had published what is in it: this `control` is of an older copy of the store.
        let survived = survived.filter(|published| published.seq >= scanner.seq);

        // Of one that was left poisoned in this boot, or by a recovery that failed, memory may hold what the disk does not.
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
        let writer = Writer {
            state: Arc::default(),
            journal,
            superblock,
            checkpoint: Arc::new(base),
            dirty_marks: DirtyMarks::new(),
            marks_sums: marks_sums(&checkpoint),
            block_sums: BlockSums::default(),
        };
        let engine = Self::assemble(storage, options, indexer, control, slot.store, writer)?;
        let mut writer = engine.take_idle_writer().expect("nobody else knows this engine");
        let result = engine.recover_into(
            &mut writer,
            state,
            &checkpoint,
            &mut scanner.inner,
            slot.format,
            (survived, doubtful),
        );
        engine.give_back(writer);
        match result {
            Ok(()) => {
                control.heal();
                Ok(Arc::new(engine))
            }
            Err(fault) => {
                // What was read must not be closed as if it were well.
                engine.unfinished.store(true, Ordering::Relaxed);
                // If something was only not to be had, what is done so far is as good as what a process leaves that is
                // killed here.
                if !fault.is_exhausted() {
                    control.poison();
                }
                Err(fault.into())
            }
        }
    }

    fn recover_into(
        &self,
        writer: &mut Writer,
        mut state: State,
        checkpoint: &Checkpoint,
        scanner: &mut Scanner,
        format: u32,
        (survived, doubtful): (Option<State>, bool),
    ) -> Result<(), Fault> {
        self.load_tables(checkpoint.tables.len())?;
        let tables = self.tables_to(checkpoint.tables.len())?;
        for (table, stored) in tables.iter().zip(&checkpoint.tables) {
            if fails!("recover.schema.fingerprint", table.fingerprint() != stored.fingerprint) {
                return Err(Fault::corrupt(
                    format!("schema/{}.1.schema", table.id().0),
                    0,
                    format!("the layout with fingerprint {:032x}", stored.fingerprint),
                    format!("one with fingerprint {:032x}", table.fingerprint()),
                ));
            }
            if stored.state.len.checked_mul(table.row_size()).is_none_or(|end| end >= LIMIT) {
                return Err(Fault::corrupt(
                    "the newest checkpoint",
                    0,
                    format!("a length that table {} can have", table.schema().table),
                    format!("{} rows", stored.state.len),
                ));
            }
            let bound = Bound { seq: state.seq, len: stored.state.len };
            table.expect_marks(Baseline::new(bound, stored.marks.clone()));
        }
        self.check_tails(checkpoint)?;
        let place = |scanner: &Scanner| (scanner.clone_segment().header.number, scanner.position());
        let behind = place(scanner);
        let mut first_unseen = None;
        while let Some(found) = scanner.next()? {
            if found.header.kind == COMMIT {
                let Writer { dirty_marks, block_sums, .. } = &mut *writer;
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
            return Err(Fault::corrupt(
                format!("journal/{}.log", scanner.clone_segment().header.number),
                scanner.position().0,
                format!(
                    "the entries up to commit {published}, which `control` says was published since the system started (`control` \
                     can be deleted while the store is closed)"
                ),
                format!("whole ones only up to commit {}", state.seq),
            ));
        }
        // What lost commits left of chunks and marks. Not before it is known what was not lost: rows that an entry cites
        // are nowhere else, and a chunk whose header rotted is to be reported, not removed.
        for (table, state) in all.iter().zip(&state.tables) {
            if state.len == 0 {
                // Programs that copy stores drop folders with nothing in them.
                let dir = table.space.dir();
                self.storage.create_dir(dir).map_err(Fault::io("making", dir))?;
            }
            table.space.sweep(state.len * table.row_size())?;
        }
        self.heap.sweep(state.heap.len)?;
        let index_ok = survived.is_some()
            && first_unseen.is_none_or(|start| {
                let adopt =
                    |table| self.indexer.adopt(table, Some(&killed(table, survived.as_ref(), &state)));
                // Those that were made since the checkpoint too, up to what was published: others are made anew by the replay.
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
        // What was cleared by a recovery that failed is synced by the checkpoint at the end of this one. And whoever was about to
        // write first may have died at the checkpoint with which that begins: then its entry, and the name of the segment that
        // was begun for it, may be in memory only, and `super` still names the segment before.
        let goes_on = place(scanner) != behind;
        let clean = checkpoint.clean && !goes_on && !doubtful;
        // The replay may have taken a while.
        self.control.make_writable()?;
        // Known before marks are looked at: there must be none of later commits.
        self.control.set_clean(clean);
        if doubtful {
            all.iter().try_for_each(|table| table.store_marks_again())?;
        }
        let trusted = clean || index_ok;
        let mut lost =
            self.adopt_indexes(writer, trusted, (!clean).then_some(survived.as_ref()).flatten())?;
        // A store of an older format: the checkpoint that ends a recovery makes it one of this format, also
        // where nothing is to be recovered. After it no index is compared with the checksum that it got at the clean close: all
        // are rebuilt.
        let upgrade = format < FORMAT_VERSION;
        if clean && upgrade {
            lost.clone_from(&all);
        }
        if clean && !lost.is_empty() {
            // An index that is made anew is not what its checksum says: first the store must no longer be one that was closed
            // in order, or whoever opens it behind a failure would refuse to read by key.
            self.end_recovery(writer)?;
            // All of them: in a store that was not closed in order nobody compares those that are there with their checksums, and
            // where one was lost others may be older copies.
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
        self.control.set_owner(self.owner);
        self.control.publish(&writer.state);
        Ok(())
    }

    /// Clears what was lost, and makes the checkpoint with the next salt.
    fn end_recovery(&self, writer: &mut Writer) -> Result<(), Fault> {
        let tables = self.tables_to(writer.state.tables.len())?;
        for (table, state) in tables.iter().zip(&writer.state.tables) {
            // Also if no entry was lost: what is there then is rot, which a later checkpoint would take for a mark.
            let base = writer.checkpoint.tables.get(table.id().0 as usize).map_or(0, |state| state.len);
            let before = Bound { seq: writer.checkpoint.seq, len: base };
            let now = Bound { seq: writer.state.seq, len: state.len };
            table.clear_marks_above(before, now, &writer.dirty_marks)?;
        }
        sweep_schemas(&*self.storage, tables.len())?;
        // Whoever made the store may have died before the names in it were durable.
        removable!("recover.folder", self.storage.sync_dir(""))
            .map_err(Fault::io(Fault::SYNCING, "the store's folder"))?;
        // Every mark may be on disk in another version than in memory: sync them all, whoever changed them.
        self.control.set_foreign_dirty(true);
        let salt = writer.journal.salt.next();
        self.write_checkpoint(writer, false, salt)?;
        // The newest checkpoint no longer says so, and indexes were synced at a moment of the generation before.
        self.control.set_clean(false);
        // The other slot as well: should this one rot, the other must not lead back to the generation before.
        removable!("super.repeat", writer.superblock.repeat())?;
        self.control.set_salt(salt);
        writer.journal.forget_others()
    }

    /// Opens the indexes that can be `trusted`: behind a clean close, or a process that was killed with this published. Gives the
    /// tables whose index is to be made anew.
    fn adopt_indexes(
        &self,
        writer: &Writer,
        trusted: bool,
        published: Option<&State>,
    ) -> Result<Vec<Arc<TableCore>>, Fault> {
        let mut lost = Vec::new();
        for table in self.tables_to(writer.state.tables.len())? {
            let killed = published.map(|published| killed(&table, Some(published), &writer.state));
            if trusted {
                match self.indexer.adopt(&table, killed.as_ref()).map_err(index_fault(&table)) {
                    Ok(()) => continue,
                    // An index that cannot be looked at for want of a descriptor is not lost.
                    Err(fault) if fault.is_exhausted() => return Err(fault),
                    Err(_) => {}
                }
            }
            lost.push(table);
        }
        Ok(lost)
    }

    fn rebuild_indexes(&self, writer: &Writer, lost: &[Arc<TableCore>]) -> Result<(), Fault> {
        for table in lost {
            let view = table.at(writer.state.tables[table.id().0 as usize], writer.state.seq)?;
            self.indexer.rebuild(&view).map_err(index_fault(table))?;
        }
        Ok(())
    }

    /// Brings the indexes up to the entries from a place in the journal to its tail, which they may have seen before. All
    /// are replayed: an index may name rows of the last one while it is brought up to the first.
    pub(super) fn replay_indexes(
        &self,
        salt: Salt,
        (segment, pos): (u64, JournalPos),
        state: &State,
    ) -> Result<(), Fault> {
        let mut scanner = Scanner::begin(&self.storage, self.store, salt, segment, pos)?.behind_published();
        while let Some(found) = scanner.next()? {
            if found.header.kind == COMMIT {
                self.replay_index(&found, state)?;
            }
        }
        Ok(())
    }

    fn replay_index(&self, found: &Found, state: &State) -> Result<(), Fault> {
        let Some(commit) = Commit::decode(&found.bytes) else { return Ok(()) };
        for new in &commit.new_tables {
            if let Some(table) = self.table(new.table)
                && self.indexer.adopt(&table, Some(&killed(&table, None, state))).is_err()
            {
                self.indexer.create(&table).map_err(index_fault(&table))?;
            }
        }
        for part in &commit.rows {
            let Some(table) = self.table(part.table) else { continue };
            let change = Change {
                table: &table,
                view: table.at(state.tables[part.table.0 as usize], state.seq)?,
                rows: part.first..RowId(part.first.0 + part.count()),
                hashes: &[],
                previous: &part.previous,
                deaths: &part.deaths,
            };
            self.indexer.apply(&change, true).map_err(index_fault(&table))?;
        }
        Ok(())
    }
}

/// What the index of a table must have, of which at least what was published is in it, and at most what is there now.
fn killed(table: &TableCore, published: Option<&State>, now: &State) -> Killed {
    let rows = |state: &State| state.tables.get(table.id().0 as usize).map_or(0, |table| table.len);
    Killed { newest: now.seq, rows: published.map_or(0, rows)..=rows(now) }
}

fn marks_sums(checkpoint: &Checkpoint) -> BTreeMap<(TableId, ChunkId), u64> {
    let mut all = BTreeMap::new();
    for (id, table) in (0..).map(TableId).zip(&checkpoint.tables) {
        all.extend(table.marks.iter().map(|&(chunk, sum)| ((id, chunk), sum)));
    }
    all
}

/// A scanner behind a checkpoint, with the checkpoint's `Seq`.
struct Behind {
    inner: Scanner,
    seq: Seq,
}

/// The checkpoint that a slot names, and a scanner behind it. A slot is written only once its checkpoint is durable: one
/// that does not check is rot, and going back to the older slot would quietly lose every commit since.
fn read_checkpoint(storage: &Arc<dyn Storage>, slot: &Slot) -> Result<(Checkpoint, Behind), Fault> {
    let mut scanner = Scanner::begin(storage, slot.store, slot.salt, slot.segment, slot.checkpoint)?;
    let wrong = || {
        Fault::corrupt(
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

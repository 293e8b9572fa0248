//! The writer lock: one write transaction at a time. Threads of this process take turns first; then
//! an OFD lock, which the kernel releases when its process ends, excludes other processes. A
//! process that is the only one with the store open does without the OFD lock ([`WriteHold`]).
//!
//! State that only the writer touches is in a [`WriterState`]: the thread that takes it out of the
//! gate is the writer. The lock between processes is held while a transaction has the writer, while
//! threads wait for it, and until the pipeline is empty. A process that has held it for longer than
//! `MAX_LOCK_HOLD` drains its pipeline and releases the lock for a moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Engine;
use super::block_sums::BlockSums;
use super::indexer::index_fault;
use crate::control::{Wait, WriteHold};
use crate::error::WriteError;
use crate::guard::removable;
use crate::ids::{ChunkId, TableId};
use crate::journal::Journal;
use crate::marks::DirtyMarks;
use crate::state::StoreState;
use crate::superblock::Superblock;

/// State that only the writer touches.
#[derive(Debug)]
pub(crate) struct WriterState {
    /// Everything applied, whether published or not.
    pub(crate) state: Arc<StoreState>,
    pub(crate) journal: Journal,
    pub(crate) superblock: Superblock,
    /// The state at the newest checkpoint: everything below it is on disk.
    pub(crate) checkpoint: Arc<StoreState>,
    /// Marks that changed since the newest checkpoint.
    pub(crate) dirty_marks: DirtyMarks,
    /// The checksums of all other marks. Valid only if no other process wrote since.
    pub(crate) marks_sums: BTreeMap<(TableId, ChunkId), u64>,
    /// Checksums of whole blocks that entries since the newest checkpoint reference.
    pub(crate) block_sums: BlockSums,
}

#[derive(Debug, Default)]
struct GateState {
    /// `None` while a write transaction has it.
    writer: Option<Box<WriterState>>,
    /// The threads that began the open transaction and that last opened a table of it; 0 if none is
    /// open.
    threads: [u64; 2],
    waiting: usize,
    /// Since when this process has held the lock between processes.
    locked: Option<(Instant, WriteHold)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    free: Condvar,
}

/// Number of times a thread checks whether the writer is free before it sleeps.
const SPIN_LIMIT: usize = 20;

/// After this time a process lets other processes write.
const MAX_LOCK_HOLD: Duration = Duration::from_millis(5);

impl Gate {
    pub(crate) fn new(writer: WriterState) -> Self {
        let state = GateState { writer: Some(Box::new(writer)), ..GateState::default() };
        Self { state: Mutex::new(state), free: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a number of this thread that no other thread of the process ever has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl Engine {
    #[expect(clippy::type_complexity, reason = "the writer, and since when the lock is held")]
    pub(super) fn take_writer(
        &self,
        wait: Wait,
    ) -> Result<Option<(Box<WriterState>, Option<(Instant, WriteHold)>)>, WriteError> {
        let mine = thread_number();
        let take = |gate: &mut GateState| {
            let writer = gate.writer.take()?;
            gate.threads = [mine; 2];
            Some((writer, gate.locked))
        };
        // A transaction takes a few microseconds; going to sleep and being woken takes longer.
        for _ in 0..SPIN_LIMIT {
            let mut gate = self.gate.state();
            if let Some(taken) = take(&mut gate) {
                return Ok(Some(taken));
            }
            if gate.threads.contains(&mine) {
                return Err(WriteError::OpenInThread);
            }
            drop(gate);
            if wait.is_over() {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        let mut gate = self.gate.state();
        gate.waiting += 1;
        loop {
            if let Some(taken) = take(&mut gate) {
                gate.waiting -= 1;
                return Ok(Some(taken));
            }
            gate = match wait {
                Wait::Forever => self.gate.free.wait(gate).unwrap_or_else(PoisonError::into_inner),
                Wait::Until(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        gate.waiting -= 1;
                        return Ok(None);
                    }
                    self.gate.free.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Acquires the lock between processes, and applies what other processes wrote since this
    /// process last had it. Returns `false` if another process still had the lock when the wait was
    /// over.
    pub(super) fn acquire(
        &self,
        writer: &mut WriterState,
        locked: Option<(Instant, WriteHold)>,
        wait: Wait,
    ) -> Result<bool, WriteError> {
        self.control.retry_shared();
        self.ensure_not_poisoned()?;
        self.control.make_writable()?;
        let enough = locked.filter(|(since, hold)| match hold {
            WriteHold::Solo => !self.control.is_sole_process(),
            WriteHold::Lock => since.elapsed() > MAX_LOCK_HOLD,
        });
        if let Some((_, hold)) = enough {
            self.drain()?;
            self.gate.state().locked = None;
            self.control.unlock_writer(hold);
            std::thread::yield_now();
        }
        if enough.is_some() || locked.is_none() {
            let Some(hold) = self.control.lock_writer(self.pins.group(), wait)? else { return Ok(false) };
            self.gate.state().locked = Some((Instant::now(), hold));
            self.ensure_not_poisoned()?;
        }
        if self.control.last_writer() != self.owner {
            self.take_over(writer)?;
            self.control.set_last_writer(self.owner);
        }
        if self.control.is_clean() {
            // All are compared before the first is rebuilt: once changes begin, the store no longer
            // counts as closed cleanly, and nothing is compared.
            let mut damaged = Vec::new();
            for table in self.tables_to(writer.state.tables.len())? {
                // Marks as well: once a process has written, there may be marks of later commits.
                let view = table.at(writer.state.tables[table.id().0 as usize], writer.state.seq)?;
                removable!("marks.first_write", view.load_marks())?;
                match self.indexer.verify_checksum(&table).map_err(index_fault(&table)) {
                    Ok(()) => {}
                    // An index that cannot be checked because there is no descriptor is not
                    // damaged.
                    Err(fault) if fault.is_exhausted() => return Err(fault.into()),
                    Err(_) => damaged.push((table, view)),
                }
            }
            if !damaged.is_empty() {
                self.begin_changes(writer)?;
            }
            for (table, view) in damaged {
                self.indexer.rebuild(&view).map_err(index_fault(&table))?;
            }
        }
        Ok(true)
    }

    /// Marks the store as not closed cleanly, if it was: from here on the index on disk may not
    /// match the rows. Called before the first change since a clean close.
    pub(super) fn begin_changes(&self, writer: &mut WriterState) -> Result<(), WriteError> {
        if self.control.is_clean() { self.checkpoint(writer, false) } else { Ok(()) }
    }

    pub(crate) fn ensure_not_poisoned(&self) -> Result<(), WriteError> {
        if !self.control.is_poisoned() {
            return Ok(());
        }
        let reason = self.pipeline.failure().unwrap_or_else(|| "in another process".to_owned());
        Err(WriteError::Poisoned { reason })
    }

    /// Waits until everything applied is durable and published.
    pub(crate) fn drain(&self) -> Result<(), WriteError> {
        match self.pipeline.last_pending() {
            None => Ok(()),
            Some(seq) => self.pipeline.wait(seq).map_err(|reason| WriteError::Poisoned { reason }),
        }
    }

    /// Takes the writer, if no transaction has it.
    pub(super) fn take_idle_writer(&self) -> Option<Box<WriterState>> {
        self.gate.state().writer.take()
    }

    pub(crate) fn return_writer(&self, writer: Box<WriterState>) {
        let mut gate = self.gate.state();
        gate.writer = Some(writer);
        gate.threads = [0; 2];
        if gate.waiting > 0 {
            self.gate.free.notify_one();
        } else {
            self.release_writer_lock(&mut gate);
        }
    }

    /// Releases the lock between processes if nothing needs it. Called after a publication.
    pub(crate) fn release_if_idle(&self) {
        let mut gate = self.gate.state();
        if gate.writer.is_some() && gate.waiting == 0 {
            self.release_writer_lock(&mut gate);
        }
    }

    fn release_writer_lock(&self, gate: &mut GateState) {
        // A poisoned pipeline never drains; its pending commits are abandoned.
        let idle = self.pipeline.is_idle() || self.control.is_poisoned();
        if let Some((_, hold)) = gate.locked.filter(|_| idle) {
            gate.locked = None;
            self.control.unlock_writer(hold);
        }
    }

    /// Poisons the store if the error is a failed sync, and returns the error. Before the journal's
    /// point of no return a failure changes nothing, with this one exception: a failed sync may
    /// have lost what earlier commits wrote to the same file, and no later sync will report it.
    pub(crate) fn poison_if_sync_failed(&self, error: WriteError) -> WriteError {
        if let WriteError::Storage(fault) = &error
            && fault.is_failed_sync()
        {
            self.poison(&fault.to_string());
        }
        error
    }

    /// Poisons the store. Called for the first write or sync that failed after the journal's point
    /// of no return, and for a sync that failed before it.
    pub(crate) fn poison(&self, reason: &str) {
        self.control.poison();
        self.pipeline.fail(reason);
    }

    /// Records that this thread works on the open transaction.
    pub(super) fn note_thread(&self) {
        self.gate.state().threads[1] = thread_number();
    }
}

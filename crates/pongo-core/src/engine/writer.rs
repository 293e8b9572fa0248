//! The writer lock: one write transaction at a time, first among the threads of this process, then, by an OFD lock that
//! goes with its process, among all. A process that is the only one with the store open does without the latter
//! ([`Hold`]).
//!
//! What only the writer touches travels in a [`Writer`]: whoever takes it out of the gate is the writer. The lock between
//! processes is held while a writer is out, while threads wait for it, and until the pipeline is empty; a process that
//! has held it for a while drains its pipeline and lets go for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::commit::index_fault;
use super::{Engine, schema_path};
use crate::control::Hold;
use crate::error::{Fault, ReadError, WriteError};
use crate::fields::{HeapError, HeapRead};
use crate::guard::removable;
use crate::heap;
use crate::ids::{ChunkId, HeapAddr, RowId, TableId};
use crate::journal::Journal;
use crate::marks::DirtyMarks;
use crate::record::PongoRecord;
use crate::space::View;
use crate::state::{State, TableState};
use crate::superblock::Superblock;
use crate::table::{TableCore, TableView};

/// What only the writer touches.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Everything applied, published or not.
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) superblock: Superblock,
    /// The state at the newest checkpoint: what lies below is on disk.
    pub(crate) checkpoint: State,
    /// Marks that changed since.
    pub(crate) dirty_marks: DirtyMarks,
    /// The checksums of all others; what it says counts only if no other process wrote since.
    pub(crate) marks_sums: BTreeMap<(TableId, ChunkId), u64>,
}

#[derive(Debug, Default)]
struct GateState {
    /// Absent while a write transaction has it.
    writer: Option<Box<Writer>>,
    waiting: usize,
    /// Since when this process has held the lock between processes.
    locked: Option<(Instant, Hold)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    free: Condvar,
}

/// How often a thread looks whether the writer is free before it sleeps.
const PATIENCE: usize = 20;

/// After this long a process lets others in.
const LONGEST_HOLD: Duration = Duration::from_millis(5);

impl Gate {
    pub(crate) fn new(writer: Writer) -> Self {
        let state = GateState { writer: Some(Box::new(writer)), ..GateState::default() };
        Self { state: Mutex::new(state), free: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write: taken by [`Engine::begin_write`], given back when dropped.
#[derive(Debug)]
pub struct WriteGuard {
    pub(crate) engine: Arc<Engine>,
    /// Present until the guard is dropped or spent.
    pub(crate) writer: Option<Box<Writer>>,
    /// Tables that this transaction makes.
    pub(crate) new_tables: Vec<Arc<TableCore>>,
    /// Rows that were written beyond the applied length.
    pub(crate) appended: Vec<Appended>,
    /// Tables in which room for rows was asked for.
    pub(crate) roomed: Vec<Arc<TableCore>>,
    heap: OnceLock<Arc<View>>,
    /// Whether the journal has the transaction.
    pub(crate) committed: bool,
    /// Whether it was applied and is on its way to be published.
    pub(crate) settled: bool,
}

/// Rows of one table that a transaction wrote beyond the applied length.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) table: Arc<TableCore>,
    rows: u64,
    /// The table with these rows. Never leaves the guard: once the guard is gone the rows may be written over.
    view: OnceLock<TableView>,
}

impl Engine {
    /// Waits for the right to write, among threads and processes.
    pub fn begin_write(self: &Arc<Self>) -> Result<WriteGuard, WriteError> {
        if self.fork.is_child() {
            return Err(WriteError::Forked);
        }
        let (mut writer, locked) = self.take_writer();
        match self.enter(&mut writer, locked) {
            Ok(()) => Ok(WriteGuard {
                engine: Arc::clone(self),
                writer: Some(writer),
                new_tables: Vec::new(),
                appended: Vec::new(),
                roomed: Vec::new(),
                heap: OnceLock::new(),
                committed: false,
                settled: false,
            }),
            Err(error) => {
                let error = self.heed(error);
                self.give_back(writer);
                Err(error)
            }
        }
    }

    fn take_writer(&self) -> (Box<Writer>, Option<(Instant, Hold)>) {
        // A transaction takes a few microseconds, going to sleep and being woken takes longer.
        for _ in 0..PATIENCE {
            let mut gate = self.gate.state();
            if let Some(writer) = gate.writer.take() {
                return (writer, gate.locked);
            }
            drop(gate);
            std::thread::yield_now();
        }
        let mut gate = self.gate.state();
        gate.waiting += 1;
        loop {
            if let Some(writer) = gate.writer.take() {
                gate.waiting -= 1;
                return (writer, gate.locked);
            }
            gate = self.gate.free.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gets the lock between processes, and what others wrote since this process last had it.
    fn enter(&self, writer: &mut Writer, locked: Option<(Instant, Hold)>) -> Result<(), WriteError> {
        self.refuse_poisoned()?;
        let enough = locked.filter(|(since, hold)| match hold {
            Hold::Alone => !self.control.is_lone(),
            Hold::Lock => since.elapsed() > LONGEST_HOLD,
        });
        if let Some((_, hold)) = enough {
            self.drain()?;
            self.gate.state().locked = None;
            self.control.unlock_writer(hold);
            std::thread::yield_now();
        }
        if enough.is_some() || locked.is_none() {
            let hold = self.control.lock_writer(self.pins.group())?;
            self.gate.state().locked = Some((Instant::now(), hold));
            self.refuse_poisoned()?;
        }
        if self.control.owner() != self.owner {
            self.take_over(writer)?;
            self.control.set_owner(self.owner);
        }
        if self.control.is_clean() {
            for table in self.tables_to(writer.state.tables.len())? {
                // Marks as well: once somebody has written, those of later commits may be there.
                let view = table.at(writer.state.tables[table.id().0 as usize], writer.state.seq)?;
                removable!("marks.first_write", view.know_marks())?;
                if self.indexer.check(&table).is_err() {
                    self.indexer.rebuild(&view).map_err(index_fault(&table))?;
                }
            }
            // From here on the index on disk is not as good as the rows.
            self.checkpoint(writer, false)?;
        }
        Ok(())
    }

    pub(crate) fn refuse_poisoned(&self) -> Result<(), WriteError> {
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

    /// The writer, if no transaction has it.
    pub(super) fn take_idle_writer(&self) -> Option<Box<Writer>> {
        self.gate.state().writer.take()
    }

    pub(crate) fn give_back(&self, writer: Box<Writer>) {
        let mut gate = self.gate.state();
        gate.writer = Some(writer);
        if gate.waiting > 0 {
            self.gate.free.notify_one();
        } else {
            self.let_go(&mut gate);
        }
    }

    /// After something was published: gives the lock between processes up if nothing needs it.
    pub(crate) fn let_go_if_idle(&self) {
        let mut gate = self.gate.state();
        if gate.writer.is_some() && gate.waiting == 0 {
            self.let_go(&mut gate);
        }
    }

    fn let_go(&self, gate: &mut GateState) {
        // A poisoned pipeline never drains; what is in it is nobody's.
        let idle = self.pipeline.is_idle() || self.control.is_poisoned();
        if let Some((_, hold)) = gate.locked.filter(|_| idle) {
            gate.locked = None;
            self.control.unlock_writer(hold);
        }
    }

    /// Before the journal's point of no return a failure changes nothing, with one exception: a sync that failed may have
    /// lost what earlier commits wrote to the same file, and no later sync will tell.
    pub(crate) fn heed(&self, error: WriteError) -> WriteError {
        if let WriteError::Fault(fault) = &error
            && fault.is_failed_sync()
        {
            self.poison(&fault.to_string());
        }
        error
    }

    /// The first failed write or sync behind the journal's point of no return.
    pub(crate) fn poison(&self, reason: &str) {
        self.control.poison();
        self.pipeline.fail(reason);
    }
}

impl WriteGuard {
    /// Errs in a child made by `fork`.
    pub fn refuse_forked(&self) -> Result<(), WriteError> {
        if self.engine.fork.is_child() { Err(WriteError::Forked) } else { Ok(()) }
    }

    pub(crate) fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("present until the guard is spent")
    }

    pub(crate) fn writer_mut(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("present until the guard is spent")
    }

    /// The engine behind it.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Everything applied so far: what this transaction sees beside its own changes.
    #[must_use]
    pub fn applied(&self) -> &State {
        &self.writer().state
    }

    /// The table of that name, made by this transaction or before.
    pub fn table_named(&self, name: &str) -> Result<Option<Arc<TableCore>>, ReadError> {
        if let Some(new) = self.new_tables.iter().find(|table| table.schema().table == name) {
            return Ok(Some(Arc::clone(new)));
        }
        self.committed_table_named(name)
    }

    /// The table of that name, if a commit before this transaction made it.
    pub fn committed_table_named(&self, name: &str) -> Result<Option<Arc<TableCore>>, ReadError> {
        self.engine.refuse_reader_forked()?;
        self.engine.table_named(name, self.applied().tables.len())
    }

    /// A table as applied so far.
    ///
    /// # Panics
    /// If it is a table of another store, as in the other methods that take one.
    pub fn view(&self, table: &Arc<TableCore>) -> Result<TableView, ReadError> {
        self.engine.refuse_reader_forked()?;
        self.engine.assert_own(table);
        Ok(table.at(self.table_state(table.id()), self.applied().seq)?)
    }

    /// A row that [`WriteGuard::append`] wrote beyond the applied length.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn appended_row<T: PongoRecord>(&self, table: &Arc<TableCore>, row: RowId) -> Result<&T, ReadError> {
        // In a child nothing keeps the parent from writing over it.
        self.engine.refuse_reader_forked()?;
        let missing =
            || Fault::corrupt(table.space.dir(), 0, format!("a row {row} of this transaction"), "none such");
        let appended =
            self.appended.iter().find(|known| Arc::ptr_eq(&known.table, table)).ok_or_else(missing)?;
        let view = match appended.view.get() {
            Some(view) => view,
            None => {
                let state = self.applied();
                let mut table_state = self.table_state(table.id());
                table_state.len += appended.rows;
                let view = table.at(table_state, state.seq)?;
                appended.view.get_or_init(|| view)
            }
        };
        view.row(row)
    }

    /// How many rows of a table were written beyond the applied length.
    #[must_use]
    pub fn appended_rows(&self, table: TableId) -> u64 {
        self.appended.iter().find(|known| known.table.id() == table).map_or(0, |known| known.rows)
    }

    /// Room in a table is about to be asked for, whether or not rows come to lie there.
    pub(crate) fn note_room(&mut self, table: &Arc<TableCore>) {
        if !self.roomed.iter().any(|known| Arc::ptr_eq(known, table)) {
            self.roomed.push(Arc::clone(table));
        }
    }

    pub(crate) fn note_appended(&mut self, table: &Arc<TableCore>, rows: u64) {
        match self.appended.iter_mut().find(|known| Arc::ptr_eq(&known.table, table)) {
            Some(known) => {
                known.rows += rows;
                known.view = OnceLock::new();
            }
            None => self.appended.push(Appended { table: Arc::clone(table), rows, view: OnceLock::new() }),
        }
    }

    /// Gives rows up that [`WriteGuard::append`] wrote, all but the first so many: whatever is appended next goes there.
    pub fn keep_appended(&mut self, table: &Arc<TableCore>, rows: u64) {
        if let Some(known) = self.appended.iter_mut().find(|known| Arc::ptr_eq(&known.table, table))
            && known.rows > rows
        {
            known.rows = rows;
            known.view = OnceLock::new();
            if rows == 0 {
                table.space.forget_pending();
            }
        }
    }

    /// How many tables this transaction made.
    #[must_use]
    pub fn made_tables(&self) -> usize {
        self.new_tables.len()
    }

    /// Takes away the tables that this transaction made, all but the first so many.
    pub fn keep_made_tables(&mut self, count: usize) {
        while self.new_tables.len() > count {
            let table = self.new_tables.pop().expect("there are more than that");
            self.appended.retain(|known| !Arc::ptr_eq(&known.table, &table));
            self.unmake(&table);
        }
    }

    /// What cannot be removed is nobody's, and is swept by the next recovery.
    fn unmake(&self, table: &TableCore) {
        let _ = table.space.clear();
        let _ = self.engine.storage.remove(&schema_path(table.id(), 1));
    }

    pub(crate) fn table_state(&self, table: TableId) -> TableState {
        self.applied().tables.get(table.0 as usize).copied().unwrap_or_default()
    }

    /// The heap's length as applied: staged bytes will begin here.
    #[must_use]
    pub fn heap_len(&self) -> u64 {
        self.applied().heap.len
    }

    /// Appends an item to staged heap bytes; returns its address.
    #[must_use]
    pub fn stage_heap(&self, staged: &mut Vec<u8>, bytes: &[u8]) -> HeapAddr {
        let addr = HeapAddr(self.heap_len() + staged.len() as u64);
        heap::stage(staged, bytes);
        addr
    }

    /// Reads an item that [`WriteGuard::stage_heap`] staged, or one of the applied heap.
    pub fn read_heap<'a>(
        &'a self,
        staged: &'a [u8],
        addr: HeapAddr,
        len: u32,
        hash: u32,
    ) -> Result<&'a [u8], HeapError> {
        let base = self.heap_len();
        let Some(at) = addr.0.checked_sub(base) else { return HeapRead::read_heap(self, addr, len, hash) };
        let end = at.checked_add(heap::item_len(u64::from(len)));
        let item = end.and_then(|end| staged.get(at as usize..end as usize));
        let outside = HeapError::Outside { addr, len, end: HeapAddr(base + staged.len() as u64) };
        heap::check(item.ok_or(outside)?, addr, len, hash)
    }
}

impl HeapRead for WriteGuard {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.engine.refuse_reader_forked().map_err(|error| heap::forked(addr, error))?;
        let state = self.applied().heap;
        let view = match self.heap.get() {
            Some(view) => view,
            None => {
                let view = self.engine.heap_view(state).map_err(|fault| heap::chunk_error(addr, fault))?;
                self.heap.get_or_init(|| view)
            }
        };
        heap::read(view, state.len, addr, len, hash)
    }
}

impl WriteGuard {
    /// Takes away what the transaction made on the way to a commit that never was.
    fn undo(&mut self) {
        self.appended.clear();
        self.keep_made_tables(0);
        for table in self.engine.tables.read().unwrap_or_else(PoisonError::into_inner).iter() {
            table.space.forget_pending();
        }
        self.engine.heap.forget_pending();
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        if self.engine.fork.is_child() {
            // The parent still has it, and the lock too: nothing of it may be touched, not even closed.
            std::mem::forget(writer);
            return;
        }
        if !self.committed {
            self.undo();
        } else if !self.settled {
            self.engine.poison("a commit was broken off between the journal and its publication");
        }
        self.engine.give_back(writer);
    }
}

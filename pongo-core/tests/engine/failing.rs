//! Failing operations: the error has the right variant, nothing is partly applied, and reopening
//! the store finds every acknowledged commit.

use std::io::ErrorKind;
use std::sync::Arc;

use pongo_core::engine::{CrashBounds, Engine, IndexError, Indexer, Replay, TableChange};
use pongo_core::error::{CommitError, WriteError};
use pongo_core::ids::RowId;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_core::table::{TableCore, TableView};

use crate::indexer::MapIndexer;
use crate::model::Model;
use crate::work::{Mix, SMALL, Transaction, arbitrary, options};
use pongo_sim::Random;
use pongo_sim::{Disk, FaultPlan, OpKind};

const EIO: ErrorKind = ErrorKind::Other;
const FULL: ErrorKind = ErrorKind::StorageFull;
/// Only durable commits: an acknowledged commit must be present whatever happens.
const DURABLE: Mix = Mix { rows: 6, bulk: 5, relaxed: u64::MAX };

fn open(disk: &Disk) -> Result<(Arc<Engine>, Arc<MapIndexer>), pongo_core::error::OpenError> {
    let indexer = Arc::new(MapIndexer::default());
    let engine = Engine::open(disk.process().storage(), options(), Arc::clone(&indexer) as _)?;
    Ok((engine, indexer))
}

/// One store, the states in which it may be, and the newest acknowledged state.
struct Run {
    disk: Disk,
    random: Random,
    acknowledged: Model,
    unknown: Vec<Model>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { disk: Disk::new(), random: Random(seed), acknowledged: Model::default(), unknown: Vec::new() }
    }

    fn next(&mut self) -> Transaction {
        arbitrary(&self.acknowledged, &mut self.random, DURABLE)
    }

    /// Commits, and checks that the store matches the answer. Returns `false` if the store is
    /// poisoned.
    fn commit(&mut self, engine: &Arc<Engine>, indexer: &MapIndexer) -> bool {
        let transaction = self.next();
        let result = transaction.commit(engine);
        match &result {
            Ok(_) => self.acknowledged = transaction.after,
            Err(CommitError::OutcomeUnknown { .. }) => {
                self.unknown.push(transaction.after);
                let begun = engine.begin_write();
                assert!(matches!(begun, Err(WriteError::Poisoned { .. })), "{begun:?} after {result:?}");
            }
            Err(CommitError::Refused(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
        if matches!(result, Err(CommitError::OutcomeUnknown { .. })) {
            // The index may have received the commit.
            self.acknowledged.check(&engine.begin_read().unwrap());
            return false;
        }
        let Err(error) = result else { return true };
        self.disk.without_faults(|| self.acknowledged.check_engine(engine, indexer));
        let full = matches!(&error, CommitError::Refused(WriteError::Storage(fault)) if fault.is_full());
        let poisoned = matches!(engine.begin_write(), Err(WriteError::Poisoned { .. }));
        assert!(!(full && poisoned), "a full disk before the entry poisons nothing: {error:?}");
        !poisoned
    }

    /// Opens the store, possibly after a power cut, and checks that it is in one of the allowed
    /// states.
    fn reopen(&mut self) -> (Arc<Engine>, Arc<MapIndexer>) {
        self.disk.plan(0, |_| FaultPlan::Nothing);
        if self.random.one_in(2) {
            self.disk = self.disk.power_cycle(&mut self.random);
        }
        let (engine, indexer) = open(&self.disk).unwrap();
        let seq = engine.begin_read().unwrap().seq().0;
        if seq != self.acknowledged.seq {
            let found = self.unknown.iter().find(|model| model.seq == seq);
            self.acknowledged = found.unwrap_or_else(|| panic!("Seq {seq}")).clone();
        }
        self.unknown.clear();
        self.acknowledged.check_engine(&engine, &indexer);
        (engine, indexer)
    }
}

fn fail_at(seed: u64, at: u64, kind: ErrorKind, on: bool) -> Option<(OpKind, String)> {
    let mut run = Run::new(seed);
    run.disk.plan(seed, |_| FaultPlan::Fail(at, kind, on));
    if let Ok((engine, indexer)) = open(&run.disk) {
        for _ in 0..8 {
            if !run.commit(&engine, &indexer) {
                break;
            }
        }
    }
    let failed = run.disk.failed();
    let (engine, indexer) = run.reopen();
    for _ in 0..2 {
        assert!(run.commit(&engine, &indexer));
    }
    run.acknowledged.check_engine(&engine, &indexer);
    failed
}

#[test]
fn whatever_operation_fails() {
    let mut hit = 0;
    for at in (0..400).chain((400..1200).step_by(3)) {
        let kind = if at % 2 == 0 { EIO } else { FULL };
        let on = at % 3 == 0;
        let result = std::panic::catch_unwind(|| fail_at(21, at, kind, on));
        assert!(result.is_ok(), "operation {at}, {kind:?}, on {on}");
        hit += usize::from(result.unwrap().is_some());
    }
    assert!(hit > 60, "{hit} operations failed");
}

fn prepared(seed: u64) -> (Run, Arc<Engine>, Arc<MapIndexer>) {
    let mut run = Run::new(seed);
    let (engine, indexer) = open(&run.disk).unwrap();
    for _ in 0..6 {
        assert!(run.commit(&engine, &indexer));
    }
    (run, engine, indexer)
}

#[test]
fn full_disk_before_entry_changes_nothing() {
    let (mut run, engine, indexer) = prepared(31);
    run.disk.plan(0, |_| FaultPlan::FailOn(OpKind::Allocate, "", FULL));
    let mut refused = 0;
    for _ in 0..20 {
        let before = run.acknowledged.seq;
        assert!(run.commit(&engine, &indexer), "not poisoned");
        refused += u64::from(run.acknowledged.seq == before);
    }
    assert!(refused > 0);
    run.disk.plan(0, |_| FaultPlan::Nothing);
    for _ in 0..6 {
        let before = run.acknowledged.seq;
        assert!(run.commit(&engine, &indexer));
        assert_eq!(run.acknowledged.seq, before + 1, "there is space again");
    }
    run.acknowledged.check_engine(&engine, &indexer);
}

#[test]
fn journal_failure_poisons_all_handles() {
    for (kind, error) in
        [(OpKind::Write, EIO), (OpKind::Sync, EIO), (OpKind::Sync, FULL), (OpKind::Write, FULL)]
    {
        let mut unknown = 0;
        for seed in 40..50 {
            let (mut run, engine, indexer) = prepared(seed);
            let (other, _) = open(&run.disk).unwrap();
            run.disk.plan(seed, |_| FaultPlan::FailOn(kind, "journal/", error));
            let transaction = run.next();
            let result = transaction.commit(&engine);
            run.unknown.push(transaction.after);
            run.disk.plan(seed, |_| FaultPlan::Nothing);
            match result {
                Err(CommitError::OutcomeUnknown { .. }) => {
                    unknown += 1;
                    for engine in [&engine, &other] {
                        let begun = engine.begin_write();
                        assert!(matches!(begun, Err(WriteError::Poisoned { .. })), "{begun:?}");
                        run.acknowledged.check(&engine.begin_read().unwrap());
                    }
                }
                // The next segment could not be created: this happens before the entry is written.
                Err(CommitError::Refused(_)) => run.unknown.clear(),
                other => panic!("{other:?}"),
            }
            drop((engine, other, indexer));
            let (engine, indexer) = run.reopen();
            assert!(run.commit(&engine, &indexer));
        }
        assert!(unknown > 0, "{kind:?} {error:?}");
    }
}

/// An index that panics when it receives a commit.
struct Panics(MapIndexer);

impl Indexer for Panics {
    fn reuse(&self, table: &Arc<TableCore>, crash_bounds: Option<&CrashBounds>) -> Result<(), IndexError> {
        self.0.reuse(table, crash_bounds)
    }

    fn verify_checksum(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.0.verify_checksum(table)
    }

    fn rebuild(&self, view: &TableView) -> Result<(), IndexError> {
        self.0.rebuild(view)
    }

    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.0.create(table)
    }

    fn reserve(&self, view: &TableView, hashes: &[u64], deleted_rows: &[RowId]) -> Result<(), IndexError> {
        self.0.reserve(view, hashes, deleted_rows)
    }

    fn apply(&self, _: &TableChange<'_>, _: Replay) -> Result<(), IndexError> {
        panic!("on purpose")
    }

    fn repair_after_crash(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.0.repair_after_crash(table)
    }

    fn sync(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.0.sync(table)
    }
}

/// The entry is in the journal, but the commit was never published: no process may write after it.
#[test]
fn a_panic_behind_the_entry_poisons() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut model = Model::default();
    let mut random = Random(77);
    let transaction = arbitrary(&model, &mut random, SMALL);
    {
        let engine =
            Engine::open(Arc::clone(&storage), options(), Arc::new(Panics(MapIndexer::default()))).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| transaction.commit(&engine)));
        assert!(result.is_err(), "the index panics");
        let error = engine.begin_write().expect_err("the store is poisoned");
        assert!(matches!(error, WriteError::Poisoned { .. }), "{error:?}");
        model.check(&engine.begin_read().unwrap());
    }
    // After a recovery, the commit in the journal is present.
    model = transaction.after;
    let engine = Engine::open(storage, options(), Arc::new(MapIndexer::default())).unwrap();
    model.check(&engine.begin_read().unwrap());
    let transaction = arbitrary(&model, &mut random, SMALL);
    transaction.commit(&engine).unwrap();
    transaction.after.check(&engine.begin_read().unwrap());
}

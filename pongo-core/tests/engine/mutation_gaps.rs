//! Small cases for safeguards that the larger tests need rarely or never. Each states what goes
//! wrong without the safeguard. `docs/removed.md` lists which test detects the removal of which
//! safeguard.

use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, EngineOptions, TableWriteBatch, WriteBatch};
use pongo_core::error::{CommitError, OpenError};
use pongo_core::fields::{HeapRead, content_hash};
use pongo_core::ids::{RowId, Seq};
use pongo_sim::{Disk, FaultPlan, OpKind, Process, Random};

use crate::corruption::files;
use crate::indexer::MapIndexer;
use crate::model::{Row, bytes, schema};
use crate::work::options;

pub(crate) fn try_open(process: &Arc<Process>) -> Result<Arc<Engine>, OpenError> {
    Engine::open(process.storage(), options(), Arc::new(MapIndexer::default()))
}

pub(crate) fn open(process: &Arc<Process>) -> Arc<Engine> {
    try_open(process).unwrap()
}

pub(crate) fn row(key: u64, size: usize) -> Vec<u8> {
    Row { key, seed: key, previous: None, deleted: false }.bytes(size)
}

/// Commits rows with these keys; stores them by reference if `bulk`.
pub(crate) fn put(
    engine: &Arc<Engine>,
    table: &str,
    size: usize,
    keys: std::ops::Range<u64>,
    bulk: bool,
    durability: Durability,
) -> u64 {
    let guard = engine.begin_write().unwrap();
    let table = match guard.table_named(table).unwrap() {
        Some(table) => table,
        None => guard.create_table(schema(table, size)).unwrap(),
    };
    let rows: Vec<u8> = keys.flat_map(|key| row(key, size)).collect();
    if bulk {
        guard.append(&table, &rows).unwrap();
    }
    let rows = if bulk { &[][..] } else { &rows };
    let part = TableWriteBatch { table, rows, hashes: &[], previous: Vec::new(), deleted_rows: Vec::new() };
    guard.commit(&WriteBatch { tables: vec![part] }, durability).unwrap().0
}

/// A durable read shows a relaxed commit: without a sync, a power cut would lose it.
#[test]
fn durable_reads_survive_a_cut() {
    for seed in 0..16 {
        let disk = Disk::new();
        let engine = open(&disk.process());
        put(&engine, "table", 24, 0..3, false, Durability::Sync);
        let relaxed = put(&engine, "table", 24, 3..5, false, Durability::Relaxed);
        assert_eq!(engine.begin_durable_read().unwrap().seq().0, relaxed);
        let after = disk.power_cycle(&mut Random(seed));
        assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, relaxed, "seed {seed}");
    }
}

/// Returns a process that has the store open together with another one. The other process commits
/// once and is killed between writing the journal entry of its second commit and syncing it.
pub(crate) fn dead_behind_an_entry(disk: &Disk, seed: u64) -> Arc<Engine> {
    let first = disk.process();
    let (one, two) = (open(&first), open(&disk.process()));
    put(&one, "table", 24, 0..3, false, Durability::Sync);
    disk.plan(seed, |_| FaultPlan::KillOn(OpKind::Sync, "journal"));
    let guard = one.begin_write().unwrap();
    let table = guard.table_named("table").unwrap().unwrap();
    let rows = row(3, 24);
    let part =
        TableWriteBatch { table, rows: &rows, hashes: &[], previous: Vec::new(), deleted_rows: Vec::new() };
    guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync).unwrap_err();
    assert!(first.is_dead());
    two
}

/// A process is killed between writing the entry of its commit and syncing it. The next process
/// publishes that commit: unless it syncs, it presents as durable a commit that a power cut would
/// lose.
#[test]
fn taken_over_commits_survive_a_cut() {
    for seed in 0..16 {
        let disk = Disk::new();
        let two = dead_behind_an_entry(&disk, seed);
        drop(two.begin_write().unwrap());
        let shown = two.begin_durable_read().unwrap().seq().0;
        assert_eq!(shown, 2, "the entry was written, so the commit is rolled forward");
        let after = disk.power_cycle(&mut Random(seed));
        assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, shown, "seed {seed}");
    }
}

/// Heap bytes that do not fit into an entry are stored by reference: unless they are on disk before
/// the entry, a power cut leaves an entry that refers to missing bytes.
#[test]
fn a_large_item_survives_a_cut() {
    for seed in 0..8 {
        let disk = Disk::new();
        let engine = open(&disk.process());
        let content = bytes(seed, (1 << 20) + 999);
        let guard = engine.begin_write().unwrap();
        let addr = guard.stage_heap(&content).unwrap();
        guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
        let after = disk.power_cycle(&mut Random(seed));
        let snapshot = open(&after.process()).begin_read().unwrap();
        let found = snapshot.read_heap(addr, content.len() as u32, content_hash(&content));
        assert!(found.unwrap() == content, "seed {seed}");
    }
}

/// Cuts the power at any operation while a store is created. A `super` file without one of the
/// folders, or the reverse, must not prevent the next process from creating or opening the store.
/// Once a store was opened, it must stay a valid store.
#[test]
fn store_creation_survives_a_cut() {
    let whole = Disk::new();
    let (began, engine) = (whole.operations(), open(&whole.process()));
    let operations = whole.operations() - began;
    drop(engine);
    for at in 0..operations {
        for seed in 0..24 {
            let disk = Disk::new();
            disk.plan(seed, |now| FaultPlan::Cut(now + at));
            drop(try_open(&disk.process()));
            let after = disk.power_cycle(&mut Random(seed));
            let engine = open(&after.process());
            put(&engine, "table", 24, 0..3, false, Durability::Sync);
            let after = after.power_cycle(&mut Random(seed + 100));
            assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, 1, "cut at {at}, seed {seed}");
        }
    }
}

/// A process is killed after a store's name is created and before the name is durable. The next
/// process opens the store and commits: it must make the name durable, or a power cut loses the
/// whole store.
#[test]
fn taken_over_creation_survives_a_cut() {
    let whole = Disk::new();
    let (began, engine) = (whole.operations(), open(&whole.process()));
    let operations = whole.operations() - began;
    drop(engine);
    for at in 0..operations {
        for seed in 0..8 {
            let disk = Disk::new();
            disk.plan(seed, |now| FaultPlan::Kill(now + at));
            drop(try_open(&disk.process()));
            disk.plan(seed, |_| FaultPlan::Nothing);
            let engine = open(&disk.process());
            put(&engine, "table", 24, 0..3, false, Durability::Sync);
            let after = disk.power_cycle(&mut Random(seed));
            assert_eq!(
                open(&after.process()).begin_read().unwrap().seq().0,
                1,
                "killed at {at}, seed {seed}"
            );
        }
    }
}

/// Pins more snapshots than a process has slots, while another process queries the oldest visible
/// `Seq`.
#[test]
fn snapshots_of_all_processes_are_seen() {
    let disk = Disk::new();
    let (one, two) = (open(&disk.process()), open(&disk.process()));
    let mut snapshots = Vec::new();
    for key in 0..100 {
        put(&one, "table", 24, key..key + 1, false, Durability::Sync);
        snapshots.push(one.begin_read().unwrap());
    }
    let table = two.begin_read().unwrap().table_named("table").unwrap().unwrap();
    // Drops the oldest first: in the end only those that share a slot remain.
    for snapshot in snapshots {
        assert_eq!(table.oldest_visible_seq(), snapshot.seq());
        drop(snapshot);
    }
    assert_eq!(table.oldest_visible_seq().0, 100);
    // Each process has its own slots: neither takes those of the other live process.
    let held = [two.begin_read().unwrap(), one.begin_read().unwrap()];
    put(&one, "table", 24, 200..201, false, Durability::Sync);
    let three = open(&disk.process());
    assert_eq!(table.oldest_visible_seq().0, 100);
    drop((held, three));
    assert_eq!(table.oldest_visible_seq().0, 101);
}

/// Relaxed commits fill a segment, and a durable commit is written to the next one. If the first
/// segment were not on disk by then, the durable commit would be lost with it.
#[test]
fn later_segments_survive_a_cut() {
    let options = EngineOptions { checkpoint_bytes: 64 << 20, ..options() };
    for seed in 0..16 {
        let disk = Disk::new();
        let indexer = || Arc::new(MapIndexer::default());
        let engine = Engine::open(disk.process().storage(), options, indexer()).unwrap();
        put(&engine, "table", 1000, 0..900, false, Durability::Relaxed);
        let durable = put(&engine, "table", 1000, 900..1700, false, Durability::Sync);
        let mut journal = Vec::new();
        files(&**disk.inner(), "journal", &mut journal);
        assert!(journal.len() > 1, "{journal:?}");
        let after = disk.power_cycle(&mut Random(seed));
        assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, durable, "seed {seed}");
    }
}

/// Deletes a row.
pub(crate) fn delete(engine: &Arc<Engine>, table: &str, row: u64) -> Result<Seq, CommitError> {
    let guard = engine.begin_write().unwrap();
    let table = guard.table_named(table).unwrap().unwrap();
    let deleted_rows = vec![RowId(row)];
    let part = TableWriteBatch { table, rows: &[], hashes: &[], previous: Vec::new(), deleted_rows };
    guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync)
}

/// A process is killed after a marks file's name is created and before the name is durable. The
/// next process writes to that file, and a checkpoint lists it: it must be present after a power
/// cut.
#[test]
fn taken_over_marks_survive_a_cut() {
    for seed in 0..16 {
        let disk = Disk::new();
        let first = disk.process();
        let (one, two) = (open(&first), open(&disk.process()));
        put(&one, "table", 24, 0..30, false, Durability::Sync);
        // From here on, the other process finds no new chunks. It would make their names durable,
        // together with all others in that folder.
        put(&two, "table", 24, 30..31, false, Durability::Sync);
        disk.plan(seed, |_| FaultPlan::KillOn(OpKind::SyncDir, "tables/table"));
        delete(&one, "table", 3).unwrap_err();
        assert!(first.is_dead());
        delete(&two, "table", 4).unwrap();
        // The last process to close the store writes a checkpoint.
        drop(two);
        let after = disk.power_cycle(&mut Random(seed));
        let snapshot = open(&after.process()).begin_read().unwrap();
        let table = snapshot.table_named("table").unwrap().unwrap();
        let view = snapshot.view(&table).unwrap().unwrap();
        assert!(!view.is_live(RowId(4)).unwrap() && view.is_live(RowId(3)).unwrap(), "seed {seed}");
    }
}

/// One process closes the store and another keeps it open while a third opens it. The third must
/// not assume that it is the only one and rebuild `control`, in which the second pins its
/// snapshots.
#[test]
fn nobody_recovers_what_another_has_open() {
    let disk = Disk::new();
    let (one, two) = (open(&disk.process()), open(&disk.process()));
    let seq = put(&one, "table", 24, 0..3, false, Durability::Sync);
    drop(one);
    let held = two.begin_read().unwrap();
    let three = open(&disk.process());
    put(&three, "table", 24, 3..4, false, Durability::Sync);
    let table = three.begin_read().unwrap().table_named("table").unwrap().unwrap();
    assert_eq!((table.oldest_visible_seq().0, held.seq().0), (seq, seq));
}

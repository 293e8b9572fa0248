//! Small cases for safeguards that the larger tests seldom or never need: each says what goes wrong without one. Which
//! test misses which safeguard is in `docs/removed.md`.

use std::sync::Arc;

use pongo_core::engine::{Batch, Durability, Engine, TableBatch};
use pongo_core::error::OpenError;
use pongo_core::fields::{HeapRead, content_hash};
use pongo_core::ids::RowId;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_sim::{Disk, Kind, Plan, Process, Random};

use crate::indexer::MapIndexer;
use crate::model::{Row, bytes, schema};
use crate::rot::files;
use crate::work::options;

fn try_open(process: &Arc<Process>) -> Result<Arc<Engine>, OpenError> {
    Engine::open(process.storage(), options(), Arc::new(MapIndexer::default()))
}

fn open(process: &Arc<Process>) -> Arc<Engine> {
    try_open(process).unwrap()
}

fn row(key: u64, size: usize) -> Vec<u8> {
    Row { key, seed: key, previous: None, dead: false }.bytes(size)
}

/// Commits rows with these keys, which are cited if `bulk`.
fn put(
    engine: &Arc<Engine>,
    table: &str,
    size: usize,
    keys: std::ops::Range<u64>,
    bulk: bool,
    durability: Durability,
) -> u64 {
    let mut guard = engine.begin_write().unwrap();
    let table = match guard.table_named(table).unwrap() {
        Some(table) => table,
        None => guard.create_table(schema(table, size)).unwrap(),
    };
    let rows: Vec<u8> = keys.flat_map(|key| row(key, size)).collect();
    if bulk {
        guard.append(&table, &rows).unwrap();
    }
    let rows = if bulk { &[][..] } else { &rows };
    let part = TableBatch { table, rows, hashes: &[], previous: Vec::new(), deaths: Vec::new() };
    guard.commit(&Batch { tables: vec![part], heap: &[] }, durability).unwrap().0
}

fn copy(from: &dyn Storage, path: &str, to: &dyn Storage, other: &str) {
    let file = from.open(path).unwrap();
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut content, 0).unwrap();
    to.remove(other).unwrap();
    to.create(other).unwrap().write_at(&content, 0).unwrap();
}

fn swap(storage: &dyn Storage, one: &str, other: &str) {
    storage.rename(one, "aside").unwrap();
    storage.rename(other, one).unwrap();
    storage.rename("aside", other).unwrap();
}

/// A snapshot that was asked for as durable shows a relaxed commit: without a sync the power takes it.
#[test]
fn what_a_durable_read_shows_survives_a_cut() {
    for seed in 0..16 {
        let disk = Disk::new();
        let engine = open(&disk.process());
        put(&engine, "table", 24, 0..3, false, Durability::Sync);
        let relaxed = put(&engine, "table", 24, 3..5, false, Durability::Relaxed);
        assert_eq!(engine.begin_durable_read().unwrap().seq().0, relaxed);
        let after = disk.reboot(&mut Random(seed));
        assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, relaxed, "seed {seed}");
    }
}

/// A process dies between the entry of its commit and its sync. The next one publishes that commit: without a sync of its
/// own it shows, as durable, what the power takes.
#[test]
fn what_is_taken_over_from_the_dead_survives_a_cut() {
    for seed in 0..16 {
        let disk = Disk::new();
        let first = disk.process();
        let (one, two) = (open(&first), open(&disk.process()));
        put(&one, "table", 24, 0..3, false, Durability::Sync);
        disk.plan(seed, |_| Plan::KillOn(Kind::Sync, "journal"));
        let guard = one.begin_write().unwrap();
        let table = guard.table_named("table").unwrap().unwrap();
        let rows = row(3, 24);
        let part = TableBatch { table, rows: &rows, hashes: &[], previous: Vec::new(), deaths: Vec::new() };
        guard.commit(&Batch { tables: vec![part], heap: &[] }, Durability::Sync).unwrap_err();
        assert!(first.is_dead());
        drop(two.begin_write().unwrap());
        let shown = two.begin_durable_read().unwrap().seq().0;
        assert_eq!(shown, 2, "the entry was written, so the commit is rolled forward");
        let after = disk.reboot(&mut Random(seed));
        assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, shown, "seed {seed}");
    }
}

/// Heap bytes that do not fit an entry are cited: if they are not on disk before it, a cut leaves an entry that cites
/// nothing.
#[test]
fn a_large_item_survives_a_cut() {
    for seed in 0..8 {
        let disk = Disk::new();
        let engine = open(&disk.process());
        let content = bytes(seed, (1 << 20) + 999);
        let guard = engine.begin_write().unwrap();
        let mut staged = Vec::new();
        let addr = guard.stage_heap(&mut staged, &content);
        guard.commit(&Batch { tables: Vec::new(), heap: &staged }, Durability::Sync).unwrap();
        let after = disk.reboot(&mut Random(seed));
        let snapshot = open(&after.process()).begin_read().unwrap();
        let found = snapshot.read_heap(addr, content.len() as u32, content_hash(&content));
        assert!(found.unwrap() == content, "seed {seed}");
    }
}

/// The power goes at any operation while a store is made. A `super` without one of the folders beside it, or the other way
/// round, must not keep the next one from making or opening it; and once a store was opened it stays one.
#[test]
fn a_store_that_is_being_made_survives_a_cut() {
    let whole = Disk::new();
    let (began, engine) = (whole.operations(), open(&whole.process()));
    let operations = whole.operations() - began;
    drop(engine);
    for at in 0..operations {
        for seed in 0..24 {
            let disk = Disk::new();
            disk.plan(seed, |now| Plan::Cut(now + at));
            drop(try_open(&disk.process()));
            let after = disk.reboot(&mut Random(seed));
            let engine = open(&after.process());
            put(&engine, "table", 24, 0..3, false, Durability::Sync);
            let after = after.reboot(&mut Random(seed + 100));
            assert_eq!(open(&after.process()).begin_read().unwrap().seq().0, 1, "cut at {at}, seed {seed}");
        }
    }
}

/// A process dies when a store has its name, and before the name is durable. The next one opens it and commits: it must
/// make the name durable, or a cut takes the store with everything in it.
#[test]
fn a_store_that_the_dead_made_survives_a_cut() {
    let whole = Disk::new();
    let (began, engine) = (whole.operations(), open(&whole.process()));
    let operations = whole.operations() - began;
    drop(engine);
    for at in 0..operations {
        for seed in 0..8 {
            let disk = Disk::new();
            disk.plan(seed, |now| Plan::Kill(now + at));
            drop(try_open(&disk.process()));
            disk.plan(seed, |_| Plan::Nothing);
            let engine = open(&disk.process());
            put(&engine, "table", 24, 0..3, false, Durability::Sync);
            let after = disk.reboot(&mut Random(seed));
            assert_eq!(
                open(&after.process()).begin_read().unwrap().seq().0,
                1,
                "killed at {at}, seed {seed}"
            );
        }
    }
}

/// Two tables of one layout, filled by bulk loads of which there are no checksums yet: their chunks, exchanged, are
/// whole and right, but for what their headers say of whose they are.
#[test]
fn chunks_that_changed_places_are_noticed() {
    let disk = Disk::new();
    let process = disk.process();
    let engine = open(&process);
    put(&engine, "one", 24, 0..300, true, Durability::Sync);
    put(&engine, "two", 24, 1000..1300, true, Durability::Sync);
    process.kill();
    drop(engine);
    swap(&**disk.inner(), "tables/one/0.chunk", "tables/two/0.chunk");
    let message = try_open(&disk.process()).unwrap_err().to_string();
    assert!(message.contains(".chunk"), "{message}");
    // What was damaged is still there: put right, it opens.
    swap(&**disk.inner(), "tables/one/0.chunk", "tables/two/0.chunk");
    assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, 2);
}

/// The same for marks: those of rows that died since the checkpoint have no checksum.
#[test]
fn marks_that_changed_places_are_noticed() {
    let disk = Disk::new();
    let process = disk.process();
    let engine = open(&process);
    for table in ["one", "two"] {
        put(&engine, table, 24, 0..300, true, Durability::Sync);
    }
    for (name, dead) in [("one", 7), ("two", 8)] {
        let guard = engine.begin_write().unwrap();
        let table = guard.table_named(name).unwrap().unwrap();
        let deaths = vec![RowId(dead)];
        let part = TableBatch { table, rows: &[], hashes: &[], previous: Vec::new(), deaths };
        guard.commit(&Batch { tables: vec![part], heap: &[] }, Durability::Sync).unwrap();
    }
    process.kill();
    drop(engine);
    swap(&**disk.inner(), "tables/one/0.marks", "tables/two/0.marks");
    let message = try_open(&disk.process()).unwrap_err().to_string();
    assert!(message.contains(".marks"), "{message}");
}

/// A schema file with a right checksum and of the right name, but another layout: rows would be read as what they are not.
#[test]
fn a_schema_of_another_layout_is_noticed() {
    let other = MemoryStorage::new();
    let other: Arc<dyn Storage> = Arc::new(other);
    let engine = Engine::open(Arc::clone(&other), options(), Arc::new(MapIndexer::default())).unwrap();
    put(&engine, "table", 32, 0..1, false, Durability::Sync);
    // Behind a checkpoint the table is in the checkpoint; before one, in the entry of its commit.
    for checkpointed in [false, true] {
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        let mut guard = engine.begin_write().unwrap();
        guard.create_table(schema("table", 24)).unwrap();
        guard.commit(&Batch::default(), Durability::Sync).unwrap();
        if !checkpointed {
            process.kill();
        }
        drop(engine);
        let path = "schema/0.1.schema";
        copy(&*other, path, &**disk.inner(), path);
        let message = try_open(&disk.process()).unwrap_err().to_string();
        assert!(message.contains("layout"), "{message}");
    }
}

/// A journal in which a commit is missing although every entry in it has a right checksum: what follows must not be
/// applied to a store that lacks what it builds on.
#[test]
fn a_gap_between_commits_is_noticed() {
    const LAST_SEQ: usize = 6 * 8;
    let disk = Disk::new();
    let process = disk.process();
    let engine = open(&process);
    for key in 0..3 {
        put(&engine, "table", 24, key..key + 1, false, Durability::Sync);
    }
    process.kill();
    drop(engine);
    let mut paths = Vec::new();
    files(&**disk.inner(), "journal", &mut paths);
    let path = paths.iter().filter(|path| path.ends_with(".log")).max().unwrap();
    let file = disk.inner().open(path).unwrap();
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut content, 0).unwrap();
    let entries: Vec<usize> =
        (0..content.len()).step_by(8).filter(|&at| content[at..].starts_with(b"PJENTRY1")).collect();
    let last = *entries.last().unwrap();
    let len = u64::from_le_bytes(content[last + 8..last + 16].try_into().unwrap()) as usize;
    let entry = &mut content[last..last + len];
    entry[LAST_SEQ] += 1;
    entry[56..64].fill(0);
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(entry, 0x6a6f_7572);
    entry[56..64].copy_from_slice(&sum.to_le_bytes());
    file.write_at(entry, last as u64).unwrap();
    let message = try_open(&disk.process()).unwrap_err().to_string();
    assert!(message.contains("Seq 4 behind Seq 2"), "{message}");
}

/// More snapshots than a process has slots, and another process that asks what may still be seen.
#[test]
fn every_snapshot_of_every_process_is_seen() {
    let disk = Disk::new();
    let (one, two) = (open(&disk.process()), open(&disk.process()));
    let mut snapshots = Vec::new();
    for key in 0..100 {
        put(&one, "table", 24, key..key + 1, false, Durability::Sync);
        snapshots.push(one.begin_read().unwrap());
    }
    let table = two.begin_read().unwrap().table_named("table").unwrap().unwrap();
    // Oldest first: at last only those are left that share a slot.
    for snapshot in snapshots {
        assert_eq!(table.seen_from(), snapshot.seq());
        drop(snapshot);
    }
    assert_eq!(table.seen_from().0, 100);
    // Each has slots of its own: neither takes those of the other, which lives.
    let held = [two.begin_read().unwrap(), one.begin_read().unwrap()];
    put(&one, "table", 24, 200..201, false, Durability::Sync);
    let three = open(&disk.process());
    assert_eq!(table.seen_from().0, 100);
    drop((held, three));
    assert_eq!(table.seen_from().0, 101);
}

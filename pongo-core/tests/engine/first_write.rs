//! Recovery after the first write to a closed store, or its close, was interrupted; and names that
//! were recreated or removed and are not durable.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pongo_core::Sizes;
use pongo_core::engine::{Durability, Engine, EngineOptions, TableWriteBatch, WriteBatch};
use pongo_core::error::OpenError;
use pongo_core::ids::RowId;
use pongo_sim::{CrashPolicy, Disk, FaultPlan, Image, OpKind, Process, Random};

use crate::corruption::files;
use crate::indexer::MapIndexer;
use crate::model::schema;
use crate::mutation_gaps::{dead_behind_an_entry, open, put, row};
use crate::work::options;

/// Uses segments of one page, so that a checkpoint often starts a new one.
fn small() -> EngineOptions {
    EngineOptions { sizes: Sizes { segment: 4096, ..options().sizes }, ..options() }
}

/// Opens the store with an index that trusts a clean close.
fn try_open(process: &Arc<Process>) -> Result<Arc<Engine>, OpenError> {
    Engine::open(process.storage(), small(), Arc::new(MapIndexer::trusting()))
}

/// Creates a cleanly closed store with this many rows, all from one commit.
fn closed(rows: u64) -> Disk {
    let disk = Disk::new();
    let engine = try_open(&disk.process()).unwrap();
    put(&engine, "table", 24, 0..rows, false, Durability::Sync);
    engine.close().unwrap();
    drop(engine);
    disk
}

/// Opens the store for writing with a process that is killed at an operation. Returns whether that
/// was before the write could start.
fn begin_and_die(disk: &Disk, at: u64) -> bool {
    let process = disk.process();
    let engine = try_open(&process).unwrap();
    disk.plan(at, |now| FaultPlan::Kill(now + at));
    // Nothing is written before the first change.
    let begun = engine.begin_write().is_ok_and(|guard| {
        let table = guard.table_named("table").ok().flatten();
        table.is_some_and(|table| guard.append(&table, &[]).is_ok())
    });
    disk.plan(0, |_| FaultPlan::Nothing);
    drop(engine);
    !begun && process.is_dead()
}

fn segments(disk: &Disk) -> usize {
    let mut found = Vec::new();
    files(&**disk.inner(), "journal", &mut found);
    found.iter().filter(|path| path.ends_with(".log")).count()
}

/// Returns numbers of rows for which the first checkpoint starts a segment, and some for which it
/// does not.
fn fillings() -> Vec<u64> {
    let rolls = |rows: &u64| {
        let more = |at| {
            let disk = closed(*rows);
            let before = segments(&disk);
            begin_and_die(&disk, at).then(|| segments(&disk) > before)
        };
        // Killed before it can remove the previous segment.
        (0..).map_while(more).any(|more| more)
    };
    let mut fillings: Vec<u64> = (120..170).filter(rolls).take(1).collect();
    assert_eq!(fillings.len(), 1, "one of them does");
    fillings.extend((60..100).filter(|rows| !rolls(rows)).take(2));
    fillings
}

/// Cuts the power at every operation of `work` and opens the result each time: at least `least()`
/// commits must be present.
fn cut_everywhere(disk: &Disk, case: &str, least: impl Fn() -> u64 + Send + 'static, work: impl FnOnce()) {
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&wrong);
    disk.watch(move |moment| {
        for (number, leave) in [CrashPolicy::Oldest, CrashPolicy::Any, CrashPolicy::Any, CrashPolicy::Few]
            .into_iter()
            .enumerate()
        {
            let left = moment.image(&mut Random(moment.number() << 8 | number as u64), leave).disk();
            let outcome = match try_open(&left.process()) {
                Ok(engine) if engine.begin_read().unwrap().seq().0 >= least() => continue,
                Ok(engine) => format!("found {}", engine.begin_read().unwrap().seq()),
                Err(error) => error.to_string(),
            };
            found.lock().unwrap().push(format!("cut at {moment:?}, {leave:?}: {outcome}"));
        }
    });
    work();
    disk.unwatch();
    let wrong = wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{case}: {} cuts, the first {}", wrong.len(), wrong[0]);
}

/// A process that afterwards only reads and closes the store must keep all files that `super`
/// names.
#[test]
fn killed_first_write_leaves_readable_store() {
    for rows in fillings() {
        let mut crashed = 0;
        for at in 0.. {
            let disk = closed(rows);
            if !begin_and_die(&disk, at) {
                break;
            }
            crashed += 1;
            for time in 0..3 {
                let engine = try_open(&disk.process()).unwrap_or_else(|error| {
                    panic!("{rows} rows, killed at {at}, opened {time} times before: {error}")
                });
                assert_eq!(engine.begin_read().unwrap().seq().0, 1);
                engine.close().unwrap();
            }
        }
        assert!(crashed > 4, "{crashed} operations");
    }
}

/// A later writer must not rely on what the killed process did not sync: its entry and the name of
/// its segment.
#[test]
fn killed_first_write_is_not_trusted() {
    for rows in fillings() {
        let mut tried = 0;
        for at in 0.. {
            let disk = closed(rows);
            if !begin_and_die(&disk, at) {
                break;
            }
            let done = Arc::new(AtomicU64::new(1));
            let acknowledged = Arc::clone(&done);
            let least = move || acknowledged.load(Ordering::SeqCst);
            cut_everywhere(&disk, &format!("{rows} rows, killed at {at}"), least, || {
                let engine = try_open(&disk.process()).unwrap();
                for key in 1000..1002 {
                    let seq = put(&engine, "table", 24, key..key + 1, false, Durability::Sync);
                    done.store(seq, Ordering::SeqCst);
                }
                engine.close().unwrap();
            });
            tried += 1;
        }
        assert!(tried > 4, "{tried} operations");
    }
}

/// A process is killed after writing the entry of its commit. Another one, which only has the store
/// open, takes over when it closes, and the sync of that entry fails. A second close must not
/// succeed by assuming that the entry is durable.
#[test]
fn failed_close_sync_is_not_trusted() {
    for seed in 0..12 {
        let disk = Disk::new();
        let two = dead_behind_an_entry(&disk, seed);
        disk.plan(seed, |_| FaultPlan::FailOn(OpKind::Sync, "journal", ErrorKind::Other));
        two.close().unwrap_err();
        disk.plan(seed, |_| FaultPlan::Nothing);
        // Closes the store once more.
        cut_everywhere(&disk, "", || 1, || drop(two));
        assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, 2);
    }
}

/// Copies the store without its empty folders, as some copy programs do.
fn copy_of(disk: &Disk) -> Disk {
    let mut image = Image::of(&**disk.inner()).unwrap();
    loop {
        let folders: Vec<String> = image.folders().map(str::to_owned).collect();
        let is_empty = |folder: &&String| {
            let inside = format!("{folder}/");
            !image.files().any(|(path, _)| path.starts_with(&inside))
                && !folders.iter().any(|other| other.starts_with(&inside))
        };
        let Some(empty) = folders.iter().find(is_empty).cloned() else { return image.disk() };
        image.remove(&empty);
    }
}

/// Empty folders are recreated when the store is opened. Commits store data in them, so their names
/// must be durable by then.
#[test]
fn recreated_folders_survive_a_cut() {
    for (tables, made, text) in [
        (0, true, false),
        (0, true, true),
        (1, false, false),
        (1, false, true),
        (1, true, true),
        (2, false, true),
    ] {
        for seed in 0..24 {
            let disk = Disk::new();
            let engine = try_open(&disk.process()).unwrap();
            for table in 0..tables {
                let guard = engine.begin_write().unwrap();
                guard.create_table(schema(&format!("table{table}"), 24)).unwrap();
                guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
            }
            drop(engine);
            let disk = copy_of(&disk);
            assert!(disk.inner().list("tables").is_err() && disk.inner().list("heap").is_err());
            let engine = try_open(&disk.process()).unwrap();
            let guard = engine.begin_write().unwrap();
            if made {
                guard.create_table(schema("made", 24)).unwrap();
            }
            if text {
                let _ = guard.stage_heap(b"a text").unwrap();
            }
            let mut batch = WriteBatch::default();
            let rows = row(7, 24);
            if tables > 0 && !made {
                let table = guard.table_named("table0").unwrap().unwrap();
                let (previous, deleted_rows) = (Vec::new(), Vec::new());
                batch.tables.push(TableWriteBatch {
                    table,
                    rows: &rows,
                    hashes: &[],
                    previous,
                    deleted_rows,
                });
            }
            let seq = guard.commit(&batch, Durability::Sync).unwrap();
            let after = disk.power_cycle(&mut Random(seed));
            let case = format!("{tables} tables, one made: {made}, a text: {text}, seed {seed}");
            let engine = try_open(&after.process()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(engine.begin_read().unwrap().seq(), seq, "{case}");
        }
    }
}

/// The same for a store that was killed and whose table is only in the journal.
#[test]
fn copy_without_empty_folders_opens() {
    let disk = Disk::new();
    let process = disk.process();
    let engine = open(&process);
    let guard = engine.begin_write().unwrap();
    guard.create_table(schema("table", 24)).unwrap();
    guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
    process.kill();
    drop(engine);
    let engine = open(&copy_of(&disk).process());
    put(&engine, "table", 24, 0..3, false, Durability::Sync);
}

/// A table with a deleted row is lost in a power cut and created again. The files in its folder are
/// removed and must not reappear after another power cut: marks of rows that do not exist would be
/// reported as corruption.
#[test]
fn files_of_lost_table_stay_deleted() {
    let mut lost = 0;
    for seed in 0..400 {
        let disk = Disk::new();
        let engine = try_open(&disk.process()).unwrap();
        put(&engine, "table", 24, 0..3, false, Durability::Relaxed);
        let guard = engine.begin_write().unwrap();
        let table = guard.table_named("table").unwrap().unwrap();
        let deleted_rows = vec![RowId(1)];
        let part = TableWriteBatch { table, rows: &[], hashes: &[], previous: Vec::new(), deleted_rows };
        guard.commit(&WriteBatch { tables: vec![part] }, Durability::Relaxed).unwrap();
        let disk = disk.power_cycle(&mut Random(seed));
        drop(engine);

        let engine = try_open(&disk.process()).unwrap();
        let is_lost = engine.begin_read().unwrap().seq().0 == 0;
        if !is_lost || disk.inner().open("tables/table/0.marks").is_err() {
            continue;
        }
        lost += 1;
        let guard = engine.begin_write().unwrap();
        guard.create_table(schema("table", 24)).unwrap();
        guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
        engine.close().unwrap();
        let disk = disk.power_cycle(&mut Random(seed + 1000));
        drop(engine);
        let engine = try_open(&disk.process()).unwrap();
        let begun = engine.begin_write();
        assert!(begun.is_ok(), "seed {seed}: {}", begun.unwrap_err());
        drop(begun);
        put(&engine, "table", 24, 0..3, false, Durability::Sync);
    }
    assert!(lost > 20, "{lost} cuts lost the table and kept its marks");
}

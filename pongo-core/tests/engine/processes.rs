//! Several engines on one store, as in several processes, and several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pongo_core::engine::{Durability, Engine, TableWriteBatch, WriteBatch};
use pongo_core::ids::RowId;
use pongo_core::storage::{LockMode, MemoryStorage, RealStorage, Storage};

use crate::indexer::MapIndexer;
use crate::model::{Model, Row, schema};
use crate::work::{SMALL, arbitrary, options};
use pongo_sim::Random;
use pongo_sim::{Disk, FaultPlan, OpKind, Process};

fn open(storage: Arc<dyn Storage>) -> Arc<Engine> {
    Engine::open(storage, options(), Arc::new(MapIndexer::default())).unwrap()
}

/// Runs a check on a folder in memory and on one on the disk. The check receives a function that
/// returns the storage of a new process.
fn on_both(check: impl Fn(&dyn Fn() -> Arc<dyn Storage>)) {
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    check(&|| Arc::clone(&memory));
    let folder = tempfile::tempdir().unwrap();
    check(&|| Arc::new(RealStorage::create(folder.path().join("store")).unwrap()));
}

#[test]
fn processes_write_in_turn() {
    on_both(|storage| {
        let mut random = Random(51);
        let mut model = Model::default();
        let mut engines = vec![open(storage())];
        let mut kept = Vec::new();
        for round in 0..90 {
            if round % 20 == 7 {
                engines.push(open(storage()));
            }
            if round == 70 {
                engines.remove(0);
            }
            let writer = random.below(engines.len() as u64) as usize;
            let transaction = arbitrary(&model, &mut random, SMALL);
            transaction.commit(&engines[writer]).unwrap();
            model = transaction.after;
            for engine in &engines {
                model.check(&engine.begin_read().unwrap());
            }
            if round % 10 == 0 {
                kept.extend(engines.iter().map(|engine| (engine.begin_read().unwrap(), model.clone())));
            }
        }
        kept.iter().for_each(|(snapshot, model)| model.check(snapshot));
        drop((engines, kept));
        model.check(&open(storage()).begin_read().unwrap());
    });
}

/// A reader that was idle for a long time must see deletions in chunks that it has not opened yet.
#[test]
fn marks_of_new_chunks_are_seen() {
    on_both(|storage| {
        let (writer, reader) = (open(storage()), open(storage()));
        let mut random = Random(52);
        let mut model = Model::default();
        for _ in 0..3 {
            let transaction = arbitrary(&model, &mut random, SMALL);
            transaction.commit(&writer).unwrap();
            model = transaction.after;
        }
        let mut old = Vec::new();
        for round in 0..60 {
            if round % 5 == 0 {
                old.push((reader.begin_read().unwrap(), model.clone()));
            }
            let bulk = crate::work::Mix { bulk: 2, ..SMALL };
            let transaction = arbitrary(&model, &mut random, bulk);
            transaction.commit(&writer).unwrap();
            model = transaction.after;
            if round % 5 == 4 {
                // Checks the oldest snapshot, read here for the first time, and then a new one.
                let (snapshot, at) = old.last().unwrap();
                at.check(snapshot);
                model.check(&reader.begin_read().unwrap());
            }
        }
    });
}

fn take_over_at(seed: u64, at: u64, cut_later: bool) -> bool {
    let disk = Disk::new();
    let mut random = Random(seed);
    let mut model = Model::default();
    let (first, second) = (disk.process(), disk.process());
    let (one, two) = (open(first.storage()), open(second.storage()));
    for engine in [&one, &two, &one] {
        let transaction = arbitrary(&model, &mut random, SMALL);
        transaction.commit(engine).unwrap();
        model = transaction.after;
    }
    let mut tried = vec![model.clone()];
    disk.plan(0, |now| FaultPlan::Kill(now + at));
    for _ in 0..4 {
        let transaction = arbitrary(&model, &mut random, SMALL);
        let result = transaction.commit(&one);
        tried.push(transaction.after.clone());
        // A killed process acknowledges nothing: its writes had no effect.
        if result.is_err() || first.is_dead() {
            break;
        }
        model = transaction.after;
        tried = vec![model.clone()];
    }
    let crashed = first.is_dead();
    disk.plan(0, |_| FaultPlan::Nothing);
    first.kill();
    drop(one);
    model = after_take_over(&two, &tried);
    for _ in 0..2 {
        let mut transaction = arbitrary(&model, &mut random, SMALL);
        transaction.durability = Durability::Sync;
        transaction.commit(&two).unwrap();
        model = transaction.after;
        model.check(&two.begin_read().unwrap());
    }
    let third = open_or_reboot(&disk, &second, two, cut_later, &mut random);
    model.check(&third.begin_read().unwrap());
    crashed
}

/// Lets a process roll the store forward and returns the resulting state.
fn after_take_over(engine: &Arc<Engine>, tried: &[Model]) -> Model {
    let seen = engine.begin_read().unwrap().seq().0;
    assert!(tried.iter().any(|model| model.seq == seen), "Seq {seen} is seen before the take-over");
    drop(engine.begin_write().unwrap());
    let snapshot = engine.begin_read().unwrap();
    assert!(snapshot.seq().0 >= seen);
    let found = tried.iter().find(|model| model.seq == snapshot.seq().0).expect("a state that was tried");
    found.check(&snapshot);
    found.clone()
}

fn open_or_reboot(
    disk: &Disk,
    second: &Arc<Process>,
    two: Arc<Engine>,
    cut: bool,
    random: &mut Random,
) -> Arc<Engine> {
    if !cut {
        return open(disk.process().storage());
    }
    second.kill();
    drop(two);
    open(disk.power_cycle(random).process().storage())
}

#[test]
fn killed_process_is_succeeded() {
    let mut crashed = 0;
    for at in 0..150 {
        let result = std::panic::catch_unwind(|| take_over_at(61 + at % 3, at, at % 2 == 0));
        assert!(result.is_ok(), "operation {at}");
        crashed += u64::from(result.unwrap());
    }
    assert!(crashed > 80, "{crashed} crashed");
}

const SIZE: usize = 64;

/// Commits `count` pairs of rows with keys that only this writer uses; returns the `Seq`s.
fn write_pairs(engine: &Arc<Engine>, writer: u64, count: u64, durability: Durability) -> Vec<u64> {
    let (seqs, all) = try_write_pairs(engine, writer, count, durability);
    assert!(all);
    seqs
}

/// Does the same until an operation fails; returns the acknowledged `Seq`s and whether all commits
/// succeeded.
fn try_write_pairs(
    engine: &Arc<Engine>,
    writer: u64,
    count: u64,
    durability: Durability,
) -> (Vec<u64>, bool) {
    let mut seqs = Vec::new();
    for i in 0..count {
        let Ok(guard) = engine.begin_write() else { return (seqs, false) };
        let Ok(table) = guard.table_named("pairs") else { return (seqs, false) };
        let table = table.unwrap();
        let mut rows = Vec::new();
        for half in 0..2 {
            let row = Row { key: writer << 32 | i << 1 | half, seed: i, previous: None, deleted: false };
            rows.extend_from_slice(&row.bytes(SIZE));
        }
        // This commit deletes the previous pair.
        let Ok(view) = guard.view(&table) else { return (seqs, false) };
        let first = view.len();
        let deleted_rows = if first > 0 { vec![RowId(first - 2), RowId(first - 1)] } else { Vec::new() };
        let previous = deleted_rows.iter().map(|old| (RowId(old.0 + 2), *old)).collect();
        let part = TableWriteBatch { table, rows: &rows, hashes: &[], previous, deleted_rows };
        match guard.commit(&WriteBatch { tables: vec![part] }, durability) {
            Ok(seq) => seqs.push(seq.0),
            Err(_) => return (seqs, false),
        }
    }
    (seqs, true)
}

/// Checks that the snapshot shows exactly one live pair, the last one, and no other row.
fn check_pairs(engine: &Arc<Engine>) -> u64 {
    let snapshot = engine.begin_read().unwrap();
    let table = snapshot.table_named("pairs").unwrap().unwrap();
    let view = snapshot.view(&table).unwrap().unwrap();
    assert_eq!(view.len(), 2 * (snapshot.seq().0 - 1));
    if view.is_empty() {
        return 0;
    }
    assert_eq!(view.live(), 2);
    let last = view.len() - 2;
    assert_eq!(view.next_run(RowId(0)).unwrap(), Some(RowId(last)..RowId(last + 2)));
    let key = |row| u64::from_le_bytes(view.row_bytes(RowId(row)).unwrap()[..8].try_into().unwrap());
    assert_eq!(key(last) | 1, key(last + 1));
    if last > 0 {
        assert_eq!(view.previous(RowId(last)).unwrap(), Some(RowId(last - 2)));
        assert!(!view.is_live(RowId(last - 1)).unwrap());
    }
    snapshot.seq().0
}

fn create_pairs(engine: &Arc<Engine>) {
    let guard = engine.begin_write().unwrap();
    guard.create_table(schema("pairs", SIZE)).unwrap();
    guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
}

/// Writes to each engine with `writers` threads while another thread per engine reads.
fn storm(engines: &[Arc<Engine>], writers: u64, count: u64, durability: Durability) {
    let done = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let mut seqs = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, engine) in engines.iter().enumerate() {
            for writer in 0..writers {
                let writer = number as u64 * writers + writer;
                threads.push(scope.spawn(move || write_pairs(engine, writer, count, durability)));
            }
            scope.spawn(|| {
                let mut last = 0;
                // At least once, even on a busy machine.
                loop {
                    let seq = check_pairs(engine);
                    assert!(seq >= last, "published `Seq`s never decrease");
                    last = seq;
                    reads.fetch_add(1, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let seqs: Vec<Vec<u64>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        seqs
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    for seqs in &seqs {
        assert!(seqs.is_sorted(), "one thread's commits come in their order");
    }
    let mut all: Vec<u64> = seqs.drain(..).flatten().collect();
    all.sort_unstable();
    let total = engines.len() as u64 * writers * count;
    assert_eq!(all, (2..total + 2).collect::<Vec<_>>(), "every `Seq` once");
    engines.iter().for_each(|engine| assert_eq!(check_pairs(engine), total + 1));
}

#[test]
fn threads_share_syncs() {
    let disk = Disk::new();
    let engine = open(disk.process().storage());
    create_pairs(&engine);
    disk.slow_down(2000);
    let before = disk.journal_syncs();
    storm(std::slice::from_ref(&engine), 8, 15, Durability::Sync);
    let syncs = disk.journal_syncs() - before;
    assert!(syncs < 8 * 15 / 2, "{syncs} syncs for {} commits", 8 * 15);
}

#[test]
fn threads_and_processes_at_once() {
    on_both(|storage| {
        let engines: Vec<_> = (0..3).map(|_| open(storage())).collect();
        create_pairs(&engines[0]);
        storm(&engines, 3, 60, Durability::Sync);
        drop(engines);
        check_pairs(&open(storage()));
    });
}

#[test]
fn relaxed_commits_of_threads_and_processes() {
    on_both(|storage| {
        let engines: Vec<_> = (0..2).map(|_| open(storage())).collect();
        create_pairs(&engines[0]);
        storm(&engines, 4, 100, Durability::Relaxed);
    });
}

/// Cuts the power while threads of two processes write: every commit that was acknowledged as
/// durable is present, and no commit is partly present.
#[test]
fn power_cut_under_threads_and_processes() {
    let mut cut = 0;
    for seed in 0..25 {
        let disk = Disk::new();
        let mut random = Random(seed);
        let processes = [disk.process(), disk.process()];
        let engines = processes.each_ref().map(|process| open(process.storage()));
        create_pairs(&engines[0]);
        let at = random.below(1500);
        disk.plan(seed, |now| FaultPlan::Cut(now + at));
        let mut acknowledged = 1;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, engine) in engines.iter().enumerate() {
                for writer in 0..3 {
                    let writer = number as u64 * 3 + writer;
                    threads.push(scope.spawn(move || try_write_pairs(engine, writer, 30, Durability::Sync)));
                }
            }
            for thread in threads {
                let (seqs, all) = thread.join().unwrap();
                acknowledged = acknowledged.max(seqs.last().copied().unwrap_or(0));
                cut += u64::from(!all);
            }
        });
        disk.plan(0, |_| FaultPlan::Nothing);
        let after = disk.power_cycle(&mut random);
        drop(engines);
        let engine = open(after.process().storage());
        assert!(check_pairs(&engine).max(1) >= acknowledged, "seed {seed}: {acknowledged} was acknowledged");
        write_on(&engine);
    }
    assert!(cut > 20, "{cut} threads were cut off");
}

fn write_on(engine: &Arc<Engine>) {
    let before = engine.begin_read().unwrap().seq();
    write_pairs(engine, 99, 3, Durability::Sync);
    assert_eq!(check_pairs(engine), before.0 + 3);
}

/// Commits rows of 1000 bytes with `count` keys from `first` on.
fn write_large(engine: &Arc<Engine>, first: u64, count: u64) -> bool {
    let rows: Vec<u8> = (first..first + count).flat_map(|key| large(key).bytes(1000)).collect();
    let Ok(guard) = engine.begin_write() else { return false };
    let table = guard.table_named("large").unwrap().unwrap();
    let part =
        TableWriteBatch { table, rows: &rows, hashes: &[], previous: Vec::new(), deleted_rows: Vec::new() };
    guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync).is_ok()
}

fn large(key: u64) -> Row {
    Row { key, seed: key, previous: None, deleted: false }
}

/// A process is killed after it created a file and before the file's name is durable. The next
/// process uses the file, and then the power is cut.
#[test]
fn names_of_killed_process_become_durable() {
    for (dir, recovered) in [("tables/large", false), ("tables/large", true), ("journal", false)] {
        for seed in 0..12 {
            let disk = Disk::new();
            let first = disk.process();
            let one = open(first.storage());
            let mut two = (!recovered).then(|| open(disk.process().storage()));
            let guard = one.begin_write().unwrap();
            guard.create_table(schema("large", 1000)).unwrap();
            guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
            assert!(write_large(&one, 0, 600));
            disk.plan(0, |_| FaultPlan::KillOn(OpKind::SyncDir, dir));
            let mut written = 600;
            while write_large(&one, written, 600) && !first.is_dead() {
                written += 600;
            }
            assert!(first.is_dead());
            let two = two.take().unwrap_or_else(|| open(disk.process().storage()));
            drop(two.begin_write().unwrap());
            let seq = two.begin_read().unwrap().seq().0;
            // All acknowledged commits, and possibly the last one.
            assert!([written / 600 + 1, written / 600 + 2].contains(&seq), "{seq} after {written} rows");
            let written = (seq - 1) * 600;
            // Too few rows for a checkpoint, which would make names durable too, and too many for
            // the existing chunks.
            assert!(write_large(&two, written, 190));
            let written = written + 190;
            let after = disk.power_cycle(&mut Random(seed));
            let engine = open(after.process().storage());
            let snapshot = engine.begin_read().unwrap();
            let table = snapshot.table_named("large").unwrap().unwrap();
            let view = snapshot.view(&table).unwrap().unwrap();
            assert_eq!(view.len(), written, "{dir}, recovered {recovered}, seed {seed}");
            for key in 0..written {
                assert!(view.row_bytes(RowId(key)).unwrap() == large(key).bytes(1000));
            }
        }
    }
}

/// A process that is alone writes without the lock. A process that joins in the meantime must still
/// wait.
#[test]
fn joining_process_waits_for_lone_writer() {
    on_both(|storage| {
        let first = open(storage());
        let guard = first.begin_write().unwrap();
        let second = open(storage());
        let entered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let guard = second.begin_write().unwrap();
                entered.store(true, Ordering::SeqCst);
                guard.applied().seq
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!entered.load(Ordering::SeqCst), "two write at the same time");
            guard.stage_heap(&[0; 8]).unwrap();
            let seq = guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
            assert_eq!(waits.join().unwrap(), seq);
        });
        // From now on both processes know of each other.
        let guard = first.begin_write().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| second.begin_write().map(|guard| guard.applied().seq));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waits.is_finished(), "two write at the same time");
            drop(guard);
            waits.join().unwrap().unwrap();
        });
    });
}

/// An earlier boot left `control` in the state "ready". A process that waits for the exclusive
/// owner, and finds that the owner exited before it did anything, must not trust this state.
#[test]
fn store_of_earlier_boot_is_recovered() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut random = Random(78);
    let transaction = arbitrary(&Model::default(), &mut random, SMALL);
    transaction.commit(&open(Arc::clone(&storage))).unwrap();
    let control = storage.open("control").unwrap();
    // Another identity, and a ring without any published state.
    let words = control.map_words(0, 8 * 12_800).unwrap();
    (16..20).for_each(|word| words.store(word, 77, Ordering::SeqCst));
    (4608..12_800).for_each(|word| words.store(word, 0, Ordering::SeqCst));
    let presence = (1 << 32, 1);
    assert!(control.try_lock(presence.0, presence.1, LockMode::Exclusive).unwrap());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| open(Arc::clone(&storage)));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waits.is_finished(), "one process has the store alone");
        control.unlock(presence.0, presence.1).unwrap();
        transaction.after.check(&waits.join().unwrap().begin_read().unwrap());
    });
}

/// The word that marks a lone process as busy remains after the process is killed. The released
/// lock on its slots shows that the process has exited.
#[test]
fn killed_lone_writer_blocks_no_process() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let disk = Disk::over(storage);
    for late in [false, true] {
        let first = disk.process();
        let engine = open(first.storage());
        let guard = engine.begin_write().unwrap();
        let second = open(disk.process().storage());
        let third = std::thread::scope(|scope| {
            let waits = scope.spawn(|| drop(second.begin_write().unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waits.is_finished(), "two write at the same time");
            first.kill();
            // Takes the slots of the killed process.
            let third = late.then(|| open(disk.process().storage()));
            waits.join().unwrap();
            third
        });
        if let Some(third) = third {
            drop(third.begin_write().unwrap());
        }
        drop((guard, engine));
    }
}

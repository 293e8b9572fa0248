//! Corrupted bytes: an error, never a panic, a hang or a wrong value; or the one documented case, a
//! damaged tail of the journal.

use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::storage::Storage;

use crate::indexer::MapIndexer;
use crate::model::{Model, bytes};
use crate::work::{Mix, arbitrary, options};
use pongo_sim::Disk;
use pongo_sim::Random;

pub(crate) const DURABLE: Mix = Mix { rows: 6, bulk: 4, relaxed: u64::MAX };

/// Creates a store with a checkpoint in the middle; returns it with every state it was in.
fn store(seed: u64, clean: bool) -> (Disk, Vec<Model>) {
    store_of(14, seed, clean)
}

pub(crate) fn store_of(commits: usize, seed: u64, clean: bool) -> (Disk, Vec<Model>) {
    let disk = Disk::new();
    let process = disk.process();
    let engine = Engine::open(process.storage(), options(), Arc::new(MapIndexer::default())).unwrap();
    let mut random = Random(seed);
    let mut models = vec![Model::default()];
    for _ in 0..commits {
        let transaction = arbitrary(models.last().unwrap(), &mut random, DURABLE);
        transaction.commit(&engine).unwrap();
        models.push(transaction.after);
    }
    if !clean {
        process.kill();
    }
    drop(engine);
    (disk, models)
}

/// Checks that everything that can be read is correct; returns the number of read errors.
pub(crate) fn check_readable(model: &Model, engine: &Arc<Engine>) -> usize {
    let mut errors = 0;
    let snapshot = engine.begin_read().unwrap();
    for table in &model.tables {
        let Ok(core) = snapshot.table_named(&table.name) else {
            errors += 1;
            continue;
        };
        let core = core.expect("a table of the model");
        let Ok(view) = snapshot.view(&core) else {
            errors += 1;
            continue;
        };
        let view = view.expect("a table of this snapshot");
        assert_eq!(view.len(), table.rows.len() as u64);
        let dead = table.rows.iter().filter(|row| row.deleted).count() as u64;
        assert_eq!(view.live(), table.rows.len() as u64 - dead);
        for (id, row) in table.rows.iter().enumerate() {
            match view.is_live(RowId(id as u64)) {
                Ok(found) => assert_eq!(found, !row.deleted, "row {id} of {}", table.name),
                Err(_) => errors += 1,
            }
            match view.previous(RowId(id as u64)) {
                Ok(found) => assert_eq!(found, row.previous.map(RowId), "row {id} of {}", table.name),
                Err(_) => errors += 1,
            }
            match view.row_bytes(RowId(id as u64)) {
                Ok(found) => assert!(found == row.bytes(table.size), "row {id} of {}", table.name),
                Err(_) => errors += 1,
            }
        }
        let mut from = RowId(0);
        let mut live = 0;
        let all = loop {
            match view.next_run(from) {
                Ok(Some(run)) => {
                    assert!(run.end > run.start && run.start >= from);
                    live += run.end.0 - run.start.0;
                    from = run.end;
                }
                Ok(None) => break Some(live),
                Err(_) => break None,
            }
        };
        match all {
            Some(live) => assert_eq!(live, view.live()),
            None => errors += 1,
        }
    }
    for item in &model.heap {
        let expected = bytes(item.seed, item.len);
        let hash = pongo_core::fields::content_hash(&expected);
        match snapshot.read_heap(item.addr, item.len as u32, hash) {
            Ok(found) => assert!(found == expected),
            Err(_) => errors += 1,
        }
    }
    errors
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    unreadable: usize,
    tail: usize,
    harmless: usize,
}

/// Opens a damaged store. If `newest_only` is set, a store that opens must have the newest commit.
fn open_damaged(disk: &Disk, models: &[Model], newest_only: bool, outcomes: &mut Outcomes) {
    let process = disk.process();
    let opened = Engine::open(process.storage(), options(), Arc::new(MapIndexer::default()));
    let Ok(engine) = opened else {
        outcomes.refused += 1;
        return;
    };
    let seq = engine.begin_read().unwrap().seq().0 as usize;
    let newest = models.len() - 1;
    assert!(seq == newest || (!newest_only && seq + 1 == newest), "found {seq} of {newest} commits");
    let errors = check_readable(&models[seq], &engine);
    match (errors, seq == newest) {
        (0, true) => outcomes.harmless += 1,
        (0, false) => outcomes.tail += 1,
        _ => outcomes.unreadable += 1,
    }
    process.kill();
}

pub(crate) fn files(storage: &dyn Storage, dir: &str, found: &mut Vec<String>) {
    for name in storage.list(dir).unwrap() {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        if storage.list(&path).is_ok() { files(storage, &path, found) } else { found.push(path) }
    }
}

/// Flips a bit of a file at a random position, often in the header or the used part. Returns the
/// position and the original byte.
fn flip(storage: &dyn Storage, path: &str, random: &mut Random) -> (u64, u8) {
    let file = storage.open(path).unwrap();
    let len = file.len().unwrap();
    let mut content = vec![0; len as usize];
    file.read_at(&mut content, 0).unwrap();
    let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64);
    let at = match random.below(4) {
        0 => random.below(len.min(96)),
        1 => random.below(len),
        _ => random.below(used + 1),
    };
    let was = content[at as usize];
    file.write_at(&[was ^ 1 << random.below(8)], at).unwrap();
    (at, was)
}

fn corrupt(
    wanted: impl Fn(&str) -> bool,
    reboot: bool,
    clean: bool,
    newest_only: bool,
    rounds: u64,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for seed in 0..rounds {
        let mut random = Random(seed ^ 0x0720);
        let (mut disk, models) = store(71 + seed % 5, clean);
        if reboot {
            disk = disk.power_cycle(&mut random);
        }
        let mut all = Vec::new();
        files(&**disk.inner(), "", &mut all);
        all.retain(|path| wanted(path));
        assert!(!all.is_empty());
        let path = &all[random.below(all.len() as u64) as usize];
        let (at, was) = flip(&**disk.inner(), path, &mut random);
        let before = format!("{outcomes:?}");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let refused = outcomes.refused;
            open_damaged(&disk, &models, newest_only, &mut outcomes);
            if outcomes.refused > refused {
                // A failed open changes nothing: with the byte restored, all data is present.
                disk.inner().open(path).unwrap().write_at(&[was], at).unwrap();
                let mut mended = Outcomes::default();
                open_damaged(&disk, &models, true, &mut mended);
                assert_eq!(mended.harmless, 1, "put back, {mended:?}");
            }
        }));
        assert!(result.is_ok(), "seed {seed}: {path} at {at}, {before}");
    }
    outcomes
}

#[test]
fn the_super_file() {
    let outcomes = corrupt(|path| path == "super", false, true, true, 60);
    assert!(outcomes.refused + outcomes.harmless == 60 && outcomes.harmless > 0, "{outcomes:?}");
}

/// Damages each slot in turn, after a power cut that brings back the journal of the previous
/// generation.
#[test]
fn super_slot_after_a_power_cut() {
    let mut outcomes = Outcomes::default();
    for seed in 0..60 {
        let mut random = Random(seed);
        let (disk, models) = store_of(2, 91 + seed % 7, false);
        let disk = disk.power_cycle(&mut random);
        let file = disk.inner().open("super").unwrap();
        let at = seed % 2 * 4096 + random.below(80);
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 4], at).unwrap();
        open_damaged(&disk, &models, true, &mut outcomes);
    }
    assert_eq!((outcomes.unreadable, outcomes.tail), (0, 0), "{outcomes:?}");
    assert!(outcomes.harmless > 0, "{outcomes:?}");
}

#[test]
fn the_journal_while_the_system_runs() {
    let outcomes = corrupt(|path| path.ends_with(".log"), false, false, true, 150);
    assert!(outcomes.refused > 20, "{outcomes:?}");
    assert_eq!((outcomes.unreadable, outcomes.tail), (0, 0));
}

#[test]
fn the_journal_after_a_power_cut() {
    let outcomes = corrupt(|path| path.ends_with(".log"), true, false, false, 150);
    assert!(outcomes.refused > 20, "{outcomes:?}");
    assert_eq!(outcomes.unreadable, 0);
}

#[test]
fn chunks_and_their_checksums() {
    let chunk = |path: &str| path.ends_with(".chunk") || path.ends_with(".sums");
    let outcomes = corrupt(chunk, false, true, true, 150);
    assert!(outcomes.refused > 20, "{outcomes:?}");
}

#[test]
fn corrupt_schemas_are_detected() {
    let outcomes = corrupt(|path| path.ends_with(".schema"), false, true, true, 60);
    assert_eq!(outcomes.refused, 60, "{outcomes:?}");
}

/// The process that opens the store alone rebuilds `control`: whatever it contains, nothing is
/// lost.
#[test]
fn the_control_file() {
    let outcomes = corrupt(|path| path == "control", false, false, true, 60);
    assert_eq!((outcomes.unreadable, outcomes.tail), (0, 0), "{outcomes:?}");
}

/// Truncates or removes a file.
#[test]
fn files_that_are_short_or_missing() {
    let mut refused = 0;
    for seed in 0..120 {
        let mut random = Random(seed);
        let (disk, models) = store(81 + seed % 3, seed % 2 == 0);
        let mut all = Vec::new();
        files(&**disk.inner(), "", &mut all);
        all.retain(|path| path != "control" && !path.ends_with(".spare"));
        let path = &all[random.below(all.len() as u64) as usize];
        if random.one_in(2) {
            disk.inner().remove(path).unwrap();
        } else {
            let file = disk.inner().open(path).unwrap();
            file.set_len(random.below(file.len().unwrap())).unwrap();
        }
        let mut outcomes = Outcomes::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            open_damaged(&disk, &models, true, &mut outcomes);
        }));
        assert!(result.is_ok(), "seed {seed}: {path}");
        refused += outcomes.refused;
    }
    assert!(refused > 60, "{refused}");
}

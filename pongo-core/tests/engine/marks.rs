//! Corrupted, truncated and missing marks files: either all marks that the newest checkpoint found
//! in them are read correctly, or an error is returned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::ids::RowId;
use pongo_core::storage::Storage;

use crate::corruption::{DURABLE, check_readable, files, store_of};
use crate::indexer::MapIndexer;
use crate::model::Model;
use crate::work::{arbitrary, options};
use pongo_sim::Random;
use pongo_sim::{Disk, FaultPlan};

const HEADER: u64 = 4096;

/// A word of a marks file, and the row to which it belongs.
#[derive(Clone, Debug)]
struct Word {
    path: String,
    at: u64,
    /// The word's row; `None` for words that pad a page.
    row: Option<u64>,
    deleted_at: bool,
    value: u64,
}

fn read(storage: &dyn Storage, path: &str) -> Vec<u64> {
    let file = storage.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn marks_files(disk: &Disk) -> Vec<String> {
    let mut all = Vec::new();
    files(&**disk.inner(), "", &mut all);
    all.retain(|path| path.ends_with(".marks"));
    assert!(!all.is_empty());
    all
}

/// Returns all words of all marks files.
fn words(disk: &Disk) -> Vec<Word> {
    let mut words = Vec::new();
    for path in marks_files(disk) {
        let content = read(&**disk.inner(), &path);
        let (first, rows) = (content[6], content[7]);
        let array = rows.next_multiple_of(512);
        for (i, &value) in content[HEADER as usize / 8..].iter().enumerate() {
            let i = i as u64;
            let row = (i % array < rows).then_some(first + i % array);
            words.push(Word { path: path.clone(), at: HEADER + i * 8, row, deleted_at: i < array, value });
        }
    }
    words
}

impl Word {
    fn write(&self, disk: &Disk, value: u64) {
        disk.inner().open(&self.path).unwrap().write_at(&value.to_le_bytes(), self.at).unwrap();
    }

    /// Returns whether a checkpoint of this state would cover the word if its value were `value`.
    fn counts(&self, value: u64, checkpoint: &Model) -> bool {
        let name = self.path.split('/').nth(1).unwrap();
        let table = checkpoint.tables.iter().find(|table| table.name == name);
        let len = table.map_or(0, |table| table.rows.len() as u64);
        value != 0 && self.row.is_some_and(|row| row < len) && (!self.deleted_at || value <= checkpoint.seq)
    }
}

/// Opens the store and reads everything; returns whether there was an error. Panics on a wrong
/// value.
fn errs(disk: &Disk, model: &Model) -> bool {
    let process = disk.process();
    let opened = Engine::open(process.storage(), options(), Arc::new(MapIndexer::trusting()));
    let Ok(engine) = opened else { return true };
    let errors = check_readable(model, &engine);
    process.kill();
    errors > 0
}

/// Returns whether reading a damaged store results in an error. Panics with the case on a wrong
/// value.
fn errs_after(case: &dyn std::fmt::Debug, disk: &Disk, model: &Model) -> bool {
    let result = catch_unwind(AssertUnwindSafe(|| errs(disk, model)));
    result.unwrap_or_else(|_| panic!("{case:?}: a wrong value, see above"))
}

/// Returns corrupted values for a word: flipped bits, zero, a plausible `Seq`, and a random number.
fn rotten(word: &Word, seq: u64, random: &mut Random) -> Vec<u64> {
    let mut values = vec![word.value ^ 1 << random.below(64), word.value ^ 1 << random.below(5), 0];
    values.extend([1 + random.below(seq), random.next()]);
    values.retain(|&value| value != word.value);
    values
}

#[test]
fn each_corrupt_word_is_detected() {
    let mut noticed = 0;
    for seed in 0..3 {
        let mut random = Random(seed);
        let (disk, models) = store_of(10, 71 + seed, true);
        let newest = models.last().unwrap();
        assert!(!errs(&disk, newest));
        let all = words(&disk);
        // All words that are set, and about as many others.
        let set = all.iter().filter(|word| word.value != 0).count() as u64;
        let few = all.iter().filter(|word| word.value != 0 || random.below(all.len() as u64) < set);
        let few: Vec<_> = few.cloned().collect();
        for word in few {
            for value in rotten(&word, newest.seq, &mut random) {
                word.write(&disk, value);
                let found = errs_after(&(&word, value), &disk, newest);
                // Includes marks of a future commit and of a future row. Excludes words that only
                // pad a page.
                assert_eq!(found, word.row.is_some(), "{word:?} to {value}");
                noticed += u64::from(found);
            }
            word.write(&disk, word.value);
        }
        assert!(!errs(&disk, newest), "all is as it was");
    }
    assert!(noticed > 300, "{noticed}");
}

/// Returns a store that was closed, written again and killed, so that its newest checkpoint is some
/// commits old.
fn behind(seed: u64, commits: usize, reboot: bool) -> (Disk, Vec<Model>, usize) {
    let (disk, mut models) = store_of(9, seed, true);
    let checkpoint = models.len() - 1;
    let process = disk.process();
    let engine = Engine::open(process.storage(), options(), Arc::new(MapIndexer::default())).unwrap();
    // A seed that differs from the one of the earlier rows.
    let mut random = Random(!seed);
    for _ in 0..commits {
        let small = crate::work::Mix { bulk: u64::MAX, ..DURABLE };
        let transaction = arbitrary(models.last().unwrap(), &mut random, small);
        transaction.commit(&engine).unwrap();
        models.push(transaction.after);
    }
    process.kill();
    drop(engine);
    let disk = if reboot { disk.power_cycle(&mut random) } else { disk };
    (disk, models, checkpoint)
}

#[test]
fn corrupt_word_above_checkpoint_is_replayed() {
    let (mut noticed, mut replayed) = (0, 0);
    for round in 0..160 {
        let mut random = Random(round);
        let (disk, models, checkpoint) = behind(31 + round % 4, 4, round % 2 == 0);
        let (newest, checkpoint) = (models.last().unwrap(), &models[checkpoint]);
        let mut all = words(&disk);
        if round % 4 < 3 {
            all.retain(|word| word.value != 0);
        }
        let word = &all[random.below(all.len() as u64) as usize];
        let values = rotten(word, newest.seq, &mut random);
        let value = values[random.below(values.len() as u64) as usize];
        word.write(&disk, value);
        if word.counts(word.value, checkpoint) || word.counts(value, checkpoint) {
            assert!(errs_after(&(word, value), &disk, newest), "{word:?} to {value}");
            noticed += 1;
        } else if word.value != 0 || !word.counts(value, newest) {
            // Either the journal restores the word, or it is after everything that was committed.
            assert!(!errs_after(&(word, value), &disk, newest), "{word:?} to {value}");
            replayed += 1;
        }
    }
    assert!(noticed > 60 && replayed > 10, "{noticed} noticed, {replayed} replayed");
}

/// Returns whether a checkpoint covered marks of this file.
fn listed(disk: &Disk, path: &str, checkpoint: &Model) -> bool {
    words(disk).iter().any(|word| word.path == path && word.counts(word.value, checkpoint))
}

#[test]
fn short_and_missing_files_are_noticed() {
    let (mut missing, mut made_anew) = (0, 0);
    for round in 0..80 {
        let mut random = Random(round);
        let (disk, models, checkpoint) = match round % 2 {
            0 => {
                let (disk, models) = store_of(10, 71 + round % 5, true);
                let newest = models.len() - 1;
                (disk, models, newest)
            }
            _ => behind(31 + round % 5, 5, round % 4 == 1),
        };
        let newest = models.last().unwrap();
        let paths = marks_files(&disk);
        let path = &paths[random.below(paths.len() as u64) as usize];
        let file = disk.inner().open(path).unwrap();
        if random.one_in(2) {
            file.set_len(random.below(file.len().unwrap())).unwrap();
            assert!(errs_after(path, &disk, newest), "{path} cut short");
            continue;
        }
        let listed = listed(&disk, path, &models[checkpoint]);
        disk.inner().remove(path).unwrap();
        // Marks that no checkpoint covers are in the journal; a file without marks can be
        // recreated.
        assert_eq!(errs_after(path, &disk, newest), listed, "{path} removed");
        missing += u64::from(listed);
        made_anew += u64::from(!listed);
    }
    assert!(missing > 20 && made_anew > 0, "{missing} missing, {made_anew} rebuilt");
}

/// If a store with a missing marks file is read or written, each attempt must return an error that
/// names the file. The file must not be recreated.
#[test]
fn missing_file_is_named() {
    let (disk, models) = store_of(12, 72, true);
    let newest = models.last().unwrap();
    let gone = marks_files(&disk).into_iter().find(|path| listed(&disk, path, newest)).unwrap();
    let name = gone.split('/').nth(1).unwrap();
    disk.inner().remove(&gone).unwrap();
    for _ in 0..3 {
        let process = disk.process();
        // This test index reads all rows when the store is opened.
        let opened = Engine::open(process.storage(), options(), Arc::new(MapIndexer::default()));
        let message = opened.expect_err(name).to_string();
        assert!(message.contains(&gone), "{message}");
        process.kill();
        assert!(disk.inner().open(&gone).is_err());
    }
}

/// The list of checksums is carried from checkpoint to checkpoint, by several processes in turn,
/// and across power cuts.
#[test]
fn sums_survive_checkpoints_and_cuts() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut model = Model::default();
        let mut disk = Disk::new();
        for round in 0..6 {
            let processes = [disk.process(), disk.process()];
            let engines = processes.each_ref().map(|process| {
                Engine::open(process.storage(), options(), Arc::new(MapIndexer::default())).unwrap()
            });
            for _ in 0..12 {
                let engine = &engines[random.below(2) as usize];
                let transaction = arbitrary(&model, &mut random, DURABLE);
                transaction.commit(engine).unwrap();
                model = transaction.after;
            }
            if round % 2 == 0 {
                processes.iter().for_each(|process| process.kill());
            }
            drop(engines);
            if round % 3 == 0 {
                disk.plan(seed, |_| FaultPlan::Nothing);
                disk = disk.power_cycle(&mut random);
            }
            assert!(!errs(&disk, &model), "seed {seed}, round {round}");
        }
        let set: Vec<_> = words(&disk).into_iter().filter(|word| word.counts(word.value, &model)).collect();
        assert!(!set.is_empty());
    }
}

/// Marks are verified per chunk on access, so corruption in one chunk does not prevent reading
/// another. All marks are verified before the first write, since after it a mark with a future
/// `Seq` could no longer be distinguished from a mark of that commit.
#[test]
fn marks_are_verified_before_first_write() {
    let (mut rotten, mut sound) = (0, 0);
    for seed in 71..77 {
        let (disk, models) = store_of(12, seed, true);
        let newest = models.last().unwrap();
        for path in marks_files(&disk).into_iter().filter(|path| listed(&disk, path, newest)) {
            let all: Vec<_> = words(&disk).into_iter().filter(|word| word.path == path).collect();
            let name = path.split('/').nth(1).unwrap();
            let table = newest.tables.iter().find(|table| table.name == name).unwrap();
            let len = table.rows.len() as u64;
            let Some(word) = all
                .iter()
                .find(|word| word.deleted_at && word.value == 0 && word.row.is_some_and(|row| row < len))
            else {
                continue;
            };
            let within = |row: u64| all.iter().any(|word| word.row == Some(row));
            word.write(&disk, newest.seq + 1);
            let process = disk.process();
            let engine =
                Engine::open(process.storage(), options(), Arc::new(MapIndexer::trusting())).unwrap();
            let snapshot = engine.begin_read().unwrap();
            let core = snapshot.table_named(name).unwrap().unwrap();
            let view = snapshot.view(&core).unwrap().unwrap();
            for (row, known) in (0..len).zip(&table.rows) {
                match view.is_live(RowId(row)) {
                    Ok(found) => {
                        assert_eq!(found, !known.deleted, "row {row} of {path}");
                        assert!(!within(row), "row {row} of {path}");
                        sound += 1;
                    }
                    Err(fault) => {
                        assert!(within(row) && fault.to_string().contains(&path), "row {row}: {fault}");
                        rotten += 1;
                    }
                }
            }
            assert!(view.load_marks().is_err());
            process.kill();
            drop(engine);
            // The same without a read before the write.
            let process = disk.process();
            let engine =
                Engine::open(process.storage(), options(), Arc::new(MapIndexer::trusting())).unwrap();
            let refused = engine.begin_write().map(|_| ()).expect_err(&path).to_string();
            assert!(refused.contains(&path), "{refused}");
            process.kill();
            drop(engine);
            word.write(&disk, 0);
            assert!(!errs(&disk, newest));
        }
    }
    assert!(rotten > 100 && sound > 100, "{rotten} corrupt, {sound} valid");
}

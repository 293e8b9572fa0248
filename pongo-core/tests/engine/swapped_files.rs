//! Valid files in the wrong place, and bytes that only one checksum protects: each case must be an
//! error, never a store that differs from the one that was written.

use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, EngineOptions, WriteBatch};
use pongo_core::fields::{HeapRead, content_hash};
use pongo_core::ids::RowId;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_sim::{Disk, Random};

use crate::corruption::files;
use crate::indexer::MapIndexer;
use crate::model::{bytes, schema};
use crate::mutation_gaps::{delete, open, put, try_open};
use crate::work::options;

fn copy(from: &dyn Storage, path: &str, to: &dyn Storage, other: &str) {
    to.remove(other).unwrap();
    to.create(other).unwrap().write_at(&content(from, path), 0).unwrap();
}

fn swap(storage: &dyn Storage, one: &str, other: &str) {
    storage.rename(one, "aside").unwrap();
    storage.rename(other, one).unwrap();
    storage.rename("aside", other).unwrap();
}

/// Copies the files into a separate storage that no process has opened.
pub(crate) fn copy_of(storage: &dyn Storage) -> Arc<dyn Storage> {
    let (other, mut paths) = (MemoryStorage::new(), Vec::new());
    for dir in ["journal", "tables", "heap", "schema", "hash"] {
        other.create_dir(dir).unwrap();
    }
    files(storage, "", &mut paths);
    for path in paths {
        if let Some((dir, _)) = path.rsplit_once('/') {
            other.create_dir(dir).unwrap();
        }
        other.create(&path).unwrap().write_at(&content(storage, &path), 0).unwrap();
    }
    Arc::new(other)
}

fn content(storage: &dyn Storage, path: &str) -> Vec<u8> {
    let file = storage.open(path).unwrap();
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut content, 0).unwrap();
    content
}

/// Exchanges chunks of two tables with the same layout, filled by bulk loads for which no checksums
/// exist yet. The chunks are valid except for the table that their headers name.
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
    // The damaged files were kept: with the exchange undone, the store opens.
    swap(&**disk.inner(), "tables/one/0.chunk", "tables/two/0.chunk");
    assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, 2);
}

/// Exchanges marks files: marks of rows deleted since the checkpoint have no checksum.
#[test]
fn marks_that_changed_places_are_noticed() {
    let disk = Disk::new();
    let process = disk.process();
    let engine = open(&process);
    for table in ["one", "two"] {
        put(&engine, table, 24, 0..300, true, Durability::Sync);
    }
    for (name, dead) in [("one", 7), ("two", 8)] {
        delete(&engine, name, dead).unwrap();
    }
    process.kill();
    drop(engine);
    swap(&**disk.inner(), "tables/one/0.marks", "tables/two/0.marks");
    let message = try_open(&disk.process()).unwrap_err().to_string();
    assert!(message.contains(".marks"), "{message}");
}

/// Corruption marks a row as deleted by a commit after the checkpoint. No checksum covers that
/// word, but the journal records the number of rows deleted since.
#[test]
fn uncommitted_mark_is_detected() {
    let disk = Disk::new();
    let engine = open(&disk.process());
    put(&engine, "table", 24, 0..9, false, Durability::Sync);
    delete(&engine, "table", 3).unwrap();
    engine.close().unwrap();
    drop(engine);
    let process = disk.process();
    let engine = open(&process);
    let newest = delete(&engine, "table", 4).unwrap().0;
    process.kill();
    drop(engine);
    let file = disk.inner().open("tables/table/0.marks").unwrap();
    // After the header, one word per row.
    let at = 4096 + 8 * 5;
    file.write_at(&newest.to_le_bytes(), at).unwrap();
    let message = try_open(&disk.process()).unwrap_err().to_string();
    assert!(message.contains("tables/table/0.marks") && message.contains("deleted and"), "{message}");
    file.write_at(&[0; 8], at).unwrap();
    assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, newest);
}

/// A power cut loses a relaxed commit, but not the deletion that it stored in the marks. Another
/// commit gets its number, and must not delete the row.
#[test]
fn lost_deletion_does_not_return() {
    let disk = Disk::new();
    let engine = open(&disk.process());
    put(&engine, "table", 24, 0..9, false, Durability::Sync);
    let newest = delete(&engine, "table", 3).unwrap().0;
    let after = disk.power_cycle(&mut Random(1));
    let file = after.inner().open("tables/table/0.marks").unwrap();
    // After the header, a word for each row.
    file.write_at(&(newest + 1).to_le_bytes(), 4096 + 8 * 5).unwrap();
    let engine = open(&after.process());
    let live = |engine: &Arc<Engine>| -> Vec<u64> {
        let snapshot = engine.begin_read().unwrap();
        let table = snapshot.table_named("table").unwrap().unwrap();
        let view = snapshot.view(&table).unwrap().unwrap();
        (0..view.len()).filter(|&row| view.is_live(RowId(row)).unwrap()).collect()
    };
    assert_eq!(live(&engine), [0, 1, 2, 4, 5, 6, 7, 8]);
    assert_eq!(put(&engine, "table", 24, 9..10, false, Durability::Sync), newest + 1);
    assert_eq!(live(&engine), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(live(&open(&after.process())), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
}

/// The entry of the newest commit is corrupted while the system runs. No later entry shows that it
/// existed; only the published state does.
#[test]
fn missing_published_commit_is_detected() {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        put(&engine, "table", 24, 0..3, false, Durability::Sync);
        put(&engine, "table", 24, 3..5, false, durability);
        process.kill();
        drop(engine);
        let mut paths = Vec::new();
        files(&**disk.inner(), "journal", &mut paths);
        let path = paths.pop().unwrap();
        let entries = content(&**disk.inner(), &path);
        let last = (0..entries.len()).step_by(8).rfind(|&at| entries[at..].starts_with(b"PJENTRY1")).unwrap();
        let file = disk.inner().open(&path).unwrap();
        file.write_at(&[entries[last + 100] ^ 1], last as u64 + 100).unwrap();
        let message = try_open(&disk.process()).unwrap_err().to_string();
        assert!(message.contains(&path) && message.contains("published"), "{message}");
        file.write_at(&[entries[last + 100]], last as u64 + 100).unwrap();
        assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, 2);
    }
}

/// A schema file with a valid checksum and the right name, but another layout: rows would be
/// misread.
#[test]
fn schema_of_other_layout_is_detected() {
    let other = MemoryStorage::new();
    let other: Arc<dyn Storage> = Arc::new(other);
    let engine = Engine::open(Arc::clone(&other), options(), Arc::new(MapIndexer::default())).unwrap();
    put(&engine, "table", 32, 0..1, false, Durability::Sync);
    // After a checkpoint the table is recorded in the checkpoint; before one, in the entry of its
    // commit.
    for checkpointed in [false, true] {
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        let guard = engine.begin_write().unwrap();
        guard.create_table(schema("table", 24)).unwrap();
        guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
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

/// A journal in which a commit is missing although every entry has a valid checksum: later entries
/// must not be applied to a store that lacks that commit.
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
    let mut content = content(&**disk.inner(), path);
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
    assert!(message.contains("Seq 4 after Seq 2"), "{message}");
}

/// Creates a store with several segments after its checkpoint, whose process was killed. Returns it
/// with the numbers of the segments.
fn with_segments() -> (Arc<dyn Storage>, EngineOptions, Vec<u64>) {
    let sizes = pongo_core::Sizes { segment: 4096, ..options().sizes };
    let options = EngineOptions { sizes, ..EngineOptions::default() };
    let disk = Disk::new();
    let process = disk.process();
    let engine = Engine::open(process.storage(), options, Arc::new(MapIndexer::default())).unwrap();
    for key in 0..300 {
        put(&engine, "table", 24, key..key + 1, false, Durability::Sync);
    }
    process.kill();
    drop(engine);
    let mut journal = Vec::new();
    files(&**disk.inner(), "journal", &mut journal);
    let number = |path: &String| path.strip_prefix("journal/")?.strip_suffix(".log")?.parse().ok();
    let mut numbers: Vec<u64> = journal.iter().filter_map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 2, "{journal:?}");
    (copy_of(&**disk.inner()), options, numbers)
}

fn path_of(number: u64) -> String {
    format!("journal/{number}.log")
}

fn refuses(storage: Arc<dyn Storage>, options: EngineOptions, what: &str) {
    let opened = Engine::open(storage, options, Arc::new(MapIndexer::default()));
    if let Ok(engine) = opened {
        panic!("{what}: opened with {} commits", engine.begin_read().unwrap().seq());
    }
}

/// A flipped bit in a segment's header, and a segment in place of another: in both cases
/// acknowledged commits would be ignored.
#[test]
fn corrupt_or_swapped_segments_are_detected() {
    let (storage, options, numbers) = with_segments();
    let path = path_of(numbers[1]);
    for bit in 0..(8 + 8 + 16 + 8 * 4 + 8) * 8 {
        let rotten = copy_of(&*storage);
        let byte = content(&*rotten, &path)[bit / 8] ^ 1 << (bit % 8);
        rotten.open(&path).unwrap().write_at(&[byte], bit as u64 / 8).unwrap();
        refuses(rotten, options, &format!("bit {bit}"));
    }
    for (one, other) in [(numbers[0], numbers[1]), (numbers[1], numbers[0]), (numbers[1], numbers[2])] {
        let mixed = copy_of(&*storage);
        copy(&*storage, &path_of(one), &*mixed, &path_of(other));
        refuses(mixed, options, &format!("segment {one} in the place of {other}"));
    }
}

/// The last entry of a segment is corrupted. The existence of the next segment shows that the entry
/// was acknowledged.
#[test]
fn corrupt_segment_end_is_detected() {
    let (storage, options, numbers) = with_segments();
    let path = path_of(numbers[1]);
    let mut rotten = content(&*storage, &path);
    let is_entry = |at: &usize| rotten[*at..].starts_with(b"PJENTRY1");
    let last = (0..rotten.len()).step_by(8).rfind(is_entry).unwrap();
    rotten[last + 100] ^= 1;
    storage.open(&path).unwrap().write_at(&rotten, 0).unwrap();
    refuses(storage, options, "the last entry");
}

/// Heap bytes written since the checkpoint are covered only by the hash of each item, which is
/// verified at each read.
#[test]
fn items_corrupted_during_reads_are_detected() {
    let disk = Disk::new();
    let engine = open(&disk.process());
    let text = bytes(7, 100);
    let guard = engine.begin_write().unwrap();
    let addr = guard.stage_heap(&text).unwrap();
    guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
    let snapshot = engine.begin_read().unwrap();
    let read = || snapshot.read_heap(addr, 100, content_hash(&text)).map(<[u8]>::to_vec);
    assert_eq!(read().unwrap(), text);
    let file = disk.inner().open("heap/0.chunk").unwrap();
    // After the chunk's header: length and hash of the item, followed by its bytes.
    for at in 4096..4096 + 8 + 100 {
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 1], at).unwrap();
        read().unwrap_err();
        file.write_at(&byte, at).unwrap();
    }
    assert_eq!(read().unwrap(), text);
}

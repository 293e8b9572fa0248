//! Rows and heap bytes that a journal entry stores only by reference: their checksums are
//! computed as the bytes are written and compared when the entry is replayed; afterwards they are
//! the checksums of the blocks. Damage to the bytes is an error and never yields another value.

use std::io::ErrorKind;
use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, EngineOptions, TableWriteBatch, WriteBatch};
use pongo_core::error::{OpenError, StorageError, WriteError};
use pongo_core::fields::{HeapRead, content_hash};
use pongo_core::ids::{HeapAddr, RowId};
use pongo_core::storage::Storage;
use pongo_sim::{Disk, FaultPlan, Image, OpKind, Random};

use crate::alloc_in_place;
use crate::corruption::files;
use crate::indexer::MapIndexer;
use crate::model::{bytes, schema};
use crate::mutation_gaps::{open, put, row, try_open};
use crate::work::options;

const SIZE: usize = 24;
/// Length of a chunk file's header; the rows follow it.
const HEADER: u64 = 4096;

/// Returns the chunk files of a folder in order, each with the offset of its first byte in the
/// space.
fn chunks(storage: &dyn Storage, dir: &str) -> Vec<(String, u64)> {
    let mut start = 0;
    (0..)
        .map_while(|number| {
            let path = format!("{dir}/{number}.chunk");
            let len = storage.open(&path).ok()?.len().unwrap() - HEADER;
            start += len;
            Some((path, start - len))
        })
        .collect()
}

/// Flips a bit of a byte of a space. A second call restores the byte.
fn flip(disk: &Disk, dir: &str, byte: u64, bit: u64) {
    let storage = &**disk.inner();
    let all = chunks(storage, dir);
    let (path, start) = all.iter().rfind(|(_, start)| *start <= byte).unwrap();
    let (file, at) = (storage.open(path).unwrap(), HEADER + byte - start);
    let mut found = [0];
    file.read_at(&mut found, at).unwrap();
    file.write_at(&[found[0] ^ 1 << bit], at).unwrap();
}

/// Returns the number of rows of a table that cannot be read. Verifies the content of all others.
fn unreadable(engine: &Arc<Engine>, table: &str, count: u64) -> usize {
    let snapshot = engine.begin_read().unwrap();
    let core = snapshot.table_named(table).unwrap().unwrap();
    let view = snapshot.view(&core).unwrap().unwrap();
    assert_eq!(view.len(), count);
    let read =
        |key: u64| view.row_bytes(RowId(key)).map(|found| assert!(found == row(key, SIZE), "row {key}"));
    (0..count).filter(|&key| read(key).is_err()).count()
}

/// Returns a store whose process was killed. After its checkpoint it has rows and heap bytes in
/// entries that store them inline and by reference and that share blocks. Also returns the number
/// of rows, the number of those before the checkpoint, and the content of the heap item.
fn killed() -> (Disk, u64, u64, Vec<u8>) {
    let disk = Disk::new();
    let engine = open(&disk.process());
    put(&engine, "table", SIZE, 0..1500, true, Durability::Sync);
    drop(engine);
    let process = disk.process();
    let engine = open(&process);
    put(&engine, "table", SIZE, 1500..1510, false, Durability::Sync);
    put(&engine, "table", SIZE, 1510..12_000, true, Durability::Relaxed);
    put(&engine, "table", SIZE, 12_000..12_002, false, Durability::Sync);
    let content = bytes(5, (1 << 20) + 30_001);
    let guard = engine.begin_write().unwrap();
    assert_eq!(guard.stage_heap(&content).unwrap(), HeapAddr(0));
    guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
    put(&engine, "table", SIZE, 12_002..12_010, true, Durability::Sync);
    process.kill();
    drop(engine);
    (disk, 12_010, 1500, content)
}

/// Damages 2,000 random bytes. Damage to rows that the last checkpoint covers may be found later,
/// when the rows are read.
#[test]
fn random_damage_gives_no_wrong_value() {
    let (disk, rows, before, content) = killed();
    let image = Image::of(&**disk.inner()).unwrap();
    let (table, heap) = (rows * SIZE as u64, 8 + content.len() as u64);
    let mut random = Random(17);
    let mut refused = 0;
    for _ in 0..2000 {
        let byte = random.below(table + heap);
        let (dir, byte) = if byte < table { ("tables/table", byte) } else { ("heap", byte - table) };
        let disk = image.disk();
        flip(&disk, dir, byte, random.below(8));
        match try_open(&disk.process()) {
            Err(OpenError::Storage(StorageError::Corrupt(damage))) => {
                assert!(damage.file.starts_with(dir), "byte {byte} of {dir}: {damage}");
                refused += 1;
            }
            Err(other) => panic!("byte {byte} of {dir}: {other}"),
            Ok(engine) => {
                // Either an entry stores the row inline and so rewrote it, or the row is in a block
                // that the checkpoint covers completely.
                let row = byte / SIZE as u64;
                let carried = (1500..1510).contains(&row) || (12_000..12_002).contains(&row);
                assert!(dir == "tables/table" && (row < before || carried), "byte {byte} of {dir}");
                unreadable(&engine, "table", rows);
            }
        }
    }
    assert!(refused > 1900, "{refused} refused");
    let engine = open(&image.disk().process());
    assert_eq!(unreadable(&engine, "table", rows), 0);
    let snapshot = engine.begin_read().unwrap();
    let hash = content_hash(&content);
    assert!(snapshot.read_heap(HeapAddr(0), content.len() as u32, hash).unwrap() == content);
}

/// Restores the folders of rows and of the heap from before the journal entries that refer to them:
/// with all chunks present, but zeros instead of the rows.
#[test]
fn older_rows_than_journal_are_corruption() {
    for dir in ["tables/table", "heap"] {
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        // Reserves space for the later rows, so that replay finds the referenced range complete
        // except for its content.
        put(&engine, "table", SIZE, 0..2000, true, Durability::Sync);
        let item = |engine: &Arc<Engine>, len: usize| {
            let guard = engine.begin_write().unwrap();
            guard.stage_heap(&bytes(1, len)).unwrap();
            guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
        };
        item(&engine, (1 << 20) + 10);
        let older = Image::of(&**disk.inner()).unwrap();
        put(&engine, "table", SIZE, 2000..2500, true, Durability::Sync);
        item(&engine, (1 << 20) + 20);
        process.kill();
        drop(engine);
        let mut image = Image::of(&**disk.inner()).unwrap();
        for (path, content) in older.files().filter(|(path, _)| path.starts_with(dir)) {
            image.set(path, content.to_vec());
        }
        // Adds the chunks created since, filled with zeros, as if they had only been allocated.
        let newer: Vec<String> = image.files().map(|(path, _)| path.to_owned()).collect();
        for path in newer.iter().filter(|path| path.starts_with(dir) && path.ends_with(".chunk")) {
            if older.get(path).is_none() {
                let mut content = image.get(path).unwrap().to_vec();
                content[HEADER as usize..].fill(0);
                image.set(path, content);
            }
        }
        let error = try_open(&image.disk().process()).unwrap_err();
        let OpenError::Storage(StorageError::Corrupt(damage)) = &error else { panic!("{dir}: {error}") };
        assert!(damage.file.starts_with(dir), "{damage}");
        assert!(damage.expected.contains("as they were written"), "{damage}");
    }
}

/// Damages rows between a commit and the checkpoint that writes the checksums of their blocks. The
/// checkpoint is made by the process that loaded the rows, by another one that closes the store
/// after it, or by one that takes over from a killed one.
#[test]
fn checkpoint_does_not_hide_damage() {
    let all = ["alone", "closed by another", "taken over"];
    for (how, (dir, block)) in
        all.iter().flat_map(|&how| [("tables/table", 1), ("heap", 0)].map(|at| (how, at)))
    {
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        let other = (how != "alone").then(|| open(&disk.process()));
        put(&engine, "table", SIZE, 0..12_000, true, Durability::Sync);
        let content = bytes(3, (1 << 20) + 70_000);
        let guard = engine.begin_write().unwrap();
        let addr = guard.stage_heap(&content).unwrap();
        guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
        if how == "taken over" {
            process.kill();
        }
        let engine = (how == "alone").then_some(engine);
        flip(&disk, dir, block * 65_536 + 77, 5);
        if how == "taken over" {
            put(other.as_ref().unwrap(), "table", SIZE, 12_000..12_001, false, Durability::Sync);
        }
        drop((engine, other));
        // Rows are verified during the open, because this test index is kept only in memory.
        let error = match try_open(&disk.process()) {
            Err(error) => error.to_string(),
            Ok(engine) => {
                let snapshot = engine.begin_read().unwrap();
                let hash = content_hash(&content);
                snapshot.read_heap(addr, content.len() as u32, hash).unwrap_err().to_string()
            }
        };
        let place = format!("{dir}/0.chunk is damaged at byte {}", HEADER + block * 65_536);
        let block = "expected a block of 65536 bytes with checksum";
        assert!(error.contains(&place) && error.contains(block), "{how}: {error}");
    }
}

/// Appends rows, fills rows in place and truncates them again, in ranges of all sizes and
/// alignments: the checksums are those of the rows that remain.
#[test]
fn aborted_rows_leave_no_checksum() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let disk = Disk::new();
        let process = disk.process();
        let engine = open(&process);
        put(&engine, "table", SIZE, 0..random.below(5000), random.one_in(2), Durability::Sync);
        let guard = engine.begin_write().unwrap();
        let table = guard.table_named("table").unwrap().unwrap();
        let mut guard = guard;
        let first = guard.view(&table).unwrap().len();
        let mut keys: Vec<u64> = Vec::new();
        let mut next = 1 << 20;
        for _ in 0..random.below(12) + 2 {
            let most = [10, 1000, 9000][random.below(3) as usize];
            let new: Vec<u64> = (next..next + random.below(most)).collect();
            next += most;
            let rows: Vec<u8> = new.iter().flat_map(|&key| row(key, SIZE)).collect();
            if random.one_in(3) {
                alloc_in_place::append(&mut guard, &table, &rows).unwrap();
            } else {
                guard.append(&table, &rows).unwrap();
            }
            keys.extend(new);
            // Truncate twice in a row as well.
            while random.one_in(3) {
                keys.truncate(random.below(keys.len() as u64 + 1) as usize);
                guard.truncate_appended(&table, keys.len() as u64);
            }
        }
        let staged: Vec<u64> = (next..next + [3, 50_000][random.below(2) as usize]).collect();
        let rows: Vec<u8> = staged.iter().flat_map(|&key| row(key, SIZE)).collect();
        let part = TableWriteBatch {
            table,
            rows: &rows,
            hashes: &[],
            previous: Vec::new(),
            deleted_rows: Vec::new(),
        };
        guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync).unwrap();
        keys.extend(staged);
        // A killed process leaves the rows to a replay, which compares their checksums; a closed
        // store stores them as those of the blocks.
        if random.one_in(2) {
            process.kill();
        }
        drop(engine);
        let engine = try_open(&disk.process()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let snapshot = engine.begin_read().unwrap();
        let core = snapshot.table_named("table").unwrap().unwrap();
        let view = snapshot.view(&core).unwrap().unwrap();
        assert_eq!(view.len(), first + keys.len() as u64, "seed {seed}");
        for (&key, id) in keys.iter().zip(first..) {
            assert!(view.row_bytes(RowId(id)).unwrap() == row(key, SIZE), "seed {seed}: row {id}");
        }
    }
}

/// A text whose write failed leaves no trace: later texts are at the addresses to which the entry
/// refers.
#[test]
fn failed_heap_write_leaves_no_trace() {
    for in_memory in [0, 3] {
        for killed in [false, true] {
            let disk = Disk::new();
            let process = disk.process();
            let small = EngineOptions { transaction_memory: 64 << 10, ..options() };
            let engine = Engine::open(process.storage(), small, Arc::new(MapIndexer::default())).unwrap();
            let guard = engine.begin_write().unwrap();
            let mut items: Vec<(HeapAddr, Vec<u8>)> = Vec::new();
            let mut stage = |len: usize| {
                let content = bytes(items.len() as u64, len);
                let addr = guard.stage_heap(&content)?;
                items.push((addr, content));
                Ok::<(), WriteError>(())
            };
            for _ in 0..in_memory {
                stage(1000).unwrap();
            }
            disk.plan(0, |_| FaultPlan::FailOn(OpKind::Write, "heap", ErrorKind::Other));
            stage(100_000).unwrap_err();
            disk.plan(0, |_| FaultPlan::Nothing);
            // First a text that fits in memory, then one that exceeds the memory limit.
            for len in [1000, 200_000, 1000] {
                stage(len).unwrap();
            }
            for (addr, content) in &items {
                let read = guard.read_heap(*addr, content.len() as u32, content_hash(content)).unwrap();
                assert!(read == content);
            }
            guard.commit(&WriteBatch::default(), Durability::Sync).unwrap();
            if killed {
                process.kill();
            }
            drop(engine);
            let engine = try_open(&disk.process()).unwrap();
            let snapshot = engine.begin_read().unwrap();
            for (addr, content) in &items {
                let read = snapshot.read_heap(*addr, content.len() as u32, content_hash(content)).unwrap();
                assert!(read == content, "{in_memory} in memory, killed: {killed}");
            }
        }
    }
}

/// The bytes that a recovery reads are bounded: referenced bytes also make a checkpoint due,
/// although they take little space in the journal.
#[test]
fn cited_bytes_make_a_checkpoint_due() {
    let disk = Disk::new();
    let engine = open(&disk.process());
    let generation = || {
        let mut words = [[0; 8]; 2];
        let file = disk.inner().open("super").unwrap();
        file.read_at(&mut words[0], 32).unwrap();
        file.read_at(&mut words[1], 4096 + 32).unwrap();
        words.map(u64::from_le_bytes).into_iter().max()
    };
    let referenced = 16 * options().checkpoint_bytes;
    put(&engine, "table", SIZE, 0..1, false, Durability::Sync);
    let (before, rows) = (generation(), referenced / 4 / SIZE as u64);
    for part in 0..3 {
        put(&engine, "table", SIZE, 1 + part * rows..1 + (part + 1) * rows, true, Durability::Sync);
    }
    assert_eq!(generation(), before);
    put(&engine, "table", SIZE, 1 + 3 * rows..2 + 4 * rows, true, Durability::Sync);
    assert!(generation() > before);
}

/// The remaining rows of a partly truncated block are verified before its checksum is recomputed.
#[test]
fn damage_after_a_rollback_is_found() {
    let disk = Disk::new();
    let engine = open(&disk.process());
    let mut guard = engine.begin_write().unwrap();
    let table = guard.create_table(schema("table", SIZE)).unwrap();
    let rows: Vec<u8> = (0..4000).flat_map(|key| row(key, SIZE)).collect();
    guard.append(&table, &rows).unwrap();
    guard.truncate_appended(&table, 100);
    let path = "tables/table/0.chunk.new";
    let file = disk.inner().open(path).unwrap();
    file.write_at(&[9], HEADER + 50).unwrap();
    let error = guard.append(&table, &rows[..SIZE]).unwrap_err();
    assert!(matches!(&error, WriteError::Storage(StorageError::Corrupt(_))), "{error}");
    drop(guard);
    let mut all = Vec::new();
    files(&**disk.inner(), "tables", &mut all);
    assert!(all.is_empty(), "{all:?}");
}

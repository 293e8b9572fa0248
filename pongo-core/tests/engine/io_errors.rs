//! Files that exist and cannot be opened: an error, never treated like missing files.

use std::fs;
use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, TableWriteBatch, WriteBatch};
use pongo_core::error::{OpenError, StorageError};
use pongo_core::ids::RowId;
use pongo_core::storage::RealStorage;

use crate::indexer::MapIndexer;
use crate::model::{Row, schema};
use crate::work::options;

const SIZE: usize = 1000;

fn open(path: &std::path::Path) -> Result<Arc<Engine>, OpenError> {
    Engine::open(Arc::new(RealStorage::create(path).unwrap()), options(), Arc::new(MapIndexer::default()))
}

/// Inserts rows `keys`; if `replace`, each replaces the row with the preceding number.
fn put(engine: &Arc<Engine>, keys: std::ops::Range<u64>, replace: bool) {
    let guard = engine.begin_write().unwrap();
    let table = guard.table_named("large").unwrap();
    let table = table.unwrap_or_else(|| guard.create_table(schema("large", SIZE)).unwrap());
    let bytes = |key| Row { key, seed: key, previous: None, deleted: false }.bytes(SIZE);
    let rows: Vec<u8> = keys.clone().flat_map(bytes).collect();
    let pairs = || keys.clone().filter(|_| replace).map(|row| (RowId(row), RowId(row - 1)));
    let deleted_rows = pairs().map(|(_, before)| before).collect();
    let part = TableWriteBatch { table, rows: &rows, hashes: &[], previous: pairs().collect(), deleted_rows };
    guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync).unwrap();
}

/// A reader has a snapshot from before another process replaced a row, and the new row is in a
/// chunk that the reader has not opened. If that chunk cannot be opened, it is unknown which row
/// was replaced, so resolving the row must return an error and not `None`.
#[test]
fn unreadable_chunk_is_not_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (writer, reader) = (open(&path).unwrap(), open(&path).unwrap());
    put(&writer, 0..60, false);
    let snapshot = reader.begin_read().unwrap();
    let table = snapshot.table_named("large").unwrap().unwrap();
    let view = snapshot.view(&table).unwrap().unwrap();
    // All other rows are in chunks after the first.
    put(&writer, 60..200, true);
    let chunk = path.join("tables/large/1.chunk");
    let kept = path.join("kept");
    fs::rename(&chunk, &kept).unwrap();
    fs::create_dir(&chunk).unwrap();
    let found = view.resolve(RowId(199));
    assert!(
        matches!(&found, Err(StorageError::Io(failure)) if failure.path.ends_with("1.chunk")),
        "{found:?}"
    );
    fs::remove_dir(&chunk).unwrap();
    fs::rename(&kept, &chunk).unwrap();
    assert_eq!(view.resolve(RowId(199)).unwrap(), Some(RowId(59)));
    assert_eq!(view.resolve(RowId(u64::MAX)).unwrap(), None, "nonsense is no row, and no error");
}

/// If a chunk cannot be opened during recovery, the error is a file system error, not corruption.
#[test]
fn unreadable_chunk_is_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let engine = open(&path).unwrap();
    put(&engine, 0..200, false);
    let copy = folder.path().join("copy");
    for dir in ["", "journal", "tables", "tables/large", "heap", "schema", "hash"] {
        fs::create_dir(copy.join(dir)).unwrap();
        for entry in fs::read_dir(path.join(dir)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.join(dir).join(entry.file_name())).unwrap();
            }
        }
    }
    fs::remove_file(copy.join("tables/large/0.chunk")).unwrap();
    fs::create_dir(copy.join("tables/large/0.chunk")).unwrap();
    let error = open(&copy).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Storage(StorageError::Io(_))), "{error:?}");
}

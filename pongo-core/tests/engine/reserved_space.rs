//! Space for rows that was reserved and returned: the chunks created for it are not in use, and
//! another process creates its own.

use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, TableWriteBatch, WriteBatch};
use pongo_core::ids::RowId;
use pongo_core::storage::{MemoryStorage, RealStorage, Storage};

use crate::indexer::MapIndexer;
use crate::model::schema;
use crate::work::options;

fn open(storage: Arc<dyn Storage>) -> Arc<Engine> {
    Engine::open(storage, options(), Arc::new(MapIndexer::default())).expect("a folder of this test")
}

/// Commits rows of one table; before that, reserves space in another table and returns it.
fn put(engine: &Arc<Engine>, name: &str, discard: Option<&str>, rows: usize, fill: u8) {
    let mut guard = engine.begin_write().expect("the store takes writes");
    let table = match guard.table_named(name).expect("tables can be read") {
        Some(table) => table,
        None => guard.create_table(schema(name, 24)).expect("it is new"),
    };
    if let Some(other) = discard {
        let other = guard.table_named(other).expect("tables can be read").expect("not found");
        crate::alloc_in_place::discard(&mut guard, &other, 40_000);
    }
    let rows = vec![fill; 24 * rows];
    let batch = TableWriteBatch { table, rows: &rows, hashes: &[], previous: vec![], deleted_rows: vec![] };
    guard.commit(&WriteBatch { tables: vec![batch] }, Durability::Relaxed).expect("there is space");
}

fn check(engine: &Arc<Engine>) {
    let snapshot = engine.begin_read().expect("the store is open");
    let table = snapshot.table_named("a").expect("tables can be read").expect("not found");
    let view = snapshot.view(&table).expect("its chunks are sound").expect("not found");
    for row in 1..view.len() {
        let right = if row < 5001 { 7 } else { 9 };
        let bytes = view.row_bytes(RowId(row)).expect("its block is sound");
        assert!(bytes.iter().all(|byte| *byte == right), "row {row}: {bytes:?}");
    }
}

#[test]
fn returned_space_is_forgotten_at_commit() {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join("store");
    let storage = || -> Arc<dyn Storage> { Arc::new(RealStorage::create(&path).expect("it can be made")) };
    let (one, two) = (open(storage()), open(storage()));
    put(&one, "a", None, 1, 1);
    put(&one, "b", None, 1, 1);
    put(&one, "b", Some("a"), 1, 1);
    put(&two, "a", None, 5000, 7);
    check(&one);
    put(&one, "a", None, 2000, 9);
    check(&one);
    check(&two);
}

/// A damaged index can refer to any row.
#[test]
fn the_highest_row_number_is_none() {
    let engine = open(Arc::new(MemoryStorage::new()));
    put(&engine, "a", None, 3, 1);
    let snapshot = engine.begin_read().expect("the store is open");
    let table = snapshot.table_named("a").expect("tables can be read").expect("not found");
    let view = snapshot.view(&table).expect("its chunks are sound").expect("not found");
    for row in [3, u64::MAX - 1, u64::MAX] {
        assert!(view.row_bytes(RowId(row)).is_err());
        assert!(!matches!(view.resolve(RowId(row)), Ok(Some(_))));
    }
}

/// The lengths would belong to one store and the rows to another: published rows would be
/// overwritten.
#[test]
fn table_of_other_store_is_refused() {
    let (one, two) = (open(Arc::new(MemoryStorage::new())), open(Arc::new(MemoryStorage::new())));
    put(&one, "a", None, 1, 1);
    put(&two, "a", None, 100, 2);
    let theirs = two.begin_read().expect("the store is open");
    let table = theirs.table_named("a").expect("tables can be read").expect("not found");
    let refused = |what: &dyn Fn()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).expect_err("it is refused");
        let said = panic.downcast::<&str>().expect("a message");
        assert_eq!(*said, "a table of another store");
    };
    let ours = one.begin_read().expect("the store is open");
    refused(&|| drop(ours.view(&table)));
    refused(&|| drop(one.begin_write().expect("the store takes writes").view(&table)));
    refused(&|| {
        let guard = one.begin_write().expect("the store takes writes");
        drop(guard.append(&table, &[3; 24 * 50]));
    });
    refused(&|| {
        crate::alloc_in_place::discard(&mut one.begin_write().expect("the store takes writes"), &table, 1)
    });
    refused(&|| {
        let guard = one.begin_write().expect("the store takes writes");
        let rows = [3; 24 * 50];
        let batch = TableWriteBatch {
            table: Arc::clone(&table),
            rows: &rows,
            hashes: &[],
            previous: vec![],
            deleted_rows: vec![],
        };
        drop(guard.commit(&WriteBatch { tables: vec![batch] }, Durability::Relaxed));
    });
    let view = theirs.view(&table).expect("its chunks are sound").expect("not found");
    let all = view.rows_bytes(RowId(0)..RowId(100)).expect("its blocks are sound");
    assert!(all.iter().all(|byte| *byte == 2), "rows that were published changed");
}

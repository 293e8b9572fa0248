//! Tests of a store on a storage without failures.

use std::sync::Arc;

use pongo_core::engine::{Durability, Engine, TableWriteBatch, WriteBatch};
use pongo_core::storage::{MemoryStorage, RealStorage, Storage};

use crate::indexer::MapIndexer;
use crate::model::{Model, Row, schema};
use crate::work::{SMALL, arbitrary, options};
use pongo_sim::Disk;
use pongo_sim::Random;

fn on_both(check: impl Fn(&Arc<dyn Storage>)) {
    check(&(Arc::new(MemoryStorage::new()) as Arc<dyn Storage>));
    let folder = tempfile::tempdir().unwrap();
    let real = RealStorage::create(folder.path().join("store")).unwrap();
    check(&(Arc::new(real) as Arc<dyn Storage>));
}

fn open(storage: &Arc<dyn Storage>) -> (Arc<Engine>, Arc<MapIndexer>) {
    let indexer = Arc::new(MapIndexer::default());
    (Engine::open(Arc::clone(storage), options(), Arc::clone(&indexer) as _).unwrap(), indexer)
}

#[test]
fn clean_close_keeps_rows_and_heap() {
    on_both(|storage| {
        let mut random = Random(1);
        let mut model = Model::default();
        for round in 0..6 {
            let (engine, indexer) = open(storage);
            model.check_engine(&engine, &indexer);
            for _ in 0..round * 8 {
                let transaction = arbitrary(&model, &mut random, SMALL);
                transaction.commit(&engine).unwrap();
                model = transaction.after;
                model.check_engine(&engine, &indexer);
            }
        }
    });
}

#[test]
fn snapshots_keep_their_view() {
    on_both(|storage| {
        let (engine, _) = open(storage);
        let mut random = Random(2);
        let mut model = Model::default();
        let mut kept = Vec::new();
        for round in 0..60 {
            let transaction = arbitrary(&model, &mut random, SMALL);
            transaction.commit(&engine).unwrap();
            model = transaction.after;
            if round % 4 == 0 {
                kept.push((engine.begin_read().unwrap(), model.clone()));
            }
            // Checks snapshots that are read for the first time long after they were taken.
            if round % 20 == 19 {
                kept.iter().for_each(|(snapshot, model)| model.check(snapshot));
            }
        }
    });
}

#[test]
fn kill_loses_nothing_acknowledged() {
    on_both(|storage| {
        let disk = Disk::over(Arc::clone(storage));
        let mut random = Random(3);
        let mut model = Model::default();
        for _ in 0..5 {
            let process = disk.process();
            let (engine, indexer) = open(&process.storage());
            model.check_engine(&engine, &indexer);
            for _ in 0..12 {
                let transaction = arbitrary(&model, &mut random, SMALL);
                transaction.commit(&engine).unwrap();
                model = transaction.after;
            }
            model.check_engine(&engine, &indexer);
            process.kill();
            let late = arbitrary(&model, &mut random, SMALL);
            assert!(late.commit(&engine).is_err(), "a dead process writes nothing");
        }
    });
}

#[test]
fn uncommitted_changes_leave_no_trace() {
    on_both(|storage| {
        let (engine, indexer) = open(storage);
        let mut random = Random(4);
        let mut model = Model::default();
        for round in 0..40u64 {
            let transaction = arbitrary(&model, &mut random, SMALL);
            if round % 2 == 0 {
                transaction.commit(&engine).unwrap();
                model = transaction.after;
            } else {
                let guard = engine.begin_write().unwrap();
                let table = guard.create_table(schema("never", 4104)).unwrap();
                let row = Row { key: round, seed: round, previous: None, deleted: false };
                for _ in 0..round {
                    guard.append(&table, &row.bytes(4104)).unwrap();
                }
                if let Some(known) = guard.table_named("table0").unwrap() {
                    guard.append(&known, &vec![7; 24 * 5000]).unwrap();
                    assert_eq!(guard.appended_rows(&known), 5000);
                }
            }
            model.check_engine(&engine, &indexer);
        }
        drop(engine);
        let (engine, indexer) = open(storage);
        model.check_engine(&engine, &indexer);
    });
}

#[test]
fn large_batches_are_cited() {
    on_both(|storage| {
        let (engine, _) = open(storage);
        let size = 3 << 20;
        let rows: Vec<u8> = crate::model::bytes(9, size);
        let guard = engine.begin_write().unwrap();
        let table = guard.create_table(schema("large", size)).unwrap();
        let item = guard.stage_heap(&rows).unwrap();
        assert_ne!(guard.stage_heap(&rows).unwrap(), item);
        let part = TableWriteBatch {
            table,
            rows: &rows,
            hashes: &[],
            previous: Vec::new(),
            deleted_rows: Vec::new(),
        };
        guard.commit(&WriteBatch { tables: vec![part] }, Durability::Sync).unwrap();
        drop(engine);
        let (engine, _) = open(storage);
        let snapshot = engine.begin_read().unwrap();
        let table = snapshot.table_named("large").unwrap().unwrap();
        let view = snapshot.view(&table).unwrap().unwrap();
        assert!(view.row_bytes(pongo_core::ids::RowId(0)).unwrap() == rows);
        use pongo_core::fields::{HeapRead, content_hash};
        assert!(snapshot.read_heap(item, size as u32, content_hash(&rows)).unwrap() == rows);
    });
}

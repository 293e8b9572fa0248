//! Compaction: less space and the same pairs, for concurrent readers and after the folder is opened
//! again.

use std::fs;
use std::path::Path;

use pongo_index::ordered::{IndexId, MemoryBlocks, OrderedError, OrderedStore, SledBlocks, StoreError};

mod ordered;

use ordered::{Model, Rows, Shape, all, check, grow, merge, model_of};
use pongo_test_support::Random;

fn open(folder: &Path) -> Result<OrderedStore, OrderedError> {
    OrderedStore::open(Box::new(SledBlocks::open(folder)?))
}

/// Merges `times` random runs into the index, and adds their pairs to the model.
fn merges(store: &OrderedStore, random: &mut Random, rows: &mut Rows, model: &mut Model, times: u64) {
    for _ in 0..times {
        let run = grow(random, Shape::Random16, rows, 6000);
        model.extend(model_of(&run));
        merge(store, 1, rows.0.len() as u64, &run, rows).unwrap();
    }
}

#[test]
fn compaction_keeps_all_pairs() {
    let mut random = Random::seeded("it_gives_space_back");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let (mut rows, mut model) = (Rows::default(), Model::new());
    let store = open(&path).unwrap();
    merges(&store, &mut random, &mut rows, &mut model, 16);
    let before = store.stats().unwrap();
    // A version that is not the newest one when the store is compacted, and is still read after
    // that.
    let old = store.index(IndexId(1)).unwrap().unwrap();
    let old_model = model.clone();
    merges(&store, &mut random, &mut rows, &mut model, 1);
    store.compact().unwrap();
    let newest = store.index(IndexId(1)).unwrap().unwrap();
    for (sorted, model) in [(&old, &old_model), (&newest, &model)] {
        check(sorted, model, &rows, 20, &mut random);
        sorted.verify(&rows, &mut |_| {}).unwrap();
    }
    drop((old, newest));
    store.compact().unwrap();
    let after = store.stats().unwrap();
    assert_eq!((after.pairs, after.retired), (model.len() as u64, 0));
    assert!(after.disk_bytes < before.disk_bytes, "{before:?}, {after:?}");
    // The store works as before the compaction.
    merges(&store, &mut random, &mut rows, &mut model, 2);
    check(&store.index(IndexId(1)).unwrap().unwrap(), &model, &rows, 20, &mut random);
    store.close().unwrap();
    assert!(matches!(store.compact(), Err(OrderedError::Poisoned { .. })));
    assert!(!store.is_open());
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["sled"]);
    let store = open(&path).unwrap();
    let sorted = store.index(IndexId(1)).unwrap().unwrap();
    check(&sorted, &model, &rows, 20, &mut random);
    assert_eq!(all(&sorted, &rows, true, &mut random).unwrap().len(), model.len());
}

#[test]
fn what_it_cannot_do_changes_nothing() {
    let mut random = Random::seeded("what_it_cannot_do");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let (mut rows, mut model) = (Rows::default(), Model::new());
    let store = open(&path).unwrap();
    merges(&store, &mut random, &mut rows, &mut model, 3);
    let sorted = store.index(IndexId(1)).unwrap().unwrap();
    // The copy panics when a block or a name is written to it, or when it is flushed.
    let copy = folder.path().join("sled.new");
    for calls in 0..3 {
        SledBlocks::panic_after(&copy, calls);
        let outcome = store.compact();
        assert!(matches!(outcome, Err(OrderedError::Store(StoreError::Io { .. }))), "{outcome:?}");
        assert!(store.is_open() && !copy.exists());
        check(&sorted, &model, &rows, 5, &mut random);
    }
    merges(&store, &mut random, &mut rows, &mut model, 1);
}

#[test]
fn another_process_never_gets_in_between() {
    let mut random = Random::seeded("another_process");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let (mut rows, mut model) = (Rows::default(), Model::new());
    let store = open(&path).unwrap();
    merges(&store, &mut random, &mut rows, &mut model, 4);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut got = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                // For sled, another handle is the same as another process.
                match SledBlocks::open(&path) {
                    Ok(blocks) => {
                        got += 1;
                        drop(OrderedStore::open(Box::new(blocks)).unwrap());
                    }
                    Err(error) => assert!(matches!(error, StoreError::Locked { .. }), "{error}"),
                }
                // Without a pause, this thread could hold the folder's lock continuously.
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            got
        });
        // The other handle must not get the lock, not even while the folder is replaced.
        for _ in 0..12 {
            store.compact().unwrap();
            check(&store.index(IndexId(1)).unwrap().unwrap(), &model, &rows, 2, &mut random);
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(other.join().unwrap(), 0);
    });
    drop(store);
    let store = open(&path).unwrap();
    check(&store.index(IndexId(1)).unwrap().unwrap(), &model, &rows, 20, &mut random);
    assert!(!folder.path().join("sled.new").exists());
}

#[test]
fn memory_has_nothing_to_give_back() {
    let mut random = Random::seeded("memory");
    let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
    let (mut rows, mut model) = (Rows::default(), Model::new());
    merges(&store, &mut random, &mut rows, &mut model, 2);
    store.compact().unwrap();
    check(&store.index(IndexId(1)).unwrap().unwrap(), &model, &rows, 5, &mut random);
}

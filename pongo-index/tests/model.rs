//! The hash index compared with a `HashMap`: random operations, many splits, reopening, rebuilding.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use pongo_core::ids::RowId;
use pongo_core::storage::{RealStorage, Storage};
use pongo_index::{Candidate, HashError, HashIndex, IndexIdentity, Upsert};
use pongo_test_support::Random;
use support::{DIR, IDENTITY, Rows, memory, mix};

/// Runs random operations on a few keys. Checks each of them, and finally the whole index, against
/// the model.
fn random_operations(storage: &Arc<dyn Storage>, seed: u64, steps: u64, keys: u64) {
    let rows = Rows::default();
    let mut model: HashMap<u64, Candidate> = HashMap::new();
    let mut random = Random(seed << 32);
    let mut index = HashIndex::create(storage, DIR, IDENTITY, 0).unwrap();
    for step in 0..steps {
        let key = random.below(keys);
        let hash = rows.hash_of(key);
        let present = model.get(&key).copied();
        assert_eq!(rows.find(&index, key), present, "key {key} before step {step}");
        match (random.below(12), present) {
            (0, Some(c)) => {
                assert!(index.remove(hash, c.row).unwrap());
                assert!(!index.remove(hash, c.row).unwrap());
                model.remove(&key);
            }
            (1 | 2, Some(c)) => {
                assert!(index.set_deleted(hash, c.row).unwrap());
                assert!(index.set_deleted(hash, c.row).unwrap(), "twice is once");
                model.insert(key, Candidate { deleted: true, ..c });
            }
            (3, Some(c)) => {
                let same = &mut |row| rows.key(row) == Some(key);
                assert_eq!(index.upsert_checked(hash, c.row, same).unwrap(), Upsert::Kept(c.row));
            }
            (4..=6, old) => {
                let row = rows.push(key);
                index.reserve(&[hash], &rows).unwrap();
                let same = &mut |row| rows.key(row) == Some(key);
                let expected = old.map_or(Upsert::Inserted, |c| Upsert::Replaced(c.row));
                assert_eq!(index.upsert_checked(hash, row, same).unwrap(), expected);
                model.insert(key, Candidate { row, deleted: false });
            }
            (_, Some(c)) => {
                let row = rows.push(key);
                assert!(index.replace(hash, c.row, row).unwrap());
                assert!(!index.replace(hash, c.row, row).unwrap(), "the old row is gone");
                model.insert(key, Candidate { row, deleted: false });
            }
            (_, None) => {
                let row = rows.push(key);
                index.reserve(&[hash], &rows).unwrap();
                index.insert(hash, row).unwrap();
                model.insert(key, Candidate { row, deleted: false });
            }
        }
        if random.below(steps / 4) == 0 {
            drop(index);
            index = HashIndex::open(storage, DIR, IDENTITY).unwrap();
        }
    }
    check(&index, &rows, &model, keys);
}

fn check(index: &HashIndex, rows: &Rows, model: &HashMap<u64, Candidate>, keys: u64) {
    for key in 0..keys {
        assert_eq!(rows.find(index, key), model.get(&key).copied(), "key {key}");
    }
    let stats = index.stats().unwrap();
    assert_eq!(stats.entries, model.len() as u64);
    assert_eq!(stats.deleted, model.values().filter(|c| c.deleted).count() as u64);
    let mut all: Vec<_> = model.values().map(|c| c.row).collect();
    let mut found = Vec::new();
    index.for_each(|c| found.push(c.row)).unwrap();
    all.sort();
    found.sort();
    assert_eq!(found, all);
}

#[test]
fn random_operations_agree_with_a_map() {
    for seed in 0..4 {
        random_operations(&memory(), seed, 60_000, 15_000);
    }
}

#[test]
fn random_operations_on_files_match_map() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::create(folder.path().join("store")).unwrap());
    random_operations(&storage, 9, 40_000, 10_000);
}

#[test]
fn bulk_and_rebuild_find_every_row() {
    const N: u64 = 300_000;
    let storage = memory();
    let rows = Rows::of(0..N);
    let model: HashMap<_, _> =
        (0..N).map(|key| (key, Candidate { row: RowId(key), deleted: false })).collect();
    let hashes: Vec<u64> = (0..N).map(|key| rows.hash_of(key)).collect();
    let pairs: Vec<_> = (0..N).map(|key| (rows.hash_of(key), RowId(key))).collect();
    for expected in [0, N / 50, N, 3 * N] {
        let index = HashIndex::create(&storage, DIR, IDENTITY, expected).unwrap();
        index.reserve(&hashes, &rows).unwrap();
        index.insert_bulk(&pairs).unwrap();
        check(&index, &rows, &model, N + 1000);
        assert_eq!(index.stats().unwrap().overflow, 0, "random hashes need no overflow segment");

        let entries = (0..N).map(|key| (rows.hash_of(key), model[&key]));
        let rebuilt = HashIndex::rebuild(&storage, DIR, IDENTITY, expected, &rows, entries).unwrap();
        check(&rebuilt, &rows, &model, N + 1000);
        // The handle on the previous index switches to the new one.
        check(&index, &rows, &model, N + 1000);
        rebuilt.remove(rows.hash_of(3), RowId(3)).unwrap();
        assert_eq!(rows.find(&index, 3), None);
    }
    let names = storage.list(DIR).unwrap();
    assert_eq!(names.iter().filter(|name| name.ends_with(".top")).count(), 1, "{names:?}");
}

#[test]
fn removed_slots_are_won_back() {
    let storage = memory();
    let rows = Rows::default();
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    for key in 0..200_000 {
        let row = rows.push(key);
        index.reserve(&[mix(key)], &rows).unwrap();
        index.insert(mix(key), row).unwrap();
        if key >= 1000 {
            assert!(index.remove(mix(key - 1000), RowId(key - 1000)).unwrap());
        }
    }
    let stats = index.stats().unwrap();
    assert_eq!((stats.entries, stats.overflow), (1000, 0));
    assert!(stats.segments <= 4, "{stats:?}");
    (199_000..200_000).for_each(|key| assert!(rows.find(&index, key).is_some()));
}

#[test]
fn keys_with_equal_hashes_are_found() {
    const SAME: u64 = 20_000;
    let mut rows = Rows::default();
    let hash = mix(77);
    rows.same = (0..SAME).map(|key| (key, hash)).collect();
    for bulk in [false, true] {
        let storage = memory();
        let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
        *rows.keys.get_mut().unwrap() = (0..SAME + 5000).collect();
        if bulk {
            let pairs: Vec<_> = (0..SAME).map(|key| (hash, RowId(key))).collect();
            index.reserve(&vec![hash; SAME as usize], &rows).unwrap();
            index.insert_bulk(&pairs).unwrap();
        } else {
            for key in 0..SAME {
                index.reserve(&[hash], &rows).unwrap();
                index.insert(hash, RowId(key)).unwrap();
            }
        }
        for key in SAME..SAME + 5000 {
            index.reserve(&[mix(key)], &rows).unwrap();
            index.insert(mix(key), RowId(key)).unwrap();
        }
        for key in (0..SAME).step_by(37).chain(SAME..SAME + 5000) {
            assert_eq!(rows.find(&index, key).map(|c| c.row), Some(RowId(key)));
        }
        assert_eq!(rows.find(&index, SAME + 5001), None);
        let stats = index.stats().unwrap();
        assert_eq!(stats.entries, SAME + 5000);
        assert!((4..=8).contains(&stats.overflow), "{stats:?}");
        assert!(stats.segments < 60, "{stats:?}");
        // Without a reservation, an insert still succeeds, and a successor's recovery finds no
        // error.
        for key in 0..5000 {
            index.insert(hash, RowId(key)).unwrap();
        }
        index.recover().unwrap();
        assert_eq!(index.stats().unwrap().entries, SAME + 10_000);
        assert!(index.remove(hash, RowId(SAME - 1)).unwrap());
        assert_eq!(rows.find(&index, SAME - 1), None);
    }
}

#[test]
fn similar_hashes_keep_top_small() {
    let mut rows = Rows::of(0..30_000);
    rows.same = (0..30_000).map(|key| (key, 0x1234_5678 << 32 | mix(key) >> 32)).collect();
    let index = HashIndex::create(&memory(), DIR, IDENTITY, 0).unwrap();
    for key in 0..30_000 {
        index.reserve(&[rows.hash_of(key)], &rows).unwrap();
        index.insert(rows.hash_of(key), RowId(key)).unwrap();
    }
    (0..30_000).for_each(|key| assert!(rows.find(&index, key).is_some()));
    let stats = index.stats().unwrap();
    assert!(stats.depth <= 12 && stats.segments < 100, "{stats:?}");
}

#[test]
fn foreign_missing_and_too_large() {
    let storage = memory();
    assert!(matches!(HashIndex::open(&storage, DIR, IDENTITY), Err(HashError::Missing { .. })));
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    let other = IndexIdentity { store: 9, ..IDENTITY };
    let error = HashIndex::open(&storage, DIR, other).unwrap_err();
    assert!(matches!(error, HashError::Foreign { what: "store", expected: 9, .. }), "{error}");
    let other = IndexIdentity { table: 9, ..IDENTITY };
    let error = HashIndex::open(&storage, DIR, other).unwrap_err();
    assert!(matches!(error, HashError::Foreign { what: "table", expected: 9, .. }), "{error}");
    let error = index.insert(1, RowId(u64::MAX)).unwrap_err();
    assert!(matches!(error, HashError::RowTooLarge { .. }), "{error}");
    index.insert(1, RowId((1 << 47) - 2)).unwrap();
    assert_eq!(index.find(1, |c| Some(c.row)).unwrap(), Some(RowId((1 << 47) - 2)));

    // Creating an index in the folder of another one replaces it.
    let mine = HashIndex::create(&storage, DIR, other, 0).unwrap();
    assert_eq!(mine.find(1, |c| Some(c.row)).unwrap(), None);
    assert!(matches!(HashIndex::open(&storage, DIR, IDENTITY), Err(HashError::Foreign { .. })));
    HashIndex::open(&storage, DIR, other).unwrap();
}

#[test]
fn sync_and_open_keep_entries() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::create(folder.path().join("store")).unwrap());
    let rows = Rows::of(0..20_000);
    let pairs: Vec<_> = (0..20_000).map(|key| (mix(key), RowId(key))).collect();
    let hashes: Vec<_> = (0..20_000).map(mix).collect();
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    index.reserve(&hashes, &rows).unwrap();
    index.insert_bulk(&pairs).unwrap();
    index.sync(1).unwrap();
    let before = index.stats().unwrap();
    drop(index);
    let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    assert_eq!(index.stats().unwrap(), before);
    (0..20_000).for_each(|key| assert!(rows.find(&index, key).is_some()));
}

//! A full disk: a reservation fails with [`HashError::Full`], existing entries remain, and reserved
//! entries can be inserted.

mod support;

use std::sync::Arc;

use pongo_core::ids::RowId;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_index::{Candidate, HashError, HashIndex};
use support::{DIR, IDENTITY, Rows, mix};

fn limited(bytes: u64) -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::with_capacity_limit(bytes))
}

#[test]
fn reserved_inserts_always_fit() {
    let mut depths = Vec::new();
    for (limit, steps) in [
        (100 << 10, &[1, 700, 40_000][..]),
        (300 << 10, &[1, 700, 40_000]),
        (1 << 20, &[1, 700, 40_000]),
        (3 << 20, &[1, 700, 40_000]),
        (40 << 20, &[40_000]),
    ] {
        for &step in steps {
            let rows = Rows::of(0..2_000_000);
            let index = HashIndex::create(&limited(limit), DIR, IDENTITY, 0).unwrap();
            let mut next = 0;
            let error = loop {
                let hashes: Vec<_> = (next..next + step).map(mix).collect();
                if let Err(error) = index.reserve(&hashes, &rows) {
                    break error;
                }
                for key in next..next + step {
                    index.insert(mix(key), RowId(key)).unwrap();
                }
                next += step;
            };
            assert!(matches!(error, HashError::Full { .. }), "{error}");
            assert!(error.to_string().contains("no space"), "{error}");
            (0..next).for_each(|key| assert!(rows.find(&index, key).is_some(), "key {key} of {next}"));
            assert_eq!(index.stats().unwrap().entries, next);
            // Replacing and deleting entries need no space.
            if next > 0 {
                assert!(index.replace(mix(0), RowId(0), RowId(0)).unwrap());
                assert!(index.set_deleted(mix(0), RowId(0)).unwrap());
            }
            index.recover().unwrap();
            depths.push(index.stats().unwrap().depth);
        }
    }
    assert!(depths.iter().max() > depths.iter().min(), "some of them grew their top: {depths:?}");
}

#[test]
fn shared_hashes_that_were_reserved_fit() {
    let mut rows = Rows::of(0..200_000);
    rows.same = (0..200_000).map(|key| (key, mix(key % 3))).collect();
    for step in [1, 100, 9000] {
        let index = HashIndex::create(&limited(600 << 10), DIR, IDENTITY, 0).unwrap();
        let mut next = 0;
        loop {
            let hashes: Vec<_> = (next..next + step).map(|key| mix(key % 3)).collect();
            match index.reserve(&hashes, &rows) {
                Ok(()) => (next..next + step).for_each(|key| index.insert(mix(key % 3), RowId(key)).unwrap()),
                Err(HashError::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            next += step;
        }
        assert!(next >= 9000, "{next}");
        assert_eq!(index.stats().unwrap().entries, next);
        (0..next).step_by(41).for_each(|key| assert!(rows.find(&index, key).is_some()));
    }
}

#[test]
fn failed_rebuild_keeps_old_index() {
    let rows = Rows::of(0..100_000);
    let storage = limited(1 << 20);
    let entries = |n: u64| (0..n).map(|key| (mix(key), Candidate { row: RowId(key), deleted: false }));
    let index = HashIndex::rebuild(&storage, DIR, IDENTITY, 0, &rows, entries(20_000)).unwrap();
    let names = storage.list(DIR).unwrap();
    for expected in [0, 100_000, u64::MAX] {
        let error =
            HashIndex::rebuild(&storage, DIR, IDENTITY, expected, &rows, entries(100_000)).unwrap_err();
        assert!(matches!(error, HashError::Full { .. }), "{error}");
        assert_eq!(storage.list(DIR).unwrap(), names, "nothing is left of it");
        (0..20_000).for_each(|key| assert!(rows.find(&index, key).is_some()));
        HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    }
    assert!(matches!(HashIndex::create(&limited(8192), DIR, IDENTITY, 0), Err(HashError::Full { .. })));
}

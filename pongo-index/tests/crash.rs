//! Crashes of a writer right after its n-th store, for many values of n. Readers find every key
//! immediately after the crash. A successor recovers the index, finds every key, loses no segment,
//! and continues.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pongo_core::ids::RowId;
use pongo_core::storage::{Storage, StoreHook};
use pongo_index::{HashIndex, Upsert};
use pongo_test_support::Random;
use support::{DIR, Hooked, IDENTITY, Rows, contents, mix, storage_of};

/// A hook that allows this number of stores, and panics right after the last one.
struct Fuse(AtomicU64);

impl StoreHook for Fuse {
    fn stored(&self, _: u64, _: u64, _: u64, _: u64) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            // `panic!` would print a message, and thousands of these panics are expected.
            std::panic::resume_unwind(Box::new("the writer was killed"));
        }
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// Runs `work` on a copy of the files, with a writer that crashes after store `n`. Returns the
/// files, and whether the writer crashed.
fn die_after(files: &Files, n: u64, work: &dyn Fn(&HashIndex)) -> (Arc<dyn Storage>, bool) {
    let storage = storage_of(files);
    let fuse = Arc::new(Fuse(AtomicU64::new(0)));
    let hooked = Hooked::storage(&storage, fuse.clone());
    let index = HashIndex::open(&hooked, DIR, IDENTITY).unwrap();
    fuse.0.store(n, Ordering::Relaxed);
    let crashed = catch_unwind(AssertUnwindSafe(|| work(&index))).is_err();
    (storage, crashed)
}

fn stores_of(files: &Files, work: &dyn Fn(&HashIndex)) -> u64 {
    let fuse = Arc::new(Fuse(AtomicU64::new(0)));
    let hooked = Hooked::storage(&storage_of(files), fuse.clone());
    let index = HashIndex::open(&hooked, DIR, IDENTITY).unwrap();
    fuse.0.store(u64::MAX, Ordering::Relaxed);
    work(&index);
    u64::MAX - fuse.0.load(Ordering::Relaxed)
}

fn all_there(index: &HashIndex, rows: &Rows, keys: u64) {
    for key in 0..keys {
        let found = rows.find(index, key).map(|c| c.row);
        assert_eq!(found, Some(RowId(key)), "key {key}");
    }
    assert_eq!(rows.find(index, keys + 1_000_000), None);
}

/// Crashes a writer that makes room for `coming` after each of many stores.
fn die_while_making_room(files: &Files, rows: &Rows, keys: u64, coming: &[(u64, RowId)], every: u64) {
    let hashes: Vec<u64> = coming.iter().map(|&(hash, _)| hash).collect();
    let work = |index: &HashIndex| index.reserve(&hashes, rows).unwrap();
    let stores = stores_of(files, &work);
    assert!(stores > 2 * 4096, "there was something to split: {stores}");
    let mut random = Random(stores);
    let mut n = 1;
    while n <= stores {
        let (storage, crashed) = die_after(files, n, &work);
        assert!(crashed);
        let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
        all_there(&index, rows, keys);
        index.recover().unwrap();
        all_there(&index, rows, keys);
        let entries = index.stats().unwrap().entries;
        assert_eq!(entries, keys);
        let recovered = contents(&storage);
        index.recover().unwrap();
        assert!(contents(&storage) == recovered, "recovering twice is recovering once");

        index.reserve(&hashes, rows).unwrap();
        index.insert_bulk(coming).unwrap();
        all_there(&index, rows, keys + coming.len() as u64);
        // The stores that publish come in runs of at least 256, after the thousands that build. The
        // step is small enough to test each kind often.
        n += 1 + random.below(every);
    }
}

#[test]
fn interrupted_split_is_completed() {
    const KEYS: u64 = 3577;
    let rows = Rows::of(0..KEYS + 1);
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    for key in 0..KEYS {
        index.reserve(&[mix(key)], &rows).unwrap();
        index.insert(mix(key), RowId(key)).unwrap();
    }
    assert_eq!(index.stats().unwrap().segments, 1);
    let files = contents(&storage);
    die_while_making_room(&files, &rows, KEYS, &[(mix(KEYS), RowId(KEYS))], 31);
}

#[test]
fn interrupted_split_with_growth_is_completed() {
    const KEYS: u64 = 1000;
    const COMING: u64 = 4000;
    let mut rows = Rows::of(0..KEYS + COMING);
    // The new keys share eight hash bits. With 64 existing segments, splits may reach a depth of
    // twelve.
    rows.same = (KEYS..KEYS + COMING).map(|key| (key, 0xAB << 56 | mix(key) >> 8)).collect();
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 200_000).unwrap();
    for key in 0..KEYS {
        index.reserve(&[mix(key)], &rows).unwrap();
        index.insert(mix(key), RowId(key)).unwrap();
    }
    let depth = index.stats().unwrap().depth;
    let files = contents(&storage);
    let coming: Vec<_> = (KEYS..KEYS + COMING).map(|key| (rows.hash_of(key), RowId(key))).collect();
    die_while_making_room(&files, &rows, KEYS, &coming, 400);
    index.reserve(&coming.iter().map(|c| c.0).collect::<Vec<_>>(), &rows).unwrap();
    assert!(index.stats().unwrap().depth >= depth);
}

#[test]
fn one_store_publishes_bigger_top() {
    // There are sixteen segments, and more keys with one 9-bit prefix than a segment can hold, so
    // the top must grow beyond its page.
    const COMING: u64 = 5000;
    let mut rows = Rows::of(0..COMING);
    rows.same = (0..COMING).map(|key| (key, 0x155 << 55 | mix(key) >> 9)).collect();
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 100_000).unwrap();
    let files = contents(&storage);
    assert_eq!(index.stats().unwrap().depth, 9);
    let coming: Vec<_> = (0..COMING).map(|key| (rows.hash_of(key), RowId(key))).collect();
    index.reserve(&coming.iter().map(|c| c.0).collect::<Vec<_>>(), &rows).unwrap();
    assert!(index.stats().unwrap().depth > 9);
    die_while_making_room(&files, &rows, 0, &coming, 600);
}

#[test]
fn interrupted_insert_is_repeated() {
    const KEYS: u64 = 500;
    let rows = Rows::of(0..KEYS + 1);
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    (0..KEYS).for_each(|key| index.insert(mix(key), RowId(key)).unwrap());
    let files = contents(&storage);
    let insert = |index: &HashIndex| index.insert(mix(KEYS), RowId(KEYS)).unwrap();
    let stores = stores_of(&files, &insert);
    for n in 1..=stores {
        let (storage, crashed) = die_after(&files, n, &insert);
        assert!(crashed);
        let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
        index.recover().unwrap();
        let same = &mut |row| rows.key(row) == Some(KEYS);
        let done = index.upsert_checked(mix(KEYS), RowId(KEYS), same).unwrap();
        assert_eq!(done, if n == stores { Upsert::Kept(RowId(KEYS)) } else { Upsert::Inserted });
        all_there(&index, &rows, KEYS + 1);
        assert_eq!(index.stats().unwrap().entries, KEYS + 1);
    }
}

#[test]
fn interrupted_overflow_segment_is_completed() {
    const KEYS: u64 = 4088;
    let hash = mix(1);
    let mut rows = Rows::of(0..KEYS + 1);
    rows.same = (0..KEYS + 1).map(|key| (key, hash)).collect();
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    for key in 0..KEYS {
        index.reserve(&[hash], &rows).unwrap();
        index.insert(hash, RowId(key)).unwrap();
    }
    index.reserve(&[hash], &rows).unwrap();
    let files = contents(&storage);
    let insert = |index: &HashIndex| index.insert(hash, RowId(KEYS)).unwrap();
    let stores = stores_of(&files, &insert);
    assert!(stores > 4096);
    for n in (1..=stores).filter(|n| n % 97 == 0 || stores - n < 5 || *n < 5) {
        let (storage, crashed) = die_after(&files, n, &insert);
        assert!(crashed);
        let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
        index.recover().unwrap();
        let stats = index.stats().unwrap();
        assert_eq!(stats.entries, KEYS + u64::from(n == stores));
        assert_eq!(stats.segments + stats.free, 2, "{stats:?}");
        let same = &mut |row: RowId| row == RowId(KEYS);
        index.upsert_checked(hash, RowId(KEYS), same).unwrap();
        assert_eq!(index.stats().unwrap().entries, KEYS + 1);
        assert_eq!(rows.find(&index, KEYS).map(|c| c.row), Some(RowId(KEYS)));
    }
}

#[test]
fn repeated_kills_lose_no_space() {
    const KEYS: u64 = 3577;
    let rows = Rows::of(0..KEYS + 1);
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    (0..KEYS).for_each(|key| index.insert(mix(key), RowId(key)).unwrap());
    let mut files = contents(&storage);
    for n in (1..8000).step_by(400) {
        let (storage, crashed) = die_after(&files, n, &|index| index.reserve(&[mix(KEYS)], &rows).unwrap());
        assert!(crashed);
        let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
        index.recover().unwrap();
        let stats = index.stats().unwrap();
        assert!(stats.segments + stats.free <= 3, "{stats:?}");
        files = contents(&storage);
    }
}

#[test]
fn interrupted_rebuild_is_never_used() {
    const KEYS: u64 = 2000;
    let rows = Rows::of(0..KEYS);
    let entries =
        |deleted| (0..KEYS).map(move |key| (mix(key), pongo_index::Candidate { row: RowId(key), deleted }));
    let build = |storage: &Arc<dyn Storage>, deleted| {
        HashIndex::rebuild(storage, DIR, IDENTITY, KEYS, &rows, entries(deleted)).unwrap()
    };
    let old = storage_of(&Vec::new());
    drop(build(&old, false));
    let files = contents(&old);
    for (files, was_there) in [(files, true), (Vec::new(), false)] {
        let mut n = 1;
        loop {
            let storage = storage_of(&files);
            let fuse = Arc::new(Fuse(AtomicU64::new(n)));
            let hooked = Hooked::storage(&storage, fuse);
            let crashed = catch_unwind(AssertUnwindSafe(|| build(&hooked, true))).is_err();
            match HashIndex::open(&storage, DIR, IDENTITY) {
                Ok(index) => {
                    // The index is completely the old one or completely the new one.
                    let deleted = rows.find(&index, 0).unwrap().deleted;
                    assert!(deleted || was_there);
                    let stats = index.stats().unwrap();
                    assert_eq!((stats.entries, stats.deleted), (KEYS, if deleted { KEYS } else { 0 }));
                    all_there(&index, &rows, KEYS);
                }
                Err(error) => assert!(!was_there && crashed, "{error}"),
            }
            drop(build(&storage, true));
            let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
            assert_eq!(index.stats().unwrap().deleted, KEYS);
            if !crashed {
                break;
            }
            n += if n < 100 { 1 } else { 53 };
        }
        assert!(n > KEYS);
    }
}

/// Crashes a successor during recovery, while its predecessor is still running and left nothing to
/// repair. The predecessor then continues without knowing about the recovery.
#[test]
fn interrupted_recovery_leaves_room() {
    const KEYS: u64 = 20_000;
    let rows = Rows::of(0..2 * KEYS);
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    let fill = |index: &HashIndex, keys: std::ops::Range<u64>| {
        for key in keys {
            index.reserve(&[mix(key)], &rows).unwrap();
            index.insert(mix(key), RowId(key)).unwrap();
        }
    };
    fill(&index, 0..KEYS);
    assert!(index.stats().unwrap().free > 0);
    let files = contents(&storage);
    let recover = |index: &HashIndex| index.recover().unwrap();
    let stores = stores_of(&files, &recover);
    for n in 1..=stores {
        let (storage, crashed) = die_after(&files, n, &recover);
        assert!(crashed);
        let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
        fill(&index, KEYS..2 * KEYS);
        all_there(&index, &rows, 2 * KEYS);
    }
}

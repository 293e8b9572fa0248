//! Readers that run concurrently with a writer that splits, rewrites and reuses segments and
//! rebuilds the index. No reader misses an existing key, finds a key that does not exist, or sees
//! an older version after a newer one.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pongo_core::ids::RowId;
use pongo_core::storage::{RealStorage, Storage};
use pongo_index::{Candidate, HashIndex, KeyHasher};
use pongo_test_support::Random;
use support::{DIR, IDENTITY, memory, mix};

/// Distance between the versions of a key's row, so that the key can be computed from the row.
const KEYS: u64 = 1 << 24;
/// Number of keys that exist during the whole test.
const STABLE: u64 = 6000;
/// Keys from this one on never exist.
const ABSENT: u64 = 1 << 20;

struct Arithmetic;

impl KeyHasher for Arithmetic {
    fn hash(&self, row: RowId) -> u64 {
        mix(row.0 % KEYS)
    }
}

fn find(index: &HashIndex, key: u64) -> Option<Candidate> {
    index.find(mix(key), |c| (c.row.0 % KEYS == key).then_some(c)).unwrap()
}

fn insert(index: &HashIndex, key: u64) {
    index.reserve(&[mix(key)], &Arithmetic).unwrap();
    index.insert(mix(key), RowId(key)).unwrap();
}

/// Looks up random keys until `stop` is set, and at least 20,000 times. Returns the number of
/// look-ups.
fn read(index: &HashIndex, seed: u64, floor: &[AtomicU64], stop: &AtomicBool) -> u64 {
    let mut random = Random(seed << 40);
    let mut seen = vec![0; STABLE as usize];
    let mut looks = 0;
    while looks < 20_000 || !stop.load(Ordering::Relaxed) {
        let key = random.below(STABLE);
        let least = floor[key as usize].load(Ordering::Acquire).max(seen[key as usize]);
        let found = find(index, key).unwrap_or_else(|| panic!("key {key} was missed after {looks} looks"));
        assert!(found.row.0 / KEYS >= least, "key {key} was at version {least}, and is at {}", found.row);
        seen[key as usize] = found.row.0 / KEYS;
        assert_eq!(find(index, ABSENT + random.below(1 << 20)), None);
        looks += 1;
    }
    looks
}

fn readers_beside_a_writer(storage: &Arc<dyn Storage>, rounds: u64) {
    let writer = HashIndex::create(storage, DIR, IDENTITY, 0).unwrap();
    let other = HashIndex::open(storage, DIR, IDENTITY).unwrap();
    (0..STABLE).for_each(|key| insert(&writer, key));
    let floor: Vec<_> = (0..STABLE).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = [&writer, &other, &other]
            .into_iter()
            .zip(1..)
            .map(|(index, seed)| {
                scope.spawn({
                    let (floor, stop) = (&floor, &stop);
                    move || read(index, seed, floor, stop)
                })
            })
            .collect();
        let mut random = Random(0);
        let (mut oldest, mut newest) = (STABLE, STABLE);
        for round in 0..rounds {
            // Keys are inserted and removed, so segments repeatedly fill with removed slots and are
            // rewritten.
            for _ in 0..3000 {
                insert(&writer, newest);
                newest += 1;
                let key = random.below(STABLE);
                let version = floor[key as usize].load(Ordering::Relaxed);
                let (old, new) = (RowId(version * KEYS + key), RowId((version + 1) * KEYS + key));
                assert!(writer.replace(mix(key), old, new).unwrap());
                floor[key as usize].store(version + 1, Ordering::Release);
            }
            while newest - oldest > 4000 + round % 3 * 9000 {
                assert!(writer.remove(mix(oldest), RowId(oldest)).unwrap());
                oldest += 1;
            }
            if round % 16 == 15 {
                let mut entries = Vec::new();
                writer.for_each(|c| entries.push((Arithmetic.hash(c.row), c))).unwrap();
                HashIndex::rebuild(storage, DIR, IDENTITY, 0, &Arithmetic, entries).unwrap();
            }
            if readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() >= 20_000);
        }
        assert!(newest < ABSENT);
    });
    let stats = writer.stats().unwrap();
    assert_eq!(stats.overflow, 0);
    assert!(stats.free > 0, "segments were recycled: {stats:?}");
}

#[test]
fn readers_find_keys_in_memory() {
    readers_beside_a_writer(&memory(), 100);
}

#[test]
fn readers_find_keys_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::create(folder.path().join("store")).unwrap());
    readers_beside_a_writer(&storage, 100);
}

#[test]
fn second_handle_follows_growth() {
    let storage = memory();
    let writer = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    let reader = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    for key in 0..100_000 {
        insert(&writer, key);
        assert!(find(&reader, key).is_some(), "key {key}");
    }
    let mut current = writer;
    for _ in 0..3 {
        let entries =
            (0..100_000).map(|key| (mix(key), Candidate { row: RowId(key), deleted: key % 2 == 0 }));
        current = HashIndex::rebuild(&storage, DIR, IDENTITY, 0, &Arithmetic, entries).unwrap();
        assert_eq!(find(&reader, 7), Some(Candidate { row: RowId(7), deleted: false }));
        assert_eq!(find(&reader, 8), Some(Candidate { row: RowId(8), deleted: true }));
    }
    // The reader's handle can also be used to write.
    insert(&reader, 100_000);
    assert!(find(&current, 100_000).is_some());
    assert_eq!(reader.stats().unwrap(), current.stats().unwrap());
}
